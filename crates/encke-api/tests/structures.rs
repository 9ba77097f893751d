//! Every published structure, filled with random values and unknown properties, survives reading and writing: nothing
//! lost, nothing added, nothing sent that should be left out. The values are made from `spec/types.json`, apart from
//! the code that reads and writes them; a seed that failed is printed.

#![allow(clippy::unwrap_used)]

use encke_api::types::ROUND_TRIPS;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

type Spec = HashMap<String, Value>;

/// Documents made of each structure.
const ROUNDS: u64 = 12;
/// Deepest nesting of arrays and maps that is filled.
const DEPTH: u32 = 4;

fn spec() -> Spec {
    let types: Vec<Value> = serde_json::from_str(encke_api::spec::TYPES).unwrap();
    types
        .into_iter()
        .map(|t| (t["name"].as_str().unwrap().to_string(), t))
        .collect()
}

/// Reproducible random numbers (SplitMix64, Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
    /// A number of at most `bits` bits: its ends, zero, and anything between.
    fn unsigned(&mut self, bits: u32) -> u64 {
        let max = u64::MAX >> (64 - bits);
        match self.below(6) {
            0 => 0,
            1 => max,
            2 => 1,
            _ => self.next() & max,
        }
    }
    fn signed(&mut self, bits: u32) -> i64 {
        let min = i64::MIN >> (64 - bits);
        match self.below(6) {
            0 => 0,
            1 => min,
            2 => !min,
            _ => self.next().cast_signed() >> (64 - bits),
        }
    }
    fn text(&mut self) -> String {
        const LETTERS: [&str; 12] = [
            "a",
            "Z",
            "0",
            " ",
            "\"",
            "\\",
            "\u{0}",
            "\n",
            "\u{e9}",
            "\u{1f600}",
            "/",
            "\u{202e}",
        ];
        (0..self.below(9))
            .map(|_| LETTERS[usize::try_from(self.below(12)).unwrap()])
            .collect()
    }
}

/// What is sent and what has to come back.
struct Pair {
    sent: Value,
    back: Value,
}

fn same(value: Value) -> Pair {
    Pair {
        sent: value.clone(),
        back: value,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

struct Maker<'a> {
    spec: &'a Spec,
    random: Random,
    /// Puts `null` in the place of values, as two SDKs do.
    nulls: bool,
}

impl Maker<'_> {
    /// The zero value of a type as it is written.
    fn zero(&mut self, kind: &str) -> Value {
        if kind.starts_with("[]") {
            return json!([]);
        }
        if kind.starts_with("map[") {
            return json!({});
        }
        match kind {
            "string" | "bytes" => json!(""),
            "bool" => json!(false),
            "any" => Value::Null,
            "float32" => json!(0.0),
            "int" | "int64" | "int32" | "uint" | "uint64" | "uint8" | "uint32" => json!(0),
            name => {
                let fields = self.spec[name]["fields"].as_array().unwrap();
                let mut out = Map::new();
                for f in fields.iter().filter(|f| f["optional"] != true) {
                    let zero = self.zero(f["type"].as_str().unwrap());
                    out.insert(f["json_name"].as_str().unwrap().into(), zero);
                }
                Value::Object(out)
            }
        }
    }

    fn value(&mut self, kind: &str, depth: u32) -> Pair {
        if self.nulls && kind != "any" && self.random.chance(3) {
            return Pair {
                sent: Value::Null,
                back: self.zero(kind),
            };
        }
        if let Some(inner) = kind.strip_prefix("[]") {
            let n = if depth == 0 { 0 } else { self.random.below(3) };
            let (sent, back): (Vec<_>, Vec<_>) = (0..n)
                .map(|_| self.value(inner, depth - 1))
                .map(|p| (p.sent, p.back))
                .unzip();
            return Pair {
                sent: sent.into(),
                back: back.into(),
            };
        }
        if let Some(rest) = kind.strip_prefix("map[") {
            let (key, inner) = rest.split_once(']').unwrap();
            let n = if depth == 0 { 0 } else { self.random.below(3) };
            let (mut sent, mut back) = (Map::new(), Map::new());
            for i in 0..n {
                let name = match key {
                    "string" => format!("k\u{e9}y {i}{}", self.random.text()),
                    _ => self.random.signed(64).to_string(),
                };
                let p = self.value(inner, depth - 1);
                sent.insert(name.clone(), p.sent);
                back.insert(name, p.back);
            }
            return Pair {
                sent: sent.into(),
                back: back.into(),
            };
        }
        same(match kind {
            "string" => json!(self.random.text()),
            "bool" => json!(self.random.chance(2)),
            // The SDKs that state widths hold `int` in 64 bits.
            "int" | "int64" => json!(self.random.signed(64)),
            "int32" => json!(self.random.signed(32)),
            "uint" | "uint64" => json!(self.random.unsigned(64)),
            "uint32" => json!(self.random.unsigned(32)),
            "uint8" => json!(self.random.unsigned(8)),
            // Quarters have the same shortest form in 32 and 64 bits.
            #[allow(clippy::cast_precision_loss)]
            "float32" => json!(self.random.below(1000) as f64 / 4.0),
            "bytes" => json!(["", "AA==", "AAEC/w=="][usize::try_from(self.random.below(3)).unwrap()]),
            "any" => self.free(2),
            name => return self.structure(name, depth.saturating_sub(1)),
        })
    }

    /// Any JSON but `null`.
    fn free(&mut self, depth: u32) -> Value {
        match self.random.below(if depth == 0 { 4 } else { 6 }) {
            0 => json!(self.random.text()),
            1 => json!(self.random.signed(64)),
            2 => json!(true),
            3 => json!(1.5),
            4 => json!([self.free(depth - 1), "x"]),
            _ => json!({ "free": self.free(depth - 1) }),
        }
    }

    fn structure(&mut self, name: &str, depth: u32) -> Pair {
        let (mut sent, mut back) = (Map::new(), Map::new());
        for field in self.spec[name]["fields"].as_array().unwrap() {
            let kind = field["type"].as_str().unwrap();
            let property = field["json_name"].as_str().unwrap();
            let optional = field["optional"] == true;
            // Left out by the sender: read as zero.
            let p = if self.random.chance(8) {
                let zero = self.zero(kind);
                if kind == "any" {
                    continue;
                }
                Pair {
                    sent: Value::Null,
                    back: zero,
                }
            } else {
                let p = self.value(kind, depth);
                sent.insert(property.into(), p.sent.clone());
                p
            };
            // A structure counts as empty when all of it is; a property of any type only when it is not set.
            let empty = match kind {
                "any" => p.back.is_null(),
                _ => is_zero(&p.back) || (self.spec.contains_key(kind) && p.back == self.zero(kind)),
            };
            if !(optional && empty) {
                back.insert(property.into(), p.back);
            }
        }
        // Properties of a newer version, which are nobody's business but must not be lost.
        for i in 0..self.random.below(3) {
            let (property, value) = (format!("XFuture{i}"), self.free(2));
            sent.insert(property.clone(), value.clone());
            back.insert(property, value);
        }
        Pair {
            sent: sent.into(),
            back: back.into(),
        }
    }
}

