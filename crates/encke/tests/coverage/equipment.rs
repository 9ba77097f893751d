//! What calls need outside the server to succeed: a mail server, databases, a host of machines, a log-in provider, and
//! snapshots of disks and machines.

use crate::support::device::{Device, USER};
use crate::support::services::{Service, serve};
use crate::support::sshd::{Sshd, user};
use crate::support::{Server, mariadb};
use crate::world::World;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Goes with the test.
pub struct Equipment {
    _mail: Service,
    _host: Sshd,
}

/// The tool of Proxmox, as far as looking around goes. The product itself is not at hand (`agent_machines.rs`).
const PVESH: &str = r#"#!/bin/sh
case "$2" in
/cluster/status) echo '[{"type":"cluster","name":"c"},{"type":"node","name":"pve1","ip":"127.0.0.1","local":1,"online":1}]' ;;
/cluster/resources) echo '[{"id":"qemu/100","vmid":100,"type":"qemu","node":"pve1","name":"mail","status":"running","maxcpu":2}]' ;;
/storage | /nodes/pve1/storage) echo '[{"storage":"fast","type":"lvmthin","content":"images,rootdir","active":1}]' ;;
*) echo '{"cores":2,"sockets":1,"memory":"2048","ostype":"l26","scsi0":"fast:vm-100-disk-0,size=4G"}' ;;
esac
"#;

/// MongoDB's shell, which is in no package of the distribution: what it prints when it is asked for names.
const MONGOSH: &str = "#!/bin/sh\nprintf 'admin\\nshop\\n'\n";

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A provider of OpenID Connect, as far as describing itself goes.
fn provider() -> String {
    serve(|got| {
        let host = got.head.lines().find_map(|l| l.strip_prefix("host:"));
        let base = format!("http://{}", host.unwrap_or_default().trim());
        let told = if got.path.contains("keys") {
            json!({ "keys": [] })
        } else {
            json!({
                "issuer": base, "authorization_endpoint": format!("{base}/begin"), "jwks_uri": format!("{base}/keys"),
                "token_endpoint": format!("{base}/token"), "response_types_supported": ["code"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
            })
        };
        (200, told.to_string())
    })
}

/// A finished snapshot that is nothing but one file.
fn snapshot(server: &Server, device: &Device, file: &str, content: &Value) -> String {
    let source = server.work_dir.join(file);
    fs::write(&source, content.to_string()).unwrap();
    let command = format!("cat '{}'", source.display());
    device.add_item(
        server,
        file,
        "engine1/stdout",
        &json!({ "COMMAND": command, "SAVEAS": file }),
    );
    device.back_up(server, file, "vault-3f");
    let found = device.ask(server, "request-vault-snapshots", &[("Destination", "vault-3f")]);
    let all = found["Snapshots"].as_array().unwrap();
    let own = all.iter().find(|s| s["Source"] == file);
    own.unwrap_or_else(|| panic!("{found}"))["Snapshot"]
        .as_str()
        .unwrap()
        .to_string()
}

/// Starts everything and notes how it is reached.
pub fn start(world: &mut World) -> Equipment {
    let folder = |name: &str| -> PathBuf {
        let folder = world.server.work_dir.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let mail = Service::smtp(&folder("mails"), "plain", ("", ""), "", 0);
    let port: u16 = mail.url.rsplit_once(':').unwrap().1.parse().unwrap();
    let options = json!({
        "Mode": "smtp", "FromEmail": "backup@example.com", "FromName": "Backup", "SMTPHost": "localhost",
        "SMTPPort": port, "SMTPAllowUnencrypted": true,
    })
    .to_string();
    world.must("meta/email-options/set", &[("EmailOptions", &options)]);
    world.edit(USER, |profile| profile["Emails"] = json!(["dora@example.com"]));
    let hooks = json!({ "told": { "URL": serve(|_| (200, String::new())), "Level": "full" } }).to_string();
    world.must("meta/webhook-options/set", &[("WebhookOptions", &hooks)]);

    let tools = folder("tools");
    program(&tools.join("pvesh"), PVESH);
    program(&tools.join("mongosh"), MONGOSH);
    let path = format!("SetEnv PATH={}:/usr/bin:/bin", tools.display());
    let host = Sshd::start_with(&folder("host"), &path);
    let ssh = json!({
        "SSHServer": format!("127.0.0.1:{}", host.port), "SSHUsername": user(), "SSHAuthMode": 2,
        "SSHPrivateKey": host.key(), "SSHCustomAuth_UseKnownHostsFile": true,
        "SSHCustomAuth_KnownHostsFile": host.known_hosts(),
    });
    let maria = mariadb::server();
    maria.execute(
        "CREATE USER IF NOT EXISTS keeper@'%' IDENTIFIED BY 'a word'; GRANT ALL ON *.* TO keeper@'%'",
    );
    let mysql = json!({
        "Host": "127.0.0.1", "Port": maria.port.to_string(), "Username": "keeper", "Password": "a word",
    });
    let mongodb = json!({ "Server": "127.0.0.1", "MongoShellPath": tools.join("mongosh") });

    let days = world
        .server
        .call("/api/v1/admin/meta/list-available-log-days", &[]);
    let device = world.device.as_ref().unwrap();
    let disks = json!([{ "ID": "sda", "DeviceName": "/dev/sda", "Caption": "Disk", "Size": 1024 }]);
    let machines = json!([{ "VMID": "100", "Name": "mail", "Memory": "4096", "CPU": "2", "Type": "qemu" }]);
    let facts = [
        ("disks", snapshot(&world.server, device, "disks.json", &disks)),
        (
            "machines",
            snapshot(&world.server, device, "machines.json", &machines),
        ),
        ("mail options", options),
        ("webhook", "told".into()),
        ("proxmox", json!({ "SSH": ssh }).to_string()),
        ("ssh", ssh.to_string()),
        ("mysql", mysql.to_string()),
        ("mongodb", mongodb.to_string()),
        ("log day", days[0].to_string()),
        ("log-in address", provider()),
    ];
    world.facts.extend(facts);
    // Their snapshots are what is looked at; the profile is shown in many examples.
    world.edit(USER, |profile| {
        let sources = profile["Sources"].as_object_mut().unwrap();
        sources.retain(|id, _| !id.ends_with(".json"));
    });
    Equipment {
        _mail: mail,
        _host: host,
    }
}
