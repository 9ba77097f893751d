//! Rows into a file, gathered as text beside it until they are whole.

use super::{Page, Row, State, Target, cell, keys};
use anyhow::Context as _;
use encke_reports::{Cell, ColumnType, Shown, export};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// What the gathered rows become.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Csv,
    JsonLines,
    /// Gathered as JSON lines, for a part of a Parquet file can not be gone on with.
    Parquet,
}

/// A file of rows, gathered as text beside its name until it is whole.
pub(super) struct Text {
    path: PathBuf,
    part: PathBuf,
    kind: Kind,
    state: Option<State>,
}

impl Text {
    pub(super) fn open(into: &str, kind: Kind) -> Self {
        let beside = |end: &str| PathBuf::from(format!("{into}{end}"));
        Self {
            path: into.into(),
            part: beside(".part"),
            kind,
            state: fs::read(beside(".state"))
                .ok()
                .and_then(|t| serde_json::from_slice(&t).ok()),
        }
    }

    /// The gathered rows as a Parquet file.
    fn parquet(&self) -> anyhow::Result<()> {
        let columns = self.state.as_ref().map_or(&[][..], |s| &s.columns);
        let draft = self.path.with_extension("parquet.new");
        let rows = BufReader::new(File::open(&self.part)?);
        let file = File::create(&draft).with_context(|| draft.display().to_string())?;
        export::write_parquet(columns, file.try_clone()?, |push| {
            for line in rows.lines() {
                let row: Row = serde_json::from_str(&line?).map_err(std::io::Error::from)?;
                let cells: Vec<Cell> = columns.iter().map(|c| cell(&row, &c.key)).collect();
                push(&cells)?;
            }
            Ok(())
        })?;
        file.sync_all()?;
        fs::rename(draft, &self.path)?;
        fs::remove_file(&self.part)?;
        Ok(())
    }

    fn state_file(&self) -> PathBuf {
        // "x.csv.part" and "x.csv.state".
        self.part.with_extension("state")
    }
}

/// The columns of a page's rows with their types; what rows carry beside has that of its first value.
fn columns(page: &Page) -> Vec<Shown> {
    let kind = |key: &str| {
        let at = page.column_keys.iter().position(|k| k == key);
        let told = at.and_then(|at| page.column_types.get(at)).cloned();
        let first = page.results.first().map_or(Cell::Null, |row| cell(row, key));
        match (told, first) {
            (Some(told), _) => serde_json::from_value(told.into()).unwrap_or(ColumnType::String),
            (None, _) if key == "lastUpdateDateTime" => ColumnType::DateTime,
            (None, Cell::Int(_) | Cell::Number(_)) => ColumnType::Number,
            (None, _) => ColumnType::String,
        }
    };
    let shown = |key: String| Shown {
        kind: kind(&key),
        name: key.clone(),
        key,
    };
    keys(page).into_iter().map(shown).collect()
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_string()
}

impl Target for Text {
    fn broken_off(&mut self) -> Option<State> {
        let length = fs::metadata(&self.part).ok()?.len();
        self.state.clone().filter(|s| s.bytes <= length)
    }

    fn newest(&mut self) -> anyhow::Result<Option<i64>> {
        Ok(None)
    }

    fn begin(&mut self, page: &Page, _: &State) -> anyhow::Result<()> {
        let mut file = File::create(&self.part).with_context(|| self.part.display().to_string())?;
        if self.kind == Kind::Csv {
            let names: Vec<String> = keys(page).iter().map(|k| field(k)).collect();
            writeln!(file, "{}", names.join(","))?;
        }
        self.state = Some(State {
            bytes: file.metadata()?.len(),
            columns: columns(page),
            ..State::default()
        });
        Ok(())
    }

    fn put(&mut self, page: &Page, state: &State) -> anyhow::Result<()> {
        let good = self.state.as_ref().map_or(0, |s| s.bytes);
        let file = File::options().write(true).open(&self.part)?;
        // What a broken-off pull wrote of its last page.
        file.set_len(good)?;
        let mut out = BufWriter::new(file);
        std::io::Seek::seek(&mut out, std::io::SeekFrom::End(0))?;
        let keys = keys(page);
        for row in &page.results {
            if self.kind == Kind::Csv {
                let fields: Vec<String> = keys.iter().map(|k| field(&cell(row, k).text())).collect();
                writeln!(out, "{}", fields.join(","))?;
            } else {
                serde_json::to_writer(&mut out, row)?;
                out.write_all(b"\n")?;
            }
        }
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let state = State {
            bytes: file.metadata()?.len(),
            columns: self.state.take().map_or_else(Vec::new, |s| s.columns),
            ..state.clone()
        };
        replace(&self.state_file(), &serde_json::to_vec(&state)?)?;
        self.state = Some(state);
        Ok(())
    }

    fn finish(&mut self, _: &State) -> anyhow::Result<()> {
        match self.kind {
            Kind::Parquet => self.parquet()?,
            _ => fs::rename(&self.part, &self.path)?,
        }
        fs::remove_file(self.state_file())?;
        Ok(())
    }
}

fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut draft = path.to_path_buf().into_os_string();
    draft.push(".new");
    fs::write(&draft, content)?;
    fs::rename(draft, path)?;
    Ok(())
}
