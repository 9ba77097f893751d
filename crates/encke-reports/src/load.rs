//! Files of rows, loaded into typed tables of a database file. A file is read twice, row after row: first to find the
//! narrowest type that all values of a column fit, then to fill the table. Memory does not grow with the file.

use crate::cell::Cell;
use crate::source::{SourceError, Stage, StageColumn, milliseconds};
use crate::template::{ColumnType, MAX_COLUMNS, Refused};
use calamine::{Data, Reader as _, Xlsx};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _};
use std::path::Path;
use std::rc::Rc;

/// Most rows of a file.
const MAX_ROWS: u64 = 1_000_000_000;
/// Longest row of a text file, in bytes: it is held in memory as a whole.
const MAX_ROW: u64 = 16 << 20;
/// Largest content of a workbook (XLSX) after unpacking, in bytes: more is an attack rather than a table.
const MAX_UNPACKED: u64 = 16 << 30;
/// Largest content of the parts of a workbook that are held in memory, such as its texts.
const MAX_HELD: u64 = 512 << 20;

fn refused<T>(message: impl Into<String>) -> Result<T, SourceError> {
    Err(SourceError::Refused(Refused(message.into())))
}

fn unreadable(e: &io::Error) -> SourceError {
    SourceError::Refused(Refused(format!("The file can not be read: {e}")))
}

/// Takes a row; it may be shorter than the table has columns.
type OnCells<'a> = &'a mut dyn FnMut(&mut Vec<Cell>) -> Result<(), SourceError>;

/// A file that can be read again and again.
trait Source {
    /// Names of its tables.
    fn tables(&self) -> Vec<String>;
    /// Hands over the rows of a table and answers the names of its columns, which some files tell only at their end.
    fn read(&mut self, table: usize, on_row: OnCells) -> Result<Vec<String>, SourceError>;
}

/// Loads a file into a new database file of at most so many bytes. What it is tells the end of its name: `.csv`,
/// `.tsv`, `.jsonl`, `.ndjson`, `.xlsx`, `.parquet`, or `.sqlite`, `.sqlite3`, `.db`, which stays as it is.
///
/// # Errors
/// The file is of no such kind, is damaged or is too large; in words for the person who uploaded it.
pub fn load(name: &str, file: &Path, target: &Path, most: u64) -> Result<(), SourceError> {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let stem = stem.rsplit(['/', '\\']).next().unwrap_or_default();
    let table = if stem.is_empty() { "data" } else { stem }.to_string();
    let open = || File::open(file).map_err(|e| unreadable(&e));
    let mut source: Box<dyn Source> = match end.to_ascii_lowercase().as_str() {
        "csv" => Box::new(Csv::new(table, open()?, None)?),
        "tsv" => Box::new(Csv::new(table, open()?, Some(b'\t'))?),
        "jsonl" | "ndjson" => Box::new(JsonLines { table, file: open()? }),
        "xlsx" => Box::new(Workbook::new(&open()?)?),
        "parquet" => Box::new(Parquet {
            table,
            reader: SerializedFileReader::new(open()?).map_err(no_parquet)?,
        }),
        "sqlite" | "sqlite3" | "db" => {
            let size = open()?.metadata().map_err(|e| unreadable(&e))?.len();
            if size > most {
                return Err(too_large(most));
            }
            let kept = std::fs::copy(file, target).map_err(|e| SourceError::Sink(e.to_string()));
            return kept.and_then(|_| crate::source::open_file(target)?.tables().map(drop));
        }
        _ => {
            return refused(
                "The file's name has to end with .csv, .tsv, .jsonl, .ndjson, .xlsx, .parquet, .sqlite or .db",
            );
        }
    };
    let mut stage = Stage::create(target)?;
    stage.limit(most)?;
    let mut filled = false;
    for (at, table) in source.tables().into_iter().enumerate() {
        filled |= fill(&mut stage, &mut *source, at, &table).map_err(|e| match e {
            SourceError::Source(e) if e.contains("full") => too_large(most),
            e => e,
        })?;
    }
    if !filled {
        return refused("The file has no rows with names of columns above them");
    }
    stage.finish()
}

fn too_large(most: u64) -> SourceError {
    SourceError::Refused(Refused(format!(
        "The file's rows need more than the {most} bytes that are left to you"
    )))
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

/// Ends with an error where a row is longer than allowed: whoever reads rows sets the count back after each.
struct Bounded {
    inner: BufReader<File>,
    left: Rc<std::cell::Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other(format!("a row has more than {MAX_ROW} bytes")));
        }
        let most = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut out[..most])?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

/// Goes to the begin of a file, past the mark of UTF-8 that some programs put there.
fn rewound(file: &File) -> Result<BufReader<File>, SourceError> {
    let begin = || {
        let mut reader = BufReader::with_capacity(1 << 18, file.try_clone()?);
        reader.rewind()?;
        if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        Ok(reader)
    };
    begin().map_err(|e| unreadable(&e))
}

struct Csv {
    table: String,
    file: File,
    separator: u8,
}

