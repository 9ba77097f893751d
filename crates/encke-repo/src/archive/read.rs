//! Reading a file: cut into chunks where restic would cut, handed over chunk by chunk.

use super::builder::Dir;
use super::save::FileState;
use super::{Shared, plain_node};
use crate::chunker::{MAX, MIN};
use crate::error::RepoError;
use crate::node::{Node, NodeType};
use crate::progress::Progress;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};
use std::sync::Arc;

/// Bytes asked for at once while a large file is read.
const BLOCK: usize = 1024 * 1024;

/// Reads a file and hands its chunks over. `node` is what `lstat` told.
pub(super) fn file(path: &Path, node: Node, dir: &Arc<Dir>, slot: usize, shared: &Shared) {
    let expected = node.size;
    let (inode, device) = (node.inode, node.device_id);
    let state = FileState::new(dir.clone(), slot, node);
    let result = open(path, inode, device).and_then(|mut file| chunks(&mut file, expected, &state, shared));
    match result {
        Ok(Some(size)) => state.finish(size, shared),
        // Cancelled: nothing is finished any more.
        Ok(None) => {}
        Err(e) => {
            shared.warning(path, &e.to_string());
            state.abort(shared);
        }
    }
}

/// Opens what the walk found, not what may have taken its place: neither a link nor a pipe that would never end.
fn open(path: &Path, inode: u64, device: u64) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOATIME;
    let open = |flags: rustix::fs::OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        File::options().read(true).custom_flags(flags).open(path)
    };
    let file = match open(flags) {
        // Only a file's owner may leave its access time alone.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(flags - rustix::fs::OFlags::NOATIME)?,
        r => r?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.ino() != inode || meta.dev() != device {
        return Err(io::Error::other("was replaced while the backup ran"));
    }
    Ok(file)
}

/// Answers the bytes read, or nothing when the backup was stopped.
fn chunks(
    input: &mut dyn Read,
    expected: u64,
    state: &Arc<FileState>,
    shared: &Shared,
) -> io::Result<Option<u64>> {
    let chunker = shared.repo.chunker();
    let mut total = 0u64;
    // A small file is one chunk in a buffer of its own size; one more byte shows that it has grown.
    let first = usize::try_from(expected.saturating_add(1))
        .unwrap_or(usize::MAX)
        .min(2 * MAX);
    let mut buffer: Vec<u8> = Vec::with_capacity(first);
    let mut ended = false;
    while !ended || !buffer.is_empty() {
        if shared.stopped() {
            return Ok(None);
        }
        while !ended && buffer.len() < MAX {
            let want = if buffer.len() < first {
                first - buffer.len()
            } else {
                BLOCK
            };
            let n = input.take(want as u64).read_to_end(&mut buffer)?;
            ended = n < want;
        }
        if buffer.is_empty() {
            break;
        }
        let cut = chunker.cut(&buffer);
        let chunk = if cut == buffer.len() {
            std::mem::take(&mut buffer)
        } else {
            let mut rest = Vec::with_capacity(2 * MAX);
            rest.extend_from_slice(&buffer[cut..]);
            let mut chunk = std::mem::replace(&mut buffer, rest);
            chunk.truncate(cut);
            if cut < MIN * 2 {
                chunk.shrink_to_fit();
            }
            chunk
        };
        total += chunk.len() as u64;
        state.chunk(chunk, shared);
    }
    Ok(Some(total))
}

/// Backs up a stream as the only file of the snapshot, at an absolute path.
pub(super) fn stream(path: &Path, input: &mut (dyn Read + Send), shared: &Shared) {
    let now = jiff::Timestamp::now();
    let names: Vec<&[u8]> = path
        .components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.as_bytes()),
            _ => None,
        })
        .collect();
    let Some((last, folders)) = names.split_last() else {
        shared.fail(RepoError::Invalid(
            "the path of a stream needs a file name".into(),
        ));
        return;
    };
    let mut dirs = vec![Dir::root()];
    for name in folders {
        let parent = &dirs[dirs.len() - 1];
        parent.reserve(1);
        dirs.push(Dir::child(parent, 0, plain_node(name, NodeType::Dir, 0o755, now)));
    }
    let parent = &dirs[dirs.len() - 1];
    parent.reserve(1);
    let state = FileState::new(parent.clone(), 0, plain_node(last, NodeType::File, 0o600, now));
    Progress::add(&shared.progress.files_total, 1);
    shared
        .counters
        .new
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    match chunks(input, MAX as u64, &state, shared) {
        Ok(Some(size)) => {
            state.finish(size, shared);
            for dir in dirs.iter().rev() {
                dir.release(shared);
            }
        }
        Ok(None) => {}
        Err(error) => shared.fail(RepoError::File {
            path: path.to_path_buf(),
            error,
        }),
    }
}
