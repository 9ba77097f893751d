//! From the socket to the endpoint table: connections, limits, and the rules every call shares
//! (source: `spec/README.md`, "Requests", "Responses and errors").

mod uploads;

use crate::app::App;
use crate::origin::{Origin, Scheme};
use crate::table::{Request, failure};
use crate::{clients, console, events, external_login, live, reference, reports, storage_role, tls};
use axum::body::{Body, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use encke_api::form::Form;
use encke_api::messages::Language;
use encke_api::{ApiError, ApiResult};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tower_http::compression::predicate::{NotForContentType, Predicate as _};
use tower_http::compression::{CompressionLayer, DefaultPredicate};

/// Largest body of an API call in bytes. The largest real one is a profile with thousands of items.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// A body must have arrived within this time.
const BODY_TIME: Duration = Duration::from_secs(120);

/// The whole server as one router.
pub fn router(app: Arc<App>) -> Router {
    // Programs and packages are compressed already, or read back as fast as the network takes them.
    let compressed = DefaultPredicate::new().and(NotForContentType::new("application/octet-stream"));
    let calls = any(dispatch)
        .layer(CompressionLayer::new().compress_when(compressed))
        .with_state(app.clone());
    Router::new()
        .route(events::PATH, get(event_stream))
        .route(encke_api::live::LIVE_PATH, get(device_socket))
        .route(encke_api::live::LOGIN_PARAMETERS_PATH, post(login_parameters))
        .with_state(app.clone())
        .merge(external_login::router(app.clone()))
        .merge(storage_role::router(app.clone()))
        .merge(reports::router(app.clone()))
        .merge(reference::router(app))
        .fallback_service(calls)
}

async fn event_stream(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(scheme): Extension<Scheme>,
    headers: HeaderMap,
    uri: axum::http::Uri,
    ws: WebSocketUpgrade,
) -> Response {
    let origin = origin(&app, peer, &headers, events::PATH, scheme);
    events::upgrade(app, origin, uri.query().unwrap_or_default(), ws)
}

async fn device_socket(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(scheme): Extension<Scheme>,
    headers: HeaderMap,
    ws: WebSocketUpgrade,
) -> Response {
    let origin = origin(&app, peer, &headers, encke_api::live::LIVE_PATH, scheme);
    live::upgrade(app, origin, ws)
}

async fn login_parameters(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Response {
    let answer = async {
        let body = read_body(body).await?;
        let parameters = live::login_parameters(&app, &body).await?;
        serde_json::to_string(&parameters).map_err(|_| ApiError::internal())
    };
    match answer.await {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(e) => error_response(&e, language(&headers)),
    }
}

/// Where a request came from, by this server's rules about proxies.
pub(crate) fn origin(app: &App, peer: SocketAddr, headers: &HeaderMap, path: &str, scheme: Scheme) -> Origin {
    Origin::new(
        peer.ip(),
        headers,
        path,
        scheme,
        app.config().trust_x_forwarded_for,
    )
}

/// Everything that is not a socket, a bucket, a report or the reference: API calls, else the console.
async fn dispatch(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(scheme): Extension<Scheme>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    // One SDK doubles the slash at the front.
    let path = format!("/{}", parts.uri.path().trim_start_matches('/'));
    if path == "/gen/logo.img" {
        let origin = origin(&app, peer, &parts.headers, &path, scheme);
        return crate::meta::logo(&app, &origin.host).await;
    }
    if let Some(token) = path.strip_prefix(tls::HTTP_PATH) {
        return app.acme.http(token);
    }
    if path == clients::SCRIPT_PATH && parts.method == Method::GET {
        let origin = origin(&app, peer, &parts.headers, &path, scheme);
        return clients::script(&app, &origin).await;
    }
    let is_call = path.starts_with("/api/") || path.starts_with("/gen/");
    if !is_call {
        return console::serve(&app, &parts.method, &path);
    }
    let origin = origin(&app, peer, &parts.headers, &path, scheme);
    match call(app, origin, &parts.method, &parts.headers, body).await {
        Ok(response) => response,
        Err(e) => error_response(&e, language(&parts.headers)),
    }
}

/// The language that the caller reads.
pub(crate) fn language(headers: &HeaderMap) -> Language {
    headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|v| v.to_str().ok())
        .map_or_else(Language::default, Language::accepted)
}

async fn call(
    app: Arc<App>,
    origin: Origin,
    method: &Method,
    headers: &HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    let Some(route) = app.table.find(&origin.path) else {
        let unknown = ApiError::not_found(format!("There is no endpoint {}", origin.path));
        return Ok((StatusCode::NOT_FOUND, error_response(&unknown, language(headers))).into_response());
    };
    let allowed = *method == Method::POST || (*method == Method::GET && route.endpoint.method == "GET");
    if !allowed {
        let wrong = ApiError::new(405, format!("{} takes {}", origin.path, route.endpoint.method));
        return Ok((
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "POST")],
            error_response(&wrong, language(headers)),
        )
            .into_response());
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let is_multipart = content_type.starts_with("multipart/");
    let reply = match route.large_file {
        Some((part, admission)) if is_multipart => {
            let parts = uploads::parts(content_type, body)?;
            let received = uploads::receive(&app, route, parts, (part, admission), headers, &origin).await?;
            let (form, principal) = (received.form, received.principal);
            route
                .handle(app.clone(), Request { form, origin }, principal)
                .await?
        }
        _ => {
            let body = read_body(body).await?;
            let mut form = match is_multipart {
                true => multipart(content_type, body).await?,
                false => Form::parse(&body)?,
            };
            put_credentials(&mut form, headers);
            route.serve(app.clone(), Request { form, origin }).await?
        }
    };
    let mut response = Response::new(reply.body);
    set_headers(&mut response, reply.media);
    if let Some(file) = reply.file {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(file.length));
        let name = format!("attachment; filename=\"{}\"", file.name);
        if let Ok(name) = HeaderValue::from_str(&name) {
            headers.insert(header::CONTENT_DISPOSITION, name);
        }
    }
    Ok(response)
}

