//! What the rooms of a server share: the tray of outputs, the dice, the ticket counter, and who we are.

use std::collections::VecDeque;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use resilience::topology::{ServerEntry, ServerName};
use sip::transport::{Flow, Target, Transport};
use sip::uri::{Uri, host_address};

use crate::event::Event;
use crate::output::Output;

/// The tray, the dice and the counter.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Not yet taken by the world, in order.
    pub(crate) outputs: VecDeque<Output>,
    /// Our only source of chance.
    pub(crate) rng: ChaCha12Rng,
    /// The last ticket given for an opening.
    tickets: u64,
    /// Which of the brains this is; stands in every branch.
    shard: usize,
}

impl Desk {
    pub(crate) fn new(rng: ChaCha12Rng, shard: usize) -> Desk {
        Desk { outputs: VecDeque::new(), rng, tickets: 0, shard }
    }

    pub(crate) fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.say(Output::Event(event));
    }

    pub(crate) fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        self.say(Output::Transmit { flow, bytes });
    }

    /// Asks for a connection and says under which ticket.
    pub(crate) fn open(&mut self, target: Target) -> u64 {
        self.tickets += 1;
        self.say(Output::Open { ticket: self.tickets, target });
        self.tickets
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// What follows `z9hG4bK`, as sixteen hexadecimal digits: drawn, but for the last two, which name our shard.
    /// The world reads them to hand us the answer.
    pub(crate) fn branch(&mut self) -> u64 {
        (self.random() & !0xff) | (self.shard as u64 & 0xff)
    }
}

/// Ourselves, as others name us in URIs and Vias.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// Our name.
    pub(crate) server: ServerName,
    /// Our pool's name.
    pub(crate) pool: String,
    /// Where we listen.
    pub(crate) entry: ServerEntry,
}

impl Own {
    /// The port we listen on.
    pub(crate) fn port(&self, transport: Transport) -> Option<u16> {
        match transport {
            Transport::Udp => self.entry.udp,
            Transport::Tcp => self.entry.tcp,
            Transport::Tls => self.entry.tls,
            Transport::Ws | Transport::Wss => None,
        }
    }

    /// `host:port` for a Via or a Record-Route: our name where a certificate must match it, else the address,
    /// which needs no DNS.
    pub(crate) fn host_port(&self, flow: Flow) -> String {
        let port = self.port(flow.transport).unwrap_or(flow.local.port());
        match (flow.transport.is_secure(), self.entry.address) {
            (true, _) => format!("{}:{port}", self.server),
            (false, std::net::IpAddr::V6(address)) => format!("[{address}]:{port}"),
            (false, address) => format!("{address}:{port}"),
        }
    }

    /// The URI we leave in Record-Route.
    pub(crate) fn route(&self, flow: Flow) -> String {
        let transport = flow.transport.name().to_ascii_lowercase();
        format!("<sip:{};transport={transport};lr>", self.host_port(flow))
    }

    /// Is this host one of our names, or our address?
    pub(crate) fn is_host(&self, host: &str) -> bool {
        let plain = host.strip_suffix('.').unwrap_or(host);
        plain.eq_ignore_ascii_case(&self.server)
            || plain.eq_ignore_ascii_case(&self.pool)
            || host_address(host) == Some(self.entry.address)
    }

    /// Does this URI lead to us and nobody behind us on the same host?
    pub(crate) fn is_uri(&self, uri: &Uri<'_>) -> bool {
        let ports = [self.entry.udp, self.entry.tcp, self.entry.tls];
        self.is_host(uri.host()) && uri.port().is_none_or(|port| ports.contains(&Some(port)))
    }
}
