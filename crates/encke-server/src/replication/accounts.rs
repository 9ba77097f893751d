//! Accounts and what they are under (shared quotas, groups, policies) on their way to another server.
//!
//! Documents are compared before they are written, so that two servers that copy to each other come to rest. An
//! account's two documents differ in their secrets, which each server wraps with its own key; so what was given is
//! remembered by hash ([`encke_store::Replicated`]), and an account whose hashes are both the remembered ones is copied.

use super::channel::{Channel, Key};
use super::remote::{Failure, Remote};
use super::settings::Deletion;
use super::status::WORKERS;
use crate::app::App;
use encke_api::account_keys::recovery_place;
use encke_api::types::{GroupPolicy, SharedStorageQuota, UserGroup, UserProfileConfig};
use encke_store::collections::{Collected, Item};
use encke_store::{Replicated, Scope, StoreError};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is copied, in the order in which the later depends on the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Quota,
    Group,
    Policy,
    User,
}

/// The calls for a kind of small document, without `/api/v1/admin/`.
struct Calls {
    list: &'static str,
    get: &'static str,
    set: &'static str,
    delete: &'static str,
    /// Names of the fields for the id, the document, and the hash that a change is based on (empty: it takes none).
    id: &'static str,
    document: &'static str,
    check: &'static str,
    /// Where the document and its hash stand in the answer of `get`.
    answer: (&'static str, &'static str),
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Quota, Kind::Group, Kind::Policy, Kind::User];

    /// For people, and for what is kept.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Quota => "shared quota",
            Kind::Group => "group",
            Kind::Policy => "policy",
            Kind::User => "account",
        }
    }

    /// Nothing for accounts, which have calls of their own.
    fn calls(self) -> Option<Calls> {
        match self {
            Kind::User => None,
            Kind::Quota => Some(Calls {
                list: "squota/list-all",
                get: "squota/get-with-hash",
                set: "squota/set-with-hash",
                delete: "squota/delete",
                id: "SharedStorageQuotaID",
                document: "SharedStorageQuota",
                check: "CheckHash",
                answer: ("SharedStorageQuota", "SharedStorageQuotaHash"),
            }),
            Kind::Group => Some(Calls {
                list: "user-groups/list",
                get: "user-groups/get",
                set: "user-groups/set",
                delete: "user-groups/delete",
                id: "GroupID",
                document: "Group",
                check: "",
                answer: ("UserGroup", ""),
            }),
            Kind::Policy => Some(Calls {
                list: "policies/list",
                get: "policies/get",
                set: "policies/set",
                delete: "policies/delete",
                id: "PolicyID",
                document: "Policy",
                check: "CheckPolicyHash",
                answer: ("Policy", "PolicyHash"),
            }),
        }
    }
}

/// Times that each server writes by itself.
const OWN_TIMES: [&str; 3] = ["CreatedAt", "CreatedDate", "ModifiedDate"];

fn here(e: &StoreError) -> Failure {
    Failure::Here(format!("This server's database fails: {e}"))
}

/// Names and hashes of the accounts there.
async fn accounts_there(remote: &Remote) -> Result<BTreeMap<String, String>, Failure> {
    let answer = match remote.call("/api/encke/v1/replication/accounts", &[]).await {
        Err(e) if e.is_missing() => {
            return Err(Failure::Away(
                "The server can not take accounts: it is too old, or of another kind".into(),
            ));
        }
        other => other?,
    };
    serde_json::from_value(answer["Accounts"].clone())
        .map_err(|_| Failure::Away("The server does not tell its accounts".into()))
}

/// Ids of the documents of a kind there.
async fn ids_there(remote: &Remote, kind: Kind, calls: &Calls) -> Result<BTreeSet<String>, Failure> {
    let answer = remote.call(calls.list, &[]).await.map_err(Failure::everything)?;
    let all = if kind == Kind::Quota {
        &answer["Entries"]
    } else {
        &answer
    };
    let found = all.as_object().map(|o| o.keys().cloned().collect());
    Ok(found.unwrap_or_default())
}

/// Ids of the documents of a kind here.
async fn ids_here(app: &App, kind: Kind) -> Result<BTreeSet<String>, Failure> {
    async fn of<T: Collected>(app: &App) -> Result<BTreeSet<String>, StoreError> {
        let all: BTreeMap<String, T> = app.store.items(&Scope::All).await?;
        Ok(all.into_keys().collect())
    }
    let found = match kind {
        Kind::Quota => of::<SharedStorageQuota>(app).await,
        Kind::Group => of::<UserGroup>(app).await,
        Kind::Policy => of::<GroupPolicy>(app).await,
        Kind::User => app
            .store
            .usernames(&Scope::All)
            .await
            .map(|n| n.iter().cloned().collect()),
    };
    found.map_err(|e| here(&e))
}

