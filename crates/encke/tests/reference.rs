//! The API as the reference describes it: every endpoint answers every kind of caller and every malformed parameter
//! in the promised form, what succeeds has the published structure, and the pages at `/docs` tell the same.

#![allow(clippy::unwrap_used)]

mod support;

use encke_api::endpoint::{Caller, Endpoint, Support};
use encke_server::table::Table;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;
use support::{ADMIN, Server};

const USER: &str = "alice";
const PASSWORD: &str = "a good password";
/// No call may take longer than this, device or no device.
const PATIENCE: Duration = Duration::from_secs(10);

fn table() -> Table {
    Table::new(encke_server::all_routes())
}

/// The published structures by name.
fn structures() -> HashMap<String, Value> {
    let all: Vec<Value> = serde_json::from_str(encke_api::spec::TYPES).unwrap();
    all.into_iter()
        .map(|t| (t["name"].as_str().unwrap().to_string(), t))
        .collect()
}

fn credentials(caller: Caller) -> Vec<(String, String)> {
    let (name, password) = match caller {
        Caller::User => (USER, PASSWORD),
        _ => (ADMIN, ADMIN),
    };
    [
        ("Username", name),
        ("AuthType", "Password"),
        ("Password", password),
    ]
    .map(|(n, v)| (n.to_string(), v.to_string()))
    .into()
}

struct Walk {
    server: Server,
    http: ureq::Agent,
    structures: HashMap<String, Value>,
}

/// An answer: the status and message of a failure, or a success.
enum Answer {
    Failure(i64, String),
    Success,
}

impl Walk {
    fn start() -> Self {
        let server = Server::start();
        let added = server.call(
            "/api/v1/admin/add-user",
            &[("TargetUser", USER), ("TargetPassword", PASSWORD)],
        );
        assert_eq!(added["Status"], 200, "{added}");
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Self {
            server,
            http,
            structures: structures(),
        }
    }

    /// Calls, and checks what holds for every answer: the transport's status, the envelope, the structure.
    fn call(&self, e: &Endpoint, fields: &[(String, String)]) -> Answer {
        let url = format!("{}{}", self.server.url, e.path);
        let sent = if e.method == "GET" {
            self.http.get(url).call()
        } else {
            self.http.post(url).send_form(fields.iter().map(|(n, v)| (n, v)))
        };
        let mut answer = sent.unwrap_or_else(|error| panic!("{} with {fields:?}: {error}", e.name));
        let transport = answer.status().as_u16();
        let body = answer.body_mut().read_to_vec().unwrap();
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let failure = json.as_ref().and_then(|v| {
            let envelope = v.as_object().filter(|o| o.len() == 2)?;
            let status = envelope.get("Status")?.as_i64().filter(|s| *s >= 400)?;
            Some((status, envelope.get("Message")?.as_str()?.to_string()))
        });
        let shown = String::from_utf8_lossy(&body).into_owned();
        if let Some((status, message)) = failure {
            assert!(!message.is_empty(), "{}: {shown}", e.name);
            assert_eq!(
                transport,
                if status == 449 { 449 } else { 200 },
                "{}: {shown}",
                e.name
            );
            assert_ne!(status, 500, "{} with {fields:?}: {shown}", e.name);
            return Answer::Failure(status, message);
        }
        assert_eq!(transport, 200, "{}: {shown}", e.name);
        if e.response != "bytes" {
            let value = json.unwrap_or_else(|| panic!("{} answered {shown:?}", e.name));
            if let Err(fault) = self.check(&e.response, &value) {
                panic!("{} answered no {}: {fault}: {shown}", e.name, e.response);
            }
        }
        Answer::Success
    }

