//! Streams to messages: cut at Content-Length, keepalives told apart, limits kept (RFC 3261 §18.3).
//!
//! ```text
//!   bytes ──push──►  ⏎⏎⏎⏎ │ REGISTER …⏎⏎body │ ⏎⏎ │ INVI…
//!                    Ping │ Message           │ Pong│ (waits for more)
//! ```
//!
//! A stream has no other mark between messages than the length, so a length that cannot be trusted ends
//! the connection: [`FrameError`] carries the head, for those who answer before they close
//! (RFC 4475 §3.1.2.3).

use bytes::{Buf, Bytes, BytesMut};

use crate::header::HeaderName;
use crate::message::MAX_HEAD;
use crate::parse::{self, ParseError};

/// How much one message may ask us to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Start line and headers, in bytes.
    pub head: usize,
    /// Body, in bytes.
    pub body: usize,
}

impl Default for Limits {
    /// What a datagram could carry, twice.
    fn default() -> Limits {
        Limits { head: MAX_HEAD, body: MAX_HEAD }
    }
}

/// What a stream held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// One message, head and body, not yet parsed.
    Message(Bytes),
    /// Two CRLFs: the other side asks for a sign of life (RFC 5626 §4.4.1).
    Ping,
    /// One CRLF: the sign of life we asked for, or an idle blank line (RFC 3261 §7.5).
    Pong,
}

/// The stream cannot be cut into messages any more and must be closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FrameError {
    /// What is wrong.
    pub why: ParseError,
    /// The head of the message that broke it, if it came whole: enough to answer 400 or 413.
    pub head: Option<Bytes>,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stream cannot be framed: {}", self.why)
    }
}

impl std::error::Error for FrameError {}

/// Cuts one direction of one stream into messages and keepalives.
#[derive(Debug, Default)]
pub struct Framer {
    /// What has come and is not yet handed out.
    buffer: BytesMut,
    /// How much of `buffer` is known not to hold the end of a head.
    searched: usize,
    /// Where the message at the start of `buffer` ends, once its head is there.
    needed: Option<usize>,
    /// A lone CRLF was handed out as a Pong, and nothing has come since: another one makes it a Ping.
    half_ping: bool,
    /// Why the stream is broken, once it is.
    broken: Option<FrameError>,
    /// How much we hold at most.
    limits: Limits,
}

impl Framer {
    /// A framer for a new stream.
    pub fn new(limits: Limits) -> Framer {
        Framer { limits, ..Framer::default() }
    }

