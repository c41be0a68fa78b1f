//! Every row of the answer table, printed.

use std::fmt::Write as _;

use resilience::topology::examples;

use super::*;
use crate::input::PoolOutlook;
use crate::testing::epoch;

const HOME: &str = "fe2.example.test";

fn three_pools(profile: Profile, automatic: bool) -> Topology {
    let mut topology = examples::two_sites();
    topology.profile = profile;
    for pool in &mut topology.pools {
        pool.automatic_failover = automatic;
    }
    topology.pools.push(
        Pool::registrar("fe3.example.test", examples::SITE1)
            .with(ServerEntry::new("fe3.example.test", [127, 1, 0, 3])),
    );
    topology.pools.push(
        Pool::director("dir.example.test", examples::SITE1)
            .with(ServerEntry::new("dir.example.test", [127, 1, 0, 4])),
    );
    topology
}

fn outlook(pool: &str, state: State) -> Outlook {
    let now = epoch();
    let lost_at = (state == State::Suspect).then(|| now + Duration::from_secs(12));
    let mut outlook = Outlook::default();
    outlook.pools.insert(pool.into(), PoolOutlook { state, since: now, lost_at });
    outlook
}

fn said(homed: &Homed) -> String {
    match homed {
        Homed::Here { on_backup: false } => "200 primary".into(),
        Homed::Here { on_backup: true } => "200 backup".into(),
        Homed::There { first, second, .. } => {
            let second = second.as_ref().map_or("-", |place| &place.name);
            format!("301 {} {second}", first.name)
        }
        Homed::Waiting { retry_after } => format!("503 retry after {} s", retry_after.as_secs()),
        Homed::Nowhere(why) => format!("{} {why}", why.status()),
    }
}

