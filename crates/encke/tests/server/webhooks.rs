//! Webhooks against a receiver that fails now and then: order, retries, signatures, restarts, tenants.

use crate::support::device::until;
use crate::support::services::{Got, serve};
use crate::support::{Server, configure};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

const GET: &str = "/api/v1/admin/meta/webhook-options/get";
const SET: &str = "/api/v1/admin/meta/webhook-options/set";
const LIST: &str = "/api/encke/v1/webhooks/list";
const SECRET: &str = "Bearer very-secret-token";

/// A message as it arrived, and what it was answered.
#[derive(Clone)]
struct Message {
    path: String,
    head: String,
    body: String,
    event: Value,
    status: u16,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        let start = format!("{name}: ");
        let line = self.head.lines().find_map(|l| l.strip_prefix(&start));
        line.unwrap_or_default().trim()
    }

    fn kind(&self) -> &str {
        self.event["TypeString"].as_str().unwrap()
    }
}

type Messages = Arc<Mutex<Vec<Message>>>;

/// A receiver that answers what `status` says to the n-th message.
fn receiver(status: impl Fn(usize, &Got) -> u16 + Send + 'static) -> (String, Messages) {
    let messages = Messages::default();
    let kept = messages.clone();
    let url = serve(move |got| {
        let mut kept = kept.lock().unwrap();
        let status = status(kept.len(), &got);
        kept.push(Message {
            event: serde_json::from_str(&got.body).unwrap(),
            path: got.path,
            head: got.head,
            body: got.body,
            status,
        });
        (status, String::new())
    });
    (url, messages)
}

fn seen(messages: &Messages) -> Vec<Message> {
    messages.lock().unwrap().clone()
}

fn set(server: &Server, hooks: &Value) -> Value {
    server.call(SET, &[("WebhookOptions", &hooks.to_string())])
}

fn hook(url: &str, kinds: &[i64]) -> Value {
    json!({ "URL": url, "CustomHeaders": {}, "Level": "full", "WhiteListedEventTypes": kinds })
}

fn add_user(server: &Server, name: &str) {
    let fields = [("TargetUser", name), ("TargetPassword", "long enough")];
    assert_eq!(server.call("/api/v1/admin/add-user", &fields)["Status"], 200);
}

/// The accounts that arrived, in order, each the first time.
fn accounts(messages: &Messages) -> Vec<String> {
    let mut known = HashSet::new();
    seen(messages)
        .iter()
        .filter(|m| m.kind() == "SEVT_ACCOUNT_NEW" && m.status == 200)
        .filter(|m| known.insert(m.header("x-encke-event-id").to_string()))
        .map(|m| m.event["ResourceID"].as_str().unwrap().to_string())
        .collect()
}

