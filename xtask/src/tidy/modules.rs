//! Source files that no `mod` reaches: the compiler never sees them, readers do.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::source::{self, File};

/// Every file below a `src/` that its crate's root does not reach.
pub(crate) fn check() -> Result<Vec<String>> {
    let mut files = source::files("crates", &[".rs"])?;
    files.extend(source::files("xtask", &[".rs"])?);
    let in_src: Vec<&File> = files.iter().filter(|file| file.path.contains("/src/")).collect();

    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut to_read: Vec<String> =
        in_src.iter().map(|file| &file.path).filter(|path| is_root(path)).cloned().collect();
    while let Some(path) = to_read.pop() {
        let Some(file) = in_src.iter().find(|file| file.path == path) else { continue };
        if reached.insert(path) {
            to_read.extend(modules_of(file));
        }
    }
    let dead = in_src.iter().filter(|file| !reached.contains(&file.path));
    Ok(dead.map(|file| format!("{}: no `mod` reaches it; declare it or delete it", file.path)).collect())
}

fn is_root(path: &str) -> bool {
    path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs") || path.contains("/src/bin/")
}

/// Where the modules that a file declares may lie: `a.rs` or `a/mod.rs`, or where `#[path]` says.
fn modules_of(file: &File) -> Vec<String> {
    let (directory, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let inside = match name {
        "lib.rs" | "main.rs" | "mod.rs" => directory.to_owned(),
        _ => format!("{directory}/{}", name.trim_end_matches(".rs")),
    };
    let mut found = Vec::new();
    let mut told: Option<String> = None;
    for (_, line) in file.lines() {
        let line = line.trim();
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            told = Some(format!("{directory}/{path}"));
            continue;
        }
        if line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        let declared = line.strip_suffix(';').and_then(|line| {
            let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub(super) ")).unwrap_or(line);
            line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")
        });
        if let Some(module) = declared {
            match told.take() {
                Some(path) => found.push(path),
                None => found.extend([format!("{inside}/{module}.rs"), format!("{inside}/{module}/mod.rs")]),
            }
        } else {
            told = None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_lies_beside_a_root_and_below_any_other_file() {
        let text =
            "pub mod text;\n#[cfg(test)]\nmod tests;\nmod inline {}\n#[path = \"far.rs\"]\nmod near;\n";
        let root = File { path: "crates/sip/src/lib.rs".into(), text: text.into() };
        let found = modules_of(&root);
        assert!(found.contains(&"crates/sip/src/text.rs".to_owned()), "{found:?}");
        assert!(
            found.contains(&"crates/sip/src/tests.rs".to_owned()),
            "an attribute before it changes nothing"
        );
        assert!(found.contains(&"crates/sip/src/far.rs".to_owned()), "{found:?}");
        assert!(!found.iter().any(|path| path.contains("inline") || path.contains("near")), "{found:?}");

        let leaf = File { path: "crates/sip/src/uri.rs".into(), text: text.into() };
        assert!(modules_of(&leaf).contains(&"crates/sip/src/uri/text.rs".to_owned()));
    }
}
