//! Names of users and groups, as the system resolves them, and of this machine.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Names by number, asked from the system once each.
#[derive(Default)]
pub(crate) struct Owners {
    users: Mutex<HashMap<u32, Arc<str>>>,
    groups: Mutex<HashMap<u32, Arc<str>>>,
}

impl Owners {
    /// Name of a user; empty if the number has none.
    pub(crate) fn user(&self, id: u32) -> Arc<str> {
        let name = || uzers::get_user_by_uid(id).map_or_else(|| "".into(), |u| text(u.name()));
        self.users.lock().entry(id).or_insert_with(name).clone()
    }

    /// Name of a group; empty if the number has none.
    pub(crate) fn group(&self, id: u32) -> Arc<str> {
        let name = || uzers::get_group_by_gid(id).map_or_else(|| "".into(), |g| text(g.name()));
        self.groups.lock().entry(id).or_insert_with(name).clone()
    }
}

fn text(name: &std::ffi::OsStr) -> Arc<str> {
    name.to_string_lossy().into()
}

pub(crate) fn current_user() -> String {
    Owners::default()
        .user(rustix::process::geteuid().as_raw())
        .to_string()
}

pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|n| n.trim().to_string())
        .unwrap_or_default()
}
