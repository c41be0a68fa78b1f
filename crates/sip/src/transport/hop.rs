//! What a hop writes into a Via, and where the answer then goes (RFC 3261 §18.2, RFC 3581).
//!
//! | the request came by | its answer goes |
//! | --- | --- |
//! | a stream | the same connection, as long as it lives (§18.2.2) |
//! | UDP, Via with `rport` | to the address and port it came from (RFC 3581 §4) |
//! | UDP, Via without | to the address it came from, the port of sent-by (§18.2.2) |
//!
//! What a Via *says* of addresses is for the next hop: whoever received the request knows the flow. So `maddr`
//! is not obeyed (we serve no multicast, and it would let a stranger aim our answers), and no response is sent to
//! an address of somebody's writing, everybody's least of all (RFC 4475 §3.3.10).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::Flow;
use crate::header::{HeaderName, Via};
use crate::message::{Index, Message};
use crate::parse::Values;
use crate::uri::host_address;

/// Notes in a request's top Via where it really came from: `received` if sent-by says something else
/// (RFC 3261 §18.2.1), and `rport`'s value if asked for, then `received` too (RFC 3581 §4).
///
/// Nothing else changes; a request that needs no note comes back shared. What the sender wrote into
/// `received` or `rport` itself is overwritten: only the receiver knows.
pub fn stamp(request: &Message, source: SocketAddr) -> Message {
    let Some(line) = request.lines(HeaderName::Via).next() else {
        return request.clone();
    };
    let Some(value) = Values::of(request.slice(line.value, line.value_end)).next() else {
        return request.clone();
    };
    let Ok(via) = Via::parse(value) else {
        return request.clone();
    };
    let Some(stamped) = stamped(value, &via, source) else {
        return request.clone();
    };

    // The value is cut out and the new one put in; all that follows moves by the difference.
    let start = usize::from(line.value);
    let end = start + value.len();
    let bytes = request.bytes();
    let (Some(before), Some(after)) = (bytes.get(..start), bytes.get(end..)) else {
        return request.clone();
    };
    let index = request.index();
    // `MAX_HEAD` leaves room for one stamp, so every offset still fits.
    let moved = |at: usize| if at >= end { at - value.len() + stamped.len() } else { at };
    let moved_short = |at: u16| u16::try_from(moved(usize::from(at))).unwrap_or(u16::MAX);
    let mut index = Index { body: moved(index.body), lines: index.lines.clone(), ..*index };
    for line in index.lines.iter_mut().filter(|line| usize::from(line.value_end) >= end) {
        line.start = moved_short(line.start);
        line.name_end = moved_short(line.name_end);
        line.value = moved_short(line.value);
        line.value_end = moved_short(line.value_end);
    }
    let mut copy = Vec::with_capacity(bytes.len() + stamped.len());
    copy.extend_from_slice(before);
    copy.extend_from_slice(stamped.as_bytes());
    copy.extend_from_slice(after);
    Message::from_parts(Bytes::from(copy), Arc::new(index))
}

/// The new top Via; `None` where the old one says all.
fn stamped(value: &str, via: &Via<'_>, source: SocketAddr) -> Option<String> {
    let wants_rport = via.wants_rport();
    let honest = host_address(via.host) == Some(source.ip().to_canonical());
    if honest && !wants_rport && !via.params.has("received") {
        return None;
    }
    let head = value.len() - via.params.as_str().len();
    let head = value.get(..head).unwrap_or(value).trim_end_matches([' ', '\t', ';']);
    let mut stamped = String::with_capacity(value.len() + 48);
    stamped.push_str(head);
    for (name, value) in via.params.iter_raw() {
        if name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport") {
            continue;
        }
        stamped.push(';');
        stamped.push_str(name);
        if let Some(value) = value {
            stamped.push('=');
            stamped.push_str(value);
        }
    }
    // Writing to a String cannot fail.
    if !honest || wants_rport {
        let _ = write!(stamped, ";received={}", source.ip().to_canonical());
    }
    if wants_rport {
        let _ = write!(stamped, ";rport={}", source.port());
    }
    Some(stamped)
}

