//! Watches one partner pool and decides when we speak for its users.
//!
//! Two pools in different sites back each other up. Each sends the other a heartbeat every `heartbeat_interval`.
//! Silence for `failure_detection_interval` is *failover*: we accept REGISTERs for the partner's users. A partner heard
//! without a gap for `failback_interval` gets its users back: *failback*.
//!
//! ```text
//!           late              lost
//!   Up ───────────► Suspect ────────► FailedOver ◄───────┐
//!   ▲ ◄────────────   │                 │ heard          │ lost
//!   │      heard                        ▼                │
//!   └────────────────────────────── FailingBack ─────────┘
//!                 steady
//! ```
//!
//! | in | we answer the partner's users |
//! | --- | --- |
//! | `Up` | "you are homed there" |
//! | `Suspect` | "come again in [`retry_after`](Partner::retry_after)" |
//! | `FailedOver`, `FailingBack` | as their registrar |
//!
//! An operator may overrule the signs: [`fail_over`](Partner::fail_over) holds `FailedOver` whatever is heard,
//! [`fail_back`](Partner::fail_back) ends the wait, [`pause_failback`](Partner::pause_failback) keeps users where they are.
//! With automatic failover off, `Lost` counts as `Late` until an operator has failed over.
//!
//! A heartbeat that is late while `FailingBack` changes no state, but the wait begins anew. A flapping partner is
//! therefore never given its users back, and nobody is moved.
//!
//! No sockets, no clock: `now` comes in, [`Event`]s and a deadline go out.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::heartbeat::{Hearing, Patience};
use crate::profile::Seconds;
use crate::topology::PoolName;

pub use crate::heartbeat::Sign;

/// What we do about the partner's users. Named for us, not for it: from inside a partition nobody can know what it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum State {
    /// The partner is heard; its users are its own.
    Up,
    /// A heartbeat is missing; not yet long enough.
    Suspect,
    /// We answer for its users.
    FailedOver,
    /// It is heard again; we answer for its users until it has been steady for long enough.
    FailingBack,
}

impl State {
    /// All states, for tables.
    pub const ALL: [State; 4] = [State::Up, State::Suspect, State::FailedOver, State::FailingBack];

    /// Whether a server in this state registers the partner's users.
    pub fn speaks_for_users(self) -> bool {
        match self {
            State::FailedOver | State::FailingBack => true,
            State::Up | State::Suspect => false,
        }
    }

    /// The state in lower case with underscores, for metrics: `failed_over`.
    pub fn label(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Suspect => "suspect",
            State::FailedOver => "failed_over",
            State::FailingBack => "failing_back",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Up => "Up",
            State::Suspect => "Suspect",
            State::FailedOver => "FailedOver",
            State::FailingBack => "FailingBack",
        })
    }
}

/// The whole machine: every transition is a row here and nowhere else.
fn next(state: State, sign: Sign) -> State {
    use Sign::*;
    use State::*;
    match (state, sign) {
        (Up, Heard | Steady) => Up,
        (Up, Late) => Suspect,
        (Up, Lost) => FailedOver,

        (Suspect, Heard | Steady) => Up,
        (Suspect, Late) => Suspect,
        (Suspect, Lost) => FailedOver,

        (FailedOver, Heard) => FailingBack,
        (FailedOver, Steady) => Up,
        (FailedOver, Late | Lost) => FailedOver,

        (FailingBack, Heard | Late) => FailingBack,
        (FailingBack, Steady) => Up,
        (FailingBack, Lost) => FailedOver,
    }
}

/// The watch over one partner pool.
///
/// After any `handle_*` or command: take [`poll_event`](Self::poll_event) until `None`, then wait until
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Clone, Debug)]
pub struct Partner {
    /// The pool that is watched.
    name: PoolName,
    /// Whether silence alone may fail over.
    automatic: bool,
    /// What was heard of it.
    hearing: Hearing,
    /// What we do about its users.
    state: State,
    /// Since when.
    since: Instant,
    /// An operator failed over, and it holds whatever is heard.
    ordered: bool,
    /// An operator keeps users where they are.
    paused: bool,
    /// What happened, not yet taken.
    events: VecDeque<Event>,
}

