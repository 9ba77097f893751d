//! The Storage Role through the front door: buckets by API, their content by HTTP and by stock restic.

use crate::support::{Server, configure};
use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use ureq::http::{Response, StatusCode};

const REGISTER: &str = "/api/v1/admin/storage/register-bucket";
const LIST: &str = "/api/v1/admin/storage/list-buckets";
const PROPERTIES: &str = "/api/v1/admin/storage/bucket-properties";
const DELETE: &str = "/api/v1/admin/storage/delete-bucket";
const FREE_SPACE: &str = "/api/v1/admin/storage/free-space";

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// A bucket and how to reach it.
struct Bucket {
    id: String,
    key: String,
    url: String,
    http: ureq::Agent,
}

impl Bucket {
    fn register(server: &Server) -> Self {
        let new = server.call(REGISTER, &[]);
        assert_eq!(new["Status"], 200, "{new}");
        let text = |name: &str| new[name].as_str().unwrap().to_string();
        Self::at(server, &text("NewBucketID"), &text("NewBucketKey"))
    }

    fn at(server: &Server, id: &str, key: &str) -> Self {
        Self {
            id: id.into(),
            key: key.into(),
            url: format!("{}/storage/{id}/", server.url),
            http: crate::support::http(),
        }
    }

    fn authorization(&self) -> String {
        let pair = format!("{}:{}", self.id, self.key);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Response<()>, Vec<u8>) {
        let mut request = self
            .http
            .get(format!("{}{path}", self.url))
            .header("Authorization", self.authorization());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, mut body) = request.call().unwrap().into_parts();
        let content = body.with_config().limit(1 << 30).read_to_vec().unwrap();
        (parts.status, Response::from_parts(parts, ()), content)
    }

    fn head(&self, path: &str) -> (StatusCode, Option<String>) {
        let answer = self
            .http
            .head(format!("{}{path}", self.url))
            .header("Authorization", self.authorization())
            .call()
            .unwrap();
        let length = answer.headers().get("content-length");
        let length = length.map(|v| v.to_str().unwrap().to_string());
        (answer.status(), length)
    }

    fn post(&self, path: &str, content: &[u8]) -> StatusCode {
        let answer = self
            .http
            .post(format!("{}{path}", self.url))
            .header("Authorization", self.authorization())
            .send(content);
        answer.unwrap().status()
    }

    fn delete(&self, path: &str) -> StatusCode {
        let answer = self
            .http
            .delete(format!("{}{path}", self.url))
            .header("Authorization", self.authorization())
            .call();
        answer.unwrap().status()
    }

    /// Sends raw text on a connection of its own and reads until the server closes it.
    fn raw(&self, server: &Server, request: &str) -> String {
        let mut socket = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Runs stock restic on the bucket.
    fn restic(&self, server: &Server, arguments: &[&str]) -> String {
        let host = server.url.strip_prefix("http://").unwrap();
        let output = Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(format!(
                "rest:http://{}:{}@{host}/storage/{}/",
                self.id, self.key, self.id
            ))
            .args(arguments)
            .env("RESTIC_PASSWORD", "correct horse")
            .output()
            .expect("restic is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "restic {arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }
}

/// Every file below a folder, by its path from there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Waits for what the server does in the background.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it did not happen within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_bucket_is_made_listed_measured_and_deleted() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    assert_eq!(bucket.id.len(), 36);
    assert!(bucket.key.len() >= 32);

    let list = server.call(LIST, &[]);
    let listed = &list[&bucket.id];
    assert_eq!(listed["ReadWriteKey"], sha256(bucket.key.as_bytes()));
    assert_eq!(listed["ReadWriteKeyFormat"], 101);
    assert_eq!(listed["OrganizationID"], "");
    assert_eq!(listed["Size"]["Size"], 0);

    let content = vec![7u8; 100_000];
    assert_eq!(
        bucket.post(&format!("data/{}", sha256(&content)), &content),
        StatusCode::OK
    );
    let created = listed["CreateTime"].as_i64().unwrap();
    let after = (created + 3600).to_string();
    let measured = server.call(
        PROPERTIES,
        &[("BucketID", &bucket.id), ("AfterTimestamp", &after)],
    );
    assert_eq!(measured["Size"]["Size"], 100_000);
    assert!(measured["Size"]["MeasureStarted"].as_i64().unwrap() >= created);
    let cached = server.call(PROPERTIES, &[("BucketID", &bucket.id)]);
    assert_eq!(cached, measured);

    let free = server.call(FREE_SPACE, &[]);
    assert_eq!(free["Unlimited"], false);
    assert!(free["AvailableBytes"].as_u64().unwrap() > 0);
    let percent = free["UsedPercent"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&percent));

    assert_eq!(server.call(DELETE, &[("BucketID", &bucket.id)])["Status"], 200);
    assert_eq!(server.call(LIST, &[]), Value::Object(Default::default()));
    assert_eq!(server.call(DELETE, &[("BucketID", &bucket.id)])["Status"], 404);
    assert_eq!(
        server.call(PROPERTIES, &[("BucketID", &bucket.id)])["Status"],
        404
    );
    assert_eq!(bucket.head("config").0, StatusCode::UNAUTHORIZED);
    assert_eq!(files(&server.data_dir.join("buckets")), Vec::<String>::new());
}

