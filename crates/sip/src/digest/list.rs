//! Takes apart `Digest a="1", b=2, NTLM c="3"`: schemes and parameters in the order written.
//!
//! RFC 3261 §25.1 (`challenge`, `credentials`), RFC 7235 §2.1. Commas and schemes inside quotes are text.
//! A scheme is told from a parameter by what follows: a blank and then no `=`.

use std::borrow::Cow;

use crate::parse::ParseError;

/// One thing in the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Item<'m> {
    /// A new scheme begins; what follows is its own.
    Scheme(&'m str),
    /// A parameter with what stood between the quotes, escapes and all, or the bare token.
    Param(&'m str, &'m str),
}

/// Walks the list; ends after the first error.
pub(super) fn items(text: &str) -> Items<'_> {
    Items { text, at: 0, ended: false }
}

pub(super) struct Items<'m> {
    text: &'m str,
    /// Always on a character boundary: it only ever moves past ASCII or to the end of a run.
    at: usize,
    ended: bool,
}

impl<'m> Iterator for Items<'m> {
    type Item = Result<Item<'m>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b','));
        if self.at == self.text.len() {
            return None;
        }
        let item = self.item();
        self.ended = item.is_err();
        Some(item)
    }
}

impl<'m> Items<'m> {
    fn item(&mut self) -> Result<Item<'m>, ParseError> {
        let name = self.token();
        if name.is_empty() {
            return self.fail("a parameter name or a scheme");
        }
        let after_name = self.at;
        self.skip(is_blank);
        if self.peek() != Some(b'=') {
            // `opaque=` may be followed by anything, `Digest` only by a blank, a comma or the end.
            return if self.at > after_name || matches!(self.peek(), None | Some(b',')) {
                Ok(Item::Scheme(name))
            } else {
                self.fail("= after a parameter name")
            };
        }
        self.at += 1;
        self.skip(is_blank);
        let value = if self.peek() == Some(b'"') { self.quoted()? } else { self.bare() };
        self.skip(is_blank);
        match self.peek() {
            None | Some(b',') => Ok(Item::Param(name, value)),
            Some(_) => self.fail("a comma between parameters"),
        }
    }

    fn quoted(&mut self) -> Result<&'m str, ParseError> {
        self.at += 1;
        let start = self.at;
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    let value = self.text.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(value);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at = self.text.len();
        self.fail("a closing quote")
    }

    /// An unquoted value: more than a token, since clients leave URIs and base64 unquoted.
    fn bare(&mut self) -> &'m str {
        self.run(|byte| !is_blank(byte) && byte != b',' && byte != b'"')
    }

    fn token(&mut self) -> &'m str {
        self.run(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte))
    }

    fn run(&mut self, wanted: impl Fn(u8) -> bool) -> &'m str {
        let start = self.at;
        self.skip(wanted);
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail<T>(&self, expected: &'static str) -> Result<T, ParseError> {
        Err(ParseError { at: self.at, expected, rfc: "RFC 3261 §25.1" })
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The text meant by what stood between quotes.
pub(super) fn unescape(quoted: &str) -> Cow<'_, str> {
    if !quoted.contains('\\') {
        return Cow::Borrowed(quoted);
    }
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(text)
}

/// What to put between quotes for this text.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['"', '\\']) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    Cow::Owned(quoted)
}
