//! What the server does about devices: two connections of one device, jobs of devices that fall silent, and the calls of
//! administrators beside those of users.

use crate::support::Server;
use crate::support::device::{Device, PASSWORD, USER, until};
use crate::support::proxy::{Link, Proxy};
use encke_server::{ServeOptions, jobs::abandon_silent};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A call of the account's own.
fn as_user(server: &Server, path: &str, fields: &[(&str, &str)]) -> Value {
    let mut all = vec![
        ("Username", USER),
        ("AuthType", "Password"),
        ("Password", PASSWORD),
    ];
    all.extend(fields);
    server.post(path, &all)
}

#[test]
fn a_device_that_connects_twice_is_shown_twice_and_can_be_cut_off() {
    let server = Server::start();
    let mut device = Device::start(&server, "laptop");
    device.stop();
    let mut twin = Device::unregistered(&server, "twin");
    fs::create_dir(twin.data_dir()).unwrap();
    for entry in fs::read_dir(device.data_dir()).unwrap().flatten() {
        fs::copy(entry.path(), twin.data_dir().join(entry.file_name())).unwrap();
    }
    device.launch();
    let list = || {
        let live = server.call("/api/v1/admin/dispatcher/list-active", &[]);
        live.as_object().unwrap().clone()
    };
    let alone = until("the device", || Some(list()).filter(|l| l.len() == 1));
    twin.launch();
    let both = until("both", || Some(list()).filter(|l| l.len() == 2));
    assert!(
        both.values()
            .all(|c| c["DeviceID"] == "laptop" && c["Username"] == USER),
        "{both:?}"
    );
    let own = as_user(&server, "/api/v1/user/web/dispatcher/list-active", &[]);
    assert_eq!(own.as_object().unwrap().len(), 2);
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    assert_eq!(
        profile["Devices"].as_object().unwrap().len(),
        1,
        "one device of the account"
    );
    // Each can be asked for itself, and one be ended for good.
    let second: &String = both.keys().find(|id| !alone.contains_key(*id)).unwrap();
    let answer = server.call(
        "/api/v1/admin/dispatcher/request-filesystem-objects",
        &[("TargetID", second), ("Path", "/")],
    );
    assert_eq!(answer["Status"], 200, "{answer}");
    let answer = server.call("/api/v1/admin/dispatcher/kill-process", &[("TargetID", second)]);
    assert_eq!(answer["Status"], 200, "{answer}");
    assert!(twin.wait_end());
    until("one connection", || {
        Some(()).filter(|()| list().keys().eq(alone.keys()))
    });
    // Nobody is reached by the id of a connection that is gone.
    let gone = server.call(
        "/api/v1/admin/dispatcher/refetch-profile",
        &[("TargetID", second)],
    );
    assert_eq!(gone["Status"], 403, "{gone}");
    // A dropped connection comes back under another id.
    let id = alone.keys().next().unwrap();
    let dropped = as_user(
        &server,
        "/api/v1/user/web/dispatcher/drop-connection",
        &[("TargetID", id)],
    );
    assert_eq!(dropped["Status"], 200, "{dropped}");
    until("another connection", || {
        Some(()).filter(|()| list().len() == 1 && !list().contains_key(id))
    });
}

