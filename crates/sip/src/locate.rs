//! From a URI to the servers to try, in order: what to ask of DNS, and what its answers mean.
//!
//! A [`Locator`] is made for one destination. It says which [`Query`] it wants answered, is told the
//! [`Answer`], and hands out one [`Target`] after another; the caller tries each until one works
//! (RFC 3263 §4.3). All queries that can be asked at once are, but targets always come in order.
//!
//! ```text
//!   numeric host ─────────────────────────────────────────────────► Target
//!   port given ───────────────────────────────► A/AAAA ───────────► Target …
//!   transport given ────────────► SRV ────────► A/AAAA of each ───► Target …
//!   neither ──────► NAPTR ──────► SRV of each ► A/AAAA of each ───► Target …
//!                     └─ none ──► SRV of every transport we have
//!                                  └─ none ───► A/AAAA of the host ► Target …
//! ```
//!
//! *No such record* moves on along the arrows; *the look-up failed* does not: falling back to the plain
//! host because a DNS server was down would send a user of a well-configured domain to the wrong place.
//! Only a failed NAPTR is treated as absent, since its SRV records say the same. How it all ended is
//! [`Locator::outcome`].
//!
//! RFC 3263 §4, RFC 2782, RFC 7118 §7 (WebSocket), RFC 5922 §4 (which name to prove).
//!
//! Not here: sockets, caching and CNAMEs (the world's resolver), the names a Lync-family client asks for
//! (`endpoint::discovery`), and which targets were found dead lately.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use rand_core::Rng;

use crate::text::Text;
use crate::transport::{Target, Transport};
use crate::uri::Uri;

#[cfg(test)]
mod tests;

//------------ Query and Answer -----------------------------------------------

/// One question for DNS. `Display` is what logs show: `SRV _sip._tcp.example.test`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Query {
    /// Which transports a domain offers, and under which service names.
    Naptr(String),
    /// Which hosts and ports offer a service.
    Srv(String),
    /// The addresses of a host: both A and AAAA, in the order the world prefers.
    Address(String),
}

impl Query {
    /// The name asked about.
    pub fn name(&self) -> &str {
        match self {
            Query::Naptr(name) | Query::Srv(name) | Query::Address(name) => name,
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Query::Naptr(name) => write!(f, "NAPTR {name}"),
            Query::Srv(name) => write!(f, "SRV {name}"),
            Query::Address(name) => write!(f, "A/AAAA {name}"),
        }
    }
}

/// What DNS said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Records of the kind asked for.
    Records(Vec<Record>),
    /// Proof that there are none: no such name, or none of this kind.
    None,
    /// No proof of anything.
    Failed(DnsFailure),
}

/// Why a look-up told us nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DnsFailure {
    /// No server answered in time.
    TimedOut,
    /// A server answered that it cannot, or will not (SERVFAIL, REFUSED).
    Refused,
    /// What came was not an answer to what was asked.
    Malformed,
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DnsFailure::TimedOut => "no answer in time",
            DnsFailure::Refused => "the server could not or would not answer",
            DnsFailure::Malformed => "the answer made no sense",
        })
    }
}

/// One record of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// A transport that a domain offers.
    Naptr(Naptr),
    /// A host and port that offer a service.
    Srv(Srv),
    /// An address of a host.
    Address(IpAddr),
}

/// A NAPTR record (RFC 3263 §4.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Naptr {
    /// Lower first; a lower one that we can use excludes every higher one.
    pub order: u16,
    /// Lower first among those of one order.
    pub preference: u16,
    /// `s`: the replacement is the name of SRV records. SIP uses no other.
    pub flags: String,
    /// `SIPS+D2T`, `SIP+D2U`, …
    pub service: String,
    /// What to ask next.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Srv {
    /// Lower first; the next one only when all of this one failed.
    pub priority: u16,
    /// Share of the load among those of one priority.
    pub weight: u16,
    /// Where the service listens.
    pub port: u16,
    /// The host that offers it; `.` says that nobody does.
    pub target: String,
}

