//! A damaged repository is brought back as far as anything of it can be read, and what is lost is told.

#![allow(clippy::unwrap_used)]

mod support;

use encke_repo::repair::{IndexRepair, Lost, SnapshotRepair};
use encke_repo::{Cancel, CheckOptions, Progress, Repository, Sample};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use support::{Place, assert_same, make_everything, noise};

fn repair_index(repo: &Repository, read_data: bool) -> IndexRepair {
    repo.repair_index(read_data, false, &Progress::default(), &Cancel::default())
        .unwrap()
}

fn repair_snapshots(repo: &Repository, forget: bool) -> SnapshotRepair {
    repo.repair_snapshots(forget, false, &Progress::default(), &Cancel::default())
        .unwrap()
}

fn files(place: &Place, kind: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(place.repo_path().join(kind)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            out.push(path);
        }
    }
    out.sort_by_key(|p| fs::metadata(p).unwrap().len());
    out
}

fn largest_pack(place: &Place) -> PathBuf {
    files(place, "data").pop().unwrap()
}

#[test]
fn an_index_is_made_anew_from_packs_alone() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    place.backup(&repo);
    fs::write(place.src().join("more"), noise(3, 100_000)).unwrap();
    // A pack of stock restic, with a longer header than is read at once.
    for i in 0..1500 {
        fs::write(place.src().join(format!("small{i}")), noise(1000 + i, 50)).unwrap();
    }
    place.restic(&["backup", place.src().to_str().unwrap()]);
    let index = files(&place, "index");
    let sound = fs::read(&index[0]).unwrap();
    fs::write(&index[0], &sound[1..]).unwrap();
    for path in &index[1..] {
        fs::remove_file(path).unwrap();
    }
    let report = repair_index(&place.open(), false);
    assert_eq!(report.damaged_index_files.len(), 1, "{report:?}");
    assert_eq!(
        (report.added_packs as usize, report.lost_blobs),
        (files(&place, "data").len(), 0)
    );
    place.restic_check();
    let repo = place.open();
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored"),
    );
    let again = repair_index(&repo, true);
    assert_eq!(
        (again.added_packs, again.damaged_packs.len()),
        (0, 0),
        "{again:?}"
    );
}

#[test]
fn a_lost_pack_costs_what_was_in_it_and_no_more() {
    let place = Place::new();
    let src = place.src();
    let repo = place.init();
    fs::write(src.join("sound"), noise(1, 300_000)).unwrap();
    let whole = place.backup(&repo).snapshot_id;
    fs::create_dir_all(src.join("folder/in it")).unwrap();
    fs::write(src.join("folder/in it/lost"), noise(2, 400_000)).unwrap();
    fs::write(src.join("large"), noise(3, 30 << 20)).unwrap();
    let broken = place.backup(&repo).snapshot_id;
    let pack = largest_pack(&place);
    fs::remove_file(&pack).unwrap();

    let repo = place.open();
    let dry = repo
        .repair_index(false, true, &Progress::default(), &Cancel::default())
        .unwrap();
    let report = repair_index(&repo, false);
    assert_eq!(dry.missing_packs, report.missing_packs);
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        report
            .missing_packs
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [name]
    );
    assert!(report.lost_blobs > 3, "{report:?}");
    let dry = repo
        .repair_snapshots(true, true, &Progress::default(), &Cancel::default())
        .unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), 2);
    let report = repair_snapshots(&repo, true);
    assert_eq!(
        (report.whole, report.repaired.len(), report.unreadable.len()),
        (1, 1, 0),
        "{report:?}"
    );
    let repaired = &report.repaired[0];
    assert_eq!(repaired.id.to_string(), broken);
    assert_eq!(repaired.lost, dry.repaired[0].lost);
    let lost: BTreeSet<PathBuf> = repaired.lost.iter().map(|l| l.path.clone()).collect();
    assert!(lost.contains(&src.join("large")), "{lost:?}");
    assert!(!lost.contains(&src.join("sound")), "{lost:?}");
    place.restic(&["check", "--read-data"]);
    let new = repo.snapshot(&repaired.new_id.unwrap().to_string()).unwrap();
    assert_eq!(
        (&new.tags[..], new.original),
        (&["repaired".to_string()][..], Some(repaired.id))
    );
    let restored = place.restore(&repo, &new, "restored");
    assert_eq!(fs::read(restored.join("sound")).unwrap(), noise(1, 300_000));
    // What is left of the large file is in order, under a name that tells.
    let left = fs::read(restored.join("large.damaged")).unwrap();
    let what = &repaired
        .lost
        .iter()
        .find(|l| l.path == src.join("large"))
        .unwrap()
        .what;
    assert_eq!(
        *what,
        format!("{} of {} bytes", (30 << 20) - left.len(), 30 << 20)
    );
    assert!(!restored.join("large").exists());
    place.restore(&repo, &repo.snapshot(&whole).unwrap(), "whole");

    // What is on the device still comes back with the next backup.
    let healed = place.backup(&repo);
    assert_same(
        &src,
        &place.restore(&repo, &repo.snapshot(&healed.snapshot_id).unwrap(), "healed"),
    );
    place.prune(&repo, 0);
    place.prune(&repo, 25);
    place.restic_check();
}

