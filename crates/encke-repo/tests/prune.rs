//! Prune frees what nothing needs and nothing else, while backups, other prunes and stock restic are at work.

#![allow(clippy::unwrap_used)]

mod support;

use encke_repo::{BackupOptions, Cancel, Id, Progress, PruneOptions, RepoError, Repository};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use support::{PASSWORD, Place, assert_same, check_data, make_everything, noise};

/// Hours after which packs marked now may be deleted.
const LATER: i64 = 25;

fn stored(place: &Place) -> u64 {
    let du = |folder: &Path| -> u64 {
        fs::read_dir(folder)
            .unwrap()
            .flat_map(|e| fs::read_dir(e.unwrap().path()).unwrap())
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum()
    };
    du(&place.repo_path().join("data"))
}

fn sound(repo: &Repository) {
    let report = check_data(repo);
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.unindexed_packs, 0);
}

#[test]
fn what_nothing_needs_is_marked_then_deleted() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    let first = place.backup(&repo);
    let gone = noise(99, 40 << 20);
    fs::write(place.src().join("gone"), &gone).unwrap();
    let second = place.backup(&repo);
    fs::remove_file(place.src().join("gone")).unwrap();
    fs::write(place.src().join("new"), noise(100, 100_000)).unwrap();
    let third = place.backup(&repo);
    let before = stored(&place);
    let nothing = place.prune(&repo, 0);
    assert_eq!(
        (nothing.marked_packs, nothing.deleted_packs),
        (0, 0),
        "{nothing:?}"
    );

    place.forget(&repo, &second.snapshot_id);
    let dry = place.prune_with(
        &repo,
        0,
        PruneOptions {
            dry_run: true,
            ..PruneOptions::default()
        },
    );
    assert!(dry.marked_bytes > 30 << 20, "{dry:?}");
    assert_eq!(stored(&place), before);
    let marked = place.prune(&repo, 0);
    assert!(marked.marked_bytes > 30 << 20, "{marked:?}");
    assert_eq!(marked.deleted_packs, 0);
    // Stock restic sees nothing of marks.
    place.restic_check();
    sound(&place.open());

    let waiting = place.prune(&place.open(), LATER - 2);
    assert_eq!(
        (waiting.marked_packs, waiting.deleted_packs),
        (0, 0),
        "{waiting:?}"
    );
    assert_eq!(waiting.waiting_packs, marked.marked_packs);
    let deleted = place.prune(&place.open(), LATER);
    assert_eq!(deleted.deleted_packs, marked.marked_packs, "{deleted:?}");
    assert!(stored(&place) < before - (30 << 20));
    place.restic_check();
    sound(&place.open());
    let again = place.prune(&place.open(), 3 * LATER);
    assert_eq!(
        (again.marked_packs, again.waiting_packs, again.deleted_packs),
        (0, 0, 0),
        "{again:?}"
    );

    let repo = place.open();
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot(&third.snapshot_id).unwrap(), "third"),
    );
    fs::remove_file(place.src().join("new")).unwrap();
    place.restore(&repo, &repo.snapshot(&first.snapshot_id).unwrap(), "first");
    // A repository whose index was loaded before all this sees what is there now.
    place.backup(&repo);
    place.restic_check();
}

#[test]
fn packs_of_which_little_is_needed_are_copied_within_the_cost() {
    let place = Place::new();
    let repo = place.init();
    for i in 0..60 {
        fs::write(place.src().join(format!("{i}")), noise(i, 1_000_000)).unwrap();
    }
    let first = place.backup(&repo);
    for i in (0..60).filter(|i| i % 4 != 0) {
        fs::remove_file(place.src().join(format!("{i}"))).unwrap();
    }
    let second = place.backup(&repo);
    place.forget(&repo, &first.snapshot_id);
    let free = PruneOptions {
        max_unused_percent: 1000.0,
        ..PruneOptions::default()
    };
    let report = place.prune_with(
        &repo,
        0,
        PruneOptions {
            dry_run: true,
            ..free
        },
    );
    assert_eq!(
        report.repacked_packs, 0,
        "as much waste as ten times the data is fine: {report:?}"
    );
    let cheap = PruneOptions {
        max_repack: 5_000_000,
        ..PruneOptions::default()
    };
    let report = place.prune_with(
        &repo,
        0,
        PruneOptions {
            dry_run: true,
            ..cheap
        },
    );
    assert!((1..=5_000_000).contains(&report.repacked_bytes), "{report:?}");
    assert!(report.unused_bytes > 20_000_000, "{report:?}");
    let report = place.prune(&repo, 0);
    assert!(
        report.repacked_bytes >= 15_000_000 && report.marked_bytes > 55_000_000,
        "{report:?}"
    );
    place.restic_check();
    place.prune(&repo, LATER);
    assert!(stored(&place) < 17_000_000, "{}", stored(&place));
    place.restic_check();
    let repo = place.open();
    sound(&repo);
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot(&second.snapshot_id).unwrap(), "restored"),
    );
}

