//! CSeq: orders requests and matches answers to them (RFC 3261 §8.1.1.5, §20.16).

use std::fmt;

use crate::method::Method;
use crate::parse::{self, ParseError};

/// Number and method of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CSeq {
    /// Grows by each request; below 2³¹ in what we send (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method of the request, in answers too.
    pub method: Method,
}

impl CSeq {
    /// Reads `4711 REGISTER`; a number of 2³² or more is refused (RFC 4475 §3.1.2.4).
    pub fn parse(text: &str) -> Result<CSeq, ParseError> {
        let (number, method) = split(text)?;
        Ok(CSeq { number, method: method.parse()? })
    }
}

/// Number and method name of a CSeq value.
pub(crate) fn split(text: &str) -> Result<(u32, &str), ParseError> {
    const RFC: &str = "RFC 3261 §20.16";
    let text = parse::trim(text);
    let space = text.find([' ', '\t']).ok_or(ParseError::new(text.len(), "a number and a method", RFC))?;
    let number = parse::number(&text[..space]).ok_or(ParseError::new(0, "a number below 2^32", RFC))?;
    let method = parse::trim(&text[space..]);
    if !parse::is_token(method) {
        return Err(ParseError::new(space + 1, "a method", RFC));
    }
    Ok((number, method))
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_method_are_read() {
        assert_eq!(CSeq::parse("0009  INVITE"), Ok(CSeq { number: 9, method: Method::Invite }));
        assert_eq!(CSeq::parse("4294967295 X").unwrap().number, u32::MAX);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "1",
            "INVITE",
            "1INVITE",
            "1 ",
            "4294967296 INVITE",
            "36893488147419103232 REGISTER",
            "1 A, 2 B",
        ] {
            assert!(CSeq::parse(text).is_err(), "{text:?}");
        }
    }
}
