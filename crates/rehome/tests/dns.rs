//! The zone of a topology, printed and served.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn rehome(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rehome"));
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}

/// Killed when the test ends, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_printed_zone_has_both_records_and_every_address() {
    let output = rehome(&["dns", "zone", "lab/two-sites.toml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let zone = String::from_utf8(output.stdout).unwrap();
    let words: Vec<String> =
        zone.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for record in [
        "$ORIGIN example.test.",
        "_sipinternaltls._tcp.example.test. IN SRV 0 0 5061 fe1.example.test.",
        "_sipinternaltls._tcp.example.test. IN SRV 10 0 5061 fe2.example.test.",
        "fe1.example.test. IN A 127.1.0.1",
        "fe2.example.test. IN A 127.2.0.1",
    ] {
        assert!(words.iter().any(|line| line == record), "{record} in\n{zone}");
    }
}

#[test]
fn a_question_is_answered_over_udp() {
    let mut child = Killed(
        rehome(&["dns", "serve", "lab/two-sites.toml", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = String::new();
    let mut lines = BufReader::new(child.0.stdout.take().unwrap());
    while !said.trim_end().ends_with('}') {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "it ended: {said}");
    }
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let server: std::net::SocketAddr = said["listening"].as_str().unwrap().parse().unwrap();

    // fe2.example.test A IN, by hand (RFC 1035 §4.1).
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["fe2", "example", "test"] {
        question.push(label.len() as u8);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&question, server).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).expect("an answer within five seconds");
    assert!(answer[..length].windows(4).any(|bytes| bytes == [127, 2, 0, 1]), "{:?}", &answer[..length]);
}

#[test]
fn a_port_in_use_is_told_with_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = rehome(&["dns", "serve", "lab/two-sites.toml", "--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains(&format!("cannot answer DNS at {address}; choose another with --listen")), "{why}");
    assert!(why.contains("in use"), "{why}");
}
