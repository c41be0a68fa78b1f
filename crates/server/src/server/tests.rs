//! Whole brains on the bench: each row of the answer table in real messages, pairs that fail over and back, restarts.

mod hostile;

use std::time::Duration;

use resilience::profile::Profile;
use resilience::topology::examples::{FE1, FE2, two_sites, two_sites_rehome};
use sip::digest::Challenge;
use sip::header::HeaderName;
use sip::message::Message;
use sip::transport::{Flow, FlowLoss, Transport};

use crate::input::{Command, Input};
use crate::output::{Change, DeRegister};
use crate::testing::{Bench, DOMAIN, LYNC, OURS, Phone, aor};

/// Two users, one homed on each pool.
const USERS: [(&str, &str); 2] = [("user1", FE1), ("user2", FE2)];

fn lync() -> Bench {
    Bench::new(two_sites(), &USERS)
}

fn rehome() -> Bench {
    Bench::new(two_sites_rehome(), &USERS)
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn contact(user: &str, flow: Flow) -> String {
    let transport = flow.transport.name().to_ascii_lowercase();
    format!("<sip:{user}@{};transport={transport}>", flow.remote)
}

/// A phone with a flow to a server.
fn phone(
    bench: &mut Bench,
    user: &'static str,
    server: &str,
    transport: Transport,
    port: u16,
) -> (Phone, Flow) {
    let flow = bench.flow(server, transport, port);
    (Phone::new(user, &contact(user, flow)), flow)
}

fn status(message: &Message) -> u16 {
    message.status().expect("a response")
}

/// The lines of events that contain `text`.
fn lines(bench: &Bench, text: &str) -> Vec<String> {
    bench.lines.iter().filter(|line| line.contains(text)).cloned().collect()
}

/// How registrations ended at a server, in order.
fn endings(bench: &Bench, server: &str) -> Vec<DeRegister> {
    let kept = bench.disk.get(&server.into()).map(Vec::as_slice).unwrap_or_default();
    kept.iter()
        .filter_map(|change| match change {
            Change::Record(record) => Some(record.deregister),
            Change::Binding(_) | Change::Unbound { .. } => None,
        })
        .collect()
}

fn without(text: &str, names: &[&str]) -> String {
    let keeps = |line: &&str| !names.iter().any(|name| line.starts_with(name));
    text.split("\r\n").filter(keeps).collect::<Vec<_>>().join("\n")
}

fn text(message: &Message) -> &str {
    std::str::from_utf8(message.bytes()).unwrap()
}

//------------ Rows of the answer table ----------------------------------------

#[test]
fn at_home_the_answer_is_200_with_the_binding() {
    let mut bench = lync();
    let (phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    let mut phone = phone.with(LYNC).with("ms-keep-alive: UAC;hop-hop=yes\r\n");
    let answer = phone.sign_in(&mut bench, FE1, flow);
    assert_eq!(
        without(text(&answer), &["To:"]),
        "SIP/2.0 200 OK\n\
         Via: SIP/2.0/TLS 127.9.0.1:5000;branch=z9hG4bKuser1-12;received=127.9.0.1;rport=5000\n\
         From: <sip:user1@example.test>;tag=from-user1\n\
         Call-ID: user1-1\n\
         CSeq: 2 REGISTER\n\
         Contact: <sip:user1@127.9.0.1:5000;transport=tls>;expires=600\n\
         Expires: 600\n\
         ms-keep-alive: UAS; tcp=no; hop-hop=yes; end-end=no; timeout=300\n\
         presence-state: register-action=\"added\";primary-cluster-type=\"central\";is-connected-to-primary=\"yes\"\n\
         Supported: path, outbound\n\
         Server: Rehome\n\
         Content-Length: 0\n\n"
    );
    assert_eq!(
        lines(&bench, "user1"),
        [
            "0 fe1.example.test user1@example.test REGISTER 401",
            "0 fe1.example.test user1@example.test REGISTER 200 expires 600 s",
        ]
    );
}

#[test]
fn at_the_wrong_pool_the_answer_is_the_model_s_301() {
    let mut bench = lync();
    let (phone, flow) = phone(&mut bench, "user2", FE1, Transport::Tls, 5000);
    let answer = phone.with(LYNC).sign_in(&mut bench, FE1, flow);
    assert_eq!(
        without(text(&answer), &["To:"]),
        "SIP/2.0 301 Redirect request to Home Server\n\
         Via: SIP/2.0/TLS 127.9.0.1:5000;branch=z9hG4bKuser2-12;received=127.9.0.1;rport=5000\n\
         From: <sip:user2@example.test>;tag=from-user2\n\
         Call-ID: user2-1\n\
         CSeq: 2 REGISTER\n\
         Contact: <sip:fe2.example.test:5061;transport=TLS>;q=0.7\n\
         Contact: <sip:fe1.example.test:5061;transport=TLS>;q=0.3\n\
         Expires: 2592000\n\
         Content-Length: 0\n\n"
    );
    assert_eq!(
        lines(&bench, "301"),
        [
            "0 fe1.example.test user2@example.test REGISTER 301 fe2.example.test q=0.7, fe1.example.test q=0.3 (homed elsewhere)"
        ]
    );
}

#[test]
fn our_own_client_learns_its_registrars_from_every_answer() {
    let set =
        "<sip:fe2.example.test:5061;transport=TLS>;q=0.7, <sip:fe1.example.test:5061;transport=TLS>;q=0.3";
    let mut bench = rehome();
    for server in [FE1, FE2] {
        let (phone, flow) = phone(&mut bench, "user2", server, Transport::Tls, 5000);
        let answer = phone.with(OURS).sign_in(&mut bench, server, flow);
        assert_eq!(status(&answer), if server == FE1 { 301 } else { 200 });
        assert_eq!(answer.header_named("Registrar-Set"), Some(set));
    }
    let (plain, flow) = phone(&mut bench, "user2", FE2, Transport::Tls, 5001);
    let answer = plain.with(LYNC).sign_in(&mut bench, FE2, flow);
    assert_eq!(answer.header_named("Registrar-Set"), None, "only to those who list the tag");
}

#[test]
fn a_redirect_over_udp_names_the_udp_port() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user2", FE1, Transport::Udp, 5000);
    let answer = phone.sign_in(&mut bench, FE1, flow);
    let contacts: Vec<_> = answer.headers(HeaderName::Contact).collect();
    assert_eq!(
        contacts,
        [
            "<sip:fe2.example.test:5060;transport=UDP>;q=0.7",
            "<sip:fe1.example.test:5060;transport=UDP>;q=0.3"
        ]
    );
}

#[test]
fn unknown_user_and_wrong_password_are_answered_alike_to_the_byte() {
    let mut bench = lync();
    let flow = bench.flow(FE1, Transport::Udp, 5000);
    let mut answers = Vec::new();
    for (user, password) in [("user1", "wrong"), ("nobody", "wrong")] {
        let mut phone = Phone { password, ..Phone::new(user, "<sip:x@127.9.0.1:5000>") };
        phone.call_id = "same".to_owned();
        for expected in ["first challenge", "second challenge"] {
            let message = phone.register(flow);
            let answer = bench.ask(FE1, flow, &message).pop().expect(expected);
            assert_eq!(status(&answer), 401);
            phone.learn(&answer);
            let nonce = &phone.nonce.as_ref().unwrap().0.nonce;
            let plain = text(&answer).replace(user, "USER").replace(nonce.as_str(), "NONCE");
            let tag = answer.to_tag().unwrap();
            answers.push(plain.replace(tag, "TAG"));
        }
    }
    assert_eq!(answers[0], answers[2], "without credentials");
    assert_eq!(answers[1], answers[3], "with wrong ones");
    assert!(!answers[1].contains("stale"), "{}", answers[1]);
}

#[test]
fn a_disabled_user_learns_it_only_with_the_right_password() {
    let mut bench = lync();
    let mut directory = (*bench.directory).clone();
    directory.version = 2;
    directory.users.get_mut(&aor("user1")).unwrap().enabled = false;
    let topology = bench.topology.clone();
    bench.command(FE1, Command::Reload { topology, directory: directory.into() });
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let answer = phone.sign_in(&mut bench, FE1, flow);
    assert_eq!(status(&answer), 403);
    assert!(answer.header_named("ms-diagnostics").unwrap().starts_with("4003;"), "{}", text(&answer));
    phone.password = "wrong";
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 401);
}

