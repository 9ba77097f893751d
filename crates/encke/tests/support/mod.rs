//! A real `encke serve` for a test: its own port, its own data folder, gone when the test ends.

// Each test program uses its own part of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use encke_api::types::ServerConfigOptions;
use encke_store::{Store, StoreError};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub mod authenticator;
pub mod certificates;
#[path = "../../src/demo/compare.rs"]
pub mod compare;
pub mod device;
pub mod directory;
pub mod mariadb;
pub mod postgres;
pub mod proxy;
pub mod services;
pub mod sshd;
pub mod stream;

/// Name of the administrator of a test's server, and its password.
pub const ADMIN: &str = "admin";

/// A file of the data folder with the certificates that the server believes instead of the system's.
pub const AUTHORITY: &str = "test-authority.pem";

/// A running server.
pub struct Server {
    /// Its address without a slash at the end, such as `http://127.0.0.1:40123`.
    pub url: String,
    /// Folder of its database, keys and buckets.
    pub data_dir: PathBuf,
    /// For the test's own files.
    pub work_dir: PathBuf,
    child: Child,
    http: ureq::Agent,
    /// Size of the disk of its own that holds its data folder, in MiB.
    disk: Option<u32>,
    _folder: TempDir,
}

/// An HTTP client that hands over every answer, whatever its status.
pub fn http() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

/// File beside a server's data folder with the certificates that it believes, where a test puts one.
pub const TRUSTED: &str = "trusted.pem";

/// Starts the server of a data folder with this in its environment, each time.
pub fn set_environment(data_dir: &Path, name: &str, value: &str) {
    let path = data_dir.with_file_name(ENVIRONMENT);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, format!("{before}{name}={value}\n")).unwrap();
}

/// Starts the server of a data folder as this program from now on.
pub fn set_program(data_dir: &Path, program: &Path) {
    let link = data_dir.with_file_name(PROGRAM);
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(program, link).unwrap();
}

/// A link beside the data folder to another program than the one that is tested.
const PROGRAM: &str = "program";

/// A free port of the loopback address.
const ANY_PORT: &str = "127.0.0.1:0";

/// A file beside the data folder with further variables of the server's environment.
const ENVIRONMENT: &str = "environment";

