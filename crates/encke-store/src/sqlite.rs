//! SQLite: one writer thread that gathers waiting transactions into one write to the disk, and a pool of readers.

use crate::Bus;
use crate::accounts_cache::AccountsCache;
use crate::error::{StoreError, StoreResult};
use crate::events::Event;
use crate::migrations;
use crate::sql::{Dialect, OnRow, P, Row, Sql, check};
use crate::writer::{Done, WriteConnection, Writer};
use parking_lot::{Condvar, Mutex};
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Readers that stay open. More than the cores of a small machine, so that a long list does not hold up short calls.
const READERS: usize = 8;
/// Readers at once. A client that takes a long list slowly keeps its reader all the while, which must not stop the others.
const MAX_READERS: usize = 128;
/// Instructions of SQLite's machine between two looks at the meter.
const STEP: i32 = 500;
/// Steps of a short read: about a millisecond.
const SHORT: i64 = 40;
/// Prepared statements kept on each connection.
const STATEMENTS: usize = 128;

pub(crate) struct Sqlite {
    pub(crate) writer: Writer,
    pub(crate) accounts: Arc<AccountsCache>,
    path: PathBuf,
    readers: Mutex<Readers>,
    returned: Condvar,
}

/// A connection that only reads.
struct Reader {
    connection: Connection,
    /// What is left of the work it may do, in steps of [`STEP`] instructions.
    left: Arc<AtomicI64>,
}

struct Readers {
    idle: Vec<Reader>,
    /// Idle ones, those in use, and those about to be opened.
    open: usize,
}

impl Sqlite {
    pub(crate) fn open(path: &Path, bus: Bus) -> StoreResult<Self> {
        let mut writer = connect(path, false)?;
        migrate(&mut writer)?;
        let readers = (0..READERS)
            .map(|_| connect_reader(path))
            .collect::<StoreResult<Vec<_>>>()?;
        let accounts = Arc::new(AccountsCache::default());
        Ok(Self {
            writer: Writer::start(SqliteWriter {
                connection: writer,
                bus,
                accounts: accounts.clone(),
            })?,
            accounts,
            path: path.to_path_buf(),
            readers: Mutex::new(Readers {
                open: readers.len(),
                idle: readers,
            }),
            returned: Condvar::new(),
        })
    }

    /// See [`crate::Store::copy_to`].
    pub(crate) fn copy_to(&self, target: &Path, without_jobs: bool) -> StoreResult<()> {
        let name = target
            .to_str()
            .ok_or_else(|| StoreError::Invalid("The copy's name is not text".into()))?;
        connect(&self.path, true)?.execute("VACUUM INTO ?1", [name])?;
        if without_jobs {
            let copy = Connection::open(target)?;
            copy.execute_batch("DELETE FROM job_log; DELETE FROM jobs; VACUUM")?;
            copy.close().map_err(|(_, e)| e)?;
        }
        Ok(())
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>) -> StoreResult<T> {
        let reader = self.reader()?;
        self.read_with(reader, i64::MAX, work)
    }

    /// Reads if that takes about a millisecond at most and nobody has to be waited for, else fails with `TooLong`.
    pub(crate) fn read_short<T>(&self, work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>) -> StoreResult<T> {
        let reader = self.readers.lock().idle.pop();
        self.read_with(reader.ok_or(StoreError::TooLong)?, SHORT, work)
    }

    fn read_with<T>(
        &self,
        mut reader: Reader,
        steps: i64,
        work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>,
    ) -> StoreResult<T> {
        reader.left.store(steps, Ordering::Relaxed);
        // The connection goes back whatever happens, else a fault in one reader would in time stop all of them.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| read_once(&mut reader.connection, work)));
        // Clearing up is not metered.
        reader.left.store(i64::MAX, Ordering::Relaxed);
        {
            let mut readers = self.readers.lock();
            if readers.idle.len() < READERS {
                readers.idle.push(reader);
            } else {
                readers.open -= 1;
            }
        }
        self.returned.notify_one();
        result.unwrap_or_else(|fault| std::panic::resume_unwind(fault))
    }

    /// A reader of its own: an idle one, else a new one, else the next that comes back.
    fn reader(&self) -> StoreResult<Reader> {
        {
            let mut readers = self.readers.lock();
            loop {
                if let Some(reader) = readers.idle.pop() {
                    return Ok(reader);
                }
                if readers.open < MAX_READERS {
                    readers.open += 1;
                    break;
                }
                self.returned.wait(&mut readers);
            }
        }
        connect_reader(&self.path).inspect_err(|_| {
            self.readers.lock().open -= 1;
            self.returned.notify_one();
        })
    }
}

fn read_once<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut dyn Sql) -> StoreResult<T>,
) -> StoreResult<T> {
    // A fault in an earlier reader may have left its transaction open.
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    // A read transaction gives all of the work's statements the same state.
    connection.prepare_cached("BEGIN")?.execute([])?;
    let result = work(connection);
    let ended = connection
        .prepare_cached("ROLLBACK")
        .and_then(|mut s| s.execute([]));
    match (result, ended) {
        // An interrupted statement may have ended the transaction by itself.
        (Err(e), _) => Err(e),
        (Ok(_), Err(e)) => Err(e.into()),
        (Ok(value), Ok(_)) => Ok(value),
    }
}

fn connect_reader(path: &Path) -> StoreResult<Reader> {
    let connection = connect(path, true)?;
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let meter = left.clone();
    // True interrupts the statement.
    connection.progress_handler(STEP, Some(move || meter.fetch_sub(1, Ordering::Relaxed) <= 0));
    Ok(Reader { connection, left })
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
    let known = migrations::known();
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, step) in migrations::after(found) {
        let tx = c.transaction()?;
        tx.execute_batch(
            &step
                .replace("{autoincrement}", "INTEGER PRIMARY KEY AUTOINCREMENT")
                .replace("{blob}", "BLOB")
                .replace("{clustered}", " WITHOUT ROWID"),
        )?;
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    Ok(())
}

struct SqliteWriter {
    connection: Connection,
    bus: Bus,
    accounts: Arc<AccountsCache>,
}

impl WriteConnection for SqliteWriter {
    fn begin(&mut self) -> StoreResult<()> {
        self.control("BEGIN IMMEDIATE")
    }
    fn control(&mut self, statement: &str) -> StoreResult<()> {
        self.connection.prepare_cached(statement)?.execute([])?;
        Ok(())
    }
    fn commit(&mut self, _events: &[Event]) -> StoreResult<()> {
        self.control("COMMIT")
    }
    fn sql(&mut self) -> &mut dyn Sql {
        &mut self.connection
    }
    fn committed(&mut self, done: Done) {
        if done.accounts_changed {
            self.accounts.changed();
        }
        for event in done.events {
            self.bus.send(event);
        }
    }
}

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

impl Sql for Connection {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn query(&mut self, sql: &str, params: &[P], on_row: OnRow) -> StoreResult<()> {
        check(params)?;
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        while let Some(row) = rows.next()? {
            if on_row(&SqliteRow(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn execute(&mut self, sql: &str, params: &[P]) -> StoreResult<u64> {
        check(params)?;
        let mut statement = self.prepare_cached(sql)?;
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
