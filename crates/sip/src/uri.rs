//! `sip:`, `sips:` and other URIs, as views of the text they stand in (RFC 3261 §19.1, RFC 3966).
//!
//! ```text
//! sip : alice : secret @ example.test : 5061 ; transport=tls ? subject=hello
//! scheme user  password  host           port   parameters      headers
//! ```
//!
//! [`Uri`] checks the grammar of SIP URIs whole and keeps URIs of other schemes as they came. Its `==` is
//! the equivalence of RFC 3261 §19.1.4, which is *not* transitive (a parameter only one side has may be
//! ignored), so there is no `Eq` and no `Hash`. [`AddressOfRecord`] is the form to index by.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use crate::parse::{self, ParseError};
use crate::transport::Transport;

/// What kind of thing a URI names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme<'m> {
    /// Somebody reachable by SIP.
    Sip,
    /// Somebody reachable by SIP over nothing but TLS.
    Sips,
    /// A telephone number (RFC 3966); kept whole.
    Tel,
    /// Anything else; kept whole.
    Other(&'m str),
}

/// A view of one URI.
#[derive(Clone, Copy)]
pub struct Uri<'m> {
    /// All of it, as it came.
    text: &'m str,
    /// What is before the first colon.
    scheme: Scheme<'m>,
    /// The user part, escapes untouched; `None` without `@`, and for schemes that are not ours.
    user: Option<&'m str>,
    /// Deprecated, and yet part of equality.
    password: Option<&'m str>,
    /// Name or address (IPv6 in its brackets); for other schemes all that follows the colon.
    host: &'m str,
    /// `None` where none is written, which is not the same as the default (RFC 3261 §19.1.4).
    port: Option<u16>,
    /// From behind the first `;` to the `?`; checked.
    params: &'m str,
    /// What is behind the `?`; checked.
    headers: &'m str,
}

impl<'m> Uri<'m> {
    /// Reads `text` as a URI and nothing else: no brackets, no white space.
    pub fn parse(text: &'m str) -> Result<Uri<'m>, ParseError> {
        let colon = memchr::memchr(b':', text.as_bytes()).unwrap_or(0);
        let (name, rest) = (&text[..colon], text.get(colon + 1..).unwrap_or_default());
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
        let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !starts_well || !name.bytes().all(goes_on) {
            return Err(ParseError::new(0, "a URI: scheme and colon", "RFC 3261 §25.1"));
        }
        let scheme = if name.eq_ignore_ascii_case("sip") {
            Scheme::Sip
        } else if name.eq_ignore_ascii_case("sips") {
            Scheme::Sips
        } else if name.eq_ignore_ascii_case("tel") {
            Scheme::Tel
        } else {
            Scheme::Other(name)
        };
        let uri =
            Uri { text, scheme, user: None, password: None, host: rest, port: None, params: "", headers: "" };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.parse_sip(colon + 1),
            Scheme::Tel | Scheme::Other(_) => uri.check_opaque(colon + 1),
        }
    }

    /// The parts of a SIP URI, found from the outside in; `start` is where the scheme ended.
    fn parse_sip(mut self, start: usize) -> Result<Uri<'m>, ParseError> {
        const RFC: &str = "RFC 3261 §19.1.1";
        let text = self.text;
        let mut host_at = start;
        // `;` and `?` may stand in the user part (RFC 4475 §3.1.1.9), but `@` nowhere else unescaped.
        if let Some(at) = memchr::memchr(b'@', &text.as_bytes()[start..]) {
            let userinfo = &text[start..start + at];
            host_at = start + at + 1;
            let (user, password) = match userinfo.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            if user.is_empty() {
                return Err(ParseError::new(start, "a user before the @", RFC));
            }
            if let Some(at) = parse::first_outside_escaped(user, parse::UNRESERVED | parse::USER) {
                return Err(ParseError::new(start + at, "a character allowed in a user part", RFC));
            }
            if let Some(at) = password
                .and_then(|text| parse::first_outside_escaped(text, parse::UNRESERVED | parse::PASSWORD))
            {
                return Err(ParseError::new(
                    start + user.len() + 1 + at,
                    "a character allowed in a password",
                    RFC,
                ));
            }
            (self.user, self.password) = (Some(user), password);
        }

        let host_end = end_of_host(text, host_at)?;
        self.host = &text[host_at..host_end];
        let mut at = host_end;
        if text.as_bytes().get(at) == Some(&b':') {
            let digits = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
            let port = parse::number(&text[at + 1..at + 1 + digits]);
            self.port = Some(port.ok_or(ParseError::new(at + 1, "a port, 0 to 65535", RFC))?);
            at += 1 + digits;
        }

