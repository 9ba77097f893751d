//! Shared storage quotas: one limit for Storage Vaults of several accounts (reference, section 14; 25.9.8).

use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::policies::{MAX_DESCRIPTION, check_id, place_in_organization};
use crate::table::{Call, Doc, Envelope, Route, done};
use encke_api::constants::{SEVT_SQUOTA_NEW, SEVT_SQUOTA_REMOVED, SEVT_SQUOTA_UPDATED};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::types::{
    GetSharedStorageQuotaResponse, ListSharedStorageQuotaResponse, SetSharedStorageQuotaResponse,
    SharedStorageQuota,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::collections::{Item, item, put_item, remove_item};
use encke_store::{EventDraft, StoreError, UsersOf};
use serde_json::Value;
use std::sync::Arc;

params! {
    /// A shared quota.
    struct Target {
        /// Id of the shared quota.
        SharedStorageQuotaID: String
    }
}

params! {
    /// Parameters of `AdminSquotaSetWithHash`.
    struct Set {
        /// Id of the shared quota, of the caller's choice. One that does not exist yet is made.
        SharedStorageQuotaID: String,
        /// The whole shared quota.
        SharedStorageQuota: Json<SharedStorageQuota>,
        /// Hash that the change is based on; without it the save is forced.
        CheckHash: Option<String>
    }
}

fn quota_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::not_found("There is no such shared storage quota"),
        StoreError::Exists => ApiError::forbidden("This id can not be used"),
        e => store_error(e),
    }
}

fn event(kind: i64, actor: &str, id: &str, quota: &SharedStorageQuota) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: quota.organization_id.clone(),
        resource: id.to_string(),
        kind,
        data: match kind {
            SEVT_SQUOTA_REMOVED => Value::Null,
            _ => serde_json::to_value(quota).unwrap_or_default(),
        },
    }
}

async fn list(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<ListSharedStorageQuotaResponse>> {
    Ok(Doc(ListSharedStorageQuotaResponse {
        status: 200,
        message: "OK".into(),
        entries: app.store.items(&admin.scope()).await.map_err(store_error)?,
        ..Default::default()
    }))
}

async fn get(
    app: Arc<App>,
    admin: Admin,
    call: Call<Target>,
) -> ApiResult<Doc<GetSharedStorageQuotaResponse>> {
    let id = call.params.SharedStorageQuotaID;
    let found: Item<SharedStorageQuota> = app.store.item(&admin.scope(), &id).await.map_err(quota_error)?;
    Ok(Doc(GetSharedStorageQuotaResponse {
        status: 200,
        message: "OK".into(),
        shared_storage_quota: found.value,
        shared_storage_quota_hash: found.hash,
        current_usage: app.store.quota_usage(&id).await.map_err(store_error)?,
        ..Default::default()
    }))
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Doc<SetSharedStorageQuotaResponse>> {
    let p = call.params;
    let (id, mut quota) = (p.SharedStorageQuotaID, p.SharedStorageQuota.0);
    check_id(&id)?;
    if quota.limit_bytes < 0 {
        return Err(ApiError::bad_request("LimitBytes must not be negative"));
    }
    if quota.description.len() > MAX_DESCRIPTION {
        return Err(ApiError::bad_request("The quota's Description is too long"));
    }
    place_in_organization(&app, &admin, &mut quota.organization_id)?;
    let (scope, actor, check) = (admin.scope(), admin.name.clone(), p.CheckHash);
    let written = app.store.write(move |tx| {
        let old = match item::<SharedStorageQuota>(tx.sql(), &scope, &id) {
            Ok(old) => Some(old),
            Err(StoreError::NotFound) => None,
            Err(e) => return Err(e),
        };
        if let Some(wanted) = check.filter(|h| !h.is_empty())
            && old.as_ref().map(|o| &o.hash) != Some(&wanted)
        {
            return Err(StoreError::Changed);
        }
        if let Some(old) = &old
            && old.value.organization_id != quota.organization_id
        {
            return Err(StoreError::Invalid(
                "A shared storage quota can not be moved to another organization".into(),
            ));
        }
        let hash = put_item(tx, &id, &quota, old.as_ref().map(|o| o.hash.as_str()))?;
        let kind = if old.is_some() {
            SEVT_SQUOTA_UPDATED
        } else {
            SEVT_SQUOTA_NEW
        };
        tx.emit(event(kind, &actor, &id, &quota));
        Ok(hash)
    });
    Ok(Doc(SetSharedStorageQuotaResponse {
        status: 200,
        message: "OK".into(),
        shared_storage_quota_hash: written.await.map_err(quota_error)?,
        ..Default::default()
    }))
}

async fn detach(app: &App, actor: &str, id: &str) -> ApiResult<()> {
    let users = app
        .store
        .usernames_of(UsersOf::Quota(id.to_string()))
        .await
        .map_err(store_error)?;
    for user in users {
        let changed = crate::users::change(app, actor, &user, |profile| {
            for vault in profile.destinations.values_mut() {
                if vault.storage_limit_id == id {
                    vault.storage_limit_id.clear();
                }
            }
            Ok(())
        });
        match changed.await {
            // Deleted meanwhile.
            Err(e) if e.status == 400 => {}
            other => other.map(drop)?,
        }
    }
    Ok(())
}

async fn delete(app: Arc<App>, admin: Admin, call: Call<Target>) -> ApiResult<Envelope> {
    let id = call.params.SharedStorageQuotaID;
    let _: Item<SharedStorageQuota> = app.store.item(&admin.scope(), &id).await.map_err(quota_error)?;
    detach(&app, &admin.name, &id).await?;
    let (scope, actor, quota) = (admin.scope(), admin.name.clone(), id.clone());
    let removed = app.store.write(move |tx| {
        let old = remove_item::<SharedStorageQuota>(tx, &scope, &quota)?;
        tx.emit(event(SEVT_SQUOTA_REMOVED, &actor, &quota, &old.value));
        Ok(())
    });
    removed.await.map_err(quota_error)?;
    // Vaults that joined in between.
    detach(&app, &admin.name, &id).await?;
    Ok(done())
}

/// Endpoints of shared storage quotas.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminSquotaListAll",
            "/api/v1/admin/squota/list-all",
            "Answers all shared storage quotas by id.",
            list,
        ),
        Route::new(
            "AdminSquotaGetWithHash",
            "/api/v1/admin/squota/get-with-hash",
            "Answers a shared storage quota with its use in bytes, as the devices measured it last, and the hash for a guarded save.",
            get,
        ),
        Route::new(
            "AdminSquotaSetWithHash",
            "/api/v1/admin/squota/set-with-hash",
            "Saves a shared storage quota, or adds one under a chosen id.",
            set,
        ),
        Route::new(
            "AdminSquotaDelete",
            "/api/v1/admin/squota/delete",
            "Deletes a shared storage quota and detaches the Storage Vaults under it.",
            delete,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
