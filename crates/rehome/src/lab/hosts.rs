//! The machines of one laboratory: servers, a name server, and our clients, each with a cable to pull.
//!
//! Everything is real but the cables: sockets on loopback addresses, TLS under an authority of our own, DNS,
//! stores on disk. A machine's cable is its [`Nic`]; a machine that is killed is dropped.
//!
//! All that the machines say comes out of one ear as [`News`], in the order in which it was heard.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use endpoint::CacheEntry;
use net::certificates::Authority;
use net::clock::Tempo;
use net::dns::Resolver;
use net::dns_server::DnsServer;
use net::drive_endpoint::{self, EndpointHost, Said};
use net::drive_server::{self, ServerHost};
use net::nic::Nic;
use net::stream::Limits;
use net::tls::{Names, Tls};
use net::zone::Zone;
use resilience::topology::{Pool, ServerName, Topology};
use server::Directory;
use sim::history::Place;
use sip::digest::NonceKey;
use tokio::sync::{broadcast, mpsc};

/// What is to be built.
pub(crate) struct Plan {
    /// The deployment; every address in it a loopback one.
    pub(crate) topology: Arc<Topology>,
    /// Where each server keeps its store, below its name.
    pub(crate) data: PathBuf,
    /// Where DNS is answered; port 0 is any.
    pub(crate) name_server: SocketAddr,
    /// How fast time passes.
    pub(crate) tempo: Tempo,
    /// Who vouches for the servers.
    pub(crate) authority: Arc<Authority>,
}

/// Something a machine said.
pub(crate) struct News {
    /// When it was heard, on the laboratory's clock.
    pub(crate) at: Instant,
    /// By whom, and what.
    pub(crate) what: Told,
}

/// Who said what.
pub(crate) enum Told {
    /// One of our clients.
    Device {
        /// Its name.
        name: Arc<str>,
        /// What.
        said: Box<Said>,
    },
    /// A server.
    Server {
        /// Which.
        place: Place,
        /// What.
        event: Arc<server::Event>,
    },
    /// A server said more than could be heard.
    Missed(u64),
}

/// The machines, running.
pub(crate) struct Hosts {
    topology: Arc<Topology>,
    tempo: Tempo,
    name_server: DnsServer,
    name_server_nic: Nic,
    machines: BTreeMap<ServerName, Machine>,
    /// What clients believe.
    trust: Arc<Tls>,
    news: mpsc::UnboundedSender<News>,
}

/// One server's machine.
struct Machine {
    place: Place,
    nic: Nic,
    /// To start it again as it was.
    options: drive_server::Options,
    host: Option<Arc<ServerHost>>,
}

impl Hosts {
    /// Starts the name server and every server, `directory` giving each its user directory. Gives the machines, and
    /// the ear for what they say.
    pub(crate) async fn start(
        plan: Plan,
        directory: impl Fn(&ServerName) -> anyhow::Result<Arc<Directory>>,
    ) -> anyhow::Result<(Hosts, mpsc::UnboundedReceiver<News>)> {
        let name_server_nic = Nic::new();
        let mut zone = Zone::from_topology(&plan.topology);
        zone.set_name_server(plan.name_server.ip());
        let name_server = DnsServer::start(&name_server_nic, plan.name_server, zone).with_context(|| {
            format!("DNS cannot be answered on {}; is another lab running? End it first", plan.name_server)
        })?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|why| anyhow!("the system gives no randomness: {why}"))?;
        let trust = Tls::new(&plan.authority.belief(), Names::Strict).map_err(|why| anyhow!(why))?;