#[test]
fn a_caller_may_keep_the_key_to_itself() {
    let server = Server::start();
    let key = "a key that the server never sees";
    let hash = sha256(key.as_bytes());
    let fields = [
        ("SetBucketValue", "brought-along_1"),
        ("SetKeyHashFormat", "101"),
        ("SetKeyHashValue", &hash),
    ];
    let new = server.call(REGISTER, &fields);
    assert_eq!(new["Status"], 200, "{new}");
    assert_eq!(new["NewBucketID"], "brought-along_1");
    assert_eq!(new["NewBucketKey"], "");
    let bucket = Bucket::at(&server, "brought-along_1", key);
    assert_eq!(bucket.post("?create=true", b""), StatusCode::OK);
    assert_eq!(bucket.head("config").0, StatusCode::NOT_FOUND);

    assert_eq!(server.call(REGISTER, &fields)["Status"], 409);
    for (name, value) in [
        ("SetBucketValue", "../outside"),
        ("SetBucketValue", ".deleted-x"),
        ("SetBucketValue", "a/b"),
        ("SetKeyHashValue", &hash),
        ("SetKeyHashFormat", "101"),
        ("SetOrganizationID", "nowhere"),
    ] {
        assert_eq!(
            server.call(REGISTER, &[(name, value)])["Status"],
            400,
            "{name} {value}"
        );
    }
    for (format, value) in [("0", hash.as_str()), ("1", &hash), ("101", "abc")] {
        let fields = [("SetKeyHashFormat", format), ("SetKeyHashValue", value)];
        assert_eq!(server.call(REGISTER, &fields)["Status"], 400, "{format} {value}");
    }
}

