//! The picture is the code: the drawing above `fn next` names the same states as its rows.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::source::{self, File};

/// States that a drawing or a table has and the other lacks.
pub(crate) fn check() -> Result<Vec<String>> {
    Ok(source::files("crates", &[".rs"])?.iter().flat_map(judge).collect())
}

fn judge(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let lines: Vec<&str> = file.text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        if !(line.starts_with("fn next(state") || line.starts_with("const fn next(state")) {
            continue;
        }
        let (states, said) = states_in_rows(&lines[index..]);
        // A file may draw more than its machine; the machine's picture is the one that names most of its states.
        let pictures = words_of_pictures(&lines[..index]);
        let Some(drawn) = pictures.into_iter().max_by_key(|drawn| drawn.intersection(&states).count()) else {
            findings.push(format!(
                "{}:{}: a machine without a picture above it; draw one",
                file.path,
                index + 1
            ));
            continue;
        };
        for state in states.difference(&drawn) {
            findings.push(format!(
                "{}: `{state}` has rows in `next` but is not in the picture; draw it",
                file.path
            ));
        }
        for word in drawn.difference(&said) {
            findings.push(format!(
                "{}: `{word}` is in the picture but has no row in `next`; name states as the rows do, and write \
                 labels in small letters",
                file.path
            ));
        }
    }
    findings
}

/// First members of the rows `(State | Other, …) =>` of the function that begins here, and every word said in it.
fn states_in_rows(lines: &[&str]) -> (BTreeSet<String>, BTreeSet<String>) {
    let indent = lines[0].len() - lines[0].trim_start().len();
    let end = format!("{}}}", " ".repeat(indent));
    let body: Vec<&str> = lines.iter().copied().take_while(|line| *line != end).collect();
    let mut states = BTreeSet::new();
    for (index, line) in body.iter().enumerate() {
        let Some(row) = line.trim_start().strip_prefix('(') else { continue };
        // A long row has its first member on a line of its own.
        let row = if row.is_empty() { body.get(index + 1).copied().unwrap_or_default() } else { row };
        let Some((first, _)) = row.split_once(',') else { continue };
        states.extend(words(first).filter(|word| word != "State"));
    }
    (states, body.iter().flat_map(|line| words(line)).collect())
}

/// The states named in each drawing above: a `text` block with arrows in a doc comment.
fn words_of_pictures(lines: &[&str]) -> Vec<BTreeSet<String>> {
    let mut pictures = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for line in lines {
        let Some(text) = line.trim_start().strip_prefix("//!").or(line.trim_start().strip_prefix("///"))
        else {
            block = None;
            continue;
        };
        match (text.trim(), &mut block) {
            ("```text", None) => block = Some(Vec::new()),
            ("```", Some(drawn)) => {
                if drawn.iter().any(|line| line.contains(['►', '▲', '▼', '◄', '→', '>'])) {
                    pictures.push(drawn.iter().flat_map(|line| words(line)).collect());
                }
                block = None;
            }
            (_, Some(drawn)) => drawn.push(text),
            (_, None) => {}
        }
    }
    pictures
}

/// What could be a state in a line.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(|char: char| !char.is_alphanumeric()).filter(|word| is_state(word)).map(str::to_owned)
}

/// `FailedOver` is a state; `REGISTER`, `T1` and `late` are labels, and so is the word `Timer`.
fn is_state(word: &str) -> bool {
    word.starts_with(|char: char| char.is_ascii_uppercase())
        && word.chars().any(|char| char.is_ascii_lowercase())
        && word != "Timer"
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "\
//! ```text
//!      late
//!  Up ─────► Suspect
//! ```
fn next(state: State, sign: Sign) -> State {
    match (state, sign) {
        (Up, Late) => Suspect,
        (Up | Suspect, Heard) => Up,
    }
}
";

    fn judged(text: &str) -> Vec<String> {
        judge(&File { path: "a.rs".into(), text: text.into() })
    }

    #[test]
    fn a_picture_with_the_states_of_the_rows_is_fine() {
        assert_eq!(judged(MACHINE), [""; 0]);
    }

    #[test]
    fn a_state_that_only_one_of_them_has_is_found() {
        let findings = judged(&MACHINE.replace("► Suspect", "► Doubted"));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("`Suspect` has rows"), "{findings:?}");
        assert!(findings[1].contains("`Doubted` is in the picture"), "{findings:?}");
    }

    #[test]
    fn a_second_drawing_and_a_state_that_only_ends_things_do_no_harm() {
        let machine =
            MACHINE.replace("Heard) => Up", "Heard) => Gone").replace("► Suspect", "► Suspect ─► Gone");
        assert_eq!(
            judged(&machine.replace("fn next", "//! ```text\n//! silence ──►\n//! ```\nfn next")),
            [""; 0]
        );
    }

    #[test]
    fn a_machine_without_a_picture_is_found() {
        assert_eq!(judged(&MACHINE.replace("//!", "//")).len(), 1);
    }
}