impl Csv {
    fn new(table: String, file: File, separator: Option<u8>) -> Result<Self, SourceError> {
        let mut first = Vec::new();
        rewound(&file)?
            .take(MAX_ROW)
            .read_until(b'\n', &mut first)
            .map_err(|e| unreadable(&e))?;
        let count = |what: u8| first.iter().filter(|b| **b == what).count();
        let guessed = if count(b';') > count(b',') { b';' } else { b',' };
        Ok(Self {
            table,
            file,
            separator: separator.unwrap_or(guessed),
        })
    }
}

impl Source for Csv {
    fn tables(&self) -> Vec<String> {
        vec![self.table.clone()]
    }

    fn read(&mut self, _: usize, on_row: OnCells) -> Result<Vec<String>, SourceError> {
        // The reader of rows reads ahead, by 8 KiB.
        let left = Rc::new(std::cell::Cell::new(MAX_ROW));
        let inner = rewound(&self.file)?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.separator)
            .from_reader(Bounded {
                inner,
                left: left.clone(),
            });
        let failed = |e: csv::Error| SourceError::Refused(Refused(format!("The file can not be read: {e}")));
        let names: Vec<String> = reader
            .headers()
            .map_err(failed)?
            .iter()
            .map(String::from)
            .collect();
        let (mut record, mut row) = (csv::StringRecord::new(), Vec::with_capacity(names.len()));
        while reader.read_record(&mut record).map_err(failed)? {
            left.set(MAX_ROW);
            row.clear();
            row.extend(
                record
                    .iter()
                    .map(|text| if text.is_empty() { Cell::Null } else { text.into() }),
            );
            on_row(&mut row)?;
        }
        Ok(names)
    }
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

struct JsonLines {
    table: String,
    file: File,
}

impl Source for JsonLines {
    fn tables(&self) -> Vec<String> {
        vec![self.table.clone()]
    }

    fn read(&mut self, _: usize, on_row: OnCells) -> Result<Vec<String>, SourceError> {
        let mut reader = rewound(&self.file)?;
        let mut columns: Vec<String> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let (mut line, mut row) = (Vec::new(), Vec::new());
        let mut number = 0u64;
        loop {
            line.clear();
            let read = (&mut reader).take(MAX_ROW).read_until(b'\n', &mut line);
            if read.map_err(|e| unreadable(&e))? == 0 {
                return Ok(columns);
            }
            number += 1;
            if line.len() as u64 == MAX_ROW {
                return refused(format!("Line {number} has more than {MAX_ROW} bytes"));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let object = match serde_json::from_slice::<Pairs>(&line) {
                Ok(Pairs(object)) => object,
                Err(e) => return refused(format!("Line {number} is not a JSON object: {e}")),
            };
            row.clear();
            row.resize(columns.len(), Cell::Null);
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
            on_row(&mut row)?;
        }
    }
}

struct Workbook {
    book: Xlsx<BufReader<File>>,
    sheets: Vec<String>,
}

fn no_workbook(e: impl std::fmt::Display) -> SourceError {
    SourceError::Refused(Refused(format!("The file is not an XLSX workbook: {e}")))
}

impl Workbook {
    fn new(file: &File) -> Result<Self, SourceError> {
        Self::measure(file)?;
        let copy = file.try_clone().map_err(no_workbook)?;
        let mut book = Xlsx::new(BufReader::new(copy)).map_err(no_workbook)?;
        let kinds = book.sheets_metadata().to_vec();
        let mut sheets = Vec::new();
        for sheet in kinds {
            // Those that only draw have no cells.
            if sheet.typ == calamine::SheetType::WorkSheet && book.worksheet_cells_reader(&sheet.name).is_ok()
            {
                sheets.push(sheet.name);
            }
        }
        Ok(Self { book, sheets })
    }

    /// Unpacks it once for nothing but to see that it stays within bounds: what it says of its own size may be a lie.
    fn measure(file: &File) -> Result<(), SourceError> {
        let copy = file.try_clone().map_err(no_workbook)?;
        let mut packed = zip::ZipArchive::new(BufReader::new(copy)).map_err(no_workbook)?;
        let (mut all, mut held) = (MAX_UNPACKED, MAX_HELD);
        for at in 0..packed.len() {
            let part = packed.by_index(at).map_err(no_workbook)?;
            let is_sheet = part.name().contains("worksheets/");
            let left = if is_sheet { &mut all } else { &mut held };
            let size = io::copy(&mut part.take(*left + 1), &mut io::sink()).map_err(no_workbook)?;
            *left = match left.checked_sub(size) {
                Some(left) => left,
                None => return refused("The workbook is too large"),
            };
        }
        Ok(())
    }
}

impl Source for Workbook {
    fn tables(&self) -> Vec<String> {
        self.sheets.clone()
    }

