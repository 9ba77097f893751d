//! The live connection: sign-in, the server's requests, and the spool's deliveries (protocol: [`encke_api::live`]).

use crate::error::{AgentError, AgentResult};
use crate::settings::Settings;
use crate::{Agent, Farewell, PendingCall, VERSION, browse, device, jobs, update};
use encke_api::live::{
    Call, DeviceMessage, HEARTBEAT_SECONDS, Hello, Joiner, LIVE_PATH, MAX_FRAME, PROTOCOL, ProfileAndHash,
    Request, ServerMessage, parts, platform,
};
use futures_util::{Sink, SinkExt as _, StreamExt as _};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

/// Longest pause between two tries to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Pause after the server refused the credentials: trying again soon would not help.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// Connecting and signing in must be done within this time.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// Requests worked on at once.
const MAX_REQUESTS: usize = 32;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What a device tells when it signs in.
#[derive(Default)]
pub(crate) struct SignIn<'a> {
    /// Six digits, where the account asks for them.
    pub totp: &'a str,
    /// Whether to register the device.
    pub register: bool,
    /// Jobs that run.
    pub running: &'a [String],
    /// Whether file names may be shown; the settings' own word if nothing is said.
    pub allows_filenames: Option<bool>,
    /// SHA-256 of the program that runs.
    pub program: &'a str,
    /// SHA-256 of the program that the device is changing to.
    pub updating_to: &'a str,
}

fn hello(settings: &Settings, how: &SignIn) -> Hello {
    Hello {
        protocol: PROTOCOL,
        username: settings.username.clone(),
        login_key: settings.login_key().to_string(),
        install_token: String::new(),
        totp: how.totp.to_string(),
        device_id: settings.device_id.clone(),
        register: how.register,
        friendly_name: settings.device_name.clone(),
        client_version: VERSION.into(),
        platform: platform(),
        os: device::os_info(),
        time_zone: device::time_zone(),
        allows_filenames: how.allows_filenames.unwrap_or(settings.allows_filenames),
        running_jobs: how.running.to_vec(),
        program: how.program.to_string(),
        updating_to: how.updating_to.to_string(),
    }
}

fn live_url(server: &str) -> AgentResult<String> {
    let rest = server
        .strip_prefix("http")
        .filter(|r| r.starts_with("://") || r.starts_with("s://"));
    let rest =
        rest.ok_or_else(|| AgentError::Invalid(format!("'{server}' is not an http or https address")))?;
    Ok(format!("ws{rest}{LIVE_PATH}"))
}

/// Connects and signs in.
pub(crate) async fn sign_in(settings: &Settings, how: &SignIn<'_>) -> AgentResult<(Socket, ProfileAndHash)> {
    let first = DeviceMessage::Hello(Box::new(hello(settings, how)));
    match connect(&settings.server, &first).await? {
        (socket, ServerMessage::Welcome { account, .. }) => Ok((socket, *account)),
        _ => Err(AgentError::Protocol("neither welcomed nor refused".into())),
    }
}

