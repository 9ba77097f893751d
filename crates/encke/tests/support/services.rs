//! Storage services that a test starts for itself, and an HTTP service of the test's own.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/services.py");
const SWIFT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/swift_service.py");
const B2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/b2_service.py");

/// The Python that has the services, installed if need be.
pub fn python() -> PathBuf {
    let install = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/test-services.sh");
    let output = Command::new(install).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).join("python")
}

/// A running service.
pub struct Service {
    /// Its address without a slash at the end.
    pub url: String,
    /// What else it says of itself.
    pub told: Value,
    child: Child,
}

impl Service {
    fn start(arguments: &[&str]) -> Self {
        Self::start_script(SCRIPT, arguments)
    }

    fn start_script(script: &str, arguments: &[&str]) -> Self {
        Self::run(Command::new(python()).arg(script).args(arguments))
    }

    /// Runs a program that tells its address in a line of JSON.
    fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told: Value = serde_json::from_str(&line).expect("the service ended before it listened");
        Self {
            url: told["url"].as_str().unwrap().to_string(),
            told,
            child,
        }
    }

    /// S3 and IAM with a bucket `master`, which check every signature and policy. Conditions of policies are not looked
    /// at by this service.
    pub fn s3() -> Self {
        Self::start(&["s3"])
    }

    /// WebDAV over a folder.
    pub fn webdav(folder: &Path, user: &str, password: &str) -> Self {
        Self::start(&["webdav", folder.to_str().unwrap(), user, password])
    }

    /// SFTP over a folder, for a user with this password and no other way in. `told["key"]` is its own key.
    pub fn sftp(folder: &Path, user: &str, password: &str) -> Self {
        Self::start(&["sftp", folder.to_str().unwrap(), user, password])
    }

    /// FTP over a folder, by TLS from the first byte on, with this certificate (a file with its key).
    pub fn implicit_ftps(folder: &Path, user: &str, password: &str, certificate: &Path) -> Self {
        let (folder, certificate) = (folder.to_str().unwrap(), certificate.to_str().unwrap());
        Self::start(&["ftp", folder, user, password, certificate, "implicit"])
    }

    /// FTP over a folder; by TLS only where a certificate is given (a file with its key).
    pub fn ftp(folder: &Path, user: &str, password: &str, certificate: Option<&Path>) -> Self {
        let certificate = certificate.map_or("", |file| file.to_str().unwrap());
        Self::start(&["ftp", folder.to_str().unwrap(), user, password, certificate])
    }

    /// OpenStack Swift, whose log-in of its own takes a user (`account:name`) and key. With a password it has Keystone as
    /// well, at `told["identity"]`, where `admin` of the project `admin` has it.
    pub fn swift(folder: &Path, user: &str, key: &str, keystone: Option<&str>) -> Self {
        let mut arguments = vec![folder.to_str().unwrap(), user, key];
        arguments.extend(keystone);
        Self::start_script(SWIFT, &arguments)
    }

    /// Backblaze B2 with a bucket, as the simulator of the vendor's library has it: `owner` may everything, `limited`
    /// only what concerns files of the bucket.
    pub fn b2(bucket: &str) -> Self {
        Self::start_script(B2, &[bucket])
    }

    /// A file of the B2 service.
    pub fn b2_file(&self, bucket: &str, name: &str, key: (&str, &str)) -> Vec<u8> {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", key.0, key.1));
        let call = |path: &str, authorization: &str| {
            let url = format!("{}{path}", self.url);
            let request = super::http().get(&url).header("authorization", authorization);
            let mut answer = request.call().unwrap();
            answer
                .body_mut()
                .with_config()
                .limit(1 << 30)
                .read_to_vec()
                .unwrap()
        };
        let session = call("/b2api/v4/b2_authorize_account", &format!("Basic {basic}"));
        let session: Value = serde_json::from_slice(&session).unwrap();
        let token = session["authorizationToken"].as_str().unwrap();
        call(&format!("/file/{bucket}/{name}"), token)
    }

    /// Samba with a share, which is the folder `share` in the given one. The user is the one who runs the test.
    pub fn samba(folder: &Path, user: &str, password: &str, share: &str) -> Self {
        let shared = folder.join("share");
        let state = folder.join("state");
        std::fs::create_dir(&shared).unwrap();
        std::fs::create_dir(&state).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let (config, place) = (folder.join("smb.conf"), state.display());
        let folders: String = [
            "private dir",
            "lock directory",
            "state directory",
            "cache directory",
            "pid directory",
            "ncalrpc dir",
        ]
        .map(|name| format!("{name} = {place}\n"))
        .concat();
        let text = format!(
            "[global]\nsmb ports = {port}\ninterfaces = lo\nbind interfaces only = yes\ndisable netbios = yes\n\
             server role = standalone server\nserver min protocol = SMB2_10\nlog file = {place}/log\n\
             load printers = no\n{folders}[{share}]\npath = {}\nread only = no\n",
            shared.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut known = Command::new("smbpasswd")
            .args(["-s", "-a", "-c"])
            .arg(&config)
            .arg(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("this test needs Samba: install it (Debian: apt-get install samba)");
        let mut words = known.stdin.take().unwrap();
        write!(words, "{password}\n{password}\n").unwrap();
        drop(words);
        assert!(known.wait().unwrap().success());
        let child = Command::new("smbd")
            .args(["--foreground", "--no-process-group", "-s"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self {
            url: format!("http://127.0.0.1:{port}"),
            told: Value::Null,
            child,
        };
        super::device::until("Samba to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        service
    }

    /// SMTP that keeps what it takes over in a folder: `plain`, `starttls` or `tls` with a certificate (a file with its
    /// key), for anybody or for one user. Port 0 is any.
    pub fn smtp(folder: &Path, kind: &str, login: (&str, &str), certificate: &str, port: u16) -> Self {
        let port = port.to_string();
        Self::start(&[
            "smtp",
            folder.to_str().unwrap(),
            kind,
            login.0,
            login.1,
            certificate,
            &port,
        ])
    }

    /// Azure Blob Storage (Azurite) over a folder, with one account and one container.
    pub fn azure(folder: &Path, account: &str, key: &str, container: &str) -> Self {
        let program = python()
            .parent()
            .unwrap()
            .join("../node_modules/.bin/azurite-blob");
        let mut child = Command::new(program)
            .args([
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                "0",
                "--skipApiVersionCheck",
                "--location",
            ])
            .arg(folder)
            .env("AZURITE_ACCOUNTS", format!("{account}:{key}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let base = lines
            .find_map(|line| {
                Some(
                    line.unwrap()
                        .split_once("successfully listens on ")?
                        .1
                        .trim()
                        .to_string(),
                )
            })
            .expect("the service ended before it listened");
        // What it says further on is read away, or it would stop.
        std::thread::spawn(move || lines.for_each(drop));
        let service = Self {
            url: format!("{base}/{account}"),
            told: Value::Null,
            child,
        };
        let made = Command::new(python())
            .args([SCRIPT, "container", &service.url, account, key, container])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        service
    }

    /// An OpenID Connect provider with one client, which sends browsers back to `redirect`. The claims of its accounts
    /// stand in a JSON file, by name, and are read anew for each question; any password is right.
    pub fn oidc(accounts: &Path, client: (&str, &str), redirect: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/oidc.mjs");
        let modules = python().parent().unwrap().join("../node_modules");
        let mut command = Command::new("node");
        command.arg(script).arg(modules).arg(accounts);
        Self::run(command.args([client.0, client.1, redirect]))
    }

    /// The key of a user of the S3 service (or of B2): `owner` may everything, `half` may not give policies or make buckets.
    pub fn key(&self, user: &str) -> (String, String) {
        let part = |i: usize| self.told["keys"][user][i].as_str().unwrap().to_string();
        (part(0), part(1))
    }

    /// Asks the S3 service with another client than ours.
    pub fn ask(&self, key: (&str, &str), question: &[&str]) -> Value {
        let output = Command::new(python())
            .args([SCRIPT, "ask", &self.url, key.0, key.1])
            .args(question)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// As [`Service::ask`], as the one who may everything.
    pub fn told(&self, question: &[&str]) -> Value {
        let (id, secret) = self.key("owner");
        self.ask((&id, &secret), question)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that the test's own HTTP service got.
pub struct Got {
    /// Path with query.
    pub path: String,
    /// Header lines in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

fn read(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut head) = (String::new(), String::new());
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_string();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(n) = line.strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Got {
        path,
        head,
        body: String::from_utf8(body).ok()?,
    })
}

/// Serves every request with status and text from `answer`, as long as the test runs. The address.
pub fn serve(mut answer: impl FnMut(Got) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let Some(got) = read(&stream) else { continue };
            let (status, text) = answer(got);
            let _ = write!(
                stream,
                "HTTP/1.1 {status} Told\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
        }
    });
    url
}
