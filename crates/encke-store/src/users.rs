//! Accounts: the profile document, whole, with its hash. What is stored is what the API answers.

use crate::accounts_cache::AccountsCache;
use crate::error::{StoreError, StoreResult};
use crate::events::{self, EventDraft};
use crate::scope::Scope;
use crate::sql::{P, Row, Sql, Tx};
use crate::{Database, Store};
use encke_api::types::UserProfileConfig;
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;
use std::sync::Arc;

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
    pub body: Arc<str>,
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
    /// Hash of the policy that `profile.Policy` was made from; empty for an account without one.
    pub policy_hash: String,
    /// What happened, beside `SEVT_ACCOUNT_UPDATED`.
    pub events: Vec<EventDraft>,
}

/// A profile about to be added.
pub struct NewProfile {
    /// The document.
    pub profile: UserProfileConfig,
    /// As [`ProfileChange::policy_hash`].
    pub policy_hash: String,
    /// `SEVT_ACCOUNT_NEW`.
    pub event: EventDraft,
}

/// Accounts that have something in common.
#[derive(Clone, Debug)]
pub enum UsersOf {
    /// Members of a group.
    Group(String),
    /// Accounts under a policy.
    Policy(String),
    /// Accounts under a policy whose profile does not show its present state.
    OutdatedPolicy,
    /// Accounts with a Storage Vault under a shared quota.
    Quota(String),
    /// Accounts of an organization.
    Organization(String),
}

/// Hash of a stored document: opaque to clients.
#[must_use]
pub(crate) fn document_hash(body: &str) -> String {
    hex::encode(&Sha256::digest(body.as_bytes())[..16])
}

/// What accounts are called where it is noted who changed them.
const KIND: &str = "account";
const COLUMNS: &str = "username, organization, suspended, hash, body";

