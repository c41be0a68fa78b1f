//! Is the other side on time, late or lost?
//!
//! Two halves. A [`Heartbeat`] keeps one connection to one server of the partner pool and says when to probe it
//! through that connection — the very path that requests would take. [`Hearing`] adds up the answers of all its
//! servers and turns silence into a [`Sign`]: a pool is heard while any member answers.
//!
//! The silence of the pool:
//!
//! ```text
//!   last answer                                                  silence ──►
//!   ●───────────────┬───────────────────────┬───────────────────────────────
//!        heard      │ 2 heartbeat intervals │ failure detection interval
//!                   └─ late ────────────────┴─ lost
//!
//!   ●──●──●──●──●──●──●──●──●──●   answers, no two further apart than 2 heartbeat intervals,
//!   └──── failback interval ───┘   for the failback interval: steady
//! ```
//!
//! The connection to one server:
//!
//! ```text
//!              due               opened            answered
//!   Resting ──────────► Opening ──────────► Waiting ──────────► Idle
//!      ▲                   ▲                  │ ▲                │
//!      │                   └──────────────────┘ └────────────────┘
//!      │                         overdue               due
//!      └── from anywhere: failed
//! ```
//!
//! One lost heartbeat makes the next one just about late, and never lost.
//!
//! Probes go out at every beat, answered or not. When none has been answered for two intervals, and at least two
//! seconds, the connection is closed and another opened. Else the first answer after an outage would wait for TCP's own
//! retransmission, which by then pauses for a minute.
//!
//! Not here: what a probe looks like (an OPTIONS, elsewhere), and what follows from a sign ([`partner`](crate::partner)).

use std::time::{Duration, Instant};

use crate::profile::Timers;

//------------ Sign: what was noticed ------------------------------------------------------------------------------

/// What was noticed about a partner pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sign {
    /// Answered just now, or lately enough.
    Heard,
    /// Heard without a gap for `failback_interval`.
    Steady,
    /// Silent for two heartbeat intervals.
    Late,
    /// Silent for `failure_detection_interval`.
    Lost,
}

impl Sign {
    /// All signs, for tables.
    pub const ALL: [Sign; 4] = [Sign::Heard, Sign::Steady, Sign::Late, Sign::Lost];
}

/// The three intervals that judge a partner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// Between heartbeats.
    pub heartbeat_interval: Duration,
    /// Silence after which the partner is lost.
    pub failure_detection_interval: Duration,
    /// Gap-free hearing after which it is steady.
    pub failback_interval: Duration,
}

impl Patience {
    /// Silence from which a heartbeat is late: two intervals, so that one of them has certainly been missed.
    pub fn late_after(&self) -> Duration {
        self.heartbeat_interval.saturating_mul(2)
    }

    /// Gap-free hearing that counts as steady: `failback_interval`, less a tenth of a heartbeat. Answers come a little
    /// sooner or later than they are due; without the tolerance a whim of the network costs everybody one heartbeat.
    pub fn steady_after(&self) -> Duration {
        self.failback_interval.saturating_sub(self.heartbeat_interval / 10)
    }
}

impl From<&Timers> for Patience {
    fn from(timers: &Timers) -> Patience {
        Patience {
            heartbeat_interval: timers.heartbeat_interval,
            failure_detection_interval: timers.failure_detection_interval,
            failback_interval: timers.failback_interval,
        }
    }
}

//------------ Hearing: a pool's answers, added up -----------------------------------------------------------------

/// When a partner pool was heard, and what that says about it now.
#[derive(Clone, Debug)]
pub struct Hearing {
    /// What counts as late, lost and steady.
    patience: Patience,
    /// The last answer; before the first one, when we began to listen. A server that has just started has no proof
    /// of anything and must not take the silence before its birth for the partner's.
    last: Instant,
    /// Whether `last` is an answer.
    heard: bool,
    /// The first answer of the current gap-free run.
    run: Option<Instant>,
    /// How much of the silence since `last` has been noticed: `Heard` (none of it), `Late` or `Lost`. A deadline that
    /// passed while nobody looked is therefore still a deadline.
    noticed: Sign,
}

impl Hearing {
    /// Begins to listen.
    pub fn new(patience: Patience, now: Instant) -> Hearing {
        Hearing { patience, last: now, heard: false, run: None, noticed: Sign::Heard }
    }