/// Credentials may come as headers, which one upload call of the SDKs needs.
fn put_credentials(form: &mut Form, headers: &HeaderMap) {
    for field in ["Username", "AuthType", "Password", "TOTP", "SessionKey"] {
        let name = format!("x-comet-admin-{}", field.to_ascii_lowercase());
        if let Some(value) = headers.get(name).and_then(|v| v.to_str().ok()) {
            form.put_default(field, value);
        }
    }
}

fn set_headers(response: &mut Response, media: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// The form of the upload call: parts with or without a file name (`spec/README.md`, "The upload call").
async fn multipart(content_type: &str, body: bytes::Bytes) -> ApiResult<Form> {
    let broken = |e: multer::Error| ApiError::bad_request(format!("The multipart body can not be read: {e}"));
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let whole = futures_util::stream::once(async { Ok::<_, std::convert::Infallible>(body) });
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut form = Form::default();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_string();
        form.put_part(&name, part.bytes().await.map_err(broken)?.to_vec())?;
    }
    Ok(form)
}

async fn read_body(body: Body) -> ApiResult<bytes::Bytes> {
    match tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) => {
            let source = std::error::Error::source(&e);
            if source.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) {
                return Err(ApiError::new(
                    413,
                    format!("The request is larger than {MAX_BODY} bytes"),
                ));
            }
            Err(ApiError::bad_request("The request's body broke off"))
        }
        Err(_) => Err(ApiError::new(408, "The request's body did not arrive in time")),
    }
}

/// A failure as clients expect it: an envelope on transport status 200, but for the missing second factor, which is
/// also told by status 449 and a header (reference, section 4.1).
pub(crate) fn error_response(error: &ApiError, language: Language) -> Response {
    let told = ApiError {
        message: language.translate(&error.message),
        ..error.clone()
    };
    let mut response = Response::new(Body::from(failure(&told)));
    set_headers(&mut response, "application/json; charset=utf-8");
    if error.status == 449 {
        *response.status_mut() = StatusCode::from_u16(449).unwrap_or(StatusCode::UNAUTHORIZED);
        let asked = error.second_factor.as_deref();
        if asked.is_none_or(|a| a.totp) {
            response
                .headers_mut()
                .insert("x-comet-totp-requested", HeaderValue::from_static("1"));
        }
        let webauthn = asked.and_then(|a| a.webauthn.as_deref());
        if let Some(challenge) = webauthn.and_then(|w| HeaderValue::from_str(w).ok()) {
            response
                .headers_mut()
                .insert("x-comet-webauthn-challenge", challenge);
        }
    }
    if error.status == 413 {
        // The rest of the body is not read.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
