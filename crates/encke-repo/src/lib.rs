//! The backup engine: repositories in restic's format, version 2, that stock `restic` reads and writes as well
//! (source: restic's public design document).
//!
//! | step | module |
//! | --- | --- |
//! | open or make a repository | [`Repository`] |
//! | back up | [`archive`]: walk, read and cut ([`chunker`]), hash, compress, seal ([`crypto`]), pack ([`pack`]) |
//! | restore | [`restore`]: each pack is read once |
//! | verify, and repair | [`check`], [`repair`] |
//! | choose what stays | [`retention`] |
//! | free what nothing needs | [`prune`] |
//!
//! This crate knows nothing of HTTP servers, accounts or the API.

mod alive;
#[cfg(test)]
mod arbitrary;
pub mod archive;
pub mod check;
pub mod chunker;
pub mod crypto;
mod error;
mod find;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gotext;
mod id;
mod index;
mod keys;
mod lock;
mod measure;
mod mount;
pub mod node;
mod owners;
mod pack;
mod packer;
mod polynomial;
mod progress;
mod protect;
pub mod prune;
mod range;
pub mod repair;
mod repository;
pub mod restore;
pub mod retention;
mod snapshot;
mod trees;
mod zeros;

pub use archive::{BackupOptions, BackupSummary, Exclude, Frozen, OpenStream};
pub use check::{CheckOptions, CheckReport, Sample};
pub use error::{RepoError, RepoResult};
pub use find::Hit;
pub use id::Id;
pub use keys::KeyInfo;
pub use measure::MAX_GROUPS;
pub use mount::Mounted;
pub use node::{Node, NodeType, Tree};
pub use progress::{Cancel, Progress, Warn};
pub use prune::{PruneOptions, PruneReport};
pub use range::FileReader;
pub use repository::{InitOptions, PACK_SIZES, Repository};
pub use restore::{Archive, ArchiveFormat, Overwrite, RestoreOptions, RestoreSummary};
pub use snapshot::Snapshot;