    /// Any server of the pool answered. Says `Heard`, or `Steady` if it has been heard without a gap for long enough.
    ///
    /// Only an answer can make a partner steady, never the clock alone: nobody is sent home on silence.
    pub fn handle_heartbeat(&mut self, now: Instant) -> Sign {
        if self.run.is_none() || self.silence(now) >= self.patience.late_after() {
            self.run = Some(now);
        }
        self.last = self.last.max(now);
        self.heard = true;
        self.noticed = Sign::Heard;
        if self.steady_for(now) >= self.patience.steady_after() { Sign::Steady } else { Sign::Heard }
    }

    /// What silence says by now.
    pub fn sign(&self, now: Instant) -> Sign {
        let silence = self.silence(now);
        if silence >= self.patience.failure_detection_interval {
            Sign::Lost
        } else if silence >= self.patience.late_after() {
            Sign::Late
        } else {
            Sign::Heard
        }
    }

    /// Time has passed: notices what silence says by now.
    pub fn handle_timeout(&mut self, now: Instant) -> Sign {
        self.noticed = self.sign(now);
        self.noticed
    }

    /// We were not there ourselves for this long: stopped, or on a machine that stood still. Silence of that time is
    /// ours and proves nothing; nor were we there to hear a gap, so a gap-free run begins anew.
    pub fn excuse(&mut self, absence: Duration, now: Instant) {
        self.last = self.last.checked_add(absence).map_or(now, |last| last.min(now));
        self.run = None;
    }

    /// When silence says something that has not been noticed yet; perhaps in the past. `None`: it has said all it can.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lost_after = self.patience.failure_detection_interval;
        let after = match self.noticed {
            Sign::Heard | Sign::Steady => self.patience.late_after().min(lost_after),
            Sign::Late => lost_after,
            Sign::Lost => return None,
        };
        self.last.checked_add(after)
    }

    /// How long nothing was heard: since the last answer, or since we began to listen.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    /// How long the partner has been heard without a gap; zero while it is late or was never heard.
    pub fn steady_for(&self, now: Instant) -> Duration {
        match self.run {
            Some(first) if self.silence(now) < self.patience.late_after() => {
                self.last.saturating_duration_since(first)
            }
            Some(_) | None => Duration::ZERO,
        }
    }

    /// The last answer, if there was one.
    pub fn last_heard(&self) -> Option<Instant> {
        self.heard.then_some(self.last)
    }

    /// The intervals in force.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Takes new intervals; what was heard stays heard.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
        self.noticed = Sign::Heard;
    }
}

//------------ Heartbeat: one connection to one server -------------------------------------------------------------

/// Where the connection to one server of the partner pool stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// No connection; the next beat tries to open one.
    Resting,
    /// A connection is being opened.
    Opening,
    /// Open, and every probe so far is answered.
    Idle,
    /// Open, and a probe is unanswered.
    Waiting,
}

impl State {
    /// All states, for tables.
    pub const ALL: [State; 4] = [State::Resting, State::Opening, State::Idle, State::Waiting];
}

/// What can happen to that connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Occurrence {
    /// It is time for the next beat.
    Due,
    /// The connection is open, and proved who it leads to.
    Opened,
    /// The connection was lost, or could not be opened.
    Failed,
    /// A probe was answered, by whatever status: what answers lives.
    Answered,
    /// A probe, or the opening, has gone unanswered for too long.
    Overdue,
}

impl Occurrence {
    /// All occurrences, for tables.
    pub const ALL: [Occurrence; 5] =
        [Occurrence::Due, Occurrence::Opened, Occurrence::Failed, Occurrence::Answered, Occurrence::Overdue];
}

/// What the owner of a [`Heartbeat`] has to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Open a connection; report [`Heartbeat::handle_opened`] or [`Heartbeat::handle_failed`].
    Open,
    /// Send a probe; report its answer by [`Heartbeat::handle_answer`].
    Probe,
    /// Close the connection, or give up opening it, and open another. The old one is not reported on any more.
    Reopen,
}

