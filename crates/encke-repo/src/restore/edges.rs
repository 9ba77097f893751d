//! Blocks of the disk that two chunks of a file share. Whichever chunk comes second writes the whole block along with its
//! own ones. To write each chunk's part by itself through the page cache would make it wait for all the large writes into
//! the same file that other threads are at, and make those wait in turn.

use encke_storage::direct::BLOCK;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Parts kept at most. Each is smaller than a block; of a file that comes in its order there are few at a time.
const MOST: usize = 4096;

/// Part of a block at the end of a chunk.
pub(super) struct Edge {
    /// Where it belongs in its file.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// The edges that wait for the other chunk, by file and block.
#[derive(Default)]
pub(super) struct Edges(Mutex<BTreeMap<(u32, u64), Edge>>);

/// What becomes of an edge.
pub(super) enum Met {
    /// The rest of its block was here: both are the caller's to write.
    Other(Vec<u8>),
    /// It is kept for the chunk that comes with the rest, or for [`Edges::rest`].
    Kept,
    /// The caller has to write it alone.
    Alone,
}

impl Edges {
    /// Brings an edge of a chunk of a file.
    pub(super) fn meet(&self, file: u32, offset: u64, bytes: &[u8]) -> Met {
        let key = (file, offset / BLOCK as u64);
        let mut edges = self.0.lock();
        match edges.get(&key) {
            Some(other) if other.bytes.len() + bytes.len() == BLOCK => edges
                .remove(&key)
                .map_or(Met::Alone, |other| Met::Other(other.bytes)),
            None if edges.len() < MOST => {
                let bytes = bytes.to_vec();
                edges.insert(key, Edge { offset, bytes });
                Met::Kept
            }
            _ => Met::Alone,
        }
    }

    /// The edges of a file that nothing has come for.
    pub(super) fn rest(&self, file: u32) -> Vec<Edge> {
        let mut edges = self.0.lock();
        let keys: Vec<_> = edges
            .range((file, 0)..=(file, u64::MAX))
            .map(|(key, _)| *key)
            .collect();
        keys.iter().filter_map(|key| edges.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_second_gets_the_whole_block_and_others_are_left() {
        let edges = Edges::default();
        let block = BLOCK as u64;
        assert!(matches!(edges.meet(1, 3 * block, &[1; 100]), Met::Kept));
        // The same block of another file, another block of the same, and a part that does not make it whole.
        assert!(matches!(
            edges.meet(2, 3 * block + 100, &[2; BLOCK - 100]),
            Met::Kept
        ));
        assert!(matches!(
            edges.meet(1, 4 * block + 100, &[3; BLOCK - 100]),
            Met::Kept
        ));
        assert!(matches!(edges.meet(1, 3 * block + 100, &[4; 7]), Met::Alone));
        match edges.meet(1, 3 * block + 100, &[5; BLOCK - 100]) {
            Met::Other(other) => assert_eq!(other, [1; 100]),
            _ => panic!("the first part was there"),
        }
        let rest = edges.rest(1);
        assert_eq!(rest.len(), 1);
        assert_eq!(
            (rest[0].offset, rest[0].bytes.len()),
            (4 * block + 100, BLOCK - 100)
        );
        assert!(edges.rest(1).is_empty());
        assert_eq!(edges.rest(2).len(), 1);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let edges = Edges::default();
        for number in 0..MOST as u64 {
            assert!(matches!(edges.meet(0, number * BLOCK as u64, &[1]), Met::Kept));
        }
        assert!(matches!(edges.meet(1, 0, &[1]), Met::Alone));
        assert_eq!(edges.rest(0).len(), MOST);
        assert!(matches!(edges.meet(1, 0, &[1]), Met::Kept));
    }
}
