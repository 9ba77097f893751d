//! Where to copy to, as the configuration says it.

use crate::app::App;
use crate::secrets::{self, Confidential};
use crate::storage_templates::http::is_url;
use encke_api::constants::{
    REMOTESERVER_COMET, REMOTESERVER_COMET_STORAGE, REPLICADELETION_CIRCULAR, REPLICADELETION_COMPLETE,
    REPLICADELETION_NONE,
};
use encke_api::types::{ReplicaServer, ServerConfigOptions};
use encke_api::{ApiError, ApiResult};
use sha2::{Digest as _, Sha256};

/// Most servers that one part is copied to.
const MAX_TARGETS: usize = 16;
/// Longest address and description, in bytes.
const MAX_TEXT: usize = 2048;

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Accounts with what they are under: policies, groups, shared quotas.
    Accounts,
    /// Buckets with their contents.
    Storage,
}

/// What happens there to what is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    /// Nothing.
    None,
    /// What was copied and then deleted here is deleted there.
    Partial,
    /// All that is not here is deleted there.
    Complete,
}

/// A server to copy a part to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub part: Part,
    /// Made of the address and the name there, so that it is the same after a restart.
    pub id: String,
    pub description: String,
    /// Without a slash at the end.
    pub address: String,
    pub username: String,
    /// As it is kept.
    password: String,
    pub deletion: Deletion,
}

impl Target {
    fn of(part: Part, server: &ReplicaServer) -> Self {
        Self {
            part,
            id: id_of(server),
            description: server.description.clone(),
            address: server.remote_address.trim().trim_end_matches('/').to_string(),
            username: server.username.clone(),
            password: server.password.clone(),
            deletion: match server.replica_deletion_strategy.as_str() {
                REPLICADELETION_CIRCULAR => Deletion::Partial,
                REPLICADELETION_COMPLETE => Deletion::Complete,
                _ => Deletion::None,
            },
        }
    }

    /// The password in clear.
    ///
    /// # Errors
    /// 500 if it was wrapped with another server's key.
    pub(super) fn password(&self, app: &App) -> ApiResult<String> {
        let server = ReplicaServer {
            password: self.password.clone(),
            ..Default::default()
        };
        Ok(secrets::opened(&app.server_key, &self.id, &server)?.password)
    }
}

fn id_of(server: &ReplicaServer) -> String {
    let place = format!(
        "{}\n{}",
        server.remote_address.trim().trim_end_matches('/'),
        server.username
    );
    hex::encode(&Sha256::digest(place.as_bytes())[..16])
}

/// Everything there is to copy. A part whose role is switched off rests.
pub(super) fn targets(config: &ServerConfigOptions) -> Vec<Target> {
    let (auth, storage) = (&config.authentication_role, &config.storage_role);
    let parts = [
        (Part::Accounts, auth.role_enabled, &auth.replicate_to),
        (Part::Storage, storage.role_enabled, &storage.replicate_to),
    ];
    let on = parts.into_iter().filter(|(_, on, _)| *on);
    on.flat_map(|(part, _, servers)| servers.iter().map(move |s| Target::of(part, s)))
        .collect()
}

impl Confidential for ReplicaServer {
    const NAME: &'static str = "replication target";
    const PLACE: &'static str = "replica";

    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String)) {
        visit("Password", &mut self.password);
    }

    fn addresses(&self) -> Vec<&str> {
        vec![self.remote_address.trim().trim_end_matches('/'), &self.username]
    }
}

fn lists(config: &ServerConfigOptions) -> [(&'static str, &Vec<ReplicaServer>); 2] {
    [
        ("AuthenticationRole", &config.authentication_role.replicate_to),
        ("StorageRole", &config.storage_role.replicate_to),
    ]
}

/// Whether targets can be kept.
///
/// # Errors
/// 400 naming what is wrong.
pub(crate) fn check(config: &ServerConfigOptions) -> ApiResult<()> {
    let bad = |message: String| Err(ApiError::bad_request(message));
    for (role, servers) in lists(config) {
        if servers.len() > MAX_TARGETS {
            return bad(format!("{role}.ReplicateTo names at most {MAX_TARGETS} servers"));
        }
        for (i, server) in servers.iter().enumerate() {
            let name = format!("{role}.ReplicateTo '{}'", server.description);
            if !["", REMOTESERVER_COMET, REMOTESERVER_COMET_STORAGE].contains(&server.type_.as_str()) {
                return bad(format!("{name}: Type must be {REMOTESERVER_COMET}"));
            }
            if !is_url(&server.remote_address) || server.remote_address.len() > MAX_TEXT {
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
            let strategies = [
                "",
                REPLICADELETION_NONE,
                REPLICADELETION_CIRCULAR,
                REPLICADELETION_COMPLETE,
            ];
            if !strategies.contains(&server.replica_deletion_strategy.as_str()) {
                return bad(format!(
                    "{name}: ReplicaDeletionStrategy '{}' is unknown",
                    server.replica_deletion_strategy
                ));
            }
            if servers[..i].iter().any(|other| id_of(other) == id_of(server)) {
                return bad(format!("{role}.ReplicateTo names a server twice"));
            }
        }
    }
    Ok(())
}

/// Makes targets ready to leave the server.
pub(crate) fn hide(config: &mut ServerConfigOptions) {
    let lists = [
        &mut config.authentication_role.replicate_to,
        &mut config.storage_role.replicate_to,
    ];
    for server in lists.into_iter().flatten() {
        secrets::hide(server);
    }
}

/// Makes targets that somebody wrote ready to be kept in place of the present ones. A password that comes back obscured
/// stays, for the same address and name, whichever part it is given for.
///
/// # Errors
/// As [`secrets::adopt`].
pub(crate) fn adopt(
    app: &App,
    present: &ServerConfigOptions,
    wanted: &mut ServerConfigOptions,
) -> ApiResult<()> {
    let known: Vec<&ReplicaServer> = lists(present).into_iter().flat_map(|(_, l)| l).collect();
    let lists = [
        &mut wanted.authentication_role.replicate_to,
        &mut wanted.storage_role.replicate_to,
    ];
    for server in lists.into_iter().flatten() {
        let id = id_of(server);
        let old = known.iter().find(|k| id_of(k) == id).copied();
        secrets::adopt(&app.server_key, &id, old, server)?;
    }
    Ok(())
}