    fn read(&mut self, table: usize, on_row: OnCells) -> Result<Vec<String>, SourceError> {
        let failed = |e: calamine::XlsxError| {
            SourceError::Refused(Refused(format!("The workbook can not be read: {e}")))
        };
        let name = &self.sheets[table];
        let mut cells = self.book.worksheet_cells_reader(name).map_err(failed)?;
        // The first row with cells has the names; what lies left of the first of them is no part of the table.
        let mut names: Vec<String> = Vec::new();
        let (mut left, mut at): (u32, Option<u32>) = (0, None);
        let mut header = None;
        let mut row: Vec<Cell> = Vec::new();
        while let Some(cell) = cells.next_cell().map_err(failed)? {
            let (line, column) = cell.get_position();
            let data = Data::from(cell.get_value().clone());
            if header.is_none() && data != Data::Empty {
                (header, left) = (Some(line), column);
            }
            let Some(column) = column.checked_sub(left).map(|c| c as usize) else {
                continue;
            };
            if column >= MAX_COLUMNS {
                return refused(format!("A table has 1 to {MAX_COLUMNS} columns"));
            }
            if header == Some(line) {
                names.resize(names.len().max(column + 1), String::new());
                names[column] = data.to_string();
            } else if header.is_some() {
                if at != Some(line) {
                    if row.iter().any(|c| *c != Cell::Null) {
                        on_row(&mut row)?;
                    }
                    row.clear();
                    at = Some(line);
                }
                row.resize(row.len().max(column + 1), Cell::Null);
                row[column] = from_sheet(&data);
            }
        }
        if row.iter().any(|c| *c != Cell::Null) {
            on_row(&mut row)?;
        }
        Ok(names)
    }
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
        // Kinds that the library may come to know.
        #[allow(unreachable_patterns)]
        other => Cell::Text(other.to_string()),
    }
}

struct Parquet {
    table: String,
    reader: SerializedFileReader<File>,
}

#[allow(clippy::needless_pass_by_value)] // used as a function
fn no_parquet(e: parquet::errors::ParquetError) -> SourceError {
    SourceError::Refused(Refused(format!("The Parquet file can not be read: {e}")))
}

impl Source for Parquet {
    fn tables(&self) -> Vec<String> {
        vec![self.table.clone()]
    }

    fn read(&mut self, _: usize, on_row: OnCells) -> Result<Vec<String>, SourceError> {
        let schema = self.reader.metadata().file_metadata().schema();
        let names = schema.get_fields().iter().map(|f| f.name().to_string()).collect();
        let mut cells = Vec::new();
        for row in self.reader.get_row_iter(None).map_err(no_parquet)? {
            cells.clear();
            let row = row.map_err(no_parquet)?;
            cells.extend(row.get_column_iter().map(|(_, f)| from_parquet(f)));
            on_row(&mut cells)?;
        }
        Ok(names)
    }
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
    let may_be_number = digits.len() <= 18 && digits.starts_with(|c: char| c.is_ascii_digit());
    let is_number = may_be_number && serde_json::from_str::<serde_json::Number>(text).is_ok();
    Some(if is_number && !has_leading_zero {
        Guess::Number
    } else if text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok() {
        Guess::Date
    } else if (16..=60).contains(&text.len()) && milliseconds(text).is_some() {
        Guess::DateTime
    } else {
        Guess::Text
    })
}

/// What a column is, given what was found so far and one more value.
fn narrowed(found: Option<Guess>, cell: &Cell) -> Option<Guess> {
    // Nothing makes another thing of text.
    if found == Some(Guess::Text) {
        return found;
    }
    match (found, guess(cell)) {
        (found, None) => found,
        (None, new) => new,
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(Guess::Date | Guess::DateTime), Some(Guess::Date | Guess::DateTime)) => Some(Guess::DateTime),
        _ => Some(Guess::Text),
    }
}

/// Reads a table and fills it into the stage; false for a table without a row of names.
fn fill(stage: &mut Stage, source: &mut dyn Source, at: usize, name: &str) -> Result<bool, SourceError> {
    let mut found: Vec<Option<Guess>> = Vec::new();
    let mut rows = 0u64;
    let names = source.read(at, &mut |row| {
        rows += 1;
        if rows > MAX_ROWS {
            return refused(format!("A file has at most {MAX_ROWS} rows"));
        }
        found.resize(found.len().max(row.len()), None);
        for (found, cell) in found.iter_mut().zip(row.iter()) {
            *found = narrowed(*found, cell);
        }
        Ok(())
    })?;
    if names.is_empty() && rows == 0 {
        return Ok(false);
    }
    let kind = |guess: Option<Guess>| match guess {
        Some(Guess::Number) => ColumnType::Number,
        Some(Guess::Date) => ColumnType::Date,
        Some(Guess::DateTime) => ColumnType::DateTime,
        Some(Guess::Text) | None => ColumnType::String,
    };
    // Rows may be wider than the names above them.
    let mut names = names;
    names.resize(names.len().max(found.len()), String::new());
    let columns: Vec<StageColumn> = unique(names)?
        .into_iter()
        .enumerate()
        .map(|(at, name)| StageColumn {
            kind: kind(found.get(at).copied().flatten()),
            name,
        })
        .collect();
    stage.table(name, &columns, |push| {
        source.read(at, &mut |row| {
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
            push(row)
        })?;
        Ok(())
    })?;
    Ok(true)
}
