//! Who changed what. The store itself notes each change of a document, in the transaction of the change, so that no
//! capability can forget it; who asked is known from the task that a call runs in.

mod compare;

pub use compare::{Difference, Differences};

use crate::error::{StoreError, StoreResult};
use crate::events::now;
use crate::sql::{P, Tx};
use crate::users::document_hash;
use crate::{Scope, Store};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::ControlFlow;

/// Largest document that is compared with what it was, in bytes; of larger ones only the fact is noted.
const MAX_COMPARED: usize = 4 * 1024 * 1024;

/// Who asks for a change.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// Name of the administrator or account; empty for the server itself.
    pub name: String,
    /// Their organization; empty for the top level.
    pub organization: String,
    /// Network address that they ask from.
    pub address: String,
}

tokio::task_local! {
    static ASKER: Asker;
}

/// Runs a call whose changes are noted as this person's.
pub async fn asked_by<F: Future>(asker: Asker, call: F) -> F::Output {
    ASKER.scope(asker, call).await
}

/// Who asked for what this task does; nobody in the server's own ones.
#[must_use]
pub fn asker() -> Asker {
    ASKER.try_with(Clone::clone).unwrap_or_default()
}

/// Administrators by organization and name.
fn by_name(admins: &Value) -> BTreeMap<(&str, &str), &Value> {
    let all = admins.as_array().into_iter().flatten();
    all.map(|a| {
        let organization = a["OrganizationID"].as_str().unwrap_or_default();
        ((organization, a["Username"].as_str().unwrap_or_default()), a)
    })
    .collect()
}

/// What was done to something.
pub mod action {
    /// It is new.
    pub const ADD: &str = "add";
    /// It is another now.
    pub const CHANGE: &str = "change";
    /// It is gone.
    pub const REMOVE: &str = "remove";
    /// Somebody began a session.
    pub const SIGN_IN: &str = "sign-in";
    /// Files were asked back onto a device.
    pub const RESTORE: &str = "restore";
    /// A file of a snapshot was handed out.
    pub const DOWNLOAD: &str = "download";
}

/// What is noted.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// Organization whose administrators see it; empty for the top level.
    pub organization: &'a str,
    /// What kind of thing it was done to, such as `account`.
    pub kind: &'a str,
    /// One of [`action`].
    pub action: &'a str,
    /// Which of the kind.
    pub resource: &'a str,
}

/// A noted deed.
#[derive(Clone, Debug)]
pub struct StoredDeed {
    /// Grows from deed to deed.
    pub id: i64,
    /// Unix seconds.
    pub time: i64,
    /// Organization whose administrators see it.
    pub organization: String,
    /// Who did it; empty for the server itself.
    pub actor: String,
    /// Where the actor belongs; empty for the top level.
    pub actor_organization: String,
    /// From where.
    pub address: String,
    /// To what kind of thing.
    pub kind: String,
    /// What was done.
    pub action: String,
    /// To which.
    pub resource: String,
    /// [`Differences`] as JSON text.
    pub changes: String,
}

/// Which deeds are wanted.
#[derive(Clone, Debug)]
pub struct DeedFilter {
    /// Only before the one of this id.
    pub before: i64,
    /// Only of this time (Unix seconds) and later.
    pub since: i64,
    /// Only of this time and earlier.
    pub until: i64,
    /// Only of this person.
    pub actor: Option<String>,
    /// Only to this kind of thing.
    pub kind: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only to this one.
    pub resource: Option<String>,
}

