//! A fleet of devices in one process, speaking the real protocol to a real server that this program starts, kills and
//! starts again. `bench/fleet.sh` runs it and says how to read what it prints.
//!
//! usage: fleet PROGRAM [DEVICES] [ACCOUNTS]

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use encke_api::account_keys::Stretching;
use encke_api::live::{
    Call, DeviceMessage, Hello, Joiner, LIVE_PATH, LOGIN_PARAMETERS_PATH, PROTOCOL, Request, ServerMessage,
    parts,
};
use encke_api::types::BackupJobDetail;
use futures_util::{Sink, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PASSWORD: &str = "fleet-password";
/// Devices that sign in at once: as many as a device's own patience allows.
const AT_ONCE: usize = 256;
/// Jobs that report progress at once.
const REPORTING: usize = 100;
/// Seconds for which they do.
const BEATS: u64 = 20;
/// Devices with a job that ends while the server is away.
const ENDING: usize = 1000;
/// Calls to devices whose round trip is measured.
const CALLS: usize = 4000;

struct Server {
    program: PathBuf,
    data_dir: PathBuf,
    address: String,
    child: Child,
}

impl Server {
    fn start(program: &Path, data_dir: &Path, address: &str) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(data_dir.with_extension("log"));
        let mut child = Command::new(program)
            .args(["serve", "--listen", address, "--data-dir"])
            .arg(data_dir)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the server did not start").unwrap();
            if let Some(rest) = line.strip_prefix("Encke listens at http://") {
                break rest.split('/').next().unwrap().to_string();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            program: program.to_path_buf(),
            data_dir: data_dir.to_path_buf(),
            address,
            child,
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn restart(&mut self) {
        *self = Self::start(
            &self.program.clone(),
            &self.data_dir.clone(),
            &self.address.clone(),
        );
    }

    /// Kilobytes of memory that are the process's own.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Seconds of processor time used so far.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let url = format!("http://{}{path}", self.address);
        let mut answer = ureq::post(url).send_form(fields.iter().copied()).unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    fn admin(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let mut all = vec![
            ("Username", "admin"),
            ("AuthType", "Password"),
            ("Password", PASSWORD),
        ];
        all.extend(fields);
        self.post(&format!("/api/v1/admin/{path}"), &all)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn send(sink: &mut (impl Sink<Message> + Unpin), message: &DeviceMessage) -> bool {
    for part in parts(serde_json::to_string(message).unwrap()) {
        if sink.send(Message::Text(part.into())).await.is_err() {
            return false;
        }
    }
    true
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Ask = (Call, oneshot::Sender<u16>);

/// What all devices share.
struct Fleet {
    url: String,
    connected: AtomicUsize,
    /// Set while devices may register.
    signing_in: Semaphore,
    stopping: AtomicBool,
    /// Nobody connects while this is set.
    hold: AtomicBool,
    refused: AtomicU64,
}

struct Device {
    hello: Hello,
    calls: mpsc::Receiver<Ask>,
}

impl Device {
    async fn sign_in(&self, fleet: &Fleet) -> Option<Socket> {
        let _turn = fleet.signing_in.acquire().await.unwrap();
        // Ten thousand devices in one process must not take a large buffer each.
        let config = WebSocketConfig::default()
            .read_buffer_size(2048)
            .write_buffer_size(0)
            .max_write_buffer_size(1 << 24);
        let connect = tokio_tungstenite::connect_async_with_config(&fleet.url, Some(config), true);
        let (mut socket, _) = tokio::time::timeout(Duration::from_secs(30), connect)
            .await
            .ok()?
            .ok()?;
        let hello = DeviceMessage::Hello(Box::new(self.hello.clone()));
        if !send(&mut socket, &hello).await {
            return None;
        }
        let mut joiner = Joiner::default();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(30), socket.next())
                .await
                .ok()?;
            let Message::Text(text) = next?.ok()? else {
                continue;
            };
            let Some(text) = joiner.take(text.as_str()).unwrap() else {
                continue;
            };
            match serde_json::from_str(&text).unwrap() {
                ServerMessage::Welcome { .. } => return Some(socket),
                other => {
                    if fleet.refused.fetch_add(1, SeqCst) == 0 {
                        eprintln!("a device was refused: {other:?}");
                    }
                    return None;
                }
            }
        }
    }

    /// Stays connected as the real agent does: with a pause that grows, and differs from device to device.
    async fn live(mut self, fleet: Arc<Fleet>) {
        let mut pause = 1.0;
        let mut unanswered: Vec<Ask> = Vec::new();
        while !fleet.stopping.load(SeqCst) {
            while fleet.hold.load(SeqCst) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            if let Some(socket) = self.sign_in(&fleet).await {
                self.hello.register = false;
                fleet.connected.fetch_add(1, SeqCst);
                pause = 1.0;
                unanswered = self.serve(socket, unanswered).await;
                fleet.connected.fetch_sub(1, SeqCst);
            }
            let mut random = [0u8; 1];
            getrandom::fill(&mut random).unwrap();
            let wait = pause * (0.5 + f64::from(random[0]) / 255.0);
            pause = (pause * 2.0_f64).min(60.0);
            tokio::time::sleep(Duration::from_secs_f64(wait)).await;
        }
    }

    /// Answers requests and makes calls until the connection ends; what was not acknowledged is called again.
    async fn serve(&mut self, socket: Socket, again: Vec<Ask>) -> Vec<Ask> {
        let (mut sink, mut stream) = socket.split();
        let (mut open, mut next) = (HashMap::<u64, Ask>::new(), 1);
        let mut again = again.into_iter();
        let mut joiner = Joiner::default();
        loop {
            let ask = match again.next() {
                Some(ask) => Some(ask),
                None => tokio::select! {
                    Some(ask) = self.calls.recv() => Some(ask),
                    frame = stream.next() => {
                        let Some(Ok(frame)) = frame else { break };
                        let Message::Text(text) = frame else {
                            if sink.flush().await.is_err() { break }
                            continue;
                        };
                        let Some(text) = joiner.take(text.as_str()).unwrap() else { continue };
                        match serde_json::from_str(&text).unwrap() {
                            ServerMessage::Request { id, request } => {
                                let body = match request {
                                    Request::BrowseFilesystem { .. } => json!([
                                        { "name": "home", "type": "dir", "subtree": "/home", "mtime": 1, "size": 0 },
                                        { "name": "letter.txt", "type": "file", "mtime": 2, "size": 3 },
                                    ]),
                                    _ => Value::Null,
                                };
                                let reply = DeviceMessage::Reply { id, status: 200, message: "OK".into(), body };
                                if !send(&mut sink, &reply).await { break }
                            }
                            ServerMessage::Answer { id, status, .. } => {
                                if let Some((_, done)) = open.remove(&id) {
                                    let _ = done.send(status);
                                }
                            }
                            _ => {}
                        }
                        None
                    }
                },
            };
            let Some((call, done)) = ask else { continue };
            let text = serde_json::to_string(&DeviceMessage::Call {
                id: next,
                call: call.clone(),
            })
            .unwrap();
            open.insert(next, (call, done));
            next += 1;
            if sink.send(Message::Text(text.into())).await.is_err() {
                break;
            }
        }
        again.chain(open.into_values()).collect()
    }
}

/// How devices are called.
#[derive(Clone)]
struct Asking {
    url: String,
    session: String,
    targets: Arc<Vec<String>>,
}

impl Asking {
    /// Four threads call devices, each so many times with a pause between; the round trips' seconds.
    async fn run(&self, calls: usize, pause: Duration) -> Vec<f64> {
        let workers: Vec<_> = (0..4)
            .map(|w| {
                let asking = self.clone();
                std::thread::spawn(move || asking.work(w, calls, pause))
            })
            .collect();
        let join = move || workers.into_iter().flat_map(|w| w.join().unwrap()).collect();
        tokio::task::spawn_blocking(join).await.unwrap()
    }

    fn work(&self, worker: usize, calls: usize, pause: Duration) -> Vec<f64> {
        let http = ureq::Agent::new_with_defaults();
        let mut times = Vec::new();
        for n in 0..calls {
            let target = &self.targets[(n * 7919 + worker * 104_729) % self.targets.len()];
            let began = Instant::now();
            let fields = [
                ("Username", "admin"),
                ("AuthType", "SessionKey"),
                ("SessionKey", &self.session),
                ("TargetID", target),
                ("Path", "/"),
            ];
            let mut answer = http.post(&self.url).send_form(fields).unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            times.push(began.elapsed().as_secs_f64());
            assert!(text.contains("letter.txt"), "{text}");
            std::thread::sleep(pause);
        }
        times
    }
}

/// The times below which half and 99 of 100 lie, in milliseconds.
fn percentiles(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |p: f64| times[((times.len() - 1) as f64 * p).round() as usize] * 1000.0;
    (at(0.5), at(0.99))
}

async fn until(what: &str, limit: Duration, mut is_done: impl FnMut() -> bool) -> f64 {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < limit, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed().as_secs_f64()
}

fn job(n: usize, status: u64, counter: i64) -> BackupJobDetail {
    let mut job = BackupJobDetail {
        guid: format!("{n:08x}-1111-4111-8111-111111111111"),
        status,
        classification: 4001,
        start_time: 1_700_000_000,
        end_time: if status == 5000 { 1_700_000_100 } else { 0 },
        source_guid: "item".into(),
        destination_guid: "vault".into(),
        cancellation_id: "c".into(),
        total_size: 1 << 30,
        ..Default::default()
    };
    job.progress.counter = counter;
    job.progress.bytes_done = counter << 20;
    job
}

async fn report(calls: &mpsc::Sender<Ask>, job: BackupJobDetail) -> oneshot::Receiver<u16> {
    let (send, done) = oneshot::channel();
    calls
        .send((Call::ReportJob { job: Box::new(job) }, send))
        .await
        .unwrap();
    done
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = PathBuf::from(
        arguments
            .next()
            .expect("usage: fleet PROGRAM [DEVICES] [ACCOUNTS]"),
    );
    let devices: usize = arguments.next().map_or(10_000, |n| n.parse().unwrap());
    let accounts: usize = arguments.next().map_or(100, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let mut server = Server::start(&program, &data_dir, "127.0.0.1:0");
    server.post(
        "/api/v1/admin/add-first-admin-user",
        &[("TargetUser", "admin"), ("TargetPassword", PASSWORD)],
    );

    // Accounts and their keys.
    let mut keys = Vec::new();
    for n in 0..accounts {
        let name = format!("account{n}");
        let made = server.admin("add-user", &[("TargetUser", &name), ("TargetPassword", PASSWORD)]);
        assert_eq!(made["Status"], 200, "{made}");
        let how = server.post(LOGIN_PARAMETERS_PATH, &[("Username", &name)]);
        let how: Stretching = serde_json::from_value(how).unwrap();
        keys.push(how.derive(PASSWORD).unwrap().login.to_text().to_string());
    }
    let fleet = Arc::new(Fleet {
        url: format!("ws://{}{LIVE_PATH}", server.address),
        connected: AtomicUsize::new(0),
        signing_in: Semaphore::new(AT_ONCE),
        stopping: AtomicBool::new(false),
        hold: AtomicBool::new(false),
        refused: AtomicU64::new(0),
    });
    let began = Instant::now();
    let mut calls = Vec::with_capacity(devices);
    for n in 0..devices {
        let hello = Hello {
            protocol: PROTOCOL,
            username: format!("account{}", n % accounts),
            login_key: keys[n % accounts].clone(),
            totp: String::new(),
            device_id: format!("device-{n}"),
            install_token: String::new(),
            register: true,
            friendly_name: format!("machine {n}"),
            client_version: "25.9.8".into(),
            platform: "linux/amd64".into(),
            os: Default::default(),
            time_zone: "Europe/Berlin".into(),
            allows_filenames: true,
            running_jobs: Vec::new(),
            program: String::new(),
            updating_to: String::new(),
        };
        let (send, receive) = mpsc::channel(8);
        calls.push(send);
        tokio::spawn(
            Device {
                hello,
                calls: receive,
            }
            .live(fleet.clone()),
        );
    }
    let all_back = || fleet.connected.load(SeqCst) == devices;
    until("the fleet", Duration::from_secs(900), all_back).await;
    println!(
        "{devices} devices registered in {:.1} s",
        began.elapsed().as_secs_f64()
    );

    // A fresh process that has only welcomed them shows what a connection takes.
    fleet.hold.store(true, SeqCst);
    server.kill();
    until("the fleet to notice", Duration::from_secs(60), || {
        fleet.connected.load(SeqCst) == 0
    })
    .await;
    server.restart();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = server.memory();
    fleet.hold.store(false, SeqCst);
    until("the fleet to come back", Duration::from_secs(300), all_back).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let memory = server.memory();
    println!(
        "memory: {:.0} MiB, {:.1} KiB a connection (empty: {:.0} MiB)",
        memory / 1024.0,
        (memory - before) / devices as f64,
        before / 1024.0
    );
    let (cpu, clock) = (server.cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let idle = 100.0 * (server.cpu() - cpu) / clock.elapsed().as_secs_f64();
    println!("idle: {idle:.2} % of one core over 60 s, heartbeats included");

    // Calls that go to a device and back, four at a time.
    let live = server.admin("dispatcher/list-active", &[]);
    let targets: Arc<Vec<String>> = Arc::new(live.as_object().unwrap().keys().cloned().collect());
    assert_eq!(targets.len(), devices);
    let session = server.admin("account/session-start", &[]);
    let asking = Asking {
        url: format!(
            "http://{}/api/v1/admin/dispatcher/request-filesystem-objects",
            server.address
        ),
        session: session["SessionKey"].as_str().unwrap().to_string(),
        targets,
    };
    let (p50, p99) = percentiles(asking.run(CALLS / 4, Duration::ZERO).await);
    println!("dispatch: {CALLS} round trips, p50 {p50:.2} ms, p99 {p99:.2} ms");

    // Progress, once a second from each and from all at the same moment, while devices are called as well.
    let reporting = REPORTING.min(devices);
    let (cpu, clock) = (server.cpu(), Instant::now());
    let beat = tokio::time::Instant::now() + Duration::from_secs(1);
    let tasks: Vec<_> = (0..reporting)
        .map(|n| {
            let calls = calls[n].clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for counter in 1..=BEATS {
                    tokio::time::sleep_until(beat + Duration::from_secs(counter)).await;
                    let began = Instant::now();
                    let job = job(n, 6001, i64::try_from(counter).unwrap());
                    assert_eq!(report(&calls, job).await.await.unwrap(), 200);
                    times.push(began.elapsed().as_secs_f64());
                }
                times
            })
        })
        .collect();
    let meanwhile = asking.run(BEATS as usize * 50, Duration::from_millis(20)).await;
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let busy = 100.0 * (server.cpu() - cpu) / clock.elapsed().as_secs_f64();
    let (p50, p99) = percentiles(times);
    println!(
        "progress: {reporting} jobs, all at the same moment of each of {BEATS} seconds, stored and acknowledged: \
         p50 {p50:.2} ms, p99 {p99:.2} ms"
    );
    let (calls_meanwhile, (p50, p99)) = (meanwhile.len(), percentiles(meanwhile));
    println!(
        "meanwhile: {calls_meanwhile} round trips, p50 {p50:.2} ms, p99 {p99:.2} ms, {busy:.1} % of one core"
    );
    let arrived = (0..reporting)
        .filter(|&n| {
            let id = job(n, 6001, 0).guid;
            let told = server.admin("get-job-properties", &[("JobID", &id)]);
            told["Progress"]["Counter"] == BEATS
        })
        .count();
    println!("progress: {arrived} of {reporting} jobs show their last counter");
    assert_eq!(arrived, reporting);

    // Jobs end while the server is away.
    let ending = ENDING.min(devices);
    for (n, calls) in calls.iter().enumerate().take(ending) {
        assert_eq!(report(calls, job(n, 6001, 100)).await.await.unwrap(), 200);
    }
    server.kill();
    until("the fleet to notice", Duration::from_secs(60), || {
        fleet.connected.load(SeqCst) == 0
    })
    .await;
    let mut done = Vec::new();
    for (n, calls) in calls.iter().enumerate().take(ending) {
        done.push(report(calls, job(n, 5000, 101)).await);
    }
    server.restart();
    let storm = until("the fleet to come back", Duration::from_secs(300), all_back).await;
    for done in done {
        assert_eq!(done.await.unwrap(), 200);
    }
    let query =
        json!({ "RuleField": "BackupJobDetail.Status", "RuleOperator": "int_eq", "RuleValue": "5000" });
    let count = server.admin("count-jobs-for-custom-search", &[("Query", &query.to_string())]);
    println!(
        "storm: all back {storm:.1} s after the server started again; {} of {ending} jobs ended well",
        count["Count"]
    );
    assert_eq!(count["Count"], ending);
    assert!(storm < 60.0, "the fleet took too long");
    fleet.stopping.store(true, SeqCst);
}
