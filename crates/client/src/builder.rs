//! Who signs in, and how much of the default is to be changed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use endpoint::config::Calls;
use endpoint::{CacheEntry, Config};
use net::cache_file::CacheFile;
use net::certificates::{self, CertificateError, Material};
use net::clock::Tempo;
use net::dns::{Resolver, ResolverError};
use net::drive_endpoint::Options;
use net::nic::Nic;
use net::stream::Limits;
use net::tls::{Names, Tls};
use resilience::profile::{Profile, Timers};
use sip::transport::Transport;
use sip::uri::AddressOfRecord;

use crate::client::Client;

/// A client about to sign in. Made by [`Client::builder`].
#[derive(Clone)]
#[must_use = "nothing happens before `sign_in`"]
pub struct Builder {
    user: String,
    password: String,
    profile: Profile,
    cache: Option<PathBuf>,
    name_servers: Vec<SocketAddr>,
    authorities: Option<PathBuf>,
    local: Option<IpAddr>,
    nic: Nic,
    /// What is changed of the configuration, once it exists.
    changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    AuthUser(String),
    Registrar(String),
    Transports(Vec<Transport>),
    Timers(Timers),
    Expiry(Duration),
    ConnectTimeout(Duration),
    RelaxedNames,
    RedirectsOutside,
    Calls(Calls),
    UserAgent(String),
    Instance(String),
}

impl fmt::Debug for Builder {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(user: String, password: String) -> Builder {
        Builder {
            user,
            password,
            profile: Profile::default(),
            cache: None,
            name_servers: Vec::new(),
            authorities: None,
            local: None,
            nic: Nic::new(),
            changes: Vec::new(),
        }
    }

    /// Keeps what is learned of the user's registrars in this file, so that the next sign-in needs neither
    /// DNS nor a redirect. A damaged file is ignored with a warning, and written anew. There is no secret in
    /// it. Default: nothing is kept.
    pub fn cache_file(mut self, path: impl Into<PathBuf>) -> Builder {
        self.cache = Some(path.into());
        self
    }

    /// Asks these name servers instead of the system's.
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Builder {
        self.name_servers = servers.into_iter().collect();
        self
    }

    /// Believes the certificate authorities in this PEM file instead of the system's.
    pub fn authorities(mut self, pem: impl Into<PathBuf>) -> Builder {
        self.authorities = Some(pem.into());
        self
    }

    /// Sends from this address of the machine. Default: the system chooses.
    pub fn local_address(mut self, address: IpAddr) -> Builder {
        self.local = Some(address);
        self
    }

    /// Uses a network interface whose cable can be pulled, for rehearsals and tests.
    pub fn interface(mut self, nic: Nic) -> Builder {
        self.nic = nic;
        self
    }

    /// Behaves as the 2010 model's client did, its gaps included, or (the default) better.
    pub fn profile(mut self, profile: Profile) -> Builder {
        self.profile = profile;
        self
    }

    /// The user name for the password, where it is not the user part of the address.
    pub fn auth_user(self, user: impl Into<String>) -> Builder {
        self.change(Change::AuthUser(user.into()))
    }

    /// Begins at this registrar instead of looking for one: `sip:fe1.example.test:5061;transport=tls`.
    /// Redirects into the user's domain are followed all the same. A URI that cannot be used fails
    /// [`sign_in`](Builder::sign_in) with [`SignInError::BadRegistrar`].
    pub fn registrar(self, uri: impl Into<String>) -> Builder {
        self.change(Change::Registrar(uri.into()))
    }

    /// The transports that may be used, best first. Default: TLS, TCP, UDP, as DNS offers them.
    ///
    /// Whoever can forge DNS can offer UDP alone, and read along. Where every registrar speaks TLS, say
    /// `[Transport::Tls]`. A registrar reached over TLS is never left for one that is not.
    pub fn transports(self, transports: impl IntoIterator<Item = Transport>) -> Builder {
        self.change(Change::Transports(transports.into_iter().collect()))
    }

    /// How patient to be, instead of as patient as the profile. A client uses three of the timers:
    /// `keepalive_idle`, `keepalive_doubt` and `peer_dead_after`; a registrar whose cable is cut is noticed
    /// within `keepalive_idle + peer_dead_after` (20 s + 5 s by default), or `peer_dead_after` after a request.
    pub fn timers(self, timers: Timers) -> Builder {
        self.change(Change::Timers(timers))
    }

    /// How long one address of a registrar may take to come up, TLS included, before the next is tried.
    /// Default: 5 s.
    pub fn connect_timeout(self, patience: Duration) -> Builder {
        self.change(Change::ConnectTimeout(patience))
    }

    /// The expiry to wish for, in whole seconds from 1 s to a day; the registrar decides (RFC 3261 §10.2.1.1).
    /// Default: 600 s.
    pub fn expiry(self, expiry: Duration) -> Builder {
        self.change(Change::Expiry(expiry))
    }

    /// Believes SRV records whose target lies outside the user's domain. Whoever forges one DNS answer is
    /// then asked to prove only a name of his own choice.
    pub fn relaxed_names(self) -> Builder {
        self.change(Change::RelaxedNames)
    }

    /// Follows redirects to hosts outside the user's domain.
    pub fn allow_redirects_outside(self) -> Builder {
        self.change(Change::RedirectsOutside)
    }

