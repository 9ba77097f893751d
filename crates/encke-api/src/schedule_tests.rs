//! Schedules against a naive model: walk minute by minute and look at the clock on the wall.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

const MINUTE: i64 = 60;
/// With changes of a whole hour, of half an hour, at midnight, of a whole day, and none.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "America/St_Johns",
    "UTC",
];

/// The clock on the wall, minute by minute.
struct Wall {
    minutes: Vec<(i64, DateTime)>,
    first: HashMap<DateTime, i64>,
}

impl Wall {
    fn new(zone: &TimeZone, from: i64, to: i64) -> Self {
        let mut minutes = Vec::new();
        let mut first = HashMap::new();
        let mut t = from - from.rem_euclid(MINUTE);
        while t <= to {
            let shown = local(zone, t).unwrap();
            minutes.push((t, shown));
            first.entry(shown).or_insert(t);
            t += MINUTE;
        }
        Self { minutes, first }
    }

    /// When the clock first shows a time; or, if it never does, when it would have had nobody changed it.
    fn when(&self, shown: DateTime) -> Option<i64> {
        if let Some(t) = self.first.get(&shown) {
            return Some(*t);
        }
        let pair = self
            .minutes
            .windows(2)
            .find(|w| w[0].1 < shown && w[1].1 > shown)?;
        let ahead = shown.duration_since(pair[0].1).as_secs();
        Some(pair[0].0 + ahead)
    }

    fn dates(&self) -> BTreeSet<Date> {
        let mut dates: BTreeSet<Date> = self.minutes.iter().map(|(_, d)| d.date()).collect();
        // A day that was left out whole.
        let (first, last) = (*dates.first().unwrap(), *dates.last().unwrap());
        let mut d = first;
        while d < last {
            dates.insert(d);
            d = d.tomorrow().unwrap();
        }
        dates
    }
}

fn naive(s: &ScheduleConfig, zone: &TimeZone, from: i64, to: i64) -> BTreeSet<i64> {
    let past = i64::try_from(s.seconds_past).unwrap();
    let inside = |t: &i64| *t > from && *t <= to;
    match s.frequency_type {
        SCHEDULE_FREQUENCY_ONCEONLY => [past].into_iter().filter(inside).collect(),
        SCHEDULE_FREQUENCY_PERIODIC => (from + 1..=to)
            .filter(|t| (t - s.offset).rem_euclid(past) == 0)
            .collect(),
        SCHEDULE_FREQUENCY_HOURLY => {
            let wall = Wall::new(zone, from, to);
            let fits = |d: &DateTime| {
                let minute = i64::from(d.hour()) * 60 + i64::from(d.minute());
                let at = |h: &HourSchedConfig| i64::try_from(h.hour * 60 + h.minutes).unwrap();
                let (a, b) = (at(&s.from_time), at(&s.to_time));
                let in_window = !s.restrict_runtime
                    || a == b
                    || (0..=(b - a).rem_euclid(1440)).any(|i| (a + i) % 1440 == minute);
                let days = &s.days_select;
                let day = match d.date().weekday() {
                    jiff::civil::Weekday::Sunday => days.sunday,
                    jiff::civil::Weekday::Monday => days.monday,
                    jiff::civil::Weekday::Tuesday => days.tuesday,
                    jiff::civil::Weekday::Wednesday => days.wednesday,
                    jiff::civil::Weekday::Thursday => days.thursday,
                    jiff::civil::Weekday::Friday => days.friday,
                    jiff::civil::Weekday::Saturday => days.saturday,
                };
                i64::from(d.minute()) * 60 == past && in_window && (day || !s.restrict_days)
            };
            let found = wall.minutes.iter().filter(|(_, d)| fits(d)).map(|(t, _)| *t);
            found.filter(inside).collect()
        }
        _ => {
            let wall = Wall::new(zone, from - 3 * DAY, to + 3 * DAY);
            let wanted = |d: &Date| {
                let last = |day: i64| day.min(i64::from(d.days_in_month()));
                match s.frequency_type {
                    SCHEDULE_FREQUENCY_DAILY => true,
                    SCHEDULE_FREQUENCY_WEEKLY => {
                        let sunday = Date::constant(2023, 1, 1);
                        let days = sunday.until(*d).unwrap().get_days();
                        i64::from(days.rem_euclid(7)) == past / DAY
                    }
                    SCHEDULE_FREQUENCY_MONTHLY => {
                        i64::from(d.day()) == last(i64::try_from(s.selected_day).unwrap())
                    }
                    _ => {
                        i64::from(d.month()) == i64::try_from(s.selected_month).unwrap()
                            && i64::from(d.day()) == last(i64::try_from(s.selected_day).unwrap())
                    }
                }
            };
            let time = Time::midnight().saturating_add((past % DAY).seconds());
            let days = wall.dates().into_iter().filter(wanted);
            days.filter_map(|d| wall.when(d.to_datetime(time)))
                .filter(inside)
                .collect()
        }
    }
}

