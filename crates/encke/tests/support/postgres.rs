//! A PostgreSQL of the distribution's packages, in a folder of its own, gone when the test program ends.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A database server.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    is_secure: bool,
}

static NEXT: AtomicU32 = AtomicU32::new(0);
static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// Folder of the newest version's programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("the package postgresql is not installed");
    let newest = versions.filter_map(Result::ok).map(|e| e.path()).max();
    newest.unwrap().join("bin")
}

/// A program of the database server's. It does not run as root, so root lends it the user of the package.
fn command(program: &str) -> Command {
    let path = programs().join(program);
    if !rustix::process::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--pdeathsig=KILL",
        ])
        .arg(path);
    command
}

/// A folder under this program's number; those of programs that have ended are removed.
fn new_folder() -> PathBuf {
    const PREFIX: &str = "encke-postgres-";
    let temporary = std::env::temp_dir();
    for entry in std::fs::read_dir(&temporary).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().display().to_string();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|n| n.split('-').next()) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = temporary.join(format!(
        "{PREFIX}{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

impl Cluster {
    /// One of the caller's own.
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// One of the caller's own, with TLS; the authority of its certificate is in [`Cluster::authority`].
    pub fn start_secure() -> Self {
        Self::start_with(true)
    }

    /// File with the certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("certificates/ca.pem")
    }

    fn start_with(is_secure: bool) -> Self {
        let folder = new_folder();
        let data = folder.join("data");
        run(command("initdb")
            .current_dir("/")
            .args([
                "--auth=trust",
                "--username=encke",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data));
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        if is_secure {
            let certificates = folder.join("certificates");
            super::certificates::make(&certificates);
            // The key must belong to whom the server runs as, or to root and not be open to all.
            if rustix::process::geteuid().is_root() {
                let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&data).unwrap());
                let key = certificates.join("key.pem");
                std::os::unix::fs::chown(&key, None, Some(group)).unwrap();
                std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
            }
        }
        let cluster = Self {
            folder,
            port,
            is_secure,
        };
        cluster.launch();
        cluster
    }

    /// Starts the server from a thread that lasts as long as the program: the server ends with that thread.
    fn launch(&self) {
        let data = self.folder.join("data");
        let port = self.port;
        let certificates = self.is_secure.then(|| self.folder.join("certificates"));
        std::thread::spawn(move || {
            let log = std::fs::File::create(data.with_file_name("log")).unwrap();
            let mut command = command("postgres");
            if let Some(folder) = certificates {
                command.args(["-c", "ssl=on"]);
                for (option, file) in [("cert", "cert.pem"), ("key", "key.pem")] {
                    let path = folder.join(file);
                    command.args(["-c", &format!("ssl_{option}_file={}", path.display())]);
                }
            }
            let mut child = command
                .current_dir("/")
                .arg("-D")
                .arg(&data)
                .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
                .args(["-c", "unix_socket_directories=", "-c", "max_connections=400"])
                // What was written outlives the server's end all the same, only not the machine's.
                .args(["-c", "fsync=off"])
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            child.wait()
        });
        let end = Instant::now() + Duration::from_secs(60);
        while !command("pg_isready")
            .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "encke"])
            .status()
            .unwrap()
            .success()
        {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "PostgreSQL did not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the database server at once, as a crash would, and starts it again.
    pub fn crash(&self) {
        let data = self.folder.join("data");
        run(command("pg_ctl")
            .current_dir("/")
            .args(["stop", "-m", "immediate", "-D"])
            .arg(&data));
        self.launch();
    }

    /// Its port at the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://encke@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }
}

fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(Cluster::start)
}

/// Address of a new database.
pub fn database() -> String {
    let name = format!("encke{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&cluster().url("postgres"), &format!("CREATE DATABASE {name}"));
    cluster().url(&name)
}

/// Runs a statement with the package's own client; answers what it prints.
pub fn execute(url: &str, statement: &str) -> String {
    let output = Command::new("psql")
        .args(["-qAt", "-v", "ON_ERROR_STOP=1", "-c", statement, url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{statement}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where the metadata of a server with this data folder is: the address to give it, noted in the folder.
pub fn note(data_dir: &Path, url: &str) {
    std::fs::write(data_dir.join("test-database"), url).unwrap();
}

/// What [`note`] wrote.
pub fn noted(data_dir: &Path) -> Option<String> {
    std::fs::read_to_string(data_dir.join("test-database")).ok()
}
