//! A bucket of Backblaze B2 by its own interface (version 4), in restic's default layout.

#![cfg(feature = "network")]

use crate::again::{read_part, retried};
use crate::http::{Answer, check, client, escape, quick_client, range, request, send};
use crate::{Backend, FileKind, StorageError, StorageResult, path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use ureq::Agent;

/// Where B2 is asked for a session.
const API: &str = "https://api.backblazeb2.com";
/// Names another service that speaks B2's interface, for all of this process.
const API_VARIABLE: &str = "ENCKE_B2_API_URL";
/// Entries of a page of a listing: more cost more.
const PAGE: usize = 1000;
/// Places to upload to that are kept, one for each thread that uploads.
const KEPT_UPLOADS: usize = 16;

/// A place on Backblaze B2.
#[derive(Clone, Default)]
pub struct B2Place {
    /// Id of the account or of an application key.
    pub key_id: String,
    /// The key.
    pub key: String,
    /// Bucket.
    pub bucket: String,
    /// Folder in the bucket; may be empty.
    pub prefix: String,
    /// Deleted files are only hidden, so that the bucket's rules say when they go.
    pub hide: bool,
}

/// A repository on Backblaze B2.
pub struct B2 {
    place: B2Place,
    api: String,
    client: Agent,
    session: Mutex<Option<Arc<Session>>>,
    uploads: Mutex<Vec<Upload>>,
}

/// What a log-in gave.
struct Session {
    account: String,
    token: String,
    api: String,
    download: String,
    /// The bucket's id.
    bucket: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    account_id: String,
    authorization_token: String,
    api_info: ApiInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiInfo {
    storage_api: StorageApi,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StorageApi {
    api_url: String,
    download_url: String,
    #[serde(default)]
    allowed: Allowed,
}

/// What a key may be limited to.
#[derive(Default, Deserialize)]
struct Allowed {
    #[serde(default)]
    buckets: Option<Vec<AllowedBucket>>,
}

#[derive(Deserialize)]
struct AllowedBucket {
    id: String,
    /// Nothing for a bucket that is no longer there.
    #[serde(default)]
    name: Option<String>,
}

/// Where one thread at a time may upload to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upload {
    upload_url: String,
    authorization_token: String,
}

#[derive(Deserialize)]
struct Buckets {
    buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    bucket_id: String,
    bucket_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    files: Vec<File>,
    next_file_name: Option<String>,
    #[serde(default)]
    next_file_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    file_name: String,
    #[serde(default)]
    file_id: Option<String>,
    #[serde(default)]
    content_length: Option<u64>,
}

/// What the service says of a failure.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn refusal(answer: &Answer) -> Refusal {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The failure that an answer means.
fn checked(answer: Answer, place: &str) -> StorageResult<Answer> {
    let refusal = refusal(&answer);
    match (answer.status.as_u16(), refusal.code.as_str()) {
        (403, "cap_exceeded" | "storage_cap_exceeded") => Err(StorageError::Full),
        (403, "transaction_cap_exceeded" | "download_cap_exceeded") => Err(StorageError::Unreachable(
            format!("{place}: the account's daily limit is reached"),
        )),
        (400, "file_not_present" | "no_such_file" | "already_hidden") => {
            Err(StorageError::NotFound(place.to_string()))
        }
        (400, _) => Err(StorageError::Other(format!("{place}: {}", refusal.message))),
        _ => check(answer.status, place).map(|()| answer),
    }
}

impl B2 {
    /// Nothing is asked of the service yet.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn new(place: B2Place) -> StorageResult<Self> {
        for (value, what) in [
            (&place.key_id, "account id"),
            (&place.key, "key"),
            (&place.bucket, "bucket"),
        ] {
            if value.is_empty() {
                return Err(StorageError::Invalid(format!("the {what} of B2 is missing")));
            }
        }
        let api = std::env::var(API_VARIABLE).ok().filter(|url| !url.is_empty());
        Ok(Self {
            place,
            api: api.map_or_else(|| API.to_string(), |url| url.trim_end_matches('/').to_string()),
            client: client(),
            session: Mutex::default(),
            uploads: Mutex::default(),
        })
    }

    /// From `bucket:folder`, as stock restic writes it, with the key in the environment (`B2_ACCOUNT_ID`,
    /// `B2_ACCOUNT_KEY`).
    ///
    /// # Errors
    /// The location can not be understood.
    pub fn from_restic(location: &str, variable: impl Fn(&str) -> String) -> StorageResult<Self> {
        let (bucket, prefix) = location.split_once(':').unwrap_or((location, ""));
        Self::new(B2Place {
            key_id: variable("B2_ACCOUNT_ID"),
            key: variable("B2_ACCOUNT_KEY"),
            bucket: bucket.to_string(),
            prefix: prefix.to_string(),
            hide: false,
        })
    }

    fn object(&self, path: &str) -> String {
        let prefix = self.place.prefix.trim_matches('/');
        if prefix.is_empty() {
            path.to_string()
        } else {
            format!("{prefix}/{path}")
        }
    }

    fn log_in(&self, client: &Agent) -> StorageResult<Session> {
        let url = format!("{}/b2api/v4/b2_authorize_account", self.api);
        let login = format!("{}:{}", self.place.key_id, self.place.key);
        let basic = format!("Basic {}", STANDARD.encode(login));
        let answer = send(client, request("GET", &url, &[("authorization", &basic)], &[])?)?;
        let told: LoggedIn = checked(answer, &self.api)?.json(&self.api)?;
        let storage = told.api_info.storage_api;
        let mut session = Session {
            account: told.account_id,
            token: told.authorization_token,
            api: storage.api_url,
            download: storage.download_url,
            bucket: String::new(),
        };
        let name = &self.place.bucket;
        // A key for some buckets may not be able to list buckets.
        session.bucket = if let Some(buckets) = storage.allowed.buckets {
            let mut buckets = buckets.into_iter();
            let found = buckets.find(|bucket| bucket.name.as_ref() == Some(name));
            found.ok_or(StorageError::Unauthorised)?.id
        } else {
            let question = json!({ "accountId": session.account, "bucketName": name });
            let answer = post(client, &session, "b2_list_buckets", &question)?;
            let found: Buckets = checked(answer, "the list of B2 buckets")?.json(&self.api)?;
            let mut found = found.buckets.into_iter();
            let found = found.find(|bucket| bucket.bucket_name == *name);
            let missing = || StorageError::NotFound(format!("the B2 bucket {name}"));
            found.ok_or_else(missing)?.bucket_id
        };
        Ok(session)
    }

    /// The session, or a new one where `old` is the one that is no longer taken.
    fn session(&self, client: &Agent, old: Option<&Arc<Session>>) -> StorageResult<Arc<Session>> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*kept
            && old.is_none_or(|old| !Arc::ptr_eq(old, session))
        {
            return Ok(session.clone());
        }
        let session = Arc::new(self.log_in(client)?);
        *kept = Some(session.clone());
        Ok(session)
    }

    /// Makes a call with the session, and once more with a new one where it has run out.
    fn with_session(
        &self,
        client: &Agent,
        call: impl Fn(&Session) -> StorageResult<Answer>,
    ) -> StorageResult<Answer> {
        let session = self.session(client, None)?;
        let answer = call(&session)?;
        if answer.status.as_u16() != 401 || refusal(&answer).code == "unauthorized" {
            return Ok(answer);
        }
        call(&*self.session(client, Some(&session))?)
    }

    /// Calls an operation on the bucket.
    fn ask(&self, client: &Agent, operation: &str, question: &Value, place: &str) -> StorageResult<Answer> {
        let answer = self.with_session(client, |session| {
            let mut question = question.clone();
            question["bucketId"] = json!(session.bucket);
            post(client, session, operation, &question)
        })?;
        checked(answer, place)
    }

    fn read(&self, path: &str, part: Option<(u64, usize)>) -> StorageResult<Vec<u8>> {
        let object = self.object(path);
        let wanted = part.map(|(offset, length)| range(offset, length));
        let answer = self.with_session(&self.client, |session| {
            let url = format!(
                "{}/file/{}/{}",
                session.download,
                escape(&self.place.bucket, false),
                escape(&object, true)
            );
            let mut headers = vec![("authorization", session.token.as_str())];
            headers.extend(wanted.iter().map(|range| ("range", range.as_str())));
            send(&self.client, request("GET", &url, &headers, &[])?)
        })?;
        let short = || StorageError::Other(format!("{object}: shorter than expected"));
        if part.is_some() && answer.status.as_u16() == 416 {
            return Err(short());
        }
        let answer = checked(answer, &object)?;
        if part.is_some_and(|(_, length)| answer.body.len() != length) {
            return Err(short());
        }
        Ok(answer.body)
    }

    /// Uploads once; a place to upload to that failed is not used again, as the service asks for.
    fn upload(&self, object: &str, content: &[u8], sum: &str) -> StorageResult<()> {
        let kept = self.uploads.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let upload = match kept {
            Some(upload) => upload,
            None => self
                .ask(&self.client, "b2_get_upload_url", &json!({}), object)?
                .json(object)?,
        };
        let name = escape(object, true);
        let headers = [
            ("authorization", upload.authorization_token.as_str()),
            ("x-bz-file-name", name.as_str()),
            ("x-bz-content-sha1", sum),
            ("content-type", "application/octet-stream"),
        ];
        let answer = send(
            &self.client,
            request("POST", &upload.upload_url, &headers, content)?,
        )?;
        // Its time is over: another one will be given.
        if answer.status.as_u16() == 401 {
            return Err(StorageError::Unreachable(format!(
                "{object}: the place to upload to ran out"
            )));
        }
        checked(answer, object)?;
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        if uploads.len() < KEPT_UPLOADS {
            uploads.push(upload);
        }
        Ok(())
    }

    fn page(&self, client: &Agent, folder: &str, from: Option<&str>, count: usize) -> StorageResult<Page> {
        let from = from.unwrap_or(folder);
        let mut question = json!({ "prefix": folder, "maxFileCount": count });
        if !from.is_empty() {
            question["startFileName"] = json!(from);
        }
        let answer = self.ask(client, "b2_list_file_names", &question, folder)?;
        answer.json(folder)
    }

    /// All versions of a file.
    fn versions(&self, object: &str) -> StorageResult<Vec<File>> {
        let (mut out, mut from) = (Vec::new(), (object.to_string(), None::<String>));
        loop {
            let mut question = json!({ "prefix": object, "startFileName": from.0, "maxFileCount": PAGE });
            if let Some(id) = &from.1 {
                question["startFileId"] = json!(id);
            }
            let page: Page = self
                .ask(&self.client, "b2_list_file_versions", &question, object)?
                .json(object)?;
            out.extend(page.files.into_iter().filter(|file| file.file_name == object));
            match page.next_file_name {
                Some(next) if next == object => from = (next, page.next_file_id),
                _ => return Ok(out),
            }
        }
    }
}

