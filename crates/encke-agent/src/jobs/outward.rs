//! Restores that do not end in a folder: into programs, databases and disks.

use super::{End, Job, remote, shell};
use crate::databases;
use crate::error::{AgentError, AgentResult};
use crate::proxmox::{self, Host};
use encke_api::constants::JOB_STATUS_FAILED_ERROR;
use encke_api::types::{ProxmoxRestoreTargetOptions, RestoreJobAdvancedOptions};
use encke_repo::restore::{Archive, ArchiveFormat};
use encke_repo::{Id, Node, NodeType, RepoError, Repository, RestoreOptions, Snapshot};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

/// Most files that are handed over one by one.
const MAX_FILES: usize = 100_000;

/// Where files go.
pub(super) enum Target {
    /// Each to a shell command of its own.
    Commands(String),
    /// Each to the client of a MySQL or MariaDB server.
    Mysql(Box<RestoreJobAdvancedOptions>),
    /// All to a shell command, as one archive.
    ArchiveCommand(ArchiveFormat, String),
    /// All into a file, as one archive.
    ArchiveFile {
        format: ArchiveFormat,
        path: PathBuf,
        overwrite: bool,
    },
    /// Each to a disk or an image file, in the order of the paths.
    Disks(Vec<PathBuf>),
    /// Each as a machine to a host of Proxmox.
    Proxmox {
        target: Box<ProxmoxRestoreTargetOptions>,
        overwrite: bool,
    },
}

pub(super) fn failed(message: String) -> End {
    End::Status(JOB_STATUS_FAILED_ERROR, message)
}

/// A writer that counts, and stops with the job.
struct Watched<'a, W> {
    inner: W,
    job: &'a Job,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.job.cancel.is_cancelled() {
            return Err(io::Error::other("the job was cancelled"));
        }
        let n = self.inner.write(bytes)?;
        self.job
            .progress
            .bytes_done
            .fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn walk(repo: &Repository, tree: &Id, path: &Path, out: &mut Vec<(PathBuf, Node)>) -> Result<(), End> {
    for node in &repo.tree(tree)?.nodes {
        let path = path.join(String::from_utf8_lossy(&node.name).as_ref());
        if let Some(below) = &node.subtree {
            walk(repo, below, &path, out)?;
        } else if node.kind == NodeType::File {
            if out.len() >= MAX_FILES {
                return Err(failed(format!(
                    "more than {MAX_FILES} files can not be handed over one by one"
                )));
            }
            out.push((path, node.clone()));
        }
    }
    Ok(())
}

/// The files at or below some paths; all if none are named.
fn files(repo: &Repository, snapshot: &Snapshot, paths: &[PathBuf]) -> Result<Vec<(PathBuf, Node)>, End> {
    let mut out = Vec::new();
    if paths.is_empty() {
        walk(repo, &snapshot.tree, Path::new("/"), &mut out)?;
    }
    for path in paths {
        let node = repo.node_at(snapshot, path)?;
        match &node.subtree {
            Some(below) => walk(repo, below, path, &mut out)?,
            None => out.push((path.clone(), node)),
        }
    }
    Ok(out)
}

/// Restores.
pub(super) fn run(
    job: &Job,
    repo: &Repository,
    snapshot: &Snapshot,
    paths: &[PathBuf],
    target: &Target,
) -> Result<(), End> {
    match target {
        Target::ArchiveCommand(format, text) => {
            let mut command = shell::command(text);
            let ended = shell::feed(&mut command, &job.cancel, |stdin| {
                archive(job, repo, snapshot, paths, *format, stdin)
            })?;
            job.check_cancel()?;
            return told(job, &ended);
        }
        Target::ArchiveFile {
            format,
            path,
            overwrite,
        } => return archive_file(job, repo, snapshot, paths, *format, path, *overwrite),
        _ => {}
    }
    repo.load_index()?;
    let mut files = files(repo, snapshot, paths)?;
    let host = match target {
        Target::Proxmox { target, .. } => {
            // What was noted about the machines is no machine.
            files.retain(|(path, _)| !paths.is_empty() || is_machine(path));
            Some(Host::connect(&target.ssh)?)
        }
        _ => None,
    };
    if files.is_empty() {
        return Err(failed("There is no file to restore".into()));
    }
    job.progress
        .files_total
        .store(files.len() as u64, Ordering::Relaxed);
    if let Target::Disks(disks) = target
        && disks.len() != files.len()
    {
        return Err(failed(format!(
            "{} images need as many places in ExactDestPaths, not {}",
            files.len(),
            disks.len()
        )));
    }
    let mut bytes = 0;
    for (place, (path, node)) in files.iter().enumerate() {
        job.check_cancel()?;
        let ended = match target {
            Target::Commands(text) => {
                let mut command = shell::command(text);
                command.env("BACKUP_TOOL_FILE", path);
                pipe(job, repo, node, &mut command)
            }
            Target::Mysql(options) => databases::mysql_restore(&job.agent.data_dir, options)
                .map_err(End::from)
                .and_then(|(mut command, _secret)| pipe(job, repo, node, shell::prepare(&mut command))),
            Target::Disks(disks) => write_disk(job, repo, node, &disks[place]),
            Target::Proxmox { target, overwrite } => match &host {
                Some(host) => machine(job, repo, node, host, target, *overwrite),
                None => Ok(()),
            },
            Target::ArchiveCommand(..) | Target::ArchiveFile { .. } => Ok(()),
        };
        // The job's own end tells more than the pipe's.
        job.check_cancel()?;
        match ended {
            Ok(()) => job.info(&format!("Restored {}", path.display())),
            Err(End::Status(_, message)) => return Err(failed(format!("{}: {message}", path.display()))),
        }
        bytes += node.size;
        job.progress.files_done.fetch_add(1, Ordering::Relaxed);
    }
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut d = job.detail.lock();
    d.total_files = signed(files.len() as u64);
    d.total_size = signed(bytes);
    Ok(())
}

