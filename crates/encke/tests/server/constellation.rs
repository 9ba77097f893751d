//! The Constellation Role through the front door: several real servers, buckets on them that somebody uses or nobody, and
//! deletions that must not happen.

use crate::support::device::until;
use crate::support::services::serve;
use crate::support::{ADMIN, Server, configure, set_environment};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const GET: &str = "/api/v1/admin/meta/constellation/config/get";
const SET: &str = "/api/v1/admin/meta/constellation/config/set";
const PASSWORD: &str = "correct horse";

fn ok(answer: &Value) {
    assert_eq!(answer["Status"], 200, "{answer}");
}

fn prepare(data_dir: &Path, keep_new: &str) {
    set_environment(data_dir, "ENCKE_CONSTELLATION_KEEP_NEW_SECONDS", keep_new);
    configure(data_dir, |config| config.constellation_role.role_enabled = true);
}

/// A server that looks after a cluster, and takes no bucket for too new.
fn hub() -> Server {
    Server::start_prepared(|data_dir| prepare(data_dir, "0"))
}

/// A server that is looked after.
fn member() -> Server {
    Server::start_prepared(|data_dir| configure(data_dir, |_| {}))
}

fn target(to: &Server, name: &str) -> Value {
    json!({
        "Type": "comet", "Description": name, "RemoteAddress": to.url, "Username": ADMIN, "Password": ADMIN,
    })
}

fn set(hub: &Server, deletes: bool, servers: &[Value]) -> Value {
    let options = json!({ "RoleEnabled": true, "DeleteUnusedData": deletes, "Servers": servers });
    hub.call(SET, &[("ConstellationRoleOptions", &options.to_string())])
}

fn add_bucket(server: &Server, id: &str) {
    let hash = "0".repeat(64);
    let fields = [
        ("SetBucketValue", id),
        ("SetKeyHashFormat", "101"),
        ("SetKeyHashValue", &hash),
    ];
    ok(&server.call("/api/v1/admin/storage/register-bucket", &fields));
}

fn add_user(server: &Server, name: &str) {
    let fields = [("TargetUser", name), ("TargetPassword", PASSWORD)];
    ok(&server.call("/api/v1/admin/add-user", &fields));
}

/// Gives an account these vaults in place of all it has.
fn set_vaults(server: &Server, user: &str, vaults: &Value) {
    let mut profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", user)]);
    profile["Destinations"] = vaults.clone();
    let text = profile.to_string();
    let fields = [("TargetUser", user), ("ProfileData", text.as_str())];
    ok(&server.call("/api/v1/admin/set-user-profile", &fields));
}

fn vault(address: &str, bucket: &str) -> Value {
    json!({ "Description": bucket, "DestinationType": 1003, "CometServer": address, "CometBucket": bucket })
}

fn new_report(hub: &Server) -> Value {
    let report = hub.call("/api/v1/admin/constellation/new-report", &[]);
    assert!(report["Usage"].is_object(), "{report}");
    report
}

fn prune(hub: &Server) -> Value {
    hub.call("/api/v1/admin/constellation/prune-now", &[])
}

fn details(hub: &Server) -> Value {
    hub.call("/api/encke/v1/constellation/details", &[])
}

/// Servers and users of a bucket in a report.
fn usage(report: &Value, bucket: &str) -> (Value, Vec<(i64, String)>) {
    let bucket = &report["Usage"][bucket];
    let users = bucket["InUseBy"].as_array().unwrap_or_else(|| panic!("{report}"));
    let users = users.iter().map(|u| {
        let name = u["Username"].as_str().unwrap().to_string();
        (u["ServerID"].as_i64().unwrap(), name)
    });
    (bucket["ExistsOnServers"].clone(), users.collect())
}

fn is_on_disk(server: &Server, bucket: &str) -> bool {
    server.data_dir.join("buckets").join(bucket).exists()
}

fn has_bucket(server: &Server, bucket: &str) -> bool {
    let all = server.call("/api/v1/admin/storage/list-buckets", &[]);
    let listed = all[bucket].is_object();
    assert_eq!(listed, is_on_disk(server, bucket), "{bucket}: {all}");
    listed
}

