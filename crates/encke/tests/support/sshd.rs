//! An OpenSSH server of a test's own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An OpenSSH server that lets the one who runs the test in, by key.
pub struct Sshd {
    child: Child,
    pub port: u16,
    /// A home folder with the key of the user and the key of the server.
    pub home: PathBuf,
}

/// Who runs the test.
pub fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Makes a key and its public half beside it.
pub fn make_key(file: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(file)
        .status();
    assert!(made.unwrap().success());
}

impl Sshd {
    /// Starts one whose files lie in a folder.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, "")
    }

    /// Starts one with more lines in its configuration.
    pub fn start_with(dir: &Path, more: &str) -> Self {
        let home = dir.join("home");
        fs::create_dir_all(home.join(".ssh")).unwrap();
        let (key, host_key) = (home.join(".ssh/id_ed25519"), dir.join("host_key"));
        make_key(&key);
        make_key(&host_key);
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = dir.join("sshd_config");
        let text = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}.pub\nStrictModes no\nUsePAM no\n\
             PidFile none\nPermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n{more}\n",
            host_key.display(),
            key.display(),
        );
        fs::write(&config, text).unwrap();
        // The server of Debian wants this folder, which its service makes.
        let _ = fs::create_dir("/run/sshd");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs an SSH server: install it (Debian: apt-get install openssh-server)");
        let sshd = Self { child, port, home };
        sshd.know(port);
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return sshd;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("sshd does not listen");
    }

    /// Writes down that the server is known at a port.
    pub fn know(&self, port: u16) {
        let key = fs::read_to_string(self.home.join("../host_key.pub")).unwrap();
        fs::write(self.known_hosts(), format!("[127.0.0.1]:{port} {key}")).unwrap();
    }

    /// The file that tells the server's key.
    pub fn known_hosts(&self) -> PathBuf {
        self.home.join(".ssh/known_hosts")
    }

    /// The private key that lets one in.
    pub fn key(&self) -> String {
        fs::read_to_string(self.home.join(".ssh/id_ed25519")).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