/// Lists both sides: what may have to be copied, or deleted there.
pub(super) async fn list(app: &Arc<App>, channel: &Channel, remote: &Remote) -> Result<Vec<Key>, Failure> {
    let target = &channel.target;
    let mut keys = Vec::new();
    let accounts = accounts_there(remote).await?;
    let own: BTreeMap<String, String> = {
        let hashes = app
            .store
            .profile_hashes()
            .await
            .map_err(|e| here(&e).everything())?;
        hashes.into_iter().collect()
    };
    for kind in Kind::ALL {
        let given = app.store.replicated(&target.id, kind.word()).await;
        let given = given.map_err(|e| here(&e).everything())?;
        let (present, there) = match kind.calls() {
            Some(calls) => (
                ids_here(app, kind).await.map_err(Failure::everything)?,
                ids_there(remote, kind, &calls).await?,
            ),
            None => (own.keys().cloned().collect(), accounts.keys().cloned().collect()),
        };
        let gone: Vec<String> = match target.deletion {
            Deletion::None => Vec::new(),
            Deletion::Partial => given
                .keys()
                .filter(|id| !present.contains(*id))
                .cloned()
                .collect(),
            Deletion::Complete => there.difference(&present).cloned().collect(),
        };
        let is_copied = |id: &String| {
            kind == Kind::User
                && given.get(id).is_some_and(|g| {
                    own.get(id) == Some(&g.source_hash) && accounts.get(id) == Some(&g.replica_hash)
                })
        };
        keys.extend(
            present
                .iter()
                .filter(|id| !is_copied(id))
                .map(|id| Key::Account(kind, id.clone())),
        );
        // A server without a single account has lost them rather than had them deleted.
        if target.deletion == Deletion::Complete && own.is_empty() && !accounts.is_empty() {
            tracing::warn!(
                target_server = target.address,
                "this server has no accounts, so none are deleted there"
            );
            continue;
        }
        keys.extend(gone.into_iter().map(|id| Key::Account(kind, id)));
    }
    Ok(keys)
}

/// Copies, or deletes there, what is named.
pub(super) async fn work(
    app: &Arc<App>,
    channel: &Channel,
    remote: &Remote,
    keys: Vec<Key>,
) -> Result<(), Failure> {
    for kind in Kind::ALL {
        let mut copies = FuturesUnordered::new();
        for key in &keys {
            let id = match key {
                Key::Account(k, id) if *k == kind => id,
                _ => continue,
            };
            if copies.len() >= WORKERS {
                copies.next().await.unwrap_or(Ok(()))?;
            }
            copies.push(one(app, channel, remote, kind, id));
        }
        while let Some(result) = copies.next().await {
            result?;
        }
    }
    Ok(())
}

async fn one(
    app: &Arc<App>,
    channel: &Channel,
    remote: &Remote,
    kind: Kind,
    id: &str,
) -> Result<(), Failure> {
    let working = channel.status.work(0);
    let result = match kind {
        Kind::Quota => document::<SharedStorageQuota>(app, channel, remote, kind, id).await,
        Kind::Group => document::<UserGroup>(app, channel, remote, kind, id).await,
        Kind::Policy => document::<GroupPolicy>(app, channel, remote, kind, id).await,
        Kind::User => account(app, channel, remote, id).await,
    };
    let key = Key::Account(kind, id.to_string());
    match result {
        Ok(bytes) => {
            if let Some(bytes) = bytes {
                working.done(bytes);
            }
            channel.accepted(&key);
            Ok(())
        }
        Err(e @ Failure::Away(_)) => Err(e),
        Err(e) => {
            channel.refuse(key, e.text());
            Ok(())
        }
    }
}

/// A document without what each server writes by itself.
fn plain(mut document: Value) -> Value {
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, _| !OWN_TIMES.contains(&name.as_str()));
    }
    document
}

/// Copies a small document, or deletes it there. Answers the bytes that were sent; nothing if all was well already.
async fn document<T: Collected>(
    app: &App,
    channel: &Channel,
    remote: &Remote,
    kind: Kind,
    id: &str,
) -> Result<Option<u64>, Failure> {
    let Some(calls) = kind.calls() else {
        return Ok(None);
    };
    let item: Item<T> = match app.store.item(&Scope::All, id).await {
        Ok(item) => item,
        Err(StoreError::NotFound) => {
            let which = [(calls.id, id)];
            let deletion = remote.call(calls.delete, &which);
            return gone(app, channel, kind, id, deletion).await;
        }
        Err(e) => return Err(here(&e)),
    };
    let there = match remote.call(calls.get, &[(calls.id, id)]).await {
        Err(e) if e.is_missing() => None,
        other => Some(other?),
    };
    let wanted = serde_json::to_value(&item.value).unwrap_or_default();
    let (document, hash) = calls.answer;
    let same = there
        .as_ref()
        .is_some_and(|t| plain(t[document].clone()) == plain(wanted.clone()));
    let text = wanted.to_string();
    if !same {
        let mut fields = vec![(calls.id, id), (calls.document, text.as_str())];
        let known = there.as_ref().and_then(|t| t[hash].as_str());
        if let Some(known) = known.filter(|_| !calls.check.is_empty()) {
            fields.push((calls.check, known));
        }
        remote.call(calls.set, &fields).await?;
    }
    let given = Replicated {
        source_hash: item.hash,
        replica_hash: String::new(),
    };
    note(app, channel, kind, id, given).await?;
    Ok((!same).then_some(text.len() as u64))
}

