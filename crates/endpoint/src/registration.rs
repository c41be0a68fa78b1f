//! One user's REGISTER life, message by message: what is sent, and what an answer means.
//!
//! | answer | verdict |
//! | --- | --- |
//! | 1xx | nothing yet; the server lives |
//! | 200 | accepted: expiry, primary or not, service level, the user's registrars in order |
//! | 3xx | redirected: contacts in falling q (RFC 3261 §8.1.3.4) |
//! | 401, 407 | answer the challenge, or the password is wrong (see `login`) |
//! | 200 that grants no time | refused here |
//! | 423 | again, with `Min-Expires` (RFC 3261 §10.2.8), once, up to a day |
//! | 403, 404 | rejected: this user is not served, here or anywhere |
//! | 503 and every other | refused here; another registrar may say otherwise; `Retry-After` is kept |
//!
//! Not here: when to send, and where to go next (`endpoint`).

use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng;
use resilience::profile::Profile;
use sip::digest::Asked;
use sip::header::{Contacts, HeaderName, NameAddr};
use sip::message::Message;
use sip::method::Method;
use sip::print::Builder;
use sip::transport::Flow;
use sip::uri::Uri;

use crate::config::Config;
use crate::login::{self, Login, Trials};

/// Our tag: we keep every registrar we are told of, in order, and come home when asked.
const TAG: &str = "rehome-registrars";
/// The model's tags: we try a redirect's Contacts in falling q; we can live without user services.
const MODEL_TAGS: &str = "ms-cluster-failover, ms-userservices-state-notification";
/// The one tag of a client that cannot live without user services.
const LEGACY_TAG: &str = "ms-cluster-failover";

/// The state that outlives a single REGISTER.
#[derive(Debug)]
pub(crate) struct Registration {
    /// One Call-ID for all our registrations (RFC 3261 §10.2).
    call_id: String,
    /// Our tag in From.
    tag: String,
    /// Rises with every REGISTER, else the registrar must ignore it (RFC 3261 §10.3 step 7).
    cseq: u32,
    /// Our device (RFC 5626 §4.1), a UUID.
    instance: String,
    /// Raised by a 423 above what the user wished.
    expiry: Duration,
    /// The Contact of the last REGISTER.
    contact: String,
    /// Whether that REGISTER was a farewell, which wants no time.
    leaving: bool,
    /// Challenges answered, and the nonce in use.
    pub(crate) login: Login,
}

/// One REGISTER being tried at one registrar: what has already been repeated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Exchange {
    /// Challenges answered.
    pub(crate) trials: Trials,
    /// True once a 423 has been obeyed.
    brief: bool,
}

/// What an answer to REGISTER means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Not final.
    Provisional,
    /// Send another at once, on the same flow.
    Again,
    /// Registered.
    Accepted(Granted),
    /// Go elsewhere: URI and q in thousandths, in falling order.
    Redirected { status: u16, contacts: Vec<(String, u16)> },
    /// Never, with this user and this password.
    Rejected { status: u16, reason: String },
    /// Not here, not now.
    Refused { status: u16, reason: String, retry_after: Option<Duration> },
}

/// What a 200 grants and tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Granted {
    /// Until when, from now.
    pub(crate) expires_in: Duration,
    /// `is-connected-to-primary`, if said.
    pub(crate) primary: Option<bool>,
    /// `user-services-state=unavailable`.
    pub(crate) limited: bool,
    /// `Registrar-Set`: the user's registrars in falling q.
    pub(crate) registrars: Vec<(String, u16)>,
    /// Where requests of ours must go first (RFC 3608).
    pub(crate) service_route: Vec<String>,
}

impl Registration {
    /// A registration that has not begun.
    pub(crate) fn new(config: &Config, rng: &mut dyn Rng) -> Registration {
        let instance = match config.instance.as_str() {
            "" => random_uuid(rng),
            given => given.trim_start_matches("urn:uuid:").to_ascii_lowercase(),
        };
        Registration {
            call_id: token(rng),
            tag: token(rng),
            cseq: 0,
            instance,
            // Nothing is the wish of one who leaves, and beyond a day nobody is watched.
            expiry: config.expiry.clamp(Duration::from_secs(1), LONGEST_EXPIRY),
            contact: String::new(),
            leaving: false,
            login: Login::default(),
        }
    }

