//! Sealing: AES-256 in counter mode with Poly1305-AES over the ciphertext (restic design document, section "Keys,
//! Encryption and MAC"; Bernstein, "The Poly1305-AES message-authentication code"). A sealed text is the 16-byte IV,
//! the ciphertext and the 16-byte tag.

use crate::error::{RepoError, RepoResult};
use aes::cipher::{BlockEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper, consts::U16};
use aes::{Aes128, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ctr::{CtrCore, flavors::Ctr128BE};
use poly1305::{Poly1305, universal_hash::UniversalHash};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes of room for an IV, see [`Key::seal_in_place`].
pub const IV_SIZE: usize = IV;
const IV: usize = 16;
const TAG: usize = 16;
/// Bytes that sealing adds.
pub const OVERHEAD: usize = IV + TAG;

type Counter = CtrCore<Aes256, Ctr128BE>;

/// A key that seals and opens.
#[derive(Clone)]
pub struct Key {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
    /// The schedule, made once.
    cipher: Aes256,
    mac_cipher: Aes128,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.encrypt.zeroize();
        self.mac_k.zeroize();
        self.mac_r.zeroize();
    }
}

/// As the master key stands in a key file.
#[derive(Serialize, Deserialize)]
struct KeyJson {
    mac: MacJson,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct MacJson {
    k: String,
    r: String,
}

impl Key {
    /// From 64 bytes: encryption key, then the two halves of the authentication key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let (mut encrypt, mut mac_k, mut mac_r) = ([0; 32], [0; 16], [0; 16]);
        encrypt.copy_from_slice(&bytes[..32]);
        mac_k.copy_from_slice(&bytes[32..48]);
        mac_r.copy_from_slice(&bytes[48..]);
        Self {
            encrypt,
            mac_k,
            mac_r,
            cipher: Aes256::new(&encrypt.into()),
            mac_cipher: Aes128::new(&mac_k.into()),
        }
    }

    /// A new random key.
    ///
    /// # Errors
    /// No random numbers.
    pub fn random() -> RepoResult<Self> {
        let mut bytes = [0; 64];
        random(&mut bytes)?;
        Ok(Self::from_bytes(&bytes))
    }

    /// As JSON, for a key file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mac = MacJson {
            k: STANDARD.encode(self.mac_k),
            r: STANDARD.encode(self.mac_r),
        };
        serde_json::to_string(&KeyJson {
            mac,
            encrypt: STANDARD.encode(self.encrypt),
        })
        .unwrap_or_default()
    }

    /// From JSON.
    ///
    /// # Errors
    /// Not a key.
    pub fn from_json(json: &[u8]) -> RepoResult<Self> {
        let damaged = || RepoError::Damaged("the master key can not be read".into());
        let key: KeyJson = serde_json::from_slice(json).map_err(|_| damaged())?;
        let mut bytes = Vec::with_capacity(64);
        for part in [&key.encrypt, &key.mac.k, &key.mac.r] {
            bytes.extend(STANDARD.decode(part).map_err(|_| damaged())?);
        }
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| damaged())?;
        Ok(Self::from_bytes(&bytes))
    }

    fn counter(&self, iv: &[u8; IV]) -> StreamCipherCoreWrapper<Counter> {
        StreamCipherCoreWrapper::from_core(Counter::inner_iv_init(self.cipher.clone(), iv.into()))
    }

    fn tag(&self, iv: &[u8; IV], ciphertext: &[u8]) -> [u8; TAG] {
        let mut key = [0u8; 32];
        key[..16].copy_from_slice(&self.mac_r);
        let mut block = aes::cipher::generic_array::GenericArray::<u8, U16>::clone_from_slice(iv);
        self.mac_cipher.encrypt_block(&mut block);
        key[16..].copy_from_slice(&block);
        let mut poly = Poly1305::new(&key.into());
        // Whole blocks go through the vector code, which the call for a text of any length does not use.
        let (whole, rest) = ciphertext.split_at(ciphertext.len() & !15);
        poly.update_padded(whole);
        poly.compute_unpadded(rest).into()
    }

    /// Seals what `out` holds behind `start` and [`IV_SIZE`] bytes of room for the IV, in place.
    ///
    /// # Errors
    /// No random numbers.
    pub fn seal_in_place(&self, out: &mut Vec<u8>, start: usize) -> RepoResult<()> {
        let iv = next_iv()?;
        out[start..start + IV].copy_from_slice(&iv);
        self.counter(&iv).apply_keystream(&mut out[start + IV..]);
        let tag = self.tag(&iv, &out[start + IV..]);
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Seals a text, appending to `out`.
    ///
    /// # Errors
    /// No random numbers.
    pub fn seal(&self, text: &[u8], out: &mut Vec<u8>) -> RepoResult<()> {
        let start = out.len();
        out.reserve(text.len() + OVERHEAD);
        out.extend_from_slice(&[0; IV]);
        out.extend_from_slice(text);
        self.seal_in_place(out, start)
    }

    /// Opens a sealed text in place and answers the text's part of it.
    ///
    /// # Errors
    /// Altered, cut short, or sealed with another key.
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> RepoResult<&'a mut [u8]> {
        let damaged = || RepoError::Damaged("authentication failed".into());
        let (iv, rest) = sealed.split_first_chunk_mut::<IV>().ok_or_else(damaged)?;
        let (text, tag) = rest.split_last_chunk_mut::<TAG>().ok_or_else(damaged)?;
        if !bool::from(self.tag(iv, text).ct_eq(tag)) {
            return Err(damaged());
        }
        self.counter(iv).apply_keystream(text);
        Ok(text)
    }

    /// Opens a sealed text.
    ///
    /// # Errors
    /// Altered, cut short, or sealed with another key.
    pub fn open(&self, sealed: &[u8]) -> RepoResult<Vec<u8>> {
        let mut sealed = sealed.to_vec();
        Ok(self.open_in_place(&mut sealed)?.to_vec())
    }
}

/// IVs asked from the system at once: an IV has to be unique, not secret.
const IVS: usize = 64;

thread_local! {
    static IV_STORE: RefCell<(usize, [[u8; IV]; IVS])> = const { RefCell::new((IVS, [[0; IV]; IVS])) };
}

fn next_iv() -> RepoResult<[u8; IV]> {
    IV_STORE.with_borrow_mut(|(next, store)| {
        if *next == IVS {
            random(store.as_flattened_mut())?;
            *next = 0;
        }
        *next += 1;
        Ok(store[*next - 1])
    })
}

pub(crate) fn random(out: &mut [u8]) -> RepoResult<()> {
    getrandom::fill(out).map_err(|_| RepoError::Invalid("the system gives no random numbers".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn opens_what_it_sealed_and_nothing_altered(text in prop::collection::vec(any::<u8>(), 0..300), flip in any::<prop::sample::Index>()) {
            let key = Key::random().unwrap();
            let mut sealed = Vec::new();
            key.seal(&text, &mut sealed).unwrap();
            prop_assert_eq!(sealed.len(), text.len() + OVERHEAD);
            prop_assert_eq!(&key.open(&sealed).unwrap(), &text);
            let again = Key::from_json(key.to_json().as_bytes()).unwrap();
            prop_assert_eq!(&again.open(&sealed).unwrap(), &text);
            let at = flip.index(sealed.len());
            sealed[at] ^= 1;
            prop_assert!(key.open(&sealed).is_err());
        }
    }
}
