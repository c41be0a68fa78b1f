//! What the server says: responses of its own, and its notices to clients. Bytes only; nothing is decided here.

use std::fmt::Write as _;
use std::time::Instant;

use bytes::Bytes;
use resilience::profile::Profile;
use sip::digest::Challenge;
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::print::{Builder, reason_phrase};
use sip::transport::Flow;

use crate::config::Settings;
use crate::decision::Why;
use crate::desk::Own;
use crate::dialect::Dialect;
use crate::director::{Homed, Place};
use crate::event::Q;
use crate::location::Binding;
use crate::watch::{Condition, STATE_HEADER};

/// What a server does for itself or passes on (RFC 3261 §11.2).
const ALLOW: &str =
    "REGISTER, INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, SUBSCRIBE, NOTIFY, REFER, INFO, UPDATE, PRACK";
/// How long the model's redirects say that they hold: 30 days.
const REDIRECT_EXPIRES: u32 = 2_592_000;

/// The To tag of our responses: the same for a retransmission, since nothing is stored of the request
/// (RFC 3261 §8.2.7).
pub(crate) fn tag(request: &Message, salt: u64) -> String {
    let mut hash = 0x9e37_79b9_7f4a_7c15 ^ salt;
    for text in [request.call_id().unwrap_or_default(), request.from_tag().unwrap_or_default()] {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{:08x}", hash >> 32)
}

/// A refusal, with its reason in the forms that peers read.
pub(crate) fn refuse(request: &Message, why: &Why, own: &Own, tag: &str) -> Bytes {
    let status = why.status();
    let mut builder = Builder::response(request, status, reason_phrase(status)).to_tag(tag);
    if let Some(seconds) = why.retry_after_s() {
        builder = builder.header(HeaderName::RetryAfter, seconds);
    }
    match why {
        Why::TooBrief { min } => builder = builder.header(HeaderName::MinExpires, min.as_secs()),
        Why::Unsupported(names) => builder = builder.header(HeaderName::Unsupported, names),
        Why::NotAllowed => builder = builder.header(HeaderName::Allow, ALLOW),
        Why::Malformed { error, .. } => {
            builder = builder.header(HeaderName::Warning, format_args!("399 {} \"{error}\"", own.server));
        }
        _ => {}
    }
    if let Some(number) = why.diagnostic() {
        builder = builder.header_named(
            "ms-diagnostics",
            format_args!("{number};reason=\"{why}\";source=\"{}\"", own.server),
        );
    }
    builder.finish()
}

/// A challenge for each algorithm offered.
pub(crate) fn challenge(request: &Message, proxy: bool, challenges: &[Challenge], tag: &str) -> Bytes {
    let (status, header) =
        if proxy { (407, HeaderName::ProxyAuthenticate) } else { (401, HeaderName::WwwAuthenticate) };
    challenges
        .iter()
        .fold(Builder::response(request, status, reason_phrase(status)).to_tag(tag), |builder, challenge| {
            builder.header(header, challenge)
        })
        .finish()
}

/// What we can do, for anybody who asks.
pub(crate) fn capabilities(request: &Message, settings: &Settings, tag: &str) -> Bytes {
    let builder = Builder::response(request, 200, reason_phrase(200))
        .to_tag(tag)
        .header(HeaderName::Allow, ALLOW)
        .header(HeaderName::Accept, "application/sdp, text/plain")
        .header(HeaderName::Supported, "path, outbound");
    with_server(builder, settings).finish()
}

/// The answer to a partner's heartbeat: how we are.
pub(crate) fn heartbeat(request: &Message, condition: &Condition, tag: &str) -> Bytes {
    let status = if condition.fit { 200 } else { 503 };
    Builder::response(request, status, reason_phrase(status))
        .to_tag(tag)
        .header_named(STATE_HEADER, condition)
        .finish()
}

/// A bare answer.
pub(crate) fn plain(request: &Message, status: u16, tag: &str) -> Bytes {
    Builder::response(request, status, reason_phrase(status)).to_tag(tag).finish()
}

//------------ REGISTER --------------------------------------------------------

/// The names in a redirect, with their q in thousandths: first choice 0.7, second 0.3, a single one without.
pub(crate) fn redirect_targets(homed: &Homed) -> Vec<(&Place, Option<u16>)> {
    match homed {
        Homed::There { first, second: Some(second), .. } => vec![(first, Some(700)), (second, Some(300))],
        Homed::There { first, second: None, .. } => vec![(first, None)],
        Homed::Here { .. } | Homed::Waiting { .. } | Homed::Nowhere(_) => Vec::new(),
    }
}

/// The model's 301 (one Contact line per pool).
pub(crate) fn redirect(
    request: &Message,
    flow: Flow,
    homed: &Homed,
    registrars: &[Place],
    profile: Profile,
    tag: &str,
) -> Bytes {
    let mut builder = Builder::response(request, 301, "Redirect request to Home Server").to_tag(tag);
    for (place, q) in redirect_targets(homed) {
        let uri = place.uri(flow.transport);
        builder = match q {
            Some(q) => builder.header(HeaderName::Contact, format_args!("<{uri}>;q={}", Q(q))),
            None => builder.header(HeaderName::Contact, format_args!("<{uri}>")),
        };
    }
    builder = builder.header(HeaderName::Expires, REDIRECT_EXPIRES);
    if profile == Profile::Rehome && Dialect::of(request).registrars {
        builder = builder.header_named("Registrar-Set", registrar_set(registrars, flow));
    }
    builder.finish()
}

/// Every registrar of a user, in order; what profile `rehome` adds so that a client always knows its backup.
fn registrar_set(registrars: &[Place], flow: Flow) -> String {
    let mut set = String::new();
    for (place, q) in registrars.iter().zip([700, 300]) {
        let comma = if set.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(set, "{comma}<{}>;q={}", place.uri(flow.transport), Q(q));
    }
    set
}

/// What a granted REGISTER is told.
pub(crate) struct Granted<'a> {
    /// Every binding of the user now.
    pub(crate) bindings: &'a [Binding],
    /// The binding was there before.
    pub(crate) refreshed: bool,
    /// We are the user's backup.
    pub(crate) on_backup: bool,
    /// Presence and its like are available to the user.
    pub(crate) user_services: bool,
    /// Primary, then backup.
    pub(crate) registrars: &'a [Place],
    /// What the client understands.
    pub(crate) dialect: Dialect,
    /// The profile in force.
    pub(crate) profile: Profile,
}

