//! What the lab shows: first where everything is and what to try, then one line for each thing that happens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use endpoint::Service;
use net::clock;
use net::drive_endpoint::Said;
use resilience::topology::{ServerEntry, Topology};
use serde_json::{Value, json};
use server::Event;
use sip::uri::AddressOfRecord;

use super::folder::{self, Folder};
use super::hosts::{News, Told};
use super::running::{Person, SPARE};
use crate::admin;
use crate::config::duration;
use crate::invocation;
use crate::output::{Output, Table};

/// What works for a user, and at which registrar.
pub(crate) type Standing = (Service, Option<String>);

/// The lab's output.
pub(super) struct Screen {
    output: Output,
    began: Instant,
    /// Those whose own clients tell what happens to them.
    own: Vec<AddressOfRecord>,
    /// What happened before the introduction; it is told after it.
    held: Option<Vec<(String, Value)>>,
}

/// Everything the first page says.
pub(super) struct Introduction<'l> {
    /// What is being run.
    pub(super) topology: &'l Topology,
    /// By server: its partner pools and what it thinks of them.
    pub(super) partners: BTreeMap<String, Vec<(String, String)>>,
    /// Our users.
    pub(super) people: &'l [Person],
    /// Where they are.
    pub(super) places: &'l BTreeMap<String, Standing>,
    /// The visitor's user.
    pub(super) spare: &'l Person,
    /// Where commands ask.
    pub(super) admin: SocketAddr,
    /// Where the files are.
    pub(super) folder: &'l Folder,
    /// How long all of it took.
    pub(super) took: Duration,
}

impl Screen {
    pub(super) fn new(output: Output, began: Instant, own: Vec<AddressOfRecord>) -> Screen {
        Screen { output, began, own, held: Some(Vec::new()) }
    }

    /// Shows that something takes its time.
    pub(super) fn progress(&self, what: &str) {
        if !self.output.json {
            // Somebody who closed standard error wants no progress.
            let _ = writeln!(std::io::stderr(), "{what}");
        }
    }

    /// The first page, and what happened meanwhile.
    pub(super) fn introduce(&mut self, introduction: &Introduction<'_>) -> anyhow::Result<()> {
        self.output.line(introduction.page(), &introduction.as_json())?;
        for (human, json) in self.held.take().into_iter().flatten() {
            self.output.line(human, &json)?;
        }
        Ok(())
    }

    /// Tells what a machine said, if people want to know.
    pub(super) fn tell(&mut self, news: &News) -> anyhow::Result<()> {
        let seconds = self.seconds(news.at);
        match &news.what {
            Told::Device { name, said } => match &**said {
                // Told by the standing, which also says where.
                Said::Event { event: endpoint::Event::Service { .. }, .. } => Ok(()),
                Said::Event { event, .. } => self.line(seconds, name, event.name(), &event.to_string()),
                _ => Ok(()),
            },
            Told::Server { place, event } => {
                if self.is_told_by_a_client(event) {
                    return Ok(());
                }
                self.line(seconds, &place.server, event.name(), &event.to_string())
            }
            Told::Missed(missed) => self.line(
                seconds,
                "lab",
                "missed",
                &format!("{missed} events not shown: they come faster than they print"),
            ),
        }
    }

    /// Tells that a user's service has changed.
    pub(super) fn tell_place(&mut self, news: &News, name: &str, place: &Standing) -> anyhow::Result<()> {
        let seconds = self.seconds(news.at);
        let text = service_line(place);
        let (on, off) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let json = json!({
            "seconds": seconds, "who": name, "service": place.0.to_string(), "registrar": place.1, "text": text,
        });
        self.print(format!("{seconds:>8.3}s {name:<7} {on}══ {text} ══{off}"), json)
    }

    /// Tells what a command did.
    pub(super) fn tell_deed(&mut self, deed: &str) -> anyhow::Result<()> {
        let seconds = self.seconds(clock::now());
        self.line(seconds, "lab", "deed", deed)
    }

    pub(super) fn end_begins(&mut self) {
        self.progress("\nsigning everybody out …");
    }

    pub(super) fn end(mut self, servers: usize) -> anyhow::Result<()> {
        let seconds = self.seconds(clock::now());
        self.held = None;
        self.line(seconds, "lab", "stopped", &format!("everybody is signed out, {servers} servers stopped"))
    }

