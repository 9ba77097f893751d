//! Names of users and groups, from the system's own files, and of this machine.

use std::collections::HashMap;

/// Names by number.
#[derive(Default)]
pub(crate) struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

fn read(path: &str) -> HashMap<u32, String> {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_string();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(line).collect()
}

impl Owners {
    /// As the system knows them now.
    pub(crate) fn load() -> Self {
        Self {
            users: read("/etc/passwd"),
            groups: read("/etc/group"),
        }
    }

    pub(crate) fn user(&self, id: u32) -> &str {
        self.users.get(&id).map_or("", String::as_str)
    }

    pub(crate) fn group(&self, id: u32) -> &str {
        self.groups.get(&id).map_or("", String::as_str)
    }
}

pub(crate) fn current_user() -> String {
    Owners::load()
        .user(rustix::process::geteuid().as_raw())
        .to_string()
}

pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|n| n.trim().to_string())
        .unwrap_or_default()
}
