//! What packages are put together from: bytes, files, and members of tar and ar archives. The length of a package is
//! known before it is sent, and nothing but a part of it is in memory.

use crate::table::{FileReply, NamedFile};
use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, stream};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes read from a file at once while it is sent.
const PART: usize = 256 * 1024;
/// Block of a tar archive.
const BLOCK: usize = 512;

/// A part of a package.
pub(crate) enum Piece {
    /// As it is.
    Bytes(Vec<u8>),
    /// So many bytes from a file's beginning.
    File(Arc<File>, u64),
}

impl Piece {
    pub(super) fn length(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File(_, length) => *length,
        }
    }
}

/// Pieces as a file that is sent.
pub(crate) fn reply(pieces: Vec<Piece>, name: String, sender: OwnedSemaphorePermit) -> FileReply {
    let length = pieces.iter().map(Piece::length).sum();
    let body = stream::iter(pieces).flat_map(|piece| match piece {
        Piece::Bytes(bytes) => stream::iter([Ok(Bytes::from(bytes))]).boxed(),
        Piece::File(file, length) => parts(file, length).boxed(),
    });
    // Held as long as the body lives.
    let body = body.map(move |part| {
        let _ = &sender;
        part
    });
    FileReply {
        body: Body::from_stream(body),
        file: NamedFile { name, length },
    }
}

fn parts(file: Arc<File>, length: u64) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, 0), move |(file, offset)| async move {
        let size = usize::try_from(length - offset).unwrap_or(PART).min(PART);
        if size == 0 {
            return Ok(None);
        }
        let source = file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; size];
            source.read_exact_at(&mut part, offset)?;
            Ok::<_, io::Error>(part)
        });
        let part = read.await.map_err(io::Error::other)??;
        Ok(Some((Bytes::from(part), (file, offset + size as u64))))
    })
}

fn header(path: &str, kind: tar::EntryType, size: u64, mode: u32, modified: i64) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(modified.unsigned_abs());
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

/// What stands before a file in a tar archive.
pub(super) fn file_header(path: &str, size: u64, mode: u32, modified: i64) -> io::Result<Vec<u8>> {
    header(path, tar::EntryType::Regular, size, mode, modified)
}

/// What fills the last block of a file in a tar archive.
pub(super) fn padding(size: u64) -> Vec<u8> {
    let used = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    vec![0; (BLOCK - used) % BLOCK]
}

/// Small files of a tar archive, compressed as a member of their own: members that follow each other are one archive.
pub(super) struct Archive(GzEncoder<Vec<u8>>, i64);

impl Archive {
    /// An archive whose files were changed at a time (Unix seconds).
    pub(super) fn new(modified: i64) -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::default()), modified)
    }

    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        let header = header(path, tar::EntryType::Directory, 0, 0o755, self.1)?;
        self.0.write_all(&header)
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        self.0.write_all(&file_header(path, size, mode, self.1)?)?;
        self.0.write_all(content)?;
        self.0.write_all(&padding(size))
    }

    /// The member; more may follow.
    pub(super) fn member(self) -> io::Result<Piece> {
        Ok(Piece::Bytes(self.0.finish()?))
    }

    /// The member, with the archive's end.
    pub(super) fn end(mut self) -> io::Result<Piece> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        self.member()
    }
}

/// What stands before a member of an ar archive of this length (ar(5), as dpkg wants it: deb(5)).
pub(super) fn ar_header(name: &str, length: u64, modified: i64) -> Vec<u8> {
    format!(
        "{name:<16}{modified:<12}{:<6}{:<6}{:<8}{length:<10}`\n",
        0, 0, "100644"
    )
    .into_bytes()
}
