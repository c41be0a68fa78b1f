//! Connections: accepted or made, plain or TLS, framed, bounded, and never silent about their end.
//!
//! ```text
//!   listen ─► accept ─► (TLS) ─┐                       ┌─► Sink::heard, one frame at a time
//!                              ├─► opened ─► converse ─┤
//!   connect ──────────► (TLS) ─┘                       └─► Sink::lost, exactly once
//! ```
//!
//! Limits: time for a handshake, time from a message's first byte to its last, connections per source
//! and in all, bytes waiting to be sent (a slow reader is cut off rather than stored for). While a
//! [`Sink`] has no room we do not read, and TCP tells the other side.
//!
//! An idle connection holds no read buffer: bytes go from the stack straight into the framer.
//! RFC 3261 §18, RFC 5626 §4.4.1. Not here: what frames mean, and who keeps alive whom (the brains).

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use sip::message::Message;
use sip::method::Method;
use sip::print::Builder;
use sip::text::Text;
use sip::transport::{Flow, FlowLoss, Frame, Framer, Target, Transport};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use crate::clock;
use crate::nic::{Listener, Nic, Stream};
use crate::tls::Tls;

/// How long bytes handed over before a close may still take to leave.
const LINGER: Duration = Duration::from_secs(2);

/// What one connection may cost us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// To connect, TLS included.
    pub connect: Duration,
    /// To finish a TLS handshake that somebody began with us.
    pub handshake: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// Bytes waiting to be sent on one connection.
    pub unsent: usize,
    /// Connections accepted from one address.
    pub per_source: usize,
    /// Connections accepted in all.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            message: Duration::from_secs(30),
            unsent: 1 << 20,
            per_source: 20_000,
            connections: 200_000,
        }
    }
}

/// Who wants to know what happens on connections.
pub trait Sink: Clone + Send + Sync + 'static {
    /// It stands; frames follow.
    fn opened(&self, connection: &Connection);
    /// One frame. We read on when the future is done.
    fn heard(&self, connection: &Connection, frame: Frame) -> impl Future<Output = ()> + Send;
    /// It is gone; nothing follows.
    fn lost(&self, connection: &Connection, why: FlowLoss);
    /// Somebody was turned away before there was a connection.
    fn refused(&self, remote: SocketAddr, why: &str) {
        tracing::info!(%remote, why, "connection refused");
    }
}

//------------ Connection ----------------------------------------------------

/// One connection, as those see it who send on it. Cheap to clone.
#[derive(Clone)]
pub struct Connection(Arc<Link>);

struct Link {
    flow: Flow,
    /// What the other side's certificate proved.
    names: Vec<String>,
    /// True if we connected, not they.
    is_ours: bool,
    unsent_limit: usize,
    outgoing: Mutex<Outgoing>,
    /// There is something to send, or to end.
    stirred: Notify,
    /// The end has been decided.
    ended: Notify,
}

#[derive(Default)]
struct Outgoing {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// Close when the queue is empty.
    is_closing: bool,
    /// Close now: the other side does not read.
    is_overrun: bool,
}

impl Connection {
    fn new(flow: Flow, names: Vec<String>, is_ours: bool, unsent_limit: usize) -> Connection {
        Connection(Arc::new(Link {
            flow,
            names,
            is_ours,
            unsent_limit,
            outgoing: Mutex::default(),
            stirred: Notify::new(),
            ended: Notify::new(),
        }))
    }

    /// Its name.
    pub fn flow(&self) -> Flow {
        self.0.flow
    }

    /// The names the other side proved by certificate; none if it showed none.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// True if we made it.
    pub fn is_ours(&self) -> bool {
        self.0.is_ours
    }

    /// Sends after what was handed over before. Whoever does not read what we send is cut off.
    pub fn send(&self, bytes: Bytes) {
        let mut outgoing = self.outgoing();
        if outgoing.is_closing || outgoing.is_overrun {
            return;
        }
        outgoing.bytes += bytes.len();
        outgoing.queue.push_back(bytes);
        if outgoing.bytes > self.0.unsent_limit {
            outgoing.is_overrun = true;
            outgoing.queue.clear();
            drop(outgoing);
            tracing::warn!(flow = %self.0.flow, "closed: the other side does not read what we send");
            self.0.ended.notify_one();
            return;
        }
        drop(outgoing);
        self.0.stirred.notify_one();
    }

    /// Closes it in good order, after what was handed over.
    pub fn close(&self) {
        self.outgoing().is_closing = true;
        self.0.stirred.notify_one();
        self.0.ended.notify_one();
    }

