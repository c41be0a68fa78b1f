//! Registered, and then something dies: who notices when, and where the user ends up.

use resilience::homing::State;
use resilience::profile::Profile;

use super::scripted::{Does, FE1, FE2, Scripted, backup, home, plain_home};
use crate::Command;

/// alice at fe1, at second 0, with the story so far forgotten.
fn at_home(profile: Profile, does: Does) -> Scripted {
    let mut world = Scripted::new(profile);
    world.server(FE1, does);
    world.server(FE2, backup());
    world.tell(Command::SignIn);
    assert_eq!(world.where_is(), "fe1.example.test");
    world.story();
    world
}

#[test]
fn lync2010_notices_silence_30_s_after_its_ping_and_is_stranded() {
    let mut world = at_home(Profile::Lync2010, plain_home());
    world.server(FE1, Does::Dead);
    world.elapse(41);
    assert_eq!(
        world.story(),
        "40.0 lost      fe1.example.test  (silent for 30 s)\n\
         40.0 homing    AtPrimary → Registering (flow lost)\n\
         40.0 service   full → none"
    );
    world.elapse(480);
    let story = world.story();
    assert!(story.contains("Registering → Discovering (all tried)"), "{story}");
    assert!(!story.contains("fe2.example.test"), "nobody ever told it of fe2: {story}");
    assert_eq!(world.endpoint.status().registrar, None);
    world.server(FE1, plain_home());
    world.elapse(36);
    assert_eq!(world.where_is(), "fe1.example.test", "one retry after the repair");
}

#[test]
fn rehome_notices_silence_5_s_after_its_ping_and_is_at_the_backup_a_second_later() {
    let mut world = at_home(Profile::Rehome, home());
    world.server(FE1, Does::Dead);
    world.elapse(30);
    assert_eq!(
        world.story(),
        "25.0 lost      fe1.example.test  (silent for 5 s)\n\
         25.0 homing    AtPrimary → Registering (flow lost)\n\
         25.0 service   full → none\n\
         26.0 connect   fe1.example.test  timed out\n\
         26.0 REGISTER  fe2.example.test  200 expires 600 s, limited\n\
         26.0 homing    Registering → AtBackup (answered by the backup)\n\
         26.0 service   none → limited"
    );
}

#[test]
fn a_killed_registrar_is_noticed_at_once() {
    let mut world = at_home(Profile::Rehome, home());
    world.elapse(10);
    world.server(FE1, Does::Refuse);
    world.reset(FE1);
    assert!(world.story().starts_with("10.0 lost      fe1.example.test  (reset by the other side)"));
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
}

#[test]
fn a_backup_that_is_not_yet_sure_names_the_time_and_is_asked_again_then() {
    let mut world = at_home(Profile::Rehome, home());
    world.elapse(10);
    world.server(FE1, Does::Refuse);
    world.server(FE2, Does::Say(503, "Service Unavailable", vec![("Retry-After", "4")]));
    world.reset(FE1);
    let story = world.story();
    assert!(
        story.contains("REGISTER  fe2.example.test  503 Service Unavailable, retry after 4 s"),
        "{story}"
    );
    world.server(FE2, backup());
    world.elapse(3);
    assert_eq!(world.endpoint.status().registrar, None);
    world.elapse(2);
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
}

#[test]
fn a_backup_that_still_redirects_to_the_dead_primary_makes_us_wait_not_loop() {
    let mut world = at_home(Profile::Rehome, home());
    world.elapse(10);
    world.server(FE1, Does::Refuse);
    world.server(FE2, Does::Redirect(vec![("fe1", "0.7"), ("fe2", "0.3")]));
    world.reset(FE1);
    let story = world.story();
    assert!(story.contains("names only registrars just found dead"), "{story}");
    assert!(!story.contains("loop"), "{story}");
    world.server(FE2, backup());
    world.elapse(3);
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
}

