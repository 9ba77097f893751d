//! Organizations (tenants): accounts, administrators, policies and settings that are apart from all others, chosen by
//! the host name that a client asks for (reference, section 9). They live inside the server configuration and change
//! without a restart.

mod export;

use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::constellation;
use crate::email;
use crate::secrets;
use crate::storage_templates;
use crate::table::{Call, Doc, Envelope, MapOf, Route, done};
use crate::webhooks;
use encke_api::constants::{
    SEVT_ACCOUNT_ADMIN_REMOVED, SEVT_TENANT_NEW, SEVT_TENANT_REMOVED, SEVT_TENANT_UPDATED,
};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::types::{
    Organization, OrganizationLoginURLResponse, OrganizationResponse, SelfBackupExportOptions,
    UninstallConfig,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::collections::remove_items_of_organization;
use encke_store::{
    EventDraft, ReportOwner, Scope, SessionKind, UsersOf, remove_mails_of_organization,
    remove_webhooks_of_organization,
};
use serde_json::Value;
use std::sync::Arc;

/// Most organizations on one server, so that the configuration stays small.
const MAX_ORGANIZATIONS: usize = 10_000;
/// Most host names of one organization.
const MAX_HOSTS: usize = 100;

params! {
    /// Parameters of `AdminOrganizationSet`.
    struct Set {
        /// Id of the organization; a new one is made if left out.
        OrganizationID: Option<String>,
        /// The whole organization.
        Organization: Option<Json<Organization>>
    }
}

params! {
    /// Parameters of `AdminOrganizationDelete`.
    struct Delete {
        /// Id of the organization.
        OrganizationID: Option<String>,
        /// Whether devices on line remove their software.
        UninstallConfig: Option<Json<UninstallConfig>>
    }
}

params! {
    /// Parameters of `AdminOrganizationExport`.
    struct Export {
        /// What to export and where to.
        Options: Json<SelfBackupExportOptions>
    }
}

params! {
    /// Parameters of `AdminDispatcherGetDefaultLoginUrl`.
    struct LoginUrl {
        /// Id of the organization; empty for the top level.
        OrganizationID: String
    }
}

fn event(kind: i64, actor: &str, id: &str, organization: &Organization) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: id.to_string(),
        resource: id.to_string(),
        kind,
        data: match kind {
            SEVT_TENANT_REMOVED => Value::Null,
            _ => event_data(organization),
        },
    }
}

/// The organization as events show it: its templates, mail server and webhooks hold secrets.
fn event_data(organization: &Organization) -> Value {
    let shown = Organization {
        name: organization.name.clone(),
        hosts: organization.hosts.clone(),
        is_suspended: organization.is_suspended,
        ..Default::default()
    };
    serde_json::to_value(&shown).unwrap_or_default()
}

/// Host names are compared in lower case, without scheme and port.
pub(crate) fn check_hosts(hosts: &mut [String]) -> ApiResult<()> {
    if hosts.len() > MAX_HOSTS {
        return Err(ApiError::bad_request(format!(
            "An organization has at most {MAX_HOSTS} host names"
        )));
    }
    for host in hosts {
        *host = host.trim().to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
            return Err(ApiError::bad_request(format!(
                "'{host}' is not a host name; give it without scheme and port"
            )));
        }
    }
    Ok(())
}

/// Makes an organization ready to leave the server.
pub(crate) fn hide_secrets(organization: &mut Organization) {
    organization.remote_storage = storage_templates::obscured(&organization.remote_storage);
    secrets::hide(&mut organization.email);
    constellation::hide(&mut organization.constellation_role);
    webhooks::hide(&mut organization.webhook_options);
}

/// Makes the secrets of an organization that somebody wrote ready to be kept in place of the present one's.
///
/// # Errors
/// 400 for an obscured secret that is not known.
pub(crate) fn adopt_secrets(
    app: &App,
    id: &str,
    present: Option<&Organization>,
    wanted: &mut Organization,
) -> ApiResult<()> {
    email::check(&wanted.email)?;
    email::adopt(app, id, present.map(|o| &o.email), &mut wanted.email)?;
    constellation::check_servers(&wanted.constellation_role)?;
    let cluster = present.map(|o| o.constellation_role.clone()).unwrap_or_default();
    constellation::adopt(app, &cluster, &mut wanted.constellation_role)?;
    webhooks::check(&wanted.webhook_options)?;
    crate::events::files::check(&wanted.audit_file_options)?;
    let hooks = present.map(|o| &o.webhook_options);
    webhooks::adopt(app, id, hooks, &mut wanted.webhook_options)?;
    let templates = present.map_or(&[][..], |o| &o.remote_storage);
    storage_templates::adopt(app, templates, &mut wanted.remote_storage)
}

