//! Registering a device with an account.

use crate::VERSION;
use crate::connection;
use crate::device;
use crate::error::{AgentError, AgentResult};
use crate::settings::{self, Settings};
use encke_api::account_keys::{AccountKeys, LoginKey, WrappingKey};
use encke_api::live::{
    DeviceMessage, Hello, LOGIN_PARAMETERS_PATH, LoginParameters, PROTOCOL, ServerMessage, platform,
};
use std::path::Path;
use std::time::Duration;

/// Who registers, and where.
pub struct Registration<'a> {
    /// The server's address.
    pub server: &'a str,
    /// Account name.
    pub username: &'a str,
    /// Password in clear; not kept.
    pub password: &'a str,
    /// Six digits, where the account asks for them.
    pub totp: &'a str,
    /// Another id than this machine's own.
    pub device_id: Option<&'a str>,
    /// Another name than this machine's own.
    pub device_name: Option<&'a str>,
    /// Whether file names may be shown to the server's users.
    pub allows_filenames: bool,
}

/// How a password is stretched for an account.
pub(crate) fn login_parameters(server: &str, username: &str) -> AgentResult<LoginParameters> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(encke_storage::tls())
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let url = format!("{}{LOGIN_PARAMETERS_PATH}", server.trim_end_matches('/'));
    let mut response = agent
        .post(&url)
        .send_form([("Username", username)])
        .map_err(|e| {
            tracing::warn!(error = %e, url, "the server can not be reached");
            AgentError::Offline
        })?;
    let text = response
        .body_mut()
        .read_to_string()
        .map_err(|_| AgentError::Offline)?;
    serde_json::from_str(&text)
        .map_err(|_| AgentError::Protocol(format!("{url} does not look like an Encke server")))
}

/// Logs in once, which registers the device, and keeps the settings.
///
/// # Errors
/// Wrong credentials, a missing second factor, no room for more devices, or the server can not be reached.
pub async fn register(registration: &Registration<'_>, data_dir: &Path) -> AgentResult<Settings> {
    let r = registration;
    let (server, username) = (r.server.to_string(), r.username.to_string());
    let asked = tokio::task::spawn_blocking(move || login_parameters(&server, &username)).await;
    let parameters = asked.map_err(|_| AgentError::Offline)??;
    let keys = parameters.derive(r.password)?;
    let id = r.device_id.map_or_else(device::id, str::to_string);
    let name = r.device_name.map_or_else(device::host_name, str::to_string);
    let settings = Settings::new(r.server, r.username, &id, &name, r.allows_filenames, &keys);
    settings.check()?;
    let how = connection::SignIn {
        totp: r.totp,
        register: true,
        ..Default::default()
    };
    connection::sign_in(&settings, &how).await?;
    settings.save(data_dir)?;
    Ok(settings)
}

/// Registers by an install token, which stands for the account's name, password and one-time code; user name, password
/// and code of `registration` do not matter.
///
/// # Errors
/// A token that is unknown, used or expired, no room for more devices, or the server can not be reached.
pub async fn register_by_token(
    registration: &Registration<'_>,
    token: &str,
    data_dir: &Path,
) -> AgentResult<Settings> {
    let r = registration;
    let id = r.device_id.map_or_else(device::id, str::to_string);
    let name = r.device_name.map_or_else(device::host_name, str::to_string);
    let first = Hello {
        protocol: PROTOCOL,
        username: String::new(),
        login_key: String::new(),
        totp: String::new(),
        install_token: token.to_string(),
        device_id: id.clone(),
        register: true,
        friendly_name: name.clone(),
        client_version: VERSION.into(),
        platform: platform(),
        os: device::os_info(),
        time_zone: device::time_zone(),
        allows_filenames: r.allows_filenames,
        running_jobs: Vec::new(),
        program: String::new(),
        updating_to: String::new(),
    };
    // A folder that can not be written is found out before the token is spent.
    settings::check_folder(data_dir)?;
    let (_socket, answer) = connection::connect(r.server, &DeviceMessage::Hello(Box::new(first))).await?;
    let ServerMessage::Welcome { keys: Some(keys), .. } = answer else {
        return Err(AgentError::Protocol("welcomed without keys".into()));
    };
    let both = AccountKeys {
        login: LoginKey::from_text(&keys.login_key)?,
        wrapping: WrappingKey::from_text(&keys.wrapping_key)?,
    };
    let here = Settings::new(r.server, &keys.username, &id, &name, r.allows_filenames, &both);
    // Kept at once: the token is spent.
    here.save(data_dir)?;
    if keys.server.is_empty() {
        return Ok(here);
    }
    let there = here.with_server(&keys.server);
    match connection::sign_in(&there, &connection::SignIn::default()).await {
        Ok(_) => {
            there.save(data_dir)?;
            Ok(there)
        }
        Err(e) => {
            tracing::warn!(error = %e, server = keys.server, "the token's address does not work, keeping the one that did");
            Ok(here)
        }
    }
}
