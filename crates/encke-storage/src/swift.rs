//! A container of OpenStack Swift (its object storage API, version 1), in restic's default layout, with tokens of its own
//! log-in (version 1) or of Keystone (identity API, versions 2 and 3).

#![cfg(feature = "network")]

use crate::again::{read_part, retried};
use crate::http::{Answer, check, client, escape, quick_client, range, request, send};
use crate::{Backend, FileKind, StorageError, StorageResult, path};
use md5::Digest as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use ureq::Agent;

/// Entries of a page of a listing; the most that Swift gives by default.
const PAGE: usize = 10_000;
/// Domain of Keystone's version 3 where the settings name none.
const DEFAULT_DOMAIN: &str = "Default";

/// A place on OpenStack Swift.
#[derive(Clone, Default)]
pub struct SwiftPlace {
    /// Address of the log-in with its version, such as `https://host:5000/v3` or `https://host/auth/v1.0`.
    pub auth_url: String,
    /// User; `account:user` for version 1.
    pub user: String,
    /// Password or key.
    pub key: String,
    /// Region; empty for the first that has storage.
    pub region: String,
    /// Domain of the user (version 3); empty for the one that every Keystone has.
    pub domain: String,
    /// Project (in version 2: tenant), by name.
    pub tenant: String,
    /// Project by id, which goes before its name.
    pub tenant_id: String,
    /// Domain of the project; empty for the user's.
    pub tenant_domain: String,
    /// A trust that the token is made for, instead of a project (version 3).
    pub trust_id: String,
    /// Container; it is made if it is not there.
    pub container: String,
    /// Folder in the container; may be empty.
    pub prefix: String,
    /// Storage policy of a container that is made; empty for the service's own choice.
    pub policy: String,
}

/// A repository on OpenStack Swift.
pub struct Swift {
    place: SwiftPlace,
    version: Version,
    client: Agent,
    session: Mutex<Option<Arc<Session>>>,
}

/// What a log-in gave.
struct Session {
    token: String,
    /// Address of the account's storage.
    url: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
    V3,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    name: String,
    #[serde(default)]
    bytes: u64,
}

/// A service of a catalogue, of version 2 or 3.
#[derive(Deserialize)]
struct Service {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(default)]
    interface: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    url: String,
    #[serde(rename = "publicURL", default)]
    public_url: String,
}

/// How a call differs from a plain one.
#[derive(Default)]
struct Extra<'a> {
    query: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

impl SwiftPlace {
    /// The variables by which stock restic logs in to the same place.
    #[must_use]
    pub fn restic_environment(&self) -> Vec<(&'static str, String)> {
        let version = version(&self.auth_url);
        let (domain, tenant_domain) = self.domains();
        let of_version_3 = |domain| {
            if version == Some(Version::V3) {
                domain
            } else {
                String::new()
            }
        };
        let all = if version == Some(Version::V1) {
            vec![
                ("ST_AUTH", self.auth_url.clone()),
                ("ST_USER", self.user.clone()),
                ("ST_KEY", self.key.clone()),
            ]
        } else {
            vec![
                ("OS_AUTH_URL", self.auth_url.clone()),
                ("OS_REGION_NAME", self.region.clone()),
                ("OS_USERNAME", self.user.clone()),
                ("OS_PASSWORD", self.key.clone()),
                ("OS_USER_DOMAIN_NAME", of_version_3(domain)),
                ("OS_PROJECT_NAME", self.tenant.clone()),
                ("OS_TENANT_ID", self.tenant_id.clone()),
                ("OS_PROJECT_DOMAIN_NAME", of_version_3(tenant_domain)),
                ("OS_TRUST_ID", self.trust_id.clone()),
            ]
        };
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The domains of the user and of the project, where the settings name none as well.
    fn domains(&self) -> (String, String) {
        let or = |name: &str, other: &str| {
            if name.is_empty() {
                other.to_string()
            } else {
                name.to_string()
            }
        };
        let domain = or(&self.domain, DEFAULT_DOMAIN);
        let tenant_domain = or(&self.tenant_domain, &domain);
        (domain, tenant_domain)
    }
}

/// The version of a log-in that its address says.
fn version(auth_url: &str) -> Option<Version> {
    let says = |version: &str| auth_url.split('/').any(|part| part.starts_with(version));
    match (says("v1"), says("v2"), says("v3")) {
        (true, false, false) => Some(Version::V1),
        (false, true, false) => Some(Version::V2),
        (false, false, true) => Some(Version::V3),
        _ => None,
    }
}

impl Swift {
    /// Nothing is asked of the service yet.
    ///
    /// # Errors
    /// Settings that can not be right.
    pub fn new(place: SwiftPlace) -> StorageResult<Self> {
        for (value, what) in [
            (&place.auth_url, "address of the log-in"),
            (&place.user, "user"),
            (&place.key, "password"),
            (&place.container, "container"),
        ] {
            if value.is_empty() {
                return Err(StorageError::Invalid(format!("the {what} of Swift is missing")));
            }
        }
        if place.container.contains('/') {
            return Err(StorageError::Invalid(
                "the name of a Swift container has no slash".into(),
            ));
        }
        if !["http://", "https://"]
            .iter()
            .any(|scheme| place.auth_url.starts_with(scheme))
        {
            return Err(StorageError::Invalid(format!(
                "the log-in of Swift, '{}', is not an http or https address",
                place.auth_url
            )));
        }
        let version = version(&place.auth_url).ok_or_else(|| {
            StorageError::Invalid(format!(
                "the log-in of Swift, '{}', does not say its version; it looks like https://host:5000/v3 or \
                 https://host/auth/v1.0",
                place.auth_url
            ))
        })?;
        Ok(Self {
            place,
            version,
            client: client(),
            session: Mutex::default(),
        })
    }

