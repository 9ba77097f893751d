//! A regular file being restored.

use super::edges::Met;
use super::plan::{Entry, Plan};
use super::root::{Opened, Root, UNFINISHED};
use super::{Work, attributes};
use crate::error::RepoError;
use crate::id::IdSet;
use crate::pack::BlobType;
use crate::progress::Progress;
use crate::zeros::is_zero;
use encke_storage::direct;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Runs of zeros of this length become holes.
const HOLE: usize = 64 * 1024;

pub(super) struct Target<'a> {
    pub entry: &'a Entry,
    number: u32,
    /// Name until it is complete, if not its own.
    draft: Option<OsString>,
    fresh: bool,
    /// Its place on the disk is reserved, all of it or most, which leaves no holes.
    reserved: bool,
    /// Chunks to wait for.
    remaining: AtomicUsize,
    failed: AtomicBool,
    /// Zeros whose room is to be given back, from and to which byte.
    holes: Mutex<Vec<(u64, u64)>>,
}

/// Makes a new file that nobody may look into, and that can be told from others, until it has its own mode.
pub(super) fn create(at: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, UNFINISHED)
}

impl<'a> Target<'a> {
    /// The `number` is this file's alone; `fresh` if its folder was made by this restore.
    pub(super) fn new(entry: &'a Entry, number: usize, draft: Option<OsString>, fresh: bool) -> Self {
        let remaining = AtomicUsize::new(entry.node.content.len());
        Self {
            entry,
            number: u32::try_from(number).expect("fewer than 2^32 files fit into memory"),
            draft,
            fresh,
            reserved: false,
            remaining,
            failed: AtomicBool::new(false),
            holes: Mutex::default(),
        }
    }

    /// Gives a new file its size, and its place on the disk in few pieces: threads write into it here and there. But not
    /// chunks that come twice in it: most likely they are zeros, and the file may be much larger than what the disk has
    /// room for.
    pub(super) fn reserve(&mut self, file: &OwnedFd, root: &Root, work: &Work) -> Result<(), Errno> {
        let node = &self.entry.node;
        rustix::fs::ftruncate(file, node.size)?;
        if !root.is_direct() {
            return Ok(());
        }
        let (mut seen, mut twice) = (IdSet::default(), IdSet::default());
        for id in &node.content {
            if !seen.insert(*id) {
                twice.insert(*id);
            }
        }
        let mut pieces = Vec::new();
        if twice.is_empty() {
            pieces.push((0, node.size));
        } else {
            let index = work.repo.index().read();
            let mut offset = 0;
            for id in &node.content {
                // Behind a chunk that is missing nobody knows where the others belong.
                let Some(at) = index.find(BlobType::Data, id) else {
                    break;
                };
                let end = offset + at.size();
                match pieces.last_mut() {
                    _ if twice.contains(id) => {}
                    Some((_, last)) if *last == offset => *last = end,
                    _ => pieces.push((offset, end)),
                }
                offset = end;
            }
        }
        for (from, to) in pieces {
            // Without it the file is written all the same.
            if rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, to - from).is_err() {
                break;
            }
            self.reserved = true;
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

    /// Writes a chunk. `blank` if it is all zeros.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn put(
        &self,
        offset: u64,
        content: &[u8],
        blank: bool,
        plan: &Plan,
        root: Option<&Root>,
        opened: &mut Opened,
        work: &Work,
    ) {
        Progress::add(&work.progress.bytes_done, content.len() as u64);
        let Some(root) = root else { return self.count(work) };
        if blank && self.entry.node.content.len() > 1 {
            // The file was made with its size: there are zeros.
            self.leave_out(offset, offset + content.len() as u64);
            return self.give_up(plan, root, opened, work);
        }
        let written = opened.of(self.entry.dir, &plan.dirs, root).and_then(|at| {
            let file = self.open(at)?;
            self.write(&file, offset, content, root, work)?;
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
        if let Err(e) = self.settle(file, work) {
            work.warning(&self.entry.path(plan), &std::io::Error::from(e).to_string());
            self.failed.store(true, Ordering::Relaxed);
        }
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
    fn write(
        &self,
        file: &OwnedFd,
        offset: u64,
        content: &[u8],
        root: &Root,
        work: &Work,
    ) -> Result<(), Errno> {
        let mut from = 0;
        for (start, end) in holes(offset, content) {
            self.write_part(file, offset + from as u64, &content[from..start], root, work)?;
            self.leave_out(offset + start as u64, offset + end as u64);
            from = end;
        }
        self.write_part(file, offset + from as u64, &content[from..], root, work)?;
        if from > 0 && self.entry.node.content.len() == 1 {
            rustix::fs::ftruncate(file, content.len() as u64)?;
        }
        Ok(())
    }

    fn write_part(
        &self,
        file: &OwnedFd,
        offset: u64,
        content: &[u8],
        root: &Root,
        work: &Work,
    ) -> Result<(), Errno> {
        if content.len() < direct::FROM || !root.is_direct() || self.entry.node.content.len() == 1 {
            return direct::write_at(file, offset, content, root.is_direct());
        }
        let (before, after) = direct::ends(offset, content.len());
        let end = content.len() - after;
        let mut others = [Vec::new(), Vec::new()];
        let mut parts = [&content[..before], &content[before..end], &content[end..]];
        let mut start = offset;
        for (side, at) in [(0, offset), (2, offset + end as u64)] {
            if parts[side].is_empty() {
                continue;
            }
            match work.edges.meet(self.number, at, parts[side]) {
                Met::Other(other) => others[side / 2] = other,
                Met::Kept => {}
                Met::Alone => direct::write_at(file, at, parts[side], false)?,
            }
            if others[side / 2].is_empty() {
                parts[side] = &[];
            }
        }
        start = start + before as u64 - (parts[0].len() + others[0].len()) as u64;
        let [first, whole, last] = parts;
        direct::write_blocks(file, start, &[&others[0], first, whole, last, &others[1]])
    }

    /// Notes that a part is zeros. Where its place is reserved, that is given back when nothing is written any more: it
    /// would have to wait for all that is being written.
    fn leave_out(&self, from: u64, to: u64) {
        if self.reserved {
            let mut holes = self.holes.lock();
            match holes.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                _ => holes.push((from, to)),
            }
        }
    }

    /// Writes what waited for chunks that did not come, and gives back the room of zeros.
    fn settle(&self, file: &OwnedFd, work: &Work) -> Result<(), Errno> {
        for edge in work.edges.rest(self.number) {
            direct::write_at(file, edge.offset, &edge.bytes, false)?;
        }
        for (from, to) in std::mem::take(&mut *self.holes.lock()) {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(file, punch, from, to - from)?;
        }
        Ok(())
    }
}

/// Long runs of zeros in content that belongs at an offset, from and to which byte of it: whole stretches of [`HOLE`]
/// bytes of the file, or all of the content.
fn holes(offset: u64, content: &[u8]) -> Vec<(usize, usize)> {
    if is_zero(content) {
        return vec![(0, content.len())];
    }
    let within = usize::try_from(offset % HOLE as u64).expect("less than a hole");
    let first = (HOLE - within) % HOLE;
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (number, stretch) in content
        .get(first..)
        .unwrap_or_default()
        .chunks_exact(HOLE)
        .enumerate()
    {
        if is_zero(stretch) {
            let start = first + number * HOLE;
            match out.last_mut() {
                Some(last) if last.1 == start => last.1 += HOLE,
                _ => out.push((start, start + HOLE)),
            }
        }
    }
    out
}
