//! Jobs and their logs (reference, section 17). Made for millions of rows: every list is streamed and served by an
//! index.

mod matching;
mod missed;
mod search;

pub use matching::{DeviceSearch, compile_device_search};
pub use missed::note_duty;
pub use search::{CompiledSearch, compile};

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::events::{EventDraft, now};
use crate::scope::Scope;
use crate::sql::{Dialect, P, Row, Sql, Tx};
use encke_api::constants::{
    JOB_CLASSIFICATION_BACKUP, JOB_STATUS_FAILED_ABANDONED, JOB_STATUS_RUNNING__MAX, JOB_STATUS_RUNNING__MIN,
    JOB_STATUS_RUNNING_REVIVED, SEVT_JOB_COMPLETED, SEVT_JOB_NEW,
};
use encke_api::types::{BackupJobDetail, JobEntry};
use std::ops::ControlFlow;

/// Whether a status means that the job has not ended.
#[must_use]
pub fn is_running(status: u64) -> bool {
    (JOB_STATUS_RUNNING__MIN..=JOB_STATUS_RUNNING__MAX).contains(&status)
}

/// Which jobs to list.
#[derive(Clone, Debug)]
pub enum JobFilter {
    /// All.
    All,
    /// Started or ended since a time (Unix seconds), or not ended.
    Since(i64),
    /// Of one account.
    User(String),
    /// Started or ended between two times (Unix seconds), both included.
    Between(i64, i64),
    /// Not ended.
    Running,
    /// Found by a search.
    Search(CompiledSearch),
    /// Found by a search, of those that ended between two times (Unix seconds), both included.
    SearchEnded(CompiledSearch, i64, i64),
    /// One, if a search finds it.
    SearchOne(CompiledSearch, String),
}

impl JobFilter {
    fn search(&self) -> Option<&CompiledSearch> {
        match self {
            Self::Search(search) | Self::SearchEnded(search, _, _) | Self::SearchOne(search, _) => {
                Some(search)
            }
            _ => None,
        }
    }
}

/// A job that has not ended, as far as the watch over silent devices needs it.
#[derive(Clone, Debug)]
pub struct RunningJob {
    /// GUID.
    pub id: String,
    /// Account.
    pub username: String,
    /// Device that runs it.
    pub device: String,
    /// Unix seconds of the last report.
    pub received: i64,
}

/// What a report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// The job was not known before.
    New,
    /// Its state was replaced.
    Updated,
    /// The report was late or repeated; nothing changed.
    Ignored,
}

fn event(kind: i64, actor: &str, organization: &str, job: &BackupJobDetail) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: organization.to_string(),
        resource: job.guid.clone(),
        kind,
        data: serde_json::to_value(job).unwrap_or_default(),
    }
}

fn int(v: u64) -> i64 {
    i64::try_from(v).unwrap_or(i64::MAX)
}

fn save(tx: &mut Tx, organization: &str, job: &BackupJobDetail, received: i64) -> StoreResult<()> {
    let body = storable_json(serde_json::to_string(job)?);
    tx.execute(
        "INSERT INTO jobs (id, username, organization, device, source, destination, class, status, started, ended,
                           counter, received, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (id) DO UPDATE SET source = excluded.source, destination = excluded.destination,
             class = excluded.class, status = excluded.status, started = excluded.started, ended = excluded.ended,
             counter = excluded.counter, received = excluded.received, body = excluded.body",
        &[
            P::Text(&job.guid),
            P::Text(&job.username),
            P::Text(organization),
            P::Text(&job.device_id),
            P::Text(&job.source_guid),
            P::Text(&job.destination_guid),
            P::Int(int(job.classification)),
            P::Int(int(job.status)),
            P::Int(job.start_time),
            P::Int(job.end_time),
            P::Int(job.progress.counter),
            P::Int(received),
            P::Text(&body),
        ],
    )?;
    Ok(())
}

fn find(sql: &mut dyn Sql, scope: &Scope, id: &str) -> StoreResult<Option<(BackupJobDetail, String)>> {
    let (condition, param) = scope.condition("organization", "username", 2);
    let params: Vec<P> = std::iter::once(P::Text(id)).chain(param).collect();
    let found = sql.first(
        &format!("SELECT body, organization FROM jobs WHERE id = ?1 AND {condition}"),
        &params,
        |row| Ok((row.text(0)?.to_string(), row.text(1)?.to_string())),
    )?;
    found
        .map(|(body, organization)| Ok((serde_json::from_str(&body)?, organization)))
        .transpose()
}

