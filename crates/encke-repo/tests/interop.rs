//! Stock restic and this engine on the same repositories, both ways.

#![allow(clippy::unwrap_used)]

mod support;

use encke_repo::{BackupOptions, Cancel, NodeType, Progress, RepoError};
use std::fs;
use support::{Place, assert_same, check_data, make_everything, noise};

fn assert_sound(repo: &encke_repo::Repository) {
    assert_eq!(check_data(repo).errors, Vec::<String>::new());
}

#[test]
fn restic_restores_what_we_wrote() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    let summary = place.backup(&repo);
    assert_eq!(
        (summary.files_changed, summary.files_unmodified, summary.warnings),
        (0, 0, 0)
    );
    place.restic_check();
    let target = place.dir.path().join("restored");
    place.restic(&[
        "restore",
        &summary.snapshot_id,
        "--target",
        target.to_str().unwrap(),
    ]);
    assert_same(&place.src(), &target.join(place.src().strip_prefix("/").unwrap()));
}

#[test]
fn we_restore_what_restic_wrote() {
    let place = Place::new();
    make_everything(&place.src());
    place.restic(&["init"]);
    place.restic(&["backup", place.src().to_str().unwrap()]);
    let repo = place.open();
    assert_sound(&repo);
    let restored = place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored");
    assert_same(&place.src(), &restored);
}

#[test]
fn we_restore_what_we_wrote() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    let summary = place.backup(&repo);
    // The same process sees what it wrote, and so does another.
    for (repo, name) in [(repo, "same"), (place.open(), "other")] {
        assert_sound(&repo);
        let restored = place.restore(&repo, &repo.snapshot(&summary.snapshot_id[..10]).unwrap(), name);
        assert_same(&place.src(), &restored);
    }
}

#[test]
fn restic_makes_the_same_trees_and_finds_no_new_data() {
    let place = Place::new();
    make_everything(&place.src());
    let src = place.src();
    let repo = place.init();
    let ours = place.backup(&repo);
    // `--force`: read everything, so that the chunks are restic's own.
    let out = place.restic(&["backup", "--force", "--json", src.to_str().unwrap()]);
    let summary: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["data_blobs"], 0, "{summary}");
    let repo = place.open();
    repo.load_index().unwrap();
    let ours = repo.snapshot(&ours.snapshot_id).unwrap();
    let theirs = repo.snapshot(summary["snapshot_id"].as_str().unwrap()).unwrap();
    assert_eq!(
        place.src_node(&repo, &ours).subtree,
        place.src_node(&repo, &theirs).subtree
    );
    assert_eq!(ours.paths, theirs.paths);
}

#[test]
fn we_make_the_same_trees_and_find_no_new_data() {
    let place = Place::new();
    make_everything(&place.src());
    place.restic(&["init"]);
    place.restic(&["backup", place.src().to_str().unwrap()]);
    let repo = place.open();
    let theirs = repo.snapshot("latest").unwrap();
    // Once reading everything, once trusting restic's snapshot.
    for parent in [None, Some(theirs.clone())] {
        let files = if parent.is_some() { "unmodified" } else { "new" };
        let summary = place.backup_with(
            &repo,
            BackupOptions {
                parent,
                ..Default::default()
            },
        );
        let counts = [
            ("new", summary.files_new),
            ("unmodified", summary.files_unmodified),
        ];
        for (name, count) in counts {
            assert_eq!(count > 0, name == files, "{summary:?}");
        }
        let ours = repo.snapshot(&summary.snapshot_id).unwrap();
        assert_eq!(
            place.src_node(&repo, &ours).subtree,
            place.src_node(&repo, &theirs).subtree
        );
    }
    place.restic_check();
}

#[test]
fn a_link_to_a_name_that_is_no_text_survives() {
    let place = Place::new();
    let target = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"not \xff text");
    std::os::unix::fs::symlink(target, place.src().join("link")).unwrap();
    let repo = place.init();
    let summary = place.backup(&repo);
    let restored = place.restore(&repo, &repo.snapshot(&summary.snapshot_id).unwrap(), "restored");
    assert_same(&place.src(), &restored);
    place.restic_check();
}

#[test]
fn a_second_backup_reads_and_stores_only_what_changed() {
    let place = Place::new();
    let src = place.src();
    make_everything(&src);
    let repo = place.init();
    let first = place.backup(&repo);
    let parent = Some(repo.snapshot(&first.snapshot_id).unwrap());
    let unchanged = place.backup_with(
        &repo,
        BackupOptions {
            parent: parent.clone(),
            ..Default::default()
        },
    );
    assert_eq!((unchanged.files_new, unchanged.files_changed), (0, 0));
    assert_eq!(unchanged.files_unmodified, first.files_new);

    fs::write(src.join("plain"), "changed").unwrap();
    fs::write(src.join("brand new"), "new").unwrap();
    fs::remove_file(src.join("one byte")).unwrap();
    fs::remove_dir_all(src.join("deep")).unwrap();
    let mut noise = noise(1, 9_000_000);
    noise.splice(4_500_000..4_500_000, *b"inserted");
    fs::write(src.join("big noise"), noise).unwrap();
    let changed = place.backup_with(
        &repo,
        BackupOptions {
            parent,
            ..Default::default()
        },
    );
    // `plain` has two other names in the folder, which are changed as well.
    assert_eq!((changed.files_new, changed.files_changed), (1, 4), "{changed:?}");
    // Of the large file only the chunks around the insertion are new.
    assert!(changed.uploaded < 5_000_000, "{changed:?}");

    place.restic_check();
    let snapshot = repo.snapshot("latest").unwrap();
    assert_same(&src, &place.restore(&repo, &snapshot, "restored"));
    let target = place.dir.path().join("by restic");
    place.restic(&["restore", "latest", "--target", target.to_str().unwrap()]);
    assert_same(&src, &target.join(src.strip_prefix("/").unwrap()));
    // The first snapshot is still as it was.
    let first = repo.snapshot(&first.snapshot_id).unwrap();
    assert!(repo.node_at(&first, &src.join("deep/a/b/c/d/e/leaf")).is_ok());
    assert!(matches!(
        repo.node_at(&snapshot, &src.join("deep")),
        Err(RepoError::NotFound(_))
    ));
}

