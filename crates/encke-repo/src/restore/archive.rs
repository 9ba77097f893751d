//! Restore into an archive: tar or zip, written as one stream. Content is read ahead by several threads and written in
//! the order of the names.

use super::plan::Plan;
use super::{RestoreOptions, RestoreSummary, Work};
use crate::error::{RepoError, RepoResult};
use crate::gotext;
use crate::id::Id;
use crate::node::{Node, NodeType};
use crate::pack::BlobType;
use crate::progress::{Cancel, Progress, Warn};
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Chunks read ahead; this bounds the memory, since a chunk has at most 8 MiB.
const AHEAD: usize = 12;
/// zstd's level for archives.
const LEVEL: i32 = 3;
/// Longest link target that a tar header holds without an extension.
const SHORT_LINK: usize = 100;
/// A zip entry of this size or more needs longer fields.
const LARGE: u64 = 0xffff_0000;

/// Kinds of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// With all attributes.
    Tar,
    /// The same, compressed with gzip.
    TarGz,
    /// The same, compressed with zstd.
    TarZst,
    /// Files, folders and links; without owners, extended attributes, pipes and devices.
    Zip,
}

/// An archive to be written.
pub struct Archive<'a> {
    /// Its kind.
    pub format: ArchiveFormat,
    /// Where it goes.
    pub out: &'a mut dyn Write,
}

/// What is written for an entry.
enum What {
    Folder,
    /// A file's chunks and their sizes; nothing for one that is lost.
    File(Vec<(Option<Id>, u64)>),
    /// Another name of an earlier file.
    Link(PathBuf),
    Other,
}

struct Item<'a> {
    path: PathBuf,
    node: &'a Node,
    what: What,
}

type Chunk = RepoResult<Vec<u8>>;

impl Repository {
    /// Writes what is to be restored into an archive; of the options, what concerns files that exist has no meaning.
    /// Content that is lost is replaced by zeros and told to `warn`.
    ///
    /// # Errors
    /// `out` or the storage fails, nothing fits `include`, or it was cancelled.
    pub fn restore_archive(
        &self,
        snapshot: &Snapshot,
        archive: Archive<'_>,
        options: &RestoreOptions,
        progress: &Progress,
        cancel: &Cancel,
        warn: &Warn<'_>,
    ) -> RepoResult<RestoreSummary> {
        self.load_index()?;
        let work = Work::new(self, options, progress, cancel, warn);
        let plan = Plan::collect(snapshot, &work)?;
        progress.counted.store(true, std::sync::atomic::Ordering::Relaxed);
        let items = items(&plan, archive.format == ArchiveFormat::Zip, &work);
        let (order, ordered) = bounded::<Receiver<Chunk>>(AHEAD);
        let (give, take) = bounded::<(Id, Sender<Chunk>)>(AHEAD);
        let items = &items;
        std::thread::scope(|scope| {
            for _ in 0..work.repo.threads() {
                let take = take.clone();
                scope.spawn(move || {
                    for (id, answer) in take {
                        // Nobody waits any more if it fails.
                        let _ = answer.send(self.load_blob(BlobType::Data, &id));
                    }
                });
            }
            drop(take);
            scope.spawn(move || {
                for id in items.iter().flat_map(Item::chunks) {
                    let (answer, waiting) = bounded(1);
                    if order.send(waiting).is_err() || give.send((id, answer)).is_err() {
                        return;
                    }
                }
            });
            // The receiver goes with this call, and the threads after it.
            Writer { ordered, work: &work }.write(items, archive)
        })?;
        let dirs = plan.dirs.len() as u64 - 1;
        Progress::add(&progress.dirs_done, dirs);
        Ok(work.summary(dirs))
    }
}

impl Item<'_> {
    fn chunks(&self) -> impl Iterator<Item = Id> {
        let chunks = match &self.what {
            What::File(chunks) => &chunks[..],
            _ => &[],
        };
        chunks.iter().filter_map(|(id, _)| *id)
    }
}

