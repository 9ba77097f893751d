//! Permission flags of administrators through the front door (reference, section 4.4): each flag, the calls it guards,
//! and the answer with and without it.

use crate::support::Server;
use encke_api::types::{AllowedAdminUser, ServerConfigOptions};
use serde_json::{Value, json};
use std::path::Path;

const HOST: &str = "north.test";
const PASSWORD: &str = "a-good-password";

fn configure(data_dir: &Path, change: impl FnOnce(&mut ServerConfigOptions) + Send + 'static) {
    let store = encke_store::Store::open(&data_dir.join("encke.db")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let changed = store.change_config(|config| {
        change(config);
        Ok::<_, encke_store::StoreError>(Vec::new())
    });
    runtime.block_on(changed).unwrap().unwrap();
}

fn admin(name: &str, organization: &str, permissions: &Value) -> AllowedAdminUser {
    let document = json!({
        "Username": name, "OrganizationID": organization, "Password": PASSWORD, "PasswordFormat": 0,
        "AllowPasswordLogin": true, "Permissions": permissions,
    });
    serde_json::from_value(document).unwrap()
}

/// A server with a tenant, and these administrators beside the first.
fn start(admins: Vec<AllowedAdminUser>) -> Server {
    let mut server = Server::start();
    server.stop();
    configure(&server.data_dir, move |config| {
        let north = config.organizations.entry("north".into()).or_default();
        north.hosts.push(HOST.into());
        for role in [
            &mut config.constellation_role.role_enabled,
            &mut config.software_build_role.role_enabled,
        ] {
            *role = true;
        }
        config.admin_users.extend(admins);
    });
    server.restart();
    server
}

fn call(server: &Server, name: &str, host: &str, path: &str, fields: &[(&str, &str)]) -> Value {
    let mut all = vec![
        ("Username", name),
        ("AuthType", "Password"),
        ("Password", PASSWORD),
    ];
    all.extend_from_slice(fields);
    let own = server.url.strip_prefix("http://").unwrap();
    let host = if host.is_empty() { own } else { host };
    server.post_to_host(host, &format!("/api/v1/admin/{path}"), &all)
}

/// Whether the permissions were what refused a call.
fn refused(answer: &Value) -> bool {
    answer["Status"] == 403
        && answer["Message"]
            .as_str()
            .unwrap()
            .starts_with("Your permissions do not allow")
}

/// Flags that take something away, with the calls they guard. Where a call would end the server, it is not made without
/// the flag here.
const DENYING: &[(&str, &[&str])] = &[
    (
        "PreventEditServerSettings",
        &[
            "admin-user/list",
            "admin-user/new",
            "admin-user/delete",
            "meta/server-config/get",
            "meta/server-config/set",
            "meta/server-config/network-interfaces",
            "meta/branding-config/get",
            "meta/branding-config/set",
            "meta/build-config/get",
            "meta/build-config/set",
            "meta/email-options/get",
            "meta/email-options/set",
            "meta/remote-storage-vault/get",
            "meta/remote-storage-vault/set",
            "meta/remote-storage-vault/test",
            "meta/webhook-options/get",
            "meta/webhook-options/set",
            "external-auth-sources/get",
            "external-auth-sources/set",
            "organization/set",
            "organization/delete",
        ],
    ),
    (
        "PreventServerShutdown",
        &["meta/restart-service", "meta/shutdown-service"],
    ),
    (
        "DenyConstellationRole",
        &[
            "constellation/status",
            "constellation/last-report",
            "constellation/new-report",
            "constellation/prune-now",
            "meta/constellation/config/get",
            "meta/constellation/config/set",
        ],
    ),
    ("DenyViewServerHistory", &["meta/stats"]),
    (
        "DenyViewServerInfo",
        &[
            "meta/list-available-log-days",
            "meta/read-logs",
            "meta/read-select-logs",
            "meta/read-all-logs",
            "storage/free-space",
            "storage/ping-destination",
        ],
    ),
    (
        "DenySoftwareBuildRole",
        &[
            "branding/available-platforms",
            "branding/generate-client/linuxgeneric",
            "branding/generate-client/by-platform",
            "dispatcher/update-software",
            "update-campaign/status",
            "meta/build-config/get",
            "meta/build-config/set",
        ],
    ),
    (
        "PreventRequestStorageVault",
        &["request-storage-vault", "request-storage-vault-providers"],
    ),
];

/// Flags that give something to administrators of a tenant.
const GRANTING: &[(&str, &[&str])] = &[
    (
        "AllowEditBranding",
        &["meta/branding-config/get", "meta/branding-config/set"],
    ),
    (
        "AllowEditEmailOptions",
        &[
            "meta/email-options/get",
            "meta/email-options/set",
            "meta/send-test-email",
            "meta/send-test-report",
        ],
    ),
    (
        "AllowEditRemoteStorage",
        &[
            "meta/remote-storage-vault/get",
            "meta/remote-storage-vault/set",
            "meta/remote-storage-vault/test",
        ],
    ),
    (
        "AllowEditWebhooks",
        &["meta/webhook-options/get", "meta/webhook-options/set"],
    ),
    (
        "AllowEditExternalAuthSources",
        &[
            "external-auth-sources/get",
            "external-auth-sources/set",
            "external-auth-sources/new",
            "external-auth-sources/delete",
        ],
    ),
];

/// These answer text, an archive, a program or nothing more.
fn answers_no_json(path: &str) -> bool {
    let names = [
        "read-all-logs",
        "restart-service",
        "shutdown-service",
        "linuxgeneric",
    ];
    names.iter().any(|p| path.ends_with(p))
}

#[test]
fn each_flag_guards_its_calls_and_no_others() {
    let mut admins = vec![admin("free", "", &json!({})), admin("bound", "north", &json!({}))];
    for (flag, _) in DENYING {
        admins.push(admin(flag, "", &json!({ *flag: true })));
    }
    for (flag, _) in GRANTING {
        admins.push(admin(flag, "north", &json!({ *flag: true })));
        admins.push(admin(
            &format!("both {flag}"),
            "north",
            &json!({ *flag: true, "PreventEditServerSettings": true }),
        ));
    }
    let server = start(admins);
    let mut faults = Vec::new();
    let mut expect = |who: &str, host: &str, path: &str, wanted: bool| {
        let answer = call(&server, who, host, path, &[]);
        if refused(&answer) != wanted {
            faults.push(format!("{who} {path}: {answer}"));
        }
    };
    for (flag, calls) in DENYING {
        for path in *calls {
            expect(flag, "", path, true);
            if answers_no_json(path) {
                continue;
            }
            expect("free", "", path, false);
            for (other, theirs) in DENYING.iter().filter(|(other, _)| other != flag) {
                if !theirs.contains(path) {
                    expect(other, "", path, false);
                }
            }
        }
    }
    for (flag, calls) in GRANTING {
        for path in *calls {
            expect("bound", HOST, path, true);
            expect(flag, HOST, path, false);
            expect(&format!("both {flag}"), HOST, path, true);
            for (other, _) in GRANTING.iter().filter(|(other, _)| other != flag) {
                expect(other, HOST, path, true);
            }
            // Nobody has to give it to the top level.
            expect("free", "", path, false);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn edit(server: &Server, who: &str, user: &str, change: impl Fn(&mut Value)) -> Value {
    let fields = [("TargetUser", user)];
    let mut profile = server.call("/api/v1/admin/get-user-profile", &fields);
    change(&mut profile);
    let text = profile.to_string();
    let fields = [("TargetUser", user), ("ProfileData", text.as_str())];
    call(server, who, "", "set-user-profile", &fields)
}

#[test]
fn what_an_administrator_may_do_to_storage_vaults_is_limited() {
    let server = start(vec![
        admin("free", "", &json!({})),
        admin("keeps", "", &json!({ "PreventDeleteStorageVault": true })),
        admin("adds none", "", &json!({ "PreventAddCustomStorageVault": true })),
        admin(
            "adds some",
            "",
            &json!({ "ShouldRestrictProviderList": true, "AllowedProvidersWhenRestricted": [1003] }),
        ),
    ]);
    let fields = [("TargetUser", "una"), ("TargetPassword", PASSWORD)];
    assert_eq!(call(&server, "free", "", "add-user", &fields)["Status"], 200);
    let vault = |kind: u64| json!({ "Description": "x", "DestinationType": kind });
    let add =
        |who: &str, id: &str, kind: u64| edit(&server, who, "una", |p| p["Destinations"][id] = vault(kind));
    let remove = |who: &str, id: &str| {
        edit(&server, who, "una", |p| {
            p["Destinations"].as_object_mut().unwrap().remove(id);
        })
    };
    let ok = |answer: Value| assert_eq!(answer["Status"], 200, "{answer}");
    let no = |answer: Value| assert!(refused(&answer), "{answer}");
    no(add("adds none", "a", 1003));
    no(add("adds some", "a", 1000));
    ok(add("adds some", "a", 1003));
    no(add("adds some", "a", 1000));
    no(add("adds none", "a", 1000));
    ok(add("free", "a", 1000));
    ok(add("keeps", "b", 1000));
    no(remove("keeps", "a"));
    ok(remove("adds none", "a"));
    // What is there may be edited by all, and everything else of the profile.
    for who in ["keeps", "adds none", "adds some"] {
        ok(edit(&server, who, "una", |p| {
            p["Destinations"]["b"]["Description"] = json!(who);
            p["AccountName"] = json!(who);
        }));
    }
    // Whole profiles are no way around.
    let profile = json!({
        "PasswordFormat": 0, "PasswordHash": PASSWORD, "Destinations": { "c": vault(1000) },
    });
    let text = profile.to_string();
    let fields = [("TargetUser", "dua"), ("ProfileData", text.as_str())];
    no(call(&server, "adds none", "", "add-user-from-profile", &fields));
    no(call(&server, "adds some", "", "add-user-from-profile", &fields));
    ok(call(&server, "keeps", "", "add-user-from-profile", &fields));
}

#[test]
fn an_administrator_is_confined_to_some_policies() {
    let server = start(vec![
        admin("free", "", &json!({})),
        admin("one policy", "", &json!({ "AllowedUserPolicies": ["gold"] })),
        admin("no policy", "", &json!({ "AllowedUserPolicies": ["gone"] })),
    ]);
    let ok = |answer: Value| assert_eq!(answer["Status"], 200, "{answer}");
    let no = |answer: Value| assert!(refused(&answer), "{answer}");
    let set = |who: &str, id: &str| {
        let text = json!({ "Description": id }).to_string();
        call(
            &server,
            who,
            "",
            "policies/set",
            &[("PolicyID", id), ("Policy", &text)],
        )
    };
    ok(set("free", "gold"));
    ok(set("free", "silver"));
    no(set("one policy", "silver"));
    ok(set("one policy", "gold"));
    no(call(
        &server,
        "one policy",
        "",
        "policies/delete",
        &[("PolicyID", "silver")],
    ));
    no(call(
        &server,
        "one policy",
        "",
        "policies/new",
        &[("Policy", "{}")],
    ));
    let add = |who: &str, user: &str| {
        let fields = [("TargetUser", user), ("TargetPassword", PASSWORD)];
        call(&server, who, "", "add-user", &fields)
    };
    ok(add("one policy", "una"));
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "una")]);
    assert_eq!(profile["PolicyID"], "gold");
    no(add("no policy", "dua"));
    for policy in ["", "silver"] {
        no(edit(&server, "one policy", "una", |p| {
            p["PolicyID"] = json!(policy)
        }));
        let profile =
            json!({ "PasswordFormat": 0, "PasswordHash": PASSWORD, "PolicyID": policy }).to_string();
        let fields = [("TargetUser", "dua"), ("ProfileData", profile.as_str())];
        no(call(&server, "one policy", "", "add-user-from-profile", &fields));
    }
    ok(add("free", "dua"));
    ok(edit(&server, "one policy", "dua", |p| {
        p["AccountName"] = json!("left under no policy")
    }));
    ok(edit(&server, "one policy", "dua", |p| {
        p["PolicyID"] = json!("gold")
    }));
    ok(edit(&server, "free", "dua", |p| p["PolicyID"] = json!("silver")));
}

#[test]
fn an_address_list_holds_for_passwords_and_sessions() {
    let mut only = admin("at home", "", &json!({}));
    only.ip_whitelist = r"^192\.0\.2\.\d+$".into();
    let mut server = start(vec![only, admin("anywhere", "", &json!({}))]);
    let from = |server: &Server, address: &str, fields: &[(&str, &str)], path: &str| {
        let mut answer = crate::support::http()
            .post(format!("{}/api/v1/admin/{path}", server.url))
            .header("X-Forwarded-For", address)
            .send_form(fields.iter().copied())
            .unwrap();
        let answer = answer.body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let home = [
        ("Username", "at home"),
        ("AuthType", "Password"),
        ("Password", PASSWORD),
    ];
    // What a client says about itself counts only behind a proxy that is trusted.
    assert_eq!(from(&server, "192.0.2.7", &home, "list-users")["Status"], 403);
    server.stop();
    configure(&server.data_dir, |config| config.trust_x_forwarded_for = true);
    server.restart();
    assert!(from(&server, "192.0.2.7", &home, "list-users").is_array());
    assert_eq!(from(&server, "198.51.100.7", &home, "list-users")["Status"], 403);
    let started = from(&server, "192.0.2.7", &home, "account/session-start");
    let key = started["SessionKey"].as_str().unwrap();
    let session = [
        ("Username", "at home"),
        ("AuthType", "SessionKey"),
        ("SessionKey", key),
    ];
    assert!(from(&server, "192.0.2.8", &session, "list-users").is_array());
    assert_eq!(
        from(&server, "198.51.100.7", &session, "list-users")["Status"],
        403
    );
    // Nobody locks out the address the change comes from.
    let set = |list: &str| {
        let security = json!({ "AllowPasswordLogin": true, "IPWhitelist": list }).to_string();
        let mut fields = session.to_vec();
        fields.push(("Security", &security));
        from(&server, "192.0.2.7", &fields, "account/set-properties")["Status"].clone()
    };
    assert_eq!(set("^10\\."), 400);
    assert_eq!(set("("), 400);
    assert_eq!(set(""), 200);
    assert!(from(&server, "198.51.100.7", &session, "list-users").is_array());
}