        let (news, ear) = mpsc::unbounded_channel();
        let mut hosts = Hosts {
            topology: plan.topology.clone(),
            tempo: plan.tempo,
            name_server,
            name_server_nic,
            machines: BTreeMap::new(),
            trust,
            news,
        };
        for pool in &plan.topology.pools {
            for entry in &pool.servers {
                let nic = Nic::new();
                let mut options = drive_server::Options::new(
                    plan.topology.clone(),
                    directory(&entry.name)?,
                    entry.name.clone(),
                    plan.data.join(entry.name.as_str()),
                    NonceKey::new(secret),
                );
                let address = entry.address.to_string();
                let mut names = vec![entry.name.as_str(), pool.name.as_str()];
                names.extend(plan.topology.domains.iter().map(String::as_str));
                // Phones that are given an address as their proxy check for that.
                names.push(&address);
                names.dedup();
                options.certificates = Some(plan.authority.material(&names).map_err(|why| anyhow!(why))?);
                options.nic = nic.clone();
                options.name_servers = vec![hosts.name_server.local()];
                options.tempo = plan.tempo;
                let place = Place { server: entry.name.to_string(), pool: pool.name.to_string() };
                hosts.machines.insert(entry.name.clone(), Machine { place, nic, options, host: None });
            }
        }
        for name in hosts.names() {
            hosts.start_server(&name).await?;
        }
        Ok((hosts, ear))
    }

    /// What is being run.
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// The name server, whose zone may be edited.
    pub(crate) fn name_server(&self) -> &DnsServer {
        &self.name_server
    }

    /// The name server's cable.
    pub(crate) fn name_server_nic(&self) -> &Nic {
        &self.name_server_nic
    }

    /// All servers, by name.
    pub(crate) fn names(&self) -> Vec<ServerName> {
        self.machines.keys().cloned().collect()
    }

    /// The servers that run.
    pub(crate) fn running(&self) -> Vec<Arc<ServerHost>> {
        self.machines.values().filter_map(|machine| machine.host.clone()).collect()
    }

    /// A server's cable.
    pub(crate) fn nic(&self, name: &ServerName) -> Option<&Nic> {
        self.machines.get(name).map(|machine| &machine.nic)
    }

    /// Starts a server that does not run.
    pub(crate) async fn start_server(&mut self, name: &ServerName) -> anyhow::Result<()> {
        let (news, tempo) = (self.news.clone(), self.tempo);
        let machine = self.machines.get_mut(name).with_context(|| format!("no server is called {name}"))?;
        if machine.host.is_some() {
            return Err(anyhow!("{name} runs already"));
        }
        let host = ServerHost::start(machine.options.clone()).await.map_err(|why| anyhow!(why))?;
        tokio::spawn(listen_to_server(host.events(), machine.place.clone(), tempo, news));
        machine.host = Some(Arc::new(host));
        Ok(())
    }

    /// Ends a server as `kill -9` does.
    pub(crate) fn kill_server(&mut self, name: &ServerName) -> anyhow::Result<()> {
        let machine = self.machines.get_mut(name).with_context(|| format!("no server is called {name}"))?;
        match machine.host.take() {
            Some(_killed) => Ok(()),
            None => Err(anyhow!("{name} does not run")),
        }
    }

    /// Tells a server something.
    pub(crate) fn command(&self, name: &ServerName, command: server::Command) -> anyhow::Result<()> {
        let host = self.machines.get(name).and_then(|machine| machine.host.as_ref());
        host.with_context(|| format!("{name} does not run"))?.command(command);
        Ok(())
    }

    /// The servers that `name` means: a server, a pool or a site, by its full name or by its first label.
    pub(crate) fn find(&self, name: &str) -> Result<Vec<ServerName>, Unknown> {
        find(&self.topology, name)
    }

    /// Which server is at an address; for an address nobody has, the name it was tried by.
    pub(crate) fn place_of(&self, address: IpAddr, name: &str) -> Place {
        let of = |machine: &Machine| {
            let own = self.topology.server(&machine.place.server).map(|(_, entry)| entry.address);
            own == Some(address)
        };
        match self.machines.values().find(|machine| of(machine)) {
            Some(machine) => machine.place.clone(),
            None => Place { server: name.to_owned(), pool: String::new() },
        }
    }

    /// Starts one of our clients at `local`. What it says is heard under `name`; `tap` adds what it sends and hears.
    pub(crate) fn start_device(
        &self,
        name: &str,
        local: IpAddr,
        nic: Nic,
        config: endpoint::Config,
        cache: Option<CacheEntry>,
        tap: bool,
    ) -> anyhow::Result<EndpointHost> {
        let resolver = Resolver::new(&[self.name_server.local()], Some(local), nic.clone());
        let options = drive_endpoint::Options {
            config,
            cache,
            nic,
            local: Some(local),
            tls: Some(self.trust.clone()),
            resolver: resolver.map_err(|why| anyhow!(why))?,
            limits: Limits::default(),
            tempo: self.tempo,
            tap,
        };
        let (client, ear) = EndpointHost::start(options);
        tokio::spawn(listen_to_device(ear, name.into(), self.tempo, self.news.clone()));
        Ok(client)
    }

    /// Ends everything in good order. Gives the number of changes that could not be saved.
    pub(crate) async fn stop(self) -> usize {
        let mut unsaved = 0;
        for machine in self.machines.into_values() {
            // Silent sockets cannot say goodbye.
            machine.nic.restore();
            // Somebody who still asks it something ends it when done, less politely.
            if let Some(host) = machine.host.and_then(Arc::into_inner) {
                unsaved += host.stop().await;
            }
        }
        unsaved
    }
}

