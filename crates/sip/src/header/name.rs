//! Header names: known ones as a small enum, with canonical spelling and compact form (RFC 3261 §7.3.3).
//!
//! Names compare without case (RFC 3261 §7.3.1). A name nobody here knows is [`HeaderName::Other`] in the
//! index, and its spelling stays in the message's bytes.

use std::fmt;

/// Declares the enum, its spellings and its compact forms from one table.
macro_rules! header_names {
    ($($(#[$doc:meta])* $variant:ident = $canonical:literal $(, $compact:literal)?;)*) => {
        /// The name of a header, or [`HeaderName::Other`] for one this crate does not know.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum HeaderName {
            $($(#[$doc])* $variant,)*
            /// Any other; ask for it by its spelling.
            Other,
        }

        /// Variant and canonical spelling, in the order of the variants.
        const NAMES: &[(HeaderName, &str)] = &[$((HeaderName::$variant, $canonical),)*];

        /// The variant a one-letter name stands for.
        fn compact(letter: u8) -> HeaderName {
            match letter.to_ascii_lowercase() {
                $($($compact => HeaderName::$variant,)?)*
                _ => HeaderName::Other,
            }
        }
    };
}

header_names! {
    /// Media types the sender understands (RFC 3261 §20.1).
    Accept = "Accept";
    /// Which devices the caller would like (RFC 3841 §9.2).
    AcceptContact = "Accept-Contact", b'a';
    /// Content codings the sender understands (RFC 3261 §20.2).
    AcceptEncoding = "Accept-Encoding";
    /// Languages the sender understands (RFC 3261 §20.3).
    AcceptLanguage = "Accept-Language";
    /// Another ring tone (RFC 3261 §20.4).
    AlertInfo = "Alert-Info";
    /// Methods the sender understands (RFC 3261 §20.5).
    Allow = "Allow";
    /// Event packages the sender understands (RFC 6665 §8.2.2).
    AllowEvents = "Allow-Events", b'u';
    /// The server's proof that it knows the secret too (RFC 3261 §20.6).
    AuthenticationInfo = "Authentication-Info";
    /// Credentials for the server that answers (RFC 3261 §20.7).
    Authorization = "Authorization";
    /// With From and To tags the name of a dialog; alone the name of a registration's life (RFC 3261 §20.8).
    CallId = "Call-ID", b'i';
    /// More about the caller (RFC 3261 §20.9).
    CallInfo = "Call-Info";
    /// Where to reach the sender (RFC 3261 §20.10).
    Contact = "Contact", b'm';
    /// How the body is meant (RFC 3261 §20.11).
    ContentDisposition = "Content-Disposition";
    /// How the body is coded (RFC 3261 §20.12).
    ContentEncoding = "Content-Encoding", b'e';
    /// The body's language (RFC 3261 §20.13).
    ContentLanguage = "Content-Language";
    /// How many bytes of body (RFC 3261 §20.14).
    ContentLength = "Content-Length", b'l';
    /// What the body is (RFC 3261 §20.15).
    ContentType = "Content-Type", b'c';
    /// Order of requests (RFC 3261 §20.16).
    CSeq = "CSeq";
    /// Wall time at the sender (RFC 3261 §20.17).
    Date = "Date";
    /// More about an error (RFC 3261 §20.18).
    ErrorInfo = "Error-Info";
    /// Event package (RFC 6665 §8.2.1).
    Event = "Event", b'o';
    /// How long it holds, in seconds (RFC 3261 §20.19).
    Expires = "Expires";
    /// How often a flow should be kept alive (RFC 5626 §11.2).
    FlowTimer = "Flow-Timer";
    /// Who sends (RFC 3261 §20.20).
    From = "From", b'f';
    /// Proof of the caller's identity (RFC 8224).
    Identity = "Identity", b'y';
    /// Which call is returned (RFC 3261 §20.21).
    InReplyTo = "In-Reply-To";
    /// Hops left (RFC 3261 §20.22).
    MaxForwards = "Max-Forwards";
    /// Version of MIME (RFC 3261 §20.24).
    MimeVersion = "MIME-Version";
    /// The shortest expiry a registrar grants (RFC 3261 §20.23).
    MinExpires = "Min-Expires";
    /// The shortest session timer (RFC 4028 §5).
    MinSe = "Min-SE";
    /// The sender's organisation (RFC 3261 §20.25).
    Organization = "Organization";
    /// Identity asserted between trusted servers (RFC 3325 §9.1).
    PAssertedIdentity = "P-Asserted-Identity";
    /// Identity the caller prefers (RFC 3325 §9.2).
    PPreferredIdentity = "P-Preferred-Identity";
    /// Proxies between registrar and client (RFC 3327).
    Path = "Path";
    /// How urgent (RFC 3261 §20.26).
    Priority = "Priority";
    /// What to hide (RFC 3323 §4.2).
    Privacy = "Privacy";
    /// A proxy's challenge (RFC 3261 §20.27).
    ProxyAuthenticate = "Proxy-Authenticate";
    /// Credentials for a proxy (RFC 3261 §20.28).
    ProxyAuthorization = "Proxy-Authorization";
    /// Extensions each proxy must understand (RFC 3261 §20.29).
    ProxyRequire = "Proxy-Require";
    /// Acknowledges a reliable provisional answer (RFC 3262 §7.2).
    RAck = "RAck";
    /// Why a request was sent (RFC 3326).
    Reason = "Reason";
    /// Proxies that stay in the dialog (RFC 3261 §20.30).
    RecordRoute = "Record-Route";
    /// Whom to call instead (RFC 3515 §2.1).
    ReferTo = "Refer-To", b'r';
    /// Who asked for it (RFC 3892).
    ReferredBy = "Referred-By", b'b';
    /// Which devices the caller would not like (RFC 3841 §9.2).
    RejectContact = "Reject-Contact", b'j';
    /// Which dialog this one takes the place of (RFC 3891).
    Replaces = "Replaces";
    /// Where to answer (RFC 3261 §20.31).
    ReplyTo = "Reply-To";
    /// How proxies should treat the request (RFC 3841 §9.1).
    RequestDisposition = "Request-Disposition", b'd';
    /// Extensions the answerer must understand (RFC 3261 §20.32).
    Require = "Require";
    /// When to try again, in seconds (RFC 3261 §20.33).
    RetryAfter = "Retry-After";
    /// Proxies still to be passed (RFC 3261 §20.34).
    Route = "Route";
    /// Number of a reliable provisional answer (RFC 3262 §7.1).
    RSeq = "RSeq";
    /// What software answered (RFC 3261 §20.35).
    Server = "Server";
    /// Proxies for requests after registration (RFC 3608).
    ServiceRoute = "Service-Route";
    /// Session timer (RFC 4028 §4).
    SessionExpires = "Session-Expires", b'x';
    /// Names a published state (RFC 3903 §11.3.1).
    SipEtag = "SIP-ETag";
    /// Which published state is meant (RFC 3903 §11.3.2).
    SipIfMatch = "SIP-If-Match";
    /// What it is about (RFC 3261 §20.36).
    Subject = "Subject", b's';
    /// How a subscription stands (RFC 6665 §8.2.3).
    SubscriptionState = "Subscription-State";
    /// Extensions the sender understands (RFC 3261 §20.37).
    Supported = "Supported", b'k';
    /// When it was sent (RFC 3261 §20.38).
    Timestamp = "Timestamp";
    /// To whom (RFC 3261 §20.39).
    To = "To", b't';
    /// Extensions asked for and not understood (RFC 3261 §20.40).
    Unsupported = "Unsupported";
    /// What software asked (RFC 3261 §20.41).
    UserAgent = "User-Agent";
    /// Where it came through (RFC 3261 §20.42).
    Via = "Via", b'v';
    /// What was odd (RFC 3261 §20.43).
    Warning = "Warning";
    /// A server's challenge (RFC 3261 §20.44).
    WwwAuthenticate = "WWW-Authenticate";
}

impl HeaderName {
    /// Every known name, in the order of the enum.
    pub fn all() -> impl Iterator<Item = HeaderName> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The header of that name, long or compact, in any case.
    pub fn of(name: &str) -> HeaderName {
        HeaderName::of_bytes(name.as_bytes())
    }

    /// [`HeaderName::of`] for bytes straight from the network.
    pub fn of_bytes(name: &[u8]) -> HeaderName {
        if let [letter] = name {
            return compact(*letter);
        }
        let (Some(&first), Some(&last)) = (name.first(), name.last()) else {
            return HeaderName::Other;
        };
        let mut slot = slot(name.len(), first, last);
        // Each probe costs one comparison; a free slot ends the search.
        while let Some((candidate, canonical)) = NAMES.get(usize::from(TABLE[slot])) {
            if canonical.as_bytes().eq_ignore_ascii_case(name) {
                return *candidate;
            }
            slot = (slot + 1) % SLOTS;
        }
        HeaderName::Other
    }

    /// The spelling we print; empty for [`HeaderName::Other`].
    pub fn as_str(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |(_, canonical)| canonical)
    }

    /// Its place in a set of names.
    pub(crate) fn bit(self) -> u128 {
        1 << (self as u8)
    }

    /// True for headers that say what to do, and may say it once only (RFC 3261 §7.3.1, §20; RFC 4475 §3.3.8).
    /// Two of a kind that only inform, as two User-Agents, are nobody's reason to refuse (RFC 3261 §16.3).
    pub fn is_single(self) -> bool {
        use HeaderName as H;
        matches!(
            self,
            H::CallId
                | H::CSeq
                | H::ContentLength
                | H::ContentType
                | H::ContentDisposition
                | H::Event
                | H::Expires
                | H::FlowTimer
                | H::From
                | H::MaxForwards
                | H::MinExpires
                | H::MinSe
                | H::RAck
                | H::ReferTo
                | H::ReferredBy
                | H::Replaces
                | H::RetryAfter
                | H::RSeq
                | H::SessionExpires
                | H::SipEtag
                | H::SipIfMatch
                | H::SubscriptionState
                | H::To
        )
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Size of [`TABLE`]; several times the number of names keeps the probes short.
const SLOTS: usize = 256;

/// Open addressing over length, first and last letter; 255 is a free slot.
static TABLE: [u8; SLOTS] = table();

const fn slot(length: usize, first: u8, last: u8) -> usize {
    (length * 7 + (first | 0x20) as usize * 31 + (last | 0x20) as usize * 3) % SLOTS
}

const fn table() -> [u8; SLOTS] {
    let mut table = [255u8; SLOTS];
    let mut index = 0;
    while index < NAMES.len() {
        let name = NAMES[index].1.as_bytes();
        let mut at = slot(name.len(), name[0], name[name.len() - 1]);
        while table[at] != 255 {
            at = (at + 1) % SLOTS;
        }
        table[at] = index as u8;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for name in HeaderName::all() {
            let canonical = name.as_str();
            for spelling in [canonical.to_owned(), canonical.to_lowercase(), canonical.to_uppercase()] {
                assert_eq!(HeaderName::of(&spelling), name, "{spelling}");
            }
        }
    }

    #[test]
    fn compact_forms_are_those_the_registry_lists() {
        let listed = [
            ("a", HeaderName::AcceptContact),
            ("b", HeaderName::ReferredBy),
            ("c", HeaderName::ContentType),
            ("d", HeaderName::RequestDisposition),
            ("e", HeaderName::ContentEncoding),
            ("f", HeaderName::From),
            ("i", HeaderName::CallId),
            ("j", HeaderName::RejectContact),
            ("k", HeaderName::Supported),
            ("l", HeaderName::ContentLength),
            ("m", HeaderName::Contact),
            ("o", HeaderName::Event),
            ("r", HeaderName::ReferTo),
            ("s", HeaderName::Subject),
            ("t", HeaderName::To),
            ("u", HeaderName::AllowEvents),
            ("v", HeaderName::Via),
            ("x", HeaderName::SessionExpires),
            ("y", HeaderName::Identity),
        ];
        for (letter, name) in listed {
            assert_eq!(HeaderName::of(letter), name);
            assert_eq!(HeaderName::of(&letter.to_uppercase()), name);
        }
        let known = (b'a'..=b'z').filter(|letter| compact(*letter) != HeaderName::Other).count();
        assert_eq!(known, listed.len());
    }

    #[test]
    fn a_stranger_is_other() {
        for name in ["", "Z", "XY", "NewFangledHeader", "Vias", "-", "Contact "] {
            assert_eq!(HeaderName::of(name), HeaderName::Other, "{name:?}");
        }
    }

    #[test]
    fn the_index_of_a_message_has_a_bit_for_each_name() {
        assert!(NAMES.len() < 128);
    }
}
