//! Which pack holds which blob (restic design document, section "Indexing").
//!
//! What the repository's index files say is kept in sorted arrays, 48 bytes a blob and one more for the table of where
//! to begin searching; only what this process has added since stands in hash maps.

use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdMap, IdSet};
use crate::pack::{BlobType, PackedBlob};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a blob lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    /// Number of the pack in [`Index::packs`].
    pub pack: u32,
    pub offset: u32,
    pub length: u32,
    pub uncompressed: u32,
}

impl Location {
    /// Bytes of the blob's content.
    pub(crate) fn size(&self) -> u64 {
        match self.uncompressed {
            0 => u64::from(self.length) - crate::crypto::OVERHEAD as u64,
            n => u64::from(n),
        }
    }
}

/// The blobs of one type.
#[derive(Default)]
struct Table {
    sorted: Vec<(Id, Location)>,
    /// For each value of an id's first `bits` bits, where in `sorted` they begin; one more at the end.
    starts: Vec<u32>,
    bits: u32,
    recent: IdMap<Location>,
}

impl Table {
    fn find(&self, id: &Id) -> Option<Location> {
        if !self.starts.is_empty() {
            let bucket = prefix(id, self.bits);
            let (from, to) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
            let part = &self.sorted[from..to];
            // A handful of entries, in order.
            if let Ok(at) = part.binary_search_by(|(other, _)| other.cmp(id)) {
                return Some(part[at].1);
            }
        }
        self.recent.get(id).copied()
    }

    /// Takes in what was loaded, in any order. Of a blob in several packs the one in a pack that stays is kept.
    fn merge(&mut self, more: &mut Vec<(Id, Location)>, marked: &[bool]) {
        self.sorted.append(more);
        self.sorted.extend(self.recent.drain());
        let leaves = |at: &Location| marked[at.pack as usize];
        self.sorted
            .sort_unstable_by(|(a, at), (b, bt)| a.cmp(b).then_with(|| leaves(at).cmp(&leaves(bt))));
        self.sorted.dedup_by_key(|(id, _)| *id);
        self.sorted.shrink_to_fit();
        // About four entries for each start.
        self.bits = (self.sorted.len() / 4).max(1).ilog2();
        self.starts.clear();
        self.starts.reserve_exact((1 << self.bits) + 1);
        for (at, (id, _)) in self.sorted.iter().enumerate() {
            let at = u32::try_from(at).expect("fewer than 2^32 blobs fit into memory");
            while self.starts.len() <= prefix(id, self.bits) {
                self.starts.push(at);
            }
        }
        let end = u32::try_from(self.sorted.len()).expect("fewer than 2^32 blobs fit into memory");
        self.starts.resize((1 << self.bits) + 1, end);
    }

    fn iter(&self) -> impl Iterator<Item = (&Id, &Location)> {
        self.sorted.iter().map(|(id, at)| (id, at)).chain(&self.recent)
    }
}

fn prefix(id: &Id, bits: u32) -> usize {
    let first = id.0.first_chunk().expect("an id has 32 bytes");
    (u64::from(u32::from_be_bytes(*first)) >> (32 - bits)) as usize
}

/// The index of a repository in memory.
#[derive(Default)]
pub(crate) struct Index {
    pub packs: Vec<Id>,
    numbers: IdMap<u32>,
    /// For each pack whether a prune means to delete it.
    marked: Vec<bool>,
    marks: IdMap<Marked>,
    data: Table,
    trees: Table,
}

/// When a pack was marked for deletion; several prunes may have done so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub first: Timestamp,
    pub last: Timestamp,
}

/// An index file as it is written. What stock restic does not know it passes over.
#[derive(Default, Serialize)]
pub(crate) struct IndexFile<'a> {
    #[serde(skip_serializing_if = "<[Id]>::is_empty")]
    pub supersedes: &'a [Id],
    pub packs: Vec<IndexPack>,
    /// Packs that a prune means to delete; the name and form are rustic's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packs_to_delete: Vec<Mark>,
    /// Says that a backup is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encke_backup: Option<Lease>,
}

