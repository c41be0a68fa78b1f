//! Sites, links, network cards, datagrams and streams, all simulated.
//!
//! What is modelled is what makes failover hard. A host whose card is cut is *silent*: nobody gets
//! a FIN or a reset, its connections stay open, and what is sent to it is retransmitted with TCP's
//! back-off until the card is back or TCP gives up. A killed process is the kind failure: its
//! kernel resets every connection at once and refuses new ones. A frozen process is the nasty one:
//! its kernel still acknowledges everything, and nobody is at home.
//!
//! ```text
//!               peers notice          connecting to it       its own timers
//!   cut         nothing               times out              run
//!   killed      reset at once         refused                gone
//!   frozen      nothing               TCP opens, TLS hangs   stand still
//!   partition   as cut, per pair      as cut, per pair       run
//! ```
//!
//! Bytes of a stream arrive in order and once; datagrams may be lost, and a jittery link reorders
//! them. There are no routers, windows or bandwidths: no story needs them yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use sip::text::Text;
use sip::transport::{Flow, FlowLoss, Target, Transport};

use crate::agenda::Agenda;

/// How long a connection may take to come up, TLS included, before the caller's kernel gives up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// First retransmission of a lost piece of a stream; doubles up to [`SLOWEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(300);
/// The longest pause between two retransmissions (Linux: `TCP_RTO_MAX` is 120 s; RFC 6298 allows 60 s).
const SLOWEST_RETRY: Duration = Duration::from_secs(60);
/// When TCP stops retransmitting and reports the connection dead (Linux: `tcp_retries2`, about 15 min).
const GIVE_UP: Duration = Duration::from_secs(924);

/// A host of the simulated network, by number.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct HostId(pub usize);

/// What one link does to what passes over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// One-way delay.
    pub delay: Duration,
    /// Up to this much is added to the delay, evenly.
    pub jitter: Duration,
    /// Share of packets lost, 0.0 to 1.0.
    pub loss: f64,
}

impl Link {
    /// Within a site: half a millisecond, no loss.
    pub const LOCAL: Link = Link { delay: Duration::from_micros(500), jitter: Duration::ZERO, loss: 0.0 };
    /// Between sites: ten milliseconds and a little jitter, no loss.
    pub const WIDE: Link =
        Link { delay: Duration::from_millis(10), jitter: Duration::from_millis(1), loss: 0.0 };
}

/// What the network hands to a host.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// Bytes of a stream, or one datagram.
    Bytes {
        /// The flow, seen from the receiving host.
        flow: Flow,
        /// What came.
        bytes: Bytes,
    },
    /// Somebody connected to us.
    Accepted {
        /// The new flow, seen from here.
        flow: Flow,
        /// Names proved by the other side's certificate; empty for clients.
        names: Vec<String>,
    },
    /// We are connected.
    Opened {
        /// The caller's number.
        ticket: u64,
        /// The new flow, seen from here.
        flow: Flow,
        /// Names proved by the other side's certificate; empty without TLS.
        names: Vec<String>,
    },
    /// We could not connect.
    OpenFailed {
        /// The caller's number.
        ticket: u64,
        /// Why not.
        why: FlowLoss,
    },
    /// A flow is gone.
    Lost {
        /// Which one, seen from here.
        flow: Flow,
        /// Why.
        why: FlowLoss,
    },
}

/// Something under way in the network.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant's sentence names its fields")]
pub enum Packet {
    /// A datagram.
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    /// Part of a stream: the piece with this number, sent by this side.
    Segment { serial: u64, side: usize, number: u64, piece: Piece },
    /// Time to send again what was not acknowledged.
    Retry { serial: u64, side: usize },
    /// A reset, on its way to this side.
    Reset { serial: u64, to: usize },
    /// A request to connect reaches the other host.
    Syn { attempt: u64 },
    /// The connection is complete at the caller.
    Complete { attempt: u64 },
    /// The request to connect was answered with a reset.
    Rejected { attempt: u64, why: FlowLoss },
    /// The caller has waited long enough.
    TooLate { attempt: u64 },
    /// Something to hand over that needs no path (a datagram "connection" is there at once).
    Ready { host: HostId, ticket: u64, flow: Flow },
}