/// Notes what was given, unless that stands there already.
async fn note(app: &App, channel: &Channel, kind: Kind, id: &str, given: Replicated) -> Result<(), Failure> {
    let target = &channel.target.id;
    let known = app.store.replicated_one(target, kind.word(), id).await;
    if known.map_err(|e| here(&e))?.as_ref() == Some(&given) {
        return Ok(());
    }
    let noted = app.store.note_replicated(target, kind.word(), id, given).await;
    noted.map_err(|e| here(&e))
}

/// Deletes there what is not here, where the target wants that.
async fn gone(
    app: &App,
    channel: &Channel,
    kind: Kind,
    id: &str,
    deletion: impl Future<Output = Result<Value, Failure>>,
) -> Result<Option<u64>, Failure> {
    let target = &channel.target;
    let given = app.store.replicated_one(&target.id, kind.word(), id).await;
    let was_given = given.map_err(|e| here(&e))?.is_some();
    let wanted = match target.deletion {
        Deletion::None => false,
        Deletion::Partial => was_given,
        Deletion::Complete => true,
    };
    let mut deleted = false;
    if wanted {
        match deletion.await {
            Ok(_) => {
                deleted = true;
                tracing::info!(
                    target_server = target.address,
                    kind = kind.word(),
                    id,
                    "deleted there"
                );
            }
            // Accounts that do not exist answer 400.
            Err(Failure::Refused { status: 404, .. }) => {}
            Err(Failure::Refused { status: 400, .. }) if kind == Kind::User => {}
            Err(e) => return Err(e),
        }
    }
    if was_given {
        let forgotten = app.store.forget_replicated(&target.id, kind.word(), id).await;
        forgotten.map_err(|e| here(&e))?;
    }
    Ok(deleted.then_some(0))
}

/// A secret that only this server's key opens, in clear; empty where there is none, or where the key is another's.
fn opened(app: &App, name: &str, what: &str, place: &str, wrapped: &str) -> Vec<u8> {
    if wrapped.is_empty() {
        return Vec::new();
    }
    app.server_key.unwrap_secret(place, wrapped).unwrap_or_else(|_| {
        tracing::warn!(
            account = name,
            secret = what,
            "a secret can not be opened and is not copied"
        );
        Vec::new()
    })
}

/// Copies an account, or deletes it there.
async fn account(app: &App, channel: &Channel, remote: &Remote, name: &str) -> Result<Option<u64>, Failure> {
    let stored = match app.store.profile(&Scope::All, name).await {
        Ok(stored) => stored,
        Err(StoreError::NotFound) => {
            let which = [("TargetUser", name)];
            let deletion = remote.call("delete-user", &which);
            return gone(app, channel, Kind::User, name, deletion).await;
        }
        Err(e) => return Err(here(&e)),
    };
    let mut profile: UserProfileConfig = stored.parse().map_err(|e| here(&e))?;
    let (wrapped_recovery, wrapped_totp) = (
        std::mem::take(&mut profile.password_recovery),
        std::mem::take(&mut profile.totp_key),
    );
    let recovery = opened(
        app,
        name,
        "recovery code",
        &recovery_place(name),
        &wrapped_recovery,
    );
    let totp_place = crate::auth::totp_place(&crate::auth::totp_account_of_user(name));
    let totp = opened(app, name, "secret of one-time codes", &totp_place, &wrapped_totp);
    let text = serde_json::to_string(&profile).unwrap_or_default();
    let (recovery, totp) = (String::from_utf8_lossy(&recovery), hex::encode(&totp));
    let mut fields = vec![("TargetUser", name), ("ProfileData", text.as_str())];
    if !recovery.is_empty() {
        fields.push(("RecoveryKey", &recovery));
    }
    if !totp.is_empty() {
        fields.push(("TOTPSecret", &totp));
    }
    let answer = remote
        .call("/api/encke/v1/replication/put-account", &fields)
        .await?;
    let hash = answer["ProfileHash"].as_str().unwrap_or_default();
    let changed = answer["Changed"] == Value::Bool(true);
    let given = Replicated {
        source_hash: stored.hash,
        replica_hash: hash.to_string(),
    };
    note(app, channel, Kind::User, name, given).await?;
    Ok(changed.then_some(text.len() as u64))
}
