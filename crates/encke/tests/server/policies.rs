//! Policies, user groups and shared storage quotas through the front door (reference, sections 8, 9 and 14).

use crate::support::{ADMIN, Server};
use serde_json::{Value, json};

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn add_user(server: &Server, name: &str) {
    let fields = [("TargetUser", name), ("TargetPassword", "long enough")];
    ok(&server.call("/api/v1/admin/add-user", &fields));
}

fn profile(server: &Server, name: &str) -> (Value, String) {
    let answer = server.call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", name)]);
    let hash = ok(&answer)["ProfileHash"].as_str().unwrap().to_string();
    (answer["Profile"].clone(), hash)
}

/// Edits a profile as the administrator; answers what the call answered.
fn edit(server: &Server, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let (mut p, hash) = profile(server, name);
    change(&mut p);
    let fields = [
        ("TargetUser", name),
        ("ProfileData", &p.to_string()),
        ("RequireHash", &hash),
    ];
    server.call("/api/v1/admin/set-user-profile-hash", &fields)
}

/// Edits a profile as its owner.
fn edit_as_user(server: &Server, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let (mut p, hash) = profile(server, name);
    change(&mut p);
    let fields = [
        ("Username", name),
        ("AuthType", "Password"),
        ("Password", "long enough"),
        ("ProfileData", &p.to_string()),
        ("ProfileHash", &hash),
    ];
    server.call("/api/v1/user/web/set-profile-hash", &fields)
}

fn set_policy(server: &Server, id: &str, policy: &Value) -> Value {
    let fields = [("PolicyID", id), ("Policy", &policy.to_string())];
    server.call("/api/v1/admin/policies/set", &fields)
}

#[test]
fn a_policy_lives_and_changes_every_account_under_it() {
    let server = Server::start();
    for user in ["anna", "bert", "carl"] {
        add_user(&server, user);
    }
    let new = json!({ "Description": "Strict", "Policy": { "PreventChangeAccountName": true } });
    let made = server.call("/api/v1/admin/policies/new", &[("Policy", &new.to_string())]);
    assert!(!ok(&made)["PolicyHash"].as_str().unwrap().is_empty());
    let list = server.call("/api/v1/admin/policies/list", &[]);
    let (id, description) = list.as_object().unwrap().iter().next().unwrap();
    assert_eq!(description, "Strict");

    for user in ["anna", "bert"] {
        let saved = edit(&server, user, |p| p["PolicyID"] = json!(id));
        // The effective copy is there at once.
        assert_eq!(ok(&saved)["Profile"]["Policy"]["PreventChangeAccountName"], true);
    }
    let refused = edit_as_user(&server, "anna", |p| p["AccountName"] = json!("Anna"));
    assert_eq!(refused["Status"], 403, "{refused}");

    // An edit of the copy does not last; an edit of the policy reaches every account, and changes their hashes.
    let saved = edit(&server, "bert", |p| {
        p["Policy"]["PreventChangeAccountName"] = json!(false)
    });
    assert_eq!(ok(&saved)["Profile"]["Policy"]["PreventChangeAccountName"], true);
    let (_, before) = profile(&server, "anna");
    let got = server.call("/api/v1/admin/policies/get", &[("PolicyID", id)]);
    let hash = ok(&got)["PolicyHash"].as_str().unwrap().to_string();
    let mut edited = got["Policy"].clone();
    edited["Policy"]["PreventChangeAccountName"] = json!(false);
    edited["Policy"]["UnknownSwitch"] = json!("kept");
    let fields = [
        ("PolicyID", id.as_str()),
        ("Policy", &edited.to_string()),
        ("CheckPolicyHash", &hash),
    ];
    ok(&server.call("/api/v1/admin/policies/set", &fields));
    let (anna, after) = profile(&server, "anna");
    assert_ne!(before, after);
    assert_eq!(anna["Policy"]["UnknownSwitch"], "kept");
    ok(&edit_as_user(&server, "anna", |p| {
        p["AccountName"] = json!("Anna")
    }));
    assert!(profile(&server, "carl").0["Policy"]["UnknownSwitch"].is_null());
    // The same hash a second time is out of date.
    let stale = server.call("/api/v1/admin/policies/set", &fields);
    assert_eq!(stale["Status"], 409, "{stale}");

    ok(&server.call("/api/v1/admin/policies/delete", &[("PolicyID", id)]));
    let (anna, _) = profile(&server, "anna");
    assert_eq!(anna["PolicyID"], "");
    assert_eq!(anna["Policy"]["UnknownSwitch"], "kept");
    let gone = server.call("/api/v1/admin/policies/get", &[("PolicyID", id)]);
    assert_eq!(gone["Status"], 404, "{gone}");
    let unknown = edit(&server, "anna", |p| p["PolicyID"] = json!("nowhere"));
    assert_eq!(unknown["Status"], 400, "{unknown}");
}