#[test]
fn the_backup_sends_its_guest_home() {
    let mut world = at_home(Profile::Rehome, home());
    world.elapse(10);
    world.server(FE1, Does::Refuse);
    world.reset(FE1);
    world.server(FE1, home());
    world.elapse(10);
    world.story();
    let headers = [
        ("Subscription-State", "terminated;expires=0"),
        ("P-Preferred-Registrar", "sip:fe1.example.test:5061;transport=tls"),
    ];
    world.notify(FE2, &headers, "deregistered;event=preferred-registrar-change");
    assert_eq!(world.last_answer(), 200);
    assert_eq!(
        world.story(),
        "20.0 NOTIFY    fe2.example.test  deregistered;event=preferred-registrar-change → fe1.example.test\n\
         20.0 homing    AtBackup → Registering (sent home)\n\
         20.0 service   limited → none\n\
         20.0 REGISTER  fe1.example.test  200 expires 600 s\n\
         20.0 homing    Registering → AtPrimary (answered)\n\
         20.0 service   none → full"
    );
}

#[test]
fn a_refresh_that_is_redirected_leads_home() {
    let mut world = at_home(Profile::Rehome, home());
    world.server(FE1, Does::Redirect(vec![("fe2", "0.7")]));
    world.server(FE2, plain_home());
    world.elapse(301);
    let story = world.story();
    assert!(story.starts_with("300.0 REGISTER  fe1.example.test  301 fe2.example.test q=0.7"), "{story}");
    assert_eq!(world.where_is(), "fe2.example.test");
}

#[test]
fn the_registration_is_refreshed_at_half_its_time() {
    let mut world = at_home(Profile::Rehome, home());
    world.elapse(601);
    assert_eq!(
        world.story(),
        "300.0 refresh   fe1.example.test  200 expires 600 s\n600.0 refresh   fe1.example.test  200 expires 600 s"
    );
}

#[test]
fn user_services_may_go_and_come_back_without_a_move() {
    let mut world = at_home(Profile::Rehome, home());
    let event = [("Subscription-State", "active")];
    world.notify(FE1, &event, "registered;event=userservices-unavailable");
    assert_eq!(world.where_is(), "fe1.example.test (limited functionality)");
    world.notify(FE1, &event, "registered;event=userservices-available");
    assert_eq!(world.where_is(), "fe1.example.test");
    assert_eq!(world.endpoint.homing().state(), State::AtPrimary);
}

#[test]
fn an_evicted_client_does_not_fight_for_its_place() {
    let mut world = at_home(Profile::Rehome, home());
    let event = [("Subscription-State", "terminated")];
    world.notify(FE1, &event, "deregistered;event=rejected");
    world.elapse(3600);
    assert_eq!(world.endpoint.homing().state(), State::SignedOut);
    assert_eq!(world.seen.len(), 1);
}

#[test]
fn a_client_that_moves_to_the_backup_uses_the_nonce_it_has() {
    let mut world = Scripted::new(Profile::Rehome);
    world.server(FE1, home());
    world.server(FE2, backup());
    world.guard(FE1, "secret");
    world.guard(FE2, "secret");
    world.tell(Command::SignIn);
    world.elapse(10);
    world.server(FE1, Does::Refuse);
    world.reset(FE1);
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
    assert_eq!(world.seen.len(), 3, "challenged once, at fe1");
}

#[test]
fn a_site_that_takes_dns_with_it_does_not_keep_us_from_the_backup() {
    let mut world = at_home(Profile::Rehome, home());
    world.elapse(10);
    world.dns_dead = true;
    world.server(FE1, Does::Refuse);
    world.reset(FE1);
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
}

#[test]
fn over_udp_a_register_to_nobody_is_not_repeated_after_we_have_gone_on() {
    let mut world = Scripted::with(Profile::Rehome, None, |config| {
        config.transports = vec![sip::transport::Transport::Udp];
    });
    world.srv("_sip._udp.example.test", &[(0, "fe1.example.test"), (10, "fe2.example.test")]);
    world.server(FE1, Does::Mute);
    world.server(FE2, backup());
    world.tell(Command::SignIn);
    world.elapse(6);
    assert_eq!(world.where_is(), "fe2.example.test (limited functionality)");
    let at_fe1 = world.seen.iter().filter(|(server, _)| server.to_string() == FE1).count();
    assert!(at_fe1 > 2, "repeated while there was hope");
    world.elapse(60);
    assert_eq!(world.seen.iter().filter(|(server, _)| server.to_string() == FE1).count(), at_fe1);
}
