//! One SIP message: the bytes that came, an index of its lines, and values made only when asked for.
//!
//! ```text
//!   bytes   REGISTER sip:example.test SIP/2.0⏎Via: SIP/2.0/UDP …⏎t: <sip:alice@…>⏎⏎body
//!   index   ^method  ^uri             ^version │Via  ^value    ^end│To  ^value   ^end
//! ```
//!
//! [`Message::parse`] makes one pass over the head and copies nothing (folded lines excepted, which are
//! rare and cost one copy). It is forgiving: it fails only on what cannot even be answered.
//! [`Message::validate`] then gives the verdict, with the status to answer, and it is strict. Whoever acts
//! on a message validates it first.
//!
//! The index is shared, so cloning a message counts two references.

use std::sync::Arc;

use bytes::Bytes;

use crate::header::{CSeq, Contacts, HeaderName, NameAddr, Via, contact, cseq};
use crate::method::Method;
use crate::parse::{self, ParseError, Values};
use crate::text::Text;
use crate::uri::Uri;

mod validate;

pub use validate::Invalid;

/// The longest head (start line and headers) we read. Offsets into it fit sixteen bits even after a note was
/// made in its top Via ([`stamp`](crate::transport::stamp)), which takes at most 61 bytes.
pub const MAX_HEAD: usize = u16::MAX as usize - 128;

/// One SIP message, a request or a response.
#[derive(Clone)]
pub struct Message {
    /// Head and body, nothing behind the body; folds replaced by blanks.
    bytes: Bytes,
    /// Where everything is.
    index: Arc<Index>,
}

/// Where the parts of a message are, and what was wrong with it at first sight.
#[derive(Clone)]
pub(crate) struct Index {
    /// Request line or status line.
    pub(crate) start: Start,
    /// Every header line in order, unknown ones too.
    pub(crate) lines: Vec<Line>,
    /// A bit for each name that has a line. Most questions are about headers that are not there.
    pub(crate) names: u128,
    /// Where the body begins: behind the empty line.
    pub(crate) body: usize,
    /// The first thing found wrong that still lets the message be answered.
    pub(crate) flaw: Option<ParseError>,
    /// A single-valued header that stands more than once (RFC 4475 §3.3.8).
    pub(crate) repeated: Option<HeaderName>,
}

/// The parts of a start line, as offsets.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// `METHOD SP uri SP version`.
    Request {
        /// End of the method; it starts at 0.
        method: u16,
        /// Start and end of the Request-URI, as found between first and last blank.
        uri: (u16, u16),
        /// Start and end of the version.
        version: (u16, u16),
    },
    /// `version SP status SP reason`.
    Response {
        /// End of the version; it starts at 0.
        version: u16,
        /// The code; 0 when it is not three digits (RFC 4475 §3.1.2.19).
        status: u16,
        /// Start and end of the reason phrase, which may be empty.
        reason: (u16, u16),
    },
}

/// One header line, as offsets.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    /// Which header.
    pub(crate) name: HeaderName,
    /// Where the line starts.
    pub(crate) start: u16,
    /// Where its name ends.
    pub(crate) name_end: u16,
    /// Where its trimmed value starts.
    pub(crate) value: u16,
    /// Where its trimmed value ends; the line's CRLF is further on.
    pub(crate) value_end: u16,
}

impl Message {
    /// Reads one datagram, or one message framed from a stream.
    ///
    /// What is behind the body is cut off (RFC 3261 §18.3). An error means that no answer is possible:
    /// the bytes are no SIP message; other mistakes wait for [`Message::validate`].
    pub fn parse(bytes: Bytes) -> Result<Message, ParseError> {
        let (bytes, index) = parse::index::read(bytes)?;
        Ok(Message { bytes, index: Arc::new(index) })
    }

    /// The whole message, as it would be sent on unchanged.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// True for a request, false for a response.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// The method: of the start line in a request, of CSeq in a response; one without a name in a response whose
    /// CSeq cannot be read.
    pub fn method(&self) -> Method {
        let name = match self.index.start {
            Start::Request { method, .. } => self.slice(0, method),
            Start::Response { .. } => self
                .header(HeaderName::CSeq)
                .and_then(|value| cseq::split(value).ok())
                .map_or("", |(_, name)| name),
        };
        Method::known(name).unwrap_or_else(|| Method::Other(Text::sharing(&self.bytes, name)))
    }

    /// The Request-URI; `None` for a response.
    pub fn request_uri(&self) -> Option<&str> {
        match self.index.start {
            Start::Request { uri: (start, end), .. } => Some(self.slice(start, end)),
            Start::Response { .. } => None,
        }
    }

