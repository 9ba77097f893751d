//! Locks as stock restic understands them (restic design document, section "Locks"): while a backup runs, restic's prune
//! keeps away; while restic holds the repository exclusively, no backup begins.
//!
//! Our own operations need no lock among themselves. A lock left by a process that was killed hinders nobody but stock
//! restic, whose `unlock` removes it; so does the next backup.

use crate::error::{RepoError, RepoResult};
use crate::owners;
use crate::repository::Repository;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use encke_storage::{FileKind, StorageError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// A lock older than this many seconds is stale, by restic's rule.
const STALE: i64 = 30 * 60;
/// A lock is renewed this often, as restic does.
const RENEW: Duration = Duration::from_secs(5 * 60);
/// Another lock may have been written at the same moment; both sides look again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct LockFile {
    #[serde(with = "crate::gotext::time")]
    time: Timestamp,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    gid: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(v: &u32) -> bool {
    *v == 0
}

impl LockFile {
    fn new() -> Self {
        Self {
            time: Timestamp::now(),
            exclusive: false,
            hostname: owners::host_name(),
            username: owners::current_user(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

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

    fn write_lock(&self) -> RepoResult<Option<String>> {
        match self.save_json(FileKind::Lock, &LockFile::new()) {
            Ok((id, _)) => Ok(Some(id.to_string())),
            // A storage that takes packs but no locks is one on which nobody prunes.
            Err(RepoError::Storage(StorageError::Unauthorised)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Runs an operation with a shared lock, which a thread keeps fresh. `lost` is called if somebody turns out to hold
    /// the repository exclusively after all.
    pub(crate) fn with_lock<T>(
        &self,
        lost: impl Fn(RepoError) + Sync,
        operation: impl FnOnce() -> RepoResult<T>,
    ) -> RepoResult<T> {
        self.check_exclusive()?;
        let Some(name) = self.write_lock()? else {
            return operation();
        };
        std::thread::scope(|scope| {
            // Dropped when the operation ends, however it ends.
            let (alive, ended): (Sender<()>, _) = bounded(0);
            scope.spawn(|| {
                let ended = ended;
                let mut name = name;
                if ended.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout) {
                    if let Err(e @ RepoError::Locked(_)) = self.check_exclusive() {
                        lost(e);
                    }
                    while ended.recv_timeout(RENEW) == Err(RecvTimeoutError::Timeout) {
                        // The old one goes when the new one stands; if that fails, the next try is in time.
                        if let Ok(Some(new)) = self.write_lock() {
                            self.remove_lock(&std::mem::replace(&mut name, new));
                        }
                    }
                }
                self.remove_lock(&name);
            });
            let result = operation();
            drop(alive);
            result
        })
    }

    fn remove_lock(&self, name: &str) {
        if let Err(e) = self.backend().delete(FileKind::Lock, name) {
            tracing::warn!(error = %e, "a lock could not be removed; it goes stale by itself");
        }
    }
}
