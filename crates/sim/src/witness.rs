//! Turns what passes a world's hands into observations, so that every world observes alike.
//!
//! A world shows the witness each message a client sends and gets, each event of a brain, and each
//! change a server wants kept; the witness says what belongs in the [`History`](crate::History).
//! [`What::Tried`] and [`What::Standing`] are the world's own to add: only it knows which server
//! stands behind an address, and when it asked a client for its status.

use bytes::Bytes;
use resilience::partner;
use server::DeRegister;
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::uri::{AddressOfRecord, Uri};

use crate::history::{Place, What};

/// A client sent this message to `place`.
pub fn sent(user: &str, place: &Place, bytes: &Bytes) -> Option<What> {
    let message = Message::parse(bytes.clone()).ok()?;
    if !message.is_request() || message.method() != Method::Register {
        return None;
    }
    Some(What::Sent { user: user.to_owned(), place: place.clone(), key: key_of(&message)? })
}

/// A client got this message from `place`.
pub fn heard(user: &str, place: &Place, bytes: &Bytes) -> Option<What> {
    let message = Message::parse(bytes.clone()).ok()?;
    let (user, place) = (user.to_owned(), place.clone());
    let head = || String::from_utf8_lossy(bytes).into_owned();
    if message.is_request() {
        if message.method() != Method::Notify {
            return None;
        }
        let diagnostics = message.header_named("ms-diagnostics-public").unwrap_or_default();
        let body = String::from_utf8_lossy(message.body());
        let preferred = message.header_named("P-Preferred-Registrar").and_then(host_of);
        return Some(What::Told { user, place, text: format!("{} {diagnostics}", body.trim()), preferred });
    }
    let status = message.status().filter(|status| *status >= 200)?;
    if message.method() != Method::Register {
        return None;
    }
    let contacts = if (300..400).contains(&status) {
        message.values(HeaderName::Contact).filter_map(host_of).collect()
    } else {
        Vec::new()
    };
    Some(What::Answered { user, place, status, contacts, text: head(), key: key_of(&message)? })
}

/// A client's brain reported this.
pub fn client_event(user: &str, event: &endpoint::Event) -> Vec<What> {
    let user = user.to_owned();
    let mut seen = Vec::new();
    match event {
        endpoint::Event::Discovered { question, .. } => {
            seen.push(What::Asked { user: user.clone(), query: question.to_string() });
        }
        endpoint::Event::Answered { status, .. } if *status >= 200 => {
            seen.push(What::Outcome { user: user.clone(), status: *status });
        }
        endpoint::Event::Unanswered { .. } => seen.push(What::Outcome { user: user.clone(), status: 408 }),
        endpoint::Event::Request { method, .. } => {
            seen.push(What::Rang { user: user.clone(), method: method.to_string() });
        }
        _ => {}
    }
    seen.push(What::Said { who: user, text: event.to_string() });
    seen
}

/// A server's brain reported this. `silent` is how long the world knows that server to have heard
/// nothing from the partner it talks about, in a world that knows.
pub fn server_event(place: &Place, event: &server::Event, silent: Option<std::time::Duration>) -> Vec<What> {
    let mut seen = Vec::new();
    match event {
        server::Event::Partner(partner::Event::Changed { partner, to, why, .. }) => {
            seen.push(What::Partner {
                server: place.clone(),
                pool: partner.to_string(),
                state: to.to_string(),
                // An operator's word needs no silence.
                silent: silent.filter(|_| *why != partner::Why::Operator),
            })
        }
        server::Event::Ended { aor, why } => seen.push(ended(place, aor, *why)),
        _ => {}
    }
    seen.push(What::Said { who: place.server.clone(), text: event.to_string() });
    seen
}

/// A server wants this kept.
pub fn change(place: &Place, change: &server::Change) -> Option<What> {
    match change {
        server::Change::Record(record) => Some(ended(place, &record.aor, record.deregister)),
        _ => None,
    }
}

fn ended(place: &Place, aor: &AddressOfRecord, why: DeRegister) -> What {
    What::Ended { server: place.clone(), user: aor.user().to_owned(), kind: why.number() }
}

/// Call-ID and CSeq number: what pairs a REGISTER with its answer.
fn key_of(message: &Message) -> Option<String> {
    Some(format!("{} {}", message.call_id().ok()?, message.cseq().ok()?.number))
}

/// The host of a URI or of a name-addr.
fn host_of(value: &str) -> Option<String> {
    let inner = value.split_once('<').map_or(value, |(_, rest)| rest.split('>').next().unwrap_or(rest));
    Uri::parse(inner.trim()).ok().map(|uri| uri.host().to_string())
}
