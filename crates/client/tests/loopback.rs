//! The library against a small registrar on loopback: real sockets, real files, bounded waits.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use client::{Builder, Client, Request, RequestError, Service, SignInError, Transport};
use net::dns_server::DnsServer;
use net::nic::Nic;
use net::zone::{Data, Zone};
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::print::Builder as Printer;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// No step of these tests takes as long.
const BOUND: Duration = Duration::from_secs(10);

/// A registrar that says `status` to every REGISTER and 202 to everything else, and answers a MESSAGE with one
/// of its own as well.
async fn registrar(status: u16) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut buffer = [0; 65_536];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let Ok(message) = Message::parse(Bytes::copy_from_slice(&buffer[..length])) else {
                continue; // A ping, or the answer to our MESSAGE.
            };
            if !message.is_request() {
                continue;
            }
            let is_register = message.method() == Method::Register;
            let status = if is_register { status } else { 202 };
            let answer = Printer::response(&message, status, "As scripted")
                .to_tag("r")
                .header(HeaderName::Expires, 600)
                .header_named("presence-state", "register-action=\"added\";is-connected-to-primary=\"yes\"")
                .finish();
            let _ = socket.send_to(&answer, peer).await;
            if message.method() == Method::Message {
                let text = Printer::request(&Method::Message, "sip:alice@example.test")
                    .header(HeaderName::Via, format_args!("SIP/2.0/UDP {address};branch=z9hG4bKhello"))
                    .header(HeaderName::MaxForwards, 70)
                    .header(HeaderName::From, "<sip:bob@example.test>;tag=b")
                    .header(HeaderName::To, "<sip:alice@example.test>")
                    .header(HeaderName::CallId, "hello")
                    .header(HeaderName::CSeq, "1 MESSAGE")
                    .body("text/plain", "good morning")
                    .finish();
                let _ = socket.send_to(&text, peer).await;
            }
        }
    });
    address
}

/// A name server for example.test that knows this registrar as fe1.
fn name_server(registrar: SocketAddr) -> DnsServer {
    let mut zone = Zone::new("example.test");
    let target = "fe1.example.test".into();
    let port = registrar.port();
    zone.add("_sip._udp.example.test", Data::Srv { priority: 0, weight: 0, port, target });
    zone.add("fe1.example.test", Data::Address(registrar.ip()));
    DnsServer::start(&Nic::new(), "127.0.0.1:0".parse().expect("an address"), zone).expect("a name server")
}

fn alice(names: &DnsServer, cache: &Path) -> Builder {
    Client::builder("alice@example.test", "secret")
        .transports([Transport::Udp])
        .name_servers([names.local()])
        .cache_file(cache)
}

async fn signed_in(builder: Builder) -> Client {
    timeout(BOUND, builder.sign_in()).await.expect("in time").expect("signed in")
}

#[tokio::test]
async fn a_stranger_signs_in_talks_and_signs_out() {
    let place = tempfile::tempdir().expect("a directory");
    let cache = place.path().join("alice.json");
    let names = name_server(registrar(200).await);
    let client = signed_in(alice(&names, &cache)).await;
    let mut incoming = client.incoming();
    assert_eq!(*client.service().borrow(), Service::Full);
    assert_eq!(client.status().to_string(), "fe1.example.test");

    let answer = client.request(Request::message("bob@example.test", "good evening"));
    let answer = timeout(BOUND, answer).await.expect("in time").expect("an answer");
    assert_eq!(answer.status, 202);
    let message = timeout(BOUND, incoming.next()).await.expect("in time").expect("a message");
    assert_eq!((message.from.as_str(), message.text().as_str()), ("sip:bob@example.test", "good morning"));
    let nobody = client.request(Request::message("not an address", "?"));
    assert_eq!(timeout(BOUND, nobody).await.expect("in time"), Err(RequestError::BadRecipient));

    assert!(timeout(BOUND, client.sign_out()).await.expect("in time"), "confirmed");
    let kept = std::fs::read_to_string(&cache).expect("the cache was written");
    assert!(kept.contains("\"aor\": \"sip:alice@example.test\""), "{kept}");
    assert!(!kept.contains("secret"), "no password in it");
}

#[tokio::test]
async fn a_rejected_user_is_an_error_not_an_outage() {
    let place = tempfile::tempdir().expect("a directory");
    let names = name_server(registrar(403).await);
    let signing_in = alice(&names, &place.path().join("alice.json")).sign_in();
    let failed = timeout(BOUND, signing_in).await.expect("in time");
    match failed {
        Err(SignInError::Rejected { status, .. }) => assert_eq!(status, 403),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("signed in"),
    }
}

#[tokio::test]
async fn a_damaged_cache_is_no_reason_not_to_sign_in() {
    let place = tempfile::tempdir().expect("a directory");
    let cache = place.path().join("alice.json");
    std::fs::write(&cache, "{ torn").expect("written");
    let names = name_server(registrar(200).await);
    let client = signed_in(alice(&names, &cache)).await;
    client.sign_out().await;
    let kept = std::fs::read_to_string(&cache).expect("the cache");
    assert!(kept.contains("\"good_until\":"), "written anew: {kept}");
}

#[tokio::test]
async fn the_second_sign_in_needs_no_name_server() {
    let place = tempfile::tempdir().expect("a directory");
    let cache = place.path().join("alice.json");
    let names = name_server(registrar(200).await);
    signed_in(alice(&names, &cache)).await.sign_out().await;

    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let again = alice(&names, &cache).name_servers([silent.local_addr().expect("its address")]);
    let client = signed_in(again).await;
    assert_eq!(client.status().to_string(), "fe1.example.test");
}

#[tokio::test]
async fn a_registrar_that_is_named_is_asked_without_discovery() {
    let registrar = registrar(200).await;
    let client = Client::builder("alice@example.test", "secret")
        .transports([Transport::Udp])
        .registrar(format!("sip:{registrar};transport=udp"));
    assert_eq!(signed_in(client).await.status().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn a_registrar_that_cannot_be_used_is_told_at_once_and_not_waited_for() {
    for uri in ["fe1", "sip:", "sip:fe1.example.test;transport=udp", "http://fe1.example.test"] {
        let client = Client::builder("alice@example.test", "secret").transports([Transport::Tcp]);
        let failed = timeout(BOUND, client.registrar(uri).sign_in()).await.expect("in time");
        assert!(matches!(failed, Err(SignInError::BadRegistrar(_))), "{uri}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_told_before_anything_is_sent() {
    let failed = Client::builder("alice at home", "secret").sign_in().await;
    assert!(matches!(failed, Err(SignInError::BadAddress(_))));
}