fn conditions(scope: &Scope, filter: &JobFilter, dialect: Dialect) -> (String, Vec<Owned>) {
    let mut params: Vec<Owned> = Vec::new();
    let mut condition = match scope {
        Scope::All => "1 = 1".to_string(),
        Scope::Organization(o) => {
            params.push(Owned::Text(o.clone()));
            "organization = ?1".into()
        }
        Scope::User(u) => {
            params.push(Owned::Text(u.clone()));
            "username = ?1".into()
        }
    };
    let at = params.len() + 1;
    let running = format!("status BETWEEN {JOB_STATUS_RUNNING__MIN} AND {JOB_STATUS_RUNNING__MAX}");
    match filter {
        JobFilter::All => {}
        JobFilter::Since(time) => {
            params.push(Owned::Int(*time));
            condition += &format!(" AND (started >= ?{at} OR ended >= ?{at} OR {running})");
        }
        JobFilter::User(name) => {
            params.push(Owned::Text(name.clone()));
            condition += &format!(" AND username = ?{at}");
        }
        JobFilter::Between(from, to) => {
            params.extend([Owned::Int(*from), Owned::Int(*to)]);
            let to = at + 1;
            condition += &format!(" AND (started BETWEEN ?{at} AND ?{to} OR ended BETWEEN ?{at} AND ?{to})");
        }
        JobFilter::Running => condition += &format!(" AND {running}"),
        JobFilter::Search(_) => {}
        JobFilter::SearchEnded(_, from, to) => {
            params.extend([Owned::Int(*from), Owned::Int(*to)]);
            condition += &format!(" AND ended BETWEEN ?{at} AND ?{}", at + 1);
        }
        JobFilter::SearchOne(_, id) => {
            params.push(Owned::Text(id.clone()));
            condition += &format!(" AND id = ?{at}");
        }
    }
    if let Some(search) = filter.search() {
        condition += &format!(" AND ({})", search.condition(dialect, params.len() + 1));
        params.extend(search.params(dialect).iter().cloned());
    }
    (condition, params)
}

/// Hands over the document of job after job.
fn each_body(
    sql: &mut dyn Sql,
    scope: &Scope,
    filter: &JobFilter,
    on_body: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> StoreResult<()> {
    let (condition, params) = conditions(scope, filter, sql.dialect());
    let params: Vec<P> = params.iter().map(Owned::borrow).collect();
    let matcher = filter.search().and_then(|search| search.matcher(sql.dialect()));
    sql.query(
        &format!("SELECT body FROM jobs WHERE {condition}"),
        &params,
        &mut |row| {
            let body = row.text(0)?;
            if let Some(matcher) = matcher
                && !matcher.is_match(&serde_json::from_str(body)?)
            {
                return Ok(ControlFlow::Continue(()));
            }
            Ok(on_body(body))
        },
    )
}

/// Text that every database can hold: devices report what programs print.
fn storable(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// As [`storable`], for JSON text.
fn storable_json(json: String) -> String {
    const NUL: &str = "\\u0000";
    if !json.contains(NUL) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out += before;
        let length = if escape.starts_with(NUL) { NUL.len() } else { 2 };
        out += if length == 2 { &escape[..2] } else { "\\ufffd" };
        rest = &escape[length..];
    }
    out + rest
}

/// A parameter that outlives the call that made it.
#[derive(Clone, Debug)]
pub enum Owned {
    /// Text.
    Text(String),
    /// Whole number.
    Int(i64),
}

impl Owned {
    fn borrow(&self) -> P<'_> {
        match self {
            Owned::Text(t) => P::Text(t),
            Owned::Int(i) => P::Int(*i),
        }
    }
}

