//! A limit of speed on a Storage Vault: what is read and what is written share it (reference, section 13).

use encke_repo::Cancel;
use encke_storage::{Backend, FileKind, StorageResult};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A sleeper looks this often whether its job was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A vault that keeps to a speed.
pub struct Throttled {
    inner: Arc<dyn Backend>,
    bytes_per_second: f64,
    /// When everything that was sent or fetched so far may have taken place.
    free_at: Mutex<Instant>,
    cancel: Cancel,
}

impl Throttled {
    /// Limits to bytes each second; at 0 or below there is no limit.
    #[must_use]
    pub fn over(inner: Arc<dyn Backend>, bytes_per_second: i64, cancel: &Cancel) -> Arc<dyn Backend> {
        if bytes_per_second <= 0 {
            return inner;
        }
        Arc::new(Self {
            inner,
            #[allow(clippy::cast_precision_loss)]
            bytes_per_second: bytes_per_second as f64,
            free_at: Mutex::new(Instant::now()),
            cancel: cancel.clone(),
        })
    }

    /// Waits until as many bytes may go after all that came before. A cancelled job waits no more: it ends by itself.
    fn pay(&self, bytes: usize) {
        #[allow(clippy::cast_precision_loss)]
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let until = {
            let mut free_at = self.free_at.lock();
            *free_at = (*free_at).max(Instant::now()) + cost;
            *free_at
        };
        while !self.cancel.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

impl Backend for Throttled {
    fn create(&self) -> StorageResult<()> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        self.inner.list(kind)
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let content = self.inner.get(kind, name)?;
        self.pay(content.len());
        Ok(content)
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        self.inner.read_range(kind, name, offset, out)?;
        self.pay(out.len());
        Ok(())
    }

    fn expect(&self, kind: FileKind, name: &str, offset: u64, length: u64) {
        self.inner.expect(kind, name, offset, length);
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        self.pay(content.len());
        self.inner.put(kind, name, content)
    }

    fn put_shared(&self, kind: FileKind, name: &str, content: &Arc<Vec<u8>>) -> StorageResult<()> {
        self.pay(content.len());
        self.inner.put_shared(kind, name, content)
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        self.inner.delete(kind, name)
    }

    fn protected_until(&self) -> Option<i64> {
        self.inner.protected_until()
    }

    fn protect(&self, kind: FileKind, names: &[String]) -> StorageResult<()> {
        self.inner.protect(kind, names)
    }

    fn clear(&self) -> StorageResult<()> {
        self.inner.clear()
    }

    fn ping(&self) -> StorageResult<()> {
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
