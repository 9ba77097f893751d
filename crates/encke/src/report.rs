//! `encke report pull`: keeps a copy of a shared report, the way consumers are meant to: page by page of one snapshot,
//! no faster than allowed, going on where it was broken off, and later only what has changed.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use encke_reports::{Cell, ColumnType, Shown, export};
use indicatif::{ProgressBar, ProgressStyle};
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Tries of a page when the server or the way to it fails, with a pause that doubles.
const TRIES: u32 = 6;
/// Longest answer that is read: a thousand rows of many columns.
const MAX_ANSWER: u64 = 256 << 20;

/// Work with shared reports.
#[derive(clap::Args)]
pub struct ReportArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Pull(Pull),
}

/// Pull all rows of a shared report into a file, or what changed since the last time.
///
/// A pull that was broken off goes on where it was. Into SQLite, the table is exchanged for the new rows at the end, at
/// once, so that whoever reads it never sees a part.
#[derive(clap::Args)]
struct Pull {
    /// Address with the API code, as the report's owner copied it.
    url: String,
    /// File: .sqlite or .db (a table), .csv, .jsonl or .parquet.
    #[arg(long)]
    into: PathBuf,
    /// Name of the table in an SQLite file.
    #[arg(long, default_value = "report")]
    table: String,
    /// Rows a page, 1 to 1000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1000))]
    page_size: u64,
    /// Only rows that changed since the last pull into this SQLite file. Rows that were deleted stay; pull without this
    /// now and then.
    #[arg(long)]
    incremental: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// A page as far as a copy needs it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    column_keys: Vec<String>,
    column_types: Vec<String>,
    results: Vec<Map<String, Value>>,
    total_size: u64,
    last_page: u64,
}

/// How far a pull is. Of the address only a hash is kept: the code in it is a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    address: String,
    snapshot: String,
    page_size: u64,
    next: u64,
    /// Rows changed since this time only.
    since: Option<i64>,
    /// Bytes of a text file that are good.
    bytes: u64,
}

/// Runs the command.
pub fn run(args: ReportArgs) -> anyhow::Result<()> {
    let Command::Pull(pull) = args.command;
    let end = pull.into.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match end {
        "sqlite" | "sqlite3" | "db" => Client::new(&pull)?.pull(&mut Table::open(&pull)?),
        "csv" | "jsonl" | "parquet" if pull.incremental => {
            bail!(
                "what changed can only be put into an SQLite file: {}",
                pull.into.display()
            )
        }
        "csv" => Client::new(&pull)?.pull(&mut Text::open(&pull, Kind::Csv)?),
        "jsonl" => Client::new(&pull)?.pull(&mut Text::open(&pull, Kind::JsonLines)?),
        "parquet" => Client::new(&pull)?.pull(&mut Text::open(&pull, Kind::Parquet)?),
        _ => bail!(
            "{}: the name has to end with .sqlite, .db, .csv, .jsonl or .parquet",
            pull.into.display()
        ),
    }
}

/// Where rows are copied to. A page and the state after it are kept together or not at all.
trait Target {
    /// The state of a pull that was broken off.
    fn broken_off(&self) -> Option<State>;
    /// The time of the newest change that is known, after a whole pull.
    fn newest(&self) -> anyhow::Result<Option<i64>>;
    fn begin(&mut self, page: &Page, state: &State) -> anyhow::Result<()>;
    fn put(&mut self, page: &Page, state: &State) -> anyhow::Result<()>;
    fn finish(&mut self, state: &State) -> anyhow::Result<()>;
}

struct Client {
    http: ureq::Agent,
    /// Address up to the page.
    base: String,
    query: String,
    page_size: u64,
    incremental: bool,
    quiet: bool,
}

impl Client {
    fn new(pull: &Pull) -> anyhow::Result<Self> {
        let wrong =
            "the address looks like https://host/data-backend/api/public/areports/run/0/25/?API_KEY=…";
        let (path, query) = pull.url.split_once('?').context(wrong)?;
        let (base, _) = path.split_once("/areports").context(wrong)?;
        let run = if base.ends_with("/apu/public") {
            "/areports"
        } else {
            "/areports/run"
        };
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            // A first page may have to wait for the rows to be fetched.
            .timeout_global(Some(Duration::from_secs(600)))
            .build();
        Ok(Self {
            http: http.into(),
            base: format!("{base}{run}"),
            query: query.to_string(),
            page_size: pull.page_size,
            incremental: pull.incremental,
            quiet: pull.quiet,
        })
    }

