//! File systems that stand still while their files are backed up: a read-only snapshot of each btrfs subvolume, or a
//! snapshot of an LVM volume, is read in place of the live files, and removed afterwards in every outcome.
//!
//! What is made is noted on disk beforehand, so that a process that died leaves nothing behind: the next start removes
//! it ([`clear`]). What can take no snapshot is read as it is, with a warning.

mod btrfs;
mod lvm;
mod mounts;

use super::Job;
use crate::error::{AgentError, AgentResult};
use crate::settings::write_private;
use encke_repo::Exclude;
use mounts::Mount;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of snapshots begin so. They are in no backup themselves.
pub(crate) const PREFIX: &str = ".encke-snapshot-";
/// Notes of what was made, and mount points, begin so in the agent's own folder.
const NOTE: &str = "frozen-";
/// Most snapshots for one backup; what lies beyond is read as it is.
const MAX_SNAPSHOTS: usize = 64;

/// A snapshot, as noted on disk.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Made {
    /// A subvolume.
    Btrfs { path: PathBuf },
    /// A volume (`group/name`), and where it is mounted.
    Lvm { volume: String, mounted: PathBuf },
}

impl Made {
    /// Takes it away; that it is gone already is as good.
    fn undo(&self) -> AgentResult<()> {
        match self {
            Made::Btrfs { path } => btrfs::remove(path),
            Made::Lvm { volume, mounted } => lvm::remove(volume, mounted),
        }
    }
}

/// A snapshot that exists, or is being made, and its note.
struct Kept {
    made: Made,
    note: PathBuf,
}

/// What stands still; let go when this is dropped.
pub(super) struct Frozen {
    job: Arc<Job>,
    /// Where to read.
    pub(super) places: Vec<encke_repo::Frozen>,
    kept: Vec<Kept>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for kept in self.kept.drain(..).rev() {
            match let_go(&kept.made, &kept.note) {
                Ok(()) => {}
                // The note stays, so the next start tries again.
                Err(e) => self.job.warning(&format!("A snapshot could not be removed: {e}")),
            }
        }
    }
}

fn let_go(made: &Made, note: &Path) -> AgentResult<()> {
    made.undo()?;
    fs::remove_file(note).map_err(|error| AgentError::File {
        path: note.to_path_buf(),
        error,
    })
}

/// A word that is nobody else's.
fn random_word() -> AgentResult<String> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|_| encke_api::account_keys::KeyError::Random)?;
    Ok(hex::encode(random))
}

impl Frozen {
    /// Notes a snapshot, then makes it. `word` is unique.
    fn make(&mut self, word: &str, made: Made, make: impl FnOnce() -> AgentResult<()>) -> AgentResult<()> {
        let folder = self.job.agent.data_dir.clone();
        let name = format!("{NOTE}{word}.json");
        let text = serde_json::to_vec(&made).map_err(|e| AgentError::Protocol(e.to_string()))?;
        write_private(&folder, &name, &text)?;
        let note = folder.join(name);
        if let Err(e) = make() {
            // What was made in part is removed with the others.
            if let Err(left) = let_go(&made, &note) {
                tracing::warn!(error = %left, "a snapshot that could not be made leaves something behind");
                self.kept.push(Kept { made, note });
            }
            return Err(e);
        }
        self.kept.push(Kept { made, note });
        Ok(())
    }

    fn read_at(&mut self, place: &Path, copy: &Path) {
        self.places.push(encke_repo::Frozen {
            place: place.to_path_buf(),
            copy: copy.to_path_buf(),
        });
    }

    /// What can not stand still is read as it is, and the job says so.
    fn read_live(&mut self, place: &Path, why: &AgentError) {
        self.read_at(place, place);
        self.job.warning(&format!(
            "{}: no snapshot could be taken, so its files are read as they are: {why}",
            place.display()
        ));
    }

    fn has_room(&self) -> AgentResult<()> {
        if self.kept.len() < MAX_SNAPSHOTS {
            return Ok(());
        }
        Err(AgentError::Invalid(format!(
            "one backup takes at most {MAX_SNAPSHOTS} snapshots"
        )))
    }
}

/// What a backup reads of a device.
struct Scope<'a> {
    paths: &'a [PathBuf],
    exclude: &'a Exclude,
}

impl Scope<'_> {
    /// Whether the backup enters a folder below one of its paths.
    fn enters(&self, folder: &Path) -> bool {
        self.paths.iter().any(|path| {
            folder.starts_with(path)
                && folder
                    .ancestors()
                    .take_while(|a| a.starts_with(path))
                    .all(|a| !(self.exclude)(a, true))
        })
    }
}