/// A pack marked for deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mark {
    pub id: Id,
    #[serde(with = "crate::gotext::time")]
    pub time: Timestamp,
    /// Nothing needs them.
    blobs: [(); 0],
    /// Bytes of the pack, which rustic else reckons from the blobs.
    size: u64,
}

impl Mark {
    pub(crate) fn new(id: Id, time: Timestamp, size: u64) -> Self {
        let blobs = [];
        Self {
            id,
            time,
            blobs,
            size,
        }
    }
}

/// A long backup says that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// When it began.
    #[serde(with = "crate::gotext::time")]
    pub started: Timestamp,
    /// When it wrote this.
    #[serde(with = "crate::gotext::time")]
    pub time: Timestamp,
}

/// One pack of an index file.
#[derive(Serialize)]
pub(crate) struct IndexPack {
    pub id: Id,
    blobs: Vec<IndexBlob>,
}

#[derive(Serialize)]
struct IndexBlob {
    id: Id,
    #[serde(rename = "type")]
    kind: &'static str,
    offset: u32,
    length: u32,
    #[serde(skip_serializing_if = "is_zero")]
    uncompressed_length: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(v: &u32) -> bool {
    *v == 0
}

impl IndexPack {
    pub(crate) fn new(id: Id, blobs: &[PackedBlob]) -> Self {
        let blob = |b: &PackedBlob| IndexBlob {
            id: b.id,
            kind: b.kind.word(),
            offset: b.offset,
            length: b.length,
            uncompressed_length: b.uncompressed,
        };
        Self {
            id,
            blobs: blobs.iter().map(blob).collect(),
        }
    }
}

/// An index file's content.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Index files that this one replaces.
    pub supersedes: Vec<Id>,
    pub packs: Vec<(Id, Vec<PackedBlob>)>,
    /// Packs to be deleted and since when; no time if it can not be read.
    pub marks: Vec<(Id, Option<Timestamp>)>,
    pub lease: Option<Lease>,
}

/// Reads an index file.
pub(crate) fn parse(json: &[u8]) -> RepoResult<Loaded> {
    #[derive(Deserialize)]
    struct File<'a> {
        #[serde(default)]
        supersedes: Vec<Id>,
        #[serde(borrow)]
        packs: Vec<Pack<'a>>,
        #[serde(default, borrow)]
        packs_to_delete: Vec<Marked<'a>>,
        #[serde(default)]
        encke_backup: Option<Lease>,
    }
    #[derive(Deserialize)]
    struct Marked<'a> {
        id: Id,
        #[serde(default, borrow)]
        time: Option<std::borrow::Cow<'a, str>>,
    }
    #[derive(Deserialize)]
    struct Pack<'a> {
        id: Id,
        #[serde(borrow)]
        blobs: Vec<Blob<'a>>,
    }
    #[derive(Deserialize)]
    struct Blob<'a> {
        id: Id,
        #[serde(rename = "type")]
        kind: &'a str,
        offset: u32,
        length: u32,
        /// rustic writes `null` where nothing is compressed.
        #[serde(default)]
        uncompressed_length: Option<u32>,
    }
    let damaged = |what: &str| RepoError::Damaged(format!("index: {what}"));
    let file: File = serde_json::from_slice(json).map_err(|e| damaged(&e.to_string()))?;
    let blob = |b: &Blob| {
        let kind = match b.kind {
            "data" => BlobType::Data,
            "tree" => BlobType::Tree,
            _ => return Err(damaged("unknown type of blob")),
        };
        if (b.length as usize) < crate::crypto::OVERHEAD {
            return Err(damaged("a blob is too short"));
        }
        let (offset, length, uncompressed) = (b.offset, b.length, b.uncompressed_length.unwrap_or(0));
        Ok(PackedBlob {
            id: b.id,
            kind,
            offset,
            length,
            uncompressed,
        })
    };
    let pack = |p: Pack| Ok((p.id, p.blobs.iter().map(blob).collect::<RepoResult<_>>()?));
    let mark = |m: Marked| (m.id, m.time.and_then(|t| t.parse().ok()));
    Ok(Loaded {
        supersedes: file.supersedes,
        packs: file.packs.into_iter().map(pack).collect::<RepoResult<_>>()?,
        marks: file.packs_to_delete.into_iter().map(mark).collect(),
        lease: file.encke_backup,
    })
}

