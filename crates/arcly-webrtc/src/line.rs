//! A connection that datagrams travel in (RFC 6544 §3, RFC 4571): what servers and clients have in common.

use core::future::poll_fn;
use std::io;
use std::time::Duration;

use arcly_core::net::poll_receive;
use arcly_core::wire::DecodeError;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::wire::{Deframer, frame};

/// Datagrams that wait for a connection. What comes when there are more is lost, as it is where a network has no room, and for the
/// same to be done about it: fewer pictures, or another layer.
pub const OUTBOX: usize = 256;
/// Datagrams that are written at once.
const BATCH: usize = 64;
/// A connection that takes no byte for so long has nobody at its end any more, or somebody who does not read.
pub const STALL: Duration = Duration::from_secs(10);

/// Why a connection carries nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the peer takes nothing any more")]
    Stalled,
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Writes what waits, until nobody has anything to send any more, and closes this direction.
pub(crate) async fn transmit(
    mut waiting: mpsc::Receiver<Bytes>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Broken> {
    // Datagrams are copied into one piece: two pieces for each, its length and itself, would cost the kernel more than the copy does.
    let (mut datagrams, mut bytes) = (Vec::with_capacity(BATCH), BytesMut::new());
    while waiting.recv_many(&mut datagrams, BATCH).await > 0 {
        for datagram in datagrams.drain(..) {
            // What this side makes is as long as a packet.
            let _ = frame(&datagram, &mut bytes);
        }
        while bytes.has_remaining() {
            let written = tokio::time::timeout(STALL, writer.write_buf(&mut bytes)).await;
            written.map_err(|_| Broken::Stalled)??;
        }
    }
    Ok(tokio::time::timeout(STALL, writer.shutdown()).await.map_err(|_| Broken::Stalled)??)
}

/// What comes over a connection.
pub(crate) struct Incoming<R> {
    reader: R,
    deframer: Deframer,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, deframer: Deframer::default() }
    }

    /// The next datagram; `None` where the peer has closed the connection. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(datagram) = self.deframer.poll_datagram()? {
                return Ok(Some(datagram));
            }
            let Self { reader, deframer } = self;
            let taken = poll_fn(|cx| poll_receive(reader, cx, |bytes| deframer.handle_bytes(bytes))).await?;
            if taken == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_nothing_ends_and_one_that_is_slow_does_not() {
        let (outbox, waiting) = mpsc::channel(OUTBOX);
        let (mut near, mut far) = tokio::io::duplex(64);
        (0..100).for_each(|_| outbox.try_send(Bytes::from(vec![7; 100])).unwrap());
        let began = tokio::time::Instant::now();
        let slow = async {
            for _ in 0..100 {
                tokio::time::sleep(STALL / 2).await;
                assert_eq!(far.read(&mut [0; 64]).await.unwrap(), 64);
            }
            far
        };
        let (ended, _far) = tokio::join!(transmit(waiting, &mut near), slow);
        assert!(matches!(ended, Err(Broken::Stalled)), "{ended:?}");
        assert_eq!(began.elapsed(), STALL / 2 * 100 + STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_sent_before_the_connection_is_closed() {
        let (outbox, waiting) = mpsc::channel(OUTBOX);
        let (mut near, mut far) = tokio::io::duplex(4);
        ["good", "bye"].into_iter().for_each(|word| outbox.try_send(Bytes::from(word)).unwrap());
        drop(outbox);
        let mut said = Vec::new();
        let (ended, read) = tokio::join!(transmit(waiting, &mut near), far.read_to_end(&mut said));
        assert!(ended.is_ok() && read.is_ok(), "{ended:?}");
        assert_eq!(said, b"\0\x04good\0\x03bye");
    }
}
