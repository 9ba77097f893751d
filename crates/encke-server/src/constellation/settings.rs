//! Which servers are asked, as the configuration says it.

use crate::app::App;
use crate::secrets::{self, Confidential};
use crate::storage_templates::http::is_url;
use encke_api::constants::REMOTESERVER_COMET;
use encke_api::types::{ConstellationRoleOptions, RemoteServerAddress, ServerConfigOptions};
use encke_api::{ApiError, ApiResult};
use sha2::{Digest as _, Sha256};

/// Most servers of a cluster.
const MAX_SERVERS: usize = 64;
/// Longest address and description, in bytes.
const MAX_TEXT: usize = 2048;

/// A server to ask.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Made of the address and the name there, so that it is the same after a restart.
    pub id: String,
    pub name: String,
    /// Without a slash at the end.
    pub address: String,
    server: RemoteServerAddress,
}

impl Target {
    fn of(server: &RemoteServerAddress) -> Self {
        let address = place_of(server).to_string();
        Self {
            id: id_of(server),
            name: match server.description.trim() {
                "" => address.clone(),
                name => name.to_string(),
            },
            address,
            server: server.clone(),
        }
    }

    pub(super) fn username(&self) -> &str {
        &self.server.username
    }

    /// The password in clear.
    ///
    /// # Errors
    /// 500 if it was wrapped with another server's key.
    pub(super) fn password(&self, app: &App) -> ApiResult<String> {
        Ok(secrets::opened(&app.server_key, &self.id, &self.server)?.password)
    }
}

fn place_of(server: &RemoteServerAddress) -> &str {
    server.remote_address.trim().trim_end_matches('/')
}

fn id_of(server: &RemoteServerAddress) -> String {
    let place = format!("{}\n{}", place_of(server), server.username);
    hex::encode(&Sha256::digest(place.as_bytes())[..16])
}

/// The servers that are asked beside this one.
pub(super) fn targets(options: &ConstellationRoleOptions) -> Vec<Target> {
    options.servers.iter().map(Target::of).collect()
}

impl Confidential for RemoteServerAddress {
    const NAME: &'static str = "server of the cluster";
    const PLACE: &'static str = "constellation";

    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String)) {
        // Only the first one is used; nobody shall find the others in clear, either.
        visit("Password", &mut self.password);
        visit("LDAP.BindPassword", &mut self.ldap.bind_password);
        visit("OIDC.ClientSecret", &mut self.oidc.client_secret);
        secrets::each_cloud_secret!(self, visit);
    }

    fn addresses(&self) -> Vec<&str> {
        vec![place_of(self), &self.username]
    }
}

/// Whether servers can be kept.
///
/// # Errors
/// 400 naming what is wrong.
pub(crate) fn check_servers(options: &ConstellationRoleOptions) -> ApiResult<()> {
    let bad = |message: String| Err(ApiError::bad_request(message));
    let servers = &options.servers;
    if servers.len() > MAX_SERVERS {
        return bad(format!("Servers names at most {MAX_SERVERS} servers"));
    }
    for (i, server) in servers.iter().enumerate() {
        let name = match server.description.trim() {
            "" => format!("Servers[{i}]"),
            name => format!("Servers '{name}'"),
        };
        if !["", REMOTESERVER_COMET].contains(&server.type_.as_str()) {
            return bad(format!(
                "{name}: Type '{}' can not be asked for its buckets; only {REMOTESERVER_COMET} can",
                server.type_
            ));
        }
        if !is_url(server.remote_address.trim()) || server.remote_address.len() > MAX_TEXT {
            return bad(format!("{name}: RemoteAddress is not an http or https address"));
        }
        if server.username.is_empty() || server.password.is_empty() {
            return bad(format!(
                "{name} needs Username and Password of an administrator of the top level there"
            ));
        }
        if server.description.len() > MAX_TEXT {
            return bad(format!("{name}: Description is too long"));
        }
        if servers[..i].iter().any(|other| id_of(other) == id_of(server)) {
            return bad(format!("{name} is named twice"));
        }
    }
    Ok(())
}

/// As [`check_servers`], of everything in a configuration but the tenants.
///
/// # Errors
/// 400 naming what is wrong.
pub(crate) fn check_all(config: &ServerConfigOptions) -> ApiResult<()> {
    check_servers(&config.constellation_role).map_err(|e| ApiError {
        message: format!("ConstellationRole.{}", e.message),
        ..e
    })
}

/// Makes the options ready to leave the server.
pub(crate) fn hide(options: &mut ConstellationRoleOptions) {
    options.servers.iter_mut().for_each(secrets::hide);
}

/// As [`hide`], of everything in a configuration but the tenants.
pub(crate) fn hide_all(config: &mut ServerConfigOptions) {
    hide(&mut config.constellation_role);
    hide(&mut config.overseer_role);
}

/// Makes options that somebody wrote ready to be kept in place of the present ones. A password that comes back obscured
/// stays, for the same address and name.
///
/// # Errors
/// As [`secrets::adopt`].
pub(crate) fn adopt(
    app: &App,
    present: &ConstellationRoleOptions,
    wanted: &mut ConstellationRoleOptions,
) -> ApiResult<()> {
    for server in &mut wanted.servers {
        let id = id_of(server);
        let old = present.servers.iter().find(|old| id_of(old) == id);
        secrets::adopt(&app.server_key, &id, old, server)?;
    }
    Ok(())
}

/// As [`adopt`], of everything in a configuration but the tenants.
///
/// # Errors
/// As [`adopt`].
pub(crate) fn adopt_all(
    app: &App,
    present: &ServerConfigOptions,
    wanted: &mut ServerConfigOptions,
) -> ApiResult<()> {
    adopt(app, &present.constellation_role, &mut wanted.constellation_role)?;
    // The name of before protocol 18.2.
    adopt(app, &present.overseer_role, &mut wanted.overseer_role)
}
