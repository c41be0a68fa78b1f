//! Clients of the simulated world: a brain, its connections, its cache.

use std::collections::BTreeMap;

use endpoint::{CacheEntry, Command, Config, Endpoint, Input, Output};
use resilience::homing::Service;
use sip::method::Method;
use sip::transport::{Flow, FlowLoss, Frame, Framer, Limits, Transport};

use super::{Occurrence, Simulated, rng};
use crate::history::{Place, What};
use crate::network::{Arrival, HostId};
use crate::witness;

/// One device of one user.
pub(super) struct Client {
    /// Its name in the story.
    pub(super) device: String,
    /// The brain, from the first sign-in on.
    pub(super) brain: Option<Endpoint>,
    /// What it keeps between two lives, and when it was kept.
    cache: Option<(std::time::Instant, CacheEntry)>,
    /// The alarm that counts.
    pub(super) alarm: u64,
    /// Number of this life.
    pub(super) birth: u64,
    /// Streams being cut into messages.
    framers: BTreeMap<Flow, Framer>,
    /// Who answered the last 200 to a REGISTER.
    accepted_by: Option<Place>,
    /// What was last noted in the history.
    noted: (Service, Option<Place>),
    /// Numbers its calls and messages.
    requests: u64,
}

impl Client {
    pub(super) fn new(device: &str) -> Self {
        Client {
            device: device.to_owned(),
            brain: None,
            cache: None,
            alarm: 0,
            birth: 0,
            framers: BTreeMap::new(),
            accepted_by: None,
            noted: (Service::None, None),
            requests: 0,
        }
    }
}

impl Simulated {
    /// Starts the client if it is not running, and tells it to sign in.
    pub(super) fn sign_in(&mut self, host: HostId) -> Result<(), String> {
        let birth = self.number();
        let (now, seed) = (self.now, self.seed);
        let Some(client) = self.clients.get_mut(&host) else { return Err("not a client".to_owned()) };
        if client.brain.is_none() {
            let user = self.setup.user_of(&client.device);
            let user = user.ok_or_else(|| format!("no user is called `{}`", client.device))?;
            let aor = self.setup.aor(&user.name)?;
            let mut config = Config::new(aor, user.password(), self.setup.topology.profile);
            config.timers = self.setup.topology.timers.clone();
            config.strict_names = !user.relaxed_names;
            config.survivable = !user.legacy;
            let cache = client.cache.clone().and_then(|(kept, mut entry)| {
                entry.lifetime = entry.lifetime.checked_sub(now.saturating_duration_since(kept))?;
                Some(entry)
            });
            let chance = rng(seed ^ birth, &client.device);
            client.brain = Some(Endpoint::new(config, cache, chance, now));
            client.birth = birth;
            client.framers.clear();
        }
        self.tell_client(host, Input::Told(Command::SignIn));
        Ok(())
    }

    /// Tells a client something; it must have been started.
    pub(super) fn command_client(&mut self, host: HostId, command: Command) -> Result<(), String> {
        match self.clients.get(&host) {
            Some(client) if client.brain.is_some() => {
                self.tell_client(host, Input::Told(command));
                Ok(())
            }
            Some(client) => Err(format!("{} has not signed in yet", client.device)),
            None => Err("not a client".to_owned()),
        }
    }

    /// Ends the client's program and empties its cache.
    pub(super) fn forget(&mut self, host: HostId) {
        let now = self.now;
        if let Some(client) = self.clients.get_mut(&host) {
            let device = client.device.clone();
            *client = Client::new(&device);
        }
        self.network.kill(host, now, &mut self.agenda);
        self.network.start(host);
        self.note_standing(host);
    }

