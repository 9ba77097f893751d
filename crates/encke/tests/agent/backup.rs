//! Devices through the front door: the real server, the real agent, the API, and stock restic as a judge.

use crate::support::device::{Device, USER, ended, job, log, until};
use crate::support::{Server, compare};
use serde_json::{Value, json};
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// A folder with everything a restore has to bring back.
fn sample(server: &Server) -> PathBuf {
    let root = server.work_dir.join("sample");
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("zero"), "").unwrap();
    fs::write(root.join("ünï cödé \"name\"\n"), "odd").unwrap();
    let big: Vec<u8> = (0u32..2_000_000)
        .flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes())
        .collect();
    fs::write(root.join("deep/big"), &big).unwrap();
    fs::write(root.join("deep/er/note.txt"), "a note").unwrap();
    fs::hard_link(root.join("deep/er/note.txt"), root.join("deep/linked.txt")).unwrap();
    symlink("deep/er/note.txt", root.join("link")).unwrap();
    symlink("/no/where", root.join("dangling")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_at(b"far", 40 << 20).unwrap();
    fs::write(root.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("program"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o700)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("zero"), "user.colour", b"blue", flags).unwrap();
    root
}

/// Where a restored path lies.
fn restored(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

fn same(a: &Path, b: &Path) {
    compare::folders(a, b, &mut compare::Compared::default()).unwrap();
}

fn profile(server: &Server) -> Value {
    server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)])
}

/// A pipe that a program-output item reads: the test decides how far a job gets.
struct Feed(PathBuf);

impl Feed {
    fn new(server: &Server, name: &str) -> Self {
        let path = server.work_dir.join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        Self(path)
    }

    fn item(&self) -> Value {
        json!({ "COMMAND": format!("cat '{}'", self.0.display()), "SAVEAS": "feed" })
    }

    /// Waits for the job to read.
    fn open(&self) -> File {
        File::options().write(true).open(&self.0).unwrap()
    }
}