    fn pull(&self, target: &mut dyn Target) -> anyhow::Result<()> {
        let address = hex::encode(Sha256::digest(format!("{}?{}", self.base, self.query)));
        let fresh = State {
            address,
            page_size: self.page_size,
            since: if self.incremental { target.newest()? } else { None },
            ..State::default()
        };
        let mut state = match target.broken_off() {
            // The page's size and what was asked for stay until the pull is done.
            Some(s) if s.address == fresh.address && s.since.is_some() == fresh.since.is_some() => s,
            _ => fresh.clone(),
        };
        let bar = if self.quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        bar.set_style(ProgressStyle::with_template(
            "{bar:30} {human_pos} of {human_len} rows, {per_sec}, {eta} left",
        )?);
        loop {
            let Some((page, snapshot)) = self.page(&state)? else {
                // The snapshot is not kept any more: the pull begins anew.
                state = fresh.clone();
                continue;
            };
            if state.snapshot.is_empty() {
                state.snapshot = snapshot;
                target.begin(&page, &state)?;
            }
            bar.set_length(page.total_size);
            let done = page.results.is_empty() || state.next >= page.last_page;
            state.next += 1;
            target.put(&page, &state)?;
            bar.set_position((state.next * state.page_size).min(page.total_size));
            if done {
                target.finish(&state)?;
                bar.finish();
                println!("{} rows", page.total_size);
                return Ok(());
            }
        }
    }

    /// A page with the name of its snapshot; nothing when the wanted snapshot is gone.
    fn page(&self, state: &State) -> anyhow::Result<Option<(Page, String)>> {
        let mut url = format!("{}/{}/{}/?{}", self.base, state.next, state.page_size, self.query);
        if !state.snapshot.is_empty() {
            url += &format!("&snapshot={}", state.snapshot);
        }
        if let Some(since) = state.since {
            url += &format!("&changedSince={since}");
        }
        let mut pause = Duration::from_secs(1);
        for left in (0..TRIES).rev() {
            let failure = match self.http.get(&url).call() {
                Err(e) => e.to_string(),
                Ok(mut answer) => {
                    let header = |name| {
                        answer
                            .headers()
                            .get(name)
                            .and_then(|v| v.to_str().ok())
                            .map(String::from)
                    };
                    let status = answer.status().as_u16();
                    let wait = header("retry-after")
                        .and_then(|w| w.parse().ok())
                        .map(Duration::from_secs);
                    if header("x-ratelimit-remaining").as_deref() == Some("0") && status == 200 {
                        // The next call would be refused.
                        sleep(Duration::from_millis(100));
                    }
                    let snapshot = header("x-encke-snapshot").unwrap_or_default();
                    let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
                    match (status, text) {
                        (200, Ok(text)) => {
                            let page =
                                serde_json::from_str(&text).context("the answer is no page of a report")?;
                            return Ok(Some((page, snapshot)));
                        }
                        (200, Err(e)) => e.to_string(),
                        (410, _) if !state.snapshot.is_empty() => return Ok(None),
                        (429 | 500.., text) => {
                            pause = wait.unwrap_or(pause);
                            format!("status {status}: {}", text.unwrap_or_default())
                        }
                        (_, text) => bail!(
                            "the server answers with status {status}: {}",
                            text.unwrap_or_default()
                        ),
                    }
                }
            };
            if left == 0 {
                bail!("page {} can not be had: {failure}", state.next);
            }
            sleep(pause);
            pause *= 2;
        }
        unreachable!("the last try returns")
    }
}