impl Partner {
    /// Begins to watch; `Up`, for a server that has just started has no proof of the contrary. The partner's silence
    /// counts from here.
    pub fn new(name: PoolName, patience: Patience, automatic_failover: bool, now: Instant) -> Partner {
        Partner {
            name,
            automatic: automatic_failover,
            hearing: Hearing::new(patience, now),
            state: State::Up,
            since: now,
            ordered: false,
            paused: false,
            events: VecDeque::new(),
        }
    }

    /// Any server of the partner pool answered a heartbeat.
    pub fn handle_heartbeat(&mut self, now: Instant) {
        // A deadline that nobody acted on has passed all the same: first what the silence said, then that it is over.
        self.handle_timeout(now);
        let silence = self.hearing.silence(now);
        let waited = self.hearing.steady_for(self.hearing.last_heard().unwrap_or(now));
        let sign = self.hearing.handle_heartbeat(now);
        if self.state == State::FailingBack
            && !self.ordered
            && silence >= self.hearing.patience().late_after()
        {
            self.events.push_back(Event::WaitRestarted { partner: self.name.clone(), waited, silence });
        }
        let why = match sign {
            Sign::Steady => Why::Steady(self.hearing.steady_for(now)),
            Sign::Heard | Sign::Late | Sign::Lost => Why::Heard { after: silence },
        };
        self.notice(sign, why, now);
    }

    /// Time has passed; harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.hearing.handle_timeout(now) {
            // That something was heard is said by hearing it, not by the clock.
            Sign::Heard | Sign::Steady => {}
            sign @ (Sign::Late | Sign::Lost) => {
                self.notice(sign, Why::Silent(self.hearing.silence(now)), now)
            }
        }
    }

    /// We were not there ourselves for this long, so that much silence is not the partner's. To be said before anything
    /// else is, at the first call after the absence.
    pub fn excuse(&mut self, absence: Duration, now: Instant) {
        self.hearing.excuse(absence, now);
    }

    /// An operator orders us to answer for the partner's users, heard or not, until told to [`fail_back`](Self::fail_back).
    pub fn fail_over(&mut self, now: Instant) {
        self.ordered = true;
        self.enter(State::FailedOver, Why::Operator, now);
    }

    /// An operator sends the users home without waiting for `failback_interval`.
    ///
    /// Refused while the partner is not heard, since that would send them nowhere; an earlier
    /// [`fail_over`](Self::fail_over) is lifted even so, and they go home by the usual rules.
    pub fn fail_back(&mut self, now: Instant) -> Result<(), Refused> {
        self.ordered = false;
        let heard = self.hearing.last_heard().is_some() && self.hearing.sign(now) == Sign::Heard;
        match (self.state, heard) {
            (State::Up | State::Suspect, _) => Err(Refused::NotFailedOver),
            (State::FailedOver | State::FailingBack, false) => Err(Refused::PartnerSilent),
            (State::FailedOver | State::FailingBack, true) => {
                self.enter(State::Up, Why::Operator, now);
                Ok(())
            }
        }
    }

    /// An operator keeps users where they are (`true`), or lets them go home again. After a pause that outlasted the
    /// wait, they go with the next heartbeat.
    pub fn pause_failback(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.events.push_back(Event::FailbackPaused { partner: self.name.clone(), paused });
        }
    }

    /// Takes the intervals and the switch of a new topology; state and hearing stay.
    pub fn adopt(&mut self, patience: Patience, automatic_failover: bool, now: Instant) {
        self.hearing.set_patience(patience);
        self.automatic = automatic_failover;
        self.handle_timeout(now);
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted; `None` while only a heartbeat can change anything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.hearing.poll_timeout()
    }

    /// The pool that is watched.
    pub fn name(&self) -> &PoolName {
        &self.name
    }

    /// What we do about its users.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether we register its users.
    pub fn speaks_for_users(&self) -> bool {
        self.state.speaks_for_users()
    }

    /// While `Suspect`: how long until we may accept the partner's users, rounded up to whole seconds, as it travels in
    /// `Retry-After`. `None` in any other state, and with automatic failover off: then nobody can say.
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        if self.state != State::Suspect || !self.automatic {
            return None;
        }
        let left =
            self.hearing.patience().failure_detection_interval.saturating_sub(self.hearing.silence(now));
        let whole = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(Duration::from_secs(whole.max(1)))
    }

    /// How long until its users may go home if it goes on being heard; `None` unless `FailingBack`.
    pub fn failback_in(&self, now: Instant) -> Option<Duration> {
        (self.state == State::FailingBack)
            .then(|| self.hearing.patience().failback_interval.saturating_sub(self.hearing.steady_for(now)))
    }

    /// How long nothing was heard of it.
    pub fn silence(&self, now: Instant) -> Duration {
        self.hearing.silence(now)
    }

    /// The last answer, if there ever was one.
    pub fn last_heard(&self) -> Option<Instant> {
        self.hearing.last_heard()
    }

    /// Whether silence alone may fail over.
    pub fn automatic_failover(&self) -> bool {
        self.automatic
    }

    /// Whether an operator's failover holds us.
    pub fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// Whether an operator keeps users where they are.
    pub fn is_failback_paused(&self) -> bool {
        self.paused
    }

    /// The sign as the operator's settings let it count.
    fn effective(&self, sign: Sign) -> Option<Sign> {
        match sign {
            Sign::Heard | Sign::Steady | Sign::Late | Sign::Lost if self.ordered => None,
            Sign::Steady if self.paused => Some(Sign::Heard),
            Sign::Lost if !self.automatic && !self.speaks_for_users() => Some(Sign::Late),
            Sign::Heard | Sign::Steady | Sign::Late | Sign::Lost => Some(sign),
        }
    }

    fn notice(&mut self, sign: Sign, why: Why, now: Instant) {
        if let Some(sign) = self.effective(sign) {
            self.enter(next(self.state, sign), why, now);
        }
    }

    fn enter(&mut self, to: State, why: Why, now: Instant) {
        let from = self.state;
        if from != to {
            self.state = to;
            self.since = now;
            self.events.push_back(Event::Changed { partner: self.name.clone(), from, to, why });
        }
    }
}

