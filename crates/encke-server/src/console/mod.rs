//! The web console's files, built into the program. The console is a client of the public API and nothing else
//! (DESIGN D11).

mod views;

use crate::app::App;
use crate::table::{Call, Nobody, Own, Route};
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use encke_api::ApiResult;
use encke_api::form::NoParams;
use rust_embed::RustEmbed;
use serde::Serialize;
use std::sync::Arc;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Files;

/// What a page of ours may load and do: nothing from elsewhere, no inline script. Portals may frame the console for
/// single sign-on.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'";

/// The policy of a server that knows its portals: nobody else may frame the console.
fn policy(portals: &[String]) -> HeaderValue {
    let all = || HeaderValue::from_static(POLICY);
    if portals.is_empty() {
        return all();
    }
    let frames = format!("{POLICY}; frame-ancestors 'self' {}", portals.join(" "));
    HeaderValue::from_str(&frames).unwrap_or_else(|_| all())
}

/// Whether a text is the origin of a page, such as `https://portal.example.com`.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

/// Who may sign people in.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Portals {
    /// Origins; none for every page.
    origins: Vec<String>,
}

async fn portals(app: Arc<App>, _: Nobody, _: Call<NoParams>) -> ApiResult<Own<Portals>> {
    let origins = app.portals.clone();
    Ok(Own(Portals { origins }))
}

/// Endpoints of the console.
#[must_use]
pub(crate) fn routes() -> Vec<Route> {
    let mut all = views::routes();
    all.push(Route::new(
        "EnckeConsolePortals",
        "/api/encke/v1/console/portals",
        "Answers the origins of the portals that may sign people in to the console by message; none for every page.",
        portals,
    ));
    all
}

/// Serves a file of the console, or its page for any other path: the console's own routes are its state.
#[must_use]
pub fn serve(app: &App, method: &Method, path: &str) -> Response {
    if *method != Method::GET && *method != Method::HEAD {
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "Only GET and HEAD are served here\n",
        );
    }
    let name = path.trim_start_matches('/');
    let (name, file) = match Files::get(name) {
        Some(file) => (name, file),
        None if name.starts_with("assets/") => {
            return plain(StatusCode::NOT_FOUND, "There is no such file\n");
        }
        None => match Files::get("index.html") {
            Some(file) => ("index.html", file),
            None => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "This build has no web console; build web/ first. The API is at /api/v1/, its reference at /docs\n",
                );
            }
        },
    };
    let mut response = Response::new(Body::from(file.data));
    let headers = response.headers_mut();
    if let Ok(media) = HeaderValue::from_str(file.metadata.mimetype()) {
        headers.insert(header::CONTENT_TYPE, media);
    }
    // Names under assets/ carry a hash of their content.
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy(&app.portals));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