impl Index {
    fn table(&self, kind: BlobType) -> &Table {
        match kind {
            BlobType::Data => &self.data,
            BlobType::Tree => &self.trees,
        }
    }

    pub(crate) fn find(&self, kind: BlobType, id: &Id) -> Option<Location> {
        self.table(kind).find(id)
    }

    /// Whether the repository has a blob for good: not only in a pack that a prune means to delete.
    pub(crate) fn has(&self, kind: BlobType, id: &Id) -> bool {
        self.find(kind, id)
            .is_some_and(|at| !self.marked[at.pack as usize])
    }

    /// Whether a pack is to be deleted, and since when.
    pub(crate) fn mark(&self, pack: &Id) -> Option<Marked> {
        self.marks.get(pack).copied()
    }

    /// Notes a mark. One without a time is never old enough to delete the pack, and too old to count on it.
    pub(crate) fn note(&mut self, pack: Id, time: Option<Timestamp>) {
        let (first, last) = (time.unwrap_or(Timestamp::MIN), time.unwrap_or(Timestamp::MAX));
        let mark = self.marks.entry(pack).or_insert(Marked { first, last });
        *mark = Marked {
            first: mark.first.min(first),
            last: mark.last.max(last),
        };
        if let Some(&number) = self.numbers.get(&pack) {
            self.marked[number as usize] = true;
        }
    }

    /// Number of a pack.
    fn number(&mut self, pack: Id) -> u32 {
        let next = u32::try_from(self.packs.len()).expect("fewer than 2^32 packs fit into memory");
        let number = *self.numbers.entry(pack).or_insert(next);
        if number == next {
            self.packs.push(pack);
            self.marked.push(self.marks.contains_key(&pack));
        }
        number
    }

    /// Adds a pack that this process has written.
    pub(crate) fn add(&mut self, pack: Id, blobs: &[PackedBlob]) {
        let number = self.number(pack);
        for b in blobs {
            let location = at(b, number);
            let table = match b.kind {
                BlobType::Data => &mut self.data,
                BlobType::Tree => &mut self.trees,
            };
            table.recent.entry(b.id).or_insert(location);
        }
    }

    /// Adds what was read from index files.
    pub(crate) fn extend<'a>(&mut self, files: impl Iterator<Item = &'a Loaded> + Clone) {
        for (pack, time) in files.clone().flat_map(|f| &f.marks) {
            self.note(*pack, *time);
        }
        let (mut data, mut trees) = (Vec::new(), Vec::new());
        for (pack, blobs) in files.flat_map(|f| &f.packs) {
            // A pack stands in two index files while another program rewrites the index; merging drops the doubles.
            let number = self.number(*pack);
            for b in blobs {
                let list = match b.kind {
                    BlobType::Data => &mut data,
                    BlobType::Tree => &mut trees,
                };
                list.push((b.id, at(b, number)));
            }
        }
        self.data.merge(&mut data, &self.marked);
        self.trees.merge(&mut trees, &self.marked);
    }

    pub(crate) fn pack_ids(&self) -> IdSet {
        self.packs.iter().copied().collect()
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = (BlobType, &Id, &Location)> {
        let data = self.data.iter().map(|(id, l)| (BlobType::Data, id, l));
        data.chain(self.trees.iter().map(|(id, l)| (BlobType::Tree, id, l)))
    }
}

