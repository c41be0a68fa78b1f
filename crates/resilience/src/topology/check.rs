//! What is wrong with a topology, where, and what to do about it.
//!
//! Every finding names its place as a path of keys (`pool[1].backup`), says what is wrong and how to cure it. An *error*
//! means that the topology cannot work as written; a *warning* that it works until the day it is needed. Findings come in the
//! order of the document, so the same document gives the same list.
//!
//! | part | rules |
//! | --- | --- |
//! | pools | names, one known site, servers with addresses and ports, a role that fits |
//! | backups | one or none; another registrar pool, in another site; capacities added up; TLS for heartbeats |
//! | SRV | a known target, in the domain, on its port; two priorities, two pools, two sites |
//! | intervals | each positive, and long enough for those it is made of |
//!
//! Not here: unknown keys, units and certificates, which only the reader of the file can judge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::name::{lies_in, same};
use super::{Pool, Role, ServerEntry, SrvRecord, Topology};
use crate::heartbeat::Patience;
use crate::profile::{Profile, Seconds};

/// Checks every rule. No error among the findings: the topology can be used.
pub fn check(topology: &Topology) -> Vec<Finding> {
    let mut checker = Checker { topology, findings: Vec::new() };
    checker.document();
    checker.timers();
    checker.sites();
    checker.pools();
    checker.srv();
    checker.trunks();
    checker.findings
}

//------------ Finding ---------------------------------------------------------------------------------------------

/// One thing that is wrong with a topology.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which rule found it; what code matches on.
    pub rule: Rule,
    /// Where it is.
    pub at: KeyPath,
    /// What is wrong, in a sentence for people.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

