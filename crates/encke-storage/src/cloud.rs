//! Storage services reached through the library `opendal`, in restic's default layout (as [`crate::Local`]), so that
//! stock restic finds the same repository there.

#![cfg(feature = "network")]

use crate::s3_lock::Locks;
use crate::threads::{runtime, wait};
use crate::{Backend, FileKind, StorageError, StorageResult, path};
use futures_util::TryStreamExt as _;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{Buffer, Builder, Error, ErrorKind, Operator, services};
use std::time::Duration;

/// Further tries of one call before it counts as failed.
const TRIES: usize = 5;
/// Longest time for a call that moves no content.
const CALL: Duration = Duration::from_secs(60);
/// Longest time for one read or write: a large pack over a slow line.
const TRANSFER: Duration = Duration::from_secs(600);
/// Longest time that a ping waits.
const PING: Duration = Duration::from_secs(15);
/// Region of services that have none.
const DEFAULT_REGION: &str = "us-east-1";

/// A repository on a storage service.
pub struct Cloud {
    /// Repeats calls whose failure may pass.
    op: Operator,
    /// Tries once.
    once: Operator,
    description: String,
    /// Whether a container that is not there comes into being by writing to it.
    makes_folders: bool,
    /// Locks and versions of objects, where the settings ask for them.
    locks: Option<Locks>,
}

/// A place on an S3-compatible service.
#[derive(Clone, Default)]
pub struct S3 {
    /// Address, such as `https://s3.eu-west-1.amazonaws.com`.
    pub endpoint: String,
    /// Region; empty where it follows from the address or does not matter.
    pub region: String,
    /// Bucket.
    pub bucket: String,
    /// Folder in the bucket; may be empty.
    pub prefix: String,
    /// Id of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// Days for which each object is locked against everybody, the owner of the key included; 0 for no locks.
    pub lock_days: u32,
    /// Of deleted objects no versions are to stay, as far as locks let them go.
    pub remove_deleted: bool,
}

/// A place in Azure Blob Storage.
#[derive(Clone, Default)]
pub struct Azure {
    /// Name of the account.
    pub account: String,
    /// The account's key, in base 64.
    pub key: String,
    /// Container.
    pub container: String,
    /// Domain that follows the account's name, such as `blob.core.chinacloudapi.cn`; empty for the public cloud. With
    /// a scheme it is the whole address, as services of one's own have it: `http://host:10000/account`.
    pub realm: String,
    /// Folder in the container; may be empty.
    pub prefix: String,
}

impl S3 {
    /// From `http(s)://host/bucket/path`, as stock restic writes it.
    ///
    /// # Errors
    /// The address can not be understood.
    pub fn from_url(url: &str, access_key: &str, secret_key: &str, region: &str) -> StorageResult<Self> {
        let url = if url.contains("://") {
            url.to_string()
        } else {
            format!("https://{url}")
        };
        let parts = url.split_once("://").and_then(|(scheme, rest)| {
            let (host, path) = rest.split_once('/')?;
            Some((format!("{scheme}://{host}"), path.trim_matches('/')))
        });
        let (endpoint, path) = parts.filter(|(_, path)| !path.is_empty()).ok_or_else(|| {
            StorageError::Invalid("an S3 location looks like s3:https://host/bucket/path".into())
        })?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        Ok(Self {
            endpoint,
            region: region.to_string(),
            bucket: bucket.to_string(),
            prefix: prefix.to_string(),
            access_key: access_key.to_string(),
            secret_key: secret_key.to_string(),
            ..Self::default()
        })
    }

    /// As [`S3::from_url`] reads it; without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        let (host, prefix) = (self.endpoint.trim_end_matches('/'), self.prefix.trim_matches('/'));
        format!("{host}/{}/{prefix}", self.bucket)
    }

    /// The region that requests are signed for.
    #[must_use]
    pub fn signing_region(&self) -> &str {
        if !self.region.is_empty() {
            return &self.region;
        }
        // Most services name the region in the address: s3.eu-west-1.amazonaws.com, s3.eu-central-1.wasabisys.com.
        let host = self.endpoint.rsplit("://").next().unwrap_or_default();
        let region = host.strip_prefix("s3.").and_then(|rest| rest.split('.').next());
        region
            .filter(|r| r.contains('-') && r.ends_with(|c: char| c.is_ascii_digit()))
            .unwrap_or(DEFAULT_REGION)
    }
}

