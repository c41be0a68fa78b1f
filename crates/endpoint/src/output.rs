//! Everything one client can ask of its world, carried out in the order given.

use std::time::Instant;

use bytes::Bytes;
use sip::locate::Query;
use sip::transport::{Flow, Target};

use crate::cache::CacheEntry;
use crate::event::Event;

/// One wish. Worlds may batch wishes, never reorder them.
#[derive(Clone, Debug)]
pub enum Output {
    /// Keep this for the next start, in place of what was kept before.
    Persist(CacheEntry),
    /// Send one message.
    Transmit {
        /// The way.
        flow: Flow,
        /// The message.
        bytes: Bytes,
    },
    /// Send a ping: CRLF CRLF (RFC 5626 §4.4.1).
    Ping {
        /// The way.
        flow: Flow,
    },
    /// Open a flow to this target and answer with [`Input::Opened`](crate::Input::Opened) or
    /// [`Input::OpenFailed`](crate::Input::OpenFailed). The brain has its own patience: an answer that
    /// comes after it is not awaited any more, and a flow opened that late is closed again.
    Open {
        /// The number to answer with.
        ticket: u64,
        /// Where to, how, and what TLS must prove.
        target: Target,
    },
    /// Close a flow, after what was handed over for it has been sent. No `FlowLost` is expected.
    Close {
        /// Which one.
        flow: Flow,
    },
    /// Ask DNS, and answer with [`Input::Resolved`](crate::Input::Resolved).
    Resolve(Query),
    /// Something worth a line in the log.
    Event(Event),
    /// Nothing more to say until this moment; `None`: until something happens.
    Timeout(Option<Instant>),
}
