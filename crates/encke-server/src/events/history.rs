//! Who changed what: the stored events, newest first, and what one of them changed. The published API has a stream of
//! events and no way back, so the endpoints are our own.

use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::table::{Call, Own, Route};
use encke_api::endpoint::Role;
use encke_api::form::Json;
use encke_api::types::StreamableEvent;
use encke_api::{ApiError, ApiResult, params};
use serde::Serialize;
use serde_json::Value;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Most events of one answer.
const MAX_EVENTS: usize = 1000;
/// Events of one answer when nobody says how many.
const FEW: usize = 200;
/// Stored events that one call looks at; the answer says where to go on.
const MAX_LOOKED_AT: usize = 50_000;
/// Changed properties that one answer tells.
const MAX_FIELDS: usize = 300;
/// Characters of a value that an answer tells; a longer one is cut.
const MAX_VALUE: usize = 500;
/// Types of events about one kind of thing lie within this many numbers (reference, section 6.2).
const FAMILY: i64 = 50;

params! {
    /// Parameters of `EnckeEventsList`.
    struct List {
        /// Only events of these types, numbers of `SEVT_`; all if left out.
        Types: Option<Json<Vec<i64>>>,
        /// Only what this person did.
        Actor: Option<String>,
        /// Only events with this text in the actor, the resource or the type's name, in any case.
        Contains: Option<String>,
        /// Only events of this time (Unix seconds) and later.
        Since: Option<i64>,
        /// Only events of this time (Unix seconds) and earlier.
        Until: Option<i64>,
        /// Only events before the one of this `ID`: `Next` of the answer before.
        Before: Option<i64>,
        /// Most events to answer, up to 1000; 200 if left out.
        Limit: Option<i64>
    }
}

params! {
    /// Parameters of `EnckeEventsChanges`.
    struct Changes {
        /// The event's `ID`.
        ID: i64
    }
}

/// An event without its data.
#[derive(Serialize)]
struct Told {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "Timestamp")]
    time: i64,
    #[serde(rename = "Actor")]
    actor: String,
    #[serde(rename = "OwnerOrganizationID")]
    organization: String,
    #[serde(rename = "ResourceID")]
    resource: String,
    #[serde(rename = "Type")]
    kind: i64,
    #[serde(rename = "TypeString")]
    type_string: String,
}

impl Told {
    fn of(id: i64, event: StreamableEvent) -> Self {
        Self {
            id,
            time: event.timestamp,
            actor: event.actor,
            organization: event.owner_organization_id,
            resource: event.resource_id,
            kind: event.type_,
            type_string: event.type_string,
        }
    }
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Events {
    events: Vec<Told>,
    /// `Before` for what follows; 0 at the end.
    next: i64,
}

async fn list(app: Arc<App>, admin: Admin, call: Call<List>) -> ApiResult<Own<Events>> {
    let p = call.params;
    let limit = match p.Limit {
        None => FEW,
        Some(n) => usize::try_from(n)
            .ok()
            .filter(|n| (1..=MAX_EVENTS).contains(n))
            .ok_or_else(|| ApiError::bad_request(format!("Limit must be 1 to {MAX_EVENTS}")))?,
    };
    let types = p.Types.unwrap_or_default().0;
    let actor = p.Actor.filter(|a| !a.is_empty());
    let words = p.Contains.unwrap_or_default().to_lowercase();
    let (since, until) = (p.Since.unwrap_or(0), p.Until.unwrap_or(i64::MAX));
    let before = p.Before.filter(|b| *b > 0).unwrap_or(i64::MAX);
    let state = (Events::default(), 0);
    let scope = admin.scope();
    let found = app.store.each_event(
        &scope,
        before,
        since,
        until,
        state,
        move |(found, looked), id, kind, body| {
            if found.events.len() == limit || *looked == MAX_LOOKED_AT {
                // Of the last one that was looked at; this one comes next.
                found.next = id + 1;
                return ControlFlow::Break(());
            }
            *looked += 1;
            if !types.is_empty() && !types.contains(&kind) {
                return ControlFlow::Continue(());
            }
            let Ok(event) = serde_json::from_str::<StreamableEvent>(body) else {
                return ControlFlow::Continue(());
            };
            let by = actor.as_ref().is_none_or(|a| *a == event.actor);
            let says = |text: &str| text.to_lowercase().contains(&words);
            if by
                && (words.is_empty()
                    || says(&event.actor)
                    || says(&event.resource_id)
                    || says(&event.type_string))
            {
                found.events.push(Told::of(id, event));
            }
            ControlFlow::Continue(())
        },
    );
    Ok(Own(found.await.map_err(store_error)?.0))
}

/// A property that differs between two states of a thing.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Field {
    /// Names from the outside in, with `/` between them.
    path: String,
    /// Its JSON text before, cut if it is long; nothing if it was not there.
    before: Option<String>,
    /// Its JSON text after.
    after: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Difference {
    event: Told,
    /// The event that tells the state before; 0 where none is kept.
    earlier: i64,
    fields: Vec<Field>,
    /// There are more than are told.
    more: bool,
}

fn text(value: &Value) -> String {
    let whole = value.to_string();
    match whole.char_indices().nth(MAX_VALUE) {
        Some((at, _)) => format!("{}…", &whole[..at]),
        None => whole,
    }
}

/// Finds what differs, from the outside in. Lists are compared as wholes unless they have the same length.
fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Field>) {
    // One more than is told shows that there are more.
    if before == after || found.len() > MAX_FIELDS {
        return;
    }
    let below = |name: &str| {
        if path.is_empty() {
            name.to_string()
        } else {
            format!("{path}/{name}")
        }
    };
    match (before, after) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for (name, value) in a {
                compare(&below(name), Some(value), b.get(name), found);
            }
            for (name, value) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                compare(&below(name), None, Some(value), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&below(&at.to_string()), Some(a), Some(b), found);
            }
        }
        // A new or removed thing is told property by property, but not deeper.
        (None, Some(Value::Object(b))) if path.is_empty() => {
            for (name, value) in b {
                compare(name, None, Some(value), found);
            }
        }
        (Some(Value::Object(a)), None) if path.is_empty() => {
            for (name, value) in a {
                compare(name, Some(value), None, found);
            }
        }
        _ => found.push(Field {
            path: path.to_string(),
            before: before.map(text),
            after: after.map(text),
        }),
    }
}

