//! The walk over the folders: a thread opens a folder, looks at its entries relative to it, takes over what is
//! unchanged, and leaves files to read and subfolders to whoever is free.

use super::Shared;
use super::builder::Dir;
use super::read::Batch;
use super::save::Worker;
use super::xattr;
use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::{KnownNode, Node, NodeType, parse_known};
use crate::pack::BlobType;
use crate::progress::Progress;
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Files handed over together, so that handing over costs little beside reading a small file.
const BATCH_FILES: usize = 64;
/// ... and their bytes, so that large files are spread over the threads.
const BATCH_BYTES: u64 = 1024 * 1024;
/// Room for reading a folder's entries.
const ENTRIES: usize = 32 * 1024;

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
pub(super) struct Folder {
    path: PathBuf,
    dir: Arc<Dir>,
    /// The folder's listing in the parent snapshot.
    known: Option<Id>,
    targets: Option<Targets>,
    /// File system to stay on.
    device: Option<u64>,
    /// Whether the folder's extended attributes are still to be read.
    wants_xattrs: bool,
}

impl Folder {
    pub(super) fn root(targets: Targets, known: Option<Id>) -> Self {
        let targets = (!targets.whole).then_some(targets);
        Self {
            path: "/".into(),
            dir: Dir::root(),
            known,
            targets,
            device: None,
            wants_xattrs: false,
        }
    }

    /// Looks at the folder's entries.
    pub(super) fn list(mut self, worker: &mut Worker, shared: &Shared) {
        let mut names = Names::default();
        let at = match open(&shared.frozen.read_at(&self.path)) {
            Ok(at) => Arc::new(at),
            Err(e) => {
                shared.warning(&self.path, &e.to_string());
                return self.dir.release(worker, shared);
            }
        };
        if self.wants_xattrs {
            let xattrs = xattr::of_open(&at, &self.path, shared);
            self.dir.set_xattrs(xattrs);
        }
        match &self.targets {
            Some(targets) => targets
                .children
                .keys()
                .for_each(|name| names.add(name.as_bytes())),
            None => {
                if let Err(e) = names.read(&at) {
                    shared.warning(&self.path, &e.to_string());
                }
            }
        }
        let known = self
            .known
            .map_or_else(Vec::new, |id| known_nodes(&id, &self.path, shared));
        self.dir.reserve(names.ranges.len());
        let mut found = Found::new(&self, at);
        for slot in 0..names.ranges.len() {
            if shared.stopped() {
                return;
            }
            let name = names.get(slot);
            let known = known
                .binary_search_by(|k| k.node.name.as_slice().cmp(name))
                .ok()
                .map(|i| &known[i]);
            let inner = self
                .targets
                .as_mut()
                .and_then(|t| t.children.remove(OsStr::from_bytes(name)));
            self.path.push(OsStr::from_bytes(name));
            self.entry(name, slot, inner, known, &mut found, worker, shared);
            self.path.pop();
        }
        found.finish_batch();
        shared.pool.push(found.batches, found.folders);
        self.dir.release(worker, shared);
    }

