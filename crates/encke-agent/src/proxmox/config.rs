//! What Proxmox VE tells of its machines (manual pages qm.conf(5) and pct.conf(5)).

use super::{number, text};
use encke_api::types::{PVEDisk, PVEVM};
use serde_json::Value;

/// Names of what a machine's disks hang on; a container has a root and mount points.
const BUSES: [&str; 6] = ["ide", "sata", "scsi", "virtio", "efidisk", "tpmstate"];

/// A machine in the cluster's list of resources.
pub(super) fn listed(told: &Value) -> PVEVM {
    PVEVM {
        vmid: text(&told["vmid"]),
        name: text(&told["name"]),
        node: text(&told["node"]),
        type_: text(&told["type"]),
        running: told["status"] == "running",
        ..Default::default()
    }
}

/// Adds what a machine's configuration tells.
pub(super) fn describe(machine: &mut PVEVM, config: &Value) {
    let count = |key: &str| number(&config[key]).unwrap_or(1).max(1);
    machine.cpu = (count("sockets") * count("cores")).to_string();
    machine.memory = text(&config["memory"]);
    machine.os_type = text(&config["ostype"]);
    let settings = config.as_object().into_iter().flatten();
    machine.disks = settings
        .filter_map(|(key, value)| disk(key, value.as_str()?))
        .collect();
    machine
        .disks
        .sort_by(|a, b| (&a.device, a.device_num).cmp(&(&b.device, b.device_num)));
}

/// A disk's setting, such as `scsi0: local-lvm:vm-100-disk-0,discard=on,size=32G`.
fn disk(key: &str, value: &str) -> Option<PVEDisk> {
    let bus = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let place = &key[bus.len()..];
    let is_disk = match bus {
        "rootfs" => place.is_empty(),
        "mp" => !place.is_empty(),
        other => BUSES.contains(&other) && !place.is_empty(),
    };
    let (volume, options) = value.split_once(',').unwrap_or((value, ""));
    let option = |name: &str| {
        let found = options
            .split(',')
            .find_map(|o| o.split_once('=').filter(|(k, _)| *k == name));
        found.map(|(_, v)| v)
    };
    if !is_disk || option("media") == Some("cdrom") {
        return None;
    }
    // What is no volume of a storage, such as a folder of the host, is not saved with the machine.
    let (storage, volume) = volume.split_once(':')?;
    let ending = volume.rsplit_once('.').map_or("raw", |(_, ending)| ending);
    Some(PVEDisk {
        device: bus.to_string(),
        device_num: place.parse().unwrap_or(0),
        storage_id: storage.to_string(),
        volume: volume.to_string(),
        size: option("size").and_then(bytes).unwrap_or(0),
        format: option("format").unwrap_or(ending).to_string(),
        options: options.to_string(),
        ..Default::default()
    })
}

/// A size such as `32G`.
pub(super) fn bytes(size: &str) -> Option<i64> {
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &size[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_configuration_tells_of_disks_and_size() {
        let mut machine = listed(&json!({
            "vmid": 100, "name": "shop", "node": "pve1", "type": "qemu", "status": "running", "maxcpu": 4,
        }));
        let config = json!({
            "cores": 2, "sockets": "2", "memory": "2048", "ostype": "l26", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            "scsi0": "local-lvm:vm-100-disk-0,discard=on,size=32G", "scsi10": "nfs:100/vm-100-disk-1.qcow2,size=512M",
            "ide2": "local:iso/debian.iso,media=cdrom,size=600M", "ide0": "none,media=cdrom",
            "efidisk0": "local-lvm:vm-100-disk-2,efitype=4m,size=4M", "unused0": "local-lvm:vm-100-disk-9",
            "scsihw": "virtio-scsi-single",
        });
        describe(&mut machine, &config);
        let disks: Vec<(String, i64, String, i64, String)> = machine
            .disks
            .iter()
            .map(|d| {
                (
                    d.device.clone(),
                    d.device_num,
                    d.storage_id.clone(),
                    d.size,
                    d.format.clone(),
                )
            })
            .collect();
        let disk = |device: &str, n, storage: &str, size, format: &str| {
            (
                device.to_string(),
                n,
                storage.to_string(),
                size,
                format.to_string(),
            )
        };
        assert_eq!(
            disks,
            [
                disk("efidisk", 0, "local-lvm", 4 << 20, "raw"),
                disk("scsi", 0, "local-lvm", 32 << 30, "raw"),
                disk("scsi", 10, "nfs", 512 << 20, "qcow2"),
            ]
        );
        assert_eq!((machine.cpu.as_str(), machine.memory.as_str()), ("4", "2048"));
        assert!(machine.running && machine.vmid == "100");
        let mut container = listed(&json!({ "vmid": "101", "type": "lxc", "status": "stopped" }));
        let config = json!({
            "rootfs": "local-lvm:vm-101-disk-0,size=8G", "mp0": "tank:subvol-101-disk-1,mp=/data,size=1T",
            "mp1": "/srv/host,mp=/host",
        });
        describe(&mut container, &config);
        assert_eq!(container.disks.len(), 2);
        assert_eq!(container.disks[0].size, 1 << 40);
        assert!(!container.running);
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["7", "2K", "3M", "1T", "x", "1P", ""].map(bytes);
        assert_eq!(
            sizes,
            [
                Some(7),
                Some(2048),
                Some(3 << 20),
                Some(1 << 40),
                None,
                None,
                None
            ]
        );
    }
}
