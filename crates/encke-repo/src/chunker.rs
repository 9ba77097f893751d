//! Content-defined chunking by Rabin fingerprints, cutting exactly where restic does for the same polynomial: the
//! window is 64 bytes, chunks have 512 KiB to 8 MiB, 1 MiB on average beyond the minimum.

use crate::polynomial::{degree, remainder};

const WINDOW: usize = 64;
/// Smallest chunk in bytes, but for the last of a file.
pub const MIN: usize = 512 * 1024;
/// Largest chunk in bytes.
pub const MAX: usize = 8 * 1024 * 1024;
const MASK: u64 = (1 << 20) - 1;

/// Tables of one polynomial.
pub struct Chunker {
    out: [u64; 256],
    modulus: [u64; 256],
    shift: u32,
}

impl Chunker {
    /// Tables for a polynomial of degree 53.
    #[must_use]
    pub fn new(polynomial: u64) -> Self {
        let append = |hash: u64, byte: u8| remainder(u128::from(hash) << 8 | u128::from(byte), polynomial);
        let mut tables = Self {
            out: [0; 256],
            modulus: [0; 256],
            shift: degree(polynomial) - 8,
        };
        for b in 0..=255u8 {
            let mut hash = append(0, b);
            for _ in 0..WINDOW - 1 {
                hash = append(hash, 0);
            }
            tables.out[usize::from(b)] = hash;
            let top = u128::from(b) << degree(polynomial);
            tables.modulus[usize::from(b)] = remainder(top, polynomial) | u64::from(b) << degree(polynomial);
        }
        tables
    }

    #[inline]
    fn roll(&self, digest: u64, gone: u8, new: u8) -> u64 {
        let digest = digest ^ self.out[usize::from(gone)];
        let index = (digest >> self.shift) & 255;
        (digest << 8 | u64::from(new)) ^ self.modulus[usize::try_from(index).unwrap_or_default()]
    }

    /// Length of the first chunk of `data`, which holds at least [`MAX`] bytes or all that is left of the file.
    #[must_use]
    pub fn cut(&self, data: &[u8]) -> usize {
        if data.len() <= MIN {
            return data.len();
        }
        let end = data.len().min(MAX);
        // The fingerprint covers the last 64 bytes only, so everything before the first possible cut is skipped.
        let mut digest = 0;
        for &b in &data[MIN - WINDOW..MIN] {
            digest = self.roll(digest, 0, b);
        }
        if digest & MASK == 0 {
            return MIN;
        }
        for (i, (&new, &gone)) in data[MIN..end]
            .iter()
            .zip(&data[MIN - WINDOW..end - WINDOW])
            .enumerate()
        {
            digest = self.roll(digest, gone, new);
            if digest & MASK == 0 {
                return MIN + i + 1;
            }
        }
        end
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
        #![proptest_config(ProptestConfig::with_cases(4))]
        #[test]
        fn cuts_where_the_definition_does(seed in 1u64.., length in 0usize..3_000_000) {
            let data = noise(seed, length);
            prop_assert_eq!(Chunker::new(POLYNOMIAL).cut(&data), naive_cut(&data));
        }
    }

    #[test]
    fn chunks_keep_their_bounds() {
        let chunker = Chunker::new(POLYNOMIAL);
        assert_eq!(chunker.cut(&[]), 0);
        assert_eq!(chunker.cut(&vec![1; MIN]), MIN);
        // All zeros: the fingerprint of the window is 0 at once, as it is for restic.
        assert_eq!(chunker.cut(&vec![0; MAX]), MIN);
    }
}