#[test]
fn an_organization_sees_only_its_own_buckets() {
    let server = Server::start_prepared(|data_dir| {
        configure(data_dir, |config| {
            for name in ["north", "south"] {
                let organization = config.organizations.entry(name.into()).or_default();
                organization.hosts.push(format!("{name}.test"));
            }
        });
    });
    for name in ["north", "south"] {
        let fields = [
            ("TargetUser", name),
            ("TargetPassword", "password"),
            ("TargetOrgID", name),
        ];
        let made = server.call("/api/v1/admin/admin-user/new", &fields);
        assert_eq!(made["Status"], 200, "{made}");
    }
    let as_admin = |name: &'static str, path: &str, fields: &[(&str, &str)]| {
        let mut all = vec![
            ("Username", name),
            ("AuthType", "Password"),
            ("Password", "password"),
        ];
        all.extend(fields);
        server.post_to_host(&format!("{name}.test"), path, &all)
    };
    let north = as_admin("north", REGISTER, &[]);
    let id = north["NewBucketID"]
        .as_str()
        .unwrap_or_else(|| panic!("{north}"))
        .to_string();
    let top = Bucket::register(&server);
    let given = server.call(REGISTER, &[("SetOrganizationID", "south")]);
    let given = given["NewBucketID"].as_str().unwrap();

    let keys = |list: Value| list.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(as_admin("north", LIST, &[])), [id.as_str()]);
    assert_eq!(keys(as_admin("south", LIST, &[])), [given]);
    assert_eq!(keys(server.call(LIST, &[])).len(), 3);
    for foreign in [&id, &top.id] {
        for path in [PROPERTIES, DELETE] {
            assert_eq!(as_admin("south", path, &[("BucketID", foreign)])["Status"], 404);
        }
    }
    assert_eq!(
        as_admin("south", REGISTER, &[("SetOrganizationID", "north")])["Status"],
        403
    );
    assert_eq!(
        as_admin("south", REGISTER, &[("SetBucketValue", &id)])["Status"],
        409
    );
    assert_eq!(as_admin("north", FREE_SPACE, &[])["Status"], 403);
    assert_eq!(as_admin("north", DELETE, &[("BucketID", &id)])["Status"], 200);
}

#[test]
fn objects_are_kept_as_the_protocol_says() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    // More than one buffer of the server.
    let content: Vec<u8> = (0..1_000_003u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let name = sha256(&content);
    let path = format!("data/{name}");

    assert_eq!(bucket.head(&path).0, StatusCode::NOT_FOUND);
    assert_eq!(bucket.post(&path, &content), StatusCode::OK);
    // Again: not an error, and nothing changes.
    assert_eq!(bucket.post(&path, &content), StatusCode::OK);
    assert_eq!(bucket.head(&path), (StatusCode::OK, Some("1000003".into())));
    assert_eq!(bucket.get(&path, &[]).2, content);

    let (status, answer, part) = bucket.get(&path, &[("Range", "bytes=500000-900000")]);
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.headers()["content-range"], "bytes 500000-900000/1000003");
    assert_eq!(part, content[500_000..=900_000]);
    let (status, _, part) = bucket.get(&path, &[("Range", "bytes=1000000-")]);
    assert_eq!(
        (status, part.as_slice()),
        (StatusCode::PARTIAL_CONTENT, &content[1_000_000..])
    );
    let (status, answer, _) = bucket.get(&path, &[("Range", "bytes=1000003-")]);
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(answer.headers()["content-range"], "bytes */1000003");

    let (_, answer, list) = bucket.get("data/", &[("Accept", "application/vnd.x.restic.rest.v2")]);
    assert_eq!(
        answer.headers()["content-type"],
        "application/vnd.x.restic.rest.v2"
    );
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list, serde_json::json!([{"name": name, "size": 1_000_003}]));
    let (_, answer, list) = bucket.get("data/", &[]);
    assert_eq!(
        answer.headers()["content-type"],
        "application/vnd.x.restic.rest.v1"
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&list).unwrap(),
        serde_json::json!([name])
    );
    assert_eq!(bucket.get("snapshots/", &[]).2, b"[]");

    assert_eq!(bucket.post("config", b"first"), StatusCode::OK);
    assert_eq!(bucket.post("config", b"second"), StatusCode::FORBIDDEN);
    assert_eq!(bucket.get("config", &[]).2, b"first");

    assert_eq!(bucket.delete(""), StatusCode::FORBIDDEN);
    assert_eq!(bucket.delete(&path), StatusCode::OK);
    assert_eq!(bucket.delete(&path), StatusCode::NOT_FOUND);
    assert_eq!(bucket.get("data/", &[]).2, b"[]");
}

