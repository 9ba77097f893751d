//! The process: restart, shut down, where it may listen, news of versions.

use crate::app::{App, Ending};
use crate::auth::Admin;
use crate::table::{Call, Doc, Envelope, Names, Route, done};
use encke_api::constants::{SEVT_SERVER_RESTARTED, SEVT_SERVER_SHUTDOWN};
use encke_api::form::NoParams;
use encke_api::types::SoftwareUpdateNewsResponse;
use encke_api::{ApiError, ApiResult};
use encke_store::EventDraft;
use serde_json::Value;
use std::sync::Arc;

/// Ends the server once this call has been answered, and tells everybody before.
pub(super) fn end(app: &App, admin: &Admin, ending: Ending) {
    tracing::info!(by = %admin.name, ?ending, "the server ends");
    app.store.announce(|| EventDraft {
        actor: admin.name.clone(),
        organization: String::new(),
        resource: app.start_hash.clone(),
        kind: match ending {
            Ending::Restart => SEVT_SERVER_RESTARTED,
            Ending::Shutdown => SEVT_SERVER_SHUTDOWN,
        },
        data: Value::Null,
    });
    app.end(ending);
}

async fn restart(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Envelope> {
    end(&app, &admin, Ending::Restart);
    Ok(done())
}

async fn shutdown(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Envelope> {
    end(&app, &admin, Ending::Shutdown);
    Ok(done())
}

async fn interfaces(_: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Names> {
    let found = tokio::task::spawn_blocking(if_addrs::get_if_addrs);
    let found = found.await.map_err(|_| ApiError::internal())?.map_err(|e| {
        tracing::error!(error = %e, "the network interfaces can not be listed");
        ApiError::internal()
    })?;
    let mut addresses: Vec<String> = found.iter().map(|i| i.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(Names(addresses.into()))
}

async fn news(_: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Doc<SoftwareUpdateNewsResponse>> {
    // Nobody is asked, so nothing is known of other versions.
    Ok(Doc(SoftwareUpdateNewsResponse {
        updates_info: vec!["This server contacts nobody for news of versions.".into()],
        ..Default::default()
    }))
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminMetaRestartService",
            "/api/v1/admin/meta/restart-service",
            "Restarts the server after answering. Devices connect again by themselves and their jobs go on.",
            restart,
        )
        .top_level()
        .denied_if(|p| p.prevent_server_shutdown),
        Route::new(
            "AdminMetaShutdownService",
            "/api/v1/admin/meta/shutdown-service",
            "Stops the server after answering.",
            shutdown,
        )
        .top_level()
        .denied_if(|p| p.prevent_server_shutdown),
        Route::new(
            "AdminMetaServerConfigNetworkInterfaces",
            "/api/v1/admin/meta/server-config/network-interfaces",
            "Answers the addresses of this machine that the server may listen at.",
            interfaces,
        )
        .top_level()
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminMetaSoftwareUpdateNews",
            "/api/v1/admin/meta/software-update-news",
            "Answers news of versions. This server asks nobody for them, so it only says so.",
            news,
        ),
    ]
}
