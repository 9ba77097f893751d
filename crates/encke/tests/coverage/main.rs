//! Every endpoint of the table, called over HTTP with everything that can be wrong and with everything right. An
//! endpoint that is added to the table is covered by being there; only a parameter of a kind never seen before needs a
//! line in `world.rs`.

#![allow(clippy::unwrap_used)]

mod answers;
mod equipment;
mod examples;
#[path = "../support/mod.rs"]
mod support;
mod world;

use encke_api::endpoint::{Caller, Endpoint, Support};
use encke_server::table::Table;
use serde_json::json;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use support::{Server, configure};
use world::{CANARY, MALLORY, NORTH, STAN, SUSE, WENDY, Who, World};

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(encke_server::all_routes()));

/// What is wrong, collected so that one run tells everything.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, e: &Endpoint, when: &str, what: &str) {
        self.0.push(format!("{} ({}), {when}: {what}", e.name, e.path));
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(
                self.0.is_empty(),
                "{} faults\n{}",
                self.0.len(),
                self.0.join("\n")
            );
        }
    }
}

fn is_supported(e: &Endpoint) -> bool {
    e.support == Support::Supported
}

/// What a stranger must not read: names and ids of others' things that the request did not tell itself.
fn leak(world: &World, fields: &[(String, String)], body: &str) -> Option<String> {
    let ids = world.facts.values().map(String::as_str);
    let secrets = ids.chain([CANARY, NORTH, "vera", "nadia", "device-61b0", "letter.txt"]);
    let told = |secret: &str| fields.iter().any(|(_, v)| v.contains(secret));
    secrets
        .filter(|s| body.contains(s) && !told(s))
        .map(str::to_string)
        .next()
}

#[test]
fn strangers_foreigners_and_the_suspended_get_nothing() {
    let world = World::start(true);
    let mut faults = Faults::default();
    let before = world.state();
    for e in TABLE.endpoints().filter(|e| e.caller != Caller::Nobody) {
        let is_user = e.caller == Caller::User;
        let fields = world.fields(e, false);
        let right = world.right(e);
        let refused: [(&str, Option<Who>); 4] = [
            ("without credentials", None),
            (
                "with a wrong password",
                Some(Who {
                    password: "wrong",
                    ..right
                }),
            ),
            ("suspended", Some(if is_user { SUSE } else { WENDY })),
            (
                "as the other kind of caller",
                Some(if is_user { world::FIRST } else { world::DORA }),
            ),
        ];
        for (when, caller) in refused {
            if e.caller == Caller::AdminOrUser && when.starts_with("as the other") {
                continue;
            }
            let answer = world.call(e, caller, &fields);
            match answer.failure() {
                Some((403 | 429, _)) => {}
                _ => faults.add(e, when, &answer.shown()),
            }
            if let Some(fault) = answer.fault(e) {
                faults.add(e, when, &fault);
            }
        }
        // A session that does not exist, with somebody's right name.
        let made_up = [
            ("Username", right.name),
            ("AuthType", "SessionKey"),
            ("SessionKey", "00112233"),
        ];
        let answer = world.send(e, &made_up, "", &fields);
        if !matches!(answer.failure(), Some((403, _))) {
            faults.add(e, "with a made-up session", &answer.shown());
        }
        for (when, north) in [
            ("naming things of the top level", false),
            ("naming things of a tenant", true),
        ] {
            let fields = world.fields(e, north);
            let answer = world.call(e, Some(if is_user { STAN } else { MALLORY }), &fields);
            if let Some(fault) = answer.fault(e) {
                faults.add(
                    e,
                    &format!("a foreigner {when}"),
                    &format!("{fault}: {}", answer.shown()),
                );
            }
            if let Some(secret) = leak(&world, &fields, &answer.text()) {
                faults.add(
                    e,
                    &format!("a foreigner {when}"),
                    &format!("read {secret}: {}", answer.shown()),
                );
            }
            if e.top_level_only && !matches!(answer.failure(), Some((403, _))) {
                faults.add(e, &format!("a foreigner {when}"), &answer.shown());
            }
        }
    }
    let after = world.state();
    for lost in before.iter().filter(|line| !after.contains(line)) {
        faults.0.push(format!("changed by somebody who may not: {lost}"));
    }
    for new in after.iter().filter(|line| !before.contains(line)) {
        faults.0.push(format!("made by somebody who may not: {new}"));
    }
    assert!(!before.is_empty());
    // The one who may see it all does see what the others were not to see.
    for name in [
        "AdminListUsersFull",
        "AdminStorageListBuckets",
        "AdminDispatcherListActive",
    ] {
        let e = TABLE.endpoints().find(|e| e.name == name).unwrap();
        let answer = world.call(e, Some(world::FIRST), &[]);
        assert!(
            leak(&world, &[], &answer.text()).is_some(),
            "{name}: {}",
            answer.shown()
        );
    }
}