        let rest = &text[at..];
        let (params, headers) = match memchr::memchr(b'?', rest.as_bytes()) {
            Some(mark) => (&rest[..mark], Some((at + mark + 1, &rest[mark + 1..]))),
            None => (rest, None),
        };
        if !params.is_empty() {
            if !params.starts_with(';') {
                return Err(ParseError::new(at, "`:`, `;`, `?` or the end after the host", RFC));
            }
            self.params = &params[1..];
            check_pairs(self.params, b';', parse::PARAM, false).map_err(|error| error.shifted(at + 1))?;
        }
        if let Some((start, headers)) = headers {
            check_pairs(headers, b'&', parse::HEADER, true).map_err(|error| error.shifted(start))?;
            self.headers = headers;
        }
        Ok(self)
    }

    /// Another scheme's text: only what could not stand in any URI is refused.
    fn check_opaque(self, start: usize) -> Result<Uri<'m>, ParseError> {
        const CLASSES: u8 = parse::UNRESERVED | parse::RESERVED | parse::PARAM;
        let wrong = parse::first_outside_escaped(self.host, CLASSES);
        // A fragment is no part of an absoluteURI, but harmless.
        match wrong {
            _ if self.host.is_empty() => {
                Err(ParseError::new(start, "something after the scheme", "RFC 2396 §3"))
            }
            Some(at) if self.host.as_bytes().get(at) != Some(&b'#') => {
                Err(ParseError::new(start + at, "a character allowed in a URI", "RFC 2396 §2"))
            }
            _ => Ok(self),
        }
    }

    /// All of it, as it came.
    pub fn as_str(&self) -> &'m str {
        self.text
    }

    /// What kind of thing it names.
    pub fn scheme(&self) -> Scheme<'m> {
        self.scheme
    }

    /// True for `sip:` and `sips:`, the only ones with a user, a host, parameters and headers.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// True for `sips:`.
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Sips
    }

    /// The user part, escapes untouched.
    pub fn user(&self) -> Option<&'m str> {
        self.user
    }

    /// The deprecated password, escapes untouched.
    pub fn password(&self) -> Option<&'m str> {
        self.password
    }

    /// Host name or address, IPv6 in its brackets; empty for other schemes.
    pub fn host(&self) -> &'m str {
        if self.is_sip() { self.host } else { "" }
    }

    /// The host as an address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        host_address(self.host())
    }

    /// The port, if one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// All that follows the scheme's colon, for schemes that are not ours.
    pub fn opaque(&self) -> Option<&'m str> {
        (!self.is_sip()).then_some(self.host)
    }

    /// The value of a parameter, escapes untouched: `Some("")` for one without a value (`;lr`).
    pub fn param(&self, name: &str) -> Option<&'m str> {
        self.params()
            .find(|(known, _)| same(known, name, Case::Ignored))
            .map(|(_, value)| value.unwrap_or(""))
    }

    /// Each parameter and its value, in order.
    pub fn params(&self) -> impl Iterator<Item = (&'m str, Option<&'m str>)> + use<'m> {
        pairs(self.params, ';')
    }

    /// Each header and its value, in order, escapes untouched.
    pub fn headers(&self) -> impl Iterator<Item = (&'m str, &'m str)> + use<'m> {
        pairs(self.headers, '&').map(|(name, value)| (name, value.unwrap_or("")))
    }

    /// The transport its `transport` parameter names; `None` where there is none or an unknown one.
    pub fn transport(&self) -> Option<Transport> {
        self.param("transport")?.parse().ok()
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Debug for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text, f)
    }
}

/// Where the host that starts at `start` ends. Vias have the same hosts (RFC 3261 §25.1), and read them here.
pub(crate) fn end_of_host(text: &str, start: usize) -> Result<usize, ParseError> {
    const RFC: &str = "RFC 3261 §19.1.1";
    let host = &text[start..];
    let length = if host.starts_with('[') {
        let length = host.find(']').map_or(0, |bracket| bracket + 1);
        if host_address(&host[..length]).is_none() {
            return Err(ParseError::new(start, "an IPv6 address in brackets", RFC));
        }
        length
    } else {
        parse::first_outside(host, parse::HOST).unwrap_or(host.len())
    };
    let name = &host[..length];
    // A final dot is allowed, an empty label is not.
    if name.is_empty() || name.starts_with('.') || name.contains("..") {
        return Err(ParseError::new(start, "a host", RFC));
    }
    Ok(start + length)
}

/// A host as an address: `192.0.2.1` or `[2001:db8::1]`.
pub fn host_address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        // A name of letters is the common case; don't try it as an address.
        None if !host.starts_with(|first: char| first.is_ascii_digit()) => None,
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// `name[=value]` pairs between separators; checked before.
fn pairs(text: &str, separator: char) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(separator).filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (pair, None),
    })
}

