//! Uploaded files that the configuration names as `resource://` and 64 hex digits: stored by their SHA-256 in the data
//! folder, kept for a day, and as long as the configuration names them.

use crate::app::App;
use crate::auth::Admin;
use crate::table::{Binary, Call, Doc, Route};
use axum::body::Body;
use encke_api::form::Upload;
use encke_api::types::{AdminResourceResponse, ServerConfigOptions};
use encke_api::{ApiError, ApiResult, params};
use sha2::{Digest, Sha256};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const SCHEME: &str = "resource://";
/// An upload that the configuration does not name is kept this long.
const KEEP: Duration = Duration::from_secs(86_400);
/// Largest upload in bytes.
const MAX_SIZE: usize = 8 * 1024 * 1024;

params! {
    /// Parameters of `AdminMetaResourceNew`.
    struct New {
        /// The file.
        upload: Upload
    }
}

params! {
    /// Parameters of `AdminMetaResourceGet`.
    struct Get {
        /// The file's hash, with or without `resource://`.
        Hash: String
    }
}

/// The hash in a `resource://` address.
pub(super) fn hash_of(address: &str) -> Option<&str> {
    address.strip_prefix(SCHEME).filter(|h| is_hash(h))
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn folder(app: &App) -> PathBuf {
    app.data_dir.join("resources")
}

/// Reads an upload.
///
/// # Errors
/// 404 when there is none of this hash.
pub(super) async fn read(app: &App, hash: &str) -> ApiResult<Vec<u8>> {
    let unknown = || ApiError::not_found("There is no such resource");
    if !is_hash(hash) {
        return Err(unknown());
    }
    tokio::fs::read(folder(app).join(hash))
        .await
        .map_err(|_| unknown())
}

async fn new(app: Arc<App>, _: Admin, call: Call<New>) -> ApiResult<Doc<AdminResourceResponse>> {
    let content = call.params.upload.0;
    if content.len() > MAX_SIZE {
        return Err(ApiError::new(
            413,
            format!("A resource has at most {MAX_SIZE} bytes"),
        ));
    }
    let hash = hex::encode(Sha256::digest(&content));
    let (folder, name) = (folder(&app), hash.clone());
    let written = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let draft = folder.join(format!("{}.new", uuid::Uuid::new_v4()));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&content)?;
        file.sync_all()?;
        std::fs::rename(&draft, folder.join(name))
    });
    written
        .await
        .map_err(|_| ApiError::internal())?
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::StorageFull => {
                ApiError::new(507, "The server's disk is full; nothing was changed")
            }
            _ => {
                tracing::error!(error = %e, "a resource could not be written");
                ApiError::internal()
            }
        })?;
    Ok(Doc(AdminResourceResponse {
        status: 200,
        message: "OK".into(),
        resource_hash: hash,
        ..Default::default()
    }))
}

async fn get(app: Arc<App>, _: Admin, call: Call<Get>) -> ApiResult<Binary> {
    let hash = call.params.Hash;
    let content = read(&app, hash.strip_prefix(SCHEME).unwrap_or(&hash)).await?;
    Ok(Binary {
        body: Body::from(content),
        media: "application/octet-stream",
    })
}

/// Removes old uploads that the configuration does not name.
pub(super) fn clean(app: &App, config: &ServerConfigOptions) {
    let Ok(text) = serde_json::to_string(config) else {
        return;
    };
    for entry in std::fs::read_dir(folder(app)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let old = entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|t| SystemTime::now().duration_since(t).unwrap_or_default() > KEEP);
        if old && !text.contains(&name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminMetaResourceNew",
            "/api/v1/admin/meta/resource/new",
            "Takes a file that the configuration may name as resource:// and its hash. Up to 8 MiB; kept for a day, and as long as it is named.",
            new,
        ),
        Route::new(
            "AdminMetaResourceGet",
            "/api/v1/admin/meta/resource/get",
            "Answers an uploaded file.",
            get,
        ),
    ]
}
