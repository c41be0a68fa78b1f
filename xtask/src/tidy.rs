//! `cargo xtask tidy`: the house rules that no compiler knows. Each finding names a file, a rule and a cure.

mod directions;
mod links;
mod modules;
mod pictures;
mod stories;
mod words;

use anyhow::{Result, bail};

use crate::{licences, rfc};

/// Runs every rule, prints what it finds, and fails if that is anything.
pub(crate) fn run() -> Result<()> {
    type Rule = (&'static str, fn() -> Result<Vec<String>>);
    let rules: [Rule; 9] = [
        ("crates depend downwards only", directions::check),
        ("rules and brains own no socket, file or thread", directions::check_worldless),
        ("every dependency has its sentence", directions::check_documented),
        ("every licence is allowed", licences::check),
        ("every source file is reached", modules::check),
        ("we use the field's words", words::check),
        ("every story opens with its why", stories::check),
        ("every picture shows its machine's states", pictures::check),
        ("every link in the docs leads somewhere", links::check),
    ];
    let mut count = 0;
    for (name, rule) in rules {
        let findings = rule()?;
        println!("   {} {name}", if findings.is_empty() { "ok  " } else { "FAIL" });
        for finding in &findings {
            println!("        {finding}");
        }
        count += findings.len();
    }
    if let Err(why) = rfc::check() {
        println!("   FAIL {why}");
        count += 1;
    }
    if count > 0 {
        bail!("{count} untidy thing{}", if count == 1 { "" } else { "s" });
    }
    Ok(())
}
