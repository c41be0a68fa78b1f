//! The lab one types: the servers of a topology, three users signed in, and whatever is done to them from outside.
//!
//! ```text
//!   build ─► sign in ─► screen ─► events … ─► (Ctrl-C, --for) ─► sign out ─► stop
//!                                   ▲
//!        rehome lab cut, restore ───┘ HTTP, as for any server
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use endpoint::{Command, Config, Service};
use net::certificates::Authority;
use net::clock::{self, Tempo};
use net::directory::{DirectoryFile, Watch};
use net::drive_endpoint::{EndpointHost, Said};
use net::nic::Nic;
use resilience::profile::{Profile, Timers};
use resilience::topology::{PoolName, Role, ServerName, Topology};
use serde_json::json;
use server::directory::User;
use sip::digest::{Algorithm, Ha1};
use sip::uri::AddressOfRecord;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::folder::{self, Folder};
use super::hosts::{self, Hosts, News, Plan, Told};
use super::screen::{self, Screen, Standing};
use crate::admin::{self, Desk};
use crate::command::{Trouble, read_topology};
use crate::config::topology as topology_file;
use crate::output::Output;

/// What is run unless a topology is named.
const TWO_SITES: &str = include_str!("../../../../lab/two-sites.toml");

/// Our own users, each with the number of the registrar pool they are homed on.
const SIGNED_IN: [(&str, usize); 3] = [("alice", 0), ("bob", 1), ("carol", 0)];

/// For the visitor's own phone.
pub(super) const SPARE: &str = "dave";

/// How long the first sign-ins may take before the screen says what is missing.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long signing out may take.
const FAREWELL: Duration = Duration::from_secs(4);

/// How soon a change of the user directory is in use.
const DIRECTORY_POLL: Duration = Duration::from_secs(1);

/// What was asked for.
pub(crate) struct Wishes {
    /// Another topology than the two sites.
    pub(crate) topology: Option<PathBuf>,
    /// Another profile than the topology's, with its own intervals.
    pub(crate) profile: Option<Profile>,
    /// Another folder than the usual one.
    pub(crate) folder: Option<PathBuf>,
    /// Where commands find us.
    pub(crate) admin: SocketAddr,
    /// End by itself after this long.
    pub(crate) lasting: Option<Duration>,
}

/// One of our users.
pub(super) struct Person {
    /// `alice`
    pub(super) name: &'static str,
    /// The address-of-record.
    pub(super) aor: AddressOfRecord,
    /// The pool they are homed on.
    pub(super) home: PoolName,
}

/// Runs the lab until it is told to stop.
pub(crate) async fn run(wishes: Wishes, output: Output) -> Result<(), Trouble> {
    let began = clock::now();
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
    let mut lab =
        Lab::build(wishes.topology, wishes.profile, wishes.folder, wishes.admin, began, output).await?;
    let over = async move {
        match wishes.lasting {
            Some(lasting) => tokio::time::sleep(lasting).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);

    // Told to end before it has begun properly: it still ends in good order.
    let is_early = tokio::select! {
        outcome = lab.sign_in() => { outcome?; false }
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    };
    if !is_early {
        lab.introduce().await?;
        let mut poll = tokio::time::interval(DIRECTORY_POLL);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = &mut over => break,
                _ = poll.tick() => lab.follow_directory(),
                heard = lab.ear.recv() => lab.hear(heard)?,
                Some(deed) = lab.deeds.recv() => lab.screen.tell_deed(&deed)?,
            }
        }
    }
    lab.end().await
}

struct Lab {
    folder: Folder,
    hosts: Hosts,
    ear: mpsc::UnboundedReceiver<News>,
    /// What commands have done, to be told among the events.
    deeds: mpsc::UnboundedReceiver<String>,
    admin: admin::Admin,
    watch: Watch,
    people: Vec<Person>,
    spare: Person,
    devices: BTreeMap<&'static str, EndpointHost>,
    /// Where each of our users is: what works, and at which registrar.
    places: BTreeMap<String, Standing>,
    /// Those who have said goodbye, answered or not.
    gone: BTreeSet<String>,
    screen: Screen,
    began: Instant,
}

