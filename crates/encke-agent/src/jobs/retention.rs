//! The retention pass: which snapshots go, and when a backup is followed by a pass (reference, section 16).

use super::backup::measure;
use super::{End, Job, SOURCE_TAG};
use crate::error::{AgentError, AgentResult};
use crate::{device, now};
use encke_api::constants::{
    BACKUPJOBAUTORETENTION_IMMEDIATE, BACKUPJOBAUTORETENTION_LESS_OFTEN, BACKUPJOBAUTORETENTION_MORE_OFTEN,
    RETENTIONMODE_DELETE_EXCEPT, RETENTIONMODE_KEEP_EVERYTHING,
    RETENTIONRANGE_FIRST_JOB_FOR_EACH_LAST_X_DAYS, RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_MONTHS,
    RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_WEEKS, RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_YEARS,
    RETENTIONRANGE_JOBS_SINCE, RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_DAY,
    RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_MONTH, RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_WEEK,
    RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_YEAR, RETENTIONRANGE_MOST_RECENT_X_JOBS,
    RETENTIONRANGE_NEWER_THAN_X,
};
use encke_api::types::{
    ContentMeasurement, ContentMeasurementComponent, RetentionPolicy, RetentionRange, UserProfileConfig,
};
use encke_repo::retention::{Policy, Range};
use encke_repo::{Id, MAX_GROUPS, PruneOptions, RepoError, Repository, Snapshot};
use jiff::{Timestamp, Zoned};
use std::collections::BTreeMap;

const DAY: i64 = 86_400;

/// Whether a backup is followed by a retention pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// No.
    None,
    /// If it fails nobody is bothered.
    Try,
    /// If it fails the job has failed.
    Must,
}

/// What a device can afford.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Power {
    /// Bytes of memory.
    pub memory: i64,
    /// Seconds since the start of the machine.
    pub uptime: i64,
}

impl Power {
    fn is_high(self) -> bool {
        const GIB: i64 = 1 << 30;
        // Linux counts as one of the three signs, two make a strong device; little memory is weak whatever else.
        self.memory > 2 * GIB && (self.uptime > 7 * DAY || self.memory > 8 * GIB)
    }
}

/// The table of the reference. `age` is the time since the last pass in seconds, nothing if there was none; `over` is
/// how many snapshots would go.
pub(super) fn need(level: i64, only_device: bool, power: Power, age: Option<i64>, over: usize) -> Need {
    use Need::{Must, None as No, Try};
    let often = match level {
        BACKUPJOBAUTORETENTION_IMMEDIATE => return Must,
        BACKUPJOBAUTORETENTION_MORE_OFTEN => true,
        BACKUPJOBAUTORETENTION_LESS_OFTEN => false,
        _ => only_device || power.is_high(),
    };
    let column = match over {
        0..=2 => 0,
        3..=9 => 1,
        10..=49 => 2,
        _ => 3,
    };
    let row = match age {
        Some(a) if a < DAY => 0,
        Some(a) if a < 14 * DAY => 1,
        Some(a) if a < 21 * DAY => 2,
        _ => 3,
    };
    if often {
        [
            [No, Try, Try, Must],
            [No, Try, Must, Must],
            [Try, Try, Must, Must],
            [Must; 4],
        ][row][column]
    } else {
        [
            [No, No, No, Try],
            [No, No, Try, Must],
            [No, Try, Try, Must],
            [Try, Must, Must, Must],
        ][row][column]
    }
}

fn range(range: &RetentionRange) -> Option<Range> {
    let count = |n: i64| u64::try_from(n).ok();
    Some(match range.type_ {
        RETENTIONRANGE_MOST_RECENT_X_JOBS => Range::MostRecent(count(range.jobs)?),
        RETENTIONRANGE_NEWER_THAN_X => Range::NewerThan(Timestamp::from_second(range.timestamp).ok()?),
        RETENTIONRANGE_JOBS_SINCE => Range::Since {
            days: count(range.days)?,
            weeks: count(range.weeks)?,
            months: count(range.months)?,
            years: count(range.years)?,
        },
        RETENTIONRANGE_FIRST_JOB_FOR_EACH_LAST_X_DAYS => Range::FirstOfDays(count(range.days)?),
        RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_MONTHS => Range::FirstOfMonths {
            months: count(range.months)?,
            day: u8::try_from(range.month_offset).ok()?,
        },
        RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_WEEKS => Range::FirstOfWeeks {
            weeks: count(range.weeks)?,
            weekday: u8::try_from(range.week_offset).ok()?,
        },
        RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_YEARS => Range::FirstOfYears {
            years: count(range.years)?,
            day: u16::try_from(range.year_offset).ok()?,
        },
        RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_DAY => Range::LastByDay(count(range.jobs)?),
        RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_WEEK => Range::LastByWeek(count(range.jobs)?),
        RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_MONTH => Range::LastByMonth(count(range.jobs)?),
        RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_YEAR => Range::LastByYear(count(range.jobs)?),
        _ => return None,
    })
}

