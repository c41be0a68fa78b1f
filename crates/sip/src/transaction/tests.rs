//! The tables, the schedules to the millisecond, and two collections that talk over a bad link.

mod any_order;
mod pair;
mod tables;

use std::time::Duration;

use super::*;
use crate::print::Builder;
use crate::transport::Transport;

/// Some moment; only differences matter.
#[expect(clippy::disallowed_methods, reason = "an epoch for virtual time; nothing depends on its value")]
fn epoch() -> Instant {
    Instant::now()
}

fn flow(transport: Transport) -> Flow {
    let serial = u64::from(transport.is_reliable());
    let address = |text: &str| text.parse().unwrap();
    Flow { transport, local: address("127.1.0.1:5060"), remote: address("127.2.0.1:5060"), serial }
}

const UDP: Transport = Transport::Udp;
const TCP: Transport = Transport::Tcp;

fn request(method: &str, branch: &str) -> Bytes {
    let text = format!(
        "{method} sip:bob@example.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.1.0.1:5060;rport;branch={branch}\r\n\
         Via: SIP/2.0/UDP 127.1.0.9;branch=z9hG4bKupstream\r\n\
         Max-Forwards: 69\r\n\
         Route: <sip:edge.example.test;lr>\r\n\
         From: <sip:alice@example.test>;tag=a1\r\n\
         To: <sip:bob@example.test>\r\n\
         Call-ID: call-1\r\n\
         CSeq: 7 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    Bytes::from(text)
}

fn parse(bytes: &Bytes) -> Message {
    Message::parse(bytes.clone()).unwrap()
}

fn response(request: &Bytes, status: u16) -> Bytes {
    Builder::response(&parse(request), status, "So").to_tag("b1").finish()
}

fn transactions() -> Transactions {
    Transactions::new(Timers::default())
}

fn sent(transactions: &mut Transactions) -> Vec<String> {
    let first_line =
        |bytes: Bytes| String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
    std::iter::from_fn(|| transactions.poll_transmit()).map(|transmit| first_line(transmit.bytes)).collect()
}

fn events(transactions: &mut Transactions) -> Vec<TransactionEvent> {
    std::iter::from_fn(|| transactions.poll_event()).collect()
}

/// Runs the clock to `until`; when, in milliseconds since `start`, something was sent.
fn run(transactions: &mut Transactions, start: Instant, until: Duration) -> Vec<u128> {
    let mut times = Vec::new();
    while let Some(at) = transactions.poll_timeout().filter(|at| *at <= start + until) {
        transactions.handle_timeout(at);
        times.extend(sent(transactions).iter().map(|_| at.duration_since(start).as_millis()));
    }
    times
}

const MINUTE: Duration = Duration::from_secs(60);

//------------ Schedules ------------------------------------------------------

#[test]
fn an_invite_over_udp_is_repeated_at_doubling_intervals_for_32_s() {
    let (start, mut ours) = (epoch(), transactions());
    let key = ours.send(request("INVITE", "z9hG4bK1"), flow(UDP), start);
    assert_eq!(sent(&mut ours).len(), 1);
    assert_eq!(run(&mut ours, start, Duration::from_millis(31_999)), [500, 1500, 3500, 7500, 15500, 31500]);
    assert_eq!(events(&mut ours), []);
    ours.handle_timeout(start + Duration::from_secs(32));
    assert_eq!(events(&mut ours), [TransactionEvent::TimedOut(key), TransactionEvent::Ended(key)]);
    assert!(ours.is_empty() && ours.poll_timeout().is_none());
}

#[test]
fn another_request_over_udp_is_repeated_every_4_s_at_most() {
    let (start, mut ours) = (epoch(), transactions());
    let key = ours.send(request("REGISTER", "z9hG4bK1"), flow(UDP), start);
    assert_eq!(sent(&mut ours).len(), 1);
    assert_eq!(
        run(&mut ours, start, MINUTE),
        [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
    );
    assert_eq!(events(&mut ours), [TransactionEvent::TimedOut(key), TransactionEvent::Ended(key)]);
}

#[test]
fn a_provisional_response_slows_the_repeats_of_a_request_and_ends_those_of_an_invite() {
    for (method, expected) in [("MESSAGE", vec![500, 4500, 8500]), ("INVITE", vec![])] {
        let (start, mut ours) = (epoch(), transactions());
        let bytes = request(method, "z9hG4bK1");
        let key = ours.send(bytes.clone(), flow(UDP), start);
        sent(&mut ours);
        let heard = ours.hear(&parse(&response(&bytes, 100)), flow(UDP), start);
        assert_eq!(heard, Heard::Response(key));
        assert_eq!(run(&mut ours, start, Duration::from_secs(10)), expected, "{method}");
    }
}

#[test]
fn over_a_stream_nothing_is_repeated() {
    for method in ["INVITE", "REGISTER"] {
        let (start, mut ours) = (epoch(), transactions());
        let key = ours.send(request(method, "z9hG4bK1"), flow(TCP), start);
        assert_eq!(sent(&mut ours).len(), 1);
        assert_eq!(ours.poll_timeout(), Some(start + Duration::from_secs(32)));
        assert_eq!(run(&mut ours, start, MINUTE), [0_u128; 0]);
        assert_eq!(events(&mut ours), [TransactionEvent::TimedOut(key), TransactionEvent::Ended(key)]);
    }
}

#[test]
fn a_refusal_over_udp_is_repeated_until_its_ack_comes() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = request("INVITE", "z9hG4bK1");
    let Heard::Request(key) = ours.hear(&parse(&invite), flow(UDP), start) else { panic!("new") };
    assert!(ours.respond(&key, response(&invite, 486), start));
    assert_eq!(sent(&mut ours), ["SIP/2.0 486 So"]);
    assert_eq!(run(&mut ours, start, Duration::from_secs(12)), [500, 1500, 3500, 7500, 11500]);

    let later = start + Duration::from_secs(12);
    assert_eq!(ours.hear(&parse(&request("ACK", "z9hG4bK1")), flow(UDP), later), Heard::Absorbed);
    assert_eq!(run(&mut ours, start, Duration::from_millis(16_999)), [0_u128; 0]);
    assert_eq!(ours.len(), 1, "Timer I still absorbs ACKs");
    run(&mut ours, start, Duration::from_secs(17));
    assert_eq!(events(&mut ours), [TransactionEvent::ServerEnded(key)]);
}

#[test]
fn a_refusal_that_is_never_acknowledged_is_reported_after_32_s() {
    for transport in [UDP, TCP] {
        let (start, mut ours) = (epoch(), transactions());
        let invite = request("INVITE", "z9hG4bK1");
        let Heard::Request(key) = ours.hear(&parse(&invite), flow(transport), start) else { panic!("new") };
        ours.respond(&key, response(&invite, 486), start);
        sent(&mut ours);
        let repeats = run(&mut ours, start, MINUTE);
        assert_eq!(repeats.len(), if transport == UDP { 10 } else { 0 });
        assert_eq!(
            events(&mut ours),
            [TransactionEvent::AckMissing(key), TransactionEvent::ServerEnded(key)]
        );
    }
}

#[test]
fn a_scale_of_nothing_still_ends() {
    let zero = Timers { t1: Duration::ZERO, t2: Duration::ZERO, t4: Duration::ZERO };
    let (start, mut ours) = (epoch(), Transactions::new(zero));
    ours.send(request("INVITE", "z9hG4bK1"), flow(UDP), start);
    ours.send(request("REGISTER", "z9hG4bK2"), flow(UDP), start);
    run(&mut ours, start, MINUTE);
    assert!(ours.is_empty());
}

//------------ We ask ---------------------------------------------------------

#[test]
fn a_final_response_is_heard_once_and_its_repeats_are_absorbed_for_t4() {
    let (start, mut ours) = (epoch(), transactions());
    let bytes = request("REGISTER", "z9hG4bK1");
    let key = ours.send(bytes.clone(), flow(UDP), start);
    let ok = parse(&response(&bytes, 200));
    assert_eq!(ours.hear(&ok, flow(UDP), start), Heard::Response(key));
    assert_eq!(ours.hear(&ok, flow(UDP), start), Heard::Absorbed);
    run(&mut ours, start, Duration::from_secs(5));
    assert_eq!(ours.hear(&ok, flow(UDP), start + Duration::from_secs(5)), Heard::Stray);
    assert_eq!(events(&mut ours), [TransactionEvent::Ended(key)]);
}

#[test]
fn over_a_stream_a_final_response_ends_everything_at_once() {
    let (start, mut ours) = (epoch(), transactions());
    let bytes = request("REGISTER", "z9hG4bK1");
    let key = ours.send(bytes.clone(), flow(TCP), start);
    assert_eq!(ours.hear(&parse(&response(&bytes, 200)), flow(TCP), start), Heard::Response(key));
    assert!(ours.is_empty() && ours.poll_timeout().is_none());
    assert_eq!(events(&mut ours), [TransactionEvent::Ended(key)]);
}

#[test]
fn a_refused_invite_is_acknowledged_hop_by_hop_each_time() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = request("INVITE", "z9hG4bK1");
    let key = ours.send(invite.clone(), flow(UDP), start);
    sent(&mut ours);
    let busy = parse(&response(&invite, 486));
    assert_eq!(ours.hear(&busy, flow(UDP), start), Heard::Response(key));
    let ack = parse(&ours.poll_transmit().unwrap().bytes);
    assert_eq!((ack.method(), ack.request_uri()), (Method::Ack, Some("sip:bob@example.test")));
    assert_eq!(ack.via().unwrap().branch(), Some("z9hG4bK1"));
    assert_eq!(ack.values(crate::header::HeaderName::Via).count(), 1);
    assert_eq!(ack.header(crate::header::HeaderName::Route), Some("<sip:edge.example.test;lr>"));
    assert_eq!((ack.from_tag(), ack.to_tag()), (Some("a1"), Some("b1")));
    assert_eq!((ack.cseq().unwrap().number, ack.call_id().unwrap()), (7, "call-1"));
    assert!(ack.validate().is_ok());

    assert_eq!(ours.hear(&busy, flow(UDP), start), Heard::Absorbed);
    assert_eq!(sent(&mut ours), ["ACK sip:bob@example.test SIP/2.0"]);
}

