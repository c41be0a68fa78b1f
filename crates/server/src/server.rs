//! The brain itself: takes inputs, decides, says outputs.
//!
//! [`Server::handle_input`] is the front door, `Server::apply` the only place where a decision about a request
//! changes anything. What happens without a request (expiry, lost flows, users going home, the operator's
//! commands) is in `upkeep`; what can be asked is in `inquiry`.
//!
//! REGISTER and OPTIONS to ourselves have no stored transaction: a retransmission is answered by the same
//! computation again. Everything else goes through the transactions of [`crate::proxy`].

mod inquiry;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use resilience::partner::State;
use resilience::topology::{Pool, PoolName, ServerName};
use sip::message::Message;
use sip::method::Method;
use sip::transaction::{Heard, ServerKey};
use sip::transport::{Flow, FlowLoss, answer_flow, stamp};
use sip::uri::{AddressOfRecord, Uri};

use crate::answer::{self, Granted};
use crate::authenticate::Guard;
use crate::config::Config;
use crate::decision::{Decision, Why};
use crate::desk::{Desk, Own};
use crate::dialect::Dialect;
use crate::director::{Homed, Place, Standing};
use crate::event::Event;
use crate::input::{Input, Outlook};
use crate::location::{Key, Location};
use crate::output::{Change, DeRegister, Output, RegistrationRecord};
use crate::proxy::{self, Context, Errand, Proxy};
use crate::registrar::{self, Limits};
use crate::route::{self, Sight, route};
use crate::watch::{Condition, Watch};

/// How many moves of a user are remembered.
const MOVES_MAX: usize = 20;

/// One shard of one server.
#[derive(Debug)]
pub struct Server {
    /// What decisions look at.
    known: Known,
    /// Outputs, dice, tickets.
    desk: Desk,
    /// Checks credentials.
    guard: Guard,
    /// Requests on their way.
    proxy: Proxy,
    /// The heartbeats; only shard 0 has it.
    watch: Option<Watch>,
    /// Users to be sent home, the next first.
    homeward: VecDeque<AddressOfRecord>,
    /// When the next of them go.
    homeward_at: Option<Instant>,
    /// When bindings found at start are held against the state of their users' pools.
    recheck_at: Option<Instant>,
    /// The last moves of each user we know.
    moves: HashMap<AddressOfRecord, VecDeque<(Instant, String)>>,
    /// Numbers our notices.
    notices: u32,
    /// When outlived nonces are next dropped; no deadline, any input after it will do.
    forget_at: Instant,
}

impl Server {
    /// A server that knows nobody yet.
    ///
    /// # Panics
    ///
    /// If the topology does not name this server: then nobody knows what it is to do.
    pub fn new(config: Config, rng: ChaCha12Rng, now: Instant) -> Server {
        let named = config.topology.server(&config.server);
        let Some((pool, entry)) = named else {
            panic!("the topology must name the server that is started: {}", config.server);
        };
        let own = Own { server: config.server.clone(), pool: pool.name.to_string(), entry: entry.clone() };
        let mut desk = Desk::new(rng, config.shard.index);
        let salt = desk.random();
        let watch =
            (config.shard.index == 0).then(|| Watch::new(&config.topology, &config.server, &mut desk, now));
        let guard =
            Guard::new(config.nonce_key.clone(), &config.realm, &config.settings, config.unix_at_birth);
        let outlook = Arc::new(watch.as_ref().map_or_else(Outlook::default, |watch| watch.outlook(now)));
        if watch.is_some() {
            desk.say(Output::Outlook(Arc::clone(&outlook)));
        }
        Server {
            known: Known {
                config,
                own,
                born: now,
                location: Location::default(),
                outlook,
                peers: HashMap::new(),
                store_lost: None,
                draining: false,
                user_services: true,
                salt,
            },
            desk,
            guard,
            proxy: Proxy::new(),
            watch,
            homeward: VecDeque::new(),
            homeward_at: None,
            recheck_at: None,
            moves: HashMap::new(),
            notices: 0,
            forget_at: now,
        }
    }

