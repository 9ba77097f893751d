//! Accounts: the profile document, whole, with its hash. What is stored is what the API answers.

use crate::Store;
use crate::error::{StoreError, StoreResult};
use crate::events::{self, EventDraft};
use crate::scope::Scope;
use crate::sql::{P, Row, Sql, Tx};
use encke_api::types::UserProfileConfig;
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;

/// A stored profile.
#[derive(Clone, Debug)]
pub struct StoredProfile {
    /// Account name.
    pub username: String,
    /// Organization; empty for the top level.
    pub organization: String,
    /// No log-in, backup or restore while set.
    pub suspended: bool,
    /// Changes with every change of the document.
    pub hash: String,
    /// The `UserProfileConfig` as JSON text.
    pub body: String,
}

impl StoredProfile {
    /// The document.
    ///
    /// # Errors
    /// The stored text is damaged.
    pub fn parse(&self) -> StoreResult<UserProfileConfig> {
        Ok(serde_json::from_str(&self.body)?)
    }
}

/// A profile about to replace the stored one.
pub struct ProfileChange {
    /// The new document. Its `Username` and `OrganizationID` say where it belongs and can not change.
    pub profile: UserProfileConfig,
    /// The hash the change is based on; `None` forces.
    pub require_hash: Option<String>,
    /// What happened, beside `SEVT_ACCOUNT_UPDATED`.
    pub events: Vec<EventDraft>,
}

/// Hash of a stored document: opaque to clients.
#[must_use]
pub(crate) fn document_hash(body: &str) -> String {
    hex::encode(&Sha256::digest(body.as_bytes())[..16])
}

const COLUMNS: &str = "username, organization, suspended, hash, body";

fn read_row(row: &dyn Row) -> StoreResult<StoredProfile> {
    Ok(StoredProfile {
        username: row.text(0)?.to_string(),
        organization: row.text(1)?.to_string(),
        suspended: row.int(2)? != 0,
        hash: row.text(3)?.to_string(),
        body: row.text(4)?.to_string(),
    })
}

fn find(sql: &mut dyn Sql, scope: &Scope, username: &str) -> StoreResult<Option<StoredProfile>> {
    let (condition, param) = scope.condition("organization", "username", 2);
    let params: Vec<P> = std::iter::once(P::Text(username)).chain(param).collect();
    sql.first(
        &format!("SELECT {COLUMNS} FROM users WHERE username = ?1 AND {condition}"),
        &params,
        read_row,
    )
}

impl Store {
    /// Names of all accounts, in order.
    ///
    /// # Errors
    /// The database fails.
    pub async fn usernames(&self, scope: &Scope) -> StoreResult<Vec<String>> {
        let scope = scope.clone();
        self.read(move |sql| {
            let (condition, param) = scope.condition("organization", "username", 1);
            let params: Vec<P> = param.into_iter().collect();
            sql.all(
                &format!("SELECT username FROM users WHERE {condition} ORDER BY username"),
                &params,
                |row| Ok(row.text(0)?.to_string()),
            )
        })
        .await
    }

    /// One account.
    ///
    /// # Errors
    /// `NotFound`, also when it is outside the scope; or the database fails.
    pub async fn profile(&self, scope: &Scope, username: &str) -> StoreResult<StoredProfile> {
        let (scope, username) = (scope.clone(), username.to_string());
        self.read(move |sql| find(sql, &scope, &username)?.ok_or(StoreError::NotFound))
            .await
    }

