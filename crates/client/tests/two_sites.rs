//! The library against two real servers that back each other up: TLS with a laboratory's own authority, a
//! cable pulled and put back. What the front page promises, as a stranger would use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{Builder, Client, Request, Service, SignInError, Timers};
use net::certificates::Authority;
use net::dns_server::DnsServer;
use net::drive_server::{Options, ServerHost};
use net::nic::Nic;
use net::zone::Zone;
use resilience::profile::Profile;
use resilience::topology::{Pool, ServerEntry, Site, SrvRecord, Topology};
use server::{Directory, User};
use sip::digest::{Algorithm, Ha1, NonceKey};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

const DOMAIN: &str = "example.test";
const FE1: &str = "fe1.example.test";
const FE2: &str = "fe2.example.test";

/// No step of these tests takes as long.
const BOUND: Duration = Duration::from_secs(20);

/// Two sites and what strangers need to reach them.
struct Lab {
    north: ServerHost,
    south: ServerHost,
    names: DnsServer,
    timers: Timers,
    place: TempDir,
}

impl Lab {
    /// Two pools that back each other up, with intervals of parts of a second; each test has a third byte of
    /// its own for its addresses.
    async fn start(third: u8) -> Lab {
        let place = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("lab").expect("an authority");
        std::fs::write(place.path().join("authority.pem"), authority.pem()).expect("written");
        let topology = two_sites(third);
        let start = async |server: &str| {
            let (users, key) = (Arc::new(directory()), NonceKey::new([7; 32]));
            let data = place.path().join(server);
            let mut options = Options::new(Arc::new(topology.clone()), users, server.into(), data, key);
            options.certificates = Some(authority.material(&[server, DOMAIN]).expect("a certificate"));
            options.name_servers = vec![([127, 1, third, 250], 9).into()];
            ServerHost::start(options).await.expect("a server")
        };
        let (north, south) = (start(FE1).await, start(FE2).await);
        let address = format!("127.1.{third}.2:0").parse().expect("an address");
        let zone = Zone::from_topology(&topology);
        let names = DnsServer::start(&Nic::new(), address, zone).expect("a name server");
        Lab { north, south, names, timers: topology.timers, place }
    }

    fn client(&self, user: &str, password: &str) -> Builder {
        Client::builder(format!("{user}@{DOMAIN}"), password)
            .name_servers([self.names.local()])
            .authorities(self.path("authority.pem"))
            .timers(self.timers.clone())
            .connect_timeout(Duration::from_millis(500))
    }

    fn path(&self, name: &str) -> impl AsRef<Path> + Into<std::path::PathBuf> + use<> {
        self.place.path().join(name)
    }
}

fn two_sites(third: u8) -> Topology {
    let entry = |name: &str, ip: String| {
        // A port that was free a moment ago: two servers must know each other's before they start.
        let free = std::net::TcpListener::bind((ip.as_str(), 0)).expect("a port");
        let tls = Some(free.local_addr().expect("its address").port());
        let address = ip.parse().expect("an address");
        ServerEntry { name: name.into(), address, udp: None, tcp: None, tls }
    };
    let (one, two) = (entry(FE1, format!("127.1.{third}.1")), entry(FE2, format!("127.2.{third}.1")));
    let srv = |priority, server: &ServerEntry| {
        let port = server.tls.expect("a port");
        SrvRecord::new("_sipinternaltls._tcp", DOMAIN, priority, port, &server.name)
    };
    Topology {
        version: 1,
        profile: Profile::Rehome,
        domains: vec![DOMAIN.into()],
        sites: vec![Site { name: "site1".into() }, Site { name: "site2".into() }],
        srv: vec![srv(0, &one), srv(10, &two)],
        pools: vec![
            Pool::registrar(FE1, "site1").with(one).backed_up_by(FE2),
            Pool::registrar(FE2, "site2").with(two).backed_up_by(FE1),
        ],
        timers: Timers {
            heartbeat_interval: Duration::from_millis(100),
            failure_detection_interval: Duration::from_millis(800),
            failback_interval: Duration::from_millis(800),
            peer_dead_after: Duration::from_millis(500),
            keepalive_idle: Duration::from_millis(300),
            keepalive_doubt: Duration::from_millis(100),
            ..Timers::of(Profile::Rehome)
        },
        ..Topology::default()
    }
}

