//! Repair: an index made from packs alone, and snapshots without what is lost. Nothing that can be read is given up, and
//! what is lost is told by name.
//!
//! A repository is repaired in this order: the index ([`Repository::repair_index`]), a backup with all files read, which
//! brings back what is still on the device, and then the snapshots ([`Repository::repair_snapshots`]).

use crate::error::{RepoError, RepoResult};
use crate::gotext;
use crate::id::{Id, IdMap, IdSet};
use crate::index::{IndexFile, IndexPack};
use crate::node::{NodeType, parse_known};
use crate::pack::{self, BlobType, PackedBlob};
use crate::packer::Packer;
use crate::progress::{Cancel, Progress};
use crate::repository::{Repository, current};
use crate::snapshot::Snapshot;
use encke_storage::{FileKind, StorageError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Blobs in an index file at most, unless one pack has more.
const BLOBS_PER_INDEX: usize = 50_000;
/// Bytes at a pack's end that are read in the hope that its header is in them.
const TAIL: u64 = 32 * 1024;
/// Added to the name of a file of which a part is left.
const DAMAGED: &str = ".damaged";

/// What a repair of the index found and did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct IndexRepair {
    /// Packs that were in no index and are now.
    pub added_packs: u64,
    /// Packs that the index named and that are not there.
    pub missing_packs: Vec<Id>,
    /// Index files that could not be read, with the reason. They are removed.
    pub damaged_index_files: Vec<String>,
    /// Packs that are damaged, with the reason. What can be read of them was copied into new ones; the packs themselves
    /// are in no index any more, and a prune will delete them.
    pub damaged_packs: Vec<String>,
    /// Blobs of damaged packs that are in no other.
    pub lost_blobs: u64,
}

/// What a repair of snapshots found and did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct SnapshotRepair {
    /// Snapshots of which nothing is lost.
    pub whole: u64,
    /// Snapshots that lost something.
    pub repaired: Vec<RepairedSnapshot>,
    /// Snapshots that can not be read at all, with the reason.
    pub unreadable: Vec<String>,
}

/// A snapshot that lost something.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RepairedSnapshot {
    /// The snapshot.
    pub id: Id,
    /// The one without what is lost; nothing on a trial run or if all of it is lost.
    pub new_id: Option<Id>,
    /// What is lost.
    pub lost: Vec<Lost>,
}

/// A file or folder that lost something.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// Full path inside the snapshot.
    pub path: PathBuf,
    /// What of it, for people.
    pub what: String,
}

/// A tree without what is lost.
#[derive(Clone, Default)]
struct Mended {
    /// Nothing if the tree can not be read.
    tree: Option<Id>,
    /// Relative to the tree.
    lost: Vec<Lost>,
}