    /// Takes what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next message or keepalive; `None` until more is read. An error stays: close the stream.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at None; this one waits")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let frame = self.cut();
        if let Err(error) = &frame {
            self.broken = Some(error.clone());
            self.buffer.clear();
        }
        frame
    }

    /// True while part of a message is waiting for the rest: what a time-to-complete limit asks.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn cut(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.needed.is_none() {
            if let Some(frame) = self.keepalive() {
                return Ok(Some(frame));
            }
            let Some(head) = self.end_of_head()? else {
                return Ok(None);
            };
            self.needed = Some(self.end_of_message(head)?);
        }
        match self.needed {
            Some(needed) if self.buffer.len() >= needed => {
                (self.needed, self.searched) = (None, 0);
                Ok(Some(Frame::Message(self.buffer.split_to(needed).freeze())))
            }
            _ => Ok(None),
        }
    }

    /// Empty lines between messages.
    ///
    /// A lone CRLF is handed out at once, since a client waits for nothing more. Should it have been the
    /// first half of a Ping, the second half still makes one.
    fn keepalive(&mut self) -> Option<Frame> {
        if self.buffer.starts_with(b"\r\n\r\n") && !self.half_ping {
            self.buffer.advance(4);
            return Some(Frame::Ping);
        }
        if self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            let frame = if self.half_ping { Frame::Ping } else { Frame::Pong };
            self.half_ping = !self.half_ping && b"\r".starts_with(&self.buffer);
            return Some(frame);
        }
        if !self.buffer.is_empty() && self.buffer[..] != b"\r"[..] {
            self.half_ping = false;
        }
        None
    }

    /// Where the head ends, behind its empty line.
    fn end_of_head(&mut self) -> Result<Option<usize>, FrameError> {
        let limit = self.limits.head.min(MAX_HEAD);
        let found = memchr::memmem::find(self.buffer.get(self.searched..).unwrap_or_default(), b"\r\n\r\n");
        match found.map(|at| self.searched + at + 4) {
            Some(end) if end <= limit => Ok(Some(end)),
            None if self.buffer.len() <= limit => {
                // The mark may begin in the last three bytes.
                self.searched = self.buffer.len().saturating_sub(3);
                Ok(None)
            }
            _ => Err(FrameError {
                why: ParseError::new(limit, "a shorter head", "RFC 3261 §21.5.7"),
                head: None,
            }),
        }
    }

    /// Where the message ends whose head ends at `head`.
    fn end_of_message(&self, head: usize) -> Result<usize, FrameError> {
        const RFC: &str = "RFC 3261 §18.3";
        let text = self.buffer.get(..head).unwrap_or_default();
        let broken = |why| FrameError { why, head: Some(Bytes::copy_from_slice(text)) };
        match content_length(text).map_err(broken)? {
            None => Err(broken(ParseError::new(head, "a Content-Length on a stream", RFC))),
            Some(length) if length > self.limits.body => {
                Err(broken(ParseError::new(head, "a shorter body", "RFC 3261 §21.4.11")))
            }
            Some(length) => Ok(head + length),
        }
    }
}

/// The one Content-Length of a head, without indexing the rest.
fn content_length(head: &[u8]) -> Result<Option<usize>, ParseError> {
    let mut found = None;
    let mut at = 0;
    while let Some(length) = memchr::memchr(b'\n', head.get(at..).unwrap_or_default()) {
        let line = &head[at..at + length];
        if !line.ends_with(b"\r") {
            // Whoever sent this on may have taken it for the end of a line, and have cut elsewhere.
            return Err(ParseError::new(at + length, "CR and LF together", "RFC 3261 §7"));
        }
        if let Some(value) = value_of_length(line) {
            // A folded value is legal and nobody's: refusing it here keeps both readers in step.
            let folded = head.get(at + length + 1).copied().is_some_and(parse::is_space);
            let number =
                std::str::from_utf8(value).ok().and_then(|text| parse::number::<u32>(parse::trim(text)));
            match number.and_then(|number| usize::try_from(number).ok()) {
                Some(number) if found.is_none() && !folded => found = Some(number),
                Some(_) if !folded => {
                    return Err(ParseError::new(at, "Content-Length once", "RFC 4475 §3.3.9"));
                }
                _ => {
                    return Err(ParseError::new(at, "a length: digits, below 2^32", "RFC 3261 §20.14"));
                }
            }
        }
        at += length + 1;
    }
    Ok(found)
}