/// alice and bob, both at home on fe1, each with the name for a password.
fn directory() -> Directory {
    let mut users = BTreeMap::new();
    for name in ["alice", "bob"] {
        let hash = |algorithm| Ha1::of(algorithm, name, DOMAIN, name);
        let (ha1_md5, ha1_sha256) = (hash(Algorithm::Md5), hash(Algorithm::Sha256));
        let aor = format!("sip:{name}@{DOMAIN}").parse().expect("an address-of-record");
        users.insert(aor, User { home: FE1.into(), enabled: true, number: None, ha1_md5, ha1_sha256 });
    }
    Directory { version: 1, users: users.into_iter().collect() }
}

async fn signed_in(builder: Builder) -> Client {
    timeout(BOUND, builder.sign_in()).await.expect("in time").expect("signed in")
}

async fn becomes(service: &mut watch::Receiver<Service>, wanted: Service) {
    let seen = timeout(BOUND, service.wait_for(|service| *service == wanted)).await;
    seen.unwrap_or_else(|_| panic!("waited {BOUND:?} for service {wanted}")).expect("the client lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_carried_to_the_backup_and_home_and_can_talk_in_both_places() {
    let lab = Lab::start(21).await;
    let alice = signed_in(lab.client("alice", "alice").cache_file(lab.path("alice.json"))).await;
    let bob = signed_in(lab.client("bob", "bob")).await;
    assert_eq!(alice.status().to_string(), FE1);
    let (mut at_alice, mut at_bob) = (alice.service(), bob.service());
    assert_eq!(*at_alice.borrow(), Service::Full);

    // Each change is waited for, so none can be skipped: Full, None, Limited, None or straight to Full.
    let mut story = alice.service();
    let story = tokio::spawn(async move {
        let mut seen = vec![*story.borrow_and_update()];
        while seen.len() < 2 || seen.last() != Some(&Service::Full) {
            story.changed().await.expect("the client lives");
            seen.push(*story.borrow_and_update());
        }
        seen
    });

    lab.north.nic().cut();
    becomes(&mut at_alice, Service::Limited).await;
    becomes(&mut at_bob, Service::Limited).await;
    assert_eq!(alice.status().to_string(), format!("{FE2} (limited functionality)"));
    says(&bob, ("alice", &alice), "are you there too?").await;

    lab.north.nic().restore();
    becomes(&mut at_alice, Service::Full).await;
    becomes(&mut at_bob, Service::Full).await;
    assert_eq!(alice.status().to_string(), FE1);
    says(&alice, ("bob", &bob), "home again").await;

    let story = timeout(BOUND, story).await.expect("in time").expect("told");
    assert!(story.starts_with(&[Service::Full, Service::None, Service::Limited]), "{story:?}");

    assert!(timeout(BOUND, alice.sign_out()).await.expect("in time"), "confirmed");
    let kept = std::fs::read_to_string(lab.path("alice.json")).expect("a cache");
    assert!(kept.contains(FE1) && kept.contains(FE2), "both are remembered: {kept}");
}

/// One user's message reaches another.
async fn says(from: &Client, (name, to): (&str, &Client), text: &str) {
    let mut incoming = to.incoming();
    let answer = timeout(BOUND, from.request(Request::message(name, text))).await.expect("in time");
    let answer = answer.expect("an answer");
    assert!(answer.is_yes(), "{} {}", answer.status, answer.reason);
    let message = timeout(BOUND, incoming.next()).await.expect("in time").expect("a message");
    assert_eq!(message.text(), text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_an_unknown_authority_is_not_spoken_to() {
    let lab = Lab::start(22).await;
    let failed = timeout(BOUND, lab.client("alice", "guess").sign_in()).await.expect("in time");
    assert!(matches!(failed.err(), Some(SignInError::Rejected { .. })));

    let other = Authority::new("another lab").expect("an authority");
    std::fs::write(lab.path("other.pem"), other.pem()).expect("written");
    let distrustful = lab.client("alice", "alice").authorities(lab.path("other.pem"));
    let waited = timeout(Duration::from_secs(2), distrustful.sign_in()).await;
    assert!(waited.is_err(), "it goes on trying, for outages are no errors");
    let views = lab.south.views().await.into_iter().chain(lab.north.views().await);
    assert_eq!(views.map(|view| view.bindings).sum::<usize>(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_is_confirmed_each_time_and_leaves_no_binding() {
    let lab = Lab::start(23).await;
    for _ in 0..10 {
        let alice = signed_in(lab.client("alice", "alice")).await;
        assert!(timeout(BOUND, alice.sign_out()).await.expect("in time"), "confirmed");
        let bindings: usize = lab.north.views().await.iter().map(|view| view.bindings).sum();
        assert_eq!(bindings, 0);
    }
}