/// What happened to the watch over a partner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// We treat its users differently from now on.
    Changed {
        /// The partner pool.
        partner: PoolName,
        /// How we treated them.
        from: State,
        /// How we treat them now.
        to: State,
        /// What made the difference.
        why: Why,
    },
    /// It fell silent while `FailingBack` and was heard again before it was lost: the wait begins anew.
    WaitRestarted {
        /// The partner pool.
        partner: PoolName,
        /// How long it had been heard without a gap.
        waited: Duration,
        /// How long the gap was.
        silence: Duration,
    },
    /// An operator paused failback, or ended the pause.
    FailbackPaused {
        /// The partner pool.
        partner: PoolName,
        /// Whether it is paused now.
        paused: bool,
    },
}

/// Why a partner's state changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// It was silent for this long.
    Silent(Duration),
    /// It was heard again.
    Heard {
        /// The silence before.
        after: Duration,
    },
    /// It was heard without a gap for this long.
    Steady(Duration),
    /// An operator said so.
    Operator,
}

/// Why an operator's order was not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// We do not answer for the partner's users, so there is nobody to send home.
    NotFailedOver,
    /// The partner is not heard; its users would be sent nowhere.
    PartnerSilent,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Changed { partner, from, to, why } => {
                write!(f, "partner {partner}: {from} → {to} ({why})")
            }
            Event::WaitRestarted { partner, waited, silence } => {
                let (waited, silence) = (Seconds(*waited), Seconds(*silence));
                write!(f, "partner {partner}: failback wait starts again (silent {silence} after {waited})")
            }
            Event::FailbackPaused { partner, paused: true } => {
                write!(f, "partner {partner}: failback paused")
            }
            Event::FailbackPaused { partner, paused: false } => {
                write!(f, "partner {partner}: failback resumed")
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Silent(silence) => write!(f, "silent {}", Seconds(*silence)),
            Why::Heard { after } => write!(f, "heard after {}", Seconds(*after)),
            Why::Steady(steady) => write!(f, "steady {}", Seconds(*steady)),
            Why::Operator => f.write_str("operator"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::NotFailedOver => "not failed over: nobody to send home",
            Refused::PartnerSilent => "the partner is not heard: its users would be sent nowhere",
        })
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests;
