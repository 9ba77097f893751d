//! TLS of a listener (reference, section 2): certificates and keys in PEM or PKCS #12 files, read anew when they are
//! renewed, or from an authority that certifies by itself ([`acme`]).

mod acme;
mod redirect;

pub(crate) use acme::{Answers, HTTP_PATH};
pub(crate) use redirect::{missing_redirects, router as redirecting};

use crate::secrets::{self, Confidential};
use encke_api::ApiResult;
use encke_api::account_keys::WrappingKey;
use encke_api::types::HTTPConnectorOptions;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at for a renewal.
const RENEWAL_TIME: Duration = Duration::from_secs(10);

/// What is wrong with a listener's TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can not be used; the text says why.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// Certificate and key do not go together, or are of a kind nobody takes.
    #[error("the certificate can not be used: {0}")]
    Certificate(String),
    /// Settings that contradict each other or say nothing.
    #[error("{0}")]
    Settings(String),
}

impl Confidential for HTTPConnectorOptions {
    const NAME: &'static str = "listener with the certificate file";
    const PLACE: &'static str = "listener";

    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String)) {
        visit("SSLPfxPassword", &mut self.ssl_pfx_password);
    }

    fn addresses(&self) -> Vec<&str> {
        vec![&self.ssl_pfx_path]
    }
}

/// Listeners as they leave the server.
pub(crate) fn obscured(listeners: &[HTTPConnectorOptions]) -> Vec<HTTPConnectorOptions> {
    listeners.iter().map(secrets::obscured).collect()
}

/// Makes listeners that somebody wrote ready to be kept in place of `present`: a password belongs to its file.
///
/// # Errors
/// As [`secrets::adopt`].
pub(crate) fn adopt(
    key: &WrappingKey,
    present: &[HTTPConnectorOptions],
    wanted: &mut [HTTPConnectorOptions],
) -> ApiResult<()> {
    for listener in wanted {
        let path = listener.ssl_pfx_path.clone();
        let old = present.iter().find(|p| p.ssl_pfx_path == path);
        secrets::adopt(key, &path, old, listener)?;
    }
    Ok(())
}

/// Where a listener's certificate and key come from.
#[derive(Clone, Debug)]
enum Files {
    /// Text files.
    Pem {
        certificate: PathBuf,
        chain: Option<PathBuf>,
        key: PathBuf,
    },
    /// All in one file (PKCS #12, RFC 7292).
    Pfx { path: PathBuf, password: String },
}

impl Files {
    fn of(options: &HTTPConnectorOptions) -> Result<Option<Self>, TlsError> {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let pem = (path(&options.ssl_cert_path), path(&options.ssl_cert_key));
        match (path(&options.ssl_pfx_path), pem) {
            (None, (None, None)) if options.ssl_intermediate.is_empty() => Ok(None),
            (None, (Some(certificate), Some(key))) => Ok(Some(Self::Pem {
                certificate,
                chain: path(&options.ssl_intermediate),
                key,
            })),
            (Some(path), (None, None)) if options.ssl_intermediate.is_empty() => Ok(Some(Self::Pfx {
                path,
                password: options.ssl_pfx_password.clone(),
            })),
            (Some(_), _) => Err(TlsError::Settings(
                "SSLPfxPath holds certificate and key alone; leave out the PEM files".into(),
            )),
            (None, _) => Err(TlsError::Settings(
                "SSLCertPath and SSLCertKey go together".into(),
            )),
        }
    }

    /// The file that names it in the log.
    fn main(&self) -> &Path {
        match self {
            Self::Pem { certificate, .. } => certificate,
            Self::Pfx { path, .. } => path,
        }
    }

    /// When the newest of them was written.
    fn written(&self) -> Option<SystemTime> {
        let all: Vec<&PathBuf> = match self {
            Self::Pem {
                certificate,
                chain,
                key,
            } => [certificate, key].into_iter().chain(chain).collect(),
            Self::Pfx { path, .. } => vec![path],
        };
        all.iter()
            .filter_map(|p| std::fs::metadata(p).and_then(|m| m.modified()).ok())
            .max()
    }

    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let (chain, key) = match self {
            Self::Pem {
                certificate,
                chain,
                key,
            } => {
                let mut all = certificates(certificate)?;
                if let Some(path) = chain {
                    all.extend(certificates(path)?);
                }
                let key_file = PrivateKeyDer::from_pem_file(key).map_err(|e| {
                    TlsError::File(key.clone(), format!("not an unencrypted private key in PEM: {e}"))
                })?;
                (all, key_file)
            }
            Self::Pfx { path, password } => pfx(path, password)?,
        };
        let loaded = CertifiedKey::from_der(chain, key, provider);
        loaded.map_err(|e| TlsError::Certificate(e.to_string()))
    }
}

