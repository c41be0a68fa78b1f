//! Which shard a message belongs to, from as few of its bytes as possible.
//!
//! | message | shard |
//! | --- | --- |
//! | heartbeat of a proved peer (OPTIONS that names no user) | 0, which keeps the watch |
//! | request that names a user | the user's: hash of the address-of-record |
//! | response | the one whose branch it answers (RFC 3261 §17.1.3): of the sixteen hexadecimal digits after `z9hG4bK` the last two |
//! | request that names no user, keepalive | the flow's |
//!
//! A retransmission, an ACK and a CANCEL name the same user as their INVITE, so they find the same shard. A request that
//! names its user in another way (by number, by our own address, inside a dialog by a device's Contact) comes to some
//! shard, which knows more and hands it over (`Output::Handover`).

use sip::transport::{Flow, peek_aor};

/// The shard of one message that came by `flow`.
pub(crate) fn shard_of(bytes: &[u8], flow: &Flow, shards: usize) -> usize {
    if shards <= 1 {
        return 0;
    }
    if is_response(bytes) {
        return response_shard(bytes, shards);
    }
    match peek_aor(bytes) {
        Some(hash) => (hash % shards as u64) as usize,
        None => shard_of_flow(flow, shards),
    }
}

/// The shard of a message that may be a heartbeat, or the answer to one; none if it is neither. Only to be
/// believed of peers that have proved who they are.
pub(crate) fn heartbeat_shard(bytes: &[u8], shards: usize) -> Option<usize> {
    match is_response(bytes) {
        true => is_options(bytes).then(|| response_shard(bytes, shards)),
        false => (is_options(bytes) && peek_aor(bytes).is_none()).then_some(0),
    }
}

/// The shard that answers what names nobody.
pub(crate) fn shard_of_flow(flow: &Flow, shards: usize) -> usize {
    let key = match flow.serial {
        0 => u64::from(flow.remote.port()),
        serial => serial,
    };
    (key % shards.max(1) as u64) as usize
}

/// An OPTIONS request, or the answer to one.
pub(crate) fn is_options(bytes: &[u8]) -> bool {
    if !is_response(bytes) {
        return bytes.starts_with(b"OPTIONS ");
    }
    let cseq =
        lines(bytes).find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"cseq:")));
    cseq.is_some_and(|line| line.ends_with(b" OPTIONS"))
}

fn is_response(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SIP/2.0 ")
}

fn response_shard(bytes: &[u8], shards: usize) -> usize {
    shard_in_branch(bytes).filter(|shard| *shard < shards).unwrap_or(0)
}

fn shard_in_branch(bytes: &[u8]) -> Option<usize> {
    const COOKIE: &[u8] = b"branch=z9hG4bK";
    let is_via = |line: &&[u8]| {
        line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"via:"))
            || line.get(..2).is_some_and(|name| name.eq_ignore_ascii_case(b"v:"))
    };
    let via = lines(bytes).find(is_via)?;
    let at = via.windows(COOKIE.len()).position(|window| window == COOKIE)?;
    let drawn = via.get(at + COOKIE.len()..)?.get(..16)?;
    if !drawn.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(std::str::from_utf8(drawn.get(14..)?).ok()?, 16).ok()
}

/// The lines of the head.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use sip::transport::Transport;

    use super::*;

    fn flow(serial: u64) -> Flow {
        let address = "127.0.0.1:5060".parse().unwrap();
        Flow { transport: Transport::Tcp, local: address, remote: address, serial }
    }

    #[test]
    fn a_user_s_requests_meet_in_one_shard_and_answers_find_the_one_that_asked() {
        let register = b"REGISTER sip:example.test SIP/2.0\r\nTo: <sip:alice@example.test>\r\n\r\n";
        let message = b"MESSAGE sip:alice@EXAMPLE.test SIP/2.0\r\nTo: <sip:bob@example.test>\r\n\r\n";
        assert_eq!(shard_of(register, &flow(1), 5), shard_of(message, &flow(2), 5));

        let answer = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK0011223344556603.abc\r\nCSeq: 1 OPTIONS\r\n\r\n";
        assert_eq!(shard_of(answer, &flow(1), 5), 3);
        assert_eq!(shard_of(answer, &flow(1), 2), 0);
        assert!(is_options(answer));
        assert!(!is_options(register));
        assert_eq!(heartbeat_shard(answer, 5), Some(3));
        assert_eq!(heartbeat_shard(b"OPTIONS sip:fe1.example.test:5061 SIP/2.0\r\n\r\n", 5), Some(0));
        assert_eq!(heartbeat_shard(b"OPTIONS sip:alice@example.test SIP/2.0\r\n\r\n", 5), None);
        assert_eq!(heartbeat_shard(register, 5), None);
        assert_eq!(shard_of(b"OPTIONS sip:example.test SIP/2.0\r\n\r\n", &flow(7), 5), 2);
        assert_eq!(shard_of(b"\xff\xfe", &flow(7), 5), 2);
    }
}
