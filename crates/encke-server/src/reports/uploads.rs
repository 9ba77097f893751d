//! Files of rows that people upload: received onto the disk, loaded into a database file of ours, and put in the place of
//! the one before at once. Each owner has so much room.

use super::rows::source_error;
use super::sources::{Body, body_of, check_name, place_for, shown};
use super::{not_found, owner_of};
use crate::app::{App, store_error};
use crate::auth::Principal;
use crate::table::{Admitting, Call, Own, Route, Spool};
use encke_api::form::LargeUpload;
use encke_api::{ApiError, ApiResult, params};
use encke_reports::query::Table;
use encke_reports::source::{SourceError, open_file};
use encke_store::{ReportOwner, StoredSource};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Whoever began to read a replaced file has it open by then.
const GRACE: Duration = Duration::from_secs(60);
/// How often files are looked for that nobody names any more, and how old they are at least.
const SWEEP_TIME: Duration = Duration::from_secs(3600);
/// Ends the name of a file that is being loaded.
const DRAFT: &str = "draft";

/// What the operator allows the report service.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Largest file that may be uploaded, in bytes.
    pub upload_bytes: u64,
    /// Room for the uploads of one person, in bytes of the tables they are loaded into.
    pub quota_bytes: u64,
    /// Folders with files that may be watched, and those below.
    pub folders: Vec<PathBuf>,
    /// Folder for loaded rows and for files that mails link to, which servers on one database have in common; below the
    /// data folder where nothing is said.
    pub storage: Option<PathBuf>,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self {
            upload_bytes: 2 << 30,
            quota_bytes: 10 << 30,
            folders: Vec::new(),
            storage: None,
        }
    }
}

params! {
    /// Parameters of uploading a file.
    struct UploadFile {
        /// The source's id, to replace its rows; a new one is made if left out.
        SourceID: Option<String>,
        /// Name of the file; its end tells what it is: .csv, .tsv, .jsonl, .ndjson, .xlsx, .parquet, .sqlite.
        FileName: String,
        /// Name of the source; the file's if left out.
        Name: Option<String>,
        /// The file, after the other fields.
        File: LargeUpload
    }
}

/// An uploaded file, loaded into a database file of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Uploaded {
    kind: String,
    /// The name it came under.
    file: String,
    /// The database file's name.
    pub stored: String,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Where files lie that the store names: every server on its database has to reach them.
pub(super) fn storage(app: &App) -> &Path {
    app.reports
        .options
        .storage
        .as_deref()
        .unwrap_or(&app.reports.folder)
}

/// Where database files of loaded rows are.
pub(super) fn folder(app: &App) -> PathBuf {
    storage(app).join("uploads")
}

/// Whether a file is one of the server's own, which no source may name.
pub(super) fn is_own(app: &App, real: &Path) -> bool {
    [app.data_dir.as_path(), storage(app)]
        .iter()
        .any(|own| own.canonicalize().is_ok_and(|own| real.starts_with(own)))
}

/// Where files are received; emptied when the server starts.
fn work_folder(app: &App) -> PathBuf {
    app.reports.folder.join("staged")
}

/// Owners whose files are being received.
pub(super) type Uploading = Arc<Mutex<HashSet<ReportOwner>>>;

/// An owner's place among those, given back in the end.
struct Room(Uploading, ReportOwner);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// Bytes that an owner's loaded files take, but for those of one source.
async fn used(app: &App, owner: &ReportOwner, but: Option<&str>) -> ApiResult<u64> {
    let known = app.store.report_sources(owner).await.map_err(store_error)?;
    let mut used = 0;
    for source in known.iter().filter(|s| Some(s.id.as_str()) != but) {
        if let Some((stored, size)) = body_of(source)?.stored() {
            let on_disk = || std::fs::metadata(folder(app).join(stored)).map_or(0, |m| m.len());
            used += size.unwrap_or_else(on_disk);
        }
    }
    Ok(used)
}

async fn left(app: &App, owner: &ReportOwner, but: Option<&str>) -> ApiResult<u64> {
    let (used, quota) = (used(app, owner, but).await?, app.reports.options.quota_bytes);
    match quota.checked_sub(used) {
        Some(left) if left > 0 => Ok(left),
        _ => Err(ApiError::new(
            413,
            format!("Your files take {used} of the {quota} bytes that they may: delete some first"),
        )),
    }
}

fn admission<'a>(app: &'a App, principal: &'a Principal) -> Admitting<'a> {
    Box::pin(async move {
        let owner = owner_of(principal)?;
        let uploading = app.reports.uploading.clone();
        if !uploading.lock().insert(owner.clone()) {
            return Err(ApiError::new(
                429,
                "You are uploading a file already: wait until it is done",
            ));
        }
        let room = Room(uploading, owner);
        // What replaces a file may need the room of both for a while; its own is counted when it is loaded.
        Ok(Spool {
            folder: work_folder(app),
            limit: app.reports.options.upload_bytes,
            room: Box::new(room),
        })
    })
}

