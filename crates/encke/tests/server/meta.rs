//! The server's own affairs through the front door: configuration, restart, logs, statistics, branding, resources.

use crate::support::device::{Device, ended, until};
use crate::support::{ADMIN, Server, http};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn version(server: &Server) -> Option<Value> {
    let fields = [("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];
    let mut answer = http()
        .post(format!("{}/api/v1/admin/meta/version", server.url))
        .send_form(fields)
        .ok()?;
    serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
}

/// Waits until another start of the server answers.
fn restarted(server: &Server, before: &Value) {
    until("the restart", || {
        version(server)
            .filter(|v| v["ServerStartHash"].is_string() && v["ServerStartHash"] != before["ServerStartHash"])
    });
}

/// The bytes that a call answers.
fn bytes(server: &Server, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];
    all.extend_from_slice(fields);
    let mut answer = http()
        .post(format!("{}{path}", server.url))
        .send_form(all)
        .unwrap();
    answer.body_mut().read_to_vec().unwrap()
}

const GET: &str = "/api/v1/admin/meta/server-config/get";
const SET: &str = "/api/v1/admin/meta/server-config/set";

#[test]
fn a_saved_configuration_is_in_force_after_the_restart_it_causes() {
    let server = Server::start();
    let before = version(&server).unwrap();
    let mut config = server.call(GET, &[]);
    assert_eq!(config["AdminUsers"][0]["Username"], ADMIN);
    let text = config.to_string();
    assert!(
        !text.contains("argon2") && config["AdminUsers"][0]["Password"] == "********",
        "{text}"
    );
    config["SessionSettings"]["ExpiredInSeconds"] = json!(900);
    config["NovelPart"] = json!({ "kept": true });
    let second = json!({ "Username": "second", "Password": "in clear", "PasswordFormat": 0, "AllowPasswordLogin": true });
    config["AdminUsers"].as_array_mut().unwrap().push(second);
    ok(&server.call(SET, &[("Config", &config.to_string())]));
    restarted(&server, &before);
    let now = server.call(GET, &[]);
    assert_eq!(now["SessionSettings"]["ExpiredInSeconds"], 900);
    assert_eq!(now["NovelPart"]["kept"], true);
    assert!(!now.to_string().contains("in clear"));
    // The obscured password went in as it came out, and still works; so does the new one.
    let fields = [
        ("Username", "second"),
        ("AuthType", "Password"),
        ("Password", "in clear"),
    ];
    assert!(server.post(GET, &fields)["AdminUsers"].is_array());
    let properties = http()
        .get(format!("{}/gen/branding.props", server.url))
        .call()
        .unwrap();
    assert!(
        properties
            .into_body()
            .read_to_string()
            .unwrap()
            .contains("\"ExpiredInSeconds\":900")
    );
}

#[test]
fn a_configuration_that_would_lock_everybody_out_is_refused() {
    let server = Server::start();
    let good = server.call(GET, &[]);
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut config = good.clone();
        change(&mut config);
        let answer = server.call(SET, &[("Config", &config.to_string())]);
        assert!(answer["Status"].as_i64().unwrap() >= 400, "{answer}");
    };
    refused(&|c| c["AdminUsers"] = json!([]));
    refused(&|c| c["AdminUsers"][0]["AllowPasswordLogin"] = json!(false));
    refused(&|c| c["AdminUsers"][0]["Password"] = json!("made up"));
    refused(&|c| c["AdminUsers"][0]["IPWhitelist"] = json!("("));
    refused(&|c| c["AdminUsers"][0]["Username"] = json!("renamed"));
    refused(&|c| c["SessionSettings"]["ExpiredInSeconds"] = json!(1_000_000));
    refused(&|c| c["ListenAddresses"] = json!([{ "ListenAddress": "here" }]));
    refused(&|c| c["ListenAddresses"] = json!([{ "ListenAddress": ":443", "SSLCertPath": "/cert" }]));
    refused(&|c| c["ListenAddresses"] = json!([{ "ListenAddress": "203.0.113.7:80" }]));
    refused(&|c| c["AuthenticationRole"]["PruneLogsAfterDays"] = json!(1));
    refused(&|c| c["Organizations"] = json!({ "x": { "Name": "x", "Hosts": ["a b"] } }));
    refused(&|c| {
        let admin =
            json!({ "Username": "x", "Password": "p", "PasswordFormat": 0, "OrganizationID": "nowhere" });
        c["AdminUsers"].as_array_mut().unwrap().push(admin);
    });
    assert_eq!(server.call(GET, &[]), good, "nothing was changed");
}