impl Lab {
    async fn build(
        topology: Option<PathBuf>,
        profile: Option<Profile>,
        folder: Option<PathBuf>,
        listen: SocketAddr,
        began: Instant,
        output: Output,
    ) -> Result<Lab, Trouble> {
        let mut topology = match topology {
            Some(path) => read_topology(&path)?,
            None => {
                topology_file::parse("lab/two-sites.toml", TWO_SITES).usable().map_err(Trouble::Mistakes)?.0
            }
        };
        if let Some(profile) = profile.filter(|profile| *profile != topology.profile) {
            topology.profile = profile;
            topology.timers = Timers::of(profile);
        }
        let people = SIGNED_IN
            .iter()
            .map(|(name, pool)| person(&topology, name, *pool))
            .collect::<Result<Vec<_>, _>>()?;
        let spare = person(&topology, SPARE, 0)?;
        check_addresses(&topology)?;

        let folder = Folder::open(&match folder {
            Some(folder) => folder,
            None => folder::default_path()?,
        })?;
        let authority = Arc::new(Authority::new("Rehome laboratory").map_err(|why| anyhow!(why))?);
        folder.clear_data()?;
        folder.write(folder::AUTHORITY, authority.pem())?;
        folder.write("topology.toml", &topology_file::print(&topology))?;
        let realm = topology.domains.first().cloned().unwrap_or_default();
        let directory = fill_directory(&folder, &realm, people.iter().chain([&spare]))?;
        let watch = Watch::new(&folder.directory(), directory.version).map_err(|why| anyhow!(why))?;

        let plan = Plan {
            topology: Arc::new(topology),
            data: folder.data(),
            name_server: super::NAME_SERVER,
            tempo: Tempo::default(),
            authority,
        };
        let (hosts, ear) = Hosts::start(plan, |_| Ok(directory.clone())).await?;
        let (deed, deeds) = mpsc::unbounded_channel();
        let cables = hosts
            .names()
            .into_iter()
            .filter_map(|name| Some((name.clone(), hosts.nic(&name)?.clone())))
            .collect();
        let levers = Arc::new(Levers { topology: hosts.topology().clone(), cables, deed });
        let desk =
            Desk { servers: hosts.running().iter().map(Arc::downgrade).collect(), reload: None, token: None };
        let admin = admin::open(listen, desk, levers.routes()).await?;
        let screen = Screen::new(output, began, people.iter().map(|person| person.aor.clone()).collect());
        Ok(Lab {
            folder,
            hosts,
            ear,
            deeds,
            admin,
            watch,
            people,
            spare,
            devices: BTreeMap::new(),
            places: BTreeMap::new(),
            gone: BTreeSet::new(),
            screen,
            began,
        })
    }

    /// Signs our users in, and waits until all are, within bounds.
    async fn sign_in(&mut self) -> Result<(), Trouble> {
        let topology = self.hosts.topology().clone();
        for (person, number) in self.people.iter().zip(1..) {
            let mut config = Config::new(person.aor.clone(), super::password(person.name), topology.profile);
            config.timers = topology.timers.clone();
            let local = IpAddr::V4(Ipv4Addr::new(127, 4, 0, number));
            let device = self.hosts.start_device(person.name, local, Nic::new(), config, None, false)?;
            device.command(Command::SignIn);
            self.devices.insert(person.name, device);
        }
        let deadline = clock::now() + PATIENCE;
        let mut progress = clock::now() + Duration::from_secs(1);
        while self.away().next().is_some() && clock::now() < deadline {
            match tokio::time::timeout_at(progress.into(), self.ear.recv()).await {
                Ok(heard) => self.hear(heard)?,
                Err(_) => {
                    let away: Vec<&str> = self.away().collect();
                    self.screen.progress(&format!("waiting for {} to sign in …", away.join(", ")));
                    progress += Duration::from_secs(1);
                }
            }
        }
        Ok(())
    }

    /// Our users who are registered nowhere.
    fn away(&self) -> impl Iterator<Item = &'static str> {
        let is_away = |person: &&Person| {
            self.places.get(person.name).is_none_or(|(service, _)| *service == Service::None)
        };
        self.people.iter().filter(is_away).map(|person| person.name)
    }

    /// Shows the screen, and from then on events.
    async fn introduce(&mut self) -> Result<(), Trouble> {
        let mut partners = BTreeMap::new();
        for host in self.hosts.running() {
            if let Some(view) = host.views().await.into_iter().next() {
                let states =
                    view.partners.iter().map(|partner| (partner.pool.to_string(), partner.state.to_string()));
                partners.insert(view.server.to_string(), states.collect());
            }
        }
        let introduction = screen::Introduction {
            topology: self.hosts.topology(),
            partners,
            people: &self.people,
            places: &self.places,
            spare: &self.spare,
            admin: self.admin.address(),
            folder: &self.folder,
            took: clock::now().saturating_duration_since(self.began),
        };
        Ok(self.screen.introduce(&introduction)?)
    }

    fn hear(&mut self, heard: Option<News>) -> anyhow::Result<()> {
        // The machines hold the other end as long as we hold them.
        let news = heard.context("nobody says anything any more")?;
        if let Told::Device { name, said } = &news.what {
            match &**said {
                Said::Status(status) => {
                    let registrar = status.registrar.clone().filter(|_| status.service != Service::None);
                    let place = (status.service, registrar);
                    if self.places.get(&**name).cloned().unwrap_or_default() != place {
                        self.screen.tell_place(&news, name, &place)?;
                        self.places.insert(name.to_string(), place);
                    }
                    return Ok(());
                }
                Said::Event { event: endpoint::Event::SignedOut { .. }, .. } => {
                    self.gone.insert(name.to_string());
                }
                _ => {}
            }
        }
        self.screen.tell(&news)
    }

    /// Puts a changed user directory into use.
    fn follow_directory(&mut self) {
        match self.watch.poll() {
            Ok(None) => {}
            Ok(Some(directory)) => {
                let directory = Arc::new(directory);
                for host in self.hosts.running() {
                    host.reload(self.hosts.topology().clone(), directory.clone());
                }
            }
            Err(why) => tracing::error!("the directory cannot be read, its last state stays in use: {why}"),
        }
    }

    /// Signs everybody out and stops everything.
    async fn end(mut self) -> Result<(), Trouble> {
        self.screen.end_begins();
        // Nobody can say goodbye through a cable that is out.
        for name in self.hosts.names() {
            if let Some(nic) = self.hosts.nic(&name) {
                nic.restore();
            }
        }
        for device in self.devices.values() {
            device.command(Command::SignOut);
        }
        let deadline = clock::now() + FAREWELL;
        while self.gone.len() < self.devices.len() {
            match tokio::time::timeout_at(deadline.into(), self.ear.recv()).await {
                Ok(heard) => self.hear(heard)?,
                // Their registrations run out by themselves.
                Err(_) => break,
            }
        }
        let Lab { admin, hosts, devices, screen, .. } = self;
        drop(devices);
        drop(admin);
        // The interface's task lets go of the servers when the runtime gets to it.
        tokio::task::yield_now().await;
        let servers = hosts.names().len();
        let unsaved = hosts.stop().await;
        if unsaved > 0 {
            return Err(Trouble::Failed(anyhow!(
                "{unsaved} changes could not be saved; see the errors above"
            )));
        }
        screen.end(servers)?;
        Ok(())
    }
}

