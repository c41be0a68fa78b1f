//! At which registrar am I, and what would make me move? The client's machine.
//!
//! ```text
//!                   exhausted
//!   Discovering ◄──────────────────── Registering ◄───────────────┐
//!     ▲   │     ────────────────────►   ▲     │                   │ redirected, refused,
//!     │   │    redirected, remembered   │     │ answered          │ flow lost, sent home
//!     │   │                             │     ▼                   │
//!     │   │        answered             │   ┌─────────────────┐   │
//!     │   └─────────────────────────────┼──►│ AtPrimary       │   │
//!     │                                 │   │   ▲  answered   ├───┘
//!     │ sign in             remembered  │   │   ▼             │
//!     └────────────── SignedOut ────────┘   │ AtBackup        │
//!                         ▲                 └─────────────────┘
//!                         └── from anywhere: sign out, rejected
//! ```
//!
//! *Discovering* is knowing no registrar, or none that works: DNS is asked and whoever it names is tried.
//! *Registering* is trying the registrars we know of.
//!
//! One **attempt** goes through the candidates until one answers 200. It begins with the registrars we know — primary,
//! then backup — and goes on with what discovery finds. A redirect puts its contacts in front, in falling q. A URI is tried
//! at most once per attempt and at most five redirects are followed, so no configuration can make it go round for ever.
//! When nobody is left, it waits ([`backoff`](crate::backoff)) and begins another. A registrar that said
//! `Retry-After` is left alone until then (half an hour at most), and is the first to be asked when the time has come.
//!
//! What is known of the registrars is where the profiles differ: in `lync2010` the backup is learned only from a 301 of this
//! session; in `rehome` every answer names them all, and they are remembered between sessions.
//!
//! Registrars are opaque names here: the caller writes each in one form (`sip:fe1.example.test:5061;transport=tls`), for two
//! spellings would be two registrars. It also leaves out what must not be followed (strict names). No SIP, no DNS, no clock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_core::Rng;

use crate::backoff::Backoff;
use crate::profile::{Profile, Seconds};

/// Redirects followed in one attempt; more than two is already odd.
pub const MAX_REDIRECTS: usize = 5;

/// Registrars believed of one answer or one redirect; a user has two, and a pool may list its servers. Whoever names
/// thousands would have us try them one by one, and remember them.
pub const MAX_NAMED: usize = 16;

//------------ The machine -----------------------------------------------------------------------------------------

/// Where the user is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum State {
    /// No registrar is known, or none that works: asking DNS, trying whom it names, or waiting to do so again.
    Discovering,
    /// Trying the registrars we know.
    Registering,
    /// Registered at the primary.
    AtPrimary,
    /// Registered at the backup.
    AtBackup,
    /// Not registered, and not trying to be.
    SignedOut,
}

impl State {
    /// All states, for tables.
    pub const ALL: [State; 5] =
        [State::Discovering, State::Registering, State::AtPrimary, State::AtBackup, State::SignedOut];

    /// Whether a registrar has us.
    pub fn is_registered(self) -> bool {
        match self {
            State::AtPrimary | State::AtBackup => true,
            State::Discovering | State::Registering | State::SignedOut => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Discovering => "Discovering",
            State::Registering => "Registering",
            State::AtPrimary => "AtPrimary",
            State::AtBackup => "AtBackup",
            State::SignedOut => "SignedOut",
        })
    }
}

/// What was noticed, or wished by the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sign {
    /// The user wants in, and we know no registrar.
    SignIn,
    /// The user wants in, or another attempt begins, and we know registrars to try.
    Remembered,
    /// 200, from the primary.
    AnsweredByPrimary,
    /// 200, from the backup.
    AnsweredByBackup,
    /// 301 to registrars not yet tried.
    Redirected,
    /// The registrar would not have us now (503 and the like), or did not answer.
    Refused,
    /// The registrar will never have us (403, 404).
    Rejected,
    /// The connection to the registrar was lost.
    FlowLost,
    /// Every registrar we know has been tried.
    Exhausted,
    /// The primary answers again while we are at the backup.
    PrimaryHeard,
    /// The registrar told us that our place is elsewhere.
    SentHome,
    /// The user wants out.
    SignOut,
}

