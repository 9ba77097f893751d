//! `encke vault` by its command line, on a folder and on a bucket of the Storage Role, beside stock restic.

use crate::support::{Server, noise};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const PASSWORD: &str = "correct horse";

/// A repository, here or on a server, and a folder to back up.
struct Vault {
    dir: tempfile::TempDir,
    location: String,
}

impl Vault {
    fn local() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = dir.path().join("repo").to_str().unwrap().to_string();
        Self::at(dir, location)
    }

    /// In a new bucket.
    fn on(server: &Server) -> Self {
        let new = server.call("/api/v1/admin/storage/register-bucket", &[]);
        let text = |name: &str| new[name].as_str().unwrap().to_string();
        let (id, key) = (text("NewBucketID"), text("NewBucketKey"));
        let host = server.url.strip_prefix("http://").unwrap();
        Self::at(
            tempfile::tempdir().unwrap(),
            format!("rest:http://{id}:{key}@{host}/storage/{id}/"),
        )
    }

    fn at(dir: tempfile::TempDir, location: String) -> Self {
        fs::create_dir(dir.path().join("src")).unwrap();
        let vault = Self { dir, location };
        vault.run(&["init"]);
        vault
    }

    fn src(&self) -> PathBuf {
        self.dir.path().join("src")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        command
            .args(["vault", "--repo", &self.location])
            .arg("--cache-dir")
            .arg(self.dir.path().join("cache"))
            .args(args)
            .env("ENCKE_VAULT_PASSWORD", PASSWORD)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that has to succeed.
    fn run(&self, args: &[&str]) -> String {
        let out = self.output(args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {text}{errors}");
        text
    }

    /// Runs a command that has to fail, and answers what it says.
    fn fails(&self, args: &[&str]) -> String {
        let out = self.output(args);
        assert!(!out.status.success(), "{args:?}");
        String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[&["--json"], args].concat())).unwrap()
    }

    fn backup(&self) -> String {
        let done = self.json(&["backup", self.src().to_str().unwrap()]);
        done["snapshot_id"].as_str().unwrap().to_string()
    }

    fn restic(&self, args: &[&str]) -> String {
        let out = Command::new("restic")
            .args(["-r", &self.location])
            .args(args)
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_CACHE_DIR", self.dir.path().join("restic"))
            .output()
            .expect("this test compares with stock restic: install it (Debian: apt-get install restic)");
        let text = String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned();
        assert!(out.status.success(), "restic {args:?}: {text}");
        text
    }
}

#[test]
fn retention_and_prune_free_what_rules_let_go() {
    let server = Server::start();
    for vault in [Vault::local(), Vault::on(&server)] {
        let src = vault.src();
        fs::write(src.join("stays"), noise(1, 1_000_000)).unwrap();
        fs::write(src.join("goes"), noise(2, 5_000_000)).unwrap();
        let first = vault.backup();
        fs::remove_file(src.join("goes")).unwrap();
        let (second, third) = (vault.backup(), vault.backup());

        let dry = vault.json(&["retention", "--keep", "last=2", "--dry-run"]);
        assert_eq!(dry, serde_json::json!({ "forgotten": [first], "kept": 2 }));
        assert!(
            vault
                .fails(&["retention", "--keep", "first-of-months=1@32"])
                .contains("32")
        );
        assert!(
            vault.run(&["snapshots"]).contains(&first[..8]),
            "nothing is forgotten by a rule that makes no sense"
        );
        let rules = [
            "retention",
            "--keep",
            "days=1",
            "--keep",
            "last=2",
            "--zone",
            "Asia/Tokyo",
        ];
        assert_eq!(vault.json(&rules)["forgotten"][0], first);
        let left = vault.run(&["snapshots"]);
        assert!(!left.contains(&first[..8]) && left.contains(&second[..8]) && left.contains(&third[..8]));

        let marked = vault.json(&["prune"]);
        assert!(marked["marked_bytes"].as_u64().unwrap() > 4_900_000, "{marked}");
        vault.restic(&["check", "--read-data"]);
        assert_eq!(vault.json(&["prune"])["deleted_packs"], 0);
        let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(25);
        let deleted = vault.json(&["prune", "--now", &later.to_string()]);
        assert_eq!(deleted["deleted_packs"], marked["marked_packs"], "{deleted}");
        assert!(
            vault
                .restic(&["check", "--read-data"])
                .contains("no errors were found")
        );
        vault.run(&[
            "restore",
            &third,
            "--target",
            vault.dir.path().join("out").to_str().unwrap(),
        ]);
        vault.backup();
        vault.run(&["check", "--read-data"]);
    }
}

