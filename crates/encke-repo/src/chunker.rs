//! Content-defined chunking by Rabin fingerprints, cutting exactly where restic does for the same polynomial: the
//! window is 64 bytes, chunks have 512 KiB to 8 MiB, 1 MiB on average beyond the minimum.
//!
//! A rolling fingerprint is a chain of dependent table look-ups, so one runs at the latency of the cache and not at its
//! throughput. But it depends on the last 64 bytes only: [`LANES`] neighbouring stretches are searched at once.

use crate::polynomial::{DEGREE, degree, remainder};

const WINDOW: usize = 64;
/// Smallest chunk in bytes, but for the last of a file.
pub const MIN: usize = 512 * 1024;
/// Largest chunk in bytes.
pub const MAX: usize = 8 * 1024 * 1024;
const MASK: u64 = (1 << 20) - 1;
/// Fingerprints rolled side by side.
const LANES: usize = 4;
/// Bytes of one lane's stretch; a multiple of the window, and large beside it, since each lane first reads a window.
const STRETCH: usize = 4096;
const SHIFT: u32 = DEGREE - 8;

/// Tables of one polynomial.
pub struct Chunker {
    /// What a byte that leaves the window contributed, already moved on by the byte that enters.
    out: [u64; 256],
    /// Clears the eight coefficients above the degree, and adds their remainder.
    modulus: [u64; 256],
}

impl Chunker {
    /// Tables for a polynomial of degree 53, the only one restic makes.
    #[must_use]
    pub fn new(polynomial: u64) -> Self {
        assert_eq!(
            degree(polynomial),
            DEGREE,
            "checked when the repository is opened"
        );
        let append = |hash: u64, byte: u8| remainder(u128::from(hash) << 8 | u128::from(byte), polynomial);
        let mut tables = Self {
            out: [0; 256],
            modulus: [0; 256],
        };
        for b in 0..=255u8 {
            tables.out[usize::from(b)] = (0..WINDOW).fold(u64::from(b), |hash, _| append(hash, 0));
            let top = u128::from(b) << DEGREE;
            tables.modulus[usize::from(b)] = remainder(top, polynomial) | u64::from(b) << DEGREE;
        }
        tables
    }

    #[inline(always)]
    fn roll(&self, digest: u64, gone: u8, new: u8) -> u64 {
        let top = usize::from((digest >> SHIFT) as u8);
        (digest << 8) ^ self.modulus[top] ^ (self.out[usize::from(gone)] ^ u64::from(new))
    }

    /// Fingerprint of the window that ends before `end`.
    fn at(&self, data: &[u8], end: usize) -> u64 {
        data[end - WINDOW..end]
            .iter()
            .fold(0, |digest, &b| self.roll(digest, 0, b))
    }

    /// Length of the first chunk of `data`, which begins where a chunk begins, or `None` if more data has to be seen.
    /// `seen` is the length for which the answer was `None` before, or 0.
    #[must_use]
    pub fn find(&self, data: &[u8], seen: usize) -> Option<usize> {
        let end = data.len().min(MAX);
        if end < MIN {
            return None;
        }
        let mut start = seen.max(MIN);
        let digest = self.at(data, start);
        if start == MIN && seen < MIN && digest & MASK == 0 {
            return Some(MIN);
        }
        while end - start >= LANES * STRETCH {
            if let Some(cut) = self.find_in_lanes(data, start) {
                return Some(cut);
            }
            start += LANES * STRETCH;
        }
        let mut digest = self.at(data, start);
        let entering = data[start..end].iter();
        for (i, (&new, &gone)) in entering.zip(&data[start - WINDOW..end - WINDOW]).enumerate() {
            digest = self.roll(digest, gone, new);
            if digest & MASK == 0 {
                return Some(start + i + 1);
            }
        }
        (end == MAX).then_some(MAX)
    }

    /// The first cut after `start` and within the lanes' stretches.
    #[inline]
    fn find_in_lanes(&self, data: &[u8], start: usize) -> Option<usize> {
        let lane = |n: usize| -> (&[u8; STRETCH], &[u8; STRETCH], u64) {
            let from = start + n * STRETCH;
            let new = data[from..].first_chunk().expect("the caller checked the length");
            let gone = data[from - WINDOW..]
                .first_chunk()
                .expect("the caller checked the length");
            (new, gone, self.at(data, from))
        };
        let [
            (n0, g0, mut d0),
            (n1, g1, mut d1),
            (n2, g2, mut d2),
            (n3, g3, mut d3),
        ] = [lane(0), lane(1), lane(2), lane(3)];
        let mut cuts = [None; LANES];
        for i in 0..STRETCH {
            d0 = self.roll(d0, g0[i], n0[i]);
            d1 = self.roll(d1, g1[i], n1[i]);
            d2 = self.roll(d2, g2[i], n2[i]);
            d3 = self.roll(d3, g3[i], n3[i]);
            if (d0 & MASK == 0) | (d1 & MASK == 0) | (d2 & MASK == 0) | (d3 & MASK == 0) {
                if d0 & MASK == 0 {
                    return Some(start + i + 1);
                }
                for (n, d) in [d1, d2, d3].into_iter().enumerate() {
                    if d & MASK == 0 {
                        cuts[n + 1].get_or_insert(start + (n + 1) * STRETCH + i + 1);
                    }
                }
            }
        }
        cuts.into_iter().flatten().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLYNOMIAL: u64 = 0x3D_A335_8B4D_C173;

    /// The definition: the window's bytes as one long polynomial, reduced.
    fn naive_cut(data: &[u8]) -> usize {
        for end in MIN..=data.len().min(MAX) {
            let hash = data[end - WINDOW..end].iter().fold(0, |h, &b| {
                remainder(u128::from(h) << 8 | u128::from(b), POLYNOMIAL)
            });
            if hash & MASK == 0 {
                return end;
            }
        }
        data.len().min(MAX)
    }

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut x = seed | 1;
        let step = |_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[3]
        };
        (0..length).map(step).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn cuts_where_the_definition_does(seed in 1u64.., length in 0usize..4_000_000, step in 1usize..300_000) {
            let data = noise(seed, length);
            let chunker = Chunker::new(POLYNOMIAL);
            let naive = naive_cut(&data);
            prop_assert_eq!(chunker.find(&data, 0).unwrap_or(length), naive);
            // The same when the data comes in parts.
            let (mut have, mut seen) = (0, 0);
            let cut = loop {
                have = (have + step).min(length);
                if let Some(cut) = chunker.find(&data[..have], seen) {
                    break cut;
                }
                if have == length {
                    break length;
                }
                seen = have;
            };
            prop_assert_eq!(cut, naive);
        }

        #[test]
        fn repetitive_data_is_cut_like_the_definition(pattern in prop::collection::vec(any::<u8>(), 1..200), length in 0usize..2_000_000) {
            let data: Vec<u8> = pattern.iter().copied().cycle().take(length).collect();
            prop_assert_eq!(Chunker::new(POLYNOMIAL).find(&data, 0).unwrap_or(length), naive_cut(&data));
        }
    }

    #[test]
    fn chunks_keep_their_bounds() {
        let chunker = Chunker::new(POLYNOMIAL);
        assert_eq!(chunker.find(&[], 0), None);
        assert_eq!(chunker.find(&vec![1; MIN - 1], 0), None);
        // All zeros: the fingerprint of the window is 0 at once, as it is for restic.
        assert_eq!(chunker.find(&vec![0; MAX], 0), Some(MIN));
        assert_eq!(chunker.find(&vec![1; MAX], 0), Some(MAX));
    }
}
