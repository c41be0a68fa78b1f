//! What happens without a request: expiry, heartbeats, users going home, the operator's commands, restarts.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use resilience::partner::{Partner, Refused, State};
use resilience::topology::{PoolName, Topology};
use sip::transport::Flow;
use sip::uri::AddressOfRecord;

use crate::answer::{self, Notice};
use crate::desk::Own;
use crate::director::{self, Homed, Place};
use crate::directory::Directory;
use crate::event::{Event, Means, OrderTrouble};
use crate::input::{Command, Outlook};
use crate::location::Binding;
use crate::output::{BindingRecord, Change, DeRegister, Output};

use super::Server;

/// Users are sent home in portions of this length, each as large as the pace allows.
const PORTION: Duration = Duration::from_millis(100);

/// How often the counts of outlived nonces are dropped; it walks the whole table, so not with every message.
const FORGET: Duration = Duration::from_secs(60);

impl Server {
    /// Takes back what was kept, before the first input. What has expired meanwhile, or makes no sense, is left out;
    /// what users had who are no longer known or enabled is ended.
    pub fn restore(&mut self, kept: impl IntoIterator<Item = Change>, now: Instant) {
        let mut records: BTreeMap<(AddressOfRecord, String), BindingRecord> = BTreeMap::new();
        for change in kept {
            match change {
                Change::Binding(record) => {
                    records.insert((record.aor.clone(), record.key.clone()), record);
                }
                Change::Unbound { aor, key } => {
                    records.remove(&(aor, key));
                }
                Change::Record(_) => {}
            }
        }
        let remember = now + self.known.config.settings.nonce_lifetime;
        let mut bindings = 0;
        for ((aor, _), record) in records {
            let Some(binding) = Binding::restored(&record, now).filter(|binding| binding.expires_at > now)
            else {
                continue;
            };
            let key = binding.key.clone();
            self.known.location.put(&aor, binding, remember);
            if self.known.config.directory.user(&aor).is_some_and(|user| user.enabled) {
                bindings += 1;
            } else {
                self.end(&aor, &key, DeRegister::AttributesChanged, None, now);
            }
        }
        if bindings > 0 {
            self.desk.event(Event::Restored { bindings });
            // Users of a partner whose failback we slept through are still here.
            let timers = &self.known.config.topology.timers;
            self.recheck_at = Some(now + timers.failure_detection_interval + timers.failback_interval);
        }
    }

