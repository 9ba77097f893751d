//! When schedules are due (reference, section 13). Pure: the device's scheduler and the server's watch over missed
//! backups ask the same functions.
//!
//! Where the published API leaves a case open, this is the choice:
//!
//! - Times of day are what the device's clock shows. A time that is skipped in spring is due as if the clock had not
//!   been changed yet; one that comes twice in autumn is due the first time. Hourly schedules are due each time the
//!   clock shows their minute.
//! - A day that a month does not have is due on the month's last day: no backup would be worse than an early one.
//! - `SelectedDay` and `SelectedMonth` count from 1; 0 means that `SecondsPast` holds the day as well.
//! - A window whose ends are equal is the whole day; both ends belong to it; it may reach past midnight.

use crate::constants::{
    SCHEDULE_FREQUENCY_DAILY, SCHEDULE_FREQUENCY_HOURLY, SCHEDULE_FREQUENCY_MONTHLY,
    SCHEDULE_FREQUENCY_ONCEONLY, SCHEDULE_FREQUENCY_PERIODIC, SCHEDULE_FREQUENCY_WEEKLY,
    SCHEDULE_FREQUENCY_YEARLY,
};
use crate::types::{DaysOfWeekConfig, HourSchedConfig, ScheduleConfig};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use sha2::{Digest as _, Sha256};

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
/// Longest random delay in seconds that a schedule may ask for: five hours.
pub const MAX_RANDOM_DELAY: u64 = 18_000;
/// A device that was busy or asleep starts a backup up to this many seconds late; after that it is missed.
pub const LATEST_START: i64 = 900;
/// A job that began this many seconds before its time still counts for it.
pub const EARLIEST_START: i64 = 300;
/// Hours looked at before an hourly schedule whose window leaves none is given up: two weeks and the change of the clock.
const MAX_HOURS: usize = 16 * 24;
/// Days looked at before a schedule is given up; a yearly one comes within two years.
const MAX_DAYS: usize = 800;

/// Why a schedule is never due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The frequency is none of the published ones.
    #[error("the schedule's frequency {0} is unknown")]
    Frequency(u64),
    /// `SecondsPast` is out of range for the frequency.
    #[error("the schedule's {0} seconds are out of range")]
    Seconds(u64),
}

/// A schedule's time zone: the first of these names that is one, else UTC.
#[must_use]
pub fn zone<'a>(names: impl IntoIterator<Item = &'a str>) -> TimeZone {
    names
        .into_iter()
        .filter(|n| !n.is_empty())
        .find_map(|n| TimeZone::get(n).ok())
        .unwrap_or(TimeZone::UTC)
}

/// The first time after `after` (both Unix seconds) at which a schedule is due, without random delay; nothing when it
/// never is again.
///
/// # Errors
/// The schedule makes no sense.
pub fn next_run(
    schedule: &ScheduleConfig,
    zone: &TimeZone,
    after: i64,
) -> Result<Option<i64>, ScheduleError> {
    let past =
        i64::try_from(schedule.seconds_past).map_err(|_| ScheduleError::Seconds(schedule.seconds_past))?;
    let below = |limit: i64| {
        if past < limit {
            Ok(())
        } else {
            Err(ScheduleError::Seconds(schedule.seconds_past))
        }
    };
    match schedule.frequency_type {
        SCHEDULE_FREQUENCY_ONCEONLY => Ok(Some(past).filter(|&t| t > after)),
        SCHEDULE_FREQUENCY_PERIODIC => {
            if past == 0 {
                return Err(ScheduleError::Seconds(0));
            }
            let offset = schedule.offset.rem_euclid(past);
            let periods = after.saturating_sub(offset).div_euclid(past) + 1;
            Ok(periods.checked_mul(past).and_then(|t| t.checked_add(offset)))
        }
        SCHEDULE_FREQUENCY_HOURLY => {
            below(HOUR)?;
            Ok(next_hour(schedule, zone, past, after))
        }
        SCHEDULE_FREQUENCY_DAILY => {
            below(DAY)?;
            Ok(next_day(zone, past, after, |_| true))
        }
        SCHEDULE_FREQUENCY_WEEKLY => {
            below(7 * DAY)?;
            let day = past / DAY;
            Ok(next_day(zone, past % DAY, after, |d| {
                i64::from(d.weekday().to_sunday_zero_offset()) == day
            }))
        }
        SCHEDULE_FREQUENCY_MONTHLY => {
            below(31 * DAY)?;
            let day = selected(schedule.selected_day, past / DAY + 1);
            Ok(next_day(zone, past % DAY, after, |d| is_day(d, day)))
        }
        SCHEDULE_FREQUENCY_YEARLY => {
            below(366 * DAY)?;
            if schedule.selected_month == 0 && schedule.selected_day == 0 {
                let day = past / DAY + 1;
                return Ok(next_day(zone, past % DAY, after, |d| {
                    i64::from(d.day_of_year()) == day.min(i64::from(d.days_in_year()))
                }));
            }
            let month = selected(schedule.selected_month, 1);
            let day = selected(schedule.selected_day, past / DAY + 1);
            Ok(next_day(zone, past % DAY, after, |d| {
                i64::from(d.month()) == month.min(12) && is_day(d, day)
            }))
        }
        other => Err(ScheduleError::Frequency(other)),
    }
}

