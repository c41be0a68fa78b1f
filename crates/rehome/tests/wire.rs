//! What goes over the wire, as `tshark` captures it on a server's host: bytes, not our idea of them.

mod support;

use std::time::Duration;

use support::{DNS, Deployment, REHOME, Running, installed};

const SOON: Duration = Duration::from_secs(20);

/// The status line, two Contact lines in order of q, and thirty days: what the model's servers send.
#[test]
fn a_user_of_the_other_pool_is_sent_home_with_the_models_301() {
    let test = "a_user_of_the_other_pool_is_sent_home_with_the_models_301";
    if !installed(test, &[("tshark", "tshark")]) {
        return;
    }
    let Some(site) = Deployment::new(test, "w", "rehome", &[(0, "fe1")]) else { return };
    let _running = [site.dns(), site.serve("fe1"), site.serve("fe2")];
    let mut capture = capture(&site);

    let mut sign_in = site.hosts.on("phone", REHOME);
    sign_in
        .args(["--json", "sign-in", "clientuser2@example.test", "--transport", "tcp", "--once"])
        .args(["--password-file", "password", "--dns", &format!("{DNS}:53"), "--cache", "cache.json"])
        .current_dir(site.directory.path());
    let mut user = Running::start("clientuser2", &mut sign_in);
    user.wait_for_service("full", "fe2", SOON);
    assert!(user.wait_for_end(SOON).success(), "signing out went wrong:\n{}", user.said());

    let challenge = status_line_and_headers(&mut capture, 401);
    assert!(challenge.iter().any(|line| line.starts_with("WWW-Authenticate: Digest ")), "{challenge:#?}");
    let redirect = status_line_and_headers(&mut capture, 301);
    let named = |name: &str| redirect.iter().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    assert_eq!(redirect[0], "SIP/2.0 301 Redirect request to Home Server", "{redirect:#?}");
    assert_eq!(
        named("Contact:"),
        [
            "Contact: <sip:fe2.example.test:5060;transport=TCP>;q=0.7",
            "Contact: <sip:fe1.example.test:5060;transport=TCP>;q=0.3"
        ],
        "{redirect:#?}"
    );
    assert_eq!(named("Expires:"), ["Expires: 2592000"], "{redirect:#?}");
}

/// Captures SIP on fe1's network card: one line for each packet, with port, status and bytes.
fn capture(site: &Deployment) -> Running {
    let mut command = site.hosts.on("fe1", "tshark");
    command
        .args(["-l", "-i", "eth0", "-f", "tcp port 5060 or tcp port 5061", "-T", "fields"])
        .args(["-e", "tcp.dstport", "-e", "sip.Status-Code", "-e", "tcp.payload"])
        .env("TMPDIR", site.directory.path());
    let mut capture = Running::start("tshark", &mut command);
    // It says that it captures before it does; the heartbeats of the two servers tell.
    capture.wait_for("5061\t", SOON);
    capture
}

/// The lines of the next captured answer with this status.
fn status_line_and_headers(capture: &mut Running, status: u16) -> Vec<String> {
    let (packet, _) = capture.wait_for(&format!("\t{status}\t"), SOON);
    let digits = packet.rsplit('\t').next().unwrap_or_default();
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("tshark prints bytes in hex"))
        .collect();
    let message = String::from_utf8(bytes).expect("an answer is text");
    let (head, _body) = message.split_once("\r\n\r\n").expect("one answer is one packet");
    head.split("\r\n").map(str::to_owned).collect()
}
