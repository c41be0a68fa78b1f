use super::super::examples::{
    DOMAIN, FE1, FE2, SERVICE, SITE1, two_sites, two_sites_of_three, two_sites_rehome,
};
use super::*;
use crate::topology::{Gateway, PoolName, Site, Trunk};
use Severity::{Error, Warning};

/// One mistake made in a topology that is free of them, and what must be found: nothing else.
fn broken(mistake: impl FnOnce(&mut Topology)) -> Vec<(Severity, Rule, String)> {
    let mut topology = two_sites_rehome();
    mistake(&mut topology);
    check(&topology).into_iter().map(|found| (found.severity, found.rule, found.at.to_string())).collect()
}

#[track_caller]
fn assert_finds(mistake: impl FnOnce(&mut Topology), severity: Severity, rule: Rule, at: &str) {
    assert_eq!(broken(mistake), [(severity, rule, at.to_owned())]);
}

fn pool(name: &str) -> Option<PoolName> {
    Some(name.into())
}

#[test]
fn a_sound_topology_gives_no_finding() {
    assert_eq!(check(&two_sites_rehome()), []);
}

#[test]
fn the_experiments_topology_works_and_is_warned_of_its_single_srv_record() {
    for topology in [two_sites(), two_sites_of_three()] {
        let findings = check(&topology);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            findings[0].to_string(),
            "warning: srv[0].priority: every record of _sipinternaltls._tcp.example.test has the same priority; a client that \
             knows no backup and whose only record led to a dead pool was out after 30 s and stayed out for the eight minutes it \
             was watched; publish a second record with a higher priority to a pool in another site"
        );
    }
}

#[test]
fn the_document_needs_a_version_domains_and_a_pool_with_users() {
    assert_finds(|t| t.version = 0, Error, Rule::NoVersion, "version");
    assert_finds(|t| t.domains.push("Example.test".into()), Error, Rule::DuplicateName, "domains[1]");
    assert_finds(|t| t.domains.push("example".into()), Error, Rule::BadName, "domains[1]");
    assert_eq!(
        broken(|t| {
            t.domains.clear();
            t.srv.clear();
        }),
        [(Error, Rule::NoDomains, "domains".to_owned())]
    );
    assert_eq!(
        broken(|t| t.pools.iter_mut().for_each(|pool| {
            pool.role = Role::Director;
            pool.backup = None;
        })),
        [(Error, Rule::NoRegistrar, "pool".to_owned())]
    );
    assert!(check(&Topology::default()).iter().any(|found| found.rule == Rule::NoRegistrar));
}

#[test]
fn a_backup_is_another_registrar_pool_in_another_site() {
    let at = "pool[1].backup";
    assert_finds(|t| t.pools[1].backup = pool(FE2), Error, Rule::OwnBackup, at);
    assert_finds(|t| t.pools[1].backup = pool("fe9.example.test"), Error, Rule::UnknownBackup, at);
    assert_finds(
        |t| {
            t.pools.push(Pool::director("dir.example.test", SITE1).with(server("dir.example.test", 9)));
            t.pools[1].backup = pool("dir.example.test");
        },
        Error,
        Rule::BackupIsDirector,
        at,
    );
    assert_eq!(
        broken(|t| {
            t.pools[1].site = SITE1.into();
            t.srv.clear();
        }),
        ["pool[0].backup", "pool[1].backup"].map(|at| (Warning, Rule::BackupInSameSite, at.to_owned()))
    );
    assert_eq!(broken(|t| t.pools[1].backup = None), [], "no backup is a decision too");
}

#[test]
fn a_misspelt_name_is_answered_with_the_nearest_known_one() {
    let mut topology = two_sites_rehome();
    topology.pools[0].backup = pool("fe3.example.test");
    topology.pools[1].site = "sit2".into();
    let cures: Vec<_> = check(&topology).into_iter().map(|found| found.cure).collect();
    assert_eq!(cures, ["did you mean \"fe2.example.test\"?", "did you mean \"site2\"?"]);
}