    /// Whether a value is of a published type, no property more and no property less.
    fn check(&self, kind: &str, value: &Value) -> Result<(), String> {
        let wrong = || Err(format!("{value} is no {kind}"));
        if let Some(inner) = kind.strip_prefix("[]") {
            let Some(items) = value.as_array() else {
                return wrong();
            };
            return items.iter().try_for_each(|v| self.check(inner, v));
        }
        if let Some((_, inner)) = kind.strip_prefix("map[").and_then(|k| k.split_once(']')) {
            let Some(items) = value.as_object() else {
                return wrong();
            };
            return items.values().try_for_each(|v| self.check(inner, v));
        }
        let within = |low: i64, high: u64| {
            value.as_u64().is_some_and(|n| n <= high) || value.as_i64().is_some_and(|n| n >= low && n < 0)
        };
        let right = match kind {
            "string" | "bytes" => value.is_string(),
            "bool" => value.is_boolean(),
            "int" | "int64" => value.is_i64(),
            "int32" => within(i32::MIN.into(), i32::MAX.unsigned_abs().into()),
            "uint" | "uint64" => value.is_u64(),
            "uint32" => within(0, u32::MAX.into()),
            "uint8" => within(0, u8::MAX.into()),
            "float32" => value.is_number(),
            "any" => !value.is_null(),
            name => return self.check_structure(name, value),
        };
        if right { Ok(()) } else { wrong() }
    }

    fn check_structure(&self, name: &str, value: &Value) -> Result<(), String> {
        let fields = self.structures[name]["fields"].as_array().unwrap();
        let Some(properties) = value.as_object() else {
            return Err(format!("{value} is no {name}"));
        };
        for property in properties.keys() {
            if !fields.iter().any(|f| f["json_name"] == property.as_str()) {
                return Err(format!("{name} has no property {property}"));
            }
        }
        for field in fields {
            let property = field["json_name"].as_str().unwrap();
            match properties.get(property) {
                Some(v) => self
                    .check(field["type"].as_str().unwrap(), v)
                    .map_err(|e| format!("{name}.{property}: {e}"))?,
                None if field["optional"] == true => {}
                None => return Err(format!("{name} lacks {property}")),
            }
        }
        Ok(())
    }
}

/// A value of the right form that names nothing there is.
fn plausible(kind: &str) -> &'static str {
    match kind {
        "string" | "bytes" => "nothing-of-this-name",
        "int" => "1",
        "bool" => "true",
        k if k.starts_with("[]") => "[]",
        _ => "{}",
    }
}

/// Values that are no value of the type; for text, such as hurts whoever does not escape it.
fn malformed(kind: &str) -> &'static [&'static str] {
    match kind {
        "string" | "bytes" => &["", "\0'\"<b>%00&{[\u{202e}../../..", "%"],
        "int" => &["1e9", "99999999999999999999", "one", "{}"],
        "bool" => &["maybe", "2"],
        k if k.starts_with("[]") => &["{\"open\": ", "{}", "7", "[[]"],
        _ => &["{\"open\": ", "[7]", "\"text\"", "{} {}"],
    }
}

#[test]
fn strangers_are_refused_by_every_endpoint() {
    let walk = Walk::start();
    let wrong: Vec<(String, String)> = [
        ("Username", "mallory"),
        ("AuthType", "Password"),
        ("Password", "guess"),
    ]
    .map(|(n, v)| (n.to_string(), v.to_string()))
    .into();
    for e in table().endpoints().filter(|e| e.caller != Caller::Nobody) {
        for fields in [&[][..], &wrong] {
            match walk.call(e, fields) {
                Answer::Failure(403 | 429, _) => {}
                Answer::Failure(status, message) => panic!("{}: {status} {message}", e.name),
                Answer::Success => panic!("{} served a stranger", e.name),
            }
        }
    }
}

