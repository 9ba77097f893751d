//! The keys that come out of an account's password (DESIGN D5).
//!
//! The password is stretched with Argon2id (RFC 9106) into 64 bytes. The first half logs in and the server keeps
//! its SHA-256; the second half never leaves the device and wraps the secrets inside the profile. Neither can be
//! computed from the other.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as B64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `PasswordFormat` of a [`StoredPassword`]. The published formats but 0 are unknown, so ours keeps clear of them.
pub const PASSWORD_FORMAT_ENCKE: i64 = 100;
/// `EncryptionKeyEncryptionMethod` of a value from [`WrappingKey::wrap`]; the published ones but 0 are unknown.
pub const ENCRYPTIONMETHOD_ENCKE: u64 = 100;

/// Where a Storage Vault's wrapped key belongs, for [`WrappingKey::wrap`].
#[must_use]
pub fn vault_key_place(vault: &str) -> String {
    format!("vault:{vault}")
}

/// Where a Storage Vault's wrapped bucket key belongs, for [`WrappingKey::wrap`].
#[must_use]
pub fn bucket_key_place(vault: &str) -> String {
    format!("bucket:{vault}")
}

/// Where an account's recovery code, wrapped with the server's key, belongs.
#[must_use]
pub fn recovery_place(username: &str) -> String {
    format!("recovery:{username}")
}

/// Largest Argon2 memory (KiB) accepted from a stored hash or a server, so that neither can exhaust a machine.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const NONCE: usize = 24;
const WRAPPED_PREFIX: &str = "encke1:";

/// Why a key could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The stored text is not one of ours.
    #[error("not a stored password or wrapped value of this version")]
    Format,
    /// Wrong key, or the value was altered.
    #[error("the value can not be opened with this password")]
    Open,
    /// The stretching parameters are out of bounds.
    #[error("password stretching parameters out of bounds")]
    Parameters,
    /// The operating system gave no random numbers.
    #[error("no random numbers from the system")]
    Random,
}

/// How a password is stretched: public, stored with the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretching {
    /// 16 random bytes, base64 without padding.
    pub salt: String,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Stretching {
    /// Fresh salt and today's parameters (OWASP's first choice for Argon2id).
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn fresh() -> Result<Self, KeyError> {
        let mut salt = [0u8; 16];
        getrandom::fill(&mut salt).map_err(|_| KeyError::Random)?;
        Ok(Self::with_salt(&salt))
    }

    /// Today's parameters with a given salt.
    #[must_use]
    pub fn with_salt(salt: &[u8; 16]) -> Self {
        Self {
            salt: B64.encode(salt),
            memory_kib: 19 * 1024,
            passes: 2,
            lanes: 1,
        }
    }

    /// Stretches a password. Takes some tens of milliseconds of one core.
    ///
    /// # Errors
    /// Parameters that are malformed or out of bounds.
    pub fn derive(&self, password: &str) -> Result<AccountKeys, KeyError> {
        if self.memory_kib > MAX_MEMORY_KIB || self.passes > 10 || self.lanes > 8 {
            return Err(KeyError::Parameters);
        }
        let salt = B64.decode(&self.salt).map_err(|_| KeyError::Format)?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(64))
            .map_err(|_| KeyError::Parameters)?;
        let mut out = [0u8; 64];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &salt, &mut out)
            .map_err(|_| KeyError::Parameters)?;
        let mut keys = AccountKeys {
            login: LoginKey([0; 32]),
            wrapping: WrappingKey([0; 32]),
        };
        keys.login.0.copy_from_slice(&out[..32]);
        keys.wrapping.0.copy_from_slice(&out[32..]);
        out.zeroize();
        Ok(keys)
    }
}

/// Both halves of a stretched password.
pub struct AccountKeys {
    /// Proves who is calling.
    pub login: LoginKey,
    /// Opens the secrets inside the profile.
    pub wrapping: WrappingKey,
}

/// The half that logs in.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LoginKey([u8; 32]);

impl LoginKey {
    /// As text, for a device's settings and its log-in message.
    #[must_use]
    pub fn to_text(&self) -> String {
        B64.encode(self.0)
    }

    /// From [`LoginKey::to_text`].
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let bytes = B64.decode(text).map_err(|_| KeyError::Format)?;
        Ok(Self(bytes.try_into().map_err(|_| KeyError::Format)?))
    }
}

/// The half that wraps secrets.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct WrappingKey([u8; 32]);

impl WrappingKey {
    /// A key from 32 bytes of any secret source (a server's key file).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As text, for a device's settings file or a recovery code that is itself wrapped.
    #[must_use]
    pub fn to_text(&self) -> String {
        B64.encode(self.0)
    }

