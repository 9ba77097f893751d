//! The pages at `/docs`, the OpenAPI document and the files under `docs/api` tell what the endpoint table says.

use crate::support::Server;
use encke_server::table::Table;
use serde_json::Value;
use std::collections::HashMap;

fn table() -> Table {
    Table::new(encke_server::all_routes())
}

/// The published structures by name.
fn structures() -> HashMap<String, Value> {
    let all: Vec<Value> = serde_json::from_str(encke_api::spec::TYPES).unwrap();
    all.into_iter()
        .map(|t| (t["name"].as_str().unwrap().to_string(), t))
        .collect()
}

/// Fetches a page of the server.
fn get(server: &Server, path: &str) -> (u16, String, String) {
    let mut answer = crate::support::http()
        .get(format!("{}{path}", server.url))
        .call()
        .unwrap();
    let policy = answer
        .headers()
        .get("content-security-policy")
        .map(|v| v.to_str().unwrap().to_string());
    (
        answer.status().as_u16(),
        policy.unwrap_or_default(),
        answer.body_mut().read_to_string().unwrap(),
    )
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let server = Server::start();
    let mut waiting = vec!["/docs".to_string()];
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut anchors = Vec::new();
    while let Some(path) = waiting.pop() {
        if seen.contains_key(&path) {
            continue;
        }
        let (status, policy, text) = get(&server, &path);
        assert_eq!(status, 200, "{path}");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        if text.starts_with("<!doctype html>") {
            assert!(
                !text.contains("<script>") && !text.contains(" style="),
                "{path} has inline parts"
            );
            for link in text.split("href=\"").skip(1).chain(text.split("src=\"").skip(1)) {
                let target = link.split('"').next().unwrap();
                let (page, anchor) = target.split_once('#').unwrap_or((target, ""));
                if page.starts_with("/docs") {
                    waiting.push(page.to_string());
                    if !anchor.is_empty() {
                        anchors.push((path.clone(), page.to_string(), anchor.to_string()));
                    }
                }
            }
        }
        seen.insert(path, text);
    }
    for (from, page, anchor) in anchors {
        let there = seen[&page].contains(&format!("id=\"{anchor}\""));
        assert!(there, "{from} links to {page}#{anchor}, which does not exist");
    }
    for e in table().endpoints() {
        let page = seen.get(&format!("/docs/endpoints/{}", e.name));
        assert!(
            page.is_some_and(|text| text.contains(e.path)),
            "{} can not be reached",
            e.name
        );
    }
    for (name, t) in structures() {
        let reached = seen.contains_key(&format!("/docs/types/{name}"));
        assert!(reached || t["kind"] != "struct", "{name} can not be reached");
    }
    assert_eq!(get(&server, "/docs/endpoints/Nothing").0, 404);
}

#[test]
fn pages_show_calls_that_ran_and_constants_where_they_stand() {
    let server = Server::start();
    let examples: HashMap<String, Value> =
        serde_json::from_str(include_str!("../../../encke-server/src/reference/examples.json")).unwrap();
    assert!(examples.contains_key("AdminAddUser"));
    for name in examples.keys() {
        let page = get(&server, &format!("/docs/endpoints/{name}")).2;
        assert!(page.contains("<h2>Answer</h2>"), "{name} shows no answer");
    }
    let page = get(&server, "/docs/endpoints/AdminAddUser").2;
    assert!(
        page.contains("--data-urlencode 'TargetUser=bob'") && page.contains("&quot;Status&quot;: 200"),
        "{page}"
    );
    let page = get(&server, "/docs/types/BackupJobDetail").2;
    assert!(page.contains("href=\"/docs/constants#JOB_STATUS\""), "{page}");
    let search: Vec<[String; 3]> = serde_json::from_str(&get(&server, "/docs/search.json").2).unwrap();
    let constants = get(&server, "/docs/constants").2;
    let targets: Vec<&str> = search
        .iter()
        .filter_map(|[_, to, _]| to.strip_prefix("/docs/constants#"))
        .collect();
    assert!(targets.len() > 400, "{}", targets.len());
    for target in targets {
        assert!(
            constants.contains(&format!("id=\"{target}\"")),
            "search leads to {target}"
        );
    }
}

#[test]
fn the_openapi_document_is_whole() {
    let server = Server::start();
    let document: Value = serde_json::from_str(&get(&server, "/docs/openapi.json").2).unwrap();
    let committed = include_str!("../../../../docs/api/openapi.json");
    assert_eq!(
        document,
        serde_json::from_str::<Value>(committed).unwrap(),
        "docs/api is stale"
    );
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let references = committed.split("\"#/components/schemas/").skip(1);
    for reference in references.map(|r| r.split('"').next().unwrap()) {
        assert!(schemas.contains_key(reference), "{reference} is not there");
    }
    for e in table().endpoints() {
        let operation = &document["paths"][e.path][e.method.to_ascii_lowercase()];
        assert_eq!(operation["operationId"], e.name);
        assert_eq!(operation["x-encke-support"], e.support.word(), "{}", e.name);
        let reason = e.support.refusal().map_or(Value::Null, Value::from);
        assert_eq!(operation["x-encke-reason"], reason, "{}", e.name);
    }
}

#[test]
fn the_committed_files_are_what_the_program_writes() {
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
        .args(["admin", "api-reference", "--out"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api");
    let names = |folder: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(folder.path()), names(&committed));
    for name in names(folder.path()) {
        let written = std::fs::read(folder.path().join(&name)).unwrap();
        let same = std::fs::read(committed.join(&name)).unwrap() == written;
        assert!(
            same,
            "docs/api/{} is stale; write it anew with `encke admin api-reference --out docs/api`",
            name.display()
        );
    }
}
