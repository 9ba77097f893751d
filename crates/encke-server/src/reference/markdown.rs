//! The reference as Markdown files.

use super::spec::{Spec, by_area, caller_words, coverage_words};
use crate::table::Table;
use encke_api::endpoint::{Endpoint, Support};
use serde_json::Value;
use std::fmt::Write as _;

/// How to call, in short; written by hand, the rest is made from the table.
const GUIDE: &str = include_str!("guide.md");

/// A type name with links to its structures.
fn linked(kind: &str, spec: &Spec) -> String {
    let name = kind.rsplit(']').next().unwrap_or(kind);
    let text = kind.replace('[', "\\[").replace(']', "\\]");
    if spec.structures().any(|t| t["name"] == name) {
        format!("[{text}](structures.md#{})", name.to_lowercase())
    } else {
        text
    }
}

fn endpoint(e: &Endpoint, spec: &Spec, out: &mut String) {
    let _ = writeln!(out, "### {}\n\n`{} {}`\n", e.name, e.method, e.path);
    match e.support {
        Support::Supported => {
            let _ = writeln!(out, "{}\n", e.summary);
        }
        Support::NotYet(why) => {
            let _ = writeln!(out, "**Not supported yet:** {why}.\n");
        }
        Support::Unsupported(why) => {
            let _ = writeln!(out, "**Unsupported:** {why}.\n");
        }
    }
    let roles: Vec<&str> = e.roles.iter().map(|r| r.word()).collect();
    let needs = if roles.is_empty() {
        String::new()
    } else {
        format!("; roles: {}", roles.join(", "))
    };
    let _ = writeln!(
        out,
        "Caller: {}{needs}. Answer: {}.\n",
        caller_words(e),
        linked(&e.response, spec)
    );
    let params = spec.params(e);
    if !params.is_empty() {
        out.push_str("| parameter | type | | |\n| --- | --- | --- | --- |\n");
        for p in params {
            let optional = if p.optional { "optional" } else { "required" };
            let json = if p.json { ", as JSON text" } else { "" };
            let _ = writeln!(
                out,
                "| `{}` | {} | {optional}{json} | {} |",
                p.name,
                linked(&p.kind, spec),
                p.doc
            );
        }
        out.push('\n');
    }
}

fn endpoints(table: &Table, spec: &Spec) -> String {
    let mut out = String::from("# Endpoints\n\n");
    for (area, list) in by_area(table, spec) {
        let _ = writeln!(out, "## {}\n", area.replace('_', " "));
        for e in list {
            endpoint(e, spec, &mut out);
        }
    }
    out
}

fn structures(spec: &Spec) -> String {
    let mut out = String::from(
        "# Structures\n\n`null` is read as the zero value and never sent; unknown properties are kept.\n\n",
    );
    for t in spec.structures() {
        let _ = writeln!(out, "## {}\n", t["name"].as_str().unwrap_or_default());
        out.push_str("| property | type | |\n| --- | --- | --- |\n");
        for f in t["fields"].as_array().into_iter().flatten() {
            let text = |key: &str| f[key].as_str().unwrap_or_default().to_string();
            let mut notes = Vec::new();
            if f["optional"] == true {
                notes.push("left out when empty".to_string());
            }
            for (key, label) in [("unit", ""), ("enum", "constants "), ("min_version", "since ")] {
                if !text(key).is_empty() {
                    notes.push(format!("{label}{}", text(key)));
                }
            }
            let _ = writeln!(
                out,
                "| `{}` | {} | {} |",
                text("json_name"),
                linked(&text("type"), spec),
                notes.join(", ")
            );
        }
        out.push('\n');
    }
    out
}

fn constants(spec: &Spec) -> String {
    let mut out = String::from("# Constants\n\n");
    for group in &spec.constants {
        let _ = writeln!(
            out,
            "## {}\n\n| name | value |\n| --- | --- |",
            group["group"].as_str().unwrap_or_default()
        );
        for v in group["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|v| v["value"] != Value::Null)
        {
            let _ = writeln!(
                out,
                "| `{}` | `{}` |",
                v["name"].as_str().unwrap_or_default(),
                v["value"]
            );
        }
        out.push('\n');
    }
    out
}

fn coverage(table: &Table, spec: &Spec) -> String {
    let published: Vec<&Endpoint> = table
        .endpoints()
        .filter(|e| spec.endpoints.contains_key(e.path))
        .collect();
    let mut out = format!(
        "# Coverage\n\n{}\n\n| endpoint | |\n| --- | --- |\n",
        coverage_words(published.iter().copied())
    );
    for e in published {
        let why = e
            .support
            .refusal()
            .map_or(String::new(), |why| format!(": {why}"));
        let _ = writeln!(out, "| `{}` | {}{why} |", e.path, e.support.word());
    }
    out
}

/// All files.
pub(super) fn files(table: &Table, spec: &Spec) -> Vec<(String, String)> {
    vec![
        ("README.md".into(), GUIDE.to_string()),
        ("endpoints.md".into(), endpoints(table, spec)),
        ("structures.md".into(), structures(spec)),
        ("constants.md".into(), constants(spec)),
        ("coverage.md".into(), coverage(table, spec)),
    ]
}
