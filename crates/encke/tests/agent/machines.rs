//! Virtual machines and containers of Proxmox VE, over a real SSH server. The product itself is not at hand: its tools are
//! scripts that answer in the form its documentation gives, and refuse everything else.

use crate::support::Server;
use crate::support::device::{Device, PASSWORD, USER, ended, log, until};
use crate::support::sshd::{Sshd, user};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Begins each script: where the host's state is, and on which node it runs.
const HEAD: &str = "#!/bin/sh\nstate=\"$(dirname \"$0\")/../state\"\nnode=${NODE:-pve1}\n";

const PVESH: &str = r#"
[ "$1" = get ] || { echo "unknown command" >&2; exit 255; }
[ "$3 $4" = "--output-format json" ] || [ "$3 $4 $5 $6" = "--type vm --output-format json" ] || exit 255
case "$2" in
/cluster/status) echo '[{"id":"cluster","type":"cluster","name":"c","nodes":2,"quorate":1},
  {"id":"node/pve1","type":"node","name":"pve1","ip":"127.0.0.1","local":1,"online":1},
  {"id":"node/pve2","type":"node","name":"pve2","ip":"10.9.9.9","local":0,"online":1}]' ;;
/cluster/resources) cat "$state/resources" ;;
/cluster/nextid) echo '"105"' ;;
/storage) echo '[{"storage":"local","type":"dir","content":"iso,backup"},{"storage":"fast","type":"lvmthin","content":"images,rootdir"}]' ;;
/nodes/pve2/storage) echo '[{"storage":"far","type":"zfspool","content":"rootdir,images","active":1}]' ;;
/nodes/*/config) file="$state/$(basename "$(dirname "$2")").config"; cat "$file" || exit 2 ;;
*) echo "no '$2' resource" >&2; exit 2 ;;
esac
"#;

const VZDUMP: &str = r#"
id=$1; shift
[ "$*" = "--stdout 1 --mode suspend --compress 0" ] || { echo "400 wrong parameters: $*" >&2; exit 255; }
[ "$(cat "$state/$id.node")" = "$node" ] || exit 0
echo "INFO: starting new backup job: vzdump $id" >&2
if [ $id = 103 ]; then echo "ERROR: Backup of VM 103 failed - no lock" >&2; exit 255; fi
if [ $id = 104 ]; then echo $$ > "$state/104.pid"; while :; do echo more; sleep 0.05; done; fi
cat "$state/$id.archive"
echo "INFO: Finished Backup of VM $id" >&2
"#;

const RESTORE: &str = r#"
echo "$node $(basename "$0") $*" >> "$state/restores"
[ "$*" = "restore 666 -" ] && exit 1
cat > "$state/restored"
echo "progress 100% (read 1 bytes)"
echo "WARN: a disk is slow" >&2
"#;

/// Goes to another node: here as well, but as that one.
const SSH: &str = r#"
[ "$1 $2 $3 $4 $5 $6 $7" = "-e none -o BatchMode=yes -o HostKeyAlias=pve2 root@10.9.9.9" ] || exit 255
shift 8
NODE=pve2 exec sh -c "$*"
"#;

struct Host {
    sshd: Sshd,
    state: PathBuf,
}

impl Host {
    fn start(dir: &Path) -> Self {
        let (tools, state) = (dir.join("tools"), dir.join("state"));
        fs::create_dir_all(&tools).unwrap();
        fs::create_dir_all(&state).unwrap();
        let scripts = [
            ("pvesh", PVESH),
            ("vzdump", VZDUMP),
            ("qmrestore", RESTORE),
            ("pct", RESTORE),
            ("ssh", SSH),
        ];
        for (name, text) in scripts {
            let file = tools.join(name);
            fs::write(&file, format!("{HEAD}{text}")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("SetEnv PATH={}:/usr/bin:/bin", tools.display());
        let host = Self {
            sshd: Sshd::start_with(dir, &path),
            state,
        };
        for (id, node, config) in [
            (
                100,
                "pve1",
                json!({ "cores": 2, "sockets": 1, "memory": "2048", "ostype": "l26", "scsi0": "fast:vm-100-disk-0,size=4G", "efidisk0": "fast:vm-100-disk-1,size=4M" }),
            ),
            (
                101,
                "pve2",
                json!({ "cores": 1, "memory": 512, "ostype": "debian", "rootfs": "far:subvol-101-disk-0,size=8G" }),
            ),
            (103, "pve1", json!({ "memory": "16" })),
            (104, "pve1", json!({ "memory": "16" })),
        ] {
            let name = |ending: &str| host.state.join(format!("{id}.{ending}"));
            fs::write(name("config"), config.to_string()).unwrap();
            fs::write(name("node"), node).unwrap();
            fs::write(name("archive"), noise(id)).unwrap();
        }
        host.has(&[100, 101, 103, 104]);
        host
    }

    /// Says which machines there are.
    fn has(&self, ids: &[u32]) {
        let machine = |id: &u32| {
            let (kind, node) = if *id == 101 {
                ("lxc", "pve2")
            } else {
                ("qemu", "pve1")
            };
            json!({ "id": format!("{kind}/{id}"), "vmid": id, "type": kind, "node": node, "name": format!("m{id}"),
                    "status": "running", "maxcpu": 2 })
        };
        let list: Vec<Value> = ids.iter().map(machine).collect();
        fs::write(self.state.join("resources"), json!(list).to_string()).unwrap();
    }

    fn credentials(&self) -> Value {
        json!({
            "SSHServer": format!("127.0.0.1:{}", self.sshd.port), "SSHUsername": user(), "SSHAuthMode": 2,
            "SSHPrivateKey": self.sshd.key(), "SSHCustomAuth_UseKnownHostsFile": true,
            "SSHCustomAuth_KnownHostsFile": self.sshd.known_hosts(),
        })
    }

    fn last_restore(&self) -> (String, Vec<u8>) {
        let commands = fs::read_to_string(self.state.join("restores")).unwrap();
        let last = commands.lines().next_back().unwrap().to_string();
        (last, fs::read(self.state.join("restored")).unwrap())
    }
}

/// Content that does not compress, another for each seed.
fn noise(seed: u32) -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(seed) << 32;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    (0..400_000).flat_map(next).collect()
}

#[test]
fn a_host_of_machines_can_be_looked_at() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let host = Host::start(&server.work_dir);
    let ssh = host.credentials();
    let whole = json!({ "SSH": ssh }).to_string();
    let ssh = ssh.to_string();
    let told = device.ask(&server, "request-browse-proxmox", &[("Credentials", &whole)]);
    assert_eq!(told["Status"], 200, "{told}");
    let names: Vec<&str> = told["VMs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["VMID"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["100", "101", "103", "104"]);
    let machine = &told["VMs"][0];
    assert_eq!(
        (
            &machine["Name"],
            &machine["Node"],
            &machine["Type"],
            &machine["Running"],
            &machine["CPU"]
        ),
        (
            &json!("m100"),
            &json!("pve1"),
            &json!("qemu"),
            &json!(true),
            &json!("2")
        )
    );
    assert_eq!(machine["Disks"][1]["StorageID"], "fast");
    assert_eq!(machine["Disks"][1]["Size"], 4_i64 << 30);
    let nodes = device.ask(&server, "request-browse-proxmox/nodes", &[("Credentials", &ssh)]);
    assert_eq!(nodes["Nodes"], json!(["pve1", "pve2"]), "{nodes}");
    let all = device.ask(
        &server,
        "request-browse-proxmox/storage",
        &[("Credentials", &ssh)],
    );
    assert_eq!(
        all["Storage"][0],
        json!({ "Name": "fast", "Type": "lvmthin", "Content": ["images", "rootdir"] })
    );
    let some = [("Credentials", ssh.as_str()), ("Node", "pve2")];
    let some = device.ask(&server, "request-browse-proxmox/storage", &some);
    assert_eq!(some["Storage"][0]["Name"], "far", "{some}");
    // The user's own calls answer the same.
    let target = device.connection(&server);
    for (call, credentials, key) in [
        ("request-browse-proxmox", &whole, "VMs"),
        ("request-browse-proxmox/nodes", &ssh, "Nodes"),
        ("request-browse-proxmox/storage", &ssh, "Storage"),
    ] {
        let twin = server.post(
            &format!("/api/v1/user/web/dispatcher/{call}"),
            &[
                ("Username", USER),
                ("AuthType", "Password"),
                ("Password", PASSWORD),
                ("TargetID", &target),
                ("Credentials", credentials),
            ],
        );
        assert_eq!(twin["Status"], 200, "{twin}");
        assert!(!twin[key].as_array().unwrap().is_empty(), "{twin}");
    }
    // A host that is not the one that is known, one that lets nobody in, and a name that is no name.
    let mut stranger = host.credentials();
    fs::write(server.work_dir.join("nobody"), "").unwrap();
    stranger["SSHCustomAuth_KnownHostsFile"] = json!(server.work_dir.join("nobody"));
    let refused = device.ask(
        &server,
        "request-browse-proxmox/nodes",
        &[("Credentials", &stranger.to_string())],
    );
    assert!(
        refused["Message"].as_str().unwrap().contains("is not in"),
        "{refused}"
    );
    let mut password = host.credentials();
    password["SSHAuthMode"] = json!(1);
    let refused = device.ask(
        &server,
        "request-browse-proxmox/nodes",
        &[("Credentials", &password.to_string())],
    );
    assert_ne!(refused["Status"], 200, "{refused}");
    let odd = [("Credentials", ssh.as_str()), ("Node", "pve2; reboot")];
    let refused = device.ask(&server, "request-browse-proxmox/storage", &odd);
    assert!(
        refused["Message"].as_str().unwrap().contains("is not the name"),
        "{refused}"
    );
}

#[test]
fn machines_are_saved_and_come_back() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let host = Host::start(&server.work_dir);
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let add = |name: &str, mut params: Value| {
        params["SSHConnection"] = host.credentials();
        params["Method"] = json!("suspend");
        let params = params.to_string();
        device.add_item(&server, name, "engine1/proxmox", &json!({ "PARAMS": params }));
    };
    let named = |ids: &[&str]| {
        let machines: Vec<Value> = ids
            .iter()
            .map(|id| json!({ "VMID": id, "Name": "m", "Type": "qemu", "Selected": true }))
            .collect();
        json!([{ "Name": "pve1", "Selected": false, "IncludedVMs": machines }])
    };
    add(
        "most",
        json!({ "Everything": true, "Exclusions": named(&["103", "104"]) }),
    );
    let job = device.back_up(&server, "most", "vault");
    let text = log(&server, job["GUID"].as_str().unwrap());
    assert_eq!(job["TotalFiles"], 3, "{text}");
    assert!(
        text.contains("Finished Backup of VM 101") && !text.contains("PRIVATE KEY"),
        "{text}"
    );
    let out = server.work_dir.join("out");
    let id = device.restore(
        &server,
        "vault",
        "most",
        &json!({ "Type": 0, "DestPath": out }),
        &[],
    );
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    assert!(fs::read(out.join("qemu-100.vma")).unwrap() == noise(100));
    assert!(fs::read(out.join("lxc-101.tar")).unwrap() == noise(101));
    // What the snapshot tells of its machines.
    let snapshot = job["SnapshotID"].as_str().unwrap();
    let place = [("DestinationID", "vault"), ("SnapshotID", snapshot)];
    let told = device.ask(&server, "browse-virtual-machines", &place);
    assert_eq!(told["VMs"][0]["Name"], "m100", "{told}");
    assert_eq!(
        (
            &told["VMs"][0]["RamBytes"],
            &told["VMs"][0]["FirmwareType"],
            &told["VMs"][0]["CPUCores"]
        ),
        (&json!(2_i64 << 30), &json!("efi"), &json!(2))
    );

    // Back into a host: a machine that is gone, one beside itself, one over itself, a container on the other node.
    let restore = |path: &str, options: Value| {
        let mut all =
            json!({ "Type": 14, "ProxmoxConnection": { "SSH": host.credentials(), "Storage": "fast" } });
        for (key, value) in options.as_object().unwrap() {
            all[key] = value.clone();
        }
        let id = device.restore(&server, "vault", "most", &all, &[path]);
        // A word of warning is one.
        assert_eq!(ended(&server, &id)["Status"], 7001, "{}", log(&server, &id));
        assert!(log(&server, &id).contains("a disk is slow"));
        host.last_restore()
    };
    host.has(&[101, 103]);
    assert!(
        restore("/qemu-100.vma", json!({})) == ("pve1 qmrestore - 100 --storage fast".into(), noise(100))
    );
    host.has(&[100, 101]);
    assert_eq!(
        restore("/qemu-100.vma", json!({})).0,
        "pve1 qmrestore - 105 --unique 1 --storage fast"
    );
    let over = json!({ "OverwriteExistingFiles": true });
    assert_eq!(
        restore("/qemu-100.vma", over).0,
        "pve1 qmrestore - 100 --force 1 --storage fast"
    );
    host.has(&[100]);
    let far = json!({ "ProxmoxConnection": { "SSH": host.credentials(), "Storage": "far", "Node": "pve2" } });
    assert!(restore("/lxc-101.tar", far) == ("pve2 pct restore 101 - --storage far".into(), noise(101)));
    // All of them, without what was noted about them.
    fs::remove_file(host.state.join("restores")).unwrap();
    let all = json!({ "Type": 14, "ProxmoxConnection": { "SSH": host.credentials() } });
    let id = device.restore(&server, "vault", "most", &all, &[]);
    assert_eq!(ended(&server, &id)["TotalFiles"], 2, "{}", log(&server, &id));
}

#[test]
fn a_machine_that_fails_is_an_error_and_one_that_never_ends_is_cancelled() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let host = Host::start(&server.work_dir);
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let add = |name: &str, ids: &[&str]| {
        let machines: Vec<Value> = ids
            .iter()
            .map(|id| json!({ "VMID": id, "Name": "m", "Selected": true }))
            .collect();
        let params = json!({
            "SSHConnection": host.credentials(), "Method": "suspend",
            "Selections": [{ "Name": "pve1", "Selected": false, "IncludedVMs": machines }],
        });
        device.add_item(
            &server,
            name,
            "engine1/proxmox",
            &json!({ "PARAMS": params.to_string() }),
        );
    };
    add("some", &["100", "103", "900"]);
    let id = device.backup(&server, "some", "vault");
    assert_eq!(ended(&server, &id)["Status"], 7002);
    let text = log(&server, &id);
    for told in [
        "machine 900",
        "VM 103 failed - no lock",
        "qemu-103.vma ended with 255",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    let list = device.restic("vault", &["ls", "latest"]);
    assert!(list.contains("/qemu-100.vma"), "{list}");
    add("endless", &["104"]);
    let id = device.backup(&server, "endless", "vault");
    let pid = until("the dump to run", || {
        fs::read_to_string(host.state.join("104.pid"))
            .ok()
            .filter(|t| t.ends_with('\n'))
    });
    let proc = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(proc.exists());
    let asked = std::time::Instant::now();
    let answer = server.call(
        "/api/v1/admin/job/cancel",
        &[("TargetUser", USER), ("JobID", &id)],
    );
    assert_eq!(answer["Status"], 200, "{answer}");
    assert_eq!(ended(&server, &id)["Status"], 7005, "{}", log(&server, &id));
    println!("cancelled within {:?}", asked.elapsed());
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    until("the dump to be ended on the host", || {
        (!proc.exists()).then_some(())
    });
}
