//! SQLite: files of others, uploads, and our own rows staged for a query.

use super::{Database, OnRow, SourceError, note_column};
use crate::cell::Cell;
use crate::query::{Dialect, Query, Table};
use crate::template::ColumnType;
use jiff::civil::{Date, DateTime};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

const DAY: i64 = 86_400_000;

fn failed(e: rusqlite::Error) -> SourceError {
    SourceError::Source(match e {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text,
        e => e.to_string(),
    })
}

/// Milliseconds since 1970 of a point in time as programs write it: ISO 8601, with or without a zone (then UTC).
pub(crate) fn milliseconds(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Some(stamp.as_millisecond());
    }
    let utc = |d: DateTime| {
        Some(
            d.to_zoned(jiff::tz::TimeZone::UTC)
                .ok()?
                .timestamp()
                .as_millisecond(),
        )
    };
    if let Ok(time) = text.parse::<DateTime>() {
        return utc(time);
    }
    text.parse::<Date>().ok().and_then(|d| utc(d.into()))
}

fn ms(value: ValueRef) -> Option<i64> {
    match value {
        ValueRef::Integer(n) => Some(n),
        #[allow(clippy::cast_possible_truncation)]
        ValueRef::Real(r) if r.is_finite() => Some(r as i64),
        ValueRef::Text(t) => milliseconds(std::str::from_utf8(t).ok()?),
        _ => None,
    }
}

fn number(value: ValueRef) -> Value {
    match value {
        ValueRef::Integer(n) => Value::Integer(n),
        ValueRef::Real(r) => Value::Real(r),
        ValueRef::Text(t) => match std::str::from_utf8(t).map(Cell::number) {
            Ok(Cell::Int(n)) => Value::Integer(n),
            Ok(Cell::Number(n)) => n.parse().map_or(Value::Null, Value::Real),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

/// The functions that the query builder uses.
fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_UTF8;
    connection.create_scalar_function("encke_ms", 1, flags, |c: &Context| Ok(ms(c.get_raw(0))))?;
    connection.create_scalar_function("encke_day", 1, flags, |c: &Context| {
        Ok(ms(c.get_raw(0)).map(|ms| ms.div_euclid(DAY) * DAY))
    })?;
    connection.create_scalar_function("encke_number", 1, flags, |c: &Context| Ok(number(c.get_raw(0))))?;
    connection.create_scalar_function("encke_lower", 1, flags, |c: &Context| {
        Ok(c.get_raw(0)
            .as_str_or_null()
            .ok()
            .flatten()
            .map(str::to_lowercase))
    })
}

pub(super) struct Sqlite {
    connection: Connection,
    timeout: u64,
}

/// Opens a file read-only.
pub(super) fn open(path: &Path, timeout: u64) -> Result<Sqlite, SourceError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let prepare = || {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "query_only", true)?;
        // Views and triggers of a stranger's file may call nothing but plain functions.
        connection.pragma_update(None, "trusted_schema", false)?;
        add_functions(&connection)?;
        connection.execute_batch("BEGIN")
    };
    prepare().map_err(failed)?;
    Ok(Sqlite { connection, timeout })
}

/// The nearest type of a declared one.
fn kind_of(declared: &str) -> ColumnType {
    let declared = declared.to_ascii_uppercase();
    let has = |word: &str| declared.contains(word);
    if has("DATETIME") || has("TIMESTAMP") {
        ColumnType::DateTime
    } else if has("DATE") {
        ColumnType::Date
    } else if has("INT") || has("REAL") || has("FLOA") || has("DOUB") || has("NUM") || has("DEC") {
        ColumnType::Number
    } else {
        ColumnType::String
    }
}

impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn tables(&mut self) -> Result<Vec<Table>, SourceError> {
        let mut list = Vec::new();
        let mut read = || {
            let mut statement = self.connection.prepare(
                "SELECT m.name, c.name, c.type FROM sqlite_schema m JOIN pragma_table_xinfo(m.name) c
                 WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'
                 ORDER BY m.name, c.cid LIMIT ?1",
            )?;
            let mut rows = statement.query([super::MAX_TABLE_COLUMNS])?;
            while let Some(row) = rows.next()? {
                let declared: String = row.get(2)?;
                note_column(&mut list, None, row.get(0)?, row.get(1)?, kind_of(&declared));
            }
            Ok(())
        };
        read().map_err(failed)?;
        Ok(list)
    }

    fn query(&mut self, query: &Query, on_row: OnRow) -> Result<(), SourceError> {
        let interrupt = self.connection.get_interrupt_handle();
        let timeout = Duration::from_secs(self.timeout);
        let (done, wait) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if wait.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout) {
                    interrupt.interrupt();
                }
            });
            let result = self.run(query, on_row);
            drop(done);
            result
        })
    }
}

