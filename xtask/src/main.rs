//! The project's own chores: `ci`, `tidy`, `rfc`.
//!
//! `cargo xtask ci` is the one command that says whether a tree is good. `cargo xtask tidy` holds the
//! house rules that no compiler knows (which crate may lean on which, which word means what).
//! `cargo xtask rfc` writes docs/rfc.md from the citations in code and stories.
//!
//! Nothing here is part of the product, and nothing here knows SIP.

mod ci;
mod licences;
mod rfc;
mod source;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  ci            format, tidy, lints, tests, doc tests, docs: everything a change must pass
  tidy          the house rules alone (two seconds)
  rfc           write docs/rfc.md from the citations in code and stories
  rfc --check   say whether docs/rfc.md is current";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["rfc"] => rfc::write(),
        ["rfc", "--check"] => rfc::check(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("xtask: no such command: {}\n\n{USAGE}", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why:#}");
            ExitCode::FAILURE
        }
    }
}