#[test]
fn a_wrong_key_and_an_unknown_bucket_look_the_same() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    let other = Bucket::register(&server);
    let ask = |id: &str, user: &str, key: &str| {
        let mut asked = Bucket::at(&server, id, key);
        asked.id = user.into();
        let (status, answer, body) = asked.get("data/", &[]);
        let mut headers = answer.headers().clone();
        headers.remove("date");
        (status, headers, body)
    };
    let wrong = ask(&bucket.id, &bucket.id, "wrong");
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert!(
        wrong.1["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Basic ")
    );
    assert_eq!(ask(&bucket.id, &bucket.id, ""), wrong);
    assert_eq!(ask("unknown", "unknown", ""), wrong);
    assert_eq!(ask("unknown", &bucket.id, &bucket.key), wrong);
    assert_eq!(ask(&other.id, &bucket.id, &bucket.key), wrong);
    assert_eq!(ask(&other.id, &other.id, &bucket.key), wrong);
    let anonymous = bucket.http.get(format!("{}config", bucket.url)).call();
    assert_eq!(anonymous.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(!server.log().contains(&bucket.key));
}

#[test]
fn what_is_wrong_or_broken_leaves_nothing() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    let buckets = server.data_dir.join("buckets");
    let content = vec![1u8; 700_000];
    for kind in ["data", "keys", "locks", "snapshots", "index"] {
        let path = format!("{kind}/{}", sha256(b"something else"));
        assert_eq!(bucket.post(&path, &content), StatusCode::BAD_REQUEST);
        assert_eq!(bucket.head(&path).0, StatusCode::NOT_FOUND);
    }
    let name = sha256(&content);
    for path in [
        format!("data/{}", name.to_uppercase()),
        format!("data/{}", &name[1..]),
        format!("data/{name}0"),
        format!("data/{}/{name}", &name[..2]),
        format!("other/{name}"),
        format!("keys/..%2f..%2f{}", &name[10..]),
        "data/%2e%2e".into(),
        "config/x".into(),
        "tmp/x".into(),
        "tmp/".into(),
    ] {
        assert_eq!(bucket.post(&path, &content), StatusCode::BAD_REQUEST, "{path}");
    }
    for path in [
        "data/../config",
        "../../encke.db",
        "keys/../../../../server.key",
        "%2e%2e/server.key",
    ] {
        let answer = bucket.raw(
            &server,
            &format!(
                "GET /storage/{}/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\r\n",
                bucket.id,
                bucket.authorization()
            ),
        );
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    // An upload that breaks off: the server notices, and the next upload finds no trace of it.
    let mut socket = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST /storage/{}/data/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\nAuthorization: {}\r\n\r\n",
        bucket.id,
        bucket.authorization()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&content[..600_000]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // Closed by the server, with an answer or without.
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(bucket.head(&format!("data/{name}")).0, StatusCode::NOT_FOUND);
    assert_eq!(bucket.post(&format!("data/{name}"), &content), StatusCode::OK);
    assert_eq!(bucket.delete(&format!("data/{name}")), StatusCode::OK);

    // The server stops only when its threads are done, so drafts are gone by then.
    let mut server = server;
    server.stop();
    assert_eq!(files(&buckets), Vec::<String>::new());
}