#[test]
fn a_role_that_is_switched_off_refuses_its_calls() {
    let server = Server::start_prepared(|data_dir| {
        configure(data_dir, |config| {
            config.authentication_role.role_enabled = false;
            config.storage_role.role_enabled = false;
        });
    });
    let mut faults = Faults::default();
    let mut tried = 0;
    for e in TABLE.endpoints() {
        let is_form = e.method == "POST" && e.params.iter().all(|p| (p.type_name)() != "bytes");
        if e.caller != Caller::Admin || e.roles.is_empty() || !is_supported(e) || !is_form {
            continue;
        }
        tried += 1;
        let answer = server.call(e.path, &[]);
        if answer["Status"] != 403
            || !answer["Message"]
                .as_str()
                .unwrap_or_default()
                .contains("switched off")
        {
            faults.add(e, "with its role off", &answer.to_string());
        }
    }
    assert!(tried > 80, "{tried}");
}

/// Values that are no value of the type; for text, such as hurt whoever does not escape them.
fn malformed(kind: &str) -> Vec<String> {
    let fixed: &[&str] = match kind {
        "string" => &["", "\0'\"<b>%00&{[\u{202e}../../..", "%"],
        "bytes" => &[""],
        "int" => &["1e9", "99999999999999999999", "one", "{}", ""],
        "bool" => &["maybe", "2", "{}"],
        k if k.starts_with("[]") => &["{\"open\": ", "{\"0\":1}", "7", "[[]", "[{\"\u{0}\":", ""],
        _ => &["{\"open\": ", "[7]", "\"text\"", "{} {}", "nul", ""],
    };
    let mut out: Vec<String> = fixed.iter().map(|s| (*s).to_string()).collect();
    if kind == "string" {
        out.push("x".repeat(70_000));
    } else if !["bytes", "int", "bool"].contains(&kind) {
        // Deeper than any stack of a reader that calls itself.
        out.push("[".repeat(100_000));
        out.push("{\"a\":".repeat(100_000));
    }
    out
}

#[test]
fn a_missing_or_malformed_parameter_is_named_and_nothing_breaks() {
    let mut world = World::start(false);
    let mut faults = Faults::default();
    // What ends the process comes last: text that is malformed for one parameter may be right for the call.
    let ends = |e: &&Endpoint| {
        answers::PUBLISHED
            .get(e.path)
            .is_some_and(|p| p["server_process_exits"] == true)
    };
    let mut all: Vec<&Endpoint> = TABLE.endpoints().collect();
    all.sort_by_key(ends);
    for e in all {
        let right = (e.caller != Caller::Nobody).then(|| world.right(e));
        if let Some(why) = e.support.refusal() {
            let answer = world.call(e, right, &[]);
            match answer.failure() {
                Some((501, message)) if message.contains(why) => {}
                _ => faults.add(e, "unsupported", &answer.shown()),
            }
            continue;
        }
        if e.params.is_empty() {
            continue;
        }
        let fields = world.fields(e, false);
        for p in e.params.iter().filter(|p| p.name != "SessionKey") {
            let kind = (p.type_name)();
            let others = || fields.iter().filter(|(n, _)| n != p.name).cloned();
            if !p.optional {
                let answer = world.call(e, right, &others().collect::<Vec<_>>());
                match answer.failure() {
                    Some((400, m)) if m.contains("Missing") && m.contains(p.name) => {}
                    // The first administrator can be made only once, whatever else is wrong.
                    Some((403, _)) if e.name == "AdminAddFirstAdminUser" => {}
                    _ => faults.add(e, &format!("without {}", p.name), &answer.shown()),
                }
            }
            for value in malformed(&kind) {
                let shown: String = value.chars().take(20).collect();
                let mut sent: Vec<_> = others().collect();
                sent.push((p.name.to_string(), value.clone()));
                let answer = world.call(e, right, &sent);
                let when = format!("with {}={shown:?}", p.name);
                if let Some(fault) = answer.fault(e) {
                    faults.add(e, &when, &format!("{fault}: {}", answer.shown()));
                }
                // Text is judged by the handler, and an empty field is how some clients leave a parameter out.
                if kind == "string" || kind == "bytes" || value.is_empty() && (p.optional || kind == "bool") {
                    continue;
                }
                match answer.failure() {
                    Some((400, message)) if message.contains(p.name) => {}
                    _ => faults.add(e, &when, &answer.shown()),
                }
            }
        }
        if let Some(hash) = ends(&e).then(|| world.start_hash()) {
            match hash {
                Some(_) => {}
                None => world.server.restart_here(),
            }
        }
    }
    let alive = world.server.call("/api/v1/admin/account/properties", &[]);
    assert!(alive.get("Status").is_none_or(|s| s == 200), "{alive}");
}

/// Supported calls that can not succeed here, and why: with the test that shows them.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "EnckeReplicationRestart",
        "there is no other server to copy to: replication.rs",
    ),
    (
        "EnckeReplicationPutAccount",
        "it takes what another server sends, secrets included: replication.rs",
    ),
];

