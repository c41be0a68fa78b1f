//! Runs each reader of this crate on any bytes and checks what must hold whatever they are.
//!
//! One function per reader. The fuzz targets in `fuzz/` call nothing else, and the mutation test in
//! `tests/properties.rs` calls the same functions, so the targets cannot rot between two fuzzing
//! sessions. A broken promise is a panic here, and only here: nothing in production calls this module.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::digest::{AuthenticationInfo, Challenge, Credentials};
use crate::header::{CSeq, HeaderName, NameAddr, Params, Via};
use crate::message::Message;
use crate::method::Method;
use crate::print::{Builder, Rewrite};
use crate::transaction::{Heard, Timers, Transactions};
use crate::transport::{Flow, Frame, Framer, Limits, Transport, peek_aor, stamp};
use crate::uri::{AddressOfRecord, Uri};

/// Reads `bytes` as a message; asks it everything; answers, forwards and stamps it.
pub fn message(bytes: &[u8]) {
    // Peeking must not depend on anybody having parsed first.
    let peeked = peek_aor(bytes);
    let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    ask_everything(&message);

    let again = Message::parse(message.bytes().clone()).expect("what was read reads again");
    assert!(again.all_headers().eq(message.all_headers()), "reading twice reads the same");
    assert_eq!(again.body(), message.body(), "reading twice reads the same");
    // What was no UTF-8 was mended for the answer's sake, and the second reader cannot know.
    if std::str::from_utf8(bytes).is_ok() || message.validate().is_ok() {
        assert_eq!(again.validate().is_ok(), message.validate().is_ok(), "a verdict does not change");
    }

    if message.validate().is_ok() && message.is_request() {
        let user = match message.method() {
            Method::Register => message.to().ok().map(|to| to.uri),
            _ => message.uri().ok(),
        };
        let owner = user.and_then(|uri| AddressOfRecord::from_uri(&uri)).map(|aor| aor.hash64());
        assert_eq!(peeked, owner, "the shard is the one the message belongs to");
    }

    // Near the limits of the index, a line more is one too many.
    let headers = message.all_headers().count();
    if bytes.len() > 60_000 || headers > 500 {
        return;
    }
    let forwarded = Message::parse(Rewrite::of(&message).finish()).expect("what is forwarded can be read");
    assert!(
        forwarded.all_headers().take(headers).eq(message.all_headers()),
        "forwarding loses no header and adds none in between"
    );
    assert_eq!(forwarded.request_uri(), message.request_uri(), "an untouched start line stays");

    let source = std::net::SocketAddr::from(([192, 0, 2, 1], 4711));
    let stamped = stamp(&message, source);
    let read = Message::parse(stamped.bytes().clone()).expect("what is stamped can be read");
    assert!(read.all_headers().eq(stamped.all_headers()), "a moved index says what a new one would");
    assert_eq!(stamped.body(), message.body(), "a stamp is on the outside");

    let answer = Builder::response(&stamped, 400, "Bad Request").to_tag("tag").finish();
    let answer = Message::parse(answer).expect("an answer can be read");
    for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        assert!(answer.headers(name).eq(stamped.headers(name)), "an answer carries what came");
    }
    assert_eq!(answer.body(), b"", "an answer ends where it should");
}

/// Asks for each typed value; no answer may panic, and an error must point into the message.
fn ask_everything(message: &Message) {
    let length = message.bytes().len();
    let inside = |at: usize| assert!(at <= length, "an error points into the message");
    let _ = message.validate().map_err(|invalid| inside(invalid.why.at));
    let _ = message.via().map_err(|error| inside(error.at)).map(|via| (via.received(), via.rport()));
    let _ = message.from().map_err(|error| inside(error.at)).map(|from| from.display_name());
    let _ = message.contacts().map_err(|error| inside(error.at)).map(|contacts| {
        for contact in contacts.list() {
            let _ = (contact.q(), contact.expires(), contact.reg_id(), contact.instance());
        }
    });
    let _ = message.cseq().map_err(|error| inside(error.at));
    let _ = message.call_id().map_err(|error| inside(error.at));
    let _ = message.max_forwards().map(|hops| hops.map_err(|error| inside(error.at)));
    let _ = (message.status(), message.reason(), message.version(), message.method(), message.expires());
    let _ = (message.to_tag(), message.from_tag(), message.supports("path"), message.content_length());
    for name in HeaderName::all() {
        for value in message.values(name) {
            inside(message.offset(value) + value.len());
        }
    }
    for (name, value) in message.all_headers() {
        assert!(message.headers_named(name).any(|known| known == value), "a header is found by its name");
        assert!(!value.contains(['\r', '\n']), "a value is one line");
    }
}

