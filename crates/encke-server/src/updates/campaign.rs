//! The update campaign. Whom it chooses is decided by the version that a device reports and by a search over devices;
//! whether there is anything to do by the hash of its program, since builds of one version may differ. Each device is
//! asked once, so that a program that does not work does not go round in circles.

use super::tell;
use crate::app::{App, now, store_error};
use crate::live::Connection;
use encke_api::constants::{
    UPDATESTATUS_INELIGIBLE, UPDATESTATUS_NOT_SEEN, UPDATESTATUS_PENDING, UPDATESTATUS_REQUEST_MADE,
    UPDATESTATUS_UPDATE_CONFIRMED, UPDATESTATUS_UPDATE_FAILED,
};
use encke_api::live::UpdateBegun;
use encke_api::types::{
    SearchClause, UpdateCampaignOptions, UpdateCampaignProperties, UpdateCampaignStatus,
    UpdateCampaignStatusDeviceEntry,
};
use encke_api::wire::Out;
use encke_api::{ApiError, ApiResult};
use encke_store::{DeviceSearch, Scope, StoreResult, StoredCampaign, compile_device_search};
use parking_lot::RwLock;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Devices asked at once: each then fetches the program from this server.
const AT_ONCE: usize = 8;
/// How often devices are looked through that nothing has happened to, and other servers' campaigns are heard of.
const LOOK: Duration = Duration::from_secs(30);

/// The campaign as this server carries it out.
pub struct Campaigns {
    current: RwLock<Option<Arc<Current>>>,
    /// Woken when there may be something to do.
    wake: Notify,
    room: Arc<Semaphore>,
}