impl Sign {
    /// All signs, for tables.
    pub const ALL: [Sign; 12] = [
        Sign::SignIn,
        Sign::Remembered,
        Sign::AnsweredByPrimary,
        Sign::AnsweredByBackup,
        Sign::Redirected,
        Sign::Refused,
        Sign::Rejected,
        Sign::FlowLost,
        Sign::Exhausted,
        Sign::PrimaryHeard,
        Sign::SentHome,
        Sign::SignOut,
    ];
}

/// The whole machine: every transition is a row here and nowhere else.
///
/// `PrimaryHeard` moves nobody: that the primary answers does not mean that it is there to stay. The backup has watched
/// it for `failback_interval`, and says when.
fn next(state: State, sign: Sign) -> State {
    use Sign::*;
    use State::*;
    match (state, sign) {
        (Discovering, SignIn | Refused | FlowLost | Exhausted | PrimaryHeard) => Discovering,
        (Discovering, Remembered | Redirected | SentHome) => Registering,
        (Discovering, AnsweredByPrimary) => AtPrimary,
        (Discovering, AnsweredByBackup) => AtBackup,
        (Discovering, Rejected | SignOut) => SignedOut,

        (Registering, SignIn | Remembered | Redirected) => Registering,
        (Registering, Refused | FlowLost | PrimaryHeard | SentHome) => Registering,
        (Registering, AnsweredByPrimary) => AtPrimary,
        (Registering, AnsweredByBackup) => AtBackup,
        (Registering, Exhausted) => Discovering,
        (Registering, Rejected | SignOut) => SignedOut,

        (AtPrimary, SignIn | Remembered | AnsweredByPrimary | Exhausted | PrimaryHeard) => AtPrimary,
        (AtPrimary, AnsweredByBackup) => AtBackup,
        (AtPrimary, Redirected | Refused | FlowLost | SentHome) => Registering,
        (AtPrimary, Rejected | SignOut) => SignedOut,

        (AtBackup, SignIn | Remembered | AnsweredByBackup | Exhausted | PrimaryHeard) => AtBackup,
        (AtBackup, AnsweredByPrimary) => AtPrimary,
        (AtBackup, Redirected | Refused | FlowLost | SentHome) => Registering,
        (AtBackup, Rejected | SignOut) => SignedOut,

        (SignedOut, SignIn) => Discovering,
        (SignedOut, Remembered) => Registering,
        (SignedOut, AnsweredByPrimary | AnsweredByBackup | Redirected | Refused | Rejected) => SignedOut,
        (SignedOut, FlowLost | Exhausted | PrimaryHeard | SentHome | SignOut) => SignedOut,
    }
}

/// What the user has of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Service {
    /// Not registered.
    #[default]
    None,
    /// Registered; presence, contacts and conferences are not to be had.
    Limited,
    /// Registered, and everything works.
    Full,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Service::None => "none",
            Service::Limited => "limited",
            Service::Full => "full",
        })
    }
}

//------------ What goes in and out --------------------------------------------------------------------------------

/// A registrar as a redirect or discovery names it.
#[derive(Clone, Debug)]
pub struct Registrar {
    /// Where it is, in the caller's one form.
    pub uri: Arc<str>,
    /// Its q in thousandths: 700 is `q=0.7`. Without one it counts as 1000 (RFC 3261 §20.10 leaves it open).
    pub q: u16,
}

impl Registrar {
    /// A registrar that nothing was said of.
    pub fn new(uri: &str) -> Registrar {
        Registrar { uri: uri.into(), q: 1000 }
    }

    /// A registrar with its q, in thousandths.
    pub fn with_q(uri: &str, q: u16) -> Registrar {
        Registrar { uri: uri.into(), q }
    }

    fn is(&self, uri: &str) -> bool {
        self.uri.eq_ignore_ascii_case(uri)
    }
}

/// Two registrars are one if their URIs are, q aside; host names do not mind case.
impl PartialEq for Registrar {
    fn eq(&self, other: &Registrar) -> bool {
        self.is(&other.uri)
    }
}

impl Eq for Registrar {}

