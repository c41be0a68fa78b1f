//! Hosts on one machine: network namespaces joined by a bridge in a namespace of their own.
//!
//! Each host has one interface, `eth0`, an address in 10.77.0.0/16 and a `resolv.conf` that names the
//! lab's DNS server. Taking `eth0` down is the fault of the article: silence, no FIN, no RST.
//! Everything is deleted again when the value is dropped, processes included.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Several hosts and the wire between them.
pub(crate) struct Namespaces {
    /// Distinguishes this run's names from those of a run beside it.
    prefix: String,
    /// Host names, in the order they were added.
    hosts: Vec<String>,
}

impl Namespaces {
    /// Makes the wire; `None` when this process may not make namespaces.
    pub(crate) fn new(nickname: &str) -> Option<Self> {
        let prefix = format!("rh{}{nickname}", std::process::id());
        let made = Self { prefix, hosts: Vec::new() };
        let hub = made.hub();
        let ready = ip(&["netns", "add", &hub]).status.success()
            && ip(&["-n", &hub, "link", "add", "wire", "type", "bridge"]).status.success()
            && ip(&["-n", &hub, "link", "set", "wire", "up"]).status.success();
        ready.then_some(made)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    /// The namespace of a host.
    pub(crate) fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Adds a host with this address; it asks `dns` for names.
    pub(crate) fn add(&mut self, host: &str, address: Ipv4Addr, dns: Ipv4Addr) {
        let (namespace, hub) = (self.name(host), self.hub());
        let number = self.hosts.len();
        self.hosts.push(host.to_owned());
        let port = format!("p{number}");
        must(&["netns", "add", &namespace]);
        must(&[
            "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ]);
        must(&["-n", &hub, "link", "set", &port, "master", "wire", "up"]);
        must(&["-n", &namespace, "link", "set", "lo", "up"]);
        must(&["-n", &namespace, "address", "add", &format!("{address}/16"), "dev", "eth0"]);
        self.link(host, true);
        let etc = self.etc(host);
        std::fs::create_dir_all(&etc).expect("a directory below /etc/netns can be made");
        std::fs::write(etc.join("resolv.conf"), format!("nameserver {dns}\noptions timeout:1 attempts:1\n"))
            .expect("a resolv.conf can be written");
    }

    fn etc(&self, host: &str) -> PathBuf {
        PathBuf::from("/etc/netns").join(self.name(host))
    }

    /// Takes a host's interface up or down; up restores its default route too, which phones insist on.
    pub(crate) fn link(&self, host: &str, up: bool) {
        let namespace = self.name(host);
        must(&["-n", &namespace, "link", "set", "eth0", if up { "up" } else { "down" }]);
        if up {
            must(&["-n", &namespace, "route", "replace", "default", "dev", "eth0"]);
        }
    }

    /// A command that runs on a host.
    pub(crate) fn on(&self, host: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).arg(program);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for host in &self.hosts {
            let namespace = self.name(host);
            for pid in String::from_utf8_lossy(&ip(&["netns", "pids", &namespace]).stdout).split_whitespace()
            {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
            let _ = ip(&["netns", "delete", &namespace]);
            let _ = std::fs::remove_dir_all(self.etc(host));
        }
        let _ = ip(&["netns", "delete", &self.hub()]);
    }
}

fn ip(arguments: &[&str]) -> Output {
    Command::new("ip").args(arguments).output().expect("`ip` (Debian: iproute2) can be run")
}

fn must(arguments: &[&str]) {
    let output = ip(arguments);
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
