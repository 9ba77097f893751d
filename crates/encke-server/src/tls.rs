//! TLS of a listener: certificates and keys in PEM files (reference, section 2), read anew when they are renewed.

use encke_api::types::HTTPConnectorOptions;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
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
    /// Not possible with this version.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A file that can not be used; the text says why.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// Certificate and key do not go together, or are of a kind nobody takes.
    #[error("the certificate can not be used: {0}")]
    Certificate(String),
}

/// The files of a listener.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    chain: Option<PathBuf>,
    key: PathBuf,
}

impl Files {
    fn of(options: &HTTPConnectorOptions) -> Result<Option<Self>, TlsError> {
        if !options.auto_ssl_domains.is_empty() {
            return Err(TlsError::Unsupported(
                "AutoSSLDomains is not available yet; name PEM files in SSLCertPath and SSLCertKey, which are read anew when they are renewed",
            ));
        }
        if !options.ssl_pfx_path.is_empty() {
            return Err(TlsError::Unsupported(
                "SSLPfxPath is not available yet; name PEM files in SSLCertPath and SSLCertKey",
            ));
        }
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        match (path(&options.ssl_cert_path), path(&options.ssl_cert_key)) {
            (None, None) if options.ssl_intermediate.is_empty() => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self {
                certificate,
                chain: path(&options.ssl_intermediate),
                key,
            })),
            _ => Err(TlsError::Certificate(
                "SSLCertPath and SSLCertKey go together".into(),
            )),
        }
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.chain)
    }

    /// When the newest of them was written.
    fn written(&self) -> Option<SystemTime> {
        self.all()
            .filter_map(|p| std::fs::metadata(p).and_then(|m| m.modified()).ok())
            .max()
    }

    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let mut chain = certificates(&self.certificate)?;
        if let Some(path) = &self.chain {
            chain.extend(certificates(path)?);
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| {
            TlsError::File(
                self.key.clone(),
                format!("not an unencrypted private key in PEM: {e}"),
            )
        })?;
        let loaded = CertifiedKey::from_der(chain, key, provider);
        loaded.map_err(|e| TlsError::Certificate(e.to_string()))
    }
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

/// TLS 1.2 or newer for a listener; nothing for one in clear. Follows renewals until `stopping`.
///
/// # Errors
/// The settings name what is not possible, or files that can not be used.
pub fn acceptor(
    options: &HTTPConnectorOptions,
    stopping: &CancellationToken,
) -> Result<Option<TlsAcceptor>, TlsError> {
    let Some(files) = Files::of(options)? else {
        return Ok(None);
    };
    let provider = Arc::new(ring::default_provider());
    let written = files.written();
    let present = Arc::new(Present(RwLock::new(Arc::new(files.load(&provider)?))));
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Certificate(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(present.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    tokio::spawn(follow(files, written, present, provider, stopping.clone()));
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Whether the settings can be used.
///
/// # Errors
/// As [`acceptor`].
pub fn check(options: &HTTPConnectorOptions) -> Result<(), TlsError> {
    if let Some(files) = Files::of(options)? {
        files.load(&ring::default_provider())?;
    }
    Ok(())
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
                tracing::info!(certificate = %files.certificate.display(), "took over a renewed certificate");
            }
            Ok(Some((_, Err(e)))) => {
                tracing::warn!(error = %e, "a renewed certificate can not be used yet; the one before stays");
            }
            Ok(None) | Err(_) => {}
        }
    }
}
