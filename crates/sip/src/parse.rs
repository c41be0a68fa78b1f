//! Reading: the one error type, the character classes of the grammar, and small cursors over text.

use std::fmt;

pub(crate) mod index;

/// Where reading stopped, what should have stood there, and who says so.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ParseError {
    /// Byte offset into what was read (a message, or a single value when only that was given).
    pub at: usize,
    /// What should have stood there.
    pub expected: &'static str,
    /// The section that says so.
    pub rfc: &'static str,
}

impl ParseError {
    /// An error at `at`.
    pub const fn new(at: usize, expected: &'static str, rfc: &'static str) -> ParseError {
        ParseError { at, expected, rfc }
    }

    /// The same error seen from a larger text in which this one starts at `offset`.
    #[must_use]
    pub const fn shifted(self, offset: usize) -> ParseError {
        ParseError { at: self.at.saturating_add(offset), ..self }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {} ({})", self.expected, self.at, self.rfc)
    }
}

impl std::error::Error for ParseError {}

//------------ Characters ------------------------------------------------------

/// What a token is made of.
pub(crate) const TOKEN: u8 = 1;
/// `unreserved`: stands for itself anywhere in a URI.
pub(crate) const UNRESERVED: u8 = 2;
/// `user-unreserved`: may also stand unescaped in the user part.
pub(crate) const USER: u8 = 4;
/// `param-unreserved`: may also stand unescaped in a URI parameter.
pub(crate) const PARAM: u8 = 8;
/// `hnv-unreserved`: may also stand unescaped in a URI header.
pub(crate) const HEADER: u8 = 16;
/// What a password allows besides `unreserved`.
pub(crate) const PASSWORD: u8 = 32;
/// What host names and IPv4 addresses are made of.
pub(crate) const HOST: u8 = 64;
/// `reserved` of RFC 2396: differs from its escaped form (RFC 3261 §19.1.4).
pub(crate) const RESERVED: u8 = 128;

/// The classes of RFC 3261 §25.1, one look-up per byte.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = TOKEN | UNRESERVED | HOST;
        }
        byte += 1;
    }
    mark(&mut table, b"-.!%*_+`'~", TOKEN);
    mark(&mut table, b"-_.!~*'()", UNRESERVED);
    mark(&mut table, b"&=+$,;?/", USER);
    mark(&mut table, b"[]/:&+$", PARAM);
    mark(&mut table, b"[]/?:+$", HEADER);
    mark(&mut table, b"&=+$,", PASSWORD);
    // The underscore is no part of the grammar but of many real host names.
    mark(&mut table, b"-._", HOST);
    mark(&mut table, b";/?:@&=+$,", RESERVED);
    table
}

const fn mark(table: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] |= class;
        i += 1;
    }
}

/// True if `byte` is in any of the classes.
pub(crate) fn has(byte: u8, classes: u8) -> bool {
    CLASS[byte as usize] & classes != 0
}

/// Where `text` leaves the classes for the first time.
pub(crate) fn first_outside(text: &str, classes: u8) -> Option<usize> {
    text.bytes().position(|byte| !has(byte, classes))
}

/// As [`first_outside`], with `%HH` allowed everywhere.
pub(crate) fn first_outside_escaped(text: &str, classes: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if has(byte, classes) {
            at += 1;
        } else if byte == b'%' && hex_pair(bytes, at + 1).is_some() {
            at += 3;
        } else {
            return Some(at);
        }
    }
    None
}

/// The byte that two hexadecimal digits at `at` stand for.
pub(crate) fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&byte| (byte as char).to_digit(16));
    Some((digit(at)? * 16 + digit(at + 1)?) as u8)
}

/// True for one or more token characters (RFC 3261 §25.1).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && first_outside(text, TOKEN).is_none()
}

/// True for what a folded and unfolded line may hold between words.
pub(crate) fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without the white space around it.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Digits and nothing else, as a number that fits; a leading zero is fine (RFC 4475 §3.1.1.1).
pub(crate) fn number<N: TryFrom<u64>>(text: &str) -> Option<N> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<u64>().ok().and_then(|value| N::try_from(value).ok())
}

//------------ Lists and quotes ------------------------------------------------

/// Where a quoted string that opens at `at` has its closing quote.
pub(crate) fn closing_quote(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// The first `stop` in `text` from `from` on that is neither in a quoted string nor between `<` and `>`.
///
/// An unclosed quote or bracket swallows the rest, so whoever parses the piece sees the mistake.
pub(crate) fn find_outside(text: &str, from: usize, stop: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    loop {
        at += memchr::memchr3(stop, b'"', b'<', bytes.get(at..)?)?;
        at = match bytes.get(at)? {
            b'"' => closing_quote(bytes, at)?,
            b'<' => at + memchr::memchr(b'>', bytes.get(at..)?)?,
            _ => return Some(at),
        } + 1;
    }
}

/// The values of a comma-separated line, trimmed; an empty value stays, so that it can be refused.
pub(crate) struct Values<'m> {
    /// What is left of the line, or nothing more to say.
    rest: Option<&'m str>,
}

impl<'m> Values<'m> {
    /// The values of `line`; an empty line has one empty value.
    pub(crate) fn of(line: &'m str) -> Values<'m> {
        Values { rest: Some(line) }
    }

    /// What is behind the values already taken; `None` behind the last.
    pub(crate) fn rest(&self) -> Option<&'m str> {
        self.rest
    }
}

impl<'m> Iterator for Values<'m> {
    type Item = &'m str;

    fn next(&mut self) -> Option<&'m str> {
        let rest = self.rest?;
        let (value, after) = match find_outside(rest, 0, b',') {
            Some(comma) => (&rest[..comma], Some(&rest[comma + 1..])),
            None => (rest, None),
        };
        self.rest = after;
        Some(trim(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_separate_nothing() {
        let line = r#""Bell, \"A\"" <sip:a,b@example.test>;q=1 , <sip:c@example.test>"#;
        let values: Vec<_> = Values::of(line).collect();
        assert_eq!(values, [r#""Bell, \"A\"" <sip:a,b@example.test>;q=1"#, "<sip:c@example.test>"]);
    }

    #[test]
    fn an_open_quote_swallows_the_rest() {
        assert_eq!(Values::of(r#"a, "b, c\", d"#).count(), 2);
    }

    #[test]
    fn a_number_too_large_is_none() {
        assert_eq!(number::<u32>("4294967295"), Some(u32::MAX));
        for text in ["4294967296", "36893488147419103232", "-1", "+1", "", " 1"] {
            assert_eq!(number::<u32>(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_escape_needs_two_digits() {
        assert_eq!(first_outside_escaped("a%41b", UNRESERVED), None);
        assert_eq!(first_outside_escaped("a%4", UNRESERVED), Some(1));
        assert_eq!(first_outside_escaped("a%4g", UNRESERVED), Some(1));
    }
}
