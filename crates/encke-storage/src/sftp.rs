//! A folder on an SSH server, reached by SFTP version 3 (draft-ietf-secsh-filexfer-02), in restic's default layout.

#![cfg(feature = "network")]

use crate::again::retried;
use crate::threads::wait;
use crate::{Backend, FileKind, StorageError, StorageResult, draft, path};
use futures_util::{StreamExt as _, TryStreamExt as _};
use russh::client::{self, AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh_sftp::client::{Config, SftpSession, error::Error};
use russh_sftp::protocol::{OpenFlags, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;

/// Longest time to connect and log in.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest time for one request of the protocol, which moves at most some 32 KiB. In seconds.
const REQUEST: u64 = 60;
/// Silence after which the server is asked whether it is there; three times, then the connection is given up.
const ALIVE: Duration = Duration::from_secs(15);
/// Folders listed at once.
const LISTINGS: usize = 8;
/// The usual port.
const PORT: u16 = 22;

/// How to log in.
#[derive(Clone)]
pub enum Login {
    /// With the keys of whoever runs the program: `~/.ssh/id_ed25519`, `id_ecdsa`, `id_rsa`, without passphrase.
    Native,
    /// With a password.
    Password(String),
    /// With a private key, in OpenSSH's or a PEM format, without passphrase.
    Key(String),
}

/// Which servers are believed to be the one meant.
#[derive(Clone)]
pub enum KnownHosts {
    /// Any.
    Any,
    /// Those in this file, of OpenSSH's format.
    File(PathBuf),
    /// Those in `~/.ssh/known_hosts`.
    Native,
}

/// A place on an SSH server.
#[derive(Clone)]
pub struct SftpPlace {
    /// Name or address of the server, with `:port` where it is not 22.
    pub server: String,
    /// User name.
    pub user: String,
    /// Folder: absolute, or below the user's own.
    pub folder: String,
    /// How to log in.
    pub login: Login,
    /// Whom to believe.
    pub known_hosts: KnownHosts,
}

/// A repository on an SSH server.
pub struct Sftp {
    place: Arc<SftpPlace>,
    host: String,
    port: u16,
    session: Arc<Mutex<Option<Arc<Session>>>>,
}

/// A connection. All calls share it: the protocol answers in any order.
struct Session {
    sftp: SftpSession,
    /// The connection ends with it.
    ssh: client::Handle<Checker>,
}

impl Session {
    /// Waits for the end of the connection: a request that it overtakes would wait for an answer for long.
    async fn ended(&self) {
        while !self.ssh.is_closed() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Looks at the server's key.
pub(crate) struct Checker {
    host: String,
    port: u16,
    known_hosts: KnownHosts,
    /// Why the key was refused.
    refused: Arc<OnceLock<String>>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let key = key.public_key();
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let file = match &self.known_hosts {
            KnownHosts::Any => return Ok(true),
            KnownHosts::File(file) => file.clone(),
            KnownHosts::Native => home(".ssh/known_hosts"),
        };
        let found = russh::keys::known_hosts::check_known_hosts_path(&self.host, self.port, &key, &file);
        let why = match found {
            Ok(true) => return Ok(true),
            Ok(false) => format!("is not in {}", file.display()),
            Err(e) => format!("does not agree with {}: {e}", file.display()),
        };
        let _ = self.refused.set(format!("the server's key {fingerprint} {why}"));
        Ok(false)
    }
}

fn home(path: &str) -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(path)
}

fn read_key(text: &str) -> StorageResult<PrivateKey> {
    russh::keys::decode_secret_key(text, None)
        .map_err(|e| StorageError::Invalid(format!("the SSH key can not be read: {e}")))
}

fn error(place: &str, e: &Error) -> StorageError {
    match e {
        Error::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => StorageError::NotFound(place.to_string()),
            StatusCode::NoConnection | StatusCode::ConnectionLost => {
                StorageError::Unreachable(format!("{place}: {}", status.error_message))
            }
            code => StorageError::Other(format!("{place}: {code}: {}", status.error_message)),
        },
        Error::Limited(_) => StorageError::Other(format!("{place}: {e}")),
        _ => StorageError::Unreachable(format!("{place}: {e}")),
    }
}

/// What went wrong while content moved: the library tells an answer of the server as it tells a broken connection.
fn broken(place: &str, e: &std::io::Error) -> StorageError {
    match e.kind() {
        std::io::ErrorKind::UnexpectedEof => StorageError::Other(format!("{place}: shorter than expected")),
        _ => StorageError::Unreachable(format!("{place}: {e}")),
    }
}

async fn log_in(ssh: &mut client::Handle<Checker>, user: &str, login: &Login) -> StorageResult<bool> {
    let lost = |e: russh::Error| StorageError::Unreachable(e.to_string());
    let keys = match login {
        Login::Password(password) => {
            let first = ssh.authenticate_password(user, password).await.map_err(lost)?;
            if first.success() {
                return Ok(true);
            }
            // Many servers ask for the password in a dialogue only.
            let mut answer = ssh
                .authenticate_keyboard_interactive_start(user, None)
                .await
                .map_err(lost)?;
            for _ in 0..4 {
                answer = match answer {
                    KeyboardInteractiveAuthResponse::Success => return Ok(true),
                    KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
                    KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                        let answers = prompts.iter().map(|_| password.clone()).collect();
                        ssh.authenticate_keyboard_interactive_respond(answers)
                            .await
                            .map_err(lost)?
                    }
                };
            }
            return Ok(false);
        }
        Login::Key(text) => vec![read_key(text)?],
        Login::Native => ["id_ed25519", "id_ecdsa", "id_rsa"]
            .iter()
            .filter_map(|name| std::fs::read_to_string(home(".ssh").join(name)).ok())
            .filter_map(|text| read_key(&text).ok())
            .collect(),
    };
    let hash = ssh.best_supported_rsa_hash().await.map_err(lost)?.flatten();
    for key in keys {
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let answer = ssh.authenticate_publickey(user, key).await.map_err(lost)?;
        if matches!(answer, AuthResult::Success) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Connects to an SSH server and logs in; then `then` opens what is wanted of it.
pub(crate) async fn connect_to<T, F: Future<Output = StorageResult<T>>>(
    (host, port): (&str, u16),
    (user, login): (&str, &Login),
    known_hosts: &KnownHosts,
    then: impl FnOnce(client::Handle<Checker>) -> F,
) -> StorageResult<T> {
    let config = client::Config {
        keepalive_interval: Some(ALIVE),
        nodelay: true,
        ..Default::default()
    };
    let refused = Arc::new(OnceLock::new());
    let checker = Checker {
        host: host.to_string(),
        port,
        known_hosts: known_hosts.clone(),
        refused: refused.clone(),
    };
    let lost = |e: russh::Error| match refused.get() {
        Some(why) => StorageError::Invalid(why.clone()),
        None => StorageError::Unreachable(format!("{host}:{port}: {e}")),
    };
    let connecting = async {
        let mut ssh = client::connect(Arc::new(config), (host, port), checker)
            .await
            .map_err(lost)?;
        if !log_in(&mut ssh, user, login).await? {
            return Err(StorageError::Unauthorised);
        }
        then(ssh).await
    };
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(StorageError::Unreachable(format!(
            "{host}:{port}: no answer within {} seconds",
            CONNECT.as_secs()
        ))),
    }
}

async fn connect(place: &SftpPlace, host: &str, port: u16) -> StorageResult<Session> {
    let lost = |e: russh::Error| StorageError::Unreachable(format!("{host}:{port}: {e}"));
    let login = (place.user.as_str(), &place.login);
    connect_to((host, port), login, &place.known_hosts, |ssh| async move {
        let channel = ssh.channel_open_session().await.map_err(lost)?;
        channel.request_subsystem(true, "sftp").await.map_err(lost)?;
        let config = Config {
            request_timeout_secs: REQUEST,
            ..Default::default()
        };
        let sftp = SftpSession::new_with_config(channel.into_stream(), config)
            .await
            .map_err(|e| error(host, &e))?;
        Ok(Session { sftp, ssh })
    })
    .await
}

/// The host and port of a server's address.
pub(crate) fn host_and_port(server: &str) -> StorageResult<(String, u16)> {
    // An address of IP version 6 with a port has brackets.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port = port
                .parse()
                .map_err(|_| StorageError::Invalid(format!("'{port}' of '{server}' is no port")))?;
            (host, port)
        }
        _ => (server, PORT),
    };
    Ok((
        host.trim_start_matches('[').trim_end_matches(']').to_string(),
        port,
    ))
}

