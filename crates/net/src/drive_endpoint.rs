//! Runs one client in the real world: one task, one brain.
//!
//! ```text
//!   commands ─┐                              ┌─► datagrams, connections
//!   frames   ─┼─► Endpoint::handle_input ────┼─► DNS, new connections ─► back as inputs
//!   DNS      ─┘        (one at a time)       └─► Said: events, what to remember
//! ```
//!
//! Many clients share a runtime, a TLS configuration and a resolver; each may have a cable of its own to
//! pull. Not here: where the endpoint cache is kept (whoever reads [`Said`]).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use endpoint::{CacheEntry, Command, Config, Endpoint, Event, Input, Output, Status};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use sip::transport::{Flow, FlowLoss, Frame, Target, Transport};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{self, Tempo};
use crate::dns::Resolver;
use crate::nic::Nic;
use crate::stream::{self, Connection, Limits, Sink};
use crate::tls::Tls;
use crate::udp;

/// Frames that may wait for the brain before its connections stop reading.
const WAITING: usize = 64;

/// Everything one client needs.
#[derive(Clone)]
pub struct Options {
    /// Who it is and what it may do.
    pub config: Config,
    /// What it remembered at its last run.
    pub cache: Option<CacheEntry>,
    /// The host's network interface.
    pub nic: Nic,
    /// The host's address; the system chooses if none is given.
    pub local: Option<IpAddr>,
    /// Whom it believes; none: no TLS.
    pub tls: Option<Arc<Tls>>,
    /// Whom it asks for names.
    pub resolver: Resolver,
    /// What one connection may cost.
    pub limits: Limits,
    /// How fast time passes here; a laboratory may be in a hurry.
    pub tempo: Tempo,
    /// Tell also what goes over the wire: [`Said::Opening`], [`Said::Sent`], [`Said::Heard`].
    pub tap: bool,
}

/// What a client tells its owner.
#[derive(Clone, Debug)]
pub enum Said {
    /// Something happened.
    Event {
        /// Time since the client started.
        since_start: Duration,
        /// What.
        event: Event,
    },
    /// Remember this for the next start, in place of what was remembered before.
    Remember(CacheEntry),
    /// Where the user is, and what they have there, has changed.
    Status(Status),
    /// A flow is being opened (tapped clients only).
    Opening(Target),
    /// A message was sent (tapped clients only).
    Sent {
        /// Which way.
        flow: Flow,
        /// The message.
        bytes: Bytes,
    },
    /// A message came (tapped clients only).
    Heard {
        /// Which way.
        flow: Flow,
        /// The message.
        bytes: Bytes,
    },
}

/// A running client. Dropping it ends it without a word to anybody; sign out first to be polite.
pub struct EndpointHost {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
    task: tokio::task::JoinHandle<()>,
}

impl EndpointHost {
    /// Starts one, and the ear for what it says. Must be called within a tokio runtime.
    pub fn start(options: Options) -> (EndpointHost, mpsc::UnboundedReceiver<Said>) {
        let mut seed = [0; 32];
        if getrandom::fill(&mut seed).is_err() {
            // A machine without randomness: the clock is better than the same branch for everybody.
            seed[..16].copy_from_slice(&clock::unix().as_nanos().to_ne_bytes());
        }
        let now = options.tempo.now();
        let endpoint =
            Endpoint::new(options.config.clone(), options.cache.clone(), ChaCha12Rng::from_seed(seed), now);
        let (commands, told) = mpsc::unbounded_channel();
        let (said, ear) = mpsc::unbounded_channel();
        let (status, seen) = watch::channel(endpoint.status());
        let (door, arrivals) = mpsc::channel(WAITING);
        let driver = Driver {
            endpoint,
            options,
            born: now,
            said,
            status,
            door,
            connections: HashMap::new(),
            sockets: Vec::new(),
            tasks: JoinSet::new(),
            deadline: None,
        };
        let task = tokio::spawn(driver.run(told, arrivals));
        (EndpointHost { commands, status: seen, task }, ear)
    }

