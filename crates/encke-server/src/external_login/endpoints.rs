//! The list of sources: what it may hold, and the calls that change it.

use super::{ldap, oidc, organization_of};
use crate::app::App;
use crate::auth::Admin;
use crate::secrets;
use crate::table::{Call, Doc, Envelope, MapOf, Route, done};
use encke_api::constants::{REMOTESERVER_LDAP, REMOTESERVER_OIDC};
use encke_api::form::{Json, NoParams};
use encke_api::types::{
    AdminUserPermissions, ExternalAuthenticationSource, ExternalAuthenticationSourceResponse,
    ServerConfigOptions,
};
use encke_api::{ApiError, ApiResult, params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most sources on one server.
const MAX_SOURCES: usize = 1_000;

type Sources = BTreeMap<String, ExternalAuthenticationSource>;

params! {
    /// Parameters of `AdminExternalAuthSourcesDelete`.
    struct Delete {
        /// Id of the source.
        SourceID: String
    }
}

params! {
    /// Parameters of `AdminExternalAuthSourcesNew`.
    struct New {
        /// The whole source.
        Source: Json<ExternalAuthenticationSource>,
        /// Its id; a new one is made if left out.
        SourceID: Option<String>
    }
}

params! {
    /// Parameters of `AdminExternalAuthSourcesSet`.
    struct Set {
        /// All sources by id.
        Sources: Json<BTreeMap<String, ExternalAuthenticationSource>>
    }
}

params! {
    /// Parameters of `EnckeExternalAuthSourceTest`.
    struct Test {
        /// The whole source.
        Source: Json<ExternalAuthenticationSource>,
        /// Id of the saved source whose secrets the obscured ones stand for.
        SourceID: Option<String>,
        /// A name to log in with, for a directory.
        TestUser: Option<String>,
        /// Its password.
        TestPassword: Option<String>
    }
}

/// Sources as they leave the server.
pub(crate) fn obscured_all(sources: &Sources) -> Sources {
    sources
        .iter()
        .map(|(id, s)| (id.clone(), secrets::obscured(s)))
        .collect()
}

/// Makes sources that somebody wrote ready to be kept in place of `present`.
///
/// # Errors
/// As [`secrets::adopt`].
pub(crate) fn adopt_all(app: &App, present: &Sources, wanted: &mut Sources) -> ApiResult<()> {
    for (id, source) in wanted {
        secrets::adopt(&app.server_key, id, present.get(id), source)?;
    }
    Ok(())
}

/// Refuses sources that could not work.
///
/// # Errors
/// 400 saying which and why.
pub(crate) fn check_all(config: &ServerConfigOptions, sources: &Sources) -> ApiResult<()> {
    if sources.len() > MAX_SOURCES {
        return Err(ApiError::bad_request(format!(
            "There are at most {MAX_SOURCES} sources"
        )));
    }
    for (id, source) in sources {
        crate::policies::check_id(id)?;
        check(source).map_err(|why| ApiError::bad_request(format!("The log-in source '{id}': {why}")))?;
        let organization = organization_of(source);
        if !organization.is_empty() && !config.organizations.contains_key(organization) {
            return Err(ApiError::bad_request(format!(
                "The log-in source '{id}' is for an organization that does not exist"
            )));
        }
    }
    Ok(())
}

fn check(source: &ExternalAuthenticationSource) -> Result<(), String> {
    match source.type_.as_str() {
        REMOTESERVER_LDAP => ldap::check(&source.ldap),
        REMOTESERVER_OIDC => oidc::check(&source.oidc),
        other => Err(format!("Type '{other}' is neither ldap nor oidc")),
    }
}

/// What is granted to those who log in by a source must be the own: else one could make oneself a stronger twin.
fn check_grants(
    admin: &Admin,
    present: Option<&ExternalAuthenticationSource>,
    wanted: &ExternalAuthenticationSource,
) -> ApiResult<()> {
    let (own, new) = (&admin.permissions, &wanted.new_user_permissions);
    if present.is_some_and(|p| p.new_user_permissions == *new) || !exceeds(own, new, &admin.organization) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "NewUserPermissions would allow more than your own permissions do",
    ))
}

