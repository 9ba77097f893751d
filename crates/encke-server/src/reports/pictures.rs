//! Pictures that the sample's photo links lead to: drawn from the person's number.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

fn svg(hue: u64, shape: &str) -> Response {
    let text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 96 96\" width=\"96\" height=\"96\">\
         <rect width=\"96\" height=\"96\" fill=\"hsl({hue},45%,85%)\"/>{shape}</svg>"
    );
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "public, max-age=86400"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    (headers, text).into_response()
}

fn person(hue: u64, size: u64) -> String {
    format!(
        "<circle cx=\"48\" cy=\"38\" r=\"{size}\" fill=\"hsl({hue},45%,45%)\"/>\
         <path d=\"M16 92a32 30 0 0 1 64 0z\" fill=\"hsl({hue},45%,45%)\"/>"
    )
}

/// `person/<number>.svg`.
pub(super) async fn of_person(Path(file): Path<String>) -> Response {
    let number = file.strip_suffix(".svg").and_then(|n| n.parse::<u64>().ok());
    match number {
        Some(n) => svg(
            n.wrapping_mul(47) % 360,
            &person(n.wrapping_mul(47) % 360, 15 + n % 5),
        ),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `placeholder.svg`, for persons without a photo.
pub(super) async fn placeholder() -> Response {
    svg(210, &person(210, 17))
}
