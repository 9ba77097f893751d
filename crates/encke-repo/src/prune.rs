//! Prune: frees what no snapshot needs, while backups go on.
//!
//! It has two phases, and one run does the first for what it finds and the second for what earlier runs found:
//!
//! 1. Packs of which nothing is needed are *marked*: an index file lists them with the time. They stay where they are
//!    and in the index, so stock restic sees nothing of it. Packs of which little is needed are copied into new ones
//!    before. A backup that begins after that does not count on marked packs.
//! 2. [`GRACE`] later, packs that still nobody needs leave the index and then the storage. A pack that a snapshot needs
//!    after all, of a backup that was running when it was marked, loses its mark instead.
//!
//! Why a backup loses nothing: what it counts on was not marked when it began, so it is there for [`GRACE`] after that,
//! and longer while the backup says that it is alive ([`crate::alive`]). When its snapshot is written a prune sees it.
//! And why a crash does no harm: every index file is written before what it replaces is removed, and a pack leaves the
//! index before the storage.
//!
//! Stock restic does not know marks. While a lock of it is there, nothing is deleted; and after the index was changed
//! and before packs are deleted the locks and snapshots are looked at once more, and the index is put back if there
//! are new ones that need it.

use crate::alive::GRACE;
use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdMap, IdSet};
use crate::index::{IndexFile, IndexPack, Lease, Loaded, Mark};
use crate::pack::{BlobType, PackedBlob};
use crate::packer::{PACK_SIZE, Packer};
use crate::progress::{Cancel, Progress};
use crate::repository::{Repository, current};
use encke_storage::{FileKind, StorageError};
use jiff::Timestamp;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blobs in an index file at most, unless one pack has more.
const BLOBS_PER_INDEX: usize = 50_000;
/// Index files with fewer blobs are put together...
const FEW_BLOBS: usize = 5_000;
/// ...when there are as many of them.
const MANY_FILES: usize = 16;
/// Packs smaller than this are put together when there are enough of them to fill one.
const SMALL: u64 = PACK_SIZE as u64 / 4;
/// Blobs are read together while the gap between them is smaller than this.
const MAX_GAP: u32 = 256 * 1024;
/// ... and until they have this many bytes, so that a thread holds little more than the blobs of one pack.
const MAX_READ: u32 = 4 * 1024 * 1024;

/// How much to free, and what that may cost.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Bytes that nothing needs may stay in packs of which other parts are needed, in percent of what is needed.
    pub max_unused_percent: f64,
    /// Bytes copied into new packs at most; the packs that free most for it come first.
    pub max_repack: u64,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Time that marks are reckoned by; now if `None`.
    pub now: Option<Timestamp>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_unused_percent: 5.0,
            max_repack: u64::MAX,
            dry_run: false,
            now: None,
        }
    }
}

/// What a prune did, or would do.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PruneReport {
    /// Snapshots whose content is kept.
    pub snapshots: u64,
    /// Bytes of packs that snapshots need.
    pub used_bytes: u64,
    /// Bytes that nothing needs and that stay, since copying the rest of their packs is not worth it.
    pub unused_bytes: u64,
    /// Packs copied in part into new ones.
    pub repacked_packs: u64,
    /// Bytes copied.
    pub repacked_bytes: u64,
    /// Packs marked now, to be deleted by a later run.
    pub marked_packs: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Packs marked by earlier runs whose time has not come.
    pub waiting_packs: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Packs that lost their mark because a snapshot needs them.
    pub recovered_packs: u64,
    /// Packs deleted.
    pub deleted_packs: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Why packs whose time has come were not deleted.
    pub postponed: Option<String>,
    /// Packs that should be copied and can not be read, with the reason. They stay.
    pub errors: Vec<String>,
}

/// The repository as a prune finds it.
struct Found {
    /// Packs in the storage and their bytes.
    stored: IdMap<u64>,
    snapshots: Vec<Id>,
    trees: Vec<Id>,
    files: Vec<(String, Loaded)>,
}

/// What becomes of a pack of the index.
#[derive(Default)]
struct Pack<'a> {
    id: Id,
    size: u64,
    blobs: &'a [PackedBlob],
    /// Which of `blobs` are needed from here.
    used: Vec<bool>,
    used_bytes: u64,
    repack: bool,
}

