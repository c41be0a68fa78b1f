//! Is the registrar still there? Asks when it has been quiet, and counts from the asking.
//!
//! ```text
//!             any byte                         peer_dead_after since the
//!   ┌──────────────────────────┐               first unanswered asking
//!   ▼    quiet for             │
//!  Well ──────────────────► Doubt ──────────────────────────────► Dead
//!        keepalive_idle      │  ▲
//!                            └──┘ asks again every keepalive_doubt
//! ```
//!
//! Every request that wants an answer is an asking too. Counting from the asking and not from the last
//! byte makes the two intervals independent: a long idle interval never makes a living peer look dead.
//! The first asking is a bare CRLF CRLF (RFC 5626 §4.4.1). A server need not know that game, so from the
//! second on an OPTIONS goes with it, to which every SIP server answers something.

use std::time::{Duration, Instant};

use resilience::profile::Timers;

/// The watch over one flow.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// Quiet for so long, and we ask.
    idle: Duration,
    /// Between askings while one is unanswered.
    doubt: Duration,
    /// From the first unanswered asking to the verdict.
    dead_after: Duration,
    /// The first asking that is still unanswered.
    asked: Option<Instant>,
    /// When to ask next.
    next: Instant,
}

/// What the clock has brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// Ask by ping.
    Ask,
    /// Ask by ping and by OPTIONS: the last asking is unanswered.
    AskLoudly,
    /// Nobody is there.
    Dead,
}

impl Keepalive {
    /// A flow that has just come up.
    pub(crate) fn new(timers: &Timers, now: Instant) -> Keepalive {
        let idle = timers.keepalive_idle;
        let (doubt, dead_after) = (timers.keepalive_doubt, timers.peer_dead_after);
        Keepalive { idle, doubt, dead_after, asked: None, next: now + idle }
    }

    /// A byte came.
    pub(crate) fn handle_byte(&mut self, now: Instant) {
        self.asked = None;
        self.next = now + self.idle;
    }

    /// A request went out that wants an answer.
    pub(crate) fn handle_asked(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
        self.next = self.next.min(now + self.doubt);
    }

    /// What is due, if anything.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Sign> {
        if self.asked.is_some_and(|asked| now >= asked + self.dead_after) {
            return Some(Sign::Dead);
        }
        if now < self.next {
            return None;
        }
        let sign = if self.asked.is_some() { Sign::AskLoudly } else { Sign::Ask };
        self.asked.get_or_insert(now);
        self.next = now + self.doubt;
        Some(sign)
    }

    /// When something is due next.
    pub(crate) fn poll_timeout(&self) -> Instant {
        match self.asked {
            Some(asked) => self.next.min(asked + self.dead_after),
            None => self.next,
        }
    }

    /// How long silence lasts before it is death.
    pub(crate) fn dead_after(&self) -> Duration {
        self.dead_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resilience::profile::Profile;

    /// Plays the clock from a last byte at 0 s, with nobody there, and writes down what happens.
    fn silence(profile: Profile) -> Vec<(u64, Sign)> {
        let epoch = crate::tests::epoch();
        let mut keepalive = Keepalive::new(&Timers::of(profile), epoch);
        let mut seen = Vec::new();
        loop {
            let now = keepalive.poll_timeout();
            if let Some(sign) = keepalive.handle_timeout(now) {
                seen.push(((now - epoch).as_secs(), sign));
                if sign == Sign::Dead {
                    return seen;
                }
            }
        }
    }

    #[test]
    fn rehome_asks_at_20_s_doubts_every_second_and_gives_up_at_25_s() {
        use Sign::*;
        let expected =
            [(20, Ask), (21, AskLoudly), (22, AskLoudly), (23, AskLoudly), (24, AskLoudly), (25, Dead)];
        assert_eq!(silence(Profile::Rehome), expected);
    }

    #[test]
    fn lync2010_asks_every_10_s_and_gives_up_at_40_s() {
        use Sign::*;
        assert_eq!(silence(Profile::Lync2010), [(10, Ask), (20, AskLoudly), (30, AskLoudly), (40, Dead)]);
    }

    #[test]
    fn one_byte_ends_all_doubt() {
        let epoch = crate::tests::epoch();
        let mut keepalive = Keepalive::new(&Timers::of(Profile::Rehome), epoch);
        let at = |s| epoch + Duration::from_secs(s);
        assert_eq!(keepalive.handle_timeout(at(20)), Some(Sign::Ask));
        keepalive.handle_byte(at(24));
        assert_eq!(keepalive.handle_timeout(at(25)), None);
        assert_eq!(keepalive.poll_timeout(), at(44));
    }

    #[test]
    fn an_unanswered_request_is_an_asking_too() {
        let epoch = crate::tests::epoch();
        let mut keepalive = Keepalive::new(&Timers::of(Profile::Rehome), epoch);
        keepalive.handle_asked(epoch + Duration::from_secs(3));
        assert_eq!(keepalive.handle_timeout(epoch + Duration::from_secs(8)), Some(Sign::Dead));
    }
}
