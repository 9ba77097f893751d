//! Devices of an account: revocation (reference, section 10).

use super::change_within;
use crate::app::App;
use crate::auth::Admin;
use crate::table::{Call, Envelope, Route, done};
use encke_api::constants::UNKNOWN_DEVICE_ERROR;
use encke_api::types::UserProfileConfig;
use encke_api::{ApiError, ApiResult, params};
use std::sync::Arc;

params! {
    /// Parameters of `AdminRevokeDevice`.
    struct Revoke {
        /// Account name.
        TargetUser: String,
        /// Id of the device.
        TargetDevice: String
    }
}

/// Removes a device with its Protected Items and what hangs on them. Its snapshots stay.
fn remove(profile: &mut UserProfileConfig, device: &str) -> bool {
    if profile.devices.remove(device).is_none() {
        return false;
    }
    profile.sources.retain(|_, s| s.owner_device != device);
    let sources = &profile.sources;
    profile
        .backup_rules
        .retain(|_, r| sources.contains_key(&r.source));
    for vault in profile.destinations.values_mut() {
        vault.associated_devices.retain(|d| d != device);
    }
    true
}

async fn revoke(app: Arc<App>, admin: Admin, call: Call<Revoke>) -> ApiResult<Envelope> {
    let p = call.params;
    change_within(
        &app,
        &admin.scope(),
        &admin.name,
        &p.TargetUser,
        None,
        |profile| {
            if remove(profile, &p.TargetDevice) {
                Ok(())
            } else {
                Err(ApiError::bad_request(UNKNOWN_DEVICE_ERROR))
            }
        },
    )
    .await?;
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new(
        "AdminRevokeDevice",
        "/api/v1/admin/revoke-device",
        "Removes a device from its account, with its Protected Items and rules, and ends its connections. Its snapshots stay.",
        revoke,
    )]
}
