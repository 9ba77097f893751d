//! `encke vault key`: passwords that open the repository.

use super::first_line;
use anyhow::bail;
use clap::Subcommand;
use encke_repo::{Id, Repository};
use std::path::PathBuf;

/// What to do with passwords.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// List keys; the one in use has a star.
    List,
    /// Add a password, the first line of a file.
    Add {
        /// File with the new password.
        #[arg(long)]
        new_password_file: PathBuf,
    },
    /// Put another password in the place of the one in use.
    Change {
        /// File with the new password.
        #[arg(long)]
        new_password_file: PathBuf,
    },
    /// Remove a key by id; its password opens the repository no longer.
    #[command(alias = "remove")]
    Revoke {
        /// Id of the key, or its beginning.
        id: String,
    },
}

/// Runs the command.
pub fn run(command: &KeyCommand, mut repo: Repository, json: bool) -> anyhow::Result<()> {
    let tell = |id: Id| match json {
        true => println!("{}", serde_json::json!({ "id": id })),
        false => println!("{id}"),
    };
    match command {
        KeyCommand::List if json => println!("{}", serde_json::to_string(&repo.keys()?)?),
        KeyCommand::List => {
            for key in repo.keys()? {
                let mark = if key.id == repo.key_id() { "*" } else { " " };
                println!(
                    "{mark}{}  {}  {}@{}",
                    key.id, key.created, key.username, key.hostname
                );
            }
        }
        KeyCommand::Add { new_password_file } => tell(repo.add_key(&first_line(new_password_file)?)?),
        KeyCommand::Change { new_password_file } => {
            tell(repo.change_password(&first_line(new_password_file)?)?);
        }
        KeyCommand::Revoke { id } => {
            let keys = repo.keys()?;
            let mut found = keys.iter().filter(|k| k.id.to_string().starts_with(id));
            let (Some(key), None) = (found.next(), found.next()) else {
                bail!("not exactly one key begins with {id}")
            };
            repo.remove_key(key.id)?;
        }
    }
    Ok(())
}
