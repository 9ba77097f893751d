//! Replication through the front door: real servers, one copied to others, while either side comes and goes.

use crate::support::device::until;
use crate::support::{ADMIN, Server, configure, noise, postgres};
use encke_api::types::ReplicaServer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PASSWORD: &str = "correct horse";
/// `State` of a channel that is up to date, or working: list done, workers started.
const FOLLOWING: i64 = 13;

/// A server with both roles, as a copy should be: it does not report missed backups.
fn server() -> Server {
    Server::start_prepared(|data_dir| {
        configure(data_dir, |config| {
            config.authentication_role.generate_missed_backup_events = false;
        });
    })
}

fn ok(answer: &Value) {
    assert_eq!(answer["Status"], 200, "{answer}");
}

fn target(to: &Server, strategy: &str) -> Value {
    json!({
        "Type": "comet", "Description": strategy, "RemoteAddress": to.url, "Username": ADMIN, "Password": ADMIN,
        "ReplicaDeletionStrategy": strategy,
    })
}

/// Of the running process; nothing while there is none.
fn start_hash(server: &Server) -> Option<String> {
    let fields = [("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];
    let url = format!("{}/api/v1/admin/meta/version", server.url);
    let mut answer = crate::support::http().post(url).send_form(fields).ok()?;
    let version: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
    version["ServerStartHash"].as_str().map(str::to_string)
}

/// Changes the configuration through the API, and waits for the restart that comes of it.
fn set_config(server: &Server, change: impl FnOnce(&mut Value)) -> Value {
    let before = start_hash(server);
    let mut config = server.call("/api/v1/admin/meta/server-config/get", &[]);
    change(&mut config);
    let text = config.to_string();
    let saved = server.call("/api/v1/admin/meta/server-config/set", &[("Config", &text)]);
    if saved["Status"] == 200 {
        until("the server to be back", || {
            start_hash(server).filter(|now| Some(now) != before.as_ref())
        });
    }
    saved
}

fn replicate(server: &Server, role: &str, targets: &[Value]) {
    ok(&set_config(server, |config| {
        config[role]["ReplicateTo"] = json!(targets)
    }));
}

fn states(server: &Server) -> Vec<Value> {
    let states = server.call("/api/v1/admin/replication/state", &[]);
    states.as_array().unwrap_or_else(|| panic!("{states}")).clone()
}

fn details(server: &Server) -> Vec<Value> {
    let details = server.call("/api/encke/v1/replication/details", &[]);
    details.as_array().unwrap_or_else(|| panic!("{details}")).clone()
}

/// Waits until everything has been listed and nothing waits any more.
fn settled(server: &Server) -> Vec<Value> {
    until("everything to be copied", || {
        let all = states(server);
        let done = |s: &Value| s["State"] == FOLLOWING && s["ItemsQueued"] == 0 && s["ActiveWorkers"] == 0;
        let complete = details(server)
            .iter()
            .all(|d| d["LastComplete"].as_i64().unwrap() > 0);
        (complete && all.iter().all(done)).then_some(all)
    })
}

fn users(server: &Server) -> Vec<String> {
    let names = server.call("/api/v1/admin/list-users", &[]);
    serde_json::from_value(names).unwrap()
}

fn add_user(server: &Server, name: &str) {
    let fields = [
        ("TargetUser", name),
        ("TargetPassword", PASSWORD),
        ("StoreRecoveryCode", "1"),
    ];
    ok(&server.call("/api/v1/admin/add-user", &fields));
}

/// A profile without the secrets that each server wraps with its own key.
fn profile(server: &Server, name: &str) -> Option<Value> {
    let mut profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", name)]);
    profile["Username"].as_str()?;
    for secret in ["PasswordRecovery", "TOTPKey"] {
        let kept = profile[secret].as_str().is_some_and(|s| !s.is_empty());
        profile[secret] = json!(kept);
    }
    Some(profile)
}

fn edit(server: &Server, name: &str, change: impl Fn(&mut Value)) {
    let mut profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", name)]);
    change(&mut profile);
    let text = profile.to_string();
    let fields = [("TargetUser", name), ("ProfileData", text.as_str())];
    ok(&server.call("/api/v1/admin/set-user-profile", &fields));
}

fn same_account(name: &str, source: &Server, replica: &Server) {
    until(&format!("{name} to be the same on both sides"), || {
        let (a, b) = (profile(source, name)?, profile(replica, name)?);
        (a == b).then_some(())
    });
}

fn log_in(server: &Server, name: &str, password: &str, code: Option<&str>) -> Value {
    let kind = if code.is_some() {
        "PasswordTOTP"
    } else {
        "Password"
    };
    let fields = [
        ("Username", name),
        ("AuthType", kind),
        ("Password", password),
        ("TOTP", code.unwrap_or_default()),
    ];
    server.post("/api/v1/user/web/session/start", &fields)["Status"].clone()
}

fn set_policy(server: &Server, id: &str, policy: &Value) {
    let text = policy.to_string();
    let fields = [("PolicyID", id), ("Policy", text.as_str())];
    ok(&server.call("/api/v1/admin/policies/set", &fields));
}

fn policies(server: &Server) -> Vec<String> {
    let all = server.call("/api/v1/admin/policies/list", &[]);
    all.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn accounts_arrive_with_all_they_need_and_follow_every_change() {
    let (mut source, replica) = (server(), server());
    set_policy(
        &source,
        "strict",
        &json!({"Description": "Strict", "Policy": {"PreventDeleteStorageVault": true}}),
    );
    let group = json!({"Name": "Offices"}).to_string();
    ok(&source.call(
        "/api/v1/admin/user-groups/set",
        &[("GroupID", "offices"), ("Group", &group)],
    ));
    let quota = json!({"Description": "Team", "LimitBytes": 1 << 30}).to_string();
    let fields = [
        ("SharedStorageQuotaID", "team"),
        ("SharedStorageQuota", quota.as_str()),
    ];
    ok(&source.call("/api/v1/admin/squota/set-with-hash", &fields));
    add_user(&source, "alice");
    add_user(&source, "bob");
    edit(&source, "alice", |p| {
        p["PolicyID"] = json!("strict");
        p["GroupID"] = json!("offices");
        p["Novel"] = json!({ "kept": [1, 2] });
        p["Destinations"]["vault"] = json!({
            "Description": "v", "DestinationType": 1002, "LocalcopyPath": "/v", "StorageLimitID": "team",
            "StorageLimitEnabled": true, "DefaultRetention": { "Mode": 801, "Ranges": [] },
        });
    });

    replicate(&source, "AuthenticationRole", &[target(&replica, "none")]);
    same_account("alice", &source, &replica);
    same_account("bob", &source, &replica);
    let state = &settled(&source)[0];
    assert_eq!(state["DisplayClass"], 101);
    assert_eq!(state["Description"], "none");
    assert_eq!(state["RemoteServerID"].as_str().unwrap().len(), 32);
    assert_eq!(state["TotalWorkers"], 4);
    // A quota, a group, a policy and two accounts.
    assert_eq!(state["ItemsReplicated"], 5, "{state}");
    assert!(state["BytesReplicated"].as_i64().unwrap() > 1000);
    let age = state["CurrentTime"].as_i64().unwrap() - state["LastWorkerSubmitTime"].as_i64().unwrap();
    assert!((0..300).contains(&age), "{state}");
    assert_eq!(
        profile(&replica, "alice").unwrap()["Policy"]["PreventDeleteStorageVault"],
        true
    );
    assert_eq!(log_in(&replica, "alice", PASSWORD, None), 200);

    // What is changed here is changed there: a document, a policy with its accounts, a password.
    edit(&source, "bob", |p| p["AccountName"] = json!("Robert"));
    set_policy(
        &source,
        "strict",
        &json!({"Description": "Strict", "Policy": {"PreventEditStorageVault": true}}),
    );
    same_account("bob", &source, &replica);
    until("the policy's accounts to follow", || {
        let there = profile(&replica, "alice")?;
        (there["Policy"]["PreventEditStorageVault"] == true).then_some(())
    });
    let reset = [("TargetUser", "bob"), ("NewPassword", "another horse")];
    ok(&source.call("/api/v1/admin/reset-user-password", &reset));
    until("the password to follow", || {
        (log_in(&replica, "bob", "another horse", None) == 200).then_some(())
    });
    assert_eq!(log_in(&replica, "bob", PASSWORD, None), 403);

    // Secrets that only the own key opens are open there, too: one-time codes, and what a reset needs.
    let bob = [
        ("Username", "bob"),
        ("AuthType", "Password"),
        ("Password", "another horse"),
    ];
    let own = source.post("/api/v1/user/web/get-user-profile-and-hash", &bob);
    let mut fields = bob.to_vec();
    fields.push(("ProfileHash", own["ProfileHash"].as_str().unwrap()));
    let made = source.post("/api/v1/user/web/account/regenerate-totp", &fields);
    ok(&made);
    let secret = made["URL"].as_str().unwrap().split_once("secret=").unwrap().1;
    let secret = secret.split('&').next().unwrap().to_string();
    edit(&source, "bob", |p| {
        p["AllowPasswordLogin"] = json!(false);
        p["AllowPasswordAndTOTPLogin"] = json!(true);
    });
    same_account("bob", &source, &replica);
    assert_eq!(log_in(&replica, "bob", "another horse", None), 449);
    let code = crate::support::code(&secret, 0);
    assert_eq!(log_in(&replica, "bob", "another horse", Some(&code)), 200);
    let reset = [("TargetUser", "alice"), ("NewPassword", "there alone")];
    ok(&replica.call("/api/v1/admin/reset-user-password", &reset));
    assert_eq!(log_in(&replica, "alice", "there alone", None), 200);

    // What was changed there is put right by the next list, which an administrator can have at once.
    ok(&source.call("/api/encke/v1/replication/restart", &[]));
    until("the password to be as it is here", || {
        (log_in(&replica, "alice", PASSWORD, None) == 200).then_some(())
    });
    settled(&source);

    // After a crash here nothing is copied that is there already, and everything that is not.
    source.kill();
    source.restart();
    let state = &settled(&source)[0];
    assert_eq!(state["ItemsReplicated"], 0, "{state}");
    add_user(&source, "carol");
    same_account("carol", &source, &replica);
    assert_eq!(settled(&source)[0]["ItemsReplicated"], 1);
    // Nothing of it goes back.
    assert!(states(&replica).is_empty());
}

#[test]
fn what_is_deleted_follows_the_strategy() {
    let source = server();
    let (keeping, mut partial, complete) = (server(), server(), server());
    for name in ["ann", "ben", "cid"] {
        add_user(&source, name);
    }
    set_policy(&source, "going", &json!({"Description": "Going"}));
    for replica in [&keeping, &partial, &complete] {
        add_user(replica, "own");
        set_policy(replica, "own", &json!({"Description": "Own"}));
    }
    let targets = [
        target(&keeping, "none"),
        target(&partial, "circular"),
        target(&complete, "complete"),
    ];
    replicate(&source, "AuthenticationRole", &targets);
    settled(&source);
    assert_eq!(users(&keeping), ["ann", "ben", "cid", "own"]);
    assert_eq!(users(&partial), ["ann", "ben", "cid", "own"]);
    assert_eq!(users(&complete), ["ann", "ben", "cid"]);
    assert_eq!(policies(&complete), ["going"]);
    assert_eq!(policies(&partial), ["going", "own"]);

    ok(&source.call("/api/v1/admin/delete-user", &[("TargetUser", "ann")]));
    ok(&source.call("/api/v1/admin/policies/delete", &[("PolicyID", "going")]));
    until("the deletions to follow", || {
        let gone = users(&partial) == ["ben", "cid", "own"] && users(&complete) == ["ben", "cid"];
        (gone && policies(&partial) == ["own"] && policies(&complete).is_empty()).then_some(())
    });
    settled(&source);
    assert_eq!(users(&keeping), ["ann", "ben", "cid", "own"]);
    assert_eq!(policies(&keeping), ["going", "own"]);

    // One that was away hears of it when it is back.
    partial.kill();
    ok(&source.call("/api/v1/admin/delete-user", &[("TargetUser", "ben")]));
    until("its absence to be noticed", || {
        let away = details(&source)[1]["LastError"]
            .as_str()?
            .contains("can not be reached");
        away.then_some(())
    });
    partial.restart_here();
    until("the deletion to follow", || {
        (users(&partial) == ["cid", "own"]).then_some(())
    });

    // A server that lost its accounts does not have the copy lose them.
    let empty = server();
    replicate(&empty, "AuthenticationRole", &[target(&complete, "complete")]);
    settled(&empty);
    assert_eq!(users(&complete), ["cid"]);
    assert!(empty.log().contains("this server has no accounts"));
}

/// A bucket of a server, and how its owner reaches it there and on its copy.
struct Bucket {
    id: String,
    key: String,
}

impl Bucket {
    fn register(server: &Server) -> Self {
        let new = server.call("/api/v1/admin/storage/register-bucket", &[]);
        ok(&new);
        let text = |name: &str| new[name].as_str().unwrap().to_string();
        Self {
            id: text("NewBucketID"),
            key: text("NewBucketKey"),
        }
    }

    fn location(&self, server: &Server) -> String {
        let host = server.url.strip_prefix("http://").unwrap();
        format!("rest:http://{}:{}@{host}/storage/{}/", self.id, self.key, self.id)
    }

    fn vault(&self, server: &Server, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_encke"))
            .args(["vault", "--repo", &self.location(server), "--cache-dir"])
            .arg(server.work_dir.join("cache"))
            .args(arguments)
            .env("ENCKE_VAULT_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn try_restic(&self, server: &Server, arguments: &[&str]) -> Output {
        Command::new("restic")
            .args(["--no-cache", "--repo", &self.location(server)])
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .output()
            .expect("restic is installed")
    }

    fn restic(&self, server: &Server, arguments: &[&str]) -> String {
        let output = self.try_restic(server, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every object with its bytes.
    fn content(&self, server: &Server) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let top = server.data_dir.join("buckets").join(&self.id);
        let mut folders = vec![top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&top).unwrap().display().to_string();
                if ["locks", "tmp", "trash"].contains(&name.as_str()) {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    /// Waits until both sides hold the same bytes.
    fn is_same(&self, source: &Server, replica: &Server) {
        settled(source);
        until("the bucket to be the same on both sides", || {
            replica
                .data_dir
                .join("buckets")
                .join(&self.id)
                .is_dir()
                .then_some(())?;
            (self.content(source) == self.content(replica)).then_some(())
        });
    }
}

fn restored(bucket: &Bucket, server: &Server, name: &str, from: &Path) -> bool {
    let target = server.work_dir.join(name);
    bucket.restic(
        server,
        &["restore", "latest", "--target", target.to_str().unwrap()],
    );
    let back = target.join(from.strip_prefix("/").unwrap());
    let read = |folder: &Path| fs::read(folder.join("large")).unwrap();
    read(&back) == read(from)
}

#[test]
fn buckets_are_copied_byte_for_byte_and_restic_restores_from_the_copy() {
    let (source, replica) = (server(), server());
    let bucket = Bucket::register(&source);
    let folder = source.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("large"), noise(1, 3_000_000)).unwrap();
    let path = folder.to_str().unwrap();
    bucket.vault(&source, &["init"]);
    bucket.vault(&source, &["backup", path]);
    // One that is only there stays there.
    let other = Bucket::register(&replica);

    replicate(&source, "StorageRole", &[target(&replica, "")]);
    bucket.is_same(&source, &replica);
    let state = &settled(&source)[0];
    assert_eq!(state["DisplayClass"], 100);
    assert!(state["BytesReplicated"].as_i64().unwrap() > 3_000_000, "{state}");
    assert_eq!(state["BytesQueued"], 0);
    assert!(bucket.content(&replica).len() >= 5);
    bucket.restic(&replica, &["check", "--read-data"]);
    assert!(restored(&bucket, &replica, "first", &folder));
    let keys = |server: &Server| {
        server.call("/api/v1/admin/storage/list-buckets", &[])[&bucket.id]["ReadWriteKey"].clone()
    };
    assert_eq!(keys(&source), keys(&replica));

    // What comes later follows, as does what goes.
    fs::write(folder.join("large"), noise(2, 3_000_000)).unwrap();
    bucket.vault(&source, &["backup", path]);
    bucket.is_same(&source, &replica);
    assert!(restored(&bucket, &replica, "second", &folder));
    let before = bucket.content(&replica);
    bucket.restic(&source, &["forget", "--keep-last", "1", "--prune"]);
    bucket.is_same(&source, &replica);
    let after = bucket.content(&replica);
    assert!(
        before.keys().any(|name| !after.contains_key(name)),
        "nothing was deleted"
    );
    bucket.restic(&replica, &["check", "--read-data"]);
    assert!(restored(&bucket, &replica, "third", &folder));

    // An append-only copy keeps what is deleted here, and takes what is new all the same.
    let rules = [
        ("BucketID", bucket.id.as_str()),
        ("QuotaBytes", "0"),
        ("AppendOnly", "1"),
        ("TrashDays", "0"),
    ];
    ok(&replica.call("/api/encke/v1/bucket/set-rules", &rules));
    fs::write(folder.join("large"), noise(3, 1_000_000)).unwrap();
    bucket.vault(&source, &["backup", path]);
    bucket.is_same(&source, &replica);
    let before = bucket.content(&replica);
    bucket.restic(&source, &["forget", "--keep-last", "1", "--prune"]);
    until("the copy to say that it keeps", || {
        source
            .log()
            .contains("the copy keeps what was deleted here")
            .then_some(())
    });
    settled(&source);
    let after = bucket.content(&replica);
    assert!(
        before
            .iter()
            .all(|(name, content)| after.get(name) == Some(content))
    );

    // Buckets that are new follow; those that are deleted do not, nor does the other server's own.
    let late = Bucket::register(&source);
    late.restic(&source, &["init"]);
    late.is_same(&source, &replica);
    for gone in [&late, &bucket] {
        let deleted = source.call("/api/v1/admin/storage/delete-bucket", &[("BucketID", &gone.id)]);
        ok(&deleted);
    }
    ok(&source.call("/api/encke/v1/replication/restart", &[]));
    settled(&source);
    let there = replica.call("/api/v1/admin/storage/list-buckets", &[]);
    for kept in [&late, &bucket, &other] {
        assert!(there[&kept.id].is_object(), "{there}");
    }
    assert!(restored(&bucket, &replica, "fourth", &folder));
}

#[test]
fn a_crash_of_either_side_half_way_costs_nothing() {
    let mut replica = server();
    let mut source = Server::start_with_environment(&[("ENCKE_REPLICATION_BYTES_PER_SECOND", "4000000")]);
    let bucket = Bucket::register(&source);
    let folder = source.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("large"), noise(7, 24_000_000)).unwrap();
    bucket.restic(&source, &["init"]);
    bucket.restic(&source, &["backup", "--pack-size", "4", folder.to_str().unwrap()]);
    replicate(&source, "StorageRole", &[target(&replica, "")]);
    let sent = |source: &Server| {
        let state = states(source)[0].clone();
        let (done, queued) = (state["BytesReplicated"].as_i64()?, state["BytesQueued"].as_i64()?);
        (done > 4_000_000 && queued > 0).then_some(())
    };
    until("a part to be there", || sent(&source));
    replica.kill();
    // Half a repository is none that looks whole: its snapshot comes last.
    let half = bucket.content(&replica);
    assert!(
        !half.keys().any(|name| name.starts_with("snapshots/")),
        "{:?}",
        half.keys()
    );
    until("its absence to be noticed", || {
        let state = &states(&source)[0];
        let away = details(&source)[0]["LastError"]
            .as_str()?
            .contains("can not be reached");
        (away && state["State"] == 0 && state["ActiveWorkers"] == 0).then_some(())
    });
    replica.restart_here();
    until("a further part to be there", || sent(&source));
    source.kill();
    source.restart();
    bucket.is_same(&source, &replica);
    assert_eq!(details(&source)[0]["LastError"], "");
    bucket.restic(&replica, &["check", "--read-data"]);
    assert!(restored(&bucket, &replica, "back", &folder));
    // What was there when it stopped was not sent again.
    let sent = states(&source)[0]["BytesReplicated"].as_i64().unwrap();
    assert!(sent < 20_000_000, "{sent}");
}

#[test]
fn a_wrong_password_is_said_clearly_and_secrets_stay_secret() {
    let (source, replica) = (server(), server());
    add_user(&source, "alice");
    let mut wrong = target(&replica, "none");
    wrong["Password"] = json!("not-the-password");
    replicate(&source, "AuthenticationRole", std::slice::from_ref(&wrong));
    until("the state to tell", || {
        let found = details(&source);
        let said = found[0]["LastError"]
            .as_str()?
            .contains("the name or the password is wrong");
        (said && found[0]["LastErrorTime"].as_i64()? > 0).then_some(())
    });
    assert_eq!(states(&source)[0]["State"], 0);
    assert!(
        source.log().contains("nothing can be copied for now"),
        "{}",
        source.log()
    );
    assert!(source.log().contains("the name or the password is wrong"));
    assert!(!source.log().contains("not-the-password"));

    // The password is kept wrapped and shown to nobody; it stays for the same server and name alone.
    let config = source.call("/api/v1/admin/meta/server-config/get", &[]);
    let shown = &config["AuthenticationRole"]["ReplicateTo"][0];
    let obscured = shown["Password"].as_str().unwrap().to_string();
    assert!(!config.to_string().contains("not-the-password"));
    let elsewhere = set_config(&source, |c| {
        c["AuthenticationRole"]["ReplicateTo"][0]["RemoteAddress"] = json!("http://127.0.0.1:9/");
    });
    assert_eq!(elsewhere["Status"], 400, "{elsewhere}");
    for (field, bad) in [
        ("RemoteAddress", "file:///etc"),
        ("Type", "ldap"),
        ("ReplicaDeletionStrategy", "everything"),
        ("Username", ""),
    ] {
        let refused = set_config(&source, |c| {
            c["AuthenticationRole"]["ReplicateTo"][0][field] = json!(bad)
        });
        assert_eq!(refused["Status"], 400, "{field}: {refused}");
    }
    let mut right = wrong.clone();
    right["Password"] = json!(ADMIN);
    replicate(&source, "AuthenticationRole", &[right]);
    same_account("alice", &source, &replica);
    assert_eq!(details(&source)[0]["LastError"], "");
    // With the password as it is shown, and for the other part as well.
    let mut kept = wrong;
    kept["Password"] = json!(obscured);
    replicate(&source, "StorageRole", &[kept]);
    settled(&source);
    assert_eq!(states(&source).len(), 2);
}

#[test]
fn a_tenants_administrator_sees_and_writes_nothing() {
    let (source, replica) = (server(), server());
    // An account and a bucket of a tenant, which has the same id on both sides; another tenant is only here.
    let tenant = |server: &Server, id: &str, host: &str| {
        let organization = json!({ "Name": host, "Hosts": [host] }).to_string();
        let fields = [("OrganizationID", id), ("Organization", organization.as_str())];
        server.call("/api/v1/admin/organization/set", &fields)["ID"]
            .as_str()
            .unwrap()
            .to_string()
    };
    let north = tenant(&source, "", "north.test");
    assert_eq!(tenant(&replica, &north, "north.test"), north);
    let south = tenant(&source, "", "south.test");
    for (name, organization) in [("nadia", &north), ("stan", &south)] {
        let fields = [
            ("TargetUser", name),
            ("TargetPassword", PASSWORD),
            ("TargetOrganization", organization),
        ];
        ok(&source.call("/api/v1/admin/add-user", &fields));
    }
    let own = source.call(
        "/api/v1/admin/storage/register-bucket",
        &[("SetOrganizationID", &north)],
    );
    ok(&own);
    let bucket = own["NewBucketID"].as_str().unwrap().to_string();
    replicate(&source, "AuthenticationRole", &[target(&replica, "none")]);
    replicate(&source, "StorageRole", &[target(&replica, "")]);
    same_account("nadia", &source, &replica);
    until("the bucket to be there", || {
        let all = replica.call("/api/v1/admin/storage/list-buckets", &[]);
        (all[&bucket]["OrganizationID"] == north.as_str()).then_some(())
    });
    // What can not be copied is told, and holds up nothing else.
    until("the refusal to be told", || {
        let refused = details(&source)[0]["Refused"].clone();
        let told = refused[0]["Item"] == "account 'stan'"
            && refused[0]["Error"]
                .as_str()?
                .contains(&format!("no organization '{south}'"));
        told.then_some(())
    });
    add_user(&source, "later");
    same_account("later", &source, &replica);
    assert_eq!(users(&replica), ["later", "nadia"]);

    let admin = [
        ("TargetUser", "norah"),
        ("TargetPassword", PASSWORD),
        ("TargetOrgID", north.as_str()),
    ];
    for server in [&source, &replica] {
        ok(&server.call("/api/v1/admin/admin-user/new", &admin));
    }
    let norah = [
        ("Username", "norah"),
        ("AuthType", "Password"),
        ("Password", PASSWORD),
    ];
    for path in [
        "/api/v1/admin/replication/state",
        "/api/encke/v1/replication/details",
        "/api/encke/v1/replication/restart",
        "/api/encke/v1/replication/accounts",
    ] {
        let answer = source.post_to_host("north.test", path, &norah);
        assert_eq!(answer["Status"], 403, "{path}: {answer}");
    }

    // An administrator of the top level reaches a bucket without its key, to write but not to read.
    let name = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let ask = |method: &str, path: &str, (user, password): (&str, &str)| {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/storage/{bucket}/{path}", replica.url))
            .header(
                "Host",
                if user == "norah" {
                    "north.test"
                } else {
                    "127.0.0.1"
                },
            )
            .header("X-Comet-Admin-Username", user)
            .header("X-Comet-Admin-AuthType", "Password")
            .header("X-Comet-Admin-Password", password)
            .body(())
            .unwrap();
        crate::support::http().run(request).unwrap().status().as_u16()
    };
    let object = format!("data/{name}");
    assert_eq!(ask("POST", &object, (ADMIN, ADMIN)), 200);
    assert_eq!(ask("GET", "data/", (ADMIN, ADMIN)), 200);
    assert_eq!(ask("HEAD", &object, (ADMIN, ADMIN)), 200);
    assert_eq!(ask("GET", &object, (ADMIN, ADMIN)), 403);
    for method in ["POST", "GET", "HEAD", "DELETE"] {
        assert_eq!(ask(method, &object, ("norah", PASSWORD)), 403, "{method}");
        assert_eq!(ask(method, &object, (ADMIN, "wrong")), 401, "{method}");
    }
    assert_eq!(ask("DELETE", &object, (ADMIN, ADMIN)), 200);
    assert_eq!(ask("HEAD", &object, (ADMIN, ADMIN)), 404);
}

#[test]
fn two_servers_that_copy_to_each_other_come_to_rest() {
    let (one, two) = (server(), server());
    replicate(&one, "AuthenticationRole", &[target(&two, "circular")]);
    replicate(&two, "AuthenticationRole", &[target(&one, "circular")]);
    add_user(&one, "alice");
    same_account("alice", &one, &two);
    edit(&two, "alice", |p| p["AccountName"] = json!("Alice"));
    set_policy(&two, "both", &json!({"Description": "Both"}));
    until("the change to come back", || {
        let there = profile(&one, "alice")?["AccountName"] == "Alice";
        (there && policies(&one) == ["both"]).then_some(())
    });
    settled(&one);
    settled(&two);
    // An account that was written four times at most, whoever heard of it how often.
    let events = one.call(
        "/api/encke/v1/events/list",
        &[("Types", "[4100,4102]"), ("Limit", "100")],
    );
    let written = events.to_string().matches("\"ResourceID\":\"alice\"").count();
    assert!((1..=4).contains(&written), "{written}: {events}");
    ok(&two.call("/api/v1/admin/delete-user", &[("TargetUser", "alice")]));
    until("the deletion to follow", || users(&one).is_empty().then_some(()));
    settled(&one);
    settled(&two);
    assert!(users(&two).is_empty());
}

#[test]
fn of_several_servers_on_one_database_one_copies() {
    let replica = server();
    let url = replica.url.clone();
    let first = Server::start_on(&postgres::database());
    add_user(&first, "alice");
    replicate(&first, "AuthenticationRole", &[target(&replica, "none")]);
    same_account("alice", &first, &replica);
    let second = Server::start_beside(&first);
    let mut both = [first, second];
    let running = |server: &Server| details(server)[0]["Running"] == true;
    assert!(running(&both[0]) && !running(&both[1]));
    assert_eq!(states(&both[1])[0]["State"], 0);
    let refused = both[1].call("/api/encke/v1/replication/restart", &[]);
    assert_eq!(refused["Status"], 409, "{refused}");
    assert!(refused["Message"].as_str().unwrap().contains(&url));
    // What the other one changes is copied as well.
    add_user(&both[1], "bob");
    same_account("bob", &both[1], &replica);
    both[0].stop();
    until("the other one to take over", || running(&both[1]).then_some(()));
    add_user(&both[1], "carol");
    same_account("carol", &both[1], &replica);
}

#[test]
fn targets_in_the_configuration_file_may_have_passwords_in_clear() {
    let replica = server();
    let (url, name) = (replica.url.clone(), ADMIN.to_string());
    let source = Server::start_prepared(move |data_dir| {
        configure(data_dir, move |config| {
            config.authentication_role.replicate_to.push(ReplicaServer {
                type_: "comet".into(),
                remote_address: url,
                username: name.clone(),
                password: name,
                ..Default::default()
            });
        });
    });
    add_user(&source, "alice");
    same_account("alice", &source, &replica);
    // Without a description it is called by its address.
    assert_eq!(states(&source)[0]["Description"], replica.url);
}
