//! Sends one request that is no INVITE: the non-INVITE client transaction.
//!
//! It is repeated until a final response is there, more slowly once a provisional one was heard.
//!
//! ```text
//!            1xx                2xx–6xx
//!   Trying ────────► Proceeding ────────► Completed ── K ──┐
//!    │ │ └──────────── 2xx–6xx ──────────────▲             │
//!    │ E: again        │ E: again                          ▼
//!    └─────────────────┴──── F, flow lost ────────► Terminated
//! ```
//!
//! RFC 3261 §17.1.2, RFC 4320.

use super::timer::Timer;

/// How far the request got.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Sent; nothing heard.
    Trying,
    /// Somebody is working on it.
    Proceeding,
    /// Answered; repeats of the answer are absorbed.
    Completed,
    /// Over.
    Terminated,
}

/// What was noticed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sign {
    /// A 1xx.
    Provisional,
    /// A 2xx to 6xx.
    Final,
    /// Timer E.
    Again,
    /// Timer F.
    GiveUp,
    /// Timer K.
    Forget,
    /// The flow it was sent on is gone.
    FlowLost,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Nothing.
    Rest,
    /// Send the request again.
    Repeat,
    /// Hand the response up.
    PassUp,
    /// Say that nobody answered.
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
        (Trying, Provisional) => (Proceeding, PassUp),
        (Trying, Final) => (Completed, PassUp),
        (Trying, Again) => (Trying, Repeat),
        (Trying, GiveUp) => (Terminated, ReportTimeout),
        (Trying, Forget) => (Trying, Rest),
        (Trying, FlowLost) => (Terminated, ReportFlowLost),

        (Proceeding, Provisional) => (Proceeding, PassUp),
        (Proceeding, Final) => (Completed, PassUp),
        (Proceeding, Again) => (Proceeding, Repeat),
        (Proceeding, GiveUp) => (Terminated, ReportTimeout),
        (Proceeding, Forget) => (Proceeding, Rest),
        (Proceeding, FlowLost) => (Terminated, ReportFlowLost),

        (Completed, Provisional | Final | Again | GiveUp) => (Completed, Rest),
        (Completed, Forget | FlowLost) => (Terminated, Rest),

        (Terminated, Provisional | Final | Again | GiveUp | Forget | FlowLost) => (Terminated, Rest),
    }
}

/// The timers that run in a state: what repeats and what ends it.
pub fn timers(state: State) -> (Option<Timer>, Option<Timer>) {
    match state {
        State::Trying | State::Proceeding => (Some(Timer::E), Some(Timer::F)),
        State::Completed => (None, Some(Timer::K)),
        State::Terminated => (None, None),
    }
}