/// Reads `bytes` as URIs, one to a line, and as the values URIs stand in; compares them with each other.
pub fn uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut before: Option<Uri<'_>> = None;
    for line in text.split('\n') {
        let _ =
            (NameAddr::parse(line).map(|value| value.display_name()), Via::parse(line), CSeq::parse(line));
        if let Ok(params) = Params::parse(line) {
            assert!(params.iter().all(|(name, _)| params.has(name)), "a parameter is found by its name");
        }
        let Ok(uri) = Uri::parse(line) else {
            continue;
        };
        assert!(Uri::parse(line) == Ok(uri), "a URI equals itself");
        if let Some(other) = before {
            let (there, back) = (uri == other, other == uri);
            assert_eq!(there, back, "equality has no direction");
        }
        let aor = AddressOfRecord::from_uri(&uri);
        assert_eq!(aor.as_ref().map(AddressOfRecord::hash64), AddressOfRecord::hash64_of(&uri), "one hash");
        if let Some(aor) = aor {
            let again: AddressOfRecord = aor.as_str().parse().expect("the normal form is a URI");
            assert_eq!(again, aor, "the normal form of the normal form is itself");
        }
        before = Some(uri);
    }
}

/// Cuts `bytes` as a stream, whole and torn into pieces as large as the first byte says.
pub fn frame(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else {
        return;
    };
    let whole = messages_of(stream, usize::MAX);
    let torn = messages_of(stream, usize::from(piece).max(1));
    assert_eq!(whole, torn, "where a stream is torn changes nothing");
    for frame in whole.0 {
        let length = frame.len();
        if let Ok(message) = Message::parse(frame)
            && message.validate().is_ok()
        {
            assert_eq!(message.bytes().len(), length, "framer and index agree where a message ends");
        }
    }
}

/// The messages of a stream, and why it broke, if it did.
fn messages_of(stream: &[u8], piece: usize) -> (Vec<Bytes>, Option<&'static str>) {
    let mut framer = Framer::new(Limits { head: 4096, body: 4096 });
    let mut messages = Vec::new();
    for piece in stream.chunks(piece) {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(bytes))) => messages.push(bytes),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                Err(error) => return (messages, Some(error.why.expected)),
            }
        }
    }
    (messages, None)
}

/// Reads `bytes` as the values of the authentication headers.
pub fn digest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for line in text.split('\n') {
        let _ = (Credentials::parse(line).is_ok(), Challenge::parse_all(line).len());
        let _ = AuthenticationInfo::parse(line);
    }
}

/// Hears `bytes` as a request to us and a response to us, and sends them as a request of ours; repeats,
/// answers and cancels; then lets all time pass. Nothing may be left.
pub fn transaction(bytes: &[u8], now: Instant) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let address = |host: u8| SocketAddr::from(([127, 0, 0, host], 5060));
    for (transport, serial) in [(Transport::Udp, 0), (Transport::Tcp, 1)] {
        let flow = Flow { transport, local: address(1), remote: address(2), serial };
        let mut ours = Transactions::new(Timers::default());
        match ours.hear(&message, flow, now) {
            Heard::Request(key) | Heard::Cancel { cancel: key, .. } => {
                assert_eq!(ours.hear(&message, flow, now), Heard::Absorbed, "a repeat is no news");
                for status in [100, 401] {
                    ours.respond(&key, Builder::response(&message, status, "So").finish(), now);
                }
            }
            Heard::Ack | Heard::Stray => {
                assert!(ours.is_empty(), "nothing is kept of what has no transaction")
            }
            Heard::Response(_) | Heard::Absorbed | Heard::Full => unreachable!("nothing was there before"),
        }
        if message.is_request() {
            let key = ours.send(message.bytes().clone(), flow, now);
            ours.cancel(&key, now);
            for status in [180, 200, 486] {
                let answer = Message::parse(Builder::response(&message, status, "So").to_tag("tag").finish());
                ours.hear(&answer.expect("an answer can be read"), flow, now);
            }
        }
        while let Some(transmit) = ours.poll_transmit() {
            assert!(Message::parse(transmit.bytes).is_ok(), "what is sent can be read");
        }
        while let Some(at) = ours.poll_timeout() {
            assert!(at >= now, "time runs forwards");
            ours.handle_timeout(at);
        }
        ours.handle_flow_lost(flow, now);
        assert!(ours.is_empty(), "every transaction ends");
    }
}