    /// Tells the client what its user wants.
    pub fn command(&self, command: Command) {
        // A client that has ended wants nothing any more.
        let _ = self.commands.send(command);
    }

    /// Where it is registered, since when and why.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The same, to wait for changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

impl Drop for EndpointHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What comes in from the client's tasks.
enum Arrival {
    Input(Input),
    Opened(u64, Connection),
    Lost(Flow, FlowLoss),
}

struct Driver {
    endpoint: Endpoint,
    options: Options,
    born: Instant,
    said: mpsc::UnboundedSender<Said>,
    status: watch::Sender<Status>,
    door: mpsc::Sender<Arrival>,
    connections: HashMap<u64, Connection>,
    /// At most one per address we have spoken from.
    sockets: Vec<udp::Socket>,
    tasks: JoinSet<()>,
    deadline: Option<Instant>,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut arrivals: mpsc::Receiver<Arrival>,
    ) {
        self.drain();
        loop {
            let (deadline, tempo) = (self.deadline, self.options.tempo);
            let until_deadline = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(tempo.real(deadline).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.tell(Input::Told(command)),
                    None => return,
                },
                Some(arrival) = arrivals.recv() => self.hear(arrival),
                () = until_deadline => {
                    self.deadline = None;
                    self.tell(Input::Timeout);
                }
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            }
        }
    }

    fn hear(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Input(input) => self.tell(input),
            Arrival::Opened(ticket, connection) => {
                let flow = connection.flow();
                self.connections.insert(flow.serial, connection);
                self.tell(Input::Opened { ticket, flow });
            }
            Arrival::Lost(flow, why) => {
                // One we closed ourselves is not known any more, and not missed.
                if self.connections.remove(&flow.serial).is_some() {
                    self.tell(Input::FlowLost { flow, why });
                }
            }
        }
    }

    fn tell(&mut self, input: Input) {
        if let Input::Received { flow, bytes } = &input {
            self.tap(|| Said::Heard { flow: *flow, bytes: bytes.clone() });
        }
        self.endpoint.handle_input(input, self.options.tempo.now());
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.endpoint.poll_output() {
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    break;
                }
                Output::Transmit { flow, bytes } => {
                    self.tap(|| Said::Sent { flow, bytes: bytes.clone() });
                    self.transmit(flow, bytes);
                }
                Output::Ping { flow } => self.transmit(flow, Bytes::from_static(b"\r\n\r\n")),
                Output::Open { ticket, target } => {
                    self.tap(|| Said::Opening(target.clone()));
                    self.open(ticket, target);
                }
                Output::Close { flow } => {
                    if let Some(connection) = self.connections.remove(&flow.serial) {
                        connection.close();
                    }
                }
                Output::Resolve(query) => {
                    let (resolver, door) = (self.options.resolver.clone(), self.door.clone());
                    self.tasks.spawn(async move {
                        let answer = resolver.ask(&query).await;
                        let _ = door.send(Arrival::Input(Input::Resolved { query, answer })).await;
                    });
                }
                Output::Persist(entry) => {
                    let _ = self.said.send(Said::Remember(entry));
                }
                Output::Event(event) => {
                    let since_start = self.options.tempo.now().saturating_duration_since(self.born);
                    let _ = self.said.send(Said::Event { since_start, event });
                }
            }
        }
        let status = self.endpoint.status();
        if *self.status.borrow() != status {
            let _ = self.said.send(Said::Status(status.clone()));
            self.status.send_replace(status);
        }
    }

    /// Tells what goes over the wire, if anybody asked for it.
    fn tap(&self, said: impl FnOnce() -> Said) {
        if self.options.tap {
            let _ = self.said.send(said());
        }
    }

    fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        if flow.transport != Transport::Udp {
            if let Some(connection) = self.connections.get(&flow.serial) {
                connection.send(bytes);
            }
        } else if let Some(socket) = self.sockets.iter().find(|socket| socket.local() == flow.local) {
            socket.send(&[(flow.remote, bytes)]);
        }
    }

    fn open(&mut self, ticket: u64, target: Target) {
        let door = self.door.clone();
        if target.transport == Transport::Udp {
            let input = match self.socket_towards(target.address) {
                Ok(local) => {
                    let flow = Flow { transport: Transport::Udp, local, remote: target.address, serial: 0 };
                    Input::Opened { ticket, flow }
                }
                Err(_) => Input::OpenFailed { ticket, why: FlowLoss::Unreachable },
            };
            // Not straight back into the brain: it has not finished speaking.
            self.tasks.spawn(async move {
                let _ = door.send(Arrival::Input(input)).await;
            });
            return;
        }
        let options = self.options.clone();
        self.tasks.spawn(async move {
            let tls = options.tls.as_deref();
            match stream::connect(&options.nic, options.local, &target, tls, options.limits).await {
                Ok(opened) => {
                    let _ = door.send(Arrival::Opened(ticket, opened.connection().clone())).await;
                    opened.converse_on(Door(door)).await;
                }
                Err(why) => {
                    let _ = door.send(Arrival::Input(Input::OpenFailed { ticket, why })).await;
                }
            }
        });
    }

    /// The address we send datagrams to `remote` from; binds a socket there the first time.
    fn socket_towards(&mut self, remote: SocketAddr) -> std::io::Result<SocketAddr> {
        let local = match self.options.local {
            Some(local) => local,
            None => route_towards(remote)?,
        };
        if let Some(socket) = self.sockets.iter().find(|socket| socket.local().ip() == local) {
            return Ok(socket.local());
        }
        let socket = udp::Socket::bind(&self.options.nic, SocketAddr::new(local, 0))?;
        let address = socket.local();
        self.sockets.push(socket.clone());
        self.tasks.spawn(receive(socket, self.door.clone()));
        Ok(address)
    }
}

