//! The server's copies of itself: at the times of their schedules, or when somebody asks, the whole metadata goes into one
//! ZIP file in a folder, from which a server can be started without this one (reference, section 20). Buckets are data,
//! not metadata: they are not in it.

use crate::app::{App, now, store_error};
use crate::archive::{Archive, failed, folder_of};
use crate::auth::Admin;
use crate::table::{Call, Envelope, Route, done};
use encke_api::constants::{
    RETENTIONMODE_DELETE_EXCEPT, RETENTIONMODE_KEEP_EVERYTHING,
    RETENTIONRANGE_FIRST_JOB_FOR_EACH_LAST_X_DAYS, RETENTIONRANGE_JOBS_SINCE,
    RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_DAY, RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_MONTH,
    RETENTIONRANGE_MOST_RECENT_X_JOBS, RETENTIONRANGE_NEWER_THAN_X,
};
use encke_api::form::NoParams;
use encke_api::schedule::{next_run, zone};
use encke_api::types::{RetentionPolicy, RetentionRange, SelfBackupStatistics, SelfBackupTarget};
use encke_api::{ApiError, ApiResult};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the clock is looked at: it may have been set, or the machine have slept.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// How the files are called, and what follows: the number of the target and the Unix second.
const PREFIX: &str = "encke-server-";
const SUFFIX: &str = ".zip";

/// What stands in each file for whoever needs it.
const README: &str = "This is a copy of an Encke server: its metadata (encke.db) and the key that opens its secrets \
(server.key).\n\nTo start a server from it, unpack it into an empty folder and run:\n\n    encke serve --data-dir FOLDER\n\n\
The data of Storage Role buckets is not in here; put the old server's folder 'buckets' beside these files if you have it.\n";

/// What became of the copies, and who asks for one.
pub struct SelfBackup {
    targets: Mutex<Vec<SelfBackupStatistics>>,
    /// Counts up with each wish for a copy.
    wanted: watch::Sender<u64>,
}

impl Default for SelfBackup {
    fn default() -> Self {
        Self {
            targets: Mutex::default(),
            wanted: watch::Sender::new(0),
        }
    }
}

impl SelfBackup {
    /// One for each target.
    #[must_use]
    pub fn statistics(&self) -> Vec<SelfBackupStatistics> {
        self.targets.lock().clone()
    }

    fn note(&self, target: usize, change: impl FnOnce(&mut SelfBackupStatistics)) {
        if let Some(statistics) = self.targets.lock().get_mut(target) {
            change(statistics);
        }
    }
}

/// Follows the schedules until the server stops.
pub(crate) fn start(app: &Arc<App>) {
    let targets = app.config().self_backup.targets.clone();
    *app.self_backup.targets.lock() = vec![SelfBackupStatistics::default(); targets.len()];
    for (number, target) in targets.into_iter().enumerate() {
        let wanted = app.self_backup.wanted.subscribe();
        tokio::spawn(keep(app.clone(), number, target, wanted));
    }
}

/// The next time one of the schedules is due.
fn next(target: &SelfBackupTarget, after: i64) -> Option<i64> {
    let zone = zone([target.schedule_timezone.as_str()]);
    let times = target.schedule.iter().filter_map(|schedule| {
        next_run(schedule, &zone, after)
            .inspect_err(|e| tracing::error!(error = %e, "a schedule of the self-backup can not be followed"))
            .ok()?
    });
    times.min()
}

async fn keep(app: Arc<App>, number: usize, target: SelfBackupTarget, mut wanted: watch::Receiver<u64>) {
    let mut due = next(&target, now());
    loop {
        if due.is_none_or(|due| due > now()) {
            tokio::select! {
                () = app.stopping.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY.min(wait(due))) => continue,
            }
        }
        app.self_backup.note(number, |s| s.current_run_start = now());
        let began = now();
        let result = run(&app, number, &target).await;
        app.self_backup.note(number, |s| {
            *s = SelfBackupStatistics {
                last_run_start: began,
                last_run_end: now(),
                last_run_success: result.is_ok(),
                last_run_size: result
                    .as_ref()
                    .map_or(0, |size| i64::try_from(*size).unwrap_or(i64::MAX)),
                ..Default::default()
            };
        });
        match result {
            Ok(bytes) => tracing::info!(target = number, bytes, "the server copied itself"),
            Err(e) => tracing::error!(
                target = number,
                error = e.message,
                "the server could not copy itself"
            ),
        }
        due = next(&target, now());
    }
}

