//! Who is calling: every way to sign in, checked before a handler runs (reference, section 4).

mod codes;
mod passwords;
mod sessions;
mod throttle;

pub use codes::{UsedCodes, new_secret, qr_data_uri, secret_url, verify_code};
pub use passwords::Passwords;
pub(crate) use sessions::idle_seconds;
pub use sessions::{Sessions, routes, sweep};
pub use throttle::Throttle;

use crate::app::{App, store_error};
use crate::origin::Origin;
use crate::table::Request;
use encke_api::account_keys::PASSWORD_FORMAT_ENCKE;
use encke_api::constants::{
    PASSWORD_FORMAT_PLAINTEXT, SEVT_ACCOUNT_ADMIN_LOGIN, SEVT_ACCOUNT_ADMIN_LOGIN_FAILED, SEVT_ACCOUNT_LOGIN,
    SEVT_ACCOUNT_LOGIN_FAILED,
};
use encke_api::endpoint::Caller;
use encke_api::form::Form;
use encke_api::types::{AdminUserPermissions, AllowedAdminUser, UserProfileConfig};
use encke_api::{ApiError, ApiResult};
use encke_store::{EventDraft, Scope, SessionKind, StoredSession};
use serde_json::Value;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// An administrator who is calling.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Name.
    pub name: String,
    /// Organization; empty for the top level.
    pub organization: String,
    /// Permission flags.
    pub permissions: AdminUserPermissions,
    /// The session of the call, if it came with one.
    pub session: Option<Arc<StoredSession>>,
}

impl Admin {
    /// The rows this administrator may touch.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.organization.is_empty() {
            Scope::All
        } else {
            Scope::Organization(self.organization.clone())
        }
    }
}

/// An end user who is calling.
#[derive(Clone, Debug)]
pub struct User {
    /// Account name.
    pub name: String,
    /// Organization; empty for the top level.
    pub organization: String,
    /// The session of the call, if it came with one.
    pub session: Option<Arc<StoredSession>>,
}

impl User {
    /// The rows this user may touch.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::User(self.name.clone())
    }
}

/// Who is calling.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Nobody in particular.
    Nobody,
    /// An administrator.
    Admin(Box<Admin>),
    /// An end user.
    User(Box<User>),
}

/// The credential fields of a form.
struct Credentials<'a> {
    username: &'a str,
    kind: &'a str,
    password: &'a str,
    totp: &'a str,
    session_key: &'a str,
}

impl<'a> Credentials<'a> {
    fn of(form: &'a Form) -> Self {
        let field = |name| form.get(name).unwrap_or_default();
        Self {
            username: field("Username"),
            kind: field("AuthType"),
            password: field("Password"),
            totp: field("TOTP"),
            session_key: field("SessionKey"),
        }
    }
}

/// Checks the credentials of a request against what the endpoint wants.
///
/// # Errors
/// 403 `Unauthorised` without a hint at what was wrong, or 449 when only the second factor is missing.
pub async fn authenticate(
    app: &App,
    request: &Request,
    wanted: Caller,
    allows_pending: bool,
) -> ApiResult<Principal> {
    if wanted == Caller::Nobody {
        return Ok(Principal::Nobody);
    }
    let credentials = Credentials::of(&request.form);
    match credentials.kind {
        "SessionKey" => by_session(app, &credentials, &request.origin, wanted, allows_pending).await,
        "Password" | "PasswordTOTP" => by_password(app, &credentials, &request.origin, wanted).await,
        "PasswordWebAuthn" | "PasswordU2F" => Err(ApiError::unsupported(
            "log-in with a security key is not available yet",
        )),
        _ => Err(ApiError::unauthorised()),
    }
}

/// Checks the five credential values of the event stream, an administrator's (reference, section 6.1).
///
/// # Errors
/// As [`authenticate`].
pub async fn authenticate_fields(app: &App, fields: &[String; 5], origin: &Origin) -> ApiResult<Principal> {
    let [username, kind, password, session_key, totp] = fields;
    let credentials = Credentials {
        username,
        kind,
        password,
        totp,
        session_key,
    };
    match kind.as_str() {
        "SessionKey" => by_session(app, &credentials, origin, Caller::Admin, false).await,
        "Password" | "PasswordTOTP" => by_password(app, &credentials, origin, Caller::Admin).await,
        _ => Err(ApiError::unauthorised()),
    }
}

/// The organization that a host name belongs to; empty for the top level. `None` when it is suspended.
#[must_use]
pub fn organization_of_host(app: &App, host: &str) -> Option<String> {
    let config = app.config();
    let found = config
        .organizations
        .iter()
        .find(|(_, o)| o.hosts.iter().any(|h| h.eq_ignore_ascii_case(host)));
    match found {
        None => Some(String::new()),
        Some((_, o)) if o.is_suspended => None,
        Some((id, _)) => Some(id.clone()),
    }
}