/// Loads a file into a database file of ours; answers that one's name and size, and its tables.
pub(super) async fn load(
    app: &Arc<App>,
    name: String,
    file: PathBuf,
    most: u64,
) -> ApiResult<(String, u64, Vec<Table>)> {
    let stored = format!("{}.db", uuid::Uuid::new_v4());
    // Beside its place, which may be another disk than the data folder's.
    let target = folder(app).join(&stored);
    let draft = target.with_extension(DRAFT);
    // Reading files is work for the processor and the disk.
    let _room = app
        .reports
        .loading
        .acquire()
        .await
        .map_err(|_| ApiError::internal())?;
    let work = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(target.parent().unwrap_or(&target))
            .map_err(|e| SourceError::Sink(e.to_string()))?;
        let loaded = encke_reports::load(&name, &file, &draft, most).and_then(|()| {
            let tables = open_file(&draft)?.tables()?;
            let on_disk = || {
                let file = std::fs::File::open(&draft)?;
                file.sync_all()?;
                std::fs::rename(&draft, &target)?;
                Ok::<_, std::io::Error>(file.metadata()?.len())
            };
            let size = on_disk().map_err(|e| SourceError::Sink(e.to_string()))?;
            Ok((size, tables))
        });
        if loaded.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        loaded
    });
    match work.await {
        Ok(loaded) => loaded
            .map(|(size, tables)| (stored, size, tables))
            .map_err(source_error),
        // The libraries that read foreign formats give up that way on some broken files.
        Err(e) if e.is_panic() => Err(ApiError::bad_request("The file can not be read: it is damaged")),
        Err(_) => Err(ApiError::internal()),
    }
}

async fn upload(app: Arc<App>, principal: Principal, call: Call<UploadFile>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let p = call.params;
    let name = p.Name.unwrap_or_else(|| p.FileName.clone());
    check_name(&name)?;
    let (id, known) = place_for(&app, &owner, p.SourceID).await?;
    let most = left(&app, &owner, known.as_ref().map(|k| k.id.as_str())).await?;
    let (path, _small) = match p.File {
        LargeUpload::Kept(path) => (path, None),
        LargeUpload::Text(text) => {
            let kept = || {
                let mut file = tempfile::NamedTempFile::new()?;
                std::io::Write::write_all(&mut file, text.as_bytes())?;
                Ok::<_, std::io::Error>(file)
            };
            let file = kept().map_err(|_| ApiError::internal())?;
            (file.path().to_path_buf(), Some(file))
        }
    };
    let (stored, size, tables) = load(&app, p.FileName.clone(), path, most).await?;
    let body = Body::File(Uploaded {
        kind: "file".into(),
        file: p.FileName,
        stored: stored.clone(),
        size: Some(size),
    });
    let source = StoredSource {
        id: id.clone(),
        owner,
        name,
        body: serde_json::to_string(&body).map_err(|_| ApiError::internal())?,
        sealed: String::new(),
        version: 0,
    };
    if let Err(e) = app.store.save_report_source(source).await {
        let _ = std::fs::remove_file(folder(&app).join(stored));
        return Err(not_found("Data source")(e));
    }
    if let Some(known) = known {
        remove_later(&app, &body_of(&known)?);
    }
    Ok(Own(
        json!({ "Status": 200, "Message": "OK", "SourceID": id, "Tables": shown(&tables)? }),
    ))
}

/// Removes the database file of rows that were replaced or deleted, once nobody is about to open it any more.
pub(super) fn remove_later(app: &Arc<App>, body: &Body) {
    if let Some((stored, _)) = body.stored() {
        let path = folder(app).join(stored);
        let stopping = app.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(GRACE) => {}
            }
            let _ = std::fs::remove_file(path);
        });
    }
}

/// Removes database files that no source names: a crash left them, or their owner is gone.
pub(super) async fn sweep(app: Arc<App>) {
    // At the start nobody else is about to name a file, unless other servers share the folder.
    let mut oldest = match app.reports.options.storage {
        Some(_) => SWEEP_TIME,
        None => Duration::ZERO,
    };
    loop {
        if let Err(e) = remove_nameless(&app, oldest).await {
            tracing::warn!(error = %e.message, "uploads that nobody names could not be removed");
        }
        oldest = SWEEP_TIME;
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(SWEEP_TIME) => {}
        }
    }
}

async fn remove_nameless(app: &App, oldest: Duration) -> ApiResult<()> {
    // Before the names are asked for: a file that is younger may get its name only now.
    let before = SystemTime::now() - oldest;
    let linked = app
        .store
        .keep_report_files(crate::app::now())
        .await
        .map_err(store_error)?;
    remove_but(
        &super::schedules::folder(app),
        &linked.into_iter().collect(),
        before,
    );
    let mut named = HashSet::new();
    for source in app.store.all_report_sources().await.map_err(store_error)? {
        if let Ok(body) = body_of(&source)
            && let Some((stored, _)) = body.stored()
        {
            named.insert(stored.to_string());
        }
    }
    remove_but(&folder(app), &named, before);
    Ok(())
}

/// Removes the files of a folder that are not named and were not written since.
fn remove_but(folder: &Path, named: &HashSet<String>, before: SystemTime) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        // SQLite puts files of its own beside some.
        let main = ["-wal", "-shm"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(&name);
        let is_old = file
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|m| m <= before);
        if is_old && !named.contains(main) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

async fn limits(
    app: Arc<App>,
    principal: Principal,
    _: Call<encke_api::form::NoParams>,
) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    Ok(Own(json!({
        "FileBytes": app.reports.options.upload_bytes,
        "QuotaBytes": app.reports.options.quota_bytes,
        "UsedBytes": used(&app, &owner, None).await?
    })))
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportSourceUpload",
            "/api/encke/v1/reports/upload-source",
            "Uploads a file of rows (CSV, JSON lines, XLSX, Parquet, SQLite) as a data source, in a multipart body.",
            upload,
        )
        .takes_file("File", admission),
        Route::new(
            "EnckeReportUploadLimits",
            "/api/encke/v1/reports/upload-limits",
            "Answers how large an uploaded file may be, and how much room the caller's files have and take.",
            limits,
        ),
    ]
}
