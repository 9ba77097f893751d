//! `encke report pull`: keeps a copy of a shared report, the way consumers are meant to: page by page of one snapshot,
//! no faster than allowed, going on where it was broken off, and later only what has changed.

mod postgres;
mod sqlite;
mod text;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use encke_reports::{Cell, Shown};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
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

/// Pull all rows of a shared report into a file or database, or what changed since the last time.
///
/// A pull that was broken off goes on where it was. Into a database, the table is exchanged for the new rows at the end,
/// at once, so that whoever reads it never sees a part.
#[derive(clap::Args)]
struct Pull {
    /// Address with the API code, as the report's owner copied it.
    url: String,
    /// File: .sqlite or .db (a table), .csv, .jsonl or .parquet; or a PostgreSQL database, such as
    /// postgresql://club@db.example.com/club (its password from the environment's PGPASSWORD).
    #[arg(long)]
    into: String,
    /// Name of the table in an SQLite file or database; there it may be one of a schema, as in `web.players`.
    #[arg(long, default_value = "report")]
    table: String,
    /// Rows a page, 1 to 1000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1000))]
    page_size: u64,
    /// Only rows that changed since the last pull into this SQLite file or database. Rows that were deleted stay; pull
    /// without this now and then.
    #[arg(long)]
    incremental: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// A row: values as the answer has them, so that no digit is lost.
type Row = BTreeMap<String, Box<RawValue>>;

/// A page as far as a copy needs it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    column_keys: Vec<String>,
    column_types: Vec<String>,
    results: Vec<Row>,
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
    /// Bytes of a text file that are good, and its columns.
    bytes: u64,
    #[serde(default)]
    columns: Vec<Shown>,
}

/// Runs the command.
pub fn run(args: ReportArgs) -> anyhow::Result<()> {
    let Command::Pull(pull) = args.command;
    let client = Client::new(&pull)?;
    if pull.into.starts_with("postgres://") || pull.into.starts_with("postgresql://") {
        return client.pull(&mut postgres::Table::open(&pull)?);
    }
    let kind = match Path::new(&pull.into).extension().and_then(|e| e.to_str()) {
        Some("sqlite" | "sqlite3" | "db") => return client.pull(&mut sqlite::Table::open(&pull)?),
        Some("csv") => text::Kind::Csv,
        Some("jsonl") => text::Kind::JsonLines,
        Some("parquet") => text::Kind::Parquet,
        _ => bail!(
            "{}: the name has to end with .sqlite, .db, .csv, .jsonl or .parquet, or begin with postgresql://",
            pull.into
        ),
    };
    if pull.incremental {
        bail!(
            "what changed can only be put into an SQLite file or a database: {}",
            pull.into
        );
    }
    client.pull(&mut text::Text::open(&pull.into, kind))
}

/// Where rows are copied to. A page and the state after it are kept together or not at all.
trait Target {
    /// The state of a pull that was broken off.
    fn broken_off(&mut self) -> Option<State>;
    /// The time of the newest change that is known, after a whole pull.
    fn newest(&mut self) -> anyhow::Result<Option<i64>>;
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

/// The keys of a page's rows: number, columns, and what rows carry beside.
fn keys(page: &Page) -> Vec<String> {
    let mut keys = page.column_keys.clone();
    if let Some(row) = page.results.first() {
        let ours = ["uid", "lastUpdateDateTime"].into_iter();
        keys.extend(ours.filter(|k| row.contains_key(*k)).map(String::from));
    }
    keys
}

/// A value of a row.
fn cell(row: &Row, key: &str) -> Cell {
    let raw = row.get(key).map_or("null", |r| r.get());
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_or(Cell::Null, Cell::Text),
        Some(b'-' | b'0'..=b'9') => Cell::number(raw),
        _ => Cell::Null,
    }
}
