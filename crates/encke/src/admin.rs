//! `encke admin`: what needs no running server.

use anyhow::Context as _;
use clap::Subcommand;
use std::path::PathBuf;

/// Tools that need no running server.
#[derive(clap::Args)]
pub struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Subcommand)]
enum AdminCommand {
    /// Write the API reference: Markdown files and the OpenAPI document.
    ApiReference {
        /// Folder to write into.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: AdminArgs) -> anyhow::Result<()> {
    match args.command {
        AdminCommand::ApiReference { out } => {
            std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
            let table = encke_server::table::Table::new(encke_server::all_routes());
            for (name, text) in encke_server::reference::files(&table) {
                let path = out.join(name);
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            }
            Ok(())
        }
    }
}
