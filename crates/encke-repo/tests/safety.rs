//! What must not go wrong: damage is found and named, nothing leaves the target, locks are kept, a stop leaves a sound
//! repository.

#![allow(clippy::unwrap_used)]

mod support;

use encke_repo::{BackupOptions, Cancel, Overwrite, Progress, RepoError, Repository, RestoreOptions};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use support::{PASSWORD, Place, Warnings, assert_same, check_data, make_everything, noise, restore};

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files_of(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn check(repo: &Repository) -> Vec<String> {
    check_data(repo).errors
}

#[test]
fn a_flipped_bit_in_any_pack_is_found_and_named() {
    let place = Place::new();
    fs::write(place.src().join("a"), noise(1, 3_000_000)).unwrap();
    fs::write(place.src().join("b"), noise(2, 100)).unwrap();
    let repo = place.init();
    place.backup(&repo);
    assert_eq!(check(&repo), Vec::<String>::new());
    for pack in files_of(&place.repo_path().join("data")) {
        let sound = fs::read(&pack).unwrap();
        for at in [0, sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 4;
            fs::write(&pack, damaged).unwrap();
            let errors = check(&place.open());
            let name = pack.file_name().unwrap().to_str().unwrap();
            assert!(
                errors.iter().any(|e| e.contains(name)),
                "bit at {at} of {name}: {errors:?}"
            );
        }
        fs::remove_file(&pack).unwrap();
        assert!(!check(&place.open()).is_empty());
        fs::write(&pack, sound).unwrap();
    }
    assert_eq!(check(&place.open()), Vec::<String>::new());
}

#[test]
fn a_damaged_chunk_costs_its_file_only() {
    let place = Place::new();
    let repo = place.init();
    // In packs of their own.
    fs::write(place.src().join("sound"), noise(2, 100_000)).unwrap();
    place.backup(&repo);
    fs::write(place.src().join("damaged"), noise(1, 20_000_000)).unwrap();
    let summary = place.backup(&repo);
    let data = files_of(&place.repo_path().join("data"));
    let pack = data
        .iter()
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();
    let repo = place.open();
    let snapshot = repo.snapshot(&summary.snapshot_id).unwrap();
    for skip_unreadable in [false, true] {
        let target = place.dir.path().join(format!("restored {skip_unreadable}"));
        let warnings = Warnings::default();
        let options = RestoreOptions {
            target: target.clone(),
            skip_unreadable,
            ..Default::default()
        };
        let summary = repo
            .restore(
                &snapshot,
                &options,
                &Progress::default(),
                &Cancel::default(),
                &warnings.note(),
            )
            .unwrap();
        assert!(summary.warnings > 0);
        assert!(warnings.take().iter().all(|w| w.contains("damaged")));
        let restored = target.join(place.src().strip_prefix("/").unwrap());
        assert_eq!(fs::read(restored.join("sound")).unwrap(), noise(2, 100_000));
        let damaged = fs::read(restored.join("damaged"));
        if skip_unreadable {
            let (damaged, whole) = (damaged.unwrap(), noise(1, 20_000_000));
            assert_eq!(damaged.len(), whole.len());
            let same = damaged.iter().zip(&whole).filter(|(a, b)| a == b).count();
            assert!(damaged != whole && same > 100_000, "{same} bytes are the same");
        } else {
            assert!(damaged.is_err());
        }
    }
}

#[test]
fn a_truncated_index_or_snapshot_is_refused_by_name() {
    let place = Place::new();
    fs::write(place.src().join("a"), b"a").unwrap();
    let repo = place.init();
    place.backup(&repo);
    let path = &files_of(&place.repo_path().join("snapshots"))[0];
    let sound = fs::read(path).unwrap();
    fs::write(path, &sound[..sound.len() / 2]).unwrap();
    let errors = check(&place.open());
    assert!(
        errors[0].contains(path.file_name().unwrap().to_str().unwrap()),
        "{errors:?}"
    );
    fs::write(path, sound).unwrap();
    let path = &files_of(&place.repo_path().join("index"))[0];
    let sound = fs::read(path).unwrap();
    fs::write(path, &sound[..sound.len() / 2]).unwrap();
    let e = place.open().load_index().unwrap_err();
    assert!(
        e.to_string()
            .contains(path.file_name().unwrap().to_str().unwrap()),
        "{e}"
    );
}

#[test]
fn nothing_is_written_through_a_link_in_the_target() {
    let place = Place::new();
    let src = place.src();
    fs::create_dir_all(src.join("folder")).unwrap();
    fs::write(src.join("folder/file"), b"from the snapshot").unwrap();
    fs::write(src.join("name"), b"from the snapshot").unwrap();
    let repo = place.init();
    let summary = place.backup(&repo);
    let snapshot = repo.snapshot(&summary.snapshot_id).unwrap();
    for overwrite in [
        Overwrite::Never,
        Overwrite::Always,
        Overwrite::IfNewer,
        Overwrite::IfDifferent,
    ] {
        let outside = place.dir.path().join(format!("outside {overwrite:?}"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), b"untouched").unwrap();
        let target = place.dir.path().join(format!("target {overwrite:?}"));
        let restored = target.join(src.strip_prefix("/").unwrap());
        fs::create_dir_all(&restored).unwrap();
        symlink(&outside, restored.join("folder")).unwrap();
        symlink(outside.join("victim"), restored.join("name")).unwrap();
        let options = RestoreOptions {
            target,
            overwrite,
            ..Default::default()
        };
        let warnings = Warnings::default();
        repo.restore(
            &snapshot,
            &options,
            &Progress::default(),
            &Cancel::default(),
            &warnings.note(),
        )
        .unwrap();
        assert_eq!(
            fs::read(outside.join("victim")).unwrap(),
            b"untouched",
            "{overwrite:?}"
        );
        assert_eq!(files_of(&outside).len(), 1, "{overwrite:?}");
        if overwrite == Overwrite::Always {
            assert_same(&src, &restored);
        }
    }
}

#[test]
fn a_link_above_the_target_is_followed_as_asked() {
    let place = Place::new();
    fs::write(place.src().join("a"), b"a").unwrap();
    let repo = place.init();
    let summary = place.backup(&repo);
    fs::create_dir(place.dir.path().join("real")).unwrap();
    symlink(place.dir.path().join("real"), place.dir.path().join("link")).unwrap();
    let restored = place.restore(&repo, &repo.snapshot(&summary.snapshot_id).unwrap(), "link");
    assert_same(&place.src(), &restored);
}

#[test]
fn overwrite_rules_are_kept() {
    let place = Place::new();
    let src = place.src();
    for name in ["same", "older", "newer", "missing"] {
        fs::write(src.join(name), format!("snapshot's {name}")).unwrap();
    }
    let repo = place.init();
    let summary = place.backup(&repo);
    let snapshot = repo.snapshot(&summary.snapshot_id).unwrap();
    let now = fs::metadata(src.join("same")).unwrap().mtime();
    let cases = [
        (Overwrite::Never, "disk's", "disk's"),
        (Overwrite::Always, "snapshot's", "snapshot's"),
        (Overwrite::IfNewer, "snapshot's", "disk's"),
        (Overwrite::IfDifferent, "snapshot's", "snapshot's"),
    ];
    for (overwrite, older, newer) in cases {
        let target = place.dir.path().join(format!("target {overwrite:?}"));
        let restored = target.join(src.strip_prefix("/").unwrap());
        fs::create_dir_all(&restored).unwrap();
        fs::write(restored.join("same"), "snapshot's same").unwrap();
        for (name, age) in [("older", -1000), ("newer", 1000)] {
            fs::write(restored.join(name), format!("disk's {name}")).unwrap();
            let t = rustix::fs::Timespec {
                tv_sec: now + age,
                tv_nsec: 0,
            };
            let times = rustix::fs::Timestamps {
                last_access: t,
                last_modification: t,
            };
            let flags = rustix::fs::AtFlags::empty();
            rustix::fs::utimensat(rustix::fs::CWD, restored.join(name), &times, flags).unwrap();
        }
        let inode = fs::metadata(restored.join("same")).unwrap().ino();
        restore(
            &repo,
            &snapshot,
            &RestoreOptions {
                target,
                overwrite,
                ..Default::default()
            },
        );
        let read = |name: &str| fs::read_to_string(restored.join(name)).unwrap();
        assert_eq!(read("missing"), "snapshot's missing", "{overwrite:?}");
        assert_eq!(read("older"), format!("{older} older"), "{overwrite:?}");
        assert_eq!(read("newer"), format!("{newer} newer"), "{overwrite:?}");
        let kept = fs::metadata(restored.join("same")).unwrap().ino() == inode;
        assert_eq!(kept, overwrite != Overwrite::Always, "{overwrite:?}");
    }
}

#[test]
fn only_what_is_asked_for_is_restored() {
    let place = Place::new();
    let src = place.src();
    make_everything(&src);
    let repo = place.init();
    let summary = place.backup(&repo);
    let snapshot = repo.snapshot(&summary.snapshot_id).unwrap();
    let target = place.dir.path().join("target");
    let include = vec![src.join("many"), src.join("deep/a/b/c/d/e/leaf")];
    restore(
        &repo,
        &snapshot,
        &RestoreOptions {
            include,
            target: target.clone(),
            ..Default::default()
        },
    );
    let restored = target.join(src.strip_prefix("/").unwrap());
    assert_same(&src.join("deep/a/b/c/d/e"), &restored.join("deep/a/b/c/d/e"));
    assert_eq!(
        files_of(&restored.join("many")).len(),
        files_of(&src.join("many")).len()
    );
    assert_eq!(fs::read_dir(&restored).unwrap().count(), 2);
    let options = RestoreOptions {
        include: vec!["/no/such".into()],
        target,
        ..Default::default()
    };
    let result = repo.restore(
        &snapshot,
        &options,
        &Progress::default(),
        &Cancel::default(),
        &|_, _| {},
    );
    assert!(matches!(result, Err(RepoError::NotFound(_))));
}

#[test]
fn verifying_writes_nothing() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    let summary = place.backup(&repo);
    let target = place.dir.path().join("target");
    let options = RestoreOptions {
        target: target.clone(),
        verify_only: true,
        ..Default::default()
    };
    let done = restore(&repo, &repo.snapshot(&summary.snapshot_id).unwrap(), &options);
    assert_eq!(done.bytes, summary.bytes);
    assert!(!target.exists());
}

