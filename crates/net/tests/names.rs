//! The embedded name server and the resolver, over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use net::clock;
use net::dns::Resolver;
use net::dns_server::DnsServer;
use net::nic::Nic;
use net::zone::{Data, Zone};
use sip::locate::{Answer, DnsFailure, Query, Record, Srv};
use tokio::time::timeout;

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn srv_data(priority: u16, target: &str) -> Data {
    Data::Srv { priority, weight: 1, port: 5061, target: target.into() }
}

fn srv(priority: u16, target: &str) -> Record {
    Record::Srv(Srv { priority, weight: 1, port: 5061, target: target.into() })
}

fn zone() -> Zone {
    let mut zone = Zone::new("example.test");
    zone.set_name_server([127, 1, 3, 1].into());
    zone.add("_sipinternaltls._tcp.example.test", srv_data(0, "fe1.example.test"));
    zone.add("fe1.example.test", Data::Address([127, 1, 0, 1].into()));
    zone.add("fe1.example.test", Data::Address("fd00::1".parse().unwrap()));
    zone
}

async fn ask(resolver: &Resolver, query: Query) -> Answer {
    let bound = Duration::from_secs(5);
    timeout(bound, resolver.ask(&query)).await.expect("a question ends within five seconds")
}

#[tokio::test]
async fn the_resolver_hears_what_the_zone_says_and_a_second_record_as_soon_as_it_is_added() {
    let server = DnsServer::start(&Nic::new(), at("127.1.3.1:0"), zone()).unwrap();
    let resolver = Resolver::new(&[server.local()], Some([127, 1, 3, 2].into()), Nic::new()).unwrap();
    let service = || Query::Srv("_sipinternaltls._tcp.example.test".into());

    assert_eq!(ask(&resolver, service()).await, Answer::Records(vec![srv(0, "fe1.example.test")]));
    server.edit(|zone| {
        zone.add("_sipinternaltls._tcp.example.test", srv_data(10, "fe2.example.test"));
    });
    assert_eq!(
        ask(&resolver, service()).await,
        Answer::Records(vec![srv(0, "fe1.example.test"), srv(10, "fe2.example.test")])
    );
    let addresses = ask(&resolver, Query::Address("fe1.example.test".into())).await;
    let both = ["127.1.0.1", "fd00::1"].map(|address| Record::Address(address.parse().unwrap()));
    assert_eq!(addresses, Answer::Records(both.into()));
    assert_eq!(ask(&resolver, Query::Address("fe9.example.test".into())).await, Answer::None);
    assert_eq!(ask(&resolver, Query::Naptr("example.test".into())).await, Answer::None);
    let elsewhere = ask(&resolver, Query::Address("example.org".into())).await;
    assert_eq!(elsewhere, Answer::Failed(DnsFailure::Refused));
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_comes_over_tcp() {
    let mut zone = zone();
    for host in 0..200 {
        zone.add(
            "_sip._tcp.example.test",
            srv_data(host, &format!("a-host-with-a-long-name-{host}.example.test")),
        );
    }
    let server = DnsServer::start(&Nic::new(), at("127.1.3.3:0"), zone).unwrap();
    let resolver = Resolver::new(&[server.local()], None, Nic::new()).unwrap();
    match ask(&resolver, Query::Srv("_sip._tcp.example.test".into())).await {
        Answer::Records(records) => assert_eq!(records.len(), 200),
        other => panic!("expected 200 records, got {other:?}"),
    }
}

#[tokio::test]
async fn a_dead_name_server_costs_two_seconds_at_most_and_nothing_beside_a_living_one() {
    let dead_nic = Nic::new();
    let dead = DnsServer::start(&dead_nic, at("127.1.3.4:0"), zone()).unwrap();
    dead_nic.cut();
    let resolver = Resolver::new(&[dead.local()], None, Nic::new()).unwrap();
    let began = clock::now();
    let answer = ask(&resolver, Query::Srv("_sipinternaltls._tcp.example.test".into())).await;
    assert_eq!(answer, Answer::Failed(DnsFailure::TimedOut));
    let took = clock::now() - began;
    assert!(took < Duration::from_millis(2_300), "took {took:?}");

    let living = DnsServer::start(&Nic::new(), at("127.1.3.5:0"), zone()).unwrap();
    let resolver = Resolver::new(&[dead.local(), living.local()], None, Nic::new()).unwrap();
    let began = clock::now();
    let answer = ask(&resolver, Query::Srv("_sipinternaltls._tcp.example.test".into())).await;
    assert_eq!(answer, Answer::Records(vec![srv(0, "fe1.example.test")]));
    let took = clock::now() - began;
    assert!(took < Duration::from_secs(1), "took {took:?}");
}

#[tokio::test]
async fn a_host_whose_cable_is_out_gets_no_answers() {
    let server = DnsServer::start(&Nic::new(), at("127.1.3.6:0"), zone()).unwrap();
    let nic = Nic::new();
    let resolver = Resolver::new(&[server.local()], None, nic.clone()).unwrap();
    nic.cut();
    let answer = ask(&resolver, Query::Address("fe1.example.test".into())).await;
    assert_eq!(answer, Answer::Failed(DnsFailure::TimedOut));
    nic.restore();
    assert!(matches!(ask(&resolver, Query::Address("fe1.example.test".into())).await, Answer::Records(_)));
}
