//! The lobby: devices that are installed but belong to nobody yet. They are listed for the organization of the host
//! they came by, and are asked nothing but to register.

use crate::app::{App, now, store_error};
use crate::auth::{Admin, organization_of_host, throttled};
use crate::live::{Connection, REQUEST_TIMEOUT, Software, check_description, pump, send};
use crate::origin::Origin;
use crate::table::{Call, Envelope, MapOf, Route, Text, done};
use crate::users::profile_of;
use axum::extract::ws::WebSocket;
use encke_api::constants::{
    SEVT_DEVICE_LOBBY_CONNECT, SEVT_DEVICE_LOBBY_DISCONNECT, TOTP_REQUIRED_ERROR, UNKNOWN_DEVICE_ERROR,
};
use encke_api::form::NoParams;
use encke_api::live::{LobbyHello, Request, ServerMessage};
use encke_api::types::{LiveUserConnection, RegistrationLobbyConnection, UserProfileConfig};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{EventDraft, Scope};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Devices waiting at once: nobody has to sign in to wait, so the room is small beside that of real devices.
const MAX_WAITING: usize = 10_000;
/// Devices waiting at once from one address: an office behind one router.
const MAX_OF_ADDRESS: usize = 500;
/// A device that was sent away has this long to go.
const GOING_TIME: Duration = Duration::from_secs(5);

/// A device that waits.
pub(crate) struct Waiting {
    connection: Arc<Connection>,
    shown: RegistrationLobbyConnection,
}

/// All devices that wait.
#[derive(Default)]
pub struct Lobby(RwLock<HashMap<String, Arc<Waiting>>>);

impl Lobby {
    fn add(&self, waiting: Arc<Waiting>) -> ApiResult<()> {
        let mut all = self.0.write();
        let new = &waiting.shown;
        let of_address = all
            .values()
            .filter(|w| w.shown.ip_address == new.ip_address)
            .count();
        if all.len() >= MAX_WAITING || of_address >= MAX_OF_ADDRESS {
            return Err(ApiError::new(503, "There is no room in the lobby"));
        }
        // The first one stays: who comes later under its id must not get its account.
        let twin = |w: &Arc<Waiting>| {
            w.shown.device_id == new.device_id && w.shown.organization_id == new.organization_id
        };
        if all.values().any(twin) {
            return Err(ApiError::new(
                503,
                "A device of this id waits in the lobby already",
            ));
        }
        all.insert(waiting.connection.id.clone(), waiting);
        Ok(())
    }

    fn list(&self, scope: &Scope) -> Vec<Arc<Waiting>> {
        let all = self.0.read();
        let seen = all
            .values()
            .filter(|w| scope.contains(&w.shown.organization_id, ""));
        seen.cloned().collect()
    }

    /// The device of an id. A top-level administrator may see one id in several organizations.
    fn find(&self, scope: &Scope, device: &str) -> ApiResult<Arc<Waiting>> {
        let mut found = self.list(scope);
        found.retain(|w| w.shown.device_id == device);
        match found.len() {
            0 => Err(ApiError::bad_request(UNKNOWN_DEVICE_ERROR)),
            1 => Ok(found.remove(0)),
            _ => Err(ApiError::new(
                409,
                "Devices of this id wait in several organizations; an administrator of the right one can choose",
            )),
        }
    }
}

/// Lets a device in.
///
/// # Errors
/// 400 for a description that can not be right, 403 on the host of a suspended organization, 503 without room.
pub(crate) fn enter(
    app: &App,
    hello: LobbyHello,
    origin: &Origin,
) -> ApiResult<(Arc<Waiting>, mpsc::Receiver<Box<ServerMessage>>)> {
    let h = &hello;
    let texts = [&h.friendly_name, &h.client_version, &h.platform, &h.time_zone];
    check_description(h.protocol, &h.device_id, &texts)?;
    let organization = organization_of_host(app, &origin.host).ok_or_else(ApiError::unauthorised)?;
    let shown = RegistrationLobbyConnection {
        device_id: hello.device_id,
        organization_id: organization.clone(),
        friendly_name: hello.friendly_name,
        reported_version: hello.client_version,
        reported_platform: hello.platform,
        reported_platform_version: hello.os,
        device_time_zone: hello.time_zone,
        ip_address: origin.ip.to_string(),
        host: origin.host.clone(),
        connection_time: now(),
        ..Default::default()
    };
    let info = LiveUserConnection {
        device_id: shown.device_id.clone(),
        ..Default::default()
    };
    let (connection, outgoing) = Connection::new(organization, info, Vec::new(), Software::default());
    let waiting = Arc::new(Waiting { connection, shown });
    app.lobby.add(waiting.clone())?;
    Ok((waiting, outgoing))
}

