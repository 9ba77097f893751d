//! From a report to a statement. Values are parameters and never part of the text; names of tables and columns come
//! from the source's own schema, where the template's must be found, and are quoted.

use crate::cell::Cell;
use crate::report::{Choice, Filter, Op, SavedReport, Total, Values};
use crate::template::{Column, ColumnType, Parameter, Refused, Template, refuse};
use std::fmt::Write as _;

/// A day in milliseconds.
const DAY: i64 = 86_400_000;
/// Most columns that a pivot makes.
const MAX_PIVOT: usize = 100;
/// Most values that are offered for a parameter.
const MAX_OFFERED: usize = 5000;

/// A database's way of writing statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, with our functions `encke_ms`, `encke_day`, `encke_number` and `encke_lower`.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB, with `ANSI_QUOTES`.
    Mysql,
}

/// A column as the source has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableColumn {
    /// Name.
    pub name: String,
    /// Nearest type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// A table or view as the source has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Table {
    /// The schema it is in, where it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Name within the schema.
    pub name: String,
    /// Columns.
    pub columns: Vec<TableColumn>,
}

impl Table {
    /// The name that templates use.
    #[must_use]
    pub fn full_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A statement with its parameters, and the types its columns come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The text.
    pub sql: String,
    /// Values of the parameters, in order.
    pub params: Vec<Cell>,
    /// Type of each column.
    pub kinds: Vec<ColumnType>,
}

/// Finds the table that a template is of, with all columns it names.
///
/// # Errors
/// The table or a column does not exist.
pub fn find_table<'a>(template: &Template, tables: &'a [Table]) -> Result<&'a Table, Refused> {
    let Some(table) = tables.iter().find(|t| t.full_name() == template.table) else {
        return refuse(format!("The data source has no table '{}'", template.table));
    };
    let columns = template.columns.iter().map(Column::source);
    let extra = template.uid.iter().chain(&template.updated).map(String::as_str);
    for name in columns.chain(extra) {
        if !table.columns.iter().any(|c| c.name == name) {
            return refuse(format!("The table '{}' has no column '{name}'", template.table));
        }
    }
    Ok(table)
}

/// Builds statements on one source.
pub struct Builder<'a> {
    dialect: Dialect,
    template: &'a Template,
    tables: &'a [Table],
    table: &'a Table,
    params: Vec<Cell>,
}

impl<'a> Builder<'a> {
    /// A builder for a template whose source has these tables.
    ///
    /// # Errors
    /// The template names what the source does not have.
    pub fn new(dialect: Dialect, template: &'a Template, tables: &'a [Table]) -> Result<Self, Refused> {
        Ok(Self {
            dialect,
            template,
            tables,
            table: find_table(template, tables)?,
            params: Vec::new(),
        })
    }

    /// The value of a column as text, number or milliseconds.
    fn value(&self, source: &str, kind: ColumnType) -> String {
        let native = self.table.columns.iter().find(|c| c.name == source);
        let is_number = native.is_some_and(|c| c.kind.is_numeric());
        let c = format!("t.{}", quote(source));
        match (self.dialect, kind) {
            (Dialect::Sqlite, ColumnType::String | ColumnType::ImageLink) => format!("CAST({c} AS TEXT)"),
            (Dialect::Sqlite, ColumnType::Number | ColumnType::Amount) => format!("encke_number({c})"),
            (Dialect::Sqlite, ColumnType::Date) => format!("encke_day({c})"),
            (Dialect::Sqlite, ColumnType::DateTime) => format!("encke_ms({c})"),
            (Dialect::Postgres, ColumnType::String | ColumnType::ImageLink) => {
                format!("CAST({c} AS text) COLLATE \"C\"")
            }
            (Dialect::Postgres, ColumnType::Number | ColumnType::Amount) => format!("CAST({c} AS numeric)"),
            // A number already is milliseconds.
            (Dialect::Postgres, _) if is_number => format!("CAST({c} AS bigint)"),
            (Dialect::Postgres, ColumnType::Date) => {
                format!("CAST(extract(epoch FROM CAST({c} AS date)) * 1000 AS bigint)")
            }
            (Dialect::Postgres, ColumnType::DateTime) => {
                format!("CAST(floor(extract(epoch FROM {c}) * 1000) AS bigint)")
            }
            (Dialect::Mysql, ColumnType::String | ColumnType::ImageLink) => {
                format!("CAST({c} AS CHAR) COLLATE utf8mb4_bin")
            }
            (Dialect::Mysql, ColumnType::Number | ColumnType::Amount) => format!("({c} + 0)"),
            (Dialect::Mysql, _) if is_number => format!("CAST({c} AS SIGNED)"),
            (Dialect::Mysql, ColumnType::Date) => {
                format!("(TIMESTAMPDIFF(DAY, DATE '1970-01-01', CAST({c} AS DATE)) * {DAY})")
            }
            (Dialect::Mysql, ColumnType::DateTime) => {
                format!("FLOOR(TIMESTAMPDIFF(MICROSECOND, TIMESTAMP '1970-01-01 00:00:00', {c}) / 1000)")
            }
        }
    }

