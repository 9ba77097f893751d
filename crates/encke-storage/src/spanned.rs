//! Several places as one. A file lies in one of them; which one follows from its name, as long as there is room.

use crate::{Backend, FileKind, StorageError, StorageResult};
use std::collections::HashMap;
use std::sync::Arc;

/// A repository over several places. Each has the usual layout: their folders put together are the repository.
pub struct Spanned {
    targets: Vec<Arc<dyn Backend>>,
    /// Whether a file may be in another place than the one its name says.
    anywhere: bool,
}

impl Spanned {
    /// `targets` in an order that stays. With `static_slots` a file is looked for at one place only: quicker, but
    /// nothing may be moved, no place added, and one that is full is not made up for by the others.
    ///
    /// # Errors
    /// There is no target.
    pub fn new(targets: Vec<Arc<dyn Backend>>, static_slots: bool) -> StorageResult<Self> {
        if targets.is_empty() {
            return Err(StorageError::Invalid(
                "a spanned vault needs at least one place".into(),
            ));
        }
        Ok(Self {
            targets,
            anywhere: !static_slots,
        })
    }

    /// The place that a name says, then the others where a file may be anywhere.
    fn places(&self, name: &str) -> impl Iterator<Item = &Arc<dyn Backend>> {
        // Names are hashes already; the configuration has none and lies at the first place.
        let number = name
            .get(..8)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let first = number.unwrap_or(0) as usize % self.targets.len();
        let looked_at = if self.anywhere { self.targets.len() } else { 1 };
        self.targets.iter().cycle().skip(first).take(looked_at)
    }

    fn found<T>(
        &self,
        name: &str,
        read: impl FnMut(&Arc<dyn Backend>) -> StorageResult<T>,
    ) -> StorageResult<T> {
        let mut missing = StorageError::NotFound(name.to_string());
        for answer in self.places(name).map(read) {
            match answer {
                Err(e @ StorageError::NotFound(_)) => missing = e,
                other => return other,
            }
        }
        Err(missing)
    }

    fn all(&self, call: impl FnMut(&Arc<dyn Backend>) -> StorageResult<()>) -> StorageResult<()> {
        self.targets.iter().try_for_each(call)
    }
}

impl Backend for Spanned {
    fn create(&self) -> StorageResult<()> {
        self.all(|place| place.create())
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        // A file that was copied may be at two places.
        let mut files = HashMap::new();
        for place in &self.targets {
            files.extend(place.list(kind)?);
        }
        Ok(files.into_iter().collect())
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        self.found(name, |place| place.get(kind, name))
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        self.found(name, |place| place.read_range(kind, name, offset, out))
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        if kind == FileKind::Config {
            match self.get(kind, name) {
                Err(StorageError::NotFound(_)) => {}
                kept => return kept.map(|_| ()),
            }
        }
        let mut full = StorageError::Full;
        for place in self.places(name) {
            match place.put(kind, name, content) {
                Err(e @ StorageError::Full) => full = e,
                other => return other,
            }
        }
        Err(full)
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        self.all(|place| place.delete(kind, name))
    }

    fn protected_until(&self) -> Option<i64> {
        self.targets
            .iter()
            .filter_map(|place| place.protected_until())
            .min()
    }

    fn protect(&self, kind: FileKind, names: &[String]) -> StorageResult<()> {
        // A place passes over what lies elsewhere.
        self.all(|place| place.protect(kind, names))
    }

    fn clear(&self) -> StorageResult<()> {
        self.all(|place| place.clear())
    }

    fn ping(&self) -> StorageResult<()> {
        self.all(|place| place.ping())
    }

    fn describe(&self) -> String {
        let places: Vec<String> = self.targets.iter().map(|place| place.describe()).collect();
        places.join(" + ")
    }

    fn parallel(&self) -> usize {
        self.targets
            .iter()
            .map(|place| place.parallel())
            .sum::<usize>()
            .min(16)
    }

    fn is_local(&self) -> bool {
        self.targets.iter().all(|place| place.is_local())
    }
}
