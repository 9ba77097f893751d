//! A backup job.

use super::commands::{self, When};
use super::frozen::{self, Frozen};
use super::{DEVICE_TAG, ENGINE_TAG, End, Job, Outcome, SOURCE_TAG, retention, streams};
use crate::error::AgentError;
use crate::items::{self, Item};
use crate::{Agent, now, sandbox};
use encke_api::constants::{
    JOB_CLASSIFICATION_BACKUP, JOB_CLASSIFICATION_DEEPVERIFY, JOB_STATUS_FAILED_ERROR,
    JOB_STATUS_FAILED_QUOTA, JOB_STATUS_FAILED_WARNING, JOB_STATUS_STOP_SUCCESS,
};
use encke_api::live::{Call, QuotaLeft};
use encke_api::types::{
    BackupJobAdvancedOptions, BackupJobDetail, BackupRuleConfig, DestinationConfig, SizeMeasurement,
    SourceConfig, UserProfileConfig,
};
use encke_repo::{BackupOptions, BackupSummary, Exclude, Progress, Repository, Snapshot};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn measure(repo: &Repository) -> Result<SizeMeasurement, End> {
    let measure_started = now();
    let size = signed(repo.stored_bytes()?);
    Ok(SizeMeasurement {
        size,
        measure_started,
        measure_completed: now(),
        ..Default::default()
    })
}

pub(super) fn run(job: &Arc<Job>, options: &BackupJobAdvancedOptions) -> Result<(), End> {
    let profile = job.agent.profile()?;
    let (source_id, vault_id, rule_id) = {
        let d = job.detail.lock();
        (
            d.source_guid.clone(),
            d.destination_guid.clone(),
            d.backup_rule_guid.clone(),
        )
    };
    let gone = |what: &str| {
        End::Status(
            JOB_STATUS_FAILED_ERROR,
            format!("The {what} is not in the profile any more"),
        )
    };
    let source = profile
        .sources
        .get(&source_id)
        .ok_or_else(|| gone("Protected Item"))?;
    let vault = profile
        .destinations
        .get(&vault_id)
        .ok_or_else(|| gone("Storage Vault"))?;
    let rule = profile.backup_rules.get(&rule_id);
    job.info(&format!(
        "Backing up '{}' to '{}'",
        source.description, vault.description
    ));
    sandbox::check_item(&profile, source)?;
    // Asked before anything is done: a pattern that can not be used stops the job.
    let item = items::read(
        source,
        &profile.policy.file_and_folder_mandatory_exclusions,
        &job.agent.data_dir,
    )?;
    let shared_room = check_quota(job, &vault_id)?;
    // An index from before another program's clean-up could name packs that are gone: opened anew for each backup.
    let vaults = &job.agent.vaults;
    let repo = vaults.open_for(job, &vault_id, options.limit_vault_speed_bps)?;
    let before = measure(&repo)?;
    job.detail.lock().destination_size_start = before.clone();
    if vault.storage_limit_enabled && before.size >= vault.storage_limit_bytes {
        return Err(End::Status(
            JOB_STATUS_FAILED_QUOTA,
            "The Storage Vault's quota is used up".into(),
        ));
    }
    // What one job sends counts anew at each try.
    let own_room = vault
        .storage_limit_enabled
        .then_some(vault.storage_limit_bytes - before.size);
    let sent = Progress::get(&job.progress.uploaded);
    let room = own_room.into_iter().chain(shared_room).min();
    let room = room.map_or(u64::MAX, |bytes| bytes.max(0).unsigned_abs().saturating_add(sent));
    job.room.store(room, Ordering::Relaxed);
    commands::run(job, When::Before, rule, source, vault);
    let outcome = job.or_cancelled(back_up(job, &repo, item, rule, source, vault, options));
    let status = match &outcome {
        Err(End::Status(status, _)) => *status,
        Ok(()) if job.warnings.load(Ordering::Relaxed) > 0 => JOB_STATUS_FAILED_WARNING,
        Ok(()) => JOB_STATUS_STOP_SUCCESS,
    };
    job.ending.store(true, Ordering::SeqCst);
    commands::run(job, When::After(status), rule, source, vault);
    outcome
}