#[test]
fn small_packs_and_index_files_are_put_together() {
    let place = Place::new();
    let repo = place.init();
    for i in 0..20 {
        fs::write(place.src().join(format!("{i}")), noise(i, 1_000_000)).unwrap();
        place.backup(&repo);
    }
    let index = || fs::read_dir(place.repo_path().join("index")).unwrap().count();
    assert_eq!(index(), 20);
    let report = place.prune(&repo, 0);
    assert!(report.repacked_packs >= 20, "{report:?}");
    assert!(index() < 5, "{}", index());
    place.prune(&repo, LATER);
    place.restic_check();
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored"),
    );
    let packs = place.prune(&repo, 2 * LATER);
    assert_eq!((packs.repacked_packs, packs.marked_packs), (0, 0), "{packs:?}");
}

/// Yields noise, and does something before it ends.
struct Meanwhile<F: FnMut()> {
    noise: std::io::Cursor<Vec<u8>>,
    act: Option<F>,
}

impl<F: FnMut()> Read for Meanwhile<F> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.noise.read(out)?;
        if n == 0
            && let Some(mut act) = self.act.take()
        {
            act();
        }
        Ok(n)
    }
}

fn stream(repo: &Repository, content: Vec<u8>, act: impl FnMut() + Send) -> Result<Id, RepoError> {
    let mut input = Meanwhile {
        noise: std::io::Cursor::new(content),
        act: Some(act),
    };
    let (options, progress, cancel) = (BackupOptions::default(), Progress::default(), Cancel::default());
    let done = repo.backup_reader("/s".as_ref(), &mut input, &options, &progress, &cancel)?;
    Ok(Id::parse(&done.snapshot_id).unwrap())
}

fn dumped(repo: &Repository, id: Id) -> Vec<u8> {
    repo.load_index().unwrap();
    let snapshot = repo.snapshot(&id.to_string()).unwrap();
    let mut out = Vec::new();
    repo.dump(&repo.node_at(&snapshot, "/s".as_ref()).unwrap(), &mut out)
        .unwrap();
    out
}

#[test]
fn prune_keeps_blobs_of_a_running_backup() {
    let place = Place::new();
    fs::write(place.src().join("other"), noise(5, 1_000_000)).unwrap();
    let repo = place.init();
    place.backup(&repo);
    // What only a forgotten snapshot has, longer than the longest blob (8 MiB) so that the new file shares one wherever
    // it is cut; and what is in no index yet: more than a pack.
    let content = [noise(1, 12_000_000), noise(2, 40 << 20)].concat();
    let old = stream(&repo, noise(1, 12_000_000), || {}).unwrap();
    let during = || {
        let other = place.open();
        other.delete_snapshots(&[old]).unwrap();
        assert!(place.prune(&other, 0).marked_packs > 0);
    };
    let new = stream(&repo, content.clone(), during).unwrap();
    place.restic_check();
    // What was marked is needed: it loses its mark when its time comes.
    let report = place.prune(&place.open(), LATER);
    assert!(report.recovered_packs > 0, "{report:?}");
    // Only the forgotten snapshot's listings were not needed.
    assert!(report.deleted_bytes < 5_000, "{report:?}");
    place.restic_check();
    let repo = place.open();
    sound(&repo);
    assert!(dumped(&repo, new) == content);
}

