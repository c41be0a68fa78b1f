//! What happened to one client, as a line a person can read.
//!
//! `Display` is the line of the log and of story files, without time and user, which the world puts in
//! front; [`Event::name`] is the metric. The text holds nothing that differs between two runs of one
//! story: no ports chosen by the system, no tags, no branches.
//!
//! ```text
//! discover  SRV _sipinternaltls._tcp.example.test → fe1.example.test
//! REGISTER  fe1.example.test  301 fe2.example.test q=0.7, fe1.example.test q=0.3
//! homing    Discovering → Registering (redirected)
//! REGISTER  fe2.example.test  200 expires 600 s
//! homing    Registering → AtPrimary (answered)
//! service   None → Full
//! ```

use std::fmt;
use std::time::Duration;

use resilience::homing::{Service, State};
use resilience::profile::Seconds;
use sip::locate::{DnsFailure, Query};
use sip::method::Method;
use sip::transport::FlowLoss;

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// One question to DNS and what came of it.
    Discovered {
        /// The question.
        question: Query,
        /// The host names or addresses found, in the order in which they will be tried.
        found: Found,
    },
    /// The endpoint cache was turned to.
    Recalled {
        /// The registrars it holds, in order.
        registrars: Vec<String>,
    },
    /// A server was named that we may not use.
    NameRefused {
        /// Its name.
        name: String,
        /// Why not.
        why: NameRefusal,
    },
    /// A connection could not be had.
    Unreached {
        /// The registrar's host name.
        registrar: String,
        /// Why not.
        why: FlowLoss,
    },
    /// A registrar accepted us: a new registration.
    Registered(Accepted),
    /// A registrar accepted us again, in time.
    Refreshed(Accepted),
    /// A registrar sent us elsewhere.
    Redirected {
        /// Who.
        registrar: String,
        /// The status, 301 as a rule.
        status: u16,
        /// Whereto: host name and q-value in thousandths, in falling order.
        contacts: Vec<(String, u16)>,
    },
    /// A registrar answered, and not with what we wanted; another may.
    Refused {
        /// Who.
        registrar: String,
        /// The status.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// How long it asked us to stay away.
        retry_after: Option<Duration>,
    },
    /// A registrar did not answer in time.
    Unanswering {
        /// Who.
        registrar: String,
        /// How long it was given.
        waited: Duration,
    },
    /// A registrar redirected us to registrars that have just been found dead: time will tell.
    RedirectedToDead {
        /// Who.
        registrar: String,
    },
    /// More redirects were followed than anybody needs. Shows the whole way.
    TooManyRedirects {
        /// The hosts in the order in which they were asked.
        path: Vec<String>,
    },
    /// A redirect led nowhere new. Shows the whole way.
    RedirectLoop {
        /// The hosts in the order in which they were asked, the one that closes the loop last.
        path: Vec<String>,
    },
    /// No registrar accepts this user with this password. Not tried again.
    Rejected {
        /// Who said so.
        registrar: String,
        /// The status.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// The client's machine moved.
    Homing {
        /// From.
        from: State,
        /// To.
        to: State,
        /// Because.
        why: &'static str,
    },
    /// What the user gets has changed.
    Service {
        /// Before.
        from: Service,
        /// Now.
        to: Service,
    },
    /// Everything known was tried; the next round begins later.
    Waiting {
        /// How long.
        wait: Duration,
    },
    /// The flow to our registrar is gone.
    FlowLost {
        /// The registrar.
        registrar: String,
        /// How we know.
        why: FlowLoss,
        /// For [`FlowLoss::Silent`]: how long nothing was heard after asking.
        silent: Option<Duration>,
    },
    /// Our registrar told us something about our registration (`Event: registration-notify`).
    Notified {
        /// Who.
        registrar: String,
        /// The body: `deregistered;event=preferred-registrar-change`.
        what: String,
        /// The registrar to go to (`P-Preferred-Registrar`).
        preferred: Option<String>,
    },
    /// Signing out was answered, or was not in time.
    SignedOut {
        /// The registrar, if we were at any.
        registrar: Option<String>,
        /// False when the registrar never confirmed it: the binding lives there until it expires.
        confirmed: bool,
    },
    /// Somebody sent us a request; it has been answered.
    Request {
        /// The verb.
        method: Method,
        /// The URI in its From.
        from: String,
        /// What we answered.
        status: u16,
        /// The type of its body.
        content_type: String,
        /// Its body.
        body: Vec<u8>,
    },
    /// One of our requests has its final answer, or an INVITE a provisional one.
    Answered {
        /// The caller's number for it.
        id: u64,
        /// The verb.
        method: Method,
        /// The status.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// One of our requests will have no answer.
    Unanswered {
        /// The caller's number for it.
        id: u64,
        /// The verb.
        method: Method,
        /// Why.
        why: Unanswered,
    },
    /// A call is over because the other side, or our own [`HangUp`](crate::Command::HangUp), ended it.
    HungUp {
        /// The URI of the other side.
        with: String,
    },
    /// A message could not be used; says what was expected where.
    Malformed {
        /// The parser's sentence.
        why: String,
    },
}

/// What a 200 to REGISTER told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// Who.
    pub registrar: String,
    /// The expiry granted.
    pub expires_in: Duration,
    /// Whether the server said that it is our primary registrar; `None` when it said nothing.
    pub primary: Option<bool>,
    /// True when user services are unavailable there.
    pub limited: bool,
}

