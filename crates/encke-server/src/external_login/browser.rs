//! The browser's way through an OpenID Connect log-in: there, back, and the session for the console.
//!
//! What is begun travels in a cookie that only this server can read, so nothing is kept for those who never come back,
//! and only the browser that began can end it. The key of the session goes the same way: no address ever holds it.

use super::{PATH, is_shown_at, oidc, organization_of, people};
use crate::app::{App, now};
use crate::auth::{Principal, admit_from_elsewhere, organization_of_host, throttled};
use crate::http::{error_response, language, origin};
use crate::origin::{Origin, Scheme};
use crate::secrets;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use encke_api::constants::REMOTESERVER_OIDC;
use encke_api::types::ExternalAuthenticationSource;
use encke_api::{ApiError, ApiResult};
use encke_store::SessionKind;
use encke_store::audit::asked_by;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;

/// The cookie of a log-in that is on its way.
const BEGUN: &str = "encke-login";
/// The cookie of a log-in that came back.
const ENDED: &str = "encke-login-ended";
/// The console fetches what came back within this time, in seconds.
const FETCH_TIME: i64 = 120;
/// The page of the console that fetches it.
const PAGE: &str = "/sign-in?external=1";

/// What came back.
#[derive(Serialize, Deserialize)]
struct Ended {
    /// Unix seconds.
    expires: i64,
    result: Result<Entered, (u16, String)>,
}

#[derive(Serialize, Deserialize)]
struct Entered {
    username: String,
    key: String,
    pending: bool,
}

/// What the log-in page may tell on the way there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Start {
    /// The address of the page, by which the browser reaches this server.
    self_address: Option<String>,
}

/// Paths that browsers call.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(&format!("{PATH}/callback"), get(callback))
        .route(&format!("{PATH}/session"), post(session))
        .route(&format!("{PATH}/{{id}}"), get(start))
        .with_state(app)
}

fn place(cookie: &str) -> String {
    format!("external-login/{cookie}")
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE);
    let pairs = all
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(n, _)| *n == name)
        .map(|(_, value)| value.to_string())
}

fn sealed_cookie<T: DeserializeOwned>(app: &App, headers: &HeaderMap, name: &str) -> Option<T> {
    let clear = app
        .server_key
        .unwrap_secret(&place(name), &cookie(headers, name)?)
        .ok()?;
    serde_json::from_slice(&clear).ok()
}

/// A header that keeps a value in the browser; without a value, takes it away.
fn set_cookie(
    name: &str,
    value: Option<&str>,
    age: i64,
    same_site: &str,
    secure: bool,
) -> Option<HeaderValue> {
    let (value, age) = value.map_or(("", 0), |v| (v, age));
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path={PATH}; Max-Age={age}; HttpOnly; SameSite={same_site}{secure}");
    HeaderValue::from_str(&text).ok()
}

fn seal<T: Serialize>(app: &App, name: &str, value: &T) -> ApiResult<String> {
    let clear = serde_json::to_vec(value).map_err(|_| ApiError::internal())?;
    let sealed = app.server_key.wrap(&place(name), &clear);
    sealed.map_err(|_| ApiError::internal())
}

/// How the browser sees this server: what the page says, if it is of this host; else what a trusted proxy says; else how
/// this server listens.
fn base(app: &App, origin: &Origin, headers: &HeaderMap, told: Option<&str>) -> String {
    let told = told.and_then(|t| openidconnect::url::Url::parse(t).ok());
    let proxy = headers.get("x-forwarded-proto").and_then(|v| v.to_str().ok());
    let scheme = match (&told, proxy) {
        (Some(url), _)
            if url
                .host_str()
                .is_some_and(|h| h.eq_ignore_ascii_case(&origin.host)) =>
        {
            url.scheme()
        }
        (_, Some(scheme)) if app.config().trust_x_forwarded_for => scheme,
        _ => app.local_url.split(':').next().unwrap_or("http"),
    };
    let scheme = if scheme == "https" { "https" } else { "http" };
    format!("{scheme}://{}", origin.authority)
}