#[test]
fn a_backup_that_was_away_for_too_long_is_told_and_leaves_nothing_behind() {
    for known in [false, true] {
        let place = Place::new();
        fs::write(place.src().join("other"), noise(5, 1_000_000)).unwrap();
        let repo = place.init();
        place.backup(&repo);
        let old = stream(&repo, noise(1, 3_000_000), || {}).unwrap();
        let content = if known {
            noise(1, 3_000_000)
        } else {
            noise(2, 40 << 20)
        };
        // A whole day passes for the others: as for a machine that was asleep.
        let during = || {
            let other = place.open();
            if known {
                other.delete_snapshots(&[old]).unwrap();
            }
            place.prune(&other, 0);
            assert!(place.prune(&other, LATER).deleted_packs > 0);
        };
        let result = stream(&repo, content.clone(), during);
        assert!(matches!(result, Err(RepoError::Locked(_))), "{known}: {result:?}");
        assert_eq!(place.open().snapshots().unwrap().len(), if known { 1 } else { 2 });
        place.restic(&["check", "--read-data"]);
        // The same process can try again.
        let id = stream(&repo, content.clone(), || {}).unwrap();
        assert!(dumped(&repo, id) == content);
        place.restic(&["check", "--read-data"]);
    }
}

#[test]
fn a_backup_after_the_mark_does_not_count_on_what_goes() {
    let place = Place::new();
    fs::write(place.src().join("other"), noise(5, 1_000_000)).unwrap();
    let repo = place.init();
    place.backup(&repo);
    let old = stream(&repo, noise(1, 3_000_000), || {}).unwrap();
    repo.delete_snapshots(&[old]).unwrap();
    place.prune(&repo, 0);
    // The pack goes while the backup runs.
    let repo = place.open();
    let during = || assert!(place.prune(&place.open(), LATER).deleted_packs > 0);
    let new = stream(&repo, noise(1, 3_000_000), during).unwrap();
    place.restic_check();
    assert!(dumped(&repo, new) == noise(1, 3_000_000));
}

#[test]
fn several_backups_go_on_while_prunes_run() {
    let place = Place::new();
    let repo = place.init();
    // Something to mark, something to copy, and something that is due.
    for i in 0..20 {
        fs::write(place.src().join(format!("{i}")), noise(i, 800_000)).unwrap();
    }
    let first = place.backup(&repo);
    let due = stream(&repo, noise(50, 20 << 20), || {}).unwrap();
    repo.delete_snapshots(&[due]).unwrap();
    place.prune(&repo, 0);
    for i in (0..20).filter(|i| i % 3 > 0) {
        fs::remove_file(place.src().join(format!("{i}"))).unwrap();
    }
    place.backup(&repo);
    place.forget(&repo, &first.snapshot_id);
    // Some of what the backups find is not needed any more when they find it.
    let content = |n: u64| [noise(n % 3, 800_000), noise(60 + n, 18 << 20), noise(2, 800_000)].concat();
    let ids = std::thread::scope(|scope| {
        let backups: Vec<_> = (0..3u64)
            .map(|n| {
                let place = &place;
                scope.spawn(move || {
                    let repo = place.open();
                    (0..2)
                        .map(|i| (n * 2 + i, stream(&repo, content(n * 2 + i), || {}).unwrap()))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let prunes: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    (0..3)
                        .map(|_| place.prune(&place.open(), LATER))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let deleted: u64 = prunes
            .into_iter()
            .flat_map(|p| p.join().unwrap())
            .map(|r| r.deleted_packs)
            .sum();
        assert!(deleted > 0);
        backups
            .into_iter()
            .flat_map(|b| b.join().unwrap())
            .collect::<Vec<_>>()
    });
    place.restic(&["check", "--read-data"]);
    for hours in [LATER, 2 * LATER + 1, 3 * LATER + 2] {
        place.prune(&place.open(), hours);
        place.restic(&["check", "--read-data"]);
    }
    place.restic_check();
    let repo = place.open();
    sound(&repo);
    for (n, id) in ids {
        assert!(dumped(&repo, id) == content(n));
    }
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshots().unwrap()[0], "restored"),
    );
}

#[test]
fn stock_restic_reads_while_backups_and_prunes_run() {
    let place = Place::new();
    let repo = place.init();
    let content = noise(1, 3_000_000);
    fs::write(place.src().join("kept"), &content).unwrap();
    let kept = place.backup(&repo).snapshot_id;
    // Something that is due, and something to copy.
    let due = stream(&repo, noise(2, 20 << 20), || {}).unwrap();
    repo.delete_snapshots(&[due]).unwrap();
    place.prune(&repo, 0);
    fs::write(place.src().join("gone"), noise(3, 900_000)).unwrap();
    let shared = place.backup(&repo).snapshot_id;
    fs::remove_file(place.src().join("gone")).unwrap();
    place.forget(&repo, &shared);
    let reading = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..3 {
                let out = place
                    .restic_command(&["dump", &kept, place.src().join("kept").to_str().unwrap()])
                    .output()
                    .unwrap();
                assert!(
                    out.status.success() && out.stdout == content,
                    "read {n}: {:?}",
                    out.stderr
                );
            }
            reading.store(false, SeqCst);
        });
        scope.spawn(|| {
            for n in 0..4 {
                stream(
                    &place.open(),
                    [noise(3, 900_000), noise(10 + n, 2_000_000)].concat(),
                    || {},
                )
                .unwrap();
            }
        });
        while reading.load(SeqCst) {
            place.prune(&place.open(), LATER);
        }
    });
    place.prune(&place.open(), LATER);
    place.prune(&place.open(), 2 * LATER + 1);
    place.restic_check();
    sound(&place.open());
}

