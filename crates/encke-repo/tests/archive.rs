//! Archives hold what was backed up: unpacked by other programs they are the same.

#![allow(clippy::unwrap_used)]

mod support;

use encke_repo::{
    Archive, ArchiveFormat, Cancel, Progress, Repository, RestoreOptions, RestoreSummary, Snapshot,
};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Place, Warnings, assert_same, make_everything, noise};

fn archive(
    repo: &Repository,
    snapshot: &Snapshot,
    format: ArchiveFormat,
    options: &RestoreOptions,
    warnings: &Warnings,
) -> (Vec<u8>, RestoreSummary) {
    let mut out = Vec::new();
    let summary = repo
        .restore_archive(
            snapshot,
            Archive {
                format,
                out: &mut out,
            },
            options,
            &Progress::default(),
            &Cancel::default(),
            &warnings.note(),
        )
        .unwrap();
    (out, summary)
}

fn run(command: &mut Command, input: &[u8]) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success());
}

fn untar(archive: &[u8], target: &Path, how: &str) {
    fs::create_dir(target).unwrap();
    let flags = ["--same-owner", "--xattrs", "--xattrs-include=*", "-xpf", "-"];
    run(
        Command::new("tar")
            .arg("-C")
            .arg(target)
            .args(how.split_whitespace())
            .args(flags),
        archive,
    );
}

#[test]
fn tar_holds_everything() {
    let place = Place::new();
    let src = place.src();
    make_everything(&src);
    let long = "l".repeat(120);
    fs::create_dir_all(src.join(&long).join(&long)).unwrap();
    fs::write(src.join(&long).join(&long).join("file"), b"far down").unwrap();
    std::os::unix::fs::symlink(format!("{long}/{long}/./../file"), src.join("long link")).unwrap();
    let repo = place.init();
    let summary = place.backup(&repo);
    let snapshot = repo.snapshot(&summary.snapshot_id).unwrap();
    let options = RestoreOptions {
        strip: src.clone(),
        ..Default::default()
    };
    for (format, how) in [
        (ArchiveFormat::Tar, ""),
        (ArchiveFormat::TarGz, "-z"),
        (ArchiveFormat::TarZst, "--zstd"),
    ] {
        let warnings = Warnings::default();
        let (tar, done) = archive(&repo, &snapshot, format, &options, &warnings);
        assert_eq!(warnings.take(), Vec::<String>::new());
        assert_eq!(done.files, summary.files);
        let target = place.dir.path().join(format!("{format:?}"));
        untar(&tar, &target, how);
        // The folder itself is not in it.
        let times = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        fs::File::open(&target)
            .unwrap()
            .set_modified(times(&src))
            .unwrap();
        assert_same(&src, &target);
    }
}

#[test]
fn zip_holds_files_folders_and_links() {
    let place = Place::new();
    let src = place.src();
    fs::create_dir_all(src.join("folder/empty")).unwrap();
    for (name, content) in [
        ("text", vec![b'x'; 3_000_000]),
        ("noise", noise(1, 3_000_000)),
        ("folder/empty file", vec![]),
    ] {
        fs::write(src.join(name), content).unwrap();
    }
    fs::hard_link(src.join("noise"), src.join("folder/gr\u{fc}n \u{1f600}")).unwrap();
    std::os::unix::fs::symlink("../text", src.join("folder/link")).unwrap();
    let repo = place.init();
    place.backup(&repo);
    let snapshot = repo.snapshot("latest").unwrap();
    let warnings = Warnings::default();
    // The whole snapshot this time, by its full paths.
    let (zip, _) = archive(
        &repo,
        &snapshot,
        ArchiveFormat::Zip,
        &RestoreOptions::default(),
        &warnings,
    );
    assert_eq!(warnings.take(), Vec::<String>::new());
    assert!(zip.len() < 4_000_000 + 3_000_000, "compressed: {}", zip.len());
    let (file, target) = (place.dir.path().join("a.zip"), place.dir.path().join("unzipped"));
    fs::write(&file, zip).unwrap();
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2])";
    run(
        Command::new("python3")
            .args(["-c", script])
            .arg(&file)
            .arg(&target),
        b"",
    );
    let unzipped = target.join(src.strip_prefix("/").unwrap());
    for name in ["text", "noise", "folder/empty file", "folder/gr\u{fc}n \u{1f600}"] {
        assert!(
            fs::read(src.join(name)).unwrap() == fs::read(unzipped.join(name)).unwrap(),
            "{name}"
        );
    }
    assert!(unzipped.join("folder/empty").is_dir());
    // This unpacker writes a link's target as content.
    assert_eq!(fs::read(unzipped.join("folder/link")).unwrap(), b"../text");
}

/// Longer than the longest blob, 8 MiB, wherever the repository's own polynomial happens to cut.
const BROKEN: usize = 12_000_000;

#[test]
fn damaged_content_becomes_zeros_and_is_told() {
    let place = Place::new();
    let repo = place.init();
    fs::write(place.src().join("sound"), noise(1, 500_000)).unwrap();
    place.backup(&repo);
    let mut known: Vec<PathBuf> = Vec::new();
    let packs = || -> Vec<PathBuf> {
        let folders = fs::read_dir(place.repo_path().join("data")).unwrap();
        folders
            .flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap())
            .map(|e| e.unwrap().path())
            .collect()
    };
    known.extend(packs());
    fs::write(place.src().join("broken"), noise(2, BROKEN)).unwrap();
    place.backup(&repo);
    let new = packs().into_iter().filter(|p| !known.contains(p));
    let pack = new.max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1_500_000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let repo = place.open();
    let snapshot = repo.snapshot("latest").unwrap();
    let warnings = Warnings::default();
    let options = RestoreOptions {
        strip: place.src(),
        ..Default::default()
    };
    let (tar, done) = archive(&repo, &snapshot, ArchiveFormat::Tar, &options, &warnings);
    let told = warnings.take();
    assert!(
        done.warnings == 1 && told.len() == 1 && told[0].contains("broken"),
        "{told:?}"
    );
    let target = place.dir.path().join("out");
    untar(&tar, &target, "");
    assert!(fs::read(target.join("sound")).unwrap() == noise(1, 500_000));
    let (broken, whole) = (fs::read(target.join("broken")).unwrap(), noise(2, BROKEN));
    assert_eq!(broken.len(), whole.len());
    let damaged: Vec<usize> = (0..BROKEN).filter(|at| broken[*at] != whole[*at]).collect();
    let (first, last) = (damaged[0], damaged[damaged.len() - 1]);
    assert!(last - first < 8 << 20, "one blob: {first} to {last}");
    assert!(broken[first..=last].iter().all(|byte| *byte == 0));
}
