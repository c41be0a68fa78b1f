//! What is printed reads back; what is spliced keeps everything else; nothing smuggles in a line.

use super::*;
use crate::header::HeaderName as H;

fn message(text: &str) -> Message {
    Message::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap()
}

fn register() -> Message {
    message(
        "REGISTER sip:example.test SIP/2.0\n\
         v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1, SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK0\n\
         Max-Forwards: 70\n\
         From: <sip:alice@example.test>;tag=1\n\
         X-Odd:   kept, as it is  \n\
         To: <sip:alice@example.test>\n\
         Call-ID: 1@192.0.2.1\n\
         CSeq: 1 REGISTER\n\
         Timestamp: 54\n\
         Route: <sip:a.test;lr>, <sip:b.test;lr>\n\
         Route: <sip:c.test;lr>\n\
         \n\
         body",
    )
}

fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_response_carries_what_must_be_copied_and_a_tag() {
    let answer = Builder::response(&register(), 200, "OK")
        .to_tag("srv")
        .header(H::Contact, "<sip:alice@192.0.2.1>;expires=60")
        .finish();
    assert_eq!(
        text(answer).replace("\r\n", "\n"),
        "SIP/2.0 200 OK\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1, SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK0\n\
         From: <sip:alice@example.test>;tag=1\n\
         Call-ID: 1@192.0.2.1\n\
         CSeq: 1 REGISTER\n\
         To: <sip:alice@example.test>;tag=srv\n\
         Contact: <sip:alice@192.0.2.1>;expires=60\n\
         Content-Length: 0\n\n"
    );
}

#[test]
fn a_100_echoes_the_timestamp_and_others_do_not() {
    let header = |status| {
        let answer = Builder::response(&register(), status, "x").finish();
        Message::parse(answer).unwrap().header(H::Timestamp).map(str::to_owned)
    };
    assert_eq!(header(100), Some("54".to_owned()));
    assert_eq!(header(200), None);
}

#[test]
fn a_tag_that_is_there_stays() {
    let request = Rewrite::of(&register()).set(H::To, "<sip:alice@example.test>;tag=theirs").finish();
    let request = Message::parse(request).unwrap();
    let answer = Builder::response(&request, 200, "OK").to_tag("ours").header(H::Server, "x").finish();
    assert_eq!(Message::parse(answer).unwrap().to_tag(), Some("theirs"));
}

#[test]
fn a_request_reads_back_as_built() {
    let bytes = Builder::request(&Method::Message, "sip:bob@example.test")
        .header(H::Via, "SIP/2.0/TLS a.test;branch=z9hG4bKx")
        .header(H::From, "<sip:alice@example.test>;tag=1")
        .header(H::To, "<sip:bob@example.test>")
        .header(H::CallId, "c1")
        .header(H::CSeq, "1 MESSAGE")
        .header(H::MaxForwards, 70)
        .header_named("X-Mine", 1)
        .body("text/plain", "hello\r\n\r\nworld")
        .finish();
    let read = Message::parse(bytes.clone()).unwrap();
    assert_eq!(read.validate(), Ok(()));
    assert_eq!(read.bytes(), &bytes);
    assert_eq!(read.body(), b"hello\r\n\r\nworld");
    assert_eq!(read.header_named("x-mine"), Some("1"));
    assert_eq!(read.content_length(), Some(14));
}

#[test]
fn no_value_smuggles_in_a_line() {
    let evil = "x\r\nRoute: <sip:evil.test>\r\n\r\nbody\0";
    let uri = "sip:a@b SIP/2.0\r\nVia: evil";
    for bytes in [
        Builder::request(&Method::Other(evil.into()), uri)
            .header(H::Subject, evil)
            .header_named("X\r\nY", "never printed")
            .header_named(evil, "never printed")
            .body(evil, "")
            .finish(),
        Builder::response(&register(), 200, evil).to_tag(evil).header(H::Reason, evil).finish(),
        Rewrite::of(&register())
            .request_uri(uri)
            .remove_all(H::Route)
            .push_front(H::Path, evil)
            .push_back_named("X", evil)
            .set(H::CallId, evil)
            .finish(),
    ] {
        let read = text(bytes);
        let head = &read[..read.find("\r\n\r\n").unwrap()];
        assert!(!head.contains("\nRoute:") && !head.contains("\nVia: evil"), "{head}");
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{head}");
        assert_eq!(
            head.lines().next().unwrap().matches(" SIP/2.0").count() % 2,
            usize::from(!head.starts_with("SIP"))
        );
    }
}

