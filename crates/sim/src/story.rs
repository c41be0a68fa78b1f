//! Stories: text files that say what is done, what must be seen, and why anyone should care.
//!
//! ```text
//! # Pool 2 goes silent. Its user moves to pool 1, limited.
//! # What would go wrong otherwise: clientuser2 stays on a dead pool until the registration expires.
//!
//! topology two-sites                                    set-up: what the world is
//! user clientuser2 homed on fe2.example.test
//!
//! sign-in clientuser2                                   commands: an operator's verbs
//! expect clientuser2 at fe2.example.test full within 5s
//!
//! cut fe2.example.test
//! expect S4 clientuser2 signed out between 25s and 40s  claims: one checkable thing with a bound
//! expect S4 clientuser2 at fe1.example.test limited within 75s
//! ----                                                  what the log said since the last such block
//!   30.120s fe1  …
//! ```
//!
//! Beside the verbs of [`Verb`] there are `elapse D`, `where USER` and `status`, which print into the log,
//! and `skip`, which leaves out of the next block what was logged so far.
//!
//! Bounds count from the last command. The same file runs in every [`World`]: claims are judged
//! everywhere and give a table of [`Row`]s; log blocks are compared in the simulator only, where
//! time is exact, and `UPDATE_EXPECT=1` rewrites them. A story is played in both profiles unless a
//! `profile` line says which; `[lync2010]` and `[rehome]` in front of a line keep it to one, and a
//! block that differs is written once for each (`---- lync2010`, `---- rehome`).
//!
//! A file's first comment says what would go wrong without the thing it tells about. A story
//! without it is not accepted: nobody would dare to change it later.

mod expect;
mod run;
mod setup;
mod verb;
mod words;

use std::fmt;
use std::time::Duration;

pub use expect::{Count, Expectation, When};
use resilience::profile::Profile;
pub use run::{Mismatch, Outcome, Row, World, run};
pub use setup::{Setup, User};
pub use verb::{DnsLine, Verb};
use words::Words;

/// One story, parsed.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its name: the file's, without `.scn`.
    pub name: String,
    /// The comment at the top: what is told, and what would go wrong otherwise.
    pub why: String,
    /// The profiles it is played in.
    pub profiles: Vec<Profile>,
    /// The set-up lines, parsed by [`Setup`] for each profile.
    setup: Vec<(usize, String)>,
    /// The whole file, in order.
    items: Vec<Item>,
}

/// A part of the file.
#[derive(Clone, Debug)]
enum Item {
    /// A comment, an empty line or a set-up line: kept as written.
    Text(String),
    /// Something to do or to judge.
    Step(Step),
    /// What the log is expected to say, in one profile or in each.
    Block(Block),
}

#[derive(Clone, Debug)]
struct Step {
    /// Line number in the file, from 1.
    line: usize,
    /// As written.
    text: String,
    /// Played in this profile only.
    only: Option<Profile>,
    act: Act,
}

#[derive(Clone, Debug)]
enum Act {
    /// A command for the world.
    Do(Verb),
    /// Let time pass.
    Elapse(Duration),
    /// Print where a user is.
    Where(String),
    /// Print where everybody is.
    Status,
    /// Leave out what was logged since the last block.
    Skip,
    /// Judge.
    Expect { label: String, text: String, expectation: Expectation },
}

#[derive(Clone, Debug)]
struct Block {
    line: usize,
    only: Option<Profile>,
    lines: Vec<String>,
}

/// A line that could not be understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoryError {
    /// The story.
    pub story: String,
    /// Line number, from 1.
    pub line: usize,
    /// What was expected instead.
    pub why: String,
}

impl fmt::Display for StoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.scn:{}: {}", self.story, self.line, self.why)
    }
}

impl std::error::Error for StoryError {}

/// Parses the text of a story; `name` is for messages and tables.
pub fn parse(name: &str, text: &str) -> Result<Story, StoryError> {
    let fail = |line, why: String| StoryError { story: name.to_owned(), line, why };
    let mut story = Story {
        name: name.to_owned(),
        why: String::new(),
        profiles: vec![Profile::Lync2010, Profile::Rehome],
        setup: Vec::new(),
        items: Vec::new(),
    };
    let mut in_header = true;
    let mut in_block = false;
    for (line, raw) in (1..).zip(text.lines()) {
        if raw.starts_with("----") {
            let only = match raw.trim_start_matches('-').trim() {
                "" => None,
                name => Some(name.parse().map_err(|why| fail(line, format!("{why}")))?),
            };
            story.items.push(Item::Block(Block { line, only, lines: Vec::new() }));
            in_block = true;
            continue;
        }
        if in_block && !raw.trim().is_empty() {
            if let Some(Item::Block(block)) = story.items.last_mut() {
                block.lines.push(raw.to_owned());
            }
            continue;
        }
        in_block = false;
        if in_header {
            if let Some(comment) = raw.strip_prefix('#') {
                story.why.push_str(comment.trim());
                story.why.push('\n');
                story.items.push(Item::Text(raw.to_owned()));
                continue;
            }
            in_header = false;
            if story.why.trim().is_empty() {
                return Err(fail(
                    line,
                    "a story begins with a comment: what would go wrong otherwise?".into(),
                ));
            }
        }
        let code = without_comment(raw);
        if code.is_empty() {
            story.items.push(Item::Text(raw.to_owned()));
        } else if let Some(profile) = code.strip_prefix("profile ") {
            story.profiles = vec![profile.trim().parse().map_err(|why| fail(line, format!("{why}")))?];
            story.items.push(Item::Text(raw.to_owned()));
        } else if setup::is_setup(code) {
            if story.items.iter().any(|item| matches!(item, Item::Step(_))) {
                return Err(fail(line, "set-up lines stand before the first command".into()));
            }
            story.setup.push((line, code.to_owned()));
            story.items.push(Item::Text(raw.to_owned()));
        } else {
            let (only, rest) = only_in(code).map_err(|why| fail(line, why))?;
            let act = parse_act(rest).map_err(|why| fail(line, why))?;
            story.items.push(Item::Step(Step { line, text: raw.to_owned(), only, act }));
        }
    }
    // A mistake in the set-up should be found when reading, not when playing.
    for &profile in &story.profiles {
        story.setup_for(profile)?;
    }
    Ok(story)
}