/// Bytes that do not compress.
fn noise(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_folder_comes_back_with_every_byte_and_attribute() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let folder = sample(&server);
    fs::write(folder.join("deep/left-out.tmp"), "tmp").unwrap();
    device.add_bucket(&server, "vault");
    let key = profile(&server)["Destinations"]["vault"]["CometBucketKey"]
        .as_str()
        .unwrap()
        .to_string();
    let properties = json!({ "INCLUDE1": folder, "EXCLUDE1": "*.tmp" });
    device.add_item(&server, "item", "engine1/file", &properties);
    device.edit(&server, |p| {
        p["BackupRules"]["rule"] = json!({ "Description": "r", "Source": "item", "Destination": "vault" });
    });

    let answer = device.ask(&server, "run-backup", &[("BackupRule", "rule")]);
    let id = crate::support::device::started(&answer);
    let first = ended(&server, &id);
    assert_eq!(first["Status"], 5000, "{first} {}", log(&server, &id));
    assert_eq!(first["BackupRuleGUID"], "rule");
    assert_eq!(first["SourceGUID"], "item");
    assert_eq!(first["DestinationGUID"], "vault");
    assert_eq!(first["DeviceID"], "laptop");
    assert_eq!(first["Username"], USER);
    assert!(first["CancellationID"].as_str().is_none_or(str::is_empty));
    assert!(first["EndTime"].as_i64().unwrap() >= first["StartTime"].as_i64().unwrap());
    assert!(first["UploadSize"].as_u64().unwrap() > 0);
    assert!(first["TotalSize"].as_u64().unwrap() > 58_000_000);
    let lines = log(&server, &id);
    assert!(lines.starts_with("I Backing up 'item' to 'vault'\n"), "{lines}");
    assert!(lines.ends_with("I Finished\n"), "{lines}");

    // The server holds the keys sealed only, and the outcome stands in the profile.
    let saved = until("the statistics", || {
        let p = profile(&server);
        (p["Sources"]["item"]["Statistics"]["LastBackupJob"]["GUID"] == id.as_str()).then_some(p)
    });
    let vault = &saved["Destinations"]["vault"];
    assert!(vault["RepoInitTimestamp"].as_i64().unwrap() > 0);
    assert!(!vault["EncryptedEncryptionKey"].as_str().unwrap().is_empty());
    assert!(
        vault["Statistics"]["ClientProvidedSize"]["Size"]
            .as_u64()
            .unwrap()
            > 0
    );
    assert!(
        !saved.to_string().contains(&key),
        "the bucket's key is still in clear"
    );

    // Unchanged data is not sent again.
    let second = device.back_up(&server, "item", "vault");
    assert!(second["UploadSize"].as_u64().unwrap() < 20_000, "{second}");

    // Browsing: both snapshots, and the way down to a file.
    let snapshots = device.ask(&server, "request-vault-snapshots", &[("Destination", "vault")]);
    let snapshots = snapshots["Snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.iter().all(|s| s["Source"] == "item"));
    let mut tree = String::new();
    for name in folder.join("deep/er").iter().skip(1) {
        let snapshot = second["SnapshotID"].as_str().unwrap();
        let fields = [
            ("Destination", "vault"),
            ("SnapshotID", snapshot),
            ("TreeID", tree.as_str()),
        ];
        let listing = device.ask(&server, "request-stored-objects", &fields);
        let objects = listing["StoredObjects"].as_array().unwrap();
        let found = objects.iter().find(|o| o["name"] == name.to_str().unwrap());
        tree = found.unwrap()["subtree"].as_str().unwrap().to_string();
    }

    let all = server.work_dir.join("all");
    let options = json!({ "Type": 0, "DestPath": all, "OverwriteExistingFiles": true });
    let done = ended(&server, &device.restore(&server, "vault", "item", &options, &[]));
    assert_eq!(done["Status"], 5000, "{done}");
    fs::remove_file(folder.join("deep/left-out.tmp")).unwrap();
    let back = restored(&all, &folder);
    // The folder's own time changed with the removal.
    let time = fs::metadata(back.join("deep")).unwrap().modified().unwrap();
    File::open(folder.join("deep"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    same(&folder, &back);
    let inode = |p: &str| fs::metadata(back.join(p)).unwrap().ino();
    assert_eq!(inode("deep/er/note.txt"), inode("deep/linked.txt"));
    assert!(fs::metadata(back.join("sparse")).unwrap().blocks() * 512 < 10 << 20);
    let mut value = [0u8; 16];
    let n = rustix::fs::getxattr(back.join("zero"), "user.colour", &mut value).unwrap();
    assert_eq!(&value[..n], b"blue");

    // Only what was asked for.
    let some = server.work_dir.join("some");
    let wanted = folder.join("deep/er/note.txt");
    let options = json!({ "Type": 0, "DestPath": some });
    let id = device.restore(&server, "vault", "item", &options, &[wanted.to_str().unwrap()]);
    assert_eq!(ended(&server, &id)["Status"], 5000);
    assert_eq!(fs::read_to_string(restored(&some, &wanted)).unwrap(), "a note");
    assert!(!restored(&some, &folder).join("zero").exists());

    // To see that it could be restored.
    let options = json!({ "Type": 1 });
    let checked = ended(&server, &device.restore(&server, "vault", "item", &options, &[]));
    assert_eq!(checked["Status"], 5000, "{checked}");
    assert_eq!(checked["Classification"], 4002);

    device.restic("vault", &["check", "--read-data"]);
}

#[test]
fn jobs_end_in_the_state_they_deserve() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "a").unwrap();
    let empty = server.work_dir.join("empty");
    fs::create_dir(&empty).unwrap();
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let add = |id: &str, engine: &str, properties: Value| device.add_item(&server, id, engine, &properties);
    add("good", "engine1/file", json!({ "INCLUDE1": folder }));
    add(
        "gone",
        "engine1/file",
        json!({ "INCLUDE1": folder, "INCLUDE2": "/no/such/folder" }),
    );
    add("empty", "engine1/file", json!({ "INCLUDE1": empty }));
    add(
        "pattern",
        "engine1/file",
        json!({ "INCLUDE1": folder, "REXCLUDE1": "([" }),
    );
    add("unknown", "engine1/mssql", json!({}));
    add(
        "output",
        "engine1/stdout",
        json!({ "COMMAND": "echo hello", "SAVEAS": "out.txt" }),
    );
    add(
        "chatty",
        "engine1/stdout",
        json!({ "COMMAND": "echo x; echo oops >&2", "SAVEAS": "o" }),
    );
    add(
        "fails",
        "engine1/stdout",
        json!({ "COMMAND": "echo x; exit 3", "SAVEAS": "o" }),
    );
    let run = |item: &str, options: Value, status: u64, text: &str| {
        let id = device.backup_with(&server, item, "vault", &options);
        let job = ended(&server, &id);
        let lines = log(&server, &id);
        assert_eq!(job["Status"], status, "{item}: {job} {lines}");
        assert!(lines.contains(text), "{item}: {lines}");
    };
    run("good", json!({}), 5000, "1 files");
    run("gone", json!({}), 7001, "/no/such/folder");
    run("empty", json!({}), 7002, "no file");
    run(
        "empty",
        json!({ "AllowZeroFilesSuccess": true }),
        5000,
        "Finished",
    );
    run("pattern", json!({}), 7002, "([");
    run("unknown", json!({}), 7002, "not supported");
    run("output", json!({}), 5000, "echo hello");
    run("chatty", json!({}), 7001, "W oops");
    run("fails", json!({}), 7002, "exit status: 3");

    let target = server.work_dir.join("out");
    let options = json!({ "Type": 0, "DestPath": target });
    let id = device.restore(&server, "vault", "output", &options, &[]);
    assert_eq!(ended(&server, &id)["Status"], 5000);
    assert_eq!(fs::read_to_string(target.join("out.txt")).unwrap(), "hello\n");

    // What does not make sense is refused before it becomes a job.
    let answer = device.ask(&server, "run-backup", &[("BackupRule", "none")]);
    assert!(answer["Status"].as_i64().unwrap() >= 400, "{answer}");
    let fields = [("Source", "good"), ("Destination", "none"), ("Options", "{}")];
    let answer = device.ask(&server, "run-backup-custom", &fields);
    assert!(answer["Status"].as_i64().unwrap() >= 400, "{answer}");

    // A vault whose disk is not there must not be begun anew in its place.
    fs::rename(server.work_dir.join("vault"), server.work_dir.join("elsewhere")).unwrap();
    run("good", json!({}), 7002, "nothing is there now");
    assert!(!server.work_dir.join("vault/config").exists());
    fs::rename(server.work_dir.join("elsewhere"), server.work_dir.join("vault")).unwrap();

    device.edit(&server, |p| {
        p["Destinations"]["vault"]["StorageLimitEnabled"] = json!(true);
        p["Destinations"]["vault"]["StorageLimitBytes"] = json!(1);
    });
    run("good", json!({}), 7003, "quota");
    device.restic("vault", &["check", "--read-data"]);
}

#[test]
fn an_item_saves_what_its_patterns_say() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let top = server.work_dir.join("top");
    for file in [
        "plain/a.txt",
        "plain/b.TMP",
        "plain/b.tmp",
        "plain/deep/c.tmp",
        "plain/cache/x",
        "plain/deep/cache/y",
        "plain/one/x.log",
        "plain/one/two/x.log",
        "plain/v1",
        "plain/v22",
        "plain/keep/b.tmp.bak",
        "glob/a.doc",
        "glob/a.txt",
        "glob/deep/b.doc",
        "glob/deep/cache/c.doc",
        "glob/deep/d.pdf",
        "regex/r1.dat",
        "regex/r1.data",
        "regex/deep/r2.dat",
        "regex/deep/x.dat",
    ] {
        let path = top.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let at = |folder: &str| top.join(folder).display().to_string();
    let below = |folder: &str, value: &str| json!({ "TopDirectory": at(folder), "Value": value }).to_string();
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let item = json!({
        "INCLUDE1": at("plain"),
        // Of names anywhere, of a folder, within one element of a full path, and by regular expression.
        "EXCLUDE1": "*.tmp", "EXCLUDE-2": "cache", "EXCLUDE3": format!("{}/*/x.log", at("plain")),
        "REXCLUDE1": "/v[0-9]{2}$",
        // Within folders of their own: what fits one of several.
        "PINCLUDE1": below("glob", "*.doc"), "PINCLUDE2": below("glob", "deep/*.pdf"),
        "RINCLUDE1": below("regex", "^(deep/)?r[0-9]+\\.dat$"),
    });
    device.add_item(&server, "item", "engine1/file", &item);
    let saved = || -> Vec<String> {
        let list = device.restic("vault", &["ls", "latest"]);
        let prefix = format!("{}/", top.display());
        let inside = list.lines().filter_map(|l| l.strip_prefix(&prefix));
        inside
            .filter(|p| top.join(p).is_file())
            .map(str::to_string)
            .collect()
    };
    device.back_up(&server, "item", "vault");
    let expected = [
        "glob/a.doc",
        "glob/deep/b.doc",
        "glob/deep/d.pdf",
        "plain/a.txt",
        "plain/b.TMP",
        "plain/keep/b.tmp.bak",
        "plain/one/two/x.log",
        "plain/v1",
        "regex/deep/r2.dat",
        "regex/r1.dat",
    ];
    let mut found = saved();
    found.sort();
    assert_eq!(found, expected);
    // What the account's policy leaves out of every item, on this system and on others.
    device.edit(&server, |p| {
        p["Policy"]["FileAndFolderMandatoryExclusions"] = json!([
            { "Exclude": "*.doc", "Regex": false, "RestrictOS": 0 },
            { "Exclude": "/r2[.]dat$", "Regex": true, "RestrictOS": 0 },
            { "Exclude": "*.pdf", "Regex": false, "RestrictOS": 1 },
        ]);
    });
    device.back_up(&server, "item", "vault");
    let mut found = saved();
    found.sort();
    let expected = [
        "glob/deep/d.pdf",
        "plain/a.txt",
        "plain/b.TMP",
        "plain/keep/b.tmp.bak",
        "plain/one/two/x.log",
        "plain/v1",
        "regex/r1.dat",
    ];
    assert_eq!(found, expected);
    // A pattern that can not be used stops the job rather than being left out.
    for (key, value) in [
        ("REXCLUDE1", "([".to_string()),
        ("RINCLUDE1", below("regex", "([")),
        ("PINCLUDE1", "no json".to_string()),
        ("INCLUDE1", "relative".to_string()),
    ] {
        device.add_item(
            &server,
            "bad",
            "engine1/file",
            &json!({ "INCLUDE9": at("plain"), key: value }),
        );
        let id = device.backup(&server, "bad", "vault");
        assert_eq!(
            ended(&server, &id)["Status"],
            7002,
            "{key}: {}",
            log(&server, &id)
        );
    }
}

#[test]
fn commands_see_the_job_and_their_failure_is_a_warning() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let notes = server.work_dir.join("notes");
    let note = |word: &str, rest: &str| {
        format!(
            "echo {word} $BACKUP_TOOL_USERNAME $BACKUP_TOOL_DEVICE_ID $BACKUP_TOOL_JOB_ID \"<$BACKUP_TOOL_JOB_STATUS>\" \
             >> '{}'{rest}",
            notes.display()
        )
    };
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let item = json!({ "COMMAND": "echo x; exit 3", "SAVEAS": "o" });
    device.add_item(&server, "fails", "engine1/stdout", &item);
    let item = json!({ "COMMAND": "echo x", "SAVEAS": "o" });
    device.add_item(&server, "works", "engine1/stdout", &item);
    device.edit(&server, |p| {
        for item in ["fails", "works"] {
            p["Sources"][item]["PreExec"] = json!([note("before", "; exit 7"), note("again", "")]);
            p["Sources"][item]["ThawExec"] = json!([note("thaw", "; echo grumble >&2")]);
            p["Sources"][item]["PostExec"] = json!([note("after", "")]);
        }
    });
    for (item, status) in [("fails", 7002), ("works", 7001)] {
        let _ = fs::remove_file(&notes);
        let id = device.backup(&server, item, "vault");
        assert_eq!(ended(&server, &id)["Status"], status, "{}", log(&server, &id));
        let told = fs::read_to_string(&notes).unwrap();
        let line = |word: &str, status: &str| format!("{word} {USER} laptop {id} <{status}>\n");
        let expected = ["before", "again", "thaw"].map(|word| line(word, "")).concat();
        assert_eq!(told, expected + &line("after", &status.to_string()));
        let text = log(&server, &id);
        assert!(text.contains("W The command ended with exit status: 7"), "{text}");
        assert!(text.contains("W grumble"), "{text}");
    }
}

