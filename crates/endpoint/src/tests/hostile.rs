//! Servers, users and wires that mean us harm, or are merely mad.

use std::time::Duration;

use resilience::homing::State;
use resilience::profile::Profile;
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;

use super::scripted::{Does, FE1, FE2, Scripted, backup, home, plain_home};
use crate::cache::LIFETIME;
use crate::{CacheEntry, CachedRegistrar, Command};

/// alice at fe1, with the story so far forgotten.
fn at_home(does: Does) -> Scripted {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, does);
    world.server(FE2, backup());
    world.tell(Command::SignIn);
    assert_eq!(world.where_is(), "fe1.example.test");
    world.story();
    world
}

/// A 200 that grants what these header lines say.
fn grant(headers: Vec<(&'static str, &'static str)>) -> Does {
    Does::Say(200, "OK", headers)
}

fn registers(world: &Scripted) -> Vec<&Message> {
    world.seen.iter().map(|(_, message)| message).filter(|m| m.method() == Method::Register).collect()
}

//------------ Others who speak as our registrar -----------------------------

#[test]
fn another_user_cannot_sign_us_out_or_send_us_away_by_a_notify_through_our_registrar() {
    let mut world = at_home(home());
    for body in ["deregistered;event=rejected", "deregistered;event=preferred-registrar-change"] {
        let lines = [
            ("Event", "registration-notify"),
            ("Subscription-State", "terminated"),
            ("P-Preferred-Registrar", "sip:fe2.example.test:5061;transport=tls"),
        ];
        world.send(FE1, &Method::Notify, &lines, body);
        assert_eq!(world.last_answer(), 481, "no subscription of ours (RFC 6665 §4.1.3)");
        assert_eq!(world.where_is(), "fe1.example.test");
    }
}

#[test]
fn a_preferred_registrar_outside_the_domain_is_not_gone_to() {
    let mut world = at_home(home());
    world.elapse(10);
    let lines = [("P-Preferred-Registrar", "sip:evil.invalid:5061;transport=tls")];
    world.notify(FE1, &lines, "deregistered;event=preferred-registrar-change");
    world.elapse(5);
    assert_eq!(world.where_is(), "fe1.example.test");
    assert!(!world.asked.iter().any(|question| question.contains("evil")), "{:?}", world.asked);
}

#[test]
fn a_proved_registrar_cannot_talk_us_out_of_tls() {
    let down = vec![("Contact", "<sip:fe2.example.test:5060;transport=udp>;q=0.7")];
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, Does::Say(301, "Moved", down));
    world.server("127.2.0.1:5060", home());
    world.tell(Command::SignIn);
    world.elapse(5);
    assert!(world.seen.iter().all(|(server, _)| server.to_string() == FE1), "nothing left in the clear");
    assert!(world.story().contains("refused   fe2.example.test"));
}

#[test]
fn a_response_that_no_server_may_send_is_not_believed() {
    let mut world = Scripted::new(Profile::Rehome);
    // Two CSeq lines, one of them another request's: whose answer is this?
    world.server(FE1, grant(vec![("CSeq", "77 INVITE"), ("Expires", "600")]));
    world.tell(Command::SignIn);
    assert_eq!(world.endpoint.status().registrar, None);
}

//------------ Registrars without an end --------------------------------------

#[test]
fn a_registrar_that_chats_but_never_answers_is_left_when_the_transaction_times_out() {
    let mut world = Scripted::new(Profile::Rehome);
    let both = [(0, "fe1.example.test"), (10, "fe2.example.test")];
    world.srv("_sipinternaltls._tcp.example.test", &both);
    world.server(FE1, Does::Mute);
    world.server(FE2, backup());
    world.tell(Command::SignIn);
    for _ in 0..10 {
        world.elapse(4);
        if world.has_flow(FE1) {
            world.send(FE1, &Method::Options, &[], "");
        }
    }
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
}

#[test]
fn a_day_of_retry_after_is_cut_to_half_an_hour_and_the_others_are_tried_at_once() {
    let mut world = at_home(home());
    world.elapse(10);
    let day = Does::Say(503, "Service Unavailable", vec![("Retry-After", "86400")]);
    world.server(FE1, day.clone());
    world.server(FE2, day);
    world.reset(FE1);
    world.elapse(1);
    assert_eq!(registers(&world).len(), 3, "both were asked");
    world.server(FE1, home());
    world.elapse(29 * 60);
    assert_eq!(registers(&world).len(), 3, "and left alone");
    world.elapse(2 * 60);
    assert_eq!(world.where_is(), "fe1.example.test");
}

