//! The device client: registers with a server, keeps a live connection, and backs up, restores and browses for real.
//!
//! Start reading at [`Agent`] (what is shared), then `connection` (the protocol of [`encke_api::live`]), `jobs` (what
//! a job does) and `vaults` (how a Storage Vault is opened: the keys never leave the device unwrapped).

mod browse;
mod connection;
mod databases;
mod device;
mod disks;
mod error;
mod install;
mod items;
mod jobs;
mod lobby;
mod patient;
mod patterns;
mod profile_cache;
mod proxmox;
mod register;
mod sandbox;
pub mod schedule;
mod scheduler;
mod search;
mod settings;
mod spool;
mod throttle;
mod tools;
mod update;
mod vaults;

pub use error::{AgentError, AgentResult};
pub use install::{Service, install, uninstall};
pub use lobby::wait_in_lobby;
pub use register::{Registration, register, register_by_token};
pub use settings::{Settings, default_data_dir};
pub use throttle::Throttled;
pub use update::put_back;
pub use vaults::{VaultAccess, vault_access};

use encke_api::constants::{JOB_CLASSIFICATION_BACKUP, SETTING_ENFORCED_OFF, SETTING_ENFORCED_ON};
use encke_api::live::{Call, ProfileAndHash};
use encke_api::types::{BackupJobDetail, UserProfileConfig};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use spool::Spool;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Version that lists of devices show. Integrators compare it with the protocol's minimum versions.
pub const VERSION: &str = encke_api::constants::APPLICATION_VERSION;
/// A call to the server is given up after this time.
const CALL_TIME: Duration = Duration::from_secs(60);
/// Most ended jobs whose outcome waits for the server to be back.
const MAX_LATER: usize = 256;

/// A call on its way to the server, and where its answer goes.
type PendingCall = (Call, oneshot::Sender<AgentResult<Value>>);

/// The running agent.
pub struct Agent {
    settings: RwLock<Arc<Settings>>,
    data_dir: PathBuf,
    spool: Spool,
    account: RwLock<Option<ProfileAndHash>>,
    calls: mpsc::Sender<PendingCall>,
    is_connected: AtomicBool,
    /// Woken when the spool has something to deliver.
    deliver: Notify,
    /// Woken when something was delivered.
    delivered: Notify,
    jobs: Mutex<jobs::Running>,
    /// Given out to jobs that run.
    turns: Arc<Semaphore>,
    /// Woken when the profile has changed.
    profile_changed: Notify,
    vaults: vaults::Vaults,
    /// Held from asking for a profile until it is taken over: an answer that was overtaken must not come last.
    exchanging: Mutex<()>,
    /// Ended jobs whose outcome could not be written into the profile yet.
    later: Mutex<Vec<(BackupJobDetail, jobs::Outcome)>>,
    stopping: CancellationToken,
    /// What is done at the very end, where the server asked for more than a stop.
    farewell: Mutex<Option<Farewell>>,
    /// The program that runs.
    own: update::Own,
    /// The change to another program, where one is on its way.
    update: Mutex<Option<Arc<update::Underway>>>,
    /// Set while no new jobs are to begin, since the program is about to be changed.
    closing: AtomicBool,
}

/// How the agent leaves for good.
#[derive(Clone, Copy)]
enum Farewell {
    /// Without the account.
    ForgetLogin,
    /// Out of the system's services, perhaps with all settings.
    Uninstall { remove_settings: bool },
    /// To come back as the program that lies in this one's place.
    Restart,
}

/// How the agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// For good.
    Stopped,
    /// To be started anew, as the program of this path.
    Replaced(PathBuf),
}

impl Agent {
    /// Runs until `stopping` is cancelled.
    ///
    /// # Errors
    /// The data folder can not be used, or this device is not registered.
    pub async fn run(data_dir: &Path, stopping: CancellationToken) -> AgentResult<Ended> {
        let settings = Settings::load(data_dir)?;
        let _only = settings::lock(data_dir)?;
        let own = tokio::task::spawn_blocking(update::Own::read);
        let own = own.await.unwrap_or_default();
        let begin = match update::at_start(data_dir, &own)? {
            update::Begin::PutBack(program) => return Ok(Ended::Replaced(program)),
            begin => begin,
        };
        jobs::clear_snapshots(data_dir);
        let spool = Spool::open(&data_dir.join("spool.db"))?;
        // Jobs of a process that died: nobody will ever finish them.
        let mut died = spool.end_jobs_of_dead_process()?;
        if !died.is_empty() {
            tracing::warn!(jobs = died.len(), "jobs of an earlier process were ended");
        }
        died.retain(|j| j.classification == JOB_CLASSIFICATION_BACKUP);
        let wrapping = settings.wrapping_key()?;
        let (calls, receive) = mpsc::channel(64);
        let agent = Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            data_dir: data_dir.to_path_buf(),
            spool,
            account: RwLock::new(profile_cache::load(data_dir, &wrapping)),
            calls,
            is_connected: AtomicBool::new(false),
            deliver: Notify::new(),
            delivered: Notify::new(),
            jobs: Mutex::default(),
            turns: Arc::new(Semaphore::new(jobs::MAX_JOBS)),
            profile_changed: Notify::new(),
            vaults: vaults::Vaults::default(),
            exchanging: Mutex::default(),
            later: Mutex::new(died.into_iter().map(|d| (d, jobs::Outcome::default())).collect()),
            stopping,
            farewell: Mutex::default(),
            own,
            update: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let scheduler = tokio::spawn(scheduler::run(agent.clone()));
        let confirming = matches!(begin, update::Begin::Confirm)
            .then(|| tokio::spawn(update::confirm_in_time(agent.clone())));
        connection::keep(&agent, receive).await;
        scheduler.abort();
        if let Some(confirming) = confirming {
            confirming.abort();
        }
        jobs::stop_all(&agent).await;
        let farewell = *agent.farewell.lock();
        match farewell {
            Some(Farewell::ForgetLogin) => install::forget_login(data_dir),
            Some(Farewell::Uninstall { remove_settings }) => {
                install::uninstall(data_dir, false)?;
                if remove_settings {
                    install::forget(data_dir);
                }
            }
            Some(Farewell::Restart) => {
                return agent.own.path().map(Ended::Replaced);
            }
            None => {}
        }
        Ok(Ended::Stopped)
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.read().clone()
    }

