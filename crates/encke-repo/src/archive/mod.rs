//! Backup: each thread takes the piece of work that is closest to being finished (see [`pool`]): a chunk of a large file
//! to hash, compress and seal; a few files to read; a folder to look into. Small files stay in one thread, and its
//! cache, from reading to the sealed chunk. Other threads write packs. What waits is bounded by the number of threads and
//! not by what is backed up.
//!
//! A folder's listing is made by whichever thread finishes its last entry; nobody waits for a subfolder.

mod buffer;
mod builder;
mod frozen;
mod pool;
mod read;
mod save;
mod walk;
mod xattr;

use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::{Node, NodeType};
use crate::owners::Owners;
use crate::packer::Packer;
use crate::progress::{Cancel, Progress, Warn};
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use buffer::Spare;
use builder::Root;
use encke_storage::FileKind;
use jiff::Timestamp;
use parking_lot::Mutex;
use pool::{Pool, Task};
use save::Worker;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;

/// Decides by full path (and whether it is a folder) what is left out. A folder that is left out is not entered.
pub type Exclude = Arc<dyn Fn(&Path, bool) -> bool + Send + Sync>;

/// A folder that is read elsewhere: in a copy of its file system that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Absolute path of the folder. Everything below is saved as if it were read there.
    pub place: PathBuf,
    /// Where it is read. The same as `place` for what a surrounding copy does not hold.
    pub copy: PathBuf,
}

/// What to back up, and how.
#[derive(Clone)]
pub struct BackupOptions {
    /// Absolute paths.
    pub paths: Vec<PathBuf>,
    /// What to leave out.
    pub exclude: Option<Exclude>,
    /// Folders to read elsewhere; of several above a path the innermost holds.
    pub frozen: Vec<Frozen>,
    /// Words kept with the snapshot.
    pub tags: Vec<String>,
    /// Machine name for the snapshot; this machine's if empty.
    pub hostname: String,
    /// Snapshot to take unchanged files from; `None` reads everything.
    pub parent: Option<Snapshot>,
    /// Take a file as unchanged although its change time differs.
    pub ignore_ctime: bool,
    /// Take a file as unchanged although its inode number differs.
    pub ignore_inode: bool,
    /// User name for the snapshot; the process's if empty.
    pub username: String,
    /// Time of the snapshot; now if `None`.
    pub time: Option<Timestamp>,
    /// Stay on the file system of each path.
    pub one_file_system: bool,
    /// Compression, 1 (fastest) to 5 (smallest); 4 is the default.
    pub compression: u8,
    /// Threads that read, hash and compress; 0 for the repository's, see [`crate::InitOptions`].
    pub threads: usize,
    /// Kept with the snapshot.
    pub program: String,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            exclude: None,
            frozen: Vec::new(),
            tags: Vec::new(),
            hostname: String::new(),
            parent: None,
            ignore_ctime: false,
            ignore_inode: false,
            username: String::new(),
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
    frozen: frozen::Places,
    packer: Packer<'a>,
    /// Blobs being saved by this backup.
    saving: Mutex<crate::id::IdSet>,
    pool: Pool,
    spare: Spare,
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

    /// Shows what is being worked on, if nobody is looking just now.
    fn show(&self, path: &Path) {
        if let Some(mut current) = self.progress.current.try_lock() {
            path.to_string_lossy().as_ref().clone_into(&mut current);
        }
    }

    fn warning(&self, path: &Path, message: &str) {
        self.counters.warnings.fetch_add(1, Relaxed);
        (self.warn)(path, message);
    }
}

impl Shared<'_> {
    /// Starts the threads and waits until all is saved, or it has failed.
    fn work(&self, threads: usize, source: Source) {
        let stream = match source {
            Source::Folders(targets) => {
                let known = self.options.parent.as_ref().map(|p| p.tree);
                self.pool.push_folder(walk::Folder::root(targets, known));
                None
            }
            // Counts as work before any thread looks for some.
            Source::Streams(streams) => Some((streams, self.pool.begin())),
        };
        std::thread::scope(|scope| {
            for _ in 0..self.repo.writers() {
                scope.spawn(|| self.packer.write_loop(self.progress, self.cancel));
            }
            let mut workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(self))).collect();
            if let Some((streams, reading)) = stream {
                workers.push(scope.spawn(move || {
                    match Worker::new(self.level) {
                        Ok(mut worker) => read::streams(streams, &mut worker, self),
                        Err(e) => self.fail(e),
                    }
                    drop(reading);
                }));
            }
            // All are waited for before it is decided.
            let ended: Vec<_> = workers.into_iter().map(ScopedJoinHandle::join).collect();
            if ended.iter().any(Result::is_err) {
                self.fail(RepoError::Stopped);
            }
            if let Err(e) = self.packer.close() {
                self.fail(e);
            }
        });
    }
}