impl Sqlite {
    fn run(&self, query: &Query, on_row: OnRow) -> Result<(), SourceError> {
        let failed = |e: rusqlite::Error| match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => SourceError::Timeout(self.timeout),
            _ => failed(e),
        };
        let params = query.params.iter().map(|cell| match cell {
            Cell::Null => Value::Null,
            Cell::Int(n) => Value::Integer(*n),
            Cell::Number(n) => Value::Real(n.parse().unwrap_or_default()),
            Cell::Text(t) => Value::Text(t.clone()),
        });
        let mut statement = self.connection.prepare(&query.sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(params)).map_err(failed)?;
        let mut cells = Vec::with_capacity(query.kinds.len());
        while let Some(row) = rows.next().map_err(failed)? {
            cells.clear();
            for (at, kind) in query.kinds.iter().enumerate() {
                let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
                cells.push(match row.get_ref(at).map_err(failed)? {
                    ValueRef::Null | ValueRef::Blob(_) => Cell::Null,
                    ValueRef::Integer(n) => Cell::Int(n),
                    ValueRef::Real(r) => Cell::float(r),
                    ValueRef::Text(t) if kind.is_numeric() || kind.is_time() => Cell::number(&text(t)),
                    ValueRef::Text(t) => Cell::Text(text(t)),
                });
            }
            on_row(&cells)?;
        }
        Ok(())
    }
}

/// A column of a staged table.
#[derive(Clone, Debug)]
pub struct StageColumn {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: ColumnType,
}

/// A database file being filled with rows that come from elsewhere.
pub struct Stage {
    connection: Connection,
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Stage {
    /// A new file; one of that name must not exist.
    ///
    /// # Errors
    /// The file can not be made.
    pub fn create(path: &Path) -> Result<Self, SourceError> {
        let connection = Connection::open(path).map_err(failed)?;
        // The file is used only once it is whole, so a crash while it is filled does no harm.
        connection
            .execute_batch(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000; BEGIN",
            )
            .map_err(failed)?;
        Ok(Self { connection })
    }

    /// Lets the file grow to so many bytes and no further; whoever fills it on hears that it is full.
    ///
    /// # Errors
    /// The file can not be read.
    pub fn limit(&mut self, bytes: u64) -> Result<(), SourceError> {
        let size: u64 = self
            .connection
            .pragma_query_value(None, "page_size", |r| r.get(0))
            .map_err(failed)?;
        let pages = (bytes / size.max(1)).clamp(1, u64::from(u32::MAX - 2));
        // The pragma answers with what is in force.
        self.connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(failed)
    }

    /// Adds a table and fills it; `fill` is handed a function that takes row after row.
    ///
    /// # Errors
    /// The disk is full, or `fill` fails.
    pub fn table<F>(&mut self, name: &str, columns: &[StageColumn], fill: F) -> Result<(), SourceError>
    where
        F: FnOnce(OnRow) -> Result<(), SourceError>,
    {
        let declared: Vec<String> = columns
            .iter()
            .map(|c| {
                let kind = match c.kind {
                    ColumnType::Number | ColumnType::Amount => "NUMERIC",
                    ColumnType::Date => "DATE",
                    ColumnType::DateTime => "DATETIME",
                    ColumnType::String | ColumnType::ImageLink => "TEXT",
                };
                format!("{} {kind}", quote(&c.name))
            })
            .collect();
        let create = format!("CREATE TABLE {} ({})", quote(name), declared.join(", "));
        self.connection.execute_batch(&create).map_err(failed)?;
        let places = vec!["?"; columns.len()].join(", ");
        let insert = format!("INSERT INTO {} VALUES ({places})", quote(name));
        let mut insert = self.connection.prepare(&insert).map_err(failed)?;
        fill(&mut |row| {
            for (at, cell) in row.iter().enumerate() {
                let bound = match cell {
                    Cell::Null => insert.raw_bind_parameter(at + 1, rusqlite::types::Null),
                    Cell::Int(n) => insert.raw_bind_parameter(at + 1, n),
                    Cell::Number(n) => {
                        insert.raw_bind_parameter(at + 1, n.parse::<f64>().unwrap_or_default())
                    }
                    Cell::Text(t) => insert.raw_bind_parameter(at + 1, t),
                };
                bound.map_err(failed)?;
            }
            insert.raw_execute().map_err(failed)?;
            Ok(())
        })
    }

    /// Makes the file whole.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(self) -> Result<(), SourceError> {
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        self.connection.close().map_err(|(_, e)| failed(e))
    }
}
