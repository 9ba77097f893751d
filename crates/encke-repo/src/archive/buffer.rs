//! Memory for what is read.

use parking_lot::Mutex;
use std::io::{self, Read};
use std::ops::Deref;

/// Bytes read so far, with room behind them that is cleared only the first time it is used.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    used: usize,
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Buffer {
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.used = self.used.min(length);
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.used += bytes.len();
    }

    fn room(&mut self, want: usize) -> &mut [u8] {
        if self.bytes.len() < self.used + want {
            self.bytes.resize(self.used + want, 0);
        }
        &mut self.bytes[self.used..self.used + want]
    }

    /// Reads once, up to `want` bytes. 0 is the end.
    pub(super) fn read(&mut self, input: &mut dyn Read, want: usize) -> io::Result<usize> {
        loop {
            match input.read(self.room(want)) {
                Ok(n) => {
                    self.used += n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Buffers of chunks that were saved, to be filled again: fresh memory costs a page fault for each page.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Buffer>>);

impl Spare {
    /// Enough for what is on its way at once with a few threads; more are freed.
    const KEPT: usize = 8;
    /// Few chunks are larger; what is beyond that is freed, or all buffers would grow to the largest chunk in the end.
    const ROOM: usize = 2 * 1024 * 1024;

    pub(super) fn take(&self) -> Buffer {
        self.0.lock().pop().unwrap_or_default()
    }

    pub(super) fn give(&self, mut buffer: Buffer) {
        buffer.clear();
        buffer.bytes.truncate(Self::ROOM);
        buffer.bytes.shrink_to(Self::ROOM);
        let mut kept = self.0.lock();
        if kept.len() < Self::KEPT {
            kept.push(buffer);
        }
    }
}
