//! Messages to bytes: built from scratch ([`Builder`]), or spliced from what came ([`Rewrite`]).
//!
//! Values that are given go through one writer, which lets no control byte through: whatever they hold, they
//! cannot end their line and begin another. What is copied from a message was found between two line ends.

use std::fmt::{self, Display, Write as _};

use bytes::Bytes;

use crate::header::HeaderName;
use crate::message::{Message, Start};
use crate::method::Method;
use crate::parse;

mod rewrite;

pub use rewrite::Rewrite;

/// Prints one message, header after header, in the order they are given.
///
/// Content-Length is always written, last. Values are printed by their `Display`.
#[derive(Clone, Debug)]
pub struct Builder {
    /// What has been printed so far: start line and whole header lines.
    head: Vec<u8>,
    /// Where the To line of a response ends, if it has no tag yet.
    untagged_to: Option<usize>,
    /// What comes behind the empty line.
    body: Vec<u8>,
}

impl Builder {
    /// A request; the caller adds Via, From, To, Call-ID, CSeq and Max-Forwards (RFC 3261 §8.1.1).
    pub fn request(method: &Method, uri: &str) -> Builder {
        let mut head = Vec::with_capacity(TYPICAL);
        // Blanks separate the parts of a start line, so they go the way of control bytes.
        put(&mut head, &WithoutBlanks(method.as_str()));
        head.push(b' ');
        put(&mut head, &WithoutBlanks(uri));
        head.extend_from_slice(b" SIP/2.0\r\n");
        Builder { head, untagged_to: None, body: Vec::new() }
    }

    /// The answer to `request`: with its Vias, From, Call-ID, CSeq and To as they came, and in a 100 its
    /// Timestamp (RFC 3261 §8.2.6). Record-Route is for the caller to copy, since only answers that make
    /// a dialog carry it (§12.1.1).
    pub fn response(request: &Message, status: u16, reason: &str) -> Builder {
        let mut head = Vec::with_capacity(TYPICAL);
        head.extend_from_slice(b"SIP/2.0 ");
        put(&mut head, &status.clamp(100, 699));
        head.push(b' ');
        put(&mut head, &reason);
        head.extend_from_slice(b"\r\n");

        copy_lines(&mut head, request, HeaderName::Via);
        copy_lines(&mut head, request, HeaderName::From);
        copy_lines(&mut head, request, HeaderName::CallId);
        copy_lines(&mut head, request, HeaderName::CSeq);
        if status == 100 {
            copy_lines(&mut head, request, HeaderName::Timestamp);
        }
        // Last of those copied, so that a tag is added where the buffer ends.
        let before = head.len();
        copy_lines(&mut head, request, HeaderName::To);
        let untagged = head.len() > before && request.to_tag().is_none();
        let untagged_to = untagged.then(|| head.len() - CRLF.len());
        Builder { head, untagged_to, body: Vec::new() }
    }

    /// Adds a tag to the To of a response, if it has none (RFC 3261 §8.2.6.2); not for a 100.
    #[must_use]
    pub fn to_tag(mut self, tag: &str) -> Builder {
        if let Some(at) = self.untagged_to.take() {
            let mut param = b";tag=".to_vec();
            put(&mut param, &WithoutBlanks(tag));
            self.head.splice(at..at, param);
        }
        self
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(self, name: HeaderName, value: impl Display) -> Builder {
        self.header_named(name.as_str(), value)
    }

    /// Adds a header line of any name; one that is no token is left out, since no reader could see it.
    #[must_use]
    pub fn header_named(mut self, name: &str, value: impl Display) -> Builder {
        put_line(&mut self.head, name, &value);
        self
    }

    /// Adds each line with that name from another message, as it came; Record-Route, mostly.
    #[must_use]
    pub fn copied(mut self, from: &Message, name: HeaderName) -> Builder {
        copy_lines(&mut self.head, from, name);
        self
    }

    /// Sets the body and says what it is.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl AsRef<[u8]>) -> Builder {
        put_line(&mut self.head, HeaderName::ContentType.as_str(), &content_type);
        self.body = body.as_ref().to_vec();
        self
    }

    /// The message.
    pub fn finish(self) -> Bytes {
        let Builder { mut head, body, .. } = self;
        put_line(&mut head, HeaderName::ContentLength.as_str(), &body.len());
        head.extend_from_slice(CRLF);
        head.extend_from_slice(&body);
        Bytes::from(head)
    }
}

/// End of a line.
const CRLF: &[u8] = b"\r\n";

/// What most messages fit in, so that the buffer grows once at most.
const TYPICAL: usize = 1024;

/// Writes one whole line; a name that is no token, none.
fn put_line(head: &mut Vec<u8>, name: &str, value: &dyn Display) {
    if !parse::is_token(name) {
        return;
    }
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    put(head, value);
    head.extend_from_slice(CRLF);
}

/// Writes a value, cleaned.
fn put(head: &mut Vec<u8>, value: &dyn Display) {
    // `Clean` never fails; a Display that does has said what it had to say.
    let _ = write!(Clean(head), "{value}");
}

/// Copies each line with that name, spelt our way, its value as it came.
fn copy_lines(head: &mut Vec<u8>, from: &Message, name: HeaderName) {
    for line in from.lines(name) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        // Straight from a line that was found between two CRLFs: it cannot hold another.
        head.extend_from_slice(from.slice(line.value, line.value_end).as_bytes());
        head.extend_from_slice(CRLF);
    }
}

/// Writes text and turns each control byte into a blank.
struct Clean<'b>(&'b mut Vec<u8>);

impl fmt::Write for Clean<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let clean = |byte: u8| if byte.is_ascii_control() && byte != b'\t' { b' ' } else { byte };
        self.0.extend(text.bytes().map(clean));
        Ok(())
    }
}

/// Text for a place where a blank would separate.
struct WithoutBlanks<'t>(&'t str);

impl Display for WithoutBlanks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split(|c: char| c.is_ascii_control() || c == ' ').try_for_each(|piece| f.write_str(piece))
    }
}

/// The usual reason phrase of a status (RFC 3261 §21 and the registry behind it).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match status / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirected",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

/// The start line of `message` with another Request-URI, where one is given. The version is read in any case
/// and must be sent in upper case (RFC 3261 §7.1).
fn put_start_line(head: &mut Vec<u8>, message: &Message, uri: Option<&str>) {
    let version = message.version().to_ascii_uppercase();
    match (message.index().start, uri) {
        (Start::Request { method, .. }, Some(uri)) => {
            head.extend_from_slice(message.slice(0, method).as_bytes());
            head.push(b' ');
            put(head, &WithoutBlanks(uri));
            head.push(b' ');
            head.extend_from_slice(version.as_bytes());
        }
        (Start::Request { version: (start, _), .. }, None) => {
            head.extend_from_slice(message.slice(0, start).as_bytes());
            head.extend_from_slice(version.as_bytes());
        }
        (Start::Response { version: end, reason: (_, last), .. }, _) => {
            head.extend_from_slice(version.as_bytes());
            head.extend_from_slice(message.slice(end, last).as_bytes());
        }
    }
    head.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests;
