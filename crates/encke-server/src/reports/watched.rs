//! Files on the server that are loaded anew whenever they change: only in folders that the operator named when the server
//! was started. A file is loaded when its writer has closed it or put it in the place of the old one; where that can not
//! be seen (network file systems, files that were open before this server was), when it has rested for a while.

use super::sources::{Body, body_of, check_name, place_for};
use super::{not_found, uploads};
use crate::app::{App, store_error};
use crate::table::Own;
use encke_api::{ApiError, ApiResult};
use encke_store::{ReportOwner, StoredSource};
use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often files are looked at.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// A file that changed has rested when it stayed as it is for so long.
const REST: Duration = Duration::from_secs(2);
/// One that is known to be open for writing is taken for whole when nothing was written for so long.
const LONG_REST: Duration = Duration::from_secs(60);

/// What somebody wants to be watched.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(rename = "kind")]
    _kind: String,
    path: PathBuf,
}

/// A file that is watched, as it was loaded last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watched {
    kind: String,
    path: PathBuf,
    /// Unix seconds.
    loaded: i64,
    /// The database file it was loaded into, and its size in bytes.
    pub stored: String,
    pub size: u64,
    seen: Seen,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let m = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Self {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            seconds: m.mtime(),
            nanoseconds: m.mtime_nsec(),
        })
    }
}

/// What is wrong with watched files, by source.
#[derive(Default)]
pub(super) struct Watch(Mutex<HashMap<String, String>>);

impl Watch {
    /// Why a source's file is not loaded, if it is not.
    pub fn problem(&self, source: &str) -> Option<String> {
        self.0.lock().get(source).cloned()
    }

    fn note(&self, source: &str, problem: Option<String>) {
        let mut all = self.0.lock();
        match problem {
            Some(problem) => drop(all.insert(source.to_string(), problem)),
            None => drop(all.remove(source)),
        }
    }
}

/// Refuses what does not lie in a folder that the operator named, wherever links lead.
fn check(app: &App, path: &Path) -> ApiResult<()> {
    let allowed = &app.reports.options.folders;
    if allowed.is_empty() {
        return Err(ApiError::forbidden(
            "This server watches no files: its operator names the folders with --report-folder",
        ));
    }
    let wrong =
        || ApiError::bad_request("The path has to lead to a file in a folder that this server may watch");
    let real = path.canonicalize().map_err(|_| wrong())?;
    let inside = allowed
        .iter()
        .filter_map(|f| f.canonicalize().ok())
        .any(|f| real.starts_with(f));
    if !path.is_absolute() || !inside || uploads::is_own(app, &real) || !real.is_file() {
        return Err(wrong());
    }
    Ok(())
}

/// Loads a file as it is now; fails when it changed meanwhile.
async fn load(app: &Arc<App>, path: &Path) -> ApiResult<Watched> {
    check(app, path)?;
    let changed = || ApiError::new(409, "The file is being written: try again when it is whole");
    let seen = Seen::of(path).ok_or_else(changed)?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let limit = app.reports.options.quota_bytes;
    let (stored, size, _) = uploads::load(app, name, path.to_path_buf(), limit).await?;
    if Seen::of(path) != Some(seen) {
        let _ = std::fs::remove_file(uploads::folder(app).join(stored));
        return Err(changed());
    }
    Ok(Watched {
        kind: "watched".into(),
        path: path.to_path_buf(),
        loaded: crate::app::now(),
        stored,
        size,
        seen,
    })
}

/// Saves a source, after its file was loaded.
pub(super) async fn save(
    app: Arc<App>,
    owner: ReportOwner,
    id: Option<String>,
    name: String,
    file: Wanted,
) -> ApiResult<Own<Value>> {
    check_name(&name)?;
    check(&app, &file.path)?;
    let (id, known) = place_for(&app, &owner, id).await?;
    let body = Body::Watched(load(&app, &file.path).await?);
    let source = StoredSource {
        id: id.clone(),
        owner,
        name,
        body: serde_json::to_string(&body).map_err(|_| ApiError::internal())?,
        sealed: String::new(),
        version: 0,
    };
    if let Err(e) = app.store.save_report_source(source).await {
        uploads::remove_later(&app, &body);
        return Err(not_found("Data source")(e));
    }
    app.reports.watch.note(&id, None);
    if let Some(known) = known {
        uploads::remove_later(&app, &body_of(&known)?);
    }
    Ok(Own(json!({ "Status": 200, "Message": "OK", "SourceID": id })))
}

/// What the system tells of files in folders: which are open for writing, and which were put in another's place.
struct Events {
    system: Option<OwnedFd>,
    folders: HashMap<i32, PathBuf>,
    written: HashSet<PathBuf>,
    whole: HashSet<PathBuf>,
}

impl Events {
    fn new() -> Self {
        let system = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        if let Err(e) = &system {
            tracing::warn!(error = %e, "changes of watched files are seen only when they have rested");
        }
        Self {
            system: system.ok(),
            folders: HashMap::new(),
            written: HashSet::new(),
            whole: HashSet::new(),
        }
    }

