//! How far work on rows is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many rows are done, to be seen from another thread, which may also stop the work.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    stopped: AtomicBool,
}

/// Somebody stopped the work.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("The work was stopped")]
pub struct Stopped;

impl Progress {
    /// Notes a row that is done.
    ///
    /// # Errors
    /// [`Progress::stop`] was called.
    pub fn row(&self) -> Result<(), Stopped> {
        self.rows.fetch_add(1, Ordering::Relaxed);
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(Stopped),
            false => Ok(()),
        }
    }

    /// How many rows are done of the present part of the work.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Another part of the work begins.
    pub fn begin(&self) {
        self.rows.store(0, Ordering::Relaxed);
    }

    /// Ends the work at its next row.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}
