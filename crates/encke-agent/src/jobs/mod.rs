//! Jobs: started by the server's requests, run on threads of their own, reported through the spool until they end in
//! a true state.

mod backup;
mod begin;
mod commands;
mod frozen;
mod outward;
mod remote;
mod restore;
mod retention;
pub(crate) mod shell;
pub(crate) mod streams;
mod upkeep;

pub(crate) use begin::{start_backup, start_restore, start_rule};
pub(crate) use frozen::{PREFIX as SNAPSHOT_PREFIX, clear as clear_snapshots};
pub(crate) use retention::Power;
pub(crate) use upkeep::start_upkeep;

use crate::Agent;
use crate::error::{AgentError, AgentResult};
use crate::now;
use encke_api::constants::{
    JOB_CLASSIFICATION_BACKUP, JOB_CLASSIFICATION_RESTORE, JOB_STATUS_FAILED_CANCELLED,
    JOB_STATUS_FAILED_ERROR, JOB_STATUS_FAILED_QUOTA, JOB_STATUS_FAILED_SKIPALREADYRUNNING,
    JOB_STATUS_FAILED_WARNING, JOB_STATUS_NOT_YET_STARTED, JOB_STATUS_RUNNING_ACTIVE,
    JOB_STATUS_STOP_SUCCESS,
};
use encke_api::live::JobStarted;
use encke_api::types::{BackupJobDetail, ContentMeasurement};
use encke_repo::{Cancel, Progress, RepoError};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Tag of a snapshot that names its Protected Item.
pub(crate) const SOURCE_TAG: &str = "encke-source:";
/// Tag of a snapshot that names its kind of item.
pub(crate) const ENGINE_TAG: &str = "encke-engine:";
/// Tag of a snapshot that names its device.
pub(crate) const DEVICE_TAG: &str = "encke-device:";

/// Jobs at once on one device; more wait for their turn.
pub(crate) const MAX_JOBS: usize = 8;
/// Jobs that run or wait; more are refused.
const MAX_WAITING: usize = 256;
/// Progress is reported this often while there is some.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// And this often while there is none, so that the server knows that the job is alive.
const REPORT_AT_LEAST: Duration = Duration::from_secs(30);
/// A starting job waits this long for the server to know it before its id is given away.
const KNOWN_TIME: Duration = Duration::from_secs(15);
/// A waiting job looks this often whether its turn has come, or it was cancelled.
const TURN_TIME: Duration = Duration::from_millis(100);
/// Warnings written to a job's log; the rest is only counted.
const MAX_WARNINGS: u64 = 1000;

/// Jobs that run on this device now.
#[derive(Default)]
pub(crate) struct Running(HashMap<String, Arc<Job>>, Closed);

/// Whether no more jobs may begin.
type Closed = bool;

impl Running {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets no more jobs begin, if none runs. Answers whether that is so.
    pub(crate) fn close(&mut self) -> bool {
        self.1 = self.0.is_empty();
        self.1
    }

    /// Lets jobs begin again.
    pub(crate) fn open(&mut self) {
        self.1 = false;
    }

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
    pub(crate) agent: Arc<Agent>,
    detail: Mutex<BackupJobDetail>,
    progress: Progress,
    pub(crate) cancel: Cancel,
    /// Set when only the commands at the end are left to do.
    ending: AtomicBool,
    /// Ends those commands: they run even when the job was cancelled.
    cancel_after: Cancel,
    warnings: AtomicU64,
    /// Seconds after which the job is cancelled; 0 for never.
    stop_after: i64,
    /// Bytes that may still be stored; more ends the job.
    room: AtomicU64,
    over_quota: AtomicBool,
    /// What the profile is told at the end, beside how the job went.
    outcome: Mutex<Outcome>,
    /// One of the device's [`MAX_JOBS`]; given back while the job only waits.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

/// What a job found out about its vault.
#[derive(Clone, Default)]
pub(crate) struct Outcome {
    /// What is in it.
    pub content: Option<ContentMeasurement>,
    /// Why its last retention pass failed; empty when it did not.
    pub retention_error: Option<String>,
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

    pub(crate) fn info(&self, message: &str) {
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

    /// What changes while the job gets on.
    fn seen(&self) -> [u64; 6] {
        let p = &self.progress;
        [
            Progress::get(&p.bytes_done),
            Progress::get(&p.files_done),
            Progress::get(&p.files_total),
            Progress::get(&p.uploaded),
            Progress::get(&p.downloaded),
            self.detail.lock().status,
        ]
    }

    /// Waits until the device has room for another job.
    fn take_turn(&self) -> Result<(), End> {
        let mut turn = self.turn.lock();
        while turn.is_none() {
            self.check_cancel()?;
            *turn = self.agent.turns.clone().try_acquire_owned().ok();
            if turn.is_none() {
                std::thread::sleep(TURN_TIME);
            }
        }
        drop(turn);
        self.detail.lock().status = JOB_STATUS_RUNNING_ACTIVE;
        Ok(())
    }

    /// Waits, without holding up other jobs.
    fn wait(&self, time: Duration, status: u64) -> Result<(), End> {
        self.turn.lock().take();
        self.detail.lock().status = status;
        self.report();
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.check_cancel()?;
            std::thread::sleep(TURN_TIME);
        }
        self.take_turn()
    }

