//! The brain of one client: discovery, cache, registration. No IO, no clock.
//!
//! An [`Endpoint`] signs one user in and keeps them signed in, wherever their pool may be: it finds the
//! registrar, follows the redirect home, notices when the registrar dies, moves to the backup, and comes
//! home when told. It is driven by a world (`net` or `sim`) through [`Input`] and [`Output`]:
//!
//! ```text
//! endpoint.handle_input(input, now);
//! loop {
//!     match endpoint.poll_output() {
//!         Output::Timeout(at) => break,           // wait for the next input, until then
//!         output => world.carry_out(output),      // in this order
//!     }
//! }
//! ```
//!
//! | module | its one sentence |
//! | --- | --- |
//! | [`config`] | who we are, what we may do, how patient we are |
//! | [`input`], [`output`] | all that can happen to a client, and all it can ask for |
//! | [`event`] | what happened, a line each |
//! | [`cache`] | what is remembered between two starts |
//! | [`status`] | where the user is, since when and why |
//! | `endpoint` | introduces the machines to each other and to the wire |
//! | `discovery` | which names to ask DNS for, in which order |
//! | `registrar` | one registrar by name |
//! | `registration` | what REGISTER says and what its answers mean |
//! | `login` | answers to challenges |
//! | `notify` | what the registrar tells us unasked |
//! | `keepalive` | is the registrar still there |
//! | `calls` | requests of the user and of others |
//!
//! Whom to ask, and when again, is decided in [`resilience::homing`].

pub mod cache;
mod calls;
pub mod config;
mod discovery;
mod endpoint;
pub mod event;
pub mod input;
mod keepalive;
mod login;
mod notify;
pub mod output;
mod registrar;
mod registration;
pub mod status;
#[cfg(test)]
mod tests;

pub use cache::{CacheEntry, CachedRegistrar};
pub use config::Config;
pub use endpoint::Endpoint;
pub use event::Event;
pub use input::{Command, Input};
pub use output::Output;
pub use resilience::homing::{Service, State};
pub use status::Status;