#[test]
fn one_policy_is_the_default_of_new_accounts() {
    let server = Server::start();
    for id in ["first", "second"] {
        let policy = json!({ "Description": id, "DefaultUserPolicy": true,
            "Policy": { "ModeAdminResetPassword": 1, "ModeRequireUserResetPassword": 3 } });
        ok(&set_policy(&server, id, &policy));
    }
    let all = server.call("/api/v1/admin/policies/list-full", &[]);
    assert_eq!(all["first"]["DefaultUserPolicy"], false);
    assert_eq!(all["second"]["DefaultUserPolicy"], true);
    add_user(&server, "anna");
    let (anna, _) = profile(&server, "anna");
    assert_eq!(anna["PolicyID"], "second");
    assert_eq!(anna["RequirePasswordChange"], true);
    assert!(
        !anna["PasswordRecovery"].as_str().unwrap().is_empty(),
        "a recovery code by default"
    );
    // Enforced off takes the code away.
    let policy = json!({ "Description": "x", "Policy": { "ModeAdminResetPassword": 4 } });
    ok(&set_policy(&server, "second", &policy));
    assert!(profile(&server, "anna").0.get("PasswordRecovery").is_none());
}

#[test]
fn enforced_settings_come_back_whatever_is_saved() {
    let server = Server::start();
    add_user(&server, "anna");
    let keep_two = json!({ "Mode": 802, "Ranges": [{ "Type": 900, "Jobs": 2 }] });
    let policy = json!({ "Description": "x", "Policy": {
        "ModeScheduleSkipAlreadyRunning": 3, "ModeScheduleLastJobFailDoRetry": 3,
        "ModeLastJobFailDoRetryTime": 7, "ModeLastJobFailDoRetryCount": 2,
        "DefaultStorageVaultRetention": keep_two, "EnforceStorageVaultRetention": true,
        "PreventProtectedItemRetention": true } });
    ok(&set_policy(&server, "p", &policy));
    let saved = edit(&server, "anna", |p| {
        p["PolicyID"] = json!("p");
        p["Destinations"]["v"] =
            json!({ "DestinationType": 1002, "LocalcopyPath": "/v", "DefaultRetention": { "Mode": 801 } });
        p["Sources"]["s"] =
            json!({ "Engine": "engine1/file", "OverrideDestinationRetention": { "v": { "Mode": 801 } } });
        p["BackupRules"]["r"] = json!({ "Source": "s", "Destination": "v" });
    });
    let p = &ok(&saved)["Profile"];
    assert_eq!(p["BackupRules"]["r"]["SkipAlreadyRunning"], true);
    let triggers = &p["BackupRules"]["r"]["EventTriggers"];
    assert_eq!(triggers["OnLastJobFailDoRetry"], true);
    assert_eq!(
        (
            &triggers["LastJobFailDoRetryTime"],
            &triggers["LastJobFailDoRetryCount"]
        ),
        (&json!(7), &json!(2))
    );
    assert_eq!(p["Destinations"]["v"]["DefaultRetention"]["Ranges"][0]["Jobs"], 2);
    assert!(
        p["Sources"]["s"]["OverrideDestinationRetention"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty)
    );
}