impl Story {
    /// The world this story needs, in one profile.
    pub fn setup_for(&self, profile: Profile) -> Result<Setup, StoryError> {
        let mut setup = Setup::new(profile);
        let fail = |line, why| StoryError { story: self.name.clone(), line, why };
        for (line, text) in &self.setup {
            setup.apply(text).map_err(|why| fail(*line, why))?;
        }
        for item in &self.items {
            if let Item::Step(Step { line, act: Act::Expect { expectation, .. }, .. }) = item {
                expectation.check_names(&setup).map_err(|why| fail(*line, why))?;
            }
        }
        Ok(setup)
    }

    /// The file with its log blocks replaced by what was seen. Blocks that are alike in all
    /// profiles are written once.
    pub fn with_blocks_of(&self, outcomes: &[Outcome]) -> String {
        let mut text = String::new();
        let mut group = 0;
        let mut items = self.items.iter().peekable();
        while let Some(item) = items.next() {
            match item {
                Item::Text(line) => text.push_str(line),
                Item::Step(step) => text.push_str(&step.text),
                Item::Block(_) => {
                    while matches!(items.peek(), Some(Item::Block(_))) {
                        items.next();
                    }
                    text.push_str(&block_text(group, outcomes));
                    group += 1;
                    continue;
                }
            }
            text.push('\n');
        }
        text
    }
}

/// One group of blocks: a single one if every profile saw the same.
fn block_text(group: usize, outcomes: &[Outcome]) -> String {
    let seen: Vec<(Profile, &[String])> = outcomes
        .iter()
        .map(|outcome| (outcome.profile, outcome.blocks.get(group).map_or(&[][..], Vec::as_slice)))
        .collect();
    let print =
        |marker: String, lines: &[String]| lines.iter().fold(marker + "\n", |text, line| text + line + "\n");
    match seen.as_slice() {
        [] => "----\n".to_owned(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, lines)| lines == first) => {
            print("----".to_owned(), first)
        }
        _ => seen.iter().map(|(profile, lines)| print(format!("---- {profile}"), lines)).collect(),
    }
}

/// A line without its trailing comment. A `#` begins one only after a space.
fn without_comment(raw: &str) -> &str {
    let end = if raw.trim_start().starts_with('#') { 0 } else { raw.find(" #").unwrap_or(raw.len()) };
    raw[..end].trim()
}

fn only_in(code: &str) -> Result<(Option<Profile>, &str), String> {
    let Some(rest) = code.strip_prefix('[') else { return Ok((None, code)) };
    let (name, rest) = rest.split_once(']').ok_or("`[` wants its `]`")?;
    Ok((Some(name.parse().map_err(|why| format!("{why}"))?), rest.trim()))
}

fn parse_act(code: &str) -> Result<Act, String> {
    let mut words = Words::new(code);
    match words.word("a command")? {
        "elapse" => {
            let span = words.duration()?;
            words.end()?;
            Ok(Act::Elapse(span))
        }
        "where" => {
            let user = words.word("a user")?.to_owned();
            words.end()?;
            Ok(Act::Where(user))
        }
        "status" => {
            words.end()?;
            Ok(Act::Status)
        }
        "skip" => {
            words.end()?;
            Ok(Act::Skip)
        }
        "expect" => {
            let label = if words.peek().is_some_and(is_label) {
                words.word("a step")?.to_owned()
            } else {
                String::new()
            };
            let text = words.rest().to_owned();
            let expectation = Expectation::parse(&text)?;
            Ok(Act::Expect { label, text, expectation })
        }
        _ => Verb::parse(code).map(Act::Do),
    }
}

/// A step of the article or of the scenario list: `S4`, `D2`, `A′`.
fn is_label(word: &str) -> bool {
    word.chars().next().is_some_and(|first| first.is_ascii_uppercase())
        && word.chars().count() <= 3
        && !word.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests;
