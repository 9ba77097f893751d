//! What is due when: a pure plan over rules, a clock and what was done before (reference, section 13). The running
//! scheduler asks it at each look at the clock.
//!
//! A run that is due is started up to [`LATEST_START`] seconds late; after that it is missed: the server reports it, and
//! the device makes up for it only where a rule says so.

use encke_api::schedule::{LATEST_START, delay, fingerprint, longest_delay, next_run};
use encke_api::types::BackupRuleConfig;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A clock that stands this many seconds before a run that was done already was put back: the plan begins anew.
const PUT_BACK: i64 = 3600;
/// A start of the agent within this many seconds after the machine's counts as the machine's.
pub const BOOT_TIME: i64 = 600;

/// What a plan is made for.
pub struct Scene<'a> {
    /// Unix seconds.
    pub now: i64,
    /// The device's own.
    pub zone: &'a TimeZone,
    /// The device's id: each delays its runs differently.
    pub device: &'a str,
    /// Rules that concern the device, by id.
    pub rules: &'a BTreeMap<String, BackupRuleConfig>,
    /// Longest delays in seconds that policy and server impose.
    pub delays: &'a [u64],
    /// Seconds since the machine started; set at the agent's first look alone.
    pub uptime: Option<i64>,
}

/// Why a rule is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time has come.
    Schedule,
    /// The machine has started.
    Boot,
    /// A run was missed while the machine was off or asleep.
    Missed,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rules to start.
    pub start: Vec<(String, Why)>,
    /// Runs that were missed: rule and time; only the first of several of one schedule.
    pub missed: Vec<(String, i64)>,
    /// When something is due next.
    pub next: Option<i64>,
    /// Schedules that make no sense: rule and reason.
    pub refused: Vec<(String, String)>,
}

/// What was done before; kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planner {
    rules: BTreeMap<String, Past>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    /// By schedule, told apart by content: everything up to this time is settled.
    schedules: BTreeMap<String, i64>,
    /// Whether the rule's last run was missed.
    missed: bool,
}

impl Planner {
    /// Looks at the clock. What the answer names is settled: nobody is told twice.
    pub fn look(&mut self, scene: &Scene) -> Plan {
        self.rules.retain(|id, _| scene.rules.contains_key(id));
        let mut plan = Plan::default();
        for (id, rule) in scene.rules {
            let past = self.rules.entry(id.clone()).or_default();
            if let Some(why) = look_at(scene, id, rule, past, &mut plan) {
                past.missed = false;
                plan.start.push((id.clone(), why));
            }
        }
        plan
    }

    /// Forgets what was due up to now, as for an account that may not back up.
    pub fn skip(&mut self, now: i64) {
        for past in self.rules.values_mut() {
            past.missed = false;
            past.schedules.values_mut().for_each(|settled| *settled = now);
        }
    }
}

