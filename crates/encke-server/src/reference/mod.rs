//! The API reference, made from the endpoint table and the specification: an OpenAPI document, Markdown files for
//! `docs/api`, and pages at `/docs`.

mod markdown;
mod openapi;
mod pages;
mod spec;

pub use pages::router;

use crate::table::Table;

/// The files of the reference: name and content.
#[must_use]
pub fn files(table: &Table) -> Vec<(String, String)> {
    let spec = spec::Spec::load();
    let mut files = markdown::files(table, &spec);
    let document = serde_json::to_string_pretty(&openapi::document(table, &spec)).unwrap_or_default();
    files.push(("openapi.json".into(), document + "\n"));
    files
}
