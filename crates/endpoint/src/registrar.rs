//! One registrar by name: the URI under which servers, the cache and DNS speak of it.
//!
//! Two URIs are the same registrar when host, port and transport agree, whatever else they carry and
//! however they are spelt: `<sip:FE1.example.test:5061;transport=TLS>` is
//! `sip:fe1.example.test:5061;transport=tls`. That spelling is the key for "has been tried already".

use std::fmt;

use sip::locate::{Destination, Locator};
use sip::text::Text;
use sip::transport::Transport;
use sip::uri::Uri;

use crate::event::NameRefusal;

/// A registrar's name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Registrar {
    /// Host name in lower case, or a literal address.
    pub(crate) host: String,
    /// Port; `None` where the URI has none and DNS is to say.
    pub(crate) port: Option<u16>,
    /// How to reach it.
    pub(crate) transport: Transport,
}

impl Registrar {
    /// Reads a URI that a server sent, or that stands in the cache.
    ///
    /// `within`: the SIP domain it must lie in. `transports`: those we may use; a redirect is no way to
    /// talk us out of TLS.
    pub(crate) fn parse(
        uri: &str,
        transports: &[Transport],
        within: Option<&str>,
    ) -> Result<Registrar, NameRefusal> {
        let uri = Uri::parse(uri).map_err(|_| NameRefusal::NoUri)?;
        if !uri.is_sip() {
            return Err(NameRefusal::NoUri);
        }
        let secure = uri.is_secure();
        let transport = match uri.transport() {
            Some(Transport::Tcp) if secure => Transport::Tls,
            Some(Transport::Ws) if secure => Transport::Wss,
            Some(transport) => transport,
            None if secure || uri.port() == Some(5061) => Transport::Tls,
            // RFC 3263 §4.1 says UDP; where UDP is not allowed, the best of what is.
            None if transports.contains(&Transport::Udp) => Transport::Udp,
            None => transports.first().copied().ok_or(NameRefusal::Transport)?,
        };
        if !transports.contains(&transport) || (secure && !transport.is_secure()) {
            return Err(NameRefusal::Transport);
        }
        let host = host_name(uri.host());
        if within.is_some_and(|domain| !lies_in(&host, domain)) {
            return Err(NameRefusal::OutsideDomain);
        }
        Ok(Registrar { host, port: uri.port(), transport })
    }

    /// The look-up of its addresses (RFC 3263 §4.2; a service record only where the URI has no port).
    pub(crate) fn locator(&self) -> Locator {
        let destination = Destination {
            host: self.host.clone(),
            port: self.port,
            transport: Some(self.transport),
            secure: false,
        };
        Locator::new(&destination, &[self.transport])
    }

    /// What its certificate must say.
    pub(crate) fn proof(&self) -> Text {
        Text::from(self.host.as_str())
    }
}

impl fmt::Display for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sip:{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, ";transport={}", self.transport.name().to_ascii_lowercase())
    }
}

/// True when `host` is `domain` or below it. Literal addresses lie in no domain but their own.
pub(crate) fn lies_in(host: &str, domain: &str) -> bool {
    let (host, domain) = (host_name(host), host_name(domain));
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

/// A host name as we compare and print it: lower case, no final dot.
pub(crate) fn host_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
