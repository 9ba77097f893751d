//! Where reports get their rows: Encke's own data, uploads, and real database servers; who may read what; and what a
//! report makes of rows.

use crate::support::{ADMIN, Server, http, mariadb, postgres, set_environment};
use serde_json::{Value, json};
use std::process::Command;

const RUN: &str = "/data-backend/api/public/areports/run";

/// Credentials of somebody who signs in with a password.
fn who<'a>(name: &'a str, password: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("Username", name),
        ("AuthType", "Password"),
        ("Password", password),
    ]
}

fn call(server: &Server, who: &[(&str, &str)], name: &str, fields: &[(&str, &str)]) -> Value {
    let all: Vec<(&str, &str)> = who.iter().chain(fields).copied().collect();
    server.post(&format!("/api/encke/v1/reports/{name}"), &all)
}

fn admin(server: &Server, name: &str, fields: &[(&str, &str)]) -> Value {
    call(server, &who(ADMIN, ADMIN), name, fields)
}

/// Bytes of an answer that is no JSON.
fn bytes(server: &Server, name: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let all: Vec<(&str, &str)> = who(ADMIN, ADMIN).iter().chain(fields).copied().collect();
    let mut answer = http()
        .post(format!("{}/api/encke/v1/reports/{name}", server.url))
        .send_form(all)
        .unwrap();
    answer.body_mut().read_to_vec().unwrap()
}

