//! `topology.toml`: the whole deployment, the same file on every machine.
//!
//! The tables below are the file; [`Topology`] is what the rest of the program sees. What one table can get
//! wrong by itself is refused while reading; what needs the whole picture is [`topology::check`]'s business,
//! whose findings are given the line of their key here.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use resilience::profile::{Expiry, Profile, Timers};
use resilience::topology::{
    self, Gateway, Pool, Role, ServerEntry, Site, SrvRecord, Topology, Trunk, examples,
};
use toml::de::DeValue;

use super::Loaded;
use super::document::{
    self, Choice, Reading, Severity, Shape, Spot, Value, choice_shape, read_choice, table,
};

/// Reads and checks a topology file.
pub(crate) fn load(path: &Path) -> Loaded<Topology> {
    super::load(path, parse)
}

/// Understands the text of a topology file, named `file` in what is said about it.
pub(crate) fn parse(file: &str, text: &str) -> Loaded<Topology> {
    let mut reading = Reading::new(file, text);
    let tables = reading.read::<TopologyFile>();
    for (index, pool) in tables.iter().flat_map(|tables| tables.pool.iter().enumerate()) {
        if pool.backup.is_none() && pool.role != Some(Role::Director) {
            let what = "`backup` is missing".to_owned();
            let cure =
                "name the pool that takes its users when it is lost, or write backup = \"none\"".to_owned();
            reading.note_at(Severity::Error, &format!("pool[{index}]"), what, cure);
        }
    }
    let topology = tables.map(Topology::from);
    if let Some(topology) = &topology
        && !reading.is_unusable()
    {
        for finding in topology::check(topology) {
            let severity = match finding.severity {
                topology::Severity::Error => Severity::Error,
                topology::Severity::Warning => Severity::Warning,
            };
            reading.note_at(severity, &finding.at.to_string(), finding.what, finding.cure);
        }
    }
    let value = topology.filter(|_| !reading.is_unusable());
    Loaded { value, mistakes: reading.into_mistakes() }
}

/// Writes a topology as a file that [`parse`] reads back to the same topology.
pub(crate) fn print(topology: &Topology) -> String {
    document::write(&TopologyFile::from(topology))
}

/// The example that `rehome config example topology` prints.
pub(crate) fn example() -> String {
    print(&examples::two_sites_rehome())
}

table! {
    /// The whole deployment. The same file on every machine; `rehome topology check` finds what is wrong with it.
    pub(crate) struct TopologyFile {
        /// Count it up with every change; servers tell each other theirs.
        version: u64,
        /// Whom to behave like: "rehome", or "lync2010" with its gaps.
        profile: Option<Profile> = "\"rehome\"",
        /// The SIP domains served.
        domains: Vec<String>,
        /// How patient everybody is. Each interval is independent of the others; what is left out is the
        /// profile's default.
        timers: Option<TimersTable>,
        /// Sites.
        site: Vec<SiteTable>,
        /// Pools.
        pool: Vec<PoolTable>,
        /// SRV records.
        srv: Vec<SrvTable>,
        /// Trunks.
        trunk: Vec<TrunkTable>,
    }
}

table! {
    /// How patient everybody is. Each interval is independent of the others; what is left out is the default
    /// of the profile.
    pub(crate) struct TimersTable {
        /// OPTIONS between the servers of paired pools.
        heartbeat_interval: Option<Duration> = "\"1s\"",
        /// Silence after which the backup accepts the pool's users.
        failure_detection_interval: Option<Duration> = "\"5s\"",
        /// Gap-free hearing after which they go home.
        failback_interval: Option<Duration> = "\"15s\"",
        /// How many users a second are sent home; "unlimited" is all at once.
        failback_pace: Option<Pace> = "500",
        /// Silence after which our client gives a connection up.
        peer_dead_after: Option<Duration> = "\"5s\"",
        /// Between a client's keepalives while all is well.
        keepalive_idle: Option<Duration> = "\"20s\"",
        /// Between a client's keepalives while one is unanswered.
        keepalive_doubt: Option<Duration> = "\"1s\"",
        /// Granted expiry.
        registration_expiry: Option<ExpiryTable>,
    }
}

