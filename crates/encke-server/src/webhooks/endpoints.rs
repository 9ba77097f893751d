//! Which webhooks an organization has, how they fare, and the keys they sign with.

use super::{Webhooks, adopt, changed, check, hide, new_key, open_key};
use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::table::{Call, Envelope, MapOf, Own, Route, done};
use encke_api::form::{Json, NoParams};
use encke_api::types::{ServerConfigOptions, WebhookOption};
use encke_api::{ApiError, ApiResult, params};
use encke_store::StoreError;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events that wait for a webhook are counted up to this many.
const MAX_WAITING: i64 = 10_000;

params! {
    /// Parameters of `AdminMetaWebhookOptionsSet`.
    struct Set {
        /// All webhooks of the caller's organization by name.
        WebhookOptions: Json<BTreeMap<String, WebhookOption>>
    }
}

params! {
    /// Parameters of `EnckeWebhooksNewKey`.
    struct NewKey {
        /// Name of the webhook.
        Name: String
    }
}

/// How a webhook fares.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    /// The key its messages are signed with, as text.
    signing_key: String,
    /// Stored events that it has not looked at, up to 10,000.
    waiting: i64,
    /// Unix seconds; 0 for never.
    last_success: i64,
    /// Unix seconds; 0 for never.
    last_failure: i64,
    /// What the last failure was; empty once a message arrived.
    error: String,
}

fn own(config: &ServerConfigOptions, organization: &str) -> Webhooks {
    match organization {
        "" => config.webhook_options.clone(),
        id => config
            .organizations
            .get(id)
            .map(|o| o.webhook_options.clone())
            .unwrap_or_default(),
    }
}

async fn get(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<MapOf<WebhookOption>> {
    let mut hooks = own(&app.config(), &admin.organization);
    hide(&mut hooks);
    Ok(MapOf(hooks))
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let mut wanted = call.params.WebhookOptions.0;
    check(&wanted)?;
    let (handle, organization) = (app.clone(), admin.organization.clone());
    app.change_config(move |config| {
        let place = match organization.as_str() {
            "" => &mut config.webhook_options,
            id => {
                let own = config.organizations.get_mut(id);
                &mut own.ok_or_else(ApiError::unauthorised)?.webhook_options
            }
        };
        adopt(&handle, &organization, Some(place), &mut wanted)?;
        *place = wanted;
        Ok(Vec::new())
    })
    .await?;
    changed(&app, Some(&admin.organization)).await?;
    Ok(done())
}

async fn list(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Own<BTreeMap<String, Told>>> {
    let mut all = BTreeMap::new();
    let known = app.store.webhooks().await.map_err(store_error)?;
    let only = Some(admin.organization.as_str()).filter(|o| !o.is_empty());
    for hook in known.into_iter().filter(|k| k.organization == admin.organization) {
        let waiting = app.store.count_events_after(only, hook.told, MAX_WAITING).await;
        let told = Told {
            signing_key: open_key(&app, &hook.organization, &hook.name, &hook.signing_key)?,
            waiting: waiting.map_err(store_error)?,
            last_success: hook.succeeded,
            last_failure: hook.failed,
            error: hook.error,
        };
        all.insert(hook.name, told);
    }
    Ok(Own(all))
}

async fn renew(app: Arc<App>, admin: Admin, call: Call<NewKey>) -> ApiResult<Envelope> {
    let name = call.params.Name;
    let key = new_key(&app, &admin.organization, &name)?;
    let written = app.store.set_webhook_key(&admin.organization, &name, key).await;
    written.map_err(|e| match e {
        StoreError::NotFound => ApiError::not_found("There is no such webhook"),
        e => store_error(e),
    })?;
    changed(&app, None).await?;
    Ok(done())
}

/// Endpoints of webhooks.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminMetaWebhookOptionsGet",
            "/api/v1/admin/meta/webhook-options/get",
            "Answers the webhooks of the caller's organization by name, the values of their headers obscured.",
            get,
        ),
        Route::new(
            "AdminMetaWebhookOptionsSet",
            "/api/v1/admin/meta/webhook-options/set",
            "Replaces the webhooks of the caller's organization; what they have not told of yet is dropped. An obscured header stays as it is.",
            set,
        ),
        Route::new(
            "EnckeWebhooksList",
            "/api/encke/v1/webhooks/list",
            "Answers by name how the webhooks of the caller's organization fare, and the keys they sign with.",
            list,
        ),
        Route::new(
            "EnckeWebhooksNewKey",
            "/api/encke/v1/webhooks/new-key",
            "Gives a webhook another key to sign with.",
            renew,
        ),
    ];
    all.into_iter()
        .map(|r| {
            r.granted_if(|p| p.allow_edit_webhooks)
                .denied_if(|p| p.prevent_edit_server_settings)
        })
        .collect()
}
