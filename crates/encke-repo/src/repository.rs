//! A repository: opening, blobs, and the files that are not packs.

use crate::chunker::Chunker;
use crate::crypto::{Key, random};
use crate::error::{RepoError, RepoResult};
use crate::id::{Id, IdSet};
use crate::index::{Index, Loaded, Location};
use crate::keys::{self, KeyInfo};
use crate::node::{Node, NodeType, Tree};
use crate::pack::BlobType;
use crate::packer::PACK_SIZE;
use crate::polynomial::{DEGREE, degree, is_irreducible};
use crate::snapshot::Snapshot;
use encke_storage::{Backend, FileKind, StorageError};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// First byte of a compressed file that is not a pack.
const COMPRESSED: u8 = 2;
/// Largest file or blob accepted after decompression, in bytes.
const MAX_UNPACKED: usize = 1 << 30;
/// Level for index and snapshot files.
const FILE_LEVEL: i32 = 3;

/// Index files by name.
pub(crate) type IndexFiles = Vec<(String, Loaded)>;

#[derive(Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    version: u32,
    id: String,
    chunker_polynomial: String,
}

impl ConfigFile {
    /// Reads an opened configuration, and its polynomial.
    pub(crate) fn parse(text: &[u8]) -> RepoResult<(Self, u64)> {
        let damaged = |e: &dyn std::fmt::Display| RepoError::Damaged(format!("config: {e}"));
        let config: Self = serde_json::from_slice(text).map_err(|e| damaged(&e))?;
        if !(1..=2).contains(&config.version) {
            return Err(RepoError::Version(config.version));
        }
        let polynomial = u64::from_str_radix(&config.chunker_polynomial, 16)
            .ok()
            .filter(|&p| degree(p) == DEGREE)
            .ok_or_else(|| damaged(&"the polynomial can not be used"))?;
        Ok((config, polynomial))
    }
}

/// How to open or make a repository.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// Folder for copies of index files, snapshots and trees of a repository that is not local.
    pub cache_dir: Option<PathBuf>,
    /// Threads of each operation; 0 for as many as the machine has cores, or more if the storage gains by it.
    pub threads: usize,
    /// A pack is written when it has this many bytes, within [`PACK_SIZES`]; 0 for restic's own 16 MiB.
    pub pack_size: usize,
    /// For a new repository: the polynomial that files are cut by, of another repository so that both cut alike
    /// (restic's `--copy-chunker-params`). Without it a random one. It must be irreducible and of degree 53.
    pub polynomial: Option<u64>,
}

/// An open repository.
pub struct Repository {
    backend: Arc<dyn Backend>,
    key: Key,
    key_id: Id,
    id: String,
    version: u32,
    chunker: Chunker,
    index: RwLock<Index>,
    loaded: Mutex<HashSet<String>>,
    cache: Option<PathBuf>,
    threads: usize,
    pack_size: usize,
}

/// Bytes that packs may have: the limits of stock restic.
pub const PACK_SIZES: std::ops::RangeInclusive<usize> = 4 << 20..=128 << 20;
/// Threads at most when it is not said how many.
const MAX_THREADS: usize = 16;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Removes a key that opens nothing. Storage that lets nothing be deleted keeps it: opening passes it over.
fn remove_key(backend: &dyn Backend, name: &str) {
    if let Err(e) = backend.delete(FileKind::Key, name) {
        tracing::warn!(error = %e, key = name, "a key that opens nothing could not be removed");
    }
}

