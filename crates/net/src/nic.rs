//! A host's network interface, as far as its sockets can tell: up, or silent.
//!
//! All sockets of one host are made by its [`Nic`]. [`Nic::cut`] is what pulling the cable does:
//! nothing arrives, nothing leaves, and nobody is told. No FIN, no RST, no "port unreachable".
//! [`Nic::restore`] plugs it in again, and connections that nobody gave up in between go on.
//! It needs no root and works on loopback.
//!
//! ```text
//!   in   datagrams are dropped by a one-line socket filter in the kernel; connections are not answered
//!        (below); what comes on living connections is not read
//!   out  our writes wait; our datagrams are dropped
//!   end  a connection given up while cut is kept, silent, and closed when the cable is back
//! ```
//!
//! With CAP_NET_ADMIN (Linux asks for it where TCP is concerned) the filter is on the TCP sockets too, and
//! the other side's kernel sees a true black hole: no SYN-ACK, no ACK, retransmissions. Without it, a cut
//! listener's queue is made so short that one connection of our own fills it, after which the kernel drops
//! each SYN in silence; and a living connection is acknowledged by the kernel but answered by nobody.
//!
//! Not here: a killed process. That is simply dropping everything, and the kernel says FIN or RST.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How many connections the kernel completes for us before we accept them: a failover brings
/// thousands at once.
const BACKLOG: i32 = 4_096;

/// How long our own connection to a listener that is being cut may take. It does not leave the machine.
const FILL: Duration = Duration::from_millis(50);

/// What cutting works on: any socket of the host.
type AnySocket = dyn AsFd + Send + Sync;

/// One host's network interface. Cheap to clone; all clones are the same interface.
#[derive(Clone)]
pub struct Nic(Arc<Inner>);

struct Inner {
    /// Read on every send and receive; changed under `state`'s lock.
    up: AtomicBool,
    /// Numbers sockets and waiters.
    next_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Open sockets, so that a cut reaches those that exist already.
    sockets: HashMap<u64, Plugged>,
    /// Our own connections that fill the queues of cut listeners.
    fillers: Vec<std::net::TcpStream>,
    /// Where they came from, so that nobody takes them for visitors once the cable is back.
    filled_from: HashSet<SocketAddr>,
    /// Who waits for the cable, by socket and direction.
    parked: HashMap<(u64, Side), Waker>,
    /// Sockets their owners closed while the cable was out.
    buried: Vec<Arc<AnySocket>>,
}

/// One socket behind the interface.
struct Plugged {
    socket: Weak<AnySocket>,
    /// Where it listens, if it is a listener.
    listens_at: Option<SocketAddr>,
}

#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Side {
    Read,
    Write,
    Wait,
}

impl Default for Nic {
    fn default() -> Nic {
        Nic::new()
    }
}

impl Nic {
    /// An interface with its cable in.
    pub fn new() -> Nic {
        Nic(Arc::new(Inner {
            up: AtomicBool::new(true),
            next_id: AtomicU64::new(0),
            state: Mutex::default(),
        }))
    }