impl Tx<'_> {
    /// Who asked, where no call tells it: a device by its own keys, or the server going on with what somebody began.
    pub(crate) fn asked_if_unknown(&mut self, name: &str, organization: &str) {
        if self.asker.name.is_empty() {
            self.asker.name = name.to_string();
            self.asker.organization = organization.to_string();
        }
    }

    /// Notes a deed.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) fn note(&mut self, deed: Deed, differences: &Differences) -> StoreResult<()> {
        let changes = serde_json::to_string(differences)?;
        self.sql.execute(
            "INSERT INTO audit (time, organization, actor, actor_organization, address, kind, action, resource,
             changes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            &[
                P::Int(now()),
                P::Text(deed.organization),
                P::Text(&self.asker.name),
                P::Text(&self.asker.organization),
                P::Text(&self.asker.address),
                P::Text(deed.kind),
                P::Text(deed.action),
                P::Text(deed.resource),
                P::Text(&changes),
            ],
        )?;
        Ok(())
    }

    /// Notes that a document was added (no `old`), changed or removed (no `new`). One that stayed the same, or changed in
    /// nothing that anybody decides, is not noted.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) fn note_change(
        &mut self,
        kind: &str,
        organization: &str,
        resource: &str,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> StoreResult<()> {
        let differences = compare::compare(old, new);
        let action = match (old, new) {
            (None, None) => return Ok(()),
            (None, Some(_)) => action::ADD,
            (Some(_), None) => action::REMOVE,
            (Some(_), Some(_)) if differences.changes.is_empty() => return Ok(()),
            (Some(_), Some(_)) => action::CHANGE,
        };
        self.note(
            Deed {
                organization,
                kind,
                action,
                resource,
            },
            &differences,
        )
    }

    /// As [`Tx::note_change`], of documents as they are stored.
    ///
    /// # Errors
    /// The database fails or a document is damaged.
    pub(crate) fn note_document(
        &mut self,
        kind: &str,
        organization: &str,
        resource: &str,
        old: Option<&str>,
        new: Option<&str>,
    ) -> StoreResult<()> {
        let read = |text: &str| match text.len() > MAX_COMPARED {
            true => Ok(Value::String(format!(
                "{} bytes, not compared: {}",
                text.len(),
                document_hash(text)
            ))),
            false => serde_json::from_str::<Value>(text).map_err(StoreError::from),
        };
        let (old, new) = (old.map(read).transpose()?, new.map(read).transpose()?);
        self.note_change(kind, organization, resource, old.as_ref(), new.as_ref())
    }

    /// Notes what became of the configuration: of its administrators and tenants each for itself.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) fn note_config(&mut self, mut old: Value, mut new: Value) -> StoreResult<()> {
        let admins = (old["AdminUsers"].take(), new["AdminUsers"].take());
        let tenants = (old["Organizations"].take(), new["Organizations"].take());
        let (olds, news) = (by_name(&admins.0), by_name(&admins.1));
        for who in olds.keys().chain(news.keys()).collect::<BTreeSet<_>>() {
            let (old, new) = (olds.get(who).copied(), news.get(who).copied());
            self.note_change("administrator", who.0, who.1, old, new)?;
        }
        let ids = |all: &Value| all.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
        let all = [ids(&tenants.0), ids(&tenants.1)].into_iter().flatten().flatten();
        for id in all.collect::<BTreeSet<_>>() {
            self.note_change("tenant", &id, &id, tenants.0.get(&id), tenants.1.get(&id))?;
        }
        self.note_change("settings", "", "", Some(&old), Some(&new))
    }
}

impl Store {
    /// Notes what is no change of a document. `details` are shown beside it, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note_deed(&self, deed: Deed<'_>, details: Value) -> StoreResult<()> {
        let [organization, kind, action, resource] =
            [deed.organization, deed.kind, deed.action, deed.resource].map(str::to_string);
        self.write(move |tx| {
            let deed = Deed {
                organization: &organization,
                kind: &kind,
                action: &action,
                resource: &resource,
            };
            tx.note(deed, &compare::compare(None, Some(&details)))
        })
        .await
    }

    /// Hands over noted deeds, newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn each_deed<S, F>(
        &self,
        scope: &Scope,
        filter: DeedFilter,
        mut state: S,
        mut each: F,
    ) -> StoreResult<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, StoredDeed) -> ControlFlow<()> + Send + 'static,
    {
        let organization = match scope {
            Scope::All => None,
            Scope::Organization(id) => Some(id.clone()),
            // Deeds belong to organizations.
            Scope::User(_) => return Ok(state),
        };
        self.read(move |sql| {
            let mut condition = "id < ?1 AND time >= ?2 AND time <= ?3".to_string();
            let mut params = vec![P::Int(filter.before), P::Int(filter.since), P::Int(filter.until)];
            let columns = [
                ("organization", &organization),
                ("actor", &filter.actor),
                ("kind", &filter.kind),
                ("action", &filter.action),
                ("resource", &filter.resource),
            ];
            for (column, wanted) in columns {
                if let Some(wanted) = wanted {
                    params.push(P::Text(wanted));
                    condition += &format!(" AND {column} = ?{}", params.len());
                }
            }
            sql.query(
                &format!(
                    "SELECT id, time, organization, actor, actor_organization, address, kind, action, resource, changes
                     FROM audit WHERE {condition} ORDER BY id DESC"
                ),
                &params,
                &mut |row| {
                    let text = |column| row.text(column).map(str::to_string);
                    let deed = StoredDeed {
                        id: row.int(0)?,
                        time: row.int(1)?,
                        organization: text(2)?,
                        actor: text(3)?,
                        actor_organization: text(4)?,
                        address: text(5)?,
                        kind: text(6)?,
                        action: text(7)?,
                        resource: text(8)?,
                        changes: text(9)?,
                    };
                    Ok(each(&mut state, deed))
                },
            )?;
            Ok(state)
        })
        .await
    }
}
