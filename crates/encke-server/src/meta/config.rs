//! The whole configuration as one document (reference, section 24). Secrets leave it obscured; an obscured secret that
//! comes back means "unchanged".

use super::{resources, service};
use crate::admins::{OBSCURED, obscured};
use crate::app::{App, Ending};
use crate::auth::{Admin, find_admin};
use crate::constellation;
use crate::email;
use crate::events;
use crate::external_login;
use crate::replication;
use crate::secrets;
use crate::start::DEFAULT_LISTEN;
use crate::storage_templates;
use crate::table::{Call, Doc, Envelope, Route, done};
use crate::tls;
use crate::webhooks;
use encke_api::account_keys::PASSWORD_FORMAT_ENCKE;
use encke_api::constants::{MINIMUM_LOG_RETENTION_DAYS, PASSWORD_FORMAT_PLAINTEXT, SEVT_SERVER_UPDATED};
use encke_api::form::{Json, NoParams};
use encke_api::types::{HTTPConnectorOptions, ServerConfigOptions};
use encke_api::{ApiError, ApiResult, params};
use encke_store::EventDraft;
use std::net::SocketAddr;
use std::sync::Arc;

/// Longest time of inactivity that a session may be given, in seconds.
const MAX_IDLE: u64 = 48 * 3600;
/// Most addresses to listen at.
const MAX_LISTENERS: usize = 32;

params! {
    /// Parameters of `AdminMetaServerConfigSet`.
    struct Set {
        /// The whole configuration.
        Config: Json<ServerConfigOptions>
    }
}

/// An address as the configuration writes it: `host:port`, or `:port` for all of the machine's.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Some(port) = text.strip_prefix(':') {
        return Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?)));
    }
    text.replace("localhost:", "127.0.0.1:").parse().ok()
}

/// Where a configuration says the server listens; the default where it says nothing that can be used.
pub(crate) fn listen_addresses(
    listeners: &[HTTPConnectorOptions],
) -> Vec<(SocketAddr, HTTPConnectorOptions)> {
    let mut all: Vec<(SocketAddr, HTTPConnectorOptions)> = listeners
        .iter()
        .filter_map(|l| Some((address(&l.listen_address)?, l.clone())))
        .collect();
    if all.is_empty() {
        all.extend(address(DEFAULT_LISTEN).map(|a| (a, HTTPConnectorOptions::default())));
    }
    all
}

/// The configuration as it leaves the server.
fn shown(config: &ServerConfigOptions) -> ServerConfigOptions {
    let mut shown = config.clone();
    shown.admin_users = config.admin_users.iter().map(obscured).collect();
    let templates = &mut shown.authentication_role.remote_storage;
    *templates = storage_templates::obscured(templates);
    shown.listen_addresses = tls::obscured(&config.listen_addresses);
    let sources = &mut shown.external_admin_user_sources;
    *sources = external_login::obscured_all(sources);
    secrets::hide(&mut shown.email);
    replication::hide(&mut shown);
    constellation::hide_all(&mut shown);
    webhooks::hide(&mut shown.webhook_options);
    for organization in shown.organizations.values_mut() {
        crate::organizations::hide_secrets(organization);
    }
    shown
}

