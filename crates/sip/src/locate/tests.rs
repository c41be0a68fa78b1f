//! Small zones as tables, and what a locator makes of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::*;

const ALL: [Transport; 3] = [Transport::Tls, Transport::Tcp, Transport::Udp];

fn rng() -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(1)
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
    Record::Srv(Srv { priority, weight, port, target: target.to_owned() })
}

fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Record {
    let (flags, service, replacement) = ("s".to_owned(), service.to_owned(), replacement.to_owned());
    Record::Naptr(Naptr { order, preference, flags, service, replacement })
}

fn address(ip: &str) -> Record {
    Record::Address(ip.parse().unwrap())
}

fn destination(host: &str) -> Destination {
    Destination { host: host.to_owned(), port: None, transport: None, secure: false }
}

/// Answers every question from the zone until nothing is left; returns questions and targets in order.
fn run(mut locator: Locator, zone: &[(&str, Answer)]) -> (Vec<String>, Vec<String>, Outcome) {
    let zone: BTreeMap<_, _> = zone.iter().cloned().collect();
    let (mut asked, mut targets) = (Vec::new(), Vec::new());
    while !locator.is_exhausted() {
        let mut queries = Vec::new();
        while let Some(query) = locator.poll_query() {
            queries.push(query);
        }
        // Answers come in any order; the last question first is as good a test as any.
        for query in queries.iter().rev() {
            let answer = zone.get(query.to_string().as_str()).unwrap_or(&Answer::None);
            locator.handle_answer(query, answer, &mut rng());
        }
        asked.extend(queries.iter().map(Query::to_string));
        while let Some(target) = locator.next_target() {
            targets.push(target.to_string());
        }
    }
    (asked, targets, locator.outcome())
}

fn records(records: impl IntoIterator<Item = Record>) -> Answer {
    Answer::Records(records.into_iter().collect())
}

#[test]
fn a_final_dot_is_not_in_the_name_to_prove() {
    let found = Destination::of(&Uri::parse("sip:a@host.test.:5061;transport=tls").unwrap()).unwrap();
    assert_eq!(found.host, "host.test");
}

#[test]
fn a_uri_says_where_to_go() {
    let of = |text: &str| Destination::of(&Uri::parse(text).unwrap());
    let secure = Destination { secure: true, ..destination("example.test") };
    assert_eq!(of("sips:alice@example.test"), Some(secure));
    let all = Destination { port: Some(5070), transport: Some(Transport::Tcp), ..destination("[::1]") };
    assert_eq!(of("sip:[::1]:5070;transport=TCP;lr"), Some(all));
    assert_eq!(of("tel:+15551234"), None);
    assert_eq!(of("sip:example.test;transport=sctp"), None);
}

#[test]
fn a_numeric_host_asks_nothing() {
    for (host, expected) in [("127.1.0.1", "UDP 127.1.0.1:5060"), ("[::1]", "UDP [::1]:5060")] {
        let (asked, targets, outcome) = run(Locator::new(&destination(host), &ALL), &[]);
        assert!(asked.is_empty());
        assert_eq!(targets, [format!("{expected} ({host})")]);
        assert_eq!(outcome, Outcome::Found);
    }
    let secure = Destination { secure: true, port: Some(5555), ..destination("127.1.0.1") };
    assert_eq!(run(Locator::new(&secure, &ALL), &[]).1, ["TLS 127.1.0.1:5555 (127.1.0.1)"]);
}

#[test]
fn an_explicit_port_skips_service_records() {
    let there = Destination { port: Some(5070), ..destination("pool.example.test") };
    let zone = [("A/AAAA pool.example.test", records([address("::1"), address("127.1.0.1")]))];
    let (asked, targets, _) = run(Locator::new(&there, &ALL), &zone);
    assert_eq!(asked, ["A/AAAA pool.example.test"]);
    assert_eq!(targets, ["UDP [::1]:5070 (pool.example.test)", "UDP 127.1.0.1:5070 (pool.example.test)"]);
}

#[test]
fn a_named_transport_skips_naptr() {
    let there = Destination { transport: Some(Transport::Tcp), ..destination("example.test") };
    let zone = [
        ("SRV _sip._tcp.example.test", records([srv(1, 0, 5080, "a.example.test.")])),
        ("A/AAAA a.example.test", records([address("127.1.0.1")])),
    ];
    let (asked, targets, _) = run(Locator::new(&there, &ALL), &zone);
    assert_eq!(asked, ["SRV _sip._tcp.example.test", "A/AAAA a.example.test"]);
    assert_eq!(targets, ["TCP 127.1.0.1:5080 (example.test)"]);
}

