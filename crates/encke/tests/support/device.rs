//! A device of an account on a test's server: the real `encke agent`, watched through the API.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use super::Server;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The tests' account and its password.
pub const USER: &str = "dora";
pub const PASSWORD: &str = "dora-password";

/// Nothing of what tests wait for takes this long, even on a slow machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < limit, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A registered device.
pub struct Device {
    /// Its id.
    pub id: String,
    data_dir: PathBuf,
    /// The network namespace it runs in, where it is not the test's own.
    namespace: Option<String>,
    /// What the agent is started with, beside this process's own environment.
    environment: Vec<(String, String)>,
    /// Seconds since the machine's start, as the agent sees it, where it is not the truth.
    uptime: Option<u64>,
    /// The program it runs.
    program: PathBuf,
    child: Option<Child>,
}

/// Seconds since this machine started.
fn uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    text.split('.').next().unwrap().parse().unwrap()
}

impl Device {
    /// Makes the account unless it is there, registers a device and starts it.
    pub fn start(server: &Server, name: &str) -> Self {
        Self::start_with(server, name, &[])
    }

    /// As [`Device::start`], with more arguments for the registration.
    pub fn start_with(server: &Server, name: &str, arguments: &[&str]) -> Self {
        Self::register(server, name, &server.url, arguments, None)
    }

    /// As [`Device::start`], reaching the server at another address.
    pub fn start_at(server: &Server, name: &str, url: &str) -> Self {
        Self::register(server, name, url, &[], None)
    }

    /// As [`Device::start`], in a network namespace of its own.
    pub fn start_within(server: &Server, name: &str, namespace: &str) -> Self {
        Self::register(server, name, &server.url, &[], Some(namespace))
    }

    fn register(server: &Server, name: &str, url: &str, arguments: &[&str], namespace: Option<&str>) -> Self {
        let users = server.call("/api/v1/admin/list-users", &[]);
        if !users.as_array().unwrap().contains(&json!(USER)) {
            let fields = [("TargetUser", USER), ("TargetPassword", PASSWORD)];
            let made = server.call("/api/v1/admin/add-user", &fields);
            assert_eq!(made["Status"], 200, "{made}");
        }
        let mut device = Self {
            id: name.to_string(),
            data_dir: server.work_dir.join(name),
            namespace: namespace.map(str::to_string),
            environment: Vec::new(),
            uptime: None,
            program: env!("CARGO_BIN_EXE_encke").into(),
            child: None,
        };
        let mut all = vec!["register", "--server", url, "--user", USER, "--device-id", name];
        all.extend(arguments);
        let output = device.run(&all);
        assert!(output.status.success(), "{output:?}");
        device.launch();
        device.connection(server);
        device
    }

    /// A machine that is not registered yet.
    pub fn unregistered(server: &Server, name: &str) -> Self {
        Self {
            id: name.to_string(),
            data_dir: server.work_dir.join(name),
            namespace: None,
            environment: Vec::new(),
            uptime: None,
            program: env!("CARGO_BIN_EXE_encke").into(),
            child: None,
        }
    }

    /// A machine that somebody registered with another program and data folder.
    pub fn installed(program: &Path, data_dir: &Path) -> Self {
        let settings = std::fs::read_to_string(data_dir.join("agent.json")).unwrap();
        let settings: Value = serde_json::from_str(&settings).unwrap();
        Self {
            id: settings["device_id"].as_str().unwrap().to_string(),
            data_dir: data_dir.to_path_buf(),
            namespace: None,
            environment: Vec::new(),
            uptime: None,
            program: program.to_path_buf(),
            child: None,
        }
    }