#[test]
fn holes_stay_holes() {
    let place = Place::new();
    let file = fs::File::create(place.src().join("image")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &noise(1, 1_000_000), 50_000_000).unwrap();
    file.set_len(200_000_000).unwrap();
    let repo = place.init();
    let summary = place.backup(&repo);
    assert!(summary.uploaded < 2_000_000, "{summary:?}");
    let restored = place.restore(&repo, &repo.snapshot(&summary.snapshot_id).unwrap(), "restored");
    assert_same(&place.src(), &restored);
    let blocks = fs::metadata(restored.join("image")).unwrap().blocks();
    assert!(blocks * 512 < 5_000_000, "{blocks} blocks");
}

#[test]
fn an_image_comes_back_byte_for_byte_with_its_holes() {
    let place = Place::new();
    let file = fs::File::create(place.src().join("image")).unwrap();
    let write = |content: &[u8], at| std::os::unix::fs::FileExt::write_all_at(&file, content, at).unwrap();
    // Content that begins and ends anywhere within blocks, zeros between, some of them within a chunk, and the same
    // content again.
    let (mut at, mut written) = (777, 0);
    for (seed, length) in [
        (1, 9_000_001),
        (2, 4_097),
        (3, 300_000),
        (4, 12_345_678),
        (1, 9_000_001),
        (5, 2_000_000),
    ] {
        write(&noise(seed, length), at);
        written += length as u64;
        at += length as u64 + [5, 70_000, 5_000_003][seed as usize % 3];
    }
    file.set_len(at + 3_000_000).unwrap();
    let repo = place.init();
    let summary = place.backup(&repo);
    for round in 0..3 {
        let restored = place.restore(
            &repo,
            &repo.snapshot(&summary.snapshot_id).unwrap(),
            &format!("restored{round}"),
        );
        assert_same(&place.src(), &restored);
        let blocks = fs::metadata(restored.join("image")).unwrap().blocks();
        // Zeros at the ends of content, up to two stretches of 64 KiB and a block for each.
        assert!(
            blocks * 512 < written + 6 * 140_000,
            "{blocks} blocks for {written} bytes"
        );
    }
}

