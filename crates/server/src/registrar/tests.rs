//! The steps of RFC 3261 §10.3 as a table, and the promise that a refused REGISTER changes nothing.

use proptest::prelude::*;
use resilience::profile::Expiry;
use sip::transport::Transport;

use super::*;
use crate::location::Location;
use crate::testing::{aor, epoch};

const LIMITS: Limits = Limits {
    expiry: Expiry {
        min: Duration::from_secs(300),
        default: Duration::from_secs(600),
        max: Duration::from_secs(900),
    },
    raise_brief: false,
    max_contacts: 2,
};

fn contact(uri: &str, expires: Option<u32>) -> Asked {
    Asked { uri: uri.into(), expires, q: 1000, instance: None, reg_id: None }
}

fn request(call_id: &str, cseq: u32, wish: Wish, expires: Option<u32>) -> Request {
    let address = ([127, 0, 0, 1], 5060).into();
    Request {
        wish,
        expires,
        call_id: call_id.into(),
        cseq,
        path: Box::new([]),
        user_agent: None,
        dialect: Dialect::default(),
        flow: Flow { transport: Transport::Udp, local: address, remote: address, serial: 0 },
        from: "<sip:alice@example.test>;tag=1".into(),
        to_tag: "2".into(),
    }
}

/// Carries a plan out, as the server does.
fn carry_out(location: &mut Location, request: &Request, plan: Plan, now: Instant) {
    let (alice, remember) = (aor("alice"), now + Duration::from_secs(3600));
    for key in plan.removals.iter().chain(&plan.evictions) {
        location.remove(&alice, key, Some((&request.call_id, request.cseq)), remember);
    }
    for key in plan.removed_again {
        location.depart(&alice, key, &request.call_id, request.cseq, remember);
    }
    for binding in plan.puts {
        location.put(&alice, binding, remember);
    }
}

