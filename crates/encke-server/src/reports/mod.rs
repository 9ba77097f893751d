//! The report service: saved reports, their API codes, and the public pages (reference `comet-data.md`; DESIGN D10).

mod endpoints;
mod pictures;
mod public;

pub use endpoints::routes;
pub use public::router;

use encke_api::{ApiError, ApiResult};
use encke_reports::{DataSet, SavedReport, Snapshot, sample_rows};
use encke_store::{ReportOwner, StoredReport};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Calls a second of one owner over all codes.
const CALLS_A_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Snapshots kept open.
const OPEN: u64 = 1000;
/// Stands in a snapshot for the address pictures are reached at, which depends on who asks.
const PICTURES: &str = "encke-pictures:";

/// What the report service keeps in memory.
pub struct Reports {
    folder: PathBuf,
    open: moka::sync::Cache<String, Arc<Snapshot>>,
    /// One snapshot is made at a time: it is disk work, and two callers may ask for the same one.
    making: Mutex<()>,
    calls: DefaultKeyedRateLimiter<ReportOwner>,
}

impl Reports {
    /// Snapshots live below the data folder; losing them costs only making them again.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join("reports"),
            open: moka::sync::Cache::new(OPEN),
            making: Mutex::new(()),
            calls: RateLimiter::keyed(Quota::per_second(CALLS_A_SECOND)),
        }
    }

    /// The snapshot of a report's present version, with its name.
    async fn snapshot(
        &self,
        stored: &StoredReport,
        report: &SavedReport,
    ) -> ApiResult<(String, Arc<Snapshot>)> {
        let name = format!("{}-{}", stored.id, stored.version);
        if let Some(open) = self.open.get(&name) {
            return Ok((name, open));
        }
        let _one = self.making.lock().await;
        if let Some(open) = self.open.get(&name) {
            return Ok((name, open));
        }
        let path = self.folder.join(format!("{name}.rows"));
        let report = report.clone();
        let made = tokio::task::spawn_blocking(move || make(&path, &report)).await;
        let snapshot = made.map_err(|_| ApiError::internal())?.map_err(|e| {
            tracing::error!(error = %e, "a report's snapshot could not be made");
            ApiError::internal()
        })?;
        let snapshot = Arc::new(snapshot);
        self.open.insert(name.clone(), snapshot.clone());
        Ok((name, snapshot))
    }

    /// Forgets the snapshots of a report that was deleted or changed; a version that is still asked for is made again.
    fn forget(&self, id: &str) {
        let prefix = format!("{id}-");
        for (name, _) in self.open.iter().filter(|(n, _)| n.starts_with(&prefix)) {
            self.open.invalidate(name.as_ref());
        }
        tokio::task::block_in_place(|| {
            for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        });
    }
}

fn make(path: &Path, report: &SavedReport) -> Result<Snapshot, encke_reports::SnapshotError> {
    if let Ok(snapshot) = Snapshot::open(path) {
        return Ok(snapshot);
    }
    let Some((template, columns)) = report.resolve() else {
        return Err(encke_reports::SnapshotError::Damaged);
    };
    match report.data {
        DataSet::Sample { size, seed } => {
            encke_reports::write(
                path,
                &columns,
                template.has_uid,
                sample_rows(size, seed, PICTURES),
            )?;
        }
    }
    Snapshot::open(path)
}
