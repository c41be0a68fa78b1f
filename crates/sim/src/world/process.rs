//! Servers of the simulated world: a brain, its connections, its disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use resilience::partner;
use server::{Change, Config, Input, Output, Peer, Server, Settings, Shard};
use sip::digest::NonceKey;
use sip::message::Message;
use sip::method::Method;
use sip::transport::{Flow, FlowLoss, Frame, Framer, Limits, Transport};

use super::{Occurrence, Simulated, UNIX_AT_START, rng};
use crate::disk::Disk;
use crate::history::Place;
use crate::network::{Arrival, HostId};
use crate::witness;

/// One server of the topology.
pub(super) struct Process {
    /// Which one.
    pub(super) place: Place,
    /// Running: the brain. Killed: nothing.
    pub(super) brain: Option<Server>,
    /// Its disk; survives the process.
    pub(super) disk: Disk<Change>,
    /// The alarm that counts.
    pub(super) alarm: u64,
    /// Number of this life of the process; answers to an earlier life are not delivered.
    pub(super) birth: u64,
    /// When this life began.
    born: Instant,
    /// While frozen: what its kernel holds for it.
    held: VecDeque<Input>,
    /// Streams being cut into messages.
    framers: BTreeMap<Flow, Framer>,
    /// When a server of each other pool last answered a heartbeat.
    heard: BTreeMap<String, Instant>,
}

impl Process {
    pub(super) fn new(place: Place, born: Instant) -> Self {
        Process {
            place,
            brain: None,
            disk: Disk::new(),
            alarm: 0,
            birth: 0,
            born,
            held: VecDeque::new(),
            framers: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }
}

impl Simulated {
    /// Starts the server's process: a new brain, with what the disk kept.
    pub(super) fn start_process(&mut self, host: HostId) -> Result<(), String> {
        let birth = self.number();
        let since_start = self.story_time();
        let (now, seed) = (self.now, self.seed);
        let Some(process) = self.processes.get_mut(&host) else { return Err("not a server".to_owned()) };
        if process.brain.is_some() {
            return Err(format!("{} runs already", process.place));
        }
        let name = process.place.server.as_str().into();
        let config = Config {
            topology: Arc::new(self.setup.topology.clone()),
            directory: Arc::new(self.setup.directory(&name)?),
            server: name,
            shard: Shard::ONLY,
            realm: self.setup.domain().to_owned(),
            nonce_key: NonceKey::new([7; 32]),
            unix_at_birth: UNIX_AT_START + since_start.as_secs(),
            settings: Settings::default(),
        };
        let chance = rng(seed ^ birth, &process.place.server);
        let mut brain = Server::new(config, chance, now);
        let kept = process
            .disk
            .read()
            .filter_map(|(made, change)| aged(change, now.saturating_duration_since(made)));
        brain.restore(kept, now);
        process.brain = Some(brain);
        process.birth = birth;
        process.born = now;
        process.framers.clear();
        process.held.clear();
        process.heard.clear();
        self.network.start(host);
        self.drain_process(host);
        Ok(())
    }

