//! A device in a network namespace of its own, whose cable is pulled in the middle of a backup, of a restore and of
//! reports: nothing is lost, no job is stuck. Nothing of it leaves the two namespaces.

use crate::support::device::{Device, ended, log, until};
use crate::support::{Server, noise_file};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Tells a test that it runs in the server's namespace, and what the device's is called.
const INSIDE: &str = "ENCKE_TEST_DEVICE_NAMESPACE";
/// Where the server listens.
const SERVER: &str = "10.77.0.1";
/// How long a cable stays pulled: the test's input, not something to wait for.
const PULLED: Duration = Duration::from_secs(4);

fn ip(arguments: &[&str]) -> bool {
    let ran = Command::new("ip").args(arguments).output();
    ran.is_ok_and(|o| o.status.success())
}

/// Two namespaces and a cable between them; gone when this is dropped.
struct Namespaces {
    server: String,
    device: String,
}

impl Namespaces {
    /// Nothing where the system does not let a test have them.
    fn make(name: &str) -> Option<Self> {
        let id = std::process::id();
        let made = Self {
            server: format!("encke-{id}-{name}-server"),
            device: format!("encke-{id}-{name}-device"),
        };
        let (a, b) = (made.server.as_str(), made.device.as_str());
        let steps: &[&[&str]] = &[
            &["netns", "add", a],
            &["netns", "add", b],
            &[
                "-n", a, "link", "add", "name", "near", "type", "veth", "peer", "name", "far", "netns", b,
            ],
            &["-n", a, "addr", "add", "10.77.0.1/30", "dev", "near"],
            &["-n", b, "addr", "add", "10.77.0.2/30", "dev", "far"],
            &["-n", a, "link", "set", "dev", "lo", "up"],
            &["-n", b, "link", "set", "dev", "lo", "up"],
            &["-n", a, "link", "set", "dev", "near", "up"],
            &["-n", b, "link", "set", "dev", "far", "up"],
        ];
        steps.iter().all(|step| ip(step)).then_some(())?;
        // Slow enough that there is a middle.
        for (namespace, end) in [(a, "near"), (b, "far")] {
            let shaped = Command::new("tc")
                .args(["-n", namespace, "qdisc", "add", "dev", end, "root", "tbf"])
                .args(["rate", "80mbit", "burst", "64kb", "latency", "300ms"])
                .output();
            shaped.is_ok_and(|o| o.status.success()).then_some(())?;
        }
        Some(made)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.device]);
        ip(&["netns", "del", &self.server]);
    }
}

/// Runs the test of this name once more, inside.
fn in_namespaces(name: &str, test: fn(&Cable)) {
    if let Ok(device) = std::env::var(INSIDE) {
        return test(&Cable { device });
    }
    let Some(namespaces) = Namespaces::make(&name[..8]) else {
        eprintln!(
            "this system lets a test have no network namespaces (they need root, iproute2 and tbf): not tested"
        );
        return;
    };
    let ran = Command::new("ip")
        .args(["netns", "exec", &namespaces.server])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("{}::{name}", module_path!().split_once("::").unwrap().1),
            "--nocapture",
        ])
        .env(INSIDE, &namespaces.device)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && text.contains("1 passed"), "{text}");
}

/// The cable, from the server's namespace.
struct Cable {
    device: String,
}

/// Which end of the cable is pulled.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The server's: the device still has an address and a route, and nobody answers.
    Server,
    /// The device's: it has no way out and is told so.
    Device,
}

impl Cable {
    fn set(&self, end: End, state: &str) {
        let done = match end {
            End::Server => ip(&["link", "set", "dev", "near", state]),
            End::Device => ip(&["-n", &self.device, "link", "set", "dev", "far", state]),
        };
        assert!(done, "the cable can not be set {state}");
    }

    /// Bytes carried so far, both ways.
    fn carried() -> u64 {
        let count = |what: &str| -> u64 {
            let path = format!("/sys/class/net/near/statistics/{what}_bytes");
            fs::read_to_string(path).unwrap().trim().parse().unwrap()
        };
        count("rx") + count("tx")
    }

    /// Pulls the cable for a while once it has carried so many bytes more.
    fn pull_after(&self, bytes: u64, end: End) {
        let from = Self::carried();
        until("the middle", || (Self::carried() > from + bytes).then_some(()));
        self.set(end, "down");
        std::thread::sleep(PULLED);
        self.set(end, "up");
    }
}

