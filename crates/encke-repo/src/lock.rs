//! Backups beside other programs. Our own operations write no lock, so none is left by a process that was killed; how a
//! backup and a prune keep out of each other's way is told in [`crate::prune`].
//!
//! Stock restic does lock (restic design document, section "Locks"): while it holds the repository exclusively, no backup
//! begins or ends, and a backup finds out by itself when it was pruned meanwhile. Stale locks are removed.

use crate::alive::Alive;
use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdSet};
use crate::owners;
use crate::pack::BlobType;
use crate::progress::Cancel;
use crate::repository::Repository;
use encke_storage::FileKind;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A lock older than this many seconds is stale, by restic's rule.
const STALE: i64 = 30 * 60;
/// A backup that is done waits this long for somebody else to finish, looking again this often.
const PATIENCE: Duration = Duration::from_secs(3600);
/// See [`PATIENCE`].
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
pub(crate) struct LockFile {
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
    pub(crate) fn is_stale(&self) -> bool {
        let age = Timestamp::now().as_second() - self.time.as_second();
        let gone =
            || self.hostname == owners::host_name() && !Path::new(&format!("/proc/{}", self.pid)).exists();
        age > STALE || gone()
    }
}

impl Repository {
    /// Removes locks of other programs: those that are stale, or `all` of them, which harms whoever holds one. Answers
    /// how many.
    ///
    /// # Errors
    /// The storage fails.
    pub fn unlock(&self, all: bool) -> RepoResult<u64> {
        let mut removed = 0;
        for (name, _) in self.backend().list(FileKind::Lock)? {
            let lock = self.load_file(FileKind::Lock, &name);
            let lock = lock
                .ok()
                .and_then(|text| serde_json::from_slice::<LockFile>(&text).ok());
            if all || lock.is_some_and(|l| l.is_stale()) {
                self.backend().delete(FileKind::Lock, &name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Fails while somebody holds the repository exclusively. Stale locks are removed, if the storage lets us.
    pub(crate) fn check_exclusive(&self) -> RepoResult<()> {
        let mut names = Vec::new();
        self.backend()
            .list(FileKind::Lock)?
            .into_iter()
            .for_each(|(name, _)| names.push(name));
        for name in names {
            let text = match self.load_file(FileKind::Lock, &name) {
                Ok(text) => text,
                Err(e) if e.is_passing() => return Err(e),
                // It was removed just now, or belongs to a program that is writing it.
                Err(_) => continue,
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

    /// Whether a program that knows nothing of marks is at work: stock restic, with a lock of any kind.
    pub(crate) fn others_at_work(&self) -> RepoResult<bool> {
        self.check_exclusive()?;
        // What is left now is not stale.
        Ok(!self.backend().list(FileKind::Lock)?.is_empty())
    }

    /// Runs a backup without a lock of its own, so that a crash leaves nothing in anybody's way. `operation` writes
    /// everything but the snapshot and answers its tree, `save` writes the snapshot, and `present` tells whether all
    /// that was written is still there. If a prune has deleted what the snapshot counts on, or may do so, the backup
    /// fails, and the next one starts from what there is.
    pub(crate) fn beside_others(
        &self,
        cancel: &Cancel,
        operation: impl FnOnce() -> RepoResult<Id>,
        present: impl Fn() -> RepoResult<bool>,
        save: impl FnOnce(Id) -> RepoResult<Id>,
    ) -> RepoResult<Id> {
        let run = || {
            self.check_exclusive()?;
            let alive = Alive::new(self);
            let tree = alive.during(operation)?;
            let mut seen = Seen::new(self);
            let mut look = || -> RepoResult<()> {
                self.wait_for_others(cancel)?;
                if seen.nothing_changed(self)? && alive.is_protected() && present()? {
                    return Ok(());
                }
                let safe = self.is_safe(tree, &alive, cancel)?;
                seen = Seen::new(self);
                safe.then_some(())
                    .ok_or_else(|| RepoError::Locked("a prune that ran during this backup".into()))
            };
            look()?;
            let snapshot = save(tree)?;
            // Once more, for a prune that began between the look and the snapshot and does not know of it.
            if let Err(e) = look() {
                self.delete_snapshots(&[snapshot])?;
                return Err(e);
            }
            Ok(snapshot)
        };
        let result = run();
        if result.is_err() {
            // It may know of packs that are in no index file.
            self.drop_index();
        }
        result
    }

    /// Whether everything below a tree is in packs that are there and stay, by the index as it is now.
    fn is_safe(&self, tree: Id, alive: &Alive, cancel: &Cancel) -> RepoResult<bool> {
        self.reload_index()?;
        let there: IdSet = self
            .backend()
            .list(FileKind::Pack)?
            .iter()
            .filter_map(|(name, _)| Id::parse(name))
            .collect();
        let safe = AtomicBool::new(true);
        let holds = |kind: BlobType, id: &Id| {
            let index = self.index().read();
            index.find(kind, id).is_some_and(|at| {
                let pack = index.packs[at.pack as usize];
                there.contains(&pack) && index.mark(&pack).is_none_or(|m| alive.tolerates(m.first))
            })
        };
        self.walk_trees(&[tree], cancel, &|id, found| {
            let whole = found.is_ok_and(|tree| {
                let content = tree.nodes.iter().flat_map(|n| &n.content);
                content.into_iter().all(|blob| holds(BlobType::Data, blob))
            });
            if !whole || !holds(BlobType::Tree, id) {
                safe.store(false, Relaxed);
            }
        })?;
        Ok(safe.into_inner())
    }
}

/// Index files that were looked at for marks.
struct Seen {
    names: HashSet<String>,
}

impl Seen {
    fn new(repo: &Repository) -> Self {
        Self {
            names: repo.loaded_index(),
        }
    }

    /// Whether no index file has gone and no mark has come since the last look.
    fn nothing_changed(&mut self, repo: &Repository) -> RepoResult<bool> {
        let now = repo.index_names()?;
        if !repo.loaded_index().is_subset(&now) {
            return Ok(false);
        }
        let new = now.difference(&self.names).cloned().collect();
        let files = repo.read_index(new)?;
        self.names.extend(files.iter().map(|(name, _)| name.clone()));
        Ok(files.iter().all(|(_, file)| file.marks.is_empty()))
    }
}
