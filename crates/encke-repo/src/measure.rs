//! Who needs how much of what is stored.

use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdMap};
use crate::pack::BlobType;
use crate::progress::Cancel;
use crate::repository::Repository;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Most groups that are told apart.
pub const MAX_GROUPS: usize = 64;

impl Repository {
    /// Bytes stored by who needs them: for each set of groups (a bit a group, the first group the lowest) the bytes
    /// that all of them need and no other. A group is the trees of some snapshots. Bytes are as stored: compressed and
    /// sealed.
    ///
    /// # Errors
    /// More than [`MAX_GROUPS`] groups, a tree can not be read, or it was cancelled.
    pub fn measure(&self, groups: &[Vec<Id>], cancel: &Cancel) -> RepoResult<BTreeMap<u64, u64>> {
        if groups.len() > MAX_GROUPS {
            return Err(RepoError::Invalid(format!(
                "more than {MAX_GROUPS} groups can not be measured"
            )));
        }
        self.load_index()?;
        let users: Mutex<[IdMap<u64>; 2]> = Mutex::default();
        for (number, trees) in groups.iter().enumerate() {
            let bit = 1u64 << number;
            let failed = Mutex::new(None);
            self.walk_trees(trees, cancel, &|id, tree| match tree {
                Ok(tree) => {
                    let mut users = users.lock();
                    *users[BlobType::Tree as usize].entry(*id).or_default() |= bit;
                    for blob in tree.nodes.iter().flat_map(|n| &n.content) {
                        *users[BlobType::Data as usize].entry(*blob).or_default() |= bit;
                    }
                }
                Err(e) => {
                    failed.lock().get_or_insert(e);
                }
            })?;
            failed.into_inner().map_or(Ok(()), Err)?;
        }
        let users = users.into_inner();
        let index = self.index().read();
        let mut bytes = BTreeMap::new();
        for kind in [BlobType::Tree, BlobType::Data] {
            for (id, set) in &users[kind as usize] {
                if let Some(at) = index.find(kind, id) {
                    *bytes.entry(*set).or_default() += u64::from(at.length);
                }
            }
        }
        Ok(bytes)
    }
}
