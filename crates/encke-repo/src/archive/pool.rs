//! What the threads of a backup take their work from.
//!
//! Chunks come before files and files before folders: what is closest to being finished is finished first, so that few
//! things are open at any time. A thread that adds work goes on without waiting; there is no thread that only waits.

use super::read::Batch;
use super::save::Chunk;
use super::walk::Folder;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;

/// A piece of work.
pub(super) enum Task {
    Chunk(Chunk),
    Files(Batch),
    Folder(Folder),
}

#[derive(Default)]
struct Waiting {
    chunks: VecDeque<Chunk>,
    files: VecDeque<Batch>,
    /// The last folder found is the first taken.
    folders: Vec<Folder>,
    /// Threads that have taken something and may add more.
    working: usize,
}

/// Work waiting for a thread.
pub(super) struct Pool {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Chunks that may wait.
    room: usize,
}

impl Pool {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            room: threads,
        }
    }

    /// Keeps the threads waiting for work that somebody else will add.
    pub(super) fn begin(&self) -> Working<'_> {
        self.waiting.lock().working += 1;
        Working(self)
    }

    pub(super) fn push_folder(&self, folder: Folder) {
        self.waiting.lock().folders.push(folder);
        self.changed.notify_one();
    }

    /// Adds what was found in a folder: its files, and its subfolders in their order.
    pub(super) fn push(&self, files: Vec<Batch>, folders: Vec<Folder>) {
        let added = files.len() + folders.len();
        let mut w = self.waiting.lock();
        w.files.extend(files);
        w.folders.extend(folders.into_iter().rev());
        drop(w);
        // The thread that adds takes one itself.
        for _ in 1..added {
            if !self.changed.notify_one() {
                break;
            }
        }
    }

    /// Leaves a chunk to another thread; gives it back if too many are waiting already.
    pub(super) fn offer(&self, chunk: Chunk) -> Option<Chunk> {
        let mut w = self.waiting.lock();
        if w.chunks.len() >= self.room {
            return Some(chunk);
        }
        w.chunks.push_back(chunk);
        drop(w);
        self.changed.notify_one();
        None
    }

    /// The next piece of work; nothing when all is done.
    pub(super) fn take(&self) -> Option<(Task, Working<'_>)> {
        let mut w = self.waiting.lock();
        loop {
            let task = if let Some(chunk) = w.chunks.pop_front() {
                Some(Task::Chunk(chunk))
            } else if let Some(batch) = w.files.pop_front() {
                Some(Task::Files(batch))
            } else {
                w.folders.pop().map(Task::Folder)
            };
            if let Some(task) = task {
                w.working += 1;
                return Some((task, Working(self)));
            }
            if w.working == 0 {
                return None;
            }
            self.changed.wait(&mut w);
        }
    }
}

/// Somebody who may still add work. Dropped also when a thread panics, so that the others do not wait for ever.
pub(super) struct Working<'a>(&'a Pool);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut w = self.0.waiting.lock();
        w.working -= 1;
        if w.working == 0 {
            drop(w);
            self.0.changed.notify_all();
        }
    }
}
