//! The event stream over WebSocket (reference, section 6.1): five text frames of credentials, one answer, then one
//! frame an event.

mod audit;
pub(crate) mod files;
mod history;

use crate::app::App;
use crate::auth::{Principal, authenticate_fields};
use crate::origin::Origin;
use crate::table::Route;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use encke_api::constants::SEVT_META_HELLO;
use encke_api::types::StreamableEvent;
use encke_store::{Event, EventDraft};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// An event as those get it who want to know only that it happened.
pub(crate) fn without_data(json: &str) -> String {
    match serde_json::from_str::<StreamableEvent>(json) {
        Ok(mut event) => {
            event.data = Value::Null;
            serde_json::to_string(&event).unwrap_or_default()
        }
        Err(_) => String::new(),
    }
}

/// Endpoints of what happened.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut all = history::routes();
    all.extend(audit::routes());
    all
}

/// Path of the stream.
pub const PATH: &str = "/api/v1/events/stream";
/// A client has this long for its five frames.
const SIGN_IN_TIME: Duration = Duration::from_secs(30);
/// One event must go out within this time, else the reader is too slow and is disconnected.
const SEND_TIME: Duration = Duration::from_secs(30);
/// Quiet connections are pinged at this interval, so that dead ones are noticed.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that answers no ping for this long is gone.
const SILENCE: Duration = Duration::from_secs(100);
/// Largest frame from a client: a credential.
const MAX_FRAME: usize = 64 * 1024;
/// Bytes that may wait in one connection's write buffer beyond what the socket takes.
const WRITE_BUFFER: usize = 1024 * 1024;

/// Takes over a connection as an event stream. `query` may hold `allowList=<types>`, names or numbers.
pub fn upgrade(app: Arc<App>, origin: Origin, query: &str, ws: WebSocketUpgrade) -> Response {
    let only = allow_list(query);
    ws.max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME)
        .max_write_buffer_size(WRITE_BUFFER)
        .on_upgrade(move |socket| async move {
            if let Err(reason) = serve(&app, &origin, socket, &only).await {
                tracing::debug!(reason, ip = %origin.ip, "event stream ended");
            }
        })
        .into_response()
}

fn allow_list(query: &str) -> Vec<String> {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("allowList="))
        .flat_map(|list| list.split([',', '%']).map(|t| t.strip_prefix("2C").unwrap_or(t)))
        .filter(|t| !t.is_empty())
        .map(str::to_string)
        .collect()
}

/// Whether an administrator of an organization may see an event.
fn visible(event: &Event, organization: &str, only: &[String]) -> bool {
    let within = organization.is_empty() || event.organization == organization;
    let wanted = only.is_empty()
        || only
            .iter()
            .any(|t| *t == event.kind.to_string() || event.json.contains(&format!("\"TypeString\":\"{t}\"")));
    within && wanted
}

async fn serve(
    app: &App,
    origin: &Origin,
    mut socket: WebSocket,
    only: &[String],
) -> Result<(), &'static str> {
    let fields = timeout(SIGN_IN_TIME, credentials(&mut socket))
        .await
        .map_err(|_| "no credentials in time")??;
    let organization = match authenticate_fields(app, &fields, origin).await {
        Ok(Principal::Admin(admin)) => admin.organization,
        _ => {
            let _ = socket.send(Message::Text("403 Unauth".into())).await;
            let _ = socket.send(Message::Close(None)).await;
            return Err("wrong credentials");
        }
    };
    // Subscribed before the answer goes out: what happens after "200 OK" is seen.
    let mut events = app.store.subscribe();
    send(&mut socket, Message::Text("200 OK".into())).await?;
    let version = crate::meta::version_info(app)
        .await
        .map_err(|_| "no version info")?;
    let hello = EventDraft {
        actor: String::new(),
        organization: organization.clone(),
        resource: String::new(),
        kind: SEVT_META_HELLO,
        data: serde_json::to_value(&version).unwrap_or_default(),
    };
    send(&mut socket, Message::Text(hello.into_event().json.into())).await?;
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut heard = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => {
                let _ = socket.send(Message::Close(None)).await;
                return Ok(());
            }
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE {
                    return Err("the client is silent");
                }
                send(&mut socket, Message::Ping(Default::default())).await?;
            }
            event = events.recv() => match event {
                Ok(event) if visible(&event, &organization, only) => {
                    send(&mut socket, Message::Text(event.json.as_str().into())).await?;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Err("the client reads too slowly"),
                Err(RecvError::Closed) => return Ok(()),
            },
            frame = socket.recv() => match frame {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => heard = tokio::time::Instant::now(),
                Some(Err(_)) => return Err("the connection broke"),
            },
        }
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), &'static str> {
    match timeout(SEND_TIME, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the connection broke"),
        Err(_) => Err("the client reads too slowly"),
    }
}

/// The five frames: user name, kind, password, session key, code.
async fn credentials(socket: &mut WebSocket) -> Result<[String; 5], &'static str> {
    let mut fields: [String; 5] = Default::default();
    for field in &mut fields {
        *field = loop {
            match socket.recv().await {
                Some(Ok(Message::Text(text))) => break text.as_str().to_string(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Err("the connection broke before the credentials were complete"),
            }
        };
    }
    Ok(fields)
}
