//! Chunks on their way into packs: hash, look up, compress, seal.

use super::Shared;
use super::buffer::Buffer;
use super::builder::Dir;
use crate::chunker::MIN;
use crate::crypto::{IV_SIZE, OVERHEAD};
use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::Node;
use crate::pack::BlobType;
use crate::progress::Progress;
use crate::zeros::is_zero;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Content is tried on so many bytes...
const PROBE: usize = 4 * 1024;
/// ...of each stretch of so many, before a whole chunk is compressed.
const PROBE_EVERY: usize = 64 * 1024;
/// Chunks smaller than this are compressed without trying.
const PROBE_FROM: usize = 128 * 1024;

/// A file of more than one chunk, while its chunks are being saved.
pub(super) struct FileState {
    dir: Arc<Dir>,
    slot: usize,
    node: Mutex<Node>,
    content: Mutex<Vec<Id>>,
    /// Chunks not saved, and one for the reader while it reads.
    pending: AtomicUsize,
}

/// A chunk of a large file.
pub(super) struct Chunk {
    data: Buffer,
    file: Arc<FileState>,
    place: usize,
}

impl FileState {
    pub(super) fn new(dir: Arc<Dir>, slot: usize, node: Node) -> Arc<Self> {
        let (node, content) = (Mutex::new(node), Mutex::default());
        Arc::new(Self {
            dir,
            slot,
            node,
            content,
            pending: AtomicUsize::new(1),
        })
    }

    /// The next chunk of the file: left to another thread, or saved here and now if they have enough to do.
    pub(super) fn chunk(self: &Arc<Self>, data: Buffer, worker: &mut Worker, shared: &Shared) {
        let place = {
            let mut content = self.content.lock();
            content.push(Id::default());
            content.len() - 1
        };
        self.pending.fetch_add(1, Ordering::AcqRel);
        // Zeros are done with before another thread would have heard of them.
        let blank = is_blank(&data);
        let chunk = Chunk {
            data,
            file: self.clone(),
            place,
        };
        let kept = if blank {
            Some(chunk)
        } else {
            shared.pool.offer(chunk)
        };
        if let Some(chunk) = kept {
            chunk.save(worker, shared);
        }
    }

    /// The reader has come to the end: the file's real size is known.
    pub(super) fn finish(self: &Arc<Self>, size: u64, worker: &mut Worker, shared: &Shared) {
        self.node.lock().size = size;
        self.release(worker, shared);
    }

    /// The file can not be read: it is left out.
    pub(super) fn abort(self: &Arc<Self>, worker: &mut Worker, shared: &Shared) {
        // The place stays reserved: chunks on their way must not complete the file.
        self.pending.fetch_add(1, Ordering::AcqRel);
        self.dir.fill(self.slot, None, worker, shared);
    }

    fn release(self: &Arc<Self>, worker: &mut Worker, shared: &Shared) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let mut node = self.node.lock();
        node.content = std::mem::take(&mut *self.content.lock());
        let text = node.to_json();
        Progress::add(&shared.progress.files_done, 1);
        drop(node);
        self.dir.fill(self.slot, Some(text), worker, shared);
    }
}

impl Chunk {
    pub(super) fn save(self, worker: &mut Worker, shared: &Shared) {
        if shared.stopped() {
            return;
        }
        let Self { data, file, place } = self;
        shared.counters.chunks.fetch_add(1, Ordering::Relaxed);
        match worker.blob(BlobType::Data, &data, shared) {
            Ok(id) => {
                file.content.lock()[place] = id;
                Progress::add(&shared.progress.bytes_done, data.len() as u64);
                shared.spare.give(data);
                file.release(worker, shared);
            }
            Err(e) => shared.fail(e),
        }
    }
}

/// What a thread keeps from one chunk to the next.
pub(super) struct Worker {
    compressor: zstd::bulk::Compressor<'static>,
    /// The chunk as it goes into the pack.
    sealed: Vec<u8>,
    /// Small files are read into it.
    pub(super) buffer: Buffer,
}

impl Worker {
    pub(super) fn new(level: i32) -> RepoResult<Self> {
        let compressor = zstd::bulk::Compressor::new(level)
            .map_err(|e| RepoError::Invalid(format!("compression: {e}")))?;
        Ok(Self {
            compressor,
            sealed: Vec::new(),
            buffer: Buffer::default(),
        })
    }

    /// Saves a blob unless the repository has it, and answers its name.
    pub(super) fn blob(&mut self, kind: BlobType, content: &[u8], shared: &Shared) -> RepoResult<Id> {
        let id = name(content);
        if shared.repo.index().read().has(kind, &id) || !shared.saving.lock().insert(id) {
            return Ok(id);
        }
        shared.counters.blobs.fetch_add(1, Ordering::Relaxed);
        shared
            .counters
            .added
            .fetch_add(content.len() as u64, Ordering::Relaxed);
        let uncompressed = if shared.repo.compresses() && self.compress(content) {
            u32::try_from(content.len()).map_err(|_| RepoError::Invalid("a listing is too long".into()))?
        } else {
            self.sealed.truncate(IV_SIZE);
            self.sealed.resize(IV_SIZE, 0);
            self.sealed.extend_from_slice(content);
            0
        };
        shared.repo.key().seal_in_place(&mut self.sealed, 0)?;
        shared.packer.add(kind, id, &self.sealed, uncompressed)?;
        Ok(id)
    }

    /// Compresses into `sealed`, behind the room for the IV; tells whether that was worth it.
    fn compress(&mut self, content: &[u8]) -> bool {
        // Never shrunk, so that the room is not cleared again and again.
        let room = IV_SIZE + zstd::zstd_safe::compress_bound(content.len());
        if self.sealed.capacity() < room + OVERHEAD {
            self.sealed.reserve(room + OVERHEAD - self.sealed.len());
        }
        self.sealed.resize(room, 0);
        if content.len() >= PROBE_FROM {
            // Content that is compressed or encrypted already shows it in any part of it; but a part of a disk's image may
            // hold of both.
            let worth = content.chunks_exact(PROBE_EVERY).any(|stretch| {
                let part = &stretch[(PROBE_EVERY - PROBE) / 2..][..PROBE];
                let size = self
                    .compressor
                    .compress_to_buffer(part, &mut self.sealed[IV_SIZE..]);
                size.is_ok_and(|n| n < PROBE - PROBE / 50)
            });
            if !worth {
                return false;
            }
        }
        match self
            .compressor
            .compress_to_buffer(content, &mut self.sealed[IV_SIZE..])
        {
            Ok(n) if n < content.len() => {
                self.sealed.truncate(IV_SIZE + n);
                true
            }
            _ => false,
        }
    }
}

/// Whether a chunk is one of those that zeros are cut into.
fn is_blank(content: &[u8]) -> bool {
    content.len() == MIN && is_zero(content)
}

/// The content's name. Holes and blank parts of images are chunks of zeros, all of one size, whose name is known.
fn name(content: &[u8]) -> Id {
    static ZEROS: OnceLock<Id> = OnceLock::new();
    if is_blank(content) {
        return *ZEROS.get_or_init(|| Id::of(content));
    }
    Id::of(content)
}
