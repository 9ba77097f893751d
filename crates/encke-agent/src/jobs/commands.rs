//! Commands before and after a job, run by the shell (reference, section 12).

use super::{Job, shell};
use encke_api::types::{BackupRuleConfig, DestinationConfig, SourceConfig};

/// When a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    /// When what is backed up holds still.
    Thaw,
    /// With the job's status so far.
    After(u64),
}

/// Runs the commands of rule, item and vault: in this order before, in the opposite order after. One that fails is a
/// warning. A cancelled job runs no more commands but those of its end.
pub(super) fn run(
    job: &Job,
    when: When,
    rule: Option<&BackupRuleConfig>,
    item: &SourceConfig,
    vault: &DestinationConfig,
) {
    let mut groups = match when {
        When::Before => [
            rule.map(|r| &r.pre_exec),
            Some(&item.pre_exec),
            Some(&vault.pre_exec),
        ],
        When::Thaw => [
            rule.map(|r| &r.thaw_exec),
            Some(&item.thaw_exec),
            Some(&vault.thaw_exec),
        ],
        When::After(_) => [
            rule.map(|r| &r.post_exec),
            Some(&item.post_exec),
            Some(&vault.post_exec),
        ],
    };
    if matches!(when, When::After(_)) {
        groups.reverse();
    }
    let commands = groups.into_iter().flatten().flatten();
    let confined = job.agent.profile().is_ok_and(|p| p.linux_homedir_sandbox);
    for command in commands.filter(|c| !c.trim().is_empty()) {
        if confined {
            job.warning(&format!(
                "Not run, since the account confines its devices to home directories: {command}"
            ));
            continue;
        }
        if job.cancel.is_cancelled() && !matches!(when, When::After(_)) {
            return;
        }
        one(job, command, when);
    }
}

fn one(job: &Job, command: &str, when: When) {
    let detail = job.detail.lock().clone();
    job.info(&format!("Running command: {command}"));
    let mut shell = shell::command(command);
    shell
        .env("BACKUP_TOOL_USERNAME", &detail.username)
        .env("BACKUP_TOOL_DEVICE_ID", &detail.device_id)
        .env("BACKUP_TOOL_JOB_ID", &detail.guid);
    // Commands at the end run even when the job was cancelled, but must not run forever: a second cancel ends them.
    let cancel = match when {
        When::After(status) => {
            shell.env("BACKUP_TOOL_JOB_STATUS", status.to_string());
            &job.cancel_after
        }
        _ => &job.cancel,
    };
    match shell::run(shell, cancel) {
        Err(e) => job.warning(&format!("The command could not be run: {e}")),
        Ok(ended) => {
            if !ended.stdout.is_empty() {
                job.info(&ended.stdout);
            }
            if !ended.stderr.is_empty() {
                job.warning(&ended.stderr);
            }
            if !ended.status.success() {
                job.warning(&format!("The command ended with {}", ended.status));
            }
        }
    }
}
