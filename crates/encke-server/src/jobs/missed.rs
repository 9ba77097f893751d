//! Missed backups: what devices' schedules promised and nobody ran (reference, section 13). The device runs the
//! schedules; the server only computes them as well, and looks whether a job came.

use crate::app::{App, keep_days, now};
use encke_api::constants::{JOB_CLASSIFICATION_BACKUP, JOB_STATUS_FAILED_SCHEDULEMISSED};
use encke_api::schedule::{LATEST_START, fingerprint, longest_delay, next_run, zone};
use encke_api::types::{BackupJobDetail, ScheduleConfig, UserProfileConfig};
use encke_store::{Scope, StoreError, StoreResult};
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Name of the duty in the store.
const DUTY: &str = "missed-backups";
/// How often schedules are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After its start a server gives its devices this long to come back and report.
const START_TIME: Duration = Duration::from_secs(180);
/// The report of a backup that began at the last moment takes this many seconds at most.
const REPORT_TIME: i64 = 120;
/// Most missed runs of one schedule told at one look.
const MAX_AT_ONCE: usize = 1000;

/// What accounts' schedules promise, kept from look to look.
#[derive(Default)]
pub struct Watch {
    accounts: Mutex<HashMap<String, Account>>,
    has_looked: AtomicBool,
}

/// What an account's schedules promise.
struct Account {
    hash: String,
    organization: String,
    promises: Vec<Promise>,
}

/// One schedule.
struct Promise {
    schedule: ScheduleConfig,
    print: String,
    rule: String,
    source: String,
    destination: String,
    device: String,
    zone: TimeZone,
    longest_delay: i64,
    /// Nothing was promised before this time (Unix seconds).
    since: i64,
}

/// A run that was due.
#[derive(Debug)]
struct Run {
    time: i64,
    /// The last moment at which a backup that begins counts for it.
    latest: i64,
}

impl Promise {
    /// The runs that can be judged at one time (Unix seconds) and could not yet be at an earlier one.
    fn runs(&self, judged: i64, now: i64) -> Vec<Run> {
        let grace = self.longest_delay + LATEST_START;
        let (from, to) = (judged - grace - REPORT_TIME, now - grace - REPORT_TIME);
        let mut at = from.max(self.since);
        let mut runs = Vec::new();
        while runs.len() < MAX_AT_ONCE {
            match next_run(&self.schedule, &self.zone, at) {
                Ok(Some(time)) if time <= to => {
                    runs.push(Run {
                        time,
                        latest: time + grace,
                    });
                    // One backup would have done for all that are due within the time a late one may take.
                    at = time + LATEST_START;
                }
                _ => break,
            }
        }
        runs
    }
}

/// Reads an account's promises. `known` tells since when a schedule is known; one that was never seen begins at `begin`.
fn promises(
    profile: &UserProfileConfig,
    known: impl Fn(&str, &str) -> Option<i64>,
    begin: i64,
    now: i64,
) -> Vec<Promise> {
    let mut out = Vec::new();
    if profile.is_suspended {
        return out;
    }
    for (id, rule) in &profile.backup_rules {
        let Some(source) = profile.sources.get(&rule.source) else {
            continue;
        };
        let Some(device) = profile.devices.get(&source.owner_device) else {
            continue;
        };
        if !profile.destinations.contains_key(&rule.destination) {
            continue;
        }
        let zone = zone([device.device_timezone.as_str(), profile.local_timezone.as_str()]);
        let delays = [
            profile.policy.random_delay_secs,
            profile.server_config.random_delay_secs,
        ];
        for schedule in &rule.schedules {
            let print = fingerprint(schedule);
            let seen = known(id, &print).unwrap_or(begin);
            // Whoever writes a rule stamps it, or does not, or in another unit.
            let written = rule.create_time.max(rule.modify_time);
            out.push(Promise {
                since: seen
                    .max(if written <= now { written } else { 0 })
                    .max(profile.create_time)
                    .max(device.registration_time)
                    .max(profile.last_suspended),
                longest_delay: longest_delay(schedule, &delays),
                schedule: schedule.clone(),
                print,
                rule: id.clone(),
                source: rule.source.clone(),
                destination: rule.destination.clone(),
                device: source.owner_device.clone(),
                zone: zone.clone(),
            });
        }
    }
    out
}

