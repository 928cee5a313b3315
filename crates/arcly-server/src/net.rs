//! Listening sockets, and what every accepted one gets.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config::Listen;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// How long a peer may be silent on the level of TCP: a half-open connection is noticed after this.
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// What the operating system holds for a player: sent and not acknowledged, and not sent. A window that closes is
/// noticed after so many bytes.
const PLAYER_SEND_BUFFER: usize = 256 << 10;
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 << 10;
/// How long to leave accepting alone when the process has no file descriptor left.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Binds a listener, `None` when it is off.
///
/// # Errors
/// No address of it can be bound; with the address in the message.
pub(crate) fn bind(listen: &Listen) -> io::Result<Option<TcpListener>> {
    let describe =
        |error: &io::Error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}"));
    let candidates = listen.candidates().map_err(|error| describe(&error))?;
    let mut failed = None;
    for addr in &candidates {
        match bind_one(*addr) {
            Ok(listener) => return Ok(Some(listener)),
            // A machine without IPv6 has the IPv4 wildcard as its second candidate; a port in use is in use.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(describe(&error)),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => Err(describe(&error)),
        None if listen.is_off() => Ok(None),
        None => Err(describe(&io::Error::new(io::ErrorKind::NotFound, "the name has no address"))),
    }
}

/// Binds a socket for datagrams.
///
/// # Errors
/// As [`bind`].
pub(crate) fn bind_datagrams(listen: &Listen) -> io::Result<UdpSocket> {
    let describe =
        |error: &io::Error| io::Error::new(error.kind(), format!("cannot listen on {listen}/udp: {error}"));
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in listen.candidates().map_err(|error| describe(&error))? {
        match bind_datagrams_at(addr) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(describe(&error)),
            Err(error) => failed = error,
        }
    }
    Err(describe(&failed))
}

fn bind_datagrams_at(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts the next connection. Without file descriptors it waits for some, without spinning.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut quiet = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream);
                return (stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !core::mem::replace(&mut quiet, true) {
                    tracing::warn!(%error, "cannot accept connections at the moment");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// True for errors of the connection that would have been accepted, which say nothing of the next.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(DEAD_AFTER / 2).with_interval(DEAD_AFTER / 6).with_retries(3);
    // The connection works without them too, only less promptly.
    let _ = stream.set_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(DEAD_AFTER));
}

/// Bounds what the system holds of a stream for one that is too slow.
pub(crate) fn prepare_player(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // Without them it holds more, and that is all.
    let _ = socket.set_send_buffer_size(PLAYER_SEND_BUFFER);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_says_so() {
        let first = bind(&"127.0.0.1:0".parse().unwrap()).unwrap().unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind(&Listen::Host("127.0.0.1".into(), addr.port())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
        assert!(bind(&Listen::Off).unwrap().is_none());
    }

    #[tokio::test]
    async fn the_wildcard_takes_both_families() {
        let listener = bind(&Listen::Any(0)).unwrap().unwrap();
        let addr = listener.local_addr().unwrap();
        let client = TcpStream::connect(("127.0.0.1", addr.port()));
        let (accepted, client) = tokio::join!(accept(&listener), client);
        assert_eq!(accepted.1.ip().to_canonical(), client.unwrap().local_addr().unwrap().ip());
    }
}
