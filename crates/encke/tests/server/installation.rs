//! Install tokens and the lobby with real agents (reference, section 10).

use crate::support::device::{Device, PASSWORD, USER, edit, until};
use crate::support::stream::signed_in;
use crate::support::{Server, code};
use serde_json::{Value, json};
use std::process::Output;

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn add_user(server: &Server) {
    let fields = [
        ("TargetUser", USER),
        ("TargetPassword", PASSWORD),
        ("StoreRecoveryCode", "1"),
    ];
    ok(&server.call("/api/v1/admin/add-user", &fields));
}

/// Gives the account one-time codes as the only way in beside the password. Answers their secret.
fn require_codes(server: &Server) -> String {
    let hash = server.call("/api/v1/admin/get-user-profile-hash", &[("TargetUser", USER)]);
    let fields = [
        ("Username", USER),
        ("AuthType", "Password"),
        ("Password", PASSWORD),
        ("ProfileHash", hash["ProfileHash"].as_str().unwrap()),
    ];
    let made = server.post("/api/v1/user/web/account/regenerate-totp", &fields);
    let url = ok(&made)["URL"].as_str().unwrap();
    edit(server, |profile| {
        profile["AllowPasswordLogin"] = json!(false);
        profile["AllowPasswordAndTOTPLogin"] = json!(true);
    });
    let secret = url.split("secret=").nth(1).unwrap();
    secret.split('&').next().unwrap().to_string()
}

fn token_with(server: &Server, extra: &[(&str, &str)]) -> Value {
    let mut fields = vec![("TargetUser", USER), ("TargetPassword", PASSWORD)];
    fields.extend_from_slice(extra);
    ok(&server.call("/api/v1/admin/create-install-token", &fields))["InstallToken"].clone()
}

fn token(server: &Server) -> String {
    token_with(server, &[])["Token"].as_str().unwrap().to_string()
}

fn redeem(server: &Server, device: &Device, token: &str) -> Output {
    let url = server.url.as_str();
    device.run(&[
        "register",
        "--server",
        url,
        "--token",
        token,
        "--device-id",
        &device.id,
    ])
}

fn refused(output: &Output, why: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains(why), "{told}");
}

/// Backs a file up, into a vault of the device's own making.
fn works(server: &Server, device: &Device) {
    let folder = server.work_dir.join(format!("data of {}", device.id));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("letter"), "Dear reader").unwrap();
    let (item, vault) = (format!("item-{}", device.id), format!("vault-{}", device.id));
    device.add_bucket(server, &vault);
    device.add_item(server, &item, "engine1/file", &json!({ "INCLUDE1": folder }));
    device.back_up(server, &item, &vault);
    device.restic(&vault, &["check", "--read-data"]);
}

#[test]
fn a_token_registers_one_device_without_a_password() {
    let mut server = Server::start();
    add_user(&server);
    let wrong = [("TargetUser", USER), ("TargetPassword", "not the password")];
    assert_eq!(
        server.call("/api/v1/admin/create-install-token", &wrong)["Status"],
        403
    );
    let bad = [
        ("TargetUser", USER),
        ("TargetPassword", PASSWORD),
        ("Server", "backup"),
    ];
    assert_eq!(
        server.call("/api/v1/admin/create-install-token", &bad)["Status"],
        400
    );
    // Even where the account asks for one-time codes.
    require_codes(&server);
    let made = token_with(&server, &[]);
    assert_eq!(made["Username"], USER);
    assert_eq!(made["Server"], format!("{}/", server.url));
    assert_eq!(made["Used"], false);
    let life = made["ExpireTime"].as_i64().unwrap() - made["CreateTime"].as_i64().unwrap();
    assert_eq!(life, 24 * 3600);
    let token = made["Token"].as_str().unwrap();
    let mut device = Device::unregistered(&server, "laptop");
    let output = redeem(&server, &device, token);
    assert!(output.status.success(), "{output:?}");
    device.launch();
    works(&server, &device);
    refused(
        &redeem(&server, &Device::unregistered(&server, "desktop"), token),
        "used",
    );
    refused(
        &redeem(&server, &Device::unregistered(&server, "desktop"), "made-up"),
        "unknown",
    );
    // Neither the token nor what it stands for lies in the database.
    device.stop();
    server.stop();
    let settings = std::fs::read_to_string(device.data_dir().join("agent.json")).unwrap();
    let settings: Value = serde_json::from_str(&settings).unwrap();
    let secrets = [
        token,
        settings["login_key"].as_str().unwrap(),
        settings["wrapping_key"].as_str().unwrap(),
    ];
    for entry in std::fs::read_dir(&server.data_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(secrets.iter().all(|s| !content.contains(s)), "{}", path.display());
        }
    }
}

