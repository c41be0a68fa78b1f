//! One request and all responses to it, whatever the network loses: the transactions of RFC 3261 §17.
//!
//! Four small machines know the rules, each in one file with its picture and its table. [`Transactions`]
//! is the collection that both brains use: it finds the transaction a message belongs to, keeps the
//! clocks, repeats and absorbs, and tells its user (the *core*) only what is new.
//!
//! | | INVITE | anything else |
//! | --- | --- | --- |
//! | we ask | [`invite_client`] | [`client`] |
//! | we answer | [`invite_server`] | [`server`] |
//!
//! ```text
//!          send, cancel, respond            poll_event: timed out, flow lost, ended
//!   core ──────────────────────► Transactions ──────────────────────► core
//!   flow ──────────────────────►              ──────────────────────► flow
//!          hear → Heard                     poll_transmit
//! ```
//!
//! Timers by letter are in [`timer`]. RFC 3261 §9.1 and §17, RFC 6026, RFC 4320.
//!
//! Not here: the ACK to a 2xx and the repeats of a 2xx (the core's), 100 Trying (the core's choice),
//! Timer C (the proxy's), requests answered without state (they are never [`heard`](Transactions::hear)),
//! opening another flow when one is lost.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::message::Message;
use crate::method::Method;
use crate::transport::{Flow, Transmit, answer_flow};

pub mod client;
pub mod invite_client;
pub mod invite_server;
pub mod server;
pub mod timer;

mod clocks;
mod companion;
mod machine;
mod matching;
#[cfg(test)]
mod tests;

pub use timer::{Timer, Timers};

use clocks::Clocks;
use machine::{ClientMachine, Noticed, ServerMachine};

//------------ What goes in and out -------------------------------------------

/// Names a request we sent. Never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientKey(u64);

/// Names a request we are to answer. Never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerKey(u64);

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client transaction {}", self.0)
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server transaction {}", self.0)
    }
}

/// What a message that came in means to the core.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// A new request: [`respond`](Transactions::respond) to it.
    Request(ServerKey),
    /// A CANCEL: it has a transaction of its own and must be answered, 200 if it matches an INVITE of ours
    /// to answer (which then gets its 487), 481 if not (RFC 3261 §9.2, §16.10).
    Cancel {
        /// The CANCEL itself.
        cancel: ServerKey,
        /// The INVITE it is about.
        invite: Option<ServerKey>,
    },
    /// The ACK to a 2xx, or to nothing we know: to be taken by the dialog or forwarded.
    Ack,
    /// A response to a request of ours, never heard before (or a 2xx to INVITE, each time it comes).
    Response(ClientKey),
    /// Dealt with: a repetition, or an ACK that ends a refusal.
    Absorbed,
    /// Belongs to nothing here, and is dropped: a response that nobody waits for is not forwarded either, not even
    /// a 2xx (RFC 6026 against RFC 3261 §16.7), or strangers could send what they like through us.
    Stray,
    /// A new request, but the table is full: answer 503 without state, or drop it.
    Full,
}

/// What happened to a transaction without a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransactionEvent {
    /// Nobody answered our request in time: to be treated as a 408 (RFC 3261 §8.1.3.1).
    TimedOut(ClientKey),
    /// The flow of our request is gone: to be treated as a 503, and elsewhere tried at once.
    FlowFailed(ClientKey),
    /// The key will not be heard of again; drop what is kept by it.
    Ended(ClientKey),
    /// The refusal of an INVITE was never acknowledged. Nothing is to be done but to note it.
    AckMissing(ServerKey),
    /// The core did not answer before the client gave up (RFC 4320): work on this request is in vain.
    Unanswered(ServerKey),
    /// The flow that this request came by is gone before it was answered.
    ServerFlowFailed(ServerKey),
    /// The key will not be heard of again; drop what is kept by it.
    ServerEnded(ServerKey),
}

//------------ Client and Server ----------------------------------------------

/// A request we sent.
#[derive(Debug)]
struct Client {
    machine: ClientMachine,
    /// As sent: repeated as it is, and the pattern for its ACK and CANCEL.
    request: Bytes,
    flow: Flow,
    clocks: Clocks,
    cancel: Cancel,
    /// A CANCEL made here: the core never heard of it, so it hears nothing of its end.
    is_ours: bool,
    /// Its entry in `clients_by_name`.
    name: Arc<str>,
}

