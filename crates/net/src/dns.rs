//! Asks real name servers, and returns plain records.
//!
//! Nothing is cached: a client whose pool has just died asks again to learn about the other site, and a
//! cache would tell it the old story. A dead name server costs at most [`PATIENCE`]; the servers are
//! asked side by side, so one dead among several costs nothing.
//!
//! RFC 1034 §5, RFC 3263 §4. Not here: what to ask next (`sip::locate`, `endpoint::discovery`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use sip::locate::{Answer, DnsFailure, Naptr, Query, Record, Srv};
use tokio::time::timeout;

use crate::nic::Nic;

/// The longest a question may take, all name servers and repetitions together.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// One host's resolver. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    nic: Nic,
    inner: TokioResolver,
}

/// Why there is no resolver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolverError(String);

impl std::fmt::Display for ResolverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no name servers to ask: {}; name one, or check /etc/resolv.conf", self.0)
    }
}

impl std::error::Error for ResolverError {}

impl Resolver {
    /// Asks these name servers, from address `local` if given.
    pub fn new(servers: &[SocketAddr], local: Option<IpAddr>, nic: Nic) -> Result<Resolver, ResolverError> {
        let servers = servers.iter().map(|server| name_server(*server, local)).collect();
        Resolver::build(ResolverConfig::from_name_servers(servers), ResolveHosts::Never, nic)
    }

    /// Asks whom the system asks, its hosts file included.
    pub fn system(nic: Nic) -> Result<Resolver, ResolverError> {
        let (config, _) = hickory_resolver::system_conf::read_system_conf()
            .map_err(|why| ResolverError(why.to_string()))?;
        Resolver::build(config, ResolveHosts::Auto, nic)
    }

    fn build(config: ResolverConfig, hosts: ResolveHosts, nic: Nic) -> Result<Resolver, ResolverError> {
        if config.name_servers().is_empty() {
            return Err(ResolverError("none is configured".into()));
        }
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        *options = ResolverOpts::default();
        options.timeout = Duration::from_millis(900);
        options.attempts = 1;
        options.num_concurrent_reqs = 4;
        options.use_hosts_file = hosts;
        options.cache_size = 0;
        options.positive_max_ttl = Some(Duration::ZERO);
        options.negative_max_ttl = Some(Duration::ZERO);
        let inner = builder.build().map_err(|why| ResolverError(why.to_string()))?;
        Ok(Resolver { nic, inner })
    }

    /// One question, answered within [`PATIENCE`], also while the host's cable is out.
    pub async fn ask(&self, query: &Query) -> Answer {
        let Ok(name) = Name::from_ascii(format!("{}.", query.name().trim_end_matches('.'))) else {
            return Answer::Failed(DnsFailure::Malformed);
        };
        let asked = async {
            // A question sent while the cable is out would be repeated by nobody once it is back.
            self.nic.until_up().await;
            let answer = match query {
                Query::Naptr(_) => self.one(name, RecordType::NAPTR).await,
                Query::Srv(_) => self.one(name, RecordType::SRV).await,
                Query::Address(_) => {
                    let (v4, v6) = tokio::join!(
                        self.one(name.clone(), RecordType::A),
                        self.one(name.clone(), RecordType::AAAA)
                    );
                    both(v4, v6)
                }
            };
            self.nic.until_up().await;
            answer
        };
        timeout(PATIENCE, asked).await.unwrap_or(Answer::Failed(DnsFailure::TimedOut))
    }

    async fn one(&self, name: Name, kind: RecordType) -> Answer {
        match self.inner.lookup(name, kind).await {
            Ok(found) => records(&found, kind),
            Err(why) => failure(&why),
        }
    }
}

fn name_server(server: SocketAddr, local: Option<IpAddr>) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection.bind_addr =
            local.filter(|local| local.is_ipv4() == server.is_ipv4()).map(|local| SocketAddr::new(local, 0));
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

fn records(found: &Lookup, kind: RecordType) -> Answer {
    let plain = |name: &Name| match name.is_root() {
        true => ".".to_owned(),
        false => name.to_ascii().trim_end_matches('.').to_owned(),
    };
    // A CNAME on the way is in the answer too; only what was asked for counts.
    let wanted = found.answers().iter().filter(|record| record.record_type() == kind);
    let records: Vec<Record> = wanted
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(Record::Address(IpAddr::V4(address.0))),
            RData::AAAA(address) => Some(Record::Address(IpAddr::V6(address.0))),
            RData::SRV(srv) => Some(Record::Srv(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: plain(&srv.target),
            })),
            RData::NAPTR(naptr) => Some(Record::Naptr(Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                service: String::from_utf8_lossy(&naptr.services).into_owned(),
                replacement: plain(&naptr.replacement),
            })),
            _ => None,
        })
        .collect();
    if records.is_empty() { Answer::None } else { Answer::Records(records) }
}

/// A and AAAA as one answer: records of either are enough; a failure counts only if neither has any.
fn both(v4: Answer, v6: Answer) -> Answer {
    match (v4, v6) {
        (Answer::Records(mut v4), Answer::Records(v6)) => {
            v4.extend(v6);
            Answer::Records(v4)
        }
        (Answer::Records(records), _) | (_, Answer::Records(records)) => Answer::Records(records),
        (Answer::Failed(why), _) | (_, Answer::Failed(why)) => Answer::Failed(why),
        (Answer::None, Answer::None) => Answer::None,
    }
}

fn failure(why: &NetError) -> Answer {
    match why {
        NetError::Dns(DnsError::NoRecordsFound(_)) => Answer::None,
        NetError::Dns(_) => Answer::Failed(DnsFailure::Refused),
        NetError::Proto(_) => Answer::Failed(DnsFailure::Malformed),
        // Timeouts, unreachable servers, "no connections": nobody answered.
        _ => Answer::Failed(DnsFailure::TimedOut),
    }
}