//------------ order_srv ------------------------------------------------------

/// Puts SRV records in the order to try them: by priority, and within one priority drawn at random so
/// that each is first as often as its weight is in the sum of weights (RFC 2782, "Weight").
pub fn order_srv(mut records: Vec<Srv>, rng: &mut dyn Rng) -> Vec<Srv> {
    // Weight 0 first within a priority, as the RFC wants: that gives it "a very small chance".
    records.sort_by_key(|srv| (srv.priority, srv.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let equals = records.iter().take_while(|srv| srv.priority == priority);
        let sum: u64 = equals.map(|srv| u64::from(srv.weight)).sum();
        let drawn = at_most(sum, rng);
        let mut running = 0;
        let chosen = records.iter().position(|srv| {
            running += u64::from(srv.weight);
            running >= drawn
        });
        // Found within the priority, since its running sum ends at `sum`.
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// A number from 0 to `most`, both included. `most` is far below 2^32 (weights have 16 bits), so the
/// unevenness of the multiplication is far below one part in a thousand.
fn at_most(most: u64, rng: &mut dyn Rng) -> u64 {
    (u64::from(rng.next_u32()) * (most + 1)) >> 32
}

//------------ Destination ----------------------------------------------------

/// Where one wants to go, before DNS: the parts of a URI that RFC 3263 looks at. [`Destination::of`] reads them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// Host name, IPv4 address, or IPv6 address with or without brackets.
    pub host: String,
    /// The port, if one is named.
    pub port: Option<u16>,
    /// The `transport` parameter, if there is one.
    pub transport: Option<Transport>,
    /// `sips:`: nothing but TLS will do.
    pub secure: bool,
}

impl Destination {
    /// What a SIP URI says about where to go; `None` for other schemes, and for a `transport` nobody here has.
    ///
    /// `maddr` is not obeyed: it would let whoever writes a URI choose who answers for its host.
    pub fn of(uri: &Uri<'_>) -> Option<Destination> {
        if !uri.is_sip() || (uri.param("transport").is_some() && uri.transport().is_none()) {
            return None;
        }
        // A final dot says the same to DNS, but no certificate has one.
        let (host, secure) = (trim_root(uri.host()), uri.is_secure());
        Some(Destination { host, port: uri.port(), transport: uri.transport(), secure })
    }

    /// The transport asked for, in its secure form if the scheme says so: `sips:…;transport=tcp` means
    /// TLS (RFC 3261 §26.2.2).
    fn wanted_transport(&self) -> Option<Transport> {
        self.transport.map(|transport| match (self.secure, transport) {
            (true, Transport::Udp | Transport::Tcp | Transport::Tls) => Transport::Tls,
            (true, Transport::Ws | Transport::Wss) => Transport::Wss,
            (false, transport) => transport,
        })
    }

    fn ip(&self) -> Option<IpAddr> {
        let bare = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(&self.host).parse().ok()
    }
}

/// Which name a TLS server found through SRV must prove.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Naming {
    /// The host of the URI, whatever DNS said: DNS is not to be trusted (RFC 5922 §4).
    #[default]
    Uri,
    /// The host that the SRV record names, as Lync's certificates do. Safe only together with the rule
    /// that this host lies in the domain asked about.
    Srv,
}

//------------ Locator --------------------------------------------------------

/// Finds the targets of one destination.
#[derive(Clone, Debug)]
pub struct Locator {
    /// What is left to do, in order of preference. Only the front is handed out; every look-up is asked.
    steps: VecDeque<Step>,
    /// The last arrow of the picture, while no service record was seen.
    fallback: Option<Step>,
    /// The transports we have, best first.
    transports: Vec<Transport>,
    /// The host of the URI.
    host: Text,
    naming: Naming,
    /// Targets handed out: DNS may name one twice, trying it twice helps nobody.
    given: BTreeSet<(Transport, SocketAddr)>,
    /// What the look-ups came to so far.
    outcome: Outcome,
}

/// One thing to do.
#[derive(Clone, Debug)]
enum Step {
    /// Learn which services the domain has.
    Naptr { domain: String, asked: bool },
    /// Learn who offers a service.
    Srv { service: String, transport: Transport, asked: bool },
    /// Learn the addresses of a host.
    Address { host: String, port: u16, transport: Transport, asked: bool },
    /// Hand out.
    Target { transport: Transport, address: SocketAddr, host: String },
}

impl Step {
    fn srv(service: String, transport: Transport) -> Step {
        Step::Srv { service, transport, asked: false }
    }

    fn address(host: String, port: u16, transport: Transport) -> Step {
        Step::Address { host, port, transport, asked: false }
    }

    fn query(&self) -> Option<Query> {
        match self {
            Step::Naptr { domain, .. } => Some(Query::Naptr(domain.clone())),
            Step::Srv { service, .. } => Some(Query::Srv(service.clone())),
            Step::Address { host, .. } => Some(Query::Address(host.clone())),
            Step::Target { .. } => None,
        }
    }

    /// Its query, the first time.
    fn ask(&mut self) -> Option<Query> {
        match self {
            Step::Naptr { asked, .. } | Step::Srv { asked, .. } | Step::Address { asked, .. } if !*asked => {
                *asked = true;
                self.query()
            }
            Step::Naptr { .. } | Step::Srv { .. } | Step::Address { .. } | Step::Target { .. } => None,
        }
    }
}

/// What came of the look-ups.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// At least one target was found.
    Found,
    /// DNS proves that there is nobody: trying again soon is pointless.
    NoSuchName,
    /// The domain says in so many words that it has no such service (an SRV target of `.`).
    NotOffered,
    /// A look-up failed and no other found anybody: trying again may help.
    Failed(DnsFailure),
}