    /// What is to be sent next, and whether that is the end. Waits for it.
    async fn next_batch(&self) -> (VecDeque<Bytes>, bool) {
        loop {
            {
                let mut outgoing = self.outgoing();
                if !outgoing.queue.is_empty() || outgoing.is_closing {
                    outgoing.bytes = 0;
                    return (std::mem::take(&mut outgoing.queue), outgoing.is_closing);
                }
            }
            self.0.stirred.notified().await;
        }
    }

    /// Done when the connection must end though its writer may be stuck.
    async fn until_given_up(&self) {
        self.0.ended.notified().await;
        if !self.outgoing().is_overrun {
            tokio::time::sleep(LINGER).await;
        }
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.0.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.0.flow)
    }
}

/// Numbers connections; no number is given twice while the process lives.
fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

//------------ Making connections --------------------------------------------

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that stands but is not spoken on yet.
pub struct Opened {
    stream: Box<dyn Duplex>,
    connection: Connection,
    limits: Limits,
}

impl Opened {
    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Speaks on it until it ends. The sink hears of `opened` first and of `lost` last.
    pub async fn converse(self, sink: impl Sink) {
        sink.opened(&self.connection);
        self.converse_on(sink).await;
    }

    /// The same where the sink's owner has announced the connection in their own way.
    pub async fn converse_on(self, sink: impl Sink) {
        let Opened { stream, connection, limits } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let why = tokio::select! {
            why = read(&mut reader, &connection, limits, &sink) => why,
            why = write(&mut writer, &connection) => why,
            () = connection.until_given_up() => FlowLoss::Dropped,
        };
        sink.lost(&connection, why);
    }
}

/// Connects to `target` through the host's interface, from `local` if given. TLS must prove the
/// target's name.
pub async fn connect(
    nic: &Nic,
    local: Option<IpAddr>,
    target: &Target,
    tls: Option<&Tls>,
    limits: Limits,
) -> Result<Opened, FlowLoss> {
    let connecting = async {
        let stream = nic.connect(local, target.address).await.map_err(loss)?;
        let (local, remote) = (stream.local(), stream.remote());
        let (stream, names): (Box<dyn Duplex>, _) = match (target.transport, tls) {
            (Transport::Tcp, _) => (Box::new(stream), Vec::new()),
            (Transport::Tls, Some(tls)) => {
                let (stream, names) = tls.connect(stream, &target.name).await.map_err(loss)?;
                (Box::new(stream), names)
            }
            // No TLS here, or a transport we do not have (WebSocket, or a datagram).
            _ => return Err(FlowLoss::Unreachable),
        };
        let flow = Flow { transport: target.transport, local, remote, serial: next_serial() };
        Ok(Opened { stream, connection: Connection::new(flow, names, true, limits.unsent), limits })
    };
    // Boxed: the handshake's state is large and soon over.
    timeout(limits.connect, Box::pin(connecting)).await.unwrap_or(Err(FlowLoss::TimedOut))
}

