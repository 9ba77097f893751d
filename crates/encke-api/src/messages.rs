//! Messages in the caller's language. The English text is the key: handlers write plain English, and the edge of the
//! server looks it up when `Accept-Language` asks for another language that there is a catalogue for. A message that
//! is not in the catalogue stays English; `ERR_` strings are protocol and stay as they are.
//!
//! A catalogue is `messages/<language>.json`: English to translation, `{}` standing for what differs from call to call.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Longest `Accept-Language` that is looked at, in bytes.
const MAX_HEADER: usize = 256;

/// A language that messages can be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// The language of the source.
    #[default]
    English,
    /// Deutsch.
    German,
    /// Español.
    Spanish,
    /// Français.
    French,
    /// Português.
    Portuguese,
}

const CATALOGUES: [(Language, &str, &str); 4] = [
    (Language::German, "de", include_str!("../messages/de.json")),
    (Language::Spanish, "es", include_str!("../messages/es.json")),
    (Language::French, "fr", include_str!("../messages/fr.json")),
    (Language::Portuguese, "pt", include_str!("../messages/pt.json")),
];

/// One language's messages.
struct Catalogue {
    whole: HashMap<String, String>,
    /// Text before, between and after the places, with the translation.
    patterns: Vec<(Vec<String>, String)>,
}

static LOADED: LazyLock<HashMap<Language, Catalogue>> = LazyLock::new(|| {
    let load = |text: &str| {
        let entries: HashMap<String, String> =
            serde_json::from_str(text).expect("a test reads every catalogue");
        let (patterns, whole): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(k, _)| k.contains("{}"));
        let mut patterns: Vec<(Vec<String>, String)> = patterns
            .into_iter()
            .map(|(k, v)| (k.split("{}").map(str::to_string).collect(), v))
            .collect();
        // The most particular pattern wins.
        patterns.sort_by_key(|(parts, _)| std::cmp::Reverse(parts.iter().map(String::len).sum::<usize>()));
        Catalogue {
            whole: whole.into_iter().collect(),
            patterns,
        }
    };
    CATALOGUES.iter().map(|(l, _, text)| (*l, load(text))).collect()
});

impl Language {
    /// The best language for an `Accept-Language` header (RFC 9110, section 12.5.4); codes may also be written with an
    /// underscore. English when nothing fits.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        let header = header.get(..MAX_HEADER).unwrap_or(header);
        let mut best = (0.0, Self::English);
        for choice in header.split(',') {
            let mut parts = choice.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let weight = parts
                .find_map(|p| p.trim().strip_prefix("q="))
                .map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0));
            let primary = tag.split(['-', '_']).next().unwrap_or_default();
            let language = match primary {
                _ if primary.eq_ignore_ascii_case("en") || primary == "*" => Some(Self::English),
                _ => CATALOGUES
                    .iter()
                    .find(|(_, code, _)| code.eq_ignore_ascii_case(primary))
                    .map(|(l, _, _)| *l),
            };
            if let Some(language) = language
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
    }

    /// The message in this language, or as it is.
    #[must_use]
    pub fn translate(self, message: &str) -> String {
        let Some(catalogue) = LOADED.get(&self) else {
            return message.to_string();
        };
        if let Some(found) = catalogue.whole.get(message) {
            return found.clone();
        }
        for (parts, translation) in &catalogue.patterns {
            if let Some(values) = fill(parts, message) {
                let mut out = String::with_capacity(translation.len() + message.len());
                let mut pieces = translation.split("{}");
                out.push_str(pieces.next().unwrap_or_default());
                for (piece, value) in pieces.zip(values) {
                    // What stands in a place may be a message of its own.
                    out.push_str(catalogue.whole.get(value).map_or(value, String::as_str));
                    out.push_str(piece);
                }
                return out;
            }
        }
        message.to_string()
    }
}

/// What stands in the places of a pattern, if the message follows it.
fn fill<'a>(parts: &[String], message: &'a str) -> Option<Vec<&'a str>> {
    let (first, rest) = parts.split_first()?;
    let (last, middle) = rest.split_last()?;
    let mut text = message
        .strip_prefix(first.as_str())?
        .strip_suffix(last.as_str())?;
    let mut values = Vec::with_capacity(parts.len());
    for part in middle {
        let (value, after) = text.split_once(part.as_str())?;
        values.push(value);
        text = after;
    }
    values.push(text);
    Some(values)
}

/// Every catalogue: language code, English text, translation. For tests and the reference.
#[must_use]
pub fn catalogues() -> Vec<(&'static str, HashMap<String, String>)> {
    CATALOGUES
        .iter()
        .map(|(_, code, text)| (*code, serde_json::from_str(text).unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_chooses_by_weight_then_order() {
        for (header, language) in [
            ("", Language::English),
            ("es-ES;q=0.9, en;q=0.8, *;q=0.5", Language::Spanish),
            ("de_DE", Language::German),
            ("ja, fr;q=0.7", Language::French),
            ("pt-BR,pt;q=0.9,en;q=0.8", Language::Portuguese),
            ("en, de", Language::English),
            ("de;q=0, es;q=0.1", Language::Spanish),
            ("de;q=x", Language::English),
            (";;,=,q=", Language::English),
        ] {
            assert_eq!(Language::accepted(header), language, "{header}");
        }
        assert_eq!(Language::accepted(&"\u{e9}".repeat(1000)), Language::English);
    }

    #[test]
    fn values_keep_their_places() {
        let translate = |m| Language::German.translate(m);
        assert_eq!(
            translate("Missing parameter 'TargetUser'"),
            "Parameter 'TargetUser' fehlt"
        );
        assert_eq!(translate("Unauthorised"), "Nicht autorisiert");
        assert_eq!(translate("ERR_TOTP_REQUIRED"), "ERR_TOTP_REQUIRED");
        assert_eq!(translate("Never heard of"), "Never heard of");
        assert_eq!(Language::Spanish.translate("Unauthorised"), "No autorizado");
        assert_eq!(Language::English.translate("Unauthorised"), "Unauthorised");
    }
}
