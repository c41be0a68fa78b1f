//! A whole server on real sockets: what its clients see, and how its troubles are told.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use net::certificates::{Authority, Material};
use net::clock::Tempo;
use net::disk::Durability;
use net::dns::Resolver;
use net::dns_server::DnsServer;
use net::drive_endpoint::{EndpointHost, Options as ClientOptions, Said};
use net::drive_server::{ListenTrouble, Options, ServerHost, StartError};
use net::nic::Nic;
use net::stream::Limits;
use net::tls::{Names, Tls};
use net::zone::Zone;
use resilience::profile::{Profile, Timers};
use resilience::topology::{Pool, ServerEntry, Site, SrvRecord, Topology};
use server::{Directory, User};
use sip::digest::{Algorithm, Asked, Challenge, Ha1, NonceKey, answer, strongest};
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::print::Builder;
use sip::transport::Transport;
use sip::uri::AddressOfRecord;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const DOMAIN: &str = "example.test";
const FE1: &str = "fe1.example.test";
const FE2: &str = "fe2.example.test";

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("waited 20 s for {what}"))
}

/// A port that was free on `ip` a moment ago, for TCP and UDP: two servers must know each other's before they start.
fn free_port(ip: &str) -> u16 {
    let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn entry(name: &str, ip: &str, ports: [u16; 3]) -> ServerEntry {
    let [udp, tcp, tls] = ports.map(Some);
    ServerEntry { name: name.into(), address: ip.parse().unwrap(), udp, tcp, tls }
}

/// One pool of one server, on ports that the system chooses.
fn one_pool(ip: &str) -> Topology {
    Topology {
        version: 1,
        profile: Profile::Rehome,
        domains: vec![DOMAIN.into()],
        sites: vec![Site { name: "site1".into() }],
        pools: vec![Pool::registrar(FE1, "site1").with(entry(FE1, ip, [0, 0, 0]))],
        timers: Timers::of(Profile::Rehome),
        ..Topology::default()
    }
}

fn aor(user: &str) -> AddressOfRecord {
    format!("sip:{user}@{DOMAIN}").parse().unwrap()
}

/// Users whose password is their name.
fn directory(users: &[(&str, &str)]) -> Directory {
    let user = |(name, home): &(&str, &str)| {
        let hash = |algorithm| Ha1::of(algorithm, name, DOMAIN, name);
        let (ha1_md5, ha1_sha256) = (hash(Algorithm::Md5), hash(Algorithm::Sha256));
        (aor(name), User { home: (*home).into(), enabled: true, number: None, ha1_md5, ha1_sha256 })
    };
    Directory { version: 1, users: users.iter().map(user).collect() }
}

fn options(topology: &Topology, server: &str, data: &Path, certificates: Option<Material>) -> Options {
    let users = directory(&[("alice", FE1), ("bob", FE2), ("carol", FE1)]);
    let key = NonceKey::new([7; 32]);
    let mut options = Options::new(Arc::new(topology.clone()), Arc::new(users), server.into(), data, key);
    options.certificates = certificates;
    options.name_servers = vec!["127.1.5.250:9".parse().unwrap()];
    options
}

struct Lab {
    authority: Authority,
    data: TempDir,
}

impl Lab {
    fn new() -> Lab {
        Lab { authority: Authority::new("lab").unwrap(), data: tempfile::tempdir().unwrap() }
    }

    fn options(&self, topology: &Topology, server: &str) -> Options {
        let material = self.authority.material(&[server, DOMAIN]).unwrap();
        options(topology, server, &self.data.path().join(server), Some(material))
    }

    async fn start(&self, ip: &str) -> ServerHost {
        ServerHost::start(self.options(&one_pool(ip), FE1)).await.unwrap()
    }
}

//------------ A phone written by hand ---------------------------------------

/// A REGISTER of `user`, or an answer to the challenge in `challenged`.
fn register(user: &str, local: SocketAddr, transport: Transport, challenged: Option<&Message>) -> Vec<u8> {
    let uri = format!("sip:{DOMAIN}");
    let authorization = challenged.map(|response| {
        let challenges: Vec<Challenge> =
            response.headers(HeaderName::WwwAuthenticate).flat_map(Challenge::parse_all).collect();
        let challenge = strongest(&challenges).expect("a challenge we can answer");
        let asked = Asked { method: "REGISTER", uri: &uri, body: b"" };
        let proof = answer(challenge, user, &challenge.ha1(user, user), &asked, 1, "c0ffee");
        format!("Authorization: {proof}\r\n")
    });
    let cseq = 1 + u32::from(challenged.is_some());
    format!(
        "REGISTER {uri} SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {local};rport;branch=z9hG4bK{user}{cseq}\r\n\
         From: <sip:{user}@{DOMAIN}>;tag=1\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
         Call-ID: {user}@{local}\r\nCSeq: {cseq} REGISTER\r\nMax-Forwards: 70\r\n\
         Contact: <sip:{user}@{local};transport={}>\r\nExpires: 600\r\n{}Content-Length: 0\r\n\r\n",
        transport.name().to_ascii_lowercase(),
        authorization.unwrap_or_default(),
    )
    .into_bytes()
}

/// The next message on a stream; panics if it ends first.
async fn next_message(stream: &mut (impl AsyncRead + Unpin)) -> Message {
    let mut framer = sip::transport::Framer::default();
    loop {
        let mut bytes = [0; 4_096];
        let read = soon("an answer", stream.read(&mut bytes)).await.unwrap();
        assert!(read > 0, "the connection ended before the answer");
        framer.push(&bytes[..read]);
        if let Some(sip::transport::Frame::Message(bytes)) = framer.next().unwrap() {
            return Message::parse(bytes).unwrap();
        }
    }
}

async fn register_on_stream(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: &str,
    local: SocketAddr,
    transport: Transport,
) -> Message {
    stream.write_all(&register(user, local, transport, None)).await.unwrap();
    let challenge = next_message(stream).await;
    assert_eq!(challenge.status(), Some(401));
    stream.write_all(&register(user, local, transport, Some(&challenge))).await.unwrap();
    next_message(stream).await
}

async fn register_by_datagram(socket: &UdpSocket, server: SocketAddr, user: &str) -> Message {
    let local = socket.local_addr().unwrap();
    let mut challenged = None;
    loop {
        socket.send_to(&register(user, local, Transport::Udp, challenged.as_ref()), server).await.unwrap();
        let mut bytes = vec![0; 65_535];
        let (length, from) = soon("an answer", socket.recv_from(&mut bytes)).await.unwrap();
        assert_eq!(from, server);
        bytes.truncate(length);
        let response = Message::parse(bytes.into()).unwrap();
        if response.status() != Some(401) || challenged.is_some() {
            return response;
        }
        challenged = Some(response);
    }
}

async fn bindings(host: &ServerHost) -> usize {
    host.views().await.iter().map(|view| view.bindings).sum()
}

async fn trusting(
    lab: &Lab,
    address: SocketAddr,
    name: &str,
) -> (SocketAddr, impl AsyncRead + AsyncWrite + Unpin) {
    let tls = Tls::new(&lab.authority.belief(), Names::Strict).unwrap();
    let stream = soon("a connection", Nic::new().connect(None, address)).await.unwrap();
    let local = stream.local();
    (local, soon("a handshake", tls.connect(stream, name)).await.unwrap().0)
}

/// A MESSAGE, or an answer to the challenge in `challenged`.
fn message(from: &str, to: &str, local: SocketAddr, challenged: Option<&Message>) -> Vec<u8> {
    let uri = format!("sip:{to}@{DOMAIN}");
    let authorization = challenged.map(|response| {
        let (asks, answers) = match response.status() {
            Some(407) => (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
            _ => (HeaderName::WwwAuthenticate, "Authorization"),
        };
        let challenges: Vec<Challenge> = response.headers(asks).flat_map(Challenge::parse_all).collect();
        let challenge = strongest(&challenges).expect("a challenge we can answer");
        let asked = Asked { method: "MESSAGE", uri: &uri, body: b"hello" };
        let proof = answer(challenge, from, &challenge.ha1(from, from), &asked, 1, "c0ffee");
        format!("{answers}: {proof}\r\n")
    });
    let cseq = 1 + u32::from(challenged.is_some());
    format!(
        "MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bKm{from}{cseq}\r\n\
         From: <sip:{from}@{DOMAIN}>;tag=2\r\nTo: <{uri}>\r\nCall-ID: m-{from}@{local}\r\n\
         CSeq: {cseq} MESSAGE\r\nMax-Forwards: 70\r\n{}Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        authorization.unwrap_or_default(),
    )
    .into_bytes()
}

async fn next_datagram(socket: &UdpSocket) -> (Message, SocketAddr) {
    let mut bytes = vec![0; 65_535];
    let (length, from) = soon("a datagram", socket.recv_from(&mut bytes)).await.unwrap();
    bytes.truncate(length);
    (Message::parse(bytes.into()).unwrap(), from)
}

//------------ Registering ---------------------------------------------------

#[tokio::test]
async fn users_register_over_udp_tcp_and_tls_whichever_shard_they_belong_to() {
    let lab = Lab::new();
    let mut options = lab.options(&one_pool("127.1.5.1"), FE1);
    options.shards = 3;
    let host = ServerHost::start(options).await.unwrap();
    let at = |transport| host.address(transport).unwrap();

    let phone = UdpSocket::bind("127.3.5.1:0").await.unwrap();
    assert_eq!(register_by_datagram(&phone, at(Transport::Udp), "alice").await.status(), Some(200));
    let mut phone = TcpStream::connect(at(Transport::Tcp)).await.unwrap();
    let local = phone.local_addr().unwrap();
    let answer = register_on_stream(&mut phone, "carol", local, Transport::Tcp).await;
    assert_eq!(answer.status(), Some(200));
    let (local, mut phone) = trusting(&lab, at(Transport::Tls), DOMAIN).await;
    let answer = register_on_stream(&mut phone, "alice", local, Transport::Tls).await;
    assert_eq!(answer.status(), Some(200));

    assert_eq!(bindings(&host).await, 3);
    let explained = host.explain(&aor("alice")).await.unwrap();
    assert_eq!(explained.bindings.len(), 2);
    assert_eq!(host.stop().await, 0);
}

#[tokio::test]
async fn a_message_finds_a_user_of_another_shard_and_its_answer_the_shard_that_asked() {
    let (alice, carol) = (aor("alice").hash64(), aor("carol").hash64());
    // So many shards that they are in different ones, and the callee not in the one answers go to by default.
    let shards = (2..64).find(|n| alice % n != carol % n && carol % n != 0).unwrap();
    let lab = Lab::new();
    let mut options = lab.options(&one_pool("127.1.5.8"), FE1);
    options.shards = shards as usize;
    let host = ServerHost::start(options).await.unwrap();
    let server = host.address(Transport::Udp).unwrap();
    let caller = UdpSocket::bind("127.3.5.8:0").await.unwrap();
    let callee = UdpSocket::bind("127.3.5.9:0").await.unwrap();
    assert_eq!(register_by_datagram(&caller, server, "alice").await.status(), Some(200));
    assert_eq!(register_by_datagram(&callee, server, "carol").await.status(), Some(200));

    let local = caller.local_addr().unwrap();
    caller.send_to(&message("alice", "carol", local, None), server).await.unwrap();
    let mut challenged = next_datagram(&caller).await.0;
    if challenged.status() == Some(100) {
        challenged = next_datagram(&caller).await.0;
    }
    caller.send_to(&message("alice", "carol", local, Some(&challenged)), server).await.unwrap();
    let (asked, from) = next_datagram(&callee).await;
    assert_eq!((asked.body(), from), (&b"hello"[..], server));
    let ok = Builder::response(&asked, 200, "OK").to_tag("c").finish();
    callee.send_to(&ok, from).await.unwrap();
    let mut answered = next_datagram(&caller).await.0;
    while answered.status() == Some(100) {
        answered = next_datagram(&caller).await.0;
    }
    assert_eq!(answered.status(), Some(200));
}

#[tokio::test]
async fn a_call_by_number_and_its_ack_find_the_shard_of_the_user_they_do_not_name() {
    const NUMBER: &str = "+498912345";
    let (caller, callee) =
        (UdpSocket::bind("127.3.5.10:0").await.unwrap(), UdpSocket::bind("127.3.5.11:0").await.unwrap());
    let (local, remote) = (caller.local_addr().unwrap(), callee.local_addr().unwrap());
    let shard_key = |uri: &str| uri.parse::<AddressOfRecord>().unwrap().hash64();
    let owner = aor("carol").hash64();
    let wrong = [shard_key(&format!("sip:{NUMBER}@{DOMAIN}")), shard_key(&format!("sip:carol@{remote}"))];
    // So many shards that neither the number nor the Contact leads to the one that has the user.
    let shards = (2..64).find(|n| wrong.iter().all(|key| key % n != owner % n)).unwrap();
    let lab = Lab::new();
    let mut options = lab.options(&one_pool("127.1.5.10"), FE1);
    options.shards = shards as usize;
    let mut directory = (*options.directory).clone();
    directory.users.get_mut(&aor("carol")).unwrap().number = Some(NUMBER.into());
    options.directory = directory.into();
    let host = ServerHost::start(options).await.unwrap();
    let server = host.address(Transport::Udp).unwrap();
    assert_eq!(register_by_datagram(&callee, server, "carol").await.status(), Some(200));

    let uri = format!("sip:{NUMBER}@{DOMAIN}");
    let request = |method: &str, uri: &str, cseq: u32, to: &str, more: &str| {
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{method}{cseq}\r\n\
             From: <sip:alice@{DOMAIN}>;tag=a\r\nTo: {to}\r\nCall-ID: c-{local}\r\nCSeq: {cseq} {method}\r\n\
             Max-Forwards: 70\r\nContact: <sip:alice@{local}>\r\n{more}Content-Length: 0\r\n\r\n"
        )
    };
    let to = format!("<{uri}>");
    caller.send_to(request("INVITE", &uri, 1, &to, "").as_bytes(), server).await.unwrap();
    let challenged = next_datagram(&caller).await.0;
    assert_eq!(challenged.status(), Some(407));
    let to_refused = challenged.header(HeaderName::To).unwrap();
    caller.send_to(request("ACK", &uri, 1, to_refused, "").as_bytes(), server).await.unwrap();
    let challenges: Vec<Challenge> =
        challenged.headers(HeaderName::ProxyAuthenticate).flat_map(Challenge::parse_all).collect();
    let challenge = strongest(&challenges).unwrap();
    let asked = Asked { method: "INVITE", uri: &uri, body: b"" };
    let proof = answer(challenge, "alice", &challenge.ha1("alice", "alice"), &asked, 1, "c0ffee");
    let proof = format!("Proxy-Authorization: {proof}\r\n");
    caller.send_to(request("INVITE", &uri, 2, &to, &proof).as_bytes(), server).await.unwrap();
    let (invite, from) = next_datagram(&callee).await;
    assert_eq!(invite.method(), Method::Invite);
    let contact = format!("<sip:carol@{remote};transport=udp>");
    let ok = Builder::response(&invite, 200, "OK")
        .to_tag("c")
        .copied(&invite, HeaderName::RecordRoute)
        .header(HeaderName::Contact, &contact)
        .finish();
    callee.send_to(&ok, from).await.unwrap();
    let mut answered = next_datagram(&caller).await.0;
    while answered.status() == Some(100) {
        answered = next_datagram(&caller).await.0;
    }
    assert_eq!(answered.status(), Some(200));
    let route: String =
        answered.headers(HeaderName::RecordRoute).map(|route| format!("Route: {route}\r\n")).collect();
    let to = answered.header(HeaderName::To).unwrap();
    let ack = request("ACK", &format!("sip:carol@{remote};transport=udp"), 2, to, &route);
    caller.send_to(ack.as_bytes(), server).await.unwrap();
    loop {
        // The 200 is ours to repeat; an INVITE may come twice.
        let heard = next_datagram(&callee).await.0;
        if heard.method() == Method::Ack {
            break;
        }
    }
}

#[tokio::test]
async fn garbage_on_any_transport_harms_nobody_else() {
    let lab = Lab::new();
    let host = lab.start("127.1.5.2").await;
    let at = |transport| host.address(transport).unwrap();

    let vandal = UdpSocket::bind("127.3.5.2:0").await.unwrap();
    let oversized = vec![b'x'; 60_000];
    for garbage in
        [&b"\xff\xfe\0\0"[..], b"", b"\r\n\r\n", b"REGISTER", b"SIP/2.0 200 OK\r\n\r\n", &oversized]
    {
        vandal.send_to(garbage, at(Transport::Udp)).await.unwrap();
    }
    for garbage in
        ["\0\0\0\0", "GET / HTTP/1.1\r\n\r\n", "REGISTER sip:x SIP/2.0\r\nContent-Length: zero\r\n\r\n"]
    {
        let mut vandal = TcpStream::connect(at(Transport::Tcp)).await.unwrap();
        vandal.write_all(garbage.as_bytes()).await.unwrap();
        let (_, mut vandal) = trusting(&lab, at(Transport::Tls), FE1).await;
        vandal.write_all(garbage.as_bytes()).await.unwrap();
    }
    let mut vandal = TcpStream::connect(at(Transport::Tls)).await.unwrap();
    vandal.write_all(b"no handshake at all\r\n\r\n").await.unwrap();

    let phone = UdpSocket::bind("127.3.5.2:0").await.unwrap();
    assert_eq!(register_by_datagram(&phone, at(Transport::Udp), "alice").await.status(), Some(200));
}

#[tokio::test]
async fn a_ping_is_answered_on_streams_and_not_while_the_cable_is_out() {
    let lab = Lab::new();
    let host = lab.start("127.1.5.3").await;
    let mut phone = TcpStream::connect(host.address(Transport::Tcp).unwrap()).await.unwrap();
    let mut pong = [0; 2];
    phone.write_all(b"\r\n\r\n").await.unwrap();
    soon("a pong", phone.read_exact(&mut pong)).await.unwrap();
    assert_eq!(&pong, b"\r\n");

    host.nic().cut();
    phone.write_all(b"\r\n\r\n").await.unwrap();
    assert!(timeout(Duration::from_millis(300), phone.read_exact(&mut pong)).await.is_err());
    host.nic().restore();
    soon("the pong that was due", phone.read_exact(&mut pong)).await.unwrap();
}

//------------ Restarts ------------------------------------------------------

#[tokio::test]
async fn a_restart_keeps_bindings_and_a_kill_loses_the_write_behind_interval_at_most() {
    let lab = Lab::new();
    let topology = one_pool("127.1.5.4");
    let phone = UdpSocket::bind("127.3.5.4:0").await.unwrap();
    let start = async |durability| {
        let mut options = lab.options(&topology, FE1);
        options.durability = durability;
        ServerHost::start(options).await.unwrap()
    };
    let register = async |host: &ServerHost, user| {
        let answer = register_by_datagram(&phone, host.address(Transport::Udp).unwrap(), user).await;
        assert_eq!(answer.status(), Some(200));
    };
    let long = Durability::WriteBehind(Duration::from_secs(3_600));

    let host = start(long).await;
    register(&host, "alice").await;
    assert_eq!(host.stop().await, 0);

    let host = start(long).await;
    assert_eq!(bindings(&host).await, 1);
    register(&host, "carol").await;
    assert_eq!(bindings(&host).await, 2);
    host.kill();

    let host = start(Durability::Strict).await;
    assert_eq!(bindings(&host).await, 1);
    register(&host, "carol").await;
    host.kill();

    let host = start(long).await;
    assert_eq!(bindings(&host).await, 2);
}

#[tokio::test]
async fn a_server_that_is_stopped_gives_the_answers_that_waited_for_the_disk() {
    let lab = Lab::new();
    let mut options = lab.options(&one_pool("127.1.5.12"), FE1);
    options.durability = Durability::Strict;
    let host = ServerHost::start(options).await.unwrap();
    let server = host.address(Transport::Udp).unwrap();
    let phone = UdpSocket::bind("127.3.5.12:0").await.unwrap();
    let local = phone.local_addr().unwrap();
    let other = rusqlite::Connection::open(net::disk::store_path(&lab.data.path().join(FE1))).unwrap();
    phone.send_to(&register("alice", local, Transport::Udp, None), server).await.unwrap();
    let challenged = next_datagram(&phone).await.0;
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    phone.send_to(&register("alice", local, Transport::Udp, Some(&challenged)), server).await.unwrap();
    soon("the binding", async { while bindings(&host).await == 0 {} }).await;
    let stopping = tokio::spawn(host.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(next_datagram(&phone).await.0.status(), Some(200));
    assert_eq!(soon("the end", stopping).await.unwrap(), 0);
}

#[tokio::test]
async fn a_full_disk_refuses_registrations_and_says_so_until_there_is_room() {
    let lab = Lab::new();
    let mut options = lab.options(&one_pool("127.1.5.5"), FE1);
    options.durability = Durability::WriteBehind(Duration::from_millis(1));
    let host = ServerHost::start(options).await.unwrap();
    let udp = host.address(Transport::Udp).unwrap();
    let phone = UdpSocket::bind("127.3.5.5:0").await.unwrap();
    let mut events = host.events();
    let mut until = async |name: &str| {
        soon(name, async { while events.recv().await.unwrap().event.name() != name {} }).await;
    };

    let other = rusqlite::Connection::open(net::disk::store_path(&lab.data.path().join(FE1))).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(register_by_datagram(&phone, udp, "alice").await.status(), Some(200));
    until("store_lost").await;
    let refused = register_by_datagram(&phone, udp, "carol").await.status();
    assert!(refused.is_some_and(|status| status >= 500), "{refused:?}");
    other.execute_batch("COMMIT").unwrap();
    until("store_back").await;
    assert_eq!(register_by_datagram(&phone, udp, "carol").await.status(), Some(200));
    assert_eq!(host.stop().await, 0);
}

//------------ Starting ------------------------------------------------------

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_named_with_its_cure() {
    let lab = Lab::new();
    let fails = async |options| ServerHost::start(options).await.err().expect("it must not start");
    let topology = one_pool("127.1.5.6");

    let why = fails(lab.options(&topology, "fe9.example.test")).await;
    assert_eq!(why.to_string(), "the topology has no server fe9.example.test; it has fe1.example.test");

    let why = fails(options(&topology, FE1, lab.data.path(), None)).await;
    assert_eq!(why, StartError::NoCertificate(FE1.into()));

    let elsewhere = lab.authority.material(&["fe2.example.test"]).unwrap();
    let why = fails(options(&topology, FE1, lab.data.path(), Some(elsewhere))).await;
    assert!(why.to_string().contains("names fe2.example.test, but not fe1.example.test"), "{why}");

    let mut foreign = topology.clone();
    foreign.pools[0].servers[0].address = "192.0.2.1".parse().unwrap();
    match fails(lab.options(&foreign, FE1)).await {
        StartError::Listen { why: ListenTrouble::NotOurAddress, .. } => {}
        other => panic!("expected an address that is not ours, got {other}"),
    }

    let taken = std::net::TcpListener::bind("127.1.5.6:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut crowded = topology.clone();
    crowded.pools[0].servers[0].tcp = Some(port);
    let why = fails(lab.options(&crowded, FE1)).await.to_string();
    let us = format!("(pid {})", std::process::id());
    assert!(why.contains(&format!("TCP 127.1.5.6:{port}: in use by")) && why.contains(&us), "{why}");

    let taken = std::net::UdpSocket::bind("127.1.5.6:0").unwrap();
    crowded.pools[0].servers[0].tcp = Some(0);
    crowded.pools[0].servers[0].udp = Some(taken.local_addr().unwrap().port());
    let why = fails(lab.options(&crowded, FE1)).await.to_string();
    assert!(why.contains("in use by") && why.contains(&us), "{why}");
}

//------------ Two sites -----------------------------------------------------

/// Two pools that back each other up, with intervals of parts of a second.
fn two_sites(third: u8) -> Topology {
    let mut topology = one_pool("127.0.0.1");
    let (north, south) = (format!("127.1.{third}.1"), format!("127.2.{third}.1"));
    let ports = |ip: &str| [free_port(ip), free_port(ip), free_port(ip)];
    let (one, two) = (entry(FE1, &north, ports(&north)), entry(FE2, &south, ports(&south)));
    let srv = |priority, server: &ServerEntry| {
        SrvRecord::new("_sipinternaltls._tcp", DOMAIN, priority, server.tls.unwrap(), &server.name)
    };
    topology.srv = vec![srv(0, &one), srv(10, &two)];
    topology.sites.push(Site { name: "site2".into() });
    topology.pools = vec![
        Pool::registrar(FE1, "site1").with(one).backed_up_by(FE2),
        Pool::registrar(FE2, "site2").with(two).backed_up_by(FE1),
    ];
    topology.timers = Timers {
        heartbeat_interval: Duration::from_millis(100),
        failure_detection_interval: Duration::from_millis(800),
        failback_interval: Duration::from_millis(800),
        peer_dead_after: Duration::from_millis(500),
        keepalive_idle: Duration::from_millis(300),
        keepalive_doubt: Duration::from_millis(100),
        ..topology.timers
    };
    topology
}

#[tokio::test]
async fn a_user_moves_to_the_backup_when_the_cable_is_pulled_and_home_when_it_is_back() {
    let lab = Lab::new();
    let topology = two_sites(7);
    let start = async |server| {
        let mut options = lab.options(&topology, server);
        // The watch is in one shard; both must know what it sees.
        options.shards = 2;
        ServerHost::start(options).await.unwrap()
    };
    let (north, south) = (start(FE1).await, start(FE2).await);
    let names = DnsServer::start(&Nic::new(), "127.1.7.2:0".parse().unwrap(), Zone::from_topology(&topology))
        .unwrap();

    let mut config = endpoint::Config::new(aor("alice"), "alice", Profile::Rehome);
    config.timers = topology.timers.clone();
    config.connect_timeout = Duration::from_millis(500);
    let (client, mut said) = EndpointHost::start(ClientOptions {
        config,
        cache: None,
        nic: Nic::new(),
        local: Some("127.3.7.1".parse().unwrap()),
        tls: Some(Tls::new(&lab.authority.belief(), Names::Strict).unwrap()),
        resolver: Resolver::new(&[names.local()], None, Nic::new()).unwrap(),
        limits: Limits::default(),
        tempo: Tempo::default(),
        tap: false,
    });
    let mut status = client.watch();
    let mut is_at = async |server: &str| {
        let arrived = status.wait_for(|status| status.registrar.as_deref() == Some(server));
        if timeout(Duration::from_secs(20), arrived).await.is_err() {
            let mut told = String::new();
            while let Ok(said) = said.try_recv() {
                if let Said::Event { since_start, event } = said {
                    told += &format!("{:9.3}s {event}\n", since_start.as_secs_f64());
                }
            }
            panic!("waited 20 s to be at {server}; the client said\n{told}");
        }
    };

    client.command(endpoint::Command::SignIn);
    is_at(FE1).await;
    north.nic().cut();
    is_at(FE2).await;
    assert_eq!(bindings(&south).await, 1);
    north.nic().restore();
    is_at(FE1).await;
    drop((north, south));
}
