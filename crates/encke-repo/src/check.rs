//! Verification: every pack is there, every snapshot's trees and chunks are in packs, and on demand every byte is
//! what its name says.

use crate::error::{RepoError, RepoResult};
use crate::id::{Digest, Id, IdMap, IdSet};
use crate::keys;
use crate::node::{NodeType, Tree};
use crate::pack::{BlobType, PackedBlob};
use crate::progress::{Cancel, Progress};
use crate::repository::{Repository, Unsealer};
use encke_storage::FileKind;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a pack read at once, unless a blob is larger: this bounds a thread's memory, however large packs are.
const READ_AT_ONCE: u64 = 4 * 1024 * 1024;

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Read packs and verify every blob in them.
    pub read_data: bool,
    /// Which packs to read; all if not given.
    pub sample: Option<Sample>,
}

/// A part of all packs.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    /// So many percent, others each time.
    Percent(f64),
    /// One of so many parts of about the same size, counted from 1: reading one after the other reads all.
    Part(u32, u32),
}

impl Sample {
    fn choose(self, packs: &mut Vec<(Id, u64)>) -> RepoResult<()> {
        match self {
            Sample::Percent(percent) => {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss
                )]
                let wanted = (packs.len() as f64 * percent / 100.0).ceil() as usize;
                let mut seed = [0; 8];
                crate::crypto::random(&mut seed)?;
                // Names are evenly spread already; with the seed they give another order each time.
                packs.sort_by_cached_key(|(id, _)| Id::of(&[&seed[..], &id.0].concat()));
                packs.truncate(wanted);
            }
            Sample::Part(n, of) if (1..=of).contains(&n) => {
                let part = |id: &Id| {
                    let first = id.0.first_chunk().expect("an id has 32 bytes");
                    u32::from_be_bytes(*first) % of + 1
                };
                packs.retain(|(id, _)| part(id) == n);
            }
            Sample::Part(n, of) => {
                return Err(RepoError::Invalid(format!("there is no part {n} of {of}")));
            }
        }
        Ok(())
    }
}

/// What was found.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct CheckReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Packs in the index.
    pub packs: u64,
    /// Packs that were read.
    pub read_packs: u64,
    /// Packs in no index: left by a backup that was cut off, harmless.
    pub unindexed_packs: u64,
    /// What is wrong, a line each.
    pub errors: Vec<String>,
}

