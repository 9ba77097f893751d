//! The endpoint table is the published one: every endpoint once, with its caller, roles, parameters and answer.

#![allow(clippy::unwrap_used)]

use encke_api::endpoint::{Caller, Endpoint, Support};
use encke_server::table::Table;
use serde_json::Value;
use std::collections::BTreeMap;

/// Where the table means to differ from the specification: endpoint, what, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "AdminDispatcherRequestBrowseProxmoxStorage",
        "parameters",
        "the Go SDK sends no Node",
    ),
    (
        "UserWebDispatcherRequestBrowseProxmoxStorage",
        "parameters",
        "the Go SDK sends no Node",
    ),
    (
        "AdminMetaConstellationConfigGet",
        "top level",
        "there is one Constellation Role, the server's: a tenant can not see all who use a bucket",
    ),
    (
        "AdminMetaConstellationConfigSet",
        "top level",
        "there is one Constellation Role, the server's: a tenant can not see all who use a bucket",
    ),
];

/// Prefix of our own endpoints, which no specification lists.
const OWN: &str = "/api/encke/v1/";

fn published() -> BTreeMap<String, Value> {
    let all: Vec<Value> = serde_json::from_str(encke_api::spec::ENDPOINTS).unwrap();
    all.into_iter()
        .map(|e| (e["path"].as_str().unwrap().to_string(), e))
        .collect()
}

fn table() -> Table {
    Table::new(encke_server::all_routes())
}

fn text<'a>(e: &'a Value, key: &str) -> &'a str {
    e[key].as_str().unwrap_or_default()
}

fn list(e: &Value) -> impl Iterator<Item = &Value> {
    e.as_array().into_iter().flatten()
}

/// What differs between a declared endpoint and the published one, as `(what, detail)`.
fn differences(declared: &Endpoint, spec: &Value) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let mut compare = |what: &'static str, ours: String, theirs: String| {
        if ours != theirs {
            out.push((what, format!("declared {ours}, published {theirs}")));
        }
    };
    compare("name", declared.name.into(), text(spec, "name").into());
    compare("method", declared.method.into(), text(spec, "method").into());
    let caller = match declared.caller {
        Caller::Nobody => "none",
        Caller::Admin => "admin",
        Caller::User => "user",
        Caller::AdminOrUser => "admin_or_user",
    };
    compare("caller", caller.into(), text(spec, "auth").into());
    compare(
        "top level",
        declared.top_level_only.to_string(),
        (spec["admin_only_toplevel"] == true).to_string(),
    );
    compare(
        "response",
        declared.response.clone(),
        text(&spec["response"], "type").into(),
    );
    if declared.support != Support::Supported {
        // Answers nothing but a reason, so it reads no parameters and needs no role.
        return out;
    }
    let roles: Vec<&str> = declared.roles.iter().map(|r| r.word()).collect();
    let published: Vec<&str> = list(&spec["roles_required"]).filter_map(Value::as_str).collect();
    compare("roles", format!("{roles:?}"), format!("{published:?}"));
    let param = |name: &str, kind: &str, optional: bool, json: bool| {
        let optional = if optional { ", optional" } else { "" };
        let json = if json { ", JSON" } else { "" };
        format!("{name}: {kind}{optional}{json}")
    };
    let ours = declared
        .params
        .iter()
        .map(|p| param(p.name, &(p.type_name)(), p.optional, p.json));
    let theirs = list(&spec["params"]).map(|p| {
        let is = |key: &str| p[key] == true;
        param(
            text(p, "name"),
            text(p, "type"),
            is("optional"),
            is("json_encoded"),
        )
    });
    compare(
        "parameters",
        format!("{:?}", ours.collect::<Vec<_>>()),
        format!("{:?}", theirs.collect::<Vec<_>>()),
    );
    out
}

#[test]
fn every_published_endpoint_is_declared() {
    let (table, published) = (table(), published());
    assert_eq!(published.len(), 251);
    let missing: Vec<&String> = published
        .keys()
        .filter(|path| table.find(path).is_none())
        .collect();
    assert!(missing.is_empty(), "not declared: {missing:?}");
    let unknown: Vec<&str> = table
        .endpoints()
        .map(|e| e.path)
        .filter(|path| !published.contains_key(*path) && !path.starts_with(OWN))
        .collect();
    assert!(
        unknown.is_empty(),
        "neither published nor below {OWN}: {unknown:?}"
    );
}

#[test]
fn names_are_unique() {
    let table = table();
    let mut names: Vec<&str> = table.endpoints().map(|e| e.name).collect();
    names.sort_unstable();
    let twice: Vec<&[&str]> = names.windows(2).filter(|w| w[0] == w[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn declarations_agree_with_the_specification() {
    let (table, published) = (table(), published());
    let mut faults = Vec::new();
    let mut used = Vec::new();
    for declared in table.endpoints() {
        let Some(spec) = published.get(declared.path) else {
            continue;
        };
        for (what, detail) in differences(declared, spec) {
            let excepted = EXCEPTIONS
                .iter()
                .position(|(name, part, _)| *name == declared.name && *part == what);
            match excepted {
                Some(i) => used.push(i),
                None => faults.push(format!("{}, {what}: {detail}", declared.name)),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let stale: Vec<&str> = (0..EXCEPTIONS.len())
        .filter(|i| !used.contains(i))
        .map(|i| EXCEPTIONS[i].0)
        .collect();
    assert!(
        stale.is_empty(),
        "these exceptions are no longer needed: {stale:?}"
    );
}

#[test]
fn what_is_supported_says_what_it_does_and_what_is_not_says_why() {
    for e in table().endpoints() {
        match e.support {
            Support::Supported => {
                assert!(e.summary.ends_with('.'), "{}: {:?}", e.name, e.summary);
                for p in e.params {
                    assert!(
                        !p.doc.trim().is_empty(),
                        "{}: {} is not described",
                        e.name,
                        p.name
                    );
                }
            }
            Support::NotYet(why) | Support::Unsupported(why) => assert!(!why.is_empty(), "{}", e.name),
        }
    }
}
