//! Locks of stock restic (restic design document, section "Locks"): while it holds the repository exclusively, no backup
//! begins or ends. Our own operations write no lock, so none is left by a process that was killed; a backup finds out by
//! itself when somebody pruned meanwhile. Stale locks of others are removed.

use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::owners;
use crate::progress::Cancel;
use crate::repository::Repository;
use encke_storage::FileKind;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// A lock older than this many seconds is stale, by restic's rule.
const STALE: i64 = 30 * 60;
/// A backup that is done waits this long for somebody else to finish, looking again this often.
const PATIENCE: Duration = Duration::from_secs(3600);
/// See [`PATIENCE`].
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct LockFile {
    #[serde(with = "crate::gotext::time")]
    time: Timestamp,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    pid: i32,
}

impl LockFile {
    /// Too old, or of a process of this machine that has ended.
    fn is_stale(&self) -> bool {
        let age = Timestamp::now().as_second() - self.time.as_second();
        let gone =
            || self.hostname == owners::host_name() && !Path::new(&format!("/proc/{}", self.pid)).exists();
        age > STALE || gone()
    }
}

impl Repository {
    /// Fails while somebody holds the repository exclusively. Stale locks are removed, if the storage lets us.
    fn check_exclusive(&self) -> RepoResult<()> {
        let mut names = Vec::new();
        self.backend()
            .list(FileKind::Lock)?
            .into_iter()
            .for_each(|(name, _)| names.push(name));
        for name in names {
            // One that can not be read was removed just now, or belongs to a program that is writing it.
            let Ok(text) = self.load_file(FileKind::Lock, &name) else {
                continue;
            };
            let Ok(lock) = serde_json::from_slice::<LockFile>(&text) else {
                continue;
            };
            if lock.is_stale() {
                let removed = self.backend().delete(FileKind::Lock, &name);
                tracing::info!(
                    host = lock.hostname,
                    process = lock.pid,
                    ok = removed.is_ok(),
                    "removed a stale lock"
                );
            } else if lock.exclusive {
                return Err(RepoError::Locked(format!(
                    "{} (process {})",
                    lock.hostname, lock.pid
                )));
            }
        }
        Ok(())
    }

    /// Waits while somebody holds the repository exclusively, which a check does for a while and a prune.
    fn wait_for_others(&self, cancel: &Cancel) -> RepoResult<()> {
        let began = Instant::now();
        loop {
            match self.check_exclusive() {
                Err(RepoError::Locked(_)) if began.elapsed() < PATIENCE && !cancel.is_cancelled() => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                r => return r,
            }
        }
    }

    /// Runs a backup without a lock of its own, so that a crash leaves nothing in anybody's way. `operation` writes
    /// everything but the snapshot, `save` writes that, and `present` tells whether all that was written is still
    /// there. If somebody pruned meanwhile, what the snapshot counts on may be gone: then the backup fails, and the
    /// next one starts from what there is.
    pub(crate) fn beside_others<T>(
        &self,
        cancel: &Cancel,
        operation: impl FnOnce() -> RepoResult<T>,
        present: impl Fn() -> RepoResult<bool>,
        save: impl FnOnce(T) -> RepoResult<Id>,
    ) -> RepoResult<Id> {
        let look = || -> RepoResult<()> {
            self.wait_for_others(cancel)?;
            if self.loaded_index_is_present()? && present()? {
                return Ok(());
            }
            Err(RepoError::Locked("a prune that ran during this backup".into()))
        };
        self.check_exclusive()?;
        let result = operation()?;
        look()?;
        let snapshot = save(result)?;
        // Once more, for a prune that began between the look and the snapshot and does not know of it.
        if let Err(e) = look() {
            self.delete_snapshots(&[snapshot])?;
            return Err(e);
        }
        Ok(snapshot)
    }

    /// Whoever prunes replaces index files before removing packs.
    fn loaded_index_is_present(&self) -> RepoResult<bool> {
        let present: HashSet<String> = self
            .backend()
            .list(FileKind::Index)?
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        Ok(self.loaded_index().is_subset(&present))
    }
}
