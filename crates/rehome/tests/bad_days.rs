//! Broken input, broken disks, broken certificates, killed processes: a clear word each, and nothing lost.
//!
//! Each test runs the program as an operator does, on loopback addresses that it alone has (127.9.n.x).

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::phone::Phone;
use support::{PASSWORD, REHOME, Running, missing, skip, wait_until};

const SOON: Duration = Duration::from_secs(15);

/// Two servers on 127.9.n.1 and 127.9.n.2, not running yet.
struct Pair {
    number: u8,
    /// Held while the addresses are ours: the same test may be running beside us.
    _turn: std::fs::File,
    directory: tempfile::TempDir,
}

impl Pair {
    fn new() -> Pair {
        let (number, _turn) = (1..=254)
            .find_map(|number| {
                let path = std::env::temp_dir().join(format!("rehome-127.9.{number}.lock"));
                let file =
                    std::fs::File::options().write(true).create(true).truncate(false).open(path).ok()?;
                file.try_lock().is_ok().then_some((number, file))
            })
            .expect("of 254 networks one is free");
        let pair = Pair { number, _turn, directory: tempfile::tempdir().expect("a temporary directory") };
        let mut text = "version = 1\nprofile = \"rehome\"\ndomains = [\"example.test\"]\n\
                        [timers]\nheartbeat_interval = \"1s\"\nfailure_detection_interval = \"3s\"\nfailback_interval = \"4s\"\n"
            .to_owned();
        for (n, other) in [(1, 2), (2, 1)] {
            text.push_str(&format!(
                "[[site]]\nname = \"site{n}\"\n[[pool]]\nname = \"fe{n}.example.test\"\nsite = \"site{n}\"\n\
                 backup = \"fe{other}.example.test\"\n[[pool.server]]\nname = \"fe{n}.example.test\"\n\
                 address = \"127.9.{number}.{n}\"\nudp = 5060\ntcp = 5060\ntls = 5061\n"
            ));
        }
        for (priority, n) in [(0, 1), (10, 2)] {
            text.push_str(&format!(
                "[[srv]]\nservice = \"_sipinternaltls._tcp\"\ndomain = \"example.test\"\npriority = {priority}\nport = 5061\n\
                 target = \"fe{n}.example.test\"\n"
            ));
        }
        pair.write("topology.toml", &text);
        pair.write("password", PASSWORD);
        pair.run(&["keys"]);
        pair.run(&[
            "user",
            "add",
            "alice@example.test",
            "--home",
            "fe1.example.test",
            "--password-file",
            "password",
        ]);
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file can be written");
    }

    fn at(&self, server: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 9, self.number, server], port))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(REHOME);
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the program can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rehome {}: {said}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn admin(&self, server: u8) -> String {
        self.at(server, 8061).to_string()
    }

    /// Starts a server and waits until it listens.
    fn serve(&self, server: u8, more: &[&str]) -> Running {
        let mut running = self.try_serve(server, more);
        running.wait_for("listens on", SOON);
        running
    }

    fn try_serve(&self, server: u8, more: &[&str]) -> Running {
        let name = format!("fe{server}.example.test");
        let admin = self.admin(server);
        let mut arguments =
            vec!["serve", "--topology", "topology.toml", "--server", &name, "--admin", &admin];
        arguments.extend(more);
        Running::start(&name, &mut self.command(&arguments))
    }

    fn bindings(&self, server: u8) -> usize {
        let told = self.run(&["--json", "explain", "alice@example.test", "--admin", &self.admin(server)]);
        let told: serde_json::Value = serde_json::from_str(&told).expect("explain speaks JSON");
        told["explanations"][0]["bindings"].as_array().map_or(0, Vec::len)
    }
}