/// Refuses a key that can not be used.
pub(crate) fn check_login(login: &Login) -> StorageResult<()> {
    match login {
        Login::Key(text) => read_key(text).map(drop),
        _ => Ok(()),
    }
}

/// Makes the folders above a path; what is in the way is told by what is done next.
async fn make_folders(sftp: &SftpSession, path: &str) {
    for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
        let _ = sftp.create_dir(&path[..at]).await;
    }
}

async fn put(sftp: &SftpSession, path: &str, content: &[u8]) -> StorageResult<()> {
    let draft = draft(path);
    let failed = |e: Error| error(path, &e);
    let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
    let opened = match sftp.open_with_flags(&draft, flags).await {
        Err(Error::Status(status)) if status.status_code == StatusCode::NoSuchFile => {
            make_folders(sftp, path).await;
            sftp.open_with_flags(&draft, flags).await
        }
        opened => opened,
    };
    let mut file = opened.map_err(failed)?;
    let write = async {
        file.write_all(content).await.map_err(|e| broken(path, &e))?;
        file.flush().await.map_err(|e| broken(path, &e))?;
        file.sync_all().await.map_err(failed)?;
        file.close().await.map_err(|e| broken(path, &e))
    };
    let done = match write.await {
        Ok(()) => sftp.rename(&draft, path).await.map_err(failed),
        Err(e) => {
            // The protocol has no word for a full disk.
            let free = sftp
                .fs_info(path.rsplit_once('/').map_or(".", |(folder, _)| folder))
                .await;
            match free {
                Ok(Some(info))
                    if info.blocks_avail.saturating_mul(info.fragment_size) < content.len() as u64 =>
                {
                    Err(StorageError::Full)
                }
                _ => Err(e),
            }
        }
    };
    if done.is_err() {
        let _ = sftp.remove_file(&draft).await;
        // Most servers do not replace a file by another one's name.
        if sftp.try_exists(path).await.unwrap_or(false) {
            return Ok(());
        }
    }
    done
}

