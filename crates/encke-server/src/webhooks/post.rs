//! One message to one address: what it carries, how it is signed, and what the answer means.

use super::{Hook, id_of, open_key};
use crate::app::{App, now};
use crate::events::without_data;
use crate::secrets;
use encke_api::ApiResult;
use encke_api::constants::STREAM_LEVEL_NONE;
use hmac::{Hmac, Mac as _};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, redirect};
use sha2::Sha256;
use std::sync::OnceLock;
use std::time::Duration;

/// A receiver answers within this time.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// Headers of the message.
const TRACING: &str = "x-comet-tracing-id";
const EVENT: &str = "x-encke-event-id";
const SIGNATURE: &str = "x-encke-signature";
/// Headers that are the protocol's.
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    TRACING,
];

/// Why a message did not arrive.
#[derive(Debug)]
pub(super) enum Failure {
    /// The receiver does not take this message.
    Refused(String),
    /// The receiver can not be reached, or says that it can not now.
    NotNow(String),
}

impl Failure {
    pub(super) fn text(&self) -> &str {
        match self {
            Failure::Refused(t) | Failure::NotNow(t) => t,
        }
    }
}

/// A webhook ready to send.
pub(super) struct Sender {
    url: String,
    headers: HeaderMap,
    key: Vec<u8>,
    without_data: bool,
}

/// The one client. It follows no redirects, which could carry a receiver's secrets elsewhere.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Fails only when a provider was chosen before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .timeout(ANSWER_TIME)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("encke/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the settings of the HTTP client are fixed")
    })
}

/// The signature of a message: HMAC-SHA256 over time, event and body with dots between, in hexadecimal.
fn signature(key: &[u8], time: i64, event: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{time}.{event}.{body}").as_bytes());
    format!("t={time},v1={}", hex::encode(mac.finalize().into_bytes()))
}

impl Sender {
    /// Opens what a webhook needs. `key` is the wrapped signing key.
    ///
    /// # Errors
    /// 500 if a secret can not be opened.
    pub(super) fn new(app: &App, hook: &Hook, key: &str) -> ApiResult<Self> {
        let mut headers = HeaderMap::new();
        let id = id_of(&hook.organization, &hook.name);
        for (name, value) in secrets::opened(&app.server_key, &id, &hook.option)?.custom_headers {
            let Ok(header) = name.parse::<HeaderName>() else {
                continue;
            };
            let is_ours = RESERVED.contains(&header.as_str()) || header.as_str().starts_with("x-encke-");
            if let (Ok(mut value), false) = (value.parse::<HeaderValue>(), is_ours) {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let key = open_key(app, &hook.organization, &hook.name, key)?;
        Ok(Self {
            url: hook.option.url.clone(),
            headers,
            key: key.into_bytes(),
            without_data: hook.option.level == STREAM_LEVEL_NONE,
        })
    }

    /// The body for an event.
    pub(super) fn body(&self, json: &str) -> String {
        if !self.without_data {
            return json.to_string();
        }
        without_data(json)
    }

    /// Posts a body. `event` names the event and stays the same over retries; `tracing` is for the log of both sides.
    pub(super) async fn post(&self, event: &str, tracing: &str, body: String) -> Result<(), Failure> {
        let sent = client()
            .post(&self.url)
            .headers(self.headers.clone())
            .header(TRACING, tracing)
            .header(EVENT, event)
            .header(SIGNATURE, signature(&self.key, now(), event, &body))
            .body(body)
            .send()
            .await;
        let answer = sent.map_err(|e| Failure::NotNow(cause(&e)))?;
        let status = answer.status();
        let text = || format!("the receiver answered {}", status.as_u16());
        if status.is_success() {
            return Ok(());
        }
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        if status.is_server_error() || later.contains(&status) {
            Err(Failure::NotNow(text()))
        } else {
            Err(Failure::Refused(text()))
        }
    }
}

/// The innermost reason of a failure, without the address, which may hold what is nobody's business.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} seconds", ANSWER_TIME.as_secs());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_plain_hmac() {
        // Computed with Python: hmac.new(b"key", b"1.2.{}", "sha256").hexdigest()
        assert_eq!(
            signature(b"key", 1, "2", "{}"),
            "t=1,v1=f625ce31abbc310be87f167018f77f682fd9af0be17e49a9581322c9c470759d"
        );
    }
}
