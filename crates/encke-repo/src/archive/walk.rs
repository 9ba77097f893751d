//! The walk over the folders, by several threads: each takes a folder, looks at its entries, and leaves the subfolders
//! for whoever is free. The last folder found is the first taken, so few are waiting at any time.

use super::builder::Dir;
use super::{Shared, read};
use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::{KnownNode, Node, NodeType, parse_known};
use crate::pack::BlobType;
use crate::progress::Progress;
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Largest extended attribute kept, in bytes; the kernel's own limit.
const MAX_XATTR: usize = 64 * 1024;

/// The paths to back up, as a tree of names: what lies between them and the root is listed, not walked.
#[derive(Default)]
pub(super) struct Targets {
    children: BTreeMap<OsString, Targets>,
    whole: bool,
}

impl Targets {
    pub(super) fn new(paths: &[PathBuf]) -> RepoResult<Self> {
        let mut root = Targets::default();
        if paths.is_empty() {
            return Err(RepoError::Invalid("there is nothing to back up".into()));
        }
        for path in paths {
            if !path.is_absolute() || path.components().any(|c| matches!(c, Component::ParentDir)) {
                return Err(RepoError::Invalid(format!(
                    "{} is not an absolute path",
                    path.display()
                )));
            }
            let mut at = &mut root;
            for part in path.components() {
                if let Component::Normal(name) = part {
                    at = at.children.entry(name.to_os_string()).or_default();
                }
            }
            at.whole = true;
        }
        Ok(root)
    }
}

/// A folder to look at.
pub(super) struct Task {
    path: PathBuf,
    dir: Arc<Dir>,
    /// The folder's listing in the parent snapshot.
    parent: Option<Id>,
    targets: Option<Targets>,
    /// File system to stay on.
    device: Option<u64>,
}

impl Task {
    pub(super) fn root(targets: Targets, parent: Option<Id>) -> Self {
        let targets = (!targets.whole).then_some(targets);
        Self {
            path: "/".into(),
            dir: Dir::root(),
            parent,
            targets,
            device: None,
        }
    }
}

/// Folders waiting for a thread.
#[derive(Default)]
pub(super) struct Tasks {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    tasks: Vec<Task>,
    working: usize,
}