/// Compares numbers by value: `5` and `5.0` are one number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || (x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64()
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| equal(v, w)))
        }
        _ => a == b,
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

fn survive(nulls: bool) {
    let spec = spec();
    assert_eq!(ROUND_TRIPS.len(), 253);
    for (name, round_trip) in ROUND_TRIPS {
        assert_eq!(spec[*name]["kind"], "struct", "{name}");
        for seed in 0..ROUNDS {
            let random = Random(seed);
            let mut maker = Maker {
                spec: &spec,
                random,
                nulls,
            };
            let pair = maker.structure(name, DEPTH);
            let text = round_trip(&pair.sent.to_string())
                .unwrap_or_else(|e| panic!("{name}, seed {seed}: {e}\nsent {}", pair.sent));
            let written: Value = serde_json::from_str(&text).unwrap();
            assert!(
                equal(&written, &pair.back),
                "{name}, seed {seed}\nsent     {}\nexpected {}\nwritten  {written}",
                pair.sent,
                pair.back
            );
            assert!(!has_null(&written), "{name}, seed {seed}: {written}");
            // What was written once is written the same again, byte for byte.
            assert_eq!(round_trip(&text).unwrap(), text, "{name}, seed {seed}");
        }
    }
}

#[test]
fn every_structure_keeps_every_property_and_gains_none() {
    survive(false);
}

#[test]
fn null_is_read_at_any_depth_and_never_written() {
    survive(true);
}

#[test]
fn a_structure_of_nothing_but_null_is_the_empty_one() {
    let spec = spec();
    for (name, round_trip) in ROUND_TRIPS {
        let fields = spec[*name]["fields"].as_array().unwrap();
        let nulls: Map<String, Value> = fields
            .iter()
            .map(|f| (f["json_name"].as_str().unwrap().to_string(), Value::Null))
            .collect();
        let written = round_trip(&Value::Object(nulls).to_string()).unwrap();
        assert_eq!(round_trip("null").unwrap(), written, "{name}");
        assert_eq!(round_trip("{}").unwrap(), written, "{name}");
        // PHP's empty object.
        assert_eq!(round_trip("[]").unwrap(), written, "{name}");
        let written: Value = serde_json::from_str(&written).unwrap();
        assert!(!has_null(&written), "{name}: {written}");
        for f in fields {
            assert_eq!(
                written.get(f["json_name"].as_str().unwrap()).is_some(),
                f["optional"] != true,
                "{name}.{}",
                f["json_name"]
            );
        }
    }
}

#[test]
fn a_number_that_does_not_fit_its_width_is_refused() {
    let spec = spec();
    let mut tried = 0;
    for (name, round_trip) in ROUND_TRIPS {
        for f in spec[*name]["fields"].as_array().unwrap() {
            let bad: &[&str] = match f["type"].as_str().unwrap() {
                "int" | "int64" => &["9223372036854775808", "1.5", "\"7\"", "true"],
                "int32" => &["2147483648", "-2147483649", "1.5"],
                "uint" | "uint64" => &["18446744073709551616", "-1", "1.5"],
                "uint32" => &["4294967296", "-1"],
                "uint8" => &["256", "-1"],
                "bool" => &["1", "\"true\""],
                "string" => &["7", "{}"],
                "bytes" => &["\"%\"", "7"],
                k if k.starts_with("[]") => &["{\"0\":1}", "\"x\""],
                k if k.starts_with("map[") => &["[1]", "7"],
                _ => &[],
            };
            let property = f["json_name"].as_str().unwrap();
            for value in bad {
                let error = round_trip(&format!("{{{property:?}:{value}}}"))
                    .expect_err(&format!("{name}.{property} took {value}"));
                assert!(error.to_string().contains(property), "{name}.{property}: {error}");
                tried += 1;
            }
            if f["type"] == "int" {
                // Whole numbers are whole however they are printed.
                assert!(round_trip(&format!("{{{property:?}:2.0}}")).is_ok());
            }
        }
    }
    assert!(tried > 3000, "{tried}");
}
