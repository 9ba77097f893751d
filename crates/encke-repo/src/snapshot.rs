//! Snapshots: what was backed up when, and its tree (restic design document, section "Snapshots").

use crate::id::Id;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A snapshot file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken.
    #[serde(with = "crate::gotext::time")]
    pub time: Timestamp,
    /// The snapshot that unchanged files were taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// Root of its tree.
    pub tree: Id,
    /// What was backed up: absolute paths.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// User who ran the backup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Numeric user.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Numeric group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Free words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The snapshot that this one stands for since it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// Program that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// Name of the file; not part of it.
    #[serde(skip)]
    pub id: Id,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(v: &u32) -> bool {
    *v == 0
}

impl Snapshot {
    /// The part of a tag after its prefix, such as `encke-source:`.
    #[must_use]
    pub fn tag(&self, prefix: &str) -> Option<&str> {
        self.tags.iter().find_map(|t| t.strip_prefix(prefix))
    }
}