/// A job that has ended, told whole: its log begins and ends as it should.
fn whole(server: &Server, id: &str) -> Value {
    let job = ended(server, id);
    let lines = log(server, id);
    let last = lines.lines().next_back().unwrap();
    let good = job["Status"] == 5000;
    assert!(lines.starts_with("I "), "{lines}");
    assert_eq!(last == "I Finished", good, "{job} {lines}");
    assert!(good || last.starts_with("E "), "{job} {lines}");
    job
}

fn nothing_runs(server: &Server) {
    let range = [("Start", "0"), ("End", "0")];
    let running = server.call("/api/v1/admin/get-jobs-for-date-range", &range);
    assert_eq!(running, json!([]), "a job is stuck");
}

fn start(cable: &Cable) -> (Server, Device) {
    let server = Server::start_at(&format!("{SERVER}:0"));
    let device = Device::start_within(&server, "laptop", &cable.device);
    device.add_bucket(&server, "vault");
    (server, device)
}

fn add_files(server: &Server, device: &Device) -> std::path::PathBuf {
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    for n in 0..10 {
        noise_file(&folder.join(format!("file{n}")), 3 << 20);
    }
    device.add_item(server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    folder
}

#[test]
fn backups_outlive_a_pulled_cable() {
    in_namespaces("backups_outlive_a_pulled_cable", |cable| {
        let (server, device) = start(cable);
        let folder = add_files(&server, &device);
        for end in [End::Server, End::Device] {
            let id = device.backup(&server, "item", "vault");
            cable.pull_after(10 << 20, end);
            let job = whole(&server, &id);
            assert_eq!(job["Status"], 5000, "{end:?}: {}", log(&server, &id));
            assert!(job["UploadSize"].as_i64() > Some(20 << 20), "{job}");
            device.restic("vault", &["check", "--read-data"]);
            noise_file(&folder.join("file0"), 24 << 20);
        }
        nothing_runs(&server);
    });
}

#[test]
fn restores_outlive_a_pulled_cable() {
    in_namespaces("restores_outlive_a_pulled_cable", |cable| {
        let (server, device) = start(cable);
        let folder = add_files(&server, &device);
        device.back_up(&server, "item", "vault");
        for (n, end) in [End::Server, End::Device].into_iter().enumerate() {
            let target = server.work_dir.join(format!("restored{n}"));
            let options = json!({ "Type": 0, "DestPath": target });
            let id = device.restore(&server, "vault", "item", &options, &[]);
            cable.pull_after(10 << 20, end);
            let job = whole(&server, &id);
            assert_eq!(job["Status"], 5000, "{end:?}: {}", log(&server, &id));
            for file in fs::read_dir(&folder).unwrap().flatten() {
                let back = target.join(file.path().strip_prefix("/").unwrap());
                assert!(
                    fs::read(file.path()).unwrap() == fs::read(back).unwrap(),
                    "{file:?} differs"
                );
            }
        }
        nothing_runs(&server);
    });
}

#[test]
fn reports_outlive_a_pulled_cable() {
    in_namespaces("reports_outlive_a_pulled_cable", |cable| {
        let (mut server, device) = start(cable);
        device.add_folder_vault(&server, "local", &server.work_dir.join("local"));
        let (gate, count) = (server.work_dir.join("gate"), server.work_dir.join("count"));
        let talk = format!(
            "i=0; while ! test -e '{}'; do i=$((i+1)); echo line $i >&2; echo x; sleep 0.02; done; echo $i > '{}'",
            gate.display(),
            count.display()
        );
        let item = json!({ "COMMAND": talk, "SAVEAS": "o" });
        device.add_item(&server, "talk", "engine1/stdout", &item);
        let id = device.backup(&server, "talk", "local");
        for end in [End::Server, End::Device] {
            let before = log(&server, &id).lines().count();
            until("more lines", || {
                (log(&server, &id).lines().count() > before + 20).then_some(())
            });
            cable.set(end, "down");
            std::thread::sleep(PULLED / 2);
            cable.set(end, "up");
        }
        // It ends while nobody can be told, and the server does not remember the connection afterwards.
        cable.set(End::Server, "down");
        server.kill();
        fs::write(&gate, "").unwrap();
        until("the end", || count.exists().then_some(()));
        server.restart_here();
        cable.set(End::Server, "up");
        let job = ended(&server, &id);
        assert_eq!(job["Status"], 7001, "{job}");
        let count: usize = fs::read_to_string(&count).unwrap().trim().parse().unwrap();
        let text = log(&server, &id);
        let told: Vec<&str> = text.lines().filter(|l| l.starts_with("W line ")).collect();
        let expected: Vec<String> = (1..=count.min(1000)).map(|i| format!("W line {i}")).collect();
        assert_eq!(told, expected, "each line once and in order");
        nothing_runs(&server);
    });
}
