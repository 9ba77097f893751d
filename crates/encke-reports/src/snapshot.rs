//! Snapshots: all rows as ready-made JSON in one file, with a table of where each begins. A page is one read of a
//! slice, so every page costs the same, and all pages of one snapshot belong together.
//!
//! Layout: rows joined by commas; an 8-byte little-endian offset a row and one for the end; if rows have a time of
//! their last change, that time of each in 8 bytes; the description of the columns as JSON; then the lengths of these
//! and the magic word. Tables are read where they lie on disk, and written by way of files, so that memory does not
//! grow with the number of rows.

use crate::cell::Cell;
use crate::report::Shown;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ENCKERS2";
/// Length of what stands at the end: rows, changes (0 or 1), length of the description, magic word.
const TAIL: u64 = 32;
/// Name of the column with a row's number.
const RESULT_ID: &str = "#result_id#";
/// Stands in the table of changes for a row without a time.
const NEVER: i64 = i64::MIN;

/// Why a snapshot can not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system.
    #[error("report snapshot: {0}")]
    File(#[from] io::Error),
    /// The file is not a whole snapshot.
    #[error("report snapshot is damaged")]
    Damaged,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Columns, in order; names in no particular language.
    pub columns: Vec<Shown>,
    /// Rows carry `uid`.
    pub has_uid: bool,
    /// Rows carry `lastUpdateDateTime`.
    pub has_updated: bool,
    /// Made of the values of a column.
    pub pivot: bool,
}

/// A snapshot being written: whole or not at all. Rows are printed one by one.
pub struct Writer {
    path: PathBuf,
    draft: PathBuf,
    out: BufWriter<File>,
    /// Offsets, and times of change: each in a file without a name until they are appended.
    offsets: BufWriter<File>,
    changes: Option<BufWriter<File>>,
    description: Description,
    /// The keys as they stand before each value.
    keys: Vec<Vec<u8>>,
    text: Vec<u8>,
    at: u64,
    rows: u64,
    digest: Sha256,
}

fn nameless(beside: &Path) -> io::Result<BufWriter<File>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(beside)?;
    fs::remove_file(beside)?;
    Ok(BufWriter::with_capacity(1 << 18, file))
}

impl Writer {
    /// Begins a snapshot. It gets its final name from [`Writer::finish`].
    ///
    /// # Errors
    /// The file can not be made.
    pub fn create(folder: &Path, name: &str, description: Description) -> Result<Self, SnapshotError> {
        fs::create_dir_all(folder)?;
        let path = folder.join(name);
        let draft = path.with_extension("new");
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let ours = [
            (description.has_uid, "uid"),
            (description.has_updated, "lastUpdateDateTime"),
        ];
        let ours = ours.iter().filter(|(there, _)| *there).map(|(_, key)| *key);
        for key in description.columns.iter().map(|c| c.key.as_str()).chain(ours) {
            let mut text = b",".to_vec();
            serde_json::to_writer(&mut text, key).map_err(io::Error::from)?;
            text.push(b':');
            keys.push(text);
        }
        Ok(Self {
            out: BufWriter::with_capacity(1 << 20, File::create(&draft)?),
            offsets: nameless(&path.with_extension("offsets"))?,
            changes: match description.has_updated {
                true => Some(nameless(&path.with_extension("changes"))?),
                false => None,
            },
            path,
            draft,
            description,
            keys,
            text: Vec::new(),
            at: 0,
            rows: 0,
            digest: Sha256::new(),
        })
    }

    /// Adds a row: a value a column, then `uid` and the time of the last change where rows have them.
    ///
    /// # Errors
    /// The disk is full.
    pub fn push(&mut self, row: &[Cell]) -> Result<(), SnapshotError> {
        self.text.clear();
        if self.rows > 0 {
            self.text.push(b',');
        }
        let begin = self.at + self.text.len() as u64;
        self.offsets.write_all(&begin.to_le_bytes())?;
        self.rows += 1;
        write!(self.text, "{{\"{RESULT_ID}\":\"{}\"", self.rows)?;
        for (key, cell) in self.keys.iter().zip(row) {
            self.text.extend_from_slice(key);
            cell.print(&mut self.text);
        }
        self.text.push(b'}');
        if let Some(changes) = &mut self.changes {
            let changed = match row.get(self.keys.len() - 1) {
                Some(Cell::Int(ms)) => *ms,
                _ => NEVER,
            };
            changes.write_all(&changed.to_le_bytes())?;
        }
        self.digest.update(&self.text);
        self.out.write_all(&self.text)?;
        self.at += self.text.len() as u64;
        Ok(())
    }

