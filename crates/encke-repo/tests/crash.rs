//! Storage that breaks off, fails, lies and loses bits: the repository stays sound, and damage is told by name.

#![allow(clippy::unwrap_used)]

mod support;

use encke_repo::{
    BackupOptions, Cancel, CheckOptions, InitOptions, Progress, PruneOptions, RepoError, Repository,
    RestoreOptions,
};
use encke_storage::StorageError;
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::fault::{Faults, Faulty};
use support::{PASSWORD, Place, assert_same, check_data, noise};

const LATER: i64 = 25;

fn open(place: &Place, faults: Faults) -> Result<(Arc<Faulty>, Repository), RepoError> {
    let inner = place.storage();
    let faulty = Faulty::new(inner, faults);
    let repo = Repository::open(faulty.clone(), PASSWORD, InitOptions::default())?;
    Ok((faulty, repo))
}

fn backup(place: &Place, repo: &Repository) -> Result<(), RepoError> {
    let options = BackupOptions {
        paths: vec![place.src()],
        ..Default::default()
    };
    repo.backup(&options, &Progress::default(), &Cancel::default(), &|_, _| {})
        .map(|_| ())
}

fn prune(repo: &Repository, hours: i64) -> Result<(), RepoError> {
    let now = Some(Timestamp::now() + SignedDuration::from_hours(hours));
    let options = PruneOptions {
        now,
        max_unused_percent: 0.0,
        ..PruneOptions::default()
    };
    repo.prune(&options, &Progress::default(), &Cancel::default())
        .map(|_| ())
}

fn errors(repo: &Repository) -> Vec<String> {
    check_data(repo).errors
}

fn forget_oldest(repo: &Repository) -> Result<(), RepoError> {
    repo.delete_snapshots(&[repo.snapshots()?[0].id])
}

