//! Requests on their way to a user: targets, branches, choice of the answer (RFC 3261 §16, RFC 6026).
//!
//! A callee is looked for in *stages*, one after the other; inside a stage all targets are tried at once:
//!
//! ```text
//!   bindings here, highest q first ─► servers of our pool ─► primary pool ─► backup pool ─► trunk of the number
//!   └─ parallel fork per q             one at a time, the user's preferred order             gateways in order
//! ```
//!
//! The next stage is tried when all of this one have failed in a way that another place may mend (408, 404, 480,
//! 430, 5xx), or when nobody has said a word for `patience`: a callee in mid-failover is waited for that long,
//! never for the 32 s of Timer B. A 2xx or 6xx ends the search; so does CANCEL.
//!
//! Other pools are reached over connections of our own to their servers, mutual TLS, kept open. A server that
//! gets a request from another one looks among its own bindings and no further than its own pool, so a request
//! crosses between pools once.
//!
//! In-dialog requests (and ACKs to 2xx) follow their Route; behind our own entry in it, the Request-URI must be the
//! Contact of one of our bindings, or a gateway: we are no open relay.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::print::{Builder, Rewrite, reason_phrase};
use sip::text::Text;
use sip::transaction::{ClientKey, Heard, ServerKey, Timers, TransactionEvent, Transactions};
use sip::transport::{Flow, FlowLoss, Target, Transport};
use sip::uri::AddressOfRecord;

use crate::decision::{Sender, Why};
use crate::desk::{Desk, Own};
use crate::event::Event;
use crate::location::{Binding, Location};
use crate::route::{Sight, onward_routes, own_routes};
use crate::screen::loop_mark;
use crate::watch;

/// Servers of one pool that are tried for one request.
const SERVERS_TRIED: usize = 2;
/// A call that nobody ended is forgotten after this long; it only ever kept its users from being moved first.
const LONGEST_CALL: Duration = Duration::from_secs(12 * 3600);
/// Calls remembered at one time.
const CALLS_MAX: usize = 100_000;
/// A full table of calls is looked through no more often than this.
const SWEEP: Duration = Duration::from_secs(60);

/// All requests on their way.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// RFC 3261 §17.
    transactions: Transactions,
    /// Each request being forwarded, by the transaction it came in.
    forks: BTreeMap<ServerKey, Fork>,
    /// When forks want to be looked at. An entry may come too early, never too late.
    alarms: BTreeSet<(Instant, ServerKey)>,
    /// Whose branch a request of ours is.
    branches: HashMap<ClientKey, (ServerKey, usize)>,
    /// Connections of our own to other servers and gateways.
    links: BTreeMap<Target, Link>,
    /// Calls that stand, by Call-ID: who is in them, since when.
    calls: HashMap<Box<str>, Call>,
    /// When the calls were last looked through for old ones.
    swept_at: Option<Instant>,
}

/// What is to be forwarded.
pub(crate) struct Errand<'a> {
    /// The request, stamped.
    pub(crate) request: &'a Message,
    /// Which way it came.
    pub(crate) source: Flow,
    /// For whom, where we look for somebody.
    pub(crate) callee: Option<AddressOfRecord>,
    /// Where to look, in order.
    pub(crate) stages: Vec<Stage>,
}

/// One request and all its branches.
#[derive(Debug)]
struct Fork {
    /// As it came, stamped.
    request: Message,
    /// Which way it came.
    source: Flow,
    /// For whom, where we looked for somebody.
    callee: Option<AddressOfRecord>,
    /// Not yet tried.
    stages: VecDeque<Stage>,
    /// The place tried last, for the event.
    place: String,
    /// Tried.
    branches: Vec<Branch>,
    /// The best refusal so far.
    best: Option<Refusal>,
    /// When the silence of this stage has lasted long enough.
    patience: Option<Instant>,
    /// When ringing has lasted long enough (Timer C).
    ringing: Option<Instant>,
    /// Its entry among the alarms.
    alarm: Option<Instant>,
    /// A final answer was sent; later 2xx still pass.
    answered: bool,
    /// The caller gave up.
    cancelled: bool,
}

