//! Finding files in snapshots: the API's search language over what a snapshot tells of a file. The names of the fields
//! are those of the answer (`SearchResultFileInfo`), in any case, and `File` for the name.

use crate::Agent;
use crate::browse::{body, consent, type_word};
use crate::error::{AgentError, AgentResult};
use encke_api::types::{SearchClause, SearchResultFileInfo};
use encke_repo::{Id, Node, Repository};
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most files in an answer.
const MAX_FOUND: usize = 10_000;
/// Deepest nesting of clauses.
const MAX_DEPTH: usize = 32;
/// Most rules of one search.
const MAX_RULES: usize = 500;

/// A search ready to run.
enum Clause {
    All(Vec<Clause>),
    Any(Vec<Clause>),
    Not(Box<Clause>),
    Text(Field, Text),
    Number(Field, Compare, i64),
}

#[derive(Clone, Copy)]
enum Field {
    Path,
    Name,
    Kind,
    Mode,
    Size,
    Modified,
    Accessed,
    Changed,
}

#[derive(Clone, Copy)]
enum Compare {
    Eq,
    Lt,
    Lte,
    Gt,
    Gte,
}

struct Text {
    what: Kind,
    value: String,
    ignore_case: bool,
}

enum Kind {
    Equal,
    Contains,
    Starts,
    Ends,
    Matches(Regex),
}

fn invalid<T>(message: String) -> AgentResult<T> {
    Err(AgentError::Invalid(message))
}

fn compile(clause: &SearchClause, depth: usize, rules: &mut usize) -> AgentResult<Clause> {
    *rules += 1;
    if depth > MAX_DEPTH || *rules > MAX_RULES {
        return invalid(format!(
            "a search has at most {MAX_RULES} rules, nested at most {MAX_DEPTH} deep"
        ));
    }
    let mut inside = || -> AgentResult<Vec<Clause>> {
        let children = clause.clause_children.iter();
        children.map(|c| compile(c, depth + 1, rules)).collect()
    };
    let not = |c| Clause::Not(Box::new(c));
    match clause.clause_type.as_str() {
        "" => rule(clause),
        "and" => Ok(Clause::All(inside()?)),
        "or" => Ok(Clause::Any(inside()?)),
        "not_and" => Ok(not(Clause::All(inside()?))),
        "not_or" => Ok(not(Clause::Any(inside()?))),
        other => invalid(format!("ClauseType '{other}' is unknown")),
    }
}

fn rule(clause: &SearchClause) -> AgentResult<Clause> {
    if clause.rule_field.is_empty() && clause.rule_operator.is_empty() {
        // An empty clause matches everything.
        return Ok(Clause::All(Vec::new()));
    }
    let name = clause
        .rule_field
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let field = match name.as_str() {
        "path" => Field::Path,
        "file" | "name" | "filename" => Field::Name,
        "type" => Field::Kind,
        "mode" => Field::Mode,
        "size" => Field::Size,
        "mtime" => Field::Modified,
        "atime" => Field::Accessed,
        "ctime" => Field::Changed,
        _ => return invalid(format!("files have no field '{}'", clause.rule_field)),
    };
    let operator = clause.rule_operator.as_str();
    let value = clause.rule_value.clone();
    if let Some(operator) = operator.strip_prefix("int_") {
        let Ok(number) = value.trim().parse() else {
            return invalid(format!("'{value}' is not a whole number"));
        };
        let (compare, negated) = match operator {
            "eq" => (Compare::Eq, false),
            "neq" => (Compare::Eq, true),
            "lt" => (Compare::Lt, false),
            "lte" => (Compare::Lte, false),
            "gt" => (Compare::Gt, false),
            "gte" => (Compare::Gte, false),
            _ => return invalid(format!("RuleOperator 'int_{operator}' is unknown")),
        };
        let clause = Clause::Number(field, compare, number);
        return Ok(if negated {
            Clause::Not(Box::new(clause))
        } else {
            clause
        });
    }
    let plain = operator.strip_prefix("str_").unwrap_or("");
    let (plain, ignore_case) = plain.strip_suffix("_ci").map_or((plain, false), |p| (p, true));
    let (what, negated) = match plain {
        "eq" => (Kind::Equal, false),
        "neq" => (Kind::Equal, true),
        "contains" => (Kind::Contains, false),
        "ncontains" => (Kind::Contains, true),
        "startswith" => (Kind::Starts, false),
        "nstartswith" => (Kind::Starts, true),
        "endswith" => (Kind::Ends, false),
        "nendswith" => (Kind::Ends, true),
        "regexmatch" | "nregexmatch" => {
            let expression = RegexBuilder::new(&value).size_limit(1 << 20).build();
            let expression = expression
                .map_err(|e| AgentError::Invalid(format!("'{value}' is not a regular expression: {e}")))?;
            (Kind::Matches(expression), plain.starts_with('n'))
        }
        _ => return invalid(format!("RuleOperator '{operator}' is not for files")),
    };
    let value = if ignore_case { value.to_lowercase() } else { value };
    let clause = Clause::Text(
        field,
        Text {
            what,
            value,
            ignore_case,
        },
    );
    Ok(if negated {
        Clause::Not(Box::new(clause))
    } else {
        clause
    })
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        let folded;
        let text = if self.ignore_case {
            folded = text.to_lowercase();
            &folded
        } else {
            text
        };
        match &self.what {
            Kind::Equal => text == self.value,
            Kind::Contains => text.contains(&self.value),
            Kind::Starts => text.starts_with(&self.value),
            Kind::Ends => text.ends_with(&self.value),
            Kind::Matches(expression) => expression.is_match(text),
        }
    }
}