#[test]
fn commands_run_around_a_backup_in_their_order() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let notes = server.work_dir.join("notes");
    let note = |word: &str| {
        json!([format!(
            "echo {word} $BACKUP_TOOL_USERNAME$BACKUP_TOOL_JOB_STATUS >> '{}'",
            notes.display()
        )])
    };
    let both = |name: &str| {
        let three = ["before", "thaw", "after"].map(|when| note(&format!("{when}-{name}")));
        let [before, thaw, after] = three;
        json!({ "PreExec": before, "ThawExec": thaw, "PostExec": after })
    };
    let with = |target: &mut Value, name: &str| {
        for (key, value) in both(name).as_object().unwrap() {
            target[key] = value.clone();
        }
    };
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    device.add_item(
        &server,
        "item",
        "engine1/stdout",
        &json!({ "COMMAND": "echo x", "SAVEAS": "o" }),
    );
    device.edit(&server, |p| {
        p["BackupRules"]["rule"] = json!({ "Description": "r", "Source": "item", "Destination": "vault" });
        with(&mut p["BackupRules"]["rule"], "rule");
        with(&mut p["Sources"]["item"], "item");
        with(&mut p["Destinations"]["vault"], "vault");
    });
    let id = crate::support::device::started(&device.ask(&server, "run-backup", &[("BackupRule", "rule")]));
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    let expected = "before-rule dora\nbefore-item dora\nbefore-vault dora\nthaw-rule dora\nthaw-item dora\n\
                    thaw-vault dora\nafter-vault dora5000\nafter-item dora5000\nafter-rule dora5000\n";
    assert_eq!(fs::read_to_string(&notes).unwrap(), expected);
}

