//! The threads on which asynchronous libraries talk to storage.

#![cfg(feature = "network")]

use crate::{StorageError, StorageResult};
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use tokio::runtime::Runtime;

/// The threads that talk to storage services; calls from outside wait for them.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // Fails only when a provider was chosen before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("storage")
            .enable_all()
            .build()
            .expect("a process that runs can start two threads")
    })
}

/// Runs work on the storage threads and waits for it, from any kind of thread.
pub(crate) fn wait<T: Send + 'static>(
    work: impl Future<Output = StorageResult<T>> + Send + 'static,
) -> StorageResult<T> {
    let (done, answer) = sync_channel(1);
    runtime().spawn(async move {
        let _ = done.send(work.await);
    });
    answer
        .recv()
        .unwrap_or_else(|_| Err(StorageError::Other("a call to the storage broke off".into())))
}
