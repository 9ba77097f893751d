//! Streams that become files of a snapshot: what programs write, disks, and notes about them.

use super::remote::RemoteOutput;
use super::{End, Job, shell};
use encke_api::constants::JOB_STATUS_FAILED_ERROR;
use encke_repo::{BackupOptions, BackupSummary, Repository};
use encke_storage::{RemoteShell, RemoteStop};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

/// Longest line of a command's complaints, in bytes.
const MAX_LINE: u64 = 4096;
/// How often it is looked whether the job was cancelled while a program is silent.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Where a stream comes from.
pub(crate) enum Origin {
    /// A program's standard output.
    Program(Box<Command>),
    /// What a command on another machine writes.
    Remote { shell: RemoteShell, command: String },
    /// A file or a block device, from one end to the other.
    File(PathBuf),
    /// What is known already.
    Text(Vec<u8>),
}

/// A stream.
pub(crate) struct Stream {
    /// File name in the snapshot.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// What runs now, for whoever has to end it.
enum Running {
    Here(Child),
    There(RemoteStop),
}

impl Running {
    fn end(&self) {
        match self {
            Running::Here(child) => shell::end(child),
            Running::There(stop) => stop.now(),
        }
    }
}

type Current = Arc<Mutex<Option<Running>>>;

/// Backs up streams one after the other, as the files of the snapshot's root. One that fails does not keep the others
/// from being saved, but the job has failed then.
pub(super) fn back_up(
    job: &Arc<Job>,
    repo: &Repository,
    mut streams: Vec<Stream>,
    engine: &BackupOptions,
) -> Result<BackupSummary, End> {
    streams.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let names: Vec<String> = streams.iter().map(|s| s.name.clone()).collect();
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let current = Current::default();
    let mut waiting: Vec<Option<Stream>> = streams.into_iter().map(Some).collect();
    let mut open = |place: usize| -> io::Result<Box<dyn Read + Send>> {
        let Some(stream) = waiting.get_mut(place).and_then(Option::take) else {
            return Err(io::Error::other("a stream was asked for twice"));
        };
        begin(job, stream, &current, &failures)
    };
    let result = std::thread::scope(|scope| {
        let (done, watched) = std::sync::mpsc::channel::<()>();
        let (watching, current) = (job.clone(), current.clone());
        scope.spawn(move || {
            while watched.recv_timeout(LOOK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                if watching.cancel.is_cancelled()
                    && let Some(running) = current.lock().as_ref()
                {
                    running.end();
                }
            }
        });
        let result = repo.backup_streams(
            Path::new("/"),
            &names,
            &mut open,
            engine,
            &job.progress,
            &job.cancel,
        );
        drop(done);
        result
    });
    // A backup that failed leaves its program behind.
    if let Some(mut running) = current.lock().take() {
        running.end();
        if let Running::Here(child) = &mut running {
            let _ = child.wait();
        }
    }
    job.check_cancel()?;
    let summary = result?;
    let failures = failures.lock();
    if failures.is_empty() {
        return Ok(summary);
    }
    for failure in failures.iter().skip(1) {
        job.log("E", failure);
    }
    Err(End::Status(
        JOB_STATUS_FAILED_ERROR,
        format!(
            "{}; what was written is kept as snapshot {}",
            failures[0], summary.snapshot_id
        ),
    ))
}

fn begin(
    job: &Arc<Job>,
    stream: Stream,
    current: &Current,
    failures: &Arc<Mutex<Vec<String>>>,
) -> io::Result<Box<dyn Read + Send>> {
    let mut command = match stream.origin {
        Origin::Text(text) => return Ok(Box::new(io::Cursor::new(text))),
        Origin::File(path) => {
            job.info(&format!("Reading {}", path.display()));
            return Ok(Box::new(std::fs::File::open(path)?));
        }
        Origin::Remote { shell, command } => {
            job.info(&format!("Running remote command: {command}"));
            let mut running = shell.start(&command).map_err(io::Error::other)?;
            drop(running.take_input());
            *current.lock() = Some(Running::There(running.stop()));
            let output = RemoteOutput::new(running, stream.name, job.clone(), failures.clone());
            return Ok(Box::new(output));
        }
        Origin::Program(command) => command,
    };
    shell::prepare(&mut command);
    let program = command.get_program().to_string_lossy().into_owned();
    let text = command
        .get_args()
        .nth(1)
        .map(|t| t.to_string_lossy().into_owned());
    job.info(&match text.filter(|_| program == "/bin/sh") {
        Some(text) => format!("Running command: {text}"),
        None => format!("Running {program} for {}", stream.name),
    });
    let mut child = command.spawn().map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("the program for {} can not be run: {e}", stream.name),
        )
    })?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("the program has no output"))?;
    let (stderr, listener) = (child.stderr.take(), job.clone());
    // Read beside the backup, so that neither pipe fills up.
    std::thread::spawn(move || stderr.into_iter().for_each(|pipe| listen(&listener, pipe)));
    *current.lock() = Some(Running::Here(child));
    Ok(Box::new(Output {
        stdout,
        name: stream.name,
        job: job.clone(),
        current: current.clone(),
        failures: failures.clone(),
    }))
}

/// What a program writes. When the job is cancelled the program is ended, which must not look like a good end.
struct Output {
    stdout: std::process::ChildStdout,
    name: String,
    job: Arc<Job>,
    current: Current,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Output {
    fn check_cancel(&self) -> io::Result<()> {
        if self.job.cancel.is_cancelled() {
            return Err(io::Error::other("the job was cancelled"));
        }
        Ok(())
    }

    /// Waits until there is something to read, the end included. A program that was ended may have left others behind
    /// that keep its output open and are silent.
    fn wait_for_output(&self) -> io::Result<()> {
        let time = Timespec::try_from(LOOK).map_err(io::Error::other)?;
        loop {
            self.check_cancel()?;
            let mut pipe = [PollFd::new(&self.stdout, PollFlags::IN)];
            match rustix::event::poll(&mut pipe, Some(&time)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for_output()?;
        let n = self.stdout.read(buffer)?;
        if n > 0 || buffer.is_empty() {
            return Ok(n);
        }
        self.check_cancel()?;
        loop {
            let mut current = self.current.lock();
            let Some(Running::Here(child)) = current.as_mut() else {
                return Ok(0);
            };
            if let Some(status) = child.try_wait()? {
                *current = None;
                if !status.success() {
                    self.failures
                        .lock()
                        .push(format!("The command for {} ended with {status}", self.name));
                }
                return Ok(0);
            }
            drop(current);
            // It closed its output and goes on; a cancelled job ends it.
            std::thread::sleep(LOOK);
        }
    }
}

/// Each line a command complains with is a warning.
fn listen(job: &Job, pipe: impl Read) {
    let mut lines = io::BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = io::BufRead::read_until(&mut lines.by_ref().take(MAX_LINE), b'\n', &mut line) {
        job.warning(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}
