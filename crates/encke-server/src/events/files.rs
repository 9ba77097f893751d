//! Audit files: events as lines of JSON in files beside the server's logs, as `AuditFileOptions` of the server and of each
//! tenant want them (reference, section 6.4).
//!
//! Stored events are written in order from a position that is kept beside the files, so that none is lost when the server
//! stops; after a crash the last ones may stand there twice. Log-ins and connections, which are not stored, are written as
//! they happen. Each server that shares a database writes files of its own.

use super::without_data;
use crate::app::{App, keep_days, now};
use encke_api::constants::{STREAM_LEVEL_FULL, STREAM_LEVEL_NONE};
use encke_api::types::{FileOption, ServerConfigOptions};
use encke_api::{ApiError, ApiResult};
use encke_store::Event;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Folder of the files within the folder of the logs.
const FOLDER: &str = "audit";
/// File of the position within it.
const POSITION: &str = "position";
const SUFFIX: &str = ".jsonl";
/// Most files of one organization.
const MAX_FILES: usize = 20;
/// Longest file name before its date, in bytes.
const MAX_NAME: usize = 100;
/// Stored events that are read at once.
const PART: i64 = 500;
/// How often it is looked whether the configuration changed, and whether an event was missed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Audit files by name, as the configuration has them.
pub(crate) type Files = BTreeMap<String, FileOption>;

/// Whether audit files can be written.
///
/// # Errors
/// 400 naming what is wrong.
pub(crate) fn check(files: &Files) -> ApiResult<()> {
    let bad = |message: String| Err(ApiError::bad_request(message));
    if files.len() > MAX_FILES {
        return bad(format!("An organization has at most {MAX_FILES} audit files"));
    }
    for (name, file) in files {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let usable = (1..=MAX_NAME).contains(&file.filename.len()) && file.filename.chars().all(plain);
        if !usable || file.filename.starts_with('.') {
            return bad(format!(
                "Filename of the audit file '{name}' has 1 to {MAX_NAME} letters, digits or any of - _ ."
            ));
        }
        if files.values().filter(|f| f.filename == file.filename).count() > 1 {
            return bad(format!("Two audit files have the Filename '{}'", file.filename));
        }
        if !["", STREAM_LEVEL_FULL, STREAM_LEVEL_NONE].contains(&file.level.as_str()) {
            return bad(format!("The audit file's level '{}' is unknown", file.level));
        }
        if file.pruning_limit < 0 {
            return bad("PruningLimit of an audit file is a number of days".into());
        }
    }
    Ok(())
}

/// A file with whose it is.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    organization: String,
    option: FileOption,
}

impl Wanted {
    fn wants(&self, event: &Event) -> bool {
        let only = &self.option.allow_event_types;
        let within = self.organization.is_empty() || self.organization == event.organization;
        within && (only.is_empty() || only.contains(&event.kind))
    }

    fn folder(&self, root: &Path) -> PathBuf {
        match self.organization.as_str() {
            "" => root.to_path_buf(),
            // Whatever an id looks like, it is the name of a folder in here.
            id => root.join(format!("tenant-{id}")),
        }
    }
}

/// All files; those of suspended organizations rest.
fn all(config: &ServerConfigOptions) -> Vec<Wanted> {
    let top = [("", &config.audit_file_options)].into_iter();
    let own = config.organizations.iter().filter(|(_, o)| !o.is_suspended);
    top.chain(own.map(|(id, o)| (id.as_str(), &o.audit_file_options)))
        .flat_map(|(organization, files)| {
            files.values().map(|option| Wanted {
                organization: organization.to_string(),
                option: option.clone(),
            })
        })
        .collect()
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// Appends lines. What a crash left of a line is ended first.
fn append(path: &Path, lines: &str) -> io::Result<()> {
    let open = |path| {
        let mut how = OpenOptions::new();
        how.create(true).read(true).append(true).mode(0o600).open(path)
    };
    let mut file: File = match open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            open(path)?
        }
        opened => opened?,
    };
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let start = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{start}{lines}").as_bytes())
}