impl Finding {
    /// Whether the topology cannot be used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.severity, self.at, self.what, self.cure)
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Severity {
    /// It works until the day it is needed.
    Warning,
    /// It cannot work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// A place in the document: `pool[1].server[0].tls`. Tables are named in the singular and numbered from 0.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct KeyPath(String);

impl KeyPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for KeyPath {
    fn from(path: &str) -> KeyPath {
        KeyPath(path.to_owned())
    }
}

impl From<String> for KeyPath {
    fn from(path: String) -> KeyPath {
        KeyPath(path)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The rules, by what is wrong where they are broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Rule {
    /// The version is 0, which means "none published".
    NoVersion,
    /// No SIP domain is served.
    NoDomains,
    /// No pool homes users.
    NoRegistrar,
    /// A name that DNS would not take, or not a full one.
    BadName,
    /// A name that is there already.
    DuplicateName,
    /// A pool outside the SIP domains, where clients with strict names will not follow.
    PoolOutsideDomains,
    /// A site that is not in the list of sites.
    UnknownSite,
    /// A pool without servers.
    EmptyPool,
    /// A server that listens nowhere.
    NoPort,
    /// Port 0.
    PortZero,
    /// An address that is no single host's.
    BadAddress,
    /// Two listeners at one address and port.
    DuplicateAddress,
    /// A server of a paired pool without TLS, which heartbeats need.
    NoTlsForHeartbeats,
    /// A director with users, or with a backup.
    DirectorHomesNobody,
    /// A backup that is no pool of this topology.
    UnknownBackup,
    /// A pool that backs up itself.
    OwnBackup,
    /// A backup that is a director.
    BackupIsDirector,
    /// A backup that is lost together with its pool.
    BackupInSameSite,
    /// A pool that cannot carry those it backs up.
    CapacityTooSmall,
    /// An SRV service that is not `_service._proto`.
    BadService,
    /// An SRV record outside the domains served.
    SrvOutsideDomains,
    /// An SRV record that leads to no pool and no server.
    SrvUnknownTarget,
    /// An SRV target outside its domain, which clients with strict names refuse.
    SrvTargetOutsideDomain,
    /// An SRV port on which the target does not listen.
    SrvWrongPort,
    /// Priority, weight and port look exchanged.
    SrvTransposed,
    /// The same SRV record twice.
    SrvDuplicate,
    /// A service with a single way in.
    SrvSinglePriority,
    /// A service whose ways in are all lost together.
    SrvSingleSite,
    /// An interval of nothing.
    ZeroDuration,
    /// An interval of more than a day.
    TooLong,
    /// Failure is detected before a single lost heartbeat can be made good.
    DetectionTooShort,
    /// Failure is detected so soon that two lost heartbeats are a failover.
    DetectionHasty,
    /// Failback hardly waits longer than detection did.
    FailbackCloseToDetection,
    /// Users are never sent home.
    ZeroPace,
    /// A connection is given up before it is asked.
    DeadBeforeAsked,
    /// Expiry bounds the wrong way round.
    ExpiryOutOfOrder,
    /// A trunk without a gateway, or without a number.
    EmptyTrunk,
}

//------------ The rules -------------------------------------------------------------------------------------------

/// A topology under examination, and what was found so far.
struct Checker<'a> {
    topology: &'a Topology,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn error(
        &mut self,
        rule: Rule,
        at: impl Into<KeyPath>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.find(Severity::Error, rule, at.into(), what.into(), cure.into());
    }

    fn warn(&mut self, rule: Rule, at: impl Into<KeyPath>, what: impl Into<String>, cure: impl Into<String>) {
        self.find(Severity::Warning, rule, at.into(), what.into(), cure.into());
    }

    fn find(&mut self, severity: Severity, rule: Rule, at: KeyPath, what: String, cure: String) {
        self.findings.push(Finding { severity, rule, at, what, cure });
    }

    //-------- Document --------------------------------------------------------------------------------------------

    fn document(&mut self) {
        let topology = self.topology;
        if topology.version == 0 {
            self.error(
                Rule::NoVersion,
                "version",
                "version 0 means that nothing was ever published",
                "count from 1",
            );
        }
        if topology.domains.is_empty() {
            self.error(
                Rule::NoDomains,
                "domains",
                "no SIP domain is served",
                "name at least one: domains = [\"example.test\"]",
            );
        }
        let mut seen = BTreeSet::new();
        for (i, domain) in topology.domains.iter().enumerate() {
            let at = format!("domains[{i}]");
            if !is_dns_name(domain) {
                self.bad_name(&at, domain);
            } else if !seen.insert(domain.to_ascii_lowercase()) {
                self.duplicate(&at, domain, "a domain");
            }
        }
        if !topology.pools.iter().any(|pool| pool.role == Role::Registrar) {
            self.error(
                Rule::NoRegistrar,
                "pool",
                "no pool homes users",
                "add a pool with role = \"registrar\": a director only sends users to one",
            );
        }
    }

    //-------- Intervals -------------------------------------------------------------------------------------------

    fn timers(&mut self) {
        let topology = self.topology;
        let timers = &topology.timers;
        let expiry = timers.registration_expiry;
        let (heartbeat, detection, failback) =
            (timers.heartbeat_interval, timers.failure_detection_interval, timers.failback_interval);
        for (key, interval) in [
            ("heartbeat_interval", heartbeat),
            ("failure_detection_interval", detection),
            ("failback_interval", failback),
            ("peer_dead_after", timers.peer_dead_after),
            ("keepalive_idle", timers.keepalive_idle),
            ("keepalive_doubt", timers.keepalive_doubt),
            ("registration_expiry.min", expiry.min),
            ("registration_expiry.default", expiry.default),
            ("registration_expiry.max", expiry.max),
        ] {
            if interval == Duration::ZERO {
                let cure = "give it a unit and a positive value, like \"30s\"";
                self.error(Rule::ZeroDuration, format!("timers.{key}"), format!("{key} is zero"), cure);
            } else if interval > LONGEST_INTERVAL {
                let what = format!("{key} is {}, more than a day", Seconds(interval));
                self.error(Rule::TooLong, format!("timers.{key}"), what, "is the unit right?");
            }
        }
        if timers.failback_pace == Some(0) {
            self.error(
                Rule::ZeroPace,
                "timers.failback_pace",
                "at 0 users/s nobody ever goes home",
                "give a positive number, or leave it out to send all at once",
            );
        }
        self.detection(heartbeat, detection);
        if topology.profile == Profile::Lync2010
            && failback < detection.saturating_add(heartbeat.saturating_mul(2))
        {
            self.warn(
                Rule::FailbackCloseToDetection,
                "timers.failback_interval",
                format!("{} of hearing is hardly more than {} of silence", Seconds(failback), Seconds(detection)),
                "a pool that stutters would be failed over and back again and again; make it two heartbeats longer than \
                 failure_detection_interval, or better twice as long",
            );
        }
        if timers.peer_dead_after <= timers.keepalive_doubt && !timers.peer_dead_after.is_zero() {
            self.error(
                Rule::DeadBeforeAsked,
                "timers.peer_dead_after",
                format!(
                    "a connection would be given up after {}, before the second keepalive at {}",
                    Seconds(timers.peer_dead_after),
                    Seconds(timers.keepalive_doubt)
                ),
                "make it longer than keepalive_doubt",
            );
        }
        if expiry.min > expiry.default || expiry.default > expiry.max {
            self.error(
                Rule::ExpiryOutOfOrder,
                "timers.registration_expiry",
                format!(
                    "{} at least, {} by default, {} at most",
                    Seconds(expiry.min),
                    Seconds(expiry.default),
                    Seconds(expiry.max)
                ),
                "the three must not fall",
            );
        }
    }

    fn detection(&mut self, heartbeat: Duration, detection: Duration) {
        let at = "timers.failure_detection_interval";
        let late_after = Patience::from(&self.topology.timers).late_after();
        let what = format!("{} of silence with a heartbeat every {}", Seconds(detection), Seconds(heartbeat));
        if heartbeat.is_zero() || detection.is_zero() {
            // Said already.
        } else if detection <= late_after {
            let cure = "one lost heartbeat would move every user: make it more than twice, better five times, \
                        heartbeat_interval";
            self.error(Rule::DetectionTooShort, at, what, cure);
        } else if detection <= heartbeat.saturating_mul(3) {
            let cure =
                "two lost heartbeats would move every user: make it at least four times heartbeat_interval";
            self.warn(Rule::DetectionHasty, at, what, cure);
        }
    }

    //-------- Sites and pools -------------------------------------------------------------------------------------

    fn sites(&mut self) {
        let topology = self.topology;
        let mut seen = BTreeSet::new();
        for (i, site) in topology.sites.iter().enumerate() {
            let at = format!("site[{i}].name");
            if site.name.trim().is_empty() {
                self.bad_name(&at, &site.name);
            } else if !seen.insert(&site.name) {
                self.duplicate(&at, &site.name, "a site");
            }
        }
    }

    fn pools(&mut self) {
        let topology = self.topology;
        let mut names = BTreeSet::new();
        let mut servers = Servers::default();
        for (i, pool) in topology.pools.iter().enumerate() {
            let at = format!("pool[{i}]");
            if !is_dns_name(&pool.name) {
                self.bad_name(&format!("{at}.name"), &pool.name);
            } else if !names.insert(&pool.name) {
                self.duplicate(&format!("{at}.name"), &pool.name, "a pool");
            } else if !topology.domains.is_empty() && !topology.domains.iter().any(|d| lies_in(&pool.name, d))
            {
                self.warn(
                    Rule::PoolOutsideDomains,
                    format!("{at}.name"),
                    format!("{} lies in none of the SIP domains", pool.name),
                    "clients with strict names (the default) follow no redirect to it; rename it, or relax them",
                );
            }
            self.site(&format!("{at}.site"), &pool.site);
            self.servers(&at, pool, &mut servers);
            match pool.role {
                Role::Registrar => self.backup(&at, pool),
                Role::Director => self.director(&at, pool),
            }
            self.capacity(&at, pool);
        }
    }

    fn site(&mut self, at: &str, site: &str) {
        let topology = self.topology;
        if !topology.sites.iter().any(|known| known.name == *site) {
            let what = format!("{site:?} is not a site");
            let cure =
                nearest(site, topology.sites.iter().map(|site| &*site.name), "add a [[site]] of that name");
            self.error(Rule::UnknownSite, at, what, cure);
        }
    }

    fn servers<'a>(&mut self, at: &str, pool: &'a Pool, seen: &mut Servers<'a>) {
        if pool.servers.is_empty() {
            self.error(
                Rule::EmptyPool,
                format!("{at}.server"),
                format!("{} has no servers", pool.name),
                "give it at least one, or remove the pool and those who name it as backup",
            );
        }
        let is_paired = self.topology.partners(&pool.name).next().is_some();
        for (j, server) in pool.servers.iter().enumerate() {
            let at = format!("{at}.server[{j}]");
            let shares_with_other = self
                .topology
                .pools
                .iter()
                .any(|other| other.name != pool.name && *other.name == *server.name);
            if !is_dns_name(&server.name) {
                self.bad_name(&format!("{at}.name"), &server.name);
            } else if !seen.names.insert(&server.name) {
                self.duplicate(&format!("{at}.name"), &server.name, "a server");
            } else if shares_with_other {
                self.duplicate(&format!("{at}.name"), &server.name, "another pool");
            }
            if server.address.is_unspecified() || server.address.is_multicast() {
                self.error(
                    Rule::BadAddress,
                    format!("{at}.address"),
                    format!("{} is no address that others can reach", server.address),
                    "give the address of this one server, as others see it",
                );
            }
            self.ports(&at, server, seen);
            if is_paired && server.tls.is_none() {
                self.error(
                    Rule::NoTlsForHeartbeats,
                    format!("{at}.tls"),
                    format!("{} has no TLS port, and its partner's heartbeats come over TLS", server.name),
                    "give it one: tls = 5061",
                );
            }
        }
    }

    fn ports<'a>(&mut self, at: &str, server: &'a ServerEntry, seen: &mut Servers<'a>) {
        if ports(server).next().is_none() {
            self.error(
                Rule::NoPort,
                at,
                format!("{} listens nowhere", server.name),
                "give it at least one of udp = 5060, tcp = 5060, tls = 5061",
            );
        }
        for (transport, port) in ports(server) {
            let at = format!("{at}.{transport}");
            if port == 0 {
                let cure = "give the port that others are to use";
                self.error(Rule::PortZero, at, "port 0 is no port", cure);
                continue;
            }
            // TLS runs over TCP, so the two share their ports; UDP has its own.
            let place = (server.address, transport == "udp", port);
            if let Some(other) = seen.places.insert(place, &server.name) {
                self.error(
                    Rule::DuplicateAddress,
                    at,
                    format!("{} {port} is taken by {other} already", server.address),
                    "give each listener its own address or port",
                );
            }
        }
    }

