//! SQLite: one writer thread that gathers waiting transactions into one write to the disk, and a pool of readers.

use crate::error::{StoreError, StoreResult};
use crate::events::{self, Event, EventDraft};
use crate::sql::{OnRow, P, Row, Sql, Tx};
use parking_lot::{Condvar, Mutex};
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Readers that stay open. More than the cores of a small machine, so that a long list does not hold up short calls.
const READERS: usize = 8;
/// Readers at once. A client that takes a long list slowly keeps its reader all the while, which must not stop the others.
const MAX_READERS: usize = 128;
/// Transactions waiting for the writer before callers have to wait themselves.
const WRITE_QUEUE: usize = 1024;
/// Transactions that share one write to the disk.
const MAX_GROUP: usize = 128;
/// Prepared statements kept on each connection.
const STATEMENTS: usize = 128;

const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_accounts.sql"),
    include_str!("../migrations/0002_jobs.sql"),
    include_str!("../migrations/0003_buckets.sql"),
    include_str!("../migrations/0004_reports.sql"),
    include_str!("../migrations/0005_collections.sql"),
    include_str!("../migrations/0006_statistics.sql"),
    include_str!("../migrations/0007_sign_in.sql"),
    include_str!("../migrations/0008_job_indexes.sql"),
];

/// Tells the waiting caller how the commit went; runs after it.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// One caller's work. Answers whether to keep it, and how to tell the caller.
type Job = Box<dyn FnOnce(&mut Tx) -> (bool, Finish) + Send>;

pub(crate) struct Sqlite {
    writer: mpsc::Sender<Job>,
    path: PathBuf,
    readers: Mutex<Readers>,
    returned: Condvar,
}

struct Readers {
    idle: Vec<Connection>,
    /// Idle ones, those in use, and those about to be opened.
    open: usize,
}

impl Sqlite {
    pub(crate) fn open(path: &Path, bus: broadcast::Sender<Arc<Event>>) -> StoreResult<Self> {
        let mut writer = connect(path, false)?;
        migrate(&mut writer)?;
        let readers = (0..READERS)
            .map(|_| connect(path, true))
            .collect::<StoreResult<Vec<_>>>()?;
        let (send, receive) = mpsc::channel(WRITE_QUEUE);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(writer, receive, &bus))
            .map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self {
            writer: send,
            path: path.to_path_buf(),
            readers: Mutex::new(Readers {
                open: readers.len(),
                idle: readers,
            }),
            returned: Condvar::new(),
        })
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>) -> StoreResult<T> {
        let mut connection = self.reader()?;
        // The connection goes back whatever happens, else a fault in one reader would in time stop all of them.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| read_once(&mut connection, work)));
        {
            let mut readers = self.readers.lock();
            if readers.idle.len() < READERS {
                readers.idle.push(connection);
            } else {
                readers.open -= 1;
            }
        }
        self.returned.notify_one();
        result.unwrap_or_else(|fault| std::panic::resume_unwind(fault))
    }

    /// A reader of its own: an idle one, else a new one, else the next that comes back.
    fn reader(&self) -> StoreResult<Connection> {
        {
            let mut readers = self.readers.lock();
            loop {
                if let Some(connection) = readers.idle.pop() {
                    return Ok(connection);
                }
                if readers.open < MAX_READERS {
                    readers.open += 1;
                    break;
                }
                self.returned.wait(&mut readers);
            }
        }
        connect(&self.path, true).inspect_err(|_| {
            self.readers.lock().open -= 1;
            self.returned.notify_one();
        })
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx) -> StoreResult<T> + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result = work(tx);
            let keep = result.is_ok();
            let finish: Finish = Box::new(move |commit| {
                let _ = send.send(match commit {
                    Ok(()) => result,
                    Err(e) => Err(result.err().unwrap_or(e)),
                });
            });
            (keep, finish)
        });
        self.writer.send(job).await.map_err(|_| StoreError::Stopped)?;
        receive.await.map_err(|_| StoreError::Stopped)?
    }
}

fn read_once<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>,
) -> StoreResult<T> {
    // A read transaction gives all of the work's statements the same state.
    let tx = connection.transaction()?;
    work(&mut SqliteSql(&tx))
}

fn connect(path: &Path, read_only: bool) -> StoreResult<Connection> {
    let flags = if read_only {
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX
    };
    let c = Connection::open_with_flags(PathBuf::from(path), flags)?;
    c.busy_timeout(std::time::Duration::from_secs(30))?;
    c.set_prepared_statement_cache_capacity(STATEMENTS);
    if !read_only {
        c.pragma_update(None, "journal_mode", "WAL")?;
        // A change that was acknowledged survives a power cut.
        c.pragma_update(None, "synchronous", "FULL")?;
    }
    c.pragma_update(None, "foreign_keys", true)?;
    // KiB. There may be many readers, and the system keeps the file's pages for all of them.
    c.pragma_update(None, "cache_size", if read_only { -2048 } else { -8192 })?;
    add_functions(&c)?;
    Ok(c)
}

