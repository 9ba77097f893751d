//! What administrators see of replication.

use super::channel::Channel;
use super::settings::{Deletion, Target, targets};
use super::{idle, receive};
use crate::app::App;
use crate::auth::Admin;
use crate::table::{Call, Envelope, ListOf, Own, Route, done};
use encke_api::constants::{REPLICADELETION_CIRCULAR, REPLICADELETION_COMPLETE, REPLICADELETION_NONE};
use encke_api::form::NoParams;
use encke_api::types::ReplicatorStateAPIResponse;
use encke_api::{ApiError, ApiResult, params};
use serde::Serialize;
use std::sync::Arc;

/// Most things that were refused that one target shows.
const MAX_SHOWN: usize = 100;

params! {
    /// Parameters of `EnckeReplicationRestart`.
    struct Restart {
        /// `RemoteServerID` of the target; without it all of them.
        RemoteServerID: Option<String>
    }
}

/// Something that could not be copied.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    item: String,
    error: String,
    tries: u32,
}

/// What the published state does not tell.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Details {
    #[serde(rename = "RemoteServerID")]
    remote_server_id: String,
    display_class: i64,
    address: String,
    username: String,
    deletion_strategy: &'static str,
    /// Whether this server is the one that copies.
    running: bool,
    /// Unix seconds, 0 for never.
    last_contact: i64,
    /// When both sides were last listed and all that came of it was done. Unix seconds, 0 for never.
    last_complete: i64,
    /// Empty when all is well.
    last_error: String,
    last_error_time: i64,
    refused: Vec<Refused>,
}

/// The targets of the configuration, each with its channel where this server copies.
fn all(app: &App) -> Vec<(Target, Option<Arc<Channel>>)> {
    let channels = app.replication.channels();
    let find = |target: &Target| channels.iter().find(|c| c.target == *target).cloned();
    targets(&app.config())
        .into_iter()
        .map(|t| (t.clone(), find(&t)))
        .collect()
}

async fn state(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<ListOf<ReplicatorStateAPIResponse>> {
    let states = all(&app).into_iter().map(|(target, channel)| match channel {
        Some(channel) => channel.status.state(&target, channel.queued()),
        None => idle(&target),
    });
    Ok(ListOf(states.collect()))
}

async fn details(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Own<Vec<Details>>> {
    let details = all(&app).into_iter().map(|(target, channel)| {
        let (complete, contact, (error, at)) = channel.as_ref().map(|c| c.status.times()).unwrap_or_default();
        let refused = channel.as_ref().map(|c| c.refused()).unwrap_or_default();
        let shown = refused.into_iter().take(MAX_SHOWN).map(|r| Refused {
            item: r.name,
            error: r.error,
            tries: r.tries,
        });
        Details {
            display_class: idle(&target).display_class,
            remote_server_id: target.id,
            address: target.address,
            username: target.username,
            deletion_strategy: match target.deletion {
                Deletion::None => REPLICADELETION_NONE,
                Deletion::Partial => REPLICADELETION_CIRCULAR,
                Deletion::Complete => REPLICADELETION_COMPLETE,
            },
            running: channel.is_some(),
            last_contact: contact,
            last_complete: complete,
            last_error: error,
            last_error_time: at,
            refused: shown.collect(),
        }
    });
    Ok(Own(details.collect()))
}

async fn restart(app: Arc<App>, _: Admin, call: Call<Restart>) -> ApiResult<Envelope> {
    let wanted = call.params.RemoteServerID.filter(|id| !id.is_empty());
    let found = all(&app)
        .into_iter()
        .filter(|(target, _)| wanted.as_ref().is_none_or(|id| *id == target.id))
        .collect::<Vec<_>>();
    if found.is_empty() {
        return Err(ApiError::not_found("This server is not copied there"));
    }
    for (target, channel) in found {
        let channel = channel.ok_or_else(|| {
            ApiError::conflict(format!(
                "Another server on this database copies to {}; ask that one",
                target.address
            ))
        })?;
        channel.list_again();
    }
    Ok(done())
}

/// Endpoints.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut all = receive::routes();
    let own = vec![
        Route::new(
            "AdminReplicationState",
            "/api/v1/admin/replication/state",
            "Answers how far this server has been copied to the servers of its configuration (ReplicateTo).",
            state,
        ),
        Route::new(
            "EnckeReplicationDetails",
            "/api/encke/v1/replication/details",
            "Answers what the state leaves out: when a copy was last complete, what went wrong last, and what the other server refused.",
            details,
        ),
        Route::new(
            "EnckeReplicationRestart",
            "/api/encke/v1/replication/restart",
            "Lists both sides anew and tries at once what waits to be tried again.",
            restart,
        ),
    ];
    all.extend(own.into_iter().map(Route::top_level));
    all
}