/// Asks the server how much room the account's quotas leave; nothing for no limit. Without the server the vault's own
/// quota has to do.
fn check_quota(job: &Arc<Job>, vault: &str) -> Result<Option<i64>, End> {
    if !job.agent.is_connected.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let call = Call::CheckQuota {
        destination: vault.to_string(),
    };
    let left: QuotaLeft = match job.agent.call(call) {
        Ok(body) => crate::read(body)?,
        Err(AgentError::Offline) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if left.refused.is_empty() {
        return Ok(left.bytes);
    }
    Err(End::Status(JOB_STATUS_FAILED_QUOTA, left.refused))
}

fn back_up(
    job: &Arc<Job>,
    repo: &Repository,
    item: Item,
    rule: Option<&BackupRuleConfig>,
    source: &SourceConfig,
    vault: &DestinationConfig,
    options: &BackupJobAdvancedOptions,
) -> Result<(), End> {
    job.check_cancel()?;
    let source_id = job.detail.lock().source_guid.clone();
    let parent = latest(repo, &source_id)?;
    let frozen = match &item {
        Item::Files {
            paths,
            exclude,
            freeze: true,
            ..
        } => freeze(job, paths, exclude)?,
        _ => None,
    };
    commands::run(job, When::Thaw, rule, source, vault);
    job.check_cancel()?;
    let mut tags = vec![
        format!("{SOURCE_TAG}{source_id}"),
        format!("{ENGINE_TAG}{}", source.engine),
        format!("{DEVICE_TAG}{}", job.agent.settings().device_id),
    ];
    tags.extend(
        options
            .tags
            .split(',')
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(str::to_string),
    );
    let engine = BackupOptions {
        tags,
        parent,
        ..Default::default()
    };
    let summary = match item {
        Item::Files {
            mut paths,
            exclude,
            rescan,
            ..
        } => {
            paths.retain(|path| match path.symlink_metadata() {
                Ok(_) => true,
                Err(e) => {
                    job.warning(&format!("{}: {e}", path.display()));
                    false
                }
            });
            let engine = BackupOptions {
                paths,
                exclude: Some(exclude),
                frozen: frozen.as_ref().map_or_else(Vec::new, |f| f.places.clone()),
                parent: engine.parent.filter(|_| !rescan),
                threads: if options.reduce_disk_concurrency { 1 } else { 0 },
                ..engine
            };
            let warn = |path: &Path, message: &str| job.warning(&format!("{}: {message}", path.display()));
            repo.backup(&engine, &job.progress, &job.cancel, &warn)?
        }
        Item::Streams { streams, held, notes } => {
            notes.iter().for_each(|note| job.warning(note));
            let summary = streams::back_up(job, repo, streams, &engine);
            drop(held);
            summary?
        }
    };
    drop(frozen);
    let vault_id = job.detail.lock().destination_guid.clone();
    finish(job, repo, &summary, options)?;
    if let Err(e) = repo.protect(false, &job.cancel) {
        job.warning(&format!(
            "What the Storage Vault needs could not be locked for longer: {e}"
        ));
    }
    retention::after_backup(job, repo, &vault_id, options.auto_retention_level)
}

/// Makes what is backed up stand still, where the account lets the device touch more than home directories.
fn freeze(job: &Arc<Job>, paths: &[PathBuf], exclude: &Exclude) -> Result<Option<Frozen>, End> {
    if job.agent.profile()?.linux_homedir_sandbox {
        job.warning(
            "No snapshot is taken, since the account confines its devices to home directories: files are read as they are",
        );
        return Ok(None);
    }
    Ok(Some(frozen::freeze(job, paths, exclude)?))
}

fn latest(repo: &Repository, source: &str) -> Result<Option<Snapshot>, End> {
    Ok(repo
        .snapshots()?
        .into_iter()
        .rfind(|s| s.tag(SOURCE_TAG) == Some(source)))
}

fn finish(
    job: &Job,
    repo: &Repository,
    summary: &BackupSummary,
    options: &BackupJobAdvancedOptions,
) -> Result<(), End> {
    let after = measure(repo)?;
    {
        let mut d = job.detail.lock();
        d.snapshot_id.clone_from(&summary.snapshot_id);
        d.total_files = signed(summary.files);
        d.total_directories = signed(summary.dirs);
        d.total_size = signed(summary.bytes);
        d.total_chunks = signed(summary.chunks);
        d.destination_size_end = after;
    }
    job.info(&format!(
        "{} files and {} folders, {} bytes: {} new, {} changed, {} unchanged; {} bytes sent",
        summary.files,
        summary.dirs,
        summary.bytes,
        summary.files_new,
        summary.files_changed,
        summary.files_unmodified,
        summary.uploaded,
    ));
    if summary.files == 0 && !options.allow_zero_files_success {
        return Err(End::Status(
            JOB_STATUS_FAILED_ERROR,
            "There was no file to back up".into(),
        ));
    }
    Ok(())
}

/// Writes how a job went into the profile, where consoles and monitors look. Off line it is kept for later.
pub(super) fn keep_statistics(agent: &Agent, detail: BackupJobDetail, outcome: Outcome) {
    match write_statistics(agent, &detail, &outcome) {
        Ok(()) => {}
        Err(AgentError::Offline) => agent.keep_for_later(detail, outcome),
        Err(e) => {
            tracing::warn!(error = %e, job = detail.guid, "the profile's statistics could not be updated");
        }
    }
}

fn write_statistics(
    agent: &Agent,
    detail: &BackupJobDetail,
    outcome: &Outcome,
) -> crate::error::AgentResult<()> {
    let is_good = detail.status == JOB_STATUS_STOP_SUCCESS;
    agent.change_profile(|profile| {
        if detail.classification == JOB_CLASSIFICATION_BACKUP {
            note_items(profile, &agent.settings().device_id, detail);
            if let Some(source) = profile.sources.get_mut(&detail.source_guid) {
                source.statistics.last_start_time = detail.start_time;
                source.statistics.last_backup_job = detail.clone();
                if is_good {
                    source.statistics.last_successful_backup_job = detail.clone();
                }
            }
        }
        let Some(vault) = profile.destinations.get_mut(&detail.destination_guid) else {
            return Ok(true);
        };
        if detail.destination_size_end.measure_completed > 0 {
            vault.statistics.client_provided_size = detail.destination_size_end.clone();
        }
        if let Some(content) = &outcome.content {
            vault.statistics.client_provided_content = content.clone();
        }
        if let Some(error) = &outcome.retention_error {
            vault.retention_error.clone_from(error);
        }
        if detail.classification == JOB_CLASSIFICATION_DEEPVERIFY && is_good {
            let s = &mut vault.statistics;
            s.last_successful_deep_verify_guid.clone_from(&detail.guid);
            s.last_successful_deep_verify_start_time = detail.start_time;
            s.last_successful_deep_verify_end_time = detail.end_time;
        }
        Ok(true)
    })
}

/// Notes a device's items beside the device: other devices of the account apply retention for them, and lists show
/// them.
fn note_items(profile: &mut UserProfileConfig, device: &str, ended: &BackupJobDetail) {
    let Some(entry) = profile.devices.get_mut(device) else {
        return;
    };
    let old = std::mem::take(&mut entry.sources);
    for (id, source) in profile.sources.iter().filter(|(_, s)| s.owner_device == device) {
        let mut info = old.get(id).cloned().unwrap_or_default();
        info.engine.clone_from(&source.engine);
        info.description.clone_from(&source.description);
        info.override_destination_retention
            .clone_from(&source.override_destination_retention);
        if *id == ended.source_guid && ended.total_size > 0 {
            info.size = ended.total_size;
        }
        entry.sources.insert(id.clone(), info);
    }
}