    /// Cancels the job. While the commands at its end run, they are what is ended.
    fn stop(&self) {
        self.cancel.cancel();
        if self.ending.load(Ordering::SeqCst) {
            self.cancel_after.cancel();
        }
    }

    /// What failed since the job was cancelled is no fault.
    fn or_cancelled(&self, ended: Result<(), End>) -> Result<(), End> {
        match ended {
            Err(End::Status(JOB_STATUS_FAILED_ERROR, _)) if self.cancel.is_cancelled() => {
                Err(RepoError::Cancelled.into())
            }
            ended => ended,
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
        room: AtomicU64::new(u64::MAX),
        over_quota: AtomicBool::new(false),
        turn: Mutex::default(),
        outcome: Mutex::default(),
    })
}

/// Starts a job, or lets it wait for its turn, and answers its id once the server knows it.
async fn start<F>(agent: &Arc<Agent>, job: Arc<Job>, work: F) -> AgentResult<Value>
where
    F: FnOnce(&Arc<Job>) -> Result<(), End> + Send + 'static,
{
    let id = job.detail.lock().guid.clone();
    {
        let mut running = agent.jobs.lock();
        if running.1 {
            return Err(AgentError::Server {
                status: 503,
                message: "The device is changing to another program; try again in a minute".into(),
            });
        }
        if running.0.len() >= MAX_WAITING {
            return Err(AgentError::Server {
                status: 503,
                message: format!("The device has {MAX_WAITING} jobs to do already"),
            });
        }
        running.0.insert(id.clone(), job.clone());
    }
    let turn = agent.turns.clone().try_acquire_owned().ok();
    if turn.is_none() {
        job.detail.lock().status = JOB_STATUS_NOT_YET_STARTED;
    }
    *job.turn.lock() = turn;
    job.report();
    tokio::spawn(carry_out(job, work));
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

async fn carry_out<F>(job: Arc<Job>, work: F)
where
    F: FnOnce(&Arc<Job>) -> Result<(), End> + Send + 'static,
{
    let waits = job.turn.lock().is_none();
    if waits {
        job.info(&format!("Waiting: the device runs {MAX_JOBS} jobs already"));
    }
    let ticking = tokio::spawn(tick(job.clone()));
    let finished = job.clone();
    let done = tokio::task::spawn_blocking(move || {
        let work = || {
            finished.take_turn()?;
            work(&finished)
        };
        let result = std::panic::catch_unwind(AssertUnwindSafe(work));
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
    let _ = done.await;
}

/// Reports progress while the job runs, and ends it when its time or its room is over.
async fn tick(job: Arc<Job>) {
    let began = Instant::now();
    let mut timer = tokio::time::interval(REPORT_EVERY);
    timer.tick().await;
    let (mut reported, mut seen) = (Instant::now(), job.seen());
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
        if Progress::get(&job.progress.uploaded) > job.room.load(Ordering::Relaxed)
            && !job.cancel.is_cancelled()
        {
            job.over_quota.store(true, Ordering::SeqCst);
            job.cancel.cancel();
        }
        let now = job.seen();
        if now != seen || reported.elapsed() >= REPORT_AT_LEAST {
            (reported, seen) = (Instant::now(), now);
            job.report();
        }
    }
}

fn end(job: &Arc<Job>, result: Result<(), End>) {
    let result = match result {
        Err(End::Status(JOB_STATUS_FAILED_CANCELLED, _)) if job.over_quota.load(Ordering::SeqCst) => {
            Err(End::Status(
                JOB_STATUS_FAILED_QUOTA,
                "The quota was used up while the job ran; what was sent stays, and the next job goes on from there".into(),
            ))
        }
        r => r,
    };
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
    let outcome = job.outcome.lock().clone();
    if detail.classification != JOB_CLASSIFICATION_RESTORE {
        backup::keep_statistics(&job.agent, detail, outcome);
    }
}

/// Writes into the profile what could not be written while the server was away.
pub(crate) fn keep_waiting_statistics(agent: &Arc<Agent>) {
    let waiting = std::mem::take(&mut *agent.later.lock());
    if waiting.is_empty() {
        return;
    }
    let agent = agent.clone();
    tokio::task::spawn_blocking(move || {
        for (detail, outcome) in waiting {
            backup::keep_statistics(&agent, detail, outcome);
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
