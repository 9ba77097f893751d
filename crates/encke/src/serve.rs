//! `encke serve`: runs the server until it is told to stop.

use anyhow::Context as _;
use encke_server::{Ending, ServeOptions, Server};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Run the server: API, event stream, Storage Role, reports and web console.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// Address and port to listen at. Without it the configuration's ListenAddresses hold, or 127.0.0.1:8060.
    #[arg(long, env = "ENCKE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Folder of the database, the keys and the buckets.
    #[arg(long, env = "ENCKE_DATA_DIR", default_value = "/var/lib/encke")]
    data_dir: PathBuf,
    /// PostgreSQL database for the metadata, such as postgresql://encke@db.example.com/encke?sslmode=require. Without
    /// it, SQLite in the data folder. A password is better given in the environment than here.
    #[arg(long, env = "ENCKE_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Directory of the authority (ACME) that certifies the AutoSSLDomains of the configuration. Naming such domains
    /// says yes to its terms.
    #[arg(long, env = "ENCKE_ACME_DIRECTORY", default_value = encke_server::DEFAULT_ACME_DIRECTORY)]
    acme_directory: String,
    /// Folder with files that administrators may watch as sources of reports; once for each.
    #[arg(long = "report-folder", env = "ENCKE_REPORT_FOLDERS", value_delimiter = ':')]
    report_folders: Vec<PathBuf>,
    /// Folder for uploaded rows of reports and files that mails link to, below the data folder without it. Servers that
    /// share a PostgreSQL database need one that all of them reach.
    #[arg(long, env = "ENCKE_REPORT_STORAGE")]
    report_storage: Option<PathBuf>,
    /// Largest file of rows that may be uploaded, in bytes.
    #[arg(long, env = "ENCKE_REPORT_UPLOAD_BYTES", default_value_t = encke_server::ReportOptions::default().upload_bytes)]
    report_upload_bytes: u64,
    /// Room for the uploaded rows of one person, in bytes.
    #[arg(long, env = "ENCKE_REPORT_QUOTA_BYTES", default_value_t = encke_server::ReportOptions::default().quota_bytes)]
    report_quota_bytes: u64,
    /// Origin of a portal that may sign people in to the console and frame it, such as https://portal.example.com; once
    /// for each. Without any, every page may.
    #[arg(long = "portal", env = "ENCKE_PORTALS", value_delimiter = ',', value_parser = origin)]
    portals: Vec<String>,
}

fn origin(text: &str) -> Result<String, String> {
    match encke_server::is_origin(text) {
        true => Ok(text.to_string()),
        false => Err("an origin is a scheme, a host and maybe a port: https://portal.example.com".into()),
    }
}

impl ServeArgs {
    /// Where the log files go.
    pub fn log_folder(&self) -> PathBuf {
        self.data_dir.join(encke_server::LOG_FOLDER)
    }
}

/// Runs the command.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = ServeOptions {
            listen: args.listen,
            data_dir: args.data_dir,
            database: args.database,
            acme_directory: args.acme_directory,
            reports: encke_server::ReportOptions {
                upload_bytes: args.report_upload_bytes,
                quota_bytes: args.report_quota_bytes,
                folders: args.report_folders,
                storage: args.report_storage,
            },
            portals: args.portals,
        };
        let server = start(&options).await?;
        // Before the address is told: whoever reads it may ask the server to stop.
        let stop = stop_signal()?;
        tell(&server);
        keep(server, options, stop).await
    })
}

async fn start(options: &ServeOptions) -> anyhow::Result<Server> {
    Server::start(options.clone())
        .await
        .context("the server could not start")
}

fn tell(server: &Server) {
    println!("Encke listens at {}/", server.url);
    if server.app.config().admin_users.is_empty() {
        println!("There is no administrator yet: open the address above to make the first one.");
    }
}

/// Keeps a server running, over the restarts that an administrator asks for, until it is told to stop.
pub async fn keep(
    mut server: Server,
    mut options: ServeOptions,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let again = tokio::select! {
            () = &mut stop => false,
            ending = server.ended() => ending == Ending::Restart,
        };
        // A port of the system's choice stays the same over a restart.
        options.listen = options.listen.map(|_| server.address);
        server.stop().await;
        if !again {
            return Ok(());
        }
        server = start(&options).await?;
        tell(&server);
    }
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
