//! Who is asking (RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! Nonces are stateless and good at both pools of a pair; what is remembered is only which counts of a nonce
//! were used, and only after the response was right, so a stranger costs nothing. That memory is the one thing
//! a decision changes; it changes here and nowhere else.
//!
//! An unknown user and a wrong password are the same: the same work (a decoy stands in for the missing HA1)
//! and the same answer, a fresh challenge.

use rand_core::Rng;
use sip::digest::{Algorithm, Challenge, Counted, Credentials, NonceCounts, NonceKey, NonceVerdict};
use sip::header::HeaderName;
use sip::message::Message;
use sip::uri::{AddressOfRecord, escape_user};
use std::time::Duration;

use crate::config::{Offer, Settings};
use crate::dialect::Dialect;
use crate::directory::{Directory, User};

/// Credentials considered of one request. Clients send one for each realm and algorithm; nobody honest sends more.
const CREDENTIALS_MAX: usize = 8;
/// Nonces whose counts are remembered. Beyond that the oldest are challenged again.
const NONCES_MAX: usize = 200_000;

/// Checks credentials and makes challenges.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Makes and judges nonces.
    key: NonceKey,
    /// Which counts were used.
    counts: NonceCounts,
    /// Ours.
    realm: String,
    /// How long a nonce is good for.
    lifetime: Duration,
    /// What is offered, and to whom.
    offer: Offer,
}

/// What credentials are worth.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Proof {
    /// This user knows their password.
    Proven(AddressOfRecord),
    /// Nothing, yet. `stale`: the password was right, the nonce was not.
    Unproven {
        /// Spare the user the password.
        stale: bool,
    },
}

impl Guard {
    /// A guard of a server born at `unix_now`. How older nonces were used, it cannot know: they cost one more
    /// challenge each.
    pub(crate) fn new(key: NonceKey, realm: &str, settings: &Settings, unix_now: u64) -> Guard {
        let mut counts = NonceCounts::new(NONCES_MAX);
        counts.forget_before(unix_now);
        Guard {
            key,
            counts,
            realm: realm.to_owned(),
            lifetime: settings.nonce_lifetime,
            offer: settings.digest,
        }
    }

    /// Judges the credentials of a request. `domain` completes user names; `done_before` says whether this very
    /// request was carried out already, so that a retransmission is not taken for a replay.
    pub(crate) fn check(
        &mut self,
        request: &Message,
        header: HeaderName,
        domain: &str,
        directory: &Directory,
        unix_now: u64,
        done_before: impl Fn(&AddressOfRecord) -> bool,
    ) -> Proof {
        let mut stale = false;
        for value in request.headers(header).take(CREDENTIALS_MAX) {
            let Ok(credentials) = Credentials::parse(value) else { continue };
            let refused = self.offer == Offer::Sha256 && credentials.algorithm == Algorithm::Md5;
            if credentials.realm != self.realm || refused {
                continue;
            }
            let Some((aor, right)) = self.verify(&credentials, request, domain, directory) else { continue };
            if !right {
                continue;
            }
            match self.key.judge(credentials.nonce, unix_now, self.lifetime) {
                NonceVerdict::Foreign | NonceVerdict::Stale => stale = true,
                NonceVerdict::Fresh => {
                    // Clients of RFC 2069 do not count: each nonce is good once.
                    match self.counts.count(credentials.nonce, credentials.nonce_count.unwrap_or(0)) {
                        Counted::New => return Proof::Proven(aor),
                        Counted::Replayed if done_before(&aor) => return Proof::Proven(aor),
                        Counted::Replayed | Counted::Forgotten => stale = true,
                    }
                }
            }
        }
        Proof::Unproven { stale }
    }

    /// Whether the response is right; the same work whether the user exists or not.
    fn verify(
        &self,
        credentials: &Credentials<'_>,
        request: &Message,
        domain: &str,
        directory: &Directory,
    ) -> Option<(AddressOfRecord, bool)> {
        let name = credentials.username.split('@').next().unwrap_or_default();
        let aor: AddressOfRecord = format!("sip:{}@{domain}", escape_user(name)).parse().ok()?;
        let user = directory.user(&aor);
        let decoy = self.key.decoy(credentials.algorithm);
        let of = |user: &User| match credentials.algorithm {
            Algorithm::Md5 => user.ha1_md5,
            Algorithm::Sha256 => user.ha1_sha256,
        };
        let ha1 = user.map_or(decoy, of);
        let right = credentials.verify(&ha1, request.method().as_str(), request.body());
        Some((aor, right && user.is_some()))
    }

    /// A challenge for each algorithm that this client is offered, the strongest first (RFC 8760 §2.3), of one nonce.
    pub(crate) fn challenges(
        &self,
        dialect: Dialect,
        stale: bool,
        unix_now: u64,
        rng: &mut dyn Rng,
    ) -> Vec<Challenge> {
        let offered: &[Algorithm] = match self.offer {
            Offer::ByClient if !dialect.registrars => &[Algorithm::Md5],
            Offer::ByClient | Offer::Both => &Algorithm::STRONGEST_FIRST,
            Offer::Sha256 => &[Algorithm::Sha256],
        };
        let nonce = self.key.mint(unix_now, rng.next_u64());
        let challenge = |algorithm: &Algorithm| Challenge {
            stale,
            ..Challenge::new(&self.realm, nonce.clone(), *algorithm)
        };
        offered.iter().map(challenge).collect()
    }

    /// Forgets the counts of nonces that are too old to be used.
    pub(crate) fn forget(&mut self, unix_now: u64) {
        self.counts.forget_stale(unix_now, self.lifetime);
    }
}