    /// Something happened. Take outputs afterwards, until `Output::Timeout`.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        if let Some(watch) = &mut self.watch {
            watch.excuse_absence(now);
        }
        match input {
            Input::Received { flow, bytes } => self.receive(flow, bytes, false, now),
            Input::HandedOver { flow, bytes } => self.receive(flow, bytes, true, now),
            Input::Ping { flow } => self.pong(flow),
            Input::FlowOpened { flow, peer } => {
                let named = peer.names.iter().find_map(|name| self.known.config.topology.server(name));
                if let Some((_, entry)) = named {
                    self.known.peers.insert(flow, entry.name.clone());
                }
            }
            Input::Opened { ticket, flow } => self.opened(ticket, flow, now),
            Input::OpenFailed { ticket, why } => self.open_failed(ticket, &why, now),
            Input::FlowLost { flow, why } => self.flow_lost(flow, &why, now),
            // Nothing here asks DNS yet: servers and gateways are known by address.
            Input::Resolved { .. } => {}
            Input::StoreFailed { why } => {
                if self.known.store_lost.is_none() {
                    self.desk.event(Event::StoreLost { why: why.clone() });
                }
                self.known.store_lost = Some(why);
            }
            Input::StoreRecovered => {
                if self.known.store_lost.take().is_some() {
                    self.desk.event(Event::StoreBack);
                }
            }
            Input::Outlook(outlook) => self.adopt_outlook(outlook, now),
            Input::Told(command) => self.obey(command, now),
            Input::Timeout => {}
        }
        self.tend(now);
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Output {
        self.desk.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.next_timeout()))
    }

    //------------ Messages ----------------------------------------------------

    fn receive(&mut self, flow: Flow, bytes: Bytes, is_handed_over: bool, now: Instant) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => {
                return self.desk.event(Event::Discarded { why: Why::Malformed { status: 400, error } });
            }
        };
        let verdict = message.validate();
        if !message.is_request() {
            match verdict {
                Ok(()) => self.receive_response(&message, flow, now),
                // RFC 3261 §8.1.3: a broken response is dropped without a word.
                Err(invalid) => {
                    let why = Why::Malformed { status: invalid.status, error: invalid.why };
                    self.desk.event(Event::Discarded { why });
                }
            }
            return;
        }
        let request = stamp(&message, flow.remote);
        if let Err(invalid) = verdict {
            let why = Why::Malformed { status: invalid.status, error: invalid.why };
            if request.method() != Method::Ack {
                self.refuse(Answering::Stateless, &request, flow, why, now);
            }
            return;
        }
        let is_stateless = request.method() == Method::Register || self.known.is_own_options(&request);
        if is_stateless {
            return self.decide(Answering::Stateless, &request, flow, now);
        }
        if let Some(shard) = self.known.other_shard(&request).filter(|_| !is_handed_over) {
            return self.desk.say(Output::Handover { shard, flow, bytes: message.bytes().clone() });
        }
        match self.proxy.hear(&request, flow, now) {
            Heard::Request(key) => self.decide(Answering::Transaction(key), &request, flow, now),
            Heard::Cancel { cancel, invite } => {
                let status = if invite.is_some() { 200 } else { 481 };
                let tag = answer::tag(&request, self.known.salt);
                self.proxy.respond(cancel, answer::plain(&request, status, &tag), now);
                if let Some(invite) = invite {
                    self.with_proxy(now, |proxy, context, desk| proxy.cancel(invite, context, desk));
                }
            }
            Heard::Ack => {
                self.with_proxy(now, |proxy, context, desk| proxy.acknowledge(&request, flow, context, desk));
            }
            Heard::Full => self.refuse(Answering::Stateless, &request, flow, Why::Overloaded, now),
            Heard::Absorbed | Heard::Stray | Heard::Response(_) => {}
        }
    }

    fn receive_response(&mut self, response: &Message, flow: Flow, now: Instant) {
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.owns(flow)) {
            return watch.handle_answer(flow, response, &mut self.desk, now);
        }
        if let Heard::Response(client) = self.proxy.hear(response, flow, now) {
            self.with_proxy(now, |proxy, context, desk| {
                proxy.handle_response(client, response, context, desk)
            });
        }
    }

    fn decide(&mut self, answering: Answering, request: &Message, flow: Flow, now: Instant) {
        let decision = route(request, flow, &self.known.sight(Some(flow), now), &mut self.guard);
        self.apply(decision, answering, request, flow, now);
    }

    /// Carries out a decision: the only function that changes anything because of a request.
    fn apply(
        &mut self,
        decision: Decision,
        answering: Answering,
        request: &Message,
        flow: Flow,
        now: Instant,
    ) {
        let tag = answer::tag(request, self.known.salt);
        match decision {
            Decision::Refuse(why) => self.refuse(answering, request, flow, why, now),
            Decision::Challenge { claimed, proxy, stale } => {
                let unix_now = self.known.unix(now);
                let challenges =
                    self.guard.challenges(Dialect::of(request), stale, unix_now, &mut self.desk.rng);
                let response = answer::challenge(request, proxy, &challenges, &tag);
                let status = if proxy { 407 } else { 401 };
                self.desk.event(Event::Challenged { method: request.method(), aor: claimed, status, stale });
                self.reply(answering, request, flow, response, now);
            }
            Decision::Capabilities => {
                let response = answer::capabilities(request, &self.known.config.settings, &tag);
                self.reply(answering, request, flow, response, now);
            }
            Decision::Heartbeat => {
                let response = answer::heartbeat(request, &self.known.condition(), &tag);
                self.reply(answering, request, flow, response, now);
            }
            Decision::Register { aor, homed } => self.register(answering, request, flow, aor, &homed, now),
            Decision::Redirect { aor, homed } => self.redirect(answering, request, flow, aor, &homed, now),
            Decision::Forward { callee, sender } => {
                let Answering::Transaction(key) = answering else { return };
                let stages = proxy::stages(&callee, &sender, &self.known.sight(Some(flow), now));
                self.with_proxy(now, |proxy, context, desk| {
                    let callee = Some(callee);
                    proxy.forward(key, Errand { request, source: flow, callee, stages }, context, desk);
                });
            }
            Decision::Dial { number, sender: _ } => {
                let Answering::Transaction(key) = answering else { return };
                let stages = proxy::trunk_stages(&number, &self.known.sight(Some(flow), now));
                self.with_proxy(now, |proxy, context, desk| {
                    let callee = None;
                    proxy.forward(key, Errand { request, source: flow, callee, stages }, context, desk);
                });
            }
            Decision::Follow { sender: _ } => {
                let Answering::Transaction(key) = answering else { return };
                match proxy::follow(request, &self.known.sight(Some(flow), now)) {
                    Ok(stage) => self.with_proxy(now, |proxy, context, desk| {
                        let (callee, stages) = (None, vec![stage]);
                        proxy.forward(key, Errand { request, source: flow, callee, stages }, context, desk);
                    }),
                    Err(why) => self.refuse(answering, request, flow, why, now),
                }
            }
        }
    }

    /// RFC 3261 §10.3, from step 6 on.
    fn register(
        &mut self,
        answering: Answering,
        request: &Message,
        flow: Flow,
        aor: AddressOfRecord,
        homed: &Homed,
        now: Instant,
    ) {
        let tag = answer::tag(request, self.known.salt);
        let asked = match registrar::Request::read(request, flow, &tag) {
            Ok(asked) => asked,
            Err(error) => {
                let why = Why::Malformed { status: 400, error };
                return self.refuse(answering, request, flow, why, now);
            }
        };
        let limits = Limits {
            expiry: self.known.config.topology.timers.registration_expiry,
            raise_brief: self.known.config.topology.profile == resilience::profile::Profile::Lync2010,
            max_contacts: self.known.config.settings.max_contacts,
        };
        let set = self.known.location.set(&aor).cloned().unwrap_or_default();
        let plan = match registrar::register(&asked, &set, &limits, now) {
            Ok(plan) => plan,
            Err(why) => return self.refuse(answering, request, flow, why, now),
        };
        // A repetition changes nothing, but what it repeats may not be on the disk.
        if self.known.store_lost.is_some() && asked.wish != registrar::Wish::Nothing {
            return self.refuse(answering, request, flow, Why::StoreLost, now);
        }
        let on_backup = matches!(homed, Homed::Here { on_backup: true });
        let user_services = self.known.user_services && !on_backup;
        let remember = now + self.known.config.settings.nonce_lifetime;
        let by = Some((&*asked.call_id, asked.cseq));
        for key in &plan.removals {
            self.end(&aor, key, DeRegister::ClientInitiated, by, now);
        }
        for key in plan.removed_again {
            self.known.location.depart(&aor, key, &asked.call_id, asked.cseq, remember);
        }
        for key in &plan.evictions {
            self.end(&aor, key, DeRegister::ClientCrashed, None, now);
        }
        for binding in plan.puts {
            let (refreshed, expires) = (plan.refreshed, binding.granted);
            self.desk.say(Output::Persist(Change::Binding(binding.record(&aor, now))));
            self.known.location.put(&aor, binding, remember);
            let limited = !user_services;
            self.note(Event::Registered { aor: aor.clone(), expires, refreshed, on_backup, limited }, now);
        }
        let registrars = self.known.registrars(&aor);
        let granted = Granted {
            bindings: self.known.location.bindings(&aor),
            refreshed: plan.refreshed,
            on_backup,
            user_services,
            registrars: &registrars,
            dialect: asked.dialect,
            profile: self.known.config.topology.profile,
        };
        let response = answer::granted(request, flow, &granted, &self.known.config.settings, &tag, now);
        self.reply(answering, request, flow, response, now);
    }

    /// 301. What the device had here is no longer true: it is on its way elsewhere.
    fn redirect(
        &mut self,
        answering: Answering,
        request: &Message,
        flow: Flow,
        aor: AddressOfRecord,
        homed: &Homed,
        now: Instant,
    ) {
        let tag = answer::tag(request, self.known.salt);
        if let Ok(asked) = registrar::Request::read(request, flow, &tag)
            && let registrar::Wish::Contacts(contacts) = &asked.wish
        {
            let keys: Vec<Key> = contacts.iter().map(|contact| asked.key(contact)).collect();
            let gone: Vec<Key> = self
                .known
                .location
                .bindings(&aor)
                .iter()
                .filter(|binding| keys.iter().any(|key| binding.key.matches(key)))
                .map(|binding| binding.key.clone())
                .collect();
            for key in gone {
                self.end(&aor, &key, DeRegister::PreferredRegistrarChanged, None, now);
            }
        }
        let to =
            answer::redirect_targets(homed).into_iter().map(|(place, q)| (place.name.clone(), q)).collect();
        let why = match homed {
            Homed::There { why, .. } => why.clone(),
            Homed::Here { .. } | Homed::Waiting { .. } | Homed::Nowhere(_) => Why::HomedElsewhere,
        };
        self.note(Event::Redirected { aor: aor.clone(), to, why }, now);
        let (registrars, profile) = (self.known.registrars(&aor), self.known.config.topology.profile);
        let response = answer::redirect(request, flow, homed, &registrars, profile, &tag);
        self.reply(answering, request, flow, response, now);
    }

    fn refuse(&mut self, answering: Answering, request: &Message, flow: Flow, why: Why, now: Instant) {
        let aor = addressee(request);
        if why == Why::LegacyClientInSurvivalMode
            && let Some(aor) = &aor
        {
            self.record_legacy(aor, request, flow, now);
        }
        let response = answer::refuse(request, &why, &self.known.own, &answer::tag(request, self.known.salt));
        let is_move = request.method() == Method::Register && why.needs_proof();
        let event = Event::Refused { method: request.method(), aor, why };
        // Strangers write nothing into a user's history.
        if is_move {
            self.note(event, now)
        } else {
            self.desk.event(event)
        }
        self.reply(answering, request, flow, response, now);
    }

    fn reply(&mut self, answering: Answering, request: &Message, flow: Flow, response: Bytes, now: Instant) {
        match answering {
            Answering::Transaction(key) => self.proxy.respond(key, response, now),
            Answering::Stateless => {
                let back = request.via().ok().map(|via| answer_flow(&via, flow));
                if let Some(back) = back {
                    self.desk.transmit(back, response);
                }
            }
        }
    }

    //------------ Small things ------------------------------------------------

    /// CRLF for CRLF CRLF (RFC 5626 §4.4.1). Over UDP only to those we know: nobody else shall use us as a mirror.
    fn pong(&mut self, flow: Flow) {
        if flow.transport.is_reliable() || !self.known.location.on_flow(&flow).is_empty() {
            self.desk.transmit(flow, Bytes::from_static(b"\r\n"));
        }
    }

    fn opened(&mut self, ticket: u64, flow: Flow, now: Instant) {
        let proven: Vec<String> =
            self.known.peers.get(&flow).map(ServerName::to_string).into_iter().collect();
        if let Some(watch) = &mut self.watch
            && watch.handle_opened(ticket, flow, &proven, &mut self.desk, now)
        {
            return;
        }
        let is_ours =
            self.with_proxy(now, |proxy, context, desk| proxy.handle_opened(ticket, flow, context, desk));
        if !is_ours {
            // Asked for once, given up since.
            self.desk.say(Output::Close { flow });
        }
    }

    fn open_failed(&mut self, ticket: u64, why: &FlowLoss, now: Instant) {
        if let Some(watch) = &mut self.watch
            && watch.handle_open_failed(ticket, why, &mut self.desk, now)
        {
            return;
        }
        self.with_proxy(now, |proxy, context, desk| proxy.handle_open_failed(ticket, context, desk));
    }

    fn flow_lost(&mut self, flow: Flow, why: &FlowLoss, now: Instant) {
        self.known.peers.remove(&flow);
        if let Some(watch) = &mut self.watch {
            watch.handle_flow_lost(flow, why, &mut self.desk, now);
        }
        self.proxy.handle_flow_lost(flow, why, now);
        // UDP has no connections to lose; a socket error there says nothing about a device.
        if !flow.transport.is_reliable() {
            return;
        }
        for (aor, key) in self.known.location.lose_flow(&flow) {
            let watched = self
                .known
                .location
                .binding(&aor, &key)
                .is_some_and(|binding| binding.dialect.watches_its_flow());
            if watched {
                self.end(&aor, &key, DeRegister::ClientCrashed, None, now);
            }
        }
    }

    /// Lends the proxy what it needs beside itself.
    fn with_proxy<T>(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Proxy, &Context<'_>, &mut Desk) -> T,
    ) -> T {
        let sight = self.known.sight(None, now);
        act(&mut self.proxy, &Context { sight: &sight, now }, &mut self.desk)
    }

    /// Ends a binding: out of the table, off the disk, into the records.
    fn end(
        &mut self,
        aor: &AddressOfRecord,
        key: &Key,
        why: DeRegister,
        by: Option<(&str, u32)>,
        now: Instant,
    ) {
        let remember = now + self.known.config.settings.nonce_lifetime;
        let Some(binding) = self.known.location.remove(aor, key, by, remember) else { return };
        self.desk.say(Output::Persist(Change::Unbound { aor: aor.clone(), key: key.to_text() }));
        let is_primary = self.known.is_home(aor);
        self.desk.say(Output::Persist(Change::Record(RegistrationRecord {
            aor: aor.clone(),
            key: key.to_text(),
            server: self.known.own.server.clone(),
            pool: PoolName::new(&self.known.own.pool),
            is_primary,
            user_services: self.known.user_services && is_primary,
            registered_at: self.known.unix(binding.since),
            ended_at: self.known.unix(now),
            deregister: why,
            remote: Some(binding.flow.remote),
            status: 200,
            diagnostic: None,
        })));
        self.note(Event::Ended { aor: aor.clone(), why }, now);
    }

    /// The record of a client that could not be taken (`DeRegisterType` 6).
    fn record_legacy(&mut self, aor: &AddressOfRecord, request: &Message, flow: Flow, now: Instant) {
        let why = Why::LegacyClientInSurvivalMode;
        let tag = answer::tag(request, self.known.salt);
        let Ok(asked) = registrar::Request::read(request, flow, &tag) else { return };
        let registrar::Wish::Contacts(contacts) = &asked.wish else { return };
        for contact in contacts {
            let key = asked.key(contact);
            let deregister = DeRegister::LegacyClientInSurvivalMode;
            if self.known.location.binding(aor, &key).is_some() {
                self.end(aor, &key, deregister, None, now);
                continue;
            }
            let at = self.known.unix(now);
            self.desk.say(Output::Persist(Change::Record(RegistrationRecord {
                aor: aor.clone(),
                key: key.to_text(),
                server: self.known.own.server.clone(),
                pool: PoolName::new(&self.known.own.pool),
                is_primary: self.known.is_home(aor),
                user_services: false,
                registered_at: at,
                ended_at: at,
                deregister,
                remote: Some(flow.remote),
                status: why.status(),
                diagnostic: why.diagnostic(),
            })));
        }
    }

    /// An event about a user is also one of their moves, unless it is an everyday refresh.
    fn note(&mut self, event: Event, now: Instant) {
        let everyday = matches!(event, Event::Registered { refreshed: true, .. });
        if let Some(aor) =
            event.aor().filter(|aor| !everyday && self.known.config.directory.user(aor).is_some())
        {
            let moves = self.moves.entry(aor.clone()).or_default();
            if moves.len() >= MOVES_MAX {
                moves.pop_front();
            }
            moves.push_back((now, event.to_string()));
        }
        self.desk.event(event);
    }
}

