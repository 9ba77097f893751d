//! What the fuzzers in `fuzz/` and the tests with altered samples call: each parser of repository data with bytes of any
//! kind. A parser answers or refuses; it neither panics nor takes memory without bound, and what it has read is written
//! and read again as the same.

use crate::crypto::{Key, OVERHEAD};
use crate::gotext;
use crate::index::{self, Index, IndexFile, IndexPack};
use crate::keys::KeyFile;
use crate::lock::LockFile;
use crate::node::{Node, Tree, parse_known};
use crate::pack;
use crate::repository::{ConfigFile, decompress};
use crate::retention::{Policy, Range};
use crate::snapshot::Snapshot;
use jiff::{Timestamp, tz::TimeZone};

/// Bytes that a compressed file may have here; beyond that fuzzing would only take long.
const MAX_UNPACKED: usize = 1 << 20;

/// A parser: its name, which is that of its fuzzer, and what calls it.
pub type Parser = (&'static str, fn(&[u8]));

/// All of them.
pub const PARSERS: [Parser; 11] = [
    ("config", config),
    ("key", key),
    ("lock", lock),
    ("index", index),
    ("pack", pack),
    ("tree", tree),
    ("snapshot", snapshot),
    ("envelope", envelope),
    ("file", file),
    ("text", text),
    ("retention", retention),
];

fn a_key() -> Key {
    Key::from_bytes(&[7; 64])
}

/// The configuration file, opened.
pub fn config(json: &[u8]) {
    if let Ok((file, polynomial)) = ConfigFile::parse(json) {
        // Cutting with it does not go wrong.
        let chunker = crate::chunker::Chunker::new(polynomial);
        assert_eq!(chunker.find(json, 0), None);
        let again = serde_json::to_vec(&file).expect("a config is JSON");
        assert!(ConfigFile::parse(&again).is_ok());
    }
}

/// A key file, and the master key inside it.
pub fn key(json: &[u8]) {
    if let Ok(file) = serde_json::from_slice::<KeyFile>(json)
        && let Ok((_, memory)) = file.cost()
    {
        assert!(memory <= 1 << 30, "scrypt would take {memory} bytes");
    }
    if let Ok(key) = Key::from_json(json) {
        let again = Key::from_json(key.to_json().as_bytes()).expect("what was written is a key");
        assert_eq!(again.to_json(), key.to_json());
    }
}

/// A lock, opened.
pub fn lock(json: &[u8]) {
    if let Ok(lock) = serde_json::from_slice::<LockFile>(json) {
        let _ = lock.is_stale();
    }
}

/// An index file, opened.
pub fn index(json: &[u8]) {
    let Ok(file) = index::parse(json) else { return };
    let mut loaded = Index::default();
    loaded.extend([&file].into_iter());
    for (_, blobs) in &file.packs {
        for blob in blobs {
            let at = loaded.find(blob.kind, &blob.id).expect("it was just loaded");
            // A size that is less than nothing must not come of it.
            assert!(at.size() < 1 << 33);
        }
    }
    let again = IndexFile {
        supersedes: &file.supersedes,
        packs: file.packs.iter().map(|(id, b)| IndexPack::new(*id, b)).collect(),
        packs_to_delete: Vec::new(),
        encke_backup: None,
    };
    let again = index::parse(&serde_json::to_vec(&again).expect("an index is JSON")).expect("it was written");
    assert_eq!((again.packs, again.supersedes), (file.packs, file.supersedes));
}

/// A pack, and a pack's header behind its seal: whoever has a key may write what he likes.
pub fn pack(bytes: &[u8]) {
    let key = a_key();
    let _ = pack::header(&key, bytes);
    let mut sealed = Vec::new();
    key.seal(bytes, &mut sealed).expect("there are random numbers");
    let length = u32::try_from(sealed.len()).expect("inputs are short");
    sealed.extend_from_slice(&length.to_le_bytes());
    if let Ok(blobs) = pack::header(&key, &sealed) {
        let mut again = Vec::new();
        pack::finish(&key, &blobs, &mut again).expect("a header can be written");
        assert_eq!(pack::header(&key, &again).expect("it was written"), blobs);
    }
}

/// A folder's listing.
pub fn tree(json: &[u8]) {
    let text = |nodes: &[Node]| {
        let nodes: Vec<String> = nodes.iter().map(Node::to_json).collect();
        format!("{{\"nodes\":[{}]}}\n", nodes.join(","))
    };
    let known = parse_known(json);
    let Ok(tree) = Tree::parse(json) else { return };
    for node in &tree.nodes {
        assert!(
            !node.name.contains(&b'/') && !matches!(&node.name[..], b"" | b"." | b".."),
            "a name leaves its folder"
        );
    }
    if let Ok(known) = known {
        assert_eq!(known.len(), tree.nodes.len());
    }
    // Times that RFC 3339 can not tell are written as the nearest that it can, so the texts are compared.
    let written = text(&tree.nodes);
    let again = Tree::parse(written.as_bytes()).expect("what was written can be read");
    assert_eq!(text(&again.nodes), written);
}

/// A snapshot, opened.
pub fn snapshot(json: &[u8]) {
    if let Ok(snapshot) = serde_json::from_slice::<Snapshot>(json) {
        let written = serde_json::to_string(&snapshot).expect("a snapshot is JSON");
        let again: Snapshot = serde_json::from_str(&written).expect("what was written can be read");
        assert_eq!(
            serde_json::to_string(&again).expect("a snapshot is JSON"),
            written
        );
    }
}

/// Sealed bytes: nothing that was not sealed is opened, and nothing altered.
pub fn envelope(bytes: &[u8]) {
    let key = a_key();
    assert!(key.open(bytes).is_err(), "this was never sealed");
    let Some((&flip, text)) = bytes.split_first() else {
        return;
    };
    let mut sealed = Vec::new();
    key.seal(text, &mut sealed).expect("there are random numbers");
    assert_eq!(sealed.len(), text.len() + OVERHEAD);
    assert_eq!(key.open(&sealed).expect("it was sealed"), text);
    let at = text.len() * usize::from(flip) / 16 % sealed.len();
    sealed[at] ^= 1 << (flip % 8);
    assert!(key.open(&sealed).is_err(), "a bit was flipped at {at}");
    sealed[at] ^= 1 << (flip % 8);
    sealed.truncate(at);
    assert!(key.open(&sealed).is_err(), "cut at {at}");
}

/// A file that is not a pack, opened: compressed or not. And the same compressed here.
pub fn file(bytes: &[u8]) {
    if let Ok(text) = decompress(bytes, MAX_UNPACKED) {
        assert!(text.len() <= MAX_UNPACKED);
    }
    let packed = zstd::bulk::compress(bytes, 1).expect("anything can be compressed");
    assert_eq!(
        decompress(&packed, MAX_UNPACKED).expect("it was compressed"),
        bytes
    );
}

/// File names as they are quoted, and times.
pub fn text(bytes: &[u8]) {
    assert_eq!(
        gotext::unquote(&gotext::quote(bytes)).expect("it was quoted"),
        bytes
    );
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(name) = gotext::unquote(text) {
        assert_eq!(gotext::unquote(&gotext::quote(&name)), Some(name));
    }
    if let Some(time) = gotext::parse_time(text) {
        let mut written = String::new();
        gotext::write_time(time, &mut written);
        let mut again = String::new();
        let time = gotext::parse_time(&written).expect("what was written can be read");
        gotext::write_time(time, &mut again);
        assert_eq!(again, written);
    }
}

/// Retention, with times as snapshots may hold them: any at all.
pub fn retention(bytes: &[u8]) {
    let mut numbers = bytes
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes(b.try_into().expect("chunks of eight")));
    let (Some(kind), Some(count), Some(now)) = (numbers.next(), numbers.next(), numbers.next()) else {
        return;
    };
    let time = |n: i64| Timestamp::from_nanosecond(i128::from(n) * 40).unwrap_or_default();
    let times: Vec<Timestamp> = numbers.map(time).collect();
    let n = count.unsigned_abs();
    let small = n.to_le_bytes();
    let range = match kind.rem_euclid(11) {
        0 => Range::MostRecent(n),
        1 => Range::NewerThan(time(count)),
        2 => Range::Since {
            days: n,
            weeks: n.rotate_left(16),
            months: n.rotate_left(32),
            years: n.rotate_left(48),
        },
        3 => Range::FirstOfDays(n),
        4 => Range::FirstOfMonths {
            months: n,
            day: small[0],
        },
        5 => Range::FirstOfWeeks {
            weeks: n,
            weekday: small[0],
        },
        6 => Range::FirstOfYears {
            years: n,
            day: u16::from(small[0]) * 2,
        },
        7 => Range::LastByDay(n),
        8 => Range::LastByWeek(n),
        9 => Range::LastByMonth(n),
        _ => Range::LastByYear(n),
    };
    let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
    let now = time(now).to_zoned(zone);
    if let Ok(kept) = Policy::DeleteExcept(vec![range]).kept(&times, &now) {
        assert_eq!(kept.len(), times.len());
    }
}

