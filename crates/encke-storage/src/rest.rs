//! A server that speaks restic's REST protocol, version 2 (restic documentation, "REST Backend").

use crate::again::retried;
use crate::{Backend, FileKind, StorageError, StorageResult};
use base64::Engine as _;
use std::io::Read as _;
use std::time::Duration;
use ureq::http::StatusCode;

/// Media type of the protocol's second version.
const V2: &str = "application/vnd.x.restic.rest.v2";
/// Silence on a connection after which a try is given up.
const IDLE: Duration = Duration::from_secs(60);
/// Largest answer read into memory: a listing of some ten million files.
const MAX_ANSWER: u64 = 1 << 30;

/// A repository on a REST server.
pub struct Rest {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
}

#[derive(serde::Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl Rest {
    /// `base` is the repository's URL; `credentials` are user and password for HTTP Basic.
    #[must_use]
    pub fn new(base: &str, credentials: Option<(&str, &str)>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(crate::trust::tls())
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(120)))
            .timeout_recv_body(Some(Duration::from_secs(600)))
            .timeout_send_body(Some(Duration::from_secs(600)))
            .max_idle_connections_per_host(16)
            .max_idle_age(IDLE)
            .build();
        let authorization = credentials.map(|(user, password)| {
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
            )
        });
        Self {
            agent: config.into(),
            base: format!("{}/", base.trim_end_matches('/')),
            authorization,
        }
    }

    /// From `http(s)://user:password@host/path/`.
    ///
    /// # Errors
    /// The URL can not be understood.
    pub fn from_url(url: &str) -> StorageResult<Self> {
        let invalid =
            || StorageError::Other("a REST location looks like rest:https://user:password@host/path/".into());
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        if scheme != "http" && scheme != "https" {
            return Err(invalid());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        match authority.rsplit_once('@') {
            None => Ok(Self::new(url, None)),
            Some((login, host)) => {
                let (user, password) = login.split_once(':').ok_or_else(invalid)?;
                Ok(Self::new(
                    &format!("{scheme}://{host}/{path}"),
                    Some((&unescape(user), &unescape(password))),
                ))
            }
        }
    }

    fn url(&self, kind: FileKind, name: &str) -> String {
        match kind {
            FileKind::Config => format!("{}config", self.base),
            _ => format!("{}{}/{name}", self.base, kind.folder()),
        }
    }

    fn read(&self, url: &str, range: Option<(u64, usize)>, accept: Option<&str>) -> StorageResult<Vec<u8>> {
        let mut request = self.agent.get(url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        if let Some((offset, length)) = range {
            request = request.header("range", format!("bytes={offset}-{}", offset + length as u64 - 1));
        }
        let mut response = request.call().map_err(|e| unreachable(&e))?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        check(response.status(), url)?;
        let mut out = Vec::with_capacity(range.map_or(0, |r| r.1));
        response
            .body_mut()
            .as_reader()
            .take(MAX_ANSWER)
            .read_to_end(&mut out)
            .map_err(|e| StorageError::Unreachable(e.to_string()))?;
        match range {
            Some((offset, length)) if !partial => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = out.get(start..start.saturating_add(length));
                part.map(<[u8]>::to_vec)
                    .ok_or_else(|| StorageError::Other(format!("{url}: shorter than expected")))
            }
            Some((_, length)) if out.len() != length => {
                Err(StorageError::Other(format!("{url}: shorter than expected")))
            }
            _ => Ok(out),
        }
    }

    fn post(&self, url: &str, content: &[u8]) -> StorageResult<()> {
        let mut request = self
            .agent
            .post(url)
            .header("content-type", "application/octet-stream");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = request.send(content).map_err(|e| unreachable(&e))?;
        let status = response.status();
        // Reading the answer gives the connection back for the next call.
        let _ = response.body_mut().read_to_string();
        check(status, url)
    }
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let hex = text
            .get(i + 1..i + 3)
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex {
            Some(b) if bytes[i] == b'%' => {
                out.push(b);
                i += 3;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn unreachable(e: &ureq::Error) -> StorageError {
    StorageError::Unreachable(e.to_string())
}

fn check(status: StatusCode, url: &str) -> StorageResult<()> {
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 => Err(StorageError::Unauthorised),
        404 => Err(StorageError::NotFound(url.to_string())),
        413 | 507 => Err(StorageError::Full),
        408 | 429 | 500 | 502..=504 => Err(StorageError::Unreachable(format!("{url}: status {status}"))),
        _ => Err(StorageError::Other(format!("{url}: status {status}"))),
    }
}

impl Backend for Rest {
    fn create(&self) -> StorageResult<()> {
        retried("create", || self.post(&format!("{}?create=true", self.base), &[]))
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        let url = format!("{}{}/", self.base, kind.folder());
        let text = match retried("list", || self.read(&url, None, Some(V2))) {
            // A server may not know a folder nothing was written to.
            Err(StorageError::NotFound(_)) => return Ok(Vec::new()),
            r => r?,
        };
        let listed: Vec<Listed> = serde_json::from_slice(&text)
            .map_err(|e| StorageError::Other(format!("{url}: not a listing of protocol version 2: {e}")))?;
        Ok(listed.into_iter().map(|l| (l.name, l.size)).collect())
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let url = self.url(kind, name);
        retried("get", || self.read(&url, None, None))
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        if out.is_empty() {
            return Ok(());
        }
        let url = self.url(kind, name);
        let read = retried("get", || self.read(&url, Some((offset, out.len())), None))?;
        out.copy_from_slice(&read);
        Ok(())
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let url = self.url(kind, name);
        retried("put", || self.post(&url, content))
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let url = self.url(kind, name);
        retried("delete", || {
            let mut request = self.agent.delete(&url);
            if let Some(authorization) = &self.authorization {
                request = request.header("authorization", authorization);
            }
            let response = request.call().map_err(|e| unreachable(&e))?;
            match check(response.status(), &url) {
                Err(StorageError::NotFound(_)) => Ok(()),
                r => r,
            }
        })
    }

    fn ping(&self) -> StorageResult<()> {
        let url = format!("{}{}/", self.base, FileKind::Snapshot.folder());
        match self.read(&url, None, Some(V2)) {
            // A server may not know a folder nothing was written to.
            Ok(_) | Err(StorageError::NotFound(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn describe(&self) -> String {
        self.base.clone()
    }

    fn parallel(&self) -> usize {
        4
    }

    fn is_local(&self) -> bool {
        false
    }
}