#[test]
fn retry_after_nothing_does_not_make_us_hammer() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, Does::Say(503, "Service Unavailable", vec![("Retry-After", "0")]));
    world.tell(Command::SignIn);
    world.elapse(60);
    assert!(registers(&world).len() <= 61, "{} in a minute", registers(&world).len());
}

#[test]
fn a_redirect_with_fifty_contacts_is_followed_to_the_first_few() {
    let mut world = Scripted::new(Profile::Rehome);
    let names: Vec<&'static str> =
        (0..50).map(|n| &*Box::leak(format!("h{n}.example.test").into_boxed_str())).collect();
    world.server(FE1, Does::Redirect(names.iter().map(|name| (*name, "0.5")).collect()));
    world.tell(Command::SignIn);
    let asked = world.asked.iter().filter(|question| question.contains(" h")).count();
    assert!((1..=16).contains(&asked), "{asked} look-ups");
}

//------------ Grants that are none, or absurd ---------------------------------

#[test]
fn the_expiry_of_our_own_contact_counts_even_if_the_registrar_forgot_our_instance() {
    let contacts = "<sip:alice@10.9.9.9:5061;transport=tls>;expires=3600, \
                    <sip:alice@127.0.0.9:40000;transport=tls>;expires=60";
    let mut world = at_home(grant(vec![("Contact", contacts), ("Expires", "600")]));
    world.elapse(31);
    assert!(world.story().contains("30.0 refresh   fe1.example.test  200 expires 60 s"));
}

#[test]
fn contacts_that_a_middlebox_rewrote_are_refreshed_before_the_first_of_them_ends() {
    let contacts = "<sip:alice@203.0.113.9:7;transport=tls>;expires=60";
    let mut world = at_home(grant(vec![("Contact", contacts)]));
    world.elapse(31);
    assert!(world.story().contains("30.0 refresh   fe1.example.test  200 expires 60 s"));
}

#[test]
fn a_200_that_grants_nothing_is_no_registration() {
    let ours = "<sip:alice@127.0.0.9:40000;transport=tls>;expires=0";
    for headers in [vec![("Expires", "0")], vec![("Contact", ours), ("Expires", "600")]] {
        let mut world = Scripted::new(Profile::Rehome);
        let both = [(0, "fe1.example.test"), (10, "fe2.example.test")];
        world.srv("_sipinternaltls._tcp.example.test", &both);
        world.server(FE1, grant(headers));
        world.server(FE2, backup());
        world.tell(Command::SignIn);
        assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
    }
}

#[test]
fn a_grant_of_a_second_or_of_a_century_leads_to_neither_hammering_nor_sleep() {
    let mut world = at_home(grant(vec![("Expires", "1")]));
    world.elapse(60);
    assert!(registers(&world).len() <= 61, "{} in a minute", registers(&world).len());
    let mut world = at_home(grant(vec![("Expires", "4294967295")]));
    world.elapse(86_400);
    assert!(registers(&world).len() >= 2, "refreshed within a day");
}

#[test]
fn a_minimum_of_a_century_is_not_asked_for() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, Does::Say(423, "Interval Too Brief", vec![("Min-Expires", "4294967295")]));
    world.tell(Command::SignIn);
    assert!(registers(&world).iter().all(|register| register.expires() == Some(600)));
}

#[test]
fn a_wish_for_no_time_at_all_is_not_a_farewell() {
    let mut world = Scripted::with(Profile::Rehome, None, |config| config.expiry = Duration::ZERO);
    world.server(FE1, home());
    world.tell(Command::SignIn);
    assert!(registers(&world).iter().all(|register| register.expires() > Some(0)));
}

//------------ Credentials -----------------------------------------------------

#[test]
fn a_nonce_of_the_domain_is_not_shown_to_a_host_outside_it() {
    let mut world = Scripted::with(Profile::Rehome, None, |config| config.allow_redirect_outside = true);
    world.host("sip.hosting.invalid", &["127.9.0.1"]);
    world.server(FE1, Does::Redirect(vec![("sip.hosting.invalid", "0.7")]));
    world.server("127.9.0.1:5061", plain_home());
    world.guard(FE1, "secret");
    world.tell(Command::SignIn);
    assert_eq!(world.where_is(), "sip.hosting.invalid");
    let (_, last) = world.seen.last().expect("a REGISTER");
    assert_eq!(last.header(HeaderName::Authorization), None, "it has not asked");
}

