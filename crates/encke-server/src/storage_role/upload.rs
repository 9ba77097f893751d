//! Taking an object in: gathered in a file of its own while it is hashed, and put in its place only when it is whole,
//! right and on the disk. What breaks off leaves nothing.

use super::folders::{Folder, Kind, Object};
use super::{blocking, registry};
use crate::app::App;
use axum::body::Body;
use bytes::Bytes;
use encke_store::BucketId;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Largest object in bytes. restic's packs are at most 128 MiB; the index of a huge repository may be larger.
const MAX_OBJECT: u64 = 4 << 30;
/// Bytes gathered before they are written; one such buffer fills while the other is written.
const BUFFER: usize = 256 * 1024;
/// A client that sends nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// An upload waits so long for its turn before the client is asked to come again.
const WAIT: Duration = Duration::from_secs(30);
/// Space that new data leaves free, so that the database can still be written, and locks and indexes too: without
/// them a full repository could not be pruned.
const RESERVE: u64 = 64 << 20;
/// Bytes of an upload that is not kept that are still read, so that the client comes to read the answer.
const MAX_DRAIN: u64 = 128 << 20;

/// Why nothing was kept.
pub(super) enum Refusal {
    /// Larger than [`MAX_OBJECT`].
    TooLarge,
    /// The content is not what the name says.
    Mismatch,
    /// The client broke off.
    Broken,
    /// The client fell silent.
    Silent,
    /// More than the bucket may hold.
    Quota,
    /// Too many uploads at once.
    Busy,
    /// There is another configuration.
    ConfigExists,
    /// The disk.
    Disk(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(e: io::Error) -> Self {
        Refusal::Disk(e)
    }
}

/// Takes in an object. One that is there already is not written again: its name says that it is the same.
///
/// `room` is what the bucket may still take: of data alone, so that a full one can still be pruned, which writes
/// indexes before it deletes. Uploads at the same time do not see each other, so the quota may be passed by what is
/// on its way at once.
pub(super) async fn receive(
    app: &App,
    id: &BucketId,
    object: Object,
    length: Option<u64>,
    room: u64,
    mut body: Body,
) -> Result<(), Refusal> {
    let room = match object {
        Object::Named(Kind::Data, _) => room,
        _ => u64::MAX,
    };
    if length.is_some_and(|l| l > MAX_OBJECT) {
        return Err(Refusal::TooLarge);
    }
    let turn = tokio::time::timeout(WAIT, app.buckets.uploads.clone().acquire_owned()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(Refusal::Busy);
    };
    let folder = app.buckets.folder(id);
    let (there, found) = (folder.clone(), object.clone());
    let exists = blocking(move || {
        let exists = there.object(&found).try_exists()?;
        if exists {
            there.settle(&found)?;
        }
        Ok(exists)
    })
    .await?;
    if exists {
        drain(&mut body, MAX_DRAIN).await?;
        if object == Object::Config {
            return Err(Refusal::ConfigExists);
        }
        tracing::debug!(bucket = %id, "blocked the re-upload of an object that exists");
        return Ok(());
    }
    let name = format!("{}-{}", app.start_hash, uuid::Uuid::new_v4().simple());
    if length.is_some_and(|l| l > room) {
        drain(&mut body, MAX_DRAIN).await?;
        return Err(Refusal::Quota);
    }
    match take(&folder, name, &object, (length, room), &mut body).await {
        Ok(size) => {
            app.buckets.count(id, i64::try_from(size).unwrap_or(i64::MAX));
            app.replication.object_changed(id, &object, size);
            Ok(())
        }
        Err(Refusal::Disk(e)) => {
            if registry::is_full(&e) {
                drain(&mut body, MAX_DRAIN).await?;
            }
            Err(Refusal::Disk(e))
        }
        Err(refusal) => Err(refusal),
    }
}

async fn take(
    folder: &Folder,
    name: String,
    object: &Object,
    (length, room): (Option<u64>, u64),
    body: &mut Body,
) -> Result<u64, Refusal> {
    let (place, kind) = (folder.clone(), object.clone());
    let mut draft = blocking(move || Draft::create(&place, &name, &kind, length)).await?;
    let mut writing: Option<JoinHandle<io::Result<Draft>>> = None;
    let mut waiting: Vec<Bytes> = Vec::new();
    let mut gathered = 0;
    let mut total = 0u64;
    loop {
        let data = next(body).await?;
        if let Some(data) = &data {
            total += data.len() as u64;
            if total > MAX_OBJECT {
                return Err(Refusal::TooLarge);
            }
            if total > room {
                return Err(Refusal::Quota);
            }
            gathered += data.len();
            waiting.push(data.clone());
        }
        if data.is_some() && gathered < BUFFER {
            continue;
        }
        if let Some(handle) = writing.take() {
            draft = handle.await.map_err(io::Error::other)??;
        }
        gathered = 0;
        let batch = std::mem::take(&mut waiting);
        if data.is_none() {
            let (folder, object) = (folder.clone(), object.clone());
            return tokio::task::spawn_blocking(move || draft.finish(&batch, &folder, &object))
                .await
                .map_err(io::Error::other)?;
        }
        // Should the client go away now, the draft is dropped when this write has ended, and its file with it.
        let mut moved = draft;
        writing = Some(tokio::task::spawn_blocking(move || match moved.write(&batch) {
            Ok(()) => Ok(moved),
            Err(e) => {
                moved.discard();
                Err(e)
            }
        }));
        draft = Draft::moved();
    }
}

/// The next piece of a body; nothing at its end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    loop {
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Err(_) => return Err(Refusal::Silent),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Refusal::Broken),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads on without keeping anything.
pub(super) async fn drain(body: &mut Body, most: u64) -> Result<(), Refusal> {
    let mut left = most;
    while let Some(data) = next(body).await? {
        left = left.saturating_sub(data.len() as u64);
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// An upload under way. Dropping it removes its file.
struct Draft {
    file: Option<(File, PathBuf)>,
    hash: Sha256,
    size: u64,
}

impl Draft {
    fn create(folder: &Folder, name: &str, object: &Object, length: Option<u64>) -> io::Result<Self> {
        let path = folder.temp(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let mut draft = Self {
            file: Some((file, path)),
            hash: Sha256::new(),
            size: 0,
        };
        if matches!(object, Object::Named(Kind::Data, _)) {
            let disk = rustix::fs::fstatvfs(&draft.open()?.0)?;
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < RESERVE.saturating_add(length.unwrap_or(0)) {
                draft.discard();
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(draft)
    }

    /// What stands in for a draft while it is being written.
    fn moved() -> Self {
        Self {
            file: None,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn open(&self) -> io::Result<&(File, PathBuf)> {
        self.file
            .as_ref()
            .ok_or_else(|| io::Error::other("the draft is elsewhere"))
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            (&self.open()?.0).write_all(piece)?;
            self.hash.update(piece);
            self.size += piece.len() as u64;
        }
        Ok(())
    }

    /// Puts the upload in its place if its content is what its name says. Gives its size.
    fn finish(mut self, rest: &[Bytes], folder: &Folder, object: &Object) -> Result<u64, Refusal> {
        let result = self.publish(rest, folder, object);
        match &result {
            Ok(_) => self.file = None,
            Err(_) => self.discard(),
        }
        result
    }

    fn publish(&mut self, rest: &[Bytes], folder: &Folder, object: &Object) -> Result<u64, Refusal> {
        self.write(rest)?;
        if let Object::Named(_, name) = object
            && !name.is_hash(&std::mem::take(&mut self.hash).finalize())
        {
            return Err(Refusal::Mismatch);
        }
        let (file, path) = self.open()?;
        file.sync_data()?;
        folder.publish(path, object).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Refusal::ConfigExists,
            _ => Refusal::Disk(e),
        })?;
        Ok(self.size)
    }

    /// Removes the file at once. Blocks.
    fn discard(&mut self) {
        if let Some((file, path)) = self.file.take() {
            drop(file);
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        // A deleted bucket took its drafts along.
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(error = %e, "a broken upload's file is left until the next start");
        }
        _ => {}
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Some((file, path)) = self.file.take() else {
            return;
        };
        let clean_up = move || {
            drop(file);
            remove(&path);
        };
        // The client went away in the middle of async work, which must not block.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn_blocking(clean_up);
            }
            Err(_) => clean_up(),
        }
    }
}
