//! Protected Items other than plain folders, through the front door: databases of real servers, programs, disks; and
//! restores that do not end in a folder.

use crate::support::Server;
use crate::support::device::{Device, ended, log, until};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A MariaDB server of the distribution's package, in a folder of its own.
struct Mariadb {
    child: Child,
    port: u16,
}

/// Programs that do not run as root are lent another user.
fn as_nobody(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--pdeathsig=KILL",
        program,
    ]);
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Mariadb {
    fn start(folder: &Path) -> Self {
        let data = folder.join("mariadb");
        fs::create_dir(&data).unwrap();
        open_up(folder);
        let _ = Command::new("chmod").arg("777").arg(&data).status();
        let made = as_nobody("mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .output()
            .expect("the package mariadb-server is not installed");
        assert!(made.status.success(), "{made:?}");
        let port = free_port();
        let child = as_nobody("/usr/sbin/mariadbd")
            .args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--skip-log-bin",
                "--innodb-buffer-pool-size=8M",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", data.join("socket").display()))
            .arg(format!("--pid-file={}", data.join("pid").display()))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("mariadb.log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        until("the database server", || server.try_sql("SELECT 1").ok());
        server
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let ran = Command::new("mariadb")
            .args([
                "--no-defaults",
                "--protocol=tcp",
                "--host=127.0.0.1",
                "--user=root",
                "-N",
                "-B",
            ])
            .arg(format!("--port={}", self.port))
            .args(["-e", sql])
            .output()
            .unwrap();
        if ran.status.success() {
            Ok(String::from_utf8(ran.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&ran.stderr).into_owned())
        }
    }

    fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap()
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets another user reach a test's folder.
fn open_up(folder: &Path) {
    let mut at = Some(folder);
    while let Some(folder) = at.filter(|f| f.starts_with(std::env::temp_dir()) && *f != std::env::temp_dir())
    {
        let _ = Command::new("chmod").arg("a+x").arg(folder).status();
        at = folder.parent();
    }
}

#[test]
fn mysql_databases_come_back_into_a_live_server() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let database = Mariadb::start(&server.work_dir);
    database.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(50), b BLOB);
         INSERT INTO shop.t VALUES (1, 'ünï \\'q\\' \"x\"', x'00ff0a'), (2, NULL, NULL);
         CREATE VIEW shop.v AS SELECT name FROM shop.t;
         CREATE PROCEDURE shop.p() SELECT 1;
         CREATE DATABASE `odd name/with %`; CREATE TABLE `odd name/with %`.x (a INT);
         INSERT INTO `odd name/with %`.x VALUES (42);
         CREATE DATABASE left_out;
         CREATE USER keeper@'%' IDENTIFIED BY 'pass \"word'; GRANT ALL ON *.* TO keeper@'%';",
    );
    let port = database.port.to_string();
    let credentials =
        json!({ "Host": "127.0.0.1", "Port": port, "Username": "keeper", "Password": "pass \"word" });
    let browse = |credentials: &Value| {
        device.ask(
            &server,
            "request-browse-mysql",
            &[("Credentials", &credentials.to_string())],
        )
    };
    let names = browse(&credentials);
    let names: Vec<&String> = names["Objects"]
        .as_object()
        .unwrap_or_else(|| panic!("{names}"))
        .keys()
        .collect();
    assert_eq!(names, ["left_out", "mysql", "odd name/with %", "shop"]);
    let wrong = json!({ "Host": "127.0.0.1", "Port": port, "Username": "keeper", "Password": "no" });
    let refused = browse(&wrong);
    assert!(
        refused["Message"].as_str().unwrap().contains("Access denied"),
        "{refused}"
    );

    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let item = |more: Value| {
        let mut all =
            json!({ "HOST": "127.0.0.1", "PORT": port, "USERNAME": "keeper", "PASSWORD": "pass \"word" });
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        all
    };
    let all = item(json!({
        "ALL_DATABASES": "", "EXCEPT-DATABASE-1": "left_out", "EXCEPT-DATABASE-2": "mysql", "ISOLATION": "transaction",
    }));
    device.add_item(&server, "all", "engine1/mysql", &all);
    let job = device.back_up(&server, "all", "vault");
    assert_eq!(job["TotalFiles"], 2, "{job}");
    // The password stands in no log and in no file that stays.
    assert!(!log(&server, job["GUID"].as_str().unwrap()).contains("word"));
    let left = fs::read_dir(device.data_dir()).unwrap().flatten();
    assert!(
        left.filter(|e| e.file_name().to_string_lossy().starts_with("secret-"))
            .count()
            == 0
    );

    database.sql("DROP DATABASE shop; DROP DATABASE `odd name/with %`");
    let options = json!({
        "Type": 10, "Host": "127.0.0.1", "Port": port, "Username": "keeper", "Password": "pass \"word",
    });
    let id = device.restore(&server, "vault", "all", &options, &[]);
    let restored = ended(&server, &id);
    assert_eq!(restored["Status"], 5000, "{}", log(&server, &id));
    assert_eq!(
        database.sql("SELECT id, name, HEX(b) FROM shop.t ORDER BY id"),
        "1\tünï 'q' \"x\"\t00FF0A\n2\tNULL\tNULL\n"
    );
    assert_eq!(
        database.sql("SELECT name FROM shop.v WHERE name IS NOT NULL"),
        "ünï 'q' \"x\"\n"
    );
    assert_eq!(database.sql("CALL shop.p()"), "1\n");
    assert_eq!(database.sql("SELECT a FROM `odd name/with %`.x"), "42\n");
    // One of them.
    database.sql("DROP DATABASE shop; DROP DATABASE `odd name/with %`");
    let id = device.restore(&server, "vault", "all", &options, &["/shop.sql"]);
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    assert_eq!(database.sql("SELECT COUNT(*) FROM shop.t"), "2\n");
    assert!(database.try_sql("SELECT a FROM `odd name/with %`.x").is_err());

    // One that fails is an error, and does not keep the other from being saved.
    device.add_item(
        &server,
        "some",
        "engine1/mysql",
        &item(json!({ "DATABASE-1": "shop", "DATABASE-2": "nowhere" })),
    );
    let id = device.backup(&server, "some", "vault");
    let bad = ended(&server, &id);
    let text = log(&server, &id);
    assert_eq!(bad["Status"], 7002, "{text}");
    assert!(text.contains("nowhere"), "{text}");
    let dump = device.restic("vault", &["dump", "latest", "/shop.sql"]);
    assert!(dump.contains("Dump completed"), "{dump}");
    // A restore that fails says why.
    let options =
        json!({ "Type": 10, "Host": "127.0.0.1", "Port": port, "Username": "keeper", "Password": "no" });
    let id = device.restore(&server, "vault", "all", &options, &["/shop.sql"]);
    assert_eq!(ended(&server, &id)["Status"], 7002);
    assert!(
        log(&server, &id).contains("Access denied"),
        "{}",
        log(&server, &id)
    );
}

