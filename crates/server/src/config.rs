//! What a server's brain is born with.

use std::sync::Arc;
use std::time::Duration;

use resilience::topology::{ServerName, Topology};
use sip::digest::NonceKey;

use crate::directory::Directory;

/// Everything one shard of one server needs to know at birth.
#[derive(Clone, Debug)]
pub struct Config {
    /// The published document: the same on every machine.
    pub topology: Arc<Topology>,
    /// Who the users are and where each is homed.
    pub directory: Arc<Directory>,
    /// Which server of the topology this is.
    pub server: ServerName,
    /// Which part of the users this brain looks after.
    pub shard: Shard,
    /// The digest realm: the SIP domain, since a realm must not change when a user fails over.
    pub realm: String,
    /// The secret that makes nonces; shared by the pools of a pair, so that neither challenges a client the
    /// other has just challenged.
    pub nonce_key: NonceKey,
    /// Wall-clock seconds since 1970 at the `now` given to `Server::new`. The brain counts on from there and
    /// never asks again: a wall clock that jumps changes nothing here.
    pub unix_at_birth: u64,
    /// Limits and habits that are nobody else's business.
    pub settings: Settings,
}

/// One of the brains of a server process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shard {
    /// Counted from 0. Shard 0 also runs the watch over the partner pools.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// A server with one brain: the simulated world, small deployments.
    pub const ONLY: Shard = Shard { index: 0, of: 1 };
}

/// Which digest algorithms a challenge offers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Offer {
    /// MD5 to everybody, and SHA-256 before it to clients known to choose among challenges: those that announce
    /// our tag. A phone of before RFC 8760 gives up when it sees a challenge it does not know, wherever it stands.
    #[default]
    ByClient,
    /// Both to everybody, SHA-256 first (RFC 8760 §2.3).
    Both,
    /// SHA-256 alone; a response made with MD5 proves nothing.
    Sha256,
}

/// Limits and habits of one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Which digest algorithms are offered, and to whom.
    pub digest: Offer,
    /// How long a nonce is good for; after that the challenge says `stale=true` and costs one round trip.
    pub nonce_lifetime: Duration,
    /// Bindings one address-of-record may have (the model's `MaxEndpointsPerUser`).
    pub max_contacts: usize,
    /// How long a caller waits for one place a callee may be before the next is tried. Never 32 seconds.
    pub patience: Duration,
    /// How long an unanswered INVITE may ring (RFC 3261 §16.6, Timer C; more than three minutes).
    pub ringing: Duration,
    /// What clients that ask are told to ping by (`ms-keep-alive`, `Flow-Timer`).
    pub keepalive: Duration,
    /// What stands in `Server`; nothing when empty.
    pub server_header: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            digest: Offer::default(),
            nonce_lifetime: Duration::from_secs(3600),
            max_contacts: 8,
            patience: Duration::from_secs(4),
            ringing: Duration::from_secs(185),
            keepalive: Duration::from_secs(300),
            server_header: "Rehome".to_owned(),
        }
    }
}
