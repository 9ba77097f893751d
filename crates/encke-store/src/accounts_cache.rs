//! Accounts as they are, kept in memory until one changes: portals and monitors ask for the same few again and again.
//!
//! Only for a database that this process alone writes to. What is kept carries the version of the accounts that it was
//! read at; the writer counts the version up after a change is on disk and before it is acknowledged, so nobody who
//! was told of a change reads what was before.

use crate::scope::Scope;
use crate::users::StoredProfile;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes kept; then all is forgotten.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct AccountsCache {
    version: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    version: u64,
    bytes: usize,
    profiles: HashMap<String, StoredProfile>,
    names: HashMap<Scope, Arc<Vec<String>>>,
}

impl AccountsCache {
    /// An account has changed, and the change is on disk.
    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Version to hand in with what is about to be read.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    pub(crate) fn profile(&self, username: &str) -> Option<StoredProfile> {
        self.current(|kept| kept.profiles.get(username).cloned())
    }

    pub(crate) fn keep_profile(&self, version: u64, profile: &StoredProfile) {
        let size = profile.body.len() + profile.username.len() + 256;
        self.keep(version, size, |kept| {
            kept.profiles.insert(profile.username.clone(), profile.clone());
        });
    }

    pub(crate) fn names(&self, scope: &Scope) -> Option<Arc<Vec<String>>> {
        self.current(|kept| kept.names.get(scope).cloned())
    }

    pub(crate) fn keep_names(&self, version: u64, scope: &Scope, names: &Arc<Vec<String>>) {
        let size = names.iter().map(|n| n.len() + 32).sum::<usize>() + 256;
        self.keep(version, size, |kept| {
            kept.names.insert(scope.clone(), names.clone());
        });
    }

    fn current<T>(&self, get: impl FnOnce(&Kept) -> Option<T>) -> Option<T> {
        let kept = self.kept.lock();
        (kept.version == self.version()).then(|| get(&kept)).flatten()
    }

    fn keep(&self, version: u64, size: usize, add: impl FnOnce(&mut Kept)) {
        let mut kept = self.kept.lock();
        // Read before somebody else's change; the next reader keeps it.
        if version != self.version() {
            return;
        }
        if kept.version != version || kept.bytes + size > MAX_BYTES {
            *kept = Kept {
                version,
                ..Kept::default()
            };
        }
        if size <= MAX_BYTES / 4 {
            kept.bytes += size;
            add(&mut kept);
        }
    }
}
