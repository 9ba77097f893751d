//! What a policy does to a profile (reference, section 8). Pure: the profile goes in and comes out.

use encke_api::constants::{
    DESTINATIONTYPE_ALL, DESTINATIONTYPE_LATEST, OS_ANY, OS_ONLY_LINUX, OS_ONLY_MACOS, OS_ONLY_WINDOWS,
    OS_ONLY_WINDOWS_X8632, OS_ONLY_WINDOWS_X8664, RETENTIONMODE_KEEP_EVERYTHING, SETTING_ENFORCED_OFF,
    SETTING_ENFORCED_ON, SETTING_OPTIONAL_DEFAULT_ON,
};
use encke_api::types::{BackupRuleConfig, DeviceConfig, SourceConfig, UserPolicy, UserProfileConfig};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a five-state setting is on for something that is made now: enforced or by default.
pub(crate) fn starts_on(mode: i64) -> bool {
    mode == SETTING_ENFORCED_ON || mode == SETTING_OPTIONAL_DEFAULT_ON
}

/// What a five-state setting forces, if anything.
fn forced(mode: i64) -> Option<bool> {
    match mode {
        SETTING_ENFORCED_ON => Some(true),
        SETTING_ENFORCED_OFF => Some(false),
        _ => None,
    }
}

/// Makes a profile obey a policy, which becomes the profile's effective one. What stands in `profile.policy` is taken
/// for the policy that the profile obeyed so far, so that what came from it can be told from the user's own. On a
/// device of `new_devices` the policy's items are made; on others only those that stay linked.
pub(crate) fn apply(profile: &mut UserProfileConfig, policy: UserPolicy, new_devices: &BTreeSet<String>) {
    let before = std::mem::replace(&mut profile.policy, policy);
    let policy = profile.policy.clone();
    items(profile, &before, &policy, new_devices);
    for rule in profile.backup_rules.values_mut() {
        enforce_rule(rule, &policy);
    }
    for vault in profile.destinations.values_mut() {
        if policy.enforce_storage_vault_retention || vault.default_retention.mode == 0 {
            vault
                .default_retention
                .clone_from(&policy.default_storage_vault_retention);
        }
        if vault.default_retention.mode == 0 {
            vault.default_retention.mode = RETENTIONMODE_KEEP_EVERYTHING;
        }
    }
    if policy.prevent_protected_item_retention {
        for source in profile.sources.values_mut() {
            source.override_destination_retention.clear();
        }
    }
    if policy.mode_admin_reset_password == SETTING_ENFORCED_OFF {
        profile.password_recovery.clear();
    }
}

fn enforce_rule(rule: &mut BackupRuleConfig, policy: &UserPolicy) {
    if let Some(on) = forced(policy.mode_schedule_skip_already_running) {
        rule.skip_already_running = on;
    }
    if let Some(on) = forced(policy.mode_schedule_last_job_fail_do_retry) {
        let triggers = &mut rule.event_triggers;
        triggers.on_last_job_fail_do_retry = on;
        if on {
            triggers.last_job_fail_do_retry_time = policy.mode_last_job_fail_do_retry_time;
            triggers.last_job_fail_do_retry_count = policy.mode_last_job_fail_do_retry_count;
        }
    }
}

/// A rule as a policy's defaults make it: the optional defaults apply too.
pub(crate) fn start_rule(rule: &mut BackupRuleConfig, policy: &UserPolicy) {
    if policy.mode_schedule_skip_already_running == SETTING_OPTIONAL_DEFAULT_ON {
        rule.skip_already_running = true;
    }
    if policy.mode_schedule_last_job_fail_do_retry == SETTING_OPTIONAL_DEFAULT_ON {
        let triggers = &mut rule.event_triggers;
        triggers.on_last_job_fail_do_retry = true;
        triggers.last_job_fail_do_retry_time = policy.mode_last_job_fail_do_retry_time;
        triggers.last_job_fail_do_retry_count = policy.mode_last_job_fail_do_retry_count;
    }
}

/// The items of a policy with the systems they are for.
fn policy_items(policy: &UserPolicy) -> impl Iterator<Item = (&String, &SourceConfig, i64)> {
    let restricted = policy
        .default_sources_with_os_restriction
        .iter()
        .map(|(id, s)| (id, &s.source_config, s.restrict_os));
    // The older list has no restriction; an item that stands in both is taken once.
    let plain = policy
        .default_sources
        .iter()
        .filter(|(id, _)| !policy.default_sources_with_os_restriction.contains_key(*id))
        .map(|(id, s)| (id, s, OS_ANY));
    restricted.chain(plain)
}

fn runs_on(device: &DeviceConfig, restriction: i64) -> bool {
    let (os, arch) = (
        device.platform_version.os.as_str(),
        device.platform_version.arch.as_str(),
    );
    match restriction {
        OS_ANY => true,
        OS_ONLY_WINDOWS => os == "windows",
        OS_ONLY_WINDOWS_X8632 => os == "windows" && arch == "386",
        OS_ONLY_WINDOWS_X8664 => os == "windows" && arch == "amd64",
        OS_ONLY_MACOS => os == "darwin" || os == "macos",
        OS_ONLY_LINUX => os == "linux",
        _ => false,
    }
}