    /// Is the cable in?
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Acquire)
    }

    /// Pulls the cable. Silent for everyone; does nothing when it is out already.
    pub fn cut(&self) {
        let mut state = self.state();
        if self.0.up.swap(false, Ordering::AcqRel) {
            let state = &mut *state;
            for plugged in state.sockets.values() {
                plugged.deafen(&mut state.fillers, &mut state.filled_from);
            }
        }
    }

    /// Plugs the cable in again. What waited goes on; what was given up meanwhile is closed now.
    pub fn restore(&self) {
        let mut state = self.state();
        if self.0.up.swap(true, Ordering::AcqRel) {
            return;
        }
        for plugged in state.sockets.values() {
            if let Some(socket) = plugged.socket.upgrade() {
                undeafen(&*socket, plugged.listens_at.is_some());
            }
        }
        for socket in &state.buried {
            undeafen(&**socket, false);
        }
        state.fillers.clear();
        let buried = std::mem::take(&mut state.buried);
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        drop(buried);
        for waker in parked.into_values() {
            waker.wake();
        }
    }

    /// Waits until the cable is in; at once if it is.
    pub async fn until_up(&self) {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        poll_fn(|cx| self.poll_up(id, Side::Wait, cx)).await;
    }

    /// Opens a datagram socket at `address`; `udp` gives it batches.
    pub(crate) fn datagrams(&self, address: SocketAddr) -> io::Result<(Arc<tokio::net::UdpSocket>, Plug)> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        // No SO_REUSEADDR: on Linux it would let a second server take the same port in silence.
        socket.set_nonblocking(true)?;
        // The kernel caps both at its own limits; less is slower, not wrong.
        let _ = socket.set_recv_buffer_size(4 << 20);
        let _ = socket.set_send_buffer_size(4 << 20);
        socket.bind(&address.into())?;
        let socket = Arc::new(tokio::net::UdpSocket::from_std(socket.into())?);
        let plug = self.plug(socket.clone(), None);
        Ok((socket, plug))
    }

    /// Listens for connections at `address`.
    pub fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted server must not wait for its old connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = Arc::new(TcpListener::from_std(socket.into())?);
        let local = listener.local_addr()?;
        let plug = self.plug(listener.clone(), Some(local));
        Ok(Listener { listener, local, plug })
    }

    /// Connects to `remote`, from address `local` if given. Waits while the cable is out; the
    /// caller bounds the wait.
    pub async fn connect(&self, local: Option<IpAddr>, remote: SocketAddr) -> io::Result<Stream> {
        self.until_up().await;
        let socket = match remote {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(local) = local.filter(|local| local.is_ipv4() == remote.is_ipv4()) {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        let stream = self.stream(socket.connect(remote).await?)?;
        // A cable pulled during the handshake: the answer would not have reached us.
        self.until_up().await;
        Ok(stream)
    }

    fn stream(&self, stream: TcpStream) -> io::Result<Stream> {
        // SIP messages are whole writes; waiting to fill a segment only adds delay.
        stream.set_nodelay(true)?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let stream = Arc::new(stream);
        let plug = self.plug(stream.clone(), None);
        Ok(Stream { stream, local, remote, plug })
    }

    /// Puts a socket behind this interface.
    fn plug(&self, socket: Arc<AnySocket>, listens_at: Option<SocketAddr>) -> Plug {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let state = &mut *state;
        let plugged = Plugged { socket: Arc::downgrade(&socket), listens_at };
        if !self.is_up() {
            plugged.deafen(&mut state.fillers, &mut state.filled_from);
        }
        state.sockets.insert(id, plugged);
        Plug { nic: self.clone(), id }
    }

    fn poll_up(&self, id: u64, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_up() {
            return Poll::Ready(());
        }
        let mut state = self.state();
        if self.is_up() {
            return Poll::Ready(());
        }
        state.parked.insert((id, side), cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Nic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_up() { "Nic(up)" } else { "Nic(cut)" })
    }
}

impl Plugged {
    /// Lets nothing in any more, without a word to anybody.
    fn deafen(&self, fillers: &mut Vec<std::net::TcpStream>, filled_from: &mut HashSet<SocketAddr>) {
        const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0); // return 0: keep no byte of it
        let Some(socket) = self.socket.upgrade() else { return };
        let fd = socket.as_fd();
        let is_filtered = SockRef::from(&fd).attach_filter(&[DROP_ALL]).is_ok();
        let Some(address) = self.listens_at.filter(|_| !is_filtered) else { return };
        let _ = SockRef::from(&fd).listen(0);
        // Refused or not answered: then the queue is full already.
        if let Ok(filler) = std::net::TcpStream::connect_timeout(&address, FILL) {
            filled_from.extend(filler.local_addr());
            fillers.push(filler);
        }
    }
}

fn undeafen(socket: &AnySocket, is_listener: bool) {
    let fd = socket.as_fd();
    let _ = SockRef::from(&fd).detach_filter();
    if is_listener {
        let _ = SockRef::from(&fd).listen(BACKLOG);
    }
}

/// A socket's place in its interface; leaves when dropped.
pub(crate) struct Plug {
    nic: Nic,
    id: u64,
}

impl Plug {
    pub(crate) fn is_up(&self) -> bool {
        self.nic.is_up()
    }

    fn poll_up(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        self.nic.poll_up(self.id, side, cx)
    }

    /// Keeps `socket` silent until the cable is back, if it is out.
    fn bury_if_cut(&self, socket: Arc<AnySocket>) {
        if !self.nic.is_up() {
            let mut state = self.nic.state();
            if !self.nic.is_up() {
                state.buried.push(socket);
            }
        }
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let mut state = self.nic.state();
        state.sockets.remove(&self.id);
        if !state.parked.is_empty() {
            for side in [Side::Read, Side::Write, Side::Wait] {
                state.parked.remove(&(self.id, side));
            }
        }
    }
}

//------------ Listener ------------------------------------------------------

/// A listening TCP socket behind a [`Nic`].
pub struct Listener {
    listener: Arc<TcpListener>,
    local: SocketAddr,
    plug: Plug,
}

impl Listener {
    /// Where we listen; the port is the real one, also if 0 was asked for.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The next connection. Waits while the cable is out.
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            // The cable is looked at before each look at the queue, so a cut leaves the queue as it is.
            let (stream, remote) = poll_fn(|cx| {
                ready!(self.plug.poll_up(Side::Read, cx));
                self.listener.poll_accept(cx)
            })
            .await?;
            if self.plug.nic.state().filled_from.remove(&remote) {
                continue;
            }
            // Nothing is awaited from here on: a connection dropped halfway would say so with a FIN.
            match self.plug.nic.stream(stream) {
                Ok(stream) => return Ok(stream),
                Err(_) => continue, // gone before we looked at it
            }
        }
    }
}

//------------ Stream --------------------------------------------------------

/// A TCP connection behind a [`Nic`]: reads and writes stand still while the cable is out.
pub struct Stream {
    stream: Arc<TcpStream>,
    local: SocketAddr,
    remote: SocketAddr,
    plug: Plug,
}

impl Stream {
    /// Our end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Their end.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.plug.bury_if_cut(self.stream.clone());
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.plug.poll_up(Side::Read, cx));
            ready!(self.stream.poll_read_ready(cx))?;
            if !self.plug.is_up() {
                continue;
            }
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => continue,
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }
}

impl Stream {
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.plug.poll_up(Side::Write, cx));
            ready!(self.stream.poll_write_ready(cx))?;
            match write(&self.stream) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => continue,
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.plug.poll_up(Side::Write, cx));
        Poll::Ready(SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}
