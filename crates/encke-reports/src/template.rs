//! Templates: what a report can be made of, as documents that people write.

use crate::cell::Cell;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Most columns of a template: answers carry one name and one value a row for each.
pub const MAX_COLUMNS: usize = 200;
/// Most parameters of a template.
const MAX_PARAMETERS: usize = 30;
/// Longest name or key, in characters.
const MAX_TEXT: usize = 200;
/// Largest document in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;
/// Name of the source of Encke's own data.
pub const ENCKE: &str = "encke";
/// Name of the source of the sample association.
pub const SAMPLE: &str = "sample";

/// The type of a column (reference `comet-data.md`, section "Answer").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ColumnType {
    /// A number.
    Number,
    /// Text.
    String,
    /// A day: milliseconds since 1970 of its midnight in UTC.
    Date,
    /// A point in time: milliseconds since 1970 in UTC.
    DateTime,
    /// An amount of money.
    Amount,
    /// A public address of a picture.
    ImageLink,
}

impl ColumnType {
    /// Whether values are numbers that can be added up.
    #[must_use]
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Number | Self::Amount)
    }

    /// Whether values are milliseconds.
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Self::Date | Self::DateTime)
    }
}

/// A name in several languages (`en`, `de`).
pub type Names = BTreeMap<String, String>;

/// The name in a language such as `de_DE`; English where it is missing, then any, then the key.
#[must_use]
pub fn name_in<'a>(names: &'a Names, locale: &str, key: &'a str) -> &'a str {
    let language = locale.split('_').next().unwrap_or_default();
    let found = [locale, language, "en"].iter().find_map(|l| names.get(*l));
    found
        .or_else(|| names.values().next())
        .map_or(key, String::as_str)
}

/// A column that a template offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Stable key, the same in each row.
    pub key: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The table's column; the key if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Display names by language.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: Names,
}

impl Column {
    /// The table's column.
    #[must_use]
    pub fn source(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.key)
    }
}

/// How a parameter is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ParameterKind {
    /// Text that the column contains.
    Text,
    /// A number that the column equals.
    Number,
    /// A range of days, either end open: `{"from": ms, "to": ms}`, both days included.
    DateRange,
    /// One of the column's values.
    List,
    /// Some of the column's values.
    MultiSelect,
    /// A place in a tree: `{"value": id, "includeBelow": bool}`.
    Hierarchy,
}

/// The tree that a parameter of the kind hierarchy chooses from: a table in the same source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Table.
    pub table: String,
    /// Its column with the id that the parameter's column holds.
    pub id: String,
    /// Its column with the id of the place above; NULL at the top.
    pub parent: String,
    /// Its column with a name for people.
    pub name: String,
}

/// A parameter that the person who sets a report up is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Stable key.
    pub key: String,
    /// Kind.
    pub kind: ParameterKind,
    /// Key of the column that it restricts.
    pub column: String,
    /// A report without a value is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Display names by language.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: Names,
    /// Values to choose from; those that occur if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Cell>,
    /// The tree of a hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

/// What a report can be made of: a table of a source, its columns and its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Number; 0 for a new one.
    #[serde(default)]
    pub id: i64,
    /// Name.
    pub name: String,
    /// Group that it is listed under.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `encke`, `sample`, or the id of a data source.
    pub source: String,
    /// Table or view of the source; `schema.table` where the source has schemas.
    pub table: String,
    /// The table's column that is unique, sent as `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The table's column with the time of the last change, sent as `lastUpdateDateTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// Columns it offers.
    pub columns: Vec<Column>,
    /// Parameters it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
}

/// Why a document is refused, for the person who wrote it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Makes a [`Refused`].
pub(crate) fn refuse<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(message.into()))
}

fn check_text(what: &str, text: &str) -> Result<(), Refused> {
    let fits = !text.trim().is_empty() && text.chars().count() <= MAX_TEXT && !text.contains('\0');
    if fits {
        return Ok(());
    }
    refuse(format!("{what} has 1 to {MAX_TEXT} characters"))
}

impl Template {
    /// Reads a template from YAML, of which JSON is a part.
    ///
    /// # Errors
    /// What is wrong with it, in words for its author.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > MAX_DOCUMENT {
            return refuse(format!("A template has at most {MAX_DOCUMENT} bytes"));
        }
        let template: Self = serde_yaml_ng::from_str(text)
            .map_err(|e| Refused(format!("The template can not be read: {e}")))?;
        template.check()?;
        Ok(template)
    }

    /// The template as YAML.
    ///
    /// # Errors
    /// It can not be printed.
    pub fn to_yaml(&self) -> Result<String, Refused> {
        serde_yaml_ng::to_string(self).map_err(|e| Refused(e.to_string()))
    }

    /// The column of a key.
    #[must_use]
    pub fn column(&self, key: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.key == key)
    }

    fn check(&self) -> Result<(), Refused> {
        check_text("The template's name", &self.name)?;
        check_text("The source", &self.source)?;
        check_text("The table", &self.table)?;
        if self.columns.is_empty() || self.columns.len() > MAX_COLUMNS {
            return refuse(format!("A template has 1 to {MAX_COLUMNS} columns"));
        }
        if self.parameters.len() > MAX_PARAMETERS {
            return refuse(format!("A template has at most {MAX_PARAMETERS} parameters"));
        }
        let mut keys = HashSet::new();
        for column in &self.columns {
            check_text("A column's key", &column.key)?;
            if ["uid", "lastUpdateDateTime", "#result_id#"].contains(&column.key.as_str()) {
                return refuse(format!("'{}' is a key that rows have anyway", column.key));
            }
            if !keys.insert(&column.key) {
                return refuse(format!("There are two columns '{}'", column.key));
            }
            for name in column.names.values() {
                check_text("A column's name", name)?;
            }
        }
        let mut keys = HashSet::new();
        for parameter in &self.parameters {
            check_text("A parameter's key", &parameter.key)?;
            if !keys.insert(&parameter.key) {
                return refuse(format!("There are two parameters '{}'", parameter.key));
            }
            let Some(column) = self.column(&parameter.column) else {
                return refuse(format!(
                    "The parameter '{}' is about a column that does not exist",
                    parameter.key
                ));
            };
            let fits = match parameter.kind {
                ParameterKind::DateRange => column.kind.is_time(),
                ParameterKind::Number => column.kind.is_numeric(),
                ParameterKind::Text => !column.kind.is_time() && !column.kind.is_numeric(),
                ParameterKind::Hierarchy => parameter.tree.is_some(),
                ParameterKind::List | ParameterKind::MultiSelect => true,
            };
            if !fits {
                return refuse(format!(
                    "The parameter '{}' does not fit its column, or its tree is missing",
                    parameter.key
                ));
            }
        }
        Ok(())
    }
}
