//! Asking one server, this one or another: who it is, which buckets it has, and which buckets its accounts and settings
//! name.

use super::settings::Target;
use crate::app::{App, now};
use crate::replication::{Failure, Remote};
use crate::storage_role;
use encke_api::constants::DESTINATIONTYPE_COMET;
use encke_store::audit::{Deed, action};
use encke_store::{BucketId, Scope, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// One answer of another server, however long, has come within this time.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The property that names a bucket, in profiles and in settings.
const BUCKET: &str = "CometBucket";

/// A server.
pub(super) enum Server {
    /// This one.
    Here,
    /// Another one.
    There(Remote),
    /// One that can not be asked, and why.
    Out(String),
}

/// What a server says of itself.
#[derive(Clone)]
pub(super) struct Identity {
    /// New at each of its starts: by it a server is known that is named twice.
    pub start_hash: String,
    /// Unix seconds by its clock.
    pub clock: i64,
    /// Tenant that it is seen as; empty for the top level, which sees all tenants.
    pub organization: String,
    has_accounts: bool,
    has_buckets: bool,
}

/// A bucket of a server.
pub(super) struct Found {
    pub organization: String,
    /// Unix seconds; 0 if the server does not tell.
    pub created: i64,
    pub bytes: i64,
}

/// Something that names a bucket.
pub(super) struct Use {
    pub bucket: String,
    /// Account; empty for the server's own settings.
    pub user: String,
    pub organization: String,
    /// Server that the vault names; empty if it is of another kind.
    pub address: String,
}

/// What names buckets on a server.
#[derive(Default)]
pub(super) struct Uses {
    pub accounts: usize,
    pub all: Vec<Use>,
}

/// What became of a bucket that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It was deleted.
    Now,
    /// It was gone already.
    Before,
    /// It is another bucket of the same name now, and stays.
    Another,
}

/// Finds the buckets that a document names.
fn named(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            if let Some(bucket) = map.get(BUCKET).and_then(Value::as_str)
                && !bucket.trim().is_empty()
            {
                let is_vault =
                    map.get("DestinationType").and_then(Value::as_u64) == Some(DESTINATIONTYPE_COMET);
                let address = map.get("CometServer").and_then(Value::as_str);
                let address = address.filter(|_| is_vault).unwrap_or_default();
                found.push((bucket.trim().to_string(), address.trim().to_string()));
            }
            map.values().for_each(|v| named(v, found));
        }
        Value::Array(all) => all.iter().for_each(|v| named(v, found)),
        _ => {}
    }
}

impl Uses {
    /// Takes in an account; nothing if its profile can not be read.
    fn account(&mut self, user: &str, profile: &[u8]) -> Option<()> {
        let profile: Value = serde_json::from_slice(profile).ok()?;
        // A profile that is none would look as if it had no vaults.
        profile.is_object().then_some(())?;
        self.accounts += 1;
        let organization = profile["OrganizationID"].as_str().unwrap_or_default();
        self.document(user, organization, &profile);
        Some(())
    }

    fn document(&mut self, user: &str, organization: &str, document: &Value) {
        let mut found = Vec::new();
        named(document, &mut found);
        self.all.extend(found.into_iter().map(|(bucket, address)| Use {
            bucket,
            user: user.to_string(),
            organization: organization.to_string(),
            address,
        }));
    }
}

/// As much of a bucket's description as is needed; nothing if it is none.
fn found(text: &[u8]) -> Option<Found> {
    let value: Value = serde_json::from_slice(text).ok()?;
    value.is_object().then(|| Found {
        organization: value["OrganizationID"].as_str().unwrap_or_default().to_string(),
        created: value["CreateTime"].as_i64().unwrap_or_default(),
        bytes: value["Size"]["Size"].as_i64().unwrap_or_default(),
    })
}

fn failed(e: &StoreError) -> String {
    tracing::error!(error = %e, "the server's own buckets and accounts could not be read");
    "The server could not read its own database".into()
}

/// An answer of another server, in time.
async fn answered<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|e| e.text()),
        Err(_) => Err("The server does not come to an end with its answer".into()),
    }
}

impl Server {
    pub(super) fn of(app: &App, target: &Target) -> Self {
        match target.password(app) {
            Ok(password) => Server::There(Remote::new(&target.address, target.username(), password)),
            Err(e) => Server::Out(e.message),
        }
    }

    /// Who it is.
    ///
    /// # Errors
    /// Why it does not tell, for people; so for all that follow.
    pub(super) async fn identity(&self, app: &App) -> Result<Identity, String> {
        match self {
            Server::Here => Ok(Identity {
                start_hash: app.start_hash.clone(),
                clock: now(),
                organization: String::new(),
                has_accounts: true,
                has_buckets: app.config().storage_role.role_enabled,
            }),
            Server::There(remote) => {
                let version = answered(remote.call("meta/version", &[])).await?;
                let caller = answered(remote.call("account/properties", &[])).await?;
                let role = |name: &str| version[name].as_bool();
                let told = (
                    version["ServerStartHash"].as_str().filter(|h| !h.is_empty()),
                    version["CurrentTime"].as_i64(),
                    caller["OrganizationID"].as_str(),
                    role("AuthenticationRole"),
                    role("StorageRole"),
                );
                let (Some(start), Some(clock), Some(organization), Some(accounts), Some(buckets)) = told
                else {
                    return Err("The server does not say who it is".into());
                };
                Ok(Identity {
                    start_hash: start.to_string(),
                    clock,
                    organization: organization.to_string(),
                    has_accounts: accounts,
                    has_buckets: buckets,
                })
            }
            Server::Out(why) => Err(why.clone()),
        }
    }

