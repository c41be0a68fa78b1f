//! The brain of one server: director, registrar, proxy. No IO, no clock.
//!
//! A world (`net` or `sim`) feeds a [`Server`] one [`Input`] at a time and carries out the [`Output`]s it asks
//! for, in their order, until [`Output::Timeout`]:
//!
//! ```text
//!   Received ──► Server::handle_input ──► screen ──► route ──► Decision
//!                                                                │
//!   Persist, Transmit, Event … ◄── poll_output ◄── Server::apply ┘
//! ```
//!
//! | module | its one sentence |
//! | --- | --- |
//! | [`input`], [`output`] | what can happen to a server, what it can ask for |
//! | [`config`], [`directory`] | what it is born with |
//! | [`decision`] | what can be decided about a request, and why not |
//! | [`director`] | which pool answers for this user now: here, there, or wait |
//! | [`registrar`] | one REGISTER against one set of bindings |
//! | [`location`] | address-of-record → bindings, with expiry |
//! | [`dialect`] | what a Lync-family client expects that an RFC client does not |
//! | [`event`], [`view`] | what happened; what is true now |
//!
//! Not here: sockets, TLS, DNS, disks, clocks, and randomness of its own.

mod answer;
mod authenticate;
pub mod config;
pub mod decision;
mod desk;
pub mod dialect;
pub mod director;
pub mod directory;
pub mod event;
pub mod input;
pub mod location;
pub mod output;
mod proxy;
pub mod registrar;
mod route;
mod screen;
mod server;
#[cfg(test)]
mod testing;
pub mod view;
mod watch;

pub use config::{Config, Offer, Settings, Shard};
pub use decision::Why;
pub use directory::{Directory, User};
pub use event::Event;
pub use input::{Command, Input, Outlook, Peer, PoolOutlook};
pub use output::{BindingRecord, Change, DeRegister, Output, RegistrationRecord};
pub use server::Server;
pub use view::{Explanation, View};
