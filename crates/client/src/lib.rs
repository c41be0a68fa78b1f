//! A SIP endpoint that signs in, stays signed in, and comes home.
//!
//! A user has a *home pool* of registrars and, in another site, a *backup pool*. This library finds the
//! registrar (RFC 3263), registers (RFC 3261 §10) over TLS, TCP or UDP, notices within seconds when it dies
//! (RFC 5626 §4.4), moves to the backup, and comes home when told. It needs a tokio runtime.
//!
//! ```no_run
//! use client::{Client, Request};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("alice@example.test", "her password")
//!     .cache_file("alice.cache.json")            // the next start is faster, and survives without DNS
//!     .sign_in()
//!     .await?;
//! println!("signed in at {}", client.status());
//!
//! // Outages are no errors: they are changes of service.
//! let mut service = client.service();
//! tokio::spawn(async move {
//!     while service.changed().await.is_ok() {
//!         println!("service is now {}", *service.borrow());   // full, limited, none
//!     }
//! });
//!
//! let answer = client.request(Request::message("bob@example.test", "good morning")).await?;
//! println!("bob's side said {} {}", answer.status, answer.reason);
//!
//! let mut incoming = client.incoming();
//! if let Some(message) = incoming.next().await {
//!     println!("{} wrote: {}", message.from, message.text());
//! }
//!
//! client.sign_out().await;
//! # Ok(())
//! # }
//! ```
//!
//! In a laboratory, say where DNS is and whom to believe:
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = client::Client::builder("alice@example.test", "her password")
//!     .name_servers(["127.0.0.53:5353".parse()?])
//!     .authorities("lab/authority.pem")
//!     .transports([client::Transport::Tls])      // nothing in the clear, whatever DNS says
//!     .sign_in();
//! // Outages are waited for, so a program that wants to give up says when.
//! let client = tokio::time::timeout(std::time::Duration::from_secs(30), client).await??;
//! # Ok(())
//! # }
//! ```
//!
//! | item | its one sentence |
//! | --- | --- |
//! | [`Builder`] | who signs in, and how much of the default is to be changed |
//! | [`Client`] | one user, signed in until signed out |
//! | [`Service`] | what the user has: `Full`, `Limited` (on the backup pool), `None` |
//! | [`Request`], [`Answer`], [`Incoming`] | MESSAGE, OPTIONS, INVITE, both ways |
//!
//! What a client does and why is decided in the crate `endpoint`, which knows neither sockets nor clocks;
//! this crate puts it into the real world.

mod builder;
mod client;
mod request;

pub use builder::{Builder, SignInError};
pub use client::{Client, Events, Messages};
pub use endpoint::config::Calls;
pub use endpoint::{Event, Service, State, Status};
pub use net::certificates::CertificateError;
pub use net::dns::ResolverError;
pub use net::nic::Nic;
pub use request::{Answer, Incoming, Request, RequestError};
pub use resilience::profile::{Profile, Timers};
pub use sip::method::Method;
pub use sip::transport::Transport;