/// What a 200 to REGISTER said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answered {
    /// Whether the registrar says that it is the user's primary. `None` from one that says neither: then it is, unless it
    /// is known to be the backup.
    pub is_primary: Option<bool>,
    /// Whether presence, contacts and conferences are to be had.
    pub user_services: bool,
    /// The user's registrars in order, where the answer names them; used in profile `rehome` alone.
    pub registrars: Vec<Registrar>,
}

/// Why a registrar did not take us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It cannot now (503 and its kin), and may have said when to come again.
    Busy {
        /// The time it named.
        retry_after: Option<Duration>,
    },
    /// It could not be reached.
    Unreachable,
    /// It was reached and did not answer in time.
    Silent,
    /// It redirected to registrars that must not be followed (outside the user's domain), or to none.
    Misdirected,
    /// It will never have this user: unknown, disabled, wrong password. Ends the attempt and signs out.
    Forever,
}

/// What the caller has to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Ask DNS, and report [`Homing::handle_discovered`].
    Discover,
    /// Register here, and report what came of it. The connection to any earlier registrar is not needed any more.
    Register(Arc<str>),
    /// Keep these registrars for the next session; in profile `lync2010` there is one, the primary.
    Remember(Vec<Registrar>),
    /// Take the registration back (`Expires: 0`) at this registrar.
    Unregister(Arc<str>),
}

/// Something worth a line in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The user is elsewhere.
    Moved {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// What made the difference.
        why: Sign,
    },
    /// The user has more of it, or less.
    ServiceChanged(Service),
    /// One candidate did not take us.
    TurnedAway {
        /// Who.
        at: Arc<str>,
        /// Why.
        why: Refusal,
    },
    /// A redirect led only to registrars just found dead or busy: time will tell, so we wait.
    RedirectedToDead {
        /// Who redirected.
        at: Arc<str>,
    },
    /// Redirects led back to where they came from; somebody's configuration is wrong.
    RedirectLoop {
        /// The registrars in the order tried.
        path: Vec<Arc<str>>,
    },
    /// More redirects than anybody needs; the attempt is over.
    TooManyRedirects {
        /// The registrars in the order tried.
        path: Vec<Arc<str>>,
    },
    /// The attempt is over; another begins after this wait.
    Waiting(Duration),
}

//------------ Homing ----------------------------------------------------------------------------------------------

/// The client's machine: who to try, in which order, and when again.
///
/// After any `handle_*` or command: take [`poll_step`](Self::poll_step) and [`poll_event`](Self::poll_event) until
/// `None`, then wait until [`poll_timeout`](Self::poll_timeout).
#[derive(Clone, Debug)]
pub struct Homing {
    /// Whose habits.
    profile: Profile,
    /// Where the user is.
    state: State,
    /// Since when.
    since: Instant,
    /// What the user has of it.
    service: Service,
    /// The registrars we know, primary first.
    registrars: Vec<Registrar>,
    /// What the caller was last asked to remember.
    remembered: Vec<Registrar>,
    /// Where we are registered, or are trying to be.
    current: Option<Arc<str>>,
    /// How far the attempt has come.
    attempt: Attempt,
    /// Those that named a time, and the time.
    not_before: Vec<(Arc<str>, Instant)>,
    /// Failed attempts in a row.
    backoff: Backoff,
    /// To be done.
    steps: VecDeque<Step>,
    /// What happened.
    events: VecDeque<Event>,
}

/// One way through the candidates.
#[derive(Clone, Debug, Default)]
struct Attempt {
    /// Still to be tried, first first.
    candidates: VecDeque<Registrar>,
    /// Tried, in order, and what came of it.
    visited: Vec<(Arc<str>, Outcome)>,
    /// Followed so far.
    redirects: usize,
    /// Where it stands.
    phase: Phase,
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    /// There is none: registered, or signed out.
    #[default]
    Over,
    /// The registrars we know are being tried; discovery has not been asked.
    Known,
    /// Discovery is asked.
    Asking,
    /// Discovery has answered; what it found is being tried.
    Found,
    /// Nobody is left; the next attempt begins then.
    Waiting(Instant),
}

