//! The deployment as one document: sites, pools, servers, who backs up whom. The same on every machine.
//!
//! ```text
//!   site1                              site2
//!   ┌──────────────────────────┐       ┌──────────────────────────┐
//!   │ pool fe1.example.test    │backup │ pool fe2.example.test    │
//!   │  └ server 127.1.0.1:5061 │◄─────►│  └ server 127.2.0.1:5061 │
//!   └──────────────────────────┘       └──────────────────────────┘
//! ```
//!
//! Plain types, to be read from a file elsewhere or written in a test ([`examples`]). [`check()`] says what is
//! wrong with a topology, where, and what to do; one that it finds no error in can be used without further
//! questions. Who is homed where is not here but in the user directory.

mod check;
pub mod examples;
mod name;

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::profile::{Profile, Timers};
pub use check::{Finding, KeyPath, Rule, Severity, check};
pub use name::{PoolName, ServerName, SiteName};

/// The published document of the whole deployment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Topology {
    /// Counts publications, from 1; servers tell each other theirs in heartbeats.
    pub version: u64,
    /// Which system to behave like.
    pub profile: Profile,
    /// The SIP domains served, lower case: `example.test`.
    pub domains: Vec<String>,
    /// Buildings or regions that can be lost whole.
    pub sites: Vec<Site>,
    /// All pools, registrars and directors.
    pub pools: Vec<Pool>,
    /// SRV records to publish.
    pub srv: Vec<SrvRecord>,
    /// How patient everybody is.
    pub timers: Timers,
    /// Ways to the telephone network.
    pub trunks: Vec<Trunk>,
}

/// One building or region: what a cut cable or a flood takes away together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
}

/// Servers that answer as one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pool {
    /// Fully qualified; what a redirect names and a certificate proves.
    pub name: PoolName,
    /// Where it stands.
    pub site: SiteName,
    /// What it does.
    pub role: Role,
    /// Its members; any of them can serve any of its users.
    pub servers: Vec<ServerEntry>,
    /// The pool that takes its users when it is lost; `None` is a decision too.
    pub backup: Option<PoolName>,
    /// Whether the backup takes over by itself. If not, an operator must tell it to.
    pub automatic_failover: bool,
    /// The most users that the pool can carry at once, its own and those it backs up.
    pub capacity: Option<u32>,
    /// How many users are planned to be homed on it; only ever compared with capacities.
    pub planned_users: Option<u32>,
}

/// What a pool does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Homes users and registers them.
    Registrar,
    /// Homes nobody; authenticates everybody and sends them to their pools.
    Director,
}

/// One server, and where it listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerEntry {
    /// Fully qualified; what its certificate proves.
    pub name: ServerName,
    /// Where it is reached.
    pub address: IpAddr,
    /// Its UDP port, if it listens there.
    pub udp: Option<u16>,
    /// Its TCP port, if it listens there.
    pub tcp: Option<u16>,
    /// Its TLS port. Heartbeats use it, so a paired pool needs one.
    pub tls: Option<u16>,
}

/// An SRV record to publish (RFC 2782).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SrvRecord {
    /// Service and protocol: `_sipinternaltls._tcp`.
    pub service: String,
    /// The domain it is published in: `example.test`.
    pub domain: String,
    /// Lower is asked first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
    /// Where the target listens.
    pub port: u16,
    /// A pool's or a server's name.
    pub target: String,
}

/// A way to the telephone network: numbers that match go to the first living gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trunk {
    /// Its name, for operators.
    pub name: String,
    /// The start of the E.164 numbers it takes: `+4989`, or `+` for all.
    pub pattern: String,
    /// In order of preference; those of the caller's site go first.
    pub gateways: Vec<Gateway>,
}

/// One gateway of a trunk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// Host name or address.
    pub host: String,
    /// SIP port.
    pub port: u16,
    /// The site it stands in, and dies with.
    pub site: SiteName,
}

