//! Virtual machines and containers of Proxmox VE, by its own command line over SSH: `pvesh` tells what there is, `vzdump`
//! writes a machine to its standard output, `qmrestore` and `pct restore` read one from their standard input (Proxmox VE
//! administration guide, chapters "Backup and Restore" and "Command-line Interface").

mod choice;
mod config;

use crate::error::{AgentError, AgentResult};
use crate::jobs::streams::{Origin, Stream};
use encke_api::constants::{
    PROXMOX_TYPE_CONTAINER, PROXMOX_TYPE_VM, PVE_BACKUP_METHOD_SNAPSHOT, PVE_BACKUP_METHOD_STOP,
    PVE_BACKUP_METHOD_SUSPEND, SSHCONNECTION_AUTHMODE_PASSWORD, SSHCONNECTION_AUTHMODE_PRIVATEKEY,
};
use encke_api::live::ProxmoxQuestion;
use encke_api::types::{
    PVEParams, PVEStorageName, PVEVM, ProxmoxRestoreTargetOptions, SSHConnection, SourceConfig,
};
use encke_storage::{KnownHosts, Login, RemoteShell, SshPlace};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Name of the description of the machines beside them in a snapshot.
pub(crate) const MACHINES_FILE: &str = "machines.json";
/// Questions that a host is asked at once: each starts a program there.
const AT_ONCE: usize = 6;

/// A host of a cluster, or one alone.
pub(crate) struct Host {
    shell: RemoteShell,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    address: String,
    is_here: bool,
}

/// Where and how to log in.
pub(crate) fn ssh_place(c: &SSHConnection) -> AgentResult<SshPlace> {
    let login = match c.ssh_auth_mode {
        SSHCONNECTION_AUTHMODE_PASSWORD => Login::Password(c.ssh_password.clone()),
        SSHCONNECTION_AUTHMODE_PRIVATEKEY => Login::Key(c.ssh_private_key.clone()),
        other => {
            return Err(AgentError::Invalid(format!(
                "{other} is not a way to log in to an SSH server"
            )));
        }
    };
    let known_hosts = match c.ssh_custom_auth_known_hosts_file.as_str() {
        _ if !c.ssh_custom_auth_use_known_hosts_file => KnownHosts::Any,
        "" => KnownHosts::Native,
        file => KnownHosts::File(file.into()),
    };
    Ok(SshPlace {
        server: c.ssh_server.clone(),
        user: c.ssh_username.clone(),
        login,
        known_hosts,
    })
}

/// A failure of the SSH connection.
pub(crate) fn unreached(e: encke_storage::StorageError) -> AgentError {
    AgentError::Repo(encke_repo::RepoError::from(e))
}

/// Names of nodes, storages and machines become words of a command.
fn word<'a>(text: &'a str, what: &str) -> AgentResult<&'a str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with('-') || !text.chars().all(is_plain) {
        return Err(AgentError::Invalid(format!(
            "'{text}' is not the name of a {what}"
        )));
    }
    Ok(text)
}

