//! What a client announces that it understands: the few tags of the Lync family, and ours.
//!
//! | announced | as | then |
//! | --- | --- | --- |
//! | `ms-cluster-failover` | Supported | it walks a Contact list in falling q, and may be told to go home by NOTIFY |
//! | `ms-userservices-state-notification` | Supported | it can live without presence |
//! | `rehome-registrars` | Supported | it remembers every registrar of its user; implies the two above |
//! | any other `ms-…`, `msrtc-…` | Supported | it expects `presence-state` |
//! | `ms-keep-alive` | header | it pings its connection and is told how often |
//!
//! A client that announces none of these is a plain client of RFC 3261 and sees none of it.

use std::fmt;

use sip::header::HeaderName;
use sip::message::Message;

/// Our own tag.
pub const TAG_REGISTRARS: &str = "rehome-registrars";
/// The model's tag of clients that walk a Contact list.
pub const TAG_CLUSTER_FAILOVER: &str = "ms-cluster-failover";
/// The model's tag of clients that can live without presence.
pub const TAG_USERSERVICES: &str = "ms-userservices-state-notification";

/// What one client understands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dialect {
    /// Lists our tag.
    pub registrars: bool,
    /// Lists `ms-cluster-failover`.
    pub cluster_failover: bool,
    /// Lists `ms-userservices-state-notification`.
    pub userservices: bool,
    /// Lists any tag of the Lync family, those two included.
    pub lync: bool,
    /// Sent `ms-keep-alive`: pings its connection, so losing it means that the client is gone.
    pub keepalive: bool,
    /// Is SIPE by its own word, which treats every notice of the registrar as the end of the world.
    pub sipe: bool,
}

impl Dialect {
    /// Reads a request's announcements.
    pub fn of(request: &Message) -> Dialect {
        let mut dialect = Dialect::default();
        for tag in request.values(HeaderName::Supported) {
            let is = |known: &str| tag.eq_ignore_ascii_case(known);
            if is(TAG_REGISTRARS) {
                dialect.registrars = true;
            } else if has_prefix(tag, "ms-") || has_prefix(tag, "msrtc-") {
                dialect.lync = true;
                dialect.cluster_failover |= is(TAG_CLUSTER_FAILOVER);
                dialect.userservices |= is(TAG_USERSERVICES);
            }
        }
        dialect.keepalive = request.header_named("ms-keep-alive").is_some();
        // It says `Purple/2.14.12 Sipe/1.25.0 (linux-x86_64)`.
        let is_sipe = |agent: &str| agent.to_ascii_lowercase().contains("sipe/");
        dialect.sipe = request.header(HeaderName::UserAgent).is_some_and(is_sipe);
        dialect
    }

    /// Gets `presence-state` in its 200.
    pub fn wants_presence_state(self) -> bool {
        self.lync || self.registrars
    }

    /// May be told to go home by NOTIFY.
    pub fn can_be_told_home(self) -> bool {
        (self.cluster_failover || self.registrars) && !self.sipe
    }

    /// Can register where presence is not available. A plain client never asked for presence.
    pub fn lives_without_user_services(self) -> bool {
        self.userservices || self.registrars || !self.lync
    }

    /// Pings its connection, so that losing it means that the client is gone.
    pub fn watches_its_flow(self) -> bool {
        self.keepalive || self.registrars
    }
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The words by which a dialect survives a restart, in order.
const WORDS: [&str; 6] = ["registrars", "cluster-failover", "userservices", "lync", "keepalive", "sipe"];

impl Dialect {
    fn flags(self) -> [bool; 6] {
        [self.registrars, self.cluster_failover, self.userservices, self.lync, self.keepalive, self.sipe]
    }

    /// Reads what `Display` printed; words nobody knows (from another version) are passed over.
    pub fn from_text(text: &str) -> Dialect {
        let said = |word: &str| text.split(' ').any(|other| other == word);
        let [registrars, cluster_failover, userservices, lync, keepalive, sipe] = WORDS.map(said);
        Dialect { registrars, cluster_failover, userservices, lync, keepalive, sipe }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (word, said) in WORDS.into_iter().zip(self.flags()) {
            if said {
                f.write_str(if first { "" } else { " " })?;
                f.write_str(word)?;
                first = false;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_survives_the_disk() {
        let dialect = Dialect { registrars: true, lync: true, keepalive: true, ..Dialect::default() };
        assert_eq!(dialect.to_string(), "registrars lync keepalive");
        assert_eq!(Dialect::from_text(&dialect.to_string()), dialect);
        assert_eq!(Dialect::from_text(""), Dialect::default());
        assert_eq!(Dialect::from_text("tomorrow lync"), Dialect { lync: true, ..Dialect::default() });
    }
}
