//! Gathers sealed blobs into packs, writes packs from threads of their own, and notes them in the index.

use crate::crypto::Key;
use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdSet};
use crate::index::{IndexFile, IndexPack};
use crate::pack::{self, BlobType, PackedBlob};
use crate::progress::{Cancel, Progress};
use crate::repository::Repository;
use crossbeam_channel::{Receiver, Sender, bounded};
use encke_storage::FileKind;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pack is written when it has this many bytes, unless another size is asked for; restic's own default.
pub(crate) const PACK_SIZE: usize = 16 * 1024 * 1024;
/// Blobs in an index file before it is written.
const BLOBS_PER_INDEX: usize = 50_000;
/// An index file is written at least this often, so that a backup that is cut off can go on from there.
const INDEX_EVERY: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Builder {
    buffer: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

struct Full {
    pack: Builder,
    kind: BlobType,
}

struct Written {
    packs: Vec<IndexPack>,
    blobs: usize,
    since: Instant,
}

/// The packs being filled.
pub(crate) struct Packer<'a> {
    repo: &'a Repository,
    key: Key,
    data: Mutex<Builder>,
    trees: Mutex<Builder>,
    full: Mutex<Option<Sender<Full>>>,
    waiting: Receiver<Full>,
    /// Buffers of packs that were written, to be filled again: fresh memory costs a page fault for each page.
    spare: Mutex<Vec<Vec<u8>>>,
    written: Mutex<Written>,
    /// Every file written so far, to be found again in the end.
    stored: Mutex<Vec<(FileKind, Id)>>,
    failed: Mutex<Option<RepoError>>,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(repo: &'a Repository) -> Self {
        // No queue: a pack is handed over when a writer is free, and until then nothing is added to another of its type,
        // so there are at most writers + 2 packs in memory.
        let (full, waiting) = bounded(0);
        Self {
            repo,
            key: repo.key().clone(),
            data: Mutex::default(),
            trees: Mutex::default(),
            full: Mutex::new(Some(full)),
            waiting,
            spare: Mutex::default(),
            written: Mutex::new(Written {
                packs: Vec::new(),
                blobs: 0,
                since: Instant::now(),
            }),
            stored: Mutex::default(),
            failed: Mutex::new(None),
        }
    }

    /// The first failure of a writing thread, if there was one.
    pub(crate) fn failure(&self) -> Option<RepoError> {
        self.failed.lock().take()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.lock().is_some()
    }

    /// Adds a sealed blob; waits while too many packs are being written.
    pub(crate) fn add(&self, kind: BlobType, id: Id, sealed: &[u8], uncompressed: u32) -> RepoResult<()> {
        let builder = match kind {
            BlobType::Data => &self.data,
            BlobType::Tree => &self.trees,
        };
        let length = u32::try_from(sealed.len()).map_err(|_| RepoError::Stopped)?;
        let mut b = builder.lock();
        if b.buffer.capacity() == 0
            && let Some(spare) = self.spare.lock().pop()
        {
            b.buffer = spare;
        }
        let offset = u32::try_from(b.buffer.len()).map_err(|_| RepoError::Stopped)?;
        b.buffer.extend_from_slice(sealed);
        b.blobs.push(PackedBlob {
            id,
            kind,
            offset,
            length,
            uncompressed,
        });
        if b.buffer.len() < self.repo.pack_size() {
            return Ok(());
        }
        let pack = std::mem::take(&mut *b);
        self.send(Full { pack, kind })
    }

    fn send(&self, full: Full) -> RepoResult<()> {
        let sender = self.full.lock().clone();
        sender.and_then(|s| s.send(full).ok()).ok_or(RepoError::Stopped)
    }

    /// Sends the packs that are not full yet and lets the writers end.
    pub(crate) fn close(&self) -> RepoResult<()> {
        for (builder, kind) in [(&self.data, BlobType::Data), (&self.trees, BlobType::Tree)] {
            let pack = std::mem::take(&mut *builder.lock());
            if !pack.blobs.is_empty() {
                self.send(Full { pack, kind })?;
            }
        }
        *self.full.lock() = None;
        Ok(())
    }

    /// Writes packs until [`Packer::close`]. Run by several threads.
    pub(crate) fn write_loop(&self, progress: &Progress, cancel: &Cancel) {
        while let Ok(full) = self.waiting.recv() {
            // After a failure the rest is dropped, so that nobody waits for room.
            if self.has_failed() || cancel.is_cancelled() {
                continue;
            }
            if let Err(e) = self.write(full, progress) {
                self.failed.lock().get_or_insert(e);
            }
        }
    }

    fn write(&self, full: Full, progress: &Progress) -> RepoResult<()> {
        let Full {
            pack: Builder { mut buffer, blobs },
            kind,
        } = full;
        pack::finish(&self.key, &blobs, &mut buffer)?;
        let id = Id::of(&buffer);
        let buffer = Arc::new(buffer);
        self.repo
            .backend()
            .put_shared(FileKind::Pack, &id.to_string(), &buffer)?;
        self.stored.lock().push((FileKind::Pack, id));
        if kind == BlobType::Tree {
            self.repo.cache_pack(id, &buffer);
        }
        Progress::add(&progress.uploaded, buffer.len() as u64);
        if let Ok(mut buffer) = Arc::try_unwrap(buffer) {
            buffer.clear();
            self.spare.lock().push(buffer);
        }
        self.repo.index().write().add(id, &blobs);
        let due = {
            let mut written = self.written.lock();
            written.blobs += blobs.len();
            written.packs.push(IndexPack::new(id, &blobs));
            if written.blobs < BLOBS_PER_INDEX && written.since.elapsed() < INDEX_EVERY {
                return Ok(());
            }
            written.since = Instant::now();
            written.blobs = 0;
            std::mem::take(&mut written.packs)
        };
        self.write_index(due, progress)
    }

    fn write_index(&self, mut packs: Vec<IndexPack>, progress: &Progress) -> RepoResult<()> {
        if packs.is_empty() {
            return Ok(());
        }
        // A pack that somebody's prune took for rubbish must not be promised; the backup will notice in the end.
        let there = self.names(FileKind::Pack)?;
        packs.retain(|p| there.contains(&p.id));
        let file = IndexFile {
            packs,
            ..IndexFile::default()
        };
        let (id, size) = self.repo.save_json(FileKind::Index, &file)?;
        self.repo.note_index(id);
        self.stored.lock().push((FileKind::Index, id));
        Progress::add(&progress.uploaded, size);
        Ok(())
    }

    /// Writes the index of what is left. Called when the writing threads have ended.
    pub(crate) fn finish(&self, progress: &Progress) -> RepoResult<()> {
        let rest = std::mem::take(&mut self.written.lock().packs);
        self.write_index(rest, progress)
    }

    fn names(&self, kind: FileKind) -> RepoResult<IdSet> {
        let listed = self.repo.backend().list(kind)?;
        Ok(listed.iter().filter_map(|(name, _)| Id::parse(name)).collect())
    }

    /// Whether every pack and index file written is still in the storage.
    pub(crate) fn all_present(&self) -> RepoResult<bool> {
        let stored = self.stored.lock();
        for kind in [FileKind::Pack, FileKind::Index] {
            let mut ours = stored.iter().filter(|(k, _)| *k == kind).peekable();
            if ours.peek().is_none() {
                continue;
            }
            let there = self.names(kind)?;
            if !ours.all(|(_, id)| there.contains(id)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
