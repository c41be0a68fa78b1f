//! Every mistake that one can make in a topology file is told with its line, its key and its cure.
//!
//! Each file in tests/mistakes opens with the mistake in words and ends with what `rehome topology check`
//! must say about it. `UPDATE_EXPECT=1` writes that end anew.

use std::path::Path;
use std::process::Command;

/// Everything after this line of a file is what must be said about what comes before it.
const EXPECTED: &str = "\n#---- topology check says:\n";

#[test]
fn every_mistake_is_told_with_its_line_and_its_cure() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut paths: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "the files are gone");

    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let (content, expected) = text.split_once(EXPECTED).unwrap_or((&text, ""));
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = check(&directory, name);
        let said: String = said.lines().map(|line| format!("# {line}\n")).collect();
        if update {
            std::fs::write(&path, format!("{content}{EXPECTED}{said}")).unwrap();
        } else if said != expected {
            wrong.push(format!("{name}\nexpected:\n{expected}said:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_not_there_is_a_mistake_with_a_cure() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let said = check(&directory, "nowhere.toml");
    assert!(said.starts_with("nowhere.toml:1: error: cannot be read: No such file"), "{said}");
    assert!(said.contains("rehome config example"), "{said}");
    assert!(said.ends_with("exit code 2\n"), "{said}");
}

/// What `topology check` prints, and how it ends.
fn check(directory: &Path, name: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rehome"))
        .args(["topology", "check", name])
        .current_dir(directory)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}: everything is said on standard output");
    let said = String::from_utf8(output.stdout).unwrap();
    format!("{said}exit code {}\n", output.status.code().unwrap_or(-1))
}
