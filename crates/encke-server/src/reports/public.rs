//! The pages that anybody with an API code may pull (reference `comet-data.md`).

use super::{PICTURES, PICTURES_PATH, codes, endpoints, pictures, schedules, templates};
use crate::app::{App, now};
use crate::auth::find_admin;
use crate::origin::Scheme;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use encke_api::ApiError;
use encke_api::form::Form;
use encke_reports::snapshot::{Changed, Snapshot};
use encke_reports::{ColumnType, Shown};
use encke_store::{ReportOwner, Scope, SessionKind, StoreError, StoredReport, StoredSession};
use governor::clock::Clock as _;
use serde::Serialize;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
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
            &format!("{PICTURES_PATH}/person/{{file}}"),
            get(pictures::of_person),
        )
        .route(
            &format!("{PICTURES_PATH}/placeholder.svg"),
            get(pictures::placeholder),
        )
        .route(
            &format!("{}/{{secret}}", schedules::FILES_PATH),
            get(schedules::linked),
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

/// The other end of the connection, and how it reached this one.
type Peer = (ConnectInfo<SocketAddr>, axum::Extension<Scheme>);

async fn without_page(
    app: State<Arc<App>>,
    (ConnectInfo(peer), axum::Extension(scheme)): Peer,
    method: Method,
    headers: HeaderMap,
    query: RawQuery,
    uri: axum::http::Uri,
) -> Response {
    answer(
        app.0,
        (peer, scheme),
        &method,
        &headers,
        query.0,
        uri.path(),
        None,
        None,
    )
    .await
}

async fn with_page(
    app: State<Arc<App>>,
    (ConnectInfo(peer), axum::Extension(scheme)): Peer,
    method: Method,
    headers: HeaderMap,
    query: RawQuery,
    uri: axum::http::Uri,
    Path(page): Path<String>,
) -> Response {
    answer(
        app.0,
        (peer, scheme),
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
    (ConnectInfo(peer), axum::Extension(scheme)): Peer,
    method: Method,
    headers: HeaderMap,
    query: RawQuery,
    uri: axum::http::Uri,
    Path((page, rows)): Path<(String, String)>,
) -> Response {
    answer(
        app.0,
        (peer, scheme),
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
    peer: (SocketAddr, Scheme),
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
        HeaderValue::from_static("if-none-match, x-encke-snapshot"),
    );
    h.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "x-encke-snapshot, link, etag, retry-after, x-ratelimit-limit, x-ratelimit-remaining",
        ),
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

fn internal(what: &str, error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "{what}");
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error; the server's log has the details",
    )
}

#[allow(clippy::too_many_arguments)]
async fn serve(
    app: &Arc<App>,
    (peer, scheme): (SocketAddr, Scheme),
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
    let (stored, code) = match app.store.report_by_code(&StoredSession::hash_of(code)).await {
        Err(StoreError::NotFound) => return Err(unknown()),
        r => r.map_err(|e| internal("a report could not be looked up", e))?,
    };
    if code.expires != 0 && code.expires <= now() {
        return Err(unknown());
    }
    let origin = crate::http::origin(app, peer, headers, path, scheme);
    let asked = Asked {
        form: &form,
        headers,
        client: origin.ip,
        base: origin.base(),
        request: format!("{path}?{query}"),
        locale: code.locale,
        page,
        rows,
    };
    let limited = app.reports.calls.check_key(&stored.owner);
    let mut sent = 0;
    let mut response = match &limited {
        Err(wait) => {
            let left = wait.wait_time_from(governor::clock::DefaultClock::default().now());
            let seconds = left.as_secs_f64().ceil().max(1.0);
            Refusal(
                StatusCode::TOO_MANY_REQUESTS,
                format!(
                    "At most {} calls a second are allowed; keep a copy of the rows",
                    app.reports.calls_a_second
                ),
                Some((header::RETRY_AFTER, format!("{seconds:.0}"))),
            )
            .into_response()
        }
        Ok(_) if !codes::is_allowed(&code.addresses, origin.ip) => Refusal::new(
            StatusCode::FORBIDDEN,
            "The API_KEY may not be used from this address",
        )
        .into_response(),
        Ok(_) => match answered(app, &stored, asked).await {
            Ok((response, rows)) => {
                sent = rows;
                response
            }
            Err(refusal) => refusal.into_response(),
        },
    };
    let left = limited.map_or(0, |state| state.remaining_burst_capacity());
    let limit = app.reports.calls_a_second;
    response
        .headers_mut()
        .insert("x-ratelimit-limit", HeaderValue::from(limit));
    response
        .headers_mut()
        .insert("x-ratelimit-remaining", HeaderValue::from(left));
    codes::note(app, &stored.id, origin.ip, response.status().as_u16(), sent);
    Ok(response)
}

