//! `encke serve`: runs the server until it is told to stop.

use anyhow::Context as _;
use encke_server::{ServeOptions, Server};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Run the server: API, event stream, Storage Role, reports and web console.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// Address and port to listen at.
    #[arg(long, env = "ENCKE_LISTEN", default_value = "127.0.0.1:8060")]
    listen: SocketAddr,
    /// Folder of the database, the keys and the buckets.
    #[arg(long, env = "ENCKE_DATA_DIR", default_value = "/var/lib/encke")]
    data_dir: PathBuf,
}

/// Runs the command.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start(ServeOptions {
            listen: args.listen,
            data_dir: args.data_dir,
        })
        .await
        .context("the server could not start")?;
        println!("Encke listens at http://{}/", server.address);
        if server.app.config().admin_users.is_empty() {
            println!("There is no administrator yet: open the address above to make the first one.");
        }
        stop_signal().await?;
        server.stop().await;
        Ok(())
    })
}

/// Waits for an interrupt or the service manager's request to stop.
pub async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        r = tokio::signal::ctrl_c() => r?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
