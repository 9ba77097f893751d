//! Names: SHA-256 digests of files and blobs.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 digest that names a blob or a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Id(pub [u8; 32]);

impl Id {
    /// The name of a content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_hex(text.as_bytes())
    }

    /// From the bytes of 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut out = [0; 32];
        if text.len() != 64 {
            return None;
        }
        let mut all = 0;
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
            all |= high | low;
            *byte = high << 4 | (low & 15);
        }
        // Anything but a digit has the topmost bit set in the table.
        (all & 0x80 == 0).then_some(Self(out))
    }

    /// As hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> HexId {
        let mut out = [0; 64];
        for (pair, &byte) in out.chunks_exact_mut(2).zip(&self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        HexId(out)
    }
}

/// The name of a content that comes in parts.
#[derive(Default)]
pub(crate) struct Digest(Sha256);

impl Digest {
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn finish(self) -> Id {
        Id(self.0.finalize().into())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Values of hexadecimal digits; 0x80 for anything else.
const DIGITS: [u8; 256] = {
    let mut table = [0x80; 256];
    let mut i = 0;
    while i < 16u8 {
        let c = HEX[i as usize];
        table[c as usize] = i;
        table[c.to_ascii_uppercase() as usize] = i;
        i += 1;
    }
    table
};

/// The 64 hexadecimal digits of an [`Id`], without a heap allocation.
#[derive(Clone, Copy)]
pub struct HexId([u8; 64]);

impl std::ops::Deref for HexId {
    type Target = str;
    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

/// The digest is evenly spread, so eight bytes of it are hash enough.
impl std::hash::Hash for Id {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_le_bytes(first));
    }
}

/// Takes the eight bytes as they are.
#[derive(Default, Clone, Copy)]
pub(crate) struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(b);
        }
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = v;
    }
}

pub(crate) type IdMap<V> = std::collections::HashMap<Id, V, std::hash::BuildHasherDefault<IdHasher>>;
pub(crate) type IdSet = std::collections::HashSet<Id, std::hash::BuildHasherDefault<IdHasher>>;

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a SHA-256 digest")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                Id::parse(text).ok_or_else(|| E::custom("not a SHA-256 digest"))
            }
        }
        input.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_back_and_others_are_refused() {
        let id = Id::of(b"abc");
        assert_eq!(
            id.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Id::parse(&id.hex()), Some(id));
        assert_eq!(Id::parse(&id.hex().to_uppercase()), Some(id));
        assert_eq!(Id::parse(&id.hex()[1..]), None);
        for bad in ["g", "/", ":", "@", "`", " ", "\u{e9}"] {
            let text: String = id.hex().replacen('b', bad, 1);
            assert_eq!(Id::parse(&text), None, "{bad}");
        }
    }
}