impl Store {
    /// Takes over a device's report of a job. Late and repeated reports change nothing; a job that was believed
    /// abandoned and still runs is revived.
    ///
    /// # Errors
    /// `Invalid` when the id belongs to another device's job; or the database fails.
    pub async fn report_job(&self, organization: &str, mut job: BackupJobDetail) -> StoreResult<Reported> {
        let organization = organization.to_string();
        self.write(move |tx| {
            let received = now();
            job.progress.recieved_time = received;
            let running = is_running(job.status);
            let Some((old, _)) = find(tx.sql(), &Scope::All, &job.guid)? else {
                if job.classification == JOB_CLASSIFICATION_BACKUP {
                    missed::replace(tx, &job)?;
                }
                save(tx, &organization, &job, received)?;
                tx.emit(event(SEVT_JOB_NEW, &job.username, &organization, &job));
                if !running {
                    tx.emit(event(SEVT_JOB_COMPLETED, &job.username, &organization, &job));
                }
                return Ok(Reported::New);
            };
            if old.username != job.username || old.device_id != job.device_id {
                return Err(StoreError::Invalid("This job belongs to another device".into()));
            }
            let was_running = is_running(old.status);
            if !was_running && old.status != JOB_STATUS_FAILED_ABANDONED {
                return Ok(Reported::Ignored);
            }
            if running && was_running && job.progress.counter < old.progress.counter {
                return Ok(Reported::Ignored);
            }
            if running && (!was_running || old.status == JOB_STATUS_RUNNING_REVIVED) {
                job.status = JOB_STATUS_RUNNING_REVIVED;
            }
            save(tx, &organization, &job, received)?;
            if !running {
                tx.emit(event(SEVT_JOB_COMPLETED, &job.username, &organization, &job));
            }
            Ok(Reported::Updated)
        })
        .await
    }

