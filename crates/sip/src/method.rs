//! The verbs of SIP, known and unknown.
//!
//! Methods are case-sensitive tokens (RFC 3261 §7.1): `register` is some other method than `REGISTER`,
//! and `RE%47IST%45R` is not an escaped one (RFC 4475 §3.1.1.5). An unknown method is kept as it came.

use std::fmt;
use std::str::FromStr;

use crate::parse::{ParseError, is_token};
use crate::text::Text;

/// What a request asks for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method {
    /// Bind contacts to an address-of-record (RFC 3261 §10).
    Register,
    /// Start or change a session (RFC 3261 §13).
    Invite,
    /// The third step of an INVITE (RFC 3261 §13, §17.1.1.3).
    Ack,
    /// Give up a pending INVITE (RFC 3261 §9).
    Cancel,
    /// End a session (RFC 3261 §15).
    Bye,
    /// Ask what the other side can do; our heartbeat between pools (RFC 3261 §11).
    Options,
    /// Instant message (RFC 3428).
    Message,
    /// Ask to be told about a state (RFC 6665).
    Subscribe,
    /// Tell about a state (RFC 6665).
    Notify,
    /// Publish a state (RFC 3903).
    Publish,
    /// Ask the other side to call somebody (RFC 3515).
    Refer,
    /// Mid-session information (RFC 6086).
    Info,
    /// Change a session before it is answered (RFC 3311).
    Update,
    /// Acknowledge a provisional answer (RFC 3262).
    Prack,
    /// Any other token, kept as it came.
    Other(Text),
}

impl Method {
    /// Every method this crate has a name for.
    pub const KNOWN: [Method; 14] = [
        Method::Register,
        Method::Invite,
        Method::Ack,
        Method::Cancel,
        Method::Bye,
        Method::Options,
        Method::Message,
        Method::Subscribe,
        Method::Notify,
        Method::Publish,
        Method::Refer,
        Method::Info,
        Method::Update,
        Method::Prack,
    ];

    /// The method of that name, if it is one this crate knows.
    pub fn known(name: &str) -> Option<Method> {
        Some(match name {
            "REGISTER" => Method::Register,
            "INVITE" => Method::Invite,
            "ACK" => Method::Ack,
            "CANCEL" => Method::Cancel,
            "BYE" => Method::Bye,
            "OPTIONS" => Method::Options,
            "MESSAGE" => Method::Message,
            "SUBSCRIBE" => Method::Subscribe,
            "NOTIFY" => Method::Notify,
            "PUBLISH" => Method::Publish,
            "REFER" => Method::Refer,
            "INFO" => Method::Info,
            "UPDATE" => Method::Update,
            "PRACK" => Method::Prack,
            _ => return None,
        })
    }

    /// As it stands in a start line.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Register => "REGISTER",
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Cancel => "CANCEL",
            Method::Bye => "BYE",
            Method::Options => "OPTIONS",
            Method::Message => "MESSAGE",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Publish => "PUBLISH",
            Method::Refer => "REFER",
            Method::Info => "INFO",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Other(name) => name,
        }
    }

    /// True for a method this crate has a name for; the others are answered 501 by a server that must
    /// act on them and forwarded by a proxy that need not.
    pub fn is_known(&self) -> bool {
        !matches!(self, Method::Other(_))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Method, ParseError> {
        if !is_token(name) {
            return Err(ParseError::new(0, "a method: a token", "RFC 3261 §25.1"));
        }
        Ok(Method::known(name).unwrap_or_else(|| Method::Other(Text::from(name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_reads_back_as_itself() {
        for method in Method::KNOWN {
            assert_eq!(method.as_str().parse(), Ok(method.clone()));
            assert!(method.is_known());
        }
    }

    #[test]
    fn case_and_escapes_make_another_method() {
        for name in ["register", "RE%47IST%45R"] {
            assert_eq!(name.parse(), Ok(Method::Other(Text::from(name))));
        }
    }

    #[test]
    fn what_is_not_a_token_is_no_method() {
        for name in ["", "INV ITE", "INVITE\r\n", "{INVITE}"] {
            assert!(name.parse::<Method>().is_err(), "{name:?}");
        }
    }
}