fn person(topology: &Topology, name: &'static str, number: usize) -> Result<Person, Trouble> {
    let registrars: Vec<_> = topology.pools.iter().filter(|pool| pool.role == Role::Registrar).collect();
    let domain = topology.domains.first();
    let (Some(domain), false) = (domain, registrars.is_empty()) else {
        return Err(Trouble::Usage("a lab needs a SIP domain and a pool that homes users".to_owned()));
    };
    let aor =
        format!("sip:{name}@{domain}").parse().map_err(|why| anyhow!("{domain} is no SIP domain: {why}"))?;
    Ok(Person { name, aor, home: registrars[number % registrars.len()].name.clone() })
}

fn check_addresses(topology: &Topology) -> Result<(), Trouble> {
    let elsewhere =
        topology.pools.iter().flat_map(|pool| &pool.servers).find(|server| !server.address.is_loopback());
    match elsewhere {
        None => Ok(()),
        Some(server) => Err(Trouble::Usage(format!(
            "{} has the address {}, which is not on loopback; a lab uses 127.SITE.0.NUMBER, `rehome serve` uses real ones",
            server.name, server.address
        ))),
    }
}

fn fill_directory<'p>(
    folder: &Folder,
    realm: &str,
    people: impl Iterator<Item = &'p Person>,
) -> anyhow::Result<Arc<server::Directory>> {
    let users: Vec<(AddressOfRecord, User)> = people
        .map(|person| {
            let password = super::password(person.name);
            let ha1 = |algorithm| Ha1::of(algorithm, person.name, realm, &password);
            let user = User {
                home: person.home.clone(),
                enabled: true,
                number: None,
                ha1_md5: ha1(Algorithm::Md5),
                ha1_sha256: ha1(Algorithm::Sha256),
            };
            (person.aor.clone(), user)
        })
        .collect();
    let mut file = DirectoryFile::open(&folder.directory()).map_err(|why| anyhow!(why))?;
    file.put_all(users.iter().map(|(aor, user)| (aor, user))).map_err(|why| anyhow!(why))?;
    Ok(Arc::new(file.load().map_err(|why| anyhow!(why))?))
}

//------------ Levers --------------------------------------------------------

/// What `rehome lab cut` and `restore` pull.
struct Levers {
    topology: Arc<Topology>,
    cables: BTreeMap<ServerName, Nic>,
    deed: mpsc::UnboundedSender<String>,
}

impl Levers {
    fn routes(self: Arc<Self>) -> Router {
        Router::new()
            .route(
                "/v1/lab/cut/{name}",
                post(|State(levers), Path(name)| pull(levers, name, "cut", Nic::cut)),
            )
            .route(
                "/v1/lab/restore/{name}",
                post(|State(levers), Path(name)| pull(levers, name, "restore", Nic::restore)),
            )
            .with_state(self)
    }
}

async fn pull(levers: Arc<Levers>, name: String, verb: &'static str, deed: fn(&Nic)) -> Response {
    let found = match hosts::find(&levers.topology, &name) {
        Ok(found) => found,
        Err(why) => return admin::refuse(StatusCode::NOT_FOUND, why.to_string()),
    };
    found.iter().filter_map(|name| levers.cables.get(name)).for_each(deed);
    let names: Vec<&str> = found.iter().map(ServerName::as_str).collect();
    // The lab may be ending; the deed is done all the same.
    let _ = levers.deed.send(format!("{verb} {}", names.join(", ")));
    axum::Json(json!({ "done": verb, "servers": names })).into_response()
}
