//! Backup: threads walk the folders and read what changed, others hash, compress and seal, others write packs. Every
//! queue between them is short, so memory is bounded by the number of threads and not by what is backed up.
//!
//! A folder's listing is made by whichever thread finishes its last entry; nobody waits for a subfolder.

mod builder;
mod read;
mod save;
mod walk;

use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::{Node, NodeType};
use crate::owners::Owners;
use crate::packer::Packer;
use crate::progress::{Cancel, Progress, Warn};
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use builder::Root;
use crossbeam_channel::{Sender, bounded};
use encke_storage::FileKind;
use jiff::Timestamp;
use parking_lot::Mutex;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Decides by full path (and whether it is a folder) what is left out. A folder that is left out is not entered.
pub type Exclude = Arc<dyn Fn(&Path, bool) -> bool + Send + Sync>;

/// What to back up, and how.
#[derive(Clone)]
pub struct BackupOptions {
    /// Absolute paths.
    pub paths: Vec<PathBuf>,
    /// What to leave out.
    pub exclude: Option<Exclude>,
    /// Words kept with the snapshot.
    pub tags: Vec<String>,
    /// Machine name for the snapshot; this machine's if empty.
    pub hostname: String,
    /// Snapshot to take unchanged files from; `None` reads everything.
    pub parent: Option<Snapshot>,
    /// Time of the snapshot; now if `None`.
    pub time: Option<Timestamp>,
    /// Stay on the file system of each path.
    pub one_file_system: bool,
    /// Compression, 1 (fastest) to 5 (smallest); 4 is the default.
    pub compression: u8,
    /// Threads that walk and read, and as many that hash and compress; 0 for the machine's cores.
    pub threads: usize,
    /// Kept with the snapshot.
    pub program: String,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            exclude: None,
            tags: Vec::new(),
            hostname: String::new(),
            parent: None,
            time: None,
            one_file_system: false,
            compression: 4,
            threads: 0,
            program: concat!("encke ", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// What a backup did. Bytes are of files' content unless said otherwise.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct BackupSummary {
    /// Name of the snapshot.
    pub snapshot_id: String,
    /// Files that were not in the parent.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over without reading.
    pub files_unmodified: u64,
    /// Folders.
    pub dirs: u64,
    /// All entries that are not folders.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Chunks of all files, repeated ones counted each time.
    pub chunks: u64,
    /// Chunks and listings that were not in the repository.
    pub blobs_added: u64,
    /// Their bytes before compression.
    pub bytes_added: u64,
    /// Bytes written to the storage.
    pub uploaded: u64,
    /// Files or folders that could not be read as they should.
    pub warnings: u64,
}

#[derive(Default)]
struct Counters {
    new: AtomicU64,
    changed: AtomicU64,
    unmodified: AtomicU64,
    chunks: AtomicU64,
    blobs: AtomicU64,
    added: AtomicU64,
    warnings: AtomicU64,
}

/// What all threads of one backup share.
struct Shared<'a> {
    repo: &'a Repository,
    options: &'a BackupOptions,
    progress: &'a Progress,
    cancel: &'a Cancel,
    warn: &'a Warn<'a>,
    owners: Owners,
    packer: Packer<'a>,
    /// Blobs being saved by this backup.
    saving: Mutex<crate::id::IdSet>,
    chunks: Sender<save::Job>,
    counters: Counters,
    root: Root,
    error: Mutex<Option<RepoError>>,
    stop: AtomicBool,
    level: i32,
}

impl Shared<'_> {
    /// Notes the first failure and makes all threads come to an end.
    fn fail(&self, e: RepoError) {
        self.error.lock().get_or_insert(e);
        self.stop.store(true, Relaxed);
    }

    fn stopped(&self) -> bool {
        if self.cancel.is_cancelled() {
            self.fail(RepoError::Cancelled);
        } else if self.packer.has_failed() {
            self.stop.store(true, Relaxed);
        }
        self.stop.load(Relaxed)
    }

    fn warning(&self, path: &Path, message: &str) {
        self.counters.warnings.fetch_add(1, Relaxed);
        (self.warn)(path, message);
    }
}

/// Where a backup's content comes from.
enum Source<'a> {
    Folders(walk::Targets),
    Stream(&'a Path, &'a mut (dyn Read + Send)),
}

/// zstd's level for the API's five.
fn zstd_level(level: u8) -> i32 {
    match level {
        0 | 1 => 1,
        2 => 2,
        3 | 4 => 3,
        _ => 11,
    }
}

impl Repository {
    /// Backs up folders and files. What can not be read is told to `warn` and left out, or kept from the parent.
    ///
    /// # Errors
    /// Nothing can be read at all, the storage fails, or it was cancelled. What was written so far is used by the
    /// next backup.
    pub fn backup(
        &self,
        options: &BackupOptions,
        progress: &Progress,
        cancel: &Cancel,
        warn: &Warn<'_>,
    ) -> RepoResult<BackupSummary> {
        let targets = walk::Targets::new(&options.paths)?;
        self.run(options, progress, cancel, warn, Source::Folders(targets))
    }