#[test]
fn broken_messages_on_every_transport_are_answered_or_dropped_and_the_server_goes_on() {
    let pair = Pair::new();
    let mut server = pair.serve(1, &[]);
    let noise: [&[u8]; 6] = [
        b"REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nContent-Length: -5\r\n\r\n",
        b"REGISTER sip:example.test SIP/7.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK2\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\r\n",
        b"\xff\xfe\x00\x01\x02",
        b"REGISTER\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK3\r\nFrom: \"unclosed <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 99999999999999999999 REGISTER\r\nContent-Length: 0\r\n\r\n",
    ];
    let udp = UdpSocket::bind("127.9.0.1:0").expect("loopback");
    for bytes in noise {
        udp.send_to(bytes, pair.at(1, 5060)).expect("a datagram can be sent");
        let mut tcp = TcpStream::connect(pair.at(1, 5060)).expect("TCP is open");
        let _ = tcp.write_all(bytes);
        // A handshake that is none, and one that stops halfway.
        let mut tls = TcpStream::connect(pair.at(1, 5061)).expect("TLS is open");
        let _ = tls.write_all(bytes);
        let mut half = TcpStream::connect(pair.at(1, 5061)).expect("TLS is open");
        let _ = half.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    }
    let mut phone = Phone::udp("alice", pair.at(1, 5060));
    phone.send(
        b"REGISTER sip:example.test SIP/7.0\r\nVia: SIP/2.0/UDP 127.9.0.1;branch=z9hG4bKv;rport\r\nFrom: <sip:alice@example.test>;tag=1\r\n\
          To: <sip:alice@example.test>\r\nCall-ID: v\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(phone.hear(), 505, "{}", phone.last);
    assert_eq!(phone.register(PASSWORD), 200, "{}", phone.last);
    assert_eq!(Phone::tcp("alice", pair.at(1, 5060)).register(PASSWORD), 200);
    assert_eq!(Phone::udp("alice", pair.at(1, 5060)).register("wrong"), 401);
    assert!(!server.said().contains("panicked"), "{}", server.said());
}

#[test]
fn two_contents_lengths_never_hide_a_second_request() {
    let pair = Pair::new();
    let _server = pair.serve(1, &[]);
    let mut tcp = TcpStream::connect(pair.at(1, 5060)).expect("TCP is open");
    tcp.set_read_timeout(Some(SOON)).expect("a time-out can be set");
    tcp.write_all(
        b"OPTIONS sip:example.test SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nContent-Length: 0\r\nContent-Length: 300\r\n\r\n\
          OPTIONS sip:hidden SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKhidden\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 2\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 7\r\nContent-Length: 0\r\n\r\n",
    )
    .expect("the server reads");
    let mut answer = String::new();
    // Ends when the server closes: a stream whose framing is in doubt cannot be read on.
    tcp.read_to_string(&mut answer).expect("the server closes the connection in time");
    assert!(!answer.contains("z9hG4bKhidden"), "the second request was read: {answer}");
}

#[test]
fn a_port_in_use_is_named_with_its_holder_and_a_cure() {
    let pair = Pair::new();
    let _holder = UdpSocket::bind(pair.at(1, 5060)).expect("the port is free before the test");
    let mut server = pair.try_serve(1, &[]);
    let status = server.wait_for_end(SOON);
    assert_eq!(status.code(), Some(1));
    let said = server.said();
    assert!(
        said.contains(&format!("UDP {}", pair.at(1, 5060)))
            && said.contains("in use by")
            && said.contains("topology"),
        "{said}"
    );
}

#[test]
fn a_server_with_a_stranger_s_certificate_is_no_partner_and_the_log_says_why() {
    let pair = Pair::new();
    let mut first = pair.serve(1, &[]);
    // fe2 comes with keys of another authority.
    let mine = pair.path("mine");
    std::fs::create_dir(&mine).expect("a directory");
    for file in ["fe1.example.test.pem", "fe1.example.test.key", "ca.pem"] {
        std::fs::copy(pair.path(file), mine.join(file)).expect("keys can be copied");
    }
    pair.run(&["keys", "--force"]);
    let mut second = pair.serve(2, &[]);
    first.wait_for_all(&["fe2.example.test", "FailedOver"], SOON);
    let (said, other) = (first.said(), second.said());
    let names_the_reason = |text: &str| text.to_lowercase().contains("certificate");
    assert!(names_the_reason(&said) || names_the_reason(&other), "nobody says why:\n{said}\n---\n{other}");
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_says_so_and_recovers_by_itself() {
    let test = "a_full_disk_refuses_what_it_cannot_keep_says_so_and_recovers_by_itself";
    let pair = Pair::new();
    let data = pair.path("small");
    std::fs::create_dir(&data).expect("a directory");
    let Some(disk) = SmallDisk::mount(data.clone()) else {
        return skip(test, "mounting a small tmpfs needs root");
    };
    let mut server = pair.serve(1, &["--data", &data.display().to_string(), "--durability", "strict"]);
    let mut phone = Phone::udp("alice", pair.at(1, 5060));
    assert_eq!(phone.register(PASSWORD), 200, "{}", phone.last);
    let filler = data.join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while file.write_all(&[0; 512]).is_ok() {}
    drop(file);
    let mut refused = 0;
    wait_until("a registration is refused", SOON, || {
        refused = Phone::udp("alice", pair.at(1, 5060)).register(PASSWORD);
        refused >= 500
    });
    assert_eq!(refused, 503, "what cannot be kept is not acknowledged");
    let said = server.said();
    assert!(said.contains("full"), "the log does not name the trouble: {said}");
    std::fs::remove_file(&filler).expect("the filler can be removed");
    wait_until("registrations are taken again", SOON, || {
        Phone::udp("alice", pair.at(1, 5060)).register(PASSWORD) == 200
    });
    assert!(!server.said().contains("panicked"), "{}", server.said());
    drop(server);
    drop(disk);
}

/// A disk of half a megabyte; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<SmallDisk> {
        missing(&["mount"]).is_none().then_some(())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "rehome-test"])
            .arg(&at)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_restart_keeps_bindings_and_a_kill_loses_none_in_strict_mode() {
    let pair = Pair::new();
    let mut server = pair.serve(1, &[]);
    let mut phone = Phone::udp("alice", pair.at(1, 5060));
    assert_eq!(phone.register(PASSWORD), 200, "{}", phone.last);
    server.signal("TERM");
    assert!(server.wait_for_end(SOON).success(), "{}", server.said());
    let server = pair.serve(1, &["--durability", "strict"]);
    assert_eq!(pair.bindings(1), 1, "the restart lost the binding");

    // Strict: what was answered 200 is there, however soon after it the process dies.
    let mut second = Phone::udp("alice", pair.at(1, 5060));
    assert_eq!(second.register(PASSWORD), 200, "{}", second.last);
    server.kill();
    let _server = pair.serve(1, &["--durability", "strict"]);
    assert_eq!(pair.bindings(1), 2, "an acknowledged binding was lost");
}

