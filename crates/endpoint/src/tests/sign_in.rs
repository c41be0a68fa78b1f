//! From nothing known to registered, and every way in which that can fail.

use resilience::homing::State;
use resilience::profile::Profile;
use sip::locate::{Answer, Naptr, Query, Record};

use super::scripted::{Does, FE1, FE2, Scripted, backup, home, plain_home};
use crate::{CacheEntry, CachedRegistrar, Command};

fn told_to_sign_in(mut world: Scripted) -> Scripted {
    world.tell(Command::SignIn);
    world
}

#[test]
fn nothing_is_cached_so_dns_is_asked_and_the_home_registrar_answers() {
    let mut world = Scripted::new(Profile::Lync2010);
    world.server(FE1, plain_home());
    let mut world = told_to_sign_in(world);
    assert_eq!(
        world.story(),
        "0.0 homing    SignedOut → Discovering (nothing remembered)\n\
         0.0 discover  SRV _sipinternaltls._tcp.example.test → fe1.example.test\n\
         0.0 REGISTER  fe1.example.test  200 expires 600 s\n\
         0.0 homing    Discovering → AtPrimary (answered)\n\
         0.0 service   none → full"
    );
    assert_eq!(world.where_is(), "fe1.example.test");
    assert!(!world.asked.iter().any(|question| question.starts_with("NAPTR")), "the model asks no NAPTR");
}

#[test]
fn the_wrong_pool_redirects_to_the_primary_and_the_redirect_is_followed() {
    let mut world = Scripted::new(Profile::Lync2010);
    world.server(FE1, Does::Redirect(vec![("fe2", "0.7"), ("fe1", "0.3")]));
    world.server(FE2, plain_home());
    let mut world = told_to_sign_in(world);
    assert_eq!(
        world.story(),
        "0.0 homing    SignedOut → Discovering (nothing remembered)\n\
         0.0 discover  SRV _sipinternaltls._tcp.example.test → fe1.example.test\n\
         0.0 REGISTER  fe1.example.test  301 fe2.example.test q=0.7, fe1.example.test q=0.3\n\
         0.0 homing    Discovering → Registering (redirected)\n\
         0.0 REGISTER  fe2.example.test  200 expires 600 s\n\
         0.0 homing    Registering → AtPrimary (answered)\n\
         0.0 service   none → full"
    );
}

#[test]
fn servers_that_redirect_to_each_other_end_in_an_error_that_shows_the_path() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, Does::Redirect(vec![("fe2", "0.7")]));
    world.server(FE2, Does::Redirect(vec![("fe1", "0.7")]));
    let mut world = told_to_sign_in(world);
    let story = world.story();
    assert!(story.contains("loop      fe1.example.test → fe2.example.test → fe1.example.test"), "{story}");
    assert!(story.contains("waiting   "), "{story}");
    assert_eq!(world.seen.len(), 2, "each was asked once");
}

#[test]
fn a_redirect_out_of_the_domain_is_refused_unless_allowed() {
    let elsewhere = Does::Redirect(vec![("evil.invalid", "0.7")]);
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, elsewhere.clone());
    let mut world = told_to_sign_in(world);
    let story = world.story();
    assert!(story.contains("refused   evil.invalid (outside the SIP domain)"), "{story}");
    assert!(!world.asked.contains(&Query::Address("evil.invalid".to_owned()).to_string()));

    let mut world = Scripted::with(Profile::Rehome, None, |config| config.allow_redirect_outside = true);
    world.server(FE1, elsewhere);
    let world = told_to_sign_in(world);
    assert!(world.asked.contains(&Query::Address("evil.invalid".to_owned()).to_string()));
}

