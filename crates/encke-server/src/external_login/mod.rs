//! Log-in of administrators by other systems (reference, section 23): directories ([`ldap`]), whose passwords work as
//! those of this server do, and OpenID Connect providers ([`oidc`]), to which the browser goes and comes back
//! ([`browser`]). Whoever gets in the first time becomes an administrator without a password of its own ([`people`]).
//!
//! The organization that a source is for is its `OIDC.OrganizationID`, a directory's too; empty for the top level.

mod browser;
mod endpoints;
mod ldap;
mod oidc;
mod people;

pub use browser::router;
pub use endpoints::routes;
pub(crate) use endpoints::{adopt_all, check_all, obscured_all};

use crate::app::App;
use crate::secrets::{self, Confidential};
use encke_api::constants::{REMOTESERVER_LDAP, REMOTESERVER_OIDC};
use encke_api::types::{
    AllowedAdminUser, ExternalAuthenticationSource, ExternalAuthenticationSourceDisplay, ServerConfigOptions,
};
use encke_api::{ApiError, ApiResult};
use openidconnect::core::CoreProviderMetadata;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Path of everything that browsers call.
pub(crate) const PATH: &str = "/external-login";
/// Passwords that a directory confirmed, remembered at once.
const REMEMBERED: u64 = 10_000;
/// How long a directory's word holds: SDKs send the password with each call, and whoever is locked out there must be
/// locked out here soon.
const REMEMBER_FOR: Duration = Duration::from_secs(60);
/// How long what a provider says of itself holds for the way there; for the way back it is asked anew.
const METADATA_FOR: Duration = Duration::from_secs(60);
/// Questions to other systems at once.
const AT_ONCE: usize = 32;

/// What is remembered of other systems.
pub struct External {
    confirmed: moka::sync::Cache<[u8; 32], String>,
    metadata: moka::sync::Cache<String, Arc<CoreProviderMetadata>>,
    gate: Semaphore,
}

impl Default for External {
    fn default() -> Self {
        let confirmed = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(REMEMBER_FOR)
            .build();
        let metadata = moka::sync::Cache::builder()
            .max_capacity(100)
            .time_to_live(METADATA_FOR)
            .build();
        Self {
            confirmed,
            metadata,
            gate: Semaphore::new(AT_ONCE),
        }
    }
}

impl Confidential for ExternalAuthenticationSource {
    const NAME: &'static str = "log-in source";
    const PLACE: &'static str = "external-login";

    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String)) {
        visit("Password", &mut self.password);
        visit("OIDC.ClientSecret", &mut self.oidc.client_secret);
        // The password of whoever logs in is no secret of ours.
        if self.ldap.bind_password != ldap::PASS {
            visit("LDAP.BindPassword", &mut self.ldap.bind_password);
        }
    }

    fn addresses(&self) -> Vec<&str> {
        let mut all: Vec<&str> = vec![
            &self.type_,
            &self.oidc.provider,
            &self.oidc.discovery_document_url,
            &self.oidc.azure_tenant_id,
            &self.ldap.hostname,
            &self.ldap.security_method,
            if self.ldap.accept_invalid_ssl {
                "any certificate"
            } else {
                ""
            },
        ];
        for server in &self.ldap.fallback_servers {
            all.extend([server.hostname.as_str(), &server.security_method]);
            all.push(if server.accept_invalid_ssl {
                "any certificate"
            } else {
                ""
            });
        }
        all
    }
}

/// The organization that a source is for.
fn organization_of(source: &ExternalAuthenticationSource) -> &str {
    &source.oidc.organization_id
}

/// The sources of a kind for an organization, by id.
fn sources<'a>(
    config: &'a ServerConfigOptions,
    kind: &'static str,
    organization: &'a str,
) -> impl Iterator<Item = (&'a String, &'a ExternalAuthenticationSource)> {
    config
        .external_admin_user_sources
        .iter()
        .filter(move |(_, s)| s.type_ == kind && organization_of(s) == organization)
}

/// Whether an administrator is of this server alone, or of a source that is still there.
pub(crate) fn is_known(config: &ServerConfigOptions, admin: &AllowedAdminUser) -> bool {
    let id = &admin.external_authentication_source;
    id.is_empty()
        || config
            .external_admin_user_sources
            .get(id)
            .is_some_and(|s| organization_of(s) == admin.organization_id)
}

