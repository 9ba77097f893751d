//! Regular files: which blob goes where, and the threads that bring it there.

use super::attributes::{self, may_replace};
use super::content::{Target, create};
use super::plan::{Entry, Plan};
use super::root::{DRAFT, Opened, Root, is_unfinished};
use super::{Overwrite, Work};
use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdMap};
use crate::index::Location;
use crate::node::Node;
use crate::pack::BlobType;
use crate::progress::Progress;
use crate::repository::Unsealer;
use crate::zeros::is_zero;
use encke_storage::FileKind;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blobs are read together while the gap between them is smaller than this.
const MAX_GAP: u64 = 64 * 1024;
/// ... and up to this many bytes, unless one blob is larger; this bounds a thread's memory.
const MAX_READ: u64 = 4 * 1024 * 1024;

/// A blob and everywhere it goes.
struct Use {
    id: Id,
    at: Location,
    /// File number and offset in it.
    places: Vec<(u32, u64)>,
}

/// The blobs that are needed of a pack, in the order they lie in it.
struct Pack {
    id: Id,
    uses: Vec<Use>,
}

/// What a thread keeps from one blob to the next.
struct Thread {
    opened: Opened,
    sealed: Vec<u8>,
    unsealer: Unsealer,
}

pub(super) fn restore(plan: &Plan, root: &Root, work: &Work) -> RepoResult<()> {
    let mut opened = Opened::default();
    let mut targets: Vec<Target> = Vec::with_capacity(plan.files.len());
    let mut links: Vec<(usize, &Entry)> = Vec::new();
    let mut first_names: HashMap<(u64, u64), usize> = HashMap::new();
    for entry in &plan.files {
        work.check_cancel()?;
        let inode = (entry.node.device_id, entry.node.inode);
        if entry.node.links > 1
            && let Some(&first) = first_names.get(&inode)
            && targets[first].entry.node.content == entry.node.content
        {
            links.push((first, entry));
            continue;
        }
        let Some(target) = prepare(entry, targets.len(), plan, &mut opened, root, work) else {
            Progress::add(&work.progress.files_done, 1);
            continue;
        };
        if entry.node.links > 1 {
            first_names.insert(inode, targets.len());
        }
        targets.push(target);
    }
    let result = fill(&targets, plan, Some(root), work);
    for target in targets.iter().filter(|t| !t.is_done()) {
        target.discard(plan, &mut opened, root);
    }
    result?;
    for (first, entry) in links {
        work.check_cancel()?;
        if let Err(e) = link(targets[first].entry, entry, plan, &mut opened, root, work) {
            work.warning(&entry.path(plan), &format!("can not be linked: {e}"));
        }
        Progress::add(&work.progress.files_done, 1);
    }
    for entry in &plan.others {
        work.check_cancel()?;
        if !plan.dirs[entry.dir].blocked {
            attributes::special(entry, plan, &mut opened, root, work);
        }
        Progress::add(&work.progress.files_done, 1);
    }
    Ok(())
}

/// Reads and verifies everything, and writes nothing.
pub(super) fn verify(plan: &Plan, work: &Work) -> RepoResult<()> {
    let targets: Vec<Target> = plan
        .files
        .iter()
        .enumerate()
        .map(|(number, entry)| Target::new(entry, number, None, true))
        .collect();
    let empty = targets.iter().filter(|t| t.is_done()).count() + plan.others.len();
    Progress::add(&work.progress.files_done, empty as u64);
    fill(&targets, plan, None, work)
}

