//! Proxying by splice: the lines that change are printed anew, all others are copied byte for byte.

use std::fmt::Display;

use bytes::Bytes;

use super::{CRLF, put, put_line, put_start_line};
use crate::header::HeaderName;
use crate::message::Message;
use crate::parse::{self, Values};

/// Changes to one message, in the order they are made; each sees what the ones before it did.
///
/// What is not changed comes out as it came in: order, spelling, unknown headers and body. A header without a
/// name here is changed by its spelling; [`HeaderName::Other`] is none, and changes nothing.
#[derive(Clone, Debug)]
pub struct Rewrite<'m> {
    /// What came.
    message: &'m Message,
    /// The new Request-URI.
    uri: Option<String>,
    /// What the header part will be.
    pieces: Vec<Piece>,
}

/// One line of the result.
#[derive(Clone, Debug)]
enum Piece {
    /// A line of the original, by its place in the index.
    Kept(usize),
    /// A line of our own, whole, with its CRLF.
    New(HeaderName, Vec<u8>),
}

impl<'m> Rewrite<'m> {
    /// Nothing changed yet.
    pub fn of(message: &'m Message) -> Rewrite<'m> {
        let pieces = (0..message.index().lines.len()).map(Piece::Kept).collect();
        Rewrite { message, uri: None, pieces }
    }

    /// Another Request-URI (RFC 3261 §16.6 step 2); nothing happens to a response.
    #[must_use]
    pub fn request_uri(mut self, uri: &str) -> Rewrite<'m> {
        self.uri = Some(uri.to_owned());
        self
    }

    /// Adds a value before all others of that name, as proxies do with Via, Record-Route, Path and Route.
    #[must_use]
    pub fn push_front(mut self, name: HeaderName, value: impl Display) -> Rewrite<'m> {
        let at = self.find(name).unwrap_or(0);
        self.insert(at, name, name.as_str(), &value);
        self
    }

    /// Adds a line behind all others.
    #[must_use]
    pub fn push_back(self, name: HeaderName, value: impl Display) -> Rewrite<'m> {
        self.push_back_named(name.as_str(), value)
    }

    /// Adds a line of any name behind all others; one that is no token is left out.
    #[must_use]
    pub fn push_back_named(mut self, name: &str, value: impl Display) -> Rewrite<'m> {
        let at = self.pieces.len();
        self.insert(at, HeaderName::of(name), name, &value);
        self
    }

    /// Removes the first value of that name: our own Via of a response, our own Route of a request. Values
    /// behind it on the same line stay.
    #[must_use]
    pub fn remove_first(mut self, name: HeaderName) -> Rewrite<'m> {
        if let Some(at) = self.find(name) {
            let line = self.value(at);
            let mut values = Values::of(line);
            values.next();
            // Only what is behind the first comma; none means the line held a single value.
            let rest = values.rest();
            match rest.map(|rest| new_line(name.as_str(), &parse::trim(rest))) {
                Some(line) => self.pieces[at] = Piece::New(name, line),
                None => {
                    self.pieces.remove(at);
                }
            }
        }
        self
    }

    /// Removes each line of that name.
    #[must_use]
    pub fn remove_all(mut self, name: HeaderName) -> Rewrite<'m> {
        let message = self.message;
        self.pieces.retain(|piece| name == HeaderName::Other || piece_name(message, piece) != name);
        self
    }

    /// Removes each line of that name, any name, in any case.
    #[must_use]
    pub fn remove_all_named(mut self, name: &str) -> Rewrite<'m> {
        let (message, known) = (self.message, HeaderName::of(name));
        if known != HeaderName::Other {
            return self.remove_all(known);
        }
        self.pieces.retain(|piece| match piece {
            Piece::Kept(index) => !message
                .index()
                .lines
                .get(*index)
                .is_some_and(|line| message.slice(line.start, line.name_end).eq_ignore_ascii_case(name)),
            Piece::New(_, line) => !line
                .split(|&byte| byte == b':')
                .next()
                .is_some_and(|spelt| spelt.eq_ignore_ascii_case(name.as_bytes())),
        });
        self
    }

    /// One line of that name with that value, where the first was, or behind all others.
    #[must_use]
    pub fn set(mut self, name: HeaderName, value: impl Display) -> Rewrite<'m> {
        let at = self.find(name).unwrap_or(self.pieces.len());
        self = self.remove_all(name);
        self.insert(at, name, name.as_str(), &value);
        self
    }

    /// The message. A Content-Length is added where there was none, for it may leave by a stream
    /// (RFC 3261 §16.6 step 10).
    pub fn finish(self) -> Bytes {
        let message = self.message;
        let mut head = Vec::with_capacity(message.bytes().len() + 512);
        put_start_line(&mut head, message, self.uri.as_deref());
        for piece in &self.pieces {
            match piece {
                Piece::Kept(index) => {
                    if let Some(line) = message.index().lines.get(*index) {
                        head.extend_from_slice(message.slice(line.start, line.value_end).as_bytes());
                        head.extend_from_slice(CRLF);
                    }
                }
                Piece::New(_, line) => head.extend_from_slice(line),
            }
        }
        if self.find(HeaderName::ContentLength).is_none() {
            put_line(&mut head, HeaderName::ContentLength.as_str(), &message.body().len());
        }
        head.extend_from_slice(CRLF);
        head.extend_from_slice(message.body());
        Bytes::from(head)
    }

    /// The place of the first line with that name.
    fn find(&self, name: HeaderName) -> Option<usize> {
        if name == HeaderName::Other {
            return None;
        }
        self.pieces.iter().position(|piece| piece_name(self.message, piece) == name)
    }

    /// The value of the line at that place.
    fn value(&self, at: usize) -> &str {
        match self.pieces.get(at) {
            Some(Piece::Kept(index)) => self
                .message
                .index()
                .lines
                .get(*index)
                .map_or("", |line| self.message.slice(line.value, line.value_end)),
            Some(Piece::New(_, line)) => std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.split_once(':'))
                .map_or("", |(_, value)| value.trim_matches([' ', '\t', '\r', '\n'])),
            None => "",
        }
    }

    fn insert(&mut self, at: usize, name: HeaderName, spelt: &str, value: &dyn Display) {
        if parse::is_token(spelt) {
            let at = at.min(self.pieces.len());
            self.pieces.insert(at, Piece::New(name, new_line(spelt, value)));
        }
    }
}

/// Which header a piece is.
fn piece_name(message: &Message, piece: &Piece) -> HeaderName {
    match piece {
        Piece::Kept(index) => message.index().lines.get(*index).map_or(HeaderName::Other, |line| line.name),
        Piece::New(name, _) => *name,
    }
}

/// A whole line.
fn new_line(name: &str, value: &dyn Display) -> Vec<u8> {
    let mut line = Vec::with_capacity(128);
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b": ");
    put(&mut line, value);
    line.extend_from_slice(CRLF);
    line
}
