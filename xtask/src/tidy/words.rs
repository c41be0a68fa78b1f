//! Words we do not say, and what we say instead: one vocabulary from the RFC to the dashboard.
//!
//! A word counts where it stands alone or is part of a name (`tsx_key`, `BackupNode`). Words with a hyphen
//! belong to someone else's wire (`ms-cluster-failover`) and are left alone. docs/glossary.md says what each
//! of our words means.

use anyhow::Result;

use crate::source::{self, File};

/// Not said, said instead.
const WORDS: [(&str, &str); 24] = [
    ("usrloc", "location"),
    ("tsx", "transaction"),
    ("balancer", "director"),
    ("dispatcher", "director"),
    ("datacentre", "site"),
    ("datacenter", "site"),
    ("farm", "pool"),
    ("master", "primary"),
    ("slave", "backup"),
    ("secondary", "backup"),
    ("standby", "backup"),
    ("buddy", "partner"),
    ("switchover", "failover"),
    ("takeover", "failover"),
    ("degraded", "limited (functionality)"),
    ("blacklist", "avoided"),
    ("blacklisted", "avoided"),
    ("whitelist", "allowed"),
    ("greylist", "on trial"),
    ("quiesce", "drain"),
    ("cordon", "drain"),
    ("chaos", "storm"),
    ("mock", "sim"),
    ("sandbox", "lab"),
];

/// Lines that must say it: where (a part of the path), and what the line then contains.
const ALLOWED: [(&str, &str); 4] = [
    // What the `ip` command calls the bridge that a link is plugged into.
    ("/namespaces.rs", "master"),
    // The pages whose subject the words are.
    ("docs/glossary.md", ""),
    ("xtask/src/tidy/words.rs", ""),
    ("docs/deviations.md", ""),
];

/// Lines that say one of the words.
pub(crate) fn check() -> Result<Vec<String>> {
    let mut files = source::files("crates", &[".rs", ".scn", ".toml", ".md"])?;
    for under in ["docs", "lab", "examples", "xtask"] {
        files.extend(source::files(under, &[".rs", ".toml", ".md"])?);
    }
    files.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
            .into_iter()
            .filter_map(source::file),
    );
    Ok(files.iter().flat_map(judge).collect())
}

fn judge(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        let allowed = |&(path, text): &(&str, &str)| file.path.contains(path) && line.contains(text);
        if ALLOWED.iter().any(allowed) {
            continue;
        }
        for word in parts(line) {
            if let Some((bad, good)) = WORDS.iter().find(|(bad, _)| *bad == word) {
                findings.push(format!("{}:{number}: \"{bad}\"; we say {good}", file.path));
            }
        }
    }
    findings
}

/// The words of a line in small letters, names taken apart at their underscores and humps.
fn parts(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for name in line.split(|char: char| !(char.is_alphanumeric() || char == '_' || char == '-')) {
        if name.contains('-') {
            continue;
        }
        let mut word = String::new();
        let mut was_small = false;
        for char in name.chars() {
            if char == '_' || (char.is_uppercase() && was_small) {
                words.push(std::mem::take(&mut word));
            }
            was_small = char.is_lowercase();
            if char != '_' {
                word.extend(char.to_lowercase());
            }
        }
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(line: &str) -> usize {
        judge(&File { path: "crates/sip/src/a.rs".into(), text: line.into() }).len()
    }

    #[test]
    fn a_banned_word_is_found_alone_and_inside_a_name() {
        assert_eq!(judged("the slave answers"), 1);
        assert_eq!(judged("let tsx_key = TsxKey::new(MASTER);"), 3);
    }

    #[test]
    fn a_word_that_only_contains_one_or_is_hyphenated_is_fine() {
        assert_eq!(judged("the postmaster and the farmer sent x-master-key"), 0);
    }
}
