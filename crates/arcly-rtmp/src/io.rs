//! What server and client do alike with a socket, beyond what all protocols do ([`arcly_core::net`]).

use std::io;

#[cfg(feature = "tls")]
use arcly_core::CloseReason;
pub(crate) use arcly_core::net::{Outbox, READ, close_reason, poll_receive, receive_now, tune};
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::wire::handshake::Entropy;

/// Random bytes from the operating system.
pub(crate) fn os_entropy() -> io::Result<Entropy> {
    let mut result = Ok(());
    let entropy = Entropy::from_fn(|bytes| result = getrandom::fill(bytes));
    result.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(entropy)
}

/// What the operating system holds for a publisher, who is sent next to nothing: little, so that one that does not read
/// is noticed (R42). The system's own minimum is larger, 4.5 KiB on Linux.
pub(crate) const PUBLISHER_SEND_BUFFER: usize = 1;
/// What it holds for one that plays too.
pub(crate) const PLAYER_SEND_BUFFER: usize = 256 << 10;

/// A writing half whose socket can be told how much to hold.
pub(crate) trait SendBuffer {
    /// Holds about so many bytes; best effort.
    fn set_send_buffer(&self, bytes: usize) {
        let _ = bytes;
    }
}

impl SendBuffer for tokio::net::tcp::OwnedWriteHalf {
    fn set_send_buffer(&self, bytes: usize) {
        let _ = SockRef::from(AsRef::<TcpStream>::as_ref(self)).set_send_buffer_size(bytes);
    }
}

// The socket is out of reach inside the TLS stream; the keep-alive and user time-outs hold there too.
#[cfg(feature = "tls")]
impl SendBuffer for tokio::io::WriteHalf<tokio_rustls::server::TlsStream<TcpStream>> {}

/// Why a TLS handshake failed.
#[cfg(feature = "tls")]
pub(crate) fn tls_reason(error: &io::Error) -> CloseReason {
    use tokio_rustls::rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => CloseReason::Unsupported,
        Some(_) => CloseReason::Malformed,
        None => close_reason(error, false),
    }
}