/// What came of trying one registrar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// Nothing yet.
    Trying,
    /// It sent us elsewhere.
    Redirected,
    /// It was dead, silent or busy.
    Refused,
}

impl Homing {
    /// A user who is signed out.
    pub fn new(profile: Profile, now: Instant) -> Homing {
        Homing::with_backoff(profile, Backoff::of(profile), now)
    }

    /// The same with a back-off of one's own.
    pub fn with_backoff(profile: Profile, backoff: Backoff, now: Instant) -> Homing {
        Homing {
            profile,
            state: State::SignedOut,
            since: now,
            service: Service::None,
            registrars: Vec::new(),
            remembered: Vec::new(),
            current: None,
            attempt: Attempt::default(),
            not_before: Vec::new(),
            backoff,
            steps: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The user wants in. `remembered` is what the last session asked to keep, primary first; it may be empty.
    /// Does nothing if signed in, or trying to be.
    pub fn sign_in(&mut self, remembered: Vec<Registrar>, now: Instant) {
        if self.state != State::SignedOut {
            return;
        }
        self.backoff.reset();
        self.not_before.clear();
        self.remembered = remembered.clone();
        self.registrars = remembered;
        let sign = if self.registrars.is_empty() { Sign::SignIn } else { Sign::Remembered };
        self.notice(sign, now);
        self.begin_attempt(now);
    }

    /// The user wants out. A registration that stands is taken back.
    pub fn sign_out(&mut self, now: Instant) {
        let registered = self.state.is_registered();
        let current = self.current.take();
        self.end(Sign::SignOut, now);
        if let (true, Some(at)) = (registered, current) {
            self.steps.push_back(Step::Unregister(at));
        }
    }

    /// DNS has answered [`Step::Discover`]: these are the candidates in the order to try them; none, if it knows none or
    /// did not answer.
    pub fn handle_discovered(&mut self, found: Vec<Registrar>, now: Instant, rng: &mut dyn Rng) {
        if self.attempt.phase != Phase::Asking {
            return;
        }
        self.attempt.phase = Phase::Found;
        self.attempt.candidates.extend(found);
        if self.profile == Profile::Rehome {
            // A redirect may have put others in place of registrars that worked. They were good once, and all else has failed.
            self.attempt.candidates.extend(self.remembered.iter().cloned());
        }
        self.advance_or_wait(now, rng);
    }

    /// 200: to the REGISTER asked for, or to a refresh where we are.
    pub fn handle_answered(&mut self, answer: Answered, now: Instant) {
        let Some(current) = self.current.clone() else { return };
        let known_as_backup = self.registrars.iter().skip(1).any(|registrar| registrar.is(&current));
        let is_primary = answer.is_primary.unwrap_or(!known_as_backup);
        if self.has_lasted(now) {
            self.backoff.reset();
        }
        self.attempt = Attempt::default();
        self.not_before.clear();
        let mut named = answer.registrars;
        named.truncate(MAX_NAMED);
        self.learn(&current, is_primary, answer.is_primary.is_some(), named);
        self.notice(if is_primary { Sign::AnsweredByPrimary } else { Sign::AnsweredByBackup }, now);
        self.serve(if answer.user_services { Service::Full } else { Service::Limited });
    }

    /// 301 with these contacts, to the REGISTER asked for or to a refresh. Those that must not be followed are left out by
    /// the caller; none is as good as [`Refusal::Misdirected`].
    pub fn handle_redirected(&mut self, mut contacts: Vec<Registrar>, now: Instant, rng: &mut dyn Rng) {
        if contacts.is_empty() {
            return self.handle_refused(Refusal::Misdirected, now, rng);
        }
        let Some(current) = self.current.clone() else { return };
        contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q)); // stable: equals keep their order
        contacts.truncate(MAX_NAMED);
        self.registrars.clone_from(&contacts);
        self.leave(&current, Outcome::Redirected, now);
        self.attempt.redirects += 1;
        if self.attempt.redirects > MAX_REDIRECTS {
            self.events.push_back(Event::TooManyRedirects { path: self.attempt.path() });
            return self.wait(now, rng);
        }

        let fresh: Vec<_> =
            contacts.iter().filter(|to| self.attempt.outcome(&to.uri).is_none()).cloned().collect();
        if fresh.is_empty() {
            let dead = contacts.iter().any(|to| self.attempt.outcome(&to.uri) == Some(Outcome::Refused));
            self.events.push_back(if dead {
                Event::RedirectedToDead { at: current }
            } else {
                let back_to = contacts.first().map(|to| to.uri.clone());
                Event::RedirectLoop { path: self.attempt.path().into_iter().chain(back_to).collect() }
            });
            self.notice(Sign::Refused, now);
        } else {
            for contact in fresh.into_iter().rev() {
                self.attempt.candidates.push_front(contact);
            }
            self.notice(Sign::Redirected, now);
        }
        self.advance_or_wait(now, rng);
    }