impl Clause {
    fn fits(&self, file: &SearchResultFileInfo, node: &Node) -> bool {
        match self {
            Clause::All(inside) => inside.iter().all(|c| c.fits(file, node)),
            Clause::Any(inside) => inside.iter().any(|c| c.fits(file, node)),
            Clause::Not(inside) => !inside.fits(file, node),
            Clause::Text(field, text) => text.fits(&match field {
                Field::Path => file.path.clone(),
                Field::Name => file.name.clone(),
                Field::Kind => file.type_.clone(),
                Field::Mode => file.mode.clone(),
                Field::Size => file.size.to_string(),
                Field::Modified => file.mtime.clone(),
                Field::Accessed => file.atime.clone(),
                Field::Changed => file.ctime.clone(),
            }),
            Clause::Number(field, compare, number) => {
                let value = match field {
                    Field::Size => i64::try_from(node.size).unwrap_or(i64::MAX),
                    Field::Mode => i64::from(node.mode),
                    Field::Modified => node.mtime.as_second(),
                    Field::Accessed => node.atime.as_second(),
                    Field::Changed => node.ctime.as_second(),
                    Field::Path | Field::Name | Field::Kind => return false,
                };
                match compare {
                    Compare::Eq => value == *number,
                    Compare::Lt => value < *number,
                    Compare::Lte => value <= *number,
                    Compare::Gt => value > *number,
                    Compare::Gte => value >= *number,
                }
            }
        }
    }
}

fn describe(path: &str, node: &Node) -> SearchResultFileInfo {
    SearchResultFileInfo {
        path: path.to_string(),
        name: String::from_utf8_lossy(&node.name).into_owned(),
        type_: type_word(node.kind).to_string(),
        mode: format!("{:o}", node.mode & 0o7777),
        mtime: node.mtime.to_string(),
        atime: node.atime.to_string(),
        ctime: node.ctime.to_string(),
        size: node.size,
        ..Default::default()
    }
}

/// Looks below a tree.
fn walk(
    repo: &Repository,
    tree: &Id,
    path: &str,
    clause: &Clause,
    found: &mut Vec<SearchResultFileInfo>,
    room: usize,
) -> AgentResult<()> {
    for node in &repo.tree(tree)?.nodes {
        let path = format!("{path}/{}", String::from_utf8_lossy(&node.name));
        let file = describe(&path, node);
        if clause.fits(&file, node) {
            if found.len() >= room {
                return invalid(format!("more than {MAX_FOUND} files fit; search for less"));
            }
            found.push(file);
        }
        if let Some(below) = &node.subtree {
            walk(repo, below, &path, clause, found, room)?;
        }
    }
    Ok(())
}

/// Finds files in snapshots.
pub(crate) fn search(
    agent: &Agent,
    destination: &str,
    snapshots: &[String],
    filter: &SearchClause,
) -> AgentResult<Value> {
    consent(agent)?;
    let clause = compile(filter, 0, &mut 0)?;
    let repo = agent.vaults.open(agent, destination)?;
    repo.load_index()?;
    let mut answer: BTreeMap<String, Vec<SearchResultFileInfo>> = BTreeMap::new();
    let mut count = 0;
    for name in snapshots {
        let snapshot = repo.snapshot(name)?;
        let mut found = Vec::new();
        walk(&repo, &snapshot.tree, "", &clause, &mut found, MAX_FOUND - count)?;
        count += found.len();
        answer.insert(name.clone(), found);
    }
    body(&answer)
}
