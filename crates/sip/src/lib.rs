//! What RFC 3261 and its friends say: messages, transactions, digest, locating servers. No IO, no clock.
