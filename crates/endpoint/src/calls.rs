//! Requests of the user and of others, and the few dialogs they make.
//!
//! A client without a person in front of it: MESSAGE and OPTIONS are answered 200, an INVITE by the
//! policy of the configuration, everything else as RFC 3261 §8.2 wants it. Dialogs hold what ACK and BYE
//! need and nothing more (RFC 3261 §12). They are not tied to a flow: after a move to another registrar
//! the BYE leaves by the new one.
//!
//! Media is not here at all: the session description offered and answered is inactive.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use sip::digest::Asked;
use sip::header::HeaderName;
use sip::message::Message;
use sip::method::Method;
use sip::print::{Builder, reason_phrase};
use sip::transaction::{ClientKey, ServerKey, Transactions};
use sip::transport::{Flow, Transmit};
use sip::uri::Uri;

use crate::config::{self, Config};
use crate::event::{Event, Unanswered};
use crate::login::{Login, Trials, Verdict};
use crate::notify::{self, Notice};
use crate::registration::{ALLOW, contact_uri, token, via};

/// First and longest interval between repetitions of a 2xx to INVITE, and when to stop
/// (RFC 3261 §13.3.1.4: T1, T2 and 64·T1).
const REPEAT_FIRST: Duration = Duration::from_millis(500);
const REPEAT_MOST: Duration = Duration::from_secs(4);
const REPEAT_UNTIL: Duration = Duration::from_secs(32);
/// Calls at a time; one more is answered 486.
const MOST_CALLS: usize = 64;

/// Everything between this user and others.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Where our requests go first (RFC 3608).
    service_route: Vec<String>,
    /// Past the challenges of proxies.
    login: Login,
    /// Our requests without a final answer.
    sent: Vec<Sent>,
    /// Calls that stand.
    dialogs: Vec<Dialog>,
    /// ACKs and repeated 2xx, which belong to no transaction.
    transmits: VecDeque<Transmit>,
    /// To be said.
    events: VecDeque<Event>,
}

/// What every step here needs of the endpoint.
pub(crate) struct Desk<'a> {
    pub(crate) config: &'a Config,
    pub(crate) transactions: &'a mut Transactions,
    pub(crate) rng: &'a mut ChaCha12Rng,
    /// The flow to our registrar, while there is one.
    pub(crate) flow: Option<Flow>,
    /// The realms in which our password may be asked for: our domain, and those of our registrar.
    pub(crate) realms: Vec<String>,
    pub(crate) now: Instant,
}

/// A request the user wants sent.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) id: u64,
    pub(crate) method: Method,
    pub(crate) to: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// One of our requests on its way.
#[derive(Debug)]
struct Sent {
    key: ClientKey,
    /// What it is for; `None` for a BYE, whose answer interests nobody.
    wish: Option<Wish>,
    uri: String,
    call_id: String,
    tag: String,
    cseq: u32,
    trials: Trials,
}

/// A call that stands.
#[derive(Debug)]
struct Dialog {
    /// The user's number, if it is our call.
    id: Option<u64>,
    call_id: String,
    local_tag: String,
    remote_tag: String,
    /// The other side's URI without its tag, from From or To.
    remote: String,
    /// Where in-dialog requests go.
    target: String,
    /// By way of whom, nearest first.
    routes: Vec<String>,
    /// The last CSeq we used.
    cseq: u32,
    /// Our call: its INVITE, whose 2xx may come again, and the ACK to repeat.
    acked: Option<(ClientKey, Bytes)>,
    /// Their call: our 2xx, to be repeated until its ACK.
    repeat: Option<Repeat>,
}

/// A 2xx that has no ACK yet.
#[derive(Debug)]
struct Repeat {
    transmit: Transmit,
    next: Instant,
    interval: Duration,
    until: Instant,
}

impl Calls {
    /// Takes the route of the latest 200 to REGISTER.
    pub(crate) fn set_service_route(&mut self, route: Vec<String>) {
        self.service_route = route;
    }

