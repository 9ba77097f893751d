//! Regular files: which blob goes where, and the threads that bring it there.

use super::{Entry, Overwrite, Work, write};
use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdMap};
use crate::index::Location;
use crate::node::Node;
use crate::pack::BlobType;
use crate::progress::Progress;
use encke_storage::FileKind;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Blobs are read together while the gap between them is smaller than this.
const MAX_GAP: u64 = 64 * 1024;
/// ... and up to this many bytes, which bounds a thread's memory.
const MAX_READ: u64 = 16 * 1024 * 1024;
/// Runs of zeros of this length become holes.
const HOLE: usize = 64 * 1024;

/// A file being restored.
struct Target<'a> {
    node: &'a Node,
    /// Where it goes in the end.
    path: PathBuf,
    /// Where it is written: beside the old file if there is one, so that a crash leaves that.
    draft: PathBuf,
    remaining: AtomicUsize,
    failed: AtomicBool,
}

/// A blob and everywhere it goes.
struct Use {
    id: Id,
    at: Location,
    /// File number and offset in it.
    places: Vec<(u32, u64)>,
}

pub(super) fn restore(entries: &[Entry], work: &Work) -> RepoResult<()> {
    let mut targets: Vec<Target> = Vec::with_capacity(entries.len());
    let mut links: Vec<(usize, PathBuf)> = Vec::new();
    let mut first_names: HashMap<(u64, u64), usize> = HashMap::new();
    for entry in entries {
        work.check_cancel()?;
        let (node, path) = (&entry.node, work.target(&entry.path));
        if !work.options.verify_only && node.links > 1 {
            if let Some(&first) = first_names.get(&(node.device_id, node.inode)) {
                links.push((first, path));
                continue;
            }
            first_names.insert((node.device_id, node.inode), targets.len());
        }
        if let Some(target) = prepare(node, path, work) {
            targets.push(target);
        } else {
            if node.links > 1 {
                first_names.remove(&(node.device_id, node.inode));
            }
            Progress::add(&work.progress.files_done, 1);
        }
    }
    let packs = plan(&targets, work);
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(work.repo.backend().parallel());
    let run = || -> RepoResult<()> {
        while let Some((pack, uses)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            read_pack(*pack, uses, &targets, work)?;
        }
        Ok(())
    };
    let result = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(16)).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or(Err(RepoError::Stopped)))
            .reduce(RepoResult::and)
            .unwrap_or(Ok(()))
    });
    if result.is_err() {
        for target in targets
            .iter()
            .filter(|t| t.remaining.load(Ordering::Acquire) > 0 && t.draft != t.path)
        {
            let _ = fs::remove_file(&target.draft);
        }
        return result;
    }
    for (first, path) in links {
        if path.exists() && work.options.overwrite != Overwrite::Never {
            let _ = fs::remove_file(&path);
        }
        if let Err(e) = fs::hard_link(&targets[first].path, &path) {
            work.warning(&path, &format!("can not be linked: {e}"));
        }
        Progress::add(&work.progress.files_done, 1);
    }
    Ok(())
}

/// Decides about a file, and makes it if it has no content to wait for.
fn prepare<'a>(node: &'a Node, path: PathBuf, work: &Work) -> Option<Target<'a>> {
    let mut draft = path.clone();
    if !work.options.verify_only
        && let Ok(existing) = fs::symlink_metadata(&path)
    {
        if existing.is_dir() {
            work.warning(&path, "a folder is in the file's place");
            return None;
        }
        let same = work.options.overwrite == Overwrite::IfDifferent
            && existing.is_file()
            && same_content(&path, node, work);
        if same || !write::may_replace(&existing, node, work) {
            work.kept.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".encke-restore-{}", std::process::id()));
        draft.set_file_name(name);
        let _ = fs::remove_file(&draft);
    }
    let target = Target {
        node,
        path,
        draft,
        remaining: AtomicUsize::new(node.content.len()),
        failed: AtomicBool::new(false),
    };
    if node.content.is_empty() {
        if !work.options.verify_only
            && let Err(e) = create(&target.draft)
        {
            work.warning(&target.path, &e.to_string());
            return None;
        }
        finish(&target, work);
    }
    Some(target)
}

fn same_content(path: &Path, node: &Node, work: &Work) -> bool {
    let compare = || -> io::Result<bool> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() != node.size {
            return Ok(false);
        }
        for id in &node.content {
            let Some(at) = work.repo.index().read().find(BlobType::Data, id) else {
                return Ok(false);
            };
            let mut content = Vec::new();
            (&mut file).take(at.size()).read_to_end(&mut content)?;
            if Id::of(&content) != *id {
                return Ok(false);
            }
        }
        Ok(true)
    };
    compare().unwrap_or(false)
}

