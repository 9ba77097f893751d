//! PostgreSQL: a read-only transaction of one state, with the server's own limit of time.

use super::{Address, CONNECT_TIME, Database, OnRow, SourceError, Tls, note_column, tls};
use crate::cell::Cell;
use crate::query::{Dialect, Query, Table};
use crate::template::ColumnType;
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::ToSql;
use postgres::{Client, Config};

pub(super) struct Postgres {
    client: Client,
    timeout: u64,
}

fn failed(e: &postgres::Error, timeout: u64) -> SourceError {
    if e.code() == Some(&SqlState::QUERY_CANCELED) {
        return SourceError::Timeout(timeout);
    }
    SourceError::Source(match e.as_db_error() {
        Some(told) => told.message().to_string(),
        None => {
            use std::error::Error as _;
            e.source().map_or_else(|| e.to_string(), |s| format!("{e}: {s}"))
        }
    })
}

pub(super) fn connect(address: &Address, password: &str, timeout: u64) -> Result<Postgres, SourceError> {
    let mut config = Config::new();
    config
        .host(&address.host)
        .port(address.port.unwrap_or(5432))
        .dbname(&address.database)
        .user(&address.user)
        .password(password)
        .application_name("encke-reports")
        .ssl_mode(match address.tls {
            Tls::Off => SslMode::Disable,
            Tls::Preferred => SslMode::Prefer,
            Tls::Required | Tls::Verified => SslMode::Require,
        })
        .connect_timeout(CONNECT_TIME)
        .options(&format!(
            "-c default_transaction_read_only=on -c statement_timeout={}",
            timeout * 1000
        ));
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls::config(address)?);
    let mut client = config.connect(tls).map_err(|e| failed(&e, timeout))?;
    client
        .batch_execute(
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL TIME ZONE 'UTC'",
        )
        .map_err(|e| failed(&e, timeout))?;
    Ok(Postgres { client, timeout })
}

fn kind_of(data_type: &str) -> ColumnType {
    match data_type {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => ColumnType::Number,
        "money" => ColumnType::Amount,
        "date" => ColumnType::Date,
        t if t.starts_with("timestamp") => ColumnType::DateTime,
        _ => ColumnType::String,
    }
}

impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn tables(&mut self) -> Result<Vec<Table>, SourceError> {
        let limit = i64::try_from(super::MAX_TABLE_COLUMNS).unwrap_or(i64::MAX);
        let rows = self.client.query(
            "SELECT n.nspname::text, c.relname::text, a.attname::text, format_type(a.atttypid, NULL)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
               AND has_table_privilege(c.oid, 'SELECT')
             ORDER BY n.nspname <> 'public', n.nspname, c.relname, a.attnum LIMIT $1",
            &[&limit],
        );
        let mut list = Vec::new();
        for row in rows.map_err(|e| failed(&e, self.timeout))? {
            let schema: String = row.get(0);
            let schema = (schema != "public").then_some(schema);
            note_column(&mut list, schema, row.get(1), row.get(2), kind_of(row.get(3)));
        }
        Ok(list)
    }

    fn query(&mut self, query: &Query, on_row: OnRow) -> Result<(), SourceError> {
        let timeout = self.timeout;
        let failed = |e: postgres::Error| failed(&e, timeout);
        let texts: Vec<Option<String>> = query
            .params
            .iter()
            .map(|cell| (*cell != Cell::Null).then(|| cell.text()))
            .collect();
        let params = texts.iter().map(|t| -> &(dyn ToSql + Sync) { t });
        let mut rows = self.client.query_raw(&query.sql, params).map_err(failed)?;
        let mut cells = Vec::with_capacity(query.kinds.len());
        while let Some(row) = rows.next().map_err(failed)? {
            cells.clear();
            for (at, kind) in query.kinds.iter().enumerate() {
                let text: Option<&str> = row.try_get(at).map_err(failed)?;
                cells.push(match text {
                    None => Cell::Null,
                    Some(t) if kind.is_numeric() || kind.is_time() => Cell::number(t),
                    Some(t) => t.into(),
                });
            }
            on_row(&cells)?;
        }
        Ok(())
    }
}
