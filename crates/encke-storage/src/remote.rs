//! Commands that run on an SSH server (RFC 4254, section 6.5): their output and their input are streams.

#![cfg(feature = "network")]

use crate::sftp::{Checker, check_login, connect_to, host_and_port};
use crate::threads::{runtime, wait};
use crate::{KnownHosts, Login, StorageError, StorageResult};
use bytes::Bytes;
use russh::client::{self, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// Pieces of output, or of input, on their way; each has at most some 32 KiB.
const ON_THE_WAY: usize = 32;
/// Most bytes of input in one piece.
const MAX_PIECE: usize = 32 * 1024;
/// Longest line of a command's complaints that is kept in one, in bytes.
const MAX_LINE: usize = 4096;
/// Most output of a command that is run to its end, in bytes.
const MAX_OUTPUT: usize = 16 << 20;
/// Complaints are extended data of this kind (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// An SSH server and who logs in.
#[derive(Clone)]
pub struct SshPlace {
    /// Name or address of the server, with `:port` where it is not 22.
    pub server: String,
    /// User name.
    pub user: String,
    /// How to log in.
    pub login: Login,
    /// Whom to believe.
    pub known_hosts: KnownHosts,
}

/// A connection on which commands are run, each with a channel of its own.
#[derive(Clone)]
pub struct RemoteShell {
    ssh: Arc<client::Handle<Checker>>,
}

/// A command that was run to its end.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What it answered; 0 for success.
    pub status: u32,
    /// What it wrote.
    pub output: Vec<u8>,
    /// What it complained about.
    pub complaints: Vec<String>,
}

/// What comes from a running command.
#[derive(Debug)]
pub enum Piece {
    /// Of its output.
    Output(Bytes),
    /// A line of its complaints.
    Complaint(String),
    /// Its end: what it answered, or how the connection was lost. The last piece.
    Ended(StorageResult<u32>),
}

/// A running command; it ends when this is dropped.
pub struct RemoteCommand {
    pieces: mpsc::Receiver<Piece>,
    input: Option<RemoteInput>,
    stop: RemoteStop,
}

/// Ends a running command.
#[derive(Clone)]
pub struct RemoteStop(Arc<Notify>);

/// The input of a running command, which ends when this is dropped.
pub struct RemoteInput(mpsc::Sender<Bytes>);

impl RemoteShell {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Settings that can not be right, a server that is not reached or not believed, or a log-in that is refused.
    pub fn connect(place: SshPlace) -> StorageResult<Self> {
        let (host, port) = host_and_port(&place.server)?;
        if host.is_empty() || place.user.is_empty() {
            return Err(StorageError::Invalid("the SSH server or user is missing".into()));
        }
        check_login(&place.login)?;
        wait(async move {
            let login = (place.user.as_str(), &place.login);
            let keep = |ssh| async move { Ok(Self { ssh: Arc::new(ssh) }) };
            connect_to((&host, port), login, &place.known_hosts, keep).await
        })
    }

    /// Starts a command of the server's shell.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn start(&self, command: &str) -> StorageResult<RemoteCommand> {
        let (ssh, command) = (self.ssh.clone(), command.to_string());
        let lost = |e: russh::Error| StorageError::Unreachable(e.to_string());
        let channel = wait(async move {
            let channel = ssh.channel_open_session().await.map_err(lost)?;
            channel.exec(true, command).await.map_err(lost)?;
            Ok(channel)
        })?;
        let (read, write) = channel.split();
        let (send, pieces) = mpsc::channel(ON_THE_WAY);
        let (input, inputs) = mpsc::channel(ON_THE_WAY);
        let stop = RemoteStop(Arc::default());
        runtime().spawn(serve(self.clone(), read, write, send, inputs, stop.clone()));
        Ok(RemoteCommand {
            pieces,
            input: Some(RemoteInput(input)),
            stop,
        })
    }

    /// Runs a command of the server's shell to its end.
    ///
    /// # Errors
    /// The connection is lost, or there is too much output.
    pub fn run(&self, command: &str) -> StorageResult<Ran> {
        let mut running = self.start(command)?;
        drop(running.take_input());
        let (mut output, mut complaints) = (Vec::new(), Vec::new());
        loop {
            match running.next_piece() {
                Piece::Output(bytes) if output.len() + bytes.len() > MAX_OUTPUT => {
                    return Err(StorageError::Other(format!(
                        "the command writes more than {MAX_OUTPUT} bytes"
                    )));
                }
                Piece::Output(bytes) => output.extend_from_slice(&bytes),
                Piece::Complaint(line) => complaints.push(line),
                Piece::Ended(status) => {
                    return Ok(Ran {
                        status: status?,
                        output,
                        complaints,
                    });
                }
            }
        }
    }
}

