//! A folder on an FTP server (RFC 959), in clear or by TLS (RFC 4217), in restic's default layout.

#![cfg(feature = "network")]

use crate::again::retried;
use crate::{Backend, FileKind, StorageError, StorageResult, draft, path};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::str::FromStr as _;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use suppaftp::list::{File, ListParser};
use suppaftp::types::FileType;
use suppaftp::{FtpError, FtpResult, RustlsConnector, RustlsFtpStream, Status, TlsConnector};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(20);
/// Silence on a connection after which a try is given up.
const IDLE: Duration = Duration::from_secs(60);
/// Connections where the settings name no number.
const CONNECTIONS: usize = 4;
/// Most connections to one server.
const MAX_CONNECTIONS: usize = 32;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FtpTls {
    /// Not at all.
    #[default]
    None,
    /// From its first byte on (port 990).
    Implicit,
    /// After `AUTH TLS`.
    Explicit,
}

/// A place on an FTP server.
#[derive(Clone, Default)]
pub struct FtpPlace {
    /// Name or address of the server.
    pub host: String,
    /// Port; 0 for the usual one, 21 or 990.
    pub port: u16,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Folder: absolute, or below the one that the user comes into.
    pub folder: String,
    /// Protection.
    pub tls: FtpTls,
    /// Whether any certificate will do.
    pub any_certificate: bool,
    /// Connections at once; 0 for our own choice.
    pub connections: usize,
}

/// A repository on an FTP server.
pub struct Ftp {
    place: FtpPlace,
    tls: Option<Arc<ClientConfig>>,
    pool: Mutex<Pool>,
    given_back: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<RustlsFtpStream>,
    lent: usize,
}

/// Takes every certificate; what is signed in the handshake is checked all the same.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn tls_config(any_certificate: bool) -> StorageResult<ClientConfig> {
    let provider = rustls::crypto::ring::default_provider();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .map_err(|e| StorageError::Other(e.to_string()))?;
    if any_certificate {
        let verifier = Arc::new(AnyCertificate(provider));
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(crate::trust::SYSTEM.iter().cloned());
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn error(place: &str, e: FtpError) -> StorageError {
    match e {
        FtpError::UnexpectedResponse(answer) => match answer.status {
            Status::FileUnavailable => StorageError::NotFound(place.to_string()),
            Status::NotLoggedIn | Status::InvalidCredentials => StorageError::Unauthorised,
            Status::ExceededStorage => StorageError::Full,
            status if (400..500).contains(&status.code()) => {
                StorageError::Unreachable(format!("{place}: {}", text(&answer.body)))
            }
            _ => StorageError::Other(format!("{place}: {}", text(&answer.body))),
        },
        FtpError::ConnectionError(e) => StorageError::Unreachable(format!("{place}: {e}")),
        e => StorageError::Other(format!("{place}: {e}")),
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().to_string()
}

fn connected(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT)?;
    limited(&stream)?;
    Ok(stream)
}

/// Gives up on silence.
fn limited(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))
}

/// Gives the library's own connections our limits of time.
#[derive(Debug)]
struct Patient(RustlsConnector);

impl TlsConnector for Patient {
    type Stream = <RustlsConnector as TlsConnector>::Stream;

    fn connect(&self, domain: &str, stream: TcpStream) -> FtpResult<Self::Stream> {
        limited(&stream).map_err(FtpError::ConnectionError)?;
        self.0.connect(domain, stream)
    }
}

/// A connection by TLS from its first byte on. The library connects without a limit of time, so that is done aside: what
/// nobody waits for any more ends with the system's own limit.
fn implicit(address: SocketAddr, tls: Arc<ClientConfig>, host: &str) -> FtpResult<RustlsFtpStream> {
    let (done, connected) = sync_channel(1);
    let host = host.to_string();
    std::thread::spawn(move || {
        let connector = Patient(RustlsConnector::from(tls));
        let _ = done.send(RustlsFtpStream::connect_secure_implicit(
            address, connector, &host,
        ));
    });
    connected
        .recv_timeout(CONNECT + IDLE)
        .unwrap_or_else(|_| Err(FtpError::ConnectionError(ErrorKind::TimedOut.into())))
}

