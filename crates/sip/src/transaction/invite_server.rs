//! Answers one INVITE: the INVITE server transaction.
//!
//! A repeated INVITE gets the last response again. A refusal is repeated until its ACK comes; a 2xx is
//! repeated by the core that sent it (a proxy forwards the repeats), so here it only opens a time in which
//! repeated INVITEs are swallowed.
//!
//! ```text
//!   Proceeding ──── 2xx ────► Accepted ─────────────────────── L ──┐
//!    │ │  1xx, INVITE: (re)send  │ 2xx: send, ACK: pass up         │
//!    │ │                                                           │
//!    │ └─── 3xx–6xx ────► Completed ── ACK ──► Confirmed ────── I ─┤
//!    │                     │ G, INVITE: resend                     ▼
//!    └──── flow lost ──────┴──────── H, flow lost ───────► Terminated
//! ```
//!
//! RFC 3261 §17.2.1 with RFC 6026 §7.1 and §8.5.

use super::timer::Timer;

/// How far the INVITE got.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Being worked on.
    Proceeding,
    /// Refused; the ACK is outstanding.
    Completed,
    /// Refused and acknowledged.
    Confirmed,
    /// Answered with a 2xx.
    Accepted,
    /// Over.
    Terminated,
}

/// What was noticed. Responses come from above, the rest from below.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sign {
    /// The INVITE again.
    Request,
    /// An ACK.
    Ack,
    /// A 1xx to send.
    Provisional,
    /// A 2xx to send.
    Success,
    /// A 3xx to 6xx to send.
    Refusal,
    /// Timer G.
    Again,
    /// Timer H.
    GiveUp,
    /// Timer I or L.
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
    /// Send the last response again, if there is one.
    Repeat,
    /// Hand the ACK up.
    PassUp,
    /// Say that no ACK came.
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
        (Proceeding, Request) => (Proceeding, Repeat),
        (Proceeding, Provisional) => (Proceeding, Send),
        (Proceeding, Success) => (Accepted, Send),
        (Proceeding, Refusal) => (Completed, Send),
        (Proceeding, Ack | Again | GiveUp | Forget) => (Proceeding, Rest),
        (Proceeding, FlowLost) => (Terminated, ReportFlowLost),

        (Completed, Request | Again) => (Completed, Repeat),
        (Completed, Ack) => (Confirmed, Rest),
        (Completed, Provisional | Success | Refusal | Forget) => (Completed, Rest),
        (Completed, GiveUp) => (Terminated, ReportTimeout),
        // Answered; neither its repeats nor the ACK have a way any more.
        (Completed, FlowLost) => (Terminated, Rest),

        (Confirmed, Request | Ack | Provisional | Success | Refusal | Again | GiveUp) => (Confirmed, Rest),
        (Confirmed, Forget | FlowLost) => (Terminated, Rest),

        (Accepted, Success) => (Accepted, Send),
        (Accepted, Ack) => (Accepted, PassUp),
        // A lost flow ends nothing: the core repeats its 2xx by whatever way is left.
        (Accepted, Request | Provisional | Refusal | Again | GiveUp | FlowLost) => (Accepted, Rest),
        (Accepted, Forget) => (Terminated, Rest),

        (Terminated, Request | Ack | Provisional | Success | Refusal) => (Terminated, Rest),
        (Terminated, Again | GiveUp | Forget | FlowLost) => (Terminated, Rest),
    }
}

/// The timers that run in a state: what repeats and what ends it.
pub fn timers(state: State) -> (Option<Timer>, Option<Timer>) {
    match state {
        State::Proceeding | State::Terminated => (None, None),
        State::Completed => (Some(Timer::G), Some(Timer::H)),
        State::Confirmed => (None, Some(Timer::I)),
        State::Accepted => (None, Some(Timer::L)),
    }
}
