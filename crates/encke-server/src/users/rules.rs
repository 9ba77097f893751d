//! What a profile must hold to, and what an edit of it may not touch (reference, section 7).

use crate::app::{App, now};
use crate::auth::Admin;
use encke_api::account_keys::{ENCRYPTIONMETHOD_ENCKE, PASSWORD_FORMAT_ENCKE, StoredPassword};
use encke_api::constants::{
    DEFAULT_LANGUAGE, DEFAULT_TIMEZONE, RETENTIONMODE_DELETE_EXCEPT, RETENTIONMODE_KEEP_EVERYTHING,
    SEVT_DEVICE_NEW, SEVT_DEVICE_REMOVED, USERNAME_MAX_LENGTH,
};
use encke_api::types::{DestinationConfig, RetentionPolicy, UserPolicy, UserProfileConfig};
use encke_api::{ApiError, ApiResult};
use encke_store::EventDraft;
use serde_json::Value;

/// Most entries of one kind in a profile.
const MAX_ENTRIES: usize = 10_000;

/// A profile as a new account has it: no vaults, no items.
pub fn new_profile() -> UserProfileConfig {
    let mut profile = UserProfileConfig {
        allow_password_login: true,
        ..Default::default()
    };
    complete(&mut profile);
    profile
}

/// Fills in what a new account needs and the caller left empty.
pub fn complete(profile: &mut UserProfileConfig) {
    let or = |field: &mut String, default: &str| {
        if field.is_empty() {
            *field = default.to_string();
        }
    };
    or(&mut profile.local_timezone, DEFAULT_TIMEZONE);
    or(&mut profile.language_code, DEFAULT_LANGUAGE);
    or(&mut profile.creation_guid, &uuid::Uuid::new_v4().to_string());
    if profile.create_time == 0 {
        profile.create_time = now();
    }
    profile.supports_device_associations = true;
    let enough = profile.allow_password_login
        || (profile.allow_password_and_totp_login && !profile.totp_key.is_empty());
    if !enough {
        profile.allow_password_login = true;
    }
    if profile.policy.default_storage_vault_retention.mode == 0 {
        profile.policy.default_storage_vault_retention.mode = RETENTIONMODE_KEEP_EVERYTHING;
    }
}

/// A password that comes hashed must be a hash of ours, else nobody could ever log in.
pub fn check_password_hash(profile: &UserProfileConfig) -> ApiResult<()> {
    if profile.password_format == PASSWORD_FORMAT_ENCKE
        && StoredPassword::from_text(&profile.password_hash).is_ok()
    {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "PasswordFormat and PasswordHash are not of a kind this server can check",
    ))
}

/// Refuses a profile that breaks a rule, naming the property.
pub fn check(profile: &UserProfileConfig) -> ApiResult<()> {
    let bad = |message: String| Err(ApiError::bad_request(message));
    let name = &profile.username;
    let allowed = |c: char| c.is_alphanumeric() || "_.@-".contains(c);
    if name.is_empty()
        || name.len() > usize::try_from(USERNAME_MAX_LENGTH).unwrap_or(255)
        || !name.chars().all(allowed)
    {
        return bad("An account name has 1 to 255 letters, digits or any of _ . @ -".into());
    }
    let sizes = [
        ("Destinations", profile.destinations.len()),
        ("Sources", profile.sources.len()),
        ("BackupRules", profile.backup_rules.len()),
        ("Devices", profile.devices.len()),
        ("Emails", profile.emails.len()),
    ];
    for (what, n) in sizes {
        if n > MAX_ENTRIES {
            return bad(format!(
                "{what} has {n} entries, at most {MAX_ENTRIES} are allowed"
            ));
        }
    }
    if profile.maximum_devices > 0
        && profile.devices.len() > usize::try_from(profile.maximum_devices).unwrap_or(0)
    {
        return bad(format!(
            "The account may have at most {} devices",
            profile.maximum_devices
        ));
    }
    for (id, vault) in &profile.destinations {
        check_retention(
            &format!("Destinations[{id}].DefaultRetention"),
            &vault.default_retention,
        )?;
    }
    Ok(())
}

/// Refuses a retention of an unknown kind.
///
/// # Errors
/// 400 naming the property.
pub(crate) fn check_retention(name: &str, retention: &RetentionPolicy) -> ApiResult<()> {
    let mode = retention.mode;
    if [0, RETENTIONMODE_KEEP_EVERYTHING, RETENTIONMODE_DELETE_EXCEPT].contains(&mode) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("{name}.Mode {mode} is unknown")))
}