#[test]
fn postgresql_databases_come_back_through_the_official_client() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let cluster = crate::support::postgres::Cluster::start();
    let psql = |database: &str, sql: &str| {
        let name = database
            .replace('\'', "%27")
            .replace(' ', "%20")
            .replace('=', "%3D");
        crate::support::postgres::execute(&cluster.url(&name), sql)
    };
    psql("postgres", "CREATE DATABASE \"it's = odd\"");
    psql(
        "it's = odd",
        "CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, E'ü\\n\\'x'), (2, NULL)",
    );
    let url = cluster.url("");
    let port = url.split(':').next_back().unwrap().split('/').next().unwrap();
    let (host, user) = ("127.0.0.1", "encke");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let properties = json!({
        "HOST": host, "PORT": port, "USERNAME": user, "DATABASE-1": "it's = odd",
    });
    device.add_item(&server, "item", "encke/postgresql", &properties);
    let job = device.back_up(&server, "item", "vault");
    assert_eq!(job["TotalFiles"], 2, "the database and what all share");
    psql("postgres", "DROP DATABASE \"it's = odd\"");
    let client = format!("psql -X -v ON_ERROR_STOP=1 -q -h '{host}' -p {port} -U {user} -d postgres");
    let options = json!({ "Type": 2, "DestPath": client });
    let id = device.restore(&server, "vault", "item", &options, &["/database-it's = odd.sql"]);
    assert_eq!(ended(&server, &id)["Classification"], 4002);
    assert_eq!(
        psql("it's = odd", "SELECT count(*), min(name) FROM t"),
        "2|ü\n'x\n",
        "{}",
        log(&server, &id)
    );
}

