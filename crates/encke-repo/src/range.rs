//! Parts of a file's content, without reading the rest of it.

use crate::error::{RepoError, RepoResult};
use crate::id::Id;
use crate::node::{Node, NodeType};
use crate::pack::BlobType;
use crate::repository::Repository;
use parking_lot::Mutex;
use std::sync::Arc;

/// Where each chunk of a file begins, and its end.
pub(crate) fn chunk_starts(repo: &Repository, node: &Node) -> Vec<u64> {
    let index = repo.index().read();
    let mut end = 0;
    let mut starts = vec![0];
    for id in &node.content {
        // A chunk that is not there is noticed when it is read.
        end += index.find(BlobType::Data, id).map_or(0, |at| at.size());
        starts.push(end);
    }
    starts
}

/// The bytes of a file from `offset`, at most `size`; `chunk` reads a chunk.
pub(crate) fn part<E>(
    node: &Node,
    starts: &[u64],
    offset: u64,
    size: u64,
    mut chunk: impl FnMut(&Id) -> Result<Arc<Vec<u8>>, E>,
) -> Result<Vec<u8>, E> {
    let end = offset.saturating_add(size).min(node.size);
    let mut out = Vec::with_capacity(usize::try_from(end.saturating_sub(offset)).unwrap_or(0));
    let first = starts.partition_point(|start| *start <= offset).saturating_sub(1);
    for (number, id) in node.content.iter().enumerate().skip(first) {
        let start = starts[number];
        if start >= end {
            break;
        }
        let chunk = chunk(id)?;
        let from = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let to = usize::try_from(end - start)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        out.extend_from_slice(chunk.get(from..to).unwrap_or_default());
    }
    Ok(out)
}

/// A file of a snapshot that is read part by part.
pub struct FileReader {
    node: Node,
    starts: Vec<u64>,
    /// The chunk read last: the next part often begins within it.
    last: Mutex<Option<(Id, Arc<Vec<u8>>)>>,
}

impl FileReader {
    /// Prepares to read a file; the index must have been loaded.
    ///
    /// # Errors
    /// It is not a file.
    pub fn new(repo: &Repository, node: Node) -> RepoResult<Self> {
        if node.kind != NodeType::File {
            let name = String::from_utf8_lossy(&node.name);
            return Err(RepoError::Invalid(format!("{name} is not a file")));
        }
        Ok(Self {
            starts: chunk_starts(repo, &node),
            node,
            last: Mutex::default(),
        })
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.node.size
    }

    /// The bytes from `offset`, at most `size`; fewer only at the end.
    ///
    /// # Errors
    /// A chunk is missing or damaged, or the storage fails.
    pub fn read_at(&self, repo: &Repository, offset: u64, size: u64) -> RepoResult<Vec<u8>> {
        part(&self.node, &self.starts, offset, size, |id| {
            let known = self.last.lock().clone();
            if let Some((_, chunk)) = known.filter(|(known, _)| known == id) {
                return Ok(chunk);
            }
            let chunk = Arc::new(repo.load_blob(BlobType::Data, id)?);
            *self.last.lock() = Some((*id, chunk.clone()));
            Ok(chunk)
        })
    }
}
