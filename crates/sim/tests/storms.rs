//! A handful of storms, always the same ones. `STORM=48213` replays one alone and prints everything;
//! `STORMS=100` lets so many rage.

use std::time::Duration;

use resilience::profile::{Profile, Timers};
use resilience::topology::examples;
use sim::storm::{Aftermath, storm};
use sim::story::{Setup, User};

fn deployments() -> Vec<(&'static str, Setup)> {
    let pair = |profile: Profile, timers: Timers| {
        let mut setup = Setup::new(profile);
        setup.topology.timers = timers;
        let second = resilience::SrvRecord::new(examples::SERVICE, "example.test", 10, 5061, examples::FE2);
        setup.topology.srv.push(second);
        for number in 0..8 {
            setup.users.push(User::new(&format!("user{number}"), [examples::FE1, examples::FE2][number % 2]));
        }
        setup
    };
    let mut threes = Setup::new(Profile::Rehome);
    let timers = threes.topology.timers.clone();
    threes.topology = examples::two_sites_of_three();
    (threes.topology.profile, threes.topology.timers) = (Profile::Rehome, timers);
    for number in 0..8 {
        threes.users.push(User::new(
            &format!("user{number}"),
            ["pool1.example.test", "pool2.example.test"][number % 2],
        ));
    }
    vec![
        ("the article's pair, lync2010", pair(Profile::Lync2010, Timers::of(Profile::Lync2010))),
        ("the article's pair, rehome", pair(Profile::Rehome, Timers::of(Profile::Lync2010))),
        ("a pair with default intervals", pair(Profile::Rehome, Timers::of(Profile::Rehome))),
        ("two pools of three", threes),
    ]
}

#[test]
fn after_every_storm_everybody_is_home_and_no_promise_was_broken() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let only = number("STORM");
    let seeds: Vec<u64> =
        only.map_or_else(|| (1..=number("STORMS").unwrap_or(3)).collect(), |seed| vec![seed]);
    let mut complaints = Vec::new();
    for (name, setup) in deployments() {
        for &seed in &seeds {
            let Aftermath { world, commands, violations } = storm(&setup, seed, Duration::from_secs(3600))
                .unwrap_or_else(|why| panic!("{name}, seed {seed}: {why}"));
            if only.is_some() {
                let mut lines: Vec<&String> = world.trace().iter().chain(&commands).collect();
                // Both begin with the time, in one format: as text they sort by time.
                lines.sort();
                println!("==== {name}");
                for line in lines {
                    println!("{line}");
                }
            }
            complaints.extend(violations.iter().map(|violation| format!("{name}, seed {seed}: {violation}")));
        }
    }
    assert!(
        complaints.is_empty(),
        "{} complaints (STORM=seed replays one):\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}
