//! A backup job.

use super::commands::{self, When};
use super::{DEVICE_TAG, ENGINE_TAG, End, Job, SOURCE_TAG};
use crate::error::AgentResult;
use crate::items::{self, Item, OutputCommand};
use crate::now;
use encke_api::constants::{
    JOB_STATUS_FAILED_ERROR, JOB_STATUS_FAILED_QUOTA, JOB_STATUS_FAILED_WARNING, JOB_STATUS_STOP_SUCCESS,
};
use encke_api::types::{BackupJobAdvancedOptions, SizeMeasurement};
use encke_repo::{BackupOptions, BackupSummary, Repository, Snapshot};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn measure(repo: &Repository) -> Result<SizeMeasurement, End> {
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
    // Asked before anything is done: a pattern that can not be used stops the job.
    let item = items::read(source)?;
    let repo = job.agent.vaults.open(&job.agent, &vault_id)?;
    let before = measure(&repo)?;
    job.detail.lock().destination_size_start = before.clone();
    if vault.storage_limit_enabled && before.size >= vault.storage_limit_bytes {
        return Err(End::Status(
            JOB_STATUS_FAILED_QUOTA,
            "The Storage Vault's quota is used up".into(),
        ));
    }
    commands::run(job, When::Before, rule, source, vault, None);
    job.check_cancel()?;
    let parent = latest(&repo, &source_id)?;
    let mut tags = vec![
        format!("{SOURCE_TAG}{source_id}"),
        format!("{ENGINE_TAG}{}", source.engine),
        format!("{DEVICE_TAG}{}", job.agent.settings.device_id),
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
    let result = match item {
        Item::Files {
            paths,
            exclude,
            rescan,
        } => {
            let engine = BackupOptions {
                paths,
                exclude: Some(exclude),
                parent: engine.parent.filter(|_| !rescan),
                threads: if options.reduce_disk_concurrency { 1 } else { 0 },
                ..engine
            };
            let warn = |path: &Path, message: &str| job.warning(&format!("{}: {message}", path.display()));
            repo.backup(&engine, &job.progress, &job.cancel, &warn)
                .map_err(End::from)
        }
        Item::Output { commands } => output(job, &repo, &commands[0], &engine),
    };
    let outcome = result.and_then(|summary| finish(job, &repo, &summary, options));
    let status = match &outcome {
        Err(End::Status(status, _)) => *status,
        Ok(()) if job.warnings.load(Ordering::Relaxed) > 0 => JOB_STATUS_FAILED_WARNING,
        Ok(()) => JOB_STATUS_STOP_SUCCESS,
    };
    commands::run(job, When::After, rule, source, vault, Some(status));
    outcome
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

/// Backs up what a program writes to its standard output.
fn output(
    job: &Arc<Job>,
    repo: &Repository,
    command: &OutputCommand,
    engine: &BackupOptions,
) -> Result<BackupSummary, End> {
    let failed = |message: String| End::Status(JOB_STATUS_FAILED_ERROR, message);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &command.command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if !command.folder.is_empty() {
        shell.current_dir(&command.folder);
    }
    job.info(&format!("Running command: {}", command.command));
    let mut child = shell
        .spawn()
        .map_err(|e| failed(format!("The command could not be run: {e}")))?;
    let mut stdout = child
        .stdout
        .take()
        .ok_or_else(|| failed("The command has no output".into()))?;
    let stderr = child.stderr.take();
    let listener = job.clone();
    // Read beside the backup, so that neither pipe fills up.
    let errors = std::thread::spawn(move || {
        let lines = stderr
            .into_iter()
            .flat_map(|e| std::io::BufRead::lines(std::io::BufReader::new(e)));
        lines
            .map_while(Result::ok)
            .for_each(|line| listener.warning(&line));
    });
    let path = PathBuf::from("/").join(&command.save_as);
    let result = repo.backup_reader(&path, &mut stdout, engine, &job.progress, &job.cancel);
    drop(stdout);
    if result.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    let _ = errors.join();
    let summary = result?;
    if !status.success() {
        return Err(failed(format!(
            "The command ended with {status}; what it wrote is kept as snapshot {}",
            summary.snapshot_id
        )));
    }
    Ok(summary)
}

/// Writes how the job went into the profile, where consoles and monitors look.
pub(super) fn keep_statistics(job: &Job) -> AgentResult<()> {
    let detail = job.detail.lock().clone();
    job.agent.change_profile(|profile| {
        if let Some(source) = profile.sources.get_mut(&detail.source_guid) {
            source.statistics.last_start_time = detail.start_time;
            source.statistics.last_backup_job = detail.clone();
            if detail.status == JOB_STATUS_STOP_SUCCESS {
                source.statistics.last_successful_backup_job = detail.clone();
            }
        }
        if let Some(vault) = profile.destinations.get_mut(&detail.destination_guid)
            && detail.destination_size_end.measure_completed > 0
        {
            vault.statistics.client_provided_size = detail.destination_size_end.clone();
        }
        Ok(true)
    })
}
