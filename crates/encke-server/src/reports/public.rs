//! The pages that anybody with an API code may pull (reference `comet-data.md`).

use super::{PICTURES, pictures};
use crate::app::App;
use crate::auth::find_admin;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use encke_api::form::Form;
use encke_reports::{Column, SavedReport, Template};
use encke_store::{ReportOwner, Scope, SessionKind, StoreError, StoredReport, StoredSession};
use governor::clock::Clock as _;
use serde::Serialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tower_http::compression::CompressionLayer;

/// Rows of a page when the address names none.
const DEFAULT_ROWS: u64 = 25;
/// Most rows of a page.
const MAX_ROWS: u64 = 1000;
const BASE: &str = "/data-backend/api/public";

/// Paths of the public pages, in both documented spellings, with and without the slash at the end.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route(
            &format!("{BASE}/images/person/{{file}}"),
            get(pictures::of_person),
        )
        .route(
            &format!("{BASE}/images/placeholder.svg"),
            get(pictures::placeholder),
        );
    for base in [
        format!("{BASE}/areports/run"),
        "/data-backend/apu/public/areports".to_string(),
    ] {
        for end in ["", "/"] {
            router = router
                .route(&format!("{base}{end}"), any(without_page))
                .route(&format!("{base}/{{page}}{end}"), any(with_page))
                .route(&format!("{base}/{{page}}/{{rows}}{end}"), any(with_page_and_rows));
        }
    }
    router.layer(CompressionLayer::new()).with_state(app)
}

type Peer = ConnectInfo<SocketAddr>;

async fn without_page(
    app: State<Arc<App>>,
    peer: Peer,
    method: Method,
    headers: HeaderMap,
    query: RawQuery,
    uri: axum::http::Uri,
) -> Response {
    answer(app.0, peer.0, &method, &headers, query.0, uri.path(), None, None).await
}

async fn with_page(
    app: State<Arc<App>>,
    peer: Peer,
    method: Method,
    headers: HeaderMap,
    query: RawQuery,
    uri: axum::http::Uri,
    Path(page): Path<String>,
) -> Response {
    answer(
        app.0,
        peer.0,
        &method,
        &headers,
        query.0,
        uri.path(),
        Some(page),
        None,
    )
    .await
}

async fn with_page_and_rows(
    app: State<Arc<App>>,
    peer: Peer,
    method: Method,
    headers: HeaderMap,
    query: RawQuery,
    uri: axum::http::Uri,
    Path((page, rows)): Path<(String, String)>,
) -> Response {
    answer(
        app.0,
        peer.0,
        &method,
        &headers,
        query.0,
        uri.path(),
        Some(page),
        Some(rows),
    )
    .await
}

/// A refusal, as status and JSON.
struct Refusal(StatusCode, String, Option<(header::HeaderName, String)>);

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self(status, message.into(), None)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "status": self.0.as_u16(), "error": self.1 }).to_string();
        let mut response = (self.0, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some((name, value)) = self.2
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[allow(clippy::too_many_arguments)]
async fn answer(
    app: Arc<App>,
    peer: SocketAddr,
    method: &Method,
    headers: &HeaderMap,
    query: Option<String>,
    path: &str,
    page: Option<String>,
    rows: Option<String>,
) -> Response {
    let mut response = if *method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let query = query.unwrap_or_default();
        match serve(&app, peer, method, headers, &query, path, page, rows).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    };
    let h = response.headers_mut();
    // Web pages of any origin pull reports; the code is the only credential.
    h.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    h.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD"),
    );
    h.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("if-none-match"),
    );
    h.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-encke-snapshot, link, etag, retry-after"),
    );
    response
}

fn number(text: Option<&String>, default: u64, what: &str) -> Result<u64, Refusal> {
    let Some(text) = text else { return Ok(default) };
    text.parse().map_err(|_| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("{what} must be a whole number, not negative"),
        )
    })
}

#[allow(clippy::too_many_arguments)]
async fn serve(
    app: &App,
    peer: SocketAddr,
    method: &Method,
    headers: &HeaderMap,
    query: &str,
    path: &str,
    page: Option<String>,
    rows: Option<String>,
) -> Result<Response, Refusal> {
    if *method != Method::GET && *method != Method::HEAD {
        return Err(Refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "Reports are pulled with GET".into(),
            Some((header::ALLOW, "GET, HEAD".into())),
        ));
    }
    // The code comes first: without one there is nothing to be learned about anything else.
    let form = Form::parse(query.as_bytes()).unwrap_or_default();
    let unknown = || Refusal::new(StatusCode::UNAUTHORIZED, "The API_KEY is not valid");
    let code = form
        .get("API_KEY")
        .filter(|c| c.len() == 160)
        .ok_or_else(unknown)?;
    let failed = |e: StoreError| {
        tracing::error!(error = %e, "a report could not be looked up");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal error; the server's log has the details",
        )
    };
    let (stored, locale) = match app.store.report_by_code(&StoredSession::hash_of(code)).await {
        Err(StoreError::NotFound) => return Err(unknown()),
        r => r.map_err(failed)?,
    };
    if let Err(wait) = app.reports.calls.check_key(&stored.owner) {
        let left = wait.wait_time_from(governor::clock::DefaultClock::default().now());
        let seconds = left.as_secs_f64().ceil().max(1.0);
        return Err(Refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "At most 10 calls a second are allowed; keep a copy of the rows".into(),
            Some((header::RETRY_AFTER, format!("{seconds:.0}"))),
        ));
    }
    if !may_serve(app, &stored.owner).await {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "The report's owner may not share it any more",
        ));
    }
    let page = number(page.as_ref(), 0, "The page")?;
    let size = number(rows.as_ref(), DEFAULT_ROWS, "The number of rows")?;
    if size == 0 || size > MAX_ROWS {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("A page has 1 to {MAX_ROWS} rows"),
        ));
    }
    let origin = crate::http::origin(app, peer, headers, path);
    let scheme = headers.get("x-forwarded-proto").and_then(|v| v.to_str().ok());
    let scheme = scheme
        .filter(|s| app.config().trust_x_forwarded_for && ["http", "https"].contains(s))
        .unwrap_or("http");
    let base = format!("{scheme}://{}", origin.authority);
    write(
        app,
        headers,
        &stored,
        &locale,
        &base,
        &format!("{path}?{query}"),
        page,
        size,
    )
    .await
}

