//! How a long operation is watched and stopped from another thread.

use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counters of a running backup or restore. Bytes are of the files' content unless said otherwise.
#[derive(Default)]
pub struct Progress {
    /// Files finished.
    pub files_done: AtomicU64,
    /// Bytes finished.
    pub bytes_done: AtomicU64,
    /// Folders finished.
    pub dirs_done: AtomicU64,
    /// Files found so far, or in all once `counted`.
    pub files_total: AtomicU64,
    /// Bytes found so far, or in all once `counted`.
    pub bytes_total: AtomicU64,
    /// Whether the totals are final.
    pub counted: AtomicBool,
    /// Bytes written to the storage.
    pub uploaded: AtomicU64,
    /// Bytes read from the storage.
    pub downloaded: AtomicU64,
    /// A file being worked on.
    pub current: Mutex<String>,
}

impl Progress {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// Reads a counter.
    #[must_use]
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }
}

/// A flag that stops an operation within a fraction of a second.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops the operation.
    pub fn cancel(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Told about files that could not be read or written as they should; the operation goes on.
pub type Warn<'a> = dyn Fn(&Path, &str) + Send + Sync + 'a;