    fn backup(&mut self, at: &str, pool: &Pool) {
        let topology = self.topology;
        let Some(backup) = &pool.backup else { return };
        let at = format!("{at}.backup");
        let registrars =
            topology.pools.iter().filter(|other| other.role == Role::Registrar && other.name != pool.name);
        let cure = |otherwise| nearest(backup, registrars.map(|pool| &*pool.name), otherwise);
        if *backup == pool.name {
            let what = format!("{} cannot back up itself", pool.name);
            return self.error(Rule::OwnBackup, at, what, "name a pool in another site, or write \"none\"");
        }
        match topology.pool(backup) {
            None => {
                let what = format!("{backup} is not a pool of this topology");
                let cure = cure("name a pool of this topology, or write \"none\"");
                self.error(Rule::UnknownBackup, at, what, cure);
            }
            Some(other) if other.role == Role::Director => {
                let what = format!("{backup} is a director, which registers nobody");
                self.error(Rule::BackupIsDirector, at, what, "name a registrar pool, or write \"none\"");
            }
            Some(other) if other.site == pool.site => {
                let what = format!("{backup} is in {} too, and would be lost with it", pool.site);
                self.warn(Rule::BackupInSameSite, at, what, "name a pool in another site");
            }
            Some(_) => {}
        }
    }

