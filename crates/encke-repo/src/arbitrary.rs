//! Everything that is read from a repository is read by these parsers: whatever stands there, they answer or refuse, and
//! neither panic nor take memory without bound. Samples of each kind are altered at random, since noise alone would be
//! refused at the first byte.

use crate::crypto::Key;
use crate::fuzzing;
use crate::id::Id;
use crate::index::{IndexFile, IndexPack, Lease, Mark};
use crate::node::{Node, NodeType};
use crate::pack::{BlobType, PackedBlob};
use crate::snapshot::Snapshot;
use jiff::Timestamp;
use proptest::prelude::*;

/// One change of a text.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Signs that mean something to the formats come often.
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"\"\\{}[]:,0-9eEu\0\xff\x02".to_vec())
    ];
    let at = any::<prop::sample::Index>;
    let change = prop_oneof![
        4 => (at(), byte).prop_map(|(i, b)| Change::Set(i, b)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(i, b)| Change::Insert(i, b)),
        1 => (at(), at()).prop_map(|(i, j)| Change::Repeat(i, j)),
    ];
    prop::collection::vec(change, 0..6)
}

fn altered(mut text: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if text.is_empty() {
            break;
        }
        match change {
            Change::Set(i, b) => *i.get_mut(&mut text) = *b,
            Change::Cut(i) => text.truncate(i.index(text.len())),
            Change::Insert(i, b) => {
                let at = i.index(text.len());
                text.splice(at..at, b.iter().copied());
            }
            Change::Repeat(i, j) => {
                let (a, b) = (i.index(text.len()), j.index(text.len()));
                let part = text[a.min(b)..a.max(b)].to_vec();
                text.extend(part);
            }
        }
    }
    text
}

fn node() -> Node {
    let time = Timestamp::new(-5_000_000_000, -7).unwrap();
    Node {
        name: b"na\xffme \"<&\n".to_vec(),
        kind: NodeType::File,
        mode: 0o4755,
        mtime: time,
        atime: time,
        ctime: time,
        uid: 1,
        gid: u32::MAX,
        user: "a".into(),
        group: "b".into(),
        inode: u64::MAX,
        device_id: 4,
        size: u64::MAX,
        links: 2,
        link_target: b"\xfe".to_vec(),
        xattrs: vec![("user.x".into(), vec![0, 255])],
        device: 7,
        content: vec![Id::of(b"x"), Id::of(b"y")],
        subtree: Some(Id::of(b"z")),
    }
}

fn blobs() -> Vec<PackedBlob> {
    let blob = |n: u32| PackedBlob {
        id: Id::of(&n.to_le_bytes()),
        kind: if n > 1 { BlobType::Tree } else { BlobType::Data },
        offset: n * 100,
        length: 100,
        uncompressed: n,
    };
    (0..4).map(blob).collect()
}

/// Alters a sample and hands it to a parser.
fn alter(sample: &[u8], changes: &[Change], parser: fn(&[u8])) {
    parser(&altered(sample.to_vec(), changes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]
    #[test]
    fn trees(changes in changes()) {
        let json = format!("{{\"nodes\":[{0},{0}]}}\n", node().to_json());
        alter(json.as_bytes(), &changes, fuzzing::tree);
    }

    #[test]
    fn index_files(changes in changes()) {
        let time = Timestamp::UNIX_EPOCH;
        let file = IndexFile {
            supersedes: &[Id::of(b"old")],
            packs: vec![IndexPack::new(Id::of(b"pack"), &blobs())],
            packs_to_delete: vec![Mark::new(Id::of(b"pack"), time, 400)],
            encke_backup: Some(Lease { started: time, time }),
        };
        alter(&serde_json::to_vec(&file).unwrap(), &changes, fuzzing::index);
    }

    #[test]
    fn packs(changes in changes()) {
        let mut header = Vec::new();
        for b in blobs() {
            header.push(2);
            header.extend_from_slice(&b.length.to_le_bytes());
            header.extend_from_slice(&b.uncompressed.to_le_bytes());
            header.extend_from_slice(&b.id.0);
        }
        alter(&header, &changes, fuzzing::pack);
    }

    #[test]
    fn snapshots_keys_locks_and_configs(changes in changes()) {
        let time = Timestamp::UNIX_EPOCH;
        let snapshot = Snapshot {
            time,
            parent: Some(Id::of(b"p")),
            tree: Id::of(b"t"),
            paths: vec!["/a".into()],
            hostname: "h".into(),
            username: "u".into(),
            uid: 1,
            gid: 2,
            tags: vec!["t".into()],
            original: Some(Id::of(b"o")),
            program_version: "p".into(),
            id: Id::default(),
        };
        alter(&serde_json::to_vec(&snapshot).unwrap(), &changes, fuzzing::snapshot);
        alter(Key::random().unwrap().to_json().as_bytes(), &changes, fuzzing::key);
        let key = br#"{"kdf":"scrypt","N":32768,"r":8,"p":1,"salt":"AA==","data":"AA=="}"#;
        alter(key, &changes, fuzzing::key);
        let lock = br#"{"time":"2024-02-29T23:59:59.123456789+01:00","exclusive":true,"hostname":"h","pid":1}"#;
        alter(lock, &changes, fuzzing::lock);
        let config = br#"{"version":2,"id":"ab","chunker_polynomial":"3da3358b4dc173"}"#;
        alter(config, &changes, fuzzing::config);
    }

    #[test]
    fn sealed_and_compressed_files(changes in changes(), text in prop::collection::vec(any::<u8>(), 0..300)) {
        alter(&text, &changes, fuzzing::envelope);
        alter(&zstd::bulk::compress(&text, 3).unwrap(), &changes, fuzzing::file);
    }

    #[test]
    fn names_and_times(text in any::<String>(), changes in changes()) {
        alter(text.as_bytes(), &changes, fuzzing::text);
        alter(crate::gotext::quote(text.as_bytes()).as_bytes(), &changes, fuzzing::text);
        alter(b"2024-02-29T23:59:60.123456789-23:59", &changes, fuzzing::text);
    }

    #[test]
    fn times_of_snapshots(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        fuzzing::retention(&bytes);
    }
}
