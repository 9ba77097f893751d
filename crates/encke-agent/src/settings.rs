//! What a device keeps about itself: one JSON file that only its owner may read.

use crate::error::{AgentError, AgentResult};
use encke_api::account_keys::{LoginKey, WrappingKey};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const FILE: &str = "agent.json";

/// The settings of a registered device. No password: only the two halves it was stretched into.
#[derive(Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The server's address, such as `https://backup.example.org`.
    pub server: String,
    /// Account name.
    pub username: String,
    /// Stable id of this device.
    pub device_id: String,
    /// Name that people see.
    pub device_name: String,
    /// The owner's consent to file names being shown to the server's users.
    pub allows_filenames: bool,
    login_key: String,
    wrapping_key: String,
}

impl Settings {
    pub(crate) fn new(
        server: &str,
        username: &str,
        device_id: &str,
        device_name: &str,
        allows_filenames: bool,
        keys: &encke_api::account_keys::AccountKeys,
    ) -> Self {
        Self {
            server: server.trim_end_matches('/').to_string(),
            username: username.to_string(),
            device_id: device_id.to_string(),
            device_name: device_name.to_string(),
            allows_filenames,
            login_key: keys.login.to_text(),
            wrapping_key: keys.wrapping.to_text(),
        }
    }

    /// The same device with another password's keys.
    pub(crate) fn with_keys(&self, keys: &encke_api::account_keys::AccountKeys) -> Self {
        Self {
            login_key: keys.login.to_text(),
            wrapping_key: keys.wrapping.to_text(),
            ..self.clone()
        }
    }

    /// The same device at another server's address.
    pub(crate) fn with_server(&self, server: &str) -> Self {
        Self {
            server: server.trim_end_matches('/').to_string(),
            ..self.clone()
        }
    }

    /// Reads the settings of a data folder.
    ///
    /// # Errors
    /// The device is not registered, or the file can not be read.
    pub fn load(data_dir: &Path) -> AgentResult<Self> {
        let path = data_dir.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| AgentError::File {
                path,
                error: std::io::Error::other(e.to_string()),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(AgentError::NotRegistered),
            Err(error) => Err(AgentError::File { path, error }),
        }
    }

    /// Writes the settings, whole or not at all.
    pub(crate) fn save(&self, data_dir: &Path) -> AgentResult<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| AgentError::Protocol(e.to_string()))?;
        write_private(data_dir, FILE, &text)
    }

    pub(crate) fn login_key(&self) -> &str {
        &self.login_key
    }

    pub(crate) fn wrapping_key(&self) -> AgentResult<WrappingKey> {
        Ok(WrappingKey::from_text(&self.wrapping_key)?)
    }

    pub(crate) fn check(&self) -> AgentResult<()> {
        LoginKey::from_text(&self.login_key)?;
        self.wrapping_key().map(drop)
    }
}

/// Makes sure that settings can be kept in a data folder.
pub(crate) fn check_folder(data_dir: &Path) -> AgentResult<()> {
    const TRIAL: &str = "trial";
    write_private(data_dir, TRIAL, b"")?;
    let path = data_dir.join(TRIAL);
    fs::remove_file(&path).map_err(|error| AgentError::File { path, error })
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(data_dir: &Path, name: &str, content: &[u8]) -> AgentResult<()> {
    let path = data_dir.join(name);
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)?;
        // One that was left behind may have other permissions.
        let _ = fs::remove_file(&draft);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(data_dir)?.sync_all()
    };
    write().map_err(|error| AgentError::File {
        path: path.clone(),
        error,
    })
}

/// Makes sure that one agent alone uses a data folder, as long as the file is held.
pub(crate) fn lock(data_dir: &Path) -> AgentResult<fs::File> {
    let path = data_dir.join("lock");
    let mut options = fs::OpenOptions::new();
    let opened = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = opened.map_err(|error| AgentError::File {
        path: path.clone(),
        error,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(AgentError::Invalid(format!(
            "another agent runs with {} already",
            data_dir.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(AgentError::File { path, error }),
    }
}

/// `/var/lib/encke-agent` for root, else a folder in the user's own state.
#[must_use]
pub fn default_data_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    let root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    match state.or(home) {
        Some(state) if !root => state.join("encke-agent"),
        _ => "/var/lib/encke-agent".into(),
    }
}
