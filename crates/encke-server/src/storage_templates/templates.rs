//! The list of templates of an organization.

use super::{kind_name, obscured, of_organization, provision, secrets};
use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::policies::{MAX_DESCRIPTION, check_id};
use crate::table::{Call, Envelope, ListOf, Route, done};
use encke_api::form::{Json, NoParams};
use encke_api::types::RemoteStorageOption;
use encke_api::{ApiError, ApiResult, params};
use encke_store::Scope;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Most templates of one organization.
const MAX_TEMPLATES: usize = 1000;

params! {
    /// Parameters of `AdminMetaRemoteStorageVaultSet`.
    struct Set {
        /// All templates. One without an ID gets one; a secret shown as `********` stays as it is.
        RemoteStorageOptions: Json<Vec<RemoteStorageOption>>,
        /// Template that takes the place of those that are left out, in the accounts whose AutoStorageTemplateGUID names them. Without it such accounts have none any more.
        ReplacementAutoVaultID: Option<String>
    }
}

params! {
    /// Parameters of `AdminMetaRemoteStorageVaultTest`.
    struct Test {
        /// The template. A secret shown as `********` is taken from the saved template of the same ID.
        TemplateOptions: Json<RemoteStorageOption>
    }
}

async fn get(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<ListOf<RemoteStorageOption>> {
    Ok(ListOf(obscured(of_organization(
        &app.config(),
        &admin.organization,
    ))))
}

fn check(templates: &[RemoteStorageOption]) -> ApiResult<()> {
    if templates.len() > MAX_TEMPLATES {
        return Err(ApiError::bad_request(format!(
            "At most {MAX_TEMPLATES} storage templates are allowed"
        )));
    }
    let mut ids = BTreeSet::new();
    for template in templates {
        if kind_name(&template.type_).is_none() {
            return Err(ApiError::bad_request(format!(
                "'{}' is not a Type of storage template",
                template.type_
            )));
        }
        if template.description.len() > MAX_DESCRIPTION {
            return Err(ApiError::bad_request(
                "The Description of a storage template is too long",
            ));
        }
        if template.storage_limit_bytes < 0 {
            return Err(ApiError::bad_request("StorageLimitBytes must not be negative"));
        }
        if !template.id.is_empty() {
            check_id(&template.id)?;
            if !ids.insert(&template.id) {
                return Err(ApiError::bad_request(format!(
                    "The ID '{}' stands in the list twice",
                    template.id
                )));
            }
        }
    }
    if templates.iter().filter(|t| t.default).count() > 1 {
        return Err(ApiError::bad_request(
            "At most one storage template can be the default",
        ));
    }
    Ok(())
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let wanted = call.params.RemoteStorageOptions.0;
    check(&wanted)?;
    let replacement = call.params.ReplacementAutoVaultID.unwrap_or_default();
    if !replacement.is_empty() && !wanted.iter().any(|t| t.id == replacement) {
        return Err(ApiError::bad_request(
            "ReplacementAutoVaultID is not in the list of templates",
        ));
    }
    let before: BTreeSet<String> = of_organization(&app.config(), &admin.organization)
        .iter()
        .map(|t| t.id.clone())
        .collect();
    let (handle, organization) = (app.clone(), admin.organization.clone());
    let mut list = wanted.clone();
    app.change_config(move |config| {
        secrets::adopt(&handle, of_organization(config, &organization), &mut list)?;
        if organization.is_empty() {
            config.authentication_role.remote_storage = list;
        } else {
            let own = config.organizations.get_mut(&organization);
            own.ok_or_else(ApiError::unauthorised)?.remote_storage = list;
        }
        Ok(Vec::new())
    })
    .await?;
    let gone: BTreeSet<String> = before
        .into_iter()
        .filter(|id| !id.is_empty() && !wanted.iter().any(|t| t.id == *id))
        .collect();
    replace_in_accounts(&app, &admin, gone, &replacement).await?;
    Ok(done())
}

/// Names another template in the accounts of the caller's organization that name one that is gone.
async fn replace_in_accounts(
    app: &App,
    admin: &Admin,
    gone: BTreeSet<String>,
    replacement: &str,
) -> ApiResult<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let named = gone.clone();
    // Read as text first: few accounts name a template.
    let users = app
        .store
        .each_profile(&admin.scope(), Vec::new(), move |found, name, body| {
            if named.iter().any(|id| body.contains(id.as_str())) {
                found.push(name.to_string());
            }
            ControlFlow::Continue(())
        })
        .await
        .map_err(store_error)?;
    for user in users {
        let organization = admin.organization.clone();
        let changed = crate::users::change_within(app, &Scope::All, &admin.name, &user, None, |profile| {
            if profile.organization_id == organization && gone.contains(&profile.auto_storage_template_guid) {
                profile.auto_storage_template_guid = replacement.to_string();
            }
            Ok(())
        });
        match changed.await {
            // Deleted meanwhile.
            Err(e) if e.status == 400 => {}
            other => {
                other?;
            }
        }
    }
    Ok(())
}

async fn test(app: Arc<App>, admin: Admin, call: Call<Test>) -> ApiResult<Envelope> {
    let mut template = [call.params.TemplateOptions.0];
    check(&template)?;
    let config = app.config();
    secrets::adopt(&app, of_organization(&config, &admin.organization), &mut template)?;
    let [template] = template;
    provision::test(&app, &admin.name, &admin.organization, &template).await?;
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminMetaRemoteStorageVaultGet",
            "/api/v1/admin/meta/remote-storage-vault/get",
            "Answers the storage templates of the caller's organization, secrets obscured.",
            get,
        ),
        Route::new(
            "AdminMetaRemoteStorageVaultSet",
            "/api/v1/admin/meta/remote-storage-vault/set",
            "Replaces the storage templates of the caller's organization; in force at once. Vaults that were made stay. A template of Type 'comet' without RemoteAddress stands for this server's own Storage Role.",
            set,
        ),
        Route::new(
            "AdminMetaRemoteStorageVaultTest",
            "/api/v1/admin/meta/remote-storage-vault/test",
            "Makes a place by a template, saved or not, looks whether it can be reached, and takes it away again. The service behind a template of Type 'custom' is called as for a vault, and keeps what it made.",
            test,
        ),
    ];
    all.into_iter()
        .map(|r| {
            r.granted_if(|p| p.allow_edit_remote_storage)
                .denied_if(|p| p.prevent_edit_server_settings)
        })
        .collect()
}