#[test]
fn a_job_is_cancelled_wherever_it_waits() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let cancel = |id: &str| {
        let answer = server.call("/api/v1/admin/job/cancel", &[("TargetUser", USER), ("JobID", id)]);
        assert_eq!(answer["Status"], 200, "{answer}");
        assert_eq!(ended(&server, id)["Status"], 7005, "{}", log(&server, id));
    };
    // While the program that is backed up is silent, after it wrote something.
    let command = json!({ "COMMAND": "echo x; sleep 1000", "SAVEAS": "o" });
    device.add_item(&server, "silent", "engine1/stdout", &command);
    let id = device.backup(&server, "silent", "vault");
    until("the program", || {
        log(&server, &id).contains("sleep 1000").then_some(())
    });
    // The same item into the same vault is not started again.
    let options = json!({ "SkipAlreadyRunning": true });
    let other = device.backup_with(&server, "silent", "vault", &options);
    let skipped = ended(&server, &other);
    assert_eq!(skipped["Status"], 7006, "{skipped}");
    assert_eq!(skipped["ConflictingJobID"], id.as_str());
    cancel(&id);
    // While a command before it runs; the commands after it run nevertheless.
    let note = server.work_dir.join("note");
    device.edit(&server, |p| {
        p["Sources"]["silent"]["PreExec"] = json!(["sleep 1001"]);
        p["Sources"]["silent"]["PostExec"] =
            json!([format!("echo $BACKUP_TOOL_JOB_STATUS > '{}'", note.display())]);
    });
    let id = device.backup(&server, "silent", "vault");
    until("the command", || {
        log(&server, &id).contains("sleep 1001").then_some(())
    });
    cancel(&id);
    assert_eq!(fs::read_to_string(&note).unwrap(), "7005\n");
    // By its own limit of time.
    device.edit(&server, |p| p["Sources"]["silent"]["PreExec"] = json!([]));
    let id = device.backup_with(&server, "silent", "vault", &json!({ "StopAfter": 1 }));
    assert_eq!(ended(&server, &id)["Status"], 7005);
    assert!(log(&server, &id).contains("limit of 1 seconds"));
    // Nothing of it is in the vault.
    let snapshots = device.ask(&server, "request-vault-snapshots", &[("Destination", "vault")]);
    assert_eq!(
        snapshots["Snapshots"].as_array().map_or(0, Vec::len),
        0,
        "{snapshots}"
    );
}

