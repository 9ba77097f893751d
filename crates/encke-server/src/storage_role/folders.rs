//! Where a bucket's bytes lie: `buckets/<id>/` with restic's own layout inside (`config`, `data/xx/`, `keys/`,
//! `locks/`, `snapshots/`, `index/`) and `tmp/` for uploads under way. Everything here blocks: it belongs on a thread
//! for blocking work.

use encke_store::BucketId;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Name of the folder for uploads under way.
const TEMP: &str = "tmp";
/// Name of the folder for deleted objects, a folder an hour inside.
const TRASH: &str = "trash";
/// Seconds whose deletions share a folder.
const TRASH_STEP: i64 = 3600;
/// Start of the name of a bucket's folder that waits to be removed.
const RETIRED: &str = ".deleted-";
/// Length of an object's name: SHA-256 in hexadecimal.
const NAME_LENGTH: usize = 64;

/// The kinds of objects that are named by their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Data,
    Keys,
    Locks,
    Snapshots,
    Index,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] = [Kind::Data, Kind::Keys, Kind::Locks, Kind::Snapshots, Kind::Index];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Data => "data",
            Kind::Keys => "keys",
            Kind::Locks => "locks",
            Kind::Snapshots => "snapshots",
            Kind::Index => "index",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.word() == word)
    }
}

/// One object of a bucket. Can only be made of a safe name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Object {
    /// The repository's configuration: the one object that is not named by its content.
    Config,
    /// Any other.
    Named(Kind, ObjectName),
}

impl Object {
    /// The object of a path below its bucket, such as `config` or `data/<name>`, if it is one.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        match path.split_once('/') {
            None => (path == "config").then_some(Object::Config),
            Some((kind, name)) => Some(Object::Named(Kind::parse(kind)?, ObjectName::parse(name)?)),
        }
    }

    /// Its path below its bucket, as [`Object::parse`] reads it.
    pub(crate) fn path(&self) -> String {
        match self {
            Object::Config => "config".into(),
            Object::Named(kind, name) => format!("{}/{}", kind.word(), name.0),
        }
    }
}

/// SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectName(String);

impl ObjectName {
    /// The name of these bytes.
    pub(crate) fn of(hash: &[u8; 32]) -> Self {
        Self(hex::encode(hash))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == NAME_LENGTH && digits).then(|| Self(text.to_string()))
    }

    pub(super) fn is_hash(&self, hash: &[u8]) -> bool {
        self.0 == hex::encode(hash)
    }
}

