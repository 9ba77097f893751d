//! What a Protected Item means on this device (reference, section 12).

use crate::error::{AgentError, AgentResult};
use crate::patterns::Patterns;
use encke_api::constants::{OS_ANY, OS_ONLY_LINUX};
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
    },
    Output {
        command: OutputCommand,
    },
}

/// A program whose output is backed up.
pub(crate) struct OutputCommand {
    pub command: String,
    pub folder: String,
    pub save_as: String,
}

fn values<'a>(source: &'a SourceConfig, prefix: &str) -> Vec<&'a str> {
    source
        .engine_props
        .iter()
        .filter(|(k, _)| k.starts_with(prefix))
        .map(|(_, v)| v.as_str())
        .collect()
}

/// Reads an item. `mandatory` is what the account's policy leaves out of every item of files.
pub(crate) fn read(source: &SourceConfig, mandatory: &[ExtraFileExclusion]) -> AgentResult<Item> {
    match source.engine.as_str() {
        encke_api::constants::ENGINE_BUILTIN_FILE => files(source, mandatory),
        encke_api::constants::ENGINE_BUILTIN_STDOUT => output(source),
        other => Err(AgentError::Unsupported(format!(
            "Protected Items of type {other}"
        ))),
    }
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
        if BUILT_IN.iter().any(|b| path == Path::new(b)) {
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
    let rescan = source.engine_props.contains_key("RESCAN_UNCHANGED");
    Ok(Item::Files {
        paths,
        exclude: Arc::new(left_out),
        rescan,
    })
}

fn output(source: &SourceConfig) -> AgentResult<Item> {
    let get = |key: &str| source.engine_props.get(key).cloned().unwrap_or_default();
    let mut commands = Vec::new();
    if !get("COMMAND").is_empty() {
        commands.push(OutputCommand {
            command: get("COMMAND"),
            folder: get("WORKDIR"),
            save_as: get("SAVEAS"),
        });
    }
    for text in values(source, "EXTRACOMMAND-") {
        let [command, folder, save_as]: [String; 3] = serde_json::from_str(text)
            .map_err(|e| AgentError::Invalid(format!("an extra command of the item can not be read: {e}")))?;
        commands.push(OutputCommand {
            command,
            folder,
            save_as,
        });
    }
    let command = match (commands.pop(), commands.len()) {
        (Some(command), 0) => command,
        (Some(_), _) => {
            return Err(AgentError::Unsupported(
                "program output items with more than one command; use one item for each".into(),
            ));
        }
        (None, _) => return Err(AgentError::Invalid("the item has no command".into())),
    };
    if command.save_as.is_empty() || command.save_as.contains('/') {
        return Err(AgentError::Invalid(
            "the item's SAVEAS must be a file name".into(),
        ));
    }
    Ok(Item::Output { command })
}
