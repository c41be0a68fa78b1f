//! Display name, URI and parameters: From, To, Contact, Route, Path and their like (RFC 3261 §20.10, §25.1).
//!
//! ```text
//! "Bell, A. \"Graham\"" <sip:bell@example.test;transport=tls>;tag=4711;q=0.7
//! display               uri                                  parameters
//! ```
//!
//! Without the brackets, everything behind a `;` belongs to the header, and the URI may hold neither
//! comma, question mark nor semicolon (RFC 3261 §20).

use std::borrow::Cow;

use super::params::Params;
use crate::parse::{self, ParseError};
use crate::uri::Uri;

/// One `name-addr` or `addr-spec` with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'m> {
    /// The display name as it stands, quotes included.
    pub display: Option<&'m str>,
    /// Whom or where.
    pub uri: Uri<'m>,
    /// The header's own parameters, not the URI's.
    pub params: Params<'m>,
}

impl<'m> NameAddr<'m> {
    /// Reads one value, as [`crate::message::Message::values`] gives it.
    pub fn parse(text: &'m str) -> Result<NameAddr<'m>, ParseError> {
        const RFC: &str = "RFC 3261 §25.1";
        let bytes = text.as_bytes();
        let start = bytes.iter().take_while(|&&byte| parse::is_space(byte)).count();

        let (display, open) = if bytes.get(start) == Some(&b'"') {
            let close = parse::closing_quote(bytes, start).ok_or(ParseError::new(
                start,
                "a closing quote of the display name",
                RFC,
            ))?;
            let space = bytes[close + 1..].iter().take_while(|&&byte| parse::is_space(byte)).count();
            let open = close + 1 + space;
            if bytes.get(open) != Some(&b'<') {
                return Err(ParseError::new(open, "< after a display name", RFC));
            }
            (Some(&text[start..=close]), Some(open))
        } else {
            match memchr::memchr3(b'<', b':', b'"', &bytes[start..]).map(|at| at + start) {
                Some(open) if bytes[open] == b'<' => {
                    let words = parse::trim(&text[start..open]);
                    if !words.split([' ', '\t']).all(|word| word.is_empty() || parse::is_token(word)) {
                        return Err(ParseError::new(
                            start,
                            "tokens as a display name, or quotes around it",
                            RFC,
                        ));
                    }
                    ((!words.is_empty()).then_some(words), Some(open))
                }
                _ => (None, None),
            }
        };

        match open {
            Some(open) => {
                let close = memchr::memchr(b'>', &bytes[open..]).map(|at| at + open);
                let close = close.ok_or(ParseError::new(open, "> after the URI", RFC))?;
                let uri = Uri::parse(&text[open + 1..close]).map_err(|error| error.shifted(open + 1))?;
                let params = Params::parse(&text[close + 1..]).map_err(|error| error.shifted(close + 1))?;
                Ok(NameAddr { display, uri, params })
            }
            None => {
                let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
                let bare = parse::trim(&text[..end]);
                if let Some(at) = bare.find([',', '?']) {
                    return Err(ParseError::new(start + at, "< > around a URI with , or ?", "RFC 3261 §20"));
                }
                let uri = Uri::parse(bare).map_err(|error| error.shifted(start))?;
                let params = Params::parse(&text[end..]).map_err(|error| error.shifted(end))?;
                Ok(NameAddr { display, uri, params })
            }
        }
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'m str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// The display name for eyes: without quotes, backslashes undone.
    pub fn display_name(&self) -> Option<Cow<'m, str>> {
        let display = self.display?;
        let Some(quoted) = display.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Some(Cow::Borrowed(display));
        };
        if !quoted.contains('\\') {
            return Some(Cow::Borrowed(quoted));
        }
        let mut plain = String::with_capacity(quoted.len());
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            plain.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
        }
        Some(Cow::Owned(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_rfc_is_read() {
        for (text, display, uri, tag) in [
            ("<sip:a@example.test>", None, "sip:a@example.test", None),
            ("sip:a@example.test;tag=1", None, "sip:a@example.test", Some("1")),
            ("caller<sip:a@example.test>;tag=1", Some("caller"), "sip:a@example.test", Some("1")),
            (
                "A. G. Bell \t<sip:a@example.test;lr> ; tag = 1",
                Some("A. G. Bell"),
                "sip:a@example.test;lr",
                Some("1"),
            ),
            (
                r#""<sip:x@y>;tag=2" <sip:a@example.test>"#,
                Some("<sip:x@y>;tag=2"),
                "sip:a@example.test",
                None,
            ),
            (r#""A \"G\" B\\"<sip:a@example.test>"#, Some(r#"A "G" B\"#), "sip:a@example.test", None),
            (r#""" <sip:a@example.test>"#, Some(""), "sip:a@example.test", None),
            ("isbn:2983792873;tag=1", None, "isbn:2983792873", Some("1")),
        ] {
            let read = NameAddr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.display_name().as_deref(), display, "{text}");
            assert_eq!(read.uri.as_str(), uri, "{text}");
            assert_eq!(read.tag(), tag, "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_or_broken_is_refused() {
        for (text, at) in [
            ("", 0),
            (r#""Mr. J. User <sip:j.user@example.com>"#, 0),
            ("Bell, Alexander <sip:a.g.bell@example.com>;tag=43", 0),
            (r#""Watson, Thomas" < sip:t.watson@example.org >"#, 18),
            ("<sip:a@example.test", 0),
            (r#""A" sip:a@example.test"#, 4),
            ("sip:user@example.com?Route=%3Csip:sip.example.com%3E", 20),
            ("sip:a,b@example.test", 5),
            ("<sip:a@example.test> tag=1", 21),
            ("<sip:a@example.test>;;tag=1", 21),
            ("A <sip:a@example.test> B", 23),
        ] {
            let error = NameAddr::parse(text).expect_err(text);
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }
}
