//! A Storage Vault as jobs use it: an outage of its place is waited for, and a cancelled job waits for nothing.

use encke_repo::Cancel;
use encke_storage::{Backend, FileKind, StorageError, StorageResult};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// An outage is waited for so long, unless [`VARIABLE`] says otherwise.
const OUTAGE: Duration = Duration::from_secs(10 * 60);
/// Longest time that can be asked for.
const MAX_OUTAGE: Duration = Duration::from_secs(24 * 3600);
/// Seconds that an outage is waited for; 0 for not at all.
const VARIABLE: &str = "ENCKE_OUTAGE_SECONDS";
/// First pause before another try, beside those that the place's own client makes; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often it is looked whether the job was cancelled.
const LOOK: Duration = Duration::from_millis(50);
/// A cancelled job may still finish this long what it has begun: the index of what it has sent, which is sent again
/// otherwise.
const LAST_WORDS: Duration = Duration::from_millis(400);

/// How long an outage is waited for: of a vault's place, and of the server where a job can not begin without it.
pub(crate) fn outage() -> Duration {
    static SET: OnceLock<Duration> = OnceLock::new();
    *SET.get_or_init(|| {
        let set = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
        set.map_or(OUTAGE, Duration::from_secs).min(MAX_OUTAGE)
    })
}

/// A place with patience.
pub(crate) struct Patient {
    inner: Arc<dyn Backend>,
    cancel: Cancel,
    /// When it was first seen that the job was cancelled.
    cancelled: OnceLock<Instant>,
    /// Told what people should know of an outage.
    tell: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether an outage was told of that has not ended.
    told: AtomicBool,
}

impl Patient {
    /// Wraps a place for a job.
    pub(crate) fn over(
        inner: Arc<dyn Backend>,
        cancel: &Cancel,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<dyn Backend> {
        Arc::new(Self {
            inner,
            cancel: cancel.clone(),
            cancelled: OnceLock::new(),
            tell: Box::new(tell),
            told: AtomicBool::new(false),
        })
    }

    /// Fails when the job was cancelled some moments ago.
    fn check(&self) -> StorageResult<()> {
        if self.cancel.is_cancelled() && self.cancelled.get_or_init(Instant::now).elapsed() > LAST_WORDS {
            return Err(StorageError::Cancelled);
        }
        Ok(())
    }

    /// Makes a call on a thread of its own, which is left to itself when the job is cancelled: a call over a network can
    /// not be broken off. What it does then does no harm; each of them may as well have been made a moment before.
    fn once<T: Send + 'static>(
        &self,
        run: &Arc<impl Fn(&dyn Backend) -> StorageResult<T> + Send + Sync + 'static>,
    ) -> StorageResult<T> {
        self.check()?;
        let (send, receive) = sync_channel(1);
        let (inner, run) = (self.inner.clone(), run.clone());
        let thread = std::thread::Builder::new().name("storage".into());
        thread
            .spawn(move || {
                let answer = run(&*inner);
                // What it shares is given back before anybody goes on.
                drop((run, inner));
                let _ = send.send(answer);
            })
            .map_err(|e| StorageError::Other(format!("no thread for the storage: {e}")))?;
        loop {
            match receive.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => self.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(StorageError::Other("a call of the storage broke off".into()));
                }
            }
        }
    }

    /// Makes a call again and again while the place can not be reached.
    fn call<T: Send + 'static>(
        &self,
        run: impl Fn(&dyn Backend) -> StorageResult<T> + Send + Sync + 'static,
    ) -> StorageResult<T> {
        let (run, began, mut pause) = (Arc::new(run), Instant::now(), FIRST_PAUSE);
        loop {
            let answer = self.once(&run);
            let why = match answer {
                Err(StorageError::Unreachable(why)) if began.elapsed() < outage() => why,
                answer => {
                    if answer.is_ok() && self.told.swap(false, Relaxed) {
                        (self.tell)("The Storage Vault can be reached again");
                    }
                    return answer;
                }
            };
            if !self.told.swap(true, Relaxed) {
                let minutes = outage().as_secs().div_ceil(60);
                (self.tell)(&format!(
                    "The Storage Vault can not be reached; trying for {minutes} minutes: {why}"
                ));
            }
            self.rest(pause)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn rest(&self, pause: Duration) -> StorageResult<()> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.cancel.is_cancelled() {
                return Err(StorageError::Cancelled);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Whether calls are made at once, without a thread: a disk answers, or fails.
    fn is_direct(&self) -> StorageResult<bool> {
        self.check()?;
        Ok(self.inner.is_local())
    }
}

impl Backend for Patient {
    fn create(&self) -> StorageResult<()> {
        self.call(|place| place.create())
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        self.call(move |place| place.list(kind))
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        if self.is_direct()? {
            return self.inner.get(kind, name);
        }
        let name = name.to_string();
        self.call(move |place| place.get(kind, &name))
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        if self.is_direct()? {
            return self.inner.read_range(kind, name, offset, out);
        }
        let (name, length) = (name.to_string(), out.len());
        let read = self.call(move |place| place.get_range(kind, &name, offset, length))?;
        out.copy_from_slice(&read);
        Ok(())
    }

    fn expect(&self, kind: FileKind, name: &str, offset: u64, length: u64) {
        self.inner.expect(kind, name, offset, length);
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        if self.is_direct()? {
            return self.inner.put(kind, name, content);
        }
        self.put_shared(kind, name, &Arc::new(content.to_vec()))
    }

    fn put_shared(&self, kind: FileKind, name: &str, content: &Arc<Vec<u8>>) -> StorageResult<()> {
        if self.is_direct()? {
            return self.inner.put_shared(kind, name, content);
        }
        let (name, content) = (name.to_string(), content.clone());
        self.call(move |place| place.put_shared(kind, &name, &content))
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let name = name.to_string();
        self.call(move |place| place.delete(kind, &name))
    }

    fn ping(&self) -> StorageResult<()> {
        self.inner.ping()
    }

    fn protected_until(&self) -> Option<i64> {
        self.inner.protected_until()
    }

    fn protect(&self, kind: FileKind, names: &[String]) -> StorageResult<()> {
        let names = names.to_vec();
        self.call(move |place| place.protect(kind, &names))
    }

    fn clear(&self) -> StorageResult<()> {
        self.call(|place| place.clear())
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