/// A piece of a stream.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// Nothing more will come.
    Fin,
}

/// The network: hosts, links between their sites, and all connections.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    by_address: BTreeMap<IpAddr, HostId>,
    /// Links by unordered pair of sites; pairs not listed are [`Link::WIDE`], a site with itself [`Link::LOCAL`].
    links: BTreeMap<(String, String), Link>,
    /// Ordered pairs of hosts between which nothing passes.
    walls: BTreeSet<(HostId, HostId)>,
    streams: BTreeMap<u64, Stream>,
    attempts: BTreeMap<u64, Attempt>,
    /// The next serial of a stream, and number of an attempt; both from one counter.
    next: u64,
    rng: ChaCha12Rng,
}

#[derive(Debug)]
struct Host {
    site: String,
    address: IpAddr,
    /// Its process runs.
    alive: bool,
    /// Its network card works.
    wired: bool,
    /// Its process is stopped (SIGSTOP).
    frozen: bool,
    /// Where its process accepts.
    listens: Vec<(Transport, u16)>,
    /// What its certificate says.
    names: Vec<String>,
    /// Shows its certificate when it connects, too (a server).
    shows_certificate: bool,
    next_port: u16,
}

#[derive(Debug)]
struct Stream {
    transport: Transport,
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    host: HostId,
    address: SocketAddr,
    /// Somebody on this side still holds the connection.
    open: bool,
    /// Number of the next piece sent from this side.
    next: u64,
    /// Pieces sent from here and lost so far, by number.
    unacknowledged: BTreeMap<u64, Piece>,
    /// When the oldest of them was lost, and the pause before the next try.
    struggling: Option<(Instant, Duration)>,
    /// Number of the next piece expected *by* this side.
    expected: u64,
    /// Pieces that arrived here ahead of their turn.
    early: BTreeMap<u64, Piece>,
}

#[derive(Debug)]
struct Attempt {
    from: HostId,
    to: HostId,
    ticket: u64,
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
    /// What TLS must prove.
    name: Text,
    /// The stream, once the other side has accepted.
    serial: Option<u64>,
    /// The pause before the next SYN.
    pause: Duration,
}

impl Network {
    /// An empty network whose loss and jitter come from `rng`.
    pub fn new(rng: ChaCha12Rng) -> Self {
        Network {
            hosts: Vec::new(),
            by_address: BTreeMap::new(),
            links: BTreeMap::new(),
            walls: BTreeSet::new(),
            streams: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next: 1,
            rng,
        }
    }

    /// Adds a host. A host that listens shows its certificate also when it connects; clients have none.
    pub fn add_host(
        &mut self,
        site: &str,
        address: IpAddr,
        listens: Vec<(Transport, u16)>,
        names: Vec<String>,
    ) -> HostId {
        let id = HostId(self.hosts.len());
        let shows_certificate = !listens.is_empty();
        self.hosts.push(Host {
            site: site.to_owned(),
            address,
            alive: true,
            wired: true,
            frozen: false,
            listens,
            names,
            shows_certificate,
            next_port: 50_000,
        });
        self.by_address.insert(address, id);
        id
    }

    /// Changes the link between two sites (or within one, if they are the same).
    pub fn set_link(&mut self, one: &str, other: &str, link: Link) {
        self.links.insert(pair(one, other), link);
    }

    /// Whether the host's process runs.
    pub fn is_alive(&self, host: HostId) -> bool {
        self.hosts[host.0].alive
    }

    /// Whether the host's process is stopped.
    pub fn is_frozen(&self, host: HostId) -> bool {
        self.hosts[host.0].frozen
    }

