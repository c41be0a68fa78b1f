//! Which licences our dependencies may carry: the allow list of deny.toml, checked without cargo-deny.
//!
//! `cargo deny check` reads the same file and does more (advisories, sources); it takes minutes to
//! install, so the one check that must never be skipped is done here, from `cargo metadata`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::source;

/// Every dependency whose licence the allow list does not cover, as findings.
pub(crate) fn check() -> Result<Vec<String>> {
    let deny = source::file("deny.toml").context("deny.toml is missing")?;
    let deny: toml::Table = toml::from_str(&deny.text).context("reading deny.toml")?;
    let targets = strings(deny.get("graph").and_then(|graph| graph.get("targets")));
    let allowed: BTreeSet<String> =
        strings(deny.get("licenses").and_then(|table| table.get("allow"))).into_iter().collect();

    let metadata = source::metadata(&targets)?;
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or("?");
        let version = package["version"].as_str().unwrap_or("?");
        let Some(licence) = package["license"].as_str() else {
            findings.push(format!(
                "Cargo.lock: {name} {version} names no licence; look for another crate, or clarify it in deny.toml"
            ));
            continue;
        };
        if !allows(licence, &allowed) {
            findings.push(format!(
                "Cargo.lock: {name} {version} is licensed \"{licence}\", which deny.toml does not allow; \
                 drop the crate, or argue for the licence in deny.toml"
            ));
        }
    }
    Ok(findings)
}

fn strings(value: Option<&toml::Value>) -> Vec<String> {
    let list = value.and_then(|value| value.as_array());
    list.into_iter().flatten().filter_map(|item| item.as_str()).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with the allowed licences: one side of an OR, both of an AND.
fn allows(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // "MIT/Apache-2.0" is how crates wrote OR before SPDX.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = either(&words, &mut at, allowed);
    verdict && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= both(words, at, allowed);
    }
    verdict
}

fn both(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(words, at, allowed);
    }
    verdict
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let verdict = either(words, at, allowed);
        *at += 1; // the closing bracket
        return verdict;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(expression: &str) -> bool {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
        allows(expression, &allowed.map(str::to_owned).into())
    }

    #[test]
    fn one_side_of_an_or_is_enough_and_both_of_an_and_are_needed() {
        assert!(judged("MIT"));
        assert!(judged("GPL-3.0 OR MIT"));
        assert!(judged("MIT/GPL-3.0"));
        assert!(!judged("GPL-3.0"));
        assert!(judged("ISC AND (GPL-3.0 OR MIT)"));
        assert!(!judged("ISC AND (GPL-3.0 OR AGPL-3.0)"));
        assert!(!judged("ISC AND GPL-3.0 OR GPL-3.0"));
    }

    #[test]
    fn an_exception_belongs_to_its_licence() {
        assert!(judged("Apache-2.0 WITH LLVM-exception OR GPL-3.0"));
        assert!(!judged("Apache-2.0"));
        assert!(!judged("MIT MIT"), "two licences without a word between them mean nothing");
    }
}