    /// What an incoming call gets. Default: answered, inactive.
    pub fn calls(self, calls: Calls) -> Builder {
        self.change(Change::Calls(calls))
    }

    /// The `User-Agent` line.
    pub fn user_agent(self, name: impl Into<String>) -> Builder {
        self.change(Change::UserAgent(name.into()))
    }

    /// Which device this is, a UUID (RFC 5626 §4.1): the same at each start, or the registrar sees another
    /// device each time. Default: drawn at random.
    pub fn instance(self, uuid: impl Into<String>) -> Builder {
        self.change(Change::Instance(uuid.into()))
    }

    fn change(mut self, change: Change) -> Builder {
        self.changes.push(change);
        self
    }

    /// Signs the user in and keeps them signed in, wherever their pool may be. Returns once a registrar has
    /// accepted them.
    ///
    /// Tries the cached registrars first, then DNS (RFC 3263), follows redirects to the user's home pool,
    /// and fails over to the backup pool it was told about. Refreshes at half the granted time (RFC 3261
    /// §10.2.4 leaves the moment to us); retries as RFC 5626 §4.5 does, jittered, for ever: wrap it in
    /// `tokio::time::timeout` to give up earlier. Dropping the future ends the attempt.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SignInError::Rejected`] when the user, the password or the right to sign in is missing; the others
    /// before anything was sent. Outages are not errors.
    pub async fn sign_in(self) -> Result<Client, SignInError> {
        let file = self.cache.clone().map(CacheFile::at);
        let options = self.options(file.as_ref())?;
        Client::start(options, file).await
    }

    fn options(self, file: Option<&CacheFile>) -> Result<Options, SignInError> {
        let address = if self.user.contains(':') { self.user.clone() } else { format!("sip:{}", self.user) };
        let aor: AddressOfRecord = address.parse().map_err(|_| SignInError::BadAddress(self.user.clone()))?;
        let mut config = Config::new(aor, self.password, self.profile);
        for change in self.changes {
            change.apply(&mut config);
        }
        if let (Some(uri), false) = (&config.registrar, config.registrar_is_usable()) {
            return Err(SignInError::BadRegistrar(uri.clone()));
        }
        let resolver = match self.name_servers.as_slice() {
            [] => Resolver::system(self.nic.clone()),
            servers => Resolver::new(servers, self.local, self.nic.clone()),
        };
        let tls = if config.transports.iter().any(|transport| transport.is_secure()) {
            let authorities = match &self.authorities {
                Some(pem) => certificates::load_chain(pem),
                None => certificates::system_authorities(),
            };
            let material = Material { identity: None, authorities: authorities.map_err(SignInError::Tls)? };
            Some(Tls::new(&material, Names::default()).map_err(SignInError::Tls)?)
        } else {
            None
        };
        Ok(Options {
            config,
            cache: file.and_then(remembered),
            nic: self.nic,
            local: self.local,
            tls,
            resolver: resolver.map_err(SignInError::NoResolver)?,
            limits: Limits::default(),
            tempo: Tempo::default(),
            tap: false,
        })
    }
}

/// What the file holds; nothing, and a warning, if it is damaged: no reason not to sign in.
fn remembered(file: &CacheFile) -> Option<CacheEntry> {
    file.load().unwrap_or_else(|damaged| {
        tracing::warn!("{damaged}");
        None
    })
}

impl Change {
    fn apply(self, config: &mut Config) {
        match self {
            Change::AuthUser(user) => config.auth_user = user,
            Change::Registrar(uri) => config.registrar = Some(uri),
            Change::Transports(transports) => config.transports = transports,
            Change::Timers(timers) => config.timers = timers,
            Change::Expiry(expiry) => config.expiry = expiry,
            Change::ConnectTimeout(patience) => config.connect_timeout = patience,
            Change::RelaxedNames => config.strict_names = false,
            Change::RedirectsOutside => config.allow_redirect_outside = true,
            Change::Calls(calls) => config.calls = calls,
            Change::UserAgent(name) => config.user_agent = name,
            Change::Instance(uuid) => config.instance = uuid,
        }
    }
}

/// Why nobody is signed in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SignInError {
    /// A registrar said that this user with this password is not to be had, now or later.
    Rejected {
        /// Who said so.
        registrar: String,
        /// The status: 401, 403 or 404 as a rule.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// The user's address is none.
    BadAddress(String),
    /// The registrar's URI is none, or asks for a transport that may not be used.
    BadRegistrar(String),
    /// The certificate authorities cannot be used.
    Tls(CertificateError),
    /// There is no name server to ask.
    NoResolver(ResolverError),
}

impl fmt::Display for SignInError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignInError::Rejected { registrar, status, reason } => {
                write!(f, "{registrar} rejects this user or password: {status} {reason}")
            }
            SignInError::BadAddress(address) => {
                write!(f, "{address:?} is no SIP address; one looks like alice@example.test")
            }
            SignInError::BadRegistrar(uri) => {
                write!(f, "{uri:?} cannot be used; one looks like sip:fe1.example.test:5061;transport=tls")
            }
            SignInError::Tls(why) => write!(f, "{why}"),
            SignInError::NoResolver(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for SignInError {}
