//! What administrators see and set of the cluster's buckets.

use super::check::{self, Counts, Pruned, Why};
use super::report::Report;
use super::settings::{adopt, check_servers, hide, targets};
use crate::app::{App, now};
use crate::auth::Admin;
use crate::table::{Call, Doc, Envelope, Own, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::types::{
    ConstellationCheckReport, ConstellationRoleOptions, ConstellationStats, ConstellationStatusAPIResponse,
};
use encke_api::{ApiError, ApiResult, params};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A tenant gets the report of before if it is younger than this in seconds: asking all servers is work.
const TENANT_FRESH: i64 = 60;

params! {
    /// Parameters of `AdminMetaConstellationConfigSet`.
    struct Set {
        /// The whole settings. Servers are of Type `comet`; a password shown as `********` stays as it is for the same address and name.
        ConstellationRoleOptions: Json<ConstellationRoleOptions>
    }
}

/// What the published answers leave out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Details {
    report: Report,
    /// Whether the server deletes by itself.
    deletion_enabled: bool,
    /// Null before the first one.
    last_prune: Option<Pruned>,
    checks_currently_active: i64,
}

async fn status(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<ConstellationStatusAPIResponse>> {
    let config = app.config();
    let here = check::here(&app);
    let (mut addresses, mut names) = (vec![here.address], vec![here.name]);
    // Where the top level's other servers are is none of a tenant's business.
    if admin.organization.is_empty() {
        for target in targets(&config.constellation_role) {
            addresses.push(target.address);
            names.push(target.name);
        }
    }
    let Counts {
        last_check_start,
        total_checks_started,
        total_buckets_deleted,
        ..
    } = check::counts(&app).await?;
    Ok(Doc(ConstellationStatusAPIResponse {
        deletion_enabled: config.constellation_role.delete_unused_data,
        targets: addresses,
        target_names: names,
        stats: ConstellationStats {
            last_check_start,
            total_checks_started,
            total_buckets_deleted,
            checks_currently_active: app.constellation.active.load(Ordering::Relaxed),
            ..Default::default()
        },
        ..Default::default()
    }))
}

async fn last_report(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<ConstellationCheckReport>> {
    Ok(Doc(check::report(&app).await?.published(&admin.organization)))
}

async fn new_report(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<ConstellationCheckReport>> {
    let of_tenant = !admin.organization.is_empty();
    if of_tenant {
        let last = check::report(&app).await?;
        if last.check_started + TENANT_FRESH > now() {
            return Ok(Doc(last.published(&admin.organization)));
        }
    }
    // A tenant can not know whether it is right that another server has lost its accounts.
    let why = if of_tenant { Why::Look } else { Why::Report };
    let (report, _) = check::run(&app, why, &admin.name).await?;
    Ok(Doc(report.published(&admin.organization)))
}

async fn prune(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Envelope> {
    let (_, pruned) = check::run(&app, Why::Prune, &admin.name).await?;
    if pruned.error.is_empty() {
        return Ok(done());
    }
    Err(ApiError::conflict(match pruned.count {
        0 => format!("Nothing was deleted: {}", pruned.error),
        n => format!("{n} buckets were deleted, the others were not: {}", pruned.error),
    }))
}

async fn details(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Own<Details>> {
    Ok(Own(Details {
        report: check::report(&app).await?,
        deletion_enabled: app.config().constellation_role.delete_unused_data,
        last_prune: check::counts(&app).await?.last_prune,
        checks_currently_active: app.constellation.active.load(Ordering::Relaxed),
    }))
}

async fn get(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Doc<ConstellationRoleOptions>> {
    let mut options = app.config().constellation_role.clone();
    hide(&mut options);
    Ok(Doc(options))
}

async fn set(app: Arc<App>, _: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let mut wanted = call.params.ConstellationRoleOptions.0;
    check_servers(&wanted)?;
    let handle = app.clone();
    app.change_config(move |config| {
        adopt(&handle, &config.constellation_role, &mut wanted)?;
        config.constellation_role = wanted;
        Ok(Vec::new())
    })
    .await?;
    Ok(done())
}

/// Endpoints.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminConstellationStatus",
            "/api/v1/admin/constellation/status",
            "Answers which servers are asked for their buckets and accounts (this one first), and what came of it so far.",
            status,
        ),
        Route::new(
            "AdminConstellationLastReport",
            "/api/v1/admin/constellation/last-report",
            "Answers the newest report: each bucket with the servers that have it and the accounts that use it. ServerID is the place in Targets of the status. Tenants see their own alone.",
            last_report,
        ),
        Route::new(
            "AdminConstellationNewReport",
            "/api/v1/admin/constellation/new-report",
            "Asks all servers and answers the report that comes of it. Nothing is deleted.",
            new_report,
        ),
        Route::new(
            "AdminConstellationPruneNow",
            "/api/v1/admin/constellation/prune-now",
            "Asks all servers and deletes the buckets that nobody uses, but for new ones. Nothing is deleted while a server can not be asked for everything (409).",
            prune,
        )
        .top_level(),
        Route::new(
            "AdminMetaConstellationConfigGet",
            "/api/v1/admin/meta/constellation/config/get",
            "Answers which servers belong to the cluster, and whether unused buckets are deleted.",
            get,
        )
        .top_level(),
        Route::new(
            "AdminMetaConstellationConfigSet",
            "/api/v1/admin/meta/constellation/config/set",
            "Sets which servers belong to the cluster, and whether unused buckets are deleted. In force at once.",
            set,
        )
        .top_level(),
        Route::new(
            "EnckeConstellationDetails",
            "/api/encke/v1/constellation/details",
            "Answers the newest report with what its published form leaves out: sizes and ages, what went wrong with a server, vaults outside of the cluster, and what became of the last deletion.",
            details,
        )
        .top_level(),
    ];
    all.into_iter()
        .map(|route| {
            route
                .roles(&[Role::Constellation])
                .denied_if(|p| p.deny_constellation_role)
        })
        .collect()
}
