//! Which pool answers for this user now: here, there, or nobody yet.
//!
//! A pure function over the published topology and what this server knows of the others. The rows are
//! numbered as in the tests, which print every one of them:
//!
//! | # | this server is | and | answer |
//! | --- | --- | --- | --- |
//! | 2 | a director, or in a pool that is neither primary nor backup | | there: primary, backup. In profile `rehome` the other way round while we know the primary to be lost |
//! | 3 | in the primary pool | the user prefers another server of it, and that one lives | there: that server, backup |
//! | 4 | in the primary pool | preferred, or the best living one | here |
//! | 5 | in the backup pool | primary `Up` | there: primary, backup |
//! | 6 | in the backup pool | primary `Suspect` | waiting |
//! | 7 | in the backup pool | primary `FailedOver` or `FailingBack` | here, or at the first server of our pool that would take them too |
//! | 8 | in the backup pool | automatic failover is off, nobody failed it over by hand | as 5 |
//!
//! Row 1 (unknown or disabled users) is not a matter of place; `authenticate` decides it.

use std::time::{Duration, Instant};

use resilience::partner::State;
use resilience::profile::Profile;
use resilience::topology::{Pool, PoolName, Role, ServerEntry, ServerName, Topology};
use sip::transport::Transport;

use crate::decision::Why;
use crate::input::Outlook;

/// Where a user's REGISTER belongs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Homed {
    /// At this server.
    Here {
        /// As backup, while the primary is lost.
        on_backup: bool,
    },
    /// At another one.
    There {
        /// First choice.
        first: Place,
        /// Second choice.
        second: Option<Place>,
        /// Why not here.
        why: Why,
    },
    /// At nobody yet: the primary is silent, but not long enough.
    Waiting {
        /// Until it is.
        retry_after: Duration,
    },
    /// Nowhere: the user's pool is not in the topology, or nobody in it takes registrations.
    Nowhere(Why),
}

/// A pool or a server as a redirect names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Fully qualified.
    pub name: String,
    /// Its UDP port, if it has one.
    pub udp: Option<u16>,
    /// Its TCP port, if it has one.
    pub tcp: Option<u16>,
    /// Its TLS port, if it has one.
    pub tls: Option<u16>,
}

impl Place {
    /// A pool; its ports are those of its first server.
    pub fn pool(pool: &Pool) -> Place {
        let (udp, tcp, tls) = pool.servers.first().map_or((None, None, None), |s| (s.udp, s.tcp, s.tls));
        Place { name: pool.name.to_string(), udp, tcp, tls }
    }

    /// One server of a pool.
    pub fn server(server: &ServerEntry) -> Place {
        Place { name: server.name.to_string(), udp: server.udp, tcp: server.tcp, tls: server.tls }
    }

    /// The URI in the model's form, for a client that came by `transport`: the same transport where it is
    /// offered, else the safest one that is.
    pub fn uri(&self, transport: Transport) -> String {
        let port_of = |transport| match transport {
            Transport::Udp => self.udp,
            Transport::Tcp => self.tcp,
            Transport::Tls => self.tls,
            Transport::Ws | Transport::Wss => None,
        };
        [transport, Transport::Tls, Transport::Tcp, Transport::Udp]
            .into_iter()
            .find_map(|transport| port_of(transport).map(|port| (port, transport)))
            .map_or_else(
                || format!("sip:{}", self.name),
                |(port, transport)| format!("sip:{}:{port};transport={transport}", self.name),
            )
    }
}

/// What this server knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The publication in use.
    pub topology: &'a Topology,
    /// Ourselves.
    pub server: &'a ServerName,
    /// The pool we are in.
    pub pool: &'a Pool,
    /// What we believe about the others.
    pub outlook: &'a Outlook,
    /// We send newcomers to the rest of our pool.
    pub draining: bool,
    /// The moment of the decision; only ever subtracted from.
    pub now: Instant,
}

/// Where the REGISTER of a user homed on `home` belongs; `aor` is the hash of their address-of-record.
pub fn locate(home: &PoolName, aor: u64, standing: &Standing<'_>) -> Homed {
    let Some(primary) = standing.topology.pool(home) else {
        return Homed::Nowhere(Why::UnknownUser);
    };
    let backup = primary.backup.as_ref().and_then(|name| standing.topology.pool(name));
    let ours = standing.pool;
    if ours.role == Role::Registrar && ours.name == primary.name {
        return in_pool(aor, backup, None, standing); // rows 3, 4
    }
    let state = standing.outlook.state(home);
    if ours.role == Role::Registrar && backup.is_some_and(|backup| backup.name == ours.name) {
        return match state {
            State::Up => redirect(primary, backup), // rows 5, 8
            State::Suspect if primary.automatic_failover => waiting(home, standing), // row 6
            State::Suspect => redirect(primary, backup), // row 8
            State::FailedOver | State::FailingBack => in_pool(aor, None, Some(home), standing), // row 7
        };
    }
    match (backup, state, standing.topology.profile) {
        (Some(backup), State::FailedOver | State::FailingBack, Profile::Rehome) => {
            redirect(backup, Some(primary))
        }
        _ => redirect(primary, backup), // row 2
    }
}

/// Rows 3, 4 and the inside of 7 (where `lost` is the user's pool): the user's first living server of our own pool.
///
/// Servers of a pool may disagree for a while, and nobody shall be sent to and fro for that. So we send users only to a
/// mate that we have met (what a server that has just started believes is a guess), and that would not send them on: a
/// mate for which the lost pool is up is no place for its users.
fn in_pool(aor: u64, backup: Option<&Pool>, lost: Option<&PoolName>, standing: &Standing<'_>) -> Homed {
    let Standing { server: own, outlook, .. } = standing;
    let usable = |server: &&&ServerEntry| {
        if server.name == **own {
            return !standing.draining;
        }
        let sends_on = lost.is_some_and(|pool| outlook.says_up(&server.name, pool));
        outlook.is_alive(&server.name) && !outlook.unmet.contains(&server.name) && !sends_on
    };
    let order = standing.pool.preferred_order(aor);
    match order.iter().find(usable) {
        Some(best) if best.name == **own => Homed::Here { on_backup: lost.is_some() },
        Some(best) => Homed::There {
            first: Place::server(best),
            second: backup.map(Place::pool),
            why: Why::PreferredServer,
        },
        None => Homed::Nowhere(Why::Draining),
    }
}

fn redirect(first: &Pool, second: Option<&Pool>) -> Homed {
    Homed::There { first: Place::pool(first), second: second.map(Place::pool), why: Why::HomedElsewhere }
}

fn waiting(home: &PoolName, standing: &Standing<'_>) -> Homed {
    let lost_at = standing.outlook.pools.get(home).and_then(|seen| seen.lost_at);
    let retry_after = lost_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(standing.now));
    Homed::Waiting { retry_after }
}

#[cfg(test)]
mod tests;