    /// Which host has this address.
    pub fn host_at(&self, address: IpAddr) -> Option<HostId> {
        self.by_address.get(&address).copied()
    }

    //------------ Faults ----------

    /// Takes the host's network card down, or up again.
    pub fn set_wired(&mut self, host: HostId, wired: bool) {
        self.hosts[host.0].wired = wired;
    }

    /// Stops the host's process, or lets it go on.
    pub fn set_frozen(&mut self, host: HostId, frozen: bool) {
        self.hosts[host.0].frozen = frozen;
    }

    /// Changes the names in the host's certificate.
    pub fn set_names(&mut self, host: HostId, names: Vec<String>) {
        self.hosts[host.0].names = names;
    }

    /// Lets nothing pass from any of `from` to any of `to`.
    pub fn wall(&mut self, from: &[HostId], to: &[HostId]) {
        for &one in from {
            for &other in to.iter().filter(|&&other| other != one) {
                self.walls.insert((one, other));
            }
        }
    }

    /// Takes down every wall between the two groups, in both directions.
    pub fn unwall(&mut self, one: &[HostId], other: &[HostId]) {
        self.walls
            .retain(|(a, b)| !(one.contains(a) && other.contains(b) || other.contains(a) && one.contains(b)));
    }

    /// Takes down every wall.
    pub fn unwall_all(&mut self) {
        self.walls.clear();
    }

    /// The host's process dies: its kernel resets all its connections.
    pub fn kill<T: From<Packet>>(&mut self, host: HostId, now: Instant, agenda: &mut Agenda<T>) {
        self.hosts[host.0].alive = false;
        self.hosts[host.0].frozen = false;
        let held: Vec<(u64, usize)> = self
            .streams
            .iter()
            .flat_map(|(&serial, stream)| {
                (0..2)
                    .filter(|&side| stream.ends[side].host == host && stream.ends[side].open)
                    .map(move |side| (serial, side))
            })
            .collect();
        for (serial, side) in held {
            self.drop_end(serial, side);
            self.reset(serial, 1 - side, now, agenda);
        }
        self.attempts.retain(|_, attempt| attempt.from != host);
    }

    /// The host's process is started again.
    pub fn start(&mut self, host: HostId) {
        self.hosts[host.0].alive = true;
    }

    //------------ What hosts ask ----------

    /// Opens a flow from `from` to `target`; the outcome arrives as [`Arrival::Opened`] or [`Arrival::OpenFailed`].
    pub fn open<T: From<Packet>>(
        &mut self,
        from: HostId,
        ticket: u64,
        target: &Target,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) {
        let local = if target.transport == Transport::Udp {
            // One socket for everything, as real user agents and servers have it.
            let host = &self.hosts[from.0];
            let port = host
                .listens
                .iter()
                .find(|(transport, _)| *transport == Transport::Udp)
                .map_or(5060, |(_, port)| *port);
            SocketAddr::new(host.address, port)
        } else {
            let host = &mut self.hosts[from.0];
            host.next_port = host.next_port.checked_add(1).unwrap_or(50_000);
            SocketAddr::new(host.address, host.next_port)
        };
        if target.transport == Transport::Udp {
            let flow = Flow { transport: Transport::Udp, local, remote: target.address, serial: 0 };
            agenda.arrange(now, Packet::Ready { host: from, ticket, flow }.into());
            return;
        }
        let number = self.number();
        let to = self.host_at(target.address.ip());
        // An address nobody has is a black hole, as it is behind most routers.
        let attempt = Attempt {
            from,
            to: to.unwrap_or(from),
            ticket,
            transport: target.transport,
            local,
            remote: target.address,
            name: target.name.clone(),
            serial: None,
            pause: Duration::from_secs(1),
        };
        self.attempts.insert(number, attempt);
        agenda.arrange(now + CONNECT_TIMEOUT, Packet::TooLate { attempt: number }.into());
        if to.is_some() {
            self.send_syn(number, now, agenda);
        }
    }

