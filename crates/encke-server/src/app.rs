//! What every handler shares: the store, the configuration in force, the keys and the live connections.

use crate::auth::{Passwords, Sessions, Throttle, UsedCodes};
use crate::live::Registry;
use crate::storage_role::Buckets;
use crate::table::Table;
use encke_api::account_keys::WrappingKey;
use encke_api::types::ServerConfigOptions;
use encke_api::{ApiError, ApiResult};
use encke_store::{EventDraft, Store, StoreError};
use parking_lot::RwLock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// The running server.
pub struct App {
    /// Metadata.
    pub store: Store,
    /// Folder of the database, the keys and the buckets.
    pub data_dir: PathBuf,
    /// Origins of the portals that may sign people in to the console; without one every page may.
    pub portals: Vec<String>,
    /// Opens what the server itself keeps encrypted (TOTP secrets, recovery codes, API codes).
    pub server_key: WrappingKey,
    /// Verified passwords.
    pub passwords: Passwords,
    /// Live sessions.
    pub sessions: Sessions,
    /// Failed log-ins.
    pub throttle: Throttle,
    /// One-time codes that were used.
    pub used_codes: UsedCodes,
    /// What this server answers to authorities that certify its names.
    pub(crate) acme: Arc<crate::tls::Answers>,
    /// What is remembered of other systems that administrators log in by.
    pub external: crate::external_login::External,
    /// Challenges to security keys.
    pub challenges: crate::webauthn::Challenges,
    /// Snapshots of reports, and how fast they may be asked for.
    pub reports: crate::reports::Reports,
    /// What became of the server's copies of itself.
    pub self_backup: crate::self_backup::SelfBackup,
    /// What is on its way to other servers.
    pub replication: crate::replication::Replication,
    /// Who uses which bucket of the cluster.
    pub constellation: crate::constellation::Constellation,
    /// Whether this server is the one that sends e-mails and webhooks, and copies itself to others.
    pub leader: crate::leader::Leader,
    /// E-mail.
    pub mailer: crate::email::Mailer,
    /// Webhooks.
    pub webhooks: crate::webhooks::State,
    /// Devices on line.
    pub live: Registry,
    /// The program that clients get.
    pub program: crate::clients::OwnProgram,
    /// The update campaign.
    pub campaign: crate::updates::Campaigns,
    /// Devices that wait for an account.
    pub lobby: crate::installation::Lobby,
    /// The Storage Role's buckets.
    pub buckets: Buckets,
    /// Every endpoint.
    pub table: Table,
    /// New at each start.
    pub start_hash: String,
    /// Unix seconds of the start.
    pub start_time: i64,
    /// Address the server is reached at when the configuration names none, such as `http://127.0.0.1:8060`.
    pub local_url: String,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
    /// What an administrator asked the process to do.
    pub(crate) ending: tokio::sync::watch::Sender<Option<Ending>>,
    pub(crate) config: RwLock<Arc<ServerConfigOptions>>,
}

/// How an administrator ends the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Stop, and start again with the configuration as it is then.
    Restart,
    /// Stop for good.
    Shutdown,
}

impl App {
    /// Ends the server once the calls that are open have been answered.
    pub fn end(&self, ending: Ending) {
        self.ending.send_replace(Some(ending));
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfigOptions> {
        self.config.read().clone()
    }

    /// Changes the configuration; see [`Store::change_config`].
    ///
    /// # Errors
    /// What `change` answers, or 500.
    pub async fn change_config<F>(&self, change: F) -> ApiResult<()>
    where
        F: FnOnce(&mut ServerConfigOptions) -> ApiResult<Vec<EventDraft>> + Send + 'static,
    {
        let new = self.store.change_config(change).await.map_err(store_error)??;
        *self.config.write() = Arc::new(new);
        Ok(())
    }
}

/// Days that events and jobs are kept when the configuration names none.
pub(crate) const KEEP_DAYS: i64 = 90;

/// Days that events and jobs are kept.
pub(crate) fn keep_days(config: &ServerConfigOptions) -> i64 {
    match config.authentication_role.prune_logs_after_days {
        0 => KEEP_DAYS,
        n => n.max(encke_api::constants::MINIMUM_LOG_RETENTION_DAYS),
    }
}

/// Unix seconds now.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// The one place that decides what a client may read of a store's failure.
pub(crate) fn store_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::not_found("Not found"),
        StoreError::Exists => ApiError::new(409, "Exists already"),
        StoreError::Changed => {
            ApiError::conflict("The document was changed by somebody else; fetch it again")
        }
        StoreError::Invalid(message) => ApiError::bad_request(message),
        StoreError::Full => ApiError::new(507, "The server's disk is full; nothing was changed"),
        e => {
            tracing::error!(error = %e, "store call failed");
            ApiError::internal()
        }
    }
}