/// Connects, says the first frame, and answers what the server says to it.
pub(crate) async fn connect(server: &str, first: &DeviceMessage) -> AgentResult<(Socket, ServerMessage)> {
    let url = live_url(server)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let connect = tokio_tungstenite::connect_async_with_config(&url, Some(config), true);
    let (mut socket, _) = timeout(CONNECT_TIME, connect)
        .await
        .map_err(|_| AgentError::Offline)?
        .map_err(|e| {
            tracing::info!(error = %e, url, "the server can not be reached");
            AgentError::Offline
        })?;
    send(&mut socket, first).await?;
    let mut joiner = Joiner::default();
    loop {
        let frame = timeout(CONNECT_TIME, socket.next())
            .await
            .map_err(|_| AgentError::Offline)?;
        match frame {
            Some(Ok(Message::Text(text))) => {
                let text = joiner
                    .take(text.as_str())
                    .map_err(|e| AgentError::Protocol(e.to_string()))?;
                let Some(text) = text else { continue };
                let message = serde_json::from_str(&text).map_err(|e| AgentError::Protocol(e.to_string()))?;
                return match message {
                    ServerMessage::Refused { status, message } => Err(AgentError::Server { status, message }),
                    message => Ok((socket, message)),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return Err(AgentError::Offline),
        }
    }
}

/// Sends a frame.
pub(crate) async fn send(
    sink: &mut (impl Sink<Message> + Unpin),
    message: &DeviceMessage,
) -> AgentResult<()> {
    let text = serde_json::to_string(message).map_err(|e| AgentError::Protocol(e.to_string()))?;
    if text.len() > MAX_FRAME {
        return Err(AgentError::Protocol("the answer is too large to be sent".into()));
    }
    for part in parts(text) {
        let sent = timeout(CONNECT_TIME, sink.send(Message::Text(part.into()))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(AgentError::Offline);
        }
    }
    Ok(())
}

/// Connects, and connects again, until the agent stops.
pub(crate) async fn keep(agent: &Arc<Agent>, mut calls: mpsc::Receiver<PendingCall>) {
    let mut pause = Duration::from_secs(1);
    while !agent.stopping.is_cancelled() {
        let running = agent.jobs.lock().ids();
        let settings = agent.settings();
        let underway = agent.update.lock().clone();
        let how = SignIn {
            running: &running,
            program: &agent.own.sha256,
            updating_to: underway.as_ref().map_or("", |u| u.target()),
            allows_filenames: Some(agent.allows_filenames()),
            ..Default::default()
        };
        match sign_in(&settings, &how).await {
            Ok((socket, account)) => {
                tracing::info!(server = %settings.server, "connected");
                pause = Duration::from_secs(1);
                agent.set_account(account);
                jobs::keep_waiting_statistics(agent);
                agent.is_connected.store(true, Ordering::Relaxed);
                update::connected(agent);
                serve(agent, socket, &mut calls).await;
                agent.is_connected.store(false, Ordering::Relaxed);
                tracing::info!("connection ended");
            }
            Err(AgentError::Server { status, message }) if status < 500 => {
                tracing::error!(status, message, "the server refuses this device");
                pause = match status {
                    // Too many failed before, or somebody else changed the account at the same moment.
                    409 | 429 => LONGEST_PAUSE,
                    _ => REFUSED_PAUSE,
                };
            }
            Err(e) => tracing::debug!(error = %e, "not connected"),
        }
        // Calls that were waiting for a connection learn that there is none.
        while let Ok((_, answer)) = calls.try_recv() {
            let _ = answer.send(Err(AgentError::Offline));
        }
        if !rest(&mut pause, &agent.stopping).await {
            return;
        }
    }
}

/// Waits before the next try, a little longer each time. Answers whether to try at all.
pub(crate) async fn rest(pause: &mut Duration, stopping: &CancellationToken) -> bool {
    let mut random = [0u8; 1];
    let _ = getrandom::fill(&mut random);
    let wait = pause.mul_f32(0.5 + f32::from(random[0]) / 255.0);
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    tokio::select! {
        () = stopping.cancelled() => false,
        () = sleep(wait) => true,
    }
}

async fn serve(agent: &Arc<Agent>, socket: Socket, calls: &mut mpsc::Receiver<PendingCall>) {
    let (mut sink, mut stream) = socket.split();
    // `None` ends the connection once everything before it was sent.
    let (outgoing, mut to_send) = mpsc::channel::<Option<DeviceMessage>>(64);
    let (deliveries, mut from_spool) = mpsc::channel::<PendingCall>(1);
    let mut waiting: HashMap<u64, oneshot::Sender<AgentResult<Value>>> = HashMap::new();
    let mut next_id = 1u64;
    let deliverer = tokio::spawn(deliver(agent.clone(), deliveries));
    let requests = Arc::new(tokio::sync::Semaphore::new(MAX_REQUESTS));
    let silence = Duration::from_secs(3 * HEARTBEAT_SECONDS);
    let mut joiner = Joiner::default();
    loop {
        let message = tokio::select! {
            () = agent.stopping.cancelled() => break,
            Some(message) = to_send.recv() => match message {
                Some(message) => message,
                None => break,
            },
            Some((call, answer)) = calls.recv() => {
                waiting.insert(next_id, answer);
                next_id += 1;
                DeviceMessage::Call { id: next_id - 1, call }
            }
            Some((call, answer)) = from_spool.recv() => {
                waiting.insert(next_id, answer);
                next_id += 1;
                DeviceMessage::Call { id: next_id - 1, call }
            }
            incoming = timeout(silence, stream.next()) => {
                match incoming {
                    Ok(Some(Ok(Message::Text(text)))) => match joined(&mut joiner, text.as_str()) {
                        Ok(None) => {}
                        Ok(Some(ServerMessage::Answer { id, status, message, body })) => {
                            if let Some(answer) = waiting.remove(&id) {
                                let _ = answer.send(match status {
                                    200..=399 => Ok(body),
                                    _ => Err(AgentError::Server { status, message }),
                                });
                            }
                        }
                        Ok(Some(ServerMessage::Request { id, request })) => {
                            let (agent, outgoing, requests) = (agent.clone(), outgoing.clone(), requests.clone());
                            tokio::spawn(async move {
                                let _permit = requests.acquire().await;
                                let leaves = matches!(
                                    request,
                                    Request::Stop | Request::ForgetLogin | Request::Uninstall { .. }
                                );
                                let moves = leaves
                                    || matches!(
                                        request,
                                        Request::UpdateLoginPassword { .. } | Request::UpdateLoginUrl { .. }
                                    );
                                let (ok, reply) = reply(&agent, id, request).await;
                                let _ = outgoing.send(Some(reply)).await;
                                if moves && ok {
                                    let _ = outgoing.send(None).await;
                                }
                                if leaves && ok {
                                    // The reply goes first.
                                    let _ = timeout(CONNECT_TIME, outgoing.closed()).await;
                                    agent.stopping.cancel();
                                }
                            });
                        }
                        Ok(_) => {}
                        Err(e) => {
                            tracing::warn!(error = %e, "the server sent what can not be read");
                            break;
                        }
                    },
                    // The library answers pings; what it queued goes out with this flush.
                    Ok(Some(Ok(Message::Ping(_)))) => {
                        if sink.flush().await.is_err() {
                            break;
                        }
                    }
                    Ok(Some(Ok(Message::Pong(_)))) => {}
                    _ => break,
                }
                continue;
            }
        };
        match send(&mut sink, &message).await {
            Ok(()) => {}
            Err(AgentError::Offline) => break,
            // Whoever waits for it must not wait in vain.
            Err(e) => match message {
                DeviceMessage::Reply { id, .. } => {
                    let reply = DeviceMessage::Reply {
                        id,
                        status: 413,
                        message: e.to_string(),
                        body: Value::Null,
                    };
                    let _ = send(&mut sink, &reply).await;
                }
                DeviceMessage::Call { id, .. } => {
                    if let Some(answer) = waiting.remove(&id) {
                        let message = e.to_string();
                        let _ = answer.send(Err(AgentError::Server { status: 413, message }));
                    }
                }
                _ => {}
            },
        }
    }
    deliverer.abort();
    let _ = timeout(Duration::from_secs(2), sink.send(Message::Close(None))).await;
}

/// A frame, once it is whole.
pub(crate) fn joined(joiner: &mut Joiner, text: &str) -> AgentResult<Option<ServerMessage>> {
    let broken = |e: String| AgentError::Protocol(e);
    let Some(frame) = joiner.take(text).map_err(|e| broken(e.to_string()))? else {
        return Ok(None);
    };
    serde_json::from_str(&frame)
        .map(Some)
        .map_err(|e| broken(e.to_string()))
}

/// Delivers what the spool holds, one after the other, until the connection ends.
async fn deliver(agent: Arc<Agent>, connection: mpsc::Sender<PendingCall>) {
    loop {
        let delivery = match agent.spool.next() {
            Ok(Some(delivery)) => delivery,
            Ok(None) => {
                agent.delivered.notify_waiters();
                agent.deliver.notified().await;
                continue;
            }
            Err(e) => {
                tracing::error!(error = %e, "the spool can not be read");
                sleep(Duration::from_secs(5)).await;
                continue;
            }
        };
        let (send, receive) = oneshot::channel();
        if connection.send((delivery.call.clone(), send)).await.is_err() {
            return;
        }
        match receive.await {
            Ok(Ok(_)) => {}
            Ok(Err(AgentError::Server { status, message })) if (400..500).contains(&status) => {
                // The server will never take it.
                tracing::warn!(status, message, "the server refuses a report");
            }
            Ok(Err(e)) => {
                tracing::warn!(error = %e, "a report could not be delivered, trying again");
                sleep(Duration::from_secs(5)).await;
                continue;
            }
            Err(_) => return,
        }
        if let Err(e) = agent.spool.acknowledge(&delivery) {
            tracing::error!(error = %e, "the spool can not be written");
            sleep(Duration::from_secs(5)).await;
        }
        agent.delivered.notify_waiters();
    }
}

/// The reply to a request, and whether it was met.
async fn reply(agent: &Arc<Agent>, id: u64, request: Request) -> (bool, DeviceMessage) {
    let answer = answer(agent, request).await;
    let met = answer.is_ok();
    let reply = match answer {
        Ok(body) => DeviceMessage::Reply {
            id,
            status: 200,
            message: "OK".into(),
            body,
        },
        Err(e) => DeviceMessage::Reply {
            id,
            status: e.status(),
            message: e.to_string(),
            body: Value::Null,
        },
    };
    (met, reply)
}

/// Takes over other log-in settings once they have worked.
async fn move_to(agent: &Arc<Agent>, settings: Settings, force: bool) -> AgentResult<Value> {
    live_url(&settings.server)?;
    settings.check()?;
    if !force {
        sign_in(&settings, &SignIn::default()).await?;
    }
    agent.set_settings(settings)?;
    Ok(Value::Null)
}

async fn answer(agent: &Arc<Agent>, request: Request) -> AgentResult<Value> {
    match request {
        Request::RefetchProfile => {
            blocking(agent, |agent| {
                agent.exchange(Call::GetProfile)?;
                Ok(Value::Null)
            })
            .await
        }
        Request::RunBackup { rule } => jobs::start_rule(agent, &rule).await,
        Request::RunBackupCustom {
            source,
            destination,
            options,
        } => jobs::start_backup(agent, source, destination, *options).await,
        Request::RunRestore {
            source,
            destination,
            snapshot,
            paths,
            options,
            ..
        } => jobs::start_restore(agent, source, destination, snapshot, paths, *options).await,
        Request::CancelJob {
            job_id,
            cancellation_id,
        } => {
            agent.jobs.lock().cancel(&job_id, &cancellation_id)?;
            Ok(Value::Null)
        }
        Request::ListSnapshots { destination } => {
            blocking(agent, move |a| browse::snapshots(a, &destination)).await
        }
        Request::StoredObjects {
            destination,
            snapshot,
            tree,
        } => {
            blocking(agent, move |a| {
                browse::stored_objects(a, &destination, &snapshot, &tree)
            })
            .await
        }
        Request::ReadFile {
            destination,
            snapshot,
            path,
            offset,
            length,
        } => {
            blocking(agent, move |a| {
                browse::read_file(a, &destination, &snapshot, &path, offset, length)
            })
            .await
        }
        Request::BrowseFilesystem { path } => blocking(agent, move |a| browse::filesystem(a, &path)).await,
        Request::PingDestination { location } => blocking(agent, move |a| a.vaults.ping(a, &location)).await,
        Request::UpdateLoginPassword { password } => {
            let settings = agent.settings();
            let asked = settings.clone();
            let keys = tokio::task::spawn_blocking(move || {
                let parameters = crate::register::login_parameters(&asked.server, &asked.username)?;
                AgentResult::Ok(parameters.derive(&password)?)
            });
            let keys = keys.await.map_err(|_| AgentError::Offline)??;
            move_to(agent, settings.with_keys(&keys), false).await
        }
        Request::UpdateLoginUrl { url, force } => {
            move_to(agent, agent.settings().with_server(&url), force).await
        }
        Request::Upkeep { destination, task } => jobs::start_upkeep(agent, destination, task).await,
        Request::SearchSnapshots {
            destination,
            snapshots,
            filter,
        } => {
            blocking(agent, move |a| {
                crate::search::search(a, &destination, &snapshots, &filter)
            })
            .await
        }
        Request::BrowseDisks => blocking(agent, |_| crate::disks::list()).await,
        Request::BrowseMysql { connection } => {
            blocking(agent, move |a| {
                browse::consent(a)?;
                browse::body(&crate::databases::browse_mysql(&a.data_dir, &connection)?)
            })
            .await
        }
        Request::BrowseMongodb { connection } => {
            blocking(agent, move |a| {
                browse::consent(a)?;
                browse::body(&crate::databases::browse_mongodb(&connection)?)
            })
            .await
        }
        Request::BrowseProxmox { connection, question } => {
            blocking(agent, move |a| {
                browse::consent(a)?;
                crate::proxmox::browse(&connection, &question)
            })
            .await
        }
        Request::SnapshotNotes {
            of,
            destination,
            snapshot,
        } => blocking(agent, move |a| browse::notes(a, of, &destination, &snapshot)).await,
        Request::Stop => leave(agent, None).await,
        Request::ForgetLogin => leave(agent, Some(Farewell::ForgetLogin)).await,
        Request::Uninstall { remove_settings } => {
            leave(agent, Some(Farewell::Uninstall { remove_settings })).await
        }
        Request::UpdateSoftware { program, interrupt } => {
            browse::body(&update::begin(agent, program, interrupt).await?)
        }
        Request::Register { .. } => Err(AgentError::Invalid("this device is registered already".into())),
        Request::DropConnection => Err(AgentError::Unsupported("dropping is done by the server".into())),
    }
}

/// Ends all jobs and has them reported; the connection's end is the agent's.
async fn leave(agent: &Arc<Agent>, farewell: Option<Farewell>) -> AgentResult<Value> {
    *agent.farewell.lock() = farewell;
    jobs::stop_all(agent).await;
    let delivered = async {
        while !agent.spool.is_empty()? {
            sleep(Duration::from_millis(100)).await;
        }
        AgentResult::Ok(())
    };
    // What can not be delivered in time must not keep the agent here.
    let _ = timeout(Duration::from_secs(10), delivered).await;
    Ok(Value::Null)
}

async fn blocking<F>(agent: &Arc<Agent>, work: F) -> AgentResult<Value>
where
    F: FnOnce(&Agent) -> AgentResult<Value> + Send + 'static,
{
    let agent = agent.clone();
    let result = tokio::task::spawn_blocking(move || work(&agent)).await;
    result.map_err(|_| AgentError::Protocol("the request could not be finished".into()))?
}
