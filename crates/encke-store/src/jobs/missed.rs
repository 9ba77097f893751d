//! Backups that should have run and did not (reference, section 13). Such a job is the server's own; a device that ran
//! the backup after all, off line, takes its place.

use super::{event, save};
use crate::Store;
use crate::error::StoreResult;
use crate::sql::{P, Tx};
use encke_api::constants::{JOB_STATUS_FAILED_SCHEDULEMISSED, SEVT_JOB_COMPLETED, SEVT_JOB_NEW};
use encke_api::schedule::EARLIEST_START;
use encke_api::types::BackupJobDetail;

impl Store {
    /// Adds a missed job (its start is the time it was expected) unless it is there already, or a backup of the same
    /// item into the same vault began from [`EARLIEST_START`] before it to `latest` (Unix seconds). Answers whether it
    /// was added.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_missed_job(
        &self,
        organization: &str,
        job: BackupJobDetail,
        latest: i64,
    ) -> StoreResult<bool> {
        let organization = organization.to_string();
        self.write(move |tx| {
            let found = tx.sql().first(
                "SELECT 1 FROM jobs WHERE id = ?1 OR (username = ?2 AND source = ?3 AND destination = ?4
                 AND status <> ?5 AND started BETWEEN ?6 AND ?7) LIMIT 1",
                &[
                    P::Text(&job.guid),
                    P::Text(&job.username),
                    P::Text(&job.source_guid),
                    P::Text(&job.destination_guid),
                    P::Int(super::int(JOB_STATUS_FAILED_SCHEDULEMISSED)),
                    P::Int(job.start_time - EARLIEST_START),
                    P::Int(latest),
                ],
                |row| row.int(0),
            )?;
            if found.is_some() {
                return Ok(false);
            }
            save(tx, &organization, &job, latest)?;
            tx.emit(event(SEVT_JOB_NEW, &job.username, &organization, &job));
            tx.emit(event(SEVT_JOB_COMPLETED, &job.username, &organization, &job));
            Ok(true)
        })
        .await
    }

    /// Up to when (Unix seconds) a duty of this name was done.
    ///
    /// # Errors
    /// The database fails.
    pub async fn duty_done(&self, name: &'static str) -> StoreResult<Option<i64>> {
        self.read(move |sql| {
            sql.first(
                "SELECT done FROM duties WHERE name = ?1",
                &[P::Text(name)],
                |row| row.int(0),
            )
        })
        .await
    }

    /// Notes up to when a duty was done.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note_duty(&self, name: &'static str, done: i64) -> StoreResult<()> {
        self.write(move |tx| note_duty(tx, name, done)).await
    }
}

/// Notes up to when a duty was done, with what was done.
///
/// # Errors
/// The database fails.
pub fn note_duty(tx: &mut Tx, name: &str, done: i64) -> StoreResult<()> {
    tx.execute(
        "INSERT INTO duties (name, done) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET done = ?2",
        &[P::Text(name), P::Int(done)],
    )?;
    Ok(())
}

/// Removes the missed jobs that a backup which did run stands for.
pub(super) fn replace(tx: &mut Tx, job: &BackupJobDetail) -> StoreResult<()> {
    // The time up to which a start counts for a missed job stands where others have their last report's.
    tx.execute(
        "DELETE FROM jobs WHERE username = ?1 AND source = ?2 AND destination = ?3 AND status = ?4
         AND started <= ?5 AND received >= ?6",
        &[
            P::Text(&job.username),
            P::Text(&job.source_guid),
            P::Text(&job.destination_guid),
            P::Int(super::int(JOB_STATUS_FAILED_SCHEDULEMISSED)),
            P::Int(job.start_time.saturating_add(EARLIEST_START)),
            P::Int(job.start_time),
        ],
    )?;
    Ok(())
}
