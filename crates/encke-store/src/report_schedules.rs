//! Reports that are sent by e-mail on a schedule, and files that mails link to.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::reports::{COLUMNS, ReportOwner, StoredReport, owned, read_row};
use crate::sql::{P, Row, Tx};

/// A schedule of a report.
#[derive(Clone, Debug)]
pub struct StoredSchedule {
    /// GUID.
    pub id: String,
    /// The report's id.
    pub report: String,
    /// What to send, when and to whom, as JSON text.
    pub body: String,
    /// Unix seconds at which it is due; 0 for never.
    pub due: i64,
    /// How often it was tried at that time.
    pub tries: i64,
    /// Unix seconds of the last time it was sent; 0 for never.
    pub sent: i64,
    /// What went wrong last; empty for nothing.
    pub problem: String,
}

/// A file that a mail links to.
#[derive(Clone, Debug)]
pub struct StoredReportFile {
    /// SHA-256 of the secret in its address, hexadecimal.
    pub hash: String,
    /// The report's id.
    pub report: String,
    /// Name for whoever fetches it.
    pub name: String,
    /// Media type.
    pub media: String,
    /// Name of the file on this server.
    pub stored: String,
    /// Unix seconds of its end.
    pub expires: i64,
}

const SCHEDULE: &str = "s.id, s.report, s.body, s.due, s.tries, s.sent, s.problem";
const FILE: &str = "f.secret_hash, f.report, f.name, f.media, f.stored, f.expires";

fn read_schedule(row: &dyn Row) -> StoreResult<StoredSchedule> {
    Ok(StoredSchedule {
        id: row.text(0)?.to_string(),
        report: row.text(1)?.to_string(),
        body: row.text(2)?.to_string(),
        due: row.int(3)?,
        tries: row.int(4)?,
        sent: row.int(5)?,
        problem: row.text(6)?.to_string(),
    })
}

fn read_file(row: &dyn Row) -> StoreResult<StoredReportFile> {
    Ok(StoredReportFile {
        hash: row.text(0)?.to_string(),
        report: row.text(1)?.to_string(),
        name: row.text(2)?.to_string(),
        media: row.text(3)?.to_string(),
        stored: row.text(4)?.to_string(),
        expires: row.int(5)?,
    })
}

/// Notes, within the transaction that enqueues the mail, that a schedule's report was sent, and when it is due next.
/// False when somebody changed or deleted it meanwhile, or another server sent it.
///
/// # Errors
/// The database fails.
pub fn schedule_sent(tx: &mut Tx, schedule: &StoredSchedule, now: i64, next: i64) -> StoreResult<bool> {
    let touched = tx.execute(
        "UPDATE report_schedules SET due = ?3, try_at = ?3, tries = 0, sent = ?4, problem = '' WHERE id = ?1 AND due = ?2",
        &[
            P::Text(&schedule.id),
            P::Int(schedule.due),
            P::Int(next),
            P::Int(now),
        ],
    )?;
    Ok(touched > 0)
}

/// Writes down a file that a mail links to, within the transaction that enqueues the mail.
///
/// # Errors
/// The report is gone, or the database fails.
pub fn add_report_file(tx: &mut Tx, file: &StoredReportFile) -> StoreResult<()> {
    tx.execute(
        "INSERT INTO report_files (secret_hash, report, name, media, stored, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            P::Text(&file.hash),
            P::Text(&file.report),
            P::Text(&file.name),
            P::Text(&file.media),
            P::Text(&file.stored),
            P::Int(file.expires),
        ],
    )?;
    Ok(())
}

impl Store {
    /// The schedules of an owner's reports, by report.
    ///
    /// # Errors
    /// The database fails.
    pub async fn report_schedules(&self, owner: &ReportOwner) -> StoreResult<Vec<StoredSchedule>> {
        let owner = owner.clone();
        self.read(move |sql| {
            let query = format!(
                "SELECT {SCHEDULE} FROM report_schedules s JOIN reports r ON r.id = s.report
                 WHERE r.owner_kind = ?1 AND r.owner = ?2 AND r.organization = ?3 ORDER BY s.report, s.id"
            );
            sql.all(&query, &owned(&owner), read_schedule)
        })
        .await
    }

    /// Saves a schedule of an owner's report, new or changed.
    ///
    /// # Errors
    /// `NotFound` when the report is not the owner's or the id another report's; or the database fails.
    pub async fn save_report_schedule(
        &self,
        owner: &ReportOwner,
        schedule: StoredSchedule,
    ) -> StoreResult<()> {
        let owner = owner.clone();
        self.write(move |tx| {
            let [kind, who, organization] = owned(&owner);
            let known = tx.sql().first(
                "SELECT 1 FROM reports WHERE id = ?1 AND owner_kind = ?2 AND owner = ?3 AND organization = ?4",
                &[P::Text(&schedule.report), kind, who, organization],
                |row| row.int(0),
            )?;
            known.ok_or(StoreError::NotFound)?;
            let touched = tx.execute(
                "INSERT INTO report_schedules (id, report, body, due, try_at, tries, sent, problem)
                 VALUES (?1, ?2, ?3, ?4, ?4, 0, 0, '')
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body, due = excluded.due, try_at = excluded.try_at,
                     tries = 0, problem = ''
                 WHERE report_schedules.report = ?2",
                &[
                    P::Text(&schedule.id),
                    P::Text(&schedule.report),
                    P::Text(&schedule.body),
                    P::Int(schedule.due),
                ],
            )?;
            if touched == 0 {
                return Err(StoreError::NotFound);
            }
            Ok(())
        })
        .await
    }

