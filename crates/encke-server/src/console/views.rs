//! Named views of the console's lists that administrators of an organization share: an address within the console under a
//! name. One's own views stay in the browser.

use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::table::{Call, Envelope, Own, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::{ApiError, ApiResult, params};
use encke_store::collections::{Collected, items, put_item, remove_item};
use encke_store::{Scope, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most shared views of one organization, so that lists of them stay short.
const MAX_VIEWS: usize = 200;
/// Longest name and path, in bytes.
const MAX_TEXT: usize = 200;
/// Most parts of an address, and the longest one in bytes.
const MAX_PARTS: usize = 20;
const MAX_PART: usize = 4096;

/// A shared view.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SharedView {
    #[serde(rename = "OrganizationID")]
    organization: String,
    /// Who shared it.
    owner: String,
    name: String,
    /// Path of the page.
    path: String,
    /// The rest of its address.
    search: BTreeMap<String, String>,
}

impl Collected for SharedView {
    const KIND: &'static str = "view";
    fn organization(&self) -> &str {
        &self.organization
    }
}

params! {
    /// Parameters of `EnckeViewsShare`.
    struct Share {
        /// What people know the view by; one of this name of the same page is replaced.
        Name: String,
        /// Path of the page within the console, such as `/accounts`.
        Path: String,
        /// The rest of the page's address, by name.
        Search: Json<BTreeMap<String, String>>
    }
}

params! {
    /// Parameters of `EnckeViewsRemove`.
    struct Remove {
        /// Id of the view.
        ViewID: String
    }
}

/// Views are an organization's own, the top level's too.
fn scope_of(admin: &Admin) -> Scope {
    Scope::Organization(admin.organization.clone())
}

async fn list(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Own<BTreeMap<String, SharedView>>> {
    app.store
        .items(&scope_of(&admin))
        .await
        .map(Own)
        .map_err(store_error)
}

fn check(view: &SharedView) -> ApiResult<()> {
    let bad = |message: String| Err(ApiError::bad_request(message));
    if view.name.trim().is_empty() || view.name.len() > MAX_TEXT {
        return bad(format!("A view's Name has 1 to {MAX_TEXT} bytes"));
    }
    // Such as `//elsewhere.example`, which a browser takes for another server.
    let inside = view.path.starts_with('/') && !view.path[1..].starts_with(['/', '\\']);
    if !inside || view.path.len() > MAX_TEXT {
        return bad("A view's Path is one of the console's, such as /accounts".into());
    }
    let long = |(name, value): (&String, &String)| name.len() + value.len() > MAX_PART;
    if view.search.len() > MAX_PARTS || view.search.iter().any(long) {
        return bad("A view's Search is too long".into());
    }
    Ok(())
}

async fn share(app: Arc<App>, admin: Admin, call: Call<Share>) -> ApiResult<Envelope> {
    let p = call.params;
    let view = SharedView {
        organization: admin.organization.clone(),
        owner: admin.name.clone(),
        name: p.Name,
        path: p.Path,
        search: p.Search.0,
    };
    check(&view)?;
    let scope = scope_of(&admin);
    let written = app.store.write(move |tx| {
        let all = items::<SharedView>(tx.sql(), &scope)?;
        let same = all
            .iter()
            .find(|v| v.value.name == view.name && v.value.path == view.path);
        match same {
            Some(old) => put_item(tx, &old.id, &view, Some(&old.hash)),
            None if all.len() >= MAX_VIEWS => Err(StoreError::Invalid(
                "There are too many shared views; remove some first".into(),
            )),
            None => put_item(tx, &uuid::Uuid::new_v4().to_string(), &view, None),
        }
    });
    written.await.map_err(store_error)?;
    Ok(done())
}

async fn remove(app: Arc<App>, admin: Admin, call: Call<Remove>) -> ApiResult<Envelope> {
    let (scope, id) = (scope_of(&admin), call.params.ViewID);
    let removed = app
        .store
        .write(move |tx| remove_item::<SharedView>(tx, &scope, &id).map(drop));
    removed.await.map_err(|e| match e {
        StoreError::NotFound => ApiError::not_found("There is no such view"),
        e => store_error(e),
    })?;
    Ok(done())
}

/// Endpoints of shared views.
#[must_use]
pub(super) fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "EnckeViewsList",
            "/api/encke/v1/views/list",
            "Answers the views of the console that the administrators of the caller's organization share, by id.",
            list,
        ),
        Route::new(
            "EnckeViewsShare",
            "/api/encke/v1/views/share",
            "Shares a view of the console with all administrators of the caller's organization.",
            share,
        ),
        Route::new(
            "EnckeViewsRemove",
            "/api/encke/v1/views/remove",
            "Removes a shared view, whoever shared it.",
            remove,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
