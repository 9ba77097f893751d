//! What the Storage Role enforces for a bucket, whoever holds its key (DESIGN D6): a quota, append-only, and a trash
//! from which an administrator brings back what was deleted. The published API knows none of it, so the endpoints are
//! our own.

use super::endpoints::named;
use super::registry::{bucket_error, disk_error};
use super::{blocking, folders};
use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::table::{Call, Envelope, Own, Route, done};
use encke_api::endpoint::Role;
use encke_api::{ApiError, ApiResult, params};
use encke_store::{BucketId, BucketRules, Scope, StoredBucket};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Longest time in the trash, in days.
const MAX_TRASH_DAYS: i64 = 3650;

params! {
    /// Parameters of `EnckeBucketRules` and `EnckeBucketTrash`.
    struct OneBucket {
        /// Id of the bucket.
        BucketID: String
    }
}

params! {
    /// Parameters of `EnckeBucketSetRules`.
    struct SetRules {
        /// Id of the bucket.
        BucketID: String,
        /// Most bytes the bucket may hold; 0 for as many as the disk takes. Data beyond is refused with status 507.
        QuotaBytes: i64,
        /// Whether the bucket's key deletes nothing but locks.
        AppendOnly: bool,
        /// Days for which deleted objects can be brought back; 0 deletes at once. A shorter time empties the trash of what is older.
        TrashDays: i64
    }
}

params! {
    /// Parameters of `EnckeBucketUndelete`.
    struct Undelete {
        /// Id of the bucket.
        BucketID: String,
        /// Unix seconds: what was deleted in that hour or later comes back.
        Since: i64
    }
}

/// What is enforced.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rules {
    quota_bytes: i64,
    append_only: bool,
    trash_days: i64,
}

/// What was deleted within an hour.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Deleted {
    /// Start of the hour, Unix seconds.
    time: i64,
    objects: u64,
    /// Of these, snapshots.
    snapshots: u64,
    bytes: u64,
}

/// What was brought back.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Restored {
    objects: u64,
    bytes: u64,
}

async fn bucket(app: &App, admin: &Admin, text: &str) -> ApiResult<StoredBucket> {
    let id = named(text)?;
    app.store.bucket(&admin.scope(), &id).await.map_err(bucket_error)
}

async fn get(app: Arc<App>, admin: Admin, call: Call<OneBucket>) -> ApiResult<Own<Rules>> {
    let rules = bucket(&app, &admin, &call.params.BucketID).await?.rules;
    Ok(Own(Rules {
        quota_bytes: rules.quota,
        append_only: rules.append_only,
        trash_days: rules.trash_days,
    }))
}

async fn set(app: Arc<App>, admin: Admin, call: Call<SetRules>) -> ApiResult<Envelope> {
    let p = call.params;
    let id = named(&p.BucketID)?;
    if p.QuotaBytes < 0 {
        return Err(ApiError::bad_request("QuotaBytes must not be negative"));
    }
    if !(0..=MAX_TRASH_DAYS).contains(&p.TrashDays) {
        return Err(ApiError::bad_request(format!(
            "TrashDays must be 0 to {MAX_TRASH_DAYS}"
        )));
    }
    let rules = BucketRules {
        quota: p.QuotaBytes,
        append_only: p.AppendOnly,
        trash_days: p.TrashDays,
    };
    let scope = admin.scope();
    let before = app.store.bucket(&scope, &id).await.map_err(bucket_error)?.rules;
    if before.quota != rules.quota && !admin.organization.is_empty() {
        return Err(ApiError::forbidden(
            "Only an administrator of the top level can change a bucket's quota",
        ));
    }
    let set = app.store.set_bucket_rules(&scope, &id, rules);
    set.await.map_err(bucket_error)?;
    tracing::info!(bucket = %id, actor = admin.name, ?rules, "a bucket's rules were set");
    Ok(done())
}

async fn trash(app: Arc<App>, admin: Admin, call: Call<OneBucket>) -> ApiResult<Own<Vec<Deleted>>> {
    let bucket = bucket(&app, &admin, &call.params.BucketID).await?;
    let folder = app.buckets.folder(&bucket.id);
    let _permit = app
        .buckets
        .walks
        .acquire()
        .await
        .map_err(|_| ApiError::internal())?;
    let hours = blocking(move || {
        let mut hours: BTreeMap<i64, Deleted> = BTreeMap::new();
        folder.each_deleted(|hour, object, _, size| {
            let sum = hours.entry(hour).or_default();
            sum.time = hour;
            sum.objects += 1;
            sum.bytes += size;
            let snapshot = matches!(object, folders::Object::Named(folders::Kind::Snapshots, _));
            sum.snapshots += u64::from(snapshot);
            Ok(())
        })?;
        Ok(hours.into_values().collect())
    });
    Ok(Own(hours.await.map_err(|e| disk_error(&e))?))
}

async fn undelete(app: Arc<App>, admin: Admin, call: Call<Undelete>) -> ApiResult<Own<Restored>> {
    let bucket = bucket(&app, &admin, &call.params.BucketID).await?;
    let folder = app.buckets.folder(&bucket.id);
    let since = call.params.Since;
    let walk = app
        .buckets
        .walks
        .acquire()
        .await
        .map_err(|_| ApiError::internal())?;
    let brought = blocking(move || folder.undelete(since)).await;
    drop(walk);
    let (objects, bytes) = brought.map_err(|e| disk_error(&e))?;
    app.buckets
        .count(&bucket.id, i64::try_from(bytes).unwrap_or(i64::MAX));
    app.replication.bucket_changed(&bucket.id);
    tracing::info!(bucket = %bucket.id, actor = admin.name, objects, bytes, "deleted objects were brought back");
    Ok(Own(Restored { objects, bytes }))
}

/// Removes for good what was in the trash for its time.
pub(super) async fn empty_trash(app: &App) {
    let found = app
        .store
        .each_bucket(&Scope::All, Vec::new(), |all: &mut Vec<(BucketId, i64)>, b| {
            all.push((b.id, b.rules.trash_days));
            ControlFlow::Continue(())
        });
    let buckets = match found.await.map_err(store_error) {
        Ok(buckets) => buckets,
        // Said by store_error; the next turn tries again.
        Err(_) => return,
    };
    for (id, days) in buckets {
        let folder = app.buckets.folder(&id);
        let before = now() - days * 86_400;
        if let Err(e) = blocking(move || folder.empty_trash(before)).await {
            tracing::warn!(bucket = %id, error = %e, "the trash could not be emptied; the next turn tries again");
        }
    }
}

/// Endpoints.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeBucketRules",
            "/api/encke/v1/bucket/rules",
            "Answers what is enforced for a bucket, whoever holds its key.",
            get,
        )
        .roles(&[Role::Storage]),
        Route::new(
            "EnckeBucketSetRules",
            "/api/encke/v1/bucket/set-rules",
            "Limits a bucket's bytes, makes it append-only, and keeps what is deleted from it in a trash.",
            set,
        )
        .roles(&[Role::Storage]),
        Route::new(
            "EnckeBucketTrash",
            "/api/encke/v1/bucket/trash",
            "Lists what was deleted from a bucket and can be brought back, by the hour.",
            trash,
        )
        .roles(&[Role::Storage]),
        Route::new(
            "EnckeBucketUndelete",
            "/api/encke/v1/bucket/undelete",
            "Brings back what was deleted from a bucket since an hour; what was uploaded again stays.",
            undelete,
        )
        .roles(&[Role::Storage]),
    ]
}