/// Targets that are tried at once.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// For the event: `here`, a pool, a trunk.
    place: String,
    /// In order.
    targets: Vec<Onward>,
}

/// One target.
#[derive(Clone, Debug)]
enum Onward {
    /// A device of ours.
    Device(Way),
    /// A server or a gateway; the Request-URI changes only for a gateway.
    Link { target: Target, uri: Option<Box<str>> },
}

/// How a request leaves.
#[derive(Clone, Debug)]
struct Way {
    /// By this flow.
    flow: Flow,
    /// With this Request-URI, where it changes.
    uri: Option<Box<str>>,
    /// Over these proxies.
    path: Box<[Box<str>]>,
}

impl Way {
    /// To a device of ours.
    fn to(binding: &Binding) -> Way {
        Way { flow: binding.flow, uri: Some(binding.contact.clone()), path: binding.path.clone() }
    }

    /// By a flow that leads there and needs nothing else.
    fn by(flow: Flow, uri: Option<Box<str>>) -> Way {
        Way { flow, uri, path: Box::new([]) }
    }
}

/// One branch.
#[derive(Debug)]
struct Branch {
    /// Its transaction, once the way is open.
    key: Option<ClientKey>,
    /// Something was heard from there.
    heard: bool,
    /// Nothing more will come from there.
    done: bool,
}

/// A refusal worth passing on.
#[derive(Debug)]
struct Refusal {
    status: u16,
    /// Our own where nobody answered.
    response: Option<Message>,
}

/// A connection of our own.
#[derive(Debug)]
enum Link {
    /// Asked for; these wait for it.
    Opening { ticket: u64, waiting: Vec<Waiting> },
    /// Standing.
    Up(Flow),
}

/// What is sent over a way.
#[derive(Debug)]
enum Cargo {
    /// A branch of a fork.
    Branch(ServerKey, usize),
    /// An ACK, which has no transaction, and which way it came.
    Ack(Message, Flow),
}

/// What waits for a connection, and the Request-URI it will have there, where that changes.
type Waiting = (Cargo, Option<Box<str>>);

/// A call that stands.
#[derive(Debug)]
struct Call {
    users: Vec<AddressOfRecord>,
    since: Instant,
}

impl Call {
    fn is_on(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < LONGEST_CALL
    }
}

impl Proxy {
    pub(crate) fn new() -> Proxy {
        Proxy {
            transactions: Transactions::new(Timers::default()),
            forks: BTreeMap::new(),
            alarms: BTreeSet::new(),
            branches: HashMap::new(),
            links: BTreeMap::new(),
            calls: HashMap::new(),
            swept_at: None,
        }
    }

    //------------ What the server hears ---------------------------------------

    /// Says what a request means to the transactions.
    pub(crate) fn hear(&mut self, message: &Message, flow: Flow, now: Instant) -> Heard {
        self.transactions.hear(message, flow, now)
    }

    /// Answers a request.
    pub(crate) fn respond(&mut self, key: ServerKey, response: Bytes, now: Instant) {
        self.transactions.respond(&key, response, now);
    }

    /// Sends a request of our own, whose answer nobody waits for.
    pub(crate) fn send(&mut self, request: Bytes, flow: Flow, now: Instant) {
        self.transactions.send(request, flow, now);
    }

    /// Begins to forward a request by stages.
    pub(crate) fn forward(
        &mut self,
        key: ServerKey,
        errand: Errand<'_>,
        context: &Context<'_>,
        desk: &mut Desk,
    ) {
        let Errand { request, source, callee, stages } = errand;
        if request.method() == Method::Invite {
            // RFC 3261 §16.2: the caller must not repeat itself while we look.
            let trying = Builder::response(request, 100, reason_phrase(100)).finish();
            self.transactions.respond(&key, trying, context.now);
        }
        let fork = Fork {
            request: request.clone(),
            source,
            callee,
            stages: stages.into(),
            place: "nobody".to_owned(),
            branches: Vec::new(),
            best: None,
            patience: None,
            ringing: None,
            alarm: None,
            answered: false,
            cancelled: false,
        };
        self.forks.insert(key, fork);
        self.next_stage(key, context, desk);
    }