fn error(place: &str, e: &Error) -> StorageError {
    match e.kind() {
        ErrorKind::NotFound => StorageError::NotFound(place.to_string()),
        ErrorKind::PermissionDenied => StorageError::Unauthorised,
        ErrorKind::RateLimited => StorageError::Unreachable(format!("{place}: too many requests")),
        _ if e.is_temporary() || e.is_persistent() => {
            StorageError::Unreachable(format!("{place}: {}", e.message()))
        }
        _ => StorageError::Other(format!("{place}: {}", e.message())),
    }
}

impl Cloud {
    fn new<B: Builder>(builder: B, description: String, makes_folders: bool) -> StorageResult<Self> {
        runtime();
        let op = Operator::new(builder).map(opendal::OperatorBuilder::finish);
        let op = op.map_err(|e| StorageError::Invalid(e.message().to_string()))?;
        let once = op.layer(TimeoutLayer::new().with_timeout(CALL).with_io_timeout(TRANSFER));
        let retry = RetryLayer::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(300))
            .with_max_times(TRIES);
        Ok(Self {
            op: once.clone().layer(retry),
            once,
            description,
            makes_folders,
            locks: None,
        })
    }

    /// A bucket, or a folder in one, of an S3-compatible service.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn s3(place: &S3) -> StorageResult<Self> {
        if place.bucket.is_empty() {
            return Err(StorageError::Invalid("the S3 bucket has no name".into()));
        }
        if place.access_key.is_empty() || place.secret_key.is_empty() {
            return Err(StorageError::Invalid("the S3 access key is missing".into()));
        }
        // Only these credentials: never what this machine may have of its own.
        let builder = services::S3::default()
            .endpoint(&place.endpoint)
            .region(place.signing_region())
            .bucket(&place.bucket)
            .root(&place.prefix)
            .access_key_id(&place.access_key)
            .secret_access_key(&place.secret_key)
            .disable_config_load()
            .disable_ec2_metadata();
        let locks = (place.lock_days > 0 || place.remove_deleted).then(|| Locks::new(place));
        Ok(Self {
            locks,
            ..Self::new(builder, place.url(), false)?
        })
    }

    /// A container, or a folder in one, of Azure Blob Storage.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn azure(place: &Azure) -> StorageResult<Self> {
        for (value, what) in [
            (&place.account, "account has no name"),
            (&place.key, "account's key is missing"),
            (&place.container, "container has no name"),
        ] {
            if value.is_empty() {
                return Err(StorageError::Invalid(format!("the Azure {what}")));
            }
        }
        let endpoint = match place.realm.as_str() {
            "" => format!("https://{}.blob.core.windows.net", place.account),
            url if url.contains("://") => url.trim_end_matches('/').to_string(),
            realm => format!("https://{}.{realm}", place.account),
        };
        let builder = services::Azblob::default()
            .endpoint(&endpoint)
            .container(&place.container)
            .root(&place.prefix)
            .account_name(&place.account)
            .account_key(&place.key);
        let prefix = place.prefix.trim_matches('/');
        Self::new(builder, format!("{endpoint}/{}/{prefix}", place.container), false)
    }

    /// A folder of a WebDAV server.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn webdav(endpoint: &str, folder: &str, user: &str, password: &str) -> StorageResult<Self> {
        let mut builder = services::Webdav::default().endpoint(endpoint).root(folder);
        if !user.is_empty() || !password.is_empty() {
            builder = builder.username(user).password(password);
        }
        let description = format!("{}/{}", endpoint.trim_end_matches('/'), folder.trim_matches('/'));
        Self::new(builder, description, true)
    }

    fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.description.trim_end_matches('/'))
    }
}

