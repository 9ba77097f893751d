//! What a device does for its vaults and with itself, through the front door: the real server, the real agent, and stock
//! restic as a judge.

use crate::support::Server;
use crate::support::device::{Device, PASSWORD, USER, ended, log, until};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn jobs_of_class(server: &Server, class: u64) -> Vec<Value> {
    let all = server.call("/api/v1/admin/get-jobs-for-user", &[("TargetUser", USER)]);
    let all = all.as_array().unwrap();
    all.iter()
        .filter(|j| j["Classification"] == class)
        .cloned()
        .collect()
}

/// Asks for a job over the vault, and waits for its end.
fn upkeep(server: &Server, device: &Device, what: &str, class: u64, fields: &[(&str, &str)]) -> Value {
    let before = jobs_of_class(server, class).len();
    let answer = device.ask(server, what, fields);
    assert_eq!(answer["Status"], 200, "{what}: {answer}");
    let job = until("the job", || {
        let all = jobs_of_class(server, class);
        (all.len() > before).then(|| all.iter().max_by_key(|j| j["StartTime"].as_i64()).cloned())?
    });
    ended(server, job["GUID"].as_str().unwrap())
}

fn snapshots(server: &Server, device: &Device) -> Vec<String> {
    let listed = device.ask(server, "request-vault-snapshots", &[("Destination", "vault")]);
    let listed = listed["Snapshots"].as_array().cloned().unwrap_or_default();
    listed
        .iter()
        .map(|s| s["Snapshot"].as_str().unwrap().to_string())
        .collect()
}

fn set_retention(server: &Server, device: &Device, policy: &Value) {
    device.edit(server, |p| {
        p["Destinations"]["vault"]["DefaultRetention"] = policy.clone()
    });
}

fn keep(jobs: u64) -> Value {
    json!({ "Mode": 802, "Ranges": [{ "Type": 900, "Jobs": jobs }] })
}

fn profile(server: &Server) -> Value {
    server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)])
}

#[test]
fn retention_keeps_what_the_rules_say_and_restic_agrees() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    for item in ["one", "two"] {
        device.add_item(&server, item, "engine1/file", &json!({ "INCLUDE1": folder }));
    }
    let mut ids = Vec::new();
    for n in 0..4 {
        fs::write(folder.join("file"), format!("{n}")).unwrap();
        ids.push(
            device.back_up(&server, "one", "vault")["SnapshotID"]
                .as_str()
                .unwrap()
                .to_string(),
        );
    }
    device.back_up(&server, "two", "vault");
    device.back_up(&server, "two", "vault");
    // A vault that keeps everything loses nothing.
    let kept = upkeep(
        &server,
        &device,
        "apply-retention-rules",
        4003,
        &[("Destination", "vault")],
    );
    assert_eq!(
        kept["Status"],
        5000,
        "{}",
        log(&server, kept["GUID"].as_str().unwrap())
    );
    assert_eq!(snapshots(&server, &device).len(), 6);
    // Two of each; but one item has a rule of its own.
    set_retention(&server, &device, &keep(2));
    device.edit(&server, |p| {
        p["Sources"]["two"]["OverrideDestinationRetention"] = json!({ "vault": keep(1) });
    });
    let pass = upkeep(
        &server,
        &device,
        "apply-retention-rules",
        4003,
        &[("Destination", "vault")],
    );
    assert_eq!(
        pass["Status"],
        5000,
        "{}",
        log(&server, pass["GUID"].as_str().unwrap())
    );
    let left = snapshots(&server, &device);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(
        left.contains(&ids[2]) && left.contains(&ids[3]),
        "the newest stay"
    );
    device.restic("vault", &["check", "--read-data"]);
    // The profile tells what is in the vault.
    let content = until("the measurement", || {
        let content =
            profile(&server)["Destinations"]["vault"]["Statistics"]["ClientProvidedContent"].clone();
        (content["MeasureCompleted"].as_i64() > Some(0)).then_some(content)
    });
    let by = |users: &[&str]| {
        let components = content["Components"].as_array().unwrap();
        let found = components
            .iter()
            .find(|c| c["UsedBy"].as_array().is_some_and(|u| u.iter().eq(users)));
        found.unwrap_or_else(|| panic!("{content}"))["Bytes"]
            .as_u64()
            .unwrap()
    };
    // The newest of both is the same; the one before is the first item's alone.
    assert!(by(&["one/CURRENT", "two/CURRENT"]) > 0 && by(&["one/HISTORIC"]) > 0);
    by(&[]);

    // After each backup, where the rule asks for it.
    set_retention(&server, &device, &keep(1));
    let id = device.backup_with(&server, "one", "vault", &json!({ "AutoRetentionLevel": 1 }));
    assert_eq!(ended(&server, &id)["Status"], 5000);
    assert!(
        log(&server, &id).contains("Retention: 2 of 4 snapshots are kept"),
        "{}",
        log(&server, &id)
    );
    assert_eq!(snapshots(&server, &device).len(), 2);

    // A rule that is not understood deletes nothing, and says so.
    let odd = json!({ "Mode": 802, "Ranges": [{ "Type": 904, "Jobs": 1 }] });
    set_retention(&server, &device, &odd);
    let id = device.backup_with(&server, "one", "vault", &json!({ "AutoRetentionLevel": 1 }));
    assert_eq!(ended(&server, &id)["Status"], 7002);
    assert_eq!(snapshots(&server, &device).len(), 3);
    until("the error in the profile", || {
        let error = profile(&server)["Destinations"]["vault"]["RetentionError"].clone();
        error
            .as_str()
            .is_some_and(|e| e.contains("does not know"))
            .then_some(())
    });
    device.restic("vault", &["check"]);
}