    /// From `container:/folder`, as stock restic writes it, and its variables of the environment (`ST_AUTH`, `ST_USER`
    /// and `ST_KEY`, or those of OpenStack that begin with `OS_`).
    ///
    /// # Errors
    /// The location can not be understood, or asks for what is not supported.
    pub fn from_restic(location: &str, variable: impl Fn(&str) -> String) -> StorageResult<Self> {
        let (container, prefix) = location.split_once(":/").ok_or_else(|| {
            StorageError::Invalid("a Swift location looks like swift:container:/folder".into())
        })?;
        for name in [
            "OS_APPLICATION_CREDENTIAL_ID",
            "OS_APPLICATION_CREDENTIAL_NAME",
            "OS_USER_ID",
        ] {
            if !variable(name).is_empty() {
                return Err(StorageError::Unsupported(format!("{name} for Swift")));
            }
        }
        let first = |names: &[&str]| {
            let mut values = names.iter().map(|name| variable(name));
            values.find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self::new(SwiftPlace {
            auth_url: first(&["ST_AUTH", "OS_AUTH_URL"]),
            user: first(&["ST_USER", "OS_USERNAME"]),
            key: first(&["ST_KEY", "OS_PASSWORD"]),
            region: variable("OS_REGION_NAME"),
            domain: variable("OS_USER_DOMAIN_NAME"),
            tenant: first(&["OS_PROJECT_NAME", "OS_TENANT_NAME"]),
            tenant_id: first(&["OS_PROJECT_ID", "OS_TENANT_ID"]),
            tenant_domain: variable("OS_PROJECT_DOMAIN_NAME"),
            trust_id: variable("OS_TRUST_ID"),
            container: container.to_string(),
            prefix: prefix.to_string(),
            policy: variable("SWIFT_DEFAULT_CONTAINER_POLICY"),
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
        let session = match self.version {
            Version::V1 => self.log_in_v1(client),
            Version::V2 => self.log_in_v2(client),
            Version::V3 => self.log_in_v3(client),
        }?;
        if session.token.is_empty() || session.url.is_empty() {
            return Err(StorageError::Other(format!(
                "{}: the log-in gave no address of object storage",
                self.place.auth_url
            )));
        }
        Ok(session)
    }

    fn log_in_v1(&self, client: &Agent) -> StorageResult<Session> {
        let place = &self.place;
        let headers = [("X-Auth-User", &*place.user), ("X-Auth-Key", &*place.key)];
        let answer = send(client, request("GET", &place.auth_url, &headers, &[])?)?.check(&place.auth_url)?;
        Ok(Session {
            token: answer.header("x-auth-token").to_string(),
            url: answer.header("x-storage-url").trim_end_matches('/').to_string(),
        })
    }

    fn post(&self, client: &Agent, path: &str, question: &Value) -> StorageResult<Answer> {
        let url = format!("{}{path}", self.place.auth_url.trim_end_matches('/'));
        let body = question.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        send(client, request("POST", &url, &headers, body.as_bytes())?)?.check(&url)
    }

    /// The address of object storage in a catalogue.
    fn storage(&self, catalogue: &[Service]) -> StorageResult<String> {
        let endpoints = catalogue
            .iter()
            .filter(|service| service.kind == "object-store")
            .flat_map(|service| &service.endpoints);
        let mut public = endpoints
            .filter(|e| e.interface.is_empty() || e.interface == "public")
            .filter(|e| self.place.region.is_empty() || e.region == self.place.region);
        let found = public.next().ok_or_else(|| {
            StorageError::Invalid(match self.place.region.as_str() {
                "" => "this account has no object storage".to_string(),
                region => format!("this account has no object storage in the region '{region}'"),
            })
        })?;
        let url = if found.url.is_empty() {
            &found.public_url
        } else {
            &found.url
        };
        Ok(url.trim_end_matches('/').to_string())
    }

    fn log_in_v2(&self, client: &Agent) -> StorageResult<Session> {
        #[derive(Deserialize)]
        struct Answered {
            access: Access,
        }
        #[derive(Deserialize)]
        struct Access {
            token: Token,
            #[serde(rename = "serviceCatalog", default)]
            catalogue: Vec<Service>,
        }
        #[derive(Deserialize)]
        struct Token {
            id: String,
        }
        let place = &self.place;
        let mut auth = json!({ "passwordCredentials": { "username": place.user, "password": place.key } });
        if !place.tenant_id.is_empty() {
            auth["tenantId"] = json!(place.tenant_id);
        } else if !place.tenant.is_empty() {
            auth["tenantName"] = json!(place.tenant);
        }
        let answer = self.post(client, "/tokens", &json!({ "auth": auth }))?;
        let Answered { access } = answer.json(&place.auth_url)?;
        Ok(Session {
            url: self.storage(&access.catalogue)?,
            token: access.token.id,
        })
    }

    fn log_in_v3(&self, client: &Agent) -> StorageResult<Session> {
        #[derive(Deserialize)]
        struct Answered {
            token: Token,
        }
        #[derive(Deserialize)]
        struct Token {
            #[serde(rename = "catalog", default)]
            catalogue: Vec<Service>,
        }
        let place = &self.place;
        let (domain, tenant_domain) = place.domains();
        let user = json!({ "name": place.user, "password": place.key, "domain": { "name": domain } });
        let mut auth = json!({ "identity": { "methods": ["password"], "password": { "user": user } } });
        if !place.trust_id.is_empty() {
            auth["scope"] = json!({ "OS-TRUST:trust": { "id": place.trust_id } });
        } else if !place.tenant_id.is_empty() {
            auth["scope"] = json!({ "project": { "id": place.tenant_id } });
        } else if !place.tenant.is_empty() {
            let project = json!({ "name": place.tenant, "domain": { "name": tenant_domain } });
            auth["scope"] = json!({ "project": project });
        }
        let answer = self.post(client, "/auth/tokens", &json!({ "auth": auth }))?;
        let Answered { token } = answer.json(&place.auth_url)?;
        Ok(Session {
            url: self.storage(&token.catalogue)?,
            token: answer.header("x-subject-token").to_string(),
        })
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

    /// One call below the container. A token that has run out is made anew.
    fn call(&self, client: &Agent, method: &str, object: &str, extra: &Extra) -> StorageResult<Answer> {
        let mut session = self.session(client, None)?;
        let mut again = true;
        loop {
            let slash = if object.is_empty() { "" } else { "/" };
            let url = format!(
                "{}/{}{slash}{}{}",
                session.url,
                escape(&self.place.container, false),
                escape(object, true),
                extra.query
            );
            let mut headers = vec![("x-auth-token", session.token.as_str())];
            headers.extend_from_slice(extra.headers);
            let answer = send(client, request(method, &url, &headers, extra.body)?)?;
            if answer.status.as_u16() != 401 || !again {
                return Ok(answer);
            }
            session = self.session(client, Some(&session))?;
            again = false;
        }
    }

    fn read(&self, path: &str, part: Option<(u64, usize)>) -> StorageResult<Vec<u8>> {
        let object = self.object(path);
        let wanted = part.map(|(offset, length)| range(offset, length));
        let headers: Vec<(&str, &str)> = wanted.iter().map(|range| ("range", range.as_str())).collect();
        let extra = Extra {
            headers: &headers,
            ..Extra::default()
        };
        let answer = self.call(&self.client, "GET", &object, &extra)?;
        let short = || StorageError::Other(format!("{object}: shorter than expected"));
        if part.is_some() && answer.status.as_u16() == 416 {
            return Err(short());
        }
        let answer = answer.check(&object)?;
        if part.is_some_and(|(_, length)| answer.body.len() != length) {
            return Err(short());
        }
        Ok(answer.body)
    }

    fn page(&self, client: &Agent, folder: &str, after: &str, limit: usize) -> StorageResult<Vec<Listed>> {
        let query = format!(
            "?format=json&limit={limit}&prefix={}&marker={}",
            escape(folder, false),
            escape(after, false)
        );
        let extra = Extra {
            query: &query,
            ..Extra::default()
        };
        let answer = self.call(client, "GET", "", &extra)?;
        match answer.status.as_u16() {
            // The container comes into being with the repository.
            404 | 204 => Ok(Vec::new()),
            _ => answer.check(&self.describe())?.json(&self.describe()),
        }
    }
}

impl Backend for Swift {
    fn create(&self) -> StorageResult<()> {
        retried("create", || {
            let there = self.call(&self.client, "HEAD", "", &Extra::default())?;
            if there.status.as_u16() != 404 {
                return there.check(&self.describe()).map(|_| ());
            }
            let policy = [("x-storage-policy", self.place.policy.as_str())];
            let extra = Extra {
                headers: if self.place.policy.is_empty() {
                    &[]
                } else {
                    &policy
                },
                ..Extra::default()
            };
            let made = self.call(&self.client, "PUT", "", &extra)?;
            if made.status.as_u16() == 400 {
                return Err(StorageError::Invalid(format!(
                    "{}: {}",
                    self.describe(),
                    made.words()
                )));
            }
            made.check(&self.describe()).map(|_| ())
        })
    }

    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        let folder = self.object(&format!("{}/", kind.folder()));
        let (mut out, mut after) = (Vec::new(), String::new());
        loop {
            // What a page gave stays where the next one has to be asked for again.
            let page = retried("list", || self.page(&self.client, &folder, &after, PAGE))?;
            let Some(last) = page.last() else { return Ok(out) };
            after.clone_from(&last.name);
            out.extend(page.iter().filter_map(|entry| {
                let name = entry.name.rsplit('/').next()?;
                (name.len() == 64).then(|| (name.to_string(), entry.bytes))
            }));
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
        // The service compares what arrived with it.
        let etag = hex::encode(md5::Md5::digest(content));
        let mut headers = vec![
            ("etag", etag.as_str()),
            ("content-type", "application/octet-stream"),
        ];
        // All other files are named by their content: to write one again changes nothing.
        if kind == FileKind::Config {
            headers.push(("if-none-match", "*"));
        }
        retried("put", || {
            let extra = Extra {
                headers: &headers,
                body: content,
                ..Extra::default()
            };
            let answer = self.call(&self.client, "PUT", &object, &extra)?;
            match answer.status.as_u16() {
                412 => Ok(()),
                422 => Err(StorageError::Unreachable(format!("{object}: arrived damaged"))),
                _ => check(answer.status, &object),
            }
        })
    }

    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        let object = self.object(&path(kind, name));
        retried("delete", || {
            let answer = self.call(&self.client, "DELETE", &object, &Extra::default())?;
            match answer.status.as_u16() {
                404 => Ok(()),
                _ => check(answer.status, &object),
            }
        })
    }

    fn ping(&self) -> StorageResult<()> {
        let client = quick_client();
        // Whether the password still holds is part of the question.
        let fresh = Arc::new(self.log_in(&client)?);
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        self.page(&client, "", "", 1).map(|_| ())
    }

    fn describe(&self) -> String {
        let host = self.place.auth_url.split('/').nth(2).unwrap_or_default();
        let prefix = self.place.prefix.trim_matches('/');
        format!("swift:{}:/{prefix} at {host}", self.place.container)
    }

    fn parallel(&self) -> usize {
        8
    }

    fn is_local(&self) -> bool {
        false
    }
}
