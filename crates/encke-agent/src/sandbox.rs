//! Devices that the account confines to home directories (`LinuxHomedirSandbox`): nothing outside of them is read or
//! written for the account, and no command of its is run.

use crate::error::{AgentError, AgentResult};
use encke_api::constants::{ENGINE_BUILTIN_FILE, ENGINE_BUILTIN_STDOUT, ENGINE_BUILTIN_WINDISK};
use encke_api::types::{SourceConfig, SourceIncludePattern, UserProfileConfig};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// People's accounts begin at this number on Linux; 0 is root.
const FIRST_PERSON: u32 = 1000;
/// The account of nobody.
const NOBODY: u32 = 65_534;

/// Home directories of people, by the system's list of accounts.
fn homes(passwd: &str) -> Vec<PathBuf> {
    let home = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let id: u32 = fields.get(2)?.parse().ok()?;
        let home = PathBuf::from(fields.get(5)?);
        let is_person = id == 0 || (id >= FIRST_PERSON && id != NOBODY);
        (is_person && home.is_absolute() && home.parent().is_some()).then_some(home)
    };
    passwd.lines().filter_map(home).collect()
}

/// Where a path leads once its links are followed; what does not exist yet stays as it is named.
fn resolved(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return None;
    }
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        if let Ok(real) = fs::canonicalize(at) {
            return Some(missing.iter().rev().fold(real, |path, name| path.join(name)));
        }
        // A link that leads nowhere could be made to lead anywhere.
        if at.is_symlink() {
            return None;
        }
        missing.push(at.file_name()?);
        at = at.parent()?;
    }
}

fn is_inside(path: &Path, homes: &[PathBuf]) -> bool {
    resolved(path).is_some_and(|p| homes.iter().any(|h| p.starts_with(h)))
}

/// Refuses a path outside of home directories, if the account confines its devices.
pub(crate) fn check(profile: &UserProfileConfig, path: &Path) -> AgentResult<()> {
    if !profile.linux_homedir_sandbox {
        return Ok(());
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if is_inside(path, &homes(&passwd)) {
        return Ok(());
    }
    refuse(&format!("'{}' is in no home directory", path.display()))
}

/// Refuses what reaches beyond home directories by its nature.
pub(crate) fn check_free(profile: &UserProfileConfig, what: &str) -> AgentResult<()> {
    if profile.linux_homedir_sandbox {
        return refuse(&format!("{what} can reach beyond home directories"));
    }
    Ok(())
}

/// Refuses a Protected Item that reaches outside of home directories.
pub(crate) fn check_item(profile: &UserProfileConfig, source: &SourceConfig) -> AgentResult<()> {
    if !profile.linux_homedir_sandbox {
        return Ok(());
    }
    match source.engine.as_str() {
        ENGINE_BUILTIN_FILE => {}
        ENGINE_BUILTIN_STDOUT | ENGINE_BUILTIN_WINDISK => return check_free(profile, "this type of item"),
        _ if source.engine_props.contains_key("DUMP_PROGRAM") => {
            return check_free(profile, "a program of the item's own");
        }
        _ => return Ok(()),
    }
    for (key, value) in &source.engine_props {
        if key.starts_with("INCLUDE") {
            check(profile, Path::new(value))?;
        } else if key.starts_with("PINCLUDE") || key.starts_with("RINCLUDE") {
            let pattern: SourceIncludePattern = serde_json::from_str(value)
                .map_err(|e| AgentError::Invalid(format!("the item's {key} can not be read: {e}")))?;
            check(profile, Path::new(&pattern.top_directory))?;
        }
    }
    Ok(())
}

fn refuse(why: &str) -> AgentResult<()> {
    Err(AgentError::Server {
        status: 403,
        message: format!("The account confines its devices to home directories: {why}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn people_have_homes_and_services_have_none() {
        let passwd = "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:/x\nann:x:1000:1000::/home/ann:/x\n\
                      odd:x:1001:1001::/:/x\nnobody:x:65534:65534::/nonexistent:/x\nbroken\n";
        assert_eq!(
            homes(passwd),
            [PathBuf::from("/root"), PathBuf::from("/home/ann")]
        );
    }

    #[test]
    fn no_link_and_no_dots_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(folder.path()).unwrap();
        let (home, outside) = (top.join("home"), top.join("outside"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, home.join("link")).unwrap();
        symlink(top.join("nowhere"), home.join("dangling")).unwrap();
        let homes = [home.clone()];
        for (path, inside) in [
            (home.clone(), true),
            (home.join("new/deep"), true),
            (outside.clone(), false),
            (home.join("link"), false),
            (home.join("link/new"), false),
            (home.join("dangling"), false),
            (home.join("../outside"), false),
            (home.join("new/../../outside"), false),
            (top.join("home2"), false),
            (PathBuf::from("relative"), false),
        ] {
            assert_eq!(is_inside(&path, &homes), inside, "{}", path.display());
        }
    }
}
