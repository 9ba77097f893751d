//! A JSON map that is read while it comes, entry by entry: a list of all accounts with their profiles may be larger than
//! memory.

/// Largest entry in bytes: a profile with thousands of devices.
const MAX_ENTRY: usize = 64 << 20;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Before the map.
    #[default]
    Before,
    /// Before a name, or the end.
    BeforeName,
    Name,
    BeforeColon,
    Value,
    /// In the word `null`, which some servers say for an empty map.
    Null,
    After,
}

/// Splits a map into its entries.
#[derive(Default)]
pub(super) struct Entries {
    place: Place,
    /// Brackets that are open within the value.
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// With its quotation marks.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Entries {
    /// Takes in a part and hands over the entries that became whole: name, and value as JSON text. Nothing if it is no
    /// map, or if `each` does not take an entry.
    pub(super) fn read(
        &mut self,
        part: &[u8],
        each: &mut dyn FnMut(&str, &[u8]) -> Option<()>,
    ) -> Option<()> {
        for &byte in part {
            let blank = byte.is_ascii_whitespace();
            match self.place {
                Place::Before if blank => {}
                Place::Before if byte == b'{' => self.place = Place::BeforeName,
                Place::Before if byte == b'n' => {
                    self.value.push(byte);
                    self.place = Place::Null;
                }
                Place::Null => {
                    self.value.push(byte);
                    if self.value == b"null" {
                        self.place = Place::After;
                    } else if !b"null".starts_with(&self.value) {
                        return None;
                    }
                }
                Place::BeforeName if blank || byte == b',' => {}
                Place::BeforeName if byte == b'}' => self.place = Place::After,
                Place::BeforeName if byte == b'"' => {
                    self.name = vec![byte];
                    self.place = Place::Name;
                }
                Place::Name => {
                    self.name.push(byte);
                    if self.name.len() > MAX_ENTRY {
                        return None;
                    }
                    if self.escaped {
                        self.escaped = false;
                    } else if byte == b'\\' {
                        self.escaped = true;
                    } else if byte == b'"' {
                        self.place = Place::BeforeColon;
                    }
                }
                Place::BeforeColon if blank => {}
                Place::BeforeColon if byte == b':' => {
                    self.value.clear();
                    self.place = Place::Value;
                }
                Place::Value => self.value(byte, each)?,
                Place::After if blank => {}
                _ => return None,
            }
        }
        Some(())
    }

    fn value(&mut self, byte: u8, each: &mut dyn FnMut(&str, &[u8]) -> Option<()>) -> Option<()> {
        if !self.in_text && self.depth == 0 && (byte == b',' || byte == b'}') {
            let name: String = serde_json::from_slice(&self.name).ok()?;
            each(&name, self.value.trim_ascii())?;
            self.place = if byte == b',' {
                Place::BeforeName
            } else {
                Place::After
            };
            return Some(());
        }
        if self.value.len() == MAX_ENTRY {
            return None;
        }
        self.value.push(byte);
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return Some(());
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.checked_sub(1)?,
            _ => {}
        }
        Some(())
    }

    /// Whether the map came to its end: one that broke off would look as if entries were missing.
    pub(super) fn end(self) -> Option<()> {
        (self.place == Place::After).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, size: usize) -> Option<Vec<(String, String)>> {
        let mut entries = Entries::default();
        let mut found = Vec::new();
        for part in text.as_bytes().chunks(size) {
            entries.read(part, &mut |name, value| {
                found.push((name.to_string(), String::from_utf8(value.to_vec()).ok()?));
                Some(())
            })?;
        }
        entries.end().map(|()| found)
    }

    #[test]
    fn maps_are_split_whole_or_not_at_all() {
        let text = r#" { "a" : {"x": "}, \"", "y": [1, {"z": 2}]} , "b\"ä":7,"c": [] } "#;
        for size in [1, 3, 1000] {
            let found = split(text, size).unwrap();
            let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(
                found,
                [
                    ("a", r#"{"x": "}, \"", "y": [1, {"z": 2}]}"#),
                    ("b\"ä", "7"),
                    ("c", "[]")
                ]
            );
        }
        assert_eq!(split("{}", 1).unwrap(), []);
        assert_eq!(split("null", 2).unwrap(), []);
        for broken in [
            "",
            "{",
            r#"{"a""#,
            r#"{"a": {"#,
            r#"{"a": {}"#,
            "[]",
            "<html>",
            "nil",
            "{} x",
            "nul",
        ] {
            assert_eq!(split(broken, 1), None, "{broken}");
        }
    }
}
