//! A folder of a share on a server of Windows networks (SMB 2 and 3), in restic's default layout.

#![cfg(feature = "network")]

use crate::again::retried;
use crate::threads::wait;
use crate::{Backend, FileKind, StorageError, StorageResult, draft, path};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use smb2::client::{Connection, DirectoryEntry, Tree};
use smb2::{ClientConfig, Error, ErrorKind, SmbClient};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(20);
/// Silence of the server after which a call is given up.
const IDLE: Duration = Duration::from_secs(60);
/// Longest time that a ping waits.
const PING: Duration = Duration::from_secs(15);
/// Folders listed at once.
const LISTINGS: usize = 8;
/// The usual port.
const PORT: u16 = 445;

/// A place on an SMB server.
#[derive(Clone, Default)]
pub struct SmbPlace {
    /// Name or address of the server, with a port where it is not the usual one.
    pub server: String,
    /// Share.
    pub share: String,
    /// Folder in the share; may be empty. Slashes and backslashes mean the same.
    pub folder: String,
    /// User, as `name`, `DOMAIN\name` or `name@domain`.
    pub user: String,
    /// Password.
    pub password: String,
}

/// A repository on an SMB server.
pub struct Smb {
    inner: Arc<Inner>,
}

struct Inner {
    place: SmbPlace,
    folder: String,
    session: tokio::sync::Mutex<()>,
    open: Mutex<Option<Arc<Session>>>,
}

/// An open share. Calls share its one connection, on which they run side by side.
struct Session {
    client: SmbClient,
    tree: Arc<Tree>,
}

impl Session {
    fn connection(&self) -> Connection {
        self.client.connection().clone()
    }
}

fn error(place: &str, e: &Error) -> StorageError {
    match e.kind() {
        ErrorKind::NotFound => StorageError::NotFound(place.to_string()),
        ErrorKind::AuthRequired | ErrorKind::AccessDenied | ErrorKind::SigningRequired => {
            StorageError::Unauthorised
        }
        ErrorKind::DiskFull => StorageError::Full,
        _ if passes(e) => StorageError::Unreachable(format!("{place}: {e}")),
        _ => StorageError::Other(format!("{place}: {e}")),
    }
}

/// Whether a new connection may help.
fn passes(e: &Error) -> bool {
    let broken = [
        ErrorKind::ConnectionLost,
        ErrorKind::TimedOut,
        ErrorKind::SessionExpired,
        ErrorKind::Io,
        ErrorKind::SharingViolation,
    ];
    e.is_retryable() || broken.contains(&e.kind()) || matches!(e, Error::HandleInvalidated { .. })
}

impl Inner {
    async fn connect(&self, patience: Duration) -> StorageResult<Arc<Session>> {
        let place = &self.place;
        let (domain, user) = match place.user.split_once('\\') {
            Some((domain, user)) => (domain, user),
            None => ("", place.user.as_str()),
        };
        let has_port = place
            .server
            .rsplit_once(':')
            .is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let config = ClientConfig {
            addr: if has_port {
                place.server.clone()
            } else {
                format!("{}:{PORT}", place.server)
            },
            timeout: CONNECT.min(patience),
            username: user.to_string(),
            password: place.password.clone(),
            domain: domain.to_string(),
            // We try calls again ourselves, and know which of them may be.
            auto_reconnect: false,
            compression: false,
            dfs_enabled: false,
            response_timeout: Some(IDLE.min(patience)),
            ..ClientConfig::default()
        };
        let name = format!("//{}/{}", place.server, place.share);
        let failed = |e: Error| error(&name, &e);
        let mut client = SmbClient::connect(config).await.map_err(failed)?;
        let tree = client.connect_share(&place.share).await.map_err(failed)?;
        Ok(Arc::new(Session {
            client,
            tree: Arc::new(tree),
        }))
    }

    fn kept(&self) -> Option<Arc<Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn session(&self) -> StorageResult<Arc<Session>> {
        if let Some(session) = self.kept() {
            return Ok(session);
        }
        // Of several calls one connects.
        let _one = self.session.lock().await;
        if let Some(session) = self.kept() {
            return Ok(session);
        }
        let session = self.connect(CONNECT).await?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        Ok(session)
    }

