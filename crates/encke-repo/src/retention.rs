//! Retention: which snapshots stay. A pure function of their times, the policy, and the time and zone of the device;
//! nothing is read or deleted here.
//!
//! Days, weeks, months and years are those of the device's time zone. Where the published rules leave something open,
//! the reading that keeps more is taken: a month whose day has not come yet does not use up one of the last months.

use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::snapshot::Snapshot;
use jiff::civil::{Date, Weekday};
use jiff::{Span, Timestamp, Zoned};
use std::collections::BTreeMap;

/// What stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All (`RETENTIONMODE_KEEP_EVERYTHING`).
    KeepEverything,
    /// What at least one of the ranges keeps (`RETENTIONMODE_DELETE_EXCEPT`). No range keeps nothing.
    DeleteExcept(Vec<Range>),
}

/// One reason to keep snapshots. Counts may be as large as they like; then all snapshots are within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest snapshots (`RETENTIONRANGE_MOST_RECENT_X_JOBS`, 900).
    MostRecent(u64),
    /// Taken at this time or later (`RETENTIONRANGE_NEWER_THAN_X`, 901).
    NewerThan(Timestamp),
    /// Taken within the sum of these before now (`RETENTIONRANGE_JOBS_SINCE`, 902).
    Since {
        /// Calendar days.
        days: u64,
        /// Calendar weeks.
        weeks: u64,
        /// Calendar months.
        months: u64,
        /// Calendar years.
        years: u64,
    },
    /// The first snapshot of each of the last days, today being one (`RETENTIONRANGE_FIRST_JOB_FOR_EACH_LAST_X_DAYS`,
    /// 903).
    FirstOfDays(u64),
    /// The first snapshot on a day of each of the last months (`RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_MONTHS`, 905). Months
    /// that lack the day keep none.
    FirstOfMonths {
        /// How many.
        months: u64,
        /// Day of the month, 1 to 31.
        day: u8,
    },
    /// The first snapshot on a weekday of each of the last weeks (`RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_WEEKS`, 906).
    FirstOfWeeks {
        /// How many.
        weeks: u64,
        /// Day of the week, 0 (Sunday) to 6.
        weekday: u8,
    },
    /// The first snapshot of each of the last years, which begin on a day of the calendar's
    /// (`RETENTIONRANGE_FIRST_JOB_FOR_LAST_X_YEARS`, 911).
    FirstOfYears {
        /// How many.
        years: u64,
        /// Day of the year on which they begin, 1 to 366; 366 is the last day of any year, 0 means 1.
        day: u16,
    },
    /// The newest snapshot of each of the last days that have one (`RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_DAY`, 907).
    LastByDay(u64),
    /// The newest of each of the last weeks, Monday to Sunday, that have one
    /// (`RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_WEEK`, 908).
    LastByWeek(u64),
    /// The newest of each of the last months that have one (`RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_MONTH`, 909).
    LastByMonth(u64),
    /// The newest of each of the last years that have one (`RETENTIONRANGE_LAST_X_BACKUPS_ONE_FOR_EACH_YEAR`, 910).
    LastByYear(u64),
}

impl Policy {
    /// Tells for each of some times whether the snapshot of that time stays. Times may be in any order; of several at
    /// the same instant the later in the list counts as newer. A time after `now` is that of a wrong clock and counts
    /// as `now`.
    ///
    /// # Errors
    /// [`RepoError::Invalid`]: a range names a day that no calendar has. Nothing should be deleted then.
    ///
    /// ```
    /// use encke_repo::retention::{Policy, Range};
    /// let now: jiff::Zoned = "2024-03-10T12:00+01:00[Europe/Berlin]".parse().unwrap();
    /// let times = ["2024-03-08T09:00Z", "2024-03-09T09:00Z", "2024-03-09T18:00Z"].map(|t| t.parse().unwrap());
    /// let policy = Policy::DeleteExcept(vec![Range::LastByDay(1), Range::FirstOfDays(2)]);
    /// assert_eq!(policy.kept(&times, &now).unwrap(), [false, true, true]);
    /// ```
    pub fn kept(&self, times: &[Timestamp], now: &Zoned) -> RepoResult<Vec<bool>> {
        let Policy::DeleteExcept(ranges) = self else {
            return Ok(vec![true; times.len()]);
        };
        let mut kept = vec![false; times.len()];
        // Oldest first, with its place in the list and its day.
        let mut jobs: Vec<Job> = Vec::with_capacity(times.len());
        for (place, time) in times.iter().enumerate() {
            let shown = (*time).min(now.timestamp());
            let day = shown.to_zoned(now.time_zone().clone()).date();
            jobs.push(Job {
                time: *time,
                place,
                day,
            });
        }
        jobs.sort_by_key(|j| (j.time, j.place));
        for range in ranges {
            range.keep(&jobs, now, &mut |job| kept[job.place] = true)?;
        }
        Ok(kept)
    }