    /// From [`WrappingKey::to_text`].
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let bytes = B64.decode(text).map_err(|_| KeyError::Format)?;
        Ok(Self(bytes.try_into().map_err(|_| KeyError::Format)?))
    }

    /// Encrypts a secret (XChaCha20-Poly1305). `place` says where it belongs, so that it opens nowhere else.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn wrap(&self, place: &str, secret: &[u8]) -> Result<String, KeyError> {
        let mut nonce = [0u8; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| KeyError::Random)?;
        let sealed = XChaCha20Poly1305::new(&self.0.into())
            .encrypt(
                XNonce::from_slice(&nonce),
                Payload {
                    msg: secret,
                    aad: place.as_bytes(),
                },
            )
            .map_err(|_| KeyError::Open)?;
        Ok(format!(
            "{WRAPPED_PREFIX}{}",
            B64.encode([nonce.as_slice(), &sealed].concat())
        ))
    }

    /// Whether a value looks like one from [`WrappingKey::wrap`].
    #[must_use]
    pub fn is_wrapped(value: &str) -> bool {
        value.starts_with(WRAPPED_PREFIX)
    }

    /// Opens a value from [`WrappingKey::wrap`].
    ///
    /// # Errors
    /// Not such a value, another key, another place, or altered.
    pub fn unwrap_secret(&self, place: &str, value: &str) -> Result<Vec<u8>, KeyError> {
        let text = value.strip_prefix(WRAPPED_PREFIX).ok_or(KeyError::Format)?;
        let bytes = B64.decode(text).map_err(|_| KeyError::Format)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE).ok_or(KeyError::Format)?;
        XChaCha20Poly1305::new(&self.0.into())
            .decrypt(
                XNonce::from_slice(nonce),
                Payload {
                    msg: sealed,
                    aad: place.as_bytes(),
                },
            )
            .map_err(|_| KeyError::Open)
    }
}

/// What the server keeps of a password: the stretching and the SHA-256 of the login half. Fast to compare and
/// still slow to guess, since each guess costs a stretching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPassword {
    /// How to stretch.
    pub stretching: Stretching,
    hash: [u8; 32],
}

impl StoredPassword {
    /// What to keep for these keys.
    #[must_use]
    pub fn of(stretching: Stretching, login: &LoginKey) -> Self {
        Self {
            stretching,
            hash: Sha256::digest(login.0).into(),
        }
    }

    /// Stretches a new password. Takes some tens of milliseconds.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn create(password: &str) -> Result<(Self, AccountKeys), KeyError> {
        let stretching = Stretching::fresh()?;
        let keys = stretching.derive(password)?;
        Ok((Self::of(stretching, &keys.login), keys))
    }

    /// Whether this is the login half, in constant time.
    #[must_use]
    pub fn matches(&self, login: &LoginKey) -> bool {
        self.hash.ct_eq(&Sha256::digest(login.0)).into()
    }

    /// The text for `PasswordHash`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let s = &self.stretching;
        format!(
            "encke1$m={},t={},p={}${}${}",
            s.memory_kib,
            s.passes,
            s.lanes,
            s.salt,
            B64.encode(self.hash)
        )
    }

    /// From [`StoredPassword::to_text`].
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.split('$');
        let (Some("encke1"), Some(costs), Some(salt), Some(hash), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(KeyError::Format);
        };
        let mut numbers = costs
            .splitn(3, ',')
            .zip(["m=", "t=", "p="])
            .map(|(part, prefix)| {
                part.strip_prefix(prefix)
                    .and_then(|n| n.parse::<u32>().ok())
                    .ok_or(KeyError::Format)
            });
        let mut next = || numbers.next().ok_or(KeyError::Format)?;
        let stretching = Stretching {
            memory_kib: next()?,
            passes: next()?,
            lanes: next()?,
            salt: salt.to_string(),
        };
        let hash = B64.decode(hash).map_err(|_| KeyError::Format)?;
        Ok(Self {
            stretching,
            hash: hash.try_into().map_err(|_| KeyError::Format)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_password_tells_right_from_wrong_and_survives_text() {
        let (stored, keys) = StoredPassword::create("correct horse").unwrap();
        let stored = StoredPassword::from_text(&stored.to_text()).unwrap();
        assert!(stored.matches(&keys.login));
        let wrong = stored.stretching.derive("correct horsf").unwrap();
        assert!(!stored.matches(&wrong.login));
    }

    #[test]
    fn a_wrapped_secret_opens_only_with_its_key_and_in_its_place() {
        let key = WrappingKey::from_bytes([7; 32]);
        let wrapped = key.wrap("vault:a", b"secret").unwrap();
        assert_eq!(key.unwrap_secret("vault:a", &wrapped).unwrap(), b"secret");
        assert!(key.unwrap_secret("vault:b", &wrapped).is_err());
        assert!(
            WrappingKey::from_bytes([8; 32])
                .unwrap_secret("vault:a", &wrapped)
                .is_err()
        );
    }
}