/// An id that is the same whenever it is made from the same parts.
fn steady_id(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn item_id(profile: &UserProfileConfig, device: &str, policy_item: &str) -> String {
    steady_id(&["item", &profile.creation_guid, device, policy_item])
}

/// The rules that a policy gives to one of its items, with the vaults resolved for this account.
fn rules_of(
    profile: &UserProfileConfig,
    policy: &UserPolicy,
    policy_item: &str,
    item: &str,
) -> BTreeMap<String, BackupRuleConfig> {
    let newest = profile
        .destinations
        .iter()
        .max_by_key(|(id, v)| (v.create_time, *id))
        .map(|(id, _)| id);
    let mut out = BTreeMap::new();
    for (rule_id, rule) in &policy.default_sources_backup_rules {
        if rule.source != policy_item {
            continue;
        }
        let (vaults, each): (Vec<&String>, bool) = if rule.destination == DESTINATIONTYPE_ALL.to_string() {
            (profile.destinations.keys().collect(), true)
        } else if rule.destination == DESTINATIONTYPE_LATEST.to_string() {
            (newest.into_iter().collect(), false)
        } else {
            let named = profile.destinations.keys().find(|id| **id == rule.destination);
            (named.into_iter().collect(), false)
        };
        for vault in vaults {
            let parts = ["rule", item, rule_id, if each { vault } else { "" }];
            let mut made = rule.clone();
            made.source = item.to_string();
            made.destination.clone_from(vault);
            start_rule(&mut made, policy);
            out.insert(steady_id(&parts), made);
        }
    }
    out
}

fn items(
    profile: &mut UserProfileConfig,
    before: &UserPolicy,
    policy: &UserPolicy,
    new_devices: &BTreeSet<String>,
) {
    let present: BTreeMap<&String, (&SourceConfig, i64)> =
        policy_items(policy).map(|(id, s, os)| (id, (s, os))).collect();
    // Items whose pattern is gone stay, as the user's own.
    for source in profile.sources.values_mut() {
        if source.existing_user_update && !present.contains_key(&source.policy_source_id) {
            source.existing_user_update = false;
        }
    }
    let devices: Vec<(String, DeviceConfig)> = profile.devices.clone().into_iter().collect();
    for (device, config) in &devices {
        for (policy_item, (pattern, os)) in &present {
            if !runs_on(config, *os) {
                continue;
            }
            let found = profile
                .sources
                .iter()
                .find(|(_, s)| s.policy_source_id == **policy_item && s.owner_device == *device)
                .map(|(id, s)| (id.clone(), s.clone()));
            let is_new = found.is_none();
            let linked = pattern.existing_user_update;
            if is_new && !linked && !new_devices.contains(device) {
                continue;
            }
            if !is_new && !linked {
                first_rules(
                    profile,
                    policy,
                    policy_item,
                    found.as_ref().map(|(id, _)| id.as_str()),
                );
                continue;
            }
            let mut made = (*pattern).clone();
            made.owner_device.clone_from(device);
            made.policy_source_id = (*policy_item).clone();
            let id = match found {
                None => item_id(profile, device, policy_item),
                Some((id, old)) => {
                    made.create_time = old.create_time;
                    made.statistics = old.statistics;
                    id
                }
            };
            profile.sources.insert(id.clone(), made);
            let rules = rules_of(profile, policy, policy_item, &id);
            for gone in rules_of(profile, before, policy_item, &id).keys() {
                if !rules.contains_key(gone) {
                    profile.backup_rules.remove(gone);
                }
            }
            profile.backup_rules.extend(rules);
        }
    }
}

/// A copied item that had no vault to back up to yet gets its rules when there is one.
fn first_rules(profile: &mut UserProfileConfig, policy: &UserPolicy, policy_item: &str, item: Option<&str>) {
    let Some(item) = item else { return };
    let pending = profile.backup_rules.values().all(|r| r.source != item);
    if pending {
        let rules = rules_of(profile, policy, policy_item, item);
        profile.backup_rules.extend(rules);
    }
}

/// Removes the items that came from these items of a policy, with their rules.
pub(crate) fn remove_policy_items(profile: &mut UserProfileConfig, policy_items: &[String]) {
    let gone: Vec<String> = profile
        .sources
        .iter()
        .filter(|(_, s)| !s.policy_source_id.is_empty() && policy_items.contains(&s.policy_source_id))
        .map(|(id, _)| id.clone())
        .collect();
    for id in gone {
        profile.sources.remove(&id);
        profile.backup_rules.retain(|_, rule| rule.source != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encke_api::constants::RETENTIONMODE_DELETE_EXCEPT;
    use encke_api::types::{DefaultSourceWithOSRestriction, DestinationConfig, OSInfo};

    fn profile(os: &str) -> UserProfileConfig {
        let device = DeviceConfig {
            platform_version: OSInfo {
                os: os.into(),
                ..Default::default()
            },
            ..Default::default()
        };
        UserProfileConfig {
            creation_guid: "guid".into(),
            devices: [("dev".to_string(), device)].into(),
            destinations: [("old".to_string(), vault(10)), ("new".to_string(), vault(20))].into(),
            ..Default::default()
        }
    }

    fn vault(time: i64) -> DestinationConfig {
        DestinationConfig {
            create_time: time,
            ..Default::default()
        }
    }

    fn policy(linked: bool, destination: u64) -> UserPolicy {
        let item = SourceConfig {
            description: "Home".into(),
            existing_user_update: linked,
            ..Default::default()
        };
        let rule = BackupRuleConfig {
            source: "item".into(),
            destination: destination.to_string(),
            ..Default::default()
        };
        UserPolicy {
            default_sources_with_os_restriction: [(
                "item".to_string(),
                DefaultSourceWithOSRestriction {
                    source_config: item,
                    restrict_os: OS_ONLY_LINUX,
                    ..Default::default()
                },
            )]
            .into(),
            default_sources_backup_rules: [("rule".to_string(), rule)].into(),
            ..Default::default()
        }
    }

    fn all_devices(p: &UserProfileConfig) -> BTreeSet<String> {
        p.devices.keys().cloned().collect()
    }

    #[test]
    fn a_new_device_gets_the_items_of_its_system_with_a_rule_to_the_newest_vault() {
        let mut p = profile("linux");
        let new = all_devices(&p);
        apply(&mut p, policy(false, DESTINATIONTYPE_LATEST), &new);
        assert_eq!(p.sources.len(), 1);
        let (id, item) = p.sources.first_key_value().unwrap();
        assert_eq!(
            (item.owner_device.as_str(), item.policy_source_id.as_str()),
            ("dev", "item")
        );
        let rule = p.backup_rules.values().next().unwrap();
        assert_eq!(
            (rule.source.as_str(), rule.destination.as_str()),
            (id.as_str(), "new")
        );
        let mut other = profile("windows");
        apply(&mut other, policy(false, DESTINATIONTYPE_LATEST), &new);
        assert!(other.sources.is_empty());
    }

    #[test]
    fn a_copied_item_is_the_users_own_and_a_linked_one_follows_the_policy() {
        for linked in [false, true] {
            let mut p = profile("linux");
            let new = all_devices(&p);
            apply(&mut p, policy(linked, DESTINATIONTYPE_ALL), &new);
            assert_eq!(p.backup_rules.len(), 2, "one rule a vault");
            let first: Vec<String> = p.backup_rules.keys().cloned().collect();
            let mut edited = policy(linked, DESTINATIONTYPE_LATEST);
            let pattern = edited
                .default_sources_with_os_restriction
                .get_mut("item")
                .unwrap();
            pattern.source_config.description = "House".into();
            apply(&mut p, edited.clone(), &BTreeSet::new());
            let item = p.sources.values().next().unwrap();
            if linked {
                assert_eq!(item.description, "House");
                assert_eq!(p.backup_rules.len(), 1);
                assert!(!first.contains(p.backup_rules.keys().next().unwrap()));
            } else {
                assert_eq!(item.description, "Home");
                assert_eq!(p.backup_rules.keys().cloned().collect::<Vec<_>>(), first);
            }
            // A copied item that the user deleted stays away; a linked one comes back.
            p.sources.clear();
            p.backup_rules.clear();
            apply(&mut p, edited, &BTreeSet::new());
            assert_eq!(p.sources.len(), usize::from(linked));
        }
    }

    #[test]
    fn applying_a_policy_again_changes_nothing() {
        let mut p = profile("linux");
        let new = all_devices(&p);
        apply(&mut p, policy(true, DESTINATIONTYPE_ALL), &new);
        let once = p.clone();
        apply(&mut p, policy(true, DESTINATIONTYPE_ALL), &BTreeSet::new());
        assert_eq!(p, once);
    }

    #[test]
    fn enforced_settings_win_and_optional_ones_do_not() {
        let mut p = profile("linux");
        p.backup_rules.insert("r".into(), BackupRuleConfig::default());
        let mut policy = UserPolicy {
            mode_schedule_skip_already_running: SETTING_OPTIONAL_DEFAULT_ON,
            ..Default::default()
        };
        apply(&mut p, policy.clone(), &BTreeSet::new());
        assert!(!p.backup_rules["r"].skip_already_running);
        policy.mode_schedule_skip_already_running = SETTING_ENFORCED_ON;
        policy.enforce_storage_vault_retention = true;
        policy.default_storage_vault_retention.mode = RETENTIONMODE_DELETE_EXCEPT;
        apply(&mut p, policy.clone(), &BTreeSet::new());
        assert!(p.backup_rules["r"].skip_already_running);
        assert_eq!(
            p.destinations["old"].default_retention.mode,
            RETENTIONMODE_DELETE_EXCEPT
        );
        policy.mode_schedule_skip_already_running = SETTING_ENFORCED_OFF;
        apply(&mut p, policy, &BTreeSet::new());
        assert!(!p.backup_rules["r"].skip_already_running);
    }
}