#[test]
fn nobody_registers_for_somebody_else() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("victim", FE1)]);
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    for (whom, expected) in [("victim", 403), ("nobody", 403)] {
        let message = phone.register(flow).replace("To: <sip:user1@", &format!("To: <sip:{whom}@"));
        assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), expected, "{whom}");
        assert!(bench.server(FE1).explain(&aor(whom), bench.now).bindings.is_empty());
    }
}

#[test]
fn sha_256_is_offered_to_clients_that_can_choose_and_md5_to_all() {
    let mut bench = lync();
    let (mut plain, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let message = plain.register(flow);
    assert_eq!(offered(&bench.ask(FE1, flow, &message)[0]), ["MD5"]);
    assert_eq!(status(&plain.sign_in(&mut bench, FE1, flow)), 200);

    let (ours, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5001);
    let message = ours.with(OURS).register(flow);
    assert_eq!(offered(&bench.ask(FE1, flow, &message)[0]), ["SHA-256", "MD5"]);
}

/// The algorithms of a 401, in its order.
fn offered(answer: &Message) -> Vec<String> {
    let challenges = answer.headers(HeaderName::WwwAuthenticate).flat_map(Challenge::parse_all);
    challenges.map(|challenge| challenge.algorithm.to_string()).collect()
}

//------------ Digest ----------------------------------------------------------

#[test]
fn a_nonce_of_one_pool_is_good_at_the_other() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user2", FE1, Transport::Tls, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let there = bench.flow(FE2, Transport::Tls, 5001);
    let message = phone.register(there);
    assert_eq!(status(&bench.ask(FE2, there, &message)[0]), 200, "no second challenge");
}

#[test]
fn an_outlived_nonce_is_stale_and_a_replayed_count_too() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    // The same count in another request: a replay.
    let (challenge, count) = phone.nonce.clone().unwrap();
    phone.nonce = Some((challenge, count - 1));
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!(status(&answer), 401);
    assert!(answer.headers(HeaderName::WwwAuthenticate).all(|line| line.contains("stale=TRUE")));
    assert_eq!(status(&phone.sign_in(&mut bench, FE1, flow)), 200);
    // The same nonce an hour later.
    bench.elapse(seconds(3601));
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert!(answer.headers(HeaderName::WwwAuthenticate).all(|line| line.contains("stale=TRUE")));
}

#[test]
fn credentials_for_other_realms_beside_ours_do_no_harm() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let other = "Authorization: Digest username=\"user1\", realm=\"elsewhere\", nonce=\"x\", uri=\"sip:x\", response=\"00\"\r\n";
    let message = phone.register(flow).replace("Authorization:", &format!("{other}Authorization:"));
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
}

//------------ Registrar -------------------------------------------------------

#[test]
fn a_retransmitted_register_is_answered_200_again() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let first = phone.register(flow);
    phone.learn(&bench.ask(FE1, flow, &first)[0]);
    let message = phone.register(flow);
    let one = bench.ask(FE1, flow, &message).remove(0);
    let kept = bench.disk[&FE1.into()].len();
    let two = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!(status(&one), 200);
    assert_eq!(text(&one), text(&two));
    assert_eq!(bench.disk[&FE1.into()].len(), kept, "nothing changed, nothing kept");
}

#[test]
fn contact_star_removes_everything_and_old_registers_do_not_bring_it_back() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let captured = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &captured)[0]), 200);
    let good = std::mem::replace(&mut phone.contact, "*".to_owned());
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 400, "without Expires: 0");
    phone.extra = "Expires: 0\r\n".to_owned();
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!((status(&answer), answer.header(HeaderName::Contact)), (200, None));
    assert_eq!(endings(&bench, FE1), [DeRegister::ClientInitiated]);
    bench.ask(FE1, flow, &captured);
    assert!(bench.server(FE1).explain(&aor("user1"), bench.now).bindings.is_empty());
    (phone.contact, phone.extra) = (good, String::new());
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200, "but a newer one does");
}

#[test]
fn too_brief_is_423_in_our_profile_and_raised_in_the_model_s() {
    for (mut bench, expected) in [(rehome(), 423), (lync(), 200)] {
        let (phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
        let answer = phone.with("Expires: 60\r\n").sign_in(&mut bench, FE1, flow);
        assert_eq!(status(&answer), expected);
        if expected == 423 {
            assert_eq!(answer.header(HeaderName::MinExpires), Some("300"));
        } else {
            assert!(answer.header(HeaderName::Contact).unwrap().ends_with(";expires=300"));
        }
    }
}

#[test]
fn a_binding_expires_on_the_second() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    bench.elapse(Duration::from_millis(599_999));
    assert_eq!(bench.server(FE1).view(bench.now).bindings, 1);
    bench.elapse(Duration::from_millis(1));
    assert_eq!(bench.server(FE1).view(bench.now).bindings, 0);
    assert_eq!(endings(&bench, FE1), [DeRegister::Expired]);
}

