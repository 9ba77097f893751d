//! The Constellation Role: over all servers of a cluster, which bucket is used by whom, and the deletion of those that
//! nobody uses (reference, section 20). What is promised is in `docs/constellation.md`.
//!
//! [`census`] asks one server, this one or another; [`report`] is what comes of asking all; [`check`] makes a report and
//! deletes; [`endpoints`] is what administrators see.

mod census;
mod check;
mod endpoints;
mod report;
mod settings;

pub use endpoints::routes;
pub(crate) use settings::{adopt, adopt_all, check_all, check_servers, hide, hide_all};

use crate::app::{App, now};
use check::Why;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

/// Seconds between two reports that the server makes by itself.
const EVERY: i64 = 3600;
/// Variable of the environment with other seconds than [`EVERY`].
const EVERY_VARIABLE: &str = "ENCKE_CONSTELLATION_EVERY_SECONDS";
/// How often it is looked whether a report is due.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The Constellation Role's part of the running server.
#[derive(Default)]
pub struct Constellation {
    /// One check runs at a time.
    one: tokio::sync::Mutex<()>,
    /// Checks that run or wait for their turn.
    active: AtomicI64,
    /// Counts up with each check that begins.
    begun: AtomicU64,
}

/// Seconds that a variable of the environment sets.
fn seconds(variable: &str, otherwise: i64) -> i64 {
    let set = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    set.filter(|n| *n >= 0).unwrap_or(otherwise)
}

/// Makes reports for as long as this server leads.
pub(crate) fn start(app: &Arc<App>) {
    crate::leader::while_leading(app, work);
}

async fn work(app: Arc<App>) {
    let every = seconds(EVERY_VARIABLE, EVERY);
    let look_every = LOOK_EVERY.min(Duration::from_secs(every.max(1).unsigned_abs()));
    loop {
        tokio::time::sleep(look_every).await;
        if !app.config().constellation_role.role_enabled {
            continue;
        }
        match check::counts(&app).await {
            Ok(counts) if counts.last_by_itself + every > now() => continue,
            Ok(_) => {}
            Err(e) => {
                tracing::warn!(error = %e.message, "it is not known when buckets were last reported");
                continue;
            }
        }
        // A deletion that has begun is ended even if another server leads meanwhile.
        if let Err(e) = check::run(&app, Why::ByItself, "").await {
            tracing::warn!(error = %e.message, "the use of buckets could not be reported");
        }
    }
}
