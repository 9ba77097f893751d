//! Templates and saved reports.

use serde::{Deserialize, Serialize};

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

/// A column that a template offers.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Stable key, the same in each row.
    pub key: &'static str,
    /// Type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Display names by language (`en`, `de`); the first is used for languages that are missing.
    pub names: &'static [(&'static str, &'static str)],
}

impl Column {
    /// Display name in a language such as `de_DE`.
    #[must_use]
    pub fn name(&self, locale: &str) -> &'static str {
        let language = locale.split('_').next().unwrap_or_default();
        let found = self
            .names
            .iter()
            .find(|(l, _)| *l == language)
            .or_else(|| self.names.first());
        found.map_or(self.key, |(_, name)| name)
    }
}

/// What a report can be made of.
#[derive(Clone, Debug, Serialize)]
pub struct Template {
    /// Number.
    pub id: i64,
    /// Name.
    pub name: &'static str,
    /// Columns it offers.
    pub columns: &'static [Column],
    /// Whether rows carry `uid` and `lastUpdateDateTime`.
    pub has_uid: bool,
}

/// Every template there is.
#[must_use]
pub fn templates() -> &'static [Template] {
    std::slice::from_ref(&crate::sample::TEMPLATE)
}

/// Where a report's rows come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DataSet {
    /// The sample association, made from a seed.
    Sample {
        /// Rows.
        size: u64,
        /// The same seed gives the same rows.
        seed: u64,
    },
}

/// A report as its owner saved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedReport {
    /// Name.
    pub name: String,
    /// Number of its template.
    pub template: i64,
    /// Keys of the columns, in order.
    pub columns: Vec<String>,
    /// Where its rows come from.
    pub data: DataSet,
}

impl SavedReport {
    /// Its template and chosen columns; `None` when the template or a column does not exist.
    #[must_use]
    pub fn resolve(&self) -> Option<(&'static Template, Vec<&'static Column>)> {
        let template = templates().iter().find(|t| t.id == self.template)?;
        let find = |key: &String| template.columns.iter().find(|c| c.key == key);
        let columns = self.columns.iter().map(find).collect::<Option<Vec<_>>>()?;
        Some((template, columns))
    }
}