/// Whether the owner still exists and is not suspended.
pub(super) async fn may_serve(app: &App, owner: &ReportOwner) -> bool {
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

/// A call with a valid code.
struct Asked<'a> {
    form: &'a Form,
    headers: &'a HeaderMap,
    client: IpAddr,
    /// Scheme and host as the client sees them.
    base: String,
    /// Path and query.
    request: String,
    locale: String,
    page: Option<String>,
    rows: Option<String>,
}

/// The answer up to the rows, and after them; its fields in the published order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    report_name: &'a str,
    column_types: Vec<ColumnType>,
    column_names: Vec<&'a str>,
    column_keys: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tail<'a> {
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

/// A refusal that fits what went wrong with a report's rows. The words of a data source are for its owner alone.
fn refusal(e: &ApiError) -> Refusal {
    let owner = "The report's owner has to see to it: its template or data source";
    match e.status {
        404 | 400 => Refusal::new(StatusCode::FORBIDDEN, format!("{owner} is gone or was changed")),
        502..=504 => Refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "The report's data source does not answer now".into(),
            Some((header::RETRY_AFTER, "60".into())),
        ),
        _ => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal error; the server's log has the details",
        ),
    }
}

/// Whether a client has the answer already (RFC 9110, section 13.1.2): tags are compared weakly.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let plain = |t: &str| t.trim().trim_start_matches("W/").to_string();
    let sent = headers.get_all(header::IF_NONE_MATCH).iter();
    sent.filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|tag| tag.trim() == "*" || plain(tag) == plain(etag))
}

