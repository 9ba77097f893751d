//! Who is calling: every way to sign in, checked before a handler runs (reference, section 4).

mod codes;
mod passwords;
mod sessions;
mod throttle;

pub(crate) use codes::place as totp_place;
pub use codes::{UsedCodes, new_secret, qr_data_uri, secret_url, verify_code};
pub use passwords::Passwords;
pub use sessions::{Sessions, routes, sweep};
pub(crate) use sessions::{end_sessions_of, idle_seconds};
pub use throttle::Throttle;
pub(crate) use throttle::default_protection;

use crate::app::{App, store_error};
use crate::external_login;
use crate::origin::Origin;
use crate::table::{Request, Route};
use encke_api::account_keys::PASSWORD_FORMAT_ENCKE;
use encke_api::constants::{
    PASSWORD_FORMAT_PLAINTEXT, SEVT_ACCOUNT_ADMIN_LOGIN, SEVT_ACCOUNT_ADMIN_LOGIN_FAILED, SEVT_ACCOUNT_LOGIN,
    SEVT_ACCOUNT_LOGIN_FAILED,
};
use encke_api::endpoint::Caller;
use encke_api::form::Form;
use encke_api::types::{AdminUserPermissions, AllowedAdminUser, UserProfileConfig};
use encke_api::{ApiError, ApiResult, SecondFactor};
use encke_store::audit::Asker;
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
    /// Has to change the password before anything else.
    pub must_change_password: bool,
    /// The session of the call, if it came with one.
    pub session: Option<Arc<StoredSession>>,
}

impl Admin {
    fn of(admin: &AllowedAdminUser, session: Option<Arc<StoredSession>>) -> Self {
        Self {
            name: admin.username.clone(),
            organization: admin.organization_id.clone(),
            permissions: admin.permissions.clone(),
            must_change_password: admin.require_password_change,
            session,
        }
    }

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
    /// Has to change the password before anything else. Never so in a session that an administrator started.
    pub must_change_password: bool,
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

impl Principal {
    /// Whose changes they are that this caller asks for. Those of a session that an administrator started for a user are
    /// the administrator's.
    pub(crate) fn asker(&self, origin: &Origin) -> Asker {
        let (name, organization) = match self {
            Principal::Nobody => ("", ""),
            Principal::Admin(a) => (a.name.as_str(), a.organization.as_str()),
            Principal::User(u) => {
                let by = u.session.as_ref().map_or("", |s| s.started_by.as_str());
                let name = if by.is_empty() { u.name.as_str() } else { by };
                (name, u.organization.as_str())
            }
        };
        Asker {
            name: name.to_string(),
            organization: organization.to_string(),
            address: origin.ip.to_string(),
        }
    }

    /// Refuses who has to change the password first.
    ///
    /// # Errors
    /// 403 saying so.
    pub(crate) fn check_password_is_kept(&self) -> ApiResult<()> {
        let must_change = match self {
            Principal::Nobody => false,
            Principal::Admin(a) => a.must_change_password,
            Principal::User(u) => u.must_change_password,
        };
        if must_change {
            return Err(ApiError::forbidden("You have to change your password first"));
        }
        Ok(())
    }
}

/// The credential fields of a form.
struct Credentials<'a> {
    username: &'a str,
    kind: &'a str,
    password: &'a str,
    totp: &'a str,
    session_key: &'a str,
    webauthn: &'a str,
    /// The page the caller sees, where the call tells it.
    self_address: Option<&'a str>,
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
            webauthn: field("WebAuthnSign"),
            self_address: form.get("SelfAddress"),
        }
    }
}