impl Backend for Cloud {
    fn create(&self) -> StorageResult<()> {
        // Folders come into being with the files in them.
        self.ping()
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        let folder = format!("{}/", kind.folder());
        let (op, place) = (self.op.clone(), self.place(&folder));
        let makes_folders = self.makes_folders;
        wait(async move {
            let mut out = Vec::new();
            let listed = async {
                let mut lister = op.lister_with(&folder).recursive(kind == FileKind::Pack).await?;
                while let Some(entry) = lister.try_next().await? {
                    if entry.metadata().is_file() && entry.name().len() == 64 {
                        out.push((entry.name().to_string(), entry.metadata().content_length()));
                    }
                }
                Ok::<(), Error>(())
            };
            match listed.await {
                Err(e) if e.kind() == ErrorKind::NotFound && makes_folders => Ok(Vec::new()),
                Err(e) => Err(error(&place, &e)),
                Ok(()) => Ok(out),
            }
        })
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let path = path(kind, name);
        let (op, place) = (self.op.clone(), self.place(&path));
        wait(async move { op.read(&path).await.map_err(|e| error(&place, &e)) }).map(|b| b.to_vec())
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        if out.is_empty() {
            return Ok(());
        }
        let path = path(kind, name);
        let (op, place) = (self.op.clone(), self.place(&path));
        let range = offset..offset + out.len() as u64;
        let wanted = place.clone();
        let read = wait(async move {
            let read = op.read_with(&path).range(range).await;
            read.map_err(|e| match e.kind() {
                ErrorKind::RangeNotSatisfied => {
                    StorageError::Other(format!("{place}: shorter than expected"))
                }
                _ => error(&place, &e),
            })
        })?;
        if read.len() != out.len() {
            return Err(StorageError::Other(format!("{wanted}: shorter than expected")));
        }
        let mut at = 0;
        for part in read {
            out[at..at + part.len()].copy_from_slice(&part);
            at += part.len();
        }
        Ok(())
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let path = path(kind, name);
        let (op, place) = (self.op.clone(), self.place(&path));
        // Locks of stock restic come and go.
        if let Some(locks) = &self.locks
            && let Some(until) = locks.until()
            && kind != FileKind::Lock
        {
            return locks.put(&path, content, until, kind == FileKind::Config);
        }
        let content = Buffer::from(content.to_vec());
        // All other files are named by their content: to write one again changes nothing.
        let keep = kind == FileKind::Config;
        wait(async move {
            let guarded = keep && op.info().full_capability().write_with_if_not_exists;
            if keep && !guarded && op.exists(&path).await.map_err(|e| error(&place, &e))? {
                return Ok(());
            }
            match op.write_with(&path, content).if_not_exists(guarded).await {
                Err(e) if guarded && e.kind() == ErrorKind::ConditionNotMatch => Ok(()),
                Err(e) => Err(error(&place, &e)),
                Ok(_) => Ok(()),
            }
        })
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let path = path(kind, name);
        let (op, place) = (self.op.clone(), self.place(&path));
        wait(async move { op.delete(&path).await.map_err(|e| error(&place, &e)) })
    }

    fn protected_until(&self) -> Option<i64> {
        self.locks.as_ref()?.until().map(jiff::Timestamp::as_second)
    }

    fn protect(&self, kind: FileKind, names: &[String]) -> StorageResult<()> {
        let Some((locks, until)) = self
            .locks
            .as_ref()
            .and_then(|locks| Some((locks, locks.until()?)))
        else {
            return Ok(());
        };
        let paths: Vec<String> = names.iter().map(|name| path(kind, name)).collect();
        locks.extend(&paths, until)
    }

    fn clear(&self) -> StorageResult<()> {
        self.locks.as_ref().map_or(Ok(()), Locks::clear)
    }

