//! Administrator accounts: the first one, the list, one's own properties and second factor (reference, section 4).
//!
//! They live inside the server configuration and change without a restart.

use crate::app::App;
use crate::auth::{
    Admin, end_sessions_of, find_admin, new_secret, qr_data_uri, secret_url, throttled, totp_account,
    verify_code,
};
use crate::table::{Call, Doc, Envelope, ListOf, Nobody, Route, done};
use encke_api::account_keys::PASSWORD_FORMAT_ENCKE;
use encke_api::constants::{
    PASSWORD_FORMAT_PLAINTEXT, SEVT_ACCOUNT_ADMIN_NEW, SEVT_ACCOUNT_ADMIN_REMOVED, SEVT_ACCOUNT_ADMIN_UPDATED,
};
use encke_api::form::{Json, NoParams};
use encke_api::types::{
    AdminAccountPropertiesResponse, AdminSecurityOptions, AllowedAdminUser, ServerConfigOptions,
    TotpRegeneratedResponse,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{EventDraft, ReportOwner, SessionKind};
use serde_json::Value;
use std::sync::Arc;

/// Stands for a secret that is not shown; sent back, it means "unchanged".
pub(crate) const OBSCURED: &str = "********";
/// Longest name of an administrator, in bytes.
const MAX_NAME: usize = 255;
/// Most administrators on one server, so that the document stays small.
pub(crate) const MAX_ADMINS: usize = 10_000;

params! {
    /// Parameters of `AdminAddFirstAdminUser`.
    struct FirstAdmin {
        /// Name of the first administrator.
        TargetUser: String,
        /// Password in clear.
        TargetPassword: String
    }
}

params! {
    /// Parameters of `AdminAdminUserNew`.
    struct NewAdmin {
        /// Name of the new administrator.
        TargetUser: String,
        /// Password in clear.
        TargetPassword: String,
        /// Organization of the new administrator; the top level if left out.
        TargetOrgID: Option<String>
    }
}

params! {
    /// Parameters of `AdminAdminUserDelete`.
    struct DeleteAdmin {
        /// Name of the administrator.
        TargetUser: String
    }
}

params! {
    /// Parameters of `AdminAccountSetProperties`.
    struct SetProperties {
        /// The caller's own security settings, whole.
        Security: Json<AdminSecurityOptions>
    }
}

params! {
    /// Parameters of `AdminAccountValidateTotp`.
    struct ValidateTotp {
        /// Six digits.
        TOTPCode: String
    }
}

pub(crate) fn event(kind: i64, actor: &str, admin: &AllowedAdminUser) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: admin.organization_id.clone(),
        resource: admin.username.clone(),
        kind,
        data: Value::Null,
    }
}

/// An administrator's entry in a configuration that is being changed.
///
/// # Errors
/// 403 when it is gone.
pub(crate) fn change_own<'a>(
    config: &'a mut ServerConfigOptions,
    name: &str,
    organization: &str,
) -> ApiResult<&'a mut AllowedAdminUser> {
    config
        .admin_users
        .iter_mut()
        .find(|a| a.username == name && a.organization_id == organization)
        .ok_or_else(ApiError::unauthorised)
}

/// Whether an administrator can be called so.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

async fn build(app: &App, name: &str, password: &str, organization: &str) -> ApiResult<AllowedAdminUser> {
    if !is_name(name) {
        return Err(ApiError::bad_request(
            "An administrator's name has 1 to 255 bytes and no control characters",
        ));
    }
    if password.is_empty() {
        return Err(ApiError::bad_request("The password must not be empty"));
    }
    let (stored, _) = app.passwords.create(password).await?;
    Ok(AllowedAdminUser {
        username: name.to_string(),
        organization_id: organization.to_string(),
        password_format: PASSWORD_FORMAT_ENCKE,
        password: stored.to_text(),
        allow_password_login: true,
        ..Default::default()
    })
}