/// The 200 to a REGISTER (RFC 3261 §10.3 step 8).
pub(crate) fn granted(
    request: &Message,
    flow: Flow,
    granted: &Granted<'_>,
    settings: &Settings,
    tag: &str,
    now: Instant,
) -> Bytes {
    let mut builder = Builder::response(request, 200, reason_phrase(200)).to_tag(tag);
    for binding in granted.bindings {
        builder = builder.header(HeaderName::Contact, contact(binding, now));
    }
    let own =
        granted.bindings.iter().find(|binding| *binding.call_id == *request.call_id().unwrap_or_default());
    if let Some(own) = own.filter(|_| granted.dialect.wants_presence_state()) {
        builder = builder.header(HeaderName::Expires, own.granted.as_secs());
    }
    if own.is_some_and(|own| own.reg_id.is_some() && request.supports("outbound")) {
        // RFC 5626 §6: tells the client that its reg-id counted.
        builder = builder.header(HeaderName::Require, "outbound");
    }
    for path in request.headers(HeaderName::Path) {
        builder = builder.header(HeaderName::Path, path);
    }
    let keepalive = settings.keepalive.as_secs();
    if granted.dialect.keepalive {
        builder = builder.header_named(
            "ms-keep-alive",
            format_args!("UAS; tcp=no; hop-hop=yes; end-end=no; timeout={keepalive}"),
        );
    }
    if flow.transport.is_reliable() && (granted.dialect.registrars || request.supports("outbound")) {
        builder = builder.header(HeaderName::FlowTimer, keepalive);
    }
    if granted.dialect.wants_presence_state() {
        let action = if granted.refreshed { "refreshed" } else { "added" };
        let primary = if granted.on_backup { "no" } else { "yes" };
        let services = if granted.user_services { "" } else { ";user-services-state=unavailable" };
        builder = builder.header_named(
            "presence-state",
            format_args!(
                "register-action=\"{action}\";primary-cluster-type=\"central\";is-connected-to-primary=\"{primary}\"{services}"
            ),
        );
    }
    if granted.profile == Profile::Rehome && granted.dialect.registrars {
        builder = builder.header_named("Registrar-Set", registrar_set(granted.registrars, flow));
    }
    builder = builder.header(HeaderName::Supported, "path, outbound");
    with_server(builder, settings).finish()
}

