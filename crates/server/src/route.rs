//! From a request to a [`Decision`], on one screen. Reads everything, changes nothing (but for the nonce counts,
//! which `authenticate` keeps, visibly).

use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::transport::Flow;
use sip::uri::{AddressOfRecord, Scheme, Uri};

use crate::authenticate::{Guard, Proof};
use crate::config::Config;
use crate::decision::{Decision, Sender, Why};
use crate::desk::Own;
use crate::dialect::Dialect;
use crate::director::{self, Homed, Standing};
use crate::location::{Location, Set};
use crate::registrar;
use crate::screen;

/// What a decision may look at.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) config: &'a Config,
    pub(crate) own: &'a Own,
    pub(crate) standing: Standing<'a>,
    pub(crate) location: &'a Location,
    /// The server at the other end of this flow, if it proved to be one; true if it is of our pool.
    pub(crate) peer: Option<bool>,
    /// User services work here.
    pub(crate) user_services: bool,
    /// Of this server, for loop marks.
    pub(crate) salt: u64,
    pub(crate) unix_now: u64,
}

/// Decides what happens to one request.
pub(crate) fn route(request: &Message, flow: Flow, sight: &Sight<'_>, guard: &mut Guard) -> Decision {
    let Ok(uri) = request.uri() else { return Decision::Refuse(Why::UnsupportedScheme) };
    if request.method() == Method::Register {
        return register(request, &uri, flow, sight, guard).unwrap_or_else(Decision::Refuse); // RFC 3261 §10.3
    }
    if is_for_us(request, &uri, sight) {
        return for_us(request, sight).unwrap_or_else(Decision::Refuse); // RFC 3261 §11.2
    }
    if let Err(why) = screen::to_pass_on(request, sight.own, sight.salt) {
        return Decision::Refuse(why); // RFC 3261 §16.3
    }
    let sender = match sender(request, flow, sight, guard) {
        Ok(sender) => sender,
        Err(decision) => return *decision, // RFC 3261 §22, RFC 8760
    };
    if let Err(why) = user_services(request, &sender, sight) {
        return Decision::Refuse(why);
    }
    if request.to_tag().is_some() || onward_routes(request, sight.own).next().is_some() {
        return Decision::Follow { sender }; // RFC 3261 §16.12
    }
    callee(&uri, sender, sight).unwrap_or_else(Decision::Refuse) // RFC 3261 §16.5
}

//------------ REGISTER --------------------------------------------------------

/// Rows 1 to 8 of the answer table.
fn register(
    request: &Message,
    uri: &Uri<'_>,
    flow: Flow,
    sight: &Sight<'_>,
    guard: &mut Guard,
) -> Result<Decision, Why> {
    let Config { topology, directory, .. } = sight.config;
    screen::for_us(request)?;
    if !topology.serves(uri.host()) && !sight.own.is_uri(uri) && !names_a_pool(uri.host(), sight) {
        return Err(Why::NotOurDomain);
    }
    let to = request.to().map_err(|error| Why::Malformed { status: 400, error })?;
    let aor = AddressOfRecord::from_uri(&to.uri).ok_or(Why::NotOurDomain)?;
    if !topology.serves(aor.domain()) {
        return Err(Why::NotOurDomain);
    }
    let stands_to_set = |is_so: fn(&registrar::Request, &Set) -> bool| {
        sight.location.set(&aor).is_some_and(|set| {
            registrar::Request::read(request, flow, "").is_ok_and(|asked| is_so(&asked, set))
        })
    };
    let done_before =
        |identity: &AddressOfRecord| *identity == aor && stands_to_set(registrar::Request::is_carried_out);
    let proof =
        guard.check(request, HeaderName::Authorization, aor.domain(), directory, sight.unix_now, done_before);
    let Proof::Proven(identity) = proof else {
        let stale = proof == Proof::Unproven { stale: true };
        return Ok(Decision::Challenge { claimed: aor, proxy: false, stale });
    };
    // Row 1: only those who have proved to be somebody learn who exists.
    if !directory.user(&identity).is_some_and(|user| user.enabled) {
        return Err(Why::Disabled);
    }
    // RFC 3261 §10.3 step 4 before step 5: nobody learns by their own password who else exists.
    if identity != aor {
        return Err(Why::NotYours);
    }
    let Some(user) = directory.user(&aor) else { return Err(Why::UnknownUser) };
    // Whoever leaves is let go where they are bound: sent elsewhere, they would be bound here until it expires.
    if stands_to_set(registrar::Request::is_farewell_to) {
        let on_backup = user.home != sight.standing.pool.name;
        return Ok(Decision::Register { aor, homed: Homed::Here { on_backup } });
    }
    let mut homed = director::locate(&user.home, aor.hash64(), &sight.standing);
    if homed == Homed::Nowhere(Why::Draining) && !sight.location.bindings(&aor).is_empty() {
        // Drained, and nobody else in the pool: newcomers are refused, but those who are here stay until we go.
        homed = Homed::Here { on_backup: user.home != sight.standing.pool.name };
    }
    match homed {
        Homed::Here { on_backup } => {
            let has_services = sight.user_services && !on_backup;
            if !has_services && !Dialect::of(request).lives_without_user_services() {
                return Err(Why::LegacyClientInSurvivalMode);
            }
            Ok(Decision::Register { aor, homed })
        }
        Homed::There { .. } => Ok(Decision::Redirect { aor, homed }),
        Homed::Waiting { retry_after } => Err(Why::PartnerNotLost { retry_after }),
        Homed::Nowhere(why) => Err(why),
    }
}

