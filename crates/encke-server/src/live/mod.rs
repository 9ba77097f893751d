//! Devices on line: the registry of live connections, and the calls that go to a device (reference, section 11).
//!
//! `socket` speaks the protocol of [`encke_api::live`], `dispatcher` holds the endpoints.

mod device;
mod dispatcher;
mod download;
mod machines;
mod socket;
mod upkeep;

pub(crate) use device::{check_description, register, still_right};

/// Endpoints that go to a device.
#[must_use]
pub fn routes() -> Vec<crate::table::Route> {
    let mut routes = dispatcher::routes();
    routes.extend(download::routes());
    routes.extend(machines::routes());
    routes.extend(upkeep::routes());
    routes
}

pub use socket::{login_parameters, upgrade};
pub(crate) use socket::{pump, send};

use encke_api::live::{Request, ServerMessage};
use encke_api::types::LiveUserConnection;
use encke_api::{ApiError, ApiResult};
use encke_store::Scope;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Frames waiting to be sent to one device; a device that reads slower is cut off.
const OUTGOING: usize = 64;
/// Requests one device may have open.
const MAX_OPEN_REQUESTS: usize = 64;
/// A device answers a request within this time, or the caller gets an error.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Live connections on one process.
const MAX_CONNECTIONS: usize = 50_000;

/// A device's answer: status, message, body.
pub(crate) struct DeviceReply {
    pub status: u16,
    pub message: String,
    pub body: Value,
}

/// What a device tells about its program, each as SHA-256 in hexadecimal; empty for nothing.
#[derive(Clone, Debug, Default)]
pub struct Software {
    /// The program that it runs.
    pub program: String,
    /// The one that it is changing to.
    pub updating_to: String,
}

/// One live connection.
pub struct Connection {
    /// New for each connection; what callers name as `TargetID`.
    pub id: String,
    /// Organization of the account.
    pub organization: String,
    /// What the device told about itself.
    pub info: LiveUserConnection,
    /// Jobs that ran on the device when it connected.
    pub running_jobs: Vec<String>,
    /// The program that the device runs.
    pub software: Software,
    /// Whether the device was asked by this connection to change to the campaign's program.
    pub(crate) update_asked: AtomicBool,
    pub(crate) closing: CancellationToken,
    downloads: Arc<Semaphore>,
    outgoing: mpsc::Sender<Box<ServerMessage>>,
    open: Mutex<HashMap<u64, oneshot::Sender<DeviceReply>>>,
    next: AtomicU64,
}

impl Connection {
    pub(crate) fn new(
        organization: String,
        info: LiveUserConnection,
        running_jobs: Vec<String>,
        software: Software,
    ) -> (Arc<Self>, mpsc::Receiver<Box<ServerMessage>>) {
        let (outgoing, receive) = mpsc::channel(OUTGOING);
        let connection = Self {
            id: uuid::Uuid::new_v4().to_string(),
            organization,
            info,
            running_jobs,
            software,
            update_asked: AtomicBool::new(false),
            closing: CancellationToken::new(),
            downloads: download::room(),
            outgoing,
            open: Mutex::default(),
            next: AtomicU64::new(1),
        };
        (Arc::new(connection), receive)
    }

    /// Queues a frame; a device that does not keep up is cut off.
    pub(crate) fn send(&self, message: ServerMessage) -> ApiResult<()> {
        self.outgoing.try_send(Box::new(message)).map_err(|_| {
            self.closing.cancel();
            ApiError::new(503, "The device does not read its connection")
        })
    }

    /// Asks the device and waits for its answer.
    ///
    /// # Errors
    /// What the device answers, 503 when it goes away, 504 when it stays silent.
    pub async fn request(&self, request: Request, wait: Duration) -> ApiResult<Value> {
        let (send, receive) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut open = self.open.lock();
            if open.len() >= MAX_OPEN_REQUESTS {
                return Err(ApiError::new(503, "The device is busy with other requests"));
            }
            open.insert(id, send);
        }
        let answer = match self.send(ServerMessage::Request { id, request }) {
            Err(e) => Err(e),
            Ok(()) => tokio::select! {
                // A device may answer and go: its answer counts.
                biased;
                r = tokio::time::timeout(wait, receive) => match r {
                    Err(_) => Err(ApiError::new(504, "The device did not answer in time")),
                    Ok(Err(_)) => Err(ApiError::new(503, "The device went off line")),
                    Ok(Ok(reply)) if reply.status >= 400 => Err(ApiError::new(reply.status, reply.message)),
                    Ok(Ok(reply)) => Ok(reply.body),
                },
                () = self.closing.cancelled() => Err(ApiError::new(503, "The device went off line")),
            },
        };
        self.open.lock().remove(&id);
        answer
    }

    pub(crate) fn answered(&self, id: u64, reply: DeviceReply) {
        if let Some(waiting) = self.open.lock().remove(&id) {
            // The caller may have given up.
            let _ = waiting.send(reply);
        }
    }
}

/// All live connections of this process.
#[derive(Default)]
pub struct Registry {
    connections: RwLock<HashMap<String, Arc<Connection>>>,
}