    /// Looks at one entry: fills its place, or adds it to what has to be read or walked. `self.path` is the entry's.
    #[allow(clippy::too_many_arguments)]
    fn entry(
        &self,
        name: &[u8],
        slot: usize,
        targets: Option<Targets>,
        known: Option<&KnownNode>,
        found: &mut Found,
        worker: &mut Worker,
        shared: &Shared,
    ) {
        let path = &self.path;
        let mut fill = |text| self.dir.fill(slot, text, worker, shared);
        let found_at = if shared.frozen.begins_at(path) {
            rustix::fs::lstat(&*shared.frozen.read_at(path))
        } else {
            rustix::fs::statat(&*found.at, name, AtFlags::SYMLINK_NOFOLLOW)
        };
        let stat = match found_at {
            Ok(mut stat) => {
                stat.st_dev = shared.frozen.device(stat.st_dev);
                stat
            }
            Err(e) => {
                // What vanished since its folder was read was simply deleted; what was asked for by name must be there.
                if targets.is_some() || e != Errno::NOENT {
                    shared.warning(path, &std::io::Error::from(e).to_string());
                }
                return fill(None);
            }
        };
        let asked = targets.is_some();
        let inner = targets.filter(|t| !t.whole);
        let Some(kind) = kind_of(&stat) else {
            shared.warning(path, "is of an unknown type");
            return fill(None);
        };
        let is_dir = kind == NodeType::Dir;
        // A socket is nothing without the program that listens; restic leaves it out too.
        if kind == NodeType::Socket
            || (inner.is_none() && shared.options.exclude.as_ref().is_some_and(|x| x(path, is_dir)))
        {
            return fill(None);
        }
        let known = known.filter(|k| k.node.kind == kind);
        if is_dir {
            let mut node = node(name, &stat, kind, shared);
            // The change time changes with the extended attributes.
            let same = known.filter(|k| same_inode(&k.node, &node) && k.node.ctime == node.ctime);
            if let Some(known) = same {
                node.xattrs.clone_from(&known.node.xattrs);
            }
            let dir = Dir::child(&self.dir, slot, node);
            if !asked && self.device.is_some_and(|d| d != stat.st_dev) {
                // A mount point: its folder is kept, its content is another file system's.
                return dir.release(worker, shared);
            }
            let device = (shared.options.one_file_system && inner.is_none()).then_some(stat.st_dev);
            found.folders.push(Folder {
                path: path.clone(),
                dir,
                known: known.and_then(|k| k.node.subtree),
                targets: inner,
                device,
                wants_xattrs: same.is_none(),
            });
            return;
        }
        Progress::add(&shared.progress.files_total, 1);
        if kind != NodeType::File {
            Progress::add(&shared.progress.files_done, 1);
            let mut node = node(name, &stat, kind, shared);
            if kind == NodeType::Symlink {
                match rustix::fs::readlinkat(&*found.at, name, Vec::new()) {
                    Ok(target) => node.link_target = target.into_bytes(),
                    Err(e) => shared.warning(path, &std::io::Error::from(e).to_string()),
                }
            } else {
                node.xattrs = xattr::of_path(path, shared);
            }
            return fill(Some(node.to_json()));
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        Progress::add(&shared.progress.bytes_total, size);
        if let Some(known) = known.filter(|k| unchanged(&k.node, &stat, shared) && complete(&k.node, shared))
        {
            shared.counters.unmodified.fetch_add(1, Relaxed);
            shared
                .counters
                .chunks
                .fetch_add(known.node.content.len() as u64, Relaxed);
            Progress::add(&shared.progress.bytes_done, size);
            Progress::add(&shared.progress.files_done, 1);
            return fill(Some(take_over(name, path, known, &stat, shared)));
        }
        let counter = if known.is_some() {
            &shared.counters.changed
        } else {
            &shared.counters.new
        };
        counter.fetch_add(1, Relaxed);
        found.add(slot, node(name, &stat, kind, shared));
    }
}

/// What a folder holds for others to do.
struct Found {
    at: Arc<OwnedFd>,
    path: Arc<Path>,
    dir: Arc<Dir>,
    files: Vec<(usize, Node)>,
    bytes: u64,
    batches: Vec<Batch>,
    folders: Vec<Folder>,
}

impl Found {
    fn new(folder: &Folder, at: Arc<OwnedFd>) -> Self {
        let (path, dir) = (folder.path.as_path().into(), folder.dir.clone());
        Self {
            at,
            path,
            dir,
            files: Vec::new(),
            bytes: 0,
            batches: Vec::new(),
            folders: Vec::new(),
        }
    }

    fn add(&mut self, slot: usize, node: Node) {
        self.bytes += node.size;
        self.files.push((slot, node));
        if self.files.len() >= BATCH_FILES || self.bytes >= BATCH_BYTES {
            self.finish_batch();
        }
    }

    fn finish_batch(&mut self) {
        if !self.files.is_empty() {
            let files = std::mem::take(&mut self.files);
            let (path, at, dir) = (self.path.clone(), self.at.clone(), self.dir.clone());
            self.batches.push(Batch { path, at, dir, files });
            self.bytes = 0;
        }
    }
}

/// The names in a folder, in order, in one piece of memory.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

impl Names {
    fn add(&mut self, name: &[u8]) {
        let start = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(name);
        self.ranges
            .push((start, u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)));
    }

    fn get(&self, at: usize) -> &[u8] {
        let (from, to) = self.ranges[at];
        &self.bytes[from as usize..to as usize]
    }

