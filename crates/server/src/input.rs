//! What can happen to a server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use resilience::partner;
use resilience::topology::{PoolName, ServerName, Topology};
use sip::locate::{Answer, Query};
use sip::transport::{Flow, FlowLoss};

use crate::directory::Directory;

/// Everything the world can tell a server. One input, then take outputs until [`crate::Output::Timeout`].
#[derive(Clone, Debug)]
pub enum Input {
    /// One datagram, or one message framed from a stream.
    Received {
        /// Which way it came.
        flow: Flow,
        /// The message, whole.
        bytes: Bytes,
    },
    /// The same by way of another shard, which said `Output::Handover`. It is not handed on again.
    HandedOver {
        /// Which way it came.
        flow: Flow,
        /// The message, whole.
        bytes: Bytes,
    },
    /// A keepalive ping: CRLF CRLF (RFC 5626 §4.4.1).
    Ping {
        /// Which way it came.
        flow: Flow,
    },
    /// A connection stands: accepted, or opened by us.
    FlowOpened {
        /// Its name from now on.
        flow: Flow,
        /// Who the other side proved to be.
        peer: Peer,
    },
    /// The answer to `Output::Open`. `FlowOpened` has been said before.
    Opened {
        /// Which question this answers.
        ticket: u64,
        /// The connection.
        flow: Flow,
    },
    /// The other answer to `Output::Open`.
    OpenFailed {
        /// Which question this answers.
        ticket: u64,
        /// Why there is no connection.
        why: FlowLoss,
    },
    /// A connection is gone.
    FlowLost {
        /// Which one.
        flow: Flow,
        /// How it ended.
        why: FlowLoss,
    },
    /// The answer to `Output::Resolve`.
    Resolved {
        /// The question.
        query: Query,
        /// What the resolver said.
        answer: Answer,
    },
    /// The store takes nothing any more: from now on no 200 to a REGISTER that changes something.
    StoreFailed {
        /// In words for the operator (disk full, database corrupt).
        why: String,
    },
    /// The store takes changes again.
    StoreRecovered,
    /// What shard 0 knows about the other pools; for the other shards.
    Outlook(Arc<Outlook>),
    /// The operator wants something.
    Told(Command),
    /// The deadline given with `Output::Timeout` has come.
    Timeout,
}

/// Who is at the other end of a connection, as far as proved.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    /// The DNS names of a certificate that was verified against our roots. Empty: nothing was proved.
    pub names: Vec<String>,
}

/// What the operator can tell a running server.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take no new registrations; say so to the partners; send the users of this server elsewhere in the pool.
    Drain,
    /// Take registrations again.
    Undrain,
    /// Serve this pool's users now, heartbeat or not.
    FailOver(PoolName),
    /// Send this pool's users home now.
    FailBack(PoolName),
    /// Do not send anybody home to this pool until told so.
    PauseFailback(PoolName),
    /// Undo `PauseFailback`.
    ResumeFailback(PoolName),
    /// A new version was published.
    Reload {
        /// The new topology; an older version than the one shown before is refused.
        topology: Arc<Topology>,
        /// The new directory; the same holds.
        directory: Arc<Directory>,
    },
    /// Presence, contacts and conferences are out of order; registrations and calls go on.
    StopUserServices,
    /// They work again.
    StartUserServices,
}

/// What this server believes about the other pools, as decided by shard 0. Replaced whole when it changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outlook {
    /// Each watched pool. One that is not here is believed to be up.
    pub pools: BTreeMap<PoolName, PoolOutlook>,
    /// Servers that are being watched and do not answer, or say that they are unfit.
    pub silent: Vec<ServerName>,
    /// Servers that are being watched and have not answered once since we began to.
    pub unmet: Vec<ServerName>,
    /// The pools that each watched server says to be up.
    pub told_up: BTreeMap<ServerName, BTreeSet<PoolName>>,
}

/// One pool as seen from here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolOutlook {
    /// The state of the machine that watches it.
    pub state: partner::State,
    /// Since when.
    pub since: Instant,
    /// While `Suspect`: when it will be taken for lost.
    pub lost_at: Option<Instant>,
}

impl Outlook {
    /// The state of the machine that watches `pool`; `Up` for a pool nobody watches.
    pub fn state(&self, pool: &PoolName) -> partner::State {
        self.pools.get(pool).map_or(partner::State::Up, |seen| seen.state)
    }

    /// True if the server would send users of `pool` there.
    pub fn says_up(&self, server: &ServerName, pool: &PoolName) -> bool {
        self.told_up.get(server).is_some_and(|up| up.contains(pool))
    }

    /// True unless the server is watched and silent. One that was never heard has the benefit of the doubt until it has
    /// been silent for long enough.
    pub fn is_alive(&self, server: &ServerName) -> bool {
        !self.silent.contains(server)
    }
}