#[test]
fn passwords_are_added_changed_and_revoked_as_by_stock_restic() {
    let vault = Vault::local();
    let file = |name: &str| {
        let path = vault.dir.path().join(name);
        fs::write(&path, name).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (second, third) = (file("second"), file("third"));
    let first = vault.json(&["key", "list"])[0]["id"]
        .as_str()
        .unwrap()
        .to_string();
    let added = vault.json(&["key", "add", "--new-password-file", &second])["id"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(vault.restic(&["key", "list"]).contains(&added[..8]));
    let with = |password: &str, args: &[&str]| vault.output(&[&["--password-file", password], args].concat());
    assert!(with(&second, &["snapshots"]).status.success());
    // Stock restic's own keys are ours.
    vault.restic(&["key", "add", "--new-password-file", &third]);
    assert!(with(&third, &["check"]).status.success());
    assert!(vault.fails(&["key", "revoke", &first]).contains("in use"));
    assert!(with(&second, &["key", "revoke", &first[..10]]).status.success());
    assert!(vault.fails(&["snapshots"]).contains("wrong password"));
    let fourth = file("fourth");
    assert!(
        with(&second, &["key", "change", "--new-password-file", &fourth])
            .status
            .success()
    );
    assert!(!with(&second, &["snapshots"]).status.success());
    assert!(with(&fourth, &["snapshots"]).status.success());
}

#[test]
fn what_is_damaged_is_told_and_repaired() {
    let vault = Vault::local();
    fs::write(vault.src().join("file"), noise(1, 3_000_000)).unwrap();
    vault.backup();
    let index = fs::read_dir(vault.dir.path().join("repo/index"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::remove_file(&index).unwrap();
    assert!(vault.fails(&["check"]).contains("repair index"));
    assert!(
        vault.fails(&["prune"]).contains("repair"),
        "nothing is freed on a guess"
    );
    assert_eq!(vault.json(&["repair", "index"])["added_packs"], 2);
    assert_eq!(vault.json(&["check", "--read-part", "100%"])["read_packs"], 2);
    vault.fails(&["check", "--read-part", "3/2"]);
    let packs = vault.dir.path().join("repo/data");
    let packs = fs::read_dir(packs)
        .unwrap()
        .flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap());
    let pack = packs
        .map(|e| e.unwrap().path())
        .max_by_key(|p| p.metadata().unwrap().len())
        .unwrap();
    fs::remove_file(&pack).unwrap();
    assert!(
        vault
            .run(&["repair", "index"])
            .contains(pack.file_name().unwrap().to_str().unwrap())
    );
    let told = vault.run(&["repair", "snapshots", "--forget"]);
    assert!(
        told.contains(vault.src().join("file").to_str().unwrap()),
        "{told}"
    );
    assert!(told.contains("3000000 of 3000000 bytes"), "{told}");
    vault.restic(&["check", "--read-data"]);
    vault.run(&["check", "--read-data"]);
}

#[test]
fn packs_have_the_size_asked_for_and_one_thread_is_enough() {
    let vault = Vault::local();
    fs::create_dir_all(vault.src()).unwrap();
    fs::write(vault.src().join("file"), noise(7, 20_000_000)).unwrap();
    let src = vault.src();
    let gently = ["--pack-size", "4", "--threads", "1", "--background"];
    vault.run(&[&gently[..], &["backup", src.to_str().unwrap()]].concat());
    let packs = fs::read_dir(vault.dir.path().join("repo/data")).unwrap();
    let sizes = packs
        .flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap())
        .map(|f| f.unwrap().metadata().unwrap().len());
    let full = sizes.filter(|&n| n >= 4 << 20).collect::<Vec<_>>();
    // A chunk has 8 MiB at most, so a pack does not have 12.
    assert!(full.len() > 1 && full.iter().all(|&n| n < 12 << 20), "{full:?}");
    let limited = ["--limit-speed", "200000000", "--threads", "1"];
    vault.run(&[&limited[..], &["check", "--read-data"]].concat());
    vault.run(&[&limited[..], &["restore", "latest", "--verify"]].concat());
    vault.fails(&["--pack-size", "2", "check"]);
}

#[test]
fn all_threads_have_the_priority_for_the_disk_that_was_asked_for() {
    let vault = Vault::local();
    for (asked, shown) in [("idle", "idle"), ("6", "best-effort: prio 6")] {
        let mut child = vault
            .command(&["--io-priority", asked, "stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // More than a chunk: now it waits for the rest, with all its threads.
        std::io::Write::write_all(&mut input, &noise(9, 9_000_000)).unwrap();
        crate::support::device::until("threads with the priority", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
            let tasks: Vec<_> = tasks.map(|task| task.unwrap().file_name()).collect();
            let told = Command::new("ionice").arg("-p").args(&tasks).output().unwrap();
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            (tasks.len() > 2 && told.lines().count() == tasks.len() && told.lines().all(|line| line == shown))
                .then_some(())
        });
        drop(input);
        assert!(child.wait().unwrap().success());
    }
    vault.fails(&["--io-priority", "8", "check"]);
    vault.fails(&["--io-priority", "last", "check"]);
}

#[test]
fn files_are_found_dumped_and_verified() {
    let vault = Vault::local();
    let src = vault.src();
    fs::create_dir_all(src.join("a/b")).unwrap();
    fs::write(src.join("a/b/Report 2024.txt"), b"old").unwrap();
    fs::write(src.join("a/other"), noise(1, 2_000_000)).unwrap();
    let first = vault.backup();
    fs::write(src.join("a/b/Report 2024.txt"), b"newer").unwrap();
    let second = vault.backup();
    let find = |args: &[&str]| -> Vec<Value> {
        let out = vault.run(&[&["--json", "find"], args].concat());
        out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let found = find(&["report*.TXT", "-i"]);
    let ids: Vec<&str> = found.iter().map(|f| f["snapshot"].as_str().unwrap()).collect();
    assert_eq!(ids, [&first, &second]);
    assert_eq!((&found[0]["size"], &found[1]["size"]), (&3.into(), &5.into()));
    assert_eq!(
        found[0]["path"],
        src.join("a/b/Report 2024.txt").to_str().unwrap()
    );
    assert!(find(&["report*.TXT"]).is_empty());
    assert_eq!(find(&["a/**/*", "--snapshot", "latest"]).len(), 3);
    assert_eq!(find(&["*", "--limit", "4"]).len(), 4);

    let file = src.join("a/b/Report 2024.txt");
    let dump = |args: &[&str]| vault.output(&[&["dump"], args].concat()).stdout;
    assert_eq!(dump(&[&first, file.to_str().unwrap()]), b"old");
    let tar = vault.dir.path().join("a.tar.zst");
    let folder = src.join("a");
    let (tar, folder) = (tar.to_str().unwrap(), folder.to_str().unwrap());
    vault.run(&["dump", "latest", folder, "--format", "tar.zst", "--out", tar]);
    vault.fails(&["dump", "latest", folder, "--format", "tar.zst", "--out", tar]);
    let listed = Command::new("tar").args(["--zstd", "-tf", tar]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "b/\nb/Report 2024.txt\nother\n"
    );
    let one = dump(&[&second, file.to_str().unwrap(), "--format", "tar"]);
    assert!(one.windows(5).any(|w| w == b"newer"));

    // Mounting needs root and the right to it here.
    let at = vault.dir.path().join("mounted");
    fs::create_dir(&at).unwrap();
    if rustix::process::geteuid().is_root() && std::path::Path::new("/dev/fuse").exists() {
        let mut mount = vault
            .command(&["mount", at.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = std::io::BufReader::new(mount.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        if line.starts_with("mounted") {
            let shown = at.join("latest").join(file.strip_prefix("/").unwrap());
            assert_eq!(fs::read(shown).unwrap(), b"newer");
            assert!(Command::new("umount").arg(&at).status().unwrap().success());
            assert!(mount.wait().unwrap().success());
        } else {
            mount.wait().unwrap();
        }
    }

    let verified = vault.json(&["restore", "latest", "--verify"]);
    assert_eq!(verified["bytes"], 2_000_005);
    // What a program writes is a file.
    let mut child = vault
        .command(&["stdin", "--name", "/dump.sql"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &noise(5, 1_000_000)).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(dump(&["latest", "/dump.sql"]) == noise(5, 1_000_000));
}