impl Repository {
    /// Makes a new repository of version 2.
    ///
    /// # Errors
    /// [`RepoError::Exists`], or the storage fails.
    pub fn init(backend: Arc<dyn Backend>, password: &str, options: InitOptions) -> RepoResult<Self> {
        match backend.get(FileKind::Config, "") {
            Ok(_) => return Err(RepoError::Exists),
            Err(StorageError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
        let polynomial = match options.polynomial {
            Some(p) if degree(p) == DEGREE && is_irreducible(p) => p,
            Some(p) => return Err(RepoError::Invalid(format!("{p:x} is not a polynomial to cut by"))),
            None => crate::polynomial::random()
                .map_err(|_| RepoError::Invalid("the system gives no random numbers".into()))?,
        };
        backend.create()?;
        let master = Key::random()?;
        let own = keys::add(&*backend, &master, password)?.to_string();
        let mut id = [0; 32];
        random(&mut id)?;
        let config = ConfigFile {
            version: 2,
            id: hex::encode(id),
            chunker_polynomial: format!("{polynomial:x}"),
        };
        let text = serde_json::to_vec(&config).map_err(|e| RepoError::Invalid(e.to_string()))?;
        let mut sealed = Vec::new();
        master.seal(&text, &mut sealed)?;
        // Last, since it is what makes a repository: a crash before leaves none.
        let put = backend.put(FileKind::Config, "", &sealed);
        // Of several that make a repository at once one wins: storage never replaces a config.
        if backend.get(FileKind::Config, "").is_ok_and(|c| c != sealed) {
            remove_key(&*backend, &own);
            return Err(RepoError::Exists);
        }
        put?;
        // Keys of those that did not win, or whose config never came to be: they open nothing.
        for (name, _) in backend.list(FileKind::Key)?.iter().filter(|(n, _)| *n != own) {
            remove_key(&*backend, name);
        }
        Self::open(backend, password, options)
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// [`RepoError::Missing`], [`RepoError::WrongPassword`], or the storage fails.
    pub fn open(backend: Arc<dyn Backend>, password: &str, options: InitOptions) -> RepoResult<Self> {
        let sealed = backend.get(FileKind::Config, "").map_err(|e| match e {
            StorageError::NotFound(_) => RepoError::Missing,
            e => e.into(),
        })?;
        let (key_id, key) = keys::open(&*backend, password, |key| key.open(&sealed).is_ok())?;
        let text = key
            .open(&sealed)
            .map_err(|e| RepoError::Damaged(format!("config: {e}")))?;
        let (config, polynomial) = ConfigFile::parse(&text)?;
        let cache = options
            .cache_dir
            .filter(|_| !backend.is_local())
            .map(|dir| dir.join(&config.id));
        Ok(Self {
            backend,
            key,
            key_id,
            id: config.id,
            version: config.version,
            chunker: Chunker::new(polynomial),
            index: RwLock::default(),
            loaded: Mutex::default(),
            cache,
            threads: options.threads,
            pack_size: match options.pack_size {
                0 => PACK_SIZE,
                size => size.clamp(*PACK_SIZES.start(), *PACK_SIZES.end()),
            },
        })
    }

    /// Threads for work that reads the storage. A local disk is waited for as well, since what is large goes past the page
    /// cache: meanwhile others keep the processor busy.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 if self.backend.is_local() => (cores() + self.backend.parallel()).min(MAX_THREADS),
            0 => cores().max(self.backend.parallel()).min(MAX_THREADS),
            n => n,
        }
    }

    /// Threads for work that keeps the processor busy.
    pub(crate) fn busy_threads(&self) -> usize {
        match self.threads {
            0 => cores().clamp(2, MAX_THREADS),
            n => n,
        }
    }

    /// Threads that write packs. Each holds a pack in memory; a local disk takes packs faster than two busy threads
    /// make them.
    pub(crate) fn writers(&self) -> usize {
        match self.backend.parallel() {
            most if self.backend.is_local() => (self.busy_threads() / 2).clamp(1, most),
            n => n,
        }
    }

    /// Bytes of a full pack.
    pub(crate) fn pack_size(&self) -> usize {
        self.pack_size
    }

    /// Random id of the repository, hexadecimal.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether blobs and files may be compressed: not in version 1 of the format.
    pub(crate) fn compresses(&self) -> bool {
        self.version > 1
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn chunker(&self) -> &Chunker {
        &self.chunker
    }

    /// Names of the index files whose content is in memory.
    pub(crate) fn loaded_index(&self) -> HashSet<String> {
        self.loaded.lock().clone()
    }

    /// Notes that the content of an index file is in memory.
    pub(crate) fn note_index(&self, id: Id) {
        self.loaded.lock().insert(id.to_string());
    }

    pub(crate) fn index(&self) -> &RwLock<Index> {
        &self.index
    }

    /// Lists the passwords' keys; the one in use is [`Repository::key_id`].
    ///
    /// # Errors
    /// The storage fails.
    pub fn keys(&self) -> RepoResult<Vec<KeyInfo>> {
        keys::list(self.backend())
    }

    /// The key this repository was opened with.
    #[must_use]
    pub fn key_id(&self) -> Id {
        self.key_id
    }

    /// Adds another password.
    ///
    /// # Errors
    /// The storage fails.
    pub fn add_key(&self, password: &str) -> RepoResult<Id> {
        keys::add(self.backend(), &self.key, password)
    }

    /// Replaces the password in use.
    ///
    /// # Errors
    /// The storage fails; then the old password may still be valid.
    pub fn change_password(&mut self, password: &str) -> RepoResult<Id> {
        let new = self.add_key(password)?;
        let old = std::mem::replace(&mut self.key_id, new);
        self.backend.delete(FileKind::Key, &old.to_string())?;
        Ok(new)
    }

    /// Removes a password's key, but not the one in use.
    ///
    /// # Errors
    /// The storage fails.
    pub fn remove_key(&self, id: Id) -> RepoResult<()> {
        if id == self.key_id {
            return Err(RepoError::Invalid("the key in use can not be removed".into()));
        }
        Ok(self.backend.delete(FileKind::Key, &id.to_string())?)
    }

    /// Seals and writes a file that is not a pack. Answers its name and size.
    pub(crate) fn save_json<T: Serialize>(&self, kind: FileKind, value: &T) -> RepoResult<(Id, u64)> {
        let text = serde_json::to_vec(value).map_err(|e| RepoError::Invalid(e.to_string()))?;
        let packed = if self.compresses() {
            let packed = zstd::bulk::compress(&text, FILE_LEVEL);
            let packed = packed.map_err(|e| RepoError::Invalid(e.to_string()))?;
            [&[COMPRESSED], &packed[..]].concat()
        } else {
            text
        };
        let mut sealed = Vec::new();
        self.key.seal(&packed, &mut sealed)?;
        let id = Id::of(&sealed);
        self.backend.put(kind, &id.to_string(), &sealed)?;
        self.cache_write(kind, &id.to_string(), &sealed);
        Ok((id, sealed.len() as u64))
    }

    pub(crate) fn load_file(&self, kind: FileKind, name: &str) -> RepoResult<Vec<u8>> {
        let sealed = match self.cache_read(kind, name) {
            Some(sealed) => sealed,
            None => {
                let sealed = self.backend.get(kind, name)?;
                if Id::of(&sealed).to_string() != name {
                    return Err(RepoError::Damaged(format!(
                        "{}/{name}: the content is not what the name says",
                        kind.folder()
                    )));
                }
                self.cache_write(kind, name, &sealed);
                sealed
            }
        };
        let text = self
            .key
            .open(&sealed)
            .map_err(|_| RepoError::Damaged(format!("{}/{name}", kind.folder())))?;
        match text.first() {
            Some(&COMPRESSED) => decompress(&text[1..], MAX_UNPACKED),
            _ => Ok(text),
        }
    }

    /// A note beside the copies in the cache.
    pub(crate) fn cache_note(&self, name: &str) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.join(name))
    }