    //------------ Our requests ------------------------------------------------

    /// Sends a request of the user's.
    pub(crate) fn request(&mut self, wish: Wish, desk: &mut Desk<'_>) {
        let Some(flow) = desk.flow else {
            return self.unanswered(&wish, Unanswered::NotRegistered);
        };
        let Some(uri) = recipient(&wish.to, desk.config.aor.domain()) else {
            return self.unanswered(&wish, Unanswered::BadRecipient);
        };
        let (call_id, tag) = (token(desk.rng), token(desk.rng));
        self.send(wish, uri, call_id, tag, 1, Trials::default(), flow, desk);
    }

    #[expect(clippy::too_many_arguments, reason = "all parts of one request; called from two places")]
    fn send(
        &mut self,
        wish: Wish,
        uri: String,
        call_id: String,
        tag: String,
        cseq: u32,
        trials: Trials,
        flow: Flow,
        desk: &mut Desk<'_>,
    ) {
        let sdp = description(&flow);
        let (content_type, body): (&str, &[u8]) = match (&wish.method, wish.body.is_empty()) {
            (Method::Invite, true) => ("application/sdp", sdp.as_bytes()),
            _ => (&wish.content_type, &wish.body),
        };
        let mut builder = Builder::request(&wish.method, &uri)
            .header(HeaderName::Via, via(&flow, desk.rng))
            .header(HeaderName::MaxForwards, 70);
        for route in &self.service_route {
            builder = builder.header(HeaderName::Route, route);
        }
        builder = builder
            .header(HeaderName::From, format_args!("<{}>;tag={tag}", desk.config.aor))
            .header(HeaderName::To, format_args!("<{uri}>"))
            .header(HeaderName::CallId, &call_id)
            .header(HeaderName::CSeq, format_args!("{cseq} {}", wish.method.as_str()))
            .header(HeaderName::UserAgent, &desk.config.user_agent);
        if wish.method == Method::Invite {
            builder = builder
                .header(HeaderName::Contact, format_args!("<{}>", contact_uri(desk.config, &flow)))
                .header(HeaderName::Allow, ALLOW);
        }
        let asked = Asked { method: wish.method.as_str(), uri: &uri, body };
        for (name, value) in self.login.answers(desk.config, &asked, desk.rng) {
            builder = builder.header(name, value);
        }
        for (name, value) in &wish.headers {
            builder = builder.header_named(name, value);
        }
        if !body.is_empty() {
            builder = builder.body(content_type, body);
        }
        let key = desk.transactions.send(builder.finish(), flow, desk.now);
        self.sent.push(Sent { key, wish: Some(wish), uri, call_id, tag, cseq, trials });
    }

    /// Ends the call begun by the INVITE with this number: CANCEL, or BYE once it stands.
    pub(crate) fn hang_up(&mut self, id: u64, desk: &mut Desk<'_>) {
        let is_it = |sent: &&Sent| sent.wish.as_ref().is_some_and(|wish| wish.id == id);
        if let Some(sent) = self.sent.iter().find(is_it) {
            return desk.transactions.cancel(&sent.key, desk.now);
        }
        let Some(at) = self.dialogs.iter().position(|dialog| dialog.id == Some(id)) else { return };
        let mut dialog = self.dialogs.remove(at);
        dialog.cseq += 1;
        if let Some(flow) = desk.flow {
            let bye = dialog.request(&Method::Bye, dialog.cseq, &flow, desk);
            let key = desk.transactions.send(bye, flow, desk.now);
            let Dialog { call_id, local_tag: tag, target: uri, cseq, .. } = dialog;
            self.sent.push(Sent { key, wish: None, uri, call_id, tag, cseq, trials: Trials::default() });
        }
        self.events.push_back(Event::HungUp { with: dialog.remote });
    }

