//! The embedded authoritative name server: one zone, over UDP and TCP, editable while it answers.
//!
//! ```text
//!   question ──► Zone::find ──► records   NOERROR, and the addresses of SRV targets beside them
//!                               no data   NOERROR, empty, SOA
//!                               no name   NXDOMAIN, SOA
//!                               not ours  REFUSED: we are nobody's resolver
//! ```
//!
//! An answer that does not fit a datagram is cut to nothing with TC set, and the asker comes back over TCP
//! (RFC 2181 §9, RFC 7766). RFC 1035, RFC 2308, RFC 6891.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NAPTR, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::nic::{Listener, Nic, Stream};
use crate::udp;
use crate::zone::{Data, Found, Zone};

/// What a datagram may hold when the asker does not say (RFC 1035 §4.2.1), and what we believe at most.
const PLAIN_PAYLOAD: u16 = 512;
const LARGEST_PAYLOAD: u16 = 1_232;

/// How long an idle TCP connection is kept (RFC 7766 §6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// How many TCP connections are served at once.
const CONNECTIONS: usize = 256;

/// A running name server; dropping it stops it.
pub struct DnsServer {
    local: SocketAddr,
    zone: Arc<ArcSwap<Zone>>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    /// Serves `zone` at `address`, UDP and TCP. Port 0 finds one that is free for both.
    pub fn start(nic: &Nic, address: SocketAddr, zone: Zone) -> io::Result<DnsServer> {
        let (socket, listener) = bind_both(nic, address)?;
        let local = socket.local();
        let zone = Arc::new(ArcSwap::from_pointee(zone));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_datagrams(socket, zone.clone()));
        tasks.spawn(serve_connections(listener, zone.clone()));
        Ok(DnsServer { local, zone, _tasks: tasks })
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The zone as it is served now.
    pub fn zone(&self) -> Arc<Zone> {
        self.zone.load_full()
    }

    /// Changes the zone; the next answer is the new one.
    pub fn edit(&self, change: impl Fn(&mut Zone)) {
        self.zone.rcu(|zone| {
            let mut zone = Zone::clone(zone);
            change(&mut zone);
            zone
        });
    }
}

fn bind_both(nic: &Nic, address: SocketAddr) -> io::Result<(udp::Socket, Listener)> {
    let mut tries = if address.port() == 0 { 16 } else { 1 };
    loop {
        tries -= 1;
        let socket = udp::Socket::bind(nic, address)?;
        match nic.listen(socket.local()) {
            Ok(listener) => return Ok((socket, listener)),
            Err(why) if why.kind() == io::ErrorKind::AddrInUse && tries > 0 => continue,
            Err(why) => return Err(why),
        }
    }
}

async fn serve_datagrams(socket: udp::Socket, zone: Arc<ArcSwap<Zone>>) {
    let (mut batch, mut heard, mut answers) = (udp::Batch::default(), Vec::new(), Vec::new());
    while let Ok(()) = socket.receive(&mut batch, &mut heard).await {
        let zone = zone.load();
        for (from, question) in heard.drain(..) {
            answers.extend(answer(&zone, &question, true).map(|answer| (from, Bytes::from(answer))));
        }
        socket.send(&answers);
        answers.clear();
    }
}

async fn serve_connections(listener: Listener, zone: Arc<ArcSwap<Zone>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(stream) if connections.len() < CONNECTIONS => {
                connections.spawn(serve_connection(stream, zone.clone()));
            }
            Ok(_) => {}
            // Out of file descriptors, most likely: let some go before trying again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_connection(mut stream: Stream, zone: Arc<ArcSwap<Zone>>) {
    let mut question = Vec::new();
    while let Ok(Ok(length)) = timeout(IDLE, stream.read_u16()).await {
        question.resize(usize::from(length), 0);
        let Ok(Ok(_)) = timeout(IDLE, stream.read_exact(&mut question)).await else { return };
        let Some(answer) = answer(&zone.load_full(), &question, false) else { return };
        let mut framed = Vec::with_capacity(answer.len() + 2);
        framed.extend_from_slice(&(answer.len() as u16).to_be_bytes());
        framed.extend_from_slice(&answer);
        let Ok(Ok(())) = timeout(IDLE, stream.write_all(&framed)).await else { return };
    }
}

