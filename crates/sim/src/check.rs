//! The promises, judged over everything a world has seen.
//!
//! | promise | broken when |
//! | --- | --- |
//! | no early failover | a pool speaks for its partner's users before it has itself missed the partner for `failure_detection_interval`; or a server grants a registration to a foreign user without having failed over |
//! | redirects stay inside | a 301 names a pool that is not one of the user's, or a chain of them is longer than two |
//! | no flapping | one server fails over for the same pool twice within `failure_detection_interval` |
//! | no silence | a REGISTER has no answer and its client says nothing about it within Timer F |
//! | one home | after the sites have heard each other for `failback_interval`, a user is bound at two pools, or away from home |
//!
//! All but the last can be asked at any time of any history. [`one_home`] needs a world that has been
//! left in peace for long enough.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::history::{History, Place, What};
use crate::story::{Setup, World};
use crate::world::Simulated;

/// How long a client waits for the answer to a REGISTER: 64 × T1 (RFC 3261 §17.1.2.2, Timer F).
const TIMER_F: Duration = Duration::from_secs(32);

/// How a client's log says that it has left a chain of redirects.
const BREAKS: [&str; 3] = ["waiting", "connect", "discover"];

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which.
    pub promise: &'static str,
    /// When, in story time.
    pub at: Duration,
    /// By whom and how.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s {}: {}", self.at.as_secs_f64(), self.promise, self.what)
    }
}

/// Every breach of the promises that hold at any time.
pub fn promises(history: &History, setup: &Setup) -> Vec<Violation> {
    let mut found = early_failovers(history, setup);
    found.extend(redirects(history, setup));
    found.extend(flapping(history, setup));
    found.extend(silences(history));
    found.sort_by_key(|violation| violation.at);
    found
}

/// Users who are not bound at their home pool and nowhere else; for a world that has been whole for
/// longer than `failback_interval`. Users whose clients are signed out do not count.
pub fn one_home(world: &Simulated) -> Vec<Violation> {
    let at = world.now();
    let mut found = Vec::new();
    for user in &world.setup().users {
        let standing = world.history().standing(&user.name);
        let Some(place) = &standing.place else { continue };
        let bound: Vec<String> = world.homes_of(&user.name).iter().map(|place| place.pool.clone()).collect();
        if place.pool != *user.home || bound.iter().any(|pool| *pool != *user.home) {
            let what = format!(
                "{} (home {}) stands at {place} and is bound at {}",
                user.name,
                user.home,
                bound.join(", ")
            );
            found.push(Violation { promise: "one home", at, what });
        }
    }
    found
}

/// How often a user was moved from one pool to another.
pub fn moves(history: &History, user: &str) -> usize {
    let mut pools = history.all().iter().filter_map(|seen| match &seen.what {
        What::Standing { user: who, place: Some(place), .. } if who == user => Some(place.pool.as_str()),
        _ => None,
    });
    let mut at = pools.next();
    pools.filter(|pool| at.replace(pool) != Some(*pool)).count()
}

fn early_failovers(history: &History, setup: &Setup) -> Vec<Violation> {
    let promise = "no early failover";
    let patience = setup.topology.timers.failure_detection_interval;
    let mut states: BTreeMap<(&Place, &str), &str> = BTreeMap::new();
    let mut found = Vec::new();
    for seen in history.all() {
        match &seen.what {
            What::Partner { server, pool, state, silent } => {
                states.insert((server, pool), state);
                if state == "FailedOver"
                    && let Some(silent) = silent
                    && *silent < patience
                {
                    let what =
                        format!("{server} gave {pool} up after {:.3} s of silence", silent.as_secs_f64());
                    found.push(Violation { promise, at: seen.at, what });
                }
            }
            What::Answered { user, place, status: 200, .. } => {
                let Some(home) = setup.user_of(user).map(|user| user.home.as_str()) else { continue };
                let state = states.get(&(place, home)).copied().unwrap_or("Up");
                if place.pool != home && !matches!(state, "FailedOver" | "FailingBack") {
                    let what = format!("{place} accepts {user} while {home} is {state}");
                    found.push(Violation { promise, at: seen.at, what });
                }
            }
            _ => {}
        }
    }
    found
}

fn redirects(history: &History, setup: &Setup) -> Vec<Violation> {
    let promise = "redirects stay inside";
    let mut chains: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for seen in history.all() {
        match &seen.what {
            What::Answered { user, place, status: 300..=399, contacts, .. } => {
                let Some(home) = setup.user_of(user).map(|user| user.home.as_str()) else { continue };
                let own = |name: &String| {
                    setup.topology.registrars(home).any(|pool| {
                        *pool.name == **name || pool.servers.iter().any(|server| *server.name == **name)
                    })
                };
                if let Some(stranger) = contacts.iter().find(|name| !own(name)) {
                    let what = format!("{place} sends {user} to {stranger}");
                    found.push(Violation { promise, at: seen.at, what });
                }
                let chain = chains.entry(user).or_default();
                *chain += 1;
                if *chain > 2 {
                    let what = format!("{user} was redirected {chain} times in a row, last by {place}");
                    found.push(Violation { promise, at: seen.at, what });
                }
            }
            // Any other final answer but a challenge ends the chain; so does giving up and beginning again.
            What::Answered { user, status, .. } if *status != 401 && *status != 407 => {
                chains.remove(user.as_str());
            }
            What::Standing { user, .. } => {
                chains.remove(user.as_str());
            }
            // A target that cannot be reached, or not even found, ends the chain, too: the client goes back to
            // where it had a choice.
            What::Said { who, text } if BREAKS.iter().any(|start| text.starts_with(start)) => {
                chains.remove(who.as_str());
            }
            _ => {}
        }
    }
    found
}

