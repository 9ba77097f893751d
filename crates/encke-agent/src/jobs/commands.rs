//! Commands before and after a job, run by the shell (reference, section 12).

use super::Job;
use encke_api::types::{BackupRuleConfig, DestinationConfig, SourceConfig};
use std::process::{Command, Stdio};

/// Longest output of a command that goes into the log, in bytes.
const MAX_OUTPUT: usize = 16 * 1024;

/// When a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

/// Runs the commands of rule, item and vault: in this order before, in the opposite order after.
pub(super) fn run(
    job: &Job,
    when: When,
    rule: Option<&BackupRuleConfig>,
    item: &SourceConfig,
    vault: &DestinationConfig,
    status: Option<u64>,
) {
    let pick = |before: &[String], after: &[String]| {
        if when == When::Before {
            before.to_vec()
        } else {
            after.to_vec()
        }
    };
    let mut groups = vec![
        rule.map(|r| pick(&r.pre_exec, &r.post_exec)).unwrap_or_default(),
        pick(&item.pre_exec, &item.post_exec),
        pick(&vault.pre_exec, &vault.post_exec),
    ];
    if when == When::After {
        groups.reverse();
    }
    for command in groups.into_iter().flatten().filter(|c| !c.trim().is_empty()) {
        one(job, &command, status);
    }
}

fn one(job: &Job, command: &str, status: Option<u64>) {
    let detail = job.detail.lock().clone();
    job.info(&format!("Running command: {command}"));
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .env("BACKUP_TOOL_USERNAME", &detail.username)
        .env("BACKUP_TOOL_DEVICE_ID", &detail.device_id)
        .env("BACKUP_TOOL_JOB_ID", &detail.guid);
    if let Some(status) = status {
        shell.env("BACKUP_TOOL_JOB_STATUS", status.to_string());
    }
    match shell.output() {
        Err(e) => job.warning(&format!("The command could not be run: {e}")),
        Ok(output) => {
            let text = |bytes: &[u8]| {
                String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_OUTPUT)])
                    .trim()
                    .to_string()
            };
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            if !out.is_empty() {
                job.info(&out);
            }
            if !err.is_empty() {
                job.warning(&err);
            }
            if !output.status.success() {
                job.warning(&format!("The command ended with {}", output.status));
            }
        }
    }
}
