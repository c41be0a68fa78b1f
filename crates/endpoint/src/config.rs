//! What one client is told before it is born: who it is, what it may do, how patient it is.

use std::fmt;
use std::time::Duration;

use resilience::profile::{Profile, Timers};
use sip::transport::Transport;
use sip::uri::AddressOfRecord;

use crate::registrar::Registrar;

/// The settings of one client. [`Config::new`] fills in what most people want.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom we sign in: `sip:alice@example.test`. Its domain is where discovery asks.
    pub aor: AddressOfRecord,
    /// The user name for digest, where it differs from the user part of the address-of-record.
    pub auth_user: String,
    /// The password. Never printed.
    pub password: Password,
    /// Whether to behave as the 2010 model's client did, or better.
    pub profile: Profile,
    /// How patient: `peer_dead_after`, `keepalive_idle`, `keepalive_doubt` are the ones used here.
    pub timers: Timers,
    /// How long a connection may take to come up, per address.
    pub connect_timeout: Duration,
    /// The expiry we wish for; the registrar decides.
    pub expiry: Duration,
    /// A registrar to use instead of discovery: `sip:fe1.example.test:5061;transport=tls`. Names and
    /// redirects are still checked; the cache and DNS are left aside.
    pub registrar: Option<String>,
    /// The transports we may use. Discovery asks only for these; a redirect to another is refused.
    pub transports: Vec<Transport>,
    /// An SRV target must lie in the user's SIP domain, or anybody who can forge one DNS answer is our
    /// registrar. Off: any target is believed.
    pub strict_names: bool,
    /// Follow a redirect to a host outside the user's SIP domain.
    pub allow_redirect_outside: bool,
    /// Our `User-Agent` line.
    pub user_agent: String,
    /// Which device we are: a UUID (RFC 5626 §4.1), the same at every start. Empty: drawn at birth.
    pub instance: String,
    /// What an INVITE gets.
    pub calls: Calls,
    /// Announce that we can live without user services. Off: a client of the time before limited
    /// functionality, which a backup without them turns away.
    pub survivable: bool,
}

impl Config {
    /// A client of `profile` for `aor`, with that profile's timers, over TLS, TCP or UDP as DNS offers.
    pub fn new(aor: AddressOfRecord, password: impl Into<String>, profile: Profile) -> Config {
        Config {
            auth_user: aor.user().to_string(),
            aor,
            password: Password(password.into()),
            profile,
            timers: Timers::of(profile),
            connect_timeout: Duration::from_secs(5),
            expiry: Duration::from_secs(600),
            registrar: None,
            transports: vec![Transport::Tls, Transport::Tcp, Transport::Udp],
            strict_names: true,
            allow_redirect_outside: false,
            user_agent: "Rehome".to_owned(),
            instance: String::new(),
            calls: Calls::Answer,
            survivable: true,
        }
    }
}

impl Config {
    /// Whether [`registrar`](Config::registrar), if there is one, names a server that can be tried: a SIP URI
    /// with a transport we may use. One that does not would be waited for in vain.
    pub fn registrar_is_usable(&self) -> bool {
        self.registrar.as_ref().is_none_or(|uri| Registrar::parse(uri, &self.transports, None).is_ok())
    }
}

/// A secret that no log line shows.
#[derive(Clone, Eq, PartialEq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What an incoming INVITE gets. There is nobody to ring here: the client answers for itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Calls {
    /// 200 with a minimal session description.
    Answer,
    /// 486 Busy Here.
    Busy,
}
