//! The watch over the partner pools, and over the other servers of our own (only shard 0 keeps it).
//!
//! Each server probes each server of each partner pool with an OPTIONS over mutual TLS: the very path that
//! requests would take. A pool is heard while any member answers 200; a member that answers 503 (it has lost
//! its store) lives but is not fit to serve, and does not count.
//!
//! ```text
//!   Heartbeat (one per server)          Hearing (one per server)      Partner (one per pool)
//!   when to open, probe, reopen   ──►   is this server alive?    ──►  do we speak for its users?
//!            │                                   │                            │
//!        Open, Transmit, Close               Outlook.silent              Outlook.pools
//! ```
//!
//! A connection of the watch carries heartbeats and nothing else, so no heartbeat ever queues behind load.
//!
//! A director in profile `rehome` watches every registrar pool, to name the living one first; it speaks for
//! nobody. In the model it does not look.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use resilience::heartbeat::{Action, Hearing, Heartbeat, Patience, Sign};
use resilience::partner::Partner;
use resilience::profile::Profile;
use resilience::topology::{Pool, PoolName, Role, ServerEntry, ServerName, Topology};
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::print::Builder;
use sip::text::Text;
use sip::transport::{Flow, FlowLoss, Target, Transport};

use crate::desk::Desk;
use crate::event::Event;
use crate::input::{Outlook, PoolOutlook};
use crate::output::Output;

/// The header in which servers tell each other how they are.
pub(crate) const STATE_HEADER: &str = "Rehome-State";

