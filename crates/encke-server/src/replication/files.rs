//! Buckets and their objects on their way to another server.
//!
//! The copy has to be a sound repository at any time, as the original is. So what is named comes after what it names
//! (packs, indexes, snapshots) and goes before it, and a bucket's later steps wait until its earlier ones are done.

use super::channel::{Channel, Key};
use super::remote::{Content, Failure, Name, Remote};
use super::status::WORKERS;
use crate::app::App;
use crate::storage_role::{Folder, Kind, Object, ObjectName};
use encke_store::{BucketId, Scope, StoreError, StoredBucket};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use hyper::body::Frame;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes read and sent at once.
const BLOCK: usize = 128 * 1024;
/// Blocks of an object that wait to be sent. With [`WORKERS`] this bounds the memory of a target.
const BLOCKS: usize = 2;
/// The other server takes a block within this time.
const SILENCE: Duration = Duration::from_secs(120);
/// Bytes a second that all targets of this server get together, where the environment says so.
const RATE: &str = "ENCKE_REPLICATION_BYTES_PER_SECOND";

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock>;

/// Holds uploads back; nothing where they may be as fast as they can.
static LIMITER: LazyLock<Option<Limiter>> = LazyLock::new(|| {
    let rate: NonZeroU32 = std::env::var(RATE).ok()?.trim().parse().ok()?;
    let block = NonZeroU32::new(u32::try_from(BLOCK).ok()?)?;
    Some(RateLimiter::direct(
        Quota::per_second(rate).allow_burst(rate.max(block)),
    ))
});

