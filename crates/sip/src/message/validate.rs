//! The verdict on one message: may anybody act on it, and if not, what is the answer?
//!
//! [`Message::parse`](super::Message::parse) is forgiving so that a broken request can be answered;
//! this is where it is refused. The rules are RFC 3261's, with the verdicts of RFC 4475 where the two leave
//! room. A response that does not pass is dropped without a word (RFC 3261 §8.1.3, RFC 4475 §3.1.2.5).
//!
//! | status | when |
//! | --- | --- |
//! | 505 | another version than SIP/2.0 (RFC 3261 §21.5.6) |
//! | 400 | grammar, a missing, repeated or contradictory header (RFC 3261 §8.1.1, §16.3, §18.3) |
//! | 416 | a Request-URI of a scheme we cannot route (RFC 3261 §8.2.2.1, §16.3) |
//! | 501 | an unknown method that CSeq contradicts (RFC 4475 §3.1.2.18) |
//!
//! Headers that nobody here acts on are not looked at: a malformed Date, Record-Route or Contact of somebody
//! else's call is passed on as it came (RFC 3261 §16.3 step 1). Contact and Path are read where they are
//! acted on, in a REGISTER; an endpoint finds its own mistakes in [`Message::contacts`].
//!
//! Not here: what depends on who we are — 420 for Require and Proxy-Require, 483 for Max-Forwards, 415,
//! 405, authentication.

use std::fmt;

use super::{Message, Start};
use crate::header::via::MAGIC_COOKIE;
use crate::header::{HeaderName, Via};
use crate::method::Method;
use crate::parse::ParseError;
use crate::uri::Scheme;

/// Why a message is refused, and with which status a request is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// The status to answer a request with; a response is dropped instead.
    pub status: u16,
    /// What is wrong.
    pub why: ParseError,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.why)
    }
}

impl std::error::Error for Invalid {}

impl From<ParseError> for Invalid {
    /// Most mistakes are Bad Requests.
    fn from(why: ParseError) -> Invalid {
        Invalid { status: 400, why }
    }
}

impl Message {
    /// Checks all that must hold before anybody acts on the message; see the table above.
    pub fn validate(&self) -> Result<(), Invalid> {
        // The version comes first: another version may have other rules for everything else.
        if !self.version().eq_ignore_ascii_case("SIP/2.0") {
            let at = match self.index().start {
                Start::Request { version: (start, _), .. } => usize::from(start),
                Start::Response { .. } => 0,
            };
            return Err(Invalid { status: 505, why: ParseError::new(at, "SIP/2.0", "RFC 3261 §21.5.6") });
        }
        if let Some(flaw) = self.index().flaw {
            return Err(flaw.into());
        }
        if let Some(name) = self.repeated() {
            let again = self.lines(name).nth(1).map_or(0, |line| usize::from(line.start));
            return Err(ParseError::new(again, "a single-valued header once", "RFC 4475 §3.3.8").into());
        }
        self.validate_vias()?;
        self.from()?;
        self.to()?;
        self.call_id()?;
        self.validate_cseq()?;
        self.validate_request_uri()?;
        if let Some(max_forwards) = self.max_forwards() {
            max_forwards?;
        }
        self.name_addrs(HeaderName::Route).try_for_each(|value| value.map(drop))?;
        if self.is_request() && self.method() == Method::Register {
            self.contacts()?;
            self.name_addrs(HeaderName::Path).try_for_each(|value| value.map(drop))?;
        }
        Ok(())
    }

    /// At least one Via, each well-formed, the top one with a branch that means something.
    fn validate_vias(&self) -> Result<(), Invalid> {
        let mut vias = self.values(HeaderName::Via);
        let first = vias.next().ok_or(self.missing("a Via header"))?;
        let at = self.offset(first);
        let top = Via::parse(first).map_err(|error| error.shifted(at))?;
        if top.branch().is_some_and(|branch| branch.eq_ignore_ascii_case(MAGIC_COOKIE)) {
            // RFC 4475 §3.2.1 lets us choose between 400 and RFC 2543's rules. The cookie promises that the
            // branch is unique; one that is the same for every transaction would merge strangers.
            return Err(ParseError::new(at, "an identifier behind z9hG4bK", "RFC 3261 §8.1.1.7").into());
        }
        for value in vias {
            Via::parse(value).map_err(|error| error.shifted(self.offset(value)))?;
        }
        Ok(())
    }

    /// The method of CSeq is the method of the request (RFC 3261 §8.1.1.5).
    fn validate_cseq(&self) -> Result<(), Invalid> {
        let cseq = self.cseq()?;
        let method = self.method();
        if !self.is_request() || cseq.method == method {
            return Ok(());
        }
        let at = self.lines(HeaderName::CSeq).next().map_or(0, |line| usize::from(line.value));
        let why = ParseError::new(at, "the method of the start line in CSeq", "RFC 3261 §8.1.1.5");
        // Of the two mistakes the unknown method is the better answer (RFC 4475 §3.1.2.18).
        Err(Invalid { status: if method.is_known() { 400 } else { 501 }, why })
    }

    /// A Request-URI we can read, of a scheme we can route, without headers (RFC 3261 §19.1.1 table 1).
    fn validate_request_uri(&self) -> Result<(), Invalid> {
        let Start::Request { uri: (start, _), .. } = self.index().start else {
            return Ok(());
        };
        let uri = self.uri()?;
        let wrong = |status, expected, rfc| {
            Err(Invalid { status, why: ParseError::new(usize::from(start), expected, rfc) })
        };
        match uri.scheme() {
            Scheme::Other(_) => wrong(416, "a sip:, sips: or tel: Request-URI", "RFC 3261 §8.2.2.1"),
            Scheme::Sip | Scheme::Sips if uri.headers().next().is_some() => {
                wrong(400, "no headers in a Request-URI", "RFC 3261 §19.1.1")
            }
            _ => Ok(()),
        }
    }
}
