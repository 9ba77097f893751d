//! TLS to database servers.

use super::{Address, SourceError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::sync::Arc;

/// How a connection to a database server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Not at all.
    Off,
    /// Encrypted where the server offers it. Whoever is between can listen by pretending that it does not.
    #[default]
    Preferred,
    /// Encrypted, whoever the server is.
    Required,
    /// Encrypted, to a server whose certificate is for this host and by an authority that is trusted: those of the
    /// address, else those of the system.
    Verified,
}

impl Tls {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn wrong(e: impl std::fmt::Display) -> SourceError {
    SourceError::Source(format!("TLS can not be set up: {e}"))
}

/// The certificates of authorities in a text (RFC 7468).
fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(crate::template::Refused("`ca` holds no certificate in PEM form".into()).into()),
    }
}

fn trusted(address: &Address) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    match &address.ca {
        Some(pem) => authorities(pem),
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

/// Takes any certificate: the connection is encrypted, and nothing more is promised.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Settings that trust the system's authorities.
///
/// # Errors
/// No protocol can be spoken; which does not happen.
pub fn system_tls() -> Result<ClientConfig, SourceError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(builder
        .map_err(wrong)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The settings for PostgreSQL.
pub(super) fn config(address: &Address) -> Result<ClientConfig, SourceError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    if address.tls != Tls::Verified {
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted(address)?);
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The settings for MySQL and MariaDB, with the file of authorities they name: it has to be there while connecting. The
/// driver itself trusts Mozilla's authorities besides.
pub(super) fn options(
    address: &Address,
) -> Result<Option<(mysql::SslOpts, tempfile::NamedTempFile)>, SourceError> {
    // The driver asks for the process's own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = mysql::SslOpts::default();
    let mut file = tempfile::NamedTempFile::new().map_err(wrong)?;
    match address.tls {
        Tls::Off => return Ok(None),
        Tls::Preferred | Tls::Required => {
            return Ok(Some((options.with_danger_accept_invalid_certs(true), file)));
        }
        Tls::Verified => {}
    }
    for certificate in trusted(address)? {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&certificate);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .filter_map(|l| std::str::from_utf8(l).ok())
            .collect();
        writeln!(
            file,
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
            lines.join("\n")
        )
        .map_err(wrong)?;
    }
    file.flush().map_err(wrong)?;
    Ok(Some((
        options.with_root_cert_path(Some(file.path().to_path_buf())),
        file,
    )))
}