table! {
    /// For how long a registration is granted; the client's wish is clamped to the bounds.
    pub(crate) struct ExpiryTable {
        /// The shortest.
        min: Option<Duration> = "\"5m\"",
        /// For a client that wishes nothing.
        default: Option<Duration> = "\"10m\"",
        /// The longest.
        max: Option<Duration> = "\"15m\"",
    }
}

table! {
    /// A building or region: what a cut cable takes away together.
    pub(crate) struct SiteTable {
        /// Any label; pools refer to it.
        name: String,
    }
}

table! {
    /// Servers that answer as one, under one name. Users are homed on a pool, not on a server.
    pub(crate) struct PoolTable {
        /// Fully qualified: a 301 names it, a certificate proves it.
        name: String,
        /// The site it stands in.
        site: String,
        /// "registrar", or "director": homes nobody, sends everybody home.
        role: Option<Role> = "\"registrar\"",
        /// The pool that takes its users when it is lost, in another site; or "none". A registrar must say.
        backup: Option<Backup> = "\"none\"",
        /// Whether the backup takes over by itself.
        automatic_failover: Option<bool> = "true",
        /// The most users it can carry, its own and those it backs up.
        capacity: Option<u32> = "10000",
        /// How many users are planned to be homed on it.
        planned_users: Option<u32> = "5000",
        /// Its servers.
        server: Vec<ServerTable>,
    }
}

table! {
    /// One server, and where it listens. A port left out is not listened on; paired pools need TLS.
    pub(crate) struct ServerTable {
        /// Fully qualified: its certificate proves it.
        name: String,
        /// Where it is reached.
        address: IpAddr,
        /// UDP port.
        udp: Option<u16> = "5060",
        /// TCP port.
        tcp: Option<u16> = "5060",
        /// TLS port.
        tls: Option<u16> = "5061",
    }
}

table! {
    /// An SRV record to publish (RFC 2782). Publish at least two priorities per service: a client that learnt no
    /// backup finds the second pool only here.
    pub(crate) struct SrvTable {
        /// Service and protocol.
        service: String,
        /// Where it is published.
        domain: String,
        /// Lower is asked first.
        priority: u16,
        /// Share among equals; 0 if left out.
        weight: Option<u16> = "0",
        /// Where the target listens.
        port: u16,
        /// A pool or a server.
        target: String,
    }
}

table! {
    /// A way to the telephone network: numbers that match go to the first living gateway.
    pub(crate) struct TrunkTable {
        /// For operators.
        name: String,
        /// The start of the numbers it takes: "+4989", or "+" for all.
        pattern: String,
        /// Its gateways.
        gateway: Vec<GatewayTable>,
    }
}

table! {
    /// One gateway of a trunk, in order of preference; those of the caller's site go first.
    pub(crate) struct GatewayTable {
        /// Host name or address.
        host: String,
        /// SIP port; 5060 if left out.
        port: Option<u16> = "5060",
        /// The site it stands in, and dies with.
        site: String,
    }
}

//------------ Values that only topologies have --------------------------------------------------------------

/// A pool's backup: a decision, so "none" must be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backup(Option<String>);

impl Value for Backup {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        let name = String::read(value, spot, reading)?;
        Some(Self((name != "none").then_some(name)))
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(format!("\"{}\"", self.0.as_deref().unwrap_or("none")))
    }
}

/// Users per second, or all at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace(Option<u32>);

impl Value for Pace {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        match value.as_str() {
            Some("unlimited") => Some(Self(None)),
            Some(other) => {
                let cure = "write a number of users per second, as in 500, or \"unlimited\"";
                reading.error(spot, format!("\"{other}\" is not a pace"), cure);
                None
            }
            None => u32::read(value, spot, reading).map(|pace| Self(Some(pace))),
        }
    }

    fn shape(&self) -> Shape<'_> {
        Shape::Inline(self.0.map_or("\"unlimited\"".to_owned(), |pace| pace.to_string()))
    }
}

impl Choice for Profile {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("rehome", Self::Rehome), ("lync2010", Self::Lync2010)];
}

impl Choice for Role {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("registrar", Self::Registrar), ("director", Self::Director)];
}

