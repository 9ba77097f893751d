//! Data sources that people set up: databases outside that are only read, and files ([`uploads`], [`watched`]).

use super::rows::source_error;
use super::uploads::{self, Uploaded};
use super::watched::{self, Watched};
use super::{not_found, owner_of};
use crate::app::{App, store_error};
use crate::auth::Principal;
use crate::table::{Call, Envelope, Own, Route, done};
use encke_api::form::NoParams;
use encke_api::{ApiError, ApiResult, params};
use encke_reports::query::Table;
use encke_reports::source::{Address, Database, External, SourceError, open_file};
use encke_reports::{ENCKE, SAMPLE, starter};
use encke_store::{ReportOwner, SessionKind, StoredSource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most sources of one owner.
const MAX_SOURCES: usize = 50;
/// Longest name, in characters.
const MAX_NAME: usize = 200;
/// Connections to one external database at once.
const CONNECTIONS: usize = 2;
/// How long to wait for one of them.
const WAIT: Duration = Duration::from_secs(20);

params! {
    /// Parameters of saving an external database.
    struct Save {
        /// The source's id; a new one is made if left out.
        SourceID: Option<String>,
        /// Name.
        Name: String,
        /// The source as JSON: `kind` is `postgres`, `mysql`, `sqlite` or `watched`; the first two have `host`, `port`,
        /// `database`, `user`, `tls` (`off`, `preferred`, `required`, `verified`) and `ca`, the last two have `path`;
        /// all databases may have `timeoutSeconds`.
        Source: String,
        /// Its password. Left out, the known one stays as long as the address and the user do.
        SourcePassword: Option<String>
    }
}

params! {
    /// A source.
    struct One {
        /// The source's id.
        SourceID: String
    }
}

/// What a stored source is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Body {
    /// A database outside.
    External(External),
    /// A file on the server that is loaded whenever it changes.
    Watched(Watched),
    /// An uploaded file.
    File(Uploaded),
}

impl Body {
    /// The database file that its rows were loaded into, and its size where it is known.
    pub fn stored(&self) -> Option<(&str, Option<u64>)> {
        match self {
            Self::External(_) => None,
            Self::Watched(w) => Some((&w.stored, Some(w.size))),
            Self::File(f) => Some((&f.stored, f.size)),
        }
    }
}

/// What somebody may save as a source that is no upload.
enum Wanted {
    External(External),
    Watched(watched::Wanted),
}

/// A source that may be connected to.
pub(super) struct OpenSource {
    id: String,
    body: Body,
    sealed: String,
}

fn place(id: &str) -> String {
    format!("report-source/{id}")
}

pub(super) fn body_of(stored: &StoredSource) -> ApiResult<Body> {
    serde_json::from_str(&stored.body).map_err(|e| {
        tracing::error!(source = stored.id, error = %e, "a stored data source can not be read");
        ApiError::internal()
    })
}

/// One of somebody's own sources.
///
/// # Errors
/// 404 when there is none of this id, or it is another's.
pub(super) async fn own(app: &App, owner: &ReportOwner, id: &str) -> ApiResult<StoredSource> {
    let stored = app
        .store
        .report_source(id)
        .await
        .map_err(not_found("Data source"))?;
    if stored.owner == *owner {
        return Ok(stored);
    }
    Err(ApiError::not_found("Data source not found"))
}

/// A source that a usable template names, with its version.
///
/// # Errors
/// 400 when it is gone.
pub(super) async fn open(app: &App, id: &str) -> ApiResult<(OpenSource, i64)> {
    let gone = |_| ApiError::bad_request("The template's data source does not exist any more");
    let stored = app.store.report_source(id).await.map_err(gone)?;
    Ok((to_open(&stored)?, stored.version))
}

fn to_open(stored: &StoredSource) -> ApiResult<OpenSource> {
    Ok(OpenSource {
        id: stored.id.clone(),
        body: body_of(stored)?,
        sealed: stored.sealed.clone(),
    })
}

impl OpenSource {
    /// Whether its rows may change by themselves.
    pub fn is_external(&self) -> bool {
        matches!(self.body, Body::External(_))
    }