/// Whether an INVITE of ours is to be cancelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cancel {
    Unwanted,
    /// As soon as a provisional response is there (RFC 3261 §9.1).
    Wanted,
    Sent,
}

/// A request we are to answer.
#[derive(Debug)]
struct Server {
    machine: ServerMachine,
    /// The last response, for repeats.
    response: Option<Bytes>,
    /// Where responses go.
    flow: Flow,
    clocks: Clocks,
    /// The last response was a 401 or 407.
    is_challenged: bool,
    /// Tells credentials apart without keeping them.
    credentials: u64,
    /// Its entry in `servers_by_name`.
    name: Arc<str>,
}

/// Either kind, in the order in which things due at one moment happen.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    Client(ClientKey),
    Server(ServerKey),
}

//------------ Transactions ---------------------------------------------------

/// All transactions of one brain.
#[derive(Debug)]
pub struct Transactions {
    timers: Timers,
    /// Requests to answer at most at one time; more are [`Heard::Full`].
    limit: usize,
    clients: BTreeMap<ClientKey, Client>,
    servers: BTreeMap<ServerKey, Server>,
    clients_by_name: HashMap<Arc<str>, ClientKey>,
    servers_by_name: HashMap<Arc<str>, ServerKey>,
    /// Who must be woken when, one entry each.
    deadlines: BTreeSet<(Instant, Key)>,
    /// Who depends on which connection. UDP is not in here: those flows are never lost, only unreachable.
    by_connection: BTreeSet<(u64, Key)>,
    /// The last key given.
    last: u64,
    transmits: VecDeque<Transmit>,
    events: VecDeque<TransactionEvent>,
}

/// Answered requests of 32 s at some thousands a second; a few hundred bytes each.
const DEFAULT_LIMIT: usize = 200_000;

