//! All 49 messages of RFC 4475, each with the verdict the RFC gives it.
//!
//! The bytes in `torture/` are the RFC's own test vectors. Each row names the message, the section of the
//! RFC, the verdict of [`Message::validate`], and what must be readable (or must not) besides. Where the RFC
//! leaves room ("an element could choose to be liberal"), the row says so and which side we took; where
//! the verdict belongs to a layer above (420, 415, 401, 483), the row shows that this layer hands up what
//! that one needs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use sip::header::{Contacts, HeaderName as H};
use sip::message::Message;
use sip::method::Method;
use sip::print::{Builder, Rewrite, reason_phrase};
use sip::transaction::{Heard, Timers, Transactions};
use sip::transport::{Flow, Transport};
use sip::uri::{AddressOfRecord, Scheme, unescape};

/// Some moment; only differences matter.
#[expect(clippy::disallowed_methods, reason = "an epoch for virtual time; nothing depends on its value")]
fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}

fn here() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 5060))
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Well-formed; whoever it is for may act on it.
    Fine,
    /// A request answered with this status, because this was expected and not found.
    Refused(u16, &'static str),
    /// A response that is dropped, because this was expected and not found.
    Dropped(&'static str),
}

use Verdict::{Dropped, Fine, Refused};

/// One row: file, section of RFC 4475, verdict, and what else must hold.
type Row = (&'static str, &'static str, Verdict, fn(&Message));

const ROWS: &[Row] = &[
    //------------ 3.1.1 Valid messages ------------------------------------
    ("wsinv", "3.1.1.1", Fine, |m| {
        assert_eq!(m.method(), Method::Invite);
        assert!(m.uri().unwrap().param("unknownparam").is_some());
        assert_eq!(m.to_tag(), Some("1918181833n"));
        assert_eq!(m.from().unwrap().display_name().as_deref(), Some(r#"J Rosenberg \""#));
        assert_eq!(m.from_tag(), Some("98asjd8"));
        assert_eq!(m.max_forwards(), Some(Ok(68)));
        assert_eq!(m.cseq().unwrap().number, 9);
        assert_eq!(m.content_length(), Some(150));
        assert_eq!(m.body().len(), 150);
        assert_eq!(m.header(H::Subject), Some(""));
        let unfolded: Vec<_> = m.header_named("newfangledheader").unwrap().split_whitespace().collect();
        assert_eq!(unfolded, ["newfangled", "value", "continued", "newfangled", "value"]);
        assert_eq!(m.header_named("UnknownHeaderWithUnusualValue"), Some(";;,,;;,;"));
        let route = m.name_addrs(H::Route).next().unwrap().unwrap();
        assert_eq!((route.uri.param("lr"), route.uri.param("unknownwith")), (Some(""), Some("value")));
        let vias: Vec<_> = m.values(H::Via).map(|via| sip::header::Via::parse(via).unwrap()).collect();
        assert_eq!(vias.len(), 3);
        assert_eq!(
            (vias[0].host, vias[0].branch(), vias[0].magic_branch()),
            ("192.0.2.2", Some("390skdjuw"), None)
        );
        assert_eq!((vias[1].transport(), vias[1].host), (Some(Transport::Tcp), "spindle.example.com"));
        assert_eq!(vias[2].magic_branch(), Some("z9hG4bK30239"));
        let contacts = m.contacts().unwrap();
        let contact = &contacts.list()[0];
        assert_eq!(contact.display_name().as_deref(), Some(r#"Quoted string """#));
        assert_eq!((contact.q(), contact.params.get("newparam")), (330, Some("newvalue")));
    }),
    ("intmeth", "3.1.1.2", Fine, |m| {
        assert_eq!(m.method(), Method::Other("!interesting-Method0123456789_*+`.%indeed'~".into()));
        assert_eq!(m.cseq().unwrap().method, m.method());
        let uri = m.uri().unwrap();
        assert_eq!(uri.user(), Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
        assert_eq!(uri.password(), Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
        assert_eq!(m.to().unwrap().display_name().as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
        let from = m.from().unwrap();
        assert_eq!(from.display, Some("token1~` token2'+_ token3*%!.-"));
        assert_eq!(from.params.get("fromParam''~+*_!.-%"), Some("работающий"));
        assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
        assert_eq!(m.call_id(), Ok(r#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#));
        assert_eq!(m.header_named("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電"));
        assert_eq!(m.max_forwards(), Some(Ok(255)));
    }),
    ("esc01", "3.1.1.3", Fine, |m| {
        let uri = m.uri().unwrap();
        assert_eq!((uri.user(), uri.host()), (Some("sips%3Auser%40example.com"), "example.net"));
        assert_eq!(AddressOfRecord::from_uri(&uri).unwrap().user_unescaped(), "sips:user@example.com");
        assert_eq!(unescape(m.to().unwrap().uri.user().unwrap()), "user");
        assert!(m.to().unwrap().uri == sip::uri::Uri::parse("sip:user@example.com").unwrap());
        assert_eq!(unescape(m.from().unwrap().uri.user().unwrap()), "I have spaces");
        let contacts = m.contacts().unwrap();
        let contact = contacts.list()[0].uri;
        assert_eq!(
            (contact.param("lr"), contact.param("name").map(unescape)),
            (Some(""), Some("value%41".into()))
        );
    }),
    ("escnull", "3.1.1.4", Fine, |m| {
        assert_eq!(unescape(m.to().unwrap().uri.user().unwrap()), "null-\0-null");
        let contacts = m.contacts().unwrap();
        // The two contacts are different users; one that stops reading at NUL would merge them.
        assert!(contacts.list()[0].uri != contacts.list()[1].uri);
    }),
    ("esc02", "3.1.1.5", Fine, |m| {
        // Escapes mean nothing in methods, names and display names: this is no REGISTER.
        assert_eq!(m.method(), Method::Other("RE%47IST%45R".into()));
        assert_eq!(m.to().unwrap().display_name().as_deref(), Some("%Z%45"));
        assert_eq!(m.via().unwrap().branch(), Some("z9hG4bK209%fzsnel234"));
        assert_eq!(m.contacts().unwrap().list().len(), 2);
        assert_eq!(m.header_named("C%6Fntact"), Some("<sip:alias2@host2.example.com>"));
    }),
    ("lwsdisp", "3.1.1.6", Fine, |m| {
        assert_eq!(m.from().unwrap().display, Some("caller"));
        assert_eq!(m.from_tag(), Some("323"));
    }),
    ("longreq", "3.1.1.7", Fine, |m| {
        assert_eq!(m.to().unwrap().uri.port(), Some(6000));
        assert_eq!(m.from_tag(), Some(format!("12{}424", "982".repeat(50)).as_str()));
        assert!(m.call_id().unwrap().len() > 100);
        assert!(m.values(H::Via).count() > 20);
        assert_eq!(m.body().len(), 150);
    }),
    ("dblreq", "3.1.1.8", Fine, |m| {
        // What is behind the body of a datagram is not there at all.
        assert_eq!((m.method(), m.body()), (Method::Register, &b""[..]));
        assert!(m.bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
    }),
    ("semiuri", "3.1.1.9", Fine, |m| {
        let uri = m.uri().unwrap();
        assert_eq!(uri.user(), Some("user;par=u%40example.net"));
        assert_eq!((uri.host(), uri.params().count()), ("example.com", 0));
        assert_eq!(m.values(H::Accept).count(), 6);
    }),
    ("transports", "3.1.1.10", Fine, |m| {
        let vias: Vec<_> = m.values(H::Via).map(|via| sip::header::Via::parse(via).unwrap()).collect();
        let names: Vec<_> = vias.iter().map(|via| via.transport_name).collect();
        assert_eq!(names, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
        assert_eq!((vias[1].transport(), vias[2].transport()), (None, Some(Transport::Tls)));
    }),
    ("mpart01", "3.1.1.11", Fine, |m| {
        // The body is binary, NUL and all.
        assert_eq!((m.body().len(), m.content_length()), (553, Some(553)));
        assert!(m.body().ends_with(b"--7a9cbec02ceef655--\r\n"));
        assert!(std::str::from_utf8(m.body()).is_err());
    }),
    ("unreason", "3.1.1.12", Fine, |m| {
        assert_eq!(m.status(), Some(200));
        assert_eq!(m.reason(), Some("= 2**3 * 5**2 но сто девяносто девять - простое"));
    }),
    ("noreason", "3.1.1.13", Fine, |m| {
        assert_eq!((m.status(), m.reason()), (Some(100), Some("")));
    }),
    //------------ 3.1.2 Invalid messages ----------------------------------
    ("badinv01", "3.1.2.1", Refused(400, "a name of a parameter: a token"), |m| {
        assert!(m.via().is_err() && m.contacts().is_err());
    }),
    ("clerr", "3.1.2.2", Refused(400, "as many bytes of body as Content-Length says"), |m| {
        assert_eq!(m.content_length(), Some(9999));
    }),
    ("ncl", "3.1.2.3", Refused(400, "a length: digits, below 2^32"), |m| {
        assert_eq!(m.content_length(), None);
    }),
    ("scalar02", "3.1.2.4", Refused(400, "a number below 2^32"), |m| {
        assert!(m.max_forwards().unwrap().is_err());
        // The two expiry values alone would not be a reason to refuse.
        assert_eq!(m.expires(), Some(u32::MAX));
        assert_eq!(m.contacts().unwrap().list()[0].expires(), Some(u32::MAX));
    }),
    ("scalarlg", "3.1.2.5", Dropped("a number below 2^32"), |m| {
        assert_eq!(m.status(), Some(503));
    }),
    ("quotbal", "3.1.2.6", Refused(400, "a closing quote of the display name"), |m| {
        assert!(m.to().is_err() && m.from().is_ok());
    }),
    // Room: the brackets could be ignored. They would have to be taken off when forwarding.
    ("ltgtruri", "3.1.2.7", Refused(400, "a URI: scheme and colon"), |m| {
        assert_eq!(m.request_uri(), Some("<sip:user@example.com>"));
    }),
    ("lwsruri", "3.1.2.8", Refused(400, "one blank before and behind the Request-URI"), |m| {
        assert_eq!(m.request_uri(), Some("sip:user@example.com; lr"));
        assert!(m.uri().is_err());
    }),
    // Room: the extra blanks could be ignored, and not be passed on.
    ("lwsstart", "3.1.2.9", Refused(400, "one blank before and behind the Request-URI"), |m| {
        assert_eq!(m.method(), Method::Invite);
    }),
    // Room: the trailing blanks could be ignored.
    ("trws", "3.1.2.10", Refused(400, "nothing behind the version"), |m| {
        assert_eq!((m.method(), m.version()), (Method::Options, "SIP/2.0"));
    }),
    // Room: the headers in the Request-URI could be ignored.
    ("escruri", "3.1.2.11", Refused(400, "no headers in a Request-URI"), |m| {
        let uri = m.uri().unwrap();
        assert_eq!(uri.headers().collect::<Vec<_>>(), [("Route", "%3Csip:example.com%3E")]);
    }),
    // Room: 400 would do as well; but nobody needs it, and RFC 3261 §16.3 says what a proxy does with it.
    ("baddate", "3.1.2.12", Fine, |m| {
        assert_eq!(m.header(H::Date), Some("Fri, 01 Jan 2010 16:00:00 EST"));
    }),
    // Room: the brackets could be guessed here, which in general they cannot.
    ("regbadct", "3.1.2.13", Refused(400, "< > around a URI with , or ?"), |m| {
        assert!(m.contacts().is_err());
    }),
    // Room: the spaces could be ignored.
    ("badaspec", "3.1.2.14", Refused(400, "a URI: scheme and colon"), |m| {
        assert!(m.to().is_err() && m.from().is_ok());
    }),
    // The file also lacks its empty line, which is what we stumble over first.
    ("baddn", "3.1.2.15", Refused(400, "an empty line after the headers"), |m| {
        assert_eq!(m.from().unwrap_err().expected, "tokens as a display name, or quotes around it");
        let whole = Bytes::from([&m.bytes()[..], b"\r\n"].concat());
        let invalid = Message::parse(whole).unwrap().validate().unwrap_err();
        assert_eq!(invalid.why.expected, "tokens as a display name, or quotes around it");
    }),
    ("badvers", "3.1.2.16", Refused(505, "SIP/2.0"), |m| {
        assert_eq!(m.version(), "SIP/7.0");
    }),
    ("mismatch01", "3.1.2.17", Refused(400, "the method of the start line in CSeq"), |m| {
        assert_eq!((m.method(), m.cseq().unwrap().method), (Method::Options, Method::Invite));
    }),
    // Room: 400 would do as well; 501 tells more, as the method is unknown.
    ("mismatch02", "3.1.2.18", Refused(501, "the method of the start line in CSeq"), |m| {
        assert!(!m.method().is_known());
    }),
    ("bigcode", "3.1.2.19", Dropped("a status of three digits, 100 to 699"), |m| {
        // 4294967301 is 5 in 32 bits, and no status in any number.
        assert_eq!((m.is_request(), m.status()), (false, None));
    }),
    //------------ 3.2 Transaction layer semantics -------------------------
    // Room: RFC 2543's matching rules could be used instead.
    ("badbranch", "3.2.1", Refused(400, "an identifier behind z9hG4bK"), |m| {
        let via = m.via().unwrap();
        assert_eq!((via.branch(), via.magic_branch()), (Some("z9hG4bK"), None));
    }),
    //------------ 3.3 Application-layer semantics -------------------------
    ("insuf", "3.3.1", Refused(400, "a From header"), |m| {
        assert!(m.from().is_err() && m.to().is_err() && m.call_id().is_err());
        assert!(m.cseq().is_ok() && m.via().is_ok());
    }),
    ("unkscm", "3.3.2", Refused(416, "a sip:, sips: or tel: Request-URI"), |m| {
        let uri = m.uri().unwrap();
        assert_eq!(uri.scheme(), Scheme::Other("nobodyKnowsThisScheme"));
        assert_eq!(uri.opaque(), Some("totallyopaquecontent"));
    }),
    ("novelsc", "3.3.3", Refused(416, "a sip:, sips: or tel: Request-URI"), |m| {
        assert_eq!(m.uri().unwrap().scheme(), Scheme::Other("soap.beep"));
    }),
    // A proxy treats it as any request; a registrar answers 400, since the To names no address-of-record.
    ("unksm2", "3.3.4", Fine, |m| {
        assert_eq!(m.to().unwrap().uri.scheme(), Scheme::Other("isbn"));
        assert_eq!(m.from().unwrap().uri.scheme(), Scheme::Other("http"));
        assert_eq!(m.contacts().unwrap().list()[0].uri.scheme(), Scheme::Other("name"));
        assert_eq!(AddressOfRecord::from_uri(&m.to().unwrap().uri), None);
    }),
    // 420 with Unsupported, by whoever knows what is supported.
    ("bext01", "3.3.5", Fine, |m| {
        let required: Vec<_> = m.values(H::Require).collect();
        assert_eq!(required, ["nothingSupportsThis", "nothingSupportsThisEither"]);
        let proxies: Vec<_> = m.values(H::ProxyRequire).collect();
        assert_eq!(proxies, ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]);
    }),
    // 415 by an endpoint; a proxy passes it on.
    ("invut", "3.3.6", Fine, |m| {
        assert_eq!(m.header(H::ContentType), Some("application/unknownformat"));
        assert_eq!(m.body().len(), 40);
    }),
    // 401, as if there were no credentials at all.
    ("regaut01", "3.3.7", Fine, |m| {
        assert_eq!(m.header(H::Authorization), Some("NoOneKnowsThisScheme opaque-data=here"));
    }),
    ("multi01", "3.3.8", Refused(400, "a single-valued header once"), |m| {
        assert_eq!(m.repeated(), Some(H::CSeq));
        // Contact is a list and may well stand twice.
        assert_eq!(m.contacts().unwrap().list().len(), 2);
    }),
    ("mcl01", "3.3.9", Refused(400, "Content-Length once"), |m| {
        assert_eq!((m.repeated(), m.content_length()), (Some(H::ContentLength), None));
    }),
    // Well-formed; what must not happen is that a proxy forwards it to everybody.
    ("bcast", "3.3.10", Fine, |m| {
        let second = sip::header::Via::parse(m.values(H::Via).nth(1).unwrap()).unwrap();
        assert_eq!(second.host, "255.255.255.255");
        // No transaction of ours waits for it, and what nobody waits for goes nowhere.
        let flow = Flow { transport: Transport::Udp, local: here(), remote: here(), serial: 0 };
        assert_eq!(Transactions::new(Timers::default()).hear(m, flow, epoch()), Heard::Stray);
    }),
    // 483 by a proxy; whoever it is for may answer it (RFC 3261 §16.3).
    ("zeromf", "3.3.11", Fine, |m| assert_eq!(m.max_forwards(), Some(Ok(0)))),
    // Without brackets the parameter is the header's…
    ("cparam01", "3.3.12", Fine, |m| {
        let contacts = m.contacts().unwrap();
        let contact = &contacts.list()[0];
        assert!(contact.params.has("unknownparam") && contact.uri.param("unknownparam").is_none());
    }),
    // …and within them the URI's.
    ("cparam02", "3.3.13", Fine, |m| {
        let contacts = m.contacts().unwrap();
        let contact = &contacts.list()[0];
        assert!(!contact.params.has("unknownparam") && contact.uri.param("unknownparam").is_some());
    }),
    ("regescrt", "3.3.14", Fine, |m| {
        let Contacts::List(contacts) = m.contacts().unwrap() else { panic!("a contact") };
        assert_eq!(contacts[0].uri.headers().collect::<Vec<_>>(), [("Route", "%3Csip:sip.example.com%3E")]);
    }),
    // 406 by an endpoint.
    ("sdp01", "3.3.15", Fine, |m| assert_eq!(m.header(H::Accept), Some("text/nobodyKnowsThis"))),
    //------------ 3.4 Backward compatibility ------------------------------
    // RFC 2543: no branch, no tag, no Max-Forwards, no Content-Length. Accepted.
    ("inv2543", "3.4.1", Fine, |m| {
        assert_eq!((m.via().unwrap().branch(), m.from_tag(), m.max_forwards()), (None, None, None));
        assert_eq!(m.body().len(), 105);
        let route = m.name_addrs(H::RecordRoute).next().unwrap().unwrap();
        assert_eq!(route.uri.param("maddr"), Some("ss1.example.com"));
    }),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}

fn read(name: &str) -> Message {
    let path = folder().join(format!("{name}.dat"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Message::parse(Bytes::from(bytes)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn each_message_gets_the_verdict_of_the_rfc() {
    let mut wrong = Vec::new();
    for (name, section, verdict, holds) in ROWS {
        let message = read(name);
        let seen = match message.validate() {
            Ok(()) => Fine,
            Err(invalid) if message.is_request() => Refused(invalid.status, invalid.why.expected),
            Err(invalid) => Dropped(invalid.why.expected),
        };
        if seen != *verdict {
            wrong.push(format!("{name} (RFC 4475 §{section}): {seen:?} instead of {verdict:?}"));
        }
        holds(&message);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_message_has_its_row() {
    let rows: BTreeSet<_> = ROWS.iter().map(|(name, ..)| format!("{name}.dat")).collect();
    let files: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".dat"))
        .collect();
    assert_eq!(rows, files);
    assert_eq!((ROWS.len(), rows.len()), (49, 49));
}

#[test]
fn each_refused_request_can_be_answered() {
    for (name, _, verdict, _) in ROWS {
        let Refused(status, _) = *verdict else { continue };
        let request = read(name);
        let answer = Builder::response(&request, status, reason_phrase(status)).to_tag("x").finish();
        let answer = Message::parse(answer).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.status(), Some(status), "{name}");
        for copied in [H::Via, H::From, H::CallId, H::CSeq] {
            assert!(answer.headers(copied).eq(request.headers(copied)), "{name}: {copied}");
        }
    }
}

#[test]
fn each_message_passes_through_a_proxy_unharmed() {
    for (name, _, verdict, holds) in ROWS {
        // What is refused is not forwarded.
        if *verdict != Fine {
            continue;
        }
        let came = read(name);
        let gone = Message::parse(Rewrite::of(&came).finish()).unwrap();
        let added = usize::from(came.content_length().is_none());
        let spelt = |message: &Message| -> Vec<(String, String)> {
            message.all_headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        assert_eq!(spelt(&gone)[..spelt(&gone).len() - added], spelt(&came)[..], "{name}");
        assert_eq!(gone.body(), came.body(), "{name}");
        holds(&gone);
    }
}
