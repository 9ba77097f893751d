//! What a device tells about itself.

use encke_api::live::platform;
use encke_api::types::OSInfo;
use sha2::{Digest, Sha256};
use std::fs;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

/// The same on each call on this machine, whatever is installed anew: made from the machine id, or the network
/// addresses where there is none.
pub(crate) fn id() -> String {
    let mut traits = vec![read("/etc/machine-id")];
    if traits[0].is_empty() {
        let interfaces = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        traits.extend(interfaces.map(|i| read(&format!("{}/address", i.path().display()))));
        traits.push(host_name());
        traits.sort();
    }
    let digest = Sha256::digest(format!("encke device\n{}", traits.join("\n")).as_bytes());
    hex::encode(&digest[..16])
}

pub(crate) fn host_name() -> String {
    read("/proc/sys/kernel/hostname")
}

pub(crate) fn os_info() -> OSInfo {
    let release = read("/etc/os-release");
    let field = |key: &str| {
        let line = release
            .lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_string()
    };
    OSInfo {
        version: field("VERSION_ID"),
        distribution: field("NAME"),
        build: read("/proc/sys/kernel/osrelease"),
        os: std::env::consts::OS.into(),
        arch: platform().rsplit('/').next().unwrap_or_default().to_string(),
        ..Default::default()
    }
}

/// How strong the machine is, for how often it looks after vaults.
pub(crate) fn power() -> crate::jobs::Power {
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = kib.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok());
    let uptime = read("/proc/uptime");
    crate::jobs::Power {
        memory: kib.unwrap_or(0).saturating_mul(1024),
        uptime: uptime.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0),
    }
}

/// IANA name of the device's time zone.
pub(crate) fn time_zone() -> String {
    let named = read("/etc/timezone");
    if !named.is_empty() {
        return named;
    }
    let link = fs::read_link("/etc/localtime").unwrap_or_default();
    let link = link.to_string_lossy();
    link.split_once("zoneinfo/")
        .map_or_else(|| "UTC".to_string(), |(_, zone)| zone.to_string())
}
