//! Second factors of administrators, sessions that wait for one, passwords that must be changed and login protection,
//! through the front door (reference, sections 4 and 23).

use crate::support::authenticator::Authenticator;
use crate::support::{ADMIN, Server, code, http};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

const PAGE: &str = "https://backup.example.org";
const VERSION: &str = "/api/v1/admin/meta/version";
const START: &str = "/api/v1/admin/account/session-start";
const UPGRADE: &str = "/api/v1/admin/account/session-upgrade";

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

/// Status, headers and body of a call.
fn whole(server: &Server, path: &str, fields: &[(&str, &str)]) -> (u16, HashMap<String, String>, Value) {
    let mut answer = http()
        .post(format!("{}{path}", server.url))
        .send_form(fields.iter().copied())
        .unwrap();
    let header = |(n, v): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        (n.to_string(), v.to_str().unwrap().to_string())
    };
    let headers = answer.headers().iter().map(header).collect();
    let status = answer.status().as_u16();
    let text = answer.body_mut().read_to_string().unwrap();
    (status, headers, serde_json::from_str(&text).unwrap())
}

fn by_password<'a>(kind: &'a str, extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![("Username", ADMIN), ("AuthType", kind), ("Password", ADMIN)];
    all.extend_from_slice(extra);
    all
}

fn by_key<'a>(key: &'a str, extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![
        ("Username", ADMIN),
        ("AuthType", "SessionKey"),
        ("SessionKey", key),
    ];
    all.extend_from_slice(extra);
    all
}

fn request_challenge(server: &Server) -> Value {
    let path = "/api/v1/admin/account/webauthn/request-registration-challenge";
    ok(&server.call(path, &[("SelfAddress", PAGE)])).clone()
}

fn submit(server: &Server, page: &str, challenge: &Value, credential: &str) -> Value {
    let fields = [
        ("SelfAddress", page),
        ("ChallengeID", challenge["ChallengeID"].as_str().unwrap()),
        ("Credential", credential),
    ];
    server.call(
        "/api/v1/admin/account/webauthn/submit-challenge-response",
        &fields,
    )
}

/// Registers a key; the first one as the only second factor.
fn register(server: &Server) -> Authenticator {
    let mut key = Authenticator::new(PAGE);
    let challenge = request_challenge(server);
    let credential = key.create(&challenge["CredentialCreationOptions"]);
    ok(&submit(server, PAGE, &challenge, &credential));
    key
}

fn security(server: &Server) -> Value {
    server.call("/api/v1/admin/account/properties", &[])["Security"].clone()
}

fn require_key(server: &Server) {
    let mut security = security(server);
    security["AllowPasswordLogin"] = json!(false);
    security["AllowPasswordAndWebAuthnLogin"] = json!(true);
    let fields = [("Security", security.to_string())];
    let fields = fields.each_ref().map(|(n, v)| (*n, v.as_str()));
    ok(&server.call("/api/v1/admin/account/set-properties", &fields));
}

/// What a log-in without the key is asked to sign.
fn asked(server: &Server) -> Value {
    let (status, headers, body) = whole(
        server,
        VERSION,
        &by_password("Password", &[("SelfAddress", PAGE)]),
    );
    assert_eq!(
        (status, &body["Message"]),
        (449, &json!("ERR_TOTP_REQUIRED")),
        "{body}"
    );
    assert!(
        !headers.contains_key("x-comet-totp-requested"),
        "no codes are set up"
    );
    serde_json::from_str(&headers["x-comet-webauthn-challenge"]).unwrap()
}