#[test]
fn the_configuration_says_where_to_listen() {
    let mut server = Server::start();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut config = server.call(GET, &[]);
    config["ListenAddresses"] = json!([{ "ListenAddress": format!("127.0.0.1:{port}") }]);
    ok(&server.call(SET, &[("Config", &config.to_string())]));
    server.stop();
    // Started without an address of its own.
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    if let Some(database) = crate::support::postgres::noted(&server.data_dir) {
        command.env("ENCKE_DATABASE", database);
    }
    let mut child = command
        .args(["serve", "--data-dir"])
        .arg(&server.data_dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the configured address", || {
        http()
            .get(format!("http://127.0.0.1:{port}/gen/branding.props"))
            .call()
            .ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_running_backup_goes_on_over_a_restart() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let feed = server.work_dir.join("feed");
    assert!(Command::new("mkfifo").arg(&feed).status().unwrap().success());
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let item = json!({ "COMMAND": format!("cat '{}'", feed.display()), "SAVEAS": "feed" });
    device.add_item(&server, "item", "engine1/stdout", &item);
    let job = device.backup(&server, "item", "vault");
    let mut pipe = std::fs::File::options().write(true).open(&feed).unwrap();
    let before = version(&server).unwrap();
    ok(&server.call("/api/v1/admin/meta/restart-service", &[]));
    restarted(&server, &before);
    pipe.write_all(b"the rest").unwrap();
    drop(pipe);
    assert_eq!(ended(&server, &job)["Status"], 5000);
}

#[test]
fn a_shut_down_server_answers_first() {
    let mut server = Server::start();
    ok(&server.call("/api/v1/admin/meta/shutdown-service", &[]));
    until("the end", || version(&server).is_none().then_some(()));
    server.restart();
    assert!(version(&server).is_some());
}

#[test]
fn the_log_is_read_by_day_and_as_a_whole() {
    let server = Server::start();
    let folder = server.data_dir.join("logs");
    std::fs::write(folder.join("encke.2026-01-02.log"), "an old line\n").unwrap();
    std::fs::write(folder.join("notes.txt"), "not a log").unwrap();
    let days = server.call("/api/v1/admin/meta/list-available-log-days", &[]);
    let days: Vec<i64> = days
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_i64().unwrap())
        .collect();
    assert_eq!(days.len(), 2, "{days:?}");
    assert_eq!(days[0], 1_767_312_000);
    let old = bytes(&server, "/api/v1/admin/meta/read-logs", &[("Log", "1767312000")]);
    assert_eq!(old, b"an old line\n");
    let both = format!("{days:?}");
    let both = bytes(&server, "/api/v1/admin/meta/read-select-logs", &[("Logs", &both)]);
    let both = String::from_utf8(both).unwrap();
    assert!(
        both.starts_with("an old line\n") && both.contains("server started"),
        "{both}"
    );
    let zip = server.work_dir.join("logs.zip");
    std::fs::write(&zip, bytes(&server, "/api/v1/admin/meta/read-all-logs", &[])).unwrap();
    let script = "import sys,zipfile\nz=zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
        print(len(z.namelist()), z.read('encke.2026-01-02.log').decode(), end='')";
    let out = Command::new("python3")
        .args(["-c", script])
        .arg(&zip)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "2 an old line\n", "{out:?}");
    let unknown = server.call("/api/v1/admin/meta/read-logs", &[("Log", "5")]);
    assert_eq!(unknown["Status"], 404);
}

#[test]
fn numbers_are_noted_over_time() {
    let mut server = Server::start();
    let stats = |server: &Server| server.call("/api/v1/admin/meta/stats", &[("Simple", "0")]);
    let first = until("the first note", || {
        let s = stats(&server);
        (!s.as_object().unwrap().is_empty()).then_some(s)
    });
    let (time, note) = first.as_object().unwrap().iter().next().unwrap();
    assert!(time.parse::<i64>().unwrap() > 1_700_000_000);
    assert_eq!(note["Users"], 0);
    // A restart within the hour notes nothing new.
    server.stop();
    server.restart();
    assert_eq!(stats(&server), first);
    let simple = server.call("/api/v1/admin/meta/stats", &[("Simple", "true")]);
    assert_eq!(simple.as_object().unwrap().len(), 1);
    let addresses = server.call("/api/v1/admin/meta/server-config/network-interfaces", &[]);
    assert!(addresses.as_array().unwrap().contains(&json!("127.0.0.1")));
    let news = server.call("/api/v1/admin/meta/software-update-news", &[]);
    assert_eq!(news["latest_stable"], "");
}

