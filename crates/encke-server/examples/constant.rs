//! For `bench/api.sh`: the server's HTTP stack (hyper, axum, compression, a body that is read) that answers every request
//! with the bytes of a file. What a real call costs more than this is what the server itself does.
//!
//! `constant FILE`: prints its address and serves until it is killed.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tower::Service as _;
use tower_http::compression::CompressionLayer;

async fn answer(
    State(content): State<Bytes>,
    ConnectInfo(_peer): ConnectInfo<SocketAddr>,
    request: axum::extract::Request,
) -> Response {
    let body = to_bytes(request.into_body(), 16 * 1024 * 1024).await;
    let mut response = Response::new(Body::from(if body.is_ok() { content } else { Bytes::new() }));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: constant FILE")?;
    let content = Bytes::from(std::fs::read(file)?);
    let calls = any(answer).layer(CompressionLayer::new()).with_state(content);
    let router: Router = Router::new().fallback_service(calls);
    let mut service = router.into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("Encke listens at http://{}/", listener.local_addr()?);
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    loop {
        let (socket, peer) = listener.accept().await?;
        let _ = socket.set_nodelay(true);
        let router = service.call(peer).await?;
        let handler = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut router = router.clone();
            async move {
                router
                    .call(request.map(|body| Body::new(body.map_err(axum::Error::new))))
                    .await
            }
        });
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(socket), handler)
            .into_owned();
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}
