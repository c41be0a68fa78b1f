//! The brain of one client: what happens goes in, what is to be done comes out.
//!
//! Three machines share the work, and this file only introduces them to each other and to the wire:
//! [`Homing`] decides *whom* to ask and when again, [`Discovery`] which names to look up, and
//! [`Registration`] what to say and what the answer means. In between, the endpoint does one thing at a
//! time:
//!
//! ```text
//!            Discover                Register(uri)             200
//!   Idle ───────────────► Searching ─────────────► Trying ───────────► Registered
//!    ▲                        │                    │  ▲ │                 │  │
//!    │   nobody left: wait    │                    │  └─┘ next address    │  │ sign out
//!    └────────────────────────┴────────────────────┘                      │  ▼
//!    ▲                                flow lost, redirected, sent home    │ Leaving
//!    └─────────────────────────────── (and Trying again) ◄────────────────┘
//! ```
//!
//! *Trying* one registrar is itself a short walk: the address at which it last answered, then every
//! address DNS gives; each is given `connect_timeout` to come up and `peer_dead_after` to answer, so a
//! black hole costs seconds and never the 32 of Timer F. In profile `rehome` a registrar just found
//! silent is given only `keepalive_doubt` to come up, so that its backup need not wait for a corpse.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use resilience::homing::{self, Answered, Homing, Refusal, Service, State};
use resilience::profile::{Profile, Timers};
use sip::header::HeaderName;
use sip::locate::{Answer, DnsFailure, Locator, Query};
use sip::message::Message;
use sip::method::Method;
use sip::print::Builder;
use sip::transaction::{ClientKey, Heard, TransactionEvent, Transactions};
use sip::transport::{Flow, FlowLoss, Target, Transport};

use crate::cache::{self, CacheEntry, CachedRegistrar};
use crate::calls::{Calls, Desk, Wish};
use crate::config::Config;
use crate::discovery::{self, Discovery};
use crate::event::{Accepted, Event, Found};
use crate::input::{Command, Input};
use crate::keepalive::{self, Keepalive};
use crate::notify;
use crate::output::Output;
use crate::registrar::{Registrar, lies_in};
use crate::registration::{self, Exchange, Granted, Registration, Verdict};
use crate::status::Status;

/// How long DNS may take before we answer for it. Worlds give up earlier; this is for one that forgot.
const DNS_PATIENCE: Duration = Duration::from_secs(10);
/// How long we wait for a farewell to be confirmed.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(5);
/// How often a cache that is still right is handed out again, so that its lifetime does not run out.
const RENEWAL: Duration = Duration::from_secs(86_400);
/// Between two REGISTERs where all is well, at least.
const BRIEFEST_REFRESH: Duration = Duration::from_secs(1);
/// For how long a registrar found dead is met with suspicion.
const SUSPICION: Duration = Duration::from_secs(60);

/// One client.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    rng: ChaCha12Rng,
    /// Decides whom to ask.
    homing: Homing,
    /// Speaks REGISTER.
    registration: Registration,
    /// Client and server transactions on all our flows.
    transactions: Transactions,
    /// Requests of the user and of others.
    calls: Calls,
    /// The one thing being done.
    work: Work,
    /// What is remembered for the next start, as last handed out or brought along.
    cache: Option<CacheEntry>,
    /// When that was handed out for keeping, in this life.
    kept: Option<Instant>,
    /// Where each registrar last answered, or was found while DNS was well.
    met: BTreeMap<Registrar, SocketAddr>,
    /// When each registrar was last found dead.
    dead: BTreeMap<Registrar, Instant>,
    /// Number for the next `Open`.
    next_ticket: u64,
    /// What was last told of the service.
    service: Service,
    /// Since when that and the place have been so, and why.
    since: Instant,
    why: &'static str,
    /// The REGISTER that is out, if one is.
    asking: Option<ClientKey>,
    /// Registrars we know of but never met, whose addresses have been asked for.
    scouted: BTreeSet<Registrar>,
    /// Said, not yet taken.
    outputs: VecDeque<Output>,
}

/// The one thing being done.
#[derive(Debug)]
enum Work {
    /// Nothing: signed out, or waiting for the next attempt.
    Idle,
    /// DNS is being asked for the servers of the domain.
    Searching { discovery: Discovery, until: Instant },
    /// One registrar is being tried.
    Trying(Trial),
    /// Registered.
    Registered(Link),
    /// Taking the registration back.
    Leaving { link: Link, until: Instant },
}

/// One registrar being tried.
#[derive(Debug)]
struct Trial {
    /// Which one.
    registrar: Registrar,
    /// Its addresses; `None` while the one remembered is being tried.
    locator: Option<Locator>,
    /// How far the present address has come.
    stage: Stage,
    /// Patience with that stage.
    until: Instant,
    /// The address remembered, once it has failed: not tried again when DNS names it too.
    stale: Option<SocketAddr>,
    /// What went wrong with the last address.
    failure: Refusal,
}

/// How far one address has come.
#[derive(Debug)]
enum Stage {
    /// DNS is being asked for addresses.
    Locating,
    /// A flow is being opened.
    Opening { ticket: u64, address: SocketAddr },
    /// REGISTER is out.
    Asking { flow: Flow, key: ClientKey, exchange: Exchange },
}

/// A registration that stands, and the flow it stands on.
#[derive(Debug)]
struct Link {
    registrar: Registrar,
    flow: Flow,
    keepalive: Keepalive,
    /// When to register again.
    refresh: Instant,
    /// A REGISTER that is out: a refresh, or the farewell.
    pending: Option<(ClientKey, Exchange)>,
}

