//! What an S3-compatible service does beyond plain files: objects locked for a time (S3 Object Lock, compliance mode),
//! and versions deleted for good.
//!
//! A lock holds for the days that the settings say, and up to half of that longer: all locks that begin in one period
//! end at the same time, so that needed objects have to be locked anew once a period and not every day. Deleting a
//! locked object hides it (a delete marker), which is all that the repository sees; its versions stay until their locks
//! have run out, and [`Locks::clear`] then removes them.

#![cfg(feature = "network")]

use crate::again::retried;
use crate::cloud::S3;
use crate::http::{Answer, client, escape, quick_client, request, send};
use crate::threads::wait;
use crate::{StorageError, StorageResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use md5::Digest as _;
use reqsign_aws_v4::{RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use ureq::Agent;

/// Seconds of a day.
const DAY: i64 = 24 * 3600;
/// Requests at once where many objects are to be changed.
const AT_ONCE: usize = 8;
/// So many refusals one after the other, oldest versions first, tell that the rest is locked as well.
const REFUSALS: usize = 100;

/// Signed requests to a bucket.
pub(crate) struct Locks {
    place: S3,
    client: Agent,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockConfiguration {
    #[serde(default)]
    object_lock_enabled: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_version_id_marker: String,
    #[serde(rename = "$value", default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
enum Entry {
    Version(Version),
    DeleteMarker(Version),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    key: String,
    version_id: String,
    #[serde(default)]
    is_latest: bool,
    #[serde(default)]
    last_modified: String,
}

/// What is left of an object that was deleted or overwritten.
#[derive(Default)]
struct Left {
    /// Versions with content that are not the newest.
    old: Vec<Version>,
    /// Markers; they go last, or what they hide would come back.
    markers: Vec<Version>,
    /// Whether the object is hidden.
    deleted: bool,
}

/// When locks made at a time end.
fn until(now: Timestamp, days: u32) -> Timestamp {
    let period = i64::from(days / 2).max(1) * DAY;
    let end = (now.as_second() / period + 1) * period + i64::from(days) * DAY;
    Timestamp::from_second(end).unwrap_or(Timestamp::MAX)
}

fn refusal(answer: &Answer) -> Refusal {
    let text = String::from_utf8_lossy(&answer.body);
    quick_xml::de::from_str(&text).unwrap_or(Refusal {
        code: String::new(),
        message: String::new(),
    })
}

/// The failure that an answer means.
fn checked(answer: Answer, place: &str) -> StorageResult<Answer> {
    if answer.status.as_u16() == 400 {
        let refusal = refusal(&answer);
        return Err(StorageError::Other(format!(
            "{place}: {} {}",
            refusal.code, refusal.message
        )));
    }
    answer.check(place)
}

impl Locks {
    pub(crate) fn new(place: &S3) -> Self {
        Self {
            place: place.clone(),
            client: client(),
        }
    }

    /// Where locks that are made now end; nothing where objects are not locked.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        let days = self.place.lock_days;
        (days > 0).then(|| until(Timestamp::now(), days))
    }

    fn object(&self, path: &str) -> String {
        let prefix = self.place.prefix.trim_matches('/');
        if prefix.is_empty() {
            path.to_string()
        } else {
            format!("{prefix}/{path}")
        }
    }

    fn signed(
        &self,
        client: &Agent,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> StorageResult<Answer> {
        let url = format!(
            "{}/{}{target}",
            self.place.endpoint.trim_end_matches('/'),
            self.place.bucket
        );
        let sum = hex::encode(ring::digest::digest(&ring::digest::SHA256, body));
        let mut all = vec![("x-amz-content-sha256", sum.as_str())];
        all.extend_from_slice(headers);
        let (mut parts, body) = request(method, &url, &all, body)?.into_parts();
        let region = self.place.signing_region().to_string();
        let credentials = StaticCredentialProvider::new(&self.place.access_key, &self.place.secret_key);
        let parts = wait(async move {
            let signer = Signer::new(Context::new(), credentials, RequestSigner::new("s3", &region));
            let signed = signer.sign(&mut parts, None).await;
            signed.map_err(|e| StorageError::Other(format!("a request could not be signed: {e}")))?;
            Ok(parts)
        })?;
        send(client, ureq::http::Request::from_parts(parts, body))
    }

    /// Whether the bucket locks objects.
    pub(crate) fn check(&self) -> StorageResult<()> {
        let place = format!("the bucket {}", self.place.bucket);
        let answer = self.signed(&quick_client(), "GET", "?object-lock=", &[], &[])?;
        let none = || StorageError::Invalid(format!("{place} was made without object lock"));
        if answer.status.as_u16() == 404 && refusal(&answer).code.starts_with("ObjectLock") {
            return Err(none());
        }
        let answer = checked(answer, &place)?;
        let text = String::from_utf8_lossy(&answer.body);
        let found: LockConfiguration = quick_xml::de::from_str(&text).map_err(|_| none())?;
        if found.object_lock_enabled == "Enabled" {
            Ok(())
        } else {
            Err(none())
        }
    }

    /// Writes an object that is locked from its first moment.
    pub(crate) fn put(&self, path: &str, content: &[u8], until: Timestamp, keep: bool) -> StorageResult<()> {
        let object = self.object(path);
        let (until, sum) = (until.to_string(), STANDARD.encode(md5::Md5::digest(content)));
        let mut headers = vec![
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-object-lock-retain-until-date", until.as_str()),
            ("content-md5", sum.as_str()),
        ];
        if keep {
            headers.push(("if-none-match", "*"));
        }
        let target = format!("/{}", escape(&object, true));
        retried("put", || {
            let answer = self.signed(&self.client, "PUT", &target, &headers, content)?;
            if keep && answer.status.as_u16() == 412 {
                return Ok(());
            }
            checked(answer, &object).map(|_| ())
        })
    }

    /// Locks objects until a later time. One that is no longer there is passed over.
    pub(crate) fn extend(&self, paths: &[String], until: Timestamp) -> StorageResult<()> {
        let text = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let sum = STANDARD.encode(md5::Md5::digest(text.as_bytes()));
        let headers = [("content-md5", sum.as_str()), ("content-type", "application/xml")];
        for_each(paths, |path| {
            let object = self.object(path);
            let target = format!("/{}?retention=", escape(&object, true));
            retried("lock", || {
                let answer = self.signed(&self.client, "PUT", &target, &headers, text.as_bytes())?;
                match checked(answer, &object) {
                    Ok(_) | Err(StorageError::NotFound(_)) => Ok(()),
                    Err(e) => Err(e),
                }
            })
        })
    }

    /// What is left of objects that were deleted or overwritten.
    fn left(&self) -> StorageResult<HashMap<String, Left>> {
        let folder = self.object("");
        let mut found: HashMap<String, Left> = HashMap::new();
        let (mut key, mut version) = (String::new(), String::new());
        loop {
            let mut query = format!("?prefix={}&versions=", escape(&folder, false));
            if !key.is_empty() {
                query = format!(
                    "?key-marker={}&prefix={}&version-id-marker={}&versions=",
                    escape(&key, false),
                    escape(&folder, false),
                    escape(&version, false)
                );
            }
            let page: Versions = retried("list", || {
                let answer = checked(self.signed(&self.client, "GET", &query, &[], &[])?, &folder)?;
                let text = String::from_utf8_lossy(&answer.body);
                quick_xml::de::from_str(&text).map_err(|e| {
                    StorageError::Other(format!("{folder}: a listing that can not be read: {e}"))
                })
            })?;
            for entry in page.entries {
                match entry {
                    Entry::Version(v) if !v.is_latest => {
                        found.entry(v.key.clone()).or_default().old.push(v);
                    }
                    Entry::DeleteMarker(v) => {
                        let left = found.entry(v.key.clone()).or_default();
                        left.deleted |= v.is_latest;
                        left.markers.push(v);
                    }
                    Entry::Version(_) | Entry::Other => {}
                }
            }
            if !page.is_truncated || page.next_key_marker.is_empty() {
                return Ok(found);
            }
            (key, version) = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    /// Deletes a version for good; false where its lock does not let us.
    fn delete(&self, version: &Version) -> StorageResult<bool> {
        let target = format!(
            "/{}?versionId={}",
            escape(&version.key, true),
            escape(&version.version_id, false)
        );
        retried("delete", || {
            let answer = self.signed(&self.client, "DELETE", &target, &[], &[])?;
            let code = refusal(&answer).code;
            if answer.status.as_u16() == 403 && (code == "AccessDenied" || code.contains("Lock")) {
                return Ok(false);
            }
            match checked(answer, &version.key) {
                Ok(_) | Err(StorageError::NotFound(_)) => Ok(true),
                Err(e) => Err(e),
            }
        })
    }

    /// Deletes for good what was deleted before, as far as locks have run out.
    pub(crate) fn clear(&self) -> StorageResult<()> {
        let mut left: Vec<Left> = match self.left() {
            // A key that may not see versions can not remove them; that is for the bucket's own rules then.
            Err(StorageError::Unauthorised) => {
                tracing::warn!(
                    bucket = self.place.bucket,
                    "the key may not list versions of objects"
                );
                return Ok(());
            }
            left => left?.into_values().collect(),
        };
        left.sort_by(|a, b| {
            let age = |left: &Left| left.old.iter().map(|v| v.last_modified.clone()).min();
            age(a).cmp(&age(b))
        });
        let refusals = AtomicUsize::new(0);
        for_each(&left, |left| {
            if refusals.load(Ordering::Relaxed) >= REFUSALS {
                return Ok(());
            }
            let mut all_gone = true;
            for version in &left.old {
                if self.delete(version)? {
                    refusals.store(0, Ordering::Relaxed);
                } else {
                    refusals.fetch_add(1, Ordering::Relaxed);
                    all_gone = false;
                }
            }
            if all_gone && left.deleted {
                for marker in &left.markers {
                    self.delete(marker)?;
                }
            }
            Ok(())
        })
    }
}

/// Runs something for each of some things, several at once; the first failure ends it.
fn for_each<T: Sync>(things: &[T], run: impl Fn(&T) -> StorageResult<()> + Sync) -> StorageResult<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(things.len()) {
            scope.spawn(|| {
                while let Some(thing) = things.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = run(thing) {
                        next.store(things.len(), Ordering::Relaxed);
                        failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(e);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_a_period_end_together_and_hold_long_enough() {
        for days in [1, 2, 3, 7, 30, 365] {
            for hours in 0..2000 {
                let now = Timestamp::from_second(1_700_000_000 + hours * 3600 + 17).unwrap();
                let held = (until(now, days).as_second() - now.as_second()) as f64 / DAY as f64;
                let most = f64::from(days) + f64::from((days / 2).max(1));
                assert!(held > f64::from(days) && held <= most, "{days} days: {held}");
            }
        }
    }
}
