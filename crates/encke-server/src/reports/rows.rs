//! Opening what a report is made of, with the rights of one person: the only way to rows.

use super::exports::Stage;
use super::{PICTURES, own, scope_of, sources, templates};
use crate::app::App;
use encke_api::{ApiError, ApiResult};
use encke_reports::source::{Database, SourceError, open_file};
use encke_reports::{Destination, ENCKE, SAMPLE, SavedReport, Template, stage_sample};
use encke_store::{ReportOwner, Scope};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A database file that goes with the last one who uses it.
pub(super) struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An open source, and the file of staged rows that has to stay as long.
type Connected = (Box<dyn Database>, Option<Arc<TemporaryFile>>);

/// A template with the source it is of, as one person may use them.
pub(super) struct Opened {
    pub template: Template,
    /// Changes whenever the template or the source is changed.
    pub version: String,
    place: Place,
}

enum Place {
    Encke(Scope),
    Sample,
    Stored(Box<sources::OpenSource>),
}

/// What a client may read of a source's failure: everything, for they are the words of their own source.
pub(super) fn source_error(e: SourceError) -> ApiError {
    match e {
        SourceError::Refused(e) => ApiError::bad_request(e.0),
        SourceError::Timeout(_) => ApiError::new(504, e.to_string()),
        SourceError::Source(_) => ApiError::new(502, e.to_string()),
        SourceError::Sink(what) => {
            tracing::error!(%what, "a report's rows could not be kept");
            ApiError::internal()
        }
    }
}

/// Finds a template by number among those that somebody may use, and its source.
///
/// # Errors
/// 404 when there is none; 400 when its source is gone.
pub(super) async fn open(app: &App, user: &ReportOwner, template: i64) -> ApiResult<Opened> {
    let found = templates::find(app, user, template).await?;
    open_template(app, user, found.template, found.version).await
}

/// As [`open`], for a template at hand.
pub(super) async fn open_template(
    app: &App,
    user: &ReportOwner,
    template: Template,
    version: i64,
) -> ApiResult<Opened> {
    let (place, source) = match template.source.as_str() {
        ENCKE => (Place::Encke(scope_of(user)), 0),
        SAMPLE => (Place::Sample, 0),
        id => {
            let (source, version) = sources::open(app, id).await?;
            (Place::Stored(Box::new(source)), version)
        }
    };
    Ok(Opened {
        version: format!("{}.{version}.{source}", template.id),
        template,
        place,
    })
}

fn into<'a>(folder: &'a Path, name: &'a str, stage: &'a Stage) -> Destination<'a> {
    Destination {
        folder,
        name,
        pictures: PICTURES,
        progress: &stage.progress,
    }
}

impl Opened {
    /// Whether rows may differ from one moment to the next while nothing was edited.
    pub fn changes(&self) -> bool {
        match &self.place {
            Place::Encke(_) => true,
            Place::Sample => false,
            Place::Stored(source) => source.is_external(),
        }
    }

    /// Runs some work with the source open, on a thread for blocking work. `sample` tells how many rows of the sample
    /// association there shall be, and its seed.
    ///
    /// # Errors
    /// The source can not be opened or is too busy, or the work fails.
    pub async fn with<T, F>(self, app: &Arc<App>, sample: (u64, u64), work: F) -> ApiResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Template, &mut dyn Database) -> Result<T, SourceError> + Send + 'static,
    {
        let permit = match &self.place {
            Place::Stored(source) => Some(source.permit(app).await?),
            _ => None,
        };
        let app = app.clone();
        let run = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let (mut database, _file) = self.connect(&app, sample)?;
            work(&self.template, &mut *database)
        });
        run.await.map_err(|_| ApiError::internal())?.map_err(source_error)
    }

    /// Writes the rows of a report to a snapshot.
    ///
    /// # Errors
    /// As [`Opened::with`].
    pub async fn run(
        self,
        app: &Arc<App>,
        report: &SavedReport,
        folder: PathBuf,
        name: String,
        stage: Arc<Stage>,
    ) -> ApiResult<PathBuf> {
        let (report, sample) = (report.clone(), report.sample());
        if matches!(self.place, Place::Sample) && report.is_plain() {
            let run = tokio::task::spawn_blocking(move || {
                report.check(&self.template)?;
                let made = encke_reports::sample(&self.template, &report, into(&folder, &name, &stage))?;
                made.ok_or_else(|| SourceError::Sink("the sample has no such columns".into()))
            });
            return run.await.map_err(|_| ApiError::internal())?.map_err(source_error);
        }
        self.with(app, sample, move |template, database| {
            encke_reports::run(template, &report, database, into(&folder, &name, &stage))
        })
        .await
    }

    fn connect(&self, app: &Arc<App>, sample: (u64, u64)) -> Result<Connected, SourceError> {
        let table = self.template.table.clone();
        let staged = match &self.place {
            Place::Stored(source) => return Ok((source.connect(app)?, None)),
            Place::Encke(scope) => app.reports.staged(format!("{scope:?} {table}"), |path| {
                own::stage(app, scope, &table, path)
            })?,
            Place::Sample => app.reports.staged(format!("{sample:?} {table}"), |path| {
                // All of the table's columns, whichever of them the template offers.
                let whole = encke_reports::starter()
                    .iter()
                    .find(|t| t.source == SAMPLE && t.table == table);
                let whole = whole.ok_or_else(|| {
                    encke_reports::Refused(format!("There is no table '{table}' of the sample"))
                })?;
                stage_sample(whole, sample, PICTURES, path)
            })?,
        };
        Ok((open_file(&staged.0)?, Some(staged)))
    }
}

impl super::Reports {
    /// A database file of rows that come from elsewhere, used by whoever asks for the same within a short time.
    fn staged(
        &self,
        key: String,
        fill: impl FnOnce(&Path) -> Result<(), SourceError>,
    ) -> Result<Arc<TemporaryFile>, SourceError> {
        // Those who ask for the same meanwhile wait for it.
        let made = self.staged.try_get_with(key, || {
            let folder = self.folder.join("staged");
            std::fs::create_dir_all(&folder).map_err(|e| SourceError::Sink(e.to_string()))?;
            let path = folder.join(format!("{}.db", uuid::Uuid::new_v4()));
            let file = Arc::new(TemporaryFile(path.clone()));
            fill(&path)?;
            Ok::<_, SourceError>(file)
        });
        made.map_err(|e: Arc<SourceError>| match &*e {
            SourceError::Refused(r) => SourceError::Refused(encke_reports::Refused(r.0.clone())),
            e => SourceError::Sink(e.to_string()),
        })
    }
}
