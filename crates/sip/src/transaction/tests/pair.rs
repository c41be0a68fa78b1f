//! Two collections, one asking and one answering, over a link that loses, delays, doubles and reorders.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::*;

/// A link in virtual time. Messages are delivered in the order of their arrival times.
struct Link {
    rng: ChaCha12Rng,
    /// Of a hundred messages, so many are lost, and as many come twice.
    loss: u32,
    under_way: BTreeMap<(Instant, u64), (Side, Bytes)>,
    count: u64,
}

/// Whose message is meant for whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Asking,
    Answering,
}

impl Link {
    fn carry(&mut self, to: Side, bytes: &Bytes, now: Instant) {
        let copies = match self.rng.next_u32() % 100 {
            draw if draw < self.loss => 0,
            draw if draw < 2 * self.loss => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = Duration::from_millis(u64::from(self.rng.next_u32() % 700));
            self.count += 1;
            self.under_way.insert((now + delay, self.count), (to, bytes.clone()));
        }
    }
}

/// What both cores saw.
#[derive(Debug, Default)]
struct Seen {
    requests: u32,
    finals: Vec<u16>,
    timeouts: u32,
    acks: u32,
    cancelled: bool,
}

/// One request with one answer after 100 ms; INVITEs that ring are cancelled after 2 s if `cancel`.
fn tell(method: &str, status: u16, loss: u32, seed: u64, cancel: bool) -> (Seen, Transactions, Transactions) {
    let start = epoch();
    let (mut asking, mut answering) = (transactions(), transactions());
    let rng = ChaCha12Rng::seed_from_u64(seed);
    let mut link = Link { rng, loss, under_way: BTreeMap::new(), count: 0 };
    let mut seen = Seen::default();
    let bytes = request(method, "z9hG4bKpair");
    let key = asking.send(bytes.clone(), flow(UDP), start);
    let mut cancel_at = cancel.then_some(start + Duration::from_secs(2));
    let mut answer_at: Option<(Instant, ServerKey)> = None;
    let mut now = start;
    loop {
        while let Some(transmit) = asking.poll_transmit() {
            link.carry(Side::Answering, &transmit.bytes, now);
        }
        while let Some(transmit) = answering.poll_transmit() {
            link.carry(Side::Asking, &transmit.bytes, now);
        }
        while let Some(event) = asking.poll_event() {
            seen.timeouts += u32::from(event == TransactionEvent::TimedOut(key));
        }
        while answering.poll_event().is_some() {}

        let arrival = link.under_way.keys().next().map(|(at, _)| *at);
        let answer = answer_at.map(|(at, _)| at);
        let next = [asking.poll_timeout(), answering.poll_timeout(), arrival, answer, cancel_at];
        let Some(at) = next.into_iter().flatten().min() else { break };
        assert!(at >= now, "time runs forwards");
        now = at;
        asking.handle_timeout(now);
        answering.handle_timeout(now);
        if cancel_at.is_some_and(|at| at <= now) {
            cancel_at = None;
            asking.cancel(&key, now);
        }
        if let Some((_, key)) = answer_at.filter(|(at, _)| *at <= now) {
            answering.respond(&key, response(&bytes, status), now);
            // A core repeats its 2xx to an INVITE until the ACK is there (RFC 3261 §13.3.1.4).
            let again = method == "INVITE" && status == 200 && seen.acks == 0 && now < start + MINUTE / 2;
            answer_at = again.then_some((now + Duration::from_millis(500), key));
        }
        while let Some(entry) = link.under_way.first_entry().filter(|entry| entry.key().0 <= now) {
            let (to, arrived) = entry.remove();
            let message = parse(&arrived);
            if to == Side::Asking {
                if asking.hear(&message, flow(UDP), now) == Heard::Response(key) {
                    let status = message.status().unwrap();
                    seen.finals.extend((status >= 200).then_some(status));
                    if (200..300).contains(&status) && method == "INVITE" {
                        link.carry(Side::Answering, &request("ACK", "z9hG4bKack"), now);
                    }
                }
                continue;
            }
            match answering.hear(&message, flow(UDP), now) {
                Heard::Request(key) => {
                    seen.requests += 1;
                    let ringing = if cancel { 180 } else { 100 };
                    answering.respond(&key, response(&bytes, ringing), now);
                    answer_at = (!cancel).then_some((now + Duration::from_millis(100), key));
                }
                Heard::Cancel { cancel, invite } => {
                    answering.respond(&cancel, response(&arrived, 200), now);
                    if let Some(invite) = invite {
                        seen.cancelled |= answering.respond(&invite, response(&bytes, 487), now);
                    }
                }
                Heard::Ack => seen.acks += 1,
                Heard::Absorbed | Heard::Response(_) | Heard::Stray | Heard::Full => {}
            }
        }
    }
    (seen, asking, answering)
}

#[test]
fn over_a_perfect_link_each_side_hears_each_thing_once() {
    for (method, status) in [("REGISTER", 200), ("INVITE", 200), ("INVITE", 486), ("MESSAGE", 404)] {
        let (mut seen, ..) = tell(method, status, 0, 1, false);
        if (method, status) == ("INVITE", 200) {
            // Repeats of it crossed the ACK, which took longer than T1; all were passed up.
            seen.finals.dedup();
        }
        assert_eq!((seen.requests, seen.finals, seen.timeouts), (1, vec![status], 0), "{method} {status}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn over_a_bad_link_every_request_ends_exactly_one_way(
        seed: u64, loss in 0_u32..40,
        (method, status) in prop_oneof![
            Just(("REGISTER", 200_u16)), Just(("MESSAGE", 503)), Just(("INVITE", 200)), Just(("INVITE", 486)),
        ],
    ) {
        let (seen, asking, answering) = tell(method, status, loss, seed, false);
        // A datagram that comes after everything was forgotten may look like a new request once more.
        prop_assert!(seen.requests <= 1, "{seen:?}");
        prop_assert!(seen.finals.iter().all(|heard| *heard == status), "{:?}", seen);
        // A 2xx may come any number of times; nothing else may, and never both an answer and a timeout.
        let most = if (method, status) == ("INVITE", 200) { u32::MAX } else { 1 };
        prop_assert!((seen.finals.len() as u32).saturating_add(seen.timeouts) <= most, "{:?}", seen);
        prop_assert!(seen.finals.is_empty() || seen.timeouts == 0, "{:?}", seen);
        // Only an INVITE that was heard to be worked on and whose answers were all lost is left to Timer C.
        let is_left = method == "INVITE" && seen.finals.is_empty() && seen.timeouts == 0;
        prop_assert_eq!(asking.is_empty(), !is_left, "{:?}", seen);
        prop_assert!(asking.poll_timeout().is_none());
        prop_assert!(answering.is_empty() && answering.poll_timeout().is_none(), "{:?}", answering);
    }

    #[test]
    fn over_a_bad_link_a_cancelled_invite_ends(seed: u64, loss in 0_u32..30) {
        let (seen, asking, _) = tell("INVITE", 200, loss, seed, true);
        prop_assert!(asking.is_empty() && asking.poll_timeout().is_none());
        prop_assert_eq!(seen.finals.len() as u32 + seen.timeouts, 1, "{:?}", seen);
        prop_assert!(seen.finals.iter().all(|status| *status == 487));
        prop_assert!(seen.cancelled || seen.timeouts == 1, "{:?}", seen);
    }
}
