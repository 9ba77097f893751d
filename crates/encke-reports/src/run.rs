//! From a report and an open source to rows.

use crate::cell::Cell;
use crate::progress::{Progress, Stopped};
use crate::query::{Builder, has_ids};
use crate::report::{SavedReport, Shown, Total};
use crate::sample_rows;
use crate::snapshot::{Description, SnapshotError, Writer};
use crate::source::{Database, OnRow, SourceError};
use crate::template::{ColumnType, ParameterKind, Refused, Template};
use std::path::{Path, PathBuf};

impl From<SnapshotError> for SourceError {
    fn from(e: SnapshotError) -> Self {
        Self::Sink(e.to_string())
    }
}

impl From<Stopped> for SourceError {
    fn from(e: Stopped) -> Self {
        Self::Sink(e.to_string())
    }
}

/// Where the rows of a report go.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Folder of the snapshot.
    pub folder: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// Stands for the address that pictures are reached at.
    pub pictures: &'a str,
    /// Counts the rows.
    pub progress: &'a Progress,
}

/// Puts the address of the placeholder where a row has no picture.
fn place_pictures(row: &mut [Cell], at: &[usize], pictures: &str) {
    for at in at {
        if let Some(cell) = row.get_mut(*at).filter(|c| **c == Cell::Null) {
            *cell = Cell::Text(format!("{pictures}/placeholder.svg"));
        }
    }
}

/// The places of the columns with pictures.
fn pictures_of(columns: &[Shown]) -> Vec<usize> {
    let numbered = columns.iter().enumerate();
    numbered
        .filter(|(_, c)| c.kind == ColumnType::ImageLink)
        .map(|(at, _)| at)
        .collect()
}

fn describe(template: &Template, report: &SavedReport, pivoted: &[Cell]) -> Description {
    let mut columns = report.shown(template, "en");
    if let Some(pivot) = &report.pivot {
        let time = template.column(&pivot.column).is_some_and(|c| c.kind.is_time());
        let kind = match (pivot.total, template.column(&pivot.value)) {
            (Total::Count, _) | (_, None) => ColumnType::Number,
            (_, Some(column)) => column.kind,
        };
        columns.extend(pivoted.iter().map(|cell| {
            let name = match cell {
                Cell::Null => "-".to_string(),
                Cell::Int(ms) if time => jiff::Timestamp::from_millisecond(*ms)
                    .map_or_else(|_| ms.to_string(), |t| t.strftime("%Y-%m-%d").to_string()),
                cell => cell.text(),
            };
            Shown {
                key: format!("{}.{name}", pivot.value),
                name,
                kind,
            }
        }));
    }
    let ids = has_ids(template, report);
    Description {
        columns,
        has_uid: ids && template.uid.is_some(),
        has_updated: ids && template.updated.is_some(),
        pivot: report.pivot.is_some(),
    }
}

fn ask(
    template: &Template,
    report: &SavedReport,
    database: &mut dyn Database,
    limit: Option<u64>,
    begin: &mut dyn FnMut(Description) -> Result<(), SourceError>,
) -> Result<crate::query::Query, SourceError> {
    report.check(template)?;
    let tables = database.tables()?;
    let builder = || Builder::new(database.dialect(), template, &tables);
    let (pivots, plain) = (builder()?.pivot_values(report)?, builder()?);
    let pivoted: Vec<Cell> = match pivots {
        Some(query) => database.all(&query)?.into_iter().flatten().collect(),
        None => Vec::new(),
    };
    let query = plain.rows(report, &pivoted, limit)?;
    begin(describe(template, report, &pivoted))?;
    Ok(query)
}

