//! Reports as files. A long one is made in the background: begun, asked for how far it is, fetched, or stopped.

use super::endpoints::{find, named, parse};
use super::{PICTURES, PICTURES_PATH, codes, owner_of, templates};
use crate::app::App;
use crate::auth::Principal;
use crate::table::{Binary, Call, Envelope, Own, Route, done};
use encke_api::{ApiError, ApiResult, params};
use encke_reports::Progress;
use encke_reports::export::{ExportError, Format, export};
use encke_store::{ReportOwner, StoredReport};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// Exports of one person that are made at once, and that are kept with those that are done.
const RUNNING: usize = 2;
const KEPT: usize = 10;
/// Exports that are remembered.
const EXPORTS: u64 = 1000;
/// Whoever does not fetch an export within this time has to begin it anew.
const KEEP_TIME: Duration = Duration::from_secs(3600);

params! {
    /// Parameters of an export.
    struct Wanted {
        /// The report's id.
        ReportID: String,
        /// Kind of file: `csv`, `xlsx`, `pdf` or `parquet`.
        Format: String,
        /// Language of the columns' names, such as `en_US`.
        Locale: Option<String>
    }
}

params! {
    /// An export.
    struct One {
        /// The export's id.
        ExportID: String
    }
}

/// How far a file is.
#[derive(Default)]
pub(super) struct Stage {
    pub progress: Progress,
    /// Rows that are going to be written, and one more; 0 while they are being fetched.
    total: AtomicU64,
}

/// A file of a report's rows. It has no name, so it goes with the last who has it open.
pub(super) struct Made {
    pub file: std::fs::File,
    pub bytes: u64,
    pub rows: u64,
}

/// An export under way or done.
pub(super) struct Export {
    owner: ReportOwner,
    format: Format,
    stage: Arc<Stage>,
    made: Mutex<Option<Result<Made, ApiError>>>,
}

/// Exports by id.
pub(super) type Exports = moka::sync::Cache<String, Arc<Export>>;

pub(super) fn none() -> Exports {
    moka::sync::Cache::builder()
        .max_capacity(EXPORTS)
        .time_to_idle(KEEP_TIME)
        .build()
}

/// The format of a name.
pub(super) fn format(name: &str) -> ApiResult<Format> {
    Format::named(name).ok_or_else(|| ApiError::bad_request("Format is csv, xlsx, pdf or parquet"))
}

/// Makes a file of a report as one person may see it.
pub(super) async fn make(
    app: &Arc<App>,
    owner: &ReportOwner,
    (stored, mine): &(StoredReport, bool),
    format: Format,
    locale: &str,
    base: &str,
    stage: Arc<Stage>,
) -> ApiResult<Made> {
    let report = parse(stored)?;
    let template = templates::find(app, owner, report.template).await?.template;
    // What somebody else shares is asked for with the rights of one's own.
    let snapshot = match mine {
        true => app.reports.of(app, stored, &report, stage.clone()).await?.1,
        false => Arc::new(app.reports.private(app, owner, &report, stage.clone()).await?),
    };
    let columns = named(snapshot.description.columns.clone(), &report, &template, locale);
    let pictures = format!("{base}{PICTURES_PATH}");
    let folder = app.reports.folder.join("staged");
    stage.progress.begin();
    stage.total.store(snapshot.rows + 1, Ordering::Relaxed);
    let made = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.export", uuid::Uuid::new_v4()));
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        let how = encke_reports::export::Export {
            format,
            title: &report.name,
            pictures: (PICTURES, &pictures),
            progress: &stage.progress,
        };
        export(&snapshot, &columns, how, file.try_clone()?)?;
        std::io::Seek::rewind(&mut &file)?;
        Ok::<_, ExportError>(Made {
            bytes: file.metadata()?.len(),
            rows: snapshot.rows,
            file,
        })
    });
    made.await
        .map_err(|_| ApiError::internal())?
        .map_err(|e| match e {
            ExportError::TooLong | ExportError::TooManyPages | ExportError::Stopped(_) => {
                ApiError::bad_request(e.to_string())
            }
            ExportError::File(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                ApiError::new(507, "The server's disk is full; nothing was kept")
            }
            e => {
                tracing::error!(error = %e, "a report could not be exported");
                ApiError::internal()
            }
        })
}

fn sent(file: std::fs::File, format: Format) -> Binary {
    Binary {
        body: axum::body::Body::from_stream(ReaderStream::with_capacity(
            tokio::fs::File::from_std(file),
            1 << 16,
        )),
        media: format.media(),
    }
}

