//! Long JSON lists that go out while they are read from the store: memory stays flat however long they are, and a
//! slow reader slows the reading down.

use axum::body::Body;
use bytes::Bytes;
use encke_store::{Store, StoreError, StoreResult};
use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Chunks that may wait for a slow reader; with [`CHUNK`] the bound of a list's memory.
const CHUNKS_WAITING: usize = 4;
/// A reader that takes nothing for this long has gone away: it holds a connection to the database.
const STALL_TIME: Duration = Duration::from_secs(60);
/// Bytes gathered before a chunk is sent.
const CHUNK: usize = 64 * 1024;

/// Gathers the text of a list. Used on a thread for blocking work, but for short lists.
pub struct ListWriter {
    buffer: Vec<u8>,
    empty: bool,
    /// The reader went away, or stands still.
    broken: bool,
    /// Where full chunks go; a short list is kept whole.
    reader: Option<(Handle, mpsc::Sender<Result<Bytes, std::io::Error>>)>,
}

impl ListWriter {
    /// Adds an element of an array, as JSON text.
    pub fn element(&mut self, json: &str) -> ControlFlow<()> {
        self.comma();
        self.buffer.extend_from_slice(json.as_bytes());
        self.send_if_full()
    }

    /// Adds an entry of a map, its value as JSON text.
    pub fn entry(&mut self, key: &str, json: &str) -> ControlFlow<()> {
        self.comma();
        // Writing to memory can not fail.
        let _ = serde_json::to_writer(&mut self.buffer, key);
        self.buffer.push(b':');
        self.buffer.extend_from_slice(json.as_bytes());
        self.send_if_full()
    }

    /// Adds plain text.
    pub fn text(&mut self, text: &str) -> ControlFlow<()> {
        self.buffer.extend_from_slice(text.as_bytes());
        self.send_if_full()
    }

    fn comma(&mut self) {
        if !self.empty {
            self.buffer.push(b',');
        }
        self.empty = false;
    }

    fn send_if_full(&mut self) -> ControlFlow<()> {
        if self.buffer.len() < CHUNK {
            return ControlFlow::Continue(());
        }
        if let Some((runtime, send)) = &self.reader {
            let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK + CHUNK / 4));
            let sent = send.send_timeout(Ok(full.into()), STALL_TIME);
            if runtime.block_on(sent).is_ok() {
                return ControlFlow::Continue(());
            }
        }
        self.broken = true;
        ControlFlow::Break(())
    }
}

/// A JSON list from the store: `open`, what `produce` adds to the writer (which it gives back), `close`. A list of less
/// than a chunk is read here and now, where the store can do that; else `produce` is called once more, and the list
/// goes out while it is read.
///
/// If it fails the connection is cut, so that a reader can tell a broken list from a whole one.
pub async fn list_body<F, Fut>(store: &Store, open: u8, close: u8, produce: F) -> Body
where
    F: Fn(Store, ListWriter) -> Fut + Send + 'static,
    Fut: Future<Output = StoreResult<ListWriter>> + Send,
{
    stored_body(store, vec![open], &[close], produce).await
}

/// A plain text from the store, written as [`list_body`] is.
pub async fn text_body<F, Fut>(store: &Store, produce: F) -> Body
where
    F: Fn(Store, ListWriter) -> Fut + Send + 'static,
    Fut: Future<Output = StoreResult<ListWriter>> + Send,
{
    stored_body(store, Vec::new(), &[], produce).await
}

async fn stored_body<F, Fut>(store: &Store, open: Vec<u8>, close: &[u8], produce: F) -> Body
where
    F: Fn(Store, ListWriter) -> Fut + Send + 'static,
    Fut: Future<Output = StoreResult<ListWriter>> + Send,
{
    if let Some(short) = store.short() {
        let writer = ListWriter {
            buffer: open.clone(),
            empty: true,
            broken: false,
            reader: None,
        };
        match produce(short, writer).await {
            Ok(mut writer) if !writer.broken => {
                writer.buffer.extend_from_slice(close);
                return writer.buffer.into();
            }
            Ok(_) | Err(StoreError::TooLong) => {}
            Err(e) => return broken_off(&e),
        }
    }
    let store = store.clone();
    streamed(
        open,
        close,
        move |writer| async move { produce(store, writer).await },
    )
}

/// A body that ends with a failure.
fn broken_off(e: &StoreError) -> Body {
    tracing::error!(error = %e, "a list broke off");
    let failed = std::io::Error::other("the list broke off");
    Body::from_stream(tokio_stream::once(Err::<Bytes, _>(failed)))
}

/// A JSON list that comes from elsewhere than the store.
pub fn streamed_list<F, Fut>(produce: F) -> Body
where
    F: FnOnce(ListWriter) -> Fut + Send + 'static,
    Fut: Future<Output = StoreResult<ListWriter>> + Send + 'static,
{
    streamed(b"[".to_vec(), b"]", produce)
}

fn streamed<F, Fut>(open: Vec<u8>, close: &[u8], produce: F) -> Body
where
    F: FnOnce(ListWriter) -> Fut + Send + 'static,
    Fut: Future<Output = StoreResult<ListWriter>> + Send,
{
    let (send, receive) = mpsc::channel(CHUNKS_WAITING);
    let close = close.to_vec();
    tokio::spawn(async move {
        let writer = ListWriter {
            buffer: open,
            empty: true,
            broken: false,
            reader: Some((Handle::current(), send.clone())),
        };
        let last = match produce(writer).await {
            // The connection is cut, so that what was sent does not look like a whole list.
            Ok(writer) if writer.broken => Err(std::io::Error::other("the reader stands still")),
            Ok(mut writer) => {
                writer.buffer.extend_from_slice(&close);
                Ok(writer.buffer.into())
            }
            Err(e) => {
                tracing::error!(error = %e, "a list broke off");
                Err(std::io::Error::other("the list broke off"))
            }
        };
        let _ = send.send(last).await;
    });
    Body::from_stream(ReceiverStream::new(receive))
}
