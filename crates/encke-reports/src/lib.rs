//! Reports: what a template offers, what a saved report chose, and snapshots of its rows whose pages cost the same
//! however deep they lie (DESIGN D10). Knows nothing of HTTP or accounts.

mod sample;
mod snapshot;
mod template;

pub use sample::{MAX_SAMPLE_ROWS, PERSONS, sample_rows};
pub use snapshot::{Snapshot, SnapshotError, write};
pub use template::{Column, ColumnType, DataSet, SavedReport, Template, templates};
