//! A repository as a read-only file system (FUSE): a folder for each snapshot, named by its time and id, and `latest`.
//! A folder's listing is read when somebody looks into it, a file's content when it is read. Snapshots made later are
//! seen after mounting anew.

use crate::error::{RepoError, RepoResult};
use crate::gotext;
use crate::id::Id;
use crate::node::{Node, NodeType};
use crate::pack::BlobType;
use crate::range;
use crate::repository::Repository;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyXattr, Request,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nothing ever changes.
const VALID: Duration = Duration::from_secs(24 * 3600);
/// Chunks kept in memory; each has at most 8 MiB.
const CHUNKS: usize = 16;
/// Requests answered at once.
const THREADS: usize = 4;

/// A mounted repository. It is unmounted when this is dropped.
pub struct Mounted(BackgroundSession);

impl Mounted {
    /// Waits until somebody unmounts it.
    ///
    /// # Errors
    /// The connection to the system breaks off.
    pub fn wait(self) -> std::io::Result<()> {
        self.0.join()
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// It is in use.
    pub fn unmount(self) -> std::io::Result<()> {
        self.0.umount_and_join()
    }
}

/// A file, folder or other entry; its number is its place in the list.
struct Entry {
    parent: u64,
    node: Node,
    /// Entries of a folder, by name.
    children: OnceLock<Vec<(OsString, u64)>>,
    /// Where each chunk of a file begins, and its end.
    starts: OnceLock<Vec<u64>>,
}

struct Mount {
    repo: Arc<Repository>,
    entries: Mutex<Vec<Arc<Entry>>>,
    /// Chunks read last, the latest at the end.
    chunks: Mutex<VecDeque<(Id, Arc<Vec<u8>>)>>,
    /// Whom folders that stand in no snapshot belong to.
    owner: (u32, u32),
}

impl Repository {
    /// Mounts the repository read-only at an existing folder.
    ///
    /// # Errors
    /// The index or a snapshot can not be read, or the system refuses.
    pub fn mount(self: Arc<Self>, at: &Path) -> RepoResult<Mounted> {
        self.load_index()?;
        let owner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let snapshots = self.snapshots()?;
        let mount = Mount {
            repo: self,
            entries: Mutex::default(),
            chunks: Mutex::default(),
            owner,
        };
        mount.add(1, mount.folder(b"", None, jiff::Timestamp::now()));
        let mut listed = Vec::with_capacity(snapshots.len() + 1);
        let zone = jiff::tz::TimeZone::system();
        for s in &snapshots {
            let time = s.time.to_zoned(zone.clone()).strftime("%Y-%m-%d_%H-%M-%S");
            let name = format!("{time}_{}", &s.id.to_string()[..8]);
            let node = mount.folder(name.as_bytes(), Some(s.tree), s.time);
            listed.push((OsString::from(name), mount.add(1, node)));
        }
        if let Some((newest, _)) = listed.last() {
            let mut link = mount.folder(b"latest", None, jiff::Timestamp::now());
            link.kind = NodeType::Symlink;
            link.link_target = newest.as_bytes().to_vec();
            listed.push(("latest".into(), mount.add(1, link)));
        }
        // Nobody has looked into it yet.
        let _ = mount.entry(1).map(|root| root.children.set(listed));
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::DefaultPermissions,
            MountOption::FSName("encke".into()),
        ];
        config.n_threads = Some(THREADS);
        let session = fuser::spawn_mount(mount, at, &config);
        let failed = |error| RepoError::File {
            path: at.to_path_buf(),
            error,
        };
        Ok(Mounted(session.map_err(failed)?))
    }
}

impl Mount {
    fn folder(&self, name: &[u8], subtree: Option<Id>, time: jiff::Timestamp) -> Node {
        Node {
            name: name.to_vec(),
            kind: NodeType::Dir,
            mode: 0o755,
            mtime: time,
            atime: time,
            ctime: time,
            uid: self.owner.0,
            gid: self.owner.1,
            user: "".into(),
            group: "".into(),
            inode: 0,
            device_id: 0,
            size: 0,
            links: 1,
            link_target: Vec::new(),
            xattrs: Vec::new(),
            device: 0,
            content: Vec::new(),
            subtree,
        }
    }

    /// Adds an entry and answers its number.
    fn add(&self, parent: u64, node: Node) -> u64 {
        let mut entries = self.entries.lock();
        entries.push(Arc::new(Entry {
            parent,
            node,
            children: OnceLock::new(),
            starts: OnceLock::new(),
        }));
        entries.len() as u64
    }

    fn entry(&self, number: u64) -> Result<Arc<Entry>, Errno> {
        let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        at.and_then(|at| self.entries.lock().get(at).cloned())
            .ok_or(Errno::ENOENT)
    }

    fn failed(what: &[u8], e: &RepoError) -> Errno {
        tracing::error!(error = %e, name = %gotext::quote(what), "can not be read");
        Errno::EIO
    }

