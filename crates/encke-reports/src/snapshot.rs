//! Snapshots: all rows as ready-made JSON in one file, with a table of where each begins. A page is one read of a
//! slice, so every page costs the same, and all pages of one snapshot belong together.
//!
//! Layout: rows joined by commas, then an 8-byte little-endian offset a row and one for the end, then the number of
//! rows, then the magic word.

use crate::template::Column;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MAGIC: &[u8; 8] = b"ENCKERS1";
/// Name of the column with a row's number.
const RESULT_ID: &str = "#result_id#";

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

/// Writes a snapshot, whole or not at all. Rows are printed one by one, so memory does not grow with their number.
///
/// # Errors
/// The file can not be written.
pub fn write(
    path: &Path,
    columns: &[&Column],
    has_uid: bool,
    rows: impl Iterator<Item = Map<String, Value>>,
) -> Result<(), SnapshotError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&draft)?);
    let mut offsets: Vec<u64> = Vec::new();
    let mut at = 0u64;
    let mut text = Vec::new();
    for (number, row) in (1u64..).zip(rows) {
        text.clear();
        if number > 1 {
            text.push(b',');
        }
        offsets.push(at + u64::from(number > 1));
        print_row(&mut text, number, columns, has_uid, &row)?;
        out.write_all(&text)?;
        at += text.len() as u64;
    }
    let count = offsets.len() as u64;
    // One more offset, where the next row would begin.
    offsets.push(at + u64::from(count > 0));
    for offset in offsets {
        out.write_all(&offset.to_le_bytes())?;
    }
    out.write_all(&count.to_le_bytes())?;
    out.write_all(MAGIC)?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    fs::rename(&draft, path)?;
    Ok(())
}

fn print_row(
    out: &mut Vec<u8>,
    number: u64,
    columns: &[&Column],
    has_uid: bool,
    row: &Map<String, Value>,
) -> Result<(), SnapshotError> {
    let failed = |e: serde_json::Error| SnapshotError::File(e.into());
    write!(out, "{{\"{RESULT_ID}\":\"{number}\"")?;
    let ours: &[&str] = if has_uid {
        &["uid", "lastUpdateDateTime"]
    } else {
        &[]
    };
    for key in columns.iter().map(|c| c.key).chain(ours.iter().copied()) {
        out.push(b',');
        serde_json::to_writer(&mut *out, key).map_err(failed)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, row.get(key).unwrap_or(&Value::Null)).map_err(failed)?;
    }
    out.push(b'}');
    Ok(())
}

/// An open snapshot.
pub struct Snapshot {
    file: File,
    table: u64,
    /// Rows in all.
    pub rows: u64,
}

impl Snapshot {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// It does not exist or is damaged.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut end = [0; 16];
        file.read_exact_at(&mut end, length.checked_sub(16).ok_or(SnapshotError::Damaged)?)?;
        let (count, magic) = end.split_at(8);
        let rows = u64::from_le_bytes(count.try_into().map_err(|_| SnapshotError::Damaged)?);
        let table = rows
            .checked_add(1)
            .and_then(|n| n.checked_mul(8))
            .and_then(|n| (length - 16).checked_sub(n));
        if magic != MAGIC {
            return Err(SnapshotError::Damaged);
        }
        Ok(Self {
            file,
            table: table.ok_or(SnapshotError::Damaged)?,
            rows,
        })
    }

    fn offset(&self, row: u64) -> Result<u64, SnapshotError> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, self.table + row * 8)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The rows of a page, joined by commas; empty past the end.
    ///
    /// # Errors
    /// The file can not be read or is damaged.
    pub fn page(&self, page: u64, size: u64) -> Result<Vec<u8>, SnapshotError> {
        let first = page.saturating_mul(size);
        if first >= self.rows {
            return Ok(Vec::new());
        }
        let last = first.saturating_add(size).min(self.rows);
        // Without the comma that stands before the row after.
        let (from, to) = (
            self.offset(first)?,
            self.offset(last)?.checked_sub(1).ok_or(SnapshotError::Damaged)?,
        );
        let length = to
            .checked_sub(from)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or(SnapshotError::Damaged)?;
        if to > self.table {
            return Err(SnapshotError::Damaged);
        }
        let mut out = vec![0; length];
        self.file.read_exact_at(&mut out, from)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sample_rows, templates};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_page_is_the_naive_slice(rows in 0u64..80, page in 0u64..90, size in 1u64..40, seed in any::<u64>()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let columns: Vec<&Column> = templates()[0].columns.iter().collect();
            write(&path, &columns, true, sample_rows(rows, seed, "http://x")).unwrap();
            let snapshot = Snapshot::open(&path).unwrap();
            prop_assert_eq!(snapshot.rows, rows);
            let text = snapshot.page(page, size).unwrap();
            let found: Vec<Value> = serde_json::from_str(&format!("[{}]", String::from_utf8(text).unwrap())).unwrap();
            let expected: Vec<Value> = sample_rows(rows, seed, "http://x").zip(1u64..).map(|(mut r, n)| {
                r.insert(RESULT_ID.into(), n.to_string().into());
                Value::Object(r)
            }).skip(usize::try_from(page * size).unwrap()).take(usize::try_from(size).unwrap()).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_truncated_snapshot_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let columns: Vec<&Column> = templates()[0].columns.iter().collect();
        write(&path, &columns, true, sample_rows(5, 1, "")).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, 16, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(Snapshot::open(&path).is_err(), "{length}");
        }
    }
}
