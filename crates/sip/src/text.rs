//! A cheap-to-clone piece of UTF-8, usually cut from the datagram it arrived in.
//!
//! [`Text`] is to `str` what [`Bytes`] is to `[u8]`: cloning counts a reference, slicing shares the
//! buffer. It is used where a value must outlive the borrow of a message; everywhere else `&str` is
//! better. A `Text` keeps its whole buffer alive: what is stored for long (bindings) should be copied
//! into a `Box<str>` instead.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// An immutable, shared piece of UTF-8 text.
#[derive(Clone, Default)]
pub struct Text {
    /// Always valid UTF-8; every constructor has checked.
    bytes: Bytes,
}

impl Text {
    /// A text that lives in the program; costs nothing.
    pub const fn from_static(text: &'static str) -> Text {
        Text { bytes: Bytes::from_static(text.as_bytes()) }
    }

    /// Shares `bytes` if they are UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Option<Text> {
        std::str::from_utf8(&bytes).is_ok().then_some(Text { bytes })
    }

    /// Shares the part of `whole` that `part` is a slice of; copies when it is not one.
    pub fn sharing(whole: &Bytes, part: &str) -> Text {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= whole.len() => Text { bytes: whole.slice(start..end) },
            _ => Text::from(part),
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        // Checked again rather than trusted: the workspace has no `unsafe`, and header values are short.
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text { bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text { bytes: Bytes::from(text) }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.bytes == other.as_bytes()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_shares_the_buffer_it_was_cut_from() {
        let whole = Bytes::from_static(b"From: <sip:alice@example.test>");
        let part = std::str::from_utf8(&whole[6..]).unwrap();
        let text = Text::sharing(&whole, part);
        assert_eq!(text, "<sip:alice@example.test>");
        assert_eq!(text.as_ptr(), part.as_ptr());
    }

    #[test]
    fn a_text_copies_what_lies_elsewhere() {
        let whole = Bytes::from_static(b"abc");
        let elsewhere = String::from("abc");
        let text = Text::sharing(&whole, &elsewhere);
        assert_eq!(text, "abc");
        assert_ne!(text.as_ptr(), elsewhere.as_ptr());
    }

    #[test]
    fn bytes_that_are_not_utf8_make_no_text() {
        assert_eq!(Text::from_utf8(Bytes::from_static(b"caf\xe9")), None);
    }
}
