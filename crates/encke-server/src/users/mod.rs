//! Accounts and their profiles (reference, section 7).

mod devices;
mod items;
mod passwords;
mod quotas;
mod replica;
mod rules;
mod totp;

pub(crate) use quotas::left as quota_left;
pub(crate) use replica::{Secrets, put_copy};
pub(crate) use rules::check_retention;

use crate::app::{App, store_error};
use crate::auth::{Admin, User};
use crate::policies::apply::{remove_policy_items, starts_on};
use crate::stream::{ListWriter, list_body};
use crate::table::{Call, Doc, Envelope, Keyed, Names, Route, StoredDoc, Streamed, done};
use encke_api::constants::{SEVT_ACCOUNT_NEW, SEVT_ACCOUNT_REMOVED, SEVT_ACCOUNT_UPDATED};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::live::Request as LiveRequest;
use encke_api::types::{
    AdminOptions, GetProfileAndHashResponseMessage, GetProfileHashResponseMessage, UninstallConfig,
    UserProfileConfig,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::sql::Tx;
use encke_store::{
    EventDraft, NewProfile, ProfileChange, ReportOwner, Scope, SessionKind, StoreError, StoredProfile,
    delete_reports_of,
};
use serde_json::Value;
use std::sync::Arc;

/// The account, or the error a caller may read. Clients know both the number and the words.
///
/// # Errors
/// 400 `User not found`, also outside the scope.
pub async fn profile_of(app: &App, scope: &Scope, username: &str) -> ApiResult<StoredProfile> {
    app.store.profile(scope, username).await.map_err(user_error)
}

fn user_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::bad_request("User not found"),
        e => store_error(e),
    }
}

fn event(kind: i64, actor: &str, profile: &UserProfileConfig, data: Value) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: profile.organization_id.clone(),
        resource: profile.username.clone(),
        kind,
        data,
    }
}

/// The profile as events show it: without what could be attacked off line.
fn event_data(profile: &UserProfileConfig) -> Value {
    let mut shown = profile.clone();
    shown.password_hash.clear();
    shown.password_recovery.clear();
    shown.totp_key.clear();
    serde_json::to_value(&shown).unwrap_or_default()
}

params! {
    /// An account.
    struct Target {
        /// Account name.
        TargetUser: String
    }
}

params! {
    /// Parameters of `AdminAddUser`.
    struct AddUser {
        /// Name of the new account.
        TargetUser: String,
        /// Password in clear.
        TargetPassword: String,
        /// 1 keeps what a later reset of the password needs.
        StoreRecoveryCode: Option<i64>,
        /// 1 makes the user change the password at the first log-in.
        RequirePasswordChange: Option<i64>,
        /// Organization of the account; only for administrators of the top level.
        TargetOrganization: Option<String>
    }
}

params! {
    /// Parameters of `AdminAddUserFromProfile`.
    struct AddUserFromProfile {
        /// Name of the new account.
        TargetUser: String,
        /// The whole profile. `PasswordFormat` 0 with `PasswordHash` in clear sets the password.
        ProfileData: Json<UserProfileConfig>,
        /// Organization of the account; only for administrators of the top level.
        TargetOrganization: Option<String>
    }
}

params! {
    /// Parameters of `AdminDeleteUser`.
    struct DeleteUser {
        /// Account name.
        TargetUser: String,
        /// Whether devices on line remove their software.
        UninstallConfig: Option<Json<UninstallConfig>>
    }
}

params! {
    /// Parameters of `AdminSetUserProfile`.
    struct SetProfile {
        /// Account name.
        TargetUser: String,
        /// The whole profile.
        ProfileData: Json<UserProfileConfig>
    }
}

params! {
    /// Parameters of `AdminSetUserProfileHash`.
    struct SetProfileHash {
        /// Account name.
        TargetUser: String,
        /// The whole profile.
        ProfileData: Json<UserProfileConfig>,
        /// Hash of the profile the change is based on.
        RequireHash: String,
        /// What to do with items that came from a policy.
        AdminOptions: Option<Json<AdminOptions>>
    }
}

params! {
    /// Parameters of `UserWebSetProfileHash`.
    struct UserSetProfileHash {
        /// The whole profile.
        ProfileData: Json<UserProfileConfig>,
        /// Hash of the profile the change is based on.
        ProfileHash: String
    }
}

