//! Who changed what: the stored events, newest first. The published API has a stream of events and no way back, so the
//! endpoint is our own.

use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::table::{Call, Own, Route};
use encke_api::endpoint::Role;
use encke_api::form::Json;
use encke_api::types::StreamableEvent;
use encke_api::{ApiError, ApiResult, params};
use serde::Serialize;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Most events of one answer.
const MAX_EVENTS: usize = 1000;
/// Events of one answer when nobody says how many.
const FEW: usize = 200;
/// Stored events that one call looks at; the answer says where to go on.
const MAX_LOOKED_AT: usize = 50_000;

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

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Events {
    events: Vec<Told>,
    /// `Before` for what follows; 0 at the end.
    next: i64,
}

/// How many somebody wants in one answer.
pub(super) fn limit_of(limit: Option<i64>) -> ApiResult<usize> {
    let Some(limit) = limit else { return Ok(FEW) };
    usize::try_from(limit)
        .ok()
        .filter(|n| (1..=MAX_EVENTS).contains(n))
        .ok_or_else(|| ApiError::bad_request(format!("Limit must be 1 to {MAX_EVENTS}")))
}

async fn list(app: Arc<App>, admin: Admin, call: Call<List>) -> ApiResult<Own<Events>> {
    let p = call.params;
    let limit = limit_of(p.Limit)?;
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
                found.events.push(Told {
                    id,
                    time: event.timestamp,
                    actor: event.actor,
                    organization: event.owner_organization_id,
                    resource: event.resource_id,
                    kind,
                    type_string: event.type_string,
                });
            }
            ControlFlow::Continue(())
        },
    );
    Ok(Own(found.await.map_err(store_error)?.0))
}

/// Endpoints of stored events.
#[must_use]
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeEventsList",
            "/api/encke/v1/events/list",
            "Answers what was changed and by whom, newest first, for as long as jobs are kept. Log-ins and connections are not stored.",
            list,
        )
        .roles(&[Role::Auth])
        .denied_if(|p| p.deny_view_server_history),
    ]
}
