//! A restore job.

use super::outward::{self, Target};
use super::{End, Job, SOURCE_TAG};
use crate::error::{AgentError, AgentResult};
use crate::sandbox;
use encke_api::constants::{
    JOB_STATUS_FAILED_ERROR, RESTOREARCHIVEFORMAT_TAR, RESTOREARCHIVEFORMAT_TARGZ,
    RESTOREARCHIVEFORMAT_TARZSTD, RESTOREARCHIVEFORMAT_ZIP, RESTORETYPE_FILE, RESTORETYPE_FILE_ARCHIVE,
    RESTORETYPE_MYSQL, RESTORETYPE_NULL, RESTORETYPE_PROCESS_ARCHIVE, RESTORETYPE_PROCESS_PERFILE,
    RESTORETYPE_VMHOST, RESTORETYPE_WINDISK,
};
use encke_api::types::{RestoreJobAdvancedOptions, UserProfileConfig};
use encke_repo::restore::ArchiveFormat;
use encke_repo::{Overwrite, RestoreOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a restore goes.
pub(super) enum Plan {
    /// Into a folder, or nowhere.
    Folder(RestoreOptions),
    /// Elsewhere.
    Outward(Target),
}

fn format(number: i64) -> AgentResult<ArchiveFormat> {
    match number {
        RESTOREARCHIVEFORMAT_TAR => Ok(ArchiveFormat::Tar),
        RESTOREARCHIVEFORMAT_TARGZ => Ok(ArchiveFormat::TarGz),
        RESTOREARCHIVEFORMAT_ZIP => Ok(ArchiveFormat::Zip),
        RESTOREARCHIVEFORMAT_TARZSTD => Ok(ArchiveFormat::TarZst),
        other => Err(AgentError::Unsupported(format!("archives of format {other}"))),
    }
}

/// What the API's options mean.
pub(super) fn plan(options: &RestoreJobAdvancedOptions) -> AgentResult<Plan> {
    let verify_only = match options.type_ {
        RESTORETYPE_FILE => false,
        RESTORETYPE_NULL => true,
        RESTORETYPE_PROCESS_PERFILE => {
            if options.dest_path.trim().is_empty() {
                return Err(AgentError::Invalid(
                    "DestPath must be the command to restore into".into(),
                ));
            }
            return Ok(Plan::Outward(Target::Commands(options.dest_path.clone())));
        }
        RESTORETYPE_PROCESS_ARCHIVE => {
            if options.dest_path.trim().is_empty() {
                return Err(AgentError::Invalid(
                    "DestPath must be the command to restore into".into(),
                ));
            }
            let format = format(options.archive_format)?;
            return Ok(Plan::Outward(Target::ArchiveCommand(
                format,
                options.dest_path.clone(),
            )));
        }
        RESTORETYPE_FILE_ARCHIVE => {
            let path = PathBuf::from(&options.dest_path);
            if !path.is_absolute() || path.file_name().is_none() {
                return Err(AgentError::Invalid(
                    "DestPath must be the full path of the archive".into(),
                ));
            }
            return Ok(Plan::Outward(Target::ArchiveFile {
                format: format(options.archive_format)?,
                path,
                overwrite: options.overwrite_existing_files,
            }));
        }
        RESTORETYPE_MYSQL => return Ok(Plan::Outward(Target::Mysql(Box::new(options.clone())))),
        RESTORETYPE_WINDISK => {
            let disks: Vec<PathBuf> = options.exact_dest_paths.iter().map(PathBuf::from).collect();
            if disks.is_empty() || disks.iter().any(|d| !d.is_absolute()) {
                return Err(AgentError::Invalid(
                    "ExactDestPaths must name a disk or an image file for each image".into(),
                ));
            }
            return Ok(Plan::Outward(Target::Disks(disks)));
        }
        RESTORETYPE_VMHOST if !options.proxmox_connection.ssh.ssh_server.is_empty() => {
            return Ok(Plan::Outward(Target::Proxmox {
                target: Box::new(options.proxmox_connection.clone()),
                overwrite: options.overwrite_existing_files,
            }));
        }
        RESTORETYPE_VMHOST => {
            return Err(AgentError::Unsupported(
                "restores into hosts of virtual machines other than Proxmox (ProxmoxConnection)".into(),
            ));
        }
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
    Ok(Plan::Folder(RestoreOptions {
        include: Vec::new(),
        target: PathBuf::from(target),
        overwrite,
        verify_only,
        skip_unreadable: options.skip_unreadable_chunks,
        ..RestoreOptions::default()
    }))
}

/// Refuses to write where the account does not let its devices write.
fn check_places(profile: &UserProfileConfig, target: &Path, include: &[PathBuf]) -> AgentResult<()> {
    if target != Path::new("/") {
        return sandbox::check(profile, target);
    }
    if include.is_empty() {
        return sandbox::check(profile, target);
    }
    include.iter().try_for_each(|path| sandbox::check(profile, path))
}

pub(super) fn run(job: &Arc<Job>, snapshot: &str, paths: &[String], plan: Plan) -> Result<(), End> {
    let (source, vault) = {
        let d = job.detail.lock();
        (d.source_guid.clone(), d.destination_guid.clone())
    };
    let repo = job.agent.vaults.open_for(job, &vault, 0)?;
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
    let include: Vec<PathBuf> = paths
        .iter()
        .map(|p| PathBuf::from(p.as_str()))
        .filter(|p| p != Path::new("/"))
        .collect();
    if let Some(bad) = include.iter().find(|p| !p.is_absolute()) {
        return Err(End::Status(
            JOB_STATUS_FAILED_ERROR,
            format!("'{}' is not a full path", bad.display()),
        ));
    }
    job.detail.lock().snapshot_id = snapshot.id.to_string();
    let profile = job.agent.profile()?;
    let mut plan = match plan {
        Plan::Folder(plan) => {
            if !plan.verify_only {
                check_places(&profile, &plan.target, &include)?;
            }
            plan
        }
        Plan::Outward(target) => {
            match &target {
                Target::ArchiveFile { path, .. } => sandbox::check(&profile, path)?,
                Target::Commands(_) | Target::ArchiveCommand(..) => {
                    sandbox::check_free(&profile, "a command")?
                }
                Target::Disks(disks) => disks.iter().try_for_each(|d| sandbox::check(&profile, d))?,
                Target::Mysql(_) | Target::Proxmox { .. } => {}
            }
            job.info(&format!("Restoring snapshot {}", snapshot.id));
            return outward::run(job, &repo, &snapshot, &include, &target);
        }
    };
    plan.include = include;
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