async fn files(sftp: &SftpSession, folder: &str) -> StorageResult<Vec<(String, u64, bool)>> {
    let entries = sftp.read_dir(folder).await.map_err(|e| error(folder, &e))?;
    let entries = entries.map(|entry| {
        let meta = entry.metadata();
        (entry.file_name(), meta.size.unwrap_or(0), meta.is_dir())
    });
    Ok(entries.collect())
}

impl Sftp {
    /// Nothing is asked of the server yet.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn new(place: SftpPlace) -> StorageResult<Self> {
        let (host, port) = host_and_port(&place.server)?;
        if host.is_empty() || place.user.is_empty() {
            return Err(StorageError::Invalid("the SFTP server or user is missing".into()));
        }
        check_login(&place.login)?;
        Ok(Self {
            place: Arc::new(place),
            host,
            port,
            session: Arc::default(),
        })
    }

    /// From `user@host:folder` or `//user@host:port/folder`, as stock restic writes it; with the caller's own keys.
    ///
    /// # Errors
    /// The location can not be understood.
    pub fn from_url(url: &str) -> StorageResult<Self> {
        let parts = match url.strip_prefix("//") {
            Some(rest) => rest.split_once('/'),
            None => url.split_once(':'),
        };
        let parts = parts.and_then(|(login, folder)| {
            let (user, server) = login.rsplit_once('@')?;
            Some((user.to_string(), server.to_string(), folder.to_string()))
        });
        let (user, server, folder) = parts.ok_or_else(|| {
            StorageError::Invalid("an SFTP location looks like sftp:user@host:/folder".into())
        })?;
        Self::new(SftpPlace {
            server,
            user,
            folder,
            login: Login::Native,
            known_hosts: KnownHosts::Native,
        })
    }

    fn at(&self, path: &str) -> String {
        if self.place.folder.is_empty() {
            return path.to_string();
        }
        Path::new(&self.place.folder).join(path).display().to_string()
    }

    /// Runs a call on the connection, which is made anew where it is lost.
    fn with<T, F>(&self, call: impl FnOnce(Arc<Session>) -> F) -> StorageResult<T>
    where
        T: Send + 'static,
        F: Future<Output = StorageResult<T>> + Send + 'static,
    {
        let (place, host, port, kept) = (
            self.place.clone(),
            self.host.clone(),
            self.port,
            self.session.clone(),
        );
        let session = wait(async move {
            let mut kept = kept.lock().await;
            match &*kept {
                Some(session) => Ok(session.clone()),
                None => Ok(kept.insert(Arc::new(connect(&place, &host, port).await?)).clone()),
            }
        })?;
        let used = session.clone();
        let (running, watched) = (call(session), used.clone());
        let answer = wait(async move {
            tokio::select! {
                answer = running => answer,
                () = watched.ended() => Err(StorageError::Unreachable("the connection ended".into())),
            }
        });
        if matches!(answer, Err(StorageError::Unreachable(_))) {
            let kept = self.session.clone();
            wait(async move {
                let mut kept = kept.lock().await;
                if kept.as_ref().is_some_and(|now| Arc::ptr_eq(now, &used)) {
                    *kept = None;
                }
                Ok(())
            })?;
        }
        answer
    }
}

