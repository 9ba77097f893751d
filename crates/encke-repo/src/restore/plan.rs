//! What is to be restored: the listings of the snapshot, read by several threads.

use super::Work;
use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::{Node, NodeType};
use crate::progress::Progress;
use crate::snapshot::Snapshot;
use parking_lot::{Condvar, Mutex};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A folder. Its parent comes before it in the plan.
pub(super) struct Dir {
    /// Relative to the target.
    pub path: PathBuf,
    pub parent: usize,
    /// Nothing for the target itself.
    pub node: Option<Node>,
    /// Made by this restore: nothing can be in the way in it.
    pub fresh: bool,
    /// Could not be made; what is in it is left out.
    pub blocked: bool,
}

/// Anything but a folder.
pub(super) struct Entry {
    /// Number of its folder.
    pub dir: usize,
    pub node: Node,
}

impl Entry {
    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.node.name)
    }

    pub(super) fn path(&self, plan: &Plan) -> PathBuf {
        plan.dirs[self.dir].path.join(self.name())
    }
}

#[derive(Default)]
pub(super) struct Plan {
    pub dirs: Vec<Dir>,
    pub files: Vec<Entry>,
    /// Links, pipes and devices.
    pub others: Vec<Entry>,
}

/// A listing to read.
struct Listing {
    tree: Id,
    /// Full path inside the snapshot.
    inside: PathBuf,
    dir: usize,
}

#[derive(Default)]
struct State {
    plan: Plan,
    waiting: Vec<Listing>,
    working: usize,
}

impl Plan {
    pub(super) fn collect(snapshot: &Snapshot, work: &Work) -> RepoResult<Self> {
        let (tree, inside) = if work.options.strip.as_os_str().is_empty() {
            (snapshot.tree, PathBuf::from("/"))
        } else {
            let strip = &work.options.strip;
            let missing = || RepoError::NotFound(strip.display().to_string());
            let tree = work.repo.node_at(snapshot, strip)?.subtree.ok_or_else(missing)?;
            (tree, Path::new("/").join(strip))
        };
        let target = Dir {
            path: PathBuf::new(),
            parent: 0,
            node: None,
            fresh: false,
            blocked: false,
        };
        let state = Mutex::new(State {
            plan: Plan {
                dirs: vec![target],
                ..Plan::default()
            },
            waiting: vec![Listing { tree, inside, dir: 0 }],
            working: 0,
        });
        let changed = Condvar::new();
        let found: Vec<AtomicBool> = work
            .options
            .include
            .iter()
            .map(|_| AtomicBool::new(false))
            .collect();
        work.in_threads(|| {
            let mut s = state.lock();
            loop {
                let Some(listing) = s.waiting.pop() else {
                    if s.working == 0 {
                        return Ok(());
                    }
                    changed.wait(&mut s);
                    continue;
                };
                s.working += 1;
                drop(s);
                let nodes = work.check_cancel().and_then(|()| work.repo.tree(&listing.tree));
                s = state.lock();
                s.working -= 1;
                match nodes {
                    Ok(tree) => tree
                        .nodes
                        .into_iter()
                        .for_each(|node| s.add(node, &listing, &found, work)),
                    Err(e) if e.is_passing() => {
                        s.waiting.clear();
                        changed.notify_all();
                        return Err(e);
                    }
                    Err(e) => work.warning(&s.plan.dirs[listing.dir].path, &e.to_string()),
                }
                changed.notify_all();
            }
        })?;
        for (path, found) in work.options.include.iter().zip(&found) {
            if !found.load(Relaxed) {
                return Err(RepoError::NotFound(path.display().to_string()));
            }
        }
        Ok(state.into_inner().plan)
    }
}

impl State {
    fn add(&mut self, node: Node, listing: &Listing, found: &[AtomicBool], work: &Work) {
        let inside = listing.inside.join(OsStr::from_bytes(&node.name));
        let include = &work.options.include;
        for (wanted, found) in include.iter().zip(found) {
            if inside == *wanted {
                found.store(true, Relaxed);
            }
        }
        let wanted = include.is_empty() || include.iter().any(|i| inside.starts_with(i));
        if !wanted && !include.iter().any(|i| i.starts_with(&inside)) {
            return;
        }
        let dir = listing.dir;
        match node.kind {
            NodeType::Dir => {
                let path = self.plan.dirs[dir].path.join(OsStr::from_bytes(&node.name));
                match node.subtree {
                    Some(tree) => self.waiting.push(Listing {
                        tree,
                        inside,
                        dir: self.plan.dirs.len(),
                    }),
                    None => work.warning(&path, "its listing is missing from the snapshot"),
                }
                self.plan.dirs.push(Dir {
                    path,
                    parent: dir,
                    node: Some(node),
                    fresh: false,
                    blocked: false,
                });
            }
            NodeType::File if wanted => {
                Progress::add(&work.progress.files_total, 1);
                Progress::add(&work.progress.bytes_total, node.size);
                self.plan.files.push(Entry { dir, node });
            }
            NodeType::Socket => {}
            _ if wanted => {
                Progress::add(&work.progress.files_total, 1);
                self.plan.others.push(Entry { dir, node });
            }
            _ => {}
        }
    }
}