#[test]
fn a_start_settles_what_a_crash_left() {
    let mut server = Server::start();
    let bucket = Bucket::register(&server);
    assert_eq!(bucket.post("config", b"kept"), StatusCode::OK);
    let content = vec![3u8; 10];
    let path = format!("locks/{}", sha256(&content));
    assert_eq!(bucket.post(&path, &content), StatusCode::OK);
    server.kill();

    let buckets = server.data_dir.join("buckets");
    // A deletion that had moved the folder away but not forgotten the bucket, one that had, a broken upload, and a
    // folder that is nobody's.
    fs::write(buckets.join(&bucket.id).join("tmp").join("broken"), b"x").unwrap();
    fs::rename(
        buckets.join(&bucket.id),
        buckets.join(format!(".deleted-{}.abc", bucket.id)),
    )
    .unwrap();
    fs::create_dir_all(buckets.join(".deleted-forgotten.abc/data/00")).unwrap();
    fs::write(buckets.join(".deleted-forgotten.abc/data/00/x"), b"x").unwrap();
    fs::create_dir_all(buckets.join("nobodys")).unwrap();
    fs::write(buckets.join("nobodys/config"), b"x").unwrap();

    server.restart();
    wait_until(|| {
        let left = files(&buckets);
        !left
            .iter()
            .any(|f| f.contains("/tmp/") || f.starts_with(".deleted"))
    });
    let mut expected = vec![
        format!("{}/config", bucket.id),
        format!("{}/{path}", bucket.id),
        "nobodys/config".into(),
    ];
    expected.sort();
    assert_eq!(files(&buckets), expected);
    let bucket = Bucket::at(&server, &bucket.id, &bucket.key);
    assert_eq!(bucket.get("config", &[]).2, b"kept");
    // The folder that is nobody's is in the way, and stays.
    assert_eq!(
        server.call(REGISTER, &[("SetBucketValue", "nobodys")])["Status"],
        409
    );
    assert!(buckets.join("nobodys/config").exists());
}

#[test]
fn a_role_that_is_switched_off_says_so() {
    let mut server = Server::start();
    let bucket = Bucket::register(&server);
    server.stop();
    configure(&server.data_dir, |config| {
        config.storage_role.role_enabled = false
    });
    server.restart();
    let bucket = Bucket::at(&server, &bucket.id, &bucket.key);
    assert_eq!(bucket.head("config").0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bucket.post("config", b"x"), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.call(LIST, &[])["Status"], 403);
}