#[test]
fn each_of_the_five_states_of_a_setting_does_what_it_says() {
    let server = Server::start();
    // System default, optional and on, optional and off, enforced on, enforced off.
    for (mode, starts_on, enforced) in [
        (0, false, None),
        (1, true, None),
        (2, false, None),
        (3, true, Some(true)),
        (4, false, Some(false)),
    ] {
        let (id, name) = (format!("p{mode}"), format!("user{mode}"));
        let policy = json!({ "Description": id, "DefaultUserPolicy": true, "Policy": {
            "ModeScheduleSkipAlreadyRunning": mode, "ModeAdminResetPassword": mode,
            "ModeRequireUserResetPassword": mode,
            "DefaultSourcesWithOSRestriction": { "home": { "RestrictOS": 0, "SourceConfig": {
                "Engine": "engine1/file", "EngineProps": { "INCLUDE1": "/home" }, "ExistingUserUpdate": false } } },
            "DefaultSourcesBackupRules": { "nightly": { "Source": "home", "Destination": "1100" } } } });
        ok(&set_policy(&server, &id, &policy));
        add_user(&server, &name);
        let (made, _) = profile(&server, &name);
        assert_eq!(made["RequirePasswordChange"] == true, starts_on, "state {mode}");
        let recovery = made
            .get("PasswordRecovery")
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert_eq!(!recovery.is_empty(), starts_on, "state {mode}");
        // A new device gets the policy's item with its rule.
        ok(&edit(&server, &name, |p| {
            p["Destinations"]["v"] =
                json!({ "DestinationType": 1002, "LocalcopyPath": "/v", "CreateTime": 5 });
        }));
        let saved = edit(&server, &name, |p| {
            p["Devices"]["d"] = json!({ "PlatformVersion": { "os": "linux", "arch": "amd64" } });
        });
        let rules = ok(&saved)["Profile"]["BackupRules"].as_object().unwrap();
        let (rule, made) = rules
            .iter()
            .next()
            .unwrap_or_else(|| panic!("state {mode}: {saved}"));
        assert_eq!(made["SkipAlreadyRunning"] == true, starts_on, "state {mode}");
        for wanted in [true, false] {
            let saved = edit(&server, &name, |p| {
                p["BackupRules"][rule]["SkipAlreadyRunning"] = json!(wanted);
            });
            let kept = ok(&saved)["Profile"]["BackupRules"][rule]["SkipAlreadyRunning"] == true;
            assert_eq!(kept, enforced.unwrap_or(wanted), "state {mode}, wanted {wanted}");
        }
    }
    let policy = json!({ "Description": "x", "Policy": { "ModeAdminResetPassword": 5 } });
    assert_eq!(set_policy(&server, "bad", &policy)["Status"], 400);
}

#[test]
fn what_a_policy_forbids_its_users_can_not_do() {
    let server = Server::start();
    add_user(&server, "anna");
    let policy = json!({ "Description": "x", "Policy": {
        "StorageVaultProviders": { "ShouldRestrictProviderList": true, "AllowedProvidersWhenRestricted": [1002] },
        "ProtectedItemEngineTypes": { "ShouldRestrictEngineTypeList": true, "AllowedEngineTypeWhenRestricted": ["engine1/file"] },
        "PreventDeleteProtectedItem": true } });
    ok(&set_policy(&server, "p", &policy));
    ok(&edit(&server, "anna", |p| p["PolicyID"] = json!("p")));
    let refused = |answer: Value| assert_eq!(answer["Status"], 403, "{answer}");
    refused(edit_as_user(&server, "anna", |p| {
        p["Destinations"]["v"] = json!({ "DestinationType": 1000 })
    }));
    ok(&edit_as_user(&server, "anna", |p| {
        p["Destinations"]["v"] = json!({ "DestinationType": 1002, "LocalcopyPath": "/v" })
    }));
    refused(edit_as_user(&server, "anna", |p| {
        p["Destinations"]["v"]["DestinationType"] = json!(1001)
    }));
    refused(edit_as_user(&server, "anna", |p| {
        p["Destinations"]["v"]["StorageLimitEnabled"] = json!(true)
    }));
    refused(edit_as_user(&server, "anna", |p| {
        p["Sources"]["s"] = json!({ "Engine": "engine1/stdout" })
    }));
    ok(&edit_as_user(&server, "anna", |p| {
        p["Sources"]["s"] = json!({ "Engine": "engine1/file" })
    }));
    refused(edit_as_user(&server, "anna", |p| p["Sources"] = json!({})));
    refused(edit_as_user(&server, "anna", |p| p["PolicyID"] = json!("")));
    refused(edit_as_user(&server, "anna", |p| p["GroupID"] = json!("g")));
    refused(edit_as_user(&server, "anna", |p| {
        p["RequirePasswordChange"] = json!(true)
    }));
    let own = [
        ("Username", "anna"),
        ("AuthType", "Password"),
        ("Password", "long enough"),
        ("SourceID", "s"),
    ];
    refused(server.post("/api/v1/user/web/delete-protected-item", &own));
    // The administrator may do all of it.
    ok(&server.call(
        "/api/v1/admin/delete-protected-item",
        &[("TargetUser", "anna"), ("SourceID", "s")],
    ));
}

