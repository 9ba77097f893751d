//! Encke's own data as tables: accounts, devices, Protected Items, vaults, jobs, storage use and events, each in the scope of
//! one person. The columns are those of `encke-reports/templates/encke.yaml`, in their order.

use crate::app::{App, now};
use encke_api::constants as c;
use encke_api::types::{BackupJobDetail, StreamableEvent, UserProfileConfig};
use encke_reports::source::SourceError;
use encke_reports::{Cell, stage_own};
use encke_store::{JobFilter, Scope, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Rows that wait for being written.
const WAITING: usize = 1000;
const DAY: i64 = 86_400_000;
/// Seconds that recent jobs and events go back, a day more than the console's home shows at first.
const RECENT: i64 = 31 * 86_400;

type Rows = mpsc::Sender<Vec<Cell>>;

/// Puts a table into a new database file. Runs on a thread for blocking work.
pub(super) fn stage(app: &Arc<App>, scope: &Scope, table: &str, path: &Path) -> Result<(), SourceError> {
    let (send, mut receive) = mpsc::channel(WAITING);
    let (made, name, scope) = (app.clone(), table.to_string(), scope.clone());
    let runtime = tokio::runtime::Handle::current();
    let maker = runtime.spawn(async move { make(&made, &scope, &name, send).await });
    stage_own(table, path, |push| {
        while let Some(row) = receive.blocking_recv() {
            push(&row)?;
        }
        Ok(())
    })?;
    let made = runtime.block_on(maker).map_err(|e| e.to_string());
    made.and_then(|r| r.map_err(|e| e.to_string()))
        .map_err(SourceError::Source)
}

async fn make(app: &App, scope: &Scope, table: &str, rows: Rows) -> Result<(), StoreError> {
    let organizations = organizations(app);
    match table {
        "jobs" => jobs(app, scope, JobFilter::All, organizations, rows).await,
        "recentJobs" => jobs(app, scope, JobFilter::Since(now() - RECENT), organizations, rows).await,
        "events" => events(app, scope, organizations, rows).await,
        "storage" => storage(app, scope, &organizations, rows).await,
        _ => {
            let table = table.to_string();
            let each = move |rows: &mut Rows, _: &str, body: &str| {
                let Ok(profile) = serde_json::from_str::<UserProfileConfig>(body) else {
                    return ControlFlow::Continue(());
                };
                let organization = organizations
                    .get(&profile.organization_id)
                    .cloned()
                    .unwrap_or_default();
                for row in of_profile(&table, &profile, &organization) {
                    if rows.blocking_send(row).is_err() {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            };
            app.store.each_profile(scope, rows, each).await.map(drop)
        }
    }
}

/// Names of the organizations by id.
fn organizations(app: &App) -> BTreeMap<String, String> {
    let config = app.config();
    config
        .organizations
        .iter()
        .map(|(id, o)| (id.clone(), o.name.clone()))
        .collect()
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_string())
}

/// A time in seconds, 0 for never.
fn time(seconds: i64) -> Cell {
    if seconds <= 0 {
        Cell::Null
    } else {
        Cell::Int(seconds.saturating_mul(1000))
    }
}

fn count(n: usize) -> Cell {
    Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn of_profile(table: &str, p: &UserProfileConfig, organization: &str) -> Vec<Vec<Cell>> {
    let succeeded = |s: &encke_api::types::SourceConfig| s.statistics.last_successful_backup_job.end_time;
    match table {
        "accounts" => {
            let stored = p
                .destinations
                .values()
                .map(|d| d.statistics.client_provided_size.size)
                .sum();
            let success = p.sources.values().map(succeeded).max().unwrap_or_default();
            let last = p
                .sources
                .values()
                .map(|s| s.statistics.last_backup_job.end_time)
                .max();
            vec![vec![
                text(&p.username),
                text(&p.account_name),
                text(&p.organization_id),
                text(organization),
                text(if p.is_suspended { "SUSPENDED" } else { "ACTIVE" }),
                text(&p.policy_id),
                count(p.devices.len()),
                count(p.sources.len()),
                count(p.destinations.len()),
                Cell::Int(stored),
                time(success),
                time(p.create_time),
                text(&p.username),
                time(last.unwrap_or_default().max(p.create_time)),
            ]]
        }
        "devices" => {
            let row = |(id, d): (&String, &encke_api::types::DeviceConfig)| {
                let items = || p.sources.values().filter(|s| s.owner_device == *id);
                let last = items()
                    .map(|s| s.statistics.last_backup_job.end_time)
                    .max()
                    .unwrap_or_default();
                let system = format!(
                    "{} {}",
                    d.platform_version.distribution, d.platform_version.version
                );
                vec![
                    text(&p.username),
                    text(organization),
                    text(id),
                    text(&d.friendly_name),
                    text(system.trim()),
                    text(&d.client_version),
                    count(items().count()),
                    time(items().map(succeeded).min().unwrap_or_default()),
                    time(d.registration_time),
                    text(&format!("{}/{id}", p.username)),
                    time(last.max(d.registration_time)),
                ]
            };
            p.devices.iter().map(row).collect()
        }
        "items" => {
            let row = |(id, s): (&String, &encke_api::types::SourceConfig)| {
                let last = &s.statistics.last_backup_job;
                let device = p
                    .devices
                    .get(&s.owner_device)
                    .map_or("", |d| d.friendly_name.as_str());
                let status = if last.guid.is_empty() {
                    Cell::Null
                } else {
                    text(status(last.status))
                };
                vec![
                    text(&p.username),
                    text(organization),
                    text(id),
                    text(&s.description),
                    text(&s.engine),
                    text(device),
                    status,
                    time(last.start_time),
                    time(succeeded(s)),
                    Cell::Int(s.statistics.last_successful_backup_job.total_size),
                    Cell::Int(s.statistics.last_successful_backup_job.total_files),
                    text(&format!("{}/{id}", p.username)),
                    time(s.modify_time.max(s.create_time).max(last.end_time)),
                ]
            };
            p.sources.iter().map(row).collect()
        }
        // "vaults"
        _ => {
            let row = |(id, d): (&String, &encke_api::types::DestinationConfig)| {
                let size = &d.statistics.client_provided_size;
                let limit = if d.storage_limit_enabled {
                    Cell::Int(d.storage_limit_bytes)
                } else {
                    Cell::Null
                };
                vec![
                    text(&p.username),
                    text(organization),
                    text(id),
                    text(&d.description),
                    Cell::Int(i64::try_from(d.destination_type).unwrap_or_default()),
                    Cell::Int(size.size),
                    limit,
                    time(size.measure_completed),
                    text(&format!("{}/{id}", p.username)),
                    time(d.modify_time.max(d.create_time).max(size.measure_completed)),
                ]
            };
            p.destinations.iter().map(row).collect()
        }
    }
}

/// A job's status in a word.
fn status(status: u64) -> &'static str {
    match status {
        c::JOB_STATUS_STOP_SUCCESS__MIN..=c::JOB_STATUS_STOP_SUCCESS__MAX => "SUCCESS",
        c::JOB_STATUS_RUNNING__MIN..=c::JOB_STATUS_RUNNING__MAX => "RUNNING",
        c::JOB_STATUS_FAILED_TIMEOUT => "TIMEOUT",
        c::JOB_STATUS_FAILED_WARNING => "WARNING",
        c::JOB_STATUS_FAILED_ERROR => "ERROR",
        c::JOB_STATUS_FAILED_QUOTA => "QUOTA",
        c::JOB_STATUS_FAILED_SCHEDULEMISSED => "MISSED",
        c::JOB_STATUS_FAILED_CANCELLED => "CANCELLED",
        _ => "OTHER",
    }
}

fn kind(classification: u64) -> &'static str {
    match classification {
        c::JOB_CLASSIFICATION_BACKUP => "BACKUP",
        c::JOB_CLASSIFICATION_RESTORE => "RESTORE",
        c::JOB_CLASSIFICATION_RETENTION => "RETENTION",
        c::JOB_CLASSIFICATION_UPDATE => "UPDATE",
        _ => "OTHER",
    }
}

/// What an account calls its things.
#[derive(Default)]
struct NamesOf {
    organization: String,
    devices: HashMap<String, String>,
    items: HashMap<String, String>,
    vaults: HashMap<String, String>,
}

async fn jobs(
    app: &App,
    scope: &Scope,
    filter: JobFilter,
    organizations: BTreeMap<String, String>,
    rows: Rows,
) -> Result<(), StoreError> {
    let each = move |known: &mut HashMap<String, NamesOf>, name: &str, body: &str| {
        if let Ok(p) = serde_json::from_str::<UserProfileConfig>(body) {
            let names = NamesOf {
                organization: organizations.get(&p.organization_id).cloned().unwrap_or_default(),
                devices: p
                    .devices
                    .into_iter()
                    .map(|(id, d)| (id, d.friendly_name))
                    .collect(),
                items: p.sources.into_iter().map(|(id, s)| (id, s.description)).collect(),
                vaults: p
                    .destinations
                    .into_iter()
                    .map(|(id, d)| (id, d.description))
                    .collect(),
            };
            known.insert(name.to_string(), names);
        }
        ControlFlow::Continue(())
    };
    let known = app.store.each_profile(scope, HashMap::new(), each).await?;
    let nobody = NamesOf::default();
    let each = move |rows: &mut Rows, body: &str| {
        let Ok(job) = serde_json::from_str::<BackupJobDetail>(body) else {
            return ControlFlow::Continue(());
        };
        let names = known.get(&job.username).unwrap_or(&nobody);
        let name = |of: &HashMap<String, String>, id: &str| of.get(id).map_or_else(|| text(id), |n| text(n));
        let started = job.start_time.saturating_mul(1000);
        let seconds = if job.end_time > 0 {
            Cell::Int((job.end_time - job.start_time).max(0))
        } else {
            Cell::Null
        };
        let row = vec![
            text(&job.guid),
            text(&job.username),
            text(&names.organization),
            name(&names.devices, &job.device_id),
            name(&names.items, &job.source_guid),
            name(&names.vaults, &job.destination_guid),
            text(kind(job.classification)),
            text(status(job.status)),
            Cell::Int(started.div_euclid(DAY) * DAY),
            time(job.start_time),
            time(job.end_time),
            seconds,
            Cell::Int(job.total_files),
            Cell::Int(job.total_size),
            Cell::Int(job.upload_size),
            Cell::Int(job.download_size),
            text(&job.client_version),
            text(&job.guid),
            time(job.end_time.max(job.start_time)),
        ];
        match rows.blocking_send(row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    app.store.each_job(scope, filter, rows, each).await.map(drop)
}

async fn storage(
    app: &App,
    scope: &Scope,
    organizations: &BTreeMap<String, String>,
    rows: Rows,
) -> Result<(), StoreError> {
    // Buckets belong to organizations; an end user has none.
    if matches!(scope, Scope::User(_)) {
        return Ok(());
    }
    let names = organizations.clone();
    let each = move |rows: &mut Rows, b: encke_store::StoredBucket| {
        let row = vec![
            text(&b.id.to_string()),
            text(&b.organization),
            text(names.get(&b.organization).map_or("", String::as_str)),
            Cell::Int(b.size.bytes),
            time(b.created),
            time(b.size.completed),
            text(&b.id.to_string()),
            time(b.created.max(b.size.completed)),
        ];
        match rows.blocking_send(row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    app.store.each_bucket(scope, rows, each).await.map(drop)
}

async fn events(
    app: &App,
    scope: &Scope,
    organizations: BTreeMap<String, String>,
    rows: Rows,
) -> Result<(), StoreError> {
    let each = move |rows: &mut Rows, id: i64, _: i64, body: &str| {
        let Ok(e) = serde_json::from_str::<StreamableEvent>(body) else {
            return ControlFlow::Continue(());
        };
        let organization = organizations.get(&e.owner_organization_id);
        let row = vec![
            time(e.timestamp),
            Cell::Int(e.timestamp.saturating_mul(1000).div_euclid(DAY) * DAY),
            text(&e.type_string),
            text(&e.actor),
            text(organization.map_or("", String::as_str)),
            text(&e.resource_id),
            text(&id.to_string()),
            time(e.timestamp),
        ];
        match rows.blocking_send(row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let since = now() - RECENT;
    app.store
        .each_event(scope, i64::MAX, since, i64::MAX, rows, each)
        .await
        .map(drop)
}