    /// The caller gives up (RFC 3261 §16.10).
    pub(crate) fn cancel(&mut self, key: ServerKey, context: &Context<'_>, desk: &mut Desk) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        fork.cancelled = true;
        fork.stages.clear();
        fork.best = Some(Refusal { status: 487, response: None });
        for branch in &mut fork.branches {
            match branch.key {
                Some(client) if !branch.done => self.transactions.cancel(&client, context.now),
                Some(_) => {}
                None => branch.done = true,
            }
        }
        self.finish_if_done(key, context, desk);
    }

    /// A response came for a branch.
    pub(crate) fn handle_response(
        &mut self,
        client: ClientKey,
        response: &Message,
        context: &Context<'_>,
        desk: &mut Desk,
    ) {
        let Some(&(key, place)) = self.branches.get(&client) else { return };
        let Some(fork) = self.forks.get_mut(&key) else { return };
        let Some(branch) = fork.branches.get_mut(place) else { return };
        let Some(status) = response.status() else { return };
        branch.heard = true;
        branch.done |= status >= 200;
        // One device that speaks does not excuse another's silence.
        if fork.branches.iter().all(|branch| branch.heard || branch.done) {
            fork.patience = None;
        }
        if status == 100 {
            return; // hop by hop
        }
        if status < 200 {
            fork.ringing = fork.ringing.map(|_| context.now + context.sight.config.settings.ringing);
            let up = without_our_via(response);
            self.transactions.respond(&key, up, context.now);
            return;
        }
        if status < 300 {
            self.succeed(key, client, response, status, context, desk);
            return;
        }
        fork.note(status, Some(response.clone()));
        if status >= 600 {
            fork.stages.clear();
            self.cancel_others(key, Some(client), context.now);
        }
        self.finish_if_done(key, context, desk);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, context: &Context<'_>, desk: &mut Desk) {
        self.transactions.handle_timeout(context.now);
        while let Some(&(at, key)) = self.alarms.first().filter(|(at, _)| *at <= context.now) {
            self.alarms.remove(&(at, key));
            let Some(fork) = self.forks.get_mut(&key) else { continue };
            fork.alarm = None;
            let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= context.now);
            let (rang_out, unheard) = (is_over(fork.ringing), is_over(fork.patience));
            if !rang_out && !unheard {
                self.set_alarm(key);
                continue;
            }
            fork.patience = None;
            if rang_out {
                fork.ringing = None;
            }
            for branch in &mut fork.branches {
                let gives_up = !branch.done && (rang_out || !branch.heard);
                if !gives_up {
                    continue;
                }
                branch.done = true;
                if let Some(client) = branch.key {
                    // A CANCEL for one that rings; one that never said anything is only forgotten.
                    if branch.heard {
                        self.transactions.cancel(&client, context.now);
                    } else {
                        self.transactions.abandon(&client);
                    }
                }
            }
            fork.note(408, None);
            self.set_alarm(key);
            self.finish_if_done(key, context, desk);
        }
    }

    /// Sees to it that a fork is looked at when its next deadline comes.
    fn set_alarm(&mut self, key: ServerKey) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        let Some(next) = [fork.patience, fork.ringing].into_iter().flatten().min() else { return };
        if fork.alarm.is_none_or(|alarm| next < alarm) {
            if let Some(alarm) = fork.alarm.replace(next) {
                self.alarms.remove(&(alarm, key));
            }
            self.alarms.insert((next, key));
        }
    }

    fn forget(&mut self, key: ServerKey) {
        if let Some(alarm) = self.forks.remove(&key).and_then(|fork| fork.alarm) {
            self.alarms.remove(&(alarm, key));
        }
    }

    /// A connection stands. True if it was ours.
    pub(crate) fn handle_opened(
        &mut self,
        ticket: u64,
        flow: Flow,
        context: &Context<'_>,
        desk: &mut Desk,
    ) -> bool {
        let Some((target, waiting)) = self.take_opening(ticket) else { return false };
        self.links.insert(target, Link::Up(flow));
        for (cargo, uri) in waiting {
            self.ship(cargo, Way::by(flow, uri), context, desk);
        }
        true
    }

    /// There is no connection. True if it was ours.
    pub(crate) fn handle_open_failed(&mut self, ticket: u64, context: &Context<'_>, desk: &mut Desk) -> bool {
        let Some((_, waiting)) = self.take_opening(ticket) else { return false };
        for (cargo, _) in waiting {
            self.lose(cargo, context, desk);
        }
        true
    }

    /// A connection is gone.
    pub(crate) fn handle_flow_lost(&mut self, flow: Flow, _why: &FlowLoss, now: Instant) {
        self.links.retain(|_, link| !matches!(link, Link::Up(up) if *up == flow));
        self.transactions.handle_flow_lost(flow, now);
    }

    /// Passes on what the transactions say, until they have nothing more to say.
    pub(crate) fn settle(&mut self, context: &Context<'_>, desk: &mut Desk) {
        loop {
            while let Some(transmit) = self.transactions.poll_transmit() {
                desk.transmit(transmit.flow, transmit.bytes);
            }
            let Some(event) = self.transactions.poll_event() else { return };
            match event {
                TransactionEvent::TimedOut(client) => self.branch_failed(client, 408, context, desk),
                TransactionEvent::FlowFailed(client) => self.branch_failed(client, 503, context, desk),
                TransactionEvent::Ended(client) => {
                    self.branches.remove(&client);
                }
                TransactionEvent::Unanswered(key) => {
                    self.cancel_others(key, None, context.now);
                    self.forget(key);
                }
                TransactionEvent::ServerFlowFailed(key) => {
                    // RFC 3261 §16.9 leaves it open; nobody is left to hear an answer.
                    self.cancel(key, context, desk);
                }
                TransactionEvent::ServerEnded(key) => self.forget(key),
                TransactionEvent::AckMissing(_) => {}
            }
        }
    }

    /// When [`Proxy::handle_timeout`] is next wanted.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        alarm.into_iter().chain(self.transactions.poll_timeout()).min()
    }

    /// Requests on their way.
    pub(crate) fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Users in a call that we know of, or being called.
    pub(crate) fn busy(&self, now: Instant) -> HashSet<&AddressOfRecord> {
        let calls = self.calls.values().filter(|call| call.is_on(now)).flat_map(|call| &call.users);
        let called =
            self.forks.values().filter(|fork| !fork.answered).filter_map(|fork| fork.callee.as_ref());
        calls.chain(called).collect()
    }

    //------------ ACK ---------------------------------------------------------

    /// An ACK to a 2xx: forwarded without state, or dropped, for nothing answers an ACK.
    pub(crate) fn acknowledge(
        &mut self,
        ack: &Message,
        source: Flow,
        context: &Context<'_>,
        desk: &mut Desk,
    ) {
        if matches!(ack.max_forwards(), Some(Ok(0))) {
            return;
        }
        let Ok(stage) = follow(ack, context.sight) else { return };
        for target in stage.targets {
            self.dispatch(target, Cargo::Ack(ack.clone(), source), context, desk);
        }
    }

    //------------ Stages ------------------------------------------------------

    /// Tries the next stage; without one, gives the best answer there is.
    fn next_stage(&mut self, key: ServerKey, context: &Context<'_>, desk: &mut Desk) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        let Some(stage) = fork.stages.pop_front() else {
            self.give_up(key, context, desk);
            return;
        };
        let settings = &context.sight.config.settings;
        fork.place = stage.place;
        fork.patience = Some(context.now + settings.patience);
        if fork.request.method() == Method::Invite {
            fork.ringing = Some(context.now + settings.ringing);
        }
        self.set_alarm(key);
        for target in stage.targets {
            let Some(fork) = self.forks.get_mut(&key) else { return };
            let place = fork.branches.len();
            fork.branches.push(Branch { key: None, heard: false, done: false });
            self.dispatch(target, Cargo::Branch(key, place), context, desk);
        }
        self.finish_if_done(key, context, desk);
    }

    /// Sends cargo to a target, opening the way first where there is none.
    fn dispatch(&mut self, target: Onward, cargo: Cargo, context: &Context<'_>, desk: &mut Desk) {
        let (target, uri) = match target {
            Onward::Device(way) => return self.ship(cargo, way, context, desk),
            Onward::Link { target, uri } => (target, uri),
        };
        if target.transport == Transport::Udp {
            return match datagram_flow(&target, context.sight.own) {
                Some(flow) => self.ship(cargo, Way::by(flow, uri), context, desk),
                None => self.lose(cargo, context, desk),
            };
        }
        match self.links.get_mut(&target) {
            Some(Link::Up(flow)) => {
                let way = Way::by(*flow, uri);
                self.ship(cargo, way, context, desk);
            }
            Some(Link::Opening { waiting, .. }) => waiting.push((cargo, uri)),
            None => {
                let ticket = desk.open(target.clone());
                self.links.insert(target, Link::Opening { ticket, waiting: vec![(cargo, uri)] });
            }
        }
    }

    /// The way is open.
    fn ship(&mut self, cargo: Cargo, way: Way, context: &Context<'_>, desk: &mut Desk) {
        match cargo {
            Cargo::Ack(ack, source) => {
                let bytes = onward(&ack, source, &way, context, desk);
                desk.transmit(way.flow, bytes);
            }
            Cargo::Branch(key, place) => {
                let Some(fork) = self.forks.get_mut(&key) else { return };
                let Some(branch) = fork.branches.get_mut(place).filter(|branch| !branch.done) else { return };
                let bytes = onward(&fork.request, fork.source, &way, context, desk);
                let client = self.transactions.send(bytes, way.flow, context.now);
                branch.key = Some(client);
                self.branches.insert(client, (key, place));
            }
        }
    }

    /// There is no way.
    fn lose(&mut self, cargo: Cargo, context: &Context<'_>, desk: &mut Desk) {
        match cargo {
            Cargo::Ack(..) => {}
            Cargo::Branch(key, place) => self.fail(key, place, 503, context, desk),
        }
    }

    fn branch_failed(&mut self, client: ClientKey, status: u16, context: &Context<'_>, desk: &mut Desk) {
        if let Some(&(key, place)) = self.branches.get(&client) {
            self.fail(key, place, status, context, desk);
        }
    }

    /// A branch ends without an answer.
    fn fail(&mut self, key: ServerKey, place: usize, status: u16, context: &Context<'_>, desk: &mut Desk) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        let Some(branch) = fork.branches.get_mut(place).filter(|branch| !branch.done) else { return };
        branch.done = true;
        fork.note(status, None);
        self.finish_if_done(key, context, desk);
    }

    /// A 2xx: passed on at once; whoever else still rings is told to stop (RFC 3261 §16.7 steps 5, 10).
    fn succeed(
        &mut self,
        key: ServerKey,
        client: ClientKey,
        response: &Message,
        status: u16,
        context: &Context<'_>,
        desk: &mut Desk,
    ) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        let first = !std::mem::replace(&mut fork.answered, true);
        (fork.patience, fork.ringing) = (None, None);
        fork.stages.clear();
        let (callee, place, method) = (fork.callee.clone(), fork.place.clone(), fork.request.method());
        let caller = fork.request.from().ok().and_then(|from| AddressOfRecord::from_uri(&from.uri));
        self.transactions.respond(&key, without_our_via(response), context.now);
        self.cancel_others(key, Some(client), context.now);
        if let (Method::Invite, Some(callee), Ok(call_id)) = (&method, &callee, response.call_id())
            && self.has_room_for_a_call(context.now)
        {
            let users = std::iter::once(callee.clone()).chain(caller).collect();
            self.calls.insert(call_id.into(), Call { users, since: context.now });
        }
        if method == Method::Bye
            && let Ok(call_id) = response.call_id()
        {
            self.calls.remove(call_id);
        }
        if let (true, Some(callee)) = (first, callee) {
            desk.event(Event::Delivered { method, callee, status, by: place });
        }
    }

    /// Calls whose BYE never came here are forgotten when their place is wanted.
    fn has_room_for_a_call(&mut self, now: Instant) -> bool {
        if self.calls.len() >= CALLS_MAX && self.swept_at.is_none_or(|at| now >= at + SWEEP) {
            self.swept_at = Some(now);
            self.calls.retain(|_, call| call.is_on(now));
        }
        self.calls.len() < CALLS_MAX
    }

    /// CANCELs the branches that still ring.
    fn cancel_others(&mut self, key: ServerKey, winner: Option<ClientKey>, now: Instant) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        for branch in &mut fork.branches {
            match branch.key {
                Some(client) if branch.key != winner && !branch.done => {
                    self.transactions.cancel(&client, now)
                }
                Some(_) => {}
                None => branch.done = true,
            }
        }
    }

    /// When every branch of the stage is done: on to the next, or to the answer.
    fn finish_if_done(&mut self, key: ServerKey, context: &Context<'_>, desk: &mut Desk) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        if fork.answered || !fork.branches.iter().all(|branch| branch.done) {
            return;
        }
        let elsewhere = fork.best.as_ref().is_none_or(|best| may_be_mended_elsewhere(best.status));
        if elsewhere && !fork.stages.is_empty() {
            self.next_stage(key, context, desk);
        } else {
            self.give_up(key, context, desk);
        }
    }

    /// Sends the best refusal (RFC 3261 §16.7 step 6).
    fn give_up(&mut self, key: ServerKey, context: &Context<'_>, desk: &mut Desk) {
        let Some(fork) = self.forks.get_mut(&key) else { return };
        if std::mem::replace(&mut fork.answered, true) {
            return;
        }
        (fork.patience, fork.ringing) = (None, None);
        let method = fork.request.method();
        let (status, response) = match fork.best.take() {
            Some(Refusal { status, response: Some(response) }) => (status, without_our_via(&response)),
            Some(Refusal { status, response: None }) => {
                // RFC 4320 §4: nobody may answer 408 to a request that is no INVITE; and a 503 would keep the caller
                // from us, when it was somebody behind us who could not be reached (RFC 3261 §16.7).
                let why = match (status, &method) {
                    (487, _) => Why::Cancelled,
                    (408, Method::Invite) => Why::Timeout,
                    _ => Why::NotRegistered,
                };
                (why.status(), refusal(&fork.request, &why, context))
            }
            None => (480, refusal(&fork.request, &Why::NotRegistered, context)),
        };
        let (callee, by) = (fork.callee.clone(), fork.place.clone());
        self.transactions.respond(&key, response, context.now);
        if let Some(callee) = callee {
            desk.event(Event::Delivered { method, callee, status, by });
        }
    }

    /// Takes an opening link out of the table.
    fn take_opening(&mut self, ticket: u64) -> Option<(Target, Vec<Waiting>)> {
        let is_it = |link: &Link| matches!(link, Link::Opening { ticket: asked, .. } if *asked == ticket);
        let target = self.links.iter().find(|(_, link)| is_it(link)).map(|(target, _)| target.clone())?;
        match self.links.remove(&target)? {
            Link::Opening { waiting, .. } => Some((target, waiting)),
            Link::Up(_) => None,
        }
    }
}

