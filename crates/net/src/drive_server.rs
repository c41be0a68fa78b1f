//! Runs one server in the real world: its sockets, its shards, its disk.
//!
//! ```text
//!   UDP sockets ──┐                    ┌─► shard 0 (a thread, a brain; keeps the watch) ─┐
//!   TCP, TLS ─────┤ route: whose user? ├─► shard 1                                       ├─► disk (a thread)
//!   DNS, operator ┘                    └─► shard n                                       ┘
//! ```
//!
//! A brain is never shared and never locked; what is between the threads is an inbox with an urgent lane
//! per shard. Everything a host does goes through its [`Nic`], from its own address.
//!
//! Not here: decisions. This file says how a message gets to the brain that decides, `shard` how what
//! the brain wants is done.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use resilience::topology::{PoolName, ServerName, Topology};
use server::config::{Config, Settings, Shard as ShardNumber};
use server::directory::Directory;
use server::event::Event;
use server::output::Change;
use server::view::{Explanation, View};
use server::{Command, Input, Server};
use sip::digest::NonceKey;
use sip::locate::{Answer, DnsFailure, Query};
use sip::transport::{Flow, FlowLoss, Frame, Target, Transport};
use sip::uri::AddressOfRecord;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;

use crate::certificates::{self, CertificateError, Material};
use crate::clock::{self, Tempo};
use crate::disk::{Disk, Durability, News};
use crate::dns::{Resolver, ResolverError};
use crate::inbox::Inbox;
use crate::nic::Nic;
use crate::port_holder;
use crate::route;
use crate::shard::{Shard, Work};
use crate::sqlite::StoreError;
use crate::stream::{self, Connection, Limits, Sink};
use crate::tls::{Names, Tls};
use crate::udp;

/// Messages that may wait for one shard: at full speed, a tenth of a second's worth.
const WAITING: usize = 8_192;

/// Events a slow listener may be behind before it misses some.
const EVENTS: usize = 4_096;

/// Everything one server needs to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The published document.
    pub topology: Arc<Topology>,
    /// Who the users are.
    pub directory: Arc<Directory>,
    /// Which server of the topology this is.
    pub server: ServerName,
    /// Certificate, key and believed authorities; needed if the topology gives this server a TLS port.
    pub certificates: Option<Material>,
    /// Where the store is.
    pub data: PathBuf,
    /// How safe a registration is when it is answered.
    pub durability: Durability,
    /// How many brains, each with a thread of its own.
    pub shards: usize,
    /// The host's network interface.
    pub nic: Nic,
    /// Whom to ask for names; nobody in particular: whom the system asks.
    pub name_servers: Vec<SocketAddr>,
    /// The secret that makes nonces, shared with the partner pool.
    pub nonce_key: NonceKey,
    /// The brain's limits and habits.
    pub settings: Settings,
    /// What one connection may cost.
    pub limits: Limits,
    /// How fast time passes here; a laboratory may be in a hurry.
    pub tempo: Tempo,
}

impl Options {
    /// What most people want: one shard, write-behind, an interface of its own, the system's resolver.
    pub fn new(
        topology: Arc<Topology>,
        directory: Arc<Directory>,
        server: ServerName,
        data: impl Into<PathBuf>,
        nonce_key: NonceKey,
    ) -> Options {
        Options {
            topology,
            directory,
            server,
            certificates: None,
            data: data.into(),
            durability: Durability::default(),
            shards: 1,
            nic: Nic::new(),
            name_servers: Vec::new(),
            nonce_key,
            settings: Settings::default(),
            limits: Limits::default(),
            tempo: Tempo::default(),
        }
    }
}

