//! What can be decided about a request, and the reason that goes with every refusal.
//!
//! A `Decision` is made by `route` without changing anything and carried out by `Server::apply`. The status code, the reason phrase and the diagnostics on the wire all follow from
//! the [`Why`], so that log, dashboard and peer read the same story.

use std::fmt;
use std::time::Duration;

use sip::parse::ParseError;
use sip::uri::AddressOfRecord;

use crate::director::Homed;

/// What happens to one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Answered with the status of the reason.
    Refuse(Why),
    /// 401 to a request for ourselves, 407 to one we would pass on.
    Challenge {
        /// Who they say they are.
        claimed: AddressOfRecord,
        /// The 407 form.
        proxy: bool,
        /// The credentials were right, their nonce was too old or used up.
        stale: bool,
    },
    /// 200 with what we can do (RFC 3261 §11.2).
    Capabilities,
    /// 200 to a partner's heartbeat, or 503 when we are unfit.
    Heartbeat,
    /// The binding set of this user changes (RFC 3261 §10.3).
    Register {
        /// Who.
        aor: AddressOfRecord,
        /// Primary or backup, full or limited.
        homed: Homed,
    },
    /// 301 to the user's registrars (RFC 3261 §8.3).
    Redirect {
        /// Who.
        aor: AddressOfRecord,
        /// Where to.
        homed: Homed,
    },
    /// To wherever the user is (RFC 3261 §16).
    Forward {
        /// The callee.
        callee: AddressOfRecord,
        /// Who has proved to be the sender.
        sender: Sender,
    },
    /// To a gateway of a trunk that takes the number.
    Dial {
        /// In E.164 form, with `+`.
        number: String,
        /// Who has proved to be the sender.
        sender: Sender,
    },
    /// A request inside a dialog, or one with a route: to where its Route and Request-URI say.
    Follow {
        /// Who has proved to be the sender.
        sender: Sender,
    },
}

/// Who a request comes from, as far as proved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Sender {
    /// One of our users, by password or by the flow they registered from.
    User(AddressOfRecord),
    /// A server of the topology, by certificate; `mate`: of our own pool.
    Server {
        /// In our pool.
        mate: bool,
    },
    /// A gateway of a trunk, by its address.
    Gateway,
}

/// Why a request was not simply accepted. Shown in logs, on the dashboard, and to the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// The bytes are no well-formed request (mostly 400, RFC 3261 §8.2, §16.3, RFC 4475).
    Malformed {
        /// The status that the check asks for.
        status: u16,
        /// What is wrong, where.
        error: ParseError,
    },
    /// `Max-Forwards` reached zero (483, RFC 3261 §16.3).
    TooManyHops,
    /// The request has been here before, unchanged (482, RFC 5393).
    Loop,
    /// The Request-URI is of a scheme nobody here can route (416).
    UnsupportedScheme,
    /// `Require` or `Proxy-Require` names what we do not know (420); these are the names.
    Unsupported(String),
    /// The request is for a domain that is not ours, and we are nobody's open relay (403).
    NotOurDomain,
    /// The user is known but disabled (403, after proof).
    Disabled,
    /// The credentials are good but of somebody else (403).
    NotYours,
    /// No such user (404; to a REGISTER only after proof).
    UnknownUser,
    /// The user is known, and nowhere to be found (480).
    NotRegistered,
    /// The user is homed on another pool (301).
    HomedElsewhere,
    /// The user has a preferred server in this pool, and it is alive (301).
    PreferredServer,
    /// The user's pool is silent but not yet long enough (503, `Retry-After`).
    PartnerNotLost {
        /// Seconds until it is.
        retry_after: Duration,
    },
    /// A client that cannot live without presence met a server that has none (503, 4165).
    LegacyClientInSurvivalMode,
    /// Presence and its like are out of order or not available on the backup (480).
    NoUserServices,
    /// The store is lost: a registration could not be kept (503).
    StoreLost,
    /// This server is being drained and its pool has nobody else (503).
    Draining,
    /// Shorter than the shortest expiry granted (423, `Min-Expires`).
    TooBrief {
        /// The shortest.
        min: Duration,
    },
    /// A newer REGISTER of the same Call-ID has been here (500, RFC 3261 §10.3 step 7).
    OutOfOrder,
    /// `Contact: *` with anything else, or without `Expires: 0` (400, RFC 3261 §10.3 step 6).
    BadStar,
    /// A Contact that cannot be registered (400).
    BadContact,
    /// More bindings than one user may have (403).
    TooManyContacts,
    /// A method for the server itself that it does not do (405).
    NotAllowed,
    /// An event package nobody serves here (489).
    BadEvent,
    /// Nothing came from where the user should be (408).
    Timeout,
    /// The next hop could not be reached (503 on the way, then the next target).
    Unreachable,
    /// The caller gave up (487).
    Cancelled,
    /// A request inside a dialog that we are not part of (481).
    NoSuchDialog,
    /// More requests at once than this server keeps track of (503).
    Overloaded,
}