    fn director(&mut self, at: &str, pool: &Pool) {
        let cure = "leave it out: users have home pools, and a director is none";
        if pool.backup.is_some() {
            let what = "a director homes nobody, so nobody needs its backup";
            self.error(Rule::DirectorHomesNobody, format!("{at}.backup"), what, cure);
        }
        if pool.planned_users.is_some_and(|users| users > 0) {
            let what = "a director homes nobody";
            self.error(Rule::DirectorHomesNobody, format!("{at}.planned_users"), what, cure);
        }
    }

    fn capacity(&mut self, at: &str, pool: &Pool) {
        let Some(capacity) = pool.capacity else { return };
        let users = |pool: &Pool| u64::from(pool.planned_users.unwrap_or(0));
        let own = users(pool);
        let guests: Vec<_> = self
            .topology
            .backed_up_by(&pool.name)
            .filter(|guest| guest.name != pool.name && users(guest) > 0)
            .collect();
        let total = guests.iter().fold(own, |sum, guest| sum + users(guest));
        if total > u64::from(capacity) {
            let named: Vec<_> =
                guests.iter().map(|guest| format!("{} of {}", users(guest), guest.name)).collect();
            let of_others =
                if named.is_empty() { String::new() } else { format!(" + {}", named.join(" + ")) };
            self.warn(
                Rule::CapacityTooSmall,
                format!("{at}.capacity"),
                format!(
                    "{} carries {capacity} users and may have to carry {total}: {own} of its own{of_others}",
                    pool.name
                ),
                "add servers to it, or spread its guests over other backups",
            );
        }
    }

