//! Storage Vaults: where they lie, and the keys that open them. The keys stand in the profile wrapped with the half of
//! the password that never leaves the device (DESIGN D4, D5).

use crate::error::{AgentError, AgentResult};
use crate::jobs::Job;
use crate::patient::{Patient, outage};
use crate::throttle::Throttled;
use crate::{Agent, now};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encke_api::account_keys::{ENCRYPTIONMETHOD_ENCKE, WrappingKey, bucket_key_place, vault_key_place};
use encke_api::constants::{
    DESTINATIONTYPE_B2, DESTINATIONTYPE_COMET, DESTINATIONTYPE_LOCALCOPY, DESTINATIONTYPE_S3,
    DESTINATIONTYPE_SWIFT,
};
use encke_api::types::{DestinationConfig, DestinationLocation, UserProfileConfig};
use encke_repo::{Cancel, InitOptions, RepoError, Repository};
use encke_storage::{Backend, StorageError, b2_place, kind_name, open_place, s3_place, swift_place};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// An index that was loaded for browsing is kept for this time after its last use.
const KEEP: Duration = Duration::from_secs(15 * 60);
/// Vaults kept open for browsing.
const MAX_OPEN: usize = 8;

/// Another device that makes a vault is waited for this long.
const MAKING_TIME: Duration = Duration::from_secs(30);

/// A job that waits for the server looks this often whether it is back.
const LOOK: Duration = Duration::from_millis(100);

/// Open vaults.
#[derive(Default)]
pub(crate) struct Vaults {
    open: Mutex<HashMap<String, Open>>,
    making: Mutex<()>,
    pub(crate) reading: crate::browse::Reading,
}

/// An open vault.
struct Open {
    repo: Arc<Repository>,
    used: Instant,
    /// What it was opened with. A vault that was moved is opened anew.
    config: String,
}

/// What decides how a vault is opened: everything but what backups change by themselves.
fn fingerprint(vault: &DestinationConfig) -> AgentResult<String> {
    let vault = DestinationConfig {
        statistics: Default::default(),
        repo_init_timestamp: 0,
        ..vault.clone()
    };
    serde_json::to_string(&vault).map_err(|e| AgentError::Protocol(e.to_string()))
}

/// Opens the place; what is wrong with its settings is the caller's to mend.
fn backend(location: &DestinationLocation, bucket_key: &str) -> AgentResult<Arc<dyn Backend>> {
    open_place(location, bucket_key).map_err(|e| match e {
        StorageError::Invalid(message) => AgentError::Invalid(message),
        StorageError::Unsupported(what) => AgentError::Unsupported(what),
        e => AgentError::Repo(e.into()),
    })
}

/// The part of a vault's settings that says where it lies.
fn location(vault: &DestinationConfig) -> AgentResult<DestinationLocation> {
    // A vault has all fields of a location beside its own.
    let value = serde_json::to_value(vault).map_err(|e| AgentError::Protocol(e.to_string()))?;
    crate::read(value)
}

/// A bucket's key: wrapped once a device has used the vault, in clear before.
fn bucket_key(wrapping: &WrappingKey, id: &str, stored: &str) -> AgentResult<String> {
    if !WrappingKey::is_wrapped(stored) {
        return Ok(stored.to_string());
    }
    let key = wrapping.unwrap_secret(&bucket_key_place(id), stored)?;
    String::from_utf8(key).map_err(|_| AgentError::Invalid("the vault's bucket key can not be read".into()))
}

impl Vaults {
    /// Opens a vault for reading, or hands over the one that is open.
    pub(crate) fn open(&self, agent: &Agent, id: &str) -> AgentResult<Arc<Repository>> {
        let config = fingerprint(&vault(agent, id)?)?;
        {
            let mut open = self.open.lock();
            open.retain(|_, o| o.used.elapsed() < KEEP);
            if let Some(found) = open.get_mut(id).filter(|o| o.config == config) {
                found.used = Instant::now();
                return Ok(found.repo.clone());
            }
        }
        let repo = Arc::new(open_or_make(agent, id, None, |backend| backend)?);
        let mut open = self.open.lock();
        if open.len() >= MAX_OPEN
            && let Some(oldest) = open.iter().min_by_key(|(_, o)| o.used).map(|(k, _)| k.clone())
        {
            open.remove(&oldest);
        }
        let entry = Open {
            repo: repo.clone(),
            used: Instant::now(),
            // As it is now: opening may have changed it.
            config: fingerprint(&vault(agent, id)?)?,
        };
        open.insert(id.to_string(), entry);
        Ok(repo)
    }

    /// Opens a vault for a job, with nothing remembered of it, and makes it at its first use. `speed` is bytes each
    /// second, 0 for no limit. The job's end ends every call.
    pub(crate) fn open_for(&self, job: &Arc<Job>, id: &str, speed: i64) -> AgentResult<Repository> {
        let teller = job.clone();
        let wrap = |backend| {
            let patient = Patient::over(backend, &job.cancel, move |message| teller.info(message));
            Throttled::over(patient, speed, &job.cancel)
        };
        open_or_make(&job.agent, id, Some(&job.cancel), wrap)
    }