async fn answered(
    app: &Arc<App>,
    stored: &StoredReport,
    asked: Asked<'_>,
) -> Result<(Response, u64), Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    if !may_serve(app, &stored.owner).await {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "The report's owner may not share it any more",
        ));
    }
    let page = number(asked.page.as_ref(), 0, "The page")?;
    let size = number(asked.rows.as_ref(), DEFAULT_ROWS, "The number of rows")?;
    if size == 0 || size > MAX_ROWS {
        return Err(bad(format!("A page has 1 to {MAX_ROWS} rows")));
    }
    let since: Option<i64> = match asked.form.get("changedSince") {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| bad("changedSince is a time in milliseconds since 1970 in UTC".into()))?,
        ),
    };
    let report = endpoints::parse(stored).map_err(|e| refusal(&e))?;
    let found = templates::find(app, &stored.owner, report.template);
    let template = found.await.map_err(|e| refusal(&e))?.template;
    let insisted = asked
        .headers
        .get("x-encke-snapshot")
        .and_then(|v| v.to_str().ok());
    let (name, snapshot) = match asked.form.get("snapshot").or(insisted) {
        Some(name) => {
            let kept = app.reports.named(&stored.id, name);
            let gone = "This snapshot is not kept any more: begin at page 0 without naming one";
            (
                name.to_string(),
                kept.ok_or_else(|| Refusal::new(StatusCode::GONE, gone))?,
            )
        }
        None => {
            let found = app
                .reports
                .for_pull(app, stored, &report, asked.client, page == 0);
            found.await.map_err(|e| refusal(&e))?
        }
    };
    let changed =
        match since {
            None => None,
            Some(since) => {
                let (app, name, snapshot) = (app.clone(), name.clone(), snapshot.clone());
                let found =
                    tokio::task::spawn_blocking(move || app.reports.changed(&name, &snapshot, since)).await;
                let found = found.map_err(|e| internal("a report could not be read", e))?;
                let found = found.map_err(|e| refusal(&e))?;
                Some(found.ok_or_else(|| {
                    bad("The rows of this report do not tell when they were changed".into())
                })?)
            }
        };
    // The addresses in the answer depend on who asks, so they are part of what the tag stands for.
    let hash = StoredSession::hash_of(&format!("{}{}{}", asked.base, asked.request, report.name));
    let etag = format!("W/\"{name}-{page}-{size}-{}-{}\"", asked.locale, &hash[..16]);
    if is_known(asked.headers, &etag) {
        let response = (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
        return Ok((response, 0));
    }
    let total = changed.as_ref().map_or(snapshot.rows, |c| c.rows());
    let last_page = total.div_ceil(size).saturating_sub(1);
    let columns = endpoints::named(
        snapshot.description.columns.clone(),
        &report,
        &template,
        &asked.locale,
    );
    let head = Head {
        report_name: &report.name,
        column_types: columns.iter().map(|c| c.kind).collect(),
        column_names: columns.iter().map(|c| c.name.as_str()).collect(),
        column_keys: columns.iter().map(|c| c.key.as_str()).collect(),
    };
    let first = report.sort.first();
    let tail = Tail {
        total_size: total,
        page,
        page_size: size,
        last_page,
        sort_field: first.map(|s| s.column.as_str()),
        sort_direction: if first.is_some_and(|s| s.descending) {
            "desc"
        } else {
            "asc"
        },
        locale: &asked.locale,
        pivot: snapshot.description.pivot,
        curl: None,
        api_key_request_url: format!("{}{}", asked.base, asked.request),
        report_template_id: template.id,
    };
    let print_error = |e| internal("a report could not be printed", e);
    let head = serde_json::to_vec(&head).map_err(print_error)?;
    let tail = serde_json::to_vec(&tail).map_err(print_error)?;
    let pictures = has_pictures(&columns).then(|| format!("{}{PICTURES_PATH}", asked.base));
    let read = tokio::task::spawn_blocking(move || {
        body(&head, &snapshot, changed.as_deref(), page, size, pictures, &tail)
    });
    let body = read
        .await
        .map_err(|e| internal("a report could not be read", e))?;
    let body = body.map_err(|e| internal("a report could not be read", e))?;
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
    app.reports.note_page(&name, asked.client, page >= last_page);
    if page < last_page {
        let query = asked.request.split_once('?').map_or("", |(_, q)| q);
        let named = if asked.form.get("snapshot").is_some() {
            String::new()
        } else {
            format!("&snapshot={name}")
        };
        let next = format!(
            "<{}{BASE}/areports/run/{}/{size}/?{query}{named}>; rel=\"next\"",
            asked.base,
            page + 1
        );
        put(header::LINK, &next);
    }
    let sent = total.saturating_sub(page.saturating_mul(size)).min(size);
    Ok((response, sent))
}

fn has_pictures(columns: &[Shown]) -> bool {
    columns.iter().any(|c| c.kind == ColumnType::ImageLink)
}

/// The answer's bytes: the fields before the rows, the rows as they lie in the snapshot, the fields after.
fn body(
    head: &[u8],
    snapshot: &Snapshot,
    changed: Option<&Changed>,
    page: u64,
    size: u64,
    pictures: Option<String>,
    tail: &[u8],
) -> Result<Vec<u8>, encke_reports::snapshot::SnapshotError> {
    let mut body = head[..head.len() - 1].to_vec();
    body.extend_from_slice(b",\"results\":[");
    let rows = |out: &mut Vec<u8>| match changed {
        None => snapshot.page(page, size, out),
        Some(changed) => snapshot.page_of(changed, page, size, out),
    };
    match pictures {
        None => rows(&mut body)?,
        Some(pictures) => {
            let mut text = Vec::new();
            rows(&mut text)?;
            // Room for longer addresses, so that the rows are moved once.
            let longer = pictures.len().saturating_sub(PICTURES.len());
            body.reserve(text.len() + longer * usize::try_from(size).unwrap_or_default() + tail.len() + 1);
            let mut done = 0;
            for at in memchr::memmem::find_iter(&text, PICTURES) {
                body.extend_from_slice(&text[done..at]);
                body.extend_from_slice(pictures.as_bytes());
                done = at + PICTURES.len();
            }
            body.extend_from_slice(&text[done..]);
        }
    }
    body.extend_from_slice(b"],");
    body.extend_from_slice(&tail[1..]);
    Ok(body)
}