#[test]
fn devices_register_by_password_and_one_time_code() {
    let server = Server::start();
    add_user(&server);
    let secret = require_codes(&server);
    let mut laptop = Device::unregistered(&server, "laptop");
    let register = |device: &Device, totp: &str, more: &[&str]| {
        let mut all = vec![
            "register",
            "--server",
            &server.url,
            "--user",
            USER,
            "--totp",
            totp,
        ];
        all.extend(more);
        device.run(&all)
    };
    let own = ["--device-id", "laptop"];
    refused(&register(&laptop, "", &own), "TOTP");
    refused(&register(&laptop, "000000", &own), "");
    let right = code(&secret, 0);
    let output = register(&laptop, &right, &own);
    assert!(output.status.success(), "{output:?}");
    laptop.launch();
    works(&server, &laptop);
    // A code works once, and the account asks each device for one; as many as it may have.
    let mut desktop = Device::unregistered(&server, "desktop");
    refused(&register(&desktop, &right, &["--device-id", "desktop"]), "");
    edit(&server, |p| p["MaximumDevices"] = json!(1));
    let before = |device: &Device| register(device, &code(&secret, 1), &["--device-id", "desktop"]);
    refused(&before(&desktop), "");
    edit(&server, |p| {
        p["MaximumDevices"] = json!(2);
        p["AllowPasswordLogin"] = json!(true);
    });
    // Nobody has to name the device: the same machine gets the same id.
    let output = register(&desktop, "", &[]);
    assert!(output.status.success(), "{output:?}");
    let id = |device: &Device| {
        let settings = std::fs::read_to_string(device.data_dir().join("agent.json")).unwrap();
        serde_json::from_str::<Value>(&settings).unwrap()["device_id"].clone()
    };
    let first = id(&desktop);
    std::fs::remove_dir_all(desktop.data_dir()).unwrap();
    assert!(register(&desktop, "", &[]).status.success());
    assert_eq!(id(&desktop), first);
    desktop.id = first.as_str().unwrap().to_string();
    desktop.launch();
    works(&server, &desktop);
    let profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", USER)]);
    assert_eq!(profile["Devices"].as_object().unwrap().len(), 2, "{profile}");
}

#[test]
fn a_token_that_can_not_be_used_now_stays_good_until_it_is_void() {
    let mut server = Server::start();
    add_user(&server);
    let maximum = |server: &Server, n: u64| edit(server, |p| p["MaximumDevices"] = json!(n));
    let device = |server: &Server, name: &str| Device::unregistered(server, name);
    let first = redeem(&server, &device(&server, "one"), &token(&server));
    assert!(first.status.success(), "{first:?}");
    maximum(&server, 1);
    let second = token(&server);
    refused(&redeem(&server, &device(&server, "two"), &second), "at most 1");
    edit(&server, |p| p["IsSuspended"] = json!(true));
    refused(&redeem(&server, &device(&server, "two"), &second), "suspended");
    edit(&server, |p| p["IsSuspended"] = json!(false));
    maximum(&server, 2);
    let output = redeem(&server, &device(&server, "two"), &second);
    assert!(output.status.success(), "{output:?}");
    maximum(&server, 0);
    // An address that does not work is not taken over, one that works is.
    let status = |name: &str| String::from_utf8(device(&server, name).run(&["status"]).stdout).unwrap();
    let dead = token_with(&server, &[("Server", "http://127.0.0.1:1/")]);
    let output = redeem(
        &server,
        &device(&server, "three"),
        dead["Token"].as_str().unwrap(),
    );
    assert!(
        output.status.success() && status("three").contains(&server.url),
        "{output:?}"
    );
    let other = server.url.replace("127.0.0.1", "localhost");
    let moved = token_with(&server, &[("Server", &other)]);
    let output = redeem(
        &server,
        &device(&server, "four"),
        moved["Token"].as_str().unwrap(),
    );
    assert!(
        output.status.success() && status("four").contains(&other),
        "{}",
        status("four")
    );
    // Void with the password, with time and with the account.
    let old = token(&server);
    let change = [("TargetUser", USER), ("NewPassword", "another one")];
    ok(&server.call("/api/v1/admin/reset-user-password", &change));
    refused(
        &redeem(&server, &device(&server, "five"), &old),
        "password was changed",
    );
    let back = [("TargetUser", USER), ("NewPassword", PASSWORD)];
    ok(&server.call("/api/v1/admin/reset-user-password", &back));
    let (late, orphan) = (token(&server), token(&server));
    server.stop();
    let store = encke_store::Store::open(&server.data_dir.join("encke.db")).unwrap();
    let hash = encke_store::StoredSession::hash_of(&late);
    let aged = store.write(move |tx| {
        let params = [encke_store::sql::P::Text(&hash)];
        tx.execute(
            "UPDATE install_tokens SET expires = expires - 86401 WHERE token_hash = ?1",
            &params,
        )
    });
    assert_eq!(tokio::runtime::Runtime::new().unwrap().block_on(aged).unwrap(), 1);
    drop(store);
    server.restart();
    refused(&redeem(&server, &device(&server, "six"), &late), "expired");
    ok(&server.call("/api/v1/admin/delete-user", &[("TargetUser", USER)]));
    add_user(&server);
    refused(&redeem(&server, &device(&server, "seven"), &orphan), "unknown");
}

