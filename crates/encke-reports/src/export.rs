//! A snapshot as a file: CSV, XLSX, PDF or Parquet. Rows go out one after the other; memory does not grow with their number.

use crate::cell::Cell;
use crate::pdf::to_pdf;
use crate::progress::{Progress, Stopped};
use crate::report::Shown;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::template::ColumnType;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

const DAY: i64 = 86_400_000;
/// Rows of a sheet that programs for them can open, the line of names included.
const MAX_SHEET: u64 = 1_048_576;
/// Most rows of a document: some ten thousand pages.
const MAX_DOCUMENT: u64 = 1_000_000;
/// Rows by which a document's columns are made as wide as they need to be.
const MEASURED: u64 = 1000;
/// Rows that are gathered for a part of a Parquet file.
const ROW_GROUP: usize = 50_000;

/// Kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values (RFC 4180), with a mark of UTF-8 in front, which Excel needs.
    Csv,
    /// Office Open XML workbook (ECMA-376) of one sheet.
    Xlsx,
    /// Portable Document Format.
    Pdf,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "csv" => Some(Self::Csv),
            "xlsx" => Some(Self::Xlsx),
            "pdf" => Some(Self::Pdf),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Its name, which is also the end of a file's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Pdf => "pdf",
            Self::Parquet => "parquet",
        }
    }

    /// Media type.
    #[must_use]
    pub fn media(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Pdf => "application/pdf",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Why a file can not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshot.
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    /// The file.
    #[error("{0}")]
    File(#[from] io::Error),
    /// More rows than a sheet has.
    #[error("A sheet has at most {MAX_SHEET} rows: filter the report, or take CSV or Parquet")]
    TooLong,
    /// More rows than anybody reads.
    #[error("A document has at most {MAX_DOCUMENT} rows: filter the report, or take CSV or Parquet")]
    TooManyPages,
    /// Somebody stopped it.
    #[error("{0}")]
    Stopped(#[from] Stopped),
}

impl From<parquet::errors::ParquetError> for ExportError {
    fn from(e: parquet::errors::ParquetError) -> Self {
        Self::File(io::Error::other(e))
    }
}

impl From<zip::result::ZipError> for ExportError {
    fn from(e: zip::result::ZipError) -> Self {
        Self::File(e.into())
    }
}

impl From<csv::Error> for ExportError {
    fn from(e: csv::Error) -> Self {
        Self::File(e.into())
    }
}

/// What a file needs to know beside rows and columns.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    /// Kind of file.
    pub format: Format,
    /// The report's name.
    pub title: &'a str,
    /// Replaces the first by the second at the beginning of addresses of pictures.
    pub pictures: (&'a str, &'a str),
    /// Counts the rows.
    pub progress: &'a Progress,
}

/// Writes a snapshot with these names of columns.
///
/// # Errors
/// See [`ExportError`].
pub fn export(
    snapshot: &Snapshot,
    columns: &[Shown],
    how: Export<'_>,
    out: std::fs::File,
) -> Result<(), ExportError> {
    let pictures = how.pictures;
    let placed = |row: &[Cell], on_row: &mut dyn FnMut(&[Cell]) -> Result<(), ExportError>| {
        let has_picture = |c: &Cell| matches!(c, Cell::Text(t) if t.starts_with(pictures.0));
        if !row.iter().any(has_picture) {
            return on_row(row);
        }
        let mut row = row.to_vec();
        for cell in row.iter_mut().filter(|c| has_picture(c)) {
            *cell = Cell::Text(cell.text().replacen(pictures.0, pictures.1, 1));
        }
        on_row(&row)
    };
    let each = |on_row: &mut dyn FnMut(&[Cell]) -> Result<(), ExportError>| {
        snapshot.each(snapshot.rows, |row| {
            how.progress.row()?;
            placed(row, on_row)
        })
    };
    match how.format {
        Format::Csv => to_csv(columns, BufWriter::new(out), each),
        Format::Xlsx if snapshot.rows >= MAX_SHEET => Err(ExportError::TooLong),
        Format::Xlsx => to_xlsx(columns, out, each),
        Format::Pdf if snapshot.rows > MAX_DOCUMENT => Err(ExportError::TooManyPages),
        Format::Pdf => {
            let first = |on_row: &mut dyn FnMut(&[Cell]) -> Result<(), ExportError>| {
                snapshot.each(MEASURED.min(snapshot.rows), |row| placed(row, on_row))
            };
            let now = jiff::Timestamp::now();
            to_pdf(columns, how.title, now, BufWriter::new(out), first, each)
        }
        Format::Parquet => write_parquet(columns, out, each),
    }
}

fn time(ms: i64, kind: ColumnType) -> String {
    let Ok(stamp) = jiff::Timestamp::from_millisecond(ms) else {
        return ms.to_string();
    };
    match kind {
        ColumnType::Date => stamp.strftime("%Y-%m-%d").to_string(),
        _ => stamp.to_string(),
    }
}

fn to_csv(
    columns: &[Shown],
    mut out: impl Write,
    each: impl FnOnce(&mut dyn FnMut(&[Cell]) -> Result<(), ExportError>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    out.write_all("\u{feff}".as_bytes())?;
    let mut out = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(out);
    out.write_record(columns.iter().map(|c| plain(&c.name).into_owned()))?;
    each(&mut |row| {
        for (cell, column) in row.iter().zip(columns) {
            match cell {
                Cell::Int(ms) if column.kind.is_time() => out.write_field(time(*ms, column.kind))?,
                Cell::Text(text) => out.write_field(plain(text).as_bytes())?,
                cell => out.write_field(cell.text())?,
            }
        }
        out.write_record(None::<&[u8]>)?;
        Ok(())
    })?;
    out.flush()?;
    Ok(())
}

/// Text that a spreadsheet does not take for a formula (OWASP, "CSV Injection").
fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}").into(),
        false => text.into(),
    }
}

