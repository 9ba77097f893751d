//! A cancelled job ends within a second, whatever it is doing: measured phase by phase, and therefore a program of its
//! own, beside which no other test runs.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs::{self, File};
use std::time::{Duration, Instant};
use support::Server;
use support::device::{Device, USER, ended, job, log, until};
use support::proxy::{Link, Proxy};

/// Each phase is told with its true time; beside other tests, on a busy machine, it may take longer than the second
/// that is promised. What hangs takes minutes.
const ALLOWANCE: Duration = Duration::from_secs(5);

/// Cancels a job once it is in the middle of something, and notes how long its end takes.
struct Cancels<'a> {
    server: &'a Server,
    times: Vec<(&'static str, Duration)>,
}

impl Cancels<'_> {
    fn cancel(&mut self, what: &'static str, id: &str, is_there: impl Fn() -> bool) {
        self.cancel_to(what, id, 7005, is_there);
    }

    fn cancel_to(&mut self, what: &'static str, id: &str, status: i64, is_there: impl Fn() -> bool) {
        until(what, || Some(()).filter(|()| is_there()));
        let fields = [("TargetUser", USER), ("JobID", id)];
        let asked = Instant::now();
        let answer = self.server.call("/api/v1/admin/job/cancel", &fields);
        assert_eq!(answer["Status"], 200, "{what}: {answer}");
        let job = ended(self.server, id);
        let time = asked.elapsed();
        assert_eq!(job["Status"], status, "{what}: {}", log(self.server, id));
        println!("{:>5} ms  {what}", time.as_millis());
        self.times.push((what, time));
    }
}

#[test]
fn a_job_is_cancelled_within_a_second_in_every_phase() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let link = Proxy::to(&server.url);
    device.add_folder_vault(&server, "local", &server.work_dir.join("local"));
    device.add_bucket(&server, "remote");
    device.edit(&server, |p| {
        p["Destinations"]["remote"]["CometServer"] = json!(link.url());
    });
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    let mut noise = vec![0; 40 << 20];
    std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    fs::write(folder.join("noise"), &noise).unwrap();
    // Of holes, which are read and cut like anything else.
    let image = server.work_dir.join("image");
    File::create(&image).unwrap().set_len(1 << 40).unwrap();
    device.add_item(&server, "folder", "engine1/file", &json!({ "INCLUDE1": folder }));
    device.add_item(&server, "image", "engine1/file", &json!({ "INCLUDE1": image }));
    let program = |name: &str, command: &str| {
        let properties = json!({ "COMMAND": command, "SAVEAS": "o" });
        device.add_item(&server, name, "engine1/stdout", &properties);
    };
    program("silent", "sleep 1001");
    // Out of the reach of whoever ends the program, and with its output; it ends by itself.
    program("escaped", "setsid --fork sleep 30; sleep 1002");
    program("before", "echo x");
    program("after", "echo x");
    device.edit(&server, |p| {
        p["Sources"]["before"]["PreExec"] = json!(["sleep 1003"]);
        p["Sources"]["after"]["PostExec"] = json!(["sleep 1004"]);
    });
    let says = |id: &str, what: &str| log(&server, id).contains(what);
    let moved = |id: &str, what: &str| job(&server, id)["Progress"][what].as_i64() > Some(0);
    let mut cancels = Cancels {
        server: &server,
        times: Vec::new(),
    };

    let id = device.backup(&server, "before", "local");
    cancels.cancel("a command before", &id, || says(&id, "sleep 1003"));
    let id = device.backup(&server, "silent", "local");
    cancels.cancel("a silent program", &id, || says(&id, "sleep 1001"));
    let id = device.backup(&server, "escaped", "local");
    cancels.cancel("a program whose child keeps its output", &id, || {
        says(&id, "sleep 1002")
    });
    let id = device.backup(&server, "after", "local");
    // What was to be saved is saved: the command alone has failed.
    cancels.cancel_to("a command after", &id, 7001, || says(&id, "sleep 1004"));
    let id = device.backup(&server, "image", "local");
    cancels.cancel("reading a large file", &id, || moved(&id, "ItemsTotal"));
    device.add_item(&server, "system", "engine1/file", &json!({ "INCLUDE1": "/usr" }));
    let id = device.backup(&server, "system", "local");
    cancels.cancel("looking at and reading many files", &id, || {
        moved(&id, "ItemsTotal")
    });
    let slow = json!({ "LimitVaultSpeedBps": 1000 });
    let id = device.backup_with(&server, "folder", "local", &slow);
    cancels.cancel("a limit of speed", &id, || moved(&id, "BytesDone"));

    // A place that is there and does not answer any more, in the middle of it.
    program("word", "echo x");
    device.back_up(&server, "word", "remote");
    link.silence_after(8 << 20);
    let id = device.backup(&server, "folder", "remote");
    cancels.cancel("sending to a silent place", &id, || link.is_silent());
    link.set(Link::Up);
    device.back_up(&server, "folder", "remote");
    let into = |kind: i64, place: &str| json!({ "Type": kind, "DestPath": place });
    let target = server.work_dir.join("target");
    link.silence_after(8 << 20);
    let restore = |options: &Value| device.restore(&server, "remote", "folder", options, &[]);
    let id = restore(&into(0, target.to_str().unwrap()));
    cancels.cancel("restoring from a silent place", &id, || link.is_silent());
    link.set(Link::Up);
    let id = restore(&into(2, "sleep 1005"));
    cancels.cancel("restoring into a command that takes nothing", &id, || {
        says(&id, "Restoring snapshot")
    });
    let upkeep = |what: &str, class: u64, bytes: u64| {
        link.silence_after(bytes);
        let answer = device.ask(&server, what, &[("Destination", "remote")]);
        assert_eq!(answer["Status"], 200, "{answer}");
        until("the job", || {
            let all = server.call("/api/v1/admin/get-jobs-for-user", &[("TargetUser", USER)]);
            let all = all.as_array().unwrap().clone();
            let found = all.into_iter().find(|j| j["Classification"] == class)?;
            found["GUID"].as_str().map(str::to_string)
        })
    };
    let id = upkeep("deepverify-storage-vault", 4010, 8 << 20);
    cancels.cancel("verifying a silent place", &id, || link.is_silent());
    link.set(Link::Up);
    // After the key is read, before all snapshots are.
    let id = upkeep("apply-retention-rules", 4003, 3 << 10);
    cancels.cancel("retention in a silent place", &id, || link.is_silent());
    // And one that does not answer from the start.
    let id = device.backup(&server, "folder", "remote");
    cancels.cancel("opening a silent place", &id, || {
        job(&server, &id)["Status"] == 6001
    });
    // One that nobody is at: its own tries, and the pauses between them.
    link.set(Link::Down);
    let id = device.backup(&server, "folder", "remote");
    cancels.cancel("waiting for a place that is away", &id, || {
        says(&id, "can not be reached")
    });
    link.set(Link::Up);

    device.back_up(&server, "folder", "remote");
    device.restic("remote", &["check", "--read-data"]);
    let worst = cancels.times.iter().max_by_key(|(_, time)| *time).unwrap();
    assert!(worst.1 < ALLOWANCE, "{worst:?}");
}
