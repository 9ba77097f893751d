//! Folders whose listings are being made.

use super::Shared;
use super::save::Worker;
use crate::id::Id;
use crate::node::Node;
use crate::pack::BlobType;
use crate::progress::Progress;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the root's id goes when all is done.
#[derive(Default)]
pub(super) struct Root(Mutex<Option<Id>>);

impl Root {
    pub(super) fn take(&self) -> Option<Id> {
        self.0.lock().take()
    }
}

struct Parent {
    dir: Arc<Dir>,
    slot: usize,
    /// The folder's own node, waiting for its listing's id.
    node: Mutex<Option<Node>>,
}

/// A folder: its entries' JSON, in the order of their names.
pub(super) struct Dir {
    parent: Option<Parent>,
    slots: Mutex<Vec<Option<String>>>,
    /// Entries not finished, and one for the walker while it adds entries.
    pending: AtomicUsize,
}

impl Dir {
    /// The root, which has no node of its own.
    pub(super) fn root() -> Arc<Self> {
        Arc::new(Self {
            parent: None,
            slots: Mutex::default(),
            pending: AtomicUsize::new(1),
        })
    }

    /// A folder inside another.
    pub(super) fn child(parent: &Arc<Dir>, slot: usize, node: Node) -> Arc<Self> {
        let parent = Parent {
            dir: parent.clone(),
            slot,
            node: Mutex::new(Some(node)),
        };
        Arc::new(Self {
            parent: Some(parent),
            slots: Mutex::default(),
            pending: AtomicUsize::new(1),
        })
    }

    /// Completes the folder's own node.
    pub(super) fn set_xattrs(&self, xattrs: Vec<(String, Vec<u8>)>) {
        if let Some(parent) = &self.parent
            && let Some(node) = parent.node.lock().as_mut()
        {
            node.xattrs = xattrs;
        }
    }

    /// Reserves the places of `n` entries.
    pub(super) fn reserve(&self, n: usize) {
        self.slots.lock().resize_with(n, || None);
        self.pending.fetch_add(n, Ordering::AcqRel);
    }

    /// Fills an entry's place; `None` leaves the entry out.
    pub(super) fn fill(
        self: &Arc<Self>,
        slot: usize,
        text: Option<String>,
        worker: &mut Worker,
        shared: &Shared,
    ) {
        if let Some(text) = text {
            self.slots.lock()[slot] = Some(text);
        }
        self.release(worker, shared);
    }

    /// One entry less to wait for. Whoever brings it to none makes the listing, and so on upwards.
    pub(super) fn release(self: &Arc<Self>, worker: &mut Worker, shared: &Shared) {
        let mut dir = self.clone();
        loop {
            if dir.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            let slots = std::mem::take(&mut *dir.slots.lock());
            let mut json =
                String::with_capacity(slots.iter().flatten().map(|s| s.len() + 1).sum::<usize>() + 16);
            json.push_str("{\"nodes\":[");
            for (i, text) in slots.iter().flatten().enumerate() {
                if i > 0 {
                    json.push(',');
                }
                json.push_str(text);
            }
            json.push_str("]}\n");
            drop(slots);
            let id = match worker.blob(BlobType::Tree, json.as_bytes(), shared) {
                Ok(id) => id,
                Err(e) => {
                    shared.fail(e);
                    return;
                }
            };
            let Some(parent) = &dir.parent else {
                *shared.root.0.lock() = Some(id);
                return;
            };
            Progress::add(&shared.progress.dirs_done, 1);
            if let Some(mut node) = parent.node.lock().take() {
                node.subtree = Some(id);
                parent.dir.slots.lock()[parent.slot] = Some(node.to_json());
            }
            let up = parent.dir.clone();
            dir = up;
        }
    }
}
