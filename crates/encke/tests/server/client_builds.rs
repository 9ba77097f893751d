//! Clients that a server hands out, installed as people do: the script that holds the program, the Debian package, and
//! the one line (reference, sections 10 and 21).

use crate::support::device::{Device, PASSWORD, USER, until};
use crate::support::{ADMIN, Server, http};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What the server hands out is what runs it.
const PROGRAM: &str = env!("CARGO_BIN_EXE_encke");
/// An account of the system without rights.
const NOBODY: u32 = 65534;

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn add_user(server: &Server) {
    let fields = [("TargetUser", USER), ("TargetPassword", PASSWORD)];
    ok(&server.call("/api/v1/admin/add-user", &fields));
}

fn token(server: &Server) -> String {
    let fields = [("TargetUser", USER), ("TargetPassword", PASSWORD)];
    let made = server.call("/api/v1/admin/create-install-token", &fields);
    ok(&made)["InstallToken"]["Token"].as_str().unwrap().to_string()
}

/// A file that a call answers: its name and content; else the answer in JSON.
fn fetch(server: &Server, path: &str, fields: &[(&str, &str)]) -> Result<(String, Vec<u8>), Value> {
    let url = format!("{}{path}", server.url);
    let mut answer = http().post(url).send_form(fields.iter().copied()).unwrap();
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .map(|v| v.to_str().unwrap().to_string())
    };
    let (media, length) = (header("content-type").unwrap(), header("content-length"));
    let name = header("content-disposition");
    let body = answer
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_vec()
        .unwrap();
    if media != "application/octet-stream" {
        return Err(serde_json::from_slice(&body).unwrap());
    }
    assert_eq!(length.unwrap(), body.len().to_string());
    let name = name.unwrap();
    let name = name.strip_prefix("attachment; filename=\"").unwrap();
    Ok((name.trim_end_matches('"').to_string(), body))
}