async fn list_users(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Names> {
    app.store
        .usernames(&admin.scope())
        .await
        .map(Names)
        .map_err(store_error)
}

async fn list_users_full(
    app: Arc<App>,
    admin: Admin,
    _: Call<NoParams>,
) -> ApiResult<Streamed<Keyed<UserProfileConfig>>> {
    let scope = admin.scope();
    let body = list_body(&app.store, b'{', b'}', move |store, writer| {
        let scope = scope.clone();
        async move { store.each_profile(&scope, writer, ListWriter::entry).await }
    });
    Ok(Streamed::new(body.await))
}

/// The organization a new account goes to: the caller's own, or the one a top-level administrator names.
fn target_organization(app: &App, admin: &Admin, wanted: Option<String>) -> ApiResult<String> {
    let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
        return Ok(admin.organization.clone());
    };
    if !admin.organization.is_empty() && wanted != admin.organization {
        return Err(ApiError::forbidden(
            "Only an administrator of the top level can choose the organization",
        ));
    }
    if !app.config().organizations.contains_key(&wanted) {
        return Err(ApiError::bad_request("There is no such organization"));
    }
    Ok(wanted)
}

async fn add_user(app: Arc<App>, admin: Admin, call: Call<AddUser>) -> ApiResult<Envelope> {
    let p = call.params;
    let mut profile = UserProfileConfig {
        username: p.TargetUser,
        ..rules::new_profile()
    };
    profile.organization_id = target_organization(&app, &admin, p.TargetOrganization)?;
    profile.policy_id = crate::policies::default_policy(
        &app,
        &profile.organization_id,
        &admin.permissions.allowed_user_policies,
    )
    .await?;
    rules::check_admin_edit(&admin, &UserProfileConfig::default(), &profile)?;
    let policy_hash = crate::policies::impose(&app, None, &mut profile).await?;
    profile.require_password_change =
        p.RequirePasswordChange == Some(1) || starts_on(profile.policy.mode_require_user_reset_password);
    let recovery = p.StoreRecoveryCode == Some(1) || starts_on(profile.policy.mode_admin_reset_password);
    passwords::set(&app, &mut profile, &p.TargetPassword, recovery).await?;
    add(&app, &admin, profile, policy_hash).await
}

async fn add_user_from_profile(
    app: Arc<App>,
    admin: Admin,
    call: Call<AddUserFromProfile>,
) -> ApiResult<Envelope> {
    let p = call.params;
    let mut profile = p.ProfileData.0;
    profile.username = p.TargetUser;
    profile.organization_id = target_organization(&app, &admin, p.TargetOrganization)?;
    rules::complete(&mut profile);
    rules::check_admin_edit(&admin, &UserProfileConfig::default(), &profile)?;
    let policy_hash = crate::policies::impose(&app, None, &mut profile).await?;
    if profile.password_format == encke_api::constants::PASSWORD_FORMAT_PLAINTEXT {
        let password = std::mem::take(&mut profile.password_hash);
        let recovery = starts_on(profile.policy.mode_admin_reset_password);
        passwords::set(&app, &mut profile, &password, recovery).await?;
    } else {
        rules::check_password_hash(&profile)?;
    }
    add(&app, &admin, profile, policy_hash).await
}

async fn add(
    app: &App,
    admin: &Admin,
    profile: UserProfileConfig,
    policy_hash: String,
) -> ApiResult<Envelope> {
    rules::check(&profile)?;
    let event = event(SEVT_ACCOUNT_NEW, &admin.name, &profile, event_data(&profile));
    let new = NewProfile {
        profile,
        policy_hash,
        event,
    };
    app.store.add_user(new).await.map_err(|e| match e {
        StoreError::Exists => ApiError::new(409, "An account of this name exists already"),
        e => store_error(e),
    })?;
    Ok(done())
}

async fn delete_user(app: Arc<App>, admin: Admin, call: Call<DeleteUser>) -> ApiResult<Envelope> {
    refuse_uninstall(call.params.UninstallConfig.as_ref())?;
    remove(&app, &admin.scope(), &admin.name, &call.params.TargetUser).await?;
    Ok(done())
}

/// Devices can not be told to remove their software yet.
///
/// # Errors
/// 501 when that is asked for.
pub(crate) fn refuse_uninstall(config: Option<&Json<UninstallConfig>>) -> ApiResult<()> {
    if config.is_some_and(|c| c.0.uninstall_flag) {
        return Err(ApiError::unsupported(
            "devices can not remove their own software yet; nothing was deleted",
        ));
    }
    Ok(())
}

