//! A mounted repository looks like what was backed up. Needs `/dev/fuse` and the right to mount.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use support::{Place, is_root, make_everything, noise};

/// As by `diff -r`, for a file system that has no hard links and no devices.
fn same(a: &Path, b: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let names = |p: &Path| {
        let mut names: Vec<_> = fs::read_dir(p).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(a), names(b), "{}", a.display());
    for name in names(a) {
        let (a, b) = (a.join(&name), b.join(&name));
        let (left, right) = (
            fs::symlink_metadata(&a).unwrap(),
            fs::symlink_metadata(&b).unwrap(),
        );
        let shape = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec(), m.rdev());
        assert_eq!(shape(&left), shape(&right), "{}", a.display());
        if left.is_dir() {
            same(&a, &b);
        } else if left.is_file() {
            assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap(), "{}", a.display());
        } else if left.is_symlink() {
            assert_eq!(fs::read_link(&a).unwrap(), fs::read_link(&b).unwrap());
        }
    }
}

#[test]
fn a_mounted_repository_shows_every_snapshot() {
    if !is_root() || !Path::new("/dev/fuse").exists() {
        println!("left out: mounting needs root and /dev/fuse here");
        return;
    }
    let place = Place::new();
    make_everything(&place.src());
    let repo = place.init();
    place.backup(&repo);
    fs::write(place.src().join("plain"), b"changed").unwrap();
    place.backup(&repo);
    let at = place.dir.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let mounted = match Arc::new(place.open()).mount(&at) {
        Ok(mounted) => mounted,
        Err(e) if e.to_string().contains("not permitted") => {
            println!("left out: {e}");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    assert_eq!(fs::read_dir(&at).unwrap().count(), 3);
    let inside = |snapshot: &Path| snapshot.join(place.src().strip_prefix("/").unwrap());
    let latest = inside(&at.join("latest"));
    same(&place.src(), &latest);
    // Both may be of the same second: the other one is told by its name alone.
    let newest = at.join(fs::read_link(at.join("latest")).unwrap());
    let first = fs::read_dir(&at)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|path| *path != newest && !path.is_symlink())
        .unwrap();
    assert!(fs::read(inside(&first).join("plain")).unwrap() != b"changed");
    // Any part of a file, across chunks.
    let file = fs::File::open(latest.join("big noise")).unwrap();
    let whole = noise(1, 9_000_000);
    for (offset, length) in [
        (0, 10),
        (524_280, 1_000_000),
        (8_999_990, 10),
        (3_000_000, 4_000_000),
    ] {
        let mut part = vec![0; length];
        file.read_exact_at(&mut part, offset as u64).unwrap();
        assert!(part == whole[offset..offset + length], "{offset}");
    }
    let mut value = [0; 16];
    let n = rustix::fs::getxattr(latest.join("empty"), "user.encke", &mut value[..]).unwrap();
    assert_eq!(&value[..n], b"value");
    assert!(
        fs::write(latest.join("new"), b"x").is_err(),
        "it can not be written to"
    );
    drop(file);
    mounted.unmount().unwrap();
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
}
