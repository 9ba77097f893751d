//! Where a repository's bytes live: a small blocking interface ([`Backend`]) and its implementations. It knows files
//! by kind and name, and nothing of what is in them. [`open_place`] opens what the settings of a Storage Vault name.
//!
//! Without the feature `network` there are only folders of this machine, and little to build: for what needs no more.

mod again;
mod b2;
mod cloud;
pub mod direct;
mod ftp;
mod http;
mod local;
mod place;
mod remote;
mod rest;
mod s3_lock;
mod sftp;
mod smb;
mod spanned;
mod swift;
mod threads;
mod trust;

pub use local::Local;
pub use spanned::Spanned;
#[cfg(feature = "network")]
pub use {
    b2::{B2, B2Place},
    cloud::{Azure, Cloud, S3},
    ftp::{Ftp, FtpPlace, FtpTls},
    place::{b2_place, kind_name, open_place, s3_place, swift_place},
    remote::{Forward, Piece, Ran, RemoteCommand, RemoteInput, RemoteShell, RemoteStop, SshPlace},
    rest::Rest,
    sftp::{KnownHosts, Login, Sftp, SftpPlace},
    smb::{Smb, SmbPlace},
    swift::{Swift, SwiftPlace},
    trust::tls,
};

use std::sync::Arc;

/// The kinds of files of a repository (restic design document, section "Repository Layout").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// The one configuration file; its name is ignored.
    Config,
    /// A password's key.
    Key,
    /// A pack of blobs.
    Pack,
    /// Part of the index.
    Index,
    /// A snapshot.
    Snapshot,
    /// A lock of stock restic.
    Lock,
}

impl FileKind {
    /// The kinds that have a folder.
    const FOLDERS: [Self; 5] = [Self::Key, Self::Index, Self::Snapshot, Self::Lock, Self::Pack];

    /// Folder of this kind.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            FileKind::Config => "config",
            FileKind::Key => "keys",
            FileKind::Pack => "data",
            FileKind::Index => "index",
            FileKind::Snapshot => "snapshots",
            FileKind::Lock => "locks",
        }
    }
}

/// Where a file lies below the repository, in restic's default layout: packs in 256 subfolders by the first two digits
/// of their names.
fn path(kind: FileKind, name: &str) -> String {
    match kind {
        FileKind::Config => kind.folder().to_string(),
        FileKind::Pack => format!("data/{}/{name}", name.get(..2).unwrap_or("00")),
        _ => format!("{}/{name}", kind.folder()),
    }
}