/// HMAC by another program than ours.
fn hmac(key: &str, text: &str) -> String {
    let script =
        "import hmac,sys; print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), 'sha256').hexdigest())";
    let output = Command::new("python3")
        .args(["-c", script, key, text])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// What happens is told in order, over failures of the receiver, a crash and a time when the receiver is away.
#[test]
fn events_arrive_in_order_over_failures_and_a_crash() {
    let mut server = Server::start();
    // Every third message fails, in a way of its own; a redirect is not followed.
    let (url, messages) = receiver(|n, _| match n % 9 {
        2 => 503,
        5 => 404,
        8 => 307,
        _ => 200,
    });
    let wanted = json!({ "mine": hook(&format!("{url}/in?x=1"), &[4100]) });
    assert_eq!(set(&server, &wanted)["Status"], 200);
    let names: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    for name in &names[..4] {
        add_user(&server, name);
    }
    until("the first ones", || {
        (accounts(&messages).len() >= 2).then_some(())
    });
    server.kill();
    server.restart();
    for name in &names[4..] {
        add_user(&server, name);
    }
    until("all of them", || {
        (accounts(&messages).len() == names.len()).then_some(())
    });
    assert_eq!(accounts(&messages), names, "in order and none left out");
    let told = server.call(LIST, &[]);
    until("the position to be written", || {
        (server.call(LIST, &[])["mine"]["LastSuccess"].as_i64().unwrap() > 0).then_some(())
    });
    let key = told["mine"]["SigningKey"].as_str().unwrap();
    for message in seen(&messages) {
        assert_eq!(message.path, "/in?x=1");
        let signature = message.header("x-encke-signature");
        let (time, given) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let id = message.header("x-encke-event-id");
        assert_eq!(hmac(key, &format!("{time}.{id}.{}", message.body)), given);
        assert!(!message.header("x-comet-tracing-id").is_empty());
        assert_eq!(message.header("content-type"), "application/json");
    }
    // Retries keep the event's id and the tracing id.
    let all = seen(&messages);
    let failed = all.iter().find(|m| m.status == 503).unwrap();
    let same = |m: &&Message| m.header("x-encke-event-id") == failed.header("x-encke-event-id");
    assert!(all.iter().filter(same).count() >= 2);
    // A key can be changed.
    let renewed = server.call("/api/encke/v1/webhooks/new-key", &[("Name", "mine")]);
    assert_eq!(renewed["Status"], 200, "{renewed}");
    assert_ne!(server.call(LIST, &[])["mine"]["SigningKey"], key);
}

#[test]
fn a_webhook_chooses_events_and_data_and_keeps_its_headers_secret() {
    let mut server = Server::start();
    let (url, messages) = receiver(|_, _| 200);
    let mut all = hook(&format!("{url}/all"), &[]);
    all["CustomHeaders"] =
        json!({ "Authorization": SECRET, "Host": "elsewhere", "X-Comet-Tracing-Id": "mine" });
    let mut bare = hook(&format!("{url}/bare"), &[4100]);
    bare["Level"] = json!("none");
    let wanted = json!({ "all": all, "bare": bare });
    assert_eq!(set(&server, &wanted)["Status"], 200);
    let shown = server.call(GET, &[]);
    assert_eq!(shown["all"]["CustomHeaders"]["Authorization"], "********");
    let config = server.call("/api/v1/admin/meta/server-config/get", &[]);
    assert_eq!(
        config["WebhookOptions"]["all"]["CustomHeaders"]["Authorization"],
        "********"
    );
    until("hello", || {
        seen(&messages)
            .iter()
            .find(|m| m.kind() == "SEVT_META_HELLO")
            .cloned()
    });
    add_user(&server, "alice");
    let of = |path: &str, kind: &str| {
        until(&format!("{kind} at {path}"), || {
            let mut all = seen(&messages).into_iter();
            all.find(|m| m.path == path && m.kind() == kind)
        })
    };
    let full = of("/all", "SEVT_ACCOUNT_NEW");
    assert_eq!(full.event["Data"]["Username"], "alice");
    assert_eq!(full.header("authorization"), SECRET.to_lowercase());
    assert_ne!(full.header("x-comet-tracing-id"), "mine");
    assert!(full.header("host").starts_with("127.0.0.1"));
    let none = of("/bare", "SEVT_ACCOUNT_NEW");
    assert_eq!(
        (&none.event["Data"], &none.event["ResourceID"]),
        (&Value::Null, &json!("alice"))
    );
    // Log-ins are told as well, though they are not stored.
    of("/all", "SEVT_ACCOUNT_ADMIN_LOGIN");
    assert!(
        !seen(&messages)
            .iter()
            .any(|m| m.path == "/bare" && m.kind() != "SEVT_ACCOUNT_NEW")
    );
    // What was shown can be set again, but a secret goes to no other address.
    assert_eq!(set(&server, &shown)["Status"], 200);
    add_user(&server, "bob");
    let again = until("bob", || {
        let mut all = seen(&messages).into_iter();
        all.find(|m| m.path == "/all" && m.event["ResourceID"] == "bob")
    });
    assert_eq!(again.header("authorization"), SECRET.to_lowercase());
    let mut moved = shown.clone();
    moved["all"]["URL"] = json!("http://127.0.0.1:9/other");
    assert_eq!(set(&server, &moved)["Status"], 400);
    for (url, status) in [
        ("ftp://x", 400),
        ("http://", 400),
        ("", 400),
        ("javascript:alert(1)", 400),
    ] {
        assert_eq!(
            set(&server, &json!({ "x": hook(url, &[]) }))["Status"],
            status,
            "{url}"
        );
    }
    let mut odd = hook(&url, &[]);
    odd["CustomHeaders"] = json!({ "X-A": "line\nbreak" });
    assert_eq!(set(&server, &json!({ "x": odd }))["Status"], 400);
    server.stop();
    assert!(!server.log().contains("very-secret-token"));
    let found = Command::new("grep")
        .args(["-rqaF", "very-secret-token"])
        .arg(&server.data_dir)
        .status();
    assert!(!found.unwrap().success(), "a header's secret lies in clear");
}

#[test]
fn setting_webhooks_drops_what_waited_and_a_refused_event_does_not_stop_the_next() {
    let server = Server::start();
    let (dead, lost) = receiver(|_, _| 500);
    assert_eq!(set(&server, &json!({ "a": hook(&dead, &[4100]) }))["Status"], 200);
    add_user(&server, "early");
    until("a try", || (!seen(&lost).is_empty()).then_some(()));
    add_user(&server, "waiting");
    let told = server.call(LIST, &[]);
    assert!(told["a"]["Waiting"].as_i64().unwrap() >= 2, "{told}");
    until("the failure to be told", || {
        (server.call(LIST, &[])["a"]["Error"] == "the receiver answered 500").then_some(())
    });
    let (url, messages) = receiver(|_, got| if got.body.contains("poison") { 400 } else { 200 });
    assert_eq!(set(&server, &json!({ "a": hook(&url, &[4100]) }))["Status"], 200);
    add_user(&server, "poison");
    add_user(&server, "fresh");
    until("the next one", || {
        (accounts(&messages) == ["fresh"]).then_some(())
    });
    let tries = seen(&messages).iter().filter(|m| m.status == 400).count();
    assert_eq!(tries, 5, "the refused one is given up");
}

#[test]
fn a_tenant_s_webhook_tells_of_the_tenant_alone() {
    let mut server = Server::start();
    let organization = json!({ "Name": "acme", "Hosts": ["acme.example.com"] }).to_string();
    let made = server.call(
        "/api/v1/admin/organization/set",
        &[("OrganizationID", "acme"), ("Organization", &organization)],
    );
    assert_eq!(made["Status"], 200, "{made}");
    server.stop();
    configure(&server.data_dir, |config| {
        for (name, may) in [("ann", true), ("bob", false)] {
            let admin = json!({ "Username": name, "OrganizationID": "acme", "Password": "long enough",
                "PasswordFormat": 0, "AllowPasswordLogin": true, "Permissions": { "AllowEditWebhooks": may } });
            config.admin_users.push(serde_json::from_value(admin).unwrap());
        }
    });
    server.restart();
    let as_admin = |name: &str, path: &str, fields: &[(&str, &str)]| {
        let mut all = vec![
            ("Username", name),
            ("AuthType", "Password"),
            ("Password", "long enough"),
        ];
        all.extend(fields);
        server.post_to_host("acme.example.com", path, &all)
    };
    let (url, messages) = receiver(|_, _| 200);
    let (top_url, top) = receiver(|_, _| 200);
    let own = json!({ "own": hook(&url, &[]) }).to_string();
    assert_eq!(as_admin("bob", SET, &[("WebhookOptions", &own)])["Status"], 403);
    assert_eq!(as_admin("bob", LIST, &[])["Status"], 403);
    assert_eq!(as_admin("ann", SET, &[("WebhookOptions", &own)])["Status"], 200);
    assert_eq!(server.call(GET, &[]), json!({}), "the top level has its own");
    assert_eq!(
        set(&server, &json!({ "top": hook(&top_url, &[4100]) }))["Status"],
        200
    );
    add_user(&server, "top-user");
    let fields = [("TargetUser", "amy"), ("TargetPassword", "long enough")];
    assert_eq!(as_admin("ann", "/api/v1/admin/add-user", &fields)["Status"], 200);
    until("amy", || (accounts(&messages) == ["amy"]).then_some(()));
    until("both", || (accounts(&top) == ["top-user", "amy"]).then_some(()));
    let foreign = |m: &Message| m.event["OwnerOrganizationID"] != "acme";
    assert!(!seen(&messages).iter().any(foreign));
    assert_eq!(as_admin("ann", LIST, &[]).as_object().unwrap().len(), 1);
    // Gone with the tenant.
    let gone = server.call("/api/v1/admin/organization/delete", &[("OrganizationID", "acme")]);
    assert_eq!(gone["Status"], 200, "{gone}");
    assert_eq!(server.call(LIST, &[]).as_object().unwrap().len(), 1);
}
