//! How long to wait after the nth failure in a row (the shape of RFC 5626 §4.5).
//!
//! ```text
//!   upper = min(cap, base · 2^failures)          wait = somewhere in [upper/2, upper]
//!
//!   failures before   0      1      2      3      4      5 …
//!   upper (1 s, 30 s) 1 s    2 s    4 s    8 s    16 s   30 s …
//! ```
//!
//! RFC 5626 starts with two to the power of *one*; we start with the base itself, which is the same curve begun one
//! step earlier. A server that names a time (`Retry-After`, RFC 3261 §20.33) knows better than any curve: it is
//! obeyed as a floor, and only spread a little upwards, for it told everybody the same second.

use std::time::Duration;

use rand_core::Rng;

use crate::profile::Profile;

/// Counts failures in a row and says how long to wait after the latest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The longest wait after the first failure.
    base: Duration,
    /// The longest wait of all.
    cap: Duration,
    /// Failures since the last success.
    failures: u32,
}

impl Backoff {
    /// A back-off that has seen no failure yet. `cap` below `base` is taken as `base`.
    pub fn new(base: Duration, cap: Duration) -> Backoff {
        Backoff { base, cap: cap.max(base), failures: 0 }
    }

    /// What a profile uses: 5 s doubling to 30 s in `lync2010`, 1 s doubling to 30 s in `rehome`.
    pub fn of(profile: Profile) -> Backoff {
        match profile {
            Profile::Lync2010 => Backoff::new(Duration::from_secs(5), Duration::from_secs(30)),
            Profile::Rehome => Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
        }
    }

    /// Counts one more failure and draws the wait that follows it.
    pub fn wait(&mut self, rng: &mut dyn Rng) -> Duration {
        let upper =
            2u32.checked_pow(self.failures).map_or(self.cap, |n| self.base.saturating_mul(n).min(self.cap));
        self.failures = self.failures.saturating_add(1);
        upper / 2 + share(upper / 2, rng)
    }

    /// The wait after a server said `Retry-After: retry_after`: never shorter, longer by at most half the base.
    ///
    /// Counts no failure: being told when to come is an answer.
    pub fn obey(&self, retry_after: Duration, rng: &mut dyn Rng) -> Duration {
        retry_after.saturating_add(share(self.base / 2, rng))
    }

    /// Forgets all failures; after a success that lasted.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The longest wait after a first failure; a success shorter than this is not worth the name.
    pub fn base(&self) -> Duration {
        self.base
    }
}

/// A random part of `whole`, evenly spread over `[0, whole]`.
fn share(whole: Duration, rng: &mut dyn Rng) -> Duration {
    let nanos = whole.as_nanos().saturating_mul(u128::from(rng.next_u32())) / u128::from(u32::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_cap_and_begin_anew_after_a_success() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut backoff = Backoff::new(SECOND, 30 * SECOND);
        for upper in [1, 2, 4, 8, 16, 30, 30, 30] {
            let wait = backoff.wait(&mut rng);
            assert!(wait >= upper * SECOND / 2 && wait <= upper * SECOND, "{wait:?} of at most {upper} s");
        }
        backoff.reset();
        assert!(backoff.wait(&mut rng) <= SECOND);
    }

    #[test]
    fn two_clients_that_failed_together_do_not_come_back_together() {
        let waits = |seed| Backoff::of(Profile::Rehome).wait(&mut ChaCha12Rng::seed_from_u64(seed));
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }

    #[test]
    fn being_told_when_to_come_is_not_a_failure() {
        let backoff = Backoff::of(Profile::Lync2010);
        let _ = backoff.obey(9 * SECOND, &mut ChaCha12Rng::seed_from_u64(1));
        assert_eq!(backoff.failures(), 0);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_shorter_than_told_nor_longer_than_capped(
            base_ms in 0u64..100_000, cap_ms in 0u64..10_000_000, failures in 0u32..100, told_s in any::<u32>(), seed: u64,
        ) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
            let mut backoff = Backoff::new(base, cap);
            for _ in 0..failures {
                let wait = backoff.wait(&mut rng);
                prop_assert!(wait <= cap.max(base));
                prop_assert!(wait >= base / 2);
            }
            let told = Duration::from_secs(told_s.into());
            let wait = backoff.obey(told, &mut rng);
            prop_assert!(wait >= told && wait <= told + base / 2);
        }
    }
}