#[test]
fn snapshots_are_searched_and_deleted() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let folder = server.work_dir.join("folder");
    fs::create_dir_all(folder.join("deep")).unwrap();
    fs::write(folder.join("deep/Letter.TXT"), "Dear reader").unwrap();
    fs::write(folder.join("note.md"), vec![b'x'; 5000]).unwrap();
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    let first = device.back_up(&server, "item", "vault")["SnapshotID"]
        .as_str()
        .unwrap()
        .to_string();
    fs::remove_file(folder.join("note.md")).unwrap();
    let second = device.back_up(&server, "item", "vault")["SnapshotID"]
        .as_str()
        .unwrap()
        .to_string();
    let both = json!([first, second]).to_string();
    let search = |filter: Value| {
        let filter = filter.to_string();
        let fields = [
            ("DestinationID", "vault"),
            ("SnapshotIDs", both.as_str()),
            ("Filter", filter.as_str()),
        ];
        device.ask(&server, "search-snapshots", &fields)
    };
    let names = |answer: &Value, snapshot: &str| -> Vec<String> {
        let files = answer["SnapshotFiles"][snapshot].as_array();
        let files = files.unwrap_or_else(|| panic!("{answer}"));
        files
            .iter()
            .map(|f| f["name"].as_str().unwrap().to_string())
            .collect()
    };
    let rule = |field: &str, operator: &str, value: &str| json!({ "RuleField": field, "RuleOperator": operator, "RuleValue": value });
    let found = search(rule("name", "str_endswith_ci", ".txt"));
    assert_eq!(names(&found, &first), ["Letter.TXT"]);
    assert_eq!(names(&found, &second), ["Letter.TXT"]);
    let file = &found["SnapshotFiles"][&first][0];
    assert_eq!(file["path"], folder.join("deep/Letter.TXT").to_str().unwrap());
    assert_eq!((&file["type"], &file["size"]), (&json!("file"), &json!(11)));
    let large = json!({ "ClauseType": "and", "ClauseChildren": [
        rule("size", "int_gt", "4999"), rule("File", "str_nregexmatch", "^z"),
    ]});
    let found = search(large);
    assert_eq!(names(&found, &first), ["note.md"]);
    assert_eq!(names(&found, &second), Vec::<String>::new());
    assert_eq!(search(rule("colour", "str_eq", "x"))["Status"], 400);
    assert_eq!(search(rule("name", "str_regexmatch", "(["))["Status"], 400);

    // One that is not there stops the whole call; an unknown one is refused.
    let gone = "0".repeat(64);
    let ids = json!([first, gone]).to_string();
    let fields = [("DestinationID", "vault"), ("SnapshotIDs", ids.as_str())];
    let failed = upkeep(&server, &device, "delete-snapshots", 4005, &fields);
    assert_eq!(failed["Status"], 7002, "{failed}");
    assert_eq!(snapshots(&server, &device).len(), 2);
    let answer = device.ask(
        &server,
        "delete-snapshot",
        &[("DestinationID", "vault"), ("SnapshotID", "x")],
    );
    assert_eq!(answer["Status"], 400, "{answer}");
    let fields = [("DestinationID", "vault"), ("SnapshotID", first.as_str())];
    assert_eq!(
        upkeep(&server, &device, "delete-snapshot", 4005, &fields)["Status"],
        5000
    );
    assert_eq!(snapshots(&server, &device), std::slice::from_ref(&second));
    device.restic("vault", &["check", "--read-data"]);

    // The user may as well, unless the policy forbids it.
    let as_user = || {
        let connection = device.connection(&server);
        let fields = [
            ("Username", USER),
            ("AuthType", "Password"),
            ("Password", PASSWORD),
            ("TargetID", connection.as_str()),
            ("DestinationID", "vault"),
            ("SnapshotID", second.as_str()),
        ];
        server.post("/api/v1/user/web/dispatcher/delete-snapshot", &fields)
    };
    device.edit(&server, |p| {
        p["Policy"]["PreventDeleteSingleSnapshots"] = json!(true)
    });
    assert_eq!(as_user()["Status"], 403);
    device.edit(&server, |p| {
        p["Policy"]["PreventDeleteSingleSnapshots"] = json!(false)
    });
    assert_eq!(as_user()["Status"], 200);
    until("the snapshot to go", || {
        snapshots(&server, &device).is_empty().then_some(())
    });
}

