//! Reports: what a template offers, what a saved report chose, the statements that fetch its rows, and snapshots of
//! them whose pages cost the same however deep they lie (DESIGN D10). Knows nothing of HTTP or accounts.
//!
//! Start at [`Template`] and [`SavedReport`], the documents; then [`query`], which makes statements of them,
//! [`source`], which runs those, [`run`], which does both, and [`snapshot`], which keeps what they found.

mod cell;
pub mod export;
mod load;
mod pdf;
mod progress;
pub mod query;
mod report;
mod run;
mod sample;
pub mod snapshot;
pub mod source;
mod starter;
mod template;

pub use cell::Cell;
pub use load::load;
pub use progress::{Progress, Stopped};
pub use report::{
    Chart, ChartKind, Choice, Chosen, DataSet, Filter, Op, Pivot, Range, SavedReport, Shown, Sort, Total,
    Values,
};
pub use run::{Destination, offered, preview, run, sample};
pub use sample::{MAX_SAMPLE_ROWS, REGISTRATIONS, sample_rows, stage_sample};
pub use starter::{FIRST_OWN_TEMPLATE, stage_own, starter};
pub use template::{
    Column, ColumnType, ENCKE, Names, Parameter, ParameterKind, Refused, SAMPLE, Template, Tree, name_in,
};