    /// Watches the folders of these files and no others. A folder that was there already stays.
    fn watch<'a>(&mut self, files: impl Iterator<Item = &'a Path>) {
        let Some(system) = &self.system else { return };
        let wanted: HashSet<&Path> = files.filter_map(Path::parent).collect();
        self.folders.retain(|number, folder| {
            let keep = wanted.contains(folder.as_path());
            if !keep {
                let _ = inotify::remove_watch(system, *number);
            }
            keep
        });
        let what = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE;
        for folder in wanted {
            // A folder that was made anew is another one to the system.
            if let Ok(number) = inotify::add_watch(system, folder, what) {
                self.folders.insert(number, folder.to_path_buf());
            }
        }
    }

    /// Takes in what happened since the last time.
    fn read(&mut self) {
        let Some(system) = &self.system else { return };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(system, &mut buffer);
        while let Ok(event) = reader.next() {
            let kind = event.events();
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                // Nothing is known any more: what rests is whole.
                self.written.clear();
                self.whole.clear();
                continue;
            }
            let name = event.file_name().map(|n| OsStr::from_bytes(n.to_bytes()));
            let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), name) else {
                continue;
            };
            let path = folder.join(name);
            if kind.intersects(ReadFlags::MODIFY | ReadFlags::CREATE) {
                self.whole.remove(&path);
                self.written.insert(path);
            } else {
                self.written.remove(&path);
                if kind.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
                    self.whole.insert(path);
                }
            }
        }
    }
}

/// What is known of a watched file between two looks.
struct Look {
    seen: Seen,
    since: Instant,
    /// It could not be loaded as it is.
    failed: bool,
}

/// Loads watched files when they change, until the server stops.
pub(super) async fn keep(app: Arc<App>) {
    if app.reports.options.folders.is_empty() {
        return;
    }
    let mut events = Events::new();
    let mut looks: HashMap<String, Look> = HashMap::new();
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK_TIME) => {}
        }
        let sources = match app.store.all_report_sources().await {
            Ok(sources) => sources,
            Err(e) => {
                tracing::warn!(error = %e, "watched files could not be looked for");
                continue;
            }
        };
        let watched: Vec<(StoredSource, Watched)> = sources
            .into_iter()
            .filter_map(|s| match serde_json::from_str(&s.body) {
                Ok(Body::Watched(w)) => Some((s, w)),
                _ => None,
            })
            .collect();
        events.watch(watched.iter().map(|(_, w)| w.path.as_path()));
        events.read();
        looks.retain(|id, _| watched.iter().any(|(s, _)| s.id == *id));
        for (source, watched) in watched {
            look(&app, &events, &mut looks, &source, &watched).await;
        }
        events.whole.clear();
    }
}

/// Looks at one file, and loads it if it is another than before and whole.
async fn look(
    app: &Arc<App>,
    events: &Events,
    looks: &mut HashMap<String, Look>,
    source: &StoredSource,
    watched: &Watched,
) {
    let Some(seen) = Seen::of(&watched.path) else {
        let problem = "The file is not there; the rows are those of the last time it was";
        app.reports.watch.note(&source.id, Some(problem.into()));
        return;
    };
    if seen == watched.seen {
        app.reports.watch.note(&source.id, None);
        looks.remove(&source.id);
        return;
    }
    let fresh = || Look {
        seen,
        since: Instant::now(),
        failed: false,
    };
    let last = looks.entry(source.id.clone()).or_insert_with(fresh);
    if last.seen != seen {
        *last = fresh();
    }
    let rest = if events.written.contains(&watched.path) {
        LONG_REST
    } else if events.whole.contains(&watched.path) {
        Duration::ZERO
    } else {
        REST
    };
    if last.failed || last.since.elapsed() < rest {
        return;
    }
    let loaded = async {
        let new = load(app, &watched.path).await?;
        let body = Body::Watched(new);
        let text = serde_json::to_string(&body).map_err(|_| ApiError::internal())?;
        if let Err(e) = app
            .store
            .reload_report_source(&source.id, source.version, &text)
            .await
        {
            uploads::remove_later(app, &body);
            return Err(store_error(e));
        }
        Ok(())
    };
    match loaded.await {
        Ok(()) => {
            tracing::info!(source = source.id, path = %watched.path.display(), "a watched file was loaded anew");
            uploads::remove_later(app, &Body::Watched(watched.clone()));
            app.reports.watch.note(&source.id, None);
            looks.remove(&source.id);
        }
        // It changed while it was read, or somebody changed the source.
        Err(e) if e.status == 409 => {}
        Err(e) => {
            tracing::warn!(source = source.id, path = %watched.path.display(), error = %e.message, "a watched file can not be loaded");
            last.failed = true;
            let problem = format!(
                "The file can not be loaded; the rows are those of the last time: {}",
                e.message
            );
            app.reports.watch.note(&source.id, Some(problem));
        }
    }
}