#[test]
fn what_is_left_out_is_left_out_and_what_can_not_be_read_is_told() {
    let place = Place::new();
    let src = place.src();
    make_everything(&src);
    let repo = place.init();
    let left_out = src.join("many");
    let exclude =
        move |path: &Path, _: bool| path == left_out || path.extension().is_some_and(|e| e == "tmp");
    fs::write(src.join("x.tmp"), b"x").unwrap();
    let exclude = Some(std::sync::Arc::new(exclude) as encke_repo::Exclude);
    // A target that is not there, next to one that is.
    let options = BackupOptions {
        paths: vec![src.clone(), src.join("../nothing")],
        exclude,
        ..Default::default()
    };
    let result = repo.backup(&options, &Progress::default(), &Cancel::default(), &|_, _| {});
    assert!(
        matches!(result, Err(RepoError::Invalid(_))),
        "a path with .. in it has no place in a tree"
    );
    let warnings = Warnings::default();
    let options = BackupOptions {
        paths: vec![src.clone(), place.dir.path().join("nothing")],
        ..options
    };
    let summary = repo
        .backup(
            &options,
            &Progress::default(),
            &Cancel::default(),
            &warnings.note(),
        )
        .unwrap();
    assert_eq!(summary.warnings, 1);
    assert!(warnings.take()[0].contains("nothing"));
    let snapshot = repo.snapshot(&summary.snapshot_id).unwrap();
    assert!(repo.node_at(&snapshot, &src.join("many")).is_err());
    assert!(repo.node_at(&snapshot, &src.join("x.tmp")).is_err());
    assert!(repo.node_at(&snapshot, &src.join("plain")).is_ok());
}