impl Fork {
    /// Keeps the better of two refusals: 6xx above all, then the lower class, then the one that says more, then
    /// the first.
    fn note(&mut self, status: u16, response: Option<Message>) {
        let rank = |status: u16, real: bool| match status {
            600.. => 0,
            // These ask the caller to do something; others only report (RFC 3261 §16.7 step 6).
            401 | 407 | 415 | 420 | 484 => 1,
            487 if self.cancelled => 1,
            300..500 if status != 408 && status != 404 && status != 480 => 2,
            300..500 if real => 3,
            300..500 => 4,
            _ => 5,
        };
        let real = response.is_some();
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| rank(status, real) < rank(best.status, best.response.is_some()));
        if better {
            self.best = Some(Refusal { status, response });
        }
    }
}

/// What forwarding needs to know.
pub(crate) struct Context<'a> {
    pub(crate) sight: &'a Sight<'a>,
    pub(crate) now: Instant,
}

//------------ Where to --------------------------------------------------------

/// The stages in which a user is looked for.
pub(crate) fn stages(callee: &AddressOfRecord, sender: &Sender, sight: &Sight<'_>) -> Vec<Stage> {
    let topology = &sight.config.topology;
    let Some(user) = sight.config.directory.user(callee) else { return Vec::new() };
    let mut stages = here(callee, sight.location);
    let ours = sight.standing.pool;
    let from_mate = matches!(sender, Sender::Server { mate: true });
    let from_server = matches!(sender, Sender::Server { .. });
    for pool in topology.registrars(&user.home) {
        let is_ours = pool.name == ours.name;
        let wanted = if is_ours { !from_mate } else { !from_server };
        let state = sight.standing.outlook.state(&pool.name);
        let is_lost = state == resilience::partner::State::FailedOver;
        if !wanted || (is_lost && !is_ours) {
            continue;
        }
        let order = pool.preferred_order(callee.hash64());
        let living = order.into_iter().filter(|server| {
            server.name != sight.own.server && sight.standing.outlook.is_alive(&server.name)
        });
        let targets = living.filter_map(watch::target).take(SERVERS_TRIED);
        stages.extend(targets.map(|target| Stage {
            place: pool.name.to_string(),
            targets: vec![Onward::Link { target, uri: None }],
        }));
    }
    if let (Some(number), false) = (&user.number, from_server) {
        stages.extend(trunk_stages(number, sight));
    }
    stages
}

