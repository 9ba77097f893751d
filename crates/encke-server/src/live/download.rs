//! One file of a snapshot, handed on from a device that is on line: the server asks for part after part as the caller
//! takes them, so a slow caller slows the device down, and one who goes away ends it. The published API has no such call.

use super::dispatcher::{note_access, read};
use super::{Connection, REQUEST_TIMEOUT};
use crate::app::App;
use crate::auth::Principal;
use crate::table::{Binary, Call, Route};
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use encke_api::endpoint::Role;
use encke_api::live::{FilePart, Request};
use encke_api::{ApiError, ApiResult, params};
use encke_store::audit::action;
use serde_json::json;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes asked for at once: the memory of one download.
const PART: u32 = 512 * 1024;
/// Downloads from one device at once.
pub(super) const MAX_DOWNLOADS: usize = 4;

params! {
    /// Parameters of `EnckeSnapshotFile`.
    struct OneFile {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        Destination: String,
        /// The snapshot.
        SnapshotID: String,
        /// Full path inside the snapshot.
        Path: String
    }
}

/// A download under way.
struct Download {
    connection: Arc<Connection>,
    file: OneFile,
    offset: u64,
    size: u64,
    _permit: OwnedSemaphorePermit,
}

impl Download {
    /// The next part; nothing at the end of the file.
    async fn next(&mut self) -> ApiResult<Option<Bytes>> {
        if self.offset >= self.size && self.offset > 0 {
            return Ok(None);
        }
        let request = Request::ReadFile {
            destination: self.file.Destination.clone(),
            snapshot: self.file.SnapshotID.clone(),
            path: self.file.Path.clone(),
            offset: self.offset,
            length: PART,
        };
        let part: FilePart = read(self.connection.request(request, REQUEST_TIMEOUT).await?)?;
        let wrong = || ApiError::new(502, "The device's answer can not be read");
        let data = STANDARD.decode(part.data).map_err(|_| wrong())?;
        if data.len() > PART as usize || (data.is_empty() && part.size > self.offset) {
            return Err(wrong());
        }
        self.offset += data.len() as u64;
        self.size = part.size;
        Ok(Some(data.into()).filter(|d: &Bytes| !d.is_empty()))
    }
}

async fn file(app: Arc<App>, who: Principal, call: Call<OneFile>) -> ApiResult<Binary> {
    let (scope, name) = match who {
        Principal::Admin(a) => (a.scope(), a.name),
        Principal::User(u) => (u.scope(), u.name),
        Principal::Nobody => return Err(ApiError::unauthorised()),
    };
    let file = call.params;
    let connection = app.live.find(&scope, &file.TargetID)?;
    let permit = connection.downloads.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(
            503,
            format!("The device hands out {MAX_DOWNLOADS} files already; try again when one is done"),
        )
    })?;
    let details = json!({
        "Destination": file.Destination, "Snapshot": file.SnapshotID, "Path": file.Path,
    });
    let (user, device) = (&connection.info.username, &connection.info.device_id);
    tracing::info!(
        actor = name,
        user,
        device,
        vault = file.Destination,
        snapshot = file.SnapshotID,
        "a file of a snapshot is handed out"
    );
    let mut download = Download {
        connection: connection.clone(),
        file,
        offset: 0,
        size: 0,
        _permit: permit,
    };
    // What is wrong is wrong with the first part as a rule, and then the answer can still say so.
    let first = download.next().await?;
    note_access(&app, &connection, action::DOWNLOAD, details).await?;
    let parts = futures_util::stream::try_unfold((first, download), |(ready, mut download)| async move {
        let part = match ready {
            Some(part) => Some(part),
            // The connection is cut, so that what was sent does not look like the whole file.
            None => download.next().await.map_err(|e| io::Error::other(e.message))?,
        };
        Ok::<_, io::Error>(part.map(|part| (part, (None, download))))
    });
    Ok(Binary {
        body: Body::from_stream(parts),
        media: "application/octet-stream",
    })
}

/// Bounds the downloads from a device.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_DOWNLOADS))
}

/// Endpoints.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeSnapshotFile",
            "/api/encke/v1/snapshot/file",
            "Answers the content of one file of a snapshot, through a device that is on line. The device's owner can forbid it together with file names.",
            file,
        )
        .roles(&[Role::Auth]),
    ]
}