//------------ The cache ---------------------------------------------------------

#[test]
fn one_bad_redirect_does_not_make_us_forget_the_registrars_that_worked() {
    let mut world = at_home(home());
    world.elapse(10);
    world.dns_dead = true; // Nobody else could tell us.
    world.server(FE1, Does::Redirect(vec![("nowhere", "0.7")]));
    world.server(FE2, Does::Refuse);
    world.reset(FE1);
    world.elapse(5);
    assert_eq!(world.endpoint.status().registrar, None);
    world.server(FE1, home());
    world.elapse(40);
    assert_eq!(world.where_is(), "fe1.example.test");
}

#[test]
fn a_cache_in_use_is_renewed_and_does_not_run_out_behind_our_back() {
    let cached = |uri: &str, address: &str| CachedRegistrar {
        uri: uri.to_owned(),
        address: Some(address.parse().expect("an address")),
    };
    let cache = CacheEntry {
        aor: "sip:alice@example.test".to_owned(),
        registrars: vec![
            cached("sip:fe1.example.test:5061;transport=tls", FE1),
            cached("sip:fe2.example.test:5061;transport=tls", FE2),
        ],
        lifetime: Duration::from_secs(60),
    };
    let mut world = Scripted::with(Profile::Rehome, Some(cache), |_| {});
    world.server(FE1, home());
    world.tell(Command::SignIn);
    assert_eq!(world.kept.last().expect("renewed").lifetime, LIFETIME);
    let kept = world.kept.len();
    world.elapse(3600);
    assert_eq!(world.kept.len(), kept, "not at every refresh");
    world.elapse(2 * 86_400);
    assert!(world.kept.len() > kept, "but every day or so");
}

#[test]
fn lync2010_caches_no_registrar_that_does_not_call_itself_the_primary() {
    let mut world = Scripted::new(Profile::Lync2010);
    world.server(FE1, grant(vec![("Expires", "600")]));
    world.tell(Command::SignIn);
    assert_eq!(world.where_is(), "fe1.example.test");
    assert!(world.kept.is_empty(), "{:?}", world.kept);
}

//------------ Commands at awkward moments -----------------------------------------

#[test]
fn signing_out_while_the_answer_is_outstanding_leaves_no_binding_behind() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, Does::Mute);
    world.tell(Command::SignIn);
    world.tell(Command::SignOut);
    let last = *registers(&world).last().expect("a REGISTER");
    assert_eq!(last.expires(), Some(0));
    world.elapse(10);
    assert!(world.story().contains("signed out"));
    assert!(!world.has_flow(FE1));
    assert_eq!(world.endpoint.homing().state(), State::SignedOut);
}

#[test]
fn commands_that_contradict_each_other_end_as_the_last_one_says() {
    for done in [vec![false, true], vec![true, false], vec![true, true, false, false, true]] {
        let mut world = at_home(home());
        for sign_in in &done {
            world.tell(if *sign_in { Command::SignIn } else { Command::SignOut });
        }
        world.elapse(60);
        let wanted = done.last() == Some(&true);
        assert_eq!(world.endpoint.status().registrar.is_some(), wanted, "{done:?}");
        assert_eq!(world.has_flow(FE1), wanted, "{done:?}");
    }
}

#[test]
fn a_message_of_the_user_into_a_dead_flow_is_an_asking_too() {
    let mut world = at_home(home());
    world.server(FE1, Does::Dead);
    world.elapse(1);
    world.tell(Command::Request {
        id: 1,
        method: Method::Message,
        to: "bob".to_owned(),
        headers: Vec::new(),
        content_type: "text/plain".to_owned(),
        body: "hello".into(),
    });
    world.elapse(7);
    assert!(world.story().contains("6.0 lost      fe1.example.test  (silent for 5 s)"));
}

#[test]
fn calls_that_nobody_ends_do_not_add_up_for_ever() {
    let mut world = at_home(home());
    for n in 0..80 {
        let call_id = format!("call-{n}");
        let lines = [("Call-ID", call_id.as_str()), ("Contact", "<sip:bob@127.0.0.8:5061;transport=tls>")];
        world.send(FE1, &Method::Invite, &lines, "");
    }
    assert_eq!(world.last_answer(), 486);
}
