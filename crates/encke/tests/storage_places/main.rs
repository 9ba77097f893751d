//! Vaults at all kinds of places, and over several: real services, a real device, connections that are cut; stock restic
//! reads what it can reach.

#![allow(clippy::unwrap_used)]

mod b2;
mod locks;
mod smb;
#[path = "../support/mod.rs"]
mod support;
mod swift;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::Server;
use support::device::{Device, ended};
use support::proxy::{Link, Proxy};
use support::services::Service;
use support::sshd::{Sshd, make_key, user};

/// Content that does not compress, another for each seed.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(seed) << 32;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..length).map(next).collect()
}

/// Ends every connection of a link three times while something moves 40 MB or more over it.
fn cut_while(link: &Proxy, something: impl FnOnce()) {
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| {
            for megabytes in [3, 12, 30] {
                while link.carried() < megabytes * 1_000_000 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                link.set(Link::Down);
                std::thread::sleep(Duration::from_millis(50));
                link.set(Link::Up);
            }
        });
        something();
        cut.join().unwrap();
    });
}

/// A repository by the command line, with the variables of the environment that reach it.
struct ByHand<'a> {
    dir: &'a Path,
    repo: &'a str,
    environment: &'a [(&'a str, &'a str)],
}

impl ByHand<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().copied())
            .env("ENCKE_VAULT_PASSWORD", "correct horse")
            .env("RESTIC_PASSWORD", "correct horse")
            .output()
            .unwrap()
    }

    fn encke(&self, arguments: &[&str]) -> Output {
        let cache = self.dir.join("cache");
        let mut all = vec![
            "vault",
            "--repo",
            self.repo,
            "--cache-dir",
            cache.to_str().unwrap(),
        ];
        all.extend(arguments);
        self.run(env!("CARGO_BIN_EXE_encke"), &all)
    }

    fn done(&self, arguments: &[&str]) {
        let output = self.encke(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn restic(&self, arguments: &[&str]) {
        let mut all = vec!["-r", self.repo, "--no-cache"];
        all.extend(arguments);
        let output = self.run("restic", &all);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Backs up and restores over a link that is cut; what is there in the end is whole.
    fn back_up_and_restore(&self, link: &Proxy) {
        let src = self.dir.join("src");
        fs::create_dir_all(src.join("folder")).unwrap();
        fs::write(src.join("letter"), "Dear reader").unwrap();
        fs::write(src.join("folder/noise"), noise(1, 20_000_000)).unwrap();
        let target = self.dir.join("restored");
        self.done(&["init"]);
        cut_while(link, || {
            self.done(&["backup", src.to_str().unwrap()]);
            self.done(&["restore", "latest", "--target", target.to_str().unwrap()]);
        });
        let back = target.join(src.strip_prefix("/").unwrap());
        for name in ["letter", "folder/noise"] {
            assert!(
                fs::read(src.join(name)).unwrap() == fs::read(back.join(name)).unwrap(),
                "{name}"
            );
        }
        self.done(&["check", "--read-data"]);
    }
}

#[test]
fn sftp_with_ones_own_keys_is_shared_with_stock_restic() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(dir.path());
    let src = dir.path().join("src");
    fs::create_dir_all(src.join("folder")).unwrap();
    fs::write(src.join("letter"), "Dear reader").unwrap();
    fs::write(src.join("folder/noise"), noise(1, 20_000_000)).unwrap();
    let repo = format!(
        "sftp://{}@127.0.0.1:{}/{}/repo",
        user(),
        sshd.port,
        dir.path().display()
    );
    let encke = |arguments: &[&str]| -> Output {
        Command::new(env!("CARGO_BIN_EXE_encke"))
            .args(["vault", "--repo", &repo, "--cache-dir"])
            .arg(dir.path().join("cache"))
            .args(arguments)
            .env("ENCKE_VAULT_PASSWORD", "correct horse")
            .env("HOME", &sshd.home)
            .output()
            .unwrap()
    };
    let done = |arguments: &[&str]| {
        let output = encke(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let ssh = format!(
        "ssh -p {} -i {} -o UserKnownHostsFile={} -o BatchMode=yes {}@127.0.0.1 -s sftp",
        sshd.port,
        sshd.home.join(".ssh/id_ed25519").display(),
        sshd.known_hosts().display(),
        user(),
    );
    let restic = |arguments: &[&str]| {
        let output = Command::new("restic")
            .args(["-r", &repo, "--no-cache", "-o", &format!("sftp.command={ssh}")])
            .args(arguments)
            .env("RESTIC_PASSWORD", "correct horse")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    done(&["init"]);
    done(&["backup", src.to_str().unwrap()]);
    restic(&["check", "--read-data"]);
    fs::write(src.join("letter"), "Dear readers").unwrap();
    restic(&["backup", src.to_str().unwrap()]);
    fs::write(src.join("second"), noise(2, 5_000_000)).unwrap();
    done(&["backup", src.to_str().unwrap()]);
    done(&["check", "--read-data"]);
    let target = dir.path().join("restored");
    done(&["restore", "latest", "--target", target.to_str().unwrap()]);
    let back = target.join(src.strip_prefix("/").unwrap());
    for name in ["letter", "second", "folder/noise"] {
        assert!(
            fs::read(src.join(name)).unwrap() == fs::read(back.join(name)).unwrap(),
            "{name}"
        );
    }
    done(&["retention", "--keep", "last=1"]);
    restic(&["check", "--read-data"]);
    // A server that is not the one known is not talked to.
    make_key(&dir.path().join("other"));
    fs::rename(dir.path().join("other.pub"), dir.path().join("host_key.pub")).unwrap();
    sshd.know(sshd.port);
    let refused = encke(&["snapshots"]);
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("known_hosts"),
        "{refused:?}"
    );
}

/// Pings a place through the server.
fn ping(server: &Server, place: &Value) -> u64 {
    let text = place.to_string();
    let answer = server.call("/api/v1/admin/storage/ping-destination", &[("ExtraData", &text)]);
    answer["Status"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

/// Backs up into a vault at a place twice, and restores both states.
fn back_up_and_restore(server: &Server, device: &Device, id: &str, place: &Value) {
    let mut vault = place.clone();
    vault["Description"] = json!(id);
    vault["DefaultRetention"] = json!({ "Mode": 801, "Ranges": [] });
    device.edit(server, |profile| profile["Destinations"][id] = vault.clone());
    let folder = server.work_dir.join(format!("data of {id}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("letter"), "Dear reader").unwrap();
    fs::write(folder.join("noise"), noise(3, 20_000_000)).unwrap();
    let item = format!("item of {id}");
    device.add_item(server, &item, "engine1/file", &json!({ "INCLUDE": folder }));
    device.back_up(server, &item, id);
    fs::write(folder.join("letter"), "Dear readers").unwrap();
    device.back_up(server, &item, id);
    let target = server.work_dir.join(format!("restored from {id}"));
    let options = json!({ "Type": 0, "DestPath": target });
    let done = ended(server, &device.restore(server, id, &item, &options, &[]));
    assert_eq!(done["Status"], 5000, "{done}");
    let back = target.join(folder.strip_prefix("/").unwrap());
    for name in ["letter", "noise"] {
        assert!(
            fs::read(folder.join(name)).unwrap() == fs::read(back.join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_vault_on_sftp_survives_a_broken_connection() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let sshd = Sshd::start(&server.work_dir);
    let link = Proxy::to(&format!("http://127.0.0.1:{}", sshd.port));
    let address = link.url().strip_prefix("http://").unwrap().to_string();
    let place = |key: &str| {
        json!({
            "DestinationType": 1001, "SFTPServer": address, "SFTPUsername": user(), "SFTPAuthMode": 2,
            "SFTPPrivateKey": key, "SFTPRemotePath": server.work_dir.join("on sftp"),
            "SFTPCustomAuth_UseKnownHostsFile": true, "SFTPCustomAuth_KnownHostsFile": sshd.known_hosts(),
        })
    };
    // Known only by the port behind the link.
    assert_eq!(ping(&server, &place(&sshd.key())), 400);
    sshd.know(address.rsplit_once(':').unwrap().1.parse().unwrap());
    assert_eq!(ping(&server, &place(&sshd.key())), 200);
    assert!(!server.work_dir.join("on sftp").exists());
    make_key(&server.work_dir.join("other"));
    let other = fs::read_to_string(server.work_dir.join("other")).unwrap();
    assert_eq!(ping(&server, &place(&other)), 502);
    assert_eq!(ping(&server, &place("no key")), 400);
    cut_while(&link, || {
        back_up_and_restore(&server, &device, "sftp", &place(&sshd.key()));
    });
}

#[test]
fn a_vault_on_sftp_with_a_password() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let folder = server.work_dir.join("on sftp");
    fs::create_dir(&folder).unwrap();
    let service = Service::sftp(&folder, "me", "my password");
    let address = service.url.strip_prefix("sftp://").unwrap();
    let (known_hosts, port) = (
        server.work_dir.join("known_hosts"),
        address.rsplit_once(':').unwrap().1,
    );
    let key = service.told["key"].as_str().unwrap();
    fs::write(&known_hosts, format!("[127.0.0.1]:{port} {key}\n")).unwrap();
    let place = |password: &str| {
        json!({
            "DestinationType": 1001, "SFTPServer": address, "SFTPUsername": "me", "SFTPAuthMode": 1,
            "SFTPPassword": password, "SFTPRemotePath": "/vault",
            "SFTPCustomAuth_UseKnownHostsFile": true, "SFTPCustomAuth_KnownHostsFile": known_hosts,
        })
    };
    assert_eq!(ping(&server, &place("my password")), 200);
    assert_eq!(ping(&server, &place("wrong")), 502);
    assert!(fs::read_dir(&folder).unwrap().next().is_none());
    back_up_and_restore(&server, &device, "sftp", &place("my password"));
    assert!(folder.join("vault/config").is_file());
}

#[test]
fn a_vault_on_ftp() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let certificate = server.work_dir.join("certificate");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-days", "2", "-subj", "/CN=nobody", "-keyout"])
        .arg(&certificate)
        .arg("-out")
        .arg(server.work_dir.join("public"))
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(server.work_dir.join("public")).unwrap();
    let key = fs::read_to_string(&certificate).unwrap();
    fs::write(&certificate, key + &public).unwrap();
    for (id, mode) in [("ftp", 0), ("ftps", 2), ("ftps from the first byte", 1)] {
        let tls = mode != 0;
        let folder = server.work_dir.join(id);
        fs::create_dir(&folder).unwrap();
        let service = if mode == 1 {
            Service::implicit_ftps(&folder, "me", "my password", &certificate)
        } else {
            Service::ftp(&folder, "me", "my password", tls.then_some(certificate.as_path()))
        };
        let port: u16 = service.url.rsplit_once(':').unwrap().1.parse().unwrap();
        let place = |password: &str, any: bool| {
            json!({
                "DestinationType": 1004, "FTPServer": "127.0.0.1", "FTPPort": port, "FTPUsername": "me",
                "FTPPassword": password, "FTPCustomBaseDirectory": "/some/where", "FTPSMode": mode,
                "FTPAcceptInvalidSSL": any,
            })
        };
        assert_eq!(ping(&server, &place("my password", true)), 200);
        assert_eq!(ping(&server, &place("wrong", true)), 502);
        if tls {
            assert_eq!(ping(&server, &place("my password", false)), 502);
        }
        assert!(fs::read_dir(&folder).unwrap().next().is_none());
        back_up_and_restore(&server, &device, id, &place("my password", true));
        assert!(folder.join("some/where/config").is_file());
    }
}

#[test]
fn a_vault_on_azure() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let folder = server.work_dir.join("blobs");
    fs::create_dir(&folder).unwrap();
    let (key, wrong) = ("c29tZSBrZXkgb2YgdGhlIHRlc3Q=", "d3Jvbmc=");
    let service = Service::azure(&folder, "company", key, "backups");
    let place = |key: &str, container: &str| {
        json!({
            "DestinationType": 1005, "AZBAccountName": "company", "AZBAccountKey": key, "AZBContainer": container,
            "AZBRealm": service.url, "AZBPrefix": "some/where",
        })
    };
    assert_eq!(ping(&server, &place(key, "backups")), 200);
    assert_eq!(ping(&server, &place(wrong, "backups")), 502);
    assert_eq!(ping(&server, &place(key, "missing")), 502);
    assert_eq!(ping(&server, &place(key, "")), 400);
    back_up_and_restore(&server, &device, "azure", &place(key, "backups"));
}

#[test]
fn a_vault_over_several_places() {
    let server = Server::start();
    let device = Device::start(&server, "device");
    let folder = |name: &str| {
        let folder = server.work_dir.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let ftp = folder("ftp");
    let service = Service::ftp(&ftp, "me", "my password", None);
    let port: u16 = service.url.rsplit_once(':').unwrap().1.parse().unwrap();
    let local = folder("local");
    let place = |password: &str, slots: bool| {
        json!({
            "DestinationType": 1006, "SpanUseStaticSlots": slots, "SpanTargets": [
                { "DestinationType": 1002, "LocalcopyPath": local },
                { "DestinationType": 1004, "FTPServer": "127.0.0.1", "FTPPort": port, "FTPUsername": "me",
                  "FTPPassword": password, "FTPCustomBaseDirectory": "/vault" },
            ],
        })
    };
    assert_eq!(ping(&server, &place("my password", false)), 200);
    assert_eq!(ping(&server, &place("wrong", false)), 502);
    assert_eq!(ping(&server, &json!({ "DestinationType": 1006 })), 400);
    back_up_and_restore(&server, &device, "span", &place("my password", false));
    // Both hold a part: their folders put together are the repository.
    let packs = |root: &Path| -> Vec<PathBuf> {
        let folders = fs::read_dir(root.join("data")).unwrap();
        folders
            .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .collect()
    };
    // Packs are few: that both have files is seen from all kinds together.
    let files = |root: &Path| {
        let kinds = ["keys", "index", "snapshots"].map(|kind| fs::read_dir(root.join(kind)).unwrap().count());
        kinds.iter().sum::<usize>() + packs(root).len()
    };
    let (here, there) = (files(&local), files(&ftp.join("vault")));
    assert!(here + there >= 7, "{here} and {there}");
    // What is moved from one to the other is found there.
    for pack in packs(&ftp.join("vault")) {
        let name = pack.file_name().unwrap().to_str().unwrap();
        let to = local.join("data").join(&name[..2]).join(name);
        fs::copy(&pack, to).unwrap();
        fs::remove_file(&pack).unwrap();
    }
    let target = server.work_dir.join("once more");
    let options = json!({ "Type": 0, "DestPath": target });
    let done = ended(
        &server,
        &device.restore(&server, "span", "item of span", &options, &[]),
    );
    assert_eq!(done["Status"], 5000, "{done}");
    let back = target.join(server.work_dir.join("data of span").strip_prefix("/").unwrap());
    assert!(fs::read(back.join("noise")).unwrap() == noise(3, 20_000_000));
}
