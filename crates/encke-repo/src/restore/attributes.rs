//! Attributes, and entries that are not regular files.

use super::plan::{Dir, Entry, Plan};
use super::root::{Opened, Root};
use super::{Overwrite, Work};
use crate::gotext;
use crate::node::{Node, NodeType};
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Bits that give a program its file's owner's rights.
const SET_ID: u32 = 0o6000;

/// Who new files belong to.
#[derive(Default)]
pub(super) struct Owner {
    as_root: bool,
    /// User and group, if every new file is given these.
    default: Option<(u32, u32)>,
}

impl Owner {
    pub(super) fn of_process(root: &Root) -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        // Such a folder hands its own group on.
        let inherits = rustix::fs::fstat(root).map_or(true, |stat| stat.st_mode & 0o2000 != 0);
        Self {
            as_root: uid.is_root(),
            default: (!inherits).then_some((uid.as_raw(), gid.as_raw())),
        }
    }
}

pub(super) fn timespec(t: jiff::Timestamp) -> Timespec {
    let (tv_sec, tv_nsec) = gotext::parts(t);
    Timespec { tv_sec, tv_nsec }
}

/// Nothing for an entry without times: rustic keeps none of the folders above what is backed up.
fn times(node: &Node) -> Option<Timestamps> {
    let none = node.mtime == Timestamp::UNIX_EPOCH && node.ctime == Timestamp::UNIX_EPOCH;
    (!none).then(|| Timestamps {
        last_access: timespec(node.atime),
        last_modification: timespec(node.mtime),
    })
}

/// Sets owner, extended attributes, times and mode of an open file or folder, in the order in which none undoes another.
/// `fresh` if this restore has made it.
pub(super) fn of_open(file: &OwnedFd, path: &Path, node: &Node, fresh: bool, work: &Work) {
    let failed = |what: &str, e: rustix::io::Errno| work.warning(path, &format!("{what}: {e}"));
    let mut mode = node.mode & 0o7777;
    if !fresh || work.owner.default != Some((node.uid, node.gid)) {
        match rustix::fs::fchown(file, Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid))) {
            Err(e) if work.owner.as_root => failed("the owner can not be set", e),
            // Others than root can only give files to themselves. Then nobody shall run it with their rights.
            Err(_) => mode &= !SET_ID,
            Ok(()) => {}
        }
    }
    for (name, value) in &node.xattrs {
        if let Err(e) = rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
            failed(&format!("the extended attribute {name} can not be set"), e);
        }
    }
    if let Some(times) = times(node)
        && let Err(e) = rustix::fs::futimens(file, &times)
    {
        failed("the times can not be set", e);
    }
    // Last: from now on it counts as whole.
    if let Err(e) = rustix::fs::fchmod(file, Mode::from_raw_mode(mode)) {
        failed("the mode can not be set", e);
    }
}

/// Sets the attributes of a folder whose content is complete.
pub(super) fn of_dir(dir: &Dir, root: &Root, work: &Work) {
    let Some(node) = &dir.node else { return };
    if dir.blocked || (!dir.fresh && work.options.overwrite == Overwrite::Never) {
        return;
    }
    match root.folder(&dir.path) {
        Ok(folder) => of_open(&folder, &dir.path, node, dir.fresh, work),
        Err(e) => work.warning(&dir.path, &std::io::Error::from(e).to_string()),
    }
}

/// Whether an existing entry gives way, as far as its times tell.
pub(super) fn may_replace(existing: &Stat, node: &Node, work: &Work) -> bool {
    match work.options.overwrite {
        Overwrite::Never => false,
        Overwrite::Always | Overwrite::IfDifferent => true,
        Overwrite::IfNewer => {
            let t = timespec(node.mtime);
            (t.tv_sec, t.tv_nsec)
                > (
                    existing.st_mtime,
                    i64::try_from(existing.st_mtime_nsec).unwrap_or_default(),
                )
        }
    }
}

/// Restores a link, pipe or device.
pub(super) fn special(entry: &Entry, plan: &Plan, opened: &mut Opened, root: &Root, work: &Work) {
    let (name, node) = (entry.name(), &entry.node);
    let failed = |what: &str, e: rustix::io::Errno| {
        work.warning(&entry.path(plan), &format!("{what}{}", std::io::Error::from(e)));
    };
    let at = match opened.of(entry.dir, &plan.dirs, root) {
        Ok(at) => at,
        Err(e) => return failed("", e),
    };
    if let Ok(existing) = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        let is_dir = FileType::from_raw_mode(existing.st_mode) == FileType::Directory;
        if is_dir || !may_replace(&existing, node, work) {
            work.kept.fetch_add(1, Relaxed);
            return;
        }
        if let Err(e) = rustix::fs::unlinkat(at, name, AtFlags::empty()) {
            return failed("", e);
        }
    }
    let mode = Mode::from_raw_mode(node.mode & 0o600);
    let made = match node.kind {
        NodeType::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(&node.link_target), at, name),
        NodeType::Fifo => rustix::fs::mknodat(at, name, FileType::Fifo, mode, 0),
        NodeType::BlockDevice => rustix::fs::mknodat(at, name, FileType::BlockDevice, mode, node.device),
        NodeType::CharDevice => rustix::fs::mknodat(at, name, FileType::CharacterDevice, mode, node.device),
        NodeType::File | NodeType::Dir | NodeType::Socket => return,
    };
    if let Err(e) = made {
        return failed("", e);
    }
    let (uid, gid) = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
    match rustix::fs::chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
        Err(e) if work.owner.as_root => failed("the owner can not be set: ", e),
        _ => {}
    }
    if node.kind != NodeType::Symlink {
        let mode = Mode::from_raw_mode(node.mode & 0o7777);
        if let Err(e) = rustix::fs::chmodat(at, name, mode, AtFlags::empty()) {
            failed("the mode can not be set: ", e);
        }
        // There is no call for a name in an open folder; this path leads there without a link that could be exchanged.
        let path = format!("/proc/self/fd/{}", at.as_raw_fd());
        let path = Path::new(&path).join(name);
        for (key, value) in &node.xattrs {
            if let Err(e) = rustix::fs::lsetxattr(&path, key.as_str(), value, XattrFlags::empty()) {
                failed(&format!("the extended attribute {key} can not be set: "), e);
            }
        }
    }
    if let Some(times) = times(node)
        && let Err(e) = rustix::fs::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    {
        failed("the times can not be set: ", e);
    }
}
