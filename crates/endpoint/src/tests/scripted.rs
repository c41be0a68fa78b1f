//! A network of scripted registrars around one endpoint.
//!
//! Everything arrives at once unless it is scripted to be late; time passes only where the endpoint waits
//! for something. What the endpoint says is written down with its time, as a story would have it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use resilience::profile::Profile;
use sip::digest::{Algorithm, Challenge, Credentials, Ha1};
use sip::header::HeaderName;
use sip::locate::{Answer, DnsFailure, Query, Record, Srv};
use sip::message::Message;
use sip::method::Method;
use sip::print::Builder;
use sip::transport::{Flow, FlowLoss};

use super::epoch;
use crate::{CacheEntry, Command, Config, Endpoint, Event, Input, Output};

/// What one server does with whatever comes.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// 200, with `is-connected-to-primary` and `Registrar-Set` as given, for 600 s.
    Accept { primary: bool, set: Vec<(&'static str, &'static str)> },
    /// 301 to these, with their q.
    Redirect(Vec<(&'static str, &'static str)>),
    /// This status, with these further headers.
    Say(u16, &'static str, Vec<(&'static str, &'static str)>),
    /// Takes the connection and is then silent.
    Mute,
    /// A black hole: nothing comes back, not even a refusal.
    Dead,
    /// Nobody listens.
    Refuse,
}

/// The world of one client.
pub(crate) struct Scripted {
    pub(crate) endpoint: Endpoint,
    pub(crate) now: Instant,
    /// What the servers do, by address.
    servers: BTreeMap<SocketAddr, Does>,
    /// Passwords are asked for at these; with what is right.
    guarded: BTreeMap<SocketAddr, &'static str>,
    /// Answers DNS has, by question; anything else does not exist.
    zone: BTreeMap<String, Answer>,
    /// DNS does not answer at all.
    pub(crate) dns_dead: bool,
    flows: BTreeMap<u64, Flow>,
    inbox: VecDeque<Input>,
    deadline: Option<Instant>,
    /// What was said, with the time.
    trace: Vec<String>,
    /// Questions asked.
    pub(crate) asked: Vec<String>,
    /// What was to be kept.
    pub(crate) kept: Vec<CacheEntry>,
    /// Requests as the servers saw them.
    pub(crate) seen: Vec<(SocketAddr, Message)>,
    /// Answers of the client to requests of the servers.
    pub(crate) answers: Vec<Message>,
}

pub(crate) const FE1: &str = "127.1.0.1:5061";
pub(crate) const FE2: &str = "127.2.0.1:5061";

/// Home, with the whole truth told.
pub(crate) fn home() -> Does {
    Does::Accept { primary: true, set: vec![("fe1", "0.7"), ("fe2", "0.3")] }
}

/// The backup of somebody homed on fe1.
pub(crate) fn backup() -> Does {
    Does::Accept { primary: false, set: vec![("fe1", "0.7"), ("fe2", "0.3")] }
}

/// Home, as the model says it: not a word of a backup.
pub(crate) fn plain_home() -> Does {
    Does::Accept { primary: true, set: Vec::new() }
}

impl Scripted {
    /// alice, her password, fe1 and fe2 with their addresses, one SRV record to fe1, and all servers dead.
    pub(crate) fn new(profile: Profile) -> Scripted {
        Scripted::with(profile, None, |_| {})
    }

    pub(crate) fn with(
        profile: Profile,
        cache: Option<CacheEntry>,
        adjust: impl FnOnce(&mut Config),
    ) -> Scripted {
        let aor = "sip:alice@example.test".parse().expect("an address-of-record");
        let mut config = Config::new(aor, "secret", profile);
        adjust(&mut config);
        let mut world = Scripted {
            endpoint: Endpoint::new(config, cache, ChaCha12Rng::seed_from_u64(7), epoch()),
            now: epoch(),
            servers: BTreeMap::new(),
            guarded: BTreeMap::new(),
            zone: BTreeMap::new(),
            dns_dead: false,
            flows: BTreeMap::new(),
            inbox: VecDeque::new(),
            deadline: None,
            trace: Vec::new(),
            asked: Vec::new(),
            kept: Vec::new(),
            seen: Vec::new(),
            answers: Vec::new(),
        };
        world.srv("_sipinternaltls._tcp.example.test", &[(0, "fe1.example.test")]);
        world.host("fe1.example.test", &["127.1.0.1"]);
        world.host("fe2.example.test", &["127.2.0.1"]);
        world
    }

