//! A folder on this machine, in restic's layout: packs in 256 subfolders by the first two digits of their names.

use crate::{Backend, FileKind, StorageError, StorageResult, direct};
use rustix::fs::{Access, Advice, FallocateFlags, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A repository in a local folder.
pub struct Local {
    root: PathBuf,
    counter: AtomicU64,
    /// Files read last, the latest at the end: listings are read one by one out of the same few packs.
    opened: Mutex<Vec<(PathBuf, Arc<File>)>>,
    /// Whether large parts are read past the page cache, when a file told.
    direct: OnceLock<bool>,
}

/// Files kept open.
const KEPT_OPEN: usize = 8;

impl Local {
    /// The folder need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            counter: AtomicU64::new(0),
            opened: Mutex::default(),
            direct: OnceLock::new(),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = opened.iter().rposition(|(p, _)| p == path) {
            let found = opened.remove(at);
            let file = found.1.clone();
            opened.push(found);
            return Ok(file);
        }
        drop(opened);
        let file = Arc::new(File::open(path)?);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= KEPT_OPEN {
            opened.remove(0);
        }
        opened.push((path.to_path_buf(), file.clone()));
        Ok(file)
    }

    /// Whether so many bytes are read past the page cache, if the disk allows it.
    fn is_direct(&self, length: u64, file: &File) -> bool {
        length >= direct::FROM as u64 && *self.direct.get_or_init(|| direct::suits(file))
    }

    fn path(&self, kind: FileKind, name: &str) -> PathBuf {
        self.root.join(crate::path(kind, name))
    }
}

fn error(path: &Path, e: &io::Error) -> StorageError {
    match e.kind() {
        ErrorKind::NotFound => StorageError::NotFound(path.display().to_string()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::Full,
        _ => StorageError::Other(format!("{}: {e}", path.display())),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a new file's content.
fn write(file: &File, content: &[u8]) -> io::Result<()> {
    if content.len() < direct::FROM || !direct::suits(file) {
        return file.write_all_at(content, 0);
    }
    // All at once, in one piece of the disk, and no room is found out first. Not every file system can do it.
    let room = rustix::fs::fallocate(file, FallocateFlags::empty(), 0, content.len() as u64);
    if let Err(e @ (Errno::NOSPC | Errno::DQUOT)) = room {
        return Err(e.into());
    }
    Ok(direct::write_at(file, 0, content, true)?)
}

impl Backend for Local {
    fn create(&self) -> StorageResult<()> {
        let make = |path: PathBuf| fs::create_dir_all(&path).map_err(|e| error(&path, &e));
        for kind in FileKind::FOLDERS {
            make(self.root.join(kind.folder()))?;
        }
        for i in 0..256 {
            make(self.root.join("data").join(format!("{i:02x}")))?;
        }
        sync_folder(&self.root).map_err(|e| error(&self.root, &e))
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        let mut out = Vec::new();
        let root = self.root.join(kind.folder());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                // rustic makes no folder for locks. Any other that is missing may be a disk that is.
                Err(e) if e.kind() == ErrorKind::NotFound && (folder != root || kind == FileKind::Lock) => {
                    continue;
                }
                Err(e) => return Err(error(&folder, &e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| error(&folder, &e))?;
                let meta = match entry.metadata() {
                    Ok(meta) => meta,
                    // Removed while we were listing.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(error(&entry.path(), &e)),
                };
                if meta.is_dir() && kind == FileKind::Pack {
                    folders.push(entry.path());
                } else if let Ok(name) = entry.file_name().into_string()
                    && name.len() == 64
                {
                    out.push((name, meta.len()));
                }
            }
        }
        Ok(out)
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let path = self.path(kind, name);
        fs::read(&path).map_err(|e| error(&path, &e))
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        let path = self.path(kind, name);
        let file = self.open(&path).map_err(|e| error(&path, &e))?;
        let mut read = || -> io::Result<()> {
            if self.is_direct(out.len() as u64, &file) {
                let flags = OFlags::DIRECT.bits().cast_signed();
                let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path);
                match opened.map(|file| direct::read_at(file, offset, out)) {
                    Ok(Ok(length)) if length == out.len() => return Ok(()),
                    Ok(Ok(_)) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(Err(Errno::INVAL)) | Err(_) => {}
                    Ok(Err(e)) => return Err(e.into()),
                }
            }
            file.read_exact_at(out, offset)
        };
        read().map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => {
                StorageError::Other(format!("{}: shorter than expected", path.display()))
            }
            _ => error(&path, &e),
        })
    }

    fn expect(&self, kind: FileKind, name: &str, offset: u64, length: u64) {
        // Advice only: what is wrong shows when it is read.
        if let (Ok(file), length @ Some(_)) = (self.open(&self.path(kind, name)), NonZeroU64::new(length))
            && !self.is_direct(length.map_or(0, NonZeroU64::get), &file)
        {
            let _ = rustix::fs::fadvise(&*file, offset, length, Advice::WillNeed);
        }
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let path = self.path(kind, name);
        if path.exists() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.root).to_path_buf();
        // A name that no listing takes for a file of the repository.
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let draft = folder.join(format!(
            "{}.{}.{n}.tmp",
            name.get(..16).unwrap_or("config"),
            std::process::id()
        ));
        let save = || -> io::Result<()> {
            let open = || {
                fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&draft)
            };
            let file = match open() {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    fs::create_dir_all(&folder)?;
                    open()?
                }
                r => r?,
            };
            write(&file, content)?;
            file.sync_all()?;
            if kind == FileKind::Config {
                // Never replaced, even by another program at the same instant. Not every file system has links.
                match fs::hard_link(&draft, &path) {
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => return fs::remove_file(&draft),
                    Ok(()) => fs::remove_file(&draft)?,
                    Err(_) => fs::rename(&draft, &path)?,
                }
            } else {
                fs::rename(&draft, &path)?;
            }
            sync_folder(&folder)
        };
        save().map_err(|e| {
            let _ = fs::remove_file(&draft);
            error(&path, &e)
        })
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let path = self.path(kind, name);
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(p, _)| *p != path);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(error(&path, &e)),
            _ => Ok(()),
        }
    }

    fn ping(&self) -> StorageResult<()> {
        // What does not exist yet is made at the first use, below the nearest folder that does.
        let mut folder = self.root.as_path();
        let found = loop {
            match fs::metadata(folder) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                found => break found.map_err(|e| error(folder, &e))?,
            }
            folder = folder.parent().unwrap_or(Path::new("/"));
        };
        if !found.is_dir() {
            return Err(StorageError::Other(format!(
                "{} is not a folder",
                folder.display()
            )));
        }
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::access(folder, wanted).map_err(|e| match e {
            Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                StorageError::Other(format!("{} can not be written to", folder.display()))
            }
            e => error(folder, &e.into()),
        })
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn parallel(&self) -> usize {
        2
    }

    fn is_local(&self) -> bool {
        true
    }
}
