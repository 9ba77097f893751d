//! The `encke` command: server, device agent, repository engine by hand, and the demonstration.

use clap::{Parser, Subcommand};

/// Encke, a self-hosted backup platform.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {}
}