/// What a command sends over a connection of its own: all of it, or its first `length` bytes.
fn received(ftp: &mut RustlsFtpStream, command: &str, length: Option<usize>) -> FtpResult<Vec<u8>> {
    let begun = [Status::AboutToSend, Status::AlreadyOpen];
    let (_, mut transfer) = ftp.custom_data_command(command, &begun)?;
    let mut out = Vec::with_capacity(length.unwrap_or(0));
    let limit = length.map_or(u64::MAX, |length| length as u64);
    match (&mut transfer).take(limit).read_to_end(&mut out) {
        // Many servers end TLS without a word. The answer after it says whether that was all.
        Err(e) if e.kind() != ErrorKind::UnexpectedEof => return Err(FtpError::ConnectionError(e)),
        _ => {}
    }
    match transfer.finish() {
        // The server says that we closed before the file's end, which we meant.
        Err(FtpError::UnexpectedResponse(_)) if length == Some(out.len()) => Ok(out),
        finished => finished.map(|()| out),
    }
}

/// Name and size of a line of a listing; nothing for folders and lines that say no file.
fn listed(line: &str, machine: bool) -> Option<File> {
    if machine {
        ListParser::parse_mlsd(line).ok()
    } else {
        File::from_str(line).ok()
    }
}

impl Ftp {
    /// Nothing is asked of the server yet.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn new(place: FtpPlace) -> StorageResult<Self> {
        if place.host.is_empty() {
            return Err(StorageError::Invalid("the FTP server is missing".into()));
        }
        // A line break would end a command and begin another.
        for part in [&place.host, &place.user, &place.password, &place.folder] {
            if part.contains(['\r', '\n', '\0']) {
                return Err(StorageError::Invalid(
                    "FTP settings can not have line breaks".into(),
                ));
            }
        }
        let tls = (place.tls != FtpTls::None).then(|| tls_config(place.any_certificate));
        Ok(Self {
            tls: tls.transpose()?.map(Arc::new),
            place,
            pool: Mutex::default(),
            given_back: Condvar::new(),
        })
    }

    fn limit(&self) -> usize {
        match self.place.connections {
            0 => CONNECTIONS,
            n => n.min(MAX_CONNECTIONS),
        }
    }

    fn at(&self, path: &str) -> String {
        match self.place.folder.trim_end_matches('/') {
            "" if self.place.folder.is_empty() => path.to_string(),
            folder => format!("{folder}/{path}"),
        }
    }

    fn connect(&self) -> StorageResult<RustlsFtpStream> {
        let name = self.describe();
        let port = match (self.place.port, self.place.tls) {
            (0, FtpTls::Implicit) => 990,
            (0, _) => 21,
            (port, _) => port,
        };
        let host = self.place.host.as_str();
        let unreachable = |e: std::io::Error| StorageError::Unreachable(format!("{name}: {e}"));
        let mut last = None;
        for address in (host, port).to_socket_addrs().map_err(unreachable)? {
            // The library makes connections that are protected from their first byte by itself.
            let ftp = match (self.place.tls, &self.tls) {
                (FtpTls::Implicit, Some(tls)) => implicit(address, tls.clone(), host),
                _ => connected(address)
                    .map_err(FtpError::ConnectionError)
                    .and_then(|stream| self.greet(stream)),
            };
            match ftp {
                Ok(ftp) => return self.log_in(ftp, address),
                Err(FtpError::ConnectionError(e)) => last = Some(e),
                Err(e) => return Err(error(&name, e)),
            }
        }
        Err(last.map_or_else(
            || StorageError::Unreachable(format!("{name}: has no address")),
            unreachable,
        ))
    }

    fn greet(&self, stream: TcpStream) -> FtpResult<RustlsFtpStream> {
        let ftp = RustlsFtpStream::connect_with_stream(stream)?;
        match &self.tls {
            Some(tls) => ftp.into_secure(RustlsConnector::from(tls.clone()), &self.place.host),
            None => Ok(ftp),
        }
    }

    fn log_in(&self, ftp: RustlsFtpStream, address: SocketAddr) -> StorageResult<RustlsFtpStream> {
        let name = self.describe();
        let failed = |e| error(&name, e);
        let mut ftp =
            ftp.passive_stream_builder(|address| connected(address).map_err(FtpError::ConnectionError));
        // Addresses that a server behind a router tells are often not its own.
        ftp.set_passive_nat_workaround(true);
        if address.is_ipv6() {
            ftp.set_mode(suppaftp::Mode::ExtendedPassive);
        }
        ftp.login(self.place.user.as_str(), self.place.password.as_str())
            .and_then(|()| ftp.transfer_type(FileType::Binary))
            .map_err(failed)?;
        if self.place.tls == FtpTls::Implicit {
            // Transfers are to be protected as well (RFC 4217). Some servers take that for granted and refuse to be told.
            for command in ["PBSZ 0", "PROT P"] {
                match ftp.custom_command(command, &[Status::CommandOk]) {
                    Ok(_) | Err(FtpError::UnexpectedResponse(_)) => {}
                    Err(e) => return Err(failed(e)),
                }
            }
        }
        Ok(ftp)
    }

    /// Lends a connection to a call. One on which something went wrong is not used again.
    fn with<T>(&self, call: impl FnOnce(&mut RustlsFtpStream) -> StorageResult<T>) -> StorageResult<T> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        while pool.lent >= self.limit() {
            pool = self.given_back.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.lent += 1;
        let idle = pool.idle.pop();
        drop(pool);
        let mut lent = Lent { of: self, ftp: None };
        // A server may have closed it meanwhile.
        let mut ftp = match idle.and_then(|mut ftp| ftp.noop().ok().map(|()| ftp)) {
            Some(ftp) => ftp,
            None => self.connect()?,
        };
        let answer = call(&mut ftp);
        if matches!(answer, Ok(_) | Err(StorageError::NotFound(_))) {
            lent.ftp = Some(ftp);
        }
        answer
    }

    /// What a folder holds.
    fn entries(&self, folder: &str) -> StorageResult<Vec<File>> {
        retried("list", || {
            self.with(|ftp| {
                let machine = received(ftp, &format!("MLSD {folder}"), None);
                let (lines, machine) = match machine {
                    Err(FtpError::UnexpectedResponse(answer))
                        if matches!(
                            answer.status,
                            Status::BadCommand | Status::NotImplemented | Status::BadArguments
                        ) =>
                    {
                        (received(ftp, &format!("LIST {folder}"), None), false)
                    }
                    lines => (lines, true),
                };
                let text = lines.map_err(|e| error(folder, e))?;
                let text = String::from_utf8_lossy(&text);
                Ok(text.lines().filter_map(|line| listed(line, machine)).collect())
            })
        })
    }

    /// Makes the folders above a path; what is in the way is told by what is done next.
    fn make_folders(ftp: &mut RustlsFtpStream, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        for end in ends {
            let _ = ftp.mkdir(&path[..end]);
        }
    }

    fn read(&self, path: &str, offset: u64, length: Option<usize>) -> StorageResult<Vec<u8>> {
        let start = usize::try_from(offset).map_err(|_| StorageError::Other("too far into a file".into()))?;
        self.with(|ftp| {
            if offset > 0 {
                ftp.resume_transfer(start).map_err(|e| error(path, e))?;
            }
            received(ftp, &format!("RETR {path}"), length).map_err(|e| error(path, e))
        })
    }

    fn exists(ftp: &mut RustlsFtpStream, path: &str) -> StorageResult<bool> {
        match ftp.size(path).map_err(|e| error(path, e)) {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// A connection that is being used; it goes back where nothing went wrong.
struct Lent<'a> {
    of: &'a Ftp,
    ftp: Option<RustlsFtpStream>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.of.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.lent -= 1;
        pool.idle.extend(self.ftp.take());
        drop(pool);
        self.of.given_back.notify_one();
    }
}