/// Why a server did not start.
#[derive(Clone, Debug, PartialEq)]
pub enum StartError {
    /// The topology has no server of this name.
    UnknownServer {
        /// The name asked for.
        name: ServerName,
        /// The names there are.
        known: Vec<ServerName>,
    },
    /// The topology gives this server a TLS port, and we were given no certificate.
    NoCertificate(ServerName),
    /// The certificate cannot be used.
    Certificate(CertificateError),
    /// A port cannot be listened on.
    Listen {
        /// On which transport.
        transport: Transport,
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: ListenTrouble,
    },
    /// The store cannot be used.
    Store(StoreError),
    /// There is nobody to ask for names.
    Resolver(ResolverError),
    /// The system gives us no threads or no randomness.
    System(String),
}

/// Why a port cannot be listened on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenTrouble {
    /// Somebody has it: who, if it can be seen.
    InUse(Option<String>),
    /// This machine does not have that address.
    NotOurAddress,
    /// A port below 1024, and we are not root.
    Forbidden,
    /// Something else, in the system's words.
    Other(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::UnknownServer { name, known } => {
                let known: Vec<&str> = known.iter().map(ServerName::as_str).collect();
                write!(f, "the topology has no server {name}; it has {}", known.join(", "))
            }
            StartError::NoCertificate(name) => {
                write!(
                    f,
                    "{name} has a TLS port but no certificate; give it one, or take `tls` out of the topology"
                )
            }
            StartError::Certificate(why) => why.fmt(f),
            StartError::Listen { transport, address, why } => {
                write!(f, "cannot listen on {transport} {address}: ")?;
                match why {
                    ListenTrouble::InUse(Some(holder)) => {
                        write!(
                            f,
                            "in use by {holder}; stop it, or give this server another port in the topology"
                        )
                    }
                    ListenTrouble::InUse(None) => write!(
                        f,
                        "in use by another process; find it with `ss -lnp sport = :{}`, or give this server another port",
                        address.port()
                    ),
                    ListenTrouble::NotOurAddress => write!(
                        f,
                        "this machine does not have that address (`ip address` shows those it has); correct `address` in the topology"
                    ),
                    ListenTrouble::Forbidden => {
                        write!(f, "not permitted; use a port above 1023, or grant CAP_NET_BIND_SERVICE")
                    }
                    ListenTrouble::Other(why) => f.write_str(why),
                }
            }
            StartError::Store(why) => why.fmt(f),
            StartError::Resolver(why) => why.fmt(f),
            StartError::System(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

/// One event of a server, and when it happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Wall time since 1970.
    pub at: Duration,
    /// Time since the server started.
    pub since_start: Duration,
    /// Which shard tells.
    pub shard: usize,
    /// What happened.
    pub event: Arc<Event>,
}

/// What a server has had to leave undone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Datagrams dropped on arrival because a shard was busy.
    pub unheard: u64,
    /// Datagrams that could not be sent.
    pub unsent: u64,
    /// Changes that are not on disk yet.
    pub unsaved: usize,
}

//------------ ServerHost ----------------------------------------------------

/// A running server. Dropping it ends it as a killed process ends.
pub struct ServerHost {
    house: Arc<House>,
    threads: Vec<JoinHandle<()>>,
    listening: Vec<(Transport, SocketAddr)>,
}