async fn changes(app: Arc<App>, admin: Admin, call: Call<Changes>) -> ApiResult<Own<Difference>> {
    let wanted = call.params.ID;
    let state: (Option<StreamableEvent>, Option<(i64, Value)>, usize) = (None, None, 0);
    let scope = admin.scope();
    let before = wanted.saturating_add(1);
    let read = app
        .store
        .each_event(
            &scope,
            before,
            0,
            i64::MAX,
            state,
            move |state, id, kind, body| {
                let (asked, earlier, looked) = state;
                *looked += 1;
                let Some(asked) = asked else {
                    if id != wanted {
                        return ControlFlow::Break(());
                    }
                    *asked = serde_json::from_str(body).ok();
                    // A new thing has no state before.
                    return match asked {
                        Some(event) if !event.type_string.ends_with("_NEW") => ControlFlow::Continue(()),
                        _ => ControlFlow::Break(()),
                    };
                };
                if *looked > MAX_LOOKED_AT {
                    return ControlFlow::Break(());
                }
                // Most events are of something else, which their text tells without being read.
                if kind / FAMILY != asked.type_ / FAMILY || !body.contains(&asked.resource_id) {
                    return ControlFlow::Continue(());
                }
                match serde_json::from_str::<StreamableEvent>(body) {
                    Ok(event) if event.resource_id == asked.resource_id && !event.data.is_null() => {
                        *earlier = Some((id, event.data));
                        ControlFlow::Break(())
                    }
                    _ => ControlFlow::Continue(()),
                }
            },
        )
        .await;
    let (asked, earlier, _) = read.map_err(store_error)?;
    let mut asked = asked.ok_or_else(|| ApiError::not_found("There is no such event"))?;
    let after = Some(asked.data.take()).filter(|data| !data.is_null());
    let (at, before) = earlier.map_or((0, None), |(id, data)| (id, Some(data)));
    let removed = asked.type_string.ends_with("_REMOVED");
    let mut fields = Vec::new();
    // A change of which only one side is known tells nothing about what changed.
    if asked.type_string.ends_with("_NEW") || removed || (before.is_some() && after.is_some()) {
        let after = after.as_ref().filter(|_| !removed);
        compare("", before.as_ref(), after, &mut fields);
    }
    let more = fields.len() > MAX_FIELDS;
    fields.truncate(MAX_FIELDS);
    Ok(Own(Difference {
        event: Told::of(wanted, asked),
        earlier: at,
        fields,
        more,
    }))
}

/// Endpoints of events.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeEventsList",
            "/api/encke/v1/events/list",
            "Answers what was changed and by whom, newest first, for as long as jobs are kept. Log-ins and connections are not stored.",
            list,
        )
        .roles(&[Role::Auth])
        .denied_if(|p| p.deny_view_server_history),
        Route::new(
            "EnckeEventsChanges",
            "/api/encke/v1/events/changes",
            "Answers what an event changed: the properties that differ from the state that the event before about the same thing told.",
            changes,
        )
        .roles(&[Role::Auth])
        .denied_if(|p| p.deny_view_server_history),
    ]
}
