//! Topologies to start from, in tests, in the simulator and in the lab.

use std::net::{IpAddr, Ipv4Addr};

use super::{Pool, ServerEntry, Site, SrvRecord, Topology};
use crate::profile::{Profile, Timers};

/// The first site of the examples.
pub const SITE1: &str = "site1";
/// The second site of the examples.
pub const SITE2: &str = "site2";
/// The pool of the first site, and its only server.
pub const FE1: &str = "fe1.example.test";
/// The pool of the second site, and its only server.
pub const FE2: &str = "fe2.example.test";
/// The SIP domain of the examples.
pub const DOMAIN: &str = "example.test";
/// The service that the examples publish.
pub const SERVICE: &str = "_sipinternaltls._tcp";

/// The classic experiment: two sites, one pool of one server in each, each the other's backup, a single SRV record
/// that points at the first, and the intervals of the experiment (30 s and 40 s) in profile `lync2010`.
///
/// [`check`](super::check()) finds no error in it, and warns of the single SRV record, as it should.
pub fn two_sites() -> Topology {
    Topology {
        version: 1,
        profile: Profile::Lync2010,
        domains: vec![DOMAIN.to_owned()],
        sites: vec![Site { name: SITE1.into() }, Site { name: SITE2.into() }],
        pools: vec![
            Pool::registrar(FE1, SITE1).with(ServerEntry::new(FE1, host(1, 1))).backed_up_by(FE2),
            Pool::registrar(FE2, SITE2).with(ServerEntry::new(FE2, host(2, 1))).backed_up_by(FE1),
        ],
        srv: vec![SrvRecord::new(SERVICE, DOMAIN, 0, 5061, FE1)],
        timers: Timers::of(Profile::Lync2010),
        trunks: Vec::new(),
    }
}

/// [`two_sites`] as we would set it up ourselves: profile `rehome`, its intervals, and a second SRV record.
pub fn two_sites_rehome() -> Topology {
    let mut topology = two_sites();
    topology.profile = Profile::Rehome;
    topology.timers = Timers::of(Profile::Rehome);
    topology.srv.push(SrvRecord::new(SERVICE, DOMAIN, 10, 5061, FE2));
    topology
}

/// [`two_sites`] with a pool of three servers (`a`, `b`, `c`) in each site, named `pool1` and `pool2`.
pub fn two_sites_of_three() -> Topology {
    let mut topology = two_sites();
    topology.pools = [(1, SITE1, 2), (2, SITE2, 1)]
        .into_iter()
        .map(|(number, site, backup)| {
            let pool = Pool::registrar(&format!("pool{number}.{DOMAIN}"), site)
                .backed_up_by(&format!("pool{backup}.{DOMAIN}"));
            ["a", "b", "c"].into_iter().zip(1..).fold(pool, |pool, (letter, last)| {
                pool.with(ServerEntry::new(&format!("{letter}{number}.{DOMAIN}"), host(number, last)))
            })
        })
        .collect();
    topology.srv = vec![SrvRecord::new(SERVICE, DOMAIN, 0, 5061, &format!("pool1.{DOMAIN}"))];
    topology
}

/// `127.SITE.0.LAST`: the examples live on loopback, a second octet for each site.
fn host(site: u8, last: u8) -> IpAddr {
    Ipv4Addr::new(127, site, 0, last).into()
}