/// The address of ours that the system would send from. Sends nothing.
fn route_towards(remote: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let probe = std::net::UdpSocket::bind(any)?;
    probe.connect(remote)?;
    Ok(probe.local_addr()?.ip())
}

async fn receive(socket: udp::Socket, door: mpsc::Sender<Arrival>) {
    let (mut batch, mut heard) = (udp::Batch::small(), Vec::new());
    while socket.receive(&mut batch, &mut heard).await.is_ok() {
        for (remote, bytes) in heard.drain(..) {
            let flow = Flow { transport: Transport::Udp, local: socket.local(), remote, serial: 0 };
            let is_blank = bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0));
            let input = if is_blank { Input::Pong { flow } } else { Input::Received { flow, bytes } };
            if door.send(Arrival::Input(input)).await.is_err() {
                return;
            }
        }
    }
}

/// Where a client's connections come in.
#[derive(Clone)]
struct Door(mpsc::Sender<Arrival>);

impl Sink for Door {
    fn opened(&self, _: &Connection) {}

    async fn heard(&self, connection: &Connection, frame: Frame) {
        let flow = connection.flow();
        let input = match frame {
            Frame::Message(bytes) => Input::Received { flow, bytes },
            // A server that pings shows that it lives, too; it wants an answer.
            Frame::Ping => {
                connection.send(Bytes::from_static(b"\r\n"));
                Input::Pong { flow }
            }
            Frame::Pong => Input::Pong { flow },
        };
        let _ = self.0.send(Arrival::Input(input)).await;
    }

    fn lost(&self, connection: &Connection, why: FlowLoss) {
        let (door, lost) = (self.0.clone(), Arrival::Lost(connection.flow(), why));
        // There may be no room at this moment, and this must not be lost.
        if let Err(mpsc::error::TrySendError::Full(lost)) = door.try_send(lost) {
            tokio::spawn(async move {
                let _ = door.send(lost).await;
            });
        }
    }
}