/// What came of one question to DNS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    /// These names or addresses.
    Names(Vec<String>),
    /// The name does not exist, or has no such records.
    Nothing,
    /// No answer worth the name.
    Failed(DnsFailure),
}

/// Why a server that was named may not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameRefusal {
    /// It lies outside the user's SIP domain.
    OutsideDomain,
    /// It is to be reached by a transport we may not use.
    Transport,
    /// It is no SIP URI we could follow.
    NoUri,
}

/// Why a request of ours will have no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unanswered {
    /// We are registered nowhere, so there is nobody to send it through.
    NotRegistered,
    /// Time ran out (RFC 3261 timers B and F).
    TimedOut,
    /// The flow was lost before the answer came.
    FlowLost,
    /// Its recipient is no SIP address.
    BadRecipient,
}

impl Event {
    /// The name of the metric that counts these.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Discovered { .. } => "discovered",
            Event::Recalled { .. } => "recalled",
            Event::NameRefused { .. } => "name_refused",
            Event::Unreached { .. } => "unreached",
            Event::Registered(_) => "registered",
            Event::Refreshed(_) => "refreshed",
            Event::Redirected { .. } => "redirected",
            Event::Refused { .. } => "refused",
            Event::Unanswering { .. } => "unanswering",
            Event::RedirectedToDead { .. } => "redirected_to_dead",
            Event::TooManyRedirects { .. } => "too_many_redirects",
            Event::RedirectLoop { .. } => "redirect_loop",
            Event::Rejected { .. } => "rejected",
            Event::Homing { .. } => "homing",
            Event::Service { .. } => "service",
            Event::Waiting { .. } => "waiting",
            Event::FlowLost { .. } => "flow_lost",
            Event::Notified { .. } => "notified",
            Event::SignedOut { .. } => "signed_out",
            Event::Request { .. } => "request",
            Event::Answered { .. } => "answered",
            Event::Unanswered { .. } => "unanswered",
            Event::HungUp { .. } => "hung_up",
            Event::Malformed { .. } => "malformed",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Discovered { question, found } => write!(f, "discover  {question} → {found}"),
            Event::Recalled { registrars } => write!(f, "cache     {}", registrars.join(", ")),
            Event::NameRefused { name, why } => write!(f, "refused   {name} ({why})"),
            Event::Unreached { registrar, why } => write!(f, "connect   {registrar}  {why}"),
            Event::Registered(accepted) => write!(f, "REGISTER  {accepted}"),
            Event::Refreshed(accepted) => write!(f, "refresh   {accepted}"),
            Event::Redirected { registrar, status, contacts } => {
                write!(f, "REGISTER  {registrar}  {status} ")?;
                for (at, (name, q)) in contacts.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{name} q={}", Thousandths(*q))?;
                }
                Ok(())
            }
            Event::Refused { registrar, status, reason, retry_after } => {
                write!(f, "REGISTER  {registrar}  {status} {reason}")?;
                match retry_after {
                    Some(wait) => write!(f, ", retry after {} s", wait.as_secs()),
                    None => Ok(()),
                }
            }
            Event::Unanswering { registrar, waited } => {
                write!(f, "REGISTER  {registrar}  no answer in {}", Seconds(*waited))
            }
            Event::RedirectedToDead { registrar } => {
                write!(f, "redirect  {registrar} names only registrars just found dead")
            }
            Event::TooManyRedirects { path } => write!(f, "loop      {}, and on", path.join(" → ")),
            Event::RedirectLoop { path } => write!(f, "loop      {}", path.join(" → ")),
            Event::Rejected { registrar, status, reason } => {
                write!(f, "rejected  {registrar}  {status} {reason}")
            }
            Event::Homing { from, to, why } => write!(f, "homing    {from} → {to} ({why})"),
            Event::Service { from, to } => write!(f, "service   {from} → {to}"),
            Event::Waiting { wait } => write!(f, "waiting   {}", Seconds(*wait)),
            Event::FlowLost { registrar, why, silent } => match silent {
                Some(silent) => write!(f, "lost      {registrar}  ({why} for {})", Seconds(*silent)),
                None => write!(f, "lost      {registrar}  ({why})"),
            },
            Event::Notified { registrar, what, preferred } => {
                write!(f, "NOTIFY    {registrar}  {what}")?;
                match preferred {
                    Some(preferred) => write!(f, " → {preferred}"),
                    None => Ok(()),
                }
            }
            Event::SignedOut { registrar, confirmed } => {
                let confirmed = if *confirmed { "confirmed" } else { "not confirmed" };
                match registrar {
                    Some(registrar) => write!(f, "sign-out  {registrar}  {confirmed}"),
                    None => write!(f, "sign-out  was registered nowhere"),
                }
            }
            Event::Request { method, from, status, .. } => {
                write!(f, "{:<9} from {from}  {status}", method.as_str())
            }
            Event::Answered { method, status, reason, .. } => {
                write!(f, "{:<9} {status} {reason}", method.as_str())
            }
            Event::Unanswered { method, why, .. } => write!(f, "{:<9} no answer ({why})", method.as_str()),
            Event::HungUp { with } => write!(f, "call      with {with} is over"),
            Event::Malformed { why } => write!(f, "malformed {why}"),
        }
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  200 expires {} s", self.registrar, self.expires_in.as_secs())?;
        if self.limited { f.write_str(", limited") } else { Ok(()) }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Names(names) => f.write_str(&names.join(", ")),
            Found::Nothing => f.write_str("nothing"),
            Found::Failed(failure) => write!(f, "{failure}"),
        }
    }
}

impl fmt::Display for NameRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameRefusal::OutsideDomain => "outside the SIP domain",
            NameRefusal::Transport => "by a transport that is not allowed",
            NameRefusal::NoUri => "not a SIP URI",
        })
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unanswered::NotRegistered => "not registered",
            Unanswered::TimedOut => "timed out",
            Unanswered::FlowLost => "the flow was lost",
            Unanswered::BadRecipient => "no such address",
        })
    }
}

/// A q-value as SIP writes it: `0.7`, `1`, `0.25`.
struct Thousandths(u16);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, format!("{:03}", self.0 % 1000));
        match rest.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            rest => write!(f, "{whole}.{rest}"),
        }
    }
}
