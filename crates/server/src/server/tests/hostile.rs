//! What a stranger could try: captured messages, forged senders, addresses that are not theirs. Each test is an
//! attack that must come to nothing.

use super::*;
use crate::output::Output;

/// A REGISTER that was carried out, as somebody on the way saw it.
fn captured(bench: &mut Bench, phone: &mut Phone, flow: Flow) -> String {
    assert_eq!(status(&phone.sign_in(bench, FE1, flow)), 200);
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
    message
}

fn contacts(bench: &Bench, user: &str) -> Vec<String> {
    bench.server(FE1).explain(&aor(user), bench.now).bindings.into_iter().map(|seen| seen.contact).collect()
}

#[test]
fn captured_credentials_register_nobody_else_s_device() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let message = captured(&mut bench, &mut phone, flow);
    let before = contacts(&bench, "user1");
    let thief = bench.flow(FE1, Transport::Udp, 6666);
    let call_id = "Call-ID: user1-1";
    for forged in [
        message.clone(),
        message.replace("127.9.0.1:5000;transport", "127.9.0.1:6666;transport"),
        message.replace(call_id, "Call-ID: another"),
        message.replace("Contact: <sip:user1@127.9.0.1:5000;transport=udp>", "Contact: *\r\nExpires: 0"),
        message.replace("Call-ID", "Expires: 0\r\nCall-ID"),
    ] {
        let answer = bench.ask(FE1, thief, &forged).remove(0);
        assert_eq!(status(&answer), 401, "{forged}");
        assert_eq!(contacts(&bench, "user1"), before, "{forged}");
    }
    let seen = bench.server(FE1).explain(&aor("user1"), bench.now).bindings;
    assert_eq!(seen[0].flow, flow, "still where the user is");
    // After the user has left, too.
    phone.extra = "Expires: 0\r\n".to_owned();
    let goodbye = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &goodbye)[0]), 200);
    let forged = goodbye.replace("Expires: 0\r\n", "").replace("127.9.0.1:5000;tr", "127.9.0.1:6666;tr");
    assert_eq!(status(&bench.ask(FE1, thief, &forged)[0]), 401);
    assert_eq!(contacts(&bench, "user1"), [] as [String; 0]);
}

#[test]
fn a_restart_does_not_make_captured_credentials_good_again() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let message = captured(&mut bench, &mut phone, flow);
    bench.elapse(seconds(2));
    bench.kill(FE1);
    bench.start(FE1);
    let thief = bench.flow(FE1, Transport::Udp, 6666);
    let forged = message.replace("127.9.0.1:5000;transport", "127.9.0.1:6666;transport");
    let answer = bench.ask(FE1, thief, &forged.replace("Call-ID: user1-1", "Call-ID: new")).remove(0);
    assert_eq!(status(&answer), 401);
    assert_eq!(status(&phone.sign_in(&mut bench, FE1, flow)), 200, "the user costs it one more round trip");
}

#[test]
fn what_was_captured_at_one_pool_is_worth_nothing_at_the_other_once_the_user_is_there() {
    let mut bench = lync();
    let (mut phone, there) = phone(&mut bench, "user1", FE2, Transport::Udp, 5000);
    assert_eq!(status(&phone.sign_in(&mut bench, FE2, there)), 301);
    let captured = phone.register(there);
    assert_eq!(status(&bench.ask(FE2, there, &captured)[0]), 301);
    let here = bench.flow(FE1, Transport::Udp, 5000);
    let message = phone.register(here);
    assert_eq!(status(&bench.ask(FE1, here, &message)[0]), 200, "no second challenge for the user");
    let thief = bench.flow(FE1, Transport::Udp, 6666);
    let forged = captured.replace("127.9.0.1:5000;transport", "127.9.0.1:6666;transport");
    let answer = bench.ask(FE1, thief, &forged.replace("Call-ID: user1-1", "Call-ID: new")).remove(0);
    assert_eq!(status(&answer), 401);
}

#[test]
fn a_client_that_does_not_count_uses_each_nonce_once() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let first = phone.register(flow);
    phone.learn(&bench.ask(FE1, flow, &first)[0]);
    if let Some((challenge, _)) = &mut phone.nonce {
        challenge.qop = None;
    }
    let message = phone.register(flow);
    assert!(!message.contains("nc="), "{message}");
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
    let thief = bench.flow(FE1, Transport::Udp, 6666);
    let forged = message.replace("127.9.0.1:5000;transport", "127.9.0.1:6666;transport");
    let answer = bench.ask(FE1, thief, &forged.replace("Call-ID: user1-1", "Call-ID: new")).remove(0);
    assert_eq!(status(&answer), 401);
    assert!(answer.header(HeaderName::WwwAuthenticate).unwrap().contains("stale=TRUE"));
}