impl Pack<'_> {
    fn needed(&self) -> Vec<PackedBlob> {
        let pairs = self.blobs.iter().zip(&self.used);
        pairs.filter(|(_, used)| **used).map(|(blob, _)| *blob).collect()
    }
}

impl Repository {
    /// Frees what no snapshot needs; see [`crate::prune`]. Other backups, restores and prunes may run meanwhile.
    ///
    /// # Errors
    /// Something that a snapshot needs is missing or can not be read: then nothing is changed, since what looks unneeded
    /// may be what is missed. Or the storage fails, lets nothing be deleted, or it was cancelled.
    pub fn prune(
        &self,
        options: &PruneOptions,
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<PruneReport> {
        let now = || options.now.unwrap_or_else(Timestamp::now);
        let others = self.others_at_work()?;
        let found = self.look_around()?;
        self.replace_index(&found.files);
        let mut report = PruneReport {
            snapshots: found.snapshots.len() as u64,
            ..PruneReport::default()
        };
        let used = self.needed_blobs(&found.trees, cancel)?;
        let mut packs = self.judge(&found, used)?;
        choose(&mut packs, options, &mut report);
        if !options.dry_run {
            self.repack(&mut packs, &mut report, progress, cancel)?;
        }

        // Marks that there will be, and packs whose time has come.
        let (mut marks, mut gone) = (Vec::new(), IdSet::default());
        let indexed: IdSet = packs.iter().map(|p| p.id).collect();
        let strays = found.stored.iter().filter(|(id, _)| !indexed.contains(id));
        let unneeded = packs
            .iter()
            .filter(|p| p.used_bytes == 0 || p.repack)
            .map(|p| (p.id, p.size))
            .chain(strays.map(|(id, size)| (*id, *size)));
        let leases: Vec<Lease> = found.files.iter().filter_map(|(_, f)| f.lease).collect();
        let marked_at = now();
        let index = self.index().read();
        // What was copied just now was needed until now.
        let copied: IdSet = packs.iter().filter(|p| p.repack).map(|p| p.id).collect();
        for (id, size) in unneeded {
            let Some(mark) = index.mark(&id).filter(|_| !copied.contains(&id)) else {
                report.marked_packs += 1;
                report.marked_bytes += size;
                marks.push(Mark::new(id, marked_at, size));
                continue;
            };
            let spared = leases.iter().any(|l| l.is_live(now()) && l.protects(mark.last));
            // A mark whose time could not be read is made anew.
            let last = mark.last.min(marked_at);
            if mark.last == last && now().duration_since(last) >= GRACE && !spared {
                if !others {
                    gone.insert(id);
                    report.deleted_packs += 1;
                    report.deleted_bytes += size;
                    continue;
                }
                report.postponed = Some("stock restic is using the repository".into());
            }
            report.waiting_packs += 1;
            report.waiting_bytes += size;
            marks.push(Mark::new(id, last, size));
        }
        let needed = packs.iter().filter(|p| p.used_bytes > 0 && !p.repack);
        report.recovered_packs = needed.filter(|p| index.mark(&p.id).is_some()).count() as u64;
        drop(index);
        if options.dry_run {
            return Ok(report);
        }
        self.rewrite_index(&found, marks, &gone, now(), cancel)?;
        if !gone.is_empty()
            && let Some(why) = self.somebody_came(&found, cancel)?
        {
            self.put_back(&found, &gone)?;
            report.postponed = Some(why);
            report.waiting_packs += std::mem::take(&mut report.deleted_packs);
            report.waiting_bytes += std::mem::take(&mut report.deleted_bytes);
            gone.clear();
        }
        let gone: Vec<Id> = gone.into_iter().collect();
        self.for_each(&gone, cancel, |id| {
            Ok(self.backend().delete(FileKind::Pack, &id.to_string())?)
        })?;
        self.load_index()?;
        // What was not needed for a time was not locked for longer meanwhile.
        self.protect(report.recovered_packs > 0, cancel)?;
        self.backend().clear()?;
        Ok(report)
    }

    /// Lists and reads in the order in which programs write in reverse, so that a snapshot's index and packs are seen.
    fn look_around(&self) -> RepoResult<Found> {
        let list = || -> RepoResult<IdMap<u64>> {
            let listed = self.backend().list(FileKind::Pack)?;
            Ok(listed
                .into_iter()
                .filter_map(|(name, size)| Some((Id::parse(&name)?, size)))
                .collect())
        };
        let mut stored = list()?;
        let (snapshots, damaged) = self.snapshots_with_damage()?;
        if let Some(damaged) = damaged.first() {
            return Err(RepoError::Damaged(format!(
                "{damaged}; what it needs is not known, so nothing is freed before it is removed or repaired"
            )));
        }
        let files = self.read_index(self.index_names()?)?;
        // A pack written since it was listed.
        if files
            .iter()
            .flat_map(|(_, f)| &f.packs)
            .any(|(id, _)| !stored.contains_key(id))
        {
            stored = list()?;
        }
        Ok(Found {
            stored,
            snapshots: snapshots.iter().map(|s| s.id).collect(),
            trees: snapshots.iter().map(|s| s.tree).collect(),
            files,
        })
    }

    /// All blobs below some trees, the trees included.
    fn needed_blobs(&self, trees: &[Id], cancel: &Cancel) -> RepoResult<[IdSet; 2]> {
        let used = Mutex::new([IdSet::default(), IdSet::default()]);
        let failed = Mutex::new(None);
        self.walk_trees(trees, cancel, &|id, tree| match tree {
            Ok(tree) => {
                let mut used = used.lock();
                used[BlobType::Tree as usize].insert(*id);
                let content = tree.nodes.iter().flat_map(|n| n.content.iter().copied());
                used[BlobType::Data as usize].extend(content);
            }
            Err(e) => {
                let text = format!("tree {id} that a snapshot needs: {e}; repair the repository first");
                let e = if e.is_passing() {
                    e
                } else {
                    RepoError::Damaged(text)
                };
                failed.lock().get_or_insert(e);
            }
        })?;
        failed.into_inner().map_or(Ok(used.into_inner()), Err)
    }

    /// Finds out what is needed of each pack. Of several packs with a blob those that are not marked come first, so
    /// that all prunes that run at once choose the same.
    fn judge<'a>(&self, found: &'a Found, mut used: [IdSet; 2]) -> RepoResult<Vec<Pack<'a>>> {
        let index = self.index().read();
        let mut seen = IdSet::default();
        let mut listed: Vec<(bool, Id, &[PackedBlob])> = current(&found.files)
            .flat_map(|f| &f.packs)
            .filter(|(id, _)| found.stored.contains_key(id) && seen.insert(*id))
            .map(|(id, blobs)| (index.mark(id).is_some(), *id, &blobs[..]))
            .collect();
        listed.sort_unstable_by_key(|(marked, id, _)| (*marked, *id));
        let mut packs = Vec::with_capacity(listed.len());
        for (_, id, blobs) in listed {
            let mut pack = Pack {
                id,
                size: found.stored[&id],
                blobs,
                ..Pack::default()
            };
            for blob in blobs {
                let needed = used[blob.kind as usize].remove(&blob.id);
                pack.used_bytes += if needed { u64::from(blob.length) } else { 0 };
                pack.used.push(needed);
            }
            packs.push(pack);
        }
        let missing: usize = used.iter().map(IdSet::len).sum();
        if let Some(id) = used.iter().flatten().next() {
            return Err(RepoError::Damaged(format!(
                "{missing} blobs that snapshots need are in no pack of the index, such as {id}; repair the repository first"
            )));
        }
        Ok(packs)
    }

    /// Copies what is needed of the packs chosen for it. A pack that can not be read whole stays.
    fn repack(
        &self,
        packs: &mut [Pack],
        report: &mut PruneReport,
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<()> {
        let chosen: Vec<(usize, Id, Vec<PackedBlob>)> = packs
            .iter()
            .enumerate()
            .filter(|(_, p)| p.repack)
            .map(|(n, p)| (n, p.id, p.needed()))
            .collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let packer = Packer::new(self);
        let failed = Mutex::new(Vec::new());
        let copied = std::thread::scope(|scope| {
            // More is written than is worked on: as many as the storage takes.
            for _ in 0..self.backend().parallel() {
                scope.spawn(|| packer.write_loop(progress, cancel));
            }
            let copied = self.for_each(&chosen, cancel, |(n, id, blobs)| {
                match self.read_blobs(*id, blobs, progress) {
                    Ok(sealed) => {
                        for (blob, sealed) in blobs.iter().zip(&sealed) {
                            packer.add(blob.kind, blob.id, sealed, blob.uncompressed)?;
                        }
                    }
                    Err(
                        e @ (RepoError::Damaged(_)
                        | RepoError::Storage(StorageError::NotFound(_) | StorageError::Other(_))),
                    ) => failed.lock().push((*n, format!("pack {id}: {e}"))),
                    Err(e) => return Err(e),
                }
                Ok(())
            });
            copied.and(packer.close())
        });
        // What was written is indexed even if something failed.
        let indexed = packer.finish(progress);
        if let Some(e) = packer.failure() {
            return Err(e);
        }
        copied?;
        indexed?;
        for (n, error) in failed.into_inner() {
            packs[n].repack = false;
            report.repacked_packs -= 1;
            report.repacked_bytes -= packs[n].used_bytes;
            report.errors.push(error);
        }
        Ok(())
    }

    /// Reads blobs of a pack as they are, and verifies them.
    pub(crate) fn read_blobs(
        &self,
        pack: Id,
        blobs: &[PackedBlob],
        progress: &Progress,
    ) -> RepoResult<Vec<Vec<u8>>> {
        let mut order: Vec<usize> = (0..blobs.len()).collect();
        order.sort_unstable_by_key(|&i| blobs[i].offset);
        let mut out = vec![Vec::new(); blobs.len()];
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let start = blobs[first].offset;
            let mut end = start;
            let together = rest.iter().take_while(|&&i| {
                let near = blobs[i].offset <= end.saturating_add(MAX_GAP) && end - start < MAX_READ;
                if near {
                    end = end.max(blobs[i].offset.saturating_add(blobs[i].length));
                }
                near
            });
            let (group, after) = rest.split_at(together.count());
            rest = after;
            let name = pack.to_string();
            let length = (end - start) as usize;
            let mut part = self
                .backend()
                .get_range(FileKind::Pack, &name, u64::from(start), length)?;
            Progress::add(&progress.downloaded, length as u64);
            for &i in group {
                let blob = &blobs[i];
                let from = (blob.offset - start) as usize;
                let sealed = &mut part[from..from + blob.length as usize];
                out[i] = sealed.to_vec();
                self.open_blob(&blob.id, sealed, blob.uncompressed)?;
            }
        }
        Ok(out)
    }

    /// Writes index files that say what there is without `gone`, with these marks, and removes those that they replace.
    fn rewrite_index(
        &self,
        found: &Found,
        marks: Vec<Mark>,
        gone: &IdSet,
        now: Timestamp,
        cancel: &Cancel,
    ) -> RepoResult<()> {
        let replaced: IdSet = found
            .files
            .iter()
            .flat_map(|(_, f)| f.supersedes.iter().copied())
            .collect();
        let mut before: Vec<(Id, Option<Timestamp>)> = Vec::new();
        before.extend(found.files.iter().flat_map(|(_, f)| f.marks.iter().copied()));
        let mut after: Vec<(Id, Option<Timestamp>)> = marks.iter().map(|m| (m.id, Some(m.time))).collect();
        before.sort_unstable();
        after.sort_unstable();
        let new_marks = before != after;
        let size = |f: &Loaded| f.packs.iter().map(|(_, blobs)| blobs.len()).sum::<usize>();
        let is_small = |f: &Loaded| f.lease.is_none() && f.marks.is_empty() && size(f) < FEW_BLOBS;
        let many = found.files.iter().filter(|(_, f)| is_small(f)).count() >= MANY_FILES;
        let leaves = |f: &Loaded| {
            let lost = |(id, _): &(Id, _)| gone.contains(id) || !found.stored.contains_key(id);
            (new_marks && !f.marks.is_empty())
                || f.packs.iter().any(lost)
                || f.lease.is_some_and(|l| !l.is_live(now))
                || (many && is_small(f))
        };
        let old: Vec<&(String, Loaded)> = found
            .files
            .iter()
            .filter(|(name, f)| leaves(f) || Id::parse(name).is_some_and(|id| replaced.contains(&id)))
            .collect();
        let mut seen = IdSet::default();
        let (mut packs, mut blobs) = (Vec::new(), 0);
        let kept = old
            .iter()
            .filter(|(name, _)| Id::parse(name).is_some_and(|id| !replaced.contains(&id)))
            .flat_map(|(_, f)| &f.packs)
            .filter(|(id, _)| !gone.contains(id) && found.stored.contains_key(id));
        let write = |packs: Vec<IndexPack>, marks: Vec<Mark>| {
            let file = IndexFile {
                packs,
                packs_to_delete: marks,
                ..IndexFile::default()
            };
            self.save_json(FileKind::Index, &file).map(|_| ())
        };
        for (id, content) in kept.filter(|(id, _)| seen.insert(*id)) {
            packs.push(IndexPack::new(*id, content));
            blobs += content.len();
            if blobs >= BLOBS_PER_INDEX {
                write(std::mem::take(&mut packs), Vec::new())?;
                blobs = 0;
            }
        }
        if !packs.is_empty() {
            write(packs, Vec::new())?;
        }
        if new_marks && !marks.is_empty() {
            write(Vec::new(), marks)?;
        }
        self.for_each(&old, cancel, |(name, _)| {
            Ok(self.backend().delete(FileKind::Index, name)?)
        })
    }

    /// Whether a program has come, after the index was changed, that counts on what it said before.
    fn somebody_came(&self, found: &Found, cancel: &Cancel) -> RepoResult<Option<String>> {
        let locked = match self.others_at_work() {
            Err(RepoError::Locked(_)) => true,
            r => r?,
        };
        if locked {
            return Ok(Some("stock restic has begun to use the repository".into()));
        }
        let known: IdSet = found.snapshots.iter().copied().collect();
        let new: Vec<Id> = self
            .snapshots()?
            .iter()
            .filter(|s| !known.contains(&s.id))
            .map(|s| s.tree)
            .collect();
        if new.is_empty() {
            return Ok(None);
        }
        self.reload_index()?;
        let needed = self.needed_blobs(&new, cancel);
        let index = self.index().read();
        let whole = match &needed {
            Ok([data, trees]) => {
                data.iter().all(|id| index.find(BlobType::Data, id).is_some())
                    && trees.iter().all(|id| index.find(BlobType::Tree, id).is_some())
            }
            Err(RepoError::Damaged(_)) => false,
            Err(_) => return needed.map(|_| None),
        };
        Ok((!whole).then(|| "a new snapshot needs what was to be deleted".into()))
    }

    /// Puts packs into the index again that were taken out.
    fn put_back(&self, found: &Found, gone: &IdSet) -> RepoResult<()> {
        let mut seen = IdSet::default();
        let packs = current(&found.files)
            .flat_map(|f| &f.packs)
            .filter(|(id, _)| gone.contains(id) && seen.insert(*id))
            .map(|(id, blobs)| IndexPack::new(*id, blobs))
            .collect();
        let file = IndexFile {
            packs,
            ..IndexFile::default()
        };
        self.save_json(FileKind::Index, &file).map(|_| ())
    }

    /// Runs something for each of some things, in as many threads as pay off; the first failure counts.
    pub(crate) fn for_each<T: Sync>(
        &self,
        things: &[T],
        cancel: &Cancel,
        run: impl Fn(&T) -> RepoResult<()> + Sync,
    ) -> RepoResult<()> {
        let next = AtomicUsize::new(0);
        let stop = AtomicUsize::new(0);
        let work = || -> RepoResult<()> {
            while let Some(thing) = things.get(next.fetch_add(1, Ordering::Relaxed)) {
                if cancel.is_cancelled() {
                    return Err(RepoError::Cancelled);
                }
                if stop.load(Ordering::Relaxed) > 0 {
                    return Ok(());
                }
                if let Err(e) = run(thing) {
                    stop.store(1, Ordering::Relaxed);
                    return Err(e);
                }
            }
            Ok(())
        };
        let threads = self.threads().min(things.len());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let ended: Vec<_> = threads
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect();
            ended
                .into_iter()
                .try_for_each(|r| r.map_err(|_| RepoError::Stopped)?)
        })
    }
}

