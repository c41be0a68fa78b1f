//! Answers one request that is no INVITE: the non-INVITE server transaction.
//!
//! A repeated request gets the last response again, or nothing while there is none. Nobody waits longer
//! than Timer F for an answer, so an unanswered request is forgotten then; a 408 is never sent, since the
//! client that would get it has given up already.
//!
//! ```text
//!             1xx                2xx–6xx
//!   Trying ────────► Proceeding ────────► Completed ── J ──┐
//!    │  └───────────── 2xx–6xx ──────────────▲ request:    │
//!    │                 │ request: resend       resend      ▼
//!    └─────────────────┴──── F, flow lost ────────► Terminated
//! ```
//!
//! RFC 3261 §17.2.2, RFC 4320 §4.

use super::timer::Timer;

/// How far the request got.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Being worked on in silence.
    Trying,
    /// Being worked on, and the client was told.
    Proceeding,
    /// Answered.
    Completed,
    /// Over.
    Terminated,
}

/// What was noticed. Responses come from above, the rest from below.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sign {
    /// The request again.
    Request,
    /// A 1xx to send.
    Provisional,
    /// A 2xx to 6xx to send.
    Final,
    /// Timer F, the client's.
    GiveUp,
    /// Timer J.
    Forget,
    /// The flow it came by is gone.
    FlowLost,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Nothing.
    Rest,
    /// Send the response and keep it for repeats.
    Send,
    /// Send the last response again.
    Repeat,
    /// Say that the client has stopped waiting.
    ReportTimeout,
    /// Say that the flow failed.
    ReportFlowLost,
}

/// The whole machine: every transition is a row here and nowhere else.
pub fn next(state: State, sign: Sign) -> (State, Act) {
    use Act::*;
    use Sign::*;
    use State::*;
    match (state, sign) {
        (Trying, Request | Forget) => (Trying, Rest),
        (Trying, Provisional) => (Proceeding, Send),
        (Trying, Final) => (Completed, Send),
        (Trying, GiveUp) => (Terminated, ReportTimeout),
        (Trying, FlowLost) => (Terminated, ReportFlowLost),

        (Proceeding, Request) => (Proceeding, Repeat),
        (Proceeding, Provisional) => (Proceeding, Send),
        (Proceeding, Final) => (Completed, Send),
        (Proceeding, GiveUp) => (Terminated, ReportTimeout),
        (Proceeding, Forget) => (Proceeding, Rest),
        (Proceeding, FlowLost) => (Terminated, ReportFlowLost),

        (Completed, Request) => (Completed, Repeat),
        (Completed, Provisional | Final | GiveUp) => (Completed, Rest),
        // The answer is on its way or lost with the flow; a client that wants it asks again.
        (Completed, Forget | FlowLost) => (Terminated, Rest),

        (Terminated, Request | Provisional | Final | GiveUp | Forget | FlowLost) => (Terminated, Rest),
    }
}

/// The timers that run in a state: what repeats and what ends it.
pub fn timers(state: State) -> (Option<Timer>, Option<Timer>) {
    match state {
        State::Trying | State::Proceeding => (None, Some(Timer::F)),
        State::Completed => (None, Some(Timer::J)),
        State::Terminated => (None, None),
    }
}