#[test]
fn an_untouched_rewrite_changes_nothing_but_the_length() {
    let came = register();
    let gone = text(Rewrite::of(&came).finish());
    let expected = text(came.bytes().clone());
    // Blanks at a line's end are not part of the value.
    let expected =
        expected.replace("is  \r\n", "is\r\n").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(gone, expected);
}

#[test]
fn a_proxy_splices_what_it_must() {
    let came = register();
    let gone = Rewrite::of(&came)
        .request_uri("sip:alice@192.0.2.7")
        .push_front(H::Via, "SIP/2.0/UDP proxy.test;branch=z9hG4bK2")
        .set(H::MaxForwards, 69)
        .remove_first(H::Route)
        .push_front(H::RecordRoute, "<sip:proxy.test;lr>")
        .finish();
    let gone = Message::parse(gone).unwrap();
    assert_eq!(gone.request_uri(), Some("sip:alice@192.0.2.7"));
    let vias: Vec<_> = gone.values(H::Via).collect();
    assert_eq!(vias[0], "SIP/2.0/UDP proxy.test;branch=z9hG4bK2");
    assert_eq!(vias.len(), 3);
    assert_eq!(gone.header(H::MaxForwards), Some("69"));
    let routes: Vec<_> = gone.values(H::Route).collect();
    assert_eq!(routes, ["<sip:b.test;lr>", "<sip:c.test;lr>"]);
    assert_eq!(gone.header(H::RecordRoute), Some("<sip:proxy.test;lr>"));
    assert_eq!(gone.header_named("x-odd"), Some("kept, as it is"));
    assert_eq!(gone.body(), b"body");
}

#[test]
fn the_answer_goes_back_without_our_via() {
    let came = register();
    let answer = Message::parse(Builder::response(&came, 200, "OK").finish()).unwrap();
    let passed = Message::parse(Rewrite::of(&answer).remove_first(H::Via).finish()).unwrap();
    assert_eq!(passed.values(H::Via).collect::<Vec<_>>(), ["SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK0"]);
    let passed = Message::parse(Rewrite::of(&passed).remove_first(H::Via).finish()).unwrap();
    assert_eq!(passed.header(H::Via), None);
}

#[test]
fn later_changes_see_earlier_ones() {
    let came = register();
    let rewrite = Rewrite::of(&came).push_front(H::Route, "<sip:z.test;lr>").remove_first(H::Route);
    let gone =
        Message::parse(rewrite.push_back_named("X-New", "1").remove_all_named("x-new").finish()).unwrap();
    assert_eq!(gone.values(H::Route).count(), 3);
    assert_eq!(gone.header_named("X-New"), None);
    let gone = Message::parse(Rewrite::of(&came).remove_all_named("x-ODD").finish()).unwrap();
    assert_eq!(gone.header_named("X-Odd"), None);
}

#[test]
fn a_forwarded_version_is_in_upper_case() {
    for (came, gone) in [
        ("OPTIONS sip:a.test sip/2.0", "OPTIONS sip:a.test SIP/2.0"),
        ("Sip/2.0 200 All is well", "SIP/2.0 200 All is well"),
    ] {
        let came = Message::parse(Bytes::from(format!("{came}\r\n\r\n"))).unwrap();
        assert!(text(Rewrite::of(&came).finish()).starts_with(&format!("{gone}\r\n")));
        assert!(text(Rewrite::of(&came).request_uri("sip:b.test").finish()).contains("SIP/2.0"));
    }
}

#[test]
fn unknown_headers_are_not_changed_without_their_names() {
    let came = register();
    let gone = Rewrite::of(&came).remove_all(H::Other).remove_first(H::Other).set(H::Other, "x").finish();
    assert_eq!(gone, Rewrite::of(&came).finish());
}
