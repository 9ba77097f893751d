//! A week of schedules in seconds: real plans of devices and the real watch of a server over its real database, with a
//! clock that the test turns. In this week Europe puts its clocks back.

use encke_agent::schedule::{Planner, Scene};
use encke_api::constants::{
    JOB_CLASSIFICATION_BACKUP, JOB_STATUS_FAILED_SCHEDULEMISSED, JOB_STATUS_STOP_SUCCESS,
};
use encke_api::schedule::{EARLIEST_START, LATEST_START, delay, fingerprint, longest_delay, next_run};
use encke_api::types::{
    BackupJobDetail, BackupRuleConfig, DaysOfWeekConfig, DestinationConfig, DeviceConfig, HourSchedConfig,
    ScheduleConfig, SourceConfig, UserProfileConfig,
};
use encke_server::jobs::{Watch, report_missed};
use encke_server::{ServeOptions, Server};
use encke_store::{EventDraft, JobFilter, NewProfile, Scope};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-10-20 00:00 UTC.
const BEGIN: i64 = 1_792_454_400;
const END: i64 = BEGIN + 7 * DAY;
const DEVICES: u64 = 40;
const ZONES: [&str; 5] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "UTC",
];

/// Steady numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn schedule(&mut self) -> ScheduleConfig {
        let hour = |r: &mut Self| HourSchedConfig {
            hour: r.below(24),
            minutes: r.below(60),
            ..Default::default()
        };
        let frequency_type = 8011 + self.below(6);
        let day = |r: &mut Self| r.below(2) == 0;
        let seconds_past = 60
            * match frequency_type {
                8012 => self.below(60),
                8013 => self.below(7 * 1440),
                8015 => 60 + self.below(600),
                _ => self.below(1440),
            };
        ScheduleConfig {
            frequency_type,
            seconds_past,
            selected_day: 20 + self.below(7),
            selected_month: 10,
            random_delay_secs: [0, 0, 600, 3600][usize::try_from(self.below(4)).unwrap()],
            restrict_runtime: self.below(2) == 0,
            from_time: hour(self),
            to_time: hour(self),
            restrict_days: self.below(3) == 0,
            days_select: DaysOfWeekConfig {
                monday: day(self),
                wednesday: day(self),
                saturday: day(self),
                sunday: true,
                ..Default::default()
            },
            ..Default::default()
        }
    }

    /// Times at which something goes away, and for how long.
    fn gaps(&mut self, most: u64) -> Vec<(i64, i64)> {
        let mut gaps = Vec::new();
        for _ in 0..self.below(most) {
            let from = BEGIN + HOUR + i64::try_from(self.below(7 * 1440 * 60)).unwrap();
            let most = [30, 300, 3000][usize::try_from(self.below(3)).unwrap()];
            let length = i64::try_from(10 + self.below(most)).unwrap();
            gaps.push((from, from + length * MINUTE));
        }
        gaps
    }
}

fn is_in(gaps: &[(i64, i64)], time: i64) -> bool {
    gaps.iter().any(|(from, to)| (*from..*to).contains(&time))
}

/// Runs by item and time.
type Runs = BTreeSet<(String, i64)>;

struct Device {
    name: String,
    zone: &'static str,
    rules: BTreeMap<String, BackupRuleConfig>,
    off: Vec<(i64, i64)>,
    off_line: Vec<(i64, i64)>,
    planner: Planner,
    kept: String,
    next: i64,
    was_on: bool,
    to_report: Vec<BackupJobDetail>,
}

impl Device {
    fn new(n: u64) -> Self {
        let mut random = Random(n);
        let mut rule = |item: &str| BackupRuleConfig {
            source: item.into(),
            destination: "vault".into(),
            create_time: BEGIN,
            schedules: (0..1 + random.below(2)).map(|_| random.schedule()).collect(),
            ..Default::default()
        };
        let rules = [
            ("one".to_string(), rule("item1")),
            ("two".to_string(), rule("item2")),
        ]
        .into();
        Self {
            name: format!("device{n}"),
            zone: ZONES[usize::try_from(n).unwrap() % ZONES.len()],
            rules,
            // A fifth is never off, a fifth never off line.
            off: if n.is_multiple_of(5) {
                Vec::new()
            } else {
                random.gaps(8)
            },
            off_line: if n % 5 == 1 { Vec::new() } else { random.gaps(5) },
            planner: Planner::default(),
            kept: String::new(),
            next: 0,
            was_on: false,
            to_report: Vec::new(),
        }
    }