/// Chooses the packs to copy: those with most that is not needed first, until little enough of that stays or the cost is
/// spent; and small ones, if together they fill a pack.
fn choose(packs: &mut [Pack], options: &PruneOptions, report: &mut PruneReport) {
    let used: u64 = packs.iter().map(|p| p.used_bytes).sum();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let limit = (used as f64 * options.max_unused_percent / 100.0) as u64;
    let mut partly: Vec<&mut Pack> = packs.iter_mut().filter(|p| p.used_bytes > 0).collect();
    // The header is no waste.
    let unused = |p: &Pack| {
        let blobs: u64 = p.blobs.iter().map(|b| u64::from(b.length)).sum();
        blobs - p.used_bytes
    };
    let mut left: u64 = partly.iter().map(|p| unused(p)).sum();
    partly.sort_by_cached_key(|p| (std::cmp::Reverse(unused(p) * 1000 / p.size.max(1)), p.id));
    let mut cost = 0u64;
    for pack in &mut partly {
        let waste = unused(pack);
        if waste == 0 || left <= limit {
            break;
        }
        if cost + pack.used_bytes <= options.max_repack {
            cost += pack.used_bytes;
            left -= waste;
            pack.repack = true;
        }
    }
    for kind in [BlobType::Data, BlobType::Tree] {
        let is_small = |p: &Pack| p.size < SMALL && p.blobs.first().is_some_and(|b| b.kind == kind);
        let small = partly.iter().filter(|p| is_small(p)).map(|p| p.used_bytes);
        if small.sum::<u64>() < PACK_SIZE as u64 {
            continue;
        }
        for pack in partly.iter_mut().filter(|p| is_small(p)) {
            if !pack.repack && cost + pack.used_bytes <= options.max_repack {
                cost += pack.used_bytes;
                left -= unused(pack);
                pack.repack = true;
            }
        }
    }
    report.used_bytes = used;
    report.unused_bytes = left;
    report.repacked_packs = partly.iter().filter(|p| p.repack).count() as u64;
    report.repacked_bytes = cost;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alive::Alive;
    use crate::archive::BackupOptions;
    use crate::repository::InitOptions;
    use jiff::SignedDuration;

    #[test]
    fn what_was_marked_since_a_long_backup_began_is_spared_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let backend = std::sync::Arc::new(encke_storage::Local::new(dir.path()));
        let repo = Repository::init(backend, "password", InitOptions::default()).unwrap();
        let stream = |text: &str| {
            let (options, progress, cancel) =
                (BackupOptions::default(), Progress::default(), Cancel::default());
            repo.backup_reader("/s".as_ref(), &mut text.as_bytes(), &options, &progress, &cancel)
                .unwrap()
        };
        let now = Timestamp::now();
        let prune = |hours: i64| {
            let options = PruneOptions {
                now: Some(now + SignedDuration::from_hours(hours)),
                ..PruneOptions::default()
            };
            repo.prune(&options, &Progress::default(), &Cancel::default())
                .unwrap()
        };
        let forget = |id: &str| repo.delete_snapshots(&[Id::parse(id).unwrap()]).unwrap();
        let index = || repo.index_names().unwrap().len();
        let (old, new) = (stream("old"), stream("new"));
        forget(&old.snapshot_id);
        // Marked long before the backup begins: it does not count on that.
        let marked = prune(-20).marked_packs;
        assert!(marked > 0);
        let backup = Alive::new(&repo);
        forget(&new.snapshot_id);
        prune(2);
        let before = index();
        for hours in [4, 8, 12, 16, 20, 24] {
            backup.say(now + SignedDuration::from_hours(hours)).unwrap();
            assert_eq!(index(), before + 1, "the file before is removed");
        }
        let report = prune(30);
        assert_eq!(report.deleted_packs, marked, "{report:?}");
        assert_eq!(report.waiting_packs, marked, "{report:?}");
        // What it says is good for a day.
        let report = prune(49);
        assert_eq!(
            (report.deleted_packs, report.waiting_packs),
            (marked, 0),
            "{report:?}"
        );
        assert!(!backup.is_protected() || index() == 0,);
        drop(backup);
        assert_eq!(index(), 0);
    }
}
