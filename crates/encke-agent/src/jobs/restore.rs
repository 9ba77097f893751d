//! A restore job.

use super::{End, Job, SOURCE_TAG};
use crate::error::{AgentError, AgentResult};
use encke_api::constants::{JOB_STATUS_FAILED_ERROR, RESTORETYPE_FILE, RESTORETYPE_NULL};
use encke_api::types::RestoreJobAdvancedOptions;
use encke_repo::{Overwrite, RestoreOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the API's options mean for the engine.
pub(super) fn plan(options: &RestoreJobAdvancedOptions) -> AgentResult<RestoreOptions> {
    let verify_only = match options.type_ {
        RESTORETYPE_FILE => false,
        RESTORETYPE_NULL => true,
        other => return Err(AgentError::Unsupported(format!("restores of type {other}"))),
    };
    let target = if options.dest_is_original_location {
        "/".to_string()
    } else {
        options.dest_path.clone()
    };
    if !verify_only && !Path::new(&target).is_absolute() {
        return Err(AgentError::Invalid(
            "the folder to restore into must be an absolute path".into(),
        ));
    }
    let overwrite = match () {
        () if !options.overwrite_existing_files => Overwrite::Never,
        () if options.overwrite_if_newer => Overwrite::IfNewer,
        () if options.overwrite_if_different_content => Overwrite::IfDifferent,
        () => Overwrite::Always,
    };
    Ok(RestoreOptions {
        include: Vec::new(),
        target: PathBuf::from(target),
        overwrite,
        verify_only,
        skip_unreadable: options.skip_unreadable_chunks,
        ..RestoreOptions::default()
    })
}

pub(super) fn run(
    job: &Arc<Job>,
    snapshot: &str,
    paths: &[String],
    mut plan: RestoreOptions,
) -> Result<(), End> {
    let (source, vault) = {
        let d = job.detail.lock();
        (d.source_guid.clone(), d.destination_guid.clone())
    };
    let repo = job.agent.vaults.open(&job.agent, &vault)?;
    let snapshot = if snapshot.is_empty() {
        let newest = repo
            .snapshots()?
            .into_iter()
            .rfind(|s| s.tag(SOURCE_TAG) == Some(source.as_str()));
        newest.ok_or_else(|| {
            End::Status(
                JOB_STATUS_FAILED_ERROR,
                "The Storage Vault has no snapshot of this item".into(),
            )
        })?
    } else {
        repo.snapshot(snapshot)?
    };
    plan.include = paths
        .iter()
        .map(|p| PathBuf::from(p.as_str()))
        .filter(|p| p != Path::new("/"))
        .collect();
    if let Some(bad) = plan.include.iter().find(|p| !p.is_absolute()) {
        return Err(End::Status(
            JOB_STATUS_FAILED_ERROR,
            format!("'{}' is not a full path", bad.display()),
        ));
    }
    job.detail.lock().snapshot_id = snapshot.id.to_string();
    job.info(&match plan.verify_only {
        true => format!("Verifying snapshot {}", snapshot.id),
        false => format!(
            "Restoring snapshot {} into {}",
            snapshot.id,
            plan.target.display()
        ),
    });
    let warn = |path: &Path, message: &str| job.warning(&format!("{}: {message}", path.display()));
    let summary = repo.restore(&snapshot, &plan, &job.progress, &job.cancel, &warn)?;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    {
        let mut d = job.detail.lock();
        d.total_files = signed(summary.files);
        d.total_directories = signed(summary.dirs);
        d.total_size = signed(summary.bytes);
    }
    job.info(&format!(
        "{} files and {} folders, {} bytes; {} files kept as they were",
        summary.files, summary.dirs, summary.bytes, summary.kept
    ));
    Ok(())
}
