//! Organizations through the front door: chosen by host name, apart from each other (reference, section 9).

use crate::support::Server;
use serde_json::{Value, json};
use std::process::Command;

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

/// Adds an organization of this host with an administrator `boss`. Answers its id.
fn add(server: &Server, host: &str) -> String {
    let organization = json!({ "Name": host, "Hosts": [host] }).to_string();
    let made = server.call(
        "/api/v1/admin/organization/set",
        &[("Organization", &organization)],
    );
    let id = ok(&made)["ID"].as_str().unwrap().to_string();
    let fields = [
        ("TargetUser", "boss"),
        ("TargetPassword", host),
        ("TargetOrgID", &id),
    ];
    ok(&server.call("/api/v1/admin/admin-user/new", &fields));
    id
}

/// Calls as the administrator of the organization of a host.
fn boss(server: &Server, host: &str, path: &str, fields: &[(&str, &str)]) -> Value {
    let mut all = vec![("Username", "boss"), ("AuthType", "Password"), ("Password", host)];
    all.extend_from_slice(fields);
    server.post_to_host(host, path, &all)
}

#[test]
fn each_organization_sees_its_own_only() {
    let server = Server::start();
    for host in ["a.example", "b.example"] {
        add(&server, host);
        let user = format!("user@{host}");
        let fields = [("TargetUser", user.as_str()), ("TargetPassword", "long enough")];
        ok(&boss(&server, host, "/api/v1/admin/add-user", &fields));
        let policy = json!({ "Description": host }).to_string();
        ok(&boss(
            &server,
            host,
            "/api/v1/admin/policies/new",
            &[("Policy", &policy)],
        ));
        ok(&boss(
            &server,
            host,
            "/api/v1/admin/user-groups/new",
            &[("Name", host)],
        ));
        ok(&boss(
            &server,
            host,
            "/api/v1/admin/news/submit",
            &[("NewsContent", host)],
        ));
        let quota = [
            ("SharedStorageQuotaID", host),
            ("SharedStorageQuota", r#"{"LimitBytes":1}"#),
        ];
        ok(&boss(&server, host, "/api/v1/admin/squota/set-with-hash", &quota));
    }
    for path in [
        "list-users",
        "list-users-full",
        "policies/list",
        "policies/list-full",
        "user-groups/list",
        "user-groups/list-full",
        "news/get-all",
        "squota/list-all",
    ] {
        let text = boss(&server, "a.example", &format!("/api/v1/admin/{path}"), &[]).to_string();
        assert!(text.contains("a.example"), "{path}: {text}");
        assert!(!text.contains("b.example"), "{path}: {text}");
        let all = server.call(&format!("/api/v1/admin/{path}"), &[]).to_string();
        assert!(
            all.contains("a.example") && all.contains("b.example"),
            "{path}: {all}"
        );
    }
    // By id neither.
    let foreign = |path: &str, id: &str, value: &str| {
        let answer = boss(
            &server,
            "a.example",
            &format!("/api/v1/admin/{path}"),
            &[(id, value)],
        );
        assert!(answer["Status"].as_i64().unwrap() >= 400, "{path}: {answer}");
        assert!(!answer.to_string().contains("LimitBytes"), "{answer}");
    };
    let id_of = |path: &str| {
        let all = server.call(&format!("/api/v1/admin/{path}"), &[]);
        let all = all.as_object().unwrap().clone();
        let (id, _) = all.into_iter().find(|(_, v)| v == "b.example").unwrap();
        id
    };
    foreign("get-user-profile", "TargetUser", "user@b.example");
    foreign("reset-user-password", "TargetUser", "user@b.example");
    foreign("policies/get", "PolicyID", &id_of("policies/list"));
    foreign("policies/delete", "PolicyID", &id_of("policies/list"));
    foreign("user-groups/get", "GroupID", &id_of("user-groups/list"));
    foreign("user-groups/delete", "GroupID", &id_of("user-groups/list"));
    foreign("squota/get-with-hash", "SharedStorageQuotaID", "b.example");
    foreign("squota/delete", "SharedStorageQuotaID", "b.example");
    foreign("policies/list", "TargetOrganization", "other");
    foreign("organization/list", "x", "");
    // Writing over another's id does not work either, nor linking to another's policy.
    let policy = id_of("policies/list");
    let set = [
        ("PolicyID", policy.as_str()),
        ("Policy", r#"{"Description":"mine"}"#),
    ];
    assert_eq!(
        boss(&server, "a.example", "/api/v1/admin/policies/set", &set)["Status"],
        403
    );
    let mut profile = boss(
        &server,
        "a.example",
        "/api/v1/admin/get-user-profile",
        &[("TargetUser", "user@a.example")],
    );
    profile["PolicyID"] = json!(policy);
    let fields = [
        ("TargetUser", "user@a.example"),
        ("ProfileData", &profile.to_string()),
    ];
    assert_eq!(
        boss(&server, "a.example", "/api/v1/admin/set-user-profile", &fields)["Status"],
        400
    );
    // One host's administrator is nobody at another host.
    let wrong = [
        ("Username", "boss"),
        ("AuthType", "Password"),
        ("Password", "a.example"),
    ];
    assert_eq!(
        server.post_to_host("b.example", "/api/v1/admin/list-users", &wrong)["Status"],
        403
    );
    assert_eq!(server.post("/api/v1/admin/list-users", &wrong)["Status"], 403);
    // End users see their own news.
    let own = [
        ("Username", "user@a.example"),
        ("AuthType", "Password"),
        ("Password", "long enough"),
    ];
    let news = server.post("/api/v1/user/web/news/get-all", &own).to_string();
    assert!(
        news.contains("a.example") && !news.contains("b.example"),
        "{news}"
    );
}

#[test]
fn a_host_name_leads_to_one_organization() {
    let server = Server::start();
    let id = add(&server, "a.example");
    let set = |id: &str, organization: Value| {
        let fields = [
            ("OrganizationID", id),
            ("Organization", &organization.to_string()),
        ];
        server.call("/api/v1/admin/organization/set", &fields)
    };
    assert_eq!(
        set("", json!({ "Name": "x", "Hosts": ["A.example"] }))["Status"],
        400
    );
    assert_eq!(
        set("", json!({ "Name": "x", "Hosts": ["https://c.example"] }))["Status"],
        400
    );
    assert_eq!(set("", json!({ "Name": " " }))["Status"], 400);
    ok(&set(
        &id,
        json!({ "Name": "x", "Hosts": ["a.example", "Other.example"], "Novel": 5 }),
    ));
    let all = server.call("/api/v1/admin/organization/list", &[]);
    assert_eq!(all[&id]["Hosts"][1], "other.example");
    assert_eq!(all[&id]["Novel"], 5);
    let url = |id: &str| {
        server.call(
            "/api/v1/admin/dispatcher/get-default-login-url",
            &[("OrganizationID", id)],
        )
    };
    assert_eq!(url(&id)["LoginURL"], "https://a.example/");
    assert_eq!(url("")["LoginURL"], format!("{}/", server.url));
    assert_eq!(url("nowhere")["Status"], 404);
}

#[test]
fn a_suspended_organization_is_locked_out_and_a_deleted_one_is_gone() {
    let server = Server::start();
    let id = add(&server, "a.example");
    let user = [("TargetUser", "anna"), ("TargetPassword", "long enough")];
    ok(&boss(&server, "a.example", "/api/v1/admin/add-user", &user));
    let anna = [
        ("Username", "anna"),
        ("AuthType", "Password"),
        ("Password", "long enough"),
    ];
    let session = server.post("/api/v1/user/web/session/start", &anna);
    let key = ok(&session)["SessionKey"].as_str().unwrap();
    let suspend = |on: bool| {
        let organization = json!({ "Name": "a", "Hosts": ["a.example"], "IsSuspended": on }).to_string();
        let fields = [("OrganizationID", id.as_str()), ("Organization", &organization)];
        ok(&server.call("/api/v1/admin/organization/set", &fields));
    };
    let get = "/api/v1/user/web/get-user-profile-and-hash";
    let by_key = [
        ("Username", "anna"),
        ("AuthType", "SessionKey"),
        ("SessionKey", key),
    ];
    suspend(true);
    assert_eq!(
        boss(&server, "a.example", "/api/v1/admin/list-users", &[])["Status"],
        403
    );
    assert_eq!(server.post(get, &anna)["Status"], 403);
    assert_eq!(server.post(get, &by_key)["Status"], 403);
    suspend(false);
    ok(&server.post(get, &by_key));

    // What it has goes into one file.
    let folder = server.work_dir.join("export");
    let export = |key: &str, organization: &str| {
        let options = json!({ "Location": { "DestinationType": 1002, "LocalcopyPath": folder },
            "EncryptionKey": key, "RestrictToSingleOrgID": organization });
        server.call(
            "/api/v1/admin/organization/export",
            &[("Options", &options.to_string())],
        )
    };
    assert_eq!(export("", "nowhere")["Status"], 404);
    ok(&export("", &id));
    let file = std::fs::read_dir(&folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let read = |name: &str| {
        let script =
            "import sys,zipfile; sys.stdout.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]).decode())";
        let out = Command::new("python3")
            .args(["-c", script])
            .arg(&file)
            .arg(name)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<Value>(&out.stdout).unwrap()
    };
    assert_eq!(read("organization.json")["Hosts"][0], "a.example");
    assert_eq!(read("users/anna.json")["Username"], "anna");
    assert_eq!(read("admins.json")[0]["Username"], "boss");

    ok(&server.call("/api/v1/admin/organization/delete", &[("OrganizationID", &id)]));
    assert_eq!(server.call("/api/v1/admin/list-users", &[]), json!([]));
    assert_eq!(server.call("/api/v1/admin/organization/list", &[]), json!({}));
    let admins = server.call("/api/v1/admin/admin-user/list", &[]);
    assert_eq!(admins.as_array().unwrap().len(), 1);
    assert_eq!(
        boss(&server, "a.example", "/api/v1/admin/list-users", &[])["Status"],
        403
    );
}

#[test]
fn views_of_the_console_are_shared_within_an_organization() {
    let server = Server::start();
    add(&server, "a.example");
    add(&server, "b.example");
    let share = |fields: &[(&str, &str)]| boss(&server, "a.example", "/api/encke/v1/views/share", fields);
    let (path, search) = (("Path", "/accounts"), ("Search", r#"{"show":"never"}"#));
    ok(&share(&[("Name", "Late"), path, search]));
    // The same name of the same page: in its place.
    ok(&share(&[
        ("Name", "Late"),
        path,
        ("Search", r#"{"show":"late"}"#),
    ]));
    for wrong in ["accounts", "//elsewhere.example", "/\\elsewhere.example", ""] {
        assert_eq!(
            share(&[("Name", "x"), ("Path", wrong), search])["Status"],
            400,
            "{wrong}"
        );
    }
    assert_eq!(share(&[("Name", " "), path, search])["Status"], 400);
    let list = |host: &str| boss(&server, host, "/api/encke/v1/views/list", &[]);
    let all = list("a.example");
    let views: Vec<(&String, &Value)> = all.as_object().unwrap().iter().collect();
    let [(id, view)] = views[..] else { panic!("{all}") };
    assert_eq!(
        (&view["Name"], &view["Owner"], &view["Search"]["show"]),
        (&json!("Late"), &json!("boss"), &json!("late"))
    );
    assert_eq!(list("b.example"), json!({}));
    assert_eq!(server.call("/api/encke/v1/views/list", &[]), json!({}));
    let remove = |host: &str| boss(&server, host, "/api/encke/v1/views/remove", &[("ViewID", id)]);
    assert_eq!(remove("b.example")["Status"], 404);
    ok(&remove("a.example"));
    assert_eq!(list("a.example"), json!({}));
}