    /// Sends bytes on a flow of `from`.
    pub fn transmit<T: From<Packet>>(
        &mut self,
        from: HostId,
        flow: Flow,
        bytes: Bytes,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) {
        if flow.transport == Transport::Udp {
            let Some(to) = self.host_at(flow.remote.ip()) else { return };
            if let Some(at) = self.passes(from, to, now) {
                agenda.arrange(at, Packet::Datagram { from: flow.local, to: flow.remote, bytes }.into());
            }
            return;
        }
        if let Some(side) = self.side_of(from, flow) {
            self.send_piece(flow.serial, side, Piece::Data(bytes), now, agenda);
        }
    }

    /// Closes a flow of `from` in good order: what was sent before still arrives.
    pub fn close<T: From<Packet>>(&mut self, from: HostId, flow: Flow, now: Instant, agenda: &mut Agenda<T>) {
        if let Some(side) = self.side_of(from, flow) {
            self.send_piece(flow.serial, side, Piece::Fin, now, agenda);
            if let Some(stream) = self.streams.get_mut(&flow.serial) {
                stream.ends[side].open = false;
            }
            self.forget_if_over(flow.serial);
        }
    }

    //------------ What happens ----------

    /// Lets one packet happen; returns what hosts get from it.
    pub fn occur<T: From<Packet>>(
        &mut self,
        packet: Packet,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) -> Vec<(HostId, Arrival)> {
        match packet {
            Packet::Datagram { from, to, bytes } => self.datagram(from, to, bytes),
            Packet::Segment { serial, side, number, piece } => {
                self.segment(serial, side, number, piece, now, agenda)
            }
            Packet::Retry { serial, side } => self.retry(serial, side, now, agenda),
            Packet::Reset { serial, to } => {
                let Some(flow) = self.flow(serial, to) else { return Vec::new() };
                let host = self.streams[&serial].ends[to].host;
                self.drop_end(serial, to);
                vec![(host, Arrival::Lost { flow, why: FlowLoss::Reset })]
            }
            Packet::Syn { attempt } => self.syn(attempt, now, agenda),
            Packet::Complete { attempt } => self.complete(attempt, now, agenda),
            Packet::Rejected { attempt, why } => match self.attempts.remove(&attempt) {
                Some(attempt) => {
                    vec![(attempt.from, Arrival::OpenFailed { ticket: attempt.ticket, why })]
                }
                None => Vec::new(),
            },
            Packet::TooLate { attempt } => match self.attempts.remove(&attempt) {
                Some(attempt) => {
                    if let Some(serial) = attempt.serial {
                        self.drop_end(serial, 0);
                        self.reset(serial, 1, now, agenda);
                    }
                    vec![(
                        attempt.from,
                        Arrival::OpenFailed { ticket: attempt.ticket, why: FlowLoss::TimedOut },
                    )]
                }
                None => Vec::new(),
            },
            Packet::Ready { host, ticket, flow } => {
                vec![(host, Arrival::Opened { ticket, flow, names: Vec::new() })]
            }
        }
    }

    fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) -> Vec<(HostId, Arrival)> {
        let (Some(sender), Some(host)) = (self.host_at(from.ip()), self.host_at(to.ip())) else {
            return Vec::new();
        };
        if !self.is_open(sender, host) || !self.hosts[host.0].alive {
            return Vec::new();
        }
        let flow = Flow { transport: Transport::Udp, local: to, remote: from, serial: 0 };
        vec![(host, Arrival::Bytes { flow, bytes })]
    }

    fn segment<T: From<Packet>>(
        &mut self,
        serial: u64,
        side: usize,
        number: u64,
        piece: Piece,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) -> Vec<(HostId, Arrival)> {
        let Some(stream) = self.streams.get(&serial) else { return Vec::new() };
        let (sender, receiver) = (stream.ends[side].host, stream.ends[1 - side].host);
        if !self.is_open(sender, receiver) {
            self.lost(serial, side, number, piece, now, agenda);
            return Vec::new();
        }
        let Some(stream) = self.streams.get_mut(&serial) else { return Vec::new() };
        let receiving = &mut stream.ends[1 - side];
        if !receiving.open {
            // Nobody holds the other end any more: the kernel there answers with a reset.
            if stream.ends[side].open {
                self.reset(serial, side, now, agenda);
            }
            return Vec::new();
        }
        receiving.early.insert(number, piece);
        let mut ready = VecDeque::new();
        while let Some(piece) = receiving.early.remove(&receiving.expected) {
            receiving.expected += 1;
            ready.push_back(piece);
        }
        let Some(flow) = self.flow(serial, 1 - side) else { return Vec::new() };
        let mut arrivals = Vec::new();
        for piece in ready {
            match piece {
                Piece::Data(bytes) => arrivals.push((receiver, Arrival::Bytes { flow, bytes })),
                Piece::Fin => {
                    self.drop_end(serial, 1 - side);
                    arrivals.push((receiver, Arrival::Lost { flow, why: FlowLoss::Closed }));
                    break;
                }
            }
        }
        arrivals
    }

    fn retry<T: From<Packet>>(
        &mut self,
        serial: u64,
        side: usize,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) -> Vec<(HostId, Arrival)> {
        let Some(stream) = self.streams.get_mut(&serial) else { return Vec::new() };
        let end = &mut stream.ends[side];
        let Some((since, pause)) = end.struggling else { return Vec::new() };
        if now.saturating_duration_since(since) > GIVE_UP {
            let (host, was_open) = (end.host, end.open);
            let flow = self.flow(serial, side);
            self.drop_end(serial, side);
            return match flow {
                Some(flow) if was_open => vec![(host, Arrival::Lost { flow, why: FlowLoss::TimedOut })],
                _ => Vec::new(),
            };
        }
        let (sender, receiver) = (stream.ends[side].host, stream.ends[1 - side].host);
        let Some(at) = self.passes(sender, receiver, now) else {
            let pause = (pause * 2).min(SLOWEST_RETRY);
            if let Some(stream) = self.streams.get_mut(&serial) {
                stream.ends[side].struggling = Some((since, pause));
            }
            agenda.arrange(now + pause, Packet::Retry { serial, side }.into());
            return Vec::new();
        };
        if let Some(stream) = self.streams.get_mut(&serial) {
            let end = &mut stream.ends[side];
            end.struggling = None;
            for (number, piece) in std::mem::take(&mut end.unacknowledged) {
                agenda.arrange(at, Packet::Segment { serial, side, number, piece }.into());
            }
        }
        Vec::new()
    }

    fn syn<T: From<Packet>>(
        &mut self,
        number: u64,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) -> Vec<(HostId, Arrival)> {
        let Some(attempt) = self.attempts.get(&number) else { return Vec::new() };
        let (from, to, transport) = (attempt.from, attempt.to, attempt.transport);
        let host = &self.hosts[to.0];
        // A stopped process finishes no TLS handshake; a cut one hears nothing.
        if !self.is_open(from, to) || (host.frozen && transport.is_secure()) {
            self.syn_again(number, now, agenda);
            return Vec::new();
        }
        let refuse = |why| Packet::Rejected { attempt: number, why };
        let delay = self.delay(from, to);
        if !host.alive || !host.listens.contains(&(transport, attempt.remote.port())) {
            agenda.arrange(now + delay, refuse(FlowLoss::Refused).into());
            return Vec::new();
        }
        // TLS needs two more round trips; its verdict on the name comes with the first.
        if transport.is_secure() && !host.names.iter().any(|name| name.eq_ignore_ascii_case(&attempt.name)) {
            let why = format!("the certificate is for {}, not for {}", host.names.join(", "), attempt.name);
            agenda.arrange(now + delay * 3, refuse(FlowLoss::Tls(why.into())).into());
            return Vec::new();
        }
        let serial = self.number();
        let end = |host, address| End {
            host,
            address,
            open: true,
            next: 0,
            unacknowledged: BTreeMap::new(),
            struggling: None,
            expected: 0,
            early: BTreeMap::new(),
        };
        let Some(attempt) = self.attempts.get_mut(&number) else { return Vec::new() };
        attempt.serial = Some(serial);
        let ends = [end(from, attempt.local), end(to, attempt.remote)];
        self.streams.insert(serial, Stream { transport, ends });
        let handshake = if transport.is_secure() { delay * 3 } else { delay };
        agenda.arrange(now + handshake, Packet::Complete { attempt: number }.into());
        let caller = &self.hosts[from.0];
        let names =
            if transport.is_secure() && caller.shows_certificate { caller.names.clone() } else { Vec::new() };
        match self.flow(serial, 1) {
            Some(flow) => vec![(to, Arrival::Accepted { flow, names })],
            None => Vec::new(),
        }
    }

    fn complete<T: From<Packet>>(
        &mut self,
        number: u64,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) -> Vec<(HostId, Arrival)> {
        let Some(attempt) = self.attempts.get(&number) else { return Vec::new() };
        let (from, to, ticket, serial) = (attempt.from, attempt.to, attempt.ticket, attempt.serial);
        if !self.is_open(to, from) {
            agenda.arrange(now + Duration::from_secs(1), Packet::Complete { attempt: number }.into());
            return Vec::new();
        }
        let transport = attempt.transport;
        self.attempts.remove(&number);
        match serial.and_then(|serial| self.flow(serial, 0)) {
            Some(flow) => {
                let names = if transport.is_secure() { self.hosts[to.0].names.clone() } else { Vec::new() };
                vec![(from, Arrival::Opened { ticket, flow, names })]
            }
            // Reset while the handshake was under way.
            None => vec![(from, Arrival::OpenFailed { ticket, why: FlowLoss::Reset })],
        }
    }

    //------------ Helpers ----------

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn link(&self, from: HostId, to: HostId) -> Link {
        let (one, other) = (&self.hosts[from.0].site, &self.hosts[to.0].site);
        let usual = if one == other { Link::LOCAL } else { Link::WIDE };
        self.links.get(&pair(one, other)).copied().unwrap_or(usual)
    }

    /// The plain one-way delay between two hosts.
    pub fn delay(&self, from: HostId, to: HostId) -> Duration {
        self.link(from, to).delay
    }

    /// Whether the way from one host to the other is there at all, loss aside.
    pub fn is_open(&self, from: HostId, to: HostId) -> bool {
        from == to
            || (self.hosts[from.0].wired && self.hosts[to.0].wired && !self.walls.contains(&(from, to)))
    }

    /// When a packet sent now would arrive; `None` if it is lost.
    fn passes(&mut self, from: HostId, to: HostId, now: Instant) -> Option<Instant> {
        if !self.is_open(from, to) {
            return None;
        }
        let link = self.link(from, to);
        if link.loss > 0.0 && chance(&mut self.rng) < link.loss {
            return None;
        }
        let jitter =
            if link.jitter.is_zero() { Duration::ZERO } else { link.jitter.mul_f64(chance(&mut self.rng)) };
        Some(now + link.delay + jitter)
    }

    fn send_syn<T: From<Packet>>(&mut self, number: u64, now: Instant, agenda: &mut Agenda<T>) {
        let Some(attempt) = self.attempts.get(&number) else { return };
        match self.passes(attempt.from, attempt.to, now) {
            Some(at) => agenda.arrange(at, Packet::Syn { attempt: number }.into()),
            None => self.syn_again(number, now, agenda),
        }
    }

    /// SYNs are repeated after 1, 2, 4 … seconds. The pause is spent before the packet "arrives", which
    /// saves a kind of packet: whether the way is open is judged on arrival.
    fn syn_again<T: From<Packet>>(&mut self, number: u64, now: Instant, agenda: &mut Agenda<T>) {
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        let pause = attempt.pause;
        attempt.pause *= 2;
        agenda.arrange(now + pause, Packet::Syn { attempt: number }.into());
    }

    fn side_of(&self, host: HostId, flow: Flow) -> Option<usize> {
        let stream = self.streams.get(&flow.serial)?;
        (0..2).find(|&side| {
            let end = &stream.ends[side];
            end.host == host && end.address == flow.local && end.open
        })
    }

    /// The flow as the end on this side knows it, while that end is open.
    fn flow(&self, serial: u64, side: usize) -> Option<Flow> {
        let stream = self.streams.get(&serial)?;
        let (here, there) = (&stream.ends[side], &stream.ends[1 - side]);
        here.open.then_some(Flow {
            transport: stream.transport,
            local: here.address,
            remote: there.address,
            serial,
        })
    }

    fn send_piece<T: From<Packet>>(
        &mut self,
        serial: u64,
        side: usize,
        piece: Piece,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) {
        let Some(stream) = self.streams.get_mut(&serial) else { return };
        let end = &mut stream.ends[side];
        let number = end.next;
        end.next += 1;
        if end.struggling.is_some() {
            end.unacknowledged.insert(number, piece);
            return;
        }
        let (sender, receiver) = (stream.ends[side].host, stream.ends[1 - side].host);
        match self.passes(sender, receiver, now) {
            Some(at) => agenda.arrange(at, Packet::Segment { serial, side, number, piece }.into()),
            None => self.lost(serial, side, number, piece, now, agenda),
        }
    }

    /// A piece did not get through: keep it, and try again later.
    fn lost<T: From<Packet>>(
        &mut self,
        serial: u64,
        side: usize,
        number: u64,
        piece: Piece,
        now: Instant,
        agenda: &mut Agenda<T>,
    ) {
        let Some(stream) = self.streams.get_mut(&serial) else { return };
        let end = &mut stream.ends[side];
        end.unacknowledged.insert(number, piece);
        if end.struggling.is_none() {
            end.struggling = Some((now, FIRST_RETRY));
            agenda.arrange(now + FIRST_RETRY, Packet::Retry { serial, side }.into());
        }
    }

    /// Sends a reset to one side, if it can get through; a lost reset is simply lost.
    fn reset<T: From<Packet>>(&mut self, serial: u64, to: usize, now: Instant, agenda: &mut Agenda<T>) {
        let Some(stream) = self.streams.get(&serial) else { return };
        let (from, receiver) = (stream.ends[1 - to].host, stream.ends[to].host);
        if let Some(at) = self.passes(from, receiver, now) {
            agenda.arrange(at, Packet::Reset { serial, to }.into());
        }
    }

    /// This side lets go of the connection without a word.
    fn drop_end(&mut self, serial: u64, side: usize) {
        if let Some(stream) = self.streams.get_mut(&serial) {
            let end = &mut stream.ends[side];
            end.open = false;
            end.unacknowledged.clear();
            end.struggling = None;
            end.early.clear();
        }
        self.forget_if_over(serial);
    }

    /// Forgets a connection that neither side holds and that has nothing left to deliver.
    fn forget_if_over(&mut self, serial: u64) {
        if self
            .streams
            .get(&serial)
            .is_some_and(|stream| stream.ends.iter().all(|end| !end.open && end.unacknowledged.is_empty()))
        {
            self.streams.remove(&serial);
        }
    }
}

fn pair(one: &str, other: &str) -> (String, String) {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    (first.to_owned(), second.to_owned())
}

/// A number in [0, 1).
pub(crate) fn chance(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