/// Checks the credentials of a request against what the endpoint wants.
///
/// # Errors
/// 403 `Unauthorised` without a hint at what was wrong, or 449 when only the second factor is missing.
pub async fn authenticate(app: &App, request: &Request, route: &Route) -> ApiResult<Principal> {
    let wanted = route.endpoint.caller;
    if wanted == Caller::Nobody {
        return Ok(Principal::Nobody);
    }
    let credentials = Credentials::of(&request.form);
    let origin = &request.origin;
    match credentials.kind {
        "SessionKey" => by_session(app, &credentials, origin, wanted, route.allows_pending).await,
        // A key that waits for its second factor, and the factor.
        "TOTP" if route.allows_pending => by_session(app, &credentials, origin, wanted, true).await,
        "Password" | "PasswordTOTP" | "PasswordWebAuthn" => {
            by_password(app, &credentials, origin, wanted, route.starts_session).await
        }
        "PasswordU2F" => Err(ApiError::unsupported(crate::unsupported::U2F)),
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
        webauthn: "",
        self_address: None,
    };
    let principal = match kind.as_str() {
        "SessionKey" => by_session(app, &credentials, origin, Caller::Admin, false).await,
        "Password" | "PasswordTOTP" => by_password(app, &credentials, origin, Caller::Admin, false).await,
        _ => Err(ApiError::unauthorised()),
    }?;
    principal.check_password_is_kept()?;
    Ok(principal)
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
        return Err(ApiError::code_required());
    }
    match (session.kind, wanted) {
        (SessionKind::Admin, Caller::Admin | Caller::AdminOrUser) => {
            let config = app.config();
            let admin = find_admin(&config.admin_users, &session.name, &session.organization)
                .filter(|a| external_login::is_known(&config, a))
                .ok_or_else(ApiError::unauthorised)?;
            check_address(admin, origin)?;
            check_organization(app, &session.organization)?;
            Ok(Principal::Admin(Box::new(Admin::of(admin, Some(session)))))
        }
        (SessionKind::User, Caller::User | Caller::AdminOrUser) => {
            let stored = app
                .store
                .profile(&Scope::All, &session.name)
                .await
                .map_err(|_| ApiError::unauthorised())?;
            let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
            check_user(app, &profile)?;
            Ok(Principal::User(Box::new(User {
                name: stored.username,
                organization: stored.organization,
                must_change_password: profile.require_password_change && session.started_by.is_empty(),
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
    starts_session: bool,
) -> ApiResult<Principal> {
    if credentials.username.is_empty() || credentials.password.is_empty() {
        return Err(ApiError::unauthorised());
    }
    let check = check_password(app, credentials, origin, wanted, starts_session);
    throttled(app, origin, credentials.username, check).await
}

/// Runs a check of credentials unless there were too many failures, and counts how it went.
pub(crate) async fn throttled<T>(
    app: &App,
    origin: &Origin,
    name: &str,
    check: impl Future<Output = ApiResult<T>>,
) -> ApiResult<T> {
    app.throttle
        .check(&app.config().login_protection, origin.ip, name)?;
    let result = check.await;
    match &result {
        Ok(_) => app.throttle.succeeded(origin.ip, name),
        Err(e) if e.status == 403 => app.throttle.failed(origin.ip, name),
        Err(_) => {}
    }
    result
}

async fn check_password(
    app: &App,
    credentials: &Credentials<'_>,
    origin: &Origin,
    wanted: Caller,
    starts_session: bool,
) -> ApiResult<Principal> {
    // A name that is both an administrator's and a user's is tried in this order; a directory only knows those names
    // that are nobody's here.
    let mut tried = false;
    let mut directories_of = None;
    if matches!(wanted, Caller::Admin | Caller::AdminOrUser) {
        let organization = organization_of_host(app, &origin.host).ok_or_else(ApiError::unauthorised)?;
        let config = app.config();
        if let Some(admin) = find_admin(&config.admin_users, credentials.username, &organization) {
            tried = true;
            match admin_by_password(app, admin, credentials, origin, starts_session).await {
                Err(e) if e.status == 403 && wanted == Caller::AdminOrUser => {}
                other => return other.map(|a| Principal::Admin(Box::new(a))),
            }
        } else {
            directories_of = Some(organization);
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
    if let Some(organization) = directories_of {
        let (name, password) = (credentials.username, credentials.password);
        if let Some(admin) = external_login::by_directory(app, &organization, name, password).await? {
            check_organization(app, &organization)?;
            let admitted = admit(app, &admin, true, credentials, origin, starts_session).await?;
            return Ok(Principal::Admin(Box::new(admitted)));
        }
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
    starts_session: bool,
) -> ApiResult<Admin> {
    let right = match admin.password_format {
        _ if !admin.external_authentication_source.is_empty() => {
            external_login::confirms(app, admin, credentials.password).await?
        }
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
    admit(app, admin, right, credentials, origin, starts_session).await
}

/// Tells of a log-in, or of one that failed.
fn announce_log_in(app: &App, admin: &AllowedAdminUser, origin: &Origin, kind: i64) {
    app.store.announce(|| EventDraft {
        actor: admin.username.clone(),
        organization: admin.organization_id.clone(),
        resource: origin.path.clone(),
        kind,
        data: Value::Null,
    });
}

/// Lets an administrator in whose password was looked at: where it is right, the address allowed and the second factor
/// there, if one is needed. If only that is missing, a session may begin to wait for it.
async fn admit(
    app: &App,
    admin: &AllowedAdminUser,
    right: bool,
    credentials: &Credentials<'_>,
    origin: &Origin,
    starts_session: bool,
) -> ApiResult<Admin> {
    if !right || check_address(admin, origin).is_err() {
        announce_log_in(app, admin, origin, SEVT_ACCOUNT_ADMIN_LOGIN_FAILED);
        return Err(ApiError::unauthorised());
    }
    if !admin.allow_password_login
        && let Err(mut e) = second_factor(app, admin, credentials, origin).await
    {
        if e.status == 403 {
            announce_log_in(app, admin, origin, SEVT_ACCOUNT_ADMIN_LOGIN_FAILED);
        }
        if let Some(factor) = e.second_factor.as_mut().filter(|_| starts_session) {
            factor.session_key = Some(sessions::start_waiting(app, admin, true).await?);
        }
        return Err(e);
    }
    announce_log_in(app, admin, origin, SEVT_ACCOUNT_ADMIN_LOGIN);
    Ok(Admin::of(admin, None))
}

/// Lets an administrator in whom another system sent back to the browser. Answers the key of a session, and whether it
/// still waits for a second factor.
///
/// # Errors
/// 403 from an address that is not allowed, or when the organization is suspended.
pub(crate) async fn admit_from_elsewhere(
    app: &App,
    admin: &AllowedAdminUser,
    origin: &Origin,
    skip_factor: bool,
) -> ApiResult<(String, bool)> {
    check_organization(app, &admin.organization_id)?;
    if check_address(admin, origin).is_err() {
        announce_log_in(app, admin, origin, SEVT_ACCOUNT_ADMIN_LOGIN_FAILED);
        return Err(ApiError::unauthorised());
    }
    let pending = !admin.allow_password_login && !skip_factor;
    if !pending {
        announce_log_in(app, admin, origin, SEVT_ACCOUNT_ADMIN_LOGIN);
    }
    let key = sessions::start_waiting(app, admin, pending).await?;
    Ok((key, pending))
}

/// How an administrator's one-time codes are told from others'.
pub(crate) fn totp_account(organization: &str, name: &str) -> String {
    format!("admin/{organization}/{name}")
}

/// How an end user's one-time codes are told from others'.
pub(crate) fn totp_account_of_user(name: &str) -> String {
    format!("user/{name}")
}

/// Checks an administrator's second factor, whichever comes along of those that are allowed: they are alternatives,
/// not requirements (reference, section 4.1).
async fn second_factor(
    app: &App,
    admin: &AllowedAdminUser,
    credentials: &Credentials<'_>,
    origin: &Origin,
) -> ApiResult<()> {
    let totp = admin.allow_password_and_totp_login;
    let webauthn = admin.allow_password_and_web_authn_login;
    if webauthn && !credentials.webauthn.is_empty() {
        return crate::webauthn::prove(app, admin, credentials.webauthn).await;
    }
    if totp && !credentials.totp.is_empty() {
        let account = totp_account(&admin.organization_id, &admin.username);
        return if verify_code(app, &account, &admin.totp_key, credentials.totp) {
            Ok(())
        } else {
            Err(ApiError::unauthorised())
        };
    }
    if !totp && !webauthn {
        return Err(ApiError::unauthorised());
    }
    let challenge = if webauthn {
        crate::webauthn::ask(app, admin, credentials.self_address, origin)?
    } else {
        None
    };
    Err(ApiError::second_factor_required(SecondFactor {
        totp,
        webauthn: challenge,
        session_key: None,
    }))
}

/// Checks the second factor of whoever holds a session that waits for it.
///
/// # Errors
/// 403 for a wrong one, 429 after too many, 449 where none came along.
async fn lift(app: &App, session: &StoredSession, form: &Form, origin: &Origin) -> ApiResult<()> {
    let config = app.config();
    let admin = find_admin(&config.admin_users, &session.name, &session.organization)
        .ok_or_else(ApiError::unauthorised)?;
    let credentials = Credentials::of(form);
    let check = second_factor(app, admin, &credentials, origin);
    let lifted = throttled(app, origin, &session.name, check).await;
    if matches!(&lifted, Err(e) if e.status == 403) {
        announce_log_in(app, admin, origin, SEVT_ACCOUNT_ADMIN_LOGIN_FAILED);
    }
    lifted
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
        app.store.announce(|| event(SEVT_ACCOUNT_LOGIN_FAILED));
        return Err(ApiError::unauthorised());
    }
    check_user(app, profile)?;
    if let Err(e) = user_factor(app, profile, credentials) {
        if e.status == 403 {
            app.store.announce(|| event(SEVT_ACCOUNT_LOGIN_FAILED));
        }
        return Err(e);
    }
    app.store.announce(|| event(SEVT_ACCOUNT_LOGIN));
    Ok(User {
        name: profile.username.clone(),
        organization: profile.organization_id.clone(),
        must_change_password: profile.require_password_change,
        session: None,
    })
}

/// Checks what a user needs beside the password: nothing, or a one-time code.
fn user_factor(app: &App, profile: &UserProfileConfig, credentials: &Credentials<'_>) -> ApiResult<()> {
    if profile.allow_password_login {
        return Ok(());
    }
    if !profile.allow_password_and_totp_login {
        return Err(ApiError::unauthorised());
    }
    if credentials.totp.is_empty() {
        return Err(ApiError::code_required());
    }
    let account = totp_account_of_user(&profile.username);
    if verify_code(app, &account, &profile.totp_key, credentials.totp) {
        Ok(())
    } else {
        Err(ApiError::unauthorised())
    }
}