/// The most parameters, and the most headers, of one URI. Equality looks for each of one side among those of the
/// other, so without a bound two long contacts would keep a server busy for seconds.
const MAX_PAIRS: usize = 64;

/// Checks pairs against the grammar: parameters may lack a value, headers may have an empty one.
fn check_pairs(text: &str, separator: u8, class: u8, headers: bool) -> Result<(), ParseError> {
    const RFC: &str = "RFC 3261 §19.1.1";
    let classes = parse::UNRESERVED | class;
    let mut start = 0;
    for (count, pair) in text.split(separator as char).enumerate() {
        if count == MAX_PAIRS {
            return Err(ParseError::new(start, "no more than 64 URI parameters or headers", RFC));
        }
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        if name.is_empty() {
            return Err(ParseError::new(start, "a name of a URI parameter or header", RFC));
        }
        if let Some(at) = parse::first_outside_escaped(name, classes) {
            return Err(ParseError::new(start + at, "a character allowed in a URI parameter", RFC));
        }
        match value {
            None if headers => return Err(ParseError::new(start + name.len(), "= after a URI header", RFC)),
            Some("") if !headers => {
                return Err(ParseError::new(start + name.len() + 1, "a value of a URI parameter", RFC));
            }
            _ => {}
        }
        if let Some(at) = value.and_then(|value| parse::first_outside_escaped(value, classes)) {
            return Err(ParseError::new(
                start + name.len() + 1 + at,
                "a character allowed in a URI parameter",
                RFC,
            ));
        }
        start += pair.len() + 1;
    }
    Ok(())
}

//------------ Equality --------------------------------------------------------

/// Whether `A` and `a` are the same.
#[derive(Clone, Copy)]
enum Case {
    /// In user and password.
    Kept,
    /// Everywhere else.
    Ignored,
}

/// The characters of a part as equality sees them: an escape is what it stands for, unless that is
/// reserved, which makes it something else (RFC 3261 §19.1.4).
fn units(text: &str, case: Case) -> impl Iterator<Item = (u8, bool)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let &byte = bytes.get(at)?;
        let (byte, apart) = match parse::hex_pair(bytes, at + 1) {
            Some(meant) if byte == b'%' => {
                at += 3;
                (meant, parse::has(meant, parse::RESERVED))
            }
            _ => {
                at += 1;
                (byte, false)
            }
        };
        Some((if matches!(case, Case::Ignored) { byte.to_ascii_lowercase() } else { byte }, apart))
    })
}

fn same(one: &str, other: &str, case: Case) -> bool {
    units(one, case).eq(units(other, case))
}

fn same_optional(one: Option<&str>, other: Option<&str>, case: Case) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => same(one, other, case),
        (None, None) => true,
        _ => false,
    }
}

/// Two hosts: addresses by value (RFC 5954 §4.1), names without case; a name never equals an address.
fn same_host(one: &str, other: &str) -> bool {
    match (host_address(one), host_address(other)) {
        (None, None) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    }
}

/// Parameters whose absence on one side is a difference (RFC 3261 §19.1.4; `transport` by its examples).
const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

/// Every parameter of `one` has its like in `other`, or may be ignored there.
fn params_match(one: &Uri<'_>, other: &Uri<'_>) -> bool {
    one.params().all(|(name, value)| {
        let mut theirs = other.params().filter(|(known, _)| same(known, name, Case::Ignored)).peekable();
        match theirs.peek() {
            // A name should stand once (RFC 3261 §19.1.1); where it does not, any of them will do.
            Some(_) => theirs.any(|(_, theirs)| same_optional(value, theirs, Case::Ignored)),
            None => !NEVER_IGNORED.iter().any(|never| same(never, name, Case::Ignored)),
        }
    })
}

/// Every header of `one` stands as often in `other`: headers are never ignored.
fn headers_match(one: &Uri<'_>, other: &Uri<'_>) -> bool {
    let count = |uri: &Uri<'_>, (name, value): (&str, &str)| {
        let alike = |header: &(&str, &str)| {
            same(header.0, name, Case::Ignored) && same(header.1, value, Case::Ignored)
        };
        uri.headers().filter(alike).count()
    };
    one.headers().all(|header| count(one, header) == count(other, header))
}

impl PartialEq for Uri<'_> {
    /// RFC 3261 §19.1.4. Not transitive. URIs of other schemes are compared by their text.
    fn eq(&self, other: &Uri<'_>) -> bool {
        match (self.scheme, other.scheme) {
            (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => {
                same_optional(self.user, other.user, Case::Kept)
                    && same_optional(self.password, other.password, Case::Kept)
                    && same_host(self.host, other.host)
                    && self.port == other.port
                    && params_match(self, other)
                    && params_match(other, self)
                    && headers_match(self, other)
                    && headers_match(other, self)
            }
            (Scheme::Tel, Scheme::Tel) => self.host == other.host,
            (Scheme::Other(one), Scheme::Other(two)) => {
                one.eq_ignore_ascii_case(two) && self.host == other.host
            }
            _ => false,
        }
    }
}

