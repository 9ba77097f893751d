//! The search language over jobs, turned into conditions of a query (reference, section 17: 26 operators over
//! strings, integers and booleans, nested and negated).

use super::Owned;
use super::matching::{Fields, Matcher};
use crate::error::{StoreError, StoreResult};
use crate::sql::Dialect;
use encke_api::types::SearchClause;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Deepest nesting of clauses.
pub(super) const MAX_DEPTH: usize = 32;
/// Most rules in one search.
pub(super) const MAX_RULES: usize = 500;
/// Prefix of a field's name.
const PREFIX: &str = "BackupJobDetail.";

/// A search ready to run. In the condition, parameters are `?#` until their numbers are known, and what is read out of
/// the document is `{kind:path}` until the dialect is.
#[derive(Clone, Debug)]
pub struct CompiledSearch {
    condition: String,
    params: Vec<Owned>,
    /// The search once more, for a database that has no regular expressions of this syntax. Only where one is used.
    matcher: Option<Matcher>,
}

impl CompiledSearch {
    /// The condition for a database, with parameters numbered from `first`. Where [`CompiledSearch::matcher`] has to
    /// decide, it lets everything through.
    pub(super) fn condition(&self, dialect: Dialect, first: usize) -> String {
        if self.matcher(dialect).is_some() {
            return "1 = 1".into();
        }
        let mut parts = self.condition.split("?#");
        let mut out = parts.next().unwrap_or_default().to_string();
        for (i, part) in parts.enumerate() {
            out += &format!("?{}{part}", first + i);
        }
        spell(dialect, &out)
    }

    /// The parameters of that condition.
    pub(super) fn params(&self, dialect: Dialect) -> &[Owned] {
        match self.matcher(dialect) {
            Some(_) => &[],
            None => &self.params,
        }
    }

    /// What decides instead of the condition, if the database can not.
    pub(super) fn matcher(&self, dialect: Dialect) -> Option<&Matcher> {
        self.matcher.as_ref().filter(|_| dialect == Dialect::Postgres)
    }
}

/// Writes `{kind:path}` in the words of a database.
fn spell(dialect: Dialect, condition: &str) -> String {
    let mut out = String::with_capacity(condition.len() * 2);
    let mut rest = condition;
    while let Some((before, after)) = rest.split_once('{') {
        let (field, after) = after.split_once('}').unwrap_or((after, ""));
        let (kind, path) = field.split_once(':').unwrap_or(("text", field));
        let read = match dialect {
            Dialect::Sqlite => format!("json_extract(body, '$.{path}')"),
            Dialect::Postgres => format!("(body::json #>> '{{{}}}')", path.replace('.', ",")),
        };
        let read = match (dialect, kind) {
            (_, "text") => format!("COALESCE({read}, '')"),
            (Dialect::Postgres, "int") => format!("COALESCE({read}::numeric, 0)"),
            (Dialect::Postgres, _) => format!("COALESCE({read}::boolean::int, 0)"),
            (Dialect::Sqlite, _) => format!("COALESCE({read}, 0)"),
        };
        out += before;
        out += &read;
        rest = after;
    }
    out + rest
}

/// Turns a clause into a condition. An empty clause matches everything.
///
/// # Errors
/// `Invalid` naming the field, operator or value that is wrong.
pub fn compile(clause: &SearchClause) -> StoreResult<CompiledSearch> {
    let mut params = Vec::new();
    let condition = write(clause, 0, &mut 0, &mut params)?;
    let matcher = if condition.contains("regexp(") {
        Some(Matcher::new(clause, &Fields { path_of, kind_of })?)
    } else {
        None
    };
    Ok(CompiledSearch {
        condition,
        params,
        matcher,
    })
}

fn invalid<T>(message: String) -> StoreResult<T> {
    Err(StoreError::Invalid(message))
}

