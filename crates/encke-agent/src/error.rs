//! What can go wrong on a device.

use encke_repo::RepoError;
use std::path::PathBuf;

/// Result of an agent's operation.
pub type AgentResult<T> = Result<T, AgentError>;

/// A failure a caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// This device is not registered.
    #[error("this device is not registered; run 'encke agent register' first")]
    NotRegistered,
    /// The server can not be reached.
    #[error("the server can not be reached")]
    Offline,
    /// The server refused.
    #[error("{message}")]
    Server {
        /// As in an envelope.
        status: u16,
        /// For people.
        message: String,
    },
    /// The other side does not keep to the protocol.
    #[error("the server's answer can not be read: {0}")]
    Protocol(String),
    /// A file of the agent's own.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The spool.
    #[error("the spool failed: {0}")]
    Spool(#[from] rusqlite::Error),
    /// The engine.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Keys.
    #[error("{0}")]
    Key(#[from] encke_api::account_keys::KeyError),
    /// What was asked for does not make sense; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// Not available on this device or yet.
    #[error("not supported by this device: {0}")]
    Unsupported(String),
}

impl AgentError {
    /// Status of the reply to the server.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            AgentError::Server { status, .. } => *status,
            AgentError::Invalid(_) => 400,
            AgentError::Unsupported(_) => 501,
            AgentError::Repo(RepoError::NotFound(_)) => 404,
            AgentError::Repo(RepoError::Invalid(_)) => 400,
            _ => 500,
        }
    }
}