#[test]
fn a_lost_connection_ends_the_binding_of_a_client_that_watches_it_and_marks_any_other() {
    let mut bench = lync();
    let (watching, first) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    watching.with(LYNC).with("ms-keep-alive: UAC;hop-hop=yes\r\n").sign_in(&mut bench, FE1, first);
    let (mut plain, second) = phone(&mut bench, "user1", FE1, Transport::Tls, 5001);
    plain.call_id = "plain".to_owned();
    plain.sign_in(&mut bench, FE1, second);
    for flow in [first, second] {
        bench.input(FE1, Input::FlowLost { flow, why: FlowLoss::Reset });
    }
    let left = bench.server(FE1).explain(&aor("user1"), bench.now).bindings;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].flow, left[0].reachable), (second, false));
    assert_eq!(endings(&bench, FE1), [DeRegister::ClientCrashed]);
}

#[test]
fn a_lost_store_refuses_what_it_could_not_keep_and_serves_the_rest() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    bench.input(FE1, Input::StoreFailed { why: "disk full".to_owned() });
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!((status(&answer), answer.header(HeaderName::RetryAfter)), (503, Some("30")));
    assert!(answer.header_named("ms-diagnostics").unwrap().contains("store lost"));
    // A question changes nothing and is answered.
    let mut asks = Phone { contact: String::new(), ..phone.clone() };
    let message = asks.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!(status(&answer), 200);
    assert!(answer.header(HeaderName::Contact).is_some(), "the binding is still served");
    bench.input(FE1, Input::StoreRecovered);
    phone.nonce = asks.nonce;
    phone.cseq = asks.cseq;
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
}

#[test]
fn bindings_are_persisted_before_the_200_leaves() {
    use crate::output::Output;
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let first = phone.register(flow);
    phone.learn(&bench.ask(FE1, flow, &first)[0]);
    let message = phone.register(flow);
    let now = bench.now;
    let server = bench.server_mut(FE1);
    server.handle_input(Input::Received { flow, bytes: message.into() }, now);
    let mut kinds = Vec::new();
    loop {
        match server.poll_output() {
            Output::Persist(Change::Binding(_)) => kinds.push("persist"),
            Output::Transmit { .. } => kinds.push("transmit"),
            Output::Timeout(_) => break,
            _ => {}
        }
    }
    assert_eq!(kinds, ["persist", "transmit"]);
}

#[test]
fn a_restart_keeps_what_has_not_expired() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let before = bench.server(FE1).explain(&aor("user1"), bench.now).bindings;
    bench.kill(FE1);
    bench.start(FE1);
    let after = bench.server(FE1).explain(&aor("user1"), bench.now).bindings;
    assert_eq!(before, after);
    assert_eq!(lines(&bench, "restored"), ["0 fe1.example.test restored 1 bindings"]);
}

//------------ Pairs -----------------------------------------------------------

#[test]
fn the_backup_waits_takes_over_and_sends_home() {
    let mut bench = lync();
    bench.elapse(seconds(10));
    let (phone, flow) = phone(&mut bench, "user2", FE1, Transport::Tls, 5000);
    let mut phone = phone.with(LYNC);
    assert_eq!(status(&phone.sign_in(&mut bench, FE1, flow)), 301);

    bench.cut(FE2);
    bench.elapse(seconds(20));
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!(status(&answer), 503, "suspect: not yet");
    let retry: u64 = answer.header(HeaderName::RetryAfter).unwrap().parse().unwrap();
    assert!((5..=10).contains(&retry), "{retry}");

    bench.elapse(seconds(retry));
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!(status(&answer), 200, "{}", text(&answer));
    assert_eq!(
        answer.header_named("presence-state"),
        Some(
            "register-action=\"added\";primary-cluster-type=\"central\";is-connected-to-primary=\"no\";user-services-state=unavailable"
        )
    );

    bench.restore(FE2);
    bench.sent.clear();
    bench.elapse(seconds(39));
    assert!(bench.sent.is_empty(), "nobody is moved before the failback interval is over");
    bench.elapse(seconds(12));
    let (way, notify) = bench.sent.pop_front().expect("a NOTIFY");
    assert_eq!(way, flow);
    assert_eq!(
        without(text(&notify), &["Via:", "From:"]),
        "NOTIFY sip:user2@127.9.0.1:5000;transport=tls SIP/2.0\n\
         Max-Forwards: 70\n\
         To: <sip:user2@example.test>;tag=from-user2\n\
         Call-ID: user2-1\n\
         CSeq: 1 NOTIFY\n\
         Event: registration-notify\n\
         Subscription-State: terminated;expires=0\n\
         ms-diagnostics-public: 4166;reason=\"Preferred registrar is available again\"\n\
         P-Preferred-Registrar: sip:fe2.example.test:5061;transport=tls\n\
         Content-Type: text/registration-event\n\
         Content-Length: 45\n\n\
         deregistered;event=preferred-registrar-change"
    );
    assert_eq!(endings(&bench, FE1), [DeRegister::PreferredRegistrarChanged]);
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 301);
    let told: Vec<String> = lines(&bench, "partner fe2")
        .iter()
        .map(|line| line.split_once("partner ").unwrap().1.to_owned())
        .collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    for (line, states) in told.iter().zip([
        "Up → Suspect",
        "Suspect → FailedOver (silent 30 s)",
        "FailedOver → FailingBack",
        "FailingBack → Up",
    ]) {
        assert!(line.contains(states), "{line}");
    }
}

#[test]
fn a_short_outage_moves_nobody() {
    let mut bench = lync();
    bench.elapse(seconds(10));
    bench.cut(FE2);
    bench.elapse(seconds(20));
    bench.restore(FE2);
    bench.elapse(seconds(120));
    assert_eq!(lines(&bench, "FailedOver"), [] as [String; 0]);
    assert!(!lines(&bench, "Suspect → Up").is_empty());
}

