//! The two requests a transaction makes by itself, both for the next hop only: ACK and CANCEL.
//!
//! RFC 3261 §17.1.1.3 and §9.1. Both copy the Request-URI, the top Via (alone), From, Call-ID, the number
//! of CSeq and the Routes of their INVITE; the ACK has the To of the response, whose tag it confirms.

use bytes::Bytes;

use crate::header::HeaderName;
use crate::message::Message;
use crate::method::Method;
use crate::parse;
use crate::print::Builder;

/// Acknowledges a refusal.
pub(super) fn ack(invite: &Bytes, response: &Message) -> Option<Bytes> {
    let invite = Message::parse(invite.clone()).ok()?;
    companion(&invite, &Method::Ack, response.header(HeaderName::To)?)
}

/// Cancels what is pending.
pub(super) fn cancel(invite: &Bytes) -> Option<Bytes> {
    let invite = Message::parse(invite.clone()).ok()?;
    companion(&invite, &Method::Cancel, invite.header(HeaderName::To)?)
}

fn companion(invite: &Message, method: &Method, to: &str) -> Option<Bytes> {
    let number = invite.cseq().ok()?.number;
    let builder = Builder::request(method, invite.request_uri()?)
        .header(HeaderName::Via, invite.values(HeaderName::Via).next()?)
        .header(HeaderName::MaxForwards, 70)
        .copied(invite, HeaderName::Route)
        .copied(invite, HeaderName::From)
        .header(HeaderName::To, to)
        .copied(invite, HeaderName::CallId)
        .header(HeaderName::CSeq, format_args!("{number} {method}"));
    Some(builder.finish())
}

/// The status code of a response in bytes.
pub(super) fn status(response: &[u8]) -> Option<u16> {
    let digits = response.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    parse::number(std::str::from_utf8(digits).ok()?)
}