/// The whole machine: every transition is a row here and nowhere else.
fn next(state: State, occurrence: Occurrence) -> (State, Option<Action>) {
    use Occurrence::*;
    use State::*;
    match (state, occurrence) {
        (Resting, Due) => (Opening, Some(Action::Open)),
        (Resting, Opened) => (Waiting, Some(Action::Probe)),
        (Resting, Failed | Answered | Overdue) => (Resting, None),

        (Opening, Due | Answered) => (Opening, None),
        (Opening, Opened) => (Waiting, Some(Action::Probe)),
        (Opening, Failed) => (Resting, None),
        (Opening, Overdue) => (Opening, Some(Action::Reopen)),

        (Idle, Due) => (Waiting, Some(Action::Probe)),
        (Idle, Opened | Answered | Overdue) => (Idle, None),
        (Idle, Failed) => (Resting, None),

        (Waiting, Due) => (Waiting, Some(Action::Probe)),
        (Waiting, Opened) => (Waiting, None),
        (Waiting, Failed) => (Resting, None),
        (Waiting, Answered) => (Idle, None),
        (Waiting, Overdue) => (Opening, Some(Action::Reopen)),
    }
}

/// Says when to probe one server of the partner pool, and when its connection has to be replaced.
///
/// After any `handle_*`: take [`poll_action`](Self::poll_action) until `None`, then wait until
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Between beats.
    interval: Duration,
    /// Where the connection stands.
    state: State,
    /// The next beat.
    due: Instant,
    /// When patience with the unanswered probe, or with the opening, ends. Set exactly in `Opening` and `Waiting`.
    overdue: Option<Instant>,
    /// To be done by the owner; one occurrence leaves at most one.
    action: Option<Action>,
}

impl Heartbeat {
    /// Begins at once: the first action is [`Action::Open`].
    pub fn new(interval: Duration, now: Instant) -> Heartbeat {
        let mut heartbeat =
            Heartbeat { interval, state: State::Resting, due: now, overdue: None, action: None };
        heartbeat.handle_timeout(now);
        heartbeat
    }

    /// The connection asked for is open.
    pub fn handle_opened(&mut self, now: Instant) {
        self.apply(Occurrence::Opened, now);
    }

    /// The connection was lost, or could not be opened. The next beat tries again.
    pub fn handle_failed(&mut self, now: Instant) {
        self.apply(Occurrence::Failed, now);
    }

    /// A probe was answered. The owner tells the [`Hearing`] of the pool too.
    pub fn handle_answer(&mut self, now: Instant) {
        self.apply(Occurrence::Answered, now);
    }

    /// Time has passed; harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.overdue.is_some_and(|at| at <= now) {
            // The new connection will be probed when it opens, so the beat falls in with it.
            self.due = now + self.interval;
            self.apply(Occurrence::Overdue, now);
        } else if self.due <= now {
            // Counted from the beat, not from now, lest small delays add up; but never two beats at once.
            let next = self.due + self.interval;
            self.due = if next > now { next } else { now + self.interval };
            self.apply(Occurrence::Due, now);
        }
    }

    /// What to do, once.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.action.take()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted.
    pub fn poll_timeout(&self) -> Instant {
        self.overdue.map_or(self.due, |overdue| overdue.min(self.due))
    }

    /// Where the connection stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes a new interval, from the next beat on.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    fn apply(&mut self, occurrence: Occurrence, now: Instant) {
        let (state, action) = next(self.state, occurrence);
        let entered = state != self.state || action == Some(Action::Reopen);
        self.state = state;
        self.action = action.or(self.action);
        match state {
            State::Resting | State::Idle => self.overdue = None,
            State::Opening if entered => self.overdue = Some(now + self.opening_patience()),
            State::Waiting if entered => self.overdue = Some(now + self.answer_patience()),
            State::Opening | State::Waiting => {}
        }
        if occurrence == Occurrence::Failed {
            // What was asked of a connection that is gone need not be done any more.
            self.action = None;
        }
    }

    /// An opening may take one interval, and at least two seconds: a handshake over a long line takes four round trips.
    fn opening_patience(&self) -> Duration {
        self.interval.max(SHORTEST_PATIENCE)
    }

    /// An answer may take two intervals, and at least two seconds.
    fn answer_patience(&self) -> Duration {
        self.interval.saturating_mul(2).max(SHORTEST_PATIENCE)
    }
}

/// However fast the heartbeat, a connection is not replaced sooner than this.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
