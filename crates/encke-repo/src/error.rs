//! What can go wrong with a repository.

use crate::id::Id;
use encke_storage::StorageError;

/// Result of an engine call.
pub type RepoResult<T> = Result<T, RepoError>;

/// A failure a caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// The storage failed.
    #[error(transparent)]
    Storage(StorageError),
    /// No key opens with this password.
    #[error("wrong password, or the repository has no key for it")]
    WrongPassword,
    /// There is a repository already.
    #[error("there is a repository already")]
    Exists,
    /// There is no repository.
    #[error("there is no repository here")]
    Missing,
    /// The repository's version is not 1 or 2.
    #[error("repository version {0} is not supported")]
    Version(u32),
    /// A file or blob is not what its name says, or can not be decrypted or read.
    #[error("damaged: {0}")]
    Damaged(String),
    /// A blob is in no pack.
    #[error("blob {0} is missing")]
    MissingBlob(Id),
    /// Nothing of this name.
    #[error("{0}: not found")]
    NotFound(String),
    /// Another program holds the repository exclusively.
    #[error("the repository is locked by {0}; try again when it has finished")]
    Locked(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A local file or folder.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The options do not make sense.
    #[error("{0}")]
    Invalid(String),
    /// A thread of the engine ended without its work being done.
    #[error("the engine stopped unexpectedly")]
    Stopped,
}

impl From<StorageError> for RepoError {
    fn from(e: StorageError) -> Self {
        match e {
            StorageError::Cancelled => RepoError::Cancelled,
            e => RepoError::Storage(e),
        }
    }
}

impl RepoError {
    /// Whether it says nothing about what is stored: the storage could not be asked, or nobody waits for its answer.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            RepoError::Cancelled
                | RepoError::Stopped
                | RepoError::Storage(StorageError::Unreachable(_) | StorageError::Unauthorised)
        )
    }
}