fn look_at(
    scene: &Scene,
    id: &str,
    rule: &BackupRuleConfig,
    past: &mut Past,
    plan: &mut Plan,
) -> Option<Why> {
    let mut due = None;
    let mut kept = BTreeMap::new();
    for schedule in &rule.schedules {
        let print = fingerprint(schedule);
        // A schedule begins when the device first hears of it.
        let mut settled = past.schedules.get(&print).copied().unwrap_or(scene.now);
        if settled > scene.now + PUT_BACK {
            settled = scene.now;
        }
        let longest = longest_delay(schedule, scene.delays);
        let who = format!("{}/{id}/{print}", scene.device);
        let mut missed = None;
        loop {
            let time = match next_run(schedule, scene.zone, settled) {
                Ok(Some(time)) => time,
                Ok(None) => break,
                Err(e) => {
                    plan.refused.push((id.to_string(), e.to_string()));
                    break;
                }
            };
            let at = time + delay(&who, time, longest);
            if at > scene.now {
                plan.next = Some(plan.next.map_or(at, |next| next.min(at)));
                break;
            }
            settled = time;
            if scene.now - at <= LATEST_START {
                due = Some(Why::Schedule);
                continue;
            }
            missed.get_or_insert(time);
            // Of what lies further back nothing can be started any more, however much it is.
            settled = settled.max(scene.now - LATEST_START - longest - 1);
        }
        if let Some(time) = missed {
            past.missed = true;
            plan.missed.push((id.to_string(), time));
        }
        kept.insert(print, settled);
    }
    past.schedules = kept;
    let triggers = &rule.event_triggers;
    if due.is_none() && triggers.on_pc_boot && scene.uptime.is_some_and(|u| u < BOOT_TIME) {
        due = Some(Why::Boot);
    }
    if due.is_none() && triggers.on_pc_boot_if_last_job_missed && past.missed {
        due = Some(Why::Missed);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use encke_api::constants::{SCHEDULE_FREQUENCY_DAILY, SCHEDULE_FREQUENCY_PERIODIC};
    use encke_api::types::ScheduleConfig;

    const T: i64 = 1_700_000_000;

    struct Device {
        planner: Planner,
        rules: BTreeMap<String, BackupRuleConfig>,
        delays: Vec<u64>,
    }

    impl Device {
        fn new(schedules: Vec<ScheduleConfig>) -> Self {
            let rule = BackupRuleConfig {
                schedules,
                ..Default::default()
            };
            Self {
                planner: Planner::default(),
                rules: [("rule".to_string(), rule)].into(),
                delays: Vec::new(),
            }
        }

        fn every(seconds: u64) -> Self {
            Self::new(vec![ScheduleConfig {
                frequency_type: SCHEDULE_FREQUENCY_PERIODIC,
                seconds_past: seconds,
                offset: T,
                ..Default::default()
            }])
        }

        fn look(&mut self, now: i64) -> Plan {
            self.look_after(now, None)
        }

        fn look_after(&mut self, now: i64, uptime: Option<i64>) -> Plan {
            self.planner.look(&Scene {
                now,
                zone: &TimeZone::UTC,
                device: "device",
                rules: &self.rules,
                delays: &self.delays,
                uptime,
            })
        }
    }

    fn started(plan: &Plan) -> Vec<Why> {
        plan.start.iter().map(|(_, why)| *why).collect()
    }

    #[test]
    fn each_run_is_started_once_and_a_late_one_still() {
        let mut device = Device::every(3600);
        assert_eq!(device.look(T + 1).next, Some(T + 3600));
        assert_eq!(started(&device.look(T + 3599)), []);
        assert_eq!(started(&device.look(T + 3600)), [Why::Schedule]);
        assert_eq!(started(&device.look(T + 3601)), []);
        // A machine that was asleep for a while.
        assert_eq!(started(&device.look(T + 7200 + LATEST_START)), [Why::Schedule]);
        let late = device.look(T + 10_800 + LATEST_START + 1);
        assert_eq!(started(&late), []);
        assert_eq!(late.missed, [("rule".to_string(), T + 10_800)]);
        assert_eq!(device.look(T + 10_800 + LATEST_START + 2).missed, []);
    }

    #[test]
    fn a_year_asleep_is_one_missed_run_and_takes_no_time() {
        let mut device = Device::every(1);
        device.look(T);
        let plan = device.look(T + 365 * 86_400);
        assert_eq!(plan.missed, [("rule".to_string(), T + 1)]);
        // The seconds just past are made up for by one run.
        assert_eq!(started(&plan), [Why::Schedule]);
    }

    #[test]
    fn triggers_make_up_for_what_was_missed_and_run_at_boot() {
        let mut device = Device::every(86_400);
        device.look(T);
        let rule = device.rules.get_mut("rule").unwrap();
        rule.event_triggers.on_pc_boot_if_last_job_missed = true;
        assert_eq!(started(&device.look(T + 100_000)), [Why::Missed]);
        assert_eq!(started(&device.look(T + 100_001)), [], "once");
        let rule = device.rules.get_mut("rule").unwrap();
        rule.event_triggers.on_pc_boot = true;
        assert_eq!(started(&device.look(T + 100_002)), []);
        assert_eq!(started(&device.look_after(T + 100_003, Some(BOOT_TIME))), []);
        assert_eq!(started(&device.look_after(T + 100_004, Some(60))), [Why::Boot]);
    }

    #[test]
    fn a_clock_that_is_put_back_neither_repeats_a_run_nor_waits_for_years() {
        let mut device = Device::every(3600);
        device.look(T);
        assert_eq!(started(&device.look(T + 3600)), [Why::Schedule]);
        assert_eq!(started(&device.look(T + 3590)), []);
        assert_eq!(started(&device.look(T + 3600)), [], "the same hour again");
        // The clock ran ten years ahead for a while.
        device.look(T + 3650 * 86_400);
        assert_eq!(device.look(T + 5000).next, Some(T + 7200));
        assert_eq!(started(&device.look(T + 7200)), [Why::Schedule]);
    }

    #[test]
    fn an_edited_schedule_begins_anew_and_a_suspended_account_misses_nothing() {
        let mut device = Device::every(3600);
        device.look(T);
        device.rules.get_mut("rule").unwrap().schedules[0] = ScheduleConfig {
            frequency_type: SCHEDULE_FREQUENCY_DAILY,
            seconds_past: 60,
            ..Default::default()
        };
        assert_eq!(device.look(T + 90_000).missed, []);
        device.planner.skip(T + 500_000);
        assert_eq!(device.look(T + 500_000).missed, []);
    }

    #[test]
    fn a_random_delay_shifts_each_run_by_its_own() {
        let mut device = Device::every(3600);
        device.delays = vec![1800];
        device.look(T);
        let mut shifts = Vec::new();
        for second in T + 1..=T + 20 * 3600 + 1800 {
            if !device.look(second).start.is_empty() {
                shifts.push((second - T) % 3600);
            }
        }
        assert_eq!(shifts.len(), 20);
        assert!(shifts.iter().all(|s| *s <= 1800), "{shifts:?}");
        shifts.sort_unstable();
        shifts.dedup();
        assert!(shifts.len() > 15, "{shifts:?}");
        // After a restart the same delays are drawn.
        let kept = serde_json::to_string(&device.planner).unwrap();
        let again: Planner = serde_json::from_str(&kept).unwrap();
        assert_eq!(again, device.planner);
    }
}