    /// The next call connects anew.
    fn forget(&self, session: &Arc<Session>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, session)) {
            *open = None;
        }
    }

    fn at(&self, path: &str) -> String {
        match (self.folder.as_str(), path) {
            ("", path) => path.to_string(),
            (folder, "") => folder.to_string(),
            (folder, path) => format!("{folder}/{path}"),
        }
    }

    async fn entries(&self, session: &Session, folder: &str) -> Result<Vec<DirectoryEntry>, Error> {
        match session
            .tree
            .list_directory(&mut session.connection(), folder)
            .await
        {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Makes the folders above a path.
    async fn make_folders(&self, session: &Session, path: &str) -> Result<(), Error> {
        for (end, _) in path.match_indices('/') {
            match session
                .tree
                .create_directory(&mut session.connection(), &path[..end])
                .await
            {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    async fn write(&self, session: &Session, path: &str, content: &[u8]) -> Result<(), Error> {
        let (tree, mut connection) = (&session.tree, session.connection());
        match tree.stat(&mut connection, path).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            there => return there.map(|_| ()),
        }
        let draft = draft(path);
        let written = match tree.write_file_pipelined(&mut connection, &draft, content).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.make_folders(session, path).await?;
                tree.write_file_pipelined(&mut connection, &draft, content).await
            }
            written => written,
        };
        let moved = match written {
            Ok(_) => tree.rename(&mut connection, &draft, path).await,
            Err(e) => Err(e),
        };
        match moved {
            Err(e) => {
                let _ = tree.delete_file(&mut connection, &draft).await;
                // Another one was quicker; names say the content, and the configuration stays as it is.
                if e.kind() == ErrorKind::AlreadyExists {
                    Ok(())
                } else {
                    Err(e)
                }
            }
            moved => moved,
        }
    }

    async fn read(
        &self,
        session: &Session,
        path: &str,
        part: Option<(u64, usize)>,
    ) -> Result<Vec<u8>, Error> {
        let Some((offset, length)) = part else {
            return session
                .tree
                .read_file_pipelined(&mut session.connection(), path)
                .await;
        };
        let reader = session.tree.open_file_reader(session.connection(), path).await?;
        let read = reader.read_at(offset, length as u64).await;
        reader.close().await?;
        read
    }
}

impl Smb {
    /// Nothing is asked of the server yet.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn new(place: SmbPlace) -> StorageResult<Self> {
        for (value, what) in [
            (&place.server, "server"),
            (&place.share, "share"),
            (&place.user, "user"),
        ] {
            if value.is_empty() {
                return Err(StorageError::Invalid(format!("the SMB {what} is missing")));
            }
        }
        if place.share.contains(['/', '\\']) {
            return Err(StorageError::Invalid(
                "the name of an SMB share has no slash; what is below it is the folder".into(),
            ));
        }
        let folder = place.folder.replace('\\', "/").trim_matches('/').to_string();
        if folder.split('/').any(|part| part == "..") {
            return Err(StorageError::Invalid("the SMB folder can not go upwards".into()));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                place,
                folder,
                session: tokio::sync::Mutex::default(),
                open: Mutex::default(),
            }),
        })
    }

    /// Runs a call on the open share, and tries it again while that may help.
    fn call<T, F>(
        &self,
        what: &str,
        path: &str,
        call: impl Fn(Arc<Inner>, Arc<Session>, String) -> F,
    ) -> StorageResult<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        retried(what, || {
            let (inner, path) = (self.inner.clone(), path.to_string());
            let session = {
                let inner = inner.clone();
                wait(async move { inner.session().await })?
            };
            let called = call(inner.clone(), session.clone(), path.clone());
            wait(async move {
                called.await.map_err(|e| {
                    if passes(&e) {
                        inner.forget(&session);
                    }
                    error(&path, &e)
                })
            })
        })
    }
}

impl Backend for Smb {
    fn create(&self) -> StorageResult<()> {
        let folders: Vec<String> = FileKind::FOLDERS
            .iter()
            .map(|kind| self.inner.at(&format!("{}/", kind.folder())))
            .collect();
        self.call("create", "", move |inner, session, _| {
            let folders = folders.clone();
            async move {
                for folder in &folders {
                    inner.make_folders(&session, folder).await?;
                }
                Ok(())
            }
        })
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        let folder = self.inner.at(kind.folder());
        self.call("list", &folder, move |inner, session, folder| async move {
            let mut found = inner.entries(&session, &folder).await?;
            if kind == FileKind::Pack {
                let below: Vec<String> = found
                    .iter()
                    .filter(|entry| entry.is_directory && entry.name.len() == 2)
                    .map(|entry| format!("{folder}/{}", entry.name))
                    .collect();
                let (inner, session) = (&inner, &session);
                let listed: Vec<Vec<DirectoryEntry>> = stream::iter(below)
                    .map(|folder| async move { inner.entries(session, &folder).await })
                    .buffer_unordered(LISTINGS)
                    .try_collect()
                    .await?;
                found.extend(listed.into_iter().flatten());
            }
            let files = found
                .into_iter()
                .filter(|entry| !entry.is_directory && entry.name.len() == 64);
            Ok(files.map(|entry| (entry.name, entry.size)).collect())
        })
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let path = self.inner.at(&path(kind, name));
        self.call("get", &path, |inner, session, path| async move {
            inner.read(&session, &path, None).await
        })
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        if out.is_empty() {
            return Ok(());
        }
        let path = self.inner.at(&path(kind, name));
        let length = out.len();
        let read = self.call("get", &path, move |inner, session, path| async move {
            inner.read(&session, &path, Some((offset, length))).await
        })?;
        if read.len() != out.len() {
            return Err(StorageError::Other(format!("{path}: shorter than expected")));
        }
        out.copy_from_slice(&read);
        Ok(())
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let path = self.inner.at(&path(kind, name));
        let content: Arc<[u8]> = content.into();
        self.call("put", &path, move |inner, session, path| {
            let content = content.clone();
            async move { inner.write(&session, &path, &content).await }
        })
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let path = self.inner.at(&path(kind, name));
        self.call("delete", &path, |_, session, path| async move {
            match session.tree.delete_file(&mut session.connection(), &path).await {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                deleted => deleted,
            }
        })
    }

    fn ping(&self) -> StorageResult<()> {
        let inner = self.inner.clone();
        wait(async move {
            let place = format!("//{}/{}", inner.place.server, inner.place.share);
            let reached = async {
                let session = inner.connect(PING).await?;
                let listed = inner.entries(&session, &inner.folder).await;
                listed.map_err(|e| error(&place, &e))
            };
            match tokio::time::timeout(PING, reached).await {
                Err(_) => Err(StorageError::Unreachable(format!(
                    "{place}: no answer within {} seconds",
                    PING.as_secs()
                ))),
                Ok(reached) => reached.map(|_| ()),
            }
        })
    }

    fn describe(&self) -> String {
        let place = &self.inner.place;
        format!("//{}/{}/{}", place.server, place.share, self.inner.folder)
    }

    fn parallel(&self) -> usize {
        4
    }

    fn is_local(&self) -> bool {
        false
    }
}
