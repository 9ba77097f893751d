//! Events: what happened, to what, by whom (reference, section 6). Written once, in the transaction of the change
//! (DESIGN D8).

use crate::error::StoreResult;
use crate::sql::{P, Sql};
use crate::{Scope, Store};
use encke_api::types::StreamableEvent;
use serde_json::Value;
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// An event as it goes to the stream, the webhooks and the audit files.
#[derive(Debug)]
pub struct Event {
    /// The organization whose administrators see it; empty for the top level.
    pub organization: String,
    /// One of the `SEVT_` constants.
    pub kind: i64,
    /// The whole `StreamableEvent` as JSON text.
    pub json: String,
    /// Whether it is stored, so that it can be read again.
    pub stored: bool,
}

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Grows from event to event.
    pub id: i64,
    /// Unix seconds.
    pub time: i64,
    /// The organization it belongs to; empty for the top level.
    pub organization: String,
    /// One of the `SEVT_` constants.
    pub kind: i64,
    /// The whole `StreamableEvent` as JSON text.
    pub json: String,
}

/// An event about to be written.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// Who did it: an admin, a user, or empty for the server itself.
    pub actor: String,
    /// The organization it belongs to.
    pub organization: String,
    /// What it happened to.
    pub resource: String,
    /// One of the `SEVT_` constants.
    pub kind: i64,
    /// Depends on the kind; never a secret. `Null` for none.
    pub data: Value,
}

/// Unix seconds now.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// The constant's name of an event type, such as `SEVT_JOB_NEW`.
fn type_name(kind: i64) -> &'static str {
    static NAMES: OnceLock<Vec<(i64, String)>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let groups: Value = serde_json::from_str(encke_api::spec::CONSTANTS).unwrap_or_default();
        let events = groups
            .as_array()
            .into_iter()
            .flatten()
            .filter(|g| g["group"] == "SEVT");
        events
            .flat_map(|g| g["values"].as_array().cloned().unwrap_or_default())
            .filter_map(|v| Some((v["value"].as_i64()?, v["name"].as_str()?.to_string())))
            .filter(|(_, name)| !name.contains("__"))
            .collect()
    });
    names
        .iter()
        .find(|(k, _)| *k == kind)
        .map_or("", |(_, name)| name)
}

impl EventDraft {
    /// The event with its time.
    #[must_use]
    pub fn into_event(self) -> Event {
        let event = StreamableEvent {
            actor: self.actor,
            owner_organization_id: self.organization.clone(),
            resource_id: self.resource,
            type_: self.kind,
            timestamp: now(),
            type_string: type_name(self.kind).to_string(),
            data: self.data,
            ..Default::default()
        };
        Event {
            organization: self.organization,
            kind: self.kind,
            json: serde_json::to_string(&event).unwrap_or_default(),
            stored: false,
        }
    }
}

pub(crate) fn insert(sql: &mut dyn Sql, event: &Event) -> StoreResult<()> {
    sql.execute(
        "INSERT INTO events (time, organization, type, body) VALUES (?1, ?2, ?3, ?4)",
        &[
            P::Int(now()),
            P::Text(&event.organization),
            P::Int(event.kind),
            P::Text(&event.json),
        ],
    )?;
    Ok(())
}

impl Store {
    /// Hands over stored events, newest first: id, type and the whole `StreamableEvent` as JSON text. Only those before
    /// an id, and of a span of time (Unix seconds, both ends included).
    ///
    /// # Errors
    /// The database fails.
    pub async fn each_event<S, F>(
        &self,
        scope: &Scope,
        before: i64,
        since: i64,
        until: i64,
        mut state: S,
        mut each: F,
    ) -> StoreResult<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, i64, i64, &str) -> ControlFlow<()> + Send + 'static,
    {
        let (all, organization) = match scope {
            Scope::All => (true, String::new()),
            Scope::Organization(id) => (false, id.clone()),
            // Events belong to organizations.
            Scope::User(_) => return Ok(state),
        };
        self.read(move |sql| {
            let only = if all { "" } else { " AND organization = ?4" };
            let mut params = vec![P::Int(before), P::Int(since), P::Int(until)];
            if !all {
                params.push(P::Text(&organization));
            }
            sql.query(
                &format!(
                    "SELECT id, type, body FROM events
                     WHERE id < ?1 AND time >= ?2 AND time <= ?3{only} ORDER BY id DESC"
                ),
                &params,
                &mut |row| Ok(each(&mut state, row.int(0)?, row.int(1)?, row.text(2)?)),
            )?;
            Ok(state)
        })
        .await
    }

    /// The id of the newest stored event; 0 before the first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn last_event(&self) -> StoreResult<i64> {
        self.read_few(|sql| {
            let last = sql.first("SELECT id FROM events ORDER BY id DESC LIMIT 1", &[], |row| {
                row.int(0)
            })?;
            Ok(last.unwrap_or_default())
        })
        .await
    }

    /// Stored events after one, in order, those of one organization or (`None`) all.
    ///
    /// # Errors
    /// The database fails.
    pub async fn events_after(
        &self,
        organization: Option<&str>,
        id: i64,
        limit: i64,
    ) -> StoreResult<Vec<StoredEvent>> {
        let organization = organization.map(str::to_string);
        self.read_few(move |sql| {
            let only = if organization.is_some() {
                " AND organization = ?3"
            } else {
                ""
            };
            let mut params = vec![P::Int(id), P::Int(limit)];
            params.extend(organization.as_deref().map(P::Text));
            sql.all(
                &format!(
                    "SELECT id, time, organization, type, body FROM events WHERE id > ?1{only} ORDER BY id LIMIT ?2"
                ),
                &params,
                |row| {
                    Ok(StoredEvent {
                        id: row.int(0)?,
                        time: row.int(1)?,
                        organization: row.text(2)?.to_string(),
                        kind: row.int(3)?,
                        json: row.text(4)?.to_string(),
                    })
                },
            )
        })
        .await
    }

    /// Forgets stored events, and the notes of who changed what, older than a time (Unix seconds).
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_events(&self, before: i64) -> StoreResult<u64> {
        self.write(move |tx| {
            tx.execute("DELETE FROM audit WHERE time < ?1", &[P::Int(before)])?;
            tx.execute("DELETE FROM events WHERE time < ?1", &[P::Int(before)])
        })
        .await
    }
}