/// Decides about a file, and makes it if it has no content to wait for, or content of more than one chunk.
fn prepare<'a>(
    entry: &'a Entry,
    number: usize,
    plan: &Plan,
    opened: &mut Opened,
    root: &Root,
    work: &Work,
) -> Option<Target<'a>> {
    let (dir, node) = (&plan.dirs[entry.dir], &entry.node);
    if dir.blocked {
        return None;
    }
    let failed = |e: io::Error| work.warning(&entry.path(plan), &e.to_string());
    let at = match opened.of(entry.dir, &plan.dirs, root) {
        Ok(at) => at,
        Err(e) => {
            failed(e.into());
            return None;
        }
    };
    let mut in_the_way = false;
    if !dir.fresh
        && let Ok(existing) = rustix::fs::statat(at, entry.name(), AtFlags::SYMLINK_NOFOLLOW)
    {
        let kind = FileType::from_raw_mode(existing.st_mode);
        if kind == FileType::Directory {
            work.warning(&entry.path(plan), "a folder is in the file's place");
            return None;
        }
        let same = work.options.overwrite == Overwrite::IfDifferent
            && kind == FileType::RegularFile
            && u64::try_from(existing.st_size) == Ok(node.size)
            && same_content(at, entry, work);
        if same || !(is_unfinished(&existing) || may_replace(&existing, node, work)) {
            work.kept.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        in_the_way = true;
    }
    // What is in the way goes only when the new file is complete; what is long in the making shall not be there after a
    // crash. For a small file its mark is enough, and less work.
    let draft = (in_the_way || node.content.len() > 1 || !root.keeps_mark)
        .then(|| format!("{DRAFT}{}-{number}", std::process::id()).into());
    let mut target = Target::new(entry, number, draft, dir.fresh);
    if node.content.len() != 1 {
        let made = create(at, target.name()).and_then(|file| {
            target.reserve(&file, root, work)?;
            Ok(file)
        });
        match made {
            Ok(file) if node.content.is_empty() => target.complete(&file, at, plan, work),
            Ok(_) => {}
            Err(e) => {
                failed(e.into());
                return None;
            }
        }
    }
    Some(target)
}

fn same_content(at: &OwnedFd, entry: &Entry, work: &Work) -> bool {
    let compare = || -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(at, entry.name(), flags, Mode::empty())?);
        let mut content = Vec::new();
        for id in &entry.node.content {
            let Some(at) = work.repo.index().read().find(BlobType::Data, id) else {
                return Ok(false);
            };
            content.clear();
            (&mut file).take(at.size()).read_to_end(&mut content)?;
            if Id::of(&content) != *id {
                return Ok(false);
            }
        }
        Ok(true)
    };
    compare().unwrap_or(false)
}

/// Brings all content to where it belongs; without a root it is only verified.
fn fill(targets: &[Target], plan: &Plan, root: Option<&Root>, work: &Work) -> RepoResult<()> {
    let packs = needed(targets, plan, root, work);
    let next = AtomicUsize::new(0);
    work.in_threads(|| {
        let mut thread = Thread {
            opened: Opened::default(),
            sealed: Vec::new(),
            unsealer: Unsealer::new()?,
        };
        while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Most likely the one after it.
            let after = packs.get(next.load(Ordering::Relaxed));
            read_pack(pack, after, targets, plan, root, &mut thread, work)?;
        }
        Ok(())
    })
}

/// Which blobs of which packs are needed.
fn needed(targets: &[Target], plan: &Plan, root: Option<&Root>, work: &Work) -> Vec<Pack> {
    let mut opened = Opened::default();
    let index = work.repo.index().read();
    let mut known: IdMap<(u32, u32)> = IdMap::default();
    let mut packs: Vec<Pack> = Vec::new();
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let number = |n: usize| u32::try_from(n).expect("fewer than 2^32 files and packs fit into memory");
    for (file, target) in targets.iter().enumerate() {
        let node = &target.entry.node;
        let mut offset = 0;
        for id in &node.content {
            let Some(at) = index.find(BlobType::Data, id) else {
                target.lost(&RepoError::MissingBlob(*id), plan, root, &mut opened, work);
                offset += missing_size(node, |id| index.find(BlobType::Data, id));
                continue;
            };
            let (pack, blob) = *known.entry(*id).or_insert_with(|| {
                let pack = *numbers.entry(at.pack).or_insert_with(|| {
                    packs.push(Pack {
                        id: index.packs[at.pack as usize],
                        uses: Vec::new(),
                    });
                    number(packs.len() - 1)
                });
                let uses = &mut packs[pack as usize].uses;
                uses.push(Use {
                    id: *id,
                    at,
                    places: Vec::with_capacity(1),
                });
                (pack, number(uses.len() - 1))
            });
            packs[pack as usize].uses[blob as usize]
                .places
                .push((number(file), offset));
            offset += at.size();
        }
    }
    for pack in &mut packs {
        pack.uses.sort_by_key(|u| u.at.offset);
    }
    packs
}

