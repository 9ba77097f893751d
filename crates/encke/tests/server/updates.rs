//! Devices that change to their server's program: one by one and by a campaign, with jobs that run, with damaged
//! downloads, and with a new program that does not get connected (reference, sections 11 and 22).

use crate::support::device::{Device, USER, ended, job, until};
use crate::support::proxy::{Link, Proxy};
use crate::support::{Server, set_program};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The program that devices begin with.
const PROGRAM: &str = env!("CARGO_BIN_EXE_encke");

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn hash(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// The same program with something behind it: another build of the same version.
fn other_build(path: &Path) {
    fs::copy(PROGRAM, path).unwrap();
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(b"another build").unwrap();
}

/// A server of another build than the devices'.
fn newer_server() -> Server {
    Server::start_prepared(|data_dir| {
        let program = data_dir.with_file_name("newer");
        other_build(&program);
        set_program(data_dir, &program);
    })
}

fn newer(server: &Server) -> PathBuf {
    server.data_dir.with_file_name("newer")
}

/// A folder with the old program, for one device.
fn own_program(server: &Server, name: &str) -> PathBuf {
    let folder = server.work_dir.join(format!("programs of {name}"));
    fs::create_dir(&folder).unwrap();
    let program = folder.join("encke");
    // Another name for the same file does: nobody writes into it.
    fs::hard_link(PROGRAM, &program)
        .or_else(|_| fs::copy(PROGRAM, &program).map(drop))
        .unwrap();
    program
}

/// A device of a program of its own, on line.
fn device(server: &Server, name: &str, url: &str) -> (Device, PathBuf) {
    let program = own_program(server, name);
    let mut device = Device::start_at(server, name, url);
    device.stop();
    device.set_program(&program);
    device.launch();
    device.connection(server);
    (device, program)
}

fn update(server: &Server, device: &Device) -> Value {
    device.ask(server, "update-software", &[("SelfAddress", &server.url)])
}

/// Waits until a device has come back as another program and has put away the old one.
fn wait_changed(server: &Server, device: &Device, program: &Path) {
    until("the new program to be confirmed", || {
        device
            .log()
            .contains("the new program is connected and stays")
            .then_some(())
    });
    assert_eq!(hash(program), hash(&newer(server)));
    assert_eq!(
        fs::read_dir(program.parent().unwrap()).unwrap().count(),
        1,
        "nothing is left"
    );
    assert!(!device.data_dir().join("update.json").exists());
    device.connection(server);
}

/// Begins a backup that lasts until [`release`]. Its id.
fn begin_backup(server: &Server, device: &Device) -> String {
    let pipe = pipe(server, device);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let (item, vault) = (format!("item-{}", device.id), format!("vault-{}", device.id));
    device.add_bucket(server, &vault);
    let command = format!("cat '{}'", pipe.display());
    device.add_item(
        server,
        &item,
        "engine1/stdout",
        &json!({ "COMMAND": command, "SAVEAS": "out" }),
    );
    let id = device.backup(server, &item, &vault);
    until("the job to run", || {
        (job(server, &id)["Status"] == 6001).then_some(())
    });
    id
}

fn pipe(server: &Server, device: &Device) -> PathBuf {
    server.work_dir.join(format!("pipe of {}", device.id))
}

fn release(server: &Server, device: &Device) {
    fs::write(pipe(server, device), "done").unwrap();
}

#[test]
fn a_device_changes_to_the_servers_program_when_its_job_has_ended() {
    let server = newer_server();
    let (device, program) = device(&server, "laptop", &server.url);
    let before = hash(&program);
    let pid = device.pid();
    let running = begin_backup(&server, &device);
    assert_eq!(ok(&update(&server, &device))["Message"], "OK");
    until("the device to wait for its job", || {
        device
            .log()
            .contains("when the jobs that run have ended")
            .then_some(())
    });
    assert_eq!(hash(&program), before);
    assert_eq!(job(&server, &running)["Status"], 6001);
    release(&server, &device);
    assert_eq!(ended(&server, &running)["Status"], 5000);
    wait_changed(&server, &device, &program);
    assert_eq!(
        device.pid(),
        pid,
        "in the same process, which its service goes on with"
    );
    let again = update(&server, &device);
    assert!(
        ok(&again)["Message"].as_str().unwrap().contains("already"),
        "{again}"
    );
    // It is as good as before.
    fs::remove_file(pipe(&server, &device)).unwrap();
    fs::write(pipe(&server, &device), "more").unwrap();
    device.back_up(&server, "item-laptop", "vault-laptop");
    // The program that the tests share was not touched.
    assert_eq!(hash(Path::new(PROGRAM)), before);
}

#[test]
fn a_damaged_program_is_refused() {
    let server = newer_server();
    let link = Proxy::to(&server.url);
    let (device, program) = device(&server, "laptop", &link.url());
    let before = hash(&program);
    link.set(Link::Damaging);
    let answer = update(&server, &device);
    assert_eq!(answer["Status"], 400, "{answer}");
    assert!(
        answer["Message"].as_str().unwrap().contains("damaged"),
        "{answer}"
    );
    assert_eq!(hash(&program), before);
    assert_eq!(fs::read_dir(program.parent().unwrap()).unwrap().count(), 1);
    until("the server to be told", || {
        server.log().contains("a device was not updated").then_some(())
    });
    // The present one goes on, and may try again.
    device.connection(&server);
    link.set(Link::Up);
    ok(&update(&server, &device));
    wait_changed(&server, &device, &program);
}

#[test]
fn a_new_program_that_does_not_get_connected_is_put_back() {
    let server = newer_server();
    let (mut device, program) = device(&server, "laptop", &server.url);
    device.stop();
    // As an update leaves it whose program was started three times and died each time.
    let old = program.with_file_name("encke.old");
    let from = hash(&program);
    fs::rename(&program, &old).unwrap();
    fs::copy(newer(&server), &program).unwrap();
    let note = json!({
        "program": program, "old": old, "from": from, "to": hash(&newer(&server)), "starts": 3, "problem": "",
    });
    fs::write(device.data_dir().join("update.json"), note.to_string()).unwrap();
    device.launch();
    device.connection(&server);
    assert_eq!(hash(&program), from);
    assert!(!old.exists());
    until("the server to be told", || {
        server
            .log()
            .contains("started 3 times and did not get connected")
            .then_some(())
    });
    until("the note to be gone", || {
        (!device.data_dir().join("update.json").exists()).then_some(())
    });
    // One that a crash kept from being put in place is told of, and is no obstacle.
    device.stop();
    fs::copy(&program, &old).unwrap();
    fs::write(
        device.data_dir().join("update.json"),
        note.to_string().replace(":3,", ":0,"),
    )
    .unwrap();
    device.launch();
    until("the server to be told", || {
        server.log().contains("broke off before").then_some(())
    });
    until("the old one to be gone", || (!old.exists()).then_some(()));
    ok(&update(&server, &device));
    wait_changed(&server, &device, &program);
}

fn start(server: &Server, options: &Value) -> Value {
    let options = options.to_string();
    server.call("/api/v1/admin/update-campaign/start", &[("Options", &options)])
}

/// How far a device has come.
fn state(server: &Server, device: &str) -> i64 {
    let status = server.call("/api/v1/admin/update-campaign/status", &[]);
    let devices = status["Devices"].as_array().unwrap_or_else(|| panic!("{status}"));
    let found = devices.iter().find(|d| d["DeviceID"] == device);
    assert!(found.is_none_or(|d| d["Username"] == USER), "{status}");
    found.map_or(-1, |d| d["Status"].as_i64().unwrap())
}

fn wait_state(server: &Server, device: &str, wanted: i64) {
    until("the device to come so far", || {
        (state(server, device) == wanted).then_some(())
    });
}

#[test]
fn a_campaign_changes_the_devices_it_chooses() {
    let mut server = newer_server();
    let (first, program) = device(&server, "first", &server.url);
    let (busy, busy_program) = device(&server, "busy", &server.url);
    let (mut late, late_program) = device(&server, "late", &server.url);
    let (other, other_program) = device(&server, "other", &server.url);
    let before = hash(&program);
    late.stop();
    first.edit(&server, |profile| {
        for name in ["first", "busy", "late"] {
            profile["Devices"][name]["FriendlyName"] = json!(format!("Berlin {name}"));
        }
    });
    let status = server.call("/api/v1/admin/update-campaign/status", &[]);
    assert_eq!(
        (&status["Active"], status["Devices"].as_array().unwrap().len()),
        (&json!(false), 0)
    );
    // What chooses nobody, or can not be read, does not begin.
    assert_eq!(start(&server, &json!({ "Active": true }))["Status"], 400);
    let rule = |field: &str| json!({ "ClauseType": "", "RuleField": field, "RuleOperator": "str_startswith", "RuleValue": "Berlin" });
    let campaign = |field: &str| {
        json!({
            "Active": true, "UpgradeOlder": true, "ReinstallCurrentVer": true,
            "ApplyDeviceFilter": true, "DeviceFilter": rule(field),
        })
    };
    assert_eq!(start(&server, &campaign("ShoeSize"))["Status"], 400);
    // Nobody is of an older version.
    ok(&start(&server, &json!({ "Active": true, "UpgradeOlder": true })));
    for name in ["first", "busy", "other"] {
        wait_state(&server, name, 1);
    }
    assert_eq!(state(&server, "late"), 0);
    let running = begin_backup(&server, &busy);
    ok(&start(&server, &campaign("FriendlyName")));
    let status = server.call("/api/v1/admin/update-campaign/status", &[]);
    assert_eq!(
        (&status["Active"], &status["TargetVersion"]),
        (&json!(true), &json!("25.9.8"))
    );
    assert_eq!(status["DeviceFilter"]["RuleField"], "FriendlyName");
    wait_state(&server, "first", 5);
    wait_changed(&server, &first, &program);
    wait_state(&server, "busy", 3);
    wait_state(&server, "other", 1);
    until("the device to wait for its job", || {
        busy.log()
            .contains("when the jobs that run have ended")
            .then_some(())
    });
    // The campaign outlives its server, and a device that still waits is not given up.
    server.kill();
    server.restart_here();
    busy.connection(&server);
    other.connection(&server);
    late.launch();
    wait_state(&server, "late", 5);
    wait_changed(&server, &late, &late_program);
    assert_eq!(state(&server, "busy"), 3);
    assert_eq!(hash(&busy_program), before);
    release(&server, &busy);
    assert_eq!(ended(&server, &running)["Status"], 5000);
    wait_state(&server, "busy", 5);
    wait_changed(&server, &busy, &busy_program);
    assert_eq!(
        (state(&server, "other"), hash(&other_program)),
        (1, before.clone())
    );
    // Ended, it asks nobody any more.
    ok(&start(&server, &json!({ "Active": false })));
    let status = server.call("/api/v1/admin/update-campaign/status", &[]);
    assert_eq!(status["Active"], false);
    assert_eq!(state(&server, "first"), 5);
    // One that may interrupt does not wait for jobs.
    let running = begin_backup(&server, &other);
    ok(&start(
        &server,
        &json!({ "Active": true, "ReinstallCurrentVer": true, "ForceUpgradeRunning": true }),
    ));
    wait_state(&server, "other", 5);
    wait_changed(&server, &other, &other_program);
    assert_eq!(ended(&server, &running)["Status"], 7005, "cancelled");
    // Those that run it already need not be asked.
    wait_state(&server, "first", 5);
}

#[test]
fn a_device_that_comes_back_as_it_was_is_not_asked_again() {
    let server = newer_server();
    let link = Proxy::to(&server.url);
    let (mut device, program) = device(&server, "laptop", &link.url());
    let before = hash(&program);
    link.set(Link::Damaging);
    let campaign = json!({ "Active": true, "ReinstallCurrentVer": true });
    ok(&start(&server, &campaign));
    wait_state(&server, "laptop", 4);
    link.set(Link::Up);
    device.stop();
    device.launch();
    device.connection(&server);
    // Anything that was asked would have been asked before this.
    ok(&device.ask(&server, "refetch-profile", &[]));
    assert_eq!((state(&server, "laptop"), hash(&program)), (4, before));
    // Until another campaign begins.
    ok(&start(&server, &campaign));
    wait_state(&server, "laptop", 5);
    wait_changed(&server, &device, &program);
}
