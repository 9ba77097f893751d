//! News for the end users of an organization: plain text, newest first (reference, section 19).

use crate::app::{App, now, store_error};
use crate::auth::{Admin, User};
use crate::table::{Call, Envelope, MapOf, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::NoParams;
use encke_api::types::NewsEntry;
use encke_api::{ApiError, ApiResult, params};
use encke_store::collections::{items, put_item, remove_item};
use encke_store::{Scope, StoreError};
use std::sync::Arc;

/// Longest text of one item, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Most items of one organization, so that the list stays short.
const MAX_ITEMS: usize = 1000;

params! {
    /// Parameters of `AdminNewsSubmit`.
    struct Submit {
        /// Plain text; addresses in it become links.
        NewsContent: String
    }
}

params! {
    /// Parameters of `AdminNewsRemove`.
    struct Remove {
        /// Id of the item.
        NewsItem: String
    }
}

async fn get_all(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<MapOf<NewsEntry>> {
    app.store
        .items(&admin.scope())
        .await
        .map(MapOf)
        .map_err(store_error)
}

async fn get_own(app: Arc<App>, user: User, _: Call<NoParams>) -> ApiResult<MapOf<NewsEntry>> {
    let scope = Scope::Organization(user.organization);
    app.store.items(&scope).await.map(MapOf).map_err(store_error)
}

async fn submit(app: Arc<App>, admin: Admin, call: Call<Submit>) -> ApiResult<Envelope> {
    let text = call.params.NewsContent;
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        return Err(ApiError::bad_request("News have 1 to 65536 bytes"));
    }
    let entry = NewsEntry {
        organization_id: admin.organization.clone(),
        date_time: now(),
        text_content: text,
        ..Default::default()
    };
    let written = app.store.write(move |tx| {
        let scope = Scope::Organization(entry.organization_id.clone());
        if items::<NewsEntry>(tx.sql(), &scope)?.len() >= MAX_ITEMS {
            return Err(StoreError::Invalid(
                "There are too many news; remove some first".into(),
            ));
        }
        put_item(tx, &uuid::Uuid::new_v4().to_string(), &entry, None)
    });
    written.await.map_err(store_error)?;
    Ok(done())
}

async fn remove(app: Arc<App>, admin: Admin, call: Call<Remove>) -> ApiResult<Envelope> {
    let (scope, id) = (admin.scope(), call.params.NewsItem);
    let removed = app
        .store
        .write(move |tx| remove_item::<NewsEntry>(tx, &scope, &id).map(drop));
    removed.await.map_err(|e| match e {
        StoreError::NotFound => ApiError::not_found("There is no such news item"),
        e => store_error(e),
    })?;
    Ok(done())
}

/// Endpoints of news.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminNewsGetAll",
            "/api/v1/admin/news/get-all",
            "Answers all news by id.",
            get_all,
        ),
        Route::new(
            "AdminNewsSubmit",
            "/api/v1/admin/news/submit",
            "Tells the end users of the caller's organization something.",
            submit,
        ),
        Route::new(
            "AdminNewsRemove",
            "/api/v1/admin/news/remove",
            "Removes a news item.",
            remove,
        ),
        Route::new(
            "UserWebNewsGetAll",
            "/api/v1/user/web/news/get-all",
            "Answers the news of the caller's organization by id.",
            get_own,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