impl ServerHost {
    /// Starts one. Must be called within a tokio runtime, which then carries its sockets.
    pub async fn start(options: Options) -> Result<ServerHost, StartError> {
        let topology = options.topology.clone();
        let Some((pool, entry)) = topology.server(&options.server) else {
            let servers = topology.pools.iter().flat_map(|pool| &pool.servers);
            let known = servers.map(|server| server.name.clone()).collect();
            return Err(StartError::UnknownServer { name: options.server, known });
        };
        let tls = match &options.certificates {
            None if entry.tls.is_some() => return Err(StartError::NoCertificate(options.server)),
            None => None,
            Some(material) => Some(usable_tls(material, &options.server, &pool.name)?),
        };

        let at = |port: u16| SocketAddr::new(entry.address, port);
        let mut listening = Vec::new();
        let mut sockets = Vec::new();
        if let Some(port) = entry.udp {
            let bound = udp::Socket::bind(&options.nic, at(port));
            let socket = bound.map_err(|why| listen_error(Transport::Udp, at(port), &why))?;
            listening.push((Transport::Udp, socket.local()));
            sockets.push(socket);
        }
        let mut listeners = Vec::new();
        for (transport, port) in [(Transport::Tcp, entry.tcp), (Transport::Tls, entry.tls)] {
            if let Some(port) = port {
                let bound = options.nic.listen(at(port));
                let listener = bound.map_err(|why| listen_error(transport, at(port), &why))?;
                listening.push((transport, listener.local()));
                listeners.push((transport, listener));
            }
        }

        let resolver = match options.name_servers.as_slice() {
            // A host without name servers can still serve its own users.
            [] => Resolver::system(options.nic.clone())
                .inspect_err(
                    |why| tracing::warn!(server = %options.server, %why, "names cannot be looked up"),
                )
                .ok(),
            servers => Some(
                Resolver::new(servers, Some(entry.address), options.nic.clone())
                    .map_err(StartError::Resolver)?,
            ),
        };

        let home: Arc<OnceLock<Weak<House>>> = Arc::default();
        let news = {
            let home = home.clone();
            move |news| {
                if let Some(house) = home.get().and_then(Weak::upgrade) {
                    house.hear_of_disk(news);
                }
            }
        };
        let (disk, restored) =
            Disk::open(&options.data, options.durability, news).map_err(StartError::Store)?;

        let shards = options.shards.max(1);
        let house = Arc::new(House {
            name: options.server.clone(),
            pool: pool.name.clone(),
            born: options.tempo.now(),
            tempo: options.tempo,
            address: entry.address,
            nic: options.nic.clone(),
            runtime: Handle::current(),
            sockets,
            inboxes: (0..shards).map(|_| Inbox::new(WAITING)).collect(),
            disk,
            disk_failed: AtomicBool::new(false),
            tls,
            resolver,
            limits: options.limits,
            events: broadcast::channel(EVENTS).0,
            tasks: Mutex::default(),
        });
        let _ = home.set(Arc::downgrade(&house));

        let mut host = ServerHost { house: house.clone(), threads: Vec::new(), listening };
        for index in 0..shards {
            host.threads.push(start_shard(&options, ShardNumber { index, of: shards }, &house, &restored)?);
        }
        for socket in house.sockets.clone() {
            house.spawn(receive(socket, house.clone()));
        }
        for (transport, listener) in listeners {
            let tls = house.tls.clone().filter(|_| transport == Transport::Tls);
            house.spawn(stream::accept_all(listener, tls, options.limits, Door(house.clone())));
        }
        Ok(host)
    }

    /// Where it listens, with the real ports.
    pub fn listening(&self) -> &[(Transport, SocketAddr)] {
        &self.listening
    }

    /// Where it listens for `transport`.
    pub fn address(&self, transport: Transport) -> Option<SocketAddr> {
        self.listening.iter().find(|(listening, _)| *listening == transport).map(|(_, address)| *address)
    }

    /// Its network interface.
    pub fn nic(&self) -> &Nic {
        &self.house.nic
    }

    /// Tells every shard.
    pub fn command(&self, command: Command) {
        for inbox in &self.house.inboxes {
            inbox.push_urgent(Work::Input(Input::Told(command.clone())));
        }
    }

    /// Puts a newly published topology and directory into use. No connection is dropped.
    pub fn reload(&self, topology: Arc<Topology>, directory: Arc<Directory>) {
        self.command(Command::Reload { topology, directory });
    }

    /// Uses these certificates for handshakes from now on. Nothing changes if they are faulty or name somebody else.
    pub fn reload_certificates(&self, material: &Material) -> Result<(), CertificateError> {
        let Some(tls) = &self.house.tls else { return Ok(()) };
        check_material(material, &self.house.name, &self.house.pool)?;
        tls.reload(material)
    }

    /// What each shard knows now.
    pub async fn views(&self) -> Vec<View> {
        let mut views = Vec::new();
        for shard in 0..self.house.inboxes.len() {
            views.extend(self.ask(shard, |server, now| server.view(now)).await);
        }
        views
    }