/// Where a backup's content comes from.
enum Source<'a, 'b> {
    Folders(walk::Targets),
    Streams(read::Streams<'a, 'b>),
}

/// Begins the stream of a place among the names.
pub type OpenStream<'a> = dyn FnMut(usize) -> std::io::Result<Box<dyn Read + Send + 'a>> + Send + 'a;

/// zstd's level for the API's five. The default is zstd's second: it needs a third less processor time than zstd's own
/// default, the third, and leaves about as much as restic's default does (see `bench/backup.sh`).
fn zstd_level(level: u8) -> i32 {
    match level {
        0..=2 => 1,
        3 | 4 => 2,
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
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| RepoError::Invalid("the path of a stream needs a file name".into()))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut input = Some(input);
        let mut open = |_| -> std::io::Result<Box<dyn Read + Send + '_>> {
            let input = input
                .take()
                .ok_or_else(|| std::io::Error::other("read already"))?;
            Ok(Box::new(input))
        };
        self.backup_streams(folder, &[name], &mut open, options, progress, cancel)
    }

    /// Backs up streams, one after the other, as the files of one folder. `names` must be in order and differ, `open`
    /// begins the stream of a name.
    ///
    /// # Errors
    /// A stream or the storage fails, or it was cancelled.
    pub fn backup_streams(
        &self,
        folder: &Path,
        names: &[String],
        open: &mut OpenStream<'_>,
        options: &BackupOptions,
        progress: &Progress,
        cancel: &Cancel,
    ) -> RepoResult<BackupSummary> {
        let is_name = |n: &String| !n.is_empty() && n != "." && n != ".." && !n.contains(['/', '\0']);
        if names.is_empty() || !names.iter().all(is_name) || !names.windows(2).all(|w| w[0] < w[1]) {
            return Err(RepoError::Invalid(
                "streams need file names, in order and none twice".into(),
            ));
        }
        let mut options = options.clone();
        options.paths = names.iter().map(|n| folder.join(n)).collect();
        let streams = read::Streams { folder, names, open };
        self.run(&options, progress, cancel, &|_, _| {}, Source::Streams(streams))
    }

    fn run(
        &self,
        options: &BackupOptions,
        progress: &Progress,
        cancel: &Cancel,
        warn: &Warn<'_>,
        source: Source,
    ) -> RepoResult<BackupSummary> {
        let threads = match options.threads {
            0 => self.busy_threads(),
            n => n.min(64),
        };
        let shared = Shared {
            repo: self,
            options,
            progress,
            cancel,
            warn,
            owners: Owners::default(),
            frozen: frozen::Places::new(&options.frozen)?,
            packer: Packer::new(self),
            saving: Mutex::default(),
            pool: Pool::new(threads),
            spare: Spare::default(),
            counters: Counters::default(),
            root: Root::default(),
            error: Mutex::new(None),
            stop: AtomicBool::new(false),
            level: zstd_level(options.compression),
        };
        let uploaded = Progress::get(&progress.uploaded);
        let work = || {
            self.load_index()?;
            shared.work(threads, source);
            // What was uploaded is indexed even if the backup failed, so that the next one need not upload it again.
            let indexed = shared.packer.finish(progress);
            if let Some(e) = shared.packer.failure().or(shared.error.lock().take()) {
                return Err(e);
            }
            indexed?;
            shared.root.take().ok_or(RepoError::Stopped)
        };
        let present = || shared.packer.all_present();
        let snapshot = self.beside_others(cancel, work, present, |tree| self.save_snapshot(options, tree))?;
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
            username: if options.username.is_empty() {
                crate::owners::current_user()
            } else {
                options.username.clone()
            },
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            tags: options.tags.clone(),
            original: None,
            program_version: options.program.clone(),
            id: Id::default(),
        };
        Ok(self.save_json(FileKind::Snapshot, &snapshot)?.0)
    }
}

/// Takes what there is to do until all is done.
fn work(shared: &Shared) {
    let mut worker = match Worker::new(shared.level) {
        Ok(worker) => worker,
        Err(e) => return shared.fail(e),
    };
    while let Some((task, _working)) = shared.pool.take() {
        if !shared.stopped() {
            match task {
                Task::Chunk(chunk) => chunk.save(&mut worker, shared),
                Task::Files(batch) => batch.save(&mut worker, shared),
                Task::Folder(folder) => folder.list(&mut worker, shared),
            }
        }
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
        user: "".into(),
        group: "".into(),
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
