//! Snapshots of saved reports: made when they are asked for, kept while somebody pulls them, shared by all who ask.

use super::exports::{self, Exports, Stage};
use super::rows::{self, TemporaryFile};
use super::uploads::{ReportOptions, Uploading};
use super::watched::Watch;
use crate::app::App;
use encke_api::{ApiError, ApiResult};
use encke_reports::SavedReport;
use encke_reports::snapshot::{Changed, Snapshot, SnapshotError};
use encke_store::{ReportCalls, ReportOwner, StoredReport};
use governor::clock::DefaultClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Calls a second of one owner over all codes.
const CALLS_A_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Snapshots kept open.
const OPEN: u64 = 1000;
/// Snapshots made at once: it is disk work.
const MAKING: usize = 2;
/// A pull that rests for longer has to start over.
const PULL_TIME: Duration = Duration::from_secs(3600);
/// Pulls that are remembered.
const PULLS: u64 = 100_000;
/// Snapshots of one report that are kept for pulls under way, beside the newest.
const KEEP: usize = 7;
/// Data that changes is looked at again after this time, or after [`EFFORT`] times what looking took.
const FRESH: Duration = Duration::from_secs(60);
const EFFORT: u32 = 10;
/// Staged rows serve those who ask for the same within this time.
const STAGED_TIME: Duration = Duration::from_secs(30);
const STAGED: u64 = 20;
/// Memory for the numbers of changed rows, in bytes.
const CHANGED_BYTES: u64 = 64 << 20;

type Limiter =
    RateLimiter<ReportOwner, DefaultKeyedStateStore<ReportOwner>, DefaultClock, StateInformationMiddleware>;

/// What the report service keeps in memory.
pub struct Reports {
    pub(super) folder: PathBuf,
    open: moka::sync::Cache<String, Arc<Snapshot>>,
    pub(super) staged: moka::sync::Cache<String, Arc<TemporaryFile>>,
    changed: moka::sync::Cache<(String, i64), Arc<Changed>>,
    /// Which snapshot a client began to pull.
    pulls: moka::sync::Cache<(String, IpAddr), String>,
    /// Snapshots of which somebody has not got the last page yet.
    unfinished: moka::sync::Cache<(String, IpAddr), ()>,
    making: Semaphore,
    /// One at a time for a report: two callers may ask for the same.
    locks: moka::sync::Cache<String, Arc<tokio::sync::Mutex<()>>>,
    pub(super) calls: Limiter,
    pub(super) calls_a_second: u32,
    pub(super) log: Mutex<HashMap<ReportCalls, (i64, i64)>>,
    /// How many connections each external source has.
    pub(super) connections: moka::sync::Cache<String, Arc<Semaphore>>,
    pub(super) options: ReportOptions,
    pub(super) uploading: Uploading,
    /// Files of rows loaded at once.
    pub(super) loading: Semaphore,
    pub(super) watch: Watch,
    pub(super) exports: Exports,
    /// Told when a schedule was saved.
    pub(super) scheduled: tokio::sync::Notify,
}

/// The newest snapshot of a report, as a file beside it tells.
#[derive(Clone, Serialize, Deserialize)]
struct Newest {
    /// What it was made of.
    of: String,
    name: String,
    /// Unix milliseconds.
    made: i64,
    /// Milliseconds that making it took.
    took: u64,
}

impl Reports {
    /// Snapshots live below the data folder; losing them costs only making them again. The limit of calls is raised by
    /// the environment's `ENCKE_REPORT_CALLS_A_SECOND`.
    #[must_use]
    pub fn new(data_dir: &Path, options: ReportOptions) -> Self {
        let raised = std::env::var("ENCKE_REPORT_CALLS_A_SECOND")
            .ok()
            .and_then(|v| v.parse().ok());
        let calls_a_second: NonZeroU32 = raised.unwrap_or(CALLS_A_SECOND);
        let folder = data_dir.join("reports");
        // What a server that ended suddenly left behind.
        let _ = std::fs::remove_dir_all(folder.join("staged"));
        Self {
            folder,
            open: moka::sync::Cache::builder()
                .max_capacity(OPEN)
                .time_to_idle(PULL_TIME)
                .build(),
            staged: moka::sync::Cache::builder()
                .max_capacity(STAGED)
                .time_to_live(STAGED_TIME)
                .build(),
            changed: moka::sync::Cache::builder()
                .max_capacity(CHANGED_BYTES)
                .weigher(|_, c: &Arc<Changed>| u32::try_from(c.rows() * 4 + 64).unwrap_or(u32::MAX))
                .time_to_idle(PULL_TIME)
                .build(),
            pulls: moka::sync::Cache::builder()
                .max_capacity(PULLS)
                .time_to_idle(PULL_TIME)
                .build(),
            unfinished: moka::sync::Cache::builder()
                .max_capacity(PULLS)
                .time_to_idle(PULL_TIME)
                .build(),
            making: Semaphore::new(MAKING),
            locks: moka::sync::Cache::new(OPEN),
            calls: RateLimiter::keyed(Quota::per_second(calls_a_second)).with_middleware(),
            calls_a_second: calls_a_second.get(),
            log: Mutex::new(HashMap::new()),
            connections: moka::sync::Cache::new(OPEN),
            options,
            uploading: Uploading::default(),
            loading: Semaphore::new(MAKING),
            watch: Watch::default(),
            exports: exports::none(),
            scheduled: tokio::sync::Notify::new(),
        }
    }