/// Removes the files of days that ended longer ago than they are kept.
fn prune(root: &Path, wanted: &[Wanted], days: i64) {
    for file in wanted.iter().filter(|w| w.option.pruning_enabled) {
        let keep = match file.option.pruning_limit {
            0 => days,
            n => n,
        };
        let before = now() - (keep + 1) * 86_400;
        let prefix = format!("{}.", file.option.filename);
        let entries = std::fs::read_dir(file.folder(root))
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            let name = entry.file_name().into_string().unwrap_or_default();
            let date = name.strip_prefix(&prefix).and_then(|n| n.strip_suffix(SUFFIX));
            let start = date
                .and_then(|d| d.parse::<Date>().ok())
                .and_then(|d| d.to_zoned(TimeZone::UTC).ok());
            if start.is_some_and(|s| s.timestamp().as_second() < before) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// What is written now, and how far.
struct Writer {
    app: Arc<App>,
    root: PathBuf,
    wanted: Vec<Wanted>,
    /// The last stored event that was written; `None` while there are no files.
    position: Option<i64>,
    pruned: Option<Date>,
}

impl Writer {
    /// Takes over the configuration. Answers whether there is something to write.
    async fn configure(&mut self) -> bool {
        self.wanted = all(&self.app.config());
        if self.wanted.is_empty() {
            self.position = None;
            let _ = std::fs::remove_file(self.root.join(POSITION));
        } else if self.position.is_none() {
            let kept = std::fs::read_to_string(self.root.join(POSITION));
            let kept = kept.ok().and_then(|text| text.trim().parse().ok());
            self.position = match kept {
                Some(position) => Some(position),
                // From now on.
                None => self.app.store.last_event().await.ok(),
            };
        }
        !self.wanted.is_empty()
    }

    async fn write(&mut self, events: &[Event], position: Option<i64>) -> io::Result<()> {
        let date = today();
        let mut lines: BTreeMap<PathBuf, String> = BTreeMap::new();
        for event in events {
            for file in self.wanted.iter().filter(|w| w.wants(event)) {
                let name = format!("{}.{date}{SUFFIX}", file.option.filename);
                let text = lines.entry(file.folder(&self.root).join(name)).or_default();
                match file.option.level == STREAM_LEVEL_NONE {
                    true => text.push_str(&without_data(&event.json)),
                    false => text.push_str(&event.json),
                }
                text.push('\n');
            }
        }
        let old = (self.pruned != Some(date)).then(|| self.wanted.clone());
        let (root, days) = (self.root.clone(), keep_days(&self.app.config()));
        let written = tokio::task::spawn_blocking(move || {
            if let Some(wanted) = old {
                prune(&root, &wanted, days);
            }
            for (path, text) in lines {
                append(&path, &text)?;
            }
            let Some(position) = position else { return Ok(()) };
            std::fs::create_dir_all(&root)?;
            let new = root.join(format!("{POSITION}.new"));
            std::fs::write(&new, position.to_string())?;
            std::fs::rename(new, root.join(POSITION))
        });
        written.await.map_err(io::Error::other)??;
        self.pruned = Some(date);
        if position.is_some() {
            self.position = position;
        }
        Ok(())
    }

    /// Writes the stored events that are not written yet.
    async fn catch_up(&mut self) -> io::Result<()> {
        while let Some(position) = self.position {
            let new = self.app.store.events_after(None, position, PART).await;
            let new = new.map_err(|e| io::Error::other(e.to_string()))?;
            let Some(last) = new.last().map(|e| e.id) else {
                return Ok(());
            };
            let events: Vec<Event> = new
                .into_iter()
                .map(|e| Event {
                    organization: e.organization,
                    kind: e.kind,
                    json: e.json,
                    stored: true,
                })
                .collect();
            self.write(&events, Some(last)).await?;
        }
        Ok(())
    }
}

/// Writes audit files until the server stops.
pub(crate) fn start(app: &Arc<App>) {
    // Listens from here on, so that the start of the server is not missed.
    tokio::spawn(run(app.clone(), app.store.subscribe()));
}

/// Where no file is wanted it does not listen: log-ins come with every call.
async fn run(app: Arc<App>, bus: Receiver<Arc<Event>>) {
    let root = app.data_dir.join(crate::meta::LOG_FOLDER).join(FOLDER);
    let mut bus = Some(bus);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut writer = Writer {
        app: app.clone(),
        root,
        wanted: Vec::new(),
        position: None,
        pruned: None,
    };
    let mut failing = false;
    if !writer.configure().await {
        bus = None;
    }
    loop {
        let next = async {
            match &mut bus {
                Some(bus) => bus.recv().await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            () = app.stopping.cancelled() => None,
            event = next => Some(event),
            _ = look.tick() => Some(Err(RecvError::Lagged(0))),
        };
        let done = match &event {
            Some(Ok(event)) if !event.stored => {
                let own = Event {
                    organization: event.organization.clone(),
                    kind: event.kind,
                    json: event.json.clone(),
                    stored: false,
                };
                writer.write(&[own], None).await
            }
            Some(Err(RecvError::Lagged(_))) => {
                let listens = writer.configure().await;
                if listens && bus.is_none() {
                    bus = Some(app.store.subscribe());
                } else if !listens {
                    bus = None;
                }
                writer.catch_up().await
            }
            _ => writer.catch_up().await,
        };
        match &done {
            // Told once: the log of a full disk must not be filled as well.
            Err(e) if !failing => tracing::error!(error = %e, "the audit files can not be written"),
            Ok(()) if failing => tracing::info!("the audit files can be written again"),
            _ => {}
        }
        failing = done.is_err();
        if matches!(event, None | Some(Err(RecvError::Closed))) {
            return;
        }
    }
}