#[test]
fn a_security_key_is_registered_and_signs_in() {
    let server = Server::start();
    let challenge = request_challenge(&server);
    let options = &challenge["CredentialCreationOptions"];
    assert_eq!(options["rp"]["id"], "backup.example.org");
    assert_eq!(options["pubKeyCredParams"][0]["alg"], -7);
    assert!(!options["user"]["id"].as_str().unwrap().contains(ADMIN));
    let mut key = register(&server);
    let registered = &security(&server)["WebAuthnRegistrations"];
    assert_eq!(registered.as_array().unwrap().len(), 1, "{registered}");
    assert_eq!(registered[0]["Type"], 1, "a key at the USB port");
    assert_eq!(registered[0]["Credential"]["SignCount"], 1);
    // The password is enough until the settings say otherwise.
    assert!(server.call(VERSION, &[])["Version"].is_string());
    require_key(&server);
    let request = asked(&server);
    assert_eq!(request["Assertion"]["publicKey"]["rpId"], "backup.example.org");
    let signed = key.sign(&request);
    let fields = by_password("PasswordWebAuthn", &[("WebAuthnSign", signed.as_str())]);
    assert!(server.post(VERSION, &fields)["Version"].is_string());
    // The same answer once more is worth nothing.
    assert_eq!(server.post(VERSION, &fields)["Status"], 403);
    // The wrong password beside a right signature neither, and it does not tell that there is a second factor.
    let signed = key.sign(&asked(&server));
    let mut wrong = by_password("PasswordWebAuthn", &[("WebAuthnSign", signed.as_str())]);
    wrong[2].1 = "wrong";
    assert_eq!(server.post(VERSION, &wrong)["Status"], 403);
    // A new session for the page, whose calls need no key.
    let signed = key.sign(&asked(&server));
    let fields = by_password("PasswordWebAuthn", &[("WebAuthnSign", signed.as_str())]);
    let session = server.post(START, &fields);
    let session = ok(&session)["SessionKey"].as_str().unwrap();
    let shown = server.post("/api/v1/admin/account/properties", &by_key(session, &[]));
    let count = &shown["Security"]["WebAuthnRegistrations"][0]["Credential"]["SignCount"];
    assert_eq!(
        count.as_u64().unwrap(),
        u64::from(key.count),
        "the newest is kept"
    );
    // The last way in can not be taken away; with another way the key can.
    let mut security = shown["Security"].clone();
    security["WebAuthnRegistrations"] = json!([]);
    let set = |security: &Value| {
        let text = security.to_string();
        let fields = by_key(session, &[("Security", text.as_str())]);
        server.post("/api/v1/admin/account/set-properties", &fields)
    };
    assert_eq!(set(&security)["Status"], 400);
    security["AllowPasswordLogin"] = json!(true);
    ok(&set(&security));
    assert!(server.call(VERSION, &[])["Version"].is_string());
}

#[test]
fn keys_of_every_kind_that_is_asked_for_sign_in() {
    let server = Server::start();
    let mut attesting = Authenticator::new(PAGE);
    attesting.attests = true;
    let mut keys = [attesting, Authenticator::ed25519(PAGE), Authenticator::rsa(PAGE)];
    for key in &mut keys {
        let challenge = request_challenge(&server);
        let credential = key.create(&challenge["CredentialCreationOptions"]);
        ok(&submit(&server, PAGE, &challenge, &credential));
    }
    require_key(&server);
    let request = asked(&server);
    let allowed = request["Assertion"]["publicKey"]["allowCredentials"]
        .as_array()
        .unwrap();
    assert_eq!(allowed.len(), keys.len());
    for key in &mut keys {
        let signed = key.sign(&asked(&server));
        let fields = by_password("PasswordWebAuthn", &[("WebAuthnSign", signed.as_str())]);
        assert!(server.post(VERSION, &fields)["Version"].is_string());
    }
    // The key of one does not sign for another.
    let (id, other) = (keys[0].id.clone(), &mut keys[1]);
    other.id = id;
    other.count = 100;
    let signed = other.sign(&asked(&server));
    let fields = by_password("PasswordWebAuthn", &[("WebAuthnSign", signed.as_str())]);
    assert_eq!(server.post(VERSION, &fields)["Status"], 403);
}

