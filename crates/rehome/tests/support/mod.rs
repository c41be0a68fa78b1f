//! What the tests with real programs share: hosts, a deployment on them, and waits that end.
#![expect(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod namespaces;
pub(crate) mod phone;

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use namespaces::Namespaces;

/// The program under test.
pub(crate) const REHOME: &str = env!("CARGO_BIN_EXE_rehome");

/// Every user's password here. No space in it: sipp and baresip end a password there.
pub(crate) const PASSWORD: &str = "battery-staple";

/// Where the two sites, the DNS server and the phones are.
pub(crate) const FE1: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
pub(crate) const FE2: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 1);
pub(crate) const PHONE: Ipv4Addr = Ipv4Addr::new(10, 77, 4, 1);

/// Says loudly that a test did not run; `cargo xtask ci` collects and counts these lines.
pub(crate) fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("REHOME_SKIPPED")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "{line}");
    }
}

/// Whether all of these programs are installed; if not, says so: (program, Debian's package).
pub(crate) fn installed(test: &str, programs: &[(&str, &str)]) -> bool {
    let absent = programs.iter().find(|(program, _)| missing(&[program]).is_some());
    if let Some((program, package)) = absent {
        skip(test, &format!("`{program}` is not installed (Debian: {package})"));
    }
    absent.is_none()
}

/// The first of these programs that is not installed.
pub(crate) fn missing<'p>(programs: &[&'p str]) -> Option<&'p str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    programs.iter().copied().find(|program| !directories.iter().any(|at| at.join(program).exists()))
}

/// What passes for time in tests with real programs.
#[expect(clippy::disallowed_methods, reason = "real programs run in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until `done`, looking again every 50 ms; panics with `what` when it takes longer than `bound`.
#[expect(clippy::disallowed_methods, reason = "a bounded wait for a program that cannot call back")]
pub(crate) fn wait_until(what: &str, bound: Duration, mut done: impl FnMut() -> bool) {
    let start = now();
    while !done() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The intervals of a deployment, and what follows from them.
#[derive(Clone, Copy)]
pub(crate) struct Intervals {
    pub(crate) heartbeat_s: u32,
    pub(crate) detection_s: u32,
    pub(crate) failback_s: u32,
    pub(crate) peer_dead_s: u32,
}

impl Intervals {
    /// A tenth of the article's, about; `REHOME_INTERVALS=article` asks for the article's own.
    pub(crate) fn chosen() -> Intervals {
        if std::env::var("REHOME_INTERVALS").is_ok_and(|chosen| chosen == "article") {
            Intervals { heartbeat_s: 5, detection_s: 30, failback_s: 40, peer_dead_s: 30 }
        } else {
            Intervals { heartbeat_s: 1, detection_s: 4, failback_s: 5, peer_dead_s: 4 }
        }
    }

    /// Longest way from the cut to a registration at the backup: the client pings a quiet connection every 20 s at
    /// the most, misses the answer for `peer_dead_after`, fails to connect for 5 s, and may have to wait for a
    /// backup that noticed later, one heartbeat and one retry more.
    pub(crate) fn over(&self) -> Duration {
        let noticed = 20 + self.peer_dead_s + 5;
        Duration::from_secs(u64::from(noticed.max(self.detection_s) + self.heartbeat_s) + 5)
    }

    /// Longest way from the repair to a registration at home.
    pub(crate) fn back(&self) -> Duration {
        Duration::from_secs(u64::from(self.failback_s + 2 * self.heartbeat_s) + 5)
    }
}

/// Two sites, DNS and a phone, each a host of its own.
pub(crate) struct Deployment {
    pub(crate) hosts: Namespaces,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) intervals: Intervals,
}

impl Deployment {
    /// Makes hosts, keys and users; nothing runs yet. `None` (and said so) without the means to make hosts.
    pub(crate) fn new(test: &str, nickname: &str, profile: &str, srv: &[(u16, &str)]) -> Option<Deployment> {
        if !installed(test, &[("ip", "iproute2")]) {
            return None;
        }
        let Some(mut hosts) = Namespaces::new(nickname) else {
            skip(test, "network namespaces need root");
            return None;
        };
        for (name, address) in [("fe1", FE1), ("fe2", FE2), ("dns", DNS), ("phone", PHONE)] {
            hosts.add(name, address, DNS);
        }
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let deployment = Deployment { hosts, directory, intervals: Intervals::chosen() };
        deployment.publish(profile, srv);
        deployment.run(&["keys", "--topology", "topology.toml"]);
        for (user, home) in [("clientuser1", "fe1"), ("clientuser2", "fe2")] {
            deployment.add_user(user, home);
        }
        Some(deployment)
    }

    /// Writes the topology, with these SRV records for TLS (priority, target); those for UDP and TCP likewise.
    pub(crate) fn publish(&self, profile: &str, srv: &[(u16, &str)]) {
        let Intervals { heartbeat_s, detection_s, failback_s, .. } = self.intervals;
        let mut text = format!(
            r#"version = 1
profile = "{profile}"
domains = ["example.test"]

[timers]
heartbeat_interval = "{heartbeat_s}s"
failure_detection_interval = "{detection_s}s"
failback_interval = "{failback_s}s"
registration_expiry = {{ min = "10s", default = "300s", max = "900s" }}
"#
        );
        for (number, (pool, address, backup)) in
            [("fe1", FE1, "fe2"), ("fe2", FE2, "fe1")].into_iter().enumerate()
        {
            text.push_str(&format!(
                r#"
[[site]]
name = "site{number}"

[[pool]]
name = "{pool}.example.test"
site = "site{number}"
backup = "{backup}.example.test"

[[pool.server]]
name = "{pool}.example.test"
address = "{address}"
udp = 5060
tcp = 5060
tls = 5061
"#
            ));
        }
        for (priority, target) in srv {
            for (service, port) in [
                ("_sipinternaltls._tcp", 5061),
                ("_sips._tcp", 5061),
                ("_sip._tcp", 5060),
                ("_sip._udp", 5060),
            ] {
                text.push_str(&format!(
                    r#"
[[srv]]
service = "{service}"
domain = "example.test"
priority = {priority}
port = {port}
target = "{target}.example.test"
"#
                ));
            }
        }
        std::fs::write(self.path("topology.toml"), text).expect("the topology can be written");
    }

