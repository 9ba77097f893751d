//! Jobs: what devices report, lists and searches, logs, cancel and abandon (reference, section 17).

mod endpoints;
mod missed;

pub use endpoints::routes;
pub use missed::{Watch, report_missed};

use crate::app::{App, now, store_error};
use crate::live::Connection;
use encke_api::types::{BackupJobDetail, JobEntry};
use encke_api::{ApiError, ApiResult};
use encke_store::sql::Tx;
use encke_store::{RunningJob, Scope, StoreResult, is_running};
use std::sync::Arc;
use std::time::Duration;

/// A job of a device that is off line and silent for this many seconds is marked abandoned; it is revived when the
/// device reports again.
const ABANDON_AFTER: i64 = 1800;
/// A device that came back has this many seconds to report how a job ended that it does not run any more.
const REPORT_TIME: i64 = 60;
/// How often silent jobs are looked for.
const WATCH_EVERY: Duration = Duration::from_secs(20);
/// Jobs removed in one transaction when old ones are pruned.
const PRUNE_AT_ONCE: i64 = 500;
/// Longest line of a job's log in bytes; the rest is cut off.
const MAX_MESSAGE: usize = 64 * 1024;

/// Removes what is kept about an account's jobs, in the transaction that removes the account.
pub(crate) fn delete_of_user(tx: &mut Tx, username: &str) -> StoreResult<()> {
    encke_store::delete_jobs_of_user(tx, username)
}

/// Takes over a device's report. `Username` and `DeviceID` are already the device's own.
pub(crate) async fn report(app: &App, organization: &str, mut job: BackupJobDetail) -> ApiResult<()> {
    if uuid::Uuid::try_parse(&job.guid).is_err() {
        return Err(ApiError::bad_request("A job's GUID must be a GUID"));
    }
    if !(5000..8000).contains(&job.status) {
        return Err(ApiError::bad_request(format!(
            "Job status {} is unknown",
            job.status
        )));
    }
    if is_running(job.status) {
        job.end_time = 0;
    } else if job.end_time == 0 {
        job.end_time = now();
    }
    app.store
        .report_job(organization, job)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Takes over lines of a job's log.
pub(crate) async fn append_log(
    app: &App,
    username: &str,
    device: &str,
    job_id: &str,
    first: u64,
    mut entries: Vec<JobEntry>,
) -> ApiResult<()> {
    if entries.len() > encke_api::live::MAX_LOG_BATCH {
        return Err(ApiError::bad_request("Too many log lines at once"));
    }
    for entry in &mut entries {
        if !["D", "I", "W", "E"].contains(&entry.severity.as_str()) {
            return Err(ApiError::bad_request(format!(
                "Severity '{}' is unknown",
                entry.severity
            )));
        }
        if entry.message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE)
                .rev()
                .find(|&i| entry.message.is_char_boundary(i))
                .unwrap_or(0);
            entry.message.truncate(end);
        }
    }
    let first = i64::try_from(first).map_err(|_| ApiError::bad_request("Log line number out of range"))?;
    app.store
        .append_job_log(username, device, job_id, first, entries)
        .await
        .map_err(store_error)
}

/// Watches over jobs of silent devices, and prunes old ones, until the server stops.
pub(crate) fn start(app: &Arc<App>) {
    tokio::spawn(watch(app.clone()));
    tokio::spawn(prune(app.clone()));
    tokio::spawn(missed::watch(app.clone()));
}

async fn watch(app: Arc<App>) {
    let mut timer = tokio::time::interval(WATCH_EVERY);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = timer.tick() => {}
        }
        if let Err(e) = abandon_silent(&app, now()).await {
            tracing::warn!(error = %e, "running jobs could not be listed");
        }
    }
}

/// Marks jobs as abandoned that nobody runs any more at a time (Unix seconds). How many there were.
///
/// # Errors
/// The store fails.
pub async fn abandon_silent(app: &App, now: i64) -> StoreResult<usize> {
    let running = app.store.running_jobs().await?;
    let mut abandoned = 0;
    for job in running.iter().filter(|job| is_lost(app, job, now)) {
        match app.store.abandon_job(&Scope::All, &job.id, "").await {
            Ok(_) => {
                abandoned += 1;
                tracing::info!(job = %job.id, user = %job.username, "a silent job was marked abandoned");
            }
            Err(e) => tracing::debug!(error = %e, job = %job.id, "a silent job ended by itself"),
        }
    }
    Ok(abandoned)
}

/// Whether nobody runs a job any more: its device is gone for long, or is back and neither runs it nor said how it
/// ended.
fn is_lost(app: &App, job: &RunningJob, now: i64) -> bool {
    let connections = app.live.of_device(&job.username, &job.device);
    if connections.is_empty() {
        // The server's own absence is not the device's silence.
        return now - job.received.max(app.start_time) > ABANDON_AFTER;
    }
    connections.iter().all(|c: &Arc<Connection>| {
        let since = c.info.connection_time;
        job.received < since && now - since > REPORT_TIME && !c.running_jobs.contains(&job.id)
    })
}

async fn prune(app: Arc<App>) {
    let mut timer = tokio::time::interval(Duration::from_secs(3600));
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = timer.tick() => {}
        }
        let before = now() - crate::app::keep_days(&app.config()) * 86_400;
        loop {
            match app.store.prune_jobs(before, PRUNE_AT_ONCE).await {
                Ok(n) if n > 0 => tracing::info!(jobs = n, "old jobs were removed"),
                Ok(_) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "old jobs could not be removed");
                    break;
                }
            }
        }
    }
}