    //------------ Scripting ---------------------------------------------------

    pub(crate) fn srv(&mut self, service: &str, targets: &[(u16, &str)]) {
        let records = targets.iter().map(|(priority, target)| {
            Record::Srv(Srv { priority: *priority, weight: 0, port: 5061, target: (*target).to_owned() })
        });
        self.answer(&Query::Srv(service.to_owned()), Answer::Records(records.collect()));
    }

    pub(crate) fn host(&mut self, name: &str, addresses: &[&str]) {
        let parse = |address: &&str| Record::Address(address.parse::<IpAddr>().expect("an address"));
        let records = addresses.iter().map(parse).collect();
        self.answer(&Query::Address(name.to_owned()), Answer::Records(records));
    }

    pub(crate) fn answer(&mut self, query: &Query, answer: Answer) {
        self.zone.insert(query.to_string(), answer);
    }

    pub(crate) fn server(&mut self, address: &str, does: Does) {
        self.servers.insert(address.parse().expect("an address"), does);
    }

    /// From now on this server wants a password.
    pub(crate) fn guard(&mut self, address: &str, password: &'static str) {
        self.guarded.insert(address.parse().expect("an address"), password);
    }

    /// Resets every connection to this server: its process has died.
    pub(crate) fn reset(&mut self, address: &str) {
        let address: SocketAddr = address.parse().expect("an address");
        let lost: Vec<Flow> = self.flows.values().filter(|flow| flow.remote == address).copied().collect();
        for flow in lost {
            self.flows.remove(&flow.serial);
            self.inbox.push_back(Input::FlowLost { flow, why: FlowLoss::Reset });
        }
        self.work();
    }

    /// The server sends a request to the client by the flow it has.
    pub(crate) fn send(&mut self, address: &str, method: &Method, lines: &[(&str, &str)], body: &str) {
        let address: SocketAddr = address.parse().expect("an address");
        let flow = *self.flows.values().find(|flow| flow.remote == address).expect("a flow to that server");
        let branch = self.seen.len() + self.answers.len();
        let mut builder = Builder::request(method, "sip:alice@127.0.0.9:40000;transport=tls")
            .header(HeaderName::Via, format_args!("SIP/2.0/TLS {address};branch=z9hG4bKserver{branch}"))
            .header(HeaderName::MaxForwards, 70)
            .header(HeaderName::CSeq, format_args!("{} {}", branch + 1, method.as_str()));
        let defaults = [
            ("From", "<sip:bob@example.test>;tag=bob"),
            ("To", "<sip:alice@example.test>"),
            ("Call-ID", "from-server"),
        ];
        for (name, value) in defaults {
            if !lines.iter().any(|(given, _)| *given == name) {
                builder = builder.header_named(name, value);
            }
        }
        for (name, value) in lines {
            builder = builder.header_named(name, value);
        }
        if !body.is_empty() {
            builder = builder.body("text/plain", body);
        }
        self.inbox.push_back(Input::Received { flow, bytes: builder.finish() });
        self.work();
    }

    /// The registrar sends a notice about the registration, as part of what the last REGISTER began.
    pub(crate) fn notify(&mut self, address: &str, lines: &[(&str, &str)], body: &str) {
        let register = |message: &&Message| message.method() == Method::Register;
        let register = self.seen.iter().map(|(_, message)| message).rfind(register).expect("a REGISTER");
        let call_id = register.call_id().expect("a Call-ID").to_owned();
        let to = register.header(HeaderName::From).expect("a From").to_owned();
        let mut all = vec![("Call-ID", call_id.as_str()), ("To", to.as_str())];
        all.push(("Event", "registration-notify"));
        all.extend_from_slice(lines);
        self.send(address, &Method::Notify, &all, body);
    }

