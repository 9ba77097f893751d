//! PostgreSQL as the store: what SQLite answers, several servers on one database, and a database that crashes. The
//! other tests run on it as well (`ENCKE_TEST_STORE=postgres`, see scripts/test.sh).

use crate::support::device::until;
use crate::support::{Server, postgres, stream};
use encke_api::types::{BackupJobDetail, JobEntry};
use encke_store::Store;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn ok(answer: &Value) -> &Value {
    assert_eq!(answer["Status"], 200, "{answer}");
    answer
}

fn add_user(server: &Server, name: &str) {
    let fields = [("TargetUser", name), ("TargetPassword", "long-enough")];
    ok(&server.call("/api/v1/admin/add-user", &fields));
}

/// Jobs that differ in what searches look at.
fn jobs(first_start: i64) -> Vec<BackupJobDetail> {
    let names = ["alice", "ÅSA", "bob%_", "o'neil \u{0}\\u0000", ""];
    (0..20u32)
        .map(|n| {
            let mut job = BackupJobDetail {
                guid: format!("job-{n:02}"),
                username: names[n as usize % names.len()].replace('\0', ""),
                device_id: "device".into(),
                source_guid: format!("Quelle Ö{n}"),
                status: [5000, 6001, 7002, 7000][n as usize % 4],
                classification: 4001 + u64::from(n % 3),
                start_time: first_start + i64::from(n) * 100,
                end_time: first_start + 50 + i64::from(n) * 100,
                total_size: i64::from(n) * 5_000_000_000,
                total_files: i64::from(n % 2),
                client_version: format!("25.{n}.1"),
                // What devices report may hold anything.
                cancellation_id: names[n as usize % names.len()].into(),
                ..Default::default()
            };
            job.progress.bytes_done = i64::from(n) * 7;
            job
        })
        .collect()
}