impl Backend for Sftp {
    fn create(&self) -> StorageResult<()> {
        let folders: Vec<String> = FileKind::FOLDERS
            .iter()
            .map(|kind| self.at(&format!("{}/", kind.folder())))
            .collect();
        retried("create", || {
            let folders = folders.clone();
            self.with(|session| async move {
                for folder in folders {
                    make_folders(&session.sftp, &folder).await;
                    session
                        .sftp
                        .metadata(&folder)
                        .await
                        .map_err(|e| error(&folder, &e))?;
                }
                Ok(())
            })
        })
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        retried("list", || {
            let root = self.at(kind.folder());
            self.with(|session| async move {
                let mut found = files(&session.sftp, &root).await?;
                if kind == FileKind::Pack {
                    let folders = found
                        .iter()
                        .filter(|(name, _, folder)| *folder && name.len() == 2);
                    let folders: Vec<String> = folders.map(|(name, ..)| format!("{root}/{name}")).collect();
                    let inside = futures_util::stream::iter(folders).map(|folder| {
                        let session = session.clone();
                        async move { files(&session.sftp, &folder).await }
                    });
                    let inside: Vec<_> = inside.buffer_unordered(LISTINGS).try_collect().await?;
                    found.extend(inside.into_iter().flatten());
                }
                let files = found
                    .into_iter()
                    .filter(|(name, _, folder)| !folder && name.len() == 64);
                Ok(files.map(|(name, size, _)| (name, size)).collect())
            })
        })
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let path = self.at(&path(kind, name));
        retried("get", || {
            let path = path.clone();
            self.with(|session| async move {
                let read = session.sftp.read(&path).await;
                read.map_err(|e| error(&path, &e))
            })
        })
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        let path = self.at(&path(kind, name));
        let length = out.len();
        let read = retried("get", || {
            let path = path.clone();
            self.with(|session| async move {
                let file = session.sftp.open(&path).await;
                let mut file = file.map_err(|e| error(&path, &e))?;
                let mut part = vec![0; length];
                let read = async {
                    file.seek(std::io::SeekFrom::Start(offset)).await?;
                    file.read_exact(&mut part).await
                };
                read.await.map_err(|e| broken(&path, &e))?;
                file.close().await.map_err(|e| broken(&path, &e))?;
                Ok(part)
            })
        })?;
        out.copy_from_slice(&read);
        Ok(())
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let path = self.at(&path(kind, name));
        let content: Arc<[u8]> = content.into();
        retried("put", || {
            let (path, content) = (path.clone(), content.clone());
            self.with(|session| async move {
                // Some servers replace a file by another one's name: only the configuration would suffer.
                if kind == FileKind::Config
                    && session
                        .sftp
                        .try_exists(&path)
                        .await
                        .map_err(|e| error(&path, &e))?
                {
                    return Ok(());
                }
                put(&session.sftp, &path, &content).await
            })
        })
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let path = self.at(&path(kind, name));
        retried("delete", || {
            let path = path.clone();
            self.with(|session| async move {
                let removed = session.sftp.remove_file(&path).await;
                match removed.map_err(|e| error(&path, &e)) {
                    Err(StorageError::NotFound(_)) => Ok(()),
                    other => other,
                }
            })
        })
    }

    fn ping(&self) -> StorageResult<()> {
        let folder = self.at("");
        self.with(|session| async move {
            // What does not exist yet is made at the first use, below the nearest folder that does.
            let mut folder = folder.trim_end_matches('/');
            loop {
                let here = if folder.is_empty() { "." } else { folder };
                match session.sftp.metadata(here).await {
                    Ok(found) if found.is_dir() => return Ok(()),
                    Ok(_) => return Err(StorageError::Other(format!("{here} is not a folder"))),
                    Err(Error::Status(status))
                        if status.status_code == StatusCode::NoSuchFile && !folder.is_empty() =>
                    {
                        folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
                    }
                    Err(e) => return Err(error(here, &e)),
                }
            }
        })
    }

    fn describe(&self) -> String {
        format!(
            "sftp:{}@{}:{}",
            self.place.user, self.place.server, self.place.folder
        )
    }

    fn parallel(&self) -> usize {
        4
    }

    fn is_local(&self) -> bool {
        false
    }
}
