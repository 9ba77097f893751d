//! One Protected Item with its backup rules: read, write and delete without handling the whole profile (25.9.6).

use super::{change_within, profile_of, rules};
use crate::app::{App, store_error};
use crate::auth::{Admin, User};
use crate::policies::apply::start_rule;
use crate::policies::check_id;
use crate::table::{Call, Doc, Envelope, Route, done};
use encke_api::form::Json;
use encke_api::types::{
    BackupRuleConfig, ProtectedItemWithBackupRulesResponse, SourceConfig, UserProfileConfig,
};
use encke_api::wire::Wire as _;
use encke_api::{ApiError, ApiResult, params};
use encke_store::{Scope, StoredProfile};
use std::collections::BTreeMap;
use std::sync::Arc;

params! {
    /// A Protected Item of an account.
    struct Target {
        /// Account name.
        TargetUser: String,
        /// Id of the Protected Item.
        SourceID: String
    }
}

params! {
    /// A Protected Item of the caller.
    struct OwnTarget {
        /// Id of the Protected Item.
        SourceID: String
    }
}

params! {
    /// Parameters of `AdminSetProtectedItemWithBackupRules`.
    struct Set {
        /// Account name.
        TargetUser: String,
        /// Id of the Protected Item. One that does not exist yet is added.
        SourceID: String,
        /// Hash of the profile that the change is based on; without it the save is forced.
        RequireHash: Option<String>,
        /// The Protected Item; left as it is if left out.
        Source: Option<Json<SourceConfig>>,
        /// All backup rules of the item, by id; left as they are if left out. A new item then gets the policy's.
        BackupRules: Option<Json<BTreeMap<String, BackupRuleConfig>>>
    }
}

params! {
    /// Parameters of `UserWebSetProtectedItemWithBackupRules`.
    struct OwnSet {
        /// Id of the Protected Item. One that does not exist yet is added.
        SourceID: String,
        /// Hash of the profile that the change is based on; without it the save is forced.
        RequireHash: Option<String>,
        /// The Protected Item; left as it is if left out.
        Source: Option<Json<SourceConfig>>,
        /// All backup rules of the item, by id; left as they are if left out. A new item then gets the policy's.
        BackupRules: Option<Json<BTreeMap<String, BackupRuleConfig>>>
    }
}

/// What a caller gave. One SDK writes an empty object for a structure that was left out.
#[allow(clippy::type_complexity)]
fn given(
    source: Option<Json<SourceConfig>>,
    backup_rules: Option<Json<BTreeMap<String, BackupRuleConfig>>>,
) -> (Option<SourceConfig>, Option<BTreeMap<String, BackupRuleConfig>>) {
    (
        source.map(|s| s.0).filter(|s| !s.is_zero()),
        backup_rules.map(|r| r.0),
    )
}

fn unknown() -> ApiError {
    ApiError::bad_request("There is no such Protected Item")
}

fn read(stored: &StoredProfile, id: &str) -> ApiResult<Doc<ProtectedItemWithBackupRulesResponse>> {
    let mut profile: UserProfileConfig = stored.parse().map_err(store_error)?;
    let source = profile.sources.remove(id).ok_or_else(unknown)?;
    profile.backup_rules.retain(|_, rule| rule.source == id);
    Ok(Doc(ProtectedItemWithBackupRulesResponse {
        status: 200,
        message: "OK".into(),
        source,
        backup_rules: profile.backup_rules,
        profile_hash: stored.hash.clone(),
        ..Default::default()
    }))
}

/// Puts an item and its rules into a profile.
fn put(
    profile: &mut UserProfileConfig,
    id: &str,
    source: Option<SourceConfig>,
    backup_rules: Option<BTreeMap<String, BackupRuleConfig>>,
) -> ApiResult<()> {
    let is_new = !profile.sources.contains_key(id);
    match source {
        Some(source) => {
            profile.sources.insert(id.to_string(), source);
        }
        None if is_new => return Err(unknown()),
        None => {}
    }
    let rules = match backup_rules {
        Some(rules) => rules,
        None if is_new => {
            let mut rules = BTreeMap::new();
            for mut rule in profile.policy.default_backup_rules.values().cloned() {
                start_rule(&mut rule, &profile.policy);
                rules.insert(uuid::Uuid::new_v4().to_string(), rule);
            }
            rules
        }
        None => return Ok(()),
    };
    profile.backup_rules.retain(|_, rule| rule.source != id);
    for (rule_id, mut rule) in rules {
        if profile.backup_rules.contains_key(&rule_id) {
            return Err(ApiError::bad_request(format!(
                "Backup rule '{rule_id}' belongs to another Protected Item"
            )));
        }
        rule.source = id.to_string();
        profile.backup_rules.insert(rule_id, rule);
    }
    Ok(())
}

