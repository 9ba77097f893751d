//! About the server itself: version and public properties (reference, sections 1 and 21).

use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::table::{Call, Doc, Nobody, Route};
use encke_api::ApiResult;
use encke_api::constants::{APPLICATION_VERSION, DEFAULT_ACCENTCOLOR, DEFAULT_TOPCOLOR, RELEASE_CODENAME};
use encke_api::form::NoParams;
use encke_api::types::{ServerConfigOptions, ServerMetaBrandingProperties, ServerMetaVersionInfo};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The year 2100: this server's licence does not end.
const NO_END: i64 = 4_102_444_800;

/// Name of the service as people see it.
pub(crate) fn brand_name(config: &ServerConfigOptions) -> String {
    if config.branding.brand_name.is_empty() {
        "Encke".into()
    } else {
        config.branding.brand_name.clone()
    }
}

/// What `AdminMetaVersion` and the first event of a stream tell.
///
/// # Errors
/// The store fails.
pub async fn version_info(app: &App) -> ApiResult<ServerMetaVersionInfo> {
    let config = app.config();
    let (_, devices) = app
        .store
        .count_users(&encke_store::Scope::All)
        .await
        .map_err(store_error)?;
    Ok(ServerMetaVersionInfo {
        // The version of the protocol: clients choose their behaviour by it.
        version: APPLICATION_VERSION.into(),
        version_codename: RELEASE_CODENAME.into(),
        storage_role: config.storage_role.role_enabled,
        authentication_role: config.authentication_role.role_enabled,
        software_build_role: config.software_build_role.role_enabled,
        overseer_role: config.constellation_role.role_enabled,
        constellation_role: config.constellation_role.role_enabled,
        server_start_time: app.start_time,
        server_start_hash: app.start_hash.clone(),
        current_time: now(),
        server_license_hash: license_hash(app),
        server_license_features_all: true,
        server_license_feature_set: u32::MAX,
        configured_devices: devices,
        license_valid_until: NO_END,
        ..Default::default()
    })
}

/// The same for the life of a data folder: monitors tell servers apart by it.
fn license_hash(app: &App) -> String {
    hex::encode(Sha256::digest(format!("server {}", app.server_key.to_text())))
}

async fn version(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Doc<ServerMetaVersionInfo>> {
    version_info(&app).await.map(Doc)
}

async fn branding(
    app: Arc<App>,
    _: Nobody,
    call: Call<NoParams>,
) -> ApiResult<Doc<ServerMetaBrandingProperties>> {
    let config = app.config();
    let organization = crate::auth::organization_of_host(&app, &call.origin.host).unwrap_or_default();
    let branding = config
        .organizations
        .get(&organization)
        .map_or(&config.branding, |o| &o.branding);
    let or = |value: &str, default: &str| {
        if value.is_empty() {
            default.to_string()
        } else {
            value.to_string()
        }
    };
    Ok(Doc(ServerMetaBrandingProperties {
        brand_name: or(&branding.brand_name, "Encke"),
        product_name: or(&branding.product_name, "Encke"),
        top_color: or(&branding.top_color, DEFAULT_TOPCOLOR),
        accent_color: or(&branding.accent_color, DEFAULT_ACCENTCOLOR),
        hide_news_area: branding.hide_news_area,
        prune_logs_after_days: config.authentication_role.prune_logs_after_days,
        expired_in_seconds: crate::auth::idle_seconds(&app),
        server_is_empty: config.admin_users.is_empty(),
        cloud_storage_name: branding.cloud_storage_name.clone(),
        admin_hide_pre_built_client_option: branding.admin_hide_pre_built_client_option,
        admin_hide_branded_cloud_storage: branding.admin_hide_branded_cloud_storage,
        ..Default::default()
    }))
}

/// Endpoints about the server.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminMetaVersion",
            "/api/v1/admin/meta/version",
            "Tells the server's version, roles, clock and start.",
            version,
        ),
        Route::new(
            "BrandingProps",
            "/gen/branding.props",
            "Public properties for the log-in page of this host.",
            branding,
        )
        .get(),
    ]
}