    fn snapshots(&self) -> PathBuf {
        self.folder.join("snapshots")
    }

    fn newest(&self, report: &str) -> Option<Newest> {
        let text = std::fs::read(self.snapshots().join(format!("{report}.newest"))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn opened(&self, name: &str) -> Option<Arc<Snapshot>> {
        if let Some(open) = self.open.get(name) {
            return Some(open);
        }
        let open = Arc::new(Snapshot::open(&self.snapshots().join(format!("{name}.rows"))).ok()?);
        self.open.insert(name.to_string(), open.clone());
        Some(open)
    }

    /// The snapshot of this name, if it is one of the report's and still kept.
    pub(super) fn named(&self, report: &str, name: &str) -> Option<Arc<Snapshot>> {
        let plain = name.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        (plain && name.strip_prefix(report).is_some_and(|r| r.starts_with('-')))
            .then(|| self.opened(name))
            .flatten()
    }

    /// The snapshot that a client gets its page from, with its name: the one it began to pull; at the first page the
    /// newest, made anew where the data may have changed.
    pub(super) async fn for_pull(
        &self,
        app: &Arc<App>,
        stored: &StoredReport,
        report: &SavedReport,
        client: IpAddr,
        is_first: bool,
    ) -> ApiResult<(String, Arc<Snapshot>)> {
        let pull = (stored.id.clone(), client);
        let opened = rows::open(app, &stored.owner, report.template).await?;
        if !is_first
            && let Some(name) = self.pulls.get(&pull)
            && let Some(open) = self.opened(&name)
        {
            return Ok((name, open));
        }
        let stage = Arc::default();
        let (name, snapshot) = self
            .newest_of(app, stored, report, opened, !is_first, stage)
            .await?;
        self.pulls.insert(pull, name.clone());
        Ok((name, snapshot))
    }

    /// Notes that a client got a page of a snapshot, and whether it was the last: whoever names the snapshot counts on
    /// it, though another behind the same address began a newer one.
    pub(super) fn note_page(&self, name: &str, client: IpAddr, is_last: bool) {
        let key = (name.to_string(), client);
        if is_last {
            self.unfinished.invalidate(&key);
        } else {
            self.unfinished.insert(key, ());
        }
    }

    /// The newest snapshot of a report.
    pub(super) async fn of(
        &self,
        app: &Arc<App>,
        stored: &StoredReport,
        report: &SavedReport,
        stage: Arc<Stage>,
    ) -> ApiResult<(String, Arc<Snapshot>)> {
        let opened = rows::open(app, &stored.owner, report.template).await?;
        self.newest_of(app, stored, report, opened, false, stage).await
    }

    async fn newest_of(
        &self,
        app: &Arc<App>,
        stored: &StoredReport,
        report: &SavedReport,
        opened: rows::Opened,
        any_age: bool,
        stage: Arc<Stage>,
    ) -> ApiResult<(String, Arc<Snapshot>)> {
        let of = format!("{} {}", stored.version, opened.version);
        let changes = opened.changes();
        let usable = || {
            let newest = self.newest(&stored.id).filter(|n| n.of == of)?;
            let said = report.fresh_seconds.map_or(FRESH, Duration::from_secs);
            let fresh = said.max(Duration::from_millis(newest.took) * EFFORT);
            let age = u64::try_from(now_ms() - newest.made).unwrap_or_default();
            (any_age || !changes || Duration::from_millis(age) < fresh).then_some(())?;
            Some((newest.name.clone(), self.opened(&newest.name)?))
        };
        if let Some(found) = usable() {
            return Ok(found);
        }
        let lock = self.locks.get_with(stored.id.clone(), Arc::default);
        let _one = lock.lock().await;
        if let Some(found) = usable() {
            return Ok(found);
        }
        let _room = self.making.acquire().await.map_err(|_| ApiError::internal())?;
        let started = Instant::now();
        let made = now_ms();
        let path = opened
            .run(app, report, self.snapshots(), stored.id.clone(), stage)
            .await?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let snapshot = Arc::new(Snapshot::open(&path).map_err(failed)?);
        let newest = Newest {
            of,
            name: name.clone(),
            made,
            took: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        self.note_newest(&stored.id, &newest)
            .map_err(|e| failed(e.into()))?;
        self.open.insert(name.clone(), snapshot.clone());
        self.remove_old(&stored.id, &name);
        Ok((name, snapshot))
    }

    fn note_newest(&self, report: &str, newest: &Newest) -> std::io::Result<()> {
        let path = self.snapshots().join(format!("{report}.newest"));
        let draft = path.with_extension("newest-draft");
        std::fs::write(&draft, serde_json::to_vec(newest)?)?;
        std::fs::rename(draft, path)
    }

    /// A snapshot of rows that nobody else is to see, gone with the last who uses it.
    pub(super) async fn private(
        &self,
        app: &Arc<App>,
        user: &ReportOwner,
        report: &SavedReport,
        stage: Arc<Stage>,
    ) -> ApiResult<Snapshot> {
        let opened = rows::open(app, user, report.template).await?;
        let _room = self.making.acquire().await.map_err(|_| ApiError::internal())?;
        let path = opened
            .run(
                app,
                report,
                self.folder.join("staged"),
                uuid::Uuid::new_v4().to_string(),
                stage,
            )
            .await?;
        let open = Snapshot::open(&path).map_err(failed);
        let _ = std::fs::remove_file(&path);
        open
    }

    /// The rows of a snapshot that changed since a time.
    pub(super) fn changed(
        &self,
        name: &str,
        snapshot: &Snapshot,
        since: i64,
    ) -> ApiResult<Option<Arc<Changed>>> {
        let key = (name.to_string(), since);
        if let Some(known) = self.changed.get(&key) {
            return Ok(Some(known));
        }
        let found = snapshot.changed_since(since).map_err(failed)?.map(Arc::new);
        if let Some(found) = &found {
            self.changed.insert(key, found.clone());
        }
        Ok(found)
    }

    /// Removes old snapshots of a report but for the newest and those that somebody pulls.
    fn remove_old(&self, report: &str, newest: &str) {
        let pulled: Vec<String> = self
            .pulls
            .iter()
            .filter(|(k, _)| k.0 == report)
            .map(|(_, n)| n)
            .chain(self.unfinished.iter().map(|(k, ())| k.0.clone()))
            .collect();
        let mut old: Vec<(std::time::SystemTime, PathBuf, String)> = self
            .files(report)
            .into_iter()
            .filter_map(|path| {
                let name = path.file_stem()?.to_string_lossy().into_owned();
                let made = path.metadata().ok()?.modified().ok()?;
                (path.extension()? == "rows" && name != newest).then_some((made, path, name))
            })
            .collect();
        old.sort_by_key(|file| std::cmp::Reverse(file.0));
        for (at, (_, path, name)) in old.into_iter().enumerate() {
            if at >= KEEP || !pulled.contains(&name) {
                self.open.invalidate(&name);
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn files(&self, report: &str) -> Vec<PathBuf> {
        let all = std::fs::read_dir(self.snapshots())
            .into_iter()
            .flatten()
            .flatten();
        let ours = all.filter(|e| e.file_name().to_string_lossy().starts_with(report));
        ours.map(|e| e.path()).collect()
    }

    /// Forgets the snapshots of a report that was deleted or changed.
    pub(super) fn forget(&self, report: &str) {
        for (name, _) in self.open.iter().filter(|(n, _)| n.starts_with(report)) {
            self.open.invalidate(name.as_ref());
        }
        tokio::task::block_in_place(|| {
            for path in self.files(report) {
                let _ = std::fs::remove_file(path);
            }
        });
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[allow(clippy::needless_pass_by_value)] // used as a function
fn failed(e: SnapshotError) -> ApiError {
    tracing::error!(error = %e, "a report's snapshot could not be made or read");
    ApiError::internal()
}