    /// Forgets what is known of a vault.
    pub(crate) fn forget(&self, id: &str) {
        self.open.lock().remove(id);
    }

    /// Tries to reach a place and list it.
    pub(crate) fn ping(&self, agent: &Agent, location: &DestinationLocation) -> AgentResult<Value> {
        if location.destination_type == DESTINATIONTYPE_LOCALCOPY {
            crate::sandbox::check(&agent.profile()?, std::path::Path::new(&location.localcopy_path))?;
        }
        let backend = backend(location, &location.comet_bucket_key)?;
        backend.ping().map_err(|e| AgentError::Repo(e.into()))?;
        Ok(Value::Null)
    }
}

fn vault(agent: &Agent, id: &str) -> AgentResult<DestinationConfig> {
    let found = agent.profile()?.destinations.remove(id);
    found.ok_or_else(|| AgentError::Invalid(format!("the account has no Storage Vault '{id}'")))
}

fn options(agent: &Agent) -> InitOptions {
    InitOptions {
        cache_dir: Some(agent.data_dir.join("cache")),
        ..Default::default()
    }
}

/// Opens a vault, or makes it. With `cancel` the server is waited for where the profile has to be changed first.
fn open_or_make(
    agent: &Agent,
    id: &str,
    cancel: Option<&Cancel>,
    wrap: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>,
) -> AgentResult<Repository> {
    let wrapping = agent.settings().wrapping_key()?;
    let config = vault(agent, id)?;
    let open_bucket_key =
        !config.comet_bucket_key.is_empty() && !WrappingKey::is_wrapped(&config.comet_bucket_key);
    if config.encrypted_encryption_key.is_empty() || open_bucket_key {
        when_reached(agent, cancel, || claim(agent, id, &wrapping))?;
    }
    let config = vault(agent, id)?;
    let password = password(&wrapping, id, &config)?;
    let key = bucket_key(&wrapping, id, &config.comet_bucket_key)?;
    if config.destination_type == DESTINATIONTYPE_LOCALCOPY {
        crate::sandbox::check(&agent.profile()?, std::path::Path::new(&config.localcopy_path))?;
    }
    let backend = wrap(backend(&location(&config)?, &key)?);
    // Of two jobs that make a vault at once, one waits.
    let _one = (config.repo_init_timestamp == 0).then(|| agent.vaults.making.lock());
    let repo = match Repository::open(backend.clone(), &password, options(agent)) {
        // A disk that is not mounted, or data that was taken away: a new repository there would only hide it.
        Err(RepoError::Missing) if config.repo_init_timestamp > 0 => {
            return Err(AgentError::Invalid(format!(
                "the Storage Vault '{}' was used before, but nothing is there now; see that its disk is mounted",
                config.description
            )));
        }
        // The key is in the profile already; the device that put it there, this one or another, did not get further.
        Err(RepoError::Missing) => match Repository::init(backend.clone(), &password, options(agent)) {
            Err(RepoError::Exists) => wait_until_made(agent, &backend, &password)?,
            r => r?,
        },
        Err(RepoError::WrongPassword) => {
            return Err(AgentError::Invalid(
                "the Storage Vault's place holds a repository that this account has no key for".into(),
            ));
        }
        r => r?,
    };
    if config.repo_init_timestamp == 0 {
        let note = |profile: &mut UserProfileConfig| {
            let Some(vault) = profile.destinations.get_mut(id) else {
                return Ok(false);
            };
            let first = vault.repo_init_timestamp == 0;
            vault.repo_init_timestamp = now();
            Ok(first)
        };
        when_reached(agent, cancel, || agent.change_profile(note))?;
    }
    Ok(repo)
}