    fn line(&mut self, seconds: f64, who: &str, event: &str, text: &str) -> anyhow::Result<()> {
        let label = who.split('.').next().unwrap_or(who);
        let json = json!({ "seconds": seconds, "who": who, "event": event, "text": text });
        self.print(format!("{seconds:>8.3}s {label:<7} {text}"), json)
    }

    fn print(&mut self, human: String, json: Value) -> anyhow::Result<()> {
        match &mut self.held {
            Some(held) => {
                held.push((human, json));
                Ok(())
            }
            None => self.output.line(human, &json),
        }
    }

    fn seconds(&self, at: Instant) -> f64 {
        round(at.saturating_duration_since(self.began).as_secs_f64())
    }

    /// What our own clients say about themselves is not said a second time from the server's side.
    fn is_told_by_a_client(&self, event: &Event) -> bool {
        match event {
            Event::PeerTrouble { .. } => true,
            Event::Registered { .. }
            | Event::Challenged { .. }
            | Event::Redirected { .. }
            | Event::Refused { .. } => event.aor().is_some_and(|aor| self.own.contains(aor)),
            _ => false,
        }
    }
}

/// `Full at fe2.example.test`, `None`.
pub(crate) fn service_line((service, registrar): &Standing) -> String {
    let word = match service {
        Service::Full => "Full",
        Service::Limited => "Limited",
        Service::None => "None",
    };
    match registrar {
        Some(registrar) => format!("{word} at {registrar}"),
        None => word.to_owned(),
    }
}