#[test]
fn every_2xx_to_an_invite_is_passed_up_and_a_late_one_is_a_stray() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = request("INVITE", "z9hG4bK1");
    let key = ours.send(invite.clone(), flow(UDP), start);
    sent(&mut ours);
    let ok = parse(&response(&invite, 200));
    for _ in 0..3 {
        assert_eq!(ours.hear(&ok, flow(UDP), start), Heard::Response(key));
    }
    assert_eq!(sent(&mut ours), [""; 0], "the ACK to a 2xx belongs to the core");
    run(&mut ours, start, MINUTE);
    assert_eq!(ours.hear(&ok, flow(UDP), start + MINUTE), Heard::Stray);
}

#[test]
fn a_cancel_waits_for_a_provisional_response() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = request("INVITE", "z9hG4bK1");
    let key = ours.send(invite.clone(), flow(UDP), start);
    sent(&mut ours);
    ours.cancel(&key, start);
    assert_eq!(sent(&mut ours), [""; 0]);

    ours.hear(&parse(&response(&invite, 100)), flow(UDP), start);
    let cancel = ours.poll_transmit().unwrap().bytes;
    let message = parse(&cancel);
    assert_eq!((message.method(), message.cseq().unwrap().number), (Method::Cancel, 7));
    assert_eq!(message.via().unwrap().branch(), Some("z9hG4bK1"));
    assert!(message.to_tag().is_none() && message.validate().is_ok());
    ours.cancel(&key, start);
    assert_eq!(sent(&mut ours), [""; 0], "one CANCEL is enough");

    assert_eq!(ours.hear(&parse(&response(&cancel, 200)), flow(UDP), start), Heard::Absorbed);
    assert_eq!(ours.hear(&parse(&response(&invite, 487)), flow(UDP), start), Heard::Response(key));
}