/// The user's living bindings at this server, a stage per q. A device that keeps several connections is tried by the
/// one it refreshed last: it is to ring once (RFC 5626 §7).
fn here(callee: &AddressOfRecord, location: &Location) -> Vec<Stage> {
    let mut bindings: Vec<_> = location.bindings(callee).iter().filter(|binding| binding.alive).collect();
    let all = bindings.clone();
    let refreshed_at = |binding: &Binding| binding.expires_at.checked_sub(binding.granted);
    bindings.retain(|one| {
        let is_same = |other: &&&Binding| one.instance.is_some() && one.instance == other.instance;
        let latest = all.iter().filter(is_same).max_by_key(|other| refreshed_at(other));
        latest.is_none_or(|latest| latest.key == one.key)
    });
    bindings.sort_by_key(|binding| std::cmp::Reverse(binding.q));
    bindings
        .chunk_by(|one, other| one.q == other.q)
        .map(|equals| Stage {
            place: "here".to_owned(),
            targets: equals.iter().map(|binding| Onward::Device(Way::to(binding))).collect(),
        })
        .collect()
}

/// The gateways that take a number, those of our own site first.
pub(crate) fn trunk_stages(number: &str, sight: &Sight<'_>) -> Vec<Stage> {
    let Some(trunk) = sight.config.topology.trunks.iter().find(|trunk| number.starts_with(&trunk.pattern))
    else {
        return Vec::new();
    };
    let mut gateways: Vec<_> = trunk.gateways.iter().collect();
    gateways.sort_by_key(|gateway| gateway.site != sight.standing.pool.site);
    let stage = |host: &str, port: u16| {
        let address = SocketAddr::new(host.parse().ok()?, port);
        let target = Target { transport: Transport::Udp, address, name: Text::from(host) };
        let uri = Some(format!("sip:{number}@{address};user=phone").into());
        Some(Stage { place: trunk.name.clone(), targets: vec![Onward::Link { target, uri }] })
    };
    gateways.into_iter().filter_map(|gateway| stage(&gateway.host, gateway.port)).collect()
}

