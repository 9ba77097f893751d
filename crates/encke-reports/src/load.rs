//! Files that people upload, loaded into typed tables of a database file. The type of a column is the narrowest that
//! all of its values fit.

use crate::cell::Cell;
use crate::source::{SourceError, Stage, StageColumn, milliseconds};
use crate::template::{ColumnType, MAX_COLUMNS, Refused};
use calamine::{Data, Reader as _, Xlsx};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

/// Most rows of an uploaded file.
const MAX_ROWS: usize = 5_000_000;
/// Largest content of a packed file (XLSX) after unpacking, in bytes: more is an attack rather than a table.
const MAX_UNPACKED: u64 = 1 << 30;

/// A table read from a file.
struct Loaded {
    name: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

fn refused<T>(message: impl Into<String>) -> Result<T, SourceError> {
    Err(SourceError::Refused(Refused(message.into())))
}

/// Loads a file into a new database file. What it is tells the end of its name: `.csv`, `.tsv`, `.jsonl`, `.ndjson`,
/// `.xlsx`, `.parquet`, or `.sqlite`, `.sqlite3`, `.db`, which stays as it is.
///
/// # Errors
/// The file is of no such kind, is damaged or is too large; in words for the person who uploaded it.
pub fn load(name: &str, content: &[u8], target: &Path) -> Result<(), SourceError> {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let stem = stem.rsplit(['/', '\\']).next().unwrap_or_default();
    let table = if stem.is_empty() { "data" } else { stem };
    let loaded = match end.to_ascii_lowercase().as_str() {
        "csv" => vec![csv(table, content, None)?],
        "tsv" => vec![csv(table, content, Some(b'\t'))?],
        "jsonl" | "ndjson" => vec![json_lines(table, content)?],
        "xlsx" => xlsx(content)?,
        "parquet" => vec![parquet(table, content)?],
        "sqlite" | "sqlite3" | "db" => {
            let kept = std::fs::write(target, content).map_err(|e| SourceError::Source(e.to_string()));
            return kept.and_then(|()| crate::source::open_file(target)?.tables().map(drop));
        }
        _ => {
            return refused(
                "The file's name has to end with .csv, .tsv, .jsonl, .ndjson, .xlsx, .parquet, .sqlite or .db",
            );
        }
    };
    let mut stage = Stage::create(target)?;
    for table in loaded {
        fill(&mut stage, table)?;
    }
    stage.finish()
}

/// Names that are there, once each.
fn unique(names: Vec<String>) -> Result<Vec<String>, SourceError> {
    if names.is_empty() || names.len() > MAX_COLUMNS {
        return refused(format!("A table has 1 to {MAX_COLUMNS} columns"));
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    let named = names.into_iter().enumerate().map(|(at, name)| {
        let name = name.trim().replace('\0', "");
        let name = if name.is_empty() {
            format!("column{}", at + 1)
        } else {
            name
        };
        // SQLite takes names that differ only in case for the same.
        let count = seen.entry(name.to_lowercase()).or_default();
        *count += 1;
        if *count == 1 {
            name
        } else {
            format!("{name} ({count})")
        }
    });
    Ok(named.collect())
}

fn csv(name: &str, content: &[u8], separator: Option<u8>) -> Result<Loaded, SourceError> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let first = content.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = |what: u8| first.iter().filter(|b| **b == what).count();
    let separator = separator.unwrap_or(if count(b';') > count(b',') { b';' } else { b',' });
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .from_reader(content);
    let failed = |e: csv::Error| SourceError::Refused(Refused(format!("The file can not be read: {e}")));
    let header = reader
        .headers()
        .map_err(failed)?
        .iter()
        .map(String::from)
        .collect();
    let columns = unique(header)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        limit(rows.len())?;
        let cell = |text: &str| if text.is_empty() { Cell::Null } else { text.into() };
        rows.push(record.iter().map(cell).collect());
    }
    Ok(Loaded {
        name: name.into(),
        columns,
        rows,
    })
}

fn limit(rows: usize) -> Result<(), SourceError> {
    if rows < MAX_ROWS {
        return Ok(());
    }
    refused(format!("A file has at most {MAX_ROWS} rows"))
}

