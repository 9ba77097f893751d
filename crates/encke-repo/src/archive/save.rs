//! Chunks on their way into packs: hash, look up, compress, seal.

use super::Shared;
use super::builder::Dir;
use crate::error::RepoResult;
use crate::id::Id;
use crate::node::Node;
use crate::pack::BlobType;
use crate::progress::Progress;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Content is tried on this many bytes before a whole chunk is compressed.
const PROBE: usize = 16 * 1024;
/// Chunks smaller than this are compressed without trying.
const PROBE_FROM: usize = 128 * 1024;

/// A file whose chunks are being saved.
pub(super) struct FileState {
    dir: Arc<Dir>,
    slot: usize,
    node: Mutex<Node>,
    content: Mutex<Vec<Id>>,
    /// Chunks not saved, and one for the reader while it reads.
    pending: AtomicUsize,
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

    /// Hands a chunk to the saving threads.
    pub(super) fn chunk(self: &Arc<Self>, data: Vec<u8>, shared: &Shared) {
        let place = {
            let mut content = self.content.lock();
            content.push(Id::default());
            content.len() - 1
        };
        self.pending.fetch_add(1, Ordering::AcqRel);
        let job = Job::Chunk {
            data,
            file: self.clone(),
            place,
        };
        // The saving threads run until they are told to stop, after all readers have ended.
        let _ = shared.chunks.send(job);
    }

    /// The reader has come to the end: the file's real size is known.
    pub(super) fn finish(self: &Arc<Self>, size: u64, shared: &Shared) {
        self.node.lock().size = size;
        self.release(shared);
    }

    /// The file can not be read: it is left out.
    pub(super) fn abort(self: &Arc<Self>, shared: &Shared) {
        // The place stays reserved: chunks on their way must not complete the file.
        self.pending.fetch_add(1, Ordering::AcqRel);
        self.dir.fill(self.slot, None, shared);
    }

    fn release(self: &Arc<Self>, shared: &Shared) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let mut node = self.node.lock();
        node.content = std::mem::take(&mut *self.content.lock());
        let mut text = String::with_capacity(400 + node.content.len() * 67);
        node.write_json(&mut text);
        Progress::add(&shared.progress.files_done, 1);
        drop(node);
        self.dir.fill(self.slot, Some(text), shared);
    }
}

pub(super) enum Job {
    Chunk {
        data: Vec<u8>,
        file: Arc<FileState>,
        place: usize,
    },
    Stop,
}

pub(super) fn run(jobs: Receiver<Job>, shared: &Shared) {
    while let Ok(Job::Chunk { data, file, place }) = jobs.recv() {
        if shared.stopped() {
            continue;
        }
        shared.counters.chunks.fetch_add(1, Ordering::Relaxed);
        match blob(BlobType::Data, &data, shared) {
            Ok(id) => {
                file.content.lock()[place] = id;
                Progress::add(&shared.progress.bytes_done, data.len() as u64);
                file.release(shared);
            }
            Err(e) => shared.fail(e),
        }
    }
}

/// Saves a folder's listing.
pub(super) fn tree(json: &[u8], shared: &Shared) -> RepoResult<Id> {
    blob(BlobType::Tree, json, shared)
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

#[derive(Default)]
struct Scratch {
    level: i32,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
    sealed: Vec<u8>,
}

fn blob(kind: BlobType, content: &[u8], shared: &Shared) -> RepoResult<Id> {
    let id = Id::of(content);
    if shared.repo.index().read().has(kind, &id) || !shared.saving.lock().insert(id) {
        return Ok(id);
    }
    shared.counters.blobs.fetch_add(1, Ordering::Relaxed);
    shared
        .counters
        .added
        .fetch_add(content.len() as u64, Ordering::Relaxed);
    SCRATCH.with_borrow_mut(|s| {
        let packed = s.compress(content, shared.level);
        s.sealed.clear();
        let (text, uncompressed) = if packed {
            (
                s.packed.as_slice(),
                u32::try_from(content.len()).unwrap_or_default(),
            )
        } else {
            (content, 0)
        };
        shared.repo.key().seal(text, &mut s.sealed)?;
        shared.packer.add(kind, id, &s.sealed, uncompressed)
    })?;
    Ok(id)
}

impl Scratch {
    /// Compresses into `packed`; tells whether that was worth it.
    fn compress(&mut self, content: &[u8], level: i32) -> bool {
        if self.compressor.is_none() || self.level != level {
            self.compressor = zstd::bulk::Compressor::new(level).ok();
            self.level = level;
        }
        let Some(compressor) = &mut self.compressor else {
            return false;
        };
        if content.len() >= PROBE_FROM {
            // Content that is compressed or encrypted already shows it in any part of it.
            let worth = [content.len() / 3, content.len() - PROBE].iter().any(|&at| {
                let part = &content[at..at + PROBE];
                self.packed.resize(zstd::zstd_safe::compress_bound(PROBE), 0);
                let size = compressor.compress_to_buffer(part, self.packed.as_mut_slice());
                size.is_ok_and(|n| n < PROBE - PROBE / 50)
            });
            if !worth {
                return false;
            }
        }
        self.packed
            .resize(zstd::zstd_safe::compress_bound(content.len()), 0);
        match compressor.compress_to_buffer(content, self.packed.as_mut_slice()) {
            Ok(n) if n < content.len() => {
                self.packed.truncate(n);
                true
            }
            _ => false,
        }
    }
}
