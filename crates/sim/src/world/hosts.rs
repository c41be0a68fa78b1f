//! Names to hosts, and commands to deeds.

use std::net::{IpAddr, SocketAddr};

use server::Command;
use sip::locate::Srv;
use sip::method::Method;
use sip::transport::Transport;

use super::client::Client;
use super::process::Process;
use super::{Occurrence, Simulated};
use crate::history::Place;
use crate::network::{HostId, Link};
use crate::story::{DnsLine, Verb};

impl Simulated {
    /// Sets up all servers and starts them.
    pub(super) fn build(&mut self) -> Result<(), String> {
        for pool in &self.setup.topology.pools {
            for server in &pool.servers {
                let listens = [
                    (Transport::Udp, server.udp),
                    (Transport::Tcp, server.tcp),
                    (Transport::Tls, server.tls),
                ];
                let listens =
                    listens.into_iter().filter_map(|(transport, port)| Some((transport, port?))).collect();
                let names = self.setup.certificate_names(&server.name);
                let host = self.network.add_host(&pool.site, server.address, listens, names);
                let place = Place { server: server.name.to_string(), pool: pool.name.to_string() };
                self.processes.insert(host, Process::new(place, self.now));
            }
        }
        let hosts: Vec<HostId> = self.processes.keys().copied().collect();
        hosts.into_iter().try_for_each(|host| self.start_process(host))
    }

    /// Carries out a story's command.
    pub(super) fn carry_out(&mut self, verb: &Verb) -> Result<(), String> {
        match verb {
            Verb::SignIn(device) => {
                let host = self.device(device)?;
                self.sign_in(host)?;
            }
            Verb::SignOut(device) => {
                let host = self.device(device)?;
                self.command_client(host, endpoint::Command::SignOut)?;
            }
            Verb::Forget(device) => {
                let host = self.device(device)?;
                self.forget(host);
            }
            Verb::Kill(name) => self.each_server(name, Self::kill_process)?,
            Verb::Start(name) => self.each_server(name, Self::start_process)?,
            Verb::Cut(name) => self.each_host(name, |world, host| world.network.set_wired(host, false))?,
            Verb::Restore(name) => self.each_host(name, |world, host| world.network.set_wired(host, true))?,
            Verb::Freeze(name) => self.each_server(name, |world, host| {
                world.network.set_frozen(host, true);
                Ok(())
            })?,
            Verb::Thaw(name) => self.each_server(name, |world, host| {
                world.thaw_process(host);
                Ok(())
            })?,
            Verb::Partition { one, other, one_way } => {
                let (one, other) = (self.hosts(one)?, self.hosts(other)?);
                self.network.wall(&one, &other);
                if !one_way {
                    self.network.wall(&other, &one);
                }
            }
            Verb::Repair(None) => self.network.unwall_all(),
            Verb::Repair(Some((one, other))) => {
                let (one, other) = (self.hosts(one)?, self.hosts(other)?);
                self.network.unwall(&one, &other);
            }
            Verb::Link { one, other, delay, jitter, loss } => {
                let link = Link { delay: *delay, jitter: *jitter, loss: loss / 100.0 };
                self.network.set_link(one, other, link);
            }
            Verb::Drain(name) => self.tell_servers(name, &Command::Drain)?,
            Verb::Undrain(name) => self.tell_servers(name, &Command::Undrain)?,
            Verb::StopUserServices(name) => self.tell_servers(name, &Command::StopUserServices)?,
            Verb::StartUserServices(name) => self.tell_servers(name, &Command::StartUserServices)?,
            Verb::FailOver(pool) => self.tell_backup(pool, &Command::FailOver(pool.as_str().into()))?,
            Verb::FailBack(pool) => self.tell_backup(pool, &Command::FailBack(pool.as_str().into()))?,
            Verb::DnsAdd(DnsLine::Srv { name, priority, weight, port, target }) => {
                let srv = Srv { priority: *priority, weight: *weight, port: *port, target: target.clone() };
                self.dns.add_srv(name, srv);
            }
            Verb::DnsAdd(DnsLine::Address { name, server }) => {
                for host in self.servers(server)? {
                    if let Some(address) = self.address_of(host) {
                        self.dns.add_address(name, address);
                    }
                }
            }
            Verb::DnsRemove(name, target) => {
                if !self.dns.remove(name, target.as_deref()) {
                    return Err(format!("DNS has no such record of `{name}`"));
                }
            }
            Verb::DnsDown => self.dns.down = true,
            Verb::DnsUp => {
                self.dns.down = false;
                self.dns.slow = std::time::Duration::ZERO;
            }
            Verb::DnsSlow(span) => self.dns.slow = *span,
            Verb::Call(from, to) => self.request_between(from, to, Method::Invite)?,
            Verb::Message(from, to) => self.request_between(from, to, Method::Message)?,
            Verb::FillDisk(name) => self.each_server(name, |world, host| world.set_disk_full(host, true))?,
            Verb::EmptyDisk(name) => {
                self.each_server(name, |world, host| world.set_disk_full(host, false))?
            }
        }
        Ok(())
    }