#[test]
fn an_answer_that_was_not_asked_for_registers_nothing() {
    let server = Server::start();
    let refused = |answer: Value, what: &str| assert_eq!(answer["Status"], 400, "{what}: {answer}");
    let options = |challenge: &Value| challenge["CredentialCreationOptions"].clone();
    // A page on another host.
    let challenge = request_challenge(&server);
    let mut key = Authenticator::new("https://evil.example");
    let credential = key.create(&options(&challenge));
    refused(submit(&server, PAGE, &challenge, &credential), "another page");
    key.origin = PAGE.into();
    // The challenge is gone with that.
    let credential = key.create(&options(&challenge));
    refused(submit(&server, PAGE, &challenge, &credential), "used challenge");
    // Another challenge than the one it answers.
    let (one, two) = (request_challenge(&server), request_challenge(&server));
    let credential = key.create(&options(&one));
    refused(submit(&server, PAGE, &two, &credential), "another challenge");
    // Bound to another host.
    let challenge = request_challenge(&server);
    let mut other = options(&challenge);
    other["rp"]["id"] = json!("evil.example");
    refused(
        submit(&server, PAGE, &challenge, &key.create(&other)),
        "another host",
    );
    let challenge = request_challenge(&server);
    let credential = key.create(&options(&challenge));
    refused(
        submit(&server, "https://other.example.org", &challenge, &credential),
        "another address",
    );
    let challenge = request_challenge(&server);
    refused(submit(&server, PAGE, &challenge, "{}"), "nothing");
    // An attestation by the key itself that is not about this answer.
    let mut attesting = Authenticator::new(PAGE);
    attesting.attests = true;
    let challenge = request_challenge(&server);
    let text = attesting.create(&options(&challenge));
    let mut credential: Value = serde_json::from_str(&text).unwrap();
    let client = credential["response"]["clientDataJSON"].as_str().unwrap();
    let client = URL_SAFE_NO_PAD.decode(client).unwrap();
    let client = String::from_utf8(client).unwrap().replace('{', "{ ");
    credential["response"]["clientDataJSON"] = json!(URL_SAFE_NO_PAD.encode(client));
    refused(
        submit(&server, PAGE, &challenge, &credential.to_string()),
        "false attestation",
    );
    for page in ["http://backup.example.org", "https://192.0.2.1/", "backup", ""] {
        let path = "/api/v1/admin/account/webauthn/request-registration-challenge";
        refused(server.call(path, &[("SelfAddress", page)]), page);
    }
    assert!(security(&server)["WebAuthnRegistrations"].is_null());
    // Twice the same key.
    let challenge = request_challenge(&server);
    let credential = key.create(&options(&challenge));
    ok(&submit(&server, PAGE, &challenge, &credential));
    let challenge = request_challenge(&server);
    let credential = key.create(&options(&challenge));
    assert_eq!(submit(&server, PAGE, &challenge, &credential)["Status"], 409);
    let u2f = "/api/v1/admin/account/u2f/request-registration-challenge";
    let answer = server.call(u2f, &[("SelfAddress", PAGE)]);
    assert_eq!(answer["Status"], 501);
    assert!(
        answer["Message"].as_str().unwrap().contains("WebAuthn"),
        "{answer}"
    );
}