#[test]
fn one_pool_may_back_up_many_if_it_can_carry_them_all() {
    let many = |capacity| {
        let mut topology = two_sites_rehome();
        topology.pools.push(
            Pool::registrar("fe3.example.test", SITE1).with(server("fe3.example.test", 3)).backed_up_by(FE2),
        );
        for (pool, users) in topology.pools.iter_mut().zip([1_000, 2_000, 4_000]) {
            pool.planned_users = Some(users);
        }
        topology.pools[1].capacity = Some(capacity);
        check(&topology)
    };
    assert_eq!(many(7_000), []);
    let findings = many(6_999);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].severity, findings[0].rule), (Warning, Rule::CapacityTooSmall));
    assert_eq!(
        findings[0].what,
        "fe2.example.test carries 6999 users and may have to carry 7000: 2000 of its own + 1000 of fe1.example.test + 4000 of \
         fe3.example.test"
    );
}

#[test]
fn a_director_homes_nobody() {
    let director = || Pool::director("dir.example.test", SITE1).with(server("dir.example.test", 9));
    assert_eq!(broken(|t| t.pools.push(director())), []);
    assert_finds(
        |t| t.pools.push(director().backed_up_by(FE2)),
        Error,
        Rule::DirectorHomesNobody,
        "pool[2].backup",
    );
    assert_finds(
        |t| t.pools.push(Pool { planned_users: Some(5), ..director() }),
        Error,
        Rule::DirectorHomesNobody,
        "pool[2].planned_users",
    );
}

#[test]
fn names_are_full_and_nobody_elses() {
    assert_finds(|t| t.sites.push(Site { name: SITE1.into() }), Error, Rule::DuplicateName, "site[2].name");
    assert_finds(|t| t.sites.push(Site { name: " ".into() }), Error, Rule::BadName, "site[2].name");
    let rename = |t: &mut Topology, name: &str| {
        t.pools.push(Pool::registrar(name, SITE1).with(server("other.example.test", 9)));
    };
    assert_finds(|t| rename(t, FE1), Error, Rule::DuplicateName, "pool[2].name");
    for bad in ["fe3", "fe3..test", "-a.test", "f e.test", "", "ä.test"] {
        assert_finds(|t| rename(t, bad), Error, Rule::BadName, "pool[2].name");
    }
    assert_finds(|t| rename(t, "fe3.example.org"), Warning, Rule::PoolOutsideDomains, "pool[2].name");
    let add = |t: &mut Topology, name: &str| t.pools[0].servers.push(server(name, 9));
    assert_finds(|t| add(t, FE1), Error, Rule::DuplicateName, "pool[0].server[1].name");
    assert_finds(|t| add(t, "a_b.example.test"), Error, Rule::BadName, "pool[0].server[1].name");
    assert_finds(
        |t| {
            let here = Pool::registrar("fe3.example.test", SITE1).with(server("a.example.test", 8));
            t.pools.push(here);
            add(t, "fe3.example.test");
        },
        Error,
        Rule::DuplicateName,
        "pool[0].server[1].name",
    );
}

#[test]
fn a_pool_has_servers_in_a_known_site() {
    assert_finds(|t| t.pools[0].site = "atlantis".into(), Error, Rule::UnknownSite, "pool[0].site");
    let empty = Pool::registrar("fe3.example.test", SITE1);
    assert_finds(|t| t.pools.push(empty), Error, Rule::EmptyPool, "pool[2].server");
}

#[test]
fn a_server_listens_somewhere_of_its_own() {
    let alone = |server| Pool::registrar("fe3.example.test", SITE1).with(server);
    let other = || server("a.example.test", 9);
    assert_finds(
        |t| t.pools.push(alone(ServerEntry { udp: None, tcp: None, tls: None, ..other() })),
        Error,
        Rule::NoPort,
        "pool[2].server[0]",
    );
    assert_finds(
        |t| t.pools.push(alone(ServerEntry { udp: Some(0), ..other() })),
        Error,
        Rule::PortZero,
        "pool[2].server[0].udp",
    );
    assert_finds(
        |t| t.pools.push(alone(ServerEntry { tcp: Some(5061), ..other() })),
        Error,
        Rule::DuplicateAddress,
        "pool[2].server[0].tls",
    );
    assert_finds(
        |t| t.pools.push(alone(ServerEntry { address: [0, 0, 0, 0].into(), ..other() })),
        Error,
        Rule::BadAddress,
        "pool[2].server[0].address",
    );
    assert_eq!(
        broken(|t| t.pools[1].servers[0].address = t.pools[0].servers[0].address),
        ["udp", "tcp", "tls"].map(|p| (Error, Rule::DuplicateAddress, format!("pool[1].server[0].{p}")))
    );
    assert_eq!(
        broken(|t| {
            t.pools[0].servers[0].tls = None;
            t.srv.remove(0);
        }),
        [
            (Error, Rule::NoTlsForHeartbeats, "pool[0].server[0].tls".to_owned()),
            (Warning, Rule::SrvSinglePriority, "srv[0].priority".to_owned())
        ]
    );
}