fn generate(server: &Server, what: &str, fields: &[(&str, &str)]) -> Result<(String, Vec<u8>), Value> {
    let path = format!("/api/v1/admin/branding/generate-client/{what}");
    let mut all = vec![("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];
    all.extend(fields);
    fetch(server, &path, &all)
}

fn is_program(path: &Path) -> bool {
    fs::read(path).is_ok_and(|content| content == fs::read(PROGRAM).unwrap())
}

/// Backs a file up and has stock restic judge it.
fn works(server: &Server, device: &Device, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("letter"), "Dear reader").unwrap();
    device.add_bucket(server, "vault");
    device.add_item(server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    device.back_up(server, "item", "vault");
    device.restic("vault", &["check", "--read-data"]);
}

fn told(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_downloaded_client_installs_registers_and_backs_up() {
    let server = Server::start();
    add_user(&server);
    let platform = encke_api::live::platform().replace('/', "-");
    let listed = server.call("/api/v1/admin/branding/available-platforms", &[]);
    let entries = listed.as_object().unwrap();
    assert_eq!(entries.len(), 2, "{listed}");
    assert!(entries.values().all(|p| p["Category"] == "Linux"), "{listed}");
    assert_eq!(listed["1"]["Recommended"], true);
    let tested = |n: &str| server.call("/api/v1/admin/branding/generate-client/test", &[("Platform", n)]);
    ok(&tested("1"));
    assert_eq!(tested("77")["Status"], 501);
    assert_eq!(
        generate(&server, "by-platform", &[("Platform", "77")]).unwrap_err()["Status"],
        501
    );
    let windows = generate(&server, "windows-x86_64-exe", &[]).unwrap_err();
    assert_eq!(windows["Status"], 501);
    assert!(
        windows["Message"].as_str().unwrap().contains("Linux"),
        "{windows}"
    );
    let bad = [("SelfAddress", "https://a'; rm -rf /")];
    assert_eq!(
        generate(&server, "linuxgeneric", &bad).unwrap_err()["Status"],
        400
    );

    let (name, script) = generate(&server, "linuxgeneric", &[]).unwrap();
    assert_eq!(name, format!("encke-{platform}.run"));
    let again = generate(&server, "by-platform", &[("Platform", "1")]).unwrap();
    assert!(again == (name.clone(), script.clone()), "packed once");
    assert_eq!(fs::read_dir(server.data_dir.join("clients")).unwrap().count(), 1);
    let path = server.work_dir.join(name);
    fs::write(&path, &script).unwrap();
    let (prefix, data) = (server.work_dir.join("prefix"), server.work_dir.join("agent data"));
    let units = server.work_dir.join("units");
    fs::create_dir(&units).unwrap();
    let run = |path: &Path, arguments: &[&str]| {
        Command::new("sh")
            .arg(path)
            .arg("--prefix")
            .arg(&prefix)
            .args(arguments)
            .env("ENCKE_AGENT_DATA_DIR", &data)
            .env("ENCKE_UNIT_FOLDER", &units)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    // One that came damaged changes nothing.
    let mut damaged = script.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let broken = server.work_dir.join("damaged.run");
    fs::write(&broken, damaged).unwrap();
    let output = run(&broken, &["--token", "any"]);
    assert!(
        !output.status.success() && told(&output).contains("damaged"),
        "{}",
        told(&output)
    );
    assert_eq!(fs::read_dir(prefix.join("bin")).unwrap().count(), 0);

    let output = run(
        &path,
        &["--token", &token(&server), "--device-name", "Front desk"],
    );
    assert!(output.status.success(), "{}", told(&output));
    let program = prefix.join("bin/encke");
    assert!(is_program(&program));
    let unit = fs::read_to_string(units.join("encke-agent.service")).unwrap();
    assert!(
        unit.contains(&format!("ExecStart=\"{}\" agent", program.display())),
        "{unit}"
    );
    let mut device = Device::installed(&program, &data);
    device.launch();
    works(&server, &device, &server.work_dir.join("letters"));
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    assert_eq!(profile["Devices"][&device.id]["FriendlyName"], "Front desk");
    // Again, nothing happens.
    let output = run(&path, &["--token", "used up"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("registered already"), "{}", told(&output));
}

#[test]
fn a_debian_package_is_one() {
    if !Path::new("/usr/bin/dpkg").exists() {
        return;
    }
    let server = Server::start();
    add_user(&server);
    let branding = json!({ "ProductName": "Acme \"Backup\" $(x)", "CompanyName": "Acme's" }).to_string();
    ok(&server.call(
        "/api/v1/admin/meta/branding-config/set",
        &[("BrandingConfig", &branding)],
    ));
    let (name, package) =
        generate(&server, "linux-deb", &[("SelfAddress", "https://b.example.org/")]).unwrap();
    assert!(name.starts_with("encke_") && name.ends_with(".deb"), "{name}");
    let path = server.work_dir.join(&name);
    fs::write(&path, package).unwrap();
    let deb = |arguments: &[&str]| {
        let output = Command::new("dpkg-deb")
            .args(arguments)
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = deb(&["-c"]);
    assert!(listed.contains("-rwxr-xr-x root/root"), "{listed}");
    let control = deb(&["-f"]);
    for line in [
        "Package: encke\n",
        "Maintainer: Acme's <",
        "Description: Acme \"Backup\" $(x) backup client\n",
    ] {
        assert!(control.contains(line), "{control}");
    }
    assert!(control.contains("libc6 (>= 2."), "{control}");
    // Into a system of its own, and out of it again.
    let root = server.work_dir.join("root");
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/encke-agent"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for file in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
    }
    let dpkg = |arguments: &[&str]| {
        let output = Command::new("dpkg")
            .arg(format!("--root={}", root.display()))
            .arg(format!("--log={}", server.work_dir.join("dpkg.log").display()))
            .args(["--force-depends", "--force-not-root", "--force-script-chrootless"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
    };
    dpkg(&["-i", path.to_str().unwrap()]);
    let program = root.join("usr/bin/encke");
    assert!(is_program(&program));
    assert_eq!(
        fs::read_to_string(root.join("usr/share/encke/server")).unwrap(),
        "https://b.example.org\n"
    );
    let data = server.work_dir.join("agent data");
    let registered = Command::new(&program)
        .args(["agent", "register", "--server", &server.url, "--data-dir"])
        .arg(&data)
        .env("ENCKE_INSTALL_TOKEN", token(&server))
        .output()
        .unwrap();
    assert!(registered.status.success(), "{}", told(&registered));
    let mut device = Device::installed(&program, &data);
    device.launch();
    works(&server, &device, &server.work_dir.join("letters"));
    dpkg(&["-P", "encke"]);
    assert!(!program.exists() && !root.join("var/lib/encke-agent").exists());
}

#[test]
fn who_may_fetch_clients_is_for_the_configuration_to_say() {
    let server = Server::start();
    add_user(&server);
    let everybody = |on: bool| {
        let text = json!({ "RoleEnabled": true, "AllowUnauthenticatedDownloads": on }).to_string();
        ok(&server.call(
            "/api/v1/admin/meta/build-config/set",
            &[("SoftwareBuildRoleConfig", &text)],
        ));
        let kept = server.call("/api/v1/admin/meta/build-config/get", &[]);
        assert_eq!(kept["SoftwareBuildRole"]["AllowUnauthenticatedDownloads"], on);
        let shown = http()
            .get(format!("{}/gen/branding.props", server.url))
            .call()
            .unwrap();
        let shown: Value = serde_json::from_str(&shown.into_body().read_to_string().unwrap()).unwrap();
        assert_eq!(shown["AllowAuthenticatedDownloads"], true);
        assert_eq!(shown["AllowUnauthenticatedDownloads"], on);
    };
    let public = "/api/v1/admin/branding/generate-client/linuxgeneric";
    let program = "/api/encke/v1/client/program";
    everybody(false);
    assert_eq!(fetch(&server, public, &[]).unwrap_err()["Status"], 403);
    assert_eq!(fetch(&server, program, &[]).unwrap_err()["Status"], 403);
    for wrong in [
        vec![("InstallToken", "made-up")],
        vec![("Username", USER)],
        vec![("Username", USER), ("Password", "wrong")],
        vec![("Username", "stranger"), ("Password", PASSWORD)],
        vec![("Username", USER), ("LoginKey", "00"), ("DeviceID", "laptop")],
    ] {
        assert_eq!(
            fetch(&server, program, &wrong).unwrap_err()["Status"],
            403,
            "{wrong:?}"
        );
    }
    let right = [("Username", USER), ("Password", PASSWORD)];
    let (name, content) = fetch(&server, program, &right).unwrap();
    assert!(name == "encke" && content == fs::read(PROGRAM).unwrap());
    // A token stays good.
    let token = token(&server);
    for _ in 0..2 {
        assert!(fetch(&server, program, &[("InstallToken", &token)]).is_ok());
    }
    everybody(true);
    assert!(fetch(&server, program, &[]).is_ok());
    assert!(fetch(&server, public, &[]).is_ok());
    // Who says who they are is looked at all the same.
    let wrong = [
        ("Username", ADMIN),
        ("AuthType", "Password"),
        ("Password", "wrong"),
    ];
    assert_eq!(fetch(&server, public, &wrong).unwrap_err()["Status"], 403);
    // A tenant has its own word.
    let tenant = json!({ "Name": "South", "Hosts": ["south.test"] }).to_string();
    ok(&server.call("/api/v1/admin/organization/set", &[("Organization", &tenant)]));
    assert_eq!(server.post_to_host("south.test", public, &[])["Status"], 403);
    // Nothing is handed out while the role is off.
    let off = json!({ "RoleEnabled": false }).to_string();
    ok(&server.call(
        "/api/v1/admin/meta/build-config/set",
        &[("SoftwareBuildRoleConfig", &off)],
    ));
    assert_eq!(fetch(&server, program, &right).unwrap_err()["Status"], 403);
    let script = http().get(format!("{}/install.sh", server.url)).call().unwrap();
    assert_eq!(script.status(), 403);
}

/// A home of an ordinary user, or of this one where it has no rights to be another.
struct Home {
    folder: tempfile::TempDir,
    other: bool,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let other = chown(folder.path(), Some(NOBODY), Some(NOBODY)).is_ok();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of that user, with nothing in its environment but this.
    fn command(&self, program: &Path, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(if self.other { Path::new("setpriv") } else { program });
        if self.other {
            let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            command.args([&user, &group, "--clear-groups", "--"]).arg(program);
        }
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        command
    }

    fn sh(&self, line: &str, environment: &[(&str, &str)]) -> Output {
        let mut command = self.command(Path::new("sh"), environment);
        command.args(["-c", line]).output().unwrap()
    }
}

#[test]
fn one_line_installs_for_an_ordinary_user() {
    let server = Server::start();
    add_user(&server);
    let home = Home::new();
    let line =
        |fetch: &str, arguments: &str| format!("{fetch} {}/install.sh | sh -s -- {arguments}", server.url);
    let refused = |arguments: &str, why: &str| {
        let output = home.sh(&line("curl -fsSL", arguments), &[]);
        assert!(
            !output.status.success() && told(&output).contains(why),
            "{}",
            told(&output)
        );
        assert!(!home.path(".local/bin/encke").exists());
    };
    refused("--token made-up", "the server says: The install token is unknown");
    refused("--tokens x", "'--tokens' is unknown");
    refused("--server backup", "not an address");
    refused("", "the server says: Give an install token");
    refused(&format!("--user {USER}"), "ENCKE_PASSWORD");
    let wrong = home.sh(
        &line("curl -fsSL", ""),
        &[("ENCKE_USER", USER), ("ENCKE_PASSWORD", "a&b='c")],
    );
    assert!(!wrong.status.success(), "{}", told(&wrong));

    let output = home.sh(&line("curl -fsSL", &format!("--token {}", token(&server))), &[]);
    assert!(output.status.success(), "{}", told(&output));
    let program = home.path(".local/bin/encke");
    assert!(is_program(&program));
    assert_eq!(
        fs::read_to_string(home.path(".local/share/encke/server")).unwrap(),
        format!("{}\n", server.url)
    );
    // A service of the user; what was fetched is gone.
    let unit = fs::read_to_string(home.path(".config/systemd/user/encke-agent.service")).unwrap();
    assert!(unit.contains("WantedBy=default.target"), "{unit}");
    assert_eq!(fs::read_dir(home.path(".local/bin")).unwrap().count(), 1);
    let mut agent = home.command(&program, &[]);
    let mut agent = agent
        .args(["agent", "run"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let data = home.path(".local/state/encke-agent");
    let device = Device::installed(&program, &data);
    device.connection(&server);
    works(&server, &device, &home.path("letters"));
    agent.kill().unwrap();
    agent.wait().unwrap();
    // A program that is there already is not fetched again, another one is replaced. By wget, and by name and password.
    fs::remove_dir_all(&data).unwrap();
    fs::remove_file(&program).unwrap();
    let log_in = [("ENCKE_USER", USER), ("ENCKE_PASSWORD", PASSWORD)];
    let output = home.sh(&line("wget -qO-", "--no-service --no-filenames"), &log_in);
    assert!(output.status.success(), "{}", told(&output));
    assert!(is_program(&program) && data.join("agent.json").exists());
}

#[test]
fn one_line_installs_for_root_and_for_the_lobby() {
    let server = Server::start();
    add_user(&server);
    let (prefix, data) = (
        server.work_dir.join("it's here"),
        server.work_dir.join("agent data"),
    );
    let units = server.work_dir.join("units");
    fs::create_dir(&units).unwrap();
    let open = json!({ "RoleEnabled": true, "AllowUnauthenticatedDownloads": true }).to_string();
    ok(&server.call(
        "/api/v1/admin/meta/build-config/set",
        &[("SoftwareBuildRoleConfig", &open)],
    ));
    let run = |arguments: &str, token: &str| {
        let output = Command::new("sh")
            .args([
                "-c",
                &format!("curl -fsSL {}/install.sh | sh -s -- {arguments}", server.url),
            ])
            .env("ENCKE_PREFIX", &prefix)
            .env("ENCKE_AGENT_DATA_DIR", &data)
            .env("ENCKE_UNIT_FOLDER", &units)
            .env("ENCKE_INSTALL_TOKEN", token)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
        told(&output)
    };
    // Without a word about an account nothing but the program comes.
    assert!(run("", "").contains("Register this machine with"));
    let program = prefix.join("bin/encke");
    assert!(is_program(&program) && !data.exists());
    let unit = || fs::read_to_string(units.join("encke-agent.service")).unwrap();
    run("--lobby", "");
    assert!(
        unit().contains(&format!("lobby --server \"{}\"", server.url)),
        "{}",
        unit()
    );
    run("", &token(&server));
    assert!(unit().contains("\" run\n"), "{}", unit());
    let mut device = Device::installed(&program, &data);
    device.launch();
    works(&server, &device, &server.work_dir.join("letters"));
    // The address that the installation noted is known to the program.
    let other = server.work_dir.join("other");
    let registered = Command::new(&program)
        .args(["agent", "register", "--data-dir"])
        .arg(&other)
        .args(["--device-id", "other", "--user", USER])
        .env("ENCKE_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(registered.status.success(), "{}", told(&registered));
    until("both devices", || {
        let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
        (profile["Devices"].as_object().unwrap().len() == 2).then_some(())
    });
}
