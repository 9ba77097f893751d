//! Jobs: started by the server's requests, run on threads of their own, reported through the spool until they end in
//! a true state.

mod backup;
mod commands;
mod restore;
mod shell;

use crate::Agent;
use crate::error::{AgentError, AgentResult};
use crate::now;
use encke_api::constants::{
    JOB_CLASSIFICATION_BACKUP, JOB_CLASSIFICATION_RESTORE, JOB_STATUS_FAILED_CANCELLED,
    JOB_STATUS_FAILED_ERROR, JOB_STATUS_FAILED_SKIPALREADYRUNNING, JOB_STATUS_FAILED_WARNING,
    JOB_STATUS_RUNNING_ACTIVE, JOB_STATUS_STOP_SUCCESS,
};
use encke_api::live::JobStarted;
use encke_api::types::{BackupJobAdvancedOptions, BackupJobDetail, RestoreJobAdvancedOptions};
use encke_repo::{Cancel, Progress, RepoError};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tag of a snapshot that names its Protected Item.
pub(crate) const SOURCE_TAG: &str = "encke-source:";
/// Tag of a snapshot that names its kind of item.
pub(crate) const ENGINE_TAG: &str = "encke-engine:";
/// Tag of a snapshot that names its device.
pub(crate) const DEVICE_TAG: &str = "encke-device:";

/// Jobs at once on one device.
const MAX_JOBS: usize = 8;
/// Progress is reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A starting job waits this long for the server to know it before its id is given away.
const KNOWN_TIME: Duration = Duration::from_secs(15);
/// Warnings written to a job's log; the rest is only counted.
const MAX_WARNINGS: u64 = 1000;

/// Jobs that run on this device now.
#[derive(Default)]
pub(crate) struct Running(HashMap<String, Arc<Job>>);

impl Running {
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn cancel(&self, id: &str, cancellation: &str) -> AgentResult<()> {
        let job = self
            .0
            .get(id)
            .ok_or_else(|| AgentError::Invalid("this job does not run here any more".into()))?;
        if job.detail.lock().cancellation_id != cancellation {
            return Err(AgentError::Invalid(
                "the cancellation id is not this job's".into(),
            ));
        }
        job.stop();
        Ok(())
    }

    /// A backup of the same item into the same vault.
    fn same(&self, source: &str, destination: &str) -> Option<String> {
        let found = self.0.values().find(|j| {
            let d = j.detail.lock();
            d.classification == JOB_CLASSIFICATION_BACKUP
                && d.source_guid == source
                && d.destination_guid == destination
        });
        found.map(|j| j.detail.lock().guid.clone())
    }
}

/// A running job.
pub(crate) struct Job {
    agent: Arc<Agent>,
    detail: Mutex<BackupJobDetail>,
    progress: Progress,
    cancel: Cancel,
    /// Set when only the commands at the end are left to do.
    ending: AtomicBool,
    /// Ends those commands: they run even when the job was cancelled.
    cancel_after: Cancel,
    warnings: AtomicU64,
    /// Seconds after which the job is cancelled; 0 for never.
    stop_after: i64,
}

/// How a job ended, when not by itself well.
pub(crate) enum End {
    Status(u64, String),
}

impl From<AgentError> for End {
    fn from(e: AgentError) -> Self {
        match e {
            AgentError::Repo(RepoError::Cancelled) => {
                End::Status(JOB_STATUS_FAILED_CANCELLED, "The job was cancelled".into())
            }
            e => End::Status(JOB_STATUS_FAILED_ERROR, e.to_string()),
        }
    }
}

impl From<RepoError> for End {
    fn from(e: RepoError) -> Self {
        AgentError::from(e).into()
    }
}

impl Job {
    fn log(&self, severity: &str, message: &str) {
        let id = self.detail.lock().guid.clone();
        if let Err(e) = self.agent.spool.log(&id, severity, message) {
            tracing::error!(error = %e, "a log line could not be kept");
        }
        self.agent.deliver.notify_one();
    }

    fn info(&self, message: &str) {
        self.log("I", message);
    }

    /// Notes that something is not as it should be; the job goes on and ends with a warning.
    fn warning(&self, message: &str) {
        if self.warnings.fetch_add(1, Ordering::Relaxed) < MAX_WARNINGS {
            self.log("W", message);
        }
    }

    /// Keeps the job's present state for delivery.
    fn report(&self) {
        {
            // Held until the state is kept, or an older one could come after the last.
            let mut d = self.detail.lock();
            let p = &mut d.progress;
            p.counter += 1;
            p.sent_time = now();
            let get = |c| i64::try_from(Progress::get(c)).unwrap_or(i64::MAX);
            p.bytes_done = get(&self.progress.bytes_done);
            p.items_done = get(&self.progress.files_done);
            p.items_total = get(&self.progress.files_total);
            d.upload_size = get(&self.progress.uploaded);
            d.download_size = get(&self.progress.downloaded);
            if let Err(e) = self.agent.spool.report(&d) {
                tracing::error!(error = %e, "a job's state could not be kept");
            }
        }
        self.agent.deliver.notify_one();
    }

    /// Cancels the job. While the commands at its end run, they are what is ended.
    fn stop(&self) {
        self.cancel.cancel();
        if self.ending.load(Ordering::SeqCst) {
            self.cancel_after.cancel();
        }
    }

