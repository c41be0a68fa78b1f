//! Any order of events: the endpoint neither panics nor spins, and comes home once it can.

use proptest::prelude::*;
use resilience::homing::State;
use resilience::profile::Profile;
use sip::method::Method;

use super::scripted::{Does, FE1, FE2, Scripted, backup, home, plain_home};
use crate::Command;

/// Something that may happen.
#[derive(Clone, Debug)]
enum Blow {
    Server { is_fe1: bool, does: Does },
    Reset { is_fe1: bool },
    Notify { is_fe1: bool, body: &'static str, preferred: &'static str },
    Dns { dead: bool },
    Elapse(u64),
    Out,
    In,
    Message,
}

fn does() -> impl Strategy<Value = Does> {
    let retry = |after| Does::Say(503, "Service Unavailable", vec![("Retry-After", after)]);
    prop_oneof![
        Just(home()),
        Just(backup()),
        Just(plain_home()),
        Just(Does::Redirect(vec![("fe1", "0.7"), ("fe2", "0.3")])),
        Just(Does::Redirect(vec![("fe2", "0.7"), ("fe1", "0.3")])),
        Just(Does::Redirect(vec![("elsewhere.invalid", "0.7")])),
        Just(Does::Redirect(Vec::new())),
        Just(retry("3")),
        Just(retry("90")),
        Just(retry("soon")),
        Just(Does::Say(423, "Interval Too Brief", vec![("Min-Expires", "900")])),
        Just(Does::Say(500, "Server Internal Error", Vec::new())),
        Just(Does::Say(200, "OK", vec![("Expires", "0")])),
        Just(Does::Mute),
        Just(Does::Dead),
        Just(Does::Refuse),
    ]
}

fn blow() -> impl Strategy<Value = Blow> {
    let bodies = prop::sample::select(vec![
        "deregistered;event=preferred-registrar-change",
        "deregistered;event=deactivated",
        "registered;event=userservices-unavailable",
        "nonsense",
        "",
    ]);
    let preferred = prop::sample::select(vec![
        "sip:fe1.example.test:5061;transport=tls",
        "sip:fe2.example.test:5061;transport=tls",
        "sip:elsewhere.invalid",
        "<<<",
    ]);
    prop_oneof![
        4 => (any::<bool>(), does()).prop_map(|(is_fe1, does)| Blow::Server { is_fe1, does }),
        2 => any::<bool>().prop_map(|is_fe1| Blow::Reset { is_fe1 }),
        2 => (any::<bool>(), bodies, preferred)
            .prop_map(|(is_fe1, body, preferred)| Blow::Notify { is_fe1, body, preferred }),
        1 => any::<bool>().prop_map(|dead| Blow::Dns { dead }),
        4 => (0_u64..90).prop_map(Blow::Elapse),
        1 => Just(Blow::Out),
        1 => Just(Blow::In),
        1 => Just(Blow::Message),
    ]
}

fn address(is_fe1: bool) -> &'static str {
    if is_fe1 { FE1 } else { FE2 }
}

fn strike(world: &mut Scripted, blow: Blow) {
    match blow {
        Blow::Server { is_fe1, does } => world.server(address(is_fe1), does),
        Blow::Reset { is_fe1 } => world.reset(address(is_fe1)),
        Blow::Notify { is_fe1, body, preferred } => {
            if world.has_flow(address(is_fe1)) {
                let lines = [("P-Preferred-Registrar", preferred)];
                world.notify(address(is_fe1), &lines, body);
            }
        }
        Blow::Dns { dead } => world.dns_dead = dead,
        Blow::Elapse(seconds) => world.elapse(seconds),
        Blow::Out => world.tell(Command::SignOut),
        Blow::In => world.tell(Command::SignIn),
        Blow::Message => world.tell(Command::Request {
            id: 1,
            method: Method::Message,
            to: "bob".to_owned(),
            headers: Vec::new(),
            content_type: "text/plain".to_owned(),
            body: bytes::Bytes::from_static(b"hello"),
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_user_is_home_soon_after_the_weather_clears(
        blows in prop::collection::vec(blow(), 1..30),
        is_rehome in any::<bool>(),
    ) {
        let profile = if is_rehome { Profile::Rehome } else { Profile::Lync2010 };
        let mut world = Scripted::new(profile);
        world.tell(Command::SignIn);
        for blow in blows {
            strike(&mut world, blow);
        }
        world.dns_dead = false;
        world.server(FE1, home());
        world.server(FE2, Does::Redirect(vec![("fe1", "0.7"), ("fe2", "0.3")]));
        world.reset(FE1);
        world.reset(FE2);
        world.tell(Command::SignIn);
        world.story();
        // The longest time a registrar asked for, the longest back-off, and a sweep past two dead servers.
        world.elapse(90 + 30 + 30);
        prop_assert_eq!(world.endpoint.homing().state(), State::AtPrimary, "{}", world.story());
        prop_assert_eq!(world.where_is(), "fe1.example.test");
    }
}