    /// Leave to connect: only so many connections at once.
    pub async fn permit(&self, app: &App) -> ApiResult<OwnedSemaphorePermit> {
        let fresh = || Arc::new(Semaphore::new(CONNECTIONS));
        let room = app.reports.connections.get_with(self.id.clone(), fresh);
        match tokio::time::timeout(WAIT, room.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ApiError::new(
                503,
                format!("The data source is busy: it is asked by {CONNECTIONS} at once at most"),
            )),
        }
    }

    /// Connects. Runs on a thread for blocking work.
    pub fn connect(&self, app: &App) -> Result<Box<dyn Database>, SourceError> {
        match &self.body {
            Body::File(Uploaded { stored, .. }) | Body::Watched(Watched { stored, .. }) => {
                let path = uploads::folder(app).join(stored);
                if !path.exists() {
                    return Err(SourceError::Source(
                        "its rows are not on this server; servers that share a database need a common --report-storage"
                            .into(),
                    ));
                }
                open_file(&path)
            }
            Body::External(external) => {
                let password = if self.sealed.is_empty() {
                    String::new()
                } else {
                    let clear = app.server_key.unwrap_secret(&place(&self.id), &self.sealed).ok();
                    let clear = clear.and_then(|c| String::from_utf8(c).ok());
                    clear.ok_or_else(|| {
                        SourceError::Source(
                            "its password can not be opened with this server's key; set it again".into(),
                        )
                    })?
                };
                if let External::Sqlite { path, .. } = external {
                    check_path(app, path).map_err(|e| SourceError::Source(e.message))?;
                }
                external.connect(&password)
            }
        }
    }
}

