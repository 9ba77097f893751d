//! What differs between two versions of a document, without its secrets.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most differences that are kept of one change.
pub(super) const MAX_CHANGES: usize = 200;
/// Longest text of a kept value in bytes; what is longer ends in "…".
const MAX_VALUE: usize = 500;
/// What stands for a secret.
const SECRET: &str = "***";
/// Names, in any case, under which texts are secrets: of the published structures, of Protected Items and of
/// databases.
const SECRET_WORDS: [&str; 7] = [
    "pass",
    "secret",
    "token",
    "recovery",
    "credential",
    "customheaders",
    "usercode",
];
/// Written by devices and by the server all the time, and no decision of anybody.
const UNSAID: [&str; 3] = ["Statistics", "SignCount", "ModifiedDate"];
/// What tells the elements of a list apart, where all have it.
const IDENTITIES: [&str; 6] = ["ID", "GUID", "Username", "Name", "ListenAddress", "Description"];

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Difference {
    /// Where it is: names of properties, and of elements by their identity or number.
    pub path: Vec<String>,
    /// What it was; absent if it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What it became; absent if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// The differences of a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Differences {
    /// The first ones.
    pub changes: Vec<Difference>,
    /// How many more there are.
    pub left_out: usize,
}

/// Compares two versions; `None` for one that there is not.
pub(super) fn compare(old: Option<&Value>, new: Option<&Value>) -> Differences {
    let mut found = Differences::default();
    walk(&mut Vec::new(), old, new, &mut found);
    found
}

/// Whether a value says nothing: what is left out of a document means the same.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_blank),
    }
}

fn is_secret(path: &[String]) -> bool {
    path.iter().any(|name| {
        let name = name.to_ascii_lowercase();
        name.ends_with("key") || SECRET_WORDS.iter().any(|word| name.contains(word))
    })
}

/// The value as it is kept: secrets hidden, long texts cut.
fn kept(path: &[String], value: &Value) -> Value {
    match value {
        Value::String(s) if s.is_empty() => value.clone(),
        // An address may carry a password.
        Value::String(s) if is_secret(path) || (s.contains("://") && s.contains('@')) => SECRET.into(),
        Value::String(s) if s.len() > MAX_VALUE => {
            let end = (0..=MAX_VALUE)
                .rev()
                .find(|&i| s.is_char_boundary(i))
                .unwrap_or(0);
            format!("{}…", &s[..end]).into()
        }
        Value::Array(all) => {
            let mut room = MAX_VALUE;
            let mut shown = Vec::new();
            for one in all {
                let one = kept(path, one);
                let size = one.to_string().len();
                if size > room {
                    shown.push("…".into());
                    break;
                }
                room -= size;
                shown.push(one);
            }
            Value::Array(shown)
        }
        other => other.clone(),
    }
}

/// The elements of a list by name, if it is one of documents.
fn named<'a>(list: &'a Value, identity: Option<&str>) -> BTreeMap<String, &'a Value> {
    let elements = list.as_array().into_iter().flatten().enumerate();
    elements
        .map(|(i, e)| {
            let name = identity.and_then(|key| e[key].as_str());
            (name.map_or_else(|| format!("{i:03}"), str::to_string), e)
        })
        .collect()
}

/// A property that all documents of both lists have, each another.
fn identity(old: &Value, new: &Value) -> Option<&'static str> {
    IDENTITIES.into_iter().find(|key| {
        [old, new].into_iter().all(|list| {
            let all = list.as_array().map_or(&[][..], Vec::as_slice);
            let mut names: Vec<&str> = all.iter().filter_map(|e| e[*key].as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names.len() == all.len() && !names.contains(&"")
        })
    })
}

