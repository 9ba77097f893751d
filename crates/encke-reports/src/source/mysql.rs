//! MySQL and MariaDB: a read-only transaction of one state, with the server's own limit of time.

use super::{Address, CONNECT_TIME, Database, OnRow, SourceError, Tls, note_column, tls};
use crate::cell::Cell;
use crate::query::{Dialect, Query, Table};
use crate::template::ColumnType;
use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder, Params, Value};
use std::time::Duration;

/// How much longer than the server's limit we wait for an answer.
const GRACE: Duration = Duration::from_secs(10);
/// The errors by which MariaDB and MySQL say that a statement took too long.
const TOO_LONG: [u16; 2] = [1969, 3024];

pub(super) struct Mysql {
    connection: Conn,
    timeout: u64,
}

fn failed(e: mysql::Error, timeout: u64) -> SourceError {
    match e {
        mysql::Error::MySqlError(told) if TOO_LONG.contains(&told.code) => SourceError::Timeout(timeout),
        mysql::Error::MySqlError(told) => SourceError::Source(told.message),
        e => SourceError::Source(e.to_string()),
    }
}

pub(super) fn connect(address: &Address, password: &str, timeout: u64) -> Result<Mysql, SourceError> {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(&address.host))
        .tcp_port(address.port.unwrap_or(3306))
        .db_name(Some(&address.database))
        .user(Some(&address.user))
        .pass(Some(password))
        .prefer_socket(false)
        // The server may ask the client for a file of its own: never.
        .local_infile_handler(None)
        .tcp_connect_timeout(Some(CONNECT_TIME))
        .read_timeout(Some(Duration::from_secs(timeout) + GRACE));
    let protection = tls::options(address)?;
    let secured = options
        .clone()
        .ssl_opts(protection.as_ref().map(|(options, _)| options.clone()));
    let connected = match Conn::new(secured) {
        // One that offers no TLS says so before the password is sent.
        Err(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported))
            if address.tls == Tls::Preferred =>
        {
            Conn::new(options)
        }
        other => other,
    };
    let open = || {
        let mut connection = connected?;
        let version: Option<String> = connection.query_first("SELECT VERSION()")?;
        let is_mariadb = version.is_some_and(|v| v.contains("MariaDB"));
        connection.query_drop(
            "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'",
        )?;
        connection.query_drop(match is_mariadb {
            true => format!("SET SESSION max_statement_time = {timeout}"),
            false => format!("SET SESSION max_execution_time = {}", timeout * 1000),
        })?;
        connection.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
        connection.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
        Ok(connection)
    };
    let connection = open().map_err(|e| failed(e, timeout))?;
    Ok(Mysql { connection, timeout })
}

fn kind_of(data_type: &str) -> ColumnType {
    match data_type.to_ascii_lowercase().as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "float" | "double" | "year" => {
            ColumnType::Number
        }
        "date" => ColumnType::Date,
        "datetime" | "timestamp" => ColumnType::DateTime,
        _ => ColumnType::String,
    }
}

impl Database for Mysql {
    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    fn tables(&mut self) -> Result<Vec<Table>, SourceError> {
        let rows: Result<Vec<(String, String, String)>, _> = self.connection.exec(
            "SELECT table_name, column_name, data_type FROM information_schema.columns
             WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position LIMIT ?",
            (super::MAX_TABLE_COLUMNS,),
        );
        let mut list = Vec::new();
        for (table, column, kind) in rows.map_err(|e| failed(e, self.timeout))? {
            note_column(&mut list, None, table, column, kind_of(&kind));
        }
        Ok(list)
    }

    fn query(&mut self, query: &Query, on_row: OnRow) -> Result<(), SourceError> {
        let timeout = self.timeout;
        let failed = |e| failed(e, timeout);
        let params: Vec<Value> = query
            .params
            .iter()
            .map(|cell| match cell {
                Cell::Null => Value::NULL,
                Cell::Int(n) => Value::Int(*n),
                Cell::Number(t) | Cell::Text(t) => Value::Bytes(t.clone().into_bytes()),
            })
            .collect();
        let params = if params.is_empty() {
            Params::Empty
        } else {
            Params::Positional(params)
        };
        let rows = self.connection.exec_iter(&query.sql, params).map_err(failed)?;
        let mut cells = Vec::with_capacity(query.kinds.len());
        for row in rows {
            let row = row.map_err(failed)?;
            cells.clear();
            for (value, kind) in row.unwrap().into_iter().zip(&query.kinds) {
                cells.push(match value {
                    Value::NULL => Cell::Null,
                    Value::Int(n) => Cell::Int(n),
                    Value::UInt(n) => Cell::number(&n.to_string()),
                    Value::Float(n) => Cell::float(n.into()),
                    Value::Double(n) => Cell::float(n),
                    Value::Bytes(bytes) => {
                        let text = String::from_utf8_lossy(&bytes);
                        if kind.is_numeric() || kind.is_time() {
                            Cell::number(&text)
                        } else {
                            Cell::Text(text.into_owned())
                        }
                    }
                    // Times come as text: each is made a number by the statement.
                    other => Cell::Text(other.as_sql(true)),
                });
            }
            on_row(&cells)?;
        }
        Ok(())
    }
}
