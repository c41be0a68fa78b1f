//! What came of the stories: every claim in a table, and the two profiles beside each other.

use std::fmt::Write as _;
use std::time::Duration;

use resilience::profile::Profile;
use serde_json::{Value, json};
use sim::story::{Outcome, Row};

use crate::output::Table;

/// One story played in one profile.
pub(crate) struct Played {
    /// Its name: `s2`.
    pub(crate) story: &'static str,
    /// Its file.
    pub(crate) text: &'static str,
    /// How it went.
    pub(crate) outcome: Outcome,
}

/// All of it.
pub(crate) struct Verdict {
    /// In the order of the stories.
    pub(crate) played: Vec<Played>,
    /// How much faster than life.
    pub(crate) times: u32,
    /// How long it took, in life.
    pub(crate) took: Duration,
}

impl Verdict {
    /// How many rows are not as expected, stories that broke off included.
    pub(crate) fn surprises(&self) -> usize {
        self.played.iter().map(|played| played.surprises()).sum()
    }

    /// How many claims were judged.
    pub(crate) fn rows(&self) -> usize {
        self.played.iter().map(|played| played.outcome.rows.len()).sum()
    }

    fn profiles(&self) -> Vec<Profile> {
        let mut profiles = Vec::new();
        for played in &self.played {
            if !profiles.contains(&played.outcome.profile) {
                profiles.push(played.outcome.profile);
            }
        }
        profiles
    }

    fn of(&self, story: &str, profile: Profile) -> Option<&Played> {
        self.played.iter().find(|played| played.story == story && played.outcome.profile == profile)
    }

    fn stories(&self) -> Vec<&'static str> {
        let mut stories = Vec::new();
        for played in &self.played {
            if !stories.contains(&played.story) {
                stories.push(played.story);
            }
        }
        stories
    }

    /// The page for people.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        match self.profiles().as_slice() {
            [one, other] => {
                let _ = writeln!(page, "{}", self.claims_of_two(*one, *other));
                let _ = writeln!(page, "{}", self.summary_of_two(*one, *other));
            }
            profiles => {
                for profile in profiles {
                    let _ = writeln!(page, "{}", self.claims_of_one(*profile));
                }
                let _ = writeln!(page, "{}", self.summary_of_one());
            }
        }
        for played in &self.played {
            if let Some(why) = &played.outcome.error {
                let _ = writeln!(page, "{} in {} broke off: {why}", played.title(), played.outcome.profile);
            }
        }
        let fast = if self.times > 1 {
            format!(" (played {} times as fast; seconds are the story's)", self.times)
        } else {
            String::new()
        };
        let outcome = match self.surprises() {
            0 => format!("all {} claims as expected", self.rows()),
            surprises => format!("{surprises} of {} claims NOT as expected", self.rows()),
        };
        let _ = writeln!(page, "{outcome}, in {:.0} s{fast}", self.took.as_secs_f64());
        page
    }

    fn claims_of_one(&self, profile: Profile) -> String {
        let mut table = Table::new(["step", "expected", "seen", "seconds", "ok"]);
        for played in self.played.iter().filter(|played| played.outcome.profile == profile) {
            for row in &played.outcome.rows {
                let ok = if row.ok { "yes" } else { "NO" };
                table.row([
                    row.step.clone(),
                    row.expected.clone(),
                    short(&row.seen),
                    seconds(row),
                    ok.to_owned(),
                ]);
            }
        }
        table.to_string()
    }

    /// A claim's row is found in the other profile by its line in the story.
    fn claims_of_two(&self, one: Profile, other: Profile) -> String {
        let mut table =
            Table::new(["step", "expected", one.name(), "seconds", other.name(), "seconds", "ok"]);
        for story in self.stories() {
            let rows = |profile| self.of(story, profile).map_or(&[][..], |played| &played.outcome.rows[..]);
            let (left, right) = (rows(one), rows(other));
            let mut lines: Vec<usize> = left.iter().chain(right).map(|row| row.line).collect();
            lines.sort_unstable();
            lines.dedup();
            for line in lines {
                let (left, right) = (at_line(left, line), at_line(right, line));
                let Some(first) = left.or(right) else { continue };
                let cell = |row: Option<&Row>| row.map_or("·".to_owned(), |row| short(&row.seen));
                let time = |row: Option<&Row>| row.map_or(String::new(), seconds);
                let is_ok = left.is_none_or(|row| row.ok) && right.is_none_or(|row| row.ok);
                table.row([
                    first.step.clone(),
                    first.expected.clone(),
                    cell(left),
                    time(left),
                    cell(right),
                    time(right),
                    if is_ok { "yes" } else { "NO" }.to_owned(),
                ]);
            }
        }
        table.to_string()
    }

    fn summary_of_one(&self) -> String {
        let mut table = Table::new(["step", "what is done", "profile", "outcome"]);
        for played in &self.played {
            table.row([played.title(), played.what(), played.outcome.profile.to_string(), played.in_short()]);
        }
        table.to_string()
    }

    fn summary_of_two(&self, one: Profile, other: Profile) -> String {
        let mut table = Table::new(["step", "what is done", one.name(), other.name()]);
        for story in self.stories() {
            let short = |profile| self.of(story, profile).map_or("not played".to_owned(), Played::in_short);
            let Some(any) = self.of(story, one).or(self.of(story, other)) else { continue };
            table.row([any.title(), any.what(), short(one), short(other)]);
        }
        table.to_string()
    }

    /// The same for programs.
    pub(crate) fn as_json(&self) -> Value {
        let rows = self.played.iter().flat_map(|played| {
            played.outcome.rows.iter().map(|row| {
                json!({
                    "story": played.story, "step": row.step, "profile": row.profile.name(), "expected": row.expected,
                    "seen": row.seen, "seconds": (row.seconds * 1_000.0).round() / 1_000.0, "ok": row.ok, "line": row.line,
                })
            })
        });
        let stories = self.played.iter().map(|played| {
            json!({
                "story": played.story, "profile": played.outcome.profile.name(), "outcome": played.in_short(),
                "ok": played.surprises() == 0, "error": played.outcome.error,
            })
        });
        json!({
            "times_as_fast": self.times, "took_s": self.took.as_secs_f64(), "ok": self.surprises() == 0,
            "rows": rows.collect::<Vec<_>>(), "stories": stories.collect::<Vec<_>>(),
        })
    }
}