#[test]
fn sips_never_leaves_tls() {
    let there = Destination { secure: true, ..destination("example.test") };
    let zone = [
        (
            "NAPTR example.test",
            records([
                naptr(1, 1, "SIP+D2U", "_sip._udp.example.test"),
                naptr(2, 1, "SIPS+D2T", "_x.example.test"),
            ]),
        ),
        ("SRV _x.example.test", records([srv(1, 0, 5061, "a.example.test")])),
        ("A/AAAA a.example.test", records([address("127.1.0.1")])),
    ];
    assert_eq!(run(Locator::new(&there, &ALL), &zone).1, ["TLS 127.1.0.1:5061 (example.test)"]);

    let tcp = Destination { transport: Some(Transport::Tcp), ..there.clone() };
    assert_eq!(run(Locator::new(&tcp, &ALL), &[]).0[0], "SRV _sips._tcp.example.test");
    let (asked, targets, outcome) = run(Locator::new(&there, &[Transport::Udp]), &zone);
    assert_eq!((asked.len(), targets.len(), outcome), (0, 0, Outcome::NoSuchName));
}

#[test]
fn naptr_chooses_by_order_then_preference_among_what_we_have() {
    let there = destination("example.test");
    let zone = [
        (
            "NAPTR example.test",
            records([
                naptr(50, 1, "SIP+D2S", "_sip._sctp.example.test"),
                naptr(90, 1, "SIP+D2U", "_sip._udp.example.test"),
                naptr(60, 9, "SIP+D2T", "_sip._tcp.example.test"),
                naptr(60, 2, "sips+d2t", "_sips._tcp.example.test."),
            ]),
        ),
        ("SRV _sips._tcp.example.test", records([srv(1, 0, 5061, "a.example.test")])),
        ("SRV _sip._tcp.example.test", records([srv(1, 0, 5060, "a.example.test")])),
        ("A/AAAA a.example.test", records([address("127.1.0.1")])),
    ];
    let (asked, targets, _) = run(Locator::new(&there, &ALL), &zone);
    assert_eq!(
        asked,
        [
            "NAPTR example.test",
            "SRV _sips._tcp.example.test",
            "SRV _sip._tcp.example.test",
            "A/AAAA a.example.test"
        ],
    );
    assert_eq!(targets, ["TLS 127.1.0.1:5061 (example.test)", "TCP 127.1.0.1:5060 (example.test)"]);
}

#[test]
fn without_naptr_every_transport_is_asked_for_and_without_srv_the_host_itself() {
    for no_naptr in [Answer::None, Answer::Failed(DnsFailure::Refused)] {
        let zone = [
            ("NAPTR example.test", no_naptr),
            ("A/AAAA example.test", records([address("127.1.0.1"), address("127.1.0.1")])),
        ];
        let (asked, targets, outcome) = run(Locator::new(&destination("example.test"), &ALL), &zone);
        assert_eq!(
            asked,
            [
                "NAPTR example.test",
                "SRV _sips._tcp.example.test",
                "SRV _sip._tcp.example.test",
                "SRV _sip._udp.example.test",
                "A/AAAA example.test"
            ]
        );
        assert_eq!(targets, ["UDP 127.1.0.1:5060 (example.test)"], "an address named twice is tried once");
        assert_eq!(outcome, Outcome::Found);
    }
}

#[test]
fn every_server_and_every_address_is_tried_in_order() {
    let zone = [
        (
            "SRV _sipinternaltls._tcp.example.test",
            records([srv(10, 0, 5061, "south.example.test"), srv(0, 0, 5061, "north.example.test")]),
        ),
        ("A/AAAA north.example.test", records([address("127.1.0.1"), address("127.1.0.2")])),
        ("A/AAAA south.example.test", records([address("127.2.0.1")])),
    ];
    let locator = Locator::of_service("_sipinternaltls._tcp.example.test", Transport::Tls, "example.test")
        .naming(Naming::Srv);
    assert_eq!(
        run(locator, &zone).1,
        [
            "TLS 127.1.0.1:5061 (north.example.test)",
            "TLS 127.1.0.2:5061 (north.example.test)",
            "TLS 127.2.0.1:5061 (south.example.test)",
        ]
    );
}