#[test]
fn clients_that_cannot_be_told_have_their_connection_closed_or_are_redirected_at_the_next_refresh() {
    let mut bench = lync();
    bench.cut(FE2);
    bench.elapse(seconds(35));
    let (mut stream, first) = phone(&mut bench, "user2", FE1, Transport::Tcp, 5000);
    assert_eq!(status(&stream.sign_in(&mut bench, FE1, first)), 200, "a plain client needs no presence");
    let (mut datagram, second) = phone(&mut bench, "user2", FE1, Transport::Udp, 5001);
    datagram.call_id = "datagram".to_owned();
    assert_eq!(status(&datagram.sign_in(&mut bench, FE1, second)), 200);
    bench.restore(FE2);
    bench.elapse(seconds(60));
    assert!(bench.closed.contains(&first));
    let message = datagram.register(second);
    assert_eq!(status(&bench.ask(FE1, second, &message)[0]), 301);
    assert_eq!(bench.server(FE1).view(bench.now).bindings, 0);
    assert_eq!(endings(&bench, FE1), [DeRegister::PreferredRegistrarChanged; 2]);
}

#[test]
fn a_device_that_leaves_is_let_go_where_it_was_bound_though_its_user_belongs_elsewhere() {
    for everything in [false, true] {
        let mut bench = lync();
        bench.cut(FE2);
        bench.elapse(seconds(35));
        let (mut phone, flow) = phone(&mut bench, "user2", FE1, Transport::Udp, 5000);
        assert_eq!(status(&phone.sign_in(&mut bench, FE1, flow)), 200);
        bench.restore(FE2);
        bench.elapse(seconds(60));
        if everything {
            phone.contact = "*".to_owned();
        }
        phone.extra = "Expires: 0\r\n".to_owned();
        let message = phone.register(flow);
        let answer = bench.ask(FE1, flow, &message).remove(0);
        assert_eq!((status(&answer), answer.header(HeaderName::Contact)), (200, None));
        assert_eq!(endings(&bench, FE1), [DeRegister::ClientInitiated]);
        assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200, "and so is its retransmission");
        let message = phone.register(flow);
        assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 301, "nothing is left here to take away");
    }
}

#[test]
fn a_legacy_client_is_refused_on_the_backup_with_4165() {
    let mut bench = lync();
    bench.cut(FE2);
    bench.elapse(seconds(35));
    let (legacy, flow) = phone(&mut bench, "user2", FE1, Transport::Tls, 5000);
    let answer = legacy
        .with("Supported: ms-cluster-failover, msrtc-event-categories\r\n")
        .sign_in(&mut bench, FE1, flow);
    assert_eq!(status(&answer), 503);
    assert!(answer.header_named("ms-diagnostics").unwrap().starts_with("4165;"));
    assert_eq!(endings(&bench, FE1), [DeRegister::LegacyClientInSurvivalMode]);
}

#[test]
fn a_server_that_lost_its_store_is_not_heard_by_its_partner() {
    let mut bench = lync();
    bench.elapse(seconds(10));
    bench.input(FE2, Input::StoreFailed { why: "disk full".to_owned() });
    bench.elapse(seconds(36));
    assert_eq!(lines(&bench, "Suspect → FailedOver").len(), 1);
    assert!(!lines(&bench, "server fe2.example.test: answers 503").is_empty());
}

#[test]
fn a_partition_is_two_failovers_and_heals_by_itself() {
    let mut bench = lync();
    bench.elapse(seconds(10));
    bench.part(FE1, FE2);
    bench.elapse(seconds(40));
    // Each side serves whom it can hear, also the other's users.
    let (mut guest, there) = phone(&mut bench, "user2", FE1, Transport::Tls, 5000);
    guest = guest.with(LYNC);
    assert_eq!(status(&guest.sign_in(&mut bench, FE1, there)), 200);
    let (mut native, here) = phone(&mut bench, "user1", FE1, Transport::Tls, 5001);
    assert_eq!(status(&native.sign_in(&mut bench, FE1, here)), 200);
    bench.join(FE1, FE2);
    bench.elapse(seconds(60));
    for (server, partner) in [(FE1, FE2), (FE2, FE1)] {
        let told = lines(&bench, &format!("{server} partner {partner}"));
        let states: Vec<&str> = told.iter().filter_map(|line| line.split(": ").nth(1)).collect();
        let expected =
            ["Up → Suspect", "Suspect → FailedOver", "FailedOver → FailingBack", "FailingBack → Up"];
        assert_eq!(states.len(), 4, "{told:#?}");
        assert!(states.iter().zip(expected).all(|(state, wanted)| state.starts_with(wanted)), "{told:#?}");
    }
    assert_eq!(lines(&bench, "sent home").len(), 1, "the guest, and nobody else");
    assert_eq!(bench.server(FE1).view(bench.now).bindings, 1);
    assert_eq!(bench.server(FE2).view(bench.now).bindings, 0);
}

#[test]
fn automatic_failover_off_means_never_until_an_operator_says_so() {
    let mut topology = two_sites();
    topology.pools.iter_mut().for_each(|pool| pool.automatic_failover = false);
    let mut bench = Bench::new(topology, &USERS);
    bench.cut(FE2);
    bench.elapse(seconds(120));
    let (phone, flow) = phone(&mut bench, "user2", FE1, Transport::Tls, 5000);
    let mut phone = phone.with(LYNC);
    assert_eq!(status(&phone.sign_in(&mut bench, FE1, flow)), 301);
    bench.command(FE1, Command::FailOver(FE2.into()));
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
}