/// A policy in the engine's words. What is not understood is an error: nothing is deleted on a guess.
fn policy(policy: &RetentionPolicy) -> AgentResult<Policy> {
    match policy.mode {
        // A vault that says nothing keeps everything.
        0 | RETENTIONMODE_KEEP_EVERYTHING => Ok(Policy::KeepEverything),
        RETENTIONMODE_DELETE_EXCEPT => {
            let ranges: Option<Vec<Range>> = policy.ranges.iter().map(range).collect();
            ranges.map(Policy::DeleteExcept).ok_or_else(|| {
                AgentError::Invalid("the retention policy has a range that this device does not know".into())
            })
        }
        other => Err(AgentError::Invalid(format!("retention mode {other} is unknown"))),
    }
}

/// The snapshots of a vault that its rules do not keep. Each item's are judged by themselves: by its own rule for this
/// vault, else by the vault's.
fn expired(
    profile: &UserProfileConfig,
    vault: &str,
    snapshots: Vec<Snapshot>,
    now: &Zoned,
) -> AgentResult<Vec<Id>> {
    let default = profile.destinations.get(vault).map(|v| &v.default_retention);
    let mut items: BTreeMap<String, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let item = snapshot.tag(SOURCE_TAG).unwrap_or_default().to_string();
        items.entry(item).or_default().push(snapshot);
    }
    let mut gone = Vec::new();
    for (item, snapshots) in &items {
        let own = profile.sources.get(item);
        let own = own.and_then(|s| s.override_destination_retention.get(vault));
        let Some(rule) = own.or(default) else { continue };
        gone.extend(policy(rule)?.expired(snapshots, now)?);
    }
    Ok(gone)
}

fn zoned(profile: &UserProfileConfig) -> Zoned {
    let own = device::time_zone();
    Timestamp::now().to_zoned(encke_api::schedule::zone([
        own.as_str(),
        profile.local_timezone.as_str(),
    ]))
}

/// A retention pass: deletes snapshots, frees what only they used, and measures what is left.
pub(super) fn pass(job: &Job, repo: &Repository, vault: &str) -> Result<(), End> {
    let profile = job.agent.profile()?;
    let snapshots = repo.snapshots()?;
    let all = snapshots.len();
    let gone = expired(&profile, vault, snapshots, &zoned(&profile))?;
    job.info(&format!(
        "Retention: {} of {all} snapshots are kept",
        all - gone.len()
    ));
    repo.delete_snapshots(&gone)?;
    free(job, repo)
}

/// Frees what no snapshot needs, and measures what is left.
pub(super) fn free(job: &Job, repo: &Repository) -> Result<(), End> {
    job.check_cancel()?;
    let began = now();
    let report = repo.prune(&PruneOptions::default(), &job.progress, &job.cancel)?;
    job.info(&format!(
        "Retention: {} bytes are in use; {} bytes freed, {} bytes will be when running backups can not need them any more",
        report.used_bytes,
        report.deleted_bytes,
        report.marked_bytes + report.waiting_bytes,
    ));
    if let Some(why) = &report.postponed {
        job.info(&format!("Retention: nothing was deleted yet: {why}"));
    }
    report.errors.iter().for_each(|e| job.warning(e));
    let unused = report.unused_bytes + report.marked_bytes + report.waiting_bytes;
    let mut components = components(&repo.snapshots()?, |groups| repo.measure(groups, &job.cancel))?;
    components.push(component(unused, Vec::new()));
    let mut outcome = job.outcome.lock();
    outcome.content = Some(ContentMeasurement {
        measure_started: began,
        measure_completed: now(),
        components,
        ..Default::default()
    });
    drop(outcome);
    job.detail.lock().destination_size_end = measure(repo)?;
    Ok(())
}

fn component(bytes: u64, used_by: Vec<String>) -> ContentMeasurementComponent {
    ContentMeasurementComponent {
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        used_by,
        ..Default::default()
    }
}

