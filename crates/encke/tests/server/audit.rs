//! Who changed what, through the front door: with old and new values, the address, and without secrets.

use crate::support::Server;
use crate::support::device::{Device, USER, until};
use serde_json::{Value, json};

const LIST: &str = "/api/encke/v1/audit/list";

fn ok(answer: Value) -> Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn deeds(server: &Server, fields: &[(&str, &str)]) -> Vec<Value> {
    let answer = server.call(LIST, fields);
    answer["Deeds"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
        .clone()
}

/// The deeds in one line each, such as `admin change policy p1`.
fn told(deeds: &[Value]) -> Vec<String> {
    let text = |d: &Value, name: &str| d[name].as_str().unwrap().to_string();
    deeds
        .iter()
        .map(|d| {
            ["Actor", "Action", "Kind", "ResourceID"]
                .map(|n| text(d, n))
                .join(" ")
        })
        .collect()
}

/// What a deed changed: path, old, new.
fn changes(deed: &Value) -> Vec<(String, Value, Value)> {
    let all = deed["Differences"]["Changes"].as_array().unwrap().iter();
    all.map(|c| {
        let path: Vec<&str> = c["Path"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_str().unwrap())
            .collect();
        (path.join("/"), c["Old"].clone(), c["New"].clone())
    })
    .collect()
}

fn add_user(server: &Server, name: &str) {
    let fields = [("TargetUser", name), ("TargetPassword", "long enough")];
    ok(server.call("/api/v1/admin/add-user", &fields));
}

fn set_policy(server: &Server, description: &str) {
    let policy =
        json!({ "Description": description, "Policy": { "PreventNewProtectedItem": description == "b" } });
    ok(server.call(
        "/api/v1/admin/policies/set",
        &[("PolicyID", "p1"), ("Policy", &policy.to_string())],
    ));
}

#[test]
fn every_change_is_told_with_what_it_was_and_became() {
    let server = Server::start();
    add_user(&server, "alice");
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "alice")]);
    let mut edited = profile.clone();
    edited["AccountName"] = json!("Alice Ash");
    edited["Emails"] = json!(["a@example.org"]);
    let fields = [("TargetUser", "alice"), ("ProfileData", &*edited.to_string())];
    ok(server.call("/api/v1/admin/set-user-profile", &fields));
    // Nothing was changed: nothing is told.
    ok(server.call("/api/v1/admin/set-user-profile", &fields));
    set_policy(&server, "a");
    set_policy(&server, "b");
    ok(server.call("/api/v1/admin/policies/delete", &[("PolicyID", "p1")]));
    let new = [("TargetUser", "second"), ("TargetPassword", "hush hush")];
    ok(server.call("/api/v1/admin/admin-user/new", &new));
    let branding = json!({ "BrandName": "Comet & Sons" }).to_string();
    ok(server.call(
        "/api/v1/admin/meta/branding-config/set",
        &[("BrandingConfig", &branding)],
    ));
    let bucket = [("SetBucketValue", "bucket1")];
    ok(server.call("/api/v1/admin/storage/register-bucket", &bucket));
    ok(server.call("/api/v1/admin/delete-user", &[("TargetUser", "alice")]));

    let all = deeds(&server, &[]);
    assert_eq!(
        told(&all),
        [
            "admin remove account alice",
            "admin add bucket bucket1",
            "admin change settings ",
            "admin add administrator second",
            "admin remove policy p1",
            "admin change policy p1",
            "admin add policy p1",
            "admin change account alice",
            "admin add account alice",
            " add administrator admin",
        ]
    );
    assert!(all.iter().all(|d| d["Address"] == "127.0.0.1"), "{all:?}");
    assert_eq!(
        changes(&all[7]),
        [
            ("AccountName".into(), json!(""), json!("Alice Ash")),
            ("Emails".into(), json!([]), json!(["a@example.org"])),
        ]
    );
    assert_eq!(
        changes(&all[5]),
        [
            ("Description".into(), json!("a"), json!("b")),
            ("Policy/PreventNewProtectedItem".into(), json!(false), json!(true)),
        ]
    );
    let brand = changes(&all[2]);
    assert!(
        brand.contains(&("Branding/BrandName".into(), json!(""), json!("Comet & Sons"))),
        "{brand:?}"
    );
    assert!(changes(&all[4]).contains(&("Description".into(), json!("b"), Value::Null)));
}