    /// Its buckets by id.
    pub(super) async fn buckets(
        &self,
        app: &App,
        identity: &Identity,
    ) -> Result<BTreeMap<String, Found>, String> {
        let mut all = BTreeMap::new();
        match self {
            _ if !identity.has_buckets => {}
            Server::Here => {
                let listed = app.store.each_bucket(&Scope::All, all, |all, bucket| {
                    let found = Found {
                        organization: bucket.organization,
                        created: bucket.created,
                        bytes: bucket.size.bytes,
                    };
                    all.insert(bucket.id.to_string(), found);
                    ControlFlow::Continue(())
                });
                all = listed.await.map_err(|e| failed(&e))?;
            }
            Server::There(remote) => {
                answered(remote.each_entry("storage/list-buckets", |id, text| {
                    all.insert(id.to_string(), found(text)?);
                    Some(())
                }))
                .await?;
            }
            Server::Out(why) => return Err(why.clone()),
        }
        Ok(all)
    }

    /// What names buckets there. As an administrator of a tenant: what of the tenant does.
    pub(super) async fn uses(&self, app: &App, identity: &Identity) -> Result<Uses, String> {
        let mut uses = Uses::default();
        match self {
            Server::Here => {
                let config = serde_json::to_value(&*app.config()).map_err(|e| failed(&e.into()))?;
                uses.document("", "", &config);
                let read = app
                    .store
                    .each_profile(&Scope::All, (uses, true), |(uses, whole), name, body| match uses
                        .account(name, body.as_bytes())
                    {
                        Some(()) => ControlFlow::Continue(()),
                        None => {
                            *whole = false;
                            ControlFlow::Break(())
                        }
                    });
                let (read, whole) = read.await.map_err(|e| failed(&e))?;
                if !whole {
                    return Err("The profile of an account can not be read".into());
                }
                uses = read;
            }
            Server::There(remote) => {
                if identity.organization.is_empty() {
                    let config = answered(remote.call("meta/server-config/get", &[]));
                    let config = config.await.map_err(|e| {
                        format!("The server does not show its settings, which may name buckets, too: {e}")
                    })?;
                    uses.document("", "", &config);
                }
                if identity.has_accounts {
                    answered(remote.each_entry("list-users-full", |name, text| uses.account(name, text)))
                        .await?;
                }
            }
            Server::Out(why) => return Err(why.clone()),
        }
        Ok(uses)
    }

    /// Deletes a bucket that was made at this time. `address` is the server's, for the audit.
    pub(super) async fn delete(
        &self,
        app: &Arc<App>,
        actor: &str,
        address: &str,
        bucket: &str,
        created: i64,
    ) -> Result<Gone, String> {
        match self {
            Server::Here => {
                let Some(id) = BucketId::parse(bucket) else {
                    return Ok(Gone::Before);
                };
                match app.store.bucket(&Scope::All, &id).await {
                    Ok(present) if present.created != created => return Ok(Gone::Another),
                    Ok(_) => {}
                    Err(StoreError::NotFound) => return Ok(Gone::Before),
                    Err(e) => return Err(failed(&e)),
                }
                match storage_role::delete(app, actor, Scope::All, id).await {
                    Ok(()) => Ok(Gone::Now),
                    Err(e) if e.status == 404 => Ok(Gone::Before),
                    Err(e) => Err(e.message),
                }
            }
            Server::There(remote) => {
                let fields = [("BucketID", bucket)];
                let missing = |e: Failure| match e.is_missing() {
                    true => Ok(Gone::Before),
                    false => Err(e.text()),
                };
                match remote.call("storage/bucket-properties", &fields).await {
                    Ok(present) if present["CreateTime"].as_i64() != Some(created) => {
                        return Ok(Gone::Another);
                    }
                    Ok(_) => {}
                    Err(e) => return missing(e),
                }
                if let Err(e) = remote.call("storage/delete-bucket", &fields).await {
                    return missing(e);
                }
                let deed = Deed {
                    organization: "",
                    kind: "bucket",
                    action: action::REMOVE,
                    resource: bucket,
                };
                // It is gone, whether this can be noted or not.
                if let Err(e) = app.store.note_deed(deed, json!({ "Server": address })).await {
                    tracing::error!(bucket, address, error = %e, "a deletion could not be noted");
                }
                Ok(Gone::Now)
            }
            Server::Out(why) => Err(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_names_a_bucket_is_found_wherever_it_stands() {
        let profile = json!({
            "OrganizationID": "north",
            "Destinations": {
                "plain": { "DestinationType": 1003, "CometServer": "https://a/", "CometBucket": " one " },
                "spanned": { "DestinationType": 1006, "CometBucket": "", "SpanTargets": [
                    { "DestinationType": 1003, "CometServer": "https://b/", "CometBucket": "two" } ] },
                // Kept from an earlier kind of vault: better once too often.
                "was": { "DestinationType": 1000, "CometServer": "https://c/", "CometBucket": "three" },
            },
        });
        let mut uses = Uses::default();
        uses.account("alice", profile.to_string().as_bytes()).unwrap();
        let told: Vec<_> = uses
            .all
            .iter()
            .map(|u| (u.bucket.as_str(), u.address.as_str()))
            .collect();
        assert_eq!(
            told,
            [("one", "https://a/"), ("two", "https://b/"), ("three", "")]
        );
        assert!(
            uses.all
                .iter()
                .all(|u| u.user == "alice" && u.organization == "north")
        );
        assert!(
            Uses::default().account("bob", b"7").is_none(),
            "no profile is no empty one"
        );
    }
}
