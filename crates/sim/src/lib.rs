//! The simulated world: network, DNS, disk, time; stories; checkers.
//!
//! | module | its one sentence |
//! | --- | --- |
//! | [`world`] | real brains on simulated hosts, in virtual time, from one seed |
//! | [`network`] | sites and links; silent, killed and frozen hosts; streams and datagrams |
//! | [`dns`], [`disk`] | a zone that can be edited, down or slow; a disk that loses its last second |
//! | [`history`] | what was seen, in any world |
//! | [`witness`] | how bytes and events become what was seen |
//! | [`story`] | reads `.scn` files, plays them in a [`story::World`], compares |
//! | [`storm`] | random bad days by seed |
//! | [`check`] | the promises, judged over a whole history |
//!
//! Stories are the way in: `stories/` has one per row of the experiment that defined the problem,
//! and [`stories()`] hands them out. The program plays the same files on real sockets.

pub mod agenda;
pub mod check;
pub mod disk;
pub mod dns;
pub mod history;
pub mod network;
mod stories;
pub mod storm;
pub mod story;
pub mod witness;
pub mod world;

pub use history::History;
pub use stories::{Embedded, stories};
pub use world::Simulated;
