//! A DNS zone as plain records: built from the topology, edited while it is served, printed for others.
//!
//! The names are kept absolute, lower case and without the final dot. Not here: the wire format and the
//! sockets (`dns_server`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use resilience::topology::Topology;

/// What a name stands for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// Which host and port offer a service (RFC 2782).
    Srv {
        /// Lowest is tried first.
        priority: u16,
        /// Share among those of equal priority.
        weight: u16,
        /// Where the service listens.
        port: u16,
        /// The host that offers it.
        target: String,
    },
    /// Which transports a domain offers, and in which order (RFC 3263 §4.1, RFC 3403).
    Naptr {
        /// Lowest first, strictly.
        order: u16,
        /// Lowest first, as a wish.
        preference: u16,
        /// `S`: an SRV look-up of `replacement` follows.
        flags: String,
        /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
        service: String,
        /// The name to look up next.
        replacement: String,
    },
    /// A name server of the zone.
    NameServer(String),
}

impl Data {
    /// The record type, as in a zone file.
    pub fn kind(&self) -> &'static str {
        match self {
            Data::Address(IpAddr::V4(_)) => "A",
            Data::Address(IpAddr::V6(_)) => "AAAA",
            Data::Srv { .. } => "SRV",
            Data::Naptr { .. } => "NAPTR",
            Data::NameServer(_) => "NS",
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Address(address) => write!(f, "{address}"),
            Data::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}."),
            Data::Naptr { order, preference, flags, service, replacement } => {
                write!(f, "{order} {preference} \"{flags}\" \"{service}\" \"\" {replacement}.")
            }
            Data::NameServer(name) => write!(f, "{name}."),
        }
    }
}

/// The records we are the authority for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    /// The domains we answer for; everything else is refused.
    origins: Vec<String>,
    /// How long answers may be kept. Short: a failover must not wait for somebody's cache.
    ttl_s: u32,
    /// Grows with every edit.
    serial: u32,
    records: BTreeMap<String, Vec<Data>>,
}

/// What a zone says to one question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found<'z> {
    /// These records.
    Records(Vec<&'z Data>),
    /// The name exists, but not with this type.
    NoData,
    /// No such name.
    NoName,
    /// Not our domain.
    NotOurs,
}

impl Zone {
    /// An empty zone for one domain.
    pub fn new(origin: &str) -> Zone {
        Zone { origins: vec![tidy(origin)], ttl_s: 5, serial: 1, records: BTreeMap::new() }
    }

    /// The zone of a deployment: an authority for its SIP domains and for the domains its pools and servers are
    /// named in; pools and servers with their addresses (a pool has those of all its servers), and the SRV records
    /// the topology publishes, no others.
    pub fn from_topology(topology: &Topology) -> Zone {
        let mut zone = Zone {
            origins: Vec::new(),
            ttl_s: 5,
            serial: topology.version.max(1) as u32,
            records: BTreeMap::new(),
        };
        for domain in &topology.domains {
            zone.add_origin(domain);
        }
        for pool in &topology.pools {
            zone.add_parent_of(&pool.name);
            for server in &pool.servers {
                zone.add_parent_of(&server.name);
                zone.add(&pool.name, Data::Address(server.address));
                zone.add(&server.name, Data::Address(server.address));
            }
        }
        for srv in &topology.srv {
            zone.add_parent_of(&srv.domain);
            zone.add(
                &srv.name(),
                Data::Srv {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: tidy(&srv.target),
                },
            );
        }
        zone
    }

    /// Names the host that serves this zone: `ns.` of each domain, at `address`.
    pub fn set_name_server(&mut self, address: IpAddr) {
        for origin in self.origins.clone() {
            let name = format!("ns.{origin}");
            self.add(&origin, Data::NameServer(name.clone()));
            self.remove(&name, |_| true);
            self.add(&name, Data::Address(address));
        }
    }

    /// Makes us the authority for the domain that `name` is in, unless we are already.
    fn add_parent_of(&mut self, name: &str) {
        let name = tidy(name);
        if self.origin_of(&name).is_none() {
            let parent = name.split_once('.').map_or(name.as_str(), |(_, parent)| parent);
            self.add_origin(parent);
        }
    }

    /// Answers for `origin` too.
    pub fn add_origin(&mut self, origin: &str) {
        let origin = tidy(origin);
        if !self.origins.contains(&origin) {
            self.origins.push(origin);
        }
    }

    /// How long answers may be kept.
    pub fn set_ttl_s(&mut self, ttl_s: u32) {
        self.ttl_s = ttl_s;
    }

    /// How long answers may be kept, in seconds.
    pub fn ttl_s(&self) -> u32 {
        self.ttl_s
    }

    /// The number of this edition.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// The domains we answer for.
    pub fn origins(&self) -> &[String] {
        &self.origins
    }

    /// Adds a record; adding it twice changes nothing.
    pub fn add(&mut self, name: &str, data: Data) {
        let records = self.records.entry(tidy(name)).or_default();
        if !records.contains(&data) {
            records.push(data);
            self.serial = self.serial.wrapping_add(1);
        }
    }

    /// Takes the records of `name` out that `which` points at; tells how many.
    pub fn remove(&mut self, name: &str, which: impl Fn(&Data) -> bool) -> usize {
        let name = tidy(name);
        let Some(records) = self.records.get_mut(&name) else {
            return 0;
        };
        let before = records.len();
        records.retain(|data| !which(data));
        let gone = before - records.len();
        if records.is_empty() {
            self.records.remove(&name);
        }
        self.serial = self.serial.wrapping_add(u32::from(gone > 0));
        gone
    }