/// The flow an answer leaves by, for a request with this top Via that came by `flow`: the same connection for
/// streams; for UDP the same socket of ours, to where the datagram came from, at the port of sent-by unless
/// `rport` asks for the source port (RFC 3261 §18.2.2, RFC 3581 §4).
///
/// Says the same of a stamped Via and of one as it came, since the flow knows what a stamp would note.
pub fn answer_flow(via: &Via<'_>, flow: Flow) -> Flow {
    if flow.transport.is_reliable() || via.wants_rport() {
        return flow;
    }
    Flow { remote: SocketAddr::new(flow.remote.ip(), via.port_or_default()), ..flow }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MAX_HEAD;
    use crate::transport::Transport;

    fn request(via: &str) -> Message {
        let text = format!(
            "OPTIONS sip:example.test SIP/2.0\r\nMax-Forwards: 70\r\nv: {via}\r\nX-Odd: x\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 4\r\n\r\nbody"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn source() -> SocketAddr {
        "192.0.2.1:4711".parse().unwrap()
    }

    #[test]
    fn the_note_says_where_the_request_came_from() {
        for (came, noted) in [
            // RFC 3261 §18.2.1: sent-by is not where it came from.
            ("SIP/2.0/UDP a.test;branch=z9hG4bK1", "SIP/2.0/UDP a.test;branch=z9hG4bK1;received=192.0.2.1"),
            ("SIP/2.0/UDP 10.0.0.1", "SIP/2.0/UDP 10.0.0.1;received=192.0.2.1"),
            ("SIP/2.0/UDP 192.0.2.1:9;branch=x", "SIP/2.0/UDP 192.0.2.1:9;branch=x"),
            // RFC 3581 §4: received even when sent-by is right.
            (
                "SIP/2.0/UDP 192.0.2.1;rport;branch=x",
                "SIP/2.0/UDP 192.0.2.1;branch=x;received=192.0.2.1;rport=4711",
            ),
            // Nobody tells us where they are.
            (
                "SIP/2.0/UDP a.test;received=203.0.113.9;rport=1",
                "SIP/2.0/UDP a.test;received=192.0.2.1;rport=4711",
            ),
            ("SIP/2.0/UDP 192.0.2.1;received=203.0.113.9", "SIP/2.0/UDP 192.0.2.1"),
            // Only the top one is ours to note on.
            (
                "SIP/2.0/UDP a.test ; branch=x, SIP/2.0/UDP b.test",
                "SIP/2.0/UDP a.test;branch=x;received=192.0.2.1, SIP/2.0/UDP b.test",
            ),
        ] {
            let request = stamp(&request(came), source());
            assert_eq!(request.header(HeaderName::Via), Some(noted));
            // The shifted index says what a fresh one would.
            let again = Message::parse(request.bytes().clone()).unwrap();
            assert!(again.all_headers().eq(request.all_headers()), "{came}");
            assert_eq!((again.body(), request.body()), (&b"body"[..], &b"body"[..]));
            assert_eq!(request.header_named("x-odd"), Some("x"));
        }
    }

    #[test]
    fn a_request_that_needs_no_note_is_shared() {
        let request = request("SIP/2.0/UDP 192.0.2.1;branch=x");
        assert_eq!(stamp(&request, source()).bytes().as_ptr(), request.bytes().as_ptr());
    }

    #[test]
    fn a_mapped_address_is_written_as_what_it_is() {
        let mapped = "[::ffff:192.0.2.1]:4711".parse().unwrap();
        let request = stamp(&request("SIP/2.0/UDP 192.0.2.1;rport"), mapped);
        assert_eq!(request.via().unwrap().received(), Some(source().ip()));
    }

    #[test]
    fn a_stream_is_answered_by_itself_and_a_datagram_by_the_same_socket() {
        let local = "192.0.2.100:5060".parse().unwrap();
        let udp = Flow { transport: Transport::Udp, local, remote: source(), serial: 0 };
        let tls = Flow { transport: Transport::Tls, serial: 3, ..udp };
        for (via, remote) in [
            ("SIP/2.0/UDP 10.0.0.1:5070", "192.0.2.1:5070"),
            ("SIP/2.0/UDP 10.0.0.1:5070;rport", "192.0.2.1:4711"),
            ("SIP/2.0/UDP a.test;maddr=203.0.113.9", "192.0.2.1:5060"),
            ("SIP/2.0/UDP a.test;received=203.0.113.9;rport=9", "192.0.2.1:4711"),
        ] {
            let answered = Flow { remote: remote.parse().unwrap(), ..udp };
            let came = request(via);
            for request in [stamp(&came, source()), came] {
                assert_eq!(answer_flow(&request.via().unwrap(), udp), answered, "{via}");
                assert_eq!(answer_flow(&request.via().unwrap(), tls), tls, "{via}");
            }
        }
    }

    #[test]
    fn the_longest_head_still_has_room_for_the_note() {
        let longest = |via: &str| {
            let text = |padding: &str| {
                format!("OPTIONS sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP {via};x={padding}1\r\nX: y\r\n\r\n")
            };
            text(&"1".repeat(MAX_HEAD - text("").len()))
        };
        let came = Message::parse(Bytes::from(longest("a.test;rport"))).unwrap();
        let source = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
        let stamped = stamp(&came, source);
        let via = stamped.via().unwrap();
        assert_eq!((via.received(), via.rport()), (Some(source.ip()), Some(65535)));
        assert_eq!(stamped.header_named("x"), Some("y"));
    }
}
