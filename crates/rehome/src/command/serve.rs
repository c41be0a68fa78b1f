//! `rehome serve`: one server, for real.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use net::clock;
use net::directory::Watch;
use net::dns_server::DnsServer;
use net::drive_server::{Happening, ServerHost};
use net::zone::Zone;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

use super::Trouble;
use crate::admin::{self, Admin, Desk, ReloadWish};
use crate::config::server::{self, Durability, ServerFile};
use crate::deployment::{self, Reading};
use crate::output::Output;

/// How soon a change of the user directory is in use.
const DIRECTORY_POLL: Duration = Duration::from_secs(1);

/// Runs one server of a deployment until it is told to stop.
///
/// SIGINT and SIGTERM tell it. SIGHUP, or `rehome reload`, reads topology, certificates and directory again and
/// drops no connection; a changed directory is noticed by itself.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rehome serve --topology topology.toml --server fe1.example.test
  rehome serve --config server.toml

With --topology alone the other files are looked for beside it: SERVER.pem and SERVER.key, ca.pem and
nonce.secret (`rehome keys` makes all four), directory.sqlite (`rehome user add`), data/SERVER/.")]
pub(crate) struct Arguments {
    /// The file that says which server this is; what is given here too wins over it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The deployment.
    #[arg(long, required_unless_present = "config")]
    topology: Option<PathBuf>,
    /// Which server of it.
    #[arg(long, required_unless_present = "config")]
    server: Option<String>,
    /// The user directory.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Where this server keeps its store.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How safe a registration is when it is answered: write-behind, strict or none.
    #[arg(long, value_parser = read_durability)]
    durability: Option<Durability>,
    /// Worker threads; one per core if left out.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// Where the admin interface listens; 127.0.0.1:8061 if left out.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Answers DNS for the topology's domains here.
    #[arg(long)]
    dns: Option<SocketAddr>,
}

fn read_durability(text: &str) -> Result<Durability, String> {
    Durability::named(text).ok_or_else(|| "say write-behind, strict or none".to_owned())
}

impl Arguments {
    /// The server's files, as the command line and the server file say together.
    fn into_file(self) -> Result<ServerFile, Trouble> {
        let mut file = match (&self.config, &self.topology, &self.server) {
            (Some(path), _, _) => server::load(path).usable().map_err(Trouble::Mistakes)?.0,
            (None, Some(topology), Some(server)) => deployment::beside(topology, server),
            _ => return Err(Trouble::Usage("say --config, or --topology and --server".to_owned())),
        };
        if self.config.is_some() {
            file.topology = self.topology.unwrap_or(file.topology);
            file.server = self.server.unwrap_or(file.server);
        }
        file.directory = self.directory.unwrap_or(file.directory);
        file.data = self.data.unwrap_or(file.data);
        file.durability = self.durability.or(file.durability);
        file.shards = self.shards.or(file.shards);
        Ok(file)
    }
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, output: Output) -> Result<(), Trouble> {
    let (admin, dns) = (arguments.admin, arguments.dns);
    let mut file = arguments.into_file()?;
    if let Some(listen) = dns {
        file.dns = Some(server::DnsTable { listen });
    }
    let runtime = tokio::runtime::Runtime::new().context("the system gives no threads")?;
    runtime.block_on(serve(file, admin, output))
}

async fn serve(file: ServerFile, admin: Option<SocketAddr>, output: Output) -> Result<(), Trouble> {
    let mut hang_up = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;

    let reading = deployment::read(&file)?;
    let mut versions = Versions { topology: reading.topology.version, directory: reading.directory.version };
    if reading.directory.users.is_empty() {
        tracing::warn!(
            "there is no user in {}, so nobody can register; `rehome user add` adds one, or copy the file from the host that has it",
            file.directory.display()
        );
    }
    let zone = Zone::from_topology(&reading.topology);
    let options = deployment::options(&file, reading)?;
    let nic = options.nic.clone();
    let host = Arc::new(ServerHost::start(options).await.map_err(|why| anyhow!(why))?);
    let events = tokio::spawn(print_events(host.events(), file.server.clone(), output));

    let dns = match &file.dns {
        None => None,
        Some(table) => Some(DnsServer::start(&nic, table.listen, zone).with_context(|| {
            format!(
                "cannot answer DNS on {}; the port may be in use, or need root (below 1024)",
                table.listen
            )
        })?),
    };
    let (wishes, mut wished) = mpsc::channel(1);
    let _admin = open_admin(&file, admin, &host, wishes).await?;
    announce(&file, &host, _admin.address(), output)?;

    let mut watch = Watch::new(&file.directory, versions.directory).map_err(|why| anyhow!(why))?;
    let mut poll = tokio::time::interval(DIRECTORY_POLL);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hang_up.recv() => {
                match reload(&file, &host, dns.as_ref(), &mut versions) {
                    Ok(what) => tracing::info!("{what}"),
                    Err(why) => tracing::error!("nothing reloaded: {why}"),
                }
            }
            Some(wish) = wished.recv() => {
                // The asker may have gone away; the reload counts all the same.
                let _ = wish.send(reload(&file, &host, dns.as_ref(), &mut versions));
            }
            _ = poll.tick() => match watch.poll() {
                Ok(None) => {}
                Ok(Some(_)) => match reload(&file, &host, dns.as_ref(), &mut versions) {
                    Ok(what) => tracing::info!("{what}"),
                    Err(why) => tracing::error!("the changed directory is not in use: {why}"),
                },
                Err(why) => tracing::error!("the directory cannot be read, its last state stays in use: {why}"),
            }
        }
    }
    drop(_admin);
    let unsaved = deployment::stop(host).await;
    events.abort();
    if unsaved > 0 {
        return Err(Trouble::Failed(anyhow!("{unsaved} changes could not be saved; see the errors above")));
    }
    Ok(())
}

