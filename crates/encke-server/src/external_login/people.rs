//! Who somebody of another system is here. The first log-in makes an administrator without a password, bound to the
//! source; administrators of this server win on the name (reference, section 23).

use super::{ldap, oidc, organization_of};
use crate::admins::{MAX_ADMINS, event, is_name};
use crate::app::{App, store_error};
use crate::auth::find_admin;
use encke_api::constants::SEVT_ACCOUNT_ADMIN_NEW;
use encke_api::types::{AllowedAdminUser, ExternalAuthenticationSource};
use encke_api::{ApiError, ApiResult};
use encke_store::StoreError;

/// The administrator of a directory's entry. The name is what the directory found it by: an entry that was moved or made
/// anew keeps the administrator.
pub(super) async fn admin_of_directory(
    app: &App,
    id: &str,
    source: &ExternalAuthenticationSource,
    person: ldap::Person,
) -> ApiResult<AllowedAdminUser> {
    let config = app.config();
    let organization = organization_of(source);
    let bound = app
        .store
        .external_admin(id, &person.dn)
        .await
        .map_err(store_error)?;
    if let Some(bound) = bound {
        return admin_named(app, id, source, &bound).await;
    }
    // Directories do not tell upper case from lower.
    let known = config.admin_users.iter().find(|a| {
        a.external_authentication_source == id
            && a.organization_id == organization
            && a.username.to_lowercase() == person.name.to_lowercase()
    });
    let name = known.map_or(person.name, |a| a.username.clone());
    bind(app, id, &person.dn, &name, true).await?;
    admin_named(app, id, source, &name).await
}

/// The administrator of a provider's account. Names may change there and come to others: the subject alone counts once
/// it is known.
pub(super) async fn admin_of_provider(
    app: &App,
    id: &str,
    source: &ExternalAuthenticationSource,
    person: oidc::Person,
) -> ApiResult<AllowedAdminUser> {
    let bound = app
        .store
        .external_admin(id, &person.subject)
        .await
        .map_err(store_error)?;
    if let Some(bound) = bound {
        return admin_named(app, id, source, &bound).await;
    }
    let config = app.config();
    let local = find_admin(&config.admin_users, &person.name, organization_of(source));
    if local.is_some_and(|a| a.external_authentication_source != id) {
        return Err(taken(&person.name));
    }
    bind(app, id, &person.subject, &person.name, false).await?;
    admin_named(app, id, source, &person.name).await
}

fn taken(name: &str) -> ApiError {
    ApiError::forbidden(format!("The name '{name}' is another administrator's here"))
}

async fn bind(app: &App, id: &str, subject: &str, name: &str, moved: bool) -> ApiResult<()> {
    if !is_name(name) {
        return Err(ApiError::forbidden(
            "The other system's name can not be a name here",
        ));
    }
    match app.store.bind_external_admin(id, subject, name, moved).await {
        Err(StoreError::Exists) => Err(taken(name)),
        other => other.map_err(store_error),
    }
}

/// The administrator of this name, made if there is none.
async fn admin_named(
    app: &App,
    id: &str,
    source: &ExternalAuthenticationSource,
    name: &str,
) -> ApiResult<AllowedAdminUser> {
    let organization = organization_of(source);
    let own = |a: &AllowedAdminUser| {
        if a.external_authentication_source == id {
            Ok(a.clone())
        } else {
            Err(taken(name))
        }
    };
    if let Some(found) = find_admin(&app.config().admin_users, name, organization) {
        return own(found);
    }
    let admin = AllowedAdminUser {
        username: name.to_string(),
        organization_id: organization.to_string(),
        external_authentication_source: id.to_string(),
        // The other system's word is enough until a second factor is asked for.
        allow_password_login: true,
        permissions: source.new_user_permissions.clone(),
        ..Default::default()
    };
    let (new, source_id) = (admin.clone(), id.to_string());
    app.change_config(move |config| {
        // Made by another log-in at the same time.
        if find_admin(&config.admin_users, &new.username, &new.organization_id).is_some() {
            return Ok(Vec::new());
        }
        if config.admin_users.len() >= MAX_ADMINS {
            return Err(ApiError::forbidden("There are too many administrators"));
        }
        if !config.external_admin_user_sources.contains_key(&source_id)
            || !new.organization_id.is_empty() && !config.organizations.contains_key(&new.organization_id)
        {
            return Err(ApiError::unauthorised());
        }
        let events = vec![event(SEVT_ACCOUNT_ADMIN_NEW, &new.username, &new)];
        config.admin_users.push(new);
        Ok(events)
    })
    .await?;
    find_admin(&app.config().admin_users, name, organization).map_or(Err(ApiError::unauthorised()), own)
}