/// `Value` for a [`Choice`]; spelt out for each, since neither the trait nor the type is a wildcard's to give.
macro_rules! choice {
    ($($type:ty),+) => { $(
        impl Value for $type {
            fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
                read_choice(value, spot, reading)
            }

            fn shape(&self) -> Shape<'_> {
                choice_shape(*self)
            }
        }
    )+ };
}

choice!(Profile, Role);

//------------ From the file and back ------------------------------------------------------------------------

impl From<TopologyFile> for Topology {
    fn from(file: TopologyFile) -> Self {
        let profile = file.profile.unwrap_or_default();
        Topology {
            version: file.version,
            profile,
            domains: file.domains.into_iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            sites: file.site.into_iter().map(|site| Site { name: site.name.into() }).collect(),
            pools: file.pool.into_iter().map(Pool::from).collect(),
            srv: file.srv.into_iter().map(SrvRecord::from).collect(),
            timers: file
                .timers
                .map_or_else(|| Timers::of(profile), |timers| timers.over(Timers::of(profile))),
            trunks: file.trunk.into_iter().map(Trunk::from).collect(),
        }
    }
}

impl From<&Topology> for TopologyFile {
    fn from(topology: &Topology) -> Self {
        Self {
            version: topology.version,
            profile: Some(topology.profile),
            domains: topology.domains.clone(),
            timers: Some(TimersTable::from(&topology.timers)),
            site: topology.sites.iter().map(|site| SiteTable { name: site.name.to_string() }).collect(),
            pool: topology.pools.iter().map(PoolTable::from).collect(),
            srv: topology.srv.iter().map(SrvTable::from).collect(),
            trunk: topology.trunks.iter().map(TrunkTable::from).collect(),
        }
    }
}

impl TimersTable {
    /// The timers of the file, with `defaults` for those left out.
    fn over(self, defaults: Timers) -> Timers {
        let expiry = defaults.registration_expiry;
        Timers {
            heartbeat_interval: self.heartbeat_interval.unwrap_or(defaults.heartbeat_interval),
            failure_detection_interval: self
                .failure_detection_interval
                .unwrap_or(defaults.failure_detection_interval),
            failback_interval: self.failback_interval.unwrap_or(defaults.failback_interval),
            failback_pace: self.failback_pace.map_or(defaults.failback_pace, |pace| pace.0),
            peer_dead_after: self.peer_dead_after.unwrap_or(defaults.peer_dead_after),
            keepalive_idle: self.keepalive_idle.unwrap_or(defaults.keepalive_idle),
            keepalive_doubt: self.keepalive_doubt.unwrap_or(defaults.keepalive_doubt),
            registration_expiry: self.registration_expiry.map_or(expiry, |table| Expiry {
                min: table.min.unwrap_or(expiry.min),
                default: table.default.unwrap_or(expiry.default),
                max: table.max.unwrap_or(expiry.max),
            }),
        }
    }
}

impl From<&Timers> for TimersTable {
    fn from(timers: &Timers) -> Self {
        let expiry = timers.registration_expiry;
        Self {
            heartbeat_interval: Some(timers.heartbeat_interval),
            failure_detection_interval: Some(timers.failure_detection_interval),
            failback_interval: Some(timers.failback_interval),
            failback_pace: Some(Pace(timers.failback_pace)),
            peer_dead_after: Some(timers.peer_dead_after),
            keepalive_idle: Some(timers.keepalive_idle),
            keepalive_doubt: Some(timers.keepalive_doubt),
            registration_expiry: Some(ExpiryTable {
                min: Some(expiry.min),
                default: Some(expiry.default),
                max: Some(expiry.max),
            }),
        }
    }
}

impl From<PoolTable> for Pool {
    fn from(table: PoolTable) -> Self {
        Pool {
            name: table.name.into(),
            site: table.site.into(),
            role: table.role.unwrap_or(Role::Registrar),
            servers: table.server.into_iter().map(ServerEntry::from).collect(),
            backup: table.backup.and_then(|backup| backup.0).map(Into::into),
            automatic_failover: table.automatic_failover.unwrap_or(true),
            capacity: table.capacity,
            planned_users: table.planned_users,
        }
    }
}

