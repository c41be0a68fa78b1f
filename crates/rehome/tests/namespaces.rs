//! Two servers, DNS and a client as four hosts: a network card goes down, a process is killed, and the user moves.
//!
//! The article's steps S4, S5 and S7 on a real kernel's network. `REHOME_INTERVALS=article` plays them with the
//! article's intervals (30 s and 40 s); otherwise they are about a tenth of that.

mod support;

use std::time::Duration;

use support::Deployment;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_user_moves_when_the_card_goes_down_and_comes_home_when_it_is_back() {
    let name = "a_user_moves_when_the_card_goes_down_and_comes_home_when_it_is_back";
    let Some(site) = Deployment::new(name, "a", "rehome", &[(0, "fe1")]) else { return };
    let _dns = site.dns();
    let (_fe1, _fe2) = (site.serve("fe1"), site.serve("fe2"));
    let mut user = site.sign_in("clientuser2", "rehome");
    user.wait_for_service("full", "fe2", SOON);

    site.hosts.link("fe2", false);
    let over = user.wait_for_service("limited", "fe1", site.intervals.over());
    assert!(
        over >= Duration::from_secs(u64::from(site.intervals.detection_s - site.intervals.heartbeat_s)),
        "fe1 took a user of fe2 after {over:?} of silence, before the detection interval was over"
    );

    site.hosts.link("fe2", true);
    user.wait_for_service("full", "fe2", site.intervals.back());
}

#[test]
fn a_second_srv_record_saves_a_user_who_knows_no_backup() {
    let name = "a_second_srv_record_saves_a_user_who_knows_no_backup";
    let Some(site) = Deployment::new(name, "b", "lync2010", &[(0, "fe1")]) else { return };
    let dns = site.dns();
    let (_fe1, _fe2) = (site.serve("fe1"), site.serve("fe2"));
    let mut user = site.sign_in("clientuser1", "lync2010");
    user.wait_for_service("full", "fe1", SOON);
    assert!(!user.said().contains("301"), "a 301 told the user about the backup:\n{}", user.said());

    dns.kill();
    site.publish("lync2010", &[(0, "fe1"), (10, "fe2")]);
    let _dns = site.dns();
    site.hosts.link("fe1", false);
    // Here the client asks DNS anew, and tries the dead target first.
    user.wait_for_service("limited", "fe2", site.intervals.over() + Duration::from_secs(30));
}

#[test]
fn a_user_moves_when_the_process_is_killed_and_comes_home_when_it_runs_again() {
    let name = "a_user_moves_when_the_process_is_killed_and_comes_home_when_it_runs_again";
    let Some(site) = Deployment::new(name, "c", "rehome", &[(0, "fe1"), (10, "fe2")]) else { return };
    let _dns = site.dns();
    let (_fe1, fe2) = (site.serve("fe1"), site.serve("fe2"));
    let mut user = site.sign_in("clientuser2", "rehome");
    user.wait_for_service("full", "fe2", SOON);

    fe2.kill();
    user.wait_for_service("limited", "fe1", site.intervals.over());

    let _fe2 = site.serve("fe2");
    user.wait_for_service("full", "fe2", site.intervals.back());
    user.signal("TERM");
    assert!(user.wait_for_end(SOON).success(), "signing out went wrong:\n{}", user.said());
}