/// One binding in a 200, with what is left of it (rounded up: a client that just registered sees what it was
/// granted).
fn contact(binding: &Binding, now: Instant) -> String {
    let left = binding.expires_at.saturating_duration_since(now);
    let left = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    let mut value = format!("<{}>;expires={left}", binding.contact);
    // Writing to a String cannot fail.
    if binding.q < 1000 {
        let _ = write!(value, ";q={}", Q(binding.q));
    }
    if let Some(instance) = &binding.instance {
        let _ = write!(value, ";+sip.instance=\"<{instance}>\"");
    }
    if let Some(reg_id) = binding.reg_id {
        let _ = write!(value, ";reg-id={reg_id}");
    }
    value
}

fn with_server(builder: Builder, settings: &Settings) -> Builder {
    if settings.server_header.is_empty() {
        builder
    } else {
        builder.header(HeaderName::Server, &settings.server_header)
    }
}

//------------ Notices ---------------------------------------------------------

/// What a client is told about its registration, in the model's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Notice {
    /// Go home; the address-spec of the registrar to use.
    PreferredRegistrar(String),
    /// Still registered, but presence is gone.
    ServicesGone,
    /// No longer registered: presence is gone and the client cannot do without.
    ServicesNeeded,
    /// No longer registered: the user was disabled or deleted.
    Rejected,
}

impl Notice {
    fn body(&self) -> &'static str {
        match self {
            Notice::PreferredRegistrar(_) => "deregistered;event=preferred-registrar-change",
            Notice::ServicesGone => "registered;event=userservices-unavailable",
            Notice::ServicesNeeded => "deregistered;event=userservices-unavailable",
            Notice::Rejected => "deregistered;event=rejected",
        }
    }

    fn diagnostics(&self) -> &'static str {
        match self {
            Notice::PreferredRegistrar(_) => "4166;reason=\"Preferred registrar is available again\"",
            Notice::ServicesGone | Notice::ServicesNeeded => "4165;reason=\"User services are unavailable\"",
            Notice::Rejected => "4141;reason=\"User disabled\"",
        }
    }
}

/// A NOTIFY to a client, inside the subscription that its REGISTER implied.
pub(crate) fn notify(
    binding: &Binding,
    aor: &str,
    notice: &Notice,
    own: &Own,
    now: Instant,
    cseq: u32,
    branch: u64,
) -> Bytes {
    let left = binding.expires_at.saturating_duration_since(now).as_secs();
    let state = match notice {
        Notice::ServicesGone => format!("active;expires={left}"),
        _ => "terminated;expires=0".to_owned(),
    };
    let mut builder = Builder::request(&Method::Notify, &binding.contact)
        .header(
            HeaderName::Via,
            format_args!(
                "SIP/2.0/{} {};branch=z9hG4bK{branch:016x}",
                binding.flow.transport,
                own.host_port(binding.flow)
            ),
        )
        .header(HeaderName::MaxForwards, 70)
        .header(HeaderName::From, format_args!("<{aor}>;tag={}", binding.notify_tag))
        .header(HeaderName::To, &binding.notify_to)
        .header(HeaderName::CallId, &binding.call_id)
        .header(HeaderName::CSeq, format_args!("{cseq} NOTIFY"))
        .header(HeaderName::Event, "registration-notify")
        .header(HeaderName::SubscriptionState, state)
        .header_named("ms-diagnostics-public", notice.diagnostics());
    if let Notice::PreferredRegistrar(uri) = notice {
        builder = builder.header_named("P-Preferred-Registrar", uri);
    }
    builder.body("text/registration-event", notice.body()).finish()
}
