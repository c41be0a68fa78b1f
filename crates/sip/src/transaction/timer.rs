//! Every timer of §17 by its letter, in one table.
//!
//! RFC 3261 §17 and Appendix A, RFC 6026 §7 and §8. Four clocks suffice for a transaction at a time: what
//! repeats it and what ends it; the letter says which of them a machine means.

use std::time::Duration;

/// The three numbers from which all others follow. Whoever scales time in a lab scales these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timers {
    /// A guess at the round trip.
    pub t1: Duration,
    /// The longest pause between repeats of a non-INVITE request or an INVITE response.
    pub t2: Duration,
    /// The longest a message stays in the network.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// 64 × T1, 32 s by default: after so long nobody waits for this transaction any more.
    pub fn patience(&self) -> Duration {
        self.t1 * 64
    }
}

/// A timer's letter in RFC 3261 and RFC 6026. Timer C is the proxy's, and no part of a transaction.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Repeats an INVITE.
    A,
    /// Gives up on an INVITE.
    B,
    /// Waits for repeats of a refused INVITE's response.
    D,
    /// Repeats any other request.
    E,
    /// Gives up on any other request. The server's machine uses it too: a client that has given up needs
    /// no answer (RFC 4320 §4).
    F,
    /// Repeats the refusal of an INVITE.
    G,
    /// Gives up on the ACK.
    H,
    /// Waits for repeats of the ACK.
    I,
    /// Waits for repeats of a non-INVITE request.
    J,
    /// Waits for repeats of a non-INVITE response.
    K,
    /// Waits for repeats of an accepted INVITE (RFC 6026).
    L,
    /// Waits for repeats of an INVITE's 2xx (RFC 6026).
    M,
}

impl Timer {
    /// All of them in the order of the alphabet.
    pub const ALL: [Timer; 12] = [
        Timer::A,
        Timer::B,
        Timer::D,
        Timer::E,
        Timer::F,
        Timer::G,
        Timer::H,
        Timer::I,
        Timer::J,
        Timer::K,
        Timer::L,
        Timer::M,
    ];

    /// What it is for and how long it runs: the first time over UDP, and over streams. `None` where it does
    /// not run at all.
    ///
    /// A and G double, E and G not beyond T2; E starts at T2 once a provisional response came.
    fn row(self, timers: &Timers) -> (&'static str, Option<Duration>, Option<Duration>) {
        let Timers { t1, t4, .. } = *timers;
        let (long, now) = (timers.patience(), Duration::ZERO);
        match self {
            Timer::A => ("repeat INVITE", Some(t1), None),
            Timer::B => ("no response to INVITE", Some(long), Some(long)),
            Timer::D => ("absorb repeated refusals", Some(long), Some(now)),
            Timer::E => ("repeat request", Some(t1), None),
            Timer::F => ("no final response", Some(long), Some(long)),
            Timer::G => ("repeat refusal", Some(t1), None),
            Timer::H => ("no ACK", Some(long), Some(long)),
            Timer::I => ("absorb repeated ACKs", Some(t4), Some(now)),
            Timer::J => ("absorb repeated requests", Some(long), Some(now)),
            Timer::K => ("absorb repeated responses", Some(t4), Some(now)),
            Timer::L => ("absorb repeated INVITEs after a 2xx", Some(long), Some(long)),
            Timer::M => ("pass on repeated 2xx", Some(long), Some(long)),
        }
    }

    /// What it is for, in a few words.
    pub fn meaning(self) -> &'static str {
        self.row(&Timers::default()).0
    }

    /// How long it runs when it is first set; `None` if it does not run over this transport.
    pub fn value(self, timers: &Timers, reliable: bool) -> Option<Duration> {
        let (_, datagrams, streams) = self.row(timers);
        if reliable { streams } else { datagrams }
    }
}