#[test]
fn a_malformed_parameter_is_an_error_that_names_it() {
    let walk = Walk::start();
    let table = table();
    for e in table.endpoints() {
        if let Support::Unsupported(why) = e.support {
            match walk.call(e, &credentials(e.caller)) {
                Answer::Failure(501, message) => assert!(message.contains(why), "{}: {message}", e.name),
                Answer::Failure(status, message) => panic!("{}: {status} {message}", e.name),
                Answer::Success => panic!("{} pretends to work", e.name),
            }
            continue;
        }
        if e.params.iter().any(|p| !p.optional && p.name != "SessionKey") && e.caller != Caller::Nobody {
            match walk.call(e, &credentials(e.caller)) {
                Answer::Failure(400, message) => {
                    assert!(message.contains("Missing"), "{}: {message}", e.name)
                }
                Answer::Failure(status, message) => panic!("{}: {status} {message}", e.name),
                Answer::Success => panic!("{} needs none of its parameters", e.name),
            }
        }
        for bad in e.params {
            let kind = (bad.type_name)();
            for value in malformed(&kind) {
                let mut fields = credentials(e.caller);
                for p in e.params {
                    let other = plausible(&(p.type_name)());
                    let value = if p.name == bad.name { value } else { other };
                    fields.push((p.name.to_string(), value.to_string()));
                }
                let answer = walk.call(e, &fields);
                if kind == "string" || kind == "bytes" {
                    continue;
                }
                match answer {
                    Answer::Failure(400, message) => {
                        assert!(message.contains(bad.name), "{}: {message}", e.name);
                    }
                    Answer::Failure(status, message) => {
                        panic!("{}, {}={value}: {status} {message}", e.name, bad.name);
                    }
                    Answer::Success => panic!("{} took {}={value}", e.name, bad.name),
                }
            }
        }
    }
    let alive = walk.server.call("/api/v1/admin/list-users", &[]);
    assert!(
        alive.as_array().is_some_and(|names| names.contains(&USER.into())),
        "{alive}"
    );
}

#[test]
fn what_succeeds_has_the_published_structure() {
    let walk = Walk::start();
    let bucket = walk.server.call("/api/v1/admin/storage/register-bucket", &[]);
    let bucket = bucket["NewBucketID"].as_str().unwrap().to_string();
    let profile = walk
        .server
        .call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", USER)]);
    let value = |e: &Endpoint, name: &str, kind: &str| -> String {
        match (name, e.name) {
            ("TargetUser", "AdminAddUser" | "AdminAdminUserNew") => "bob".into(),
            ("TargetUser", "AdminAdminUserDelete") => "bob".into(),
            ("TargetUser", "AdminAddUserFromProfile") => "carol".into(),
            ("TargetUser", _) => USER.into(),
            ("TargetPassword", _) => PASSWORD.into(),
            ("TargetOrganization" | "TargetOrgID" | "SetOrganizationID", _) => String::new(),
            ("ProfileData", "AdminAddUserFromProfile") => format!("{{\"PasswordHash\":\"{PASSWORD}\"}}"),
            ("ProfileData", _) => profile["Profile"].to_string(),
            ("SetBucketValue" | "SetKeyHashFormat" | "SetKeyHashValue", _) => String::new(),
            ("BucketID", _) => bucket.clone(),
            (_, _) => plausible(kind).into(),
        }
    };
    let table = table();
    // What removes something comes last, and what changes the caller's own log-in not at all.
    let mut all: Vec<&Endpoint> = table
        .endpoints()
        .filter(|e| e.support == Support::Supported)
        .filter(|e| !e.name.contains("Totp") && e.name != "AdminAccountSetProperties")
        .collect();
    all.sort_by_key(|e| e.name.contains("Delete"));
    let mut succeeded = Vec::new();
    for e in all {
        let mut fields = credentials(e.caller);
        let given = e.params.iter().filter(|p| p.name != "SessionKey");
        fields.extend(given.map(|p| (p.name.to_string(), value(e, p.name, &(p.type_name)()))));
        if let Answer::Success = walk.call(e, &fields) {
            succeeded.push(e.name);
        }
    }
    // Without a device and without jobs; those have tests of their own.
    for name in [
        "AdminAccountProperties",
        "AdminAccountSessionStart",
        "AdminAccountSessionStartAsUser",
        "AdminAddUser",
        "AdminAddUserFromProfile",
        "AdminAdminUserList",
        "AdminAdminUserNew",
        "AdminAdminUserDelete",
        "AdminCountJobsForCustomSearch",
        "AdminDeleteUser",
        "AdminDispatcherListActive",
        "AdminGetJobsAll",
        "AdminGetJobsForDateRange",
        "AdminGetJobsForUser",
        "AdminGetUserProfile",
        "AdminGetUserProfileAndHash",
        "AdminGetUserProfileHash",
        "AdminListUsers",
        "AdminListUsersFull",
        "AdminMetaVersion",
        "AdminSetUserProfile",
        "AdminStorageBucketProperties",
        "AdminStorageDeleteBucket",
        "AdminStorageFreeSpace",
        "AdminStorageListBuckets",
        "AdminStorageRegisterBucket",
        "BrandingProps",
        "HybridSessionStart",
        "UserWebGetJobs",
        "UserWebGetUserProfileAndHash",
        "UserWebSessionStart",
    ] {
        assert!(
            succeeded.contains(&name),
            "{name} failed; these succeeded: {succeeded:?}"
        );
    }
}

