//! Ranks this program's requests of the disk behind those of others. The system's own `ionice` does it: the kernel's call
//! is in none of the libraries used here, and threads that are started later inherit it.

use anyhow::{Context as _, ensure};
use std::process::Command;

/// How requests are ranked. Schedulers such as `mq-deadline` and `bfq` go by it.
#[derive(Clone, Copy)]
pub enum IoPriority {
    /// Served when nobody else asks.
    Idle,
    /// Among all others, from 0 (first) to 7 (last).
    Level(u8),
}

impl std::str::FromStr for IoPriority {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(level @ 0..=7) => Ok(Self::Level(level)),
            _ if text == "idle" => Ok(Self::Idle),
            _ => Err("idle, or a number from 0 (first) to 7 (last)"),
        }
    }
}

impl IoPriority {
    /// Takes effect for this thread and those that it starts from here on.
    ///
    /// # Errors
    /// There is no `ionice`, or the system does not let it.
    pub fn apply(self) -> anyhow::Result<()> {
        let mut command = Command::new("ionice");
        match self {
            Self::Idle => command.args(["-c", "3"]),
            Self::Level(level) => command.args(["-c", "2", "-n", &level.to_string()]),
        };
        command.args(["-p", &std::process::id().to_string()]);
        let done = command
            .output()
            .context("--io-priority needs the program ionice (package util-linux)")?;
        ensure!(
            done.status.success(),
            "the priority for the disk can not be set: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
        Ok(())
    }
}
