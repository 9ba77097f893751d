//! The little SQL that capabilities are written against: parameters `?1`, `?2`..., columns by number. Statements
//! keep to what SQLite and PostgreSQL both understand.

use crate::audit::Asker;
use crate::error::{StoreError, StoreResult};
use crate::events::EventDraft;
use std::ops::ControlFlow;

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub enum P<'a> {
    /// Text.
    Text(&'a str),
    /// Whole number.
    Int(i64),
    /// Bytes.
    Blob(&'a [u8]),
    /// NULL.
    Null,
}

impl<'a> From<&'a str> for P<'a> {
    fn from(v: &'a str) -> Self {
        P::Text(v)
    }
}
impl<'a> From<&'a String> for P<'a> {
    fn from(v: &'a String) -> Self {
        P::Text(v)
    }
}
impl From<i64> for P<'_> {
    fn from(v: i64) -> Self {
        P::Int(v)
    }
}
impl From<bool> for P<'_> {
    fn from(v: bool) -> Self {
        P::Int(i64::from(v))
    }
}

/// A row of a result.
pub trait Row {
    /// A text column.
    ///
    /// # Errors
    /// The column is NULL or not text.
    fn text(&self, column: usize) -> StoreResult<&str>;
    /// A whole number.
    ///
    /// # Errors
    /// The column is NULL or not a number.
    fn int(&self, column: usize) -> StoreResult<i64>;
    /// Bytes.
    ///
    /// # Errors
    /// The column is NULL or not bytes.
    fn blob(&self, column: usize) -> StoreResult<&[u8]>;
    /// Whether the column is NULL.
    fn is_null(&self, column: usize) -> bool;
}

/// Called for each row; breaks to stop early.
pub type OnRow<'a> = &'a mut dyn FnMut(&dyn Row) -> StoreResult<ControlFlow<()>>;

/// Which database runs the statements, for the little they do not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// Refuses text that not every database can hold.
pub(crate) fn check(params: &[P]) -> StoreResult<()> {
    if params.iter().any(|p| matches!(p, P::Text(t) if t.contains('\0'))) {
        return Err(StoreError::Invalid(
            "Text can not contain the character NUL".into(),
        ));
    }
    Ok(())
}

/// A connection.
pub trait Sql {
    /// Which database this is.
    fn dialect(&self) -> Dialect;
    /// As [`Sql::query`], for results of few rows: they may be collected before the first one is handed over.
    ///
    /// # Errors
    /// The statement fails, or `on_row` does.
    fn query_few(&mut self, sql: &str, params: &[P], on_row: OnRow) -> StoreResult<()> {
        self.query(sql, params, on_row)
    }
    /// Runs a query and hands over row after row.
    ///
    /// # Errors
    /// The statement fails, or `on_row` does.
    fn query(&mut self, sql: &str, params: &[P], on_row: OnRow) -> StoreResult<()>;
    /// Runs a statement; answers how many rows it touched.
    ///
    /// # Errors
    /// The statement fails.
    fn execute(&mut self, sql: &str, params: &[P]) -> StoreResult<u64>;
}

impl dyn Sql + '_ {
    /// The first row of a query, made into a value.
    ///
    /// # Errors
    /// The statement or `map` fails.
    pub fn first<T>(
        &mut self,
        sql: &str,
        params: &[P],
        mut map: impl FnMut(&dyn Row) -> StoreResult<T>,
    ) -> StoreResult<Option<T>> {
        let mut found = None;
        self.query_few(sql, params, &mut |row| {
            found = Some(map(row)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// All rows of a query. For results that are small by their nature; stream the others with [`Sql::query`].
    ///
    /// # Errors
    /// The statement or `map` fails.
    pub fn all<T>(
        &mut self,
        sql: &str,
        params: &[P],
        mut map: impl FnMut(&dyn Row) -> StoreResult<T>,
    ) -> StoreResult<Vec<T>> {
        let mut found = Vec::new();
        self.query_few(sql, params, &mut |row| {
            found.push(map(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}

/// A transaction: statements, and the events that tell of the change.
pub struct Tx<'a> {
    /// Who asked for it.
    pub(crate) asker: Asker,
    pub(crate) sql: &'a mut dyn Sql,
    pub(crate) events: &'a mut Vec<EventDraft>,
    /// Whether an account was added, changed or removed.
    pub(crate) accounts_changed: &'a mut bool,
}

impl Tx<'_> {
    /// The connection.
    pub fn sql(&mut self) -> &mut dyn Sql {
        self.sql
    }

    /// Runs a statement; answers how many rows it touched.
    ///
    /// # Errors
    /// The statement fails.
    pub fn execute(&mut self, sql: &str, params: &[P]) -> StoreResult<u64> {
        self.sql.execute(sql, params)
    }

    /// Adds an event: stored with the change, and sent once it is on disk.
    pub fn emit(&mut self, event: EventDraft) {
        self.events.push(event);
    }
}
