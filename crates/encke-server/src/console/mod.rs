//! The web console's files, built into the program. The console is a client of the public API and nothing else
//! (DESIGN D11).

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Files;

/// What a page of ours may load and do: nothing from elsewhere, no inline script. Portals may frame the console for
/// single sign-on.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'";

/// Serves a file of the console, or its page for any other path: the console's own routes are its state.
#[must_use]
pub fn serve(method: &Method, path: &str) -> Response {
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
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
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