/// The value of a Content-Length line, either spelling.
fn value_of_length(line: &[u8]) -> Option<&[u8]> {
    // Cheap first: most lines begin with another letter.
    if !matches!(line.first(), Some(b'C' | b'c' | b'L' | b'l')) {
        return None;
    }
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    (HeaderName::of_bytes(name) == HeaderName::ContentLength)
        .then(|| line[colon + 1..].strip_suffix(b"\r").unwrap_or(&line[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"MESSAGE sip:a SIP/2.0\r\nl : 5\r\n\r\nhello";
    const EMPTY: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";

    fn frames(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next().unwrap()).collect()
    }

    fn error(bytes: &[u8]) -> FrameError {
        let mut framer = Framer::new(Limits { head: 200, body: 100 });
        framer.push(bytes);
        framer.next().expect_err("a broken stream")
    }

    #[test]
    fn a_stream_is_cut_the_same_wherever_it_is_torn() {
        let stream = [HELLO, b"\r\n", EMPTY, b"\r\n\r\n", HELLO].concat();
        let message = |bytes: &'static [u8]| Frame::Message(Bytes::from_static(bytes));
        let expected = [message(HELLO), Frame::Pong, message(EMPTY), Frame::Ping, message(HELLO)];
        for tear in 0..stream.len() {
            let mut framer = Framer::default();
            framer.push(&stream[..tear]);
            let mut seen = frames(&mut framer);
            framer.push(&stream[tear..]);
            seen.extend(frames(&mut framer));
            // A Ping torn in the middle shows its first half as a Pong before it.
            let halves = seen.windows(2).position(|two| two == [Frame::Pong, Frame::Ping]);
            if let Some(half) = halves {
                seen.remove(half);
            }
            assert_eq!(seen, expected, "torn at {tear}");
            assert!(!framer.is_partial());
        }
    }

    #[test]
    fn byte_by_byte_gives_the_same_messages() {
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        for byte in [HELLO, EMPTY].concat() {
            framer.push(&[byte]);
            seen.extend(frames(&mut framer));
        }
        assert_eq!(seen, [HELLO, EMPTY].map(|bytes| Frame::Message(Bytes::from_static(bytes))));
    }

    #[test]
    fn pings_and_pongs_are_told_apart() {
        let seen = |pieces: &[&[u8]]| {
            let mut framer = Framer::default();
            let mut seen = Vec::new();
            for piece in pieces {
                framer.push(piece);
                seen.extend(frames(&mut framer));
            }
            seen
        };
        assert_eq!(seen(&[b"\r\n\r\n"]), [Frame::Ping]);
        assert_eq!(seen(&[b"\r\n"]), [Frame::Pong]);
        assert_eq!(seen(&[b"\r\n", b"\r\n"]), [Frame::Pong, Frame::Ping]);
        assert_eq!(seen(&[b"\r", b"\n\r\n"]), [Frame::Ping]);
        assert_eq!(seen(&[b"\r\n\r\n\r\n\r\n"]), [Frame::Ping, Frame::Ping]);
        assert_eq!(seen(&[b"\r\n", EMPTY, b"\r\n"]).last(), Some(&Frame::Pong));
    }

    #[test]
    fn a_length_nobody_can_trust_breaks_the_stream() {
        for length in
            ["-1", "", "x", "1 1", "1,1", "4294967296", "4294967301", "1\r\nl: 1", "\r\n 1", "1\r\n 1"]
        {
            let head = format!("MESSAGE sip:a SIP/2.0\r\nContent-Length: {length}\r\n\r\n");
            let error = error(format!("{head}hello").as_bytes());
            assert_eq!(error.head.as_deref(), Some(head.as_bytes()), "{length:?}");
        }
        let bare = b"MESSAGE sip:a SIP/2.0\r\nX: y\nContent-Length: 9\r\nl: 5\r\n\r\nhello";
        assert_eq!(error(bare).why.expected, "CR and LF together");
        assert_eq!(error(b"MESSAGE sip:a SIP/2.0\r\n\r\n").why.expected, "a Content-Length on a stream");
    }

    #[test]
    fn limits_hold_before_the_bytes_are_there() {
        assert_eq!(error(&[b'x'; 201]).why.expected, "a shorter head");
        assert_eq!(error(b"MESSAGE sip:a SIP/2.0\r\nl: 101\r\n\r\n").why.expected, "a shorter body");
    }

    #[test]
    fn a_broken_stream_stays_broken() {
        let mut framer = Framer::default();
        framer.push(b"MESSAGE sip:a SIP/2.0\r\n\r\n");
        let first = framer.next().unwrap_err();
        framer.push(EMPTY);
        assert_eq!(framer.next().unwrap_err(), first);
    }
}
