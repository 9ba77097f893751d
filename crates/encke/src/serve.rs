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
        // Before the address is told: whoever reads it may ask the server to stop.
        let stop = stop_signal()?;
        println!("Encke listens at http://{}/", server.address);
        if server.app.config().admin_users.is_empty() {
            println!("There is no administrator yet: open the address above to make the first one.");
        }
        stop.await;
        server.stop().await;
        Ok(())
    })
}

/// Catches an interrupt and the service manager's request to stop from now on; the answer waits for one.
pub fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