async fn list(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<MapOf<Organization>> {
    let mut all = app.config().organizations.clone();
    all.values_mut().for_each(hide_secrets);
    Ok(MapOf(all))
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Doc<OrganizationResponse>> {
    let p = call.params;
    let wanted = p.OrganizationID.filter(|id| !id.is_empty());
    let id = match &wanted {
        Some(id) => {
            crate::policies::check_id(id)?;
            id.clone()
        }
        None => uuid::Uuid::new_v4().to_string(),
    };
    let mut organization = p.Organization.map(|o| o.0).unwrap_or_default();
    if organization.name.trim().is_empty() || organization.name.len() > crate::policies::MAX_DESCRIPTION {
        return Err(ApiError::bad_request(
            "An organization's name has 1 to 1024 bytes",
        ));
    }
    check_hosts(&mut organization.hosts)?;
    let suspended = organization.is_suspended;
    let mut answer = organization.clone();
    hide_secrets(&mut answer);
    let (handle, key, actor) = (app.clone(), id.clone(), admin.name.clone());
    app.change_config(move |config| {
        adopt_secrets(&handle, &key, config.organizations.get(&key), &mut organization)?;
        for (other, o) in &config.organizations {
            if let Some(taken) = o.hosts.iter().find(|h| organization.hosts.contains(h))
                && *other != key
            {
                return Err(ApiError::bad_request(format!(
                    "The host name '{taken}' belongs to another organization"
                )));
            }
        }
        let is_new = !config.organizations.contains_key(&key);
        if is_new && config.organizations.len() >= MAX_ORGANIZATIONS {
            return Err(ApiError::bad_request("There are too many organizations"));
        }
        let kind = if is_new {
            SEVT_TENANT_NEW
        } else {
            SEVT_TENANT_UPDATED
        };
        let happened = event(kind, &actor, &key, &organization);
        config.organizations.insert(key, organization);
        Ok(vec![happened])
    })
    .await?;
    if suspended {
        close_devices(&app, &id);
    }
    webhooks::changed(&app, None).await?;
    email::settings_changed(&app);
    Ok(Doc(OrganizationResponse {
        status: 200,
        message: "OK".into(),
        id,
        organization: answer,
        ..Default::default()
    }))
}

fn close_devices(app: &App, organization: &str) {
    for connection in app
        .live
        .list(&Scope::Organization(organization.to_string()), None)
    {
        connection.closing.cancel();
    }
}

fn known(app: &App, id: &str) -> ApiResult<Organization> {
    let found = app.config().organizations.get(id).cloned();
    found.ok_or_else(|| ApiError::not_found("There is no such organization"))
}

/// Removes an organization piece by piece. It is suspended first, so that nothing is added meanwhile; should the
/// server stop in between, the same call goes on where it stopped.
async fn delete(app: Arc<App>, admin: Admin, call: Call<Delete>) -> ApiResult<Envelope> {
    let p = call.params;
    crate::users::refuse_uninstall(p.UninstallConfig.as_ref())?;
    let id = p.OrganizationID.unwrap_or_default();
    if id.is_empty() {
        return Err(ApiError::bad_request("The top level can not be deleted"));
    }
    known(&app, &id)?;
    let key = id.clone();
    app.change_config(move |config| {
        if let Some(o) = config.organizations.get_mut(&key) {
            o.is_suspended = true;
        }
        Ok(Vec::new())
    })
    .await?;
    close_devices(&app, &id);
    let users = app
        .store
        .usernames_of(UsersOf::Organization(id.clone()))
        .await
        .map_err(store_error)?;
    for user in &users {
        match crate::users::remove(&app, &Scope::All, &admin.name, user).await {
            // Deleted meanwhile.
            Err(e) if e.status == 400 => {}
            other => other?,
        }
    }
    let organization = id.clone();
    app.store
        .write(move |tx| {
            remove_mails_of_organization(tx, &organization)?;
            remove_webhooks_of_organization(tx, &organization)?;
            remove_items_of_organization(tx, &organization)
        })
        .await
        .map_err(store_error)?;
    let admins: Vec<String> = app
        .config()
        .admin_users
        .iter()
        .filter(|a| a.organization_id == id)
        .map(|a| a.username.clone())
        .collect();
    for name in &admins {
        crate::auth::end_sessions_of(&app, &admin.name, SessionKind::Admin, name, &id).await?;
        let owner = ReportOwner {
            kind: SessionKind::Admin,
            name: name.clone(),
            organization: id.clone(),
        };
        app.store
            .delete_reports_of_owner(owner)
            .await
            .map_err(store_error)?;
    }
    let actor = admin.name.clone();
    app.change_config(move |config| {
        let Some(gone) = config.organizations.remove(&id) else {
            return Err(ApiError::not_found("There is no such organization"));
        };
        let removed = |a: &encke_api::types::AllowedAdminUser| EventDraft {
            actor: actor.clone(),
            organization: id.clone(),
            resource: a.username.clone(),
            kind: SEVT_ACCOUNT_ADMIN_REMOVED,
            data: Value::Null,
        };
        let mut events: Vec<EventDraft> = config
            .admin_users
            .iter()
            .filter(|a| a.organization_id == id)
            .map(removed)
            .collect();
        config.admin_users.retain(|a| a.organization_id != id);
        config
            .external_admin_user_sources
            .retain(|_, s| s.oidc.organization_id != id);
        events.push(event(SEVT_TENANT_REMOVED, &actor, &id, &gone));
        Ok(events)
    })
    .await?;
    Ok(done())
}

async fn export(app: Arc<App>, _: Admin, call: Call<Export>) -> ApiResult<Envelope> {
    export_of(&app, &call.params.Options.0).await?;
    Ok(done())
}

/// Writes what the organization of these options has into one file. Answers its bytes.
///
/// # Errors
/// There is no such organization, the options can not be met, or the folder can not be written.
pub(crate) async fn export_of(app: &App, options: &SelfBackupExportOptions) -> ApiResult<u64> {
    let organization = known(app, &options.restrict_to_single_org_id)?;
    export::export(app, options, &organization).await
}

/// The address that devices of an organization log in at.
///
/// # Errors
/// 400 where nothing tells one.
pub(crate) fn login_url_of(app: &App, id: &str) -> ApiResult<String> {
    let config = app.config();
    let (branding, host) = if id.is_empty() {
        (config.branding.clone(), None)
    } else {
        let organization = known(app, id)?;
        let host = organization.hosts.first().cloned();
        (organization.branding, host)
    };
    match host {
        _ if !branding.default_login_server_url.is_empty() => Ok(branding.default_login_server_url),
        Some(host) => Ok(format!("https://{host}/")),
        None if id.is_empty() => Ok(format!("{}/", app.local_url)),
        None => Err(ApiError::bad_request(
            "The organization has neither a host name nor a DefaultLoginServerURL",
        )),
    }
}

async fn login_url(
    app: Arc<App>,
    _: Admin,
    call: Call<LoginUrl>,
) -> ApiResult<Doc<OrganizationLoginURLResponse>> {
    Ok(Doc(OrganizationLoginURLResponse {
        login_url: login_url_of(&app, &call.params.OrganizationID)?,
        ..Default::default()
    }))
}

/// Endpoints of organizations.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminOrganizationList",
            "/api/v1/admin/organization/list",
            "Answers all organizations by id.",
            list,
        )
        .top_level(),
        Route::new(
            "AdminOrganizationSet",
            "/api/v1/admin/organization/set",
            "Saves an organization, or adds one. A suspended one locks out its administrators, users and devices.",
            set,
        )
        .top_level()
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminOrganizationDelete",
            "/api/v1/admin/organization/delete",
            "Deletes an organization with its accounts, administrators, policies, groups, quotas and news; buckets stay.",
            delete,
        )
        .top_level()
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminOrganizationExport",
            "/api/v1/admin/organization/export",
            "Writes what an organization (RestrictToSingleOrgID) has on this server as a ZIP file into a folder of the server.",
            export,
        )
        .top_level()
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminDispatcherGetDefaultLoginUrl",
            "/api/v1/admin/dispatcher/get-default-login-url",
            "Answers the address at which an organization's devices log in: the branding's, else its first host name's.",
            login_url,
        )
        .top_level()
        .roles(&[Role::Auth]),
    ]
}