/// Where a request inside a dialog goes (RFC 3261 §16.12).
pub(crate) fn follow(request: &Message, sight: &Sight<'_>) -> Result<Stage, Why> {
    let topology = &sight.config.topology;
    let one = |place: &str, target| Ok(Stage { place: place.to_owned(), targets: vec![target] });
    if let Some(route) = onward_routes(request, sight.own).next() {
        let host = route.uri.host();
        let by_address = || {
            let mut servers = topology.pools.iter().flat_map(|pool| &pool.servers);
            servers.find(|server| route.uri.ip() == Some(server.address))
        };
        let entry = topology
            .server(host)
            .map(|(_, entry)| entry)
            .or_else(|| topology.pool(host).and_then(|pool| pool.servers.first()))
            .or_else(by_address);
        let target = entry.and_then(watch::target).ok_or(Why::NotOurDomain)?;
        return one(host, Onward::Link { target, uri: None });
    }
    let uri = request.uri().map_err(|error| Why::Malformed { status: 400, error })?;
    if let Some((_, binding)) = sight.location.by_contact(uri.as_str()).filter(|(_, binding)| binding.alive) {
        return one("here", Onward::Device(Way::to(binding)));
    }
    let address = uri.ip().map(|ip| SocketAddr::new(ip, uri.port().unwrap_or(5060)));
    let address = address.ok_or(Why::NoSuchDialog)?;
    let is_gateway = topology
        .trunks
        .iter()
        .flat_map(|trunk| &trunk.gateways)
        .any(|gateway| gateway.host.parse() == Ok(address.ip()) && gateway.port == address.port());
    // A phone whose Contact in the dialog is not the one it registered: it must have registered from there.
    let udp = sight.own.entry.udp.map(|port| SocketAddr::new(sight.own.entry.address, port));
    let flow = udp.map(|local| Flow { transport: Transport::Udp, local, remote: address, serial: 0 });
    match flow.filter(|flow| is_gateway || !sight.location.on_flow(flow).is_empty()) {
        Some(flow) => one("here", Onward::Device(Way::by(flow, None))),
        None => Err(Why::NoSuchDialog),
    }
}