#[test]
fn a_report_tells_where_each_bucket_is_and_who_uses_it() {
    let mut hub = hub();
    let (east, west) = (
        member(),
        Server::start_prepared(|data_dir| {
            configure(data_dir, |config| {
                // Copies of the server itself may lie in a bucket, too.
                let mut copies = encke_api::types::SelfBackupTarget::default();
                copies.location.destination_type = 1003;
                copies.location.comet_bucket = "copies".into();
                config.self_backup.targets.push(copies);
            });
        }),
    );
    ok(&set(&hub, false, &[target(&east, "East"), target(&west, "West")]));
    for (server, bucket) in [
        (&hub, "at-the-hub"),
        (&hub, "copies"),
        (&hub, "lonely"),
        (&east, "twin"),
        (&west, "twin"),
        (&west, "part"),
    ] {
        add_bucket(server, bucket);
    }
    add_user(&east, "anna");
    add_user(&west, "anna");
    add_user(&hub, "carl");
    let spanned = json!({ "Description": "Both", "DestinationType": 1006, "SpanTargets": [
        vault(&west.url, "part"), vault("http://another.name/", "twin") ] });
    set_vaults(&west, "anna", &json!({ "v": spanned }));
    set_vaults(&east, "anna", &json!({ "v": vault(&hub.url, "at-the-hub") }));
    let strays = json!({
        "gone": vault(&east.url, "gone"), "far": vault("https://far.example/", "far-away"),
        "mine": vault(&hub.url, "at-the-hub"),
    });
    set_vaults(&hub, "carl", &strays);

    let empty = hub.call("/api/v1/admin/constellation/last-report", &[]);
    assert_eq!((&empty["CheckStarted"], &empty["Usage"]), (&json!(0), &json!({})));
    let report = new_report(&hub);
    let user = |server: i64, name: &str| (server, name.to_string());
    assert_eq!(
        usage(&report, "at-the-hub"),
        (json!([0]), vec![user(0, "carl"), user(1, "anna")])
    );
    assert_eq!(usage(&report, "twin"), (json!([1, 2]), vec![user(2, "anna")]));
    assert_eq!(usage(&report, "part"), (json!([2]), vec![user(2, "anna")]));
    // Of the settings, not of an account.
    assert_eq!(usage(&report, "copies"), (json!([0]), vec![user(2, "")]));
    assert_eq!(usage(&report, "lonely"), (json!([0]), vec![]));
    assert_eq!(usage(&report, "gone"), (json!([]), vec![user(0, "carl")]));
    assert!(report["CheckCompleted"].as_i64() >= report["CheckStarted"].as_i64());

    let more = details(&hub);
    let outside: Vec<_> = more["Report"]["Outside"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| {
            (
                o["BucketID"].as_str().unwrap(),
                o["IsKnownServer"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(outside, [("far-away", false), ("gone", true)], "{more}");
    assert_eq!(more["Report"]["Problems"], json!([]));
    assert_eq!(more["Report"]["Servers"][1]["Accounts"], 1);

    let status = hub.call("/api/v1/admin/constellation/status", &[]);
    assert_eq!(status["Targets"], json!([hub.url, east.url, west.url]));
    assert_eq!(status["TargetNames"], json!(["Encke", "East", "West"]));
    assert_eq!(status["DeletionEnabled"], false);
    assert_eq!(status["Stats"]["TotalChecksStarted"], 1, "{status}");
    assert_eq!(status["Stats"]["LastCheckStart"], report["CheckStarted"]);

    hub.stop();
    hub.restart();
    let kept = hub.call("/api/v1/admin/constellation/last-report", &[]);
    assert_eq!(kept, report);
}

#[test]
fn unused_buckets_are_deleted_on_every_server_and_no_others() {
    let hub = hub();
    let (east, west) = (member(), member());
    ok(&set(&hub, false, &[target(&east, "East"), target(&west, "West")]));
    for server in [&hub, &east, &west] {
        add_bucket(server, "old-copies");
        add_user(server, "somebody");
    }
    add_bucket(&east, "used");
    add_bucket(&hub, "alone");
    set_vaults(&west, "somebody", &json!({ "v": vault(&east.url, "used") }));
    new_report(&hub);
    assert!(has_bucket(&hub, "alone"), "a report deletes nothing");

    ok(&prune(&hub));
    for server in [&hub, &east, &west] {
        assert!(!has_bucket(server, "old-copies"));
    }
    assert!(!has_bucket(&hub, "alone"));
    assert!(has_bucket(&east, "used"));
    let status = hub.call("/api/v1/admin/constellation/status", &[]);
    assert_eq!(status["Stats"]["TotalBucketsDeleted"], 2, "{status}");
    let last = &details(&hub)["LastPrune"];
    assert_eq!(
        (&last["Actor"], &last["Deleted"], &last["Error"]),
        (&json!("admin"), &json!(["alone", "old-copies"]), &json!(""))
    );
    let report = hub.call("/api/v1/admin/constellation/last-report", &[]);
    assert!(report["Usage"]["alone"].is_null(), "{report}");

    // Who did it is told here and there.
    let deeds = |server: &Server| {
        let fields = [("Kind", "bucket"), ("Action", "remove")];
        let answer = server.call("/api/encke/v1/audit/list", &fields);
        answer["Deeds"].as_array().unwrap().clone()
    };
    let here = deeds(&hub);
    assert_eq!(here.len(), 4, "{here:?}");
    assert!(here.iter().all(|d| d["Actor"] == "admin"), "{here:?}");
    let there = here
        .iter()
        .filter(|d| d["Differences"].to_string().contains(&east.url))
        .count();
    assert_eq!(there, 1, "{here:?}");
    assert_eq!(deeds(&east)[0]["ResourceID"], "old-copies");

    // A vault that is deleted with its account frees the bucket.
    ok(&west.call("/api/v1/admin/delete-user", &[("TargetUser", "somebody")]));
    let lost = prune(&hub);
    assert_eq!(lost["Status"], 409, "no accounts where there were some: {lost}");
    assert!(has_bucket(&east, "used"));
    add_user(&west, "another");
    ok(&prune(&hub));
    assert!(!has_bucket(&east, "used"));
}

#[test]
fn nothing_is_deleted_while_a_server_does_not_tell_everything() {
    let mut hub = Server::start_prepared(|data_dir| {
        prepare(data_dir, "0");
        set_environment(data_dir, "ENCKE_CONSTELLATION_EVERY_SECONDS", "1");
    });
    let mut west = member();
    add_bucket(&hub, "theirs");
    add_bucket(&hub, "nobodys");
    add_user(&west, "anna");
    set_vaults(&west, "anna", &json!({ "v": vault(&hub.url, "theirs") }));
    let refused = |hub: &Server, why: &str| {
        let answer = prune(hub);
        assert_eq!(answer["Status"], 409, "{why}: {answer}");
        let message = answer["Message"].as_str().unwrap();
        assert!(
            message.starts_with("Nothing was deleted: West: "),
            "{why}: {message}"
        );
        assert!(message.contains(why), "{why}: {message}");
        assert!(has_bucket(hub, "theirs") && has_bucket(hub, "nobodys"), "{why}");
    };

    // No way in, and no way to see all: each with deletions by itself on.
    let right = target(&west, "West");
    let wrong = |name: &str, value: &str| {
        let mut server = right.clone();
        server[name] = json!(value);
        server
    };
    ok(&set(&hub, true, &[wrong("Password", "wrong")]));
    refused(&hub, "password is wrong");
    ok(&set(&hub, true, &[wrong("RemoteAddress", "http://127.0.0.1:9")]));
    refused(&hub, "can not be reached");
    let organization = json!({ "Name": "North" }).to_string();
    let fields = [
        ("OrganizationID", "north"),
        ("Organization", organization.as_str()),
    ];
    ok(&west.call("/api/v1/admin/organization/set", &fields));
    for (name, organization) in [("blind", ""), ("of-north", "north")] {
        let fields = [
            ("TargetUser", name),
            ("TargetPassword", PASSWORD),
            ("TargetOrgID", organization),
        ];
        ok(&west.call("/api/v1/admin/admin-user/new", &fields));
    }
    west.stop();
    configure(&west.data_dir, |config| {
        config.organizations.get_mut("north").unwrap().hosts = vec!["localhost".into()];
        let blind = config
            .admin_users
            .iter_mut()
            .find(|a| a.username == "blind")
            .unwrap();
        blind.permissions.prevent_edit_server_settings = true;
    });
    // While it is away, and then back without its accounts.
    ok(&set(&hub, true, &[target(&west, "West")]));
    refused(&hub, "can not be reached");
    west.restart_here();
    let mut blind = wrong("Username", "blind");
    blind["Password"] = json!(PASSWORD);
    ok(&set(&hub, true, &[blind]));
    refused(&hub, "does not show its settings");
    let mut north = wrong("Username", "of-north");
    north["Password"] = json!(PASSWORD);
    north["RemoteAddress"] = json!(west.url.replace("127.0.0.1", "localhost"));
    ok(&set(&hub, true, &[north]));
    refused(&hub, "its tenant 'north' alone");
    let checks = |hub: &Server| {
        let status = hub.call("/api/v1/admin/constellation/status", &[]);
        status["Stats"]["TotalChecksStarted"].as_i64().unwrap()
    };
    let before = checks(&hub);
    until("checks that nobody asked for", || {
        (checks(&hub) > before + 3).then_some(())
    });
    assert!(has_bucket(&hub, "theirs") && has_bucket(&hub, "nobodys"));
    let seen = details(&hub);
    assert!(
        seen["LastPrune"]["Error"].as_str().unwrap().contains("north"),
        "{seen}"
    );

    // All is known: what is unused goes by itself, and the crash of this server in between changes nothing.
    hub.kill();
    hub.restart();
    ok(&set(&hub, true, &[target(&west, "West")]));
    let last = until("the unused bucket to go by itself", || {
        let last = details(&hub)["LastPrune"].clone();
        (last["Count"] == 1).then_some(last)
    });
    assert_eq!(
        (&last["Actor"], &last["Error"], &last["Deleted"]),
        (&json!(""), &json!(""), &json!(["nobodys"]))
    );
    assert!(!has_bucket(&hub, "nobodys"));
    assert!(has_bucket(&hub, "theirs"));

    // A role that is switched off hides the accounts; they are there nevertheless.
    west.stop();
    configure(&west.data_dir, |config| {
        config.authentication_role.role_enabled = false;
    });
    west.restart_here();
    let answer = prune(&hub);
    assert_eq!(answer["Status"], 409, "{answer}");
    let message = answer["Message"].as_str().unwrap();
    assert!(
        message.contains("had accounts before and shows none now"),
        "{message}"
    );
    let before = checks(&hub);
    until("more checks", || (checks(&hub) > before + 3).then_some(()));
    assert!(has_bucket(&hub, "theirs"));
}

#[test]
fn a_bucket_that_comes_into_use_before_its_turn_stays() {
    let hub = hub();
    // A server that shows a vault only when it is asked for the second time, as if it was saved in between.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    let url = serve(move |got| {
        let answer = match got.path.trim_start_matches("/api/v1/admin/") {
            "account/session-start" => json!({ "Status": 200, "SessionKey": "k" }),
            "meta/version" => {
                json!({ "AuthenticationRole": true, "StorageRole": false, "ServerStartHash": "other",
                "CurrentTime": 1 })
            }
            "account/properties" => json!({ "OrganizationID": "" }),
            "meta/server-config/get" => json!({}),
            "list-users-full" => {
                let nobody = json!({ "late": { "Destinations": {} } });
                let late = json!({ "late": { "Destinations": { "v": vault("x", "in-time") } } });
                match counted.fetch_add(1, Ordering::SeqCst) {
                    _ if breaks.load(Ordering::SeqCst) => {
                        // Breaks off in the middle.
                        return (200, r#"{"late": {"Destinations": {}"#.into());
                    }
                    0 => nobody,
                    _ => late,
                }
            }
            other => json!({ "Status": 404, "Message": other }),
        };
        (200, answer.to_string())
    });
    let other = json!({ "Type": "comet", "Description": "Other", "RemoteAddress": url, "Username": "a",
        "Password": "b" });
    ok(&set(&hub, false, &[other]));
    add_bucket(&hub, "in-time");
    add_bucket(&hub, "never");
    ok(&prune(&hub));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(has_bucket(&hub, "in-time"));
    assert!(!has_bucket(&hub, "never"));

    add_bucket(&hub, "never");
    broken.store(true, Ordering::SeqCst);
    let answer = prune(&hub);
    assert_eq!(answer["Status"], 409, "a list that breaks off is none: {answer}");
    assert!(has_bucket(&hub, "never"));
}

#[test]
fn a_new_bucket_waits_for_its_vault() {
    let hub = Server::start_prepared(|data_dir| prepare(data_dir, "3600"));
    add_bucket(&hub, "fresh");
    ok(&prune(&hub));
    assert!(has_bucket(&hub, "fresh"));
    let last = &details(&hub)["LastPrune"];
    assert_eq!(
        (&last["Count"], &last["Waiting"]),
        (&json!(0), &json!(1)),
        "{last}"
    );
}

#[test]
fn settings_are_checked_and_their_passwords_never_shown() {
    let hub = hub();
    let east = member();
    let right = target(&east, "East");
    let with = |name: &str, value: Value| {
        let mut server = right.clone();
        server[name] = value;
        server
    };
    for (servers, expected) in [
        (vec![with("Type", json!("b2"))], "Servers 'East': Type 'b2'"),
        (vec![with("RemoteAddress", json!("east"))], "RemoteAddress is not"),
        (vec![with("Username", json!(""))], "needs Username and Password"),
        (vec![with("Password", json!(""))], "needs Username and Password"),
        (
            vec![right.clone(), with("Description", json!("Again"))],
            "'Again' is named twice",
        ),
        (vec![with("Password", json!("********"))], "give Password again"),
    ] {
        let answer = set(&hub, false, &servers);
        assert_eq!(answer["Status"], 400, "{answer}");
        assert!(
            answer["Message"].as_str().unwrap().contains(expected),
            "{expected}: {answer}"
        );
    }
    assert_eq!(hub.call(GET, &[])["Servers"], json!([]));

    ok(&set(&hub, true, std::slice::from_ref(&right)));
    let kept = hub.call(GET, &[]);
    assert_eq!(kept["Servers"][0]["Password"], "********", "{kept}");
    let config = hub.call("/api/v1/admin/meta/server-config/get", &[]);
    assert_eq!(config["ConstellationRole"], kept);
    // What comes back as it was shown stays; for another address it would be given away.
    ok(&set(&hub, true, &[with("Password", json!("********"))]));
    new_report(&hub);
    assert_eq!(details(&hub)["Report"]["Problems"], json!([]));
    let mut moved = with("Password", json!("********"));
    moved["RemoteAddress"] = json!("http://127.0.0.1:9");
    assert_eq!(set(&hub, true, &[moved])["Status"], 400);
    let deeds = hub.call("/api/encke/v1/audit/list", &[("Kind", "settings")]);
    let text = deeds.to_string();
    assert!(
        text.contains("DeleteUnusedData") && text.contains(&east.url),
        "{text}"
    );
    assert!(!text.contains("wrapped") && text.contains("***"), "{text}");
    // As part of the whole document, too: the restart keeps what was obscured.
    let wrong = json!([with("Type", json!("aws"))]);
    let mut document = config.clone();
    document["ConstellationRole"]["Servers"] = wrong;
    let answer = hub.call(
        "/api/v1/admin/meta/server-config/set",
        &[("Config", &document.to_string())],
    );
    assert_eq!(answer["Status"], 400, "{answer}");
    assert!(
        answer["Message"]
            .as_str()
            .unwrap()
            .starts_with("ConstellationRole.Servers"),
        "{answer}"
    );

    let version = hub.call("/api/v1/admin/meta/version", &[]);
    assert_eq!(
        (&version["ConstellationRole"], &version["OverseerRole"]),
        (&json!(true), &json!(true))
    );
    let version = east.call("/api/v1/admin/meta/version", &[]);
    assert_eq!(
        (&version["ConstellationRole"], &version["OverseerRole"]),
        (&json!(false), &json!(false))
    );
    let off = east.call("/api/v1/admin/constellation/new-report", &[]);
    assert_eq!(off["Status"], 403);
    assert!(off["Message"].as_str().unwrap().contains("switched off"), "{off}");
}

#[test]
fn tenants_see_their_own_and_delete_nothing() {
    let mut hub = hub();
    let east = member();
    ok(&set(&hub, false, &[target(&east, "East")]));
    let organization = json!({ "Name": "North", "Hosts": ["north.test"] }).to_string();
    let fields = [
        ("OrganizationID", "north"),
        ("Organization", organization.as_str()),
    ];
    ok(&hub.call("/api/v1/admin/organization/set", &fields));
    for (name, tenant) in [("boss", "north"), ("denied", "")] {
        let fields = [
            ("TargetUser", name),
            ("TargetPassword", PASSWORD),
            ("TargetOrgID", tenant),
        ];
        ok(&hub.call("/api/v1/admin/admin-user/new", &fields));
    }
    hub.stop();
    configure(&hub.data_dir, |config| {
        let denied = config
            .admin_users
            .iter_mut()
            .find(|a| a.username == "denied")
            .unwrap();
        denied.permissions.deny_constellation_role = true;
    });
    hub.restart();
    let fields = [
        ("TargetUser", "nora"),
        ("TargetPassword", PASSWORD),
        ("TargetOrganization", "north"),
    ];
    ok(&hub.call("/api/v1/admin/add-user", &fields));
    add_user(&hub, "topmost");
    add_bucket(&hub, "of-the-top");
    add_bucket(&hub, "shared");
    let fields = [("SetBucketValue", "of-north"), ("SetOrganizationID", "north")];
    ok(&hub.call("/api/v1/admin/storage/register-bucket", &fields));
    set_vaults(&hub, "nora", &json!({ "v": vault(&hub.url, "shared") }));
    set_vaults(
        &hub,
        "topmost",
        &json!({ "v": vault(&hub.url, "shared"), "w": vault(&hub.url, "of-north") }),
    );
    let boss = |path: &str| {
        let fields = [
            ("Username", "boss"),
            ("AuthType", "Password"),
            ("Password", PASSWORD),
        ];
        hub.post_to_host("north.test", path, &fields)
    };
    let seen = boss("/api/v1/admin/constellation/new-report");
    let names: Vec<_> = seen["Usage"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["of-north", "shared"], "{seen}");
    assert_eq!(usage(&seen, "of-north"), (json!([0]), vec![(0, String::new())]));
    assert_eq!(
        usage(&seen, "shared"),
        (json!([]), vec![(0, "nora".into()), (0, String::new())])
    );
    let status = boss("/api/v1/admin/constellation/status");
    assert_eq!(status["Targets"], json!([hub.url]), "{status}");
    for path in [
        "/api/v1/admin/constellation/prune-now",
        GET,
        SET,
        "/api/encke/v1/constellation/details",
    ] {
        assert_eq!(boss(path)["Status"], 403, "{path}");
    }
    for path in [
        "/api/v1/admin/constellation/prune-now",
        "/api/v1/admin/constellation/last-report",
        "/api/encke/v1/constellation/details",
        GET,
    ] {
        let fields = [
            ("Username", "denied"),
            ("AuthType", "Password"),
            ("Password", PASSWORD),
        ];
        assert_eq!(hub.post(path, &fields)["Status"], 403, "{path}");
    }
    assert!(has_bucket(&hub, "of-the-top"));
}
