//! Certificates from an authority that certifies by itself (ACME, RFC 8555): asked for when a listener starts that names
//! `AutoSSLDomains`, renewed when a third of their time is left. The authority looks at the listener itself
//! (`tls-alpn-01`, RFC 8737), or at any listener in clear (`http-01`).
//!
//! Account and certificates lie in the data folder, each a file that is written whole or not at all.

use super::{Surroundings, TlsError};
use crate::app::now;
use crate::start::write_private;
use crate::storage_templates::http::exchange;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use encke_api::types::HTTPConnectorOptions;
use http_body_util::BodyExt as _;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, HttpClient,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The protocol that an authority asks for when it looks at a certificate (RFC 8737, section 6.2).
pub(super) const TLS_PROTOCOL: &[u8] = b"acme-tls/1";
/// Where an authority looks in clear (RFC 8555, section 8.3).
pub(crate) const HTTP_PATH: &str = "/.well-known/acme-challenge/";
/// Most names in one certificate.
const MAX_DOMAINS: usize = 100;
/// Pauses after failures, the first and the longest: authorities count failures by the hour.
const PAUSES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 3600));
/// Longest time without a look at what is left of a certificate's.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// What this server answers to authorities, on all its listeners.
#[derive(Debug, Default)]
pub struct Answers {
    /// By token.
    http: RwLock<HashMap<String, String>>,
    /// By domain.
    tls: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl Answers {
    /// The answer for a token.
    pub(crate) fn http(&self, token: &str) -> Response {
        let known = self.http.read().get(token).cloned();
        let status = if known.is_some() {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        };
        let mut response = Response::new(Body::from(known.unwrap_or_default()));
        *response.status_mut() = status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        response
    }
}

/// The domains that a listener shall have certificates for.
pub(super) fn domains(options: &HTTPConnectorOptions) -> Result<Vec<String>, TlsError> {
    let mut domains: Vec<String> = options
        .auto_ssl_domains
        .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|d| !d.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    domains.sort();
    domains.dedup();
    if domains.is_empty() {
        return Ok(domains);
    }
    let files = [
        &options.ssl_cert_path,
        &options.ssl_cert_key,
        &options.ssl_pfx_path,
    ];
    if files.iter().any(|f| !f.is_empty()) {
        return Err(TlsError::Settings(
            "AutoSSLDomains needs no certificate files; leave them out".into(),
        ));
    }
    let is_domain = |d: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        d.len() <= 253
            && d.chars().all(plain)
            && !d.starts_with(['.', '-'])
            && d.parse::<std::net::IpAddr>().is_err()
    };
    if domains.len() > MAX_DOMAINS || !domains.iter().all(is_domain) {
        return Err(TlsError::Settings(format!(
            "AutoSSLDomains are at most {MAX_DOMAINS} names such as backup.example.com, between commas"
        )));
    }
    Ok(domains)
}

/// Hands out what was certified, to those who ask for one of the domains, and to authorities what they look for.
#[derive(Debug)]
struct Certified {
    domains: Vec<String>,
    present: RwLock<Option<Arc<CertifiedKey>>>,
    answers: Arc<Answers>,
}

impl ResolvesServerCert for Certified {
    fn resolve(&self, hello: ClientHello) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        if hello.alpn().is_some_and(|mut all| all.any(|p| p == TLS_PROTOCOL)) {
            return self.answers.tls.read().get(&name).cloned();
        }
        if !self.domains.contains(&name) {
            return None;
        }
        self.present.read().clone()
    }
}