/// Accepts connections, plain or TLS, until dropped; its connections are dropped with it.
pub async fn accept_all(listener: Listener, tls: Option<Arc<Tls>>, limits: Limits, sink: impl Sink) {
    let sources = Sources::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(why) => {
                // Out of file descriptors, most likely. Those that wait are not lost.
                tracing::warn!(%why, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let remote = stream.remote();
        let Some(seat) = sources.seat(remote.ip(), limits) else {
            sink.refused(remote, "too many connections");
            continue;
        };
        let (tls, sink) = (tls.clone(), sink.clone());
        connections.spawn(async move {
            let _seat = seat;
            match Box::pin(welcome(stream, tls, limits)).await {
                Ok(opened) => opened.converse(sink).await,
                Err(why) => sink.refused(remote, &why.to_string()),
            }
        });
    }
}

async fn welcome(stream: Stream, tls: Option<Arc<Tls>>, limits: Limits) -> Result<Opened, FlowLoss> {
    let (local, remote) = (stream.local(), stream.remote());
    let mut transport = Transport::Tcp;
    let (stream, names): (Box<dyn Duplex>, _) = match tls {
        None => (Box::new(stream), Vec::new()),
        Some(tls) => {
            transport = Transport::Tls;
            let shaken = timeout(limits.handshake, tls.accept(stream)).await;
            let (stream, names) = shaken.map_err(|_| FlowLoss::TimedOut)?.map_err(loss)?;
            (Box::new(stream), names)
        }
    };
    let flow = Flow { transport, local, remote, serial: next_serial() };
    Ok(Opened { stream, connection: Connection::new(flow, names, false, limits.unsent), limits })
}

/// Counts connections per source.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<Seats>>);

#[derive(Default)]
struct Seats {
    taken: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One connection's place in the count; given back when dropped.
struct Seat {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    fn seat(&self, source: IpAddr, limits: Limits) -> Option<Seat> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = seats.by_source.get(&source).copied().unwrap_or(0);
        if seats.taken >= limits.connections || mine >= limits.per_source {
            return None;
        }
        seats.taken += 1;
        seats.by_source.insert(source, mine + 1);
        Some(Seat { sources: self.clone(), source })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.taken -= 1;
        if let Some(mine) = seats.by_source.get_mut(&self.source) {
            *mine -= 1;
            if *mine == 0 {
                seats.by_source.remove(&self.source);
            }
        }
    }
}

//------------ Speaking ------------------------------------------------------

async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    connection: &Connection,
    limits: Limits,
    sink: &impl Sink,
) -> FlowLoss {
    let mut framer = Framer::default();
    // Set while a message has begun and not ended.
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        let filled = match deadline {
            None => fill(reader, &mut framer).await,
            Some(deadline) => match timeout_at(deadline, fill(reader, &mut framer)).await {
                Ok(filled) => filled,
                Err(_) => return FlowLoss::TimedOut,
            },
        };
        match filled {
            Ok(0) => return FlowLoss::Closed,
            Ok(_) => {}
            Err(why) => return loss(why),
        }
        loop {
            match framer.next() {
                Ok(Some(frame)) => {
                    deadline = None;
                    sink.heard(connection, frame).await;
                }
                Ok(None) => break,
                Err(why) => {
                    // After this nobody can tell where the next message begins (RFC 3261 §18.3).
                    tracing::info!(flow = %connection.flow(), %why, "closed: framing broken");
                    let Some(answer) = why.head.and_then(farewell) else {
                        return FlowLoss::Dropped;
                    };
                    connection.send(answer);
                    connection.close();
                    // The writer sends it and ends the connection.
                    return std::future::pending().await;
                }
            }
        }
        deadline = match framer.is_partial() {
            true => deadline.or_else(|| Some((clock::now() + limits.message).into())),
            false => None,
        };
    }
}

/// The answer to a request whose length cannot be believed, if its head can be read (RFC 4475 §3.1.2.3).
fn farewell(head: Bytes) -> Option<Bytes> {
    let request = Message::parse(head).ok()?;
    let is_answerable = request.is_request() && request.method() != Method::Ack;
    is_answerable.then(|| Builder::response(&request, 400, "Bad Content-Length").finish())
}

/// Reads what there is into the framer; 0 at the end of the stream.
async fn fill(reader: &mut (impl AsyncRead + Unpin), framer: &mut Framer) -> io::Result<usize> {
    poll_fn(|cx| {
        // On the stack, so that a connection that waits owns no buffer.
        let mut space = [MaybeUninit::<u8>::uninit(); 8_192];
        let mut space = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *reader).poll_read(cx, &mut space))?;
        framer.push(space.filled());
        std::task::Poll::Ready(Ok(space.filled().len()))
    })
    .await
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), connection: &Connection) -> FlowLoss {
    loop {
        let (mut batch, is_last) = connection.next_batch().await;
        // One write for what waited together: one TLS record, one segment.
        let together: Bytes = match batch.len() {
            1 => batch.pop_front().unwrap_or_default(),
            _ => batch.iter().flatten().copied().collect(),
        };
        let sent = async {
            writer.write_all(&together).await?;
            writer.flush().await
        };
        if let Err(why) = sent.await {
            return loss(why);
        }
        if is_last {
            let _ = writer.shutdown().await;
            return FlowLoss::Dropped;
        }
    }
}

/// What an error of the system or of TLS means for a flow.
fn loss(why: io::Error) -> FlowLoss {
    use io::ErrorKind::*;
    if let Some(tls) = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return FlowLoss::Tls(Text::from(tls.to_string()));
    }
    match why.kind() {
        ConnectionRefused => FlowLoss::Refused,
        ConnectionReset | ConnectionAborted | BrokenPipe => FlowLoss::Reset,
        // TLS says so when the stream ends without its goodbye; the other side is gone either way.
        UnexpectedEof => FlowLoss::Closed,
        TimedOut => FlowLoss::TimedOut,
        InvalidData | Other => FlowLoss::Tls(Text::from(why.to_string())),
        _ => FlowLoss::Unreachable,
    }
}
