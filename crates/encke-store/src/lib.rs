//! Metadata: accounts, sessions, jobs, buckets, reports and the events that tell of their changes, in SQLite or PostgreSQL.
//!
//! One module a capability, each an `impl Store` of its own. Start reading at [`Store`], then [`sql`] (what a
//! capability writes its statements against) and `migrations/` (the schema). This crate knows nothing of HTTP.

mod accounts_cache;
pub mod audit;
mod buckets;
pub mod collections;
mod config;
mod constellation;
mod error;
mod events;
mod external_admins;
mod install_tokens;
mod jobs;
mod leases;
mod mail;
mod migrations;
mod postgres;
mod replication;
mod report_schedules;
mod reports;
mod scope;
mod sessions;
pub mod sql;
mod sqlite;
mod statistics;
mod update_campaigns;
mod users;
mod webhooks;
mod writer;

pub use buckets::{BucketId, BucketRules, BucketSize, StoredBucket};
pub use error::{StoreError, StoreResult};
pub use events::{Event, EventDraft, StoredEvent};
pub use install_tokens::StoredToken;
pub use jobs::{
    CompiledSearch, DeviceSearch, JobFilter, Reported, RunningJob, compile as compile_search,
    compile_device_search, delete_jobs_of_user, is_running, note_duty,
};
pub use mail::{
    Attachment, DueMail, ListedMail, MailContent, MailCounts, NewMail, enqueue_mail,
    remove_mails_of_organization,
};
pub use replication::Replicated;
pub use report_schedules::{StoredReportFile, StoredSchedule, add_report_file, schedule_sent};
pub use reports::{
    ReportCalls, ReportOwner, StoredCode, StoredReport, StoredSource, StoredTemplate, delete_reports_of,
};
pub use scope::Scope;
pub use sessions::{SessionKind, StoredSession};
pub use statistics::Note;
pub use update_campaigns::StoredCampaign;
pub use users::{NewProfile, ProfileChange, StoredProfile, UsersOf};
pub use webhooks::{StoredWebhook, remove_webhooks_of_organization};

use sql::{Sql, Tx};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events kept for a subscriber that reads slowly; one that falls further behind is cut off.
const EVENT_BUFFER: usize = 512;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    database: Database,
    bus: Bus,
    /// Reads run where they are asked for, and fail when they are long.
    short: bool,
}

#[derive(Clone)]
enum Database {
    Sqlite(Arc<sqlite::Sqlite>),
    Postgres(Arc<postgres::Postgres>),
}

/// Where events go that are on disk.
#[derive(Clone)]
pub(crate) struct Bus {
    all: broadcast::Sender<Arc<Event>>,
    stored: broadcast::Sender<Arc<Event>>,
}

impl Bus {
    fn new() -> Self {
        Self {
            all: broadcast::channel(EVENT_BUFFER).0,
            stored: broadcast::channel(EVENT_BUFFER).0,
        }
    }

    /// Passes on an event that is stored. Nobody listening is not a failure.
    pub(crate) fn send(&self, event: Event) {
        let event = Arc::new(event);
        let _ = self.all.send(event.clone());
        let _ = self.stored.send(event);
    }
}

impl Store {
    /// Opens (and creates or migrates) the database file.
    ///
    /// # Errors
    /// The file can not be opened, is not a database, or comes from a newer version.
    pub fn open(path: &Path) -> StoreResult<Self> {
        let bus = Bus::new();
        let sqlite = sqlite::Sqlite::open(path, bus.clone())?;
        Ok(Self {
            database: Database::Sqlite(Arc::new(sqlite)),
            bus,
            short: false,
        })
    }

    /// Connects to a PostgreSQL database, `postgresql://user@host/database` with the options of libpq (and creates or
    /// migrates the schema). Several servers may share one. Connections are encrypted, with the system's certificates,
    /// if the database offers it; `sslmode=require` insists, `sslmode=disable` does without.
    ///
    /// # Errors
    /// The address is wrong, the database does not answer, or comes from a newer version.
    pub async fn connect(url: &str) -> StoreResult<Self> {
        let bus = Bus::new();
        let (url, sender) = (url.to_string(), bus.clone());
        let postgres = tokio::task::spawn_blocking(move || postgres::Postgres::connect(&url, sender))
            .await
            .map_err(|_| StoreError::Stopped)??;
        Ok(Self {
            database: Database::Postgres(Arc::new(postgres)),
            bus,
            short: false,
        })
    }

