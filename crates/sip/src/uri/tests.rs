//! The examples of RFC 3261 §19.1.3 and §19.1.4, and what real URIs add to them.

use super::*;

fn uri(text: &str) -> Uri<'_> {
    Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_rfc_examples_are_read() {
    // RFC 3261 §19.1.3.
    let carol = uri("sip:alice:secretword@atlanta.com;transport=tcp");
    assert_eq!((carol.user(), carol.password()), (Some("alice"), Some("secretword")));
    assert_eq!((carol.host(), carol.transport()), ("atlanta.com", Some(Transport::Tcp)));

    let alice = uri("sips:alice@atlanta.com?subject=project%20x&priority=urgent");
    assert!(alice.is_secure());
    let headers: Vec<_> = alice.headers().collect();
    assert_eq!(headers, [("subject", "project%20x"), ("priority", "urgent")]);

    let phone = uri("sip:+1-212-555-1212:1234@gateway.com;user=phone");
    assert_eq!((phone.user(), phone.password()), (Some("+1-212-555-1212"), Some("1234")));
    assert_eq!(phone.param("USER"), Some("phone"));

    let nobody = uri("sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com");
    assert_eq!((nobody.user(), nobody.param("method")), (None, Some("REGISTER")));

    let semicolon = uri("sip:alice;day=tuesday@atlanta.com");
    assert_eq!((semicolon.user(), semicolon.param("day")), (Some("alice;day=tuesday"), None));

    let address = uri("sip:alice@192.0.2.4");
    assert_eq!(address.ip(), Some(Ipv4Addr::new(192, 0, 2, 4).into()));
}

#[test]
fn equal_uris_are_equal_both_ways() {
    // RFC 3261 §19.1.4, "the URIs within each of the following sets are equivalent".
    for (one, other) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("SIP:bob@biloxi.com", "sip:bob@biloxi.com"),
        ("sip:bob@[2001:db8::1]", "sip:bob@[2001:0DB8:0::1]"),
        ("sip:bob@biloxi.com;l%72", "sip:bob@biloxi.com;lr"),
        ("sip:bob@biloxi.com;a=1;a=2", "sip:bob@biloxi.com;a=2;a=1"),
        ("isbn:2983792873", "ISBN:2983792873"),
        ("tel:+15551234", "TEL:+15551234"),
    ] {
        assert!(uri(one) == uri(other), "{one} = {other}");
        assert!(uri(other) == uri(one), "{other} = {one}");
    }
}

#[test]
fn different_uris_are_different_both_ways() {
    for (one, other, why) in [
        // RFC 3261 §19.1.4, "the URIs within each of the following sets are not equivalent".
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", "different usernames"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", "can resolve to different ports"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", "can resolve to different transports"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", "port and transport"),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
            "different header component",
        ),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", "a name is never an address"),
        // The rules behind them.
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
            "a shared parameter differs",
        ),
        ("sip:bob@biloxi.com", "sips:bob@biloxi.com", "scheme"),
        ("sip:biloxi.com", "sip:bob@biloxi.com", "a user on one side"),
        ("sip:bob:pw@biloxi.com", "sip:bob@biloxi.com", "a password on one side"),
        ("sip:bob:pw@biloxi.com", "sip:bob:PW@biloxi.com", "a password has case"),
        ("sip:bob@biloxi.com;user=ip", "sip:bob@biloxi.com", "user is never ignored"),
        ("sip:bob@biloxi.com;ttl=1", "sip:bob@biloxi.com", "ttl is never ignored"),
        ("sip:bob@biloxi.com;method=INVITE", "sip:bob@biloxi.com", "method is never ignored"),
        ("sip:bob@biloxi.com;maddr=192.0.2.1", "sip:bob@biloxi.com", "maddr is never ignored"),
        ("sip:a%3Bb@biloxi.com", "sip:a;b@biloxi.com", "a reserved character is not its escape"),
        ("sip:b@x.com?a=1&a=1", "sip:b@x.com?a=1", "a header stands twice"),
        ("sip:b@x.com;lr", "sip:b@x.com;lr=on", "a value on one side"),
        ("tel:+15551234", "sip:+15551234@x.com", "scheme"),
    ] {
        assert!(uri(one) != uri(other), "{one} ≠ {other}: {why}");
        assert!(uri(other) != uri(one), "{other} ≠ {one}: {why}");
    }
}

