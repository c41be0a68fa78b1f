//! A site-resilient SIP registrar, director and proxy, and the client that knows how to use it.

fn main() {}
