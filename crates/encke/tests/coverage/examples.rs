//! Calls that ran, as examples for the reference: ids, times, keys and folders are replaced by fixed ones, so that the
//! file changes only when the API does.

use crate::answers::{Answer, STRUCTURES};
use crate::world::Who;
use encke_api::endpoint::{Endpoint, Support};
use encke_server::table::Table;
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::LazyLock;

/// Set to write the file anew instead of comparing with it.
const WRITE: &str = "ENCKE_WRITE_EXAMPLES";
/// Entries of an array or map that are shown.
const SHOWN: usize = 2;
/// Longest text that is shown whole.
const LONG: usize = 120;

/// The file, which is built into the server.
fn path() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.join("../encke-server/src/reference/examples.json")
}

#[derive(Default)]
pub struct Examples(BTreeMap<String, Value>);

impl Examples {
    /// Keeps a call that succeeded; the first one of each endpoint.
    pub fn keep(&mut self, e: &Endpoint, who: Option<Who>, fields: &[(String, String)], answer: &Answer) {
        let mut hide = Hide::default();
        let sent: Map<String, Value> = fields
            .iter()
            .map(|(n, v)| (n.clone(), json!(hide.field(v))))
            .collect();
        let answered = match &answer.json {
            Some(value) if e.response != "bytes" => hide.value(&e.response, value),
            _ => match std::str::from_utf8(&answer.body) {
                Ok(text) => json!(hide.text(&text.lines().take(3).collect::<Vec<_>>().join("\n"))),
                Err(_) => json!("(binary)"),
            },
        };
        let example = json!({ "caller": who.map_or("", |w| w.name), "request": sent, "answer": answered });
        self.0.entry(e.name.to_string()).or_insert(example);
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Compares with the committed file, or writes it.
    pub fn compare(&self, table: &Table, faults: &mut Vec<String>) {
        if std::env::var_os(WRITE).is_some() {
            let text = serde_json::to_string_pretty(&self.0).unwrap() + "\n";
            std::fs::write(path(), text).unwrap();
            return;
        }
        let text = std::fs::read_to_string(path()).unwrap();
        let committed: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
        let names = |m: &BTreeMap<String, Value>| m.keys().cloned().collect::<BTreeSet<_>>();
        let mut stale: Vec<String> = names(&self.0)
            .symmetric_difference(&names(&committed))
            .cloned()
            .collect();
        for e in table.endpoints().filter(|e| e.support == Support::Supported) {
            if let (Some(now), Some(then)) = (self.0.get(e.name), committed.get(e.name)) {
                let form = |x: &Value| (keys(&x["request"]), form(&e.response, &x["answer"]));
                if form(now) != form(then) {
                    stale.push(e.name.to_string());
                }
            }
        }
        if !stale.is_empty() {
            faults.push(format!(
                "the examples of the reference are stale, write them with `make docs`: {stale:?}"
            ));
        }
    }
}

fn keys(object: &Value) -> BTreeSet<String> {
    object
        .as_object()
        .into_iter()
        .flat_map(|o| o.keys().cloned())
        .collect()
}

/// The form of an answer: properties that are always sent, without what comes and goes from run to run.
fn form(kind: &str, value: &Value) -> String {
    match STRUCTURES.get(kind) {
        Some(t) if t["kind"] == "struct" => {
            let always = t["fields"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|f| f["optional"] != true);
            let names: Vec<&str> = always.filter_map(|f| f["json_name"].as_str()).collect();
            let here = |n: &&&str| value.get(**n).is_some();
            names.iter().filter(here).map(|n| format!("{n} ")).collect()
        }
        _ if value.is_array() => "[]".into(),
        _ if value.is_object() => "{}".into(),
        _ => "text".into(),
    }
}

/// Replaces what differs from run to run, the same by the same.
#[derive(Default)]
struct Hide {
    guids: HashMap<String, String>,
    hexes: HashMap<String, String>,
}

static GUID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap());
static HEX: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[0-9a-f]{16,}\b").unwrap());
static FOLDER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(/[\w.-]+)*/\.tmp\w+").unwrap());
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"127\.0\.0\.1:\d+").unwrap());
static CLOCK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?").unwrap());
static SECONDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b1[789]\d{8}\b").unwrap());

/// The time of every example.
const THEN: i64 = 1_767_225_600;

impl Hide {
    fn text(&mut self, text: &str) -> String {
        let count = |known: &mut HashMap<String, String>, found: &str, show: &dyn Fn(usize) -> String| {
            let next = known.len() + 1;
            known
                .entry(found.to_string())
                .or_insert_with(|| show(next))
                .clone()
        };
        let text = GUID.replace_all(text, |c: &Captures| {
            count(&mut self.guids, &c[0], &|n| {
                format!("7d3f1c52-0000-4000-8000-{n:012}")
            })
        });
        let text = HEX.replace_all(&text, |c: &Captures| {
            let length = c[0].len();
            count(&mut self.hexes, &c[0], &|n| {
                let beginning = format!("{:08x}", 0x9e37_79b9_usize.wrapping_mul(n) & 0xffff_ffff);
                beginning.repeat(length / 8 + 1)[..length].to_string()
            })
        });
        let text = FOLDER.replace_all(&text, "/srv/example");
        let text = ADDRESS.replace_all(&text, "127.0.0.1:8060");
        let text = CLOCK.replace_all(&text, "2026-01-01T00:00:00");
        let text = SECONDS.replace_all(&text, THEN.to_string().as_str());
        let text = text.replace(crate::world::CANARY, "Example");
        if text.len() <= LONG || text.contains(' ') && text.len() < 4 * LONG {
            return text;
        }
        text.chars().take(LONG / 4).chain(['…']).collect()
    }

    /// A form field: JSON text is shortened as JSON.
    fn field(&mut self, value: &str) -> String {
        match serde_json::from_str::<Value>(value) {
            Ok(json) if json.is_object() || json.is_array() => {
                let hidden = self.value("", &json).to_string();
                if hidden.len() > 4 * LONG {
                    let mut end = 4 * LONG;
                    while !hidden.is_char_boundary(end) {
                        end -= 1;
                    }
                    return format!("{}…", &hidden[..end]);
                }
                hidden
            }
            _ => self.text(value),
        }
    }

    fn value(&mut self, kind: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => json!(self.text(text)),
            Value::Number(n)
                if n.as_i64()
                    .is_some_and(|n| (1_600_000_000..2_500_000_000).contains(&n)) =>
            {
                json!(THEN)
            }
            Value::Array(items) => items.iter().take(SHOWN).map(|v| self.value("", v)).collect(),
            Value::Object(items) => {
                let is_map = kind.starts_with("map[");
                let limit = if is_map { SHOWN } else { items.len() };
                let mut out = Map::new();
                for (k, v) in items.iter().take(limit) {
                    let shown = match (k.as_str(), v) {
                        ("DeviceTimezone" | "Platform" | "Hostname" | "SSHUsername" | "SSHPrivateKey", _) => {
                            json!("…")
                        }
                        ("SMTPPort", _) => json!(587),
                        ("Port", Value::String(_)) => json!("3306"),
                        _ => self.value("", v),
                    };
                    out.insert(self.text(k), shown);
                }
                Value::Object(out)
            }
            other => other.clone(),
        }
    }
}
