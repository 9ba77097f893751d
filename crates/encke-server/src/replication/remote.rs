//! The other server: its published API, the calls of our own for what that does not carry, and its buckets.

use super::entries::Entries;
use crate::storage_role::{Kind, Object};
use encke_store::BucketId;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::Mutex;

/// A connection is made within this time.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Something is heard of the other server within this time.
const SILENCE: Duration = Duration::from_secs(120);
/// A call without much to carry is answered within this time.
const CALL_TIME: Duration = Duration::from_secs(120);
/// Largest answer that is read at once, in bytes: the hashes of half a million accounts.
const MAX_ANSWER: usize = 64 << 20;
/// Largest configuration of a repository that is compared; they have a few hundred bytes.
const MAX_CONFIG: usize = 1 << 20;
/// An object in a list, in bytes.
const MAX_ENTRY: usize = 4096;

/// Name of an object, as bytes.
pub(super) type Name = [u8; 32];

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The other server can not be reached, or does not let this one in. Nothing else will be done either.
    Away(String),
    /// It does not do this one thing.
    Refused {
        /// Of the envelope, or of the transport.
        status: u16,
        /// What it says.
        message: String,
    },
    /// This server could not read its own.
    Here(String),
}

impl Failure {
    /// For people.
    pub(crate) fn text(&self) -> String {
        match self {
            Failure::Away(t) | Failure::Here(t) => t.clone(),
            Failure::Refused { status, message } => format!("{message} ({status})"),
        }
    }

    /// The same where nothing else will work: it keeps the whole channel waiting.
    pub(super) fn everything(self) -> Self {
        Failure::Away(self.text())
    }

    /// Whether there is no such thing there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Failure::Refused { status: 404, .. })
    }
}

/// The one client. It follows no redirects, which could carry the password elsewhere.
fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Fails only when a provider was chosen before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .connect_timeout(CONNECT_TIME)
            .read_timeout(SILENCE)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("encke/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the settings of the HTTP client are fixed")
    })
}

/// The innermost reason of a failure, without the address.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn away(e: &reqwest::Error) -> Failure {
    Failure::Away(format!("The server can not be reached: {}", cause(e)))
}