async fn open_admin(
    file: &ServerFile,
    listen: Option<SocketAddr>,
    host: &Arc<ServerHost>,
    reload: mpsc::Sender<ReloadWish>,
) -> Result<Admin, Trouble> {
    let listen = listen.or(file.admin.as_ref().and_then(|table| table.listen)).unwrap_or(admin::DEFAULT);
    let token = match file.admin.as_ref().and_then(|table| table.token.as_ref()) {
        Some(path) => Some(Arc::from(deployment::read_token(path)?)),
        None => None,
    };
    let desk = Desk { servers: vec![Arc::downgrade(host)], reload: Some(reload), token };
    Ok(admin::open(listen, desk, axum::Router::new()).await?)
}

/// The publications in use.
struct Versions {
    topology: u64,
    directory: u64,
}

/// Reads everything first and uses it only if all of it is good, and none of it older than what is in use.
fn reload(
    file: &ServerFile,
    host: &ServerHost,
    dns: Option<&DnsServer>,
    used: &mut Versions,
) -> Result<String, String> {
    let said = |trouble: Trouble| trouble.to_string().trim_end().to_owned();
    let Reading { topology, directory, certificates } = deployment::read(file).map_err(said)?;
    for (path, offered, current) in [
        (&file.topology, topology.version, used.topology),
        (&file.directory, directory.version, used.directory),
    ] {
        if offered < current {
            return Err(format!(
                "{} has version {offered}, older than {current}, which is in use; copy the newest, or count its version up",
                path.display()
            ));
        }
    }
    *used = Versions { topology: topology.version, directory: directory.version };
    if let Some(material) = &certificates {
        host.reload_certificates(material).map_err(|why| why.to_string())?;
    }
    if let Some(dns) = dns {
        let zone = Zone::from_topology(&topology);
        dns.edit(|served| *served = zone.clone());
    }
    let what = format!(
        "topology version {}, directory version {} ({} users){}",
        topology.version,
        directory.version,
        directory.users.len(),
        if certificates.is_some() { ", certificates" } else { "" }
    );
    host.reload(topology, directory);
    Ok(what)
}

fn announce(file: &ServerFile, host: &ServerHost, admin: SocketAddr, output: Output) -> anyhow::Result<()> {
    let ports: Vec<String> =
        host.listening().iter().map(|(transport, address)| format!("{transport} {address}")).collect();
    let human = format!("{} listens on {}; admin on {admin}", file.server, ports.join(", "));
    output.line(&human, &json!({ "server": file.server, "listening": ports, "admin": admin.to_string() }))
}

/// One line per event: wall time, server, what happened. What happens all the time is for programs only.
async fn print_events(mut events: broadcast::Receiver<Happening>, server: String, output: Output) {
    let label = server.split('.').next().unwrap_or(&server).to_owned();
    loop {
        let (at, what, name) = match events.recv().await {
            Ok(happening) if happening.event.is_noise() && !output.json => continue,
            Ok(happening) => (happening.at, happening.event.to_string(), happening.event.name().to_owned()),
            Err(broadcast::error::RecvError::Lagged(missed)) => (
                clock::unix(),
                format!("{missed} events not shown: they come faster than they print"),
                "missed".to_owned(),
            ),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let seconds = clock::civil_time(at.as_secs());
        let time = format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at.subsec_millis());
        let json = json!({ "time": time, "server": server, "event": name, "text": what });
        if output.line(format!("{time} {label}  {what}"), &json).is_err() {
            return;
        }
    }
}