/// A port of this machine that leads to one that the SSH server reaches; closed when this is dropped.
pub struct Forward {
    port: u16,
    listening: tokio::task::AbortHandle,
}

impl Forward {
    /// The port, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl RemoteShell {
    /// Opens a port of this machine that leads to one of a machine that the server reaches (RFC 4254, section 7.2).
    ///
    /// # Errors
    /// This machine has no port left.
    pub fn forward(&self, host: &str, port: u16) -> StorageResult<Forward> {
        let (shell, host) = (self.clone(), host.to_string());
        let failed = |e: io::Error| StorageError::Other(format!("a port can not be opened: {e}"));
        wait(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .map_err(failed)?;
            let own = listener.local_addr().map_err(failed)?.port();
            let listening = runtime().spawn(async move {
                // What is open ends with the port.
                let mut open = JoinSet::new();
                while let Ok((mut near, from)) = listener.accept().await {
                    let (shell, host) = (shell.clone(), host.clone());
                    open.spawn(async move {
                        let origin = from.ip().to_string();
                        let channel = shell
                            .ssh
                            .channel_open_direct_tcpip(host, port.into(), origin, from.port().into())
                            .await;
                        if let Ok(channel) = channel {
                            let mut far = channel.into_stream();
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        }
                    });
                    while open.try_join_next().is_some() {}
                }
            });
            Ok(Forward {
                port: own,
                listening: listening.abort_handle(),
            })
        })
    }
}

impl RemoteCommand {
    /// The next piece; waits for it. After the end there is nothing but the loss of the connection.
    pub fn next_piece(&mut self) -> Piece {
        self.pieces.blocking_recv().unwrap_or_else(|| {
            Piece::Ended(Err(StorageError::Unreachable(
                "the SSH connection ended, or the command was stopped".into(),
            )))
        })
    }

    /// Where to write to the command. Once only.
    pub fn take_input(&mut self) -> Option<RemoteInput> {
        self.input.take()
    }

    /// What ends the command from another thread.
    #[must_use]
    pub fn stop(&self) -> RemoteStop {
        self.stop.clone()
    }
}

impl Drop for RemoteCommand {
    fn drop(&mut self) {
        self.stop.now();
    }
}

impl RemoteStop {
    /// Ends the command, if it still runs.
    pub fn now(&self) {
        // Kept for a task that is not waiting just now.
        self.0.notify_one();
    }
}

impl Write for RemoteInput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(MAX_PIECE);
        let piece = Bytes::copy_from_slice(&bytes[..n]);
        let sent = self.0.blocking_send(piece);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the command reads no more"))?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Carries what a command reads and writes until it ends.
async fn serve(
    // Kept alive with it.
    _shell: RemoteShell,
    mut read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    pieces: mpsc::Sender<Piece>,
    mut inputs: mpsc::Receiver<Bytes>,
    stop: RemoteStop,
) {
    let write = Arc::new(write);
    let writer = write.clone();
    let writing = runtime().spawn(async move {
        while let Some(bytes) = inputs.recv().await {
            if writer.data_bytes(bytes).await.is_err() {
                return;
            }
        }
        let _ = writer.eof().await;
    });
    tokio::select! {
        () = listen(&mut read, &pieces) => {}
        () = stop.0.notified() => {
            let _ = write.signal(Sig::TERM).await;
        }
    }
    writing.abort();
    let _ = write.close().await;
}

async fn listen(read: &mut ChannelReadHalf, pieces: &mpsc::Sender<Piece>) {
    let mut ended = Err(StorageError::Unreachable("the SSH connection ended".into()));
    let mut line = Vec::new();
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                let taken = pieces.send(Piece::Output(data)).await;
                if taken.is_err() {
                    return;
                }
            }
            ChannelMsg::ExtendedData { data, ext: STDERR } => {
                for &byte in &data {
                    if byte != b'\n' {
                        line.push(byte);
                    }
                    let is_whole = byte == b'\n' || line.len() >= MAX_LINE;
                    if is_whole && !complain(&mut line, pieces).await {
                        return;
                    }
                }
            }
            ChannelMsg::Failure => {
                ended = Err(StorageError::Other("the SSH server runs no commands".into()));
                break;
            }
            ChannelMsg::ExitStatus { exit_status } => ended = Ok(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                ended = Err(StorageError::Other(format!(
                    "the command was ended by the signal {signal_name:?}"
                )));
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    complain(&mut line, pieces).await;
    let _ = pieces.send(Piece::Ended(ended)).await;
}

async fn complain(line: &mut Vec<u8>, pieces: &mpsc::Sender<Piece>) -> bool {
    let text = String::from_utf8_lossy(line).trim_end().to_string();
    line.clear();
    text.is_empty() || pieces.send(Piece::Complaint(text)).await.is_ok()
}