/// A number that may be written as a text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl Host {
    /// Connects, and asks who belongs to the cluster.
    pub(crate) fn connect(c: &SSHConnection) -> AgentResult<Self> {
        let shell = RemoteShell::connect(ssh_place(c)?).map_err(unreached)?;
        let mut host = Self {
            shell,
            nodes: Vec::new(),
        };
        let status = host.get("/cluster/status")?;
        let nodes = status.as_array().into_iter().flatten();
        host.nodes = nodes
            .filter(|n| n["type"] == "node")
            .map(|n| Node {
                name: text(&n["name"]),
                address: text(&n["ip"]),
                is_here: number(&n["local"]) == Some(1),
            })
            .collect();
        Ok(host)
    }

    pub(crate) fn shell(&self) -> &RemoteShell {
        &self.shell
    }

    /// What the host's interface answers at a path.
    fn get(&self, path: &str) -> AgentResult<Value> {
        let ran = self
            .shell
            .run(&format!("pvesh get {path} --output-format json"))
            .map_err(unreached)?;
        if ran.status != 0 {
            return Err(AgentError::Invalid(format!(
                "pvesh get {path} ended with {}: {}",
                ran.status,
                ran.complaints.join("; ")
            )));
        }
        serde_json::from_slice(&ran.output)
            .map_err(|e| AgentError::Invalid(format!("what pvesh tells of {path} can not be read: {e}")))
    }

    /// A command as it is run on a node: there, or from the host we are on as the cluster itself does it.
    fn on(&self, node: &str, command: &str) -> AgentResult<String> {
        if node.is_empty() {
            return Ok(command.to_string());
        }
        let found = self.nodes.iter().find(|n| n.name == node);
        let found = found.ok_or_else(|| AgentError::Invalid(format!("the cluster has no node '{node}'")))?;
        if found.is_here {
            return Ok(command.to_string());
        }
        let (name, address) = (word(&found.name, "node")?, found.address.as_str());
        let is_address = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':');
        if address.is_empty() || !address.chars().all(is_address) {
            return Err(AgentError::Invalid(format!("the node '{node}' has no address")));
        }
        // The words of our commands have nothing that a shell would read twice.
        Ok(format!(
            "ssh -e none -o BatchMode=yes -o HostKeyAlias={name} root@{address} -- {command}"
        ))
    }

    /// All machines of the cluster, by number.
    pub(crate) fn machines(&self) -> AgentResult<Vec<PVEVM>> {
        let resources = self.get("/cluster/resources --type vm")?;
        let empty = Vec::new();
        let listed = resources.as_array().unwrap_or(&empty);
        let next = AtomicUsize::new(0);
        let work = || -> AgentResult<Vec<PVEVM>> {
            let mut machines = Vec::new();
            while let Some(told) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut machine = config::listed(told);
                let path = format!(
                    "/nodes/{}/{}/{}/config",
                    word(&machine.node, "node")?,
                    word(&machine.type_, "kind of machine")?,
                    word(&machine.vmid, "machine")?
                );
                config::describe(&mut machine, &self.get(&path)?);
                machines.push(machine);
            }
            Ok(machines)
        };
        let found: Vec<AgentResult<Vec<PVEVM>>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE.min(listed.len()))
                .map(|_| scope.spawn(work))
                .collect();
            let join = |w: std::thread::ScopedJoinHandle<'_, AgentResult<Vec<PVEVM>>>| {
                w.join()
                    .unwrap_or_else(|_| Err(AgentError::Protocol("a thread ended".into())))
            };
            workers.into_iter().map(join).collect()
        });
        let mut machines = Vec::with_capacity(listed.len());
        for part in found {
            machines.extend(part?);
        }
        machines.sort_by_key(|m| m.vmid.parse::<u64>().unwrap_or(u64::MAX));
        Ok(machines)
    }

    fn nodes(&self) -> Vec<String> {
        let mut names: Vec<String> = self.nodes.iter().map(|n| n.name.clone()).collect();
        names.sort();
        names
    }

    fn storages(&self, node: &str) -> AgentResult<Vec<PVEStorageName>> {
        let path = match node {
            "" => "/storage".to_string(),
            node => format!("/nodes/{}/storage", word(node, "node")?),
        };
        let told = self.get(&path)?;
        let storages = told.as_array().into_iter().flatten().map(|s| PVEStorageName {
            name: text(&s["storage"]),
            type_: text(&s["type"]),
            content: text(&s["content"])
                .split(',')
                .filter(|c| !c.is_empty())
                .map(str::to_string)
                .collect(),
            ..Default::default()
        });
        let mut storages: Vec<PVEStorageName> = storages.collect();
        storages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(storages)
    }
}

/// Answers what the server's users ask about a host.
pub(crate) fn browse(connection: &SSHConnection, question: &ProxmoxQuestion) -> AgentResult<Value> {
    let host = Host::connect(connection)?;
    match question {
        ProxmoxQuestion::Machines => crate::browse::body(&host.machines()?),
        ProxmoxQuestion::Nodes => crate::browse::body(&host.nodes()),
        ProxmoxQuestion::Storage { node } => crate::browse::body(&host.storages(node)?),
    }
}

