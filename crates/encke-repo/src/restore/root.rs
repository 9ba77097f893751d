//! The folder that is restored to. Everything is opened beneath it, and no link on the way is followed: neither one that
//! was there before nor one that somebody puts there meanwhile leads anywhere else.

use super::plan::{Dir, Plan};
use super::{Overwrite, Work};
use crate::error::RepoResult;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Names of files that are not complete begin like this; then come the process and a number.
pub(super) const DRAFT: &str = ".encke-restore-";
/// New folders are nobody else's business until they have their own mode.
const PRIVATE: Mode = Mode::RWXU;
/// Mode of a new file until it is whole and has its own: nobody can read it, and the sticky bit, which means nothing for
/// files, tells a later restore what it is should this one be killed.
pub(super) const UNFINISHED: Mode = Mode::from_raw_mode(0o1200);

pub(super) struct Root {
    folder: OwnedFd,
    /// Whether the kernel can do it in one call (`openat2`, Linux 5.6).
    at_once: AtomicBool,
    direct: bool,
    /// Whether files here keep the mode [`UNFINISHED`]: not every file system knows modes.
    pub keeps_mark: bool,
}

/// Whether an entry is a file that a killed restore has left half-written under its own name.
pub(super) fn is_unfinished(entry: &Stat) -> bool {
    FileType::from_raw_mode(entry.st_mode) == FileType::RegularFile
        && Mode::from_raw_mode(entry.st_mode) == UNFINISHED
}

/// Makes a new file and looks at its mode.
fn keeps_mark(folder: &OwnedFd) -> bool {
    let name = format!("{DRAFT}{}-mark", std::process::id());
    let kept = super::content::create(folder, OsStr::new(&name))
        .and_then(rustix::fs::fstat)
        .is_ok_and(|made| is_unfinished(&made));
    let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    kept
}

impl Root {
    /// The target itself may be reached through links: it is what was asked for.
    pub(super) fn open(target: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(target, flags, Mode::empty())?;
        Ok(Self {
            direct: encke_storage::direct::suits(&folder),
            keeps_mark: keeps_mark(&folder),
            folder,
            at_once: AtomicBool::new(true),
        })
    }

    /// Whether large parts of files are written past the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Opens a folder by its path relative to the target.
    pub(super) fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        if self.at_once.load(Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), resolve) {
                // An old kernel, or a sandbox that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => self.at_once.store(false, Relaxed),
                r => return r,
            }
        }
        let mut at = rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?;
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => at = rustix::fs::openat(&at, name, flags, Mode::empty())?,
                _ => return Err(Errno::XDEV),
            }
        }
        Ok(at)
    }

    /// Makes the folders of a plan, outermost first.
    pub(super) fn make_dirs(&self, plan: &mut Plan, work: &Work) -> RepoResult<()> {
        let mut parent = Opened::default();
        self.sweep(Path::new(""));
        for number in 1..plan.dirs.len() {
            work.check_cancel()?;
            let (before, after) = plan.dirs.split_at_mut(number);
            let dir = &mut after[0];
            if before[dir.parent].blocked {
                dir.blocked = true;
                continue;
            }
            let at = parent.get(dir.parent, &before[dir.parent].path, self);
            let name = dir.path.file_name().unwrap_or_default();
            match at
                .map_err(io::Error::from)
                .and_then(|at| make_dir(at, name, work))
            {
                Ok(fresh) => {
                    dir.fresh = fresh;
                    if !fresh {
                        self.sweep(&dir.path);
                    }
                }
                Err(e) => {
                    dir.blocked = true;
                    work.warning(&dir.path, &e.to_string());
                }
            }
        }
        Ok(())
    }
}

impl Root {
    /// Removes what a restore that was killed has left in a folder: files that were not complete.
    fn sweep(&self, path: &Path) {
        let Ok(folder) = self.folder(path) else { return };
        let Ok(entries) = rustix::fs::Dir::read_from(&folder) else {
            return;
        };
        for entry in entries.flatten() {
            let process = entry
                .file_name()
                .to_str()
                .ok()
                .and_then(|name| name.strip_prefix(DRAFT)?.split('-').next());
            if let Some(process) = process
                && process.bytes().all(|b| b.is_ascii_digit())
                && !Path::new("/proc").join(process).exists()
            {
                let _ = rustix::fs::unlinkat(&folder, entry.file_name(), AtFlags::empty());
            }
        }
    }
}

/// Makes a folder unless it is there; tells whether it is new.
fn make_dir(at: &OwnedFd, name: &OsStr, work: &Work) -> io::Result<bool> {
    match rustix::fs::mkdirat(at, name, PRIVATE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Ok(false);
            }
            if work.options.overwrite != Overwrite::Always {
                return Err(io::Error::other("something else is in the folder's place"));
            }
            rustix::fs::unlinkat(at, name, AtFlags::empty())?;
            rustix::fs::mkdirat(at, name, PRIVATE)?;
            Ok(true)
        }
        Err(e) => Err(e.into()),
    }
}

/// The folder used last: neighbours come one after the other.
#[derive(Default)]
pub(super) struct Opened(Option<(usize, OwnedFd)>);

impl Opened {
    pub(super) fn get(&mut self, number: usize, path: &Path, root: &Root) -> Result<&OwnedFd, Errno> {
        if self.0.as_ref().is_none_or(|(n, _)| *n != number) {
            self.0 = Some((number, root.folder(path)?));
        }
        let (_, folder) = self.0.as_ref().expect("set above");
        Ok(folder)
    }

    pub(super) fn of(&mut self, number: usize, dirs: &[Dir], root: &Root) -> Result<&OwnedFd, Errno> {
        self.get(number, &dirs[number].path, root)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.folder.as_fd()
    }
}