/// Text inside XML, without the characters that XML can not hold.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            c => out.push(c),
        }
    }
}

/// The parts of a workbook that are always the same. Styles: 1 bold, 2 a day, 3 a point in time.
const PARTS: [(&str, &str); 5] = [
    (
        "[Content_Types].xml",
        r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/></Types>"#,
    ),
    (
        "_rels/.rels",
        r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
    ),
    (
        "xl/workbook.xml",
        r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Report" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
    ),
    (
        "xl/_rels/workbook.xml.rels",
        r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>"#,
    ),
    (
        "xl/styles.xml",
        r#"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/><name val="Calibri"/></font></fonts><fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills><borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="4"><xf/><xf fontId="1" applyFont="1"/><xf numFmtId="14" applyNumberFormat="1"/><xf numFmtId="22" applyNumberFormat="1"/></cellXfs></styleSheet>"#,
    ),
];

fn to_xlsx(
    columns: &[Shown],
    out: std::fs::File,
    each: impl FnOnce(&mut dyn FnMut(&[Cell]) -> Result<(), ExportError>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;
    /// Days from Excel's first day to 1970.
    const EPOCH: i64 = 25_569;
    let mut pack = zip::ZipWriter::new(BufWriter::new(out));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, text) in PARTS {
        pack.start_file(name, options)?;
        write!(pack, "{HEAD}{text}")?;
    }
    pack.start_file("xl/worksheets/sheet1.xml", options.large_file(true))?;
    write!(
        pack,
        r#"{HEAD}<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><sheetData>"#
    )?;
    let mut text = String::from("<row>");
    let string = |value: &str, style: &str, text: &mut String| {
        text.push_str(&format!(
            r#"<c{style} t="inlineStr"><is><t xml:space="preserve">"#
        ));
        escape(value, text);
        text.push_str("</t></is></c>");
    };
    for column in columns {
        string(&column.name, r#" s="1""#, &mut text);
    }
    text.push_str("</row>");
    pack.write_all(text.as_bytes())?;
    each(&mut |row| {
        use std::fmt::Write as _;
        text.clear();
        text.push_str("<row>");
        for (cell, column) in row.iter().zip(columns) {
            match cell {
                Cell::Null => text.push_str("<c/>"),
                Cell::Int(ms) if column.kind.is_time() => {
                    // Days before 1 March 1900 are not the same to all programs: they go as text.
                    if ms.div_euclid(DAY) + EPOCH < 61 {
                        string(&time(*ms, column.kind), "", &mut text);
                        continue;
                    }
                    let style = if column.kind == ColumnType::Date { 2 } else { 3 };
                    #[allow(clippy::cast_precision_loss)]
                    let days = *ms as f64 / 86_400_000.0 + 25_569.0;
                    let _ = write!(text, r#"<c s="{style}"><v>{days}</v></c>"#);
                }
                // A sheet keeps 15 digits of a number.
                Cell::Int(n) if n.unsigned_abs() >= 1_000_000_000_000_000 => {
                    string(&n.to_string(), "", &mut text)
                }
                Cell::Int(n) => {
                    let _ = write!(text, "<c><v>{n}</v></c>");
                }
                Cell::Number(n) => {
                    let _ = write!(text, "<c><v>{n}</v></c>");
                }
                Cell::Text(value) => string(value, "", &mut text),
            }
        }
        text.push_str("</row>");
        pack.write_all(text.as_bytes())?;
        Ok(())
    })?;
    pack.write_all(b"</sheetData></worksheet>")?;
    pack.finish()?.flush()?;
    Ok(())
}

fn parquet_type(column: &Shown) -> Result<Type, ExportError> {
    let of =
        |physical| Type::primitive_type_builder(&column.key, physical).with_repetition(Repetition::OPTIONAL);
    let built = match column.kind {
        ColumnType::Number | ColumnType::Amount => of(Physical::DOUBLE),
        ColumnType::Date => of(Physical::INT32).with_logical_type(Some(LogicalType::Date)),
        ColumnType::DateTime => of(Physical::INT64).with_logical_type(Some(LogicalType::Timestamp {
            is_adjusted_to_u_t_c: true,
            unit: TimeUnit::MILLIS,
        })),
        ColumnType::String | ColumnType::ImageLink => {
            of(Physical::BYTE_ARRAY).with_converted_type(ConvertedType::UTF8)
        }
    };
    Ok(built.build()?)
}

/// Writes a Parquet file of the rows that `each` hands over, a value a column.
///
/// # Errors
/// The disk is full, or `each` fails.
pub fn write_parquet(
    columns: &[Shown],
    out: std::fs::File,
    each: impl FnOnce(&mut dyn FnMut(&[Cell]) -> Result<(), ExportError>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let fields: Result<Vec<_>, _> = columns.iter().map(|c| parquet_type(c).map(Arc::new)).collect();
    let schema = Type::group_type_builder("report").with_fields(fields?).build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer = SerializedFileWriter::new(BufWriter::new(out), Arc::new(schema), Arc::new(properties))?;
    let mut gathered: Vec<Vec<Cell>> = Vec::new();
    each(&mut |row| {
        gathered.push(row.to_vec());
        if gathered.len() >= ROW_GROUP {
            write_group(&mut writer, &gathered)?;
            gathered.clear();
        }
        Ok(())
    })?;
    if !gathered.is_empty() {
        write_group(&mut writer, &gathered)?;
    }
    writer.close()?;
    Ok(())
}

/// Writes the values of a column whose cells may be empty.
fn write_column<T: DataType>(
    writer: &mut ColumnWriterImpl<'_, T>,
    cells: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ExportError> {
    let cells: Vec<Option<T::T>> = cells.collect();
    let levels: Vec<i16> = cells.iter().map(|c| i16::from(c.is_some())).collect();
    let values: Vec<T::T> = cells.into_iter().flatten().collect();
    writer.write_batch(&values, Some(&levels), None)?;
    Ok(())
}

fn write_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    rows: &[Vec<Cell>],
) -> Result<(), ExportError> {
    let mut group = writer.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        let cells = || rows.iter().map(|r| r.get(at).unwrap_or(&Cell::Null));
        match column.untyped() {
            ColumnWriter::DoubleColumnWriter(w) => write_column(w, cells().map(|c| c.text().parse().ok()))?,
            ColumnWriter::Int32ColumnWriter(w) => {
                let day = |c: &Cell| match c {
                    Cell::Int(ms) => i32::try_from(ms.div_euclid(DAY)).ok(),
                    _ => None,
                };
                write_column(w, cells().map(day))?;
            }
            ColumnWriter::Int64ColumnWriter(w) => {
                let ms = |c: &Cell| match c {
                    Cell::Int(ms) => Some(*ms),
                    _ => None,
                };
                write_column(w, cells().map(ms))?;
            }
            ColumnWriter::ByteArrayColumnWriter(w) => {
                let text = |c: &Cell| (*c != Cell::Null).then(|| ByteArray::from(c.text().into_bytes()));
                write_column(w, cells().map(text))?;
            }
            _ => {}
        }
        column.close()?;
        at += 1;
    }
    group.close()?;
    Ok(())
}