/// Refuses what an administrator's permissions do not allow in an edit of a profile (reference, section 4.4).
///
/// # Errors
/// 403 naming the part.
pub(crate) fn check_admin_edit(
    admin: &Admin,
    before: &UserProfileConfig,
    edited: &UserProfileConfig,
) -> ApiResult<()> {
    let may = &admin.permissions;
    let refused = |what: &str| {
        Err(ApiError::forbidden(format!(
            "Your permissions do not allow {what}"
        )))
    };
    let policies = &may.allowed_user_policies;
    // A new account has to be under one of them, too.
    let is_new = before.username.is_empty();
    if !policies.is_empty()
        && (is_new || edited.policy_id != before.policy_id)
        && !policies.contains(&edited.policy_id)
    {
        return refused("this policy");
    }
    if may.prevent_delete_storage_vault
        && before
            .destinations
            .keys()
            .any(|id| !edited.destinations.contains_key(id))
    {
        return refused("deleting Storage Vaults");
    }
    for (id, vault) in &edited.destinations {
        let old = before.destinations.get(id);
        if old.is_some_and(|o| o.destination_type == vault.destination_type) {
            continue;
        }
        if may.prevent_add_custom_storage_vault {
            return refused("adding Storage Vaults");
        }
        if may.should_restrict_provider_list
            && !may
                .allowed_providers_when_restricted
                .contains(&vault.destination_type)
        {
            return refused("Storage Vaults of this type");
        }
    }
    Ok(())
}

/// Puts back what an edit of the document may not change: identity, password, secrets of codes, and the wrapped keys
/// of a vault, which no server-side editor could have made.
pub async fn keep_protected(
    app: &App,
    before: &UserProfileConfig,
    edited: &mut UserProfileConfig,
) -> ApiResult<()> {
    edited.username.clone_from(&before.username);
    edited.organization_id.clone_from(&before.organization_id);
    edited.creation_guid.clone_from(&before.creation_guid);
    edited.create_time = before.create_time;
    if edited.password_format == encke_api::constants::PASSWORD_FORMAT_PLAINTEXT
        && !edited.password_hash.is_empty()
        && edited
            .destinations
            .values()
            .chain(before.destinations.values())
            .all(|d| d.encrypted_encryption_key.is_empty())
    {
        // No vault key hangs on the password yet, so a new one in clear can be taken over.
        let password = std::mem::take(&mut edited.password_hash);
        super::passwords::set(app, edited, &password, !before.password_recovery.is_empty()).await?;
    } else if edited.password_hash != before.password_hash {
        if edited.password_format == encke_api::constants::PASSWORD_FORMAT_PLAINTEXT
            && !edited.password_hash.is_empty()
        {
            return Err(ApiError::bad_request(
                "The account has vault keys that hang on its password; reset the password instead of editing it",
            ));
        }
        edited.password_format = before.password_format;
        edited.password_hash.clone_from(&before.password_hash);
        edited.password_recovery.clone_from(&before.password_recovery);
    } else {
        edited.password_format = before.password_format;
        edited.password_recovery.clone_from(&before.password_recovery);
    }
    edited.totp_key.clone_from(&before.totp_key);
    edited.totp_key_encryption_format = before.totp_key_encryption_format;
    let enough =
        edited.allow_password_login || (edited.allow_password_and_totp_login && !edited.totp_key.is_empty());
    if !enough {
        return Err(ApiError::bad_request(
            "These settings would leave no way to log in",
        ));
    }
    if edited.is_suspended && !before.is_suspended {
        edited.last_suspended = now();
    }
    for (id, vault) in &mut edited.destinations {
        let Some(old) = before.destinations.get(id) else {
            continue;
        };
        let lost = old.encryption_key_encryption_method == ENCRYPTIONMETHOD_ENCKE
            && vault.encrypted_encryption_key.is_empty();
        if lost {
            vault
                .encrypted_encryption_key
                .clone_from(&old.encrypted_encryption_key);
            vault.encryption_key_encryption_method = old.encryption_key_encryption_method;
            vault.repo_init_timestamp = old.repo_init_timestamp;
        }
    }
    Ok(())
}

/// Events for devices that an edit added or removed.
pub fn device_events(actor: &str, before: &UserProfileConfig, after: &UserProfileConfig) -> Vec<EventDraft> {
    let event = |kind, id: &String, data| EventDraft {
        actor: actor.to_string(),
        organization: after.organization_id.clone(),
        resource: id.clone(),
        kind,
        data,
    };
    let added = after
        .devices
        .iter()
        .filter(|(id, _)| !before.devices.contains_key(*id));
    let removed = before
        .devices
        .keys()
        .filter(|id| !after.devices.contains_key(*id));
    added
        .map(|(id, device)| {
            event(
                SEVT_DEVICE_NEW,
                id,
                serde_json::to_value(device).unwrap_or_default(),
            )
        })
        .chain(removed.map(|id| event(SEVT_DEVICE_REMOVED, id, Value::Null)))
        .collect()
}