#[test]
fn a_cancelled_invite_that_stays_silent_ends_after_32_s() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = request("INVITE", "z9hG4bK1");
    let key = ours.send(invite.clone(), flow(UDP), start);
    ours.hear(&parse(&response(&invite, 180)), flow(UDP), start);
    assert_eq!(ours.poll_timeout(), None, "an INVITE may ring for ever");
    ours.cancel(&key, start);
    run(&mut ours, start, Duration::from_secs(32));
    assert_eq!(events(&mut ours), [TransactionEvent::TimedOut(key), TransactionEvent::Ended(key)]);
    assert!(ours.is_empty());
}

#[test]
fn an_answered_invite_is_not_cancelled() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = request("INVITE", "z9hG4bK1");
    let key = ours.send(invite.clone(), flow(UDP), start);
    ours.cancel(&key, start);
    ours.hear(&parse(&response(&invite, 200)), flow(UDP), start);
    sent(&mut ours);
    ours.cancel(&key, start);
    assert_eq!(sent(&mut ours), [""; 0]);
}

#[test]
fn a_lost_flow_fails_what_waits_on_it_and_nothing_else() {
    let (start, mut ours) = (epoch(), transactions());
    let (here, there) = (flow(TCP), Flow { serial: 2, ..flow(TCP) });
    let first = ours.send(request("REGISTER", "z9hG4bK1"), here, start);
    let second = ours.send(request("INVITE", "z9hG4bK2"), here, start);
    ours.send(request("REGISTER", "z9hG4bK3"), there, start);
    let Heard::Request(asked) = ours.hear(&parse(&request("MESSAGE", "z9hG4bK4")), here, start) else {
        panic!("new")
    };
    ours.handle_flow_lost(here, start);
    assert_eq!(
        events(&mut ours),
        [
            TransactionEvent::FlowFailed(first),
            TransactionEvent::Ended(first),
            TransactionEvent::FlowFailed(second),
            TransactionEvent::Ended(second),
            TransactionEvent::ServerFlowFailed(asked),
            TransactionEvent::ServerEnded(asked),
        ]
    );
    assert_eq!(ours.len(), 1);

    let unreachable = ours.send(request("REGISTER", "z9hG4bK5"), flow(UDP), start);
    ours.handle_flow_lost(flow(UDP), start);
    assert_eq!(events(&mut ours)[0], TransactionEvent::FlowFailed(unreachable));
}

