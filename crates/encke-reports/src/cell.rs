//! A value of a row: what every source can deliver and every answer can carry.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cell {
    /// No value.
    Null,
    /// A whole number; days and points in time are milliseconds since 1970 in UTC.
    Int(i64),
    /// Any other number, as JSON writes it, with all the digits the source gave.
    Number(String),
    /// Text.
    Text(String),
}

impl Cell {
    /// A number from text such as databases print: whole, decimal or with an exponent. `Null` when it is none that
    /// JSON could carry.
    #[must_use]
    pub fn number(text: &str) -> Self {
        let text = text.trim();
        if let Ok(whole) = text.parse::<i64>() {
            return Self::Int(whole);
        }
        if serde_json::from_str::<serde_json::Number>(text).is_ok() {
            return Self::Number(text.to_string());
        }
        // ".5", "+1.5": numbers, but not to JSON.
        text.parse::<f64>().map_or(Self::Null, Self::float)
    }

    /// A number; `Null` for those that JSON can not carry.
    #[must_use]
    pub fn float(value: f64) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        if value.fract() == 0.0 && value.abs() < 9e15 {
            return Self::Int(value as i64);
        }
        if value.is_finite() {
            Self::Number(serde_json::Number::from_f64(value).map_or_else(|| "0".into(), |n| n.to_string()))
        } else {
            Self::Null
        }
    }

    /// Appends it as JSON.
    pub fn print(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Int(n) => {
                use std::io::Write as _;
                let _ = write!(out, "{n}");
            }
            Self::Number(n) => out.extend_from_slice(n.as_bytes()),
            // Writing to memory does not fail.
            Self::Text(t) => drop(serde_json::to_writer(out, t)),
        }
    }

    /// As text for people; empty for none.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Int(n) => n.to_string(),
            Self::Number(t) | Self::Text(t) => t.clone(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Text(t) => serializer.serialize_str(t),
            // In documents, where numbers came as such; rows are printed with all their digits.
            Self::Number(n) => serializer.serialize_f64(n.parse().unwrap_or_default()),
        }
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Cell;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("text, a number or null")
            }
            fn visit_unit<E>(self) -> Result<Cell, E> {
                Ok(Cell::Null)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Cell, E> {
                Ok(Cell::Int(i64::from(v)))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Cell, E> {
                Ok(Cell::Int(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Cell, E> {
                Ok(i64::try_from(v).map_or_else(|_| Cell::Number(v.to_string()), Cell::Int))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Cell, E> {
                Ok(Cell::float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Cell, E> {
                Ok(Cell::Text(v.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
