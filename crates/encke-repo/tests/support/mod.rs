//! What the tests share: a repository in a folder of its own, the real `restic` beside us, folders full of everything a
//! file system can hold, and a comparison that misses nothing.
#![allow(dead_code, clippy::unwrap_used)]

pub mod fault;

use encke_repo::{
    BackupOptions, BackupSummary, Cancel, CheckOptions, CheckReport, InitOptions, Node, Overwrite, Progress,
    PruneOptions, PruneReport, Repository, RestoreOptions, RestoreSummary, Snapshot,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;

pub const PASSWORD: &str = "correct horse";

/// Checks everything there is, content too.
pub fn check_data(repo: &Repository) -> CheckReport {
    let options = CheckOptions {
        read_data: true,
        ..CheckOptions::default()
    };
    repo.check(options, &Progress::default(), &Cancel::default())
        .unwrap()
}

/// A folder that goes away, with a repository in it.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        Self { dir }
    }

    pub fn src(&self) -> PathBuf {
        self.dir.path().join("src")
    }

    pub fn repo_path(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub fn storage(&self) -> Arc<encke_storage::Local> {
        Arc::new(encke_storage::Local::new(self.repo_path()))
    }

    pub fn init(&self) -> Repository {
        let backend = self.storage();
        // Always the same, so that files are cut at the same places each time.
        let options = InitOptions {
            polynomial: Some(0x3d_a335_8b4d_c173),
            ..Default::default()
        };
        Repository::init(backend, PASSWORD, options).unwrap()
    }

    pub fn open(&self) -> Repository {
        let backend = self.storage();
        Repository::open(backend, PASSWORD, InitOptions::default()).unwrap()
    }

    /// Runs stock restic on the repository; it has to succeed.
    pub fn restic(&self, args: &[&str]) -> String {
        let (ok, out) = self.try_restic(args);
        assert!(ok, "restic {args:?}: {out}");
        out
    }

    /// Stock restic on the repository.
    pub fn restic_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command.arg("-r").arg(self.repo_path()).args(args);
        command
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_CACHE_DIR", self.dir.path().join("cache"));
        command
    }

    pub fn try_restic(&self, args: &[&str]) -> (bool, String) {
        let out = self
            .restic_command(args)
            .output()
            .expect("these tests compare with stock restic: install it (Debian: apt-get install restic)");
        let text = [&out.stdout[..], &out.stderr[..]].concat();
        (out.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Stock restic's verdict on every byte.
    pub fn restic_check(&self) {
        let out = self.restic(&["check", "--read-data"]);
        assert!(out.contains("no errors were found"), "{out}");
        assert!(!out.contains("additional files"), "{out}");
    }

    pub fn backup(&self, repo: &Repository) -> BackupSummary {
        self.backup_with(repo, BackupOptions::default())
    }

    /// Backs up `src`; a warning is a failure.
    pub fn backup_with(&self, repo: &Repository, options: BackupOptions) -> BackupSummary {
        let options = BackupOptions {
            paths: vec![self.src()],
            ..options
        };
        let fail = |path: &Path, message: &str| panic!("{}: {message}", path.display());
        repo.backup(&options, &Progress::default(), &Cancel::default(), &fail)
            .unwrap()
    }

    /// Prunes as if some hours had passed.
    pub fn prune(&self, repo: &Repository, hours: i64) -> PruneReport {
        self.prune_with(repo, hours, PruneOptions::default())
    }

    pub fn prune_with(&self, repo: &Repository, hours: i64, options: PruneOptions) -> PruneReport {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        let options = PruneOptions {
            now: Some(now),
            ..options
        };
        let report = repo
            .prune(&options, &Progress::default(), &Cancel::default())
            .unwrap();
        assert_eq!(report.errors, Vec::<String>::new());
        report
    }

    /// Removes a snapshot.
    pub fn forget(&self, repo: &Repository, id: &str) {
        repo.delete_snapshots(&[repo.snapshot(id).unwrap().id]).unwrap();
    }

    /// Restores everything to a new folder, and answers where `src` is in it.
    pub fn restore(&self, repo: &Repository, snapshot: &Snapshot, name: &str) -> PathBuf {
        let target = self.dir.path().join(name);
        let options = RestoreOptions {
            target: target.clone(),
            overwrite: Overwrite::Always,
            ..Default::default()
        };
        restore(repo, snapshot, &options);
        target.join(self.src().strip_prefix("/").unwrap())
    }

    /// The node of `src` in a snapshot.
    pub fn src_node(&self, repo: &Repository, snapshot: &Snapshot) -> Node {
        repo.node_at(snapshot, &self.src()).unwrap()
    }
}

/// Restores; a warning is a failure.
pub fn restore(repo: &Repository, snapshot: &Snapshot, options: &RestoreOptions) -> RestoreSummary {
    let fail = |path: &Path, message: &str| panic!("{}: {message}", path.display());
    repo.restore(snapshot, options, &Progress::default(), &Cancel::default(), &fail)
        .unwrap()
}

/// Collects warnings.
#[derive(Clone, Default)]
pub struct Warnings(pub Arc<Mutex<Vec<String>>>);

impl Warnings {
    pub fn note(&self) -> impl Fn(&Path, &str) + Send + Sync + 'static {
        let list = self.0.clone();
        move |path, message| {
            list.lock()
                .unwrap()
                .push(format!("{}: {message}", path.display()));
        }
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Bytes that do not compress, the same for a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(length);
    out
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fills a folder with everything a file system can hold.
pub fn make_everything(root: &Path) {
    let path = |name: &[u8]| root.join(OsStr::from_bytes(name));
    let names: [&[u8]; 12] = [
        b"plain",
        b"with space",
        b"quo\"te and back\\slash",
        b"new\nline\ttab",
        b"bad \xff\xfe utf-8 \xc3",
        "gr\u{fc}n \u{1f600} \u{a0}\u{200b}\u{2028}\u{e0001}".as_bytes(),
        b"<html>&amp;",
        b"\x01\x7f control",
        b"-rf",
        b"*?[a]$(x)`",
        b" ",
        b"...",
    ];
    for (i, name) in names.iter().enumerate() {
        fs::write(path(name), format!("content of file {i}\n").repeat(i * 100)).unwrap();
    }
    fs::write(path(b"empty"), b"").unwrap();
    fs::write(path(b"one byte"), b"x").unwrap();
    fs::write(path(b"long name ").with_file_name("n".repeat(255)), b"long").unwrap();
    fs::write(path(b"big noise"), noise(1, 9_000_000)).unwrap();
    fs::write(
        path(b"big text"),
        b"the same line again and again\n".repeat(300_000),
    )
    .unwrap();
    // Just around the smallest chunk.
    for size in [524_287, 524_288, 524_289, 1_048_576] {
        fs::write(
            path(format!("size {size}").as_bytes()),
            noise(size, size as usize),
        )
        .unwrap();
    }
    fs::create_dir_all(path(b"deep").join("a/b/c/d/e")).unwrap();
    fs::write(path(b"deep").join("a/b/c/d/e/leaf"), b"leaf").unwrap();
    fs::create_dir(path(b"empty folder")).unwrap();
    for i in 0..300 {
        fs::create_dir_all(path(b"many")).unwrap();
        fs::write(path(b"many").join(format!("file{i}")), noise(i, i as usize * 7)).unwrap();
    }
    // Holes at the start, in the middle and at the end.
    let sparse = fs::File::create(path(b"sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", 3_000_000).unwrap();
    sparse.set_len(20_000_000).unwrap();
    // Links.
    symlink("plain", path(b"link")).unwrap();
    symlink("/nowhere/at all", path(b"dangling")).unwrap();
    symlink("deep/a", path(b"link to folder")).unwrap();
    fs::hard_link(path(b"big noise"), path(b"deep").join("other name")).unwrap();
    fs::hard_link(path(b"plain"), path(b"third name")).unwrap();
    fs::hard_link(path(b"plain"), path(b"many").join("fourth name")).unwrap();
    // Kinds.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path(b"pipe"),
        rustix::fs::FileType::Fifo,
        0o640.into(),
        0,
    )
    .unwrap();
    if is_root() {
        let device = rustix::fs::makedev(1, 3);
        let kinds = [
            ("null", rustix::fs::FileType::CharacterDevice),
            ("block", rustix::fs::FileType::BlockDevice),
        ];
        for (name, kind) in kinds {
            // A container may forbid it.
            let _ = rustix::fs::mknodat(rustix::fs::CWD, path(name.as_bytes()), kind, 0o600.into(), device);
        }
        std::os::unix::fs::chown(path(b"with space"), Some(1234), Some(54321)).unwrap();
        std::os::unix::fs::lchown(path(b"dangling"), Some(7), Some(8)).unwrap();
    }
    // Attributes.
    for (name, mode) in [
        ("plain", 0o4755),
        ("empty", 0o2711),
        ("deep", 0o1777),
        ("one byte", 0),
        ("many", 0o750),
    ] {
        fs::set_permissions(path(name.as_bytes()), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, key, value) in [
        ("empty", "user.encke", &b"value"[..]),
        ("empty", "user.binary", &[0, 1, 0xff, b'<']),
        ("deep", "user.of a folder", b""),
    ] {
        rustix::fs::setxattr(path(name.as_bytes()), key, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    for (name, seconds, nanos) in [
        ("with space", -5_000_000_000, 1),
        ("plain", 4_102_444_800, 999_999_999),
        ("size 524288", 0, 0),
        ("dangling", 1_000_000_000, 120_000_000),
        ("empty folder", 1_234_567_890, 123_456_789),
    ] {
        let t = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        };
        let times = rustix::fs::Timestamps {
            last_access: t,
            last_modification: t,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, path(name.as_bytes()), &times, flags).unwrap();
    }
}

/// All that two entries have to share.
#[derive(Debug, PartialEq)]
struct Entry {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    size: u64,
    device: u64,
    link: Option<PathBuf>,
    /// The first path of the same inode.
    same_as: PathBuf,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn entries(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut out = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut paths = vec![root.to_path_buf()];
    let mut waiting = vec![root.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let inside = path.strip_prefix(root).unwrap().to_path_buf();
        let same_as = inodes.entry(meta.ino()).or_insert_with(|| inside.clone()).clone();
        let is_device = kind.is_char_device() || kind.is_block_device();
        let entry = Entry {
            kind: format!("{kind:?}"),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            size: if kind.is_dir() { 0 } else { meta.size() },
            device: if is_device { meta.rdev() } else { 0 },
            link: fs::read_link(&path).ok(),
            same_as: if kind.is_dir() { inside.clone() } else { same_as },
            xattrs: if kind.is_symlink() {
                Vec::new()
            } else {
                xattrs(&path)
            },
        };
        out.insert(inside, entry);
    }
    out
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = [0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut out = Vec::new();
    for name in names[..length].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let mut value = [0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        out.push((name.to_vec(), value[..length].to_vec()));
    }
    out.sort();
    out
}

/// Compares two folders: every entry, attribute and byte.
pub fn assert_same(a: &Path, b: &Path) {
    let (left, right) = (entries(a), entries(b));
    let names = |e: &BTreeMap<PathBuf, Entry>| e.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    for (path, entry) in &left {
        assert_eq!(entry, &right[path], "{}", path.display());
        if fs::symlink_metadata(a.join(path)).unwrap().is_file() {
            let read = |root: &Path| fs::read(root.join(path)).unwrap();
            assert!(read(a) == read(b), "the content of {} differs", path.display());
        }
    }
}
