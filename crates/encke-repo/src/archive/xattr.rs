//! Extended attributes, in the order the system lists them, as restic keeps them.

use super::Shared;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Largest list or value, in bytes; the kernel's own limit.
const MAX: usize = 64 * 1024;

type Xattrs = Vec<(String, Vec<u8>)>;

/// Of an open file or folder.
pub(super) fn of_open(file: &OwnedFd, path: &Path, shared: &Shared) -> Xattrs {
    let list = |room: &mut Vec<u8>| rustix::fs::flistxattr(file, spare_capacity(room)).map(|_| ());
    let get =
        |name: &str, room: &mut Vec<u8>| rustix::fs::fgetxattr(file, name, spare_capacity(room)).map(|_| ());
    read(list, get, path, shared)
}

/// Of anything; a link is not followed.
pub(super) fn of_path(path: &Path, shared: &Shared) -> Xattrs {
    let at = &*shared.frozen.read_at(path);
    let list = |room: &mut Vec<u8>| rustix::fs::llistxattr(at, spare_capacity(room)).map(|_| ());
    let get =
        |name: &str, room: &mut Vec<u8>| rustix::fs::lgetxattr(at, name, spare_capacity(room)).map(|_| ());
    read(list, get, path, shared)
}

fn read(
    list: impl Fn(&mut Vec<u8>) -> Result<(), Errno>,
    get: impl Fn(&str, &mut Vec<u8>) -> Result<(), Errno>,
    path: &Path,
    shared: &Shared,
) -> Xattrs {
    let names = match grow(list) {
        Ok(names) => names,
        // Nothing there: the file system has none, or the file has gone.
        Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::PERM | Errno::NOSYS) => return Vec::new(),
        Err(e) => {
            shared.warning(path, &format!("extended attributes can not be listed: {e}"));
            return Vec::new();
        }
    };
    let mut out = Vec::new();
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else {
            shared.warning(path, "an extended attribute's name is not text");
            continue;
        };
        match grow(|room| get(name, room)) {
            Ok(value) => out.push((name.to_string(), value)),
            Err(Errno::NODATA) => {}
            Err(e) => shared.warning(path, &format!("extended attribute {name} can not be read: {e}")),
        }
    }
    out
}

/// Most files have none or short ones: a little room first, then as much as there can be.
fn grow(read: impl Fn(&mut Vec<u8>) -> Result<(), Errno>) -> Result<Vec<u8>, Errno> {
    let mut room = Vec::with_capacity(256);
    match read(&mut room) {
        Err(Errno::RANGE) => {
            room = Vec::with_capacity(MAX);
            read(&mut room).map(|()| room)
        }
        r => r.map(|()| room),
    }
}
