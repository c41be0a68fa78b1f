//! What the index finds, what it forgives, and what the typed values say.

use super::*;
use crate::header::HeaderName as H;

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.replace('\n', "\r\n"))
}

fn message(text: &str) -> Message {
    Message::parse(bytes(text)).unwrap()
}

/// A request that is fine, with room for more headers and a body.
fn with(headers: &str, body: &str) -> Message {
    message(&format!(
        "OPTIONS sip:example.test SIP/2.0\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\n\
         From: <sip:alice@example.test>;tag=1\n\
         To: <sip:bob@example.test>\n\
         Call-ID: 1\n\
         CSeq: 1 OPTIONS\n\
         {headers}\n{body}"
    ))
}

#[test]
fn the_parts_of_a_request_are_where_they_are() {
    let read = with("Content-Length: 4\nk: a, outbound ,b\n", "bodyrest");
    assert!(read.is_request());
    assert_eq!((read.method(), read.request_uri()), (Method::Options, Some("sip:example.test")));
    assert_eq!((read.status(), read.reason()), (None, None));
    assert_eq!(read.body(), b"body");
    assert!(read.bytes().ends_with(b"\r\n\r\nbody"));
    assert!(read.supports("OUTBOUND") && !read.supports("out") && !read.requires("outbound"));
    assert_eq!((read.from_tag(), read.to_tag()), (Some("1"), None));
    assert_eq!(read.call_id(), Ok("1"));
    assert_eq!(read.cseq(), Ok(CSeq { number: 1, method: Method::Options }));
    assert_eq!(read.all_headers().count(), 7);
    assert_eq!(read.header_named("supported"), Some("a, outbound ,b"));
    assert_eq!(read.validate(), Ok(()));
}

#[test]
fn the_parts_of_a_response_are_where_they_are() {
    let read = message("SIP/2.0 180 Ringing now\nCSeq: 2 INVITE\n\n");
    assert!(!read.is_request());
    assert_eq!((read.status(), read.reason()), (Some(180), Some("Ringing now")));
    assert_eq!((read.method(), read.request_uri()), (Method::Invite, None));
    for (line, reason) in [("SIP/2.0 100 ", ""), ("SIP/2.0 100", "")] {
        assert_eq!(message(&format!("{line}\n\n")).reason(), Some(reason));
    }
}

