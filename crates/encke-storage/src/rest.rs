//! A server that speaks restic's REST protocol, version 2 (restic documentation, "REST Backend").

#![cfg(feature = "network")]

use crate::again::{read_part, retried};
use crate::http::{Answer, client, range, request, send};
use crate::{Backend, FileKind, StorageError, StorageResult};
use base64::Engine as _;
use ureq::http::StatusCode;

/// Media type of the protocol's second version.
const V2: &str = "application/vnd.x.restic.rest.v2";
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
        let authorization = credentials.map(|(user, password)| {
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
            )
        });
        Self {
            agent: client(),
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

    fn call(&self, method: &str, url: &str, more: &[(&str, &str)], content: &[u8]) -> StorageResult<Answer> {
        let mut headers = more.to_vec();
        headers.extend(
            self.authorization
                .iter()
                .map(|value| ("authorization", value.as_str())),
        );
        send(&self.agent, request(method, url, &headers, content)?)?.check(url)
    }

    fn read(&self, url: &str, part: Option<(u64, usize)>, accept: Option<&str>) -> StorageResult<Vec<u8>> {
        let range = part.map(|(offset, length)| range(offset, length));
        let mut headers: Vec<(&str, &str)> = accept.iter().map(|kind| ("accept", *kind)).collect();
        headers.extend(range.iter().map(|range| ("range", range.as_str())));
        let answer = self.call("GET", url, &headers, &[])?;
        let short = || StorageError::Other(format!("{url}: shorter than expected"));
        match part {
            Some((offset, length)) if answer.status != StatusCode::PARTIAL_CONTENT => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = answer.body.get(start..start.saturating_add(length));
                part.map(<[u8]>::to_vec).ok_or_else(short)
            }
            Some((_, length)) if answer.body.len() != length => Err(short()),
            _ => Ok(answer.body),
        }
    }

    fn post(&self, url: &str, content: &[u8]) -> StorageResult<()> {
        let kind = [("content-type", "application/octet-stream")];
        self.call("POST", url, &kind, content).map(|_| ())
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
        let (url, length) = (self.url(kind, name), out.len());
        read_part(out, || self.read(&url, Some((offset, length)), None))
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let url = self.url(kind, name);
        retried("put", || self.post(&url, content))
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let url = self.url(kind, name);
        retried("delete", || {
            match self.call("DELETE", &url, &[], &[]).map(|_| ()) {
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
