//! The API as its callers meet it: a real server, HTTP, and the rules that the official SDKs rely on.

use crate::support::{ADMIN, Server, code, http};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

const USER: &str = "alice";
const PASSWORD: &str = "a good password";

fn with_user() -> Server {
    let server = Server::start();
    let added = server.call(
        "/api/v1/admin/add-user",
        &[("TargetUser", USER), ("TargetPassword", PASSWORD)],
    );
    assert_eq!(added["Status"], 200, "{added}");
    server
}

fn as_user<'a>(extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        ("Username", USER),
        ("AuthType", "Password"),
        ("Password", PASSWORD),
    ];
    fields.extend_from_slice(extra);
    fields
}

/// Sends a request byte for byte and answers everything that comes back.
fn raw(server: &Server, request: &str) -> String {
    let mut socket = std::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_guides_example_answers_the_names_of_all_accounts() {
    let server = with_user();
    let body = "Username=admin&AuthType=Password&Password=admin";
    // As curl, PHP, PowerShell, VBScript and Go send it.
    let answer = raw(
        &server,
        &format!(
            "POST /api/v1/admin/list-users HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n[\"alice\"]"), "{answer}");
    let curl = Command::new("curl")
        .args([
            "-s",
            "-X",
            "POST",
            "-d",
            body,
            &format!("{}/api/v1/admin/list-users", server.url),
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(curl.stdout).unwrap(), "[\"alice\"]");
}

#[test]
fn the_first_administrator_is_made_once() {
    let server = Server::start();
    let again = [("TargetUser", "mallory"), ("TargetPassword", "whatever")];
    assert_eq!(
        server.post("/api/v1/admin/add-first-admin-user", &again)["Status"],
        403
    );
    let properties = http()
        .get(format!("{}/gen/branding.props", server.url))
        .call()
        .unwrap();
    let text = properties.into_body().read_to_string().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap()["ServerIsEmpty"],
        false
    );
    // One SDK asks by POST, with its credentials.
    assert_eq!(server.call("/gen/branding.props", &[])["ServerIsEmpty"], false);
}

#[test]
fn wrong_credentials_learn_nothing() {
    let server = with_user();
    for fields in [
        vec![
            ("Username", "admin"),
            ("AuthType", "Password"),
            ("Password", "wrong"),
        ],
        vec![
            ("Username", "nobody"),
            ("AuthType", "Password"),
            ("Password", "admin"),
        ],
        vec![
            ("Username", "admin"),
            ("AuthType", "SessionKey"),
            ("SessionKey", "0123"),
        ],
        vec![
            ("Username", "admin"),
            ("AuthType", "Magic"),
            ("Password", "admin"),
        ],
        // A user is no administrator, whatever the password.
        as_user(&[]),
        vec![("Username", "admin")],
    ] {
        let answer = server.post("/api/v1/admin/list-users", &fields);
        assert_eq!(
            answer,
            json!({ "Status": 403, "Message": "Unauthorised" }),
            "{fields:?}"
        );
    }
}

#[test]
fn failed_log_ins_are_slowed_down() {
    let server = with_user();
    let wrong = [
        ("Username", USER),
        ("AuthType", "Password"),
        ("Password", "wrong password"),
    ];
    let path = "/api/v1/user/web/get-user-profile-and-hash";
    let statuses: Vec<i64> = (0..12)
        .map(|_| server.post(path, &wrong)["Status"].as_i64().unwrap())
        .collect();
    assert!(statuses.starts_with(&[403; 10]), "{statuses:?}");
    assert_eq!(statuses[11], 429, "{statuses:?}");
    // Another account is not held up.
    assert!(server.call("/api/v1/admin/list-users", &[]).is_array());
}

#[test]
fn sessions_start_work_and_end() {
    let server = with_user();
    let started = server.call("/api/v1/admin/account/session-start", &[]);
    assert_eq!(started["SessionType"], "admin");
    let key = started["SessionKey"].as_str().unwrap();
    let session = [
        ("Username", "admin"),
        ("AuthType", "SessionKey"),
        ("SessionKey", key),
    ];
    assert_eq!(server.post("/api/v1/admin/list-users", &session), json!([USER]));
    let as_user_key = server.call(
        "/api/v1/admin/account/session-start-as-user",
        &[("TargetUser", USER)],
    );
    let user_key = as_user_key["SessionKey"].as_str().unwrap();
    // The key tells who is calling, whatever name comes with it.
    let user_session = [
        ("Username", "admin"),
        ("AuthType", "SessionKey"),
        ("SessionKey", user_key),
    ];
    let profile = server.post("/api/v1/user/web/get-user-profile-and-hash", &user_session);
    assert_eq!(profile["Profile"]["Username"], USER);
    assert_eq!(
        server.post("/api/v1/admin/list-users", &user_session)["Status"],
        403
    );
    assert_eq!(
        server.post("/api/v1/admin/account/session-revoke", &session)["Status"],
        200
    );
    assert_eq!(server.post("/api/v1/admin/list-users", &session)["Status"], 403);
    for (fields, kind) in [
        (
            vec![
                ("Username", "admin"),
                ("AuthType", "Password"),
                ("Password", "admin"),
            ],
            "admin",
        ),
        (as_user(&[]), "user"),
    ] {
        assert_eq!(
            server.post("/api/v1/hybrid/session/start", &fields)["SessionType"],
            kind
        );
    }
    assert_eq!(
        server.post("/api/v1/user/web/session/start", &as_user(&[]))["SessionType"],
        "user"
    );
}

#[test]
fn a_session_outlives_a_restart() {
    let mut server = Server::start();
    let started = server.call("/api/v1/admin/account/session-start", &[]);
    let key = started["SessionKey"].as_str().unwrap().to_string();
    server.kill();
    server.restart();
    let session = [
        ("Username", "admin"),
        ("AuthType", "SessionKey"),
        ("SessionKey", key.as_str()),
    ];
    assert_eq!(server.post("/api/v1/admin/list-users", &session), json!([]));
}

#[test]
fn a_missing_second_factor_is_status_449_and_a_code_works_once() {
    let server = Server::start();
    let made = server.call("/api/v1/admin/account/regenerate-totp", &[]);
    assert!(
        made["Image"]
            .as_str()
            .unwrap()
            .starts_with("data:image/png;base64,")
    );
    let url = made["URL"].as_str().unwrap();
    let secret = url
        .split("secret=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_string();
    let proof = server.call(
        "/api/v1/admin/account/validate-totp",
        &[("TOTPCode", &code(&secret, 1))],
    );
    assert_eq!(proof["Status"], 200, "{proof}");
    let security = json!({ "AllowPasswordLogin": false, "AllowPasswordAndTOTPLogin": true }).to_string();
    let set = server.call("/api/v1/admin/account/set-properties", &[("Security", &security)]);
    assert_eq!(set["Status"], 200, "{set}");
    let password = [
        ("Username", "admin"),
        ("AuthType", "Password"),
        ("Password", "admin"),
    ];
    let mut refused = http()
        .post(format!("{}/api/v1/admin/list-users", server.url))
        .send_form(password)
        .unwrap();
    assert_eq!(refused.status().as_u16(), 449);
    assert_eq!(refused.headers()["x-comet-totp-requested"], "1");
    let body: Value = serde_json::from_str(&refused.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(body, json!({ "Status": 449, "Message": "ERR_TOTP_REQUIRED" }));
    // A wrong password does not tell that there is a second factor.
    let wrong = [
        ("Username", "admin"),
        ("AuthType", "Password"),
        ("Password", "wrong"),
    ];
    assert_eq!(server.post("/api/v1/admin/list-users", &wrong)["Status"], 403);
    let now = code(&secret, 0);
    let with_code = [
        ("Username", "admin"),
        ("AuthType", "PasswordTOTP"),
        ("Password", "admin"),
        ("TOTP", now.as_str()),
    ];
    assert_eq!(server.post("/api/v1/admin/list-users", &with_code), json!([]));
    assert_eq!(
        server.post("/api/v1/admin/list-users", &with_code)["Status"],
        403,
        "the code was used before"
    );
}

#[test]
fn an_account_lives_and_dies() {
    let server = with_user();
    let twice = server.call(
        "/api/v1/admin/add-user",
        &[("TargetUser", USER), ("TargetPassword", PASSWORD)],
    );
    assert_eq!(twice["Status"], 409, "{twice}");
    for (name, password) in [
        ("", "long enough"),
        ("a b", "long enough"),
        ("bob", "short"),
        ("bob", "two\nlines!"),
    ] {
        let bad = server.call(
            "/api/v1/admin/add-user",
            &[("TargetUser", name), ("TargetPassword", password)],
        );
        assert_eq!(bad["Status"], 400, "{name:?} {password:?}: {bad}");
    }
    let whole = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    assert_eq!(whole["Username"], USER);
    assert_eq!(whole["Destinations"], json!({}));
    let full = server.call("/api/v1/admin/list-users-full", &[]);
    assert_eq!(full[USER], whole);
    let other = json!({ "PasswordFormat": 0, "PasswordHash": "from a profile", "AccountName": "Bob B.", "XFuture": {"a": [1]} });
    let fields = [("TargetUser", "bob"), ("ProfileData", &other.to_string())];
    assert_eq!(
        server.call("/api/v1/admin/add-user-from-profile", &fields)["Status"],
        200
    );
    let bob = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "bob")]);
    assert_eq!(
        (&bob["AccountName"], &bob["XFuture"]),
        (&json!("Bob B."), &json!({"a": [1]}))
    );
    let sign_in = [
        ("Username", "bob"),
        ("AuthType", "Password"),
        ("Password", "from a profile"),
    ];
    assert_eq!(
        server.post("/api/v1/hybrid/session/start", &sign_in)["Status"],
        200
    );
    assert_eq!(
        server.call("/api/v1/admin/delete-user", &[("TargetUser", "bob")])["Status"],
        200
    );
    assert_eq!(server.call("/api/v1/admin/list-users", &[]), json!([USER]));
    let gone = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "bob")]);
    assert_eq!(gone, json!({ "Status": 400, "Message": "User not found" }));
}

