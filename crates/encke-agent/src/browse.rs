//! What the server's users may look at through a device: snapshots, what is in them, and folders of the device.

use crate::Agent;
use crate::error::{AgentError, AgentResult};
use crate::items::DISKS_FILE;
use crate::jobs::{ENGINE_TAG, SOURCE_TAG};
use crate::proxmox::MACHINES_FILE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encke_api::live::{FilePart, Noted};
use encke_api::types::{StoredObject, VaultSnapshot};
use encke_repo::{FileReader, Id, Node, NodeType, RepoError};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

/// Most entries of one listing.
const MAX_ENTRIES: usize = 100_000;

pub(crate) fn consent(agent: &Agent) -> AgentResult<()> {
    if agent.allows_filenames() {
        return Ok(());
    }
    Err(AgentError::Server {
        status: 403,
        message: "The device's owner does not allow file names to be shown".into(),
    })
}

pub(crate) fn body<T: serde::Serialize>(value: &T) -> AgentResult<Value> {
    serde_json::to_value(value).map_err(|e| AgentError::Protocol(e.to_string()))
}

pub(crate) fn snapshots(agent: &Agent, destination: &str) -> AgentResult<Value> {
    let repo = agent.vaults.open(agent, destination)?;
    let snapshots: Vec<VaultSnapshot> = repo
        .snapshots()?
        .into_iter()
        .map(|s| VaultSnapshot {
            snapshot: s.id.to_string(),
            engine_type: s
                .tag(ENGINE_TAG)
                .unwrap_or(encke_api::constants::ENGINE_BUILTIN_FILE)
                .to_string(),
            source: s.tag(SOURCE_TAG).unwrap_or_default().to_string(),
            create_time: s.time.as_second(),
            has_original_path_info: true,
            tags: s
                .tags
                .iter()
                .filter(|t| !t.starts_with("encke-"))
                .cloned()
                .collect(),
            ..Default::default()
        })
        .collect();
    body(&snapshots)
}

pub(crate) fn type_word(kind: NodeType) -> &'static str {
    match kind {
        NodeType::File => encke_api::constants::STOREDOBJECTTYPE_FILE,
        NodeType::Dir => encke_api::constants::STOREDOBJECTTYPE_DIRECTORY,
        NodeType::Symlink => encke_api::constants::STOREDOBJECTTYPE_SYMLINK,
        NodeType::BlockDevice => encke_api::constants::STOREDOBJECTTYPE_UNIXBLOCKDEVICE,
        NodeType::CharDevice => encke_api::constants::STOREDOBJECTTYPE_UNIXCHARDEVICE,
        NodeType::Fifo => encke_api::constants::STOREDOBJECTTYPE_UNIXFIFO,
        NodeType::Socket => encke_api::constants::STOREDOBJECTTYPE_UNIXSOCKET,
    }
}

fn stored(node: &Node) -> StoredObject {
    StoredObject {
        name: String::from_utf8_lossy(&node.name).into_owned(),
        mtime: node.mtime.as_second(),
        type_: type_word(node.kind).into(),
        subtree: node.subtree.map(|id| id.to_string()).unwrap_or_default(),
        size: node.size,
        ..Default::default()
    }
}

/// Folders first, then by name.
fn sort(objects: &mut [StoredObject]) {
    let is_dir = |o: &StoredObject| o.type_ == encke_api::constants::STOREDOBJECTTYPE_DIRECTORY;
    objects.sort_by(|a, b| (!is_dir(a), &a.name).cmp(&(!is_dir(b), &b.name)));
}

pub(crate) fn stored_objects(
    agent: &Agent,
    destination: &str,
    snapshot: &str,
    tree: &str,
) -> AgentResult<Value> {
    consent(agent)?;
    let repo = agent.vaults.open(agent, destination)?;
    repo.load_index()?;
    let id = if tree.is_empty() {
        repo.snapshot(snapshot)?.tree
    } else {
        Id::parse(tree).ok_or_else(|| AgentError::Invalid("the tree id is not one of this vault's".into()))?
    };
    let mut objects: Vec<StoredObject> = repo
        .tree(&id)?
        .nodes
        .iter()
        .take(MAX_ENTRIES)
        .map(stored)
        .collect();
    sort(&mut objects);
    body(&objects)
}

