//! Who changed what, from where, with what it was and became: what the store noted, newest first. The published API knows
//! only events, which carry new states and no address, so the endpoint is our own.

use super::history::limit_of;
use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::table::{Call, Own, Route};
use encke_api::endpoint::Role;
use encke_api::{ApiResult, params};
use encke_store::audit::{DeedFilter, StoredDeed};
use serde::Serialize;
use serde_json::value::RawValue;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Notes that one call looks at; the answer says where to go on.
const MAX_LOOKED_AT: usize = 50_000;
/// Bytes of differences that one answer may hold.
const MAX_BYTES: usize = 4 * 1024 * 1024;

params! {
    /// Parameters of `EnckeAuditList`.
    struct List {
        /// Only what this person did.
        Actor: Option<String>,
        /// Only to things of this kind: `account`, `administrator`, `tenant`, `settings`, `policy`, `group`, `quota`, `news`,
        /// `view`, `bucket`, `report-code`, `report-template`, `report-source` or `install-token`.
        Kind: Option<String>,
        /// Only this: `add`, `change`, `remove`, `sign-in`, `restore` or `download`.
        Action: Option<String>,
        /// Only to the one of this name or id.
        ResourceID: Option<String>,
        /// Only with all these words in the actor, the address, the resource or the differences, in any case.
        Contains: Option<String>,
        /// Only of this time (Unix seconds) and later.
        Since: Option<i64>,
        /// Only of this time (Unix seconds) and earlier.
        Until: Option<i64>,
        /// Only before the one of this `ID`: `Next` of the answer before.
        Before: Option<i64>,
        /// Most to answer, up to 1000; 200 if left out.
        Limit: Option<i64>
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "Timestamp")]
    time: i64,
    actor: String,
    /// Empty where it is none of the reader's business.
    address: String,
    #[serde(rename = "OwnerOrganizationID")]
    organization: String,
    kind: String,
    action: String,
    #[serde(rename = "ResourceID")]
    resource: String,
    /// `{Changes: [{Path, Old, New}], LeftOut}`, as the store keeps it.
    differences: Box<RawValue>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Deeds {
    deeds: Vec<Told>,
    /// `Before` for what follows; 0 at the end.
    next: i64,
}

/// A deed as an administrator of an organization may see it. The addresses of the top level's people are not for tenants.
fn told(deed: StoredDeed, reader: &str) -> Option<Told> {
    let foreign = !reader.is_empty() && deed.actor_organization != reader;
    Some(Told {
        id: deed.id,
        time: deed.time,
        address: if foreign { String::new() } else { deed.address },
        actor: deed.actor,
        organization: deed.organization,
        kind: deed.kind,
        action: deed.action,
        resource: deed.resource,
        differences: RawValue::from_string(deed.changes).ok()?,
    })
}

async fn list(app: Arc<App>, admin: Admin, call: Call<List>) -> ApiResult<Own<Deeds>> {
    let p = call.params;
    let limit = limit_of(p.Limit)?;
    let words = p.Contains.unwrap_or_default().to_lowercase();
    let words: Vec<String> = words.split_whitespace().map(str::to_string).collect();
    let wanted = |text: Option<String>| text.filter(|t| !t.is_empty());
    let filter = DeedFilter {
        before: p.Before.filter(|b| *b > 0).unwrap_or(i64::MAX),
        since: p.Since.unwrap_or(0),
        until: p.Until.unwrap_or(i64::MAX),
        actor: wanted(p.Actor),
        kind: wanted(p.Kind),
        action: wanted(p.Action),
        resource: wanted(p.ResourceID),
    };
    let reader = admin.organization.clone();
    let state = (Deeds::default(), 0, 0);
    let found = app
        .store
        .each_deed(
            &admin.scope(),
            filter,
            state,
            move |(found, looked, bytes), deed| {
                let full = found.deeds.len() == limit || *bytes > MAX_BYTES;
                if full || *looked == MAX_LOOKED_AT {
                    // Of the last one that was looked at; this one comes next.
                    found.next = deed.id + 1;
                    return ControlFlow::Break(());
                }
                *looked += 1;
                let size = deed.changes.len();
                let Some(deed) = told(deed, &reader) else {
                    return ControlFlow::Continue(());
                };
                let text = format!(
                    "{}\n{}\n{}\n{}",
                    deed.actor,
                    deed.address,
                    deed.resource,
                    deed.differences.get()
                );
                let text = text.to_lowercase();
                if words.iter().all(|word| text.contains(word)) {
                    *bytes += size;
                    found.deeds.push(deed);
                }
                ControlFlow::Continue(())
            },
        )
        .await
        .map_err(store_error)?;
    Ok(Own(found.0))
}

/// Endpoints of the audit.
#[must_use]
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeAuditList",
            "/api/encke/v1/audit/list",
            "Answers who changed what, when and from which address, with old and new values (never secrets), newest first, for as long as jobs are kept; and who signed in, restored and downloaded.",
            list,
        )
        .roles(&[Role::Auth])
        .denied_if(|p| p.deny_view_server_history),
    ]
}
