//! Commands of the shell that end with the job: each has a process group of its own, which is ended as a whole.

use crate::error::{AgentError, AgentResult};
use encke_repo::Cancel;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// How often a waiting thread looks whether the job was cancelled.
const LOOK: Duration = Duration::from_millis(50);
/// Longest output of a command that is kept, in bytes; the rest is read and forgotten.
const MAX_OUTPUT: u64 = 16 * 1024;
/// A command's output is waited for this long after it ended: what it left in the background may hold it open.
const OUTPUT_TIME: Duration = Duration::from_secs(1);

/// A shell command that has not been started yet.
pub(crate) fn command(text: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", text]);
    prepare(&mut shell);
    shell
}

/// Gives a command a process group of its own, and pipes to read from.
pub(crate) fn prepare(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
}

/// Ends a command and whatever it started.
pub(crate) fn end(child: &Child) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(id) = id {
        // Already gone is as good.
        let _ = kill_process_group(id, Signal::KILL);
    }
}

/// Waits for a command; ends it when the job is cancelled.
pub(super) fn wait(child: &mut Child, cancel: &Cancel) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if cancel.is_cancelled() {
            end(child);
            return child.wait();
        }
        std::thread::sleep(LOOK);
    }
}

/// What a command that has ended wrote.
pub(crate) struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Reads a pipe beside the command, so that it never fills up.
fn collect(pipe: Option<impl Read + Send + 'static>) -> (Arc<Mutex<Vec<u8>>>, mpsc::Receiver<()>) {
    let (text, (done, ended)) = (Arc::new(Mutex::new(Vec::new())), mpsc::channel());
    let kept = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        if let Some(mut pipe) = pipe {
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                let mut kept = kept.lock();
                let room = usize::try_from(MAX_OUTPUT)
                    .unwrap_or(0)
                    .saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..n.min(room)]);
            }
        }
        drop(done);
    });
    (text, ended)
}

/// Runs a command to its end, or to the job's.
pub(super) fn run(mut shell: Command, cancel: &Cancel) -> io::Result<Finished> {
    finish(shell.spawn()?, cancel)
}

/// Runs a command to its end, or to the job's, and writes to its standard input meanwhile. The command's own failure
/// tells more than that of whoever writes to it.
pub(super) fn feed(
    command: &mut Command,
    cancel: &Cancel,
    write: impl FnOnce(&mut dyn io::Write) -> AgentResult<()> + Send,
) -> AgentResult<Finished> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |e: io::Error| AgentError::Invalid(format!("{program} can not be run: {e}"));
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // The pipe is closed when all is written.
        let writing = scope.spawn(move || stdin.map_or(Ok(()), |mut pipe| write(&mut pipe)));
        let ended = finish(child, cancel).map_err(failed)?;
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(AgentError::Protocol("a thread ended".into())));
        if ended.status.success() {
            written?;
        }
        Ok(ended)
    })
}

fn finish(mut child: Child, cancel: &Cancel) -> io::Result<Finished> {
    let (stdout, out_ended) = collect(child.stdout.take());
    let (stderr, err_ended) = collect(child.stderr.take());
    let status = wait(&mut child, cancel)?;
    for ended in [out_ended, err_ended] {
        let time = if cancel.is_cancelled() { LOOK } else { OUTPUT_TIME };
        let _ = ended.recv_timeout(time);
    }
    let text = |kept: Arc<Mutex<Vec<u8>>>| String::from_utf8_lossy(&kept.lock()).trim().to_string();
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_cancelled_job_ends_the_command_and_its_children() {
        let cancel = Cancel::default();
        let canceller = cancel.clone();
        let started = Instant::now();
        let waiting = std::thread::spawn(move || run(command("sleep 600 & sleep 600"), &cancel).unwrap());
        canceller.cancel();
        assert!(!waiting.join().unwrap().status.success());
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn output_is_kept_up_to_its_limit() {
        let ended = run(
            command("head -c 100000 /dev/zero | tr '\\0' x; echo oops >&2; exit 3"),
            &Cancel::default(),
        );
        let ended = ended.unwrap();
        assert_eq!(ended.stdout.len(), 16 * 1024);
        assert_eq!(ended.stderr, "oops");
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn what_stays_in_the_background_does_not_hold_the_job() {
        let started = Instant::now();
        let ended = run(command("sleep 600 & echo $!"), &Cancel::default()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(60));
        let id = ended.stdout.parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(id, Signal::KILL).unwrap();
    }
}