/// How a server is, as it says in heartbeats: `topology=3;directory=17;state=serving;up=pool2.example.test`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Condition {
    /// The topology in use.
    pub(crate) topology: u64,
    /// The directory in use.
    pub(crate) directory: u64,
    /// Registrations are sent to the other servers of the pool.
    pub(crate) draining: bool,
    /// The store takes changes.
    pub(crate) fit: bool,
    /// The watched pools that it holds to be up: it would send their users there.
    pub(crate) up: Vec<PoolName>,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.fit, self.draining) {
            (false, _) => "unfit",
            (true, true) => "draining",
            (true, false) => "serving",
        };
        write!(f, "topology={};directory={};state={state};up=", self.topology, self.directory)?;
        for (number, pool) in self.up.iter().enumerate() {
            write!(f, "{}{pool}", if number > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// The watch of one server.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Who we are.
    server: ServerName,
    /// A machine per watched pool.
    partners: BTreeMap<PoolName, Partner>,
    /// A line per watched server.
    probes: BTreeMap<ServerName, Probe>,
    /// Something has happened since the last [`Watch::handle_timeout`].
    stirred: bool,
}

/// The line to one server.
#[derive(Debug)]
struct Probe {
    /// The pool it is in.
    pool: PoolName,
    /// Where it is, and what it must prove.
    target: Target,
    /// When to probe, when to give a connection up.
    heartbeat: Heartbeat,
    /// When this server was heard.
    hearing: Hearing,
    /// The connection.
    line: Line,
    /// Of all probes to this server.
    call_id: String,
    /// Of the last probe.
    cseq: u32,
    /// It said that it wants no registrations.
    draining: bool,
    /// The pools that it said to be up.
    up: BTreeSet<PoolName>,
    /// What we told the others last.
    alive: bool,
    /// The trouble told last, so that a dead server is reported once and not every second.
    trouble: Option<String>,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    /// No connection.
    Down,
    /// Asked for under this ticket.
    Opening(u64),
    /// Standing.
    Up(Flow),
}

impl Watch {
    /// Begins to watch whom the topology says.
    pub(crate) fn new(topology: &Topology, server: &ServerName, desk: &mut Desk, now: Instant) -> Watch {
        let mut watch = Watch {
            server: server.clone(),
            partners: BTreeMap::new(),
            probes: BTreeMap::new(),
            stirred: true,
        };
        watch.adopt(topology, desk, now);
        watch
    }

    /// Takes a new topology: new servers are watched, gone ones forgotten, the others keep their state.
    pub(crate) fn adopt(&mut self, topology: &Topology, desk: &mut Desk, now: Instant) {
        let Some((own, _)) = topology.server(&self.server) else { return };
        let patience = Patience::from(&topology.timers);
        let pools = watched(topology, own);
        self.partners.retain(|name, _| pools.iter().any(|pool| pool.name == *name));
        for pool in &pools {
            match self.partners.get_mut(&pool.name) {
                Some(partner) => partner.adopt(patience, pool.automatic_failover, now),
                None => {
                    let partner = Partner::new(pool.name.clone(), patience, pool.automatic_failover, now);
                    self.partners.insert(pool.name.clone(), partner);
                }
            }
        }
        let mates = own.servers.iter().filter(|mate| mate.name != self.server).map(|mate| (own, mate));
        let theirs = pools.iter().flat_map(|pool| pool.servers.iter().map(|server| (*pool, server)));
        let wanted: BTreeMap<ServerName, (&Pool, &ServerEntry)> =
            mates.chain(theirs).map(|(pool, server)| (server.name.clone(), (pool, server))).collect();
        for (name, probe) in &mut self.probes {
            if !wanted.contains_key(name)
                && let Line::Up(flow) = probe.line
            {
                desk.say(Output::Close { flow });
            }
        }
        self.probes.retain(|name, _| wanted.contains_key(name));
        for (name, (pool, entry)) in wanted {
            let Some(target) = target(entry) else { continue };
            match self.probes.get_mut(&name) {
                Some(probe) => {
                    (probe.pool, probe.target) = (pool.name.clone(), target);
                    probe.heartbeat.set_interval(patience.heartbeat_interval);
                    probe.hearing.set_patience(patience);
                }
                None => {
                    let probe = Probe {
                        pool: pool.name.clone(),
                        target,
                        heartbeat: Heartbeat::new(patience.heartbeat_interval, now),
                        hearing: Hearing::new(patience, now),
                        line: Line::Down,
                        call_id: format!("{:016x}@{}", desk.random(), self.server),
                        cseq: 0,
                        draining: false,
                        up: BTreeSet::new(),
                        alive: true,
                        trouble: None,
                    };
                    self.probes.insert(name, probe);
                }
            }
        }
        self.act(desk, now);
    }

    /// A connection stands. True if it was ours; `proven` is whom the other side proved to be.
    pub(crate) fn handle_opened(
        &mut self,
        ticket: u64,
        flow: Flow,
        proven: &[String],
        desk: &mut Desk,
        now: Instant,
    ) -> bool {
        let Some((name, probe)) =
            self.probes.iter_mut().find(|(_, probe)| probe.line == Line::Opening(ticket))
        else {
            return false;
        };
        if proven.iter().any(|proved| *name == **proved) {
            probe.line = Line::Up(flow);
            probe.heartbeat.handle_opened(now);
        } else {
            // The world has checked the certificate against the target's name; no name means no TLS.
            probe.line = Line::Down;
            probe.heartbeat.handle_failed(now);
            desk.say(Output::Close { flow });
            trouble(desk, name, probe, "did not prove its name".to_owned());
        }
        self.act(desk, now);
        true
    }

    /// There is no connection. True if it was ours.
    pub(crate) fn handle_open_failed(
        &mut self,
        ticket: u64,
        why: &FlowLoss,
        desk: &mut Desk,
        now: Instant,
    ) -> bool {
        let Some((name, probe)) =
            self.probes.iter_mut().find(|(_, probe)| probe.line == Line::Opening(ticket))
        else {
            return false;
        };
        probe.line = Line::Down;
        probe.heartbeat.handle_failed(now);
        trouble(desk, name, probe, why.to_string());
        true
    }

    /// A connection is gone. True if it was ours.
    pub(crate) fn handle_flow_lost(
        &mut self,
        flow: Flow,
        why: &FlowLoss,
        desk: &mut Desk,
        now: Instant,
    ) -> bool {
        let Some((name, probe)) = self.probes.iter_mut().find(|(_, probe)| probe.line == Line::Up(flow))
        else {
            return false;
        };
        probe.line = Line::Down;
        probe.heartbeat.handle_failed(now);
        trouble(desk, name, probe, why.to_string());
        true
    }

    /// Is this flow one of the watch's lines?
    pub(crate) fn owns(&self, flow: Flow) -> bool {
        self.probes.values().any(|probe| probe.line == Line::Up(flow))
    }

    /// A response on one of our lines: the answer to a probe, if Call-ID and CSeq say so.
    pub(crate) fn handle_answer(&mut self, flow: Flow, response: &Message, desk: &mut Desk, now: Instant) {
        let Some((name, probe)) = self.probes.iter_mut().find(|(_, probe)| probe.line == Line::Up(flow))
        else {
            return;
        };
        let is_ours = response.call_id().is_ok_and(|call_id| call_id == probe.call_id)
            && response.cseq().is_ok_and(|cseq| cseq.method == Method::Options && cseq.number <= probe.cseq);
        let Some(status) = response.status().filter(|&status| is_ours && status >= 200) else { return };
        probe.heartbeat.handle_answer(now);
        let mut said = response.header_named(STATE_HEADER).unwrap_or_default().split(';');
        probe.draining = said.clone().any(|word| word == "state=draining");
        let up = said.find_map(|word| word.strip_prefix("up=")).unwrap_or_default();
        // Of pools that we do not know ourselves nobody will ask.
        probe.up =
            self.partners.keys().filter(|pool| up.split(',').any(|name| *name == ***pool)).cloned().collect();
        if status == 200 {
            probe.trouble = None;
            probe.hearing.handle_heartbeat(now);
            if let Some(partner) = self.partners.get_mut(&probe.pool) {
                partner.handle_heartbeat(now);
            }
        } else {
            trouble(desk, name, probe, format!("answers {status}"));
        }
        self.notice(desk, now);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk, now: Instant) {
        self.stirred = false;
        for probe in self.probes.values_mut() {
            if probe.heartbeat.poll_timeout() <= now {
                probe.heartbeat.handle_timeout(now);
            }
            probe.hearing.handle_timeout(now);
        }
        for partner in self.partners.values_mut() {
            partner.handle_timeout(now);
        }
        self.act(desk, now);
        self.notice(desk, now);
        self.stirred = false;
    }

    /// Time that we were not there for is taken out of everybody's silence. To be called before an input is looked at.
    ///
    /// We ask to be woken at least once in a heartbeat interval. Coming a whole interval later than asked, it was we
    /// who stood still: stopped, or on a machine that was. Else a server that wakes up believes its partner dead,
    /// and seizes users who never missed anything.
    pub(crate) fn excuse_absence(&mut self, now: Instant) {
        let Some(due) = self.poll_timeout().filter(|due| *due < now) else { return };
        let absence = now.saturating_duration_since(due);
        let intervals = self.probes.values().map(|probe| probe.hearing.patience().heartbeat_interval);
        if intervals.min().is_none_or(|interval| absence <= interval.max(Duration::from_secs(1))) {
            return;
        }
        for probe in self.probes.values_mut() {
            probe.hearing.excuse(absence, now);
        }
        for partner in self.partners.values_mut() {
            partner.excuse(absence, now);
        }
    }

    /// Something was heard or is due, so the outlook may be another one.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.stirred || self.poll_timeout().is_some_and(|at| at <= now)
    }

    /// The machine of a pool, for the operator.
    pub(crate) fn partner_mut(&mut self, pool: &PoolName) -> Option<&mut Partner> {
        self.stirred = true;
        self.partners.get_mut(pool)
    }

    /// What the other shards, and the director's table, should believe now.
    pub(crate) fn outlook(&self, now: Instant) -> Outlook {
        let pool = |partner: &Partner| PoolOutlook {
            state: partner.state(),
            since: partner.since(),
            // Where nobody can say when, `retry_after` is none: automatic failover is off.
            lost_at: partner.retry_after(now).and_then(|_| self.lost_at(partner, now)),
        };
        let pools = self.partners.iter().map(|(name, partner)| (name.clone(), pool(partner))).collect();
        let those = |is_so: fn(&Probe) -> bool| {
            self.probes.iter().filter(|(_, probe)| is_so(probe)).map(|(name, _)| name.clone()).collect()
        };
        Outlook {
            pools,
            silent: those(|probe| !probe.alive),
            unmet: those(|probe| probe.hearing.last_heard().is_none()),
            told_up: self.probes.iter().map(|(name, probe)| (name.clone(), probe.up.clone())).collect(),
        }
    }

    /// When a silent pool will be taken for lost.
    fn lost_at(&self, partner: &Partner, now: Instant) -> Option<Instant> {
        let patience = self.probes.values().find(|probe| probe.pool == *partner.name())?.hearing.patience();
        let left = patience.failure_detection_interval.saturating_sub(partner.silence(now));
        now.checked_add(left)
    }

    /// When [`Watch::handle_timeout`] is next wanted.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.probes.values().map(|probe| probe.heartbeat.poll_timeout());
        let hearings = self.probes.values().filter_map(|probe| probe.hearing.poll_timeout());
        let partners = self.partners.values().filter_map(|partner| partner.poll_timeout());
        probes.chain(hearings).chain(partners).min()
    }

    /// Carries out what the heartbeats want.
    fn act(&mut self, desk: &mut Desk, now: Instant) {
        for (name, probe) in &mut self.probes {
            while let Some(action) = probe.heartbeat.poll_action() {
                match (action, probe.line) {
                    (Action::Probe, Line::Up(flow)) => {
                        probe.cseq = probe.cseq.wrapping_add(1) & 0x7fff_ffff;
                        let bytes = options(&self.server, name, probe, flow, desk);
                        desk.transmit(flow, bytes);
                    }
                    // The connection was lost between the wish and now.
                    (Action::Probe, Line::Down | Line::Opening(_)) => probe.heartbeat.handle_failed(now),
                    (Action::Open | Action::Reopen, line) => {
                        if let Line::Up(flow) = line {
                            desk.say(Output::Close { flow });
                        }
                        probe.line = Line::Opening(desk.open(probe.target.clone()));
                    }
                }
            }
        }
    }

    /// Says what has changed.
    fn notice(&mut self, desk: &mut Desk, now: Instant) {
        self.stirred = true;
        for (name, probe) in &mut self.probes {
            let heard = matches!(probe.hearing.sign(now), Sign::Heard | Sign::Steady);
            let alive = heard && !probe.draining;
            if alive != probe.alive {
                probe.alive = alive;
                desk.event(Event::ServerHeard { server: name.clone(), alive });
            }
        }
        for partner in self.partners.values_mut() {
            while let Some(event) = partner.poll_event() {
                desk.event(Event::Partner(event));
            }
        }
    }
}