/// The lobby as an administrator sees it.
fn lobby(server: &Server) -> Vec<Value> {
    let all = server.call("/api/v1/admin/installation/list-active", &[]);
    all.as_object()
        .unwrap_or_else(|| panic!("{all}"))
        .values()
        .cloned()
        .collect()
}

fn enter(server: &Server, url: &str, name: &str) -> Device {
    let mut device = Device::unregistered(server, name);
    device.launch_as(&[
        "lobby",
        "--server",
        url,
        "--device-id",
        name,
        "--device-name",
        "Front desk",
    ]);
    let inside = |w: &Value| w["DeviceID"] == name;
    until("the device to be in the lobby", || {
        lobby(server).iter().any(inside).then_some(())
    });
    device
}

fn assign(server: &Server, device: &str, password: &str, extra: &[(&str, &str)]) -> Value {
    let mut fields = vec![
        ("DeviceID", device),
        ("TargetUser", USER),
        ("TargetPassword", password),
    ];
    fields.extend_from_slice(extra);
    server.call("/api/v1/admin/installation/dispatch/register-device", &fields)
}

#[test]
fn a_device_waits_in_the_lobby_for_its_account() {
    let mut server = Server::start();
    add_user(&server);
    let secret = require_codes(&server);
    let mut events = signed_in(&server, "/api/v1/events/stream");
    let mut device = enter(&server, &server.url, "box-1");
    let event = events.event_of("SEVT_DEVICE_LOBBY_CONNECT");
    assert_eq!(event["ResourceID"], "box-1");
    assert_eq!(event["Data"]["FriendlyName"], "Front desk");
    let shown = &lobby(&server)[0];
    assert_eq!(shown["Host"], "127.0.0.1");
    assert_eq!(shown["IPAddress"], "127.0.0.1");
    assert_eq!(shown["OrganizationID"], "");
    assert!(shown["ConnectionTime"].as_i64().unwrap() > 1_700_000_000);
    // It is no device of an account.
    assert_eq!(
        server.call("/api/v1/admin/dispatcher/list-active", &[]),
        json!({})
    );
    // Nothing of this makes it leave.
    assert_eq!(
        assign(&server, "box-2", PASSWORD, &[])["Message"],
        "ERR_UNKNOWN_DEVICE"
    );
    assert_eq!(assign(&server, "box-1", "not the password", &[])["Status"], 403);
    assert_eq!(
        assign(&server, "box-1", PASSWORD, &[])["Message"],
        "ERR_TOTP_REQUIRED"
    );
    assert_eq!(
        assign(&server, "box-1", PASSWORD, &[("TargetTOTPCode", "000000")])["Status"],
        403
    );
    assert_eq!(lobby(&server).len(), 1);
    // It comes back by itself after the server was away.
    server.kill();
    server.restart_here();
    until("the device to be back", || {
        (lobby(&server).len() == 1).then_some(())
    });
    let mut events = signed_in(&server, "/api/v1/events/stream");
    let answer = assign(
        &server,
        "box-1",
        PASSWORD,
        &[("TargetTOTPCode", &code(&secret, 0))],
    );
    assert_eq!(answer, json!("OK"), "a text and no envelope");
    assert_eq!(events.event_of("SEVT_DEVICE_NEW")["ResourceID"], "box-1");
    assert_eq!(
        events.event_of("SEVT_DEVICE_LOBBY_DISCONNECT")["ResourceID"],
        "box-1"
    );
    // The same process goes on as the account's device.
    device.connection(&server);
    assert_eq!(lobby(&server), Vec::<Value>::new());
    works(&server, &device);
    // Started again the same way, it needs no lobby.
    device.stop();
    device.launch_as(&["lobby", "--server", &server.url]);
    device.connection(&server);
}

