//! The report service as a website's developer uses it: a code, pages, limits and every error.

use crate::support::{Server, http};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

const RUN: &str = "/data-backend/api/public/areports/run";

struct Answer {
    status: u16,
    headers: std::collections::HashMap<String, String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

fn fetch(server: &Server, method: &str, path: &str) -> Answer {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", server.url))
        .body(())
        .unwrap();
    let mut answer = http().run(request).unwrap();
    let headers = answer
        .headers()
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_string()))
        .collect();
    Answer {
        status: answer.status().as_u16(),
        headers,
        text: answer.body_mut().read_to_string().unwrap(),
    }
}

/// Ten calls a second are allowed, and a test makes more: it waits for the server's word, as a puller should.
fn get(server: &Server, path: &str) -> Answer {
    loop {
        let answer = fetch(server, "GET", path);
        if answer.status != 429 {
            return answer;
        }
        thread::sleep(Duration::from_secs(
            answer.headers["retry-after"].parse().unwrap(),
        ));
    }
}

fn shared(server: &Server) -> (String, String) {
    let made = server.call(
        "/api/encke/v1/reports/save-sample",
        &[("Size", "185"), ("Seed", "1")],
    );
    assert_eq!(made["Status"], 200, "{made}");
    (
        made["ReportID"].as_str().unwrap().into(),
        made["APICode"].as_str().unwrap().into(),
    )
}

#[test]
fn the_sample_answers_as_the_contract_says() {
    let server = Server::start();
    let (_, code) = shared(&server);
    assert!(code.len() == 160 && code.bytes().all(|b| b.is_ascii_hexdigit()));
    let path = format!("{RUN}/0/25/?API_KEY={code}");
    let first = get(&server, &path);
    assert_eq!(first.status, 200);
    let keys: Vec<&str> = [
        "reportName",
        "columnTypes",
        "columnNames",
        "columnKeys",
        "results",
        "totalSize",
        "page",
        "pageSize",
        "lastPage",
        "sortField",
        "sortDirection",
        "locale",
        "pivot",
        "curl",
        "apiKeyRequestURL",
        "reportTemplateID",
    ]
    .to_vec();
    let positions: Vec<usize> = keys
        .iter()
        .map(|k| first.text.find(&format!("\"{k}\":")).unwrap())
        .collect();
    assert!(positions.is_sorted(), "the fields' order");
    let page = first.json();
    assert_eq!(page.as_object().unwrap().len(), keys.len());
    assert_eq!(
        (&page["reportName"], &page["totalSize"]),
        (&json!("Person Registrations"), &json!(185))
    );
    assert_eq!(
        (&page["page"], &page["pageSize"], &page["lastPage"]),
        (&json!(0), &json!(25), &json!(7))
    );
    assert_eq!(
        (
            &page["sortField"],
            &page["sortDirection"],
            &page["pivot"],
            &page["curl"]
        ),
        (&Value::Null, &json!("asc"), &json!(false), &Value::Null)
    );
    assert_eq!(page["apiKeyRequestURL"], format!("{}{path}", server.url));
    assert!(page["reportTemplateID"].is_i64());
    let types = page["columnTypes"].as_array().unwrap();
    let columns = page["columnKeys"].as_array().unwrap();
    assert_eq!(types.len(), columns.len());
    let mut uids = std::collections::HashSet::new();
    let mut number = 0;
    for p in 0..8 {
        let page = get(&server, &format!("{RUN}/{p}/25/?API_KEY={code}"));
        let rows = page.json()["results"].as_array().unwrap().clone();
        assert_eq!(rows.len(), if p == 7 { 10 } else { 25 });
        for row in rows {
            number += 1;
            assert_eq!(row["#result_id#"], number.to_string());
            assert!(uids.insert(row["uid"].to_string()));
            assert!(row["lastUpdateDateTime"].is_i64());
            for (key, kind) in columns.iter().zip(types) {
                let value = row
                    .get(key.as_str().unwrap())
                    .expect("a missing value is null, not left out");
                let fits = match kind.as_str().unwrap() {
                    "NUMBER" | "AMOUNT" => value.is_number() || value.is_null(),
                    "DATE" => value.as_i64().is_some_and(|ms| ms.rem_euclid(86_400_000) == 0),
                    "DATETIME" => value.is_i64(),
                    "IMAGELINK" => value.as_str().is_some_and(|v| v.starts_with(&server.url)),
                    _ => value.is_string() || value.is_null(),
                };
                assert!(fits, "{key} of type {kind}: {value}");
            }
        }
        assert_eq!(
            page.headers["x-encke-snapshot"], first.headers["x-encke-snapshot"],
            "one snapshot for all pages"
        );
    }
    let photo = page["results"][0]["photo"].as_str().unwrap();
    let picture = get(&server, photo.strip_prefix(&server.url).unwrap());
    assert_eq!(
        (picture.status, picture.headers["content-type"].as_str()),
        (200, "image/svg+xml")
    );
}

