//! The `encke` command: server, device agent, repository engine by hand, and the demonstration.

use clap::{Parser, Subcommand};

mod admin;
mod agent;
mod demo;
mod serve;
mod vault;

/// Encke, a self-hosted backup platform.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Admin(admin::AdminArgs),
    Agent(agent::AgentArgs),
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Vault(vault::VaultArgs),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ENCKE_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Admin(args) => admin::run(args),
        Command::Agent(args) => agent::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Vault(args) => vault::run(&args),
    }
}
