//! Everything that can happen to one client, and what its user may want.
//!
//! The world turns sockets, DNS answers and deadlines into [`Input`]s; the brain has no other sense.

use bytes::Bytes;
use sip::locate::{Answer, Query};
use sip::method::Method;
use sip::transport::{Flow, FlowLoss};

/// One thing that happened. Handed to [`Endpoint::handle_input`](crate::Endpoint::handle_input), whose
/// outputs are then drained before the next.
#[derive(Clone, Debug)]
pub enum Input {
    /// One datagram, or one message framed from a stream.
    Received {
        /// The flow it came by.
        flow: Flow,
        /// The message, whole.
        bytes: Bytes,
    },
    /// The answer to a ping, a single CRLF (RFC 5626 §4.4.1), or any other byte that is no message yet:
    /// the other side lives.
    Pong {
        /// The flow it came by.
        flow: Flow,
    },
    /// What [`Output::Open`](crate::Output::Open) asked for is there, TLS included. For UDP: a local
    /// address has been chosen.
    Opened {
        /// The number given with the wish.
        ticket: u64,
        /// The flow from now on.
        flow: Flow,
    },
    /// What [`Output::Open`](crate::Output::Open) asked for could not be had.
    OpenFailed {
        /// The number given with the wish.
        ticket: u64,
        /// Why not.
        why: FlowLoss,
    },
    /// A flow that was open is gone.
    FlowLost {
        /// Which one.
        flow: Flow,
        /// Why.
        why: FlowLoss,
    },
    /// The answer to one [`Output::Resolve`](crate::Output::Resolve).
    Resolved {
        /// The question, as asked.
        query: Query,
        /// What DNS said, or how it failed.
        answer: Answer,
    },
    /// The user wants something.
    Told(Command),
    /// The moment named by the last [`Output::Timeout`](crate::Output::Timeout) has come. Harmless when
    /// it comes early, late or twice.
    Timeout,
}

/// What the user of this client may want.
#[derive(Clone, Debug)]
pub enum Command {
    /// Sign in, and stay signed in until told otherwise. Without effect when already wanted.
    SignIn,
    /// Take the registration back and forget the flow. Always ends with
    /// [`Event::SignedOut`](crate::Event::SignedOut), at the latest after 5 s.
    SignOut,
    /// Send a request outside any dialog through the registrar: MESSAGE, OPTIONS, INVITE.
    /// Its end is told by [`Event::Answered`](crate::Event::Answered) or
    /// [`Event::Unanswered`](crate::Event::Unanswered).
    Request {
        /// The caller's number for it, repeated in the events about it.
        id: u64,
        /// The verb.
        method: Method,
        /// Whom: a SIP URI, or `user` and `user@domain` which become one.
        to: String,
        /// Further header lines, name and value.
        headers: Vec<(String, String)>,
        /// The type of the body; ignored when the body is empty.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// End what the INVITE with this number began: CANCEL before the answer, BYE after it.
    HangUp {
        /// The number given with the INVITE.
        id: u64,
    },
}
