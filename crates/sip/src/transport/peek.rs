//! Which user a message is about, read from as few bytes as possible.
//!
//! The world hands each message to the shard of its user before anybody parses it: the To of a REGISTER,
//! the Request-URI of any other request. The answer is [`AddressOfRecord::hash64`] of that user; a message
//! that tells nothing (a response, garbage, a request to a host) may go to any shard.

use crate::header::{HeaderName, NameAddr};
use crate::parse;
use crate::uri::{AddressOfRecord, Uri};

/// The shard key of a message; `None` where it names no user.
pub fn peek_aor(bytes: &[u8]) -> Option<u64> {
    let mut at = 0;
    while bytes.get(at..at + 2) == Some(b"\r\n") {
        at += 2;
    }
    let bytes = bytes.get(at..)?;
    let end = memchr::memchr(b'\r', bytes)?;
    let line = bytes.get(..end)?;
    if !line.starts_with(b"REGISTER ") {
        let mut words = line.split(|&byte| byte == b' ');
        let uri = std::str::from_utf8(words.nth(1)?).ok()?;
        return AddressOfRecord::hash64_of(&Uri::parse(uri).ok()?);
    }
    let to = line_of(bytes, end, HeaderName::To)?;
    // A fold in a To is rare enough to be put together here.
    let to = std::str::from_utf8(to).ok()?.replace(['\r', '\n'], " ");
    AddressOfRecord::hash64_of(&NameAddr::parse(parse::trim(&to)).ok()?.uri)
}

/// The raw value of the first line with that name, folds included; `start` is the end of a line before it.
fn line_of(bytes: &[u8], start: usize, wanted: HeaderName) -> Option<&[u8]> {
    let mut at = start + 2;
    loop {
        let mut end = at + memchr::memchr(b'\r', bytes.get(at..)?)?;
        if end == at {
            return None;
        }
        let line = bytes.get(at..end)?;
        let name = line.iter().take_while(|&&byte| parse::has(byte, parse::TOKEN)).count();
        if HeaderName::of_bytes(line.get(..name)?) == wanted {
            while bytes.get(end + 2).copied().is_some_and(parse::is_space) {
                end = end + 2 + memchr::memchr(b'\r', bytes.get(end + 2..)?)?;
            }
            let value = bytes.get(at + name..end)?;
            let colon = memchr::memchr(b':', value)?;
            return value.get(colon + 1..);
        }
        at = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(aor: &str) -> Option<u64> {
        Some(aor.parse::<AddressOfRecord>().unwrap().hash64())
    }

    #[test]
    fn a_register_belongs_to_its_to_and_others_to_their_uri() {
        let register = |to: &str| {
            format!(
                "REGISTER sip:example.test SIP/2.0\r\nFrom: <sip:x@y>\r\n{to}\r\nCSeq: 1 REGISTER\r\n\r\n"
            )
        };
        for to in [
            "To: <sip:alice@example.test>",
            "t : \"A\" <sips:%61lice@Example.Test:5061;x=y>;tag=1",
            "TO:\r\n sip:alice@example.test",
        ] {
            assert_eq!(peek_aor(register(to).as_bytes()), hash("alice@example.test"), "{to}");
        }
        let invite =
            b"\r\nINVITE sip:bob@example.test;user=phone SIP/2.0\r\nTo: <sip:alice@example.test>\r\n\r\n";
        assert_eq!(peek_aor(invite), hash("bob@example.test"));
    }

    #[test]
    fn what_names_no_user_has_no_key() {
        for text in [
            "",
            "\r\n\r\n",
            "SIP/2.0 200 OK\r\nTo: <sip:alice@example.test>\r\n\r\n",
            "OPTIONS sip:example.test SIP/2.0\r\n\r\n",
            "REGISTER sip:example.test SIP/2.0\r\nFrom: <sip:x@y>\r\n\r\nTo: <sip:alice@example.test>\r\n\r\n",
            "REGISTER sip:example.test SIP/2.0\r\nTo: <sip:alice@example.test>",
            "REGISTER sip:example.test SIP/2.0\r\nTo",
        ] {
            assert_eq!(peek_aor(text.as_bytes()), None, "{text:?}");
        }
    }
}