/// What decisions look at.
#[derive(Debug)]
struct Known {
    /// As born, with what was reloaded since.
    config: Config,
    /// Ourselves, as others name us.
    own: Own,
    /// The moment of birth: wall time is counted from here.
    born: Instant,
    /// Who is where.
    location: Location,
    /// What we believe about the others.
    outlook: Arc<Outlook>,
    /// Connections whose other end proved to be a server of the topology.
    peers: HashMap<Flow, ServerName>,
    /// Why the store takes nothing, while it does not.
    store_lost: Option<String>,
    /// Newcomers are sent elsewhere.
    draining: bool,
    /// Presence and its like are in order.
    user_services: bool,
    /// Makes tags and loop marks of this server unlike those of others.
    salt: u64,
}

impl Known {
    /// All of it, for one request that came by `flow`.
    fn sight(&self, flow: Option<Flow>, now: Instant) -> Sight<'_> {
        let peer = flow.and_then(|flow| self.peers.get(&flow));
        let pool_of = |name: &ServerName| self.config.topology.server(name).map(|(pool, _)| pool);
        Sight {
            config: &self.config,
            own: &self.own,
            standing: self.standing(now),
            location: &self.location,
            peer: peer.and_then(pool_of).map(|pool| pool.name == *self.own.pool),
            user_services: self.user_services,
            salt: self.salt,
            unix_now: self.unix(now),
        }
    }

    fn standing(&self, now: Instant) -> Standing<'_> {
        Standing {
            topology: &self.config.topology,
            server: &self.own.server,
            pool: self.pool(),
            outlook: &self.outlook,
            draining: self.draining,
            now,
        }
    }

    /// Our pool. A topology that does not name this server is refused at birth and at reload.
    fn pool(&self) -> &Pool {
        let found = self.config.topology.server(&self.own.server);
        found.map(|(pool, _)| pool).expect("every topology in use names this server")
    }

    /// Primary, then backup.
    fn registrars(&self, aor: &AddressOfRecord) -> Vec<Place> {
        let Some(user) = self.config.directory.user(aor) else { return Vec::new() };
        self.config.topology.registrars(&user.home).map(Place::pool).collect()
    }

    fn is_home(&self, aor: &AddressOfRecord) -> bool {
        self.config.directory.user(aor).is_some_and(|user| user.home == *self.own.pool)
    }

    /// OPTIONS to ourselves: nobody behind us is asked.
    fn is_own_options(&self, request: &Message) -> bool {
        request.method() == Method::Options
            && request.uri().is_ok_and(|uri| {
                uri.is_sip()
                    && uri.user().is_none()
                    && (self.own.is_uri(&uri) || self.config.topology.serves(uri.host()))
            })
    }

    /// The shard a request belongs to, if it is not this one.
    ///
    /// The world goes by the Request-URI, as it is written. Who is called by number, by our address, or inside a dialog
    /// by a device's own Contact, only the directory and the To know.
    fn other_shard(&self, request: &Message) -> Option<usize> {
        let crate::config::Shard { index, of } = self.config.shard;
        if of <= 1 {
            return None;
        }
        let user_of = |uri: &Uri<'_>| route::user_of(uri, &self.config, &self.own);
        let called = request.uri().ok().and_then(|uri| user_of(&uri));
        let meant = called.or_else(|| {
            let to = request.to().ok().filter(|to| to.tag().is_some())?;
            user_of(&to.uri).or_else(|| AddressOfRecord::from_uri(&to.uri))
        })?;
        let shard = (meant.hash64() % of as u64) as usize;
        (shard != index).then_some(shard)
    }

    /// Wall time, counted from birth.
    fn unix(&self, at: Instant) -> u64 {
        self.config.unix_at_birth + at.saturating_duration_since(self.born).as_secs()
    }

    fn condition(&self) -> Condition {
        Condition {
            topology: self.config.topology.version,
            directory: self.config.directory.version,
            draining: self.draining,
            fit: self.store_lost.is_none(),
            up: {
                let pools = self.outlook.pools.iter();
                pools.filter(|(_, seen)| seen.state == State::Up).map(|(pool, _)| pool.clone()).collect()
            },
        }
    }
}

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
enum Answering {
    /// By the same computation each time.
    Stateless,
    /// Once; repetitions by the transaction.
    Transaction(ServerKey),
}

/// Whom a request is about: the To of a REGISTER, else the Request-URI.
fn addressee(request: &Message) -> Option<AddressOfRecord> {
    if request.method() == Method::Register {
        return AddressOfRecord::from_uri(&request.to().ok()?.uri);
    }
    AddressOfRecord::from_uri(&request.uri().ok()?)
}

#[cfg(test)]
mod tests;