    fn read(&mut self, folder: &OwnedFd) -> std::io::Result<()> {
        let mut room = Vec::with_capacity(ENTRIES);
        let mut entries = RawDir::new(folder, room.spare_capacity_mut());
        let mut result = Ok(());
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => self.add(entry.file_name().to_bytes()),
                Err(e) => {
                    result = Err(e.into());
                    break;
                }
            }
        }
        let Self { bytes, ranges } = self;
        ranges.sort_unstable_by(|a, b| {
            bytes[a.0 as usize..a.1 as usize].cmp(&bytes[b.0 as usize..b.1 as usize])
        });
        result
    }
}

fn open(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::open(path, flags, Mode::empty())?),
        r => Ok(r?),
    }
}

/// The nodes of the folder's listing in the parent snapshot; none if it can not be read, which costs only time.
fn known_nodes(id: &Id, path: &Path, shared: &Shared) -> Vec<KnownNode> {
    let nodes = shared
        .repo
        .load_blob(BlobType::Tree, id)
        .and_then(|json| parse_known(&json));
    nodes.unwrap_or_else(|e| {
        if e.is_passing() {
            shared.fail(e);
        } else {
            tracing::warn!(error = %e, path = %path.display(), "the parent's listing can not be used");
        }
        Vec::new()
    })
}

fn kind_of(stat: &Stat) -> Option<NodeType> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeType::File,
        FileType::Directory => NodeType::Dir,
        FileType::Symlink => NodeType::Symlink,
        FileType::BlockDevice => NodeType::BlockDevice,
        FileType::CharacterDevice => NodeType::CharDevice,
        FileType::Fifo => NodeType::Fifo,
        FileType::Socket => NodeType::Socket,
        FileType::Unknown => return None,
    })
}

fn time<N: TryInto<i32>>(seconds: i64, nanos: N) -> Timestamp {
    // A file system may hold times that no calendar does.
    Timestamp::new(seconds, nanos.try_into().unwrap_or_default()).unwrap_or_default()
}

fn same_inode(a: &Node, b: &Node) -> bool {
    a.inode == b.inode && a.device_id == b.device_id
}

/// The same rule as restic's: nothing that a write or a change of attributes would not also have changed.
fn unchanged(old: &Node, stat: &Stat, shared: &Shared) -> bool {
    let options = shared.options;
    u64::try_from(stat.st_size) == Ok(old.size)
        && old.mtime == time(stat.st_mtime, stat.st_mtime_nsec)
        && (options.ignore_inode || old.inode == stat.st_ino)
        && (options.ignore_ctime || old.ctime == time(stat.st_ctime, stat.st_ctime_nsec))
}

/// Whether all chunks are still in the repository.
fn complete(old: &Node, shared: &Shared) -> bool {
    let index = shared.repo.index().read();
    old.content.iter().all(|id| index.has(BlobType::Data, id))
}

/// The text of an unchanged file's node.
fn take_over(name: &[u8], path: &Path, known: &KnownNode, stat: &Stat, shared: &Shared) -> String {
    let mut node = node(name, stat, NodeType::File, shared);
    let old = &known.node;
    let same_ctime = same_inode(old, &node) && old.ctime == node.ctime;
    // The change time stands for mode, owner and extended attributes; names of owners may change without it.
    if same_ctime && old.user == node.user && old.group == node.group {
        return known.text.clone();
    }
    node.xattrs = if same_ctime {
        old.xattrs.clone()
    } else {
        xattr::of_path(path, shared)
    };
    node.content.clone_from(&old.content);
    node.to_json()
}

fn node(name: &[u8], stat: &Stat, kind: NodeType, shared: &Shared) -> Node {
    let mtime = time(stat.st_mtime, stat.st_mtime_nsec);
    let is_device = matches!(kind, NodeType::BlockDevice | NodeType::CharDevice);
    Node {
        name: name.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        mtime,
        atime: mtime,
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: shared.owners.user(stat.st_uid),
        group: shared.owners.group(stat.st_gid),
        inode: stat.st_ino,
        device_id: stat.st_dev,
        size: if kind == NodeType::File {
            u64::try_from(stat.st_size).unwrap_or_default()
        } else {
            0
        },
        // restic counts the names of these kinds only.
        links: match kind {
            NodeType::File | NodeType::Symlink | NodeType::BlockDevice | NodeType::CharDevice => {
                stat.st_nlink
            }
            _ => 0,
        },
        link_target: Vec::new(),
        xattrs: Vec::new(),
        device: if is_device { stat.st_rdev } else { 0 },
        content: Vec::new(),
        subtree: None,
    }
}
