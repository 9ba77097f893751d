//! `encke demo`: everything on one machine, on real data, through the public API alone. Running it again goes on from
//! where it was.

mod client;
mod compare;
mod steps;

use anyhow::{Context as _, bail};
use encke_server::{ServeOptions, Server};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Show everything on this machine: server, device, vault, backup, restore and a shared report.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Folder to back up; a copy of this system's documentation if left out.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Folder of the demonstration's data.
    #[arg(long, default_value = "demo-data")]
    data_dir: PathBuf,
    /// Port on the loopback address.
    #[arg(long, default_value_t = 8060)]
    port: u16,
    /// End after the demonstration instead of leaving the server running.
    #[arg(long)]
    once: bool,
}

/// Runs the command.
pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let data_dir = std::path::absolute(&args.data_dir)?;
        // The loopback address only: the demonstration's password is known to everybody.
        let listen = SocketAddr::from(([127, 0, 0, 1], args.port));
        let options = ServeOptions {
            listen: Some(listen),
            data_dir: data_dir.join("server"),
            database: None,
            acme_directory: encke_server::DEFAULT_ACME_DIRECTORY.into(),
            reports: encke_server::ReportOptions::default(),
            portals: Vec::new(),
        };
        let server = Server::start(options.clone())
            .await
            .context("the demonstration's server could not start")?;
        let stopping = CancellationToken::new();
        let stop = crate::serve::stop_signal()?;
        let demo = steps::Demo {
            url: format!("http://{}", server.address),
            data_dir,
            folder: args.folder,
            stopping: stopping.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let shown = tokio::task::spawn_blocking(move || demo.show());
        let result = tokio::select! {
            shown = shown => shown.context("the demonstration broke off")?,
            () = stop => bail!("stopped before the end"),
        };
        if result.is_ok() && !args.once {
            println!("\nThe server keeps running; stop it with Ctrl-C.");
            let kept = crate::serve::keep(server, options, crate::serve::stop_signal()?).await;
            stopping.cancel();
            return kept;
        }
        stopping.cancel();
        server.stop().await;
        result
    })
}