#[test]
fn responses_find_their_branch_of_a_fork() {
    let (start, mut ours) = (epoch(), transactions());
    let branches = ["z9hG4bKone", "z9hG4bKtwo"].map(|branch| request("INVITE", branch));
    let keys = branches.clone().map(|bytes| ours.send(bytes, flow(UDP), start));
    assert_eq!(ours.hear(&parse(&response(&branches[1], 180)), flow(UDP), start), Heard::Response(keys[1]));
    assert_eq!(ours.hear(&parse(&response(&branches[0], 486)), flow(UDP), start), Heard::Response(keys[0]));
    ours.abandon(&keys[1]);
    assert_eq!(ours.hear(&parse(&response(&branches[1], 200)), flow(UDP), start), Heard::Stray);
}

#[test]
fn an_unreadable_request_fails_and_an_ack_is_sent_and_forgotten() {
    let (start, mut ours) = (epoch(), transactions());
    let key = ours.send(Bytes::from_static(b"nonsense"), flow(UDP), start);
    assert_eq!(events(&mut ours), [TransactionEvent::FlowFailed(key), TransactionEvent::Ended(key)]);
    ours.send(request("ACK", "z9hG4bK1"), flow(UDP), start);
    assert_eq!(sent(&mut ours).len(), 1);
    assert!(ours.is_empty());
}

//------------ We answer ------------------------------------------------------

#[test]
fn a_repeated_request_gets_the_last_response_again() {
    for (method, silent_at_first) in [("INVITE", false), ("MESSAGE", true)] {
        let (start, mut ours) = (epoch(), transactions());
        let bytes = request(method, "z9hG4bK1");
        let Heard::Request(key) = ours.hear(&parse(&bytes), flow(UDP), start) else { panic!("new") };
        assert_eq!(ours.hear(&parse(&bytes), flow(UDP), start), Heard::Absorbed);
        assert_eq!(sent(&mut ours), [""; 0]);
        ours.respond(&key, response(&bytes, 100), start);
        ours.respond(&key, response(&bytes, if silent_at_first { 202 } else { 404 }), start);
        sent(&mut ours);
        assert_eq!(ours.hear(&parse(&bytes), flow(UDP), start), Heard::Absorbed);
        assert_eq!(sent(&mut ours).len(), 1, "{method}");
        assert!(!ours.respond(&key, response(&bytes, 500), start), "one final response is enough");
    }
}