    /// The registrar did not take us, or did not keep us at a refresh.
    pub fn handle_refused(&mut self, why: Refusal, now: Instant, rng: &mut dyn Rng) {
        let Some(current) = self.current.clone() else { return };
        self.events.push_back(Event::TurnedAway { at: current.clone(), why });
        match why {
            Refusal::Forever => return self.end(Sign::Rejected, now),
            Refusal::Busy { retry_after: Some(told) } => {
                let wait = self.backoff.obey(told.clamp(SHORTEST_RETRY_AFTER, LONGEST_RETRY_AFTER), rng);
                self.not_before.push((current.clone(), now + wait));
            }
            Refusal::Busy { retry_after: None }
            | Refusal::Unreachable
            | Refusal::Silent
            | Refusal::Misdirected => {}
        }
        if self.leave(&current, Outcome::Refused, now) {
            self.attempt.candidates.extend(self.registrars.iter().cloned());
        }
        self.notice(Sign::Refused, now);
        self.advance_or_wait(now, rng);
    }

    /// The connection to the registrar was lost, while registered or while trying.
    pub fn handle_flow_lost(&mut self, now: Instant, rng: &mut dyn Rng) {
        if !self.state.is_registered() {
            return self.handle_refused(Refusal::Unreachable, now, rng);
        }
        self.begin_anew(Sign::FlowLost, now, rng);
    }

    /// The primary answers again. Nobody moves: the backup decides, and says so.
    pub fn handle_primary_heard(&mut self, now: Instant) {
        self.notice(Sign::PrimaryHeard, now);
    }

    /// The registrar dropped our registration and perhaps named our place (NOTIFY with the preferred registrar).
    pub fn handle_sent_home(&mut self, preferred: Option<Registrar>, now: Instant, rng: &mut dyn Rng) {
        if !self.state.is_registered() {
            return;
        }
        if let Some(home) = preferred {
            self.registrars.retain(|known| *known != home);
            self.registrars.insert(0, home);
        }
        self.begin_anew(Sign::SentHome, now, rng);
    }