    //-------- SRV records -----------------------------------------------------------------------------------------

    fn srv(&mut self) {
        let topology = self.topology;
        let mut services: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (i, record) in topology.srv.iter().enumerate() {
            let at = format!("srv[{i}]");
            let name = (record.service.to_ascii_lowercase(), record.domain.to_ascii_lowercase());
            services.entry(name.clone()).or_default().push(i);
            if !seen.insert((name, record.target.to_ascii_lowercase(), record.port)) {
                self.warn(
                    Rule::SrvDuplicate,
                    &*at,
                    format!("{} has {}:{} twice", record.name(), record.target, record.port),
                    "remove one: it is the same door",
                );
            }
            self.record(&at, record);
        }
        // In the order of their first records, as everything else is in the order of the document.
        let mut services: Vec<_> = services.into_values().collect();
        services.sort();
        for records in services {
            self.ways_in(&records);
        }
    }

    fn record(&mut self, at: &str, record: &SrvRecord) {
        let topology = self.topology;
        if !is_service(&record.service) {
            self.error(
                Rule::BadService,
                format!("{at}.service"),
                format!("{:?} is not the name of a service", record.service),
                "write it as _service._protocol, like \"_sipinternaltls._tcp\"",
            );
        }
        if !topology.serves(&record.domain) {
            let what = format!("{} is not a SIP domain served here", record.domain);
            let cure = nearest(&record.domain, topology.domains.iter().map(|d| &**d), "add it to domains");
            self.error(Rule::SrvOutsideDomains, format!("{at}.domain"), what, cure);
        }
        let targets = targets(topology, &record.target);
        if targets.is_empty() && topology.pool(&record.target).is_some() {
            // A pool without servers; that has been said of the pool.
        } else if targets.is_empty() {
            let known = topology.pools.iter().flat_map(|pool| {
                std::iter::once(&*pool.name).chain(pool.servers.iter().map(|server| &*server.name))
            });
            let what = format!("{} is neither a pool nor a server", record.target);
            let cure = nearest(&record.target, known, "name a pool of this topology");
            self.error(Rule::SrvUnknownTarget, format!("{at}.target"), what, cure);
        } else if !lies_in(&record.target, &record.domain) {
            self.warn(
                Rule::SrvTargetOutsideDomain,
                format!("{at}.target"),
                format!("{} lies outside {}", record.target, record.domain),
                "clients with strict names (the default) refuse it; name a target in the domain, or relax them",
            );
        }
        self.numbers(at, record, &targets);
    }