    /// Everything this server knows about one user.
    pub async fn explain(&self, aor: &AddressOfRecord) -> Option<Explanation> {
        let shard = (aor.hash64() % self.house.inboxes.len() as u64) as usize;
        let aor = aor.clone();
        self.ask(shard, move |server, now| server.explain(&aor, now)).await
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Happening> {
        self.house.events.subscribe()
    }

    /// What had to be left undone.
    pub fn losses(&self) -> Losses {
        Losses {
            unheard: self.house.inboxes.iter().map(Inbox::dropped).sum(),
            unsent: self.house.sockets.iter().map(udp::Socket::unsent).sum(),
            unsaved: self.house.disk.unsaved(),
        }
    }

    /// The store, for its quota.
    pub fn disk(&self) -> &Disk {
        &self.house.disk
    }

    /// Ends it in good order: nothing new is heard, what was heard is answered, everything is saved. Gives the
    /// number of changes that could not be.
    pub async fn stop(mut self) -> usize {
        for inbox in &self.house.inboxes {
            inbox.push(Work::Stop);
        }
        let threads = std::mem::take(&mut self.threads);
        let house = self.house.clone();
        let ended = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
            house.disk.close()
        });
        let unsaved = ended.await.unwrap_or(0);
        // The shards have closed their connections; what was handed over for them leaves now.
        tokio::time::sleep(Duration::from_millis(100)).await;
        unsaved
    }

    /// Ends it as `kill -9` does: the kernel resets its connections, what is not on disk is lost.
    pub fn kill(self) {}

    async fn ask<T: Send + 'static>(
        &self,
        shard: usize,
        question: impl FnOnce(&mut Server, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let ask = move |server: &mut Server, now: Instant| {
            let _ = answer.send(question(server, now));
        };
        self.house.inboxes.get(shard)?.push_urgent(Work::Ask(Box::new(ask)));
        answered.await.ok()
    }
}

