//! What a server can ask of the world, and what it wants kept.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use resilience::topology::{PoolName, ServerName};
use sip::locate::Query;
use sip::transport::{Flow, Target, Transport};
use sip::uri::AddressOfRecord;

use crate::event::Event;
use crate::input::Outlook;

/// Everything a server can ask for. Carried out in the order given: what follows a `Persist` waits for the
/// disk, so a 200 is never ahead of its record.
#[derive(Clone, Debug)]
pub enum Output {
    /// Keep this.
    Persist(Change),
    /// Send this.
    Transmit {
        /// Which way.
        flow: Flow,
        /// The message, whole; or CRLF, the answer to a ping.
        bytes: Bytes,
    },
    /// Connect; answered by `Input::Opened` or `Input::OpenFailed`.
    Open {
        /// Repeated in the answer.
        ticket: u64,
        /// Where to, and what the other side must prove.
        target: Target,
    },
    /// Close this connection, in good order.
    Close {
        /// Which one.
        flow: Flow,
    },
    /// Ask DNS; answered by `Input::Resolved`.
    Resolve(Query),
    /// Hand this message to the shard that has its user, as `Input::HandedOver`; the world could not know.
    Handover {
        /// Which.
        shard: usize,
        /// Which way the message came.
        flow: Flow,
        /// The message, whole.
        bytes: Bytes,
    },
    /// Hand this to the other shards (only shard 0 says this).
    Outlook(Arc<Outlook>),
    /// Something happened that people or tests may want to know.
    Event(Event),
    /// Nothing more to say until then; `None`: until the next input.
    Timeout(Option<Instant>),
}

/// What must survive a restart.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This binding is so now, whatever was there under its key.
    Binding(BindingRecord),
    /// This binding is gone.
    Unbound {
        /// Whose it was.
        aor: AddressOfRecord,
        /// As in [`BindingRecord::key`].
        key: String,
    },
    /// A registration has ended; append only.
    Record(RegistrationRecord),
}

/// One binding in the form that crosses to disk and back: no clock, no index, no buffer of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingRecord {
    /// Whose device this is.
    pub aor: AddressOfRecord,
    /// What makes it the same device: the instance and reg-id where the client gave them (RFC 5626 §6.1), else
    /// the Contact URI in its normal form.
    pub key: String,
    /// The Contact URI as the client wrote it.
    pub contact: String,
    /// The REGISTER's Call-ID; orders changes together with `cseq` (RFC 3261 §10.3).
    pub call_id: String,
    /// The REGISTER's CSeq number.
    pub cseq: u32,
    /// Preference in thousandths; 1000 where the client said nothing.
    pub q: u16,
    /// How long it holds, counted from the moment of writing. On restore: what is left of it.
    pub expires_in: Duration,
    /// The proxies on the way to the device (RFC 3327), one value each, in order.
    pub path: Vec<String>,
    /// The flow the REGISTER came by, as [`flow_to_text`] writes it. After a restart only UDP flows still lead anywhere.
    pub flow: String,
    /// What the device says it is.
    pub user_agent: Option<String>,
    /// `+sip.instance`, without the quotes.
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// What the client announced in Supported that we act on, as [`crate::dialect::Dialect`] prints it.
    pub dialect: String,
}

/// One line of the audit: who was registered where, from when to when, and why it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrationRecord {
    /// Who.
    pub aor: AddressOfRecord,
    /// Which device: as [`BindingRecord::key`].
    pub key: String,
    /// The server that had the registration.
    pub server: ServerName,
    /// Its pool.
    pub pool: PoolName,
    /// True if that pool was the user's primary.
    pub is_primary: bool,
    /// True if presence and its like were available to the user.
    pub user_services: bool,
    /// Wall-clock seconds since 1970.
    pub registered_at: u64,
    /// Wall-clock seconds since 1970.
    pub ended_at: u64,
    /// Why it ended.
    pub deregister: DeRegister,
    /// Where the device was.
    pub remote: Option<SocketAddr>,
    /// The status given last: 200, or the refusal of a client that never was registered.
    pub status: u16,
    /// The `ms-diagnostics` number that went with it.
    pub diagnostic: Option<u16>,
}

/// Why a registration ended: the model's `DeRegisterType`, numbers included.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DeRegister {
    /// 0: nobody knows; the server was down when it ended.
    Unknown = 0,
    /// 1: the client asked for it.
    ClientInitiated = 1,
    /// 2: it was not refreshed in time.
    Expired = 2,
    /// 3: the connection of a client that keeps one was lost.
    ClientCrashed = 3,
    /// 4: the user was disabled, deleted or changed.
    AttributesChanged = 4,
    /// 5: the user's preferred registrar is another one now.
    PreferredRegistrarChanged = 5,
    /// 6: a client that cannot live without presence met a server that has none.
    LegacyClientInSurvivalMode = 6,
}

impl DeRegister {
    /// All of them, by number.
    pub const ALL: [DeRegister; 7] = [
        DeRegister::Unknown,
        DeRegister::ClientInitiated,
        DeRegister::Expired,
        DeRegister::ClientCrashed,
        DeRegister::AttributesChanged,
        DeRegister::PreferredRegistrarChanged,
        DeRegister::LegacyClientInSurvivalMode,
    ];

    /// The model's number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The reason with that number.
    pub fn of(number: u8) -> Option<DeRegister> {
        DeRegister::ALL.into_iter().find(|reason| reason.number() == number)
    }
}

impl fmt::Display for DeRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeRegister::Unknown => "unknown",
            DeRegister::ClientInitiated => "client initiated",
            DeRegister::Expired => "expired",
            DeRegister::ClientCrashed => "client crashed",
            DeRegister::AttributesChanged => "user attributes changed",
            DeRegister::PreferredRegistrarChanged => "preferred registrar changed",
            DeRegister::LegacyClientInSurvivalMode => "legacy client in survival mode",
        })
    }
}

/// A flow for the disk: `UDP 127.0.0.1:5060 127.0.0.1:4711 0`.
pub fn flow_to_text(flow: &Flow) -> String {
    format!("{} {} {} {}", flow.transport, flow.local, flow.remote, flow.serial)
}

/// The reverse of [`flow_to_text`]; `None` for anything else.
pub fn flow_from_text(text: &str) -> Option<Flow> {
    let mut words = text.split(' ');
    let transport: Transport = words.next()?.parse().ok()?;
    let local = words.next()?.parse().ok()?;
    let remote = words.next()?.parse().ok()?;
    let serial = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Flow { transport, local, remote, serial })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_survives_the_disk() {
        let flow = Flow {
            transport: Transport::Tls,
            local: ([127, 0, 0, 1], 5061).into(),
            remote: ([127, 0, 0, 2], 4711).into(),
            serial: 42,
        };
        assert_eq!(flow_from_text(&flow_to_text(&flow)), Some(flow));
        for broken in ["", "UDP", "UDP 127.0.0.1:1 127.0.0.1:2", "UDP 127.0.0.1:1 127.0.0.1:2 0 0"] {
            assert_eq!(flow_from_text(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn the_model_s_numbers_lead_back_to_their_reasons() {
        for reason in DeRegister::ALL {
            assert_eq!(DeRegister::of(reason.number()), Some(reason));
        }
        assert_eq!(DeRegister::of(7), None);
    }
}