/// Reads first, then what writes, then what removes or ends something.
fn turn(e: &Endpoint) -> u8 {
    let published = answers::PUBLISHED.get(e.path);
    let is = |key: &str| published.is_some_and(|p| p[key] == true);
    let has = |words: &[&str]| words.iter().any(|w| e.path.contains(w));
    if is("server_process_exits") {
        return if e.path.contains("shutdown") { 10 } else { 9 };
    }
    if has(&["revoke-device"]) {
        return 8;
    }
    // What these are about was made by a call of an earlier turn.
    if has(&["resource/get"]) {
        return 3;
    }
    if has(&["export-file", "export-status", "send-now"]) {
        return 1;
    }
    if has(&["stop-export", "delete-schedule"]) {
        return 5;
    }
    if has(&[
        "uninstall",
        "kill-process",
        "drop-connection",
        "update-login-url",
        "force-login",
        "update-software",
    ]) {
        return 7;
    }
    if has(&["totp", "session", "account/"]) {
        return if has(&["revoke"]) {
            5
        } else {
            3 + u8::from(has(&["validate", "upgrade"]))
        };
    }
    if is("destructive") || has(&["delete", "remove", "revoke", "abandon", "unlock"]) {
        return if has(&["delete-user", "organization", "reports/delete"]) {
            6
        } else {
            5
        };
    }
    if has(&[
        "/set", "reset", "new", "submit", "update", "import", "restore", "run-",
    ]) {
        return 2;
    }
    u8::from(has(&["add-user-from-profile"]))
}

#[test]
fn what_is_right_succeeds_with_the_published_structure() {
    let mut world = World::start(true);
    let _equipment = equipment::start(&mut world);
    let mut faults = Faults::default();
    let mut shown = examples::Examples::default();
    let mut failed = HashMap::new();
    let mut all: Vec<&Endpoint> = TABLE.endpoints().filter(|e| is_supported(e)).collect();
    all.sort_by_key(|e| turn(e));
    for e in all {
        let before = world.start_hash();
        let asked = Instant::now();
        let (mut fields, mut answer) = world.call_rightly(e);
        let passes = |answer: &answers::Answer| match answer.failure() {
            // The device was about to connect anew; a connection is named by an id of its own.
            Some((403, "Unauthorised") | (503, _)) => e.path.contains("dispatcher"),
            // What the device told of itself changed the profile after its hash was read; a file is being made.
            Some((409, why)) => why.starts_with("The document was changed") || why.contains("not done yet"),
            _ => false,
        };
        while passes(&answer) && asked.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
            (fields, answer) = world.call_rightly(e);
        }
        let right = (e.caller != Caller::Nobody).then(|| world.right(e));
        if let Some(fault) = answer.fault(e) {
            faults.add(e, "right", &format!("{fault}: {}", answer.shown()));
        }
        match answer.failure() {
            Some((status, message)) => drop(failed.insert(e.name, format!("{status} {message}"))),
            None => shown.keep(e, right, &fields, &answer),
        }
        if turn(e) >= 9
            && answer.failure().is_none()
            && let Some(before) = before
        {
            world.wait_back(&before);
        }
        learn(&mut world, e, &answer);
    }
    for e in TABLE.endpoints().filter(|e| is_supported(e)) {
        let is_excepted = EXCEPTIONS.iter().any(|(name, _)| *name == e.name);
        if !shown.has(e.name) && !is_excepted {
            faults.add(e, "right", &format!("it must succeed: {:?}", failed.get(e.name)));
        }
    }
    shown.compare(&TABLE, &mut faults.0);
}

/// Remembers the ids of what a call made, for the calls after it.
fn learn(world: &mut World, e: &Endpoint, answer: &answers::Answer) {
    let Some(made) = &answer.json else { return };
    let text = |key: &str| made[key].as_str().map(str::to_string);
    let facts = [
        (
            "resource",
            text("ResourceHash").filter(|_| e.path.ends_with("resource/new")),
        ),
        (
            if e.caller == Caller::User {
                "user totp"
            } else {
                "admin totp"
            },
            text("URL").filter(|_| e.path.contains("regenerate-totp")),
        ),
        ("report", text("ReportID")),
        ("export", text("ExportID")),
        ("schedule", text("ScheduleID")),
        (
            "report source",
            text("SourceID").filter(|_| e.path.contains("/reports/")),
        ),
        (
            "report template",
            made["Template"]
                .as_i64()
                .map(|n| n.to_string())
                .filter(|_| e.path.ends_with("save-template")),
        ),
        ("provider", {
            let first = made.as_object().and_then(|o| o.keys().next().cloned());
            first.filter(|_| {
                e.path.ends_with("request-storage-vault-providers") && made["Status"] == json!(null)
            })
        }),
    ];
    for (name, id) in facts {
        if let Some(id) = id {
            world.facts.insert(name, id);
        }
    }
}
