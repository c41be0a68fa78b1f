//! One user, signed in until signed out: an endpoint in the real world behind a few async functions.
//!
//! ```text
//!   Client ── commands ──► net::drive_endpoint ──► sockets, DNS
//!     ▲                           │ Said
//!     │ answers, service, events  ▼
//!     └───────────────────── Secretary ──► cache file
//! ```
//!
//! The secretary is one task: it files what is to be remembered, hands answers to those who wait for them,
//! and passes on everything else.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use endpoint::{Command, Event, Service, Status};
use net::cache_file::CacheFile;
use net::drive_endpoint::{EndpointHost, Options, Said};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::builder::{Builder, SignInError};
use crate::request::{Answer, Incoming, Request, RequestError};

/// Events that may wait for a slow listener; older ones are lost to it.
const EVENTS_KEPT: usize = 1024;

/// Answers somebody waits for, by the number of the request.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Answer, RequestError>>>>>;

/// One signed-in user.
///
/// Dropping it ends it at once and leaves the registration to expire; [`sign_out`](Client::sign_out) is
/// the polite way.
pub struct Client {
    host: EndpointHost,
    service: watch::Receiver<Service>,
    events: broadcast::Sender<Event>,
    waiting: Waiting,
    next_id: AtomicU64,
    secretary: JoinHandle<()>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins to sign in `user` (`alice@example.test`, or a `sip:` URI) with `password`.
    pub fn builder(user: impl Into<String>, password: impl Into<String>) -> Builder {
        Builder::new(user.into(), password.into())
    }

    /// What the user has at this moment, and how that changes: `Full`, `Limited` on the backup pool,
    /// `None` while no registrar can be reached. `None` for good after [`Event::Rejected`].
    pub fn service(&self) -> watch::Receiver<Service> {
        self.service.clone()
    }

    /// Where the user is registered, since when and why.
    pub fn status(&self) -> Status {
        self.host.status()
    }

    /// Sends a request to somebody through the user's registrar and returns its final answer, whatever
    /// that is: 404 is an answer too. Challenges on the way are answered.
    ///
    /// # Errors
    ///
    /// [`RequestError`], when there is no answer. Nothing is sent twice: whether to try again is for the
    /// caller to say.
    pub async fn request(&self, request: Request) -> Result<Answer, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        let waiting = Forget { waiting: &self.waiting, id };
        self.host.command(request.command(id));
        let answer = answered.await.unwrap_or(Err(RequestError::SignedOut));
        drop(waiting);
        answer
    }

    /// Ends the call that an INVITE began: BYE (RFC 3261 §15). `id` is the one of its [`Answer`].
    pub fn hang_up(&self, id: u64) {
        self.host.command(Command::HangUp { id });
    }

    /// Requests that others send from now on.
    pub fn incoming(&self) -> Messages {
        Messages { events: self.events() }
    }

    /// Everything that happens from now on, a line each when printed.
    pub fn events(&self) -> Events {
        Events { receiver: self.events.subscribe() }
    }

    /// Takes the registration back (`Expires: 0`, RFC 3261 §10.2.2) and ends the client. Returns whether
    /// the registrar confirmed it, or there was nothing to take back; one that is dead is given 5 s, and
    /// lets the registration expire.
    pub async fn sign_out(self) -> bool {
        let mut events = self.events();
        self.host.command(Command::SignOut);
        while let Some(event) = events.next().await {
            if let Event::SignedOut { confirmed, .. } = event {
                return confirmed;
            }
        }
        false
    }

    pub(crate) async fn start(options: Options, file: Option<CacheFile>) -> Result<Client, SignInError> {
        let (host, ear) = EndpointHost::start(options);
        let (service, seen) = watch::channel(Service::None);
        let (events, mut heard) = broadcast::channel(EVENTS_KEPT);
        let waiting = Waiting::default();
        let secretary = Secretary { ear, service, events: events.clone(), waiting: waiting.clone(), file };
        let client = Client {
            host,
            service: seen,
            events,
            waiting,
            next_id: AtomicU64::new(1),
            secretary: tokio::spawn(secretary.run()),
        };
        client.host.command(Command::SignIn);
        loop {
            match heard.recv().await {
                Ok(Event::Service { to, .. }) if to != Service::None => return Ok(client),
                Ok(Event::Rejected { registrar, status, reason }) => {
                    return Err(SignInError::Rejected { registrar, status, reason });
                }
                Ok(_) => {}
                // So many attempts that some events were dropped: what counts will come again.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    if *client.service.borrow() != Service::None {
                        return Ok(client);
                    }
                }
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.secretary.abort();
    }
}

/// Forgets a request whose asker has gone away.
struct Forget<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Everything that happens to a client, as it happens.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; `None` once the client is gone. A listener that is slower by a thousand events
    /// misses the oldest.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Requests of others, as they come.
#[derive(Debug)]
pub struct Messages {
    events: Events,
}

impl Messages {
    /// The next request; `None` once the client is gone.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            if let Some(incoming) = Incoming::from_event(self.events.next().await?) {
                return Some(incoming);
            }
        }
    }
}

/// Files, hands out and passes on.
struct Secretary {
    ear: mpsc::UnboundedReceiver<Said>,
    service: watch::Sender<Service>,
    events: broadcast::Sender<Event>,
    waiting: Waiting,
    file: Option<CacheFile>,
}

impl Secretary {
    async fn run(mut self) {
        while let Some(said) = self.ear.recv().await {
            match said {
                Said::Remember(entry) => self.file_away(entry).await,
                Said::Event { event, .. } => self.pass_on(event),
                // Asked for where they are wanted, and never tapped here.
                Said::Status(_) | Said::Opening(_) | Said::Sent { .. } | Said::Heard { .. } => {}
            }
        }
        // The client has ended: nobody will answer any more.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn file_away(&self, entry: endpoint::CacheEntry) {
        let Some(file) = self.file.clone() else { return };
        let path = file.path().display().to_string();
        let stored = tokio::task::spawn_blocking(move || file.store(&entry)).await;
        if let Ok(Err(why)) = stored {
            tracing::warn!(path, %why, "endpoint cache not written; the next sign-in will ask DNS");
        }
    }

    fn pass_on(&self, event: Event) {
        match &event {
            Event::Service { to, .. } => {
                self.service.send_replace(*to);
            }
            Event::Answered { id, status, reason, .. } if *status >= 200 => {
                self.answer(*id, Ok(Answer { id: *id, status: *status, reason: reason.clone() }));
            }
            Event::Unanswered { id, why, .. } => self.answer(*id, Err((*why).into())),
            _ => {}
        }
        // Nobody may be listening, and that is fine.
        let _ = self.events.send(event);
    }

    fn answer(&self, id: u64, answer: Result<Answer, RequestError>) {
        let asker = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(asker) = asker {
            let _ = asker.send(answer); // The asker may have gone away.
        }
    }
}
