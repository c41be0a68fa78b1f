//! The real world: sockets, TLS, DNS, disk, clock.
