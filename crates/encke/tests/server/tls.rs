//! A server with a certificate of its own: the API by curl, a device, and a repository in a bucket, all over TLS.

use crate::support::certificates::certify;
use crate::support::device::{PASSWORD, USER, until};
use crate::support::{Server, configure};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A running `encke serve` that listens where its configuration says.
struct Tls {
    child: Child,
    url: String,
    folder: PathBuf,
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tls {
    fn start(server: &mut Server) -> Self {
        let folder = server.work_dir.clone();
        certify(&folder, 2);
        server.stop();
        let at = |name: &str| folder.join(name).display().to_string();
        let (certificate, key) = (at("cert.pem"), at("key.pem"));
        configure(&server.data_dir, move |config| {
            config.listen_addresses = vec![encke_api::types::HTTPConnectorOptions {
                listen_address: "127.0.0.1:0".into(),
                ssl_cert_path: certificate,
                ssl_cert_key: key,
                ..Default::default()
            }];
        });
        let mut child = Command::new(env!("CARGO_BIN_EXE_encke"))
            .args(["serve", "--data-dir"])
            .arg(&server.data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .next()
            .unwrap()
            .unwrap();
        let url = line
            .strip_prefix("Encke listens at ")
            .unwrap()
            .trim_end_matches('/')
            .to_string();
        assert!(url.starts_with("https://"), "{url}");
        Self { child, url, folder }
    }

    fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Calls by curl, which checks the certificate.
    fn call(&self, path: &str, fields: &[(&str, &str)], arguments: &[&str]) -> Result<Value, i32> {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--cacert"])
            .arg(self.authority())
            .args(arguments);
        let caller = [
            ("Username", "admin"),
            ("AuthType", "Password"),
            ("Password", "admin"),
        ];
        for (name, value) in caller.iter().chain(fields) {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let output = command
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl is installed");
        match output.status.code() {
            Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            code => Err(code.unwrap()),
        }
    }

    fn encke(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        command.env("SSL_CERT_FILE", self.authority());
        command
    }

    /// When the certificate that new connections get ends, as openssl prints it.
    fn end(&self) -> String {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", self.url.strip_prefix("https://").unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut shown = String::new();
        client.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        client.wait().unwrap();
        let mut reader = Command::new("openssl")
            .args(["x509", "-noout", "-enddate"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        reader.stdin.take().unwrap().write_all(shown.as_bytes()).unwrap();
        String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap()
    }
}

#[test]
fn api_device_and_bucket_work_over_tls() {
    let mut server = Server::start();
    let tls = Tls::start(&mut server);
    assert_eq!(
        tls.call("/api/v1/admin/list-users", &[], &[]).unwrap(),
        serde_json::json!([])
    );
    assert_eq!(
        tls.call(
            "/api/v1/admin/list-users",
            &[],
            &["--tlsv1.2", "--tls-max", "1.2"]
        ),
        Ok(serde_json::json!([]))
    );
    // An old version, and no TLS at all.
    let old = ["--tlsv1.1", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"];
    assert!(tls.call("/api/v1/admin/list-users", &[], &old).is_err());
    let clear = tls.url.replace("https://", "http://");
    assert!(
        crate::support::http()
            .get(format!("{clear}/gen/branding.props"))
            .call()
            .is_err()
    );

    // A device by the live connection.
    let account = [("TargetUser", USER), ("TargetPassword", PASSWORD)];
    assert_eq!(
        tls.call("/api/v1/admin/add-user", &account, &[]).unwrap()["Status"],
        200
    );
    let home = server.work_dir.join("device");
    let agent = |arguments: &[&str]| {
        let mut command = tls.encke();
        command
            .args(["agent", "--data-dir"])
            .arg(&home)
            .args(arguments)
            .env("ENCKE_PASSWORD", PASSWORD);
        command
    };
    let register = [
        "register",
        "--server",
        &tls.url,
        "--user",
        USER,
        "--device-id",
        "over-tls",
    ];
    let unknown = agent(&register)
        .env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
        .output()
        .unwrap();
    assert!(
        !unknown.status.success(),
        "a certificate nobody vouches for is refused"
    );
    let registered = agent(&register).output().unwrap();
    assert!(registered.status.success(), "{registered:?}");
    let mut running = agent(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    until("the device to be on line", || {
        let active = tls
            .call("/api/v1/admin/dispatcher/list-active", &[], &[])
            .unwrap();
        active
            .as_object()
            .unwrap()
            .values()
            .find(|c| c["DeviceID"] == "over-tls")
            .cloned()
    });
    running.kill().unwrap();
    running.wait().unwrap();

    // A repository in a bucket, by us and by stock restic.
    let bucket = tls
        .call("/api/v1/admin/storage/register-bucket", &[], &[])
        .unwrap();
    let (id, key) = (
        bucket["NewBucketID"].as_str().unwrap(),
        bucket["NewBucketKey"].as_str().unwrap(),
    );
    let host = tls.url.strip_prefix("https://").unwrap();
    let repository = format!("rest:https://{id}:{key}@{host}/storage/{id}/");
    let source = server.work_dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "over TLS").unwrap();
    fs::write(server.work_dir.join("password"), "secret").unwrap();
    let vault = |arguments: &[&str]| {
        let output = tls
            .encke()
            .args(["vault", "--repo", &repository, "--password-file"])
            .arg(server.work_dir.join("password"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    vault(&["init"]);
    vault(&["backup", source.to_str().unwrap()]);
    let checked = Command::new("restic")
        .args([
            "--no-cache",
            "--repo",
            &repository,
            "check",
            "--read-data",
            "--cacert",
        ])
        .arg(tls.authority())
        .env("RESTIC_PASSWORD", "secret")
        .output()
        .expect("restic is installed");
    assert!(checked.status.success(), "{checked:?}");

    // A renewal, half of it first: the key alone does not go with the certificate.
    let before = tls.end();
    assert!(before.starts_with("notAfter"), "{before}");
    certify(&tls.folder, 9);
    until("the renewed certificate", || (tls.end() != before).then_some(()));
    assert_eq!(
        tls.call("/api/v1/admin/list-users", &[], &[]).unwrap(),
        serde_json::json!([USER])
    );
}

#[test]
fn a_certificate_that_can_not_be_used_is_refused_before_it_is_saved() {
    let server = Server::start();
    certify(&server.work_dir, 2);
    let at = |name: &str| server.work_dir.join(name).display().to_string();
    let mut config = server.call("/api/v1/admin/meta/server-config/get", &[]);
    for (listener, status) in [
        (serde_json::json!({ "SSLCertPath": at("cert.pem") }), 400),
        (
            serde_json::json!({ "SSLCertPath": at("cert.pem"), "SSLCertKey": at("none.pem") }),
            400,
        ),
        (
            serde_json::json!({ "SSLCertPath": at("key.pem"), "SSLCertKey": at("key.pem") }),
            400,
        ),
        // There is no such file.
        (serde_json::json!({ "SSLPfxPath": at("cert.pfx") }), 400),
    ] {
        let mut listener = listener;
        listener["ListenAddress"] = "127.0.0.1:0".into();
        config["ListenAddresses"] = serde_json::json!([listener]);
        let answer = server.call(
            "/api/v1/admin/meta/server-config/set",
            &[("Config", &config.to_string())],
        );
        assert_eq!(answer["Status"], status, "{listener}: {answer}");
    }
}