#[test]
fn programs_write_several_files_and_read_them_back() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    let folder = server.work_dir.to_str().unwrap();
    let properties = json!({
        "COMMAND": "pwd", "WORKDIR": folder, "SAVEAS": "b.txt",
        "EXTRACOMMAND-1": json!(["printf second", "", "a.txt"]).to_string(),
        "EXTRACOMMAND-2": json!(["head -c 3000000 /dev/zero", "/", "c.bin"]).to_string(),
    });
    device.add_item(&server, "item", "engine1/stdout", &properties);
    let job = device.back_up(&server, "item", "vault");
    assert_eq!(job["TotalFiles"], 3);
    assert_eq!(device.restic("vault", &["dump", "latest", "/a.txt"]), "second");
    assert_eq!(
        device.restic("vault", &["dump", "latest", "/b.txt"]).trim(),
        folder
    );
    // Each into a command of its own.
    let out = server.work_dir.join("out");
    fs::create_dir(&out).unwrap();
    let command = format!("wc -c > '{}'/$(basename \"$BACKUP_TOOL_FILE\")", out.display());
    let id = device.restore(
        &server,
        "vault",
        "item",
        &json!({ "Type": 2, "DestPath": command }),
        &[],
    );
    let done = ended(&server, &id);
    assert_eq!(done["Status"], 5000, "{}", log(&server, &id));
    assert_eq!(
        (&done["TotalFiles"], &done["TotalSize"]),
        (&json!(3), &json!(3_000_006 + folder.len() + 1))
    );
    assert_eq!(fs::read_to_string(out.join("c.bin")).unwrap().trim(), "3000000");
    // A command that does not read to the end, or fails.
    let id = device.restore(
        &server,
        "vault",
        "item",
        &json!({ "Type": 2, "DestPath": "exit 4" }),
        &["/c.bin"],
    );
    assert_eq!(ended(&server, &id)["Status"], 7002);
    assert!(
        log(&server, &id).contains("exit status: 4"),
        "{}",
        log(&server, &id)
    );
    // All as one archive: into a command, and into a file.
    let list = server.work_dir.join("list");
    let command = format!("tar -tf - | sort > '{}'", list.display());
    let id = device.restore(
        &server,
        "vault",
        "item",
        &json!({ "Type": 3, "DestPath": command }),
        &[],
    );
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    assert_eq!(fs::read_to_string(&list).unwrap(), "a.txt\nb.txt\nc.bin\n");
    let archive = server.work_dir.join("all.tar.gz");
    let options = json!({ "Type": 5, "ArchiveFormat": 1, "DestPath": archive });
    let id = device.restore(&server, "vault", "item", &options, &["/a.txt"]);
    assert_eq!(ended(&server, &id)["Status"], 5000, "{}", log(&server, &id));
    let shown = Command::new("tar")
        .args(["-xzOf"])
        .arg(&archive)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), "second");
    let id = device.restore(&server, "vault", "item", &options, &[]);
    assert_eq!(ended(&server, &id)["Status"], 7002, "it exists already");
    // Two files of one name can not be told apart.
    let twice = json!({
        "COMMAND": "echo x", "SAVEAS": "a", "EXTRACOMMAND-1": json!(["echo y", "", "a"]).to_string(),
    });
    device.add_item(&server, "twice", "engine1/stdout", &twice);
    let id = device.backup(&server, "twice", "vault");
    assert_eq!(ended(&server, &id)["Status"], 7002);
    device.restic("vault", &["check", "--read-data"]);
}