fn exceeds(own: &AdminUserPermissions, new: &AdminUserPermissions, organization: &str) -> bool {
    let denying: [fn(&AdminUserPermissions) -> bool; 12] = [
        |p| p.prevent_edit_server_settings,
        |p| p.prevent_server_shutdown,
        |p| p.prevent_change_password,
        |p| p.deny_constellation_role,
        |p| p.deny_view_server_history,
        |p| p.deny_view_server_info,
        |p| p.deny_software_build_role,
        |p| p.prevent_delete_storage_vault,
        |p| p.prevent_request_storage_vault,
        |p| p.prevent_add_custom_storage_vault,
        |p| p.hide_cloud_storage_branding,
        |p| p.should_restrict_provider_list,
    ];
    let granting: [fn(&AdminUserPermissions) -> bool; 5] = [
        |p| p.allow_edit_branding,
        |p| p.allow_edit_email_options,
        |p| p.allow_edit_remote_storage,
        |p| p.allow_edit_webhooks,
        |p| p.allow_edit_external_auth_sources,
    ];
    denying.iter().any(|flag| flag(own) && !flag(new))
        // At the top level nothing has to be granted.
        || !organization.is_empty() && granting.iter().any(|flag| flag(new) && !flag(own))
        || own.should_restrict_provider_list
            && !new
                .allowed_providers_when_restricted
                .iter()
                .all(|p| own.allowed_providers_when_restricted.contains(p))
        || !own.allowed_user_policies.is_empty()
            && (new.allowed_user_policies.is_empty()
                || !new.allowed_user_policies.iter().all(|p| own.allowed_user_policies.contains(p)))
}

/// Whether a source is one of those that an administrator sees and changes.
fn is_own(admin: &Admin, source: &ExternalAuthenticationSource) -> bool {
    admin.organization.is_empty() || organization_of(source) == admin.organization
}

/// A tenant's administrators make sources for their own organization alone.
fn place(admin: &Admin, source: &mut ExternalAuthenticationSource) -> ApiResult<()> {
    if admin.organization.is_empty() {
        return Ok(());
    }
    let organization = &mut source.oidc.organization_id;
    if !organization.is_empty() && *organization != admin.organization {
        return Err(ApiError::forbidden("This is another organization"));
    }
    organization.clone_from(&admin.organization);
    Ok(())
}

