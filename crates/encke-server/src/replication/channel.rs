//! One part of this server on its way to one other server: a queue of changes, and the loop that works it off.

use super::remote::{Failure, Remote};
use super::settings::{Part, Target};
use super::status::{Phase, Status};
use super::{accounts, files};
use crate::app::App;
use crate::storage_role::Object;
use encke_store::BucketId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most changes that wait. More than these, and both sides are listed instead.
const MAX_QUEUE: usize = 20_000;
/// Most things that the other server refused and that are tried again by themselves; the rest waits for the next list.
const MAX_REFUSED: usize = 1000;
/// How often both sides are listed although nothing was missed: somebody may have changed the copy.
const LIST_EVERY: Duration = Duration::from_secs(3600);
/// Longest pause before the other server is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause before something is tried again that the other server refused.
const LONGEST_REFUSAL: Duration = Duration::from_secs(900);

/// Something that may have to be copied. What becomes of it is seen when its turn comes: the queue says where to look,
/// not what to do. The order is the one in which they depend on each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// An account, or something that accounts are under.
    Account(accounts::Kind, String),
    /// A bucket with all it holds.
    Bucket(BucketId),
    /// One object.
    File(BucketId, Object),
}

impl Key {
    /// For people.
    fn name(&self) -> String {
        match self {
            Key::Account(kind, id) => format!("{} '{id}'", kind.word()),
            Key::Bucket(id) => format!("bucket '{id}'"),
            Key::File(id, object) => format!("{} of bucket '{id}'", object.path()),
        }
    }
}

/// Something that could not be copied and is tried again.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub name: String,
    pub error: String,
    pub tries: u32,
    again: Instant,
}

#[derive(Default)]
struct Queue {
    /// With the bytes that are to be sent.
    items: BTreeMap<Key, u64>,
    bytes: u64,
    /// Both sides have to be listed.
    list: bool,
}

impl Queue {
    fn push(&mut self, key: Key, bytes: u64) {
        if let Key::File(bucket, _) = &key
            && self.items.contains_key(&Key::Bucket(bucket.clone()))
        {
            return;
        }
        if self.items.len() >= MAX_QUEUE {
            self.overflow();
        }
        let before = self.items.insert(key, bytes).unwrap_or(0);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(bytes);
    }

    /// Objects give way to their buckets; anything else to a list of both sides.
    fn overflow(&mut self) {
        let mut buckets = BTreeSet::new();
        for key in self.items.keys() {
            match key {
                Key::Account(..) => self.list = true,
                Key::Bucket(id) | Key::File(id, _) => {
                    buckets.insert(id.clone());
                }
            }
        }
        self.bytes = 0;
        self.items.clear();
        if buckets.len() >= MAX_QUEUE / 2 {
            self.list = true;
        } else {
            self.items
                .extend(buckets.into_iter().map(|id| (Key::Bucket(id), 0)));
        }
    }
}

/// What is to be done next.
enum Next {
    /// List both sides.
    List,
    /// Work on these.
    Work(Vec<Key>),
}

/// A part of this server on its way to another.
pub(super) struct Channel {
    pub target: Target,
    pub status: Status,
    queue: Mutex<Queue>,
    refused: Mutex<HashMap<Key, Refused>>,
    wake: Notify,
}

impl Channel {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            status: Status::default(),
            queue: Mutex::default(),
            refused: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Puts a change into the queue.
    pub(super) fn push(&self, key: Key, bytes: u64) {
        self.queue.lock().push(key, bytes);
        self.wake.notify_one();
    }

    /// Has both sides listed as soon as possible; ends a pause.
    pub(super) fn list_again(&self) {
        self.queue.lock().list = true;
        self.wake.notify_one();
    }

    /// Whether changes of a bucket wait.
    pub(super) fn is_changing(&self, bucket: &BucketId) -> bool {
        let queue = self.queue.lock();
        queue
            .items
            .keys()
            .any(|key| matches!(key, Key::File(id, _) | Key::Bucket(id) if id == bucket))
    }

