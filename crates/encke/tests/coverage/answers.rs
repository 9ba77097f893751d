//! What every answer must be like, whoever asked: an envelope or the published structure, nothing more and nothing
//! less, with never a `null` (`spec/README.md`, "Responses and errors").

use encke_api::endpoint::Endpoint;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

/// One answer.
pub struct Answer {
    pub transport: u16,
    pub body: Vec<u8>,
    pub json: Option<Value>,
}

/// The published structures by name.
pub static STRUCTURES: LazyLock<HashMap<String, Value>> = LazyLock::new(|| {
    let all: Vec<Value> = serde_json::from_str(encke_api::spec::TYPES).unwrap();
    all.into_iter()
        .map(|t| (t["name"].as_str().unwrap().to_string(), t))
        .collect()
});

/// The published endpoints by path.
pub static PUBLISHED: LazyLock<HashMap<String, Value>> = LazyLock::new(|| {
    let all: Vec<Value> = serde_json::from_str(encke_api::spec::ENDPOINTS).unwrap();
    all.into_iter()
        .map(|e| (e["path"].as_str().unwrap().to_string(), e))
        .collect()
});

impl Answer {
    /// The status and message, if this is a failure.
    pub fn failure(&self) -> Option<(i64, &str)> {
        let envelope = self.json.as_ref()?.as_object()?;
        let status = envelope
            .get("Status")?
            .as_i64()
            .filter(|s| (400..600).contains(s))?;
        Some((status, envelope.get("Message")?.as_str()?))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The beginning of the body, to show.
    pub fn shown(&self) -> String {
        self.text().chars().take(600).collect()
    }

    /// What is wrong with the answer whatever was asked, if anything.
    pub fn fault(&self, e: &Endpoint) -> Option<String> {
        if let Some((status, message)) = self.failure() {
            let transport = if status == 449 { 449 } else { 200 };
            if self.transport != transport {
                return Some(format!("transport {} with status {status}", self.transport));
            }
            if message.trim().is_empty() {
                return Some("no message".into());
            }
            return (status == 500).then(|| format!("an internal error: {message}"));
        }
        if self.transport != 200 {
            return Some(format!("transport {}", self.transport));
        }
        if e.response == "bytes" {
            return None;
        }
        let Some(value) = &self.json else {
            return Some("no JSON".into());
        };
        if let Err(fault) = check(&e.response, value) {
            return Some(format!("no {}: {fault}", e.response));
        }
        // Clients take whatever has both for an envelope.
        if let (Some(status), true) = (value.get("Status"), value.get("Message").is_some())
            && status != 200
        {
            return Some(format!("a success of status {status}"));
        }
        None
    }
}

/// Whether a value is of a published type, no property more and no property less.
pub fn check(kind: &str, value: &Value) -> Result<(), String> {
    let wrong = || Err(format!("{value} is no {kind}"));
    if let Some(inner) = kind.strip_prefix("[]") {
        return match value.as_array() {
            Some(items) => items.iter().try_for_each(|v| check(inner, v)),
            None => wrong(),
        };
    }
    if let Some((key, inner)) = kind.strip_prefix("map[").and_then(|k| k.split_once(']')) {
        let Some(items) = value.as_object() else {
            return wrong();
        };
        if let Some(bad) = items
            .keys()
            .find(|k| key != "string" && k.parse::<i64>().is_err())
        {
            return Err(format!("{bad} is no number"));
        }
        return items.values().try_for_each(|v| check(inner, v));
    }
    let within = |low: i64, high: u64| {
        value.as_u64().is_some_and(|n| n <= high) || value.as_i64().is_some_and(|n| n >= low && n < 0)
    };
    let right = match kind {
        "string" => value.is_string(),
        "bytes" => value.as_str().is_some_and(is_base64),
        "bool" => value.is_boolean(),
        "int" | "int64" => value.is_i64(),
        "int32" => within(i32::MIN.into(), i32::MAX.unsigned_abs().into()),
        "uint" | "uint64" => value.is_u64(),
        "uint32" => within(0, u32::MAX.into()),
        "uint8" => within(0, u8::MAX.into()),
        "float32" => value.is_number(),
        "any" => !value.is_null(),
        name => return check_structure(name, value),
    };
    if right { Ok(()) } else { wrong() }
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn check_structure(name: &str, value: &Value) -> Result<(), String> {
    let Some(structure) = STRUCTURES.get(name) else {
        return Err(format!("{name} is not published"));
    };
    let Some(properties) = value.as_object() else {
        return Err(format!("{value} is no {name}"));
    };
    let fields = structure["fields"].as_array().unwrap();
    if let Some(more) = properties
        .keys()
        .find(|p| !fields.iter().any(|f| f["json_name"] == p.as_str()))
    {
        return Err(format!("{name} has no property {more}"));
    }
    for field in fields {
        let property = field["json_name"].as_str().unwrap();
        match properties.get(property) {
            Some(v) => {
                check(field["type"].as_str().unwrap(), v).map_err(|e| format!("{name}.{property}: {e}"))?;
            }
            None if field["optional"] == true => {}
            None => return Err(format!("{name} lacks {property}")),
        }
    }
    Ok(())
}

#[test]
fn the_judge_knows_right_from_wrong() {
    use serde_json::json;
    assert!(
        check(
            "CometAPIResponseMessage",
            &json!({"Status": 200, "Message": "OK"})
        )
        .is_ok()
    );
    for bad in [
        json!({"Status": 200}),
        json!({"Status": 200, "Message": null}),
        json!({"Status": "200", "Message": "OK"}),
        json!({"Status": 200, "Message": "OK", "More": 1}),
        json!([]),
    ] {
        assert!(check("CometAPIResponseMessage", &bad).is_err(), "{bad}");
    }
    assert!(check("map[int]string", &json!({"x": "y"})).is_err());
    assert!(check("uint8", &json!(256)).is_err());
    assert!(check("[]string", &json!({})).is_err());
    assert!(check("bytes", &json!("%")).is_err());
}