fn read_row(row: &dyn Row) -> StoreResult<StoredProfile> {
    Ok(StoredProfile {
        username: row.text(0)?.to_string(),
        organization: row.text(1)?.to_string(),
        suspended: row.int(2)? != 0,
        hash: row.text(3)?.to_string(),
        body: row.text(4)?.into(),
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
    pub async fn usernames(&self, scope: &Scope) -> StoreResult<Arc<Vec<String>>> {
        let cache = self.accounts_cache();
        if let Some(names) = cache.and_then(|c| c.names(scope)) {
            return Ok(names);
        }
        let version = cache.map(AccountsCache::version);
        let read = scope.clone();
        let names = self.read_few(move |sql| {
            let (condition, param) = read.condition("organization", "username", 1);
            let params: Vec<P> = param.into_iter().collect();
            sql.all(
                &format!("SELECT username FROM users WHERE {condition} ORDER BY username"),
                &params,
                |row| Ok(row.text(0)?.to_string()),
            )
        });
        let names = Arc::new(names.await?);
        if let (Some(cache), Some(version)) = (cache, version) {
            cache.keep_names(version, scope, &names);
        }
        Ok(names)
    }

    /// One account.
    ///
    /// # Errors
    /// `NotFound`, also when it is outside the scope; or the database fails.
    pub async fn profile(&self, scope: &Scope, username: &str) -> StoreResult<StoredProfile> {
        let cache = self.accounts_cache();
        let found = match cache.and_then(|c| c.profile(username)) {
            Some(kept) => kept,
            None => {
                let version = cache.map(AccountsCache::version);
                let name = username.to_string();
                let read =
                    self.read_few(move |sql| find(sql, &Scope::All, &name)?.ok_or(StoreError::NotFound));
                let found = read.await?;
                if let (Some(cache), Some(version)) = (cache, version) {
                    cache.keep_profile(version, &found);
                }
                found
            }
        };
        if !scope.contains(&found.organization, &found.username) {
            return Err(StoreError::NotFound);
        }
        Ok(found)
    }

    fn accounts_cache(&self) -> Option<&AccountsCache> {
        match &self.database {
            Database::Sqlite(sqlite) => Some(&sqlite.accounts),
            Database::Postgres(_) => None,
        }
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

    /// Name and hash of every account, in no order.
    ///
    /// # Errors
    /// The database fails.
    pub async fn profile_hashes(&self) -> StoreResult<Vec<(String, String)>> {
        self.read(|sql| {
            sql.all("SELECT username, hash FROM users", &[], |row| {
                Ok((row.text(0)?.to_string(), row.text(1)?.to_string()))
            })
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
                &format!(
                    "SELECT COUNT(*), CAST(COALESCE(SUM(devices), 0) AS BIGINT) FROM users WHERE {condition}"
                ),
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
    /// `Exists`, `Changed` when its policy was changed meanwhile, `Invalid` when it names what does not exist, or the
    /// database fails.
    pub async fn add_user(&self, new: NewProfile) -> StoreResult<StoredProfile> {
        self.write(move |tx| {
            let NewProfile {
                profile,
                policy_hash,
                event,
            } = new;
            *tx.accounts_changed = true;
            check_references(tx, &profile, &policy_hash)?;
            let stored = to_stored(&profile)?;
            tx.execute(
                "INSERT INTO users (username, organization, user_group, policy, suspended, devices, hash, body,
                 modified, policy_hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                &columns(&profile, &stored, &policy_hash),
            )?;
            note_quotas(tx, &profile, false)?;
            tx.note_document(KIND, &stored.organization, &stored.username, None, Some(&*stored.body))?;
            tx.emit(event);
            Ok(stored)
        })
        .await
    }

    /// Names of the accounts that have something in common, in order.
    ///
    /// # Errors
    /// The database fails.
    pub async fn usernames_of(&self, which: UsersOf) -> StoreResult<Vec<String>> {
        self.read(move |sql| {
            let (query, param) = match &which {
                UsersOf::Group(id) => ("SELECT username FROM users WHERE user_group = ?1", Some(id)),
                UsersOf::Policy(id) => ("SELECT username FROM users WHERE policy = ?1", Some(id)),
                UsersOf::OutdatedPolicy => (
                    "SELECT u.username FROM users u JOIN collections c ON c.kind = 'policy' AND c.id = u.policy
                     WHERE u.policy_hash <> c.hash",
                    None,
                ),
                UsersOf::Quota(id) => (
                    "SELECT DISTINCT username FROM vault_quotas WHERE quota = ?1",
                    Some(id),
                ),
                UsersOf::Organization(id) => ("SELECT username FROM users WHERE organization = ?1", Some(id)),
            };
            let params: Vec<P> = param.map(P::from).into_iter().collect();
            sql.all(&format!("{query} ORDER BY username"), &params, |row| {
                Ok(row.text(0)?.to_string())
            })
        })
        .await
    }

    /// Replaces a profile.
    ///
    /// # Errors
    /// `NotFound`, `Changed` when the hash given is not the stored one any more or its policy was changed meanwhile,
    /// `Invalid` when it names what does not exist, or the database fails.
    pub async fn replace_profile(&self, scope: &Scope, change: ProfileChange) -> StoreResult<StoredProfile> {
        let scope = scope.clone();
        self.write(move |tx| {
            let old = find(tx.sql(), &scope, &change.profile.username)?.ok_or(StoreError::NotFound)?;
            if change.require_hash.as_ref().is_some_and(|h| *h != old.hash) {
                return Err(StoreError::Changed);
            }
            *tx.accounts_changed = true;
            check_references(tx, &change.profile, &change.policy_hash)?;
            let stored = to_stored(&change.profile)?;
            let mut params = columns(&change.profile, &stored, &change.policy_hash).to_vec();
            params.push(P::Text(&old.hash));
            let touched = tx.execute(
                "UPDATE users SET organization = ?2, user_group = ?3, policy = ?4, suspended = ?5, devices = ?6,
                 hash = ?7, body = ?8, modified = ?9, policy_hash = ?10 WHERE username = ?1 AND hash = ?11",
                &params,
            )?;
            if touched == 0 {
                return Err(StoreError::Changed);
            }
            note_quotas(tx, &change.profile, true)?;
            let (before, now) = (Some(&*old.body), Some(&*stored.body));
            if let Some(event) = change.events.first() {
                tx.asked_if_unknown(&event.actor, &stored.organization);
            }
            tx.note_document(KIND, &stored.organization, &stored.username, before, now)?;
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
            *tx.accounts_changed = true;
            tx.execute("DELETE FROM users WHERE username = ?1", &[P::Text(&username)])?;
            tx.execute(
                "DELETE FROM vault_quotas WHERE username = ?1",
                &[P::Text(&username)],
            )?;
            tx.execute(
                "DELETE FROM sessions WHERE kind = 'user' AND name = ?1",
                &[P::Text(&username)],
            )?;
            tx.execute(
                "DELETE FROM install_tokens WHERE username = ?1",
                &[P::Text(&username)],
            )?;
            tx.execute(
                "DELETE FROM update_campaign_devices WHERE username = ?1",
                &[P::Text(&username)],
            )?;
            cascade(tx, &username)?;
            tx.asked_if_unknown(&event.actor, &old.organization);
            tx.note_document(KIND, &old.organization, &username, Some(&*old.body), None)?;
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
        body: body.into(),
    })
}

/// Refuses what points to nothing. Asked inside the transaction, so that a policy that was saved or a group that was
/// deleted meanwhile is noticed.
fn check_references(tx: &mut Tx, profile: &UserProfileConfig, policy_hash: &str) -> StoreResult<()> {
    let mut hash_of = |kind: &str, id: &str| {
        tx.sql().first(
            "SELECT hash FROM collections WHERE kind = ?1 AND id = ?2 AND organization = ?3",
            &[P::Text(kind), P::Text(id), P::Text(&profile.organization_id)],
            |row| Ok(row.text(0)?.to_string()),
        )
    };
    let missing = |what: &str, id: &str| StoreError::Invalid(format!("There is no {what} '{id}'"));
    if !profile.policy_id.is_empty() {
        let hash = hash_of("policy", &profile.policy_id)?;
        if hash.ok_or_else(|| missing("policy", &profile.policy_id))? != policy_hash {
            return Err(StoreError::Changed);
        }
    }
    if !profile.group_id.is_empty() && hash_of("group", &profile.group_id)?.is_none() {
        return Err(missing("user group", &profile.group_id));
    }
    for vault in profile.destinations.values() {
        let quota = &vault.storage_limit_id;
        if !quota.is_empty() && hash_of("quota", quota)?.is_none() {
            return Err(missing("shared storage quota", quota));
        }
    }
    Ok(())
}

/// Keeps the table of vaults under shared quotas true to a profile.
fn note_quotas(tx: &mut Tx, profile: &UserProfileConfig, known: bool) -> StoreResult<()> {
    if known {
        tx.execute(
            "DELETE FROM vault_quotas WHERE username = ?1",
            &[P::Text(&profile.username)],
        )?;
    }
    for (id, vault) in &profile.destinations {
        if vault.storage_limit_id.is_empty() {
            continue;
        }
        tx.execute(
            "INSERT INTO vault_quotas (quota, username, vault, bytes) VALUES (?1, ?2, ?3, ?4)",
            &[
                P::Text(&vault.storage_limit_id),
                P::Text(&profile.username),
                P::Text(id),
                P::Int(vault.statistics.client_provided_size.size),
            ],
        )?;
    }
    Ok(())
}

fn columns<'a>(
    profile: &'a UserProfileConfig,
    stored: &'a StoredProfile,
    policy_hash: &'a str,
) -> [P<'a>; 10] {
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
        P::Text(policy_hash),
    ]
}