    fn cache_path(&self, kind: FileKind, name: &str) -> Option<PathBuf> {
        let cache = self.cache.as_ref()?;
        matches!(kind, FileKind::Index | FileKind::Snapshot | FileKind::Pack)
            .then(|| cache.join(kind.folder()).join(name))
    }

    /// A copy whose content is what its name says; anything else is read from the repository again.
    fn cache_read(&self, kind: FileKind, name: &str) -> Option<Vec<u8>> {
        let content = std::fs::read(self.cache_path(kind, name)?).ok()?;
        (Id::of(&content).to_string() == name).then_some(content)
    }

    /// Losing the cache costs only time, so a failure is none.
    fn cache_write(&self, kind: FileKind, name: &str, content: &[u8]) {
        let Some(path) = self.cache_path(kind, name) else {
            return;
        };
        let write = || -> std::io::Result<()> {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let draft = path.with_extension(format!("{}.tmp", std::process::id()));
            std::fs::write(&draft, content)?;
            std::fs::rename(&draft, &path)
        };
        if let Err(e) = write() {
            tracing::debug!(error = %e, "the repository cache could not be written");
        }
    }

    /// Keeps a copy of a pack of trees.
    pub(crate) fn cache_pack(&self, id: Id, content: &[u8]) {
        self.cache_write(FileKind::Pack, &id.to_string(), content);
    }

    /// Reads index files. One that another program has replaced meanwhile is left out.
    pub(crate) fn read_index(&self, names: HashSet<String>) -> RepoResult<IndexFiles> {
        let (files, damaged) = self.read_index_with_damage(names)?;
        damaged
            .into_iter()
            .next()
            .map_or(Ok(files), |(_, e)| Err(RepoError::Damaged(e)))
    }