#[test]
fn an_srv_target_outside_the_domain_is_refused_unless_names_are_relaxed() {
    let mut world = Scripted::new(Profile::Rehome);
    world.srv("_sipinternaltls._tcp.example.test", &[(0, "sip.hosting.invalid")]);
    world.host("sip.hosting.invalid", &["127.2.0.1"]);
    world.server(FE2, plain_home());
    let mut world = told_to_sign_in(world);
    let story = world.story();
    assert!(story.contains("refused   sip.hosting.invalid (outside the SIP domain)"), "{story}");
    assert_eq!(world.endpoint.homing().state(), State::Discovering);

    let mut world = Scripted::with(Profile::Rehome, None, |config| config.strict_names = false);
    world.srv("_sipinternaltls._tcp.example.test", &[(0, "sip.hosting.invalid")]);
    world.host("sip.hosting.invalid", &["127.2.0.1"]);
    world.server(FE2, plain_home());
    let world = told_to_sign_in(world);
    assert_eq!(world.where_is(), "sip.hosting.invalid");
}

#[test]
fn a_dns_time_out_names_the_question_and_the_rest_of_the_list_is_still_tried() {
    let mut world = Scripted::new(Profile::Lync2010);
    let failed = Answer::Failed(sip::locate::DnsFailure::TimedOut);
    world.answer(&Query::Srv("_sipinternaltls._tcp.example.test".to_owned()), failed);
    world.srv("_sip._tls.example.test", &[(0, "fe1.example.test")]);
    world.server(FE1, plain_home());
    let mut world = told_to_sign_in(world);
    let story = world.story();
    let timed_out = "discover  SRV _sipinternaltls._tcp.example.test → no answer in time";
    assert!(story.contains(timed_out), "{story}");
    assert!(story.contains("discover  SRV _sip._tls.example.test → fe1.example.test"), "{story}");
    assert_eq!(world.where_is(), "fe1.example.test");
}

#[test]
fn dns_that_is_dead_is_asked_again_until_it_answers() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, home());
    world.dns_dead = true;
    let mut world = told_to_sign_in(world);
    world.elapse(3);
    assert_eq!(world.where_is(), "nowhere (nothing remembered)");
    world.dns_dead = false;
    world.elapse(30);
    assert_eq!(world.where_is(), "fe1.example.test");
}

#[test]
fn without_srv_records_the_conventional_hosts_are_tried_in_order() {
    let mut world = Scripted::new(Profile::Lync2010);
    world.answer(&Query::Srv("_sipinternaltls._tcp.example.test".to_owned()), Answer::None);
    world.host("sip.example.test", &["127.1.0.1"]);
    world.host("example.test", &["127.2.0.1"]);
    world.server(FE1, plain_home());
    world.server(FE2, plain_home());
    let mut world = told_to_sign_in(world);
    let story = world.story();
    assert!(
        story.contains("discover  A sipinternal.example.test → nothing") || story.contains("sipinternal"),
        "{story}"
    );
    assert_eq!(world.where_is(), "sip.example.test");
}

#[test]
fn services_that_naptr_names_go_before_the_list() {
    let mut world = Scripted::new(Profile::Rehome);
    let naptr = Naptr {
        order: 10,
        preference: 10,
        flags: "s".to_owned(),
        service: "SIPS+D2T".to_owned(),
        replacement: "_sips._tcp.example.test".to_owned(),
    };
    let answer = Answer::Records(vec![Record::Naptr(naptr)]);
    world.answer(&Query::Naptr("example.test".to_owned()), answer);
    world.srv("_sips._tcp.example.test", &[(0, "fe2.example.test")]);
    world.server(FE1, home());
    world.server(FE2, backup());
    let world = told_to_sign_in(world);
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
}

#[test]
fn targets_go_by_priority_and_a_dead_one_costs_its_connect_time_out() {
    let mut world = Scripted::new(Profile::Lync2010);
    let both = [(10, "fe2.example.test"), (0, "fe1.example.test")];
    world.srv("_sipinternaltls._tcp.example.test", &both);
    world.server(FE2, plain_home());
    let mut world = told_to_sign_in(world);
    world.elapse(6);
    assert_eq!(
        world.story(),
        "0.0 homing    SignedOut → Discovering (nothing remembered)\n\
         0.0 discover  SRV _sipinternaltls._tcp.example.test → fe1.example.test, fe2.example.test\n\
         5.0 connect   fe1.example.test  timed out\n\
         5.0 REGISTER  fe2.example.test  200 expires 600 s\n\
         5.0 homing    Discovering → AtPrimary (answered)\n\
         5.0 service   none → full"
    );
}

