use rand_core::SeedableRng;

use super::*;
use crate::agenda::epoch;

/// Two hosts on two sites; host 1 listens on TLS 5061 as `fe1.example.test`.
struct Pair {
    network: Network,
    agenda: Agenda<Packet>,
    now: Instant,
    client: HostId,
    server: HostId,
}

impl Pair {
    fn new() -> Self {
        let mut network = Network::new(ChaCha12Rng::seed_from_u64(7));
        let client = network.add_host("north", [127, 9, 0, 1].into(), Vec::new(), Vec::new());
        let listens = vec![(Transport::Tls, 5061), (Transport::Tcp, 5060)];
        let server =
            network.add_host("south", [127, 1, 0, 1].into(), listens, vec!["fe1.example.test".into()]);
        Pair { network, agenda: Agenda::new(), now: epoch(), client, server }
    }

    fn target(&self, transport: Transport, name: &str) -> Target {
        Target { transport, address: ([127, 1, 0, 1], transport.default_port()).into(), name: name.into() }
    }

    /// Lets the next `span` pass and returns what arrived.
    fn elapse(&mut self, span: Duration) -> Vec<(HostId, Arrival)> {
        let end = self.now + span;
        let mut arrivals = Vec::new();
        while self.agenda.next_at().is_some_and(|at| at <= end) {
            if let Some((at, packet)) = self.agenda.take() {
                self.now = at;
                arrivals.extend(self.network.occur(packet, at, &mut self.agenda));
            }
        }
        self.now = end;
        arrivals
    }

    fn connect(&mut self) -> (Flow, Flow) {
        let target = self.target(Transport::Tls, "fe1.example.test");
        self.network.open(self.client, 1, &target, self.now, &mut self.agenda);
        let arrivals = self.elapse(Duration::from_secs(1));
        match arrivals.as_slice() {
            [(_, Arrival::Accepted { flow: theirs, .. }), (_, Arrival::Opened { flow: ours, .. })] => {
                (*ours, *theirs)
            }
            other => panic!("expected a connection, got {other:?}"),
        }
    }

    fn send(&mut self, host: HostId, flow: Flow, text: &'static str) {
        self.network.transmit(host, flow, Bytes::from_static(text.as_bytes()), self.now, &mut self.agenda);
    }
}

