//! Transports and flows as *names*: nothing here opens a socket (RFC 3261 §18).
//!
//! A [`Flow`] names one network association: for UDP an address pair, for the others one connection.
//! The worlds (`net`, `sim`) turn names into sockets or simulated links; brains only say which flow a
//! message came by and which one an answer leaves by.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;

use crate::parse::ParseError;
use crate::text::Text;

mod framer;
mod hop;
mod peek;

pub use framer::{Frame, FrameError, Framer, Limits};
pub use hop::{answer_flow, stamp};
pub use peek::peek_aor;

/// How messages travel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    /// Datagrams; the sender repeats itself (RFC 3261 §17).
    Udp,
    /// A plain stream.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS (RFC 7118).
    Wss,
}

impl Transport {
    /// True where nothing is lost while the connection lives, so nothing is repeated (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// True where the other side was proved and nobody listens: what a `sips:` URI asks for.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// The port used where a URI or Via names none (RFC 3261 §18.1.1, §19.1.2; RFC 7118 §5.1).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }

    /// As it stands in a Via: `UDP`, `TLS`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Transport {
    type Err = ParseError;

    /// Any case: Via and `transport=` compare without it (RFC 3261 §7.3.1, §19.1.4).
    fn from_str(name: &str) -> Result<Transport, ParseError> {
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss]
            .into_iter()
            .find(|transport| transport.name().eq_ignore_ascii_case(name))
            .ok_or(ParseError::new(0, "a transport: UDP, TCP, TLS, WS or WSS", "RFC 3261 §25.1"))
    }
}

/// One network association between us and somebody else (RFC 5626 §3).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Flow {
    /// How its messages travel.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// 0 for UDP, where the address pair is all there is; else the number of one connection, given by
    /// the world and never used again.
    pub serial: u64,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.transport, self.local, self.remote)?;
        if self.serial != 0 {
            write!(f, " #{}", self.serial)?;
        }
        Ok(())
    }
}

/// Where to send next: one address of one server, and what that server must prove.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Target {
    /// How to get there.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// What a TLS server must prove, and the SNI we send: the host of the URI that led here (RFC 5922 §4,
    /// §7.1), not the name an SRV record pointed to unless [`crate::locate::Naming::Srv`] was chosen.
    pub name: Text,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.transport, self.address, self.name)
    }
}

/// One message on its way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// Which way.
    pub flow: Flow,
    /// The message, whole.
    pub bytes: Bytes,
}

/// Why a flow is gone, or never came to be.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum FlowLoss {
    /// The other side closed it in good order.
    Closed,
    /// The other side reset it: its process died, or it has forgotten us.
    Reset,
    /// No byte came though one was asked for (RFC 5626 §4.4.1).
    Silent,
    /// The connection was not made, or not accepted by TLS, in time.
    TimedOut,
    /// No route there.
    Unreachable,
    /// Nobody listens there.
    Refused,
    /// TLS failed; says how (a wrong name, an untrusted or expired certificate).
    Tls(Text),
    /// We closed it ourselves: drained, idle, or its sender broke the framing.
    Dropped,
}

impl fmt::Display for FlowLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlowLoss::Closed => f.write_str("closed by the other side"),
            FlowLoss::Reset => f.write_str("reset by the other side"),
            FlowLoss::Silent => f.write_str("silent"),
            FlowLoss::TimedOut => f.write_str("timed out"),
            FlowLoss::Unreachable => f.write_str("unreachable"),
            FlowLoss::Refused => f.write_str("refused"),
            FlowLoss::Tls(why) => write!(f, "TLS failed: {why}"),
            FlowLoss::Dropped => f.write_str("dropped by us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_read_back_in_any_case() {
        for (name, transport) in [("udp", Transport::Udp), ("Tls", Transport::Tls), ("WSS", Transport::Wss)] {
            assert_eq!(name.parse(), Ok(transport));
        }
        assert!("SCTP".parse::<Transport>().is_err());
    }
}