/// Which blobs of which packs are needed, each pack's in the order they lie in it.
fn plan(targets: &[Target], work: &Work) -> Vec<(Id, Vec<Use>)> {
    let index = work.repo.index().read();
    let mut known: IdMap<(u32, u32)> = IdMap::default();
    let mut packs: Vec<(Id, Vec<Use>)> = Vec::new();
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    for (number, target) in targets.iter().enumerate() {
        let mut offset = 0;
        for id in &target.node.content {
            let Some(at) = index.find(BlobType::Data, id) else {
                lost(target, &RepoError::MissingBlob(*id).to_string(), work);
                // Without its length nothing after it has a place either.
                continue;
            };
            let place = (u32::try_from(number).unwrap_or(u32::MAX), offset);
            offset += at.size();
            let (pack, blob) = *known.entry(*id).or_insert_with(|| {
                let pack = *numbers.entry(at.pack).or_insert_with(|| {
                    packs.push((index.packs[at.pack as usize], Vec::new()));
                    u32::try_from(packs.len() - 1).unwrap_or(u32::MAX)
                });
                let uses = &mut packs[pack as usize].1;
                uses.push(Use {
                    id: *id,
                    at,
                    places: Vec::new(),
                });
                (pack, u32::try_from(uses.len() - 1).unwrap_or(u32::MAX))
            });
            packs[pack as usize].1[blob as usize].places.push(place);
        }
    }
    for (_, uses) in &mut packs {
        uses.sort_by_key(|u| u.at.offset);
    }
    packs
}

/// A chunk that can not be had: the file is left out, or keeps zeros there.
fn lost(target: &Target, message: &str, work: &Work) {
    work.warning(&target.path, message);
    if !work.options.skip_unreadable {
        target.failed.store(true, Ordering::Relaxed);
    }
    done(target, work);
}

fn read_pack(pack: Id, uses: &[Use], targets: &[Target], work: &Work) -> RepoResult<()> {
    let name = pack.to_string();
    let mut rest = uses;
    while let Some(first) = rest.first() {
        work.check_cancel()?;
        let start = u64::from(first.at.offset);
        let mut end = start;
        let mut count = 0;
        for u in rest {
            let (from, to) = (
                u64::from(u.at.offset),
                u64::from(u.at.offset) + u64::from(u.at.length),
            );
            if count > 0 && (from > end + MAX_GAP || to - start > MAX_READ) {
                break;
            }
            end = end.max(to);
            count += 1;
        }
        let (group, after) = rest.split_at(count);
        rest = after;
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        match work
            .repo
            .backend()
            .get_range(FileKind::Pack, &name, start, length)
        {
            Ok(bytes) => {
                Progress::add(&work.progress.downloaded, bytes.len() as u64);
                for u in group {
                    work.check_cancel()?;
                    let from = usize::try_from(u64::from(u.at.offset) - start).unwrap_or(usize::MAX);
                    let sealed = &bytes[from..from + u.at.length as usize];
                    deliver(
                        u,
                        &work.repo.open_blob(&u.id, sealed, u.at.uncompressed),
                        targets,
                        work,
                    );
                }
            }
            // One blob after the other, so that a damaged pack loses no more than it must.
            Err(_) => {
                for u in group {
                    work.check_cancel()?;
                    let (offset, length) = (u64::from(u.at.offset), u.at.length as usize);
                    let content = work
                        .repo
                        .backend()
                        .get_range(FileKind::Pack, &name, offset, length)
                        .map_err(RepoError::from)
                        .and_then(|sealed| work.repo.open_blob(&u.id, &sealed, u.at.uncompressed));
                    deliver(u, &content, targets, work);
                }
            }
        }
    }
    Ok(())
}

fn deliver(u: &Use, content: &RepoResult<Vec<u8>>, targets: &[Target], work: &Work) {
    for &(number, offset) in &u.places {
        let target = &targets[number as usize];
        match content {
            Err(e) => lost(target, &e.to_string(), work),
            Ok(content) => {
                if !work.options.verify_only
                    && let Err(e) = put(target, offset, content)
                {
                    work.warning(&target.path, &e.to_string());
                    target.failed.store(true, Ordering::Relaxed);
                }
                Progress::add(&work.progress.bytes_done, content.len() as u64);
                done(target, work);
            }
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    // Nobody else may look into it before it has its own mode, and no link is followed.
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

/// Writes content, leaving holes where it has long runs of zeros.
fn put(target: &Target, offset: u64, content: &[u8]) -> io::Result<()> {
    let file = create(&target.draft)?;
    if content.len() < HOLE {
        return file.write_all_at(content, offset);
    }
    let zero = |block: &[u8]| block.iter().all(|&b| b == 0);
    let mut from = 0;
    let mut at = 0;
    while at < content.len() {
        let end = (at + HOLE).min(content.len());
        if end - at == HOLE && zero(&content[at..end]) {
            if from < at {
                file.write_all_at(&content[from..at], offset + from as u64)?;
            }
            from = end;
        }
        at = end;
    }
    if from < content.len() {
        file.write_all_at(&content[from..], offset + from as u64)?;
    }
    Ok(())
}

/// One chunk less to wait for.
fn done(target: &Target, work: &Work) {
    if target.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
        finish(target, work);
    }
}

fn finish(target: &Target, work: &Work) {
    Progress::add(&work.progress.files_done, 1);
    if work.options.verify_only {
        return;
    }
    if target.failed.load(Ordering::Relaxed) {
        let _ = fs::remove_file(&target.draft);
        return;
    }
    let complete = || -> io::Result<()> {
        if target.node.size >= HOLE as u64 || work.options.skip_unreadable {
            create(&target.draft)?.set_len(target.node.size)?;
        }
        write::attributes(&target.draft, target.node, work);
        if target.draft != target.path {
            fs::rename(&target.draft, &target.path)?;
        }
        Ok(())
    };
    if let Err(e) = complete() {
        work.warning(&target.path, &e.to_string());
    }
}
