//! The WebSocket of a device: sign-in, heartbeat, requests out, reports in.

use super::{Connection, DeviceReply, Software, device};
use crate::app::{App, now};
use crate::auth::Principal;
use crate::installation::Taken;
use crate::origin::Origin;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use encke_api::account_keys::Stretching;
use encke_api::constants::{SEVT_DEVICE_LIVE_CONNECT, SEVT_DEVICE_LIVE_DISCONNECT};
use encke_api::form::Form;
use encke_api::live::{
    DeviceMessage, HEARTBEAT_SECONDS, Hello, Joiner, MAX_MESSAGE, ProfileAndHash, ServerMessage, parts,
};
use encke_api::{ApiError, ApiResult};
use encke_store::audit::asked_by;
use encke_store::{EventDraft, Scope, StoredProfile};
use futures_util::{Sink, SinkExt, StreamExt};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A device has this long to send its first frame.
const SIGN_IN_TIME: Duration = Duration::from_secs(20);
/// Bytes read from a device at once.
const READ_BUFFER: usize = 4096;
/// A frame that can not be sent within this time means that the device is gone.
const SEND_TIME: Duration = Duration::from_secs(60);

/// Tells how to stretch an account's password. An unknown account gets steady made-up salt.
///
/// # Errors
/// 400 without a user name.
pub async fn login_parameters(app: &App, body: &[u8]) -> ApiResult<Stretching> {
    let form = Form::parse(body)?;
    let name = form.get("Username").filter(|n| !n.is_empty());
    let name = name.ok_or_else(|| ApiError::bad_request("Missing parameter 'Username'"))?;
    if let Ok(stored) = app.store.profile(&Scope::All, name).await
        && let Ok(profile) = stored.parse()
        && let Ok(password) = encke_api::account_keys::StoredPassword::from_text(&profile.password_hash)
    {
        return Ok(password.stretching);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(app.server_key.to_text().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(b"salt:");
    mac.update(name.as_bytes());
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    Ok(Stretching::with_salt(&salt))
}

/// Takes over a connection as a device's WebSocket.
pub fn upgrade(app: Arc<App>, origin: Origin, ws: WebSocketUpgrade) -> Response {
    // Thousands of devices are silent most of the time: a large buffer for each would be the server's memory.
    ws.read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_frame_size(4 * MAX_MESSAGE)
        .max_message_size(4 * MAX_MESSAGE)
        .on_upgrade(move |socket| serve(app, origin, socket))
        .into_response()
}

/// Sends a frame. Answers whether it went out.
pub(crate) async fn send(sink: &mut (impl Sink<Message> + Unpin), message: &ServerMessage) -> bool {
    for part in parts(serde_json::to_string(message).unwrap_or_default()) {
        let sent = sink.send(Message::Text(part.into()));
        if !matches!(timeout(SEND_TIME, sent).await, Ok(Ok(()))) {
            return false;
        }
    }
    true
}

/// A device's first frame.
async fn first_frame(socket: &mut WebSocket) -> Option<String> {
    let mut joiner = Joiner::default();
    loop {
        let Some(Ok(Message::Text(text))) = socket.recv().await else {
            return None;
        };
        if let Some(frame) = joiner.take(text.as_str()).ok()? {
            return Some(frame);
        }
    }
}

async fn serve(app: Arc<App>, origin: Origin, mut socket: WebSocket) {
    let Ok(Some(text)) = timeout(SIGN_IN_TIME, first_frame(&mut socket)).await else {
        return;
    };
    let hello = serde_json::from_str(&text);
    drop(text);
    // Whose device it is turns out when it signs in.
    let asker = Principal::Nobody.asker(&origin);
    let refusal = match hello {
        Ok(DeviceMessage::Lobby(hello)) => match crate::installation::enter(&app, *hello, &origin) {
            Ok((waiting, outgoing)) => {
                return crate::installation::stay(&app, &waiting, socket, outgoing).await;
            }
            Err(e) => e,
        },
        // Apart from the connection, which would carry room for all of it as long as it lives.
        Ok(DeviceMessage::Hello(hello)) => {
            match Box::pin(asked_by(asker, sign_in(&app, &hello, &origin))).await {
                Ok((stored, token)) => {
                    let info = device::describe(&hello, &stored.username, origin.ip);
                    let software = Software {
                        program: hello.program,
                        updating_to: hello.updating_to,
                    };
                    let (connection, outgoing) =
                        Connection::new(stored.organization.clone(), info, hello.running_jobs, software);
                    match app.live.add(connection.clone()) {
                        Ok(()) => {
                            let welcome = stored.parse().map(|profile| ServerMessage::Welcome {
                                connection_id: connection.id.clone(),
                                account: Box::new(ProfileAndHash {
                                    profile,
                                    hash: stored.hash,
                                }),
                                server_time: now(),
                                keys: token.as_ref().map(|t| Box::new(t.keys.clone())),
                            });
                            let welcomed = match welcome {
                                Ok(welcome) => send(&mut socket, &welcome).await,
                                Err(_) => false,
                            };
                            if welcomed {
                                run(&app, &connection, socket, outgoing).await;
                            } else if let Some(token) = token {
                                token.give_back(&app).await;
                            }
                            app.live.remove(&connection.id);
                            return;
                        }
                        Err(e) => e,
                    }
                }
                Err(e) => e,
            }
        }
        Ok(_) => ApiError::bad_request("The first frame must be 'hello'"),
        Err(e) => ApiError::bad_request(format!("The first frame can not be read: {e}")),
    };
    let refused = ServerMessage::Refused {
        status: refusal.status,
        message: refusal.message,
    };
    send(&mut socket, &refused).await;
    let _ = socket.send(Message::Close(None)).await;
}

/// Signs a device in, by its own keys or by an install token.
async fn sign_in(app: &App, hello: &Hello, origin: &Origin) -> ApiResult<(StoredProfile, Option<Taken>)> {
    device::check_hello(hello)?;
    if hello.install_token.is_empty() {
        return Ok((device::sign_in(app, hello, origin).await?, None));
    }
    let (stored, token) = crate::installation::redeem(app, hello, origin).await?;
    Ok((stored, Some(token)))
}

fn connection_event(kind: i64, connection: &Connection) -> EventDraft {
    EventDraft {
        actor: connection.info.username.clone(),
        organization: connection.organization.clone(),
        resource: connection.info.device_id.clone(),
        kind,
        data: serde_json::to_value(&connection.info).unwrap_or_default(),
    }
}

async fn run(
    app: &Arc<App>,
    connection: &Arc<Connection>,
    socket: WebSocket,
    outgoing: tokio::sync::mpsc::Receiver<Box<ServerMessage>>,
) {
    app.store
        .announce(|| connection_event(SEVT_DEVICE_LIVE_CONNECT, connection));
    tracing::info!(user = %connection.info.username, device = %connection.info.device_id, "device on line");
    crate::updates::came(app, connection);
    pump(app, connection, socket, outgoing).await;
    app.live.remove(&connection.id);
    app.store
        .announce(|| connection_event(SEVT_DEVICE_LIVE_DISCONNECT, connection));
    tracing::info!(user = %connection.info.username, device = %connection.info.device_id, "device off line");
}

/// Carries frames both ways until one side ends the connection. A device of the lobby has no user name, and may only
/// answer.
pub(crate) async fn pump(
    app: &Arc<App>,
    connection: &Arc<Connection>,
    socket: WebSocket,
    mut outgoing: tokio::sync::mpsc::Receiver<Box<ServerMessage>>,
) {
    let (mut sink, mut stream) = socket.split();
    let closing = connection.closing.clone();
    let stop = closing.clone();
    let writer = tokio::spawn(async move {
        let mut heartbeat = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
        loop {
            let sent = tokio::select! {
                () = stop.cancelled() => break,
                _ = heartbeat.tick() => {
                    let ping = sink.send(Message::Ping(Default::default()));
                    matches!(timeout(SEND_TIME, ping).await, Ok(Ok(())))
                }
                next = outgoing.recv() => match next {
                    Some(message) => send(&mut sink, &message).await,
                    None => break,
                },
            };
            if !sent {
                break;
            }
        }
        stop.cancel();
        let _ = timeout(Duration::from_secs(5), sink.send(Message::Close(None))).await;
    });
    let silence = Duration::from_secs(3 * HEARTBEAT_SECONDS);
    let mut joiner = Joiner::default();
    loop {
        let next = tokio::select! {
            () = closing.cancelled() => break,
            () = app.stopping.cancelled() => break,
            next = timeout(silence, stream.next()) => next,
        };
        let text = match next {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(Some(Ok(Message::Binary(_)))) => break,
            // Closed, broken or truncated, or silent for too long.
            _ => break,
        };
        let text = match joiner.take(text.as_str()) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(_) => break,
        };
        match serde_json::from_str(&text) {
            Ok(DeviceMessage::Reply {
                id,
                status,
                message,
                body,
            }) => {
                connection.answered(
                    id,
                    DeviceReply {
                        status,
                        message,
                        body,
                    },
                );
            }
            Ok(DeviceMessage::Call { id, call }) if !connection.info.username.is_empty() => {
                let (status, message, body) = match Box::pin(device::serve(app, connection, call)).await {
                    Ok(body) => (200, "OK".to_string(), body),
                    Err(e) => (e.status, e.message, Value::Null),
                };
                if connection
                    .send(ServerMessage::Answer {
                        id,
                        status,
                        message,
                        body,
                    })
                    .is_err()
                {
                    break;
                }
            }
            _ => {
                tracing::warn!(device = %connection.info.device_id, "a device sent a frame that can not be read");
                break;
            }
        }
    }
    closing.cancel();
    let _ = writer.await;
}