/// Yields noise, and runs restic's prune before it ends.
struct Pruned<'a> {
    place: &'a Place,
    noise: std::io::Cursor<Vec<u8>>,
    forget: Option<String>,
    done: bool,
}

impl std::io::Read for Pruned<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.noise.read(out)?;
        if n == 0 && !std::mem::replace(&mut self.done, true) {
            if let Some(id) = self.forget.take() {
                self.place.restic(&["forget", &id]);
            }
            self.place.restic(&["prune"]);
        }
        Ok(n)
    }
}

#[test]
fn a_prune_during_a_backup_is_noticed_and_loses_nothing() {
    for known in [false, true] {
        let place = Place::new();
        fs::write(place.src().join("a"), noise(1, 3_000_000)).unwrap();
        let repo = place.init();
        let forget = known.then(|| place.backup(&repo).snapshot_id);
        // More than a pack of what is in no index yet, or what a forgotten snapshot had.
        let content = if known {
            noise(1, 3_000_000)
        } else {
            noise(2, 20 << 20)
        };
        let mut input = Pruned {
            place: &place,
            noise: std::io::Cursor::new(content),
            forget,
            done: false,
        };
        let (options, progress, cancel) = (BackupOptions::default(), Progress::default(), Cancel::default());
        let result = repo.backup_reader("/s".as_ref(), &mut input, &options, &progress, &cancel);
        assert!(
            matches!(result, Err(encke_repo::RepoError::Locked(_))),
            "{known}: {result:?}"
        );
        place.restic(&["check", "--read-data"]);
        let repo = place.open();
        place.backup(&repo);
        place.restic(&["check", "--read-data"]);
    }
}