#[test]
fn an_srv_record_leads_to_a_listener_of_ours_in_its_domain() {
    let add = |record: SrvRecord| move |t: &mut Topology| t.srv.push(record);
    let record = |port, target| SrvRecord::new(SERVICE, DOMAIN, 0, port, target);
    assert_finds(add(record(5061, "fe9.example.test")), Error, Rule::SrvUnknownTarget, "srv[2].target");
    assert_finds(add(record(5060, FE1)), Error, Rule::SrvWrongPort, "srv[2].port");
    assert_finds(add(record(0, FE1)), Error, Rule::SrvWrongPort, "srv[2].port");
    assert_finds(add(record(5061, FE1)), Warning, Rule::SrvDuplicate, "srv[2]");
    assert_eq!(
        broken(add(SrvRecord::new("sip", DOMAIN, 0, 5061, FE1)))[0],
        (Error, Rule::BadService, "srv[2].service".to_owned())
    );
    assert_eq!(
        broken(add(SrvRecord::new(SERVICE, "example.org", 0, 5061, FE1)))[..2],
        [
            (Error, Rule::SrvOutsideDomains, "srv[2].domain".to_owned()),
            (Warning, Rule::SrvTargetOutsideDomain, "srv[2].target".to_owned())
        ]
    );
}

#[test]
fn a_service_asks_the_port_of_its_transport() {
    let two = |service: &str, port| {
        let mut topology = two_sites_rehome();
        topology.srv = vec![
            SrvRecord::new(service, DOMAIN, 0, port, FE1),
            SrvRecord::new(service, DOMAIN, 10, port, FE2),
        ];
        check(&topology)
    };
    for (service, port) in [
        ("_sip._tcp", 5060),
        ("_sip._udp", 5060),
        ("_sip._tls", 5061),
        ("_sips._tcp", 5061),
        ("_SipInternalTLS._TCP", 5061),
    ] {
        assert_eq!(two(service, port), [], "{service}");
        let other = 5060 + 5061 - port;
        assert!(
            two(service, other).iter().all(|found| found.rule == Rule::SrvWrongPort),
            "{service} {other}"
        );
        assert_eq!(two(service, other).len(), 2, "{service} {other}");
    }
}

#[test]
fn exchanged_numbers_are_recognised() {
    let numbers = |priority, weight, port| {
        move |t: &mut Topology| {
            t.srv[1].priority = priority;
            t.srv[1].weight = weight;
            t.srv[1].port = port;
        }
    };
    assert_finds(numbers(5061, 0, 10), Error, Rule::SrvTransposed, "srv[1].priority");
    assert_finds(numbers(10, 5061, 0), Error, Rule::SrvTransposed, "srv[1].weight");
    assert_finds(numbers(5061, 0, 5061), Warning, Rule::SrvTransposed, "srv[1].priority");
    assert_eq!(broken(numbers(10, 100, 5061)), []);
}

#[test]
fn a_service_needs_two_ways_in_that_are_not_lost_together() {
    assert_finds(|t| t.srv[1].priority = 0, Warning, Rule::SrvSinglePriority, "srv[0].priority");
    assert_finds(
        |t| {
            t.pools.push(Pool::registrar("fe3.example.test", SITE1).with(server("fe3.example.test", 3)));
            t.srv[1].target = "fe3.example.test".into();
        },
        Warning,
        Rule::SrvSingleSite,
        "srv[0].target",
    );
    assert_eq!(broken(|t| t.srv.clear()), [], "publishing no records is a decision too");
}