/// Asks a source for the rows of a report and writes them to a snapshot in a folder; answers its path.
///
/// # Errors
/// The report does not fit the template or the source, the source fails or takes too long, or the disk is full.
pub fn run(
    template: &Template,
    report: &SavedReport,
    database: &mut dyn Database,
    into: Destination,
) -> Result<PathBuf, SourceError> {
    let mut description = None;
    let query = ask(template, report, database, None, &mut |d| {
        description = Some(d);
        Ok(())
    })?;
    let Some(description) = description else {
        return Err(Refused("The report has no columns".into()).into());
    };
    let pictured = pictures_of(&description.columns);
    let mut writer = Writer::create(into.folder, into.name, description)?;
    let mut own = Vec::new();
    let done = database.query(&query, &mut |row| {
        into.progress.row()?;
        if pictured.is_empty() {
            return Ok(writer.push(row)?);
        }
        own.clear();
        own.extend_from_slice(row);
        place_pictures(&mut own, &pictured, into.pictures);
        Ok(writer.push(&own)?)
    });
    match done {
        Ok(()) => Ok(writer.finish()?),
        Err(e) => {
            writer.abandon();
            Err(e)
        }
    }
}

/// Writes the rows of a report on the sample association that takes them as they are. `None` when it does not: then
/// they need to be staged and asked for.
///
/// # Errors
/// The disk is full.
pub fn sample(
    template: &Template,
    report: &SavedReport,
    into: Destination,
) -> Result<Option<PathBuf>, SourceError> {
    if !report.is_plain() {
        return Ok(None);
    }
    let all = crate::starter()
        .iter()
        .find(|t| t.source == template.source && t.table == template.table);
    let Some(all) = all else { return Ok(None) };
    let ours = ["uid", "lastUpdateDateTime"];
    let position = |source: &str| {
        let known = all.columns.iter().map(|c| c.key.as_str()).chain(ours);
        known.enumerate().find(|(_, k)| *k == source).map(|(at, _)| at)
    };
    let chosen = report
        .columns
        .iter()
        .map(|c| template.column(&c.key).and_then(|c| position(c.source())));
    let ids = [&template.uid, &template.updated]
        .into_iter()
        .flatten()
        .map(|c| position(c));
    let Some(order) = chosen.chain(ids).collect::<Option<Vec<usize>>>() else {
        return Ok(None);
    };
    let (size, seed) = report.sample();
    let mut writer = Writer::create(into.folder, into.name, describe(template, report, &[]))?;
    let mut row: Vec<Cell> = Vec::with_capacity(order.len());
    for made in sample_rows(&template.table, size, seed, into.pictures) {
        row.clear();
        row.extend(order.iter().map(|at| made[*at].clone()));
        let pushed = into.progress.row().map_err(SourceError::from);
        if let Err(e) = pushed.and_then(|()| Ok(writer.push(&row)?)) {
            writer.abandon();
            return Err(e);
        }
    }
    Ok(Some(writer.finish()?))
}

/// The first rows of a report: its columns and their values.
///
/// # Errors
/// As [`run`].
pub fn preview(
    template: &Template,
    report: &SavedReport,
    database: &mut dyn Database,
    limit: u64,
    pictures: &str,
    on_row: OnRow,
) -> Result<Vec<Shown>, SourceError> {
    let mut columns = Vec::new();
    let query = ask(template, report, database, Some(limit), &mut |d| {
        columns = d.columns;
        Ok(())
    })?;
    let width = columns.len();
    let pictured = pictures_of(&columns);
    database.query(&query, &mut |row| {
        let mut own = row[..width.min(row.len())].to_vec();
        place_pictures(&mut own, &pictured, pictures);
        on_row(&own)
    })?;
    Ok(columns)
}

/// What can be chosen for a parameter: values, or the places of a tree (id, id of the place above, name).
///
/// # Errors
/// The parameter does not exist, or as [`run`].
pub fn offered(
    template: &Template,
    parameter: &str,
    database: &mut dyn Database,
) -> Result<Vec<Vec<Cell>>, SourceError> {
    let found = template.parameters.iter().find(|p| p.key == parameter);
    let parameter = found.ok_or_else(|| Refused(format!("The template has no parameter '{parameter}'")))?;
    if !parameter.values.is_empty() {
        return Ok(parameter.values.iter().map(|v| vec![v.clone()]).collect());
    }
    let tables = database.tables()?;
    let builder = Builder::new(database.dialect(), template, &tables)?;
    let query = match parameter.kind {
        ParameterKind::Hierarchy => builder.tree(parameter)?,
        _ => builder.distinct(&parameter.column)?,
    };
    database.all(&query)
}