/// An object's members in the order they are written in.
struct Pairs(Vec<(String, serde_json::Value)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn json_lines(name: &str, content: &[u8]) -> Result<Loaded, SourceError> {
    let mut columns: Vec<String> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (number, line) in (1..).zip(content.split(|b| *b == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        limit(rows.len())?;
        let object = match serde_json::from_slice::<Pairs>(line) {
            Ok(Pairs(object)) => object,
            Err(e) => return refused(format!("Line {number} is not a JSON object: {e}")),
        };
        let mut row = vec![Cell::Null; columns.len()];
        for (key, value) in object {
            let at = *known.entry(key.clone()).or_insert_with(|| {
                columns.push(key);
                columns.len() - 1
            });
            if columns.len() > MAX_COLUMNS {
                return refused(format!("A table has 1 to {MAX_COLUMNS} columns"));
            }
            row.resize(columns.len(), Cell::Null);
            row[at] = match value {
                serde_json::Value::Null => Cell::Null,
                serde_json::Value::Number(n) => Cell::number(&n.to_string()),
                serde_json::Value::String(t) => Cell::Text(t),
                other => Cell::Text(other.to_string()),
            };
        }
        rows.push(row);
    }
    Ok(Loaded {
        name: name.into(),
        columns: unique(columns)?,
        rows,
    })
}

fn xlsx(content: &[u8]) -> Result<Vec<Loaded>, SourceError> {
    let mut packed = zip::ZipArchive::new(Cursor::new(content))
        .map_err(|e| SourceError::Refused(Refused(format!("The file is not an XLSX workbook: {e}"))))?;
    let mut size = 0u64;
    for at in 0..packed.len() {
        size = size.saturating_add(packed.by_index_raw(at).map_or(0, |f| f.size()));
    }
    if size > MAX_UNPACKED {
        return refused("The workbook is too large");
    }
    let failed =
        |e: calamine::XlsxError| SourceError::Refused(Refused(format!("The workbook can not be read: {e}")));
    let mut book = Xlsx::new(Cursor::new(content)).map_err(failed)?;
    let mut tables = Vec::new();
    for (name, sheet) in book.worksheets() {
        let mut lines = sheet.rows();
        let Some(header) = lines.next() else { continue };
        let columns = unique(header.iter().map(ToString::to_string).collect())?;
        let mut rows = Vec::new();
        for line in lines {
            limit(rows.len())?;
            rows.push(line.iter().map(from_sheet).collect());
        }
        tables.push(Loaded { name, columns, rows });
    }
    if tables.is_empty() {
        return refused("The workbook has no sheet with rows");
    }
    Ok(tables)
}

fn from_sheet(data: &Data) -> Cell {
    match data {
        Data::Int(n) => Cell::Int(*n),
        Data::Float(n) => Cell::float(*n),
        Data::String(t) if t.is_empty() => Cell::Null,
        Data::String(t) | Data::DateTimeIso(t) | Data::DurationIso(t) => Cell::Text(t.clone()),
        Data::Bool(b) => Cell::Text(b.to_string()),
        Data::DateTime(time) => {
            let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
            let date = format!("{year:04}-{month:02}-{day:02}");
            match (hour, minute, second, milli) {
                (0, 0, 0, 0) => Cell::Text(date),
                _ => Cell::Text(format!("{date}T{hour:02}:{minute:02}:{second:02}.{milli:03}")),
            }
        }
        Data::Error(_) | Data::Empty => Cell::Null,
    }
}

fn parquet(name: &str, content: &[u8]) -> Result<Loaded, SourceError> {
    let failed = |e: parquet::errors::ParquetError| {
        SourceError::Refused(Refused(format!("The Parquet file can not be read: {e}")))
    };
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(content)).map_err(failed)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns = unique(schema.get_fields().iter().map(|f| f.name().to_string()).collect())?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).map_err(failed)? {
        limit(rows.len())?;
        rows.push(
            row.map_err(failed)?
                .get_column_iter()
                .map(|(_, f)| from_parquet(f))
                .collect(),
        );
    }
    Ok(Loaded {
        name: name.into(),
        columns,
        rows,
    })
}