#[test]
fn every_row_of_the_answer_table() {
    let mut table = String::new();
    for profile in [Profile::Lync2010, Profile::Rehome] {
        for (server, automatic) in [
            ("dir.example.test", true),
            ("fe3.example.test", true),
            ("fe2.example.test", true),
            ("fe1.example.test", true),
            ("fe1.example.test", false),
        ] {
            let topology = three_pools(profile, automatic);
            let server = ServerName::new(server);
            let (pool, _) = topology.server(&server).unwrap();
            for state in [State::Up, State::Suspect, State::FailedOver, State::FailingBack] {
                let outlook = outlook(HOME, state);
                let standing = Standing {
                    topology: &topology,
                    server: &server,
                    pool,
                    outlook: &outlook,
                    draining: false,
                    now: epoch(),
                };
                let answer = said(&locate(&HOME.into(), 7, &standing));
                let auto = if automatic { "auto" } else { "hand" };
                writeln!(
                    table,
                    "{:8} {:3} {auto} {state:11} {answer}",
                    profile.name(),
                    &server[..3],
                    state = format!("{state:?}")
                )
                .unwrap();
            }
        }
    }
    let expected = "\
lync2010 dir auto Up          301 fe2.example.test fe1.example.test
lync2010 dir auto Suspect     301 fe2.example.test fe1.example.test
lync2010 dir auto FailedOver  301 fe2.example.test fe1.example.test
lync2010 dir auto FailingBack 301 fe2.example.test fe1.example.test
lync2010 fe3 auto Up          301 fe2.example.test fe1.example.test
lync2010 fe3 auto Suspect     301 fe2.example.test fe1.example.test
lync2010 fe3 auto FailedOver  301 fe2.example.test fe1.example.test
lync2010 fe3 auto FailingBack 301 fe2.example.test fe1.example.test
lync2010 fe2 auto Up          200 primary
lync2010 fe2 auto Suspect     200 primary
lync2010 fe2 auto FailedOver  200 primary
lync2010 fe2 auto FailingBack 200 primary
lync2010 fe1 auto Up          301 fe2.example.test fe1.example.test
lync2010 fe1 auto Suspect     503 retry after 12 s
lync2010 fe1 auto FailedOver  200 backup
lync2010 fe1 auto FailingBack 200 backup
lync2010 fe1 hand Up          301 fe2.example.test fe1.example.test
lync2010 fe1 hand Suspect     301 fe2.example.test fe1.example.test
lync2010 fe1 hand FailedOver  200 backup
lync2010 fe1 hand FailingBack 200 backup
rehome   dir auto Up          301 fe2.example.test fe1.example.test
rehome   dir auto Suspect     301 fe2.example.test fe1.example.test
rehome   dir auto FailedOver  301 fe1.example.test fe2.example.test
rehome   dir auto FailingBack 301 fe1.example.test fe2.example.test
rehome   fe3 auto Up          301 fe2.example.test fe1.example.test
rehome   fe3 auto Suspect     301 fe2.example.test fe1.example.test
rehome   fe3 auto FailedOver  301 fe1.example.test fe2.example.test
rehome   fe3 auto FailingBack 301 fe1.example.test fe2.example.test
rehome   fe2 auto Up          200 primary
rehome   fe2 auto Suspect     200 primary
rehome   fe2 auto FailedOver  200 primary
rehome   fe2 auto FailingBack 200 primary
rehome   fe1 auto Up          301 fe2.example.test fe1.example.test
rehome   fe1 auto Suspect     503 retry after 12 s
rehome   fe1 auto FailedOver  200 backup
rehome   fe1 auto FailingBack 200 backup
rehome   fe1 hand Up          301 fe2.example.test fe1.example.test
rehome   fe1 hand Suspect     301 fe2.example.test fe1.example.test
rehome   fe1 hand FailedOver  200 backup
rehome   fe1 hand FailingBack 200 backup
";
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn inside_a_pool_the_first_living_server_of_the_users_order_answers() {
    let topology = examples::two_sites_of_three();
    let pool = topology.pool("pool1.example.test").unwrap();
    let order: Vec<_> = pool.preferred_order(7).into_iter().map(|server| server.name.clone()).collect();
    let mut table = String::new();
    for dead in 0..=3 {
        let outlook = Outlook { silent: order[..dead].to_vec(), ..Outlook::default() };
        for (place, server) in order.iter().enumerate() {
            if place < dead {
                continue;
            }
            let standing = Standing {
                topology: &topology,
                server,
                pool,
                outlook: &outlook,
                draining: false,
                now: epoch(),
            };
            let answer = match locate(&pool.name, 7, &standing) {
                Homed::Here { on_backup: false } => "200".to_owned(),
                Homed::There { first, second: Some(second), why: Why::PreferredServer } => {
                    let choice = order.iter().position(|name| *name == *first.name).unwrap();
                    assert_eq!(second.name, "pool2.example.test");
                    format!("301 choice {choice}")
                }
                other => panic!("{other:?}"),
            };
            writeln!(table, "first {dead} dead, at choice {place}: {answer}").unwrap();
        }
    }
    let expected = "\
first 0 dead, at choice 0: 200
first 0 dead, at choice 1: 301 choice 0
first 0 dead, at choice 2: 301 choice 0
first 1 dead, at choice 1: 200
first 1 dead, at choice 2: 301 choice 1
first 2 dead, at choice 2: 200
";
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn a_server_that_has_met_nobody_yet_answers_itself() {
    let topology = examples::two_sites_of_three();
    let pool = topology.pool("pool1.example.test").unwrap();
    let order: Vec<_> = pool.preferred_order(7).into_iter().map(|server| server.name.clone()).collect();
    let answer = |unmet: &[ServerName]| {
        let outlook = Outlook { unmet: unmet.to_vec(), ..Outlook::default() };
        let (server, draining, now) = (&order[2], false, epoch());
        locate(
            &pool.name,
            7,
            &Standing { topology: &topology, server, pool, outlook: &outlook, draining, now },
        )
    };
    assert_eq!(answer(&order[..2]), Homed::Here { on_backup: false });
    let first = |homed| match homed {
        Homed::There { first, .. } => first.name,
        other => panic!("{other:?}"),
    };
    assert_eq!(first(answer(&order[..1])), *order[1], "it has met the second");
    assert_eq!(first(answer(&[])), *order[0]);
}

#[test]
fn guests_are_sent_to_no_mate_that_would_send_them_home() {
    let topology = examples::two_sites_of_three();
    let (home, pool) = (PoolName::from("pool1.example.test"), topology.pool("pool2.example.test").unwrap());
    let order: Vec<_> = pool.preferred_order(7).into_iter().map(|server| server.name.clone()).collect();
    let mut outlook = outlook(&home, State::FailedOver);
    let at_last = |outlook: &Outlook| {
        let (server, draining, now) = (&order[2], false, epoch());
        said(&locate(&home, 7, &Standing { topology: &topology, server, pool, outlook, draining, now }))
    };
    assert_eq!(at_last(&outlook), format!("301 {} -", order[0]));
    outlook.told_up.insert(order[0].clone(), [home.clone()].into());
    assert_eq!(at_last(&outlook), format!("301 {} -", order[1]));
    outlook.told_up.insert(order[1].clone(), [home.clone()].into());
    assert_eq!(at_last(&outlook), "200 backup");
}

#[test]
fn a_draining_server_sends_newcomers_to_the_next_one_and_to_nobody_when_alone() {
    let topology = examples::two_sites_of_three();
    let pool = topology.pool("pool1.example.test").unwrap();
    let order: Vec<_> = pool.preferred_order(7).into_iter().map(|server| server.name.clone()).collect();
    let mut outlook = Outlook::default();
    let at = |outlook: &Outlook| {
        let server = &order[0];
        locate(
            &pool.name,
            7,
            &Standing { topology: &topology, server, pool, outlook, draining: true, now: epoch() },
        )
    };
    assert!(matches!(at(&outlook), Homed::There { first, .. } if first.name == *order[1]));
    outlook.silent = order[1..].to_vec();
    assert_eq!(at(&outlook), Homed::Nowhere(Why::Draining));
}

#[test]
fn a_user_of_a_pool_that_is_not_published_is_nowhere() {
    let topology = examples::two_sites();
    let server = ServerName::new(examples::FE1);
    let (pool, _) = topology.server(&server).unwrap();
    let outlook = Outlook::default();
    let standing = Standing {
        topology: &topology,
        server: &server,
        pool,
        outlook: &outlook,
        draining: false,
        now: epoch(),
    };
    assert_eq!(locate(&"gone.example.test".into(), 7, &standing), Homed::Nowhere(Why::UnknownUser));
}

#[test]
fn a_redirect_keeps_the_client_s_transport_where_it_is_offered() {
    let mut place = Place { name: "fe2.example.test".into(), udp: Some(5060), tcp: None, tls: Some(5061) };
    for (came_by, uri) in [
        (Transport::Tls, "sip:fe2.example.test:5061;transport=TLS"),
        (Transport::Udp, "sip:fe2.example.test:5060;transport=UDP"),
        (Transport::Tcp, "sip:fe2.example.test:5061;transport=TLS"),
    ] {
        assert_eq!(place.uri(came_by), uri);
    }
    (place.udp, place.tls) = (None, None);
    assert_eq!(place.uri(Transport::Tls), "sip:fe2.example.test");
}