/// Keeps a device until it goes.
pub(crate) async fn stay(
    app: &Arc<App>,
    waiting: &Arc<Waiting>,
    mut socket: WebSocket,
    outgoing: mpsc::Receiver<Box<ServerMessage>>,
) {
    let connection = &waiting.connection;
    let event = |kind| EventDraft {
        actor: String::new(),
        organization: waiting.shown.organization_id.clone(),
        resource: waiting.shown.device_id.clone(),
        kind,
        data: serde_json::to_value(&waiting.shown).unwrap_or_default(),
    };
    let told = ServerMessage::Waiting {
        connection_id: connection.id.clone(),
    };
    if send(&mut socket, &told).await {
        app.store.announce(|| event(SEVT_DEVICE_LOBBY_CONNECT));
        tracing::info!(device = %waiting.shown.device_id, "a device waits in the lobby");
        pump(app, connection, socket, outgoing).await;
        app.store.announce(|| event(SEVT_DEVICE_LOBBY_DISCONNECT));
        tracing::info!(device = %waiting.shown.device_id, "a device left the lobby");
    }
    app.lobby.0.write().remove(&connection.id);
}

params! {
    /// Parameters of `AdminInstallationDispatchRegisterDevice`.
    struct Register {
        /// Id of the device in the lobby.
        DeviceID: String,
        /// The account it shall register with.
        TargetUser: String,
        /// The account's password.
        TargetPassword: String,
        /// Six digits, where the account asks for them.
        TargetTOTPCode: Option<String>
    }
}

params! {
    /// Parameters of `AdminInstallationDispatchDropConnection`.
    struct SendAway {
        /// Id of the device in the lobby.
        DeviceID: String
    }
}

async fn list(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<MapOf<RegistrationLobbyConnection>> {
    let all = app.lobby.list(&admin.scope()).into_iter();
    let shown: BTreeMap<_, _> = all.map(|w| (w.connection.id.clone(), w.shown.clone())).collect();
    Ok(MapOf(shown))
}

async fn register(app: Arc<App>, admin: Admin, call: Call<Register>) -> ApiResult<Text> {
    let p = call.params;
    let waiting = app.lobby.find(&admin.scope(), &p.DeviceID)?;
    let stored = profile_of(&app, &admin.scope(), &p.TargetUser).await?;
    let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
    // Tried here first: a device that nobody knows yet gets no password that does not work.
    throttled(&app, &call.origin, &profile.username, async {
        if app
            .passwords
            .verify(&profile.password_hash, &p.TargetPassword)
            .await?
        {
            return Ok(());
        }
        Err(ApiError::forbidden("The account's password is wrong"))
    })
    .await?;
    let request = Request::Register {
        username: profile.username.clone(),
        password: p.TargetPassword,
        totp: p.TargetTOTPCode.unwrap_or_default(),
    };
    match waiting.connection.request(request, REQUEST_TIMEOUT).await {
        Ok(_) => Ok(Text("OK".into())),
        // It is not this call that lacks a code.
        Err(e) if e.status == 449 => Err(ApiError::bad_request(TOTP_REQUIRED_ERROR)),
        Err(e) => Err(e),
    }
}

async fn drop_connection(app: Arc<App>, admin: Admin, call: Call<SendAway>) -> ApiResult<Envelope> {
    let waiting = app.lobby.find(&admin.scope(), &call.params.DeviceID)?;
    // Told in words, so that it does not come back; closed if it does not go.
    let _ = waiting.connection.send(ServerMessage::Refused {
        status: 403,
        message: "An administrator sent this device away".into(),
    });
    tokio::spawn(async move {
        tokio::time::sleep(GOING_TIME).await;
        waiting.connection.closing.cancel();
    });
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminInstallationListActive",
            "/api/v1/admin/installation/list-active",
            "Answers the devices that wait in the lobby for an account, by connection.",
            list,
        ),
        Route::new(
            "AdminInstallationDispatchRegisterDevice",
            "/api/v1/admin/installation/dispatch/register-device",
            "Makes a device of the lobby register with an account, and waits until it has. Answers the text \"OK\".",
            register,
        ),
        Route::new(
            "AdminInstallationDispatchDropConnection",
            "/api/v1/admin/installation/dispatch/drop-connection",
            "Sends a device out of the lobby; it does not come back by itself.",
            drop_connection,
        ),
    ]
}