#[test]
fn secrets_are_told_as_changed_and_never_shown() {
    let server = Server::start();
    add_user(&server, "alice");
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "alice")]);
    let mut edited = profile.clone();
    edited["Destinations"] = json!({ "v1": {
        "Description": "Cloud", "DestinationType": 1000, "S3Server": "s3.example.org", "S3AccessKey": "canary-1",
        "S3SecretKey": "canary-2", "SFTPPassword": "canary-3",
    }});
    edited["Sources"] = json!({ "s1": {
        "Engine": "engine1/mysql", "Description": "Database", "OwnerDevice": "",
        "EngineProps": { "PASSWORD": "canary-4", "USERNAME": "root" },
    }});
    let fields = [("TargetUser", "alice"), ("ProfileData", &*edited.to_string())];
    ok(server.call("/api/v1/admin/set-user-profile", &fields));
    let mail = json!({ "EmailMode": "builtin-1", "FromEmail": "a@example.org", "SMTPHost": "127.0.0.1",
        "SMTPPort": 1, "SMTPUsername": "me", "SMTPPassword": "canary-5" });
    let organization = json!({ "Name": "North", "Email": mail, "WebhookOptions": { "hook": {
        "URL": "https://me:canary-6@example.org/", "CustomHeaders": { "Authorization": "canary-7" } } } });
    ok(server.call(
        "/api/v1/admin/organization/set",
        &[("Organization", &organization.to_string())],
    ));
    let reset = [
        ("TargetUser", "alice"),
        ("NewPassword", "canary-8 long"),
        ("OldPassword", "long enough"),
    ];
    ok(server.call("/api/v1/admin/reset-user-password", &reset));

    let all = deeds(&server, &[]);
    let text = json!(all).to_string();
    assert!(!text.contains("canary"), "{text}");
    assert!(!text.contains("argon2"), "{text}");
    let (reset, cloud) = (
        &all[0],
        all.iter()
            .find(|d| d["Action"] == "change" && *d != &all[0])
            .unwrap(),
    );
    let hidden = |deed: &Value, path: &str| {
        let found = changes(deed).into_iter().find(|(p, ..)| p == path);
        found.unwrap_or_else(|| panic!("{path} is not in {deed}")).2
    };
    assert_eq!(hidden(cloud, "Destinations/v1/S3SecretKey"), "***");
    assert_eq!(hidden(cloud, "Sources/s1/EngineProps/PASSWORD"), "***");
    assert_eq!(hidden(cloud, "Sources/s1/EngineProps/USERNAME"), "root");
    assert_eq!(hidden(reset, "PasswordHash"), "***");
}