/// Size of a file's missing chunk, if it is the only one; else nobody knows where the next one belongs.
fn missing_size(node: &Node, find: impl Fn(&Id) -> Option<Location>) -> u64 {
    let sizes: Vec<_> = node
        .content
        .iter()
        .map(|id| find(id).map(|at| at.size()))
        .collect();
    match sizes.iter().filter(|s| s.is_none()).count() {
        1 => node.size.saturating_sub(sizes.iter().flatten().sum()),
        _ => 0,
    }
}

/// The first of some blobs of a pack that are read together, and the bytes they lie between.
fn together(uses: &[Use]) -> (&[Use], u64, u64) {
    let start = uses.first().map_or(0, |u| u64::from(u.at.offset));
    let (mut end, mut count) = (start, 0);
    for u in uses {
        let from = u64::from(u.at.offset);
        let to = from + u64::from(u.at.length);
        if count > 0 && (from > end + MAX_GAP || to - start > MAX_READ) {
            break;
        }
        end = end.max(to);
        count += 1;
    }
    (&uses[..count], start, end)
}

fn read_pack(
    pack: &Pack,
    after: Option<&Pack>,
    targets: &[Target],
    plan: &Plan,
    root: Option<&Root>,
    thread: &mut Thread,
    work: &Work,
) -> RepoResult<()> {
    let name = pack.id.hex();
    let backend = work.repo.backend();
    let mut rest = &pack.uses[..];
    while !rest.is_empty() {
        work.check_cancel()?;
        let (group, start, end) = together(rest);
        rest = &rest[group.len()..];
        // What comes then is read while this is being written.
        let (next, uses) = if rest.is_empty() {
            after.map_or((pack, rest), |p| (p, &p.uses[..]))
        } else {
            (pack, rest)
        };
        let (_, from, to) = together(uses);
        backend.expect(FileKind::Pack, &next.id.hex(), from, to - from);
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        if thread.sealed.len() < length {
            thread.sealed.resize(length, 0);
        }
        let read = backend.read_range(FileKind::Pack, &name, start, &mut thread.sealed[..length]);
        let read = match read.map_err(RepoError::from) {
            // Of what could not be asked for nothing is lost.
            Err(e) if e.is_passing() => return Err(e),
            read => read,
        };
        Progress::add(&work.progress.downloaded, length as u64);
        for u in group {
            work.check_cancel()?;
            let size = u.at.length as usize;
            let sealed = if read.is_ok() {
                let from = usize::try_from(u64::from(u.at.offset) - start).unwrap_or(usize::MAX);
                Ok(&mut thread.sealed[from..from + size])
            } else {
                // One blob after the other, so that a damaged pack loses no more than it must.
                let sealed = &mut thread.sealed[..size];
                backend
                    .read_range(FileKind::Pack, &name, u64::from(u.at.offset), sealed)
                    .map_err(RepoError::from)
                    .map(|()| sealed)
            };
            let sealed = match sealed {
                Err(e) if e.is_passing() => return Err(e),
                sealed => sealed,
            };
            let key = work.repo.key();
            let content =
                sealed.and_then(|sealed| thread.unsealer.open(key, &u.id, sealed, u.at.uncompressed));
            let blank = root.is_some() && content.as_ref().is_ok_and(|content| is_zero(content));
            for &(number, offset) in &u.places {
                let target = &targets[number as usize];
                match &content {
                    Ok(content) => target.put(offset, content, blank, plan, root, &mut thread.opened, work),
                    Err(e) => target.lost(e, plan, root, &mut thread.opened, work),
                }
            }
        }
    }
    Ok(())
}

/// Makes another name of a file that was restored.
fn link(
    first: &Entry,
    entry: &Entry,
    plan: &Plan,
    opened: &mut Opened,
    root: &Root,
    work: &Work,
) -> io::Result<()> {
    let dir = &plan.dirs[entry.dir];
    if dir.blocked {
        return Ok(());
    }
    let from = root.folder(&plan.dirs[first.dir].path)?;
    let at = opened.of(entry.dir, &plan.dirs, root)?;
    if !dir.fresh
        && let Ok(existing) = rustix::fs::statat(at, entry.name(), AtFlags::SYMLINK_NOFOLLOW)
    {
        let is_dir = FileType::from_raw_mode(existing.st_mode) == FileType::Directory;
        if is_dir || !may_replace(&existing, &entry.node, work) {
            work.kept.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        match rustix::fs::unlinkat(at, entry.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(rustix::fs::linkat(
        &from,
        first.name(),
        at,
        entry.name(),
        AtFlags::empty(),
    )?)
}