    /// Backs up one stream as a file of the given absolute path.
    ///
    /// # Errors
    /// The stream or the storage fails, or it was cancelled.
    pub fn backup_reader(
        &self,
        path: &Path,
        input: &mut (dyn Read + Send),
        options: &BackupOptions,
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<BackupSummary> {
        let mut options = options.clone();
        options.paths = vec![path.to_path_buf()];
        self.run(
            &options,
            progress,
            cancel,
            &|_, _| {},
            Source::Stream(path, input),
        )
    }

    fn run(
        &self,
        options: &BackupOptions,
        progress: &Progress,
        cancel: &Cancel,
        warn: &Warn<'_>,
        source: Source,
    ) -> RepoResult<BackupSummary> {
        self.check_exclusive()?;
        self.load_index()?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let threads = if options.threads == 0 {
            cores.clamp(1, 16)
        } else {
            options.threads.min(64)
        };
        let writers = self.backend().parallel();
        let (chunks, jobs) = bounded(threads * 2);
        let (done, ended) = bounded::<()>(0);
        let shared = Shared {
            repo: self,
            options,
            progress,
            cancel,
            warn,
            owners: Owners::load(),
            packer: Packer::new(self, self.key().clone(), writers),
            saving: Mutex::default(),
            chunks,
            counters: Counters::default(),
            root: Root::default(),
            error: Mutex::new(None),
            stop: AtomicBool::new(false),
            level: zstd_level(options.compression),
        };
        let tasks = walk::Tasks::default();
        let uploaded = Progress::get(&progress.uploaded);
        std::thread::scope(|scope| {
            for _ in 0..writers {
                scope.spawn(|| shared.packer.write_loop(progress, &ended));
            }
            let savers: Vec<_> = (0..threads)
                .map(|_| {
                    let jobs = jobs.clone();
                    scope.spawn(|| save::run(jobs, &shared))
                })
                .collect();
            let walkers: Vec<_> = match source {
                Source::Folders(targets) => {
                    tasks.push(walk::Task::root(targets, options.parent.as_ref().map(|p| p.tree)));
                    (0..threads)
                        .map(|_| scope.spawn(|| walk::run(&tasks, &shared)))
                        .collect()
                }
                Source::Stream(path, input) => vec![scope.spawn(|| read::stream(path, input, &shared))],
            };
            let mut whole = walkers.into_iter().all(|t| t.join().is_ok());
            // One order to stop for each saving thread, behind all work.
            for _ in 0..threads {
                let _ = shared.chunks.send(save::Job::Stop);
            }
            whole &= savers.into_iter().all(|t| t.join().is_ok());
            if !whole {
                shared.fail(RepoError::Stopped);
            }
            if let Err(e) = shared.packer.flush() {
                shared.fail(e);
            }
            drop(done);
        });
        if let Some(e) = shared.packer.failure() {
            return Err(e);
        }
        // What was uploaded is indexed even if the backup failed, so that the next one need not upload it again.
        let indexed = shared.packer.finish(progress);
        if let Some(e) = shared.error.lock().take() {
            return Err(e);
        }
        indexed?;
        let tree = shared.root.take().ok_or(RepoError::Stopped)?;
        let snapshot = self.save_snapshot(options, tree)?;
        let c = &shared.counters;
        let get = Progress::get;
        Ok(BackupSummary {
            snapshot_id: snapshot.to_string(),
            files_new: get(&c.new),
            files_changed: get(&c.changed),
            files_unmodified: get(&c.unmodified),
            dirs: get(&progress.dirs_done),
            files: get(&progress.files_done),
            bytes: get(&progress.bytes_done),
            chunks: get(&c.chunks),
            blobs_added: get(&c.blobs),
            bytes_added: get(&c.added),
            uploaded: get(&progress.uploaded) - uploaded,
            warnings: get(&c.warnings),
        })
    }

    fn save_snapshot(&self, options: &BackupOptions, tree: Id) -> RepoResult<Id> {
        let host = if options.hostname.is_empty() {
            crate::owners::host_name()
        } else {
            options.hostname.clone()
        };
        let snapshot = Snapshot {
            time: options.time.unwrap_or_else(Timestamp::now),
            parent: options.parent.as_ref().map(|p| p.id),
            tree,
            paths: options
                .paths
                .iter()
                .map(|p| p.to_string_lossy().into_owned())
                .collect(),
            hostname: host,
            username: crate::owners::current_user(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            tags: options.tags.clone(),
            program_version: options.program.clone(),
            id: Id::default(),
        };
        Ok(self.save_json(FileKind::Snapshot, &snapshot)?.0)
    }
}

/// A node for something that has no file behind it.
fn plain_node(name: &[u8], kind: NodeType, mode: u32, time: Timestamp) -> Node {
    Node {
        name: name.to_vec(),
        kind,
        mode,
        mtime: time,
        atime: time,
        ctime: time,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: String::new(),
        group: String::new(),
        inode: 0,
        device_id: 0,
        size: 0,
        links: 0,
        link_target: Vec::new(),
        xattrs: Vec::new(),
        device: 0,
        content: Vec::new(),
        subtree: None,
    }
}
