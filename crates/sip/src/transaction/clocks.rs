//! The two clocks of a transaction: what repeats it and what ends it.

use std::time::{Duration, Instant};

use super::machine::Noticed;
use super::timer::{Timer, Timers};

/// At most one of each runs at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    repeat: Option<Clock>,
    end: Option<Clock>,
}

/// One timer that runs.
#[derive(Clone, Copy, Debug)]
struct Clock {
    timer: Timer,
    /// When it rings.
    at: Instant,
    /// What it was set to; repeats grow from it.
    interval: Duration,
}

impl Clocks {
    /// Sets the timers of a new state. One that ran already runs on: Timer F counts from the start of the
    /// transaction, not from its last change.
    pub(super) fn follow(
        &mut self,
        (repeat, end): (Option<Timer>, Option<Timer>),
        timers: &Timers,
        reliable: bool,
        now: Instant,
    ) {
        let wind = |running: Option<Clock>, wanted: Option<Timer>| {
            let wanted = wanted?;
            running.filter(|clock| clock.timer == wanted).or_else(|| {
                let interval = wanted.value(timers, reliable)?;
                Some(Clock { timer: wanted, at: now + interval, interval })
            })
        };
        self.repeat = wind(self.repeat, repeat);
        self.end = wind(self.end, end);
    }

    /// Winds the repeating clock again after it rang: twice as long, E and G not beyond T2 (RFC 3261
    /// §17.1.1.2, §17.1.2.2, §17.2.1). `slow` once a provisional response to a non-INVITE came.
    pub(super) fn repeat(&mut self, slow: bool, timers: &Timers, now: Instant) {
        if let Some(clock) = &mut self.repeat {
            let doubled = clock.interval * 2;
            clock.interval = match clock.timer {
                Timer::E if slow => timers.t2,
                Timer::E | Timer::G => doubled.min(timers.t2),
                // Only Timer A is left: nothing else repeats.
                _ => doubled,
            };
            // Whoever scales T1 to nothing still gets an end to repeating.
            clock.at = now + clock.interval.max(Duration::from_millis(1));
        }
    }

    /// Sets a Timer B where the state has none: after a CANCEL (RFC 3261 §9.1).
    pub(super) fn give_up_after(&mut self, patience: Duration, now: Instant) {
        self.end = Some(Clock { timer: Timer::B, at: now + patience, interval: patience });
    }

    /// When the first of them rings.
    pub(super) fn due(&self) -> Option<Instant> {
        let (repeat, end) = (self.repeat.map(|clock| clock.at), self.end.map(|clock| clock.at));
        repeat.into_iter().chain(end).min()
    }

    /// Whether the state just entered has nothing to wait for, as over a stream, where nothing is repeated.
    ///
    /// Only of a clock whose ringing means to forget: no other ends the state it runs in without a word.
    pub(super) fn is_over_already(&self) -> bool {
        self.end.is_some_and(|clock| clock.interval.is_zero() && ending(clock.timer) == Noticed::Forget)
    }

    /// What has rung by now. The end comes before one more repeat.
    pub(super) fn rung(&self, now: Instant) -> Option<Noticed> {
        if let Some(clock) = self.end.filter(|clock| clock.at <= now) {
            return Some(ending(clock.timer));
        }
        self.repeat.filter(|clock| clock.at <= now).map(|_| Noticed::Again)
    }
}

/// What it means that a timer rings.
fn ending(timer: Timer) -> Noticed {
    match timer {
        Timer::B | Timer::F | Timer::H => Noticed::GiveUp,
        Timer::D | Timer::I | Timer::J | Timer::K | Timer::L | Timer::M => Noticed::Forget,
        Timer::A | Timer::E | Timer::G => Noticed::Again,
    }
}