#[test]
fn an_accepted_invite_swallows_repeats_and_lets_more_2xx_through() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = request("INVITE", "z9hG4bK1");
    let Heard::Request(key) = ours.hear(&parse(&invite), flow(TCP), start) else { panic!("new") };
    assert!(ours.respond(&key, response(&invite, 200), start));
    assert!(ours.respond(&key, response(&invite, 200), start));
    assert!(!ours.respond(&key, response(&invite, 603), start));
    assert_eq!(sent(&mut ours).len(), 2);
    assert_eq!(ours.hear(&parse(&invite), flow(TCP), start), Heard::Absorbed);
    assert_eq!(sent(&mut ours), [""; 0]);
    // The ACK to a 2xx has a branch of its own; clients of RFC 2543 reuse the old one. Both go up.
    for branch in ["z9hG4bK1", "z9hG4bKother"] {
        assert_eq!(ours.hear(&parse(&request("ACK", branch)), flow(TCP), start), Heard::Ack);
    }
    run(&mut ours, start, Duration::from_secs(32));
    assert_eq!(events(&mut ours), [TransactionEvent::ServerEnded(key)]);
}

#[test]
fn a_cancel_finds_its_invite_and_has_a_transaction_of_its_own() {
    let (start, mut ours) = (epoch(), transactions());
    let Heard::Request(key) = ours.hear(&parse(&request("INVITE", "z9hG4bK1")), flow(UDP), start) else {
        panic!("new")
    };
    let bytes = request("CANCEL", "z9hG4bK1");
    let Heard::Cancel { cancel, invite } = ours.hear(&parse(&bytes), flow(UDP), start) else {
        panic!("a CANCEL")
    };
    assert_eq!(invite, Some(key));
    assert!(ours.respond(&cancel, response(&bytes, 200), start));
    assert_eq!(ours.hear(&parse(&bytes), flow(UDP), start), Heard::Absorbed);
    assert_eq!(sent(&mut ours), ["SIP/2.0 200 So", "SIP/2.0 200 So"]);

    let late = parse(&request("CANCEL", "z9hG4bKnobody"));
    assert!(matches!(ours.hear(&late, flow(UDP), start), Heard::Cancel { invite: None, .. }));
}

#[test]
fn a_request_that_is_no_invite_is_never_answered_408_nor_with_other_than_100_first() {
    let (start, mut ours) = (epoch(), transactions());
    let bytes = request("MESSAGE", "z9hG4bK1");
    let Heard::Request(key) = ours.hear(&parse(&bytes), flow(UDP), start) else { panic!("new") };
    assert!(!ours.respond(&key, response(&bytes, 180), start));
    assert!(!ours.respond(&key, response(&bytes, 408), start));
    assert_eq!(sent(&mut ours), [""; 0]);
    assert_eq!(events(&mut ours), [TransactionEvent::ServerEnded(key)]);
}

#[test]
fn work_nobody_waits_for_any_more_is_reported() {
    let (start, mut ours) = (epoch(), transactions());
    let Heard::Request(key) = ours.hear(&parse(&request("MESSAGE", "z9hG4bK1")), flow(TCP), start) else {
        panic!("new")
    };
    run(&mut ours, start, Duration::from_secs(32));
    assert_eq!(events(&mut ours), [TransactionEvent::Unanswered(key), TransactionEvent::ServerEnded(key)]);
}

#[test]
fn without_rport_the_answer_goes_to_the_port_of_sent_by() {
    let (start, mut ours) = (epoch(), transactions());
    let natted = Flow { remote: "127.9.0.1:40000".parse().unwrap(), ..flow(UDP) };
    for (with_rport, expected) in [(true, "127.9.0.1:40000"), (false, "127.9.0.1:5060")] {
        let mut text =
            String::from_utf8(request("MESSAGE", &format!("z9hG4bK{with_rport}")).to_vec()).unwrap();
        if !with_rport {
            text = text.replace(";rport", "");
        }
        let bytes = Bytes::from(text);
        let Heard::Request(key) = ours.hear(&parse(&bytes), natted, start) else { panic!("new") };
        ours.respond(&key, response(&bytes, 200), start);
        assert_eq!(ours.poll_transmit().unwrap().flow.remote.to_string(), expected);
    }
}