impl Drop for ServerHost {
    fn drop(&mut self) {
        self.house.disk.abandon();
        self.house.shut();
        for inbox in &self.house.inboxes {
            inbox.push_urgent(Work::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn usable_tls(material: &Material, server: &ServerName, pool: &PoolName) -> Result<Arc<Tls>, StartError> {
    check_material(material, server, pool).map_err(StartError::Certificate)?;
    Tls::new(material, Names::Strict).map_err(StartError::Certificate)
}

/// Clients look for the pool, other servers for the server: our certificate must name both.
fn check_material(material: &Material, server: &ServerName, pool: &PoolName) -> Result<(), CertificateError> {
    match &material.identity {
        Some(identity) => certificates::check_names(&identity.chain, &[server, pool]),
        None => Ok(()),
    }
}

fn listen_error(transport: Transport, address: SocketAddr, why: &std::io::Error) -> StartError {
    let why = match why.kind() {
        std::io::ErrorKind::AddrInUse => {
            ListenTrouble::InUse(port_holder::holder(address, transport == Transport::Udp))
        }
        std::io::ErrorKind::AddrNotAvailable => ListenTrouble::NotOurAddress,
        std::io::ErrorKind::PermissionDenied => ListenTrouble::Forbidden,
        _ => ListenTrouble::Other(why.to_string()),
    };
    StartError::Listen { transport, address, why }
}

fn start_shard(
    options: &Options,
    number: ShardNumber,
    house: &Arc<House>,
    restored: &[Change],
) -> Result<JoinHandle<()>, StartError> {
    let told = |why: &dyn fmt::Display| StartError::System(format!("the system gives us {why}"));
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|why| told(&format_args!("no randomness: {why}")))?;
    let config = Config {
        topology: options.topology.clone(),
        directory: options.directory.clone(),
        server: options.server.clone(),
        shard: number,
        realm: options.topology.domains.first().cloned().unwrap_or_default(),
        nonce_key: options.nonce_key.clone(),
        unix_at_birth: clock::unix_s(),
        settings: options.settings.clone(),
    };
    let now = options.tempo.now();
    let mut server = Server::new(config, ChaCha12Rng::from_seed(seed), now);
    let is_ours = |change: &&Change| match change {
        Change::Binding(binding) => binding.aor.hash64() % number.of as u64 == number.index as u64,
        _ => false,
    };
    server.restore(restored.iter().filter(is_ours).cloned(), now);
    let shard = Shard::new(number.index, server, house.clone());
    let alarm = Alarm(house.clone());
    std::thread::Builder::new()
        .name(format!("shard {}", number.index))
        .spawn(move || {
            let _alarm = alarm;
            shard.run();
        })
        .map_err(|why| told(&format_args!("no thread: {why}")))
}

/// Silences the whole server if a shard dies of a bug: half a server that still answers heartbeats would keep
/// the partner from taking over.
struct Alarm(Arc<House>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(server = %self.0.name, "a shard has died; the server stops, so that its partner takes over");
            self.0.shut();
        }
    }
}

//------------ House ---------------------------------------------------------

/// What all parts of one running server share.
pub(crate) struct House {
    pub(crate) name: ServerName,
    pool: PoolName,
    pub(crate) born: Instant,
    pub(crate) tempo: Tempo,
    /// What we connect from.
    address: IpAddr,
    nic: Nic,
    runtime: Handle,
    pub(crate) sockets: Vec<udp::Socket>,
    pub(crate) inboxes: Vec<Inbox<Work>>,
    pub(crate) disk: Disk,
    /// Set before the shards are told.
    pub(crate) disk_failed: AtomicBool,
    tls: Option<Arc<Tls>>,
    /// None: this host has no name servers.
    resolver: Option<Resolver>,
    limits: Limits,
    pub(crate) events: broadcast::Sender<Happening>,
    /// Everything that runs for this server; `None` once it is shut.
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    is_shut: bool,
}

impl House {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.is_shut {
            while tasks.running.try_join_next().is_some() {}
            tasks.running.spawn_on(task, &self.runtime);
        }
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_shut
    }

    /// Hears and says nothing any more.
    fn shut(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.is_shut = true;
        tasks.running.abort_all();
        drop(tasks);
        for inbox in &self.inboxes {
            inbox.close();
        }
    }

    fn hear_of_disk(&self, news: News) {
        match &news {
            News::Failed(_) => self.disk_failed.store(true, Ordering::Release),
            News::Recovered => self.disk_failed.store(false, Ordering::Release),
            // Nobody waits for a commit.
            News::Committed(_) if self.disk.durability() != Durability::Strict => return,
            News::Committed(_) => {}
        }
        for inbox in &self.inboxes {
            inbox.push_urgent(Work::Disk(news.clone()));
        }
    }

    /// Connects for a shard, which gets its answer under `ticket`.
    pub(crate) fn open(self: &Arc<House>, shard: usize, ticket: u64, target: Target) {
        if target.transport == Transport::Udp {
            let same_family = |socket: &&udp::Socket| socket.local().is_ipv4() == target.address.is_ipv4();
            let input = match self.sockets.iter().find(same_family) {
                Some(socket) => {
                    let (local, remote) = (socket.local(), target.address);
                    let flow = Flow { transport: Transport::Udp, local, remote, serial: 0 };
                    Input::Opened { ticket, flow }
                }
                None => Input::OpenFailed { ticket, why: FlowLoss::Unreachable },
            };
            self.tell(shard, input);
            return;
        }
        let house = self.clone();
        self.spawn(async move {
            let tls = house.tls.as_deref();
            match stream::connect(&house.nic, Some(house.address), &target, tls, house.limits).await {
                Ok(opened) => {
                    let door = Door(house.clone());
                    door.opened(opened.connection());
                    house.tell(shard, Input::Opened { ticket, flow: opened.connection().flow() });
                    opened.converse_on(door).await;
                }
                Err(why) => house.tell(shard, Input::OpenFailed { ticket, why }),
            }
        });
    }

