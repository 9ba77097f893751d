//! Reports and log lines that the server has not acknowledged yet, on disk: nothing is lost when the connection, the
//! server or the agent goes away.

use crate::error::{AgentError, AgentResult};
use crate::now;
use encke_api::constants::{JOB_STATUS_FAILED_ERROR, JOB_STATUS_RUNNING__MAX, JOB_STATUS_RUNNING__MIN};
use encke_api::live::{Call, MAX_LOG_BATCH};
use encke_api::types::{BackupJobDetail, JobEntry};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    running INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    lines INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS lines (
    job TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) WITHOUT ROWID;
";

/// The spool.
pub(crate) struct Spool(Mutex<Connection>);

/// Something to deliver, and how to strike it out.
pub(crate) struct Delivery {
    pub call: Call,
    job: String,
    what: What,
}

enum What {
    Report { revision: i64 },
    Lines { first: i64, count: i64 },
}

fn is_running(status: u64) -> bool {
    (JOB_STATUS_RUNNING__MIN..=JOB_STATUS_RUNNING__MAX).contains(&status)
}

fn text(job: &BackupJobDetail) -> AgentResult<String> {
    serde_json::to_string(job).map_err(|e| AgentError::Protocol(e.to_string()))
}

impl Spool {
    pub(crate) fn open(path: &Path) -> AgentResult<Self> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(SCHEMA)?;
        // Earlier versions could end between a line and its count.
        db.execute_batch(
            "UPDATE jobs SET lines = MAX(lines, COALESCE((SELECT MAX(seq) + 1 FROM lines WHERE job = id), 0))",
        )?;
        Ok(Self(Mutex::new(db)))
    }

    /// Keeps a job's newest state for delivery.
    pub(crate) fn report(&self, job: &BackupJobDetail) -> AgentResult<()> {
        self.0.lock().execute(
            "INSERT INTO jobs (id, body, running, revision, acknowledged, lines) VALUES (?1, ?2, ?3, 1, 0, 0)
             ON CONFLICT (id) DO UPDATE SET body = ?2, running = ?3, revision = revision + 1",
            params![job.guid, text(job)?, is_running(job.status)],
        )?;
        Ok(())
    }

    /// Keeps a line of a job's log for delivery. The job must have been reported.
    pub(crate) fn log(&self, job: &str, severity: &str, message: &str) -> AgentResult<()> {
        let mut db = self.0.lock();
        // A line without its count would have the next one's number.
        let db = db.transaction()?;
        db.execute(
            "INSERT INTO lines (job, seq, time, severity, message)
             SELECT id, lines, ?2, ?3, ?4 FROM jobs WHERE id = ?1",
            params![job, now(), severity, message],
        )?;
        db.execute("UPDATE jobs SET lines = lines + 1 WHERE id = ?1", [job])?;
        Ok(db.commit()?)
    }

    /// The next thing to deliver: first reports of new jobs, then log lines, then newer states.
    pub(crate) fn next(&self) -> AgentResult<Option<Delivery>> {
        let db = self.0.lock();
        let report = |condition: &str| -> AgentResult<Option<Delivery>> {
            let found = db
                .query_row(
                    &format!("SELECT id, body, revision FROM jobs WHERE revision > acknowledged AND {condition} LIMIT 1"),
                    [],
                    |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?)),
                )
                .optional()?;
            let Some((job, body, revision)) = found else {
                return Ok(None);
            };
            let detail = serde_json::from_str(&body).map_err(|e| AgentError::Protocol(e.to_string()))?;
            Ok(Some(Delivery {
                call: Call::ReportJob {
                    job: Box::new(detail),
                },
                job,
                what: What::Report { revision },
            }))
        };
        if let Some(new) = report("acknowledged = 0")? {
            return Ok(Some(new));
        }
        if let Some(lines) = lines(&db)? {
            return Ok(Some(lines));
        }
        report("1 = 1")
    }

    /// Strikes out what was delivered. A job that has ended and is delivered whole is forgotten.
    pub(crate) fn acknowledge(&self, delivery: &Delivery) -> AgentResult<()> {
        let mut db = self.0.lock();
        let db = db.transaction()?;
        match delivery.what {
            What::Report { revision } => db.execute(
                "UPDATE jobs SET acknowledged = MAX(acknowledged, ?2) WHERE id = ?1",
                params![delivery.job, revision],
            )?,
            What::Lines { first, count } => db.execute(
                "DELETE FROM lines WHERE job = ?1 AND seq >= ?2 AND seq < ?3",
                params![delivery.job, first, first + count],
            )?,
        };
        db.execute(
            "DELETE FROM jobs WHERE id = ?1 AND running = 0 AND acknowledged >= revision
             AND NOT EXISTS (SELECT 1 FROM lines WHERE job = ?1)",
            [&delivery.job],
        )?;
        Ok(db.commit()?)
    }

    /// Whether the server has acknowledged the job at least once.
    pub(crate) fn is_known(&self, job: &str) -> AgentResult<bool> {
        let db = self.0.lock();
        let acknowledged: Option<i64> = db
            .query_row("SELECT acknowledged FROM jobs WHERE id = ?1", [job], |r| r.get(0))
            .optional()?;
        // A job that is gone was delivered whole.
        Ok(acknowledged.is_none_or(|a| a > 0))
    }

    /// Whether everything was delivered.
    pub(crate) fn is_empty(&self) -> AgentResult<bool> {
        let db = self.0.lock();
        let waiting: i64 = db.query_row(
            "SELECT COUNT(*) FROM jobs WHERE revision > acknowledged",
            [],
            |r| r.get(0),
        )?;
        Ok(waiting == 0 && lines(&db)?.is_none())
    }

    /// Ends the jobs that an earlier process left running, and answers them.
    pub(crate) fn end_jobs_of_dead_process(&self) -> AgentResult<Vec<BackupJobDetail>> {
        let left: Vec<String> = {
            let db = self.0.lock();
            let mut statement = db.prepare("SELECT body FROM jobs WHERE running = 1")?;
            let rows = statement.query_map([], |r| r.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        let mut ended = Vec::with_capacity(left.len());
        for body in &left {
            let mut job: BackupJobDetail =
                serde_json::from_str(body).map_err(|e| AgentError::Protocol(e.to_string()))?;
            job.status = JOB_STATUS_FAILED_ERROR;
            job.end_time = now();
            job.cancellation_id.clear();
            self.log(
                &job.guid,
                "E",
                "The device's software stopped while this job was running",
            )?;
            self.report(&job)?;
            ended.push(job);
        }
        Ok(ended)
    }
}

fn lines(db: &Connection) -> AgentResult<Option<Delivery>> {
    let mut statement = db.prepare_cached(
        "SELECT job, seq, time, severity, message FROM lines
         WHERE job = (SELECT job FROM lines LIMIT 1) ORDER BY seq LIMIT ?1",
    )?;
    let rows = statement.query_map([i64::try_from(MAX_LOG_BATCH).unwrap_or(1)], |r| {
        let entry = JobEntry {
            time: r.get(2)?,
            severity: r.get(3)?,
            message: r.get(4)?,
            ..Default::default()
        };
        Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?, entry))
    })?;
    let rows: Vec<(String, i64, JobEntry)> = rows.collect::<Result<_, _>>()?;
    let Some((job, first, _)) = rows.first().cloned() else {
        return Ok(None);
    };
    // Numbers are consecutive within a job, since lines are struck out in order.
    let entries: Vec<JobEntry> = rows.into_iter().map(|(_, _, e)| e).collect();
    let count = i64::try_from(entries.len()).unwrap_or(0);
    Ok(Some(Delivery {
        call: Call::AppendLog {
            job_id: job.clone(),
            first: u64::try_from(first).unwrap_or(0),
            entries,
        },
        job,
        what: What::Lines { first, count },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, status: u64) -> BackupJobDetail {
        BackupJobDetail {
            guid: id.into(),
            status,
            ..Default::default()
        }
    }

    fn drain(spool: &Spool) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(d) = spool.next().unwrap() {
            seen.push(match &d.call {
                Call::ReportJob { job } => format!("{} {}", job.guid, job.status),
                Call::AppendLog {
                    job_id,
                    first,
                    entries,
                } => format!("{job_id} log {first}+{}", entries.len()),
                _ => "other".into(),
            });
            spool.acknowledge(&d).unwrap();
        }
        seen
    }

    #[test]
    fn a_job_is_delivered_in_order_and_then_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("s.db")).unwrap();
        spool.report(&job("a", 6001)).unwrap();
        spool.log("a", "I", "one").unwrap();
        assert_eq!(drain(&spool), ["a 6001", "a log 0+1"]);
        spool.log("a", "I", "two").unwrap();
        spool.report(&job("a", 5000)).unwrap();
        assert_eq!(drain(&spool), ["a log 1+1", "a 5000"]);
        assert!(spool.is_empty().unwrap());
    }

    #[test]
    fn jobs_of_a_dead_process_end_with_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        Spool::open(&path).unwrap().report(&job("a", 6001)).unwrap();
        let spool = Spool::open(&path).unwrap();
        assert_eq!(spool.end_jobs_of_dead_process().unwrap().len(), 1);
        assert_eq!(drain(&spool), ["a 7002", "a log 0+1"]);
        assert!(spool.end_jobs_of_dead_process().unwrap().is_empty());
    }

    #[test]
    fn a_line_that_was_never_counted_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let spool = Spool::open(&path).unwrap();
        spool.report(&job("a", 6001)).unwrap();
        spool.log("a", "I", "one").unwrap();
        spool.0.lock().execute("UPDATE jobs SET lines = 0", []).unwrap();
        drop(spool);
        let spool = Spool::open(&path).unwrap();
        assert_eq!(spool.end_jobs_of_dead_process().unwrap().len(), 1);
        assert_eq!(drain(&spool), ["a 7002", "a log 0+2"]);
    }
}