async fn fill(store: Store, first_start: i64) {
    let mut all = jobs(first_start);
    // A hundred days; ninety are kept.
    let old = all[0].start_time - 100 * 86_400;
    for (id, status, end_time) in [("old-ended", 5000, old + 60), ("old-running", 6001, 0)] {
        let (guid, start_time) = (id.to_string(), old);
        let old = BackupJobDetail {
            guid,
            status,
            start_time,
            end_time,
            ..all[0].clone()
        };
        all.push(old);
    }
    for job in all {
        let (user, id) = (job.username.clone(), job.guid.clone());
        store.report_job("", job).await.unwrap();
        let line = |(severity, message): (&str, &str)| JobEntry {
            time: 1_700_000_000,
            severity: severity.into(),
            message: message.into(),
            ..Default::default()
        };
        let lines = [
            ("I", "a line with \0 inside"),
            ("D", "Looking"),
            ("I", "50%_done"),
            ("W", "slow, 50% done"),
            ("E", "Gone"),
        ];
        store
            .append_job_log(&user, "device", &id, 0, lines.map(line).to_vec())
            .await
            .unwrap();
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn rule(field: &str, operator: &str, value: &str) -> Value {
    json!({"RuleField": field, "RuleOperator": operator, "RuleValue": value})
}

fn searches(first_start: i64) -> Vec<Value> {
    let mut all = Vec::new();
    let text = [
        ("str_eq", "alice"),
        ("str_neq", "alice"),
        ("str_contains", "li"),
        ("str_ncontains", "li"),
        ("str_startswith", "bob%"),
        ("str_nstartswith", "b"),
        ("str_endswith", "_"),
        ("str_nendswith", ""),
        ("str_eq_ci", "åsa"),
        ("str_neq_ci", "åsa"),
        ("str_contains_ci", "SA"),
        ("str_ncontains_ci", "SA"),
        ("str_startswith_ci", "AL"),
        ("str_nstartswith_ci", "AL"),
        ("str_endswith_ci", "CE"),
        ("str_nendswith_ci", "CE"),
        ("str_regexmatch", "^[a-b].*(e|_)$"),
        ("str_nregexmatch", r"\p{Lu}"),
    ];
    for field in [
        "Username",
        "CancellationID",
        "SourceGUID",
        "TotalSize",
        "ClientVersion",
        "GUID",
    ] {
        all.extend(text.iter().map(|(operator, value)| rule(field, operator, value)));
    }
    let middle = (first_start + 500).to_string();
    for operator in ["int_eq", "int_neq", "int_lt", "int_lte", "int_gt", "int_gte"] {
        for (field, value) in [
            ("TotalSize", "50000000000"),
            ("Status", "7000"),
            ("StartTime", middle.as_str()),
            ("BackupJobDetail.Progress.BytesDone", "70"),
            ("Classification", "4002"),
        ] {
            all.push(rule(field, operator, value));
        }
    }
    // Numbers as truth values: no field of a job is one by itself.
    for operator in ["bool_is", "bool_nis"] {
        for value in ["true", "0"] {
            all.push(rule("BackupJobDetail.TotalFiles", operator, value));
        }
    }
    let (a, b) = (
        rule("Username", "str_regexmatch", "^a"),
        rule("Status", "int_eq", "5000"),
    );
    for kind in ["and", "or", "not_and", "not_or"] {
        all.push(json!({"ClauseType": kind, "ClauseChildren": [a, b, {"ClauseType": "or", "ClauseChildren": [b]}]}));
        all.push(json!({"ClauseType": kind, "ClauseChildren": [b, {"ClauseType": "not_and", "ClauseChildren": [b]}]}));
        all.push(json!({"ClauseType": kind, "ClauseChildren": []}));
    }
    all
}

#[test]
fn both_databases_find_the_same_jobs() {
    // Old jobs would be pruned.
    let first_start = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() - 40_000;
    let on_file = Server::start_prepared(|data_dir| {
        block_on(fill(
            Store::open(&data_dir.join("encke.db")).unwrap(),
            first_start,
        ));
    });
    let url = postgres::database();
    block_on(async { fill(Store::connect(&url).await.unwrap(), first_start).await });
    let on_postgres = Server::start_on(&url);
    let found = |server: &Server, search: &Value| -> (BTreeSet<String>, Value) {
        let query = search.to_string();
        let fields = [("Query", query.as_str())];
        let jobs = server.call("/api/v1/admin/get-jobs-for-custom-search", &fields);
        let list = jobs.as_array().unwrap_or_else(|| panic!("{search}: {jobs}"));
        let ids = list
            .iter()
            .map(|j| j["GUID"].as_str().unwrap().to_string())
            .collect();
        let count = server.call("/api/v1/admin/count-jobs-for-custom-search", &fields);
        (ids, count)
    };
    let (mut some, mut none) = (0, 0);
    for search in searches(first_start) {
        let (expected, count) = found(&on_file, &search);
        let (ids, count_there) = found(&on_postgres, &search);
        assert_eq!(ids, expected, "{search}");
        assert_eq!(count_there, count, "{search}");
        assert_eq!(count["Count"], expected.len(), "{search}");
        if expected.is_empty() { none += 1 } else { some += 1 }
    }
    assert!(some > 60 && none > 10, "{some} {none}");
    for (search, why) in [
        (rule("Username", "str_like", "a"), "is unknown"),
        (rule("NoSuchField", "str_eq", "a"), "no field"),
        (rule("TotalSize", "int_eq", "many"), "is not a whole number"),
        (rule("Username", "int_eq", "1"), "does not fit"),
        (
            rule("Username", "str_regexmatch", "("),
            "not a regular expression",
        ),
        (json!({"ClauseType": "xor", "ClauseChildren": []}), "is unknown"),
    ] {
        for server in [&on_file, &on_postgres] {
            let query = search.to_string();
            let refused = server.call("/api/v1/admin/get-jobs-for-custom-search", &[("Query", &query)]);
            assert_eq!(refused["Status"], 400, "{search}: {refused}");
            assert!(
                refused["Message"].as_str().unwrap().contains(why),
                "{search}: {refused}"
            );
        }
    }
    for path in ["get-jobs-all", "get-jobs-recent"] {
        let ids = |server: &Server| {
            let jobs = server.call(&format!("/api/v1/admin/{path}"), &[]);
            let list = jobs.as_array().unwrap().clone();
            list.iter()
                .map(|j| j["GUID"].to_string())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(ids(&on_postgres), ids(&on_file), "{path}");
    }
    // What is older than the configuration keeps is removed with its log, unless it has not ended.
    for server in [&on_file, &on_postgres] {
        let all = until("the old job to be removed", || {
            let all = server.call("/api/v1/admin/get-jobs-all", &[]).to_string();
            (!all.contains("old-ended")).then_some(all)
        });
        assert!(all.contains("old-running") && all.contains("job-00"), "{all}");
        let log = server.call("/api/v1/admin/get-job-log-entries", &[("JobID", "old-ended")]);
        assert!(log["Status"].as_i64() >= Some(400), "{log}");
        let lines = server.call("/api/v1/admin/get-job-log-entries", &[("JobID", "job-03")]);
        assert_eq!(lines[0]["Message"], "a line with \u{fffd} inside", "{lines}");
        assert_eq!(lines.as_array().unwrap().len(), 5);
        let found = |severity: &str, words: &str| -> Vec<String> {
            let fields = [
                ("JobID", "job-03"),
                ("MinSeverity", severity),
                ("MessageContains", words),
            ];
            let lines = server.call("/api/v1/admin/get-job-log-entries", &fields);
            let all = lines.as_array().unwrap_or_else(|| panic!("{lines}"));
            all.iter()
                .map(|l| l["Severity"].as_str().unwrap().to_string())
                .collect()
        };
        assert_eq!(found("I", ""), ["I", "I", "W", "E"]);
        assert_eq!(found("E", ""), ["E"]);
        assert_eq!(found("", "50%"), ["I", "W"]);
        assert_eq!(found("D", "%_"), ["I"]);
        assert_eq!(found("W", "%_"), [""; 0]);
        let odd = [("JobID", "job-03"), ("MinSeverity", "X")];
        assert_eq!(
            server.call("/api/v1/admin/get-job-log-entries", &odd)["Status"],
            400
        );
        // A range may be given the wrong way round; none asks for what runs.
        let between = |start: i64, end: i64| -> BTreeSet<String> {
            let (start, end) = (start.to_string(), end.to_string());
            let fields = [("Start", start.as_str()), ("End", end.as_str())];
            let jobs = server.call("/api/v1/admin/get-jobs-for-date-range", &fields);
            let all = jobs.as_array().unwrap_or_else(|| panic!("{jobs}"));
            all.iter()
                .map(|j| j["GUID"].as_str().unwrap().to_string())
                .collect()
        };
        let three = BTreeSet::from(["job-01", "job-02", "job-03"].map(str::to_string));
        assert_eq!(between(first_start + 95, first_start + 305), three);
        assert_eq!(between(first_start + 305, first_start + 95), three);
        let running = ["job-01", "job-05", "job-09", "job-13", "job-17", "old-running"];
        assert_eq!(between(0, 0), BTreeSet::from(running.map(str::to_string)));
    }
}

#[test]
fn two_servers_share_a_database_and_hear_of_each_other() {
    let one = Server::start_on(&postgres::database());
    let two = Server::start_beside(&one);
    let mut heard = stream::signed_in(&two, "/api/v1/events/stream");
    add_user(&one, "alice");
    assert_eq!(heard.event_of("SEVT_ACCOUNT_NEW")["ResourceID"], "alice");
    // Names in one order on both, whatever the language of the database.
    for name in ["Zoe", "bob-b", "bob.a", "Émile"] {
        add_user(if name.len() == 3 { &one } else { &two }, name);
    }
    let names = two.call("/api/v1/admin/list-users", &[]);
    assert_eq!(names, json!(["Zoe", "alice", "bob-b", "bob.a", "Émile"]));
    assert_eq!(one.call("/api/v1/admin/list-users", &[]), names);

    // Writers of one profile over both servers lose nothing.
    std::thread::scope(|scope| {
        for n in 0..6 {
            let server = [&one, &two][n % 2];
            scope.spawn(move || {
                loop {
                    let user = [("TargetUser", "alice")];
                    let got = server.call("/api/v1/admin/get-user-profile-and-hash", &user);
                    let mut profile = got["Profile"].clone();
                    profile["Emails"]
                        .as_array_mut()
                        .unwrap()
                        .push(json!(format!("{n}@example.com")));
                    let fields = [
                        ("TargetUser", "alice".to_string()),
                        ("ProfileData", profile.to_string()),
                        ("RequireHash", got["ProfileHash"].as_str().unwrap().to_string()),
                    ];
                    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    if server.call("/api/v1/admin/set-user-profile-hash", &fields)["Status"] == 200 {
                        break;
                    }
                }
            });
        }
    });
    let profile = two.call("/api/v1/admin/get-user-profile", &[("TargetUser", "alice")]);
    assert_eq!(
        profile["Emails"].as_array().unwrap().len(),
        6,
        "{}",
        profile["Emails"]
    );

    // An administrator who was added on one may sign in on the other.
    let fields = [
        ("TargetUser", "ada"),
        ("TargetPassword", "adas-password"),
        ("TargetOrgID", ""),
    ];
    ok(&one.call("/api/v1/admin/admin-user/new", &fields));
    until("the other server to know of her", || {
        let admins = two.call("/api/v1/admin/admin-user/list", &[]);
        let known = admins.as_array()?.iter().any(|a| a["Username"] == "ada");
        known.then_some(())
    });
    let ada = [
        ("Username", "ada"),
        ("AuthType", "Password"),
        ("Password", "adas-password"),
    ];
    assert_eq!(two.post("/api/v1/admin/list-users", &ada), names);
}

#[test]
fn a_crashed_database_loses_nothing_and_comes_back() {
    let cluster = postgres::Cluster::start();
    let url = cluster.url("postgres");
    let server = Server::start_on(&url);
    let mut heard = stream::signed_in(&server, "/api/v1/events/stream");
    for round in 0..3 {
        let name = format!("user{round}");
        add_user(&server, &name);
        cluster.crash();
        // Calls may fail while connections are made anew, but not for long.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let names = loop {
            let names = server.call("/api/v1/admin/list-users", &[]);
            if names.is_array() {
                break names;
            }
            assert!(std::time::Instant::now() < end, "{names}");
        };
        assert!(names.as_array().unwrap().contains(&json!(name)), "{names}");
    }
    add_user(&server, "last");
    while heard.event_of("SEVT_ACCOUNT_NEW")["ResourceID"] != "last" {}
    assert_eq!(postgres::execute(&url, "SELECT COUNT(*) FROM users").trim(), "4");
}