    /// Asks DNS for a shard.
    pub(crate) fn resolve(self: &Arc<House>, shard: usize, query: Query) {
        let house = self.clone();
        self.spawn(async move {
            let answer = match &house.resolver {
                Some(resolver) => resolver.ask(&query).await,
                None => Answer::Failed(DnsFailure::Refused),
            };
            if answer == Answer::Failed(DnsFailure::TimedOut) {
                tracing::warn!(%query, "no name server answered in time");
            }
            house.tell(shard, Input::Resolved { query, answer });
        });
    }

    fn tell(&self, shard: usize, input: Input) {
        if let Some(inbox) = self.inboxes.get(shard) {
            inbox.push_urgent(Work::Input(input));
        }
    }
}

/// Reads one datagram socket for all shards.
async fn receive(socket: udp::Socket, house: Arc<House>) {
    let (mut batch, mut heard) = (udp::Batch::default(), Vec::new());
    let mut sorted: Vec<Vec<Work>> = house.inboxes.iter().map(|_| Vec::new()).collect();
    loop {
        if let Err(why) = socket.receive(&mut batch, &mut heard).await {
            tracing::error!(local = %socket.local(), %why, "cannot receive datagrams");
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        for (remote, bytes) in heard.drain(..) {
            let flow = Flow { transport: Transport::Udp, local: socket.local(), remote, serial: 0 };
            let (shard, input) = match is_keepalive(&bytes) {
                true if bytes.starts_with(b"\r\n\r\n") => {
                    (route::shard_of_flow(&flow, sorted.len()), Input::Ping { flow })
                }
                // Zero bytes, blanks: they keep a NAT open and want no answer.
                true => continue,
                false => (route::shard_of(&bytes, &flow, sorted.len()), Input::Received { flow, bytes }),
            };
            if let Some(works) = sorted.get_mut(shard) {
                works.push(Work::Input(input));
            }
        }
        for (inbox, works) in house.inboxes.iter().zip(&mut sorted) {
            if !works.is_empty() {
                inbox.push_or_drop(works);
            }
        }
    }
}

fn is_keepalive(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0))
}

/// Where connections come in: tells the shards.
#[derive(Clone)]
struct Door(Arc<House>);

impl Sink for Door {
    /// Every shard hears of it, since any of them may have something to send. Connections of proved peers and our
    /// own come first: their heartbeats would overtake the news otherwise.
    fn opened(&self, connection: &Connection) {
        let is_urgent = connection.is_ours() || !connection.names().is_empty();
        for inbox in &self.0.inboxes {
            let work = Work::Opened(connection.clone());
            if is_urgent { inbox.push_urgent(work) } else { inbox.push(work) }
        }
    }

    async fn heard(&self, connection: &Connection, frame: Frame) {
        let flow = connection.flow();
        let shards = self.0.inboxes.len();
        let (shard, input) = match frame {
            Frame::Message(bytes) => {
                let is_proved = !connection.names().is_empty();
                let heartbeat = is_proved.then(|| route::heartbeat_shard(&bytes, shards)).flatten();
                if let Some(shard) = heartbeat {
                    self.0.tell(shard, Input::Received { flow, bytes });
                    return;
                }
                (route::shard_of(&bytes, &flow, shards), Input::Received { flow, bytes })
            }
            Frame::Ping => (route::shard_of_flow(&flow, shards), Input::Ping { flow }),
            Frame::Pong => return,
        };
        if let Some(inbox) = self.0.inboxes.get(shard) {
            inbox.push_when_room(Work::Input(input)).await;
        }
    }

    fn lost(&self, connection: &Connection, why: FlowLoss) {
        for inbox in &self.0.inboxes {
            inbox.push(Work::Lost(connection.flow(), why.clone()));
        }
    }

    fn refused(&self, remote: SocketAddr, why: &str) {
        tracing::info!(target: "rehome", server = %self.0.name, %remote, why, "connection refused");
    }
}
