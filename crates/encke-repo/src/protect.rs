//! Object lock: what a repository needs stays locked as long as it is needed. Each file is locked when it is written; the
//! storage says from time to time that locks would now hold longer, and then all that is needed is locked anew. What is
//! no longer needed is passed over, so that its lock runs out.

use crate::error::{RepoError, RepoResult};
use crate::progress::Cancel;
use crate::repository::Repository;
use encke_storage::FileKind;

/// Files locked between two looks whether it was cancelled.
const PART: usize = 500;
/// Name of the cache's file that says until when all was locked.
const DONE: &str = "protected";

impl Repository {
    /// Locks all that the repository needs for longer, where its storage locks files and it was not done since the
    /// storage would lock for longer. `anew` does it in any case.
    ///
    /// # Errors
    /// The storage fails, or it was cancelled.
    pub fn protect(&self, anew: bool, cancel: &Cancel) -> RepoResult<()> {
        let Some(until) = self.backend().protected_until() else {
            return Ok(());
        };
        let (done, until) = (self.cache_note(DONE), until.to_string());
        let said = done.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        if !anew && said.is_some_and(|said| said == until) {
            return Ok(());
        }
        self.load_index()?;
        let packs = {
            let index = self.index().read();
            let needed = index.pack_ids().into_iter().filter(|id| index.mark(id).is_none());
            needed.map(|id| id.to_string()).collect::<Vec<_>>()
        };
        let mut kinds = vec![(FileKind::Pack, packs), (FileKind::Config, vec![String::new()])];
        for kind in [FileKind::Index, FileKind::Snapshot, FileKind::Key] {
            let listed = self.backend().list(kind)?;
            kinds.push((kind, listed.into_iter().map(|(name, _)| name).collect()));
        }
        for (kind, names) in &kinds {
            for part in names.chunks(PART) {
                if cancel.is_cancelled() {
                    return Err(RepoError::Cancelled);
                }
                self.backend().protect(*kind, part)?;
            }
        }
        // Forgetting it costs only requests.
        if let Some(file) = done
            && let Err(e) = std::fs::write(&file, until)
        {
            tracing::debug!(error = %e, "that all was locked could not be noted");
        }
        Ok(())
    }
}
