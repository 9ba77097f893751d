//! What a Protected Item means on this device (reference, section 12).

use crate::databases::{self, Dumps, ENGINE_POSTGRESQL, Held};
use crate::error::{AgentError, AgentResult};
use crate::jobs::SNAPSHOT_PREFIX;
use crate::jobs::streams::{Origin, Stream};
use crate::patterns::Patterns;
use encke_api::constants::{
    ENGINE_BUILTIN_FILE, ENGINE_BUILTIN_MONGODB, ENGINE_BUILTIN_MYSQL, ENGINE_BUILTIN_PROXMOX,
    ENGINE_BUILTIN_STDOUT, ENGINE_BUILTIN_WINDISK, OS_ANY, OS_ONLY_LINUX,
};
use encke_api::types::{ExtraFileExclusion, SourceConfig, SourceIncludePattern};
use encke_repo::Exclude;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders of the kernel's own making.
const BUILT_IN: [&str; 4] = ["/proc", "/sys", "/selinux", "/dev"];

/// What to back up.
pub(crate) enum Item {
    Files {
        paths: Vec<PathBuf>,
        exclude: Exclude,
        rescan: bool,
        /// Whether to read from snapshots of the file systems.
        freeze: bool,
    },
    Streams {
        streams: Vec<Stream>,
        /// Kept while the streams are read.
        held: Vec<Held>,
        /// What is not as the item says; each is a warning.
        notes: Vec<String>,
    },
}

fn values<'a>(source: &'a SourceConfig, prefix: &str) -> Vec<&'a str> {
    source
        .engine_props
        .iter()
        .filter(|(k, _)| k.starts_with(prefix))
        .map(|(_, v)| v.as_str())
        .collect()
}

/// Reads an item. `mandatory` is what the account's policy leaves out of every item of files; `data_dir` is for files
/// that programs need while they run.
pub(crate) fn read(
    source: &SourceConfig,
    mandatory: &[ExtraFileExclusion],
    data_dir: &Path,
) -> AgentResult<Item> {
    let dumps = |dumps: Dumps| {
        let stream = |d: databases::Dump| Stream {
            name: d.name,
            origin: Origin::Program(Box::new(d.command)),
        };
        Ok(Item::Streams {
            streams: dumps.streams.into_iter().map(stream).collect(),
            held: dumps.held,
            notes: Vec::new(),
        })
    };
    match source.engine.as_str() {
        ENGINE_BUILTIN_FILE => files(source, mandatory),
        ENGINE_BUILTIN_STDOUT => output(source),
        ENGINE_BUILTIN_MYSQL => dumps(databases::mysql(data_dir, source)?),
        ENGINE_BUILTIN_MONGODB => dumps(databases::mongodb(data_dir, source)?),
        ENGINE_POSTGRESQL => dumps(databases::postgres(source)?),
        ENGINE_BUILTIN_WINDISK => images(source),
        ENGINE_BUILTIN_PROXMOX => {
            let (streams, notes) = crate::proxmox::item(source)?;
            Ok(Item::Streams {
                streams,
                held: Vec::new(),
                notes,
            })
        }
        other => Err(AgentError::Unsupported(format!(
            "Protected Items of type {other}"
        ))),
    }
}

/// Name of the description of disks beside their images.
pub(crate) const DISKS_FILE: &str = "disks.json";

/// Disks, whole: what they hold, and what the system told of them.
fn images(source: &SourceConfig) -> AgentResult<Item> {
    use std::os::unix::fs::FileTypeExt as _;
    let (mut streams, mut drives) = (Vec::new(), Vec::new());
    for device in values(source, "DISK-") {
        let path = PathBuf::from(device);
        let kind = std::fs::metadata(&path).map_err(|error| AgentError::File {
            path: path.clone(),
            error,
        })?;
        if !kind.file_type().is_block_device() {
            return Err(AgentError::Invalid(format!("'{device}' is not a disk")));
        }
        let name = path
            .strip_prefix("/dev")
            .unwrap_or(&path)
            .to_string_lossy()
            .replace('/', "_");
        drives.push(crate::disks::describe(&path));
        streams.push(Stream {
            name: format!("{name}.img"),
            origin: Origin::File(path),
        });
    }
    if streams.is_empty() {
        return Err(AgentError::Invalid("the item names no disk".into()));
    }
    let text = serde_json::to_vec_pretty(&drives).map_err(|e| AgentError::Protocol(e.to_string()))?;
    streams.push(Stream {
        name: DISKS_FILE.into(),
        origin: Origin::Text(text),
    });
    Ok(Item::Streams {
        streams,
        held: Vec::new(),
        notes: Vec::new(),
    })
}