async fn get(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<MapOf<ExternalAuthenticationSource>> {
    let mut all = obscured_all(&app.config().external_admin_user_sources);
    all.retain(|_, s| is_own(&admin, s));
    Ok(MapOf(all))
}

/// Puts sources into the configuration; with `whole`, those of the caller's that are not among them go.
async fn put(app: &Arc<App>, admin: Admin, mut wanted: Sources, whole: bool) -> ApiResult<()> {
    for source in wanted.values_mut() {
        place(&admin, source)?;
    }
    let handle = app.clone();
    app.change_config(move |config| {
        let present = std::mem::take(&mut config.external_admin_user_sources);
        for (id, source) in &wanted {
            let old = present.get(id);
            if old.is_some_and(|old| !is_own(&admin, old)) {
                return Err(ApiError::forbidden(format!("The id '{id}' is taken")));
            }
            check_grants(&admin, old, source)?;
        }
        adopt_all(&handle, &present, &mut wanted)?;
        let mut all = present;
        if whole {
            all.retain(|_, s| !is_own(&admin, s));
        }
        all.extend(wanted);
        check_all(config, &all)?;
        config.external_admin_user_sources = all;
        Ok(Vec::new())
    })
    .await
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    put(&app, admin, call.params.Sources.0, true).await?;
    Ok(done())
}

async fn new(
    app: Arc<App>,
    admin: Admin,
    call: Call<New>,
) -> ApiResult<Doc<ExternalAuthenticationSourceResponse>> {
    let id = call.params.SourceID.filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    if app.config().external_admin_user_sources.contains_key(&id) {
        return Err(ApiError::new(409, format!("The id '{id}' is taken")));
    }
    put(&app, admin, [(id.clone(), call.params.Source.0)].into(), false).await?;
    let config = app.config();
    let kept = config.external_admin_user_sources.get(&id);
    Ok(Doc(ExternalAuthenticationSourceResponse {
        status: 200,
        message: "OK".into(),
        source: kept.map(secrets::obscured).unwrap_or_default(),
        id,
        ..Default::default()
    }))
}

async fn delete(app: Arc<App>, admin: Admin, call: Call<Delete>) -> ApiResult<Envelope> {
    let id = call.params.SourceID;
    app.change_config(move |config| {
        let found = config.external_admin_user_sources.get(&id);
        if !found.is_some_and(|s| is_own(&admin, s)) {
            return Err(ApiError::not_found("There is no such log-in source"));
        }
        config.external_admin_user_sources.remove(&id);
        Ok(Vec::new())
    })
    .await?;
    Ok(done())
}

/// Asks the other system whether it can be used as a source says.
async fn test(app: Arc<App>, admin: Admin, call: Call<Test>) -> ApiResult<Envelope> {
    let p = call.params;
    let mut source = p.Source.0;
    place(&admin, &mut source)?;
    check(&source).map_err(ApiError::bad_request)?;
    let config = app.config();
    let id = p.SourceID.unwrap_or_default();
    let saved = config.external_admin_user_sources.get(&id);
    secrets::adopt(
        &app.server_key,
        &id,
        saved.filter(|s| is_own(&admin, s)),
        &mut source,
    )?;
    let source = secrets::opened(&app.server_key, &id, &source)?;
    let _permit = app
        .external
        .gate
        .acquire()
        .await
        .map_err(|_| ApiError::internal())?;
    let failed = |why: String| ApiError::new(502, why);
    if source.type_ == REMOTESERVER_OIDC {
        oidc::discover(&source.oidc)
            .await
            .map_err(|e| failed(e.to_string()))?;
        return Ok(done());
    }
    let name = p.TestUser.unwrap_or_default();
    if name.is_empty() {
        ldap::try_out(&source.ldap)
            .await
            .map_err(|e| failed(e.to_string()))?;
        return Ok(done());
    }
    let password = p.TestPassword.unwrap_or_default();
    // Whoever may change sources must not guess passwords by this call either.
    crate::auth::throttled(&app, &call.origin, &name, async {
        match ldap::log_in(&source.ldap, &name, &password).await {
            Ok(_) => Ok(done()),
            Err(ldap::Failure::Refused(why)) => Err(ApiError::forbidden(why)),
            Err(ldap::Failure::Unavailable(why)) => Err(failed(why)),
        }
    })
    .await
}

/// Endpoints of the list of sources.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminExternalAuthSourcesGet",
            "/api/v1/admin/external-auth-sources/get",
            "Answers the systems that administrators can log in by, secrets obscured: all of them for the top level, an organization's own (OIDC.OrganizationID, for a directory too) for its administrators.",
            get,
        ),
        Route::new(
            "AdminExternalAuthSourcesSet",
            "/api/v1/admin/external-auth-sources/set",
            "Replaces all systems that the caller sees; in force at once. Obscured secrets stay as they are. Administrators of a source that is gone can not log in.",
            set,
        ),
        Route::new(
            "AdminExternalAuthSourcesNew",
            "/api/v1/admin/external-auth-sources/new",
            "Adds a system that administrators can log in by.",
            new,
        ),
        Route::new(
            "AdminExternalAuthSourcesDelete",
            "/api/v1/admin/external-auth-sources/delete",
            "Removes a system; its administrators stay in the list and can not log in.",
            delete,
        ),
        Route::new(
            "EnckeExternalAuthSourceTest",
            "/api/encke/v1/external-auth-sources/test",
            "Asks a directory or provider whether it can be used with these settings, saved or not; a directory also whether it lets TestUser in with TestPassword. 502 with what it said, 403 when it refuses the name or the password.",
            test,
        ),
    ];
    all.into_iter()
        .map(|r| {
            r.granted_if(|p| p.allow_edit_external_auth_sources)
                .denied_if(|p| p.prevent_edit_server_settings)
        })
        .collect()
}
