//! `;name=value` lists, as they stand behind most structured values (RFC 3261 §7.3.1, §25.1).

use crate::parse::{self, ParseError};

/// A checked list of parameters; a view of the text it stands in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Params<'m> {
    /// From behind the first `;` to the end; every piece has been checked.
    text: &'m str,
}

impl<'m> Params<'m> {
    /// Reads what stands behind a value: nothing, or `;name[=value]` one or more times, white space allowed
    /// around each sign. Offsets of errors count from the start of `text`.
    pub fn parse(text: &'m str) -> Result<Params<'m>, ParseError> {
        let blanks = text.len() - text.trim_start_matches([' ', '\t']).len();
        Params::parse_trimmed(parse::trim(text)).map_err(|error| error.shifted(blanks))
    }

    fn parse_trimmed(text: &'m str) -> Result<Params<'m>, ParseError> {
        const RFC: &str = "RFC 3261 §25.1";
        if text.is_empty() {
            return Ok(Params { text });
        }
        let mut start = 0;
        while start < text.len() {
            if text.as_bytes().get(start) != Some(&b';') {
                return Err(ParseError::new(start, "; before a parameter", RFC));
            }
            let end = parse::find_outside(text, start + 1, b';').unwrap_or(text.len());
            let piece = &text[start + 1..end];
            let (name, value) = split(piece);
            if !parse::is_token(name) {
                return Err(ParseError::new(start + 1, "a name of a parameter: a token", RFC));
            }
            if !value.is_none_or(is_value) {
                return Err(ParseError::new(start + 1, "a value: a token, host or quoted string", RFC));
            }
            start = end;
        }
        Ok(Params { text: &text[1..] })
    }

    /// The value of a parameter, without its quotes: `Some("")` for one without a value.
    pub fn get(&self, name: &str) -> Option<&'m str> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.unwrap_or(""))
    }

    /// True if the parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Each parameter and its value without quotes, in order. A backslash in a quoted value is still there.
    pub fn iter(&self) -> impl Iterator<Item = (&'m str, Option<&'m str>)> + use<'m> {
        self.iter_raw().map(|(name, value)| (name, value.map(unquoted)))
    }

    /// Each parameter and its value as it stands, quotes included.
    pub fn iter_raw(&self) -> impl Iterator<Item = (&'m str, Option<&'m str>)> + use<'m> {
        let text = self.text;
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= text.len() {
                return None;
            }
            let end = parse::find_outside(text, start, b';').unwrap_or(text.len());
            let piece = &text[start..end];
            start = end + 1;
            Some(split(piece))
        })
    }

    /// All of it, without the first `;`.
    pub fn as_str(&self) -> &'m str {
        self.text
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Name and value of one piece, trimmed.
fn split(piece: &str) -> (&str, Option<&str>) {
    match piece.split_once('=') {
        Some((name, value)) => (parse::trim(name), Some(parse::trim(value))),
        None => (parse::trim(piece), None),
    }
}

/// `gen-value`, with the brackets and colons of an IPv6 address, and the `/` some clients leave unquoted.
fn is_value(value: &str) -> bool {
    match value.as_bytes() {
        [] => false,
        [b'"', ..] => parse::closing_quote(value.as_bytes(), 0) == Some(value.len() - 1),
        bytes => bytes.iter().all(|&byte| parse::has(byte, parse::TOKEN) || b"[]:/@$&+()".contains(&byte)),
    }
}

/// Without the quotes around it.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_values_lose_their_quotes() {
        let params = Params::parse(r#" ;tag=a ; LR;+sip.instance="<urn:uuid:f81d;4fae>" ; q = 0.5"#).unwrap();
        assert_eq!(params.get("TAG"), Some("a"));
        assert_eq!(params.get("lr"), Some(""));
        assert_eq!(params.get("+sip.instance"), Some("<urn:uuid:f81d;4fae>"));
        assert_eq!(params.get("q"), Some("0.5"));
        assert_eq!(params.get("expires"), None);
        assert!(params.has("lr") && !params.has("l"));
        assert_eq!(params.iter().count(), 4);
    }

    #[test]
    fn a_broken_list_is_refused_where_it_breaks() {
        for (text, at) in [
            (";", 1),
            (";;tag=1", 1),
            (";tag=", 1),
            (";tag=a b", 1),
            (";tag=\"a", 1),
            (";tag=\"a\"b", 1),
            ("tag=1", 0),
            (";a=1;b=1;", 9),
            (";=1", 1),
            (";a=1,b", 1),
        ] {
            let error = Params::parse(text).expect_err(text);
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }

    #[test]
    fn addresses_need_no_quotes() {
        let params = Params::parse(";received=[2001:db8::1];maddr=192.0.2.1;ttl=3").unwrap();
        assert_eq!(params.get("received"), Some("[2001:db8::1]"));
    }
}