    /// Priority, weight and port are three bare numbers in a row, and are exchanged sooner or later.
    fn numbers(&mut self, at: &str, record: &SrvRecord, targets: &[(&Pool, &ServerEntry)]) {
        let open: BTreeSet<u16> =
            targets.iter().filter_map(|(_, server)| port_for(&record.service, server)).collect();
        let looks_like_port =
            |number| matches!(number, 5060 | 5061) || (number != 0 && open.contains(&number));
        let fits = open.contains(&record.port) || (targets.is_empty() && record.port != 0);
        let numbers = format!("priority {}, weight {}, port {}", record.priority, record.weight, record.port);
        let exchanged = [("priority", record.priority), ("weight", record.weight)];
        if let Some((key, _)) = exchanged.into_iter().find(|(_, number)| looks_like_port(*number)) {
            let what = format!("{numbers}: the {key} looks like a port");
            let cure = "the order is priority, weight, port: exchange them";
            let severity = if fits { Severity::Warning } else { Severity::Error };
            self.find(severity, Rule::SrvTransposed, format!("{at}.{key}").into(), what, cure.into());
        } else if !fits {
            let ports: Vec<_> = open.iter().map(u16::to_string).collect();
            let cure = if ports.is_empty() {
                format!("give {} a port for this service, or remove the record", record.target)
            } else {
                format!("write port = {}", ports.join(" or "))
            };
            let what = format!("{numbers}: {} does not listen there for {}", record.target, record.service);
            self.error(Rule::SrvWrongPort, format!("{at}.port"), what, cure);
        }
    }

    /// Whether a service still has a way in when a pool, or a site, is lost. `records` are indices, at least one.
    fn ways_in(&mut self, records: &[usize]) {
        let topology = self.topology;
        let Some(first) = records.first().copied() else { return };
        let at = format!("srv[{first}]");
        let all = || records.iter().filter_map(|i| topology.srv.get(*i));
        let priorities: BTreeSet<_> = all().map(|record| record.priority).collect();
        let found: Vec<_> = all().flat_map(|record| targets(topology, &record.target)).collect();
        let sites: BTreeSet<_> = found.iter().map(|(pool, _)| &pool.site).collect();
        let name = topology.srv.get(first).map(SrvRecord::name).unwrap_or_default();
        if priorities.len() < 2 {
            self.warn(
                Rule::SrvSinglePriority,
                format!("{at}.priority"),
                format!("every record of {name} has the same priority"),
                "a client that knows no backup and whose only record led to a dead pool was out after 30 s and stayed out for the \
                 eight minutes it was watched; publish a second record with a higher priority to a pool in another site",
            );
        } else if sites.len() == 1 && topology.sites.len() > 1 {
            let site = sites.iter().map(|site| site.as_str()).collect::<String>();
            self.warn(
                Rule::SrvSingleSite,
                format!("{at}.target"),
                format!("every record of {name} leads to {site}, and is lost with it"),
                "publish a record to a pool in another site",
            );
        }
    }

    //-------- Trunks ----------------------------------------------------------------------------------------------

