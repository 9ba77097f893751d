//! The search language over documents that pass by: jobs, where the database has no regular expressions of the published
//! syntax (PostgreSQL's differs), and devices, which no table holds.

use super::search::{self, Kind, MAX_DEPTH, MAX_RULES};
use crate::error::{StoreError, StoreResult};
use encke_api::types::SearchClause;
use regex::Regex;
use serde_json::Value;

/// What is known of the fields of a kind of document.
pub(super) struct Fields {
    /// The path of a rule's field.
    pub path_of: fn(&str) -> &str,
    /// The kind of a rule's field.
    pub kind_of: fn(&str) -> Option<Kind>,
}

/// A search over devices.
#[derive(Clone, Debug)]
pub struct DeviceSearch(Matcher);

impl DeviceSearch {
    /// Whether a device is found. Its document has the properties of `LiveUserConnection`, and `OrganizationID`,
    /// `FriendlyName`, `AccountName`, `GroupID` and `PolicyID`.
    #[must_use]
    pub fn is_match(&self, device: &Value) -> bool {
        self.0.is_match(device)
    }
}

/// Prefixes that the names of a device's fields may have.
const DEVICE_PREFIXES: [&str; 2] = ["LiveUserConnection.", "DeviceConfig."];

fn device_path(field: &str) -> &str {
    let plain = DEVICE_PREFIXES.iter().find_map(|p| field.strip_prefix(p));
    match plain.unwrap_or(field) {
        "ClientVersion" => "ReportedVersion",
        "PlatformVersion" => "ReportedPlatformVersion",
        plain => plain,
    }
}

fn device_kind(field: &str) -> Option<Kind> {
    match device_path(field) {
        "OrganizationID" | "FriendlyName" | "AccountName" | "GroupID" | "PolicyID" => Some(Kind::Text),
        path => search::kind_in("LiveUserConnection", path),
    }
}

/// Turns a clause into a search over devices. An empty clause matches everything.
///
/// # Errors
/// `Invalid` naming the field, operator or value that is wrong.
pub fn compile_device_search(clause: &SearchClause) -> StoreResult<DeviceSearch> {
    fn count(clause: &SearchClause, depth: usize) -> Option<usize> {
        let mut rules = 1;
        for child in &clause.clause_children {
            if depth == MAX_DEPTH {
                return None;
            }
            rules += count(child, depth + 1)?;
        }
        Some(rules)
    }
    if count(clause, 0).is_none_or(|n| n > MAX_RULES) {
        return Err(StoreError::Invalid(format!(
            "A search has at most {MAX_RULES} rules, nested at most {MAX_DEPTH} deep"
        )));
    }
    let fields = Fields {
        path_of: device_path,
        kind_of: device_kind,
    };
    Matcher::new(clause, &fields).map(DeviceSearch)
}

/// A search over one document.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    All(Vec<Matcher>),
    Any(Vec<Matcher>),
    Not(Box<Matcher>),
    Text {
        pointer: String,
        kind: Kind,
        fold: bool,
        test: TextTest,
    },
    Int {
        pointer: String,
        sign: &'static str,
        value: i64,
    },
}

#[derive(Clone, Debug)]
pub(super) enum TextTest {
    Equal(String),
    Contains(String),
    Starts(String),
    Ends(String),
    Matches(Regex),
}

impl Matcher {
    /// Turns a clause of bounded depth into a test.
    pub(super) fn new(clause: &SearchClause, fields: &Fields) -> StoreResult<Self> {
        let children = || {
            let children = clause.clause_children.iter().map(|c| Self::new(c, fields));
            children.collect::<StoreResult<Vec<_>>>()
        };
        // As in `search.rs`: nothing to fulfil holds, nothing to choose from does not.
        Ok(match clause.clause_type.as_str() {
            "and" => Matcher::All(children()?),
            "or" => Matcher::Any(children()?),
            "not_and" => Matcher::Not(Box::new(Matcher::All(children()?))),
            "not_or" => Matcher::Not(Box::new(Matcher::Any(children()?))),
            "" => Self::rule(clause, fields)?,
            other => return Err(StoreError::Invalid(format!("ClauseType '{other}' is unknown"))),
        })
    }