/// Changes the profile; while the server can not be reached, a job that may be cancelled waits for it.
fn when_reached(
    agent: &Agent,
    cancel: Option<&Cancel>,
    change: impl Fn() -> AgentResult<()>,
) -> AgentResult<()> {
    let Some(cancel) = cancel else { return change() };
    let began = Instant::now();
    loop {
        // A call would wait for a connection without looking whether the job was cancelled.
        let changed = if agent.is_connected.load(Ordering::Relaxed) {
            change()
        } else {
            Err(AgentError::Offline)
        };
        match changed {
            Err(AgentError::Offline) if began.elapsed() < outage() => {}
            changed => return changed,
        }
        if cancel.is_cancelled() {
            return Err(RepoError::Cancelled.into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Opens a vault that another device is making just now.
fn wait_until_made(agent: &Agent, backend: &Arc<dyn Backend>, password: &str) -> AgentResult<Repository> {
    let began = Instant::now();
    loop {
        match Repository::open(backend.clone(), password, options(agent)) {
            Err(RepoError::Missing | RepoError::Storage(StorageError::NotFound(_)))
                if began.elapsed() < MAKING_TIME =>
            {
                std::thread::sleep(Duration::from_millis(200));
            }
            r => return Ok(r?),
        }
    }
}

/// Makes the vault's key and puts it, wrapped, into the profile, and wraps the bucket's key. Of two devices that try, one wins and both use its key.
fn claim(agent: &Agent, id: &str, wrapping: &WrappingKey) -> AgentResult<()> {
    let mut secret = [0u8; 32];
    getrandom::fill(&mut secret).map_err(|_| encke_api::account_keys::KeyError::Random)?;
    let wrapped = wrapping.wrap(&vault_key_place(id), STANDARD.encode(secret).as_bytes())?;
    agent.change_profile(|profile| {
        let Some(vault) = profile.destinations.get_mut(id) else {
            return Err(AgentError::Invalid(format!(
                "the account has no Storage Vault '{id}'"
            )));
        };
        let mut changed = false;
        if vault.encrypted_encryption_key.is_empty() {
            vault.encrypted_encryption_key.clone_from(&wrapped);
            vault.encryption_key_encryption_method = ENCRYPTIONMETHOD_ENCKE;
            changed = true;
        }
        if !vault.comet_bucket_key.is_empty() && !WrappingKey::is_wrapped(&vault.comet_bucket_key) {
            vault.comet_bucket_key =
                wrapping.wrap(&bucket_key_place(id), vault.comet_bucket_key.as_bytes())?;
            changed = true;
        }
        Ok(changed)
    })
}

/// The repository's password, which stock restic takes as well.
fn password(wrapping: &WrappingKey, id: &str, vault: &DestinationConfig) -> AgentResult<String> {
    let secret = wrapping.unwrap_secret(&vault_key_place(id), &vault.encrypted_encryption_key)?;
    String::from_utf8(secret).map_err(|_| AgentError::Invalid("the vault's key can not be read".into()))
}

/// How the owner of this device reaches a vault without this program.
#[derive(serde::Serialize)]
pub struct VaultAccess {
    /// For restic's `-r`.
    pub repository: String,
    /// For restic's `RESTIC_PASSWORD`.
    pub password: String,
    /// Further variables of the environment that restic needs, by name.
    pub environment: Vec<(&'static str, String)>,
}

/// Reads a vault's keys with this device's own; asks the server for the profile.
///
/// # Errors
/// Not registered, off line, no such vault, or one that stock restic can not reach.
pub async fn vault_access(data_dir: &std::path::Path, id: &str) -> AgentResult<VaultAccess> {
    let settings = crate::Settings::load(data_dir)?;
    let (_, account) = crate::connection::sign_in(&settings, &Default::default()).await?;
    let wrapping = settings.wrapping_key()?;
    let vault = account.profile.destinations.get(id);
    let vault =
        vault.ok_or_else(|| AgentError::Invalid(format!("the account has no Storage Vault '{id}'")))?;
    let mut environment = Vec::new();
    let repository = match vault.destination_type {
        DESTINATIONTYPE_COMET => {
            let key = bucket_key(&wrapping, id, &vault.comet_bucket_key)?;
            let (scheme, host) = vault
                .comet_server
                .trim_end_matches('/')
                .split_once("://")
                .unwrap_or(("http", ""));
            format!(
                "rest:{scheme}://{0}:{key}@{host}/storage/{0}/",
                vault.comet_bucket
            )
        }
        DESTINATIONTYPE_LOCALCOPY => vault.localcopy_path.clone(),
        DESTINATIONTYPE_S3 => {
            let place = s3_place(&location(vault)?).map_err(|e| AgentError::Invalid(e.to_string()))?;
            environment.push(("AWS_DEFAULT_REGION", place.signing_region().to_string()));
            environment.push(("AWS_ACCESS_KEY_ID", place.access_key.clone()));
            environment.push(("AWS_SECRET_ACCESS_KEY", place.secret_key.clone()));
            format!("s3:{}", place.url())
        }
        DESTINATIONTYPE_SWIFT => {
            let place = swift_place(&location(vault)?);
            environment = place.restic_environment();
            format!("swift:{}:/{}", place.container, place.prefix.trim_matches('/'))
        }
        DESTINATIONTYPE_B2 => {
            let place = b2_place(&location(vault)?);
            environment.push(("B2_ACCOUNT_ID", place.key_id));
            environment.push(("B2_ACCOUNT_KEY", place.key));
            format!("b2:{}:{}", place.bucket, place.prefix.trim_matches('/'))
        }
        other => {
            let kind = kind_name(other).unwrap_or("unknown");
            return Err(AgentError::Unsupported(format!(
                "stock restic for storage of the kind {kind}"
            )));
        }
    };
    Ok(VaultAccess {
        repository,
        password: password(&wrapping, id, vault)?,
        environment,
    })
}