impl Registry {
    pub(crate) fn add(&self, connection: Arc<Connection>) -> ApiResult<()> {
        let mut all = self.connections.write();
        if all.len() >= MAX_CONNECTIONS {
            return Err(ApiError::new(503, "This server has no room for more devices"));
        }
        all.insert(connection.id.clone(), connection);
        Ok(())
    }

    pub(crate) fn remove(&self, id: &str) {
        self.connections.write().remove(id);
    }

    /// Connections of a scope, optionally of one account.
    #[must_use]
    pub fn list(&self, scope: &Scope, username: Option<&str>) -> Vec<Arc<Connection>> {
        let all = self.connections.read();
        all.values()
            .filter(|c| scope.contains(&c.organization, &c.info.username))
            .filter(|c| username.is_none_or(|u| u == c.info.username))
            .cloned()
            .collect()
    }

    /// The connection of an id.
    ///
    /// # Errors
    /// 403 `Unauthorised` when there is none in the scope, as clients expect.
    pub fn find(&self, scope: &Scope, id: &str) -> ApiResult<Arc<Connection>> {
        let found = self.connections.read().get(id).cloned();
        found
            .filter(|c| scope.contains(&c.organization, &c.info.username))
            .ok_or_else(ApiError::unauthorised)
    }

    /// The connections of a device.
    #[must_use]
    pub fn of_device(&self, username: &str, device: &str) -> Vec<Arc<Connection>> {
        let all = self.connections.read();
        all.values()
            .filter(|c| c.info.username == username && c.info.device_id == device)
            .cloned()
            .collect()
    }

    /// Tells all devices of an account something whose answer nobody waits for.
    pub fn tell_user(&self, username: &str, request: &Request) {
        for connection in self.list(&Scope::User(username.to_string()), None) {
            let id = connection.next.fetch_add(1, Ordering::Relaxed);
            let _ = connection.send(ServerMessage::Request {
                id,
                request: request.clone(),
            });
        }
    }

    /// Closes all connections of an account.
    pub fn close_user(&self, username: &str) {
        for connection in self.list(&Scope::User(username.to_string()), None) {
            connection.closing.cancel();
        }
    }

    /// Closes the connections of a device.
    pub fn close_device(&self, username: &str, device: &str) {
        for connection in self.of_device(username, device) {
            connection.closing.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (Arc<Connection>, mpsc::Receiver<Box<ServerMessage>>) {
        Connection::new(
            String::new(),
            LiveUserConnection::default(),
            Vec::new(),
            Software::default(),
        )
    }

    async fn asked(outgoing: &mut mpsc::Receiver<Box<ServerMessage>>) -> u64 {
        match outgoing.recv().await.map(|m| *m) {
            Some(ServerMessage::Request { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_or_given_up_or_broken_off() {
        let long = Duration::from_secs(60);
        let (device, mut outgoing) = connection();
        // Answers come back in any order, each to its own asker.
        let ask = |wait| {
            let device = device.clone();
            tokio::spawn(async move { device.request(Request::RefetchProfile, wait).await })
        };
        let (first, second) = (ask(long), ask(long));
        let ids = [asked(&mut outgoing).await, asked(&mut outgoing).await];
        for id in ids.into_iter().rev() {
            device.answered(
                id,
                DeviceReply {
                    status: 200,
                    message: String::new(),
                    body: id.into(),
                },
            );
        }
        let mut bodies = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
        bodies.sort_by_key(Value::as_u64);
        assert_eq!(bodies, ids.map(Value::from));
        // A device that says nothing is given up, and what it says later is nobody's.
        let silent = ask(Duration::from_millis(20)).await.unwrap().unwrap_err();
        assert_eq!(silent.status, 504);
        let late = asked(&mut outgoing).await;
        device.answered(
            late,
            DeviceReply {
                status: 200,
                message: String::new(),
                body: Value::Null,
            },
        );
        // One that goes away leaves nobody waiting.
        let waiting = ask(long);
        asked(&mut outgoing).await;
        device.closing.cancel();
        assert_eq!(waiting.await.unwrap().unwrap_err().status, 503);
    }

    #[tokio::test]
    async fn a_device_that_does_not_keep_up_is_cut_off() {
        let (device, mut outgoing) = connection();
        let asked: Vec<_> = (0..MAX_OPEN_REQUESTS + 1)
            .map(|_| {
                let device = device.clone();
                tokio::spawn(async move {
                    device
                        .request(Request::RefetchProfile, Duration::from_secs(60))
                        .await
                })
            })
            .collect();
        // One more than may be open is refused at once; the others wait.
        let mut refused = 0;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
            refused = asked.iter().filter(|a| a.is_finished()).count();
        }
        assert_eq!((refused, device.closing.is_cancelled()), (1, false));
        // What is not read fills up, and the device is given up.
        while device
            .send(ServerMessage::Request {
                id: 0,
                request: Request::RefetchProfile,
            })
            .is_ok()
        {}
        assert!(device.closing.is_cancelled());
        for ask in asked {
            assert_eq!(ask.await.unwrap().unwrap_err().status, 503);
        }
        assert!(outgoing.try_recv().is_ok());
    }
}
