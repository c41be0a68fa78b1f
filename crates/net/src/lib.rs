//! The real world: sockets, TLS, DNS, disk, clock.
//!
//! The brains (`server`, `endpoint`) own decisions; this crate owns bytes and time. It turns sockets, name
//! servers and files into their inputs, and carries out their outputs in the order given.
//!
//! | module | its one sentence |
//! | --- | --- |
//! | [`drive_server`] | runs one server: sockets, shards, disk |
//! | [`drive_endpoint`] | runs one client |
//! | [`nic`] | one host's network interface, which can be cut and restored without root |
//! | [`udp`] | datagrams, in batches |
//! | [`stream`] | connections, plain and TLS: framed, limited, bounded |
//! | [`tls`], [`certificates`] | handshakes, and what they prove |
//! | [`dns`] | asks real name servers |
//! | [`dns_server`], [`zone`] | the embedded authoritative name server, and what it says |
//! | [`cache_file`] | what a client remembers between two runs |
//! | [`disk`], [`directory`], [`sqlite`] | what must survive a restart; who the users are; the file beneath both |
//! | [`clock`] | the only place that reads the time |
//!
//! Not here: the rules of SIP, the timers of its machines, who is homed where.

pub mod cache_file;
pub mod certificates;
pub mod clock;
pub mod directory;
pub mod disk;
pub mod dns;
pub mod dns_server;
pub mod drive_endpoint;
pub mod drive_server;
mod inbox;
pub mod nic;
mod port_holder;
mod route;
mod shard;
pub mod sqlite;
pub mod stream;
pub mod tls;
pub mod udp;
pub mod zone;
