//! The OpenAPI 3.1 document.

use super::spec::{ShownParam, Spec};
use crate::table::Table;
use encke_api::endpoint::{Caller, Endpoint};
use serde_json::{Map, Value, json};

/// A type of the specification's type language as a JSON schema.
pub(super) fn schema(kind: &str) -> Value {
    if let Some(inner) = kind.strip_prefix("[]") {
        return json!({ "type": "array", "items": schema(inner) });
    }
    if let Some((_, inner)) = kind.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return json!({ "type": "object", "additionalProperties": schema(inner) });
    }
    match kind {
        "string" => json!({ "type": "string" }),
        "bool" => json!({ "type": "boolean" }),
        "int" | "int64" => json!({ "type": "integer", "format": "int64" }),
        "int32" => json!({ "type": "integer", "format": "int32" }),
        "uint" | "uint64" => json!({ "type": "integer", "minimum": 0 }),
        "uint32" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "uint8" => json!({ "type": "integer", "minimum": 0, "maximum": 255 }),
        "float32" => json!({ "type": "number" }),
        "bytes" => json!({ "type": "string", "contentEncoding": "base64" }),
        "any" | "" => json!({}),
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

fn structure(t: &Value) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in t["fields"].as_array().into_iter().flatten() {
        let name = field["json_name"].as_str().unwrap_or_default();
        let mut shown = schema(field["type"].as_str().unwrap_or_default());
        let notes: Vec<String> = [
            ("unit", "Unit: "),
            ("enum", "Constants: "),
            ("min_version", "Since "),
        ]
        .iter()
        .filter_map(|(key, label)| Some(format!("{label}{}", field[*key].as_str()?)))
        .collect();
        if !notes.is_empty() {
            shown["description"] = json!(notes.join(". "));
        }
        properties.insert(name.to_string(), shown);
        if field["optional"] != true {
            required.push(name.to_string());
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": true })
}

fn request(endpoint: &Endpoint, params: &[ShownParam]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut encoding = Map::new();
    let uploads = params.iter().any(|p| p.kind == "bytes");
    for p in params {
        let mut shown = match p.kind.as_str() {
            // A part of its own, as it is.
            "bytes" => json!({ "contentMediaType": "application/octet-stream" }),
            kind => schema(kind),
        };
        if p.json {
            encoding.insert(p.name.clone(), json!({ "contentType": "application/json" }));
        }
        if !p.doc.is_empty() {
            shown["description"] = json!(p.doc);
        }
        properties.insert(p.name.clone(), shown);
        if !p.optional {
            required.push(p.name.clone());
        }
    }
    let own = json!({ "type": "object", "properties": properties, "required": required });
    let all = match endpoint.caller {
        Caller::Nobody => own,
        _ => json!({ "allOf": [{ "$ref": "#/components/schemas/EnckeCredentials" }, own] }),
    };
    let mut content = json!({ "schema": all });
    if !encoding.is_empty() {
        content["encoding"] = Value::Object(encoding);
    }
    let media = match uploads {
        true => "multipart/form-data",
        false => "application/x-www-form-urlencoded",
    };
    json!({ "content": { media: content } })
}

fn operation(endpoint: &Endpoint, spec: &Spec) -> Value {
    let answer = schema(&endpoint.response);
    let failure = json!({ "$ref": "#/components/schemas/CometAPIResponseMessage" });
    let content = if endpoint.response == "bytes" {
        // Text, an archive, a file that somebody uploaded.
        json!({ "application/json": { "schema": failure }, "*/*": {} })
    } else {
        json!({ "application/json": { "schema": { "anyOf": [answer, failure] } } })
    };
    let mut out = json!({
        "operationId": endpoint.name,
        "tags": [spec.area(endpoint)],
        "summary": endpoint.summary,
        "description": format!("Caller: {}.", super::spec::caller_words(endpoint)),
        "responses": {
            "200": { "description": "The answer; or an envelope whose Status is 400 or more", "content": content },
            "449": { "description": "The password is right but a second factor is missing; the headers tell which will do",
                     "headers": {
                         "X-Comet-TOTP-Requested": { "description": "1 where a one-time code will do", "schema": { "type": "string" } },
                         "X-Comet-WebAuthn-Challenge": { "description": "A WebAuthnSignRequest as JSON text where a security key will do", "schema": { "type": "string" } },
                     },
                     "content": { "application/json": { "schema": { "$ref": "#/components/schemas/CometAPIResponseMessage" } } } },
        },
    });
    if endpoint.method == "POST" {
        out["requestBody"] = request(endpoint, &spec.params(endpoint));
    }
    out["x-encke-support"] = json!(endpoint.support.word());
    if let Some(why) = endpoint.support.refusal() {
        out["x-encke-reason"] = json!(why);
    }
    out
}

/// The whole document.
pub(super) fn document(table: &Table, spec: &Spec) -> Value {
    let mut paths = Map::new();
    for endpoint in table.endpoints() {
        let method = endpoint.method.to_ascii_lowercase();
        paths.insert(
            endpoint.path.to_string(),
            json!({ method: operation(endpoint, spec) }),
        );
    }
    let mut schemas = Map::new();
    for t in spec.structures() {
        schemas.insert(t["name"].as_str().unwrap_or_default().to_string(), structure(t));
    }
    schemas.insert(
        "EnckeCredentials".into(),
        json!({
            "type": "object",
            "properties": {
                "Username": { "type": "string" },
                "AuthType": { "type": "string", "enum": ["Password", "PasswordTOTP", "PasswordWebAuthn", "SessionKey"] },
                "Password": { "type": "string" },
                "TOTP": { "type": "string" },
                "WebAuthnSign": { "type": "string", "description": "A WebAuthnSignResponse as JSON text" },
                "SessionKey": { "type": "string" },
            },
            "required": ["Username", "AuthType"],
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Encke API",
            "version": encke_api::constants::APPLICATION_VERSION,
            "description": "Every call is a form-encoded POST; a failure is an envelope with a Status of 400 or more on transport status 200.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8060" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}