fn disk(e: &io::Error) -> Failure {
    Failure::Here(format!("This server's disk fails: {e}"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let result = tokio::task::spawn_blocking(work).await;
    result
        .unwrap_or_else(|e| Err(io::Error::other(e)))
        .map_err(|e| disk(&e))
}

async fn buckets(app: &App) -> Result<Vec<StoredBucket>, Failure> {
    let found = app
        .store
        .each_bucket(&Scope::All, Vec::new(), |all: &mut Vec<StoredBucket>, b| {
            all.push(b);
            ControlFlow::Continue(())
        });
    found
        .await
        .map_err(|e| Failure::Here(format!("This server's database fails: {e}")))
}

/// Lists the buckets here and makes those there that are missing. A bucket that is only there stays.
pub(super) async fn list(app: &Arc<App>, channel: &Channel, remote: &Remote) -> Result<Vec<Key>, Failure> {
    let there = remote
        .call("storage/list-buckets", &[])
        .await
        .map_err(Failure::everything)?;
    let mut keys = Vec::new();
    for bucket in buckets(app).await.map_err(Failure::everything)? {
        let key = Key::Bucket(bucket.id.clone());
        let made = match there[bucket.id.as_str()]["ReadWriteKey"].as_str() {
            Some(hash) => same_key(&bucket, hash),
            None => make(remote, &bucket).await,
        };
        match made {
            Ok(()) => keys.push(key),
            Err(e @ Failure::Away(_)) => return Err(e),
            Err(e) => channel.refuse(key, e.text()),
        }
    }
    Ok(keys)
}

fn same_key(bucket: &StoredBucket, hash: &str) -> Result<(), Failure> {
    if hash.eq_ignore_ascii_case(&bucket.key_hash) {
        return Ok(());
    }
    Err(Failure::Refused {
        status: 409,
        message: "There is a bucket of this id with another key; delete one of them".into(),
    })
}

/// Makes a bucket there, by the hash of its key: the other server does not come to know it.
async fn make(remote: &Remote, bucket: &StoredBucket) -> Result<(), Failure> {
    let format = bucket.key_format.to_string();
    let mut fields = vec![
        ("SetBucketValue", bucket.id.as_str()),
        ("SetKeyHashFormat", &format),
        ("SetKeyHashValue", &bucket.key_hash),
    ];
    if !bucket.organization.is_empty() {
        fields.push(("SetOrganizationID", &bucket.organization));
    }
    remote.call("storage/register-bucket", &fields).await?;
    Ok(())
}

/// Makes a bucket there unless it is there.
async fn ensure(remote: &Remote, bucket: &StoredBucket) -> Result<(), Failure> {
    let fields = [("BucketID", bucket.id.as_str())];
    match remote.call("storage/bucket-properties", &fields).await {
        Ok(found) => same_key(bucket, found["ReadWriteKey"].as_str().unwrap_or_default()),
        Err(e) if e.is_missing() => make(remote, bucket).await,
        Err(e) => Err(e),
    }
}

/// What is to be looked at in a bucket.
#[derive(Default)]
struct Wanted {
    whole: bool,
    objects: BTreeSet<Object>,
}

/// What is to be done in a bucket.
#[derive(Default)]
struct Plan {
    /// With their size in bytes.
    uploads: Vec<(Object, u64)>,
    deletions: Vec<Object>,
}

/// Works on what is named, bucket after bucket.
pub(super) async fn work(
    app: &Arc<App>,
    channel: &Channel,
    remote: &Remote,
    keys: Vec<Key>,
) -> Result<(), Failure> {
    let mut all: BTreeMap<BucketId, Wanted> = BTreeMap::new();
    for key in keys {
        match key {
            Key::Bucket(id) => all.entry(id).or_default().whole = true,
            Key::File(id, object) => {
                all.entry(id).or_default().objects.insert(object);
            }
            Key::Account(..) => {}
        }
    }
    for (id, wanted) in all {
        let key = Key::Bucket(id.clone());
        match bucket(app, channel, remote, &id, wanted).await {
            Ok(()) => channel.accepted(&key),
            Err(e @ Failure::Away(_)) => return Err(e),
            Err(e) => channel.refuse(key, e.text()),
        }
    }
    Ok(())
}

async fn bucket(
    app: &Arc<App>,
    channel: &Channel,
    remote: &Remote,
    id: &BucketId,
    wanted: Wanted,
) -> Result<(), Failure> {
    let Wanted { whole, objects } = wanted;
    let counted = objects.len() + usize::from(whole);
    let stored = match app.store.bucket(&Scope::All, id).await {
        Ok(stored) => stored,
        // Buckets are not deleted there, whatever becomes of them here.
        Err(StoreError::NotFound) => return Ok(()),
        Err(e) => return Err(Failure::Here(format!("This server's database fails: {e}"))),
    };
    let folder = app.buckets.folder(id);
    if !folder.exists() {
        return Err(Failure::Here(
            "The bucket's folder is not on this server; nothing is deleted there".into(),
        ));
    }
    let named = match whole {
        true => None,
        false => match named(remote, id, &folder, objects).await {
            // Somebody deleted the bucket there.
            Err(e) if e.is_missing() => None,
            other => Some(other?),
        },
    };
    let plan = match named {
        Some(plan) => plan,
        None => {
            ensure(remote, &stored).await?;
            let mut plan = differences(remote, id, &folder).await?;
            // What is gone may have been replaced by something that came after its list. What was deleted meanwhile waits
            // in the queue, and what was before is found by the next list.
            if channel.is_changing(id) {
                plan.deletions.clear();
            }
            plan
        }
    };
    // The objects are counted instead of what asked for them.
    let bytes = plan.uploads.iter().map(|(_, size)| size).sum();
    let objects = plan.uploads.len() + plan.deletions.len();
    channel.status.plan(objects, bytes);
    channel.status.unplan(counted);
    carry_out(channel, remote, id, &folder, plan).await
}

/// Objects of a kind here, with their size. The order of the kinds matters: what a snapshot needs is there when the
/// snapshot is, so it is listed after it.
async fn objects_here(folder: &Folder, kind: Kind) -> Result<Vec<(Name, u64)>, Failure> {
    let folder = folder.clone();
    blocking(move || {
        let mut all = Vec::new();
        folder.each_object(kind, true, |name, size| {
            let mut bytes = Name::default();
            if hex::decode_to_slice(name, &mut bytes).is_ok() {
                all.push((bytes, size));
            }
            ControlFlow::Continue(())
        })?;
        Ok(all)
    })
    .await
}

/// An object's size here; nothing where it is not.
async fn size_here(folder: &Folder, object: &Object) -> Result<Option<u64>, Failure> {
    let path = folder.object(object);
    blocking(move || match std::fs::metadata(path) {
        Ok(m) => Ok(Some(m.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    })
    .await
}

/// The repository's configuration here, which is the one object whose name does not say what it holds.
async fn config_here(folder: &Folder) -> Result<Option<Vec<u8>>, Failure> {
    let path = folder.object(&Object::Config);
    blocking(move || match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    })
    .await
}

/// Lists a bucket on both sides.
async fn differences(remote: &Remote, id: &BucketId, folder: &Folder) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for kind in [Kind::Snapshots, Kind::Index, Kind::Data, Kind::Keys] {
        let here = objects_here(folder, kind).await?;
        let mut there: HashSet<Name> = remote.objects(id, kind).await?;
        let object = |name: &Name| Object::Named(kind, ObjectName::of(name));
        for (name, size) in here {
            if !there.remove(&name) {
                plan.uploads.push((object(&name), size));
            }
        }
        plan.deletions.extend(there.iter().map(object));
    }
    let (here, there) = (config_here(folder).await?, remote.config(id).await?);
    match here {
        Some(content) if there.as_ref() != Some(&content) => {
            plan.uploads.push((Object::Config, content.len() as u64));
        }
        // A repository that lost its configuration, or a disk that is not the right one.
        None if there.is_some() => {
            plan.deletions.clear();
            tracing::warn!(bucket = %id, "the bucket holds no repository here but one there: nothing is deleted there");
        }
        _ => {}
    }
    Ok(plan)
}

/// Looks at objects that changed.
async fn named(
    remote: &Remote,
    id: &BucketId,
    folder: &Folder,
    objects: BTreeSet<Object>,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for object in objects {
        match size_here(folder, &object).await? {
            Some(size) => {
                let is_same = if object == Object::Config {
                    config_here(folder).await? == remote.config(id).await?
                } else {
                    remote.has(id, &object).await?
                };
                if !is_same {
                    plan.uploads.push((object, size));
                }
            }
            None => plan.deletions.push(object),
        }
    }
    Ok(plan)
}

/// In which step of a bucket an object is uploaded. It is deleted in the opposite order.
fn step(object: &Object) -> u8 {
    match object {
        Object::Config | Object::Named(Kind::Keys | Kind::Locks, _) => 0,
        Object::Named(Kind::Data, _) => 1,
        Object::Named(Kind::Index, _) => 2,
        Object::Named(Kind::Snapshots, _) => 3,
    }
}

const STEPS: [u8; 4] = [0, 1, 2, 3];

async fn carry_out(
    channel: &Channel,
    remote: &Remote,
    id: &BucketId,
    folder: &Folder,
    plan: Plan,
) -> Result<(), Failure> {
    for wanted in STEPS {
        let mut uploads = FuturesUnordered::new();
        for (object, size) in &plan.uploads {
            if step(object) != wanted {
                continue;
            }
            if uploads.len() >= WORKERS {
                uploads.next().await.unwrap_or(Ok(()))?;
            }
            uploads.push(upload(channel, remote, id, folder, object, *size));
        }
        while let Some(result) = uploads.next().await {
            result?;
        }
    }
    for wanted in STEPS.into_iter().rev() {
        let mut deletions = FuturesUnordered::new();
        for object in &plan.deletions {
            if step(object) != wanted {
                continue;
            }
            if deletions.len() >= WORKERS && !deletions.next().await.unwrap_or(Ok(true))? {
                return Ok(());
            }
            deletions.push(delete(channel, remote, id, folder, object));
        }
        while let Some(result) = deletions.next().await {
            if !result? {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn upload(
    channel: &Channel,
    remote: &Remote,
    id: &BucketId,
    folder: &Folder,
    object: &Object,
    size: u64,
) -> Result<(), Failure> {
    let working = channel.status.work(size);
    let path = folder.object(object);
    // Its size as it is now: a configuration may have been replaced.
    let Some(size) = size_here(folder, object).await? else {
        return Ok(());
    };
    if *object == Object::Config {
        // Never replaced: the old one has to go first.
        remote.delete(id, object).await?;
    }
    match remote.put(id, object, size, || content(path.clone(), size)).await {
        Ok(()) => {
            working.done(size);
            Ok(())
        }
        // Deleted meanwhile: the upload broke off.
        Err(e @ Failure::Away(_)) => match size_here(folder, object).await? {
            Some(_) => Err(e),
            None => Ok(()),
        },
        // What is damaged here stays away, and holds up nothing else.
        Err(Failure::Refused { status: 400, message }) => {
            tracing::error!(bucket = %id, object = object.path(), message, "an object is damaged here and is not copied");
            channel.status.failed(&format!(
                "{} of bucket '{id}' is damaged on this server and was not copied",
                object.path()
            ));
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// Deletes an object there. Whether the copy takes deletions.
async fn delete(
    channel: &Channel,
    remote: &Remote,
    id: &BucketId,
    folder: &Folder,
    object: &Object,
) -> Result<bool, Failure> {
    let working = channel.status.work(0);
    // It may have come back since it was looked at.
    if size_here(folder, object).await?.is_some() {
        return Ok(true);
    }
    match remote.delete(id, object).await {
        Ok(()) => {
            working.done(0);
            Ok(true)
        }
        // The copy keeps more than the original: somebody wants it so.
        Err(Failure::Refused { status: 403, message }) => {
            tracing::info!(bucket = %id, message, "the copy keeps what was deleted here");
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// Reads an object block by block while it is sent.
fn content(path: PathBuf, size: u64) -> Content {
    let (sender, receiver) = mpsc::channel(BLOCKS);
    tokio::spawn(async move {
        if let Err(e) = read(path, size, &sender).await {
            // The upload breaks off with it.
            let _ = sender.send(Err(e)).await;
        }
    });
    receiver.into()
}

async fn read(
    path: PathBuf,
    size: u64,
    sender: &mpsc::Sender<io::Result<Frame<bytes::Bytes>>>,
) -> io::Result<()> {
    let mut file = tokio::task::spawn_blocking(move || File::open(path)).await??;
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let (back, block) = tokio::task::spawn_blocking(move || {
            let mut block = vec![0; wanted];
            file.read_exact(&mut block)?;
            io::Result::Ok((file, block))
        })
        .await??;
        file = back;
        left -= wanted as u64;
        if let (Some(limiter), Some(n)) = (&*LIMITER, u32::try_from(wanted).ok().and_then(NonZeroU32::new)) {
            // A block is never larger than what may go at once.
            let _ = limiter.until_n_ready(n).await;
        }
        match tokio::time::timeout(SILENCE, sender.send(Ok(Frame::data(block.into())))).await {
            Ok(Ok(())) => {}
            // Nobody reads any more.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_comes_before_what_names_it() {
        let object = |kind: Kind| Object::Named(kind, ObjectName::of(&[7; 32]));
        assert!(step(&object(Kind::Keys)) < step(&object(Kind::Data)));
        assert!(step(&object(Kind::Data)) < step(&object(Kind::Index)));
        assert!(step(&object(Kind::Index)) < step(&object(Kind::Snapshots)));
    }
}