    fn check_cancel(&self) -> Result<(), End> {
        if self.cancel.is_cancelled() {
            Err(RepoError::Cancelled.into())
        } else {
            Ok(())
        }
    }
}

fn new_job(agent: &Arc<Agent>, class: u64, source: &str, destination: &str, stop_after: i64) -> Arc<Job> {
    let detail = BackupJobDetail {
        guid: uuid::Uuid::new_v4().to_string(),
        username: agent.settings().username.clone(),
        classification: class,
        status: JOB_STATUS_RUNNING_ACTIVE,
        start_time: now(),
        source_guid: source.to_string(),
        destination_guid: destination.to_string(),
        device_id: agent.settings().device_id.clone(),
        client_version: crate::VERSION.into(),
        cancellation_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    Arc::new(Job {
        agent: agent.clone(),
        detail: Mutex::new(detail),
        progress: Progress::default(),
        cancel: Cancel::default(),
        ending: AtomicBool::new(false),
        cancel_after: Cancel::default(),
        warnings: AtomicU64::new(0),
        stop_after,
    })
}

/// Starts a job and answers its id once the server knows it.
async fn start<F>(agent: &Arc<Agent>, job: Arc<Job>, work: F) -> AgentResult<Value>
where
    F: FnOnce(&Arc<Job>) -> Result<(), End> + Send + 'static,
{
    let id = job.detail.lock().guid.clone();
    {
        let mut running = agent.jobs.lock();
        if running.0.len() >= MAX_JOBS {
            return Err(AgentError::Server {
                status: 503,
                message: format!("The device runs {MAX_JOBS} jobs already"),
            });
        }
        running.0.insert(id.clone(), job.clone());
    }
    job.report();
    let ticking = tokio::spawn(tick(job.clone()));
    let finished = job.clone();
    tokio::task::spawn_blocking(move || {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(&finished)));
        ticking.abort();
        end(
            &finished,
            result.unwrap_or_else(|_| {
                Err(End::Status(
                    JOB_STATUS_FAILED_ERROR,
                    "The job failed for a reason of the program's own".into(),
                ))
            }),
        );
    });
    let known = async {
        loop {
            let delivered = agent.delivered.notified();
            if agent.spool.is_known(&id)? {
                return Ok::<(), AgentError>(());
            }
            delivered.await;
        }
    };
    // If the server is slow the job still runs, and is reported later.
    let _ = tokio::time::timeout(KNOWN_TIME, known).await;
    serde_json::to_value(JobStarted { job_id: id }).map_err(|e| AgentError::Protocol(e.to_string()))
}

/// Reports progress while the job runs, and ends it when its time is over.
async fn tick(job: Arc<Job>) {
    let began = Instant::now();
    let mut timer = tokio::time::interval(REPORT_EVERY);
    timer.tick().await;
    loop {
        timer.tick().await;
        if job.stop_after > 0
            && began.elapsed().as_secs() >= job.stop_after.unsigned_abs()
            && !job.cancel.is_cancelled()
        {
            job.log(
                "W",
                &format!("The job has run for its limit of {} seconds", job.stop_after),
            );
            job.cancel.cancel();
        }
        job.report();
    }
}

fn end(job: &Arc<Job>, result: Result<(), End>) {
    let warnings = job.warnings.load(Ordering::Relaxed);
    let status = match result {
        Ok(()) if warnings > 0 => {
            job.log("W", &format!("Finished with {warnings} warnings"));
            JOB_STATUS_FAILED_WARNING
        }
        Ok(()) => {
            job.info("Finished");
            JOB_STATUS_STOP_SUCCESS
        }
        Err(End::Status(status, message)) => {
            let severity = if status == JOB_STATUS_FAILED_SKIPALREADYRUNNING {
                "I"
            } else {
                "E"
            };
            job.log(severity, &message);
            status
        }
    };
    let id = {
        let mut d = job.detail.lock();
        d.status = status;
        d.end_time = now();
        d.cancellation_id.clear();
        d.guid.clone()
    };
    job.report();
    job.agent.jobs.lock().0.remove(&id);
    let detail = job.detail.lock().clone();
    if detail.classification == JOB_CLASSIFICATION_BACKUP {
        backup::keep_statistics(&job.agent, detail);
    }
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
    start_backup(agent, c.source, c.destination, options, rule.to_string()).await
}

pub(crate) async fn start_backup(
    agent: &Arc<Agent>,
    source: String,
    destination: String,
    options: BackupJobAdvancedOptions,
    rule: String,
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
            None => backup::run(job, &options),
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
    start(agent, job, move |job| restore::run(job, &snapshot, &paths, plan)).await
}

/// Writes into the profile what could not be written while the server was away.
pub(crate) fn keep_waiting_statistics(agent: &Arc<Agent>) {
    let waiting = std::mem::take(&mut *agent.later.lock());
    if waiting.is_empty() {
        return;
    }
    let agent = agent.clone();
    tokio::task::spawn_blocking(move || {
        for detail in waiting {
            backup::keep_statistics(&agent, detail);
        }
    });
}

/// Cancels what runs and gives it a moment to end, when the agent stops.
pub(crate) async fn stop_all(agent: &Arc<Agent>) {
    for job in agent.jobs.lock().0.values() {
        job.log("W", "The device's software was asked to stop");
        job.ending.store(true, Ordering::SeqCst);
        job.stop();
    }
    for _ in 0..50 {
        if agent.jobs.lock().0.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
