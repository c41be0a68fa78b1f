//! The endpoint cache: what a client remembers between two starts.
//!
//! It exists so that the second sign-in needs no DNS and no redirect. The two profiles differ in how
//! much they remember, and that difference decides who is stranded when a pool dies:
//!
//! | profile | remembers | when |
//! | --- | --- | --- |
//! | `lync2010` | the primary registrar alone | the server said it is the primary |
//! | `rehome` | every registrar of the user in order, with a lifetime | any 200 or redirect that names them |
//!
//! The cache is tried first at start-up; DNS is asked when everything in it has failed. Plain data:
//! the world stores it where and how it likes.

use std::net::SocketAddr;
use std::time::Duration;

/// How long a list of registrars is believed when the server did not say: 30 days, the lifetime that
/// the model's 301 carries in `Expires`.
pub const LIFETIME: Duration = Duration::from_secs(2_592_000);

/// What one user's client remembers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CacheEntry {
    /// Whose it is: the address-of-record, `sip:user@domain`. An entry of somebody else is not used.
    pub aor: String,
    /// The user's registrars, the one to try first at the front.
    pub registrars: Vec<CachedRegistrar>,
    /// How long this may be believed, counted from when it was handed out for keeping. Only the world
    /// knows how long it has lain there: it subtracts, and hands nothing back when nothing is left.
    pub lifetime: Duration,
}

/// One registrar as remembered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CachedRegistrar {
    /// Its URI as a server named it: `sip:fe1.example.test:5061;transport=tls`.
    pub uri: String,
    /// The address at which it last answered us, or, if it never had to, at which DNS saw it: tried
    /// before DNS is asked, so that a start without DNS is a start all the same.
    pub address: Option<SocketAddr>,
}

impl CacheEntry {
    /// The entry, if it is that user's and holds anything that may still be believed.
    pub fn usable_for(self, aor: &str) -> Option<CacheEntry> {
        (self.aor == aor && !self.registrars.is_empty() && !self.lifetime.is_zero()).then_some(self)
    }
}