/// Reads an answer up to a size.
async fn read(mut answer: Response, most: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|e| away(&e))? {
        if body.len() + part.len() > most {
            return Err(Failure::Away("The server's answer is too long".into()));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// Another server, and a session there.
pub(crate) struct Remote {
    address: String,
    username: String,
    password: String,
    /// Empty before the first call.
    session: Mutex<String>,
}

impl Remote {
    /// `address` has no slash at the end.
    pub(crate) fn new(address: &str, username: &str, password: String) -> Self {
        Self {
            address: address.to_string(),
            username: username.to_string(),
            password,
            session: Mutex::default(),
        }
    }

    /// Signs in.
    pub(super) async fn connect(&self) -> Result<(), Failure> {
        self.session(None).await.map(drop)
    }

    /// The key of a session. One that did not do (`stale`) is replaced. One log-in serves all calls that wait.
    async fn session(&self, stale: Option<&str>) -> Result<String, Failure> {
        let mut session = self.session.lock().await;
        if !session.is_empty() && stale != Some(session.as_str()) {
            return Ok(session.clone());
        }
        session.clear();
        let fields = [
            ("Username", self.username.as_str()),
            ("AuthType", "Password"),
            ("Password", self.password.as_str()),
        ];
        let answer = self
            .post("account/session-start", "/api/v1/admin", &fields)
            .await?;
        let status = answer["Status"].as_u64().unwrap_or_default();
        let message = answer["Message"].as_str().unwrap_or_default();
        match (status, answer["SessionKey"].as_str()) {
            (200, Some(key)) if !key.is_empty() => {
                *session = key.to_string();
                Ok(session.clone())
            }
            (403, _) => Err(Failure::Away(format!(
                "The server does not let '{}' in: the name or the password is wrong ({message})",
                self.username
            ))),
            (449, _) => Err(Failure::Away(format!(
                "The server asks '{}' for a second factor; this needs an administrator with a password alone",
                self.username
            ))),
            (200, _) => Err(self.not_a_server()),
            _ => Err(Failure::Away(format!(
                "The server does not let this one in: {message} ({status})"
            ))),
        }
    }

    fn not_a_server(&self) -> Failure {
        Failure::Away(format!(
            "{} does not answer as a server of this kind does",
            self.address
        ))
    }

    async fn post(&self, path: &str, root: &str, fields: &[(&str, &str)]) -> Result<Value, Failure> {
        let url = format!("{}{root}/{path}", self.address);
        let sent = client().post(url).timeout(CALL_TIME).form(fields).send().await;
        let answer = sent.map_err(|e| away(&e))?;
        let status = answer.status();
        let body = read(answer, MAX_ANSWER).await?;
        match serde_json::from_slice(&body) {
            Ok(value) => Ok(value),
            Err(_) if status.is_server_error() => {
                Err(Failure::Away(format!("The server answers {}", status.as_u16())))
            }
            Err(_) => Err(self.not_a_server()),
        }
    }

    /// Calls an endpoint as the administrator there. `path` is without `/api/v1/admin/`, unless it begins with a slash.
    pub(crate) async fn call(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value, Failure> {
        let (root, path) = match path.strip_prefix('/') {
            Some(path) => ("", path),
            None => ("/api/v1/admin", path),
        };
        let mut stale: Option<String> = None;
        loop {
            let session = self.session(stale.as_deref()).await?;
            let mut all = vec![
                ("Username", self.username.as_str()),
                ("AuthType", "SessionKey"),
                ("SessionKey", session.as_str()),
            ];
            all.extend(fields);
            let answer = self.post(path, root, &all).await?;
            let failed = answer["Status"].as_u64().filter(|s| *s >= 400);
            let Some(status) = failed.and_then(|s| u16::try_from(s).ok()) else {
                return Ok(answer);
            };
            let message = answer["Message"].as_str().unwrap_or_default().to_string();
            match status {
                // The session may have run out.
                403 if stale.is_none() => stale = Some(session),
                429 | 500.. => {
                    return Err(Failure::Away(format!("The server answers: {message} ({status})")));
                }
                _ => return Err(Failure::Refused { status, message }),
            }
        }
    }

    /// Calls an endpoint whose answer is a map that may be larger than memory, and hands over each name with the JSON
    /// text under it. A map that breaks off, and an entry that `each` does not take, are failures.
    pub(crate) async fn each_entry(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &[u8]) -> Option<()>,
    ) -> Result<(), Failure> {
        let url = format!("{}/api/v1/admin/{path}", self.address);
        let mut stale: Option<String> = None;
        loop {
            let session = self.session(stale.as_deref()).await?;
            let fields = [
                ("Username", self.username.as_str()),
                ("AuthType", "SessionKey"),
                ("SessionKey", session.as_str()),
            ];
            let sent = client().post(&url).form(&fields).send().await;
            let mut answer = sent.map_err(|e| away(&e))?;
            let succeeded = answer.status().is_success();
            let mut entries = Entries::default();
            // The envelope of a failure is a map, too; what an entry of a list holds is never a bare number.
            let (mut status, mut message) = (None, String::new());
            while let Some(part) = answer.chunk().await.map_err(|e| away(&e))? {
                let read = entries.read(&part, &mut |name, value| {
                    if name == "Status" && value.first().is_some_and(u8::is_ascii_digit) {
                        status = serde_json::from_slice::<u16>(value).ok();
                        return status.map(drop);
                    }
                    if status.is_some() || !succeeded {
                        if name == "Message" {
                            message = serde_json::from_slice(value).unwrap_or_default();
                        }
                        return Some(());
                    }
                    each(name, value)
                });
                read.ok_or_else(|| self.not_a_server())?;
            }
            entries.end().ok_or_else(|| self.not_a_server())?;
            match status {
                None if succeeded => return Ok(()),
                None => return Err(self.not_a_server()),
                Some(403) if stale.is_none() => {
                    stale = Some(session);
                }
                Some(status) => return Err(Failure::Refused { status, message }),
            }
        }
    }

    /// Sends a request for a bucket, made anew where the session ran out.
    async fn storage(
        &self,
        method: Method,
        bucket: &BucketId,
        path: &str,
        prepare: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let url = format!("{}/storage/{bucket}/{path}", self.address);
        let mut stale: Option<String> = None;
        loop {
            let session = self.session(stale.as_deref()).await?;
            let mut headers = HeaderMap::new();
            let fields = [
                ("x-comet-admin-username", self.username.as_str()),
                ("x-comet-admin-authtype", "SessionKey"),
                ("x-comet-admin-sessionkey", session.as_str()),
            ];
            for (name, value) in fields {
                let value = HeaderValue::from_str(value);
                headers.insert(
                    name,
                    value.map_err(|_| Failure::Away("The name can not be sent in a header".into()))?,
                );
            }
            let request = client().request(method.clone(), &url).headers(headers);
            let answer = prepare(request).send().await.map_err(|e| away(&e))?;
            match answer.status() {
                StatusCode::UNAUTHORIZED if stale.is_none() => stale = Some(session),
                StatusCode::UNAUTHORIZED => {
                    return Err(Failure::Away(
                        "The server's Storage Role does not know its administrators: it is too old".into(),
                    ));
                }
                _ => return Ok(answer),
            }
        }
    }

    /// An answer that is no success, as a failure.
    async fn refused(answer: Response) -> Failure {
        let status = answer.status().as_u16();
        match read(answer, MAX_ENTRY).await {
            Ok(body) => Failure::Refused {
                status,
                message: String::from_utf8_lossy(&body).trim().to_string(),
            },
            Err(e) => e,
        }
    }

    /// Names of the objects of a kind.
    pub(super) async fn objects(&self, bucket: &BucketId, kind: Kind) -> Result<HashSet<Name>, Failure> {
        let path = format!("{}/", kind.word());
        let mut answer = self.storage(Method::GET, bucket, &path, |r| r).await?;
        if !answer.status().is_success() {
            return Err(Self::refused(answer).await);
        }
        let mut names = Names::default();
        while let Some(part) = answer.chunk().await.map_err(|e| away(&e))? {
            names.read(&part).ok_or_else(|| self.not_a_server())?;
        }
        names.end().ok_or_else(|| self.not_a_server())
    }

    /// The configuration of the repository in a bucket; nothing where there is none.
    pub(super) async fn config(&self, bucket: &BucketId) -> Result<Option<Vec<u8>>, Failure> {
        let answer = self.storage(Method::GET, bucket, "config", |r| r).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(read(answer, MAX_CONFIG).await?)),
            _ => Err(Self::refused(answer).await),
        }
    }

    /// Whether there is an object.
    pub(super) async fn has(&self, bucket: &BucketId, object: &Object) -> Result<bool, Failure> {
        let answer = self.storage(Method::HEAD, bucket, &object.path(), |r| r).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(Self::refused(answer).await),
        }
    }

    /// Uploads an object. `content` makes its bytes, once more where the session ran out.
    pub(super) async fn put(
        &self,
        bucket: &BucketId,
        object: &Object,
        size: u64,
        content: impl Fn() -> Content,
    ) -> Result<(), Failure> {
        let prepare = |request: RequestBuilder| {
            let body = StreamBody::new(content());
            request.header(CONTENT_LENGTH, size).body(Body::wrap(body))
        };
        let answer = self
            .storage(Method::POST, bucket, &object.path(), prepare)
            .await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(Self::refused(answer).await)
    }

    /// Deletes an object; one that is not there is gone already.
    pub(super) async fn delete(&self, bucket: &BucketId, object: &Object) -> Result<(), Failure> {
        let answer = self
            .storage(Method::DELETE, bucket, &object.path(), |r| r)
            .await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(Self::refused(answer).await),
        }
    }
}