/// Writes what was asked for as one archive.
fn archive(
    job: &Job,
    repo: &Repository,
    snapshot: &Snapshot,
    paths: &[PathBuf],
    format: ArchiveFormat,
    out: &mut dyn Write,
) -> AgentResult<()> {
    let options = RestoreOptions {
        include: paths.to_vec(),
        target: PathBuf::from("/"),
        ..RestoreOptions::default()
    };
    let warn = |path: &Path, message: &str| job.warning(&format!("{}: {message}", path.display()));
    let archive = Archive { format, out };
    let summary = repo.restore_archive(snapshot, archive, &options, &job.progress, &job.cancel, &warn)?;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut d = job.detail.lock();
    d.total_files = signed(summary.files);
    d.total_directories = signed(summary.dirs);
    d.total_size = signed(summary.bytes);
    Ok(())
}

/// The archive stands under its name once it is whole.
fn archive_file(
    job: &Job,
    repo: &Repository,
    snapshot: &Snapshot,
    paths: &[PathBuf],
    format: ArchiveFormat,
    path: &Path,
    overwrite: bool,
) -> Result<(), End> {
    if path.exists() && (path.is_dir() || !overwrite) {
        return Err(failed(format!("{} exists already", path.display())));
    }
    let error = |error| {
        End::from(AgentError::File {
            path: path.to_path_buf(),
            error,
        })
    };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let draft = path.with_file_name(name);
    let written = File::create(&draft).map_err(error).and_then(|file| {
        let mut out = io::BufWriter::new(file);
        archive(job, repo, snapshot, paths, format, &mut out)?;
        let file = out.into_inner().map_err(|e| error(e.into_error()))?;
        file.sync_all().map_err(error)
    });
    let written = written.and_then(|()| std::fs::rename(&draft, path).map_err(error));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    } else {
        job.info(&format!("Wrote {}", path.display()));
    }
    written
}

/// A failure of the engine's, or of what it wrote into.
fn written(result: Result<(), RepoError>) -> AgentResult<()> {
    result.map_err(AgentError::from)
}

fn pipe(job: &Job, repo: &Repository, node: &Node, command: &mut Command) -> Result<(), End> {
    command.stdin(Stdio::piped());
    let ended = shell::feed(command, &job.cancel, |stdin| {
        written(repo.dump(node, &mut Watched { inner: stdin, job }))
    })?;
    told(job, &ended)
}

fn is_machine(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    proxmox::is_machine(&name)
}

fn machine(
    job: &Job,
    repo: &Repository,
    node: &Node,
    host: &Host,
    target: &ProxmoxRestoreTargetOptions,
    overwrite: bool,
) -> Result<(), End> {
    let name = String::from_utf8_lossy(&node.name).into_owned();
    let (command, id) = proxmox::restore_command(host, target, &name, overwrite)?;
    job.info(&format!("Restoring {name} as machine {id}: {command}"));
    remote::feed(job, host.shell(), &command, |input| {
        written(repo.dump(node, &mut Watched { inner: input, job })).map_err(End::from)
    })
}

/// What a command that took something wrote, and how it ended.
fn told(job: &Job, ended: &shell::Finished) -> Result<(), End> {
    if !ended.stdout.is_empty() {
        job.info(&ended.stdout);
    }
    if !ended.stderr.is_empty() {
        job.warning(&ended.stderr);
    }
    if ended.status.success() {
        return Ok(());
    }
    Err(failed(format!("the command ended with {}", ended.status)))
}

fn write_disk(job: &Job, repo: &Repository, node: &Node, place: &Path) -> Result<(), End> {
    use std::os::unix::fs::FileTypeExt as _;
    let error = |error| {
        End::from(AgentError::File {
            path: place.to_path_buf(),
            error,
        })
    };
    let is_device = std::fs::metadata(place).is_ok_and(|m| m.file_type().is_block_device());
    let mut options = OpenOptions::new();
    options.write(true);
    if !is_device {
        options.create(true).truncate(true);
    }
    let mut out: File = options.open(place).map_err(error)?;
    if is_device {
        let room = out.seek(io::SeekFrom::End(0)).map_err(error)?;
        if room < node.size {
            return Err(failed(format!(
                "the disk has {room} bytes, the image {}",
                node.size
            )));
        }
        out.rewind().map_err(error)?;
    }
    written(repo.dump(node, &mut Watched { inner: &mut out, job }))?;
    out.sync_all().map_err(error)
}