    /// Deletes a schedule of an owner's report.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn delete_report_schedule(&self, owner: &ReportOwner, id: &str) -> StoreResult<()> {
        let (owner, id) = (owner.clone(), id.to_string());
        self.write(move |tx| {
            let [kind, who, organization] = owned(&owner);
            let touched = tx.execute(
                "DELETE FROM report_schedules WHERE id = ?1 AND report IN
                 (SELECT id FROM reports WHERE owner_kind = ?2 AND owner = ?3 AND organization = ?4)",
                &[P::Text(&id), kind, who, organization],
            )?;
            if touched == 0 {
                return Err(StoreError::NotFound);
            }
            Ok(())
        })
        .await
    }

    /// Schedules to be tried now, the oldest first, each with its report.
    ///
    /// # Errors
    /// The database fails.
    pub async fn due_report_schedules(
        &self,
        now: i64,
        limit: i64,
    ) -> StoreResult<Vec<(StoredSchedule, StoredReport)>> {
        self.read(move |sql| {
            let schedules = sql.all(
                &format!(
                    "SELECT {SCHEDULE} FROM report_schedules s WHERE s.try_at > 0 AND s.try_at <= ?1 ORDER BY s.try_at LIMIT ?2"
                ),
                &[P::Int(now), P::Int(limit)],
                read_schedule,
            )?;
            let mut due = Vec::new();
            for schedule in schedules {
                let query = format!("SELECT {COLUMNS} FROM reports WHERE id = ?1");
                if let Some(report) = sql.first(&query, &[P::Text(&schedule.report)], read_row)? {
                    due.push((schedule, report));
                }
            }
            Ok(due)
        })
        .await
    }

    /// When the next schedule is to be tried, in Unix seconds.
    ///
    /// # Errors
    /// The database fails.
    pub async fn next_report_schedule(&self) -> StoreResult<Option<i64>> {
        self.read(|sql| {
            let query = "SELECT COALESCE(MIN(try_at), 0) FROM report_schedules WHERE try_at > 0";
            Ok(sql.first(query, &[], |row| row.int(0))?.filter(|at| *at > 0))
        })
        .await
    }

    /// Notes what went wrong with a schedule, and when it is tried again; with another `due`, not for this time any more.
    ///
    /// # Errors
    /// The database fails.
    pub async fn schedule_failed(
        &self,
        schedule: &StoredSchedule,
        problem: &str,
        due: i64,
        try_at: i64,
    ) -> StoreResult<()> {
        let (schedule, problem) = (schedule.clone(), problem.to_string());
        self.write(move |tx| {
            let tries = if due == schedule.due { schedule.tries + 1 } else { 0 };
            tx.execute(
                "UPDATE report_schedules SET due = ?3, try_at = ?4, tries = ?5, problem = ?6 WHERE id = ?1 AND due = ?2",
                &[
                    P::Text(&schedule.id),
                    P::Int(schedule.due),
                    P::Int(due),
                    P::Int(try_at),
                    P::Int(tries),
                    P::Text(&problem),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// A file that a mail links to, with its report.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn report_file(&self, hash: &str) -> StoreResult<(StoredReportFile, StoredReport)> {
        let hash = hash.to_string();
        self.read(move |sql| {
            let query = format!("SELECT {FILE} FROM report_files f WHERE f.secret_hash = ?1");
            let file = sql.first(&query, &[P::Text(&hash)], read_file)?;
            let file = file.ok_or(StoreError::NotFound)?;
            let query = format!("SELECT {COLUMNS} FROM reports WHERE id = ?1");
            let report = sql.first(&query, &[P::Text(&file.report)], read_row)?;
            Ok((file, report.ok_or(StoreError::NotFound)?))
        })
        .await
    }

    /// Forgets files whose time is over; answers the names of those that are left.
    ///
    /// # Errors
    /// The database fails.
    pub async fn keep_report_files(&self, now: i64) -> StoreResult<Vec<String>> {
        self.write(move |tx| {
            tx.execute("DELETE FROM report_files WHERE expires <= ?1", &[P::Int(now)])?;
            tx.sql().all("SELECT stored FROM report_files", &[], |row| {
                Ok(row.text(0)?.to_string())
            })
        })
        .await
    }
}