    /// Runs statements that only read, on one consistent state of the database, on a thread for blocking work.
    ///
    /// # Errors
    /// Those of the statements.
    pub async fn read<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Sql) -> StoreResult<T> + Send + 'static,
    {
        if let (Database::Sqlite(sqlite), true) = (&self.database, self.short) {
            return sqlite.read_short(work);
        }
        let database = self.database.clone();
        let read = move || match database {
            Database::Sqlite(sqlite) => sqlite.read(work),
            Database::Postgres(postgres) => postgres.read(work),
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| StoreError::Stopped)?
    }

    /// As [`Store::read`], for what is short as a rule: rows found by an index. SQLite reads those here and now, which is
    /// done sooner than another thread is woken; what turns out to be long starts anew on a thread for blocking work.
    ///
    /// # Errors
    /// Those of the statements.
    pub async fn read_few<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Sql) -> StoreResult<T> + Send + 'static,
    {
        if let Database::Sqlite(sqlite) = &self.database {
            match sqlite.read_short(&work) {
                Err(StoreError::TooLong) if !self.short => {}
                result => return result,
            }
        }
        self.read(work).await
    }

    /// This store for a first try at a list that may be short: its reads run where they are asked for, and fail with
    /// `TooLong` instead of holding the caller up. `None` with PostgreSQL, whose answers have to be waited for.
    #[must_use]
    pub fn short(&self) -> Option<Self> {
        match &self.database {
            Database::Sqlite(_) => Some(Self {
                short: true,
                ..self.clone()
            }),
            Database::Postgres(_) => None,
        }
    }

    /// Runs statements in a transaction. All of it happens or nothing; it is on disk when this returns, and its events
    /// are on the bus (with PostgreSQL: on their way there). Several callers' work may share one write to the disk.
    ///
    /// # Errors
    /// Those of the statements; then nothing of this work remains.
    pub async fn write<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx) -> StoreResult<T> + Send + 'static,
    {
        let asker = audit::asker();
        let work = move |tx: &mut Tx| {
            tx.asker = asker;
            work(tx)
        };
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.writer.write(work).await,
            Database::Postgres(postgres) => postgres.writer.write(work).await,
        }
    }

    /// Writes a copy of the database as it is at one moment into a new file, while others go on reading and writing.
    /// Without jobs their log is left out as well.
    ///
    /// # Errors
    /// The file exists or can not be written, or the metadata is not in SQLite.
    pub async fn copy_to(&self, target: PathBuf, without_jobs: bool) -> StoreResult<()> {
        let Database::Sqlite(sqlite) = &self.database else {
            return Err(StoreError::Invalid(
                "The metadata is in PostgreSQL, whose own tools copy it (pg_dump)".into(),
            ));
        };
        let sqlite = sqlite.clone();
        tokio::task::spawn_blocking(move || sqlite.copy_to(&target, without_jobs))
            .await
            .map_err(|_| StoreError::Stopped)?
    }

    /// Everything that changes from now on. A receiver that lags more than the buffer gets an error and must start
    /// over.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.bus.all.subscribe()
    }

    /// As [`Store::subscribe`], without what is only announced: log-ins come with every call, and whoever does not care
    /// should not be woken by each.
    #[must_use]
    pub fn subscribe_stored(&self) -> broadcast::Receiver<Arc<Event>> {
        self.bus.stored.subscribe()
    }

    /// Sends an event that no stored change belongs to (log-ins, live connections), if somebody listens.
    pub fn announce(&self, draft: impl FnOnce() -> EventDraft) {
        if self.bus.all.receiver_count() > 0 {
            // Nobody listening any more is not a failure.
            let _ = self.bus.all.send(Arc::new(draft().into_event()));
        }
    }
}
