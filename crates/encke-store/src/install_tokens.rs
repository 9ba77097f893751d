//! Install tokens: each stands once for an account's credentials. Only a token's SHA-256 is kept, and what it opens
//! is sealed with a key that only the token's holder can make.

use crate::Store;
use crate::error::StoreResult;
use crate::sql::P;
use serde_json::json;

/// What tokens are called where it is noted who made them.
const KIND: &str = "install-token";

/// A stored token.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// SHA-256 of the token, hexadecimal.
    pub hash: String,
    /// The account.
    pub username: String,
    /// The address a device shall use; empty for the one it came by.
    pub server: String,
    /// What the token opens.
    pub sealed: String,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub expires: i64,
}

impl Store {
    /// Keeps a new token.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_install_token(&self, t: StoredToken) -> StoreResult<()> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO install_tokens (token_hash, username, server, sealed, created, expires, used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
                &[
                    P::Text(&t.hash),
                    P::Text(&t.username),
                    P::Text(&t.server),
                    P::Text(&t.sealed),
                    P::Int(t.created),
                    P::Int(t.expires),
                ],
            )?;
            let organization = tx.sql().first(
                "SELECT organization FROM users WHERE username = ?1",
                &[P::Text(&t.username)],
                |row| Ok(row.text(0)?.to_string()),
            )?;
            let told = json!({ "Server": t.server, "ExpireTime": t.expires });
            let organization = organization.unwrap_or_default();
            tx.note_change(KIND, &organization, &t.username, None, Some(&told))
        })
        .await
    }

    /// Takes a token that is neither used nor expired: of two at once, one gets it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn take_install_token(&self, hash: &str, now: i64) -> StoreResult<Option<StoredToken>> {
        let hash = hash.to_string();
        self.write(move |tx| {
            let taken = tx.execute(
                "UPDATE install_tokens SET used = 1 WHERE token_hash = ?1 AND used = 0 AND expires > ?2",
                &[P::Text(&hash), P::Int(now)],
            )?;
            if taken == 0 {
                return Ok(None);
            }
            tx.sql().first(
                "SELECT username, server, sealed, created, expires FROM install_tokens WHERE token_hash = ?1",
                &[P::Text(&hash)],
                |row| {
                    Ok(StoredToken {
                        hash: hash.clone(),
                        username: row.text(0)?.to_string(),
                        server: row.text(1)?.to_string(),
                        sealed: row.text(2)?.to_string(),
                        created: row.int(3)?,
                        expires: row.int(4)?,
                    })
                },
            )
        })
        .await
    }

    /// Whether a token is neither used nor expired. It stays as it is.
    ///
    /// # Errors
    /// The database fails.
    pub async fn is_install_token(&self, hash: &str, now: i64) -> StoreResult<bool> {
        let hash = hash.to_string();
        self.read_few(move |sql| {
            let found = sql.first(
                "SELECT expires FROM install_tokens WHERE token_hash = ?1 AND used = 0 AND expires > ?2",
                &[P::Text(&hash), P::Int(now)],
                |row| row.int(0),
            )?;
            Ok(found.is_some())
        })
        .await
    }

    /// Gives a token back that was taken but did not lead to a registration.
    ///
    /// # Errors
    /// The database fails.
    pub async fn return_install_token(&self, hash: &str) -> StoreResult<()> {
        let hash = hash.to_string();
        self.write(move |tx| {
            tx.execute(
                "UPDATE install_tokens SET used = 0 WHERE token_hash = ?1",
                &[P::Text(&hash)],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets tokens that expired.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_install_tokens(&self, now: i64) -> StoreResult<()> {
        self.write(move |tx| {
            tx.execute("DELETE FROM install_tokens WHERE expires <= ?1", &[P::Int(now)])?;
            Ok(())
        })
        .await
    }
}