impl Why {
    /// The status it is answered with.
    pub fn status(&self) -> u16 {
        match self {
            Why::Malformed { status, .. } => *status,
            Why::TooManyHops => 483,
            Why::Loop => 482,
            Why::UnsupportedScheme => 416,
            Why::Unsupported(_) => 420,
            Why::NotOurDomain | Why::Disabled | Why::NotYours | Why::TooManyContacts => 403,
            Why::UnknownUser => 404,
            Why::NotRegistered | Why::NoUserServices => 480,
            Why::HomedElsewhere | Why::PreferredServer => 301,
            Why::PartnerNotLost { .. }
            | Why::LegacyClientInSurvivalMode
            | Why::StoreLost
            | Why::Draining
            | Why::Overloaded
            | Why::Unreachable => 503,
            Why::TooBrief { .. } => 423,
            Why::OutOfOrder => 500,
            Why::BadStar | Why::BadContact => 400,
            Why::NotAllowed => 405,
            Why::BadEvent => 489,
            Why::Timeout => 408,
            Why::Cancelled => 487,
            Why::NoSuchDialog => 481,
        }
    }

    /// Whether a REGISTER is refused like this only after its sender has proved who they are.
    pub(crate) fn needs_proof(&self) -> bool {
        match self {
            Why::Disabled
            | Why::NotYours
            | Why::UnknownUser
            | Why::HomedElsewhere
            | Why::PreferredServer
            | Why::PartnerNotLost { .. }
            | Why::LegacyClientInSurvivalMode
            | Why::StoreLost
            | Why::Draining
            | Why::TooBrief { .. }
            | Why::OutOfOrder
            | Why::BadStar
            | Why::BadContact
            | Why::TooManyContacts => true,
            Why::Malformed { .. }
            | Why::TooManyHops
            | Why::Loop
            | Why::UnsupportedScheme
            | Why::Unsupported(_)
            | Why::NotOurDomain
            | Why::NotRegistered
            | Why::NoUserServices
            | Why::NotAllowed
            | Why::BadEvent
            | Why::Timeout
            | Why::Unreachable
            | Why::Cancelled
            | Why::NoSuchDialog
            | Why::Overloaded => false,
        }
    }

    /// The number in `ms-diagnostics`. Below 5000 the model's own; from 54000 ours, where it has none.
    pub fn diagnostic(&self) -> Option<u16> {
        Some(match self {
            Why::UnknownUser => 1003,
            Why::NotOurDomain => 1005,
            Why::Unreachable | Why::Timeout => 1007,
            Why::Disabled => 4003,
            Why::NotYours => 4004,
            Why::NotRegistered => 4006,
            Why::BadEvent => 4055,
            Why::LegacyClientInSurvivalMode | Why::NoUserServices => 4165,
            Why::PartnerNotLost { .. } => 54001,
            Why::StoreLost => 54002,
            Why::Draining => 54003,
            Why::OutOfOrder => 54004,
            Why::Overloaded => 54006,
            Why::TooManyContacts => 54005,
            Why::Malformed { .. }
            | Why::TooManyHops
            | Why::Loop
            | Why::UnsupportedScheme
            | Why::Unsupported(_)
            | Why::HomedElsewhere
            | Why::PreferredServer
            | Why::TooBrief { .. }
            | Why::BadStar
            | Why::BadContact
            | Why::NotAllowed
            | Why::Cancelled
            | Why::NoSuchDialog => return None,
        })
    }

    /// What `Retry-After` says, where waiting helps. Rounded up: a client that comes a moment early is
    /// refused once more for nothing.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Why::PartnerNotLost { retry_after } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).map(|s| s.max(1))
            }
            Why::StoreLost | Why::LegacyClientInSurvivalMode => Some(30),
            Why::Draining | Why::Overloaded => Some(5),
            _ => None,
        }
    }
}

/// In words, lower case: for a log line, and for `reason=` on the wire.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Malformed { error, .. } => return error.fmt(f),
            Why::TooManyHops => "too many hops",
            Why::Loop => "loop",
            Why::UnsupportedScheme => "unsupported URI scheme",
            Why::Unsupported(names) => return write!(f, "unsupported extension {names}"),
            Why::NotOurDomain => "not our domain",
            Why::Disabled => "user disabled",
            Why::NotYours => "credentials of somebody else",
            Why::UnknownUser => "unknown user",
            Why::NotRegistered => "not registered",
            Why::HomedElsewhere => "homed elsewhere",
            Why::PreferredServer => "preferred server",
            Why::PartnerNotLost { .. } => "home pool silent, not yet lost",
            Why::LegacyClientInSurvivalMode => "client needs user services, which are unavailable",
            Why::NoUserServices => "user services unavailable",
            Why::StoreLost => "store lost",
            Why::Draining => "server is draining",
            Why::TooBrief { .. } => "interval too brief",
            Why::OutOfOrder => "older than what is registered",
            Why::BadStar => "Contact * needs Expires 0 and nothing beside it",
            Why::BadContact => "contact cannot be registered",
            Why::TooManyContacts => "too many contacts",
            Why::NotAllowed => "method not allowed",
            Why::BadEvent => "event package not served",
            Why::Timeout => "no answer",
            Why::Unreachable => "unreachable",
            Why::Cancelled => "cancelled",
            Why::NoSuchDialog => "no such dialog",
            Why::Overloaded => "too many requests at once",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (29_500, 30)] {
            let why = Why::PartnerNotLost { retry_after: Duration::from_millis(millis) };
            assert_eq!(why.retry_after_s(), Some(seconds), "{millis} ms");
        }
    }
}
