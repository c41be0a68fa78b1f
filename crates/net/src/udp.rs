//! Datagrams, in batches.
//!
//! One socket per listening address; a flow is an address pair. A batch of up to [`BATCH`]
//! datagrams costs one system call each way (`recvmmsg`, `sendmmsg`) and each datagram one
//! allocation: its own bytes, so that a message kept for long keeps nothing else alive.
//!
//! Not here: who owns a datagram (the drive loops), and what is in it (`sip`).

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use tokio::io::Interest;

use crate::nic::{Nic, Plug};

/// How many datagrams one system call carries at most.
pub const BATCH: usize = 64;

/// The longest datagram IP can carry.
const LONGEST: usize = 65_535;

/// One datagram and who sent it, or whom it is for.
pub type Datagram = (SocketAddr, Bytes);

/// A bound datagram socket. Cheap to clone; any thread may send.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    socket: Arc<tokio::net::UdpSocket>,
    local: SocketAddr,
    plug: Plug,
    /// Datagrams that could not be sent: the kernel's buffer was full, or the cable out.
    unsent: AtomicU64,
}

/// Where a receiving loop keeps its buffers.
pub struct Batch {
    buffers: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { buffers: vec![0; BATCH * LONGEST] }
    }
}

impl Batch {
    /// For sockets that hear little: a few datagrams at a time.
    pub fn small() -> Batch {
        Batch { buffers: vec![0; 2 * LONGEST] }
    }
}

impl Socket {
    /// Binds `address`, through the host's interface.
    pub fn bind(nic: &Nic, address: SocketAddr) -> io::Result<Socket> {
        let (socket, plug) = nic.datagrams(address)?;
        let local = socket.local_addr()?;
        Ok(Socket(Arc::new(Inner { socket, local, plug, unsent: AtomicU64::new(0) })))
    }

    /// Where we are bound; the port is the real one.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// Datagrams that were dropped instead of sent, since the socket exists.
    pub fn unsent(&self) -> u64 {
        self.0.unsent.load(Ordering::Relaxed)
    }

    /// Waits for datagrams and adds them to `heard`. What came before the cable was pulled and
    /// was not read yet is lost with it.
    pub async fn receive(&self, batch: &mut Batch, heard: &mut Vec<Datagram>) -> io::Result<()> {
        let fd = self.0.socket.as_raw_fd();
        loop {
            let before = heard.len();
            let received = self
                .0
                .socket
                .async_io(Interest::READABLE, || {
                    receive_batch(fd, self.0.local.is_ipv4(), &mut batch.buffers, heard)
                })
                .await;
            match received {
                Ok(()) if !self.0.plug.is_up() => heard.truncate(before),
                Ok(()) => return Ok(()),
                // An ICMP error for something we sent; nobody's business here.
                Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Sends all of `datagrams` now, or drops and counts what cannot be sent: datagrams may be
    /// lost, and who needs them repeats them.
    pub fn send(&self, datagrams: &[Datagram]) {
        if !self.0.plug.is_up() {
            self.count_unsent(datagrams.len());
            return;
        }
        let fd = self.0.socket.as_raw_fd();
        let mut patience = 8;
        let mut rest = datagrams;
        while !rest.is_empty() {
            match send_batch(fd, rest) {
                Ok(sent) => rest = &rest[sent.min(rest.len())..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) if patience > 0 => {
                    patience -= 1;
                    std::thread::yield_now();
                }
                Err(_) => {
                    // The first one is at fault (no route, too long): the others may still go.
                    self.count_unsent(1);
                    rest = &rest[1..];
                }
            }
        }
    }

    fn count_unsent(&self, datagrams: usize) {
        self.0.unsent.fetch_add(datagrams as u64, Ordering::Relaxed);
    }
}

// The headers hold raw pointers, so they stay in their thread. Sending and receiving have their
// own (each leaves its own pointers behind), and so do the two families (the kernel shortens the
// address length it is given and `nix` does not lengthen it again).
thread_local! {
    static RECEIVING_V4: RefCell<Option<MultiHeaders<SockaddrStorage>>> = const { RefCell::new(None) };
    static RECEIVING_V6: RefCell<Option<MultiHeaders<SockaddrStorage>>> = const { RefCell::new(None) };
    static SENDING: RefCell<Option<MultiHeaders<SockaddrStorage>>> = const { RefCell::new(None) };
}

fn receive_batch(fd: i32, v4: bool, buffers: &mut [u8], heard: &mut Vec<Datagram>) -> io::Result<()> {
    let mut lengths = [(0usize, None::<SocketAddr>); BATCH];
    let mut count = 0;
    let headers = if v4 { &RECEIVING_V4 } else { &RECEIVING_V6 };
    headers.with_borrow_mut(|headers| {
        let headers = headers.get_or_insert_with(|| MultiHeaders::preallocate(BATCH, None));
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            buffers.chunks_exact_mut(LONGEST).map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let received = recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        for (slot, message) in lengths.iter_mut().zip(received) {
            *slot = (message.bytes, message.address.as_ref().and_then(address));
            count += 1;
        }
        Ok::<(), Errno>(())
    })?;
    for ((length, from), buffer) in lengths.iter().take(count).zip(buffers.chunks_exact(LONGEST)) {
        if let (Some(from), Some(bytes)) = (from, buffer.get(..*length)) {
            heard.push((*from, Bytes::copy_from_slice(bytes)));
        }
    }
    Ok(())
}

fn send_batch(fd: i32, datagrams: &[Datagram]) -> Result<usize, Errno> {
    let batch = &datagrams[..datagrams.len().min(BATCH)];
    let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
    let addresses: Vec<Option<SockaddrStorage>> =
        batch.iter().map(|(to, _)| Some(SockaddrStorage::from(*to))).collect();
    SENDING.with_borrow_mut(|headers| {
        let headers = headers.get_or_insert_with(|| MultiHeaders::preallocate(BATCH, None));
        let sent = sendmmsg(fd, headers, slices.iter(), addresses, [], MsgFlags::MSG_DONTWAIT)?.count();
        Ok(sent)
    })
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = from.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    from.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_arrives_whole_and_in_order_and_a_cut_swallows_it() {
        let nic = Nic::new();
        let north = Socket::bind(&nic, "127.1.9.1:0".parse().unwrap()).unwrap();
        let south = Socket::bind(&Nic::new(), "127.2.9.1:0".parse().unwrap()).unwrap();
        let batch: Vec<Datagram> = (0..100u8).map(|i| (north.local(), Bytes::from(vec![i; 500]))).collect();
        south.send(&batch);
        let (mut buffers, mut heard) = (Batch::default(), Vec::new());
        while heard.len() < 100 {
            north.receive(&mut buffers, &mut heard).await.unwrap();
        }
        assert!(
            heard.iter().zip(0..).all(|((from, bytes), i)| *from == south.local() && bytes[..] == [i; 500])
        );

        nic.cut();
        south.send(&batch);
        north.send(&[(south.local(), Bytes::from_static(b"lost"))]);
        nic.restore();
        assert_eq!(north.unsent(), 1);
        south.send(&[(north.local(), Bytes::from_static(b"after"))]);
        heard.clear();
        north.receive(&mut buffers, &mut heard).await.unwrap();
        assert_eq!(heard, [(south.local(), Bytes::from_static(b"after"))]);
    }
}
