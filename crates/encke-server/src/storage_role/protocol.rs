//! restic's REST protocol, versions 1 and 2 (restic documentation, "REST Backend"), below `/storage/<bucket>/`.
//! Authentication is HTTP Basic with the bucket's id and key. A server that copies itself to this one has no keys, but an
//! administrator of the top level, named in the headers that calls with files have (`X-Comet-Admin-…`): that one may
//! list, write and delete as the key may, but not read.

use super::download::{self, Part};
use super::folders::{Folder, Kind, Object};
use super::upload::{self, Refusal};
use super::{blocking, registry};
use crate::app::{App, now};
use crate::auth::Principal;
use crate::origin::Scheme;
use crate::stream::{ListWriter, streamed_list};
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encke_store::{BucketId, Scope, StoreError, StoredBucket};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

const V1: &str = "application/vnd.x.restic.rest.v1";
const V2: &str = "application/vnd.x.restic.rest.v2";

/// The header that says that an administrator is calling.
const ADMIN: &str = "x-comet-admin-username";

/// Bytes of a request that is refused at the door that are still read, so that its sender comes to read the answer.
const MAX_UNWANTED: u64 = 1 << 20;

/// What a path below a bucket means.
enum Target {
    Repository,
    List(Kind),
    Object(Object),
}

/// Serves one request below `/storage/`.
pub(super) async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    match admit(&app, &parts).await {
        Ok((bucket, target)) => answer(&app, &bucket, target, &parts, body).await,
        Err(refused) => {
            let _ = upload::drain(&mut body, MAX_UNWANTED).await;
            refused
        }
    }
}

/// Finds out what a request is after, if its sender may.
async fn admit(app: &App, parts: &Parts) -> Result<(StoredBucket, Target), Response> {
    if !app.config().storage_role.role_enabled {
        let mut response = text(
            StatusCode::SERVICE_UNAVAILABLE,
            "The Storage Role is switched off",
        );
        retry_after(&mut response, "300");
        return Err(response);
    }
    let path = parts.uri.path().strip_prefix("/storage/").unwrap_or_default();
    let (bucket, rest) = path.split_once('/').unwrap_or((path, ""));
    let by_admin = parts.headers.contains_key(ADMIN);
    let bucket = if by_admin {
        authorise_admin(app, bucket, parts).await?
    } else {
        authorise(app, bucket, &parts.headers).await?
    };
    let target = target(rest).ok_or_else(|| {
        text(
            StatusCode::BAD_REQUEST,
            "Objects are config, or data, keys, locks, snapshots or index and a name of 64 hexadecimal digits",
        )
    })?;
    if by_admin && parts.method == Method::GET && matches!(target, Target::Object(Object::Named(..))) {
        return Err(text(
            StatusCode::FORBIDDEN,
            "Objects are read with the bucket's key",
        ));
    }
    Ok((bucket, target))
}

