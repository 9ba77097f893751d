//! Every published structure, filled with random values and unknown properties, survives reading and writing.

#![allow(clippy::unwrap_used)]

use encke_api::types::ROUND_TRIPS;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

type Spec = HashMap<String, Value>;

fn spec() -> Spec {
    let types: Vec<Value> = serde_json::from_str(encke_api::spec::TYPES).unwrap();
    types
        .into_iter()
        .map(|t| (t["name"].as_str().unwrap().to_string(), t))
        .collect()
}

/// A random non-zero value of a type, so that optional properties have to come back.
fn value(spec: &Spec, kind: &str, depth: u32, runner: &mut TestRunner) -> Value {
    let mut pick = |lo: i64, hi: i64| (lo..=hi).new_tree(runner).unwrap().current();
    if let Some(inner) = kind.strip_prefix("[]") {
        return if depth == 0 {
            json!([])
        } else {
            json!([value(spec, inner, depth - 1, runner)])
        };
    }
    if let Some(rest) = kind.strip_prefix("map[") {
        let (key, inner) = rest.split_once(']').unwrap();
        let key = if key == "string" {
            "k\u{e9}y".to_string()
        } else {
            pick(1, 9999).to_string()
        };
        return if depth == 0 {
            json!({})
        } else {
            json!({ key: value(spec, inner, depth - 1, runner) })
        };
    }
    match kind {
        "string" => json!("\\PC{1,12}".new_tree(runner).unwrap().current()),
        "bool" => json!(true),
        "int" | "int64" => json!(pick(i64::MIN, -1)),
        "int32" => json!(pick(i64::from(i32::MIN), -1)),
        "uint" | "uint64" => json!(u64::MAX - pick(0, 1 << 40).unsigned_abs()),
        "uint8" => json!(pick(1, 255)),
        "uint32" => json!(pick(1, i64::from(u32::MAX))),
        "float32" => json!(0.5),
        "bytes" => json!("AAEC/w=="),
        "any" => json!({"free": [1, "x"]}),
        name => structure(spec, name, depth.saturating_sub(1), runner),
    }
}

fn structure(spec: &Spec, name: &str, depth: u32, runner: &mut TestRunner) -> Value {
    let mut out = Map::new();
    for field in spec[name]["fields"].as_array().unwrap() {
        let kind = field["type"].as_str().unwrap();
        out.insert(
            field["json_name"].as_str().unwrap().into(),
            value(spec, kind, depth, runner),
        );
    }
    out.insert("XFutureProperty".into(), json!({"nested": [true, 1.5, "text"]}));
    Value::Object(out)
}

/// What may differ: a structure nested below the filled depth is written with its zero values.
fn covers(written: &Value, sent: &Value) -> bool {
    match (written, sent) {
        (Value::Object(w), Value::Object(s)) => s.iter().all(|(k, v)| match w.get(k) {
            Some(found) => covers(found, v),
            None => {
                matches!(v, Value::Array(a) if a.is_empty()) || matches!(v, Value::Object(o) if o.is_empty())
            }
        }),
        (Value::Array(w), Value::Array(s)) => {
            w.len() == s.len() && w.iter().zip(s).all(|(w, s)| covers(w, s))
        }
        (w, s) => w == s,
    }
}

fn has_null(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Array(a) => a.iter().any(has_null),
        Value::Object(o) => o.values().any(has_null),
        _ => false,
    }
}

#[test]
fn every_structure_keeps_every_property() {
    let spec = spec();
    let mut runner = TestRunner::default();
    assert_eq!(ROUND_TRIPS.len(), 253);
    for (name, round_trip) in ROUND_TRIPS {
        for _ in 0..8 {
            let sent = structure(&spec, name, 4, &mut runner);
            let written: Value = serde_json::from_str(&round_trip(&sent.to_string()).unwrap()).unwrap();
            assert!(
                covers(&written, &sent),
                "{name}\nsent    {sent}\nwritten {written}"
            );
        }
    }
}

#[test]
fn null_is_read_everywhere_and_never_written() {
    let spec = spec();
    for (name, round_trip) in ROUND_TRIPS {
        let fields = spec[*name]["fields"].as_array().unwrap();
        let nulls: Map<String, Value> = fields
            .iter()
            .map(|f| (f["json_name"].as_str().unwrap().to_string(), Value::Null))
            .collect();
        let written: Value =
            serde_json::from_str(&round_trip(&Value::Object(nulls).to_string()).unwrap()).unwrap();
        assert!(!has_null(&written), "{name}: {written}");
        for f in fields.iter().filter(|f| f["optional"] != json!(true)) {
            assert!(
                written.get(f["json_name"].as_str().unwrap()).is_some(),
                "{name}.{} is left out",
                f["json_name"]
            );
        }
        let from_null: Value = serde_json::from_str(&round_trip("null").unwrap()).unwrap();
        assert_eq!(from_null, written, "{name}");
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let (_, round_trip) = ROUND_TRIPS
        .iter()
        .find(|(n, _)| *n == "ServerMetaVersionInfo")
        .unwrap();
    assert!(round_trip(r#"{"ServerLicenseFeatureSet": 4294967296}"#).is_err());
    assert!(round_trip(r#"{"ConfiguredDevices": "7"}"#).is_err());
    assert!(round_trip(r#"{"ConfiguredDevices": 1.5}"#).is_err());
    assert!(round_trip(r#"{"ConfiguredDevices": 2.0}"#).is_ok());
}
