//! Packs: sealed blobs one after the other, then a sealed header that lists them (restic design document, section
//! "Pack Format").

use crate::crypto::Key;
use crate::error::{RepoError, RepoResult};
use crate::id::Id;

/// What a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobType {
    /// Part of a file.
    Data,
    /// A folder's listing.
    Tree,
}

impl BlobType {
    pub(crate) fn word(self) -> &'static str {
        match self {
            BlobType::Data => "data",
            BlobType::Tree => "tree",
        }
    }
}

/// A blob within a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedBlob {
    pub id: Id,
    pub kind: BlobType,
    /// Where the sealed blob begins in the pack.
    pub offset: u32,
    /// Bytes of the sealed blob.
    pub length: u32,
    /// Bytes of the blob before compression; 0 when it is not compressed.
    pub uncompressed: u32,
}

/// Appends the header that closes a pack.
pub(crate) fn finish(key: &Key, blobs: &[PackedBlob], pack: &mut Vec<u8>) -> RepoResult<()> {
    let mut header = Vec::with_capacity(blobs.len() * 41);
    for b in blobs {
        let kind = match b.kind {
            BlobType::Data => 0,
            BlobType::Tree => 1,
        };
        header.push(if b.uncompressed == 0 { kind } else { kind + 2 });
        header.extend_from_slice(&b.length.to_le_bytes());
        if b.uncompressed != 0 {
            header.extend_from_slice(&b.uncompressed.to_le_bytes());
        }
        header.extend_from_slice(&b.id.0);
    }
    let before = pack.len();
    key.seal(&header, pack)?;
    let length = u32::try_from(pack.len() - before).map_err(|_| RepoError::Stopped)?;
    pack.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The blobs that a pack's own header lists.
pub(crate) fn header(key: &Key, pack: &[u8]) -> RepoResult<Vec<PackedBlob>> {
    let damaged = |why: &str| RepoError::Damaged(why.into());
    let (rest, length) = pack.split_last_chunk::<4>().ok_or_else(|| damaged("too short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let start = rest
        .len()
        .checked_sub(length)
        .ok_or_else(|| damaged("its header is longer than the pack"))?;
    let header = key
        .open(&rest[start..])
        .map_err(|_| damaged("its header can not be opened"))?;
    parse_header(&header).ok_or_else(|| damaged("its header can not be read"))
}

fn parse_header(mut rest: &[u8]) -> Option<Vec<PackedBlob>> {
    let mut out = Vec::new();
    let mut offset = 0u32;
    while !rest.is_empty() {
        let (&kind, r) = rest.split_first()?;
        let (length, r) = r.split_first_chunk::<4>()?;
        let (uncompressed, r) = if kind >= 2 {
            let (u, r) = r.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*u), r)
        } else {
            (0, r)
        };
        let (id, r) = r.split_first_chunk::<32>()?;
        let kind = match kind {
            0 | 2 => BlobType::Data,
            1 | 3 => BlobType::Tree,
            _ => return None,
        };
        let length = u32::from_le_bytes(*length);
        out.push(PackedBlob {
            id: Id(*id),
            kind,
            offset,
            length,
            uncompressed,
        });
        offset = offset.checked_add(length)?;
        rest = r;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_header_parses_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_header(&bytes);
        }

        #[test]
        fn a_header_comes_back(sizes in prop::collection::vec((1u32..100_000, 0u32..100_000, any::<bool>()), 0..40)) {
            let key = Key::random().unwrap();
            let mut offset = 0;
            let blobs: Vec<PackedBlob> = sizes.iter().enumerate().map(|(i, &(length, uncompressed, tree))| {
                let kind = if tree { BlobType::Tree } else { BlobType::Data };
                let blob = PackedBlob { id: Id::of(&i.to_le_bytes()), kind, offset, length, uncompressed };
                offset += length;
                blob
            }).collect();
            let mut pack = Vec::new();
            finish(&key, &blobs, &mut pack).unwrap();
            prop_assert_eq!(header(&key, &pack).unwrap(), blobs);
        }
    }
}
