//! Every published constant has its published value.

#![allow(clippy::unwrap_used)]

use encke_api::constants::{ALL, Constant};
use serde_json::Value;
use std::collections::BTreeMap;

#[test]
fn every_constant_has_its_published_value() {
    let groups: Vec<Value> = serde_json::from_str(encke_api::spec::CONSTANTS).unwrap();
    let ours: BTreeMap<&str, Constant> = ALL.iter().copied().collect();
    assert_eq!(ours.len(), ALL.len(), "a name is listed twice");
    let (mut compared, mut languages) = (0, 0);
    for group in &groups {
        for value in group["values"].as_array().unwrap() {
            let name = value["name"].as_str().unwrap();
            let is_language = group["group"] == "LANGUAGE_CODE";
            if value["value"].is_null() {
                // A Go SDK's own user agent, made up when it runs: no part of the protocol.
                assert_eq!(group["group"], "SDK_ONLY", "{name}");
                compared += 1;
                continue;
            }
            let same = match ours.get(name) {
                Some(Constant::Text(text)) => value["value"] == *text,
                Some(Constant::Number(n)) => {
                    let published = &value["value"];
                    published
                        .as_i64()
                        .map(i128::from)
                        .or(published.as_u64().map(i128::from))
                        == Some(*n)
                }
                None => panic!("{name} is missing"),
            };
            assert!(same, "{name} is {:?}, published {}", ours[name], value["value"]);
            if is_language {
                languages += 1
            } else {
                compared += 1
            }
        }
    }
    assert_eq!((compared, languages), (418, 16));
    assert_eq!(ALL.len(), 418 - 1 + 16, "constants that nobody published");
}