#[test]
fn stopping_user_services_tells_those_who_can_live_without() {
    let mut bench = lync();
    let (phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    let mut phone = phone.with(LYNC);
    phone.sign_in(&mut bench, FE1, flow);
    bench.sent.clear();
    bench.command(FE1, Command::StopUserServices);
    let (_, notify) = bench.sent.pop_front().expect("a NOTIFY");
    assert_eq!(notify.body(), b"registered;event=userservices-unavailable");
    assert_eq!(bench.server(FE1).view(bench.now).bindings, 1, "the binding stays");
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    let state = answer.header_named("presence-state").unwrap();
    assert!(state.contains("is-connected-to-primary=\"yes\";user-services-state=unavailable"), "{state}");
    bench.command(FE1, Command::StartUserServices);
    let message = phone.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert!(!answer.header_named("presence-state").unwrap().contains("user-services-state"));
}

#[test]
fn presence_is_refused_to_guests_of_the_backup() {
    let mut bench = lync();
    bench.cut(FE2);
    bench.elapse(seconds(35));
    let (mut phone, flow) = phone(&mut bench, "user2", FE1, Transport::Tls, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let message = request("SUBSCRIBE", "user2", "user1", flow, "s1", "Event: presence\r\n");
    let answer = bench.ask(FE1, flow, &message).pop().unwrap();
    assert_eq!(status(&answer), 480);
    assert!(answer.header_named("ms-diagnostics").unwrap().contains("user services unavailable"));
}

//------------ Other requests --------------------------------------------------

/// A request from one user to another, outside a dialog.
fn request(method: &str, from: &str, to: &str, flow: Flow, id: &str, extra: &str) -> String {
    format!(
        "{method} sip:{to}@{DOMAIN} SIP/2.0\r\n\
         Via: SIP/2.0/{} {};branch=z9hG4bK{id};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{from}@{DOMAIN}>;tag=a-{id}\r\n\
         To: <sip:{to}@{DOMAIN}>\r\n\
         Call-ID: call-{id}\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:{from}@{};transport={}>\r\n\
         {extra}Content-Length: 0\r\n\r\n",
        flow.transport,
        flow.remote,
        flow.remote,
        flow.transport.name().to_ascii_lowercase(),
    )
}

/// The response a device would give.
fn respond(request: &Message, status: u16, extra: &[(&str, String)]) -> String {
    let mut builder = sip::print::Builder::response(request, status, "Because")
        .to_tag("callee")
        .copied(request, HeaderName::RecordRoute);
    for (name, value) in extra {
        builder = builder.header_named(name, value);
    }
    String::from_utf8(builder.finish().to_vec()).unwrap()
}

/// The last message sent on a flow.
fn last(bench: &Bench, flow: Flow) -> Message {
    let on_flow = |(way, _): &&(Flow, Message)| *way == flow;
    bench
        .sent
        .iter()
        .rev()
        .find(on_flow)
        .map(|(_, message)| message.clone())
        .expect("something was sent there")
}

#[test]
fn a_message_crosses_from_one_pool_to_the_other() {
    let mut bench = lync();
    let (mut one, here) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    one.sign_in(&mut bench, FE1, here);
    let (mut two, there) = phone(&mut bench, "user2", FE2, Transport::Udp, 5001);
    two.sign_in(&mut bench, FE2, there);
    bench.sent.clear();
    bench.ask(FE1, here, &request("MESSAGE", "user1", "user2", here, "m1", ""));
    let message = last(&bench, there);
    assert_eq!(message.request_uri(), Some("sip:user2@127.9.0.1:5001;transport=udp"));
    assert_eq!(message.values(HeaderName::Via).count(), 3);
    assert_eq!(message.max_forwards(), Some(Ok(68)));
    bench.ask(FE2, there, &respond(&message, 200, &[]));
    let answer = last(&bench, here);
    assert_eq!((status(&answer), answer.values(HeaderName::Via).count()), (200, 1));
    assert_eq!(
        lines(&bench, "MESSAGE to"),
        [
            "0 fe2.example.test MESSAGE to user2@example.test 200 by here",
            "0 fe1.example.test MESSAGE to user2@example.test 200 by fe2.example.test"
        ]
    );
}

#[test]
fn a_call_rings_every_device_and_the_dialog_follows_its_route() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    let (mut caller, from) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    caller.sign_in(&mut bench, FE1, from);
    let (mut desk, first) = phone(&mut bench, "carol", FE1, Transport::Udp, 5001);
    desk.sign_in(&mut bench, FE1, first);
    let (mut mobile, second) = phone(&mut bench, "carol", FE1, Transport::Tcp, 5002);
    mobile.call_id = "mobile".to_owned();
    mobile.sign_in(&mut bench, FE1, second);
    bench.sent.clear();

    bench.ask(FE1, from, &request("INVITE", "user1", "carol", from, "i1", ""));
    assert_eq!(status(&last(&bench, from)), 100);
    let (at_desk, at_mobile) = (last(&bench, first), last(&bench, second));
    bench.ask(FE1, second, &respond(&at_mobile, 180, &[]));
    assert_eq!(status(&last(&bench, from)), 180);
    let contact = ("Contact", contact("carol", first));
    bench.ask(FE1, first, &respond(&at_desk, 200, &[contact]));
    let answer = last(&bench, from);
    assert_eq!(status(&answer), 200);
    let cancel = last(&bench, second);
    assert_eq!(cancel.method().as_str(), "CANCEL", "the other device stops ringing");
    bench.ask(FE1, second, &respond(&cancel, 200, &[]));
    bench.ask(FE1, second, &respond(&at_mobile, 487, &[]));
    assert_eq!(last(&bench, second).method().as_str(), "ACK");

    let mut routes: Vec<&str> = answer.values(HeaderName::RecordRoute).collect();
    assert_eq!(routes.len(), 2, "a transport on each side");
    routes.reverse();
    let in_dialog = |method: &str, cseq: u32, id: &str| {
        format!(
            "{method} sip:carol@127.9.0.1:5001;transport=udp SIP/2.0\r\n\
             Via: SIP/2.0/TLS 127.9.0.1:5000;branch=z9hG4bK{id}\r\n\
             Max-Forwards: 70\r\n\
             Route: {}\r\n\
             From: <sip:user1@{DOMAIN}>;tag=a-i1\r\n\
             To: <sip:carol@{DOMAIN}>;tag=callee\r\n\
             Call-ID: call-i1\r\n\
             CSeq: {cseq} {method}\r\n\
             Content-Length: 0\r\n\r\n",
            routes.join(", ")
        )
    };
    for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
        bench.ask(FE1, from, &in_dialog(method, cseq, &format!("d{cseq}")));
        let followed = last(&bench, first);
        assert_eq!(followed.method().as_str(), method);
        assert_eq!(followed.header(HeaderName::Route), None);
    }
    let bye = last(&bench, first);
    bench.ask(FE1, first, &respond(&bye, 200, &[]));
    assert_eq!(status(&last(&bench, from)), 200);
}