async fn by_session(
    app: &App,
    credentials: &Credentials<'_>,
    origin: &Origin,
    wanted: Caller,
    allows_pending: bool,
) -> ApiResult<Principal> {
    // The key alone tells who is calling: one SDK keeps sending its own user name with another's key.
    let session = app
        .sessions
        .find(app, credentials.session_key)
        .await?
        .ok_or_else(ApiError::unauthorised)?;
    if session.pending && !allows_pending {
        return Err(ApiError::second_factor_required());
    }
    match (session.kind, wanted) {
        (SessionKind::Admin, Caller::Admin | Caller::AdminOrUser) => {
            let config = app.config();
            let admin = find_admin(&config.admin_users, &session.name, &session.organization)
                .ok_or_else(ApiError::unauthorised)?;
            check_address(admin, origin)?;
            check_organization(app, &session.organization)?;
            Ok(Principal::Admin(Box::new(Admin {
                name: admin.username.clone(),
                organization: admin.organization_id.clone(),
                permissions: admin.permissions.clone(),
                session: Some(session),
            })))
        }
        (SessionKind::User, Caller::User | Caller::AdminOrUser) => {
            let stored = app
                .store
                .profile(&Scope::All, &session.name)
                .await
                .map_err(|_| ApiError::unauthorised())?;
            let profile = stored.parse().map_err(store_error)?;
            check_user(app, &profile)?;
            Ok(Principal::User(Box::new(User {
                name: stored.username,
                organization: stored.organization,
                session: Some(session),
            })))
        }
        _ => Err(ApiError::unauthorised()),
    }
}

async fn by_password(
    app: &App,
    credentials: &Credentials<'_>,
    origin: &Origin,
    wanted: Caller,
) -> ApiResult<Principal> {
    if credentials.username.is_empty() || credentials.password.is_empty() {
        return Err(ApiError::unauthorised());
    }
    app.throttle
        .check(&app.config().login_protection, origin.ip, credentials.username)?;
    let result = check_password(app, credentials, origin, wanted).await;
    if matches!(&result, Err(e) if e.status == 403) {
        app.throttle
            .failed(&app.config().login_protection, origin.ip, credentials.username);
    }
    result
}

async fn check_password(
    app: &App,
    credentials: &Credentials<'_>,
    origin: &Origin,
    wanted: Caller,
) -> ApiResult<Principal> {
    // A name that is both an administrator's and a user's is tried in this order.
    let mut tried = false;
    if matches!(wanted, Caller::Admin | Caller::AdminOrUser) {
        let organization = organization_of_host(app, &origin.host).ok_or_else(ApiError::unauthorised)?;
        let config = app.config();
        if let Some(admin) = find_admin(&config.admin_users, credentials.username, &organization) {
            tried = true;
            match admin_by_password(app, admin, credentials, origin).await {
                Err(e) if e.status == 403 && wanted == Caller::AdminOrUser => {}
                Err(e) => return Err(e),
                Ok(admin) => return Ok(Principal::Admin(Box::new(admin))),
            }
        }
    }
    if matches!(wanted, Caller::User | Caller::AdminOrUser)
        && let Ok(stored) = app.store.profile(&Scope::All, credentials.username).await
    {
        let profile = stored.parse().map_err(store_error)?;
        return user_by_password(app, &profile, credentials, origin)
            .await
            .map(|u| Principal::User(Box::new(u)));
    }
    if !tried {
        // An unknown name takes as long as a wrong password.
        app.passwords.waste_time(credentials.password).await;
    }
    Err(ApiError::unauthorised())
}

/// An administrator by name within an organization.
#[must_use]
pub fn find_admin<'a>(
    admins: &'a [AllowedAdminUser],
    name: &str,
    organization: &str,
) -> Option<&'a AllowedAdminUser> {
    admins
        .iter()
        .find(|a| a.username == name && a.organization_id == organization)
}

fn check_address(admin: &AllowedAdminUser, origin: &Origin) -> ApiResult<()> {
    if admin.ip_whitelist.is_empty() {
        return Ok(());
    }
    // A list that can not be read lets nobody in.
    let allowed = regex::Regex::new(&admin.ip_whitelist).is_ok_and(|r| r.is_match(&origin.ip.to_string()));
    if allowed {
        Ok(())
    } else {
        Err(ApiError::unauthorised())
    }
}

/// Refuses who belongs to an organization that is suspended or gone.
///
/// # Errors
/// 403.
pub(crate) fn check_organization(app: &App, organization: &str) -> ApiResult<()> {
    if organization.is_empty() {
        return Ok(());
    }
    match app.config().organizations.get(organization) {
        Some(o) if !o.is_suspended => Ok(()),
        _ => Err(ApiError::unauthorised()),
    }
}

