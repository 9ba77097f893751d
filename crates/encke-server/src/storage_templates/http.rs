//! Calls to the services that templates name.

use encke_api::ApiError;
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use std::sync::OnceLock;
use std::time::Duration;

/// Longest time for a call.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// A call that failed.
pub(super) struct Failure {
    /// What the caller may read.
    pub error: ApiError,
    /// The service answered that it did not do it. Otherwise it may have.
    pub refused: bool,
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// The one client. It follows no redirects, which could carry credentials elsewhere.
pub(super) fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Fails only when a provider was chosen before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .timeout(PATIENCE)
            .redirect(redirect::Policy::none())
            .build()
            .expect("the settings of the HTTP client are fixed")
    })
}

/// Whether a text is an http or https address.
pub(crate) fn is_url(text: &str) -> bool {
    (text.starts_with("http://") || text.starts_with("https://"))
        && reqwest::Url::parse(text).is_ok_and(|u| u.has_host())
}

/// Sends a request; status and text of the answer, whatever the status.
pub(super) async fn send(what: &str, request: RequestBuilder) -> Result<(StatusCode, String), Failure> {
    let unclear = |why: String, refused: bool| Failure {
        error: ApiError::new(502, format!("{what} can not be reached: {why}")),
        refused,
    };
    // The address may hold what is nobody's business.
    let mut answer = request
        .send()
        .await
        .map_err(|e| unclear(cause(&e), e.is_connect() || e.is_builder()))?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|e| unclear(cause(&e), false))? {
        if body.len() + part.len() > MAX_ANSWER {
            return Err(unclear("its answer is too long".into(), false));
        }
        body.extend_from_slice(&part);
    }
    Ok((answer.status(), String::from_utf8_lossy(&body).into_owned()))
}

/// Sends a request that a protocol's library made, for it to read the answer.
pub(crate) async fn exchange<B: Into<reqwest::Body>>(
    request: axum::http::Request<B>,
) -> Result<axum::http::Response<Vec<u8>>, std::io::Error> {
    let wrong = |e: reqwest::Error| std::io::Error::other(cause(&e));
    let request = reqwest::Request::try_from(request).map_err(wrong)?;
    let mut answer = client().execute(request).await.map_err(wrong)?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(wrong)? {
        if body.len() + part.len() > MAX_ANSWER {
            return Err(std::io::Error::other("its answer is too long"));
        }
        body.extend_from_slice(&part);
    }
    let mut response = axum::http::Response::new(body);
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    Ok(response)
}

/// The innermost reason of a failure, without the address.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if error.is_timeout() {
        return format!("no answer within {} seconds", PATIENCE.as_secs());
    }
    innermost.to_string()
}
