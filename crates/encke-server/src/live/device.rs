//! A device signing in: password half, registration, and what it reports (reference, sections 7.1 and 10).

use super::Connection;
use crate::app::{App, now, store_error};
use crate::origin::Origin;
use crate::users::profile_of;
use encke_api::account_keys::{LoginKey, PASSWORD_FORMAT_ENCKE, StoredPassword};
use encke_api::constants::{SEVT_ACCOUNT_LOGIN_FAILED, UNKNOWN_DEVICE_ERROR};
use encke_api::live::{Call, Hello, PROTOCOL, ProfileAndHash};
use encke_api::types::{DeviceConfig, LiveUserConnection, UserProfileConfig};
use encke_api::{ApiError, ApiResult};
use encke_store::{EventDraft, Scope, StoredProfile};
use serde_json::Value;
use std::net::IpAddr;

/// Longest text a device may tell about itself, in bytes.
const MAX_TEXT: usize = 255;

fn event(kind: i64, profile: &UserProfileConfig, resource: &str, data: Value) -> EventDraft {
    EventDraft {
        actor: profile.username.clone(),
        organization: profile.organization_id.clone(),
        resource: resource.to_string(),
        kind,
        data,
    }
}

/// Refuses what a device may not tell about itself.
///
/// # Errors
/// 400 saying what.
pub(crate) fn check_description(protocol: u32, device_id: &str, texts: &[&String]) -> ApiResult<()> {
    if protocol != PROTOCOL {
        return Err(ApiError::bad_request(format!(
            "This server speaks version {PROTOCOL} of the device protocol, the device {protocol}"
        )));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if device_id.is_empty() || device_id.len() > 64 || !device_id.chars().all(plain) {
        return Err(ApiError::bad_request(
            "A device id has 1 to 64 letters, digits or -",
        ));
    }
    for text in texts {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(ApiError::bad_request(
                "A device's description has at most 255 bytes and no control characters",
            ));
        }
    }
    Ok(())
}

/// Checks a device's first frame and registers the device if asked to. Answers the account.
pub(super) async fn sign_in(app: &App, hello: &Hello, origin: &Origin) -> ApiResult<StoredProfile> {
    crate::auth::throttled(app, origin, &hello.username, check_and_register(app, hello)).await
}

/// Refuses a first frame that can not be right.
pub(super) fn check_hello(hello: &Hello) -> ApiResult<()> {
    let h = hello;
    let texts = [
        &h.friendly_name,
        &h.client_version,
        &h.platform,
        &h.time_zone,
        &h.program,
        &h.updating_to,
    ];
    check_description(h.protocol, &h.device_id, &texts)
}

/// Whether a login half is that of the account's present password.
pub(crate) fn still_right(profile: &UserProfileConfig, login_key: &str) -> bool {
    profile.password_format == PASSWORD_FORMAT_ENCKE
        && StoredPassword::from_text(&profile.password_hash)
            .is_ok_and(|s| LoginKey::from_text(login_key).is_ok_and(|k| s.matches(&k)))
}

async fn check_and_register(app: &App, hello: &Hello) -> ApiResult<StoredProfile> {
    let stored = profile_of(app, &Scope::All, &hello.username).await;
    // That there is no such account is nobody's business; that the store fails is not the device's fault.
    let stored = stored.map_err(|e| {
        if e.status < 500 {
            ApiError::unauthorised()
        } else {
            e
        }
    })?;
    let profile = stored.parse().map_err(store_error)?;
    if !still_right(&profile, &hello.login_key) {
        app.store.announce(|| {
            event(
                SEVT_ACCOUNT_LOGIN_FAILED,
                &profile,
                encke_api::live::LIVE_PATH,
                Value::Null,
            )
        });
        return Err(ApiError::unauthorised());
    }
    crate::auth::check_organization(app, &profile.organization_id)?;
    if profile.is_suspended {
        return Err(ApiError::forbidden("This account is suspended"));
    }
    if let Some(device) = profile.devices.get(&hello.device_id) {
        if describes(device, hello) {
            return Ok(stored);
        }
        // Its schedules follow its time zone, and lists show its version.
        return crate::users::change(app, &hello.username, &hello.username, |profile| {
            if let Some(device) = profile.devices.get_mut(&hello.device_id) {
                device.platform_version = hello.os.clone();
                device.device_timezone.clone_from(&hello.time_zone);
                device.client_version.clone_from(&hello.client_version);
            }
            Ok(())
        })
        .await;
    }
    if !hello.register {
        return Err(ApiError::forbidden(UNKNOWN_DEVICE_ERROR));
    }
    if !profile.allow_password_login && profile.allow_password_and_totp_login {
        if hello.totp.is_empty() {
            return Err(ApiError::code_required());
        }
        let account = format!("user/{}", profile.username);
        if !crate::auth::verify_code(app, &account, &profile.totp_key, &hello.totp) {
            return Err(ApiError::unauthorised());
        }
    }
    register(app, &hello.username, hello).await
}

