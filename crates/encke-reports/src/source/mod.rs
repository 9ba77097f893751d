//! Where rows come from: databases that are asked by statements of the query builder, and never written to.

mod mysql;
mod postgres;
mod sqlite;
mod tls;

pub(crate) use self::sqlite::milliseconds;
pub use self::sqlite::{Stage, StageColumn};
pub use self::tls::{Tls, system_tls};

use crate::cell::Cell;
use crate::query::{Dialect, Query, Table};
use crate::template::Refused;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Most tables that are shown of a source, and most columns of all of them.
const MAX_TABLES: usize = 2000;
const MAX_TABLE_COLUMNS: usize = 50_000;
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Longest time that a statement may take unless the source says otherwise, in seconds.
const DEFAULT_TIMEOUT: u64 = 120;

/// Why rows can not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source refused or failed; its own words.
    #[error("The data source answers: {0}")]
    Source(String),
    /// The statement took longer than allowed.
    #[error("The data source took longer than the {0} seconds that its statements may take")]
    Timeout(u64),
    /// The report or template does not fit the source.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// Rows could not be passed on.
    #[error("{0}")]
    Sink(String),
}

/// A database outside, as its owner describes it. The password is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum External {
    /// PostgreSQL.
    Postgres(Address),
    /// MySQL or MariaDB.
    Mysql(Address),
    /// A file of SQLite's on the server.
    Sqlite {
        /// Absolute path.
        path: PathBuf,
        /// Longest time a statement may take, in seconds.
        #[serde(default, rename = "timeoutSeconds", skip_serializing_if = "Option::is_none")]
        timeout: Option<u64>,
    },
}

/// How a database server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// How the connection is protected.
    #[serde(default, skip_serializing_if = "Tls::is_default")]
    pub tls: Tls,
    /// Certificates of the authorities that are trusted when it is verified, in PEM form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Longest time a statement may take, in seconds.
    #[serde(default, rename = "timeoutSeconds", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl External {
    /// Longest time a statement may take, in seconds.
    #[must_use]
    pub fn timeout(&self) -> u64 {
        let said = match self {
            Self::Postgres(address) | Self::Mysql(address) => address.timeout,
            Self::Sqlite { timeout, .. } => *timeout,
        };
        said.unwrap_or(DEFAULT_TIMEOUT).clamp(1, 3600)
    }

    /// Connects, with the means of the database's own set so that nothing can be written and no statement runs on.
    ///
    /// # Errors
    /// The database does not answer or refuses.
    pub fn connect(&self, password: &str) -> Result<Box<dyn Database>, SourceError> {
        Ok(match self {
            Self::Postgres(address) => Box::new(postgres::connect(address, password, self.timeout())?),
            Self::Mysql(address) => Box::new(mysql::connect(address, password, self.timeout())?),
            Self::Sqlite { path, .. } => Box::new(sqlite::open(path, self.timeout())?),
        })
    }
}

/// Opens a database file that was made from an upload.
///
/// # Errors
/// The file can not be read.
pub fn open_file(path: &std::path::Path) -> Result<Box<dyn Database>, SourceError> {
    Ok(Box::new(sqlite::open(path, DEFAULT_TIMEOUT)?))
}

/// Takes a row; an error ends the query.
pub type OnRow<'a> = &'a mut dyn FnMut(&[Cell]) -> Result<(), SourceError>;

/// An open source.
pub trait Database {
    /// How statements are written.
    fn dialect(&self) -> Dialect;
    /// Tables and views with their columns.
    ///
    /// # Errors
    /// The source fails.
    fn tables(&mut self) -> Result<Vec<Table>, SourceError>;
    /// Runs a statement and hands over row after row. All queries of one connection see one state of the data.
    ///
    /// # Errors
    /// The source fails, takes too long, or `on_row` fails.
    fn query(&mut self, query: &Query, on_row: OnRow) -> Result<(), SourceError>;
}

impl dyn Database + '_ {
    /// All rows of a query whose result is small.
    ///
    /// # Errors
    /// As [`Database::query`].
    pub fn all(&mut self, query: &Query) -> Result<Vec<Vec<Cell>>, SourceError> {
        let mut rows = Vec::new();
        self.query(query, &mut |row| {
            rows.push(row.to_vec());
            Ok(())
        })?;
        Ok(rows)
    }
}

/// Puts a row of the catalogue (schema, table, column, type) into the list.
fn note_column(
    tables: &mut Vec<Table>,
    schema: Option<String>,
    table: String,
    column: String,
    kind: crate::template::ColumnType,
) {
    let column = crate::query::TableColumn { name: column, kind };
    if let Some(last) = tables.last_mut()
        && (&last.schema, &last.name) == (&schema, &table)
    {
        last.columns.push(column);
    } else if tables.len() < MAX_TABLES {
        tables.push(Table {
            schema,
            name: table,
            columns: vec![column],
        });
    }
}
