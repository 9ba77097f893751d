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
const UNIT_FOLDER: &str = "/etc/systemd/system";
/// Remembers in the data folder what was installed.
const FILE: &str = "installed.json";

/// How the agent is made a service.
pub struct Service<'a> {
    /// Where to write the unit; where the caller's own units lie if not given: those of the system for root, else those
    /// of the user.
    pub unit_folder: Option<&'a Path>,
    /// Wait in the lobby of the server of this address until the machine has an account.
    pub lobby: Option<&'a str>,
    /// Start it.
    pub start: bool,
    /// Start it anew if it runs.
    pub restart: bool,
}

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

fn unit(program: &Path, data_dir: &Path, lobby: Option<&str>, is_root: bool) -> AgentResult<String> {
    let command = match lobby {
        None => "run".to_string(),
        Some(server) => format!("lobby --server {}", quoted(Path::new(server))?),
    };
    // A user's own manager knows nothing of the system's network.
    let (order, target) = if is_root {
        (
            "Wants=network-online.target\nAfter=network-online.target time-sync.target\n",
            "multi-user.target",
        )
    } else {
        ("", "default.target")
    };
    Ok(format!(
        "[Unit]\n\
         Description=Encke backup agent\n\
         {order}\
         \n\
         [Service]\n\
         ExecStart={} agent --data-dir {} {command}\n\
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
         WantedBy={target}\n",
        quoted(program)?,
        quoted(data_dir)?
    ))
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Where the caller's own units lie.
fn own_folder() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config"));
    match config.or(home) {
        Some(config) if !is_root() => config.join("systemd/user"),
        _ => UNIT_FOLDER.into(),
    }
}

/// Whether systemd runs this system, or the user's services.
fn has_systemd() -> bool {
    if is_root() {
        return Path::new("/run/systemd/system").is_dir();
    }
    std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|d| Path::new(&d).join("systemd/private").exists())
}

/// Whether systemd is to be told of a unit: it reads those of its own folders alone.
fn is_managed(unit: &Path) -> bool {
    has_systemd() && unit.parent() == Some(own_folder().as_path())
}

fn systemctl(arguments: &[&str]) -> AgentResult<()> {
    let user: &[&str] = if is_root() { &[] } else { &["--user"] };
    let ended = Command::new("systemctl").args(user).args(arguments).output();
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

/// Writes the unit that runs `program` for a registered device, or one that waits in a lobby, and starts it if systemd
/// runs and the service is to start. Answers the unit's path, and whether it was started.
///
/// # Errors
/// The device is not registered and is not to wait in a lobby, or the unit can not be written or started.
pub fn install(data_dir: &Path, program: &Path, service: &Service<'_>) -> AgentResult<(PathBuf, bool)> {
    if service.lobby.is_none() {
        crate::Settings::load(data_dir)?;
    }
    let data_dir = &std::path::absolute(data_dir).map_err(error(data_dir))?;
    let own = own_folder();
    let folder = service.unit_folder.unwrap_or(&own);
    if service.unit_folder.is_none() && !is_root() {
        fs::create_dir_all(folder).map_err(error(folder))?;
    }
    let path = folder.join(UNIT);
    fs::write(&path, unit(program, data_dir, service.lobby, is_root())?).map_err(error(&path))?;
    let installed = Installed { unit: path.clone() };
    let text = serde_json::to_vec(&installed).map_err(|e| AgentError::Protocol(e.to_string()))?;
    write_private(data_dir, FILE, &text)?;
    let started = service.start && is_managed(&path);
    if started {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--now", UNIT])?;
        if service.restart {
            systemctl(&["restart", UNIT])?;
        }
        if !is_root() {
            // Else the service ends when the user logs out. Where it is not allowed, that is how it stays.
            let _ = Command::new("loginctl").arg("enable-linger").output();
        }
    }
    Ok((path, started))
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
    if is_managed(&installed.unit) {
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
    if is_managed(&installed.unit) {
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
    const OWN: [&str; 9] = [
        "agent.json",
        "update.json",
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
        let text = unit(
            Path::new("/opt/a \"b\"%n$HOME\\x"),
            Path::new("/var/lib/e"),
            None,
            true,
        )
        .unwrap();
        let line = text.lines().find(|l| l.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            line,
            "ExecStart=\"/opt/a \\\"b\\\"%%n$$HOME\\\\x\" agent --data-dir \"/var/lib/e\" run"
        );
        assert!(unit(Path::new("/a\nExecStartPre=/b"), Path::new("/"), None, true).is_err());
        let text = unit(Path::new("/a"), Path::new("/d"), Some("https://b"), false).unwrap();
        assert!(
            text.contains("agent --data-dir \"/d\" lobby --server \"https://b\"\n"),
            "{text}"
        );
        assert!(
            text.contains("WantedBy=default.target") && !text.contains("network"),
            "{text}"
        );
    }
}
