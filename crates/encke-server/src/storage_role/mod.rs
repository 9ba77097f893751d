//! The Storage Role: buckets of bytes for Storage Vaults (reference, section 15). Administrators make, list and delete
//! them by API ([`endpoints`]); devices read and write them by restic's REST protocol ([`protocol`], [`upload`],
//! [`download`]). What lies on the disk, and how, is in [`folders`] alone.

mod download;
mod endpoints;
mod folders;
mod protocol;
mod registry;
mod rules;
mod upload;

pub(crate) use endpoints::ping;
pub use endpoints::routes;
pub(crate) use folders::{Folder, Kind, Object, ObjectName};
pub(crate) use registry::delete;
pub use registry::{Key, NewBucket, register};

use crate::app::{App, now};
use axum::Router;
use axum::routing::any;
use encke_store::{BucketId, BucketSize, Scope, StoreError};
use folders::Found;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Uploads at once. Each holds two buffers, so this bounds their memory (64 MiB); further ones wait.
const MAX_UPLOADS: usize = 128;
/// Listings at once. Each holds a thread while its reader takes it.
const MAX_LISTINGS: usize = 32;
/// Walks through a bucket at once: they compete with uploads for the disk.
const MAX_WALKS: usize = 2;
/// How often what uploads and deletions changed is added to the stored sizes.
const SIZES_EVERY: Duration = Duration::from_secs(10);
/// How often what is old is removed from the trash.
const TRASH_EVERY: Duration = Duration::from_secs(600);

/// What the Storage Role keeps in memory.
pub struct Buckets {
    /// Folder of all buckets.
    root: PathBuf,
    /// One bucket is made or deleted at a time.
    changing: tokio::sync::Mutex<()>,
    uploads: Arc<Semaphore>,
    listings: Arc<Semaphore>,
    walks: Semaphore,
    /// Bytes that came and went since the sizes were stored.
    changes: Mutex<HashMap<BucketId, i64>>,
}

impl Buckets {
    /// The buckets below a server's data folder.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join("buckets"),
            changing: tokio::sync::Mutex::new(()),
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
            listings: Arc::new(Semaphore::new(MAX_LISTINGS)),
            walks: Semaphore::new(MAX_WALKS),
            changes: Mutex::default(),
        }
    }

    /// Where a bucket's bytes lie.
    pub(crate) fn folder(&self, id: &BucketId) -> Folder {
        Folder::of(&self.root, id)
    }

    /// Bytes that came (or went) since the stored size was written.
    fn uncounted(&self, id: &BucketId) -> i64 {
        self.changes.lock().get(id).copied().unwrap_or_default()
    }

    fn count(&self, id: &BucketId, change: i64) {
        let mut changes = self.changes.lock();
        let sum = changes.entry(id.clone()).or_default();
        *sum = sum.saturating_add(change);
    }
}

/// Runs work that blocks on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Paths outside the endpoint table: the buckets themselves.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/storage/{*path}", any(protocol::serve))
        .with_state(app)
}

/// Cleans up after an earlier process, and keeps the stored sizes up to date. When this returns, every bucket that is
/// registered is in its place.
pub(crate) async fn start(app: &Arc<App>) {
    let found = match settle(app).await {
        Ok(found) => found,
        Err(e) => {
            tracing::error!(error = %e, "deletions of buckets that broke off could not be settled");
            Found::default()
        }
    };
    let app = app.clone();
    tokio::spawn(async move {
        if let Err(e) = clean_up(&app, found).await {
            tracing::error!(error = %e, "left-overs of buckets could not be removed");
        }
        let mut emptied: Option<Instant> = None;
        loop {
            tokio::select! {
                () = app.stopping.cancelled() => break,
                () = tokio::time::sleep(SIZES_EVERY) => {}
            }
            store_sizes(&app).await;
            if emptied.is_none_or(|t| t.elapsed() >= TRASH_EVERY) {
                emptied = Some(Instant::now());
                rules::empty_trash(&app).await;
            }
        }
        store_sizes(&app).await;
    });
}

/// Whether the database knows a bucket.
async fn is_known(app: &App, id: &BucketId) -> io::Result<bool> {
    match app.store.bucket(&Scope::All, id).await {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound) => Ok(false),
        Err(e) => Err(io::Error::other(e)),
    }
}

/// Moves folders back whose bucket is still registered: the process ended in the middle of its deletion. Gives what
/// is left to clean up.
async fn settle(app: &App) -> io::Result<Found> {
    let root = app.buckets.root.clone();
    let mut found = blocking(move || folders::scan(&root)).await?;
    let mut gone = Vec::new();
    for (id, path) in found.retired {
        let folder = app.buckets.folder(&id);
        if is_known(app, &id).await? && !folder.exists() {
            blocking(move || folder.bring_back(&path)).await?;
            tracing::warn!(bucket = %id, "a deletion that broke off was taken back");
            found.buckets.push(id);
        } else {
            gone.push((id, path));
        }
    }
    found.retired = gone;
    Ok(found)
}

/// Finishes deletions that broke off and removes broken uploads. What the database still knows is never removed.
async fn clean_up(app: &App, found: Found) -> io::Result<()> {
    for (id, path) in found.retired {
        blocking(move || folders::remove_retired(&path)).await?;
        tracing::info!(bucket = %id, "finished a deletion that broke off");
    }
    for id in found.buckets {
        if is_known(app, &id).await? {
            let (folder, mine) = (app.buckets.folder(&id), app.start_hash.clone());
            let removed = blocking(move || folder.sweep(&mine)).await?;
            if removed > 0 {
                tracing::info!(bucket = %id, removed, "removed broken uploads");
            }
        } else {
            // Nothing is deleted on a guess: the database may be the one that is out of date.
            tracing::warn!(bucket = %id, "the folder of buckets holds one that is not registered");
        }
    }
    Ok(())
}

/// Adds what came and went to the stored sizes.
async fn store_sizes(app: &App) {
    let changes: Vec<_> = app.buckets.changes.lock().drain().collect();
    if changes.is_empty() {
        return;
    }
    if let Err(e) = app.store.add_bucket_sizes(changes).await {
        tracing::warn!(error = %e, "the sizes of buckets could not be stored; the next measurement sets them right");
    }
}

/// Counts a bucket's bytes and keeps the result, unless somebody else did since `after` (Unix seconds).
async fn measure(app: &App, id: &BucketId, after: i64) -> Result<BucketSize, StoreError> {
    let broken = |e: io::Error| StoreError::Database(format!("bucket {id} could not be measured: {e}"));
    let _permit = app
        .buckets
        .walks
        .acquire()
        .await
        .map_err(|_| StoreError::Stopped)?;
    let stored = app.store.bucket(&Scope::All, id).await?;
    if stored.size.started >= after {
        return Ok(stored.size);
    }
    let started = now();
    // What came before the walk is found by it.
    app.buckets.changes.lock().remove(id);
    let folder = app.buckets.folder(id);
    let bytes = blocking(move || folder.measure()).await.map_err(broken)?;
    let size = BucketSize {
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        started,
        completed: now(),
    };
    app.store.set_bucket_size(id, size).await?;
    Ok(size)
}
