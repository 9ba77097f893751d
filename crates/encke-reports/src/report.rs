//! Saved reports: what somebody chose of a template.

use crate::cell::Cell;
use crate::template::{Column, ColumnType, ParameterKind, Refused, Template, name_in, refuse};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Most filters of a report, and most keys to sort or group by.
const MAX_CONDITIONS: usize = 50;
/// Most values of one filter or parameter.
pub const MAX_VALUES: usize = 1000;
/// Longest name of a report or column, in characters.
const MAX_NAME: usize = 200;
/// Longest text value, in bytes.
const MAX_VALUE: usize = 4000;

/// How the values of a group are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Total {
    /// Added up.
    Sum,
    /// Their mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many there are.
    Count,
}

/// A chosen column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// The template's key.
    pub key: String,
    /// A name of the report's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How a group's values are brought together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Total>,
}

impl<'de> Deserialize<'de> for Chosen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            key: String,
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            total: Option<Total>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Key(String),
            Whole(Whole),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Key(key) => Self {
                key,
                name: None,
                total: None,
            },
            Either::Whole(w) => Self {
                key: w.key,
                name: w.name,
                total: w.total,
            },
        })
    }
}

/// What a filter compares by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal; rows without a value are kept.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// One of several values.
    In,
    /// Contains a text, whatever its case.
    Contains,
    /// Begins with a text, whatever its case.
    StartsWith,
    /// Has no value.
    Empty,
    /// Has a value.
    NotEmpty,
}

/// One value or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// Several.
    Many(Vec<Cell>),
    /// One.
    One(Cell),
}

impl Default for Values {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Values {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Cell] {
        match self {
            Self::Many(many) => many,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

/// A condition that rows must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Key of the column.
    pub column: String,
    /// Comparison.
    pub op: Op,
    /// What to compare with.
    #[serde(default)]
    pub value: Values,
}

/// A key to sort by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sort {
    /// Key of the column.
    pub column: String,
    /// Greatest first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub descending: bool,
}

/// What was chosen for a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// A place in a tree.
    #[serde(rename_all = "camelCase")]
    Place {
        /// Id in the tree.
        value: Cell,
        /// With everything below.
        #[serde(default)]
        include_below: bool,
    },
    /// A range of days, both included.
    Range(Range),
    /// One value or several.
    Values(Values),
}

/// A range of days, either end open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// First day, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// Last day, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

/// Turns the values of a column into columns of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pivot {
    /// Key of the column whose values become columns.
    pub column: String,
    /// Key of the column that is brought together in each.
    pub value: String,
    /// How.
    pub total: Total,
}

/// What rows are drawn as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChartKind {
    /// Bars beside each other.
    Bar,
    /// A line a column.
    Line,
}

/// How the console draws the rows: every column of numbers along one of the columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// What it is drawn as.
    pub kind: ChartKind,
    /// Key of the chosen column along which it is drawn.
    pub label: String,
}

/// How many rows of the sample association, and which.
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
#[serde(deny_unknown_fields)]
pub struct SavedReport {
    /// Name.
    pub name: String,
    /// Number of its template.
    pub template: i64,
    /// Columns, in order.
    pub columns: Vec<Chosen>,
    /// Which sample, where the template is of the sample association.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSet>,
    /// How old rows may be, in seconds; a minute if left out. Rows that took long to fetch may be older.
    #[serde(default, rename = "freshSeconds", skip_serializing_if = "Option::is_none")]
    pub fresh_seconds: Option<u64>,
    /// What was chosen for the template's parameters, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Choice>,
    /// Conditions, all of which rows meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// What to sort by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sort: Vec<Sort>,
    /// Keys of the columns whose values make a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<String>,
    /// Values that become columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pivot: Option<Pivot>,
    /// How the console draws it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<Chart>,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Key of each row's value.
    pub key: String,
    /// Name for people.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

impl SavedReport {
    /// Rows and seed of its sample.
    #[must_use]
    pub fn sample(&self) -> (u64, u64) {
        match self.data {
            Some(DataSet::Sample { size, seed }) => (size, seed),
            None => (185, 1),
        }
    }

    /// Whether its rows are the table's as they are, in their order.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parameters.is_empty()
            && self.filters.is_empty()
            && self.sort.is_empty()
            && self.group.is_empty()
            && self.pivot.is_none()
            && self.columns.iter().all(|c| c.total.is_none())
    }

    /// Whether rows stand for groups of the table's rows.
    #[must_use]
    pub fn is_grouped(&self) -> bool {
        !self.group.is_empty() || self.pivot.is_some() || self.columns.iter().any(|c| c.total.is_some())
    }

    /// The columns of its answer in a language, but for those that a pivot adds.
    #[must_use]
    pub fn shown(&self, template: &Template, locale: &str) -> Vec<Shown> {
        let shown = self.columns.iter().filter_map(|chosen| {
            let column = template.column(&chosen.key)?;
            let name = chosen.name.as_deref();
            Some(Shown {
                key: column.key.clone(),
                name: name
                    .unwrap_or_else(|| name_in(&column.names, locale, &column.key))
                    .into(),
                kind: match chosen.total {
                    Some(Total::Count) => ColumnType::Number,
                    _ => column.kind,
                },
            })
        });
        shown.collect()
    }