impl Transactions {
    /// An empty collection.
    pub fn new(timers: Timers) -> Transactions {
        Transactions {
            timers,
            limit: DEFAULT_LIMIT,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            clients_by_name: HashMap::new(),
            servers_by_name: HashMap::new(),
            deadlines: BTreeSet::new(),
            by_connection: BTreeSet::new(),
            last: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The same with another bound on requests to answer at one time. What we send is not bounded here:
    /// each of those was our own decision.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Transactions {
        Transactions { limit, ..self }
    }

    /// Sends a request of ours and looks after it until a final response is there.
    ///
    /// Its branch, which must be unique, is read from its top Via. A request without one could never be
    /// answered: it is not sent and ends at once as [`TransactionEvent::FlowFailed`]. An ACK is sent and
    /// forgotten, since nothing answers an ACK.
    pub fn send(&mut self, request: Bytes, flow: Flow, now: Instant) -> ClientKey {
        let method_and_name = Message::parse(request.clone())
            .ok()
            .and_then(|message| Some((message.method(), matching::name_of_response(&message)?)));
        match method_and_name {
            Some((Method::Ack, _)) => {
                let key = ClientKey(self.next_key());
                self.transmits.push_back(Transmit { flow, bytes: request });
                self.events.push_back(TransactionEvent::Ended(key));
                key
            }
            Some((method, name)) => self.start_client(name, &method, request, flow, false, now),
            None => {
                let key = ClientKey(self.next_key());
                self.events.extend([TransactionEvent::FlowFailed(key), TransactionEvent::Ended(key)]);
                key
            }
        }
    }

    /// Takes a message that came in by `flow` and says what it means.
    pub fn hear(&mut self, message: &Message, flow: Flow, now: Instant) -> Heard {
        match message.status() {
            Some(status) => self.hear_response(message, status, now),
            None if message.is_request() => self.hear_request(message, flow, now),
            // A response without a status that is one.
            None => Heard::Stray,
        }
    }

    /// Sends a response. `true` if it was sent: not when the request is answered already, its client has
    /// gone, or the response must not be sent at all (a 408 or a 1xx other than 100 to a request that is no
    /// INVITE, RFC 4320 §4).
    pub fn respond(&mut self, key: &ServerKey, response: Bytes, now: Instant) -> bool {
        let Some(status) = companion::status(&response) else { return false };
        let Some(server) = self.servers.get(key) else { return false };
        if let ServerMachine::Other(_) = server.machine {
            match status {
                408 => return self.leave_unanswered(*key),
                101..200 => return false,
                _ => {}
            }
        }
        self.advance_server(*key, Noticed::Status(status), Some(response), now) == invite_server::Act::Send
    }

    /// Gives up a pending INVITE: sends CANCEL as soon as that is allowed (RFC 3261 §9.1). Its response,
    /// normally 487, comes as any other; if none comes in 64 × T1, [`TransactionEvent::TimedOut`] does.
    /// Requests other than INVITE are too short to be cancelled.
    pub fn cancel(&mut self, key: &ClientKey, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.cancel == Cancel::Unwanted {
            client.cancel = Cancel::Wanted;
        }
        self.cancel_if_due(*key, now);
    }

    /// Forgets a request of ours; whatever is still to come is [`Heard::Stray`].
    pub fn abandon(&mut self, key: &ClientKey) {
        self.end_client(*key);
    }

    /// Ends whatever depends on a flow that is gone.
    pub fn handle_flow_lost(&mut self, flow: Flow, now: Instant) {
        for key in self.on_flow(flow) {
            match key {
                Key::Client(key) => {
                    self.advance_client(key, Noticed::FlowLost, None, now);
                }
                Key::Server(key) => {
                    self.advance_server(key, Noticed::FlowLost, None, now);
                }
            }
        }
    }

    /// Repeats and ends whatever is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.deadlines.first().copied() {
            if at > now {
                return;
            }
            let rung = match key {
                Key::Client(key) => self.clients.get(&key).and_then(|client| client.clocks.rung(now)),
                Key::Server(key) => self.servers.get(&key).and_then(|server| server.clocks.rung(now)),
            };
            match (key, rung) {
                (Key::Client(key), Some(noticed)) => {
                    self.advance_client(key, noticed, None, now);
                }
                (Key::Server(key), Some(noticed)) => {
                    self.advance_server(key, noticed, None, now);
                }
                // An entry nobody stands behind would ring for ever.
                (Key::Client(_) | Key::Server(_), None) => {
                    self.deadlines.remove(&(at, key));
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next message to put on a flow.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing the core should know.
    pub fn poll_event(&mut self) -> Option<TransactionEvent> {
        self.events.pop_front()
    }

    /// Transactions alive, both sides together.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// Whether no transaction is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    //------------ We ask ------------

    fn start_client(
        &mut self,
        name: String,
        method: &Method,
        request: Bytes,
        flow: Flow,
        is_ours: bool,
        now: Instant,
    ) -> ClientKey {
        let key = ClientKey(self.next_key());
        let machine = ClientMachine::new(method);
        let mut clocks = Clocks::default();
        clocks.follow(machine.timers(), &self.timers, flow.transport.is_reliable(), now);
        let name: Arc<str> = Arc::from(name);
        self.transmits.push_back(Transmit { flow, bytes: request.clone() });
        self.clients_by_name.insert(name.clone(), key);
        self.deadlines.extend(clocks.due().map(|at| (at, Key::Client(key))));
        if flow.serial != 0 {
            self.by_connection.insert((flow.serial, Key::Client(key)));
        }
        let cancel = Cancel::Unwanted;
        self.clients.insert(key, Client { machine, request, flow, clocks, cancel, is_ours, name });
        key
    }

    fn hear_response(&mut self, response: &Message, status: u16, now: Instant) -> Heard {
        let Some(name) = matching::name_of_response(response) else { return Heard::Stray };
        let Some(key) = self.clients_by_name.get(name.as_str()).copied() else { return Heard::Stray };
        let passed_up = self.advance_client(key, Noticed::Status(status), Some(response), now);
        self.cancel_if_due(key, now);
        if passed_up { Heard::Response(key) } else { Heard::Absorbed }
    }

    /// Takes one step and carries out what it asks for; whether a response is for the core.
    fn advance_client(
        &mut self,
        key: ClientKey,
        noticed: Noticed,
        response: Option<&Message>,
        now: Instant,
    ) -> bool {
        use invite_client::Act;
        let Some(client) = self.clients.get_mut(&key) else { return false };
        let (before, due) = (client.machine, client.clocks.due());
        let act = client.machine.step(noticed);
        if noticed == Noticed::Again {
            client.clocks.repeat(before.is_proceeding(), &self.timers, now);
        }
        if client.machine != before {
            let reliable = client.flow.transport.is_reliable();
            client.clocks.follow(client.machine.timers(), &self.timers, reliable, now);
        }
        if client.clocks.due() != due {
            due.map(|at| self.deadlines.remove(&(at, Key::Client(key))));
            self.deadlines.extend(client.clocks.due().map(|at| (at, Key::Client(key))));
        }
        let (flow, is_ours) = (client.flow, client.is_ours);
        match act {
            Act::Rest | Act::PassUp => {}
            Act::Repeat => self.transmits.push_back(Transmit { flow, bytes: client.request.clone() }),
            Act::AcknowledgeAndPassUp | Act::Acknowledge => {
                let ack = response.and_then(|response| companion::ack(&client.request, response));
                self.transmits.extend(ack.map(|bytes| Transmit { flow, bytes }));
            }
            Act::ReportTimeout if !is_ours => self.events.push_back(TransactionEvent::TimedOut(key)),
            Act::ReportFlowLost if !is_ours => self.events.push_back(TransactionEvent::FlowFailed(key)),
            Act::ReportTimeout | Act::ReportFlowLost => {}
        }
        if client.machine.is_over() {
            self.end_client(key);
        } else if client.clocks.is_over_already() {
            // Over a stream nothing is repeated, so there is nothing to wait for.
            self.advance_client(key, Noticed::Forget, None, now);
        }
        matches!(act, Act::PassUp | Act::AcknowledgeAndPassUp) && !is_ours
    }

    fn cancel_if_due(&mut self, key: ClientKey, now: Instant) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let ClientMachine::Invite(invite_client::State::Proceeding) = client.machine else { return };
        if client.cancel != Cancel::Wanted {
            return;
        }
        client.cancel = Cancel::Sent;
        let due = client.clocks.due();
        client.clocks.give_up_after(self.timers.patience(), now);
        due.map(|at| self.deadlines.remove(&(at, Key::Client(key))));
        self.deadlines.extend(client.clocks.due().map(|at| (at, Key::Client(key))));

        let (invite, flow) = (client.request.clone(), client.flow);
        let Some(cancel) = companion::cancel(&invite) else { return };
        let Ok(message) = Message::parse(cancel.clone()) else { return };
        if let Some(name) = matching::name_of_response(&message) {
            self.start_client(name, &Method::Cancel, cancel, flow, true, now);
        }
    }

    fn end_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.remove(&key) else { return };
        if self.clients_by_name.get(&client.name) == Some(&key) {
            self.clients_by_name.remove(&client.name);
        }
        client.clocks.due().map(|at| self.deadlines.remove(&(at, Key::Client(key))));
        self.by_connection.remove(&(client.flow.serial, Key::Client(key)));
        if !client.is_ours {
            self.events.push_back(TransactionEvent::Ended(key));
        }
    }

    //------------ We answer ------------

    fn hear_request(&mut self, request: &Message, flow: Flow, now: Instant) -> Heard {
        let method = request.method();
        let asked = if method == Method::Ack { &Method::Invite } else { &method };
        let Some(name) = matching::name_of_request(request, asked) else { return Heard::Stray };
        match (&method, self.servers_by_name.get(name.as_str()).copied()) {
            (Method::Ack, Some(key)) => {
                let act = self.advance_server(key, Noticed::Ack, None, now);
                return if act == invite_server::Act::PassUp { Heard::Ack } else { Heard::Absorbed };
            }
            (Method::Ack, None) => return Heard::Ack,
            (_, Some(key)) if self.is_second_try(key, request) => self.end_server(key),
            (_, Some(key)) => {
                self.advance_server(key, Noticed::Request, None, now);
                return Heard::Absorbed;
            }
            (_, None) => {}
        }
        let invite = if method == Method::Cancel { self.invite_of(request) } else { None };
        // A CANCEL that finds its INVITE is let in always: it makes room.
        if self.servers.len() >= self.limit && invite.is_none() {
            return Heard::Full;
        }
        let key = self.start_server(name, &method, request, flow, now);
        if method == Method::Cancel { Heard::Cancel { cancel: key, invite } } else { Heard::Request(key) }
    }

    /// The INVITE that this CANCEL is about (RFC 3261 §9.2).
    fn invite_of(&self, cancel: &Message) -> Option<ServerKey> {
        let name = matching::name_of_request(cancel, &Method::Invite)?;
        self.servers_by_name.get(name.as_str()).copied()
    }

    fn start_server(
        &mut self,
        name: String,
        method: &Method,
        request: &Message,
        flow: Flow,
        now: Instant,
    ) -> ServerKey {
        let key = ServerKey(self.next_key());
        let machine = ServerMachine::new(method);
        // Without a readable Via there is no name, and nobody gets here.
        let flow = request.via().map_or(flow, |via| answer_flow(&via, flow));
        let mut clocks = Clocks::default();
        clocks.follow(machine.timers(), &self.timers, flow.transport.is_reliable(), now);
        let name: Arc<str> = Arc::from(name);
        self.servers_by_name.insert(name.clone(), key);
        self.deadlines.extend(clocks.due().map(|at| (at, Key::Server(key))));
        if flow.serial != 0 {
            self.by_connection.insert((flow.serial, Key::Server(key)));
        }
        let credentials = matching::credentials(request);
        let (response, is_challenged) = (None, false);
        self.servers
            .insert(key, Server { machine, response, flow, clocks, is_challenged, credentials, name });
        key
    }

    /// A Lync-family client answers a 407 under the same branch and CSeq: by the letter of §17.2.3 a
    /// retransmission, in truth a second try. The credentials tell.
    fn is_second_try(&self, key: ServerKey, request: &Message) -> bool {
        self.servers.get(&key).is_some_and(|server| {
            server.is_challenged && server.credentials != matching::credentials(request)
        })
    }

    /// Takes one step, carries out what it asks for, and says what that was.
    fn advance_server(
        &mut self,
        key: ServerKey,
        noticed: Noticed,
        response: Option<Bytes>,
        now: Instant,
    ) -> invite_server::Act {
        use invite_server::Act;
        let Some(server) = self.servers.get_mut(&key) else { return Act::Rest };
        let (before, due) = (server.machine, server.clocks.due());
        let act = server.machine.step(noticed);
        if noticed == Noticed::Again {
            server.clocks.repeat(false, &self.timers, now);
        }
        if server.machine != before {
            let reliable = server.flow.transport.is_reliable();
            server.clocks.follow(server.machine.timers(), &self.timers, reliable, now);
        }
        if server.clocks.due() != due {
            due.map(|at| self.deadlines.remove(&(at, Key::Server(key))));
            self.deadlines.extend(server.clocks.due().map(|at| (at, Key::Server(key))));
        }
        let flow = server.flow;
        match act {
            Act::Rest | Act::PassUp => {}
            Act::Send => {
                server.is_challenged = matches!(noticed, Noticed::Status(401 | 407));
                server.response = response;
                self.transmits.extend(server.response.clone().map(|bytes| Transmit { flow, bytes }));
            }
            Act::Repeat => {
                self.transmits.extend(server.response.clone().map(|bytes| Transmit { flow, bytes }))
            }
            Act::ReportTimeout => self.events.push_back(match server.machine {
                ServerMachine::Invite(_) => TransactionEvent::AckMissing(key),
                ServerMachine::Other(_) => TransactionEvent::Unanswered(key),
            }),
            Act::ReportFlowLost => self.events.push_back(TransactionEvent::ServerFlowFailed(key)),
        }
        if server.machine.is_over() {
            self.end_server(key);
        } else if server.clocks.is_over_already() {
            self.advance_server(key, Noticed::Forget, None, now);
        }
        act
    }

    /// Instead of a 408: by now the client has given up, and a late answer would only cross its next try.
    fn leave_unanswered(&mut self, key: ServerKey) -> bool {
        self.end_server(key);
        false
    }

    fn end_server(&mut self, key: ServerKey) {
        let Some(server) = self.servers.remove(&key) else { return };
        if self.servers_by_name.get(&server.name) == Some(&key) {
            self.servers_by_name.remove(&server.name);
        }
        server.clocks.due().map(|at| self.deadlines.remove(&(at, Key::Server(key))));
        self.by_connection.remove(&(server.flow.serial, Key::Server(key)));
        self.events.push_back(TransactionEvent::ServerEnded(key));
    }

    //------------ Both ------------

    fn next_key(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn on_flow(&self, flow: Flow) -> Vec<Key> {
        if flow.serial != 0 {
            let all =
                (flow.serial, Key::Client(ClientKey(0)))..=(flow.serial, Key::Server(ServerKey(u64::MAX)));
            return self.by_connection.range(all).map(|(_, key)| *key).collect();
        }
        let clients = self.clients.iter().filter(|(_, client)| client.flow == flow);
        let servers = self.servers.iter().filter(|(_, server)| server.flow == flow);
        clients.map(|(key, _)| Key::Client(*key)).chain(servers.map(|(key, _)| Key::Server(*key))).collect()
    }
}