#[test]
fn an_uploaded_logo_is_shown_on_its_host_only() {
    let server = Server::start();
    let logo = b"\x89PNG\r\n\x1a\nnot really".to_vec();
    let mut body =
        b"--b\r\nContent-Disposition: form-data; name=\"upload\"; filename=\"file.dat\"\r\n\r\n".to_vec();
    body.extend_from_slice(&logo);
    body.extend_from_slice(b"\r\n--b--\r\n");
    let mut answer = http()
        .post(format!("{}/api/v1/admin/meta/resource/new", server.url))
        .header("Content-Type", "multipart/form-data; boundary=b")
        .header("X-Comet-Admin-Username", ADMIN)
        .header("X-Comet-Admin-AuthType", "Password")
        .header("X-Comet-Admin-Password", ADMIN)
        .send(&body)
        .unwrap();
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    let hash = ok(&answer)["ResourceHash"].as_str().unwrap();
    assert_eq!(
        bytes(&server, "/api/v1/admin/meta/resource/get", &[("Hash", hash)]),
        logo
    );
    let unknown = server.call("/api/v1/admin/meta/resource/get", &[("Hash", "../server.key")]);
    assert_eq!(unknown["Status"], 404);

    let organization = json!({ "Name": "o", "Hosts": ["o.example"] }).to_string();
    let made = server.call(
        "/api/v1/admin/organization/set",
        &[("Organization", &organization)],
    );
    let id = ok(&made)["ID"].as_str().unwrap();
    let fields = [
        ("TargetUser", "boss"),
        ("TargetPassword", "boss"),
        ("TargetOrgID", id),
    ];
    ok(&server.call("/api/v1/admin/admin-user/new", &fields));
    let branding = json!({ "BrandName": "Other", "LogoImage": format!("resource://{hash}") }).to_string();
    let set = || {
        let fields = [
            ("Username", "boss"),
            ("AuthType", "Password"),
            ("Password", "boss"),
            ("BrandingConfig", branding.as_str()),
        ];
        server.post_to_host("o.example", "/api/v1/admin/meta/branding-config/set", &fields)
    };
    assert_eq!(set()["Status"], 403, "not granted");
    let before = version(&server).unwrap();
    let mut config = server.call(GET, &[]);
    config["AdminUsers"][1]["Permissions"]["AllowEditBranding"] = json!(true);
    ok(&server.call(SET, &[("Config", &config.to_string())]));
    restarted(&server, &before);
    ok(&set());
    let get = |host: &str, path: &str| {
        let answer = http()
            .get(format!("{}{path}", server.url))
            .header("Host", host)
            .call()
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.into_body().read_to_vec().unwrap())
    };
    assert_eq!(get("o.example", "/gen/logo.img"), (200, logo));
    assert_eq!(get("127.0.0.1", "/gen/logo.img").0, 404);
    let properties: Value = serde_json::from_slice(&get("o.example", "/gen/branding.props").1).unwrap();
    assert_eq!(
        (&properties["BrandName"], &properties["ImageEtag"]),
        (&json!("Other"), &json!(hash))
    );
    let bad = server.call(
        "/api/v1/admin/meta/branding-config/set",
        &[("BrandingConfig", r#"{"TopColor":"url(x)"}"#)],
    );
    assert_eq!(bad["Status"], 400);
}

/// The copies in a folder, by name.
fn copies(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = listed.map(|e| e.path()).collect();
    found.sort();
    found
}

#[test]
fn a_server_starts_from_the_copy_that_another_made_of_itself() {
    let server = Server::start();
    if std::env::var("ENCKE_TEST_STORE").is_ok_and(|kind| kind == "postgres") {
        // Its own tools copy it; the server says so in its log.
        return;
    }
    let start = || server.call("/api/v1/admin/self-backup/start", &[]);
    assert_eq!(start()["Status"], 400, "there is no place for it yet");
    let anna = [("TargetUser", "anna"), ("TargetPassword", "long enough")];
    ok(&server.call("/api/v1/admin/add-user", &anna));
    let folder = server.work_dir.join("copies");
    let before = version(&server).unwrap();
    let mut config = server.call(GET, &[]);
    config["SelfBackup"]["Targets"] = json!([
        { "Location": { "DestinationType": 1002, "LocalcopyPath": folder }, "EncryptionKey": "a key",
          "RetentionPolicy": { "Mode": 802, "Ranges": [{ "Type": 900, "Jobs": 1 }] } },
        { "Location": { "DestinationType": 1003 } },
    ]);
    ok(&server.call(SET, &[("Config", &config.to_string())]));
    restarted(&server, &before);
    ok(&start());
    let state = until("both to end", || {
        let state = version(&server)?["SelfBackup"].clone();
        let ended = |n: usize| state[n]["LastRunEnd"].as_i64() > Some(0);
        (ended(0) && ended(1)).then_some(state)
    });
    let first = copies(&folder);
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(state[0]["LastRunSuccess"], true, "{}", server.log());
    let size = std::fs::metadata(&first[0]).unwrap().len();
    assert_eq!(state[0]["LastRunSize"], size);
    assert_eq!(state[1]["LastRunSuccess"], false, "there is no way to that place");

    // Only who has the key can open it.
    let unpack = |key: &str, to: &std::path::Path| -> bool {
        let file = std::fs::File::open(&first[0]).unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        (0..archive.len()).all(|n| {
            let Ok(mut entry) = archive.by_index_decrypt(n, key.as_bytes()) else {
                return false;
            };
            let target = to.join(entry.enclosed_name().unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::io::copy(&mut entry, &mut std::fs::File::create(target).unwrap()).is_ok()
        })
    };
    let nothing = server.work_dir.join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    assert!(!unpack("a wrong key", &nothing));
    let again = Server::start_from(|data_dir| assert!(unpack("a key", data_dir)));
    assert_eq!(again.call("/api/v1/admin/list-users", &[]), json!(["anna"]));

    // The next one takes the place of the first.
    until("another copy", || {
        ok(&start());
        let now = copies(&folder);
        (now.len() == 1 && now != first).then_some(())
    });
}