    /// Hears an answer to one of our requests.
    pub(crate) fn handle_response(&mut self, key: &ClientKey, response: &Message, desk: &mut Desk<'_>) {
        let status = response.status().unwrap_or(0);
        // The 2xx of a call that stands has come again: so must the ACK (RFC 3261 §13.2.2.4).
        if let Some((_, ack)) =
            self.dialogs.iter().filter_map(|dialog| dialog.acked.as_ref()).find(|(asked, _)| asked == key)
        {
            if let (200..=299, Some(flow)) = (status, desk.flow) {
                self.transmits.push_back(Transmit { flow, bytes: ack.clone() });
            }
            return;
        }
        let Some(at) = self.sent.iter().position(|sent| sent.key == *key) else { return };
        if status < 200 {
            let wish = self.sent.get(at).and_then(|sent| sent.wish.as_ref());
            if let Some(wish) = wish.filter(|wish| status > 100 && wish.method == Method::Invite) {
                self.events.push_back(answered(wish, response));
            }
            return;
        }
        let mut sent = self.sent.swap_remove(at);
        let Some(wish) = sent.wish.take() else { return };
        if let (401 | 407, Some(flow)) = (status, desk.flow)
            && self.login.handle_challenge(response, Some(&desk.realms), &mut sent.trials) == Verdict::Again
        {
            let Sent { uri, call_id, tag, cseq, trials, .. } = sent;
            return self.send(wish, uri, call_id, tag, cseq + 1, trials, flow, desk);
        }
        self.events.push_back(answered(&wish, response));
        if let (Method::Invite, 200..=299, Some(flow)) = (&wish.method, status, desk.flow) {
            let mut dialog = Dialog::ours(wish.id, sent, response);
            let ack = dialog.request(&Method::Ack, dialog.cseq, &flow, desk);
            dialog.acked = Some((*key, ack.clone()));
            self.transmits.push_back(Transmit { flow, bytes: ack });
            self.dialogs.push(dialog);
        }
    }

    /// One of our requests has ended without an answer.
    pub(crate) fn handle_failure(&mut self, key: &ClientKey, timed_out: bool) {
        let Some(at) = self.sent.iter().position(|sent| sent.key == *key) else { return };
        if let Some(wish) = self.sent.swap_remove(at).wish {
            self.unanswered(&wish, if timed_out { Unanswered::TimedOut } else { Unanswered::FlowLost });
        }
    }

    /// The flow is gone: nothing on its way will be answered.
    pub(crate) fn abandon(&mut self, transactions: &mut Transactions) {
        for sent in std::mem::take(&mut self.sent) {
            transactions.abandon(&sent.key);
            if let Some(wish) = &sent.wish {
                self.unanswered(wish, Unanswered::FlowLost);
            }
        }
    }

    fn unanswered(&mut self, wish: &Wish, why: Unanswered) {
        self.events.push_back(Event::Unanswered { id: wish.id, method: wish.method.clone(), why });
    }

    //------------ Requests of others ------------------------------------------