fn files(source: &SourceConfig, mandatory: &[ExtraFileExclusion]) -> AgentResult<Item> {
    let mut paths: Vec<PathBuf> = values(source, "INCLUDE").into_iter().map(PathBuf::from).collect();
    let mut narrowed: Vec<(PathBuf, Patterns)> = Vec::new();
    for (prefix, is_glob) in [("PINCLUDE", true), ("RINCLUDE", false)] {
        for text in values(source, prefix) {
            let pattern: SourceIncludePattern = serde_json::from_str(text)
                .map_err(|e| AgentError::Invalid(format!("the item's {prefix} can not be read: {e}")))?;
            let value = [pattern.value.as_str()];
            let patterns = if is_glob {
                Patterns::new(&value, &[])
            } else {
                Patterns::new(&[], &value)
            };
            paths.push(PathBuf::from(&pattern.top_directory));
            narrowed.push((PathBuf::from(pattern.top_directory), patterns?));
        }
    }
    if let Some(bad) = paths.iter().find(|p| !p.is_absolute()) {
        return Err(AgentError::Invalid(format!(
            "'{}' is not an absolute path",
            bad.display()
        )));
    }
    let (mut globs, mut regexes) = (values(source, "EXCLUDE"), values(source, "REXCLUDE"));
    for exclusion in mandatory {
        if ![OS_ANY, OS_ONLY_LINUX].contains(&exclusion.restrict_os) {
            continue;
        }
        if exclusion.regex {
            regexes.push(&exclusion.exclude);
        } else {
            globs.push(&exclusion.exclude);
        }
    }
    let exclude = Patterns::new(&globs, &regexes)?;
    let plain: Vec<PathBuf> = values(source, "INCLUDE").into_iter().map(PathBuf::from).collect();
    let left_out = move |path: &Path, is_dir: bool| {
        let name = path.file_name().unwrap_or_default();
        if BUILT_IN.iter().any(|b| path == Path::new(b))
            || (is_dir && name.as_encoded_bytes().starts_with(SNAPSHOT_PREFIX.as_bytes()))
        {
            return true;
        }
        let text = path.to_string_lossy();
        if exclude.matches(&text) {
            return true;
        }
        if is_dir || plain.iter().any(|p| path.starts_with(p)) {
            return false;
        }
        // Only what fits one of the item's patterns below its folder.
        let inside: Vec<_> = narrowed
            .iter()
            .filter_map(|(top, p)| Some((path.strip_prefix(top).ok()?, p)))
            .collect();
        !inside.is_empty() && !inside.iter().any(|(rest, p)| p.matches(&rest.to_string_lossy()))
    };
    paths.sort();
    paths.dedup();
    let has = |key: &str| source.engine_props.contains_key(key);
    Ok(Item::Files {
        paths,
        exclude: Arc::new(left_out),
        rescan: has("RESCAN_UNCHANGED"),
        freeze: has("USE_SNAPSHOT"),
    })
}

fn output(source: &SourceConfig) -> AgentResult<Item> {
    let get = |key: &str| source.engine_props.get(key).cloned().unwrap_or_default();
    let mut commands = Vec::new();
    if !get("COMMAND").is_empty() {
        commands.push([get("COMMAND"), get("WORKDIR"), get("SAVEAS")]);
    }
    for text in values(source, "EXTRACOMMAND-") {
        let extra = serde_json::from_str(text)
            .map_err(|e| AgentError::Invalid(format!("an extra command of the item can not be read: {e}")))?;
        commands.push(extra);
    }
    if commands.is_empty() {
        return Err(AgentError::Invalid("the item has no command".into()));
    }
    let mut streams = Vec::with_capacity(commands.len());
    for [text, folder, name] in commands {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(AgentError::Invalid(format!(
                "'{name}' is not a file name to save a program's output as"
            )));
        }
        let mut command = crate::jobs::shell::command(&text);
        if !folder.is_empty() {
            command.current_dir(&folder);
        }
        streams.push(Stream {
            name,
            origin: Origin::Program(Box::new(command)),
        });
    }
    Ok(Item::Streams {
        streams,
        held: Vec::new(),
        notes: Vec::new(),
    })
}
