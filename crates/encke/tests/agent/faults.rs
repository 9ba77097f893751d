//! Links that break and servers that die while devices work: nothing is lost, no job is stuck, every job ends in a true
//! state.

use crate::support::device::{Device, USER, ended, job, log, until};
use crate::support::proxy::{Link, Proxy};
use crate::support::{Server, noise_file};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A device whose server and whose bucket lie behind the link, slowed down so that there is a middle.
fn behind(server: &Server, link: &Proxy) -> (Device, PathBuf) {
    let device = Device::start_at(server, "laptop", &link.url());
    device.add_bucket(server, "vault");
    let url = link.url();
    device.edit(server, |p| p["Destinations"]["vault"]["CometServer"] = json!(url));
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    for n in 0..12 {
        noise_file(&folder.join(format!("file{n}")), 4 << 20);
    }
    device.add_item(server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    (device, folder)
}

/// Longer than a place's own client tries again: a job outlives it by its own patience.
const OUTAGE: Duration = Duration::from_secs(16);

/// Cuts the link for a while once it has carried so many bytes more.
fn cut(link: &Proxy, after: u64, how: Link, time: Duration) {
    let from = link.carried();
    until("the middle", || (link.carried() > from + after).then_some(()));
    link.set(how);
    // How long a cut lasts is the test's input, not something to wait for.
    std::thread::sleep(time);
    link.set(Link::Up);
}

fn profile(server: &Server) -> Value {
    server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)])
}

/// A job that has ended, told whole: its log begins and ends as it should.
fn whole(server: &Server, id: &str) -> Value {
    let job = ended(server, id);
    let lines = log(server, id);
    assert!(lines.starts_with("I "), "{lines}");
    let last = lines.lines().next_back().unwrap();
    let good = job["Status"] == 5000;
    assert_eq!(last == "I Finished", good, "{job} {lines}");
    assert!(good || last.starts_with("E "), "{job} {lines}");
    job
}

#[test]
fn a_link_that_is_cut_in_the_middle_loses_nothing() {
    let server = Server::start();
    let link = Proxy::to(&server.url);
    let (device, folder) = behind(&server, &link);
    let slow = json!({ "LimitVaultSpeedBps": 16 << 20 });
    let short = Duration::from_secs(4);
    for (how, time) in [(Link::Silent, short), (Link::Down, OUTAGE)] {
        let id = device.backup_with(&server, "item", "vault", &slow);
        cut(&link, 12 << 20, how, time);
        let job = whole(&server, &id);
        assert_eq!(job["Status"], 5000, "{}", log(&server, &id));
        if how == Link::Down {
            let text = log(&server, &id);
            assert!(
                text.contains("I The Storage Vault can not be reached; trying for 10 minutes"),
                "{text}"
            );
            assert!(
                text.contains("I The Storage Vault can be reached again"),
                "{text}"
            );
        }
        device.connection(&server);
        device.restic("vault", &["check", "--read-data"]);
        noise_file(&folder.join("file0"), 30 << 20);
    }
    device.back_up(&server, "item", "vault");
    for (n, how) in [Link::Silent, Link::Down].into_iter().enumerate() {
        let target = server.work_dir.join(format!("restored{n}"));
        let options = json!({ "Type": 0, "DestPath": target, "OverwriteExistingFiles": true });
        let id = device.restore(&server, "vault", "item", &options, &[]);
        cut(&link, 8 << 20, how, short);
        let job = whole(&server, &id);
        assert_eq!(job["Status"], 5000, "{}", log(&server, &id));
        let complete = |target: &Path| {
            fs::read_dir(&folder).unwrap().flatten().all(|f| {
                let back = target.join(f.path().strip_prefix("/").unwrap());
                fs::read(f.path()).unwrap() == fs::read(back).unwrap_or_default()
            })
        };
        assert!(complete(&target), "it says that it is complete");
    }
}

#[test]
fn patience_has_the_end_that_is_asked_for_and_a_ping_has_none() {
    let server = Server::start();
    let link = Proxy::to(&server.url);
    let mut device = Device::start(&server, "laptop");
    device.add_bucket(&server, "vault");
    device.edit(&server, |p| {
        p["Destinations"]["vault"]["CometServer"] = json!(link.url())
    });
    let file = server.work_dir.join("file");
    fs::write(&file, "content").unwrap();
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE1": file }));
    device.stop();
    device.set_environment("ENCKE_OUTAGE_SECONDS", "1");
    device.launch();
    device.back_up(&server, "item", "vault");
    link.set(Link::Down);
    let id = device.backup(&server, "item", "vault");
    let job = whole(&server, &id);
    assert_eq!(job["Status"], 7002, "{job}");
    let text = log(&server, &id);
    assert!(text.contains("the storage can not be reached"), "{text}");
    let place = profile(&server)["Destinations"]["vault"].to_string();
    let asked = std::time::Instant::now();
    let answer = device.ask(&server, "ping-destination", &[("ExtraData", &place)]);
    assert_ne!(answer["Status"], 200, "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(5), "a ping is tried once");
}

/// A job that begins while the server is away, and can not do so without it: the vault is new, and its key has to be in
/// the profile before anything is written with it.
#[test]
fn a_job_that_begins_without_the_server_waits_for_it() {
    let server = Server::start();
    let link = Proxy::to(&server.url);
    let device = Device::start_at(&server, "laptop", &link.url());
    let [gate, begun, done] = ["gate", "begun", "done"].map(|name| server.work_dir.join(name));
    device.add_folder_vault(&server, "used", &server.work_dir.join("used"));
    device.add_folder_vault(&server, "new", &server.work_dir.join("new"));
    let command = format!(
        "echo x >> '{}'; while ! test -e '{}'; do sleep 0.1; done; echo x; echo x >> '{}'",
        begun.display(),
        gate.display(),
        done.display()
    );
    let item = json!({ "COMMAND": command, "SAVEAS": "o" });
    let mut jobs: Vec<String> = Vec::new();
    // As many as a device runs at once, so that the last one begins when the link is cut.
    for n in 0..9 {
        let name = format!("item{n}");
        device.add_item(&server, &name, "engine1/stdout", &item);
        jobs.push(device.backup(&server, &name, if n < 8 { "used" } else { "new" }));
    }
    assert_eq!(job(&server, &jobs[8])["Status"], 6004);
    // Until then they need the server themselves: the first one makes the vault's key.
    until("the others' beginning", || {
        (fs::read(&begun).unwrap_or_default().len() == 2 * 8).then_some(())
    });
    link.set(Link::Down);
    fs::write(&gate, "").unwrap();
    until("the others' end", || {
        (fs::read_to_string(&done).unwrap_or_default().lines().count() >= 8).then_some(())
    });
    // How long it is away is the test's input, not something to wait for.
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        !server.work_dir.join("new").exists(),
        "nothing is written with a key that nobody keeps"
    );
    link.set(Link::Up);
    for id in &jobs {
        assert_eq!(ended(&server, id)["Status"], 5000, "{}", log(&server, id));
    }
    device.restic("new", &["check", "--read-data"]);
}