    /// Makes it whole. Its name gets the hash of its content added, so equal rows have equal names; answers the path.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(mut self) -> Result<PathBuf, SnapshotError> {
        // One more offset, where the next row would begin.
        let end = self.at + u64::from(self.rows > 0);
        self.offsets.write_all(&end.to_le_bytes())?;
        for table in [Some(self.offsets), self.changes].into_iter().flatten() {
            let mut file = table.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            io::copy(&mut BufReader::with_capacity(1 << 18, file), &mut self.out)?;
        }
        let description = serde_json::to_vec(&self.description).map_err(io::Error::from)?;
        self.digest.update(&description);
        self.out.write_all(&description)?;
        for number in [
            self.rows,
            u64::from(self.description.has_updated),
            description.len() as u64,
        ] {
            self.out.write_all(&number.to_le_bytes())?;
        }
        self.out.write_all(MAGIC)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let hash = hex::encode(&self.digest.finalize()[..8]);
        let name = self
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let path = self.path.with_file_name(format!("{name}-{hash}.rows"));
        fs::rename(&self.draft, &path)?;
        Ok(path)
    }

    /// Takes away what was written: nobody is going to finish it.
    pub fn abandon(self) {
        let _ = fs::remove_file(&self.draft);
    }
}

/// The rows of a snapshot that changed since some time, by their numbers from 0.
pub struct Changed(Vec<u32>);

impl Changed {
    /// How many there are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.len() as u64
    }
}

/// An open snapshot.
pub struct Snapshot {
    file: File,
    table: u64,
    /// Rows in all.
    pub rows: u64,
    /// Its columns.
    pub description: Description,
}

