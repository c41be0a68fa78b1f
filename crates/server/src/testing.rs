//! A bench for brains: servers joined in memory, clients made of text, a clock that is turned by hand.
//!
//! Messages arrive at once; time moves only by [`Bench::elapse`], from deadline to deadline. A server that is *cut*
//! neither hears nor is heard, and nobody is told: no reset, no failed opening.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use resilience::topology::{ServerName, Topology};
use sip::digest::{self, Algorithm, Challenge, Ha1, NonceKey};
use sip::header::HeaderName;
use sip::message::Message;
use sip::transport::{Flow, FlowLoss, Transport};
use sip::uri::AddressOfRecord;

use crate::config::{Config, Settings, Shard};
use crate::directory::{Directory, User};
use crate::input::{Command, Input, Peer};
use crate::output::{Change, Output};
use crate::server::Server;

/// The moment every test starts at.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock; tests read it once"
)]
pub(crate) fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Wall time at the epoch.
const UNIX: u64 = 1_700_000_000;
/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse";
/// The domain and realm of every bench.
pub(crate) const DOMAIN: &str = "example.test";

/// Shorthand for an address-of-record in the domain of the bench.
pub(crate) fn aor(user: &str) -> AddressOfRecord {
    format!("sip:{user}@{DOMAIN}").parse().unwrap()
}

/// A user homed on `home`, with the password of everybody.
pub(crate) fn user(name: &str, home: &str) -> (AddressOfRecord, User) {
    let ha1 = |algorithm| Ha1::of(algorithm, name, DOMAIN, PASSWORD);
    let user = User {
        home: home.into(),
        enabled: true,
        number: None,
        ha1_md5: ha1(Algorithm::Md5),
        ha1_sha256: ha1(Algorithm::Sha256),
    };
    (aor(name), user)
}

/// One server on the bench.
struct Seat {
    server: Server,
    cut: bool,
}

/// Servers joined in memory.
pub(crate) struct Bench {
    pub(crate) now: Instant,
    pub(crate) topology: Arc<Topology>,
    pub(crate) directory: Arc<Directory>,
    seats: BTreeMap<ServerName, Seat>,
    /// Pairs of servers, in order of name, between which nothing passes.
    parted: BTreeSet<(ServerName, ServerName)>,
    /// Each end of a connection between servers: who holds it, and the other end.
    wires: BTreeMap<Flow, (ServerName, Flow)>,
    serial: u64,
    /// Everything servers said to clients, in order.
    pub(crate) sent: VecDeque<(Flow, Message)>,
    /// The bare CRLFs among it.
    pub(crate) pongs: Vec<Flow>,
    /// Event lines, with the server and the milliseconds since the epoch.
    pub(crate) lines: Vec<String>,
    /// What each server wanted kept.
    pub(crate) disk: BTreeMap<ServerName, Vec<Change>>,
    /// Client connections that servers closed.
    pub(crate) closed: BTreeSet<Flow>,
    /// Openings to places that are no server here.
    pub(crate) opened_elsewhere: Vec<(ServerName, u64, sip::transport::Target)>,
}

impl Bench {
    /// Every server of the topology, born now.
    pub(crate) fn new(topology: Topology, users: &[(&str, &str)]) -> Bench {
        let users = users.iter().map(|(name, home)| user(name, home)).collect();
        let directory = Arc::new(Directory { version: 1, users });
        let mut bench = Bench {
            now: epoch(),
            topology: Arc::new(topology),
            directory,
            seats: BTreeMap::new(),
            parted: BTreeSet::new(),
            wires: BTreeMap::new(),
            serial: 0,
            sent: VecDeque::new(),
            pongs: Vec::new(),
            lines: Vec::new(),
            disk: BTreeMap::new(),
            closed: BTreeSet::new(),
            opened_elsewhere: Vec::new(),
        };
        let topology = Arc::clone(&bench.topology);
        for entry in topology.pools.iter().flat_map(|pool| &pool.servers) {
            bench.start(&entry.name);
        }
        bench.settle();
        bench
    }