/// Milliseconds are enough for people and programs.
pub(crate) fn round(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

//------------ Introduction --------------------------------------------------

impl Introduction<'_> {
    fn page(&self) -> String {
        let mut page = format!(
            "Rehome lab: {} sites on loopback, profile {}, up in {:.1} s\n\n",
            self.topology.sites.len(),
            self.topology.profile,
            self.took.as_secs_f64()
        );
        let _ = writeln!(page, "{}", self.sites());
        let timers = &self.topology.timers;
        let _ = writeln!(
            page,
            "A pool silent for {} is given up by its partner; one back for {} gets its users again.\n\
             DNS {}   admin http://{}   files {}\n",
            duration::print(timers.failure_detection_interval),
            duration::print(timers.failback_interval),
            super::NAME_SERVER,
            self.admin,
            self.folder.path().display()
        );
        let _ = writeln!(page, "{}", self.users());
        page.push_str(&self.phone());
        page.push_str(&self.tries());
        page
    }

    fn sites(&self) -> String {
        let mut table = Table::new(["site", "pool", "server", "address", "udp", "tcp", "tls", "partner"]);
        let port = |port: Option<u16>| port.map_or("-".to_owned(), |port| port.to_string());
        for pool in &self.topology.pools {
            for server in &pool.servers {
                let partners = self.partners.get(server.name.as_str()).into_iter().flatten();
                let partners: Vec<String> = partners.map(|(pool, state)| format!("{pool} {state}")).collect();
                table.row([
                    pool.site.to_string(),
                    pool.name.to_string(),
                    server.name.to_string(),
                    server.address.to_string(),
                    port(server.udp),
                    port(server.tcp),
                    port(server.tls),
                    if partners.is_empty() { "-".to_owned() } else { partners.join(", ") },
                ]);
            }
        }
        table.to_string()
    }

    fn users(&self) -> String {
        let mut table = Table::new(["user", "homed on", "is"]);
        for person in self.people {
            let place = self.places.get(person.name).map_or("not signed in yet".to_owned(), service_line);
            table.row([plain(&person.aor).to_owned(), person.home.to_string(), place]);
        }
        table.row([
            plain(&self.spare.aor).to_owned(),
            self.spare.home.to_string(),
            "free, for a phone of yours".to_owned(),
        ]);
        table.to_string()
    }

    /// The server a phone is best pointed at: of its own pool, with plain TCP if any has it.
    fn proxy(&self) -> Option<&ServerEntry> {
        let pool = self.topology.pool(&self.spare.home)?;
        pool.servers.iter().find(|server| server.tcp.is_some()).or(pool.servers.first())
    }

    fn phone(&self) -> String {
        let Some(proxy) = self.proxy() else { return String::new() };
        let password = super::password(SPARE);
        let user = plain(&self.spare.aor);
        let domain = self.spare.aor.domain();
        let at = |port: Option<u16>, transport: &str| {
            port.map(|port| format!("sip:{}:{port};transport={transport}", proxy.address))
        };
        let (udp, tcp, tls) = (at(proxy.udp, "udp"), at(proxy.tcp, "tcp"), at(proxy.tls, "tls"));
        let mut text = format!(
            "Register a phone of yours: user {SPARE}, password {password}, domain {domain}, and a proxy of\n"
        );
        for uri in [&udp, &tcp, &tls].into_iter().flatten() {
            let ca = format!("   (authority: {})", self.folder.authority().display());
            let _ = writeln!(text, "  {uri}{}", if uri.ends_with("tls") { ca.as_str() } else { "" });
        }
        if let Some(uri) = tcp.or(udp).or(tls) {
            let _ = write!(
                text,
                "baresip, in its file `accounts`:\n  \
                 <sip:{user}>;auth_user={SPARE};auth_pass={password};outbound=\"{uri}\"\n\
                 linphonec or linphone-daemon, typed:\n  register sip:{user} {uri} {password}\n\n"
            );
        }
        text
    }

    fn tries(&self) -> String {
        let traveller = self.people.get(1).or(self.people.first());
        let Some(person) = traveller else { return String::new() };
        let (pool, user) = (&person.home, plain(&person.aor));
        let rehome = invocation::typed();
        let admin = match self.admin {
            admin::DEFAULT => String::new(),
            other => format!(" --admin {other}"),
        };
        let ca = match folder::default_path() {
            Ok(usual) if usual == self.folder.path() => String::new(),
            _ => format!(" --ca {}", invocation::quoted(&self.folder.authority())),
        };
        let rows = [
            (format!("{rehome} lab cut {pool}{admin}"), format!("pulls its cable: {} moves", person.name)),
            (
                format!("{rehome} lab restore {pool}{admin}"),
                format!("plugs it in: {} comes home", person.name),
            ),
            (format!("{rehome} explain {user}{admin}"), "where, why, and what if".to_owned()),
            (
                format!("{rehome} sign-in {} --lab{ca}", plain(&self.spare.aor)),
                "our client, in your terminal".to_owned(),
            ),
            (
                format!("{rehome} discover {} --dns {}", self.spare.aor.domain(), super::NAME_SERVER),
                "what a client finds".to_owned(),
            ),
            (format!("{rehome} lab replay article --fast"), "the experiment, both profiles".to_owned()),
        ];
        let width = rows.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
        let mut text = "Try, in another terminal:\n".to_owned();
        for (command, what) in rows {
            let _ = writeln!(text, "  {command:width$}   {what}");
        }
        text.push_str("\nCtrl-C ends everything. What happens:\n");
        text
    }

    fn as_json(&self) -> Value {
        let servers: Vec<Value> = self
            .topology
            .pools
            .iter()
            .flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)))
            .map(|(pool, server)| {
                json!({
                    "site": pool.site.as_str(), "pool": pool.name.as_str(), "server": server.name.as_str(),
                    "address": server.address, "udp": server.udp, "tcp": server.tcp, "tls": server.tls,
                    "partners": self.partners.get(server.name.as_str()).cloned().unwrap_or_default()
                        .into_iter().collect::<BTreeMap<_, _>>(),
                })
            })
            .collect();
        let users: Vec<Value> = self
            .people
            .iter()
            .map(|person| {
                let (service, registrar) = self.places.get(person.name).cloned().unwrap_or_default();
                json!({
                    "user": plain(&person.aor), "home": person.home.as_str(), "password": super::password(person.name),
                    "service": service.to_string(), "registrar": registrar,
                })
            })
            .collect();
        json!({
            "seconds": round(self.took.as_secs_f64()), "event": "ready", "profile": self.topology.profile.name(),
            "dns": super::NAME_SERVER.to_string(), "admin": self.admin.to_string(), "authority": self.folder.authority(),
            "directory": self.folder.directory(), "servers": servers, "users": users,
            "spare": { "user": plain(&self.spare.aor), "password": super::password(SPARE) },
        })
    }
}

/// An address-of-record as people say it.
fn plain(aor: &AddressOfRecord) -> &str {
    server::event::plain(aor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_stands_out_with_its_place() {
        let at = |service, place: &str| service_line(&(service, Some(place.to_owned())));
        assert_eq!(at(Service::Full, "fe2.example.test"), "Full at fe2.example.test");
        assert_eq!(at(Service::Limited, "fe1.example.test"), "Limited at fe1.example.test");
        assert_eq!(service_line(&(Service::None, None)), "None");
    }
}
