//! The reference at `/docs`: pages made once from the same data, and a search that needs no server.

use super::spec::{Spec, by_area, caller_words, coverage_words};
use super::{markdown, openapi};
use crate::app::App;
use crate::table::Table;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use encke_api::endpoint::{Endpoint, Support};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

type Pages = HashMap<String, (&'static str, String)>;

const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'";

/// Paths below `/docs`.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/docs",
            get(|State(app): State<Arc<App>>| async move { serve(&app, "index") }),
        )
        .route(
            "/docs/",
            get(|State(app): State<Arc<App>>| async move { serve(&app, "index") }),
        )
        .route(
            "/docs/{*page}",
            get(|State(app): State<Arc<App>>, Path(page): Path<String>| async move { serve(&app, &page) }),
        )
        .layer(tower_http::compression::CompressionLayer::new())
        .with_state(app)
}

fn serve(app: &App, page: &str) -> Response {
    static PAGES: OnceLock<Pages> = OnceLock::new();
    let pages = PAGES.get_or_init(|| build(&app.table));
    let Some((media, text)) = pages.get(page) else {
        let mut response = Response::new(Body::from("There is no such page in the reference\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let mut response = Response::new(Body::from(text.as_str()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn page(title: &str, body: &str) -> (&'static str, String) {
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0} · Encke API</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"stylesheet\" href=\"/docs/style.css\"><script src=\"/docs/search.js\" defer></script></head>\
         <body><header><a class=\"home\" href=\"/docs\">Encke API</a>\
         <input id=\"search\" type=\"search\" placeholder=\"Search endpoints, structures, constants\" aria-label=\"Search\" autocomplete=\"off\">\
         <nav><a href=\"/docs\">Guide</a><a href=\"/docs/endpoints\">Endpoints</a><a href=\"/docs/types\">Structures</a>\
         <a href=\"/docs/constants\">Constants</a><a href=\"/docs/coverage\">Coverage</a><a href=\"/docs/openapi.json\">OpenAPI</a></nav></header>\
         <ul id=\"found\" hidden></ul><main>{body}</main></body></html>",
        escape(title)
    );
    ("text/html; charset=utf-8", text)
}

fn type_link(kind: &str, spec: &Spec) -> String {
    let name = kind.rsplit(']').next().unwrap_or(kind);
    if spec.structures().any(|t| t["name"] == name) {
        format!("<a href=\"/docs/types/{name}\"><code>{}</code></a>", escape(kind))
    } else {
        format!("<code>{}</code>", escape(kind))
    }
}

fn badge(e: &Endpoint) -> &'static str {
    match e.support {
        Support::Supported => "<span class=\"yes\">supported</span>",
        Support::NotYet(_) => "<span class=\"no\">not yet</span>",
        Support::Unsupported(_) => "<span class=\"no\">unsupported</span>",
    }
}

fn endpoint_page(e: &Endpoint, spec: &Spec) -> String {
    let mut out = format!(
        "<h1>{} {}</h1><p><code>{} {}</code></p>",
        escape(e.name),
        badge(e),
        e.method,
        e.path
    );
    match e.support.refusal() {
        None => {
            let _ = write!(out, "<p>{}</p>", escape(e.summary));
        }
        Some(why) => {
            let _ = write!(out, "<p>Answers status 501: {}.</p>", escape(why));
        }
    }
    let _ = write!(
        out,
        "<dl><dt>Caller</dt><dd>{}</dd><dt>Answer</dt><dd>{}</dd>",
        escape(&caller_words(e)),
        type_link(&e.response, spec)
    );
    if !e.roles.is_empty() {
        let roles: Vec<&str> = e.roles.iter().map(|r| r.word()).collect();
        let _ = write!(out, "<dt>Roles</dt><dd>{}</dd>", roles.join(", "));
    }
    out.push_str("</dl>");
    let params = spec.params(e);
    if !params.is_empty() {
        out.push_str("<h2>Parameters</h2><table><tr><th>Name</th><th>Type</th><th></th><th></th></tr>");
        for p in &params {
            let optional = if p.optional { "optional" } else { "required" };
            let json = if p.json { ", JSON text" } else { "" };
            let kind = type_link(&p.kind, spec);
            let _ = write!(
                out,
                "<tr><td><code>{}</code></td><td>{kind}</td><td>{optional}{json}</td><td>{}</td></tr>",
                escape(&p.name),
                escape(&p.doc)
            );
        }
        out.push_str("</table>");
    }
    call_and_answer(e, spec, &mut out);
    out
}