/// Starts the program and waits until it tells its address.
fn launch(data_dir: &Path, log: &Path, disk: Option<u32>, listen: &str) -> (Child, String) {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let other = data_dir.with_file_name(PROGRAM);
    let program = other.to_str().filter(|_| other.exists());
    let program = program.unwrap_or(env!("CARGO_BIN_EXE_encke"));
    let mut command = Command::new(if disk.is_some() { "unshare" } else { program });
    if let Some(size) = disk {
        // A disk that only this process and the server see. Each step replaces the one before: one process.
        let script = r#"mount -t tmpfs -o "size=$1m" none "$2" && shift 2 && exec "$@""#;
        command
            .args(["-Urm", "sh", "-c", script, "sh", &size.to_string()])
            .arg(data_dir)
            .arg(program);
    }
    let authority = data_dir.join(AUTHORITY);
    if authority.exists() {
        command.env("SSL_CERT_FILE", authority);
    }
    if let Some(database) = postgres::noted(data_dir) {
        command.env("ENCKE_DATABASE", database);
    }
    if let Ok(text) = std::fs::read_to_string(data_dir.with_file_name(ENVIRONMENT)) {
        command.envs(text.lines().filter_map(|line| line.split_once('=')));
    }
    let trusted = data_dir.with_file_name(TRUSTED);
    if trusted.exists() {
        command.env("SSL_CERT_FILE", trusted);
    }
    command
        .args(["serve", "--listen", listen, "--data-dir"])
        .arg(data_dir)
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = loop {
        match command.spawn() {
            // A program just copied: a child that another thread starts has the copy open for an instant.
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            child => break child.unwrap(),
        }
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = loop {
        let line = lines
            .next()
            .expect("the server ended before it listened")
            .unwrap();
        if let Some(url) = line.strip_prefix("Encke listens at ") {
            break url.trim_end_matches('/').to_string();
        }
    };
    // What it prints later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, url)
}

impl Server {
    /// A new server with an administrator `admin`, password `admin`.
    pub fn start() -> Self {
        Self::start_prepared(|_| {})
    }

    /// A new server at another address than the loopback's, such as `10.0.0.1:0`.
    pub fn start_at(listen: &str) -> Self {
        Self::start_with(|_| {}, None, true, listen)
    }

    /// A new server whose data folder is prepared first.
    pub fn start_prepared(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_with(prepare, None, true, ANY_PORT)
    }

    /// A new server whose data folder is a disk of this many MiB; nothing where the system does not let a test mount
    /// one. The folder can not be seen from the test.
    pub fn start_on_disk(size: u32) -> Option<Self> {
        let allowed = Command::new("unshare")
            .args(["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"])
            .status()
            .is_ok_and(|s| s.success());
        allowed.then(|| Self::start_with(|_| {}, Some(size), true, ANY_PORT))
    }

    /// A new server with further variables in its environment.
    pub fn start_with_environment(variables: &[(&str, &str)]) -> Self {
        let lines: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Self::start_prepared(|data_dir| {
            std::fs::write(data_dir.with_file_name(ENVIRONMENT), lines.join("\n")).unwrap();
        })
    }

    /// A new server with its metadata in this PostgreSQL database.
    pub fn start_on(database: &str) -> Self {
        Self::start_prepared(|data_dir| postgres::note(data_dir, database))
    }

    /// A second server beside another one, on the same database, with the same key and environment.
    pub fn start_beside(other: &Server) -> Self {
        Self::start_with(
            |data_dir| {
                postgres::note(data_dir, &postgres::noted(&other.data_dir).unwrap());
                std::fs::copy(other.data_dir.join("server.key"), data_dir.join("server.key")).unwrap();
                let theirs = other.data_dir.with_file_name(ENVIRONMENT);
                if theirs.exists() {
                    std::fs::copy(theirs, data_dir.with_file_name(ENVIRONMENT)).unwrap();
                }
            },
            None,
            false,
            ANY_PORT,
        )
    }

    /// A server on data that is there already, with an administrator in it.
    pub fn start_from(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_with(prepare, None, false, ANY_PORT)
    }

    fn start_with(prepare: impl FnOnce(&Path), disk: Option<u32>, is_first: bool, listen: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let data_dir = folder.path().join("data");
        let work_dir = folder.path().join("work");
        std::fs::create_dir(&data_dir).unwrap();
        std::fs::create_dir(&work_dir).unwrap();
        if std::env::var("ENCKE_TEST_STORE").is_ok_and(|kind| kind == "postgres") {
            postgres::note(&data_dir, &postgres::database());
        }
        prepare(&data_dir);
        let (child, url) = launch(&data_dir, &folder.path().join("server.log"), disk, listen);
        let server = Self {
            url,
            data_dir,
            work_dir,
            child,
            http: http(),
            disk,
            _folder: folder,
        };
        if is_first {
            let first = server.post(
                "/api/v1/admin/add-first-admin-user",
                &[("TargetUser", ADMIN), ("TargetPassword", ADMIN)],
            );
            assert_eq!(first["Status"], 200, "{first}");
        }
        server
    }

    /// Calls an endpoint as the administrator, unless the fields name another caller.
    pub fn call(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let mut all = fields.to_vec();
        if !fields.iter().any(|(name, _)| *name == "Username") {
            all.extend([("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)]);
        }
        self.post(path, &all)
    }

    /// Calls an endpoint with these fields and no others.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let authority = self.url.strip_prefix("http://").unwrap();
        self.post_to_host(authority, path, fields)
    }

    /// As [`Server::post`], asking for a host of this name: it chooses the organization.
    pub fn post_to_host(&self, host: &str, path: &str, fields: &[(&str, &str)]) -> Value {
        let mut answer = self
            .http
            .post(format!("{}{path}", self.url))
            .header("Host", host)
            .send_form(fields.iter().copied())
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path} answered {text:?}: {e}"))
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.with_file_name("server.log")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the server to stop, and waits until it has.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Starts again on the same data, after [`Server::kill`] or [`Server::stop`]. The address changes.
    pub fn restart(&mut self) {
        let log = self.log_path();
        (self.child, self.url) = launch(&self.data_dir, &log, self.disk, ANY_PORT);
    }

    /// As [`Server::restart`], at the same address.
    pub fn restart_here(&mut self) {
        let log = self.log_path();
        let address = self.url.strip_prefix("http://").unwrap().to_string();
        (self.child, self.url) = launch(&self.data_dir, &log, self.disk, &address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}

/// Changes the configuration of a server that does not run, after switching its roles on.
pub fn configure(data_dir: &Path, change: impl FnOnce(&mut ServerConfigOptions) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let changed = runtime.block_on(async {
        let store = match postgres::noted(data_dir) {
            Some(database) => Store::connect(&database).await.unwrap(),
            None => Store::open(&data_dir.join("encke.db")).unwrap(),
        };
        let changed = store.change_config(|config| {
            config.authentication_role.role_enabled = true;
            config.storage_role.role_enabled = true;
            change(config);
            Ok::<_, StoreError>(Vec::new())
        });
        changed.await
    });
    changed.unwrap().unwrap();
}

/// The six-digit code of a secret at this moment (RFC 6238), computed apart from the server.
pub fn code(secret: &str, steps_ago: u64) -> String {
    let script = "import base64,hmac,struct,sys,time\n\
        k=base64.b32decode(sys.argv[1]+'='*(-len(sys.argv[1])%8))\n\
        h=hmac.new(k,struct.pack('>Q',int(time.time())//30-int(sys.argv[2])),'sha1').digest()\n\
        o=h[19]&15\nprint('%06d'%((struct.unpack('>I',h[o:o+4])[0]&0x7fffffff)%1000000))";
    let output = Command::new("python3")
        .args(["-c", script, secret, &steps_ago.to_string()])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Bytes that nothing compresses, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(length);
    out
}

/// A file of random bytes.
pub fn noise_file(path: &Path, bytes: usize) {
    let mut content = vec![0; bytes];
    std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), &mut content).unwrap();
    std::fs::write(path, content).unwrap();
}