impl Repository {
    /// Brings the index in line with the packs: adds packs that are in none, by their own headers, and takes out packs
    /// that are not there. With `read_data` every pack is read, and what is sound in damaged ones is copied.
    ///
    /// # Errors
    /// The storage fails, or it was cancelled.
    pub fn repair_index(
        &self,
        read_data: bool,
        dry_run: bool,
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<IndexRepair> {
        self.check_exclusive()?;
        // The index first: a pack written meanwhile is not missed.
        let (files, damaged) = self.read_index_with_damage(self.index_names()?)?;
        self.replace_index(&files);
        let stored: IdMap<u64> = self
            .backend()
            .list(FileKind::Pack)?
            .into_iter()
            .filter_map(|(name, size)| Some((Id::parse(&name)?, size)))
            .collect();
        let mut known: IdMap<&[PackedBlob]> = IdMap::default();
        for (id, blobs) in current(&files).flat_map(|f| &f.packs) {
            known.insert(*id, blobs);
        }
        let mut report = IndexRepair {
            damaged_index_files: damaged.iter().map(|(_, e)| e.clone()).collect(),
            missing_packs: known
                .keys()
                .filter(|id| !stored.contains_key(id))
                .copied()
                .collect(),
            ..IndexRepair::default()
        };
        report.missing_packs.sort_unstable();

        let packs: Vec<(Id, u64)> = stored.iter().map(|(id, size)| (*id, *size)).collect();
        let added: Mutex<Vec<(Id, Vec<PackedBlob>)>> = Mutex::default();
        let broken: Mutex<Vec<(Id, String, Vec<PackedBlob>)>> = Mutex::default();
        self.for_each(&packs, cancel, |&(id, size)| {
            let listed = known.get(&id).copied();
            if listed.is_some() && !read_data {
                return Ok(());
            }
            let found = if read_data {
                self.verify_pack(id, listed, progress)?
            } else {
                self.pack_header(id, size, progress)?.map_err(|e| (e, Vec::new()))
            };
            match found {
                Ok(blobs) if listed.is_none() => added.lock().push((id, blobs)),
                Ok(_) => {}
                Err((e, sound)) => broken.lock().push((id, format!("pack {id}: {e}"), sound)),
            }
            Ok(())
        })?;
        let (added, broken) = (added.into_inner(), broken.into_inner());
        report.added_packs = added.len() as u64;
        report.damaged_packs = broken.iter().map(|(_, e, _)| e.clone()).collect();
        report.damaged_packs.sort_unstable();
        // What is damaged leaves the index; but a pack whose header only was not read has never been in it.
        let leaving: IdSet = broken
            .iter()
            .map(|(id, ..)| *id)
            .chain(report.missing_packs.iter().copied())
            .collect();
        // Nothing is lost where nothing leaves; a set of all blobs is large.
        if !leaving.is_empty() {
            let mut there: [IdSet; 2] = Default::default();
            let staying = known
                .iter()
                .filter(|(id, _)| !leaving.contains(id))
                .flat_map(|(_, blobs)| *blobs);
            for b in staying
                .chain(added.iter().flat_map(|(_, blobs)| blobs))
                .chain(broken.iter().flat_map(|(_, _, sound)| sound))
            {
                there[b.kind as usize].insert(b.id);
            }
            let gone: IdSet = leaving
                .iter()
                .filter_map(|id| known.get(id))
                .flat_map(|blobs| blobs.iter())
                .filter(|b| !there[b.kind as usize].contains(&b.id))
                .map(|b| b.id)
                .collect();
            report.lost_blobs = gone.len() as u64;
        }
        if dry_run {
            return Ok(report);
        }
        self.salvage(&broken, progress, cancel)?;
        // New files before the old ones go.
        let is_old = |f: &crate::index::Loaded| f.packs.iter().any(|(id, _)| leaving.contains(id));
        let old: Vec<_> = files.iter().filter(|(_, f)| is_old(f)).collect();
        let mut seen = IdSet::default();
        let kept = old
            .iter()
            .flat_map(|(_, f)| &f.packs)
            .filter(|(id, _)| !leaving.contains(id));
        let (mut packs, mut blobs) = (Vec::new(), 0);
        for (id, content) in kept.chain(&added).filter(|(id, _)| seen.insert(*id)) {
            packs.push(IndexPack::new(*id, content));
            blobs += content.len();
            if blobs >= BLOBS_PER_INDEX {
                self.write_index_file(std::mem::take(&mut packs))?;
                blobs = 0;
            }
        }
        if !packs.is_empty() {
            self.write_index_file(packs)?;
        }
        let unreadable = damaged.iter().map(|(name, _)| name);
        for name in old.iter().map(|(name, _)| name).chain(unreadable) {
            self.backend().delete(FileKind::Index, name)?;
        }
        // What was read is in the index now, which takes room as well.
        drop(known);
        drop((added, files));
        self.reload_index()?;
        Ok(report)
    }

    fn write_index_file(&self, packs: Vec<IndexPack>) -> RepoResult<()> {
        let file = IndexFile {
            packs,
            ..IndexFile::default()
        };
        self.save_json(FileKind::Index, &file).map(|_| ())
    }

    /// The blobs that a pack's own header lists, or why there are none.
    pub(crate) fn pack_header(
        &self,
        id: Id,
        size: u64,
        progress: &Progress,
    ) -> RepoResult<Result<Vec<PackedBlob>, String>> {
        let mut wanted = TAIL.min(size);
        loop {
            let length = usize::try_from(wanted).map_err(|_| RepoError::Stopped)?;
            let tail = match self
                .backend()
                .get_range(FileKind::Pack, &id.to_string(), size - wanted, length)
            {
                Err(e @ (StorageError::NotFound(_) | StorageError::Other(_))) => {
                    return Ok(Err(e.to_string()));
                }
                r => r?,
            };
            Progress::add(&progress.downloaded, wanted);
            let header = tail
                .last_chunk::<4>()
                .map(|l| u64::from(u32::from_le_bytes(*l)) + 4);
            match header {
                Some(header) if header > wanted && header <= size && wanted < size => wanted = header,
                _ => {
                    let blobs = pack::header(self.key(), &tail).map_err(|e| e.to_string());
                    // They fill the pack, or something else is wrong.
                    return Ok(blobs.and_then(|blobs| {
                        let end: u64 = blobs.iter().map(|b| u64::from(b.length)).sum();
                        if Some(end) == header.and_then(|h| size.checked_sub(h)) {
                            Ok(blobs)
                        } else {
                            Err("its header does not fit it".into())
                        }
                    }));
                }
            }
        }
    }

    /// Reads a pack whole. Answers its blobs if all are sound, or what is wrong and the blobs that are sound. Where the
    /// pack's header can not be read, the index tells what it held.
    #[allow(clippy::type_complexity)]
    fn verify_pack(
        &self,
        id: Id,
        listed: Option<&[PackedBlob]>,
        progress: &Progress,
    ) -> RepoResult<Result<Vec<PackedBlob>, (String, Vec<PackedBlob>)>> {
        let content = match self.backend().get(FileKind::Pack, &id.to_string()) {
            Err(e @ (StorageError::NotFound(_) | StorageError::Other(_))) => {
                return Ok(Err((e.to_string(), Vec::new())));
            }
            r => r?,
        };
        Progress::add(&progress.downloaded, content.len() as u64);
        let (blobs, mut wrong) = match (pack::header(self.key(), &content), listed) {
            (Ok(blobs), _) => (blobs, None),
            (Err(e), Some(listed)) => (listed.to_vec(), Some(e.to_string())),
            (Err(e), None) => return Ok(Err((e.to_string(), Vec::new()))),
        };
        let mut sound = Vec::with_capacity(blobs.len());
        for blob in blobs {
            let from = blob.offset as usize;
            let opened = content
                .get(from..from.saturating_add(blob.length as usize))
                .map(|sealed| self.open_blob(&blob.id, &mut sealed.to_vec(), blob.uncompressed));
            match opened {
                Some(Ok(_)) => sound.push(blob),
                Some(Err(e)) => wrong = Some(e.to_string()),
                None => wrong = Some("it is too short".into()),
            }
        }
        if wrong.is_none() && Id::of(&content) != id {
            wrong = Some("the content is not what the name says".into());
        }
        Ok(match wrong {
            None => Ok(sound),
            Some(e) => Err((e, sound)),
        })
    }

    /// Copies sound blobs of damaged packs into new ones.
    fn salvage(
        &self,
        broken: &[(Id, String, Vec<PackedBlob>)],
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<()> {
        if broken.iter().all(|(.., sound)| sound.is_empty()) {
            return Ok(());
        }
        let packer = Packer::new(self);
        let copied = std::thread::scope(|scope| {
            for _ in 0..self.writers() {
                scope.spawn(|| packer.write_loop(progress, cancel));
            }
            let copied = self.for_each(broken, cancel, |(id, _, sound)| {
                for (blob, sealed) in sound.iter().zip(self.read_blobs(*id, sound, progress)?) {
                    packer.add(blob.kind, blob.id, &sealed, blob.uncompressed)?;
                }
                Ok(())
            });
            copied.and(packer.close())
        });
        let indexed = packer.finish(progress);
        packer.failure().map_or(Ok(()), Err)?;
        copied.and(indexed)
    }

    /// Finds what snapshots have lost, and writes for each that has a new one without it. Of a file that is lost in
    /// part, what is left is kept under its name and `.damaged`. With `forget` the snapshots that have lost something
    /// go, and those that can not be read.
    ///
    /// # Errors
    /// The storage or the index fails, or it was cancelled.
    pub fn repair_snapshots(
        &self,
        forget: bool,
        dry_run: bool,
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<SnapshotRepair> {
        self.check_exclusive()?;
        self.reload_index()?;
        let (snapshots, unreadable) = self.snapshots_with_damage()?;
        let packer = Packer::new(self);
        let mut mended: HashMap<Id, Mended> = HashMap::new();
        let fixed = std::thread::scope(|scope| {
            scope.spawn(|| packer.write_loop(progress, cancel));
            let fixed: RepoResult<Vec<Mended>> = snapshots
                .iter()
                .map(|s| self.mend(s.tree, &mut mended, &packer, dry_run, cancel))
                .collect();
            packer.close().and(fixed)
        });
        let indexed = packer.finish(progress);
        packer.failure().map_or(Ok(()), Err)?;
        let fixed = fixed?;
        indexed?;
        let mut report = SnapshotRepair {
            unreadable,
            ..SnapshotRepair::default()
        };
        let mut gone = Vec::new();
        for (snapshot, fixed) in snapshots.iter().zip(fixed) {
            if fixed.tree == Some(snapshot.tree) {
                report.whole += 1;
                continue;
            }
            let mut new_id = None;
            if let Some(tree) = fixed.tree.filter(|_| !dry_run) {
                let mut tags = snapshot.tags.clone();
                if !tags.iter().any(|t| t == "repaired") {
                    tags.push("repaired".into());
                }
                let new = Snapshot {
                    tree,
                    tags,
                    original: Some(snapshot.original.unwrap_or(snapshot.id)),
                    ..snapshot.clone()
                };
                // A repair that was killed may have written it.
                let same = |s: &&Snapshot| s.tree == tree && s.original == new.original && s.time == new.time;
                new_id = Some(match snapshots.iter().find(same) {
                    Some(written) => written.id,
                    None => self.save_json(FileKind::Snapshot, &new)?.0,
                });
            }
            gone.push(snapshot.id.to_string());
            let root = |l: Lost| Lost {
                path: Path::new("/").join(l.path),
                ..l
            };
            report.repaired.push(RepairedSnapshot {
                id: snapshot.id,
                new_id,
                lost: fixed.lost.into_iter().map(root).collect(),
            });
        }
        if forget && !dry_run {
            // A damaged snapshot's line begins with its name.
            let names = report
                .unreadable
                .iter()
                .filter_map(|line| line.split([' ', ':']).nth(1));
            gone.extend(names.map(str::to_string));
            for name in gone {
                self.backend().delete(FileKind::Snapshot, &name)?;
            }
        }
        Ok(report)
    }

    /// The tree without what is lost below it. Entries that have lost nothing stay letter by letter.
    fn mend(
        &self,
        id: Id,
        done: &mut HashMap<Id, Mended>,
        packer: &Packer,
        dry_run: bool,
        cancel: &Cancel,
    ) -> RepoResult<Mended> {
        if let Some(mended) = done.get(&id) {
            return Ok(mended.clone());
        }
        if cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        let nodes = match self
            .load_blob(BlobType::Tree, &id)
            .and_then(|json| parse_known(&json))
        {
            Ok(nodes) => nodes,
            Err(e) if e.is_passing() => return Err(e),
            Err(e) => {
                let what = format!("the listing of this folder, with all that is in it ({e})");
                let path = PathBuf::new();
                let mended = Mended {
                    tree: None,
                    lost: vec![Lost { path, what }],
                };
                done.insert(id, mended.clone());
                return Ok(mended);
            }
        };
        let mut lost = Vec::new();
        let mut kept: Vec<(Vec<u8>, String)> = Vec::with_capacity(nodes.len());
        for known in nodes {
            let mut node = known.node;
            let path = PathBuf::from(OsStr::from_bytes(&node.name));
            match (node.kind, node.subtree) {
                (NodeType::Dir, Some(subtree)) => {
                    let below = self.mend(subtree, done, packer, dry_run, cancel)?;
                    lost.extend(below.lost.iter().map(|l| Lost {
                        path: if l.path.as_os_str().is_empty() {
                            path.clone()
                        } else {
                            path.join(&l.path)
                        },
                        what: l.what.clone(),
                    }));
                    if below.tree == Some(subtree) {
                        kept.push((node.name, known.text));
                    } else if let Some(tree) = below.tree {
                        node.subtree = Some(tree);
                        kept.push((node.name.clone(), node.to_json()));
                    }
                }
                (NodeType::File, _) => {
                    let index = self.index().read();
                    let sizes: Vec<_> = node
                        .content
                        .iter()
                        .map(|b| index.find(BlobType::Data, b).map(|at| at.size()))
                        .collect();
                    drop(index);
                    if sizes.iter().all(Option::is_some) {
                        kept.push((node.name, known.text));
                        continue;
                    }
                    let left: u64 = sizes.iter().flatten().sum();
                    let what = format!("{} of {} bytes", node.size.saturating_sub(left), node.size);
                    lost.push(Lost { path, what });
                    if left > 0 {
                        let pairs = node.content.iter().zip(&sizes);
                        node.content = pairs
                            .filter(|(_, size)| size.is_some())
                            .map(|(b, _)| *b)
                            .collect();
                        node.size = left;
                        // Another file of an inode that is not the same any more.
                        node.links = 1;
                        node.name.extend_from_slice(DAMAGED.as_bytes());
                        kept.push((node.name.clone(), node.to_json()));
                    }
                }
                _ => kept.push((node.name, known.text)),
            }
        }
        let tree = if lost.is_empty() {
            id
        } else {
            kept.sort();
            kept.dedup_by(|a, b| a.0 == b.0);
            let texts: Vec<String> = kept.into_iter().map(|(_, text)| text).collect();
            let json = format!("{{\"nodes\":[{}]}}\n", texts.join(","));
            let new = Id::of(json.as_bytes());
            if !dry_run && !self.index().read().has(BlobType::Tree, &new) {
                let (mut sealed, mut size) = (Vec::new(), 0);
                if self.compresses() {
                    let packed = zstd::bulk::compress(json.as_bytes(), 3)
                        .map_err(|e| RepoError::Invalid(format!("compression: {e}")))?;
                    self.key().seal(&packed, &mut sealed)?;
                    size = u32::try_from(json.len()).map_err(|_| RepoError::Stopped)?;
                } else {
                    self.key().seal(json.as_bytes(), &mut sealed)?;
                }
                packer.add(BlobType::Tree, new, &sealed, size)?;
            }
            new
        };
        let mended = Mended {
            tree: Some(tree),
            lost,
        };
        done.insert(id, mended.clone());
        Ok(mended)
    }
}

/// A path for people, on one line.
#[must_use]
pub fn shown(path: &Path) -> String {
    gotext::quote(path.as_os_str().as_bytes()).into_owned()
}
