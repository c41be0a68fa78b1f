//! Sends one INVITE and sees it to its end: the INVITE client transaction.
//!
//! The INVITE is repeated until anything is heard, since it may ring for minutes after. A refusal is
//! acknowledged here, hop by hop; a 2xx is not: its ACK belongs to the dialog, and each repeat of it is
//! passed on, so that it can be acknowledged again.
//!
//! ```text
//!              1xx               2xx
//!   Calling ─────────► Proceeding ────► Accepted ───── M ────┐
//!    │ │ └──────────────── 2xx ────────────▲                 │
//!    │ │ 3xx–6xx: ACK     │ 3xx–6xx: ACK                     │
//!    │ └────────────► Completed ────────────────────── D ────┤
//!    │ A: again                                              ▼
//!    └──── B, flow lost ────────────────────────────► Terminated
//! ```
//!
//! RFC 3261 §17.1.1 with RFC 6026 §7.2 and §8.4.

use super::timer::Timer;

/// How far the INVITE got.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Sent; nothing heard.
    Calling,
    /// Somebody is working on it.
    Proceeding,
    /// Refused, and the refusal acknowledged.
    Completed,
    /// A 2xx came; more of them may, from other branches of a fork.
    Accepted,
    /// Over.
    Terminated,
}

/// What was noticed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sign {
    /// A 1xx.
    Provisional,
    /// A 2xx.
    Success,
    /// A 3xx to 6xx.
    Refusal,
    /// Timer A.
    Again,
    /// Timer B; also set once a CANCEL was sent (RFC 3261 §9.1).
    GiveUp,
    /// Timer D or M.
    Forget,
    /// The flow it was sent on is gone.
    FlowLost,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Nothing.
    Rest,
    /// Send the INVITE again.
    Repeat,
    /// Hand the response up.
    PassUp,
    /// Acknowledge the refusal and hand it up.
    AcknowledgeAndPassUp,
    /// Acknowledge the refusal once more.
    Acknowledge,
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
        (Calling, Provisional) => (Proceeding, PassUp),
        (Calling, Success) => (Accepted, PassUp),
        (Calling, Refusal) => (Completed, AcknowledgeAndPassUp),
        (Calling, Again) => (Calling, Repeat),
        (Calling, GiveUp) => (Terminated, ReportTimeout),
        (Calling, Forget) => (Calling, Rest),
        (Calling, FlowLost) => (Terminated, ReportFlowLost),

        (Proceeding, Provisional) => (Proceeding, PassUp),
        (Proceeding, Success) => (Accepted, PassUp),
        (Proceeding, Refusal) => (Completed, AcknowledgeAndPassUp),
        (Proceeding, Again | Forget) => (Proceeding, Rest),
        (Proceeding, GiveUp) => (Terminated, ReportTimeout),
        (Proceeding, FlowLost) => (Terminated, ReportFlowLost),

        // A 2xx after a refusal comes from a fork that answered twice; a dialog exists all the same.
        (Completed, Success) => (Completed, PassUp),
        (Completed, Refusal) => (Completed, Acknowledge),
        (Completed, Provisional | Again | GiveUp) => (Completed, Rest),
        // The answer is known, only the ACK may be lost: nothing to report.
        (Completed, Forget | FlowLost) => (Terminated, Rest),

        (Accepted, Success) => (Accepted, PassUp),
        (Accepted, Provisional | Refusal | Again | GiveUp | FlowLost) => (Accepted, Rest),
        (Accepted, Forget) => (Terminated, Rest),

        (Terminated, Provisional | Success | Refusal | Again | GiveUp | Forget | FlowLost) => {
            (Terminated, Rest)
        }
    }
}

/// The timers that run in a state: what repeats and what ends it.
pub fn timers(state: State) -> (Option<Timer>, Option<Timer>) {
    match state {
        State::Calling => (Some(Timer::A), Some(Timer::B)),
        State::Proceeding | State::Terminated => (None, None),
        State::Completed => (None, Some(Timer::D)),
        State::Accepted => (None, Some(Timer::M)),
    }
}