#[test]
fn administrators_of_a_tenant_see_their_own_and_no_address_of_the_top_level() {
    let server = Server::start();
    let host = "a.example";
    let organization = json!({ "Name": host, "Hosts": [host] }).to_string();
    let made = ok(server.call(
        "/api/v1/admin/organization/set",
        &[("Organization", &organization)],
    ));
    let id = made["ID"].as_str().unwrap();
    for name in ["boss", "clerk"] {
        let new = [
            ("TargetUser", name),
            ("TargetPassword", host),
            ("TargetOrgID", id),
        ];
        ok(server.call("/api/v1/admin/admin-user/new", &new));
    }
    let boss = |path: &str, fields: &[(&str, &str)]| {
        let mut all = vec![("Username", "boss"), ("AuthType", "Password"), ("Password", host)];
        all.extend_from_slice(fields);
        server.post_to_host(host, path, &all)
    };
    add_user(&server, "of-the-top");
    let fields = [("TargetUser", "of-a"), ("TargetPassword", "long enough")];
    ok(boss("/api/v1/admin/add-user", &fields));
    let seen = boss(LIST, &[]);
    let seen = seen["Deeds"].as_array().unwrap();
    assert_eq!(
        told(seen),
        [
            "boss add account of-a".to_string(),
            "admin add administrator clerk".into(),
            "admin add administrator boss".into(),
            format!("admin add tenant {id}"),
        ]
    );
    let addresses: Vec<&str> = seen.iter().map(|d| d["Address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["127.0.0.1", "", "", ""]);
    // An end user is nobody here.
    let user = [
        ("Username", "of-the-top"),
        ("AuthType", "Password"),
        ("Password", "long enough"),
    ];
    assert_eq!(server.post(LIST, &user)["Status"], 403);
}

#[test]
fn deeds_are_found_by_who_what_when_and_words_page_by_page() {
    let server = Server::start();
    for name in ["alice", "bob", "carl"] {
        add_user(&server, name);
    }
    set_policy(&server, "a");
    let accounts = ("Kind", "account");
    let page = server.call(LIST, &[accounts, ("Limit", "2")]);
    let next = page["Next"].to_string();
    assert_eq!(
        told(page["Deeds"].as_array().unwrap()),
        ["admin add account carl", "admin add account bob"]
    );
    let page = server.call(LIST, &[accounts, ("Limit", "2"), ("Before", &next)]);
    assert_eq!(
        (told(page["Deeds"].as_array().unwrap()), &page["Next"]),
        (vec!["admin add account alice".to_string()], &json!(0))
    );
    assert_eq!(
        told(&deeds(&server, &[("ResourceID", "bob")])),
        ["admin add account bob"]
    );
    assert_eq!(
        told(&deeds(&server, &[("Contains", "CARL admin")])),
        ["admin add account carl"]
    );
    assert!(deeds(&server, &[("Actor", "nobody")]).is_empty());
    assert!(deeds(&server, &[("Action", "remove")]).is_empty());
    assert!(deeds(&server, &[("Until", "1")]).is_empty());
    assert_eq!(deeds(&server, &[("Kind", "policy"), ("Since", "1")]).len(), 1);
    assert_eq!(server.call(LIST, &[("Limit", "0")])["Status"], 400);
    assert_eq!(server.call(LIST, &[("Username", "")])["Status"], 403);
}

#[test]
fn who_signed_in_and_who_took_what_out_of_a_vault_is_told() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let source = server.work_dir.join("source");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("one.txt"), "one").unwrap();
    device.add_item(&server, "i1", "engine1/file", &json!({ "INCLUDE1": source }));
    device.add_folder_vault(&server, "v1", &server.work_dir.join("vault"));
    device.back_up(&server, "i1", "v1");
    let vault = ("Destination", "v1");
    let snapshots = device.ask(&server, "request-vault-snapshots", &[vault]);
    let snapshot = snapshots["Snapshots"][0]["Snapshot"]
        .as_str()
        .unwrap()
        .to_string();
    let to = server.work_dir.join("restored");
    let restore = [
        ("Path", to.to_str().unwrap()),
        ("Source", "i1"),
        vault,
        ("Snapshot", &snapshot),
    ];
    ok(device.ask(&server, "run-restore", &restore));
    let [newest] = &deeds(&server, &[("Action", "restore")])[..] else {
        panic!("no restore is told");
    };
    let expected = format!("admin restore account {USER}");
    assert_eq!(told(std::slice::from_ref(newest)), [expected]);
    let details = changes(newest);
    assert!(
        details.contains(&("Path".into(), Value::Null, json!(to))),
        "{details:?}"
    );
    assert!(
        details.contains(&("Snapshot".into(), Value::Null, json!(snapshot))),
        "{details:?}"
    );

    // What the device itself changed is told of with the account's name and the device's address.
    let devices = deeds(&server, &[("Actor", USER)]);
    assert!(
        devices.iter().any(|d| d["Address"] == "127.0.0.1"
            && changes(d).iter().any(|(path, ..)| path.starts_with("Devices/"))),
        "{devices:?}"
    );
    let session = server.call("/api/v1/admin/account/session-start", &[]);
    assert!(session["SessionKey"].is_string(), "{session}");
    assert_eq!(
        told(&deeds(&server, &[("Action", "sign-in")])),
        ["admin sign-in administrator admin"]
    );
}