#[test]
fn ten_writers_of_one_profile_lose_nothing() {
    let server = with_user();
    thread::scope(|scope| {
        for writer in 0..10 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..5 {
                    loop {
                        let got =
                            server.call("/api/v1/admin/get-user-profile-and-hash", &[("TargetUser", USER)]);
                        let mut profile = got["Profile"].clone();
                        profile["Emails"]
                            .as_array_mut()
                            .unwrap()
                            .push(json!(format!("{writer}-{round}@x")));
                        let text = profile.to_string();
                        let fields = [
                            ("TargetUser", USER),
                            ("ProfileData", text.as_str()),
                            ("RequireHash", got["ProfileHash"].as_str().unwrap()),
                        ];
                        let saved = server.call("/api/v1/admin/set-user-profile-hash", &fields);
                        match saved["Status"].as_i64() {
                            Some(200) => break,
                            Some(409) => {}
                            _ => panic!("{saved}"),
                        }
                    }
                }
            });
        }
    });
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    assert_eq!(profile["Emails"].as_array().unwrap().len(), 50);
}

#[test]
fn an_edit_can_not_take_over_identity_password_or_quotas() {
    let server = with_user();
    let path = "/api/v1/user/web/get-user-profile-and-hash";
    let got = server.post(path, &as_user(&[]));
    let hash = got["ProfileHash"].as_str().unwrap();
    let save = |change: &dyn Fn(&mut Value)| {
        let mut profile = got["Profile"].clone();
        change(&mut profile);
        let text = profile.to_string();
        server.post(
            "/api/v1/user/web/set-profile-hash",
            &as_user(&[("ProfileData", &text), ("ProfileHash", hash)]),
        )
    };
    assert_eq!(save(&|p| p["MaximumDevices"] = json!(99))["Status"], 403);
    assert_eq!(
        save(&|p| p["Policy"]["PreventOpenWebUI"] = json!(true))["Status"],
        403
    );
    let renamed = save(&|p| {
        p["Username"] = json!("admin");
        p["PasswordHash"] = json!("encke1$stolen");
        p["AccountName"] = json!("Alice A.");
    });
    assert_eq!(renamed["Status"], 200, "{renamed}");
    assert_eq!(
        (
            &renamed["Profile"]["Username"],
            &renamed["Profile"]["AccountName"]
        ),
        (&json!(USER), &json!("Alice A."))
    );
    assert_eq!(
        server.post("/api/v1/hybrid/session/start", &as_user(&[]))["Status"],
        200
    );
}