/// The same for the same run, so that a missed one is reported once whoever looks.
fn job_id(username: &str, promise: &Promise, time: i64) -> String {
    let text = format!(
        "missed\n{username}\n{}\n{}\n{time}",
        promise.source, promise.destination
    );
    let digest = Sha256::digest(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

impl Watch {
    /// Reads the accounts that have changed since the last look.
    async fn refresh(&self, app: &App, now: i64) -> StoreResult<()> {
        let hashes = app.store.profile_hashes().await?;
        let changed: Vec<String> = {
            let mut accounts = self.accounts.lock();
            let all: HashMap<&str, &str> = hashes.iter().map(|(u, h)| (u.as_str(), h.as_str())).collect();
            accounts.retain(|name, _| all.contains_key(name.as_str()));
            let is_new =
                |(name, hash): &&(String, String)| accounts.get(name).is_none_or(|a| a.hash != *hash);
            hashes
                .iter()
                .filter(is_new)
                .map(|(name, _)| name.clone())
                .collect()
        };
        // What is there when the server starts was there before.
        let begin = if self.has_looked.swap(true, Ordering::Relaxed) {
            now
        } else {
            0
        };
        for name in changed {
            let stored = match app.store.profile(&Scope::All, &name).await {
                Err(StoreError::NotFound) => continue,
                r => r?,
            };
            let Ok(profile) = stored.parse() else {
                tracing::error!(
                    user = name,
                    "a profile can not be read, its schedules are not watched"
                );
                continue;
            };
            let mut accounts = self.accounts.lock();
            let old = accounts.get(&name);
            let known = |rule: &str, print: &str| {
                let all = old.iter().flat_map(|a| &a.promises);
                let mut same = all.filter(|p| p.rule == rule && p.print == print);
                same.next().map(|p| p.since)
            };
            let promises = promises(&profile, known, begin, now);
            accounts.insert(
                name,
                Account {
                    hash: stored.hash,
                    organization: stored.organization,
                    promises,
                },
            );
        }
        Ok(())
    }
}

/// Reports the backups that should have run by `now` (Unix seconds) and did not, each once. Answers how many.
///
/// # Errors
/// The database fails; what was not reported then is reported at the next look.
pub async fn report_missed(app: &App, watch: &Watch, now: i64) -> StoreResult<usize> {
    watch.refresh(app, now).await?;
    let config = app.config();
    let role = &config.authentication_role;
    let judged = app.store.duty_done(DUTY).await?;
    let Some(judged) = judged.filter(|_| role.generate_missed_backup_events) else {
        // From now on.
        app.store.note_duty(DUTY, now).await?;
        return Ok(0);
    };
    let oldest = role
        .no_missed_backup_events_before
        .max(now - keep_days(&config) * 86_400);
    let mut missed = Vec::new();
    for (username, account) in watch.accounts.lock().iter() {
        for promise in &account.promises {
            for run in promise.runs(judged, now) {
                if run.time < oldest {
                    continue;
                }
                let job = BackupJobDetail {
                    guid: job_id(username, promise, run.time),
                    username: username.clone(),
                    classification: JOB_CLASSIFICATION_BACKUP,
                    status: JOB_STATUS_FAILED_SCHEDULEMISSED,
                    start_time: run.time,
                    end_time: run.time,
                    source_guid: promise.source.clone(),
                    destination_guid: promise.destination.clone(),
                    device_id: promise.device.clone(),
                    backup_rule_guid: promise.rule.clone(),
                    ..Default::default()
                };
                missed.push((account.organization.clone(), job, run.latest));
            }
        }
    }
    let mut count = 0;
    for (organization, job, latest) in missed {
        let (user, rule) = (job.username.clone(), job.backup_rule_guid.clone());
        if app.store.add_missed_job(&organization, job, latest).await? {
            tracing::info!(user, rule, "a backup was missed");
            count += 1;
        }
    }
    app.store.note_duty(DUTY, now).await?;
    Ok(count)
}

/// Watches until the server stops.
pub(super) async fn watch(app: Arc<App>) {
    let watch = Watch::default();
    let mut wait = START_TIME;
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = LOOK_EVERY;
        if let Err(e) = report_missed(&app, &watch, now()).await {
            tracing::warn!(error = %e, "missed backups could not be looked for");
        }
    }
}