#[test]
fn a_killed_agent_tells_how_its_job_ended_and_goes_on() {
    let server = Server::start();
    let mut device = Device::start(&server, "laptop");
    device.add_bucket(&server, "vault");
    let feed = Feed::new(&server, "feed");
    device.add_item(&server, "feed", "engine1/stdout", &feed.item());
    for _ in 0..5 {
        let id = device.backup(&server, "feed", "vault");
        let mut input = feed.open();
        input.write_all(&noise(30 << 20)).unwrap();
        until("some upload", || {
            (job(&server, &id)["UploadSize"].as_u64().unwrap() > 0).then_some(())
        });
        device.kill();
        drop(input);
        device.launch();
        let job = ended(&server, &id);
        assert_eq!(job["Status"], 7002, "{job}");
        let lines = log(&server, &id);
        assert!(lines.contains("stopped while this job was running"), "{lines}");
        assert!(lines.starts_with("I Backing up"), "{lines}");
        device.restic("vault", &["check", "--read-data"]);
    }
    let id = device.backup(&server, "feed", "vault");
    feed.open().write_all(b"whole").unwrap();
    let job = ended(&server, &id);
    assert_eq!(job["Status"], 5000, "{}", log(&server, &id));
    assert_eq!(device.restic("vault", &["dump", "latest", "/feed"]), "whole");
    // Of two agents for one device's data one does not run.
    let second = device.run(&["run"]);
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("another agent"),
        "{second:?}"
    );
}