/// The buttons of a host's log-in page.
pub(crate) fn displayed(app: &App, host: &str) -> Vec<ExternalAuthenticationSourceDisplay> {
    let Some(organization) = crate::auth::organization_of_host(app, host) else {
        return Vec::new();
    };
    sources(&app.config(), REMOTESERVER_OIDC, &organization)
        .filter(|(_, s)| is_shown_at(s, host))
        .map(|(id, s)| ExternalAuthenticationSourceDisplay {
            display_name: s.oidc.display_name.clone(),
            login_start_url: format!("{PATH}/{id}"),
            ..Default::default()
        })
        .collect()
}

/// Whether a source's button stands on the log-in page of this host of its organization.
fn is_shown_at(source: &ExternalAuthenticationSource, host: &str) -> bool {
    let hosts = &source.oidc.hosts;
    hosts.is_empty() || hosts.iter().any(|h| h.trim().eq_ignore_ascii_case(host))
}

/// Whether the source that an administrator comes from says that this is the password.
///
/// # Errors
/// 503 when it can not be asked.
pub(crate) async fn confirms(app: &App, admin: &AllowedAdminUser, password: &str) -> ApiResult<bool> {
    let config = app.config();
    let id = &admin.external_authentication_source;
    let source = config.external_admin_user_sources.get(id);
    let Some(source) = source.filter(|s| s.type_ == REMOTESERVER_LDAP && is_known(&config, admin)) else {
        // Takes as long as a wrong password of this server.
        app.passwords.waste_time(password).await;
        return Ok(false);
    };
    let found = ask_directory(app, id, source, &admin.username, password).await?;
    Ok(found.is_some_and(|a| a.username == admin.username))
}

/// The administrator whom a directory of this organization knows by this name and password, made at the first time.
///
/// While a directory can not be asked, only somebody whom it let in before is told so. Any other name is as unknown as
/// it would be without the directory: a client with a wrong name must not be told to try again, and nobody learns from
/// the outage which names this server has.
///
/// # Errors
/// 503 when a directory that this name came from can not be asked; 403 when the name is another administrator's.
pub(crate) async fn by_directory(
    app: &App,
    organization: &str,
    name: &str,
    password: &str,
) -> ApiResult<Option<AllowedAdminUser>> {
    let config = app.config();
    let mut failed = None;
    for (id, source) in sources(&config, REMOTESERVER_LDAP, organization) {
        match ask_directory(app, id, source, name, password).await {
            Ok(Some(admin)) => return Ok(Some(admin)),
            Ok(None) => {}
            Err(e) if e.status == 503 && !has_come(&config, id, name) => {}
            Err(e) => failed = Some(e),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Whether somebody of this name, however written, came from a source before.
fn has_come(config: &ServerConfigOptions, source: &str, name: &str) -> bool {
    let name = name.trim().to_lowercase();
    let mut admins = config.admin_users.iter();
    admins.any(|a| a.external_authentication_source == source && a.username.to_lowercase() == name)
}

async fn ask_directory(
    app: &App,
    id: &str,
    source: &ExternalAuthenticationSource,
    name: &str,
    password: &str,
) -> ApiResult<Option<AllowedAdminUser>> {
    // Whatever is changed about the source, its word is asked for again.
    let settings = serde_json::to_string(source).map_err(|_| ApiError::internal())?;
    let digest = app
        .passwords
        .digest(&format!("{id}\0{name}\0{settings}"), password);
    let config = app.config();
    if let Some(known) = app.external.confirmed.get(&digest)
        && let Some(admin) = crate::auth::find_admin(&config.admin_users, &known, organization_of(source))
            .filter(|a| a.external_authentication_source == id)
    {
        return Ok(Some(admin.clone()));
    }
    let open = secrets::opened(&app.server_key, id, source)?;
    let _permit = app
        .external
        .gate
        .acquire()
        .await
        .map_err(|_| ApiError::internal())?;
    match ldap::log_in(&open.ldap, name, password).await {
        Ok(person) => {
            let admin = people::admin_of_directory(app, id, source, person).await?;
            app.external.confirmed.insert(digest, admin.username.clone());
            Ok(Some(admin))
        }
        Err(ldap::Failure::Refused(why)) => {
            tracing::info!(source = id, reason = why, "a directory refused a log-in");
            Ok(None)
        }
        Err(ldap::Failure::Unavailable(why)) => {
            tracing::error!(source = id, error = why, "a directory can not be asked");
            Err(ApiError::new(
                503,
                "The directory that knows administrators can not be asked now",
            ))
        }
    }
}