/// All entries in the order of their paths, so that a folder comes before what is in it.
fn items<'a>(plan: &'a Plan, is_zip: bool, work: &Work) -> Vec<Item<'a>> {
    let mut out = Vec::with_capacity(plan.dirs.len() + plan.files.len() + plan.others.len());
    for dir in &plan.dirs {
        if let Some(node) = &dir.node {
            let (path, what) = (dir.path.clone(), What::Folder);
            out.push(Item { path, node, what });
        }
    }
    for entry in plan.files.iter().chain(&plan.others) {
        let (path, node, what) = (entry.path(plan), &entry.node, What::Other);
        out.push(Item { path, node, what });
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    let mut first: HashMap<(u64, u64), (PathBuf, &Node)> = HashMap::new();
    let index = work.repo.index().read();
    for item in out.iter_mut().filter(|i| i.node.kind == NodeType::File) {
        let node = item.node;
        if node.links > 1 && !is_zip {
            let name = first
                .entry((node.device_id, node.inode))
                .or_insert((item.path.clone(), node));
            if name.0 != item.path && name.1.content == node.content {
                item.what = What::Link(name.0.clone());
                continue;
            }
        }
        let size = |id: &Id| index.find(BlobType::Data, id).map(|at| at.size());
        let known: u64 = node.content.iter().filter_map(size).sum();
        let lost = node.content.iter().filter(|id| size(id).is_none()).count();
        if lost > 1 || (lost == 0 && known != node.size) {
            work.warning(&item.path, "its content is lost; it is left out");
            continue;
        }
        if lost == 1 {
            work.warning(&item.path, "a part of its content is lost and replaced by zeros");
        }
        let rest = node.size.saturating_sub(known);
        let chunk = |id: &Id| size(id).map_or((None, rest), |size| (Some(*id), size));
        item.what = What::File(node.content.iter().map(chunk).collect());
    }
    out.retain(|i| i.node.kind != NodeType::File || !matches!(i.what, What::Other));
    out
}

/// A file's content, as it comes from the threads.
struct Content<'a> {
    writer: &'a Writer<'a>,
    path: &'a Path,
    chunks: std::slice::Iter<'a, (Option<Id>, u64)>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            let Some((id, size)) = self.chunks.next() else {
                return Ok(0);
            };
            let work = self.writer.work;
            work.check_cancel().map_err(io::Error::other)?;
            let size = usize::try_from(*size).map_err(io::Error::other)?;
            self.at = 0;
            self.chunk = match id.map(|_| self.writer.next()) {
                None => vec![0; size],
                Some(Ok(chunk)) if chunk.len() == size => chunk,
                Some(Err(e)) if e.is_passing() || matches!(e, RepoError::Storage(_)) => {
                    return Err(io::Error::other(e));
                }
                Some(r) => {
                    let why = r.err().map_or("it is too short".into(), |e| e.to_string());
                    work.warning(self.path, &format!("{size} bytes replaced by zeros: {why}"));
                    vec![0; size]
                }
            };
            Progress::add(&work.progress.bytes_done, self.chunk.len() as u64);
        }
        let n = out.len().min(self.chunk.len() - self.at);
        out[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

struct Writer<'a> {
    ordered: Receiver<Receiver<Chunk>>,
    work: &'a Work<'a>,
}