fn take_out(profile: &mut UserProfileConfig, id: &str) -> ApiResult<()> {
    profile.sources.remove(id).ok_or_else(unknown)?;
    profile.backup_rules.retain(|_, rule| rule.source != id);
    Ok(())
}

/// Changes an account as its end user: what the policy forbids is refused.
async fn change_own(
    app: &App,
    user: &User,
    hash: Option<&str>,
    mut change: impl FnMut(&mut UserProfileConfig) -> ApiResult<()>,
) -> ApiResult<()> {
    let scope = Scope::User(user.name.clone());
    change_within(app, &scope, &user.name, &user.name, hash, |profile| {
        let before = profile.clone();
        change(profile)?;
        rules::check_user_edit(&before, profile)
    })
    .await?;
    Ok(())
}

async fn get(
    app: Arc<App>,
    admin: Admin,
    call: Call<Target>,
) -> ApiResult<Doc<ProtectedItemWithBackupRulesResponse>> {
    let p = call.params;
    read(
        &profile_of(&app, &admin.scope(), &p.TargetUser).await?,
        &p.SourceID,
    )
}

async fn get_own(
    app: Arc<App>,
    user: User,
    call: Call<OwnTarget>,
) -> ApiResult<Doc<ProtectedItemWithBackupRulesResponse>> {
    read(
        &profile_of(&app, &user.scope(), &user.name).await?,
        &call.params.SourceID,
    )
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let p = call.params;
    check_id(&p.SourceID)?;
    let (source, backup_rules) = given(p.Source, p.BackupRules);
    let hash = p.RequireHash.filter(|h| !h.is_empty());
    change_within(
        &app,
        &admin.scope(),
        &admin.name,
        &p.TargetUser,
        hash.as_deref(),
        |profile| {
            let before = profile.clone();
            put(profile, &p.SourceID, source.clone(), backup_rules.clone())?;
            rules::check_admin_edit(&admin, &before, profile)
        },
    )
    .await?;
    Ok(done())
}

async fn set_own(app: Arc<App>, user: User, call: Call<OwnSet>) -> ApiResult<Envelope> {
    let p = call.params;
    check_id(&p.SourceID)?;
    let (source, backup_rules) = given(p.Source, p.BackupRules);
    let hash = p.RequireHash.filter(|h| !h.is_empty());
    change_own(&app, &user, hash.as_deref(), |profile| {
        put(profile, &p.SourceID, source.clone(), backup_rules.clone())
    })
    .await?;
    Ok(done())
}

async fn delete(app: Arc<App>, admin: Admin, call: Call<Target>) -> ApiResult<Envelope> {
    let p = call.params;
    change_within(
        &app,
        &admin.scope(),
        &admin.name,
        &p.TargetUser,
        None,
        |profile| take_out(profile, &p.SourceID),
    )
    .await?;
    Ok(done())
}

async fn delete_own(app: Arc<App>, user: User, call: Call<OwnTarget>) -> ApiResult<Envelope> {
    change_own(&app, &user, None, |profile| {
        take_out(profile, &call.params.SourceID)
    })
    .await?;
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminGetProtectedItemWithBackupRules",
            "/api/v1/admin/get-protected-item-with-backup-rules",
            "Answers one Protected Item with its backup rules and the profile's hash.",
            get,
        ),
        Route::new(
            "AdminSetProtectedItemWithBackupRules",
            "/api/v1/admin/set-protected-item-with-backup-rules",
            "Saves one Protected Item, its backup rules, or both.",
            set,
        ),
        Route::new(
            "AdminDeleteProtectedItem",
            "/api/v1/admin/delete-protected-item",
            "Deletes a Protected Item and its backup rules; its snapshots stay.",
            delete,
        ),
        Route::new(
            "UserWebGetProtectedItemWithBackupRules",
            "/api/v1/user/web/get-protected-item-with-backup-rules",
            "Answers one of the caller's Protected Items with its backup rules and the profile's hash.",
            get_own,
        ),
        Route::new(
            "UserWebSetProtectedItemWithBackupRules",
            "/api/v1/user/web/set-protected-item-with-backup-rules",
            "Saves one of the caller's Protected Items, its backup rules, or both.",
            set_own,
        ),
        Route::new(
            "UserWebDeleteProtectedItem",
            "/api/v1/user/web/delete-protected-item",
            "Deletes one of the caller's Protected Items and its backup rules; its snapshots stay.",
            delete_own,
        ),
    ]
}
