//! No order of events leaves anything behind: whatever happens, every key ends once and every clock stops.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Something the core, the network or the clock may do.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Send { method: usize, branch: u8, streamed: bool },
    Hear { method: usize, branch: u8, streamed: bool },
    HearResponse { method: usize, branch: u8, status: u16 },
    Respond { nth: usize, status: u16 },
    Cancel { nth: usize },
    Abandon { nth: usize },
    FlowLost { streamed: bool },
    Elapse { ms: u64 },
}

const METHODS: [&str; 5] = ["INVITE", "MESSAGE", "ACK", "CANCEL", "REGISTER"];

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let (method, branch, streamed) = (0..METHODS.len(), 0_u8..4, any::<bool>());
    let status = prop_oneof![Just(100_u16), Just(183), Just(200), Just(302), Just(401), Just(408), Just(486)];
    let which = (method, branch, streamed).boxed();
    prop_oneof![
        which.clone().prop_map(|(method, branch, streamed)| Send { method, branch, streamed }),
        which.clone().prop_map(|(method, branch, streamed)| Hear { method, branch, streamed }),
        (which, status.clone()).prop_map(|((method, branch, _), status)| HearResponse {
            method,
            branch,
            status
        }),
        (0_usize..8, status).prop_map(|(nth, status)| Respond { nth, status }),
        (0_usize..8).prop_map(|nth| Cancel { nth }),
        (0_usize..8).prop_map(|nth| Abandon { nth }),
        any::<bool>().prop_map(|streamed| FlowLost { streamed }),
        (0_u64..40_000).prop_map(|ms| Elapse { ms }),
    ]
}

fn bytes(method: usize, branch: u8) -> Bytes {
    request(METHODS[method], &format!("z9hG4bK{branch}"))
}

fn by(streamed: bool) -> Flow {
    flow(if streamed { TCP } else { UDP })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_transaction_ends_once_and_leaves_no_clock_running(
        happenings in proptest::collection::vec(happening(), 0..60),
    ) {
        let (mut now, mut ours) = (epoch(), transactions());
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        let mut ended: BTreeMap<String, u32> = BTreeMap::new();
        for happening in happenings {
            match happening {
                Happening::Send { method, branch, streamed } => {
                    clients.push(ours.send(bytes(method, branch), by(streamed), now));
                }
                Happening::Hear { method, branch, streamed } => {
                    match ours.hear(&parse(&bytes(method, branch)), by(streamed), now) {
                        Heard::Request(key) | Heard::Cancel { cancel: key, .. } => {
                            servers.push((key, bytes(method, branch)));
                        }
                        Heard::Ack | Heard::Absorbed => {}
                        other => prop_assert!(false, "{other:?} to a request"),
                    }
                }
                Happening::HearResponse { method, branch, status } => {
                    let heard = ours.hear(&parse(&response(&bytes(method, branch), status)), flow(UDP), now);
                    prop_assert!(matches!(heard, Heard::Response(_) | Heard::Absorbed | Heard::Stray));
                }
                Happening::Respond { nth, status } => {
                    if let Some((key, request)) = servers.get(nth) {
                        ours.respond(key, response(request, status), now);
                    }
                }
                Happening::Cancel { nth } => {
                    if let Some(key) = clients.get(nth) {
                        ours.cancel(key, now);
                    }
                }
                Happening::Abandon { nth } => {
                    if let Some(key) = clients.get(nth) {
                        ours.abandon(key);
                    }
                }
                Happening::FlowLost { streamed } => ours.handle_flow_lost(by(streamed), now),
                Happening::Elapse { ms } => {
                    now += Duration::from_millis(ms);
                    ours.handle_timeout(now);
                    prop_assert!(ours.poll_timeout().is_none_or(|at| at > now), "nothing overdue is left");
                }
            }
            while ours.poll_transmit().is_some() {}
        }
        // Two minutes of silence, then both flows go: only ringing INVITEs can be left for that.
        for _ in 0..4 {
            now += MINUTE / 2;
            ours.handle_timeout(now);
        }
        for flow in [flow(UDP), flow(TCP)] {
            ours.handle_flow_lost(flow, now);
        }
        for event in events(&mut ours) {
            if matches!(event, TransactionEvent::Ended(_) | TransactionEvent::ServerEnded(_)) {
                *ended.entry(format!("{event:?}")).or_default() += 1;
            }
        }
        prop_assert!(ours.is_empty(), "{ours:?}");
        prop_assert!(ours.deadlines.is_empty() && ours.by_connection.is_empty());
        prop_assert!(ours.clients_by_name.is_empty() && ours.servers_by_name.is_empty());
        prop_assert_eq!(ended.len(), clients.len() + servers.len());
        prop_assert!(ended.values().all(|times| *times == 1), "{:?}", ended);
    }
}