#[test]
fn what_opens_data_is_told_with_its_limits_and_never_itself() {
    let server = Server::start();
    add_user(&server, "alice");
    let reports = |call: &str, fields: &[(&str, &str)]| {
        ok(server.call(&format!("/api/encke/v1/reports/{call}"), fields))
    };
    let report = json!({ "name": "Persons", "template": 1001, "columns": ["lastName"] }).to_string();
    let saved = reports("save", &[("Report", &report)]);
    let report = saved["ReportID"].as_str().unwrap().to_string();
    let id = ("ReportID", report.as_str());
    let first = reports("generate-code", &[id]);
    // It is there already: nothing is told.
    reports("generate-code", &[id]);
    let limits = [id, ("Expires", "4000000000"), ("Addresses", "192.0.2.0/24")];
    reports("limit-code", &limits);
    let second = reports("rotate-code", &[id]);
    assert_ne!(first["APICode"], second["APICode"]);
    reports("revoke-code", &[id]);

    let path = server.work_dir.join("theirs.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("CREATE TABLE t (n int)").unwrap();
    let source = json!({ "kind": "sqlite", "path": path });
    let fields = [
        ("Name", "Customers"),
        ("Source", &*source.to_string()),
        ("SourcePassword", "canary-1"),
    ];
    let saved = reports("save-source", &fields);
    let source = saved["SourceID"].as_str().unwrap().to_string();
    let fields = [
        ("SourceID", source.as_str()),
        ("Name", "Clients"),
        fields[1],
        ("SourcePassword", "canary-2"),
    ];
    reports("save-source", &fields);
    reports("delete-source", &[("SourceID", &source)]);

    let template = |id: &Value, name: &str| {
        let columns = json!([{ "key": "lastName", "type": "STRING" }]);
        json!({ "id": id, "name": name, "source": "sample", "table": "persons", "columns": columns })
            .to_string()
    };
    let fields = [("Template", &*template(&json!(0), "Staff")), ("Audience", "none")];
    let number = reports("save-template", &fields)["Template"].clone();
    let fields = [
        ("Template", &*template(&number, "Persons")),
        ("Audience", "admins"),
    ];
    reports("save-template", &fields);
    let number = number.to_string();
    reports("delete-template", &[("Template", &number)]);

    let fields = [
        ("TargetUser", "alice"),
        ("TargetPassword", "long enough"),
        ("Server", "https://backup.example.org/"),
    ];
    let token = ok(server.call("/api/v1/admin/create-install-token", &fields));

    let all = deeds(&server, &[]);
    let lines: Vec<String> = told(&all)
        .into_iter()
        .filter(|l| !l.contains(" account "))
        .collect();
    let line = |what: &str, which: &str| format!("admin {what} {which}");
    assert_eq!(
        lines,
        [
            line("add install-token", "alice"),
            line("remove report-template", &number),
            line("change report-template", &number),
            line("add report-template", &number),
            line("remove report-source", &source),
            line("change report-source", &source),
            line("add report-source", &source),
            line("remove report-code", &report),
            line("change report-code", &report),
            line("change report-code", &report),
            line("add report-code", &report),
            " add administrator admin".to_string(),
        ]
    );
    let hidden = ("APIKey".to_string(), json!("***"), json!("***"));
    assert_eq!(changes(&all[8]), [hidden]);
    assert_eq!(
        changes(&all[9]),
        [
            ("Addresses".into(), json!(""), json!("192.0.2.0/24")),
            ("Expires".into(), json!(0), json!(4_000_000_000_i64)),
        ]
    );
    let changed = changes(&all[5]);
    assert!(
        changed.contains(&("Name".into(), json!("Customers"), json!("Clients"))),
        "{changed:?}"
    );
    assert!(
        changed.contains(&("Secret".into(), json!("***"), json!("***"))),
        "{changed:?}"
    );
    let made = changes(&all[3]);
    let column = made.iter().find(|(path, ..)| path.ends_with("/column")).unwrap();
    assert_eq!(column.2, "lastName", "{made:?}");
    assert_eq!(
        changes(&all[2])[0],
        ("Audience".into(), json!("none"), json!("admins"))
    );
    let made = changes(&all[0]);
    assert!(
        made.contains(&("Server".into(), Value::Null, json!("https://backup.example.org/"))),
        "{made:?}"
    );
    let text = json!(all).to_string();
    let secrets = [
        first["APICode"].as_str().unwrap(),
        second["APICode"].as_str().unwrap(),
        token["InstallToken"]["Token"].as_str().unwrap(),
        "canary",
    ];
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
    }
}