    /// Names of the snapshots that do not stay, oldest first.
    ///
    /// # Errors
    /// As [`Policy::kept`].
    pub fn expired(&self, snapshots: &[Snapshot], now: &Zoned) -> RepoResult<Vec<Id>> {
        let times: Vec<Timestamp> = snapshots.iter().map(|s| s.time).collect();
        let kept = self.kept(&times, now)?;
        let mut gone: Vec<&Snapshot> = snapshots
            .iter()
            .zip(kept)
            .filter(|(_, kept)| !kept)
            .map(|(s, _)| s)
            .collect();
        gone.sort_by_key(|s| (s.time, s.id));
        Ok(gone.iter().map(|s| s.id).collect())
    }
}

struct Job {
    time: Timestamp,
    place: usize,
    day: Date,
}

impl Range {
    fn keep(self, jobs: &[Job], now: &Zoned, keep: &mut dyn FnMut(&Job)) -> RepoResult<()> {
        let today = now.date();
        match self {
            Range::MostRecent(n) => jobs.iter().rev().take(count(n)).for_each(keep),
            Range::NewerThan(time) => jobs.iter().filter(|j| j.time >= time).for_each(keep),
            Range::Since {
                days,
                weeks,
                months,
                years,
            } => {
                let from = before(now, years, months, weeks, days).unwrap_or(Timestamp::MIN);
                jobs.iter().filter(|j| j.time >= from).for_each(keep);
            }
            Range::FirstOfDays(n) => {
                let distance = |j: &Job| Some(days_between(j.day, today));
                first_of_each(jobs, distance, n, keep);
            }
            Range::FirstOfWeeks { weeks, weekday } => {
                let weekday = Weekday::from_sunday_zero_offset(i8::try_from(weekday).unwrap_or(-1))
                    .map_err(|_| RepoError::Invalid(format!("retention: there is no weekday {weekday}")))?;
                let distance = |j: &Job| (j.day.weekday() == weekday).then(|| days_between(j.day, today) / 7);
                first_of_each(jobs, distance, weeks, keep);
            }
            Range::FirstOfMonths { months, day } => {
                let wanted = i8::try_from(day)
                    .ok()
                    .filter(|d| (1..=31).contains(d))
                    .ok_or_else(|| RepoError::Invalid(format!("retention: no month has a day {day}")))?;
                // The last month whose day has come.
                let newest = month(today) - i64::from(today.day() < wanted);
                let distance =
                    |j: &Job| (j.day.day() == wanted).then(|| u64::try_from(newest - month(j.day)).ok())?;
                first_of_each(jobs, distance, months, keep);
            }
            Range::FirstOfYears { years, day } => {
                if day > 366 {
                    return Err(RepoError::Invalid(format!("retention: no year has a day {day}")));
                }
                // The year that a day belongs to, when years begin on the day asked for.
                let year = |d: Date| {
                    let begin = i32::from(day.max(1)).min(i32::from(d.days_in_year()));
                    i64::from(d.year()) - i64::from(i32::from(d.day_of_year()) < begin)
                };
                let newest = year(today);
                let distance = |j: &Job| u64::try_from(newest - year(j.day)).ok();
                first_of_each(jobs, distance, years, keep);
            }
            Range::LastByDay(n) => last_of_each(jobs, |d| d, n, keep),
            Range::LastByWeek(n) => last_of_each(jobs, monday, n, keep),
            Range::LastByMonth(n) => last_of_each(jobs, month, n, keep),
            Range::LastByYear(n) => last_of_each(jobs, Date::year, n, keep),
        }
        Ok(())
    }
}