    /// Answers a request. What our registrar says of our registration is handed back; `is_subscribed`: the
    /// request belongs to that registration, or claims to and knows its secrets.
    pub(crate) fn handle_request(
        &mut self,
        key: &ServerKey,
        request: &Message,
        is_subscribed: bool,
        flow: Flow,
        desk: &mut Desk<'_>,
    ) -> Option<Notice> {
        let tag = token(desk.rng);
        if let Err(invalid) = request.validate() {
            let why = invalid.why.to_string();
            let answer =
                Builder::response(request, invalid.status, reason_phrase(invalid.status)).to_tag(&tag);
            desk.transactions.respond(key, answer.finish(), desk.now);
            self.events.push_back(Event::Malformed { why });
            return None;
        }
        let method = request.method();
        let mut notice = (method == Method::Notify).then(|| notify::read(request)).flatten();
        let status = match method {
            Method::Options | Method::Message => 200,
            // Somebody else's word about our registration (RFC 6665 §4.1.3).
            Method::Notify if notice.is_some() && !is_subscribed => 481,
            Method::Notify if notice.is_some() => 200,
            Method::Notify => 489,
            Method::Bye => match self.dialogs.iter().position(|dialog| dialog.is_of(request)) {
                Some(at) => {
                    let dialog = self.dialogs.remove(at);
                    self.events.push_back(Event::HungUp { with: dialog.remote });
                    200
                }
                None => 481,
            },
            Method::Invite if request.to_tag().is_some() => {
                if self.dialogs.iter().any(|dialog| dialog.is_of(request)) { 200 } else { 481 }
            }
            // Calls that nobody ever ends must not add up.
            Method::Invite if self.dialogs.len() >= MOST_CALLS => 486,
            Method::Invite => match desk.config.calls {
                config::Calls::Answer => 200,
                config::Calls::Busy => 486,
            },
            _ => 405,
        };
        if !is_subscribed {
            notice = None;
        }
        let mut answer = Builder::response(request, status, reason_phrase(status)).to_tag(&tag);
        answer = match (&method, status) {
            (Method::Options, _) => answer
                .header(HeaderName::Allow, ALLOW)
                .header(HeaderName::Accept, "application/sdp, text/plain"),
            (Method::Invite, 200) => answer
                .copied(request, HeaderName::RecordRoute)
                .header(HeaderName::Contact, format_args!("<{}>", contact_uri(desk.config, &flow)))
                .header(HeaderName::Allow, ALLOW)
                .body("application/sdp", description(&flow)),
            (_, 405) => answer.header(HeaderName::Allow, ALLOW),
            (_, 489) => answer.header(HeaderName::AllowEvents, "registration-notify"),
            _ => answer,
        };
        let bytes = answer.finish();
        desk.transactions.respond(key, bytes.clone(), desk.now);

        if method == Method::Invite && status == 200 && request.to_tag().is_none() {
            let next = desk.now + REPEAT_FIRST;
            let until = desk.now + REPEAT_UNTIL;
            let repeat = Repeat { transmit: Transmit { flow, bytes }, next, interval: REPEAT_FIRST, until };
            self.dialogs.push(Dialog::theirs(request, tag, repeat));
        }
        if matches!(method, Method::Message | Method::Invite) {
            self.events.push_back(Event::Request {
                method,
                from: request.from().map(|from| from.uri.as_str().to_owned()).unwrap_or_default(),
                status,
                content_type: request.header(HeaderName::ContentType).unwrap_or_default().to_owned(),
                body: request.body().to_vec(),
            });
        }
        notice
    }

    /// Answers a CANCEL. Our INVITEs are answered at once, so there is never anything left to cancel
    /// (RFC 3261 §9.2).
    pub(crate) fn handle_cancel(
        &mut self,
        key: &ServerKey,
        known: bool,
        request: &Message,
        desk: &mut Desk<'_>,
    ) {
        let status = if known { 200 } else { 481 };
        let answer = Builder::response(request, status, reason_phrase(status)).to_tag(&token(desk.rng));
        desk.transactions.respond(key, answer.finish(), desk.now);
    }

    /// The ACK to our 2xx: it need not be repeated any more.
    pub(crate) fn handle_ack(&mut self, ack: &Message) {
        if let Some(dialog) = self.dialogs.iter_mut().find(|dialog| dialog.is_of(ack)) {
            dialog.repeat = None;
        }
    }

    /// Repeats what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for dialog in &mut self.dialogs {
            let Some(repeat) = &mut dialog.repeat else { continue };
            if repeat.until <= now {
                dialog.repeat = None; // The call may stand all the same; its BYE will tell.
            } else if repeat.next <= now {
                self.transmits.push_back(repeat.transmit.clone());
                repeat.interval = (repeat.interval * 2).min(REPEAT_MOST);
                repeat.next = now + repeat.interval;
            }
        }
    }

    /// When something is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let repeats = self.dialogs.iter().filter_map(|dialog| dialog.repeat.as_ref());
        repeats.map(|repeat| repeat.next.min(repeat.until)).min()
    }

    /// What is to be sent outside any transaction.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What is to be said.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