fn from_parquet(field: &Field) -> Cell {
    let stamp = |ms: i64| match jiff::Timestamp::from_millisecond(ms) {
        Ok(stamp) => Cell::Text(stamp.to_string()),
        Err(_) => Cell::Null,
    };
    match field {
        Field::Null => Cell::Null,
        Field::Bool(b) => Cell::Text(b.to_string()),
        Field::Byte(n) => Cell::Int((*n).into()),
        Field::Short(n) => Cell::Int((*n).into()),
        Field::Int(n) => Cell::Int((*n).into()),
        Field::Long(n) => Cell::Int(*n),
        Field::UByte(n) => Cell::Int((*n).into()),
        Field::UShort(n) => Cell::Int((*n).into()),
        Field::UInt(n) => Cell::Int((*n).into()),
        Field::ULong(n) => Cell::number(&n.to_string()),
        Field::Float(n) => Cell::float((*n).into()),
        Field::Double(n) => Cell::float(*n),
        Field::Str(t) => Cell::Text(t.clone()),
        Field::Date(days) => match stamp(i64::from(*days) * 86_400_000) {
            Cell::Text(t) => Cell::Text(t[..10].to_string()),
            other => other,
        },
        Field::TimestampMillis(ms) => stamp(*ms),
        Field::TimestampMicros(us) => stamp(us.div_euclid(1000)),
        Field::Decimal(_) => Cell::number(&field.to_string()),
        other => Cell::Text(other.to_string()),
    }
}

/// What a value would make of its column.
#[derive(Clone, Copy, PartialEq)]
enum Guess {
    Number,
    Date,
    DateTime,
    Text,
}

fn guess(cell: &Cell) -> Option<Guess> {
    let text = match cell {
        Cell::Null => return None,
        Cell::Int(_) | Cell::Number(_) => return Some(Guess::Number),
        Cell::Text(text) => text,
    };
    // "007" and "+49 30" are names of things, not quantities.
    let digits = text.trim_start_matches('-');
    let has_leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let is_number = serde_json::from_str::<serde_json::Number>(text).is_ok() && digits.len() <= 18;
    Some(if is_number && !has_leading_zero {
        Guess::Number
    } else if text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok() {
        Guess::Date
    } else if text.len() >= 16 && milliseconds(text).is_some() {
        Guess::DateTime
    } else {
        Guess::Text
    })
}

fn kind(rows: &[Vec<Cell>], at: usize) -> ColumnType {
    let mut all = None;
    for cell in rows.iter().filter_map(|r| r.get(at)) {
        all = match (all, guess(cell)) {
            (kept, None) => kept,
            (None, found) => found,
            (Some(a), Some(b)) if a == b => Some(a),
            (Some(Guess::Date | Guess::DateTime), Some(Guess::Date | Guess::DateTime)) => {
                Some(Guess::DateTime)
            }
            _ => return ColumnType::String,
        };
    }
    match all {
        Some(Guess::Number) => ColumnType::Number,
        Some(Guess::Date) => ColumnType::Date,
        Some(Guess::DateTime) => ColumnType::DateTime,
        Some(Guess::Text) | None => ColumnType::String,
    }
}

fn fill(stage: &mut Stage, table: Loaded) -> Result<(), SourceError> {
    let columns: Vec<StageColumn> = table
        .columns
        .into_iter()
        .enumerate()
        .map(|(at, name)| StageColumn {
            kind: kind(&table.rows, at),
            name,
        })
        .collect();
    stage.table(&table.name, &columns, |push| {
        for mut row in table.rows {
            row.resize(columns.len(), Cell::Null);
            for (cell, column) in row.iter_mut().zip(&columns) {
                if let Cell::Text(text) = &cell {
                    match column.kind {
                        ColumnType::Number | ColumnType::Amount => *cell = Cell::number(text),
                        ColumnType::Date | ColumnType::DateTime => {
                            *cell = milliseconds(text).map_or(Cell::Null, Cell::Int);
                        }
                        ColumnType::String | ColumnType::ImageLink => {}
                    }
                } else if *cell != Cell::Null && column.kind == ColumnType::String {
                    *cell = Cell::Text(cell.text());
                }
            }
            push(&row)?;
        }
        Ok(())
    })
}