#[test]
fn a_signature_that_was_not_asked_for_opens_nothing() {
    let server = Server::start();
    let mut key = register(&server);
    require_key(&server);
    let status = |signed: &str| {
        let fields = by_password("PasswordWebAuthn", &[("WebAuthnSign", signed)]);
        server.post(VERSION, &fields)["Status"].clone()
    };
    // On another page, for another challenge, of another host, by another key, with a changed signature.
    key.origin = "https://evil.example".into();
    assert_eq!(status(&key.sign(&asked(&server))), 403);
    key.origin = PAGE.into();
    let (one, two) = (asked(&server), asked(&server));
    let mut mixed: Value = serde_json::from_str(&key.sign(&one)).unwrap();
    mixed["ChallengeID"] = two["ChallengeID"].clone();
    assert_eq!(status(&mixed.to_string()), 403);
    let mut other = asked(&server);
    other["Assertion"]["publicKey"]["rpId"] = json!("evil.example");
    assert_eq!(status(&key.sign(&other)), 403);
    let mut stranger = Authenticator::new(PAGE);
    stranger.id.clone_from(&key.id);
    stranger.count = 100;
    assert_eq!(status(&stranger.sign(&asked(&server))), 403);
    let signed = key
        .sign(&asked(&server))
        .replace("signature\\\":\\\"ME", "signature\\\":\\\"MF");
    assert_eq!(status(&signed), 403);
    assert_eq!(status("{}"), 403);
    // Those were five and more failures; a success starts the count anew.
    assert_eq!(status(&key.sign(&asked(&server))), Value::Null);
    // A count that goes back tells of a copy: refused, and shown.
    let before = key.count;
    key.count = 0;
    assert_eq!(status(&key.sign(&asked(&server))), 403);
    key.count = before - 1;
    assert_eq!(status(&key.sign(&asked(&server))), 403, "the same count again");
    key.count = before;
    let signed = key.sign(&asked(&server));
    let fields = by_password("PasswordWebAuthn", &[("WebAuthnSign", signed.as_str())]);
    let shown = server.post("/api/v1/admin/account/properties", &fields);
    let credential = &shown["Security"]["WebAuthnRegistrations"][0]["Credential"];
    assert_eq!(credential["CloneWarning"], true, "{shown}");
    // A challenge to register is none to sign in.
    let challenge = server.post(
        "/api/v1/admin/account/webauthn/request-registration-challenge",
        &by_password(
            "PasswordWebAuthn",
            &[
                ("SelfAddress", PAGE),
                ("WebAuthnSign", &key.sign(&asked(&server))),
            ],
        ),
    );
    let mut request = asked(&server);
    request["ChallengeID"] = ok(&challenge)["ChallengeID"].clone();
    request["Assertion"]["publicKey"]["challenge"] =
        challenge["CredentialCreationOptions"]["challenge"].clone();
    assert_eq!(status(&key.sign(&request)), 403);
}

#[test]
fn a_session_waits_for_its_second_factor() {
    let server = Server::start();
    let mut key = register(&server);
    let made = server.call("/api/v1/admin/account/regenerate-totp", &[]);
    let url = ok(&made)["URL"].as_str().unwrap();
    let secret = url.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    let mut settings = security(&server);
    settings["AllowPasswordAndTOTPLogin"] = json!(true);
    let text = settings.to_string();
    ok(&server.call("/api/v1/admin/account/set-properties", &[("Security", &text)]));
    require_key(&server);
    // Only the call that starts a session leaves one that waits.
    let (_, headers, body) = whole(&server, VERSION, &by_password("Password", &[]));
    assert_eq!(headers["x-comet-totp-requested"], "1");
    assert!(body.get("SessionKey").is_none(), "{body}");
    let wait = || {
        let (status, headers, body) =
            whole(&server, START, &by_password("Password", &[("SelfAddress", PAGE)]));
        assert_eq!(status, 449);
        let request: Value = serde_json::from_str(&headers["x-comet-webauthn-challenge"]).unwrap();
        assert_eq!(body["SessionType"], "admin");
        (body["SessionKey"].as_str().unwrap().to_string(), request)
    };
    let upgrade = |key: &str, extra: &[(&str, &str)]| server.post(UPGRADE, &by_key(key, extra));
    let works = |key: &str| server.post(VERSION, &by_key(key, &[]))["Version"].is_string();

    let (session, request) = wait();
    assert!(!works(&session), "it waits");
    assert_eq!(upgrade(&session, &[])["Status"], 449);
    assert_eq!(upgrade(&session, &[("TOTP", "000000")])["Status"], 403);
    assert!(!works(&session));
    ok(&upgrade(&session, &[("WebAuthnSign", &key.sign(&request))]));
    assert!(works(&session));
    ok(&upgrade(&session, &[]));

    let (session, _) = wait();
    let right = code(secret, 0);
    let fields = [
        ("Username", ADMIN),
        ("AuthType", "TOTP"),
        ("SessionKey", &session),
        ("TOTP", &right),
    ];
    ok(&server.post(UPGRADE, &fields));
    assert!(works(&session));
    // Signed in whole for this call, naming the session.
    let (session, request) = wait();
    let signed = key.sign(&request);
    let fields = by_password(
        "PasswordWebAuthn",
        &[("WebAuthnSign", &signed), ("SessionKey", &session)],
    );
    ok(&server.post(UPGRADE, &fields));
    assert!(works(&session));
    assert_eq!(upgrade("made up", &[("TOTP", "000000")])["Status"], 403);
}