#[test]
fn what_is_no_uri_is_refused_where_it_goes_wrong() {
    for (text, at) in [
        ("", 0),
        ("alice", 0),
        ("1sip:alice@example.test", 0),
        ("<sip:alice@example.test>", 0),
        ("sip:", 4),
        ("sip:@example.test", 4),
        ("sip:al ice@example.test", 6),
        ("sip:al%4@example.test", 6),
        ("sip:alice@", 10),
        ("sip:alice@.", 10),
        ("sip:alice@example..test", 10),
        ("sip:alice@example.test..", 10),
        ("sip:alice@example.test:", 23),
        ("sip:alice@example.test:65536", 23),
        ("sip:alice@example.test:99999999999999999999", 23),
        ("sip:alice@example.test; lr", 23),
        ("sip:alice@example.test;", 23),
        ("sip:alice@example.test;;lr", 23),
        ("sip:alice@example.test;x=", 25),
        ("sip:alice@example.test?x", 24),
        ("sip:alice@example.test/x", 22),
        ("sip:alice@[2001:db8::1", 10),
        ("sip:alice@[::g]", 10),
        ("sip:alice@bob@example.test", 13),
        ("isbn:", 5),
        ("http://example.test/a b", 21),
        ("sip:alice@example.test\r\nVia: x", 22),
        ("sip:ülî@example.test", 4),
    ] {
        let error = Uri::parse(text).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
    }
}

#[test]
fn an_unknown_scheme_is_kept_whole() {
    let other = uri("soap.beep://192.0.2.103:3002");
    assert_eq!(other.scheme(), Scheme::Other("soap.beep"));
    assert_eq!((other.opaque(), other.host(), other.user()), (Some("//192.0.2.103:3002"), "", None));
    assert!(AddressOfRecord::from_uri(&other).is_none());
}

#[test]
fn an_address_of_record_has_one_form() {
    for text in [
        "sip:alice@example.test",
        "sip:alice@EXAMPLE.test.",
        "sips:alice@example.test:5061;transport=tls?subject=x",
        "sip:%61lice:secret@example.test;user=phone",
        "alice@example.test",
    ] {
        let aor: AddressOfRecord = text.parse().unwrap();
        assert_eq!(aor.to_string(), "sip:alice@example.test", "{text}");
        assert_eq!((aor.user(), aor.domain()), ("alice", "example.test"));
    }
}

#[test]
fn an_address_of_record_keeps_what_tells_users_apart() {
    let aor = |text: &str| text.parse::<AddressOfRecord>().unwrap();
    assert_ne!(aor("Alice@example.test"), aor("alice@example.test"));
    assert_ne!(aor("sip:null-%00-null@example.test"), aor("sip:null-@example.test"));
    // RFC 3261 §10.3 undoes every escape, the reserved ones too; the @ cannot stand for itself.
    assert_eq!(aor("sip:a%3bb@example.test"), aor("sip:a;b@example.test"));
    let odd = aor("sip:sips%3auser%40example.com@example.net");
    assert_eq!((odd.user(), odd.domain()), ("sips%3Auser%40example.com", "example.net"));
    assert_eq!(odd.user_unescaped(), "sips:user@example.com");
    assert!("example.test".parse::<AddressOfRecord>().is_err());
}

#[test]
fn the_hash_is_the_same_for_ever() {
    let aor: AddressOfRecord = "alice@example.test".parse().unwrap();
    assert_eq!(AddressOfRecord::hash64_of(&uri("sips:%61lice@Example.Test:5061")), Some(aor.hash64()));
    // A changed number here would send users to other servers during an upgrade.
    assert_eq!(aor.hash64(), HASH_OF_ALICE);
    let other: AddressOfRecord = "bob@example.test".parse().unwrap();
    assert_ne!(other.hash64(), aor.hash64());
}

/// Computed once, by this code, and never to change.
const HASH_OF_ALICE: u64 = 8_047_307_606_029_666_938;

#[test]
fn escaping_and_unescaping_are_each_others_inverse() {
    let odd = "a b@c:d\"\u{e9}%";
    let escaped = escape_user(odd);
    assert_eq!(escaped, "a%20b%40c%3Ad%22%C3%A9%25");
    assert_eq!(unescape(&escaped), odd);
    assert!(Uri::parse(&format!("sip:{escaped}@example.test")).is_ok());
}

#[test]
fn a_uri_that_could_not_be_compared_in_time_is_refused() {
    let with = |count: usize, mark: &str, more: &str, pair: &str| {
        let pairs: Vec<_> = (0..count).map(|i| format!("{i:x}{pair}")).collect();
        format!("sip:a@example.test{mark}{}", pairs.join(more))
    };
    for (mark, more, pair) in [(";", ";", ""), ("?", "&", "=")] {
        assert!(Uri::parse(&with(64, mark, more, pair)).is_ok());
        let long = with(65, mark, more, pair);
        let error = Uri::parse(&long).unwrap_err();
        assert_eq!(error.expected, "no more than 64 URI parameters or headers");
        assert_eq!(&long[error.at..], format!("40{pair}"));
    }
}
