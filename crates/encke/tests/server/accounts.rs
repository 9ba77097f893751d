//! Passwords, one-time codes, Protected Items and devices of accounts through the front door (reference, section 7).

use crate::support::device::{Device, PASSWORD, USER, ended, until};
use crate::support::{Server, compare};
use serde_json::{Value, json};
use std::fs;

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn profile(server: &Server) -> Value {
    server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)])
}

fn as_user<'a>(password: &'a str, extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![
        ("Username", USER),
        ("AuthType", "Password"),
        ("Password", password),
    ];
    all.extend_from_slice(extra);
    all
}

fn hash(server: &Server) -> String {
    let answer = server.call("/api/v1/admin/get-user-profile-hash", &[("TargetUser", USER)]);
    ok(&answer)["ProfileHash"].as_str().unwrap().to_string()
}

/// A device with something in its vault.
fn with_backup(server: &Server, recovery: bool) -> Device {
    let fields = [
        ("TargetUser", USER),
        ("TargetPassword", PASSWORD),
        ("StoreRecoveryCode", if recovery { "1" } else { "0" }),
    ];
    ok(&server.call("/api/v1/admin/add-user", &fields));
    let device = Device::start(server, "laptop");
    let folder = server.work_dir.join("data");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "precious").unwrap();
    device.add_bucket(server, "vault");
    device.add_item(server, "item", "engine1/file", &json!({ "INCLUDE1": folder }));
    assert_eq!(device.back_up(server, "item", "vault")["Status"], 5000);
    device
}

/// Restores with the password of now and compares.
fn restores(server: &Server, device: &Device) {
    let target = server.work_dir.join("restored");
    let _ = fs::remove_dir_all(&target);
    let options = json!({ "Type": 0, "DestPath": target });
    let job = ended(server, &device.restore(server, "vault", "item", &options, &[]));
    assert_eq!(job["Status"], 5000, "{job}");
    let folder = server.work_dir.join("data");
    let back = target.join(folder.strip_prefix("/").unwrap());
    compare::folders(&folder, &back, &mut compare::Compared::default()).unwrap();
}

#[test]
fn a_reset_password_opens_the_vaults_again() {
    let server = Server::start();
    let device = with_backup(&server, true);
    let before = profile(&server);
    let short = server.call(
        "/api/v1/admin/reset-user-password",
        &[("TargetUser", USER), ("NewPassword", "short")],
    );
    assert_eq!(short["Status"], 400, "{short}");
    let session = server.post("/api/v1/user/web/session/start", &as_user(PASSWORD, &[]));
    let key = ok(&session)["SessionKey"].as_str().unwrap();
    ok(&server.call(
        "/api/v1/admin/reset-user-password",
        &[("TargetUser", USER), ("NewPassword", "another one")],
    ));
    let after = profile(&server);
    for part in ["EncryptedEncryptionKey", "CometBucketKey"] {
        let of = |p: &Value| p["Destinations"]["vault"][part].as_str().unwrap().to_string();
        assert_ne!(of(&before), of(&after), "{part} is wrapped anew");
    }
    assert_ne!(before["PasswordRecovery"], after["PasswordRecovery"]);
    // The old password and its sessions are worth nothing now.
    let get = "/api/v1/user/web/get-user-profile-and-hash";
    assert_eq!(server.post(get, &as_user(PASSWORD, &[]))["Status"], 403);
    let by_session = [
        ("Username", USER),
        ("AuthType", "SessionKey"),
        ("SessionKey", key),
    ];
    assert_eq!(server.post(get, &by_session)["Status"], 403);
    ok(&server.post(get, &as_user("another one", &[])));

    // The device on line keeps its settings for a wrong password, and goes on with the right one.
    let told = device.ask(
        &server,
        "update-login-password",
        &[("NewPassword", "not this one")],
    );
    assert_ne!(told["Status"], 200, "{told}");
    let connection = device.connection(&server);
    ok(&device.ask(
        &server,
        "update-login-password",
        &[("NewPassword", "another one")],
    ));
    until("a new connection", || {
        let live = server.call("/api/v1/admin/dispatcher/list-active", &[]);
        let live = live.as_object().unwrap();
        (live.len() == 1 && !live.contains_key(&connection)).then_some(())
    });
    assert_eq!(device.back_up(&server, "item", "vault")["Status"], 5000);
    restores(&server, &device);
    device.restic("vault", &["check", "--read-data"]);
}

