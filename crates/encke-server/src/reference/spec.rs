//! The specification files, as the reference reads them.

use crate::table::Table;
use encke_api::endpoint::{Endpoint, Support};
use serde_json::Value;
use std::collections::BTreeMap;

/// The published facts.
pub(super) struct Spec {
    /// Published endpoints by path.
    pub endpoints: BTreeMap<String, Value>,
    /// Structures and aliases.
    pub types: Vec<Value>,
    /// Groups of constants.
    pub constants: Vec<Value>,
    /// Calls that ran in the tests, by the endpoint's name.
    pub examples: BTreeMap<String, Value>,
}

/// A parameter as the reference shows it.
pub(super) struct ShownParam {
    pub name: String,
    pub kind: String,
    pub optional: bool,
    pub json: bool,
    pub doc: String,
}

fn read(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_default()
}

impl Spec {
    pub(super) fn load() -> Self {
        let by_path = |e: Value| Some((e["path"].as_str()?.to_string(), e));
        Self {
            endpoints: read(encke_api::spec::ENDPOINTS)
                .into_iter()
                .filter_map(by_path)
                .collect(),
            types: read(encke_api::spec::TYPES),
            constants: read(encke_api::spec::CONSTANTS),
            examples: serde_json::from_str(include_str!("examples.json")).unwrap_or_default(),
        }
    }

    /// Structures only.
    pub(super) fn structures(&self) -> impl Iterator<Item = &Value> {
        self.types.iter().filter(|t| t["kind"] == "struct")
    }

    /// The group that the constants of a prefix such as `JOB_STATUS_` are in, if they are published.
    pub(super) fn constant_group(&self, prefix: &str) -> Option<&str> {
        let named = |g: &&Value| g["group"].as_str() == Some(prefix.trim_end_matches('_'));
        let holds = |g: &&Value| {
            let mut values = g["values"].as_array().into_iter().flatten();
            values.any(|v| v["name"].as_str().is_some_and(|n| n.starts_with(prefix)))
        };
        let groups = &self.constants;
        let found = groups.iter().find(named).or_else(|| groups.iter().find(holds));
        found?["group"].as_str()
    }

    /// Capability of an endpoint; `encke` for our own.
    pub(super) fn area(&self, endpoint: &Endpoint) -> String {
        self.endpoints
            .get(endpoint.path)
            .and_then(|e| e["area"].as_str())
            .unwrap_or("encke")
            .to_string()
    }

    /// Parameters: of the table where the endpoint is supported, else of the specification.
    pub(super) fn params(&self, endpoint: &Endpoint) -> Vec<ShownParam> {
        if endpoint.support == Support::Supported {
            let shown = endpoint.params.iter().map(|p| ShownParam {
                name: p.name.to_string(),
                kind: (p.type_name)(),
                optional: p.optional,
                json: p.json,
                doc: p.doc.trim().to_string(),
            });
            return shown.collect();
        }
        let listed = self
            .endpoints
            .get(endpoint.path)
            .and_then(|e| e["params"].as_array().cloned())
            .unwrap_or_default();
        let shown = listed.into_iter().map(|p| ShownParam {
            name: p["name"].as_str().unwrap_or_default().to_string(),
            kind: p["type"].as_str().unwrap_or_default().to_string(),
            optional: p["optional"] == true,
            json: p["json_encoded"] == true,
            doc: String::new(),
        });
        shown.collect()
    }
}

/// Endpoints by capability, in the order of their names.
pub(super) fn by_area<'a>(table: &'a Table, spec: &Spec) -> BTreeMap<String, Vec<&'a Endpoint>> {
    let mut out: BTreeMap<String, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in table.endpoints() {
        out.entry(spec.area(endpoint)).or_default().push(endpoint);
    }
    out
}

/// Who may call, in words.
pub(super) fn caller_words(endpoint: &Endpoint) -> String {
    use encke_api::endpoint::Caller;
    let who = match endpoint.caller {
        Caller::Nobody => "anybody, without credentials",
        Caller::Admin => "administrator",
        Caller::User => "end user",
        Caller::AdminOrUser => "administrator or end user",
    };
    if endpoint.top_level_only {
        format!("{who} of the top level")
    } else {
        who.to_string()
    }
}

/// How many of these endpoints work, in words.
pub(super) fn coverage_words<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> String {
    let mut counts = [0; 3];
    for endpoint in endpoints {
        counts[match endpoint.support {
            Support::Supported => 0,
            Support::NotYet(_) => 1,
            Support::Unsupported(_) => 2,
        }] += 1;
    }
    let [supported, later, never] = counts;
    format!(
        "Of the {} published endpoints {supported} are supported, {later} not yet, and {never} will not be. Those check \
         the caller and then answer an envelope of status 501 with the reason given here.",
        supported + later + never
    )
}