#[test]
fn write_behind_keeps_what_is_older_than_its_second() {
    let pair = Pair::new();
    let server = pair.serve(1, &[]);
    let mut phone = Phone::udp("alice", pair.at(1, 5060));
    assert_eq!(phone.register(PASSWORD), 200, "{}", phone.last);
    let wait = support::now();
    wait_until("the write-behind second is over", SOON, || wait.elapsed() > Duration::from_millis(1500));
    server.kill();
    let _server = pair.serve(1, &[]);
    assert_eq!(pair.bindings(1), 1);
}

#[test]
fn a_reload_drops_no_connection_and_a_faulty_topology_changes_nothing() {
    let pair = Pair::new();
    let mut server = pair.serve(1, &[]);
    let mut phone = Phone::tcp("alice", pair.at(1, 5060));
    assert_eq!(phone.register(PASSWORD), 200, "{}", phone.last);

    let good = std::fs::read_to_string(pair.path("topology.toml")).expect("written above");
    pair.write("topology.toml", &good.replace("version = 1", "version = 2"));
    let said = pair.run(&["reload", "--admin", &pair.admin(1)]);
    assert!(said.contains("topology version 2"), "{said}");
    server.signal("HUP");
    server.wait_for("topology version 2", SOON);

    pair.write("topology.toml", &good.replace("backup =", "bakcup ="));
    let refused = pair.command(&["reload", "--admin", &pair.admin(1)]).output().expect("runs");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("topology.toml") && why.contains("backup"), "{why}");

    pair.write("topology.toml", &good);
    let refused = pair.command(&["reload", "--admin", &pair.admin(1)]).output().expect("runs");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("has version 1, older than 2"), "{why}");

    assert_eq!(phone.register(PASSWORD), 200, "the connection outlives both: {}", phone.last);
}

#[test]
fn dns_that_does_not_answer_is_named_and_does_not_hang() {
    let pair = Pair::new();
    // Somebody listens there, and says nothing.
    let silent = UdpSocket::bind("127.9.0.1:0").expect("loopback");
    let dns = silent.local_addr().expect("bound").to_string();
    let mut client = Running::start(
        "sign-in",
        &mut pair.command(&[
            "sign-in",
            "alice@example.test",
            "--password-file",
            "password",
            "--ca",
            "ca.pem",
            "--dns",
            &dns,
        ]),
    );
    let (line, _) =
        client.wait_for_all(&["_sipinternaltls._tcp.example.test", "time"], Duration::from_secs(5));
    assert!(!line.contains("panicked"), "{line}");
}
