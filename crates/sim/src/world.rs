//! The simulated world: real brains on simulated hosts, in virtual time.
//!
//! One seed makes everything: every brain's chance, the network's losses and jitter, the order of
//! what happens at one instant. The same seed and the same commands give the same history to the
//! byte, and an hour of quiet costs nothing.
//!
//! ```text
//!        Agenda ── the next thing ──► network / dns / wake-up
//!                                            │ Input
//!                                            ▼
//!     disk ◄── Persist ── carry out ◄── Output ── brain
//!                           │  Transmit, Open, Close, Resolve, Timeout
//!                           └──────────► Agenda
//! ```
//!
//! A server is one `server::Server` with one shard and one disk; a client is one
//! `endpoint::Endpoint` with its cache. Both live on a host of their own.

mod client;
mod hosts;
mod process;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use sip::locate::{Answer, DnsFailure, Query};

use crate::agenda::{Agenda, epoch};
use crate::dns::{self, Dns};
use crate::history::{History, Place, What};
use crate::network::{Arrival, HostId, Network, Packet};
use crate::story::{Setup, Verb, World};
use client::Client;
use process::Process;

/// Wall time at the beginning of every simulated world, in seconds since 1970.
const UNIX_AT_START: u64 = 1_800_000_000;

/// Something that will happen.
#[derive(Debug)]
enum Occurrence {
    /// In the network.
    Packet(Packet),
    /// A brain asked to be woken; void if it has asked anew since.
    Wake { host: HostId, alarm: u64 },
    /// An answer from DNS arrives.
    Resolved { host: HostId, birth: u64, query: Query, answer: Answer },
    /// The DNS server gets a question.
    Asked { host: HostId, birth: u64, query: Query },
    /// The disk's verdict reaches a server.
    Disk { host: HostId, birth: u64, failed: bool },
}

impl From<Packet> for Occurrence {
    fn from(packet: Packet) -> Self {
        Occurrence::Packet(packet)
    }
}

/// A simulated world.
pub struct Simulated {
    setup: Setup,
    seed: u64,
    epoch: Instant,
    now: Instant,
    agenda: Agenda<Occurrence>,
    network: Network,
    dns: Dns,
    dns_host: HostId,
    processes: BTreeMap<HostId, Process>,
    clients: BTreeMap<HostId, Client>,
    /// Host of each device, by name.
    devices: BTreeMap<String, HostId>,
    history: History,
    log: Vec<String>,
    /// How many lines of the log were taken.
    log_taken: usize,
    /// How many occurrences there have been.
    steps: u64,
    /// Numbers alarms and births.
    next: u64,
    /// Occurrences at the present instant, to notice a brain that spins.
    at_once: u32,
}

impl Simulated {
    /// Builds the world of `setup`: all servers running, nobody signed in.
    pub fn new(setup: &Setup, seed: u64) -> Result<Simulated, String> {
        let epoch = epoch();
        let mut network = Network::new(rng(seed, "network"));
        let dns_host = network.add_host("dns", IpAddr::from([127, 0, 0, 53]), Vec::new(), Vec::new());
        let mut world = Simulated {
            setup: setup.clone(),
            seed,
            epoch,
            now: epoch,
            agenda: Agenda::new(),
            network,
            dns: Dns::of(&setup.topology),
            dns_host,
            processes: BTreeMap::new(),
            clients: BTreeMap::new(),
            devices: BTreeMap::new(),
            history: History::new(),
            log: Vec::new(),
            log_taken: 0,
            steps: 0,
            next: 0,
            at_once: 0,
        };
        world.build()?;
        Ok(world)
    }

    /// Everything logged so far, one line per event.
    pub fn trace(&self) -> &[String] {
        &self.log
    }

    /// How many things have happened: what a simulation costs.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What the world was made from.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// At which pools a user has a binding now, by asking every living server.
    pub fn homes_of(&self, user: &str) -> Vec<Place> {
        let Ok(aor) = self.setup.aor(user) else { return Vec::new() };
        self.processes
            .values()
            .filter_map(|process| {
                let brain = process.brain.as_ref()?;
                (!brain.explain(&aor, self.now).bindings.is_empty()).then(|| process.place.clone())
            })
            .collect()
    }