/// Whether what the profile says of a device is what the device says.
fn describes(device: &DeviceConfig, hello: &Hello) -> bool {
    (
        &device.platform_version,
        &device.device_timezone,
        &device.client_version,
    ) == (&hello.os, &hello.time_zone, &hello.client_version)
}

/// Adds a device to an account.
///
/// # Errors
/// 403 where there is no room for it.
pub(crate) async fn register(app: &App, username: &str, hello: &Hello) -> ApiResult<StoredProfile> {
    let name = if hello.friendly_name.is_empty() {
        &hello.device_id
    } else {
        &hello.friendly_name
    };
    let device = DeviceConfig {
        friendly_name: name.clone(),
        registration_time: now(),
        platform_version: hello.os.clone(),
        device_timezone: hello.time_zone.clone(),
        client_version: hello.client_version.clone(),
        ..Default::default()
    };
    crate::users::change(app, username, username, |profile| {
        if profile.maximum_devices > 0
            && profile.devices.len() >= usize::try_from(profile.maximum_devices).unwrap_or(usize::MAX)
        {
            return Err(ApiError::forbidden(format!(
                "The account may have at most {} devices",
                profile.maximum_devices
            )));
        }
        profile.devices.insert(hello.device_id.clone(), device.clone());
        for vault in profile.destinations.values_mut() {
            if !vault.associated_devices.contains(&hello.device_id) {
                vault.associated_devices.push(hello.device_id.clone());
            }
        }
        Ok(())
    })
    .await
}

/// What lists of live connections show of a device.
pub(super) fn describe(hello: &Hello, username: &str, ip: IpAddr) -> LiveUserConnection {
    LiveUserConnection {
        username: username.to_string(),
        device_id: hello.device_id.clone(),
        reported_version: hello.client_version.clone(),
        reported_platform: hello.platform.clone(),
        reported_platform_version: hello.os.clone(),
        device_time_zone: hello.time_zone.clone(),
        ip_address: ip.to_string(),
        connection_time: now(),
        allows_filenames: hello.allows_filenames,
        ..Default::default()
    }
}

fn account(stored: &StoredProfile) -> ApiResult<ProfileAndHash> {
    Ok(ProfileAndHash {
        profile: stored.parse().map_err(store_error)?,
        hash: stored.hash.clone(),
    })
}

fn body_of(stored: &StoredProfile) -> ApiResult<Value> {
    serde_json::to_value(account(stored)?).map_err(|_| ApiError::internal())
}

/// Serves what a device asks or reports.
pub(super) async fn serve(app: &App, connection: &Connection, call: Call) -> ApiResult<Value> {
    let scope = Scope::User(connection.info.username.clone());
    match call {
        Call::ReportJob { mut job } => {
            job.username.clone_from(&connection.info.username);
            job.device_id.clone_from(&connection.info.device_id);
            crate::jobs::report(app, &connection.organization, *job).await?;
            Ok(Value::Null)
        }
        Call::AppendLog {
            job_id,
            first,
            entries,
        } => {
            crate::jobs::append_log(
                app,
                &connection.info.username,
                &connection.info.device_id,
                &job_id,
                first,
                entries,
            )
            .await?;
            Ok(Value::Null)
        }
        Call::CheckQuota { destination } => {
            let left = crate::users::quota_left(app, &connection.info.username, &destination).await?;
            serde_json::to_value(left).map_err(|_| ApiError::internal())
        }
        Call::UpdateFailed { program, problem } => {
            let problem: String = problem
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_TEXT)
                .collect();
            crate::updates::failed(app, connection, &program, &problem).await;
            Ok(Value::Null)
        }
        Call::GetProfile => body_of(&profile_of(app, &scope, &connection.info.username).await?),
        Call::SetProfile {
            require_hash,
            profile,
        } => {
            let user = &connection.info.username;
            let before = profile_of(app, &scope, user)
                .await?
                .parse()
                .map_err(store_error)?;
            crate::users::check_device_edit(&before, &profile)?;
            let saved = crate::users::save_from_device(app, user, *profile, require_hash).await?;
            body_of(&saved)
        }
    }
}