fn write(
    clause: &SearchClause,
    depth: usize,
    rules: &mut usize,
    params: &mut Vec<Owned>,
) -> StoreResult<String> {
    *rules += 1;
    if depth > MAX_DEPTH || *rules > MAX_RULES {
        return invalid(format!(
            "A search has at most {MAX_RULES} rules, nested at most {MAX_DEPTH} deep"
        ));
    }
    let (word, negated, empty) = match clause.clause_type.as_str() {
        "" => return rule(clause, params),
        "and" => (" AND ", false, "1 = 1"),
        "or" => (" OR ", false, "1 = 0"),
        "not_and" => (" AND ", true, "1 = 1"),
        "not_or" => (" OR ", true, "1 = 0"),
        other => return invalid(format!("ClauseType '{other}' is unknown")),
    };
    let mut parts = Vec::with_capacity(clause.clause_children.len());
    for child in &clause.clause_children {
        parts.push(write(child, depth + 1, rules, params)?);
    }
    let joined = if parts.is_empty() {
        empty.to_string()
    } else {
        parts.join(word)
    };
    Ok(if negated {
        format!("NOT ({joined})")
    } else {
        format!("({joined})")
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Text,
    Int,
    Bool,
}

/// A rule's field: its path in the document.
pub(super) fn path_of(rule_field: &str) -> &str {
    rule_field.strip_prefix(PREFIX).unwrap_or(rule_field)
}

/// What a text rule compares: the plain operator, whether it ignores case, and whether it is negated.
pub(super) fn text_operator(operator: &str) -> (&str, bool, bool) {
    let plain = operator.strip_prefix("str_").unwrap_or(operator);
    let (plain, fold) = plain.strip_suffix("_ci").map_or((plain, false), |p| (p, true));
    let (plain, negated) = match plain {
        "neq" => ("eq", true),
        "ncontains" => ("contains", true),
        "nstartswith" => ("startswith", true),
        "nendswith" => ("endswith", true),
        "nregexmatch" => ("regexmatch", true),
        p => (p, false),
    };
    (plain, fold, negated)
}

/// The sign of a comparison of numbers.
pub(super) fn int_sign(operator: &str) -> Option<&'static str> {
    Some(match operator {
        "int_eq" => "=",
        "int_neq" => "<>",
        "int_lt" => "<",
        "int_lte" => "<=",
        "int_gt" => ">",
        "int_gte" => ">=",
        _ => return None,
    })
}

/// A regular expression of bounded size.
pub(super) fn expression(value: &str) -> StoreResult<regex::Regex> {
    regex::RegexBuilder::new(value)
        .size_limit(1 << 20)
        .build()
        .map_err(|e| StoreError::Invalid(format!("'{value}' is not a regular expression: {e}")))
}

fn types() -> &'static [serde_json::Value] {
    static TYPES: OnceLock<Vec<serde_json::Value>> = OnceLock::new();
    TYPES.get_or_init(|| serde_json::from_str(encke_api::spec::TYPES).unwrap_or_default())
}

/// The kind of a field of a structure, by its path.
pub(super) fn kind_in(structure: &str, path: &str) -> Option<Kind> {
    let mut fields = HashMap::new();
    add_fields(types(), structure, "", &mut fields);
    fields.get(path).map(|(_, kind)| *kind)
}

/// Fields of a job by their name in the search language, with the expression that reads them.
fn fields() -> &'static HashMap<String, (String, Kind)> {
    static FIELDS: OnceLock<HashMap<String, (String, Kind)>> = OnceLock::new();
    FIELDS.get_or_init(|| {
        let mut out = HashMap::new();
        add_fields(types(), "BackupJobDetail", "", &mut out);
        for (name, column, kind) in [
            ("GUID", "id", Kind::Text),
            ("Username", "username", Kind::Text),
            ("DeviceID", "device", Kind::Text),
            ("SourceGUID", "source", Kind::Text),
            ("DestinationGUID", "destination", Kind::Text),
            ("Classification", "class", Kind::Int),
            ("Status", "status", Kind::Int),
            ("StartTime", "started", Kind::Int),
            ("EndTime", "ended", Kind::Int),
        ] {
            out.insert(name.to_string(), (column.to_string(), kind));
        }
        out
    })
}

