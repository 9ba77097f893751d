//! Listeners with certificates in PKCS #12 files and from an authority that certifies by itself (pebble), and the
//! redirect from http to https.

use crate::support::device::until;
use crate::support::{ADMIN, Server, configure};
use encke_api::types::HTTPConnectorOptions;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program of a test, ended with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `encke serve` where its configuration says; it and its address.
fn serve(data_dir: &Path, change: impl FnOnce(&mut Command)) -> (Running, String) {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(data_dir.with_file_name("listeners.log"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    command
        .args(["serve", "--data-dir"])
        .arg(data_dir)
        .stdout(Stdio::piped())
        .stderr(log);
    change(&mut command);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .next()
        .expect("the server ended before it listened")
        .unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let url = line.strip_prefix("Encke listens at ").unwrap();
    (Running(child), url.trim_end_matches('/').to_string())
}

fn run(folder: &Path, arguments: &str) -> String {
    let mut words = arguments.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes `cert.pem` and `key.pem` for a name, by an authority `ca.pem`.
fn certify(folder: &Path, names: &str) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(
        folder,
        &format!("openssl req -x509 {KEY} -subj /CN=authority -days 30 -keyout ca.key -out ca.pem"),
    );
    fs::write(folder.join("names"), format!("subjectAltName={names}")).unwrap();
    run(
        folder,
        &format!("openssl req {KEY} -subj /CN=encke -keyout key.pem -out request"),
    );
    run(
        folder,
        "openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out cert.pem",
    );
}

/// Calls by curl, which checks the certificate.
fn call(authority: &Path, url: &str, fields: &[(&str, &str)]) -> Value {
    let mut command = Command::new("curl");
    command.args(["-sS", "--cacert"]).arg(authority);
    let caller = [("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];
    for (name, value) in caller.iter().chain(fields) {
        command.args(["--data-urlencode", &format!("{name}={value}")]);
    }
    let output = command.arg(url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_certificate_can_lie_in_a_pkcs12_file() {
    const GET: &str = "/api/v1/admin/meta/server-config/get";
    const SET: &str = "/api/v1/admin/meta/server-config/set";
    let mut server = Server::start();
    let folder = server.work_dir.clone();
    certify(&folder, "DNS:localhost,IP:127.0.0.1");
    let export =
        "openssl pkcs12 -export -in cert.pem -inkey key.pem -certfile ca.pem -passout pass:file-secret";
    run(&folder, &format!("{export} -out new.pfx"));
    run(&folder, &format!("{export} -legacy -out old.pfx"));
    server.stop();
    for file in ["old.pfx", "new.pfx"] {
        let path = folder.join(file).display().to_string();
        configure(&server.data_dir, move |config| {
            config.listen_addresses = vec![HTTPConnectorOptions {
                listen_address: "127.0.0.1:0".into(),
                ssl_pfx_path: path,
                ssl_pfx_password: "file-secret".into(),
                ..Default::default()
            }];
        });
        let (_running, url) = serve(&server.data_dir, |_| {});
        let config = call(&folder.join("ca.pem"), &format!("{url}{GET}"), &[]);
        assert_eq!(
            config["ListenAddresses"][0]["SSLPfxPassword"], "********",
            "{file}"
        );
    }
    // Saved as it was shown, it holds on, no longer in clear; another password or file is refused while it can be.
    let (running, url) = serve(&server.data_dir, |_| {});
    let authority = folder.join("ca.pem");
    let shown = call(&authority, &format!("{url}{GET}"), &[]);
    let save = |change: &dyn Fn(&mut Value)| {
        let mut config = shown.clone();
        change(&mut config["ListenAddresses"][0]);
        call(
            &authority,
            &format!("{url}{SET}"),
            &[("Config", &config.to_string())],
        )
    };
    for (field, value) in [
        ("SSLPfxPassword", json!("wrong")),
        ("SSLPfxPath", json!(folder.join("cert.pem"))),
        ("SSLPfxPath", json!(folder.join("nothing.pfx"))),
        ("SSLCertPath", json!(folder.join("cert.pem"))),
        ("AutoSSLDomains", json!("backup.example.com")),
    ] {
        let answer = save(&|listener| listener[field] = value.clone());
        assert_eq!(answer["Status"], 400, "{field} {value}: {answer}");
    }
    assert_eq!(save(&|_| {})["Status"], 200);
    drop(running);
    configure(&server.data_dir, |config| {
        let password = &config.listen_addresses[0].ssl_pfx_password;
        assert!(
            !password.contains("file-secret") && !password.contains('*'),
            "{password}"
        );
    });
    let (_running, url) = serve(&server.data_dir, |_| {});
    assert_eq!(call(&authority, &format!("{url}{GET}"), &[]), shown);
}

#[test]
fn browsers_are_sent_on_to_https_and_calls_are_not() {
    let mut server = Server::start();
    // An address of this machine that no other test listens at.
    let pid = std::process::id();
    let ip = format!("127.{}.{}.7", 100 + (pid >> 8) % 100, pid % 256);
    if TcpListener::bind((ip.as_str(), 443)).is_err() {
        eprintln!("not looked at: this user may not listen at port 443");
        return;
    }
    let folder = server.work_dir.clone();
    certify(&folder, &format!("IP:{ip}"));
    server.stop();
    let at = |name: &str| folder.join(name).display().to_string();
    let listener = HTTPConnectorOptions {
        listen_address: format!("{ip}:443"),
        ssl_cert_path: at("cert.pem"),
        ssl_cert_key: at("key.pem"),
        ..Default::default()
    };
    configure(&server.data_dir, move |config| {
        config.listen_addresses = vec![listener]
    });
    let (_running, url) = serve(&server.data_dir, |_| {});
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "-i", "--cacert"])
            .arg(folder.join("ca.pem"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().to_lowercase()
    };
    let sent = curl(&[&format!("http://{ip}/accounts?x=%20y")]);
    assert!(sent.starts_with("http/1.1 308"), "{sent}");
    assert!(
        sent.contains(&format!("location: https://{ip}/accounts?x=%20y\r\n")),
        "{sent}"
    );
    let page = curl(&["-L", &format!("http://{ip}/docs")]);
    assert!(page.contains("http/1.1 200"), "{page}");
    assert!(curl(&[&format!("{url}/gen/branding.props")]).starts_with("http/1.1 200"));
    for refused in [vec!["-d", "Username=admin"], vec!["-X", "GET"]] {
        for path in [
            "/api/v1/admin/list-users",
            "//api/v1/admin/list-users",
            "/gen/branding.props",
        ] {
            let target = format!("http://{ip}{path}");
            let mut arguments = refused.clone();
            arguments.push(&target);
            let answer = curl(&arguments);
            assert!(
                answer.starts_with("http/1.1 403") && !answer.contains("location:"),
                "{answer}"
            );
            assert!(answer.contains(r#""status":403"#), "{answer}");
        }
    }
    // Nobody is sent to a host that only looks like one.
    let odd = curl(&["-H", "Host: evil.example/@x", &format!("http://{ip}/")]);
    assert!(!odd.contains("location:"), "{odd}");
}

/// The programs of an authority that certifies by itself; nothing where they can not be had.
fn acme_programs() -> Option<PathBuf> {
    let install = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/test-acme.sh");
    let output = Command::new(install).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let folder = String::from_utf8(output.stdout).unwrap().trim().to_string();
    (!folder.is_empty()).then(|| folder.into())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// An authority, and a DNS server that says that every name is this machine.
struct Authority {
    _programs: [Running; 2],
    directory: String,
    management: String,
    folder: PathBuf,
}

impl Authority {
    fn start(folder: &Path, http: u16, tls: u16, validity: u32) -> Option<Self> {
        let programs = acme_programs()?;
        let folder = folder.join("authority");
        fs::create_dir(&folder).unwrap();
        certify(&folder, "DNS:localhost,IP:127.0.0.1");
        let dns = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (listen, management) = (free_port(), free_port());
        let start = |name: &str, arguments: &[String]| {
            let mut command = Command::new(programs.join(name));
            command
                .args(arguments)
                .current_dir(&folder)
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "0")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Running(command.spawn().unwrap())
        };
        let names = start(
            "pebble-challtestsrv",
            &[
                "-defaultIPv4=127.0.0.1".into(),
                "-defaultIPv6=".into(),
                format!("-dnsserver=127.0.0.1:{dns}"),
                format!("-management=127.0.0.1:{}", free_port()),
                "-http01=".into(),
                "-https01=".into(),
                "-tlsalpn01=".into(),
                "-doh=".into(),
            ],
        );
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": "cert.pem", "privateKey": "key.pem", "httpPort": http, "tlsPort": tls,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
            "retryAfter": { "authz": 1, "order": 1 },
            "profiles": { "default": { "description": "short", "validityPeriod": validity } },
        }});
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let authority = start(
            "pebble",
            &[
                "-config=config.json".into(),
                format!("-dnsserver=127.0.0.1:{dns}"),
            ],
        );
        let started = Self {
            _programs: [names, authority],
            directory: format!("https://localhost:{listen}/dir"),
            management: format!("https://localhost:{management}"),
            folder,
        };
        until("the authority", || {
            let told = started.curl(&[&started.directory]);
            told.status.success().then_some(())
        });
        let root = started.curl(&[&format!("{}/roots/0", started.management)]);
        fs::write(started.folder.join("root.pem"), root.stdout).unwrap();
        Some(started)
    }

    fn curl(&self, arguments: &[&str]) -> std::process::Output {
        Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(self.folder.join("ca.pem"))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn serve(&self, data_dir: &Path) -> (Running, String) {
        serve(data_dir, |command| {
            command
                .args(["--acme-directory", &self.directory])
                .env("SSL_CERT_FILE", self.folder.join("ca.pem"));
        })
    }

    /// Serial number of the certificate that a listener shows for a name, if this authority made it.
    fn serial(&self, port: u16, name: &str) -> Option<String> {
        let script = format!(
            "openssl s_client -connect 127.0.0.1:{port} -servername {name} -verify_hostname {name} \
             -verify_return_error -CAfile root.pem </dev/null 2>/dev/null | openssl x509 -noout -serial 2>/dev/null"
        );
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap().trim().to_string();
        text.starts_with("serial=").then_some(text)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_authority_certifies_a_listener_and_renews_it() {
    let mut server = Server::start();
    server.stop();
    let port = free_port();
    // The authority looks at the listener itself.
    let Some(authority) = Authority::start(&server.work_dir, free_port(), port, 24) else {
        eprintln!("not looked at: there is no Go toolchain to make the authority with");
        return;
    };
    configure(&server.data_dir, move |config| {
        config.listen_addresses = vec![HTTPConnectorOptions {
            listen_address: format!("127.0.0.1:{port}"),
            auto_ssl_domains: "backup.example.test, files.example.test".into(),
            ..Default::default()
        }];
    });
    let (running, url) = authority.serve(&server.data_dir);
    assert_eq!(url, format!("https://127.0.0.1:{port}"));
    let first = until("the first certificate", || {
        authority.serial(port, "backup.example.test")
    });
    assert_eq!(
        authority.serial(port, "files.example.test").as_ref(),
        Some(&first)
    );
    // Whoever asks for another name, or for none, gets nothing.
    assert_eq!(authority.serial(port, "other.example.test"), None);
    let resolve = format!("backup.example.test:{port}:127.0.0.1");
    let ask = |name: &str| {
        Command::new("curl")
            .args(["-sS", "--resolve", &resolve, "--cacert"])
            .arg(authority.folder.join("root.pem"))
            .arg(format!("https://{name}:{port}/gen/branding.props"))
            .output()
            .unwrap()
    };
    let answer: Value = serde_json::from_slice(&ask("backup.example.test").stdout).unwrap();
    assert_eq!(answer["ProductName"], "Encke");
    assert!(!ask("127.0.0.1").status.success());

    // What was certified is kept for its owner alone, and used again after a crash.
    let folder = server.data_dir.join("acme");
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().all(|f| mode(f) == 0o600), "{files:?}");
    drop(running);
    let (_running, _) = authority.serve(&server.data_dir);
    assert_eq!(authority.serial(port, "backup.example.test"), Some(first.clone()));
    until("the renewal", || {
        authority
            .serial(port, "backup.example.test")
            .filter(|s| *s != first)
    });
}

#[test]
fn an_authority_may_look_at_a_listener_in_clear() {
    let mut server = Server::start();
    server.stop();
    let (clear, port) = (free_port(), free_port());
    let Some(authority) = Authority::start(&server.work_dir, clear, free_port(), 3600) else {
        eprintln!("not looked at: there is no Go toolchain to make the authority with");
        return;
    };
    configure(&server.data_dir, move |config| {
        let tls = HTTPConnectorOptions {
            listen_address: format!("127.0.0.1:{port}"),
            auto_ssl_domains: "backup.example.test".into(),
            ..Default::default()
        };
        let plain = HTTPConnectorOptions {
            listen_address: format!("127.0.0.1:{clear}"),
            ..Default::default()
        };
        config.listen_addresses = vec![tls, plain];
    });
    let (_running, _) = authority.serve(&server.data_dir);
    until("the certificate", || {
        authority.serial(port, "backup.example.test")
    });
    let nothing = authority.curl(&[
        "-i",
        &format!("http://127.0.0.1:{clear}/.well-known/acme-challenge/none"),
    ]);
    assert!(nothing.stdout.starts_with(b"HTTP/1.1 404"), "{nothing:?}");
}
