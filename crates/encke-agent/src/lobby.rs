//! Waiting in a server's lobby until an administrator gives this device an account.

use crate::connection::{Socket, connect, joined, rest, send};
use crate::error::{AgentError, AgentResult};
use crate::register::{Registration, register};
use crate::settings::{self, Settings};
use crate::{VERSION, device};
use encke_api::live::{
    DeviceMessage, HEARTBEAT_SECONDS, Joiner, LobbyHello, PROTOCOL, Request, ServerMessage, platform,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Waits until the device is registered, connecting anew as often as it takes. User name, password and code of `place`
/// do not matter. Answers nothing when told to stop.
///
/// # Errors
/// The server does not let this device wait, an administrator sent it away, or the data folder can not be written.
pub async fn wait_in_lobby(
    place: &Registration<'_>,
    data_dir: &Path,
    stopping: &CancellationToken,
) -> AgentResult<Option<Settings>> {
    settings::check_folder(data_dir)?;
    let _only = settings::lock(data_dir)?;
    let first = DeviceMessage::Lobby(Box::new(LobbyHello {
        protocol: PROTOCOL,
        device_id: place.device_id.map_or_else(device::id, str::to_string),
        friendly_name: place.device_name.map_or_else(device::host_name, str::to_string),
        client_version: VERSION.into(),
        platform: platform(),
        os: device::os_info(),
        time_zone: device::time_zone(),
    }));
    let server = place.server.trim_end_matches('/');
    let mut pause = Duration::from_secs(1);
    loop {
        let waited = tokio::select! {
            () = stopping.cancelled() => return Ok(None),
            connected = connect(server, &first) => match connected {
                Ok((socket, ServerMessage::Waiting { .. })) => {
                    tracing::info!(server, "waiting in the lobby");
                    pause = Duration::from_secs(1);
                    wait(place, data_dir, socket, stopping).await
                }
                Ok(_) => Err(AgentError::Protocol("neither let in nor refused".into())),
                Err(e) => Err(e),
            },
        };
        match waited {
            Ok(settings) => return Ok(settings),
            Err(AgentError::Server { status, message }) if status < 500 => {
                return Err(AgentError::Server { status, message });
            }
            Err(e @ AgentError::Invalid(_)) => return Err(e),
            Err(e) => tracing::info!(error = %e, "not in the lobby"),
        }
        if !rest(&mut pause, stopping).await {
            return Ok(None);
        }
    }
}

/// Waits on one connection.
async fn wait(
    place: &Registration<'_>,
    data_dir: &Path,
    mut socket: Socket,
    stopping: &CancellationToken,
) -> AgentResult<Option<Settings>> {
    let silence = Duration::from_secs(3 * HEARTBEAT_SECONDS);
    let mut joiner = Joiner::default();
    loop {
        let next = tokio::select! {
            () = stopping.cancelled() => {
                let _ = socket.close(None).await;
                return Ok(None);
            }
            next = timeout(silence, socket.next()) => next,
        };
        let text = match next {
            Ok(Some(Ok(Message::Text(text)))) => text,
            // The library answers pings; what it queued goes out with this flush.
            Ok(Some(Ok(Message::Ping(_)))) => {
                socket.flush().await.map_err(|_| AgentError::Offline)?;
                continue;
            }
            Ok(Some(Ok(Message::Pong(_)))) => continue,
            _ => return Err(AgentError::Offline),
        };
        let Some(message) = joined(&mut joiner, text.as_str())? else {
            continue;
        };
        let (id, request) = match message {
            ServerMessage::Request { id, request } => (id, request),
            ServerMessage::Refused { status, message } => return Err(AgentError::Server { status, message }),
            _ => continue,
        };
        let registered = match request {
            Request::Register {
                username,
                password,
                totp,
            } => {
                let registration = Registration {
                    username: &username,
                    password: &password,
                    totp: &totp,
                    ..*place
                };
                register(&registration, data_dir).await
            }
            _ => Err(AgentError::Unsupported("this device has no account yet".into())),
        };
        let (status, message) = match &registered {
            Ok(_) => (200, "OK".to_string()),
            Err(e) => (e.status(), e.to_string()),
        };
        let reply = DeviceMessage::Reply {
            id,
            status,
            message,
            body: Value::Null,
        };
        let sent = send(&mut socket, &reply).await;
        if let Ok(settings) = registered {
            let _ = timeout(Duration::from_secs(5), socket.close(None)).await;
            return Ok(Some(settings));
        }
        sent?;
    }
}
