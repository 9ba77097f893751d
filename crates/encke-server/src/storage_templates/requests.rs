//! Asking for a Storage Vault by a template.

use super::provision::{self, Order, Undo, destination_type, is_made};
use super::{http, of_organization};
use crate::app::{App, now, store_error};
use crate::auth::{Admin, User};
use crate::table::{Call, Doc, MapOf, Route};
use crate::users::{change_within, profile_of};
use encke_api::endpoint::Role;
use encke_api::form::NoParams;
use encke_api::types::{
    DestinationConfig, DestinationLocation, RemoteStorageOption, RequestStorageVaultResponseMessage,
    UserProfileConfig,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{Scope, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

params! {
    /// Parameters of `AdminRequestStorageVault`.
    struct Request {
        /// Account name.
        TargetUser: String,
        /// ID of a storage template of the account's organization.
        StorageProvider: String,
        /// Address of this server that goes into a vault on its own Storage Role, unless the branding's DefaultLoginServerURL names one.
        SelfAddress: Option<String>,
        /// Device of the account that the vault is shown for; all of them if left out.
        DeviceID: Option<String>,
        /// Hash of the profile that the request is based on; without it whatever was changed meanwhile stays.
        ProfileHash: Option<String>
    }
}

params! {
    /// Parameters of `UserWebRequestStorageVault`.
    struct OwnRequest {
        /// ID of a storage template of the caller's organization.
        StorageProvider: String,
        /// Address of this server that goes into a vault on its own Storage Role, unless the branding's DefaultLoginServerURL names one.
        SelfAddress: Option<String>,
        /// Device of the account that the vault is shown for; all of them if left out.
        DeviceID: Option<String>,
        /// Hash of the profile that the request is based on; without it whatever was changed meanwhile stays.
        ProfileHash: Option<String>
    }
}

params! {
    /// Parameters of `AdminRequestStorageVaultProviders`.
    struct Providers {
        /// Organization whose templates are answered; only for administrators of the top level.
        TargetOrganization: Option<String>
    }
}

/// What a caller may ask for.
enum May {
    Nothing,
    Everything,
    /// Templates whose vaults are of one of these types. What type the custom kind makes is not known before.
    Types(Vec<u64>),
}

impl May {
    fn of_admin(admin: &Admin) -> Self {
        let p = &admin.permissions;
        if p.should_restrict_provider_list {
            May::Types(p.allowed_providers_when_restricted.clone())
        } else {
            May::Everything
        }
    }

    fn of_user(profile: &UserProfileConfig) -> Self {
        let providers = &profile.policy.storage_vault_providers;
        if profile.policy.prevent_request_storage_vault {
            May::Nothing
        } else if providers.should_restrict_provider_list {
            May::Types(providers.allowed_providers_when_restricted.clone())
        } else {
            May::Everything
        }
    }

    fn have(&self, template: &RemoteStorageOption) -> bool {
        match self {
            May::Nothing => false,
            May::Everything => true,
            May::Types(types) => destination_type(&template.type_).is_some_and(|t| types.contains(&t)),
        }
    }
}

/// The templates of an organization that can be asked for, with their names.
fn offered(app: &App, organization: &str, may: &May) -> MapOf<String> {
    let config = app.config();
    let all = of_organization(&config, organization);
    let usable = all.iter().filter(|t| is_made(&t.type_) && may.have(t));
    MapOf(
        usable
            .map(|t| (t.id.clone(), t.description.clone()))
            .collect::<BTreeMap<_, _>>(),
    )
}

async fn providers(app: Arc<App>, admin: Admin, call: Call<Providers>) -> ApiResult<MapOf<String>> {
    let organization = match call.params.TargetOrganization {
        None => admin.organization.clone(),
        Some(wanted) if wanted == admin.organization => wanted,
        Some(_) if !admin.organization.is_empty() => {
            return Err(ApiError::forbidden(
                "Only an administrator of the top level can choose the organization",
            ));
        }
        Some(wanted) if app.config().organizations.contains_key(&wanted) => wanted,
        Some(_) => return Err(ApiError::bad_request("There is no such organization")),
    };
    Ok(offered(&app, &organization, &May::of_admin(&admin)))
}

async fn own_providers(app: Arc<App>, user: User, _: Call<NoParams>) -> ApiResult<MapOf<String>> {
    let profile = profile_of(&app, &user.scope(), &user.name)
        .await?
        .parse()
        .map_err(store_error)?;
    Ok(offered(&app, &user.organization, &May::of_user(&profile)))
}

/// The address at which devices reach this server: the organization's configured one, the one that the caller sees,
/// or where the server listens.
fn address(app: &App, organization: &str, caller_sees: Option<&str>) -> ApiResult<String> {
    let config = app.config();
    let branding = match config.organizations.get(organization) {
        Some(o) => &o.branding,
        None => &config.branding,
    };
    let configured = branding.default_login_server_url.trim();
    let chosen = [Some(configured), caller_sees.map(str::trim), Some(&app.local_url)]
        .into_iter()
        .flatten()
        .find(|a| !a.is_empty())
        .unwrap_or_default();
    if !http::is_url(chosen) {
        return Err(ApiError::bad_request(format!(
            "'{chosen}' is not an http or https address at which devices could reach this server"
        )));
    }
    // Scheme, host and port; a path is of a page.
    let (scheme, rest) = chosen.split_once("://").unwrap_or(("http", chosen));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Ok(format!("{scheme}://{host}/"))
}

/// A vault at a place, as a new one is.
fn vault(template: &RemoteStorageOption, place: DestinationLocation) -> ApiResult<DestinationConfig> {
    // A vault has all fields of a location beside its own.
    let value = serde_json::to_value(place).map_err(|_| ApiError::internal())?;
    let mut vault: DestinationConfig = serde_json::from_value(value).map_err(|_| ApiError::internal())?;
    vault.description.clone_from(&template.description);
    if vault.description.is_empty() {
        vault.description = super::kind_name(&template.type_)
            .unwrap_or("Storage Vault")
            .to_string();
    }
    vault.create_time = now();
    vault.modify_time = vault.create_time;
    vault.storage_limit_enabled = template.storage_limit_enabled;
    vault.storage_limit_bytes = template.storage_limit_bytes;
    vault.rebrand_storage = template.rebrand_storage;
    Ok(vault)
}

/// A request that may be made, to the end.
struct Wanted {
    actor: String,
    scope: Scope,
    username: String,
    organization: String,
    template: RemoteStorageOption,
    address: String,
    device: Option<String>,
    profile_hash: Option<String>,
}

fn check_device(profile: &UserProfileConfig, device: Option<&str>) -> ApiResult<()> {
    match device {
        Some(id) if !profile.devices.contains_key(id) => {
            Err(ApiError::bad_request("The account has no such device"))
        }
        _ => Ok(()),
    }
}

impl Wanted {
    async fn serve(self, app: &Arc<App>) -> ApiResult<Doc<RequestStorageVaultResponseMessage>> {
        let mut undo = Undo::default();
        match self.make_and_add(app, &mut undo).await {
            Ok(answer) => Ok(answer),
            Err(e) => {
                undo.run().await;
                Err(e)
            }
        }
    }

    async fn make_and_add(
        &self,
        app: &Arc<App>,
        undo: &mut Undo,
    ) -> ApiResult<Doc<RequestStorageVaultResponseMessage>> {
        let order = Order {
            actor: &self.actor,
            organization: &self.organization,
            address: self.address.clone(),
        };
        let place = provision::make(app, &order, &self.template, undo).await?;
        let vault = vault(&self.template, place)?;
        let id = uuid::Uuid::new_v4().to_string();
        let hash = self.profile_hash.as_deref();
        let stored = change_within(app, &self.scope, &self.actor, &self.username, hash, |profile| {
            check_device(profile, self.device.as_deref())?;
            let mut vault = vault.clone();
            vault.associated_devices = match &self.device {
                Some(device) => vec![device.clone()],
                None => profile.devices.keys().cloned().collect(),
            };
            profile.destinations.insert(id.clone(), vault);
            Ok(())
        })
        .await?;
        tracing::info!(
            user = self.username,
            vault = id,
            template = self.template.id,
            "made a Storage Vault by a template"
        );
        Ok(Doc(RequestStorageVaultResponseMessage {
            status: 200,
            message: "OK".into(),
            destination_id: id,
            profile_hash: stored.hash.clone(),
            profile: stored.parse().map_err(store_error)?,
            ..Default::default()
        }))
    }
}

/// Checks a request and serves it, even if the caller goes away.
async fn serve(
    app: Arc<App>,
    actor: String,
    scope: Scope,
    may: impl FnOnce(&UserProfileConfig) -> May,
    p: Request,
) -> ApiResult<Doc<RequestStorageVaultResponseMessage>> {
    let given = |text: Option<String>| text.filter(|t| !t.is_empty());
    let (device, profile_hash) = (given(p.DeviceID), given(p.ProfileHash));
    let stored = profile_of(&app, &scope, &p.TargetUser).await?;
    if profile_hash.as_ref().is_some_and(|h| *h != stored.hash) {
        return Err(store_error(StoreError::Changed));
    }
    let profile = stored.parse().map_err(store_error)?;
    check_device(&profile, device.as_deref())?;
    let may = may(&profile);
    if matches!(may, May::Nothing) {
        return Err(ApiError::forbidden("Storage Vaults can not be requested here"));
    }
    let config = app.config();
    let organization = profile.organization_id;
    let template = of_organization(&config, &organization)
        .iter()
        .find(|t| !t.id.is_empty() && t.id == p.StorageProvider && may.have(t))
        .ok_or_else(|| ApiError::bad_request("There is no such storage template"))?
        .clone();
    let wanted = Wanted {
        actor,
        scope,
        username: p.TargetUser,
        address: address(&app, &organization, p.SelfAddress.as_deref())?,
        organization,
        template,
        device,
        profile_hash,
    };
    tokio::spawn(async move { wanted.serve(&app).await })
        .await
        .map_err(|_| ApiError::internal())?
}

async fn request(
    app: Arc<App>,
    admin: Admin,
    call: Call<Request>,
) -> ApiResult<Doc<RequestStorageVaultResponseMessage>> {
    let may = |_: &UserProfileConfig| May::of_admin(&admin);
    serve(app, admin.name.clone(), admin.scope(), may, call.params).await
}

async fn request_own(
    app: Arc<App>,
    user: User,
    call: Call<OwnRequest>,
) -> ApiResult<Doc<RequestStorageVaultResponseMessage>> {
    let p = call.params;
    let request = Request {
        TargetUser: user.name.clone(),
        StorageProvider: p.StorageProvider,
        SelfAddress: p.SelfAddress,
        DeviceID: p.DeviceID,
        ProfileHash: p.ProfileHash,
    };
    serve(app, user.name.clone(), user.scope(), May::of_user, request).await
}

pub(super) fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminRequestStorageVault",
            "/api/v1/admin/request-storage-vault",
            "Makes a place by a storage template and adds it to an account as a Storage Vault, whatever the account's policy says. Fails as a whole: what was made before is taken away, except what a service of the custom kind made.",
            request,
        )
        .denied_if(|p| p.prevent_request_storage_vault),
        Route::new(
            "AdminRequestStorageVaultProviders",
            "/api/v1/admin/request-storage-vault-providers",
            "Answers the names of the storage templates that Storage Vaults can be requested by, by ID: those of an organization, of kinds that this server can make and that the caller's permissions allow.",
            providers,
        )
        .denied_if(|p| p.prevent_request_storage_vault),
        Route::new(
            "UserWebRequestStorageVault",
            "/api/v1/user/web/request-storage-vault",
            "Makes a place by a storage template and adds it to the caller's account as a Storage Vault, if the policy allows it.",
            request_own,
        ),
        Route::new(
            "UserWebRequestStorageVaultProviders",
            "/api/v1/user/web/request-storage-vault-providers",
            "Answers the names of the storage templates that the caller can request a Storage Vault by, by ID; none if the policy does not allow it. A policy's list of types leaves out the custom kind, whose type is not known before.",
            own_providers,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
