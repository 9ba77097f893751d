//! Searches with regular expressions where the database has none of the published syntax (PostgreSQL's differs): the
//! jobs pass by, and each one's document is looked at here.

use super::search::{self, Kind};
use crate::error::{StoreError, StoreResult};
use encke_api::types::SearchClause;
use regex::Regex;
use serde_json::Value;

/// A search over one job's document.
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
    /// Turns a clause that `search.rs` has checked into a test.
    pub(super) fn new(clause: &SearchClause) -> StoreResult<Self> {
        let children = || {
            let children = clause.clause_children.iter().map(Self::new);
            children.collect::<StoreResult<Vec<_>>>()
        };
        // As in `search.rs`: nothing to fulfil holds, nothing to choose from does not.
        Ok(match clause.clause_type.as_str() {
            "and" => Matcher::All(children()?),
            "or" => Matcher::Any(children()?),
            "not_and" => Matcher::Not(Box::new(Matcher::All(children()?))),
            "not_or" => Matcher::Not(Box::new(Matcher::Any(children()?))),
            _ => Self::rule(clause)?,
        })
    }

    fn rule(clause: &SearchClause) -> StoreResult<Self> {
        let (field, operator, value) = (
            &clause.rule_field,
            clause.rule_operator.as_str(),
            &clause.rule_value,
        );
        if field.is_empty() && operator.is_empty() {
            return Ok(Matcher::All(Vec::new()));
        }
        let unknown = || StoreError::Invalid(format!("'{field}' with '{operator}' can not be searched for"));
        let kind = search::kind_of(field).ok_or_else(unknown)?;
        let pointer = format!("/{}", search::path_of(field).replace('.', "/"));
        if let Some(sign) = search::int_sign(operator) {
            let value = value.trim().parse().map_err(|_| unknown())?;
            return Ok(Matcher::Int { pointer, sign, value });
        }
        if let "bool_is" | "bool_nis" = operator {
            let sign = if operator == "bool_is" { "=" } else { "<>" };
            let value = search::truth(value)?;
            return Ok(Matcher::Int { pointer, sign, value });
        }
        let (plain, fold, negated) = search::text_operator(operator);
        let value = if fold { value.to_lowercase() } else { value.clone() };
        let test = match plain {
            "eq" => TextTest::Equal(value),
            "contains" => TextTest::Contains(value),
            "startswith" => TextTest::Starts(value),
            "endswith" => TextTest::Ends(value),
            "regexmatch" => TextTest::Matches(search::expression(&value)?),
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

    /// Whether a job's document is found.
    pub(super) fn is_match(&self, job: &Value) -> bool {
        match self {
            Matcher::All(children) => children.iter().all(|c| c.is_match(job)),
            Matcher::Any(children) => children.iter().any(|c| c.is_match(job)),
            Matcher::Not(child) => !child.is_match(job),
            Matcher::Int { pointer, sign, value } => {
                let found = number(job.pointer(pointer));
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
                let found = job.pointer(pointer);
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