    /// All records, by name.
    pub fn records(&self) -> impl Iterator<Item = (&str, &Data)> {
        self.records.iter().flat_map(|(name, records)| records.iter().map(move |data| (name.as_str(), data)))
    }

    /// The domain of ours that `name` lies in: the longest, if several.
    pub fn origin_of(&self, name: &str) -> Option<&str> {
        let inside = |origin: &&String| {
            name.strip_suffix(origin.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.origins.iter().filter(inside).max_by_key(|origin| origin.len()).map(String::as_str)
    }

    /// Looks a question up. `kind` is the type as in a zone file, or `ANY`.
    pub fn find(&self, name: &str, kind: &str) -> Found<'_> {
        let name = tidy(name);
        if self.origin_of(&name).is_none() {
            return Found::NotOurs;
        }
        match self.records.get(&name) {
            Some(records) => {
                let found: Vec<&Data> =
                    records.iter().filter(|data| kind == "ANY" || data.kind() == kind).collect();
                if found.is_empty() { Found::NoData } else { Found::Records(found) }
            }
            // `_tcp.example.test` exists if `_sip._tcp.example.test` does (RFC 8020).
            None if self.origins.contains(&name) => Found::NoData,
            None if self.records.keys().any(|other| is_below(other, &name)) => Found::NoData,
            None => Found::NoName,
        }
    }

    /// The zone as a file (RFC 1035 §5). A name server loads it as it is if the zone names one
    /// ([`Zone::set_name_server`]); otherwise it has no SOA and is to be included in a zone that has.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let width = self.records.keys().map(|name| name.len() + 1).max().unwrap_or(0);
        for origin in &self.origins {
            text.push_str(&format!("$ORIGIN {origin}.\n$TTL {}\n", self.ttl_s));
            if self.find(origin, "NS") == Found::NoData {
                text.push_str(&format!("; Put `$INCLUDE` and this file's name into your zone {origin}.\n"));
            } else {
                text.push_str(&format!(
                    "{:width$} IN SOA   ns.{origin}. hostmaster.{origin}. {} 3600 600 86400 {}\n",
                    format!("{origin}."),
                    self.serial,
                    self.ttl_s
                ));
            }
            for (name, data) in self.records().filter(|(name, _)| self.origin_of(name) == Some(origin)) {
                text.push_str(&format!("{:width$} IN {:5} {data}\n", format!("{name}."), data.kind()));
            }
        }
        text
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

fn tidy(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, target: &str) -> Data {
        Data::Srv { priority, weight: 1, port: 5061, target: target.into() }
    }

    #[test]
    fn a_question_has_records_no_data_no_name_or_is_not_ours() {
        let mut zone = Zone::new("Example.test.");
        zone.add("_sip._tcp.example.test", srv(0, "fe1.example.test"));
        zone.add("fe1.example.test", Data::Address([127, 1, 0, 1].into()));
        assert_eq!(
            zone.find("FE1.example.test.", "A"),
            Found::Records(vec![&Data::Address([127, 1, 0, 1].into())])
        );
        assert_eq!(zone.find("fe1.example.test", "AAAA"), Found::NoData);
        assert_eq!(zone.find("_tcp.example.test", "SRV"), Found::NoData);
        assert_eq!(zone.find("example.test", "SRV"), Found::NoData);
        assert_eq!(zone.find("fe2.example.test", "A"), Found::NoName);
        assert_eq!(zone.find("badexample.test", "A"), Found::NotOurs);
    }

    #[test]
    fn records_come_and_go_and_the_serial_tells() {
        let mut zone = Zone::new("example.test");
        zone.add("_sip._tcp.example.test", srv(0, "fe1.example.test"));
        let serial = zone.serial();
        zone.add("_sip._tcp.example.test", srv(10, "fe2.example.test"));
        assert!(zone.serial() > serial);
        assert_eq!(zone.remove("_sip._tcp.example.test", |data| *data == srv(10, "fe2.example.test")), 1);
        assert_eq!(zone.remove("_sip._tcp.example.test", |_| true), 1);
        assert_eq!(zone.find("_sip._tcp.example.test", "SRV"), Found::NoName);
    }

    #[test]
    fn a_topology_becomes_addresses_and_the_published_srv_records() {
        let topology = resilience::topology::examples::two_sites();
        let zone = Zone::from_topology(&topology);
        for pool in &topology.pools {
            let addresses: Vec<Data> =
                pool.servers.iter().map(|server| Data::Address(server.address)).collect();
            assert_eq!(zone.find(&pool.name, "A"), Found::Records(addresses.iter().collect()));
        }
        let published = zone.records().filter(|(_, data)| data.kind() == "SRV").count();
        assert!(published > 0 && published == topology.srv.len());
    }

    #[test]
    fn the_text_is_a_zone_file() {
        let mut zone = Zone::new("example.test");
        zone.add("example.test", Data::NameServer("ns.example.test".into()));
        zone.add("_sip._tcp.example.test", srv(0, "fe1.example.test"));
        assert_eq!(
            zone.to_text(),
            "$ORIGIN example.test.\n$TTL 5\n\
             example.test.           IN SOA   ns.example.test. hostmaster.example.test. 3 3600 600 86400 5\n\
             _sip._tcp.example.test. IN SRV   0 1 5061 fe1.example.test.\n\
             example.test.           IN NS    ns.example.test.\n"
        );
    }
}