    /// Whether the client is connected to this server.
    pub(crate) fn has_flow(&self, address: &str) -> bool {
        self.flows.values().any(|flow| flow.remote.to_string() == address)
    }

    /// The server sends bytes that are no message.
    pub(crate) fn garbage(&mut self, address: &str, bytes: &'static [u8]) {
        let address: SocketAddr = address.parse().expect("an address");
        let flow = *self.flows.values().find(|flow| flow.remote == address).expect("a flow to that server");
        self.inbox.push_back(Input::Received { flow, bytes: Bytes::from_static(bytes) });
        self.work();
    }

    pub(crate) fn tell(&mut self, command: Command) {
        self.inbox.push_back(Input::Told(command));
        self.work();
    }

    //------------ Looking -----------------------------------------------------

    /// What was said since the last look.
    pub(crate) fn story(&mut self) -> String {
        std::mem::take(&mut self.trace).join("\n")
    }

    /// The status of the last answer the client gave.
    pub(crate) fn last_answer(&self) -> u16 {
        self.answers.last().and_then(Message::status).expect("an answer")
    }

    pub(crate) fn where_is(&self) -> String {
        self.endpoint.status().to_string()
    }

    //------------ Running -----------------------------------------------------

    /// Lets time pass.
    pub(crate) fn elapse(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        self.work();
        let mut wakes = 0;
        while let Some(at) = self.deadline.filter(|at| *at <= until) {
            wakes += 1;
            assert!(wakes < 100_000, "the endpoint never rests");
            self.now = self.now.max(at);
            self.inbox.push_back(Input::Timeout);
            self.work();
        }
        self.now = until;
    }