/// Deletes an account with everything but the bytes it stored.
///
/// # Errors
/// 400 for an account that does not exist or is outside the scope.
pub(crate) async fn remove(app: &App, scope: &Scope, actor: &str, username: &str) -> ApiResult<()> {
    let stored = profile_of(app, scope, username).await?;
    let removed = event(
        SEVT_ACCOUNT_REMOVED,
        actor,
        &stored.parse().map_err(store_error)?,
        Value::Null,
    );
    let owner = ReportOwner {
        kind: SessionKind::User,
        name: stored.username.clone(),
        organization: stored.organization.clone(),
    };
    let cascade = move |tx: &mut Tx, name: &str| {
        crate::jobs::delete_of_user(tx, name)?;
        delete_reports_of(tx, &owner)
    };
    app.store
        .delete_user(scope, username, removed, cascade)
        .await
        .map_err(user_error)?;
    app.sessions.forget(SessionKind::User, username);
    app.live.close_user(username);
    Ok(())
}

async fn get_profile(
    app: Arc<App>,
    admin: Admin,
    call: Call<Target>,
) -> ApiResult<StoredDoc<UserProfileConfig>> {
    Ok(StoredDoc::new(
        profile_of(&app, &admin.scope(), &call.params.TargetUser)
            .await?
            .body,
    ))
}

fn with_hash(stored: &StoredProfile) -> ApiResult<Doc<GetProfileAndHashResponseMessage>> {
    Ok(Doc(GetProfileAndHashResponseMessage {
        status: 200,
        message: "OK".into(),
        profile_hash: stored.hash.clone(),
        profile: stored.parse().map_err(store_error)?,
        ..Default::default()
    }))
}

async fn get_profile_and_hash(
    app: Arc<App>,
    admin: Admin,
    call: Call<Target>,
) -> ApiResult<Doc<GetProfileAndHashResponseMessage>> {
    with_hash(&profile_of(&app, &admin.scope(), &call.params.TargetUser).await?)
}

async fn get_profile_hash(
    app: Arc<App>,
    admin: Admin,
    call: Call<Target>,
) -> ApiResult<Doc<GetProfileHashResponseMessage>> {
    let stored = profile_of(&app, &admin.scope(), &call.params.TargetUser).await?;
    Ok(Doc(GetProfileHashResponseMessage {
        status: 200,
        message: "OK".into(),
        profile_hash: stored.hash,
        ..Default::default()
    }))
}

/// Writes a changed profile over the one it was made from, under its policy, and tells the devices.
async fn replace(
    app: &App,
    scope: &Scope,
    actor: &str,
    old: &StoredProfile,
    before: &UserProfileConfig,
    profile: &mut UserProfileConfig,
) -> ApiResult<Result<StoredProfile, StoreError>> {
    let policy_hash = crate::policies::impose(app, Some(before), profile).await?;
    rules::check(profile)?;
    let updated = event(SEVT_ACCOUNT_UPDATED, actor, profile, event_data(profile));
    let mut events = vec![updated];
    events.extend(rules::device_events(actor, before, profile));
    let change = ProfileChange {
        profile: profile.clone(),
        require_hash: Some(old.hash.clone()),
        policy_hash,
        events,
    };
    let stored = match app.store.replace_profile(scope, change).await {
        Ok(stored) => stored,
        Err(e) => return Ok(Err(e)),
    };
    let username = &profile.username;
    if profile.is_suspended && !before.is_suspended {
        app.sessions.forget(SessionKind::User, username);
        app.live.close_user(username);
    }
    for gone in before
        .devices
        .keys()
        .filter(|d| !profile.devices.contains_key(*d))
    {
        app.live.close_device(username, gone);
    }
    app.live.tell_user(username, &LiveRequest::RefetchProfile);
    Ok(Ok(stored))
}

/// Tries at one save before it is given up because others keep coming between.
const TRIES: usize = 20;