    /// Time has passed; harmless when nothing is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|until| until <= now) {
            if !self.registrars.is_empty() {
                self.notice(Sign::Remembered, now);
            }
            self.begin_attempt(now);
        }
    }

    /// What to do next, oldest first.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.attempt.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Over | Phase::Known | Phase::Asking | Phase::Found => None,
        }
    }

    /// Where the user is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What the user has of it.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Where we are registered, or are trying to be.
    pub fn current(&self) -> Option<&Arc<str>> {
        self.current.as_ref()
    }

    /// The registrars we know, primary first.
    pub fn registrars(&self) -> &[Registrar] {
        &self.registrars
    }

    /// The primary, if we know one.
    pub fn primary(&self) -> Option<&Registrar> {
        self.registrars.first()
    }

    //-------- Inside: what is known -------------------------------------------------------------------------------

    /// Keeps what a 200 from `current` taught us of the user's registrars. `is_said`: that it is the primary, or is not, is
    /// its own word and not our guess.
    fn learn(&mut self, current: &Arc<str>, is_primary: bool, is_said: bool, named: Vec<Registrar>) {
        let place = self.registrars.iter().position(|known| known.is(current));
        match (self.profile, is_primary, place) {
            (Profile::Rehome, _, _) if !named.is_empty() => self.registrars = named,
            (_, true, Some(place)) => self.registrars[..=place].rotate_right(1),
            // What we knew was of another home.
            (_, true, None) => self.registrars = vec![Registrar::new(current)],
            // A redirect put the backup first because it knew the primary to be lost.
            (_, false, Some(0)) if self.registrars.len() > 1 => self.registrars.swap(0, 1),
            (_, false, Some(_)) => {}
            (Profile::Rehome, false, None) => self.registrars.push(Registrar::new(current)),
            // The model's client learns its backup from a 301 and from nothing else.
            (Profile::Lync2010, false, None) => {}
        }
        let memory = match self.profile {
            Profile::Rehome => self.registrars.clone(),
            Profile::Lync2010 if is_primary && is_said => vec![Registrar::new(current)],
            Profile::Lync2010 => return,
        };
        if memory != self.remembered {
            self.remembered.clone_from(&memory);
            self.steps.push_back(Step::Remember(memory));
        }
    }

    /// Whether the registration has stood long enough to count as a success.
    fn has_lasted(&self, now: Instant) -> bool {
        self.state.is_registered() && now.saturating_duration_since(self.since) >= self.backoff.base()
    }

    //-------- Inside: the attempt ---------------------------------------------------------------------------------

    /// The registration is gone; begins an attempt with the registrars we know. At once, unless we had been taken only
    /// just now: a registrar that takes us and drops us again would otherwise be asked without end and without pause.
    fn begin_anew(&mut self, sign: Sign, now: Instant, rng: &mut dyn Rng) {
        let lasted = self.has_lasted(now);
        self.notice(sign, now);
        if lasted {
            self.backoff.reset();
            self.begin_attempt(now);
        } else {
            self.wait(now, rng);
        }
    }

    /// Begins an attempt: first those whose `Retry-After` is over, since they asked us to come now, then primary and backup.
    fn begin_attempt(&mut self, now: Instant) {
        let invited = self.not_before.iter().filter(|(_, at)| *at <= now).map(|(uri, _)| Registrar::new(uri));
        let candidates = invited.chain(self.registrars.iter().cloned()).collect();
        self.attempt = Attempt { candidates, phase: Phase::Known, ..Attempt::default() };
        self.forget_steps();
        let advanced = self.advance(now);
        assert!(advanced, "a new attempt can always ask discovery");
    }

    /// Gives the registrar up that we are at, or are trying. True if we were registered there, and so a new attempt begins.
    fn leave(&mut self, current: &Arc<str>, outcome: Outcome, now: Instant) -> bool {
        let was_registered = self.state.is_registered();
        if was_registered {
            if self.has_lasted(now) {
                self.backoff.reset();
            }
            self.attempt = Attempt { phase: Phase::Known, ..Attempt::default() };
        }
        self.attempt.visited.retain(|(uri, _)| !uri.eq_ignore_ascii_case(current));
        self.attempt.visited.push((current.clone(), outcome));
        self.current = None;
        was_registered
    }

    /// Tries the next candidate, or asks discovery for more. False if nobody is left.
    fn advance(&mut self, now: Instant) -> bool {
        self.current = None;
        while let Some(candidate) = self.attempt.candidates.pop_front() {
            let too_early = self.not_before.iter().any(|(uri, at)| candidate.is(uri) && *at > now);
            if too_early || self.attempt.outcome(&candidate.uri).is_some() {
                continue;
            }
            self.not_before.retain(|(uri, _)| !candidate.is(uri));
            self.attempt.visited.push((candidate.uri.clone(), Outcome::Trying));
            self.current = Some(candidate.uri.clone());
            self.steps.push_back(Step::Register(candidate.uri));
            return true;
        }
        match self.attempt.phase {
            Phase::Known => {
                self.attempt.phase = Phase::Asking;
                self.notice(Sign::Exhausted, now);
                self.steps.push_back(Step::Discover);
                true
            }
            Phase::Asking | Phase::Found | Phase::Waiting(_) | Phase::Over => false,
        }
    }

    fn advance_or_wait(&mut self, now: Instant, rng: &mut dyn Rng) {
        if !self.advance(now) {
            self.wait(now, rng);
        }
    }

    /// Ends the attempt without success; the next begins after the back-off, or when the first registrar that named a time
    /// may be asked again, whichever is sooner.
    fn wait(&mut self, now: Instant, rng: &mut dyn Rng) {
        let backed_off = now + self.backoff.wait(rng);
        let until = self.not_before.iter().map(|(_, at)| *at).fold(backed_off, Instant::min).max(now);
        self.current = None;
        self.attempt = Attempt { phase: Phase::Waiting(until), ..Attempt::default() };
        self.forget_steps();
        self.notice(Sign::Exhausted, now);
        self.events.push_back(Event::Waiting(until - now));
    }

    /// Signs out, for good or until told otherwise.
    fn end(&mut self, sign: Sign, now: Instant) {
        self.current = None;
        self.attempt = Attempt::default();
        self.forget_steps();
        self.notice(sign, now);
    }

    /// Drops what was asked of the caller and has been overtaken; what is to be remembered stays.
    fn forget_steps(&mut self) {
        self.steps.retain(|step| match step {
            Step::Remember(_) | Step::Unregister(_) => true,
            Step::Discover | Step::Register(_) => false,
        });
    }

    //-------- Inside: the state -----------------------------------------------------------------------------------

    fn notice(&mut self, sign: Sign, now: Instant) {
        let (from, to) = (self.state, next(self.state, sign));
        if from != to {
            self.state = to;
            self.since = now;
            self.events.push_back(Event::Moved { from, to, why: sign });
        }
        if !to.is_registered() {
            self.serve(Service::None);
        }
    }

    fn serve(&mut self, service: Service) {
        if self.service != service {
            self.service = service;
            self.events.push_back(Event::ServiceChanged(service));
        }
    }
}

