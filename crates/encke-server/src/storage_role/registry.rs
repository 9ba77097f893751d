//! Making and deleting buckets: folder and row together, so that a crash in between leaves nothing that is half there.

use super::{blocking, folders};
use crate::app::{App, now, store_error};
use encke_api::constants::{SEVT_BUCKET_NEW, SEVT_BUCKET_REMOVED};
use encke_api::{ApiError, ApiResult};
use encke_store::audit::{asked_by, asker};
use encke_store::{BucketId, BucketRules, BucketSize, EventDraft, Scope, StoreError, StoredBucket};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// `ReadWriteKeyFormat` of a key that is kept as its SHA-256 in lower-case hexadecimal. Enough for keys, which are
/// random and long; never for passwords that people choose.
pub const KEY_FORMAT_SHA256: i64 = 101;
/// Random bytes of a key.
const KEY_BYTES: usize = 32;
/// A deletion that takes longer than this goes on after the caller was answered.
const DELETE_WAIT: Duration = Duration::from_secs(5);

/// The key of a bucket about to be made.
pub enum Key {
    /// Made by the server and told once.
    Random,
    /// Only its SHA-256 is known to the server.
    Hashed([u8; 32]),
}

/// A bucket that was made.
#[derive(Clone)]
pub struct NewBucket {
    /// Its id.
    pub id: BucketId,
    /// Its key, if the server made it. Not kept anywhere.
    pub key: Option<String>,
}

/// The hash that is kept of a key.
pub(super) fn hash_of(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// Makes a bucket for an organization (empty for the top level), with an id of its own unless one is given.
///
/// # Errors
/// 409 if the id is taken; 507 if the disk is full.
pub async fn register(
    app: &Arc<App>,
    actor: &str,
    organization: &str,
    id: Option<BucketId>,
    key: Key,
) -> ApiResult<NewBucket> {
    let id = match id {
        Some(id) => id,
        None => {
            BucketId::parse(&uuid::Uuid::new_v4().to_string()).expect("a GUID is letters, digits and dashes")
        }
    };
    let (key, key_hash) = match key {
        Key::Hashed(hash) => (None, hex::encode(hash)),
        Key::Random => {
            let mut bytes = [0u8; KEY_BYTES];
            getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
            let key = hex::encode(bytes);
            let hash = hash_of(&key);
            (Some(key), hash)
        }
    };
    let time = now();
    let bucket = StoredBucket {
        id: id.clone(),
        organization: organization.to_string(),
        created: time,
        key_format: KEY_FORMAT_SHA256,
        key_hash,
        size: BucketSize {
            bytes: 0,
            started: time,
            completed: time,
        },
        rules: BucketRules::default(),
    };
    let event = event(SEVT_BUCKET_NEW, actor, &bucket);
    uninterrupted(app, move |app| async move { add(&app, bucket, event).await }).await?;
    Ok(NewBucket { id, key })
}

async fn add(app: &App, bucket: StoredBucket, event: EventDraft) -> ApiResult<()> {
    let _one = app.buckets.changing.lock().await;
    let taken = || ApiError::new(409, "A bucket of this id exists already");
    match app.store.bucket(&Scope::All, &bucket.id).await {
        Ok(_) => return Err(taken()),
        Err(StoreError::NotFound) => {}
        Err(e) => return Err(store_error(e)),
    }
    let folder = app.buckets.folder(&bucket.id);
    let root = app.buckets.root.clone();
    let new = folder.clone();
    blocking(move || {
        folders::ensure(&root)?;
        new.create()
    })
    .await
    .map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            tracing::warn!(bucket = %bucket.id, error = %e, "a folder stands in the way of a new bucket");
            ApiError::new(
                409,
                "The server's disk holds data of a bucket of this id that is not registered; choose another id",
            )
        }
        _ => disk_error(&e),
    })?;
    if let Err(e) = app.store.add_bucket(bucket, event).await {
        let _ = blocking(move || folder.remove_if_empty()).await;
        return Err(match e {
            StoreError::Exists => taken(),
            e => store_error(e),
        });
    }
    Ok(())
}

/// Deletes a bucket with all it holds, whoever uses it.
///
/// # Errors
/// 404 if there is none in the scope.
pub(crate) async fn delete(app: &Arc<App>, actor: &str, scope: Scope, id: BucketId) -> ApiResult<()> {
    let actor = actor.to_string();
    uninterrupted(
        app,
        move |app| async move { remove(&app, &actor, &scope, &id).await },
    )
    .await
}

async fn remove(app: &App, actor: &str, scope: &Scope, id: &BucketId) -> ApiResult<()> {
    let one = app.buckets.changing.lock().await;
    let bucket = app.store.bucket(scope, id).await.map_err(bucket_error)?;
    let event = event(SEVT_BUCKET_REMOVED, actor, &bucket);
    // First the folder is moved away, so that no device finds half of it; then the row goes. Should the process end
    // in between, the next one brings the folder back.
    let folder = app.buckets.folder(id);
    let moving = folder.clone();
    let mark = uuid::Uuid::new_v4().simple().to_string();
    let retired = blocking(move || moving.retire(&mark))
        .await
        .map_err(|e| disk_error(&e))?;
    if let Err(e) = app.store.delete_bucket(scope, id, event).await {
        if let Some(retired) = retired
            && let Err(e) = blocking(move || folder.bring_back(&retired)).await
        {
            tracing::error!(bucket = %id, error = %e, "a bucket's folder could not be moved back; restart the server");
        }
        return Err(bucket_error(e));
    }
    drop(one);
    app.buckets.changes.lock().remove(id);
    tracing::info!(bucket = %id, actor, "bucket deleted");
    let Some(retired) = retired else { return Ok(()) };
    let id = id.clone();
    let removing = tokio::task::spawn_blocking(move || {
        if let Err(e) = folders::remove_retired(&retired) {
            tracing::error!(bucket = %id, error = %e, "a deleted bucket's bytes could not be removed; the next start tries again");
        }
    });
    // Dropping the handle does not stop the work.
    let _ = tokio::time::timeout(DELETE_WAIT, removing).await;
    Ok(())
}

/// Runs to the end even if the caller goes away in the middle.
async fn uninterrupted<T, F, Fut>(app: &Arc<App>, work: F) -> ApiResult<T>
where
    T: Send + 'static,
    F: FnOnce(Arc<App>) -> Fut,
    Fut: Future<Output = ApiResult<T>> + Send + 'static,
{
    let asked = asked_by(asker(), work(app.clone()));
    tokio::spawn(asked).await.map_err(|e| {
        tracing::error!(error = %e, "a change of buckets broke off");
        ApiError::internal()
    })?
}

pub(super) fn bucket_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::not_found("Bucket not found"),
        e => store_error(e),
    }
}

/// What a caller may read of a failure of the disk.
pub(super) fn disk_error(e: &io::Error) -> ApiError {
    if is_full(e) {
        return store_error(StoreError::Full);
    }
    tracing::error!(error = %e, "the disk of the buckets failed");
    ApiError::internal()
}

/// Whether the disk, or the server's share of it, is used up.
pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn event(kind: i64, actor: &str, bucket: &StoredBucket) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: bucket.organization.clone(),
        resource: bucket.id.to_string(),
        kind,
        data: Value::Null,
    }
}
