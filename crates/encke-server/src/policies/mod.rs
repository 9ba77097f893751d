//! Policies: what accounts may and must do, written once and kept in force in every linked profile (reference,
//! section 8).

pub(crate) mod apply;

use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::table::{Call, Doc, Envelope, MapOf, Route, done};
use encke_api::constants::{SEVT_POLICY_NEW, SEVT_POLICY_REMOVED, SEVT_POLICY_UPDATED};
use encke_api::endpoint::Role;
use encke_api::form::Json;
use encke_api::types::{
    CreateGroupPolicyResponse, GetGroupPolicyResponse, GroupPolicy, PolicyOptions, UserProfileConfig,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::collections::{Item, item, items, put_item, remove_item};
use encke_store::sql::Tx;
use encke_store::{EventDraft, Scope, StoreError, StoreResult, UsersOf};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest id that a caller may choose for a policy, group or quota, in bytes.
pub(crate) const MAX_ID: usize = 64;
/// Longest description, in bytes.
pub(crate) const MAX_DESCRIPTION: usize = 1024;

params! {
    /// A list.
    struct ListOfOrganization {
        /// Only those of this organization; for administrators of the top level.
        TargetOrganization: Option<String>
    }
}

params! {
    /// A policy.
    struct Target {
        /// Id of the policy.
        PolicyID: String
    }
}

params! {
    /// Parameters of `AdminPoliciesNew`.
    struct New {
        /// The policy.
        Policy: Json<GroupPolicy>
    }
}

params! {
    /// Parameters of `AdminPoliciesSet`.
    struct Set {
        /// Id of the policy. One that does not exist yet is made.
        PolicyID: String,
        /// The whole policy.
        Policy: Json<GroupPolicy>,
        /// Hash that the change is based on; without it the policy is saved whatever it was changed to.
        CheckPolicyHash: Option<String>,
        /// Items of the policy to delete from all its accounts.
        Options: Option<Json<PolicyOptions>>
    }
}

/// The rows that a list call may show: the caller's, or those of one organization that a top-level caller names.
///
/// # Errors
/// 403 for another organization's administrator.
pub(crate) fn list_scope(admin: &Admin, organization: Option<String>) -> ApiResult<Scope> {
    match organization {
        Some(o) if admin.organization.is_empty() => Ok(Scope::Organization(o)),
        Some(o) if o != admin.organization && !o.is_empty() => Err(ApiError::forbidden(
            "Only an administrator of the top level can choose the organization",
        )),
        _ => Ok(admin.scope()),
    }
}

/// Checks an id that a caller chose.
///
/// # Errors
/// 400.
pub(crate) fn check_id(id: &str) -> ApiResult<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.len() > MAX_ID || !id.chars().all(plain) {
        return Err(ApiError::bad_request(
            "An id has 1 to 64 letters, digits or any of - _ .",
        ));
    }
    Ok(())
}

/// The organization that a new document goes to, given the one that the caller wrote into it.
///
/// # Errors
/// 403 for another organization's administrator, 400 for an organization that does not exist.
pub(crate) fn place_in_organization(app: &App, admin: &Admin, wanted: &mut String) -> ApiResult<()> {
    if !admin.organization.is_empty() {
        if !wanted.is_empty() && *wanted != admin.organization {
            return Err(ApiError::forbidden(
                "Only an administrator of the top level can choose the organization",
            ));
        }
        wanted.clone_from(&admin.organization);
    } else if !wanted.is_empty() && !app.config().organizations.contains_key(wanted) {
        return Err(ApiError::bad_request("There is no such organization"));
    }
    Ok(())
}

fn policy_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::not_found("There is no such policy"),
        e => store_error(e),
    }
}

fn event(kind: i64, actor: &str, id: &str, policy: &GroupPolicy) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: policy.organization_id.clone(),
        resource: id.to_string(),
        kind,
        data: match kind {
            SEVT_POLICY_REMOVED => Value::Null,
            _ => serde_json::to_value(policy).unwrap_or_default(),
        },
    }
}