impl Attempt {
    /// What came of trying `uri`; `None` if it has not been tried.
    fn outcome(&self, uri: &str) -> Option<Outcome> {
        self.visited.iter().find(|(tried, _)| tried.eq_ignore_ascii_case(uri)).map(|(_, outcome)| *outcome)
    }

    /// The registrars in the order tried.
    fn path(&self) -> Vec<Arc<str>> {
        self.visited.iter().map(|(uri, _)| uri.clone()).collect()
    }
}

/// No registrar can keep us away longer than this, whatever its `Retry-After` says: half an hour, the longest that RFC 5626
/// §4.5 has a client wait.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30 * 60);
/// Nor have us come back sooner: `Retry-After: 0` from one that is busy for ever would be asked without end.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);

//------------ In words --------------------------------------------------------------------------------------------

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sign::SignIn => "sign in",
            Sign::Remembered => "registrars known",
            Sign::AnsweredByPrimary => "200 from the primary",
            Sign::AnsweredByBackup => "200 from the backup",
            Sign::Redirected => "redirected",
            Sign::Refused => "refused",
            Sign::Rejected => "rejected",
            Sign::FlowLost => "flow lost",
            Sign::Exhausted => "all known registrars tried",
            Sign::PrimaryHeard => "primary heard",
            Sign::SentHome => "sent home",
            Sign::SignOut => "sign out",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Busy { retry_after: Some(after) } => {
                write!(f, "busy, come again in {}", Seconds(*after))
            }
            Refusal::Busy { retry_after: None } => f.write_str("busy"),
            Refusal::Unreachable => f.write_str("unreachable"),
            Refusal::Silent => f.write_str("no answer"),
            Refusal::Misdirected => f.write_str("redirected to nobody who may be followed"),
            Refusal::Forever => f.write_str("rejected"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Moved { from, to, why } => write!(f, "homing {from} → {to} ({why})"),
            Event::ServiceChanged(service) => write!(f, "service {service}"),
            Event::TurnedAway { at, why } => write!(f, "turned away by {at}: {why}"),
            Event::RedirectedToDead { at } => write!(f, "redirected by {at} to registrars just found dead"),
            Event::RedirectLoop { path } => write!(f, "redirect loop: {}", path.join(" → ")),
            Event::TooManyRedirects { path } => write!(f, "too many redirects: {}", path.join(" → ")),
            Event::Waiting(wait) => write!(f, "nobody left to try; again in {}", Seconds(*wait)),
        }
    }
}

#[cfg(test)]
mod tests;