fn redirect(to: &str, cookies: impl IntoIterator<Item = Option<HeaderValue>>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    if let Ok(to) = HeaderValue::from_str(to) {
        headers.insert(header::LOCATION, to);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for cookie in cookies.into_iter().flatten() {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

/// Sends the browser to the console's page with what came of it.
fn end(app: &App, result: ApiResult<Entered>, secure: bool) -> Response {
    let ended = Ended {
        expires: now() + FETCH_TIME,
        result: result.map_err(|e| (e.status, e.message)),
    };
    let value = seal(app, ENDED, &ended).ok();
    redirect(
        PAGE,
        [
            set_cookie(BEGUN, None, 0, "Lax", secure),
            set_cookie(ENDED, value.as_deref(), FETCH_TIME, "Strict", secure),
        ],
    )
}

/// A provider by its id, if its button stands on the page of this host.
fn source_at(app: &App, id: &str, host: &str) -> ApiResult<ExternalAuthenticationSource> {
    let config = app.config();
    let organization = organization_of_host(app, host).ok_or_else(ApiError::unauthorised)?;
    let found = config.external_admin_user_sources.get(id).filter(|s| {
        s.type_ == REMOTESERVER_OIDC && organization_of(s) == organization && is_shown_at(s, host)
    });
    found
        .cloned()
        .ok_or_else(|| ApiError::not_found("There is no such log-in here"))
}

fn failed(e: oidc::Failure) -> ApiError {
    match e {
        oidc::Failure::Refused(why) => ApiError::forbidden(why),
        oidc::Failure::Unavailable(why) => {
            tracing::error!(error = why, "a log-in provider can not be used");
            ApiError::new(
                503,
                "The other system can not be asked now; the server's log has the details",
            )
        }
    }
}

async fn start(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(scheme): Extension<Scheme>,
    Path(id): Path<String>,
    Query(told): Query<Start>,
    headers: HeaderMap,
) -> Response {
    let origin = origin(&app, peer, &headers, PATH, scheme);
    let base = base(&app, &origin, &headers, told.self_address.as_deref());
    let secure = base.starts_with("https:");
    match begin(&app, &id, &origin, &base).await {
        Ok((to, sealed)) => redirect(
            &to,
            [set_cookie(BEGUN, Some(&sealed), oidc::LOG_IN_TIME, "Lax", secure)],
        ),
        Err(e) => end(&app, Err(e), secure),
    }
}

async fn begin(app: &App, id: &str, origin: &Origin, base: &str) -> ApiResult<(String, String)> {
    let source = source_at(app, id, &origin.host)?;
    // The metadata depends on nothing else.
    let key = [
        &source.oidc.provider,
        &source.oidc.discovery_document_url,
        &source.oidc.azure_tenant_id,
    ]
    .map(String::as_str)
    .join("\0");
    let metadata = match app.external.metadata.get(&key) {
        Some(known) => known,
        None => {
            let _permit = app
                .external
                .gate
                .acquire()
                .await
                .map_err(|_| ApiError::internal())?;
            let found = Arc::new(oidc::discover(&source.oidc).await.map_err(failed)?);
            app.external.metadata.insert(key, found.clone());
            found
        }
    };
    let redirect = format!("{base}{PATH}/callback");
    let (to, begun) = oidc::begin(&source.oidc, id, &metadata, &redirect).map_err(failed)?;
    Ok((to, seal(app, BEGUN, &begun)?))
}

async fn callback(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(scheme): Extension<Scheme>,
    Query(answer): Query<oidc::Answer>,
    headers: HeaderMap,
) -> Response {
    let origin = origin(&app, peer, &headers, &format!("{PATH}/callback"), scheme);
    let begun: Option<oidc::Begun> = sealed_cookie(&app, &headers, BEGUN);
    let secure = begun.as_ref().is_some_and(oidc::Begun::is_secure);
    let result = match begun {
        None => Err(ApiError::forbidden(
            "This browser began no such log-in, or it took too long; start again",
        )),
        Some(begun) => {
            // Not to be taken for an administrator of this name.
            let source = format!("{PATH}/{}", begun.source);
            let asker = Principal::Nobody.asker(&origin);
            let entering = asked_by(asker, enter(&app, &origin, begun, answer));
            throttled(&app, &origin, &source, entering).await
        }
    };
    if let Err(e) = &result {
        tracing::info!(ip = %origin.ip, reason = %e, "a log-in by another system failed");
    }
    end(&app, result, secure)
}

async fn enter(app: &App, origin: &Origin, begun: oidc::Begun, answer: oidc::Answer) -> ApiResult<Entered> {
    let id = begun.source.clone();
    let source = source_at(app, &id, &origin.host)?;
    let open = secrets::opened(&app.server_key, &id, &source)?;
    let person = {
        let _permit = app
            .external
            .gate
            .acquire()
            .await
            .map_err(|_| ApiError::internal())?;
        oidc::finish(&open.oidc, begun, answer).await.map_err(failed)?
    };
    let admin = people::admin_of_provider(app, &id, &source, person).await?;
    let (key, pending) = admit_from_elsewhere(app, &admin, origin, source.oidc.skip_mfa).await?;
    Ok(Entered {
        username: admin.username,
        key,
        pending,
    })
}

/// Hands the session to the console's page: to the browser that logged in, and to pages of this server alone.
async fn session(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let ended: Option<Ended> = sealed_cookie(&app, &headers, ENDED);
    let result = match ended.filter(|e| e.expires >= now()) {
        Some(ended) => ended
            .result
            .map_err(|(status, message)| ApiError::new(status, message)),
        None => Err(ApiError::forbidden(
            "There is no log-in to go on with; start again",
        )),
    };
    let mut response = match result {
        Ok(entered) => {
            let body = json!({
                "Status": 200,
                "Message": "OK",
                "Username": entered.username,
                "SessionKey": entered.key,
                "SessionType": SessionKind::Admin.word(),
                "Pending": entered.pending,
            });
            let mut response = Response::new(Body::from(body.to_string()));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(e) => error_response(&e, language(&headers)),
    };
    if let Some(gone) = set_cookie(ENDED, None, 0, "Strict", false) {
        response.headers_mut().append(header::SET_COOKIE, gone);
    }
    response
}