    /// Reads index files; names those that are damaged, with the reason.
    pub(crate) fn read_index_with_damage(
        &self,
        names: HashSet<String>,
    ) -> RepoResult<(IndexFiles, Vec<(String, String)>)> {
        let names: Vec<String> = names.into_iter().collect();
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::with_capacity(names.len()));
        let damaged = Mutex::new(Vec::new());
        let load = || -> RepoResult<()> {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let file = self.load_file(FileKind::Index, name);
                match file.and_then(|text| crate::index::parse(&text)) {
                    Ok(file) => found.lock().push((name.clone(), file)),
                    Err(RepoError::Storage(StorageError::NotFound(_))) => {}
                    Err(e @ (RepoError::Storage(_) | RepoError::Cancelled)) => return Err(e),
                    Err(e) => damaged.lock().push((name.clone(), format!("index {name}: {e}"))),
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads = self.backend.parallel().min(names.len());
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(load)).collect();
            threads
                .into_iter()
                .try_for_each(|t| t.join().map_err(|_| RepoError::Stopped)?)
        })?;
        Ok((found.into_inner(), damaged.into_inner()))
    }

    /// Names of the index files in the storage.
    pub(crate) fn index_names(&self) -> RepoResult<HashSet<String>> {
        let listed = self.backend.list(FileKind::Index)?;
        Ok(listed.into_iter().map(|(name, _)| name).collect())
    }

    /// Loads what is new in the index, or all of it if something that was loaded has been replaced.
    ///
    /// # Errors
    /// The storage fails, or an index file is damaged.
    pub fn load_index(&self) -> RepoResult<()> {
        let mut names = self.index_names()?;
        {
            let loaded = self.loaded.lock();
            if loaded.is_subset(&names) {
                names.retain(|n| !loaded.contains(n));
                if names.is_empty() {
                    return Ok(());
                }
            } else {
                drop(loaded);
                return self.reload_index();
            }
        }
        let files = self.read_index(names)?;
        self.take_in(&files, &mut self.index.write());
        Ok(())
    }

    /// Forgets the index in memory and reads it anew.
    pub(crate) fn reload_index(&self) -> RepoResult<()> {
        let files = self.read_index(self.index_names()?)?;
        self.replace_index(&files);
        Ok(())
    }

    /// Puts index files that were just read in the place of the index in memory.
    pub(crate) fn replace_index(&self, files: &[(String, Loaded)]) {
        let mut index = Index::default();
        self.loaded.lock().clear();
        self.take_in(files, &mut index);
        *self.index.write() = index;
    }

    /// Forgets the index in memory; it is read again when it is needed.
    pub(crate) fn drop_index(&self) {
        self.loaded.lock().clear();
        *self.index.write() = Index::default();
    }

    fn take_in(&self, files: &[(String, Loaded)], index: &mut Index) {
        self.loaded
            .lock()
            .extend(files.iter().map(|(name, _)| name.clone()));
        index.extend(current(files));
    }

    /// Opens the sealed bytes of a blob and checks them against its name.
    pub(crate) fn open_blob(&self, id: &Id, sealed: &mut [u8], uncompressed: u32) -> RepoResult<Vec<u8>> {
        thread_local! {
            static UNSEALER: RefCell<Option<Unsealer>> = const { RefCell::new(None) };
        }
        UNSEALER.with_borrow_mut(|unsealer| {
            let unsealer = match unsealer {
                Some(unsealer) => unsealer,
                None => unsealer.insert(Unsealer::new()?),
            };
            Ok(unsealer.open(&self.key, id, sealed, uncompressed)?.to_vec())
        })
    }

    fn read_packed(&self, kind: BlobType, pack: Id, at: &Location) -> RepoResult<Vec<u8>> {
        let (name, length) = (pack.to_string(), at.length as usize);
        if kind == BlobType::Tree && self.cache.is_some() {
            let start = at.offset as usize;
            let whole = match self
                .cache_path(FileKind::Pack, &name)
                .and_then(|p| std::fs::File::open(p).ok())
            {
                Some(file) => {
                    let mut part = vec![0; length];
                    // Altered bytes are noticed when the blob is opened.
                    if std::os::unix::fs::FileExt::read_exact_at(&file, &mut part, u64::from(at.offset))
                        .is_ok()
                    {
                        return Ok(part);
                    }
                    self.backend.get(FileKind::Pack, &name)?
                }
                None => self.backend.get(FileKind::Pack, &name)?,
            };
            self.cache_write(FileKind::Pack, &name, &whole);
            let part = whole.get(start..start + length);
            return part
                .map(<[u8]>::to_vec)
                .ok_or_else(|| RepoError::Damaged(format!("pack {name}: too short")));
        }
        Ok(self
            .backend
            .get_range(FileKind::Pack, &name, u64::from(at.offset), length)?)
    }

    /// Reads a blob.
    ///
    /// # Errors
    /// [`RepoError::MissingBlob`], or it is damaged, or the storage fails.
    pub(crate) fn load_blob(&self, kind: BlobType, id: &Id) -> RepoResult<Vec<u8>> {
        let (at, pack) = {
            let index = self.index.read();
            let at = index.find(kind, id).ok_or(RepoError::MissingBlob(*id))?;
            (at, index.packs[at.pack as usize])
        };
        let mut sealed = self.read_packed(kind, pack, &at)?;
        match self.open_blob(id, &mut sealed, at.uncompressed) {
            // The copy may be at fault.
            Err(RepoError::Damaged(_)) if self.cache.is_some() => {
                let mut sealed = self.backend.get_range(
                    FileKind::Pack,
                    &pack.to_string(),
                    u64::from(at.offset),
                    at.length as usize,
                )?;
                self.open_blob(id, &mut sealed, at.uncompressed)
            }
            r => r,
        }
    }

    /// Reads a folder's listing. [`Repository::load_index`] must have run.
    ///
    /// # Errors
    /// It is missing or damaged, or the storage fails.
    pub fn tree(&self, id: &Id) -> RepoResult<Tree> {
        Tree::parse(&self.load_blob(BlobType::Tree, id)?)
    }

    /// All snapshots, oldest first. One that can not be read is left out and named in `damaged`.
    ///
    /// # Errors
    /// The storage fails.
    pub fn snapshots_with_damage(&self) -> RepoResult<(Vec<Snapshot>, Vec<String>)> {
        let (mut out, mut damaged) = (Vec::new(), Vec::new());
        for (name, _) in self.backend.list(FileKind::Snapshot)? {
            match self.load_snapshot(&name) {
                Ok(snapshot) => out.push(snapshot),
                Err(RepoError::Storage(StorageError::NotFound(_))) => {}
                Err(e @ (RepoError::Storage(_) | RepoError::Cancelled)) => return Err(e),
                Err(e) => damaged.push(format!("snapshot {name}: {e}")),
            }
        }
        out.sort_by_key(|s| (s.time, s.id));
        Ok((out, damaged))
    }

    /// All readable snapshots, oldest first.
    ///
    /// # Errors
    /// The storage fails.
    pub fn snapshots(&self) -> RepoResult<Vec<Snapshot>> {
        Ok(self.snapshots_with_damage()?.0)
    }

    fn load_snapshot(&self, name: &str) -> RepoResult<Snapshot> {
        let text = self.load_file(FileKind::Snapshot, name)?;
        let mut snapshot: Snapshot =
            serde_json::from_slice(&text).map_err(|e| RepoError::Damaged(format!("snapshot {name}: {e}")))?;
        snapshot.id = Id::parse(name).ok_or_else(|| RepoError::Damaged(format!("snapshot name {name}")))?;
        Ok(snapshot)
    }

    /// A snapshot by its id, a prefix of it that only it has, or `latest`.
    ///
    /// # Errors
    /// [`RepoError::NotFound`], or the storage fails.
    pub fn snapshot(&self, name: &str) -> RepoResult<Snapshot> {
        if Id::parse(name).is_some() {
            return self.load_snapshot(name).map_err(|e| match e {
                RepoError::Storage(StorageError::NotFound(_)) => {
                    RepoError::NotFound(format!("snapshot {name}"))
                }
                e => e,
            });
        }
        let mut found = self.snapshots()?;
        if name != "latest" {
            found.retain(|s| !name.is_empty() && s.id.to_string().starts_with(name));
            if found.len() > 1 {
                return Err(RepoError::NotFound(format!(
                    "snapshot {name} (several begin like that)"
                )));
            }
        }
        found
            .pop()
            .ok_or_else(|| RepoError::NotFound(format!("snapshot {name}")))
    }

    /// Removes snapshots. What only they used stays until the next prune.
    ///
    /// # Errors
    /// The storage fails.
    pub fn delete_snapshots(&self, ids: &[Id]) -> RepoResult<()> {
        for id in ids {
            self.backend.delete(FileKind::Snapshot, &id.to_string())?;
        }
        Ok(())
    }

    /// The node at a full path inside a snapshot.
    ///
    /// # Errors
    /// [`RepoError::NotFound`], or a tree is damaged.
    pub fn node_at(&self, snapshot: &Snapshot, path: &Path) -> RepoResult<Node> {
        use std::os::unix::ffi::OsStrExt as _;
        let missing = || RepoError::NotFound(path.display().to_string());
        let mut tree = self.tree(&snapshot.tree)?;
        let mut found: Option<Node> = None;
        for part in path.components() {
            let std::path::Component::Normal(part) = part else {
                continue;
            };
            if let Some(folder) = &found {
                tree = self.tree(&folder.subtree.ok_or_else(missing)?)?;
            }
            found = Some(tree.find(part.as_bytes()).ok_or_else(missing)?.clone());
        }
        found.ok_or_else(missing)
    }

    /// Writes a file's content.
    ///
    /// # Errors
    /// It is not a file, a blob is missing or damaged, or `out` fails.
    pub fn dump(&self, node: &Node, out: &mut dyn Write) -> RepoResult<()> {
        if node.kind != NodeType::File {
            return Err(RepoError::Invalid(format!(
                "{} is not a file",
                String::from_utf8_lossy(&node.name)
            )));
        }
        for id in &node.content {
            let content = self.load_blob(BlobType::Data, id)?;
            out.write_all(&content).map_err(|error| RepoError::File {
                path: "output".into(),
                error,
            })?;
        }
        Ok(())
    }

    /// Bytes of all packs and index files.
    ///
    /// # Errors
    /// The storage fails.
    pub fn stored_bytes(&self) -> RepoResult<u64> {
        let mut sum = 0;
        for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
            sum += self.backend.list(kind)?.iter().map(|(_, size)| size).sum::<u64>();
        }
        Ok(sum)
    }
}