/// Has a listener's domains certified, from now until the server stops.
pub(super) fn certify(
    domains: Vec<String>,
    with: &Surroundings<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ResolvesServerCert>, TlsError> {
    let certified = Arc::new(Certified {
        domains,
        present: RwLock::new(None),
        answers: with.answers.clone(),
    });
    let worker = Worker {
        folder: with.data_dir.join("acme"),
        directory: with.directory.to_string(),
        certified: certified.clone(),
        provider: provider.clone(),
    };
    std::fs::create_dir_all(&worker.folder)
        .and_then(|()| only_ours(&worker.folder))
        .map_err(|e| TlsError::File(worker.folder.clone(), e.to_string()))?;
    tokio::spawn(worker.run(with.stopping.clone()));
    Ok(certified)
}

fn only_ours(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// A certificate with its key, and when it is to be renewed.
struct Loaded {
    key: CertifiedKey,
    /// Unix seconds.
    renew_at: i64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Talks to the authority by the client that all calls of this server go out by.
struct Http;

impl HttpClient for Http {
    fn request(
        &self,
        request: axum::http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let request = axum::http::Request::from_parts(parts, body);
            let answer = exchange(request).await;
            let (parts, body) = answer
                .map_err(|e| instant_acme::Error::Other(Box::new(e)))?
                .into_parts();
            Ok(BytesResponse {
                parts,
                body: Box::new(Bytes::from(body)),
            })
        })
    }
}

struct Worker {
    folder: PathBuf,
    directory: String,
    certified: Arc<Certified>,
    provider: Arc<CryptoProvider>,
}

impl Worker {
    fn file(&self, kind: &str, of: &str) -> PathBuf {
        let hash = hex::encode(&Sha256::digest(format!("{}\0{of}", self.directory))[..16]);
        self.folder.join(format!(
            "{kind}-{hash}.{}",
            if kind == "account" { "json" } else { "pem" }
        ))
    }

    fn certificate_file(&self) -> PathBuf {
        self.file("certificate", &self.certified.domains.join(","))
    }

    async fn run(self, stopping: CancellationToken) {
        let mut renew_at = match self.load() {
            Ok(Some(loaded)) => self.take_over(loaded),
            Ok(None) => 0,
            Err(e) => {
                tracing::warn!(error = %e, "the kept certificate can not be used; a new one is asked for");
                0
            }
        };
        let mut failures = 0;
        loop {
            let wait = if failures > 0 {
                let doubled = PAUSES.0 * 2u32.pow((failures - 1).min(10));
                doubled.min(PAUSES.1)
            } else {
                let left = u64::try_from(renew_at - now()).unwrap_or(0);
                LOOK_AGAIN.min(Duration::from_secs(left))
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            if renew_at > now() {
                continue;
            }
            let obtained = tokio::select! {
                () = stopping.cancelled() => return,
                obtained = self.obtain_either_way() => obtained,
            };
            match obtained {
                Ok(loaded) => {
                    failures = 0;
                    renew_at = self.take_over(loaded);
                    tracing::info!(domains = self.certified.domains.join(" "), "certified anew");
                }
                Err(e) => {
                    failures += 1;
                    tracing::error!(
                        domains = self.certified.domains.join(" "), authority = self.directory, error = %e,
                        "the domains could not be certified; tried again later"
                    );
                }
            }
        }
    }

    fn take_over(&self, loaded: Loaded) -> i64 {
        *self.certified.present.write() = Some(Arc::new(loaded.key));
        loaded.renew_at
    }

    /// What was certified before.
    fn load(&self) -> Result<Option<Loaded>, Failure> {
        match std::fs::read(self.certificate_file()) {
            Ok(pem) => self.parse(&pem).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn parse(&self, pem: &[u8]) -> Result<Loaded, Failure> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
        let first = chain.first().ok_or("it holds no certificate")?.clone();
        let key = CertifiedKey::from_der(chain, PrivateKeyDer::from_pem_slice(pem)?, &self.provider)?;
        let (_, read) = x509_parser::parse_x509_certificate(&first)?;
        let (from, to) = (
            read.validity().not_before.timestamp(),
            read.validity().not_after.timestamp(),
        );
        Ok(Loaded {
            key,
            renew_at: to - (to - from) / 3,
        })
    }

    async fn account(&self) -> Result<Account, Failure> {
        let file = self.file("account", "");
        let builder = || Account::builder_with_http(Box::new(Http));
        if let Ok(text) = std::fs::read(&file) {
            let kept: AccountCredentials = serde_json::from_slice(&text)?;
            return Ok(builder().from_credentials(kept).await?);
        }
        let wanted = NewAccount {
            contact: &[],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder().create(&wanted, self.directory.clone(), None).await?;
        write_private(&file, &serde_json::to_vec(&credentials)?)?;
        Ok(account)
    }

    /// A proxy may pass the one way of looking and not the other.
    async fn obtain_either_way(&self) -> Result<Loaded, Failure> {
        match self.obtain(ChallengeType::TlsAlpn01).await {
            Ok(loaded) => Ok(loaded),
            Err(e) => {
                tracing::warn!(error = %e, "the authority could not look by TLS; it is asked to look by http");
                self.obtain(ChallengeType::Http01).await
            }
        }
    }

    async fn obtain(&self, kind: ChallengeType) -> Result<Loaded, Failure> {
        let account = self.account().await?;
        let names: Vec<Identifier> = self
            .certified
            .domains
            .iter()
            .cloned()
            .map(Identifier::Dns)
            .collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut given = Given {
            answers: self.certified.answers.clone(),
            http: Vec::new(),
            tls: Vec::new(),
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                other => return Err(format!("the authority says {other:?}").into()),
            }
            let mut challenge = authorization
                .challenge(kind.clone())
                .ok_or_else(|| format!("the authority does not look by {kind:?}"))?;
            let name = challenge.identifier().to_string();
            let answer = challenge.key_authorization();
            if kind == ChallengeType::Http01 {
                given.http(&challenge.token, answer.as_str());
            } else {
                given.tls(&name, answer.digest().as_ref(), &self.provider)?;
            }
            challenge.set_ready().await?;
        }
        let status = order.poll_ready(&RetryPolicy::default()).await?;
        if status != OrderStatus::Ready {
            let reason = order.state().error.as_ref().map(ToString::to_string);
            return Err(format!("the order is {status:?}: {}", reason.unwrap_or_default()).into());
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&RetryPolicy::default()).await?;
        let pem = format!("{key}{chain}");
        let loaded = self.parse(pem.as_bytes())?;
        write_private(&self.certificate_file(), pem.as_bytes())?;
        Ok(loaded)
    }
}

/// Answers that are there for as long as an order runs.
struct Given {
    answers: Arc<Answers>,
    http: Vec<String>,
    tls: Vec<String>,
}

impl Given {
    fn http(&mut self, token: &str, answer: &str) {
        self.http.push(token.to_string());
        self.answers
            .http
            .write()
            .insert(token.to_string(), answer.to_string());
    }

    fn tls(&mut self, name: &str, digest: &[u8], provider: &CryptoProvider) -> Result<(), Failure> {
        let mut params = CertificateParams::new(vec![name.to_string()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        // Not compared with the certificate: the library does not read one with the extension that authorities look for.
        let certified = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
        self.tls.push(name.to_string());
        self.answers
            .tls
            .write()
            .insert(name.to_string(), Arc::new(certified));
        Ok(())
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.http
            .iter()
            .for_each(|t| drop(self.answers.http.write().remove(t)));
        self.tls
            .iter()
            .for_each(|n| drop(self.answers.tls.write().remove(n)));
    }
}
