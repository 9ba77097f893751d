//! `encke agent`: the device client.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use encke_agent::{
    Agent, AgentError, Ended, Registration, Service, Settings, default_data_dir, put_back, register,
    register_by_token, vault_access, wait_in_lobby,
};
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
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
        /// The server's address, such as `https://backup.example.org`; the one this program was installed from if left
        /// out.
        #[arg(long, env = "ENCKE_SERVER")]
        server: Option<String>,
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
        /// The server's address, such as `https://backup.example.org`; the one this program was installed from if left
        /// out.
        #[arg(long, env = "ENCKE_SERVER")]
        server: Option<String>,
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
    /// Make the agent a service (systemd) and start it: one of the system for root, else one of the user. The machine
    /// must be registered, unless it is to wait in the lobby.
    Install {
        /// Where to write the unit, instead of where systemd looks for it.
        #[arg(long, env = "ENCKE_UNIT_FOLDER")]
        unit_folder: Option<PathBuf>,
        /// Do not start it.
        #[arg(long)]
        no_start: bool,
        /// Wait in the lobby of the server of this address until an administrator gives this machine an account.
        #[arg(long)]
        lobby: Option<String>,
        /// Start it anew if it runs already.
        #[arg(long, conflicts_with = "no_start")]
        restart: bool,
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

/// The address that was given, else the one that the installation noted beside the program.
fn server_address(given: Option<String>) -> anyhow::Result<String> {
    if let Some(server) = given {
        return Ok(server);
    }
    let noted = || {
        let program = std::env::current_exe().ok()?;
        let noted = program.parent()?.parent()?.join("share/encke/server");
        let text = std::fs::read_to_string(noted).ok()?;
        Some(text.trim().to_string()).filter(|t| !t.is_empty())
    };
    noted().context("give the server's address with --server")
}

/// Goes on as the program that lies in this one's place, if the agent says so.
fn go_on(ended: Ended, data_dir: &Path) -> anyhow::Result<()> {
    let Ended::Replaced(program) = ended else {
        return Ok(());
    };
    let start = |program: &Path| Command::new(program).args(std::env::args_os().skip(1)).exec();
    // Comes back only if the program can not be loaded.
    let error = start(&program);
    let problem = format!("the new program can not be started: {error}");
    if let Some(old) = put_back(data_dir, &problem)? {
        bail!("{}: {}", old.display(), start(&old));
    }
    bail!(problem)
}

async fn run_agent(data_dir: &Path, stopping: CancellationToken) -> anyhow::Result<Ended> {
    Agent::run(data_dir, stopping)
        .await
        .context("the agent could not run")
}

/// Tasks of the agent have this long to end before another program takes its place.
const LAST_TASKS: Duration = Duration::from_secs(5);

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
            let (server, user) = (server_address(server)?, user.unwrap_or_default());
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
        } => {
            let server = server_address(server)?;
            let ended = runtime.block_on(async {
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
                    let Some(settings) = settings else {
                        return Ok(Ended::Stopped);
                    };
                    tell_registered(&settings);
                }
                run_agent(&data_dir, stopping).await
            })?;
            runtime.shutdown_timeout(LAST_TASKS);
            go_on(ended, &data_dir)?;
        }
        AgentCommand::Run => {
            let ended = runtime.block_on(async { run_agent(&data_dir, stopping()?).await })?;
            runtime.shutdown_timeout(LAST_TASKS);
            go_on(ended, &data_dir)?;
        }
        AgentCommand::Install {
            unit_folder,
            no_start,
            lobby,
            restart,
        } => {
            let program = std::env::current_exe().context("this program's own path is not known")?;
            let service = Service {
                unit_folder: unit_folder.as_deref(),
                lobby: lobby.as_deref(),
                start: !no_start,
                restart,
            };
            let (unit, started) = encke_agent::install(&data_dir, &program, &service)?;
            println!("installed as {}", unit.display());
            if !started && !no_start {
                let command = match &lobby {
                    None => "agent run".to_string(),
                    Some(server) => format!("agent lobby --server {server}"),
                };
                println!(
                    "systemd was not told; start the agent with: {} {command}",
                    program.display()
                );
            }
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
