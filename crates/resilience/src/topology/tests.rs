use super::examples::{DOMAIN, FE1, FE2, two_sites, two_sites_of_three};
use super::*;
use proptest::prelude::*;

#[test]
fn pools_and_servers_are_found_by_name_however_it_is_written() {
    let topology = two_sites_of_three();
    assert_eq!(topology.pool("POOL1.example.test.").unwrap().name, "pool1.example.test");
    let (pool, server) = topology.server("B2.example.test").unwrap();
    assert_eq!((pool.name.as_str(), server.name.as_str()), ("pool2.example.test", "b2.example.test"));
    assert!(topology.pool("pool3.example.test").is_none());
    assert!(topology.serves("Example.Test") && !topology.serves("example.org"));
    assert_eq!(topology.domains, [DOMAIN]);
}

#[test]
fn partners_are_those_we_back_up_and_the_one_that_backs_us_up_each_once() {
    let mut topology = two_sites();
    topology.pools.push(Pool::registrar("fe3.example.test", "site1").backed_up_by(FE2));
    let partners = |pool| topology.partners(pool).map(|pool| pool.name.to_string()).collect::<Vec<_>>();
    assert_eq!(partners(FE1), [FE2]);
    assert_eq!(partners(FE2), [FE1, "fe3.example.test"]);
    assert_eq!(partners("fe3.example.test"), [FE2]);
    let backed_up: Vec<_> = topology.backed_up_by(FE2).map(|pool| pool.name.as_str()).collect();
    assert_eq!(backed_up, [FE1, "fe3.example.test"]);
    assert_eq!(topology.backed_up_by("fe3.example.test").count(), 0);
}

#[test]
fn registrars_are_primary_then_backup() {
    let mut topology = two_sites();
    let order =
        |topology: &Topology| topology.registrars(FE2).map(|pool| pool.name.to_string()).collect::<Vec<_>>();
    assert_eq!(order(&topology), [FE2, FE1]);
    topology.pools[1].backup = None;
    assert_eq!(order(&topology), [FE2]);
    assert_eq!(topology.registrars("nobody.example.test").count(), 0);
}

#[test]
fn the_preferred_order_is_the_same_in_every_release() {
    // Servers of one deployment run different releases during an upgrade, and must agree.
    let topology = two_sites_of_three();
    let pool = topology.pool("pool1.example.test").unwrap();
    let orders: Vec<String> = [0, 1, 0x0123_4567_89ab_cdef, u64::MAX]
        .into_iter()
        .map(|aor| pool.preferred_order(aor).iter().map(|server| &server.name[..1]).collect())
        .collect();
    assert_eq!(orders, ["cba", "cba", "bca", "bac"]);
}

#[test]
fn users_spread_evenly_over_the_servers() {
    let topology = two_sites_of_three();
    let pool = topology.pool("pool1.example.test").unwrap();
    let mut users = [0; 3];
    for aor in 0..30_000u64 {
        let first = &pool.preferred_order(aor.wrapping_mul(0x9e37_79b9_7f4a_7c15))[0].name;
        users[pool.servers.iter().position(|server| server.name == *first).unwrap()] += 1;
    }
    assert!(users.iter().all(|n| (9_500..10_500).contains(n)), "{users:?}");
}

proptest! {
    #[test]
    fn removing_a_server_moves_only_its_users(aor: u64, servers in 1usize..9, gone in any::<prop::sample::Index>()) {
        let named = |n: usize| ServerEntry::new(&format!("s{n}.example.test"), [127, 0, 0, 1]);
        let pool = (0..servers).fold(Pool::registrar("p.example.test", "here"), |pool, n| pool.with(named(n)));
        let gone = pool.servers[gone.index(servers)].name.clone();
        let mut rest = pool.clone();
        rest.servers.retain(|server| server.name != gone);

        let before: Vec<_> = pool.preferred_order(aor).into_iter().filter(|server| server.name != gone).collect();
        prop_assert_eq!(before, rest.preferred_order(aor));
    }

    #[test]
    fn the_order_of_the_document_does_not_matter(aor: u64, rotated in 0usize..3) {
        let topology = two_sites_of_three();
        let pool = topology.pool("pool1.example.test").unwrap();
        let mut turned = pool.clone();
        turned.servers.rotate_left(rotated);
        prop_assert_eq!(pool.preferred_order(aor), turned.preferred_order(aor));
    }
}
