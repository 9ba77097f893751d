//! Reports and files: large uploads, files that are watched, databases reached by TLS, exports, the puller into a
//! database, and the examples of the documents.

use crate::support::{ADMIN, Server, http, mariadb, postgres, set_environment};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUN: &str = "/data-backend/api/public/areports/run";
const LOGIN: [(&str, &str); 3] = [("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];

fn admin(server: &Server, name: &str, fields: &[(&str, &str)]) -> Value {
    let all: Vec<(&str, &str)> = LOGIN.iter().chain(fields).copied().collect();
    server.post(&format!("/api/encke/v1/reports/{name}"), &all)
}

/// Bytes of an answer that is no JSON.
fn bytes(server: &Server, name: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let all: Vec<(&str, &str)> = LOGIN.iter().chain(fields).copied().collect();
    let url = format!("{}/api/encke/v1/reports/{name}", server.url);
    let mut answer = http().post(url).send_form(all).unwrap();
    let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
    body.unwrap()
}

fn id_of(answer: &Value, name: &str) -> String {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_string()
}

/// A template with all columns of a source's table.
fn template(server: &Server, source: &str, table: &str, extra: &Value) -> i64 {
    let tables = admin(server, "list-tables", &[("SourceID", source)]);
    let found = tables
        .as_array()
        .and_then(|all| all.iter().find(|t| t["Table"] == table));
    let found = found.unwrap_or_else(|| panic!("{tables}"));
    let columns = found["Columns"].as_array().unwrap().iter();
    let columns: Vec<Value> = columns
        .map(|c| json!({ "key": c["name"], "type": c["type"] }))
        .collect();
    let mut document = json!({ "name": table, "source": source, "table": table, "columns": columns });
    for (key, value) in extra.as_object().unwrap() {
        document[key] = value.clone();
    }
    let saved = admin(server, "save-template", &[("Template", &document.to_string())]);
    saved["Template"].as_i64().unwrap_or_else(|| panic!("{saved}"))
}

fn rows(server: &Server, report: &Value) -> Value {
    let shown = admin(server, "preview", &[("Report", &report.to_string())]);
    assert!(shown["Rows"].is_array(), "{shown}");
    shown["Rows"].clone()
}

fn save(server: &Server, report: &Value) -> String {
    id_of(
        &admin(server, "save", &[("Report", &report.to_string())]),
        "ReportID",
    )
}

/// The address that a report is pulled at.
fn address(server: &Server, id: &str) -> String {
    let code = id_of(&admin(server, "generate-code", &[("ReportID", id)]), "APICode");
    format!("{}{RUN}/0/25/?API_KEY={code}", server.url)
}

/// Asks until the answer is as wanted.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Head of an upload's body up to the file.
fn upload_head(fields: &[(&str, &str)]) -> String {
    let mut head = String::new();
    for (name, value) in fields {
        head += &format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    head + "--cut\r\nContent-Disposition: form-data; name=\"File\"; filename=\"f\"\r\n\r\n"
}

/// Uploads a file that is made while it is sent.
fn upload(server: &Server, fields: &[(&str, &str)], content: impl std::io::Read + Send + 'static) -> Value {
    let all: Vec<(&str, &str)> = LOGIN.iter().chain(fields).copied().collect();
    let head = std::io::Cursor::new(upload_head(&all));
    let mut body = head.chain(content).chain(&b"\r\n--cut--\r\n"[..]);
    let mut answer = http()
        .post(format!("{}/api/encke/v1/reports/upload-source", server.url))
        .header("Content-Type", "multipart/form-data; boundary=cut")
        .send(ureq::SendBody::from_reader(&mut body))
        .unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

/// Rows of a CSV file, made while they are read.
struct Rows {
    next: u32,
    end: u32,
    text: Vec<u8>,
    at: usize,
}

impl Rows {
    /// About a hundred bytes each.
    fn new(count: u32) -> Self {
        Self {
            next: 0,
            end: count,
            text: b"number,day,name,rest\n".to_vec(),
            at: 0,
        }
    }
}

impl std::io::Read for Rows {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.text.len() && self.next < self.end {
            self.text.clear();
            self.at = 0;
            let n = self.next;
            self.next += 1;
            writeln!(self.text, "{n},2024-01-{:02},person {n},{:->60}", n % 28 + 1, n)?;
        }
        let take = out.len().min(self.text.len() - self.at);
        out[..take].copy_from_slice(&self.text[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}

/// The most memory a process has used, in MiB.
fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn large_uploads_go_to_disk_within_limits() {
    const ROWS: u32 = 600_000;
    let mut server = Server::start_prepared(|data| {
        set_environment(data, "ENCKE_REPORT_UPLOAD_BYTES", &(64u32 << 20).to_string());
        set_environment(data, "ENCKE_REPORT_QUOTA_BYTES", &(80u32 << 20).to_string());
    });
    let (kept, staged) = (
        server.data_dir.join("reports/uploads"),
        server.data_dir.join("reports/staged"),
    );
    // Argon2 takes its memory once, before what is measured.
    let limits = admin(&server, "upload-limits", &[]);
    assert_eq!(limits["FileBytes"], 64 << 20, "{limits}");
    let before = peak_memory(&server);
    let made = upload(&server, &[("FileName", "many.csv")], Rows::new(ROWS));
    let source = id_of(&made, "SourceID");
    let kinds: Vec<&Value> = made["Tables"][0]["Columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["type"])
        .collect();
    assert_eq!(kinds, ["NUMBER", "DATE", "STRING", "STRING"]);
    // The file has 55 MiB; its rows in memory would have several times as much.
    let grown = peak_memory(&server) - before;
    assert!(grown < 55, "{grown} MiB more memory");
    let number = template(&server, &source, "many", &json!({}));
    let count = json!({ "name": "r", "template": number, "columns": [{ "key": "number", "total": "count" }, { "key": "rest", "total": "max" }] });
    assert_eq!(rows(&server, &count)[0][0], ROWS);
    assert_eq!((files_in(&kept), files_in(&staged)), (1, 0));

    // Beyond the limit of a file, and of an owner: nothing is kept. In the place of the old one it has room.
    let refused = upload(&server, &[("FileName", "more.csv")], Rows::new(750_000));
    assert_eq!(refused["Status"], 413, "{refused}");
    let refused = upload(&server, &[("FileName", "more.csv")], Rows::new(ROWS));
    assert_eq!(refused["Status"], 400, "{refused}");
    assert!(
        refused["Message"].as_str().unwrap().contains("left to you"),
        "{refused}"
    );
    let replaced = upload(
        &server,
        &[("SourceID", &source), ("FileName", "many.csv")],
        Rows::new(ROWS / 2),
    );
    assert_eq!(replaced["Status"], 200, "{replaced}");
    assert_eq!(rows(&server, &count)[0][0], ROWS / 2);
    let used = admin(&server, "upload-limits", &[])["UsedBytes"]
        .as_u64()
        .unwrap();
    assert!((20 << 20..60 << 20).contains(&used), "{used}");
    // Nor without leave: the file is not even received.
    let mut stranger = LOGIN;
    stranger[2].1 = "wrong";
    let head = upload_head(&[&stranger[..], &[("FileName", "x.csv")]].concat());
    let mut answer = http()
        .post(format!("{}/api/encke/v1/reports/upload-source", server.url))
        .header("Content-Type", "multipart/form-data; boundary=cut")
        .send(&format!("{head}a,b\r\n1,2\r\n--cut--\r\n"))
        .unwrap();
    let refused: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(refused["Status"], 403, "{refused}");

    // One at a time; a broken one gives its place back.
    let mut slow = std::net::TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let fields = [&LOGIN[..], &[("FileName", "slow.csv")]].concat();
    let head = upload_head(&fields);
    write!(
        slow,
        "POST /api/encke/v1/reports/upload-source HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\
         Content-Type: multipart/form-data; boundary=cut\r\n\r\n{head}a,b\n1,2\n"
    )
    .unwrap();
    wait_for("the slow upload", || (files_in(&staged) == 1).then_some(()));
    let small = || upload(&server, &[("FileName", "small.csv")], &b"a,b\n1,2\n"[..]);
    assert_eq!(small()["Status"], 429);
    drop(slow);
    wait_for("room", || (small()["Status"] == 200).then_some(()));
    assert_eq!(files_in(&staged), 0);

    // A server that ends in the middle of it leaves nothing, nor what its owner can not name any more.
    let mut slow = std::net::TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    write!(
        slow,
        "POST /api/encke/v1/reports/upload-source HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\
         Content-Type: multipart/form-data; boundary=cut\r\n\r\n{head}a,b\n1,2\n"
    )
    .unwrap();
    wait_for("the slow upload", || (files_in(&staged) == 1).then_some(()));
    server.kill();
    std::fs::write(kept.join("nobodys.db"), "x").unwrap();
    server.restart();
    wait_for("order", || {
        (!kept.join("nobodys.db").exists() && files_in(&staged) == 0).then_some(())
    });
    assert_eq!(rows(&server, &count)[0][0], ROWS / 2);
}

/// A source as the list tells of it.
fn source(server: &Server, id: &str) -> Value {
    let listed = admin(server, "list-sources", &[]);
    let found = listed
        .as_array()
        .and_then(|all| all.iter().find(|s| s["SourceID"] == id));
    found.unwrap_or_else(|| panic!("{listed}")).clone()
}

#[test]
fn watched_files_are_loaded_when_they_are_whole() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("allowed");
    std::fs::create_dir(&folder).unwrap();
    let mut server = Server::start_prepared(|data| {
        set_environment(data, "ENCKE_REPORT_FOLDERS", folder.to_str().unwrap());
    });
    let put = |name: &str, content: &str| {
        std::fs::write(folder.join("draft"), content).unwrap();
        std::fs::rename(folder.join("draft"), folder.join(name)).unwrap();
    };
    let watch = |path: &Path| {
        let document = json!({ "kind": "watched", "path": path }).to_string();
        admin(
            &server,
            "save-source",
            &[("Name", "watched"), ("Source", &document)],
        )
    };
    put("a.csv", "id,word\n1,one\n");
    put("b.jsonl", "{\"n\":1}\n");
    std::fs::write(outside.path().join("c.csv"), "a\n1\n").unwrap();
    std::os::unix::fs::symlink(outside.path().join("c.csv"), folder.join("link.csv")).unwrap();
    for wrong in [
        outside.path().join("c.csv"),
        folder.join("link.csv"),
        folder.join("../c.csv"),
        folder.clone(),
    ] {
        assert_eq!(watch(&wrong)["Status"], 400, "{}", wrong.display());
    }
    let (a, b) = (watch(&folder.join("a.csv")), watch(&folder.join("b.jsonl")));
    let (a, b) = (id_of(&a, "SourceID"), id_of(&b, "SourceID"));
    let number = template(&server, &a, "a", &json!({ "uid": "id" }));
    let report = json!({ "name": "r", "template": number, "columns": ["word"] });
    let id = save(&server, &report);
    let url = address(&server, &id);
    let pulled = || -> (Value, String) {
        wait_for("a page", || {
            let mut answer = http().get(&url).call().unwrap();
            let snapshot = answer
                .headers()
                .get("x-encke-snapshot")?
                .to_str()
                .unwrap()
                .to_string();
            let page: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
            Some((page["results"].clone(), snapshot))
        })
    };
    let (first, snapshot) = pulled();
    assert_eq!(first[0]["word"], "one");
    let version = |id: &str| source(&server, id)["Version"].as_i64().unwrap();
    let grown = |id: &str, than: i64| wait_for("a newer version", || Some(version(id)).filter(|v| *v > than));

    // Another file in its place.
    let before = version(&a);
    put("a.csv", "id,word\n1,uno\n2,due\n");
    let before = grown(&a, before);
    let (second, newer) = pulled();
    assert_eq!(
        (second.as_array().unwrap().len(), &second[1]["word"]),
        (2, &json!("due"))
    );
    assert_ne!(snapshot, newer, "the data's version is a part of the snapshot's");

    // Written in place and slowly: not before it is closed, however long it rests. What happens to the other file
    // tells that time has passed.
    let mut half = std::fs::File::create(folder.join("a.csv")).unwrap();
    half.write_all(b"id,word\n1,half\n").unwrap();
    let begun = Instant::now();
    let mut others = version(&b);
    while begun.elapsed() < Duration::from_secs(4) {
        put("b.jsonl", &format!("{{\"n\":{others}}}\n"));
        others = grown(&b, others);
    }
    assert_eq!(version(&a), before, "half a file was loaded");
    assert_eq!(rows(&server, &report), json!([["uno"], ["due"]]));
    half.write_all(b"2,whole\n").unwrap();
    drop(half);
    let before = grown(&a, before);
    assert_eq!(rows(&server, &report), json!([["half"], ["whole"]]));

    // One that can not be read, and none at all: the rows of before stay, and the list says why.
    let problem = |word: &str| {
        wait_for(word, || {
            let problem = source(&server, &a)["Problem"].as_str()?.to_string();
            problem.contains(word).then_some(())
        });
    };
    put("a.csv", "id,word\n1\n");
    problem("can not be loaded");
    std::fs::remove_file(folder.join("a.csv")).unwrap();
    problem("not there");
    assert_eq!(
        (version(&a), rows(&server, &report)),
        (before, json!([["half"], ["whole"]]))
    );

    // What changed while the server was down is seen as well; and one copy of the rows is kept.
    server.stop();
    put("a.csv", "id,word\n7,back\n");
    server.restart();
    wait_for("the rows", || {
        (rows(&server, &report) == json!([["back"]])).then_some(())
    });
    assert_eq!(source(&server, &a)["Problem"], Value::Null);
}

#[test]
fn databases_are_reached_by_tls() {
    let server = Server::start();
    let save = |source: &Value| {
        let fields = [
            ("Name", "s"),
            ("Source", &source.to_string()),
            ("SourcePassword", "word"),
        ];
        admin(&server, "save-source", &fields)
    };
    let of = |base: &Value, change: Value| {
        let mut source = base.clone();
        for (key, value) in change.as_object().unwrap() {
            source[key] = value.clone();
        }
        source
    };
    let secure = postgres::Cluster::start_secure();
    let url = secure.url("postgres");
    postgres::execute(
        &url,
        "CREATE VIEW secured AS SELECT CASE WHEN ssl THEN 'yes' ELSE 'no' END AS ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    );
    let maria = mariadb::secure_server();
    maria.execute(
        "CREATE DATABASE d; CREATE USER reader IDENTIFIED BY 'word'; GRANT ALL ON d.* TO reader;
         CREATE VIEW d.secured AS SELECT IF(VARIABLE_VALUE = '', 'no', 'yes') AS `ssl`
             FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'",
    );
    let plain_maria = mariadb::server();
    plain_maria
        .execute("CREATE DATABASE t; CREATE USER other IDENTIFIED BY 'word'; GRANT ALL ON t.* TO other");
    let plain_url = postgres::database();
    let plain_port = plain_url
        .split("127.0.0.1:")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let others = tempfile::tempdir().unwrap();
    crate::support::certificates::make(&others.path().join("c"));
    let foreign = read(others.path().join("c/ca.pem"));
    for (base, ca, plain) in [
        (
            json!({ "kind": "postgres", "host": "127.0.0.1", "port": secure.port(), "database": "postgres", "user": "encke" }),
            read(secure.authority()),
            json!({ "port": plain_port.parse::<u16>().unwrap() }),
        ),
        (
            json!({ "kind": "mysql", "host": "127.0.0.1", "port": maria.port, "database": "d", "user": "reader" }),
            read(maria.certificates.join("ca.pem")),
            json!({ "port": plain_maria.port, "database": "t", "user": "other" }),
        ),
    ] {
        for (change, secured) in [
            (json!({ "tls": "off" }), "no"),
            (json!({}), "yes"),
            (json!({ "tls": "preferred" }), "yes"),
            (json!({ "tls": "required" }), "yes"),
            (json!({ "tls": "verified", "ca": ca }), "yes"),
            (json!({ "tls": "verified", "ca": ca, "host": "localhost" }), "yes"),
        ] {
            let made = save(&of(&base, change.clone()));
            let number = template(&server, &id_of(&made, "SourceID"), "secured", &json!({}));
            let report = json!({ "name": "r", "template": number, "columns": ["ssl"] });
            assert_eq!(
                rows(&server, &report),
                json!([[secured]]),
                "{} {change}",
                base["kind"]
            );
        }
        // An authority that is not trusted, a name that the certificate is not for, and a server without TLS.
        for wrong in [
            json!({ "tls": "verified" }),
            json!({ "tls": "verified", "ca": foreign }),
            json!({ "tls": "verified", "ca": ca, "host": "127.0.0.2" }),
            of(&plain, json!({ "tls": "required" })),
            of(&plain, json!({ "tls": "verified", "ca": ca })),
        ] {
            let refused = save(&of(&base, wrong.clone()));
            assert_eq!(refused["Status"], 502, "{} {wrong}: {refused}", base["kind"]);
        }
        let no_certificate = save(&of(&base, json!({ "tls": "verified", "ca": "none" })));
        assert_eq!(no_certificate["Status"], 400, "{no_certificate}");
        // Preferred takes one without TLS as well.
        let made = save(&of(&base, plain));
        assert_eq!(made["Status"], 200, "{made}");
    }
}

/// What a program says that is installed for the tests.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn documents_have_pages_with_every_row() {
    let server = Server::start();
    let mut csv = "nr,name,when,worth,note,photo\n".to_string();
    for n in 1..=300 {
        let name = [
            "Ægir Þórsson",
            "Γιώργος Παπαδόπουλος",
            "Ольга Щербакова",
            "Đorđe Žižić",
        ][n % 4];
        let note = if n == 7 {
            "a very long note ".repeat(30)
        } else {
            String::new()
        };
        csv += &format!("{n},{name} {n},2024-02-{:02},{n}.50,{note},\n", n % 28 + 1);
    }
    let made = upload(&server, &[("FileName", "people.csv")], std::io::Cursor::new(csv));
    let source = id_of(&made, "SourceID");
    let columns = json!([
        { "key": "nr", "type": "NUMBER", "names": { "en": "Number", "de": "Nummer", "el": "Αριθμός" } },
        { "key": "name", "type": "STRING" }, { "key": "when", "type": "DATE" }, { "key": "worth", "type": "AMOUNT" },
        { "key": "note", "type": "STRING" }, { "key": "photo", "type": "IMAGELINK" }
    ]);
    let number = template(&server, &source, "people", &json!({ "columns": columns }));
    let report = json!({ "name": "Members — Μέλη — Члены", "template": number,
        "columns": ["nr", "name", "when", "worth", "note", "photo"] });
    let id = save(&server, &report);
    let started = admin(
        &server,
        "start-export",
        &[("ReportID", &id), ("Format", "pdf"), ("Locale", "el_CY")],
    );
    let export = id_of(&started, "ExportID");
    let done = wait_for("the document", || {
        let status = admin(&server, "export-status", &[("ExportID", &export)]);
        assert_ne!(status["State"], "failed", "{status}");
        (status["State"] == "done").then_some(status)
    });
    let document = bytes(&server, "export-file", &[("ExportID", &export)]);
    assert_eq!(
        (done["Rows"].as_u64(), done["Bytes"].as_u64()),
        (Some(300), Some(document.len() as u64))
    );
    assert_eq!(
        document,
        bytes(&server, "export-file", &[("ExportID", &export)]),
        "it can be fetched again"
    );
    let path = server.work_dir.join("out.pdf");
    std::fs::write(&path, &document).unwrap();
    let path = path.to_str().unwrap();
    let info = said("pdfinfo", &[path]);
    let pages = info
        .lines()
        .find_map(|l| l.strip_prefix("Pages:"))
        .unwrap()
        .trim();
    let pages: usize = pages.parse().unwrap();
    assert!(pages > 3 && info.contains("Members — Μέλη — Члены"), "{info}");
    let text = said("pdftotext", &["-layout", path, "-"]);
    let text_of: Vec<&str> = text.trim_end_matches('\u{c}').split('\u{c}').collect();
    assert_eq!(text_of.len(), pages);
    for (at, page) in text_of.iter().enumerate() {
        assert!(
            page.contains("Members — Μέλη — Члены") && page.contains("Αριθμός"),
            "{page}"
        );
        assert!(
            page.contains(&format!("{} /", at + 1)) && page.contains(&format!(" {pages}\n")),
            "{page}"
        );
    }
    for word in [
        "Ægir Þórsson 300",
        "Γιώργος Παπαδόπουλος 297",
        "Ольга Щербакова 298",
        "Đorđe Žižić 299",
        "2024-02-19",
        "placeholder.svg",
    ] {
        assert!(text.contains(word), "{word} is missing");
    }
    assert_eq!(text.matches("very").count(), 30);
    let fonts = said("pdffonts", &[path]);
    assert!(
        fonts
            .lines()
            .skip(2)
            .all(|l| l.contains("TrueType") && l.contains("yes yes yes")),
        "{fonts}"
    );
    // A picture's address is that of this server, and a person without one has the placeholder's.
    let mut page = http().get(address(&server, &id)).call().unwrap();
    let page: Value = serde_json::from_str(&page.body_mut().read_to_string().unwrap()).unwrap();
    let photo = page["results"][0]["photo"].as_str().unwrap();
    assert!(photo.starts_with(&server.url), "{photo}");
    assert_eq!(http().get(photo).call().unwrap().status(), 200);
}

#[test]
fn long_exports_tell_how_far_they_are_and_can_be_stopped() {
    let server = Server::start();
    let made = admin(&server, "save-sample", &[("Size", "200000")]);
    let id = id_of(&made, "ReportID");
    let start = || admin(&server, "start-export", &[("ReportID", &id), ("Format", "xlsx")]);
    let status = |export: &str| admin(&server, "export-status", &[("ExportID", export)]);
    let export = id_of(&start(), "ExportID");
    let mut seen = Vec::new();
    wait_for("the file", || {
        let now = status(&export);
        assert_ne!(now["State"], "failed", "{now}");
        seen.push((
            now["State"].as_str().unwrap().to_string(),
            now["Rows"].as_u64().unwrap(),
        ));
        (now["State"] == "done").then_some(())
    });
    let between = |state: &str| {
        seen.iter()
            .any(|(s, rows)| s == state && (1..200_000).contains(rows))
    };
    assert!(between("rows") && between("file"), "{seen:?}");
    assert!(bytes(&server, "export-file", &[("ExportID", &export)]).starts_with(b"PK"));
    // Two at once; one that is stopped makes room.
    let other = admin(&server, "save-sample", &[("Size", "3000000")]);
    let long =
        [("ReportID", &*id_of(&other, "ReportID")), ("Format", "csv")].map(|(n, v)| (n, v.to_string()));
    let long: Vec<(&str, &str)> = long.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let running: Vec<String> = (0..2)
        .map(|_| id_of(&admin(&server, "start-export", &long), "ExportID"))
        .collect();
    assert_eq!(admin(&server, "start-export", &long)["Status"], 429);
    for one in &running {
        assert_eq!(admin(&server, "export-file", &[("ExportID", one)])["Status"], 409);
        assert_eq!(admin(&server, "stop-export", &[("ExportID", one)])["Status"], 200);
        assert_eq!(status(one)["Status"], 404);
    }
    // What was stopped leaves no file behind.
    let staged = server.data_dir.join("reports/snapshots");
    let drafts = || {
        let files = std::fs::read_dir(&staged).into_iter().flatten().flatten();
        files
            .filter(|f| f.path().extension().is_some_and(|e| e == "new"))
            .count()
    };
    wait_for("order", || (drafts() == 0).then_some(()));
    // Nobody else's.
    let stranger = [("TargetUser", "anna"), ("TargetPassword", "long enough")];
    assert_eq!(server.call("/api/v1/admin/add-user", &stranger)["Status"], 200);
    let asked = [
        ("Username", "anna"),
        ("AuthType", "Password"),
        ("Password", "long enough"),
        ("ExportID", &export),
    ];
    assert_eq!(
        server.post("/api/encke/v1/reports/export-file", &asked)["Status"],
        404
    );
}

/// Whoever names a snapshot keeps it, though another behind the same address begins newer ones.
#[test]
fn a_named_snapshot_stays_until_its_last_page() {
    let server = Server::start();
    let made = upload(&server, &[("FileName", "w.csv")], &b"n\n1\n2\n"[..]);
    let source = id_of(&made, "SourceID");
    let number = template(&server, &source, "w", &json!({}));
    let id = save(
        &server,
        &json!({ "name": "r", "template": number, "columns": ["n"] }),
    );
    let base = address(&server, &id).replace("/0/25/", "/PAGE/1/");
    let get = |page: u32, more: &str| {
        wait_for("a page", || {
            let mut answer = http()
                .get(base.replace("PAGE", &page.to_string()) + more)
                .call()
                .unwrap();
            let status = answer.status().as_u16();
            let name = answer
                .headers()
                .get("x-encke-snapshot")
                .map(|s| s.to_str().unwrap().to_string());
            let body: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
            (status != 429).then_some((status, name, body["results"].clone()))
        })
    };
    let (_, first, _) = get(0, "");
    let named = format!("&snapshot={}", first.unwrap());
    for round in 1..=3 {
        let fields = [("SourceID", source.as_str()), ("FileName", "w.csv")];
        let content = format!("n\n{round}0\n{round}1\n");
        assert_eq!(
            upload(&server, &fields, std::io::Cursor::new(content))["Status"],
            200
        );
        assert_eq!(get(0, "").2[0]["n"], round * 10);
    }
    assert_eq!(
        (get(1, &named).0, get(1, &named).2[0]["n"].clone()),
        (200, json!(2))
    );
    // After its last page it goes with the next newer one.
    let fields = [("SourceID", source.as_str()), ("FileName", "w.csv")];
    assert_eq!(upload(&server, &fields, &b"n\n5\n"[..])["Status"], 200);
    get(0, "");
    assert_eq!(get(1, &named).0, 410);
}

#[test]
fn the_puller_fills_a_database() {
    let server = Server::start();
    let database = postgres::database();
    let pull = |url: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_encke"))
            .args(["report", "pull", url, "--quiet", "--into", &database])
            .args(more)
            .output()
            .unwrap();
        (output.status.success(), format!("{output:?}"))
    };
    let ask = |query: &str| postgres::execute(&database, query).trim().to_string();
    let made = admin(&server, "save-sample", &[("Size", "2345")]);
    let url = format!("{}{RUN}/0/25/?API_KEY={}", server.url, id_of(&made, "APICode"));
    let (well, said) = pull(&url, &["--page-size", "500"]);
    assert!(well && said.contains("2345 rows"), "{said}");
    assert_eq!(ask("SELECT count(DISTINCT uid) FROM report"), "2345");
    assert_eq!(
        ask("SELECT string_agg(DISTINCT data_type, ',' ORDER BY data_type) FROM information_schema.columns
             WHERE table_name = 'report' AND column_name IN ('personId', 'lastName', 'dateOfBirth', 'lastUpdateDateTime')"),
        "date,numeric,text,timestamp with time zone"
    );
    // Each value is what the answer has.
    let mut page = http().get(&url).call().unwrap();
    let page: Value = serde_json::from_str(&page.body_mut().read_to_string().unwrap()).unwrap();
    let row = &page["results"][3];
    let uid = row["uid"].to_string().replace('"', "'");
    let stored: Value = serde_json::from_str(&ask(&format!(
        "SELECT to_json(r) FROM report r WHERE uid = {uid}"
    )))
    .unwrap();
    for key in ["personId", "lastName", "height"] {
        assert_eq!(stored[key], row[key], "{key}");
    }
    let ms = |text: &Value| {
        text.as_str()
            .unwrap()
            .parse::<jiff::civil::Date>()
            .unwrap()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .unwrap()
            .timestamp()
            .as_millisecond()
    };
    assert_eq!(ms(&stored["dateOfBirth"]), row["dateOfBirth"].as_i64().unwrap());

    // Broken off after two pages, it goes on with the third of the same snapshot.
    let base = url.split("/0/25/").next().unwrap();
    let address = format!("{base}?API_KEY={}", id_of(&made, "APICode"));
    let address = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(address));
    let mut answer = http().get(&url).call().unwrap();
    let snapshot = answer.headers()["x-encke-snapshot"].to_str().unwrap().to_string();
    answer.body_mut().read_to_string().unwrap();
    let state = json!({ "address": address, "snapshot": snapshot, "page_size": 1000, "next": 2, "since": null, "bytes": 0 });
    ask(&format!(
        "UPDATE encke_pulls SET state = '{state}'; CREATE TABLE report_pulling (LIKE report INCLUDING ALL)"
    ));
    let (well, said) = pull(&url, &[]);
    assert!(well, "{said}");
    assert_eq!(ask("SELECT count(*) FROM report"), "345");

    // Only what changed, and odd names; into a schema's table.
    ask("CREATE SCHEMA \"Web\"");
    let rows = "id,when_changed,\"the \"\"word\"\"\",big\n1,2024-01-01T00:00:00Z,one,12345678901234567.25\n2,2024-01-02T00:00:00.5Z,two,\n";
    let uploaded = upload(&server, &[("FileName", "words.csv")], rows.as_bytes());
    let source = id_of(&uploaded, "SourceID");
    let number = template(
        &server,
        &source,
        "words",
        &json!({ "uid": "id", "updated": "when_changed" }),
    );
    let id = save(
        &server,
        &json!({ "name": "r", "template": number, "columns": ["the \"word\"", "big"] }),
    );
    let url = self::address(&server, &id);
    let words = ["--table", "Web.words"];
    let (well, said) = pull(&url, &words);
    assert!(well, "{said}");
    let all = "SELECT string_agg(\"the \"\"word\"\"\", ',' ORDER BY uid) FROM \"Web\".words";
    assert_eq!(ask(all), "one,two");
    let newer = "id,when_changed,\"the \"\"word\"\"\",big\n2,2024-01-03T00:00:00Z,zwei,\n3,2024-01-04T00:00:00Z,drei,\n";
    let replaced = upload(
        &server,
        &[("SourceID", &source), ("FileName", "words.csv")],
        newer.as_bytes(),
    );
    assert_eq!(replaced["Status"], 200, "{replaced}");
    let (well, said) = pull(&url, &["--table", "Web.words", "--incremental"]);
    assert!(well && said.contains("2 rows"), "{said}");
    assert_eq!(ask(all), "one,zwei,drei");
    assert!(pull(&url, &words).0);
    assert_eq!(ask(all), "zwei,drei", "a whole pull knows what is gone");
    // One at a time.
    let mut holder = Command::new("psql")
        .args(["-qAt", &database])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = holder.stdin.take().unwrap();
    writeln!(
        input,
        "SELECT pg_advisory_lock(hashtext('encke report pull'), hashtext('Web.words')), 'held';"
    )
    .unwrap();
    let mut told = [0; 5];
    holder.stdout.take().unwrap().read_exact(&mut told).unwrap();
    let (well, said) = pull(&url, &words);
    assert!(!well && said.contains("somebody else"), "{said}");
    drop(input);
    holder.wait().unwrap();
    assert_eq!(admin(&server, "delete", &[("ReportID", &id)])["Status"], 200);
    let (well, said) = pull(&url, &words);
    assert!(!well && said.contains("401"), "{said}");
    assert_eq!(ask(all), "zwei,drei", "what there is stays");
}

/// The blocks of code of the document, by the heading above and the language.
fn example(document: &str, heading: &str) -> String {
    let section = document.split("\n### ").find(|s| s.starts_with(heading)).unwrap();
    let section = section.split("\n## ").next().unwrap();
    if let Some((_, code)) = section.split_once("```") {
        let code = code.split_once('\n').unwrap().1;
        return code.split("```").next().unwrap().to_string();
    }
    let lines = section.lines().filter_map(|l| l.strip_prefix("    "));
    lines.map(|l| format!("{l}\n")).collect()
}

/// Each example of the document, as it stands there, pulls every row once; more pages than calls a second are allowed.
#[test]
fn the_examples_of_the_document_run() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reports.md")).unwrap();
    let server = Server::start();
    let made = admin(&server, "save-sample", &[("Size", "400")]);
    let url = format!("{}{RUN}/0/25/?API_KEY={}", server.url, id_of(&made, "APICode"));
    let python = crate::support::services::python();
    let run = |name: &str, mut command: Command| {
        let output = command
            .env("URL", &url)
            .current_dir(&server.work_dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let rows = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap_or_else(|e| panic!("{name}: {e}: {l}")));
        let numbers: Vec<Value> = rows.map(|row| row["#result_id#"].clone()).collect();
        let expected: Vec<Value> = (1..=400).map(|n| json!(n.to_string())).collect();
        assert_eq!(numbers, expected, "{name}");
    };
    let mut curl = Command::new("bash");
    curl.args(["-c", &example(&document, "With curl")]);
    run("curl", curl);
    let mut with_python = Command::new(python);
    let code = example(&document, "With Python");
    with_python.args([
        "-c",
        &format!("{code}\nimport json, os\nfor row in rows(os.environ['URL']): print(json.dumps(row))\n"),
    ]);
    run("Python", with_python);
    let mut with_node = Command::new("node");
    let code = example(&document, "With JavaScript");
    with_node.args([
        "--input-type=module",
        "-e",
        &format!(
            "{code}\nfor await (const row of rows(process.env.URL)) console.log(JSON.stringify(row));\n"
        ),
    ]);
    run("JavaScript", with_node);
    // The program's own, each line of it.
    let program = Path::new(env!("CARGO_BIN_EXE_encke")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-ec", &example(&document, "With encke")])
        .envs([
            ("URL", &url),
            ("PATH", &path),
            ("DATABASE", &postgres::database()),
        ])
        .current_dir(&server.work_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let database = rusqlite::Connection::open(server.work_dir.join("data.sqlite")).unwrap();
    let count: i64 = database
        .query_row("SELECT count(*) FROM report", [], |r| r.get(0))
        .unwrap();
    assert_eq!(count, 400);
}