/// A call that ran in the tests with its answer; what a call looks like where none ran.
fn call_and_answer(e: &Endpoint, spec: &Spec, out: &mut String) {
    let example = spec.examples.get(e.name);
    let target = format!("http://127.0.0.1:8060{}", e.path);
    let mut parts = Vec::new();
    if e.method == "POST" {
        let caller = example.map_or("admin", |x| x["caller"].as_str().unwrap_or_default());
        if !caller.is_empty() {
            parts.push(format!("-d 'Username={caller}&AuthType=Password&Password=…'"));
        }
        match example.and_then(|x| x["request"].as_object()) {
            Some(sent) => parts.extend(sent.iter().map(|(name, value)| {
                let value = value.as_str().unwrap_or_default();
                // The tests' mark of a file.
                if value.starts_with('\u{1}') {
                    return format!("-F '{name}=@file'");
                }
                format!("--data-urlencode '{name}={}'", value.replace('\'', "'\\''"))
            })),
            None => parts.extend(
                spec.params(e)
                    .iter()
                    .filter(|p| !p.optional)
                    .map(|p| format!("--data-urlencode '{}=…'", p.name)),
            ),
        }
        if parts.iter().any(|p| p.starts_with("-F")) {
            // Parts do not mix with form fields: the credentials go as headers.
            parts[0] = format!(
                "-H 'X-Comet-Admin-Username: {caller}' -H 'X-Comet-Admin-AuthType: Password' \\\n  -H 'X-Comet-Admin-Password: …'"
            );
        } else if parts.is_empty() {
            parts.push("-X POST".into());
        }
    }
    parts.push(target);
    let call = format!("curl {}", parts.join(" \\\n  "));
    let _ = write!(out, "<h2>Call</h2><pre>{}</pre>", escape(&call));
    if let Some(example) = example {
        let answer = match &example["answer"] {
            Value::String(text) => text.clone(),
            json => serde_json::to_string_pretty(json).unwrap_or_default(),
        };
        let _ = write!(
            out,
            "<h2>Answer</h2><pre>{}</pre><p class=\"note\">Call and answer ran in the tests; ids, times and addresses are \
             replaced, long lists and texts cut short.</p>",
            escape(&answer)
        );
    }
}

fn type_page(t: &Value, spec: &Spec, table: &Table) -> String {
    let name = t["name"].as_str().unwrap_or_default();
    let mut out = format!(
        "<h1>{}</h1><table><tr><th>Property</th><th>Type</th><th></th></tr>",
        escape(name)
    );
    for f in t["fields"].as_array().into_iter().flatten() {
        let text = |key: &str| f[key].as_str().unwrap_or_default();
        let mut notes = Vec::new();
        if f["optional"] == true {
            notes.push("left out when empty".to_string());
        }
        if !text("unit").is_empty() {
            notes.push(text("unit").to_string());
        }
        if !text("enum").is_empty() {
            let shown = escape(text("enum"));
            notes.push(match spec.constant_group(text("enum")) {
                Some(group) => format!("<a href=\"/docs/constants#{group}\">{shown}…</a>"),
                None => format!("{shown}…"),
            });
        }
        let _ = write!(
            out,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
            escape(text("json_name")),
            type_link(text("type"), spec),
            notes.join(", ")
        );
    }
    out.push_str("</table>");
    let used: Vec<String> = table
        .endpoints()
        .filter(|e| e.response.ends_with(name) || spec.params(e).iter().any(|p| p.kind.ends_with(name)))
        .map(|e| format!("<li><a href=\"/docs/endpoints/{0}\">{0}</a></li>", e.name))
        .collect();
    if !used.is_empty() {
        let _ = write!(out, "<h2>Used by</h2><ul>{}</ul>", used.concat());
    }
    out
}

/// The little Markdown that the guide uses.
fn guide_page() -> String {
    let mut out = String::new();
    let mut table = false;
    let (_, guide) = markdown::files(&Table::new(Vec::new()), &Spec::load()).swap_remove(0);
    for block in guide.split("\n\n") {
        let inline = |text: &str| {
            let mut shown = String::new();
            for (i, part) in escape(text).split('`').enumerate() {
                shown += &if i % 2 == 1 {
                    format!("<code>{part}</code>")
                } else {
                    links(part)
                };
            }
            shown
        };
        if let Some(title) = block.strip_prefix("## ") {
            let _ = write!(out, "<h2>{}</h2>", inline(title));
        } else if let Some(title) = block.strip_prefix("# ") {
            let _ = write!(out, "<h1>{}</h1>", inline(title));
        } else if let Some(code) = block.strip_prefix("    ") {
            let _ = write!(out, "<pre>{}</pre>", escape(code.trim_end()));
        } else if block.starts_with("- ") {
            let items = block
                .split("\n- ")
                .map(|i| format!("<li>{}</li>", inline(i.trim_start_matches("- "))));
            let _ = write!(out, "<ul>{}</ul>", items.collect::<String>());
        } else if block.starts_with('|') {
            out.push_str("<table>");
            for line in block.lines().filter(|l| !l.starts_with("| ---")) {
                let cell = if table { "td" } else { "th" };
                table = true;
                let cells = line
                    .trim()
                    .trim_matches('|')
                    .split('|')
                    .map(|c| format!("<{cell}>{}</{cell}>", inline(c.trim())));
                let _ = write!(out, "<tr>{}</tr>", cells.collect::<String>());
            }
            table = false;
            out.push_str("</table>");
        } else {
            let _ = write!(out, "<p>{}</p>", inline(block));
        }
    }
    out
}