impl Topology {
    /// The pool of that name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// The server of that name, and the pool it is in.
    pub fn server(&self, name: &str) -> Option<(&Pool, &ServerEntry)> {
        self.pools
            .iter()
            .flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)))
            .find(|(_, server)| server.name == *name)
    }

    /// The registrar pools of a user homed on `home`, in order: primary, then backup if there is one.
    pub fn registrars(&self, home: &str) -> impl Iterator<Item = &Pool> {
        let primary = self.pool(home);
        let backup = primary.and_then(|pool| pool.backup.as_ref()).and_then(|name| self.pool(name));
        primary.into_iter().chain(backup)
    }

    /// The pools whose backup is `pool`.
    pub fn backed_up_by<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Pool> {
        self.pools.iter().filter(move |other| other.backup.as_ref().is_some_and(|backup| *backup == *pool))
    }

    /// The pools that `pool` exchanges heartbeats with: those it backs up, and its own backup. Each once, in the
    /// order of the document.
    pub fn partners<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Pool> {
        let own_backup = self.pool(pool).and_then(|pool| pool.backup.as_ref());
        self.pools.iter().filter(move |other| {
            let backs_up_us = own_backup == Some(&other.name);
            let backed_up_by_us = other.backup.as_ref().is_some_and(|backup| *backup == *pool);
            (backs_up_us || backed_up_by_us) && other.name != *pool
        })
    }

    /// Whether `domain` is one of the SIP domains served.
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|ours| name::same(ours, domain))
    }
}

impl Pool {
    /// A pool that homes users: without servers, without backup, failing over by itself.
    pub fn registrar(name: &str, site: &str) -> Pool {
        Pool {
            name: name.into(),
            site: site.into(),
            role: Role::Registrar,
            servers: Vec::new(),
            backup: None,
            automatic_failover: true,
            capacity: None,
            planned_users: None,
        }
    }

    /// A pool that homes nobody and sends everybody home.
    pub fn director(name: &str, site: &str) -> Pool {
        Pool { role: Role::Director, ..Pool::registrar(name, site) }
    }

    /// The same pool with one more server.
    pub fn with(mut self, server: ServerEntry) -> Pool {
        self.servers.push(server);
        self
    }

    /// The same pool, backed up by `backup`.
    pub fn backed_up_by(mut self, backup: &str) -> Pool {
        self.backup = Some(backup.into());
        self
    }

    /// The pool's servers as one user prefers them, first choice first; `aor` is the hash of their address-of-record.
    ///
    /// Rendezvous hashing: each server scores `mix(aor ^ fnv1a64(server name))`, highest first. The score of one
    /// server does not depend on the others, so a server that leaves moves its own users and nobody else, and they
    /// spread over all that remain. `mix` is the finaliser of SplitMix64. Anyone who knows the names can compute it.
    pub fn preferred_order(&self, aor: u64) -> Vec<&ServerEntry> {
        let mut order: Vec<_> = self.servers.iter().collect();
        order.sort_by_cached_key(|server| (Reverse(mix(aor ^ fnv1a64(&server.name))), server.name.clone()));
        order
    }
}

impl ServerEntry {
    /// A server on the usual ports: UDP and TCP 5060, TLS 5061 (RFC 3261 §19.1.2).
    pub fn new(name: &str, address: impl Into<IpAddr>) -> ServerEntry {
        ServerEntry {
            name: name.into(),
            address: address.into(),
            udp: Some(5060),
            tcp: Some(5060),
            tls: Some(5061),
        }
    }
}

impl SrvRecord {
    /// A record of weight 0 in the order one says it: `new("_sipinternaltls._tcp", "example.test", 0, 5061, "fe1.…")`.
    pub fn new(service: &str, domain: &str, priority: u16, port: u16, target: &str) -> SrvRecord {
        SrvRecord {
            service: service.to_owned(),
            domain: domain.to_owned(),
            priority,
            weight: 0,
            port,
            target: target.to_owned(),
        }
    }

    /// The owner name: `_sipinternaltls._tcp.example.test`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.service, self.domain)
    }
}

/// FNV-1a, 64 bits. Names are short and the mixing comes after.
fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64: every bit of the input moves about half the bits of the output.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
