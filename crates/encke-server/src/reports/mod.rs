//! The report service: data sources, templates, saved reports, their API codes, and the public pages (reference
//! `comet-data.md`; DESIGN D10). Whatever shows rows goes through [`rows`], which asks with the rights of one person.

mod codes;
mod endpoints;
mod exports;
mod own;
mod pictures;
mod public;
mod rows;
mod schedules;
mod snapshots;
mod sources;
mod templates;
mod uploads;
mod watched;

pub use public::router;
pub use snapshots::Reports;
pub use uploads::ReportOptions;

use crate::app::{App, store_error};
use crate::auth::Principal;
use crate::table::Route;
use encke_api::{ApiError, ApiResult};
use encke_store::{ReportOwner, Scope, SessionKind, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Stands in a snapshot for the address pictures are reached at, which depends on who asks.
const PICTURES: &str = "encke-pictures:";
/// Path of the pictures.
const PICTURES_PATH: &str = "/data-backend/api/public/images";
/// How often the log of calls is written.
const LOG_TIME: Duration = Duration::from_secs(5);

/// Every endpoint of the report service.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut routes = endpoints::routes();
    routes.extend(codes::routes());
    routes.extend(templates::routes());
    routes.extend(sources::routes());
    routes.extend(uploads::routes());
    routes.extend(exports::routes());
    routes.extend(schedules::routes());
    routes
}

/// Starts what the report service does by itself.
pub fn start(app: &Arc<App>) {
    tokio::spawn(keep_log(app.clone()));
    tokio::spawn(uploads::sweep(app.clone()));
    tokio::spawn(watched::keep(app.clone()));
    crate::leader::while_leading(app, schedules::run);
}

/// Writes the log of calls now and then, until the server stops.
async fn keep_log(app: Arc<App>) {
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => break,
            () = tokio::time::sleep(LOG_TIME) => {}
        }
        codes::write_log(&app).await;
    }
    codes::write_log(&app).await;
}

/// The caller as the owner of reports.
fn owner_of(principal: &Principal) -> ApiResult<ReportOwner> {
    match principal {
        Principal::Admin(a) => Ok(ReportOwner {
            kind: SessionKind::Admin,
            name: a.name.clone(),
            organization: a.organization.clone(),
        }),
        Principal::User(u) => Ok(ReportOwner {
            kind: SessionKind::User,
            name: u.name.clone(),
            organization: u.organization.clone(),
        }),
        Principal::Nobody => Err(ApiError::unauthorised()),
    }
}

/// The rows of Encke's own that somebody may read.
fn scope_of(owner: &ReportOwner) -> Scope {
    match owner.kind {
        SessionKind::User => Scope::User(owner.name.clone()),
        SessionKind::Admin if owner.organization.is_empty() => Scope::All,
        SessionKind::Admin => Scope::Organization(owner.organization.clone()),
    }
}

fn not_found(what: &'static str) -> impl Fn(StoreError) -> ApiError {
    move |e| match e {
        StoreError::NotFound => ApiError::not_found(format!("{what} not found")),
        e => store_error(e),
    }
}
