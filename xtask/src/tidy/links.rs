//! Links in the docs: each file exists, and each function that a link names is in the file it leads to.

use std::path::Path;

use anyhow::Result;

use crate::source::{self, File};

/// Links that lead nowhere.
pub(crate) fn check() -> Result<Vec<String>> {
    let mut files = source::files("docs", &[".md"])?;
    files.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
            .into_iter()
            .filter_map(source::file),
    );
    Ok(files.iter().flat_map(judge).collect())
}

fn judge(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let directory = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    for (number, line) in file.lines() {
        for (text, target) in links(line) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let full = source::root().join(directory).join(path);
            if !full.exists() {
                findings.push(format!("{}:{number}: link to {path}, which does not exist", file.path));
            } else if let Some(name) = name_in(text)
                && path.ends_with(".rs")
                && !std::fs::read_to_string(&full).is_ok_and(|source| has_word(&source, name))
            {
                findings.push(format!(
                    "{}:{number}: link to `{name}`, which is not in {path} (renamed?)",
                    file.path
                ));
            }
        }
    }
    findings
}

/// Every `[text](target)` of a line.
fn links(line: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("](") {
        let text = &rest[rest[..at].rfind('[').map_or(0, |open| open + 1)..at];
        let after = &rest[at + 2..];
        let Some(end) = after.find(')') else { break };
        found.push((text, &after[..end]));
        rest = &after[end..];
    }
    found
}

/// `Server::apply` in backticks names `apply`; a path in backticks names nothing.
fn name_in(text: &str) -> Option<&str> {
    let code = text.strip_prefix('`')?.strip_suffix('`')?;
    let last = code.rsplit("::").next()?.trim_end_matches("()");
    let is_name = !last.is_empty() && last.chars().all(|char| char.is_alphanumeric() || char == '_');
    is_name.then_some(last)
}

fn has_word(source: &str, name: &str) -> bool {
    source.split(|char: char| !(char.is_alphanumeric() || char == '_')).any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_names_a_function_wants_it_in_the_file() {
        let page = |text: &str| judge(&File { path: "docs/a.md".into(), text: text.into() });
        assert_eq!(page("see [`links::judge`](../xtask/src/tidy/links.rs)").len(), 0);
        assert_eq!(page("see [`links::judge`](../xtask/src/main.rs)").len(), 1);
        assert_eq!(page("see [it](../nowhere.md) and [that](https://example.test)").len(), 1);
    }
}