#[test]
fn who_is_sent_out_of_the_lobby_stays_away() {
    let server = Server::start();
    add_user(&server);
    let mut device = enter(&server, &server.url, "box-1");
    // Another machine that takes the same id does not get between.
    let mut twin = Device::unregistered(&server, "twin");
    twin.launch_as(&[
        "lobby",
        "--server",
        &server.url,
        "--device-id",
        "box-1",
        "--device-name",
        "Twin",
    ]);
    until("the twin to be refused", || {
        twin.log().contains("waits in the lobby already").then_some(())
    });
    let waiting = lobby(&server);
    assert_eq!(
        (waiting.len(), &waiting[0]["FriendlyName"]),
        (1, &json!("Front desk"))
    );
    let away = |id: &str| {
        server.call(
            "/api/v1/admin/installation/dispatch/drop-connection",
            &[("DeviceID", id)],
        )
    };
    assert_eq!(away("box-2")["Message"], "ERR_UNKNOWN_DEVICE");
    twin.stop();
    ok(&away("box-1"));
    assert!(!device.wait_end());
    assert!(device.log().contains("sent this device away"), "{}", device.log());
    until("an empty lobby", || lobby(&server).is_empty().then_some(()));
    assert!(!assign(&server, "box-1", PASSWORD, &[]).is_string());
    // Asked to stop, a waiting agent stops.
    let mut other = enter(&server, &server.url, "box-3");
    other.stop();
    until("an empty lobby", || lobby(&server).is_empty().then_some(()));
}

#[test]
fn each_organization_has_its_own_lobby() {
    let server = Server::start();
    let organization = |host: &str| {
        let text = json!({ "Name": host, "Hosts": [host] }).to_string();
        let made = server.call("/api/v1/admin/organization/set", &[("Organization", &text)]);
        let id = ok(&made)["ID"].as_str().unwrap().to_string();
        let fields = [
            ("TargetUser", "boss"),
            ("TargetPassword", host),
            ("TargetOrgID", &id),
        ];
        ok(&server.call("/api/v1/admin/admin-user/new", &fields));
        id
    };
    let boss = |host: &str, path: &str, fields: &[(&str, &str)]| {
        let mut all = vec![("Username", "boss"), ("AuthType", "Password"), ("Password", host)];
        all.extend_from_slice(fields);
        server.post_to_host(host, &format!("/api/v1/admin/{path}"), &all)
    };
    let (own, _) = (organization("localhost"), organization("south.test"));
    let account = [("TargetUser", USER), ("TargetPassword", PASSWORD)];
    ok(&boss("localhost", "add-user", &account));
    let device = enter(&server, &server.url.replace("127.0.0.1", "localhost"), "box-1");
    assert_eq!(lobby(&server)[0]["OrganizationID"], own.as_str());
    assert_eq!(boss("south.test", "installation/list-active", &[]), json!({}));
    let fields = [("DeviceID", "box-1"), account[0], account[1]];
    let foreign = boss("south.test", "installation/dispatch/register-device", &fields);
    assert_eq!(foreign["Message"], "ERR_UNKNOWN_DEVICE", "{foreign}");
    let foreign = boss("south.test", "installation/dispatch/drop-connection", &fields);
    assert_eq!(foreign["Message"], "ERR_UNKNOWN_DEVICE", "{foreign}");
    let foreign = boss("south.test", "create-install-token", &account);
    assert_eq!(foreign["Message"], "User not found", "{foreign}");
    let listed = boss("localhost", "installation/list-active", &[]);
    assert_eq!(listed.as_object().unwrap().len(), 1);
    let registered = boss("localhost", "installation/dispatch/register-device", &fields);
    assert_eq!(registered, json!("OK"));
    device.connection(&server);
}