fn check(policy: &GroupPolicy) -> ApiResult<()> {
    if policy.description.len() > MAX_DESCRIPTION {
        return Err(ApiError::bad_request("The policy's Description is too long"));
    }
    let p = &policy.policy;
    let modes = [
        (
            "ModeScheduleSkipAlreadyRunning",
            p.mode_schedule_skip_already_running,
        ),
        (
            "ModeScheduleLastJobFailDoRetry",
            p.mode_schedule_last_job_fail_do_retry,
        ),
        ("ModeAdminResetPassword", p.mode_admin_reset_password),
        ("ModeAdminViewFilenames", p.mode_admin_view_filenames),
        ("ModeRequireUserResetPassword", p.mode_require_user_reset_password),
    ];
    for (name, mode) in modes {
        if !(0..=4).contains(&mode) {
            return Err(ApiError::bad_request(format!(
                "Policy.{name} {mode} is not one of the five settings"
            )));
        }
    }
    crate::users::check_retention(
        "Policy.DefaultStorageVaultRetention",
        &p.default_storage_vault_retention,
    )?;
    if p.default_sources.len() + p.default_sources_with_os_restriction.len() > 1000 {
        return Err(ApiError::bad_request("A policy has at most 1000 Protected Items"));
    }
    for exclusion in &p.file_and_folder_mandatory_exclusions {
        if exclusion.regex && regex::Regex::new(&exclusion.exclude).is_err() {
            return Err(ApiError::bad_request(format!(
                "The mandatory exclusion '{}' is not a regular expression",
                exclusion.exclude
            )));
        }
    }
    Ok(())
}

async fn list(app: Arc<App>, admin: Admin, call: Call<ListOfOrganization>) -> ApiResult<MapOf<String>> {
    let scope = list_scope(&admin, call.params.TargetOrganization)?;
    let all: BTreeMap<String, GroupPolicy> = app.store.items(&scope).await.map_err(store_error)?;
    Ok(MapOf(
        all.into_iter().map(|(id, p)| (id, p.description)).collect(),
    ))
}

async fn list_full(
    app: Arc<App>,
    admin: Admin,
    call: Call<ListOfOrganization>,
) -> ApiResult<MapOf<GroupPolicy>> {
    let scope = list_scope(&admin, call.params.TargetOrganization)?;
    app.store.items(&scope).await.map(MapOf).map_err(store_error)
}

async fn get(app: Arc<App>, admin: Admin, call: Call<Target>) -> ApiResult<Doc<GetGroupPolicyResponse>> {
    let found: Item<GroupPolicy> = app
        .store
        .item(&admin.scope(), &call.params.PolicyID)
        .await
        .map_err(policy_error)?;
    Ok(Doc(GetGroupPolicyResponse {
        status: 200,
        message: "OK".into(),
        policy: found.value,
        policy_hash: found.hash,
        ..Default::default()
    }))
}

/// At most one policy of an organization is the default of new accounts: takes the mark from the others.
fn keep_one_default(tx: &mut Tx, actor: &str, id: &str, policy: &GroupPolicy) -> StoreResult<()> {
    if !policy.default_user_policy {
        return Ok(());
    }
    let scope = Scope::Organization(policy.organization_id.clone());
    for mut other in items::<GroupPolicy>(tx.sql(), &scope)? {
        if other.id != id && other.value.default_user_policy {
            other.value.default_user_policy = false;
            put_item(tx, &other.id, &other.value, Some(&other.hash))?;
            tx.emit(event(SEVT_POLICY_UPDATED, actor, &other.id, &other.value));
        }
    }
    Ok(())
}

async fn new(app: Arc<App>, admin: Admin, call: Call<New>) -> ApiResult<Doc<CreateGroupPolicyResponse>> {
    let id = uuid::Uuid::new_v4().to_string();
    let hash = put(&app, &admin, id, call.params.Policy.0, None).await?;
    Ok(Doc(CreateGroupPolicyResponse {
        status: 200,
        message: "OK".into(),
        policy_hash: hash,
        ..Default::default()
    }))
}