    /// A path in the deployment's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command that ends, and gives what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(REHOME)
            .args(arguments)
            .current_dir(self.directory.path())
            .env("REHOME_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .output()
            .expect("the program can be run");
        assert!(
            output.status.success(),
            "rehome {}: {}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Adds a user with [`PASSWORD`].
    pub(crate) fn add_user(&self, user: &str, home: &str) {
        let password = self.path("password");
        std::fs::write(&password, PASSWORD).expect("a password file can be written");
        self.run(&[
            "user",
            "add",
            &format!("{user}@example.test"),
            "--home",
            &format!("{home}.example.test"),
            "--password-file",
            &password.display().to_string(),
            "--topology",
            "topology.toml",
            "--directory",
            "directory.sqlite",
        ]);
    }

    /// Starts a server on its host and waits until it listens.
    pub(crate) fn serve(&self, name: &str) -> Running {
        let mut command = self.hosts.on(name, REHOME);
        command.args(["--json", "serve", "--topology", "topology.toml", "--shards", "2", "--server"]);
        command.arg(format!("{name}.example.test")).current_dir(self.directory.path());
        let mut running = Running::start(name, &mut command);
        running.wait_for("\"listening\"", Duration::from_secs(20));
        running
    }

    /// Starts the DNS server on its host.
    pub(crate) fn dns(&self) -> Running {
        let mut command = self.hosts.on("dns", REHOME);
        command.args(["dns", "serve", "topology.toml", "--listen", &format!("{DNS}:53")]);
        command.current_dir(self.directory.path());
        let mut running = Running::start("dns", &mut command);
        running.wait_for("answering DNS", Duration::from_secs(20));
        running
    }

    /// Signs a user in on the phone's host, with JSON for output.
    pub(crate) fn sign_in(&self, user: &str, profile: &str) -> Running {
        let mut command = self.hosts.on("phone", REHOME);
        command
            .args(["--json", "sign-in", &format!("{user}@example.test"), "--profile", profile])
            .args(["--ca", "ca.pem", "--password-file", "password", "--dns", &format!("{DNS}:53")])
            .args(["--cache", &format!("{user}.cache.json")])
            .args(["--peer-dead-after", &format!("{}s", self.intervals.peer_dead_s)])
            .current_dir(self.directory.path());
        Running::start(user, &mut command)
    }
}

/// A program that goes on, and what it says.
pub(crate) struct Running {
    name: String,
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Running {
    /// Starts it; standard output and error are both listened to.
    pub(crate) fn start(name: &str, command: &mut Command) -> Running {
        Running::launch(name, command.stdin(Stdio::null()))
    }

    /// Starts a program that will be told more; see [`Running::say`].
    pub(crate) fn start_attentive(name: &str, command: &mut Command) -> Running {
        Running::launch(name, command.stdin(Stdio::piped()))
    }

    fn launch(name: &str, command: &mut Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{name} cannot be started: {why}"));
        let (sender, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { return };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Running { name: name.to_owned(), child, lines, heard: Vec::new() }
    }

    /// Waits for a line with all of `parts`, gives it and how long it took. Lines are used up.
    pub(crate) fn wait_for_all(&mut self, parts: &[&str], bound: Duration) -> (String, Duration) {
        let start = now();
        loop {
            let left = bound.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if parts.iter().all(|part| line.contains(part)) {
                        return (line, start.elapsed());
                    }
                }
                Err(why) => {
                    let ended = why == RecvTimeoutError::Disconnected;
                    panic!(
                        "{}: no line with {parts:?} within {bound:?}{}; it said:\n{}",
                        self.name,
                        if ended { " (it has ended)" } else { "" },
                        self.heard.join("\n")
                    );
                }
            }
        }
    }

    /// Waits for a line with `part`.
    pub(crate) fn wait_for(&mut self, part: &str, bound: Duration) -> (String, Duration) {
        self.wait_for_all(&[part], bound)
    }

    /// Waits until a signed-in user is where they should be.
    pub(crate) fn wait_for_service(&mut self, service: &str, registrar: &str, bound: Duration) -> Duration {
        let (line, took) = self.wait_for_all(
            &[&format!("\"service\":\"{service}\""), &format!("\"registrar\":\"{registrar}.example.test\"")],
            bound,
        );
        eprintln!("{}: {line} ({:.1} s after the last step)", self.name, took.as_secs_f64());
        took
    }

    /// Everything it said and nobody waited for yet, and what was waited for.
    pub(crate) fn said(&mut self) -> String {
        self.heard.extend(self.lines.try_iter());
        self.heard.join("\n")
    }

    /// Tells it a line on its standard input, if it was started attentive and still lives.
    pub(crate) fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.child.stdin {
            // If it has died, the wait that follows says what was missed.
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// Sends a signal to the program itself (`ip netns exec` becomes it).
    pub(crate) fn signal(&self, signal: &str) {
        let _ = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status();
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_for_end(&mut self, bound: Duration) -> std::process::ExitStatus {
        let mut status = None;
        let name = self.name.clone();
        wait_until(&format!("{name} ends"), bound, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("the wait above saw it")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files next to the tests.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}
