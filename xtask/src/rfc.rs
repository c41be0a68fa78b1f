//! `cargo xtask rfc`: the citations in code and stories, turned into docs/rfc.md.
//!
//! Code cites the sentence it obeys as `RFC 3261 §10.3`, and a list goes on with `, §10.2`. The index
//! says for each section which files and which tests cite it; a section that we claim and that no test
//! cites stands out, and is a good first task.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::source::{self, File};

const INDEX: &str = "docs/rfc.md";

/// Writes the index.
pub(crate) fn write() -> Result<()> {
    let text = index()?;
    std::fs::write(source::root().join(INDEX), &text).with_context(|| format!("writing {INDEX}"))?;
    println!("{INDEX}: {} sections", text.lines().filter(|line| line.starts_with("| §")).count());
    Ok(())
}

/// An error if the index on disk is not the one that the tree gives.
pub(crate) fn check() -> Result<()> {
    if source::file(INDEX).is_none_or(|file| file.text != index().unwrap_or_default()) {
        bail!("{INDEX} is not current; `cargo xtask rfc` writes it anew");
    }
    println!("{INDEX} is current");
    Ok(())
}

/// Files that cite one section.
#[derive(Default)]
struct Cited {
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// RFC number, then section as numbers (so that §10 comes after §9); no section means the RFC as a whole.
type Citations = BTreeMap<u32, BTreeMap<Vec<u32>, Cited>>;

fn index() -> Result<String> {
    let mut citations = Citations::new();
    for file in source::files("crates", &[".rs", ".scn"])? {
        collect(&file, &mut citations);
    }
    Ok(render(&citations))
}

fn collect(file: &File, citations: &mut Citations) {
    let mut in_tests = file.path.contains("/tests/")
        || file.path.contains("/stories/")
        || file.path.contains("/benches/")
        || file.path.ends_with("/tests.rs");
    for (_, line) in file.lines() {
        in_tests |= line.starts_with("mod tests {");
        for (rfc, sections) in cited_in(line) {
            for section in sections {
                let cited = citations.entry(rfc).or_default().entry(section).or_default();
                let files = if in_tests { &mut cited.tests } else { &mut cited.code };
                files.insert(file.path.clone());
            }
        }
    }
}

/// The citations in one line: `RFC 3261 §8.2, §16.3` gives two sections of one RFC.
fn cited_in(line: &str) -> Vec<(u32, Vec<Vec<u32>>)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("RFC ") {
        rest = &rest[at + "RFC ".len()..];
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let Ok(rfc) = digits.parse::<u32>() else { continue };
        rest = &rest[digits.len()..];
        let mut sections = Vec::new();
        while let Some(after) = ["", ",", " and", " or", ";"]
            .iter()
            .find_map(|joint| rest.strip_prefix(joint)?.trim_start_matches(' ').strip_prefix('§'))
        {
            let digits: String =
                after.chars().take_while(|char| char.is_ascii_digit() || *char == '.').collect();
            let numbers: Vec<u32> = digits.split('.').filter_map(|number| number.parse().ok()).collect();
            rest = &after[digits.trim_end_matches('.').len()..];
            if !numbers.is_empty() {
                sections.push(numbers);
            }
        }
        if sections.is_empty() {
            sections.push(Vec::new());
        }
        found.push((rfc, sections));
    }
    found
}

fn render(citations: &Citations) -> String {
    let mut page = String::from(
        "# Which code obeys which sentence\n\n\
         Written by `cargo xtask rfc` from the citations in code and stories; do not edit. A section without a\n\
         test or story is a good first task. Where we knowingly differ from an RFC, [deviations](deviations.md) says so.\n",
    );
    for (rfc, sections) in citations {
        page.push_str(&format!("\n## RFC {rfc}{}\n\n", title(*rfc)));
        page.push_str("| section | code | tests and stories |\n| --- | --- | --- |\n");
        for (section, cited) in sections {
            let name = match section.as_slice() {
                [] => "as a whole".to_owned(),
                numbers => {
                    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                    format!("§{}", numbers.join("."))
                }
            };
            page.push_str(&format!("| {name} | {} | {} |\n", links(&cited.code), links(&cited.tests)));
        }
    }
    page
}

fn links(files: &BTreeSet<String>) -> String {
    let links: Vec<String> = files
        .iter()
        .map(|path| {
            let short = path.trim_start_matches("crates/").replace("/src/", "/");
            format!("[{short}](../{path})")
        })
        .collect();
    links.join("<br>")
}

/// What an RFC is about, for those we lean on.
fn title(rfc: u32) -> &'static str {
    match rfc {
        2782 => ": SRV records",
        2915 | 3403 => ": NAPTR records",
        3261 => ": SIP",
        3262 => ": PRACK",
        3263 => ": locating SIP servers",
        3264 => ": offer and answer",
        3311 => ": UPDATE",
        3326 => ": the Reason header",
        3327 => ": Path",
        3428 => ": MESSAGE",
        3515 => ": REFER",
        3581 => ": rport",
        3608 => ": Service-Route",
        3680 => ": registration events",
        3903 => ": PUBLISH",
        3986 => ": URIs",
        4320 => ": non-INVITE transactions, mended",
        4475 => ": torture messages",
        5118 => ": torture messages for IPv6",
        5234 => ": ABNF",
        5393 => ": loops in forking proxies",
        5626 => ": outbound flows",
        5627 => ": GRUU",
        5922 => ": certificates of SIP domains",
        5954 => ": IPv6 in the grammar",
        6026 => ": 2xx to INVITE, mended",
        6086 => ": INFO",
        6665 => ": event notification",
        7118 => ": SIP over WebSocket",
        7616 => ": HTTP digest",
        8760 => ": SHA-256 digest for SIP",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sections_belongs_to_the_rfc_before_it() {
        let cited = cited_in("// RFC 3261 §8.2, §16.3 and §18; heartbeats as RFC 5626 §4.4.1.");
        assert_eq!(
            cited,
            [(3261, vec![vec![8, 2], vec![16, 3], vec![18]]), (5626, vec![vec![4, 4, 1]])],
            "three sections, then one of another RFC"
        );
    }

    #[test]
    fn an_rfc_without_a_section_is_cited_as_a_whole() {
        assert_eq!(
            cited_in("authenticate::check // RFC 3261 §22, RFC 8760"),
            [(3261, vec![vec![22]]), (8760, vec![vec![]])]
        );
        assert_eq!(cited_in("the RFC says"), []);
    }

    #[test]
    fn sections_are_in_the_order_of_their_numbers() {
        let mut citations = Citations::new();
        let text = "// RFC 3261 §10.3\n// RFC 3261 §9\n".to_owned();
        collect(&File { path: "crates/sip/src/a.rs".into(), text }, &mut citations);
        let page = render(&citations);
        assert!(page.find("| §9 |") < page.find("| §10.3 |"), "{page}");
    }
}