    /// Kills the server's process.
    pub(super) fn kill_process(&mut self, host: HostId) -> Result<(), String> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&host) else { return Err("not a server".to_owned()) };
        if process.brain.take().is_none() {
            return Err(format!("{} does not run", process.place));
        }
        process.disk.crash(now);
        process.alarm = 0;
        process.birth = 0;
        self.network.kill(host, now, &mut self.agenda);
        Ok(())
    }

    /// Lets a frozen process go on: it finds what its kernel kept, and that time has passed.
    pub(super) fn thaw_process(&mut self, host: HostId) {
        self.network.set_frozen(host, false);
        loop {
            let Some(input) = self.processes.get_mut(&host).and_then(|process| process.held.pop_front())
            else {
                break;
            };
            self.tell_process(host, input);
        }
        self.tell_process(host, Input::Timeout);
    }

    /// Hands one input to the server's brain and carries out what it says.
    pub(super) fn tell_process(&mut self, host: HostId, input: Input) {
        let frozen = self.network.is_frozen(host);
        let now = self.now;
        let Some(process) = self.processes.get_mut(&host) else { return };
        let Some(brain) = process.brain.as_mut() else { return };
        if frozen {
            // Time stands still for it; the rest waits in its kernel's buffers.
            if !matches!(input, Input::Timeout) {
                process.held.push_back(input);
            }
            return;
        }
        brain.handle_input(input, now);
        self.drain_process(host);
    }

    fn drain_process(&mut self, host: HostId) {
        let now = self.now;
        loop {
            let Some(process) = self.processes.get_mut(&host) else { return };
            let Some(brain) = process.brain.as_mut() else { return };
            let birth = process.birth;
            match brain.poll_output() {
                Output::Persist(change) => {
                    let seen = witness::change(&process.place, &change);
                    if !process.disk.keep(change, now) {
                        self.agenda.arrange(now, Occurrence::Disk { host, birth, failed: true });
                    }
                    if let Some(seen) = seen {
                        self.note(seen);
                    }
                }
                Output::Transmit { flow, bytes } => {
                    self.network.transmit(host, flow, bytes, now, &mut self.agenda)
                }
                Output::Open { ticket, target } => {
                    self.network.open(host, ticket, &target, now, &mut self.agenda)
                }
                Output::Close { flow } => {
                    process.framers.remove(&flow);
                    self.network.close(host, flow, now, &mut self.agenda);
                }
                Output::Resolve(query) => self.ask_dns(host, birth, query),
                // One shard each.
                Output::Outlook(_) | Output::Handover { .. } => {}
                Output::Event(event) => self.hear_server(host, &event),
                Output::Timeout(at) => {
                    let alarm = self.number();
                    if let Some(process) = self.processes.get_mut(&host) {
                        process.alarm = alarm;
                    }
                    if let Some(at) = at {
                        self.agenda.arrange(at.max(now), Occurrence::Wake { host, alarm });
                    }
                    return;
                }
            }
        }
    }

    fn hear_server(&mut self, host: HostId, event: &server::Event) {
        let now = self.now;
        let Some(process) = self.processes.get(&host) else { return };
        let place = process.place.clone();
        let silent = match event {
            // A server that has just started counts from its own start.
            server::Event::Partner(partner::Event::Changed { partner, .. }) => {
                let heard = process.heard.get(partner.as_str()).copied().unwrap_or(process.born);
                Some(now.saturating_duration_since(heard))
            }
            _ => None,
        };
        for what in witness::server_event(&place, event, silent) {
            self.note(what);
        }
        if is_told_by_server(event) {
            self.log(&place.server, &event.to_string());
        }
    }

    pub(super) fn arrive_at_process(&mut self, host: HostId, arrival: Arrival) {
        match arrival {
            Arrival::Accepted { flow, names } => {
                self.opened_at_process(host, flow);
                self.tell_process(host, Input::FlowOpened { flow, peer: Peer { names } });
            }
            Arrival::Opened { ticket, flow, names } => {
                self.opened_at_process(host, flow);
                self.tell_process(host, Input::FlowOpened { flow, peer: Peer { names } });
                self.tell_process(host, Input::Opened { ticket, flow });
            }
            Arrival::OpenFailed { ticket, why } => self.tell_process(host, Input::OpenFailed { ticket, why }),
            Arrival::Lost { flow, why } => {
                if let Some(process) = self.processes.get_mut(&host) {
                    process.framers.remove(&flow);
                }
                self.tell_process(host, Input::FlowLost { flow, why });
            }
            Arrival::Bytes { flow, bytes } => {
                if flow.transport == Transport::Udp {
                    self.tell_process(host, Input::Received { flow, bytes });
                    return;
                }
                let Some(framer) =
                    self.processes.get_mut(&host).and_then(|process| process.framers.get_mut(&flow))
                else {
                    return;
                };
                framer.push(&bytes);
                loop {
                    let framer =
                        self.processes.get_mut(&host).and_then(|process| process.framers.get_mut(&flow));
                    match framer.map(Framer::next) {
                        Some(Ok(Some(Frame::Message(bytes)))) => {
                            self.note_heartbeat(host, flow, &bytes);
                            self.tell_process(host, Input::Received { flow, bytes });
                        }
                        Some(Ok(Some(Frame::Ping))) => self.tell_process(host, Input::Ping { flow }),
                        Some(Ok(Some(Frame::Pong))) => {}
                        Some(Ok(None)) | None => break,
                        Some(Err(_)) => {
                            self.network.close(host, flow, self.now, &mut self.agenda);
                            if let Some(process) = self.processes.get_mut(&host) {
                                process.framers.remove(&flow);
                            }
                            self.tell_process(host, Input::FlowLost { flow, why: FlowLoss::Dropped });
                            break;
                        }
                    }
                }
            }
        }
    }

    fn opened_at_process(&mut self, host: HostId, flow: Flow) {
        if let Some(process) = self.processes.get_mut(&host).filter(|_| flow.transport != Transport::Udp) {
            process.framers.insert(flow, Framer::new(Limits::default()));
        }
    }

    /// Remembers when a server of another pool last answered a heartbeat as one that is
    /// fit to serve: the evidence against early takeovers.
    fn note_heartbeat(&mut self, host: HostId, flow: Flow, bytes: &Bytes) {
        let now = self.now;
        let Some(from) = self.network.host_at(flow.remote.ip()) else { return };
        let Some(pool) = self.processes.get(&from).map(|process| process.place.pool.clone()) else { return };
        let is_heartbeat = Message::parse(bytes.clone())
            .is_ok_and(|message| message.status() == Some(200) && message.method() == Method::Options);
        if let Some(process) = self.processes.get_mut(&host).filter(|_| is_heartbeat) {
            process.heard.insert(pool, now);
        }
    }

    pub(super) fn disk_verdict(&mut self, host: HostId, birth: u64, failed: bool) {
        if self.processes.get(&host).is_some_and(|process| process.birth == birth) {
            let input = if failed {
                Input::StoreFailed { why: "disk full".to_owned() }
            } else {
                Input::StoreRecovered
            };
            self.tell_process(host, input);
        }
    }
}

/// What is left of a change after it has lain on the disk for `age`; `None` for a binding that has expired.
fn aged(change: Change, age: std::time::Duration) -> Option<Change> {
    match change {
        Change::Binding(mut record) => {
            record.expires_in = record.expires_in.checked_sub(age).filter(|left| !left.is_zero())?;
            Some(Change::Binding(record))
        }
        other => Some(other),
    }
}

/// Events worth a line of a story's log. What a client says about its own REGISTER is not said a
/// second time from the server's side.
fn is_told_by_server(event: &server::Event) -> bool {
    use server::Event;
    !matches!(
        event,
        Event::Registered { .. }
            | Event::Challenged { .. }
            | Event::Redirected { .. }
            | Event::Refused { .. }
            | Event::ServerHeard { .. }
            | Event::PeerTrouble { .. }
    )
}