    /// The next REGISTER for `flow`. `sign_out`: with `Expires: 0` (RFC 3261 §10.2.2).
    pub(crate) fn request(
        &mut self,
        config: &Config,
        flow: &Flow,
        sign_out: bool,
        rng: &mut dyn Rng,
    ) -> Bytes {
        self.cseq += 1;
        self.leaving = sign_out;
        let uri = format!("sip:{}", config.aor.domain());
        let expires = if sign_out { 0 } else { self.expiry.as_secs() };
        let tags = match config.profile {
            _ if !config.survivable => format!("path, outbound, {LEGACY_TAG}"),
            Profile::Lync2010 => format!("path, outbound, {MODEL_TAGS}"),
            Profile::Rehome => format!("path, outbound, {TAG}, {MODEL_TAGS}"),
        };
        let contact = format!(
            "<{}>;+sip.instance=\"<urn:uuid:{}>\";reg-id=1",
            contact_uri(config, flow),
            self.instance
        );
        let mut builder = Builder::request(&Method::Register, &uri)
            .header(HeaderName::Via, via(flow, rng))
            .header(HeaderName::MaxForwards, 70)
            .header(HeaderName::From, format_args!("<{}>;tag={}", config.aor, self.tag))
            .header(HeaderName::To, format_args!("<{}>", config.aor))
            .header(HeaderName::CallId, &self.call_id)
            .header(HeaderName::CSeq, format_args!("{} REGISTER", self.cseq))
            .header(HeaderName::Contact, contact)
            .header(HeaderName::Expires, expires)
            .header(HeaderName::Supported, tags)
            .header(HeaderName::Allow, ALLOW)
            .header(HeaderName::UserAgent, &config.user_agent);
        if config.profile == Profile::Lync2010 {
            builder = builder
                .header(HeaderName::Event, "registration")
                .header_named("ms-keep-alive", "UAC;hop-hop=yes");
        }
        let asked = Asked { method: "REGISTER", uri: &uri, body: b"" };
        for (name, value) in self.login.answers(config, &asked, rng) {
            builder = builder.header(name, value);
        }
        self.contact = contact_uri(config, flow);
        builder.finish()
    }

    /// True when `request` comes from where our REGISTER went: it belongs to the subscription that the
    /// REGISTER implied, and names what only its readers know. Others can have a NOTIFY carried to us, too.
    pub(crate) fn is_subscribed_to(&self, request: &Message) -> bool {
        request.call_id().is_ok_and(|call_id| call_id == self.call_id)
            && request.to_tag() == Some(self.tag.as_str())
    }

    /// What `response` means.
    pub(crate) fn judge(&mut self, response: &Message, exchange: &mut Exchange) -> Verdict {
        let status = response.status().unwrap_or(0);
        let reason = response.reason().unwrap_or_default().to_owned();
        match status {
            100..=199 => Verdict::Provisional,
            200..=299 => match self.granted(response) {
                Some(granted) => Verdict::Accepted(granted),
                None => Verdict::Refused { status, reason, retry_after: None },
            },
            300..=399 => Verdict::Redirected { status, contacts: redirect_contacts(response) },
            401 | 407 => match self.login.handle_challenge(response, None, &mut exchange.trials) {
                login::Verdict::Again => Verdict::Again,
                login::Verdict::Wrong => Verdict::Rejected { status, reason },
                login::Verdict::Hopeless => Verdict::Refused { status, reason, retry_after: None },
            },
            403 | 404 => Verdict::Rejected { status, reason },
            423 if !exchange.brief => match min_expires(response) {
                Some(least) if least > self.expiry && least <= LONGEST_EXPIRY => {
                    exchange.brief = true;
                    self.expiry = least;
                    Verdict::Again
                }
                _ => Verdict::Refused { status, reason, retry_after: None },
            },
            _ => Verdict::Refused { status, reason, retry_after: retry_after(response) },
        }
    }

    /// Reads a 200. `None`: for all its yes, it grants no time.
    fn granted(&self, response: &Message) -> Option<Granted> {
        let expires_in = Duration::from_secs(self.granted_seconds(response).into());
        if expires_in.is_zero() && !self.leaving {
            return None;
        }
        let state = PresenceState::read(response.header_named("presence-state").unwrap_or_default());
        let registrars = falling_q(
            response
                .header_named("Registrar-Set")
                .map(|set| values(set).filter_map(|value| NameAddr::parse(value).ok()).collect())
                .unwrap_or_default(),
        );
        Some(Granted {
            expires_in: expires_in.min(LONGEST_EXPIRY),
            primary: state.primary,
            limited: state.limited,
            registrars,
            service_route: response.values(HeaderName::ServiceRoute).map(str::to_owned).collect(),
        })
    }

