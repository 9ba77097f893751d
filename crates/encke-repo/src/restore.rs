//! Restore: the tree is read first, then each pack once, by several threads, its blobs going to wherever they belong.
//! Folders get their attributes last.

mod files;
mod write;

use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::{Node, NodeType};
use crate::progress::{Cancel, Progress, Warn};
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What to do with a file that exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Keep it.
    #[default]
    Never,
    /// Replace it.
    Always,
    /// Replace it if the snapshot's was changed later.
    IfNewer,
    /// Replace it if its content differs.
    IfDifferent,
}

/// What to restore, and where.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Full paths inside the snapshot; everything if empty.
    pub include: Vec<PathBuf>,
    /// Folder that stands for the snapshot's root.
    pub target: PathBuf,
    /// What to do with files that exist.
    pub overwrite: Overwrite,
    /// Read and verify everything, write nothing.
    pub verify_only: bool,
    /// Restore a file with zeros where its content can not be read, instead of leaving it out.
    pub skip_unreadable: bool,
}

/// What a restore did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct RestoreSummary {
    /// Entries restored that are not folders.
    pub files: u64,
    /// Folders.
    pub dirs: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Files kept as they were.
    pub kept: u64,
    /// Entries that could not be restored as they should.
    pub warnings: u64,
}

/// A folder or special entry of the plan.
struct Entry {
    path: PathBuf,
    node: Node,
}

#[derive(Default)]
struct Plan {
    dirs: Vec<Entry>,
    files: Vec<Entry>,
    others: Vec<Entry>,
}

struct Work<'a> {
    repo: &'a Repository,
    options: &'a RestoreOptions,
    progress: &'a Progress,
    cancel: &'a Cancel,
    warn: &'a Warn<'a>,
    warnings: AtomicU64,
    kept: AtomicU64,
    as_root: bool,
}

impl Work<'_> {
    fn warning(&self, path: &Path, message: &str) {
        self.warnings.fetch_add(1, Relaxed);
        (self.warn)(path, message);
    }

    fn check_cancel(&self) -> RepoResult<()> {
        if self.cancel.is_cancelled() {
            Err(RepoError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Whether a path inside the snapshot is wanted, and whether something below it may be.
    fn wanted(&self, path: &Path) -> (bool, bool) {
        let include = &self.options.include;
        let inside = include.is_empty() || include.iter().any(|i| path.starts_with(i));
        (inside, inside || include.iter().any(|i| i.starts_with(path)))
    }

    fn collect(&self, tree: &Id, inside: &Path, plan: &mut Plan) -> RepoResult<()> {
        self.check_cancel()?;
        for node in self.repo.tree(tree)?.nodes {
            let path = inside.join(OsStr::from_bytes(&node.name));
            let (whole, below) = self.wanted(&path);
            if !below {
                continue;
            }
            match node.kind {
                NodeType::Dir => {
                    let subtree = node.subtree;
                    plan.dirs.push(Entry {
                        path: path.clone(),
                        node,
                    });
                    match subtree.map(|s| self.collect(&s, &path, plan)) {
                        Some(Err(RepoError::Cancelled)) => return Err(RepoError::Cancelled),
                        Some(Err(e)) => self.warning(&path, &e.to_string()),
                        None => self.warning(&path, "its listing is missing from the snapshot"),
                        Some(Ok(())) => {}
                    }
                }
                NodeType::File if whole => {
                    Progress::add(&self.progress.files_total, 1);
                    Progress::add(&self.progress.bytes_total, node.size);
                    plan.files.push(Entry { path, node });
                }
                NodeType::Socket => {}
                _ if whole => {
                    Progress::add(&self.progress.files_total, 1);
                    plan.others.push(Entry { path, node });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn target(&self, inside: &Path) -> PathBuf {
        self.options
            .target
            .join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Makes the folders, outermost first. A link in a folder's place is not followed: it could lead anywhere.
    fn make_dirs(&self, dirs: &[Entry]) -> RepoResult<()> {
        for dir in dirs {
            self.check_cancel()?;
            let path = self.target(&dir.path);
            let made = match fs::symlink_metadata(&path) {
                Ok(m) if m.is_dir() => Ok(()),
                Ok(_) if self.options.overwrite == Overwrite::Always => {
                    fs::remove_file(&path).and_then(|()| fs::create_dir(&path))
                }
                Ok(_) => Err(std::io::Error::other("something else is in the folder's place")),
                Err(_) => fs::create_dir(&path),
            };
            if let Err(e) = made {
                self.warning(&path, &e.to_string());
            }
        }
        Ok(())
    }
}

impl Repository {
    /// Restores from a snapshot. What can not be restored is told to `warn`; the rest goes on.
    ///
    /// # Errors
    /// The target can not be made, the storage fails, nothing fits `include`, or it was cancelled.
    pub fn restore(
        &self,
        snapshot: &Snapshot,
        options: &RestoreOptions,
        progress: &Progress,
        cancel: &Cancel,
        warn: &Warn<'_>,
    ) -> RepoResult<RestoreSummary> {
        self.load_index()?;
        let work = Work {
            repo: self,
            options,
            progress,
            cancel,
            warn,
            warnings: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            as_root: rustix::process::geteuid().is_root(),
        };
        let mut plan = Plan::default();
        work.collect(&snapshot.tree, Path::new("/"), &mut plan)?;
        for wanted in &options.include {
            let found = plan
                .dirs
                .iter()
                .chain(&plan.files)
                .chain(&plan.others)
                .any(|e| e.path == *wanted);
            if !found {
                return Err(RepoError::NotFound(wanted.display().to_string()));
            }
        }
        progress.counted.store(true, Relaxed);
        if !options.verify_only {
            let target = &options.target;
            fs::create_dir_all(target).map_err(|error| RepoError::File {
                path: target.clone(),
                error,
            })?;
            work.make_dirs(&plan.dirs)?;
        }
        files::restore(&plan.files, &work)?;
        if !options.verify_only {
            for entry in &plan.others {
                work.check_cancel()?;
                write::special(&work.target(&entry.path), &entry.node, &work);
                Progress::add(&progress.files_done, 1);
            }
            // Innermost first: writing into a folder changes its times.
            for dir in plan.dirs.iter().rev() {
                write::attributes(&work.target(&dir.path), &dir.node, &work);
            }
        }
        Progress::add(&progress.dirs_done, plan.dirs.len() as u64);
        Ok(RestoreSummary {
            files: Progress::get(&progress.files_done),
            dirs: plan.dirs.len() as u64,
            bytes: Progress::get(&progress.bytes_done),
            kept: work.kept.load(Relaxed),
            warnings: work.warnings.load(Relaxed),
        })
    }
}