#[test]
fn a_damaged_vault_is_found_and_stale_locks_go() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let vault = server.work_dir.join("vault");
    device.add_folder_vault(&server, "vault", &vault);
    let file = server.work_dir.join("file");
    fs::write(&file, vec![7; 100_000]).unwrap();
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE1": file }));
    device.back_up(&server, "item", "vault");
    let verify = || {
        upkeep(
            &server,
            &device,
            "deepverify-storage-vault",
            4010,
            &[("Destination", "vault")],
        )
    };
    let good = verify();
    assert_eq!(good["Status"], 5000, "{good}");
    until("the note in the profile", || {
        let noted =
            profile(&server)["Destinations"]["vault"]["Statistics"]["LastSuccessfulDeepVerify_GUID"].clone();
        (noted == good["GUID"]).then_some(())
    });

    // A lock of restic's that a crash left: of a process that is gone, on this machine.
    let lock = |name: &str| vault.join("locks").join(name);
    let hold = std::process::Command::new("sleep").arg("1000").spawn();
    let mut holder = hold.unwrap();
    let access = device.run(&["vault-access", "--destination", "vault"]);
    let access = String::from_utf8(access.stdout).unwrap();
    let restic = |arguments: &[&str]| {
        let mut command = std::process::Command::new("restic");
        command.args(["--no-cache", "-q"]).args(arguments);
        command.envs(access.lines().map(|l| l.split_once('=').unwrap()));
        command
    };
    // Killed while it holds one.
    let mut killed = restic(&["backup", "--stdin"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let locks = || fs::read_dir(vault.join("locks")).unwrap().count();
    until("restic's lock", || (locks() > 0).then_some(()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(locks(), 1);
    let unlocked = upkeep(&server, &device, "unlock", 4004, &[("Destination", "vault")]);
    assert_eq!(unlocked["Status"], 5000, "{unlocked}");
    assert_eq!(locks(), 0);
    // One that is held stays, unless it is asked for.
    let mut held = restic(&["backup", "--stdin"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("restic's lock", || (locks() > 0).then_some(()));
    upkeep(&server, &device, "unlock", 4004, &[("Destination", "vault")]);
    assert_eq!(locks(), 1);
    upkeep(
        &server,
        &device,
        "unlock",
        4004,
        &[("Destination", "vault"), ("AllowUnsafe", "1")],
    );
    assert_eq!(locks(), 0);
    held.kill().unwrap();
    held.wait().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(!lock("x").exists());

    // An index that was lost is made anew from what is stored.
    let _ = std::process::Command::new("chmod")
        .args(["-R", "u+w"])
        .arg(&vault)
        .status();
    for file in fs::read_dir(vault.join("index")).unwrap().flatten() {
        fs::remove_file(file.path()).unwrap();
    }
    let done = upkeep(
        &server,
        &device,
        "reindex-storage-vault",
        4009,
        &[("Destination", "vault")],
    );
    assert_eq!(
        done["Status"],
        5000,
        "{}",
        log(&server, done["GUID"].as_str().unwrap())
    );
    device.restic("vault", &["check", "--read-data"]);

    // A byte that is not as it was.
    let pack = newest_pack(&vault.join("data"));
    let mut content = fs::read(&pack).unwrap();
    let middle = content.len() / 3;
    content[middle] ^= 1;
    let _ = std::process::Command::new("chmod")
        .args(["-R", "u+w"])
        .arg(&vault)
        .status();
    fs::write(&pack, content).unwrap();
    let bad = verify();
    assert_eq!(bad["Status"], 7002, "{bad}");
    assert!(log(&server, bad["GUID"].as_str().unwrap()).contains("damaged"));
}

fn newest_pack(data: &Path) -> std::path::PathBuf {
    let folders = fs::read_dir(data).unwrap().flatten();
    let files = folders.flat_map(|f| fs::read_dir(f.path()).unwrap().flatten());
    // The largest holds the file.
    files
        .map(|f| f.path())
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap()
}

#[test]
fn a_device_leaves_as_it_is_told() {
    let server = Server::start();
    let mut device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let sleep = json!({ "COMMAND": "sleep 1000", "SAVEAS": "o" });
    device.add_item(&server, "item", "engine1/stdout", &sleep);

    // Killed: its job is cancelled and told so before it goes.
    let id = device.backup(&server, "item", "vault");
    until("the command", || log(&server, &id).contains("item").then_some(()));
    assert_eq!(device.ask(&server, "kill-process", &[])["Status"], 200);
    assert!(
        device.wait_end(),
        "a good end, so that no supervisor starts it again"
    );
    assert_eq!(ended(&server, &id)["Status"], 7005, "{}", log(&server, &id));
    let live = server.call("/api/v1/admin/dispatcher/list-active", &[]);
    assert!(live.as_object().unwrap().is_empty(), "{live}");

    // Without its account it has to be registered again.
    device.launch();
    assert_eq!(device.ask(&server, "force-login", &[])["Status"], 200);
    assert!(device.wait_end());
    assert!(!device.run(&["status"]).status.success());
    assert!(!device.data_dir().join("agent.json").exists());
    let again = [
        "register",
        "--server",
        &server.url,
        "--user",
        USER,
        "--device-id",
        "laptop",
    ];
    assert!(device.run(&again).status.success());

    // As a service: the unit is written, and taken away with the settings.
    let units = server.work_dir.join("units");
    fs::create_dir(&units).unwrap();
    let folder = units.to_str().unwrap();
    let installed = device.run(&["install", "--unit-folder", folder, "--no-start"]);
    assert!(installed.status.success(), "{installed:?}");
    let unit = units.join("encke-agent.service");
    let text = fs::read_to_string(&unit).unwrap();
    assert!(
        text.contains(&format!("--data-dir \"{}\" run", device.data_dir().display())),
        "{text}"
    );
    if let Ok(judged) = std::process::Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output()
    {
        assert!(judged.status.success(), "{judged:?}");
    }
    device.launch();
    let gone = device.ask(&server, "uninstall-software", &[("RemoveConfigFile", "1")]);
    assert_eq!(gone["Status"], 200, "{gone}");
    assert!(device.wait_end());
    assert!(!unit.exists());
    assert!(!device.data_dir().join("agent.json").exists());
}

#[test]
fn disks_are_listed_as_the_system_tells() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let answer = device.ask(&server, "request-browse-disk-drives", &[]);
    assert_eq!(answer["Status"], 200, "{answer}");
    let disks = answer["Disks"].as_array().unwrap();
    for disk in disks {
        let name = disk["DeviceName"]
            .as_str()
            .unwrap()
            .strip_prefix("/dev/")
            .unwrap();
        let sectors = fs::read_to_string(format!("/sys/block/{name}/size")).unwrap();
        let size: i64 = sectors.trim().parse::<i64>().unwrap() * 512;
        assert_eq!(disk["Size"], size, "{disk}");
    }
    let present = fs::read_dir("/sys/block").unwrap().flatten().filter(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        let size = fs::read_to_string(e.path().join("size")).unwrap_or_default();
        size.trim() != "0" && !name.starts_with("ram") && !name.starts_with("zram")
    });
    assert_eq!(disks.len(), present.count());
}

#[test]
fn one_file_of_a_snapshot_is_downloaded_through_its_device() {
    let server = Server::start();
    let mut device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    // Several parts and chunks, and none of them alike.
    let big: Vec<u8> = (0..3_000_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(folder.join("big"), &big).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    let job = device.back_up(&server, "item", "vault");
    let snapshot = job["SnapshotID"].as_str().unwrap();
    let get = |who: (&str, &str), target: &str, name: &str| {
        let path = folder.join(name);
        let fields = [
            ("Username", who.0),
            ("AuthType", "Password"),
            ("Password", who.1),
            ("TargetID", target),
            ("Destination", "vault"),
            ("SnapshotID", snapshot),
            ("Path", path.to_str().unwrap()),
        ];
        let url = format!("{}/api/encke/v1/snapshot/file", server.url);
        let mut answer = crate::support::http().post(url).send_form(fields).unwrap();
        let content = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()
            .unwrap();
        // A failure is an envelope.
        let envelope = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/json");
        let status = envelope.then(|| serde_json::from_slice::<Value>(&content).unwrap()["Status"].clone());
        (status.map_or(200, |s| s.as_u64().unwrap()), content)
    };
    let target = device.connection(&server);
    for who in [(USER, PASSWORD), (crate::support::ADMIN, crate::support::ADMIN)] {
        let (status, content) = get(who, &target, "big");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&content));
        assert!(content == big, "{} of {} bytes", content.len(), big.len());
    }
    assert_eq!(get((USER, PASSWORD), &target, "empty"), (200, Vec::new()));
    assert_eq!(get((USER, PASSWORD), &target, "missing").0, 404);
    assert_eq!(get((USER, PASSWORD), &target, "").0, 400, "a folder is no file");
    let fields = [("TargetUser", "eve"), ("TargetPassword", PASSWORD)];
    assert_eq!(server.call("/api/v1/admin/add-user", &fields)["Status"], 200);
    assert_eq!(get(("eve", PASSWORD), &target, "big").0, 403, "not her device");
    // The device's owner decides.
    device.stop();
    let shy = Device::start_with(&server, "shy", &["--no-filenames"]);
    let target = shy.connection(&server);
    assert_eq!(get((USER, PASSWORD), &target, "big").0, 403);
}