#[test]
fn every_address_of_a_target_is_tried() {
    let mut world = Scripted::new(Profile::Rehome);
    world.host("fe1.example.test", &["127.1.0.7", "127.1.0.1"]);
    world.server("127.1.0.7:5061", Does::Refuse);
    world.server(FE1, home());
    let mut world = told_to_sign_in(world);
    assert!(world.story().contains("connect   fe1.example.test  refused"));
    assert_eq!(world.where_is(), "fe1.example.test");
}

#[test]
fn a_challenge_is_answered_with_the_strongest_algorithm() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, home());
    world.guard(FE1, "secret");
    let world = told_to_sign_in(world);
    assert_eq!(world.where_is(), "fe1.example.test");
    assert_eq!(world.seen.len(), 2, "one without, one with credentials");
}

#[test]
fn a_wrong_password_ends_it_and_is_never_tried_again() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, home());
    world.guard(FE1, "another");
    let mut world = told_to_sign_in(world);
    let story = world.story();
    assert!(story.contains("rejected  fe1.example.test  401 Unauthorized"), "{story}");
    assert!(story.contains("homing    Discovering → SignedOut (rejected)"), "{story}");
    world.elapse(3600);
    assert_eq!(world.seen.len(), 2);
    assert_eq!(world.story(), "");
}

#[test]
fn an_unknown_user_is_rejected_at_once() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, Does::Say(404, "Not Found", vec![]));
    let mut world = told_to_sign_in(world);
    world.elapse(3600);
    assert_eq!(world.endpoint.homing().state(), State::SignedOut);
    assert_eq!(world.seen.len(), 1);
}

#[test]
fn a_server_that_calls_every_nonce_stale_is_left_after_one_more_try() {
    let mut world = Scripted::new(Profile::Rehome);
    let stale = "Digest realm=\"example.test\", nonce=\"n\", algorithm=MD5, qop=\"auth\", stale=TRUE";
    world.server(FE1, Does::Say(401, "Unauthorized", vec![("WWW-Authenticate", stale)]));
    let mut world = told_to_sign_in(world);
    assert_eq!(world.seen.len(), 3, "without, with, and with a fresh nonce");
    let story = world.story();
    assert!(story.contains("REGISTER  fe1.example.test  401 Unauthorized"), "{story}");
    assert!(!story.contains("rejected"), "{story}");
}

#[test]
fn an_expiry_too_brief_is_raised_to_what_the_registrar_wants() {
    let mut world = Scripted::with(Profile::Rehome, None, |config| {
        config.expiry = std::time::Duration::from_secs(60);
    });
    world.server(FE1, Does::Say(423, "Interval Too Brief", vec![("Min-Expires", "300")]));
    let world = told_to_sign_in(world);
    let wishes: Vec<u32> = world.seen.iter().filter_map(|(_, request)| request.expires()).collect();
    assert_eq!(wishes, [60, 300]);
}

#[test]
fn retry_after_is_obeyed() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, Does::Say(503, "Service Unavailable", vec![("Retry-After", "25")]));
    let mut world = told_to_sign_in(world);
    let story = world.story();
    assert!(
        story.contains("REGISTER  fe1.example.test  503 Service Unavailable, retry after 25 s"),
        "{story}"
    );
    world.elapse(24);
    assert_eq!(world.seen.len(), 1, "not before it said");
    world.server(FE1, home());
    world.elapse(4);
    assert_eq!(world.where_is(), "fe1.example.test");
}

#[test]
fn the_second_sign_in_asks_no_dns_and_is_not_redirected() {
    let mut world = Scripted::new(Profile::Lync2010);
    world.server(FE1, Does::Redirect(vec![("fe2", "0.7"), ("fe1", "0.3")]));
    world.server(FE2, plain_home());
    let world = told_to_sign_in(world);
    let kept = world.kept.last().cloned().expect("the registrar is remembered");
    let address = Some(FE2.parse().expect("an address"));
    let uri = "sip:fe2.example.test:5061;transport=tls".to_owned();
    assert_eq!(kept.registrars, [CachedRegistrar { uri, address }], "the primary alone");

    let mut world = Scripted::with(Profile::Lync2010, Some(kept), |_| {});
    world.server(FE2, plain_home());
    let mut world = told_to_sign_in(world);
    assert_eq!(
        world.story(),
        "0.0 cache     fe2.example.test\n\
         0.0 homing    SignedOut → Registering (remembered)\n\
         0.0 REGISTER  fe2.example.test  200 expires 600 s\n\
         0.0 homing    Registering → AtPrimary (answered)\n\
         0.0 service   none → full"
    );
    assert_eq!(world.asked, Vec::<String>::new());
}

