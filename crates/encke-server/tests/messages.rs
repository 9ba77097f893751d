//! The catalogues of messages agree with each other and with the messages the program has.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

/// The program's source, with the strings that are broken over lines joined, and every `{name}` as `{}`.
fn source() -> String {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut out = String::new();
    let mut waiting: Vec<_> = ["encke-api/src", "encke-server/src", "encke-store/src"]
        .map(|c| crates.join(c))
        .into();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                waiting.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") && !entry.ends_with("messages.rs") {
                out += &std::fs::read_to_string(entry).unwrap();
            }
        }
    }
    let broken = regex::Regex::new(r"\\\n\s*").unwrap();
    let places = regex::Regex::new(r"\{[^{}\n]*\}").unwrap();
    places
        .replace_all(&broken.replace_all(&out, ""), "{}")
        .into_owned()
}

#[test]
fn every_language_has_every_message_with_its_places() {
    let catalogues = encke_api::messages::catalogues();
    let first: BTreeSet<&String> = catalogues[0].1.keys().collect();
    assert!(first.len() >= 50, "{}", first.len());
    for (language, messages) in &catalogues {
        let keys: BTreeSet<&String> = messages.keys().collect();
        assert_eq!(keys, first, "{language}");
        for (english, translation) in messages {
            assert_eq!(
                english.matches("{}").count(),
                translation.matches("{}").count(),
                "{language}: {english}"
            );
            assert!(
                !translation.trim().is_empty() && translation != english,
                "{language}: {english}"
            );
        }
    }
}

#[test]
fn every_translated_message_is_one_the_program_has() {
    let source = source();
    let catalogues = encke_api::messages::catalogues();
    let stale: Vec<&String> = catalogues[0]
        .1
        .keys()
        .filter(|m| !source.contains(m.as_str()))
        .collect();
    assert!(stale.is_empty(), "no longer said by anybody: {stale:?}");
}