fn walk(path: &mut Vec<String>, old: Option<&Value>, new: Option<&Value>, found: &mut Differences) {
    static NOTHING: Value = Value::Null;
    let (a, b) = (old.unwrap_or(&NOTHING), new.unwrap_or(&NOTHING));
    if a == b || (is_blank(a) && is_blank(b)) || path.last().is_some_and(|p| UNSAID.contains(&p.as_str())) {
        return;
    }
    let is = |of: fn(&Value) -> bool| (of(a) || a.is_null()) && (of(b) || b.is_null());
    let documents = |list: &Value| list.as_array().is_some_and(|l| l.iter().all(Value::is_object));
    let mut descend = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        path.push(name.to_string());
        walk(path, old, new, found);
        path.pop();
    };
    if is(Value::is_object) {
        let names = [a, b]
            .into_iter()
            .filter_map(Value::as_object)
            .flat_map(|o| o.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            descend(name, a.get(name), b.get(name));
        }
        return;
    }
    if (documents(a) || a.is_null()) && (documents(b) || b.is_null()) {
        let identity = identity(a, b);
        let (olds, news) = (named(a, identity), named(b, identity));
        let mut names: Vec<&String> = olds.keys().chain(news.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            descend(name, olds.get(name).copied(), news.get(name).copied());
        }
        return;
    }
    if found.changes.len() == MAX_CHANGES {
        found.left_out += 1;
        return;
    }
    let told = |value: &Value| (!value.is_null()).then(|| kept(path, value));
    found.changes.push(Difference {
        path: path.clone(),
        old: told(a),
        new: told(b),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(old: &Value, new: &Value) -> Vec<String> {
        let found = compare(Some(old), Some(new));
        let text = |v: &Option<Value>| v.as_ref().map_or("-".into(), Value::to_string);
        found
            .changes
            .iter()
            .map(|d| format!("{}: {} → {}", d.path.join("/"), text(&d.old), text(&d.new)))
            .collect()
    }

    #[test]
    fn only_what_differs_is_told_and_what_is_left_out_means_nothing() {
        let old =
            json!({"Name": "a", "Same": [1], "Empty": "", "Deep": {"On": true, "Statistics": {"Size": 1}}});
        let new =
            json!({"Name": "b", "Same": [1], "Deep": {"On": false, "Statistics": {"Size": 2}}, "List": []});
        assert_eq!(told(&old, &new), ["Deep/On: true → false", "Name: \"a\" → \"b\""]);
    }

    #[test]
    fn elements_of_lists_are_told_apart_by_identity() {
        let old = json!({"Users": [{"Username": "a", "On": true}, {"Username": "b"}]});
        let new = json!({"Users": [{"Username": "b"}, {"Username": "a", "On": false}, {"Username": "c"}]});
        assert_eq!(
            told(&old, &new),
            ["Users/a/On: true → false", "Users/c/Username: - → \"c\""]
        );
        let (old, new) = (
            json!({"L": [{"X": 1}, {"X": 2}]}),
            json!({"L": [{"X": 1}, {"X": 3}]}),
        );
        assert_eq!(told(&old, &new), ["L/001/X: 2 → 3"]);
    }

    #[test]
    fn no_secret_of_the_published_structures_is_told() {
        let types: Value = serde_json::from_str(encke_api::spec::TYPES).unwrap();
        let secrets: Vec<String> = types
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|t| t["fields"].as_array().cloned().unwrap_or_default())
            .filter(|f| f["type"] == "string")
            .filter_map(|f| f["json_name"].as_str().map(str::to_string))
            .filter(|n| {
                let n = n.to_lowercase();
                ["password", "secret", "token", "privatekey", "passphrase"]
                    .iter()
                    .any(|w| n.contains(w))
                    || n.ends_with("key")
            })
            .collect();
        assert!(secrets.len() > 30, "{secrets:?}");
        for name in secrets {
            let found = compare(
                Some(&json!({"X": {&name: "before"}})),
                Some(&json!({"X": {&name: "after"}})),
            );
            let text = serde_json::to_string(&found).unwrap();
            assert_eq!(found.changes.len(), 1, "a change of {name} is told");
            assert!(!text.contains("before") && !text.contains("after"), "{text}");
        }
        let url = told(&json!({}), &json!({"URL": "https://me:hush@example.org/"}));
        assert_eq!(url, ["URL: - → \"***\""]);
    }

    #[test]
    fn a_change_is_bounded() {
        let many: BTreeMap<String, String> = (0..500).map(|i| (i.to_string(), "ä".repeat(5000))).collect();
        let found = compare(None, Some(&json!(many)));
        assert_eq!((found.changes.len(), found.left_out), (MAX_CHANGES, 300));
        assert!(serde_json::to_string(&found).unwrap().len() < MAX_CHANGES * (MAX_VALUE + 100));
    }
}