async fn at_once(app: Arc<App>, principal: Principal, call: Call<Wanted>) -> ApiResult<Binary> {
    let (owner, p) = (owner_of(&principal)?, call.params);
    let (format, locale) = (format(&p.Format)?, codes::locale(p.Locale)?);
    let found = find(&app, &owner, &p.ReportID).await?;
    let base = call.origin.base();
    let made = make(&app, &owner, &found, format, &locale, &base, Arc::default()).await?;
    Ok(sent(made.file, format))
}

async fn start(app: Arc<App>, principal: Principal, call: Call<Wanted>) -> ApiResult<Own<Value>> {
    let (owner, p) = (owner_of(&principal)?, call.params);
    let (format, locale) = (format(&p.Format)?, codes::locale(p.Locale)?);
    let found = find(&app, &owner, &p.ReportID).await?;
    let theirs: Vec<_> = app
        .reports
        .exports
        .iter()
        .filter(|(_, e)| e.owner == owner)
        .collect();
    let done: Vec<_> = theirs.iter().filter(|(_, e)| e.made.lock().is_some()).collect();
    if theirs.len() - done.len() >= RUNNING {
        return Err(ApiError::new(
            429,
            format!("At most {RUNNING} exports are made at once: wait for one, or stop it"),
        ));
    }
    if theirs.len() >= KEPT
        && let Some((id, _)) = done.first()
    {
        app.reports.exports.invalidate(id.as_ref());
    }
    let export = Arc::new(Export {
        owner: owner.clone(),
        format,
        stage: Arc::default(),
        made: Mutex::new(None),
    });
    let id = uuid::Uuid::new_v4().to_string();
    app.reports.exports.insert(id.clone(), export.clone());
    let base = call.origin.base();
    tokio::spawn(async move {
        let stage = export.stage.clone();
        let made = make(&app, &owner, &found, format, &locale, &base, stage).await;
        *export.made.lock() = Some(made);
    });
    Ok(Own(json!({ "Status": 200, "Message": "OK", "ExportID": id })))
}

/// One of somebody's own exports.
fn own(app: &App, principal: &Principal, id: &str) -> ApiResult<Arc<Export>> {
    let owner = owner_of(principal)?;
    let found = app.reports.exports.get(id).filter(|e| e.owner == owner);
    found.ok_or_else(|| ApiError::not_found("Export not found"))
}

async fn status(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Own<Value>> {
    let export = own(&app, &principal, &call.params.ExportID)?;
    let total = export.stage.total.load(Ordering::Relaxed).checked_sub(1);
    let rows = export.stage.progress.rows();
    let shown = match &*export.made.lock() {
        None if total.is_none() => json!({ "State": "rows", "Rows": rows }),
        None => json!({ "State": "file", "Rows": rows, "Total": total }),
        Some(Ok(made)) => {
            json!({ "State": "done", "Rows": made.rows, "Total": made.rows, "Bytes": made.bytes })
        }
        Some(Err(e)) => json!({ "State": "failed", "Rows": rows, "Message": e.message }),
    };
    Ok(Own(shown))
}

async fn fetch(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Binary> {
    let export = own(&app, &principal, &call.params.ExportID)?;
    let file = match &*export.made.lock() {
        None => return Err(ApiError::new(409, "The export is not done yet")),
        Some(Err(e)) => return Err(e.clone()),
        Some(Ok(made)) => made.file.try_clone(),
    };
    let broken = |e: std::io::Error| {
        tracing::error!(error = %e, "an export could not be read");
        ApiError::internal()
    };
    // The copy shares its place in the file with others of it: each reader opens the file anew.
    let file = file.map_err(broken)?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let file = std::fs::File::open(path).map_err(broken)?;
    Ok(sent(file, export.format))
}

async fn stop(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Envelope> {
    let export = own(&app, &principal, &call.params.ExportID)?;
    export.stage.progress.stop();
    app.reports.exports.invalidate(&call.params.ExportID);
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportExport",
            "/api/encke/v1/reports/export",
            "Answers all rows of a report as a file: CSV, XLSX, PDF or Parquet.",
            at_once,
        ),
        Route::new(
            "EnckeReportStartExport",
            "/api/encke/v1/reports/start-export",
            "Begins to make a file of a report's rows, and answers at once.",
            start,
        ),
        Route::new(
            "EnckeReportExportStatus",
            "/api/encke/v1/reports/export-status",
            "Answers how far an export is: fetching rows, writing the file, done or failed.",
            status,
        ),
        Route::new(
            "EnckeReportExportFile",
            "/api/encke/v1/reports/export-file",
            "Answers the file of an export that is done.",
            fetch,
        ),
        Route::new(
            "EnckeReportStopExport",
            "/api/encke/v1/reports/stop-export",
            "Stops an export, or forgets one that is done.",
            stop,
        ),
    ]
}