/// What the parsers read in a real repository: names of parsers, and bytes for them.
///
/// # Errors
/// The repository can not be read.
#[cfg(feature = "fuzzing")]
pub fn samples(repo: &crate::Repository, password: &str) -> crate::RepoResult<Vec<(&'static str, Vec<u8>)>> {
    use crate::pack::BlobType;
    use encke_storage::FileKind;
    let backend = repo.backend();
    let mut out = Vec::new();
    let sealed = backend.get(FileKind::Config, "")?;
    out.push(("config", repo.key().open(&sealed)?));
    out.push(("envelope", sealed));
    for (name, _) in backend.list(FileKind::Key)? {
        let file = backend.get(FileKind::Key, &name)?;
        if let Some(master) = crate::keys::master_json(&file, password) {
            out.push(("key", master));
        }
        out.push(("key", file));
    }
    for (kind, parser) in [
        (FileKind::Index, "index"),
        (FileKind::Snapshot, "snapshot"),
        (FileKind::Lock, "lock"),
    ] {
        for (name, _) in backend.list(kind)? {
            let sealed = backend.get(kind, &name)?;
            out.push((
                "file",
                repo.key().open(&sealed)?.get(1..).unwrap_or_default().to_vec(),
            ));
            out.push((parser, repo.load_file(kind, &name)?));
        }
    }
    for (name, _) in backend.list(FileKind::Pack)? {
        let pack = backend.get(FileKind::Pack, &name)?;
        let length = pack.last_chunk().map_or(0, |l| u32::from_le_bytes(*l) as usize);
        let end = pack.len().saturating_sub(4);
        let header = pack.get(end.saturating_sub(length)..end).unwrap_or_default();
        out.push(("pack", repo.key().open(header)?));
        for blob in pack::header(repo.key(), &pack)? {
            if blob.kind == BlobType::Tree {
                let tree = repo.load_blob(BlobType::Tree, &blob.id)?;
                for node in Tree::parse(&tree)?.nodes {
                    let mut time = String::new();
                    gotext::write_time(node.mtime, &mut time);
                    out.push(("text", time.into_bytes()));
                    out.push(("text", gotext::quote(&node.name).into_owned().into_bytes()));
                }
                out.push(("tree", tree));
            }
        }
    }
    Ok(out)
}