    /// Starts a server, with what its disk kept.
    pub(crate) fn start(&mut self, name: &str) {
        let name = ServerName::new(name);
        let config = Config {
            topology: Arc::clone(&self.topology),
            directory: Arc::clone(&self.directory),
            server: name.clone(),
            shard: Shard::ONLY,
            realm: DOMAIN.to_owned(),
            nonce_key: NonceKey::new([7; 32]),
            unix_at_birth: UNIX + self.now.duration_since(epoch()).as_secs(),
            settings: Settings::default(),
        };
        let seed = name.bytes().map(u64::from).sum();
        let mut server = Server::new(config, ChaCha12Rng::seed_from_u64(seed), self.now);
        let kept = self.disk.get(&name).cloned().unwrap_or_default();
        server.restore(kept, self.now);
        self.seats.insert(name.clone(), Seat { server, cut: false });
        self.drain(&name);
    }

    /// Kills a server: its connections are reset, its memory is gone, its disk stays.
    pub(crate) fn kill(&mut self, name: &str) {
        let name = ServerName::new(name);
        self.seats.remove(&name);
        let lost: Vec<_> = self
            .wires
            .iter()
            .filter(|(_, (holder, _))| *holder == name)
            .map(|(end, (_, far))| (*end, *far))
            .collect();
        for (end, far) in lost {
            self.wires.remove(&end);
            if let Some((holder, _)) = self.wires.remove(&far) {
                self.tell(&holder, Input::FlowLost { flow: far, why: FlowLoss::Reset });
            }
        }
        self.settle();
    }

    pub(crate) fn cut(&mut self, name: &str) {
        self.seats.get_mut(&ServerName::new(name)).unwrap().cut = true;
    }

    pub(crate) fn restore(&mut self, name: &str) {
        self.seats.get_mut(&ServerName::new(name)).unwrap().cut = false;
        self.settle();
    }

    /// Lets nothing pass between two servers; both live, and are heard by their clients.
    pub(crate) fn part(&mut self, one: &str, other: &str) {
        self.parted.insert(pair(&ServerName::new(one), &ServerName::new(other)));
    }

    /// Undoes [`Bench::part`].
    pub(crate) fn join(&mut self, one: &str, other: &str) {
        self.parted.remove(&pair(&ServerName::new(one), &ServerName::new(other)));
    }

    pub(crate) fn command(&mut self, name: &str, command: Command) {
        self.input(name, Input::Told(command));
    }

    pub(crate) fn input(&mut self, name: &str, input: Input) {
        self.tell(&ServerName::new(name), input);
        self.settle();
    }

    pub(crate) fn server(&self, name: &str) -> &Server {
        &self.seats[&ServerName::new(name)].server
    }

    pub(crate) fn server_mut(&mut self, name: &str) -> &mut Server {
        &mut self.seats.get_mut(&ServerName::new(name)).unwrap().server
    }

    /// A flow from a client to a server; streams are numbered and opened.
    pub(crate) fn flow(&mut self, server: &str, transport: Transport, port: u16) -> Flow {
        let (_, entry) = self.topology.server(server).unwrap();
        let local_port = match transport {
            Transport::Udp => entry.udp,
            Transport::Tcp => entry.tcp,
            _ => entry.tls,
        };
        let local = SocketAddr::new(entry.address, local_port.unwrap());
        let remote = SocketAddr::from(([127, 9, 0, 1], port));
        self.serial += u64::from(transport.is_reliable());
        let serial = if transport.is_reliable() { self.serial } else { 0 };
        let flow = Flow { transport, local, remote, serial };
        if transport.is_reliable() {
            self.input(server, Input::FlowOpened { flow, peer: Peer::default() });
        }
        flow
    }

    /// Sends text (lines joined by CRLF) from a client and gives what came back on that flow.
    pub(crate) fn ask(&mut self, server: &str, flow: Flow, message: &str) -> Vec<Message> {
        let before = self.sent.len();
        self.input(server, Input::Received { flow, bytes: Bytes::from(message.to_owned()) });
        self.sent
            .iter()
            .skip(before)
            .filter(|(way, _)| way.remote == flow.remote)
            .map(|(_, m)| m.clone())
            .collect()
    }

