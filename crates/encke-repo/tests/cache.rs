//! What a device keeps of a repository that lies elsewhere: to lose it costs reading it again, and nothing else.

#![allow(clippy::unwrap_used)]

mod support;

use encke_repo::{BackupOptions, BackupSummary, InitOptions, Repository};
use encke_storage::{Backend, FileKind, Local, StorageResult};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::{PASSWORD, Place, assert_same, check_data, make_everything, noise};

/// A call: what, of which kind, and of which file.
type Call = (&'static str, FileKind, String);

/// A place that is not this machine's disk, as far as the engine knows, and that notes what is asked of it.
struct Counted {
    inner: Arc<Local>,
    calls: Mutex<Vec<Call>>,
}

impl Counted {
    fn note(&self, what: &'static str, kind: FileKind, name: &str) -> &Local {
        self.calls.lock().unwrap().push((what, kind, name.to_string()));
        &self.inner
    }

    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl Backend for Counted {
    fn create(&self) -> StorageResult<()> {
        self.inner.create()
    }
    fn list(&self, kind: FileKind) -> StorageResult<Vec<(String, u64)>> {
        self.note("list", kind, "").list(kind)
    }
    fn get(&self, kind: FileKind, name: &str) -> StorageResult<Vec<u8>> {
        self.note("get", kind, name).get(kind, name)
    }
    fn read_range(&self, kind: FileKind, name: &str, offset: u64, out: &mut [u8]) -> StorageResult<()> {
        self.note("part", kind, name).read_range(kind, name, offset, out)
    }
    fn put(&self, kind: FileKind, name: &str, content: &[u8]) -> StorageResult<()> {
        self.note("put", kind, name).put(kind, name, content)
    }
    fn delete(&self, kind: FileKind, name: &str) -> StorageResult<()> {
        self.note("delete", kind, name).delete(kind, name)
    }
    fn ping(&self) -> StorageResult<()> {
        self.inner.ping()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn parallel(&self) -> usize {
        4
    }
    fn is_local(&self) -> bool {
        false
    }
}

/// Files of a kind that were read, in order of their names; one that was read twice is there twice.
fn read(calls: &[Call], kind: FileKind) -> Vec<String> {
    let reads = calls
        .iter()
        .filter(|(what, k, _)| *k == kind && ["get", "part"].contains(what));
    let mut names: Vec<String> = reads.map(|(_, _, name)| name.clone()).collect();
    names.sort();
    names
}

/// Kinds of files that were written, in their order.
fn written(calls: &[Call]) -> Vec<String> {
    let puts = calls.iter().filter(|(what, ..)| *what == "put");
    let mut kinds: Vec<String> = puts.map(|(_, kind, _)| format!("{kind:?}")).collect();
    kinds.sort();
    kinds
}

/// Names of the copies below a folder of the cache.
fn copies(cache: &Path, kind: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for repository in fs::read_dir(cache).unwrap().flatten() {
        let files = fs::read_dir(repository.path().join(kind)).into_iter().flatten();
        names.extend(files.flatten().map(|f| f.file_name().into_string().unwrap()));
    }
    names.sort();
    names
}

#[test]
fn a_lost_or_damaged_cache_costs_a_second_reading_and_nothing_else() {
    let place = Place::new();
    make_everything(&place.src());
    drop(place.init());
    let storage = Arc::new(Counted {
        inner: place.storage(),
        calls: Mutex::default(),
    });
    let cache = place.dir.path().join("copies");
    let run = || -> (Vec<Call>, BackupSummary) {
        let options = InitOptions {
            cache_dir: Some(cache.clone()),
            ..InitOptions::default()
        };
        storage.take();
        let repo = Repository::open(storage.clone(), PASSWORD, options).unwrap();
        let parent = repo.snapshots().unwrap().pop();
        let options = BackupOptions {
            parent,
            ..BackupOptions::default()
        };
        let summary = place.backup_with(&repo, options);
        (storage.take(), summary)
    };
    for n in 0..3 {
        fs::write(place.src().join(format!("more{n}")), noise(100 + n, 200_000)).unwrap();
        run();
    }
    let (usual, before) = run();
    for kind in [FileKind::Index, FileKind::Pack, FileKind::Snapshot] {
        assert_eq!(
            read(&usual, kind),
            Vec::<String>::new(),
            "{kind:?} is read from the copies"
        );
    }
    assert_eq!((before.files_new, before.files_changed), (0, 0));
    for lost in [true, false] {
        let kept = ["index", "snapshots", "data"].map(|kind| copies(&cache, kind));
        assert_eq!(kept.clone().map(|k| k.len() > 2), [true; 3], "{kept:?}");
        if lost {
            fs::remove_dir_all(&cache).unwrap();
        } else {
            for folder in fs::read_dir(&cache).unwrap().flatten() {
                for kind in ["index", "snapshots", "data"] {
                    for file in fs::read_dir(folder.path().join(kind)).unwrap().flatten() {
                        fs::write(file.path(), noise(7, 100)).unwrap();
                    }
                }
            }
        }
        let (calls, after) = run();
        // Each index file and each snapshot once; of the packs those with listings alone, and each once.
        assert_eq!(read(&calls, FileKind::Index), kept[0], "lost: {lost}");
        assert_eq!(read(&calls, FileKind::Snapshot), kept[1], "lost: {lost}");
        let (packs, listings) = (read(&calls, FileKind::Pack), BTreeSet::from_iter(&kept[2]));
        assert!(
            !packs.is_empty() && packs.iter().all(|p| listings.contains(p)),
            "lost: {lost}"
        );
        if lost {
            assert_eq!(BTreeSet::from_iter(&packs).len(), packs.len(), "{packs:?}");
        }
        // A snapshot; and the folders above, whose times change when somebody makes a file there.
        let most = ["Index", "Pack", "Snapshot"].map(String::from);
        assert!(
            most.ends_with(&written(&calls)) && after.uploaded < 50_000,
            "{:?}",
            written(&calls)
        );
        assert_eq!(
            (
                after.files_new,
                after.files_changed,
                after.files_unmodified,
                after.bytes
            ),
            (0, 0, before.files_unmodified, before.bytes)
        );
        let (again, _) = run();
        assert_eq!(read(&again, FileKind::Index), Vec::<String>::new());
    }
    assert_eq!(check_data(&place.open()).errors, Vec::<String>::new());
    let repo = place.open();
    let restored = place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored");
    assert_same(&place.src(), &restored);
}