    fn profile(&self) -> UserProfileConfig {
        let item = || SourceConfig {
            owner_device: self.name.clone(),
            ..Default::default()
        };
        let device = DeviceConfig {
            registration_time: BEGIN,
            device_timezone: self.zone.into(),
            ..Default::default()
        };
        UserProfileConfig {
            username: self.name.clone(),
            create_time: BEGIN,
            sources: [("item1".to_string(), item()), ("item2".to_string(), item())].into(),
            destinations: [("vault".to_string(), DestinationConfig::default())].into(),
            devices: [(self.name.clone(), device)].into(),
            backup_rules: self.rules.clone(),
            ..Default::default()
        }
    }

    /// What the device does at one minute; the jobs that it reports.
    fn live(&mut self, now: i64, n: &mut u64) -> Vec<BackupJobDetail> {
        if is_in(&self.off, now) {
            if self.was_on {
                self.kept = serde_json::to_string(&self.planner).unwrap();
            }
            self.was_on = false;
            return Vec::new();
        }
        if !self.was_on && !self.kept.is_empty() {
            self.planner = serde_json::from_str(&self.kept).unwrap();
        }
        if !self.was_on || now >= self.next {
            let plan = self.planner.look(&Scene {
                now,
                zone: &TimeZone::get(self.zone).unwrap(),
                device: &self.name,
                rules: &self.rules,
                delays: &[],
                uptime: None,
            });
            assert_eq!(plan.refused, []);
            self.next = plan.next.unwrap_or(i64::MAX);
            for (rule, _) in plan.start {
                *n += 1;
                self.to_report.push(BackupJobDetail {
                    guid: format!("{:08x}-0000-4000-8000-000000000000", *n),
                    username: self.name.clone(),
                    device_id: self.name.clone(),
                    classification: JOB_CLASSIFICATION_BACKUP,
                    status: JOB_STATUS_STOP_SUCCESS,
                    start_time: now,
                    end_time: now + 1,
                    source_guid: self.rules[&rule].source.clone(),
                    destination_guid: "vault".into(),
                    ..Default::default()
                });
            }
        }
        self.was_on = true;
        if is_in(&self.off_line, now) {
            Vec::new()
        } else {
            std::mem::take(&mut self.to_report)
        }
    }

