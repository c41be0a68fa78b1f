//! Plays a story in a world.

use std::collections::BTreeSet;
use std::time::Duration;

use resilience::profile::Profile;

use super::expect::Verdict;
use super::{Act, Expectation, Item, Setup, Step, Story, Verb};
use crate::history::{History, What};

/// Where a story can be played: the simulator, or real sockets.
///
/// A world carries out commands, lets time pass, and writes down what it sees. It judges nothing.
/// All times are story time, from zero; a world that plays faster than life scales its clock.
pub trait World {
    /// Carries out one command. It returns when the command has been given, not when it has had its
    /// effect. An error says why the command makes no sense here.
    fn act(&mut self, verb: &Verb) -> Result<(), String>;

    /// Lets time pass until `deadline`, or until `done` says so. `done` is asked whenever the
    /// history has grown, and once at the beginning.
    fn run_until(&mut self, deadline: Duration, done: &mut dyn FnMut(&History) -> bool);

    /// What time it is.
    fn now(&self) -> Duration;

    /// Everything seen so far.
    fn history(&self) -> &History;

    /// The log lines since this was last asked, in a world whose log is the same on every run;
    /// `None` in one whose log cannot be compared.
    fn take_log(&mut self) -> Option<Vec<String>> {
        None
    }
}

/// One judged claim.
#[derive(Clone, Debug)]
pub struct Row {
    /// The step's label, such as `S4`; the story's name where it has none.
    pub step: String,
    /// The profile it was played in.
    pub profile: Profile,
    /// The claim.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Seconds from the command to what was seen.
    pub seconds: f64,
    /// Whether it held.
    pub ok: bool,
    /// Line of the story.
    pub line: usize,
}

/// A log block that is not what was seen.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Line of the story.
    pub line: usize,
    /// As written.
    pub expected: Vec<String>,
    /// As seen.
    pub seen: Vec<String>,
}

/// How a story went, in one profile.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The profile.
    pub profile: Profile,
    /// Every claim.
    pub rows: Vec<Row>,
    /// Log blocks that differ; always empty in a world without a comparable log.
    pub mismatches: Vec<Mismatch>,
    /// What each group of log blocks should say.
    pub blocks: Vec<Vec<String>>,
    /// A command that could not be carried out ends the story here.
    pub error: Option<String>,
}

impl Outcome {
    /// Whether everything was as told.
    pub fn ok(&self) -> bool {
        self.error.is_none() && self.mismatches.is_empty() && self.rows.iter().all(|row| row.ok)
    }
}

/// Plays `story` in `world`, which was made from its [`Setup`] for `profile`.
///
/// `told` hears each row as soon as it is judged, so that a story in real time can show its progress.
pub fn run(
    story: &Story,
    setup: &Setup,
    profile: Profile,
    world: &mut dyn World,
    told: &mut dyn FnMut(&Row),
) -> Outcome {
    let mut play = Play {
        story,
        setup,
        profile,
        world,
        anchor: (0, Duration::ZERO),
        log: Vec::new(),
        outcome: Outcome {
            profile,
            rows: Vec::new(),
            mismatches: Vec::new(),
            blocks: Vec::new(),
            error: None,
        },
    };
    let mut in_group = false;
    for item in &story.items {
        match item {
            Item::Text(_) => in_group = false,
            Item::Step(step) => {
                in_group = false;
                if step.only.is_some_and(|only| only != profile) {
                    continue;
                }
                if let Err(why) = play.step(step, told) {
                    play.outcome.error = Some(format!("{}.scn:{}: {why}", story.name, step.line));
                    break;
                }
            }
            Item::Block(block) => {
                let comparable = play.collect();
                if !in_group {
                    let lines = std::mem::take(&mut play.log);
                    play.outcome.blocks.push(lines);
                    in_group = true;
                }
                let seen = play.outcome.blocks.last().cloned().unwrap_or_default();
                if comparable && block.only.is_none_or(|only| only == profile) && seen != block.lines {
                    let expected = block.lines.clone();
                    play.outcome.mismatches.push(Mismatch { line: block.line, expected, seen });
                }
            }
        }
    }
    play.outcome
}

struct Play<'a> {
    story: &'a Story,
    setup: &'a Setup,
    profile: Profile,
    world: &'a mut dyn World,
    /// The last command: how long the history was then, and when it was.
    anchor: (usize, Duration),
    /// Log lines and printed answers since the last block.
    log: Vec<String>,
    outcome: Outcome,
}

impl Play<'_> {
    fn step(&mut self, step: &Step, told: &mut dyn FnMut(&Row)) -> Result<(), String> {
        match &step.act {
            Act::Do(verb) => {
                self.anchor = (self.world.history().len(), self.world.now());
                self.world.act(verb)?;
            }
            Act::Elapse(span) => {
                let deadline = self.world.now() + *span;
                self.world.run_until(deadline, &mut |_| false);
            }
            Act::Where(user) => {
                self.collect();
                self.log.push(self.world.history().standing(user).to_string());
            }
            Act::Skip => {
                self.collect();
                self.log.clear();
            }
            Act::Status => {
                self.collect();
                let lines = self.status();
                self.log.extend(lines);
            }
            Act::Expect { label, text, expectation } => {
                let verdict = self.judge(expectation);
                let (ok, after, seen) = match verdict {
                    Verdict::Holds(after, seen) => (true, after, seen),
                    Verdict::Broken(after, seen) => (false, after, seen),
                    Verdict::Open => (false, expectation.deadline(), "not seen".to_owned()),
                };
                let row = Row {
                    step: if label.is_empty() { self.story.name.clone() } else { label.clone() },
                    profile: self.profile,
                    expected: text.clone(),
                    seen,
                    seconds: after.as_secs_f64(),
                    ok,
                    line: step.line,
                };
                told(&row);
                self.outcome.rows.push(row);
            }
        }
        Ok(())
    }

    fn judge(&mut self, expectation: &Expectation) -> Verdict {
        let (from, start) = self.anchor;
        let deadline = (start + expectation.deadline()).max(self.world.now());
        self.world.run_until(deadline, &mut |history| {
            !matches!(expectation.judge(history, from, start), Verdict::Open)
        });
        let history = self.world.history();
        match expectation.judge(history, from, start) {
            Verdict::Open => expectation.at_the_end(history),
            verdict => verdict,
        }
    }

    /// Moves the world's log lines over. False: this world's log cannot be compared.
    fn collect(&mut self) -> bool {
        match self.world.take_log() {
            Some(lines) => {
                self.log.extend(lines);
                true
            }
            None => false,
        }
    }

    /// Where everybody is, and what the servers think of their partners.
    fn status(&self) -> Vec<String> {
        let history = self.world.history();
        let users: BTreeSet<&str> = history
            .all()
            .iter()
            .filter_map(|seen| match &seen.what {
                What::Standing { user, .. } => Some(user.as_str()),
                _ => None,
            })
            .chain(self.setup.users.iter().map(|user| user.name.as_str()))
            .collect();
        let mut partners = std::collections::BTreeMap::new();
        for seen in history.all() {
            if let What::Partner { server, pool, state, .. } = &seen.what {
                partners.insert((server.clone(), pool.as_str()), state.as_str());
            }
        }
        let mut lines: Vec<String> =
            users.into_iter().map(|user| format!("{user}  {}", history.standing(user))).collect();
        lines.extend(partners.into_iter().map(|((server, pool), state)| format!("{server}  {pool} {state}")));
        lines
    }
}
