//! Connections over real sockets: TLS proofs, limits, and a cable that is pulled and plugged in again.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::certificates::Authority;
use net::clock;
use net::nic::Nic;
use net::stream::{Connection, Limits, Sink, accept_all, connect};
use net::tls::{Names, Tls};
use sip::transport::{FlowLoss, Frame, Target, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What a sink has heard, in order.
#[derive(Debug)]
enum Told {
    Opened(Connection),
    Heard(Connection, Frame),
    Lost(FlowLoss),
    Refused(String),
}

#[derive(Clone)]
struct Ear(mpsc::UnboundedSender<Told>);

impl Sink for Ear {
    fn opened(&self, connection: &Connection) {
        let _ = self.0.send(Told::Opened(connection.clone()));
    }

    fn heard(&self, connection: &Connection, frame: Frame) -> impl Future<Output = ()> + Send {
        let _ = self.0.send(Told::Heard(connection.clone(), frame));
        async {}
    }

    fn lost(&self, _: &Connection, why: FlowLoss) {
        let _ = self.0.send(Told::Lost(why));
    }

    fn refused(&self, _: SocketAddr, why: &str) {
        let _ = self.0.send(Told::Refused(why.to_owned()));
    }
}

struct Host {
    address: SocketAddr,
    told: mpsc::UnboundedReceiver<Told>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    fn start(nic: &Nic, ip: &str, tls: Option<Arc<Tls>>, limits: Limits) -> Host {
        let listener = nic.listen(format!("{ip}:0").parse().unwrap()).unwrap();
        let address = listener.local();
        let (ear, told) = mpsc::unbounded_channel();
        let task = tokio::spawn(accept_all(listener, tls, limits, Ear(ear)));
        Host { address, told, task }
    }

    async fn told(&mut self, what: &str) -> Told {
        soon(what, self.told.recv()).await.expect("the host lives")
    }

    async fn opened(&mut self) -> Connection {
        match self.told("a connection").await {
            Told::Opened(connection) => connection,
            other => panic!("expected a connection, got {other:?}"),
        }
    }

    async fn heard(&mut self) -> (Connection, Frame) {
        match self.told("a frame").await {
            Told::Heard(connection, frame) => (connection, frame),
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    async fn lost(&mut self) -> FlowLoss {
        match self.told("the end of a connection").await {
            Told::Lost(why) => why,
            other => panic!("expected the end, got {other:?}"),
        }
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("waited 10 s for {what}"))
}

fn target(transport: Transport, address: SocketAddr, name: &str) -> Target {
    Target { transport, address, name: name.into() }
}

const OPTIONS: &str = "OPTIONS sip:example.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.2.0.1;branch=z9hG4bK1\r\n\
    From: <sip:a@example.test>;tag=1\r\nTo: <sip:example.test>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\
    Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn messages_pings_and_their_end_are_told_in_order_and_answers_go_back() {
    let mut host = Host::start(&Nic::new(), "127.1.4.1", None, Limits::default());
    let mut phone = TcpStream::connect(host.address).await.unwrap();
    phone.write_all(format!("\r\n\r\n{OPTIONS}{}", &OPTIONS[..40]).as_bytes()).await.unwrap();
    let connection = host.opened().await;
    assert_eq!(connection.flow().remote, phone.local_addr().unwrap());
    assert_eq!(host.heard().await.1, Frame::Ping);
    assert_eq!(host.heard().await.1, Frame::Message(Bytes::from_static(OPTIONS.as_bytes())));
    phone.write_all(&OPTIONS.as_bytes()[40..]).await.unwrap();
    assert!(matches!(host.heard().await.1, Frame::Message(_)));

    connection.send(Bytes::from_static(b"one "));
    connection.send(Bytes::from_static(b"two"));
    connection.close();
    let mut answer = String::new();
    soon("the answer and the end", phone.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "one two");
    assert_eq!(host.lost().await, FlowLoss::Dropped);
}

#[tokio::test]
async fn a_length_that_cannot_be_believed_is_answered_400_and_ends_the_connection() {
    let mut host = Host::start(&Nic::new(), "127.1.4.2", None, Limits::default());
    let mut phone = TcpStream::connect(host.address).await.unwrap();
    let broken = OPTIONS.replace("Content-Length: 0", "Content-Length: -999");
    phone.write_all(broken.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer and the end", phone.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("SIP/2.0 400 "), "{answer}");
    host.opened().await;
    assert_eq!(host.lost().await, FlowLoss::Dropped);
}

#[tokio::test]
async fn a_message_that_is_begun_and_not_ended_is_not_waited_for_but_silence_between_messages_is() {
    let limits = Limits { message: Duration::from_millis(200), ..Limits::default() };
    let mut host = Host::start(&Nic::new(), "127.1.4.3", None, limits);
    let mut idle = TcpStream::connect(host.address).await.unwrap();
    let connection = host.opened().await;
    let mut slow = TcpStream::connect(host.address).await.unwrap();
    slow.write_all(b"OPTIONS sip:ex").await.unwrap();
    host.opened().await;
    assert_eq!(host.lost().await, FlowLoss::TimedOut);
    idle.write_all(b"\r\n\r\n").await.unwrap();
    let (from, frame) = host.heard().await;
    assert_eq!((from.flow(), frame), (connection.flow(), Frame::Ping));
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_who_comes_too_often_is_turned_away() {
    let limits = Limits { unsent: 100_000, per_source: 1, ..Limits::default() };
    let mut host = Host::start(&Nic::new(), "127.1.4.4", None, limits);
    let deaf = TcpStream::connect(host.address).await.unwrap();
    let connection = host.opened().await;
    let _second = TcpStream::connect(host.address).await.unwrap();
    assert!(matches!(host.told("a refusal").await, Told::Refused(why) if why == "too many connections"));
    let much = Bytes::from(vec![b'x'; 50_000]);
    let cut_off = async {
        loop {
            connection.send(much.clone());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        why = host.lost() => assert_eq!(why, FlowLoss::Dropped),
        () = cut_off => {}
    }
    drop(deaf);
}

#[tokio::test]
async fn servers_prove_their_names_to_each_other_and_a_stranger_s_certificate_is_refused() {
    let (lab, stranger) = (Authority::new("lab").unwrap(), Authority::new("stranger").unwrap());
    let names = ["north1.example.test", "north.example.test"];
    let north = Tls::new(&lab.material(&names).unwrap(), Names::Strict).unwrap();
    let mut host = Host::start(&Nic::new(), "127.1.4.5", Some(north.clone()), Limits::default());
    let nic = Nic::new();
    let there = |name: &str| target(Transport::Tls, host.address, name);
    let (to_north, to_south) = (there("north.example.test"), there("south.example.test"));
    let limits = Limits::default();

    // A good peer.
    let south = Tls::new(&lab.material(&["south1.example.test"]).unwrap(), Names::Strict).unwrap();
    let opened =
        connect(&nic, Some([127, 2, 4, 5].into()), &to_north, Some(&south), limits).await.ok().unwrap();
    assert_eq!(opened.connection().names(), names);
    let accepted = host.opened().await;
    assert_eq!(accepted.names(), ["south1.example.test"]);
    assert_eq!(accepted.flow().remote.ip(), std::net::IpAddr::from([127, 2, 4, 5]));
    drop(opened);
    host.lost().await;

    // A phone, which has no certificate.
    let phone = Tls::new(&lab.belief(), Names::Strict).unwrap();
    let opened = connect(&nic, None, &to_north, Some(&phone), limits).await.ok().unwrap();
    assert!(host.opened().await.names().is_empty());
    drop(opened);
    host.lost().await;

    // North is not south; unless nobody minds.
    match connect(&nic, None, &to_south, Some(&south), limits).await.err() {
        Some(FlowLoss::Tls(why)) => assert!(why.contains("not valid for name"), "{why}"),
        other => panic!("expected a wrong name, got {other:?}"),
    }
    assert!(matches!(host.told("a refusal").await, Told::Refused(_)));
    let easy = Tls::new(&lab.belief(), Names::Any).unwrap();
    drop(connect(&nic, None, &to_south, Some(&easy), limits).await.ok().unwrap());
    host.opened().await;
    host.lost().await;

    // A certificate of somebody else's authority, shown by the client and then by the server.
    let mut forged = stranger.material(&["south1.example.test"]).unwrap();
    forged.authorities = lab.belief().authorities;
    let forged = Tls::new(&forged, Names::Strict).unwrap();
    let attempt = connect(&nic, None, &to_north, Some(&forged), limits).await;
    match host.told("a refusal").await {
        Told::Refused(why) => assert!(why.contains("UnknownIssuer"), "{why}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    drop(attempt);
    let doubting = Tls::new(&stranger.belief(), Names::Any).unwrap();
    match connect(&nic, None, &to_north, Some(&doubting), limits).await.err() {
        Some(FlowLoss::Tls(why)) => assert!(why.contains("UnknownIssuer"), "{why}"),
        other => panic!("expected an unknown issuer, got {other:?}"),
    }
    host.told("a refusal").await;

    // An expired certificate, after a reload that the living connections survive.
    let opened = connect(&nic, None, &to_north, Some(&phone), limits).await.ok().unwrap();
    let living = host.opened().await;
    let mut expired = lab.belief();
    expired.identity = Some(lab.issue_expired(&names).unwrap());
    north.reload(&expired).unwrap();
    match connect(&nic, None, &to_north, Some(&phone), limits).await.err() {
        Some(FlowLoss::Tls(why)) => assert!(why.contains("expired"), "{why}"),
        other => panic!("expected an expired certificate, got {other:?}"),
    }
    host.told("a refusal").await;
    let (ear, mut told) = mpsc::unbounded_channel();
    tokio::spawn(opened.converse(Ear(ear)));
    living.send(Bytes::from_static(OPTIONS.as_bytes()));
    assert!(matches!(soon("opened", told.recv()).await, Some(Told::Opened(_))));
    assert!(matches!(soon("a message", told.recv()).await, Some(Told::Heard(_, Frame::Message(_)))));
}

#[tokio::test]
async fn a_handshake_that_stops_halfway_is_not_waited_for() {
    let lab = Authority::new("lab").unwrap();
    let tls = Tls::new(&lab.material(&["north.example.test"]).unwrap(), Names::Strict).unwrap();
    let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
    let mut host = Host::start(&Nic::new(), "127.1.4.6", Some(tls), limits);
    let mut stuck = TcpStream::connect(host.address).await.unwrap();
    // The first bytes of a ClientHello that promises 512 more.
    stuck.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).await.unwrap();
    assert!(matches!(host.told("a refusal").await, Told::Refused(why) if why == "timed out"));
    let mut gone = TcpStream::connect(host.address).await.unwrap();
    gone.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).await.unwrap();
    drop(gone);
    assert!(matches!(host.told("a refusal").await, Told::Refused(_)));
    let mut plain = TcpStream::connect(host.address).await.unwrap();
    plain.write_all(OPTIONS.as_bytes()).await.unwrap();
    assert!(matches!(host.told("a refusal").await, Told::Refused(why) if why.starts_with("TLS failed")));
}

#[tokio::test]
async fn a_cut_cable_is_silence_and_a_restored_one_goes_on_where_it_stopped() {
    let nic = Nic::new();
    let mut host = Host::start(&nic, "127.1.4.7", None, Limits::default());
    let mut phone = TcpStream::connect(host.address).await.unwrap();
    let connection = host.opened().await;
    let given_up = TcpStream::connect(host.address).await.unwrap();
    host.opened().await;

    nic.cut();
    phone.write_all(b"\r\n\r\n").await.unwrap();
    connection.send(Bytes::from_static(b"held"));
    drop(given_up);
    let mut byte = [0; 4];
    let quiet = Duration::from_millis(300);
    assert!(timeout(quiet, phone.read(&mut byte)).await.is_err(), "something left a cut host");
    assert!(timeout(quiet, host.told.recv()).await.is_err(), "something reached a cut host");
    assert!(timeout(quiet, TcpStream::connect(host.address)).await.is_err(), "a cut host was connected to");
    let from_inside = target(Transport::Tcp, "127.1.4.7:9".parse().unwrap(), "nobody");
    let limits = Limits { connect: quiet, ..Limits::default() };
    let attempt = connect(&nic, None, &from_inside, None, limits).await;
    assert_eq!(attempt.err(), Some(FlowLoss::TimedOut), "a cut host connected");

    nic.restore();
    soon("the held bytes", phone.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"held");
    let mut seen = [host.told("the ping and the end").await, host.told("the ping and the end").await];
    seen.sort_by_key(|told| matches!(told, Told::Lost(_)));
    assert!(matches!(&seen, [Told::Heard(_, Frame::Ping), Told::Lost(FlowLoss::Closed)]), "{seen:?}");
    let _new = soon("a new connection", TcpStream::connect(host.address)).await.unwrap();
    host.opened().await;
}

#[tokio::test]
async fn a_connection_closed_while_cut_says_nothing_until_the_cable_is_back() {
    let nic = Nic::new();
    let mut host = Host::start(&nic, "127.1.4.8", None, Limits::default());
    let mut phone = TcpStream::connect(host.address).await.unwrap();
    let connection = host.opened().await;
    nic.cut();
    connection.close();
    let began = clock::now();
    assert_eq!(host.lost().await, FlowLoss::Dropped);
    assert!(clock::now() - began < Duration::from_secs(4));
    let mut byte = [0; 1];
    let quiet = Duration::from_millis(300);
    assert!(timeout(quiet, phone.read(&mut byte)).await.is_err(), "a FIN or RST left a cut host");
    nic.restore();
    assert_eq!(soon("the end", phone.read(&mut byte)).await.unwrap_or(0), 0);
}
