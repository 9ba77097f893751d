//! Which file systems a backup reads.

use super::Scope;
use crate::error::{AgentError, AgentResult};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Where the kernel lists them.
const TABLE: &str = "/proc/self/mountinfo";

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub point: PathBuf,
    /// The part of the file system that is seen there.
    pub root: PathBuf,
    pub kind: String,
    pub source: String,
}

/// Blanks and the like are written as a backslash and three octal digits.
fn path(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(out).into()
}

/// Reads the kernel's table (proc(5), `/proc/pid/mountinfo`).
fn parse(table: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.split(' ');
        Some(Mount {
            root: path(left.get(3)?),
            point: path(left.get(4)?),
            kind: right.next()?.to_string(),
            source: path(right.next()?).to_string_lossy().into_owned(),
        })
    };
    table.lines().filter_map(line).collect()
}

/// What is mounted now.
pub(super) fn table() -> AgentResult<Vec<Mount>> {
    let text = std::fs::read_to_string(TABLE).map_err(|error| AgentError::File {
        path: TABLE.into(),
        error,
    })?;
    Ok(parse(&text))
}

/// The file systems that a backup reads, and from where on: those that hold its paths, and those mounted below them.
pub(super) fn read_by(table: &[Mount], scope: &Scope) -> Vec<(Mount, BTreeSet<PathBuf>)> {
    let mut out: Vec<(Mount, BTreeSet<PathBuf>)> = Vec::new();
    let mut add = |mount: &Mount, top: &Path| {
        let known = out.iter_mut().find(|(m, _)| m.point == mount.point);
        match known {
            // The last one hides those below it.
            Some((m, tops)) => {
                m.clone_from(mount);
                tops.insert(top.to_path_buf());
            }
            None => out.push((mount.clone(), [top.to_path_buf()].into())),
        }
    };
    for path in scope.paths {
        let holding = table.iter().filter(|m| path.starts_with(&m.point));
        // The innermost, and of several at one place the last.
        if let Some(mount) = holding.max_by_key(|m| m.point.components().count()) {
            add(mount, path);
        }
    }
    for mount in table {
        let is_below = scope
            .paths
            .iter()
            .any(|p| mount.point.starts_with(p) && mount.point != *p);
        if is_below && scope.enters(&mount.point) {
            add(mount, &mount.point);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_backup_reads_what_holds_its_paths_and_what_is_mounted_below() {
        let table = parse(
            "22 1 254:0 / / rw - ext4 /dev/vda1 rw\n\
             23 22 0:39 /@home /home rw shared:1 - btrfs /dev/vdb rw,subvol=/@home\n\
             24 23 0:40 / /home/ann/a\\040b rw - tmpfs none rw\n\
             25 23 0:41 / /home/left/out rw - tmpfs none rw\n\
             26 22 0:5 / /proc rw - proc proc rw\n\
             27 22 0:42 / /srv rw - xfs /dev/mapper/g-v rw\n\
             28 22 0:43 / /srv rw - ext4 /dev/mapper/g-w rw\n",
        );
        let paths = ["/home/ann", "/home/left", "/srv"].map(PathBuf::from);
        let exclude: encke_repo::Exclude = Arc::new(|path, _| path == Path::new("/home/left/out"));
        let scope = Scope {
            paths: &paths,
            exclude: &exclude,
        };
        let read: Vec<(String, String, usize)> = read_by(&table, &scope)
            .into_iter()
            .map(|(m, tops)| (m.point.display().to_string(), m.source, tops.len()))
            .collect();
        let expected = [
            ("/home", "/dev/vdb", 2),
            ("/srv", "/dev/mapper/g-w", 1),
            ("/home/ann/a b", "none", 1),
        ];
        assert_eq!(read, expected.map(|(p, s, n)| (p.to_string(), s.to_string(), n)));
    }
}