#[test]
fn nothing_is_deleted_while_stock_restic_is_at_work() {
    let place = Place::new();
    let repo = place.init();
    let old = stream(&repo, noise(1, 3_000_000), || {}).unwrap();
    stream(&repo, noise(2, 3_000_000), || {}).unwrap();
    repo.delete_snapshots(&[old]).unwrap();
    place.prune(&repo, 0);
    let mut child = std::process::Command::new("restic")
        .args(["-r", place.repo_path().to_str().unwrap(), "backup", "--stdin"])
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("RESTIC_CACHE_DIR", place.dir.path().join("cache"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let locks = place.repo_path().join("locks");
    // Its name is long when it is complete.
    let locked = || {
        fs::read_dir(&locks)
            .unwrap()
            .any(|e| e.unwrap().file_name().len() == 64)
    };
    while !locked() {
        std::thread::yield_now();
    }
    let report = place.prune(&repo, LATER);
    assert!(
        report.postponed.is_some() && report.deleted_packs == 0,
        "{report:?}"
    );
    // It may count on what is marked, since it does not know marks.
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, &noise(1, 3_000_000)).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    place.restic(&["check", "--read-data"]);
    let report = place.prune(&repo, LATER);
    assert!(
        report.postponed.is_none() && report.recovered_packs > 0,
        "{report:?}"
    );
    place.restic(&["check", "--read-data"]);
}

#[test]
fn nothing_is_freed_on_a_guess() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    let first = place.backup(&repo);
    fs::write(place.src().join("new"), noise(77, 2_000_000)).unwrap();
    place.backup(&repo);
    place.forget(&repo, &first.snapshot_id);
    let list = |kind: &str| {
        let mut names: Vec<_> = fs::read_dir(place.repo_path().join(kind))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        names.sort();
        names
    };
    let refused = |what: &str| {
        let before = (list("index"), stored(&place));
        let result = place
            .open()
            .prune(&PruneOptions::default(), &Progress::default(), &Cancel::default());
        assert!(matches!(result, Err(RepoError::Damaged(_))), "{what}: {result:?}");
        assert_eq!((list("index"), stored(&place)), before, "{what}");
    };
    // An index file lost, or damaged; a snapshot damaged: what is needed is not known.
    for (kind, what) in [("index", "lost"), ("index", "damaged"), ("snapshots", "damaged")] {
        let path = &list(kind)[0];
        let sound = fs::read(path).unwrap();
        if what == "lost" {
            fs::remove_file(path).unwrap();
        } else {
            fs::write(path, &sound[..sound.len() - 1]).unwrap();
        }
        refused(&format!("{kind} {what}"));
        fs::write(path, sound).unwrap();
    }
    // A pack lost.
    let index_of_packs = list("data")
        .into_iter()
        .flat_map(|d| fs::read_dir(d).unwrap())
        .map(|e| e.unwrap().path());
    let pack = index_of_packs
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap();
    let away = place.dir.path().join("away");
    fs::rename(&pack, &away).unwrap();
    refused("pack lost");
    fs::rename(&away, &pack).unwrap();
    place.prune(&place.open(), 0);
    place.restic_check();
}
