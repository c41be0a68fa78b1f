//! Which crate may lean on which, what the lower rows may not touch, and what is said of each dependency.
//!
//! ```text
//! doors    rehome     client      use worlds
//! worlds   net        sim         drive brains
//! brains   server     endpoint    decide by rules
//! rules    sip        resilience  lean on nothing
//! ```
//!
//! A crate may use any row below its own, never its neighbour: two neighbours that know each other are one crate.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::source;

const ROWS: [(&str, [&str; 2]); 4] = [
    ("rules", ["rehome-sip", "rehome-resilience"]),
    ("brains", ["rehome-server", "rehome-endpoint"]),
    ("worlds", ["rehome-net", "rehome-sim"]),
    ("doors", ["rehome", "rehome-client"]),
];

fn row(package: &str) -> Option<usize> {
    ROWS.iter().position(|(_, packages)| packages.contains(&package))
}

/// A dependency that points upwards or sideways.
pub(crate) fn check() -> Result<Vec<String>> {
    let metadata = source::metadata(&[])?;
    let mut findings = Vec::new();
    for (package, dependency) in dependencies(&metadata) {
        let (Some(of), Some(on)) = (row(&package), row(&dependency)) else { continue };
        if let Some(finding) = judge(&package, of, &dependency, on) {
            findings.push(finding);
        }
    }
    for package in members(&metadata) {
        if package != "xtask" && row(&package).is_none() {
            findings.push(format!("{package}: stands in no row; add it to ROWS in {}", file!()));
        }
    }
    Ok(findings)
}

fn judge(package: &str, of: usize, dependency: &str, on: usize) -> Option<String> {
    if on < of {
        return None;
    }
    let way = if on == of { "sideways" } else { "upwards" };
    Some(format!(
        "{package} depends {way} on {dependency}; move what both need into a row below {}",
        ROWS[of].0
    ))
}

/// A word in the lower rows' source that only a world may say.
pub(crate) fn check_worldless() -> Result<Vec<String>> {
    const WORLDLY: [(&str, &str); 9] = [
        ("UdpSocket", "ask for it with an Output"),
        ("TcpStream", "ask for it with an Output"),
        ("TcpListener", "ask for it with an Output"),
        ("std::fs", "disk belongs to net and sim"),
        ("std::env", "take it as configuration"),
        ("std::process", "a brain starts nothing"),
        ("thread::spawn", "a brain has one thread, its caller's"),
        ("println!", "say it with an Event"),
        ("eprintln!", "say it with an Event"),
    ];
    let mut findings = Vec::new();
    for crate_name in ["sip", "resilience", "server", "endpoint"] {
        for file in source::files(&format!("crates/{crate_name}/src"), &[".rs"])? {
            // Tests may read their corpus and print their tables.
            if file.path.ends_with("tests.rs") || file.path.contains("/tests/") {
                continue;
            }
            let code = file.lines().take_while(|(_, line)| !line.starts_with("mod tests {"));
            for (number, line) in code {
                if line.trim_start().starts_with("//") {
                    continue;
                }
                for (word, cure) in WORLDLY {
                    if line.contains(word) {
                        findings.push(format!(
                            "{}:{number}: `{word}` in a row without a world; {cure}",
                            file.path
                        ));
                    }
                }
            }
        }
    }
    Ok(findings)
}

/// A direct dependency of which docs/dependencies.md says nothing, or a sentence about one we no longer have.
pub(crate) fn check_documented() -> Result<Vec<String>> {
    const PAGE: &str = "docs/dependencies.md";
    let page = source::file(PAGE).with_context(|| format!("{PAGE} is missing"))?;
    let metadata = source::metadata(&[])?;
    let members = members(&metadata);
    let used: BTreeSet<String> = dependencies(&metadata)
        .into_iter()
        .map(|(_, name)| name)
        .filter(|name| !members.contains(name))
        .collect();
    // Its sentence is a row of a table whose first cell is the name in backticks.
    let said: BTreeSet<String> = page
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned()))
        .collect();
    let missing = used.difference(&said).map(|name| {
        format!(
            "{PAGE}: `{name}` has no row; say why we have it, what it brings, what we would do without it"
        )
    });
    let stale =
        said.difference(&used).map(|name| format!("{PAGE}: nothing depends on `{name}`; drop its row"));
    Ok(missing.chain(stale).collect())
}

fn members(metadata: &Value) -> BTreeSet<String> {
    ours(metadata).filter_map(|package| package["name"].as_str()).map(str::to_owned).collect()
}

/// Every (package of ours, name of the package it depends on), tests' and build scripts' dependencies included.
fn dependencies(metadata: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for package in ours(metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            found.insert((name.to_owned(), dependency["name"].as_str().unwrap_or_default().to_owned()));
        }
    }
    found
}

fn ours(metadata: &Value) -> impl Iterator<Item = &Value> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    // Packages from a registry have a source; the workspace's own have none.
    packages.filter(|package| package["source"].is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(package: &str, dependency: &str) -> Option<String> {
        judge(package, row(package)?, dependency, row(dependency)?)
    }

    #[test]
    fn a_crate_may_use_any_row_below_its_own_and_nothing_else() {
        assert_eq!(judged("rehome", "rehome-sip"), None);
        assert_eq!(judged("rehome-server", "rehome-resilience"), None);
        let sideways = judged("rehome-server", "rehome-endpoint").unwrap();
        assert!(sideways.contains("sideways"), "{sideways}");
        let upwards = judged("rehome-sip", "rehome-net").unwrap();
        assert!(upwards.contains("upwards"), "{upwards}");
    }
}
