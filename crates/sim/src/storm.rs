//! Storms: random bad days by seed, and what must be true of every one of them.
//!
//! A storm cuts, kills, freezes and parts whatever it likes, for as long as it is told, and signs people
//! out and in meanwhile. Then everything is repaired, and after a while of peace everybody must be at
//! home, once, with every promise kept on the way. Any failure replays from its seed.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_core::{Rng, SeedableRng};

use crate::check::{self, Violation};
use crate::story::{Setup, Verb, World};
use crate::world::Simulated;

/// How long after the last repair everybody must be home: the failback interval, and time for the slowest
/// client to try again and for the slowest TCP to retransmit.
const PEACE: Duration = Duration::from_secs(300);

/// How one storm went.
pub struct Aftermath {
    /// The world afterwards.
    pub world: Simulated,
    /// Every command with its story time, to be read beside the world's trace.
    pub commands: Vec<String>,
    /// What was broken; empty is good.
    pub violations: Vec<Violation>,
}

/// Lets a storm rage over `setup` for `lasting` of story time.
pub fn storm(setup: &Setup, seed: u64, lasting: Duration) -> Result<Aftermath, String> {
    let mut storm = Storm {
        world: Simulated::new(setup, seed)?,
        rng: rand_chacha::ChaCha12Rng::seed_from_u64(seed),
        broken: BTreeSet::new(),
        away: BTreeSet::new(),
        commands: Vec::new(),
    };
    let servers: Vec<String> = setup
        .topology
        .pools
        .iter()
        .flat_map(|pool| &pool.servers)
        .map(|server| server.name.to_string())
        .collect();
    let users: Vec<String> = setup.users.iter().map(|user| user.name.clone()).collect();
    for user in &users {
        storm.command(&format!("sign-in {user}"))?;
    }
    storm.elapse(Duration::from_secs(60));
    let end = storm.world.now() + lasting;
    while storm.world.now() < end {
        storm.gust(&servers, &users)?;
        let calm = Duration::from_millis(500 + u64::from(storm.rng.next_u32() % 45_000));
        storm.elapse(calm);
    }
    storm.repair()?;
    storm.elapse(PEACE);

    let mut violations = check::promises(storm.world.history(), setup);
    violations.extend(check::one_home(&storm.world));
    for user in &users {
        // A client may be between two registrars just now; it must not be for long.
        let standing = storm.world.history().standing(user);
        let out_for = storm.world.now().saturating_sub(standing.since);
        if standing.place.is_none() && out_for > Duration::from_secs(60) {
            let what = format!("{user} is signed out though everything works");
            violations.push(Violation { promise: "no limbo", at: storm.world.now(), what });
        }
    }
    Ok(Aftermath { world: storm.world, commands: storm.commands, violations })
}

struct Storm {
    world: Simulated,
    rng: rand_chacha::ChaCha12Rng,
    /// What is broken now, as the command that mends it.
    broken: BTreeSet<String>,
    /// Users who signed out.
    away: BTreeSet<String>,
    commands: Vec<String>,
}

impl Storm {
    /// Breaks something, mends something, or lets somebody come or go.
    fn gust(&mut self, servers: &[String], users: &[String]) -> Result<(), String> {
        let server = self.pick(servers);
        match self.rng.next_u32() % 10 {
            0..=2 => self.mend_one(),
            3 | 4 => self.break_with("cut", "restore", &server),
            5 => self.break_with("kill", "start", &server),
            6 => self.break_with("freeze", "thaw", &server),
            7 => {
                let other = self.pick(servers);
                if server == other || !self.broken.insert("repair".to_owned()) {
                    return Ok(());
                }
                let way = if self.rng.next_u32().is_multiple_of(3) { " one-way" } else { "" };
                self.command(&format!("partition {server} {other}{way}"))
            }
            8 => {
                if self.broken.insert("dns up".to_owned()) {
                    self.command("dns down")
                } else {
                    Ok(())
                }
            }
            _ => {
                let user = self.pick(users);
                if self.away.remove(&user) {
                    self.command(&format!("sign-in {user}"))
                } else {
                    self.away.insert(user.clone());
                    self.command(&format!("sign-out {user}"))
                }
            }
        }
    }

    /// Does something to a server, unless it is in trouble already.
    fn break_with(&mut self, command: &str, cure: &str, server: &str) -> Result<(), String> {
        if self.broken.iter().any(|cure| cure.ends_with(server)) {
            return Ok(());
        }
        self.broken.insert(format!("{cure} {server}"));
        self.command(&format!("{command} {server}"))
    }

    fn mend_one(&mut self) -> Result<(), String> {
        let cures: Vec<String> = self.broken.iter().cloned().collect();
        if cures.is_empty() {
            return Ok(());
        }
        let cure = self.pick(&cures);
        self.broken.remove(&cure);
        self.command(&cure)
    }

    /// Mends everything, and calls everybody back.
    fn repair(&mut self) -> Result<(), String> {
        for cure in std::mem::take(&mut self.broken) {
            self.command(&cure)?;
        }
        for user in std::mem::take(&mut self.away) {
            self.command(&format!("sign-in {user}"))?;
        }
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<(), String> {
        self.commands.push(format!("{:>8.3}s {line}", self.world.now().as_secs_f64()));
        let verb = Verb::parse(line)?;
        self.world.act(&verb).map_err(|why| format!("{line}: {why}"))
    }

    fn elapse(&mut self, span: Duration) {
        let deadline = self.world.now() + span;
        self.world.run_until(deadline, &mut |_| false);
    }

    fn pick(&mut self, names: &[String]) -> String {
        let place = usize::try_from(self.rng.next_u32()).unwrap_or(0) % names.len().max(1);
        names.get(place).cloned().unwrap_or_default()
    }
}
