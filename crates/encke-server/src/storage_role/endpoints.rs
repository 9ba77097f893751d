//! What administrators do with buckets.

use super::registry::{self, Key, bucket_error, disk_error};
use super::{blocking, folders, measure, rules};
use crate::app::App;
use crate::auth::Admin;
use crate::stream::{ListWriter, list_body};
use crate::table::{Call, Doc, Envelope, Keyed, Route, Streamed, done};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::types::{
    AddBucketResponseMessage, BucketProperties, DestinationLocation, SizeMeasurement, StorageFreeSpaceInfo,
};
use encke_api::wire::Out;
use encke_api::{ApiError, ApiResult, params};
use encke_storage::{StorageError, open_place};
use encke_store::{BucketId, StoredBucket};
use std::ops::ControlFlow;
use std::sync::Arc;

params! {
    /// Parameters of `AdminStorageRegisterBucket`.
    struct RegisterBucket {
        /// Id of the bucket: 1 to 64 letters, digits, `-` and `_`. Without it a random GUID.
        SetBucketValue: Option<String>,
        /// How `SetKeyHashValue` was made; only 101 (SHA-256 of the key) is known.
        SetKeyHashFormat: Option<String>,
        /// SHA-256 of the bucket's key in hexadecimal, for a key the server shall not know. Without it the server makes a random key and tells it once.
        SetKeyHashValue: Option<String>,
        /// Organization of the bucket; only for administrators of the top level.
        SetOrganizationID: Option<String>
    }
}

params! {
    /// Parameters of `AdminStorageBucketProperties`.
    struct BucketAt {
        /// Id of the bucket.
        BucketID: String,
        /// Unix seconds: a size that was measured earlier is measured again.
        AfterTimestamp: Option<i64>
    }
}

params! {
    /// Parameters of `AdminStorageDeleteBucket`.
    struct OneBucket {
        /// Id of the bucket.
        BucketID: String
    }
}

params! {
    /// Parameters of `AdminStoragePingDestination`.
    struct Ping {
        /// Place to reach.
        ExtraData: Json<DestinationLocation>
    }
}

params! {
    /// Parameters of `AdminStorageFreeSpace`.
    struct FreeSpace {
        /// Not used: all buckets share one disk.
        BucketID: Option<String>
    }
}

/// The key that the two parameters ask for.
fn wanted_key(format: Option<&str>, value: Option<&str>) -> ApiResult<Key> {
    let (format, value) = match (format, value) {
        (None, None) => return Ok(Key::Random),
        (Some(format), Some(value)) => (format, value),
        _ => {
            return Err(ApiError::bad_request(
                "SetKeyHashFormat and SetKeyHashValue go together",
            ));
        }
    };
    if format.trim().parse() != Ok(registry::KEY_FORMAT_SHA256) {
        return Err(ApiError::bad_request(format!(
            "SetKeyHashFormat must be {} (SHA-256 of the key in hexadecimal)",
            registry::KEY_FORMAT_SHA256
        )));
    }
    let mut hash = [0u8; 32];
    hex::decode_to_slice(value.trim(), &mut hash).map_err(|_| {
        ApiError::bad_request("SetKeyHashValue must be the key's SHA-256: 64 hexadecimal digits")
    })?;
    Ok(Key::Hashed(hash))
}

/// The organization a new bucket goes to: the caller's own, or the one a top-level administrator names.
fn organization(app: &App, admin: &Admin, wanted: Option<String>) -> ApiResult<String> {
    let Some(wanted) = wanted else {
        return Ok(admin.organization.clone());
    };
    if !admin.organization.is_empty() && wanted != admin.organization {
        return Err(ApiError::forbidden(
            "Only an administrator of the top level can choose the organization",
        ));
    }
    if !app.config().organizations.contains_key(&wanted) {
        return Err(ApiError::bad_request("There is no such organization"));
    }
    Ok(wanted)
}

async fn register(
    app: Arc<App>,
    admin: Admin,
    call: Call<RegisterBucket>,
) -> ApiResult<Doc<AddBucketResponseMessage>> {
    let p = call.params;
    let id = match p.SetBucketValue {
        None => None,
        Some(text) => Some(BucketId::parse(&text).ok_or_else(|| {
            ApiError::bad_request("SetBucketValue must be 1 to 64 letters, digits, '-' and '_'")
        })?),
    };
    let key = wanted_key(p.SetKeyHashFormat.as_deref(), p.SetKeyHashValue.as_deref())?;
    let organization = organization(&app, &admin, p.SetOrganizationID)?;
    let new = registry::register(&app, &admin.name, &organization, id, key).await?;
    Ok(Doc(AddBucketResponseMessage {
        status: 200,
        message: "OK".into(),
        new_bucket_id: new.id.to_string(),
        new_bucket_key: new.key.unwrap_or_default(),
        ..Default::default()
    }))
}

fn properties(bucket: StoredBucket) -> BucketProperties {
    BucketProperties {
        organization_id: bucket.organization,
        create_time: bucket.created,
        read_write_key_format: bucket.key_format,
        read_write_key: bucket.key_hash,
        size: SizeMeasurement {
            size: bucket.size.bytes,
            measure_started: bucket.size.started,
            measure_completed: bucket.size.completed,
            ..Default::default()
        },
        ..Default::default()
    }
}