/// Each call to a device that users may make answers as the administrator's does: neither may one be forgotten.
#[test]
fn users_calls_to_devices_answer_as_administrators_do() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("letter"), "Dear reader").unwrap();
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    device.edit(&server, |p| {
        p["BackupRules"]["rule"] = json!({ "Description": "r", "Source": "item", "Destination": "vault" });
    });
    let job = device.back_up(&server, "item", "vault");
    let snapshot = job["SnapshotID"].as_str().unwrap().to_string();
    let spec: Value = serde_json::from_str(encke_api::spec::ENDPOINTS).unwrap();
    let endpoints = spec.as_array().unwrap();
    let (mut compared, mut served) = (0, BTreeSet::new());
    for twin in endpoints {
        let path = twin["path"].as_str().unwrap();
        let Some(admin) = twin["admin_twin"]
            .as_str()
            .filter(|_| path.contains("/dispatcher/"))
        else {
            continue;
        };
        // What changes or takes away what others need; each has a test of its own.
        if ["drop-connection", "delete-snapshot", "delete-snapshots"]
            .iter()
            .any(|p| path.ends_with(p))
        {
            continue;
        }
        let admin = endpoints.iter().find(|e| e["name"] == admin).unwrap();
        let connection = device.connection(&server);
        let out = server.work_dir.join("out");
        let filter = json!({ "RuleField": "name", "RuleOperator": "str_eq", "RuleValue": "letter" });
        let value = |name: &str| match name {
            "TargetID" => connection.clone(),
            "Source" => "item".into(),
            "Destination" | "DestinationID" => "vault".into(),
            "SnapshotID" | "Snapshot" => snapshot.clone(),
            "SnapshotIDs" => json!([snapshot]).to_string(),
            "BackupRule" => "rule".into(),
            "Path" => out.display().to_string(),
            "Paths" => "[]".into(),
            "Options" if path.contains("restore") => json!({ "Type": 1 }).to_string(),
            "Options" | "Credentials" | "Wsa" => "{}".into(),
            "ExtraData" => json!({ "DestinationType": 1002, "LocalcopyPath": out }).to_string(),
            "NewPassword" => PASSWORD.into(),
            "Filter" => filter.to_string(),
            "TreeID" | "Node" | "EmailAddress" | "Continuation" => String::new(),
            "KnownFileCount" | "KnownByteCount" | "KnownDirCount" => "0".into(),
            other => panic!("what is {other} of {path}?"),
        };
        let names: Vec<&str> = twin["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        let values: Vec<String> = names.iter().map(|n| value(n)).collect();
        let fields: Vec<(&str, &str)> = names
            .iter()
            .copied()
            .zip(values.iter().map(String::as_str))
            .collect();
        let theirs = as_user(&server, path, &fields);
        // After a new password the device has another connection.
        let connection = device.connection(&server);
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(n, v)| (*n, if *n == "TargetID" { connection.as_str() } else { v }))
            .collect();
        let ours = server.call(admin["path"].as_str().unwrap(), &fields);
        assert_eq!(theirs["Status"], ours["Status"], "{path}: {theirs} {ours}");
        assert_eq!(theirs["Message"], ours["Message"], "{path}");
        let keys = |answer: &Value| -> BTreeSet<String> {
            let own = |k: &&String| k.as_str() != "JobID";
            answer.as_object().unwrap().keys().filter(own).cloned().collect()
        };
        if !path.ends_with("list-active") {
            assert_eq!(keys(&theirs), keys(&ours), "{path}");
        }
        if theirs["Status"] == 200 {
            served.insert(path.rsplit("dispatcher/").next().unwrap().to_string());
        }
        compared += 1;
    }
    assert!(compared >= 33, "{compared}");
    for path in [
        "run-backup",
        "run-backup-custom",
        "run-restore",
        "run-restore-custom",
        "request-vault-snapshots",
        "request-stored-objects",
        "search-snapshots",
        "ping-destination",
        "update-login-password",
        "request-browse-disk-drives",
    ] {
        assert!(served.contains(path), "{path}: {served:?}");
    }
    // The one whose names differ.
    let connection = device.connection(&server);
    let fields = [
        ("TargetID", connection.as_str()),
        ("Path", folder.to_str().unwrap()),
    ];
    let theirs = as_user(&server, "/api/v1/user/web/request-filesystem-objects", &fields);
    assert_eq!(theirs["StoredObjects"][0]["name"], "letter", "{theirs}");
    // Another account's device is nobody's.
    let fields = [("TargetUser", "eve"), ("TargetPassword", "eve-password")];
    assert_eq!(server.call("/api/v1/admin/add-user", &fields)["Status"], 200);
    let eve = server.post(
        "/api/v1/user/web/dispatcher/run-backup",
        &[
            ("Username", "eve"),
            ("AuthType", "Password"),
            ("Password", "eve-password"),
            ("TargetID", &connection),
            ("BackupRule", "rule"),
        ],
    );
    assert_eq!(eve["Status"], 403, "{eve}");
}

/// A device of a server that runs in this process, so that the test can turn its clock.
struct Guest {
    child: Child,
}

impl Guest {
    fn agent(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        command
            .args(["agent", "--data-dir"])
            .arg(folder)
            .env("ENCKE_PASSWORD", PASSWORD);
        command
    }

