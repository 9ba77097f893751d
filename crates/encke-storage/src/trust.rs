//! Which certificates of servers are believed: the system's, which include a company's own and those that
//! `SSL_CERT_FILE` names; the well-known ones where the system has none.

#![cfg(feature = "network")]

use rustls::pki_types::CertificateDer;
use std::sync::{Arc, LazyLock};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The system's certificates, read once.
pub(crate) static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificates can not be read");
    }
    found.certs
});

/// TLS settings of every HTTP client of ours.
#[must_use]
pub fn tls() -> TlsConfig {
    static ROOTS: LazyLock<RootCerts> = LazyLock::new(|| {
        if SYSTEM.is_empty() {
            return RootCerts::WebPki;
        }
        let certificates = SYSTEM.iter().map(|c| Certificate::from_der(c).to_owned());
        RootCerts::Specific(Arc::new(certificates.collect()))
    });
    TlsConfig::builder().root_certs(ROOTS.clone()).build()
}
