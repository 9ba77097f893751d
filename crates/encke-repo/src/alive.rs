//! How a backup that takes long keeps a prune from deleting what it counts on.
//!
//! A prune deletes a pack only [`GRACE`] after it was marked, when all snapshots of that time do not need it. A backup
//! that takes less needs nothing else. One that takes longer says every few hours that it is alive, in an index file
//! that holds nothing but that; a prune then spares what was marked since the backup began. A backup that was killed
//! stops saying so: there is nothing to heal.

use crate::error::RepoResult;
use crate::id::Id;
use crate::index::{IndexFile, Lease};
use crate::repository::Repository;
use crossbeam_channel::{RecvTimeoutError, bounded};
use encke_storage::FileKind;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use std::time::Duration;

/// Time between a pack's mark and its deletion.
pub const GRACE: SignedDuration = SignedDuration::from_hours(24);
/// Longest time that a backup may be silent.
const MAX_SILENCE: SignedDuration = SignedDuration::from_hours(12);
/// A backup says that it is alive this often.
const EVERY: SignedDuration = SignedDuration::from_hours(4);
/// How often it looks at the clock.
const LOOK: Duration = Duration::from_secs(300);
/// Clocks of machines may differ by as much.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

impl Lease {
    /// Whether a prune may trust in it.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now.duration_since(self.time) < GRACE
    }

    /// Whether the backup may count on a pack with this mark.
    pub(crate) fn protects(&self, marked: Timestamp) -> bool {
        marked.duration_since(self.started) >= -(SKEW + SKEW)
    }
}

struct State {
    /// When it was known last to be protected.
    last: Timestamp,
    /// It was silent for too long.
    lapsed: bool,
    /// The file that says that it is alive.
    file: Option<Id>,
}

/// A running backup.
pub(crate) struct Alive<'a> {
    repo: &'a Repository,
    started: Timestamp,
    state: Mutex<State>,
}

impl<'a> Alive<'a> {
    /// To be made before the index is read.
    pub(crate) fn new(repo: &'a Repository) -> Self {
        let now = Timestamp::now();
        Self {
            repo,
            started: now,
            state: Mutex::new(State {
                last: now,
                lapsed: false,
                file: None,
            }),
        }
    }

    /// Says that the backup is alive, each time it is due while something runs.
    pub(crate) fn during<T>(&self, run: impl FnOnce() -> T) -> T {
        let (stop, stopped) = bounded::<()>(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    if Timestamp::now().duration_since(self.state.lock().last) >= EVERY
                        && let Err(e) = self.say(Timestamp::now())
                    {
                        tracing::warn!(error = %e, "could not tell that this backup is running");
                    }
                }
            });
            let result = run();
            drop(stop);
            result
        })
    }

    /// Writes that the backup is alive.
    pub(crate) fn say(&self, now: Timestamp) -> RepoResult<()> {
        self.look_at(now);
        let lease = Lease {
            started: self.started,
            time: now,
        };
        let file = IndexFile {
            encke_backup: Some(lease),
            ..IndexFile::default()
        };
        let (id, _) = self.repo.save_json(FileKind::Index, &file)?;
        let mut state = self.state.lock();
        state.last = now;
        let old = state.file.replace(id);
        drop(state);
        old.map_or(Ok(()), |old| self.remove(old))
    }

    fn remove(&self, file: Id) -> RepoResult<()> {
        Ok(self.repo.backend().delete(FileKind::Index, &file.to_string())?)
    }

    fn look_at(&self, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        state.lapsed |= now.duration_since(state.last) > MAX_SILENCE;
        !state.lapsed
    }

    /// Whether a prune has spared all along what was marked since the beginning.
    pub(crate) fn is_protected(&self) -> bool {
        self.look_at(Timestamp::now())
    }

    /// Whether a pack with this mark may be counted on.
    pub(crate) fn tolerates(&self, marked: Timestamp) -> bool {
        self.is_protected() && marked.duration_since(self.started) >= -SKEW
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        let file = self.state.lock().file.take();
        if let Some(Err(e)) = file.map(|file| self.remove(file)) {
            tracing::debug!(error = %e, "a file that tells of a backup stays; a prune will remove it");
        }
    }
}
