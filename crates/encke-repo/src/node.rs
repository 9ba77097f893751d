//! Folder listings as restic writes them, byte for byte: the same files give the same tree blob, whoever backs them up
//! (restic design document, section "Trees and Data"; field order and text rules of its JSON).

use crate::error::{RepoError, RepoResult};
use crate::gotext::{self, quote, unquote, write_time};
use crate::id::Id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeType {
    /// Regular file.
    File,
    /// Folder.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharDevice,
    /// Named pipe.
    Fifo,
    /// Socket; kept in listings, never restored.
    Socket,
}

impl NodeType {
    /// The word in the JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            NodeType::File => "file",
            NodeType::Dir => "dir",
            NodeType::Symlink => "symlink",
            NodeType::BlockDevice => "dev",
            NodeType::CharDevice => "chardev",
            NodeType::Fifo => "fifo",
            NodeType::Socket => "socket",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "file" => NodeType::File,
            "dir" => NodeType::Dir,
            "symlink" => NodeType::Symlink,
            "dev" => NodeType::BlockDevice,
            "chardev" => NodeType::CharDevice,
            "fifo" => NodeType::Fifo,
            "socket" => NodeType::Socket,
            _ => return None,
        })
    }
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// File name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeType,
    /// Unix mode bits: permissions, set-uid, set-gid, sticky.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last access; equal to `mtime`, as restic does unless asked otherwise.
    pub atime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name, if known.
    pub user: Arc<str>,
    /// Group's name, if known.
    pub group: Arc<str>,
    /// Inode number.
    pub inode: u64,
    /// Device the inode is on.
    pub device_id: u64,
    /// Bytes of a file.
    pub size: u64,
    /// Names of the inode.
    pub links: u64,
    /// Target of a symbolic link.
    pub link_target: Vec<u8>,
    /// Extended attributes, by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// Number of a device node.
    pub device: u64,
    /// Blobs of a file's content, in order.
    pub content: Vec<Id>,
    /// Listing of a folder.
    pub subtree: Option<Id>,
}

/// A folder's listing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// Entries by name.
    pub nodes: Vec<Node>,
}

// Go's `os.FileMode` bits, which the format uses.
const GO_DIR: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHAR: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

fn to_go_mode(kind: NodeType, mode: u32) -> u32 {
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    let bits = special
        .iter()
        .filter(|(unix, _)| mode & unix != 0)
        .map(|(_, go)| go)
        .sum::<u32>();
    let kind = match kind {
        NodeType::File => 0,
        NodeType::Dir => GO_DIR,
        NodeType::Symlink => GO_SYMLINK,
        NodeType::BlockDevice => GO_DEVICE,
        NodeType::CharDevice => GO_DEVICE | GO_CHAR,
        NodeType::Fifo => GO_FIFO,
        NodeType::Socket => GO_SOCKET,
    };
    (mode & 0o777) | bits | kind
}

fn from_go_mode(mode: u32) -> u32 {
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    (mode & 0o777)
        | special
            .iter()
            .filter(|(_, go)| mode & go != 0)
            .map(|(unix, _)| unix)
            .sum::<u32>()
}