/// What is stored by who needs it: each item's newest snapshot (`CURRENT`) and its older ones (`HISTORIC`). Where there
/// are more than can be told apart, the rest is one (`TRUNCATED`).
fn components(
    snapshots: &[Snapshot],
    measure: impl FnOnce(&[Vec<Id>]) -> Result<BTreeMap<u64, u64>, RepoError>,
) -> Result<Vec<ContentMeasurementComponent>, RepoError> {
    let mut items: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        items
            .entry(snapshot.tag(SOURCE_TAG).unwrap_or_default())
            .or_default()
            .push(snapshot);
    }
    let (mut names, mut groups): (Vec<String>, Vec<Vec<Id>>) = (Vec::new(), Vec::new());
    for (item, mut snapshots) in items {
        snapshots.sort_by_key(|s| s.time);
        let newest = snapshots.pop();
        let of = |snapshots: &[&Snapshot]| snapshots.iter().map(|s| s.tree).collect::<Vec<Id>>();
        for (part, trees) in [("CURRENT", of(newest.as_slice())), ("HISTORIC", of(&snapshots))] {
            if trees.is_empty() {
                continue;
            }
            if groups.len() < MAX_GROUPS {
                names.push(format!("{item}/{part}"));
                groups.push(trees);
            } else {
                names[MAX_GROUPS - 1] = "TRUNCATED/*".into();
                groups[MAX_GROUPS - 1].extend(trees);
            }
        }
    }
    let measured = measure(&groups)?;
    let component = |(set, bytes): (u64, u64)| {
        let users = names.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1);
        component(bytes, users.map(|(_, name)| name.clone()).collect())
    };
    Ok(measured.into_iter().map(component).collect())
}

/// Follows a backup with a pass where the table says so.
pub(super) fn after_backup(job: &Job, repo: &Repository, vault: &str, level: i64) -> Result<(), End> {
    let profile = job.agent.profile()?;
    let Some(config) = profile.destinations.get(vault) else {
        return Ok(());
    };
    let over = match repo.snapshots().map_err(AgentError::from) {
        Ok(snapshots) => expired(&profile, vault, snapshots, &zoned(&profile)),
        Err(e) => Err(e),
    };
    let last = config.statistics.client_provided_content.measure_completed;
    let age = (last > 0).then(|| (now() - last).max(0));
    let counted = over.as_ref().map_or(0, Vec::len);
    let need = need(level, profile.devices.len() <= 1, device::power(), age, counted);
    if need == Need::None {
        return Ok(());
    }
    let ended = over.map_err(End::from).and_then(|_| pass(job, repo, vault));
    match ended {
        Err(End::Status(status, message)) if !job.cancel.is_cancelled() => {
            let text = format!("The retention pass failed: {message}");
            job.outcome.lock().retention_error = Some(message);
            if need == Need::Must {
                return Err(End::Status(status, text));
            }
            job.info(&text);
            Ok(())
        }
        ended => {
            job.outcome.lock().retention_error = Some(String::new());
            ended
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEAK: Power = Power {
        memory: 1 << 30,
        uptime: 30 * DAY,
    };
    const STRONG: Power = Power {
        memory: 16 << 30,
        uptime: 0,
    };

    #[test]
    fn a_pass_follows_a_backup_as_the_table_says() {
        use Need::{Must, None as No, Try};
        let table = |level, only, power| {
            [Some(0), Some(DAY), Some(14 * DAY), Some(21 * DAY), None]
                .map(|age| [0, 3, 10, 50].map(|over| need(level, only, power, age, over)))
        };
        let often = [
            [No, Try, Try, Must],
            [No, Try, Must, Must],
            [Try, Try, Must, Must],
            [Must, Must, Must, Must],
            [Must, Must, Must, Must],
        ];
        let seldom = [
            [No, No, No, Try],
            [No, No, Try, Must],
            [No, Try, Try, Must],
            [Try, Must, Must, Must],
            [Try, Must, Must, Must],
        ];
        assert_eq!(table(2, false, WEAK), often);
        assert_eq!(table(3, true, STRONG), seldom);
        assert_eq!(table(0, true, WEAK), often, "the only device of an account");
        assert_eq!(table(0, false, WEAK), seldom);
        assert_eq!(table(0, false, STRONG), often);
        assert_eq!(table(1, false, WEAK), [[Must; 4]; 5]);
    }

    #[test]
    fn what_is_not_understood_deletes_nothing() {
        let read = |mode, type_, jobs| {
            let ranges = vec![RetentionRange {
                type_,
                jobs,
                ..Default::default()
            }];
            policy(&RetentionPolicy {
                mode,
                ranges,
                ..Default::default()
            })
        };
        assert_eq!(read(801, 900, 1).unwrap(), Policy::KeepEverything);
        assert_eq!(
            read(802, 900, 7).unwrap(),
            Policy::DeleteExcept(vec![Range::MostRecent(7)])
        );
        assert!(read(802, 904, 7).is_err());
        assert!(read(802, 912, 7).is_err());
        assert!(read(802, 900, -1).is_err());
        assert!(read(803, 900, 1).is_err());
    }
}