    fn ping(&self) -> StorageResult<()> {
        if let Some(locks) = self.locks.as_ref().filter(|locks| locks.until().is_some()) {
            locks.check()?;
        }
        let (op, place) = (self.once.clone(), self.description.clone());
        let makes_folders = self.makes_folders;
        wait(async move {
            let first = async {
                let mut lister = op.lister_with("").limit(1).await?;
                lister.try_next().await
            };
            match tokio::time::timeout(PING, first).await {
                Err(_) => Err(StorageError::Unreachable(format!(
                    "{place}: no answer within {} seconds",
                    PING.as_secs()
                ))),
                Ok(Err(e)) if e.kind() == ErrorKind::NotFound && makes_folders => Ok(()),
                Ok(Err(e)) => Err(error(&place, &e)),
                Ok(Ok(_)) => Ok(()),
            }
        })
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn parallel(&self) -> usize {
        8
    }

    fn is_local(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    /// Objects of a page.
    const PAGE: usize = 3;

    fn name(number: usize) -> String {
        format!("{number:064x}")
    }

    /// The page of an S3 listing that begins with an object.
    fn page(first: usize, objects: usize) -> String {
        let end = (first + PAGE).min(objects);
        let mut text = String::from("<ListBucketResult>");
        for number in first..end {
            let (name, size) = (name(number), 1000 + number);
            text += &format!(
                "<Contents><Key>data/{}/{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;0&quot;</ETag><Size>{size}</Size></Contents>",
                &name[..2]
            );
        }
        let truncated = end < objects;
        text += &format!("<IsTruncated>{truncated}</IsTruncated>");
        if truncated {
            text += &format!("<NextContinuationToken>{end}</NextContinuationToken>");
        }
        text + "</ListBucketResult>"
    }

    /// Answers one request: the page that its token asks for. How often each page was asked for is counted, and it fails
    /// at first, in one of several ways.
    fn answer(mut stream: &TcpStream, objects: usize, asked: &Mutex<HashMap<usize, usize>>) -> Option<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next()?.ok()?;
        lines
            .find(|line| line.as_ref().is_ok_and(String::is_empty))?
            .ok()?;
        let first = match request.split_once("continuation-token=") {
            Some((_, rest)) => rest.split(['&', ' ']).next()?.parse().ok()?,
            None => 0,
        };
        let tries = {
            let mut asked = asked.lock().unwrap();
            let tries = asked.entry(first).or_insert(0);
            *tries += 1;
            *tries
        };
        let text = page(first, objects);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        match (first / PAGE, tries) {
            // Broken off before anything came...
            (1, 1) => return None,
            // ...amid the answer, with an object in it that came whole...
            (2, 1) => {
                stream.write_all(head.as_bytes()).ok()?;
                stream.write_all(&text.as_bytes()[..text.len() * 2 / 3]).ok()?;
                return None;
            }
            // ...and refused for the time being, twice.
            (3, 1 | 2) => {
                let busy = "HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                return stream.write_all(busy.as_bytes()).ok();
            }
            _ => {}
        }
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(text.as_bytes()).ok()
    }

    #[test]
    fn a_listing_that_breaks_goes_on_with_the_page_it_broke_at() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let objects = 4 * PAGE + 2;
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let counts = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = counts.clone();
                // Clients connect ahead and may leave a connection alone.
                std::thread::spawn(move || answer(&stream, objects, &counts));
            }
        });
        let place = S3 {
            endpoint,
            bucket: "bucket".into(),
            access_key: "key".into(),
            secret_key: "secret".into(),
            ..S3::default()
        };
        let mut listed = Cloud::s3(&place).unwrap().list(FileKind::Pack).unwrap();
        listed.sort();
        let expected: Vec<_> = (0..objects).map(|n| (name(n), 1000 + n as u64)).collect();
        assert_eq!(listed, expected, "nothing twice and nothing missed");
        let asked = asked.lock().unwrap();
        let tries: Vec<_> = (0..5)
            .map(|n| asked.get(&(n * PAGE)).copied().unwrap_or(0))
            .collect();
        assert_eq!(
            tries,
            [1, 2, 2, 3, 1],
            "only pages that failed are asked for again"
        );
        assert_eq!(asked.len(), 5);
    }
}
