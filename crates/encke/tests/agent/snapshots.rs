//! Files that are read from snapshots of their file system: as they were at one moment, whatever happens to them
//! meanwhile; and no snapshot stays, however the job ends.

use crate::support::Server;
use crate::support::device::{Device, ended, log, until};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of btrfs on a disk of its own, unmounted when this is dropped.
struct Btrfs(PathBuf);

fn run(program: &str, arguments: &[&str], at: &Path) -> Option<String> {
    let ran = Command::new(program).args(arguments).arg(at).output().ok()?;
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    ran.status.success().then_some(text)
}

impl Btrfs {
    /// Nothing where the system does not let a test have one.
    fn mount(folder: &Path) -> Option<Self> {
        let (image, place) = (folder.join("disk"), folder.join("mnt"));
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        fs::create_dir(&place).unwrap();
        run("mkfs.btrfs", &["--quiet"], &image)?;
        run("mount", &["-o", "loop", image.to_str()?], &place)?;
        Some(Self(place))
    }

    fn subvolume(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        run("btrfs", &["subvolume", "create"], &path).unwrap();
        path
    }

    /// Snapshots that exist.
    fn snapshots(&self) -> Vec<String> {
        let list = run("btrfs", &["subvolume", "list"], &self.0).unwrap();
        let ours = list.lines().filter(|l| l.contains(".encke-snapshot-"));
        ours.map(str::to_string).collect()
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["--recursive", "--lazy"])
            .arg(&self.0)
            .status();
    }
}

fn notes(device: &Device) -> usize {
    let entries = fs::read_dir(device.data_dir()).unwrap().flatten();
    let noted = entries.filter(|e| e.file_name().to_string_lossy().starts_with("frozen-"));
    noted.count()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn files_of_btrfs_are_saved_as_they_were_at_one_moment() {
    let server = Server::start();
    let Some(disk) = Btrfs::mount(&server.work_dir) else {
        eprintln!(
            "this system lets a test have no btrfs (it needs root, loop devices and btrfs-progs): not tested"
        );
        return;
    };
    let data = disk.subvolume("data");
    let nested = disk.subvolume("data/nested");
    disk.subvolume("data/nested/deep");
    let still = disk.subvolume("data/still");
    disk.subvolume("data/left out");
    for file in [
        "file",
        "gone",
        "sub/file",
        "nested/file",
        "nested/deep/file",
        "still/file",
        "left out/file",
    ] {
        write(&data.join(file), "old");
    }
    let set = |path: &Path| {
        let arguments = [
            "property",
            "set",
            "-t",
            "subvol",
            path.to_str().unwrap(),
            "ro",
            "true",
        ];
        assert!(Command::new("btrfs").args(arguments).status().unwrap().success());
    };
    set(&still);
    let other = data.join("other");
    fs::create_dir(&other).unwrap();
    run("mount", &["-t", "tmpfs", "none"], &other).unwrap();
    write(&other.join("file"), "old");
    std::os::unix::fs::symlink("file", data.join("link")).unwrap();

    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let item = json!({ "INCLUDE1": data, "EXCLUDE1": data.join("left out"), "USE_SNAPSHOT": "1" });
    device.add_item(&server, "item", "engine1/file", &item);
    // When the thaw command runs, what is backed up stands still already.
    let change = "cd \"$0\" && for f in file sub/file nested/file nested/deep/file other/file; do echo new > $f; done \
                  && rm gone && echo x > added";
    let change = format!("sh -c '{change}' '{}'", data.display());
    device.edit(&server, |p| p["Sources"]["item"]["ThawExec"] = json!([change]));
    let job = device.back_up(&server, "item", "vault");
    let text = log(&server, job["GUID"].as_str().unwrap());
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "new\n", "{text}");
    let saved = |path: &str| device.restic("vault", &["dump", "latest", data.join(path).to_str().unwrap()]);
    for file in [
        "file",
        "gone",
        "sub/file",
        "nested/file",
        "nested/deep/file",
        "still/file",
    ] {
        assert_eq!(saved(file), "old", "{file}: {text}");
    }
    // Not of this file system, and read as it is.
    assert_eq!(saved("other/file"), "new\n");
    let list = device.restic("vault", &["ls", "latest"]);
    for absent in ["added", "left out", ".encke"] {
        assert!(!list.contains(absent), "{absent}: {list}");
    }
    assert_eq!((disk.snapshots(), notes(&device)), (Vec::<String>::new(), 0));

    // Another snapshot of the same files looks the same, though it is another file system each time.
    device.edit(&server, |p| p["Sources"]["item"]["ThawExec"] = json!([]));
    let second = device.back_up(&server, "item", "vault");
    assert_eq!(saved("nested/deep/file"), "new\n");
    let again = device.back_up(&server, "item", "vault");
    let text = log(&server, again["GUID"].as_str().unwrap());
    assert!(text.contains(": 0 new, 0 changed, 7 unchanged"), "{text}");
    let listings = [&second, &again].map(|job| {
        let snapshot = job["SnapshotID"].as_str().unwrap();
        listing(&server, &device, snapshot, &data.join("sub"))
    });
    assert_eq!(listings[0], listings[1], "nothing has changed: {text}");
    // What is read live afterwards is the same as well, but for the folders' change times.
    device.edit(&server, |p| {
        p["Sources"]["item"]["EngineProps"]
            .as_object_mut()
            .unwrap()
            .remove("USE_SNAPSHOT");
    });
    let live = device.back_up(&server, "item", "vault");
    let text = log(&server, live["GUID"].as_str().unwrap());
    assert!(text.contains(": 0 new, 0 changed, 7 unchanged"), "{text}");
    let restored = server.work_dir.join("restored");
    let id = device.restore(
        &server,
        "vault",
        "item",
        &json!({ "Type": 0, "DestPath": restored }),
        &[],
    );
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    let back = restored.join(nested.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(back.join("deep/file")).unwrap(), "new\n");
    device.restic("vault", &["check", "--read-data"]);
}