/// Checks an administrator, who has to be one of the top level: they are who could delete the whole bucket.
async fn authorise_admin(app: &App, bucket: &str, parts: &Parts) -> Result<StoredBucket, Response> {
    let field = |name: &str| {
        let value = parts.headers.get(format!("x-comet-admin-{name}"));
        value
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_string()
    };
    let fields = ["username", "authtype", "password", "sessionkey", "totp"].map(field);
    let (Some(ConnectInfo(peer)), Some(scheme)) = (
        parts.extensions.get::<ConnectInfo<SocketAddr>>(),
        parts.extensions.get::<Scheme>(),
    ) else {
        return Err(text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error"));
    };
    let origin = crate::http::origin(app, *peer, &parts.headers, parts.uri.path(), *scheme);
    match crate::auth::authenticate_fields(app, &fields, &origin).await {
        Ok(Principal::Admin(admin)) if admin.organization.is_empty() => {}
        Ok(_) => {
            return Err(text(
                StatusCode::FORBIDDEN,
                "Only for administrators of the top level",
            ));
        }
        Err(e) if e.status == 429 => {
            return Err(text(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many failed log-ins; try later",
            ));
        }
        Err(_) => return Err(unauthorised()),
    }
    let missing = || text(StatusCode::NOT_FOUND, "There is no such bucket");
    let id = BucketId::parse(bucket).ok_or_else(missing)?;
    app.store.bucket(&Scope::All, &id).await.map_err(|e| match e {
        StoreError::NotFound => missing(),
        e => {
            tracing::error!(error = %e, "a bucket could not be looked up");
            text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
        }
    })
}

async fn answer(app: &App, bucket: &StoredBucket, target: Target, parts: &Parts, body: Body) -> Response {
    let id = &bucket.id;
    match target {
        Target::Repository => repository(id, &parts.method, parts.uri.query()),
        Target::List(kind) => list(app, id, &parts.method, kind, &parts.headers).await,
        Target::Object(object) => one(app, bucket, &parts.method, object, &parts.headers, body).await,
    }
}

/// Reads a path below a bucket as it was sent: an escaped character is in no valid name.
fn target(path: &str) -> Option<Target> {
    if path.is_empty() {
        return Some(Target::Repository);
    }
    let list = Kind::parse(path.strip_suffix('/').unwrap_or(path)).map(Target::List);
    list.or_else(|| Object::parse(path).map(Target::Object))
}

/// Checks id and key. A bucket that does not exist looks like a wrong key.
async fn authorise(app: &App, bucket: &str, headers: &HeaderMap) -> Result<StoredBucket, Response> {
    let given = credentials(headers).filter(|(user, _)| user == bucket);
    let (Some(id), Some((_, key))) = (BucketId::parse(bucket), given) else {
        return Err(unauthorised());
    };
    let known = match app.store.bucket(&Scope::All, &id).await {
        Ok(bucket) if bucket.key_format == registry::KEY_FORMAT_SHA256 => Some(bucket),
        Ok(_) | Err(StoreError::NotFound) => None,
        Err(e) => {
            tracing::error!(error = %e, "a bucket could not be looked up");
            return Err(text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error"));
        }
    };
    // The same work whether the bucket exists or not.
    let nobodys = registry::hash_of("");
    let stored = known.as_ref().map_or(&nobodys, |b| &b.key_hash);
    let same: bool = registry::hash_of(&key).as_bytes().ct_eq(stored.as_bytes()).into();
    known.filter(|_| same).ok_or_else(unauthorised)
}

/// User and password of HTTP Basic (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_string(), password.to_string()))
}

fn repository(id: &BucketId, method: &Method, query: Option<&str>) -> Response {
    let create = query.is_some_and(|q| q.split('&').any(|p| p == "create=true"));
    match *method {
        // The folders were made with the bucket.
        Method::POST if create => {
            tracing::debug!(bucket = %id, "repository set up");
            text(StatusCode::OK, "")
        }
        Method::POST => text(StatusCode::BAD_REQUEST, "Only ?create=true can be posted here"),
        Method::DELETE => text(
            StatusCode::FORBIDDEN,
            "A bucket is deleted by its administrator, not by its user",
        ),
        _ => wrong_method("POST"),
    }
}

async fn list(app: &App, id: &BucketId, method: &Method, kind: Kind, headers: &HeaderMap) -> Response {
    if *method != Method::GET && *method != Method::HEAD {
        return wrong_method("GET, HEAD");
    }
    let with_size = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|v| v.to_str().is_ok_and(|v| v.contains(V2)));
    let folder = app.buckets.folder(id);
    if let Some(missing) = missing(folder.clone(), id).await {
        return missing;
    }
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let Ok(turn) = app.buckets.listings.clone().acquire_owned().await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error");
        };
        streamed_list(move |writer| async move {
            let listed = blocking(move || {
                let _turn = turn;
                write_list(&folder, kind, with_size, writer)
            });
            listed
                .await
                .map_err(|e| StoreError::Database(format!("a bucket could not be listed: {e}")))
        })
    };
    let mut response = Response::new(body);
    let media = if with_size { V2 } else { V1 };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

