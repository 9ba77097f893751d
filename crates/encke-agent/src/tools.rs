//! The system's own programs, run to their end.

use crate::error::{AgentError, AgentResult};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Longest complaint of a tool that is passed on, in bytes.
const MAX_COMPLAINT: usize = 2000;

/// The first of some programs that the system has.
pub(crate) fn tool(own: &str, names: &[&str]) -> AgentResult<PathBuf> {
    if !own.is_empty() {
        return Ok(own.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = names.iter().flat_map(|n| folders.iter().map(move |f| f.join(n)));
    all.into_iter().find(|p| p.is_file()).ok_or_else(|| {
        AgentError::Invalid(format!(
            "none of the programs {} is installed on the device",
            names.join(", ")
        ))
    })
}

/// Runs a tool to its end; the lines it writes.
pub(crate) fn lines(mut command: Command) -> AgentResult<Vec<String>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let ended = command.stdin(Stdio::null()).output();
    let ended = ended.map_err(|e| AgentError::Invalid(format!("{program} can not be run: {e}")))?;
    if !ended.status.success() {
        let shown = ended.stderr.get(..MAX_COMPLAINT).unwrap_or(&ended.stderr);
        let complaint = String::from_utf8_lossy(shown).trim().to_string();
        return Err(AgentError::Invalid(format!("{program}: {complaint}")));
    }
    let text = String::from_utf8_lossy(&ended.stdout);
    Ok(text
        .lines()
        .filter(|l| !l.is_empty())
        .map(str::to_string)
        .collect())
}
