//! Gathers sealed blobs into packs, writes packs from threads of their own, and notes them in the index.

use crate::crypto::Key;
use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::index::{IndexFile, IndexPack};
use crate::pack::{self, BlobType, PackedBlob};
use crate::progress::Progress;
use crate::repository::Repository;
use crossbeam_channel::{Receiver, Sender, bounded};
use encke_storage::FileKind;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// A pack is written when it has this many bytes; restic's own default.
const PACK_SIZE: usize = 16 * 1024 * 1024;
/// An index file is written after this many packs, so that a backup that is cut off can go on from there.
const PACKS_PER_INDEX: usize = 32;
/// ... or after this time.
const INDEX_EVERY: Duration = Duration::from_secs(60);

struct Builder {
    buffer: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

impl Builder {
    fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(PACK_SIZE + PACK_SIZE / 4),
            blobs: Vec::new(),
        }
    }
}

struct Full {
    buffer: Vec<u8>,
    blobs: Vec<PackedBlob>,
    tree: bool,
}

struct Written {
    packs: Vec<IndexPack>,
    since: Instant,
}

/// The packs being filled.
pub(crate) struct Packer<'a> {
    repo: &'a Repository,
    key: Key,
    data: Mutex<Builder>,
    trees: Mutex<Builder>,
    full: Sender<Full>,
    receive: Receiver<Full>,
    written: Mutex<Written>,
    failed: Mutex<Option<RepoError>>,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(repo: &'a Repository, key: Key, waiting: usize) -> Self {
        let (full, receive) = bounded(waiting);
        Self {
            repo,
            key,
            data: Mutex::new(Builder::new()),
            trees: Mutex::new(Builder::new()),
            full,
            receive,
            written: Mutex::new(Written {
                packs: Vec::new(),
                since: Instant::now(),
            }),
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
        let full = {
            let mut b = builder.lock();
            let offset = u32::try_from(b.buffer.len()).map_err(|_| RepoError::Stopped)?;
            let length = u32::try_from(sealed.len()).map_err(|_| RepoError::Stopped)?;
            b.buffer.extend_from_slice(sealed);
            b.blobs.push(PackedBlob {
                id,
                kind,
                offset,
                length,
                uncompressed,
            });
            if b.buffer.len() < PACK_SIZE {
                return Ok(());
            }
            std::mem::replace(&mut *b, Builder::new())
        };
        self.send(full, kind)
    }

    fn send(&self, full: Builder, kind: BlobType) -> RepoResult<()> {
        let full = Full {
            buffer: full.buffer,
            blobs: full.blobs,
            tree: kind == BlobType::Tree,
        };
        self.full.send(full).map_err(|_| RepoError::Stopped)
    }

    /// Sends the packs that are not full yet.
    pub(crate) fn flush(&self) -> RepoResult<()> {
        for (builder, kind) in [(&self.data, BlobType::Data), (&self.trees, BlobType::Tree)] {
            let rest = std::mem::replace(
                &mut *builder.lock(),
                Builder {
                    buffer: Vec::new(),
                    blobs: Vec::new(),
                },
            );
            if !rest.blobs.is_empty() {
                self.send(rest, kind)?;
            }
        }
        Ok(())
    }

    /// Writes packs until [`Packer::close`]. Run by several threads.
    pub(crate) fn write_loop(&self, progress: &Progress, done: &Receiver<()>) {
        loop {
            let full = crossbeam_channel::select_biased! {
                recv(self.receive) -> full => full,
                recv(done) -> _ => match self.receive.try_recv() {
                    Ok(full) => Ok(full),
                    Err(_) => return,
                },
            };
            let Ok(full) = full else { return };
            // After a failure the rest is dropped, so that nobody waits for room.
            if self.has_failed() {
                continue;
            }
            if let Err(e) = self.write(full, progress) {
                self.failed.lock().get_or_insert(e);
            }
        }
    }

    fn write(&self, full: Full, progress: &Progress) -> RepoResult<()> {
        let Full {
            mut buffer,
            blobs,
            tree,
        } = full;
        pack::finish(&self.key, &blobs, &mut buffer)?;
        let id = Id::of(&buffer);
        self.repo
            .backend()
            .put(FileKind::Pack, &id.to_string(), &buffer)?;
        if tree {
            self.repo.cache_pack(id, &buffer);
        }
        Progress::add(&progress.uploaded, buffer.len() as u64);
        drop(buffer);
        self.repo.index().write().add(id, &blobs);
        let due = {
            let mut written = self.written.lock();
            written.packs.push(IndexPack::new(id, &blobs));
            let due = written.packs.len() >= PACKS_PER_INDEX || written.since.elapsed() > INDEX_EVERY;
            if due {
                written.since = Instant::now();
                std::mem::take(&mut written.packs)
            } else {
                Vec::new()
            }
        };
        self.write_index(due, progress)
    }

    fn write_index(&self, packs: Vec<IndexPack>, progress: &Progress) -> RepoResult<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let file = IndexFile {
            supersedes: Vec::new(),
            packs,
        };
        let size = self.repo.save_json(FileKind::Index, &file)?.1;
        Progress::add(&progress.uploaded, size);
        Ok(())
    }

    /// Writes the index of what is left. Called when the writing threads have ended.
    pub(crate) fn finish(&self, progress: &Progress) -> RepoResult<()> {
        if let Some(e) = self.failure() {
            return Err(e);
        }
        let rest = std::mem::take(&mut self.written.lock().packs);
        self.write_index(rest, progress)
    }
}
