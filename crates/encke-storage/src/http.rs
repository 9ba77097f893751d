//! What our own clients of HTTP services have in common.

#![cfg(feature = "network")]

use crate::{StorageError, StorageResult};
use std::io::Read as _;
use std::time::Duration;
use ureq::http::{HeaderMap, Request, StatusCode};

/// Silence on a connection after which it is not used again.
const IDLE: Duration = Duration::from_secs(60);
/// Longest time for a whole call of a ping.
const PING: Duration = Duration::from_secs(15);
/// Largest answer read into memory: a listing of some ten million files.
const MAX_ANSWER: u64 = 1 << 30;
/// Most of what a service says of a failure that is passed on.
const MAX_WORDS: usize = 300;

/// An answer, read to its end.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The failure that the status means, for a message about `place`.
    pub fn check(self, place: &str) -> StorageResult<Self> {
        check(self.status, place).map(|()| self)
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self, place: &str) -> StorageResult<T> {
        serde_json::from_slice(&self.body)
            .map_err(|e| StorageError::Other(format!("{place}: an answer that can not be read: {e}")))
    }

    /// What the service says of a failure, in short and on one line.
    pub fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").chars().take(MAX_WORDS).collect()
    }
}

/// A client that keeps connections, and gives up on silence.
pub(crate) fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(crate::trust::tls())
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(120)))
        .timeout_recv_body(Some(Duration::from_secs(600)))
        .timeout_send_body(Some(Duration::from_secs(600)))
        .max_idle_connections_per_host(16)
        .max_idle_age(IDLE)
        .build()
        .into()
}

/// A client for pings: nobody waits long for one.
pub(crate) fn quick_client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(crate::trust::tls())
        .timeout_global(Some(PING))
        .build()
        .into()
}

/// Sends a request and reads the whole answer, whatever its status.
pub(crate) fn send(client: &ureq::Agent, request: Request<&[u8]>) -> StorageResult<Answer> {
    // A body of no bytes is still a body: some services want its length.
    let written = matches!(request.method().as_str(), "PUT" | "POST");
    let answered = if request.body().is_empty() && !written {
        client.run(request.map(|_| ()))
    } else {
        client.run(request)
    };
    let mut response = answered.map_err(|e| unreachable(&e))?;
    let expected = response.body().content_length().unwrap_or(0);
    let mut body = Vec::with_capacity(usize::try_from(expected.min(1 << 26)).unwrap_or(0));
    let mut reader = response.body_mut().as_reader().take(MAX_ANSWER);
    let read = reader.read_to_end(&mut body);
    read.map_err(|e| StorageError::Unreachable(e.to_string()))?;
    Ok(Answer {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body,
    })
}

/// No answer, or one that broke off.
pub(crate) fn unreachable(e: &ureq::Error) -> StorageError {
    StorageError::Unreachable(e.to_string())
}

/// The failure that a status means.
pub(crate) fn check(status: StatusCode, place: &str) -> StorageResult<()> {
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 => Err(StorageError::Unauthorised),
        404 => Err(StorageError::NotFound(place.to_string())),
        413 | 507 => Err(StorageError::Full),
        408 | 429 | 498 | 500 | 502..=504 => {
            Err(StorageError::Unreachable(format!("{place}: status {status}")))
        }
        _ => Err(StorageError::Other(format!("{place}: status {status}"))),
    }
}

/// The value of a `Range` header for some bytes.
pub(crate) fn range(offset: u64, length: usize) -> String {
    format!("bytes={offset}-{}", offset + length as u64 - 1)
}

/// Percent-encodes a path, or with `slash` false a part of a query, as RFC 3986 has it.
pub(crate) fn escape(text: &str, slash: bool) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) || (slash && b == b'/') {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// A request, or the reason why the settings do not make one.
pub(crate) fn request<'a>(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &'a [u8],
) -> StorageResult<Request<&'a [u8]>> {
    let mut builder = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder
        .body(body)
        .map_err(|e| StorageError::Invalid(format!("'{url}' can not be asked: {e}")))
}