#[test]
fn a_job_outlives_the_server_and_is_reported_whole() {
    let mut server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let feed = Feed::new(&server, "feed");
    device.add_item(&server, "feed", "engine1/stdout", &feed.item());
    let commands: Vec<String> = (0..40).map(|i| format!("echo line {i} >&2")).collect();
    device.edit(&server, |p| p["Sources"]["feed"]["PostExec"] = json!(commands));
    let id = device.backup(&server, "feed", "vault");
    let mut input = feed.open();
    input.write_all(&noise(8 << 20)).unwrap();
    until("some progress", || {
        (job(&server, &id)["Progress"]["BytesDone"].as_u64().unwrap() > 0).then_some(())
    });
    server.kill();
    input.write_all(&noise(8 << 20)).unwrap();
    drop(input);
    server.restart_here();
    let ended = ended(&server, &id);
    // With a warning: that is what the commands' complaints are.
    assert_eq!(ended["Status"], 7001, "{ended} {}", log(&server, &id));
    assert_eq!(ended["TotalSize"], 16 << 20);
    let lines = log(&server, &id);
    let numbers: Vec<&str> = lines.lines().filter(|l| l.starts_with("W line ")).collect();
    let expected: Vec<String> = (0..40).map(|i| format!("W line {i}")).collect();
    assert_eq!(numbers, expected, "each line once and in order");
    assert!(lines.starts_with("I Backing up"), "{lines}");
    assert!(lines.ends_with("W Finished with 40 warnings\n"), "{lines}");
    until("the statistics", || {
        let last = profile(&server)["Sources"]["feed"]["Statistics"]["LastBackupJob"].clone();
        (last["GUID"] == id.as_str()).then_some(())
    });
    device.restic("vault", &["check", "--read-data"]);
}

