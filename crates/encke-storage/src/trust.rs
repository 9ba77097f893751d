//! Which certificates of servers are believed: the system's, which include a company's own and those that
//! `SSL_CERT_FILE` names; the well-known ones where the system has none.

use std::sync::{Arc, OnceLock};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// TLS settings of every HTTP client of ours.
#[must_use]
pub fn tls() -> TlsConfig {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's certificates can not be read");
        }
        if found.certs.is_empty() {
            return RootCerts::WebPki;
        }
        let certificates = found.certs.iter().map(|c| Certificate::from_der(c).to_owned());
        RootCerts::Specific(Arc::new(certificates.collect()))
    });
    TlsConfig::builder().root_certs(roots.clone()).build()
}
