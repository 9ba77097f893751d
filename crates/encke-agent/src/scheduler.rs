//! Starts what is due, with or without the server. The clock on the wall decides; it is looked at often enough that
//! neither sleep nor a change of the clock is overlooked.

use crate::schedule::{Plan, Planner, Scene, Why};
use crate::settings::write_private;
use crate::{Agent, device, jobs, now};
use encke_api::live::ProfileAndHash;
use encke_api::types::BackupRuleConfig;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const FILE: &str = "schedule.json";
/// Longest time between two looks at the clock: after a sleep or a change of the clock nothing starts later than this.
const LOOK: Duration = Duration::from_secs(20);

/// Runs until the agent stops.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut planner = load(&agent.data_dir);
    let mut uptime = uptime();
    let mut refused = BTreeMap::new();
    loop {
        if agent.closing.load(Ordering::SeqCst) {
            // The program that comes next starts what is due.
            agent.profile_changed.notified().await;
            continue;
        }
        let account = agent.account.read().clone();
        if let Some(account) = account {
            let before = planner.clone();
            let plan = look(&agent, &mut planner, &account, uptime.take());
            // Kept before anything starts: a crash may lose a run, which the server will miss, but repeats none.
            if planner != before
                && let Err(e) = save(&agent.data_dir, &planner)
            {
                tracing::error!(error = %e, "the schedule's state can not be kept, nothing is started");
                planner = before;
                tokio::time::sleep(LOOK).await;
                continue;
            }
            complain(&plan, &mut refused);
            for (rule, why) in &plan.start {
                start(&agent, rule, *why);
            }
            let wait = plan.next.map_or(LOOK, |next| {
                Duration::from_secs((next - now()).max(0).unsigned_abs()).min(LOOK)
            });
            tokio::select! {
                // Seconds are counted from their beginning: not before it.
                () = tokio::time::sleep(wait + Duration::from_millis(50)) => {}
                () = agent.profile_changed.notified() => {}
            }
        } else {
            agent.profile_changed.notified().await;
        }
    }
}

fn look(agent: &Agent, planner: &mut Planner, account: &ProfileAndHash, uptime: Option<i64>) -> Plan {
    let settings = agent.settings();
    let profile = &account.profile;
    if profile.is_suspended {
        planner.skip(now());
        return Plan::default();
    }
    let rules: BTreeMap<String, BackupRuleConfig> = profile
        .backup_rules
        .iter()
        .filter(|(_, rule)| {
            let item = profile.sources.get(&rule.source);
            item.is_some_and(|i| i.owner_device == settings.device_id)
                && profile.destinations.contains_key(&rule.destination)
        })
        .map(|(id, rule)| (id.clone(), rule.clone()))
        .collect();
    let zone = encke_api::schedule::zone([device::time_zone().as_str(), profile.local_timezone.as_str()]);
    planner.look(&Scene {
        now: now(),
        zone: &zone,
        device: &settings.device_id,
        rules: &rules,
        delays: &[
            profile.policy.random_delay_secs,
            profile.server_config.random_delay_secs,
        ],
        uptime,
    })
}

/// Says what will never run, once.
fn complain(plan: &Plan, told: &mut BTreeMap<String, String>) {
    for (rule, why) in &plan.refused {
        if told.insert(rule.clone(), why.clone()).as_ref() != Some(why) {
            tracing::warn!(rule, why, "a schedule can not be followed");
        }
    }
    for (rule, time) in &plan.missed {
        tracing::info!(rule, time, "a run was missed");
    }
}

fn start(agent: &Arc<Agent>, rule: &str, why: Why) {
    tracing::info!(rule, ?why, "a rule is due");
    let (agent, rule) = (agent.clone(), rule.to_string());
    tokio::spawn(async move {
        if let Err(e) = jobs::start_rule(&agent, &rule).await {
            tracing::error!(error = %e, rule, "a rule that is due could not be started");
        }
    });
}

fn load(data_dir: &Path) -> Planner {
    let Ok(text) = std::fs::read(data_dir.join(FILE)) else {
        return Planner::default();
    };
    serde_json::from_slice(&text).unwrap_or_else(|e| {
        tracing::warn!(error = %e, "what the schedule knew can not be read, it begins anew");
        Planner::default()
    })
}

fn save(data_dir: &Path, planner: &Planner) -> crate::AgentResult<()> {
    let text = serde_json::to_vec(planner).map_err(|e| crate::AgentError::Protocol(e.to_string()))?;
    write_private(data_dir, FILE, &text)
}

/// Seconds since the machine started.
fn uptime() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.parse().ok()
}
