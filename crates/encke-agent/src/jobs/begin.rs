//! What becomes a job: rules, single backups, restores.

use super::{End, Job, backup, new_job, restore, start};
use crate::Agent;
use crate::error::{AgentError, AgentResult};
use encke_api::constants::{
    JOB_CLASSIFICATION_BACKUP, JOB_CLASSIFICATION_RESTORE, JOB_STATUS_FAILED_ERROR, JOB_STATUS_FAILED_QUOTA,
    JOB_STATUS_FAILED_SKIPALREADYRUNNING, JOB_STATUS_FAILED_TIMEOUT, JOB_STATUS_RUNNING_TRYAGAIN,
};
use encke_api::types::{BackupJobAdvancedOptions, BackupRuleEventTriggers, RestoreJobAdvancedOptions};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Minutes until another try, where a rule says nothing.
const RETRY_MINUTES: u64 = 30;
/// Longest pause before another try, in minutes: a week.
const MAX_RETRY_MINUTES: u64 = 7 * 24 * 60;
/// Most tries after the first.
const MAX_RETRIES: u64 = 100;

/// How often a failed backup is tried again, and after how long.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Retries {
    count: u64,
    minutes: u64,
}

impl Retries {
    fn of(triggers: &BackupRuleEventTriggers) -> Self {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        if !triggers.on_last_job_fail_do_retry {
            return Self::default();
        }
        Self {
            count: or(triggers.last_job_fail_do_retry_count, 1).min(MAX_RETRIES),
            minutes: or(triggers.last_job_fail_do_retry_time, RETRY_MINUTES).min(MAX_RETRY_MINUTES),
        }
    }
}

/// Backs up, and tries again where the rule says so.
fn back_up(job: &Arc<Job>, options: &BackupJobAdvancedOptions, retries: Retries) -> Result<(), End> {
    for done in 0.. {
        let ended = backup::run(job, options);
        let Err(End::Status(status, message)) = ended else {
            return ended;
        };
        let failed = [
            JOB_STATUS_FAILED_TIMEOUT,
            JOB_STATUS_FAILED_ERROR,
            JOB_STATUS_FAILED_QUOTA,
        ]
        .contains(&status);
        if !failed || done >= retries.count || job.cancel.is_cancelled() {
            return Err(End::Status(status, message));
        }
        job.log("E", &message);
        job.info(&format!(
            "Trying again in {} minutes ({} of {})",
            retries.minutes,
            done + 1,
            retries.count
        ));
        job.ending.store(false, Ordering::SeqCst);
        job.detail.lock().retry_count += 1;
        job.wait(
            Duration::from_secs(60 * retries.minutes),
            JOB_STATUS_RUNNING_TRYAGAIN,
        )?;
    }
    Ok(())
}

pub(crate) async fn start_rule(agent: &Arc<Agent>, rule: &str) -> AgentResult<Value> {
    let config = agent.profile()?.backup_rules.remove(rule);
    let c = config.ok_or_else(|| AgentError::Invalid(format!("the account has no backup rule '{rule}'")))?;
    let options = BackupJobAdvancedOptions {
        skip_already_running: c.skip_already_running,
        stop_after: c.stop_after,
        limit_vault_speed_bps: c.limit_vault_speed_bps,
        reduce_disk_concurrency: c.reduce_disk_concurrency,
        use_on_disk_indexes: c.use_on_disk_indexes,
        allow_zero_files_success: c.allow_zero_files_success,
        auto_retention_level: c.auto_retention_level,
        concurrency_count: c.concurrency_count,
        log_level: c.log_level,
        tags: c.tags,
        ..Default::default()
    };
    let retries = Retries::of(&c.event_triggers);
    begin(agent, c.source, c.destination, options, rule.to_string(), retries).await
}

pub(crate) async fn start_backup(
    agent: &Arc<Agent>,
    source: String,
    destination: String,
    options: BackupJobAdvancedOptions,
) -> AgentResult<Value> {
    begin(
        agent,
        source,
        destination,
        options,
        String::new(),
        Retries::default(),
    )
    .await
}

async fn begin(
    agent: &Arc<Agent>,
    source: String,
    destination: String,
    options: BackupJobAdvancedOptions,
    rule: String,
    retries: Retries,
) -> AgentResult<Value> {
    let profile = agent.profile()?;
    let item = profile.sources.get(&source);
    let item =
        item.ok_or_else(|| AgentError::Invalid(format!("the account has no Protected Item '{source}'")))?;
    if item.owner_device != agent.settings().device_id {
        return Err(AgentError::Invalid(
            "the Protected Item belongs to another device".into(),
        ));
    }
    if !profile.destinations.contains_key(&destination) {
        return Err(AgentError::Invalid(format!(
            "the account has no Storage Vault '{destination}'"
        )));
    }
    let conflict = agent.jobs.lock().same(&source, &destination);
    let job = new_job(
        agent,
        JOB_CLASSIFICATION_BACKUP,
        &source,
        &destination,
        options.stop_after,
    );
    {
        let mut d = job.detail.lock();
        d.backup_rule_guid = rule;
        d.tags.clone_from(&options.tags);
    }
    start(agent, job, move |job| {
        match conflict.filter(|_| options.skip_already_running) {
            Some(other) => {
                job.detail.lock().conflicting_job_id.clone_from(&other);
                Err(End::Status(
                    JOB_STATUS_FAILED_SKIPALREADYRUNNING,
                    format!("Skipped: job {other} is still running"),
                ))
            }
            None => back_up(job, &options, retries),
        }
    })
    .await
}

pub(crate) async fn start_restore(
    agent: &Arc<Agent>,
    source: String,
    destination: String,
    snapshot: String,
    paths: Vec<String>,
    options: RestoreJobAdvancedOptions,
) -> AgentResult<Value> {
    if !agent.profile()?.destinations.contains_key(&destination) {
        return Err(AgentError::Invalid(format!(
            "the account has no Storage Vault '{destination}'"
        )));
    }
    let plan = restore::plan(&options)?;
    let job = new_job(agent, JOB_CLASSIFICATION_RESTORE, &source, &destination, 0);
    start(agent, job, move |job| {
        let ended = restore::run(job, &snapshot, &paths, plan);
        job.or_cancelled(ended)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_follow_the_rule_and_have_defaults_and_limits() {
        let of = |on, count, time| {
            Retries::of(&BackupRuleEventTriggers {
                on_last_job_fail_do_retry: on,
                last_job_fail_do_retry_count: count,
                last_job_fail_do_retry_time: time,
                ..Default::default()
            })
        };
        let retries = |count, minutes| Retries { count, minutes };
        assert_eq!(of(false, 5, 5), retries(0, 0));
        assert_eq!(of(true, 0, 0), retries(1, 30));
        assert_eq!(of(true, 3, 10), retries(3, 10));
        assert_eq!(
            of(true, u64::MAX, u64::MAX),
            retries(MAX_RETRIES, MAX_RETRY_MINUTES)
        );
    }
}
