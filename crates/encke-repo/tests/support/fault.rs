//! Storage that goes wrong.

use encke_storage::{Backend, FileKind, StorageError, StorageResult};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Listing = Vec<(String, u64)>;

/// What goes wrong. Numbers are of calls.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// After so many changes of the storage nothing is done any more: as if the process had been killed.
    pub changes: Option<u64>,
    /// Every so many calls one fails.
    pub errors: Option<u64>,
    /// Every so many reads one answers too little.
    pub short_reads: Option<u64>,
    /// Listings are those of the call before.
    pub stale: bool,
    /// Calls take longer, each a different time.
    pub delays: bool,
}

pub struct Faulty {
    inner: Arc<dyn Backend>,
    faults: Faults,
    calls: AtomicU64,
    reads: AtomicU64,
    changes: AtomicU64,
    dead: AtomicBool,
    listed: Mutex<HashMap<FileKind, Listing>>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Backend>, faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            inner,
            faults,
            calls: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            listed: Mutex::default(),
        })
    }

    /// Whether the storage was still alive in the end.
    pub fn survived(&self) -> bool {
        !self.dead.load(SeqCst)
    }

    fn call(&self) -> StorageResult<()> {
        let n = self.calls.fetch_add(1, SeqCst);
        if self.faults.delays {
            std::thread::sleep(Duration::from_micros(n * 7919 % 3000));
        }
        if self.dead.load(SeqCst) {
            return Err(StorageError::Other("killed".into()));
        }
        if self.faults.errors.is_some_and(|every| n % every == every - 1) {
            return Err(StorageError::Unreachable(format!("call {n} fails")));
        }
        Ok(())
    }

    fn change(&self) -> StorageResult<()> {
        self.call()?;
        if self
            .faults
            .changes
            .is_some_and(|most| self.changes.fetch_add(1, SeqCst) >= most)
        {
            self.dead.store(true, SeqCst);
            return Err(StorageError::Other("killed".into()));
        }
        Ok(())
    }

    fn is_short(&self) -> bool {
        let n = self.reads.fetch_add(1, SeqCst);
        self.faults
            .short_reads
            .is_some_and(|every| n % every == every - 1)
    }
}

impl Backend for Faulty {
    fn create(&self) -> StorageResult<()> {
        self.change()?;
        self.inner.create()
    }
    fn list(&self, kind: FileKind) -> StorageResult<Listing> {
        self.call()?;
        let now = self.inner.list(kind)?;
        if !self.faults.stale {
            return Ok(now);
        }
        let before = self.listed.lock().unwrap().insert(kind, now.clone());
        Ok(before.unwrap_or(now))
    }
    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        self.call()?;
        let mut content = self.inner.get(kind, name)?;
        if self.is_short() {
            content.truncate(content.len() / 2);
        }
        Ok(content)
    }
    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        self.call()?;
        self.inner.read_range(kind, name, offset, out)?;
        if self.is_short() {
            let half = out.len() / 2;
            out[half..].fill(0);
        }
        Ok(())
    }
    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        self.change()?;
        self.inner.put(kind, name, content)
    }
    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        self.change()?;
        self.inner.delete(kind, name)
    }
    fn ping(&self) -> StorageResult<()> {
        self.call()?;
        self.inner.ping()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn parallel(&self) -> usize {
        self.inner.parallel()
    }
    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}