impl Snapshot {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// It does not exist or is damaged.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let tail_at = length.checked_sub(TAIL).ok_or(SnapshotError::Damaged)?;
        let mut tail = [0; 32];
        file.read_exact_at(&mut tail, tail_at)?;
        let number = |at: usize| u64::from_le_bytes(tail[at * 8..at * 8 + 8].try_into().unwrap_or_default());
        let (rows, changes, described) = (number(0), number(1), number(2));
        let tables = rows
            .checked_add(1)
            .and_then(|n| n.checked_add(rows.checked_mul(changes)?))
            .and_then(|n| n.checked_mul(8));
        let description_at = tail_at.checked_sub(described);
        let table = description_at
            .zip(tables)
            .and_then(|(at, tables)| at.checked_sub(tables));
        let (Some(table), Some(description_at)) = (table, description_at) else {
            return Err(SnapshotError::Damaged);
        };
        if tail[24..] != MAGIC[..] || changes > 1 || described > 1 << 20 {
            return Err(SnapshotError::Damaged);
        }
        let mut description = vec![0; usize::try_from(described).map_err(|_| SnapshotError::Damaged)?];
        file.read_exact_at(&mut description, description_at)?;
        Ok(Self {
            file,
            table,
            rows,
            description: serde_json::from_slice(&description).map_err(|_| SnapshotError::Damaged)?,
        })
    }

    /// Where the rows from `row` on begin, for `count` rows and the one after.
    fn offsets(&self, row: u64, count: u64) -> Result<Vec<u64>, SnapshotError> {
        let bytes = usize::try_from((count + 1) * 8).map_err(|_| SnapshotError::Damaged)?;
        let mut bytes = vec![0; bytes];
        self.file.read_exact_at(&mut bytes, self.table + row * 8)?;
        let number = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or_default());
        Ok(bytes.chunks_exact(8).map(number).collect())
    }

    /// The bytes between two offsets, without the comma before the second.
    fn slice(&self, from: u64, next: u64, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let to = next.checked_sub(1).filter(|to| *to <= self.table);
        let length = to
            .and_then(|to| to.checked_sub(from))
            .and_then(|n| usize::try_from(n).ok());
        let length = length.ok_or(SnapshotError::Damaged)?;
        let at = out.len();
        out.resize(at + length, 0);
        self.file.read_exact_at(&mut out[at..], from)?;
        Ok(())
    }

    /// Appends the rows of a page, joined by commas; nothing past the end.
    ///
    /// # Errors
    /// The file can not be read or is damaged.
    pub fn page(&self, page: u64, size: u64, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let first = page.saturating_mul(size);
        if first >= self.rows {
            return Ok(());
        }
        let last = first.saturating_add(size).min(self.rows);
        let (from, next) = (self.offsets(first, 0)?[0], self.offsets(last, 0)?[0]);
        self.slice(from, next, out)
    }

    /// The rows that changed at a time or later, and those whose time is not known; `None` when rows have no time.
    ///
    /// # Errors
    /// The file can not be read.
    pub fn changed_since(&self, since: i64) -> Result<Option<Changed>, SnapshotError> {
        if !self.description.has_updated {
            return Ok(None);
        }
        let begin = self.table + (self.rows + 1) * 8;
        let mut found = Vec::new();
        let mut buffer = vec![0u8; 1 << 20];
        let mut row = 0u64;
        while row < self.rows {
            let count = (self.rows - row).min(buffer.len() as u64 / 8);
            let bytes = &mut buffer[..usize::try_from(count * 8).map_err(|_| SnapshotError::Damaged)?];
            self.file.read_exact_at(bytes, begin + row * 8)?;
            for (number, ms) in (row..).zip(bytes.chunks_exact(8)) {
                let ms = i64::from_le_bytes(ms.try_into().unwrap_or_default());
                if ms >= since || ms == NEVER {
                    found.push(u32::try_from(number).map_err(|_| SnapshotError::Damaged)?);
                }
            }
            row += count;
        }
        Ok(Some(Changed(found)))
    }

    /// Appends the rows of a page of some of the rows.
    ///
    /// # Errors
    /// The file can not be read or is damaged.
    pub fn page_of(
        &self,
        changed: &Changed,
        page: u64,
        size: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SnapshotError> {
        let first = usize::try_from(page.saturating_mul(size)).unwrap_or(usize::MAX);
        let rows = changed.0.get(first..).unwrap_or_default();
        for (at, row) in rows
            .iter()
            .take(usize::try_from(size).unwrap_or(usize::MAX))
            .enumerate()
        {
            if at > 0 {
                out.push(b',');
            }
            let ends = self.offsets(u64::from(*row), 1)?;
            self.slice(ends[0], ends[1], out)?;
        }
        Ok(())
    }

    /// The first so many rows, one after the other, each as its values in the order of the columns.
    ///
    /// # Errors
    /// The file is damaged, or `on_row` fails.
    pub fn each<E: From<SnapshotError>>(
        &self,
        most: u64,
        mut on_row: impl FnMut(&[Cell]) -> Result<(), E>,
    ) -> Result<(), E> {
        /// Rows that are read at once.
        const BATCH: u64 = 1000;
        let mut text = Vec::new();
        let mut cells = Vec::with_capacity(self.description.columns.len());
        let most = most.min(self.rows);
        for page in 0..most.div_ceil(BATCH) {
            text.clear();
            text.push(b'[');
            self.page(page, BATCH, &mut text)?;
            text.push(b']');
            let rows: Vec<std::collections::HashMap<String, &serde_json::value::RawValue>> =
                serde_json::from_slice(&text).map_err(|_| SnapshotError::Damaged)?;
            let left = usize::try_from(most - page * BATCH).unwrap_or(usize::MAX);
            for row in rows.into_iter().take(left) {
                cells.clear();
                for column in &self.description.columns {
                    let raw = row.get(&column.key).map_or("null", |r| r.get());
                    cells.push(match raw.as_bytes().first() {
                        Some(b'"') => {
                            Cell::Text(serde_json::from_str(raw).map_err(|_| SnapshotError::Damaged)?)
                        }
                        Some(b'n') | None => Cell::Null,
                        Some(_) => Cell::number(raw),
                    });
                }
                on_row(&cells)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sample_rows, starter};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn sample(folder: &Path, rows: u64, seed: u64) -> PathBuf {
        let template = starter().iter().find(|t| t.id == crate::REGISTRATIONS).unwrap();
        let columns = template.columns.iter().map(|c| Shown {
            key: c.key.clone(),
            name: c.key.clone(),
            kind: c.kind,
        });
        let description = Description {
            columns: columns.collect(),
            has_uid: true,
            has_updated: true,
            pivot: false,
        };
        let mut writer = Writer::create(folder, "s", description).unwrap();
        for row in sample_rows("registrations", rows, seed, "http://x") {
            writer.push(&row).unwrap();
        }
        writer.finish().unwrap()
    }

    fn rows_of(text: &[u8]) -> Vec<Value> {
        serde_json::from_str(&format!("[{}]", std::str::from_utf8(text).unwrap())).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_page_is_the_naive_slice(rows in 0u64..80, page in 0u64..90, size in 1u64..40, seed in any::<u64>()) {
            let folder = tempfile::tempdir().unwrap();
            let snapshot = Snapshot::open(&sample(folder.path(), rows, seed)).unwrap();
            prop_assert_eq!(snapshot.rows, rows);
            let keys: Vec<&str> = snapshot.description.columns.iter().map(|c| c.key.as_str())
                .chain(["uid", "lastUpdateDateTime"]).collect();
            let all: Vec<Value> = sample_rows("registrations", rows, seed, "http://x").zip(1u64..).map(|(row, n)| {
                let mut object = json!({ "#result_id#": n.to_string() });
                for (key, cell) in keys.iter().zip(&row) {
                    object[*key] = serde_json::to_value(cell).unwrap();
                }
                object
            }).collect();
            let (skip, take) = (usize::try_from(page * size).unwrap(), usize::try_from(size).unwrap());
            let mut text = Vec::new();
            snapshot.page(page, size, &mut text).unwrap();
            let expected: Vec<Value> = all.iter().skip(skip).take(take).cloned().collect();
            prop_assert_eq!(rows_of(&text), expected);
            // The same of those that changed since the middle one did.
            let since = all.get(all.len() / 2).map_or(0, |r| r["lastUpdateDateTime"].as_i64().unwrap());
            let changed = snapshot.changed_since(since).unwrap().unwrap();
            let newer = || all.iter().filter(|r| r["lastUpdateDateTime"].as_i64().unwrap() >= since);
            prop_assert_eq!(changed.rows(), newer().count() as u64);
            text.clear();
            snapshot.page_of(&changed, page, size, &mut text).unwrap();
            let expected: Vec<Value> = newer().skip(skip).take(take).cloned().collect();
            prop_assert_eq!(rows_of(&text), expected);
            // And every row as cells.
            let mut count = 0;
            snapshot.each::<SnapshotError>(rows, |cells| {
                let row = &all[count];
                for (cell, key) in cells.iter().zip(&keys) {
                    assert_eq!(&serde_json::to_value(cell).unwrap(), &row[*key]);
                }
                count += 1;
                Ok(())
            }).unwrap();
            prop_assert_eq!(count, all.len());
        }
    }

    #[test]
    fn equal_rows_have_equal_names() {
        let folder = tempfile::tempdir().unwrap();
        let names = [1, 1, 2].map(|seed| sample(folder.path(), 5, seed));
        assert_eq!(names[0], names[1]);
        assert_ne!(names[0], names[2]);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "nothing but the snapshots stays");
    }

    #[test]
    fn a_truncated_snapshot_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = sample(folder.path(), 5, 1);
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, 16, 32, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(Snapshot::open(&path).is_err(), "{length}");
        }
    }
}