    /// Runs another program from now on.
    pub fn set_program(&mut self, program: &Path) {
        self.program = program.to_path_buf();
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn command(&self) -> Command {
        let program = self.program.as_path();
        // Each replaced by the program: one process.
        let mut command = match (&self.namespace, self.uptime) {
            (Some(namespace), _) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            (None, Some(seconds)) => {
                let mut command = Command::new("unshare");
                command.args(["--time", "--boottime"]);
                command.arg(format!("-{}", uptime() - seconds)).arg(program);
                command
            }
            (None, None) => Command::new(program),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .args(["agent", "--data-dir"])
            .arg(&self.data_dir)
            .env("ENCKE_PASSWORD", PASSWORD);
        command
    }

    /// Runs a command of the agent to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Starts the agent.
    pub fn launch(&mut self) {
        self.launch_as(&["run"]);
    }

    /// Starts the agent with another command.
    pub fn launch_as(&mut self, arguments: &[&str]) {
        std::fs::create_dir_all(&self.data_dir).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.data_dir.join("agent.log"))
            .unwrap();
        let child = self
            .command()
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Starts the agent with this in its environment from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_string(), value.to_string()));
    }

    /// From now on the agent sees a machine that started so many seconds before it. Answers whether the system lets a
    /// test do that, and whether the machine itself has run for longer.
    pub fn set_uptime(&mut self, seconds: Option<u64>) -> bool {
        self.uptime = seconds;
        let tried = Command::new("unshare")
            .args(["--time", "--boottime", "-1", "true"])
            .output();
        uptime() > seconds.unwrap_or(0) && tried.is_ok_and(|t| t.status.success())
    }

    /// Whether the agent has not ended.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|c| c.try_wait().unwrap().is_none())
    }

    /// Waits until the agent ends by itself. Answers whether it says that all went well.
    pub fn wait_end(&mut self) -> bool {
        self.child.take().unwrap().wait().unwrap().success()
    }

    /// What the agent wrote into its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir.join("agent.log")).unwrap_or_default()
    }

    /// Ends the agent at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the agent to stop, and waits until it has.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// What the agent keeps.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its connection; waits for it.
    pub fn connection(&self, server: &Server) -> String {
        until("the device to be on line", || {
            let live = server.call(
                "/api/v1/admin/dispatcher/list-active",
                &[("UserNameFilter", USER)],
            );
            let found = live
                .as_object()
                .unwrap()
                .iter()
                .find(|(_, c)| c["DeviceID"] == self.id.as_str());
            found.map(|(id, _)| id.clone())
        })
    }

    /// Asks the device through the server.
    pub fn ask(&self, server: &Server, what: &str, fields: &[(&str, &str)]) -> Value {
        let connection = self.connection(server);
        let mut all = vec![("TargetID", connection.as_str())];
        all.extend(fields);
        server.call(&format!("/api/v1/admin/dispatcher/{what}"), &all)
    }

    /// Changes the account's profile, and lets the device know.
    pub fn edit(&self, server: &Server, change: impl Fn(&mut Value)) {
        edit(server, change);
        let told = self.ask(server, "refetch-profile", &[]);
        assert_eq!(told["Status"], 200, "{told}");
    }

    /// Adds a Protected Item of this device.
    pub fn add_item(&self, server: &Server, id: &str, engine: &str, properties: &Value) {
        self.edit(server, |profile| {
            profile["Sources"][id] = json!({
                "Engine": engine, "Description": id, "OwnerDevice": self.id, "EngineProps": properties,
            });
        });
    }

    /// Adds a Storage Vault in a bucket of the server.
    pub fn add_bucket(&self, server: &Server, id: &str) {
        let bucket = server.call("/api/v1/admin/storage/register-bucket", &[]);
        self.edit(server, |profile| {
            profile["Destinations"][id] = json!({
                "Description": id, "DestinationType": 1003, "CometServer": server.url,
                "CometBucket": bucket["NewBucketID"], "CometBucketKey": bucket["NewBucketKey"],
                "DefaultRetention": { "Mode": 801, "Ranges": [] },
            });
        });
    }

    /// Adds a Storage Vault in a folder of the device.
    pub fn add_folder_vault(&self, server: &Server, id: &str, folder: &Path) {
        self.edit(server, |profile| {
            profile["Destinations"][id] = json!({
                "Description": id, "DestinationType": 1002, "LocalcopyPath": folder,
                "DefaultRetention": { "Mode": 801, "Ranges": [] },
            });
        });
    }

    /// Starts a backup; its id.
    pub fn backup(&self, server: &Server, item: &str, vault: &str) -> String {
        self.backup_with(server, item, vault, &json!({}))
    }

    /// As [`Device::backup`], with options.
    pub fn backup_with(&self, server: &Server, item: &str, vault: &str, options: &Value) -> String {
        let options = options.to_string();
        let fields = [
            ("Source", item),
            ("Destination", vault),
            ("Options", options.as_str()),
        ];
        started(&self.ask(server, "run-backup-custom", &fields))
    }

    /// Runs a backup to its good end.
    pub fn back_up(&self, server: &Server, item: &str, vault: &str) -> Value {
        let job = ended(server, &self.backup(server, item, vault));
        assert_eq!(
            job["Status"],
            5000,
            "{job} {}",
            log(server, job["GUID"].as_str().unwrap())
        );
        job
    }

    /// Starts a restore; its id.
    pub fn restore(
        &self,
        server: &Server,
        vault: &str,
        item: &str,
        options: &Value,
        paths: &[&str],
    ) -> String {
        let (options, paths) = (options.to_string(), json!(paths).to_string());
        let fields = [
            ("Source", item),
            ("Destination", vault),
            ("Options", options.as_str()),
            ("Paths", paths.as_str()),
        ];
        started(&self.ask(server, "run-restore-custom", &fields))
    }

    /// Runs stock restic on a vault, with what the agent tells its owner.
    pub fn restic(&self, vault: &str, arguments: &[&str]) -> String {
        let access = self.run(&["vault-access", "--destination", vault]);
        assert!(access.status.success(), "{access:?}");
        let access = String::from_utf8(access.stdout).unwrap();
        let output = Command::new("restic")
            .args(["--no-cache", "-q"])
            .args(arguments)
            .envs(access.lines().map(|l| l.split_once('=').unwrap()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the log of device {} ---\n{}", self.id, self.log());
        }
    }
}