    /// Hands over account after account (name and document text) without collecting them, together with a state that
    /// comes back at the end. Runs on a thread for blocking work; `on_profile` may wait for its reader and breaks to
    /// stop.
    ///
    /// # Errors
    /// The database fails.
    pub async fn each_profile<S, F>(&self, scope: &Scope, mut state: S, mut on_profile: F) -> StoreResult<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, &str, &str) -> ControlFlow<()> + Send + 'static,
    {
        let scope = scope.clone();
        self.read(move |sql| {
            let (condition, param) = scope.condition("organization", "username", 1);
            let params: Vec<P> = param.into_iter().collect();
            sql.query(
                &format!("SELECT username, body FROM users WHERE {condition} ORDER BY username"),
                &params,
                &mut |row| Ok(on_profile(&mut state, row.text(0)?, row.text(1)?)),
            )?;
            Ok(state)
        })
        .await
    }

    /// How many accounts and registered devices there are.
    ///
    /// # Errors
    /// The database fails.
    pub async fn count_users(&self, scope: &Scope) -> StoreResult<(i64, i64)> {
        let scope = scope.clone();
        self.read(move |sql| {
            let (condition, param) = scope.condition("organization", "username", 1);
            let params: Vec<P> = param.into_iter().collect();
            let found = sql.first(
                &format!("SELECT COUNT(*), COALESCE(SUM(devices), 0) FROM users WHERE {condition}"),
                &params,
                |row| Ok((row.int(0)?, row.int(1)?)),
            )?;
            Ok(found.unwrap_or_default())
        })
        .await
    }

    /// Adds an account.
    ///
    /// # Errors
    /// `Exists`, or the database fails.
    pub async fn add_user(
        &self,
        profile: UserProfileConfig,
        event: EventDraft,
    ) -> StoreResult<StoredProfile> {
        self.write(move |tx| {
            let stored = to_stored(&profile)?;
            tx.execute(
                "INSERT INTO users (username, organization, user_group, policy, suspended, devices, hash, body, modified)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                &columns(&profile, &stored),
            )?;
            tx.emit(event);
            Ok(stored)
        })
        .await
    }

    /// Replaces a profile.
    ///
    /// # Errors
    /// `NotFound`, `Changed` when the hash given is not the stored one any more, or the database fails.
    pub async fn replace_profile(&self, scope: &Scope, change: ProfileChange) -> StoreResult<StoredProfile> {
        let scope = scope.clone();
        self.write(move |tx| {
            let old = find(tx.sql(), &scope, &change.profile.username)?.ok_or(StoreError::NotFound)?;
            if change.require_hash.as_ref().is_some_and(|h| *h != old.hash) {
                return Err(StoreError::Changed);
            }
            let stored = to_stored(&change.profile)?;
            let mut params = columns(&change.profile, &stored).to_vec();
            params.push(P::Text(&old.hash));
            let touched = tx.execute(
                "UPDATE users SET organization = ?2, user_group = ?3, policy = ?4, suspended = ?5, devices = ?6,
                 hash = ?7, body = ?8, modified = ?9 WHERE username = ?1 AND hash = ?10",
                &params,
            )?;
            if touched == 0 {
                return Err(StoreError::Changed);
            }
            for event in change.events {
                tx.emit(event);
            }
            Ok(stored)
        })
        .await
    }

    /// Removes an account with its sessions. `cascade` removes what other capabilities keep about it, in the same
    /// transaction.
    ///
    /// # Errors
    /// `NotFound`, or the database fails.
    pub async fn delete_user<F>(
        &self,
        scope: &Scope,
        username: &str,
        event: EventDraft,
        cascade: F,
    ) -> StoreResult<StoredProfile>
    where
        F: FnOnce(&mut Tx, &str) -> StoreResult<()> + Send + 'static,
    {
        let (scope, username) = (scope.clone(), username.to_string());
        self.write(move |tx| {
            let old = find(tx.sql(), &scope, &username)?.ok_or(StoreError::NotFound)?;
            tx.execute("DELETE FROM users WHERE username = ?1", &[P::Text(&username)])?;
            tx.execute(
                "DELETE FROM sessions WHERE kind = 'user' AND name = ?1",
                &[P::Text(&username)],
            )?;
            cascade(tx, &username)?;
            tx.emit(event);
            Ok(old)
        })
        .await
    }
}

fn to_stored(profile: &UserProfileConfig) -> StoreResult<StoredProfile> {
    let body = serde_json::to_string(profile)?;
    Ok(StoredProfile {
        username: profile.username.clone(),
        organization: profile.organization_id.clone(),
        suspended: profile.is_suspended,
        hash: document_hash(&body),
        body,
    })
}

fn columns<'a>(profile: &'a UserProfileConfig, stored: &'a StoredProfile) -> [P<'a>; 9] {
    [
        P::Text(&profile.username),
        P::Text(&profile.organization_id),
        P::Text(&profile.group_id),
        P::Text(&profile.policy_id),
        P::from(profile.is_suspended),
        P::Int(i64::try_from(profile.devices.len()).unwrap_or(i64::MAX)),
        P::Text(&stored.hash),
        P::Text(&stored.body),
        P::Int(events::now()),
    ]
}
