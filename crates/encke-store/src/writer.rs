//! One writer thread that gathers waiting transactions into one write to the disk; the same for both databases.

use crate::audit::Asker;
use crate::error::{StoreError, StoreResult};
use crate::events::{self, Event, EventDraft};
use crate::sql::{Sql, Tx};
use tokio::sync::{mpsc, oneshot};

/// Transactions waiting for the writer before callers have to wait themselves.
const QUEUE: usize = 1024;
/// Transactions that share one write to the disk.
const MAX_GROUP: usize = 128;

/// Tells the waiting caller how the commit went; runs after it.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// One caller's work. Answers whether to keep it, and how to tell the caller.
type Job = Box<dyn FnOnce(&mut Tx) -> (bool, Finish) + Send>;

/// The connection that writes.
pub(crate) trait WriteConnection: Send + 'static {
    /// Opens a transaction that no other writer's can overlap.
    fn begin(&mut self) -> StoreResult<()>;
    /// Runs a statement that controls the transaction.
    fn control(&mut self, statement: &str) -> StoreResult<()>;
    /// Commits. `events` are stored by now.
    fn commit(&mut self, events: &[Event]) -> StoreResult<()>;
    /// The transaction's statements.
    fn sql(&mut self) -> &mut dyn Sql;
    /// Called with what a transaction did once it is on disk, before its callers are told.
    fn committed(&mut self, done: Done);
}

/// What a transaction did.
#[derive(Default)]
pub(crate) struct Done {
    /// What it tells.
    pub(crate) events: Vec<Event>,
    /// Whether an account may have changed.
    pub(crate) accounts_changed: bool,
}

/// The writer's side for callers. The thread ends when this is dropped.
pub(crate) struct Writer(mpsc::Sender<Job>);

impl Writer {
    pub(crate) fn start(mut connection: impl WriteConnection) -> StoreResult<Self> {
        let (send, mut receive) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(&mut connection, &mut receive))
            .map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self(send))
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx) -> StoreResult<T> + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result = work(tx);
            let keep = result.is_ok();
            let finish: Finish = Box::new(move |commit| {
                let _ = send.send(match commit {
                    Ok(()) => result,
                    Err(e) => Err(result.err().unwrap_or(e)),
                });
            });
            (keep, finish)
        });
        self.0.send(job).await.map_err(|_| StoreError::Stopped)?;
        receive.await.map_err(|_| StoreError::Stopped)?
    }
}

fn write_loop(connection: &mut impl WriteConnection, jobs: &mut mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let mut finishes = Vec::with_capacity(group.len());
        let outcome = run_group(connection, group, &mut finishes);
        match outcome {
            Ok(done) => {
                connection.committed(done);
                for finish in finishes {
                    finish(Ok(()));
                }
            }
            Err(e) => {
                // The connection may be gone, and the transaction with it.
                let _ = connection.control("ROLLBACK");
                tracing::error!(error = %e, "a transaction could not be written");
                for finish in finishes {
                    finish(Err(match &e {
                        StoreError::Full => StoreError::Full,
                        e => StoreError::Database(e.to_string()),
                    }));
                }
            }
        }
    }
}

/// Runs several callers' work in one transaction, each in a savepoint so that one's failure is only its own.
fn run_group(
    connection: &mut impl WriteConnection,
    group: Vec<Job>,
    finishes: &mut Vec<Finish>,
) -> StoreResult<Done> {
    let mut done = Done::default();
    connection.begin()?;
    for job in group {
        connection.control("SAVEPOINT one")?;
        let mut drafts: Vec<EventDraft> = Vec::new();
        let (keep, finish) = job(&mut Tx {
            asker: Asker::default(),
            sql: connection.sql(),
            events: &mut drafts,
            accounts_changed: &mut done.accounts_changed,
        });
        finishes.push(finish);
        if !keep {
            connection.control("ROLLBACK TO SAVEPOINT one")?;
        } else if !drafts.is_empty() {
            for mut event in drafts.into_iter().map(EventDraft::into_event) {
                events::insert(connection.sql(), &event)?;
                event.stored = true;
                done.events.push(event);
            }
        }
        connection.control("RELEASE SAVEPOINT one")?;
    }
    connection.commit(&done.events)?;
    Ok(done)
}
