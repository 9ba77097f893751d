//! Registering a device with an account.

use crate::connection;
use crate::device;
use crate::error::{AgentError, AgentResult};
use crate::settings::Settings;
use encke_api::live::{LOGIN_PARAMETERS_PATH, LoginParameters};
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
