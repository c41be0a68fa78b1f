//! Via: one hop a message came through, and the way its answer goes back (RFC 3261 §20.42, RFC 3581).
//!
//! ```text
//! SIP/2.0/UDP pc33.example.test:5060 ;branch=z9hG4bK776asdhds;rport=4711;received=192.0.2.1
//!         transport sent-by          parameters
//! ```

use std::net::IpAddr;

use super::params::Params;
use crate::parse::{self, ParseError};
use crate::transport::Transport;
use crate::uri::{end_of_host, host_address};

/// What a branch of RFC 3261 begins with; others are RFC 2543's and identify nothing (RFC 3261 §8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'m> {
    /// The transport's name as it stands; may be one we do not know (RFC 4475 §3.1.1.10).
    pub transport_name: &'m str,
    /// `sent-by`: host name or address, IPv6 in its brackets.
    pub host: &'m str,
    /// `sent-by`: port, if one is written.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, `maddr`, `ttl` and others.
    pub params: Params<'m>,
}

impl<'m> Via<'m> {
    /// Reads one value, as [`crate::message::Message::values`] gives it.
    pub fn parse(text: &'m str) -> Result<Via<'m>, ParseError> {
        const RFC: &str = "RFC 3261 §20.42";
        let end = parse::find_outside(text, 0, b';').unwrap_or(text.len());
        let params = Params::parse(&text[end..]).map_err(|error| error.shifted(end))?;

        // SIP / 2.0 / UDP, white space allowed at each sign, then white space, then sent-by.
        let head = &text[..end];
        let first = head.find('/').ok_or(ParseError::new(0, "SIP/2.0/ and a transport", RFC))?;
        let second = head[first + 1..].find('/').map(|at| first + 1 + at);
        let second = second.ok_or(ParseError::new(first, "SIP/2.0/ and a transport", RFC))?;
        let protocol = parse::trim(&head[..first]);
        let version = parse::trim(&head[first + 1..second]);
        if !protocol.eq_ignore_ascii_case("SIP") || version != "2.0" {
            return Err(ParseError::new(0, "SIP/2.0 as protocol of a Via", RFC));
        }
        let rest = &head[second + 1..];
        let skipped = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let name_at = second + 1 + skipped;
        let after = head[name_at..].find([' ', '\t']).map(|at| name_at + at);
        let after =
            after.ok_or(ParseError::new(name_at, "white space between transport and sent-by", RFC))?;
        let transport_name = &head[name_at..after];
        if !parse::is_token(transport_name) {
            return Err(ParseError::new(name_at, "a transport: a token", RFC));
        }
        let sent_by = parse::trim(&head[after..]);
        let (host, port) =
            split_host_port(sent_by).ok_or(ParseError::new(after + 1, "a host and port", RFC))?;
        Ok(Via { transport_name, host, port, params })
    }

    /// The transport, if it is one we know.
    pub fn transport(&self) -> Option<Transport> {
        self.transport_name.parse().ok()
    }

    /// The `branch` parameter; `None` for none or an empty one, as RFC 2543 allows.
    pub fn branch(&self) -> Option<&'m str> {
        self.params.get("branch").filter(|branch| !branch.is_empty())
    }

    /// The branch if it identifies a transaction by RFC 3261's rules: the cookie and something behind it
    /// (RFC 4475 §3.2.1).
    pub fn magic_branch(&self) -> Option<&'m str> {
        let branch = self.branch()?;
        let cookie = branch.get(..MAGIC_COOKIE.len())?;
        (cookie.eq_ignore_ascii_case(MAGIC_COOKIE) && branch.len() > MAGIC_COOKIE.len()).then_some(branch)
    }

    /// Where the message came from, as the hop that received it saw it.
    pub fn received(&self) -> Option<IpAddr> {
        address(self.params.get("received")?)
    }

    /// The source port the receiving hop saw; `None` where it is not asked for or not yet filled in.
    pub fn rport(&self) -> Option<u16> {
        parse::number(self.params.get("rport")?)
    }

    /// True if the sender asks for the answer to come to the port it sent from (RFC 3581 §3).
    pub fn wants_rport(&self) -> bool {
        self.params.has("rport")
    }

    /// The port of `sent-by`, or what its transport uses.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.transport().unwrap_or(Transport::Udp).default_port())
    }
}

/// An address with or without brackets: RFC 3261 gives `received` none, RFC 5118 §4.5 has seen both.
fn address(text: &str) -> Option<IpAddr> {
    host_address(text).or_else(|| text.parse().ok())
}

/// `host [ : port ]`, white space around the colon allowed.
fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = text.split_at(end_of_host(text, 0).ok()?);
    let rest = parse::trim(rest);
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(parse::number(parse::trim(port))?))),
        None if rest.is_empty() => Some((host, None)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_via_is_read() {
        let via =
            Via::parse("SIP/2.0/UDP pc33.example.test:5066;branch=z9hG4bK77;rport=4711;received=192.0.2.1");
        let via = via.unwrap();
        assert_eq!(
            (via.transport(), via.host, via.port),
            (Some(Transport::Udp), "pc33.example.test", Some(5066))
        );
        assert_eq!((via.branch(), via.magic_branch()), (Some("z9hG4bK77"), Some("z9hG4bK77")));
        assert_eq!((via.rport(), via.received()), (Some(4711), "192.0.2.1".parse().ok()));
    }

    #[test]
    fn white_space_may_stand_at_each_sign() {
        let via = Via::parse("SIP  / 2.0 \t/ TCP   spindle.example.com : 5070  ; branch  =  z9hG4bK9ikj8 ")
            .unwrap();
        assert_eq!(
            (via.transport(), via.host, via.port),
            (Some(Transport::Tcp), "spindle.example.com", Some(5070))
        );
        assert_eq!(via.branch(), Some("z9hG4bK9ikj8"));
    }

    #[test]
    fn an_ipv6_sent_by_and_received_are_read() {
        let via =
            Via::parse("SIP/2.0/TLS [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3").unwrap();
        assert_eq!((via.host, via.port_or_default()), ("[2001:db8::9:1]", 5061));
        assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
    }

    #[test]
    fn the_cookie_alone_identifies_nothing() {
        let via = |branch: &str| {
            let text = format!("SIP/2.0/UDP h;branch={branch}");
            Via::parse(&text).unwrap().magic_branch().map(str::to_owned)
        };
        assert_eq!(via("z9hG4bK"), None);
        assert_eq!(via("390skdjuw"), None);
        assert_eq!(via("Z9HG4BKa"), Some("Z9HG4BKa".to_owned()));
    }

    #[test]
    fn a_broken_via_is_refused() {
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 UDP host",
            "HTTP/2.0/UDP host",
            "SIP/3.0/UDP host",
            "SIP/2.0/UDP host:",
            "SIP/2.0/UDP host:65536",
            "SIP/2.0/UDP host host",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP .",
            "SIP/2.0/UDP a..test",
            "SIP/2.0/UDP .a.test:5060",
            "SIP/2.0/UDP host;;branch=1",
            "SIP/2.0/U DP host",
        ] {
            assert!(Via::parse(text).is_err(), "{text:?}");
        }
    }
}
