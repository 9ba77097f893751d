//! Compares two folders: every name, byte and attribute that a restore promises to bring back.

use anyhow::{Context as _, bail};
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What was compared.
#[derive(Default)]
pub struct Compared {
    /// Entries of every kind.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Compares two folders.
///
/// # Errors
/// Names the first difference.
pub fn folders(a: &Path, b: &Path, seen: &mut Compared) -> anyhow::Result<()> {
    let (ma, mb) = (meta(a)?, meta(b)?);
    attributes(a, b, &ma, &mb)?;
    seen.entries += 1;
    if ma.is_dir() {
        let (na, nb) = (names(a)?, names(b)?);
        if na != nb {
            bail!("{} and {} do not have the same entries", a.display(), b.display());
        }
        for name in na {
            folders(&a.join(&name), &b.join(&name), seen)?;
        }
    } else if ma.is_symlink() {
        if fs::read_link(a)? != fs::read_link(b)? {
            bail!("{} and {} point elsewhere", a.display(), b.display());
        }
    } else if ma.is_file() {
        content(a, b)?;
        seen.bytes += ma.len();
    }
    Ok(())
}

fn meta(path: &Path) -> anyhow::Result<Metadata> {
    fs::symlink_metadata(path).with_context(|| path.display().to_string())
}

fn names(path: &Path) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let mut names: Vec<_> = fs::read_dir(path)?
        .map(|e| Ok(e?.file_name()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn attributes(a: &Path, b: &Path, ma: &Metadata, mb: &Metadata) -> anyhow::Result<()> {
    let of = |m: &Metadata| {
        let size = if m.is_file() { m.len() } else { 0 };
        (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec(), size)
    };
    if of(ma) != of(mb) {
        bail!(
            "{} and {} differ in mode, owner, time or size: {:?} {:?}",
            a.display(),
            b.display(),
            of(ma),
            of(mb)
        );
    }
    Ok(())
}

fn content(a: &Path, b: &Path) -> anyhow::Result<()> {
    let (mut fa, mut fb) = (File::open(a)?, File::open(b)?);
    let (mut ba, mut bb) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = fa.read(&mut ba)?;
        if n == 0 {
            return if fb.read(&mut bb)? == 0 {
                Ok(())
            } else {
                bail!("{} is longer", b.display())
            };
        }
        fb.read_exact(&mut bb[..n])
            .with_context(|| format!("{} is shorter", b.display()))?;
        if ba[..n] != bb[..n] {
            bail!("{} and {} have different content", a.display(), b.display());
        }
    }
}