#[test]
fn a_callee_whom_no_pool_has_is_called_by_number_through_the_first_gateway_that_can_take_it() {
    use resilience::topology::{Gateway, Trunk};
    let mut topology = two_sites();
    let at = |site: usize, host: &str| Gateway {
        host: host.into(),
        port: 5060,
        site: topology.sites[site].name.clone(),
    };
    let gateways = vec![at(1, "127.9.2.8"), at(0, "127.9.1.8")];
    topology.trunks = vec![Trunk { name: "world".into(), pattern: "+49".into(), gateways }];
    let mut bench = Bench::new(topology, &[("user1", FE1), ("carol", FE2)]);
    let mut directory = (*bench.directory).clone();
    directory.version += 1;
    directory.users.get_mut(&aor("carol")).unwrap().number = Some("+4989123".to_owned());
    let (topology, directory) = (bench.topology.clone(), std::sync::Arc::new(directory));
    bench.command(FE1, Command::Reload { topology, directory });
    bench.cut(FE2);
    bench.elapse(seconds(35));
    let (mut caller, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    caller.sign_in(&mut bench, FE1, flow);

    bench.ask(FE1, flow, &request("INVITE", "user1", "carol", flow, "i1", ""));
    let gateway = |remote: &str| {
        let (transport, local) = (Transport::Udp, "127.1.0.1:5060".parse().unwrap());
        Flow { transport, local, remote: remote.parse().unwrap(), serial: 0 }
    };
    let (near, far) = (gateway("127.9.1.8:5060"), gateway("127.9.2.8:5060"));
    let invite = last(&bench, near);
    assert_eq!(invite.request_uri(), Some("sip:+4989123@127.9.1.8:5060;user=phone"), "of our own site first");
    assert!(!bench.sent.iter().any(|(way, _)| *way == far));
    bench.ask(FE1, near, &respond(&invite, 503, &[]));
    assert_eq!(last(&bench, far).request_uri(), Some("sip:+4989123@127.9.2.8:5060;user=phone"));
}

#[test]
fn cancel_stops_the_ringing_and_the_caller_gets_487() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    let (mut caller, from) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    caller.sign_in(&mut bench, FE1, from);
    let (mut desk, to) = phone(&mut bench, "carol", FE1, Transport::Udp, 5001);
    desk.sign_in(&mut bench, FE1, to);
    bench.sent.clear();
    let invite = request("INVITE", "user1", "carol", from, "i1", "");
    bench.ask(FE1, from, &invite);
    let ringing = last(&bench, to);
    bench.ask(FE1, to, &respond(&ringing, 180, &[]));
    bench.sent.clear();
    bench.ask(FE1, from, &invite.replace("INVITE", "CANCEL"));
    assert_eq!(status(&last(&bench, from)), 200, "to the CANCEL");
    assert_eq!(last(&bench, to).method().as_str(), "CANCEL");
    bench.ask(FE1, to, &respond(&ringing, 487, &[]));
    assert_eq!(status(&last(&bench, from)), 487);
}

#[test]
fn strangers_are_challenged_and_nothing_is_relayed() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    let message = request("MESSAGE", "user1", "user2", flow, "m1", "");
    let answer = bench.ask(FE1, flow, &message).pop().unwrap();
    assert_eq!(status(&answer), 407);
    phone.learn(&answer);
    let credentials = phone.credentials("Proxy-Authorization", "MESSAGE", &format!("sip:user2@{DOMAIN}"));
    let message = request("MESSAGE", "user1", "user2", flow, "m2", &credentials);
    bench.ask(FE1, flow, &message);
    assert_eq!(status(&last(&bench, flow)), 480, "proved, but user2 is nowhere");
    let flow = bench.flow(FE1, Transport::Tls, 5001);
    phone.sign_in(&mut bench, FE1, flow);
    let elsewhere = request("MESSAGE", "user1", "user2", flow, "m3", "")
        .replace("MESSAGE sip:user2@example.test", "MESSAGE sip:user2@elsewhere.test");
    assert_eq!(status(&bench.ask(FE1, flow, &elsewhere)[0]), 403);
    let spoofed = request("MESSAGE", "user2", "user1", flow, "m4", "");
    assert_eq!(status(&bench.ask(FE1, flow, &spoofed)[0]), 407);
}

#[test]
fn a_silent_device_is_waited_for_four_seconds() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    let (mut caller, from) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    caller.sign_in(&mut bench, FE1, from);
    let (mut desk, to) = phone(&mut bench, "carol", FE1, Transport::Udp, 5001);
    desk.sign_in(&mut bench, FE1, to);
    for method in ["INVITE", "MESSAGE"] {
        bench.ask(FE1, from, &request(method, "user1", "carol", from, method, ""));
        bench.sent.clear();
        bench.elapse(Duration::from_millis(3_999));
        assert!(!bench.sent.iter().any(|(way, _)| *way == from));
        bench.elapse(Duration::from_millis(1));
        assert_eq!(status(&last(&bench, from)), 480, "{method}");
    }
}

#[test]
fn a_device_that_says_busy_is_not_kept_waiting_by_one_that_says_nothing() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    let (mut caller, from) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    caller.sign_in(&mut bench, FE1, from);
    for (port, call_id) in [(5001, "desk"), (5002, "gone")] {
        let (mut device, to) = phone(&mut bench, "carol", FE1, Transport::Udp, port);
        device.call_id = call_id.to_owned();
        device.sign_in(&mut bench, FE1, to);
    }
    bench.ask(FE1, from, &request("INVITE", "user1", "carol", from, "i1", ""));
    let desk = bench.flow(FE1, Transport::Udp, 5001);
    let ringing = last(&bench, desk);
    for answer in [180, 486] {
        bench.ask(FE1, desk, &respond(&ringing, answer, &[]));
    }
    assert_eq!(status(&last(&bench, from)), 180);
    bench.elapse(seconds(4));
    assert_eq!(status(&last(&bench, from)), 486);
}

#[test]
fn a_device_with_two_connections_rings_once() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    let (mut caller, from) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    caller.sign_in(&mut bench, FE1, from);
    let mut flows = Vec::new();
    for (reg_id, port) in [(1, 5001), (2, 5002)] {
        let (mut device, to) = phone(&mut bench, "carol", FE1, Transport::Tls, port);
        device.contact.push_str(&format!(";+sip.instance=\"<urn:uuid:1>\";reg-id={reg_id}"));
        device.call_id = format!("flow-{reg_id}");
        let answer = device.with("Supported: outbound\r\n").sign_in(&mut bench, FE1, to);
        assert_eq!(answer.header(HeaderName::Require), Some("outbound"));
        flows.push(to);
        bench.elapse(seconds(1));
    }
    let rings =
        |bench: &Bench, flow: Flow| bench.sent.iter().any(|(way, sent)| *way == flow && sent.is_request());
    bench.ask(FE1, from, &request("INVITE", "user1", "carol", from, "i1", ""));
    assert_eq!([rings(&bench, flows[0]), rings(&bench, flows[1])], [false, true]);
    bench.input(FE1, Input::FlowLost { flow: flows[1], why: FlowLoss::Reset });
    bench.ask(FE1, from, &request("INVITE", "user1", "carol", from, "i2", ""));
    assert!(rings(&bench, flows[0]), "the other connection still leads there");
}

