//! Passwords on every call must be cheap (DESIGN D9): after the first, slow check a keyed digest of account hash and
//! password is remembered for a while. A new password gives a new account hash and with it a new digest, so nothing
//! has to be dropped.

use encke_api::account_keys::{AccountKeys, StoredPassword, Stretching};
use encke_api::{ApiError, ApiResult};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Passwords remembered at once.
const REMEMBERED: u64 = 50_000;
/// How long one is remembered.
const REMEMBER_FOR: Duration = Duration::from_secs(15 * 60);
/// Stretchings at once: each holds 19 MiB and a core.
const AT_ONCE: usize = 4;
/// Longest password; more is only work for the stretching.
const MAX_PASSWORD: usize = 4096;

/// Checks passwords.
pub struct Passwords {
    key: [u8; 32],
    verified: moka::sync::Cache<[u8; 32], ()>,
    gate: Semaphore,
}

impl Passwords {
    /// With a fresh key for the digests.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let verified = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(REMEMBER_FOR)
            .build();
        Ok(Self {
            key,
            verified,
            gate: Semaphore::new(AT_ONCE),
        })
    }

    /// What is remembered instead of a password.
    pub(crate) fn digest(&self, stored: &str, password: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(&(stored.len() as u64).to_le_bytes());
        mac.update(stored.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether a password is the stored one.
    ///
    /// # Errors
    /// 500 when the stretching can not run.
    pub async fn verify(&self, stored: &str, password: &str) -> ApiResult<bool> {
        let digest = self.digest(stored, password);
        if self.verified.contains_key(&digest) {
            return Ok(true);
        }
        let Ok(known) = StoredPassword::from_text(stored) else {
            return Ok(false);
        };
        let keys = self.stretch(known.stretching.clone(), password).await?;
        let right = known.matches(&keys.login);
        if right {
            self.verified.insert(digest, ());
        }
        Ok(right)
    }

    /// Both halves of a password, if it is the stored one.
    ///
    /// # Errors
    /// As [`Passwords::verify`].
    pub async fn keys(&self, stored: &str, password: &str) -> ApiResult<Option<AccountKeys>> {
        let Ok(known) = StoredPassword::from_text(stored) else {
            return Ok(None);
        };
        let keys = self.stretch(known.stretching.clone(), password).await?;
        Ok(known.matches(&keys.login).then_some(keys))
    }

    /// Stretches a new password.
    ///
    /// # Errors
    /// 400 for one that is too long, 500 when the stretching can not run.
    pub async fn create(&self, password: &str) -> ApiResult<(StoredPassword, AccountKeys)> {
        let stretching = Stretching::fresh().map_err(internal)?;
        let keys = self.stretch(stretching.clone(), password).await?;
        Ok((StoredPassword::of(stretching, &keys.login), keys))
    }

    /// Takes as long as a check.
    pub async fn waste_time(&self, password: &str) {
        let _ = self.stretch(Stretching::with_salt(&[0; 16]), password).await;
    }

    async fn stretch(&self, stretching: Stretching, password: &str) -> ApiResult<AccountKeys> {
        if password.len() > MAX_PASSWORD {
            return Err(ApiError::bad_request(format!(
                "A password has at most {MAX_PASSWORD} bytes"
            )));
        }
        let _permit = self.gate.acquire().await.map_err(internal)?;
        let password = zeroize_on_drop(password);
        tokio::task::spawn_blocking(move || stretching.derive(&password))
            .await
            .map_err(internal)?
            .map_err(internal)
    }
}

fn zeroize_on_drop(text: &str) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(text.to_string())
}

fn internal(e: impl std::fmt::Display) -> ApiError {
    tracing::error!(error = %e, "a password could not be stretched");
    ApiError::internal()
}
