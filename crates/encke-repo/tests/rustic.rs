//! rustic, restic and this engine on the same repositories. rustic is not in Debian and takes minutes to build, so this is
//! run by hand: `cargo install rustic-rs --locked`, then `RUSTIC=rustic cargo test --release -p encke-repo --test rustic --
//! --ignored`.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use support::{PASSWORD, Place, check_data, make_everything, noise};

/// Hours after which packs marked now may be deleted.
const LATER: i64 = 25;

fn rustic(place: &Place, args: &[&str]) -> String {
    let out = Command::new(std::env::var("RUSTIC").unwrap_or_else(|_| "rustic".into()))
        .args(["--no-cache", "--no-progress", "--log-level", "info", "-r"])
        .arg(place.repo_path())
        .args(args)
        .env("RUSTIC_PASSWORD", PASSWORD)
        .output()
        .expect("rustic is found by RUSTIC or PATH");
    let text = [&out.stdout[..], &out.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(
        out.status.success() && !text.contains("[ERROR]"),
        "rustic {args:?}: {text}"
    );
    text
}

/// All three say that every byte is sound.
fn sound(place: &Place, when: &str) {
    let out = place.restic(&["check", "--read-data"]);
    assert!(out.contains("no errors were found"), "{when}: {out}");
    rustic(place, &["check", "--read-data"]);
    assert_eq!(check_data(&place.open()).errors, Vec::<String>::new(), "{when}");
}

fn rustic_restores(place: &Place, name: &str) -> std::path::PathBuf {
    let target = place.dir.path().join(name);
    rustic(place, &["restore", "latest", target.to_str().unwrap()]);
    target.join(place.src().strip_prefix("/").unwrap())
}

/// What is in two folders is the same: content, and what `find` is asked for about each entry.
fn same(a: &Path, b: &Path, what: &[&str]) {
    let out = Command::new("diff")
        .arg("-r")
        .arg("--no-dereference")
        .arg(a)
        .arg(b)
        .output()
        .unwrap();
    // Pipes and devices are not compared.
    let text = String::from_utf8_lossy(&out.stdout);
    let wrong = text
        .lines()
        .find(|l| l.starts_with("Only in") || l.ends_with("differ"));
    assert_eq!(wrong, None);
    let list = |root: &Path| -> BTreeSet<String> {
        let out = Command::new("find")
            .arg(root)
            .args(["-mindepth", "1"])
            .args(what)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.split('\0').map(str::to_string).collect()
    };
    let (a, b) = (list(a), list(b));
    assert_eq!(
        a.difference(&b).chain(b.difference(&a)).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

/// Of files only: rustic has its own ways with pipes, devices and links that are no text.
const FILES: &[&str] = &["-type", "f", "-printf", "%P %m %s %T@\\0"];
const ALL: &[&str] = &["-printf", "%P %y %m %s %T@ %l\\0"];

/// Each of the three backs up, reads what the others wrote and prunes, in a repository that `init` makes.
fn all_take_turns(init: impl Fn(&Place)) {
    let place = Place::new();
    let src = place.src();
    fs::create_dir(src.join("tree")).unwrap();
    for i in 0..40 {
        fs::write(src.join(format!("tree/{i}")), noise(i, 100_000)).unwrap();
    }
    fs::write(src.join("large"), noise(99, 20_000_000)).unwrap();
    init(&place);
    let here = src.to_str().unwrap().to_string();
    // Turns: a file more and some less each time, so that every prune has packs to copy and to delete.
    for turn in 0..3u64 {
        let change = |n: u64| {
            fs::write(
                src.join(format!("new{turn}-{n}")),
                noise(1000 + turn * 10 + n, 700_000),
            )
            .unwrap();
            let _ = fs::remove_file(src.join(format!("tree/{}", turn * 10 + n * 3)));
        };
        change(0);
        place.backup(&place.open());
        sound(&place, "after our backup");
        same(&src, &rustic_restores(&place, &format!("by rustic {turn}")), ALL);
        change(1);
        rustic(&place, &["backup", &here]);
        sound(&place, "after rustic's backup");
        let repo = place.open();
        let restored = place.restore(&repo, &repo.snapshot("latest").unwrap(), &format!("by us {turn}"));
        same(&src, &restored, ALL);
        change(2);
        place.restic(&["backup", &here]);
        sound(&place, "after restic's backup");
        match turn {
            0 => {
                // rustic only marks; a backup of ours beside its marks, and then our prune, later.
                rustic(
                    &place,
                    &[
                        "forget",
                        "--keep-last",
                        "1",
                        "--prune",
                        "--keep-delete",
                        "23h",
                        "--keep-pack",
                        "0s",
                    ],
                );
                sound(&place, "after rustic's marks");
                place.backup(&place.open());
                place.prune(&place.open(), LATER);
                place.prune(&place.open(), 2 * LATER + 1);
            }
            1 => {
                // We only mark; a backup of rustic's beside our marks, and then its prune.
                let repo = place.open();
                let old: Vec<_> = repo
                    .snapshots()
                    .unwrap()
                    .iter()
                    .rev()
                    .skip(1)
                    .map(|s| s.id)
                    .collect();
                repo.delete_snapshots(&old).unwrap();
                place.prune(&repo, 0);
                sound(&place, "after our marks");
                rustic(&place, &["backup", &here]);
                rustic(&place, &["prune", "--instant-delete", "--max-unused", "0%"]);
            }
            _ => {
                place.restic(&["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]);
            }
        }
        sound(&place, "after a prune");
    }
    let repo = place.open();
    let restored = place.restore(&repo, &repo.snapshot("latest").unwrap(), "at last");
    same(&src, &restored, ALL);
}

#[test]
#[ignore = "needs rustic"]
fn ours_is_extended_and_pruned_by_all() {
    all_take_turns(|place| {
        place.init();
    });
}

#[test]
#[ignore = "needs rustic"]
fn rustics_is_extended_and_pruned_by_all() {
    all_take_turns(|place| {
        rustic(place, &["init"]);
    });
}

#[test]
#[ignore = "needs rustic"]
fn restics_is_extended_and_pruned_by_all() {
    for version in ["1", "2"] {
        all_take_turns(|place| {
            place.restic(&["init", "--repository-version", version]);
        });
    }
}

#[test]
#[ignore = "needs rustic"]
fn rustic_restores_everything_we_wrote_and_we_what_it_wrote() {
    let place = Place::new();
    make_everything(&place.src());
    // restic's format leaves out a mode of 0, which rustic takes for one that is not known.
    let readable = fs::Permissions::from_mode(0o600);
    fs::set_permissions(place.src().join("one byte"), readable).unwrap();
    place.backup(&place.init());
    same(&place.src(), &rustic_restores(&place, "by rustic"), FILES);
    rustic(&place, &["backup", "--force", place.src().to_str().unwrap()]);
    sound(&place, "after both");
    let repo = place.open();
    let restored = place.restore(&repo, &repo.snapshot("latest").unwrap(), "by us");
    same(&place.src(), &restored, FILES);
}