#[test]
fn a_cancel_of_a_known_invite_is_let_into_a_full_table() {
    let (start, mut ours) = (epoch(), transactions().with_limit(1));
    let Heard::Request(key) = ours.hear(&parse(&request("INVITE", "z9hG4bK1")), flow(UDP), start) else {
        panic!("new")
    };
    assert_eq!(ours.hear(&parse(&request("CANCEL", "z9hG4bK2")), flow(UDP), start), Heard::Full);
    let heard = ours.hear(&parse(&request("CANCEL", "z9hG4bK1")), flow(UDP), start);
    assert!(matches!(heard, Heard::Cancel { invite: Some(found), .. } if found == key));
}

#[test]
fn a_full_table_says_so_and_still_absorbs_what_it_knows() {
    let (start, mut ours) = (epoch(), transactions().with_limit(1));
    let known = parse(&request("MESSAGE", "z9hG4bK1"));
    assert!(matches!(ours.hear(&known, flow(UDP), start), Heard::Request(_)));
    assert_eq!(ours.hear(&parse(&request("MESSAGE", "z9hG4bK2")), flow(UDP), start), Heard::Full);
    assert_eq!(ours.hear(&known, flow(UDP), start), Heard::Absorbed);
    run(&mut ours, start, MINUTE);
    assert!(matches!(ours.hear(&known, flow(UDP), start + MINUTE), Heard::Request(_)));
}

//------------ Matching -------------------------------------------------------

#[test]
fn one_branch_from_two_senders_is_two_transactions() {
    let (start, mut ours) = (epoch(), transactions());
    let text = String::from_utf8(request("MESSAGE", "z9hG4bK1").to_vec()).unwrap();
    for sent_by in ["127.1.0.1:5060", "127.1.0.2:5060", "127.1.0.1:5070"] {
        let other = Bytes::from(text.replace("UDP 127.1.0.1:5060", &format!("UDP {sent_by}")));
        assert!(matches!(ours.hear(&parse(&other), flow(UDP), start), Heard::Request(_)), "{sent_by}");
    }
    assert_eq!(ours.len(), 3);
}

/// As the Lync-family client sends it: no branch at all.
fn without_branch(method: &str, number: u32, to_tag: &str, more: &str) -> Message {
    let text = format!(
        "{method} sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/tcp 127.1.0.7:48424\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.test>;tag=a1;epid=d3470f2e1d\r\nTo: <sip:bob@example.test>{to_tag}\r\n\
         Call-ID: call-2\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n{more}\r\n"
    );
    parse(&Bytes::from(text))
}

#[test]
fn a_request_without_branch_is_matched_as_rfc_2543_did() {
    let (start, mut ours) = (epoch(), transactions());
    let invite = without_branch("INVITE", 1, "", "");
    let Heard::Request(key) = ours.hear(&invite, flow(TCP), start) else { panic!("new") };
    assert_eq!(ours.hear(&invite, flow(TCP), start), Heard::Absorbed);
    let cancel = ours.hear(&without_branch("CANCEL", 1, "", ""), flow(TCP), start);
    assert!(matches!(cancel, Heard::Cancel { invite: Some(found), .. } if found == key));

    ours.respond(&key, Builder::response(&invite, 486, "Busy").to_tag("b1").finish(), start);
    assert_eq!(ours.hear(&without_branch("ACK", 1, ";tag=b1", ""), flow(TCP), start), Heard::Absorbed);
    // The next request in the dialog is another one.
    let message = without_branch("MESSAGE", 2, ";tag=b1", "");
    assert!(matches!(ours.hear(&message, flow(TCP), start), Heard::Request(_)));
}