fn at(b: &PackedBlob, pack: u32) -> Location {
    Location {
        pack,
        offset: b.offset,
        length: b.length,
        uncompressed: b.uncompressed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob(n: u32) -> PackedBlob {
        let kind = if n.is_multiple_of(5) {
            BlobType::Tree
        } else {
            BlobType::Data
        };
        PackedBlob {
            id: Id::of(&n.to_le_bytes()),
            kind,
            offset: n,
            length: 40,
            uncompressed: n % 3,
        }
    }

    proptest! {
        #[test]
        fn finds_what_was_added_and_nothing_else(loads in prop::collection::vec(0u32..300, 0..4), added in 0u32..50) {
            let mut index = Index::default();
            let mut n = 0;
            for (i, &count) in loads.iter().enumerate() {
                let blobs: Vec<_> = (n..n + count).map(blob).collect();
                n += count;
                let file = Loaded { packs: vec![(Id::of(&[i as u8]), blobs)], ..Loaded::default() };
                index.extend([&file].into_iter());
            }
            let blobs: Vec<_> = (n..n + added).map(blob).collect();
            index.add(Id::of(b"own"), &blobs);
            n += added;
            for i in 0..n {
                let b = blob(i);
                prop_assert_eq!(index.find(b.kind, &b.id).map(|l| l.offset), Some(i));
            }
            for i in n..n + 100 {
                prop_assert!(index.find(blob(i).kind, &blob(i).id).is_none());
            }
            prop_assert_eq!(index.blobs().count(), n as usize);
        }

        #[test]
        fn any_index_file_is_read_or_refused(text in "[\\[\\]{}\":,a-z0-9_]{0,200}") {
            let _ = parse(text.as_bytes());
            let _ = parse(format!(r#"{{"packs":[{text}"#).as_bytes());
        }

        #[test]
        fn an_index_file_comes_back(numbers in prop::collection::vec(any::<u32>(), 0..50)) {
            let blobs: Vec<_> = numbers.iter().map(|&n| blob(n)).collect();
            let pack = Id::of(b"pack");
            let replaced = [Id::of(b"old")];
            let time = Timestamp::from_second(1_700_000_000).unwrap();
            let file = IndexFile {
                supersedes: &replaced,
                packs: vec![IndexPack::new(pack, &blobs)],
                packs_to_delete: vec![Mark::new(pack, time, 1000)],
                encke_backup: Some(Lease { started: time, time }),
            };
            let loaded = parse(&serde_json::to_vec(&file).unwrap()).unwrap();
            prop_assert_eq!(loaded.packs, vec![(pack, blobs)]);
            prop_assert_eq!(loaded.marks, vec![(pack, Some(time))]);
            prop_assert_eq!(loaded.lease, file.encke_backup);
            prop_assert_eq!(loaded.supersedes, replaced);
        }
    }

    #[test]
    fn a_blob_takes_no_more_than_fifty_bytes() {
        let blobs = 200_000u32;
        let list = |n: u32| (n * 500..(n + 1) * 500).map(blob).collect();
        let packs = (0..blobs / 500).map(|n| (Id::of(&n.to_be_bytes()), list(n)));
        let file = Loaded {
            packs: packs.collect(),
            ..Loaded::default()
        };
        let mut index = Index::default();
        index.extend([&file].into_iter());
        let bytes = |t: &Table| {
            assert_eq!(t.recent.capacity(), 0);
            t.sorted.capacity() * size_of::<(Id, Location)>() + t.starts.capacity() * size_of::<u32>()
        };
        let packs = index.packs.capacity() * (size_of::<Id>() * 2 + size_of::<u32>() + 2);
        let all = bytes(&index.data) + bytes(&index.trees) + packs;
        assert!(all <= blobs as usize * 50, "{all} bytes for {blobs} blobs");
    }

    #[test]
    fn a_blob_is_taken_from_the_pack_that_stays() {
        let (leaving, staying) = (Id::of(b"leaving"), Id::of(b"staying"));
        for packs in [[leaving, staying], [staying, leaving]] {
            let mut index = Index::default();
            let mut file = Loaded {
                packs: packs.map(|p| (p, vec![blob(1)])).to_vec(),
                marks: vec![(leaving, Some(Timestamp::UNIX_EPOCH)), (leaving, None)],
                ..Loaded::default()
            };
            file.packs.push((leaving, vec![blob(2)]));
            index.extend([&file].into_iter());
            let at = index.find(BlobType::Data, &blob(1).id).unwrap();
            assert_eq!(index.packs[at.pack as usize], staying);
            assert!(index.has(BlobType::Data, &blob(1).id));
            // Still there to be read, but not to be counted on.
            assert!(index.find(BlobType::Data, &blob(2).id).is_some());
            assert!(!index.has(BlobType::Data, &blob(2).id));
            let mark = index.mark(&leaving).unwrap();
            assert_eq!((mark.first, mark.last), (Timestamp::MIN, Timestamp::MAX));
            assert_eq!(index.mark(&staying), None);
        }
    }
}