    /// After every input: whatever is due, and whatever the rooms want said.
    pub(super) fn tend(&mut self, now: Instant) {
        while let Some((aor, key)) = self.known.location.ended(now) {
            self.end(&aor, &key, DeRegister::Expired, None, now);
        }
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.is_due(now)) {
            watch.handle_timeout(&mut self.desk, now);
            let outlook = watch.outlook(now);
            if outlook != *self.known.outlook {
                let outlook = Arc::new(outlook);
                self.desk.say(Output::Outlook(Arc::clone(&outlook)));
                self.adopt_outlook(outlook, now);
            }
        }
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = None;
            let outlook = Arc::clone(&self.known.outlook);
            for (pool, _) in outlook.pools.iter().filter(|(_, seen)| seen.state == State::Up) {
                self.call_home(pool, now);
            }
        }
        if self.homeward_at.is_some_and(|at| at <= now) {
            self.send_portion(now);
        }
        self.with_proxy(now, |proxy, context, desk| {
            proxy.handle_timeout(context, desk);
            proxy.settle(context, desk);
        });
        if self.forget_at <= now {
            self.forget_at = now + FORGET;
            self.guard.forget(self.known.unix(now));
        }
    }

    /// When something is due next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [
            self.known.location.next_end(),
            self.watch.as_ref().and_then(|watch| watch.poll_timeout()),
            self.proxy.poll_timeout(),
            self.homeward_at,
            self.recheck_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    //------------ Sending home ------------------------------------------------

    /// Takes the beliefs of shard 0; a pool that is up again calls its users.
    pub(super) fn adopt_outlook(&mut self, outlook: Arc<Outlook>, now: Instant) {
        let before = std::mem::replace(&mut self.known.outlook, outlook);
        let back: Vec<PoolName> = before
            .pools
            .iter()
            .filter(|(pool, seen)| {
                seen.state.speaks_for_users() && self.known.outlook.state(pool) == State::Up
            })
            .map(|(pool, _)| pool.clone())
            .collect();
        let lost = |pool: &PoolName| self.known.outlook.state(pool).speaks_for_users();
        let directory = &self.known.config.directory;
        // Whoever has not left yet stays if their pool is lost again.
        self.homeward.retain(|aor| directory.user(aor).is_some_and(|user| !lost(&user.home)));
        for pool in back {
            self.call_home(&pool, now);
        }
    }

    /// Puts the users of a pool on the list of those who go home, idle ones first.
    fn call_home(&mut self, pool: &PoolName, now: Instant) {
        let directory = Arc::clone(&self.known.config.directory);
        let mut theirs = self.known.location.users();
        theirs.retain(|aor| directory.user(aor).is_some_and(|user| user.home == *pool));
        let in_calls = self.proxy.busy(now);
        let (busy, idle): (Vec<_>, Vec<_>) = theirs.into_iter().partition(|aor| in_calls.contains(aor));
        self.add_homeward(idle.into_iter().chain(busy));
        if !self.homeward.is_empty() && self.homeward_at.is_none() {
            self.homeward_at = Some(now);
            self.send_portion(now);
        }
    }

    /// Puts users at the end of the list, but for those who are on it.
    fn add_homeward(&mut self, users: impl Iterator<Item = AddressOfRecord>) {
        let known: HashSet<AddressOfRecord> = self.homeward.iter().cloned().collect();
        self.homeward.extend(users.filter(|aor| !known.contains(aor)));
    }

    /// Sends the next users home, as many as the pace allows.
    fn send_portion(&mut self, now: Instant) {
        let shards = u32::try_from(self.known.config.shard.of.max(1)).unwrap_or(1);
        let pace = self.known.config.topology.timers.failback_pace;
        let mut left = pace.map_or(usize::MAX, |pace| {
            let portions = shards * u32::try_from(1000 / PORTION.as_millis()).unwrap_or(10);
            usize::try_from(pace.div_ceil(portions).max(1)).unwrap_or(usize::MAX)
        });
        while left > 0
            && let Some(aor) = self.homeward.pop_front()
        {
            self.send_home(&aor, now);
            left -= 1;
        }
        self.homeward_at = (!self.homeward.is_empty()).then(|| now + PORTION);
    }

    /// Tells one user to go home, by what each device understands.
    fn send_home(&mut self, aor: &AddressOfRecord, now: Instant) {
        let standing = self.known.standing(now);
        let Some(user) = self.known.config.directory.user(aor) else { return };
        let homed = director::locate(&user.home, aor.hash64(), &standing);
        let Homed::There { first, .. } = homed else { return };
        let pool = user.home.clone();
        for binding in self.known.location.bindings(aor).to_vec() {
            let is_stream = binding.flow.transport.is_reliable();
            let by = match (is_stream, binding.alive) {
                (true, true) if binding.dialect.can_be_told_home() => Means::Notify,
                (true, true) => Means::Close,
                // Nobody is there to be told; they will ask when they are back.
                (true, false) | (false, _) => Means::NextRefresh,
            };
            match by {
                Means::Notify => {
                    let uri = notice_uri(&first, binding.flow);
                    self.notify(aor, &binding, &Notice::PreferredRegistrar(uri), now);
                }
                Means::Close => self.hang_up(aor, binding.flow),
                Means::NextRefresh => {}
            }
            if by != Means::NextRefresh || is_stream {
                self.end(aor, &binding.key, DeRegister::PreferredRegistrarChanged, None, now);
            }
            self.note(Event::SentHome { aor: aor.clone(), pool: pool.clone(), by }, now);
        }
    }

    /// Closes a user's connection. One that is shared by several users is kept: the others need not go.
    fn hang_up(&mut self, aor: &AddressOfRecord, flow: Flow) {
        if !self.known.location.on_flow(&flow).iter().any(|other| other != aor) {
            self.desk.say(Output::Close { flow });
        }
    }

    fn notify(&mut self, aor: &AddressOfRecord, binding: &Binding, notice: &Notice, now: Instant) {
        // A device that came back after our restart has told us nothing to address a notice with.
        if binding.notify_to.is_empty() {
            return;
        }
        self.notices = self.notices.wrapping_add(1) & 0x7fff_ffff;
        let (cseq, branch) = (self.notices, self.desk.branch());
        let bytes = answer::notify(binding, aor.as_str(), notice, &self.known.own, now, cseq, branch);
        self.proxy.send(bytes, binding.flow, now);
    }

    //------------ The operator ------------------------------------------------

    pub(super) fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Drain => self.drain(true),
            Command::Undrain => self.drain(false),
            Command::FailBack(pool) => self.on_partner(pool, |partner| partner.fail_back(now)),
            Command::FailOver(pool) => self.on_partner(pool, |partner| {
                partner.fail_over(now);
                Ok(())
            }),
            Command::PauseFailback(pool) => self.on_partner(pool, |partner| {
                partner.pause_failback(true);
                Ok(())
            }),
            Command::ResumeFailback(pool) => self.on_partner(pool, |partner| {
                partner.pause_failback(false);
                Ok(())
            }),
            Command::Reload { topology, directory } => self.reload(topology, directory, now),
            Command::StopUserServices => self.stop_user_services(now),
            Command::StartUserServices => {
                if !std::mem::replace(&mut self.known.user_services, true) {
                    self.desk.event(Event::UserServices { available: true });
                }
            }
        }
    }

    fn drain(&mut self, draining: bool) {
        if std::mem::replace(&mut self.known.draining, draining) != draining {
            self.tell_once(Event::Draining(draining));
        }
    }

    /// Every shard is told what concerns the whole server; one says it.
    fn tell_once(&mut self, event: Event) {
        if self.known.config.shard.index == 0 {
            self.desk.event(event);
        }
    }

    /// Tells the machine of a pool; what it refuses, the operator hears.
    fn on_partner(&mut self, pool: PoolName, act: impl FnOnce(&mut Partner) -> Result<(), Refused>) {
        // Every shard is told; one keeps the watch.
        let Some(watch) = &mut self.watch else { return };
        let trouble = match watch.partner_mut(&pool) {
            Some(partner) => act(partner).err().map(OrderTrouble::Refused),
            None => Some(OrderTrouble::NotWatched),
        };
        if let Some(why) = trouble {
            self.desk.event(Event::OrderRefused { pool, why });
        }
    }

    /// Takes a new publication; never an older one, and none that forgets this server.
    fn reload(&mut self, topology: Arc<Topology>, directory: Arc<Directory>, now: Instant) {
        let current = &self.known.config;
        let older =
            [(topology.version, current.topology.version), (directory.version, current.directory.version)]
                .into_iter()
                .find(|(offered, current)| offered < current);
        if let Some((offered, current)) = older {
            return self.tell_once(Event::ReloadRefused { offered, current });
        }
        let Some((pool, entry)) = topology.server(&self.known.own.server) else {
            let (offered, current) = (topology.version, current.topology.version);
            return self.tell_once(Event::ReloadRefused { offered, current });
        };
        let server = self.known.own.server.clone();
        self.known.own = Own { server, pool: pool.name.to_string(), entry: entry.clone() };
        let versions = (topology.version, directory.version);
        if let Some(watch) = &mut self.watch {
            watch.adopt(&topology, &mut self.desk, now);
        }
        self.known.config.topology = topology;
        self.known.config.directory = directory;
        self.tell_once(Event::Reloaded { topology: versions.0, directory: versions.1 });
        self.dismiss(now);
    }

    /// Ends the bindings of users who are no longer known or enabled, and sends home those who moved.
    fn dismiss(&mut self, now: Instant) {
        let directory = Arc::clone(&self.known.config.directory);
        let mut moved = Vec::new();
        for aor in self.known.location.users() {
            match directory.user(&aor).filter(|user| user.enabled) {
                None => {
                    for binding in self.known.location.bindings(&aor).to_vec() {
                        if binding.dialect.can_be_told_home() && binding.alive {
                            self.notify(&aor, &binding, &Notice::Rejected, now);
                        } else if binding.flow.transport.is_reliable() && binding.alive {
                            self.hang_up(&aor, binding.flow);
                        }
                        self.end(&aor, &binding.key, DeRegister::AttributesChanged, None, now);
                    }
                }
                Some(user) => {
                    let homed = director::locate(&user.home, aor.hash64(), &self.known.standing(now));
                    if matches!(&homed, Homed::There { .. }) {
                        moved.push(aor);
                    }
                }
            }
        }
        self.add_homeward(moved.into_iter());
        if !self.homeward.is_empty() && self.homeward_at.is_none() {
            self.homeward_at = Some(now);
        }
    }

    /// Presence is out of order: clients that can live without it are told, the others are let go.
    fn stop_user_services(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.known.user_services, false) {
            return;
        }
        self.desk.event(Event::UserServices { available: false });
        for aor in self.known.location.users() {
            for binding in self.known.location.bindings(&aor).to_vec() {
                let can_hear = binding.alive && binding.dialect.wants_presence_state();
                let copes = binding.dialect.lives_without_user_services();
                if can_hear {
                    let notice = if copes { Notice::ServicesGone } else { Notice::ServicesNeeded };
                    self.notify(&aor, &binding, &notice, now);
                }
                if !copes {
                    self.end(&aor, &binding.key, DeRegister::LegacyClientInSurvivalMode, None, now);
                }
            }
        }
    }
}

/// The address-spec in a `P-Preferred-Registrar`: the model writes the transport in lower case there.
fn notice_uri(place: &Place, flow: Flow) -> String {
    let uri = place.uri(flow.transport);
    match uri.rsplit_once("transport=") {
        Some((head, transport)) => format!("{head}transport={}", transport.to_ascii_lowercase()),
        None => uri,
    }
}
