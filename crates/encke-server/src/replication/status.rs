//! How far a channel is, for those who ask.

use super::settings::{Part, Target};
use crate::app::now;
use encke_api::constants::{
    REPLICATOR_DISPLAYCLASS_STORAGE, REPLICATOR_DISPLAYCLASS_USER, REPLICATOR_STATE_FILE_LIST_SYNC_FINISHED,
    REPLICATOR_STATE_FILE_LIST_SYNC_RUNNING, REPLICATOR_STATE_FILE_LIST_WORKER_STARTED,
    REPLICATOR_STATE_NONE, REPLICATOR_STATE_WORKERS_STARTED,
};
use encke_api::types::ReplicatorStateAPIResponse;
use parking_lot::Mutex;

/// Copies under way at once. Enough to hide the other server's answers behind each other, few enough to leave both
/// servers to their users.
pub(super) const WORKERS: usize = 4;

/// What a channel is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not reached the other server, or waits to try again.
    #[default]
    Waiting,
    /// Both sides are being listed.
    Listing,
    /// The lists are known; what they asked for is being copied, or what changed since.
    Following,
}

#[derive(Default)]
struct Numbers {
    phase: Phase,
    /// Workers that copy now.
    active: i32,
    /// What was taken out of the queue, or came of a list, and is not done.
    in_hand: (i64, i64),
    /// Unix seconds at which a worker was last given something.
    submitted: i64,
    items: i64,
    bytes: i64,
    /// Unix seconds at which all that a list asked for was last there; 0 for never.
    complete: i64,
    /// Unix seconds at which the other server was heard of last; 0 for never.
    heard: i64,
    /// What went wrong last and when; empty once all is well again.
    error: (String, i64),
    /// How often something went wrong.
    failures: u64,
}

/// The numbers of a channel since this server began to copy. Cheap to ask and to change.
#[derive(Default)]
pub(super) struct Status(Mutex<Numbers>);

/// A worker that copies something. Dropping it is its end.
pub(super) struct Working<'a> {
    status: &'a Status,
    bytes: i64,
}

impl Working<'_> {
    /// It was done: an item, and so many bytes.
    pub(super) fn done(self, bytes: u64) {
        let mut n = self.status.0.lock();
        n.items += 1;
        n.bytes = n.bytes.saturating_add(signed(bytes));
        n.heard = now();
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut n = self.status.0.lock();
        n.active -= 1;
        n.in_hand.0 = (n.in_hand.0 - 1).max(0);
        n.in_hand.1 = (n.in_hand.1 - self.bytes).max(0);
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Status {
    pub(super) fn phase(&self, phase: Phase) {
        let mut n = self.0.lock();
        n.phase = phase;
        if phase == Phase::Waiting {
            n.in_hand = (0, 0);
        } else {
            n.heard = now();
        }
    }

    /// So much more is to be done.
    pub(super) fn plan(&self, items: usize, bytes: u64) {
        let mut n = self.0.lock();
        n.in_hand.0 += i64::try_from(items).unwrap_or(i64::MAX);
        n.in_hand.1 = n.in_hand.1.saturating_add(signed(bytes));
    }

    /// So many of the things that were planned need nothing to be done.
    pub(super) fn unplan(&self, items: usize) {
        let mut n = self.0.lock();
        n.in_hand.0 = (n.in_hand.0 - i64::try_from(items).unwrap_or(i64::MAX)).max(0);
    }

    /// What was planned and not begun is given up.
    pub(super) fn drop_plan(&self) {
        self.0.lock().in_hand = (0, 0);
    }

    /// A worker begins with one of the things that were planned.
    pub(super) fn work(&self, bytes: u64) -> Working<'_> {
        let mut n = self.0.lock();
        n.active += 1;
        n.submitted = now();
        Working {
            status: self,
            bytes: signed(bytes),
        }
    }

    /// All that the lists asked for is there.
    pub(super) fn complete(&self) {
        self.0.lock().complete = now();
    }

    /// Something went wrong. Whether something was wrong before.
    pub(super) fn failed(&self, error: &str) -> bool {
        let mut n = self.0.lock();
        n.failures += 1;
        let before = std::mem::replace(&mut n.error, (error.to_string(), now()));
        !before.0.is_empty()
    }

    /// How often something went wrong.
    pub(super) fn failures(&self) -> u64 {
        self.0.lock().failures
    }

    /// All is well; whether it was not before.
    pub(super) fn well(&self) -> bool {
        let mut n = self.0.lock();
        n.heard = now();
        !std::mem::take(&mut n.error.0).is_empty()
    }

    /// When all that a list asked for was last there, when the other server was heard of last, and what went wrong last with its time
    /// (Unix seconds, 0 for never).
    pub(super) fn times(&self) -> (i64, i64, (String, i64)) {
        let n = self.0.lock();
        (n.complete, n.heard, n.error.clone())
    }

    /// The published form. `queued` is what waits in the queue: items and bytes.
    pub(super) fn state(&self, target: &Target, queued: (usize, u64)) -> ReplicatorStateAPIResponse {
        let n = self.0.lock();
        let started = REPLICATOR_STATE_FILE_LIST_WORKER_STARTED;
        ReplicatorStateAPIResponse {
            description: if target.description.is_empty() {
                target.address.clone()
            } else {
                target.description.clone()
            },
            remote_server_id: target.id.clone(),
            display_class: match target.part {
                Part::Storage => REPLICATOR_DISPLAYCLASS_STORAGE,
                Part::Accounts => REPLICATOR_DISPLAYCLASS_USER,
            },
            active_workers: n.active,
            total_workers: i64::try_from(WORKERS).unwrap_or_default(),
            state: match n.phase {
                Phase::Waiting => REPLICATOR_STATE_NONE,
                Phase::Listing => started | REPLICATOR_STATE_FILE_LIST_SYNC_RUNNING,
                Phase::Following => {
                    started | REPLICATOR_STATE_FILE_LIST_SYNC_FINISHED | REPLICATOR_STATE_WORKERS_STARTED
                }
            },
            items_queued: i64::try_from(queued.0).unwrap_or(i64::MAX) + n.in_hand.0,
            bytes_queued: signed(queued.1).saturating_add(n.in_hand.1),
            last_worker_submit_time: n.submitted,
            current_time: now(),
            items_replicated: n.items,
            bytes_replicated: n.bytes,
            ..Default::default()
        }
    }
}
