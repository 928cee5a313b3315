use core::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Outbox, poll_receive};

/// How long a good-bye may take to go out.
pub const FLUSH: Duration = Duration::from_millis(500);
/// How long the peer may go on sending after it, so that a reset does not overtake the good-bye.
const LINGER: Duration = Duration::from_millis(250);

/// Sends what waits and closes this direction; false where that takes longer than [`FLUSH`] or fails.
pub async fn flush(outbox: &mut Outbox, writer: &mut (impl AsyncWrite + Unpin)) -> bool {
    let all = async {
        while !outbox.is_empty() {
            poll_fn(|cx| outbox.poll_write(writer, cx)).await?;
        }
        writer.shutdown().await
    };
    matches!(tokio::time::timeout(FLUSH, all).await, Ok(Ok(())))
}

/// Reads until the peer has closed its direction too, or has taken too long for it: what it has sent and nobody has read would
/// make the operating system reset the connection, and the good-bye would be lost with it.
pub async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let rest = async { while poll_fn(|cx| poll_receive(reader, cx, |_| {})).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_goes_out_or_is_given_up_in_time() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"good-bye"));
        let mut heard = Vec::new();
        let (sent, read) = tokio::join!(flush(&mut outbox, &mut near), far.read_to_end(&mut heard));
        assert!(sent && read.is_ok() && heard == b"good-bye");
        let (mut near, _deaf) = tokio::io::duplex(4);
        outbox.push(Bytes::from_static(b"good-bye"));
        let began = tokio::time::Instant::now();
        assert!(!flush(&mut outbox, &mut near).await);
        assert_eq!(began.elapsed(), FLUSH);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_may_finish_and_not_go_on_for_ever() {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(b"one more thing").await.unwrap();
        far.shutdown().await.unwrap();
        let began = tokio::time::Instant::now();
        linger(&mut near).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let (mut near, _far) = tokio::io::duplex(64);
        linger(&mut near).await;
        assert_eq!(began.elapsed(), LINGER);
    }
}
