//! Which transaction a message belongs to: every transaction has a name that its messages spell.
//!
//! | message | name |
//! | --- | --- |
//! | response | branch, method of CSeq (RFC 3261 §17.1.3) |
//! | request | branch, sent-by, method (§17.2.3) |
//! | request whose branch lacks the magic cookie, or that has none | Call-ID, CSeq number, From tag, Request-URI, top Via, method: what RFC 2543 had |
//!
//! An ACK and a CANCEL are looked up under the method `INVITE`. The To tag is left out of the third name:
//! an ACK has it and its INVITE has not, and no two requests differ in nothing else.

use std::hash::{Hash as _, Hasher as _};

use crate::header::HeaderName;
use crate::message::Message;
use crate::method::Method;

/// The name of the request we sent that `message` answers, or is.
pub(super) fn name_of_response(message: &Message) -> Option<String> {
    Some(format!("{} {}", message.via().ok()?.branch()?, message.cseq().ok()?.method))
}

/// The name of the transaction of this request, had it the method `method`.
pub(super) fn name_of_request(request: &Message, method: &Method) -> Option<String> {
    let via = request.via().ok()?;
    if let Some(branch) = via.magic_branch() {
        let (host, port) = (via.host.to_ascii_lowercase(), via.port.unwrap_or(0));
        return Some(format!("{branch} {host}:{port} {method}"));
    }
    let (call_id, number) = (request.call_id().ok()?, request.cseq().ok()?.number);
    let from_tag = request.from_tag().unwrap_or_default();
    let uri = request.request_uri()?;
    let via = request.values(HeaderName::Via).next()?;
    // Blanks keep the parts apart: only the Via can contain one, and it stands last but one.
    Some(format!("{call_id} {number} {from_tag} {uri} {via} {method}"))
}

/// A fingerprint of the credentials a request carries. Not secret and not strong: it only tells one try
/// from the next by the same client.
pub(super) fn credentials(request: &Message) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
        for value in request.headers(name) {
            value.hash(&mut hasher);
        }
    }
    hasher.finish()
}
