//! Updating devices (reference, sections 11 and 22): one device is told to change to this server's program, or all that a
//! campaign chooses. The device fetches the program from [`crate::clients`], checks and tries it, and changes to it when
//! no job runs.

mod campaign;

pub use campaign::Campaigns;
pub(crate) use campaign::{came, failed, run};

use crate::app::App;
use crate::auth::Admin;
use crate::live::{Connection, REQUEST_TIMEOUT};
use crate::table::{Call, Doc, Envelope, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::live::{Program, Request, UpdateBegun};
use encke_api::types::{CometAPIResponseMessage, UpdateCampaignOptions, UpdateCampaignStatus};
use encke_api::{ApiError, ApiResult, params};
use std::sync::Arc;

params! {
    /// Parameters of `AdminDispatcherUpdateSoftware`.
    struct One {
        /// Id of the live connection.
        TargetID: String,
        /// Taken for the sake of SDKs that send it: a device fetches the program from the address it is connected to.
        SelfAddress: Option<String>
    }
}

params! {
    /// Parameters of `AdminUpdateCampaignStart`.
    struct Start {
        /// Which devices, and whether their jobs may be cancelled. `Active` false ends the campaign.
        Options: Json<UpdateCampaignOptions>
    }
}

/// Tells a device to change to this server's program. What the device answers stands with [`Request::UpdateSoftware`].
///
/// # Errors
/// 501 for a device of another platform, or what the device answers.
async fn tell(device: &Connection, program: &Program, interrupt: bool) -> ApiResult<UpdateBegun> {
    if device.info.reported_platform != program.platform {
        return Err(ApiError::unsupported(
            "this server has the program of its own platform alone, and the device is of another",
        ));
    }
    let request = Request::UpdateSoftware {
        program: program.clone(),
        interrupt,
    };
    let body = device.request(request, REQUEST_TIMEOUT).await?;
    serde_json::from_value(body).map_err(|_| ApiError::new(502, "The device's answer can not be read"))
}

async fn update(app: Arc<App>, admin: Admin, call: Call<One>) -> ApiResult<Envelope> {
    let device = app.live.find(&admin.scope(), &call.params.TargetID)?;
    let facts = app.program.facts().await?;
    let begun = tell(&device, &facts.program, false).await?;
    tracing::info!(by = %admin.name, user = %device.info.username, device = %device.info.device_id, ?begun, "a device is updated");
    let message = match begun {
        UpdateBegun::Ready => "OK",
        UpdateBegun::Unchanged => "The device runs this server's program already",
        UpdateBegun::Fetching => "The device is still fetching the program",
    };
    Ok(Doc(CometAPIResponseMessage {
        status: 200,
        message: message.into(),
        ..Default::default()
    }))
}

async fn start(app: Arc<App>, admin: Admin, call: Call<Start>) -> ApiResult<Envelope> {
    let options = call.params.Options.0;
    campaign::start(&app, &options).await?;
    tracing::info!(by = %admin.name, active = options.active, "the update campaign was changed");
    Ok(done())
}

async fn status(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Doc<UpdateCampaignStatus>> {
    campaign::status(&app).await.map(Doc)
}

/// Endpoints of updates.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminDispatcherUpdateSoftware",
            "/api/v1/admin/dispatcher/update-software",
            "Makes a device change to this server's program: once it is fetched and checked, and no job runs. The old one comes back if the new one does not get connected.",
            update,
        ),
        Route::new(
            "AdminUpdateCampaignStart",
            "/api/v1/admin/update-campaign/start",
            "Begins a campaign, in place of the one before: every device that it chooses changes to this server's program when it is on line, asked once. Of the same version (`ReinstallCurrentVer`) are asked those that run another program.",
            start,
        )
        .top_level(),
        Route::new(
            "AdminUpdateCampaignStatus",
            "/api/v1/admin/update-campaign/status",
            "Answers the campaign and how far every device has come with it.",
            status,
        )
        .top_level(),
    ];
    all.into_iter()
        .map(|r| {
            r.roles(&[Role::Auth, Role::SoftwareBuild])
                .denied_if(|p| p.deny_software_build_role)
        })
        .collect()
}