impl Played {
    fn surprises(&self) -> usize {
        self.outcome.rows.iter().filter(|row| !row.ok).count() + usize::from(self.outcome.error.is_some())
    }

    fn title(&self) -> String {
        self.story.to_uppercase()
    }

    /// The story's first sentence.
    fn what(&self) -> String {
        let first = self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim();
        let end = first.find(". ").unwrap_or(first.len());
        first[..end].trim_end_matches('.').to_owned()
    }

    /// How it ended, in a few words. In a story in which one profile leaves somebody stranded, the other rescues them.
    fn in_short(&self) -> String {
        if self.outcome.error.is_some() {
            return "BROKE OFF".to_owned();
        }
        if self.surprises() > 0 {
            return format!("NOT AS EXPECTED ({} of {})", self.surprises(), self.outcome.rows.len());
        }
        let claim = |words: &[&str]| {
            self.outcome.rows.iter().rev().find(|row| words.iter().all(|word| row.expected.contains(word)))
        };
        if let Some(row) = claim(&[" stays out for "]) {
            return format!("stranded for {:.0} s and more", row.seconds);
        }
        let stood = claim(&[" at ", " full within "]).into_iter().chain(claim(&[" at ", " limited within "]));
        let stood = stood.max_by_key(|row| row.line);
        match claim(&[" at ", " limited ", " within "]) {
            Some(row) if self.text.contains(" stays out for ") => {
                format!("rescued: {}, {:.0} s after the cut", plain(&row.seen), row.seconds)
            }
            _ => match stood {
                Some(row) => format!("{}, after {:.1} s", plain(&row.seen), row.seconds),
                None => "as expected".to_owned(),
            },
        }
    }
}

fn at_line(rows: &[Row], line: usize) -> Option<&Row> {
    rows.iter().find(|row| row.line == line)
}

fn seconds(row: &Row) -> String {
    format!("{:.1}", row.seconds)
}

/// What was seen, without what the seconds beside it say, and not longer than a line can take.
fn short(seen: &str) -> String {
    const LONGEST: usize = 60;
    let seen = plain(seen).lines().next().unwrap_or_default().trim().to_owned();
    if seen.chars().count() <= LONGEST {
        return seen;
    }
    seen.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// `fe1.example.test (limited functionality), since 33.012s` without its end.
fn plain(seen: &str) -> &str {
    seen.split(", since ").next().unwrap_or(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = "# Pool 1 goes silent. Its user …\nexpect S2 user stays out for 480s\n";

    fn played(profile: Profile, expected: &str, ok: bool, line: usize) -> Played {
        let row = Row {
            step: "S2".into(),
            profile,
            expected: expected.into(),
            seen: "fe2.example.test (limited functionality), since 40.100s".into(),
            seconds: 33.4,
            ok,
            line,
        };
        let outcome = Outcome { profile, rows: vec![row], mismatches: vec![], blocks: vec![], error: None };
        Played { story: "s2", text: STORY, outcome }
    }

    fn verdict(stranded_ok: bool) -> Verdict {
        let played = vec![
            played(Profile::Lync2010, "user stays out for 480s", stranded_ok, 2),
            played(Profile::Rehome, "user at fe2.example.test limited within 75s", true, 3),
        ];
        Verdict { played, times: 10, took: Duration::from_secs(66) }
    }

    #[test]
    fn one_profile_strands_and_the_other_rescues() {
        let page = verdict(true).page();
        let line = page.lines().find(|line| line.contains("stranded")).unwrap();
        assert_eq!(
            line,
            "S2    Pool 1 goes silent  stranded for 33 s and more  \
             rescued: fe2.example.test (limited functionality), 33 s after the cut"
        );
        assert!(page.ends_with(
            "all 2 claims as expected, in 66 s (played 10 times as fast; seconds are the story's)\n"
        ));
    }

    #[test]
    fn a_claim_of_one_profile_has_no_cell_in_the_other() {
        let page = verdict(true).page();
        let line = page.lines().find(|line| line.contains("stays out")).unwrap();
        assert!(line.contains("33.4     ·"), "{line}");
    }

    #[test]
    fn what_is_not_as_expected_is_counted_and_stands_out() {
        let verdict = verdict(false);
        assert_eq!((verdict.surprises(), verdict.rows()), (1, 2));
        let page = verdict.page();
        assert!(page.contains("NOT AS EXPECTED (1 of 1)"), "{page}");
        assert!(page.contains("1 of 2 claims NOT as expected"), "{page}");
        assert_eq!(verdict.as_json()["ok"], false);
    }
}