    /// Lets time pass.
    pub(crate) fn elapse(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self.seats.values_mut().filter_map(|seat| deadline(&mut seat.server)).min();
            match next {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    let due: Vec<ServerName> = self.seats.keys().cloned().collect();
                    for name in due {
                        self.tell(&name, Input::Timeout);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Delivers until nobody has anything to say.
    fn settle(&mut self) {
        for name in self.seats.keys().cloned().collect::<Vec<_>>() {
            self.drain(&name);
        }
    }

    fn tell(&mut self, name: &ServerName, input: Input) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.server.handle_input(input, self.now);
            self.drain(name);
        }
    }

    /// Carries out what a server wants.
    fn drain(&mut self, name: &ServerName) {
        loop {
            let Some(seat) = self.seats.get_mut(name) else { return };
            let cut = seat.cut;
            match seat.server.poll_output() {
                Output::Timeout(_) => return,
                Output::Persist(change) => self.disk.entry(name.clone()).or_default().push(change),
                Output::Event(event) => {
                    let millis = self.now.duration_since(epoch()).as_millis();
                    self.lines.push(format!("{millis} {name} {event}"));
                }
                Output::Open { ticket, target } => self.open(name, ticket, target),
                Output::Transmit { flow, bytes } => self.carry(flow, bytes, cut),
                Output::Close { flow } => {
                    self.closed.insert(flow);
                    if let Some((_, far)) = self.wires.remove(&flow)
                        && let Some((holder, _)) = self.wires.remove(&far)
                        && !cut
                        && !self.parted.contains(&pair(name, &holder))
                    {
                        self.tell(&holder, Input::FlowLost { flow: far, why: FlowLoss::Closed });
                    }
                }
                Output::Resolve(_) | Output::Outlook(_) | Output::Handover { .. } => {}
            }
        }
    }

    fn open(&mut self, name: &ServerName, ticket: u64, target: sip::transport::Target) {
        let is_it = |entry: &&resilience::topology::ServerEntry| {
            entry.address == target.address.ip() && entry.tls == Some(target.address.port())
        };
        let mut servers = self.topology.pools.iter().flat_map(|pool| &pool.servers);
        let Some(far) = servers.find(is_it).map(|entry| entry.name.clone()) else {
            self.opened_elsewhere.push((name.clone(), ticket, target));
            return;
        };
        let Some(seat) = self.seats.get(&far) else {
            return self.tell(name, Input::OpenFailed { ticket, why: FlowLoss::Refused });
        };
        if seat.cut || self.seats[name].cut || self.parted.contains(&pair(name, &far)) {
            return; // a black hole says nothing
        }
        self.serial += 2;
        let (_, own) = self.topology.server(name).unwrap();
        let near_address = SocketAddr::new(own.address, 40_000);
        let near = Flow {
            transport: Transport::Tls,
            local: near_address,
            remote: target.address,
            serial: self.serial,
        };
        let there = Flow { local: target.address, remote: near_address, serial: self.serial + 1, ..near };
        self.wires.insert(near, (name.clone(), there));
        self.wires.insert(there, (far.clone(), near));
        let peer = |name: &ServerName| Peer { names: vec![name.to_string()] };
        self.tell(&far, Input::FlowOpened { flow: there, peer: peer(name) });
        self.tell(name, Input::FlowOpened { flow: near, peer: peer(&far) });
        self.tell(name, Input::Opened { ticket, flow: near });
    }

    fn carry(&mut self, flow: Flow, bytes: Bytes, cut: bool) {
        if let Some((near, far)) = self.wires.get(&flow).cloned() {
            let Some((holder, _)) = self.wires.get(&far).cloned() else { return };
            let cut = cut || self.parted.contains(&pair(&near, &holder));
            if !cut && !self.seats.get(&holder).is_none_or(|seat| seat.cut) {
                self.tell(&holder, Input::Received { flow: far, bytes });
            }
            return;
        }
        if cut {
            return;
        }
        if bytes == "\r\n" {
            self.pongs.push(flow);
        } else {
            self.sent.push_back((flow, Message::parse(bytes).expect("servers send SIP")));
        }
    }
}

fn pair(one: &ServerName, other: &ServerName) -> (ServerName, ServerName) {
    (one.min(other).clone(), one.max(other).clone())
}

fn deadline(server: &mut Server) -> Option<Instant> {
    match server.poll_output() {
        Output::Timeout(at) => at,
        other => panic!("undrained: {other:?}"),
    }
}

//------------ Clients -----------------------------------------------------------

/// A device that registers.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    /// Whole Contact value, and more header lines, each with its CRLF.
    pub(crate) contact: String,
    pub(crate) extra: String,
    /// The challenge last heard and how often it was used.
    pub(crate) nonce: Option<(Challenge, u32)>,
}