fn write_list(
    folder: &Folder,
    kind: Kind,
    with_size: bool,
    mut writer: ListWriter,
) -> io::Result<ListWriter> {
    folder.each_object(kind, with_size, |name, size| {
        // Names are hexadecimal digits: nothing in them needs escaping.
        if with_size {
            writer.element(&format!(r#"{{"name":"{name}","size":{size}}}"#))
        } else {
            writer.element(&format!(r#""{name}""#))
        }
    })?;
    Ok(writer)
}

async fn one(
    app: &App,
    bucket: &StoredBucket,
    method: &Method,
    object: Object,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let id = &bucket.id;
    let folder = app.buckets.folder(id);
    let path = folder.object(&object);
    match *method {
        Method::HEAD => match blocking(move || std::fs::metadata(path)).await {
            Ok(m) => object_response(StatusCode::OK, m.len(), Body::empty()),
            Err(e) => not_read(folder, id, &e).await,
        },
        Method::GET => {
            let (file, size) = match download::open(path).await {
                Ok(opened) => opened,
                Err(e) => return not_read(folder, id, &e).await,
            };
            let part = Part::of(headers, size);
            let (status, first, length) = match part {
                Part::Whole => (StatusCode::OK, 0, size),
                Part::Range(first, length) => (StatusCode::PARTIAL_CONTENT, first, length),
                Part::Outside => {
                    let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, "The object is shorter");
                    content_range(&mut response, &format!("bytes */{size}"));
                    return response;
                }
            };
            match download::body(file, first, length).await {
                Ok(body) => {
                    let mut response = object_response(status, length, body);
                    if let Part::Range(first, length) = part {
                        let last = first + length - 1;
                        content_range(&mut response, &format!("bytes {first}-{last}/{size}"));
                    }
                    response
                }
                Err(e) => not_read(folder, id, &e).await,
            }
        }
        Method::POST => {
            let length = headers
                .get(header::CONTENT_LENGTH)
                .and_then(|v| v.to_str().ok())
                .and_then(|v| v.parse().ok());
            match upload::receive(app, id, object, length, room(app, bucket), body).await {
                Ok(()) => text(StatusCode::OK, ""),
                Err(refusal) => refused(folder, id, refusal).await,
            }
        }
        Method::DELETE => {
            let is_lock = matches!(object, Object::Named(Kind::Locks, _));
            if bucket.rules.append_only && !is_lock {
                return text(
                    StatusCode::FORBIDDEN,
                    "Nothing can be deleted from this bucket: it is append-only",
                );
            }
            let to_trash = bucket.rules.trash_days > 0 && !is_lock;
            let there = folder.clone();
            let deleted = object.clone();
            match blocking(move || there.delete(&deleted, to_trash, now())).await {
                Ok(size) => {
                    app.buckets.count(id, -i64::try_from(size).unwrap_or(i64::MAX));
                    app.replication.object_changed(id, &object, 0);
                    text(StatusCode::OK, "")
                }
                Err(e) => not_read(folder, id, &e).await,
            }
        }
        _ => wrong_method("GET, HEAD, POST, DELETE"),
    }
}

/// Bytes that a bucket may still take.
fn room(app: &App, bucket: &StoredBucket) -> u64 {
    if bucket.rules.quota <= 0 {
        return u64::MAX;
    }
    let held = bucket
        .size
        .bytes
        .saturating_add(app.buckets.uncounted(&bucket.id));
    u64::try_from(bucket.rules.quota.saturating_sub(held)).unwrap_or(0)
}

async fn refused(folder: Folder, id: &BucketId, refusal: Refusal) -> Response {
    match refusal {
        Refusal::TooLarge => closing(text(StatusCode::PAYLOAD_TOO_LARGE, "The object is too large")),
        Refusal::Mismatch => {
            tracing::warn!(bucket = %id, "refused an upload whose content is not what its name says");
            text(
                StatusCode::BAD_REQUEST,
                "The content's SHA-256 is not the object's name; nothing was kept",
            )
        }
        Refusal::Broken => closing(text(
            StatusCode::BAD_REQUEST,
            "The upload broke off; nothing was kept",
        )),
        Refusal::Silent => closing(text(
            StatusCode::REQUEST_TIMEOUT,
            "The upload stopped; nothing was kept",
        )),
        Refusal::Busy => {
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "Too many uploads at once");
            retry_after(&mut response, "10");
            closing(response)
        }
        Refusal::Quota => closing(text(
            StatusCode::INSUFFICIENT_STORAGE,
            "The bucket's quota is used up; nothing was kept",
        )),
        Refusal::ConfigExists => text(
            StatusCode::FORBIDDEN,
            "The bucket holds a repository already; its configuration is not replaced",
        ),
        Refusal::Disk(e) if registry::is_full(&e) => {
            tracing::error!(bucket = %id, "the disk of the buckets is full");
            text(
                StatusCode::INSUFFICIENT_STORAGE,
                "The server's disk is full; nothing was kept",
            )
        }
        // Whatever was not found, it was not the object: a client that is told 404 would not try again.
        Refusal::Disk(e) => match missing(folder, id).await {
            Some(response) => response,
            None => failed(id, &e),
        },
    }
}

fn failed(id: &BucketId, e: &io::Error) -> Response {
    tracing::error!(bucket = %id, error = %e, "the disk of the buckets failed");
    text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
}

/// What to answer when an object could not be reached.
async fn not_read(folder: Folder, id: &BucketId, e: &io::Error) -> Response {
    if e.kind() != io::ErrorKind::NotFound {
        return failed(id, e);
    }
    match missing(folder, id).await {
        Some(response) => response,
        None => text(StatusCode::NOT_FOUND, "There is no such object"),
    }
}

/// A bucket without its folder is a disk that is not there, not an empty bucket.
async fn missing(folder: Folder, id: &BucketId) -> Option<Response> {
    if blocking(move || Ok(folder.exists())).await.unwrap_or(false) {
        return None;
    }
    tracing::error!(bucket = %id, "the bucket's folder is missing");
    let mut response = text(
        StatusCode::SERVICE_UNAVAILABLE,
        "The bucket's storage is not available",
    );
    retry_after(&mut response, "60");
    Some(response)
}

fn text(status: StatusCode, message: &'static str) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        message,
    )
        .into_response()
}

fn unauthorised() -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "Unauthorised");
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(r#"Basic realm="Storage Role", charset="UTF-8""#),
    );
    response
}

fn wrong_method(allowed: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Not possible here");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn object_response(status: StatusCode, length: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

fn content_range(response: &mut Response, range: &str) {
    if let Ok(value) = HeaderValue::from_str(range) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
}

fn retry_after(response: &mut Response, seconds: &'static str) {
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
}

/// Says that the connection ends with this answer: the rest of the request is not read.
fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