#[test]
fn a_full_disk_is_told_and_the_server_goes_on() {
    let Some(server) = Server::start_on_disk(90) else {
        eprintln!("not tried: this system lets no test mount a disk");
        return;
    };
    let bucket = Bucket::register(&server);
    let blob = |fill: u8, size: usize| {
        let content = vec![fill; size];
        (sha256(&content), content)
    };
    // Data leaves room for the rest.
    let (name, content) = blob(1, 40 << 20);
    assert_eq!(
        bucket.post(&format!("data/{name}"), &content),
        StatusCode::INSUFFICIENT_STORAGE
    );
    let (small, content) = blob(2, 1 << 20);
    assert_eq!(bucket.post(&format!("data/{small}"), &content), StatusCode::OK);
    // Indexes and locks may take that room, until it is used up.
    let (first, content) = blob(3, 60 << 20);
    assert_eq!(bucket.post(&format!("index/{first}"), &content), StatusCode::OK);
    let (second, content) = blob(4, 40 << 20);
    let path = format!("index/{second}");
    assert_eq!(bucket.post(&path, &content), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(bucket.head(&path).0, StatusCode::NOT_FOUND);
    // Nothing of it was kept: what fits still fits.
    let (third, content) = blob(5, 10 << 20);
    assert_eq!(bucket.post(&format!("index/{third}"), &content), StatusCode::OK);
    assert_eq!(bucket.delete(&format!("index/{first}")), StatusCode::OK);
    let (second, content) = blob(4, 40 << 20);
    assert_eq!(bucket.post(&format!("index/{second}"), &content), StatusCode::OK);
    assert_eq!(bucket.get(&format!("index/{second}"), &[]).2, content);
    assert!(server.call(LIST, &[])[&bucket.id].is_object());
}

#[test]
fn stock_restic_works_on_a_bucket() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    let source = server.work_dir.join("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    let mut seed = 1u64;
    for i in 0..40 {
        let content: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .take(i * 7_000)
        .collect();
        let folder = if i % 2 == 0 { "deep" } else { "deep/er" };
        fs::write(source.join(folder).join(format!("file {i}")), content).unwrap();
    }
    let source_text = source.to_str().unwrap();

    bucket.restic(&server, &["init"]);
    bucket.restic(&server, &["backup", source_text]);
    fs::write(source.join("deep/file 2"), b"changed").unwrap();
    bucket.restic(&server, &["backup", source_text]);
    bucket.restic(&server, &["check", "--read-data"]);
    let snapshots: Value = serde_json::from_str(&bucket.restic(&server, &["snapshots", "--json"])).unwrap();
    assert_eq!(snapshots.as_array().unwrap().len(), 2);

    let target = server.work_dir.join("restored");
    bucket.restic(
        &server,
        &["restore", "latest", "--target", target.to_str().unwrap()],
    );
    let restored = target.join(source_text.trim_start_matches('/'));
    let names = files(&source);
    assert_eq!(files(&restored), names);
    for name in &names {
        assert_eq!(
            fs::read(restored.join(name)).unwrap(),
            fs::read(source.join(name)).unwrap(),
            "{name}"
        );
    }

    bucket.restic(&server, &["forget", "--keep-last", "1", "--prune"]);
    bucket.restic(&server, &["check", "--read-data"]);
    bucket.restic(&server, &["unlock"]);
    // No lock and no draft is left.
    let left = files(&server.data_dir.join("buckets").join(&bucket.id));
    assert!(
        !left
            .iter()
            .any(|f| f.starts_with("locks/") || f.starts_with("tmp/")),
        "{left:?}"
    );
}

const SET_RULES: &str = "/api/encke/v1/bucket/set-rules";

fn set_rules(server: &Server, bucket: &Bucket, quota: &str, append_only: &str, trash_days: &str) -> Value {
    server.call(
        SET_RULES,
        &[
            ("BucketID", &bucket.id),
            ("QuotaBytes", quota),
            ("AppendOnly", append_only),
            ("TrashDays", trash_days),
        ],
    )
}

/// A repository with two snapshots of a folder that changed between them.
fn repository_of_two(server: &Server, bucket: &Bucket) -> std::path::PathBuf {
    let source = server.work_dir.join("source");
    fs::create_dir_all(&source).unwrap();
    let noise: Vec<u8> = (0..300_000u64).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    fs::write(source.join("one"), &noise).unwrap();
    bucket.restic(server, &["init"]);
    bucket.restic(server, &["backup", source.to_str().unwrap()]);
    fs::write(source.join("two"), &noise[100_001..]).unwrap();
    bucket.restic(server, &["backup", source.to_str().unwrap()]);
    source
}

#[test]
fn a_quota_stops_new_data_and_lets_a_full_bucket_be_pruned() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    assert_eq!(set_rules(&server, &bucket, "-1", "0", "0")["Status"], 400);
    assert_eq!(set_rules(&server, &bucket, "1000", "0", "9999")["Status"], 400);
    repository_of_two(&server, &bucket);
    let after = "4000000000";
    let measured = server.call(PROPERTIES, &[("BucketID", &bucket.id), ("AfterTimestamp", after)]);
    let held = measured["Size"]["Size"].as_i64().unwrap();
    assert_eq!(
        set_rules(&server, &bucket, &(held + 1000).to_string(), "0", "0")["Status"],
        200
    );
    let small = b"still fits".to_vec();
    assert_eq!(
        bucket.post(&format!("data/{}", sha256(&small)), &small),
        StatusCode::OK
    );
    let large = vec![3u8; 1000];
    let path = format!("data/{}", sha256(&large));
    assert_eq!(bucket.post(&path, &large), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(bucket.head(&path).0, StatusCode::NOT_FOUND);
    // The one object nothing points to goes as well.
    bucket.restic(&server, &["forget", "--keep-last", "1", "--prune"]);
    bucket.restic(&server, &["check", "--read-data"]);
    assert_eq!(set_rules(&server, &bucket, "0", "0", "0")["Status"], 200);
    assert_eq!(bucket.post(&path, &large), StatusCode::OK);
}

#[test]
fn nothing_goes_from_an_append_only_bucket() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    assert_eq!(set_rules(&server, &bucket, "0", "1", "0")["Status"], 200);
    let rules = server.call("/api/encke/v1/bucket/rules", &[("BucketID", &bucket.id)]);
    assert_eq!(
        rules,
        serde_json::json!({"QuotaBytes": 0, "AppendOnly": true, "TrashDays": 0})
    );
    // restic takes and removes its locks meanwhile.
    let source = repository_of_two(&server, &bucket);
    let before = files(&server.data_dir.join("buckets").join(&bucket.id));
    let snapshot = before.iter().find(|f| f.starts_with("snapshots/")).unwrap();
    assert_eq!(bucket.delete(snapshot), StatusCode::FORBIDDEN);
    assert_eq!(bucket.delete("config"), StatusCode::FORBIDDEN);
    bucket.restic(&server, &["backup", source.to_str().unwrap()]);
    let now = files(&server.data_dir.join("buckets").join(&bucket.id));
    assert!(before.iter().all(|f| now.contains(f)));
    bucket.restic(&server, &["check", "--read-data"]);
}