/// Makes everything that a backup reads stand still, as far as the file systems can.
pub(super) fn freeze(job: &Arc<Job>, paths: &[PathBuf], exclude: &Exclude) -> AgentResult<Frozen> {
    let mut frozen = Frozen {
        job: job.clone(),
        places: Vec::new(),
        kept: Vec::new(),
    };
    let scope = Scope { paths, exclude };
    for (mount, tops) in mounts::read_by(&mounts::table()?, &scope) {
        let is_asked_for = tops.iter().any(|top| paths.contains(top));
        let result = match mount.kind.as_str() {
            "btrfs" => freeze_btrfs(&mut frozen, &mount, &tops, &scope),
            _ => freeze_volume(&mut frozen, &mount),
        };
        let Err(e) = result else { continue };
        // Of file systems that are no disk's nobody expects it, unless they are named.
        if is_asked_for || mount.source.starts_with("/dev/") {
            frozen.read_live(&mount.point, &e);
        } else {
            frozen.read_at(&mount.point, &mount.point);
        }
    }
    Ok(frozen)
}

fn freeze_volume(frozen: &mut Frozen, mount: &Mount) -> AgentResult<()> {
    let volume = lvm::find(&mount.source, &[])?.ok_or_else(|| {
        AgentError::Invalid(format!(
            "{} on {} is neither btrfs nor a volume of LVM",
            mount.kind, mount.source
        ))
    })?;
    frozen.has_room()?;
    let word = random_word()?;
    let name = format!("encke_snapshot_{word}");
    let mounted = frozen.job.agent.data_dir.join(format!("{NOTE}{word}"));
    let made = Made::Lvm {
        volume: format!("{}/{name}", volume.group),
        mounted: mounted.clone(),
    };
    frozen.make(&word, made, || {
        lvm::snapshot(&volume, &name, &[])?;
        lvm::mount(&volume, &name, &mount.kind, &mounted)
    })?;
    let below = mount.root.strip_prefix("/").unwrap_or(&mount.root);
    frozen.read_at(&mount.point, &mounted.join(below));
    frozen.job.info(&format!(
        "Reading {} from a snapshot of the volume {}/{}",
        mount.point.display(),
        volume.group,
        volume.name
    ));
    Ok(())
}

fn freeze_btrfs(
    frozen: &mut Frozen,
    mount: &Mount,
    tops: &BTreeSet<PathBuf>,
    scope: &Scope,
) -> AgentResult<()> {
    let mut waiting = Vec::new();
    for top in tops {
        let found = btrfs::around(top, &mount.point);
        waiting
            .push(found.ok_or_else(|| AgentError::Invalid("only a part of a subvolume is mounted".into()))?);
    }
    while let Some(subvolume) = waiting.pop() {
        if frozen.places.iter().any(|p| p.place == subvolume) {
            continue;
        }
        match freeze_subvolume(frozen, &subvolume) {
            Ok(inner) => waiting.extend(inner.into_iter().filter(|path| scope.enters(path))),
            Err(e) => frozen.read_live(&subvolume, &e),
        }
    }
    Ok(())
}

/// Answers the subvolumes within, which the snapshot of one does not hold.
fn freeze_subvolume(frozen: &mut Frozen, subvolume: &Path) -> AgentResult<Vec<PathBuf>> {
    let inner = btrfs::within(subvolume)?;
    // One that nobody can write to stands still by itself.
    if btrfs::is_read_only(subvolume)? {
        frozen.read_at(subvolume, subvolume);
        return Ok(inner);
    }
    frozen.has_room()?;
    let word = random_word()?;
    let copy = subvolume.join(format!("{PREFIX}{word}"));
    let made = Made::Btrfs { path: copy.clone() };
    frozen.make(&word, made, || btrfs::snapshot(subvolume, &copy))?;
    frozen.read_at(subvolume, &copy);
    frozen.job.info(&format!(
        "Reading {} from a snapshot of the subvolume",
        subvolume.display()
    ));
    Ok(inner)
}

/// Removes what a process that died has left.
pub(crate) fn clear(data_dir: &Path) {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    for entry in entries {
        let note = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(NOTE) || !name.ends_with(".json") {
            continue;
        }
        let made = fs::read(&note).ok().and_then(|t| serde_json::from_slice(&t).ok());
        let Some(made): Option<Made> = made else {
            tracing::error!(note = %note.display(), "the note of a snapshot can not be read");
            continue;
        };
        match let_go(&made, &note) {
            Ok(()) => tracing::warn!(?made, "a snapshot that was left behind was removed"),
            Err(e) => {
                tracing::error!(error = %e, ?made, "a snapshot that was left behind could not be removed");
            }
        }
    }
}