    fn trunks(&mut self) {
        let topology = self.topology;
        let mut seen = BTreeSet::new();
        for (i, trunk) in topology.trunks.iter().enumerate() {
            let at = format!("trunk[{i}]");
            if !seen.insert(trunk.name.to_ascii_lowercase()) {
                self.duplicate(&format!("{at}.name"), &trunk.name, "a trunk");
            }
            let digits = trunk.pattern.strip_prefix('+');
            if !digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
                let what = format!("{:?} is not the start of an E.164 number", trunk.pattern);
                self.error(
                    Rule::EmptyTrunk,
                    format!("{at}.pattern"),
                    what,
                    "write \"+4989\", or \"+\" for all numbers",
                );
            }
            if trunk.gateways.is_empty() {
                let what = format!("trunk {} has no gateway", trunk.name);
                self.error(Rule::EmptyTrunk, format!("{at}.gateway"), what, "add one, or remove the trunk");
            }
            for (j, gateway) in trunk.gateways.iter().enumerate() {
                let at = format!("{at}.gateway[{j}]");
                self.site(&format!("{at}.site"), &gateway.site);
                if gateway.port == 0 {
                    self.error(
                        Rule::PortZero,
                        format!("{at}.port"),
                        "port 0 is no port",
                        "give the gateway's SIP port",
                    );
                }
                if gateway.host.parse::<IpAddr>().is_err() && !is_dns_name(&gateway.host) {
                    self.bad_name(&format!("{at}.host"), &gateway.host);
                }
            }
        }
    }

    //-------- Sentences said more than once -----------------------------------------------------------------------

    fn bad_name(&mut self, at: &str, name: &str) {
        let what = format!("{name:?} is not a full name");
        self.error(
            Rule::BadName,
            at,
            what,
            "use letters, digits and hyphens between dots, like \"fe1.example.test\"",
        );
    }

    fn duplicate(&mut self, at: &str, name: &str, of: &str) {
        self.error(
            Rule::DuplicateName,
            at,
            format!("{name} is the name of {of} already"),
            "give each its own name",
        );
    }
}

/// Nothing here waits longer than the model allows for its detection intervals.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What is taken already.
#[derive(Default)]
struct Servers<'a> {
    /// Server names.
    names: BTreeSet<&'a str>,
    /// Address, whether UDP, and port; to the server that has it.
    places: BTreeMap<(IpAddr, bool, u16), &'a str>,
}

//------------ Small questions -------------------------------------------------------------------------------------

/// Where a server listens.
fn ports(server: &ServerEntry) -> impl Iterator<Item = (&'static str, u16)> {
    [("udp", server.udp), ("tcp", server.tcp), ("tls", server.tls)]
        .into_iter()
        .filter_map(|(transport, port)| port.map(|port| (transport, port)))
}

/// The servers that a name leads to: a pool's, or the one of that name.
fn targets<'a>(topology: &'a Topology, target: &str) -> Vec<(&'a Pool, &'a ServerEntry)> {
    let pool = topology.pools.iter().find(|pool| same(&pool.name, target));
    let servers = pool.into_iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
    let mut found: Vec<_> = servers.collect();
    if found.is_empty() {
        let all =
            topology.pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
        found.extend(all.filter(|(_, server)| same(&server.name, target)));
    }
    found
}

/// The port that a service asks of a server. That TLS is meant is in the service's name, not in its protocol.
fn port_for(service: &str, server: &ServerEntry) -> Option<u16> {
    let (name, protocol) = service.split_once('.')?;
    let secure =
        ["_sips", "_sipinternaltls", "_sipfederationtls"].iter().any(|s| name.eq_ignore_ascii_case(s));
    match protocol.to_ascii_lowercase().as_str() {
        "_tls" => server.tls,
        "_tcp" if secure => server.tls,
        "_tcp" => server.tcp,
        "_udp" => server.udp,
        _ => None,
    }
}

/// Whether `service` is `_name._protocol` (RFC 2782), over a protocol that we speak.
fn is_service(service: &str) -> bool {
    let Some((name, protocol)) = service.split_once('.') else { return false };
    let known = ["_tcp", "_udp", "_tls"].iter().any(|p| protocol.eq_ignore_ascii_case(p));
    known && name.strip_prefix('_').is_some_and(is_label)
}

/// Whether `name` is a full DNS name of a host or a domain: at least two labels.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// "Did you mean …?", if some known name is near; otherwise the cure given.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    let name = name.to_ascii_lowercase();
    let best = known.map(|known| (distance(&name, known), known)).min();
    match best {
        Some((distance, known)) if distance <= 3 && distance < name.len() => {
            format!("did you mean {known:?}?")
        }
        Some(_) | None => otherwise.to_owned(),
    }
}

/// Letters to put in, take out or exchange to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((j, to), (above_left, above)) in b.iter().enumerate().zip(row.iter().zip(row.iter().skip(1))) {
            let left = next.get(j).copied().unwrap_or(i + 1);
            next.push((above_left + usize::from(from != *to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
