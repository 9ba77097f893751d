//! Subvolumes of btrfs, by its own tools (package btrfs-progs).

use super::PREFIX;
use crate::error::{AgentError, AgentResult};
use crate::tools::{lines, tool};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of every subvolume's own folder (btrfs documentation, "Subvolumes", section "Inode numbers").
const SUBVOLUME: u64 = 256;

fn command(arguments: &[&str]) -> AgentResult<Command> {
    let mut command = Command::new(tool("", &["btrfs"])?);
    command.args(arguments);
    Ok(command)
}

fn is_subvolume(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|m| m.is_dir() && m.ino() == SUBVOLUME)
}

/// The subvolume that holds a path, not looking above a mount point.
pub(super) fn around(path: &Path, mount_point: &Path) -> Option<PathBuf> {
    let mut above = path.ancestors().take_while(|a| a.starts_with(mount_point));
    above.find(|a| is_subvolume(a)).map(Path::to_path_buf)
}

/// Where subvolumes stand, by what `btrfs subvolume list` and the first line of `show` tell: paths from the file
/// system's own root.
fn below(subvolume: &Path, own: &str, listed: &[String]) -> Vec<PathBuf> {
    let within = |line: &String| {
        let path = line.split_once(" path ")?.1;
        let rest = match own {
            "/" => path,
            own => path.strip_prefix(own)?.strip_prefix('/')?,
        };
        Some(subvolume.join(rest))
    };
    listed.iter().filter_map(within).collect()
}

/// The subvolumes directly within one, but for snapshots of this program's.
pub(super) fn within(subvolume: &Path) -> AgentResult<Vec<PathBuf>> {
    let mut list = command(&["subvolume", "list", "-o"])?;
    list.arg(subvolume);
    let listed = lines(list)?;
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let mut show = command(&["subvolume", "show"])?;
    show.arg(subvolume);
    let shown = lines(show)?;
    let own = shown.first().map_or("/", String::as_str);
    let mut found = below(subvolume, own, &listed);
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with(PREFIX) && is_subvolume(path)
    });
    Ok(found)
}

/// Whether nobody can write to a subvolume.
pub(super) fn is_read_only(subvolume: &Path) -> AgentResult<bool> {
    let mut get = command(&["property", "get", "-t", "subvol"])?;
    get.arg(subvolume).arg("ro");
    Ok(lines(get)?.iter().any(|line| line == "ro=true"))
}

pub(super) fn snapshot(subvolume: &Path, copy: &Path) -> AgentResult<()> {
    let mut make = command(&["subvolume", "snapshot", "-r"])?;
    make.arg(subvolume).arg(copy);
    lines(make).map(drop)
}

pub(super) fn remove(copy: &Path) -> AgentResult<()> {
    let name = copy.file_name().unwrap_or_default().to_string_lossy();
    let parent = copy.parent().unwrap_or(Path::new("/"));
    // Whatever else a note may say, nothing but a snapshot of this program's is removed.
    if !name.starts_with(PREFIX) {
        return Err(AgentError::Invalid(format!(
            "{} is no snapshot of this program's",
            copy.display()
        )));
    }
    if !is_subvolume(parent) {
        return Err(AgentError::Invalid(format!(
            "{} is not mounted at present",
            parent.display()
        )));
    }
    if !copy.exists() {
        return Ok(());
    }
    let mut delete = command(&["subvolume", "delete"])?;
    delete.arg(copy);
    lines(delete).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_from_the_file_systems_root_become_paths_here() {
        let listed = [
            "ID 257 gen 7 top level 256 path @home/x/nested".to_string(),
            "ID 258 gen 7 top level 256 path @home/a path b".to_string(),
            "ID 259 gen 7 top level 5 path @homes/other".to_string(),
        ];
        let found = below(Path::new("/home"), "@home", &listed);
        assert_eq!(
            found,
            [PathBuf::from("/home/x/nested"), PathBuf::from("/home/a path b")]
        );
        let found = below(Path::new("/mnt"), "/", &listed[2..]);
        assert_eq!(found, [PathBuf::from("/mnt/@homes/other")]);
    }
}
