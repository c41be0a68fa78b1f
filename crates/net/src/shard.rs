//! One brain and its thread: take a handful of inputs, let the brain say what follows, carry it out.
//!
//! ```text
//!   inbox ─► Server::handle_input ─► Persist   to the disk's writer, at once
//!     ▲                             Transmit  stream: its connection; datagram: gathered, one call per handful
//!     │                             Open, Resolve ─► a task of its own ─► inbox
//!     └──── Timeout: how long to sleep
//! ```
//!
//! Outputs are carried out in the order given. With strict durability that means: what follows a
//! `Persist` waits for its commit. A disk that fails must not silence the server, so outputs given
//! after the failure was told overtake those still waiting; and a heartbeat's answer never waits.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use server::input::Peer;
use server::{Event, Input, Output, Server};
use sip::transport::{Flow, FlowLoss, Transport};

use crate::clock;
use crate::disk::{Durability, News};
use crate::drive_server::{Happening, House};
use crate::stream::Connection;
use crate::udp::Datagram;

/// Looks at a brain, and tells the asker in its own way.
pub(crate) type Question = Box<dyn FnOnce(&mut Server, Instant) + Send>;

/// What a shard can be given to do.
pub(crate) enum Work {
    /// Something happened.
    Input(Input),
    /// A connection stands.
    Opened(Connection),
    /// A connection is gone.
    Lost(Flow, FlowLoss),
    /// The disk has something to tell.
    Disk(News),
    /// Somebody wants to know something.
    Ask(Question),
    /// End.
    Stop,
}

pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) server: Server,
    pub(crate) house: Arc<House>,
    /// The connections this shard may send on, by serial.
    connections: HashMap<u64, Connection>,
    /// Datagrams of this handful, one list per socket of the house.
    datagrams: Vec<Vec<Datagram>>,
    /// Outputs that wait for a commit, with its ticket, in their order.
    held: VecDeque<(u64, Output)>,
    /// The ticket that outputs wait for now; none while the disk fails or owes nothing.
    owed: Option<u64>,
    deadline: Option<Instant>,
}

impl Shard {
    pub(crate) fn new(index: usize, server: Server, house: Arc<House>) -> Shard {
        let datagrams = house.sockets.iter().map(|_| Vec::new()).collect();
        Shard {
            index,
            server,
            house,
            connections: HashMap::new(),
            datagrams,
            held: VecDeque::new(),
            owed: None,
            deadline: None,
        }
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let house = self.house.clone();
        let Some(inbox) = house.inboxes.get(self.index) else { return };
        let (mut works, mut is_stopping) = (Vec::new(), false);
        self.drain();
        self.send_datagrams();
        loop {
            inbox.take(self.deadline.map(|deadline| house.tempo.real(deadline)), &mut works);
            if self.deadline.is_some_and(|deadline| deadline <= house.tempo.now()) {
                self.deadline = None;
                self.tell(Input::Timeout);
            }
            for work in works.drain(..) {
                match work {
                    Work::Input(input) => self.tell(input),
                    Work::Opened(connection) => {
                        let flow = connection.flow();
                        let peer = Peer { names: connection.names().to_vec() };
                        self.connections.insert(flow.serial, connection);
                        self.tell(Input::FlowOpened { flow, peer });
                    }
                    Work::Lost(flow, why) => {
                        self.connections.remove(&flow.serial);
                        self.tell(Input::FlowLost { flow, why });
                    }
                    Work::Disk(news) => self.hear_of_disk(news),
                    Work::Ask(question) => question(&mut self.server, house.tempo.now()),
                    Work::Stop => is_stopping = true,
                }
            }
            self.send_datagrams();
            // Answers that wait for the disk are still due; a disk that fails lets nobody wait.
            let is_owing = self.owed.is_some() && !house.disk_failed.load(Ordering::Acquire);
            if is_stopping && (!is_owing || house.is_shut()) {
                self.connections.values().for_each(Connection::close);
                return;
            }
        }
    }