/// Files kept ready for the next part.
const MAX_READING: usize = 4;
/// Most bytes of one part.
const MAX_PART: u32 = 1024 * 1024;

/// Files that are read part by part, the latest at the end.
#[derive(Default)]
pub(crate) struct Reading(Mutex<VecDeque<([String; 3], Arc<FileReader>)>>);

/// A part of a file of a snapshot.
pub(crate) fn read_file(
    agent: &Agent,
    destination: &str,
    snapshot: &str,
    path: &str,
    offset: u64,
    length: u32,
) -> AgentResult<Value> {
    consent(agent)?;
    let repo = agent.vaults.open(agent, destination)?;
    repo.load_index()?;
    let key = [destination, snapshot, path].map(str::to_string);
    let known = agent
        .vaults
        .reading
        .0
        .lock()
        .iter()
        .find(|(k, _)| *k == key)
        .cloned();
    let file = match known {
        Some((_, file)) => file,
        None => {
            let node = repo.node_at(&repo.snapshot(snapshot)?, Path::new(path))?;
            let file = Arc::new(FileReader::new(&repo, node)?);
            let mut reading = agent.vaults.reading.0.lock();
            if reading.len() >= MAX_READING {
                reading.pop_front();
            }
            reading.push_back((key, file.clone()));
            file
        }
    };
    let data = file.read_at(&repo, offset, u64::from(length.min(MAX_PART)))?;
    if offset.saturating_add(data.len() as u64) >= file.size() {
        // It will hardly be asked for again.
        agent
            .vaults
            .reading
            .0
            .lock()
            .retain(|(_, f)| !Arc::ptr_eq(f, &file));
    }
    body(&FilePart {
        size: file.size(),
        data: STANDARD.encode(data),
    })
}

/// What was noted about disks or machines when they were saved.
pub(crate) fn notes(agent: &Agent, of: Noted, destination: &str, snapshot: &str) -> AgentResult<Value> {
    consent(agent)?;
    let (file, what) = match of {
        Noted::Disks => (DISKS_FILE, "disks"),
        Noted::Machines => (MACHINES_FILE, "virtual machines"),
    };
    let repo = agent.vaults.open(agent, destination)?;
    repo.load_index()?;
    let found = repo.node_at(&repo.snapshot(snapshot)?, &Path::new("/").join(file));
    let node = found.map_err(|e| match e {
        RepoError::NotFound(_) => {
            AgentError::Invalid(format!("the snapshot is not of an item that saves {what}"))
        }
        e => e.into(),
    })?;
    let mut text = Vec::new();
    repo.dump(&node, &mut text)?;
    serde_json::from_slice(&text).map_err(|e| AgentError::Invalid(format!("{file} can not be read: {e}")))
}

pub(crate) fn filesystem(agent: &Agent, path: &str) -> AgentResult<Value> {
    consent(agent)?;
    let path = Path::new(if path.is_empty() { "/" } else { path });
    if !path.is_absolute() {
        return Err(AgentError::Invalid("the path must be absolute".into()));
    }
    crate::sandbox::check(&agent.profile()?, path)?;
    let error = |error| AgentError::File {
        path: path.to_path_buf(),
        error,
    };
    let mut objects = Vec::new();
    for entry in fs::read_dir(path).map_err(error)?.flatten().take(MAX_ENTRIES) {
        let Ok(meta) = entry.metadata() else { continue };
        let t = meta.file_type();
        let kind = match () {
            () if t.is_dir() => NodeType::Dir,
            () if t.is_symlink() => NodeType::Symlink,
            () if t.is_block_device() => NodeType::BlockDevice,
            () if t.is_char_device() => NodeType::CharDevice,
            () if t.is_fifo() => NodeType::Fifo,
            () if t.is_socket() => NodeType::Socket,
            () => NodeType::File,
        };
        objects.push(StoredObject {
            name: entry.file_name().to_string_lossy().into_owned(),
            mtime: meta.mtime(),
            type_: type_word(kind).into(),
            // What to ask for to see inside.
            subtree: if t.is_dir() {
                entry.path().to_string_lossy().into_owned()
            } else {
                String::new()
            },
            size: if t.is_file() { meta.len() } else { 0 },
            ..Default::default()
        });
    }
    sort(&mut objects);
    body(&objects)
}
