//! Plays a story on real sockets: the same commands, the same claims, another world.
//!
//! Each world has loopback addresses of its own, so that many stories run side by side:
//!
//! ```text
//!   127.S.0.L    server L of site S in the story's topology
//!   127.W.S.L    the same in world W = 10, 11, …
//!   127.W.200.D  its client number D        127.W.53.1  its name server
//! ```
//!
//! Time may pass faster than life: the brains are told so, and story time is theirs. What cannot be done to real
//! sockets without root (a one-way link, a frozen process) is refused by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use endpoint::{CacheEntry, Command, Config};
use net::certificates::Authority;
use net::clock::Tempo;
use net::drive_endpoint::{EndpointHost, Said};
use net::nic::Nic;
use net::zone::Data;
use resilience::homing::Service;
use resilience::topology::ServerName;
use sim::history::{History, Place, What};
use sim::story::{DnsLine, Setup, Verb, World};
use sim::witness;
use sip::method::Method;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::hosts::{Hosts, News, Plan, Told};

/// A story's world on real sockets. Lives on a thread of its own, beside the runtime that carries it.
pub(super) struct LiveWorld {
    runtime: Handle,
    setup: Setup,
    /// Second octet of every address.
    octet: u8,
    hosts: Hosts,
    ear: mpsc::UnboundedReceiver<News>,
    tempo: Tempo,
    began: Instant,
    devices: BTreeMap<String, LiveDevice>,
    history: History,
    /// Set when the user wants no more of it: time then passes at once.
    enough: watch::Receiver<bool>,
}

/// One device of one user.
struct LiveDevice {
    local: IpAddr,
    nic: Nic,
    /// From the first sign-in on.
    running: Option<EndpointHost>,
    /// What it keeps between two lives, and when it was kept.
    cache: Option<(Instant, CacheEntry)>,
    /// Who answered the last 200 to a REGISTER.
    accepted_by: Option<Place>,
    /// Numbers its calls and messages.
    requests: u64,
}

impl LiveWorld {
    /// Builds the world of `setup` at `127.octet`, all servers running, nobody signed in.
    pub(super) fn start(
        runtime: &Handle,
        mut setup: Setup,
        octet: u8,
        tempo: Tempo,
        authority: Arc<Authority>,
        data: &Path,
        enough: watch::Receiver<bool>,
    ) -> anyhow::Result<LiveWorld> {
        for pool in &mut setup.topology.pools {
            for server in &mut pool.servers {
                server.address = moved(server.address, octet)
                    .with_context(|| format!("{} is not on loopback", server.name))?;
            }
        }
        let topology = Arc::new(setup.topology.clone());
        let name_server = SocketAddr::new(Ipv4Addr::new(127, octet, 53, 1).into(), 0);
        let plan = Plan { topology, data: data.to_owned(), name_server, tempo, authority };
        let directory =
            |server: &ServerName| setup.directory(server).map(Arc::new).map_err(|why| anyhow!(why));
        let (hosts, ear) = runtime.block_on(Hosts::start(plan, directory))?;
        Ok(LiveWorld {
            runtime: runtime.clone(),
            setup,
            octet,
            hosts,
            ear,
            tempo,
            began: tempo.now(),
            devices: BTreeMap::new(),
            history: History::new(),
            enough,
        })
    }

    /// Ends it: clients first, so that they do not complain of dead servers.
    pub(super) fn stop(mut self) {
        self.devices.clear();
        let hosts = self.hosts;
        self.runtime.block_on(hosts.stop());
    }

    //------------ What is seen ------------------------------------------------

    /// Writes down what was heard.
    fn note(&mut self, news: News) {
        let at = news.at.saturating_duration_since(self.began);
        let seen = match news.what {
            Told::Server { place, event } => witness::server_event(&place, &event, None),
            Told::Device { name, said } => self.seen_of_device(&name, *said, news.at),
            Told::Missed(_) => Vec::new(),
        };
        for what in seen {
            self.history.add(at, what);
        }
    }

    fn seen_of_device(&mut self, name: &str, said: Said, at: Instant) -> Vec<What> {
        let place = |address: SocketAddr, tried: &str| self.hosts.place_of(address.ip(), tried);
        match said {
            Said::Opening(target) => {
                vec![What::Tried { user: name.to_owned(), place: place(target.address, &target.name) }]
            }
            Said::Sent { flow, bytes } => {
                witness::sent(name, &place(flow.remote, ""), &bytes).into_iter().collect()
            }
            Said::Heard { flow, bytes } => {
                let place = place(flow.remote, "");
                let what = witness::heard(name, &place, &bytes);
                if let Some(What::Answered { status: 200, .. }) = what
                    && let Some(device) = self.devices.get_mut(name)
                {
                    device.accepted_by = Some(place);
                }
                what.into_iter().collect()
            }
            Said::Event { event, .. } => witness::client_event(name, &event),
            Said::Remember(entry) => {
                if let Some(device) = self.devices.get_mut(name) {
                    device.cache = Some((at, entry));
                }
                Vec::new()
            }
            Said::Status(status) => {
                let accepted_by = self.devices.get(name).and_then(|device| device.accepted_by.clone());
                let place = accepted_by.filter(|_| status.service != Service::None);
                let now = self.history.standing(name);
                if (now.service, &now.place) == (status.service, &place) {
                    return Vec::new();
                }
                vec![What::Standing { user: name.to_owned(), service: status.service, place }]
            }
        }
    }