impl Repository {
    /// Verifies the repository.
    ///
    /// # Errors
    /// The storage fails, or it was cancelled. Damage is no error but stands in the report.
    pub fn check(
        &self,
        options: CheckOptions,
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<CheckReport> {
        let (files, damaged) = self.read_index_with_damage(self.index_names()?)?;
        self.replace_index(&files);
        let stored: IdMap<u64> = self
            .backend()
            .list(FileKind::Pack)?
            .into_iter()
            .filter_map(|(name, size)| Some((Id::parse(&name)?, size)))
            .collect();
        let (packs, mut errors) = self.check_packs(&stored);
        errors.extend(damaged.into_iter().map(|(_, e)| e));
        errors.extend(keys::damaged(self.backend())?);
        let (snapshots, damaged) = self.snapshots_with_damage()?;
        errors.extend(damaged);
        let roots: Vec<Id> = snapshots.iter().map(|s| s.tree).collect();
        let (found, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
        self.walk_trees(&roots, cancel, &|id, tree| {
            let wrong = match tree {
                Ok(tree) => self.check_tree(id, &tree),
                Err(e) if e.is_passing() => {
                    failed.lock().get_or_insert(e);
                    return;
                }
                Err(e) => vec![format!("tree {id}: {e}")],
            };
            if !wrong.is_empty() {
                found.lock().extend(wrong);
            }
        })?;
        failed.into_inner().map_or(Ok(()), Err)?;
        let mut wrong = found.into_inner();
        wrong.sort_unstable();
        errors.extend(wrong);
        let mut read_packs = 0;
        if options.read_data {
            let mut readable: Vec<(Id, u64)> = packs
                .iter()
                .filter_map(|id| stored.get(id).map(|size| (*id, *size)))
                .collect();
            if let Some(sample) = options.sample {
                sample.choose(&mut readable)?;
            }
            read_packs = readable.len() as u64;
            errors.extend(self.read_packs(&readable, progress, cancel)?);
        }
        Ok(CheckReport {
            snapshots: snapshots.len() as u64,
            packs: packs.len() as u64,
            read_packs,
            unindexed_packs: stored.keys().filter(|id| !packs.contains(id)).count() as u64,
            errors,
        })
    }

    fn check_packs(&self, stored: &IdMap<u64>) -> (IdSet, Vec<String>) {
        let index = self.index().read();
        let packs = index.pack_ids();
        let missing = packs.iter().filter(|id| !stored.contains_key(id));
        let mut errors: Vec<String> = missing.map(|id| format!("pack {id} is missing")).collect();
        for (_, id, at) in index.blobs() {
            let pack = index.packs[at.pack as usize];
            let end = u64::from(at.offset) + u64::from(at.length);
            if stored.get(&pack).is_some_and(|size| end > *size) {
                errors.push(format!("pack {pack} ends before blob {id}"));
            }
        }
        (packs, errors)
    }

    /// What is wrong with a folder's listing.
    fn check_tree(&self, id: &Id, tree: &Tree) -> Vec<String> {
        let mut errors = Vec::new();
        let index = self.index().read();
        for node in &tree.nodes {
            let name = String::from_utf8_lossy(&node.name);
            match node.kind {
                NodeType::Dir if node.subtree.is_none() => {
                    errors.push(format!("tree {id}: folder '{name}' has no listing"));
                }
                NodeType::File => {
                    let (mut size, mut whole) = (0, true);
                    for blob in &node.content {
                        match index.find(BlobType::Data, blob) {
                            Some(at) => {
                                size += at.size();
                                whole &= index.has(BlobType::Data, blob);
                            }
                            None => {
                                whole = false;
                                errors.push(format!("tree {id}: file '{name}': blob {blob} is missing"));
                            }
                        }
                    }
                    if size != node.size && whole {
                        errors.push(format!(
                            "tree {id}: file '{name}' has {size} bytes, not {}",
                            node.size
                        ));
                    }
                }
                _ => {}
            }
        }
        errors
    }

    fn read_packs(
        &self,
        packs: &[(Id, u64)],
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<Vec<String>> {
        let next = AtomicUsize::new(0);
        let errors = Mutex::new(Vec::new());
        let run = || -> RepoResult<()> {
            let (mut sealed, mut unsealer) = (Vec::new(), Unsealer::new()?);
            while let Some(&(id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if cancel.is_cancelled() {
                    return Err(RepoError::Cancelled);
                }
                match self.read_pack(id, size, &mut sealed, &mut unsealer) {
                    Ok(()) => {}
                    Err(e) if e.is_passing() => return Err(e),
                    Err(e) => errors.lock().push(format!("pack {id}: {e}")),
                }
                Progress::add(&progress.downloaded, size);
            }
            Ok(())
        };
        let threads = self.threads().min(packs.len());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            threads
                .into_iter()
                .try_for_each(|t| t.join().map_err(|_| RepoError::Stopped)?)
        })?;
        Ok(errors.into_inner())
    }

    /// Verifies a pack and every blob in it, part after part, each while it is in the processor's cache.
    fn read_pack(&self, id: Id, size: u64, sealed: &mut Vec<u8>, unsealer: &mut Unsealer) -> RepoResult<()> {
        let blobs = self.pack_header(id, size, &Progress::default())?;
        let blobs = blobs.map_err(RepoError::Damaged)?;
        let name = id.hex();
        // The blobs of a header lie one behind the other, and after them there is the header.
        let end = |b: &PackedBlob| u64::from(b.offset) + u64::from(b.length);
        let mut parts: Vec<(u64, &[PackedBlob])> = Vec::new();
        let mut rest = &blobs[..];
        while let Some(first) = rest.first() {
            let fits = |b: &&PackedBlob| end(b) - u64::from(first.offset) <= READ_AT_ONCE;
            let count = rest.iter().take_while(fits).count().max(1);
            let (part, after) = rest.split_at(count);
            parts.push((u64::from(first.offset), part));
            rest = after;
        }
        parts.push((blobs.last().map_or(0, end), &[]));
        let mut digest = Digest::default();
        for (number, (start, part)) in parts.iter().enumerate() {
            let after = parts.get(number + 1).map_or(size, |(start, _)| *start);
            if let Some((next, blobs)) = parts.get(number + 1) {
                let length = blobs.last().map_or(size, end) - next;
                self.backend().expect(FileKind::Pack, &name, *next, length);
            }
            let length = usize::try_from(after - start).unwrap_or(usize::MAX);
            if sealed.len() < length {
                sealed.resize(length, 0);
            }
            let sealed = &mut sealed[..length];
            self.backend().read_range(FileKind::Pack, &name, *start, sealed)?;
            digest.add(sealed);
            for blob in *part {
                let from = usize::try_from(u64::from(blob.offset) - start).unwrap_or(usize::MAX);
                let sealed = &mut sealed[from..from + blob.length as usize];
                unsealer.open(self.key(), &blob.id, sealed, blob.uncompressed)?;
            }
        }
        if digest.finish() == id {
            Ok(())
        } else {
            Err(RepoError::Damaged("the content is not what the name says".into()))
        }
    }
}
