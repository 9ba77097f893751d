//! Which pack holds which blob (restic design document, section "Indexing").
//!
//! What the repository's index files say is kept in sorted arrays, 48 bytes a blob and one more for the table of where
//! to begin searching; only what this process has added since stands in hash maps.

use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdMap, IdSet};
use crate::pack::{BlobType, PackedBlob};
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

    /// Takes in what was loaded, in any order.
    fn merge(&mut self, more: &mut Vec<(Id, Location)>) {
        self.sorted.append(more);
        self.sorted.extend(self.recent.drain());
        self.sorted.sort_unstable_by_key(|(id, _)| *id);
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
    data: Table,
    trees: Table,
}

/// An index file as it is written.
#[derive(Serialize)]
pub(crate) struct IndexFile<'a> {
    #[serde(skip_serializing_if = "<[Id]>::is_empty")]
    pub supersedes: &'a [Id],
    pub packs: Vec<IndexPack>,
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
pub(crate) struct Loaded {
    /// Index files that this one replaces.
    pub supersedes: Vec<Id>,
    pub packs: Vec<(Id, Vec<PackedBlob>)>,
}

/// Reads an index file.
pub(crate) fn parse(json: &[u8]) -> RepoResult<Loaded> {
    #[derive(Deserialize)]
    struct File<'a> {
        #[serde(default)]
        supersedes: Vec<Id>,
        #[serde(borrow)]
        packs: Vec<Pack<'a>>,
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
        #[serde(default)]
        uncompressed_length: u32,
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
        let (offset, length, uncompressed) = (b.offset, b.length, b.uncompressed_length);
        Ok(PackedBlob {
            id: b.id,
            kind,
            offset,
            length,
            uncompressed,
        })
    };
    let pack = |p: Pack| Ok((p.id, p.blobs.iter().map(blob).collect::<RepoResult<_>>()?));
    Ok(Loaded {
        supersedes: file.supersedes,
        packs: file.packs.into_iter().map(pack).collect::<RepoResult<_>>()?,
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

    pub(crate) fn has(&self, kind: BlobType, id: &Id) -> bool {
        self.find(kind, id).is_some()
    }

    /// Number of a pack.
    fn number(&mut self, pack: Id) -> u32 {
        let next = u32::try_from(self.packs.len()).expect("fewer than 2^32 packs fit into memory");
        let number = *self.numbers.entry(pack).or_insert(next);
        if number == next {
            self.packs.push(pack);
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
    pub(crate) fn extend(&mut self, packs: impl IntoIterator<Item = (Id, Vec<PackedBlob>)>) {
        let (mut data, mut trees) = (Vec::new(), Vec::new());
        for (pack, blobs) in packs {
            // A pack stands in two index files while another program rewrites the index; merging drops the doubles.
            let number = self.number(pack);
            for b in blobs {
                let list = match b.kind {
                    BlobType::Data => &mut data,
                    BlobType::Tree => &mut trees,
                };
                list.push((b.id, at(&b, number)));
            }
        }
        self.data.merge(&mut data);
        self.trees.merge(&mut trees);
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
                index.extend([(Id::of(&[i as u8]), blobs)]);
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
        fn an_index_file_comes_back(numbers in prop::collection::vec(any::<u32>(), 0..50)) {
            let blobs: Vec<_> = numbers.iter().map(|&n| blob(n)).collect();
            let pack = Id::of(b"pack");
            let replaced = [Id::of(b"old")];
            let file = IndexFile { supersedes: &replaced, packs: vec![IndexPack::new(pack, &blobs)] };
            let loaded = parse(&serde_json::to_vec(&file).unwrap()).unwrap();
            prop_assert_eq!(loaded.packs, vec![(pack, blobs)]);
            prop_assert_eq!(loaded.supersedes, replaced);
        }
    }
}