    fn drain(&mut self) {
        while let Ok(news) = self.ear.try_recv() {
            self.note(news);
        }
    }

    //------------ What is done ------------------------------------------------

    fn carry_out(&mut self, verb: &Verb) -> anyhow::Result<()> {
        match verb {
            Verb::SignIn(device) => self.sign_in(device),
            Verb::SignOut(device) => self.tell_device(device, Command::SignOut),
            Verb::Forget(device) => {
                let device = self.device(device)?;
                device.running = None;
                device.cache = None;
                device.accepted_by = None;
                Ok(())
            }
            Verb::Kill(name) => self.servers(name)?.iter().try_for_each(|name| self.hosts.kill_server(name)),
            Verb::Start(name) => {
                for name in self.servers(name)? {
                    self.runtime.block_on(self.hosts.start_server(&name))?;
                }
                Ok(())
            }
            Verb::Cut(name) => self.each_cable(name, Nic::cut),
            Verb::Restore(name) => self.each_cable(name, Nic::restore),
            Verb::Drain(name) => self.tell_servers(name, &server::Command::Drain),
            Verb::Undrain(name) => self.tell_servers(name, &server::Command::Undrain),
            Verb::StopUserServices(name) => self.tell_servers(name, &server::Command::StopUserServices),
            Verb::StartUserServices(name) => self.tell_servers(name, &server::Command::StartUserServices),
            Verb::FailOver(pool) => self.tell_backup(pool, &server::Command::FailOver(pool.as_str().into())),
            Verb::FailBack(pool) => self.tell_backup(pool, &server::Command::FailBack(pool.as_str().into())),
            Verb::DnsAdd(line) => self.dns_add(line),
            Verb::DnsRemove(name, target) => {
                let leads_there = |data: &Data| match (data, target) {
                    (_, None) => true,
                    (Data::Srv { target, .. }, Some(wanted)) => target.eq_ignore_ascii_case(wanted),
                    (_, Some(_)) => false,
                };
                self.hosts.name_server().edit(|zone| {
                    zone.remove(name, leads_there);
                });
                Ok(())
            }
            Verb::DnsDown => {
                self.hosts.name_server_nic().cut();
                Ok(())
            }
            Verb::DnsUp => {
                self.hosts.name_server_nic().restore();
                Ok(())
            }
            Verb::Call(from, to) => self.request(from, to, Method::Invite),
            Verb::Message(from, to) => self.request(from, to, Method::Message),
            Verb::Freeze(_)
            | Verb::Thaw(_)
            | Verb::Partition { .. }
            | Verb::Repair(_)
            | Verb::Link { .. }
            | Verb::DnsSlow(_)
            | Verb::FillDisk(_)
            | Verb::EmptyDisk(_) => Err(anyhow!("this can be done in the simulator only")),
        }
    }

    fn sign_in(&mut self, name: &str) -> anyhow::Result<()> {
        let user = self.setup.user_of(name).with_context(|| format!("no user is called `{name}`"))?;
        let aor = self.setup.aor(&user.name).map_err(|why| anyhow!(why))?;
        let mut config = Config::new(aor, user.password(), self.setup.topology.profile);
        config.timers = self.setup.topology.timers.clone();
        config.strict_names = !user.relaxed_names;
        config.survivable = !user.legacy;
        let now = self.tempo.now();
        let device = self.device(name)?;
        if device.running.is_none() {
            let (local, nic) = (device.local, device.nic.clone());
            let cache = device.cache.clone().and_then(|(kept, mut entry)| {
                entry.lifetime = entry.lifetime.checked_sub(now.saturating_duration_since(kept))?;
                Some(entry)
            });
            let _in_runtime = self.runtime.enter();
            let running = self.hosts.start_device(name, local, nic, config, cache, true)?;
            self.device(name)?.running = Some(running);
        }
        self.tell_device(name, Command::SignIn)
    }

    fn request(&mut self, from: &str, to: &str, method: Method) -> anyhow::Result<()> {
        let callee = self.setup.user_of(to).with_context(|| format!("no user is called `{to}`"))?;
        let to = self.setup.aor(&callee.name).map_err(|why| anyhow!(why))?.to_string();
        let device = self.device(from)?;
        device.requests += 1;
        let is_message = method == Method::Message;
        let command = Command::Request {
            id: device.requests,
            method,
            to,
            headers: Vec::new(),
            content_type: if is_message { "text/plain".to_owned() } else { String::new() },
            body: if is_message { "hello".into() } else { Bytes::new() },
        };
        self.tell_device(from, command)
    }

