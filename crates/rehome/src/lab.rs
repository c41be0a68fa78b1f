//! The laboratory: two sites on one machine's loopback, real sockets, and cables that can be pulled without root.
//!
//! | module | its one sentence |
//! | --- | --- |
//! | [`hosts`] | servers, a name server and our clients, each with a cable to pull |
//! | [`folder`] | everything the lab writes, in one place |
//! | [`running`] | the lab one types: three users signed in, events, commands from another terminal |
//! | [`screen`] | what it shows |
//! | [`live_world`] | plays a story on real sockets |
//! | [`replay`] | plays the article's stories side by side |
//! | [`verdict`] | and says in a table what came of it |
//!
//! Not here: decisions. The same brains run in `serve`, `sign-in` and the simulator.

pub(crate) mod folder;
mod hosts;
mod live_world;
pub(crate) mod replay;
pub(crate) mod running;
pub(crate) mod screen;
mod verdict;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the lab answers DNS.
pub(crate) const NAME_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 3, 0, 1)), 5_300);

/// The password of a user of the lab. Nothing here is secret.
pub(crate) fn password(user: &str) -> String {
    format!("{user}-secret")
}