/// What our own client and a Lync-type client announce.
pub(crate) const LYNC: &str = "Supported: ms-cluster-failover, ms-userservices-state-notification\r\n";
/// What our own client announces.
pub(crate) const OURS: &str =
    "Supported: rehome-registrars, ms-cluster-failover, ms-userservices-state-notification\r\n";

impl Phone {
    pub(crate) fn new(user: &'static str, contact: &str) -> Phone {
        Phone {
            user,
            password: PASSWORD,
            call_id: format!("{user}-1"),
            cseq: 0,
            contact: contact.to_owned(),
            extra: String::new(),
            nonce: None,
        }
    }

    pub(crate) fn with(mut self, extra: &str) -> Phone {
        self.extra.push_str(extra);
        self
    }

    /// The next REGISTER, with credentials if a challenge is known.
    pub(crate) fn register(&mut self, flow: Flow) -> String {
        self.cseq += 1;
        let credentials = self.credentials("Authorization", "REGISTER", &format!("sip:{DOMAIN}"));
        let contact =
            if self.contact.is_empty() { String::new() } else { format!("Contact: {}\r\n", self.contact) };
        let Phone { user, call_id, cseq, extra, .. } = self;
        format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/{} 127.9.0.1:{};branch=z9hG4bK{call_id}{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@{DOMAIN}>;tag=from-{user}\r\n\
             To: <sip:{user}@{DOMAIN}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             {contact}{extra}{credentials}Content-Length: 0\r\n\r\n",
            flow.transport,
            flow.remote.port(),
        )
    }

    /// A credentials line for the challenge last heard.
    pub(crate) fn credentials(&mut self, header: &str, method: &str, uri: &str) -> String {
        let Some((challenge, count)) = &mut self.nonce else { return String::new() };
        *count += 1;
        let ha1 = challenge.ha1(self.user, self.password);
        let asked = digest::Asked { method, uri, body: b"" };
        let value = digest::answer(challenge, self.user, &ha1, &asked, *count, "c0ffee");
        format!("{header}: {value}\r\n")
    }

    /// Learns the challenges of a 401 or 407.
    pub(crate) fn learn(&mut self, response: &Message) {
        let header = if response.status() == Some(407) {
            HeaderName::ProxyAuthenticate
        } else {
            HeaderName::WwwAuthenticate
        };
        let offered: Vec<Challenge> = response.headers(header).flat_map(Challenge::parse_all).collect();
        let chosen = digest::strongest(&offered).cloned();
        self.nonce = Some((chosen.expect("a challenge offers something"), 0));
    }

    /// REGISTER, and again with credentials if asked for them; the last answer.
    pub(crate) fn sign_in(&mut self, bench: &mut Bench, server: &str, flow: Flow) -> Message {
        for _ in 0..3 {
            let message = self.register(flow);
            let answer = bench.ask(server, flow, &message).pop().expect("every REGISTER is answered");
            if answer.status() != Some(401) {
                return answer;
            }
            self.learn(&answer);
        }
        panic!("{} was challenged three times", self.user);
    }
}