/// Bounds on what one answer can make us do: a lying zone costs at most so many further questions.
const MOST_SERVICES: usize = 8;
const MOST_SERVERS: usize = 32;
const MOST_ADDRESSES: usize = 16;

impl Locator {
    /// Starts on `destination` with the transports we have, best first.
    pub fn new(destination: &Destination, transports: &[Transport]) -> Locator {
        let secure_enough = |transport: &&Transport| !destination.secure || transport.is_secure();
        let usable: Vec<_> = transports.iter().filter(secure_enough).copied().collect();
        let mut locator = Locator::empty(&destination.host, &usable);
        let Some(&best) = usable.first() else { return locator };
        let wanted = destination.wanted_transport();
        if wanted.is_some_and(|wanted| !usable.contains(&wanted)) {
            return locator;
        }
        // RFC 3263 §4.1: where nothing else decides, UDP for sip and TLS for sips.
        let plain = if usable.contains(&Transport::Udp) { Transport::Udp } else { best };
        let transport = wanted.unwrap_or(plain);
        let host = destination.host.clone();
        let port = destination.port.unwrap_or(transport.default_port());

        if let Some(ip) = destination.ip() {
            locator.steps.push_back(Step::Target { transport, address: SocketAddr::new(ip, port), host });
        } else if destination.port.is_some() {
            locator.steps.push_back(Step::address(host, port, transport));
        } else {
            locator.fallback = Some(Step::address(host.clone(), port, transport));
            locator.steps.push_back(match wanted {
                Some(wanted) => Step::srv(service_name(wanted, &host), wanted),
                None => Step::Naptr { domain: host, asked: false },
            });
        }
        locator
    }

    /// Starts at one service name, such as `_sipinternaltls._tcp.example.test`, without any fallback.
    /// `host` is the domain a server must prove under [`Naming::Uri`].
    pub fn of_service(service: &str, transport: Transport, host: &str) -> Locator {
        let mut locator = Locator::empty(host, &[transport]);
        locator.steps.push_back(Step::srv(service.to_owned(), transport));
        locator
    }