    fn rule(clause: &SearchClause, fields: &Fields) -> StoreResult<Self> {
        let (field, operator, value) = (
            &clause.rule_field,
            clause.rule_operator.as_str(),
            &clause.rule_value,
        );
        if field.is_empty() && operator.is_empty() {
            return Ok(Matcher::All(Vec::new()));
        }
        let unknown = || StoreError::Invalid(format!("'{field}' with '{operator}' can not be searched for"));
        let kind = (fields.kind_of)(field).ok_or_else(unknown)?;
        let pointer = format!("/{}", (fields.path_of)(field).replace('.', "/"));
        let is_number = operator.starts_with("int_") || operator.starts_with("bool_");
        // Would never match.
        if kind == Kind::Text && is_number {
            return Err(unknown());
        }
        if let Some(sign) = search::int_sign(operator) {
            let value = value.trim().parse().map_err(|_| unknown())?;
            return Ok(Matcher::Int { pointer, sign, value });
        }
        if let "bool_is" | "bool_nis" = operator {
            let sign = if operator == "bool_is" { "=" } else { "<>" };
            let value = search::truth(value)?;
            return Ok(Matcher::Int { pointer, sign, value });
        }
        if !operator.starts_with("str_") {
            return Err(unknown());
        }
        let (plain, fold, negated) = search::text_operator(operator);
        let value = if fold { value.to_lowercase() } else { value.clone() };
        let test = match plain {
            "eq" => TextTest::Equal(value),
            "contains" => TextTest::Contains(value),
            "startswith" => TextTest::Starts(value),
            "endswith" => TextTest::Ends(value),
            "regexmatch" if !fold => TextTest::Matches(search::expression(&value)?),
            _ => return Err(unknown()),
        };
        let rule = Matcher::Text {
            pointer,
            kind,
            fold,
            test,
        };
        Ok(if negated {
            Matcher::Not(Box::new(rule))
        } else {
            rule
        })
    }

    /// Whether a document is found.
    pub(super) fn is_match(&self, document: &Value) -> bool {
        match self {
            Matcher::All(children) => children.iter().all(|c| c.is_match(document)),
            Matcher::Any(children) => children.iter().any(|c| c.is_match(document)),
            Matcher::Not(child) => !child.is_match(document),
            Matcher::Int { pointer, sign, value } => {
                let found = number(document.pointer(pointer));
                match *sign {
                    "=" => found == i128::from(*value),
                    "<>" => found != i128::from(*value),
                    "<" => found < i128::from(*value),
                    "<=" => found <= i128::from(*value),
                    ">" => found > i128::from(*value),
                    _ => found >= i128::from(*value),
                }
            }
            Matcher::Text {
                pointer,
                kind,
                fold,
                test,
            } => {
                let found = document.pointer(pointer);
                let text = match kind {
                    Kind::Text => found.and_then(Value::as_str).unwrap_or_default().to_string(),
                    Kind::Int | Kind::Bool => number(found).to_string(),
                };
                let text = if *fold { text.to_lowercase() } else { text };
                match test {
                    TextTest::Equal(value) => text == *value,
                    TextTest::Contains(value) => text.contains(value),
                    TextTest::Starts(value) => text.starts_with(value),
                    TextTest::Ends(value) => text.ends_with(value),
                    TextTest::Matches(expression) => expression.is_match(&text),
                }
            }
        }
    }
}

/// A number or truth value; 0 for what is not there.
fn number(value: Option<&Value>) -> i128 {
    match value {
        Some(Value::Bool(b)) => i128::from(*b),
        Some(Value::Number(n)) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => n.into(),
            (_, Some(n)) => n.into(),
            _ => 0,
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(text: &str) -> StoreResult<DeviceSearch> {
        compile_device_search(&serde_json::from_str(text).map_err(StoreError::from)?)
    }

    #[test]
    fn devices_are_found_by_what_they_report() {
        let device = serde_json::json!({
            "Username": "dora", "ReportedVersion": "25.9.8", "AllowsFilenames": true,
            "ReportedPlatformVersion": { "distribution": "Debian GNU/Linux" }, "GroupID": "g1",
        });
        let rule = |field: &str, operator: &str, value: &str| {
            format!(
                r#"{{"ClauseType":"","RuleField":"{field}","RuleOperator":"{operator}","RuleValue":"{value}"}}"#
            )
        };
        for (field, operator, value, found) in [
            ("Username", "str_eq", "dora", true),
            ("LiveUserConnection.Username", "str_neq_ci", "DORA", false),
            (
                "ReportedPlatformVersion.distribution",
                "str_contains_ci",
                "debian",
                true,
            ),
            ("ClientVersion", "str_regexmatch", "^25", true),
            ("AllowsFilenames", "bool_is", "1", true),
            ("GroupID", "str_startswith", "g", true),
            ("FriendlyName", "str_eq", "", true),
        ] {
            let search = clause(&rule(field, operator, value)).expect("a search");
            assert_eq!(search.is_match(&device), found, "{field} {operator} {value}");
        }
        for (field, operator, value) in [
            ("Shoe", "str_eq", "x"),
            ("Username", "int_eq", "1"),
            ("Username", "eq", "x"),
            ("Username", "str_regexmatch", "("),
            ("ConnectionTime", "int_lt", "x"),
        ] {
            assert!(
                clause(&rule(field, operator, value)).is_err(),
                "{field} {operator}"
            );
        }
        assert!(clause("{}").expect("all").is_match(&device));
        assert!(!clause(r#"{"ClauseType":"or"}"#).expect("none").is_match(&device));
        let mut deep = r#"{"ClauseType":"and"}"#.to_string();
        for _ in 0..=MAX_DEPTH {
            deep = format!(r#"{{"ClauseType":"and","ClauseChildren":[{deep}]}}"#);
        }
        assert!(clause(&deep).is_err());
    }
}