    fn value_of(&self, key: &str) -> Result<(String, ColumnType), Refused> {
        let column = self.template.column(key);
        let column = column.ok_or_else(|| Refused(format!("The template has no column '{key}'")))?;
        Ok((self.value(column.source(), column.kind), column.kind))
    }

    /// A parameter's place in the text.
    fn param(&mut self, value: Cell, kind: ColumnType) -> String {
        self.params.push(value);
        let n = self.params.len();
        match self.dialect {
            Dialect::Sqlite => format!("?{n}"),
            Dialect::Postgres if kind.is_time() => format!("CAST(CAST(${n} AS text) AS bigint)"),
            Dialect::Postgres if kind.is_numeric() => format!("CAST(CAST(${n} AS text) AS numeric)"),
            Dialect::Postgres => format!("CAST(${n} AS text)"),
            Dialect::Mysql if kind.is_time() => "CAST(? AS SIGNED)".into(),
            Dialect::Mysql if kind.is_numeric() => "(? + 0)".into(),
            Dialect::Mysql => "CAST(? AS CHAR)".into(),
        }
    }

    fn lower(&self, text: &str) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("encke_lower({text})"),
            // The database's own language decides what a small letter is, not the order of bytes.
            Dialect::Postgres => format!("lower(({text}) COLLATE \"default\")"),
            Dialect::Mysql => format!("LOWER({text})"),
        }
    }

    fn compare(&mut self, value: &str, kind: ColumnType, op: Op, with: &[Cell]) -> Result<String, Refused> {
        let sign = match op {
            Op::Empty => return Ok(format!("{value} IS NULL")),
            Op::NotEmpty => return Ok(format!("{value} IS NOT NULL")),
            Op::In => {
                let list: Vec<String> = with.iter().map(|v| self.param(v.clone(), kind)).collect();
                return Ok(format!("{value} IN ({})", list.join(", ")));
            }
            Op::Contains | Op::StartsWith => {
                let text = with.first().map(Cell::text).unwrap_or_default();
                let mut pattern = if op == Op::Contains { "%" } else { "" }.to_string();
                for c in text.chars() {
                    if matches!(c, '%' | '_' | '!') {
                        pattern.push('!');
                    }
                    pattern.push(c);
                }
                pattern.push('%');
                let left = self.lower(value);
                let place = self.param(Cell::Text(pattern), kind);
                let right = self.lower(&place);
                return Ok(format!("{left} LIKE {right} ESCAPE '!'"));
            }
            Op::Eq => "=",
            Op::Ne => "<>",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
            Op::Ge => ">=",
        };
        let Some(with) = with.first() else {
            return refuse("A comparison needs a value");
        };
        let place = self.param(with.clone(), kind);
        Ok(match op {
            Op::Ne => format!("({value} <> {place} OR {value} IS NULL)"),
            _ => format!("{value} {sign} {place}"),
        })
    }

    fn filter(&mut self, filter: &Filter) -> Result<String, Refused> {
        let (value, kind) = self.value_of(&filter.column)?;
        self.compare(&value, kind, filter.op, filter.value.all())
    }

    fn choice(&mut self, parameter: &Parameter, choice: &Choice) -> Result<String, Refused> {
        let (value, kind) = self.value_of(&parameter.column)?;
        match choice {
            Choice::Values(Values::One(one)) => {
                let op = match parameter.kind {
                    crate::template::ParameterKind::Text => Op::Contains,
                    _ => Op::Eq,
                };
                self.compare(&value, kind, op, std::slice::from_ref(one))
            }
            Choice::Values(Values::Many(many)) => self.compare(&value, kind, Op::In, many),
            Choice::Range(range) => {
                let mut parts = Vec::new();
                if let Some(from) = range.from {
                    parts.push(self.compare(&value, kind, Op::Ge, &[Cell::Int(from)])?);
                }
                if let Some(to) = range.to {
                    // The whole of the last day.
                    let end = Cell::Int(to.saturating_add(DAY));
                    parts.push(self.compare(&value, kind, Op::Lt, &[end])?);
                }
                Ok(match parts.is_empty() {
                    true => "1 = 1".into(),
                    false => parts.join(" AND "),
                })
            }
            Choice::Place {
                value: place,
                include_below: false,
            } => self.compare(&value, kind, Op::Eq, std::slice::from_ref(place)),
            Choice::Place { value: place, .. } => {
                let Some(tree) = &parameter.tree else {
                    return refuse(format!("The parameter '{}' has no tree", parameter.key));
                };
                let found = self.tables.iter().find(|t| t.full_name() == tree.table);
                let has = |t: &&Table, name: &str| t.columns.iter().any(|c| c.name == name);
                let Some(table) = found.filter(|t| has(t, &tree.id) && has(t, &tree.parent)) else {
                    return refuse(format!(
                        "The data source has no table '{}' as the tree needs it",
                        tree.table
                    ));
                };
                // Both sides as the same type, whatever the columns are stored as.
                let cast = match self.dialect {
                    Dialect::Sqlite => "TEXT",
                    Dialect::Postgres => "text",
                    Dialect::Mysql => "CHAR(200)",
                };
                let same = |what: &str| format!("CAST({what} AS {cast})");
                self.params.push(Cell::Text(place.text()));
                let at = match self.dialect {
                    Dialect::Sqlite => format!("?{}", self.params.len()),
                    Dialect::Postgres => format!("CAST(${} AS text)", self.params.len()),
                    Dialect::Mysql => "CAST(? AS CHAR(200))".into(),
                };
                let (id, parent) = (
                    same(&format!("o.{}", quote(&tree.id))),
                    format!("o.{}", quote(&tree.parent)),
                );
                Ok(format!(
                    "{} IN (WITH RECURSIVE below (id) AS (SELECT {at} UNION SELECT {id} FROM {} o JOIN below b ON {} = b.id) \
                     SELECT id FROM below)",
                    same(&value),
                    table.quoted(),
                    same(&parent)
                ))
            }
        }
    }

    fn conditions(&mut self, report: &SavedReport) -> Result<String, Refused> {
        let mut parts = Vec::new();
        for parameter in &self.template.parameters {
            if let Some(choice) = report.parameters.get(&parameter.key) {
                parts.push(self.choice(parameter, choice)?);
            }
        }
        for filter in &report.filters {
            parts.push(self.filter(filter)?);
        }
        Ok(match parts.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", parts.join(" AND ")),
        })
    }

    /// A column of the inner statement as it leaves the database: numbers as text, so that no digit is lost.
    fn output(&self, name: &str, kind: ColumnType) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("q.{name}"),
            Dialect::Postgres => format!("CAST(q.{name} AS text)"),
            Dialect::Mysql if kind.is_numeric() || kind.is_time() => format!("CAST(q.{name} AS CHAR)"),
            Dialect::Mysql => format!("q.{name}"),
        }
    }

    /// The distinct values of the column that a pivot turns into columns.
    ///
    /// # Errors
    /// The report does not fit the template.
    pub fn pivot_values(mut self, report: &SavedReport) -> Result<Option<Query>, Refused> {
        let Some(pivot) = &report.pivot else {
            return Ok(None);
        };
        let (value, kind) = self.value_of(&pivot.column)?;
        let conditions = self.conditions(report)?;
        let out = self.output("c0", kind);
        let sql = format!(
            "SELECT {out} FROM (SELECT DISTINCT {value} AS c0 FROM {} t{conditions}) q ORDER BY q.c0 IS NULL, q.c0 LIMIT {}",
            self.table.quoted(),
            MAX_PIVOT + 1
        );
        Ok(Some(self.query(sql, vec![kind])))
    }

    /// The values of a column, to choose a parameter's from.
    ///
    /// # Errors
    /// The column does not exist.
    pub fn distinct(self, key: &str) -> Result<Query, Refused> {
        let (value, kind) = self.value_of(key)?;
        let out = self.output("c0", kind);
        let sql = format!(
            "SELECT {out} FROM (SELECT DISTINCT {value} AS c0 FROM {} t WHERE {value} IS NOT NULL) q ORDER BY q.c0 LIMIT {MAX_OFFERED}",
            self.table.quoted()
        );
        Ok(self.query(sql, vec![kind]))
    }

    /// The places of a parameter's tree: id, id of the place above, name.
    ///
    /// # Errors
    /// The tree's table or columns do not exist.
    pub fn tree(self, parameter: &Parameter) -> Result<Query, Refused> {
        let Some(tree) = &parameter.tree else {
            return refuse(format!("The parameter '{}' has no tree", parameter.key));
        };
        let Some(table) = self.tables.iter().find(|t| t.full_name() == tree.table) else {
            return refuse(format!("The data source has no table '{}'", tree.table));
        };
        let mut columns = Vec::new();
        for name in [&tree.id, &tree.parent, &tree.name] {
            if !table.columns.iter().any(|c| c.name == *name) {
                return refuse(format!("The table '{}' has no column '{name}'", tree.table));
            }
            let cast = if self.dialect == Dialect::Mysql {
                "CHAR"
            } else {
                "TEXT"
            };
            columns.push(format!("CAST(t.{} AS {cast})", quote(name)));
        }
        let sql = format!(
            "SELECT {} FROM {} t ORDER BY 1 LIMIT {MAX_OFFERED}",
            columns.join(", "),
            table.quoted()
        );
        Ok(self.query(sql, vec![ColumnType::String; 3]))
    }

    fn query(self, sql: String, kinds: Vec<ColumnType>) -> Query {
        Query {
            sql,
            params: self.params,
            kinds,
        }
    }

    /// The rows of a report: its columns, those of its pivot, then `uid` and the time of the last change where the
    /// rows have them ([`has_ids`]).
    ///
    /// # Errors
    /// The report does not fit the template.
    pub fn rows(
        mut self,
        report: &SavedReport,
        pivoted: &[Cell],
        limit: Option<u64>,
    ) -> Result<Query, Refused> {
        if pivoted.len() > MAX_PIVOT {
            return refuse(format!(
                "The column whose values become columns has more than {MAX_PIVOT} of them; filter, or choose another"
            ));
        }
        let (mut inner, mut outer, mut kinds): (Vec<String>, Vec<String>, Vec<ColumnType>) =
            Default::default();
        let mut groups = Vec::new();
        let mut order = String::new();
        let mut add = |this: &Self, expression: String, kind: ColumnType, kinds: &mut Vec<ColumnType>| {
            let name = format!("c{}", inner.len());
            outer.push(this.output(&name, kind));
            inner.push(format!("{expression} AS {name}"));
            kinds.push(kind);
        };
        for chosen in &report.columns {
            let (value, kind) = self.value_of(&chosen.key)?;
            match chosen.total {
                None => {
                    groups.push(value.clone());
                    add(&self, value, kind, &mut kinds);
                }
                Some(total) => add(
                    &self,
                    aggregate(total, &value),
                    total_kind(total, kind),
                    &mut kinds,
                ),
            }
        }
        if let Some(pivot) = &report.pivot {
            let (by, by_kind) = self.value_of(&pivot.column)?;
            let (value, kind) = self.value_of(&pivot.value)?;
            for cell in pivoted {
                let is = match cell {
                    Cell::Null => format!("{by} IS NULL"),
                    cell => self.compare(&by, by_kind, Op::Eq, std::slice::from_ref(cell))?,
                };
                let expression = aggregate(pivot.total, &format!("CASE WHEN {is} THEN {value} END"));
                add(&self, expression, total_kind(pivot.total, kind), &mut kinds);
            }
        }
        if has_ids(self.template, report) {
            for (source, kind) in ids(self.template, self.table) {
                add(&self, self.value(&source, kind), kind, &mut kinds);
            }
        }
        let shown = inner.len();
        for sort in &report.sort {
            let at = report.columns.iter().position(|c| c.key == sort.column);
            let name = match at {
                Some(at) => format!("c{at}"),
                None if report.is_grouped() => {
                    return refuse(format!(
                        "Choose the column '{}' to sort groups by it",
                        sort.column
                    ));
                }
                None => {
                    let (value, _) = self.value_of(&sort.column)?;
                    inner.push(format!("{value} AS c{}", inner.len()));
                    format!("c{}", inner.len() - 1)
                }
            };
            let direction = if sort.descending { " DESC" } else { "" };
            let _ = write!(
                order,
                "{}q.{name} IS NULL, q.{name}{direction}",
                separator(&order)
            );
        }
        // What the keys leave open is settled as well, so that the same data give the same order.
        if report.is_grouped() {
            for (at, _) in report
                .columns
                .iter()
                .enumerate()
                .filter(|(_, c)| c.total.is_none())
            {
                let _ = write!(order, "{}q.c{at} IS NULL, q.c{at}", separator(&order));
            }
        } else if has_ids(self.template, report) && self.template.uid.is_some() {
            let at = report.columns.len();
            let _ = write!(order, "{}q.c{at}", separator(&order));
        }
        debug_assert_eq!(shown, kinds.len());
        let conditions = self.conditions(report)?;
        let mut sql = format!(
            "SELECT {} FROM (SELECT {} FROM {} t{conditions}",
            outer.join(", "),
            inner.join(", "),
            self.table.quoted()
        );
        if report.is_grouped() && !groups.is_empty() {
            let _ = write!(sql, " GROUP BY {}", groups.join(", "));
        }
        sql.push_str(") q");
        if !order.is_empty() {
            let _ = write!(sql, " ORDER BY {order}");
        }
        if let Some(limit) = limit {
            let _ = write!(sql, " LIMIT {limit}");
        }
        Ok(self.query(sql, kinds))
    }
}

