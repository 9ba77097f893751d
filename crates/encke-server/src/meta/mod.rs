//! About the server itself: version, configuration, logs, statistics, branding, restart (reference, sections 1, 2,
//! 20, 21 and 24).

mod branding;
mod config;
mod logs;
mod resources;
mod service;
mod stats;

pub(crate) use branding::logo;
pub(crate) use config::listen_addresses;
pub use logs::LOG_FOLDER;
pub(crate) use logs::{files as log_files, prune as prune_logs};
pub(crate) use stats::keep as keep_statistics;

use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::table::{Call, Doc, Route};
use encke_api::ApiResult;
use encke_api::constants::{APPLICATION_VERSION, RELEASE_CODENAME};
use encke_api::form::NoParams;
use encke_api::types::{ServerConfigOptions, ServerMetaVersionInfo};
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
    let mails = app.store.mail_counts().await.map_err(store_error)?;
    let worker = *app.mailer.worker.lock();
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
        emails_sent_successfully: mails.sent,
        emails_sent_errors: mails.given_up,
        emails_waiting_in_queue: mails.waiting,
        scheduled_email_thread_current_state: worker.state,
        scheduled_email_thread_last_calculate_duration_nanos: worker.last_duration,
        scheduled_email_thread_waiting_until: worker.waiting_until,
        scheduled_email_thread_last_wake_time: worker.last_wake,
        scheduled_email_thread_last_wake_sent_emails: worker.last_sent,
        self_backup: app.self_backup.statistics(),
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

/// Endpoints about the server.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![Route::new(
        "AdminMetaVersion",
        "/api/v1/admin/meta/version",
        "Tells the server's version, roles, clock and start.",
        version,
    )];
    all.into_iter()
        .chain(branding::routes())
        .chain(config::routes())
        .chain(logs::routes())
        .chain(resources::routes())
        .chain(service::routes())
        .chain(stats::routes())
        .collect()
}