async fn add_first(app: Arc<App>, _: Nobody, call: Call<FirstAdmin>) -> ApiResult<Envelope> {
    let refused = || ApiError::forbidden("This server has an administrator already");
    // Asked before the slow stretching, so that the open call costs nothing; decided inside the change.
    if !app.config().admin_users.is_empty() {
        return Err(refused());
    }
    let admin = build(&app, &call.params.TargetUser, &call.params.TargetPassword, "").await?;
    app.change_config(move |config| {
        if !config.admin_users.is_empty() {
            return Err(refused());
        }
        let events = vec![event(SEVT_ACCOUNT_ADMIN_NEW, &admin.username, &admin)];
        config.admin_users.push(admin);
        Ok(events)
    })
    .await?;
    Ok(done())
}

/// As others see an administrator: without secrets.
pub(crate) fn obscured(admin: &AllowedAdminUser) -> AllowedAdminUser {
    let mut shown = admin.clone();
    shown.password = OBSCURED.into();
    if !shown.totp_key.is_empty() {
        shown.totp_key = OBSCURED.into();
    }
    shown
}

async fn list(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<ListOf<AllowedAdminUser>> {
    Ok(ListOf(app.config().admin_users.iter().map(obscured).collect()))
}

async fn add(app: Arc<App>, caller: Admin, call: Call<NewAdmin>) -> ApiResult<Envelope> {
    let organization = call.params.TargetOrgID.unwrap_or_default();
    let admin = build(
        &app,
        &call.params.TargetUser,
        &call.params.TargetPassword,
        &organization,
    )
    .await?;
    app.change_config(move |config| {
        if !organization.is_empty() && !config.organizations.contains_key(&organization) {
            return Err(ApiError::bad_request("There is no such organization"));
        }
        if find_admin(&config.admin_users, &admin.username, &organization).is_some() {
            return Err(ApiError::new(409, "An administrator of this name exists already"));
        }
        if config.admin_users.len() >= MAX_ADMINS {
            return Err(ApiError::bad_request("There are too many administrators"));
        }
        let events = vec![event(SEVT_ACCOUNT_ADMIN_NEW, &caller.name, &admin)];
        config.admin_users.push(admin);
        Ok(events)
    })
    .await?;
    Ok(done())
}

async fn delete(app: Arc<App>, caller: Admin, call: Call<DeleteAdmin>) -> ApiResult<Envelope> {
    let name = call.params.TargetUser;
    let target = name.clone();
    let actor = caller.name.clone();
    let (tell, organization) = tokio::sync::oneshot::channel();
    app.change_config(move |config| {
        let Some(at) = config.admin_users.iter().position(|a| a.username == name) else {
            return Err(ApiError::not_found("There is no administrator of this name"));
        };
        let top_level = config
            .admin_users
            .iter()
            .filter(|a| a.organization_id.is_empty())
            .count();
        if config.admin_users[at].organization_id.is_empty() && top_level == 1 {
            return Err(ApiError::bad_request(
                "The last administrator of the top level can not be deleted",
            ));
        }
        let gone = config.admin_users.remove(at);
        let _ = tell.send(gone.organization_id.clone());
        Ok(vec![event(SEVT_ACCOUNT_ADMIN_REMOVED, &caller.name, &gone)])
    })
    .await?;
    let organization = organization.await.unwrap_or_default();
    end_sessions_of(&app, &actor, SessionKind::Admin, &target, &organization).await?;
    let owner = ReportOwner {
        kind: SessionKind::Admin,
        name: target.clone(),
        organization,
    };
    app.store
        .delete_reports_of_owner(owner)
        .await
        .map_err(crate::app::store_error)?;
    Ok(done())
}

async fn properties(
    app: Arc<App>,
    caller: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<AdminAccountPropertiesResponse>> {
    let config = app.config();
    let admin = find_admin(&config.admin_users, &caller.name, &caller.organization)
        .ok_or_else(ApiError::unauthorised)?;
    let shown = obscured(admin);
    Ok(Doc(AdminAccountPropertiesResponse {
        organization_id: shown.organization_id.clone(),
        permissions: shown.permissions.clone(),
        security: security_of(&shown),
        ..Default::default()
    }))
}

fn security_of(a: &AllowedAdminUser) -> AdminSecurityOptions {
    AdminSecurityOptions {
        password_format: a.password_format,
        password: a.password.clone(),
        allow_password_login: a.allow_password_login,
        allow_password_and_totp_login: a.allow_password_and_totp_login,
        allow_password_and_u2_f_login: a.allow_password_and_u2_f_login,
        allow_password_and_web_authn_login: a.allow_password_and_web_authn_login,
        u2_f_registrations: a.u2_f_registrations.clone(),
        web_authn_registrations: a.web_authn_registrations.clone(),
        require_password_change: a.require_password_change,
        totp_key_encryption_format: a.totp_key_encryption_format,
        totp_key: a.totp_key.clone(),
        ip_whitelist: a.ip_whitelist.clone(),
        ..Default::default()
    }
}

/// Takes over the log-in rules. A new password comes in clear with format 0 and needs the present one, which the form
/// carries as `Password` when the call signs in by password.
async fn set_properties(app: Arc<App>, caller: Admin, call: Call<SetProperties>) -> ApiResult<Envelope> {
    let wanted = call.params.Security.0;
    if !wanted.ip_whitelist.is_empty() {
        let list = regex::Regex::new(&wanted.ip_whitelist)
            .map_err(|e| ApiError::bad_request(format!("IPWhitelist is not a regular expression: {e}")))?;
        if !list.is_match(&call.origin.ip.to_string()) {
            return Err(ApiError::bad_request(format!(
                "IPWhitelist would lock out your own address {}",
                call.origin.ip
            )));
        }
    }
    let new_password = wanted.password_format == PASSWORD_FORMAT_PLAINTEXT
        && !wanted.password.is_empty()
        && wanted.password != OBSCURED;
    let mut hashed = None;
    if new_password {
        let config = app.config();
        let admin = find_admin(&config.admin_users, &caller.name, &caller.organization)
            .ok_or_else(ApiError::unauthorised)?;
        if !admin.external_authentication_source.is_empty() {
            return Err(ApiError::bad_request(
                "Your password is the other system's that you log in by; change it there",
            ));
        }
        if caller.permissions.prevent_change_password && !caller.must_change_password {
            return Err(ApiError::forbidden(
                "Your permissions do not allow changing the password",
            ));
        }
        // A session key alone must not be enough to take an account over.
        if caller.session.is_some() {
            let present = call.form.get("Password").unwrap_or_default();
            throttled(&app, &call.origin, &caller.name, async {
                if app.passwords.verify(&admin.password, present).await? {
                    return Ok(());
                }
                Err(ApiError::forbidden(
                    "Changing the password needs the present one, as 'Password'",
                ))
            })
            .await?;
        }
        hashed = Some(app.passwords.create(&wanted.password).await?.0.to_text());
    }
    let changed = hashed.is_some();
    let (name, organization) = (caller.name.clone(), caller.organization.clone());
    app.change_config(move |config| {
        let admin = change_own(config, &caller.name, &caller.organization)?;
        // Keys can be renamed and taken away here, never added, and the secret of the codes is not this call's.
        admin.web_authn_registrations.retain_mut(|r| {
            let kept = wanted.web_authn_registrations.iter().find(|w| w.id == r.id);
            if let Some(kept) = kept {
                r.description.clone_from(&kept.description);
            }
            kept.is_some()
        });
        let enough = wanted.allow_password_login
            || (wanted.allow_password_and_totp_login && !admin.totp_key.is_empty())
            || (wanted.allow_password_and_web_authn_login && !admin.web_authn_registrations.is_empty());
        if !enough {
            return Err(ApiError::bad_request(
                "These settings would leave no way to log in",
            ));
        }
        if let Some(hashed) = hashed {
            admin.password = hashed;
            admin.password_format = PASSWORD_FORMAT_ENCKE;
            admin.require_password_change = false;
        }
        admin.allow_password_login = wanted.allow_password_login;
        admin.allow_password_and_totp_login = wanted.allow_password_and_totp_login;
        admin.allow_password_and_web_authn_login = wanted.allow_password_and_web_authn_login;
        admin.ip_whitelist = wanted.ip_whitelist;
        Ok(vec![event(SEVT_ACCOUNT_ADMIN_UPDATED, &admin.username, admin)])
    })
    .await?;
    if changed {
        end_sessions_of(&app, &name, SessionKind::Admin, &name, &organization).await?;
    }
    Ok(done())
}

fn account_of(caller: &Admin) -> String {
    totp_account(&caller.organization, &caller.name)
}

async fn regenerate_totp(
    app: Arc<App>,
    caller: Admin,
    _: Call<NoParams>,
) -> ApiResult<Doc<TotpRegeneratedResponse>> {
    let (wrapped, secret) = new_secret(&app, &account_of(&caller)).map_err(|_| ApiError::internal())?;
    let brand = crate::meta::brand_name(&app.config());
    let url = secret_url(&brand, &caller.name, &secret);
    app.change_config(move |config| {
        let admin = change_own(config, &caller.name, &caller.organization)?;
        admin.totp_key = wrapped;
        admin.totp_key_encryption_format = 100;
        Ok(vec![event(SEVT_ACCOUNT_ADMIN_UPDATED, &admin.username, admin)])
    })
    .await?;
    Ok(Doc(TotpRegeneratedResponse {
        status: 200,
        message: "OK".into(),
        image: qr_data_uri(&url)?,
        url,
        ..Default::default()
    }))
}

async fn validate_totp(app: Arc<App>, caller: Admin, call: Call<ValidateTotp>) -> ApiResult<Envelope> {
    let config = app.config();
    let admin = find_admin(&config.admin_users, &caller.name, &caller.organization)
        .ok_or_else(ApiError::unauthorised)?;
    if admin.totp_key.is_empty()
        || !verify_code(&app, &account_of(&caller), &admin.totp_key, &call.params.TOTPCode)
    {
        return Err(ApiError::bad_request("The code is not right"));
    }
    Ok(done())
}

/// Endpoints of administrator accounts.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminAddFirstAdminUser",
            "/api/v1/admin/add-first-admin-user",
            "Makes the first administrator of an empty server; refused for good once there is one.",
            add_first,
        ),
        Route::new(
            "AdminAdminUserList",
            "/api/v1/admin/admin-user/list",
            "Lists all administrators.",
            list,
        )
        .top_level()
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminAdminUserNew",
            "/api/v1/admin/admin-user/new",
            "Adds an administrator.",
            add,
        )
        .top_level()
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminAdminUserDelete",
            "/api/v1/admin/admin-user/delete",
            "Deletes an administrator.",
            delete,
        )
        .top_level()
        .denied_if(|p| p.prevent_edit_server_settings),
        Route::new(
            "AdminAccountProperties",
            "/api/v1/admin/account/properties",
            "Shows the caller's own permissions and log-in rules, secrets obscured.",
            properties,
        )
        .before_password_change(),
        Route::new(
            "AdminAccountSetProperties",
            "/api/v1/admin/account/set-properties",
            "Changes the caller's own log-in rules and password.",
            set_properties,
        )
        .before_password_change(),
        Route::new(
            "AdminAccountRegenerateTotp",
            "/api/v1/admin/account/regenerate-totp",
            "Gives the caller a new secret for one-time codes, as a QR code; it takes effect at once.",
            regenerate_totp,
        ),
        Route::new(
            "AdminAccountValidateTotp",
            "/api/v1/admin/account/validate-totp",
            "Checks a one-time code against the caller's secret.",
            validate_totp,
        ),
    ]
}
