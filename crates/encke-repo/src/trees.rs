//! Goes through the trees below some roots, each once, by several threads.

use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdSet};
use crate::node::{NodeType, Tree};
use crate::progress::Cancel;
use crate::repository::Repository;
use parking_lot::{Condvar, Mutex};

/// Threads at most; more only wait for each other.
const MAX_THREADS: usize = 8;

#[derive(Default)]
struct State {
    seen: IdSet,
    waiting: Vec<Id>,
    working: usize,
}

impl Repository {
    /// Calls `visit` once for each tree below `roots`, these included, in no order. A tree that can not be read is handed
    /// over as an error; what is below it is not known.
    ///
    /// # Errors
    /// It was cancelled.
    pub(crate) fn walk_trees(
        &self,
        roots: &[Id],
        cancel: &Cancel,
        visit: &(dyn Fn(&Id, RepoResult<Tree>) + Sync),
    ) -> RepoResult<()> {
        let mut state = State::default();
        state.waiting = roots
            .iter()
            .copied()
            .filter(|id| state.seen.insert(*id))
            .collect();
        let state = Mutex::new(state);
        let changed = Condvar::new();
        let run = || -> RepoResult<()> {
            let mut s = state.lock();
            loop {
                let Some(id) = s.waiting.pop() else {
                    if s.working == 0 {
                        return Ok(());
                    }
                    changed.wait(&mut s);
                    continue;
                };
                if cancel.is_cancelled() {
                    s.waiting.clear();
                    return Err(RepoError::Cancelled);
                }
                s.working += 1;
                drop(s);
                let tree = self.tree(&id);
                let below: Vec<Id> = tree.iter().flat_map(|t| &t.nodes).filter_map(subtree).collect();
                visit(&id, tree);
                s = state.lock();
                s.working -= 1;
                for id in below {
                    if s.seen.insert(id) {
                        s.waiting.push(id);
                    }
                }
                changed.notify_all();
            }
        };
        let threads = self.threads().min(MAX_THREADS);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            // All are waited for before it is decided.
            let ended: Vec<_> = threads
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect();
            ended
                .into_iter()
                .try_for_each(|r| r.map_err(|_| RepoError::Stopped)?)
        })
    }
}

fn subtree(node: &crate::node::Node) -> Option<Id> {
    node.subtree.filter(|_| node.kind == NodeType::Dir)
}