    /// Items and bytes that wait.
    pub(super) fn queued(&self) -> (usize, u64) {
        let queue = self.queue.lock();
        (queue.items.len() + self.refused.lock().len(), queue.bytes)
    }

    /// What could not be copied.
    pub(super) fn refused(&self) -> Vec<Refused> {
        let mut all: Vec<Refused> = self.refused.lock().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Notes that something could not be copied, to try it again.
    pub(super) fn refuse(&self, key: Key, error: String) {
        let (name, target) = (key.name(), &self.target.address);
        let mut refused = self.refused.lock();
        let tries = refused.get(&key).map_or(0, |r| r.tries) + 1;
        if tries == 1 {
            tracing::warn!(
                target_server = target,
                item = name,
                error,
                "this could not be copied"
            );
        } else {
            tracing::debug!(
                target_server = target,
                item = name,
                error,
                tries,
                "this could not be copied"
            );
        }
        self.status.failed(&format!("{name}: {error}"));
        if refused.len() >= MAX_REFUSED && !refused.contains_key(&key) {
            return;
        }
        let again = Instant::now() + pause(tries, LONGEST_REFUSAL);
        refused.insert(
            key,
            Refused {
                name,
                error,
                tries,
                again,
            },
        );
    }

    /// Something was copied that may have been refused before.
    pub(super) fn accepted(&self, key: &Key) {
        let mut refused = self.refused.lock();
        if refused.remove(key).is_some() && refused.is_empty() {
            self.status.well();
            self.status.complete();
        }
    }

    /// Takes what is to be done, once there is something. `due` is when both sides are listed anyway.
    async fn next(&self, due: Instant) -> Next {
        loop {
            match self.take(due) {
                Ok(next) => return next,
                Err(soonest) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(soonest) => {}
                },
            }
        }
    }

    /// Takes what is to be done now; else answers when something will be, unless something is told before.
    fn take(&self, due: Instant) -> Result<Next, Instant> {
        let now = Instant::now();
        // Held until the work is counted, so that nobody sees an empty queue in between.
        let mut queue = self.queue.lock();
        if queue.list || now >= due {
            return Ok(Next::List);
        }
        queue.bytes = 0;
        let mut work: Vec<Key> = std::mem::take(&mut queue.items).into_keys().collect();
        let mut soonest = due;
        for (key, refused) in self.refused.lock().iter() {
            if refused.again <= now {
                work.push(key.clone());
            } else {
                soonest = soonest.min(refused.again);
            }
        }
        if work.is_empty() {
            return Err(soonest);
        }
        work.sort();
        work.dedup();
        self.status.plan(work.len(), 0);
        Ok(Next::Work(work))
    }

    /// Forgets what waits: a list finds it.
    fn clear(&self) {
        *self.queue.lock() = Queue::default();
    }

    /// A list was worked off: what was refused before it and not in it is settled. All is well where nothing went wrong
    /// since; `failures` is the count at its beginning.
    fn settle(&self, began: Instant, failures: u64) {
        let mut refused = self.refused.lock();
        refused.retain(|_, r| r.again > began);
        if refused.is_empty() {
            self.status.complete();
        }
        drop(refused);
        if self.status.failures() == failures && self.status.well() {
            tracing::info!(target_server = self.target.address, "copying again");
        }
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32, longest: Duration) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(10)).min(longest)
}

/// Copies until it is dropped.
pub(super) async fn run(app: Arc<App>, channel: Arc<Channel>) {
    let mut failures = 0;
    loop {
        let Err(failure) = cycle(&app, &channel, &mut failures).await;
        channel.status.phase(Phase::Waiting);
        failures += 1;
        let (error, target) = (failure.text(), &channel.target.address);
        if channel.status.failed(&error) && failures > 1 {
            tracing::debug!(target_server = target, error, "still nothing can be copied");
        } else {
            tracing::warn!(target_server = target, error, "nothing can be copied for now");
        }
        tokio::select! {
            () = tokio::time::sleep(pause(failures, LONGEST_PAUSE)) => {}
            () = asked(&channel) => {}
        }
    }
}