//------------ AddressOfRecord -------------------------------------------------

/// A user's public address, in the one form to index by (RFC 3261 §10.3 step 5).
///
/// Parameters, headers, password and port are gone; the host is in lower case without a final dot; the
/// user's escapes are undone where the character may stand for itself and uniform where it may not. `sips:`
/// names the same user as `sip:` (RFC 5630 §3.1.1), so it is printed as `sip:`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressOfRecord {
    /// `sip:user@host`, normalised.
    text: Arc<str>,
}

impl AddressOfRecord {
    /// The address-of-record a SIP URI names; `None` without a user, or for another scheme.
    pub fn from_uri(uri: &Uri<'_>) -> Option<AddressOfRecord> {
        let mut text = String::with_capacity(uri.as_str().len());
        text.push_str(PREFIX);
        normalise(uri, |byte| text.push(byte as char))?;
        Some(AddressOfRecord { text: text.into() })
    }

    /// `sip:user@host`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The user part; what may not stand for itself is escaped.
    pub fn user(&self) -> &str {
        self.parts().0
    }

    /// The user part with all escapes undone, as it is shown and as it is written in credentials.
    pub fn user_unescaped(&self) -> Cow<'_, str> {
        unescape(self.user())
    }

    /// The host, in lower case.
    pub fn domain(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.text.get(PREFIX.len()..).and_then(|rest| rest.rsplit_once('@')).unwrap_or_default()
    }

    /// The same number on every server, in every version: which shard and which server of a pool is theirs.
    pub fn hash64(&self) -> u64 {
        let mut hash = Hash64::new();
        self.text.bytes().skip(PREFIX.len()).for_each(|byte| hash.add(byte));
        hash.finish()
    }

    /// [`AddressOfRecord::hash64`] of what `uri` names, without making the address-of-record.
    pub fn hash64_of(uri: &Uri<'_>) -> Option<u64> {
        let mut hash = Hash64::new();
        normalise(uri, |byte| hash.add(byte))?;
        Some(hash.finish())
    }
}

/// What every [`AddressOfRecord`] begins with.
const PREFIX: &str = "sip:";

/// Says `user@host` of `uri` in its normal form, byte by byte, all of it ASCII.
fn normalise(uri: &Uri<'_>, mut say: impl FnMut(u8)) -> Option<()> {
    let user = uri.user()?;
    for (byte, _) in units(user, Case::Kept) {
        if parse::has(byte, parse::UNRESERVED | parse::USER) {
            say(byte);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
                .into_iter()
                .for_each(&mut say);
        }
    }
    say(b'@');
    match uri.ip() {
        // An IPv6 address can be written in many ways; this is one of them.
        Some(IpAddr::V6(address)) => format!("[{address}]").bytes().for_each(say),
        _ => {
            let host = uri.host();
            host.strip_suffix('.')
                .unwrap_or(host)
                .bytes()
                .map(|byte| byte.to_ascii_lowercase())
                .for_each(say);
        }
    }
    Some(())
}

impl FromStr for AddressOfRecord {
    type Err = ParseError;

    /// Reads `sip:alice@example.test`, or `alice@example.test` as people write it.
    fn from_str(text: &str) -> Result<AddressOfRecord, ParseError> {
        let lower = text.get(..5).unwrap_or(text).to_ascii_lowercase();
        let written = if lower.starts_with("sip:") || lower.starts_with("sips:") {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(format!("{PREFIX}{text}"))
        };
        let uri = Uri::parse(&written)?;
        AddressOfRecord::from_uri(&uri).ok_or(ParseError::new(0, "a user before the @", "RFC 3261 §10.3"))
    }
}

impl fmt::Display for AddressOfRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for AddressOfRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// FNV-1a with a final mix: small, and the same everywhere, which is all that is asked of it.
struct Hash64(u64);

impl Hash64 {
    fn new() -> Hash64 {
        Hash64(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn finish(self) -> u64 {
        // Murmur's finaliser: FNV's low bits alone would divide users among shards badly.
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

//------------ Escapes ---------------------------------------------------------

/// Undoes `%HH` escapes, for eyes and credentials; bytes that are no UTF-8 become U+FFFD.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes: Vec<u8> = units(text, Case::Kept).map(|(byte, _)| byte).collect();
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// Escapes `text` so that it can stand as the user part of a SIP URI.
pub fn escape_user(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if parse::has(byte, parse::UNRESERVED | parse::USER) {
            escaped.push(byte as char);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