/// Fetches a page of the server.
fn get(server: &Server, path: &str) -> (u16, String, String) {
    let mut answer = support::http()
        .get(format!("{}{path}", server.url))
        .call()
        .unwrap();
    let policy = answer
        .headers()
        .get("content-security-policy")
        .map(|v| v.to_str().unwrap().to_string());
    (
        answer.status().as_u16(),
        policy.unwrap_or_default(),
        answer.body_mut().read_to_string().unwrap(),
    )
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let server = Server::start();
    let mut waiting = vec!["/docs".to_string()];
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut anchors = Vec::new();
    while let Some(path) = waiting.pop() {
        if seen.contains_key(&path) {
            continue;
        }
        let (status, policy, text) = get(&server, &path);
        assert_eq!(status, 200, "{path}");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        if text.starts_with("<!doctype html>") {
            assert!(
                !text.contains("<script>") && !text.contains(" style="),
                "{path} has inline parts"
            );
            for link in text.split("href=\"").skip(1).chain(text.split("src=\"").skip(1)) {
                let target = link.split('"').next().unwrap();
                let (page, anchor) = target.split_once('#').unwrap_or((target, ""));
                if page.starts_with("/docs") {
                    waiting.push(page.to_string());
                    if !anchor.is_empty() {
                        anchors.push((path.clone(), page.to_string(), anchor.to_string()));
                    }
                }
            }
        }
        seen.insert(path, text);
    }
    for (from, page, anchor) in anchors {
        let there = seen[&page].contains(&format!("id=\"{anchor}\""));
        assert!(there, "{from} links to {page}#{anchor}, which does not exist");
    }
    for e in table().endpoints() {
        let page = seen.get(&format!("/docs/endpoints/{}", e.name));
        assert!(
            page.is_some_and(|text| text.contains(e.path)),
            "{} can not be reached",
            e.name
        );
    }
    for (name, t) in structures() {
        let reached = seen.contains_key(&format!("/docs/types/{name}"));
        assert!(reached || t["kind"] != "struct", "{name} can not be reached");
    }
    assert_eq!(get(&server, "/docs/endpoints/Nothing").0, 404);
}

#[test]
fn the_openapi_document_is_whole() {
    let server = Server::start();
    let document: Value = serde_json::from_str(&get(&server, "/docs/openapi.json").2).unwrap();
    let committed = include_str!("../../../docs/api/openapi.json");
    assert_eq!(
        document,
        serde_json::from_str::<Value>(committed).unwrap(),
        "docs/api is stale"
    );
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let references = committed.split("\"#/components/schemas/").skip(1);
    for reference in references.map(|r| r.split('"').next().unwrap()) {
        assert!(schemas.contains_key(reference), "{reference} is not there");
    }
    for e in table().endpoints() {
        let operation = &document["paths"][e.path][e.method.to_ascii_lowercase()];
        assert_eq!(operation["operationId"], e.name);
        let support = if e.support == Support::Supported {
            "supported"
        } else {
            "unsupported"
        };
        assert_eq!(operation["x-encke-support"], support, "{}", e.name);
    }
}

#[test]
fn the_committed_files_are_what_the_program_writes() {
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["admin", "api-reference", "--out"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api");
    let names = |folder: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(folder.path()), names(&committed));
    for name in names(folder.path()) {
        let written = std::fs::read(folder.path().join(&name)).unwrap();
        let same = std::fs::read(committed.join(&name)).unwrap() == written;
        assert!(
            same,
            "docs/api/{} is stale; write it anew with `encke admin api-reference --out docs/api`",
            name.display()
        );
    }
}
