//! Every endpoint against callers it must refuse, and the reference made from the same table.

#![allow(clippy::unwrap_used)]

mod support;

use encke_api::endpoint::{Caller, Endpoint, Support};
use serde_json::Value;
use support::Server;

fn table() -> Vec<Endpoint> {
    encke_server::all_routes()
        .into_iter()
        .map(|r| r.endpoint)
        .collect()
}

#[test]
fn every_endpoint_refuses_strangers_and_answers_nonsense_with_an_error() {
    let server = Server::start();
    let user = [("TargetUser", "alice"), ("TargetPassword", "long enough")];
    assert_eq!(server.call("/api/v1/admin/add-user", &user)["Status"], 200);
    let key_of = |answer: Value| answer["SessionKey"].as_str().unwrap().to_string();
    let admin_key = key_of(server.call("/api/v1/admin/account/session-start", &[]));
    let user_key = key_of(server.call(
        "/api/v1/admin/account/session-start-as-user",
        &[("TargetUser", "alice")],
    ));
    for e in table() {
        if e.caller == Caller::Nobody {
            continue;
        }
        let nobody = server.post(e.path, &[]);
        assert_eq!(nobody["Status"], 403, "{}: {nobody}", e.path);
        // A session of the other kind.
        let (name, key) = if e.caller == Caller::User {
            ("admin", &admin_key)
        } else {
            ("alice", &user_key)
        };
        let other = [
            ("Username", name),
            ("AuthType", "SessionKey"),
            ("SessionKey", key.as_str()),
        ];
        if e.caller != Caller::AdminOrUser {
            assert_eq!(server.post(e.path, &other)["Status"], 403, "{}", e.path);
        }
        // Right credentials, each parameter nonsense: an answer, never the server's fault.
        let mut fields = match e.caller {
            Caller::User => vec![
                ("Username", "alice"),
                ("AuthType", "Password"),
                ("Password", "long enough"),
            ],
            _ => vec![
                ("Username", "admin"),
                ("AuthType", "Password"),
                ("Password", "admin"),
            ],
        };
        let required = e.params.iter().any(|p| !p.optional);
        let harmless = required || e.support != Support::Supported;
        if harmless {
            let missing = server.post(e.path, &fields);
            assert!(
                missing["Status"]
                    .as_i64()
                    .is_some_and(|s| (400..=501).contains(&s) && s != 500),
                "{}: {missing}",
                e.path
            );
        }
        if e.support != Support::Supported {
            continue;
        }
        fields.extend(
            e.params
                .iter()
                .filter(|p| p.name != "SessionKey")
                .map(|p| (p.name, "{\"nonsense\": ")),
        );
        let answer = if e.response == "bytes" && e.params.is_empty() {
            continue;
        } else {
            server.post(e.path, &fields)
        };
        assert_ne!(answer["Status"], 500, "{}: {answer}", e.path);
    }
    assert!(server.call("/api/v1/admin/list-users", &[]).is_array());
}

#[test]
fn the_committed_reference_is_not_stale() {
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["admin", "api-reference", "--out"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/api")
            .join(entry.file_name());
        let same = std::fs::read(&committed).unwrap_or_default() == std::fs::read(entry.path()).unwrap();
        assert!(same, "{} is stale; run 'make docs'", committed.display());
    }
}

#[test]
fn the_reference_is_served() {
    let server = Server::start();
    let get = |path: &str| {
        let mut answer = support::http()
            .get(format!("{}{path}", server.url))
            .call()
            .unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_to_string().unwrap(),
        )
    };
    for (path, expected) in [
        ("/docs", "Calling the API"),
        ("/docs/endpoints", "AdminListUsers"),
        ("/docs/endpoints/AdminListUsers", "/api/v1/admin/list-users"),
        ("/docs/types/UserProfileConfig", "AllProtectedItemsQuotaBytes"),
        ("/docs/constants", "SEVT_JOB_NEW"),
        ("/docs/coverage", "not yet"),
        ("/docs/search.js", "ENTRIES"),
        ("/docs/openapi.json", "\"openapi\":\"3.1.0\""),
    ] {
        let (status, text) = get(path);
        assert_eq!(status, 200, "{path}");
        assert!(text.contains(expected), "{path} lacks {expected}");
    }
    assert_eq!(get("/docs/endpoints/Nothing").0, 404);
}