    fn launch(folder: &Path) -> Self {
        let child = Self::agent(folder)
            .arg("run")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            child: child.unwrap(),
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}

#[test]
fn jobs_of_silent_devices_are_abandoned_and_revived() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let data_dir = folder.path().join("server");
    fs::create_dir(&data_dir).unwrap();
    let options = ServeOptions {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        data_dir,
        database: std::env::var("ENCKE_TEST_STORE")
            .is_ok_and(|kind| kind == "postgres")
            .then(crate::support::postgres::database),
        acme_directory: encke_server::DEFAULT_ACME_DIRECTORY.into(),
        reports: encke_server::ReportOptions::default(),
        portals: Vec::new(),
    };
    let server = runtime.block_on(encke_server::Server::start(options)).unwrap();
    let (app, url) = (server.app.clone(), server.url.trim_end_matches('/').to_string());
    let http = crate::support::http();
    let post = |path: &str, fields: &[(&str, &str)]| -> Value {
        let mut all = vec![
            ("Username", "admin"),
            ("AuthType", "Password"),
            ("Password", "admin"),
        ];
        all.extend(fields);
        let mut answer = http
            .post(format!("{url}/api/v1/admin/{path}"))
            .send_form(all)
            .unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    };
    post(
        "add-first-admin-user",
        &[("TargetUser", "admin"), ("TargetPassword", "admin")],
    );
    assert_eq!(
        post("add-user", &[("TargetUser", USER), ("TargetPassword", PASSWORD)])["Status"],
        200
    );
    let link = Proxy::to(&url);
    let (data, gate) = (folder.path().join("device"), folder.path().join("gate"));
    let registered = Guest::agent(&data)
        .args([
            "register",
            "--server",
            &link.url(),
            "--user",
            USER,
            "--device-id",
            "laptop",
        ])
        .output()
        .unwrap();
    assert!(registered.status.success(), "{registered:?}");
    let mut device = Guest::launch(&data);
    let live = || {
        let live = post("dispatcher/list-active", &[]);
        live.as_object().unwrap().keys().next().cloned()
    };
    let connection = until("the device", live);
    let answer = post("get-user-profile-and-hash", &[("TargetUser", USER)]);
    let mut profile = answer["Profile"].clone();
    let wait = format!("while ! test -e '{}'; do sleep 0.1; done; echo x", gate.display());
    profile["Destinations"]["vault"] = json!({
        "Description": "v", "DestinationType": 1002, "LocalcopyPath": folder.path().join("vault"),
        "DefaultRetention": { "Mode": 801, "Ranges": [] },
    });
    profile["Sources"]["item"] = json!({
        "Engine": "engine1/stdout", "Description": "i", "OwnerDevice": "laptop",
        "EngineProps": { "COMMAND": wait, "SAVEAS": "o" },
    });
    let text = profile.to_string();
    let fields = [
        ("TargetUser", USER),
        ("ProfileData", text.as_str()),
        ("RequireHash", answer["ProfileHash"].as_str().unwrap()),
    ];
    assert_eq!(post("set-user-profile-hash", &fields)["Status"], 200);
    post("dispatcher/refetch-profile", &[("TargetID", &connection)]);
    let run = |connection: &str| {
        let fields = [
            ("TargetID", connection),
            ("Source", "item"),
            ("Destination", "vault"),
            ("Options", "{}"),
        ];
        let started = post("dispatcher/run-backup-custom", &fields);
        started["JobID"]
            .as_str()
            .unwrap_or_else(|| panic!("{started}"))
            .to_string()
    };
    let status = |id: &str| {
        post("get-job-properties", &[("JobID", id)])["Status"]
            .as_i64()
            .unwrap()
    };
    let abandon = |later: i64| runtime.block_on(abandon_silent(&app, now() + later)).unwrap();
    let id = run(&connection);
    until("the job to run", || Some(()).filter(|()| status(&id) == 6001));
    // Without waiting until it has made its vault: it waits for the server.
    // A device on line is never silent, and one off line not at once.
    assert_eq!(abandon(100_000), 0);
    link.set(Link::Down);
    until("the device to be gone", || Some(()).filter(|()| live().is_none()));
    assert_eq!((abandon(1700), status(&id)), (0, 6001));
    assert_eq!((abandon(1900), status(&id)), (1, 7007));
    assert_eq!(abandon(1900), 0, "once");
    assert!(post("get-job-properties", &[("JobID", &id)])["EndTime"].as_i64() > Some(0));
    // It is back, and its job as well.
    link.set(Link::Up);
    until("the job to be revived", || {
        Some(()).filter(|()| status(&id) == 6002)
    });
    fs::write(&gate, "").unwrap();
    until("its good end", || Some(()).filter(|()| status(&id) == 5000));
    // A device that forgot its job: it is back and does not run it.
    fs::remove_file(&gate).unwrap();
    let id = run(&until("the device", live));
    until("the job to run", || Some(()).filter(|()| status(&id) == 6001));
    let received = post("get-job-properties", &[("JobID", &id)])["Progress"]["RecievedTime"].as_i64();
    until("another second", || Some(()).filter(|()| Some(now()) > received));
    device.kill();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(data.join(format!("spool.db{end}")));
    }
    until("the device to be gone", || Some(()).filter(|()| live().is_none()));
    let _device = Guest::launch(&data);
    until("the device", live);
    assert_eq!((abandon(50), status(&id)), (0, 6001));
    assert_eq!((abandon(70), status(&id)), (1, 7007));
    fs::write(&gate, "").unwrap();
}