    /// Takes over other settings: kept on disk first.
    fn set_settings(&self, settings: Settings) -> AgentResult<()> {
        settings.save(&self.data_dir)?;
        *self.settings.write() = Arc::new(settings);
        Ok(())
    }

    /// Whether file names may be shown: the owner's consent, unless the account's policy decides.
    fn allows_filenames(&self) -> bool {
        let account = self.account.read();
        match account
            .as_ref()
            .map(|a| a.profile.policy.mode_admin_view_filenames)
        {
            Some(SETTING_ENFORCED_ON) => true,
            Some(SETTING_ENFORCED_OFF) => false,
            _ => self.settings().allows_filenames,
        }
    }

    fn profile(&self) -> AgentResult<UserProfileConfig> {
        self.account
            .read()
            .as_ref()
            .map(|a| a.profile.clone())
            .ok_or(AgentError::Offline)
    }

    fn account(&self) -> AgentResult<ProfileAndHash> {
        self.account.read().clone().ok_or(AgentError::Offline)
    }

    /// Asks the server and waits for the answer. For threads outside the async runtime.
    fn call(&self, call: Call) -> AgentResult<Value> {
        let (send, receive) = oneshot::channel();
        self.calls
            .blocking_send((call, send))
            .map_err(|_| AgentError::Offline)?;
        let handle = tokio::runtime::Handle::current();
        let answer = handle.block_on(async { tokio::time::timeout(CALL_TIME, receive).await });
        answer
            .map_err(|_| AgentError::Offline)?
            .map_err(|_| AgentError::Offline)?
    }

    /// Asks the server for an answer that is a profile, and takes it over.
    fn exchange(&self, call: Call) -> AgentResult<()> {
        let _one = self.exchanging.lock();
        self.set_account(read(self.call(call)?)?);
        Ok(())
    }

    /// Takes over a profile the server sent, and keeps it for a start without the server.
    fn set_account(&self, account: ProfileAndHash) {
        let mut kept = self.account.write();
        let changed = kept.as_ref().is_none_or(|k| k.hash != account.hash);
        if changed
            && let Err(e) = self
                .settings()
                .wrapping_key()
                .and_then(|key| profile_cache::save(&self.data_dir, &key, &account))
        {
            tracing::warn!(error = %e, "the profile could not be kept");
        }
        *kept = Some(account);
        if changed {
            self.profile_changed.notify_one();
        }
    }

    /// Remembers an ended job until the server is back.
    fn keep_for_later(&self, detail: BackupJobDetail, outcome: jobs::Outcome) {
        let mut later = self.later.lock();
        // Only the newest of each kind, item and vault matters, and they are few.
        let what = |d: &BackupJobDetail| {
            (
                d.classification,
                d.source_guid.clone(),
                d.destination_guid.clone(),
            )
        };
        later.retain(|(d, _)| what(d) != what(&detail));
        if later.len() < MAX_LATER {
            later.push((detail, outcome));
        }
    }

    /// Changes the profile on the server: `change` is applied to the newest one until no other change comes between.
    fn change_profile(
        &self,
        mut change: impl FnMut(&mut UserProfileConfig) -> AgentResult<bool>,
    ) -> AgentResult<()> {
        for _ in 0..20 {
            let mut account = self.account()?;
            if !change(&mut account.profile)? {
                return Ok(());
            }
            let call = Call::SetProfile {
                require_hash: account.hash,
                profile: Box::new(account.profile),
            };
            match self.exchange(call) {
                Err(AgentError::Server { status: 409, .. }) => self.exchange(Call::GetProfile)?,
                ended => return ended,
            }
        }
        Err(AgentError::Server {
            status: 409,
            message: "the profile keeps changing".into(),
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(body: Value) -> AgentResult<T> {
    serde_json::from_value(body).map_err(|e| AgentError::Protocol(e.to_string()))
}

/// Unix seconds now.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
