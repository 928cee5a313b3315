//! Ports for programs that have to be told one: FFmpeg that listens, libsrt, nginx.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that Linux gives to who asks for any: no socket of a test takes one of these while its program starts.
const FIRST: u32 = 16_384;
const COUNT: u32 = 16_384;
/// Ports between two processes that were started one after the other.
const APART: u32 = 64;

/// A port of 127.0.0.1 that nobody has, over TCP and over UDP, and that no other test of this process is given.
///
/// # Panics
/// Every port is taken.
#[must_use]
pub fn free_port() -> u16 {
    free_pair()
}

/// The same with its address.
///
/// # Panics
/// Every port is taken.
#[must_use]
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// An even port and, behind it, the next: for RTP and its RTCP (RFC 3550, section 11).
///
/// # Panics
/// Every port is taken.
#[must_use]
pub fn free_pair() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(APART);
    let even = |_| {
        let offset = start.wrapping_add(GIVEN.fetch_add(2, Ordering::Relaxed)) % COUNT;
        u16::try_from(FIRST + offset).expect("below 32768")
    };
    let mut candidates = (0..COUNT / 2).map(even);
    candidates.find(|even| is_free(*even) && is_free(even + 1)).expect("a port is free")
}

fn is_free(port: u16) -> bool {
    let any = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_is_given_a_port_twice_or_one_that_is_taken() {
        let first = free_pair();
        assert_eq!(first % 2, 0);
        // What would be given next, and its neighbour.
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, first + 3)).map(|socket| (socket, first + 2));
        let given: HashSet<_> = (0..100).map(|_| free_pair()).collect();
        assert_eq!(given.len(), 100);
        assert!(!given.contains(&first), "{first}");
        assert!(taken.is_ok_and(|(_, beside)| !given.contains(&beside)), "{first}");
    }
}