    fn tell(&mut self, input: Input) {
        self.server.handle_input(input, self.house.tempo.now());
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.server.poll_output() {
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return;
                }
                Output::Persist(change) => {
                    let ticket = self.house.disk.persist([change]);
                    let is_strict = self.house.disk.durability() == Durability::Strict;
                    if is_strict && !self.house.disk_failed.load(Ordering::Acquire) {
                        self.owed = Some(ticket);
                    }
                }
                output => match self.owed {
                    Some(ticket) if must_wait(&output) && !self.is_heartbeat(&output) => {
                        self.held.push_back((ticket, output));
                    }
                    _ => self.carry_out(output),
                },
            }
        }
    }

    fn hear_of_disk(&mut self, news: News) {
        match news {
            News::Committed(ticket) => {
                while self.held.front().is_some_and(|(owed, _)| *owed <= ticket) {
                    if let Some((_, output)) = self.held.pop_front() {
                        self.carry_out(output);
                    }
                }
                if self.owed.is_some_and(|owed| owed <= ticket) {
                    self.owed = None;
                }
            }
            News::Failed(why) => {
                self.owed = None;
                self.tell(Input::StoreFailed { why: why.to_string() });
            }
            News::Recovered => self.tell(Input::StoreRecovered),
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit { flow, bytes } => self.transmit(flow, bytes),
            Output::Open { ticket, target } => self.house.open(self.index, ticket, target),
            Output::Close { flow } => {
                if let Some(connection) = self.connections.get(&flow.serial) {
                    connection.close();
                }
            }
            Output::Resolve(query) => self.house.resolve(self.index, query),
            Output::Outlook(outlook) => {
                for (index, inbox) in self.house.inboxes.iter().enumerate() {
                    if index != self.index {
                        inbox.push_urgent(Work::Input(Input::Outlook(outlook.clone())));
                    }
                }
            }
            Output::Handover { shard, flow, bytes } => {
                if let Some(inbox) = self.house.inboxes.get(shard) {
                    // In no place may a crowd wait without bound; who is not heard repeats it, or is told to wait.
                    inbox.push_or_drop(&mut vec![Work::Input(Input::HandedOver { flow, bytes })]);
                }
            }
            Output::Event(event) => self.publish(event),
            // `drain` has seen to these.
            Output::Persist(_) | Output::Timeout(_) => {}
        }
    }

    /// To the log, and to whoever listens. What happens with every refresh, or to whoever knocks, is no news for the log.
    fn publish(&self, event: Event) {
        let server = &self.house.name;
        if event.is_noise() {
            tracing::debug!(target: "rehome::event", %server, "{event}");
        } else {
            tracing::info!(target: "rehome::event", %server, "{event}");
        }
        if self.house.events.receiver_count() > 0 {
            // The last listener may have left since: then there is nobody to miss it.
            let _ = self.house.events.send(Happening {
                at: clock::unix(),
                since_start: self.house.tempo.now().saturating_duration_since(self.house.born),
                shard: self.index,
                event: Arc::new(event),
            });
        }
    }

    fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        if flow.transport != Transport::Udp {
            if let Some(connection) = self.connections.get(&flow.serial) {
                connection.send(bytes);
            }
            return;
        }
        let socket = self.house.sockets.iter().position(|socket| socket.local() == flow.local);
        // A binding restored from before a change of address: any socket of that family is better than none.
        let socket = socket
            .or_else(|| self.house.sockets.iter().position(|other| same_family(other.local(), flow.remote)));
        if let Some(gathered) = socket.and_then(|socket| self.datagrams.get_mut(socket)) {
            gathered.push((flow.remote, bytes));
        }
    }

    fn send_datagrams(&mut self) {
        for (socket, gathered) in self.house.sockets.iter().zip(&mut self.datagrams) {
            if !gathered.is_empty() {
                socket.send(gathered);
                gathered.clear();
            }
        }
    }

    /// The answer to a heartbeat, or one: between servers that have proved themselves.
    fn is_heartbeat(&self, output: &Output) -> bool {
        let Output::Transmit { flow, bytes } = output else { return false };
        let is_proved =
            self.connections.get(&flow.serial).is_some_and(|connection| !connection.names().is_empty());
        is_proved && crate::route::is_options(bytes)
    }
}

/// What could tell the world of a change before it is safe.
fn must_wait(output: &Output) -> bool {
    matches!(output, Output::Transmit { .. } | Output::Close { .. } | Output::Open { .. })
}

fn same_family(one: SocketAddr, other: SocketAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}
