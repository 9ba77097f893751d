//! The event stream, read by a WebSocket client of the test's own (RFC 6455), so that nothing is taken on trust.

use crate::support::Server;
use crate::support::stream::{Client, signed_in};
use serde_json::json;
use std::io::Write as _;
use std::time::{Duration, Instant};

fn add_user(server: &Server, name: &str) {
    let fields = [("TargetUser", name), ("TargetPassword", "long enough")];
    assert_eq!(server.call("/api/v1/admin/add-user", &fields)["Status"], 200);
}

#[test]
fn the_stream_begins_with_hello_and_tells_of_changes() {
    let server = Server::start();
    let mut stream = signed_in(&server, "/api/v1/events/stream");
    let hello = stream.event();
    assert_eq!(
        (&hello["Type"], &hello["TypeString"]),
        (&json!(4000), &json!("SEVT_META_HELLO"))
    );
    assert_eq!(hello["Data"]["Version"], "25.9.8");
    add_user(&server, "alice");
    let new = stream.event_of("SEVT_ACCOUNT_NEW");
    assert_eq!(
        (&new["Type"], &new["Actor"], &new["ResourceID"]),
        (&json!(4100), &json!("admin"), &json!("alice"))
    );
    assert_eq!(new["Data"]["Username"], "alice");
    assert_eq!(new["Data"]["PasswordHash"], "", "no secret in an event");
    let started = server.call("/api/v1/admin/account/session-start", &[]);
    assert_eq!(
        stream.event_of("SEVT_ACCOUNT_ADMIN_SESSION_START")["Actor"],
        "admin"
    );
    let key = started["SessionKey"].as_str().unwrap();
    assert!(!server.log().contains(key), "a key in the log");
    let wrong = [
        ("Username", "alice"),
        ("AuthType", "Password"),
        ("Password", "wrong"),
    ];
    server.post("/api/v1/user/web/session/start", &wrong);
    let failed = stream.event_of("SEVT_ACCOUNT_LOGIN_FAILED");
    assert_eq!(
        (&failed["Type"], &failed["ResourceID"]),
        (&json!(4104), &json!("/api/v1/user/web/session/start"))
    );
    assert_eq!(
        server.call("/api/v1/admin/delete-user", &[("TargetUser", "alice")])["Status"],
        200
    );
    assert_eq!(stream.event_of("SEVT_ACCOUNT_REMOVED")["ResourceID"], "alice");
}

#[test]
fn an_allow_list_narrows_the_stream_and_a_session_key_opens_it() {
    let server = Server::start();
    let started = server.call("/api/v1/admin/account/session-start", &[]);
    let key = started["SessionKey"].as_str().unwrap();
    let mut stream = Client::connect(&server, "/api/v1/events/stream?allowList=SEVT_BUCKET_NEW");
    for field in ["admin", "SessionKey", "", key, ""] {
        stream.send(field);
    }
    assert_eq!(stream.receive().as_deref(), Some("200 OK"));
    assert_eq!(stream.event()["TypeString"], "SEVT_META_HELLO");
    add_user(&server, "alice");
    assert_eq!(
        server.call("/api/v1/admin/storage/register-bucket", &[])["Status"],
        200
    );
    assert_eq!(
        stream.event()["TypeString"],
        "SEVT_BUCKET_NEW",
        "the account's event is left out"
    );
}