#[test]
fn restic_goes_on_from_our_snapshot() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    place.backup(&repo);
    let out = place.restic(&["backup", "--json", place.src().to_str().unwrap()]);
    let summary: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&summary["files_new"], &summary["files_changed"]),
        (&0.into(), &0.into()),
        "{summary}"
    );
}

#[test]
fn what_restic_repacked_and_pruned_is_found_again() {
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    let first = place.backup(&repo);
    fs::remove_file(place.src().join("big noise")).unwrap();
    fs::remove_file(place.src().join("deep/other name")).unwrap();
    place.backup(&repo);
    place.restic(&["forget", &first.snapshot_id]);
    place.restic(&["prune", "--max-unused", "0"]);
    let repo = place.open();
    assert_sound(&repo);
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored"),
    );
    place.backup(&repo);
    place.restic_check();
}

#[test]
fn a_stream_is_a_file() {
    let place = Place::new();
    let repo = place.init();
    let content = noise(7, 12_345_678);
    let options = BackupOptions {
        tags: vec!["stream".into()],
        ..Default::default()
    };
    let summary = repo
        .backup_reader(
            "/dumps/data base.sql".as_ref(),
            &mut &content[..],
            &options,
            &Progress::default(),
            &Cancel::default(),
        )
        .unwrap();
    assert_eq!(summary.bytes, content.len() as u64);
    let snapshot = repo.snapshot(&summary.snapshot_id).unwrap();
    assert_eq!(snapshot.tags, ["stream"]);
    let node = repo.node_at(&snapshot, "/dumps/data base.sql".as_ref()).unwrap();
    assert_eq!((node.kind, node.size), (NodeType::File, content.len() as u64));
    let mut dumped = Vec::new();
    repo.dump(&node, &mut dumped).unwrap();
    assert!(dumped == content);
    let out = std::process::Command::new("restic")
        .args([
            "-r",
            place.repo_path().to_str().unwrap(),
            "dump",
            "latest",
            "/dumps/data base.sql",
        ])
        .env("RESTIC_PASSWORD", support::PASSWORD)
        .env("RESTIC_CACHE_DIR", place.dir.path().join("cache"))
        .output()
        .unwrap();
    assert!(out.stdout == content);
    place.restic_check();
}

#[test]
fn passwords_are_restics_passwords() {
    let place = Place::new();
    let repo = place.init();
    let file = place.dir.path().join("new password");
    fs::write(&file, "second").unwrap();
    place.restic(&["key", "add", "--new-password-file", file.to_str().unwrap()]);
    let open = |password: &str| {
        let backend = place.storage();
        encke_repo::Repository::open(backend, password, encke_repo::InitOptions::default())
    };
    assert_eq!(open("second").unwrap().id(), repo.id());
    assert!(matches!(open("third"), Err(RepoError::WrongPassword)));
    let third = repo.add_key("third").unwrap();
    assert_eq!(repo.keys().unwrap().len(), 3);
    assert_eq!(open("third").unwrap().key_id(), third);
    let listed = place.restic(&["key", "list"]);
    assert!(listed.contains(&third.to_string()[..8]), "{listed}");
    repo.remove_key(third).unwrap();
    assert!(matches!(open("third"), Err(RepoError::WrongPassword)));
    assert!(repo.remove_key(repo.key_id()).is_err());
    let mut repo = open("second").unwrap();
    repo.change_password("fourth").unwrap();
    assert!(matches!(open("second"), Err(RepoError::WrongPassword)));
    assert_eq!(open("fourth").unwrap().key_id(), repo.key_id());
    place.restic_check();
}

#[test]
fn the_first_version_of_the_format_is_read_extended_and_pruned() {
    let place = Place::new();
    make_everything(&place.src());
    place.restic(&["init", "--repository-version", "1"]);
    place.restic(&["backup", place.src().to_str().unwrap()]);
    let repo = place.open();
    assert_sound(&repo);
    let theirs = repo.snapshot("latest").unwrap();
    fs::write(place.src().join("new"), b"compresses well ".repeat(100_000)).unwrap();
    let ours = place.backup(&repo);
    // Nothing is compressed in it, or restic would refuse it.
    assert!(ours.uploaded > 1_600_000, "{ours:?}");
    place.restic_check();
    let target = place.dir.path().join("by restic");
    place.restic(&["restore", &ours.snapshot_id, "--target", target.to_str().unwrap()]);
    assert_same(&place.src(), &target.join(place.src().strip_prefix("/").unwrap()));
    repo.delete_snapshots(&[theirs.id]).unwrap();
    fs::remove_file(place.src().join("big noise")).unwrap();
    place.backup(&repo);
    place.forget(&repo, &ours.snapshot_id);
    for hours in [0, 25] {
        place.prune(&repo, hours);
        place.restic_check();
    }
    assert_same(
        &place.src(),
        &place.restore(&repo, &repo.snapshot("latest").unwrap(), "restored"),
    );
}