/// What searches need: `regexp(pattern, text)` in the syntax Go and Rust share, lower-casing that knows more than
/// ASCII, and plain comparisons of text.
fn add_functions(c: &Connection) -> StoreResult<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    c.create_scalar_function("regexp", 2, flags, |ctx| {
        let pattern = ctx.get_or_create_aux(
            0,
            |v| -> Result<regex::Regex, Box<dyn std::error::Error + Send + Sync>> {
                Ok(regex::RegexBuilder::new(v.as_str()?)
                    .size_limit(1 << 20)
                    .build()?)
            },
        )?;
        let text = ctx.get_raw(1).as_str_or_null().ok().flatten().unwrap_or_default();
        Ok(pattern.is_match(text))
    })?;
    type Test = fn(&str, &str) -> bool;
    let tests: [(&str, Test); 3] = [
        ("text_contains", |text, part| text.contains(part)),
        ("text_starts", |text, part| text.starts_with(part)),
        ("text_ends", |text, part| text.ends_with(part)),
    ];
    for (name, test) in tests {
        c.create_scalar_function(name, 2, flags, move |ctx| {
            let part = ctx.get_raw(1).as_str_or_null().ok().flatten().unwrap_or_default();
            Ok(test(
                ctx.get_raw(0).as_str_or_null().ok().flatten().unwrap_or_default(),
                part,
            ))
        })?;
    }
    c.create_scalar_function("fold", 1, flags, |ctx| {
        Ok(ctx
            .get_raw(0)
            .as_str_or_null()
            .ok()
            .flatten()
            .unwrap_or_default()
            .to_lowercase())
    })?;
    Ok(())
}

/// Brings the schema up to date, each step in a transaction of its own.
fn migrate(c: &mut Connection) -> StoreResult<()> {
    let found: i64 = c.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (i, step) in MIGRATIONS
        .iter()
        .enumerate()
        .skip(usize::try_from(found).unwrap_or(0))
    {
        let tx = c.transaction()?;
        tx.execute_batch(
            &step
                .replace("{autoincrement}", "INTEGER PRIMARY KEY AUTOINCREMENT")
                .replace("{blob}", "BLOB")
                .replace("{clustered}", " WITHOUT ROWID"),
        )?;
        tx.pragma_update(None, "user_version", i64::try_from(i + 1).unwrap_or(i64::MAX))?;
        tx.commit()?;
    }
    Ok(())
}

fn write_loop(mut c: Connection, mut jobs: mpsc::Receiver<Job>, bus: &broadcast::Sender<Arc<Event>>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let (finishes, sent) = run_group(&mut c, group);
        match sent {
            Ok(events) => {
                for event in events {
                    let _ = bus.send(Arc::new(event));
                }
                for finish in finishes {
                    finish(Ok(()));
                }
            }
            Err(e) => {
                tracing::error!(error = %e, "a transaction could not be written");
                let full = matches!(e, StoreError::Full);
                for finish in finishes {
                    finish(Err(if full {
                        StoreError::Full
                    } else {
                        StoreError::Database(e.to_string())
                    }));
                }
            }
        }
    }
}

/// Runs several callers' work in one transaction, each in a savepoint so that one's failure is only its own.
fn run_group(c: &mut Connection, group: Vec<Job>) -> (Vec<Finish>, StoreResult<Vec<Event>>) {
    let mut finishes = Vec::with_capacity(group.len());
    let mut published = Vec::new();
    let outcome = (|| -> StoreResult<()> {
        let mut outer = c.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for job in group {
            let inner = outer.savepoint()?;
            let mut drafts: Vec<EventDraft> = Vec::new();
            let mut sql = SqliteSql(&inner);
            let (keep, finish) = job(&mut Tx {
                sql: &mut sql,
                events: &mut drafts,
            });
            finishes.push(finish);
            if !keep {
                // Dropping a savepoint rolls it back.
                continue;
            }
            let mut no_more = Vec::new();
            for draft in drafts {
                let event = draft.into_event();
                events::insert(
                    &mut Tx {
                        sql: &mut SqliteSql(&inner),
                        events: &mut no_more,
                    },
                    &event,
                )?;
                published.push(event);
            }
            inner.commit()?;
        }
        outer.commit()?;
        Ok(())
    })();
    (finishes, outcome.map(|()| published))
}

struct SqliteSql<'a>(&'a Connection);

impl ToSql for P<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            P::Text(t) => ValueRef::Text(t.as_bytes()),
            P::Int(i) => ValueRef::Integer(*i),
            P::Blob(b) => ValueRef::Blob(b),
            P::Null => ValueRef::Null,
        }))
    }
}

impl Sql for SqliteSql<'_> {
    fn query(&mut self, sql: &str, params: &[P], on_row: OnRow) -> StoreResult<()> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        while let Some(row) = rows.next()? {
            if on_row(&SqliteRow(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn execute(&mut self, sql: &str, params: &[P]) -> StoreResult<u64> {
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement.execute(rusqlite::params_from_iter(params))? as u64)
    }
}

struct SqliteRow<'a>(&'a rusqlite::Row<'a>);

impl SqliteRow<'_> {
    fn value(&self, column: usize) -> StoreResult<ValueRef<'_>> {
        Ok(self.0.get_ref(column)?)
    }
}

impl Row for SqliteRow<'_> {
    fn text(&self, column: usize) -> StoreResult<&str> {
        self.value(column)?
            .as_str()
            .map_err(|e| StoreError::Damaged(e.to_string()))
    }
    fn int(&self, column: usize) -> StoreResult<i64> {
        self.value(column)?
            .as_i64()
            .map_err(|e| StoreError::Damaged(e.to_string()))
    }
    fn blob(&self, column: usize) -> StoreResult<&[u8]> {
        self.value(column)?
            .as_blob()
            .map_err(|e| StoreError::Damaged(e.to_string()))
    }
    fn is_null(&self, column: usize) -> bool {
        matches!(self.0.get_ref(column), Ok(ValueRef::Null))
    }
}
