//! Volumes of LVM, by its own tools (package lvm2).

use super::mounts;
use crate::error::{AgentError, AgentResult};
use crate::tools::{lines, tool};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Command;

/// Room for what is written to the volume while its snapshot exists: this part of the volume, as far as there is room.
const ROOM_PART: u64 = 10;
/// The least room that makes sense, in bytes.
const LEAST_ROOM: u64 = 4 << 20;

/// A volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub group: String,
    pub name: String,
    /// Whether it takes its room from a pool: its snapshots do so too.
    is_thin: bool,
    /// Bytes.
    size: u64,
    /// Bytes that nobody has in the group.
    free: u64,
}

/// LVM looks at its open files and complains about those of others.
fn command(program: &str, more: &[&str]) -> AgentResult<Command> {
    let mut command = Command::new(tool("", &[program])?);
    command.env("LVM_SUPPRESS_FD_WARNINGS", "1").args(more);
    Ok(command)
}

/// The volume behind a device; nothing if there is none. `more` are options for all of LVM's tools.
pub(super) fn find(device: &str, more: &[&str]) -> AgentResult<Option<Volume>> {
    let is_mapped = device.starts_with("/dev/mapper/") || device.starts_with("/dev/dm-");
    if !is_mapped {
        return Ok(None);
    }
    let mut list = command("lvs", more)?;
    list.args(["--reportformat", "json", "--units", "b", "--nosuffix"]);
    list.args(["-o", "vg_name,lv_name,pool_lv,lv_size,vg_free", device]);
    read(&lines(list)?.join("\n"))
}

/// What `lvs` tells of a volume.
fn read(report: &str) -> AgentResult<Option<Volume>> {
    let broken = |e: String| AgentError::Invalid(format!("what lvs told can not be read: {e}"));
    let report: serde_json::Value = serde_json::from_str(report).map_err(|e| broken(e.to_string()))?;
    let Some(found) = report.pointer("/report/0/lv/0") else {
        return Ok(None);
    };
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_string();
    let number = |key: &str| {
        text(key)
            .parse()
            .map_err(|_| broken(format!("{key} is no number")))
    };
    Ok(Some(Volume {
        group: text("vg_name"),
        name: text("lv_name"),
        is_thin: !text("pool_lv").is_empty(),
        size: number("lv_size")?,
        free: number("vg_free")?,
    }))
}

/// The room a snapshot gets, in bytes; nothing for one that takes it from its pool.
fn room(volume: &Volume) -> AgentResult<Option<u64>> {
    if volume.is_thin {
        return Ok(None);
    }
    let room = (volume.size / ROOM_PART).max(LEAST_ROOM).min(volume.free);
    if room < LEAST_ROOM {
        return Err(AgentError::Invalid(format!(
            "the volume group {} has only {} bytes left",
            volume.group, volume.free
        )));
    }
    Ok(Some(room))
}

/// Makes a snapshot. It can be written to, since mounting it finishes what the file system had begun.
pub(super) fn snapshot(volume: &Volume, name: &str, more: &[&str]) -> AgentResult<()> {
    let mut make = command("lvcreate", more)?;
    make.args(["--yes", "--quiet", "--snapshot", "--name", name]);
    match room(volume)? {
        Some(bytes) => make.arg("--size").arg(format!("{bytes}b")),
        // Those of a pool are not switched on by themselves.
        None => make.args(["--setactivationskip", "n", "--activate", "y"]),
    };
    make.arg(format!("{}/{}", volume.group, volume.name));
    lines(make).map(drop)
}

/// Mounts a snapshot, so that it can only be read.
pub(super) fn mount(volume: &Volume, name: &str, kind: &str, place: &Path) -> AgentResult<()> {
    let error = |error| AgentError::File {
        path: place.to_path_buf(),
        error,
    };
    fs::DirBuilder::new().mode(0o700).create(place).map_err(error)?;
    let mut mount = Command::new(tool("", &["mount"])?);
    // Two file systems of one name are refused by XFS unless told so.
    let options = if kind == "xfs" { "ro,nouuid" } else { "ro" };
    mount.args(["-t", kind, "-o", options]);
    mount.arg(format!("/dev/{}/{name}", volume.group)).arg(place);
    lines(mount).map(drop)
}