    fn children<'e>(&self, number: u64, entry: &'e Entry) -> Result<&'e [(OsString, u64)], Errno> {
        if entry.node.kind != NodeType::Dir {
            return Err(Errno::ENOTDIR);
        }
        if entry.children.get().is_none() {
            let subtree = entry.node.subtree.ok_or(Errno::EIO)?;
            let tree = self
                .repo
                .tree(&subtree)
                .map_err(|e| Self::failed(&entry.node.name, &e))?;
            entry.children.get_or_init(|| {
                let one = |node: Node| (OsString::from_vec(node.name.clone()), self.add(number, node));
                let mut listed: Vec<_> = tree.nodes.into_iter().map(one).collect();
                listed.sort();
                listed
            });
        }
        Ok(entry.children.get().map_or(&[], |c| &c[..]))
    }

    fn attributes(&self, number: u64, node: &Node) -> FileAttr {
        let time = |t: jiff::Timestamp| {
            let (seconds, nanos) = gotext::parts(t);
            let nanos = Duration::from_nanos(nanos.unsigned_abs());
            let whole = Duration::from_secs(seconds.unsigned_abs());
            let base = match seconds {
                0.. => UNIX_EPOCH.checked_add(whole),
                _ => UNIX_EPOCH.checked_sub(whole),
            };
            base.and_then(|t| t.checked_add(nanos))
                .unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let size = match node.kind {
            NodeType::File => node.size,
            NodeType::Symlink => node.link_target.len() as u64,
            _ => 0,
        };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: time(node.atime),
            mtime: time(node.mtime),
            ctime: time(node.ctime),
            crtime: time(node.ctime),
            kind: kind(node.kind),
            perm: u16::try_from(node.mode & 0o7777).unwrap_or(0o400),
            // Each name is a file of its own here.
            nlink: 1,
            uid: node.uid,
            gid: node.gid,
            rdev: u32::try_from(node.device).unwrap_or_default(),
            blksize: 1 << 20,
            flags: 0,
        }
    }

    fn chunk(&self, id: &Id) -> RepoResult<Arc<Vec<u8>>> {
        {
            let mut chunks = self.chunks.lock();
            if let Some(at) = chunks.iter().rposition(|(i, _)| i == id)
                && let Some(found) = chunks.remove(at)
            {
                let chunk = found.1.clone();
                chunks.push_back(found);
                return Ok(chunk);
            }
        }
        let chunk = Arc::new(self.repo.load_blob(BlobType::Data, id)?);
        let mut chunks = self.chunks.lock();
        if chunks.len() >= CHUNKS {
            chunks.pop_front();
        }
        chunks.push_back((*id, chunk.clone()));
        Ok(chunk)
    }

    fn read_at(&self, entry: &Entry, offset: u64, size: u64) -> Result<Vec<u8>, Errno> {
        let node = &entry.node;
        let failed = |e: RepoError| Self::failed(&node.name, &e);
        let starts = entry.starts.get_or_init(|| range::chunk_starts(&self.repo, node));
        range::part(node, starts, offset, size, |id| self.chunk(id)).map_err(failed)
    }
}

fn kind(kind: NodeType) -> FileType {
    match kind {
        NodeType::File => FileType::RegularFile,
        NodeType::Dir => FileType::Directory,
        NodeType::Symlink => FileType::Symlink,
        NodeType::BlockDevice => FileType::BlockDevice,
        NodeType::CharDevice => FileType::CharDevice,
        NodeType::Fifo => FileType::NamedPipe,
        NodeType::Socket => FileType::Socket,
    }
}

/// Answers with a value of an extended attribute, or with its size if that is asked for.
fn answer(reply: ReplyXattr, value: &[u8], room: u32) {
    match u32::try_from(value.len()) {
        Ok(size) if room == 0 => reply.size(size),
        Ok(size) if size <= room => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Mount {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let find = || {
            let entry = self.entry(parent.0)?;
            let children = self.children(parent.0, &entry)?;
            let (_, number) = children.iter().find(|(n, _)| n == name).ok_or(Errno::ENOENT)?;
            Ok((*number, self.entry(*number)?))
        };
        match find() {
            Ok((number, entry)) => {
                reply.entry(&VALID, &self.attributes(number, &entry.node), Generation(0));
            }
            Err(e) => reply.error(e),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.entry(ino.0) {
            Ok(entry) => reply.attr(&VALID, &self.attributes(ino.0, &entry.node)),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.entry(ino.0) {
            Ok(entry) => reply.data(&entry.node.link_target),
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self
            .entry(ino.0)
            .and_then(|entry| self.read_at(&entry, offset, u64::from(size)));
        match read {
            Ok(content) => reply.data(&content),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut list = || {
            let entry = self.entry(ino.0)?;
            let children = self.children(ino.0, &entry)?;
            let dots = [(OsStr::new("."), ino.0), (OsStr::new(".."), entry.parent)];
            let all = dots.into_iter().chain(children.iter().map(|(n, i)| (&n[..], *i)));
            for (place, (name, number)) in (1..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX))
            {
                let what = kind(self.entry(number)?.node.kind);
                if reply.add(INodeNo(number), place, what, name) {
                    break;
                }
            }
            Ok(())
        };
        match list() {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.entry(ino.0) {
            Ok(entry) => match entry.node.xattrs.iter().find(|(n, _)| OsStr::new(n) == name) {
                Some((_, value)) => answer(reply, value, size),
                None => reply.error(Errno::ENODATA),
            },
            Err(e) => reply.error(e),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.entry(ino.0) {
            Ok(entry) => {
                let names = entry.node.xattrs.iter().flat_map(|(n, _)| [n.as_bytes(), b"\0"]);
                answer(reply, &names.collect::<Vec<_>>().concat(), size);
            }
            Err(e) => reply.error(e),
        }
    }
}
