//! Who has a port that we wanted: asked of `/proc` when a bind fails, so that the error can say.

use std::fs;
use std::net::SocketAddr;

/// The process that listens on the port of `address`, as `nginx (pid 123)`; none if it cannot be seen
/// (another user's process, or no `/proc`).
pub(crate) fn holder(address: SocketAddr, is_datagram: bool) -> Option<String> {
    let tables: [&str; 2] = if is_datagram { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let inode = tables.iter().find_map(|table| {
        let table = fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        table.lines().skip(1).find_map(|line| inode_of(line, address, is_datagram))
    })?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files
            .find(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// The inode of one line of `/proc/net/tcp`, if it is about this port, at this address or at all of them.
fn inode_of(line: &str, wanted: SocketAddr, is_datagram: bool) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    let is_listening = is_datagram || *words.get(3)? == "0A";
    if !is_listening || u16::from_str_radix(port, 16).ok()? != wanted.port() {
        return None;
    }
    let is_any = address.bytes().all(|digit| digit == b'0');
    let same = match wanted {
        // The kernel prints the address as it lies in memory.
        SocketAddr::V4(v4) => {
            u32::from_str_radix(address, 16).ok() == Some(u32::from_ne_bytes(v4.ip().octets()))
        }
        SocketAddr::V6(_) => address.len() == 32,
    };
    (is_any || same || wanted.ip().is_unspecified()).then(|| words.get(9)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let ours = std::net::TcpListener::bind("127.1.9.2:0").unwrap();
        let address = ours.local_addr().unwrap();
        let holder = holder(address, false).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        assert_eq!(super::holder(address, true), None);
    }
}
