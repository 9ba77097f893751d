//! Reading files: a small one at once, a large one cut into chunks where restic would cut.

use super::buffer::Buffer;
use super::builder::Dir;
use super::save::{FileState, Worker};
use super::{OpenStream, Shared, plain_node, xattr};
use crate::chunker::{MAX, MIN};
use crate::error::RepoError;
use crate::node::{Node, NodeType};
use crate::pack::BlobType;
use crate::progress::Progress;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a large file read and cut at once: they are still in the core's cache when they are cut.
const BLOCK: usize = 256 * 1024;

/// Files of one folder.
pub(super) struct Batch {
    pub path: Arc<Path>,
    /// The folder, open.
    pub at: Arc<OwnedFd>,
    pub dir: Arc<Dir>,
    /// Places in the listing, and what `lstat` told.
    pub files: Vec<(usize, Node)>,
}

impl Batch {
    /// Reads and saves the files.
    pub(super) fn save(self, worker: &mut Worker, shared: &Shared) {
        for (slot, mut node) in self.files {
            if shared.stopped() {
                return;
            }
            let path = self.path.join(OsStr::from_bytes(&node.name));
            shared.show(&path);
            let file = match open(&self.at, &node, shared) {
                Ok(file) => file,
                Err(e) => {
                    shared.warning(&path, &e.to_string());
                    self.dir.fill(slot, None, worker, shared);
                    continue;
                }
            };
            node.xattrs = xattr::of_open(&file, &path, shared);
            let mut file = File::from(file);
            if node.size <= MIN as u64 {
                small(&mut file, &path, node, &self.dir, slot, worker, shared);
            } else {
                large(
                    &mut file,
                    Buffer::default(),
                    &path,
                    node,
                    &self.dir,
                    slot,
                    worker,
                    shared,
                );
            }
        }
    }
}

/// Opens what the walk found, not what may have taken its place: neither a link nor a pipe that would never end.
fn open(at: &OwnedFd, node: &Node, shared: &Shared) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(at, node.name.as_slice(), flags | OFlags::NOATIME, Mode::empty()) {
        // Only a file's owner may leave its access time alone.
        Err(Errno::PERM) => rustix::fs::openat(at, node.name.as_slice(), flags, Mode::empty())?,
        r => r?,
    };
    let stat = rustix::fs::fstat(&file)?;
    if stat.st_ino != node.inode || shared.frozen.device(stat.st_dev) != node.device_id {
        return Err(io::Error::other("was replaced while the backup ran"));
    }
    Ok(file)
}

/// Saves a file of at most one chunk; it never leaves this thread.
fn small(
    file: &mut File,
    path: &Path,
    mut node: Node,
    dir: &Arc<Dir>,
    slot: usize,
    worker: &mut Worker,
    shared: &Shared,
) {
    let expected = usize::try_from(node.size).unwrap_or(MIN);
    let mut buffer = std::mem::take(&mut worker.buffer);
    buffer.clear();
    loop {
        // One byte more than expected shows that the file has grown.
        match buffer.read(file, expected + 1) {
            // All that was expected and not a byte more: the end, without asking again.
            Ok(n) if n == 0 || buffer.len() == expected => break,
            Ok(_) if buffer.len() > expected => {
                return large(file, buffer, path, node, dir, slot, worker, shared);
            }
            Ok(_) => {}
            Err(e) => {
                shared.warning(path, &e.to_string());
                return dir.fill(slot, None, worker, shared);
            }
        }
    }
    node.size = buffer.len() as u64;
    if !buffer.is_empty() {
        shared.counters.chunks.fetch_add(1, Relaxed);
        match worker.blob(BlobType::Data, &buffer, shared) {
            Ok(id) => node.content = vec![id],
            Err(e) => return shared.fail(e),
        }
    }
    worker.buffer = buffer;
    Progress::add(&shared.progress.bytes_done, node.size);
    Progress::add(&shared.progress.files_done, 1);
    dir.fill(slot, Some(node.to_json()), worker, shared);
}

/// Cuts a file into chunks.
#[allow(clippy::too_many_arguments)]
fn large(
    file: &mut File,
    start: Buffer,
    path: &Path,
    node: Node,
    dir: &Arc<Dir>,
    slot: usize,
    worker: &mut Worker,
    shared: &Shared,
) {
    let state = FileState::new(dir.clone(), slot, node);
    match chunks(file, start, &state, worker, shared) {
        Ok(Some(size)) => state.finish(size, worker, shared),
        // Cancelled: nothing is finished any more.
        Ok(None) => {}
        Err(e) => {
            shared.warning(path, &e.to_string());
            state.abort(worker, shared);
        }
    }
}

/// Answers the bytes read, or nothing when the backup was stopped. `start` was read already.
fn chunks(
    input: &mut dyn Read,
    start: Buffer,
    state: &Arc<FileState>,
    worker: &mut Worker,
    shared: &Shared,
) -> io::Result<Option<u64>> {
    let chunker = shared.repo.chunker();
    let mut total = 0u64;
    let mut buffer = if start.is_empty() {
        shared.spare.take()
    } else {
        start
    };
    let mut seen = 0;
    loop {
        if shared.stopped() {
            return Ok(None);
        }
        if let Some(cut) = chunker.find(&buffer, seen) {
            let mut rest = shared.spare.take();
            rest.append(&buffer[cut..]);
            buffer.truncate(cut);
            total += cut as u64;
            state.chunk(std::mem::replace(&mut buffer, rest), worker, shared);
            seen = 0;
            continue;
        }
        seen = buffer.len();
        // No cut is possible before the smallest size.
        let want = if seen < MIN {
            MIN - seen
        } else {
            BLOCK.min(MAX - seen)
        };
        if buffer.read(input, want)? == 0 {
            break;
        }
    }
    total += buffer.len() as u64;
    if !buffer.is_empty() {
        state.chunk(buffer, worker, shared);
    }
    Ok(Some(total))
}

/// Streams that become the files of one folder.
pub(super) struct Streams<'a, 'b> {
    /// Absolute.
    pub folder: &'a Path,
    /// In order.
    pub names: &'a [String],
    pub open: &'a mut OpenStream<'b>,
}

/// Backs up streams as the only files of the snapshot.
pub(super) fn streams(streams: Streams, worker: &mut Worker, shared: &Shared) {
    let Streams { folder, names, open } = streams;
    let now = jiff::Timestamp::now();
    let mut dirs = vec![Dir::root()];
    for part in folder.components() {
        let Component::Normal(name) = part else { continue };
        let parent = &dirs[dirs.len() - 1];
        parent.reserve(1);
        let node = plain_node(name.as_bytes(), NodeType::Dir, 0o755, now);
        dirs.push(Dir::child(parent, 0, node));
    }
    let parent = dirs[dirs.len() - 1].clone();
    parent.reserve(names.len());
    Progress::add(&shared.progress.files_total, names.len() as u64);
    for (slot, name) in names.iter().enumerate() {
        let path = folder.join(name);
        shared.show(&path);
        let node = plain_node(name.as_bytes(), NodeType::File, 0o600, now);
        let state = FileState::new(parent.clone(), slot, node);
        shared.counters.new.fetch_add(1, Relaxed);
        let read =
            open(slot).and_then(|mut input| chunks(&mut *input, Buffer::default(), &state, worker, shared));
        match read {
            Ok(Some(size)) => state.finish(size, worker, shared),
            Ok(None) => return,
            Err(error) => return shared.fail(RepoError::File { path, error }),
        }
    }
    for dir in dirs.iter().rev() {
        dir.release(worker, shared);
    }
}