#[test]
fn a_server_that_dies_under_its_own_bucket_leaves_it_sound() {
    let mut server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_bucket(&server, "vault");
    let feed = Feed::new(&server, "feed");
    device.add_item(&server, "feed", "engine1/stdout", &feed.item());
    for _ in 0..5 {
        let id = device.backup(&server, "feed", "vault");
        let mut input = feed.open();
        input.write_all(&noise(30 << 20)).unwrap();
        until("some upload", || {
            (job(&server, &id)["UploadSize"].as_u64().unwrap() > 0).then_some(())
        });
        server.kill();
        server.restart_here();
        // The job may have failed by then; it may also have waited for the server.
        let _ = input.write_all(&noise(30 << 20));
        drop(input);
        let job = ended(&server, &id);
        let status = job["Status"].as_u64().unwrap();
        assert!(status == 5000 || status == 7002, "{job}");
        device.restic("vault", &["check", "--read-data"]);
    }
    let id = device.backup(&server, "feed", "vault");
    feed.open().write_all(b"whole").unwrap();
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    assert_eq!(device.restic("vault", &["dump", "latest", "/feed"]), "whole");
}

#[test]
fn two_devices_that_begin_a_vault_at_once_share_one_key() {
    let server = Server::start();
    let (a, b) = (Device::start(&server, "a"), Device::start(&server, "b"));
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), noise(1 << 20)).unwrap();
    for round in 0..3 {
        let vault = format!("vault{round}");
        a.add_bucket(&server, &vault);
        a.add_item(&server, "of-a", "engine1/file", &json!({ "INCLUDE1": folder }));
        b.add_item(&server, "of-b", "engine1/file", &json!({ "INCLUDE1": folder }));
        let ids = [
            a.backup(&server, "of-a", &vault),
            b.backup(&server, "of-b", &vault),
        ];
        for id in ids {
            assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
        }
        assert_eq!(
            a.run(&["vault-access", "--destination", &vault]).stdout,
            b.run(&["vault-access", "--destination", &vault]).stdout
        );
        a.restic(&vault, &["check", "--read-data"]);
        let snapshots: Value = serde_json::from_str(&b.restic(&vault, &["snapshots", "--json"])).unwrap();
        assert_eq!(snapshots.as_array().unwrap().len(), 2);
    }
    // One device restores what the other backed up.
    let target = server.work_dir.join("target");
    let options = json!({ "Type": 0, "DestPath": target });
    let id = b.restore(&server, "vault0", "of-a", &options, &[]);
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    same(&folder, &restored(&target, &folder));
    // But does not back up the other's items.
    let fields = [("Source", "of-a"), ("Destination", "vault0"), ("Options", "{}")];
    assert_eq!(b.ask(&server, "run-backup-custom", &fields)["Status"], 400);
}

#[test]
fn an_owner_who_keeps_names_private_is_obeyed() {
    let server = Server::start();
    let shy = Device::start_with(&server, "shy", &["--no-filenames"]);
    let open = Device::start(&server, "open");
    let folder = sample(&server);
    let path = folder.to_str().unwrap();
    let refused = shy.ask(&server, "request-filesystem-objects", &[("Path", path)]);
    assert_eq!(refused["Status"], 403, "{refused}");
    let listing = open.ask(&server, "request-filesystem-objects", &[("Path", path)]);
    let objects = listing["StoredObjects"].as_array().unwrap();
    let names: Vec<&str> = objects.iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert_eq!(names[..2], ["deep", "empty"], "folders first");
    assert!(names.contains(&"link") && names.contains(&"zero"));

    // Settings and profile are for their owner alone, and hold no password.
    for entry in fs::read_dir(shy.data_dir()).unwrap().flatten() {
        let text = fs::read(entry.path()).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&text).contains("dora-password"),
            "{entry:?}"
        );
    }
    let mode = |name: &str| fs::metadata(shy.data_dir().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("agent.json"), mode("profile.sealed")), (0o600, 0o600));
    let wrong = shy.run(&["register", "--server", "http://127.0.0.1:1", "--user", USER]);
    assert!(!wrong.status.success());
}