/// Whether the owner still exists and is not suspended.
async fn may_serve(app: &App, owner: &ReportOwner) -> bool {
    let config = app.config();
    let organization_is_open = owner.organization.is_empty()
        || config
            .organizations
            .get(&owner.organization)
            .is_some_and(|o| !o.is_suspended);
    organization_is_open
        && match owner.kind {
            SessionKind::Admin => find_admin(&config.admin_users, &owner.name, &owner.organization).is_some(),
            SessionKind::User => app
                .store
                .profile(&Scope::All, &owner.name)
                .await
                .is_ok_and(|p| !p.suspended),
        }
}

/// The answer, its fields in the published order; `results` holds the rows as they lie in the snapshot.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    report_name: &'a str,
    column_types: Vec<Value>,
    column_names: Vec<&'a str>,
    column_keys: Vec<&'a str>,
    results: &'a serde_json::value::RawValue,
    total_size: u64,
    page: u64,
    page_size: u64,
    last_page: u64,
    sort_field: Option<&'a str>,
    sort_direction: &'a str,
    locale: &'a str,
    pivot: bool,
    curl: Option<&'a str>,
    #[serde(rename = "apiKeyRequestURL")]
    api_key_request_url: String,
    #[serde(rename = "reportTemplateID")]
    report_template_id: i64,
}

#[allow(clippy::too_many_arguments)]
async fn write(
    app: &App,
    headers: &HeaderMap,
    stored: &StoredReport,
    locale: &str,
    base: &str,
    request: &str,
    page: u64,
    size: u64,
) -> Result<Response, Refusal> {
    let failed = |what: String| {
        tracing::error!(report = %stored.id, what, "a report could not be served");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal error; the server's log has the details",
        )
    };
    let report: SavedReport = serde_json::from_str(&stored.body).map_err(|e| failed(e.to_string()))?;
    let (template, columns): (&Template, Vec<&Column>) = report
        .resolve()
        .ok_or_else(|| failed("its template is gone".into()))?;
    let (name, snapshot) = app
        .reports
        .snapshot(stored, &report)
        .await
        .map_err(|e| failed(e.message))?;
    // The addresses in the rows depend on who asks, so they are part of what the tag stands for.
    let asked = StoredSession::hash_of(&format!("{base}{request}"));
    let etag = format!("\"{name}-{page}-{size}-{locale}-{}\"", &asked[..16]);
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == etag.as_bytes())
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let total = snapshot.rows;
    let read = tokio::task::spawn_blocking(move || snapshot.page(page, size)).await;
    let rows = read
        .map_err(|e| failed(e.to_string()))?
        .map_err(|e| failed(e.to_string()))?;
    let rows = String::from_utf8(rows).map_err(|e| failed(e.to_string()))?;
    let results = format!("[{}]", rows.replace(PICTURES, &format!("{base}{BASE}/images")));
    let results = serde_json::value::RawValue::from_string(results).map_err(|e| failed(e.to_string()))?;
    let last_page = total.div_ceil(size).saturating_sub(1);
    let answer = Answer {
        report_name: &report.name,
        column_types: columns
            .iter()
            .map(|c| serde_json::to_value(c.kind).unwrap_or_default())
            .collect(),
        column_names: columns.iter().map(|c| c.name(locale)).collect(),
        column_keys: columns.iter().map(|c| c.key).collect(),
        results: &results,
        total_size: total,
        page,
        page_size: size,
        last_page,
        sort_field: None,
        sort_direction: "asc",
        locale,
        pivot: false,
        curl: None,
        api_key_request_url: format!("{base}{request}"),
        report_template_id: template.id,
    };
    let body = serde_json::to_vec(&answer).map_err(|e| failed(e.to_string()))?;
    let mut response = Response::new(Body::from(body));
    let h = response.headers_mut();
    let mut put = |name: header::HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            h.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, "application/json; charset=utf-8");
    put(header::CACHE_CONTROL, "private, no-cache");
    put(header::ETAG, &etag);
    put(header::HeaderName::from_static("x-encke-snapshot"), &name);
    if page < last_page {
        let query = request.split_once('?').map_or("", |(_, q)| q);
        let next = format!(
            "<{base}{BASE}/areports/run/{}/{size}/?{query}>; rel=\"next\"",
            page + 1
        );
        put(header::LINK, &next);
    }
    Ok(response)
}