/// A repository in which every operation has something to do: two snapshots that share half of a pack, another pack
/// that nothing needs, and marks whose time has come.
fn prepared() -> Place {
    let place = Place::new();
    let repo = place.init();
    fs::write(place.src().join("due"), noise(9, 300_000)).unwrap();
    place.backup(&repo);
    fs::remove_file(place.src().join("due")).unwrap();
    fs::write(place.src().join("a"), noise(1, 600_000)).unwrap();
    fs::write(place.src().join("b"), noise(2, 600_000)).unwrap();
    place.backup(&repo);
    forget_oldest(&repo).unwrap();
    prune(&repo, 0).unwrap();
    fs::remove_file(place.src().join("a")).unwrap();
    fs::write(place.src().join("c"), noise(3, 600_000)).unwrap();
    place.backup(&repo);
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

#[test]
fn killed_between_any_two_changes_it_leaves_a_sound_repository() {
    let before = prepared();
    type Operation = fn(&Place, &Repository) -> Result<(), RepoError>;
    let operations: [(&str, Operation); 4] = [
        ("backup", |place, repo| {
            fs::write(place.src().join("new"), noise(4, 400_000)).unwrap();
            backup(place, repo)
        }),
        ("forget", |_, repo| forget_oldest(repo)),
        ("forget and prune", |_, repo| {
            forget_oldest(repo).and_then(|()| prune(repo, 0))
        }),
        ("forget, prune and prune later", |_, repo| {
            forget_oldest(repo)?;
            prune(repo, LATER)?;
            prune(repo, 2 * LATER)
        }),
    ];
    for (name, operation) in operations {
        let mut points = 0;
        for n in 0.. {
            let place = Place::new();
            copy(&before.repo_path(), &place.repo_path());
            copy(&before.src(), &place.src());
            let (storage, repo) = open(
                &place,
                Faults {
                    changes: Some(n),
                    ..Faults::default()
                },
            )
            .unwrap();
            let result = operation(&place, &repo);
            if storage.survived() {
                result.unwrap();
                break;
            }
            assert!(result.is_err(), "{name}, {n} changes");
            drop(repo);
            let out = place.restic(&["check", "--read-data"]);
            assert!(out.contains("no errors were found"), "{name}, {n} changes: {out}");
            // Life goes on.
            let repo = place.open();
            backup(&place, &repo).unwrap();
            prune(&repo, 3 * LATER).unwrap();
            prune(&repo, 4 * LATER).unwrap();
            assert_eq!(errors(&place.open()), Vec::<String>::new(), "{name}, {n} changes");
            let out = place.restic(&["check", "--read-data"]);
            assert!(!out.contains("additional files"), "{name}, {n} changes: {out}");
            points = n + 1;
        }
        println!("{name}: killed at {points} points");
        let least = if name == "forget" { 1 } else { 4 };
        assert!(points >= least, "{name}: {points} changes");
    }
}

/// Runs something with storage that is killed at the first change, at the second and so on, each time from a copy of the
/// same place, until it survives. Answers how often that was.
fn killed_at_every_change(
    before: &Place,
    operation: impl Fn(&mut Repository) -> Result<(), RepoError>,
    after: impl Fn(&Place, u64),
) -> u64 {
    for n in 0.. {
        let place = Place::new();
        copy(&before.repo_path(), &place.repo_path());
        copy(&before.src(), &place.src());
        let faults = Faults {
            changes: Some(n),
            ..Faults::default()
        };
        let (storage, mut repo) = open(&place, faults).unwrap();
        let result = operation(&mut repo);
        drop(repo);
        if storage.survived() {
            result.unwrap();
            after(&place, n);
            return n;
        }
        assert!(result.is_err(), "killed at change {n}");
        after(&place, n);
    }
    unreachable!()
}

#[test]
fn a_repair_that_is_killed_is_done_by_the_next_one_and_loses_no_more() {
    // Two packs of content, one of which is damaged, and no index file; the damage costs one snapshot a file.
    let before = Place::new();
    let repo = before.init();
    fs::write(before.src().join("sound"), noise(1, 600_000)).unwrap();
    before.backup(&repo);
    fs::write(before.src().join("lost"), noise(2, 900_000)).unwrap();
    before.backup(&repo);
    drop(repo);
    let mut packs = files_of(&before.repo_path().join("data"));
    packs.sort_by_key(|p| fs::metadata(p).unwrap().len());
    let damaged = packs.pop().unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[1000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    for index in files_of(&before.repo_path().join("index")) {
        fs::remove_file(index).unwrap();
    }
    let repair = |repo: &Repository| -> Result<(), RepoError> {
        let (progress, cancel) = (Progress::default(), Cancel::default());
        repo.repair_index(true, false, &progress, &cancel)?;
        repo.repair_snapshots(true, false, &progress, &cancel)?;
        Ok(())
    };
    let points = killed_at_every_change(
        &before,
        |repo| repair(repo),
        |place, n| {
            let repo = place.open();
            repair(&repo).unwrap();
            let out = place.restic(&["check", "--read-data"]);
            assert!(out.contains("no errors were found"), "{n} changes: {out}");
            let snapshots = repo.snapshots().unwrap();
            assert_eq!(snapshots.len(), 2, "{n} changes");
            for (i, snapshot) in snapshots.iter().enumerate() {
                let name = format!("restored{i}");
                place.restore(&repo, snapshot, &name);
                // Under the path that was backed up, of which this is a copy.
                let restored = place
                    .dir
                    .path()
                    .join(name)
                    .join(before.src().strip_prefix("/").unwrap());
                assert!(
                    fs::read(restored.join("sound")).unwrap() == noise(1, 600_000),
                    "{n} changes"
                );
                assert!(!restored.join("lost").exists(), "{n} changes");
            }
            backup(place, &repo).unwrap();
            prune(&repo, LATER).unwrap();
            prune(&repo, 2 * LATER).unwrap();
            place.restic_check();
        },
    );
    assert!(points >= 4, "{points}");
}

#[test]
fn a_repository_that_was_killed_while_it_was_made_is_made_by_the_next_try() {
    let mut points = 0;
    for n in 0.. {
        let place = Place::new();
        let faults = Faults {
            changes: Some(n),
            ..Faults::default()
        };
        let storage = Faulty::new(place.storage(), faults);
        let made = Repository::init(storage.clone(), PASSWORD, InitOptions::default());
        let survived = storage.survived();
        assert_eq!(made.is_ok(), survived, "{n} changes");
        let repo = match Repository::init(place.storage(), PASSWORD, InitOptions::default()) {
            // The last change may be done although its maker never heard of it.
            Err(RepoError::Exists) => place.open(),
            made => made.unwrap(),
        };
        assert_eq!(
            repo.keys().unwrap().len(),
            1,
            "{n} changes: keys that open nothing are gone"
        );
        fs::write(place.src().join("file"), noise(n, 10_000)).unwrap();
        place.backup(&repo);
        place.restic_check();
        if survived {
            break;
        }
        points = n + 1;
    }
    // The folders, the key, the configuration.
    assert!(points >= 3, "{points}");
}

#[test]
fn a_change_of_passwords_that_is_killed_leaves_one_that_opens() {
    let before = prepared();
    let opens = |place: &Place, password: &str| {
        Repository::open(place.storage(), password, InitOptions::default()).is_ok()
    };
    let points = killed_at_every_change(
        &before,
        |repo| {
            repo.change_password("new").map(|_| ())?;
            let added = repo.add_key("another")?;
            repo.remove_key(added)
        },
        |place, n| {
            let (old, new) = (opens(place, PASSWORD), opens(place, "new"));
            // The new one before the old one goes; until then both.
            assert_eq!((old, new), (n < 2, n > 0), "{n} changes");
            assert_eq!(opens(place, "another"), n == 3, "{n} changes");
            let out = std::process::Command::new("restic")
                .args(["check", "--read-data", "--no-cache", "-r"])
                .arg(place.repo_path())
                .env("RESTIC_PASSWORD", if new { "new" } else { PASSWORD })
                .output()
                .unwrap();
            assert!(out.status.success(), "{n} changes: {out:?}");
        },
    );
    assert_eq!(points, 4);
}

#[test]
fn calls_that_fail_fail_the_operation_and_nothing_else() {
    let before = prepared();
    let place = Place::new();
    copy(&before.repo_path(), &place.repo_path());
    copy(&before.src(), &place.src());
    let (mut failed, mut done) = (0, 0);
    for every in [2, 3, 5, 7, 11, 17, 29, 61] {
        fs::write(place.src().join(format!("new{every}")), noise(every, 200_000)).unwrap();
        let Ok((_, repo)) = open(
            &place,
            Faults {
                errors: Some(every),
                ..Faults::default()
            },
        ) else {
            failed += 1;
            continue;
        };
        // Each again in the same process: what it believes after a failure must be true.
        for _ in 0..3 {
            for result in [backup(&place, &repo), prune(&repo, 0), prune(&repo, LATER)] {
                match result {
                    Ok(()) => done += 1,
                    Err(_) => failed += 1,
                }
            }
        }
        assert_eq!(errors(&place.open()), Vec::<String>::new(), "every {every}");
    }
    assert!(failed > 5 && done > 5, "{failed} failed, {done} done");
    place.restic(&["check", "--read-data"]);
    let repo = place.open();
    backup(&place, &repo).unwrap();
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored"),
    );
}

/// A place that fails says nothing of what lies there.
#[test]
fn what_could_not_be_asked_for_is_neither_lost_nor_damaged() {
    let place = prepared();
    let (progress, cancel) = (Progress::default(), Cancel::default());
    let snapshot = place.open().snapshot("latest").unwrap();
    let (mut failed, mut done) = (0, 0);
    let mut count = |result: Result<(), RepoError>| match result {
        Ok(()) => done += 1,
        Err(RepoError::Storage(StorageError::Unreachable(_))) => failed += 1,
        Err(e) => panic!("{e}"),
    };
    for every in 2..40 {
        let faults = Faults {
            errors: Some(every),
            ..Faults::default()
        };
        let Ok((_, repo)) = open(&place, faults) else {
            continue;
        };
        let options = CheckOptions {
            read_data: true,
            ..CheckOptions::default()
        };
        count(repo.check(options, &progress, &cancel).map(|report| {
            assert_eq!(report.errors, Vec::<String>::new(), "every {every}");
        }));
        count(
            repo.repair_snapshots(true, false, &progress, &cancel)
                .map(|report| {
                    assert!(
                        report.repaired.is_empty() && report.unreadable.is_empty(),
                        "{report:?}"
                    );
                }),
        );
        let options = RestoreOptions {
            target: place.dir.path().join(format!("target{every}")),
            ..RestoreOptions::default()
        };
        let warn = |path: &Path, what: &str| panic!("every {every}: {}: {what}", path.display());
        count(
            repo.restore(&snapshot, &options, &progress, &cancel, &warn)
                .map(|_| ()),
        );
    }
    assert!(failed > 20 && done > 5, "{failed} failed, {done} done");
    assert_eq!(place.open().snapshots().unwrap().len(), 2);
    place.restic_check();
}

#[test]
fn short_reads_are_noticed() {
    let place = prepared();
    let mut noticed = 0;
    for every in [1, 2, 3, 5] {
        let faults = Faults {
            short_reads: Some(every),
            ..Faults::default()
        };
        let Ok((_, repo)) = open(&place, faults) else {
            noticed += 1;
            continue;
        };
        let options = CheckOptions {
            read_data: true,
            ..CheckOptions::default()
        };
        let found = repo.check(options, &Progress::default(), &Cancel::default());
        noticed += usize::from(found.map_or(true, |r| !r.errors.is_empty()));
        noticed += usize::from(backup(&place, &repo).is_err());
        noticed += usize::from(prune(&repo, LATER).is_err());
    }
    assert!(noticed > 3, "{noticed}");
    place.restic(&["check", "--read-data"]);
    assert_eq!(errors(&place.open()), Vec::<String>::new());
}

#[test]
fn stale_listings_and_slow_calls_cost_no_data() {
    let place = prepared();
    let faults = Faults {
        stale: true,
        delays: true,
        ..Faults::default()
    };
    let mut done = 0;
    for round in 0..4u64 {
        fs::write(place.src().join(format!("new{round}")), noise(round, 200_000)).unwrap();
        let (_, repo) = open(&place, faults).unwrap();
        done += usize::from(backup(&place, &repo).is_ok());
        if round == 1 {
            forget_oldest(&place.open()).unwrap();
        }
        done += usize::from(prune(&repo, LATER * i64::try_from(round).unwrap()).is_ok());
        assert_eq!(errors(&place.open()), Vec::<String>::new(), "round {round}");
    }
    assert!(done > 0);
    place.restic(&["check", "--read-data"]);
    let repo = place.open();
    backup(&place, &repo).unwrap();
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored"),
    );
}

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
    out
}

#[test]
fn a_flipped_bit_in_any_file_is_told_by_its_name() {
    let place = prepared();
    place.open().add_key("another").unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for path in files_of(&place.repo_path()) {
        let inside = path.strip_prefix(place.repo_path()).unwrap();
        kinds.insert(inside.iter().next().unwrap().to_owned());
        let sound = fs::read(&path).unwrap();
        for at in [0, sound.len() / 3, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            let backend = place.storage();
            let said = match Repository::open(backend, PASSWORD, InitOptions::default()) {
                Err(e) => vec![e.to_string()],
                Ok(repo) => errors(&repo),
            };
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(
                said.iter().any(|e| e.contains(name)),
                "bit {at} of {}: {said:?}",
                inside.display()
            );
        }
        fs::write(&path, sound).unwrap();
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    assert_eq!(errors(&place.open()), Vec::<String>::new());
}
