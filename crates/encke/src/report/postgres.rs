//! Rows into a table of a PostgreSQL database: typed, and exchanged at once when all are there.

use super::{Page, Pull, Row, State, Target, cell, keys};
use anyhow::{Context as _, bail};
use encke_reports::Cell;
use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};
use serde_json::{Map, Value};

/// A table of a database.
pub(super) struct Table {
    client: Client,
    /// As it was given.
    name: String,
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name, with its schema where one is given.
fn quoted(name: &str, end: &str) -> String {
    match name.split_once('.') {
        Some((schema, table)) => format!("{}.{}", quote(schema), quote(&format!("{table}{end}"))),
        None => quote(&format!("{name}{end}")),
    }
}

impl Table {
    pub(super) fn open(pull: &Pull) -> anyhow::Result<Self> {
        let mut config: Config = pull
            .into
            .parse()
            .context("the address of the database can not be read")?;
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        config.application_name("encke report pull");
        let mut client = if config.get_ssl_mode() == SslMode::Disable {
            config.connect(NoTls)
        } else {
            config.connect(tokio_postgres_rustls::MakeRustlsConnect::new(
                encke_reports::source::system_tls()?,
            ))
        }
        .context("the database can not be reached")?;
        client.batch_execute(
            "SET TIME ZONE 'UTC'; SET client_min_messages = warning;
             CREATE TABLE IF NOT EXISTS encke_pulls (name text PRIMARY KEY, state text NOT NULL, newest bigint)",
        )?;
        let alone = client.query_one(
            "SELECT pg_try_advisory_lock(hashtext('encke report pull'), hashtext($1))",
            &[&pull.table],
        )?;
        if !alone.get::<_, bool>(0) {
            bail!("somebody else pulls into the table {} just now", pull.table);
        }
        Ok(Self {
            client,
            name: pull.table.clone(),
        })
    }

    /// Rows are gathered beside the table, but for those that only update it.
    fn place(&self, state: &State) -> String {
        quoted(&self.name, if state.since.is_some() { "" } else { "_pulling" })
    }
}

/// A row as PostgreSQL reads it: days and points in time as text, and no character that it can not keep.
fn read(page: &Page, row: &Row) -> Map<String, Value> {
    let kind = |key: &str| {
        let at = page.column_keys.iter().position(|k| k == key);
        at.and_then(|at| page.column_types.get(at)).map(String::as_str)
    };
    let one = |key: &String, value: Cell| match value {
        Cell::Null => Value::Null,
        Cell::Int(ms) if kind(key) == Some("DATE") => jiff::Timestamp::from_millisecond(ms)
            .map_or(Value::Null, |t| t.strftime("%Y-%m-%d").to_string().into()),
        Cell::Int(ms) if kind(key) == Some("DATETIME") || key == "lastUpdateDateTime" => {
            jiff::Timestamp::from_millisecond(ms).map_or(Value::Null, |t| t.to_string().into())
        }
        Cell::Int(n) => n.into(),
        // As text, so that no digit is lost.
        Cell::Number(n) => n.into(),
        Cell::Text(t) => t.replace('\0', "").into(),
    };
    row.keys()
        .map(|key| (key.clone(), one(key, cell(row, key))))
        .collect()
}

impl Target for Table {
    fn broken_off(&mut self) -> Option<State> {
        let query = "SELECT state FROM encke_pulls WHERE name = $1";
        let row = self.client.query_opt(query, &[&self.name]).ok()??;
        serde_json::from_str(row.get(0)).ok()
    }

    fn newest(&mut self) -> anyhow::Result<Option<i64>> {
        let query = "SELECT newest FROM encke_pulls WHERE name = $1";
        let row = self.client.query_opt(query, &[&self.name])?;
        Ok(row.and_then(|r| r.get(0)))
    }

    fn begin(&mut self, page: &Page, state: &State) -> anyhow::Result<()> {
        if state.since.is_some() {
            return Ok(());
        }
        let place = self.place(state);
        let kind = |key: &String| {
            let at = page.column_keys.iter().position(|k| k == key);
            let first = || page.results.first().map_or(Cell::Null, |row| cell(row, key));
            match at.and_then(|at| page.column_types.get(at)).map(String::as_str) {
                Some("NUMBER" | "AMOUNT") => "numeric",
                Some("DATE") => "date",
                Some("DATETIME") => "timestamptz",
                Some(_) => "text",
                None if key == "lastUpdateDateTime" => "timestamptz",
                None => match first() {
                    Cell::Int(_) | Cell::Number(_) => "numeric PRIMARY KEY",
                    _ => "text PRIMARY KEY",
                },
            }
        };
        let columns: Vec<String> = keys(page)
            .iter()
            .map(|k| format!("{} {}", quote(k), kind(k)))
            .collect();
        self.client.batch_execute(&format!(
            "DROP TABLE IF EXISTS {place}; CREATE TABLE {place} ({})",
            columns.join(", ")
        ))?;
        Ok(())
    }

    fn put(&mut self, page: &Page, state: &State) -> anyhow::Result<()> {
        let place = self.place(state);
        let keys = keys(page);
        let columns: Vec<String> = keys.iter().map(|k| quote(k)).collect();
        let list = columns.join(", ");
        let rows: Vec<Map<String, Value>> = page.results.iter().map(|r| read(page, r)).collect();
        let rows = serde_json::to_string(&rows)?;
        let source = format!("json_populate_recordset(NULL::{place}, CAST($1::text AS json))");
        let insert = if keys.iter().any(|k| k == "uid") {
            let changes: Vec<String> = columns.iter().map(|c| format!("{c} = excluded.{c}")).collect();
            format!(
                "INSERT INTO {place} ({list}) SELECT DISTINCT ON (uid) {list} FROM {source}
                 ON CONFLICT (uid) DO UPDATE SET {}",
                changes.join(", ")
            )
        } else {
            format!("INSERT INTO {place} ({list}) SELECT {list} FROM {source}")
        };
        let mut change = self.client.transaction()?;
        if !page.results.is_empty() {
            change.execute(&insert, &[&rows])?;
        }
        change.execute(
            "INSERT INTO encke_pulls (name, state) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET state = $2",
            &[&self.name, &serde_json::to_string(state)?],
        )?;
        change.commit()?;
        Ok(())
    }

    fn finish(&mut self, state: &State) -> anyhow::Result<()> {
        let (name, place) = (quoted(&self.name, ""), self.place(state));
        let plain = quote(
            self.name
                .split_once('.')
                .map_or(self.name.as_str(), |(_, table)| table),
        );
        let mut change = self.client.transaction()?;
        if state.since.is_none() {
            change.batch_execute(&format!(
                "DROP TABLE IF EXISTS {name}; ALTER TABLE {place} RENAME TO {plain}"
            ))?;
        }
        let has_time = change.query_opt(
            "SELECT 1 FROM pg_attribute WHERE attrelid = CAST($1::text AS regclass) AND attname = 'lastUpdateDateTime'",
            &[&name],
        )?;
        let newest: Option<i64> = match has_time {
            Some(_) => {
                let query = format!(
                    "SELECT CAST(floor(extract(epoch FROM max(\"lastUpdateDateTime\")) * 1000) AS bigint) FROM {name}"
                );
                change.query_one(&query, &[])?.get(0)
            }
            None => None,
        };
        change.execute(
            "UPDATE encke_pulls SET state = '', newest = $2 WHERE name = $1",
            &[&self.name, &newest],
        )?;
        change.commit()?;
        Ok(())
    }
}
