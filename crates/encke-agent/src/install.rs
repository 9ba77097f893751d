//! The agent as a service of the system (systemd), put there and taken away by one command.

use crate::error::{AgentError, AgentResult};
use crate::settings::write_private;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the unit.
pub const UNIT: &str = "encke-agent.service";
/// Where an administrator's own units lie.
pub const UNIT_FOLDER: &str = "/etc/systemd/system";
/// Remembers in the data folder what was installed.
const FILE: &str = "installed.json";

#[derive(Serialize, Deserialize)]
struct Installed {
    unit: PathBuf,
}

fn error(path: &Path) -> impl FnOnce(std::io::Error) -> AgentError + '_ {
    move |error| AgentError::File {
        path: path.to_path_buf(),
        error,
    }
}

/// A path in a unit file.
fn quoted(path: &Path) -> AgentResult<String> {
    let text = path.to_str().filter(|t| !t.contains(['\n', '\r']));
    let text =
        text.ok_or_else(|| AgentError::Invalid(format!("{} can not stand in a unit", path.display())))?;
    Ok(format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('%', "%%")
            .replace('$', "$$")
    ))
}

fn unit(program: &Path, data_dir: &Path) -> AgentResult<String> {
    Ok(format!(
        "[Unit]\n\
         Description=Encke backup agent\n\
         Wants=network-online.target\n\
         After=network-online.target time-sync.target\n\
         \n\
         [Service]\n\
         ExecStart={} agent --data-dir {} run\n\
         # Ended from the console it stays ended.\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         KillMode=mixed\n\
         TimeoutStopSec=30\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         LockPersonality=yes\n\
         RestrictRealtime=yes\n\
         Nice=5\n\
         IOSchedulingClass=best-effort\n\
         IOSchedulingPriority=6\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        quoted(program)?,
        quoted(data_dir)?
    ))
}

/// Whether systemd runs this system.
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn systemctl(arguments: &[&str]) -> AgentResult<()> {
    let ended = Command::new("systemctl").args(arguments).output();
    let ended = ended.map_err(|e| AgentError::Invalid(format!("systemctl can not be run: {e}")))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(AgentError::Invalid(format!(
        "systemctl {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&ended.stderr).trim()
    )))
}

/// Writes the unit that runs `program` for a registered device, and starts it if the system runs systemd and `start` is
/// set. Answers the unit's path.
///
/// # Errors
/// The device is not registered, or the unit can not be written or started.
pub fn install(data_dir: &Path, program: &Path, unit_folder: &Path, start: bool) -> AgentResult<PathBuf> {
    crate::Settings::load(data_dir)?;
    let data_dir = &std::path::absolute(data_dir).map_err(error(data_dir))?;
    let path = unit_folder.join(UNIT);
    fs::write(&path, unit(program, data_dir)?).map_err(error(&path))?;
    let installed = Installed { unit: path.clone() };
    let text = serde_json::to_vec(&installed).map_err(|e| AgentError::Protocol(e.to_string()))?;
    write_private(data_dir, FILE, &text)?;
    if start && has_systemd() {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--now", UNIT])?;
    }
    Ok(path)
}

/// Takes away what [`install`] put there. `stop` ends the running service too; without it the caller is the service and
/// ends by itself. Answers whether there was anything.
///
/// # Errors
/// The unit can not be removed.
pub fn uninstall(data_dir: &Path, stop: bool) -> AgentResult<bool> {
    let note = data_dir.join(FILE);
    let Ok(text) = fs::read(&note) else {
        return Ok(false);
    };
    let installed: Installed = serde_json::from_slice(&text)
        .map_err(|e| AgentError::Protocol(format!("{}: {e}", note.display())))?;
    if has_systemd() && installed.unit.starts_with(UNIT_FOLDER) {
        let arguments: &[&str] = if stop {
            &["disable", "--now", UNIT]
        } else {
            &["disable", UNIT]
        };
        systemctl(arguments)?;
    }
    match fs::remove_file(&installed.unit) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(error(&installed.unit)(e)),
        _ => {}
    }
    fs::remove_file(&note).map_err(error(&note))?;
    if has_systemd() && installed.unit.starts_with(UNIT_FOLDER) {
        systemctl(&["daemon-reload"])?;
    }
    Ok(true)
}

/// Removes what belongs to the account: the machine has to be registered again.
pub(crate) fn forget_login(data_dir: &Path) {
    // What was not delivered belongs to the account as well: another one must not be told.
    for name in [
        "agent.json",
        "profile.sealed",
        "schedule.json",
        "spool.db",
        "spool.db-wal",
        "spool.db-shm",
    ] {
        let _ = fs::remove_file(data_dir.join(name));
    }
}

/// Removes a device's settings and everything else the agent kept, but for what is not its own.
pub(crate) fn forget(data_dir: &Path) {
    const OWN: [&str; 8] = [
        "agent.json",
        "profile.sealed",
        "schedule.json",
        "spool.db",
        "spool.db-wal",
        "spool.db-shm",
        FILE,
        "lock",
    ];
    for name in OWN {
        let _ = fs::remove_file(data_dir.join(name));
    }
    let _ = fs::remove_dir_all(data_dir.join("cache"));
    // Only if nothing else lies there.
    let _ = fs::remove_dir(data_dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_holds_any_path() {
        let text = unit(Path::new("/opt/a \"b\"%n$HOME\\x"), Path::new("/var/lib/e")).unwrap();
        let line = text.lines().find(|l| l.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            line,
            "ExecStart=\"/opt/a \\\"b\\\"%%n$$HOME\\\\x\" agent --data-dir \"/var/lib/e\" run"
        );
        assert!(unit(Path::new("/a\nExecStartPre=/b"), Path::new("/")).is_err());
    }
}
