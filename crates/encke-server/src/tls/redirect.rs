//! From http to https: where a listener is at port 443 and none at port 80 of the same address, one is opened there that
//! sends browsers on (reference, section 2). Calls are never sent on: what they carry has gone in clear already, and
//! whoever made them must learn so.

use super::{HTTP_PATH, is_tls};
use crate::app::App;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use encke_api::ApiError;
use encke_api::types::HTTPConnectorOptions;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where redirects are missing.
pub(crate) fn missing_redirects(listeners: &[(SocketAddr, HTTPConnectorOptions)]) -> Vec<SocketAddr> {
    let mut missing: Vec<SocketAddr> = listeners
        .iter()
        .filter(|(address, options)| address.port() == 443 && is_tls(options))
        .map(|(address, _)| SocketAddr::new(address.ip(), 80))
        .filter(|plain| {
            let taken = |a: &SocketAddr| a.port() == 80 && (a.ip() == plain.ip() || a.ip().is_unspecified());
            !listeners.iter().any(|(a, _)| taken(a))
        })
        .collect();
    missing.dedup();
    missing
}

/// What listens there.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new().fallback(any(send_on)).with_state(app)
}

/// A host as a request names it, without its port, if it looks like one.
fn host(headers: &HeaderMap) -> Option<&str> {
    let authority = headers.get(header::HOST)?.to_str().ok()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => &authority[..rest.find(']')? + 2],
        None => authority.split(':').next()?,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    (!host.is_empty() && host.chars().all(plain)).then_some(host)
}

async fn send_on(State(app): State<Arc<App>>, request: Request) -> Response {
    let path = request.uri().path();
    if let Some(token) = path.strip_prefix(HTTP_PATH) {
        return app.acme.http(token);
    }
    let is_page = [Method::GET, Method::HEAD].contains(request.method());
    let is_call = ["/api/", "/gen/", "/storage/", "/data-backend/"]
        .iter()
        .any(|p| format!("/{}", path.trim_start_matches('/')).starts_with(p));
    let target = host(request.headers()).map(|host| {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        format!("https://{host}{path}")
    });
    let target = target.and_then(|t| HeaderValue::from_str(&t).ok());
    match target.filter(|_| is_page && !is_call) {
        Some(target) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(header::LOCATION, target);
            response
        }
        None => {
            let error = ApiError::forbidden("This server is called by https alone");
            let language = crate::http::language(request.headers());
            let response = crate::http::error_response(&error, language);
            (StatusCode::FORBIDDEN, response).into_response()
        }
    }
}
