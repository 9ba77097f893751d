//! Attributes, and entries that are not regular files.

use super::{Overwrite, Work};
use crate::node::{Node, NodeType};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

fn timespec(t: jiff::Timestamp) -> Timespec {
    let (mut seconds, mut nanos) = (t.as_second(), i64::from(t.subsec_nanosecond()));
    // The kernel counts nanoseconds upwards from the second, before 1970 too.
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    }
}

/// Sets owner, mode, extended attributes and times, in the order in which none undoes another.
pub(super) fn attributes(path: &Path, node: &Node, work: &Work) {
    let failed = |what: &str, e: rustix::io::Errno| work.warning(path, &format!("{what}: {e}"));
    let (uid, gid) = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
    match rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
        // Others than root can only give files to themselves.
        Err(e) if work.as_root => failed("the owner can not be set", e),
        _ => {}
    }
    if node.kind != NodeType::Symlink
        && let Err(e) = rustix::fs::chmodat(
            CWD,
            path,
            Mode::from_raw_mode(node.mode & 0o7777),
            AtFlags::empty(),
        )
    {
        failed("the mode can not be set", e);
    }
    for (name, value) in &node.xattrs {
        if let Err(e) = rustix::fs::lsetxattr(path, name.as_str(), value, XattrFlags::empty()) {
            failed(&format!("the extended attribute {name} can not be set"), e);
        }
    }
    let times = Timestamps {
        last_access: timespec(node.atime),
        last_modification: timespec(node.mtime),
    };
    if let Err(e) = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        failed("the times can not be set", e);
    }
}

/// Restores a link, pipe or device.
pub(super) fn special(path: &Path, node: &Node, work: &Work) {
    if let Ok(existing) = fs::symlink_metadata(path) {
        if existing.is_dir() || !may_replace(&existing, node, work) {
            work.kept.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return;
        }
        if let Err(e) = fs::remove_file(path) {
            work.warning(path, &e.to_string());
            return;
        }
    }
    let mode = Mode::from_raw_mode(node.mode & 0o777);
    let made = match node.kind {
        NodeType::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(&node.link_target), CWD, path),
        NodeType::Fifo => rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0),
        NodeType::BlockDevice => {
            rustix::fs::mknodat(CWD, path, rustix::fs::FileType::BlockDevice, mode, node.device)
        }
        NodeType::CharDevice => rustix::fs::mknodat(
            CWD,
            path,
            rustix::fs::FileType::CharacterDevice,
            mode,
            node.device,
        ),
        NodeType::File | NodeType::Dir | NodeType::Socket => return,
    };
    match made {
        Ok(()) => attributes(path, node, work),
        Err(e) => work.warning(path, &e.to_string()),
    }
}

/// Whether an existing entry gives way, as far as its times tell.
pub(super) fn may_replace(existing: &fs::Metadata, node: &Node, work: &Work) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match work.options.overwrite {
        Overwrite::Never => false,
        Overwrite::Always | Overwrite::IfDifferent => true,
        Overwrite::IfNewer => {
            let t = timespec(node.mtime);
            (t.tv_sec, t.tv_nsec) > (existing.mtime(), existing.mtime_nsec())
        }
    }
}