/// Refuses what an end user may not change in the own profile: administration, and what the policy forbids.
pub fn check_user_edit(before: &UserProfileConfig, edited: &UserProfileConfig) -> ApiResult<()> {
    let fixed = |same: bool, what: &str| {
        if same {
            Ok(())
        } else {
            Err(ApiError::forbidden(format!("You may not change {what}")))
        }
    };
    let policy = &before.policy;
    fixed(
        edited.policy_id == before.policy_id && edited.policy == before.policy,
        "the policy",
    )?;
    fixed(edited.group_id == before.group_id, "the group")?;
    fixed(edited.is_suspended == before.is_suspended, "the suspension")?;
    let quotas = |p: &UserProfileConfig| {
        (
            p.all_protected_items_quota_enabled,
            p.all_protected_items_quota_bytes,
            p.maximum_devices,
            p.quota_office365_protected_accounts,
            p.quota_hyper_v_guests,
            p.quota_v_mware_guests,
        )
    };
    fixed(quotas(edited) == quotas(before), "the quotas")?;
    fixed(
        edited.linux_homedir_sandbox == before.linux_homedir_sandbox
            && edited.auto_storage_template_guid == before.auto_storage_template_guid
            && edited.server_config == before.server_config,
        "the settings of the server",
    )?;
    fixed(
        edited.require_password_change == before.require_password_change,
        "the password by editing the profile",
    )?;
    fixed(
        !policy.prevent_change_account_name || edited.account_name == before.account_name,
        "the account name",
    )?;
    fixed(
        !policy.prevent_change_email_settings
            || (edited.emails == before.emails
                && edited.override_email_settings == before.override_email_settings
                && edited.send_email_reports == before.send_email_reports),
        "the e-mail settings",
    )?;
    for (id, vault) in &before.destinations {
        match edited.destinations.get(id) {
            None => fixed(!policy.prevent_delete_storage_vault, "the Storage Vaults")?,
            Some(new) => {
                fixed(
                    !policy.prevent_edit_storage_vault || new == vault,
                    "the Storage Vaults",
                )?;
                let limit = |v: &DestinationConfig| {
                    (
                        v.storage_limit_enabled,
                        v.storage_limit_bytes,
                        v.storage_limit_id.clone(),
                    )
                };
                fixed(limit(new) == limit(vault), "a Storage Vault's quota")?;
                fixed(
                    policy.allow_edit_object_lock_retention
                        || (new.s3_object_lock_mode, new.s3_object_lock_days)
                            == (vault.s3_object_lock_mode, vault.s3_object_lock_days),
                    "a Storage Vault's object lock",
                )?;
                if new.destination_type != vault.destination_type {
                    fixed(provider_allowed(policy, new), "a Storage Vault to this type")?;
                }
            }
        }
    }
    for (id, source) in &before.sources {
        match edited.sources.get(id) {
            None => fixed(!policy.prevent_delete_protected_item, "the Protected Items")?,
            Some(new) => fixed(
                !policy.prevent_edit_protected_item || new == source,
                "the Protected Items",
            )?,
        }
    }
    for (id, vault) in &edited.destinations {
        if !before.destinations.contains_key(id) {
            fixed(!policy.prevent_add_custom_storage_vault, "the Storage Vaults")?;
            fixed(provider_allowed(policy, vault), "Storage Vaults of this type")?;
            fixed(vault.storage_limit_id.is_empty(), "a shared quota")?;
        }
    }
    let engines = &policy.protected_item_engine_types;
    for (id, source) in &edited.sources {
        let old = before.sources.get(id);
        fixed(
            !policy.prevent_new_protected_item || old.is_some(),
            "the Protected Items",
        )?;
        let changed = old.is_none_or(|o| o.engine != source.engine);
        let allowed = !engines.should_restrict_engine_type_list
            || engines
                .allowed_engine_type_when_restricted
                .contains(&source.engine);
        fixed(!changed || allowed, "Protected Items of this type")?;
    }
    Ok(())
}

fn provider_allowed(policy: &UserPolicy, vault: &DestinationConfig) -> bool {
    let providers = &policy.storage_vault_providers;
    !providers.should_restrict_provider_list
        || providers
            .allowed_providers_when_restricted
            .contains(&vault.destination_type)
}