fn said(location: &Location, now: Instant) -> String {
    let left = |binding: &Binding| binding.expires_at.saturating_duration_since(now).as_secs();
    let shown = location.bindings(&aor("alice")).iter().map(|b| format!("{} {}", b.contact, left(b)));
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn one_history_step_by_step() {
    let now = epoch();
    let mut location = Location::default();
    let list = |contacts: &[(&str, Option<u32>)]| {
        Wish::Contacts(contacts.iter().map(|(uri, expires)| contact(uri, *expires)).collect())
    };
    let (a, b, c) = ("sip:alice@a.test", "sip:alice@b.test", "sip:alice@c.test");
    for (what, request, expected) in [
        ("default", request("x", 1, list(&[(a, None)]), None), "200 sip:alice@a.test 600"),
        (
            "its own wish before the header",
            request("x", 2, list(&[(a, Some(700))]), Some(400)),
            "200 sip:alice@a.test 700",
        ),
        ("cut to the maximum", request("x", 3, list(&[(a, None)]), Some(7200)), "200 sip:alice@a.test 900"),
        ("below the minimum", request("x", 4, list(&[(a, None)]), Some(299)), "423 sip:alice@a.test 900"),
        ("out of order", request("x", 2, list(&[(a, None)]), None), "500 sip:alice@a.test 900"),
        ("again the same", request("x", 3, list(&[(a, None)]), Some(7200)), "200 sip:alice@a.test 900"),
        (
            "an equal URI",
            request("x", 5, list(&[("sip:alice@A.TEST", None)]), None),
            "200 sip:alice@A.TEST 600",
        ),
        (
            "all or nothing",
            request("x", 6, list(&[(b, None), (c, Some(1))]), None),
            "423 sip:alice@A.TEST 600",
        ),
        (
            "several",
            request("x", 7, list(&[(a, Some(0)), (b, None), (c, None)]), None),
            "200 sip:alice@b.test 600, sip:alice@c.test 600",
        ),
        (
            "one too many",
            request("y", 1, list(&[(a, None)]), None),
            "403 sip:alice@b.test 600, sip:alice@c.test 600",
        ),
        (
            "not a SIP URI",
            request("y", 2, list(&[("mailto:a@b.test", None)]), None),
            "400 sip:alice@b.test 600, sip:alice@c.test 600",
        ),
        (
            "a question",
            request("y", 3, Wish::Nothing, None),
            "200 sip:alice@b.test 600, sip:alice@c.test 600",
        ),
        (
            "star without zero",
            request("y", 4, Wish::RemoveAll, None),
            "400 sip:alice@b.test 600, sip:alice@c.test 600",
        ),
        (
            "star out of order",
            request("x", 7, Wish::RemoveAll, Some(0)),
            "500 sip:alice@b.test 600, sip:alice@c.test 600",
        ),
        ("star", request("x", 8, Wish::RemoveAll, Some(0)), "200 "),
        ("star again", request("x", 8, Wish::RemoveAll, Some(0)), "200 "),
        ("a late one", request("x", 7, list(&[(b, None)]), None), "500 "),
        ("a newer one", request("x", 9, list(&[(b, None)]), None), "200 sip:alice@b.test 600"),
    ] {
        let set = location.set(&aor("alice")).cloned().unwrap_or_default();
        let status = match register(&request, &set, &LIMITS, now) {
            Ok(plan) => {
                carry_out(&mut location, &request, plan, now);
                200
            }
            Err(why) => why.status(),
        };
        assert_eq!(format!("{status} {}", said(&location, now)), expected, "{what}");
    }
}

#[test]
fn an_instance_with_reg_id_is_the_same_device_at_another_contact() {
    let now = epoch();
    let mut location = Location::default();
    let outbound = |uri: &str, reg_id| Asked {
        instance: Some("urn:uuid:1".into()),
        reg_id: Some(reg_id),
        ..contact(uri, None)
    };
    for (cseq, asked, expected) in [
        (1, outbound("sip:alice@a.test", 1), "sip:alice@a.test 600"),
        (2, outbound("sip:alice@b.test", 1), "sip:alice@b.test 600"),
        (3, outbound("sip:alice@c.test", 2), "sip:alice@b.test 600, sip:alice@c.test 600"),
    ] {
        let request = request("x", cseq, Wish::Contacts(vec![asked]), None);
        let set = location.set(&aor("alice")).cloned().unwrap_or_default();
        let plan = register(&request, &set, &LIMITS, now).unwrap();
        carry_out(&mut location, &request, plan, now);
        assert_eq!(said(&location, now), expected);
    }
}

#[test]
fn the_dead_make_room_for_the_living() {
    let now = epoch();
    let mut location = Location::default();
    for (cseq, uri) in [(1, "sip:alice@a.test"), (2, "sip:alice@b.test")] {
        let mut request = request("x", cseq, Wish::Contacts(vec![contact(uri, None)]), None);
        request.flow.transport = Transport::Tls;
        request.flow.serial = u64::from(cseq);
        let set = location.set(&aor("alice")).cloned().unwrap_or_default();
        let plan = register(&request, &set, &LIMITS, now).unwrap();
        let flow = request.flow;
        carry_out(&mut location, &request, plan, now);
        if cseq == 1 {
            location.lose_flow(&flow);
        }
    }
    let request = request("x", 3, Wish::Contacts(vec![contact("sip:alice@c.test", None)]), None);
    let plan = register(&request, location.set(&aor("alice")).unwrap(), &LIMITS, now).unwrap();
    assert_eq!(plan.evictions, [Key::Contact("sip:alice@a.test".into())]);
}

proptest! {
    /// Whatever order REGISTERs of one Call-ID arrive in, the newest that was granted is what holds, and what was
    /// removed by a newer one is never brought back by an older one.
    #[test]
    fn an_older_register_never_wins(order in proptest::collection::vec((1u32..20, any::<bool>()), 1..40)) {
        let now = epoch();
        let mut location = Location::default();
        let mut newest: Option<(u32, bool)> = None;
        for (cseq, stays) in order {
            let wish = Wish::Contacts(vec![contact("sip:alice@a.test", Some(if stays { 600 } else { 0 }))]);
            let request = request("x", cseq, wish, None);
            let set = location.set(&aor("alice")).cloned().unwrap_or_default();
            let result = register(&request, &set, &LIMITS, now);
            let newer = newest.is_none_or(|(seen, _)| cseq > seen);
            if newer {
                let plan = result.expect("newer than all before");
                carry_out(&mut location, &request, plan, now);
                newest = Some((cseq, stays));
            } else if let Ok(plan) = result {
                let changes = (plan.puts.len(), plan.removals.len(), plan.evictions.len());
                prop_assert_eq!(changes, (0, 0, 0), "{} is not newer than {:?}", cseq, newest);
            }
            let bound = !location.bindings(&aor("alice")).is_empty();
            prop_assert_eq!(bound, newest.is_some_and(|(_, stays)| stays));
        }
    }

    /// The indices of the table agree with the table, whatever is done to it.
    #[test]
    fn the_table_and_its_indices_agree(steps in proptest::collection::vec((0u8..3, 0u8..4, 1u64..4), 1..60)) {
        let now = epoch();
        let mut location = Location::default();
        let alice = aor("alice");
        for (cseq, (step, name, serial)) in (1..).zip(steps) {
            let uri = format!("sip:alice@{name}.test");
            let key = Key::Contact(uri.as_str().into());
            let mut request = request("x", cseq, Wish::Contacts(vec![contact(&uri, None)]), None);
            request.flow.serial = serial;
            match step {
                0 => {
                    let Wish::Contacts(asked) = &request.wish else { unreachable!() };
                    let binding = bind(&request, &asked[0], Duration::from_secs(600), None, key, now);
                    location.put(&alice, binding, now + Duration::from_secs(9));
                }
                1 => drop(location.remove(&alice, &key, None, now + Duration::from_secs(9))),
                _ => drop(location.lose_flow(&request.flow)),
            }
            let bindings = location.bindings(&alice).to_vec();
            prop_assert_eq!(bindings.len(), location.len());
            for binding in &bindings {
                prop_assert!(location.by_contact(&binding.contact).is_some());
                prop_assert!(!binding.alive || !location.on_flow(&binding.flow).is_empty());
            }
        }
        let far = now + Duration::from_secs(601);
        while let Some((aor, key)) = location.ended(far) {
            location.remove(&aor, &key, None, far);
        }
        prop_assert!(location.is_empty());
    }
}