fn texts(arrivals: &[(HostId, Arrival)]) -> Vec<String> {
    arrivals
        .iter()
        .map(|(_, arrival)| match arrival {
            Arrival::Bytes { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
            Arrival::Lost { why, .. } | Arrival::OpenFailed { why, .. } => why.to_string(),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_is_sent_into_a_cut_arrives_in_order_after_the_repair() {
    let mut pair = Pair::new();
    let (ours, _) = pair.connect();
    let (client, server) = (pair.client, pair.server);
    pair.network.set_wired(server, false);
    pair.send(client, ours, "one");
    assert!(pair.elapse(Duration::from_secs(20)).is_empty(), "a cut host is silent, not reset");
    pair.send(client, ours, "two");
    pair.network.set_wired(server, true);
    assert_eq!(texts(&pair.elapse(Duration::from_secs(60))), ["one", "two"]);
}

#[test]
fn a_piece_in_flight_when_the_card_goes_down_is_not_overtaken() {
    let mut pair = Pair::new();
    let (ours, _) = pair.connect();
    let (client, server) = (pair.client, pair.server);
    pair.send(client, ours, "one");
    pair.network.set_wired(server, false);
    pair.send(client, ours, "two");
    pair.elapse(Duration::from_millis(100));
    pair.network.set_wired(server, true);
    assert_eq!(texts(&pair.elapse(Duration::from_secs(5))), ["one", "two"]);
}

#[test]
fn a_killed_process_resets_its_peers_and_refuses_callers() {
    let mut pair = Pair::new();
    pair.connect();
    let (client, server) = (pair.client, pair.server);
    pair.network.kill(server, pair.now, &mut pair.agenda);
    assert_eq!(texts(&pair.elapse(Duration::from_secs(1))), ["reset by the other side"]);
    let target = pair.target(Transport::Tls, "fe1.example.test");
    pair.network.open(client, 2, &target, pair.now, &mut pair.agenda);
    assert_eq!(texts(&pair.elapse(Duration::from_secs(1))), ["refused"]);
}

#[test]
fn connecting_to_a_cut_host_times_out() {
    let mut pair = Pair::new();
    let (client, server) = (pair.client, pair.server);
    pair.network.set_wired(server, false);
    let target = pair.target(Transport::Tls, "fe1.example.test");
    pair.network.open(client, 2, &target, pair.now, &mut pair.agenda);
    assert!(pair.elapse(CONNECT_TIMEOUT - Duration::from_millis(1)).is_empty());
    assert_eq!(texts(&pair.elapse(Duration::from_millis(1))), ["timed out"]);
}

#[test]
fn a_frozen_process_accepts_tcp_and_never_finishes_tls() {
    let mut pair = Pair::new();
    let (client, server) = (pair.client, pair.server);
    pair.network.set_frozen(server, true);
    for (ticket, transport) in [(1, Transport::Tcp), (2, Transport::Tls)] {
        let target = pair.target(transport, "fe1.example.test");
        pair.network.open(client, ticket, &target, pair.now, &mut pair.agenda);
    }
    let tickets: Vec<_> = pair
        .elapse(Duration::from_secs(10))
        .into_iter()
        .filter_map(|(_, arrival)| match arrival {
            Arrival::Opened { ticket, .. } => Some((ticket, true)),
            Arrival::OpenFailed { ticket, .. } => Some((ticket, false)),
            _ => None,
        })
        .collect();
    assert_eq!(tickets, [(1, true), (2, false)]);
}

#[test]
fn a_certificate_that_does_not_name_the_target_is_refused() {
    let mut pair = Pair::new();
    let target = pair.target(Transport::Tls, "fe2.example.test");
    pair.network.open(pair.client, 1, &target, pair.now, &mut pair.agenda);
    let said = texts(&pair.elapse(Duration::from_secs(1)));
    assert_eq!(said, ["TLS failed: the certificate is for fe1.example.test, not for fe2.example.test"]);
}

#[test]
fn a_wall_can_stand_in_one_direction() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect();
    let (client, server) = (pair.client, pair.server);
    pair.network.wall(&[client], &[server]);
    pair.send(client, ours, "up");
    pair.send(server, theirs, "down");
    assert_eq!(texts(&pair.elapse(Duration::from_secs(3))), ["down"]);
    pair.network.unwall(&[server], &[client]);
    assert_eq!(texts(&pair.elapse(Duration::from_secs(10))), ["up"]);
}

#[test]
fn closing_delivers_what_was_sent_before() {
    let mut pair = Pair::new();
    let (ours, _) = pair.connect();
    let client = pair.client;
    pair.send(client, ours, "last words");
    pair.network.close(client, ours, pair.now, &mut pair.agenda);
    assert_eq!(texts(&pair.elapse(Duration::from_secs(1))), ["last words", "closed by the other side"]);
}

#[test]
fn loss_delays_a_stream_and_thins_datagrams() {
    let mut pair = Pair::new();
    let (ours, _) = pair.connect();
    let (client, server) = (pair.client, pair.server);
    pair.network.set_link("north", "south", Link { loss: 0.5, ..Link::WIDE });
    for _ in 0..100 {
        pair.send(client, ours, "s");
    }
    let flow = Flow {
        transport: Transport::Udp,
        local: ([127, 9, 0, 1], 5060).into(),
        remote: ([127, 1, 0, 1], 5060).into(),
        serial: 0,
    };
    for _ in 0..100 {
        pair.send(client, flow, "d");
    }
    let arrived = pair.elapse(Duration::from_secs(600));
    assert!(arrived.iter().all(|(host, _)| *host == server));
    let said = texts(&arrived);
    assert_eq!(said.iter().filter(|text| *text == "s").count(), 100);
    let datagrams = said.iter().filter(|text| *text == "d").count();
    assert!((30..70).contains(&datagrams), "{datagrams} of 100 datagrams survived 50 % loss");
}