    /// Sends a request from one user to another.
    pub(super) fn request(&mut self, host: HostId, method: Method, to: String) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(&host) else { return Err("not a client".to_owned()) };
        client.requests += 1;
        let is_message = method == Method::Message;
        let command = Command::Request {
            id: client.requests,
            method,
            to,
            headers: Vec::new(),
            content_type: if is_message { "text/plain".to_owned() } else { String::new() },
            body: if is_message { "hello".into() } else { bytes::Bytes::new() },
        };
        self.command_client(host, command)
    }

    /// Hands one input to the client's brain and carries out what it says.
    pub(super) fn tell_client(&mut self, host: HostId, input: Input) {
        let now = self.now;
        let Some(brain) = self.clients.get_mut(&host).and_then(|client| client.brain.as_mut()) else {
            return;
        };
        brain.handle_input(input, now);
        loop {
            let Some(client) = self.clients.get_mut(&host) else { return };
            let Some(brain) = client.brain.as_mut() else { return };
            let birth = client.birth;
            match brain.poll_output() {
                Output::Persist(entry) => client.cache = Some((now, entry)),
                Output::Transmit { flow, bytes } => {
                    let device = client.device.clone();
                    let place = self.place_of(flow.remote, "");
                    if let Some(what) = witness::sent(&device, &place, &bytes) {
                        self.note(what);
                    }
                    self.network.transmit(host, flow, bytes, now, &mut self.agenda);
                }
                Output::Ping { flow } => {
                    self.network.transmit(
                        host,
                        flow,
                        bytes::Bytes::from_static(b"\r\n\r\n"),
                        now,
                        &mut self.agenda,
                    );
                }
                Output::Open { ticket, target } => {
                    let user = client.device.clone();
                    let place = self.place_of(target.address, &target.name);
                    self.note(What::Tried { user, place });
                    self.network.open(host, ticket, &target, now, &mut self.agenda);
                }
                Output::Close { flow } => {
                    client.framers.remove(&flow);
                    self.network.close(host, flow, now, &mut self.agenda);
                }
                Output::Resolve(query) => self.ask_dns(host, birth, query),
                Output::Event(event) => {
                    let device = client.device.clone();
                    for what in witness::client_event(&device, &event) {
                        self.note(what);
                    }
                    self.log(&device, &event.to_string());
                }
                Output::Timeout(at) => {
                    let alarm = self.number();
                    if let Some(client) = self.clients.get_mut(&host) {
                        client.alarm = alarm;
                    }
                    if let Some(at) = at {
                        self.agenda.arrange(at.max(now), Occurrence::Wake { host, alarm });
                    }
                    break;
                }
            }
        }
        self.note_standing(host);
    }

    /// Writes down where the user stands, if that has changed.
    fn note_standing(&mut self, host: HostId) {
        let Some(client) = self.clients.get_mut(&host) else { return };
        let service = client.brain.as_ref().map_or(Service::None, Endpoint::service);
        let place = if service == Service::None { None } else { client.accepted_by.clone() };
        if client.noted != (service, place.clone()) {
            client.noted = (service, place.clone());
            let user = client.device.clone();
            self.note(What::Standing { user, service, place });
        }
    }

    pub(super) fn arrive_at_client(&mut self, host: HostId, arrival: Arrival) {
        match arrival {
            // Nobody connects to a client.
            Arrival::Accepted { .. } => {}
            Arrival::Opened { ticket, flow, .. } => {
                if let Some(client) = self.clients.get_mut(&host).filter(|_| flow.transport != Transport::Udp)
                {
                    client.framers.insert(flow, Framer::new(Limits::default()));
                }
                self.tell_client(host, Input::Opened { ticket, flow });
            }
            Arrival::OpenFailed { ticket, why } => self.tell_client(host, Input::OpenFailed { ticket, why }),
            Arrival::Lost { flow, why } => {
                if let Some(client) = self.clients.get_mut(&host) {
                    client.framers.remove(&flow);
                }
                self.tell_client(host, Input::FlowLost { flow, why });
            }
            Arrival::Bytes { flow, bytes } if flow.transport == Transport::Udp => {
                self.message_at_client(host, flow, bytes)
            }
            Arrival::Bytes { flow, bytes } => {
                let Some(framer) =
                    self.clients.get_mut(&host).and_then(|client| client.framers.get_mut(&flow))
                else {
                    return;
                };
                framer.push(&bytes);
                loop {
                    let framer = self.clients.get_mut(&host).and_then(|client| client.framers.get_mut(&flow));
                    match framer.map(Framer::next) {
                        Some(Ok(Some(Frame::Message(bytes)))) => self.message_at_client(host, flow, bytes),
                        Some(Ok(Some(Frame::Ping | Frame::Pong))) => {
                            self.tell_client(host, Input::Pong { flow })
                        }
                        Some(Ok(None)) | None => break,
                        Some(Err(_)) => {
                            self.network.close(host, flow, self.now, &mut self.agenda);
                            if let Some(client) = self.clients.get_mut(&host) {
                                client.framers.remove(&flow);
                            }
                            self.tell_client(host, Input::FlowLost { flow, why: FlowLoss::Dropped });
                            break;
                        }
                    }
                }
            }
        }
    }

    fn message_at_client(&mut self, host: HostId, flow: Flow, bytes: bytes::Bytes) {
        let place = self.place_of(flow.remote, "");
        if let Some(client) = self.clients.get_mut(&host) {
            let what = witness::heard(&client.device, &place, &bytes);
            if let Some(What::Answered { status: 200, .. }) = what {
                client.accepted_by = Some(place);
            }
            if let Some(what) = what {
                self.note(what);
            }
        }
        self.tell_client(host, Input::Received { flow, bytes });
    }
}