impl Tasks {
    pub(super) fn push(&self, task: Task) {
        let mut s = self.state.lock();
        s.tasks.push(task);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<Task> {
        let mut s = self.state.lock();
        loop {
            if let Some(task) = s.tasks.pop() {
                s.working += 1;
                return Some(task);
            }
            if s.working == 0 {
                self.changed.notify_all();
                return None;
            }
            self.changed.wait(&mut s);
        }
    }

    fn finished(&self) {
        let mut s = self.state.lock();
        s.working -= 1;
        if s.working == 0 && s.tasks.is_empty() {
            self.changed.notify_all();
        }
    }
}

pub(super) fn run(tasks: &Tasks, shared: &Shared) {
    while let Some(task) = tasks.take() {
        if !shared.stopped() {
            folder(task, tasks, shared);
        }
        tasks.finished();
    }
}

/// Looks at a folder's entries.
fn folder(task: Task, tasks: &Tasks, shared: &Shared) {
    let names = match &task.targets {
        Some(targets) => targets.children.keys().cloned().collect(),
        None => match entries(&task.path) {
            Ok(names) => names,
            Err(e) => {
                shared.warning(&task.path, &e.to_string());
                Vec::new()
            }
        },
    };
    let known = match task.parent.map(|id| known_nodes(&id, shared)) {
        Some(Err(e)) => {
            tracing::warn!(error = %e, path = %task.path.display(), "the parent's listing can not be used");
            Vec::new()
        }
        Some(Ok(known)) => known,
        None => Vec::new(),
    };
    task.dir.reserve(names.len());
    let mut targets = task.targets;
    let mut path = task.path;
    for (slot, name) in names.into_iter().enumerate() {
        if shared.stopped() {
            return;
        }
        path.push(&name);
        let inner = targets.as_mut().and_then(|t| t.children.remove(&name));
        let known = known
            .binary_search_by(|k| k.node.name.as_slice().cmp(name.as_bytes()))
            .ok()
            .map(|i| &known[i]);
        let place = Place {
            dir: &task.dir,
            slot,
            device: task.device,
        };
        if let Some(task) = entry(&path, &name, inner, known, &place, shared) {
            tasks.push(task);
        }
        path.pop();
    }
    task.dir.release(shared);
}

fn entries(path: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(path)?
        .map(|e| e.map(|e| e.file_name()))
        .collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

fn known_nodes(id: &Id, shared: &Shared) -> RepoResult<Vec<KnownNode>> {
    parse_known(&shared.repo.load_blob(BlobType::Tree, id)?)
}

struct Place<'a> {
    dir: &'a Arc<Dir>,
    slot: usize,
    device: Option<u64>,
}

/// Looks at one entry: fills its place, or hands its content to others, or answers the folder to walk.
fn entry(
    path: &Path,
    name: &OsStr,
    targets: Option<Targets>,
    known: Option<&KnownNode>,
    place: &Place,
    shared: &Shared,
) -> Option<Task> {
    let leave_out = || place.dir.fill(place.slot, None, shared);
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) => {
            // What vanished since its folder was read was simply deleted; what was asked for by name must be there.
            if targets.is_some() || e.kind() != std::io::ErrorKind::NotFound {
                shared.warning(path, &e.to_string());
            }
            leave_out();
            return None;
        }
    };
    let asked = targets.is_some();
    let inner = targets.filter(|t| !t.whole);
    if inner.is_none()
        && shared
            .options
            .exclude
            .as_ref()
            .is_some_and(|x| x(path, meta.is_dir()))
    {
        leave_out();
        return None;
    }
    if meta.is_dir() {
        if !asked && place.device.is_some_and(|d| d != meta.dev()) {
            // A mount point: its folder is kept, its content is another file system's.
            let node = node(path, name, &meta, NodeType::Dir, shared);
            Dir::child(place.dir, place.slot, node).release(shared);
            return None;
        }
        let node = node(path, name, &meta, NodeType::Dir, shared);
        let device = (shared.options.one_file_system && inner.is_none()).then_some(meta.dev());
        return Some(Task {
            path: path.to_path_buf(),
            dir: Dir::child(place.dir, place.slot, node),
            parent: known.and_then(|k| k.node.subtree),
            targets: inner,
            device,
        });
    }
    let Some(kind) = kind_of(&meta) else {
        shared.warning(path, "is of an unknown type");
        leave_out();
        return None;
    };
    if kind == NodeType::File {
        Progress::add(&shared.progress.files_total, 1);
        Progress::add(&shared.progress.bytes_total, meta.size());
        if let Some(known) = known.filter(|k| unchanged(&k.node, &meta) && complete(&k.node, shared)) {
            shared.counters.unmodified.fetch_add(1, Relaxed);
            shared
                .counters
                .chunks
                .fetch_add(known.node.content.len() as u64, Relaxed);
            Progress::add(&shared.progress.bytes_done, meta.size());
            Progress::add(&shared.progress.files_done, 1);
            place.dir.fill(place.slot, Some(known.text.clone()), shared);
            return None;
        }
        let counter = if known.is_some() {
            &shared.counters.changed
        } else {
            &shared.counters.new
        };
        counter.fetch_add(1, Relaxed);
        if let Some(mut current) = shared.progress.current.try_lock() {
            path.to_string_lossy().as_ref().clone_into(&mut current);
        }
        read::file(
            path,
            node(path, name, &meta, kind, shared),
            place.dir,
            place.slot,
            shared,
        );
        return None;
    }
    let node = node(path, name, &meta, kind, shared);
    let mut text = String::with_capacity(300);
    node.write_json(&mut text);
    Progress::add(&shared.progress.files_total, 1);
    Progress::add(&shared.progress.files_done, 1);
    place.dir.fill(place.slot, Some(text), shared);
    None
}