/// A table of an SQLite file.
struct Table {
    connection: Connection,
    name: String,
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The keys of a page's rows: number, columns, and what rows carry beside.
fn keys(page: &Page) -> Vec<String> {
    let mut keys = page.column_keys.clone();
    if let Some(row) = page.results.first() {
        let ours = ["uid", "lastUpdateDateTime"].into_iter();
        keys.extend(ours.filter(|k| row.contains_key(*k)).map(String::from));
    }
    keys
}

impl Table {
    fn open(pull: &Pull) -> anyhow::Result<Self> {
        let connection = Connection::open(&pull.into).with_context(|| pull.into.display().to_string())?;
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
    fn broken_off(&self) -> Option<State> {
        let query = "SELECT state FROM encke_pulls WHERE name = ?1";
        let text: String = self
            .connection
            .query_row(query, [&self.name], |r| r.get(0))
            .ok()?;
        serde_json::from_str(&text).ok()
    }

    fn newest(&self) -> anyhow::Result<Option<i64>> {
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
                insert.execute(params_from_iter(keys.iter().map(|key| match row.get(key) {
                    Some(Value::Number(n)) => match n.as_i64() {
                        Some(n) => rusqlite::types::Value::Integer(n),
                        None => rusqlite::types::Value::Real(n.as_f64().unwrap_or_default()),
                    },
                    Some(Value::String(t)) => rusqlite::types::Value::Text(t.clone()),
                    _ => rusqlite::types::Value::Null,
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

/// What the gathered rows become.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Csv,
    JsonLines,
    /// Gathered as JSON lines, for a part of a Parquet file can not be gone on with.
    Parquet,
}

/// A file of rows, gathered as text beside its name until it is whole.
struct Text {
    path: PathBuf,
    part: PathBuf,
    kind: Kind,
    /// Columns of the rows, as the last page told.
    columns: Vec<Shown>,
    state: Option<State>,
}

impl Text {
    fn open(pull: &Pull, kind: Kind) -> anyhow::Result<Self> {
        let beside = |end: &str| {
            let mut name = pull.into.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        Ok(Self {
            path: pull.into.clone(),
            part: beside(".part"),
            kind,
            columns: Vec::new(),
            state: fs::read(beside(".state"))
                .ok()
                .and_then(|t| serde_json::from_slice(&t).ok()),
        })
    }

    /// The gathered rows as a Parquet file.
    fn parquet(&self) -> anyhow::Result<()> {
        let draft = self.path.with_extension("parquet.new");
        let rows = BufReader::new(File::open(&self.part)?);
        let file = File::create(&draft).with_context(|| draft.display().to_string())?;
        export::write_parquet(&self.columns, file.try_clone()?, |push| {
            for line in rows.lines() {
                let row: Map<String, Value> = serde_json::from_str(&line?).map_err(std::io::Error::from)?;
                let cells: Vec<Cell> = self.columns.iter().map(|c| cell(row.get(&c.key))).collect();
                push(&cells)?;
            }
            Ok(())
        })?;
        file.sync_all()?;
        fs::rename(draft, &self.path)?;
        fs::remove_file(&self.part)?;
        Ok(())
    }

    fn state_file(&self) -> PathBuf {
        // "x.csv.part" and "x.csv.state".
        self.part.with_extension("state")
    }
}

fn cell(value: Option<&Value>) -> Cell {
    match value {
        Some(Value::String(t)) => Cell::Text(t.clone()),
        Some(Value::Number(n)) => Cell::number(&n.to_string()),
        _ => Cell::Null,
    }
}

/// The columns of a page's rows with their types; what rows carry beside has that of its first value.
fn columns(page: &Page) -> Vec<Shown> {
    let kind = |key: &str| {
        let at = page.column_keys.iter().position(|k| k == key);
        let told = at.and_then(|at| page.column_types.get(at)).cloned();
        let first = page.results.first().and_then(|row| row.get(key));
        match (told, first) {
            (Some(told), _) => serde_json::from_value(told.into()).unwrap_or(ColumnType::String),
            (None, _) if key == "lastUpdateDateTime" => ColumnType::DateTime,
            (None, Some(Value::Number(_))) => ColumnType::Number,
            (None, _) => ColumnType::String,
        }
    };
    let shown = |key: String| Shown {
        kind: kind(&key),
        name: key.clone(),
        key,
    };
    keys(page).into_iter().map(shown).collect()
}

fn field(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(t) => t.clone(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

impl Target for Text {
    fn broken_off(&self) -> Option<State> {
        let length = fs::metadata(&self.part).ok()?.len();
        self.state.clone().filter(|s| s.bytes <= length)
    }

    fn newest(&self) -> anyhow::Result<Option<i64>> {
        Ok(None)
    }

    fn begin(&mut self, page: &Page, _: &State) -> anyhow::Result<()> {
        let mut file = File::create(&self.part).with_context(|| self.part.display().to_string())?;
        if self.kind == Kind::Csv {
            let names: Vec<String> = keys(page).into_iter().map(|k| field(&Value::String(k))).collect();
            writeln!(file, "{}", names.join(","))?;
        }
        self.state = Some(State {
            bytes: file.metadata()?.len(),
            ..State::default()
        });
        Ok(())
    }

    fn put(&mut self, page: &Page, state: &State) -> anyhow::Result<()> {
        let good = self.state.as_ref().map_or(0, |s| s.bytes);
        let file = File::options().write(true).open(&self.part)?;
        // What a broken-off pull wrote of its last page.
        file.set_len(good)?;
        let mut out = BufWriter::new(file);
        std::io::Seek::seek(&mut out, std::io::SeekFrom::End(0))?;
        self.columns = columns(page);
        let keys = keys(page);
        for row in &page.results {
            if self.kind == Kind::Csv {
                let fields: Vec<String> = keys
                    .iter()
                    .map(|k| field(row.get(k).unwrap_or(&Value::Null)))
                    .collect();
                writeln!(out, "{}", fields.join(","))?;
            } else {
                serde_json::to_writer(&mut out, row)?;
                out.write_all(b"\n")?;
            }
        }
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let state = State {
            bytes: file.metadata()?.len(),
            ..state.clone()
        };
        replace(&self.state_file(), &serde_json::to_vec(&state)?)?;
        self.state = Some(state);
        Ok(())
    }

    fn finish(&mut self, _: &State) -> anyhow::Result<()> {
        match self.kind {
            Kind::Parquet => self.parquet()?,
            _ => fs::rename(&self.part, &self.path)?,
        }
        fs::remove_file(self.state_file())?;
        Ok(())
    }
}

fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut draft = path.to_path_buf().into_os_string();
    draft.push(".new");
    fs::write(&draft, content)?;
    fs::rename(draft, path)?;
    Ok(())
}