    /// Starts at one host with a known port, such as `sipinternal.example.test`.
    pub fn of_host(host: &str, port: u16, transport: Transport) -> Locator {
        let known = Destination {
            host: host.to_owned(),
            port: Some(port),
            transport: Some(transport),
            secure: false,
        };
        Locator::new(&known, &[transport])
    }

    /// Chooses which name servers found through SRV must prove.
    #[must_use]
    pub fn naming(mut self, naming: Naming) -> Locator {
        self.naming = naming;
        self
    }

    fn empty(host: &str, transports: &[Transport]) -> Locator {
        Locator {
            steps: VecDeque::new(),
            fallback: None,
            transports: transports.to_vec(),
            host: Text::from(host),
            naming: Naming::Uri,
            given: BTreeSet::new(),
            outcome: Outcome::NoSuchName,
        }
    }

    /// The next question to ask, each once. Ask them all before waiting for an answer.
    pub fn poll_query(&mut self) -> Option<Query> {
        let query = self.steps.iter_mut().find_map(Step::ask)?;
        // Two steps may want the same answer: one question serves both.
        for step in &mut self.steps {
            if step.query().as_ref() == Some(&query) {
                step.ask();
            }
        }
        Some(query)
    }

    /// Takes an answer; one that nobody is waiting for changes nothing.
    pub fn handle_answer(&mut self, query: &Query, answer: &Answer, rng: &mut dyn Rng) {
        for step in std::mem::take(&mut self.steps) {
            if step.query().as_ref() == Some(query) {
                let further = self.further(step, answer, rng);
                self.steps.extend(further);
            } else {
                self.steps.push_back(step);
            }
        }
        if self.steps.is_empty() && self.outcome == Outcome::NoSuchName {
            self.steps.extend(self.fallback.take());
        }
    }

    /// The next target to try; `None` while its look-up is under way, and when there is no more.
    pub fn next_target(&mut self) -> Option<Target> {
        loop {
            if !matches!(self.steps.front(), Some(Step::Target { .. })) {
                return None;
            }
            let Some(Step::Target { transport, address, host }) = self.steps.pop_front() else { return None };
            self.outcome = Outcome::Found;
            if self.given.insert((transport, address)) {
                let name = match self.naming {
                    Naming::Uri => self.host.clone(),
                    Naming::Srv => Text::from(host),
                };
                return Some(Target { transport, address, name });
            }
        }
    }

    /// Whether there is nothing more to ask, to wait for, or to hand out.
    pub fn is_exhausted(&self) -> bool {
        self.steps.is_empty()
    }

    /// What came of it so far; final once [`is_exhausted`](Self::is_exhausted).
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What an answered step turns into.
    fn further(&mut self, step: Step, answer: &Answer, rng: &mut dyn Rng) -> Vec<Step> {
        match (step, answer) {
            (Step::Naptr { domain, .. }, answer) => self.services(&domain, answer),
            (step @ Step::Target { .. }, _) => vec![step],
            (Step::Srv { .. } | Step::Address { .. }, Answer::None) => Vec::new(),
            (Step::Srv { .. } | Step::Address { .. }, Answer::Failed(why)) => {
                self.conclude(Outcome::Failed(*why));
                Vec::new()
            }
            (Step::Srv { transport, .. }, Answer::Records(records)) => self.servers(records, transport, rng),
            (Step::Address { host, port, transport, .. }, Answer::Records(records)) => {
                let addresses = records.iter().filter_map(|record| match record {
                    Record::Address(ip) => Some(SocketAddr::new(*ip, port)),
                    Record::Naptr(_) | Record::Srv(_) => None,
                });
                let target = |address| Step::Target { transport, address, host: host.clone() };
                let targets: Vec<_> = addresses.take(MOST_ADDRESSES).map(target).collect();
                if !targets.is_empty() {
                    self.conclude(Outcome::Found);
                }
                targets
            }
        }
    }