#[test]
fn what_a_thief_deletes_is_brought_back() {
    let server = Server::start();
    let bucket = Bucket::register(&server);
    assert_eq!(set_rules(&server, &bucket, "0", "0", "30")["Status"], 200);
    repository_of_two(&server, &bucket);
    let folder = server.data_dir.join("buckets").join(&bucket.id);
    let kept = |folder: &Path| {
        let mut all = files(folder);
        all.retain(|f| !f.starts_with("trash/") && !f.starts_with("locks/"));
        all
    };
    let before = kept(&folder);
    let snapshots = bucket.restic(&server, &["snapshots", "--json"]);
    // With the key and the password: everything is forgotten, then what is left is wiped.
    bucket.restic(
        &server,
        &["forget", "--keep-last", "1", "--prune", "--group-by", ""],
    );
    for file in kept(&folder) {
        let path = match file.strip_prefix("data/") {
            Some(name) => format!("data/{}", name.rsplit('/').next().unwrap()),
            None => file,
        };
        assert_eq!(bucket.delete(&path), StatusCode::OK, "{path}");
    }
    assert!(kept(&folder).is_empty());
    assert_eq!(bucket.get("snapshots/", &[]).2, b"[]");

    let trash = server.call("/api/encke/v1/bucket/trash", &[("BucketID", &bucket.id)]);
    let hours = trash.as_array().unwrap();
    let sum = |key: &str| hours.iter().map(|h| h[key].as_u64().unwrap()).sum::<u64>();
    assert!(sum("Objects") >= before.len() as u64, "{trash}");
    assert!(sum("Snapshots") >= 2, "{trash}");
    let since = hours[0]["Time"].as_i64().unwrap().to_string();
    let fields = [("BucketID", bucket.id.as_str()), ("Since", &since)];
    let restored = server.call("/api/encke/v1/bucket/undelete", &fields);
    assert_eq!(
        restored["Objects"].as_u64().unwrap(),
        sum("Objects"),
        "{restored}"
    );
    let after = kept(&folder);
    assert!(before.iter().all(|f| after.contains(f)));
    bucket.restic(&server, &["check", "--read-data"]);
    let ids = |text: &str| {
        let all: Value = serde_json::from_str(text).unwrap();
        let mut ids: Vec<String> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["id"].as_str().unwrap().to_string())
            .collect();
        ids.sort();
        ids
    };
    let now = ids(&bucket.restic(&server, &["snapshots", "--json"]));
    assert!(ids(&snapshots).iter().all(|id| now.contains(id)));
    // Once more changes nothing; nor can the bucket's key look into the trash.
    let again = server.call("/api/encke/v1/bucket/undelete", &fields);
    assert_eq!(again["Objects"], 0);
    assert_eq!(bucket.get("trash/", &[]).0, StatusCode::BAD_REQUEST);
}