#[test]
fn without_a_recovery_code_only_the_present_password_changes_it() {
    let server = Server::start();
    let device = with_backup(&server, false);
    let reset = |old: &str| {
        let fields = [
            ("TargetUser", USER),
            ("NewPassword", "another one"),
            ("OldPassword", old),
        ];
        server.call("/api/v1/admin/reset-user-password", &fields)
    };
    assert_eq!(reset("")["Status"], 400);
    assert_eq!(reset("wrong")["Status"], 403);
    ok(&reset(PASSWORD));
    // The user changes it once more.
    let own = |old: &str, hash: &str| {
        let fields = [
            ("ProfileHash", hash),
            ("OldPassword", old),
            ("NewPassword", "my own choice"),
        ];
        server.post(
            "/api/v1/user/web/account/reset-password",
            &as_user("another one", &fields),
        )
    };
    assert_eq!(own("another one", "stale")["Status"], 409);
    assert_eq!(own("wrong", &hash(&server))["Status"], 403);
    ok(&own("another one", &hash(&server)));
    assert!(
        profile(&server).get("PasswordRecovery").is_none(),
        "none was wanted"
    );
    ok(&device.ask(
        &server,
        "update-login-password",
        &[("NewPassword", "my own choice")],
    ));
    until("a backup", || {
        (device.back_up(&server, "item", "vault")["Status"] == 5000).then_some(())
    });
    restores(&server, &device);
}

#[test]
fn a_device_moves_to_another_address_only_when_that_works() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let fields = |url: &'static str| [("NewURL", url)];
    let moved = device.ask(&server, "update-login-url", &fields("http://127.0.0.1:1"));
    assert_ne!(moved["Status"], 200, "{moved}");
    let bad = device.ask(&server, "update-login-url", &fields("ftp://elsewhere"));
    assert_eq!(bad["Status"], 400, "{bad}");
    let connection = device.connection(&server);
    let same = server.url.replace("127.0.0.1", "localhost");
    ok(&device.ask(&server, "update-login-url", &[("NewURL", &same)]));
    until("a new connection", || {
        let live = server.call("/api/v1/admin/dispatcher/list-active", &[]);
        let live = live.as_object().unwrap();
        (live.len() == 1 && !live.contains_key(&connection)).then_some(())
    });
}

#[test]
fn a_users_one_time_codes_are_set_up_and_taken_away() {
    let server = Server::start();
    let fields = [("TargetUser", USER), ("TargetPassword", PASSWORD)];
    ok(&server.call("/api/v1/admin/add-user", &fields));
    let regenerate = |hash: &str| {
        server.post(
            "/api/v1/user/web/account/regenerate-totp",
            &as_user(PASSWORD, &[("ProfileHash", hash)]),
        )
    };
    assert_eq!(regenerate("stale")["Status"], 409);
    let made = regenerate(&hash(&server));
    assert!(
        ok(&made)["Image"]
            .as_str()
            .unwrap()
            .starts_with("data:image/png;base64,")
    );
    let hash_now = made["ProfileHash"].as_str().unwrap().to_string();
    assert_eq!(hash_now, hash(&server));
    let secret = made["URL"].as_str().unwrap().split("secret=").nth(1).unwrap();
    let code = crate::support::code(secret.split('&').next().unwrap(), 0);
    let validate = |code: &str| {
        let fields = [("ProfileHash", hash_now.as_str()), ("TOTPCode", code)];
        server.post(
            "/api/v1/user/web/account/validate-totp",
            &as_user(PASSWORD, &fields),
        )
    };
    assert_eq!(validate("000000")["Status"], 400);
    ok(&validate(&code));
    // From now on the password alone is not enough.
    let mut p = profile(&server);
    p["AllowPasswordLogin"] = json!(false);
    p["AllowPasswordAndTOTPLogin"] = json!(true);
    let fields = [("TargetUser", USER), ("ProfileData", &p.to_string())];
    ok(&server.call("/api/v1/admin/set-user-profile", &fields));
    let start = || server.post("/api/v1/user/web/session/start", &as_user(PASSWORD, &[]));
    assert_eq!(start()["Status"], 449);
    ok(&server.call("/api/v1/admin/disable-user-totp", &[("TargetUser", USER)]));
    ok(&start());
    assert_eq!(profile(&server)["TOTPKey"], "");
}