#[test]
fn a_drained_server_without_a_mate_keeps_who_is_there_and_takes_nobody_else() {
    let mut bench = lync();
    let (mut phone1, flow) = phone(&mut bench, "user1", FE1, Transport::Udp, 5000);
    phone1.sign_in(&mut bench, FE1, flow);
    bench.command(FE1, Command::Drain);
    let message = phone1.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
    phone1.extra = "Expires: 0\r\n".to_owned();
    let message = phone1.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 200);
    phone1.extra.clear();
    let message = phone1.register(flow);
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!((status(&answer), answer.header(HeaderName::RetryAfter)), (503, Some("5")));
}

#[test]
fn a_phone_that_rings_for_minutes_is_given_up_by_timer_c() {
    let mut bench = Bench::new(two_sites(), &[("user1", FE1), ("carol", FE1)]);
    let (mut caller, from) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    caller.sign_in(&mut bench, FE1, from);
    let (mut desk, to) = phone(&mut bench, "carol", FE1, Transport::Udp, 5001);
    desk.sign_in(&mut bench, FE1, to);
    bench.ask(FE1, from, &request("INVITE", "user1", "carol", from, "i1", ""));
    let ringing = last(&bench, to);
    bench.ask(FE1, to, &respond(&ringing, 180, &[]));
    bench.elapse(seconds(100));
    bench.ask(FE1, to, &respond(&ringing, 180, &[]));
    bench.elapse(seconds(184));
    assert_eq!(status(&last(&bench, from)), 180, "each sign of life starts the wait again");
    bench.elapse(seconds(1));
    assert_eq!(last(&bench, to).method().as_str(), "CANCEL");
    assert_eq!(status(&last(&bench, from)), 480);
}

#[test]
fn broken_and_unwelcome_requests_are_refused_with_their_reason() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    let message = request("MESSAGE", "user1", "user2", flow, "x", "");
    for (broken, expected) in [
        (message.replace("Max-Forwards: 70", "Max-Forwards: 0"), 483),
        (message.replace("Max-Forwards: 70", "Max-Forwards: many"), 400),
        (message.replace("MESSAGE sip:user2@example.test", "MESSAGE http://example.test"), 416),
        (message.replace("Content-Length", "Proxy-Require: magic\r\nContent-Length"), 420),
        (message.replace("sip:user2@example.test SIP", "sip:example.test SIP"), 405),
        (message.replace("sip:user2@example.test SIP", "sip:nobody@example.test SIP"), 404),
        (phone.register(flow).replace("Max-Forwards", "Require: magic\r\nMax-Forwards"), 420),
        (phone.register(flow).replace("REGISTER sip:example.test", "REGISTER sip:elsewhere.test"), 403),
    ] {
        let unique = broken.replace("branch=z9hG4bKx", &format!("branch=z9hG4bKx{expected}"));
        let answer = bench.ask(FE1, flow, &unique).pop().unwrap_or_else(|| panic!("no answer: {broken}"));
        assert_eq!(status(&answer), expected, "{broken}");
    }
    for junk in ["", "\0\0\0", "SIP/2.0 200 OK\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        assert!(bench.ask(FE1, flow, junk).is_empty() || !junk.is_empty());
    }
}

#[test]
fn options_tell_strangers_what_we_can_and_partners_how_we_are() {
    let mut bench = lync();
    let flow = bench.flow(FE1, Transport::Udp, 5000);
    let message = request("OPTIONS", "user1", "x", flow, "o", "")
        .replace("sip:x@example.test SIP", "sip:example.test SIP");
    let answer = bench.ask(FE1, flow, &message).remove(0);
    assert_eq!(status(&answer), 200);
    assert!(answer.header(HeaderName::Allow).unwrap().contains("REGISTER"));
    assert_eq!(answer.header_named("Rehome-State"), None, "nobody else's business");
    bench.elapse(seconds(60));
    assert_eq!(lines(&bench, "partner"), [] as [String; 0], "the partners hear each other");
}

#[test]
fn pings_are_answered_on_streams_and_to_known_datagram_flows_only() {
    let mut bench = lync();
    let stream = bench.flow(FE1, Transport::Tcp, 5000);
    let (mut phone, known) = phone(&mut bench, "user1", FE1, Transport::Udp, 5001);
    phone.sign_in(&mut bench, FE1, known);
    let stranger = bench.flow(FE1, Transport::Udp, 5002);
    for flow in [stream, known, stranger] {
        bench.input(FE1, Input::Ping { flow });
    }
    assert_eq!(bench.pongs, [stream, known]);
}

#[test]
fn an_older_publication_is_refused() {
    let mut bench = lync();
    let mut topology = (*bench.topology).clone();
    topology.version = 0;
    let directory = bench.directory.clone();
    bench.command(FE1, Command::Reload { topology: topology.into(), directory });
    assert_eq!(lines(&bench, "reload"), ["0 fe1.example.test reload refused: version 0 is older than 1"]);
}

/// Publishes a directory that differs in one user, to every server.
fn publish(bench: &mut Bench, name: &str, change: impl FnOnce(&mut crate::directory::User)) {
    let mut directory = (*bench.directory).clone();
    directory.version += 1;
    change(directory.users.get_mut(&aor(name)).unwrap());
    bench.directory = directory.into();
    for server in [FE1, FE2] {
        let (topology, directory) = (bench.topology.clone(), bench.directory.clone());
        bench.command(server, Command::Reload { topology, directory });
    }
}

#[test]
fn a_user_who_is_disabled_is_told_cut_off_and_served_no_more() {
    let mut bench = lync();
    let (told, first) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    told.with(LYNC).sign_in(&mut bench, FE1, first);
    let (mut plain, second) = phone(&mut bench, "user1", FE1, Transport::Tcp, 5001);
    plain.call_id = "plain".to_owned();
    plain.sign_in(&mut bench, FE1, second);
    bench.sent.clear();
    publish(&mut bench, "user1", |user| user.enabled = false);
    let notify = last(&bench, first);
    assert_eq!(notify.body(), b"deregistered;event=rejected");
    assert!(notify.header_named("ms-diagnostics-public").unwrap().starts_with("4141;"));
    assert!(bench.closed.contains(&second), "who cannot be told notices that");
    assert_eq!(endings(&bench, FE1), [DeRegister::AttributesChanged; 2]);
    let message = request("MESSAGE", "user1", "user2", first, "m1", "");
    assert_eq!(status(&bench.ask(FE1, first, &message)[0]), 407);
    let message = plain.register(second);
    assert_eq!(status(&bench.ask(FE1, second, &message)[0]), 403);
}