async fn listen_to_device(
    mut ear: mpsc::UnboundedReceiver<Said>,
    name: Arc<str>,
    tempo: Tempo,
    news: mpsc::UnboundedSender<News>,
) {
    while let Some(said) = ear.recv().await {
        let what = Told::Device { name: name.clone(), said: Box::new(said) };
        if news.send(News { at: tempo.now(), what }).is_err() {
            return;
        }
    }
}

async fn listen_to_server(
    mut events: broadcast::Receiver<drive_server::Happening>,
    place: Place,
    tempo: Tempo,
    news: mpsc::UnboundedSender<News>,
) {
    loop {
        let what = match events.recv().await {
            Ok(happening) => Told::Server { place: place.clone(), event: happening.event },
            Err(broadcast::error::RecvError::Lagged(missed)) => Told::Missed(missed),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if news.send(News { at: tempo.now(), what }).is_err() {
            return;
        }
    }
}

//------------ Names ---------------------------------------------------------

/// A name that means nothing here, and those that do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unknown {
    name: String,
    known: Vec<String>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing here is called `{}`; there is {}", self.name, self.known.join(", "))
    }
}

impl std::error::Error for Unknown {}

/// The servers that `name` means in `topology`: a server, a pool or a site, by full name or by first label.
pub(crate) fn find(topology: &Topology, name: &str) -> Result<Vec<ServerName>, Unknown> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is = |full: &str| *full == *name || (!name.contains('.') && full.split('.').next() == Some(&*name));
    let servers =
        || topology.pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
    // A pool of one server often shares its name; either way the same servers are meant.
    let called = |sort: fn(&Pool, &ServerName) -> String| -> Vec<ServerName> {
        let found = servers().filter(|(pool, server)| is(&sort(pool, &server.name)));
        found.map(|(_, server)| server.name.clone()).collect()
    };
    let sorts: [fn(&Pool, &ServerName) -> String; 3] =
        [|_, server| server.to_string(), |pool, _| pool.name.to_string(), |pool, _| pool.site.to_string()];
    if let Some(found) = sorts.into_iter().map(called).find(|found| !found.is_empty()) {
        return Ok(found);
    }
    let mut known: Vec<String> = topology.sites.iter().map(|site| site.name.to_string()).collect();
    for (pool, server) in servers() {
        for name in [pool.name.to_string(), server.name.to_string()] {
            if !known.contains(&name) {
                known.push(name);
            }
        }
    }
    Err(Unknown { name, known })
}

#[cfg(test)]
mod tests {
    use resilience::topology::examples;

    use super::*;

    #[test]
    fn a_short_name_a_pool_and_a_site_mean_their_servers() {
        let topology = examples::two_sites_of_three();
        let found = |name: &str| {
            find(&topology, name).unwrap().iter().map(|server| server.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("a1"), ["a1.example.test"]);
        assert_eq!(found("B2.example.test."), ["b2.example.test"]);
        assert_eq!(found("pool1"), ["a1.example.test", "b1.example.test", "c1.example.test"]);
        assert_eq!(found("site2").len(), 3);
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let why = find(&examples::two_sites(), "fe3").unwrap_err();
        assert_eq!(
            why.to_string(),
            "nothing here is called `fe3`; there is site1, site2, fe1.example.test, fe2.example.test"
        );
    }
}