#[test]
fn a_suspended_account_can_do_nothing() {
    let server = with_user();
    let key = server.post("/api/v1/user/web/session/start", &as_user(&[]));
    let mut profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    profile["IsSuspended"] = json!(true);
    let saved = server.call(
        "/api/v1/admin/set-user-profile",
        &[("TargetUser", USER), ("ProfileData", &profile.to_string())],
    );
    assert_eq!(saved["Status"], 200, "{saved}");
    let session = [
        ("Username", USER),
        ("AuthType", "SessionKey"),
        ("SessionKey", key["SessionKey"].as_str().unwrap()),
    ];
    assert_eq!(server.post("/api/v1/user/web/get-jobs", &session)["Status"], 403);
    assert_eq!(
        server.post("/api/v1/user/web/session/start", &as_user(&[]))["Status"],
        403
    );
}

#[test]
fn requests_are_read_leniently() {
    let server = with_user();
    // A doubled slash, both spellings of booleans, JSON that was not escaped.
    assert_eq!(server.call("//api/v1/admin/list-users", &[]), json!([USER]));
    for (name, flag) in [("b1", "1"), ("b2", "true")] {
        let fields = [
            ("TargetUser", name),
            ("TargetPassword", PASSWORD),
            ("RequirePasswordChange", flag),
        ];
        assert_eq!(server.call("/api/v1/admin/add-user", &fields)["Status"], 200);
        let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", name)]);
        assert_eq!(profile["RequirePasswordChange"], true, "{flag}");
    }
    let body = "TargetUser=java&ProfileData={\"PasswordFormat\":0,\"PasswordHash\":\"long enough\",\"AccountName\":\"A&B 50%\",\"Sources\":null}\
                &Username=admin&AuthType=Password&Password=admin";
    let answer = http()
        .post(format!("{}/api/v1/admin/add-user-from-profile", server.url))
        .content_type("application/x-www-form-urlencoded")
        .send(body)
        .unwrap()
        .into_body()
        .read_to_string()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&answer).unwrap()["Status"],
        200,
        "{answer}"
    );
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "java")]);
    assert_eq!(
        (&profile["AccountName"], &profile["Sources"]),
        (&json!("A&B 50%"), &json!({}))
    );
}