/// Blocks of an object on their way.
pub(super) type Content = tokio_stream::wrappers::ReceiverStream<std::io::Result<Frame<bytes::Bytes>>>;

/// Reads a list of objects part by part: a repository may have millions, whose names in text are several times what is
/// kept.
#[derive(Default)]
struct Names {
    found: HashSet<Name>,
    /// What came of an entry that is not whole.
    rest: Vec<u8>,
    began: bool,
    ended: bool,
}

impl Names {
    /// Takes in a part; nothing if it is no list.
    fn read(&mut self, part: &[u8]) -> Option<()> {
        #[derive(Deserialize)]
        struct Entry<'a>(#[serde(borrow)] &'a str);
        for &byte in part {
            match byte {
                b'[' if !self.began => self.began = true,
                b' ' | b'\n' => {}
                _ if !self.began || self.ended || self.rest.len() > MAX_ENTRY => return None,
                b',' | b']' => {
                    if !self.rest.is_empty() {
                        let Entry(text) = serde_json::from_slice(&self.rest).ok()?;
                        let mut name = Name::default();
                        hex::decode_to_slice(text, &mut name).ok()?;
                        self.found.insert(name);
                        self.rest.clear();
                    }
                    self.ended = byte == b']';
                }
                _ => self.rest.push(byte),
            }
        }
        Some(())
    }

    /// All names, if the list came to its end: one that broke off would look as if objects were missing.
    fn end(self) -> Option<HashSet<Name>> {
        self.ended.then_some(self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_whole_or_not_at_all() {
        let name = |n: u8| [n; 32];
        let text = format!(r#"["{}","{}"]"#, hex::encode(name(1)), hex::encode(name(2)));
        for size in [1, 7, 1000] {
            let mut names = Names::default();
            assert!(
                text.as_bytes()
                    .chunks(size)
                    .all(|part| names.read(part).is_some())
            );
            assert_eq!(names.end(), Some(HashSet::from([name(1), name(2)])));
        }
        let mut empty = Names::default();
        assert!(empty.read(b"[]").is_some());
        assert_eq!(empty.end(), Some(HashSet::new()));
        let mut broken = Names::default();
        assert!(broken.read(&text.as_bytes()[..70]).is_some());
        assert_eq!(broken.end(), None);
        assert!(Names::default().read(b"<html>").is_none());
        assert!(Names::default().read(br#"["../etc"]"#).is_none());
    }
}