/// `[text](target)` with the files' names turned into the pages'.
fn links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((label, tail)) = after.split_once("](") else {
            break;
        };
        let Some((target, tail)) = tail.split_once(')') else {
            break;
        };
        let target = match target.split('#').next().unwrap_or_default() {
            "endpoints.md" => "/docs/endpoints",
            "structures.md" => "/docs/types",
            "constants.md" => "/docs/constants",
            "coverage.md" => "/docs/coverage",
            other => &format!("/docs/{other}"),
        };
        let _ = write!(out, "{before}<a href=\"{target}\">{label}</a>");
        rest = tail;
    }
    out + rest
}

fn build(table: &Table) -> Pages {
    let spec = Spec::load();
    let mut pages = Pages::new();
    pages.insert("index".into(), page("Guide", &guide_page()));
    let (mut list, mut coverage) = (
        String::from("<h1>Endpoints</h1>"),
        String::from("<h1>Coverage</h1>"),
    );
    let published = table.endpoints().filter(|e| spec.endpoints.contains_key(e.path));
    let _ = write!(coverage, "<p>{}</p><table>", coverage_words(published));
    let mut search = Vec::new();
    for (area, endpoints) in by_area(table, &spec) {
        let _ = write!(list, "<h2>{}</h2><table>", escape(&area.replace('_', " ")));
        for e in endpoints {
            let link = format!("<a href=\"/docs/endpoints/{0}\">{0}</a>", e.name);
            let _ = write!(
                list,
                "<tr><td>{link}</td><td><code>{}</code></td><td>{}</td></tr>",
                e.path,
                badge(e)
            );
            let why = e.support.refusal().unwrap_or_default();
            let _ = write!(
                coverage,
                "<tr><td>{link}</td><td>{}</td><td>{}</td></tr>",
                badge(e),
                escape(why)
            );
            pages.insert(
                format!("endpoints/{}", e.name),
                page(e.name, &endpoint_page(e, &spec)),
            );
            search.push(serde_json::json!([
                e.name,
                format!("/docs/endpoints/{}", e.name),
                e.path
            ]));
        }
        list.push_str("</table>");
    }
    coverage.push_str("</table>");
    let mut types = String::from("<h1>Structures</h1><ul class=\"columns\">");
    for t in spec.structures() {
        let name = t["name"].as_str().unwrap_or_default();
        let _ = write!(types, "<li><a href=\"/docs/types/{name}\">{name}</a></li>");
        pages.insert(format!("types/{name}"), page(name, &type_page(t, &spec, table)));
        search.push(serde_json::json!([
            name,
            format!("/docs/types/{name}"),
            "structure"
        ]));
    }
    types.push_str("</ul>");
    let mut constants = String::from("<h1>Constants</h1>");
    for group in &spec.constants {
        let name = group["group"].as_str().unwrap_or_default();
        let _ = write!(constants, "<h2 id=\"{name}\">{name}</h2><table>");
        for v in group["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|v| !v["value"].is_null())
        {
            let constant = v["name"].as_str().unwrap_or_default();
            let _ = write!(
                constants,
                "<tr id=\"{constant}\"><td><code>{constant}</code></td><td><code>{}</code></td></tr>",
                escape(&v["value"].to_string())
            );
            search.push(serde_json::json!([
                constant,
                format!("/docs/constants#{constant}"),
                v["value"].to_string()
            ]));
        }
        constants.push_str("</table>");
    }
    pages.insert("endpoints".into(), page("Endpoints", &list));
    pages.insert("coverage".into(), page("Coverage", &coverage));
    pages.insert("types".into(), page("Structures", &types));
    pages.insert("constants".into(), page("Constants", &constants));
    let entries = Value::Array(search).to_string();
    pages.insert("search.json".into(), ("application/json", entries.clone()));
    let script = format!("const ENTRIES = {entries};\n{}", include_str!("search.js"));
    pages.insert("search.js".into(), ("text/javascript; charset=utf-8", script));
    pages.insert(
        "style.css".into(),
        ("text/css; charset=utf-8", include_str!("style.css").to_string()),
    );
    let document = serde_json::to_string(&openapi::document(table, &spec)).unwrap_or_default();
    pages.insert("openapi.json".into(), ("application/json", document));
    pages
}