/// A client that followed a redirect may put the pool's name into the Request-URI.
fn names_a_pool(host: &str, sight: &Sight<'_>) -> bool {
    sight.config.topology.pool(host).is_some() || sight.config.topology.server(host).is_some()
}

//------------ Requests for ourselves ------------------------------------------

/// Nobody behind us is meant: no user, no further route, one of our names or domains.
fn is_for_us(request: &Message, uri: &Uri<'_>, sight: &Sight<'_>) -> bool {
    uri.is_sip()
        && uri.user().is_none()
        && onward_routes(request, sight.own).next().is_none()
        && (sight.own.is_uri(uri) || sight.config.topology.serves(uri.host()))
}

fn for_us(request: &Message, sight: &Sight<'_>) -> Result<Decision, Why> {
    screen::for_us(request)?;
    match (request.method(), sight.peer) {
        (Method::Options, Some(_)) => Ok(Decision::Heartbeat),
        (Method::Options, None) => Ok(Decision::Capabilities),
        _ => Err(Why::NotAllowed),
    }
}

//------------ Requests to pass on ---------------------------------------------

/// Who sends this: a server by certificate, a gateway by address, a user by the connection they registered on or by
/// password. Nobody else is served: we are no open relay.
fn sender(
    request: &Message,
    flow: Flow,
    sight: &Sight<'_>,
    guard: &mut Guard,
) -> Result<Sender, Box<Decision>> {
    if let Some(mate) = sight.peer {
        return Ok(Sender::Server { mate });
    }
    let from = request.from().ok().and_then(|from| AddressOfRecord::from_uri(&from.uri));
    let registered = sight.location.on_flow(&flow);
    // Anybody can write a source address into a datagram; into a dialog they must know its tags as well.
    let is_theirs = flow.transport.is_reliable() || request.to_tag().is_some();
    if let Some(from) = from.as_ref().filter(|from| is_theirs && registered.contains(from)) {
        return Ok(Sender::User(from.clone()));
    }
    let Config { topology, directory, .. } = sight.config;
    // A gateway speaks for the telephone network, not for our users.
    if is_gateway(flow, sight) && from.as_ref().is_none_or(|from| directory.user(from).is_none()) {
        return Ok(Sender::Gateway);
    }
    let ours = from.as_ref().map(AddressOfRecord::domain).filter(|domain| topology.serves(domain));
    let Some(domain) = ours.or(topology.domains.first().map(String::as_str)) else {
        return Err(Box::new(Decision::Refuse(Why::NotOurDomain)));
    };
    let header = HeaderName::ProxyAuthorization;
    match guard.check(request, header, domain, directory, sight.unix_now, |_| false) {
        Proof::Proven(identity) => {
            if !directory.user(&identity).is_some_and(|user| user.enabled) {
                return Err(Box::new(Decision::Refuse(Why::Disabled)));
            }
            if from.as_ref() != Some(&identity) {
                return Err(Box::new(Decision::Refuse(Why::NotYours)));
            }
            Ok(Sender::User(identity))
        }
        Proof::Unproven { stale } => match from {
            Some(claimed) => Err(Box::new(Decision::Challenge { claimed, proxy: true, stale })),
            None => Err(Box::new(Decision::Refuse(Why::NotOurDomain))),
        },
    }
}

/// Gateways are known by their addresses; one given by a host name is not recognised as a sender.
pub(crate) fn is_gateway(flow: Flow, sight: &Sight<'_>) -> bool {
    let gateways = sight.config.topology.trunks.iter().flat_map(|trunk| &trunk.gateways);
    gateways.into_iter().any(|gateway| gateway.host.parse() == Ok(flow.remote.ip()))
}