async fn list(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Streamed<Keyed<BucketProperties>>> {
    let scope = admin.scope();
    let body = list_body(&app.store, b'{', b'}', move |store, writer| {
        let scope = scope.clone();
        let add = |writer: &mut ListWriter, bucket: StoredBucket| {
            let id = bucket.id.clone();
            match serde_json::to_string(&Out(&properties(bucket))) {
                Ok(json) => writer.entry(id.as_str(), &json),
                Err(e) => {
                    tracing::error!(bucket = %id, error = %e, "a bucket could not be printed");
                    ControlFlow::Continue(())
                }
            }
        };
        async move { store.each_bucket(&scope, writer, add).await }
    });
    Ok(Streamed::new(body.await))
}

/// The bucket named by a parameter. A text that can not be an id names none.
pub(super) fn named(text: &str) -> ApiResult<BucketId> {
    BucketId::parse(text).ok_or_else(|| ApiError::not_found("Bucket not found"))
}

async fn bucket_properties(
    app: Arc<App>,
    admin: Admin,
    call: Call<BucketAt>,
) -> ApiResult<Doc<BucketProperties>> {
    let id = named(&call.params.BucketID)?;
    let mut bucket = app
        .store
        .bucket(&admin.scope(), &id)
        .await
        .map_err(bucket_error)?;
    if let Some(after) = call.params.AfterTimestamp.filter(|&a| a > bucket.size.started) {
        bucket.size = measure(&app, &id, after).await.map_err(bucket_error)?;
    }
    Ok(Doc(properties(bucket)))
}

async fn delete(app: Arc<App>, admin: Admin, call: Call<OneBucket>) -> ApiResult<Envelope> {
    let id = named(&call.params.BucketID)?;
    registry::delete(&app, &admin.name, admin.scope(), id).await?;
    Ok(done())
}

async fn free_space(app: Arc<App>, _: Admin, _: Call<FreeSpace>) -> ApiResult<Doc<StorageFreeSpaceInfo>> {
    let root = app.buckets.root.clone();
    let disk = blocking(move || {
        folders::ensure(&root)?;
        Ok(rustix::fs::statvfs(&root)?)
    })
    .await
    .map_err(|e| disk_error(&e))?;
    // As `df` counts: blocks that are kept for root are neither used nor available.
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let usable = used.saturating_add(disk.f_bavail);
    let percent = if usable == 0 {
        0.0
    } else {
        used as f64 * 100.0 / usable as f64
    };
    Ok(Doc(StorageFreeSpaceInfo {
        unlimited: false,
        used_percent: percent as f32,
        available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        ..Default::default()
    }))
}

/// What a caller may read of a storage's failure.
fn storage_failure(e: &StorageError) -> ApiError {
    match e {
        StorageError::Invalid(message) => ApiError::bad_request(message.clone()),
        StorageError::Unsupported(what) => ApiError::unsupported(what),
        StorageError::NotFound(place) => ApiError::new(502, format!("{place}: there is no such place")),
        e => ApiError::new(502, e.to_string()),
    }
}

/// Finds out whether this server reaches a place.
///
/// # Errors
/// 400 for settings that make no sense, 501 for a kind that is not reached yet, 502 with what the storage said.
pub(crate) async fn ping(location: DestinationLocation) -> ApiResult<()> {
    let reached = tokio::task::spawn_blocking(move || {
        let key = location.comet_bucket_key.clone();
        open_place(&location, &key)?.ping()
    });
    let reached = reached.await.map_err(|_| ApiError::internal())?;
    reached.map_err(|e| storage_failure(&e))
}

async fn ping_destination(_: Arc<App>, _: Admin, call: Call<Ping>) -> ApiResult<Envelope> {
    ping(call.params.ExtraData.0).await?;
    Ok(done())
}

/// Endpoints.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut all = rules::routes();
    all.extend(published());
    all
}

fn published() -> Vec<Route> {
    vec![
        Route::new(
            "AdminStorageRegisterBucket",
            "/api/v1/admin/storage/register-bucket",
            "Makes a bucket. A key the server made is told in the answer and never again.",
            register,
        )
        .roles(&[Role::Storage]),
        Route::new(
            "AdminStorageListBuckets",
            "/api/v1/admin/storage/list-buckets",
            "Lists the buckets with the sizes that were measured last.",
            list,
        )
        .roles(&[Role::Storage]),
        Route::new(
            "AdminStorageBucketProperties",
            "/api/v1/admin/storage/bucket-properties",
            "Describes a bucket; measures its size if the last measurement is too old.",
            bucket_properties,
        )
        .roles(&[Role::Storage]),
        Route::new(
            "AdminStorageDeleteBucket",
            "/api/v1/admin/storage/delete-bucket",
            "Deletes a bucket and every byte in it, whoever uses it.",
            delete,
        )
        .roles(&[Role::Storage]),
        Route::new(
            "AdminStorageFreeSpace",
            "/api/v1/admin/storage/free-space",
            "Tells how full the disk of the buckets is.",
            free_space,
        )
        .roles(&[Role::Storage])
        .top_level()
        .denied_if(|p| p.deny_view_server_info),
        Route::new(
            "AdminStoragePingDestination",
            "/api/v1/admin/storage/ping-destination",
            "Finds out whether this server reaches a place for a Storage Vault with the credentials given, and changes nothing there. A local path may not exist yet. Reached are: local path (1002), Storage Role (1003), S3-compatible (1000), WebDAV (1010).",
            ping_destination,
        )
        .top_level()
        .denied_if(|p| p.deny_view_server_info),
    ]
}