    /// The expiry of our own contact; else of the whole answer; else what we asked for
    /// (RFC 3261 §10.2.4). Our contact is known by our instance or, where the registrar drops that, by its
    /// URI. If none is ours, somebody on the way has rewritten it: then it may be the first of all to end.
    fn granted_seconds(&self, response: &Message) -> u32 {
        let parsed = response.contacts().unwrap_or(Contacts::None);
        let contacts = parsed.list();
        let own = Uri::parse(&self.contact).ok();
        let ours = contacts
            .iter()
            .find(|contact| contact.instance().is_some_and(|instance| instance.contains(&self.instance)))
            .or_else(|| contacts.iter().find(|contact| own.as_ref() == Some(&contact.uri)));
        let seconds = match ours {
            Some(contact) => contact.expires(),
            None => contacts.iter().filter_map(|contact| contact.expires()).min(),
        };
        let wished = u32::try_from(self.expiry.as_secs()).unwrap_or(u32::MAX);
        seconds.or_else(|| response.expires()).unwrap_or(wished)
    }
}

/// No registration is left longer than this without a word, whatever the registrar would grant.
const LONGEST_EXPIRY: Duration = Duration::from_secs(86_400);

/// What we understand, for `Allow`.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, NOTIFY";

/// Where requests for us arrive: this flow.
pub(crate) fn contact_uri(config: &Config, flow: &Flow) -> String {
    let transport = flow.transport.name().to_ascii_lowercase();
    format!("sip:{}@{};transport={transport}", config.aor.user(), flow.local)
}

/// A Via of ours with a fresh branch; `rport` because there may be a NAT (RFC 3581).
pub(crate) fn via(flow: &Flow, rng: &mut dyn Rng) -> String {
    format!("SIP/2.0/{} {};branch=z9hG4bK{};rport", flow.transport, flow.local, token(rng))
}

/// Sixteen random hexadecimal digits: a tag, a branch, a Call-ID (RFC 3261 §19.3).
pub(crate) fn token(rng: &mut dyn Rng) -> String {
    format!("{:016x}", rng.next_u64())
}

/// A random UUID (RFC 9562, version 4).
fn random_uuid(rng: &mut dyn Rng) -> String {
    let (high, low) = (rng.next_u64(), rng.next_u64());
    let version = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
    let variant = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        version >> 32,
        (version >> 16) & 0xffff,
        version & 0xffff,
        variant >> 48,
        variant & 0xffff_ffff_ffff
    )
}

/// The model's `presence-state` header.
#[derive(Debug, Default, Eq, PartialEq)]
struct PresenceState {
    primary: Option<bool>,
    limited: bool,
}

impl PresenceState {
    /// Reads `register-action="added";is-connected-to-primary="no";user-services-state=unavailable`;
    /// what it does not know it passes over.
    fn read(value: &str) -> PresenceState {
        let mut state = PresenceState::default();
        for item in value.split(';') {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            match name.trim().to_ascii_lowercase().as_str() {
                "is-connected-to-primary" => state.primary = Some(value == "yes"),
                "user-services-state" => state.limited = value == "unavailable",
                _ => {}
            }
        }
        state
    }
}

fn redirect_contacts(response: &Message) -> Vec<(String, u16)> {
    match response.contacts() {
        Ok(Contacts::List(contacts)) => falling_q(contacts),
        _ => Vec::new(),
    }
}

/// URIs with their q, highest first; equals stay in the order given.
fn falling_q(contacts: Vec<NameAddr<'_>>) -> Vec<(String, u16)> {
    let mut sorted: Vec<(String, u16)> =
        contacts.iter().map(|contact| (contact.uri.to_string(), contact.q())).collect();
    sorted.sort_by_key(|(_, q)| std::cmp::Reverse(*q));
    sorted
}

/// The values of a line that is none of the known headers, split at the commas outside `<>` and `""`.
fn values(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut bracketed) = (false, false);
    line.split(move |c| {
        match c {
            '"' if !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            _ => {}
        }
        c == ',' && !quoted && !bracketed
    })
    .map(str::trim)
}

fn min_expires(response: &Message) -> Option<Duration> {
    let seconds: u32 = response.header(HeaderName::MinExpires)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// The seconds of `Retry-After: 30 (comment);duration=60` (RFC 3261 §20.33).
pub(crate) fn retry_after(response: &Message) -> Option<Duration> {
    let value = response.header(HeaderName::RetryAfter)?;
    let digits: String = value.trim().chars().take_while(char::is_ascii_digit).collect();
    let seconds: u32 = digits.parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_state_is_read_with_and_without_quotes() {
        let backup = "register-action=\"added\";primary-cluster-type=\"central\";\
                      is-connected-to-primary=\"no\";user-services-state=unavailable";
        let expected = PresenceState { primary: Some(false), limited: true };
        assert_eq!(PresenceState::read(backup), expected);
        let home = "register-action=refreshed; is-connected-to-primary=yes";
        let expected = PresenceState { primary: Some(true), limited: false };
        assert_eq!(PresenceState::read(home), expected);
        assert_eq!(PresenceState::read(""), PresenceState::default());
    }
}