/// A bucket's folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of a bucket below the folder of all buckets.
    pub(super) fn of(root: &Path, id: &BucketId) -> Self {
        Self {
            path: root.join(id.as_str()),
        }
    }

    /// Whether it is there. It must be, for each bucket that the database knows.
    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes it with what belongs inside. Empty folders left by a crash are taken over.
    ///
    /// # Errors
    /// `AlreadyExists` if something lies there that belongs to no bucket.
    pub(super) fn create(&self) -> io::Result<()> {
        if self.exists() {
            self.remove_if_empty()
                .map_err(|e| io::Error::new(io::ErrorKind::AlreadyExists, e))?;
        }
        make_folder(&self.path)?;
        for kind in Kind::ALL {
            make_folder(&self.path.join(kind.word()))?;
        }
        make_folder(&self.path.join(TEMP))?;
        sync_folder(&self.path)?;
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))
    }

    /// Removes it unless it holds a file.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, or what the system says.
    pub(super) fn remove_if_empty(&self) -> io::Result<()> {
        for kind in Kind::ALL.map(Kind::word).into_iter().chain([TEMP]) {
            match fs::remove_dir(self.path.join(kind)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::remove_dir(&self.path)
    }

    /// Moves it out of the way, to be removed. Gives its new place, or nothing if it was not there.
    pub(super) fn retire(&self, mark: &str) -> io::Result<Option<PathBuf>> {
        let (Some(root), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(None);
        };
        let retired = root.join(format!("{RETIRED}{}.{mark}", name.to_string_lossy()));
        match fs::rename(&self.path, &retired) {
            Ok(()) => {
                sync_folder(root)?;
                Ok(Some(retired))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes a retired folder back.
    pub(super) fn bring_back(&self, retired: &Path) -> io::Result<()> {
        fs::rename(retired, &self.path)?;
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))
    }

    /// Where an object lies.
    pub(crate) fn object(&self, object: &Object) -> PathBuf {
        match object {
            Object::Config => self.path.join("config"),
            Object::Named(Kind::Data, name) => self.path.join("data").join(&name.0[..2]).join(&name.0),
            Object::Named(kind, name) => self.path.join(kind.word()).join(&name.0),
        }
    }

    /// Where an upload is gathered.
    pub(super) fn temp(&self, name: &str) -> PathBuf {
        self.path.join(TEMP).join(name)
    }

    /// Puts a gathered upload in its place, to stay there through a power cut. The file's content must be on the
    /// disk already. An object of the same name has the same content and is replaced in one step; a configuration is
    /// never replaced.
    ///
    /// # Errors
    /// `AlreadyExists` for a second configuration.
    pub(super) fn publish(&self, temp: &Path, object: &Object) -> io::Result<()> {
        let target = self.object(object);
        let parent = target.parent().unwrap_or(&self.path);
        if *object == Object::Config {
            fs::hard_link(temp, &target)?;
            fs::remove_file(temp)?;
        } else {
            match fs::rename(temp, &target) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    // The first object of a `data/xx`, or one of the first: they may come at the same moment. Not a
                    // bucket's own folder, which may be gone for good.
                    match make_folder(parent) {
                        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                        _ => sync_folder(parent.parent().unwrap_or(&self.path))?,
                    }
                    fs::rename(temp, &target)?;
                }
                other => other?,
            }
        }
        sync_folder(parent)
    }

    /// Makes sure that an object that is there is there to stay, whoever put it there a moment ago.
    pub(super) fn settle(&self, object: &Object) -> io::Result<()> {
        sync_folder(self.object(object).parent().unwrap_or(&self.path))
    }

    /// Takes an object away for good, or into the trash. Gives its size.
    pub(super) fn delete(&self, object: &Object, to_trash: bool, now: i64) -> io::Result<u64> {
        let path = self.object(object);
        let size = fs::metadata(&path)?.len();
        if !to_trash {
            fs::remove_file(&path)?;
            return Ok(size);
        }
        let trash = self.path.join(TRASH);
        let hour = trash.join((now - now.rem_euclid(TRASH_STEP)).to_string());
        for folder in [&trash, &hour] {
            match make_folder(folder) {
                Ok(()) => sync_folder(folder.parent().unwrap_or(&self.path))?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        let name = match object {
            Object::Config => "config".to_string(),
            Object::Named(kind, name) => format!("{}-{}", kind.word(), name.0),
        };
        fs::rename(&path, hour.join(name))?;
        // Before the place it left: at a power cut the object is in both rather than in none.
        sync_folder(&hour)?;
        sync_folder(path.parent().unwrap_or(&self.path))?;
        Ok(size)
    }

    /// Hands over what is in the trash: the hour it was deleted in (Unix seconds), what it is, its file and size.
    pub(super) fn each_deleted(
        &self,
        mut on_object: impl FnMut(i64, Object, &Path, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        for (hour, folder) in self.trash_hours()? {
            let entries = match fs::read_dir(&folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let object = match name.to_str() {
                    Some("config") => Some(Object::Config),
                    Some(name) => name.split_once('-').and_then(|(kind, name)| {
                        Some(Object::Named(Kind::parse(kind)?, ObjectName::parse(name)?))
                    }),
                    None => None,
                };
                if let (Some(object), Ok(m)) = (object, entry.metadata()) {
                    on_object(hour, object, &entry.path(), m.len())?;
                }
            }
        }
        Ok(())
    }

    /// Brings back what was deleted since an hour, unless it was uploaded again. Gives how many objects, and their
    /// bytes. Once more after a crash, it goes on where it was.
    pub(super) fn undelete(&self, since: i64) -> io::Result<(u64, u64)> {
        let (mut objects, mut bytes) = (0, 0);
        self.each_deleted(|hour, object, file, size| {
            // An hour's folder holds what was deleted until its end.
            if hour + TRASH_STEP <= since {
                return Ok(());
            }
            if self.object(&object).try_exists()? {
                return fs::remove_file(file);
            }
            self.publish(file, &object)?;
            objects += 1;
            bytes += size;
            Ok(())
        })?;
        Ok((objects, bytes))
    }

    /// Removes for good what was deleted before a time.
    pub(super) fn empty_trash(&self, before: i64) -> io::Result<()> {
        for (hour, folder) in self.trash_hours()? {
            if hour + TRASH_STEP <= before {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }

    fn trash_hours(&self) -> io::Result<Vec<(i64, PathBuf)>> {
        let entries = match fs::read_dir(self.path.join(TRASH)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut hours = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Some(hour) = entry.file_name().to_str().and_then(|n| n.parse().ok()) {
                hours.push((hour, entry.path()));
            }
        }
        hours.sort();
        Ok(hours)
    }

    /// Hands over the objects of a kind, with their size if it is asked for.
    pub(crate) fn each_object(
        &self,
        kind: Kind,
        with_size: bool,
        mut on_object: impl FnMut(&str, u64) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut folders = Vec::new();
        let top = self.path.join(kind.word());
        if kind == Kind::Data {
            for entry in fs::read_dir(&top)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
            }
        } else {
            folders.push(top);
        }
        for folder in folders {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let Some(name) = entry.file_name().to_str().and_then(ObjectName::parse) else {
                    continue;
                };
                let size = match with_size.then(|| entry.metadata()) {
                    None => 0,
                    Some(Ok(m)) => m.len(),
                    // Deleted since it was listed.
                    Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => continue,
                    Some(Err(e)) => return Err(e),
                };
                if on_object(&name.0, size).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Counts the bytes of all objects.
    pub(super) fn measure(&self) -> io::Result<u64> {
        let mut sum = match fs::metadata(self.object(&Object::Config)) {
            Ok(m) => m.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        for kind in Kind::ALL {
            self.each_object(kind, true, |_, size| {
                sum = sum.saturating_add(size);
                ControlFlow::Continue(())
            })?;
        }
        Ok(sum)
    }

    /// Removes what uploads left behind that broke off with an earlier process. `mine` is how the names of this
    /// process's own uploads begin.
    pub(super) fn sweep(&self, mine: &str) -> io::Result<u64> {
        let mut removed = 0;
        let entries = match fs::read_dir(self.path.join(TEMP)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(mine) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// What lies in the folder of all buckets.
#[derive(Default)]
pub(super) struct Found {
    /// Buckets' folders, and what looks like them.
    pub(super) buckets: Vec<BucketId>,
    /// Folders that were moved out of the way, and the bucket each belonged to.
    pub(super) retired: Vec<(BucketId, PathBuf)>,
}

/// Everything in the folder of all buckets, which is made if it is not there.
pub(super) fn scan(root: &Path) -> io::Result<Found> {
    ensure(root)?;
    let mut found = Found::default();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let retired = name
            .strip_prefix(RETIRED)
            .and_then(|n| n.rsplit_once('.'))
            .and_then(|(id, _)| BucketId::parse(id));
        if let Some(id) = retired {
            found.retired.push((id, entry.path()));
        } else if let Some(id) = BucketId::parse(name) {
            found.buckets.push(id);
        }
    }
    Ok(found)
}

/// Makes the folder of all buckets if it is not there.
pub(super) fn ensure(root: &Path) -> io::Result<()> {
    match make_folder(root) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Removes a retired folder with all it holds.
pub(super) fn remove_retired(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A folder that only the server may look into.
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};

    /// A new folder of `data/` is made by whoever comes first, and nobody fails for coming second.
    #[test]
    fn first_objects_of_a_new_folder_can_come_at_the_same_moment() {
        const AT_ONCE: usize = 4;
        let root = tempfile::tempdir().unwrap();
        let folder = Folder {
            path: root.path().join("bucket"),
        };
        folder.create().unwrap();
        let (gate, failures) = (Barrier::new(AT_ONCE), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for n in 0..AT_ONCE {
                let (folder, gate, failures) = (&folder, &gate, &failures);
                scope.spawn(move || {
                    for prefix in 0..=255u8 {
                        let name = ObjectName(format!("{prefix:02x}{n:062x}"));
                        let draft = folder.temp(&name.0);
                        fs::write(&draft, [prefix]).unwrap();
                        gate.wait();
                        let published = folder.publish(&draft, &Object::Named(Kind::Data, name));
                        // Told at the end: the others wait at the gate.
                        if let Err(e) = published {
                            failures.lock().unwrap().push(e);
                        }
                    }
                });
            }
        });
        let failures: Vec<io::Error> = failures.into_inner().unwrap();
        assert!(failures.is_empty(), "{failures:?}");
    }
}