#[test]
fn wrong_credentials_are_told_and_the_connection_ends() {
    let server = Server::start();
    for fields in [
        ["admin", "Password", "wrong", "", ""],
        ["nobody", "Password", "admin", "", ""],
        ["admin", "SessionKey", "", "no such key", ""],
        ["", "", "", "", ""],
    ] {
        let mut client = Client::connect(&server, "/api/v1/events/stream");
        for field in fields {
            client.send(field);
        }
        assert_eq!(client.receive().as_deref(), Some("403 Unauth"), "{fields:?}");
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn a_truncated_frame_ends_only_its_own_connection() {
    let server = Server::start();
    let mut good = signed_in(&server, "/api/v1/events/stream");
    let mut bad = Client::connect(&server, "/api/v1/events/stream");
    // A frame that announces 100 bytes, sends three, and is gone.
    bad.0
        .write_all(&[0x81, 0x80 | 100, 1, 2, 3, 4, b'x', b'y', b'z'])
        .unwrap();
    drop(bad);
    // A frame that no client may send: not masked.
    let mut rude = Client::connect(&server, "/api/v1/events/stream");
    rude.0.write_all(&[0x81, 3, b'a', b'b', b'c']).unwrap();
    assert_eq!(rude.receive(), None);
    let path = "/api/encke/v1/device/live";
    let mut device = Client::connect(&server, path);
    device.0.write_all(&[0x81, 0x80 | 100, 1, 2, 3, 4, b'x']).unwrap();
    drop(device);
    let mut device = Client::connect(&server, path);
    device.send("{\"type\":\"hello\"");
    assert!(device.receive().is_some_and(|m| m.contains("refused")));
    add_user(&server, "alice");
    assert_eq!(good.event_of("SEVT_ACCOUNT_NEW")["ResourceID"], "alice");
}

/// Resident memory of a process in bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_slow_reader_is_disconnected_and_memory_stays_bounded() {
    let server = Server::start();
    add_user(&server, "alice");
    let mut slow = signed_in(&server, "/api/v1/events/stream");
    let before = memory(server.pid());
    // Each save is an event with the whole profile, a hundred kilobytes of it, and nobody reads.
    let mut profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "alice")]);
    profile["Emails"] = json!(
        (0..3000)
            .map(|i| format!("{i:030}@example.org"))
            .collect::<Vec<_>>()
    );
    let text = profile.to_string();
    let deadline = Instant::now() + Duration::from_secs(90);
    for _ in 0..900 {
        let saved = server.call(
            "/api/v1/admin/set-user-profile",
            &[("TargetUser", "alice"), ("ProfileData", &text)],
        );
        assert_eq!(saved["Status"], 200);
        assert!(
            memory(server.pid()) < before + (600 << 20),
            "memory grows with a slow reader"
        );
        assert!(Instant::now() < deadline, "the saves take too long");
    }
    // What waits in the socket can still be read; then the end, long before all 900 events.
    let mut read = 0;
    while slow.receive().is_some() {
        read += 1;
    }
    assert!(read < 900, "nobody disconnected the slow reader");
    add_user(&server, "bob");
    let mut fresh = signed_in(&server, "/api/v1/events/stream");
    assert_eq!(fresh.event()["TypeString"], "SEVT_META_HELLO");
}

#[test]
fn what_was_changed_and_by_whom_is_answered_newest_first() {
    let server = Server::start();
    for name in ["alice", "bob", "carl"] {
        add_user(&server, name);
    }
    let list = |fields: &[(&str, &str)]| server.call("/api/encke/v1/events/list", fields);
    let names = |answer: &serde_json::Value| -> Vec<String> {
        let events = answer["Events"].as_array().unwrap().iter();
        events
            .map(|e| e["ResourceID"].as_str().unwrap().to_string())
            .collect()
    };
    let new = [("Types", "[4100]")];
    let all = list(&new);
    assert_eq!(names(&all), ["carl", "bob", "alice"]);
    assert_eq!(all["Next"], 0);
    let newest = &all["Events"][0];
    assert_eq!(
        (&newest["Actor"], &newest["TypeString"]),
        (&json!("admin"), &json!("SEVT_ACCOUNT_NEW"))
    );
    // Page by page.
    let page = list(&[new[0], ("Limit", "2")]);
    assert_eq!(names(&page), ["carl", "bob"]);
    let next = page["Next"].to_string();
    let page = list(&[new[0], ("Limit", "2"), ("Before", &next)]);
    assert_eq!(
        (names(&page), &page["Next"]),
        (vec!["alice".to_string()], &json!(0))
    );
    // By words, by person, by time.
    assert_eq!(names(&list(&[new[0], ("Contains", "BO")])), ["bob"]);
    assert!(names(&list(&[("Actor", "nobody")])).is_empty());
    assert!(names(&list(&[("Until", "1")])).is_empty());
    assert_eq!(list(&[("Limit", "0")])["Status"], 400);
    assert_eq!(list(&[("Username", "")])["Status"], 403);
}
