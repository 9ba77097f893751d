//! Commands that run on another machine, as part of a job: what they write is saved, what they read is restored.

use super::streams::LOOK;
use super::{End, Job};
use crate::proxmox::unreached;
use encke_storage::{Piece, RemoteCommand, RemoteShell};
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What a command says of itself becomes a line of the log: the tools of Proxmox begin each with how bad it is.
fn tell(job: &Job, line: &str) {
    if line.starts_with("ERROR") || line.starts_with("WARN") {
        job.warning(line);
    } else if let Some(line) = line.strip_prefix("INFO: ") {
        job.info(line);
    } else if !line.starts_with("progress ") {
        job.info(line);
    }
}

/// What a command on another machine writes.
pub(super) struct RemoteOutput {
    pub command: RemoteCommand,
    /// What the stream is called.
    pub name: String,
    pub job: Arc<Job>,
    pub failures: Arc<Mutex<Vec<String>>>,
    rest: bytes::Bytes,
    has_ended: bool,
}

impl RemoteOutput {
    pub(super) fn new(
        command: RemoteCommand,
        name: String,
        job: Arc<Job>,
        failures: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        Self {
            command,
            name,
            job,
            failures,
            rest: bytes::Bytes::new(),
            has_ended: false,
        }
    }
}

impl Read for RemoteOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.has_ended {
            match self.command.next_piece() {
                Piece::Output(bytes) => self.rest = bytes,
                Piece::Complaint(line) => tell(&self.job, &line),
                Piece::Ended(_) if self.job.cancel.is_cancelled() => {
                    return Err(io::Error::other("the job was cancelled"));
                }
                Piece::Ended(ended) => {
                    self.has_ended = true;
                    match ended {
                        Ok(0) => {}
                        Ok(status) => self
                            .failures
                            .lock()
                            .push(format!("The command for {} ended with {status}", self.name)),
                        Err(e) => self
                            .failures
                            .lock()
                            .push(format!("The command for {} broke off: {e}", self.name)),
                    }
                }
            }
        }
        let n = self.rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.rest.split_to(n));
        Ok(n)
    }
}

/// Runs a command on another machine and writes to its input. The command's own failure tells more than that of whoever
/// writes to it.
pub(super) fn feed(
    job: &Job,
    shell: &RemoteShell,
    command: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), End> + Send,
) -> Result<(), End> {
    let lost = |e| End::from(unreached(e));
    let mut running = shell.start(command).map_err(lost)?;
    let (input, stop) = (running.take_input(), running.stop());
    let (status, written) = std::thread::scope(|scope| {
        // The input ends when all is written.
        let writing = scope.spawn(move || input.map_or(Ok(()), |mut input| write(&mut input)));
        let (done, watched) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while watched.recv_timeout(LOOK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                if job.cancel.is_cancelled() {
                    stop.now();
                }
            }
        });
        let status = loop {
            match running.next_piece() {
                Piece::Output(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    text.lines().filter(|l| !l.is_empty()).for_each(|l| tell(job, l));
                }
                Piece::Complaint(line) => tell(job, &line),
                Piece::Ended(status) => break status,
            }
        };
        drop(done);
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(super::outward::failed("A thread ended".into())));
        (status, written)
    });
    match status.map_err(lost)? {
        0 => written,
        status => Err(super::outward::failed(format!("the command ended with {status}"))),
    }
}