#[test]
fn a_target_waits_for_those_before_it() {
    let mut locator = Locator::of_service("_s.example.test", Transport::Tls, "example.test");
    let first = locator.poll_query().unwrap();
    let both = records([srv(0, 0, 1, "north"), srv(1, 0, 2, "south")]);
    locator.handle_answer(&first, &both, &mut rng());
    let (north, south) = (locator.poll_query().unwrap(), locator.poll_query().unwrap());
    assert_eq!(locator.poll_query(), None);

    locator.handle_answer(&south, &records([address("127.2.0.1")]), &mut rng());
    assert_eq!(locator.next_target(), None);
    assert!(!locator.is_exhausted());

    locator.handle_answer(&north, &Answer::Failed(DnsFailure::TimedOut), &mut rng());
    assert_eq!(locator.next_target().unwrap().address.port(), 2);
    assert!(locator.is_exhausted());
    assert_eq!(locator.outcome(), Outcome::Found);
}

#[test]
fn a_failed_look_up_is_not_the_absence_of_a_name() {
    let there = Destination { transport: Some(Transport::Tcp), ..destination("example.test") };
    let locator = Locator::new(&there, &ALL);
    let zone = [
        ("SRV _sip._tcp.example.test", Answer::Failed(DnsFailure::TimedOut)),
        ("A/AAAA example.test", records([address("127.1.0.1")])),
    ];
    let (asked, targets, outcome) = run(locator.clone(), &zone);
    assert_eq!(asked, ["SRV _sip._tcp.example.test"], "no falling back on a failure");
    assert_eq!((targets.len(), outcome), (0, Outcome::Failed(DnsFailure::TimedOut)));

    let (_, targets, outcome) = run(locator, &[]);
    assert_eq!((targets.len(), outcome), (0, Outcome::NoSuchName));
}

#[test]
fn a_service_refused_with_a_dot_is_not_sought_at_the_host() {
    let there = Destination { transport: Some(Transport::Tcp), ..destination("example.test") };
    let zone = [
        ("SRV _sip._tcp.example.test", records([srv(0, 0, 0, ".")])),
        ("A/AAAA example.test", records([address("127.1.0.1")])),
    ];
    let (_, targets, outcome) = run(Locator::new(&there, &ALL), &zone);
    assert_eq!((targets.len(), outcome), (0, Outcome::NotOffered));
}

#[test]
fn a_lying_zone_costs_a_bounded_number_of_questions() {
    let many = (0..5000).map(|n| srv(n, 0, 1, &format!("h{n}.example.test")));
    let zone = [("SRV _s.example.test", records(many))];
    let locator = Locator::of_service("_s.example.test", Transport::Tls, "example.test");
    assert_eq!(run(locator, &zone).0.len(), 1 + MOST_SERVERS);
}

#[test]
fn an_answer_to_nobodys_question_changes_nothing() {
    let mut locator = Locator::of_host("a.example.test", 5061, Transport::Tls);
    let stranger = Query::Address("b.example.test".to_owned());
    locator.handle_answer(&stranger, &records([address("127.6.6.6")]), &mut rng());
    assert_eq!(locator.next_target(), None);
    assert_eq!(locator.poll_query(), Some(Query::Address("a.example.test".to_owned())));
}

//------------ order_srv ------------------------------------------------------

#[test]
fn weights_are_shares_of_first_place() {
    let records: Vec<_> = [(10, "a"), (30, "b"), (60, "c"), (0, "d")]
        .map(|(weight, target)| Srv { priority: 1, weight, port: 1, target: target.to_owned() })
        .to_vec();
    let (mut rng, mut first) = (rng(), BTreeMap::<String, u32>::new());
    for _ in 0..100_000 {
        *first.entry(order_srv(records.clone(), &mut rng).remove(0).target).or_default() += 1;
    }
    // 101 numbers can be drawn: 0 for d, 1 to 10 for a, and so on. Standard deviation: about 155.
    for (target, share) in [("a", 10), ("b", 30), ("c", 60), ("d", 1)] {
        let expected = 100_000 * share / 101;
        assert!(first[target].abs_diff(expected) < 800, "{target}: {} instead of {expected}", first[target]);
    }
}

proptest! {
    #[test]
    fn ordering_loses_no_server_and_never_crosses_priorities(
        given in proptest::collection::vec((0_u16..4, prop_oneof![Just(0), any::<u16>()], any::<u16>()), 0..20),
        seed: u64,
    ) {
        let records: Vec<_> = given
            .iter()
            .map(|(priority, weight, port)| Srv { priority: *priority, weight: *weight, port: *port, target: String::new() })
            .collect();
        let ordered = order_srv(records.clone(), &mut ChaCha12Rng::seed_from_u64(seed));
        prop_assert!(ordered.is_sorted_by_key(|srv| srv.priority));
        let sorted = |mut list: Vec<Srv>| {
            list.sort_by_key(|srv| (srv.priority, srv.weight, srv.port));
            list
        };
        prop_assert_eq!(sorted(ordered), sorted(records));
    }
}
