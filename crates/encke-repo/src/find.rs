//! Looks for names in many snapshots. A folder that several snapshots share is read once.

use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdSet};
use crate::node::{Node, NodeType};
use crate::progress::Cancel;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// An entry that was looked for.
pub struct Hit<'a> {
    /// The snapshot it is in.
    pub snapshot: &'a Snapshot,
    /// Full path inside it.
    pub path: &'a Path,
    /// The entry.
    pub node: &'a Node,
}

struct Search<'a> {
    repo: &'a Repository,
    wanted: &'a dyn Fn(&Path, &Node) -> bool,
    hit: &'a mut dyn FnMut(Hit) -> bool,
    /// Folders, at their place, in and below which there is nothing.
    empty: IdSet,
    cancel: &'a Cancel,
}

impl Repository {
    /// Calls `hit` for each entry that is `wanted`, by its full path, snapshot by snapshot; it answers whether to go on.
    ///
    /// # Errors
    /// A listing or the storage fails, or it was cancelled.
    pub fn find(
        &self,
        snapshots: &[Snapshot],
        wanted: &dyn Fn(&Path, &Node) -> bool,
        cancel: &Cancel,
        hit: &mut dyn FnMut(Hit) -> bool,
    ) -> RepoResult<()> {
        self.load_index()?;
        let mut search = Search {
            repo: self,
            wanted,
            hit,
            empty: IdSet::default(),
            cancel,
        };
        for snapshot in snapshots {
            if search.folder(snapshot, snapshot.tree, Path::new("/"))?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

impl Search<'_> {
    /// How many there were; nothing if it is to end.
    fn folder(&mut self, snapshot: &Snapshot, tree: Id, path: &Path) -> RepoResult<Option<u64>> {
        if self.cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        let place = Id::of(&[&tree.0[..], path.as_os_str().as_bytes()].concat());
        if self.empty.contains(&place) {
            return Ok(Some(0));
        }
        let mut found = 0;
        for node in self.repo.tree(&tree)?.nodes {
            let path: PathBuf = path.join(OsStr::from_bytes(&node.name));
            if (self.wanted)(&path, &node) {
                found += 1;
                let hit = Hit {
                    snapshot,
                    path: &path,
                    node: &node,
                };
                if !(self.hit)(hit) {
                    return Ok(None);
                }
            }
            if let (NodeType::Dir, Some(subtree)) = (node.kind, node.subtree) {
                match self.folder(snapshot, subtree, &path)? {
                    Some(below) => found += below,
                    None => return Ok(None),
                }
            }
        }
        if found == 0 {
            self.empty.insert(place);
        }
        Ok(Some(found))
    }
}
