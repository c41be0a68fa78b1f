//! Requests, both ways.

use std::fmt;

use bytes::Bytes;
use endpoint::event::Unanswered;
use endpoint::{Command, Event};
use sip::method::Method;

/// A request to somebody, outside any dialog.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) to: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

impl Request {
    /// A request of any method. `to` is a SIP URI, `user@domain`, or a user of one's own domain.
    pub fn new(method: Method, to: impl Into<String>) -> Request {
        Request {
            method,
            to: to.into(),
            headers: Vec::new(),
            content_type: String::new(),
            body: Bytes::new(),
        }
    }

    /// A text message (RFC 3428).
    pub fn message(to: impl Into<String>, text: impl Into<String>) -> Request {
        Request::new(Method::Message, to).body("text/plain;charset=utf-8", text.into())
    }

    /// A call. Without a body it offers an audio stream that is inactive: nothing is heard.
    pub fn invite(to: impl Into<String>) -> Request {
        Request::new(Method::Invite, to)
    }

    /// Asks what the other side can do (RFC 3261 §11), which also says whether it is there.
    pub fn options(to: impl Into<String>) -> Request {
        Request::new(Method::Options, to)
    }

    /// Adds a header line. Those a request cannot do without are written anyway.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body and says what it is.
    #[must_use]
    pub fn body(mut self, content_type: impl Into<String>, body: impl Into<Bytes>) -> Request {
        self.content_type = content_type.into();
        self.body = body.into();
        self
    }

    pub(crate) fn command(self, id: u64) -> Command {
        let Request { method, to, headers, content_type, body } = self;
        Command::Request { id, method, to, headers, content_type, body }
    }
}

/// The final answer to a request: whatever the other side said, refusals included.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Names the call, if this answers an INVITE; see [`Client::hang_up`](crate::Client::hang_up).
    pub id: u64,
    /// The status: 200 is yes.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
}

impl Answer {
    /// Whether the answer is a yes (2xx).
    pub fn is_yes(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestError {
    /// Registered nowhere at this moment; see [`Client::service`](crate::Client::service).
    NotRegistered,
    /// Nobody answered in 32 s (RFC 3261, timers B and F).
    TimedOut,
    /// The connection was lost after the request had left; it may or may not have arrived.
    FlowLost,
    /// `to` is no address.
    BadRecipient,
    /// The client has been signed out.
    SignedOut,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestError::NotRegistered => "not registered anywhere at this moment",
            RequestError::TimedOut => "nobody answered in time",
            RequestError::FlowLost => "the connection was lost before the answer came",
            RequestError::BadRecipient => "the recipient is no SIP address",
            RequestError::SignedOut => "the client has been signed out",
        })
    }
}

impl std::error::Error for RequestError {}

impl From<Unanswered> for RequestError {
    fn from(why: Unanswered) -> RequestError {
        match why {
            Unanswered::NotRegistered => RequestError::NotRegistered,
            Unanswered::TimedOut => RequestError::TimedOut,
            Unanswered::FlowLost => RequestError::FlowLost,
            Unanswered::BadRecipient => RequestError::BadRecipient,
        }
    }
}

/// A request somebody sent us. It has been answered already: MESSAGE with 200, INVITE by the policy given
/// to [`Builder::calls`](crate::Builder::calls).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incoming {
    /// MESSAGE or INVITE.
    pub method: Method,
    /// The URI of the sender.
    pub from: String,
    /// What it was answered with.
    pub status: u16,
    /// The type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Incoming {
    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn from_event(event: Event) -> Option<Incoming> {
        match event {
            Event::Request { method, from, status, content_type, body } => {
                Some(Incoming { method, from, status, content_type, body })
            }
            _ => None,
        }
    }
}