/// Refuses an administrator who is confined to other policies.
fn check_may_change(admin: &Admin, id: &str) -> ApiResult<()> {
    let allowed = &admin.permissions.allowed_user_policies;
    if allowed.is_empty() || allowed.iter().any(|a| a == id) {
        return Ok(());
    }
    Err(ApiError::forbidden("Your permissions do not allow this policy"))
}

/// Saves a policy, over the present one of this id if the caller may see it. Answers its hash.
async fn put(
    app: &App,
    admin: &Admin,
    id: String,
    mut policy: GroupPolicy,
    check_hash: Option<String>,
) -> ApiResult<String> {
    check_may_change(admin, &id)?;
    check(&policy)?;
    place_in_organization(app, admin, &mut policy.organization_id)?;
    policy.modified_date = now();
    let (scope, actor) = (admin.scope(), admin.name.clone());
    let written = app.store.write(move |tx| {
        let old = match item::<GroupPolicy>(tx.sql(), &scope, &id) {
            Ok(old) => Some(old),
            Err(StoreError::NotFound) => None,
            Err(e) => return Err(e),
        };
        if let Some(wanted) = check_hash.filter(|h| !h.is_empty())
            && old.as_ref().map(|o| &o.hash) != Some(&wanted)
        {
            return Err(StoreError::Changed);
        }
        let kind = match &old {
            None => {
                policy.created_date = policy.modified_date;
                SEVT_POLICY_NEW
            }
            Some(old) => {
                if old.value.organization_id != policy.organization_id {
                    return Err(StoreError::Invalid(
                        "A policy can not be moved to another organization".into(),
                    ));
                }
                policy.created_date = old.value.created_date;
                SEVT_POLICY_UPDATED
            }
        };
        let hash = put_item(tx, &id, &policy, old.as_ref().map(|o| o.hash.as_str()))?;
        keep_one_default(tx, &actor, &id, &policy)?;
        tx.emit(event(kind, &actor, &id, &policy));
        Ok(hash)
    });
    written.await.map_err(|e| match e {
        // Somebody else's, outside the caller's sight.
        StoreError::Exists => ApiError::forbidden("This id can not be used"),
        e => policy_error(e),
    })
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let p = call.params;
    check_id(&p.PolicyID)?;
    put(&app, &admin, p.PolicyID.clone(), p.Policy.0, p.CheckPolicyHash).await?;
    let delete = p.Options.map(|o| o.0.delete_sources).unwrap_or_default();
    pass_on(&app, &admin.name, &delete, UsersOf::Policy(p.PolicyID)).await?;
    Ok(done())
}

async fn delete(app: Arc<App>, admin: Admin, call: Call<Target>) -> ApiResult<Envelope> {
    let (scope, actor, id) = (admin.scope(), admin.name.clone(), call.params.PolicyID);
    check_may_change(&admin, &id)?;
    // Asked first, so that nothing is unlinked from a policy that the caller may not see.
    let _: Item<GroupPolicy> = app.store.item(&scope, &id).await.map_err(policy_error)?;
    loop {
        let users = app
            .store
            .usernames_of(UsersOf::Policy(id.clone()))
            .await
            .map_err(store_error)?;
        for user in users {
            crate::users::change(&app, &actor, &user, |profile| {
                // Keeps the last effective copy as the account's own policy.
                profile.policy_id.clear();
                for source in profile.sources.values_mut() {
                    source.existing_user_update = false;
                }
                Ok(())
            })
            .await?;
        }
        let (scope, actor, id) = (scope.clone(), actor.clone(), id.clone());
        let removed = app.store.write(move |tx| {
            let linked = tx.sql().first(
                "SELECT 1 FROM users WHERE policy = ?1",
                &[encke_store::sql::P::Text(&id)],
                |_| Ok(()),
            )?;
            if linked.is_some() {
                return Ok(false);
            }
            let old = remove_item::<GroupPolicy>(tx, &scope, &id)?;
            tx.emit(event(SEVT_POLICY_REMOVED, &actor, &id, &old.value));
            Ok(true)
        });
        // Accounts that were linked meanwhile are unlinked too.
        if removed.await.map_err(policy_error)? {
            return Ok(done());
        }
    }
}