    /// Story time.
    fn story_time(&self) -> Duration {
        self.now.saturating_duration_since(self.epoch)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn note(&mut self, what: What) {
        let at = self.story_time();
        self.history.add(at, what);
    }

    fn log(&mut self, who: &str, text: &str) {
        let label = who.split('.').next().unwrap_or(who);
        self.log.push(format!("{:>8.3}s {label:<11} {text}", self.story_time().as_secs_f64()));
    }

    /// Lets the next thing happen, if it is due by `end`. False: nothing is.
    fn step(&mut self, end: Instant) -> bool {
        if self.agenda.next_at().is_none_or(|at| at > end) {
            return false;
        }
        let Some((at, occurrence)) = self.agenda.take() else { return false };
        self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
        assert!(self.at_once < 100_000, "a brain spins: {:?} and no time passes", self.log.last());
        self.now = self.now.max(at);
        self.steps += 1;
        match occurrence {
            Occurrence::Packet(packet) => {
                for (host, arrival) in self.network.occur(packet, self.now, &mut self.agenda) {
                    self.arrive(host, arrival);
                }
            }
            Occurrence::Wake { host, alarm } => self.wake(host, alarm),
            Occurrence::Asked { host, birth, query } => self.dns_asked(host, birth, query),
            Occurrence::Resolved { host, birth, query, answer } => self.resolved(host, birth, query, answer),
            Occurrence::Disk { host, birth, failed } => self.disk_verdict(host, birth, failed),
        }
        true
    }

    fn arrive(&mut self, host: HostId, arrival: Arrival) {
        if self.processes.contains_key(&host) {
            self.arrive_at_process(host, arrival);
        } else if self.clients.contains_key(&host) {
            self.arrive_at_client(host, arrival);
        }
    }

    fn wake(&mut self, host: HostId, alarm: u64) {
        if self.processes.get(&host).is_some_and(|process| process.alarm == alarm) {
            self.tell_process(host, server::Input::Timeout);
        } else if self.clients.get(&host).is_some_and(|client| client.alarm == alarm) {
            self.tell_client(host, endpoint::Input::Timeout);
        }
    }

    //------------ DNS ----------

    /// A brain asks: the question travels, or is waited for in vain.
    fn ask_dns(&mut self, host: HostId, birth: u64, query: Query) {
        let patience = self.now + dns::PATIENCE;
        if self.network.is_open(host, self.dns_host) && self.network.is_open(self.dns_host, host) {
            let at = self.now + self.network.delay(host, self.dns_host);
            self.agenda.arrange(at, Occurrence::Asked { host, birth, query });
        } else {
            let answer = Answer::Failed(DnsFailure::TimedOut);
            self.agenda.arrange(patience, Occurrence::Resolved { host, birth, query, answer });
        }
    }

    fn dns_asked(&mut self, host: HostId, birth: u64, query: Query) {
        let back = self.network.delay(self.dns_host, host);
        let (at, answer) = if self.dns.down || self.dns.slow > dns::PATIENCE {
            (self.now + dns::PATIENCE, Answer::Failed(DnsFailure::TimedOut))
        } else {
            (self.now + self.dns.slow + back, self.dns.answer(&query))
        };
        self.agenda.arrange(at, Occurrence::Resolved { host, birth, query, answer });
    }

    fn resolved(&mut self, host: HostId, birth: u64, query: Query, answer: Answer) {
        if self.processes.get(&host).is_some_and(|process| process.birth == birth) {
            self.tell_process(host, server::Input::Resolved { query, answer });
        } else if self.clients.get(&host).is_some_and(|client| client.birth == birth) {
            self.tell_client(host, endpoint::Input::Resolved { query, answer });
        }
    }
}

impl World for Simulated {
    fn act(&mut self, verb: &Verb) -> Result<(), String> {
        self.carry_out(verb)
    }

    fn run_until(&mut self, deadline: Duration, done: &mut dyn FnMut(&History) -> bool) {
        let end = self.epoch + deadline;
        let mut judged = self.history.len();
        if done(&self.history) {
            return;
        }
        while self.step(end) {
            if self.history.len() != judged {
                judged = self.history.len();
                if done(&self.history) {
                    return;
                }
            }
        }
        self.now = self.now.max(end);
    }

    fn now(&self) -> Duration {
        self.story_time()
    }

    fn history(&self) -> &History {
        &self.history
    }

    fn take_log(&mut self) -> Option<Vec<String>> {
        let lines = self.log[self.log_taken..].to_vec();
        self.log_taken = self.log.len();
        Some(lines)
    }
}

/// The chance of one part of the world: the seed, stirred with the part's name.
fn rng(seed: u64, part: &str) -> ChaCha12Rng {
    let stirred = part.bytes().fold(seed ^ 0x9e37_79b9_7f4a_7c15, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    });
    ChaCha12Rng::seed_from_u64(stirred)
}