#[test]
fn every_spelling_and_every_error() {
    let server = Server::start();
    let (_, code) = shared(&server);
    let key = format!("?API_KEY={code}");
    for path in [
        format!("{RUN}/0/25{key}"),
        format!("{RUN}{key}"),
        format!("{RUN}/{key}"),
        format!("{RUN}/0/{key}"),
        format!("{RUN}/0/25/{key}&page=3"),
        format!("/data-backend/apu/public/areports/0/25{key}"),
        format!("/data-backend/apu/public/areports/0/25/{key}"),
    ] {
        let page = get(&server, &path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(
            (&page.json()["page"], &page.json()["pageSize"]),
            (&json!(0), &json!(25)),
            "{path}"
        );
    }
    assert_eq!(
        get(&server, &format!("{RUN}/0/1000/{key}")).json()["results"]
            .as_array()
            .unwrap()
            .len(),
        185
    );
    assert_eq!(
        get(&server, &format!("{RUN}/99/25/{key}")).json()["results"],
        json!([])
    );
    for (path, status) in [
        (format!("{RUN}/0/1001/{key}"), 400),
        (format!("{RUN}/0/0/{key}"), 400),
        (format!("{RUN}/-1/25/{key}"), 400),
        (format!("{RUN}/x/25/{key}"), 400),
        (format!("{RUN}/0/25/"), 401),
        (format!("{RUN}/0/25/?API_KEY=short"), 401),
        (format!("{RUN}/0/25/?API_KEY={}", "0".repeat(160)), 401),
    ] {
        let refused = get(&server, &path);
        assert_eq!(refused.status, status, "{path}");
        assert!(refused.json()["error"].is_string());
    }
    let post = fetch(&server, "POST", &format!("{RUN}/0/25/{key}"));
    assert_eq!((post.status, post.headers["allow"].as_str()), (405, "GET, HEAD"));
    thread::sleep(Duration::from_secs(1));
    let head = fetch(&server, "HEAD", &format!("{RUN}/0/25/{key}"));
    assert_eq!(
        (
            head.status,
            head.text.as_str(),
            head.headers["access-control-allow-origin"].as_str()
        ),
        (200, "", "*")
    );
    let page = get(&server, &format!("{RUN}/0/25/{key}"));
    assert!(page.headers["link"].contains("/run/1/25/"));
    let mut same = http()
        .get(format!("{}{RUN}/0/25/{key}", server.url))
        .header("If-None-Match", &page.headers["etag"])
        .call()
        .unwrap();
    assert_eq!(
        (
            same.status().as_u16(),
            same.body_mut().read_to_string().unwrap().as_str()
        ),
        (304, "")
    );
}

#[test]
fn ten_calls_a_second_and_no_queue() {
    let server = Server::start();
    let (_, code) = shared(&server);
    // The limit counts an owner's calls over all of its codes.
    let second = server.call(
        "/api/encke/v1/reports/save-sample",
        &[("Size", "3"), ("Seed", "2")],
    );
    let codes = [code.as_str(), second["APICode"].as_str().unwrap()];
    assert_ne!(codes[0], codes[1]);
    // All at once: a slow machine must not stretch the calls over seconds, which would allow more of them.
    let started = Instant::now();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let calls: Vec<_> = (0..40)
            .map(|n| {
                let (server, code) = (&server, codes[n % 2]);
                scope.spawn(move || fetch(server, "GET", &format!("{RUN}/0/1/?API_KEY={code}")))
            })
            .collect();
        calls.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let seconds = usize::try_from(started.elapsed().as_secs() + 1).unwrap();
    let served = answers.iter().filter(|a| a.status == 200).count();
    assert!(
        (10..=10 + 10 * seconds).contains(&served),
        "{served} served in {seconds} s"
    );
    for refused in answers.iter().filter(|a| a.status != 200) {
        assert_eq!(refused.status, 429);
        assert!(refused.headers["retry-after"].parse::<u64>().unwrap() >= 1);
        assert!(refused.json()["error"].is_string());
    }
}

#[test]
fn web_pages_of_any_origin_may_pull_and_answers_are_packed_when_asked() {
    let server = Server::start();
    let (_, code) = shared(&server);
    let path = format!("{RUN}/0/25/?API_KEY={code}");
    let preflight = fetch(&server, "OPTIONS", &path);
    assert!((200..300).contains(&preflight.status));
    assert_eq!(preflight.headers["access-control-allow-origin"], "*");
    assert!(preflight.headers["access-control-allow-methods"].contains("GET"));
    let refused = fetch(&server, "GET", &format!("{RUN}/0/25/"));
    assert_eq!(
        (
            refused.status,
            refused.headers["access-control-allow-origin"].as_str()
        ),
        (401, "*"),
        "a web page must be able to read why it is refused"
    );
    let packed = http()
        .get(format!("{}{path}", server.url))
        .header("Accept-Encoding", "gzip")
        .call()
        .unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
}

#[test]
fn deleting_the_report_or_its_owner_ends_the_code() {
    let server = Server::start();
    let (id, code) = shared(&server);
    let (again, same) = shared(&server);
    assert_eq!(
        (&id, &code),
        (&again, &same),
        "the same user gets the same code again"
    );
    let list = server.call("/api/encke/v1/reports/list", &[]);
    assert_eq!(list[0]["ReportID"], id);
    let path = format!("{RUN}/0/1/?API_KEY={code}");
    assert_eq!(get(&server, &path).status, 200);
    // Nobody else can touch it.
    let user = [("TargetUser", "alice"), ("TargetPassword", "long enough")];
    server.call("/api/v1/admin/add-user", &user);
    let as_alice = [
        ("Username", "alice"),
        ("AuthType", "Password"),
        ("Password", "long enough"),
    ];
    let mut theft = as_alice.to_vec();
    theft.push(("ReportID", id.as_str()));
    assert_eq!(server.post("/api/encke/v1/reports/delete", &theft)["Status"], 404);
    assert_eq!(
        server.post("/api/encke/v1/reports/generate-code", &theft)["Status"],
        404
    );
    assert_eq!(
        server.call("/api/encke/v1/reports/delete", &[("ReportID", &id)])["Status"],
        200
    );
    let deleted = get(&server, &path);
    let unknown = get(&server, &format!("{RUN}/0/1/?API_KEY={}", "0".repeat(160)));
    assert_eq!(deleted.status, 401);
    assert_eq!(
        (deleted.status, &deleted.text),
        (unknown.status, &unknown.text),
        "no difference between deleted and unknown"
    );
    // A user's own report ends with the suspension of the user.
    let made = server.post("/api/encke/v1/reports/save-sample", &as_alice);
    let path = format!("{RUN}/0/1/?API_KEY={}", made["APICode"].as_str().unwrap());
    assert_eq!(get(&server, &path).status, 200);
    let mut profile = server.call("/api/v1/admin/get-user-profile", &[("TargetUser", "alice")]);
    profile["IsSuspended"] = json!(true);
    server.call(
        "/api/v1/admin/set-user-profile",
        &[("TargetUser", "alice"), ("ProfileData", &profile.to_string())],
    );
    assert_eq!(get(&server, &path).status, 403);
    // A later account of the same name does not inherit it.
    server.call("/api/v1/admin/delete-user", &[("TargetUser", "alice")]);
    server.call("/api/v1/admin/add-user", &user);
    assert_eq!(get(&server, &path).status, 401);
    assert_eq!(server.post("/api/encke/v1/reports/list", &as_alice), json!([]));
}