#[test]
fn a_second_try_under_the_same_branch_is_told_from_a_repeat_by_its_credentials() {
    for transport in [UDP, TCP] {
        let (start, mut ours) = (epoch(), transactions());
        let first = without_branch("INVITE", 1, "", "");
        let second = without_branch("INVITE", 1, "", "Proxy-Authorization: Digest response=\"1\"\r\n");
        let third = without_branch("INVITE", 1, "", "Proxy-Authorization: Digest response=\"2\"\r\n");
        let challenge = |message: &Message| Builder::response(message, 407, "Who").to_tag("b1").finish();

        let Heard::Request(one) = ours.hear(&first, flow(transport), start) else { panic!("new") };
        assert_eq!(ours.hear(&second, flow(transport), start), Heard::Absorbed, "not challenged yet");
        ours.respond(&one, challenge(&first), start);
        assert_eq!(ours.hear(&first, flow(transport), start), Heard::Absorbed);

        let Heard::Request(two) = ours.hear(&second, flow(transport), start) else { panic!("a second try") };
        assert!(ours.respond(&two, challenge(&second), start));
        assert!(matches!(ours.hear(&third, flow(transport), start), Heard::Request(_)));
        assert_eq!(
            events(&mut ours),
            [TransactionEvent::ServerEnded(one), TransactionEvent::ServerEnded(two)]
        );
    }
}

#[test]
fn a_response_to_nothing_we_asked_is_a_stray() {
    let (start, mut ours) = (epoch(), transactions());
    let bytes = request("INVITE", "z9hG4bK1");
    assert_eq!(ours.hear(&parse(&response(&bytes, 200)), flow(UDP), start), Heard::Stray);
    ours.send(bytes, flow(UDP), start);
    let other_method = response(&request("BYE", "z9hG4bK1"), 200);
    assert_eq!(ours.hear(&parse(&other_method), flow(UDP), start), Heard::Stray);
}

#[test]
fn the_timer_table_reads_like_appendix_a() {
    let seconds =
        |value: Option<Duration>| value.map_or("-".to_owned(), |value| format!("{}", value.as_secs_f64()));
    let rows: Vec<_> = Timer::ALL
        .iter()
        .map(|timer| {
            let value = |reliable| seconds(timer.value(&Timers::default(), reliable));
            format!("{timer:?} {} {} {}", value(false), value(true), timer.meaning())
        })
        .collect();
    assert_eq!(
        rows,
        [
            "A 0.5 - repeat INVITE",
            "B 32 32 no response to INVITE",
            "D 32 0 absorb repeated refusals",
            "E 0.5 - repeat request",
            "F 32 32 no final response",
            "G 0.5 - repeat refusal",
            "H 32 32 no ACK",
            "I 5 0 absorb repeated ACKs",
            "J 32 0 absorb repeated requests",
            "K 5 0 absorb repeated responses",
            "L 32 32 absorb repeated INVITEs after a 2xx",
            "M 32 32 pass on repeated 2xx",
        ]
    );
}

#[test]
fn a_response_without_a_status_starts_nothing() {
    let mut ours = transactions();
    let text = String::from_utf8(response(&request("OPTIONS", "z9hG4bK1"), 200).to_vec()).unwrap();
    let broken = parse(&Bytes::from(text.replacen("200", "2000", 1)));
    assert_eq!(ours.hear(&broken, flow(UDP), epoch()), Heard::Stray);
    assert!(ours.is_empty());
}

#[test]
fn timers_scaled_to_nothing_end_a_transaction_and_not_the_program() {
    let (now, zero) = (epoch(), Duration::ZERO);
    for method in ["INVITE", "OPTIONS"] {
        for transport in [UDP, TCP] {
            let mut ours = Transactions::new(Timers { t1: zero, t2: zero, t4: zero });
            let asked = request(method, "z9hG4bK1");
            ours.send(asked.clone(), flow(transport), now);
            ours.hear(&parse(&response(&asked, 183)), flow(transport), now);
            ours.hear(&parse(&response(&asked, 200)), flow(transport), now);
            let Heard::Request(key) = ours.hear(&parse(&asked), flow(transport), now) else {
                panic!("a request is heard")
            };
            ours.respond(&key, response(&asked, 100), now);
            ours.respond(&key, response(&asked, 404), now);
            while let Some(at) = ours.poll_timeout() {
                assert_eq!(at, now);
                ours.handle_timeout(at);
            }
            assert!(ours.is_empty(), "{method} over {transport}");
        }
    }
}
