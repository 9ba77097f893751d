//! The device's disks and their partitions, as the kernel tells (sysfs, `/proc/self/mountinfo`).

use crate::browse::body;
use crate::error::AgentResult;
use encke_api::types::{DiskDrive, Partition};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The kernel counts in these, whatever the disk does.
const SECTOR: i64 = 512;

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

fn number(path: &Path) -> i64 {
    text(path).parse().unwrap_or(0)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Where a device is mounted, and as what.
fn mounts(device: &str) -> (Vec<String>, String) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (mut places, mut kind) = (Vec::new(), String::new());
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        let (file_system, source) = (right.next().unwrap_or_default(), right.next().unwrap_or_default());
        if source != device {
            continue;
        }
        if let Some(place) = left.split(' ').nth(4) {
            // Spaces and the like are written in octal.
            places.push(
                place
                    .replace("\\040", " ")
                    .replace("\\011", "\t")
                    .replace("\\134", "\\"),
            );
        }
        file_system.clone_into(&mut kind);
    }
    (places, kind)
}

fn used(places: &[String]) -> i64 {
    let Some(stat) = places.first().and_then(|p| rustix::fs::statvfs(p.as_str()).ok()) else {
        return 0;
    };
    i64::try_from((stat.f_blocks - stat.f_bfree).saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX)
}

fn partition(disk: &str, name: &str, folder: &Path) -> Partition {
    let device = format!("/dev/{name}");
    let (mount_points, filesystem) = mounts(&device);
    let offset = if disk == name {
        0
    } else {
        number(&folder.join("start")) * SECTOR
    };
    Partition {
        device_name: device,
        partition_offset: offset,
        read_offset: offset,
        size: number(&folder.join("size")) * SECTOR,
        used_size: used(&mount_points),
        mount_points,
        filesystem,
        ..Default::default()
    }
}

fn disk(name: &str) -> DiskDrive {
    let folder = Path::new("/sys/block").join(name);
    let own = |file: &str| text(&folder.join(file));
    let mut partitions: Vec<Partition> = names(&folder)
        .iter()
        .filter(|n| folder.join(n).join("partition").exists())
        .map(|n| partition(name, n, &folder.join(n)))
        .collect();
    if partitions.is_empty() && !mounts(&format!("/dev/{name}")).0.is_empty() {
        partitions.push(partition(name, name, &folder));
    }
    let backing = own("loop/backing_file");
    DiskDrive {
        id: format!("/dev/{name}"),
        device_name: format!("/dev/{name}"),
        caption: if backing.is_empty() {
            own("device/model")
        } else {
            backing
        },
        model: own("device/model"),
        serial_number: own("device/serial"),
        size: number(&folder.join("size")) * SECTOR,
        sector_size: number(&folder.join("queue/logical_block_size")),
        device_parents: names(&folder.join("slaves"))
            .iter()
            .map(|n| format!("/dev/{n}"))
            .collect(),
        partitions,
        ..Default::default()
    }
}

/// What the system tells of a disk or a partition.
pub(crate) fn describe(device: &Path) -> DiskDrive {
    let real = fs::canonicalize(device).unwrap_or_else(|_| device.to_path_buf());
    let name = real
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    if Path::new("/sys/block").join(&name).exists() {
        return disk(&name);
    }
    let folder = Path::new("/sys/class/block").join(&name);
    DiskDrive {
        id: device.display().to_string(),
        device_name: device.display().to_string(),
        size: number(&folder.join("size")) * SECTOR,
        partitions: vec![partition(&name, &name, &folder)],
        ..Default::default()
    }
}

/// All disks that hold something.
pub(crate) fn list() -> AgentResult<Value> {
    let disks: Vec<DiskDrive> = names(Path::new("/sys/block"))
        .iter()
        .filter(|n| !n.starts_with("ram") && !n.starts_with("zram"))
        .map(|n| disk(n))
        .filter(|d| d.size > 0)
        .collect();
    body(&disks)
}