fn selected(value: u64, otherwise: i64) -> i64 {
    match i64::try_from(value).unwrap_or(i64::MAX) {
        0 => otherwise,
        v => v,
    }
}

/// Whether it is a month's day of this number, or the last one of a month that has fewer.
fn is_day(date: Date, day: i64) -> bool {
    i64::from(date.day()) == day.min(i64::from(date.days_in_month()))
}

/// The first wanted day's time of day after a moment.
fn next_day(zone: &TimeZone, seconds: i64, after: i64, wanted: impl Fn(Date) -> bool) -> Option<i64> {
    let time = Time::midnight().saturating_add(seconds.seconds());
    // A time that was skipped at midnight belongs to the day before.
    let mut date = local(zone, after)?.date().checked_sub(1.day()).ok()?;
    for _ in 0..MAX_DAYS {
        if wanted(date) {
            let shown = zone.to_ambiguous_timestamp(date.to_datetime(time));
            let at = shown.compatible().ok()?.as_second();
            if at > after {
                return Some(at);
            }
        }
        date = date.tomorrow().ok()?;
    }
    None
}

fn local(zone: &TimeZone, at: i64) -> Option<DateTime> {
    Some(zone.to_datetime(Timestamp::from_second(at).ok()?))
}

fn next_hour(schedule: &ScheduleConfig, zone: &TimeZone, seconds: i64, after: i64) -> Option<i64> {
    let mut from = after.checked_add(1)?;
    for _ in 0..MAX_HOURS {
        let start = Timestamp::from_second(from).ok()?;
        let offset = i64::from(zone.to_offset(start).seconds());
        let at = from + (seconds - (from + offset)).rem_euclid(HOUR);
        // The clock may be changed before that.
        let change = zone.following(start).next().map(|t| t.timestamp().as_second());
        if let Some(change) = change.filter(|&c| c <= at && c > from) {
            from = change;
            continue;
        }
        if is_allowed(schedule, local(zone, at)?) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// Whether an hourly schedule may run at this time of the device's clock.
fn is_allowed(schedule: &ScheduleConfig, at: DateTime) -> bool {
    if schedule.restrict_days && !has_day(&schedule.days_select, at.date()) {
        return false;
    }
    if !schedule.restrict_runtime {
        return true;
    }
    let minutes = |t: &HourSchedConfig| t.hour.saturating_mul(60).saturating_add(t.minutes);
    let (from, to) = (minutes(&schedule.from_time), minutes(&schedule.to_time));
    let now = u64::from(at.hour().unsigned_abs()) * 60 + u64::from(at.minute().unsigned_abs());
    match from.cmp(&to) {
        std::cmp::Ordering::Equal => true,
        std::cmp::Ordering::Less => (from..=to).contains(&now),
        std::cmp::Ordering::Greater => now >= from || now <= to,
    }
}

fn has_day(days: &DaysOfWeekConfig, date: Date) -> bool {
    [
        days.sunday,
        days.monday,
        days.tuesday,
        days.wednesday,
        days.thursday,
        days.friday,
        days.saturday,
    ][usize::from(date.weekday().to_sunday_zero_offset().unsigned_abs())]
}

/// The longest delay of a schedule's runs in seconds: its own, the policy's or the server's, whichever is longest.
#[must_use]
pub fn longest_delay(schedule: &ScheduleConfig, others: &[u64]) -> i64 {
    let longest = others.iter().copied().fold(schedule.random_delay_secs, u64::max);
    i64::try_from(longest.min(MAX_RANDOM_DELAY)).unwrap_or(0)
}

/// By how many seconds a run is delayed, from 0 to `longest`. The same on each call, so that a restart draws no other;
/// different for each run and for each device (`who`).
#[must_use]
pub fn delay(who: &str, run: i64, longest: i64) -> i64 {
    if longest <= 0 {
        return 0;
    }
    let digest = Sha256::digest(format!("{who}\n{run}").as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    i64::try_from(u64::from_be_bytes(number) % (longest.unsigned_abs() + 1)).unwrap_or(0)
}

/// What tells one schedule from another, and changes when it is edited.
#[must_use]
pub fn fingerprint(schedule: &ScheduleConfig) -> String {
    let text = serde_json::to_vec(schedule).unwrap_or_default();
    let digest = Sha256::digest(&text);
    let mut out = String::with_capacity(16);
    for byte in &digest[..8] {
        out += &format!("{byte:02x}");
    }
    out
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
