//! Quotas that only the server can measure, because several devices or accounts share them (reference, sections 7
//! and 14).

use super::profile_of;
use crate::app::{App, store_error};
use encke_api::ApiResult;
use encke_api::live::QuotaLeft;
use encke_api::types::{SharedStorageQuota, UserProfileConfig};
use encke_store::collections::Item;
use encke_store::{Scope, StoreError};

/// Whether an account may back up into one of its Storage Vaults now.
///
/// # Errors
/// 400 for an account that does not exist.
pub(crate) async fn left(app: &App, username: &str, destination: &str) -> ApiResult<QuotaLeft> {
    let profile: UserProfileConfig = profile_of(app, &Scope::All, username)
        .await?
        .parse()
        .map_err(store_error)?;
    let refused = |message: &str| QuotaLeft {
        refused: message.to_string(),
        bytes: Some(0),
    };
    if profile.all_protected_items_quota_enabled {
        // Each item counts with what its last successful backup protected.
        let items = profile
            .sources
            .values()
            .map(|s| &s.statistics.last_successful_backup_job);
        let protected: i64 = items.map(|job| job.total_size).fold(0, i64::saturating_add);
        if protected >= profile.all_protected_items_quota_bytes {
            return Ok(refused("The account's quota for Protected Items is used up"));
        }
    }
    let Some(vault) = profile.destinations.get(destination) else {
        return Ok(QuotaLeft::default());
    };
    if vault.storage_limit_id.is_empty() {
        return Ok(QuotaLeft::default());
    }
    let quota: Item<SharedStorageQuota> = match app.store.item(&Scope::All, &vault.storage_limit_id).await {
        Ok(quota) => quota,
        Err(StoreError::NotFound) => return Ok(QuotaLeft::default()),
        Err(e) => return Err(store_error(e)),
    };
    let used = app.store.quota_usage(&quota.id).await.map_err(store_error)?;
    let bytes = quota.value.limit_bytes.saturating_sub(used);
    if bytes <= 0 {
        return Ok(refused("The Storage Vault's shared quota is used up"));
    }
    Ok(QuotaLeft {
        refused: String::new(),
        bytes: Some(bytes),
    })
}