fn check_user(app: &App, profile: &UserProfileConfig) -> ApiResult<()> {
    if profile.is_suspended {
        return Err(ApiError::forbidden("This account is suspended"));
    }
    check_organization(app, &profile.organization_id)?;
    if profile.policy.prevent_open_web_ui {
        return Err(ApiError::forbidden("This account may not use the web interface"));
    }
    Ok(())
}

async fn admin_by_password(
    app: &App,
    admin: &AllowedAdminUser,
    credentials: &Credentials<'_>,
    origin: &Origin,
) -> ApiResult<Admin> {
    let event = |kind| EventDraft {
        actor: admin.username.clone(),
        organization: admin.organization_id.clone(),
        username: None,
        resource: origin.path.clone(),
        kind,
        data: Value::Null,
    };
    let right = match admin.password_format {
        PASSWORD_FORMAT_ENCKE => {
            app.passwords
                .verify(&admin.password, credentials.password)
                .await?
        }
        // Written into the document by hand; hashed at the next start.
        PASSWORD_FORMAT_PLAINTEXT => {
            !admin.password.is_empty()
                && admin
                    .password
                    .as_bytes()
                    .ct_eq(credentials.password.as_bytes())
                    .into()
        }
        _ => false,
    };
    if !right || check_address(admin, origin).is_err() {
        app.store.announce(event(SEVT_ACCOUNT_ADMIN_LOGIN_FAILED));
        return Err(ApiError::unauthorised());
    }
    let account = format!("admin/{}/{}", admin.organization_id, admin.username);
    let factors = Factors {
        password: admin.allow_password_login,
        totp: admin.allow_password_and_totp_login,
        webauthn: admin.allow_password_and_web_authn_login,
        totp_key: &admin.totp_key,
    };
    if let Err(e) = factors.check(app, &account, credentials) {
        if e.status == 403 {
            app.store.announce(event(SEVT_ACCOUNT_ADMIN_LOGIN_FAILED));
        }
        return Err(e);
    }
    app.store.announce(event(SEVT_ACCOUNT_ADMIN_LOGIN));
    Ok(Admin {
        name: admin.username.clone(),
        organization: admin.organization_id.clone(),
        permissions: admin.permissions.clone(),
        session: None,
    })
}

async fn user_by_password(
    app: &App,
    profile: &UserProfileConfig,
    credentials: &Credentials<'_>,
    origin: &Origin,
) -> ApiResult<User> {
    let event = |kind| EventDraft {
        actor: profile.username.clone(),
        organization: profile.organization_id.clone(),
        username: Some(profile.username.clone()),
        resource: origin.path.clone(),
        kind,
        data: Value::Null,
    };
    let right = profile.password_format == PASSWORD_FORMAT_ENCKE
        && app
            .passwords
            .verify(&profile.password_hash, credentials.password)
            .await?;
    if !right {
        app.store.announce(event(SEVT_ACCOUNT_LOGIN_FAILED));
        return Err(ApiError::unauthorised());
    }
    check_user(app, profile)?;
    let factors = Factors {
        password: profile.allow_password_login,
        totp: profile.allow_password_and_totp_login,
        webauthn: false,
        totp_key: &profile.totp_key,
    };
    if let Err(e) = factors.check(app, &format!("user/{}", profile.username), credentials) {
        if e.status == 403 {
            app.store.announce(event(SEVT_ACCOUNT_LOGIN_FAILED));
        }
        return Err(e);
    }
    app.store.announce(event(SEVT_ACCOUNT_LOGIN));
    Ok(User {
        name: profile.username.clone(),
        organization: profile.organization_id.clone(),
        session: None,
    })
}

/// The sets of factors that are enough for an account: alternatives, not requirements (reference, section 4.1).
pub struct Factors<'a> {
    /// The password alone.
    pub password: bool,
    /// The password and a code.
    pub totp: bool,
    /// The password and a security key.
    pub webauthn: bool,
    /// The code's secret, wrapped with the server's key.
    pub totp_key: &'a str,
}

impl Factors<'_> {
    fn check(&self, app: &App, account: &str, credentials: &Credentials<'_>) -> ApiResult<()> {
        if self.password {
            return Ok(());
        }
        if self.totp && !credentials.totp.is_empty() {
            let right = verify_code(app, account, self.totp_key, credentials.totp);
            return if right {
                Ok(())
            } else {
                Err(ApiError::unauthorised())
            };
        }
        if self.totp || self.webauthn {
            return Err(ApiError::second_factor_required());
        }
        Err(ApiError::unauthorised())
    }
}