    /// Appends lines to a job's log; lines that are there already are skipped.
    ///
    /// # Errors
    /// `NotFound` when the device has no such job; or the database fails.
    pub async fn append_job_log(
        &self,
        username: &str,
        device: &str,
        job_id: &str,
        first: i64,
        entries: Vec<JobEntry>,
    ) -> StoreResult<()> {
        let (username, device, job_id) = (username.to_string(), device.to_string(), job_id.to_string());
        self.write(move |tx| {
            let known = tx.sql().first(
                "SELECT 1 FROM jobs WHERE id = ?1 AND username = ?2 AND device = ?3",
                &[P::Text(&job_id), P::Text(&username), P::Text(&device)],
                |row| row.int(0),
            )?;
            known.ok_or(StoreError::NotFound)?;
            for (seq, entry) in (first..).zip(&entries) {
                tx.execute(
                    "INSERT INTO job_log (job_id, seq, time, severity, message) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (job_id, seq) DO NOTHING",
                    &[
                        P::Text(&job_id),
                        P::Int(seq),
                        P::Int(entry.time),
                        P::Text(&storable(&entry.severity)),
                        P::Text(&storable(&entry.message)),
                    ],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// One job.
    ///
    /// # Errors
    /// `NotFound`, also outside the scope; or the database fails.
    pub async fn job(&self, scope: &Scope, id: &str) -> StoreResult<BackupJobDetail> {
        let (scope, id) = (scope.clone(), id.to_string());
        self.read_few(move |sql| {
            find(sql, &scope, &id)?
                .map(|(job, _)| job)
                .ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Hands over job after job, as JSON text, together with a state that comes back at the end. In no order.
    ///
    /// # Errors
    /// The database fails.
    pub async fn each_job<S, F>(
        &self,
        scope: &Scope,
        filter: JobFilter,
        mut state: S,
        mut on_job: F,
    ) -> StoreResult<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, &str) -> ControlFlow<()> + Send + 'static,
    {
        let scope = scope.clone();
        self.read(move |sql| {
            each_body(sql, &scope, &filter, &mut |body| on_job(&mut state, body))?;
            Ok(state)
        })
        .await
    }

    /// How many jobs there are.
    ///
    /// # Errors
    /// The database fails.
    pub async fn count_jobs(&self, scope: &Scope, filter: JobFilter) -> StoreResult<i64> {
        let scope = scope.clone();
        self.read(move |sql| {
            let searched = filter.search().and_then(|search| search.matcher(sql.dialect()));
            if searched.is_some() {
                let mut count = 0;
                each_body(sql, &scope, &filter, &mut |_| {
                    count += 1;
                    ControlFlow::Continue(())
                })?;
                return Ok(count);
            }
            let (condition, params) = conditions(&scope, &filter, sql.dialect());
            let params: Vec<P> = params.iter().map(Owned::borrow).collect();
            let count = sql.first(
                &format!("SELECT COUNT(*) FROM jobs WHERE {condition}"),
                &params,
                |r| r.int(0),
            )?;
            Ok(count.unwrap_or_default())
        })
        .await
    }

    /// Hands over the log of a job line by line. `severities` and `contains` narrow it; empty means all.
    ///
    /// # Errors
    /// `NotFound` when there is no such job in the scope; or the database fails.
    pub async fn each_log_entry<S, F>(
        &self,
        scope: &Scope,
        job_id: &str,
        severities: &'static [&'static str],
        contains: &str,
        mut state: S,
        mut on_entry: F,
    ) -> StoreResult<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, JobEntry) -> ControlFlow<()> + Send + 'static,
    {
        let (scope, job_id, contains) = (scope.clone(), job_id.to_string(), contains.to_string());
        self.read(move |sql| {
            find(sql, &scope, &job_id)?.ok_or(StoreError::NotFound)?;
            sql.query(
                "SELECT time, severity, message FROM job_log WHERE job_id = ?1 ORDER BY seq",
                &[P::Text(&job_id)],
                &mut |row: &dyn Row| {
                    let (severity, message) = (row.text(1)?, row.text(2)?);
                    let wanted = (severities.is_empty() || severities.contains(&severity))
                        && (contains.is_empty() || message.contains(&contains));
                    if !wanted {
                        return Ok(ControlFlow::Continue(()));
                    }
                    let entry = JobEntry {
                        time: row.int(0)?,
                        severity: severity.to_string(),
                        message: message.to_string(),
                        ..Default::default()
                    };
                    Ok(on_entry(&mut state, entry))
                },
            )?;
            Ok(state)
        })
        .await
    }

    /// Marks a running job as abandoned. The device may revive it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the job has ended; or the database fails.
    pub async fn abandon_job(&self, scope: &Scope, id: &str, actor: &str) -> StoreResult<BackupJobDetail> {
        let (scope, id, actor) = (scope.clone(), id.to_string(), actor.to_string());
        self.write(move |tx| {
            let (mut job, organization) = find(tx.sql(), &scope, &id)?.ok_or(StoreError::NotFound)?;
            if !is_running(job.status) {
                return Err(StoreError::Invalid("The job has ended already".into()));
            }
            job.status = JOB_STATUS_FAILED_ABANDONED;
            job.end_time = now();
            let received = job.progress.recieved_time;
            save(tx, &organization, &job, received)?;
            tx.emit(event(SEVT_JOB_COMPLETED, &actor, &organization, &job));
            Ok(job)
        })
        .await
    }

    /// Every job that has not ended.
    ///
    /// # Errors
    /// The database fails.
    pub async fn running_jobs(&self) -> StoreResult<Vec<RunningJob>> {
        self.read(|sql| {
            sql.all(
                &format!(
                    "SELECT id, username, device, received FROM jobs
                     WHERE status BETWEEN {JOB_STATUS_RUNNING__MIN} AND {JOB_STATUS_RUNNING__MAX}"
                ),
                &[],
                |row| {
                    Ok(RunningJob {
                        id: row.text(0)?.to_string(),
                        username: row.text(1)?.to_string(),
                        device: row.text(2)?.to_string(),
                        received: row.int(3)?,
                    })
                },
            )
        })
        .await
    }

    /// Removes up to `limit` jobs that ended before a time (Unix seconds), with their logs. Answers how many.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_jobs(&self, before: i64, limit: i64) -> StoreResult<u64> {
        self.write(move |tx| {
            let old = "SELECT id FROM jobs WHERE ended > 0 AND ended < ?1 ORDER BY ended LIMIT ?2";
            let params = [P::Int(before), P::Int(limit)];
            tx.execute(&format!("DELETE FROM job_log WHERE job_id IN ({old})"), &params)?;
            tx.execute(&format!("DELETE FROM jobs WHERE id IN ({old})"), &params)
        })
        .await
    }
}

/// Removes an account's jobs and logs, within the transaction that removes the account.
///
/// # Errors
/// The database fails.
pub fn delete_jobs_of_user(tx: &mut Tx, username: &str) -> StoreResult<()> {
    let user = [P::Text(username)];
    tx.execute(
        "DELETE FROM job_log WHERE job_id IN (SELECT id FROM jobs WHERE username = ?1)",
        &user,
    )?;
    tx.execute("DELETE FROM jobs WHERE username = ?1", &user)?;
    Ok(())
}