fn kind_of(meta: &Metadata) -> Option<NodeType> {
    let t = meta.file_type();
    Some(match () {
        () if t.is_file() => NodeType::File,
        () if t.is_symlink() => NodeType::Symlink,
        () if t.is_block_device() => NodeType::BlockDevice,
        () if t.is_char_device() => NodeType::CharDevice,
        () if t.is_fifo() => NodeType::Fifo,
        () if t.is_socket() => NodeType::Socket,
        () => return None,
    })
}

fn time(seconds: i64, nanos: i64) -> Timestamp {
    // A file system may hold times that no calendar does.
    Timestamp::new(seconds, i32::try_from(nanos).unwrap_or_default()).unwrap_or_default()
}

/// The same rule as restic's: nothing that a write or a change of attributes would not also have changed.
fn unchanged(old: &Node, meta: &Metadata) -> bool {
    old.kind == NodeType::File
        && old.size == meta.size()
        && old.inode == meta.ino()
        && old.mtime == time(meta.mtime(), meta.mtime_nsec())
        && old.ctime == time(meta.ctime(), meta.ctime_nsec())
}

/// Whether all chunks are still in the repository.
fn complete(old: &Node, shared: &Shared) -> bool {
    let index = shared.repo.index().read();
    old.content.iter().all(|id| index.has(BlobType::Data, id))
}

fn node(path: &Path, name: &OsStr, meta: &Metadata, kind: NodeType, shared: &Shared) -> Node {
    let mtime = time(meta.mtime(), meta.mtime_nsec());
    let link_target = match kind {
        NodeType::Symlink => match fs::read_link(path) {
            Ok(target) => target.into_os_string().into_vec(),
            Err(e) => {
                shared.warning(path, &e.to_string());
                Vec::new()
            }
        },
        _ => Vec::new(),
    };
    let is_device = matches!(kind, NodeType::BlockDevice | NodeType::CharDevice);
    Node {
        name: name.as_bytes().to_vec(),
        kind,
        mode: meta.mode() & 0o7777,
        mtime,
        atime: mtime,
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        uid: meta.uid(),
        gid: meta.gid(),
        user: shared.owners.user(meta.uid()).to_string(),
        group: shared.owners.group(meta.gid()).to_string(),
        inode: meta.ino(),
        device_id: meta.dev(),
        size: if kind == NodeType::File { meta.size() } else { 0 },
        links: if kind == NodeType::Dir { 0 } else { meta.nlink() },
        link_target,
        xattrs: xattrs(path, shared),
        device: if is_device { meta.rdev() } else { 0 },
        content: Vec::new(),
        subtree: None,
    }
}

fn xattrs(path: &Path, shared: &Shared) -> Vec<(String, Vec<u8>)> {
    let mut names = Vec::with_capacity(256);
    loop {
        let room = rustix::buffer::spare_capacity(&mut names);
        match rustix::fs::llistxattr(path, room) {
            Ok(_) => break,
            Err(rustix::io::Errno::RANGE) if names.capacity() < MAX_XATTR => {
                names.reserve(names.capacity() * 4);
            }
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOENT | rustix::io::Errno::PERM) => {
                return Vec::new();
            }
            Err(e) => {
                shared.warning(path, &format!("extended attributes can not be listed: {e}"));
                return Vec::new();
            }
        }
    }
    let mut out = Vec::new();
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let Ok(text) = std::str::from_utf8(name) else {
            continue;
        };
        let mut value = Vec::with_capacity(MAX_XATTR);
        match rustix::fs::lgetxattr(path, text, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => out.push((text.to_string(), value)),
            Err(rustix::io::Errno::NODATA) => {}
            Err(e) => shared.warning(path, &format!("extended attribute {text} can not be read: {e}")),
        }
    }
    out.sort();
    out
}