#[test]
fn a_datagram_proves_nothing_by_its_source_address() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    for (transport, expected) in [(Transport::Udp, 407), (Transport::Tls, 100)] {
        let (mut caller, from) = phone(&mut bench, "user1", FE1, transport, 5000);
        caller.call_id = transport.name().to_owned();
        caller.sign_in(&mut bench, FE1, from);
        let (mut callee, to) = phone(&mut bench, "carol", FE1, Transport::Tls, 5001);
        callee.call_id = transport.name().to_owned();
        callee.sign_in(&mut bench, FE1, to);
        bench.sent.clear();
        let invite = request("INVITE", "user1", "carol", from, transport.name(), "");
        assert_eq!(status(&bench.ask(FE1, from, &invite)[0]), expected, "{transport}");
        assert_eq!(bench.sent.iter().any(|(way, _)| *way == to), transport == Transport::Tls);
    }
}

#[test]
fn a_gateway_speaks_for_the_telephone_network_and_not_for_our_users() {
    use resilience::topology::{Gateway, Trunk};
    let mut topology = two_sites();
    let gateway = Gateway { host: "127.9.0.1".into(), port: 5060, site: topology.sites[0].name.clone() };
    topology.trunks = vec![Trunk { name: "world".into(), pattern: "+".into(), gateways: vec![gateway] }];
    let mut bench = Bench::new(topology, &[("user1", FE1), ("carol", FE1)]);
    let (mut callee, to) = phone(&mut bench, "carol", FE1, Transport::Tls, 5001);
    callee.sign_in(&mut bench, FE1, to);
    let from = bench.flow(FE1, Transport::Udp, 5060);
    let invite = request("INVITE", "+4989123", "carol", from, "g1", "");
    assert_eq!(status(&bench.ask(FE1, from, &invite)[0]), 100);
    let invite = request("INVITE", "user1", "carol", from, "g2", "");
    assert_eq!(status(&bench.ask(FE1, from, &invite)[0]), 407);
}

#[test]
fn a_connection_from_before_the_restart_proves_nobody() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tcp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    bench.kill(FE1);
    bench.start(FE1);
    // The world counts its connections from 1 again, so even the number may be the same.
    let message = request("MESSAGE", "user1", "carol", flow, "m1", "");
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 407);
}

#[test]
fn a_repeated_register_is_no_200_while_the_store_is_lost() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let message = captured(&mut bench, &mut phone, flow);
    bench.input(FE1, Input::StoreFailed { why: "disk full".to_owned() });
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 503, "what it asks for may not be on the disk");
    bench.input(FE1, Input::StoreRecovered);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
}

#[test]
fn strangers_write_nothing_into_a_user_s_history() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let moves = |bench: &Bench| bench.server(FE1).explain(&aor("user1"), bench.now).moves.len();
    let before = moves(&bench);
    let stranger = bench.flow(FE1, Transport::Udp, 6666);
    let register = Phone::new("user1", "<sip:x@127.9.0.1:6666>").register(stranger);
    bench.ask(FE1, stranger, &register.replace("Max-Forwards", "Require: magic\r\nMax-Forwards"));
    let message = request("MESSAGE", "user2", "user1", stranger, "m1", "");
    bench.ask(FE1, stranger, &message.replace("Max-Forwards: 70", "Max-Forwards: 0"));
    assert_eq!(moves(&bench), before);
}

#[test]
fn a_user_removed_while_the_server_was_down_leaves_the_disk_too() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    bench.kill(FE1);
    let everybody = bench.directory.clone();
    let mut directory = (*everybody).clone();
    directory.users.get_mut(&aor("user1")).unwrap().enabled = false;
    bench.directory = directory.into();
    bench.start(FE1);
    assert_eq!(endings(&bench, FE1), [DeRegister::AttributesChanged]);
    bench.kill(FE1);
    bench.directory = everybody;
    bench.start(FE1);
    assert_eq!(contacts(&bench, "user1"), [] as [String; 0], "enabled again is not registered again");
}

#[test]
fn an_order_that_is_not_carried_out_is_said_to_be() {
    let mut bench = lync();
    bench.elapse(seconds(10));
    for (pool, why) in [(FE2, "not failed over"), ("fe9.example.test", "not watched")] {
        bench.command(FE1, Command::FailBack(pool.into()));
        assert_eq!(lines(&bench, "order").len(), 1, "{pool}");
        assert!(lines(&bench, "order")[0].contains(why), "{:?}", lines(&bench, "order"));
        bench.lines.clear();
    }
    let now = bench.now;
    let server = bench.server_mut(FE1);
    server.handle_input(Input::Told(Command::FailOver("fe9.example.test".into())), now);
    assert!(matches!(server.poll_output(), Output::Event(_)));
}

#[test]
fn a_register_with_thousands_of_contacts_is_refused_at_once() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let many: Vec<String> = (0..1500).map(|n| format!("<sip:user1@127.9.0.1:{n}>;expires=0")).collect();
    phone.contact = many.join(",");
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 403);
}