/// Saves a profile that somebody edited: keeps what an edit may not touch, checks the rest, tells the devices.
///
/// # Errors
/// 400 for a document that breaks a rule, 409 when it was changed meanwhile.
pub(crate) async fn save(
    app: &App,
    scope: &Scope,
    actor: &str,
    username: &str,
    edited: UserProfileConfig,
    require_hash: Option<String>,
) -> ApiResult<StoredProfile> {
    // Without a hash the save is forced; a change in between is then taken as the base and the save repeated. A
    // change of the policy in between is none of the caller's business in either case.
    for _ in 0..TRIES {
        let old = profile_of(app, scope, username).await?;
        if require_hash.as_ref().is_some_and(|h| *h != old.hash) {
            return Err(store_error(StoreError::Changed));
        }
        let before = old.parse().map_err(store_error)?;
        let mut profile = edited.clone();
        rules::keep_protected(app, &before, &mut profile).await?;
        match replace(app, scope, actor, &old, &before, &mut profile).await? {
            Err(StoreError::Changed) => {}
            Err(e) => return Err(user_error(e)),
            Ok(stored) => return Ok(stored),
        }
    }
    Err(store_error(StoreError::Changed))
}

/// Applies a change to the newest profile until no other comes between. For the server's own changes, which may touch
/// what an edit of the document may not.
///
/// # Errors
/// What `change` answers; 400 for an account that does not exist or a result that breaks a rule.
pub(crate) async fn change(
    app: &App,
    actor: &str,
    username: &str,
    mut change: impl FnMut(&mut UserProfileConfig) -> ApiResult<()>,
) -> ApiResult<StoredProfile> {
    change_within(app, &Scope::All, actor, username, None, |p| change(p)).await
}

/// As [`change`], within a scope and, where the caller gives one, only on the profile of this hash.
///
/// # Errors
/// As [`change`], and 409 when the profile has another hash.
pub(crate) async fn change_within(
    app: &App,
    scope: &Scope,
    actor: &str,
    username: &str,
    require_hash: Option<&str>,
    mut change: impl FnMut(&mut UserProfileConfig) -> ApiResult<()>,
) -> ApiResult<StoredProfile> {
    for _ in 0..TRIES {
        let old = profile_of(app, scope, username).await?;
        if require_hash.is_some_and(|h| h != old.hash) {
            return Err(store_error(StoreError::Changed));
        }
        let before: UserProfileConfig = old.parse().map_err(store_error)?;
        let mut profile = before.clone();
        change(&mut profile)?;
        match replace(app, scope, actor, &old, &before, &mut profile).await? {
            Err(StoreError::Changed) => {}
            Err(e) => return Err(user_error(e)),
            Ok(stored) => return Ok(stored),
        }
    }
    Err(store_error(StoreError::Changed))
}

/// Saves what an administrator edited.
async fn save_of_admin(
    app: &App,
    admin: &Admin,
    username: &str,
    edited: UserProfileConfig,
    require_hash: Option<String>,
) -> ApiResult<StoredProfile> {
    let before = profile_of(app, &admin.scope(), username)
        .await?
        .parse()
        .map_err(store_error)?;
    rules::check_admin_edit(admin, &before, &edited)?;
    save(app, &admin.scope(), &admin.name, username, edited, require_hash).await
}

async fn set_profile(app: Arc<App>, admin: Admin, call: Call<SetProfile>) -> ApiResult<Envelope> {
    let p = call.params;
    save_of_admin(&app, &admin, &p.TargetUser, p.ProfileData.0, None).await?;
    Ok(done())
}

async fn set_profile_hash(
    app: Arc<App>,
    admin: Admin,
    call: Call<SetProfileHash>,
) -> ApiResult<Doc<GetProfileAndHashResponseMessage>> {
    let p = call.params;
    let mut profile = p.ProfileData.0;
    if let Some(options) = p.AdminOptions {
        remove_policy_items(&mut profile, &options.0.policy.delete_sources);
    }
    with_hash(&save_of_admin(&app, &admin, &p.TargetUser, profile, Some(p.RequireHash)).await?)
}

async fn user_get_profile_and_hash(
    app: Arc<App>,
    user: User,
    _: Call<NoParams>,
) -> ApiResult<Doc<GetProfileAndHashResponseMessage>> {
    with_hash(&profile_of(&app, &user.scope(), &user.name).await?)
}