impl Writer<'_> {
    fn next(&self) -> Chunk {
        let waiting = self.ordered.recv().map_err(|_| RepoError::Stopped)?;
        waiting.recv().map_err(|_| RepoError::Stopped)?
    }

    fn content<'a>(&'a self, item: &'a Item, chunks: &'a [(Option<Id>, u64)]) -> Content<'a> {
        Content {
            writer: self,
            path: &item.path,
            chunks: chunks.iter(),
            chunk: Vec::new(),
            at: 0,
        }
    }

    fn write(&self, items: &[Item], archive: Archive<'_>) -> RepoResult<()> {
        let Archive { format, out } = archive;
        let written = match format {
            ArchiveFormat::Tar => self.tar(items, &mut *out),
            ArchiveFormat::TarGz => {
                let mut gz = flate2::write::GzEncoder::new(&mut *out, flate2::Compression::default());
                self.tar(items, &mut gz).and_then(|()| gz.finish().map(|_| ()))
            }
            ArchiveFormat::TarZst => {
                let zst = zstd::stream::write::Encoder::new(&mut *out, LEVEL);
                zst.and_then(|mut zst| {
                    self.tar(items, &mut zst)?;
                    zst.finish().map(|_| ())
                })
            }
            ArchiveFormat::Zip => self.zip(items, &mut *out),
        };
        written.and_then(|()| out.flush()).map_err(|error| {
            // What stopped it may have been ours.
            match error.downcast::<RepoError>() {
                Ok(e) => e,
                Err(error) => RepoError::File {
                    path: "archive".into(),
                    error,
                },
            }
        })
    }

    fn tar(&self, items: &[Item], out: &mut dyn Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        for item in items {
            self.work.check_cancel().map_err(io::Error::other)?;
            let node = item.node;
            let mut header = header(node);
            let hard_link = matches!(item.what, What::Link(_));
            if !hard_link {
                tar.append_pax_extensions(extensions(node).iter().map(|(k, v)| (&k[..], &v[..])))?;
            }
            match &item.what {
                // With a slash at its end.
                What::Folder => tar.append_data(&mut header, item.path.join(""), io::empty())?,
                What::File(chunks) => {
                    header.set_size(chunks.iter().map(|(_, size)| size).sum());
                    tar.append_data(&mut header, &item.path, self.content(item, chunks))?;
                }
                What::Link(first) => {
                    header.set_entry_type(tar::EntryType::Link);
                    tar.append_link(&mut header, &item.path, first)?;
                }
                What::Other if node.kind == NodeType::Symlink && node.link_target.len() > SHORT_LINK => {
                    let target: &std::ffi::OsStr =
                        std::os::unix::ffi::OsStrExt::from_bytes(&node.link_target);
                    tar.append_link(&mut header, &item.path, target)?;
                }
                What::Other => {
                    header.set_link_name_literal(&node.link_target)?;
                    tar.append_data(&mut header, &item.path, io::empty())?;
                }
            }
            self.done(item);
        }
        tar.finish()
    }

    fn zip(&self, items: &[Item], out: &mut dyn Write) -> io::Result<()> {
        let mut zip = zip::ZipWriter::new_stream(out);
        let zone = jiff::tz::TimeZone::system();
        for item in items {
            self.work.check_cancel().map_err(io::Error::other)?;
            let node = item.node;
            let name = item.path.to_string_lossy();
            if name.contains('\u{fffd}') {
                self.work
                    .warning(&item.path, "its name is no text; zip has it with signs replaced");
            }
            let time = zone.to_datetime(node.mtime);
            let small = |n: i8| u8::try_from(n).unwrap_or_default();
            let time = zip::DateTime::from_date_and_time(
                u16::try_from(time.year()).unwrap_or_default(),
                small(time.month()),
                small(time.day()),
                small(time.hour()),
                small(time.minute()),
                small(time.second()),
            );
            let options = zip::write::SimpleFileOptions::default()
                .unix_permissions(node.mode)
                // Times before 1980 are not known to zip.
                .last_modified_time(time.unwrap_or_default())
                .large_file(node.size >= LARGE);
            match &item.what {
                What::Folder => zip.add_directory(name, options)?,
                What::File(chunks) => {
                    zip.start_file(name, options)?;
                    io::copy(&mut self.content(item, chunks), &mut zip)?;
                }
                What::Other if node.kind == NodeType::Symlink => {
                    zip.add_symlink(name, String::from_utf8_lossy(&node.link_target), options)?;
                }
                _ => self
                    .work
                    .warning(&item.path, "zip has neither pipes nor devices; it is left out"),
            }
            self.done(item);
        }
        zip.finish()?;
        Ok(())
    }

    fn done(&self, item: &Item) {
        if item.node.kind != NodeType::Dir {
            Progress::add(&self.work.progress.files_done, 1);
        }
    }
}

fn header(node: &Node) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(match node.kind {
        NodeType::File | NodeType::Socket => tar::EntryType::Regular,
        NodeType::Dir => tar::EntryType::Directory,
        NodeType::Symlink => tar::EntryType::Symlink,
        NodeType::BlockDevice => tar::EntryType::Block,
        NodeType::CharDevice => tar::EntryType::Char,
        NodeType::Fifo => tar::EntryType::Fifo,
    });
    header.set_mode(node.mode & 0o7777);
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    // A name that is too long is left out; the number says it all.
    let _ = header.set_username(&node.user);
    let _ = header.set_groupname(&node.group);
    header.set_mtime(u64::try_from(gotext::parts(node.mtime).0).unwrap_or(0));
    header.set_size(0);
    if matches!(node.kind, NodeType::BlockDevice | NodeType::CharDevice) {
        let _ = header.set_device_major(rustix::fs::major(node.device));
        let _ = header.set_device_minor(rustix::fs::minor(node.device));
    }
    header
}

/// What does not fit into a header: exact times and extended attributes.
fn extensions(node: &Node) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let (seconds, nanos) = gotext::parts(node.mtime);
    if seconds < 0 || nanos > 0 {
        // A number with a sign: -1 s and 1 ns more are -0.999999999.
        let text = match (seconds < 0, nanos) {
            (true, 1..) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
            _ => format!("{seconds}.{nanos:09}"),
        };
        out.push(("mtime".into(), text.into_bytes()));
    }
    for (name, value) in &node.xattrs {
        out.push((format!("SCHILY.xattr.{name}"), value.clone()));
    }
    out
}