/// Presence and its like: refused where limited functionality has taken them away.
fn user_services(request: &Message, sender: &Sender, sight: &Sight<'_>) -> Result<(), Why> {
    let method = request.method();
    let is_publication = method == Method::Publish || method.as_str() == "SERVICE";
    let event = request.header(HeaderName::Event).unwrap_or_default();
    let event = event.split(';').next().unwrap_or_default().trim();
    let is_service = is_publication
        || (method == Method::Subscribe
            && (event.starts_with("presence") || event.starts_with("vnd-microsoft-")));
    if !is_service || request.to_tag().is_some() {
        return Ok(());
    }
    let is_guest = match sender {
        Sender::User(aor) => {
            sight.config.directory.user(aor).is_some_and(|user| user.home != sight.standing.pool.name)
        }
        Sender::Server { .. } | Sender::Gateway => false,
    };
    if is_guest || !sight.user_services {
        return Err(Why::NoUserServices);
    }
    // Nobody keeps published presence here; a SUBSCRIBE goes to the other user's device.
    if is_publication { Err(Why::BadEvent) } else { Ok(()) }
}

/// Who is called: a user, a user by number, or a number behind a trunk.
fn callee(uri: &Uri<'_>, sender: Sender, sight: &Sight<'_>) -> Result<Decision, Why> {
    let topology = &sight.config.topology;
    let is_ours = uri.scheme() == Scheme::Tel || topology.serves(uri.host()) || sight.own.is_uri(uri);
    if !is_ours {
        return Err(Why::NotOurDomain);
    }
    if let Some(aor) = user_of(uri, sight.config, sight.own) {
        return enabled(aor, sender, sight);
    }
    let number = number_of(uri).ok_or(Why::UnknownUser)?;
    if !topology.trunks.iter().any(|trunk| number.starts_with(&trunk.pattern)) {
        return Err(Why::UnknownUser);
    }
    match sender {
        // What comes from the telephone network does not go back to it.
        Sender::Gateway => Err(Why::UnknownUser),
        Sender::User(_) | Sender::Server { .. } => Ok(Decision::Dial { number, sender }),
    }
}

/// The user of ours that a URI names: by address, by their number, or at our own address instead of the domain's.
pub(crate) fn user_of(uri: &Uri<'_>, config: &Config, own: &Own) -> Option<AddressOfRecord> {
    let Config { topology, directory, .. } = config;
    if uri.is_sip() {
        let domain = match topology.serves(uri.host()) {
            true => uri.host(),
            false => topology.domains.first().filter(|_| own.is_uri(uri))?,
        };
        let aor: Option<AddressOfRecord> =
            format!("sip:{}@{domain}", uri.user().unwrap_or_default()).parse().ok();
        if let Some(aor) = aor.filter(|aor| directory.user(aor).is_some()) {
            return Some(aor);
        }
    }
    directory.with_number(&number_of(uri)?).map(|(aor, _)| aor.clone())
}

fn enabled(aor: AddressOfRecord, sender: Sender, sight: &Sight<'_>) -> Result<Decision, Why> {
    match sight.config.directory.user(&aor) {
        Some(user) if user.enabled => Ok(Decision::Forward { callee: aor, sender }),
        Some(_) => Err(Why::NotRegistered),
        None => Err(Why::UnknownUser),
    }
}

/// The E.164 number a URI names, without visual separators (RFC 3966 §5.1.1).
fn number_of(uri: &Uri<'_>) -> Option<String> {
    let text = match uri.scheme() {
        Scheme::Tel => uri.opaque()?.split(';').next()?,
        Scheme::Sip | Scheme::Sips => uri.user()?.split(';').next()?,
        Scheme::Other(_) => return None,
    };
    let number: String = text.chars().filter(|sign| !matches!(sign, '-' | '.' | '(' | ')')).collect();
    let digits = number.strip_prefix('+')?;
    (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(number)
}

/// The Route values that are not ours: where a request must go before its Request-URI.
pub(crate) fn onward_routes<'m>(
    request: &'m Message,
    own: &'m Own,
) -> impl Iterator<Item = sip::header::NameAddr<'m>> {
    request.name_addrs(HeaderName::Route).filter_map(Result::ok).skip_while(|route| own.is_uri(&route.uri))
}

/// How many Route values at the front are ours.
pub(crate) fn own_routes(request: &Message, own: &Own) -> usize {
    request
        .name_addrs(HeaderName::Route)
        .filter_map(Result::ok)
        .take_while(|route| own.is_uri(&route.uri))
        .count()
}
