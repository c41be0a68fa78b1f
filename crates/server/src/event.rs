//! What happened: one enum for log lines, metrics, dashboard and tests.
//!
//! `Display` gives the log line without the time; [`Event::name`] the metric. Stories compare the lines
//! as text, so nothing random (ports, tags, branches) may stand in them.

use std::fmt;
use std::time::Duration;

use resilience::partner;
use resilience::topology::{PoolName, ServerName};
use sip::method::Method;
use sip::uri::AddressOfRecord;

use crate::decision::Why;
use crate::output::DeRegister;

/// Something that happened to a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A device has a binding now, or still: 200 to a REGISTER.
    Registered {
        /// Whose.
        aor: AddressOfRecord,
        /// Granted.
        expires: Duration,
        /// The binding was there before.
        refreshed: bool,
        /// We are the user's backup.
        on_backup: bool,
        /// Presence and its like are not available to the user.
        limited: bool,
    },
    /// A binding has ended.
    Ended {
        /// Whose.
        aor: AddressOfRecord,
        /// Why.
        why: DeRegister,
    },
    /// A REGISTER was sent elsewhere: 301.
    Redirected {
        /// Whose.
        aor: AddressOfRecord,
        /// The names in the Contacts, with q in thousandths; none for a single one.
        to: Vec<(String, Option<u16>)>,
        /// Why.
        why: Why,
    },
    /// A request was refused.
    Refused {
        /// What was asked.
        method: Method,
        /// For whom, where the request says it.
        aor: Option<AddressOfRecord>,
        /// Why; the status follows from it.
        why: Why,
    },
    /// Somebody must first prove who they are: 401 or 407. Also the answer to a wrong password.
    Challenged {
        /// What was asked.
        method: Method,
        /// Who they say they are.
        aor: AddressOfRecord,
        /// 401 or 407.
        status: u16,
        /// The credentials were right but outlived.
        stale: bool,
    },
    /// Bytes came that could not even be answered.
    Discarded {
        /// In words.
        why: Why,
    },
    /// A request to a user ended.
    Delivered {
        /// What.
        method: Method,
        /// To whom.
        callee: AddressOfRecord,
        /// The final answer.
        status: u16,
        /// The last place tried: `here`, a pool, a trunk.
        by: String,
    },
    /// The machine that watches a partner pool moved, or its wait began anew.
    Partner(partner::Event),
    /// A server of a partner pool, or another one of our own, answers again or no longer.
    ServerHeard {
        /// Which.
        server: ServerName,
        /// It answers.
        alive: bool,
    },
    /// A connection to a watched server could not be made or used.
    PeerTrouble {
        /// Which.
        server: ServerName,
        /// In words.
        why: String,
    },
    /// A user was sent home to their primary pool.
    SentHome {
        /// Who.
        aor: AddressOfRecord,
        /// Where to.
        pool: PoolName,
        /// By which means.
        by: Means,
    },
    /// The store is lost: nothing that must be kept is accepted.
    StoreLost {
        /// In the world's words.
        why: String,
    },
    /// The store is back.
    StoreBack,
    /// User services were stopped or started.
    UserServices {
        /// They work.
        available: bool,
    },
    /// The server takes no new registrations, or takes them again.
    Draining(bool),
    /// A new topology or directory is in use.
    Reloaded {
        /// Its version.
        topology: u64,
        /// Its version.
        directory: u64,
    },
    /// A publication was refused because it is older than what is in use.
    ReloadRefused {
        /// The version offered.
        offered: u64,
        /// The version in use.
        current: u64,
    },
    /// An operator's order about a partner pool was not carried out.
    OrderRefused {
        /// The pool.
        pool: PoolName,
        /// Why not.
        why: OrderTrouble,
    },
    /// Bindings were read back at start.
    Restored {
        /// How many.
        bindings: usize,
    },
}

/// How a user is told to go home.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Means {
    /// NOTIFY `preferred-registrar-change`.
    Notify,
    /// Their connection was closed.
    Close,
    /// Nothing now; the next refresh is answered 301.
    NextRefresh,
}

/// Why an operator's order was not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OrderTrouble {
    /// This server watches no pool of that name.
    NotWatched,
    /// The state of the pool does not allow it.
    Refused(partner::Refused),
}

impl fmt::Display for OrderTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderTrouble::NotWatched => f.write_str("not watched from here"),
            OrderTrouble::Refused(why) => why.fmt(f),
        }
    }
}

impl Event {
    /// The metric.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Registered { .. } => "registered",
            Event::Ended { .. } => "ended",
            Event::Redirected { .. } => "redirected",
            Event::Refused { .. } => "refused",
            Event::Challenged { .. } => "challenged",
            Event::Discarded { .. } => "discarded",
            Event::Delivered { .. } => "delivered",
            Event::Partner(_) => "partner",
            Event::ServerHeard { .. } => "server_heard",
            Event::PeerTrouble { .. } => "peer_trouble",
            Event::SentHome { .. } => "sent_home",
            Event::StoreLost { .. } => "store_lost",
            Event::StoreBack => "store_back",
            Event::UserServices { .. } => "user_services",
            Event::Draining(_) => "draining",
            Event::Reloaded { .. } => "reloaded",
            Event::ReloadRefused { .. } => "reload_refused",
            Event::OrderRefused { .. } => "order_refused",
            Event::Restored { .. } => "restored",
        }
    }

    /// Whether anybody can make it happen as often as they like, or everybody does: too much for a log.
    pub fn is_noise(&self) -> bool {
        match self {
            Event::Registered { refreshed, .. } => *refreshed,
            Event::Challenged { .. } | Event::Discarded { .. } => true,
            Event::Refused { why, .. } => !why.needs_proof(),
            _ => false,
        }
    }

    /// The user it is about, if it is about one.
    pub fn aor(&self) -> Option<&AddressOfRecord> {
        match self {
            Event::Registered { aor, .. }
            | Event::Ended { aor, .. }
            | Event::Redirected { aor, .. }
            | Event::Challenged { aor, .. }
            | Event::SentHome { aor, .. } => Some(aor),
            Event::Refused { aor, .. } => aor.as_ref(),
            Event::Delivered { callee, .. } => Some(callee),
            _ => None,
        }
    }
}

