//! Names of headers, and a file for each structured header.
//!
//! | file | what it reads |
//! | --- | --- |
//! | [`name`] | header names, their compact forms, their canonical spelling |
//! | [`params`] | `;name=value` lists behind most values |
//! | [`name_addr`] | From, To, Route, Path…: display name, URI, parameters (RFC 3261 §20.10) |
//! | [`contact`] | Contact: a list of those, or `*` (RFC 3261 §20.10) |
//! | [`via`] | Via: the hop a message came through (RFC 3261 §20.42) |
//! | [`cseq`] | CSeq: number and method (RFC 3261 §20.16) |
//!
//! All are views: they borrow the line and copy nothing.

pub mod contact;
pub mod cseq;
pub mod name;
pub mod name_addr;
pub mod params;
pub mod via;

pub use contact::Contacts;
pub use cseq::CSeq;
pub use name::HeaderName;
pub use name_addr::NameAddr;
pub use params::Params;
pub use via::Via;
