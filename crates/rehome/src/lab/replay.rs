//! Plays the article's eight steps on real sockets, all stories and profiles side by side.
//!
//! ```text
//!   story × profile ──► a thread and a LiveWorld each ──► rows ──► verdict
//!                              │ each claim as it is judged
//!                              └──► board: a line per story, while it lasts
//! ```

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use net::certificates::Authority;
use net::clock::{self, Tempo};
use resilience::profile::Profile;
use sim::story::{Outcome, Row, World};
use sim::{Embedded, story};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::folder;
use super::live_world::LiveWorld;
use super::verdict::{Played, Verdict};

/// How much faster than life `--fast` is.
pub(crate) const FAST: u32 = 10;

/// Between two looks at the board.
const REDRAW: Duration = Duration::from_millis(500);

/// Between the starts of two worlds: all at once, their key exchanges would be in each other's way.
const STAGGER: Duration = Duration::from_millis(150);

/// Where the addresses of one run begin: runs side by side take different blocks.
const BLOCKS: [u8; 6] = [10, 30, 50, 70, 90, 110];

/// What is to be played, and how.
#[derive(Clone, Copy)]
pub(crate) struct Wishes<'w> {
    /// In these profiles.
    pub(crate) profiles: &'w [Profile],
    /// This many times as fast as life.
    pub(crate) times: u32,
    /// Without progress.
    pub(crate) quiet: bool,
    /// Telling all that was seen in a story that is not as expected.
    pub(crate) trace: bool,
}

/// Plays the article.
pub(crate) fn article(wishes: Wishes<'_>) -> anyhow::Result<Verdict> {
    let Wishes { profiles, times, quiet, .. } = wishes;
    let block = Block::reserve()?;
    let runtime = tokio::runtime::Runtime::new().context("the system gives no threads")?;
    let parent = folder::state()?;
    std::fs::create_dir_all(&parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    let data = tempfile::Builder::new()
        .prefix("replay-")
        .tempdir_in(&parent)
        .with_context(|| format!("no folder can be made in {}", parent.display()))?;
    let authority = Arc::new(Authority::new("Rehome laboratory").map_err(|why| anyhow!(why))?);

    let stories: Vec<&Embedded> = sim::stories().iter().filter(|story| story.is_of_the_article()).collect();
    let parts: Vec<(&Embedded, Profile)> =
        stories.iter().flat_map(|story| profiles.iter().map(move |profile| (*story, *profile))).collect();
    let board = Board::new(&parts, times, quiet);
    let (enough, is_enough) = watch::channel(false);
    let listening = {
        let _in_runtime = runtime.enter();
        runtime.spawn(interrupted(enough.clone())?)
    };

    let began = clock::now();
    let played: Vec<Played> = std::thread::scope(|scope| {
        let (board, authority, data, block) = (&board, &authority, data.path(), &block);
        let threads: Vec<_> = (0u8..)
            .zip(&parts)
            .map(|(number, (embedded, profile))| {
                let (runtime, enough) = (runtime.handle().clone(), is_enough.clone());
                let part = move || -> anyhow::Result<Outcome> {
                    let start = began + STAGGER * u32::from(number);
                    runtime.block_on(async { tokio::time::sleep_until(start.into()).await });
                    let data = data.join(format!("{embedded}-{profile}"));
                    let authority = authority.clone();
                    let octet = block.first + number;
                    let part = Part { embedded, profile: *profile, at: usize::from(number), octet, wishes };
                    part.play(&runtime, authority, &data, enough, board)
                };
                (embedded, *profile, scope.spawn(part))
            })
            .collect();
        scope.spawn(|| board.show(&runtime));
        let played = threads
            .into_iter()
            .map(|(embedded, profile, thread)| {
                let outcome = match thread.join() {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(why)) => failed(profile, format!("{why:#}")),
                    Err(_) => failed(profile, "it panicked; this is a defect of ours".to_owned()),
                };
                Played { story: embedded.name, text: embedded.text, outcome }
            })
            .collect();
        board.end();
        played
    });
    if *enough.borrow() {
        bail!("interrupted");
    }
    listening.abort();
    Ok(Verdict { played, times, took: clock::now().saturating_duration_since(began) })
}

/// Waits for somebody who has had enough, and passes it on.
fn interrupted(enough: watch::Sender<bool>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
    let mut hang_up = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        enough.send_replace(true);
    })
}

/// A story that did not come to its end.
fn failed(profile: Profile, why: String) -> Outcome {
    Outcome { profile, rows: Vec::new(), mismatches: Vec::new(), blocks: Vec::new(), error: Some(why) }
}

/// One story in one profile.
struct Part<'p> {
    embedded: &'p Embedded,
    profile: Profile,
    /// Its line on the board.
    at: usize,
    /// Second octet of all its addresses.
    octet: u8,
    wishes: Wishes<'p>,
}