fn post(client: &Agent, session: &Session, operation: &str, question: &Value) -> StorageResult<Answer> {
    let url = format!("{}/b2api/v4/{operation}", session.api);
    let body = question.to_string();
    let headers = [
        ("authorization", session.token.as_str()),
        ("content-type", "application/json"),
    ];
    send(client, request("POST", &url, &headers, body.as_bytes())?)
}

impl Backend for B2 {
    fn create(&self) -> StorageResult<()> {
        // Folders come into being with the files in them.
        retried("create", || self.page(&self.client, "", None, 1).map(|_| ()))
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        let folder = self.object(&format!("{}/", kind.folder()));
        let (mut out, mut from) = (Vec::new(), None);
        loop {
            // What a page gave stays where the next one has to be asked for again.
            let page = retried("list", || self.page(&self.client, &folder, from.as_deref(), PAGE))?;
            out.extend(page.files.iter().filter_map(|file| {
                let name = file.file_name.rsplit('/').next()?;
                (name.len() == 64).then(|| (name.to_string(), file.content_length.unwrap_or(0)))
            }));
            match page.next_file_name {
                Some(next) => from = Some(next),
                None => return Ok(out),
            }
        }
    }

    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        let path = path(kind, name);
        retried("get", || self.read(&path, None))
    }

    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        let (path, length) = (path(kind, name), out.len());
        read_part(out, || self.read(&path, Some((offset, length))))
    }

    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        let object = self.object(&path(kind, name));
        let sum = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, content));
        retried("put", || {
            // All other files are named by their content. What a try before left behind would be a second version.
            if kind == FileKind::Config && !self.page(&self.client, &object, None, 1)?.files.is_empty() {
                return Ok(());
            }
            self.upload(&object, content, &sum)
        })
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let object = self.object(&path(kind, name));
        retried("delete", || {
            let gone = |answer: StorageResult<Answer>| match answer {
                Err(StorageError::NotFound(_)) | Ok(_) => Ok(()),
                Err(e) => Err(e),
            };
            if self.place.hide {
                let question = json!({ "fileName": object });
                return gone(self.ask(&self.client, "b2_hide_file", &question, &object));
            }
            for version in self.versions(&object)? {
                let question = json!({ "fileName": object, "fileId": version.file_id });
                gone(
                    self.with_session(&self.client, |session| {
                        post(&self.client, session, "b2_delete_file_version", &question)
                    })
                    .and_then(|answer| checked(answer, &object)),
                )?;
            }
            Ok(())
        })
    }

    fn ping(&self) -> StorageResult<()> {
        let client = quick_client();
        // Whether the key still holds is part of the question.
        let fresh = Arc::new(self.log_in(&client)?);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        self.page(&client, &self.object(""), None, 1).map(|_| ())
    }

    fn describe(&self) -> String {
        format!("b2:{}:{}", self.place.bucket, self.place.prefix.trim_matches('/'))
    }

    fn parallel(&self) -> usize {
        8
    }

    fn is_local(&self) -> bool {
        false
    }
}
