//! Jobs that look after a vault: retention, verification, index, locks, deletion of snapshots.

use super::{End, Job, new_job, retention, start};
use crate::Agent;
use crate::error::{AgentError, AgentResult};
use encke_api::constants::{
    JOB_CLASSIFICATION_DEEPVERIFY, JOB_CLASSIFICATION_DELETE_CUSTOM, JOB_CLASSIFICATION_REINDEX,
    JOB_CLASSIFICATION_RETENTION, JOB_CLASSIFICATION_UNLOCK, JOB_STATUS_FAILED_ERROR,
};
use encke_api::live::Upkeep;
use encke_repo::{CheckOptions, Id, Repository};
use serde_json::Value;
use std::sync::Arc;

/// Faults of a vault that are told one by one.
const MAX_FAULTS: usize = 200;

/// Starts a job over a vault.
pub(crate) async fn start_upkeep(
    agent: &Arc<Agent>,
    destination: String,
    task: Upkeep,
) -> AgentResult<Value> {
    if !agent.profile()?.destinations.contains_key(&destination) {
        return Err(AgentError::Invalid(format!(
            "the account has no Storage Vault '{destination}'"
        )));
    }
    if let Upkeep::DeleteSnapshots { snapshots } = &task
        && let Some(bad) = snapshots.iter().find(|s| Id::parse(s).is_none())
    {
        return Err(AgentError::Invalid(format!(
            "'{bad}' is not the id of a snapshot"
        )));
    }
    let class = match task {
        Upkeep::Retention => JOB_CLASSIFICATION_RETENTION,
        Upkeep::DeepVerify => JOB_CLASSIFICATION_DEEPVERIFY,
        Upkeep::Reindex => JOB_CLASSIFICATION_REINDEX,
        Upkeep::Unlock { .. } => JOB_CLASSIFICATION_UNLOCK,
        Upkeep::DeleteSnapshots { .. } => JOB_CLASSIFICATION_DELETE_CUSTOM,
    };
    let job = new_job(agent, class, "", &destination, 0);
    start(agent, job, move |job| {
        let ended = run(job, &destination, &task);
        job.or_cancelled(ended)
    })
    .await
}

fn run(job: &Arc<Job>, vault: &str, task: &Upkeep) -> Result<(), End> {
    let repo = job.agent.vaults.open_for(job, vault, 0)?;
    let ended = match task {
        Upkeep::Retention => {
            let ended = retention::pass(job, &repo, vault);
            job.outcome.lock().retention_error = match &ended {
                Err(End::Status(_, message)) => Some(message.clone()),
                Ok(()) => Some(String::new()),
            };
            ended
        }
        Upkeep::DeepVerify => verify(job, &repo),
        Upkeep::Reindex => reindex(job, &repo),
        Upkeep::Unlock { all } => {
            let removed = repo.unlock(*all)?;
            job.info(&format!("{removed} locks were removed"));
            Ok(())
        }
        Upkeep::DeleteSnapshots { snapshots } => delete(job, &repo, snapshots),
    };
    // Whoever browses must not be shown what is gone.
    job.agent.vaults.forget(vault);
    ended
}

fn verify(job: &Job, repo: &Repository) -> Result<(), End> {
    let options = CheckOptions {
        read_data: true,
        ..Default::default()
    };
    let report = repo.check(options, &job.progress, &job.cancel)?;
    for fault in report.errors.iter().take(MAX_FAULTS) {
        job.log("E", fault);
    }
    job.info(&format!(
        "{} snapshots and {} packs were verified",
        report.snapshots, report.packs
    ));
    if report.errors.is_empty() {
        return Ok(());
    }
    let faults = report.errors.len();
    Err(End::Status(
        JOB_STATUS_FAILED_ERROR,
        format!("The Storage Vault is damaged: {faults} faults"),
    ))
}

fn reindex(job: &Job, repo: &Repository) -> Result<(), End> {
    let report = repo.repair_index(false, false, &job.progress, &job.cancel)?;
    for file in &report.damaged_index_files {
        job.warning(&format!(
            "An index file could not be read and was removed: {file}"
        ));
    }
    for pack in report.missing_packs.iter().take(MAX_FAULTS) {
        job.log("E", &format!("Pack {pack} is missing"));
    }
    for pack in report.damaged_packs.iter().take(MAX_FAULTS) {
        job.log("E", &format!("A pack is damaged: {pack}"));
    }
    job.info(&format!("{} packs were added to the index", report.added_packs));
    if report.missing_packs.is_empty() && report.damaged_packs.is_empty() {
        return Ok(());
    }
    Err(End::Status(
        JOB_STATUS_FAILED_ERROR,
        "The index fits what is stored now, but something of it is lost".into(),
    ))
}

fn delete(job: &Job, repo: &Repository, snapshots: &[String]) -> Result<(), End> {
    // All are found before one goes.
    let found: Result<Vec<Id>, _> = snapshots.iter().map(|s| repo.snapshot(s).map(|s| s.id)).collect();
    let found = found?;
    repo.delete_snapshots(&found)?;
    for id in &found {
        job.info(&format!("Snapshot {id} was deleted"));
    }
    retention::free(job, repo)
}