impl Node {
    /// The node's JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Two spare digests' room, so that a usual node fits.
        let mut out = String::with_capacity(512 + self.name.len() + self.content.len() * 67);
        self.write_json(&mut out);
        out
    }

    /// Appends the node's JSON.
    pub fn write_json(&self, out: &mut String) {
        out.push_str("{\"name\":");
        gotext::write_json(&quote(&self.name), out);
        let _ = write!(out, ",\"type\":\"{}\"", self.kind.word());
        let mode = to_go_mode(self.kind, self.mode);
        if mode != 0 {
            let _ = write!(out, ",\"mode\":{mode}");
        }
        for (key, time) in [
            (",\"mtime\":\"", self.mtime),
            ("\",\"atime\":\"", self.atime),
            ("\",\"ctime\":\"", self.ctime),
        ] {
            out.push_str(key);
            write_time(time, out);
        }
        out.push('"');
        let _ = write!(out, ",\"uid\":{},\"gid\":{}", self.uid, self.gid);
        for (key, text) in [("user", &self.user), ("group", &self.group)] {
            if !text.is_empty() {
                let _ = write!(out, ",\"{key}\":");
                gotext::write_json(text, out);
            }
        }
        let numbers = [
            ("inode", self.inode),
            ("device_id", self.device_id),
            ("size", self.size),
            ("links", self.links),
        ];
        for (key, n) in numbers {
            if n != 0 {
                let _ = write!(out, ",\"{key}\":{n}");
            }
        }
        if !self.link_target.is_empty() {
            let target = String::from_utf8_lossy(&self.link_target);
            out.push_str(",\"linktarget\":");
            gotext::write_json(&target, out);
            if matches!(target, Cow::Owned(_)) {
                let _ = write!(
                    out,
                    ",\"linktarget_raw\":\"{}\"",
                    STANDARD.encode(&self.link_target)
                );
            }
        }
        if !self.xattrs.is_empty() {
            out.push_str(",\"extended_attributes\":[");
            for (i, (name, value)) in self.xattrs.iter().enumerate() {
                out.push_str(if i == 0 { "{\"name\":" } else { ",{\"name\":" });
                gotext::write_json(name, out);
                let _ = write!(out, ",\"value\":\"{}\"}}", STANDARD.encode(value));
            }
            out.push(']');
        }
        if self.device != 0 {
            let _ = write!(out, ",\"device\":{}", self.device);
        }
        if self.kind == NodeType::File {
            out.push_str(",\"content\":[");
            for (i, id) in self.content.iter().enumerate() {
                out.push_str(if i == 0 { "\"" } else { ",\"" });
                out.push_str(&id.hex());
                out.push('"');
            }
            out.push(']');
        } else {
            out.push_str(",\"content\":null");
        }
        if let Some(id) = self.subtree {
            let _ = write!(out, ",\"subtree\":\"{id}\"");
        }
        out.push('}');
    }
}

/// A node as it is read.
#[derive(Deserialize)]
struct NodeJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    #[serde(default, with = "gotext::time")]
    mtime: Timestamp,
    #[serde(default, with = "gotext::time")]
    atime: Timestamp,
    #[serde(default, with = "gotext::time")]
    ctime: Timestamp,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default, borrow)]
    user: Cow<'a, str>,
    #[serde(default, borrow)]
    group: Cow<'a, str>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(default, borrow)]
    linktarget: Cow<'a, str>,
    #[serde(default, borrow)]
    linktarget_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    extended_attributes: Vec<XattrJson>,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

#[derive(Deserialize)]
struct XattrJson {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Deserialize)]
struct TreeJson<'a> {
    #[serde(borrow)]
    nodes: Vec<NodeJson<'a>>,
}

/// Most entries have the same owner and group as the one before: they share the names' memory.
fn shared(name: &str, place: usize) -> Arc<str> {
    thread_local! {
        static LAST: RefCell<[Arc<str>; 2]> = RefCell::new(["".into(), "".into()]);
    }
    LAST.with_borrow_mut(|last| {
        if *last[place] != *name {
            last[place] = name.into();
        }
        last[place].clone()
    })
}