/// The pools a server of `own` watches.
fn watched<'t>(topology: &'t Topology, own: &'t Pool) -> Vec<&'t Pool> {
    match (own.role, topology.profile) {
        (Role::Registrar, _) => topology.partners(&own.name).collect(),
        (Role::Director, Profile::Rehome) => {
            topology.pools.iter().filter(|pool| pool.role == Role::Registrar).collect()
        }
        (Role::Director, Profile::Lync2010) => Vec::new(),
    }
}

/// Where a server takes heartbeats and requests of other servers.
pub(crate) fn target(server: &ServerEntry) -> Option<Target> {
    Some(Target {
        transport: Transport::Tls,
        address: SocketAddr::new(server.address, server.tls?),
        name: Text::from(server.name.as_str()),
    })
}

/// Reports trouble once.
fn trouble(desk: &mut Desk, server: &ServerName, probe: &mut Probe, why: String) {
    if probe.trouble.as_ref() != Some(&why) {
        desk.event(Event::PeerTrouble { server: server.clone(), why: why.clone() });
        probe.trouble = Some(why);
    }
}

/// One heartbeat.
fn options(own: &ServerName, server: &ServerName, probe: &Probe, flow: Flow, desk: &mut Desk) -> Bytes {
    let uri = format!("sip:{server}:{};transport=tls", probe.target.address.port());
    Builder::request(&Method::Options, &uri)
        .header(
            HeaderName::Via,
            format_args!(
                "SIP/2.0/{} {own}:{};branch=z9hG4bK{:016x}",
                flow.transport,
                flow.local.port(),
                desk.branch()
            ),
        )
        .header(HeaderName::MaxForwards, 0)
        .header(HeaderName::From, format_args!("<sip:{own}>;tag=heartbeat"))
        .header(HeaderName::To, format_args!("<sip:{server}>"))
        .header(HeaderName::CallId, &probe.call_id)
        .header(HeaderName::CSeq, format_args!("{} OPTIONS", probe.cseq))
        .finish()
}