#[test]
fn a_user_who_is_moved_is_sent_to_the_new_home() {
    let mut bench = lync();
    bench.elapse(seconds(10));
    let (phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    let mut phone = phone.with(LYNC);
    phone.sign_in(&mut bench, FE1, flow);
    bench.sent.clear();
    publish(&mut bench, "user1", |user| user.home = FE2.into());
    bench.elapse(seconds(1));
    let preferred = last(&bench, flow).header_named("P-Preferred-Registrar").map(str::to_owned);
    assert_eq!(preferred.as_deref(), Some("sip:fe2.example.test:5061;transport=tls"));
    assert_eq!(endings(&bench, FE1), [DeRegister::PreferredRegistrarChanged]);
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(FE1, flow, &message)[0]), 301);
    let there = bench.flow(FE2, Transport::Tls, 5001);
    assert_eq!(status(&phone.sign_in(&mut bench, FE2, there)), 200);
}

#[test]
fn explain_says_where_why_and_what_if() {
    let mut bench = lync();
    let (mut phone, flow) = phone(&mut bench, "user1", FE1, Transport::Tls, 5000);
    phone.sign_in(&mut bench, FE1, flow);
    bench.elapse(seconds(5));
    let screen = bench.server(FE1).explain(&aor("user1"), bench.now).to_string();
    assert_eq!(
        screen,
        "user1@example.test as seen by fe1.example.test\n\
        \x20 homed on fe1.example.test; preferred order: fe1.example.test\n\
        \x20 backup   fe2.example.test; preferred order: fe2.example.test\n\
        \x20 here     sip:user1@127.9.0.1:5000;transport=tls by TLS for another 595 s\n\
        \x20 answer   200: this is the user's primary registrar\n\
        \x20 if the pool that has the user died: fe2.example.test would take over after 30 s of silence\n\
        \x20      5.0 s ago  user1@example.test REGISTER 200 expires 600 s\n"
    );
    assert_eq!(bench.topology.profile, Profile::Lync2010);
}

//------------ Pools of several, pace, shards ----------------------------------

#[test]
fn inside_a_pool_the_next_server_takes_over_and_the_backup_takes_nobody() {
    let topology = resilience::topology::examples::two_sites_of_three();
    let pool = topology.pool("pool1.example.test").unwrap();
    let order: Vec<String> =
        pool.preferred_order(aor("user1").hash64()).iter().map(|server| server.name.to_string()).collect();
    let mut bench = Bench::new(topology, &[("user1", "pool1.example.test")]);
    bench.elapse(seconds(10));
    let flow = bench.flow(&order[1], Transport::Tls, 5000);
    let mut phone = Phone::new("user1", &contact("user1", flow)).with(LYNC);
    let answer = phone.sign_in(&mut bench, &order[1], flow);
    assert_eq!(status(&answer), 301);
    assert_eq!(
        answer.header(HeaderName::Contact),
        Some(format!("<sip:{}:5061;transport=TLS>;q=0.7", order[0]).as_str())
    );
    bench.cut(&order[0]);
    bench.elapse(seconds(40));
    let message = phone.register(flow);
    let answer = bench.ask(&order[1], flow, &message).remove(0);
    assert_eq!(status(&answer), 200);
    assert!(answer.header_named("presence-state").unwrap().contains("is-connected-to-primary=\"yes\""));
    // The server that was cut sees a partition; nobody else may.
    let mut failovers = lines(&bench, "FailedOver");
    failovers.retain(|line| !line.contains(&format!(" {} partner", order[0])));
    assert_eq!(failovers, [] as [String; 0], "the pool is heard while any member answers");
}

#[test]
fn a_guest_is_not_sent_to_a_mate_that_started_after_the_failover_and_would_send_them_back() {
    let topology = resilience::topology::examples::two_sites_of_three();
    let preferred = |pool: &str| -> Vec<String> {
        let order = topology.pool(pool).unwrap().preferred_order(aor("user1").hash64());
        order.iter().map(|server| server.name.to_string()).collect()
    };
    let (home, order) = (preferred("pool1.example.test"), preferred("pool2.example.test"));
    let mut bench = Bench::new(topology, &[("user1", "pool1.example.test")]);
    bench.elapse(seconds(10));
    home.iter().for_each(|server| bench.cut(server));
    bench.elapse(seconds(40));
    let flow = bench.flow(&order[1], Transport::Tls, 5000);
    let mut phone = Phone::new("user1", &contact("user1", flow)).with(LYNC);
    let answer = phone.sign_in(&mut bench, &order[1], flow);
    assert_eq!(status(&answer), 301, "in peace the preferred server takes them");
    bench.kill(&order[0]);
    bench.start(&order[0]);
    bench.elapse(seconds(6));
    let message = phone.register(flow);
    let answer = bench.ask(&order[1], flow, &message).remove(0);
    assert_eq!(status(&answer), 200, "{}", text(&answer));
    bench.elapse(seconds(40));
    let message = phone.register(flow);
    assert_eq!(status(&bench.ask(&order[1], flow, &message)[0]), 301, "until it knows what we know");
}

#[test]
fn users_go_home_at_the_configured_pace() {
    let names: Vec<String> = (0..40).map(|n| format!("guest{n}")).collect();
    let users: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), FE2)).collect();
    let mut topology = two_sites();
    topology.timers.failback_pace = Some(100);
    let mut bench = Bench::new(topology, &users);
    bench.cut(FE2);
    bench.elapse(seconds(35));
    for (name, port) in names.into_iter().zip(6000..) {
        let flow = bench.flow(FE1, Transport::Tls, port);
        let name: &'static str = name.leak();
        let answer = Phone::new(name, &contact(name, flow)).with(LYNC).sign_in(&mut bench, FE1, flow);
        assert_eq!(status(&answer), 200);
    }
    bench.restore(FE2);
    bench.elapse(seconds(60));
    let times: Vec<u64> = lines(&bench, "sent home")
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(times.len(), 40);
    let busiest =
        times.iter().map(|at| times.iter().filter(|other| (at..&(at + 100)).contains(other)).count()).max();
    assert_eq!(busiest, Some(10), "100 a second are ten in a tenth of one");
    assert_eq!(bench.server(FE1).view(bench.now).going_home, 0);
}
