//! What RFC 3261 and its friends say: messages, transactions, digest, locating servers. No IO, no clock.
//!
//! A message is the bytes that came, an index of its header lines, and nothing else until somebody asks:
//! [`message::Message`] hands out slices, and typed values ([`header::Via`], [`header::NameAddr`],
//! [`uri::Uri`]) are views parsed on demand. What leaves is either built from scratch
//! ([`print::Builder`]) or spliced from what came ([`print::Rewrite`]), so a header nobody here has heard
//! of passes through unharmed.
//!
//! | module | its one sentence |
//! | --- | --- |
//! | [`text`] | a cheap-to-clone piece of UTF-8 that outlives the message it was cut from |
//! | [`method`] | the verbs, known and unknown |
//! | [`uri`] | `sip:` and friends; equality as RFC 3261 §19.1.4 wants it; the address-of-record |
//! | [`header`] | names with their compact forms, and a file for each structured header |
//! | [`message`] | the index over one message, and the verdict whether it is well-formed |
//! | [`parse`] | bytes to index; the one error type of everything that reads |
//! | [`mod@print`] | messages to bytes; nothing printed here can smuggle in a line |
//! | [`digest`] | challenge and response arithmetic: MD5, SHA-256, nonces that need no memory |
//! | [`locate`] | DNS answers to an ordered list of targets, and what to ask next |
//! | [`transaction`] | the four machines of §17 and the collection that both brains use |
//! | [`exercise`] | what fuzzers run: each reader on any bytes, and what must hold then |
//! | [`transport`] | transports and flows as names; framing; `received`, `rport` and where answers go |

pub mod digest;
pub mod exercise;
pub mod header;
pub mod locate;
pub mod message;
pub mod method;
pub mod parse;
pub mod print;
pub mod text;
pub mod transaction;
pub mod transport;
pub mod uri;