#[test]
fn one_item_is_read_written_and_deleted_with_its_rules() {
    let server = Server::start();
    let fields = [("TargetUser", USER), ("TargetPassword", PASSWORD)];
    ok(&server.call("/api/v1/admin/add-user", &fields));
    let set = |extra: &[(&str, &str)]| {
        let mut all = vec![("TargetUser", USER), ("SourceID", "item")];
        all.extend_from_slice(extra);
        server.call("/api/v1/admin/set-protected-item-with-backup-rules", &all)
    };
    let get = || {
        let fields = [("TargetUser", USER), ("SourceID", "item")];
        server.call("/api/v1/admin/get-protected-item-with-backup-rules", &fields)
    };
    assert_eq!(get()["Status"], 400);
    assert_eq!(set(&[])["Status"], 400, "a new item needs its settings");
    let item = json!({ "Engine": "engine1/file", "Description": "one", "Novel": 1 }).to_string();
    let rules =
        json!({ "a": { "Description": "A", "Destination": "v" }, "b": { "Description": "B" } }).to_string();
    ok(&set(&[("Source", &item), ("BackupRules", &rules)]));
    let got = get();
    assert_eq!(ok(&got)["Source"]["Novel"], 1);
    assert_eq!(got["BackupRules"]["a"]["Source"], "item");
    assert_eq!(got["ProfileHash"], hash(&server));
    // The rules alone, the item alone.
    assert_eq!(
        set(&[("BackupRules", "{}"), ("RequireHash", "stale")])["Status"],
        409
    );
    ok(&set(&[
        ("BackupRules", r#"{"b":{"Description":"B2"}}"#),
        ("RequireHash", &hash(&server)),
    ]));
    let got = get();
    assert_eq!(got["BackupRules"].as_object().unwrap().len(), 1);
    ok(&set(&[("Source", &item.replace("one", "two"))]));
    let got = get();
    assert_eq!(
        (
            &got["Source"]["Description"],
            &got["BackupRules"]["b"]["Description"]
        ),
        (&json!("two"), &json!("B2"))
    );
    // The owner's own calls see the same.
    let own = server.post(
        "/api/v1/user/web/get-protected-item-with-backup-rules",
        &as_user(PASSWORD, &[("SourceID", "item")]),
    );
    assert_eq!(ok(&own)["Source"]["Description"], "two");
    let third = [("SourceID", "third"), ("Source", item.as_str())];
    ok(&server.post(
        "/api/v1/user/web/set-protected-item-with-backup-rules",
        &as_user(PASSWORD, &third),
    ));
    ok(&server.post(
        "/api/v1/user/web/delete-protected-item",
        &as_user(PASSWORD, &[("SourceID", "item")]),
    ));
    let p = profile(&server);
    assert_eq!(
        p["Sources"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["third"]
    );
    assert_eq!(p["BackupRules"], json!({}));
}

#[test]
fn a_revoked_device_is_gone_with_its_items_at_once() {
    let server = Server::start();
    let device = Device::start(&server, "laptop");
    let other = Device::start(&server, "tower");
    device.add_item(&server, "mine", "engine1/file", &json!({ "INCLUDE1": "/etc" }));
    other.add_item(&server, "theirs", "engine1/file", &json!({ "INCLUDE1": "/etc" }));
    device.edit(&server, |p| {
        p["BackupRules"]["rule"] = json!({ "Source": "mine", "Destination": "v" });
    });
    let revoke = |id: &str| {
        server.call(
            "/api/v1/admin/revoke-device",
            &[("TargetUser", USER), ("TargetDevice", id)],
        )
    };
    assert_eq!(revoke("nowhere")["Message"], "ERR_UNKNOWN_DEVICE");
    ok(&revoke("laptop"));
    let p = profile(&server);
    assert_eq!(
        p["Devices"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["tower"]
    );
    assert_eq!(
        p["Sources"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["theirs"]
    );
    assert_eq!(p["BackupRules"], json!({}));
    until("the end of the connection", || {
        let live = server.call("/api/v1/admin/dispatcher/list-active", &[]);
        (live.as_object().unwrap().len() == 1).then_some(())
    });
}

#[test]
fn shared_quotas_and_mandatory_exclusions_reach_the_device() {
    let server = Server::start();
    let device = with_backup(&server, false);
    let folder = server.work_dir.join("data");
    fs::write(folder.join("movie.iso"), "big").unwrap();
    let policy = json!({ "Description": "x", "Policy": {
        "FileAndFolderMandatoryExclusions": [{ "Exclude": "*.iso" }, { "Exclude": "*", "RestrictOS": 1 }] } });
    ok(&server.call(
        "/api/v1/admin/policies/set",
        &[("PolicyID", "p"), ("Policy", &policy.to_string())],
    ));
    device.edit(&server, |p| p["PolicyID"] = json!("p"));
    let job = device.back_up(&server, "item", "vault");
    assert_eq!(
        (&job["Status"], &job["TotalFiles"]),
        (&json!(5000), &json!(1)),
        "{job}"
    );
    // The vault is over a quota that it shares.
    let quota = json!({ "LimitBytes": 10 }).to_string();
    let fields = [
        ("SharedStorageQuotaID", "q"),
        ("SharedStorageQuota", quota.as_str()),
    ];
    ok(&server.call("/api/v1/admin/squota/set-with-hash", &fields));
    device.edit(&server, |p| {
        p["Destinations"]["vault"]["StorageLimitID"] = json!("q")
    });
    until("the measured size", || {
        let got = server.call(
            "/api/v1/admin/squota/get-with-hash",
            &[("SharedStorageQuotaID", "q")],
        );
        (got["CurrentUsage"].as_i64().unwrap() > 10).then_some(())
    });
    let job = ended(&server, &device.backup(&server, "item", "vault"));
    assert_eq!(job["Status"], 7003, "{job}");
}
