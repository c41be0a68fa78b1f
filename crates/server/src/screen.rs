//! Is it well-formed, and is it for us? (RFC 3261 §8.2, §16.3, RFC 5393)
//!
//! What can be said of a request before anybody asks who sent it. The grammar is `sip`'s; here is what depends on
//! who we are.

use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;

use crate::decision::Why;
use crate::desk::Own;

/// Extensions we take when a REGISTER requires them (RFC 3327, RFC 5626).
const REGISTRAR_KNOWS: [&str; 2] = ["path", "outbound"];

/// Checks a request that is for ourselves as registrar or server.
pub(crate) fn for_us(request: &Message) -> Result<(), Why> {
    known(request, HeaderName::Require, &REGISTRAR_KNOWS)
}

/// Checks a request that we would pass on.
pub(crate) fn to_pass_on(request: &Message, own: &Own, salt: u64) -> Result<(), Why> {
    // An ACK has no answer, so nothing in it can be refused; at zero hops it is simply not passed on.
    if matches!(request.max_forwards(), Some(Ok(0))) {
        return Err(Why::TooManyHops);
    }
    known(request, HeaderName::ProxyRequire, &[])?;
    if *request.method().as_str() != *Method::Ack.as_str() && has_been_here(request, own, salt) {
        return Err(Why::Loop);
    }
    Ok(())
}

/// RFC 3261 §8.2.2.3, §16.3 step 5: every extension asked for must be known; the others are named.
fn known(request: &Message, header: HeaderName, known: &[&str]) -> Result<(), Why> {
    let unknown: Vec<&str> = request
        .values(header)
        .filter(|tag| !known.iter().any(|ours| ours.eq_ignore_ascii_case(tag)))
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(Why::Unsupported(unknown.join(", "))) }
}

/// A Via of ours over the same request: a loop. Over a changed one it would be a spiral, which is fine
/// (RFC 5393 §4.2).
fn has_been_here(request: &Message, own: &Own, salt: u64) -> bool {
    let mark = loop_mark(request, salt);
    request.values(HeaderName::Via).any(|value| {
        let Ok(via) = sip::header::Via::parse(value) else { return false };
        own.is_host(via.host)
            && via.branch().and_then(|branch| branch.rsplit_once('.')).is_some_and(|(_, rest)| rest == mark)
    })
}

/// The part of our branch that is the same whenever the same request would be routed the same way (RFC 5393 §4.2.1):
/// Request-URI, To and From tags, Call-ID, CSeq, Route.
pub(crate) fn loop_mark(request: &Message, salt: u64) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ salt;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    add(request.request_uri().unwrap_or_default());
    add(request.to_tag().unwrap_or_default());
    add(request.from_tag().unwrap_or_default());
    add(request.call_id().unwrap_or_default());
    add(request.header(HeaderName::CSeq).unwrap_or_default());
    request.values(HeaderName::Route).for_each(&mut add);
    format!("{hash:016x}")
}
