//! Restore: the tree is read first, then each pack once, by several threads, its blobs going to wherever they belong.
//! Folders get their attributes last.
//!
//! Nothing is written outside the target, whatever the snapshot holds or the target held before: every file is opened
//! beneath the target without following links (see [`root`]).

mod archive;
mod attributes;
mod content;
mod edges;
mod files;
mod plan;
mod root;

use crate::error::{RepoError, RepoResult};
use crate::progress::{Cancel, Progress, Warn};
use crate::repository::Repository;
use crate::snapshot::Snapshot;
pub use archive::{Archive, ArchiveFormat};
use plan::Plan;
use root::Root;
use std::fs;
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
    /// Folder of the snapshot that `target` stands for instead of the root, if not empty.
    pub strip: PathBuf,
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

/// What all threads of one restore share.
struct Work<'a> {
    repo: &'a Repository,
    options: &'a RestoreOptions,
    progress: &'a Progress,
    cancel: &'a Cancel,
    warn: &'a Warn<'a>,
    warnings: AtomicU64,
    kept: AtomicU64,
    owner: attributes::Owner,
    edges: edges::Edges,
}

impl<'a> Work<'a> {
    fn new(
        repo: &'a Repository,
        options: &'a RestoreOptions,
        progress: &'a Progress,
        cancel: &'a Cancel,
        warn: &'a Warn<'a>,
    ) -> Self {
        Self {
            repo,
            options,
            progress,
            cancel,
            warn,
            warnings: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            owner: attributes::Owner::default(),
            edges: edges::Edges::default(),
        }
    }

    fn summary(&self, dirs: u64) -> RestoreSummary {
        RestoreSummary {
            files: Progress::get(&self.progress.files_done),
            dirs,
            bytes: Progress::get(&self.progress.bytes_done),
            kept: self.kept.load(Relaxed),
            warnings: self.warnings.load(Relaxed),
        }
    }

    /// Tells about a path relative to the target.
    fn warning(&self, path: &Path, message: &str) {
        self.warnings.fetch_add(1, Relaxed);
        (self.warn)(&self.options.target.join(path), message);
    }

    fn check_cancel(&self) -> RepoResult<()> {
        if self.cancel.is_cancelled() {
            Err(RepoError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Runs something in several threads at once; the first failure counts.
    fn in_threads(&self, run: impl Fn() -> RepoResult<()> + Sync) -> RepoResult<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.repo.threads()).map(|_| scope.spawn(&run)).collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap_or(Err(RepoError::Stopped)))
                .reduce(RepoResult::and)
                .unwrap_or(Ok(()))
        })
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
        let mut work = Work::new(self, options, progress, cancel, warn);
        let mut plan = Plan::collect(snapshot, &work)?;
        progress.counted.store(true, Relaxed);
        if options.verify_only {
            files::verify(&plan, &work)?;
        } else {
            let failed = |error| RepoError::File {
                path: options.target.clone(),
                error,
            };
            fs::create_dir_all(&options.target).map_err(failed)?;
            let root = Root::open(&options.target).map_err(failed)?;
            work.owner = attributes::Owner::of_process(&root);
            root.make_dirs(&mut plan, &work)?;
            files::restore(&plan, &root, &work)?;
            // Innermost first: writing into a folder changes its times.
            for dir in plan.dirs.iter().rev() {
                attributes::of_dir(dir, &root, &work);
            }
        }
        // The first one stands for the target.
        let dirs = plan.dirs.len() as u64 - 1;
        Progress::add(&progress.dirs_done, dirs);
        Ok(work.summary(dirs))
    }
}