fn pfx(
    path: &Path,
    password: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let wrong = |why: String| TlsError::File(path.to_path_buf(), why);
    let data = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let store = KeyStore::from_pkcs12(&data, password, Pkcs12ImportPolicy::Strict)
        .map_err(|e| wrong(format!("not a PKCS #12 file that SSLPfxPassword opens: {e}")))?;
    let (_, chain) = store
        .private_key_chain()
        .ok_or_else(|| wrong("holds no certificate with its private key".into()))?;
    let certificates = chain
        .certs()
        .iter()
        .map(|c| CertificateDer::from(c.as_der().to_vec()))
        .collect();
    let key = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
    Ok((certificates, key.into()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |e: rustls::pki_types::pem::Error| {
        TlsError::File(path.to_path_buf(), format!("not certificates in PEM: {e}"))
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    let all = all.map_err(wrong)?;
    if all.is_empty() {
        return Err(TlsError::File(path.to_path_buf(), "holds no certificate".into()));
    }
    Ok(all)
}

/// Hands the present certificate to every new connection.
#[derive(Debug)]
struct Present(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

/// What listeners share.
pub(crate) struct Surroundings<'a> {
    /// Opens passwords of certificate files.
    pub key: &'a WrappingKey,
    /// Folder of what authorities certified.
    pub data_dir: &'a Path,
    /// Address of the authority's directory (RFC 8555, section 7.1.1).
    pub directory: &'a str,
    /// What this server answers to authorities.
    pub answers: &'a Arc<Answers>,
    /// Cancelled when the server stops.
    pub stopping: &'a CancellationToken,
}

/// TLS 1.2 or newer for a listener; nothing for one in clear. Follows renewals until `stopping`.
///
/// # Errors
/// The settings contradict each other, or name files that can not be used.
pub(crate) fn acceptor(
    options: &HTTPConnectorOptions,
    with: &Surroundings<'_>,
) -> Result<Option<TlsAcceptor>, TlsError> {
    let options = secrets::opened(with.key, &options.ssl_pfx_path, options)
        .map_err(|e| TlsError::Settings(e.message))?;
    let provider = Arc::new(ring::default_provider());
    let domains = acme::domains(&options)?;
    let mut protocols = vec![b"http/1.1".to_vec()];
    let resolver: Arc<dyn ResolvesServerCert> = if !domains.is_empty() {
        protocols.push(acme::TLS_PROTOCOL.to_vec());
        acme::certify(domains, with, &provider)?
    } else if let Some(files) = Files::of(&options)? {
        let written = files.written();
        let present = Arc::new(Present(RwLock::new(Arc::new(files.load(&provider)?))));
        tokio::spawn(follow(
            files,
            written,
            present.clone(),
            provider.clone(),
            with.stopping.clone(),
        ));
        present
    } else {
        return Ok(None);
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Certificate(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = protocols;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Whether a connection was made by an authority to look at a certificate, and is to be closed.
pub(crate) fn is_inspection<S>(connection: &tokio_rustls::server::TlsStream<S>) -> bool {
    connection.get_ref().1.alpn_protocol() == Some(acme::TLS_PROTOCOL)
}

/// Whether the settings can be used.
///
/// # Errors
/// As [`acceptor`].
pub(crate) fn check(key: &WrappingKey, options: &HTTPConnectorOptions) -> Result<(), TlsError> {
    let options =
        secrets::opened(key, &options.ssl_pfx_path, options).map_err(|e| TlsError::Settings(e.message))?;
    if acme::domains(&options)?.is_empty()
        && let Some(files) = Files::of(&options)?
    {
        files.load(&ring::default_provider())?;
    }
    Ok(())
}

/// Whether a listener speaks TLS.
pub(crate) fn is_tls(options: &HTTPConnectorOptions) -> bool {
    [
        &options.auto_ssl_domains,
        &options.ssl_cert_path,
        &options.ssl_cert_key,
        &options.ssl_pfx_path,
    ]
    .iter()
    .any(|o| !o.is_empty())
}

/// Takes over renewed files. Half a renewal (the key is written before the certificate) fails and is tried again.
async fn follow(
    files: Files,
    mut written: Option<SystemTime>,
    present: Arc<Present>,
    provider: Arc<CryptoProvider>,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(RENEWAL_TIME) => {}
        }
        let (again, with) = (files.clone(), provider.clone());
        let before = written;
        let looked = tokio::task::spawn_blocking(move || {
            let now = again.written();
            (now != before).then(|| (now, again.load(&with)))
        });
        match looked.await {
            Ok(Some((now, Ok(key)))) => {
                *present.0.write() = Arc::new(key);
                written = now;
                tracing::info!(certificate = %files.main().display(), "took over a renewed certificate");
            }
            Ok(Some((_, Err(e)))) => {
                tracing::warn!(error = %e, "a renewed certificate can not be used yet; the one before stays");
            }
            Ok(None) | Err(_) => {}
        }
    }
}