/// All runs that the module finds.
fn runs(s: &ScheduleConfig, zone: &TimeZone, from: i64, to: i64) -> BTreeSet<i64> {
    let mut out = BTreeSet::new();
    let mut at = from;
    while let Some(t) = next_run(s, zone, at).unwrap().filter(|&t| t <= to) {
        assert!(t > at, "time goes on");
        out.insert(t);
        at = t;
    }
    out
}

fn days() -> impl Strategy<Value = DaysOfWeekConfig> {
    proptest::array::uniform7(any::<bool>()).prop_map(|d| DaysOfWeekConfig {
        sunday: d[0],
        monday: d[1],
        tuesday: d[2],
        wednesday: d[3],
        thursday: d[4],
        friday: d[5],
        saturday: d[6],
        ..Default::default()
    })
}

prop_compose! {
    fn hour()(hour in 0u64..24, minutes in 0u64..60) -> HourSchedConfig {
        HourSchedConfig { hour, minutes, ..Default::default() }
    }
}

prop_compose! {
    fn schedules()(
        frequency in SCHEDULE_FREQUENCY_ONCEONLY..=SCHEDULE_FREQUENCY_YEARLY,
        minute in 0u64..(7 * 1440),
        // The hours in which clocks are changed come up often.
        early in any::<bool>(),
        offset in -100_000i64..100_000,
        restrict_runtime in any::<bool>(), from_time in hour(), to_time in hour(),
        restrict_days in any::<bool>(), days_select in days(),
        selected_month in 1u64..=12, selected_day in 1u64..=31,
        once in 0u64..(60 * 1440),
    ) -> (ScheduleConfig, u64) {
        let minute = if early { minute / 1440 * 1440 + minute % 240 } else { minute };
        let seconds_past = match frequency {
            SCHEDULE_FREQUENCY_ONCEONLY => once * 60,
            SCHEDULE_FREQUENCY_HOURLY => minute % 60 * 60,
            SCHEDULE_FREQUENCY_PERIODIC => minute * 7 + 1000,
            SCHEDULE_FREQUENCY_WEEKLY => minute * 60,
            _ => minute % 1440 * 60,
        };
        (ScheduleConfig {
            frequency_type: frequency, seconds_past, offset, restrict_runtime, from_time, to_time, restrict_days,
            days_select, selected_month, selected_day, ..Default::default()
        }, once)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_frequency_agrees_with_the_clock_on_the_wall(
        (mut schedule, once) in schedules(),
        zone in proptest::sample::select(&ZONES[..]),
        // 2009 to 2035.
        seed in 1_240_000_000i64..2_050_000_000,
        before in 0i64..(4 * 1440),
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let change = zone.following(Timestamp::from_second(seed).unwrap()).next();
        let change = change.map_or(seed, |t| t.timestamp().as_second());
        let from = change - before * MINUTE;
        if schedule.frequency_type == SCHEDULE_FREQUENCY_ONCEONLY {
            schedule.seconds_past = u64::try_from(from).unwrap() + once * 60;
        }
        let length = match schedule.frequency_type {
            SCHEDULE_FREQUENCY_YEARLY => 370,
            SCHEDULE_FREQUENCY_MONTHLY => 65,
            SCHEDULE_FREQUENCY_WEEKLY => 16,
            _ => 6,
        };
        let to = from + length * DAY;
        prop_assert_eq!(runs(&schedule, &zone, from, to), naive(&schedule, &zone, from, to));
    }

    #[test]
    fn delays_stay_within_their_limit_and_are_drawn_once(run in any::<i64>(), longest in -5i64..20_000) {
        let drawn = delay("device/rule", run, longest);
        prop_assert!((0..=longest.max(0)).contains(&drawn));
        prop_assert_eq!(drawn, delay("device/rule", run, longest));
    }

    #[test]
    fn no_schedule_hangs_or_panics(
        frequency in 8000u64..8020, seconds in any::<u64>(), offset in any::<i64>(), month in any::<u64>(),
        day in any::<u64>(), after in any::<i64>(), hour in any::<u64>(),
    ) {
        let schedule = ScheduleConfig {
            frequency_type: frequency, seconds_past: seconds, offset, selected_month: month, selected_day: day,
            restrict_runtime: true, restrict_days: true,
            from_time: HourSchedConfig { hour, minutes: hour, ..Default::default() }, ..Default::default()
        };
        let _ = next_run(&schedule, &TimeZone::get("Europe/Berlin").unwrap(), after);
        let small = ScheduleConfig { seconds_past: seconds % 3600, ..schedule };
        if let Ok(Some(next)) = next_run(&small, &TimeZone::UTC, after) {
            prop_assert!(next > after);
        }
    }
}

fn at(zone: &str, text: &str) -> i64 {
    let shown: DateTime = text.parse().unwrap();
    shown.in_tz(zone).unwrap().timestamp().as_second()
}

#[test]
fn the_cases_people_ask_about() {
    let next = |s: &ScheduleConfig, zone: &str, after: &str| {
        let zone_ = TimeZone::get(zone).unwrap();
        let t = next_run(s, &zone_, at(zone, after)).unwrap().unwrap();
        Timestamp::from_second(t)
            .unwrap()
            .to_zoned(zone_)
            .strftime("%Y-%m-%d %H:%M %Z")
            .to_string()
    };
    let berlin = "Europe/Berlin";
    let daily = |seconds_past| ScheduleConfig {
        frequency_type: SCHEDULE_FREQUENCY_DAILY,
        seconds_past,
        ..Default::default()
    };
    // Half past two is skipped in spring and comes twice in autumn.
    assert_eq!(
        next(&daily(9000), berlin, "2026-03-28 12:00"),
        "2026-03-29 03:30 CEST"
    );
    assert_eq!(
        next(&daily(9000), berlin, "2026-10-24 12:00"),
        "2026-10-25 02:30 CEST"
    );
    assert_eq!(
        next(&daily(9000), berlin, "2026-10-25 02:45"),
        "2026-10-26 02:30 CET"
    );
    let monthly = |seconds_past, selected_day| ScheduleConfig {
        frequency_type: SCHEDULE_FREQUENCY_MONTHLY,
        seconds_past,
        selected_day,
        ..Default::default()
    };
    assert_eq!(
        next(&monthly(0, 31), berlin, "2026-02-01 00:00"),
        "2026-02-28 00:00 CET"
    );
    // Clients of before `SelectedDay` count the days in seconds.
    assert_eq!(
        next(&monthly(86_400 * 9 + 60, 0), berlin, "2026-02-01 00:00"),
        "2026-02-10 00:01 CET"
    );
    let yearly = ScheduleConfig {
        frequency_type: SCHEDULE_FREQUENCY_YEARLY,
        selected_month: 2,
        selected_day: 29,
        ..Default::default()
    };
    assert_eq!(next(&yearly, berlin, "2026-03-01 00:00"), "2027-02-28 00:00 CET");
    assert_eq!(next(&yearly, berlin, "2027-03-01 00:00"), "2028-02-29 00:00 CET");
    // A window past midnight, on Mondays alone.
    let night = ScheduleConfig {
        frequency_type: SCHEDULE_FREQUENCY_HOURLY,
        seconds_past: 600,
        restrict_runtime: true,
        from_time: HourSchedConfig {
            hour: 22,
            ..Default::default()
        },
        to_time: HourSchedConfig {
            hour: 2,
            ..Default::default()
        },
        restrict_days: true,
        days_select: DaysOfWeekConfig {
            monday: true,
            ..Default::default()
        },
        ..Default::default()
    };
    assert_eq!(next(&night, berlin, "2026-11-23 01:30"), "2026-11-23 22:10 CET");
    assert_eq!(next(&night, berlin, "2026-11-23 23:30"), "2026-11-30 00:10 CET");
    // A schedule that leaves nothing is never due.
    let never = ScheduleConfig {
        days_select: Default::default(),
        ..night
    };
    assert_eq!(next_run(&never, &TimeZone::UTC, 0), Ok(None));
    assert_eq!(
        next_run(&daily(86_400), &TimeZone::UTC, 0),
        Err(ScheduleError::Seconds(86_400))
    );
    let unknown = ScheduleConfig {
        frequency_type: 8017,
        ..Default::default()
    };
    assert_eq!(
        next_run(&unknown, &TimeZone::UTC, 0),
        Err(ScheduleError::Frequency(8017))
    );
}