    /// What should happen, told once more and without any state: starts and missed runs by item.
    fn expected(&self, judged_at: i64) -> (Runs, Runs) {
        let (mut starts, mut due) = (BTreeSet::new(), Vec::new());
        let zone = TimeZone::get(self.zone).unwrap();
        for (id, rule) in &self.rules {
            for schedule in &rule.schedules {
                let longest = longest_delay(schedule, &[]);
                let who = format!("{}/{id}/{}", self.name, fingerprint(schedule));
                let mut at = BEGIN;
                while let Some(time) = next_run(schedule, &zone, at).unwrap().filter(|&t| t <= END) {
                    at = time;
                    let begin = time + delay(&who, time, longest);
                    let minute = begin + (BEGIN - begin).rem_euclid(MINUTE);
                    let mut awake = (minute..=begin + LATEST_START).step_by(60);
                    if let Some(start) = awake.find(|t| !is_in(&self.off, *t)).filter(|&t| t <= END) {
                        starts.insert((rule.source.clone(), start));
                    }
                    due.push((rule.source.clone(), time, time + longest + LATEST_START));
                }
            }
        }
        let is_missed = |(item, time, latest): &(String, i64, i64)| {
            let mut counting = starts.range((item.clone(), time - EARLIEST_START)..=(item.clone(), *latest));
            counting.next().is_none() && latest + 120 <= judged_at
        };
        let missed = due
            .iter()
            .filter(|d| is_missed(d))
            .map(|(item, time, _)| (item.clone(), *time));
        let missed = missed.collect();
        (starts, missed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_brings_the_jobs_that_were_promised_and_tells_each_missed_one_once() {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let options = ServeOptions {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        data_dir: folder.path().to_path_buf(),
        database: std::env::var("ENCKE_TEST_STORE")
            .is_ok_and(|kind| kind == "postgres")
            .then(crate::support::postgres::database),
        acme_directory: encke_server::DEFAULT_ACME_DIRECTORY.into(),
        reports: encke_server::ReportOptions::default(),
        portals: Vec::new(),
    };
    let server = Server::start(options).await.unwrap();
    let app = &server.app;
    let mut devices: Vec<Device> = (0..DEVICES).map(Device::new).collect();
    for device in &devices {
        let event = EventDraft {
            actor: String::new(),
            organization: String::new(),
            resource: device.name.clone(),
            kind: 4100,
            data: serde_json::Value::Null,
        };
        let new = NewProfile {
            profile: device.profile(),
            policy_hash: String::new(),
            event,
        };
        app.store.add_user(new).await.unwrap();
    }
    let mut watch = Watch::default();
    let (mut jobs, mut told) = (0, 0);
    report_missed(app, &watch, BEGIN).await.unwrap();
    for now in (BEGIN..=END).step_by(60) {
        for device in &mut devices {
            for job in device.live(now, &mut jobs) {
                app.store.report_job("", job).await.unwrap();
            }
        }
        if now % (10 * MINUTE) == 0 {
            told += report_missed(app, &watch, now).await.unwrap();
        }
        // The server is started anew each day.
        if now % DAY == 12 * HOUR {
            watch = Watch::default();
        }
    }
    // Everybody comes back at last.
    for device in &mut devices {
        for job in std::mem::take(&mut device.to_report) {
            app.store.report_job("", job).await.unwrap();
        }
    }
    told += report_missed(app, &watch, END).await.unwrap();
    assert_eq!(
        report_missed(app, &watch, END).await.unwrap(),
        0,
        "nothing is told twice"
    );

    let (mut all_starts, mut all_missed) = (0, 0);
    for device in &devices {
        let (starts, missed) = device.expected(END);
        let scope = Scope::User(device.name.clone());
        let found = app
            .store
            .each_job(
                &scope,
                JobFilter::All,
                Vec::new(),
                |out: &mut Vec<BackupJobDetail>, body| {
                    out.push(serde_json::from_str(body).unwrap());
                    ControlFlow::Continue(())
                },
            )
            .await
            .unwrap();
        let of = |missed: bool| {
            let wanted = found
                .iter()
                .filter(|j| (j.status == JOB_STATUS_FAILED_SCHEDULEMISSED) == missed);
            wanted
                .map(|j| (j.source_guid.clone(), j.start_time))
                .collect::<Vec<_>>()
        };
        let (ran, reported) = (of(false), of(true));
        let unique: BTreeSet<_> = ran.iter().cloned().collect();
        assert_eq!(ran.len(), unique.len(), "{}: a run was repeated", device.name);
        assert_eq!(unique, starts, "{} in {}: jobs", device.name, device.zone);
        let unique: BTreeSet<_> = reported.iter().cloned().collect();
        assert_eq!(reported.len(), unique.len(), "{}: told twice", device.name);
        assert_eq!(unique, missed, "{} in {}: missed", device.name, device.zone);
        all_starts += starts.len();
        all_missed += missed.len();
    }
    println!("{all_starts} jobs, {all_missed} missed, {told} told");
    assert!(all_starts > 2000 && all_missed > 300, "{all_starts} {all_missed}");
    // Runs of devices off line were told as missed first, and taken back when the device said that it ran.
    assert!(told > all_missed, "{told} {all_missed}");
}