#[test]
fn rehome_remembers_the_whole_list_and_lync2010_nothing_of_a_backup() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, home());
    let world = told_to_sign_in(world);
    let uris = |entry: &CacheEntry| {
        entry.registrars.iter().map(|registrar| registrar.uri.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        world.kept.last().map(uris),
        Some(vec![
            "sip:fe1.example.test:5061;transport=tls".to_owned(),
            "sip:fe2.example.test:5061;transport=tls".to_owned()
        ])
    );

    let mut world = Scripted::new(Profile::Lync2010);
    world.server(FE1, backup());
    let world = told_to_sign_in(world);
    assert_eq!(world.kept, [], "a server that says it is not the primary is not kept");
}

#[test]
fn a_cached_registrar_that_is_dead_leads_back_to_dns() {
    let cached = CacheEntry {
        aor: "sip:alice@example.test".to_owned(),
        registrars: vec![CachedRegistrar {
            uri: "sip:fe2.example.test:5061;transport=tls".to_owned(),
            address: Some(FE2.parse().expect("an address")),
        }],
        lifetime: crate::cache::LIFETIME,
    };
    let mut world = Scripted::with(Profile::Rehome, Some(cached), |_| {});
    world.server(FE1, home());
    world.server(FE2, Does::Refuse);
    let mut world = told_to_sign_in(world);
    let story = world.story();
    assert!(story.contains("cache     fe2.example.test"), "{story}");
    assert!(story.contains("discover  SRV _sipinternaltls._tcp.example.test"), "{story}");
    assert_eq!(world.where_is(), "fe1.example.test");
}

#[test]
fn the_cache_of_somebody_else_is_not_used() {
    let cached = CacheEntry { aor: "sip:bob@example.test".to_owned(), ..CacheEntry::default() };
    let mut world = Scripted::with(Profile::Rehome, Some(cached), |_| {});
    world.server(FE1, home());
    let mut world = told_to_sign_in(world);
    assert!(!world.story().contains("cache"));
}

#[test]
fn a_registrar_that_takes_the_connection_and_says_nothing_is_left_after_peer_dead_after() {
    let mut world = Scripted::new(Profile::Rehome);
    let both = [(0, "fe1.example.test"), (10, "fe2.example.test")];
    world.srv("_sipinternaltls._tcp.example.test", &both);
    world.server(FE1, Does::Mute);
    world.server(FE2, backup());
    let mut world = told_to_sign_in(world);
    world.elapse(6);
    assert!(world.story().contains("5.0 REGISTER  fe1.example.test  no answer in 5 s"));
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
}

#[test]
fn signing_out_takes_the_registration_back() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, home());
    let mut world = told_to_sign_in(world);
    world.story();
    world.tell(Command::SignOut);
    assert_eq!(
        world.story(),
        "0.0 homing    AtPrimary → SignedOut (signed out)\n\
         0.0 service   full → none\n\
         0.0 sign-out  fe1.example.test  confirmed"
    );
    let (_, farewell) = world.seen.last().expect("a REGISTER");
    assert_eq!(farewell.expires(), Some(0));
    world.elapse(3600);
    assert_eq!(world.story(), "");
}

#[test]
fn signing_out_of_a_dead_registrar_ends_without_confirmation() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, home());
    let mut world = told_to_sign_in(world);
    world.server(FE1, Does::Dead);
    world.story();
    world.tell(Command::SignOut);
    world.elapse(10);
    assert!(world.story().contains("5.0 sign-out  fe1.example.test  not confirmed"));
}