/// The answer to one question; none to what is not a question (answering answers makes loops).
fn answer(zone: &Zone, question: &[u8], datagram: bool) -> Option<Vec<u8>> {
    let Ok(question) = Message::from_vec(question) else {
        let id = u16::from_be_bytes([*question.first()?, *question.get(1)?]);
        let is_question = question.get(2)? & 0x80 == 0;
        let refusal = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
        return is_question.then(|| refusal.to_vec().ok()).flatten();
    };
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.add_queries(question.queries.iter().cloned());
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_PAYLOAD);
        answer.set_edns(edns);
    }
    fill(&mut answer, zone, &question);

    let payload = question.edns.as_ref().map_or(PLAIN_PAYLOAD, |edns| edns.max_payload());
    let room = usize::from(payload.clamp(PLAIN_PAYLOAD, LARGEST_PAYLOAD));
    let mut bytes = answer.to_vec().ok()?;
    if datagram && bytes.len() > room {
        answer.additionals.clear();
        bytes = answer.to_vec().ok()?;
    }
    if datagram && bytes.len() > room {
        bytes = answer.truncate().to_vec().ok()?;
    }
    Some(bytes)
}

fn fill(answer: &mut Message, zone: &Zone, question: &Message) {
    if question.metadata.op_code != OpCode::Query {
        answer.metadata.response_code = ResponseCode::NotImp;
        return;
    }
    let [query] = question.queries.as_slice() else {
        answer.metadata.response_code = ResponseCode::FormErr;
        return;
    };
    let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let kind = query.query_type().to_string();
    let origin = zone.origin_of(&name).map(str::to_owned);
    if kind == "SOA" && zone.origins().contains(&name) {
        answer.metadata.authoritative = true;
        answer.answers.extend(soa(zone, &name));
        return;
    }
    match zone.find(&name, &kind) {
        Found::Records(found) => {
            answer.metadata.authoritative = true;
            for data in found {
                // The name goes back in the asker's own spelling (0x20 mixing).
                answer.answers.extend(record(zone, query.name(), data));
                if let Data::Srv { target, .. } | Data::NameServer(target) = data {
                    answer.additionals.extend(addresses(zone, target));
                }
            }
            return;
        }
        Found::NoData => {}
        Found::NoName => answer.metadata.response_code = ResponseCode::NXDomain,
        Found::NotOurs => {
            answer.metadata.response_code = ResponseCode::Refused;
            return;
        }
    }
    answer.metadata.authoritative = true;
    answer.authorities.extend(origin.and_then(|origin| soa(zone, &origin)));
}

fn addresses(zone: &Zone, target: &str) -> Vec<Record> {
    let Ok(name) = Name::from_ascii(format!("{target}.")) else { return Vec::new() };
    ["A", "AAAA"]
        .iter()
        .flat_map(|kind| match zone.find(target, kind) {
            Found::Records(found) => found,
            _ => Vec::new(),
        })
        .filter_map(|data| record(zone, &name, data))
        .collect()
}

fn record(zone: &Zone, name: &Name, data: &Data) -> Option<Record> {
    let absolute = |name: &str| Name::from_ascii(format!("{name}.")).ok();
    let data = match data {
        Data::Address(std::net::IpAddr::V4(address)) => RData::A(A(*address)),
        Data::Address(std::net::IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
        Data::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, absolute(target)?))
        }
        Data::Naptr { order, preference, flags, service, replacement } => RData::NAPTR(NAPTR::new(
            *order,
            *preference,
            flags.as_bytes().into(),
            service.as_bytes().into(),
            Box::default(),
            absolute(replacement)?,
        )),
        Data::NameServer(name) => RData::NS(NS(absolute(name)?)),
    };
    Some(Record::from_rdata(name.clone(), zone.ttl_s(), data))
}

fn soa(zone: &Zone, origin: &str) -> Option<Record> {
    let name = |prefix: &str| Name::from_ascii(format!("{prefix}{origin}.")).ok();
    let soa = SOA::new(name("ns.")?, name("hostmaster.")?, zone.serial(), 3_600, 600, 86_400, zone.ttl_s());
    Some(Record::from_rdata(name("")?, zone.ttl_s(), RData::SOA(soa)))
}
