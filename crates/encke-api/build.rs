//! Writes the wire structures and constants of the published API as Rust, from `spec/types.json` and
//! `spec/constants.json`. Names and widths therefore stand in one place, the specification.

#![allow(clippy::unwrap_used)] // a build that can not write its output has nothing better to do than to stop

use serde_json::Value;
use std::fmt::Write as _;
use std::{env, fs, path::Path};

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../spec");
    let out = env::var("OUT_DIR").expect("set by cargo");
    for file in ["types.json", "constants.json", "endpoints.json"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let read = |name: &str| -> Value {
        let text = fs::read_to_string(root.join(name)).expect("the specification is part of the project");
        serde_json::from_str(&text).expect("the specification is JSON")
    };
    fs::write(Path::new(&out).join("types.rs"), types(&read("types.json"))).expect("OUT_DIR is writable");
    fs::write(
        Path::new(&out).join("constants.rs"),
        constants(&read("constants.json")),
    )
    .expect("OUT_DIR is writable");
}

/// `AllProtectedItemsQuotaEnabled` -> `all_protected_items_quota_enabled`, `S3UsesTLS` -> `s3_uses_tls`.
fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() {
            let prev = i.checked_sub(1).map(|p| chars[p]);
            let next = chars.get(i + 1);
            let after_lower = prev.is_some_and(|p| p.is_ascii_lowercase() || p.is_ascii_digit());
            let word_start =
                prev.is_some_and(|p| p.is_ascii_uppercase()) && next.is_some_and(char::is_ascii_lowercase);
            if after_lower || word_start {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else if c == '-' || c == '.' {
            out.push('_');
        } else {
            out.push(c);
        }
    }
    let out = out.replace("__", "_");
    match out.as_str() {
        "type" | "final" | "self" | "struct" | "ref" | "use" => format!("{out}_"),
        "unknown" => "unknown_".into(),
        _ => out,
    }
}

fn rust_type(t: &str) -> String {
    if let Some(inner) = t.strip_prefix("[]") {
        return format!("Vec<{}>", rust_type(inner));
    }
    if let Some(rest) = t.strip_prefix("map[") {
        let (_, value) = rest.split_once(']').expect("map[K]V");
        return format!("std::collections::BTreeMap<String, {}>", rust_type(value));
    }
    match t {
        "string" => "String",
        "bool" => "bool",
        "int" | "int64" => "i64",
        "int32" => "i32",
        "uint" | "uint64" => "u64",
        "uint8" => "u8",
        "uint32" => "u32",
        "float32" => "f32",
        "bytes" => "Base64Bytes",
        "any" => "Value",
        other => other,
    }
    .to_string()
}

fn types(spec: &Value) -> String {
    let mut out = String::new();
    let structs: Vec<&Value> = spec
        .as_array()
        .expect("an array")
        .iter()
        .filter(|t| t["kind"] == "struct")
        .collect();
    for t in &structs {
        let name = t["name"].as_str().expect("name");
        let fields = t["fields"].as_array().expect("fields");
        writeln!(out, "/// `{name}` of the published API.\n#[derive(Clone, Debug, Default, PartialEq)]\npub struct {name} {{").unwrap();
        let (mut read, mut write) = (String::new(), String::new());
        for f in fields {
            let json = f["json_name"].as_str().expect("json_name");
            let kind = f["type"].as_str().expect("type");
            let ident = snake(json);
            let optional = f["optional"].as_bool().unwrap_or(false);
            let mut doc = format!("`{json}`: {kind}");
            for (key, label) in [("unit", "unit"), ("enum", "constants"), ("min_version", "since")] {
                if let Some(v) = f[key].as_str() {
                    write!(doc, ", {label} {v}").unwrap();
                }
            }
            if optional {
                doc.push_str(", left out when empty");
            }
            let doc = doc.replace('[', "\\[").replace(']', "\\]");
            writeln!(out, "    /// {doc}\n    pub {ident}: {},", rust_type(kind)).unwrap();
            writeln!(
                read,
                "            {json:?} => self.{ident} = map.next_value_seed(Seed::new())?,"
            )
            .unwrap();
            if optional {
                writeln!(write, "        if !self.{ident}.is_zero() {{ out.serialize_entry({json:?}, &Out(&self.{ident}))?; }}").unwrap();
            } else {
                writeln!(
                    write,
                    "        out.serialize_entry({json:?}, &Out(&self.{ident}))?;"
                )
                .unwrap();
            }
        }
        writeln!(out, "    /// Properties this version does not know, kept for the next reader.\n    pub unknown: Map<String, Value>,\n}}").unwrap();
        writeln!(
            out,
            "impl WireStruct for {name} {{\n    const NAME: &'static str = {name:?};\n    fn read_field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {{\n        match key {{\n{read}            _ => keep_unknown(&mut self.unknown, key, map)?,\n        }}\n        Ok(())\n    }}\n    fn write_fields<M: SerializeMap>(&self, out: &mut M) -> Result<(), M::Error> {{\n{write}        write_unknown(&self.unknown, out)\n    }}\n}}\nwire_struct!({name});\n"
        )
        .unwrap();
    }
    writeln!(out, "/// Every structure's name with a function that reads and writes it once (for round-trip tests).\npub const ROUND_TRIPS: &[(&str, RoundTrip)] = &[").unwrap();
    for t in &structs {
        let name = t["name"].as_str().expect("name");
        writeln!(out, "    ({name:?}, round_trip::<{name}>),").unwrap();
    }
    out.push_str("];\n");
    out
}

fn constants(spec: &Value) -> String {
    let mut out = String::from(
        "/// A published value.\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub enum Constant {\n    /// Text.\n    Text(&'static str),\n    /// A whole number of any width.\n    Number(i128),\n}\n",
    );
    let mut all = String::from(
        "/// Every published constant by its published name.\npub const ALL: &[(&str, Constant)] = &[\n",
    );
    for group in spec.as_array().expect("an array") {
        let kind = group["type"].as_str().unwrap_or("mixed");
        for v in group["values"].as_array().expect("values") {
            let name = v["name"].as_str().expect("name");
            let ident: String = snake_constant(name);
            let value = &v["value"];
            match value {
                Value::String(s) => {
                    writeln!(out, "/// `{name}`\npub const {ident}: &str = {s:?};").unwrap();
                    writeln!(all, "    ({name:?}, Constant::Text({ident})),").unwrap();
                }
                Value::Number(n) => {
                    let t = match kind {
                        "uint64" | "uint" => "u64",
                        "uint8" => "u8",
                        _ => "i64",
                    };
                    writeln!(out, "/// `{name}`\npub const {ident}: {t} = {n};").unwrap();
                    writeln!(all, "    ({name:?}, Constant::Number({ident} as i128)),").unwrap();
                }
                _ => {}
            }
        }
    }
    all.push_str("];\n");
    out + &all
}

/// Constants keep their published spelling, in capitals.
fn snake_constant(name: &str) -> String {
    if name.chars().any(|c| c.is_ascii_lowercase()) {
        snake(name).to_ascii_uppercase()
    } else {
        name.to_string()
    }
}
