//! Which pack holds which blob (restic design document, section "Indexing").

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

/// The index of a repository in memory.
#[derive(Default)]
pub(crate) struct Index {
    pub packs: Vec<Id>,
    numbers: IdMap<u32>,
    data: IdMap<Location>,
    trees: IdMap<Location>,
}

#[derive(Serialize, Deserialize, Default)]
pub(crate) struct IndexFile {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<Id>,
    pub packs: Vec<IndexPack>,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct IndexPack {
    pub id: Id,
    pub blobs: Vec<IndexBlob>,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct IndexBlob {
    id: Id,
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'static, str>,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uncompressed_length: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(v: &u32) -> bool {
    *v == 0
}

impl From<&PackedBlob> for IndexBlob {
    fn from(b: &PackedBlob) -> Self {
        Self {
            id: b.id,
            kind: b.kind.word().into(),
            offset: b.offset,
            length: b.length,
            uncompressed_length: b.uncompressed,
        }
    }
}

impl IndexPack {
    pub(crate) fn new(id: Id, blobs: &[PackedBlob]) -> Self {
        Self {
            id,
            blobs: blobs.iter().map(IndexBlob::from).collect(),
        }
    }

    pub(crate) fn packed(&self) -> RepoResult<Vec<PackedBlob>> {
        self.blobs
            .iter()
            .map(|b| {
                let kind = match &*b.kind {
                    "data" => BlobType::Data,
                    "tree" => BlobType::Tree,
                    other => return Err(RepoError::Damaged(format!("index: blob type '{other}'"))),
                };
                if u64::from(b.length) < crate::crypto::OVERHEAD as u64 {
                    return Err(RepoError::Damaged("index: a blob is too short".into()));
                }
                let (offset, length, uncompressed) = (b.offset, b.length, b.uncompressed_length);
                Ok(PackedBlob {
                    id: b.id,
                    kind,
                    offset,
                    length,
                    uncompressed,
                })
            })
            .collect()
    }
}

impl Index {
    fn map(&self, kind: BlobType) -> &IdMap<Location> {
        match kind {
            BlobType::Data => &self.data,
            BlobType::Tree => &self.trees,
        }
    }

    pub(crate) fn find(&self, kind: BlobType, id: &Id) -> Option<Location> {
        self.map(kind).get(id).copied()
    }

    pub(crate) fn has(&self, kind: BlobType, id: &Id) -> bool {
        self.map(kind).contains_key(id)
    }

    pub(crate) fn add(&mut self, pack: Id, blobs: &[PackedBlob]) {
        let next = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(pack).or_insert(next);
        if number == next {
            self.packs.push(pack);
        }
        for b in blobs {
            let location = Location {
                pack: number,
                offset: b.offset,
                length: b.length,
                uncompressed: b.uncompressed,
            };
            let map = match b.kind {
                BlobType::Data => &mut self.data,
                BlobType::Tree => &mut self.trees,
            };
            map.entry(b.id).or_insert(location);
        }
    }

    pub(crate) fn pack_ids(&self) -> IdSet {
        self.packs.iter().copied().collect()
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = (BlobType, &Id, &Location)> {
        let data = self.data.iter().map(|(id, l)| (BlobType::Data, id, l));
        data.chain(self.trees.iter().map(|(id, l)| (BlobType::Tree, id, l)))
    }
}