fn datagram_flow(target: &Target, own: &Own) -> Option<Flow> {
    let local = SocketAddr::new(own.entry.address, own.entry.udp?);
    Some(Flow { transport: Transport::Udp, local, remote: target.address, serial: 0 })
}

fn may_be_mended_elsewhere(status: u16) -> bool {
    matches!(status, 404 | 408 | 410 | 430 | 480 | 500..=599)
}

//------------ What is sent ----------------------------------------------------

/// The request as it leaves (RFC 3261 §16.6).
fn onward(request: &Message, source: Flow, way: &Way, context: &Context<'_>, desk: &mut Desk) -> Bytes {
    let Way { flow, uri, path } = way;
    let Sight { own, salt, .. } = *context.sight;
    let mut copy = Rewrite::of(request);
    if let Some(uri) = uri {
        copy = copy.request_uri(uri);
    }
    for _ in 0..own_routes(request, own) {
        copy = copy.remove_first(HeaderName::Route);
    }
    for value in path.iter().rev() {
        copy = copy.push_front(HeaderName::Route, value);
    }
    let hops = match request.max_forwards() {
        Some(Ok(hops)) => hops.saturating_sub(1),
        _ => 70,
    };
    copy = copy.set(HeaderName::MaxForwards, hops);
    // The credentials were for us; nobody behind us has a use for them.
    copy = copy.remove_all(HeaderName::ProxyAuthorization);
    let starts_dialog = matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer)
        && request.to_tag().is_none();
    if starts_dialog {
        copy = copy.push_front(HeaderName::RecordRoute, own.route(source));
        if flow.transport != source.transport {
            // RFC 5658: one entry for each side, where the transports differ.
            copy = copy.push_front(HeaderName::RecordRoute, own.route(*flow));
        }
    }
    let branch = format!("z9hG4bK{:016x}.{}", desk.branch(), loop_mark(request, salt));
    copy.push_front(
        HeaderName::Via,
        format_args!("SIP/2.0/{} {};branch={branch}", flow.transport, own.host_port(*flow)),
    )
    .finish()
}

/// A response on its way back (RFC 3261 §16.7 step 3).
fn without_our_via(response: &Message) -> Bytes {
    Rewrite::of(response).remove_first(HeaderName::Via).finish()
}

/// A refusal of our own.
fn refusal(request: &Message, why: &Why, context: &Context<'_>) -> Bytes {
    crate::answer::refuse(request, why, context.sight.own, &crate::answer::tag(request, context.sight.salt))
}
