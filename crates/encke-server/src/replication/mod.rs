//! Replication: while the configuration names other servers (`ReplicateTo`), this one copies itself there, one way and
//! without an end (reference, section 20). What it copies and how each part gets there is in `docs/replication.md`.
//!
//! A [`Channel`](channel::Channel) is one part of this server (its accounts or its buckets) on the way to one other
//! server: it lists both sides ([`accounts`] or [`files`]), then follows what changes, and starts over with a list after
//! anything that may have cost it a change. [`remote`] is the other server; [`receive`] is this one when it is the other.

mod accounts;
mod channel;
mod endpoints;
mod entries;
mod files;
mod receive;
mod remote;
mod settings;
mod status;

pub use endpoints::routes;
pub(crate) use remote::{Failure, Remote};
pub(crate) use settings::{adopt, check, hide};

use crate::app::App;
use crate::storage_role::{Kind, Object};
use channel::{Channel, Key, run};
use encke_api::constants::{
    SEVT_ACCOUNT_NEW, SEVT_ACCOUNT_REMOVED, SEVT_ACCOUNT_UPDATED, SEVT_BUCKET_NEW, SEVT_POLICY_NEW,
    SEVT_POLICY_REMOVED, SEVT_POLICY_UPDATED, SEVT_SQUOTA_NEW, SEVT_SQUOTA_REMOVED, SEVT_SQUOTA_UPDATED,
    SEVT_USERGROUP_NEW, SEVT_USERGROUP_REMOVED, SEVT_USERGROUP_UPDATED,
};
use encke_store::{BucketId, Event};
use parking_lot::RwLock;
use settings::{Part, Target, targets};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// How often it is looked whether another server on the same database changed the targets.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The replication's part of the running server: what is on its way. Empty unless this server leads.
#[derive(Default)]
pub struct Replication(RwLock<Vec<Arc<Channel>>>);

impl Replication {
    fn channels(&self) -> Vec<Arc<Channel>> {
        self.0.read().clone()
    }

    /// Puts a change into the queue of each channel that copies this part.
    fn tell(&self, part: Part, key: impl Fn() -> (Key, u64)) {
        for channel in self.0.read().iter().filter(|c| c.target.part == part) {
            let (key, bytes) = key();
            channel.push(key, bytes);
        }
    }

    /// An object of a bucket came (with its size in bytes) or went. Locks are left out: they belong to whoever works
    /// on the original.
    pub(crate) fn object_changed(&self, bucket: &BucketId, object: &Object, bytes: u64) {
        if !matches!(object, Object::Named(Kind::Locks, _)) {
            self.tell(Part::Storage, || {
                (Key::File(bucket.clone(), object.clone()), bytes)
            });
        }
    }

    /// A bucket is new, or changed in a way that only a list of it tells.
    pub(crate) fn bucket_changed(&self, bucket: &BucketId) {
        self.tell(Part::Storage, || (Key::Bucket(bucket.clone()), 0));
    }
}

/// Copies for as long as this server leads.
pub(crate) fn start(app: &Arc<App>) {
    crate::leader::while_leading(app, work);
}

/// Takes the channels away again when the work ends, however it ends.
struct Present(Arc<App>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.replication.0.write().clear();
    }
}

async fn work(app: Arc<App>) {
    let _present = Present(app.clone());
    loop {
        let wanted = targets(&app.config());
        let channels: Vec<_> = wanted.iter().cloned().map(Channel::new).map(Arc::new).collect();
        // Before the first list is made, so that nothing happens unseen in between.
        let events = app.store.subscribe_stored();
        *app.replication.0.write() = channels.clone();
        let mut running = JoinSet::new();
        for channel in channels {
            running.spawn(run(app.clone(), channel));
        }
        if !wanted.is_empty() {
            running.spawn(follow(app.clone(), events));
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if targets(&app.config()) != wanted {
                break;
            }
        }
        // Dropping them ends them; what was on its way is found again by the next list.
    }
}

/// What an event says that has to be copied.
fn key_of(kind: i64, id: &str) -> Option<(Part, Key)> {
    let account = |kind| Some((Part::Accounts, Key::Account(kind, id.to_string())));
    match kind {
        SEVT_ACCOUNT_NEW | SEVT_ACCOUNT_UPDATED | SEVT_ACCOUNT_REMOVED => account(accounts::Kind::User),
        SEVT_POLICY_NEW | SEVT_POLICY_UPDATED | SEVT_POLICY_REMOVED => account(accounts::Kind::Policy),
        SEVT_USERGROUP_NEW | SEVT_USERGROUP_UPDATED | SEVT_USERGROUP_REMOVED => {
            account(accounts::Kind::Group)
        }
        SEVT_SQUOTA_NEW | SEVT_SQUOTA_UPDATED | SEVT_SQUOTA_REMOVED => account(accounts::Kind::Quota),
        SEVT_BUCKET_NEW => Some((Part::Storage, Key::Bucket(BucketId::parse(id)?))),
        _ => None,
    }
}

/// Turns events into work until the server stops.
async fn follow(app: Arc<App>, mut events: Receiver<Arc<Event>>) {
    #[derive(serde::Deserialize)]
    struct Resource {
        #[serde(rename = "ResourceID")]
        id: String,
    }
    loop {
        match events.recv().await {
            Ok(event) => {
                // Most kinds are no work; they are not looked into.
                if key_of(event.kind, "x").is_none() {
                    continue;
                }
                let found = serde_json::from_str::<Resource>(&event.json).ok();
                if let Some((part, key)) = found.and_then(|r| key_of(event.kind, &r.id)) {
                    app.replication.tell(part, || (key.clone(), 0));
                }
            }
            Err(RecvError::Lagged(_)) => app.replication.channels().iter().for_each(|c| c.list_again()),
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// The state of a target that this server does not copy to now.
fn idle(target: &Target) -> encke_api::types::ReplicatorStateAPIResponse {
    status::Status::default().state(target, (0, 0))
}