/// Changes the configuration of a server that does not run.
fn configure(
    data_dir: &Path,
    change: impl FnOnce(&mut encke_api::types::ServerConfigOptions) + Send + 'static,
) {
    let store = encke_store::Store::open(&data_dir.join("encke.db")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let changed = store.change_config(|config| {
        change(config);
        Ok::<_, encke_store::StoreError>(Vec::new())
    });
    runtime.block_on(changed).unwrap().unwrap();
}

#[test]
fn who_must_change_the_password_can_do_nothing_else() {
    let mut server = Server::start();
    let fields = [
        ("TargetUser", "una"),
        ("TargetPassword", "given password"),
        ("RequirePasswordChange", "1"),
    ];
    ok(&server.call("/api/v1/admin/add-user", &fields));
    let user = |password, path: &str, extra: &[(&str, &str)]| {
        let mut all = vec![
            ("Username", "una"),
            ("AuthType", "Password"),
            ("Password", password),
        ];
        all.extend_from_slice(extra);
        server.post(&format!("/api/v1/user/web/{path}"), &all)
    };
    let given = "given password";
    let refused = |answer: Value| {
        assert_eq!(answer["Status"], 403, "{answer}");
        assert!(
            answer["Message"]
                .as_str()
                .unwrap()
                .contains("change your password"),
            "{answer}"
        );
    };
    let profile = user(given, "get-user-profile-and-hash", &[]);
    let hash = ok(&profile)["ProfileHash"].as_str().unwrap();
    for path in [
        "get-jobs",
        "account/regenerate-totp",
        "set-profile-hash",
        "dispatcher/request-vault-snapshots",
    ] {
        refused(user(given, path, &[]));
    }
    let started = user(given, "session/start", &[]);
    let key = ok(&started)["SessionKey"].as_str().unwrap();
    let session = |key: &str, path: &str| {
        let fields = [
            ("Username", "una"),
            ("AuthType", "SessionKey"),
            ("SessionKey", key),
        ];
        server.post(&format!("/api/v1/user/web/{path}"), &fields)
    };
    refused(session(key, "get-jobs"));
    ok(&session(key, "session/revoke"));
    // An administrator who acts for the user is not held up.
    let acting = server.call(
        "/api/v1/admin/account/session-start-as-user",
        &[("TargetUser", "una")],
    );
    let acting = ok(&acting)["SessionKey"].as_str().unwrap();
    assert!(session(acting, "get-jobs").is_array());
    let change = [
        ("ProfileHash", hash),
        ("OldPassword", given),
        ("NewPassword", "my own choice"),
    ];
    ok(&user(given, "account/reset-password", &change));
    assert!(user("my own choice", "get-jobs", &[]).is_array());
    assert_eq!(
        session(acting, "get-jobs")["Status"],
        403,
        "it ended with the password"
    );

    // The same for an administrator, whom only the configuration can tell to.
    server.stop();
    configure(&server.data_dir, |config| {
        config.admin_users[0].require_password_change = true;
        config.admin_users[0].permissions.prevent_change_password = true;
    });
    server.restart();
    refused(server.call("/api/v1/admin/list-users", &[]));
    refused(server.call("/api/v1/admin/account/regenerate-totp", &[]));
    let mut security = security(&server);
    security["PasswordFormat"] = json!(0);
    security["Password"] = json!("a new one");
    let text = security.to_string();
    ok(&server.call("/api/v1/admin/account/set-properties", &[("Security", &text)]));
    let fields = [
        ("Username", ADMIN),
        ("AuthType", "Password"),
        ("Password", "a new one"),
    ];
    assert!(server.post("/api/v1/admin/list-users", &fields).is_array());
    // From now on the permission holds.
    let mut all = fields.to_vec();
    all.push(("Security", &text));
    assert_eq!(
        server.post("/api/v1/admin/account/set-properties", &all)["Status"],
        403
    );
}

#[test]
fn login_protection_does_what_the_configuration_says_and_spares_other_addresses() {
    let mut server = Server::start();
    server.stop();
    configure(&server.data_dir, |config| {
        config.trust_x_forwarded_for = true;
        config.login_protection.failure_threshold = 3;
        config.login_protection.cooldown_seconds = 3600;
    });
    server.restart();
    let from = |address: &str, password: &str| {
        let mut answer = http()
            .post(format!("{}/api/v1/admin/list-users", server.url))
            .header("X-Forwarded-For", address)
            .send_form([
                ("Username", ADMIN),
                ("AuthType", "Password"),
                ("Password", password),
            ])
            .unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        answer["Status"].as_i64().unwrap_or(200)
    };
    let guesses: Vec<_> = (0..4).map(|_| from("192.0.2.1", "guess")).collect();
    assert_eq!(guesses, [403, 403, 403, 429]);
    assert_eq!(from("192.0.2.1", ADMIN), 429, "not even the right one");
    assert_eq!(from("192.0.2.2", ADMIN), 200, "the owner comes from elsewhere");
    // One household has a whole /64 of addresses.
    let guesses: Vec<_> = (1..5).map(|n| from(&format!("2001:db8::{n}"), "guess")).collect();
    assert_eq!(guesses, [403, 403, 403, 429]);
    assert_eq!(from("2001:db8:0:1::1", ADMIN), 200);
    // A success in between starts the count anew.
    for _ in 0..3 {
        assert_eq!(
            [from("192.0.2.3", "guess"), from("192.0.2.3", "guess")],
            [403, 403]
        );
        assert_eq!(from("192.0.2.3", ADMIN), 200);
    }
    server.stop();
    configure(&server.data_dir, |config| config.login_protection.enabled = false);
    server.restart();
    let guesses = (0..6).map(|_| {
        let fields = [
            ("Username", ADMIN),
            ("AuthType", "Password"),
            ("Password", "guess"),
        ];
        server.post("/api/v1/admin/list-users", &fields)["Status"].clone()
    });
    assert!(guesses.into_iter().all(|s| s == 403), "switched off");
}

#[test]
fn a_session_ends_by_itself_when_nobody_uses_it() {
    let mut server = Server::start();
    let start = || {
        let started = server.call(START, &[]);
        ok(&started)["SessionKey"].as_str().unwrap().to_string()
    };
    let keys = [start(), start()];
    server.stop();
    // Time passes: a little less than half an hour for one, a little more for the other.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = encke_store::Store::open(&server.data_dir.join("encke.db")).unwrap();
    let hashes = keys.each_ref().map(|k| encke_store::StoredSession::hash_of(k));
    let passed = store.write(move |tx| {
        for (hash, seconds) in hashes.iter().zip([1700, 1900]) {
            let params = [encke_store::sql::P::Int(seconds), encke_store::sql::P::Text(hash)];
            tx.execute(
                "UPDATE sessions SET used = used - ?1 WHERE key_hash = ?2",
                &params,
            )?;
        }
        Ok(())
    });
    runtime.block_on(passed).unwrap();
    drop(store);
    server.restart();
    assert!(server.post(VERSION, &by_key(&keys[0], &[]))["Version"].is_string());
    assert_eq!(server.post(VERSION, &by_key(&keys[1], &[]))["Status"], 403);
    server.stop();
    let store = encke_store::Store::open(&server.data_dir.join("encke.db")).unwrap();
    let expired = store.read(|sql| {
        let kind = encke_api::constants::SEVT_ACCOUNT_ADMIN_SESSION_EXPIRE;
        let params = [encke_store::sql::P::Int(kind)];
        sql.all("SELECT body FROM events WHERE type = ?1", &params, |row| {
            Ok(row.text(0)?.to_string())
        })
    });
    let expired = runtime.block_on(expired).unwrap();
    assert_eq!(expired.len(), 1, "{expired:?}");
}