    /// RFC 3263 §4.1: the services of the lowest usable order, by preference; without any, those that
    /// the transports we have would go by.
    fn services(&mut self, domain: &str, answer: &Answer) -> Vec<Step> {
        let mut offered: Vec<(&Naptr, Transport)> = Vec::new();
        if let Answer::Records(records) = answer {
            offered.extend(records.iter().filter_map(|record| match record {
                Record::Naptr(naptr) => Some((naptr, self.usable_service(naptr)?)),
                Record::Srv(_) | Record::Address(_) => None,
            }));
        }
        offered.sort_by_key(|(naptr, _)| (naptr.order, naptr.preference));
        let Some((first, transport)) = offered.first() else {
            let service = |transport: &Transport| Step::srv(service_name(*transport, domain), *transport);
            return self.transports.iter().map(service).collect();
        };
        // §4.2: the plain host, if it comes to that, is reached by the transport that was chosen here.
        self.fallback = Some(Step::address(domain.to_owned(), transport.default_port(), *transport));
        let chosen = offered.iter().take_while(|(naptr, _)| naptr.order == first.order);
        chosen
            .take(MOST_SERVICES)
            .map(|(naptr, transport)| Step::srv(trim_root(&naptr.replacement), *transport))
            .collect()
    }

    fn usable_service(&self, naptr: &Naptr) -> Option<Transport> {
        let transport = match naptr.service.to_ascii_uppercase().as_str() {
            "SIPS+D2T" => Transport::Tls,
            "SIP+D2T" => Transport::Tcp,
            "SIP+D2U" => Transport::Udp,
            "SIPS+D2W" => Transport::Wss,
            "SIP+D2W" => Transport::Ws,
            _ => return None,
        };
        (naptr.flags.eq_ignore_ascii_case("s") && self.transports.contains(&transport)).then_some(transport)
    }

    /// RFC 2782: the hosts of a service, in the order to try them.
    fn servers(&mut self, records: &[Record], transport: Transport, rng: &mut dyn Rng) -> Vec<Step> {
        let servers = records.iter().filter_map(|record| match record {
            Record::Srv(srv) => Some(srv.clone()),
            Record::Naptr(_) | Record::Address(_) => None,
        });
        let ordered = order_srv(servers.take(MOST_SERVERS).collect(), rng);
        if !ordered.is_empty() {
            // The domain has service records, so the plain host is out of the question (RFC 3263 §4.2).
            self.fallback = None;
        }
        let (mut steps, mut refused) = (Vec::new(), false);
        for srv in ordered {
            let host = trim_root(&srv.target);
            if host.is_empty() {
                refused = true;
            } else {
                steps.push(Step::address(host, srv.port, transport));
            }
        }
        if refused && steps.is_empty() {
            self.conclude(Outcome::NotOffered);
        }
        steps
    }

    /// Good news outlasts bad news, and bad news outlasts none: a failure says that the search is
    /// incomplete, which `NotOffered` by another transport does not make up for.
    fn conclude(&mut self, news: Outcome) {
        let rank = |outcome: Outcome| match outcome {
            Outcome::NoSuchName => 0,
            Outcome::NotOffered => 1,
            Outcome::Failed(_) => 2,
            Outcome::Found => 3,
        };
        if rank(news) > rank(self.outcome) {
            self.outcome = news;
        }
    }
}

/// The service to ask for when only the transport is known (RFC 3263 §4.1, RFC 7118 §7).
fn service_name(transport: Transport, domain: &str) -> String {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws => "_sip._ws",
        Transport::Wss => "_sips._ws",
    };
    format!("{service}.{domain}")
}

/// `host.example.test.` and `host.example.test` are one name; `.` is none.
fn trim_root(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}
