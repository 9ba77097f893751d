//! Rows into a table of an SQLite file.

use super::{Page, Pull, State, Target, cell, keys};
use anyhow::Context as _;
use encke_reports::Cell;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use std::time::Duration;

/// A table of an SQLite file.
pub(super) struct Table {
    connection: Connection,
    name: String,
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Table {
    pub(super) fn open(pull: &Pull) -> anyhow::Result<Self> {
        let connection = Connection::open(&pull.into).with_context(|| pull.into.clone())?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS encke_pulls (name TEXT PRIMARY KEY, state TEXT NOT NULL, newest INTEGER)",
        )?;
        Ok(Self {
            connection,
            name: pull.table.clone(),
        })
    }

    /// Rows are gathered beside the table, but for those that only update it.
    fn place(&self, state: &State) -> String {
        match state.since {
            Some(_) => quote(&self.name),
            None => quote(&format!("{}_pulling", self.name)),
        }
    }
}

impl Target for Table {
    fn broken_off(&mut self) -> Option<State> {
        let query = "SELECT state FROM encke_pulls WHERE name = ?1";
        let text: String = self
            .connection
            .query_row(query, [&self.name], |r| r.get(0))
            .ok()?;
        serde_json::from_str(&text).ok()
    }

    fn newest(&mut self) -> anyhow::Result<Option<i64>> {
        let query = "SELECT newest FROM encke_pulls WHERE name = ?1";
        let found = self
            .connection
            .query_row(query, [&self.name], |r| r.get(0))
            .optional()?;
        Ok(found.flatten())
    }

    fn begin(&mut self, page: &Page, state: &State) -> anyhow::Result<()> {
        if state.since.is_some() {
            return Ok(());
        }
        let place = self.place(state);
        let kind = |key: &str| {
            let at = page.column_keys.iter().position(|k| k == key);
            match at.and_then(|at| page.column_types.get(at)).map(String::as_str) {
                Some("NUMBER" | "AMOUNT") => " NUMERIC",
                Some("DATE" | "DATETIME") => " INTEGER",
                Some(_) => " TEXT",
                None if key == "uid" => " PRIMARY KEY",
                None => " INTEGER",
            }
        };
        let columns: Vec<String> = keys(page)
            .iter()
            .map(|k| format!("{}{}", quote(k), kind(k)))
            .collect();
        self.connection.execute_batch(&format!(
            "DROP TABLE IF EXISTS {place}; CREATE TABLE {place} ({})",
            columns.join(", ")
        ))?;
        Ok(())
    }

    fn put(&mut self, page: &Page, state: &State) -> anyhow::Result<()> {
        let place = self.place(state);
        let keys = keys(page);
        let columns: Vec<String> = keys.iter().map(|k| quote(k)).collect();
        let insert = format!(
            "INSERT OR REPLACE INTO {place} ({}) VALUES ({})",
            columns.join(", "),
            vec!["?"; keys.len()].join(", ")
        );
        let change = self.connection.transaction()?;
        if !page.results.is_empty() {
            let mut insert = change.prepare(&insert)?;
            for row in &page.results {
                insert.execute(params_from_iter(keys.iter().map(|key| match cell(row, key) {
                    Cell::Int(n) => rusqlite::types::Value::Integer(n),
                    Cell::Number(n) => rusqlite::types::Value::Real(n.parse().unwrap_or_default()),
                    Cell::Text(t) => rusqlite::types::Value::Text(t),
                    Cell::Null => rusqlite::types::Value::Null,
                })))?;
            }
        }
        change.execute(
            "INSERT INTO encke_pulls (name, state) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET state = ?2",
            (&self.name, serde_json::to_string(state)?),
        )?;
        change.commit()?;
        Ok(())
    }

    fn finish(&mut self, state: &State) -> anyhow::Result<()> {
        let (name, place) = (quote(&self.name), self.place(state));
        let change = self.connection.transaction()?;
        if state.since.is_none() {
            change.execute_batch(&format!(
                "DROP TABLE IF EXISTS {name}; ALTER TABLE {place} RENAME TO {name}"
            ))?;
        }
        let column = "SELECT 1 FROM pragma_table_info(?1) WHERE name = 'lastUpdateDateTime'";
        let has_time = change
            .query_row(column, [&self.name], |_| Ok(()))
            .optional()?
            .is_some();
        let newest: Option<i64> = match has_time {
            true => change.query_row(&format!("SELECT MAX(lastUpdateDateTime) FROM {name}"), [], |r| {
                r.get(0)
            })?,
            false => None,
        };
        change.execute(
            "UPDATE encke_pulls SET state = '', newest = ?2 WHERE name = ?1",
            (&self.name, newest),
        )?;
        change.commit()?;
        Ok(())
    }
}