/// Index files that no other one replaces: those that are replaced may name packs that are gone by now.
pub(crate) fn current(files: &[(String, Loaded)]) -> impl Iterator<Item = &Loaded> + Clone {
    let replaced: Arc<IdSet> = Arc::new(
        files
            .iter()
            .flat_map(|(_, f)| f.supersedes.iter().copied())
            .collect(),
    );
    files
        .iter()
        .filter(move |(name, _)| Id::parse(name).is_some_and(|id| !replaced.contains(&id)))
        .map(|(_, file)| file)
}

/// Opens blobs, one after the other, in memory that is used again.
pub(crate) struct Unsealer {
    decompressor: zstd::bulk::Decompressor<'static>,
    content: Vec<u8>,
}

impl Unsealer {
    pub(crate) fn new() -> RepoResult<Self> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|e| RepoError::Invalid(format!("decompression: {e}")))?;
        Ok(Self {
            decompressor,
            content: Vec::new(),
        })
    }

    /// Opens a blob and checks it against its name.
    pub(crate) fn open<'a>(
        &'a mut self,
        key: &Key,
        id: &Id,
        sealed: &'a mut [u8],
        uncompressed: u32,
    ) -> RepoResult<&'a [u8]> {
        let damaged = || RepoError::Damaged(format!("blob {id}"));
        let text = key.open_in_place(sealed).map_err(|_| damaged())?;
        let size = uncompressed as usize;
        let content = if size == 0 {
            &*text
        } else {
            if size > MAX_UNPACKED {
                return Err(damaged());
            }
            if self.content.len() < size {
                self.content.resize(size, 0);
            }
            match self
                .decompressor
                .decompress_to_buffer(text, &mut self.content[..size])
            {
                Ok(n) if n == size => &self.content[..size],
                _ => return Err(damaged()),
            }
        };
        if Id::of(content) == *id {
            Ok(content)
        } else {
            Err(damaged())
        }
    }
}

/// Decompresses a file that is not a pack, if it has no more than so many bytes.
pub(crate) fn decompress(text: &[u8], most: usize) -> RepoResult<Vec<u8>> {
    let damaged = || RepoError::Damaged("compressed data".into());
    let mut out = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(text).map_err(|_| damaged())?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, most as u64 + 1), &mut out)
        .map_err(|_| damaged())?;
    if out.len() > most {
        return Err(damaged());
    }
    Ok(out)
}