impl Part<'_> {
    fn play(
        &self,
        runtime: &Handle,
        authority: Arc<Authority>,
        data: &Path,
        enough: watch::Receiver<bool>,
        board: &Board,
    ) -> anyhow::Result<Outcome> {
        let story = self.embedded.parse()?;
        let setup = story.setup_for(self.profile)?;
        let tempo = Tempo::times(self.wishes.times);
        let is_enough = enough.clone();
        let mut world = LiveWorld::start(runtime, setup.clone(), self.octet, tempo, authority, data, enough)?;
        // What is judged after an interruption says nothing.
        let mut told = |row: &Row| {
            if !*is_enough.borrow() {
                board.judged(self.at, row);
            }
        };
        let outcome = story::run(&story, &setup, self.profile, &mut world, &mut told);
        if self.wishes.trace && !outcome.ok() {
            trace(self, &world);
        }
        board.finished(self.at, outcome.ok());
        world.stop();
        Ok(outcome)
    }
}

/// The addresses of one run, ours as long as this lives.
struct Block {
    /// Second octet of the first world.
    first: u8,
    /// Whoever can bind this has the block; the system gives it back when the process ends, however it ends.
    _token: std::net::UdpSocket,
}

impl Block {
    fn reserve() -> anyhow::Result<Block> {
        let take = |first| {
            let token =
                std::net::UdpSocket::bind((std::net::Ipv4Addr::new(127, first, 53, 2), 5_300)).ok()?;
            Some(Block { first, _token: token })
        };
        BLOCKS.into_iter().find_map(take).with_context(|| {
            format!("{} replays are running here already; wait for one to end", BLOCKS.len())
        })
    }
}

/// Prints everything seen, for whoever looks for the cause of a row that failed.
fn trace(part: &Part<'_>, world: &LiveWorld) {
    let name = format!("{} {}", part.embedded, part.profile);
    let mut text = String::new();
    for seen in world.history().all() {
        text.push_str(&format!("{name} {:>8.3}s {:?}\n", seen.at.as_secs_f64(), seen.what));
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

//------------ Board ---------------------------------------------------------

/// How far each story is, on standard error: redrawn in place on a terminal, a line for each claim elsewhere.
struct Board {
    began: Instant,
    times: u32,
    lines: Mutex<Vec<Line>>,
    ended: watch::Sender<bool>,
    kind: Kind,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Terminal,
    Plain,
    Quiet,
}

struct Line {
    title: String,
    held: usize,
    failed: usize,
    last: String,
    is_over: bool,
}

impl Board {
    fn new(parts: &[(&Embedded, Profile)], times: u32, quiet: bool) -> Board {
        let kind = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Kind::Quiet,
            (false, true) => Kind::Terminal,
            (false, false) => Kind::Plain,
        };
        let line = |(story, profile): &(&Embedded, Profile)| Line {
            title: format!("{:<3} {:<9}", story.name.to_uppercase(), profile.name()),
            held: 0,
            failed: 0,
            last: String::new(),
            is_over: false,
        };
        let lines = Mutex::new(parts.iter().map(line).collect());
        Board { began: clock::now(), times, lines, ended: watch::channel(false).0, kind }
    }

    fn judged(&self, at: usize, row: &Row) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.get_mut(at) else { return };
        if row.ok {
            line.held += 1
        } else {
            line.failed += 1
        }
        line.last.clone_from(&row.expected);
        if self.kind == Kind::Plain {
            let word = if row.ok { "ok" } else { "NOT AS EXPECTED" };
            eprintln!(
                "{:>6.1}s  {} {word:<3} {:>6.1}s  {}",
                self.elapsed(),
                line.title,
                row.seconds,
                row.expected
            );
        }
    }

    fn finished(&self, at: usize, ok: bool) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.get_mut(at) else { return };
        line.is_over = true;
        line.last = if ok { "as expected".to_owned() } else { "not as expected".to_owned() };
    }

    fn elapsed(&self) -> f64 {
        clock::now().saturating_duration_since(self.began).as_secs_f64()
    }

    /// Draws until everything is over.
    fn show(&self, runtime: &tokio::runtime::Runtime) {
        let mut ended = self.ended.subscribe();
        if self.kind != Kind::Terminal {
            return;
        }
        let mut drawn = 0;
        loop {
            drawn = self.draw(drawn);
            let wait = async { tokio::time::timeout(REDRAW, ended.wait_for(|ended| *ended)).await.is_ok() };
            if runtime.block_on(wait) {
                self.draw(drawn);
                return;
            }
        }
    }

    /// Draws over the last `drawn` lines, and gives the number drawn now.
    fn draw(&self, drawn: usize) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        if drawn > 0 {
            page.push_str(&format!("\x1b[{drawn}A"));
        }
        let elapsed = self.elapsed();
        let fast =
            if self.times > 1 { format!(", played {} times as fast", self.times) } else { String::new() };
        page.push_str(&format!(
            "\x1b[2K{elapsed:.0} s{fast}; the longest story takes {} s\n",
            650 / self.times
        ));
        for line in lines.iter() {
            let mark = match (line.is_over, line.failed) {
                (true, 0) => "✓",
                (_, 0) => "▸",
                _ => "✗",
            };
            let told = format!("{mark} {}  {:>2} claims hold  {}", line.title, line.held, line.last);
            page.push_str(&format!("\x1b[2K{}\n", told.chars().take(100).collect::<String>()));
        }
        let _ = io::stderr().lock().write_all(page.as_bytes());
        lines.len() + 1
    }

    fn end(&self) {
        self.ended.send_replace(true);
    }
}