#[test]
fn reports_cross_a_link_that_keeps_breaking() {
    let server = Server::start();
    let link = Proxy::to(&server.url);
    let device = Device::start_at(&server, "laptop", &link.url());
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let gate = server.work_dir.join("gate");
    let talk = format!(
        "i=0; while ! test -e '{}'; do i=$((i+1)); echo line $i >&2; echo x; sleep 0.02; done; echo $i > '{}'",
        gate.display(),
        server.work_dir.join("count").display()
    );
    device.add_item(
        &server,
        "item",
        "engine1/stdout",
        &json!({ "COMMAND": talk, "SAVEAS": "o" }),
    );
    let id = device.backup(&server, "item", "vault");
    for n in 0..4 {
        let before = log(&server, &id).lines().count();
        until("more lines", || {
            (log(&server, &id).lines().count() > before + 20).then_some(())
        });
        link.set(if n % 2 == 0 { Link::Down } else { Link::Silent });
        std::thread::sleep(Duration::from_millis(1500));
        link.set(Link::Up);
    }
    link.set(Link::Down);
    fs::write(&gate, "").unwrap();
    until("the end without the server", || {
        server.work_dir.join("count").exists().then_some(())
    });
    link.set(Link::Up);
    let job = ended(&server, &id);
    assert_eq!(job["Status"], 7001, "{job}");
    let count: usize = fs::read_to_string(server.work_dir.join("count"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let text = log(&server, &id);
    let told: Vec<&str> = text.lines().filter(|l| l.starts_with("W line ")).collect();
    let expected: Vec<String> = (1..=count.min(1000)).map(|i| format!("W line {i}")).collect();
    assert_eq!(told, expected, "each line once and in order");
}

#[test]
fn fifty_jobs_outlive_their_server_and_end_truly() {
    let mut server = Server::start();
    let mut devices: Vec<Device> = (0..7)
        .map(|n| Device::start(&server, &format!("device{n}")))
        .collect();
    let (early, late) = (server.work_dir.join("early"), server.work_dir.join("late"));
    let mut jobs = Vec::new();
    for (n, device) in devices.iter().enumerate() {
        let vault = format!("vault{n}");
        device.add_folder_vault(&server, &vault, &server.work_dir.join(&vault));
        for k in 0..8 {
            // Half end while the server is away; some of them badly.
            let gate = if k % 2 == 0 { &early } else { &late };
            let status = u32::from(k % 4 == 0);
            let command = format!(
                "while ! test -e '{}'; do sleep 0.1; done; echo x; exit {status}",
                gate.display()
            );
            let item = format!("item{n}-{k}");
            device.add_item(
                &server,
                &item,
                "engine1/stdout",
                &json!({ "COMMAND": command, "SAVEAS": "o" }),
            );
            jobs.push((n, k, device.backup(&server, &item, &vault)));
        }
    }
    for (_, _, id) in &jobs {
        assert_eq!(job(&server, id)["Status"], 6001);
    }
    server.kill();
    fs::write(&early, "").unwrap();
    // One device dies as well, and comes back.
    devices[6].kill();
    devices[6].launch();
    // That jobs end meanwhile shows in the agents' own records alone.
    std::thread::sleep(Duration::from_secs(3));
    server.restart_here();
    fs::write(&late, "").unwrap();
    for (n, k, id) in &jobs {
        let job = ended(&server, id);
        let expected = match (n, k % 4) {
            (6, _) | (_, 0) => 7002,
            _ => 5000,
        };
        assert_eq!(job["Status"], expected, "{n} {k}: {job} {}", log(&server, id));
        assert!(job["EndTime"].as_i64() > Some(0));
    }
    let running = server.call(
        "/api/v1/admin/get-jobs-for-date-range",
        &[("Start", "0"), ("End", "0")],
    );
    assert_eq!(running, json!([]), "nothing is left running");
    let all = server.call("/api/v1/admin/get-jobs-for-user", &[("TargetUser", USER)]);
    assert_eq!(all.as_array().unwrap().len(), 56, "each job once");
}