/// The id of a job that was started.
pub fn started(answer: &Value) -> String {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer["JobID"].as_str().unwrap().to_string()
}

/// A job as it is now.
pub fn job(server: &Server, id: &str) -> Value {
    server.call("/api/v1/admin/get-job-properties", &[("JobID", id)])
}

/// A job once it has ended.
pub fn ended(server: &Server, id: &str) -> Value {
    until("the job to end", || {
        let job = job(server, id);
        // Its log comes before its end.
        (!(6000..7000).contains(&job["Status"].as_i64().unwrap())).then_some(job)
    })
}

/// A job's log.
pub fn log(server: &Server, id: &str) -> String {
    let entries = server.call("/api/v1/admin/get-job-log-entries", &[("JobID", id)]);
    let line = |e: &Value| {
        format!(
            "{} {}\n",
            e["Severity"].as_str().unwrap(),
            e["Message"].as_str().unwrap()
        )
    };
    entries.as_array().unwrap().iter().map(line).collect()
}

/// Changes the account's profile.
pub fn edit(server: &Server, change: impl Fn(&mut Value)) {
    until("the profile to be changed", || {
        let answer = server.call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", USER)]);
        let mut profile = answer["Profile"].clone();
        change(&mut profile);
        let (text, hash) = (profile.to_string(), answer["ProfileHash"].as_str().unwrap());
        let fields = [
            ("TargetUser", USER),
            ("ProfileData", text.as_str()),
            ("RequireHash", hash),
        ];
        let saved = server.call("/api/v1/admin/set-user-profile-hash", &fields);
        // A device may have changed it at the same time.
        (saved["Status"] == 200).then_some(())
    });
}