fn separator(order: &str) -> &'static str {
    if order.is_empty() { "" } else { ", " }
}

fn aggregate(total: Total, value: &str) -> String {
    let name = match total {
        Total::Sum => "SUM",
        Total::Avg => "AVG",
        Total::Min => "MIN",
        Total::Max => "MAX",
        Total::Count => "COUNT",
    };
    format!("{name}({value})")
}

fn total_kind(total: Total, kind: ColumnType) -> ColumnType {
    match total {
        Total::Count => ColumnType::Number,
        _ => kind,
    }
}

/// Whether rows carry the template's `uid` and time of the last change: those of a group do not.
#[must_use]
pub fn has_ids(template: &Template, report: &SavedReport) -> bool {
    (template.uid.is_some() || template.updated.is_some()) && !report.is_grouped()
}

fn ids(template: &Template, table: &Table) -> Vec<(String, ColumnType)> {
    let kind_of = |name: &String| {
        let found = table.columns.iter().find(|c| c.name == *name);
        match found.map(|c| c.kind) {
            Some(kind) if kind.is_numeric() => ColumnType::Number,
            _ => ColumnType::String,
        }
    };
    let uid = template.uid.iter().map(|u| (u.clone(), kind_of(u)));
    let updated = template.updated.iter().map(|u| (u.clone(), ColumnType::DateTime));
    uid.chain(updated).collect()
}
