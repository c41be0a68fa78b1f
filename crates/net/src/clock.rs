//! Reads the clocks: the only place in the workspace that does.
//!
//! Three times, three names: [`now`] is the monotonic clock that brains receive as an argument;
//! [`unix`] is wall time, for logs, nonces and the disk; what crosses a wire between sites is a
//! `Duration`, because clocks of two sites need not agree.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic now: what every `handle_*(.., now)` is given.
#[expect(clippy::disallowed_methods, reason = "this is the one clock that worlds read")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall time since 1970; zero if the machine's clock stands before that.
#[expect(clippy::disallowed_methods, reason = "this is the one clock that worlds read")]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Wall time in whole seconds since 1970.
pub fn unix_s() -> u64 {
    unix().as_secs()
}

/// How fast time passes in one world: as it does, or a whole number of times faster.
///
/// A brain knows no other time than the one it is told. Told a faster one, it keeps every interval it has
/// that much sooner, those on the wire included, and nothing needs to be set for it. Only what the world
/// itself waits for (a handshake, a name server) stays as long as it is.
#[derive(Clone, Copy, Debug)]
pub struct Tempo {
    /// When the faster time began; before that, both are the same.
    since: Instant,
    times: u32,
}

impl Default for Tempo {
    fn default() -> Tempo {
        Tempo::times(1)
    }
}

impl Tempo {
    /// From now on, time passes `times` as fast; 0 counts as 1.
    pub fn times(times: u32) -> Tempo {
        Tempo { since: now(), times: times.max(1) }
    }

    /// The time to tell a brain.
    pub fn now(self) -> Instant {
        match self.times {
            1 => now(),
            times => self.since + now().saturating_duration_since(self.since) * times,
        }
    }

    /// The moment on the world's own clock at which a brain is to be told `told`.
    pub fn real(self, told: Instant) -> Instant {
        match self.times {
            1 => told,
            times => self.since + told.saturating_duration_since(self.since) / times,
        }
    }
}

/// Year, month and day (UTC, proleptic Gregorian) of a wall time.
pub fn civil_date(unix_s: u64) -> (i32, u8, u8) {
    // Days are counted from 1 March of year 0, so that the leap day is the last of its year;
    // 146 097 days are 400 years.
    let days = (unix_s / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u8, day as u8)
}

/// `2026-11-22T16:52:56Z`, for log lines and files people read.
pub fn civil_time(unix_s: u64) -> String {
    let (year, month, day) = civil_date(unix_s);
    let (hour, minute, second) = (unix_s / 3_600 % 24, unix_s / 60 % 60, unix_s % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faster_time_is_kept_sooner() {
        let tempo = Tempo::times(10);
        let told = tempo.now();
        let in_a_minute = told + Duration::from_secs(60);
        let wait = tempo.real(in_a_minute).saturating_duration_since(tempo.real(told));
        assert_eq!(wait.as_millis(), 6_000);
        assert!(tempo.now() >= told);
        assert_eq!(Tempo::times(0).real(told), told);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(951_782_400), (2000, 2, 29));
        assert_eq!(civil_date(951_868_800), (2000, 3, 1));
        assert_eq!(civil_time(1_795_366_376), "2026-11-22T16:52:56Z");
    }
}
