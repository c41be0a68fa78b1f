//! What a world has seen happen: the evidence that stories and checkers judge.
//!
//! A [`History`] is a plain list of observations with times. The simulator writes it from the
//! bytes that pass through its network; the live lab writes it from what its clients and servers
//! report. Both write the same entries, so that one `expect` line means the same in both.
//!
//! Times are *story time*: zero when the world began, and scaled by a world that runs fast.

use std::fmt;
use std::time::Duration;

pub use resilience::homing::Service;

/// A server and the pool it belongs to; in the article's lab the two have one name.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct Place {
    /// FQDN of the server, or whatever name was tried if no server has it.
    pub server: String,
    /// FQDN of its pool; empty for a name that belongs to nobody.
    pub pool: String,
}

impl Place {
    /// Whether `name` means this place: the server or its pool, by full name or by first label.
    pub fn is(&self, name: &str) -> bool {
        let label = |full: &str| full.split('.').next() == Some(name);
        name == self.server
            || name == self.pool
            || (!name.contains('.') && (label(&self.server) || label(&self.pool)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)
    }
}

/// One thing that was seen, and when.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Story time.
    pub at: Duration,
    /// What it was.
    pub what: What,
}

/// The kinds of things that are seen. `user` is always the name of a device in the story, such
/// as `clientuser1` or, for a second device of the same user, `clientuser1#2`.
#[derive(Clone, Debug)]
pub enum What {
    /// A client asked DNS.
    Asked {
        /// Who asked.
        user: String,
        /// The question as it is logged: `SRV _sipinternaltls._tcp.example.test`.
        query: String,
    },
    /// A client tried to open a connection (or began to use a datagram flow).
    Tried {
        /// Who tried.
        user: String,
        /// To where; a name that no server has is kept with an empty pool.
        place: Place,
    },
    /// A client sent a REGISTER.
    Sent {
        /// Who sent it.
        user: String,
        /// To where.
        place: Place,
        /// Call-ID and CSeq number, which pair it with its answer.
        key: String,
    },
    /// A final answer to a REGISTER reached the client.
    Answered {
        /// Whose REGISTER it was.
        user: String,
        /// Who answered.
        place: Place,
        /// The status code.
        status: u16,
        /// Contacts of a 301, in the order given, each `host q`; empty otherwise.
        contacts: Vec<String>,
        /// The whole head of the answer, for lines that ask what it says.
        text: String,
        /// Call-ID and CSeq number.
        key: String,
    },
    /// A registration NOTIFY reached the client.
    Told {
        /// Who was told.
        user: String,
        /// By whom.
        place: Place,
        /// Body and diagnostics: `deregistered;event=preferred-registrar-change`.
        text: String,
        /// Host of `P-Preferred-Registrar`, if it had one.
        preferred: Option<String>,
    },
    /// A client's standing changed: what its user sees.
    Standing {
        /// Whose.
        user: String,
        /// What works now.
        service: Service,
        /// Where they are registered; `None` when signed out.
        place: Option<Place>,
    },
    /// A server changed its mind about a partner pool.
    Partner {
        /// The server that judges.
        server: Place,
        /// The pool that is judged.
        pool: String,
        /// The new state: `Up`, `Suspect`, `FailedOver`, `FailingBack`.
        state: String,
        /// How long that server had heard nothing from the pool, as the world measured it; `None` in a
        /// world that cannot measure it, and where an operator decided.
        silent: Option<Duration>,
    },
    /// A registration record was closed.
    Ended {
        /// Where it was kept.
        server: Place,
        /// Whose registration ended.
        user: String,
        /// `DeRegisterType` of the model: 1 client, 2 expired, 5 preferred registrar changed, …
        kind: u8,
    },
    /// A request other than REGISTER ended.
    Outcome {
        /// Who sent it.
        user: String,
        /// Final status; 408 where the client gave up by itself.
        status: u16,
    },
    /// A request from somebody reached a client.
    Rang {
        /// Who was reached.
        user: String,
        /// Its method.
        method: String,
    },
    /// A brain reported an event that has no entry of its own here.
    Said {
        /// The client or server.
        who: String,
        /// The event's log line.
        text: String,
    },
}

/// What a user sees, and since when.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What works.
    pub service: Service,
    /// Where they are registered; `None` when signed out.
    pub place: Option<Place>,
    /// Story time of the last change.
    pub since: Duration,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.service) {
            (Some(place), Service::Full) => write!(f, "{place} (full functionality)")?,
            (Some(place), Service::Limited) => write!(f, "{place} (limited functionality)")?,
            (_, _) => write!(f, "signed out")?,
        }
        write!(f, ", since {:.3}s", self.since.as_secs_f64())
    }
}

/// Everything seen so far, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The entries; times never decrease.
    seen: Vec<Seen>,
}

impl History {
    /// An empty history.
    pub fn new() -> Self {
        History::default()
    }

    /// Adds one observation. A time earlier than the last one is lifted to it, so that reports
    /// which crossed threads on their way here still read in order.
    pub fn add(&mut self, at: Duration, what: What) {
        let at = self.seen.last().map_or(at, |last| at.max(last.at));
        self.seen.push(Seen { at, what });
    }

    /// All entries.
    pub fn all(&self) -> &[Seen] {
        &self.seen
    }

    /// The entries from number `from` on.
    pub fn since(&self, from: usize) -> &[Seen] {
        self.seen.get(from..).unwrap_or(&[])
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing has been seen yet.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Where a user stands now: the last word said about them.
    pub fn standing(&self, user: &str) -> Standing {
        self.standing_before(user, self.seen.len())
    }

    /// Where a user stood just before entry number `end`.
    pub fn standing_before(&self, user: &str, end: usize) -> Standing {
        let entries = self.seen.get(..end).unwrap_or(&self.seen);
        entries
            .iter()
            .rev()
            .find_map(|seen| match &seen.what {
                What::Standing { user: who, service, place } if who == user => {
                    Some(Standing { service: *service, place: place.clone(), since: seen.at })
                }
                _ => None,
            })
            .unwrap_or(Standing { service: Service::None, place: None, since: Duration::ZERO })
    }
}
