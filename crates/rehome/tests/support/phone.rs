//! The smallest phone: REGISTER over UDP or TCP with digest, by hand, for tests that look at single answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use sip::digest::{self, Asked, Challenge};
use sip::header::HeaderName;
use sip::message::Message;

/// How long an answer may take before the phone gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// One phone of one user, on one socket.
pub(crate) struct Phone {
    wire: Wire,
    user: String,
    cseq: u32,
    /// What the last answer said, whole.
    pub(crate) last: String,
}

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Phone {
    /// A phone that speaks UDP.
    pub(crate) fn udp(user: &str, server: SocketAddr) -> Phone {
        let socket = UdpSocket::bind("127.9.0.1:0").expect("loopback has all of 127/8");
        socket.connect(server).expect("a UDP socket can name its peer");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Phone { wire: Wire::Udp(socket), user: user.to_owned(), cseq: 0, last: String::new() }
    }

    /// A phone that speaks TCP.
    pub(crate) fn tcp(user: &str, server: SocketAddr) -> Phone {
        let stream = TcpStream::connect_timeout(&server, PATIENCE).expect("the server accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Phone { wire: Wire::Tcp(stream), user: user.to_owned(), cseq: 0, last: String::new() }
    }

    /// Registers, answering the challenge; gives the final status, 0 when nothing came.
    pub(crate) fn register(&mut self, password: &str) -> u16 {
        let status = self.exchange(None);
        if status != 401 {
            return status;
        }
        let message = Message::parse(self.last.clone().into()).expect("the server speaks SIP");
        let challenges: Vec<Challenge> =
            message.headers(HeaderName::WwwAuthenticate).flat_map(Challenge::parse_all).collect();
        let challenge = digest::strongest(&challenges).expect("a 401 has a challenge");
        let asked = Asked { method: "REGISTER", uri: "sip:example.test", body: b"" };
        let ha1 = challenge.ha1(&self.user, password);
        let credentials = digest::answer(challenge, &self.user, &ha1, &asked, 1, "0a4f113b");
        self.exchange(Some(&credentials))
    }

    fn exchange(&mut self, credentials: Option<&str>) -> u16 {
        self.cseq += 1;
        let (transport, local) = match &self.wire {
            Wire::Udp(socket) => ("UDP", socket.local_addr()),
            Wire::Tcp(stream) => ("TCP", stream.local_addr()),
        };
        let local = local.expect("a connected socket has an address");
        let authorization =
            credentials.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let (user, cseq) = (&self.user, self.cseq);
        let port = local.port();
        self.send(
            format!(
                "REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK{port}x{cseq};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:{user}@example.test>;tag=t{port}\r\nTo: <sip:{user}@example.test>\r\n\
                 Call-ID: c{port}@test\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{local};transport={transport}>\r\n\
                 Expires: 300\r\n{authorization}Content-Length: 0\r\n\r\n"
            )
            .as_bytes(),
        );
        self.hear()
    }

    /// Sends these bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => drop(socket.send(bytes)),
            Wire::Tcp(stream) => drop(stream.write_all(bytes)),
        }
    }

    /// The status of the next answer; 0 when nothing came in time or the connection ended.
    pub(crate) fn hear(&mut self) -> u16 {
        let mut buffer = vec![0; 65_536];
        self.last.clear();
        let heard = match &mut self.wire {
            Wire::Udp(socket) => socket.recv(&mut buffer).unwrap_or(0),
            Wire::Tcp(stream) => {
                let mut length = 0;
                while !buffer[..length].windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer[length..]) {
                        Ok(0) | Err(_) => break,
                        Ok(more) => length += more,
                    }
                }
                length
            }
        };
        self.last = String::from_utf8_lossy(&buffer[..heard]).into_owned();
        self.last.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}
