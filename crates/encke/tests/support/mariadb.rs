//! A MariaDB of the distribution's packages, in a folder of its own, gone when the test program ends.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A database server.
pub struct Maria {
    /// Port at the loopback address.
    pub port: u16,
    /// Folder with `ca.pem`, the authority of its certificate, where it has one.
    pub certificates: PathBuf,
    socket: PathBuf,
}

static PLAIN: OnceLock<Maria> = OnceLock::new();
static SECURE: OnceLock<Maria> = OnceLock::new();

/// The server without TLS, started at the first call.
pub fn server() -> &'static Maria {
    PLAIN.get_or_init(|| start(false))
}

/// A server with TLS, started at the first call.
pub fn secure_server() -> &'static Maria {
    SECURE.get_or_init(|| start(true))
}

/// A program of root's has to be told that it may run as root.
fn as_user(command: &mut Command) {
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
}

fn start(is_secure: bool) -> Maria {
    let folder = std::env::temp_dir().join(format!("encke-maria-{}-{is_secure}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let data = folder.join("data");
    let mut install = Command::new("mariadb-install-db");
    as_user(install.arg("--no-defaults"));
    let output = install
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--datadir={}", data.display()))
        .output()
        .expect("the package mariadb-server is not installed");
    assert!(output.status.success(), "{output:?}");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let socket = folder.join("s");
    let log = std::fs::File::create(folder.join("log")).unwrap();
    // It ends when this program does: the shell notices that its input is closed.
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            r#""$@" & server=$!; cat; kill -9 $server"#,
            "sh",
            "mariadbd",
            "--no-defaults",
        ])
        .args([
            "--bind-address=127.0.0.1",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0",
        ])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--port={port}"));
    let certificates = folder.join("certificates");
    if is_secure {
        super::certificates::make(&certificates);
        for (option, file) in [("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")] {
            command.arg(format!("--ssl-{option}={}", certificates.join(file).display()));
        }
    }
    as_user(&mut command);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    // Its input stays open as long as this program lives.
    std::mem::forget(child);
    let maria = Maria {
        port,
        certificates,
        socket,
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !maria.try_execute("SELECT 1").0 {
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(Instant::now() < end, "MariaDB did not start: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    maria
}

impl Maria {
    fn try_execute(&self, statements: &str) -> (bool, String) {
        let output = Command::new("mariadb")
            .args([
                "--no-defaults",
                "--batch",
                "--skip-column-names",
                "-u",
                "root",
                "-e",
                statements,
            ])
            .arg(format!("--socket={}", self.socket.display()))
            .output()
            .unwrap();
        let said = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Runs statements as the server's administrator; answers what they print.
    pub fn execute(&self, statements: &str) -> String {
        let (well, said) = self.try_execute(statements);
        assert!(well, "{statements}: {said}");
        said
    }
}