impl Default for Campaigns {
    fn default() -> Self {
        Self {
            current: RwLock::default(),
            wake: Notify::new(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

struct Current {
    stored: StoredCampaign,
    /// Whether devices are still asked, by this server.
    asks: bool,
    filter: Option<DeviceSearch>,
}

/// What is to become of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing new.
    Stay,
    /// It has come so far.
    Move(i64),
    /// It is to be asked as soon as there is room.
    Ask,
}

fn filter_of(clause: &SearchClause, applies: bool) -> ApiResult<Option<DeviceSearch>> {
    if !applies {
        return Ok(None);
    }
    compile_device_search(clause).map(Some).map_err(store_error)
}

/// Begins or ends a campaign.
///
/// # Errors
/// 400 for one that chooses nobody, or a filter that can not be read.
pub(super) async fn start(app: &Arc<App>, options: &UpdateCampaignOptions) -> ApiResult<()> {
    let facts = app.program.facts().await?;
    let program = &facts.program;
    if !options.active {
        if let Some(mut stored) = app.store.campaign().await.map_err(store_error)? {
            stored.properties.active = false;
            app.store.set_campaign(stored, false).await.map_err(store_error)?;
        }
    } else {
        if !options.upgrade_older && !options.reinstall_current_ver && !options.downgrade_newer {
            return Err(ApiError::bad_request(
                "A campaign needs UpgradeOlder, ReinstallCurrentVer or DowngradeNewer",
            ));
        }
        filter_of(&options.device_filter, options.apply_device_filter)?;
        let properties = UpdateCampaignProperties {
            active: true,
            upgrade_older: options.upgrade_older,
            reinstall_current_ver: options.reinstall_current_ver,
            downgrade_newer: options.downgrade_newer,
            force_upgrade_running: options.force_upgrade_running,
            apply_device_filter: options.apply_device_filter,
            device_filter: options.device_filter.clone(),
            start_time: now(),
            target_version: program.version.clone(),
            ..Default::default()
        };
        let stored = StoredCampaign {
            properties,
            program: program.sha256.clone(),
        };
        app.store.set_campaign(stored, true).await.map_err(store_error)?;
        for connection in app.live.list(&Scope::All, None) {
            connection.update_asked.store(false, SeqCst);
        }
    }
    refresh(app).await.map_err(store_error)?;
    app.campaign.wake.notify_one();
    Ok(())
}

/// Takes over what the store says of the campaign.
async fn refresh(app: &App) -> StoreResult<()> {
    let stored = app.store.campaign().await?;
    let known = app.campaign.current.read().as_ref().map(|c| c.stored.clone());
    if stored == known {
        return Ok(());
    }
    let own = app.program.facts().await.ok();
    let current = stored.map(|stored| {
        let p = &stored.properties;
        let filter = filter_of(&p.device_filter, p.apply_device_filter);
        // A server whose program is another one has nothing to hand out for it.
        let asks = p.active && filter.is_ok() && own.is_some_and(|o| o.program.sha256 == stored.program);
        Arc::new(Current {
            asks,
            filter: filter.ok().flatten(),
            stored,
        })
    });
    *app.campaign.current.write() = current;
    Ok(())
}

/// Numbers of a version, such as 25.9.8.
fn numbers(version: &str) -> Vec<u64> {
    let part = |p: &str| {
        let digits: String = p.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    version.split('.').map(part).collect()
}

fn chooses_version(campaign: &UpdateCampaignProperties, reported: &str) -> bool {
    match numbers(reported).cmp(&numbers(&campaign.target_version)) {
        Ordering::Less => campaign.upgrade_older,
        Ordering::Equal => campaign.reinstall_current_ver,
        Ordering::Greater => campaign.downgrade_newer,
    }
}

/// What a search sees of a device: what it says of itself, and what its account says of it.
async fn described(app: &App, connection: &Connection) -> Value {
    let mut document = serde_json::to_value(Out(&connection.info)).unwrap_or_default();
    document["OrganizationID"] = connection.organization.as_str().into();
    let stored = app.store.profile(&Scope::All, &connection.info.username).await;
    if let Ok(Ok(profile)) = stored.map(|s| s.parse()) {
        let device = profile.devices.get(&connection.info.device_id);
        document["FriendlyName"] = device.map(|d| d.friendly_name.as_str()).into();
        document["AccountName"] = profile.account_name.into();
        document["GroupID"] = profile.group_id.into();
        document["PolicyID"] = profile.policy_id.into();
    }
    document
}

async fn is_chosen(app: &App, current: &Current, connection: &Connection) -> bool {
    let own = encke_api::live::platform();
    if connection.info.reported_platform != own
        || !chooses_version(&current.stored.properties, &connection.info.reported_version)
    {
        return false;
    }
    match &current.filter {
        None => true,
        Some(filter) => filter.is_match(&described(app, connection).await),
    }
}

async fn next(app: &App, current: &Current, connection: &Connection, status: Option<i64>) -> Next {
    let target = current.stored.program.as_str();
    let runs_it = connection.software.program == target;
    match status.unwrap_or(UPDATESTATUS_NOT_SEEN) {
        UPDATESTATUS_UPDATE_CONFIRMED => Next::Stay,
        UPDATESTATUS_REQUEST_MADE | UPDATESTATUS_UPDATE_FAILED if runs_it => {
            Next::Move(UPDATESTATUS_UPDATE_CONFIRMED)
        }
        UPDATESTATUS_UPDATE_FAILED => Next::Stay,
        // It works on it, or was asked by this very connection and has not come back yet.
        UPDATESTATUS_REQUEST_MADE
            if connection.software.updating_to == target || connection.update_asked.load(SeqCst) =>
        {
            Next::Stay
        }
        UPDATESTATUS_REQUEST_MADE => Next::Move(UPDATESTATUS_UPDATE_FAILED),
        _ if !current.asks => Next::Stay,
        _ => match (is_chosen(app, current, connection).await, runs_it) {
            (true, true) => Next::Move(UPDATESTATUS_UPDATE_CONFIRMED),
            (true, false) => Next::Ask,
            (false, _) if status == Some(UPDATESTATUS_INELIGIBLE) => Next::Stay,
            (false, _) => Next::Move(UPDATESTATUS_INELIGIBLE),
        },
    }
}

async fn move_on(app: &App, connection: &Connection, from: Option<i64>, to: i64) -> bool {
    let (user, device) = (&connection.info.username, &connection.info.device_id);
    match app.store.move_campaign_device(user, device, from, to).await {
        Ok(moved) => {
            if moved && to == UPDATESTATUS_UPDATE_FAILED {
                tracing::warn!(
                    user,
                    device,
                    "a device came back with another program than the campaign's"
                );
            }
            moved
        }
        Err(e) => {
            tracing::warn!(error = %e, user, device, "a device's part in the campaign could not be kept");
            false
        }
    }
}

/// Looks what is to become of a device.
async fn consider(app: &Arc<App>, current: &Arc<Current>, connection: &Arc<Connection>, status: Option<i64>) {
    match next(app, current, connection, status).await {
        Next::Stay => {}
        Next::Move(to) => {
            move_on(app, connection, status, to).await;
        }
        Next::Ask => {
            if status != Some(UPDATESTATUS_PENDING)
                && !move_on(app, connection, status, UPDATESTATUS_PENDING).await
            {
                return;
            }
            let Ok(permit) = app.campaign.room.clone().try_acquire_owned() else {
                return;
            };
            let (app, current, connection) = (app.clone(), current.clone(), connection.clone());
            tokio::spawn(async move {
                ask(&app, &current, &connection).await;
                drop(permit);
                app.campaign.wake.notify_one();
            });
        }
    }
}

async fn ask(app: &App, current: &Current, connection: &Connection) {
    let Ok(facts) = app.program.facts().await else {
        return;
    };
    connection.update_asked.store(true, SeqCst);
    let asked = Some(UPDATESTATUS_REQUEST_MADE);
    if !move_on(
        app,
        connection,
        Some(UPDATESTATUS_PENDING),
        UPDATESTATUS_REQUEST_MADE,
    )
    .await
    {
        return;
    }
    let interrupt = current.stored.properties.force_upgrade_running;
    let (user, device) = (&connection.info.username, &connection.info.device_id);
    match tell(connection, &facts.program, interrupt).await {
        Ok(UpdateBegun::Unchanged) => {
            move_on(app, connection, asked, UPDATESTATUS_UPDATE_CONFIRMED).await;
        }
        Ok(_) => {}
        // Whether the device heard of it shows when it comes back.
        Err(e) if matches!(e.status, 503 | 504) => {
            tracing::info!(user, device, error = %e.message, "a device of the campaign went away");
        }
        Err(e) => {
            tracing::warn!(user, device, error = %e.message, "a device of the campaign could not be updated");
            move_on(app, connection, asked, UPDATESTATUS_UPDATE_FAILED).await;
        }
    }
}

async fn consider_one(app: &Arc<App>, connection: &Arc<Connection>) {
    let Some(current) = app.campaign.current.read().clone() else {
        return;
    };
    let (user, device) = (&connection.info.username, &connection.info.device_id);
    match app.store.campaign_device(user, device).await {
        Ok(status) => consider(app, &current, connection, status).await,
        Err(e) => tracing::warn!(error = %e, "the campaign could not be read"),
    }
}

/// A device came on line.
pub(crate) fn came(app: &Arc<App>, connection: &Arc<Connection>) {
    if app.campaign.current.read().is_some() {
        let (app, connection) = (app.clone(), connection.clone());
        tokio::spawn(async move { consider_one(&app, &connection).await });
    }
}

/// A device tells that it did not change to a program.
pub(crate) async fn failed(app: &App, connection: &Connection, program: &str, problem: &str) {
    let (user, device) = (&connection.info.username, &connection.info.device_id);
    tracing::warn!(user, device, problem, "a device was not updated");
    let current = app.campaign.current.read().clone();
    if current.is_some_and(|c| c.stored.program == program) {
        move_on(
            app,
            connection,
            Some(UPDATESTATUS_REQUEST_MADE),
            UPDATESTATUS_UPDATE_FAILED,
        )
        .await;
    }
}

async fn look(app: &Arc<App>) -> StoreResult<()> {
    refresh(app).await?;
    let Some(current) = app.campaign.current.read().clone() else {
        return Ok(());
    };
    let known = app.store.campaign_devices().await?;
    for connection in app.live.list(&Scope::All, None) {
        let device = (
            connection.info.username.clone(),
            connection.info.device_id.clone(),
        );
        consider(app, &current, &connection, known.get(&device).copied()).await;
    }
    Ok(())
}

/// Carries campaigns out until the server stops.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        if let Err(e) = look(&app).await {
            tracing::warn!(error = %e, "the campaign could not be read");
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = app.campaign.wake.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The devices of an account, without the rest of its profile.
#[derive(Deserialize)]
struct Devices {
    #[serde(default, rename = "Devices")]
    devices: Option<BTreeMap<String, IgnoredAny>>,
}

/// The campaign, and how far every device has come.
///
/// # Errors
/// The store fails.
pub(super) async fn status(app: &App) -> ApiResult<UpdateCampaignStatus> {
    refresh(app).await.map_err(store_error)?;
    let Some(current) = app.campaign.current.read().clone() else {
        return Ok(UpdateCampaignStatus::default());
    };
    let known = app.store.campaign_devices().await.map_err(store_error)?;
    let add = move |out: &mut Vec<UpdateCampaignStatusDeviceEntry>, name: &str, body: &str| {
        let devices = serde_json::from_str::<Devices>(body).ok().and_then(|d| d.devices);
        for device_id in devices.unwrap_or_default().into_keys() {
            let status = known.get(&(name.to_string(), device_id.clone()));
            out.push(UpdateCampaignStatusDeviceEntry {
                username: name.to_string(),
                status: status.copied().unwrap_or(UPDATESTATUS_NOT_SEEN),
                device_id,
                ..Default::default()
            });
        }
        ControlFlow::Continue(())
    };
    let devices = app.store.each_profile(&Scope::All, Vec::new(), add).await;
    let p = current.stored.properties.clone();
    Ok(UpdateCampaignStatus {
        active: current.asks,
        upgrade_older: p.upgrade_older,
        reinstall_current_ver: p.reinstall_current_ver,
        downgrade_newer: p.downgrade_newer,
        force_upgrade_running: p.force_upgrade_running,
        apply_device_filter: p.apply_device_filter,
        device_filter: p.device_filter,
        start_time: p.start_time,
        target_version: p.target_version,
        devices: devices.map_err(store_error)?,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let campaign = |older, same, newer| UpdateCampaignProperties {
            upgrade_older: older,
            reinstall_current_ver: same,
            downgrade_newer: newer,
            target_version: "25.9.8".into(),
            ..Default::default()
        };
        let older = campaign(true, false, false);
        for (version, chosen) in [
            ("25.9.7", true),
            ("25.10.0", false),
            ("24.12.9", true),
            ("25.9.8", false),
        ] {
            assert_eq!(chooses_version(&older, version), chosen, "{version}");
        }
        assert!(chooses_version(&campaign(false, true, false), "25.9.8"));
        assert!(chooses_version(&campaign(false, false, true), "25.10.0"));
    }
}