    /// Works through everything that happens at this moment.
    fn work(&mut self) {
        let mut inputs = 0;
        while let Some(input) = self.inbox.pop_front() {
            inputs += 1;
            assert!(inputs < 1000, "the endpoint is busy for ever:\n{}", self.trace.join("\n"));
            let was_timeout = matches!(input, Input::Timeout);
            self.endpoint.handle_input(input, self.now);
            loop {
                match self.endpoint.poll_output() {
                    Output::Timeout(at) => {
                        let is_rested = !was_timeout || at.is_none_or(|at| at > self.now);
                        assert!(is_rested, "woken for nothing: what was due is still due");
                        self.deadline = at;
                        break;
                    }
                    output => self.carry_out(output),
                }
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Persist(entry) => self.kept.push(entry),
            Output::Event(event) => self.write_down(&event),
            Output::Resolve(query) => {
                self.asked.push(query.to_string());
                let answer = match self.dns_dead {
                    true => Answer::Failed(DnsFailure::TimedOut),
                    false => self.zone.get(&query.to_string()).cloned().unwrap_or(Answer::None),
                };
                self.inbox.push_back(Input::Resolved { query, answer });
            }
            Output::Open { ticket, target } => match self.servers.get(&target.address) {
                Some(Does::Refuse) => {
                    self.inbox.push_back(Input::OpenFailed { ticket, why: FlowLoss::Refused });
                }
                Some(Does::Dead) | None => {}
                Some(_) => {
                    let flow = Flow {
                        transport: target.transport,
                        local: "127.0.0.9:40000".parse().expect("an address"),
                        remote: target.address,
                        serial: if target.transport.is_reliable() { ticket } else { 0 },
                    };
                    self.flows.insert(flow.serial, flow);
                    self.inbox.push_back(Input::Opened { ticket, flow });
                }
            },
            Output::Close { flow } => {
                self.flows.remove(&flow.serial);
            }
            Output::Ping { flow } => {
                if self.is_alive(&flow) {
                    self.inbox.push_back(Input::Pong { flow });
                }
            }
            Output::Transmit { flow, bytes } => self.carry(flow, bytes),
            Output::Timeout(_) => {}
        }
    }

    fn is_alive(&self, flow: &Flow) -> bool {
        let does = self.servers.get(&flow.remote);
        self.flows.contains_key(&flow.serial)
            && !matches!(does, None | Some(Does::Dead | Does::Mute | Does::Refuse))
    }

    fn carry(&mut self, flow: Flow, bytes: Bytes) {
        let message = Message::parse(bytes).expect("the client prints what can be read");
        if !message.is_request() {
            self.answers.push(message);
            return;
        }
        message.validate().expect("the client sends valid requests");
        self.seen.push((flow.remote, message.clone()));
        if !self.is_alive(&flow) || message.method() == Method::Ack {
            return;
        }
        let Some(does) = self.servers.get(&flow.remote).cloned() else { return };
        let answer = self.answer_of(flow.remote, &does, &message);
        self.inbox.push_back(Input::Received { flow, bytes: answer });
    }

    fn answer_of(&self, server: SocketAddr, does: &Does, request: &Message) -> Bytes {
        if request.method() != Method::Register {
            let with_contact = Builder::response(request, 200, "OK").to_tag("server");
            return with_contact
                .header(HeaderName::Contact, "<sip:bob@127.0.0.8:5061;transport=tls>")
                .finish();
        }
        if let Some(password) = self.guarded.get(&server)
            && !is_proved(request, password)
        {
            let strong = Challenge::new("example.test", "n0nce".to_owned(), Algorithm::Sha256);
            let weak = Challenge::new("example.test", "n0nce".to_owned(), Algorithm::Md5);
            return Builder::response(request, 401, "Unauthorized")
                .to_tag("server")
                .header(HeaderName::WwwAuthenticate, weak)
                .header(HeaderName::WwwAuthenticate, strong)
                .finish();
        }
        match does {
            Does::Accept { primary, set } => {
                let connected = if *primary { "yes" } else { "no" };
                let limited = if *primary { "" } else { ";user-services-state=unavailable" };
                let state = format!(
                    "register-action=\"added\";primary-cluster-type=\"central\";\
                     is-connected-to-primary=\"{connected}\"{limited}"
                );
                let mut answer = Builder::response(request, 200, "OK")
                    .to_tag("server")
                    .header(HeaderName::Expires, 600)
                    .header_named("presence-state", state);
                if !set.is_empty() {
                    let set: Vec<String> = set.iter().map(|(host, q)| registrar(host, q)).collect();
                    answer = answer.header_named("Registrar-Set", set.join(", "));
                }
                answer.finish()
            }
            Does::Redirect(contacts) => {
                let mut answer =
                    Builder::response(request, 301, "Redirect request to Home Server").to_tag("server");
                for (host, q) in contacts {
                    answer = answer.header(HeaderName::Contact, registrar(host, q));
                }
                answer.finish()
            }
            Does::Say(status, reason, headers) => {
                let mut answer = Builder::response(request, *status, reason).to_tag("server");
                for (name, value) in headers {
                    answer = answer.header_named(name, value);
                }
                answer.finish()
            }
            Does::Mute | Does::Dead | Does::Refuse => unreachable!("silent servers do not answer"),
        }
    }

    fn write_down(&mut self, event: &Event) {
        let at = (self.now - epoch()).as_secs_f64();
        self.trace.push(format!("{at:.1} {event}"));
    }
}

/// A Contact as servers write it; a short name lies in the domain.
fn registrar(host: &str, q: &str) -> String {
    let domain = if host.contains('.') { "" } else { ".example.test" };
    format!("<sip:{host}{domain}:5061;transport=TLS>;q={q}")
}

fn is_proved(request: &Message, password: &str) -> bool {
    let Some(value) = request.header(HeaderName::Authorization) else { return false };
    let Ok(credentials) = Credentials::parse(value) else { return false };
    assert!(value.contains("SHA-256"), "the strongest algorithm offered is used: {value}");
    let ha1 = Ha1::of(Algorithm::Sha256, "alice", "example.test", password);
    credentials.verify(&ha1, "REGISTER", b"")
}