fn count(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Keeps the oldest of all jobs that are as many periods ago. `distance` answers nothing for a job that is in none.
fn first_of_each(
    jobs: &[Job],
    distance: impl Fn(&Job) -> Option<u64>,
    periods: u64,
    keep: &mut dyn FnMut(&Job),
) {
    let mut first: BTreeMap<u64, &Job> = BTreeMap::new();
    for job in jobs {
        if let Some(ago) = distance(job).filter(|&ago| ago < periods) {
            first.entry(ago).or_insert(job);
        }
    }
    first.into_values().for_each(keep);
}

/// Keeps the newest job of each of the last periods that have one.
fn last_of_each<P: Ord>(jobs: &[Job], period: impl Fn(Date) -> P, n: u64, keep: &mut dyn FnMut(&Job)) {
    let last: BTreeMap<P, &Job> = jobs.iter().map(|j| (period(j.day), j)).collect();
    last.into_values().rev().take(count(n)).for_each(keep);
}

/// The time that many calendar units before another; nothing if the calendar does not reach so far.
fn before(now: &Zoned, years: u64, months: u64, weeks: u64, days: u64) -> Option<Timestamp> {
    let signed = |n: u64| i64::try_from(n).ok();
    let span = Span::new()
        .try_years(signed(years)?)
        .and_then(|s| s.try_months(signed(months).unwrap_or(i64::MAX)))
        .and_then(|s| s.try_weeks(signed(weeks).unwrap_or(i64::MAX)))
        .and_then(|s| s.try_days(signed(days).unwrap_or(i64::MAX)))
        .ok()?;
    Some(now.checked_sub(span).ok()?.timestamp())
}

/// Months since the year 0.
fn month(day: Date) -> i64 {
    i64::from(day.year()) * 12 + i64::from(day.month()) - 1
}

/// The Monday of a day's week; the earliest day there is, in the calendar's first week.
fn monday(day: Date) -> Date {
    let since = i64::from(day.weekday().to_monday_zero_offset());
    day.checked_sub(Span::new().days(since)).unwrap_or(Date::MIN)
}

/// Days from one to a later one; 0 otherwise.
fn days_between(from: Date, to: Date) -> u64 {
    let days = (to - from).get_days();
    u64::try_from(days).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    /// What a range keeps, told once more and as plainly as can be: by going through days one by one, with a calendar
    /// of its own and seconds only.
    mod naive {
        /// Year, month, day of a number of days since 1970-01-01, by counting.
        pub fn civil(days: i64) -> (i64, i64, i64) {
            let (mut year, mut left) = (1970, days);
            while left < 0 {
                year -= 1;
                left += length(year);
            }
            while left >= length(year) {
                left -= length(year);
                year += 1;
            }
            let mut month = 1;
            while left >= month_length(year, month) {
                left -= month_length(year, month);
                month += 1;
            }
            (year, month, left + 1)
        }

        pub fn leap(year: i64) -> bool {
            (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
        }

        pub fn length(year: i64) -> i64 {
            if leap(year) { 366 } else { 365 }
        }

        pub fn month_length(year: i64, month: i64) -> i64 {
            match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            }
        }

        pub fn day_of_year(day: i64) -> i64 {
            let year = civil(day).0;
            (0..).find(|back| civil(day - back).0 < year).unwrap()
        }

        /// 0 is Sunday; 1970-01-01 was a Thursday.
        pub fn weekday(day: i64) -> i64 {
            (day + 4).rem_euclid(7)
        }

        /// The first of the jobs (seconds, local time, oldest first) on a day.
        pub fn first_on(jobs: &[i64], day: i64) -> Option<usize> {
            jobs.iter().position(|t| t.div_euclid(86400) == day)
        }

        pub fn newest_of_each(jobs: &[i64], count: u64, same: impl Fn(i64, i64) -> bool) -> Vec<usize> {
            let mut out: Vec<usize> = Vec::new();
            for (i, &t) in jobs.iter().enumerate().rev() {
                let day = t.div_euclid(86400);
                let taken = out.last().is_some_and(|&j| same(jobs[j].div_euclid(86400), day));
                if !taken && (out.len() as u64) < count {
                    out.push(i);
                }
                if !taken && out.last() != Some(&i) {
                    break;
                }
            }
            out
        }
    }

    /// The places that a range keeps of jobs in local seconds, oldest first and none after `now`.
    fn naive_kept(range: Range, jobs: &[i64], now: i64) -> Vec<usize> {
        use naive::{civil, first_on, newest_of_each, weekday};
        let today = now.div_euclid(86400);
        let monday = |d: i64| d - (weekday(d) + 6) % 7;
        match range {
            Range::MostRecent(n) => (0..jobs.len()).rev().take(n as usize).collect(),
            Range::NewerThan(t) => (0..jobs.len()).filter(|&i| jobs[i] >= t.as_second()).collect(),
            Range::Since {
                days,
                weeks,
                months,
                years,
            } => {
                // The day that many months ago, or the last of its month, then the days.
                let (year, month, day) = civil(today);
                let back = years as i64 * 12 + months as i64;
                let (year, month) = (
                    (year * 12 + month - 1 - back).div_euclid(12),
                    (year * 12 + month - 1 - back).rem_euclid(12) + 1,
                );
                let day = day.min(naive::month_length(year, month));
                let date = (0..)
                    .map(|b| today - b)
                    .find(|&d| civil(d) == (year, month, day))
                    .unwrap();
                let from = (date - days as i64 - 7 * weeks as i64) * 86400 + now.rem_euclid(86400);
                (0..jobs.len()).filter(|&i| jobs[i] >= from).collect()
            }
            Range::FirstOfDays(n) => (0..n as i64).filter_map(|b| first_on(jobs, today - b)).collect(),
            Range::FirstOfWeeks { weeks, weekday: w } => {
                let mut day = today;
                while weekday(day) != i64::from(w) {
                    day -= 1;
                }
                (0..weeks as i64)
                    .filter_map(|b| first_on(jobs, day - 7 * b))
                    .collect()
            }
            Range::FirstOfMonths { months, day } => {
                let (mut year, mut month, of_month) = civil(today);
                let mut out = Vec::new();
                let mut left = months;
                if of_month < i64::from(day) {
                    left += 1;
                }
                while left > 0 {
                    left -= 1;
                    let found = (today - 31 * (months as i64 + 3)..=today)
                        .find(|&d| civil(d) == (year, month, i64::from(day)));
                    out.extend(found.and_then(|d| first_on(jobs, d)));
                    (year, month) = if month == 1 {
                        (year - 1, 12)
                    } else {
                        (year, month - 1)
                    };
                }
                out
            }
            Range::FirstOfYears { years, day } => {
                let begins = |d: i64| {
                    let length = naive::length(civil(d).0);
                    naive::day_of_year(d) == i64::from(day.max(1)).min(length)
                };
                let mut out = Vec::new();
                let mut end = today;
                for _ in 0..years {
                    let begin = (0..).map(|b| end - b).find(|&d| begins(d)).unwrap();
                    out.extend(
                        jobs.iter()
                            .position(|t| (begin..=end).contains(&t.div_euclid(86400))),
                    );
                    end = begin - 1;
                }
                out
            }
            Range::LastByDay(n) => newest_of_each(jobs, n, |a, b| a == b),
            Range::LastByWeek(n) => newest_of_each(jobs, n, |a, b| monday(a) == monday(b)),
            Range::LastByMonth(n) => newest_of_each(jobs, n, |a, b| {
                (civil(a).0, civil(a).1) == (civil(b).0, civil(b).1)
            }),
            Range::LastByYear(n) => newest_of_each(jobs, n, |a, b| civil(a).0 == civil(b).0),
        }
    }

    fn range() -> impl Strategy<Value = Range> {
        let n = || 0u64..6;
        prop_oneof![
            n().prop_map(Range::MostRecent),
            (1_690_000_000i64..1_740_000_000)
                .prop_map(|t| Range::NewerThan(Timestamp::from_second(t).unwrap())),
            (0u64..40, n(), n(), 0u64..2).prop_map(|(days, weeks, months, years)| Range::Since {
                days,
                weeks,
                months,
                years
            }),
            (0u64..40).prop_map(Range::FirstOfDays),
            (n(), 1u8..=31).prop_map(|(months, day)| Range::FirstOfMonths { months, day }),
            (n(), 0u8..7).prop_map(|(weeks, weekday)| Range::FirstOfWeeks { weeks, weekday }),
            (0u64..3, 0u16..=366).prop_map(|(years, day)| Range::FirstOfYears { years, day }),
            n().prop_map(Range::LastByDay),
            n().prop_map(Range::LastByWeek),
            n().prop_map(Range::LastByMonth),
            n().prop_map(Range::LastByYear),
        ]
    }

    /// Backups as they are: some a day, then pauses; seconds before now.
    fn ages() -> impl Strategy<Value = Vec<i64>> {
        let gap = prop_oneof![0i64..90_000, 0i64..90_000, 80_000i64..3_000_000];
        prop::collection::vec(gap, 0..40).prop_map(|gaps| {
            let sum = |age: &mut i64, gap: &i64| {
                let now = *age;
                *age += gap;
                Some(now)
            };
            gaps.iter().scan(0, sum).collect()
        })
    }

    proptest! {
        #[test]
        fn keeps_what_the_naive_model_keeps(
            ranges in prop::collection::vec(range(), 0..4), ages in ages(), now in 1_700_000_000i64..1_740_000_000,
            offset in -12i32..=14,
        ) {
            // Seconds of local time for the model.
            let zone = TimeZone::fixed(jiff::tz::offset(i8::try_from(offset).unwrap()));
            let shift = i64::from(offset) * 3600;
            let times: Vec<i64> = ages.iter().rev().map(|age| now - age).collect();
            let local: Vec<i64> = times.iter().map(|t| t + shift).collect();
            let mut expected = vec![false; times.len()];
            for range in &ranges {
                let range = match *range {
                    Range::NewerThan(t) => Range::NewerThan(Timestamp::from_second(t.as_second() + shift).unwrap()),
                    r => r,
                };
                for i in naive_kept(range, &local, now + shift) {
                    expected[i] = true;
                }
            }
            let times: Vec<Timestamp> = times.iter().map(|&t| Timestamp::from_second(t).unwrap()).collect();
            let now = Timestamp::from_second(now).unwrap().to_zoned(zone);
            let kept = Policy::DeleteExcept(ranges).kept(&times, &now).unwrap();
            prop_assert_eq!(kept, expected);
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(
            range in range(), ages in ages(), now in 1_700_000_000i64..1_740_000_000, turn in any::<prop::sample::Index>(),
        ) {
            prop_assume!(!ages.is_empty());
            let mut times: Vec<Timestamp> = ages.iter().map(|a| Timestamp::from_second(now - a).unwrap()).collect();
            times.sort();
            times.dedup();
            let policy = Policy::DeleteExcept(vec![range]);
            let now = Timestamp::from_second(now).unwrap().to_zoned(TimeZone::UTC);
            let mut kept = policy.kept(&times, &now).unwrap();
            let turn = turn.index(times.len());
            times.rotate_left(turn);
            kept.rotate_left(turn);
            prop_assert_eq!(policy.kept(&times, &now).unwrap(), kept);
        }
    }

    fn kept(range: Range, now: &str, times: &[&str]) -> Vec<bool> {
        let now: Zoned = now.parse().unwrap();
        let times: Vec<Timestamp> = times.iter().map(|t| t.parse().unwrap()).collect();
        Policy::DeleteExcept(vec![range]).kept(&times, &now).unwrap()
    }

    #[test]
    fn days_are_those_of_the_zone_and_of_summer_time() {
        // 23:30 and 00:30 in Berlin are one day in UTC, both before and after the clocks change on 31 March.
        let times = [
            "2024-03-30T22:30Z",
            "2024-03-30T23:30Z",
            "2024-03-31T21:30Z",
            "2024-03-31T22:30Z",
        ];
        let now = "2024-04-01T12:00+02:00[Europe/Berlin]";
        assert_eq!(kept(Range::LastByDay(9), now, &times), [true, false, true, true]);
        assert_eq!(
            kept(Range::FirstOfDays(2), now, &times),
            [false, true, false, true]
        );
        // A day ago by the calendar is 23 hours ago.
        let since = Range::Since {
            days: 1,
            weeks: 0,
            months: 0,
            years: 0,
        };
        let now = "2024-03-31T12:00+02:00[Europe/Berlin]";
        assert_eq!(
            kept(since, now, &["2024-03-30T10:59:59Z", "2024-03-30T11:00Z"]),
            [false, true]
        );
    }

    #[test]
    fn a_month_that_lacks_the_day_keeps_none_and_one_whose_day_has_not_come_costs_none() {
        let times = [
            "2024-01-30T01:00Z",
            "2024-01-31T01:00Z",
            "2024-02-29T01:00Z",
            "2024-03-31T01:00Z",
        ];
        let range = |months| Range::FirstOfMonths { months, day: 31 };
        let now = "2024-04-02T00:00+00:00[UTC]";
        assert_eq!(kept(range(1), now, &times), [false, false, false, true]);
        assert_eq!(kept(range(2), now, &times), [false, false, false, true]);
        assert_eq!(kept(range(3), now, &times), [false, true, false, true]);
    }

    #[test]
    fn counts_without_end_keep_all() {
        let times = ["1971-01-01T00:00Z", "2024-01-01T00:00Z"];
        let now = "2024-04-02T00:00+00:00[UTC]";
        // The API's largest number, and more.
        for n in [1_125_899_906_842_624, u64::MAX] {
            let since = [[n, 0, 0, 0], [0, n, 0, 0], [0, 0, n, 0], [0, 0, 0, n]];
            let since = since.map(|[days, weeks, months, years]| Range::Since {
                days,
                weeks,
                months,
                years,
            });
            let others = [Range::MostRecent(n), Range::FirstOfDays(n), Range::LastByYear(n)];
            for range in since.into_iter().chain(others) {
                assert_eq!(kept(range, now, &times), [true, true], "{range:?}");
            }
        }
    }

    #[test]
    fn a_snapshot_of_the_future_counts_as_todays() {
        let times = ["2024-04-01T01:00Z", "2024-04-05T01:00Z"];
        let now = "2024-04-02T00:00+00:00[UTC]";
        assert_eq!(kept(Range::FirstOfDays(1), now, &times), [false, true]);
        assert_eq!(kept(Range::MostRecent(1), now, &times), [false, true]);
        assert_eq!(kept(Range::LastByDay(2), now, &times), [true, true]);
    }

    #[test]
    fn modes_and_days_that_do_not_exist() {
        let now: Zoned = "2024-04-02T00:00+00:00[UTC]".parse().unwrap();
        let times = [now.timestamp()];
        assert_eq!(Policy::KeepEverything.kept(&times, &now).unwrap(), [true]);
        assert_eq!(Policy::DeleteExcept(vec![]).kept(&times, &now).unwrap(), [false]);
        for range in [
            Range::FirstOfMonths { months: 1, day: 0 },
            Range::FirstOfMonths { months: 1, day: 32 },
            Range::FirstOfWeeks { weeks: 1, weekday: 7 },
            Range::FirstOfYears { years: 1, day: 367 },
        ] {
            let policy = Policy::DeleteExcept(vec![Range::MostRecent(9), range]);
            assert!(
                matches!(policy.kept(&times, &now), Err(RepoError::Invalid(_))),
                "{range:?}"
            );
        }
    }
}