/// Brings accounts up to their policy.
async fn pass_on(app: &App, actor: &str, delete: &[String], which: UsersOf) -> ApiResult<()> {
    let users = app.store.usernames_of(which).await.map_err(store_error)?;
    for user in users {
        let changed = crate::users::change(app, actor, &user, |profile| {
            apply::remove_policy_items(profile, delete);
            Ok(())
        });
        match changed.await {
            // Deleted meanwhile.
            Err(e) if e.status == 400 => {}
            other => other.map(drop)?,
        }
    }
    Ok(())
}

/// Accounts that did not get a policy's last change, because the server stopped in the middle of it, get it now.
pub(crate) async fn start(app: Arc<App>) {
    if let Err(e) = pass_on(&app, "", &[], UsersOf::OutdatedPolicy).await {
        tracing::warn!(error = %e, "policies could not be brought up to date in all accounts");
    }
}

/// Puts a profile under its policy: fills in the effective copy and all that the policy forces. `before` is the stored
/// profile, nothing for a new account. Answers the hash of the policy.
///
/// # Errors
/// 400 when there is no such policy in the account's organization.
pub(crate) async fn impose(
    app: &App,
    before: Option<&UserProfileConfig>,
    profile: &mut UserProfileConfig,
) -> ApiResult<String> {
    let none = Default::default();
    let new_devices: BTreeSet<String> = profile
        .devices
        .keys()
        .filter(|d| !before.map_or(&none, |b| &b.devices).contains_key(*d))
        .cloned()
        .collect();
    let (policy, hash) = if profile.policy_id.is_empty() {
        (profile.policy.clone(), String::new())
    } else {
        let scope = Scope::Organization(profile.organization_id.clone());
        let found: Item<GroupPolicy> =
            app.store
                .item(&scope, &profile.policy_id)
                .await
                .map_err(|e| match e {
                    StoreError::NotFound => {
                        ApiError::bad_request(format!("There is no policy '{}'", profile.policy_id))
                    }
                    e => store_error(e),
                })?;
        (found.value.policy, found.hash)
    };
    if let Some(before) = before {
        profile.policy = before.policy.clone();
    }
    apply::apply(profile, policy, &new_devices);
    Ok(hash)
}

/// The policy that a new account of an organization starts under, if one is marked. Where the caller may assign some
/// policies only, the first of those when the marked one is not among them.
///
/// # Errors
/// The store fails.
pub(crate) async fn default_policy(app: &App, organization: &str, allowed: &[String]) -> ApiResult<String> {
    let scope = Scope::Organization(organization.to_string());
    let all: BTreeMap<String, GroupPolicy> = app.store.items(&scope).await.map_err(store_error)?;
    let may = |id: &String| allowed.is_empty() || allowed.contains(id);
    let marked = all.iter().find(|(id, p)| p.default_user_policy && may(id));
    let found = marked.or_else(|| all.iter().find(|(id, _)| !allowed.is_empty() && may(id)));
    Ok(found.map(|(id, _)| id.clone()).unwrap_or_default())
}

/// Endpoints of policies.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminPoliciesList",
            "/api/v1/admin/policies/list",
            "Answers the descriptions of all policies by id.",
            list,
        ),
        Route::new(
            "AdminPoliciesListFull",
            "/api/v1/admin/policies/list-full",
            "Answers all policies by id.",
            list_full,
        ),
        Route::new(
            "AdminPoliciesGet",
            "/api/v1/admin/policies/get",
            "Answers a policy with the hash for a guarded save.",
            get,
        ),
        Route::new(
            "AdminPoliciesNew",
            "/api/v1/admin/policies/new",
            "Adds a policy under an id of the server's choice; the lists tell it.",
            new,
        ),
        Route::new(
            "AdminPoliciesSet",
            "/api/v1/admin/policies/set",
            "Saves a policy, or adds one under a chosen id, and brings every account under it up to date.",
            set,
        ),
        Route::new(
            "AdminPoliciesDelete",
            "/api/v1/admin/policies/delete",
            "Deletes a policy; its accounts keep the last effective copy as their own.",
            delete,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