/// What a Proxmox item saves: a stream for each machine, and what is to be told of the choice.
pub(crate) fn item(source: &SourceConfig) -> AgentResult<(Vec<Stream>, Vec<String>)> {
    let params = source.engine_props.get("PARAMS").map_or("", String::as_str);
    let params: PVEParams = serde_json::from_str(params)
        .map_err(|e| AgentError::Invalid(format!("the item's PARAMS can not be read: {e}")))?;
    let method = match params.method.as_str() {
        "" => PVE_BACKUP_METHOD_SNAPSHOT,
        known @ (PVE_BACKUP_METHOD_SNAPSHOT | PVE_BACKUP_METHOD_STOP | PVE_BACKUP_METHOD_SUSPEND) => known,
        other => {
            return Err(AgentError::Invalid(format!(
                "'{other}' is not a way to back up a machine"
            )));
        }
    };
    let host = Host::connect(&params.ssh_connection)?;
    let (machines, notes) = choice::pick(&params, host.machines()?)?;
    let mut streams = Vec::with_capacity(machines.len() + 1);
    for machine in &machines {
        let command = format!(
            "vzdump {} --stdout 1 --mode {method} --compress 0",
            word(&machine.vmid, "machine")?
        );
        streams.push(Stream {
            name: file_name(machine)?,
            origin: Origin::Remote {
                shell: host.shell.clone(),
                command: host.on(&machine.node, &command)?,
            },
        });
    }
    let told = serde_json::to_vec_pretty(&machines).map_err(|e| AgentError::Protocol(e.to_string()))?;
    streams.push(Stream {
        name: MACHINES_FILE.into(),
        origin: Origin::Text(told),
    });
    Ok((streams, notes))
}

/// A machine's file in the snapshot: a VMA archive of a virtual machine, a tar archive of a container.
fn file_name(machine: &PVEVM) -> AgentResult<String> {
    let ending = match machine.type_.as_str() {
        PROXMOX_TYPE_VM => "vma",
        PROXMOX_TYPE_CONTAINER => "tar",
        other => return Err(AgentError::Unsupported(format!("machines of the kind {other}"))),
    };
    Ok(format!("{}-{}.{ending}", machine.type_, machine.vmid))
}

/// Kind and number of the machine in a file of a snapshot.
fn parse_file_name(name: &str) -> Option<(&str, &str)> {
    let (kind, rest) = name.split_once('-')?;
    let id = match kind {
        PROXMOX_TYPE_VM => rest.strip_suffix(".vma")?,
        PROXMOX_TYPE_CONTAINER => rest.strip_suffix(".tar")?,
        _ => return None,
    };
    id.parse::<u32>().ok().map(|_| (kind, id))
}

/// Whether a snapshot's file holds a machine.
pub(crate) fn is_machine(name: &str) -> bool {
    parse_file_name(name).is_some()
}

/// The command that takes a machine on its standard input, and the number the machine gets: its own if that is free or
/// may be overwritten, else the next free one.
pub(crate) fn restore_command(
    host: &Host,
    target: &ProxmoxRestoreTargetOptions,
    name: &str,
    overwrite: bool,
) -> AgentResult<(String, String)> {
    let (kind, own) = parse_file_name(name)
        .ok_or_else(|| AgentError::Invalid(format!("'{name}' holds no machine of Proxmox")))?;
    let resources = host.get("/cluster/resources --type vm")?;
    let taken = resources
        .as_array()
        .into_iter()
        .flatten()
        .any(|m| text(&m["vmid"]) == own);
    let (id, more) = match (taken, overwrite) {
        (false, _) => (own.to_string(), ""),
        (true, true) => (own.to_string(), " --force 1"),
        // Beside the original it must not have its network addresses.
        (true, false) => (text(&host.get("/cluster/nextid")?), " --unique 1"),
    };
    let id = word(&id, "machine")?.to_string();
    let mut command = match kind {
        PROXMOX_TYPE_VM => format!("qmrestore - {id}{more}"),
        _ => format!("pct restore {id} -{more}"),
    };
    if !target.storage.is_empty() {
        command += &format!(" --storage {}", word(&target.storage, "storage")?);
    }
    Ok((host.on(&target.node, &command)?, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_become_words_of_a_command() {
        assert!(word("pve-1.example_x", "node").is_ok());
        for bad in ["", "-x", "a b", "a;b", "$(x)", "a'b", "ä"] {
            assert!(word(bad, "node").is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_told_from_machines() {
        assert_eq!(parse_file_name("qemu-100.vma"), Some(("qemu", "100")));
        assert_eq!(parse_file_name("lxc-7.tar"), Some(("lxc", "7")));
        for other in [
            "machines.json",
            "qemu-100.tar",
            "qemu-x.vma",
            "qemu-.vma",
            "lxc-1;a.tar",
        ] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