#[test]
fn folded_lines_are_one_line() {
    let read = with("Subject: a\n\t  b\n \n  c\nX-Last: 1\n", "");
    assert_eq!(read.header(H::Subject).unwrap().split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(read.header_named("x-last"), Some("1"));
    assert!(!read.bytes().windows(3).any(|three| three == b"\r\n " || three == b"\r\n\t"));
}

#[test]
fn a_fold_in_the_body_is_left_alone() {
    let read = with("Subject: a\n b\nContent-Length: 5\n", "x\n y");
    assert_eq!(read.body(), b"x\r\n y");
}

#[test]
fn without_a_length_the_body_is_the_rest() {
    assert_eq!(with("", "all of it").body(), b"all of it");
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for (header, body) in [
        ("Content-Length: 5\n", "four"),
        ("Content-Length: -1\n", ""),
        ("Content-Length: \n", ""),
        ("Content-Length: 0x4\n", "four"),
        ("Content-Length: 4 4\n", "four"),
        ("Content-Length: 4,4\n", "four"),
        ("Content-Length: +4\n", "four"),
        // 2^32 + 4, and 2^64 + 4.
        ("Content-Length: 4294967300\n", "four"),
        ("Content-Length: 18446744073709551620\n", "four"),
        ("Content-Length: 4\nContent-Length: 4\n", "four"),
        ("Content-Length: 4\nl: 0\n", "four"),
    ] {
        let error = with(header, body).validate().expect_err(header);
        assert_eq!(error.status, 400, "{header}");
    }
}

#[test]
fn empty_lines_before_a_message_are_skipped() {
    assert_eq!(message("\n\n\nSIP/2.0 200 OK\nCSeq: 1 BYE\n\n").status(), Some(200));
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    for text in [
        "",
        "\n",
        "\n\n",
        "hello\n\n",
        "GET / HTTP/1.1\nHost: example.test\n\n",
        "OPTIONS sip:example.test SIP/2.0\nVia: x\nTo: ",
        "OPTIONS sip:example.test SIP/2.0",
        "OPTIONS sip:example.test SIP/2.0\n Via: x\n\n",
        "OPTIONS SIP/2\n\n",
        "SIP/x.y 200 OK\n\n",
    ] {
        assert!(Message::parse(bytes(text)).is_err(), "{text:?}");
    }
    for raw in [&b"OPTIONS sip:a SIP/2.0\nVia: x\n\n"[..], b"OPTIONS sip:a SIP/2.0\r\nX: a\rb\r\n\r\n"] {
        assert!(Message::parse(Bytes::from_static(raw)).is_err(), "{raw:?}");
    }
}

#[test]
fn a_head_without_its_empty_line_can_be_answered() {
    let read = message("OPTIONS sip:example.test SIP/2.0\nCall-ID: 1\n");
    assert_eq!((read.call_id(), read.body()), (Ok("1"), &b""[..]));
    let invalid = read.validate().unwrap_err();
    assert_eq!((invalid.status, invalid.why.expected), (400, "an empty line after the headers"));
}

#[test]
fn a_head_too_long_or_with_too_many_lines_is_an_error() {
    let long = format!("OPTIONS sip:a SIP/2.0\nX: {}\n\n", "x".repeat(MAX_HEAD));
    assert_eq!(Message::parse(bytes(&long)).unwrap_err().expected, "a head below 64 KiB");
    let many = format!("OPTIONS sip:a SIP/2.0\n{}\n", "X: 1\n".repeat(600));
    assert!(Message::parse(bytes(&many)).is_err());
}

#[test]
fn mistakes_are_answered_with_their_status() {
    for (headers, status) in [
        ("NoColon\n", 400),
        (": nameless\n", 400),
        ("CSeq: 2 OPTIONS\n", 400),
        ("t: <sip:carol@example.test>\n", 400),
        ("Max-Forwards: 256\n", 400),
        ("Max-Forwards: x\n", 400),
        ("Route: sip:a b\n", 400),
        ("Via: SIP/2.0/UDP\n", 400),
        ("X: \0\n", 400),
        ("X: \u{1b}[2J\n", 400),
        ("Subject: \"\\\\\u{7f}\"\n", 400),
    ] {
        assert_eq!(with(headers, "").validate().map_err(|error| error.status), Err(status), "{headers}");
    }
}

#[test]
fn contacts_are_judged_where_they_are_acted_on() {
    for headers in [
        "Contact: *, <sip:a@example.test>\n",
        "Contact: *\nContact: *\n",
        "Contact: <sip:a@example.test>,\n",
        "Path: p.example.test\n",
    ] {
        let other = with(headers, "");
        assert_eq!(other.validate(), Ok(()), "{headers}");
        let text = String::from_utf8(other.bytes().to_vec()).unwrap().replace("OPTIONS", "REGISTER");
        let register = Message::parse(Bytes::from(text)).unwrap();
        assert_eq!(register.validate().map_err(|invalid| invalid.status), Err(400), "{headers}");
    }
}

#[test]
fn a_header_that_nobody_acts_on_is_nobodys_reason_to_refuse() {
    // RFC 3261 §16.3: "an element would not reject a request because of a malformed Date header field".
    for headers in
        ["Date: today\n", "User-Agent: a\nUser-Agent: b\n", "Record-Route: here\n", "Warning: \"\n"]
    {
        let read = with(headers, "");
        assert_eq!(read.validate(), Ok(()), "{headers}");
        let (name, value) = headers.split_once(": ").unwrap();
        assert_eq!(read.header_named(name), value.lines().next(), "{headers}");
    }
}

#[test]
fn a_control_byte_may_stand_behind_a_backslash() {
    let read = with("Contact: \"BEL:\\\u{7}\" <sip:a@x>\nX: a\tb\n", "\0");
    assert_eq!(read.validate(), Ok(()));
}

#[test]
fn a_head_that_is_no_utf8_can_be_answered() {
    let raw = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: \"M\xfcller\" <sip:a@b>;tag=1\r\n\
        To: <sip:b>\r\ni: 1\r\nCSeq: 1 OPTIONS\r\nX: \xf0\x9f\x98\r\nl: 2\r\n\r\n\xff\xfe";
    let read = Message::parse(Bytes::from_static(raw)).unwrap();
    let invalid = read.validate().unwrap_err();
    assert_eq!((invalid.status, invalid.why.expected), (400, "UTF-8"));
    assert_eq!(raw[invalid.why.at], b'\xfc');
    assert_eq!(read.header(H::From), Some("\"M?ller\" <sip:a@b>;tag=1"));
    assert_eq!(read.header_named("x"), Some("???"));
    assert_eq!((read.via().unwrap().branch(), read.body()), (Some("z9hG4bK1"), &b"\xff\xfe"[..]));
}

#[test]
fn contacts_are_none_star_or_a_list() {
    assert!(matches!(with("", "").contacts(), Ok(Contacts::None)));
    assert!(matches!(with("m: *\n", "").contacts(), Ok(Contacts::Star)));
    let read = with("Contact: <sip:a@x>;q=0.5, \"B, b\" <sip:b@x>\nContact: sip:c@x;expires=9\n", "");
    let contacts = read.contacts().unwrap();
    let users: Vec<_> = contacts.list().iter().filter_map(|contact| contact.uri.user()).collect();
    assert_eq!(users, ["a", "b", "c"]);
    assert_eq!(contacts.list()[2].expires(), Some(9));
}

#[test]
fn an_error_points_into_the_message() {
    let read = with("Contact: <sip:good@x>, <sip:b ad@x>\n", "");
    let error = read.contacts().unwrap_err();
    assert_eq!(&read.bytes()[error.at..error.at + 3], b" ad");
    let error = message("OPTIONS sip:a@b@c SIP/2.0\n\n").uri().unwrap_err();
    assert_eq!(error.at, "OPTIONS sip:a@b".len());
}
