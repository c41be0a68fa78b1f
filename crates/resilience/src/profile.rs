//! How patient we are: the timers, and the two columns of their defaults.
//!
//! A profile is a way to behave. `rehome` is ours. `lync2010` is the system we model, measured with the intervals
//! of the experiment that showed its gaps; it exists so that both can be run side by side.
//!
//! | timer | where | `rehome` | `lync2010` |
//! | --- | --- | --- | --- |
//! | `heartbeat_interval` | server | 1 s | 5 s |
//! | `failure_detection_interval` | server | 5 s | 30 s |
//! | `failback_interval` | server | 15 s | 40 s |
//! | `failback_pace` | server | 500 users/s | unlimited |
//! | `peer_dead_after` | client | 5 s | 30 s |
//! | `keepalive_idle`, `keepalive_doubt` | client | 20 s, 1 s | 10 s, 10 s |
//! | `registration_expiry` | server | 600 s (300–900 s) | 600 s (300–900 s) |

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which system to behave like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Profile {
    /// The model: a client learns its backup only from a 301 of this session, and caches its primary alone.
    Lync2010,
    /// Ours: every answer names the user's registrars, and the client remembers them all.
    #[default]
    Rehome,
}

impl Profile {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Lync2010 => "lync2010",
            Profile::Rehome => "rehome",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Profile, UnknownProfile> {
        [Profile::Lync2010, Profile::Rehome].into_iter().find(|p| p.name() == name).ok_or(UnknownProfile)
    }
}

/// The name given is none of the profiles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownProfile;

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such profile: say \"rehome\" or \"lync2010\"")
    }
}

impl std::error::Error for UnknownProfile {}

/// All intervals of a deployment. Each is independent of the others; [`topology::check`](crate::topology::check)
/// says which combinations cannot work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timers {
    /// Between two heartbeats from a server to each server of a partner pool.
    pub heartbeat_interval: Duration,
    /// Silence after which we accept the partner's users.
    pub failure_detection_interval: Duration,
    /// Gap-free hearing after which the partner's users go home.
    pub failback_interval: Duration,
    /// How many users a second are sent home; `None` is all at once.
    pub failback_pace: Option<u32>,
    /// A client gives a connection up when nothing was heard for this long after it asked for a sign of life.
    pub peer_dead_after: Duration,
    /// Between a client's keepalives on a connection that is well (RFC 5626 §4.4.1).
    pub keepalive_idle: Duration,
    /// Between a client's keepalives while one of them is unanswered.
    pub keepalive_doubt: Duration,
    /// What a registrar grants, whatever the client wishes.
    pub registration_expiry: Expiry,
}

/// The granted expiry and the bounds that a client's wish is clamped to. Whole seconds, as on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expiry {
    /// The shortest expiry granted; a shorter wish is answered 423 or raised, as the registrar is set.
    pub min: Duration,
    /// Granted to a client that wishes nothing.
    pub default: Duration,
    /// The longest expiry granted.
    pub max: Duration,
}

impl Expiry {
    /// What is granted to a client that wishes `wish` (`None`: it does not care).
    pub fn grant(&self, wish: Option<Duration>) -> Duration {
        // Not `clamp`: it panics on bounds the wrong way round, and these come from a file.
        wish.unwrap_or(self.default).min(self.max).max(self.min)
    }
}

impl Timers {
    /// The defaults of a profile.
    pub fn of(profile: Profile) -> Timers {
        let registration_expiry = Expiry { min: seconds(300), default: seconds(600), max: seconds(900) };
        match profile {
            Profile::Rehome => Timers {
                heartbeat_interval: seconds(1),
                failure_detection_interval: seconds(5),
                failback_interval: seconds(15),
                failback_pace: Some(500),
                peer_dead_after: seconds(5),
                keepalive_idle: seconds(20),
                keepalive_doubt: seconds(1),
                registration_expiry,
            },
            Profile::Lync2010 => Timers {
                heartbeat_interval: seconds(5),
                failure_detection_interval: seconds(30),
                failback_interval: seconds(40),
                failback_pace: None,
                peer_dead_after: seconds(30),
                keepalive_idle: seconds(10),
                keepalive_doubt: seconds(10),
                registration_expiry,
            },
        }
    }

    /// The same timers with every interval multiplied by `factor`: `scaled(0.1)` plays a story ten times as fast.
    ///
    /// The expiry stays as it is, for it travels in whole seconds; so does the pace, which is a rate.
    /// A factor that is no positive number changes nothing.
    pub fn scaled(&self, factor: f64) -> Timers {
        if !factor.is_finite() || factor <= 0.0 {
            return self.clone();
        }
        let scale = |interval: Duration| {
            Duration::try_from_secs_f64(interval.as_secs_f64() * factor).unwrap_or(Duration::MAX)
        };
        Timers {
            heartbeat_interval: scale(self.heartbeat_interval),
            failure_detection_interval: scale(self.failure_detection_interval),
            failback_interval: scale(self.failback_interval),
            failback_pace: self.failback_pace,
            peer_dead_after: scale(self.peer_dead_after),
            keepalive_idle: scale(self.keepalive_idle),
            keepalive_doubt: scale(self.keepalive_doubt),
            registration_expiry: self.registration_expiry,
        }
    }
}

impl Default for Timers {
    fn default() -> Timers {
        Timers::of(Profile::default())
    }
}

/// A duration as people say it, in seconds: `30 s`, `1.5 s`. One decimal, and none where it is zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_millis().saturating_add(50) / 100;
        if tenths.is_multiple_of(10) {
            write!(f, "{} s", tenths / 10)
        } else {
            write!(f, "{}.{} s", tenths / 10, tenths % 10)
        }
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_clamped_to_the_bounds_and_no_wish_gets_the_default() {
        let expiry = Timers::default().registration_expiry;
        assert_eq!(expiry.grant(None), seconds(600));
        assert_eq!(expiry.grant(Some(seconds(10))), seconds(300));
        assert_eq!(expiry.grant(Some(seconds(400))), seconds(400));
        assert_eq!(expiry.grant(Some(seconds(86_400))), seconds(900));
    }

    #[test]
    fn scaling_moves_intervals_together_and_leaves_rates_and_expiry() {
        let fast = Timers::of(Profile::Lync2010).scaled(0.1);
        assert_eq!(fast.heartbeat_interval, Duration::from_millis(500));
        assert_eq!(fast.failure_detection_interval, seconds(3));
        assert_eq!(fast.failback_interval, seconds(4));
        assert_eq!(fast.registration_expiry, Timers::default().registration_expiry);
        assert_eq!(Timers::default().scaled(f64::NAN), Timers::default());
        assert_eq!(Timers::default().scaled(-1.0), Timers::default());
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let said = |ms| Seconds(Duration::from_millis(ms)).to_string();
        assert_eq!(said(30_000), "30 s");
        assert_eq!(said(30_002), "30 s");
        assert_eq!(said(1_500), "1.5 s");
        assert_eq!(said(0), "0 s");
        assert_eq!(said(999), "1 s");
    }

    #[test]
    fn profiles_are_named_in_files_as_they_are_printed() {
        assert_eq!("lync2010".parse(), Ok(Profile::Lync2010));
        assert_eq!("rehome".parse(), Ok(Profile::Rehome));
        assert_eq!("Rehome".parse::<Profile>(), Err(UnknownProfile));
    }
}