/// A name for a file that is being written, in the folder of the file at `path`: no listing takes it for a file of the
/// repository.
#[cfg(feature = "network")]
fn draft(path: &str) -> String {
    let mut random = [0; 8];
    // A random part that is all zeros is as unique as the name before it.
    let _ = getrandom::fill(&mut random);
    let number = u64::from_le_bytes(random);
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    // Short, as some servers' names are.
    format!("{}.{number:016x}.tmp", path.get(..name + 16).unwrap_or(path))
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such file.
    #[error("{0}: not found")]
    NotFound(String),
    /// The storage refuses these credentials.
    #[error("the storage refuses the credentials")]
    Unauthorised,
    /// No room: the disk is full or a quota is reached.
    #[error("the storage is full")]
    Full,
    /// The storage can not be reached or broke off; trying later may help.
    #[error("the storage can not be reached: {0}")]
    Unreachable(String),
    /// The caller does not wait for the answer any more. No place answers so by itself.
    #[error("cancelled")]
    Cancelled,
    /// Settings that make no sense; the text says what to change.
    #[error("{0}")]
    Invalid(String),
    /// A kind of storage, or a property of it, that is not reached yet.
    #[error("not supported yet: {0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Result of a storage call.
pub type StorageResult<T> = Result<T, StorageError>;

/// Storage of one repository. Calls block; they may come from many threads at once.
pub trait Backend: Send + Sync {
    /// Makes the place ready for a new repository.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn create(&self) -> StorageResult<()>;
    /// Names and sizes in bytes of all files of a kind, in no order.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>>;
    /// Reads a whole file.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>>;
    /// Reads part of a file: as many bytes as `out` has room for.
    ///
    /// # Errors
    /// See [`StorageError`]; also when the file is shorter.
    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()>;
    /// Reads part of a file into new memory.
    ///
    /// # Errors
    /// See [`StorageError`]; also when the file is shorter.
    fn get_range(&self, kind: FileKind, name: &str, offset: u64, length: usize) -> StorageResult<Vec<u8>> {
        let mut out = vec![0; length];
        self.read_range(kind, name, offset, &mut out)?;
        Ok(out)
    }
    /// Tells that a part of a file will be read soon, so that it can be on its way meanwhile. Waits for nothing, and
    /// where it is of no use nothing is done.
    fn expect(&self, _kind: FileKind, _name: &str, _offset: u64, _length: u64) {}
    /// Writes a new file, whole or not at all, and on disk when this returns. A file that exists stays as it is.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()>;
    /// As [`Backend::put`], for whoever can share the content: it may be needed for longer than the call takes.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn put_shared(&self, kind: FileKind, name: &str, content: &Arc<Vec<u8>>) -> StorageResult<()> {
        self.put(kind, name, content)
    }
    /// Removes a file; one that does not exist is no error.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()>;
    /// Finds out whether the place can be reached with these credentials. Changes nothing, and tries only once.
    ///
    /// # Errors
    /// See [`StorageError`]. A place that nothing was written to yet is no error where it comes into being by itself.
    fn ping(&self) -> StorageResult<()>;
    /// Unix time until which files are locked that are written or protected now; nothing where files are not locked. It
    /// changes from time to time, and then needed files want to be protected anew.
    fn protected_until(&self) -> Option<i64> {
        None
    }
    /// Locks files that are needed until [`Backend::protected_until`], where the place locks files. One that is no longer
    /// there is no error.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn protect(&self, _kind: FileKind, _names: &[String]) -> StorageResult<()> {
        Ok(())
    }
    /// Frees the room of files that were deleted, and only hidden since they were locked, once their locks have run out.
    ///
    /// # Errors
    /// See [`StorageError`].
    fn clear(&self) -> StorageResult<()> {
        Ok(())
    }
    /// For messages; without credentials.
    fn describe(&self) -> String;
    /// Connections that pay off when many files are written or read at once.
    fn parallel(&self) -> usize;
    /// Whether reading is as quick as a local disk.
    fn is_local(&self) -> bool;
}

/// Opens a location as stock restic writes it: a path; `rest:http(s)://user:password@host/path/`;
/// `sftp:user@host:/folder` or `sftp://user@host:port/folder` with the caller's keys and known hosts;
/// `s3:http(s)://host/bucket/path` or `azure:container:/folder` with the credentials in the environment
/// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_DEFAULT_REGION`; `AZURE_ACCOUNT_NAME`, `AZURE_ACCOUNT_KEY`,
/// `AZURE_ENDPOINT_SUFFIX`); `swift:container:/folder` and `b2:bucket:folder` likewise (see [`Swift::from_restic`] and
/// [`B2::from_restic`]).
///
/// # Errors
/// The location can not be understood.
#[cfg(feature = "network")]
pub fn open(location: &str) -> StorageResult<Arc<dyn Backend>> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if let Some(url) = location.strip_prefix("rest:") {
        return Ok(Arc::new(Rest::from_url(url)?));
    }
    if let Some(url) = location.strip_prefix("s3:") {
        let (access_key, secret_key, region) = (
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
            variable("AWS_DEFAULT_REGION"),
        );
        let place = S3::from_url(url, &access_key, &secret_key, &region)?;
        return Ok(Arc::new(Cloud::s3(&place)?));
    }
    if let Some(url) = location.strip_prefix("sftp:") {
        return Ok(Arc::new(Sftp::from_url(url)?));
    }
    if let Some(place) = location.strip_prefix("swift:") {
        return Ok(Arc::new(Swift::from_restic(place, variable)?));
    }
    if let Some(place) = location.strip_prefix("b2:") {
        return Ok(Arc::new(B2::from_restic(place, variable)?));
    }
    if let Some(place) = location.strip_prefix("azure:") {
        let (container, prefix) = place.split_once(':').ok_or_else(|| {
            StorageError::Invalid("an Azure location looks like azure:container:/folder".into())
        })?;
        let suffix = variable("AZURE_ENDPOINT_SUFFIX");
        let azure = Azure {
            account: variable("AZURE_ACCOUNT_NAME"),
            key: variable("AZURE_ACCOUNT_KEY"),
            container: container.to_string(),
            realm: if suffix.is_empty() {
                suffix
            } else {
                format!("blob.{suffix}")
            },
            prefix: prefix.to_string(),
        };
        return Ok(Arc::new(Cloud::azure(&azure)?));
    }
    Ok(Arc::new(Local::new(location)))
}