pub(super) fn remove(volume: &str, mounted: &Path) -> AgentResult<()> {
    if mounts::table()?.iter().any(|m| m.point == mounted) {
        let mut unmount = Command::new(tool("", &["umount"])?);
        unmount.arg(mounted);
        lines(unmount)?;
    }
    match fs::remove_dir(mounted) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(AgentError::File {
                path: mounted.to_path_buf(),
                error,
            });
        }
        _ => {}
    }
    take_away(volume, &[])
}

fn take_away(volume: &str, more: &[&str]) -> AgentResult<()> {
    let mut list = command("lvs", more)?;
    list.args(["--noheadings", "-o", "lv_name", volume]);
    match lines(list) {
        Err(AgentError::Invalid(why)) if why.contains("Failed to find logical volume") => return Ok(()),
        found => found?,
    };
    let mut remove = command("lvremove", more)?;
    remove.args(["--yes", "--quiet", volume]);
    lines(remove).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(is_thin: bool, size: u64, free: u64) -> Volume {
        Volume {
            group: "g".into(),
            name: "v".into(),
            is_thin,
            size,
            free,
        }
    }

    #[test]
    fn a_snapshot_gets_a_tenth_of_the_volume_or_what_is_left() {
        assert_eq!(
            room(&volume(false, 1 << 30, 1 << 40)).unwrap(),
            Some((1 << 30) / 10)
        );
        assert_eq!(room(&volume(false, 1 << 30, 50 << 20)).unwrap(), Some(50 << 20));
        assert_eq!(room(&volume(false, 1 << 20, 1 << 30)).unwrap(), Some(4 << 20));
        assert!(room(&volume(false, 1 << 30, 1 << 20)).is_err());
        assert_eq!(room(&volume(true, 1 << 30, 0)).unwrap(), None);
    }

    /// With the real tools, told not to ask the kernel: this system may have no device mapper. Everything but the
    /// kernel's part of a snapshot is theirs.
    #[test]
    fn the_tools_of_lvm_understand_what_they_are_asked() {
        const NO_KERNEL: [&str; 2] = ["--config", "global { activation = 0 }"];
        let run = |program: &str, arguments: &[&str]| {
            let mut command = command(program, &NO_KERNEL)?;
            lines({
                command.args(arguments);
                command
            })
        };
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        let attached = tool("", &["losetup"]).and_then(|losetup| {
            let mut command = Command::new(losetup);
            command.args(["--find", "--show"]).arg(&disk);
            lines(command)
        });
        let (Ok(attached), Ok(_)) = (attached, tool("", &["lvcreate"])) else {
            eprintln!("no loop devices, or lvm2 is not installed: not tested");
            return;
        };
        struct Detached(String);
        impl Drop for Detached {
            fn drop(&mut self) {
                let _ = Command::new("losetup").args(["--detach", &self.0]).status();
            }
        }
        let device = Detached(attached[0].clone());
        let group = format!("encke-test-{}", std::process::id());
        run("vgcreate", &[&group, &device.0]).unwrap();
        run(
            "lvcreate",
            &[
                "-an", "-Zn", "-Wn", "--yes", "--name", "data", "--size", "24M", &group,
            ],
        )
        .unwrap();
        let mapped = format!("/dev/mapper/{}-data", group.replace('-', "--"));
        let found = find(&mapped, &NO_KERNEL).unwrap().unwrap();
        let made = snapshot(&found, "encke_snapshot_1", &NO_KERNEL);
        let gone = take_away(&format!("{group}/encke_snapshot_1"), &NO_KERNEL);
        let removed = take_away(&format!("{group}/data"), &NO_KERNEL);
        let left = find(&mapped, &NO_KERNEL);
        run("vgremove", &["--force", &group]).unwrap();
        assert_eq!(
            (found.group.as_str(), found.name.as_str()),
            (group.as_str(), "data")
        );
        assert!(
            !found.is_thin && found.size == 24 << 20 && found.free > 30 << 20,
            "{found:?}"
        );
        let refused = made.unwrap_err().to_string();
        assert!(refused.contains("without using device-mapper"), "{refused}");
        gone.unwrap();
        removed.unwrap();
        assert!(left.is_err() || left.is_ok_and(|v| v.is_none()));
        assert_eq!(find("/dev/sda1", &NO_KERNEL).unwrap(), None);
    }
}