/// How long until a time (Unix seconds).
fn wait(due: Option<i64>) -> Duration {
    let seconds = due.map_or(i64::MAX, |due| due - now());
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Makes one copy. Answers its bytes.
async fn run(app: &Arc<App>, number: usize, target: &SelfBackupTarget) -> ApiResult<u64> {
    // A target is its options and more.
    let value = serde_json::to_value(target).map_err(|_| ApiError::internal())?;
    let options: encke_api::types::SelfBackupExportOptions =
        serde_json::from_value(value).map_err(|_| ApiError::internal())?;
    if !options.restrict_to_single_org_id.is_empty() {
        return crate::organizations::export_of(app, &options).await;
    }
    let folder = folder_of(&options)?;
    let made = now();
    let (name, key) = (
        format!("{PREFIX}{number}-{made}{SUFFIX}"),
        options.encryption_key.clone(),
    );
    // Beside the database: a copy of the accounts lies nowhere else unencrypted.
    let copy = Copy(app.data_dir.join(format!("self-backup-{number}.db")));
    let _ = std::fs::remove_file(&copy.0);
    let copied = app.store.copy_to(copy.0.clone(), options.exclude_jobs_db);
    copied.await.map_err(store_error)?;
    let (data_dir, with_logs, policy) = (
        app.data_dir.clone(),
        options.include_server_logs,
        target.retention_policy.clone(),
    );
    let at = folder.clone();
    let written = tokio::task::spawn_blocking(move || {
        let mut archive = Archive::create(&at, &name, &key)?;
        archive.text("README.txt", README)?;
        archive.file("encke.db", &copy.0)?;
        archive.file("server.key", &data_dir.join("server.key"))?;
        let resources = data_dir.join("resources");
        for entry in std::fs::read_dir(&resources).into_iter().flatten().flatten() {
            let name = entry.file_name();
            archive.file(&format!("resources/{}", name.to_string_lossy()), &entry.path())?;
        }
        if with_logs {
            for (_, path) in crate::meta::log_files(&data_dir) {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                archive.file(&format!("logs/{name}"), &path)?;
            }
        }
        let size = archive.finish()?;
        tidy(&at, number, &policy, made)?;
        Ok(size)
    });
    written
        .await
        .map_err(|_| ApiError::internal())?
        .map_err(|e: io::Error| failed(&folder, &e))
}

/// A copy of the database that is gone with this.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes the copies of a target that its policy does not keep.
fn tidy(folder: &Path, number: usize, policy: &RetentionPolicy, now: i64) -> io::Result<()> {
    let prefix = format!("{PREFIX}{number}-");
    let mut copies: Vec<(i64, PathBuf)> = std::fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let made = name.strip_prefix(&prefix)?.strip_suffix(SUFFIX)?.parse().ok()?;
            Some((made, entry.path()))
        })
        .collect();
    copies.sort_unstable_by(|a, b| b.cmp(a));
    let times: Vec<i64> = copies.iter().map(|(made, _)| *made).collect();
    let Some(kept) = kept(policy, &times, now) else {
        tracing::error!("the self-backup's retention has a rule that is not known here; nothing is deleted");
        return Ok(());
    };
    for (made, path) in copies {
        if !kept.contains(&made) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Which of these times (newest first, Unix seconds) stay; nothing where a rule is not understood.
fn kept(policy: &RetentionPolicy, times: &[i64], now: i64) -> Option<HashSet<i64>> {
    match policy.mode {
        0 | RETENTIONMODE_KEEP_EVERYTHING => return Some(times.iter().copied().collect()),
        RETENTIONMODE_DELETE_EXCEPT => {}
        _ => return None,
    }
    // The newest always stays: a copy that deletes itself is none.
    let mut kept: HashSet<i64> = times.first().copied().into_iter().collect();
    for range in &policy.ranges {
        kept.extend(in_range(range, times, now)?);
    }
    Some(kept)
}

fn day(time: i64) -> Option<Date> {
    Some(Timestamp::from_second(time).ok()?.to_zoned(TimeZone::UTC).date())
}

fn in_range(range: &RetentionRange, times: &[i64], now: i64) -> Option<Vec<i64>> {
    let count = |n: i64| usize::try_from(n).ok();
    let since = |first: i64| times.iter().copied().filter(|t| *t >= first).collect();
    Some(match range.type_ {
        RETENTIONRANGE_MOST_RECENT_X_JOBS => times.iter().copied().take(count(range.jobs)?).collect(),
        RETENTIONRANGE_NEWER_THAN_X => since(range.timestamp),
        RETENTIONRANGE_JOBS_SINCE => {
            let span = Span::new()
                .try_days(range.days)
                .and_then(|s| s.try_weeks(range.weeks))
                .and_then(|s| s.try_months(range.months))
                .and_then(|s| s.try_years(range.years))
                .ok()?;
            let today = Timestamp::from_second(now).ok()?.to_zoned(TimeZone::UTC);
            since(today.checked_sub(span).ok()?.timestamp().as_second())
        }
        RETENTIONRANGE_FIRST_JOB_FOR_EACH_LAST_X_DAYS => {
            let first = day(now)?
                .checked_sub(Span::new().try_days(range.days).ok()?)
                .ok()?;
            let recent: Vec<i64> = times
                .iter()
                .copied()
                .filter(|t| day(*t).is_some_and(|d| d > first))
                .rev()
                .collect();
            one_for_each(&recent, usize::MAX, day)
        }
        RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_DAY => one_for_each(times, count(range.jobs)?, day),
        RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_MONTH => {
            one_for_each(times, count(range.jobs)?, |t| day(t).map(Date::first_of_month))
        }
        _ => return None,
    })
}

/// The first of the times of each day or month, of so many of them.
fn one_for_each(times: &[i64], most: usize, part: impl Fn(i64) -> Option<Date>) -> Vec<i64> {
    let mut seen = HashSet::new();
    let first = times.iter().copied().filter(|t| seen.insert(part(*t)));
    first.take(most).collect()
}

async fn start_now(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Envelope> {
    if app.self_backup.targets.lock().is_empty() {
        return Err(ApiError::bad_request(
            "The configuration names no place for copies (SelfBackup.Targets)",
        ));
    }
    app.self_backup.wanted.send_modify(|n| *n += 1);
    Ok(done())
}

/// Endpoints.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminSelfBackupStart",
            "/api/v1/admin/self-backup/start",
            "Makes the server copy itself to each of its places now. The version call tells what became of it.",
            start_now,
        )
        .top_level(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn policy(ranges: &[RetentionRange]) -> RetentionPolicy {
        RetentionPolicy {
            mode: RETENTIONMODE_DELETE_EXCEPT,
            ranges: ranges.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn what_no_rule_names_goes_and_what_is_not_understood_keeps_all() {
        let now = 20_000 * DAY + 10;
        // Two a day for ten days.
        let times: Vec<i64> = (0..20).map(|n| now - n * DAY / 2).collect();
        let of = |type_, jobs, days| RetentionRange {
            type_,
            jobs,
            days,
            ..Default::default()
        };
        let left = |ranges: &[RetentionRange]| {
            let mut left: Vec<i64> = kept(&policy(ranges), &times, now)?
                .into_iter()
                .map(|t| (now - t) * 2 / DAY)
                .collect();
            left.sort_unstable();
            Some(left)
        };
        assert_eq!(left(&[]), Some(vec![0]));
        assert_eq!(left(&[of(900, 3, 0)]), Some(vec![0, 1, 2]));
        assert_eq!(left(&[of(902, 0, 2)]), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(
            left(&[of(907, 3, 0)]),
            Some(vec![0, 1, 3]),
            "the newest of each day"
        );
        assert_eq!(left(&[of(903, 0, 2)]), Some(vec![0, 2]), "the first of each day");
        assert_eq!(left(&[of(899, 3, 0)]), None);
    }
}