#[test]
fn bad_requests_get_a_clear_error_and_the_server_goes_on() {
    let server = with_user();
    let missing = server.call("/api/v1/admin/get-user-profile", &[]);
    assert_eq!(
        missing,
        json!({ "Status": 400, "Message": "Missing parameter 'TargetUser'" })
    );
    let json = server.call(
        "/api/v1/admin/set-user-profile",
        &[("TargetUser", USER), ("ProfileData", "{\"Emails\": [")],
    );
    assert_eq!(json["Status"], 400);
    assert!(
        json["Message"]
            .as_str()
            .unwrap()
            .contains("'ProfileData' is not valid JSON"),
        "{json}"
    );
    let wrong_type = server.call(
        "/api/v1/admin/set-user-profile",
        &[
            ("TargetUser", USER),
            ("ProfileData", "{\"MaximumDevices\":\"x\"}"),
        ],
    );
    assert!(
        wrong_type["Message"].as_str().unwrap().contains("MaximumDevices"),
        "{wrong_type}"
    );
    let number = server.call(
        "/api/v1/admin/get-jobs-for-date-range",
        &[("Start", "soon"), ("End", "0")],
    );
    assert_eq!(number["Status"], 400);
    let unknown = http()
        .post(format!("{}/api/v1/admin/nothing", server.url))
        .send_empty()
        .unwrap();
    assert_eq!(unknown.status().as_u16(), 404);
    assert_eq!(
        server.call("/api/v1/admin/meta/psa-config-list/get", &[])["Status"],
        501
    );
    assert_eq!(
        server.post("/api/v1/admin/meta/psa-config-list/get", &[])["Status"],
        403,
        "501 is not for strangers"
    );
    let get = http()
        .get(format!("{}/api/v1/admin/list-users", server.url))
        .call()
        .unwrap();
    assert_eq!(get.status().as_u16(), 405);
    // Larger than any real call.
    let huge = "x".repeat(17 << 20);
    // Cut off in the middle.
    let mut socket = std::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    write!(
        socket,
        "POST /api/v1/admin/list-users HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\nA=x"
    )
    .unwrap();
    drop(socket);
    let too_large = Command::new("sh")
        .args([
            "-c",
            &format!(
                "head -c {} /dev/zero | curl -s --data-binary @- {}/api/v1/admin/list-users",
                huge.len(),
                server.url
            ),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(too_large.stdout).unwrap();
    assert!(text.contains("\"Status\":413"), "{text}");
    assert_eq!(server.call("/api/v1/admin/list-users", &[]), json!([USER]));
}

#[test]
fn messages_come_in_the_language_that_is_asked_for() {
    let server = with_user();
    let ask = |language: &str, path: &str, fields: &[(&str, &str)]| -> Value {
        let all = [("Username", ADMIN), ("AuthType", "Password"), ("Password", ADMIN)];
        let mut answer = http()
            .post(format!("{}/api/v1/admin/{path}", server.url))
            .header("Accept-Language", language)
            .send_form(all.iter().chain(fields).copied())
            .unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    };
    let nowhere = [("TargetID", "nowhere")];
    for (language, message) in [
        // As the SDK for PHP sends it.
        ("es-ES;q=0.9, en;q=0.8, *;q=0.5", "No autorizado"),
        ("de_DE", "Nicht autorisiert"),
        ("fr", "Non autorisé"),
        ("xx, pt-BR;q=0.3", "Não autorizado"),
        ("en, de;q=0.9", "Unauthorised"),
        ("xx", "Unauthorised"),
        ("\t;;q=,=;q=x", "Unauthorised"),
    ] {
        let answer = ask(language, "dispatcher/refetch-profile", &nowhere);
        assert_eq!(answer, json!({ "Status": 403, "Message": message }), "{language}");
    }
    // What stands in a message is not translated, and neither are codes that programs look for.
    let missing = ask("de", "get-user-profile", &[]);
    let message = missing["Message"].as_str().unwrap();
    assert!(
        message.contains("'TargetUser'") && !message.contains("Missing"),
        "{message}"
    );
    assert_eq!(ask("de", "list-users", &[]), json!([USER]));
}

#[test]
fn answers_are_compressed_when_asked() {
    let server = with_user();
    let out = Command::new("sh")
        .args(["-c", &format!(
            "curl -s -H 'Accept-Encoding: gzip' -d 'Username=admin&AuthType=Password&Password=admin&TargetUser={USER}' {}/api/v1/admin/get-user-profile | gzip -dc",
            server.url
        )])
        .output()
        .unwrap();
    let profile: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(profile["Username"], USER);
}

#[test]
fn the_version_tells_restarts_apart() {
    let mut server = Server::start();
    let before = server.call("/api/v1/admin/meta/version", &[]);
    assert_eq!(before["Version"], "25.9.8");
    let clock = before["CurrentTime"].as_u64().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(clock.abs_diff(now) < 60);
    server.stop();
    server.restart();
    let after = server.call("/api/v1/admin/meta/version", &[]);
    assert_ne!(before["ServerStartHash"], after["ServerStartHash"]);
}

#[test]
fn administrators_come_and_go_but_never_the_last() {
    let server = Server::start();
    let fields = [("TargetUser", "second"), ("TargetPassword", "another one")];
    assert_eq!(
        server.call("/api/v1/admin/admin-user/new", &fields)["Status"],
        200
    );
    assert_eq!(
        server.call("/api/v1/admin/admin-user/new", &fields)["Status"],
        409
    );
    let list = server.call("/api/v1/admin/admin-user/list", &[]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert!(
        !list.to_string().contains("encke1$"),
        "no hash leaves the server: {list}"
    );
    let second = [
        ("Username", "second"),
        ("AuthType", "Password"),
        ("Password", "another one"),
    ];
    assert_eq!(server.post("/api/v1/admin/list-users", &second), json!([]));
    assert_eq!(
        server.call("/api/v1/admin/admin-user/delete", &[("TargetUser", "second")])["Status"],
        200
    );
    assert_eq!(server.post("/api/v1/admin/list-users", &second)["Status"], 403);
    assert_eq!(
        server.call("/api/v1/admin/admin-user/delete", &[("TargetUser", "admin")])["Status"],
        400
    );
}

#[test]
fn nothing_acknowledged_is_lost_by_a_crash() {
    let mut server = Server::start();
    for round in 0..3 {
        let acknowledged = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for writer in 0..4 {
                let (acknowledged, server) = (&acknowledged, &server);
                scope.spawn(move || {
                    let http = http();
                    for number in 0.. {
                        let name = format!("u{round}-{writer}-{number}");
                        let fields = [
                            ("Username", ADMIN),
                            ("AuthType", "Password"),
                            ("Password", ADMIN),
                            ("TargetUser", &name),
                            ("TargetPassword", PASSWORD),
                        ];
                        let answer = http
                            .post(format!("{}/api/v1/admin/add-user", server.url))
                            .send_form(fields)
                            .and_then(|mut a| a.body_mut().read_to_string());
                        // The server was killed while this was under way.
                        let Ok(answer) = answer else { break };
                        let answer: Value = serde_json::from_str(&answer).unwrap();
                        assert_eq!(answer["Status"], 200, "{answer}");
                        acknowledged.lock().unwrap().push(name);
                    }
                });
            }
            // In the midst of writing.
            crate::support::device::until("some accounts", || {
                (acknowledged.lock().unwrap().len() >= 12).then_some(())
            });
            let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        server.kill();
        server.restart();
        let names = server.call("/api/v1/admin/list-users", &[]);
        for name in acknowledged.into_inner().unwrap() {
            assert!(names.as_array().unwrap().contains(&json!(name)), "{name} is lost");
        }
    }
}