/// An address-of-record as people say it: without `sip:`.
pub fn plain(aor: &AddressOfRecord) -> &str {
    aor.as_str().strip_prefix("sip:").unwrap_or(aor.as_str())
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Registered { aor, expires, refreshed, on_backup, limited } => {
                write!(f, "{} REGISTER 200 expires {} s", plain(aor), expires.as_secs())?;
                for (said, word) in [(refreshed, "refreshed"), (on_backup, "on backup"), (limited, "limited")]
                {
                    if *said {
                        write!(f, ", {word}")?;
                    }
                }
                Ok(())
            }
            Event::Ended { aor, why } => write!(f, "{} registration ended ({why})", plain(aor)),
            Event::Redirected { aor, to, why } => {
                write!(f, "{} REGISTER 301 ", plain(aor))?;
                for (place, (name, q)) in to.iter().enumerate() {
                    let comma = if place > 0 { ", " } else { "" };
                    match q {
                        Some(q) => write!(f, "{comma}{name} q={}", Q(*q))?,
                        None => write!(f, "{comma}{name}")?,
                    }
                }
                write!(f, " ({why})")
            }
            Event::Refused { method, aor, why } => {
                match aor {
                    Some(aor) => write!(f, "{} {method} {} ({why})", plain(aor), why.status())?,
                    None => write!(f, "{method} {} ({why})", why.status())?,
                }
                match why.retry_after_s() {
                    Some(seconds) => write!(f, ", retry after {seconds} s"),
                    None => Ok(()),
                }
            }
            Event::Challenged { method, aor, status, stale } => {
                write!(f, "{} {method} {status}{}", plain(aor), if *stale { " (stale)" } else { "" })
            }
            Event::Discarded { why } => write!(f, "message discarded ({why})"),
            Event::Delivered { method, callee, status, by } => {
                write!(f, "{method} to {} {status} by {by}", plain(callee))
            }
            Event::Partner(event) => event.fmt(f),
            Event::ServerHeard { server, alive: true } => write!(f, "server {server} answers"),
            Event::ServerHeard { server, alive: false } => write!(f, "server {server} is silent"),
            Event::PeerTrouble { server, why } => write!(f, "server {server}: {why}"),
            Event::SentHome { aor, pool, by } => write!(f, "{} sent home to {pool} ({by})", plain(aor)),
            Event::StoreLost { why } => write!(f, "store lost ({why})"),
            Event::StoreBack => f.write_str("store is back"),
            Event::UserServices { available: true } => f.write_str("user services started"),
            Event::UserServices { available: false } => f.write_str("user services stopped"),
            Event::Draining(true) => f.write_str("draining"),
            Event::Draining(false) => f.write_str("draining ended"),
            Event::Reloaded { topology, directory } => {
                write!(f, "reloaded: topology {topology}, directory {directory}")
            }
            Event::ReloadRefused { offered, current } => {
                write!(f, "reload refused: version {offered} is older than {current}")
            }
            Event::OrderRefused { pool, why } => write!(f, "order about {pool} refused: {why}"),
            Event::Restored { bindings } => write!(f, "restored {bindings} bindings"),
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Means::Notify => "notified",
            Means::Close => "connection closed",
            Means::NextRefresh => "at the next refresh",
        })
    }
}

/// A q-value from thousandths, as short as RFC 3261 §25.1 allows: `0.7`, `1`, `0.125`.
pub(crate) struct Q(pub(crate) u16);

impl fmt::Display for Q {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Q(thousandths) = *self;
        if thousandths >= 1000 {
            return f.write_str("1");
        }
        if thousandths == 0 {
            return f.write_str("0");
        }
        let digits = format!("{thousandths:03}");
        write!(f, "0.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(text: &str) -> AddressOfRecord {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_redirect_reads_as_in_the_stories() {
        let event = Event::Redirected {
            aor: aor("alice@example.test"),
            to: vec![("fe2.example.test".into(), Some(700)), ("fe1.example.test".into(), Some(300))],
            why: Why::HomedElsewhere,
        };
        assert_eq!(
            event.to_string(),
            "alice@example.test REGISTER 301 fe2.example.test q=0.7, fe1.example.test q=0.3 (homed elsewhere)"
        );
    }

    #[test]
    fn q_values_are_short_and_exact() {
        for (thousandths, text) in
            [(0, "0"), (5, "0.005"), (125, "0.125"), (300, "0.3"), (700, "0.7"), (1000, "1")]
        {
            assert_eq!(Q(thousandths).to_string(), text);
        }
    }
}