async fn user_set_profile_hash(
    app: Arc<App>,
    user: User,
    call: Call<UserSetProfileHash>,
) -> ApiResult<Doc<GetProfileAndHashResponseMessage>> {
    let p = call.params;
    let before = profile_of(&app, &user.scope(), &user.name)
        .await?
        .parse()
        .map_err(store_error)?;
    rules::check_user_edit(&before, &p.ProfileData.0)?;
    with_hash(
        &save(
            &app,
            &user.scope(),
            &user.name,
            &user.name,
            p.ProfileData.0,
            Some(p.ProfileHash),
        )
        .await?,
    )
}

/// Endpoints of accounts and profiles.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminListUsers",
            "/api/v1/admin/list-users",
            "Answers the names of all accounts.",
            list_users,
        ),
        Route::new(
            "AdminListUsersFull",
            "/api/v1/admin/list-users-full",
            "Answers the profiles of all accounts by name.",
            list_users_full,
        ),
        Route::new(
            "AdminAddUser",
            "/api/v1/admin/add-user",
            "Adds an account.",
            add_user,
        ),
        Route::new(
            "AdminAddUserFromProfile",
            "/api/v1/admin/add-user-from-profile",
            "Adds an account with a given profile.",
            add_user_from_profile,
        ),
        Route::new(
            "AdminDeleteUser",
            "/api/v1/admin/delete-user",
            "Deletes an account with its job history; buckets stay.",
            delete_user,
        ),
        Route::new(
            "AdminGetUserProfile",
            "/api/v1/admin/get-user-profile",
            "Answers an account's profile.",
            get_profile,
        ),
        Route::new(
            "AdminGetUserProfileAndHash",
            "/api/v1/admin/get-user-profile-and-hash",
            "Answers an account's profile with the hash for a guarded save.",
            get_profile_and_hash,
        ),
        Route::new(
            "AdminGetUserProfileHash",
            "/api/v1/admin/get-user-profile-hash",
            "Answers the hash of an account's profile.",
            get_profile_hash,
        ),
        Route::new(
            "AdminSetUserProfile",
            "/api/v1/admin/set-user-profile",
            "Saves an account's profile whatever it was changed to meanwhile.",
            set_profile,
        ),
        Route::new(
            "AdminSetUserProfileHash",
            "/api/v1/admin/set-user-profile-hash",
            "Saves an account's profile unless it was changed meanwhile.",
            set_profile_hash,
        ),
        Route::new(
            "UserWebGetUserProfileAndHash",
            "/api/v1/user/web/get-user-profile-and-hash",
            "Answers the caller's own profile with the hash for a guarded save.",
            user_get_profile_and_hash,
        )
        .before_password_change(),
        Route::new(
            "UserWebSetProfileHash",
            "/api/v1/user/web/set-profile-hash",
            "Saves the caller's own profile unless it was changed meanwhile.",
            user_set_profile_hash,
        ),
    ];
    let all = all
        .into_iter()
        .chain(devices::routes())
        .chain(items::routes())
        .chain(passwords::routes())
        .chain(totp::routes());
    all.map(|r| r.roles(&[Role::Auth])).collect()
}

/// Refuses what a device may not change in its account's profile.
///
/// # Errors
/// 403 naming the part.
pub(crate) fn check_device_edit(before: &UserProfileConfig, edited: &UserProfileConfig) -> ApiResult<()> {
    // Keys and statistics are the device's own business, whatever the policy says about editing vaults and items.
    let mut compared = edited.clone();
    for (id, vault) in &mut compared.destinations {
        let Some(old) = before.destinations.get(id) else {
            continue;
        };
        vault.comet_bucket_key.clone_from(&old.comet_bucket_key);
        vault.encryption_key_encryption_method = old.encryption_key_encryption_method;
        vault
            .encrypted_encryption_key
            .clone_from(&old.encrypted_encryption_key);
        vault.repo_init_timestamp = old.repo_init_timestamp;
        vault.statistics.clone_from(&old.statistics);
        vault.retention_error.clone_from(&old.retention_error);
    }
    for (id, source) in &mut compared.sources {
        if let Some(old) = before.sources.get(id) {
            source.statistics.clone_from(&old.statistics);
        }
    }
    rules::check_user_edit(before, &compared)
}

/// Saves what a device changed; see [`save`].
///
/// # Errors
/// As [`save`].
pub(crate) async fn save_from_device(
    app: &App,
    username: &str,
    profile: UserProfileConfig,
    require_hash: String,
) -> ApiResult<StoredProfile> {
    let scope = Scope::User(username.to_string());
    save(app, &scope, username, username, profile, Some(require_hash)).await
}