#[test]
fn locks_of_restic_are_respected_and_none_is_left() {
    let place = Place::new();
    fs::write(place.src().join("a"), noise(1, 100)).unwrap();
    let repo = place.init();
    place.backup(&repo);
    assert_eq!(files_of(&place.repo_path().join("locks")), Vec::<PathBuf>::new());

    // A lock of a process that is gone is removed; it does not hinder.
    let mut child = std::process::Command::new("restic")
        .args(["-r", place.repo_path().to_str().unwrap(), "backup", "--stdin"])
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("RESTIC_CACHE_DIR", place.dir.path().join("cache"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while files_of(&place.repo_path().join("locks")).is_empty() {
        std::thread::yield_now();
    }
    // A shared lock of a living process stays.
    place.backup(&repo);
    child.kill().unwrap();
    child.wait().unwrap();
    place.backup(&repo);
    assert_eq!(files_of(&place.repo_path().join("locks")), Vec::<PathBuf>::new());
}

#[test]
fn a_cancelled_backup_stops_and_the_next_one_goes_on() {
    let place = Place::new();
    for i in 0..40 {
        fs::write(place.src().join(format!("{i}")), noise(i, 1_000_000)).unwrap();
    }
    let repo = place.init();
    let cancel = Cancel::default();
    let options = BackupOptions {
        paths: vec![place.src()],
        // Called while walking: a sure moment in the middle.
        exclude: Some({
            let cancel = cancel.clone();
            std::sync::Arc::new(move |path: &Path, _: bool| {
                if path.ends_with("39") {
                    cancel.cancel();
                }
                false
            })
        }),
        ..Default::default()
    };
    let result = repo.backup(&options, &Progress::default(), &cancel, &|_, _| {});
    assert!(matches!(result, Err(RepoError::Cancelled)));
    assert!(repo.snapshots().unwrap().is_empty());
    place.restic(&["check", "--read-data"]);
    let summary = place.backup(&repo);
    let restored = place.restore(&repo, &repo.snapshot(&summary.snapshot_id).unwrap(), "restored");
    assert_same(&place.src(), &restored);
}

#[test]
fn a_repository_is_made_once_and_opened_with_its_password() {
    let place = Place::new();
    let repo = place.init();
    let backend = || place.storage();
    let again = Repository::init(backend(), PASSWORD, encke_repo::InitOptions::default());
    assert!(matches!(again, Err(RepoError::Exists)));
    let wrong = Repository::open(backend(), "wrong", encke_repo::InitOptions::default());
    assert!(matches!(wrong, Err(RepoError::WrongPassword)));
    assert_eq!(place.open().id(), repo.id());
    let nowhere = std::sync::Arc::new(encke_storage::Local::new(place.dir.path().join("nowhere")));
    let missing = Repository::open(nowhere, PASSWORD, encke_repo::InitOptions::default());
    assert!(matches!(missing, Err(RepoError::Missing)));
}

#[test]
fn a_restore_goes_on_where_it_was_killed() {
    let place = Place::new();
    for i in 0..20 {
        fs::write(place.src().join(format!("file{i}")), noise(i, 1_000_000)).unwrap();
    }
    let repo = place.init();
    place.backup(&repo);
    let snapshot = repo.snapshot("latest").unwrap();
    let target = place.dir.path().join("target");
    let restored = target.join(place.src().strip_prefix("/").unwrap());
    let include = (0..15).map(|i| place.src().join(format!("file{i}"))).collect();
    restore(
        &repo,
        &snapshot,
        &RestoreOptions {
            include,
            target: target.clone(),
            ..Default::default()
        },
    );
    // As a process leaves it that is no more; and one that looks like it and is somebody's.
    let (left, other) = (
        restored.join(".encke-restore-999999999-7"),
        restored.join(".encke-restore-x"),
    );
    fs::write(&left, b"half").unwrap();
    fs::write(&other, b"mine").unwrap();
    let progress = Progress::default();
    let options = RestoreOptions {
        target,
        overwrite: Overwrite::IfDifferent,
        ..Default::default()
    };
    let done = repo
        .restore(&snapshot, &options, &progress, &Cancel::default(), &|_, e| {
            panic!("{e}")
        })
        .unwrap();
    assert_eq!((done.kept, done.files), (15, 20));
    assert!(
        Progress::get(&progress.downloaded) < 7_000_000,
        "what is there is not read again"
    );
    assert!(!left.exists() && other.exists());
    for i in 0..20 {
        assert!(
            fs::read(restored.join(format!("file{i}"))).unwrap() == noise(i, 1_000_000),
            "{i}"
        );
    }
}