/// Waits until somebody wants both sides listed.
async fn asked(channel: &Channel) {
    while !channel.queue.lock().list {
        channel.wake.notified().await;
    }
}

/// Lists both sides, copies what differs and follows what changes, until the other server is not reached any more.
async fn cycle(app: &Arc<App>, channel: &Channel, failures: &mut u32) -> Result<Infallible, Failure> {
    // Before the password is opened: one that can not be is tried again as well.
    channel.clear();
    let password = channel
        .target
        .password(app)
        .map_err(|e| Failure::Away(e.message))?;
    let remote = Remote::new(&channel.target.address, &channel.target.username, password);
    remote.connect().await?;
    loop {
        channel.clear();
        channel.status.phase(Phase::Listing);
        let (began, before) = (Instant::now(), channel.status.failures());
        let found = match channel.target.part {
            Part::Accounts => accounts::list(app, channel, &remote).await?,
            Part::Storage => files::list(app, channel, &remote).await?,
        };
        channel.status.plan(found.len(), 0);
        channel.status.phase(Phase::Following);
        work(app, channel, &remote, found).await?;
        channel.settle(began, before);
        *failures = 0;
        let due = began + LIST_EVERY;
        while let Next::Work(keys) = channel.next(due).await {
            work(app, channel, &remote, keys).await?;
        }
    }
}

async fn work(app: &Arc<App>, channel: &Channel, remote: &Remote, keys: Vec<Key>) -> Result<(), Failure> {
    match channel.target.part {
        Part::Accounts => accounts::work(app, channel, remote, keys).await?,
        Part::Storage => files::work(app, channel, remote, keys).await?,
    }
    // What was refused is counted where it waits.
    channel.status.drop_plan();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(n: usize) -> BucketId {
        BucketId::parse(&format!("b{n}")).expect("letters and digits")
    }

    #[test]
    fn a_queue_that_overflows_asks_for_lists_instead() {
        let mut queue = Queue::default();
        for n in 0..=MAX_QUEUE {
            queue.push(Key::Account(accounts::Kind::User, n.to_string()), 0);
        }
        assert!(queue.list && queue.items.len() <= MAX_QUEUE);

        let mut queue = Queue::default();
        for n in 0..=MAX_QUEUE {
            let name = hex::encode([n.to_le_bytes(); 4].concat());
            let object = Object::parse(&format!("data/{name}")).expect("64 digits");
            queue.push(Key::File(bucket(n % 3), object), 10);
        }
        let kept: Vec<_> = queue.items.keys().collect();
        assert_eq!(
            kept[..3],
            [
                &Key::Bucket(bucket(0)),
                &Key::Bucket(bucket(1)),
                &Key::Bucket(bucket(2))
            ]
        );
        // The one that came last is in its bucket's list or beside it.
        assert!(kept.len() <= 4 && !queue.list && queue.bytes <= 10);
    }

    #[test]
    fn a_change_that_is_told_twice_waits_once() {
        let mut queue = Queue::default();
        let object = Object::parse("config").expect("a name");
        queue.push(Key::File(bucket(1), object.clone()), 10);
        queue.push(Key::File(bucket(1), object.clone()), 30);
        assert_eq!((queue.items.len(), queue.bytes), (1, 30));
        // A bucket's list finds its objects.
        queue.push(Key::Bucket(bucket(2)), 0);
        queue.push(Key::File(bucket(2), object), 10);
        assert_eq!((queue.items.len(), queue.bytes), (2, 30));
    }

    #[test]
    fn what_others_depend_on_comes_first() {
        let account = |kind| Key::Account(kind, "x".into());
        use accounts::Kind::{Group, Policy, Quota, User};
        let mut keys = [account(User), account(Policy), account(Group), account(Quota)];
        keys.sort();
        assert_eq!(
            keys,
            [account(Quota), account(Group), account(Policy), account(User)]
        );
    }
}
