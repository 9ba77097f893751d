//! The `encke` command: server, device agent, repository engine by hand, and the demonstration.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

mod admin;
mod agent;
mod demo;
mod report;
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
    Report(report::ReportArgs),
    Serve(serve::ServeArgs),
    Vault(vault::VaultArgs),
}

/// Logs to standard error, and to a file a day (UTC) in a folder where one is given.
fn log_to(folder: Option<PathBuf>) -> anyhow::Result<Option<WorkerGuard>> {
    let filter = EnvFilter::try_from_env("ENCKE_LOG").unwrap_or_else(|_| "info".into());
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let (file, guard) = match folder {
        None => (None, None),
        Some(folder) => {
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let daily = tracing_appender::rolling::Builder::new()
                .rotation(tracing_appender::rolling::Rotation::DAILY)
                .filename_prefix("encke")
                .filename_suffix("log")
                .build(&folder)?;
            let (writer, guard) = tracing_appender::non_blocking(daily);
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(writer);
            (Some(layer), Some(guard))
        }
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(stderr)
        .with(file)
        .init();
    Ok(guard)
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    // Flushes the log file when the program ends.
    let _log_file = log_to(match &command {
        Command::Serve(args) => Some(args.log_folder()),
        _ => None,
    })?;
    match command {
        Command::Admin(args) => admin::run(args),
        Command::Agent(args) => agent::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Report(args) => report::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Vault(args) => vault::run(&args),
    }
}