#[test]
fn a_backup_between_the_repairs_heals_what_is_on_the_device() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    place.backup(&repo);
    fs::remove_file(largest_pack(&place)).unwrap();
    let repo = place.open();
    assert!(repair_index(&repo, false).lost_blobs > 0);
    // Unchanged files whose content is lost are read again.
    place.backup_with(
        &repo,
        encke_repo::BackupOptions {
            parent: Some(repo.snapshot("latest").unwrap()),
            ..Default::default()
        },
    );
    let report = repair_snapshots(&repo, false);
    assert_eq!((report.whole, report.repaired.len()), (2, 0), "{report:?}");
    place.restic_check();
}

#[test]
fn a_flipped_bit_costs_one_chunk() {
    let place = Place::new();
    let repo = place.init();
    for i in 0..50 {
        fs::write(place.src().join(format!("file{i}")), noise(i, 100_000)).unwrap();
    }
    place.backup(&repo);
    let pack = largest_pack(&place);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[2_000_000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let repo = place.open();
    let report = repair_index(&repo, true);
    assert_eq!(
        (report.damaged_packs.len(), report.lost_blobs),
        (1, 1),
        "{report:?}"
    );
    assert!(report.damaged_packs[0].contains(pack.file_name().unwrap().to_str().unwrap()));
    let report = repair_snapshots(&repo, true);
    let lost: &[Lost] = &report.repaired[0].lost;
    assert!(
        lost.len() == 1 && lost[0].what == "100000 of 100000 bytes",
        "{lost:?}"
    );
    assert!(
        place
            .restic(&["check", "--read-data"])
            .contains("no errors were found")
    );
    let restored = place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored");
    assert_eq!(fs::read_dir(restored).unwrap().count(), 49);
    // The damaged pack is in no index and goes with the rest.
    place.prune(&repo, 0);
    place.prune(&repo, 25);
    assert!(!pack.exists());
    place.restic_check();
}

#[test]
fn a_lost_listing_or_snapshot_is_told() {
    // The first backup's two packs, one with listings and one with content: each is lost once.
    let mut told = Vec::new();
    for pack in 0..2 {
        let place = Place::new();
        let repo = place.init();
        fs::create_dir_all(place.src().join("a/b")).unwrap();
        fs::write(place.src().join("a/b/file"), noise(1, 1000)).unwrap();
        place.backup(&repo);
        let packs = files(&place, "data");
        let snapshot = files(&place, "snapshots").remove(0);
        fs::write(place.src().join("new"), noise(2, 1000)).unwrap();
        place.backup(&repo);
        let name = snapshot.file_name().unwrap().to_str().unwrap().to_string();
        fs::write(&snapshot, b"nothing").unwrap();
        fs::remove_file(&packs[pack]).unwrap();
        let repo = place.open();
        repair_index(&repo, false);
        let report = repair_snapshots(&repo, true);
        assert!(
            report.unreadable.len() == 1 && report.unreadable[0].contains(&name),
            "{report:?}"
        );
        let lost = &report.repaired[0].lost;
        assert_eq!(lost.len(), 1, "{lost:?}");
        told.push((
            lost[0].path.strip_prefix(place.src()).unwrap().to_path_buf(),
            lost[0].what.clone(),
        ));
        assert!(!snapshot.exists());
        assert!(
            place
                .restic(&["check", "--read-data"])
                .contains("no errors were found")
        );
    }
    told.sort();
    assert!(
        told[0].0 == *"a" && told[0].1.contains("the listing of this folder"),
        "{told:?}"
    );
    assert!(
        told[1].0 == *"a/b/file" && told[1].1 == "1000 of 1000 bytes",
        "{told:?}"
    );
}

#[test]
fn a_sample_is_a_part_and_all_parts_are_all() {
    let place = Place::new();
    let repo = place.init();
    for i in 0..6 {
        fs::write(place.src().join("file"), noise(i, 10_000)).unwrap();
        place.backup(&repo);
    }
    let read = |sample| {
        let options = CheckOptions {
            read_data: true,
            sample,
        };
        let report = repo
            .check(options, &Progress::default(), &Cancel::default())
            .unwrap();
        assert_eq!(report.errors, Vec::<String>::new());
        report.read_packs
    };
    let all = read(None);
    assert_eq!(all, 12);
    assert_eq!(read(Some(Sample::Percent(25.0))), 3);
    assert_eq!((1..=4).map(|n| read(Some(Sample::Part(n, 4)))).sum::<u64>(), all);
    // Damage in one pack is found by exactly one part.
    let path = largest_pack(&place);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = (1..=4).filter(|&n| {
        let options = CheckOptions {
            read_data: true,
            sample: Some(Sample::Part(n, 4)),
        };
        let report = repo
            .check(options, &Progress::default(), &Cancel::default())
            .unwrap();
        !report.errors.is_empty()
    });
    assert_eq!(found.count(), 1);
}