    /// Fills a server's disk or makes room on it; the server notices at once, as one that watches its disk does.
    fn set_disk_full(&mut self, host: HostId, full: bool) -> Result<(), String> {
        if let Some(process) = self.processes.get_mut(&host) {
            process.disk.set_full(full);
            let birth = process.birth;
            self.agenda.arrange(self.now, Occurrence::Disk { host, birth, failed: full });
        }
        Ok(())
    }

    fn request_between(&mut self, from: &str, to: &str, method: Method) -> Result<(), String> {
        let to = match self.setup.user_of(to) {
            Some(user) => self.setup.aor(&user.name)?.to_string(),
            None => return Err(format!("no user is called `{to}`")),
        };
        let host = self.device(from)?;
        self.request(host, method, to)
    }

    fn tell_servers(&mut self, name: &str, command: &Command) -> Result<(), String> {
        self.each_server(name, |world, host| {
            world.tell_process(host, server::Input::Told(command.clone()));
            Ok(())
        })
    }

    /// An operator's word about a pool goes to the servers of its backup.
    fn tell_backup(&mut self, pool: &str, command: &Command) -> Result<(), String> {
        let found = self.setup.topology.pool(pool).ok_or_else(|| format!("no pool is called `{pool}`"))?;
        let backup = found.backup.clone().ok_or_else(|| format!("{pool} has no backup"))?;
        self.tell_servers(&backup, command)
    }

    fn each_server(
        &mut self,
        name: &str,
        mut deed: impl FnMut(&mut Self, HostId) -> Result<(), String>,
    ) -> Result<(), String> {
        self.servers(name)?.into_iter().try_for_each(|host| deed(self, host))
    }

    fn each_host(&mut self, name: &str, mut deed: impl FnMut(&mut Self, HostId)) -> Result<(), String> {
        for host in self.hosts(name)? {
            deed(self, host);
        }
        Ok(())
    }

    /// The servers of that name: one server, or all of a pool.
    fn servers(&self, name: &str) -> Result<Vec<HostId>, String> {
        let named = |is: &dyn Fn(&Place) -> bool| -> Vec<HostId> {
            self.processes.iter().filter(|(_, process)| is(&process.place)).map(|(host, _)| *host).collect()
        };
        let exact = named(&|place| place.server == name);
        let found = if exact.is_empty() { named(&|place| place.is(name)) } else { exact };
        if found.is_empty() { Err(format!("no server or pool is called `{name}`")) } else { Ok(found) }
    }

    /// The hosts of that name: a server, a pool, a user's devices, a site with everything in it, or `dns`.
    fn hosts(&self, name: &str) -> Result<Vec<HostId>, String> {
        if name == "dns" {
            return Ok(vec![self.dns_host]);
        }
        if let Some(&host) = self.devices.get(name) {
            return Ok(vec![host]);
        }
        let topology = &self.setup.topology;
        if topology.sites.iter().any(|site| *site.name == *name) {
            let pools = topology.pools.iter().filter(|pool| *pool.site == *name);
            return pools.map(|pool| self.servers(&pool.name)).try_fold(Vec::new(), |mut all, found| {
                all.extend(found?);
                Ok(all)
            });
        }
        self.servers(name)
    }

    /// The host of a device; made when it is first named.
    fn device(&mut self, device: &str) -> Result<HostId, String> {
        if let Some(&host) = self.devices.get(device) {
            return Ok(host);
        }
        if self.setup.user_of(device).is_none() {
            return Err(format!("no user is called `{device}`"));
        }
        let number = u16::try_from(self.devices.len() + 1).map_err(|_| "too many devices".to_owned())?;
        let [high, low] = number.to_be_bytes();
        // Clients live in a site of their own: cutting a server site leaves them their desks.
        let host =
            self.network.add_host("clients", IpAddr::from([127, 200, high, low]), Vec::new(), Vec::new());
        self.devices.insert(device.to_owned(), host);
        self.clients.insert(host, Client::new(device));
        Ok(host)
    }

    fn address_of(&self, host: HostId) -> Option<IpAddr> {
        let place = &self.processes.get(&host)?.place;
        self.setup.topology.server(&place.server).map(|(_, entry)| entry.address)
    }

    /// Which server is at an address; for an address nobody has, the name it was tried by.
    pub(super) fn place_of(&self, address: SocketAddr, name: &str) -> Place {
        self.network.host_at(address.ip()).and_then(|host| self.processes.get(&host)).map_or_else(
            || Place { server: name.to_owned(), pool: String::new() },
            |process| process.place.clone(),
        )
    }
}