async fn get(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Doc<ServerConfigOptions>> {
    Ok(Doc(shown(&app.config())))
}

fn check_listeners(config: &ServerConfigOptions) -> ApiResult<()> {
    if config.listen_addresses.len() > MAX_LISTENERS {
        return Err(ApiError::bad_request(format!(
            "At most {MAX_LISTENERS} ListenAddresses are allowed"
        )));
    }
    for listener in &config.listen_addresses {
        if address(&listener.listen_address).is_none() {
            return Err(ApiError::bad_request(format!(
                "ListenAddress '{}' is not an address such as 127.0.0.1:8060 or :8060",
                listener.listen_address
            )));
        }
    }
    Ok(())
}

/// Certificates must be there: a server that can not listen could not be corrected over the network.
fn check_certificates(app: &App, config: &ServerConfigOptions) -> ApiResult<()> {
    for listener in &config.listen_addresses {
        tls::check(&app.server_key, listener).map_err(|e| {
            ApiError::bad_request(format!("ListenAddress '{}': {e}", listener.listen_address))
        })?;
    }
    Ok(())
}

/// Addresses that are new must be free: a server that can not listen could not be corrected over the network.
async fn check_free(present: &ServerConfigOptions, wanted: &ServerConfigOptions) -> ApiResult<()> {
    let known = listen_addresses(&present.listen_addresses);
    for address in wanted
        .listen_addresses
        .iter()
        .filter_map(|l| address(&l.listen_address))
    {
        if known.iter().any(|(a, _)| *a == address) {
            continue;
        }
        tokio::net::TcpListener::bind(address)
            .await
            .map_err(|e| ApiError::bad_request(format!("The server could not listen at {address}: {e}")))?;
    }
    Ok(())
}

fn check(config: &ServerConfigOptions) -> ApiResult<()> {
    check_listeners(config)?;
    external_login::check_all(config, &config.external_admin_user_sources)?;
    email::check(&config.email)?;
    replication::check(config)?;
    constellation::check_all(config)?;
    webhooks::check(&config.webhook_options)?;
    events::files::check(&config.audit_file_options)?;
    if config.session_settings.expired_in_seconds > MAX_IDLE {
        return Err(ApiError::bad_request(format!(
            "SessionSettings.ExpiredInSeconds is at most {MAX_IDLE}"
        )));
    }
    let days = config.authentication_role.prune_logs_after_days;
    if days != 0 && days < MINIMUM_LOG_RETENTION_DAYS {
        return Err(ApiError::bad_request(format!(
            "AuthenticationRole.PruneLogsAfterDays is 0 or at least {MINIMUM_LOG_RETENTION_DAYS}"
        )));
    }
    let protection = &config.login_protection;
    if protection.failure_threshold < 0 || protection.cooldown_seconds < 0 {
        return Err(ApiError::bad_request("LoginProtection must not be negative"));
    }
    for admin in &config.admin_users {
        if admin.username.is_empty() || admin.username.len() > 255 {
            return Err(ApiError::bad_request(
                "An administrator's name has 1 to 255 bytes",
            ));
        }
        let twins = config
            .admin_users
            .iter()
            .filter(|a| a.username == admin.username && a.organization_id == admin.organization_id)
            .count();
        if twins > 1 {
            return Err(ApiError::bad_request(format!(
                "The administrator '{}' stands in AdminUsers twice",
                admin.username
            )));
        }
        if !admin.organization_id.is_empty() && !config.organizations.contains_key(&admin.organization_id) {
            return Err(ApiError::bad_request(format!(
                "The administrator '{}' is of an organization that does not exist",
                admin.username
            )));
        }
        if regex::Regex::new(&admin.ip_whitelist).is_err() {
            return Err(ApiError::bad_request(format!(
                "IPWhitelist of '{}' is not a regular expression",
                admin.username
            )));
        }
    }
    Ok(())
}

/// Puts the secrets back that left the server obscured, and hashes passwords that come in clear.
async fn restore_secrets(
    app: &App,
    present: &ServerConfigOptions,
    config: &mut ServerConfigOptions,
) -> ApiResult<()> {
    storage_templates::adopt(
        app,
        &present.authentication_role.remote_storage,
        &mut config.authentication_role.remote_storage,
    )?;
    tls::adopt(
        &app.server_key,
        &present.listen_addresses,
        &mut config.listen_addresses,
    )?;
    external_login::adopt_all(
        app,
        &present.external_admin_user_sources,
        &mut config.external_admin_user_sources,
    )?;
    email::adopt(app, "", Some(&present.email), &mut config.email)?;
    replication::adopt(app, present, config)?;
    constellation::adopt_all(app, present, config)?;
    let hooks = Some(&present.webhook_options);
    webhooks::adopt(app, "", hooks, &mut config.webhook_options)?;
    for (id, organization) in &mut config.organizations {
        crate::organizations::adopt_secrets(app, id, present.organizations.get(id), organization)?;
    }
    for admin in &mut config.admin_users {
        let old = find_admin(&present.admin_users, &admin.username, &admin.organization_id);
        // A key that signed since the document was fetched keeps its count.
        for key in &mut admin.web_authn_registrations {
            let known = old.and_then(|o| o.web_authn_registrations.iter().find(|r| r.id == key.id));
            if let Some(known) = known {
                let count = &mut key.credential.sign_count;
                *count = known.credential.sign_count.max(*count);
            }
        }
        if admin.totp_key == OBSCURED {
            admin.totp_key = old.map(|o| o.totp_key.clone()).unwrap_or_default();
        }
        if admin.password == OBSCURED {
            let old = old.ok_or_else(|| {
                ApiError::bad_request(format!(
                    "The new administrator '{}' needs a password: PasswordFormat 0 and Password in clear",
                    admin.username
                ))
            })?;
            admin.password_format = old.password_format;
            admin.password.clone_from(&old.password);
        } else if admin.password_format == PASSWORD_FORMAT_PLAINTEXT && !admin.password.is_empty() {
            admin.password = app.passwords.create(&admin.password).await?.0.to_text();
            admin.password_format = PASSWORD_FORMAT_ENCKE;
        } else if admin.password.is_empty() && !admin.external_authentication_source.is_empty() {
            // The other system's password counts.
        } else if old.is_none_or(|o| o.password != admin.password) {
            return Err(ApiError::bad_request(format!(
                "The password of '{}' is neither unchanged nor in clear",
                admin.username
            )));
        }
    }
    Ok(())
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let present = app.config();
    let mut wanted = call.params.Config.0;
    check(&wanted)?;
    check_free(&present, &wanted).await?;
    restore_secrets(&app, &present, &mut wanted).await?;
    check_certificates(&app, &wanted)?;
    let mut hosts: Vec<String> = Vec::new();
    for organization in wanted.organizations.values_mut() {
        crate::organizations::check_hosts(&mut organization.hosts)?;
        for host in &organization.hosts {
            if hosts.contains(host) {
                return Err(ApiError::bad_request(format!(
                    "The host name '{host}' belongs to two organizations"
                )));
            }
            hosts.push(host.clone());
        }
    }
    if let Some(gone) = present
        .organizations
        .keys()
        .find(|id| !wanted.organizations.contains_key(*id))
    {
        return Err(ApiError::bad_request(format!(
            "Organization '{gone}' is missing; organization/delete removes one with all it has"
        )));
    }
    let usable = wanted.admin_users.iter().any(|a| {
        a.organization_id.is_empty()
            // Another system may be out of reach.
            && a.external_authentication_source.is_empty()
            && (a.allow_password_login
                || (a.allow_password_and_totp_login && !a.totp_key.is_empty())
                || (a.allow_password_and_web_authn_login && !a.web_authn_registrations.is_empty()))
    });
    if !usable {
        return Err(ApiError::bad_request(
            "At least one administrator of the top level must be able to log in with a password of this server",
        ));
    }
    let actor = admin.name.clone();
    app.change_config(move |config| {
        // The hash of what the caller could know: a change since then would be lost.
        if *config != *present {
            return Err(ApiError::conflict(
                "The configuration was changed by somebody else; fetch it again",
            ));
        }
        let event = EventDraft {
            actor,
            organization: String::new(),
            resource: String::new(),
            kind: SEVT_SERVER_UPDATED,
            data: serde_json::to_value(shown(&wanted)).unwrap_or_default(),
        };
        *config = wanted;
        Ok(vec![event])
    })
    .await?;
    resources::clean(&app, &app.config());
    service::end(&app, &admin, Ending::Restart);
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminMetaServerConfigGet",
            "/api/v1/admin/meta/server-config/get",
            "Answers the whole configuration, passwords and secrets of administrators obscured.",
            get,
        ),
        Route::new(
            "AdminMetaServerConfigSet",
            "/api/v1/admin/meta/server-config/set",
            "Replaces the configuration, then restarts the server. Obscured secrets stay as they are; a password in clear has PasswordFormat 0.",
            set,
        ),
    ];
    all.into_iter()
        .map(|r| r.top_level().denied_if(|p| p.prevent_edit_server_settings))
        .collect()
}
