//! Bodies with a file that is too large for memory: the fields are read first, the caller is checked, and only then the
//! file is received, straight to disk.

use super::put_credentials;
use crate::app::App;
use crate::auth::Principal;
use crate::origin::Origin;
use crate::table::{Request, Route, Spool};
use axum::body::Body;
use axum::http::HeaderMap;
use encke_api::form::Form;
use encke_api::{ApiError, ApiResult};
use futures_util::StreamExt as _;
use multer::{Field, Multipart};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// A client that sends nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest field that is no file, in bytes.
const MAX_FIELD: usize = 16 * 1024 * 1024;
/// A refused body is read on up to here, for a browser hears the answer only when it has sent everything.
const MAX_DRAINED: u64 = 64 * 1024 * 1024;

/// What a body held.
pub(super) struct Received {
    pub form: Form,
    pub principal: Principal,
    /// The file goes, and the room for it is given back, when the call has been answered.
    _file: Option<(Kept, Box<dyn Send>)>,
}

/// A file that nobody needs once the call has been answered. A handler that wants it moves it elsewhere.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A multipart body as its parts.
pub(super) fn parts(content_type: &str, body: Body) -> ApiResult<Multipart<'static>> {
    let chunks = body.into_data_stream();
    let timely = futures_util::stream::unfold(chunks, |mut chunks| async move {
        let next = match tokio::time::timeout(SILENCE, chunks.next()).await {
            Ok(next) => next?.map_err(std::io::Error::other),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut)),
        };
        Some((next, chunks))
    });
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    Ok(Multipart::new(timely, boundary))
}

#[allow(clippy::needless_pass_by_value)] // used as a function
fn broken(e: multer::Error) -> ApiError {
    ApiError::bad_request(format!("The multipart body can not be read: {e}"))
}

fn unwritten(e: &std::io::Error) -> ApiError {
    if e.kind() == std::io::ErrorKind::StorageFull {
        return ApiError::new(507, "The server's disk is full; nothing was kept");
    }
    tracing::error!(error = %e, "an upload could not be kept");
    ApiError::internal()
}

/// Receives the fields and the file.
pub(super) async fn receive(
    app: &Arc<App>,
    route: &Route,
    mut parts: Multipart<'static>,
    (name, admission): (&'static str, crate::table::Admission),
    headers: &HeaderMap,
    origin: &Origin,
) -> ApiResult<Received> {
    let mut form = Form::default();
    let mut file = None;
    let mut principal = None;
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let field = part.name().unwrap_or_default().to_string();
        if field == name && file.is_none() {
            put_credentials(&mut form, headers);
            let request = Request {
                form: form.clone(),
                origin: origin.clone(),
            };
            let received = async {
                let caller = route.admit(app, &request).await?;
                let spool = admission(app, &caller).await?;
                principal = Some(caller);
                keep(part, spool).await
            };
            match received.await {
                Ok((kept, room)) => {
                    form.put_kept(name, kept.0.clone());
                    file = Some((kept, room));
                }
                Err(e) => {
                    let _ = tokio::time::timeout(SILENCE, drain(parts)).await;
                    return Err(e);
                }
            }
        } else {
            form.put_part(&field, text(part).await?)?;
        }
    }
    put_credentials(&mut form, headers);
    let principal = match principal {
        Some(principal) => principal,
        None => {
            let request = Request {
                form: form.clone(),
                origin: origin.clone(),
            };
            route.admit(app, &request).await?
        }
    };
    Ok(Received {
        form,
        principal,
        _file: file,
    })
}

async fn text(mut part: Field<'static>) -> ApiResult<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        if content.len() + chunk.len() > MAX_FIELD {
            return Err(ApiError::new(
                413,
                format!("A field is larger than {MAX_FIELD} bytes"),
            ));
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// Writes a part to a file of its own.
async fn keep(mut part: Field<'static>, spool: Spool) -> ApiResult<(Kept, Box<dyn Send>)> {
    tokio::fs::create_dir_all(&spool.folder)
        .await
        .map_err(|e| unwritten(&e))?;
    let path = spool.folder.join(uuid::Uuid::new_v4().to_string());
    let file = tokio::fs::File::create_new(&path)
        .await
        .map_err(|e| unwritten(&e))?;
    let kept = Kept(path);
    let mut out = tokio::io::BufWriter::with_capacity(1 << 18, file);
    let mut size = 0u64;
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        size += chunk.len() as u64;
        if size > spool.limit {
            let message = format!(
                "The file is larger than the {} bytes that it may have",
                spool.limit
            );
            return Err(ApiError::new(413, message));
        }
        out.write_all(&chunk).await.map_err(|e| unwritten(&e))?;
    }
    out.flush().await.map_err(|e| unwritten(&e))?;
    Ok((kept, spool.room))
}

async fn drain(mut parts: Multipart<'static>) {
    let mut left = MAX_DRAINED;
    while let Ok(Some(mut part)) = parts.next_field().await {
        while let Ok(Some(chunk)) = part.chunk().await {
            match left.checked_sub(chunk.len() as u64) {
                Some(less) => left = less,
                None => return,
            }
        }
    }
}