    /// The Request-URI as a view.
    pub fn uri(&self) -> Result<Uri<'_>, ParseError> {
        const WANTED: ParseError = ParseError::new(0, "a request", "RFC 3261 §7.1");
        match self.index.start {
            Start::Request { uri: (start, end), .. } => {
                Uri::parse(self.slice(start, end)).map_err(|error| error.shifted(usize::from(start)))
            }
            Start::Response { .. } => Err(WANTED),
        }
    }

    /// `SIP/2.0`, or what stands there instead.
    pub fn version(&self) -> &str {
        match self.index.start {
            Start::Request { version: (start, end), .. } => self.slice(start, end),
            Start::Response { version, .. } => self.slice(0, version),
        }
    }

    /// The status code, 100 to 699; `None` for a request, and for a code that is none.
    pub fn status(&self) -> Option<u16> {
        match self.index.start {
            Start::Response { status, .. } if status != 0 => Some(status),
            _ => None,
        }
    }

    /// The reason phrase, which may be empty; `None` for a request.
    pub fn reason(&self) -> Option<&str> {
        match self.index.start {
            Start::Response { reason: (start, end), .. } => Some(self.slice(start, end)),
            Start::Request { .. } => None,
        }
    }

    /// The value of the first line with that name, trimmed.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers(name).next()
    }

    /// The value of each line with that name, trimmed.
    pub fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.lines(name).map(|line| self.slice(line.value, line.value_end))
    }

    /// Every value with that name, in order: lines split at commas outside quotes and brackets. Only for
    /// headers that are lists (RFC 3261 §7.3.1): a Date has a comma too.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.headers(name).flat_map(Values::of)
    }

    /// The value of the first line with that name, any name, in any case.
    pub fn header_named(&self, name: &str) -> Option<&str> {
        self.headers_named(name).next()
    }

    /// The value of each line with that name, any name, in any case; a known name finds its compact form.
    pub fn headers_named<'m, 'n>(&'m self, name: &'n str) -> impl Iterator<Item = &'m str> + use<'m, 'n> {
        let known = HeaderName::of(name);
        let lines = self.index.lines.iter().filter(move |line| line.name == known);
        lines
            .filter(move |line| {
                known != HeaderName::Other || self.slice(line.start, line.name_end).eq_ignore_ascii_case(name)
            })
            .map(|line| self.slice(line.value, line.value_end))
    }

    /// Name and value of every line, in order, as spelt in the message.
    pub fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.index
            .lines
            .iter()
            .map(|line| (self.slice(line.start, line.name_end), self.slice(line.value, line.value_end)))
    }

    /// What is behind the empty line, as far as Content-Length says.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.index.body..).unwrap_or_default()
    }

    //------------ Typed values ----------------------------------------------

    /// The top Via: the hop we got it from.
    pub fn via(&self) -> Result<Via<'_>, ParseError> {
        let (value, at) = self.first_value(HeaderName::Via, "a Via header")?;
        Via::parse(value).map_err(|error| error.shifted(at))
    }

    /// Who sends.
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        self.name_addr(HeaderName::From, "a From header")
    }

    /// To whom.
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        self.name_addr(HeaderName::To, "a To header")
    }

    /// The From tag; `None` without one or without a well-formed From.
    pub fn from_tag(&self) -> Option<&str> {
        self.from().ok()?.tag()
    }

    /// The To tag; `None` without one or without a well-formed To.
    pub fn to_tag(&self) -> Option<&str> {
        self.to().ok()?.tag()
    }

    /// The Call-ID: one word, compared by its bytes (RFC 3261 §20.8).
    pub fn call_id(&self) -> Result<&str, ParseError> {
        const RFC: &str = "RFC 3261 §20.8";
        let (value, at) = self.line_value(HeaderName::CallId, "a Call-ID header")?;
        match value.bytes().position(|byte| !byte.is_ascii_graphic() || byte == b',') {
            Some(wrong) => Err(ParseError::new(at + wrong, "one word as Call-ID", RFC)),
            None if value.is_empty() => Err(ParseError::new(at, "one word as Call-ID", RFC)),
            None => Ok(value),
        }
    }

    /// Number and method.
    pub fn cseq(&self) -> Result<CSeq, ParseError> {
        let (value, at) = self.line_value(HeaderName::CSeq, "a CSeq header")?;
        let (number, name) = cseq::split(value).map_err(|error| error.shifted(at))?;
        let method = Method::known(name).unwrap_or_else(|| Method::Other(Text::sharing(&self.bytes, name)));
        Ok(CSeq { number, method })
    }

    /// Hops left, if the header is there; a number above 255 is an error (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Option<Result<u8, ParseError>> {
        let line = self.lines(HeaderName::MaxForwards).next()?;
        let value = self.slice(line.value, line.value_end);
        let wrong = ParseError::new(usize::from(line.value), "a number, 0 to 255", "RFC 3261 §20.22");
        Some(parse::number(value).ok_or(wrong))
    }

    /// All contacts, or the star.
    pub fn contacts(&self) -> Result<Contacts<'_>, ParseError> {
        let mut list = Vec::new();
        let mut star = None;
        for line in self.lines(HeaderName::Contact) {
            for value in Values::of(self.slice(line.value, line.value_end)) {
                let at = self.offset(value);
                if value == "*" {
                    star = Some(at);
                } else {
                    list.push(NameAddr::parse(value).map_err(|error| error.shifted(at))?);
                }
            }
        }
        match star {
            None if list.is_empty() => Ok(Contacts::None),
            None => Ok(Contacts::List(list)),
            Some(_) if list.is_empty() && self.values(HeaderName::Contact).count() == 1 => Ok(Contacts::Star),
            Some(at) => Err(ParseError::new(at, "* as the only contact", "RFC 3261 §20.10")),
        }
    }

    /// The values of Route, Record-Route, Path, Service-Route and their like, in order.
    pub fn name_addrs(&self, name: HeaderName) -> impl Iterator<Item = Result<NameAddr<'_>, ParseError>> {
        self.values(name)
            .map(|value| NameAddr::parse(value).map_err(|error| error.shifted(self.offset(value))))
    }

    /// The Expires header in seconds; what is no number counts as 3600, what is too large as the largest
    /// (RFC 3261 §20.19, RFC 4475 §3.1.2.4).
    pub fn expires(&self) -> Option<u32> {
        self.header(HeaderName::Expires).map(contact::seconds)
    }

    /// True if Supported lists `tag`.
    pub fn supports(&self, tag: &str) -> bool {
        self.lists(HeaderName::Supported, tag)
    }

    /// True if Require lists `tag`.
    pub fn requires(&self, tag: &str) -> bool {
        self.lists(HeaderName::Require, tag)
    }

    /// True if a list header holds `word`, in any case.
    pub fn lists(&self, name: HeaderName, word: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(word))
    }

    /// Content-Length, if there is exactly one and it is a number that fits.
    pub fn content_length(&self) -> Option<usize> {
        let mut lines = self.headers(HeaderName::ContentLength);
        let length = parse::number::<u32>(lines.next()?)?;
        if lines.next().is_some() { None } else { usize::try_from(length).ok() }
    }

    /// A single-valued header that stands more than once: which of them counts nobody can know
    /// (RFC 4475 §3.3.8, §3.3.9).
    pub fn repeated(&self) -> Option<HeaderName> {
        self.index.repeated
    }

    //------------ Within the crate ------------------------------------------

    /// A message of parts that fit together.
    pub(crate) fn from_parts(bytes: Bytes, index: Arc<Index>) -> Message {
        Message { bytes, index }
    }

    /// The index, for printing.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The lines with that name.
    pub(crate) fn lines(&self, name: HeaderName) -> impl Iterator<Item = &Line> {
        let is_there = self.index.names & name.bit() != 0;
        let lines = if is_there { self.index.lines.as_slice() } else { &[] };
        lines.iter().filter(move |line| line.name == name)
    }

    /// A piece of the head as text.
    pub(crate) fn slice(&self, start: u16, end: u16) -> &str {
        // The head was checked as a whole; a slice of it is UTF-8 because it ends at ASCII signs.
        self.bytes
            .get(usize::from(start)..usize::from(end))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// Where in the message a slice of it starts.
    pub(crate) fn offset(&self, part: &str) -> usize {
        (part.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize)
    }

    /// The value of the first line with that name and where it starts, or the error that there is none.
    fn line_value(&self, name: HeaderName, expected: &'static str) -> Result<(&str, usize), ParseError> {
        let line = self.lines(name).next().ok_or(self.missing(expected))?;
        Ok((self.slice(line.value, line.value_end), usize::from(line.value)))
    }

    /// The first value of a list.
    fn first_value(&self, name: HeaderName, expected: &'static str) -> Result<(&str, usize), ParseError> {
        let (line, at) = self.line_value(name, expected)?;
        Ok((Values::of(line).next().unwrap_or_default(), at))
    }

    /// A header that is one name-addr.
    fn name_addr(&self, name: HeaderName, expected: &'static str) -> Result<NameAddr<'_>, ParseError> {
        let (value, at) = self.line_value(name, expected)?;
        NameAddr::parse(value).map_err(|error| error.shifted(at))
    }

    /// The error for a header that is not there: it should have stood before the empty line.
    fn missing(&self, expected: &'static str) -> ParseError {
        ParseError::new(self.index.body, expected, "RFC 3261 §8.1.1")
    }
}

impl std::fmt::Debug for Message {
    /// The head, as text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.bytes.get(..self.index.body).unwrap_or_default();
        f.write_str(String::from_utf8_lossy(head).trim_end())
    }
}

#[cfg(test)]
mod tests;
