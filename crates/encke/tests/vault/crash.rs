//! A backup that is killed at any moment leaves a sound repository, and the next one goes on from what was stored; a killed
//! restore is completed by the next one.

use crate::support::noise;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &str = "correct horse";
const KILLS: u32 = 10;
const FILES: u64 = 300;

struct Place(tempfile::TempDir);

impl Place {
    fn vault(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        command
            .args(["vault", "--repo"])
            .arg(self.0.path().join("repo"))
            .args(args);
        command
            .env("ENCKE_VAULT_PASSWORD", PASSWORD)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let out = self.vault(args).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success(),
            "{args:?}: {text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        text
    }

    fn restic(&self, args: &[&str]) -> String {
        let out = Command::new("restic")
            .arg("-r")
            .arg(self.0.path().join("repo"))
            .args(args)
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_CACHE_DIR", self.0.path().join("cache"))
            .output()
            .expect("this test compares with stock restic: install it (Debian: apt-get install restic)");
        let text = [&out.stdout[..], &out.stderr[..]].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(out.status.success(), "restic {args:?}: {text}");
        text
    }
}

/// Adds what makes each backup different, several packs of it.
fn grow(src: &Path, round: u32) {
    let folder = src.join(format!("round{round}"));
    fs::create_dir_all(&folder).unwrap();
    for i in 0..FILES {
        let seed = u64::from(round) * 1000 + i;
        fs::write(folder.join(format!("file{i}")), noise(seed, (i * 1500) as usize)).unwrap();
    }
    fs::write(folder.join("large"), noise(u64::from(round), 20_000_000)).unwrap();
}

#[test]
fn a_killed_backup_leaves_a_sound_repository_and_the_next_one_goes_on() {
    let place = Place(tempfile::tempdir().unwrap());
    let src = place.0.path().join("src");
    grow(&src, 0);
    place.run(&["init"]);
    // How long a backup takes here and now: the kills are spread over this time.
    let began = Instant::now();
    place.run(&["backup", src.to_str().unwrap()]);
    let usual = began.elapsed();
    let mut killed = 0;
    for round in 1..=KILLS {
        grow(&src, round);
        let mut child = place.vault(&["backup", src.to_str().unwrap()]).spawn().unwrap();
        // Not a wait for something to happen, but the moment of the accident: any is right.
        std::thread::sleep(
            usual * (2 * round - 1) / (2 * KILLS) + Duration::from_micros(u64::from(round) * 137),
        );
        child.kill().unwrap();
        if !child.wait().unwrap().success() {
            killed += 1;
        }
        let out = place.restic(&["check", "--read-data"]);
        assert!(out.contains("no errors were found"), "{out}");
    }
    assert!(
        killed >= KILLS / 2,
        "only {killed} backups were killed before they had ended"
    );

    // The next backup succeeds and stores what is missing.
    place.run(&["backup", src.to_str().unwrap()]);
    let out = place.restic(&["check", "--read-data"]);
    assert!(out.contains("no errors were found"), "{out}");
    place.run(&["check", "--read-data"]);
    let target = place.0.path().join("restored");
    place.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
    same(&src, &target.join(src.strip_prefix("/").unwrap()));
}

fn same(a: &Path, b: &Path) {
    let out = Command::new("diff").arg("-r").arg(a).arg(b).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[test]
fn a_killed_restore_is_completed_by_the_next_one() {
    let place = Place(tempfile::tempdir().unwrap());
    let src = place.0.path().join("src");
    (0..4).for_each(|round| grow(&src, round));
    place.run(&["init"]);
    place.run(&["backup", src.to_str().unwrap()]);
    let restore = |name: &str| {
        let target = place.0.path().join(name);
        let args = ["restore", "latest", "--overwrite", "if-different", "--target"];
        let mut command = place.vault(&args);
        command.arg(&target);
        (command, target.join(src.strip_prefix("/").unwrap()))
    };
    let began = Instant::now();
    assert!(restore("usual").0.output().unwrap().status.success());
    let usual = began.elapsed();
    let (kills, mut killed) = (6, 0);
    for n in 1..=kills {
        let mut child = restore("restored").0.spawn().unwrap();
        // The moment of the accident: any is right.
        std::thread::sleep(usual * n / (kills + 1));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
    }
    assert!(
        killed > 2,
        "only {killed} restores were killed before they had ended"
    );
    let (mut command, restored) = restore("restored");
    assert!(command.output().unwrap().status.success());
    // Nothing is left of files that were not complete either.
    same(&src, &restored);
}

/// A restore is killed at every call that fills, describes or names a file, and the next one that
/// overwrites nothing completes it: half a file is never taken for the whole.
#[test]
fn a_restore_killed_at_any_call_leaves_no_file_that_looks_whole_and_is_not() {
    let place = Place(tempfile::tempdir().unwrap());
    let src = place.0.path().join("src");
    fs::create_dir(&src).unwrap();
    for i in 0..2 {
        fs::write(src.join(format!("small{i}")), noise(i, 3000)).unwrap();
    }
    fs::write(src.join("empty"), "").unwrap();
    fs::write(src.join("large"), noise(9, 3_000_000)).unwrap();
    place.run(&["init"]);
    place.run(&["backup", src.to_str().unwrap()]);
    let mut points = 0;
    for call in ["pwrite64", "utimensat", "fchmod", "/^renameat"] {
        for nth in 1.. {
            let target = place.0.path().join("restored");
            let restored = target.join(src.strip_prefix("/").unwrap());
            let args = ["restore", "latest", "--overwrite", "never", "--target"];
            let mut restore = place.vault(&args);
            restore.arg(&target);
            // They are counted thread by thread.
            let killed = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e"])
                .arg(format!("inject={call}:signal=KILL:when={nth}"))
                .arg(restore.get_program())
                .args(restore.get_args())
                .env("ENCKE_VAULT_PASSWORD", PASSWORD)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect(
                    "this test kills at system calls by strace: install it (Debian: apt-get install strace)",
                );
            let whole = killed.success();
            if !whole {
                // Nothing stands under its own name that is neither whole nor marked.
                for entry in fs::read_dir(&restored).into_iter().flatten().flatten() {
                    let (path, meta) = (entry.path(), entry.metadata().unwrap());
                    let original = src.join(entry.file_name());
                    if original.exists() && meta.permissions().mode() & 0o7777 != 0o1200 {
                        assert!(
                            fs::read(&path).unwrap() == fs::read(original).unwrap(),
                            "{path:?}"
                        );
                    }
                }
                assert!(restore.output().unwrap().status.success(), "{call} {nth}");
                points += 1;
            }
            same(&src, &restored);
            let modes = |folder: &Path| -> Vec<u32> {
                let mut names: Vec<_> = fs::read_dir(folder)
                    .unwrap()
                    .flatten()
                    .map(|e| e.path())
                    .collect();
                names.sort();
                let mode = |p: &PathBuf| fs::metadata(p).unwrap().permissions().mode();
                names.iter().map(mode).collect()
            };
            assert_eq!(modes(&src), modes(&restored), "{call} {nth}");
            fs::remove_dir_all(&target).unwrap();
            if whole {
                break;
            }
        }
    }
    println!("killed at {points} points");
    assert!(points >= 12, "{points}");
}