impl From<&Pool> for PoolTable {
    fn from(pool: &Pool) -> Self {
        Self {
            name: pool.name.to_string(),
            site: pool.site.to_string(),
            role: Some(pool.role),
            // A director has nobody to be taken over.
            backup: (pool.role == Role::Registrar || pool.backup.is_some())
                .then(|| Backup(pool.backup.as_ref().map(ToString::to_string))),
            automatic_failover: (!pool.automatic_failover).then_some(false),
            capacity: pool.capacity,
            planned_users: pool.planned_users,
            server: pool.servers.iter().map(ServerTable::from).collect(),
        }
    }
}

impl From<ServerTable> for ServerEntry {
    fn from(table: ServerTable) -> Self {
        ServerEntry {
            name: table.name.into(),
            address: table.address,
            udp: table.udp,
            tcp: table.tcp,
            tls: table.tls,
        }
    }
}

impl From<&ServerEntry> for ServerTable {
    fn from(server: &ServerEntry) -> Self {
        Self {
            name: server.name.to_string(),
            address: server.address,
            udp: server.udp,
            tcp: server.tcp,
            tls: server.tls,
        }
    }
}

impl From<SrvTable> for SrvRecord {
    fn from(table: SrvTable) -> Self {
        SrvRecord {
            service: table.service,
            domain: table.domain,
            priority: table.priority,
            weight: table.weight.unwrap_or(0),
            port: table.port,
            target: table.target,
        }
    }
}

impl From<&SrvRecord> for SrvTable {
    fn from(record: &SrvRecord) -> Self {
        Self {
            service: record.service.clone(),
            domain: record.domain.clone(),
            priority: record.priority,
            weight: Some(record.weight),
            port: record.port,
            target: record.target.clone(),
        }
    }
}

impl From<TrunkTable> for Trunk {
    fn from(table: TrunkTable) -> Self {
        let gateway = |gateway: GatewayTable| Gateway {
            host: gateway.host,
            port: gateway.port.unwrap_or(5060),
            site: gateway.site.into(),
        };
        Trunk {
            name: table.name,
            pattern: table.pattern,
            gateways: table.gateway.into_iter().map(gateway).collect(),
        }
    }
}

impl From<&Trunk> for TrunkTable {
    fn from(trunk: &Trunk) -> Self {
        let gateway = |gateway: &Gateway| GatewayTable {
            host: gateway.host.clone(),
            port: Some(gateway.port),
            site: gateway.site.to_string(),
        };
        Self {
            name: trunk.name.clone(),
            pattern: trunk.pattern.clone(),
            gateway: trunk.gateways.iter().map(gateway).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_topology_is_read_back_as_it_was() {
        let mut with_everything = examples::two_sites_rehome();
        with_everything.pools[0].capacity = Some(20_000);
        with_everything.pools[0].planned_users = Some(8_000);
        with_everything.pools[1].automatic_failover = false;
        with_everything.pools.push(
            Pool::director("dir.example.test", examples::SITE1)
                .with(ServerEntry::new("dir.example.test", IpAddr::from([127, 1, 0, 9]))),
        );
        with_everything.trunks.push(Trunk {
            name: "town".to_owned(),
            pattern: "+4989".to_owned(),
            gateways: vec![Gateway {
                host: "gw.example.test".to_owned(),
                port: 5060,
                site: examples::SITE1.into(),
            }],
        });
        let all = [
            examples::two_sites(),
            examples::two_sites_rehome(),
            examples::two_sites_of_three(),
            with_everything,
        ];
        for topology in all {
            let printed = print(&topology);
            let (read, _) =
                parse("printed", &printed).usable().unwrap_or_else(|why| panic!("{why:?}\n{printed}"));
            assert_eq!(read, topology, "{printed}");
        }
    }

    #[test]
    fn an_interval_left_out_is_the_profiles() {
        let printed =
            example().replace("failback_interval = \"15s\"", "").replace("\"rehome\" ", "\"lync2010\" ");
        let (read, _) = parse("printed", &printed).usable().unwrap();
        assert_eq!(read.timers.failback_interval, Duration::from_secs(40));
        assert_eq!(read.timers.failure_detection_interval, Duration::from_secs(5), "what is written counts");
    }
}