impl Endpoint {
    /// A client that is signed out. `cache` is what an earlier life asked to keep.
    pub fn new(config: Config, cache: Option<CacheEntry>, mut rng: ChaCha12Rng, now: Instant) -> Endpoint {
        let registration = Registration::new(&config, &mut rng);
        let cache = cache.and_then(|entry| entry.usable_for(config.aor.as_str()));
        Endpoint {
            homing: Homing::new(config.profile, now),
            registration,
            transactions: Transactions::new(sip::transaction::Timers::default()),
            calls: Calls::default(),
            work: Work::Idle,
            cache,
            kept: None,
            met: BTreeMap::new(),
            dead: BTreeMap::new(),
            next_ticket: 1,
            service: Service::None,
            since: now,
            why: "not signed in",
            asking: None,
            scouted: BTreeSet::new(),
            outputs: VecDeque::new(),
            config,
            rng,
        }
    }

    /// Something happened. Drain [`poll_output`](Self::poll_output) afterwards.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Received { flow, bytes } => self.handle_received(flow, bytes, now),
            Input::Pong { flow } => self.handle_byte(&flow, now),
            Input::Opened { ticket, flow } => self.handle_opened(ticket, flow, now),
            Input::OpenFailed { ticket, why } => self.handle_open_failed(ticket, why, now),
            Input::FlowLost { flow, why } => self.handle_flow_lost(flow, why, now),
            Input::Resolved { query, answer } => self.handle_resolved(&query, answer, now),
            Input::Told(command) => self.handle_command(command, now),
            Input::Timeout => self.handle_timeout(now),
        }
        self.settle(now);
    }

    /// The next wish; [`Output::Timeout`] when there is none.
    pub fn poll_output(&mut self) -> Output {
        match self.outputs.pop_front() {
            Some(output) => output,
            None => Output::Timeout(self.poll_timeout()),
        }
    }

    /// What the user has.
    pub fn service(&self) -> Service {
        self.homing.service()
    }

    /// The client's machine, to look at.
    pub fn homing(&self) -> &Homing {
        &self.homing
    }

    /// Where the user is, since when and why.
    pub fn status(&self) -> Status {
        Status {
            registrar: self.registered_at().map(|registrar| registrar.host.clone()),
            service: self.service(),
            since: self.since,
            why: self.why.to_owned(),
        }
    }

    fn registered_at(&self) -> Option<&Registrar> {
        match &self.work {
            Work::Registered(link) => Some(&link.registrar),
            Work::Idle | Work::Searching { .. } | Work::Trying(_) | Work::Leaving { .. } => None,
        }
    }

    //------------ Commands ----------------------------------------------------

    fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::SignIn => self.sign_in(now),
            Command::SignOut => self.sign_out(now),
            Command::Request { id, method, to, headers, content_type, body } => {
                if let Work::Registered(link) = &mut self.work {
                    link.keepalive.handle_asked(now);
                }
                let wish = Wish { id, method, to, headers, content_type, body };
                let (calls, mut desk) = self.desk(now);
                calls.request(wish, &mut desk);
            }
            Command::HangUp { id } => {
                let (calls, mut desk) = self.desk(now);
                calls.hang_up(id, &mut desk);
            }
        }
    }

    /// What calls need of us.
    fn desk(&mut self, now: Instant) -> (&mut Calls, Desk<'_>) {
        let flow = match &self.work {
            Work::Registered(link) => Some(link.flow),
            Work::Idle | Work::Searching { .. } | Work::Trying(_) | Work::Leaving { .. } => None,
        };
        let mut realms = self.registration.login.realms();
        realms.push(self.config.aor.domain().to_owned());
        let Endpoint { config, transactions, rng, .. } = self;
        (&mut self.calls, Desk { config, transactions, rng, flow, realms, now })
    }

    fn sign_in(&mut self, now: Instant) {
        if self.homing.state() != State::SignedOut {
            return;
        }
        if let Work::Leaving { .. } = self.work {
            self.gone(false, now);
        }
        let remembered = self.remembered();
        if !remembered.is_empty() && self.config.registrar.is_none() {
            let registrars = remembered.iter().map(|registrar| registrar.host.clone()).collect();
            self.say(Event::Recalled { registrars });
        }
        let remembered = remembered.iter().map(|registrar| homing::Registrar::new(&registrar.to_string()));
        self.homing.sign_in(remembered.collect(), now);
    }

    /// The registrars to begin with: the one configured, else those in the cache that may be used.
    fn remembered(&mut self) -> Vec<Registrar> {
        if let Some(uri) = &self.config.registrar {
            return Registrar::parse(uri, &self.config.transports, None).into_iter().collect();
        }
        let Some(entry) = &self.cache else { return Vec::new() };
        // Looked at again: the rules may have become stricter since it was written.
        let strict = self.config.strict_names && !self.config.allow_redirect_outside;
        let within = strict.then(|| self.config.aor.domain());
        let mut registrars = Vec::new();
        for cached in &entry.registrars {
            let Ok(registrar) = Registrar::parse(&cached.uri, &self.config.transports, within) else {
                continue;
            };
            if let Some(address) = cached.address {
                self.met.entry(registrar.clone()).or_insert(address);
            }
            registrars.push(registrar);
        }
        registrars
    }

    fn sign_out(&mut self, now: Instant) {
        if self.homing.state() == State::SignedOut {
            if !matches!(self.work, Work::Leaving { .. }) {
                self.say(Event::SignedOut { registrar: None, confirmed: true });
            }
            return;
        }
        self.homing.sign_out(now);
        match std::mem::replace(&mut self.work, Work::Idle) {
            registered @ Work::Registered(_) => self.work = registered, // Homing asks us to take it back.
            Work::Trying(Trial { registrar, stage: Stage::Asking { flow, .. }, .. }) => {
                // Whether the REGISTER that is out has been granted, we shall not learn: this comes after it.
                self.part(Link::new(registrar, flow, &self.config.timers, now), now);
            }
            other => {
                self.work = other;
                self.drop_work(now);
                self.say(Event::SignedOut { registrar: None, confirmed: true });
            }
        }
    }

    //------------ Homing's wishes ---------------------------------------------

    /// Carries out what homing wants and tells what it says, until it is content.
    fn settle(&mut self, now: Instant) {
        loop {
            self.flush();
            while let Some(event) = self.homing.poll_event() {
                self.relate(event, now);
            }
            match self.homing.poll_step() {
                Some(homing::Step::Discover) => self.search(now),
                Some(homing::Step::Register(uri)) => self.try_registrar(&uri, now),
                Some(homing::Step::Remember(registrars)) => {
                    self.keep(registrars.iter().map(|registrar| registrar.uri.to_string()), now);
                }
                Some(homing::Step::Unregister(_)) => self.leave(now),
                None => break,
            }
        }
        self.flush();
    }

    /// Moves what transactions and calls have to say to our own outputs.
    fn flush(&mut self) {
        while let Some(transmit) = self.transactions.poll_transmit() {
            self.outputs.push_back(Output::Transmit { flow: transmit.flow, bytes: transmit.bytes });
        }
        while let Some(transmit) = self.calls.poll_transmit() {
            self.outputs.push_back(Output::Transmit { flow: transmit.flow, bytes: transmit.bytes });
        }
        while let Some(event) = self.calls.poll_event() {
            self.say(event);
        }
    }

    /// Says in our words what homing noticed. Refusals have been told in detail where they happened.
    fn relate(&mut self, event: homing::Event, now: Instant) {
        match event {
            homing::Event::Moved { from, to, why } => {
                self.since = now;
                self.why = words(why);
                self.say(Event::Homing { from, to, why: words(why) });
            }
            homing::Event::ServiceChanged(to) => {
                let from = std::mem::replace(&mut self.service, to);
                self.say(Event::Service { from, to });
            }
            homing::Event::TurnedAway { .. } => {}
            homing::Event::RedirectedToDead { at } => {
                self.say(Event::RedirectedToDead { registrar: host_of(&at) });
            }
            homing::Event::RedirectLoop { path } => {
                self.say(Event::RedirectLoop { path: path.iter().map(|uri| host_of(uri)).collect() });
            }
            homing::Event::TooManyRedirects { path } => {
                self.say(Event::TooManyRedirects { path: path.iter().map(|uri| host_of(uri)).collect() });
            }
            homing::Event::Waiting(wait) => self.say(Event::Waiting { wait }),
        }
    }

    /// Keeps these registrars for the next start, each with the address it is known at.
    fn keep(&mut self, uris: impl Iterator<Item = String>, now: Instant) {
        let cached = uris.map(|uri| {
            let registrar = Registrar::parse(&uri, &self.config.transports, None).ok();
            let address = registrar.and_then(|registrar| self.met.get(&registrar).copied());
            CachedRegistrar { uri, address }
        });
        let entry = CacheEntry {
            aor: self.config.aor.to_string(),
            registrars: cached.collect(),
            lifetime: cache::LIFETIME,
        };
        let is_old = self.kept.is_none_or(|kept| now >= kept + RENEWAL);
        if is_old || self.cache.as_ref() != Some(&entry) {
            self.kept = Some(now);
            self.cache = Some(entry.clone());
            self.outputs.push_back(Output::Persist(entry));
        }
    }

    //------------ Searching ---------------------------------------------------

    fn search(&mut self, now: Instant) {
        self.drop_work(now);
        if self.config.registrar.is_some() {
            // The user has said where; nobody else is asked.
            return self.homing.handle_discovered(Vec::new(), now, &mut self.rng);
        }
        let naptr = self.config.profile == Profile::Rehome;
        let (domain, transports) = (self.config.aor.domain(), &self.config.transports);
        let discovery = Discovery::of_domain(domain, transports, self.config.strict_names, naptr);
        self.work = Work::Searching { discovery, until: now + DNS_PATIENCE };
        self.search_on(now);
    }

    fn search_on(&mut self, now: Instant) {
        let Work::Searching { discovery, until } = &mut self.work else { return };
        loop {
            match discovery.poll(&mut self.rng) {
                discovery::Step::Ask(query) => {
                    *until = now + DNS_PATIENCE;
                    self.outputs.push_back(Output::Resolve(query));
                }
                discovery::Step::Say(event) => self.outputs.push_back(Output::Event(event)),
                discovery::Step::Wait => return,
                discovery::Step::Done(found) => {
                    self.work = Work::Idle;
                    let found = found.iter().map(|registrar| homing::Registrar::new(&registrar.to_string()));
                    return self.homing.handle_discovered(found.collect(), now, &mut self.rng);
                }
            }
        }
    }

    fn handle_resolved(&mut self, query: &Query, answer: Answer, now: Instant) {
        match &mut self.work {
            Work::Searching { discovery, .. } => {
                discovery.handle_answer(query, answer);
                self.search_on(now);
            }
            Work::Trying(Trial { locator: Some(locator), stage: Stage::Locating, .. }) => {
                locator.handle_answer(query, &answer, &mut self.rng);
                // Addresses found are no news; that there are none is.
                match discovery::found(&answer, vec![String::new()]) {
                    Found::Names(_) => {}
                    found => self.say(Event::Discovered { question: query.clone(), found }),
                }
                self.next_address(now);
            }
            Work::Registered(_) => self.handle_scouted(query, &answer, now),
            Work::Idle | Work::Trying(_) | Work::Leaving { .. } => {}
        }
    }

    //------------ Trying ------------------------------------------------------

    fn try_registrar(&mut self, uri: &Arc<str>, now: Instant) {
        self.drop_work(now);
        let Ok(registrar) = Registrar::parse(uri, &self.config.transports, None) else {
            // Only the printed form of a `Registrar` is ever handed to homing.
            return self.homing.handle_refused(Refusal::Misdirected, now, &mut self.rng);
        };
        let met = self.met.get(&registrar).copied();
        self.work = Work::Trying(Trial {
            registrar,
            locator: None,
            stage: Stage::Locating,
            until: now + DNS_PATIENCE,
            stale: None,
            failure: Refusal::Unreachable,
        });
        match met {
            Some(address) => self.open(address, now),
            None => self.next_address(now),
        }
    }

    /// Goes on to the next address of the registrar being tried, or gives it up.
    fn next_address(&mut self, now: Instant) {
        let Work::Trying(trial) = &mut self.work else { return };
        trial.stage = Stage::Locating;
        trial.until = now + DNS_PATIENCE;
        if let Some(failed) = self.met.remove(&trial.registrar) {
            trial.stale = Some(failed);
        }
        let locator = match &mut trial.locator {
            Some(locator) => locator,
            None => trial.locator.insert(trial.registrar.locator()),
        };
        while let Some(query) = locator.poll_query() {
            self.outputs.push_back(Output::Resolve(query));
        }
        loop {
            match locator.next_target() {
                Some(target) if Some(target.address) == trial.stale => {} // It has just failed.
                Some(target) => return self.open(target.address, now),
                None if !locator.is_exhausted() => return,
                None => break,
            }
        }
        let why = trial.failure;
        self.work = Work::Idle;
        self.homing.handle_refused(why, now, &mut self.rng);
    }

    fn open(&mut self, address: SocketAddr, now: Instant) {
        let patience = self.connect_patience(now);
        let Work::Trying(trial) = &mut self.work else { return };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        trial.stage = Stage::Opening { ticket, address };
        trial.until = now + patience;
        let target = Target { transport: trial.registrar.transport, address, name: trial.registrar.proof() };
        self.outputs.push_back(Output::Open { ticket, target });
    }

    /// How long the registrar being tried has to come up.
    fn connect_patience(&self, now: Instant) -> Duration {
        let Work::Trying(trial) = &self.work else { return self.config.connect_timeout };
        let suspected = self.config.profile == Profile::Rehome
            && self.dead.get(&trial.registrar).is_some_and(|at| now < *at + SUSPICION);
        if suspected {
            self.config.timers.keepalive_doubt.min(self.config.connect_timeout)
        } else {
            self.config.connect_timeout
        }
    }

    fn handle_opened(&mut self, ticket: u64, flow: Flow, now: Instant) {
        match &mut self.work {
            Work::Trying(trial) if trial.is_opening(ticket) => {
                if let Stage::Opening { address, .. } = trial.stage {
                    self.met.insert(trial.registrar.clone(), address);
                }
                self.ask(flow, Exchange::default(), now);
            }
            // Too late: we have gone on.
            _ => self.outputs.push_back(Output::Close { flow }),
        }
    }

    /// Sends REGISTER to the registrar being tried.
    fn ask(&mut self, flow: Flow, exchange: Exchange, now: Instant) {
        if let Work::Trying(trial) = &self.work
            && exchange == Exchange::default()
            && !lies_in(&trial.registrar.host, self.config.aor.domain())
        {
            self.registration.login.forget();
        }
        let request = self.registration.request(&self.config, &flow, false, &mut self.rng);
        let key = self.transactions.send(request, flow, now);
        self.asking = Some(key);
        let Work::Trying(trial) = &mut self.work else { return };
        trial.stage = Stage::Asking { flow, key, exchange };
        trial.until = now + self.config.timers.peer_dead_after;
    }

    fn handle_open_failed(&mut self, ticket: u64, why: FlowLoss, now: Instant) {
        if let Work::Trying(trial) = &self.work
            && trial.is_opening(ticket)
        {
            self.unreached(why, now);
        }
    }

    /// The address being tried is no good.
    fn unreached(&mut self, why: FlowLoss, now: Instant) {
        let Work::Trying(trial) = &mut self.work else { return };
        trial.failure = Refusal::Unreachable;
        let registrar = trial.registrar.clone();
        if why == FlowLoss::TimedOut {
            self.dead.insert(registrar.clone(), now);
        }
        self.say(Event::Unreached { registrar: registrar.host, why });
        self.next_address(now);
    }

    /// The answer to the REGISTER of a trial.
    fn judge_trial(&mut self, flow: Flow, mut exchange: Exchange, response: &Message, now: Instant) {
        let verdict = self.registration.judge(response, &mut exchange);
        let Work::Trying(trial) = &mut self.work else { return };
        let registrar = trial.registrar.clone();
        match verdict {
            Verdict::Provisional => trial.until = now + self.config.timers.peer_dead_after,
            Verdict::Again => self.ask(flow, exchange, now),
            Verdict::Accepted(granted) => {
                self.dead.remove(&registrar);
                self.say(Event::Registered(accepted(&registrar, &granted)));
                let link = Link::new(registrar, flow, &self.config.timers, now);
                let refresh = now + refresh_after(&granted);
                let is_secure = link.registrar.transport.is_secure();
                self.work = Work::Registered(Link { refresh, ..link });
                self.accepted(granted, is_secure, now);
            }
            elsewhere => {
                self.work = Work::Idle;
                self.close(flow, now);
                self.turned_away(&registrar, elsewhere, now);
            }
        }
    }

    /// Tells homing what a 200 said, except what it must not follow.
    fn accepted(&mut self, granted: Granted, is_secure: bool, now: Instant) {
        self.calls.set_service_route(granted.service_route);
        let registrars = self.allowed(granted.registrars, is_secure);
        let answer = Answered { is_primary: granted.primary, user_services: !granted.limited, registrars };
        self.homing.handle_answered(answer, now);
        // The primary has just confirmed what is kept: its lifetime begins anew.
        if self.homing.state() == State::AtPrimary
            && self.kept.is_none_or(|kept| now >= kept + RENEWAL)
            && let Some(entry) = self.cache.clone()
        {
            self.keep(entry.registrars.into_iter().map(|known| known.uri), now);
        }
        if self.config.profile == Profile::Rehome {
            self.scout();
        }
    }

    /// Asks for the addresses of registrars we know and have never met, while DNS is there to answer: the
    /// site that dies may hold the name server too.
    fn scout(&mut self) {
        self.scouted.clear();
        for known in self.homing.registrars() {
            if let Ok(registrar) = Registrar::parse(&known.uri, &self.config.transports, None)
                && registrar.port.is_some()
                && !self.met.contains_key(&registrar)
                && self.scouted.insert(registrar.clone())
            {
                self.outputs.push_back(Output::Resolve(Query::Address(registrar.host)));
            }
        }
    }

    /// Notes where a registrar is that we may need one day.
    fn handle_scouted(&mut self, query: &Query, answer: &Answer, now: Instant) {
        let Some(ip) = discovery::addresses(answer).first().copied() else { return };
        let found: Vec<Registrar> = self
            .scouted
            .iter()
            .filter(|registrar| *query == Query::Address(registrar.host.clone()))
            .cloned()
            .collect();
        for registrar in found {
            self.scouted.remove(&registrar);
            if let Some(port) = registrar.port {
                self.met.entry(registrar).or_insert(SocketAddr::new(ip, port));
            }
        }
        if self.scouted.is_empty()
            && let Some(entry) = self.cache.clone()
        {
            self.keep(entry.registrars.into_iter().map(|known| known.uri), now);
        }
    }

    /// Every answer that is not a 200, at a trial and at a refresh alike.
    fn turned_away(&mut self, registrar: &Registrar, verdict: Verdict, now: Instant) {
        let host = registrar.host.clone();
        match verdict {
            Verdict::Redirected { status, contacts } => {
                let shown = contacts.iter().map(|(uri, q)| (host_of(uri), *q)).collect();
                self.say(Event::Redirected { registrar: host, status, contacts: shown });
                let contacts = self.allowed(contacts, registrar.transport.is_secure());
                self.homing.handle_redirected(contacts, now, &mut self.rng);
            }
            Verdict::Rejected { status, reason } => {
                self.say(Event::Rejected { registrar: host, status, reason });
                self.homing.handle_refused(Refusal::Forever, now, &mut self.rng);
            }
            Verdict::Refused { status, reason, retry_after } => {
                self.say(Event::Refused { registrar: host, status, reason, retry_after });
                self.homing.handle_refused(Refusal::Busy { retry_after }, now, &mut self.rng);
            }
            Verdict::Provisional | Verdict::Again | Verdict::Accepted(_) => {}
        }
    }

    /// Those of `contacts` that we may follow, as homing knows them; the others are told. `is_secure`: they
    /// were named over TLS, and no server that we trust so far may talk us out of it.
    fn allowed(&mut self, contacts: Vec<(String, u16)>, is_secure: bool) -> Vec<homing::Registrar> {
        let transports = self.config.transports.iter().copied();
        let transports: Vec<Transport> = transports.filter(|one| one.is_secure() || !is_secure).collect();
        let mut allowed = Vec::new();
        for (uri, q) in contacts.into_iter().take(homing::MAX_NAMED) {
            match Registrar::parse(&uri, &transports, self.redirect_domain()) {
                Ok(registrar) => allowed.push(homing::Registrar::with_q(&registrar.to_string(), q)),
                Err(why) => self.say(Event::NameRefused { name: host_of(&uri), why }),
            }
        }
        allowed
    }

    /// The domain a server named by a server must lie in.
    fn redirect_domain(&self) -> Option<&str> {
        (!self.config.allow_redirect_outside).then(|| self.config.aor.domain())
    }

    //------------ Registered --------------------------------------------------

    /// The answer to a refresh.
    fn judge_refresh(&mut self, mut exchange: Exchange, response: &Message, now: Instant) {
        let verdict = self.registration.judge(response, &mut exchange);
        let Work::Registered(link) = &mut self.work else { return };
        let (registrar, flow) = (link.registrar.clone(), link.flow);
        match verdict {
            Verdict::Provisional => {}
            Verdict::Again => self.refresh(exchange, now),
            Verdict::Accepted(granted) => {
                link.pending = None;
                link.refresh = now + refresh_after(&granted);
                self.say(Event::Refreshed(accepted(&registrar, &granted)));
                self.accepted(granted, registrar.transport.is_secure(), now);
            }
            elsewhere => {
                self.work = Work::Idle;
                self.close(flow, now);
                self.turned_away(&registrar, elsewhere, now);
            }
        }
    }

    fn refresh(&mut self, exchange: Exchange, now: Instant) {
        let Work::Registered(link) = &mut self.work else { return };
        let request = self.registration.request(&self.config, &link.flow, false, &mut self.rng);
        let key = self.transactions.send(request, link.flow, now);
        self.asking = Some(key);
        link.keepalive.handle_asked(now);
        link.pending = Some((key, exchange));
    }

    fn leave(&mut self, now: Instant) {
        let work = std::mem::replace(&mut self.work, Work::Idle);
        if let Work::Registered(link) = work {
            self.part(link, now);
        }
    }

    /// Takes back by `link` whatever stands there.
    fn part(&mut self, link: Link, now: Instant) {
        self.work = Work::Leaving { link, until: now + FAREWELL_PATIENCE };
        self.say_farewell(Exchange::default(), now);
    }

    fn say_farewell(&mut self, exchange: Exchange, now: Instant) {
        let Work::Leaving { link, .. } = &mut self.work else { return };
        let request = self.registration.request(&self.config, &link.flow, true, &mut self.rng);
        let key = self.transactions.send(request, link.flow, now);
        self.asking = Some(key);
        link.pending = Some((key, exchange));
    }

    fn judge_farewell(&mut self, mut exchange: Exchange, response: &Message, now: Instant) {
        match self.registration.judge(response, &mut exchange) {
            Verdict::Provisional => {}
            Verdict::Again => self.say_farewell(exchange, now),
            Verdict::Accepted(_) => self.gone(true, now),
            Verdict::Redirected { .. } | Verdict::Rejected { .. } | Verdict::Refused { .. } => {
                self.gone(false, now)
            }
        }
    }

    /// Signing out is over.
    fn gone(&mut self, confirmed: bool, now: Instant) {
        if let Work::Leaving { link, .. } = std::mem::replace(&mut self.work, Work::Idle) {
            self.close(link.flow, now);
            self.say(Event::SignedOut { registrar: Some(link.registrar.host), confirmed });
        }
    }

    /// A NOTIFY about our registration, from our registrar. It has been answered.
    fn handle_notice(&mut self, notice: notify::Notice, now: Instant) {
        let Work::Registered(link) = &self.work else { return };
        let (registrar, flow) = (link.registrar.clone(), link.flow);
        let is_secure = registrar.transport.is_secure();
        let preferred =
            notice.preferred.clone().and_then(|uri| self.allowed(vec![(uri, 1000)], is_secure).pop());
        self.say(Event::Notified {
            registrar: registrar.host,
            what: notice.body,
            preferred: preferred.as_ref().map(|preferred| host_of(&preferred.uri)),
        });
        match notice.meaning {
            notify::Meaning::Moved => {
                self.flush(); // The 200 to the NOTIFY goes out before the flow is closed.
                self.work = Work::Idle;
                self.close(flow, now);
                self.homing.handle_sent_home(preferred, now, &mut self.rng);
            }
            notify::Meaning::Ended => {
                self.flush();
                self.work = Work::Idle;
                self.close(flow, now);
                self.homing.handle_refused(Refusal::Forever, now, &mut self.rng);
            }
            notify::Meaning::ServicesLost => self.user_services(false, now),
            notify::Meaning::ServicesBack => self.user_services(true, now),
            notify::Meaning::Unknown => {}
        }
    }

    /// User services came or went, and nothing else changed.
    fn user_services(&mut self, user_services: bool, now: Instant) {
        let is_primary = Some(self.homing.state() == State::AtPrimary);
        self.homing.handle_answered(Answered { is_primary, user_services, registrars: Vec::new() }, now);
    }

    //------------ Flows -------------------------------------------------------

    fn handle_received(&mut self, flow: Flow, bytes: Bytes, now: Instant) {
        if !self.is_ours(&flow) {
            return; // Only our registrar may talk to us.
        }
        self.handle_byte(&flow, now);
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(why) => return self.say(Event::Malformed { why: why.to_string() }),
        };
        // A request that is wrong is told so; a response is as if it had not come (RFC 3261 §18.1.2).
        if let (false, Err(invalid)) = (message.is_request(), message.validate()) {
            return self.say(Event::Malformed { why: invalid.why.to_string() });
        }
        match self.transactions.hear(&message, flow, now) {
            Heard::Response(key) => self.handle_response(&key, &message, now),
            Heard::Request(key) => {
                let is_subscribed = self.registration.is_subscribed_to(&message);
                let (calls, mut desk) = self.desk(now);
                if let Some(notice) = calls.handle_request(&key, &message, is_subscribed, flow, &mut desk) {
                    self.handle_notice(notice, now);
                }
            }
            Heard::Ack => self.calls.handle_ack(&message),
            Heard::Cancel { cancel, invite } => {
                let (calls, mut desk) = self.desk(now);
                calls.handle_cancel(&cancel, invite.is_some(), &message, &mut desk);
            }
            Heard::Absorbed | Heard::Stray | Heard::Full => {}
        }
    }

    fn handle_response(&mut self, key: &ClientKey, response: &Message, now: Instant) {
        match &self.work {
            Work::Trying(Trial { stage: Stage::Asking { flow, key: asked, exchange }, .. })
                if asked == key =>
            {
                let (flow, exchange) = (*flow, *exchange);
                self.judge_trial(flow, exchange, response, now);
            }
            Work::Registered(Link { pending: Some((asked, exchange)), .. }) if asked == key => {
                let exchange = *exchange;
                self.judge_refresh(exchange, response, now);
            }
            Work::Leaving { link: Link { pending: Some((asked, exchange)), .. }, .. } if asked == key => {
                let exchange = *exchange;
                self.judge_farewell(exchange, response, now);
            }
            _ => {
                let (calls, mut desk) = self.desk(now);
                calls.handle_response(key, response, &mut desk);
            }
        }
    }

    /// A byte on a flow: its other end lives.
    fn handle_byte(&mut self, flow: &Flow, now: Instant) {
        match &mut self.work {
            Work::Registered(link) if link.flow == *flow => link.keepalive.handle_byte(now),
            Work::Trying(Trial { stage: Stage::Asking { flow: asked, .. }, until, .. }) if asked == flow => {
                *until = now + self.config.timers.peer_dead_after;
            }
            _ => {}
        }
    }

    fn is_ours(&self, flow: &Flow) -> bool {
        match &self.work {
            Work::Registered(link) | Work::Leaving { link, .. } => link.flow == *flow,
            Work::Trying(Trial { stage: Stage::Asking { flow: asked, .. }, .. }) => asked == flow,
            Work::Idle | Work::Searching { .. } | Work::Trying(_) => false,
        }
    }

    fn handle_flow_lost(&mut self, flow: Flow, why: FlowLoss, now: Instant) {
        if !self.is_ours(&flow) {
            return;
        }
        self.forget(flow, now);
        match &self.work {
            Work::Trying(_) => self.unreached(why, now),
            Work::Registered(_) => self.lose(why, None, now),
            Work::Leaving { .. } => self.gone(false, now),
            Work::Idle | Work::Searching { .. } => {}
        }
    }

    /// The flow of the registration is gone, or as good as gone.
    fn lose(&mut self, why: FlowLoss, silent: Option<Duration>, now: Instant) {
        let Work::Registered(link) = std::mem::replace(&mut self.work, Work::Idle) else { return };
        if silent.is_some() {
            self.dead.insert(link.registrar.clone(), now);
        }
        self.say(Event::FlowLost { registrar: link.registrar.host, why, silent });
        self.homing.handle_flow_lost(now, &mut self.rng);
    }

    fn close(&mut self, flow: Flow, now: Instant) {
        self.flush();
        self.forget(flow, now);
        self.outputs.push_back(Output::Close { flow });
    }

    /// Ends whatever still waits for a flow that is no more.
    fn forget(&mut self, flow: Flow, now: Instant) {
        self.transactions.handle_flow_lost(flow, now);
        if flow.transport == Transport::Udp {
            // Datagrams are sent to nobody until Timer F unless somebody says that it is in vain.
            self.calls.abandon(&mut self.transactions);
            if let Some(key) = self.asking.take() {
                self.transactions.abandon(&key);
            }
        }
        self.hear_transactions(now);
    }

    /// Leaves whatever is being done. A flow that is open is closed.
    fn drop_work(&mut self, now: Instant) {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Registered(link) | Work::Leaving { link, .. } => self.close(link.flow, now),
            Work::Trying(Trial { stage: Stage::Asking { flow, .. }, .. }) => self.close(flow, now),
            Work::Idle | Work::Searching { .. } | Work::Trying(_) => {}
        }
    }

    //------------ Time --------------------------------------------------------

    fn handle_timeout(&mut self, now: Instant) {
        self.homing.handle_timeout(now);
        self.transactions.handle_timeout(now);
        self.hear_transactions(now);
        self.calls.handle_timeout(now);
        match &mut self.work {
            Work::Idle => {}
            Work::Searching { discovery, until } => {
                if *until <= now {
                    discovery.give_up_waiting();
                    self.search_on(now);
                }
            }
            Work::Trying(trial) => {
                if trial.until <= now {
                    self.lose_patience(now);
                }
            }
            Work::Registered(_) => self.watch(now),
            Work::Leaving { until, .. } => {
                if *until <= now {
                    self.gone(false, now);
                }
            }
        }
    }

    /// The registrar being tried has had its time.
    fn lose_patience(&mut self, now: Instant) {
        let Work::Trying(trial) = &mut self.work else { return };
        match trial.stage {
            Stage::Locating => {
                // The world never answered the question: it has answered now, and this registrar is over.
                let question = Query::Address(trial.registrar.host.clone());
                self.say(Event::Discovered { question, found: Found::Failed(DnsFailure::TimedOut) });
                self.work = Work::Idle;
                self.homing.handle_refused(Refusal::Unreachable, now, &mut self.rng);
            }
            Stage::Opening { .. } => self.unreached(FlowLoss::TimedOut, now),
            Stage::Asking { .. } => self.unanswering(self.config.timers.peer_dead_after, now),
        }
    }

    /// The registrar being tried has taken the connection and not answered REGISTER by it.
    fn unanswering(&mut self, waited: Duration, now: Instant) {
        let Work::Trying(trial) = &mut self.work else { return };
        match trial.stage {
            Stage::Locating | Stage::Opening { .. } => {}
            Stage::Asking { flow, .. } => {
                trial.failure = Refusal::Silent;
                let registrar = trial.registrar.clone();
                trial.stage = Stage::Locating;
                self.dead.insert(registrar.clone(), now);
                self.close(flow, now);
                self.say(Event::Unanswering { registrar: registrar.host, waited });
                self.next_address(now);
            }
        }
    }

    /// Looks after a registration that stands.
    fn watch(&mut self, now: Instant) {
        let Work::Registered(link) = &mut self.work else { return };
        let flow = link.flow;
        match link.keepalive.handle_timeout(now) {
            Some(keepalive::Sign::Dead) => {
                let silent = link.keepalive.dead_after();
                self.close(flow, now);
                return self.lose(FlowLoss::Silent, Some(silent), now);
            }
            Some(keepalive::Sign::Ask) => self.outputs.push_back(Output::Ping { flow }),
            Some(keepalive::Sign::AskLoudly) => {
                let options = options(&self.config, &flow, &mut self.rng);
                self.outputs.push_back(Output::Ping { flow });
                self.outputs.push_back(Output::Transmit { flow, bytes: options });
            }
            None => {}
        }
        let Work::Registered(link) = &self.work else { return };
        if link.refresh <= now && link.pending.is_none() {
            self.refresh(Exchange::default(), now);
        }
    }

    /// Hears which transactions have ended without an answer.
    fn hear_transactions(&mut self, now: Instant) {
        while let Some(event) = self.transactions.poll_event() {
            let (TransactionEvent::TimedOut(key) | TransactionEvent::FlowFailed(key)) = &event else {
                continue;
            };
            let timed_out = matches!(event, TransactionEvent::TimedOut(_));
            let waited = sip::transaction::Timers::default().patience(); // Timer F
            match &mut self.work {
                // It chats and does not answer.
                Work::Trying(Trial { stage: Stage::Asking { key: asked, .. }, .. })
                    if asked == key && timed_out =>
                {
                    self.unanswering(waited, now);
                }
                Work::Registered(link) if link.pending.as_ref().is_some_and(|(asked, _)| asked == key) => {
                    link.pending = None;
                    if timed_out {
                        // It answers pings and swallows REGISTER: no registrar of ours any more.
                        let (registrar, flow) = (link.registrar.clone(), link.flow);
                        self.work = Work::Idle;
                        self.outputs.push_back(Output::Close { flow });
                        self.say(Event::Unanswering { registrar: registrar.host, waited });
                        self.homing.handle_refused(Refusal::Silent, now, &mut self.rng);
                    }
                }
                _ => self.calls.handle_failure(key, timed_out),
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let work = match &self.work {
            Work::Idle => None,
            Work::Searching { until, .. } | Work::Leaving { until, .. } => Some(*until),
            Work::Trying(trial) => Some(trial.until),
            Work::Registered(link) => Some(match link.pending {
                Some(_) => link.keepalive.poll_timeout(),
                None => link.keepalive.poll_timeout().min(link.refresh),
            }),
        };
        [work, self.homing.poll_timeout(), self.transactions.poll_timeout(), self.calls.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn say(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

impl Link {
    /// A flow that has just come up; when to register again is said by whoever grants it.
    fn new(registrar: Registrar, flow: Flow, timers: &Timers, now: Instant) -> Link {
        Link { registrar, flow, keepalive: Keepalive::new(timers, now), refresh: now, pending: None }
    }
}

impl Trial {
    fn is_opening(&self, number: u64) -> bool {
        matches!(self.stage, Stage::Opening { ticket, .. } if ticket == number)
    }
}

/// When to register again: after half the time (RFC 3261 §10.2.4 leaves the moment to us).
fn refresh_after(granted: &Granted) -> Duration {
    (granted.expires_in / 2).max(BRIEFEST_REFRESH)
}

fn accepted(registrar: &Registrar, granted: &Granted) -> Accepted {
    Accepted {
        registrar: registrar.host.clone(),
        expires_in: granted.expires_in,
        primary: granted.primary,
        limited: granted.limited,
    }
}

/// A request that any SIP server answers with something, so that even one who does not know pings shows
/// that it lives. Sent outside the transactions: nobody waits for what it says.
fn options(config: &Config, flow: &Flow, rng: &mut ChaCha12Rng) -> Bytes {
    let uri = format!("sip:{}", config.aor.domain());
    Builder::request(&Method::Options, &uri)
        .header(HeaderName::Via, registration::via(flow, rng))
        .header(HeaderName::MaxForwards, 70)
        .header(HeaderName::From, format_args!("<{}>;tag={}", config.aor, registration::token(rng)))
        .header(HeaderName::To, format_args!("<{uri}>"))
        .header(HeaderName::CallId, registration::token(rng))
        .header(HeaderName::CSeq, "1 OPTIONS")
        .finish()
}

/// The host in a URI, for people; the whole text where there is none.
fn host_of(uri: &str) -> String {
    match sip::uri::Uri::parse(uri) {
        Ok(uri) if uri.is_sip() => crate::registrar::host_name(uri.host()),
        _ => uri.to_owned(),
    }
}

/// Homing's signs as a person would say them.
fn words(sign: homing::Sign) -> &'static str {
    match sign {
        homing::Sign::SignIn => "nothing remembered",
        homing::Sign::Remembered => "remembered",
        homing::Sign::AnsweredByPrimary => "answered",
        homing::Sign::AnsweredByBackup => "answered by the backup",
        homing::Sign::Redirected => "redirected",
        homing::Sign::Refused => "refused",
        homing::Sign::Rejected => "rejected",
        homing::Sign::FlowLost => "flow lost",
        homing::Sign::Exhausted => "all tried",
        homing::Sign::PrimaryHeard => "primary heard",
        homing::Sign::SentHome => "sent home",
        homing::Sign::SignOut => "signed out",
    }
}