    /// Checks it against its template.
    ///
    /// # Errors
    /// What is wrong, in words for its author.
    pub fn check(&self, template: &Template) -> Result<(), Refused> {
        let name_fits =
            |name: &str| !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.contains('\0');
        if !name_fits(&self.name) {
            return refuse(format!("A report's name has 1 to {MAX_NAME} characters"));
        }
        let find = |key: &String| -> Result<&Column, Refused> {
            let found = template.column(key);
            found.ok_or_else(|| Refused(format!("The template has no column '{key}'")))
        };
        if self.columns.is_empty() {
            return refuse("Choose at least one column");
        }
        let mut seen = HashSet::new();
        for chosen in &self.columns {
            let column = find(&chosen.key)?;
            if !seen.insert(&chosen.key) {
                return refuse("A column can be chosen only once");
            }
            if chosen.name.as_ref().is_some_and(|n| !name_fits(n)) {
                return refuse(format!("A column's name has 1 to {MAX_NAME} characters"));
            }
            check_total(column, chosen.total)?;
            let grouped = self.group.contains(&chosen.key);
            if self.is_grouped() && grouped == chosen.total.is_some() {
                return refuse(format!(
                    "In a grouped report the column '{}' needs either to be grouped by or to have a total",
                    chosen.key
                ));
            }
        }
        let counts = [self.filters.len(), self.sort.len(), self.group.len()];
        if counts.iter().any(|n| *n > MAX_CONDITIONS) {
            return refuse(format!(
                "At most {MAX_CONDITIONS} filters, sort keys and groups are possible"
            ));
        }
        for key in &self.group {
            find(key)?;
            if !seen.contains(key) {
                return refuse(format!("Choose the column '{key}' to group by it"));
            }
        }
        for sort in &self.sort {
            find(&sort.column)?;
            if self.is_grouped() && !seen.contains(&sort.column) {
                return refuse(format!(
                    "Choose the column '{}' to sort groups by it",
                    sort.column
                ));
            }
        }
        for filter in &self.filters {
            check_filter(find(&filter.column)?, filter)?;
        }
        if let Some(pivot) = &self.pivot {
            find(&pivot.column)?;
            check_total(find(&pivot.value)?, Some(pivot.total))?;
            if seen.contains(&pivot.column) {
                return refuse("The column whose values become columns can not be chosen as well");
            }
        }
        if let Some(chart) = &self.chart
            && !seen.contains(&chart.label)
        {
            return refuse(format!(
                "Choose the column '{}' to draw a chart along it",
                chart.label
            ));
        }
        for key in self.parameters.keys() {
            if !template.parameters.iter().any(|p| p.key == *key) {
                return refuse(format!("The template has no parameter '{key}'"));
            }
        }
        for parameter in &template.parameters {
            let Some(choice) = self.parameters.get(&parameter.key) else {
                if parameter.required {
                    return refuse(format!("The parameter '{}' needs a value", parameter.key));
                }
                continue;
            };
            let column = find(&parameter.column)?;
            let wrong = || {
                refuse(format!(
                    "The parameter '{}' has a value of the wrong kind",
                    parameter.key
                ))
            };
            match (parameter.kind, choice) {
                (ParameterKind::DateRange, Choice::Range(_)) => {}
                (ParameterKind::Hierarchy, Choice::Place { value, .. }) => check_value(column, value)?,
                (ParameterKind::Text, Choice::Values(Values::One(value @ Cell::Text(_)))) => {
                    check_value(column, value)?;
                }
                (ParameterKind::Number | ParameterKind::List, Choice::Values(Values::One(value))) => {
                    check_value(column, value)?;
                }
                (ParameterKind::MultiSelect, Choice::Values(values)) => {
                    if values.all().is_empty() || values.all().len() > MAX_VALUES {
                        return wrong();
                    }
                    values.all().iter().try_for_each(|v| check_value(column, v))?;
                }
                _ => return wrong(),
            }
        }
        Ok(())
    }
}

fn check_total(column: &Column, total: Option<Total>) -> Result<(), Refused> {
    let possible = match total {
        None | Some(Total::Count | Total::Min | Total::Max) => true,
        Some(Total::Sum | Total::Avg) => column.kind.is_numeric(),
    };
    if possible {
        return Ok(());
    }
    refuse(format!("'{}' is no number to be added up", column.key))
}

/// A value must be of the column's type: what databases make of a wrong one differs.
fn check_value(column: &Column, value: &Cell) -> Result<(), Refused> {
    let fits = match (column.kind, value) {
        (kind, Cell::Int(_)) => kind.is_numeric() || kind.is_time(),
        (kind, Cell::Number(_)) => kind.is_numeric(),
        (kind, Cell::Text(text)) => {
            !kind.is_numeric() && !kind.is_time() && text.len() <= MAX_VALUE && !text.contains('\0')
        }
        (_, Cell::Null) => false,
    };
    if fits {
        return Ok(());
    }
    refuse(format!("A value for '{}' is of the wrong type", column.key))
}

fn check_filter(column: &Column, filter: &Filter) -> Result<(), Refused> {
    let values = filter.value.all();
    let is_text = !column.kind.is_numeric() && !column.kind.is_time();
    let fits = match filter.op {
        Op::Empty | Op::NotEmpty => values.is_empty(),
        Op::In => (1..=MAX_VALUES).contains(&values.len()),
        Op::Contains | Op::StartsWith => values.len() == 1 && is_text,
        _ => values.len() == 1,
    };
    if !fits {
        return refuse(format!(
            "The filter on '{}' does not fit the column or its values",
            column.key
        ));
    }
    values.iter().try_for_each(|v| check_value(column, v))
}
