//! Webhooks: the server posts events to addresses that administrators name (reference, section 6.3).
//!
//! Stored events are told in order, each until it arrives, from a position kept in the store (`feed.rs`); log-ins and
//! connections, which are not stored, as long as the server lives (`live.rs`). `post.rs` is one message.

mod endpoints;
mod feed;
mod live;
mod post;

pub use endpoints::routes;

use crate::app::{App, store_error};
use crate::secrets::{self, Confidential};
use encke_api::constants::{STREAM_LEVEL_FULL, STREAM_LEVEL_NONE};
use encke_api::types::{ServerConfigOptions, WebhookOption};
use encke_api::{ApiError, ApiResult};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Webhooks by name, as the configuration has them.
pub(crate) type Webhooks = BTreeMap<String, WebhookOption>;

/// Most webhooks of one organization.
const MAX_WEBHOOKS: usize = 50;
/// Longest name and address, and most headers.
const MAX_NAME: usize = 255;
const MAX_URL: usize = 2048;
const MAX_HEADERS: usize = 50;

/// The webhooks' part of the running server: counts up when webhooks were changed here.
pub struct State(watch::Sender<u64>);

impl Default for State {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

/// A webhook with whose it is.
#[derive(Clone, Debug, PartialEq)]
struct Hook {
    organization: String,
    name: String,
    option: WebhookOption,
}

impl Hook {
    fn wants(&self, kind: i64) -> bool {
        let only = &self.option.white_listed_event_types;
        only.is_empty() || only.contains(&kind)
    }

    /// Whose events it may tell of: one organization's, or everybody's.
    fn organization(&self) -> Option<&str> {
        Some(self.organization.as_str()).filter(|o| !o.is_empty())
    }
}

/// All webhooks; those of suspended organizations rest.
fn all(config: &ServerConfigOptions) -> Vec<Hook> {
    let top = [("", &config.webhook_options)].into_iter();
    let own = config.organizations.iter().filter(|(_, o)| !o.is_suspended);
    top.chain(own.map(|(id, o)| (id.as_str(), &o.webhook_options)))
        .flat_map(|(organization, hooks)| {
            hooks.iter().map(move |(name, option)| Hook {
                organization: organization.to_string(),
                name: name.clone(),
                option: option.clone(),
            })
        })
        .collect()
}

/// Their headers are what receivers know them by.
impl Confidential for WebhookOption {
    const NAME: &'static str = "webhook";
    const PLACE: &'static str = "webhook";

    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String)) {
        for (name, value) in &mut self.custom_headers {
            visit(name, value);
        }
    }

    fn addresses(&self) -> Vec<&str> {
        vec![&self.url]
    }
}

/// What the secrets of a webhook are kept under.
fn id_of(organization: &str, name: &str) -> String {
    format!("{organization}/{name}")
}

fn key_place(organization: &str, name: &str) -> String {
    format!("webhook-key/{organization}/{name}")
}

/// Whether webhooks can be kept.
///
/// # Errors
/// 400 naming what is wrong.
pub(crate) fn check(hooks: &Webhooks) -> ApiResult<()> {
    let bad = |message: String| Err(ApiError::bad_request(message));
    if hooks.len() > MAX_WEBHOOKS {
        return bad(format!("An organization has at most {MAX_WEBHOOKS} webhooks"));
    }
    for (name, hook) in hooks {
        if name.is_empty() || name.len() > MAX_NAME {
            return bad(format!("A webhook's name has 1 to {MAX_NAME} bytes"));
        }
        let url = Url::parse(&hook.url).ok();
        let usable = url.is_some_and(|u| ["http", "https"].contains(&u.scheme()) && u.has_host());
        if !usable || hook.url.len() > MAX_URL {
            return bad(format!(
                "The address of the webhook '{name}' is not an http or https address"
            ));
        }
        if !["", STREAM_LEVEL_FULL, STREAM_LEVEL_NONE].contains(&hook.level.as_str()) {
            return bad(format!("The webhook's level '{}' is unknown", hook.level));
        }
        if hook.custom_headers.len() > MAX_HEADERS {
            return bad(format!("A webhook has at most {MAX_HEADERS} headers"));
        }
        for (header, value) in &hook.custom_headers {
            if header.parse::<HeaderName>().is_err() || value.parse::<HeaderValue>().is_err() {
                return bad(format!("The webhook's header '{header}' can not be sent"));
            }
        }
    }
    Ok(())
}

/// Makes webhooks ready to leave the server.
pub(crate) fn hide(hooks: &mut Webhooks) {
    hooks.values_mut().for_each(secrets::hide);
}

/// Makes webhooks that somebody wrote ready to be kept in place of `present`.
///
/// # Errors
/// As [`secrets::adopt`].
pub(crate) fn adopt(
    app: &App,
    organization: &str,
    present: Option<&Webhooks>,
    wanted: &mut Webhooks,
) -> ApiResult<()> {
    for (name, hook) in wanted {
        let old = present.and_then(|p| p.get(name));
        secrets::adopt(&app.server_key, &id_of(organization, name), old, hook)?;
    }
    Ok(())
}

/// Brings the store in line with the configuration. The webhooks of the organization `anew` drop what they have not told
/// of.
async fn align(app: &App, anew: Option<&str>) -> ApiResult<()> {
    let config = app.config();
    let every = [("", &config.webhook_options)].into_iter().chain(
        config
            .organizations
            .iter()
            .map(|(id, o)| (id.as_str(), &o.webhook_options)),
    );
    let mut wanted = Vec::new();
    for (organization, name) in every.flat_map(|(o, hooks)| hooks.keys().map(move |name| (o, name))) {
        let key = new_key(app, organization, name)?;
        wanted.push((organization.to_string(), name.clone(), key));
    }
    let anew = anew.map(str::to_string);
    app.store
        .align_webhooks(wanted, move |organization| anew.as_deref() == Some(organization))
        .await
        .map_err(store_error)
}

/// A fresh signing key, wrapped.
fn new_key(app: &App, organization: &str, name: &str) -> ApiResult<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
    let wrapped = app
        .server_key
        .wrap(&key_place(organization, name), hex::encode(bytes).as_bytes());
    wrapped.map_err(|_| ApiError::internal())
}

/// A signing key in clear.
///
/// # Errors
/// 500 if it was wrapped with another server's key.
fn open_key(app: &App, organization: &str, name: &str, wrapped: &str) -> ApiResult<String> {
    let clear = app
        .server_key
        .unwrap_secret(&key_place(organization, name), wrapped);
    clear.ok().and_then(|c| String::from_utf8(c).ok()).ok_or_else(|| {
        tracing::error!(
            organization,
            name,
            "the signing key of a webhook can not be opened"
        );
        ApiError::new(
            500,
            "The webhook's signing key can not be opened with this server's key; make a new one",
        )
    })
}

/// Takes over webhooks that were changed here; those of the organization `anew` start afresh.
///
/// # Errors
/// The store fails.
pub(crate) async fn changed(app: &App, anew: Option<&str>) -> ApiResult<()> {
    align(app, anew).await?;
    app.webhooks.0.send_modify(|n| *n += 1);
    Ok(())
}

/// Tells until the server stops.
pub(crate) fn start(app: &Arc<App>) {
    crate::leader::while_leading(app, feed::run);
    tokio::spawn(live::run(app.clone(), app.store.subscribe()));
}
