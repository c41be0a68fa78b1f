//! What up, backup and home mean: topology, heartbeat, partner, homing, back-off. No IO, no clock, no SIP.
//!
//! | module | its question | asked by |
//! | --- | --- | --- |
//! | [`topology`] | who is where, and who backs up whom? | everybody |
//! | [`profile`] | how patient are we? | everybody |
//! | [`heartbeat`] | is the other side on time, late or lost? | server |
//! | [`partner`] | when do we speak for the partner's users? | server |
//! | [`homing`] | at which registrar am I, and what would make me move? | endpoint |
//! | [`backoff`] | how long to wait after the nth failure? | endpoint, server |
//!
//! Time and chance are arguments: `now: Instant` and `rng: &mut dyn Rng`. The same calls give the same answers.

#![warn(missing_docs)]

pub mod backoff;
pub mod heartbeat;
pub mod homing;
pub mod partner;
pub mod profile;
pub mod topology;

pub use profile::{Expiry, Profile, Timers};
pub use topology::{Pool, PoolName, Role, ServerEntry, ServerName, Site, SiteName, SrvRecord, Topology};