impl Dialog {
    /// The dialog that a 2xx to our INVITE makes (RFC 3261 §12.1.2).
    fn ours(id: u64, sent: Sent, response: &Message) -> Dialog {
        let mut routes: Vec<String> = response.values(HeaderName::RecordRoute).map(str::to_owned).collect();
        routes.reverse();
        Dialog {
            id: Some(id),
            call_id: sent.call_id,
            local_tag: sent.tag,
            remote_tag: response.to_tag().unwrap_or_default().to_owned(),
            target: contact_of(response).unwrap_or_else(|| sent.uri.clone()),
            remote: sent.uri,
            routes,
            cseq: sent.cseq,
            acked: None,
            repeat: None,
        }
    }

    /// The dialog that our 2xx to their INVITE makes (RFC 3261 §12.1.1).
    fn theirs(request: &Message, tag: String, repeat: Repeat) -> Dialog {
        let remote = request.from().map(|from| from.uri.as_str().to_owned()).unwrap_or_default();
        Dialog {
            id: None,
            call_id: request.call_id().unwrap_or_default().to_owned(),
            local_tag: tag,
            remote_tag: request.from_tag().unwrap_or_default().to_owned(),
            target: contact_of(request).unwrap_or_else(|| remote.clone()),
            remote,
            routes: request.values(HeaderName::RecordRoute).map(str::to_owned).collect(),
            cseq: 0,
            acked: None,
            repeat: Some(repeat),
        }
    }

    /// True when `request`, coming from the other side, belongs here (RFC 3261 §12.2.2).
    fn is_of(&self, request: &Message) -> bool {
        request.call_id().is_ok_and(|call_id| call_id == self.call_id)
            && request.to_tag() == Some(self.local_tag.as_str())
            && request.from_tag().unwrap_or_default() == self.remote_tag
    }

    /// A request inside the dialog (RFC 3261 §12.2.1.1).
    fn request(&self, method: &Method, cseq: u32, flow: &Flow, desk: &mut Desk<'_>) -> Bytes {
        let mut builder = Builder::request(method, &self.target)
            .header(HeaderName::Via, via(flow, desk.rng))
            .header(HeaderName::MaxForwards, 70);
        for route in &self.routes {
            builder = builder.header(HeaderName::Route, route);
        }
        let to_tag = if self.remote_tag.is_empty() { "" } else { ";tag=" };
        builder
            .header(HeaderName::From, format_args!("<{}>;tag={}", desk.config.aor, self.local_tag))
            .header(HeaderName::To, format_args!("<{}>{to_tag}{}", self.remote, self.remote_tag))
            .header(HeaderName::CallId, &self.call_id)
            .header(HeaderName::CSeq, format_args!("{cseq} {}", method.as_str()))
            .finish()
    }
}

fn answered(wish: &Wish, response: &Message) -> Event {
    Event::Answered {
        id: wish.id,
        method: wish.method.clone(),
        status: response.status().unwrap_or(0),
        reason: response.reason().unwrap_or_default().to_owned(),
    }
}

/// Whom the user means: a URI, `user@domain`, or a user of our own domain.
fn recipient(to: &str, domain: &str) -> Option<String> {
    let uri = match (to.split_once(':'), to.contains('@')) {
        (Some(_), _) => to.to_owned(),
        (None, true) => format!("sip:{to}"),
        (None, false) => format!("sip:{to}@{domain}"),
    };
    Uri::parse(&uri).is_ok().then_some(uri)
}

/// The URI of the first Contact.
fn contact_of(message: &Message) -> Option<String> {
    let contacts = message.contacts().ok()?;
    contacts.list().first().map(|contact| contact.uri.as_str().to_owned())
}

/// A session description that is valid and moves no media.
fn description(flow: &Flow) -> String {
    let ip = flow.local.ip();
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 0 0 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio 9 RTP/AVP 0\r\na=inactive\r\n"
    )
}