#[test]
fn a_confined_device_stays_in_home_directories() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let folder = server.work_dir.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    let note = server.work_dir.join("note");
    device.add_bucket(&server, "vault");
    device.add_item(&server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    device.add_item(
        &server,
        "program",
        "engine1/stdout",
        &json!({ "COMMAND": "echo x", "SAVEAS": "o" }),
    );
    device.back_up(&server, "item", "vault");
    device.edit(&server, |p| {
        p["LinuxHomedirSandbox"] = json!(true);
        p["Sources"]["item"]["PreExec"] = json!([format!("touch '{}'", note.display())]);
    });
    let listing = device.ask(&server, "request-filesystem-objects", &[("Path", "/etc")]);
    assert_eq!(listing["Status"], 403, "{listing}");
    for item in ["item", "program"] {
        let id = device.backup(&server, item, "vault");
        assert_eq!(ended(&server, &id)["Status"], 7002);
        assert!(log(&server, &id).contains("confines"), "{}", log(&server, &id));
    }
    assert!(!note.exists());
    for options in [
        json!({ "Type": 0, "DestPath": server.work_dir.join("out") }),
        json!({ "Type": 0, "DestIsOriginalLocation": true }),
        json!({ "Type": 2, "DestPath": format!("cat > '{}'", note.display()) }),
    ] {
        let id = device.restore(&server, "vault", "item", &options, &[]);
        assert_eq!(ended(&server, &id)["Status"], 7002, "{options}");
        assert!(log(&server, &id).contains("confines"), "{}", log(&server, &id));
    }
    assert!(!note.exists() && !server.work_dir.join("out").exists());
    // To look whether it could be restored writes nothing.
    let id = device.restore(&server, "vault", "item", &json!({ "Type": 1 }), &[]);
    assert_eq!(ended(&server, &id)["Status"], 5000);
}

/// A loop device over a file, where the system lets a test have one.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Self> {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let path = String::from_utf8(made.stdout).ok()?.trim().to_string();
        made.status.success().then(|| Self(path.into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_disk_is_saved_and_written_back_whole() {
    let server = Server::start();
    let file = |name: &str, size: u64| {
        let path = server.work_dir.join(name);
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    };
    let image = file("disk", 24 << 20);
    let mut content = fs::read(&image).unwrap();
    for (i, byte) in content.iter_mut().enumerate().skip(5 << 20).take(3 << 20) {
        *byte = u8::try_from((i * 31 / 7) % 251).unwrap();
    }
    fs::write(&image, &content).unwrap();
    let (Some(disk), Some(empty), Some(small)) = (
        Loop::over(&image),
        Loop::over(&file("empty", 24 << 20)),
        Loop::over(&file("small", 1 << 20)),
    ) else {
        eprintln!("this system lets a test have no loop devices: not tested");
        return;
    };
    let device = Device::start(&server, "laptop");
    device.add_folder_vault(&server, "vault", &server.work_dir.join("vault"));
    device.add_item(&server, "disk", "engine1/windisk", &json!({ "DISK-1": disk.0 }));
    let job = device.back_up(&server, "disk", "vault");
    assert_eq!(job["TotalFiles"], 2);
    let name = disk.0.file_name().unwrap().to_str().unwrap();
    let told: Value =
        serde_json::from_str(&device.restic("vault", &["dump", "latest", "/disks.json"])).unwrap();
    assert_eq!(
        (&told[0]["DeviceName"], &told[0]["Size"]),
        (&json!(disk.0), &json!(24 << 20))
    );
    let path = format!("/{name}.img");
    let restore = |target: &Path| {
        let options = json!({ "Type": 4, "ExactDestPaths": [target] });
        let id = device.restore(&server, "vault", "disk", &options, &[&path]);
        (ended(&server, &id), log(&server, &id))
    };
    let (done, text) = restore(&empty.0);
    assert_eq!(done["Status"], 5000, "{text}");
    assert!(fs::read(&empty.0).unwrap() == content, "the disk differs");
    let target = server.work_dir.join("copy.img");
    let (done, text) = restore(&target);
    assert_eq!(done["Status"], 5000, "{text}");
    assert!(fs::read(&target).unwrap() == content, "the image differs");
    let (refused, text) = restore(&small.0);
    assert_eq!(refused["Status"], 7002, "{text}");
    assert!(text.contains("the disk has"), "{text}");
    // What is no disk is not taken for one.
    device.add_item(&server, "file", "engine1/windisk", &json!({ "DISK-1": image }));
    let id = device.backup(&server, "file", "vault");
    assert_eq!(ended(&server, &id)["Status"], 7002);
}