/// The name of a folder's listing in a snapshot.
fn listing(server: &Server, device: &Device, snapshot: &str, folder: &Path) -> String {
    let mut tree = String::new();
    for name in folder.iter().skip(1) {
        let fields = [
            ("Destination", "vault"),
            ("SnapshotID", snapshot),
            ("TreeID", tree.as_str()),
        ];
        let listing = device.ask(server, "request-stored-objects", &fields);
        let objects = listing["StoredObjects"].as_array().unwrap();
        let found = objects.iter().find(|o| o["name"] == name.to_str().unwrap());
        tree = found.unwrap()["subtree"].as_str().unwrap().to_string();
    }
    tree
}

#[test]
fn no_snapshot_outlives_its_job() {
    let server = Server::start();
    let Some(disk) = Btrfs::mount(&server.work_dir) else {
        eprintln!(
            "this system lets a test have no btrfs (it needs root, loop devices and btrfs-progs): not tested"
        );
        return;
    };
    let data = disk.subvolume("data");
    write(&data.join("file"), "old");
    let mut device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    device.add_item(
        &server,
        "item",
        "engine1/file",
        &json!({ "INCLUDE1": data, "USE_SNAPSHOT": "1" }),
    );
    let gate = server.work_dir.join("gate");
    let wait = format!("while ! test -e '{}'; do sleep 0.1; done", gate.display());
    device.edit(&server, |p| p["Sources"]["item"]["ThawExec"] = json!([wait]));
    let frozen = || until("the snapshot", || (disk.snapshots().len() == 1).then_some(()));
    // Cancelled.
    let id = device.backup(&server, "item", "vault");
    frozen();
    assert_eq!(notes(&device), 1);
    let job = crate::support::device::job(&server, &id);
    let cancelled = server.call(
        "/api/v1/admin/job/cancel",
        &[
            ("TargetUser", crate::support::device::USER),
            ("JobID", job["GUID"].as_str().unwrap()),
        ],
    );
    assert_eq!(cancelled["Status"], 200, "{cancelled}");
    assert_eq!(ended(&server, &id)["Status"], 7005);
    assert_eq!((disk.snapshots(), notes(&device)), (Vec::<String>::new(), 0));
    // Stopped.
    let id = device.backup(&server, "item", "vault");
    frozen();
    device.stop();
    assert_eq!((disk.snapshots(), notes(&device)), (Vec::<String>::new(), 0));
    device.launch();
    assert_eq!(ended(&server, &id)["Status"], 7005, "{}", log(&server, &id));
    // Killed: the next start takes it away.
    let id = device.backup(&server, "item", "vault");
    frozen();
    device.kill();
    assert_eq!((disk.snapshots().len(), notes(&device)), (1, 1));
    device.launch();
    assert_eq!(ended(&server, &id)["Status"], 7002, "{}", log(&server, &id));
    assert_eq!((disk.snapshots(), notes(&device)), (Vec::<String>::new(), 0));
    fs::write(&gate, "").unwrap();
    // Failed: there is nothing to back up.
    fs::remove_file(data.join("file")).unwrap();
    let id = device.backup(&server, "item", "vault");
    assert_eq!(ended(&server, &id)["Status"], 7002, "{}", log(&server, &id));
    assert_eq!((disk.snapshots(), notes(&device)), (Vec::<String>::new(), 0));
}

#[test]
fn what_can_take_no_snapshot_is_read_as_it_is_with_a_warning() {
    let server = Server::start();
    let folder = server.work_dir.join("folder");
    write(&folder.join("file"), "content");
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    device.add_item(
        &server,
        "item",
        "engine1/file",
        &json!({ "INCLUDE1": folder, "USE_SNAPSHOT": "1" }),
    );
    let id = device.backup(&server, "item", "vault");
    let job = ended(&server, &id);
    let text = log(&server, &id);
    if job["Status"] == 5000 {
        eprintln!("the folder of tests is on a file system that takes snapshots: not tested");
        return;
    }
    assert_eq!(job["Status"], 7001, "{text}");
    assert!(text.contains("no snapshot could be taken"), "{text}");
    let path = folder.join("file");
    assert_eq!(
        device.restic("vault", &["dump", "latest", path.to_str().unwrap()]),
        "content"
    );
}
