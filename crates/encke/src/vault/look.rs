//! `encke vault dump` and `encke vault find`: out of snapshots without restoring them.

use super::{VaultArgs, open};
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use encke_repo::repair::shown;
use encke_repo::{Archive, ArchiveFormat, Cancel, NodeType, Progress, RestoreOptions};
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    Tar,
    #[value(name = "tar.gz")]
    TarGz,
    #[value(name = "tar.zst")]
    TarZst,
    Zip,
}

/// What to write, and where.
#[derive(clap::Args)]
pub struct DumpArgs {
    /// Id, beginning of an id, or `latest`.
    snapshot: String,
    /// Full path inside the snapshot: a file, or a folder, which becomes an archive.
    path: PathBuf,
    /// Kind of archive; tar for a folder if not given.
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// File to write to instead of standard output; it must not exist.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What to look for.
#[derive(clap::Args)]
pub struct FindArgs {
    /// Name, or full path if there is a `/` in it; `*` stands for any signs, `?` for one, `**` for folders too.
    #[arg(required = true)]
    patterns: Vec<String>,
    /// Only in this snapshot, by id, beginning of an id, or `latest`; may be given several times.
    #[arg(long)]
    snapshot: Vec<String>,
    /// Take capital and small letters as the same.
    #[arg(long, short)]
    ignore_case: bool,
    /// Stop after so many.
    #[arg(long)]
    limit: Option<u64>,
}

/// Writes a file, or a folder as an archive.
pub fn dump(how: &DumpArgs, args: &VaultArgs) -> anyhow::Result<()> {
    let repo = open(args)?;
    repo.load_index()?;
    let snapshot = repo.snapshot(&how.snapshot)?;
    let is_root = how.path == Path::new("/");
    let node = if is_root {
        None
    } else {
        Some(repo.node_at(&snapshot, &how.path)?)
    };
    let mut out: Box<dyn Write> = match &how.out {
        Some(path) => Box::new(
            std::fs::File::create_new(path).with_context(|| format!("{} can not be made", path.display()))?,
        ),
        None => Box::new(std::io::stdout().lock()),
    };
    let is_file = node.as_ref().is_some_and(|n| n.kind == NodeType::File);
    let format = match how.format {
        None if is_file => {
            let node = node.context("a file has a node")?;
            repo.dump(&node, &mut out)?;
            return Ok(out.flush()?);
        }
        Some(FormatArg::TarGz) => ArchiveFormat::TarGz,
        Some(FormatArg::TarZst) => ArchiveFormat::TarZst,
        Some(FormatArg::Zip) => ArchiveFormat::Zip,
        Some(FormatArg::Tar) | None => ArchiveFormat::Tar,
    };
    if how.out.is_none() && std::io::stdout().is_terminal() {
        bail!("an archive is nothing for a terminal; give a file with --out");
    }
    let mut options = RestoreOptions::default();
    if !is_root {
        // A folder's content at the archive's root; a file under its name.
        options.strip = match node.as_ref().map(|n| n.kind) {
            Some(NodeType::Dir) => how.path.clone(),
            _ => how.path.parent().unwrap_or(Path::new("/")).to_path_buf(),
        };
        options.include.push(how.path.clone());
    }
    if options.strip == Path::new("/") {
        options.strip = PathBuf::new();
    }
    if options.strip == how.path {
        options.include.clear();
    }
    let warn = |path: &Path, message: &str| eprintln!("warning: {}: {message}", path.display());
    let archive = Archive {
        format,
        out: &mut out,
    };
    let summary = repo.restore_archive(
        &snapshot,
        archive,
        &options,
        &Progress::default(),
        &Cancel::default(),
        &warn,
    )?;
    if summary.warnings > 0 {
        bail!("{} entries are not as they were", summary.warnings);
    }
    Ok(())
}

/// A pattern as a regular expression.
fn pattern(text: &str, ignore_case: bool) -> anyhow::Result<regex::bytes::Regex> {
    let mut out = String::from(if ignore_case { "(?is-u)^" } else { "(?s-u)^" });
    let is_path = text.contains('/');
    if is_path && !text.starts_with('/') {
        out.push_str("(?:.*/)?");
    }
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (part, length) = match c {
            '*' if rest.starts_with("**/") => ("(?:.*/)?".into(), 3),
            '*' if rest.starts_with("**") => (".*".into(), 2),
            '*' => ("[^/]*".into(), 1),
            '?' => ("(?:[^/\\x80-\\xff]|[\\xc0-\\xff][\\x80-\\xbf]+)".into(), 1),
            c => (escaped(c), c.len_utf8()),
        };
        out.push_str(&part);
        rest = &rest[length..];
    }
    out.push('$');
    regex::bytes::Regex::new(&out).with_context(|| format!("'{text}' is not a pattern"))
}

/// A letter as itself, in bytes, since names need not be text.
fn escaped(c: char) -> String {
    if c.is_ascii() {
        return regex::escape(&c.to_string());
    }
    let mut bytes = [0; 4];
    let bytes = c.encode_utf8(&mut bytes).bytes();
    bytes.map(|b| format!("\\x{b:02x}")).collect()
}

/// Looks for names in snapshots.
pub fn find(how: &FindArgs, args: &VaultArgs) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let patterns = how
        .patterns
        .iter()
        .map(|p| Ok((pattern(p, how.ignore_case)?, p.contains('/'))))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let repo = open(args)?;
    let snapshots = if how.snapshot.is_empty() {
        repo.snapshots()?
    } else {
        let one = |name: &String| repo.snapshot(name);
        how.snapshot.iter().map(one).collect::<Result<_, _>>()?
    };
    let wanted = |path: &Path, node: &encke_repo::Node| {
        patterns.iter().any(|(pattern, is_path)| match is_path {
            true => pattern.is_match(path.as_os_str().as_bytes()),
            false => pattern.is_match(&node.name),
        })
    };
    let mut left = how.limit.unwrap_or(u64::MAX);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = None;
    repo.find(&snapshots, &wanted, &Cancel::default(), &mut |hit| {
        let (id, path) = (hit.snapshot.id.to_string(), shown(hit.path));
        let line = if args.json {
            serde_json::json!({
                "snapshot": id, "time": hit.snapshot.time, "path": path, "type": hit.node.kind.word(),
                "size": hit.node.size, "mtime": hit.node.mtime,
            })
            .to_string()
        } else {
            format!(
                "{}  {:8} {:>12} {:.0} {path}",
                &id[..8],
                hit.node.kind.word(),
                hit.node.size,
                hit.node.mtime
            )
        };
        failed = writeln!(out, "{line}").err();
        left -= 1;
        left > 0 && failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_they_say() {
        let cases = [
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a?c", "abc", true),
            ("a?c", "a\u{fc}c", true),
            ("gr\u{fc}n", "gr\u{fc}n", true),
            ("[a]", "[a]", true),
            ("/home/*/x", "/home/me/x", true),
            ("/home/*/x", "/home/me/too/x", false),
            ("/home/**/x", "/home/me/too/x", true),
            ("/home/**/x", "/home/x", true),
            ("me/x", "/home/me/x", true),
            ("me/x", "/home/some/x", false),
        ];
        for (text, name, fits) in cases {
            assert_eq!(
                pattern(text, false).unwrap().is_match(name.as_bytes()),
                fits,
                "{text} {name}"
            );
        }
        assert!(pattern("ABC*", true).unwrap().is_match(b"abc\xff"));
    }
}