impl TryFrom<NodeJson<'_>> for Node {
    type Error = RepoError;
    fn try_from(j: NodeJson<'_>) -> RepoResult<Self> {
        let damaged = |what: &str| RepoError::Damaged(format!("tree: {what} in node '{}'", j.name));
        let name = unquote(&j.name).ok_or_else(|| damaged("unreadable name"))?;
        // A name is one element of a path: nothing else may come out of a repository.
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(damaged("forbidden name"));
        }
        let base64 = |text: &str| STANDARD.decode(text).map_err(|_| damaged("unreadable base64"));
        let kind = NodeType::from_word(&j.kind).ok_or_else(|| damaged("unknown type"))?;
        let mut xattrs = Vec::with_capacity(j.extended_attributes.len());
        for x in &j.extended_attributes {
            xattrs.push((x.name.clone(), base64(x.value.as_deref().unwrap_or_default())?));
        }
        let link_target = match &j.linktarget_raw {
            Some(raw) => base64(raw)?,
            None => j.linktarget.as_bytes().to_vec(),
        };
        Ok(Node {
            name,
            kind,
            mode: from_go_mode(j.mode),
            mtime: j.mtime,
            atime: j.atime,
            ctime: j.ctime,
            uid: j.uid,
            gid: j.gid,
            user: shared(&j.user, 0),
            group: shared(&j.group, 1),
            inode: j.inode,
            device_id: j.device_id,
            size: j.size,
            links: j.links,
            link_target,
            xattrs,
            device: j.device,
            content: j.content.unwrap_or_default(),
            subtree: j.subtree,
        })
    }
}

impl Tree {
    /// Reads a tree blob.
    ///
    /// # Errors
    /// Not a tree, or a name that could leave its folder.
    pub fn parse(json: &[u8]) -> RepoResult<Self> {
        let tree: TreeJson =
            serde_json::from_slice(json).map_err(|e| RepoError::Damaged(format!("tree: {e}")))?;
        Ok(Self {
            nodes: tree
                .nodes
                .into_iter()
                .map(Node::try_from)
                .collect::<RepoResult<_>>()?,
        })
    }

    /// The node of a name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }
}

/// A node of an earlier snapshot with the text it had there: an unchanged file keeps it.
pub(crate) struct KnownNode {
    pub node: Node,
    pub text: String,
}

/// The nodes of an earlier snapshot's tree, in the order of their names.
pub(crate) fn parse_known(json: &[u8]) -> RepoResult<Vec<KnownNode>> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow)]
        nodes: Vec<&'a serde_json::value::RawValue>,
    }
    let damaged = |e: serde_json::Error| RepoError::Damaged(format!("tree: {e}"));
    let raw: Raw = serde_json::from_slice(json).map_err(damaged)?;
    let mut out = Vec::with_capacity(raw.nodes.len());
    for text in raw.nodes {
        let node = Node::try_from(serde_json::from_str::<NodeJson>(text.get()).map_err(damaged)?)?;
        out.push(KnownNode {
            node,
            text: text.get().to_string(),
        });
    }
    out.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_node_comes_back(
            name in "[^/\0]{1,20}", mode in 0u32..0o10000, seconds in -60_000_000_000i64..200_000_000_000,
            nanos in 0i32..1_000_000_000, xattr in prop::collection::vec(any::<u8>(), 0..20), size in any::<u64>()
        ) {
            prop_assume!(name != "." && name != "..");
            let time = Timestamp::new(seconds, nanos).unwrap();
            let node = Node {
                name: name.into_bytes(), kind: NodeType::File, mode, mtime: time, atime: time, ctime: time,
                uid: 1, gid: 2, user: "a<b>&c".into(), group: "\u{2028}".into(), inode: 3, device_id: 4, size, links: 2,
                link_target: Vec::new(), xattrs: vec![("user.x".into(), xattr)], device: 0,
                content: vec![Id::of(b"x")], subtree: None,
            };
            let mut json = String::from("{\"nodes\":[");
            node.write_json(&mut json);
            json += "]}\n";
            prop_assert_eq!(&Tree::parse(json.as_bytes()).unwrap().nodes[0], &node);
            prop_assert_eq!(&parse_known(json.as_bytes()).unwrap()[0].node, &node);
        }
    }

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for name in ["..", ".", "", "a/b", "\\x00", "/etc"] {
            let json = format!(
                r#"{{"nodes":[{{"name":"{}","type":"file"}}]}}"#,
                name.replace('\\', "\\\\")
            );
            assert!(Tree::parse(json.as_bytes()).is_err(), "{name}");
        }
    }
}