fn upload(server: &Server, who: &[(&str, &str)], name: &str, content: &[u8]) -> Value {
    let mut body = Vec::new();
    let file_name = [("FileName", name)];
    let fields = who.iter().chain(&file_name).map(|(n, v)| (*n, v.as_bytes()));
    for (field, value) in fields.chain([("File", content)]) {
        let file = if field == "File" { "; filename=\"f\"" } else { "" };
        body.extend(
            format!("--cut\r\nContent-Disposition: form-data; name=\"{field}\"{file}\r\n\r\n").bytes(),
        );
        body.extend(value);
        body.extend(b"\r\n");
    }
    body.extend(b"--cut--\r\n");
    let mut answer = http()
        .post(format!("{}/api/encke/v1/reports/upload-source", server.url))
        .header("Content-Type", "multipart/form-data; boundary=cut")
        .send(&body)
        .unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

fn preview(server: &Server, who: &[(&str, &str)], report: &Value) -> Value {
    call(server, who, "preview", &[("Report", &report.to_string())])
}

fn rows(server: &Server, report: &Value) -> Value {
    let shown = preview(server, &who(ADMIN, ADMIN), report);
    assert!(shown["Rows"].is_array(), "{shown}");
    plain(shown["Rows"].clone())
}

/// 7.00 is 7 to everybody but a comparison of values.
fn plain(value: Value) -> Value {
    match value {
        Value::Array(all) => all.into_iter().map(plain).collect(),
        #[allow(clippy::cast_possible_truncation)]
        Value::Number(n) if n.is_f64() => match n.as_f64().unwrap() {
            f if f.fract() == 0.0 && f.abs() < 1e15 => json!(f as i64),
            f => json!(f),
        },
        other => other,
    }
}

/// A template of a table, made of the columns that the source says it has.
fn template(server: &Server, source: &str, table: &str, extra: &Value) -> i64 {
    let tables = admin(server, "list-tables", &[("SourceID", source)]);
    let all = tables.as_array().unwrap_or_else(|| panic!("{tables}"));
    let found = all
        .iter()
        .find(|t| t["Table"] == table)
        .unwrap_or_else(|| panic!("{tables}"));
    let columns: Vec<Value> = found["Columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| json!({ "key": c["name"], "type": c["type"] }))
        .collect();
    let mut document = json!({ "name": table, "source": source, "table": table, "columns": columns });
    for (key, value) in extra.as_object().unwrap() {
        document[key] = value.clone();
    }
    let saved = admin(server, "save-template", &[("Template", &document.to_string())]);
    saved["Template"].as_i64().unwrap_or_else(|| panic!("{saved}"))
}

fn save(server: &Server, report: &Value) -> String {
    let saved = admin(server, "save", &[("Report", &report.to_string())]);
    saved["ReportID"]
        .as_str()
        .unwrap_or_else(|| panic!("{saved}"))
        .into()
}

fn code(server: &Server, id: &str) -> String {
    let made = admin(server, "generate-code", &[("ReportID", id)]);
    made["APICode"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .into()
}

fn pull(server: &Server, path: &str) -> (u16, Value, String) {
    loop {
        let mut answer = http().get(format!("{}{path}", server.url)).call().unwrap();
        if answer.status() == 429 {
            std::thread::sleep(std::time::Duration::from_secs(1));
            continue;
        }
        let status = answer.status().as_u16();
        let snapshot = answer.headers().get("x-encke-snapshot");
        let snapshot = snapshot.map_or(String::new(), |s| s.to_str().unwrap().to_string());
        let text = answer.body_mut().read_to_string().unwrap();
        return (status, serde_json::from_str(&text).unwrap_or_default(), snapshot);
    }
}

const FILL: &str = "INSERT INTO players VALUES
    (1, 'Ana', 'O''Neil', DATE '1999-12-31', TIMESTAMP '2024-05-01 10:00:00.25', 12345678901234.56, 1),
    (2, 'Bert', '50%_!', DATE '1950-02-28', TIMESTAMP '1969-12-31 23:59:59', -0.5, 2),
    (3, 'ÄNNE', NULL, NULL, NULL, NULL, 3),
    (4, 'ana', 'x', DATE '2000-01-01', TIMESTAMP '2024-05-02 00:00:00', 7, 1)";
const CLUBS: &str = "INSERT INTO clubs VALUES (1, NULL, 'top'), (2, 1, 'middle'), (3, 2, 'low')";

/// What every database has to make of the same rows.
fn check_players(server: &Server, source: &str) -> i64 {
    let tree = json!({ "table": "clubs", "id": "id", "parent": "above", "name": "name" });
    let id = template(
        server,
        source,
        "players",
        &json!({
            "uid": "id", "updated": "changed",
            "parameters": [
                { "key": "club", "kind": "hierarchy", "column": "club", "tree": tree },
                { "key": "born", "kind": "dateRange", "column": "born" },
                { "key": "first", "kind": "multiSelect", "column": "first" },
            ],
        }),
    );
    let report = |extra: Value| {
        let mut report = json!({
            "name": "r", "template": id, "columns": ["id", "first", "last", "born", "changed", "worth"]
        });
        for (key, value) in extra.as_object().unwrap() {
            report[key] = value.clone();
        }
        report
    };
    let day = 86_400_000i64;
    assert_eq!(
        rows(server, &report(json!({}))),
        json!([
            [
                1,
                "Ana",
                "O'Neil",
                10_956 * day,
                1_714_557_600_250i64,
                12_345_678_901_234.56
            ],
            [2, "Bert", "50%_!", -7247 * day, -1000, -0.5],
            [3, "ÄNNE", null, null, null, null],
            [4, "ana", "x", 10_957 * day, 1_714_608_000_000i64, 7],
        ])
    );
    let ids = |extra: Value| -> Vec<i64> {
        let found = rows(server, &report(extra));
        found
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r[0].as_i64().unwrap())
            .collect()
    };
    let filter = |column: &str, op: &str, value: Value| {
        ids(json!({ "filters": [{ "column": column, "op": op, "value": value }] }))
    };
    assert_eq!(filter("first", "eq", json!("ana")), [4], "capitals count");
    assert_eq!(
        filter("first", "contains", json!("än")),
        [3],
        "but not in a search"
    );
    assert_eq!(filter("first", "startsWith", json!("AN")), [1, 4]);
    assert_eq!(
        filter("last", "contains", json!("%_!")),
        [2],
        "no sign is special"
    );
    assert_eq!(filter("last", "eq", json!("O'Neil")), [1]);
    assert_eq!(
        filter("last", "ne", json!("x")),
        [1, 2, 3],
        "a missing value differs"
    );
    assert_eq!(filter("last", "eq", json!("' OR 1=1 --")), [0i64; 0]);
    assert_eq!(filter("worth", "gt", json!(6.5)), [1, 4]);
    assert_eq!(filter("worth", "eq", json!(12_345_678_901_234.56)), [1]);
    assert_eq!(filter("born", "lt", json!(0)), [2]);
    assert_eq!(filter("changed", "ge", json!(1_714_557_600_250i64)), [1, 4]);
    assert_eq!(filter("id", "in", json!([4, 2])), [2, 4]);
    assert_eq!(
        ids(json!({ "filters": [{ "column": "born", "op": "empty" }] })),
        [3]
    );
    assert_eq!(
        ids(json!({ "parameters": { "club": { "value": 2, "includeBelow": true } } })),
        [2, 3]
    );
    assert_eq!(ids(json!({ "parameters": { "club": { "value": 2 } } })), [2]);
    assert_eq!(
        ids(json!({ "parameters": { "born": { "from": 0, "to": 10_956 * day } } })),
        [1]
    );
    assert_eq!(ids(json!({ "parameters": { "first": ["Bert", "ana"] } })), [2, 4]);
    assert_eq!(
        ids(json!({ "sort": [{ "column": "worth", "descending": true }] })),
        [1, 4, 2, 3],
        "missing values last"
    );
    assert_eq!(
        ids(json!({ "sort": [{ "column": "first" }] })),
        [1, 2, 4, 3],
        "by code point"
    );
    let grouped = json!({
        "name": "g", "template": id, "group": ["club"],
        "columns": ["club", { "key": "worth", "total": "sum" }, { "key": "first", "total": "count" }],
    });
    assert_eq!(
        rows(server, &grouped),
        json!([[1, 12_345_678_901_241.56, 2], [2, -0.5, 1], [3, null, 1]])
    );
    let pivot = json!({
        "name": "p", "template": id, "group": ["club"], "columns": ["club"],
        "pivot": { "column": "first", "value": "id", "total": "count" },
    });
    let shown = preview(server, &who(ADMIN, ADMIN), &pivot);
    let keys: Vec<&Value> = shown["Columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["key"])
        .collect();
    assert_eq!(keys, ["club", "id.Ana", "id.Bert", "id.ana", "id.ÄNNE"]);
    assert_eq!(
        shown["Rows"],
        json!([[1, 1, 0, 1, 0], [2, 0, 1, 0, 0], [3, 0, 0, 0, 1]])
    );
    let offered = |key: &str| {
        admin(
            server,
            "parameter-values",
            &[("Template", &id.to_string()), ("Parameter", key)],
        )
    };
    assert_eq!(offered("first"), json!([["Ana"], ["Bert"], ["ana"], ["ÄNNE"]]));
    assert_eq!(
        offered("club"),
        json!([["1", null, "top"], ["2", "1", "middle"], ["3", "2", "low"]])
    );
    id
}

fn check_pages(server: &Server, template: i64) {
    let report = json!({ "name": "r", "template": template, "columns": ["first", { "key": "worth", "name": "Wert" }] });
    let code = code(server, &save(server, &report));
    let (status, page, _) = pull(server, &format!("{RUN}/0/25/?API_KEY={code}"));
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["columnNames"], json!(["first", "Wert"]));
    assert_eq!(
        page["results"][0],
        json!({
            "#result_id#": "1", "first": "Ana", "worth": 12_345_678_901_234.56, "uid": 1,
            "lastUpdateDateTime": 1_714_557_600_250i64
        })
    );
}

#[test]
fn postgresql_is_read_and_never_written() {
    let server = Server::start();
    let url = postgres::database();
    let (_, rest) = url.split_once("127.0.0.1:").unwrap();
    let (port, database) = rest.split_once('/').unwrap();
    let database = database.split('?').next().unwrap();
    for statement in [
        "CREATE TABLE players (id int, first text, last text, born date, changed timestamptz, worth numeric, club int)",
        "CREATE TABLE clubs (id int, above int, name text)",
        &format!("SET TIME ZONE 'UTC'; {FILL}"),
        CLUBS,
        "CREATE SCHEMA \"odd \"\"one\"; CREATE TABLE \"odd \"\"one\".\"t; drop\" (\"a\"\"b\" text); INSERT INTO \"odd \"\"one\".\"t; drop\" VALUES ('v')",
        // What a view of theirs could do behind our back.
        "CREATE TABLE touched (n int)",
        "CREATE FUNCTION touch() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO touched VALUES (1); RETURN 1; END'",
        "CREATE VIEW writes AS SELECT touch() AS n",
        "CREATE VIEW waits AS SELECT 1 AS n, pg_sleep(60)::text AS t",
    ] {
        postgres::execute(&url, statement);
    }
    let source = json!({
        "kind": "postgres", "host": "127.0.0.1", "port": port.parse::<u16>().unwrap(), "database": database,
        "user": "encke", "timeoutSeconds": 1
    });
    let fields = [
        ("Name", "theirs"),
        ("Source", &source.to_string()),
        ("SourcePassword", "hidden-word"),
    ];
    let saved = admin(&server, "save-source", &fields);
    let id = saved["SourceID"].as_str().unwrap_or_else(|| panic!("{saved}"));
    let players = check_players(&server, id);
    check_pages(&server, players);
    let odd = template(&server, id, "odd \"one.t; drop", &json!({}));
    let report = json!({ "name": "r", "template": odd, "columns": ["a\"b"] });
    assert_eq!(rows(&server, &report), json!([["v"]]));
    let writes = template(&server, id, "writes", &json!({}));
    let refused = preview(
        &server,
        &who(ADMIN, ADMIN),
        &json!({ "name": "r", "template": writes, "columns": ["n"] }),
    );
    assert!(
        refused["Message"].as_str().unwrap().contains("read-only"),
        "{refused}"
    );
    assert_eq!(
        postgres::execute(&url, "SELECT count(*) FROM touched").trim(),
        "0"
    );
    let waits = template(&server, id, "waits", &json!({}));
    let report = json!({ "name": "r", "template": waits, "columns": ["n", "t"] });
    let late = preview(&server, &who(ADMIN, ADMIN), &report);
    assert_eq!(late["Status"], 504, "{late}");
    let code = code(&server, &save(&server, &report));
    let (status, page, _) = pull(&server, &format!("{RUN}/0/25/?API_KEY={code}"));
    assert_eq!((status, page["error"].is_string()), (503, true), "{page}");

    // The password is not to be seen anywhere, and does not follow the source to another place.
    let listed = admin(&server, "list-sources", &[]);
    assert_eq!(
        (
            listed.to_string().contains("hidden-word"),
            &listed[0]["HasPassword"]
        ),
        (false, &json!(true))
    );
    if postgres::noted(&server.data_dir).is_none() {
        for file in ["encke.db", "encke.db-wal"] {
            let content = std::fs::read(server.data_dir.join(file)).unwrap();
            assert!(!content.windows(11).any(|w| w == b"hidden-word"), "{file}");
        }
    }
    let mut elsewhere = source.clone();
    elsewhere["host"] = json!("127.0.0.2");
    let moved = admin(
        &server,
        "save-source",
        &[
            ("SourceID", id),
            ("Name", "x"),
            ("Source", &elsewhere.to_string()),
        ],
    );
    assert_eq!(moved["Status"], 400, "{moved}");
    // A database that is gone is told to the owner in its own words, and to nobody else.
    let mut gone = source;
    gone["database"] = json!("no_such");
    let refused = admin(
        &server,
        "save-source",
        &[("Name", "x"), ("Source", &gone.to_string())],
    );
    assert_eq!(refused["Status"], 502, "{refused}");
    assert!(refused["Message"].as_str().unwrap().contains("no_such"));
}

#[test]
fn mariadb_is_read_and_never_written() {
    let server = Server::start();
    let maria = mariadb::server();
    maria.execute(&format!(
        "CREATE DATABASE d CHARACTER SET utf8mb4; USE d;
         CREATE TABLE players (id int, first varchar(50), last varchar(50), born date, changed datetime(3),
                               worth decimal(30,2), club int);
         CREATE TABLE clubs (id int, above int, name varchar(50)); {FILL}; {CLUBS};
         CREATE TABLE `odd ``\"one` (`a``b\"c` varchar(9)); INSERT INTO `odd ``\"one` VALUES ('v');
         CREATE TABLE touched (n int)",
    ));
    // What a view of theirs could do behind our back.
    maria.execute("USE d;\nDELIMITER //\nCREATE FUNCTION touch() RETURNS int DETERMINISTIC NO SQL RETURN 1//\nDELIMITER ;\nCREATE VIEW writes AS SELECT touch() AS n; CREATE VIEW waits AS SELECT 1 AS n, SLEEP(60) AS t;");
    maria.execute("CREATE USER reader IDENTIFIED BY 'hidden-word'; GRANT ALL ON d.* TO reader");
    let source = json!({
        "kind": "mysql", "host": "127.0.0.1", "port": maria.port, "database": "d", "user": "reader",
        "timeoutSeconds": 1
    });
    let refused = admin(
        &server,
        "save-source",
        &[("Name", "x"), ("Source", &source.to_string())],
    );
    assert_eq!(refused["Status"], 502, "without the password: {refused}");
    let fields = [
        ("Name", "theirs"),
        ("Source", &source.to_string()),
        ("SourcePassword", "hidden-word"),
    ];
    let saved = admin(&server, "save-source", &fields);
    let id = saved["SourceID"].as_str().unwrap_or_else(|| panic!("{saved}"));
    let players = check_players(&server, id);
    check_pages(&server, players);
    let odd = template(&server, id, "odd `\"one", &json!({}));
    let report = json!({ "name": "r", "template": odd, "columns": ["a`b\"c"] });
    assert_eq!(rows(&server, &report), json!([["v"]]));
    // A view that turns out to write: what was a plain function when the template was made is none any more.
    let writes = template(&server, id, "writes", &json!({}));
    maria.execute("USE d;\nDELIMITER //\nCREATE OR REPLACE FUNCTION touch() RETURNS int MODIFIES SQL DATA BEGIN INSERT INTO touched VALUES (1); RETURN 1; END//\nDELIMITER ;");
    let refused = preview(
        &server,
        &who(ADMIN, ADMIN),
        &json!({ "name": "r", "template": writes, "columns": ["n"] }),
    );
    assert!(refused["Status"].as_i64().unwrap() >= 400, "{refused}");
    assert_eq!(maria.execute("SELECT COUNT(*) FROM d.touched").trim(), "0");
    let waits = template(&server, id, "waits", &json!({}));
    let late = preview(
        &server,
        &who(ADMIN, ADMIN),
        &json!({ "name": "r", "template": waits, "columns": ["n", "t"] }),
    );
    assert_eq!(late["Status"], 504, "{late}");
}

#[test]
fn a_database_file_of_sqlite_is_read_and_never_written() {
    let server = Server::start();
    let path = server.work_dir.join("theirs.db");
    let fill = FILL.replace("DATE '", "'").replace("TIMESTAMP '", "'");
    let script = format!(
        "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nc.executescript('''
         CREATE TABLE players (id int, first text, last text, born date, changed datetime, worth real, club int);
         CREATE TABLE clubs (id int, above int, name text); {fill}; {CLUBS};
         CREATE VIEW waits AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) AS n FROM n;
         ''')\nc.commit()"
    );
    let made = Command::new("python3")
        .args(["-c", &script])
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let source = json!({ "kind": "sqlite", "path": path, "timeoutSeconds": 1 });
    let saved = admin(
        &server,
        "save-source",
        &[("Name", "theirs"), ("Source", &source.to_string())],
    );
    let id = saved["SourceID"].as_str().unwrap_or_else(|| panic!("{saved}"));
    check_players(&server, id);
    let waits = template(&server, id, "waits", &json!({}));
    let late = preview(
        &server,
        &who(ADMIN, ADMIN),
        &json!({ "name": "r", "template": waits, "columns": ["n"] }),
    );
    assert_eq!(late["Status"], 504, "{late}");
    // The server's own files hold the secrets of everybody.
    let link = server.work_dir.join("link.db");
    std::os::unix::fs::symlink(server.data_dir.join("server.key"), &link).unwrap();
    for path in [
        server.data_dir.join("server.key"),
        link,
        "theirs.db".into(),
        "/etc".into(),
    ] {
        let source = json!({ "kind": "sqlite", "path": path });
        let refused = admin(
            &server,
            "save-source",
            &[("Name", "x"), ("Source", &source.to_string())],
        );
        assert_eq!(refused["Status"], 400, "{path:?}: {refused}");
    }
}

#[test]
fn uploads_become_typed_tables() {
    let server = Server::start();
    let csv = "\u{feff}Nr;Name;Tag;Zeit;Betrag;PLZ\r\n1;\"Ä;1\";2024-02-29;2024-02-29T12:00:00Z;1.5;00123\r\n2;;;;-3;45\r\n";
    let json_lines = "{\"Nr\":1,\"Name\":\"Ä;1\",\"Tag\":\"2024-02-29\",\"Zeit\":\"2024-02-29T12:00:00Z\",\"Betrag\":1.5,\"PLZ\":\"00123\"}\n\n\
                      {\"Nr\":2,\"PLZ\":\"45\",\"Betrag\":-3}\n";
    let expected = json!([
        [1, "Ä;1", 1_709_164_800_000i64, 1_709_208_000_000i64, 1.5, "00123"],
        [2, null, null, null, -3, "45"]
    ]);
    let mut report = Value::Null;
    for (name, content) in [("liste.csv", csv), ("liste.jsonl", json_lines)] {
        let made = upload(&server, &who(ADMIN, ADMIN), name, content.as_bytes());
        let id = made["SourceID"].as_str().unwrap_or_else(|| panic!("{made}"));
        let kinds: Vec<&Value> = made["Tables"][0]["Columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["type"])
            .collect();
        assert_eq!(
            kinds,
            ["NUMBER", "STRING", "DATE", "DATETIME", "NUMBER", "STRING"],
            "{name}"
        );
        let template = template(&server, id, "liste", &json!({}));
        report = json!({ "name": "r", "template": template, "columns": ["Nr", "Name", "Tag", "Zeit", "Betrag", "PLZ"] });
        assert_eq!(rows(&server, &report), expected, "{name}");
    }
    // What is exported can be uploaded, and is the same again.
    let saved = save(&server, &report);
    for format in ["xlsx", "parquet", "csv"] {
        let file = bytes(&server, "export", &[("ReportID", &saved), ("Format", format)]);
        let made = upload(&server, &who(ADMIN, ADMIN), &format!("again.{format}"), &file);
        let id = made["SourceID"]
            .as_str()
            .unwrap_or_else(|| panic!("{format}: {made}"));
        let table = made["Tables"][0]["Table"].as_str().unwrap();
        let template = template(&server, id, table, &json!({}));
        report["template"] = json!(template);
        assert_eq!(rows(&server, &report), expected, "{format}");
    }
    for (name, content) in [
        ("x.csv", &b"a,b\n1\n"[..]),
        ("x.jsonl", b"[1]"),
        ("x.xlsx", b"PK no"),
        ("x.parquet", b"PAR1"),
        ("x.db", b"not a database"),
        ("x.exe", b""),
        ("x.csv", b""),
    ] {
        let refused = upload(&server, &who(ADMIN, ADMIN), name, content);
        assert!(refused["Status"].as_i64().unwrap() >= 400, "{name}: {refused}");
        assert!(refused["Status"] != 500, "{name}: {refused}");
    }
    assert_eq!(
        admin(&server, "list-sources", &[]).as_array().unwrap().len(),
        5,
        "what was refused left nothing"
    );
}

/// Two tenants and their people: nobody comes to see a row that is another's, whichever way.
#[test]
fn nobody_sees_a_row_of_another_tenant() {
    let server = Server::start();
    let mut tenants = Vec::new();
    for host in ["north.example", "south.example"] {
        let organization = json!({ "Name": host, "Hosts": [host], "IsSuspended": false });
        let made = server.call(
            "/api/v1/admin/organization/set",
            &[("Organization", &organization.to_string())],
        );
        let id = made["ID"]
            .as_str()
            .unwrap_or_else(|| panic!("{made}"))
            .to_string();
        let added = server.call(
            "/api/v1/admin/admin-user/new",
            &[
                ("TargetUser", "chief"),
                ("TargetPassword", "long enough"),
                ("TargetOrgID", &id),
            ],
        );
        assert_eq!(added["Status"], 200, "{added}");
        for user in ["one", "two"] {
            let name = format!("{host}-{user}");
            let mut fields = who("chief", "long enough").to_vec();
            fields.extend([("TargetUser", name.as_str()), ("TargetPassword", "long enough")]);
            let added = server.post_to_host(host, "/api/v1/admin/add-user", &fields);
            assert_eq!(added["Status"], 200, "{added}");
        }
        tenants.push(host);
    }
    let at = |host: &str, who: &[(&str, &str)], name: &str, fields: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = who.iter().chain(fields).copied().collect();
        server.post_to_host(host, &format!("/api/encke/v1/reports/{name}"), &all)
    };
    let report = json!({ "name": "accounts", "template": 101, "columns": ["account"] });
    let text = report.to_string();
    let seen = |shown: &Value| -> Vec<String> {
        let rows = shown["Rows"].as_array().unwrap_or_else(|| panic!("{shown}"));
        rows.iter().map(|r| r[0].as_str().unwrap().to_string()).collect()
    };
    let all = preview(&server, &who(ADMIN, ADMIN), &report);
    assert_eq!(seen(&all).len(), 4);
    for host in &tenants {
        let chief = who("chief", "long enough");
        let users = [format!("{host}-one"), format!("{host}-two")];
        assert_eq!(seen(&at(host, &chief, "preview", &[("Report", &text)])), users);
        let (one, two) = (who(&users[0], "long enough"), who(&users[1], "long enough"));
        assert_eq!(seen(&at(host, &one, "preview", &[("Report", &text)])), users[..1]);
        for table in [102, 103, 104, 105, 106, 107, 108] {
            let key = match table {
                106 => "bucketId",
                108 => "resource",
                _ => "account",
            };
            let starter = json!({ "name": "x", "template": table, "columns": [key] });
            let shown = at(host, &one, "preview", &[("Report", &starter.to_string())]);
            assert_eq!(seen(&shown), [""; 0], "template {table}");
        }
        // Events: the top level reads of both tenants, a tenant of itself.
        let events = json!({ "name": "events", "template": 108, "columns": ["resource"],
            "filters": [{ "column": "event", "op": "eq", "value": "SEVT_ACCOUNT_NEW" }],
            "sort": [{ "column": "resource" }] });
        assert_eq!(
            seen(&at(host, &chief, "preview", &[("Report", &events.to_string())])),
            users
        );
        assert_eq!(seen(&preview(&server, &who(ADMIN, ADMIN), &events)).len(), 4);
        // By code: the rows are the owner's, whoever pulls.
        let saved = at(host, &chief, "save", &[("Report", &text)]);
        let id = saved["ReportID"].as_str().unwrap();
        let made = at(host, &chief, "generate-code", &[("ReportID", id)]);
        let path = made["Path"].as_str().unwrap();
        let (_, page, _) = pull(&server, path);
        assert_eq!(page["totalSize"], 2, "{page}");
        // Shared: with the rights of the one who looks, and only inside the organization.
        let shared = at(host, &chief, "share", &[("ReportID", id), ("Users", &users[0])]);
        assert_eq!(shared["Status"], 200, "{shared}");
        let listed = at(host, &one, "list", &[]);
        assert_eq!(
            (&listed[0]["ReportID"], &listed[0]["Own"]),
            (&json!(id), &json!(false))
        );
        let file = at_bytes(&server, host, &one, &[("ReportID", id), ("Format", "csv")]);
        assert_eq!(file, format!("\u{feff}Account\r\n{}\r\n", users[0]));
        assert_eq!(at(host, &two, "list", &[]), json!([]));
        assert_eq!(
            at(host, &two, "export", &[("ReportID", id), ("Format", "csv")])["Status"],
            404
        );
        for name in [
            "generate-code",
            "rotate-code",
            "revoke-code",
            "limit-code",
            "code-log",
            "delete",
            "list-shares",
        ] {
            assert_eq!(at(host, &one, name, &[("ReportID", id)])["Status"], 404, "{name}");
        }
        let stolen = at(host, &one, "save", &[("ReportID", id), ("Report", &text)]);
        assert_eq!(stolen["Status"], 404, "{stolen}");
        let other = tenants.iter().find(|h| *h != host).unwrap();
        let theirs = at(
            other,
            &who("chief", "long enough"),
            "export",
            &[("ReportID", id), ("Format", "csv")],
        );
        assert_eq!(theirs["Status"], 404);
        let share = at(
            host,
            &chief,
            "share",
            &[("ReportID", id), ("Users", &format!("{other}-one"))],
        );
        assert_eq!(share["Status"], 400, "{share}");
    }
    // Sources and templates of one tenant are nothing to the other; databases outside are the operator's alone.
    let chief = who("chief", "long enough");
    let outside =
        json!({ "kind": "postgres", "host": "127.0.0.1", "database": "x", "user": "x" }).to_string();
    for who in [&chief[..], &who("north.example-one", "long enough")] {
        let refused = at(
            "north.example",
            who,
            "save-source",
            &[("Name", "x"), ("Source", &outside)],
        );
        assert_eq!(refused["Status"], 403, "{refused}");
    }
    let made = upload(&server, &who(ADMIN, ADMIN), "secret.csv", b"word\nhidden\n");
    let source = made["SourceID"].as_str().unwrap();
    let id = template(&server, source, "secret", &json!({}));
    let stolen = json!({ "name": "x", "source": source, "table": "secret", "columns": [{ "key": "word", "type": "STRING" }] });
    let report = json!({ "name": "x", "template": id, "columns": ["word"] }).to_string();
    assert_eq!(
        at(
            "north.example",
            &chief,
            "save-template",
            &[("Template", &stolen.to_string())]
        )["Status"],
        404
    );
    assert_eq!(
        at("north.example", &chief, "list-tables", &[("SourceID", source)])["Status"],
        404
    );
    assert_eq!(
        at("north.example", &chief, "delete-source", &[("SourceID", source)])["Status"],
        404
    );
    assert_eq!(
        at("north.example", &chief, "preview", &[("Report", &report)])["Status"],
        404
    );
    assert_eq!(
        at("north.example", &chief, "save", &[("Report", &report)])["Status"],
        404
    );
    assert_eq!(
        at(
            "north.example",
            &chief,
            "export-template",
            &[("Template", &id.to_string())]
        )["Status"],
        404
    );
}

fn at_bytes(server: &Server, host: &str, who: &[(&str, &str)], fields: &[(&str, &str)]) -> String {
    let all: Vec<(&str, &str)> = who.iter().chain(fields).copied().collect();
    let mut answer = http()
        .post(format!("{}/api/encke/v1/reports/export", server.url))
        .header("Host", host)
        .send_form(all)
        .unwrap();
    String::from_utf8(answer.body_mut().read_to_vec().unwrap()).unwrap()
}

#[test]
fn templates_are_documents() {
    let server = Server::start();
    let yaml = String::from_utf8(bytes(&server, "export-template", &[("Template", "1001")])).unwrap();
    assert!(
        yaml.contains("name: Person Registrations") && yaml.contains("kind: hierarchy"),
        "{yaml}"
    );
    // One of the starter set comes back as a copy, which can be changed and taken away.
    let copy = admin(&server, "save-template", &[("Template", &yaml)]);
    let id = copy["Template"].as_i64().unwrap_or_else(|| panic!("{copy}"));
    assert!(id > 10_000);
    let own = yaml
        .replace("id: 1001", &format!("id: {id}"))
        .replace("Person Registrations", "Mine");
    assert_eq!(
        admin(&server, "save-template", &[("Template", &own)])["Template"],
        id
    );
    let again = String::from_utf8(bytes(
        &server,
        "export-template",
        &[("Template", &id.to_string())],
    ))
    .unwrap();
    assert_eq!(again, own);
    let report = json!({
        "name": "Mine", "template": id, "data": { "kind": "sample", "size": 20, "seed": 7 },
        "columns": ["lastName", "personId"], "sort": [{ "column": "lastName" }]
    });
    let saved = save(&server, &report);
    let code = code(&server, &saved);
    let path = format!("{RUN}/0/25/?API_KEY={code}");
    let (_, page, _) = pull(&server, &path);
    assert_eq!(
        (&page["totalSize"], &page["reportTemplateID"]),
        (&json!(20), &json!(id))
    );
    assert_eq!(
        (&page["sortField"], &page["sortDirection"]),
        (&json!("lastName"), &json!("asc"))
    );
    let names: Vec<&str> = page["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["lastName"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted() && names.len() == 20);
    for (wrong, why) in [
        (own.replace("key: lastName", "key: firstName"), "two columns"),
        (own.replace("table: registrations", "table: no_such"), "no table"),
        (
            own.replace("updated: lastUpdateDateTime", "updated: no_such"),
            "no column",
        ),
        (
            own.replace("source: sample", "source: 00000000-0000-0000-0000-000000000000"),
            "not found",
        ),
        (own.replace("type: DATE\n", "type: DAY\n"), "can not be read"),
        (own.replace("kind: dateRange", "kind: number"), "does not fit"),
        ("- [}".to_string(), "can not be read"),
    ] {
        let refused = admin(&server, "save-template", &[("Template", &wrong)]);
        assert!(
            refused["Message"].as_str().unwrap().contains(why),
            "{why}: {refused}"
        );
    }
    assert_eq!(
        admin(&server, "delete-template", &[("Template", "1001")])["Status"],
        404
    );
    assert_eq!(
        admin(&server, "delete-template", &[("Template", &id.to_string())])["Status"],
        200
    );
    assert_eq!(pull(&server, &path).0, 403, "a report whose template is gone");
    assert_eq!(preview(&server, &who(ADMIN, ADMIN), &report)["Status"], 404);
}

#[test]
fn what_a_report_asks_for_is_checked() {
    let server = Server::start();
    let good = json!({ "name": "r", "template": 1001, "columns": ["personId", "lastName"] });
    let with = |key: &str, value: Value| {
        let mut report = good.clone();
        report[key] = value;
        report
    };
    for (report, why) in [
        (with("columns", json!([])), "at least one column"),
        (with("columns", json!(["x"])), "no column"),
        (with("columns", json!(["personId", "personId"])), "only once"),
        (with("template", json!(5)), "not found"),
        (
            with("chart", json!({ "kind": "bar", "label": "firstName" })),
            "draw a chart",
        ),
        (
            with("chart", json!({ "kind": "pie", "label": "lastName" })),
            "can not be read",
        ),
        (with("name", json!("")), "name has"),
        (with("extra", json!(1)), "can not be read"),
        (
            with("filters", json!([{ "column": "x; --", "op": "eq", "value": 1 }])),
            "no column",
        ),
        (
            with(
                "filters",
                json!([{ "column": "personId", "op": "eq", "value": "x" }]),
            ),
            "wrong type",
        ),
        (
            with(
                "filters",
                json!([{ "column": "personId", "op": "contains", "value": 1 }]),
            ),
            "does not fit",
        ),
        (
            with(
                "filters",
                json!([{ "column": "personId", "op": "=", "value": 1 }]),
            ),
            "can not be read",
        ),
        (with("sort", json!([{ "column": "no" }])), "no column"),
        (
            with("group", json!(["personId"])),
            "grouped by or to have a total",
        ),
        (
            with("columns", json!([{ "key": "lastName", "total": "sum" }])),
            "no number",
        ),
        (with("parameters", json!({ "no": 1 })), "no parameter"),
        (with("parameters", json!({ "born": "x" })), "wrong kind"),
        (with("parameters", json!({ "status": [] })), "wrong kind"),
        (
            with(
                "pivot",
                json!({ "column": "personId", "value": "personId", "total": "count" }),
            ),
            "",
        ),
        (
            with("data", json!({ "kind": "sample", "size": 10_000_001, "seed": 1 })),
            "at most",
        ),
    ] {
        for name in ["preview", "save"] {
            let refused = admin(&server, name, &[("Report", &report.to_string())]);
            let status = refused["Status"].as_i64().unwrap();
            assert!((400..500).contains(&status), "{name} {report}: {refused}");
            assert!(
                refused["Message"].as_str().unwrap().contains(why),
                "{why}: {refused}"
            );
        }
    }
    // Parameters of every kind, on the sample.
    let count = |parameters: Value| {
        let mut report = with("parameters", parameters);
        report["columns"] = json!([{ "key": "personId", "total": "count" }]);
        report["data"] = json!({ "kind": "sample", "size": 1000, "seed": 3 });
        rows(&server, &report)[0][0].as_i64().unwrap()
    };
    assert_eq!(count(json!({})), 1000);
    assert_eq!(
        count(json!({ "organization": { "value": 1, "includeBelow": true } })),
        1000
    );
    let regions: i64 = (2..=11)
        .map(|r| count(json!({ "organization": { "value": r, "includeBelow": true } })))
        .sum();
    assert_eq!(regions, 1000, "each belongs to one region");
    let levels: i64 = ["PROFESSIONAL", "AMATEUR", "YOUTH"]
        .iter()
        .map(|l| count(json!({ "level": l })))
        .sum();
    assert_eq!(levels, 1000);
    assert_eq!(
        count(json!({ "status": ["ACTIVE", "PENDING", "INACTIVE"] })),
        1000
    );
    assert!(count(json!({ "name": "horvat" })) > 0);
}

/// Rows come and go while a slow client pulls: it sees each row of its snapshot once.
#[test]
fn a_slow_pull_sees_one_state() {
    let server = Server::start();
    let url = postgres::database();
    let (_, rest) = url.split_once("127.0.0.1:").unwrap();
    let (port, database) = rest.split_once('/').unwrap();
    postgres::execute(&url, "CREATE TABLE t (id int PRIMARY KEY, changed timestamptz)");
    postgres::execute(
        &url,
        "INSERT INTO t SELECT n, to_timestamp(n) FROM generate_series(1, 100) n",
    );
    let source = json!({
        "kind": "postgres", "host": "127.0.0.1", "port": port.parse::<u16>().unwrap(), "user": "encke",
        "database": database.split('?').next().unwrap()
    });
    let saved = admin(
        &server,
        "save-source",
        &[("Name", "s"), ("Source", &source.to_string())],
    );
    let template = template(
        &server,
        saved["SourceID"].as_str().unwrap(),
        "t",
        &json!({ "uid": "id", "updated": "changed" }),
    );
    let report = json!({ "name": "r", "template": template, "columns": ["id"], "freshSeconds": 0 });
    let code = code(&server, &save(&server, &report));
    let page = |n: usize, more: &str| pull(&server, &format!("{RUN}/{n}/10/?API_KEY={code}{more}"));
    let (_, first, name) = page(0, "");
    let mut ids: Vec<i64> = Vec::new();
    let mut take = |page: &Value| {
        ids.extend(
            page["results"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["id"].as_i64().unwrap()),
        );
    };
    take(&first);
    for n in 1..10 {
        postgres::execute(
            &url,
            &format!(
                "DELETE FROM t WHERE id = {}; INSERT INTO t VALUES ({}, now())",
                n * 7,
                200 + n
            ),
        );
        let (status, page, same) = page(n, "");
        assert_eq!((status, &same, &page["totalSize"]), (200, &name, &json!(100)));
        take(&page);
    }
    assert_eq!(ids, (1..=100).collect::<Vec<i64>>());
    // A new pull sees the rows of now, as soon as the data may be looked at again.
    let newer = loop {
        let (_, page, newer) = page(0, "");
        if newer != name {
            assert_eq!(page["totalSize"], 100);
            break newer;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    // Only what changed; and the state that is named, whatever came after.
    let (_, changed, _) = page(0, &format!("&snapshot={newer}&changedSince=95000"));
    let since: Vec<i64> = changed["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["id"].as_i64().unwrap())
        .collect();
    assert_eq!(
        since,
        [95, 96, 97, 98, 99, 100, 201, 202, 203, 204].map(i64::from)
    );
    assert_eq!(
        (&changed["totalSize"], &changed["lastPage"]),
        (&json!(15), &json!(1))
    );
    assert_eq!(
        page(3, &format!("&snapshot={newer}")).1["results"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
    assert_eq!(page(0, "&changedSince=soon").0, 400);
    for gone in [
        format!("{newer}x"),
        newer[..36].to_string() + "-0123456789abcdef",
        "../../server".into(),
    ] {
        assert_eq!(page(0, &format!("&snapshot={gone}")).0, 410, "{gone}");
    }
}

/// `encke report pull`: whole, broken off and gone on, and only what changed.
#[test]
fn the_puller_keeps_a_copy() {
    let server = Server::start();
    let pull = |url: &str, file: &str, more: &[&str]| {
        let into = server.work_dir.join(file);
        let output = Command::new(env!("CARGO_BIN_EXE_encke"))
            .args(["report", "pull", url, "--quiet", "--into"])
            .arg(&into)
            .args(more)
            .output()
            .unwrap();
        let said = format!("{output:?}");
        (output.status.success(), said, into)
    };
    let made = admin(&server, "save-sample", &[("Size", "2345")]);
    let path = format!("{RUN}/0/25/?API_KEY={}", made["APICode"].as_str().unwrap());
    let url = format!("{}{path}", server.url);
    let (well, said, csv) = pull(&url, "out.csv", &["--page-size", "500"]);
    assert!(well, "{said}");
    let text = std::fs::read_to_string(csv).unwrap();
    assert_eq!(text.lines().count(), 2346);
    assert!(text.starts_with("personId,firstName,"));
    let (well, said, lines) = pull(&url, "out.jsonl", &[]);
    assert!(well, "{said}");
    let lines = std::fs::read_to_string(lines).unwrap();
    let numbers = lines
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["#result_id#"].clone());
    assert!(numbers.eq((1..=2345).map(|n| json!(n.to_string()))));
    // As Parquet, which an upload reads again with its types.
    let (well, said, parquet) = pull(&url, "out.parquet", &[]);
    assert!(well, "{said}");
    let uploaded = upload(
        &server,
        &who(ADMIN, ADMIN),
        "out.parquet",
        &std::fs::read(&parquet).unwrap(),
    );
    let kinds = uploaded["Tables"][0]["Columns"].as_array().unwrap();
    let born = kinds.iter().find(|c| c["name"] == "dateOfBirth").unwrap();
    assert_eq!(born["type"], "DATE", "{uploaded}");
    let table = uploaded["Tables"][0]["Table"].as_str().unwrap();
    let copy = json!({ "name": "copy", "source": uploaded["SourceID"], "table": table,
        "columns": [{ "key": "lastName", "type": "STRING" }] });
    let copy = admin(&server, "save-template", &[("Template", &copy.to_string())]);
    let copy = &copy["Template"];
    let counted =
        json!({ "name": "r", "template": copy, "columns": [{ "key": "lastName", "total": "count" }] });
    assert_eq!(rows(&server, &counted), json!([[2345]]));
    let count = |query: &str| -> i64 {
        let database = rusqlite::Connection::open(server.work_dir.join("out.db")).unwrap();
        database.query_row(query, [], |r| r.get(0)).unwrap()
    };
    let (well, said, _) = pull(&url, "out.db", &[]);
    assert!(well, "{said}");
    assert_eq!(count("SELECT count(DISTINCT uid) FROM report"), 2345);

    // A pull that was broken off after two pages goes on with the third, of the same snapshot.
    let (_, _, snapshot) = pull_page(&server, &path);
    let broken = server.work_dir.join("broken.csv.part");
    std::fs::write(&broken, "head\nfirst two pages\nhalf a li").unwrap();
    let base = url.split("/0/25/").next().unwrap();
    let address = format!("{base}?API_KEY={}", made["APICode"].as_str().unwrap());
    let address = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(address));
    let state = json!({
        "address": address, "snapshot": snapshot, "page_size": 1000, "next": 2, "since": null, "bytes": 21
    });
    std::fs::write(server.work_dir.join("broken.csv.state"), state.to_string()).unwrap();
    let (well, said, file) = pull(&url, "broken.csv", &[]);
    assert!(well, "{said}");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(
        text.starts_with("head\nfirst two pages\n102001,"),
        "{}",
        &text[..200]
    );
    assert_eq!(text.lines().count(), 2 + 345);

    // Only what changed, into the table that is there.
    let rows = "id,when_changed,word\n1,2024-01-01T00:00:00Z,one\n2,2024-01-02T00:00:00Z,two\n";
    let uploaded = upload(&server, &who(ADMIN, ADMIN), "words.csv", rows.as_bytes());
    let source = uploaded["SourceID"].as_str().unwrap();
    let template = template(
        &server,
        source,
        "words",
        &json!({ "uid": "id", "updated": "when_changed" }),
    );
    let report = json!({ "name": "r", "template": template, "columns": ["word"] });
    let id = save(&server, &report);
    let url = format!("{}{RUN}/0/25/?API_KEY={}", server.url, code(&server, &id));
    let words = ["--table", "words"];
    assert!(pull(&url, "out.db", &words).0);
    assert_eq!(count("SELECT count(*) FROM words"), 2);
    let newer = "id,when_changed,word\n2,2024-01-03T00:00:00Z,zwei\n3,2024-01-04T00:00:00Z,drei\n";
    let mut replaced = who(ADMIN, ADMIN).to_vec();
    replaced.push(("SourceID", source));
    assert_eq!(
        upload(&server, &replaced, "words.csv", newer.as_bytes())["Status"],
        200
    );
    let (well, said, _) = pull(&url, "out.db", &["--table", "words", "--incremental"]);
    assert!(well && said.contains("2 rows"), "{said}");
    assert_eq!(
        count("SELECT count(*) FROM words WHERE word IN ('one', 'zwei', 'drei')"),
        3
    );
    assert!(pull(&url, "out.db", &words).0);
    assert_eq!(
        count("SELECT count(*) FROM words"),
        2,
        "a whole pull knows what is gone"
    );
    assert_eq!(admin(&server, "delete", &[("ReportID", &id)])["Status"], 200);
    let (well, said, _) = pull(&url, "out.db", &words);
    assert!(!well && said.contains("401"), "{said}");
    assert_eq!(count("SELECT count(*) FROM words"), 2, "what there is stays");
}

fn pull_page(server: &Server, path: &str) -> (u16, Value, String) {
    pull(server, path)
}

/// Several servers on one database: what was uploaded to one is there on all of them.
#[test]
fn servers_with_a_common_folder_share_uploaded_rows() {
    let common = tempfile::tempdir().unwrap();
    let folder = common.path().to_str().unwrap();
    let database = postgres::database();
    let one = Server::start_prepared(|data_dir| {
        postgres::note(data_dir, &database);
        set_environment(data_dir, "ENCKE_REPORT_STORAGE", folder);
    });
    let mut two = Server::start_beside(&one);
    let made = upload(&one, &who(ADMIN, ADMIN), "list.csv", b"Nr\n1\n2\n");
    let source = made["SourceID"].as_str().unwrap_or_else(|| panic!("{made}"));
    let template = template(&one, source, "list", &json!({}));
    let report = json!({ "name": "r", "template": template, "columns": ["Nr"] });
    assert_eq!(rows(&two, &report), json!([[1], [2]]));
    // One that starts removes nothing that another one has just written.
    let file = common
        .path()
        .join("uploads/0b7c9f1e-0000-4000-8000-000000000000.draft");
    std::fs::write(&file, "being loaded").unwrap();
    two.stop();
    two.restart();
    let mut again = who(ADMIN, ADMIN).to_vec();
    again.push(("SourceID", source));
    let replaced = upload(&two, &again, "list.csv", b"Nr\n3\n");
    assert_eq!(replaced["Status"], 200, "{replaced}");
    assert!(file.exists());
    assert_eq!(rows(&one, &report), json!([[3]]));
    // Nobody reaches the rows of others by naming their file.
    let stored = std::fs::read_dir(common.path().join("uploads")).unwrap();
    let stored = stored
        .map(|f| f.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "db"));
    let by_path = json!({ "kind": "sqlite", "path": stored.unwrap() }).to_string();
    let refused = admin(&two, "save-source", &[("Name", "x"), ("Source", &by_path)]);
    assert_eq!(refused["Status"], 400, "{refused}");

    // Without such a folder the other server says what is missing.
    let apart = Server::start_from(|data_dir| {
        postgres::note(data_dir, &database);
        std::fs::copy(one.data_dir.join("server.key"), data_dir.join("server.key")).unwrap();
    });
    let shown = preview(&apart, &who(ADMIN, ADMIN), &report);
    assert_eq!(shown["Status"], 502, "{shown}");
    assert!(
        shown["Message"].as_str().unwrap().contains("--report-storage"),
        "{shown}"
    );
    assert_eq!(rows(&one, &report), json!([[3]]));
}

/// Codes: limited, watched, replaced, taken away.
#[test]
fn codes_have_limits_and_a_log() {
    let server = Server::start();
    let made = admin(&server, "save-sample", &[("Size", "30")]);
    let id = made["ReportID"].as_str().unwrap();
    let path = |code: &str| format!("{RUN}/0/25/?API_KEY={code}");
    let first = made["APICode"].as_str().unwrap().to_string();
    assert_eq!(pull(&server, &path(&first)).0, 200);
    let limit = |addresses: &str, expires: &str| {
        let fields = [("ReportID", id), ("Addresses", addresses), ("Expires", expires)];
        admin(&server, "limit-code", &fields)["Status"].as_i64().unwrap()
    };
    assert_eq!(limit("192.0.2.0/24, 2001:db8::/32", "0"), 200);
    assert_eq!(pull(&server, &path(&first)).0, 403);
    assert_eq!(limit("127.0.0.0/8", "4000000000"), 200);
    assert_eq!(pull(&server, &path(&first)).0, 200);
    for (addresses, expires) in [("127.0.0.1/33", "0"), ("here", "0"), ("", "1000"), ("", "-5")] {
        assert_eq!(limit(addresses, expires), 400, "{addresses} {expires}");
    }
    let rotated = admin(&server, "rotate-code", &[("ReportID", id)]);
    let second = rotated["APICode"].as_str().unwrap();
    assert_ne!(first, second);
    assert_eq!(
        (pull(&server, &path(&first)).0, pull(&server, &path(second)).0),
        (401, 200)
    );
    assert_eq!(code(&server, id), second, "copied again it is the same");
    let listed = admin(&server, "list", &[]);
    assert_eq!(
        listed[0]["Code"]["Addresses"], "127.0.0.0/8",
        "limits stay with the new code"
    );
    let log = admin(&server, "code-log", &[("ReportID", id)]);
    let sum = |status: i64, what: &str| -> i64 {
        let those = log.as_array().unwrap().iter().filter(|e| e["Status"] == status);
        those.map(|e| e[what].as_i64().unwrap()).sum()
    };
    assert_eq!(
        (sum(200, "Calls"), sum(200, "Rows"), sum(403, "Calls")),
        (3, 75, 1),
        "{log}"
    );
    // A code that ends ends without a word on why.
    let soon = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + 2;
    assert_eq!(limit("", &soon.to_string()), 200);
    while pull(&server, &path(second)).0 == 200 {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let ended = pull(&server, &path(second));
    let unknown = pull(&server, &path(&"0".repeat(160)));
    assert_eq!((ended.0, &ended.1), (401, &unknown.1));
    assert_eq!(admin(&server, "revoke-code", &[("ReportID", id)])["Status"], 200);
    assert_eq!(admin(&server, "revoke-code", &[("ReportID", id)])["Status"], 404);
    let german = admin(&server, "generate-code", &[("ReportID", id), ("Locale", "de_DE")]);
    let (_, page, _) = pull(&server, german["Path"].as_str().unwrap());
    assert_eq!(
        (&page["columnNames"][1], &page["locale"]),
        (&json!("Vorname"), &json!("de_DE"))
    );
    // Tags are compared weakly, in lists, and by a star.
    let url = format!("{}{}", server.url, german["Path"].as_str().unwrap());
    let ask = |tag: &str| http().get(&url).header("If-None-Match", tag).call().unwrap();
    let etag = ask("\"no\"").headers()["etag"].to_str().unwrap().to_string();
    let strong = etag.trim_start_matches("W/").to_string();
    for (tag, status) in [
        (etag.clone(), 304),
        (strong.clone(), 304),
        (format!("\"a\", {etag}"), 304),
        ("*".into(), 304),
        ("\"a\"".into(), 200),
    ] {
        assert_eq!(ask(&tag).status(), status, "{tag}");
    }
    let packed = http().get(&url).header("Accept-Encoding", "zstd").call().unwrap();
    assert_eq!(packed.headers()["content-encoding"], "zstd");
    assert_eq!(packed.headers()["x-ratelimit-limit"], "10");
}
