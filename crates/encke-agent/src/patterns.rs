//! What a file item leaves out (reference, section 12): globs and regular expressions over the full path.

use crate::error::{AgentError, AgentResult};
use regex::{Regex, RegexSet, RegexSetBuilder};

/// Most bytes of compiled patterns.
const SIZE_LIMIT: usize = 16 << 20;

/// A glob as a regular expression over a full path: `*` and `?` stay within one element, `**` crosses; without a
/// slash at the front it may begin at any element.
pub(crate) fn glob(pattern: &str) -> String {
    let mut out = String::from(if pattern.starts_with('/') { "^" } else { "(?:^|/)" });
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                out.push_str(".*");
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => {
                let class: String = chars.clone().take_while(|&c| c != ']').collect();
                if chars.clone().nth(class.chars().count()) == Some(']') && !class.is_empty() {
                    let inner = class
                        .replace('\\', "\\\\")
                        .replace('[', "\\[")
                        .replace('&', "\\&");
                    let inner = inner
                        .strip_prefix('!')
                        .map_or(inner.clone(), |rest| format!("^{rest}"));
                    out.push_str(&format!("[{inner}]"));
                    chars.nth(class.chars().count());
                } else {
                    out.push_str("\\[");
                }
            }
            '\\' => out.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    out
}

/// Compiled patterns.
pub(crate) struct Patterns(RegexSet);

impl Patterns {
    /// # Errors
    /// Names the pattern that can not be used: it stops a job rather than being ignored.
    pub(crate) fn new(globs: &[&str], regexes: &[&str]) -> AgentResult<Self> {
        let mut all: Vec<String> = globs.iter().map(|g| glob(g)).collect();
        for r in regexes {
            Regex::new(r)
                .map_err(|e| AgentError::Invalid(format!("the exclusion '{r}' can not be used: {e}")))?;
            all.push((*r).to_string());
        }
        RegexSetBuilder::new(all)
            .size_limit(SIZE_LIMIT)
            .build()
            .map(Self)
            .map_err(|e| AgentError::Invalid(format!("the exclusions can not be used: {e}")))
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, path: &str) -> bool {
        Patterns::new(&[pattern], &[]).unwrap().matches(path)
    }

    #[test]
    fn globs_match_as_people_expect() {
        for (pattern, path, expected) in [
            ("*.txt", "/a/b/c.txt", true),
            ("*.txt", "/a/b/c.txt2", false),
            ("*.txt", "/a/b.txt/c", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("cache", "/home/x/cache", true),
            ("cache", "/home/x/mycache", false),
            ("a?c", "/abc", true),
            ("[ab].log", "/x/a.log", true),
            ("[!ab].log", "/x/a.log", false),
            ("[ab", "/x/[ab", true),
            ("a.b", "/axb", false),
            ("\\*", "/x/*", true),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn any_glob_compiles_and_a_plain_name_matches_itself(pattern in "\\PC{0,20}", name in "[a-z0-9._ -]{1,12}") {
            let _ = Patterns::new(&[&pattern], &[]);
            let path = format!("/x/{name}");
            prop_assert!(fits(&name, &path));
        }
    }
}