    fn dns_add(&mut self, line: &DnsLine) -> anyhow::Result<()> {
        let records: Vec<(&str, Data)> = match line {
            DnsLine::Srv { name, priority, weight, port, target } => {
                let (priority, weight, port, target) = (*priority, *weight, *port, target.clone());
                vec![(name, Data::Srv { priority, weight, port, target })]
            }
            DnsLine::Address { name, server } => {
                let servers = self.servers(server)?;
                let addresses = servers.iter().filter_map(|server| self.setup.topology.server(server));
                addresses.map(|(_, entry)| (name.as_str(), Data::Address(entry.address))).collect()
            }
        };
        self.hosts.name_server().edit(|zone| {
            for (name, data) in &records {
                // A name of another domain is ours to answer, too: stories may mislead.
                if zone.find(name, data.kind()) == net::zone::Found::NotOurs {
                    zone.add_origin(name);
                }
                zone.add(name, data.clone());
            }
        });
        Ok(())
    }

    fn tell_servers(&self, name: &str, command: &server::Command) -> anyhow::Result<()> {
        self.servers(name)?.iter().try_for_each(|name| self.hosts.command(name, command.clone()))
    }

    /// An operator's word about a pool goes to the servers of its backup.
    fn tell_backup(&self, pool: &str, command: &server::Command) -> anyhow::Result<()> {
        let found = self.setup.topology.pool(pool).with_context(|| format!("no pool is called `{pool}`"))?;
        let backup = found.backup.as_ref().with_context(|| format!("{pool} has no backup"))?;
        self.tell_servers(backup, command)
    }

    fn tell_device(&mut self, name: &str, command: Command) -> anyhow::Result<()> {
        let device = self.device(name)?;
        device.running.as_ref().with_context(|| format!("{name} has not signed in yet"))?.command(command);
        Ok(())
    }

    fn each_cable(&self, name: &str, deed: impl Fn(&Nic)) -> anyhow::Result<()> {
        if name == "dns" {
            deed(self.hosts.name_server_nic());
        } else if let Some(device) = self.devices.get(name) {
            deed(&device.nic);
        } else {
            self.servers(name)?.iter().filter_map(|name| self.hosts.nic(name)).for_each(deed);
        }
        Ok(())
    }

    fn servers(&self, name: &str) -> anyhow::Result<Vec<ServerName>> {
        Ok(self.hosts.find(name)?)
    }

    /// A device; set up when it is first named.
    fn device(&mut self, name: &str) -> anyhow::Result<&mut LiveDevice> {
        if self.setup.user_of(name).is_none() {
            return Err(anyhow!("no user is called `{name}`"));
        }
        let number = u8::try_from(self.devices.len() + 1).context("too many devices")?;
        let local = Ipv4Addr::new(127, self.octet, 200, number).into();
        Ok(self.devices.entry(name.to_owned()).or_insert_with(|| LiveDevice {
            local,
            nic: Nic::new(),
            running: None,
            cache: None,
            accepted_by: None,
            requests: 0,
        }))
    }
}

impl World for LiveWorld {
    fn act(&mut self, verb: &Verb) -> Result<(), String> {
        self.drain();
        self.carry_out(verb).map_err(|why| format!("{why:#}"))
    }

    fn run_until(&mut self, deadline: Duration, done: &mut dyn FnMut(&History) -> bool) {
        let end = self.began + deadline;
        self.drain();
        if done(&self.history) {
            return;
        }
        let runtime = self.runtime.clone();
        loop {
            if *self.enough.borrow() {
                return;
            }
            let (ear, enough, until) = (&mut self.ear, &mut self.enough, self.tempo.real(end));
            let heard = runtime.block_on(async {
                tokio::select! {
                    biased;
                    news = ear.recv() => news,
                    // Its sender lives as long as the stories.
                    _ = enough.changed() => None,
                    () = tokio::time::sleep_until(until.into()) => None,
                }
            });
            let is_over = heard.is_none() && self.tempo.now() >= end;
            if let Some(news) = heard {
                self.note(news);
                self.drain();
                if done(&self.history) {
                    return;
                }
            }
            if is_over {
                return;
            }
        }
    }

    fn now(&self) -> Duration {
        self.tempo.now().saturating_duration_since(self.began)
    }

    fn history(&self) -> &History {
        &self.history
    }
}

/// `127.S.x.L` as `127.octet.S.L`; `None` for what is not a loopback address of IPv4.
fn moved(address: IpAddr, octet: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) if address.is_loopback() => {
            let [_, site, _, last] = address.octets();
            Some(Ipv4Addr::new(127, octet, site, last).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_worlds_share_no_address() {
        let server: IpAddr = [127, 2, 0, 1].into();
        assert_eq!(moved(server, 10), Some([127, 10, 2, 1].into()));
        assert_eq!(moved(server, 11), Some([127, 11, 2, 1].into()));
        assert_eq!(moved([192, 0, 2, 1].into(), 10), None);
    }
}