/// A file of this server's own holds everybody's secrets.
fn check_path(app: &App, path: &Path) -> ApiResult<()> {
    let wrong = || {
        ApiError::bad_request(
            "The path has to be absolute and lead to a file outside the server's own data folder",
        )
    };
    let real = path.canonicalize().map_err(|_| wrong())?;
    if !path.is_absolute() || !real.is_file() || uploads::is_own(app, &real) {
        return Err(wrong());
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> ApiResult<()> {
    if name.trim().is_empty() || name.chars().count() > MAX_NAME || name.contains('\0') {
        return Err(ApiError::bad_request(format!(
            "A data source's name has 1 to {MAX_NAME} characters"
        )));
    }
    Ok(())
}

/// The source to be changed, or the id of a new one.
pub(super) async fn place_for(
    app: &App,
    owner: &ReportOwner,
    id: Option<String>,
) -> ApiResult<(String, Option<StoredSource>)> {
    if let Some(id) = id {
        let stored = own(app, owner, &id).await?;
        return Ok((id, Some(stored)));
    }
    let known = app.store.report_sources(owner).await.map_err(store_error)?;
    if known.len() >= MAX_SOURCES {
        return Err(ApiError::bad_request(format!(
            "You may keep at most {MAX_SOURCES} data sources"
        )));
    }
    Ok((uuid::Uuid::new_v4().to_string(), None))
}

fn server_of(external: &External) -> Option<(&Address, bool)> {
    match external {
        External::Postgres(a) => Some((a, false)),
        External::Mysql(a) => Some((a, true)),
        External::Sqlite { .. } => None,
    }
}

/// Whether a password may stay: it goes to the same server, for the same user.
fn same_server(old: &Body, new: &External) -> bool {
    let Body::External(old) = old else { return false };
    match (server_of(old), server_of(new)) {
        (Some((a, kind_a)), Some((b, kind_b))) => {
            kind_a == kind_b && (&a.host, a.port, &a.user) == (&b.host, b.port, &b.user)
        }
        _ => false,
    }
}

/// Reads what somebody wants; says of the kind they mean what is wrong with it.
fn wanted(text: &str) -> ApiResult<Wanted> {
    let wrong = |e| ApiError::bad_request(format!("Source can not be read: {e}"));
    let value: Value = serde_json::from_str(text).map_err(wrong)?;
    Ok(match value["kind"] == "watched" {
        true => Wanted::Watched(serde_json::from_value(value).map_err(wrong)?),
        false => Wanted::External(serde_json::from_value(value).map_err(wrong)?),
    })
}

async fn save(app: Arc<App>, principal: Principal, call: Call<Save>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    // This server's network and disk are its operator's: nobody else may have it connect to places.
    if owner.kind != SessionKind::Admin || !owner.organization.is_empty() {
        return Err(ApiError::forbidden(
            "Only administrators of the top level may set up databases outside; upload a file instead",
        ));
    }
    let p = call.params;
    check_name(&p.Name)?;
    let external = match wanted(&p.Source)? {
        Wanted::External(external) => external,
        Wanted::Watched(file) => return watched::save(app, owner, p.SourceID, p.Name, file).await,
    };
    if let External::Sqlite { path, .. } = &external {
        check_path(&app, path)?;
    }
    let (id, known) = place_for(&app, &owner, p.SourceID).await?;
    let sealed = match (p.SourcePassword, &known) {
        (Some(password), _) if password.is_empty() => String::new(),
        (Some(password), _) => {
            let sealed = app.server_key.wrap(&place(&id), password.as_bytes());
            sealed.map_err(|_| ApiError::internal())?
        }
        (None, Some(known)) if known.sealed.is_empty() || same_server(&body_of(known)?, &external) => {
            known.sealed.clone()
        }
        (None, Some(_)) => {
            return Err(ApiError::bad_request(
                "The data source points elsewhere now: give SourcePassword again",
            ));
        }
        (None, None) => String::new(),
    };
    let stored = StoredSource {
        id: id.clone(),
        owner,
        name: p.Name,
        body: serde_json::to_string(&external).map_err(|_| ApiError::internal())?,
        sealed,
        version: 0,
    };
    // One that can not be read is refused, with the reason in the database's own words.
    let tables = tables_of(&app, to_open(&stored)?).await?;
    app.store
        .save_report_source(stored)
        .await
        .map_err(not_found("Data source"))?;
    if let Some(known) = known {
        uploads::remove_later(&app, &body_of(&known)?);
    }
    Ok(Own(
        json!({ "Status": 200, "Message": "OK", "SourceID": id, "Tables": tables.len() }),
    ))
}

async fn list(app: Arc<App>, principal: Principal, _: Call<NoParams>) -> ApiResult<Own<Value>> {
    let known = app
        .store
        .report_sources(&owner_of(&principal)?)
        .await
        .map_err(store_error)?;
    let shown = known.iter().map(|s| {
        let mut body: Value = serde_json::from_str(&s.body).unwrap_or_default();
        if let Some(object) = body.as_object_mut() {
            object.remove("stored");
            object.remove("seen");
        }
        json!({
            "SourceID": s.id, "Name": s.name, "Source": body, "HasPassword": !s.sealed.is_empty(),
            "Version": s.version, "Problem": app.reports.watch.problem(&s.id)
        })
    });
    Ok(Own(shown.collect()))
}

async fn delete(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Envelope> {
    let owner = owner_of(&principal)?;
    let stored = own(&app, &owner, &call.params.SourceID).await?;
    app.store
        .delete_report_source(&stored.id, &owner)
        .await
        .map_err(not_found("Data source"))?;
    uploads::remove_later(&app, &body_of(&stored)?);
    Ok(done())
}

async fn tables_of(app: &Arc<App>, source: OpenSource) -> ApiResult<Vec<Table>> {
    let permit = source.permit(app).await?;
    let app = app.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        source.connect(&app)?.tables()
    });
    asked
        .await
        .map_err(|_| ApiError::internal())?
        .map_err(source_error)
}

/// Tables by the names that templates use.
pub(super) fn shown(tables: &[Table]) -> ApiResult<Value> {
    let shown = tables.iter().map(|t| {
        Ok(json!({
            "Table": t.full_name(),
            "Columns": serde_json::to_value(&t.columns).map_err(|_| ApiError::internal())?
        }))
    });
    shown.collect()
}

async fn tables(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let id = call.params.SourceID;
    if [ENCKE, SAMPLE].contains(&id.as_str()) {
        let known = starter().iter().filter(|t| t.source == id);
        let shown = known.map(|t| {
            let columns = t.columns.iter().map(|c| json!({ "name": c.key, "type": c.kind }));
            json!({ "Table": t.table, "Columns": columns.collect::<Value>() })
        });
        return Ok(Own(shown.collect()));
    }
    let stored = own(&app, &owner, &id).await?;
    Ok(Own(shown(&tables_of(&app, to_open(&stored)?).await?)?))
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportSourceList",
            "/api/encke/v1/reports/list-sources",
            "Lists the caller's data sources, without their passwords.",
            list,
        ),
        Route::new(
            "EnckeReportSourceSave",
            "/api/encke/v1/reports/save-source",
            "Saves a PostgreSQL, MySQL, MariaDB or SQLite database, or a file on the server that is watched, to read from.",
            save,
        ),
        Route::new(
            "EnckeReportSourceDelete",
            "/api/encke/v1/reports/delete-source",
            "Deletes a data source; templates of it can not be used any more.",
            delete,
        ),
        Route::new(
            "EnckeReportSourceTables",
            "/api/encke/v1/reports/list-tables",
            "Lists the tables and columns of one of the caller's data sources, or of `encke` or `sample`.",
            tables,
        ),
    ]
}