#[test]
fn intervals_are_positive_and_fit_each_other() {
    let s = Duration::from_secs;
    assert_finds(|t| t.timers.keepalive_idle = s(0), Error, Rule::ZeroDuration, "timers.keepalive_idle");
    assert_finds(
        |t| t.timers.failback_interval = s(0),
        Error,
        Rule::ZeroDuration,
        "timers.failback_interval",
    );
    assert_finds(|t| t.timers.keepalive_idle = Duration::MAX, Error, Rule::TooLong, "timers.keepalive_idle");
    assert_finds(|t| t.timers.failback_pace = Some(0), Error, Rule::ZeroPace, "timers.failback_pace");
    let detection = "timers.failure_detection_interval";
    assert_finds(|t| t.timers.failure_detection_interval = s(1), Error, Rule::DetectionTooShort, detection);
    assert_finds(|t| t.timers.failure_detection_interval = s(2), Error, Rule::DetectionTooShort, detection);
    assert_finds(|t| t.timers.failure_detection_interval = s(3), Warning, Rule::DetectionHasty, detection);
    assert_eq!(broken(|t| t.timers.failure_detection_interval = s(4)), []);
    assert_finds(|t| t.timers.peer_dead_after = s(1), Error, Rule::DeadBeforeAsked, "timers.peer_dead_after");
    let expiry = "timers.registration_expiry";
    assert_finds(|t| t.timers.registration_expiry.min = s(700), Error, Rule::ExpiryOutOfOrder, expiry);
    assert_finds(|t| t.timers.registration_expiry.max = s(500), Error, Rule::ExpiryOutOfOrder, expiry);
}

#[test]
fn failback_close_to_detection_is_warned_of_in_the_model_alone() {
    let close = |profile| {
        move |t: &mut Topology| {
            t.profile = profile;
            t.timers.failure_detection_interval = Duration::from_secs(30);
            t.timers.failback_interval = Duration::from_secs(31);
        }
    };
    let at = "timers.failback_interval";
    assert_finds(close(Profile::Lync2010), Warning, Rule::FailbackCloseToDetection, at);
    assert_eq!(broken(close(Profile::Rehome)), []);
}

#[test]
fn absurd_intervals_are_reported_without_overflow() {
    let findings = broken(|t| {
        t.profile = Profile::Lync2010;
        t.timers.heartbeat_interval = Duration::MAX;
        t.timers.failure_detection_interval = Duration::MAX;
        t.timers.failback_interval = Duration::MAX;
    });
    assert_eq!(findings.iter().filter(|(_, rule, _)| *rule == Rule::TooLong).count(), 3, "{findings:?}");
}

#[test]
fn a_trunk_has_a_number_and_gateways_in_known_sites() {
    let trunk = |pattern: &str, gateways| Trunk { name: "pstn".into(), pattern: pattern.into(), gateways };
    let gateway = |host: &str, port, site: &str| Gateway { host: host.into(), port, site: site.into() };
    let good = || gateway("127.1.0.9", 5060, SITE1);
    assert_eq!(broken(|t| t.trunks.push(trunk("+", vec![good()]))), []);
    assert_finds(|t| t.trunks.push(trunk("+", vec![])), Error, Rule::EmptyTrunk, "trunk[0].gateway");
    assert_finds(|t| t.trunks.push(trunk("089", vec![good()])), Error, Rule::EmptyTrunk, "trunk[0].pattern");
    let with = |gateway| move |t: &mut Topology| t.trunks.push(trunk("+49", vec![gateway]));
    assert_finds(
        with(gateway("gw1.example.test", 0, SITE1)),
        Error,
        Rule::PortZero,
        "trunk[0].gateway[0].port",
    );
    assert_finds(
        with(gateway("gw1.example.test", 1, "x")),
        Error,
        Rule::UnknownSite,
        "trunk[0].gateway[0].site",
    );
    assert_finds(with(gateway("g w", 1, SITE1)), Error, Rule::BadName, "trunk[0].gateway[0].host");
    assert_finds(
        |t| t.trunks.extend([trunk("+", vec![good()]), trunk("+1", vec![good()])]),
        Error,
        Rule::DuplicateName,
        "trunk[1].name",
    );
}

#[test]
fn many_mistakes_are_all_found_in_the_order_of_the_document() {
    let places: Vec<_> = broken(|t| {
        t.version = 0;
        t.pools[1].backup = pool(FE2);
        t.timers.failback_pace = Some(0);
        t.pools[0].site = "atlantis".into();
        t.srv[0].port = 1;
    })
    .into_iter()
    .map(|(_, _, at)| at)
    .collect();
    assert_eq!(places, ["version", "timers.failback_pace", "pool[0].site", "pool[1].backup", "srv[0].port"]);
}

#[test]
fn distance_counts_letters() {
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("abc", "abc"), 0);
}

fn server(name: &str, last: u8) -> ServerEntry {
    ServerEntry::new(name, [127, 1, 0, last])
}
