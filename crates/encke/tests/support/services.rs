//! Storage services that a test starts for itself, and an HTTP service of the test's own.

#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/services.py");

/// The Python that has the services, installed if need be.
fn python() -> PathBuf {
    let install = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/test-services.sh");
    let output = Command::new(install).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).join("python")
}

/// A running service.
pub struct Service {
    /// Its address without a slash at the end.
    pub url: String,
    told: Value,
    child: Child,
}

impl Service {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(python())
            .arg(SCRIPT)
            .args(arguments)
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

    /// FTP over a folder; by TLS only where a certificate is given (a file with its key).
    pub fn ftp(folder: &Path, user: &str, password: &str, certificate: Option<&Path>) -> Self {
        let certificate = certificate.map_or("", |file| file.to_str().unwrap());
        Self::start(&["ftp", folder.to_str().unwrap(), user, password, certificate])
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

    /// The key of a user of the S3 service: `owner` may everything, `half` may not give policies or make buckets.
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
