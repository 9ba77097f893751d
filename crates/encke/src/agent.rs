//! `encke agent`: the device client.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use encke_agent::{
    Agent, AgentError, Registration, Settings, default_data_dir, register, register_by_token, vault_access,
    wait_in_lobby,
};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// The device client: register this machine, then keep it connected.
#[derive(clap::Args)]
pub struct AgentArgs {
    /// Folder of this device's settings and reports.
    #[arg(long, env = "ENCKE_AGENT_DATA_DIR", global = true)]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Register this machine with an account.
    Register {
        /// The server's address, such as `https://backup.example.org`.
        #[arg(long)]
        server: String,
        /// Account name.
        #[arg(long, required_unless_present = "token")]
        user: Option<String>,
        /// An install token in place of the account's name and password.
        #[arg(long, env = "ENCKE_INSTALL_TOKEN", hide_env_values = true, conflicts_with_all = ["user", "password_file"])]
        token: Option<String>,
        /// File whose first line is the account's password; else the variable ENCKE_PASSWORD, else it is asked for.
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// Six digits, where the account asks for them.
        #[arg(long, default_value = "")]
        totp: String,
        /// Another name than this machine's own.
        #[arg(long)]
        device_name: Option<String>,
        /// Another id than this machine's own.
        #[arg(long)]
        device_id: Option<String>,
        /// Do not let the server's users see file names.
        #[arg(long)]
        no_filenames: bool,
    },
    /// Wait in a server's lobby until an administrator gives this machine an account, then do as `run`. A machine that
    /// is registered already runs at once.
    Lobby {
        /// The server's address, such as `https://backup.example.org`.
        #[arg(long)]
        server: String,
        /// Another name than this machine's own.
        #[arg(long)]
        device_name: Option<String>,
        /// Another id than this machine's own.
        #[arg(long)]
        device_id: Option<String>,
        /// Do not let the server's users see file names.
        #[arg(long)]
        no_filenames: bool,
    },
    /// Stay connected and do what the server asks.
    Run,
    /// Make the agent a service of this system (systemd) and start it. The machine must be registered.
    Install {
        /// Where to write the unit.
        #[arg(long, default_value = encke_agent::UNIT_FOLDER)]
        unit_folder: PathBuf,
        /// Do not start it.
        #[arg(long)]
        no_start: bool,
    },
    /// Take the agent out of the system's services. Its settings stay.
    Uninstall,
    /// Show what this device is registered as.
    Status,
    /// Print how to reach a Storage Vault with stock restic. Keep the output to yourself.
    VaultAccess {
        /// Id of the Storage Vault.
        #[arg(long)]
        destination: String,
    },
}

/// Asks for the password at the terminal, without showing it.
fn ask_password(user: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("give the account's password with --password-file or in ENCKE_PASSWORD");
    }
    eprint!("Password of {user}: ");
    let echo = |what: &str| std::process::Command::new("stty").arg(what).status();
    let hidden = echo("-echo").is_ok_and(|s| s.success());
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if hidden {
        echo("echo")?;
        eprintln!();
    }
    read?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}

fn tell_registered(settings: &Settings) {
    println!(
        "registered as device {} of account {}",
        settings.device_id, settings.username
    );
}

/// Cancelled when the system asks the process to stop.
fn stopping() -> anyhow::Result<CancellationToken> {
    let stopping = CancellationToken::new();
    let (signal, stop) = (stopping.clone(), crate::serve::stop_signal()?);
    tokio::spawn(async move {
        stop.await;
        signal.cancel();
    });
    Ok(stopping)
}

/// Runs the command.
pub fn run(args: AgentArgs) -> anyhow::Result<()> {
    let data_dir = args.data_dir.unwrap_or_else(default_data_dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.command {
        AgentCommand::Register {
            server,
            user,
            token,
            password_file,
            totp,
            device_name,
            device_id,
            no_filenames,
        } => {
            let user = user.unwrap_or_default();
            let password = match password_file {
                Some(path) => crate::vault::first_line(&path)?,
                None if token.is_some() => String::new(),
                None => match std::env::var("ENCKE_PASSWORD") {
                    Ok(password) => password,
                    Err(_) => ask_password(&user)?,
                },
            };
            let registration = Registration {
                server: &server,
                username: &user,
                password: &password,
                totp: &totp,
                device_id: device_id.as_deref(),
                device_name: device_name.as_deref(),
                allows_filenames: !no_filenames,
            };
            let settings = runtime
                .block_on(async {
                    match &token {
                        Some(token) => register_by_token(&registration, token, &data_dir).await,
                        None => register(&registration, &data_dir).await,
                    }
                })
                .context("this device could not be registered")?;
            tell_registered(&settings);
        }
        AgentCommand::Lobby {
            server,
            device_name,
            device_id,
            no_filenames,
        } => runtime.block_on(async {
            let stopping = stopping()?;
            if let Err(AgentError::NotRegistered) = Settings::load(&data_dir) {
                let place = Registration {
                    server: &server,
                    username: "",
                    password: "",
                    totp: "",
                    device_id: device_id.as_deref(),
                    device_name: device_name.as_deref(),
                    allows_filenames: !no_filenames,
                };
                let settings = wait_in_lobby(&place, &data_dir, &stopping)
                    .await
                    .context("this device can not wait in the lobby")?;
                let Some(settings) = settings else { return Ok(()) };
                tell_registered(&settings);
            }
            Agent::run(&data_dir, stopping)
                .await
                .context("the agent could not run")
        })?,
        AgentCommand::Run => runtime.block_on(async {
            Agent::run(&data_dir, stopping()?)
                .await
                .context("the agent could not run")
        })?,
        AgentCommand::Install {
            unit_folder,
            no_start,
        } => {
            let program = std::env::current_exe().context("this program's own path is not known")?;
            let unit = encke_agent::install(&data_dir, &program, &unit_folder, !no_start)?;
            println!("installed as {}", unit.display());
        }
        AgentCommand::Uninstall => {
            if !encke_agent::uninstall(&data_dir, true)? {
                bail!("the agent was not installed from {}", data_dir.display());
            }
            println!("uninstalled");
        }
        AgentCommand::Status => {
            let settings = Settings::load(&data_dir)?;
            println!("server   {}", settings.server);
            println!("account  {}", settings.username);
            println!("device   {} ({})", settings.device_id, settings.device_name);
        }
        AgentCommand::VaultAccess { destination } => {
            let access = runtime.block_on(vault_access(&data_dir, &destination))?;
            println!(
                "RESTIC_REPOSITORY={}\nRESTIC_PASSWORD={}",
                access.repository, access.password
            );
            for (name, value) in access.environment {
                println!("{name}={value}");
            }
        }
    }
    Ok(())
}