/// The lines of a tenant's audit file of today.
fn lines(server: &Server, tenant: &str) -> Vec<Value> {
    let folder = server.data_dir.join(format!("logs/audit/tenant-{tenant}"));
    let files: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("people."))
        .collect();
    let text: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn audit_files_have_the_events_of_their_tenant_each_once_over_a_restart() {
    let mut server = Server::start();
    let set = |server: &Server, id: &str, file: &Value| {
        let organization =
            json!({ "Name": "North", "Hosts": ["a.example"], "AuditFileOptions": { "one": file } });
        let fields = [
            ("OrganizationID", id),
            ("Organization", &*organization.to_string()),
        ];
        server.call("/api/v1/admin/organization/set", &fields)
    };
    for wrong in ["", "../people", ".people", "a/b"] {
        assert_eq!(
            set(&server, "north", &json!({ "Filename": wrong }))["Status"],
            400,
            "{wrong}"
        );
    }
    // Accounts alone, and nothing of what they are.
    let file = json!({ "Filename": "people", "AllowEventTypes": [4100, 4101], "Level": "none" });
    ok(set(&server, "north", &file));
    let add = |server: &Server, name: &str, tenant: &str| {
        let fields = [
            ("TargetUser", name),
            ("TargetPassword", "long enough"),
            ("TargetOrganization", tenant),
        ];
        ok(server.call("/api/v1/admin/add-user", &fields));
    };
    // The file begins when its settings have been heard of.
    let mut tries = 0..;
    let first = until("the first line", || {
        add(&server, &format!("user-{}", tries.next().unwrap()), "north");
        lines(&server, "north").first().cloned()
    });
    assert_eq!(first["OwnerOrganizationID"], "north");
    assert!(first.get("Data").is_none_or(Value::is_null), "{first}");
    add(&server, "before", "north");
    add(&server, "elsewhere", "");
    server.stop();
    server.restart();
    add(&server, "after", "north");
    let told = until("the last line", || {
        let all = lines(&server, "north");
        let names: Vec<String> = all
            .iter()
            .map(|l| l["ResourceID"].as_str().unwrap().to_string())
            .collect();
        names.contains(&"after".to_string()).then_some(names)
    });
    for name in ["before", "after"] {
        assert_eq!(told.iter().filter(|n| *n == name).count(), 1, "{told:?}");
    }
    assert!(!told.contains(&"elsewhere".to_string()), "{told:?}");
}