impl Backend for Ftp {
    fn create(&self) -> StorageResult<()> {
        retried("create", || {
            self.with(|ftp| {
                for kind in FileKind::FOLDERS {
                    Self::make_folders(ftp, &self.at(&format!("{}/", kind.folder())));
                }
                Ok(())
            })?;
            self.entries(&self.at(FileKind::Pack.folder())).map(|_| ())
        })
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        let folder = self.at(kind.folder());
        let found = self.entries(&folder)?;
        let mut out: Vec<(String, u64)> = Vec::new();
        let mut add = |files: Vec<File>| {
            let files = files.iter().filter(|f| f.is_file() && f.name().len() == 64);
            out.extend(files.map(|f| (f.name().to_string(), f.size() as u64)));
        };
        if kind == FileKind::Pack {
            let folders = found.iter().filter(|f| f.is_directory() && f.name().len() == 2);
            let folders: Vec<String> = folders.map(|f| format!("{folder}/{}", f.name())).collect();
            let share = folders.len().div_ceil(self.limit()).max(1);
            let parts: Vec<StorageResult<Vec<File>>> = std::thread::scope(|scope| {
                let listing = folders.chunks(share).map(|part| {
                    scope.spawn(move || {
                        let mut files = Vec::new();
                        for folder in part {
                            files.extend(self.entries(folder)?);
                        }
                        Ok(files)
                    })
                });
                let listing: Vec<_> = listing.collect();
                let failed = || StorageError::Other("a listing broke off".into());
                listing
                    .into_iter()
                    .map(|part| part.join().unwrap_or_else(|_| Err(failed())))
                    .collect()
            });
            for part in parts {
                add(part?);
            }
        }
        add(found);
        Ok(out)
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let path = self.at(&path(kind, name));
        retried("get", || self.read(&path, 0, None))
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        if out.is_empty() {
            return Ok(());
        }
        let path = self.at(&path(kind, name));
        let read = retried("get", || self.read(&path, offset, Some(out.len())))?;
        if read.len() != out.len() {
            return Err(StorageError::Other(format!("{path}: shorter than expected")));
        }
        out.copy_from_slice(&read);
        Ok(())
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let path = self.at(&path(kind, name));
        retried("put", || {
            self.with(|ftp| {
                if Self::exists(ftp, &path)? {
                    return Ok(());
                }
                let draft = draft(&path);
                let stored = match ftp.put_with_stream(&draft) {
                    Err(FtpError::UnexpectedResponse(_)) => {
                        Self::make_folders(ftp, &path);
                        ftp.put_with_stream(&draft)
                    }
                    stored => stored,
                };
                let mut transfer = stored.map_err(|e| error(&draft, e))?;
                let written = transfer.write_all(content).and_then(|()| transfer.flush());
                let finished = transfer.finish().map_err(|e| error(&draft, e));
                // What the server says of the transfer tells more than that it broke off.
                let written = finished
                    .and_then(|()| written.map_err(|e| StorageError::Unreachable(format!("{draft}: {e}"))));
                let moved = written.and_then(|()| {
                    // What arrived is looked at: not every server tells of a transfer that was cut.
                    let size = ftp.size(&draft).map_err(|e| error(&draft, e))?;
                    if size != content.len() {
                        return Err(StorageError::Unreachable(format!(
                            "{draft}: {size} bytes arrived instead of {}",
                            content.len()
                        )));
                    }
                    ftp.rename(draft.as_str(), path.as_str())
                        .map_err(|e| error(&path, e))
                });
                if moved.is_err() {
                    let _ = ftp.rm(&draft);
                }
                moved
            })
        })
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let path = self.at(&path(kind, name));
        retried("delete", || {
            self.with(|ftp| match ftp.rm(&path).map_err(|e| error(&path, e)) {
                // "Not available" is also what may not be deleted.
                Err(StorageError::NotFound(_)) if Self::exists(ftp, &path)? => {
                    Err(StorageError::Other(format!("{path}: can not be deleted")))
                }
                Err(StorageError::NotFound(_)) => Ok(()),
                other => other,
            })
        })
    }

    fn ping(&self) -> StorageResult<()> {
        self.with(|ftp| ftp.pwd().map(|_| ()).map_err(|e| error(&self.describe(), e)))
    }

    fn describe(&self) -> String {
        let scheme = if self.place.tls == FtpTls::None {
            "ftp"
        } else {
            "ftps"
        };
        let folder = self.place.folder.trim_start_matches('/');
        format!("{scheme}://{}/{folder}", self.place.host)
    }

    fn parallel(&self) -> usize {
        self.limit()
    }

    fn is_local(&self) -> bool {
        false
    }
}