fn flapping(history: &History, setup: &Setup) -> Vec<Violation> {
    let patience = setup.topology.timers.failure_detection_interval;
    let mut last: BTreeMap<(&Place, &str), Duration> = BTreeMap::new();
    let mut found = Vec::new();
    for seen in history.all() {
        if let What::Partner { server, pool, state, .. } = &seen.what
            && state == "FailedOver"
            && let Some(before) = last.insert((server, pool), seen.at)
            && seen.at - before < patience
        {
            let what =
                format!("{server} failed over for {pool} twice in {:.3} s", (seen.at - before).as_secs_f64());
            found.push(Violation { promise: "no flapping", at: seen.at, what });
        }
    }
    found
}

fn silences(history: &History) -> Vec<Violation> {
    // The open REGISTER of each client; anything the client gets or says about itself closes it.
    let mut open: BTreeMap<&str, (Duration, &Place)> = BTreeMap::new();
    let mut found = Vec::new();
    let mut overdue = |since: Duration, until: Duration, user: &str, place: &Place| {
        // A second of grace for what the last retransmission needs to be noticed.
        if until.saturating_sub(since) > TIMER_F + Duration::from_secs(1) {
            let what = format!("{user} heard nothing of its REGISTER at {place} and said nothing");
            found.push(Violation { promise: "no silence", at: since, what });
        }
    };
    for seen in history.all() {
        match &seen.what {
            What::Sent { user, place, .. } => {
                open.entry(user).or_insert((seen.at, place));
            }
            What::Answered { user, .. } | What::Said { who: user, .. } => {
                if let Some((since, place)) = open.remove(user.as_str()) {
                    overdue(since, seen.at, user, place);
                }
            }
            _ => {}
        }
    }
    let end = history.all().last().map_or(Duration::ZERO, |seen| seen.at);
    for (user, (since, place)) in open {
        overdue(since, end, user, place);
    }
    found
}

#[cfg(test)]
mod tests {
    use resilience::profile::Profile;

    use super::*;
    use crate::history::Service;
    use crate::story::User;

    fn place(name: &str) -> Place {
        Place { server: name.to_owned(), pool: name.to_owned() }
    }

    fn setup() -> Setup {
        let mut setup = Setup::new(Profile::Rehome);
        setup.users.push(User::new("clientuser2", "fe2.example.test"));
        setup
    }

    fn judge(entries: Vec<(u64, What)>) -> Vec<&'static str> {
        let mut history = History::new();
        for (at, what) in entries {
            history.add(Duration::from_secs(at), what);
        }
        promises(&history, &setup()).into_iter().map(|violation| violation.promise).collect()
    }

    fn answered(status: u16, from: &str, contacts: &[&str]) -> What {
        What::Answered {
            user: "clientuser2".to_owned(),
            place: place(from),
            status,
            contacts: contacts.iter().map(|name| (*name).to_owned()).collect(),
            text: String::new(),
            key: String::new(),
        }
    }

    fn partner(state: &str, silent: u64) -> What {
        What::Partner {
            server: place("fe1.example.test"),
            pool: "fe2.example.test".to_owned(),
            state: state.to_owned(),
            silent: Some(Duration::from_secs(silent)),
        }
    }

    #[test]
    fn a_failover_needs_its_silence() {
        assert_eq!(judge(vec![(20, partner("FailedOver", 20))]), ["no early failover"]);
        assert!(judge(vec![(30, partner("FailedOver", 30))]).is_empty());
        assert_eq!(judge(vec![(5, answered(200, "fe1.example.test", &[]))]), ["no early failover"]);
        assert!(
            judge(vec![(30, partner("FailedOver", 30)), (31, answered(200, "fe1.example.test", &[]))])
                .is_empty()
        );
    }

    #[test]
    fn a_redirect_to_a_stranger_and_a_third_in_a_row_are_noticed() {
        let home = || answered(301, "fe1.example.test", &["fe2.example.test", "fe1.example.test"]);
        assert!(judge(vec![(1, home()), (1, home())]).is_empty());
        assert_eq!(judge(vec![(1, home()), (1, home()), (1, home())]), ["redirects stay inside"]);
        assert_eq!(
            judge(vec![(1, answered(301, "fe1.example.test", &["evil.test"]))]),
            ["redirects stay inside"]
        );
    }

    #[test]
    fn a_register_that_nobody_speaks_of_again_is_noticed() {
        let sent = What::Sent {
            user: "clientuser2".to_owned(),
            place: place("fe2.example.test"),
            key: "a 1".to_owned(),
        };
        let later = What::Said { who: "fe1.example.test".to_owned(), text: "something".to_owned() };
        assert_eq!(judge(vec![(0, sent.clone()), (40, later.clone())]), ["no silence"]);
        let excuse = What::Said { who: "clientuser2".to_owned(), text: "no answer in 32 s".to_owned() };
        assert!(judge(vec![(0, sent), (32, excuse), (40, later)]).is_empty());
    }

    #[test]
    fn failing_over_twice_in_a_hurry_is_flapping() {
        let twice = vec![
            (30, partner("FailedOver", 30)),
            (31, partner("FailingBack", 0)),
            (45, partner("FailedOver", 30)),
        ];
        assert_eq!(judge(twice), ["no flapping"]);
    }

    #[test]
    fn moves_are_counted_between_pools_and_not_in_and_out_of_one() {
        let mut history = History::new();
        for at in [Some("fe2"), None, Some("fe2"), Some("fe1"), None, Some("fe2")] {
            let service = if at.is_some() { Service::Full } else { Service::None };
            history
                .add(Duration::ZERO, What::Standing { user: "u".to_owned(), service, place: at.map(place) });
        }
        assert_eq!(moves(&history, "u"), 2);
    }
}
