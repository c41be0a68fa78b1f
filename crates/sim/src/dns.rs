//! The simulated name service: one zone, one server, and everything that can be wrong with it.
//!
//! The zone is made from the topology and can be edited while the world runs. Its server stands
//! somewhere: a host cut off from it waits in vain. There is no cache between a brain and the
//! server; what stories ask is whether a client looks again, and a cache would hide it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use resilience::topology::Topology;
use sip::locate::{Answer, Query, Record, Srv};

/// How long a resolver waits for a server that does not answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The zone and the state of its server.
#[derive(Debug, Default)]
pub struct Dns {
    services: BTreeMap<String, Vec<Srv>>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// The server answers nothing at all.
    pub down: bool,
    /// The server takes this long to answer.
    pub slow: Duration,
}

impl Dns {
    /// The zone of a topology: its SRV records, and the addresses of its servers and pools.
    pub fn of(topology: &Topology) -> Self {
        let mut dns = Dns::default();
        for record in &topology.srv {
            let srv = Srv {
                priority: record.priority,
                weight: record.weight,
                port: record.port,
                target: record.target.clone(),
            };
            dns.add_srv(&record.name(), srv);
        }
        for pool in &topology.pools {
            for server in &pool.servers {
                dns.add_address(&server.name, server.address);
                if server.name != *pool.name {
                    dns.add_address(&pool.name, server.address);
                }
            }
        }
        dns
    }

    /// Publishes one SRV record.
    pub fn add_srv(&mut self, name: &str, srv: Srv) {
        self.services.entry(normal(name)).or_default().push(srv);
    }

    /// Publishes one address.
    pub fn add_address(&mut self, name: &str, address: IpAddr) {
        self.addresses.entry(normal(name)).or_default().push(address);
    }

    /// Removes the SRV records of `name` that lead to `target`; without a target, everything under `name`.
    /// False: there was nothing to remove.
    pub fn remove(&mut self, name: &str, target: Option<&str>) -> bool {
        let name = normal(name);
        match target {
            None => self.services.remove(&name).is_some() | self.addresses.remove(&name).is_some(),
            Some(target) => {
                let Some(records) = self.services.get_mut(&name) else { return false };
                let before = records.len();
                records.retain(|srv| normal(&srv.target) != normal(target));
                before != records.len()
            }
        }
    }

    /// What the server answers to a question that reaches it.
    pub fn answer(&self, query: &Query) -> Answer {
        let records: Vec<Record> = match query {
            Query::Naptr(_) => Vec::new(),
            Query::Srv(name) => {
                let found = self.services.get(&normal(name));
                found.into_iter().flatten().cloned().map(Record::Srv).collect()
            }
            Query::Address(name) => {
                let found = self.addresses.get(&normal(name));
                found.into_iter().flatten().copied().map(Record::Address).collect()
            }
        };
        if records.is_empty() { Answer::None } else { Answer::Records(records) }
    }
}

/// Names compare without case and without the root's dot (RFC 4343).
fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