fn add_fields(
    types: &[serde_json::Value],
    name: &str,
    path: &str,
    out: &mut HashMap<String, (String, Kind)>,
) {
    let Some(found) = types.iter().find(|t| t["name"] == name) else {
        return;
    };
    for field in found["fields"].as_array().into_iter().flatten() {
        let (Some(json), Some(kind)) = (field["json_name"].as_str(), field["type"].as_str()) else {
            continue;
        };
        let path = if path.is_empty() {
            json.to_string()
        } else {
            format!("{path}.{json}")
        };
        match kind {
            "string" => out.insert(path.clone(), (format!("{{text:{path}}}"), Kind::Text)),
            "bool" => out.insert(path.clone(), (format!("{{bool:{path}}}"), Kind::Bool)),
            "int" | "int64" | "int32" | "uint" | "uint64" | "uint32" | "uint8" => {
                out.insert(path.clone(), (format!("{{int:{path}}}"), Kind::Int))
            }
            other if !other.starts_with(['[', 'm']) => {
                add_fields(types, other, &path, out);
                None
            }
            _ => None,
        };
    }
}

fn rule(clause: &SearchClause, params: &mut Vec<Owned>) -> StoreResult<String> {
    if clause.rule_field.is_empty() && clause.rule_operator.is_empty() {
        return Ok("1 = 1".into());
    }
    let Some((expression, kind)) = fields().get(path_of(&clause.rule_field)) else {
        return invalid(format!("Jobs have no field '{}'", clause.rule_field));
    };
    let operator = clause.rule_operator.as_str();
    let wanted = match operator.split('_').next() {
        Some("str") => Kind::Text,
        Some("int") => Kind::Int,
        Some("bool") => Kind::Bool,
        _ => return invalid(format!("Operator '{operator}' is unknown")),
    };
    // Numbers may be compared as text and truth values as numbers; the rest would never match.
    let expression = match (*kind, wanted) {
        (a, b) if a == b => expression.clone(),
        (_, Kind::Text) => format!("CAST({expression} AS TEXT)"),
        (Kind::Bool, Kind::Int) | (Kind::Int, Kind::Bool) => expression.clone(),
        _ => {
            return invalid(format!(
                "Operator '{operator}' does not fit the field '{}'",
                clause.rule_field
            ));
        }
    };
    match wanted {
        Kind::Text => text_rule(operator, &expression, &clause.rule_value, params),
        Kind::Int => int_rule(operator, &expression, &clause.rule_value, params),
        Kind::Bool => bool_rule(operator, &expression, &clause.rule_value, params),
    }
}

fn text_rule(operator: &str, expression: &str, value: &str, params: &mut Vec<Owned>) -> StoreResult<String> {
    let (plain, fold, negated) = text_operator(operator);
    let (left, right) = if fold {
        (format!("fold({expression})"), value.to_lowercase())
    } else {
        (expression.to_string(), value.to_string())
    };
    let condition = match plain {
        "eq" => format!("{left} = ?#"),
        "contains" => format!("text_contains({left}, ?#)"),
        "startswith" => format!("text_starts({left}, ?#)"),
        "endswith" => format!("text_ends({left}, ?#)"),
        "regexmatch" if !fold => {
            self::expression(value)?;
            format!("regexp(?#, {left})")
        }
        _ => return invalid(format!("Operator '{operator}' is unknown")),
    };
    params.push(Owned::Text(right));
    Ok(if negated {
        format!("NOT ({condition})")
    } else {
        condition
    })
}

fn int_rule(operator: &str, expression: &str, value: &str, params: &mut Vec<Owned>) -> StoreResult<String> {
    let Some(sign) = int_sign(operator) else {
        return invalid(format!("Operator '{operator}' is unknown"));
    };
    let Ok(number) = value.trim().parse() else {
        return invalid(format!("'{value}' is not a whole number"));
    };
    params.push(Owned::Int(number));
    Ok(format!("{expression} {sign} ?#"))
}

fn bool_rule(operator: &str, expression: &str, value: &str, params: &mut Vec<Owned>) -> StoreResult<String> {
    let sign = match operator {
        "bool_is" => "=",
        "bool_nis" => "<>",
        _ => return invalid(format!("Operator '{operator}' is unknown")),
    };
    params.push(Owned::Int(truth(value)?));
    Ok(format!("{expression} {sign} ?#"))
}

/// 1 or 0.
pub(super) fn truth(value: &str) -> StoreResult<i64> {
    match value.trim() {
        "1" | "true" => Ok(1),
        "0" | "false" | "" => Ok(0),
        other => invalid(format!("'{other}' is neither true nor false")),
    }
}

/// The kind of a field.
pub(super) fn kind_of(rule_field: &str) -> Option<Kind> {
    fields().get(path_of(rule_field)).map(|(_, kind)| *kind)
}