#[test]
fn linked_items_follow_the_policy_on_every_device() {
    let server = Server::start();
    add_user(&server, "anna");
    let policy = |folder: &str, destination: &str| {
        json!({ "Description": "x", "Policy": {
            "DefaultSourcesWithOSRestriction": {
                "home": { "RestrictOS": 5, "SourceConfig": { "Engine": "engine1/file", "Description": "Home",
                    "EngineProps": { "INCLUDE1": folder }, "ExistingUserUpdate": true } },
                "disk": { "RestrictOS": 1, "SourceConfig": { "Engine": "engine1/windisk", "ExistingUserUpdate": true } } },
            "DefaultSourcesBackupRules": { "nightly": { "Description": "Nightly", "Source": "home", "Destination": destination,
                "Schedules": [{ "FrequencyType": 8011, "SecondsPast": 3600 }] } } } })
    };
    ok(&set_policy(&server, "p", &policy("/home", "1101")));
    let device = |p: &mut Value, id: &str| {
        p["Devices"][id] =
            json!({ "FriendlyName": id, "PlatformVersion": { "os": "linux", "arch": "amd64" } });
    };
    ok(&edit(&server, "anna", |p| {
        p["PolicyID"] = json!("p");
        device(p, "one");
        for vault in ["v1", "v2"] {
            p["Destinations"][vault] =
                json!({ "DestinationType": 1002, "LocalcopyPath": "/v", "CreateTime": 5 });
        }
    }));
    let (p, _) = profile(&server, "anna");
    assert_eq!(p["Sources"].as_object().unwrap().len(), 1);
    let (id, item) = p["Sources"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(
        (&item["OwnerDevice"], &item["PolicySourceID"]),
        (&json!("one"), &json!("home"))
    );
    let targets: Vec<&str> = p["BackupRules"]
        .as_object()
        .unwrap()
        .values()
        .map(|r| {
            assert_eq!(r["Source"], id.as_str());
            r["Destination"].as_str().unwrap()
        })
        .collect();
    assert_eq!(
        {
            let mut t = targets.clone();
            t.sort_unstable();
            t
        },
        ["v1", "v2"]
    );

    // Another folder, one rule only: the same item changes, its rules with it.
    ok(&set_policy(&server, "p", &policy("/home/all", "1100")));
    let (p, _) = profile(&server, "anna");
    assert_eq!(p["Sources"][id]["EngineProps"]["INCLUDE1"], "/home/all");
    assert_eq!(p["BackupRules"].as_object().unwrap().len(), 1);

    // Taken out of the policy it stays, as the user's own; with DeleteSources it goes.
    let empty = json!({ "Description": "x", "Policy": {} });
    ok(&set_policy(&server, "p", &empty));
    let (p, _) = profile(&server, "anna");
    assert_eq!(p["Sources"][id]["ExistingUserUpdate"], false);
    let fields = [
        ("PolicyID", "p"),
        ("Policy", &empty.to_string()),
        ("Options", r#"{"DeleteSources":["home"]}"#),
    ];
    ok(&server.call("/api/v1/admin/policies/set", &fields));
    let (p, _) = profile(&server, "anna");
    assert_eq!((&p["Sources"], &p["BackupRules"]), (&json!({}), &json!({})));
}

#[test]
fn groups_hold_accounts_and_lose_them() {
    let server = Server::start();
    for user in ["anna", "bert", "carl"] {
        add_user(&server, user);
    }
    let made = server.call("/api/v1/admin/user-groups/new", &[("Name", "Office")]);
    let id = ok(&made)["UserGroupID"].as_str().unwrap().to_string();
    let set = |users: &str| {
        server.call(
            "/api/v1/admin/user-groups/set-users-for-group",
            &[("GroupID", &id), ("Users", users)],
        )
    };
    ok(&set(r#"["anna","bert"]"#));
    assert_eq!(set(r#"["anna","nobody"]"#)["Status"], 400);
    let get = |more: &str| {
        server.call(
            "/api/v1/admin/user-groups/get",
            &[("GroupID", &id), ("IncludeUsers", more)],
        )
    };
    let members = |answer: &Value| {
        answer["Users"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(members(&get("1")), ["anna", "bert"]);
    assert_eq!(members(&get("0")), [] as [&str; 0]);
    ok(&set(r#"["bert","carl"]"#));
    assert_eq!(members(&get("true")), ["bert", "carl"]);
    assert_eq!(profile(&server, "anna").0["GroupID"], "");
    let group = json!({ "Name": "Workshop" });
    ok(&server.call(
        "/api/v1/admin/user-groups/set",
        &[("GroupID", &id), ("Group", &group.to_string())],
    ));
    let all = server.call("/api/v1/admin/user-groups/list-full", &[]);
    assert_eq!(all[&id]["Name"], "Workshop");
    assert!(all[&id]["CreatedAt"].as_i64().unwrap() > 0);
    assert_eq!(
        server.call("/api/v1/admin/user-groups/list", &[]),
        json!({ id.as_str(): "Workshop" })
    );
    let unknown = edit(&server, "anna", |p| p["GroupID"] = json!("nowhere"));
    assert_eq!(unknown["Status"], 400, "{unknown}");
    ok(&server.call("/api/v1/admin/user-groups/delete", &[("GroupID", &id)]));
    assert_eq!(profile(&server, "carl").0["GroupID"], "");
    assert_eq!(get("0")["Status"], 404);
}

#[test]
fn a_shared_quota_counts_the_vaults_under_it() {
    let server = Server::start();
    for user in ["anna", "bert"] {
        add_user(&server, user);
    }
    let quota = json!({ "Description": "Both", "LimitBytes": 1000 });
    let fields = [
        ("SharedStorageQuotaID", "q"),
        ("SharedStorageQuota", &quota.to_string()),
    ];
    let made = server.call("/api/v1/admin/squota/set-with-hash", &fields);
    let hash = ok(&made)["SharedStorageQuotaHash"].as_str().unwrap().to_string();
    for (user, size) in [("anna", 300), ("bert", 450)] {
        ok(&edit(&server, user, |p| {
            p["Destinations"]["v"] = json!({ "DestinationType": 1002, "LocalcopyPath": "/v", "StorageLimitID": "q",
                "Statistics": { "ClientProvidedSize": { "Size": size } } });
        }));
    }
    let get = || {
        server.call(
            "/api/v1/admin/squota/get-with-hash",
            &[("SharedStorageQuotaID", "q")],
        )
    };
    assert_eq!(ok(&get())["CurrentUsage"], 750);
    let mut again = fields.to_vec();
    again.push(("CheckHash", "old"));
    assert_eq!(
        server.call("/api/v1/admin/squota/set-with-hash", &again)["Status"],
        409
    );
    again[2] = ("CheckHash", &hash);
    ok(&server.call("/api/v1/admin/squota/set-with-hash", &again));
    let all = server.call("/api/v1/admin/squota/list-all", &[]);
    assert_eq!(ok(&all)["Entries"]["q"]["LimitBytes"], 1000);
    // An account that goes takes its share along.
    ok(&server.call("/api/v1/admin/delete-user", &[("TargetUser", "bert")]));
    assert_eq!(ok(&get())["CurrentUsage"], 300);
    ok(&server.call("/api/v1/admin/squota/delete", &[("SharedStorageQuotaID", "q")]));
    assert_eq!(
        profile(&server, "anna").0["Destinations"]["v"]["StorageLimitID"],
        ""
    );
    assert_eq!(get()["Status"], 404);
}

#[test]
fn a_policy_change_that_a_crash_cut_short_is_finished_at_the_next_start() {
    let mut server = Server::start();
    for i in 0..40 {
        let name = format!("user{i:02}");
        add_user(&server, &name);
    }
    ok(&set_policy(&server, "p", &json!({ "Description": "x" })));
    for i in 0..40 {
        ok(&edit(&server, &format!("user{i:02}"), |p| {
            p["PolicyID"] = json!("p")
        }));
    }
    // The change is written, then the server dies while it passes it on.
    let (url, fields) = (
        format!("{}/api/v1/admin/policies/set", server.url),
        [
            ("Username", ADMIN),
            ("AuthType", "Password"),
            ("Password", ADMIN),
            ("PolicyID", "p"),
            (
                "Policy",
                r#"{"Description":"x","Policy":{"PreventOpenAppUI":true}}"#,
            ),
        ],
    );
    let caller = std::thread::spawn(move || drop(crate::support::http().post(url).send_form(fields)));
    let changed = |server: &Server| {
        let all = server.call("/api/v1/admin/list-users-full", &[]);
        let all = all.as_object().unwrap();
        all.values()
            .filter(|p| p["Policy"]["PreventOpenAppUI"] == true)
            .count()
    };
    crate::support::device::until("the first account", || (changed(&server) > 0).then_some(()));
    server.kill();
    caller.join().unwrap();
    server.restart();
    crate::support::device::until("all accounts", || (changed(&server) == 40).then_some(()));
}
