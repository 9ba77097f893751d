//! A regular file being restored.

use super::plan::{Entry, Plan};
use super::root::{Opened, Root, UNFINISHED};
use super::{Work, attributes};
use crate::error::RepoError;
use crate::id::IdSet;
use crate::progress::Progress;
use encke_storage::direct;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Runs of zeros of this length become holes.
const HOLE: usize = 64 * 1024;

pub(super) struct Target<'a> {
    pub entry: &'a Entry,
    /// Name until it is complete, if not its own.
    draft: Option<OsString>,
    fresh: bool,
    /// Its place on the disk is reserved, which leaves no holes.
    reserved: bool,
    /// Chunks to wait for.
    remaining: AtomicUsize,
    failed: AtomicBool,
}

/// Makes a new file that nobody may look into, and that can be told from others, until it has its own mode.
pub(super) fn create(at: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, UNFINISHED)
}

impl<'a> Target<'a> {
    /// `fresh` if its folder was made by this restore.
    pub(super) fn new(entry: &'a Entry, draft: Option<OsString>, fresh: bool) -> Self {
        let remaining = AtomicUsize::new(entry.node.content.len());
        Self {
            entry,
            draft,
            fresh,
            reserved: false,
            remaining,
            failed: AtomicBool::new(false),
        }
    }

    /// Gives a new file its size, and its place on the disk in one piece: threads write into it here and there. Not if the
    /// same chunk comes twice: most likely it is zeros, and the file may be much larger than what the disk has room for.
    pub(super) fn reserve(&mut self, file: &OwnedFd, root: &Root) -> Result<(), Errno> {
        let node = &self.entry.node;
        rustix::fs::ftruncate(file, node.size)?;
        if root.is_direct() && node.content.iter().copied().collect::<IdSet>().len() == node.content.len() {
            // Without it the file is written all the same.
            self.reserved = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, node.size).is_ok();
        }
        Ok(())
    }

    /// Its name for now.
    pub(super) fn name(&self) -> &OsStr {
        self.draft.as_deref().unwrap_or_else(|| self.entry.name())
    }

    pub(super) fn is_done(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// Opens the file; one of a single chunk is made only now.
    fn open(&self, at: &OwnedFd) -> Result<OwnedFd, Errno> {
        if self.entry.node.content.len() == 1 {
            return create(at, self.name());
        }
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, self.name(), flags, Mode::empty())
    }

    /// Writes a chunk.
    pub(super) fn put(
        &self,
        offset: u64,
        content: &[u8],
        plan: &Plan,
        root: Option<&Root>,
        opened: &mut Opened,
        work: &Work,
    ) {
        Progress::add(&work.progress.bytes_done, content.len() as u64);
        let Some(root) = root else { return self.count(work) };
        let written = opened.of(self.entry.dir, &plan.dirs, root).and_then(|at| {
            let file = self.open(at)?;
            self.write(&file, offset, content, root.is_direct())?;
            Ok((at, file))
        });
        match written {
            Ok((at, file)) => {
                if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.complete(&file, at, plan, work);
                }
            }
            Err(e) => {
                work.warning(&self.entry.path(plan), &std::io::Error::from(e).to_string());
                self.failed.store(true, Ordering::Relaxed);
                self.give_up(plan, root, opened, work);
            }
        }
    }

    /// A chunk can not be had: the file is left out, or keeps zeros there.
    pub(super) fn lost(
        &self,
        e: &RepoError,
        plan: &Plan,
        root: Option<&Root>,
        opened: &mut Opened,
        work: &Work,
    ) {
        work.warning(&self.entry.path(plan), &e.to_string());
        let Some(root) = root else { return self.count(work) };
        if !work.options.skip_unreadable {
            self.failed.store(true, Ordering::Relaxed);
        } else if let [_] = self.entry.node.content[..] {
            let made = opened.of(self.entry.dir, &plan.dirs, root).and_then(|at| {
                let file = create(at, self.name())?;
                rustix::fs::ftruncate(&file, self.entry.node.size)
            });
            if let Err(e) = made {
                work.warning(&self.entry.path(plan), &std::io::Error::from(e).to_string());
                self.failed.store(true, Ordering::Relaxed);
            }
        }
        self.give_up(plan, root, opened, work);
    }

    /// One chunk less to wait for, when nothing is written.
    fn count(&self, work: &Work) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            Progress::add(&work.progress.files_done, 1);
        }
    }

    /// One chunk less to wait for, without its content.
    fn give_up(&self, plan: &Plan, root: &Root, opened: &mut Opened, work: &Work) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let finished = opened.of(self.entry.dir, &plan.dirs, root).and_then(|at| {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok((at, rustix::fs::openat(at, self.name(), flags, Mode::empty())?))
        });
        match finished {
            Ok((at, file)) => self.complete(&file, at, plan, work),
            // It was never made.
            Err(_) => Progress::add(&work.progress.files_done, 1),
        }
    }

    /// All content is there: gives the file its attributes and its name.
    pub(super) fn complete(&self, file: &OwnedFd, at: &OwnedFd, plan: &Plan, work: &Work) {
        Progress::add(&work.progress.files_done, 1);
        if self.failed.load(Ordering::Relaxed) {
            let _ = rustix::fs::unlinkat(at, self.name(), AtFlags::empty());
            return;
        }
        let path = self.entry.path(plan);
        attributes::of_open(file, &path, &self.entry.node, self.fresh, work);
        if let Some(draft) = &self.draft
            && let Err(e) = rustix::fs::renameat(at, draft, at, self.entry.name())
        {
            work.warning(&path, &std::io::Error::from(e).to_string());
            let _ = rustix::fs::unlinkat(at, draft, AtFlags::empty());
        }
    }

    /// Removes what a restore that was stopped has begun.
    pub(super) fn discard(&self, plan: &Plan, opened: &mut Opened, root: &Root) {
        if self.draft.is_some()
            && let Ok(at) = opened.of(self.entry.dir, &plan.dirs, root)
        {
            let _ = rustix::fs::unlinkat(at, self.name(), AtFlags::empty());
        }
    }

    /// Writes content, leaving holes where it has long runs of zeros.
    fn write(&self, file: &OwnedFd, offset: u64, content: &[u8], direct: bool) -> Result<(), Errno> {
        let zero = |block: &[u8]| block.len() == HOLE && block.iter().all(|&b| b == 0);
        let (mut from, mut holes) = (0, false);
        for (number, block) in content.chunks(HOLE).enumerate() {
            if zero(block) {
                let at = number * HOLE;
                direct::write_at(file, offset + from as u64, &content[from..at], direct)?;
                if self.reserved {
                    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    rustix::fs::fallocate(file, punch, offset + at as u64, HOLE as u64)?;
                }
                from = at + HOLE;
                holes = true;
            }
        }
        direct::write_at(file, offset + from as u64, &content[from..], direct)?;
        if holes && self.entry.node.content.len() == 1 {
            rustix::fs::ftruncate(file, content.len() as u64)?;
        }
        Ok(())
    }
}
