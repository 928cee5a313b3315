//! Connections on which HTTP is spoken first: both halves of a tunnel, and WebSockets, become connections like any other.
//!
//! ```text
//!   GET  ──► 200, waits ──────────┐ writes
//!                                 ├──► one session
//!   POST ──► by cookie, address ──┘ reads Base64          a POST without its GET: 404; anything more on the GET: the end
//! ```
//!
//! Bounds: a half waits as long as any connection may take to set itself up, and counts as one that nothing has authorised; so
//! there are no more halves than such connections. A WebSocket's messages have [`MAX_WS_MESSAGE`] bytes at most.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arcly_core::net::{Admission, close_reason};
use arcly_core::{CloseReason, Phase};
use bytes::{Buf as _, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;

use super::{Report, serve};
#[cfg(feature = "websocket")]
use crate::wire::tunnel::switching_protocols;
use crate::wire::tunnel::{Base64Decoder, Cookie, Opening, refusal, tunnelled};
use crate::wire::{Decoder, Item, Request, Response, Status};

/// Bytes that are read at a time.
const PIECE: usize = 8 << 10;
/// The longest message of a WebSocket: a packet, or a request with its body.
#[cfg(feature = "websocket")]
const MAX_WS_MESSAGE: usize = 256 << 10;

type BoxedReader = Box<dyn AsyncRead + Send + Unpin>;

/// The half of a tunnel that requests come in on.
struct RequestHalf {
    reader: BoxedReader,
    /// What came behind its head.
    rest: Bytes,
    /// Told how the session ended.
    ended: oneshot::Sender<CloseReason>,
}

/// Halves that wait for their other half, by cookie and address.
#[derive(Default)]
pub(super) struct Tunnels(Mutex<HashMap<(Cookie, IpAddr), oneshot::Sender<RequestHalf>>>);

/// Serves a connection, whichever protocol it begins with.
pub(super) async fn enter<R, W>(
    (mut reader, writer): (R, W),
    admission: Admission,
    report: &mut Report,
    since: Instant,
) where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let deadline = since + report.shared.session.timeouts.setup;
    let mut begun = BytesMut::new();
    let is_http = async {
        loop {
            if let Some(is_http) = speaks_http(&begun) {
                return Ok(is_http);
            }
            match reader.read_buf(&mut begun).await {
                Ok(0) => return Err(CloseReason::PeerClosed),
                Ok(_) => {}
                Err(error) => return Err(close_reason(&error, false)),
            }
        }
    };
    match within(&report.shared, deadline, is_http).await {
        Ok(true) => {}
        Ok(false) => return serve((Prefixed::new(begun, reader), writer), admission, report, since).await,
        Err(reason) => return over(report, reason),
    }
    let http = Http { reader, writer, decoder: Decoder::new(report.shared.session.limits.messages) };
    http.serve(begun, admission, report, since).await;
}

/// Does something before `deadline`, unless the server goes down.
async fn within<T>(
    shared: &super::Shared,
    deadline: Instant,
    work: impl Future<Output = Result<T, CloseReason>>,
) -> Result<T, CloseReason> {
    match tokio::time::timeout_at(deadline.into(), shared.shutdown.run_until_cancelled(work)).await {
        Ok(Some(done)) => done,
        Ok(None) => Err(CloseReason::Shutdown),
        Err(_) => Err(CloseReason::Timeout(Phase::Handshake)),
    }
}

/// A connection is over that was no session.
fn over(report: &mut Report, reason: CloseReason) {
    tracing::info!(peer = %report.remote, protocol = report.protocol, %reason, "closed");
    report.reason = reason;
}

/// Whether the first bytes are those of `GET` or `POST`; `None` while they may be.
fn speaks_http(begun: &[u8]) -> Option<bool> {
    let may_be = |method: &[u8]| begun.iter().zip(method).all(|(a, b)| a == b);
    let is = |method: &[u8]| begun.starts_with(method);
    let methods: [&[u8]; 2] = [b"GET ", b"POST "];
    if methods.iter().any(|method| is(method)) {
        return Some(true);
    }
    if methods.iter().any(|method| may_be(method)) { None } else { Some(false) }
}

/// A connection that begins in HTTP.
struct Http<R, W> {
    reader: R,
    writer: W,
    decoder: Decoder,
}

impl<R, W> Http<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    async fn serve(mut self, begun: BytesMut, admission: Admission, report: &mut Report, since: Instant) {
        let deadline = since + report.shared.session.timeouts.setup;
        let shared = Arc::clone(&report.shared);
        let opening = match within(&shared, deadline, self.opening(begun)).await {
            Ok(opening) => opening,
            Err(reason) => return over(report, reason),
        };
        match opening {
            Opening::Responses(cookie) => self.responses(cookie, admission, report, since).await,
            Opening::Requests(cookie) => {
                let reason = self.requests(cookie, report.remote, &shared).await;
                over(report, reason);
            }
            #[cfg(feature = "websocket")]
            Opening::WebSocket { key, named } => {
                let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
                let answer = switching_protocols(&accept, named);
                if let Err(reason) = within(&shared, deadline, self.say(&answer)).await {
                    return over(report, reason);
                }
                let (reader, writer) = web_socket::halves(self.prefixed()).await;
                serve((reader, writer), admission, report, since).await;
            }
            #[cfg(not(feature = "websocket"))]
            Opening::WebSocket { .. } => {
                let answer = refusal(Status::NOT_IMPLEMENTED);
                let said = within(&shared, deadline, self.say(&answer)).await;
                over(report, said.err().unwrap_or(CloseReason::Unsupported));
            }
        }
    }

    /// Reads the request, and refuses what opens nothing.
    async fn opening(&mut self, begun: BytesMut) -> Result<Opening, CloseReason> {
        let request = self.request(begun).await?;
        match Opening::of(&request) {
            Ok(opening) => Ok(opening),
            Err(response) => {
                self.say(&response).await?;
                Err(CloseReason::Malformed)
            }
        }
    }

    async fn request(&mut self, mut begun: BytesMut) -> Result<Request, CloseReason> {
        loop {
            self.decoder.push(&begun.split());
            match self.decoder.poll() {
                Ok(None) => {}
                Ok(Some(Item::Request(request))) => return Ok(request),
                Ok(Some(_)) => return Err(CloseReason::Malformed),
                Err(error) => {
                    self.say(&refusal(Status::BAD_REQUEST)).await?;
                    return Err(error.into());
                }
            }
            match self.reader.read_buf(&mut begun).await {
                Ok(0) => return Err(CloseReason::PeerClosed),
                Ok(_) => {}
                Err(error) => return Err(close_reason(&error, false)),
            }
        }
    }

    async fn say(&mut self, response: &Response) -> Result<(), CloseReason> {
        let written = self.writer.write_all(&response.to_bytes()).await;
        written.map_err(|error| close_reason(&error, false))
    }

    /// The half that is written to waits for the other one, and becomes a session with it.
    async fn responses(mut self, cookie: Cookie, admission: Admission, report: &mut Report, since: Instant) {
        let Some(mut place) = Place::take(&report.shared, (cookie, report.remote.ip())) else {
            let _ = self.say(&refusal(Status::CONFLICT)).await;
            return over(report, CloseReason::Conflict);
        };
        let deadline = since + report.shared.session.timeouts.setup;
        let waiting = async {
            self.say(&tunnelled()).await?;
            let mut byte = [0];
            tokio::select! {
                half = &mut place.arrived => half.map_err(|_| CloseReason::Internal),
                // Nothing belongs here but the other half, which is another connection (T36).
                read = self.reader.read(&mut byte) => Err(match read {
                    Ok(0) => CloseReason::PeerClosed,
                    Ok(_) => CloseReason::Malformed,
                    Err(error) => close_reason(&error, false),
                }),
            }
        };
        let shared = Arc::clone(&report.shared);
        let half = match within(&shared, deadline, waiting).await {
            Ok(half) => half,
            Err(reason) => return over(report, reason),
        };
        drop(place);
        let requests = Unwrapped::new(half.rest, half.reader);
        serve((requests, self.writer), admission, report, since).await;
        let _ = half.ended.send(report.reason);
    }

    /// The half that requests come in on is handed over; this connection lasts as long as the session.
    async fn requests(mut self, cookie: Cookie, remote: SocketAddr, shared: &super::Shared) -> CloseReason {
        let other = shared.tunnels.0.lock().remove(&(cookie, remote.ip()));
        let (ended, session_over) = oneshot::channel();
        let rest = self.decoder.take_rest();
        let Self { reader, mut writer, .. } = self;
        let half = RequestHalf { reader: Box::new(reader), rest, ended };
        if other.is_none_or(|other| other.send(half).is_err()) {
            let _ = writer.write_all(&refusal(Status::NOT_FOUND).to_bytes()).await;
            return CloseReason::NotFound;
        }
        session_over.await.unwrap_or(CloseReason::PeerClosed)
    }

    #[cfg(feature = "websocket")]
    fn prefixed(mut self) -> tokio::io::Join<Prefixed<R>, W> {
        let rest = BytesMut::from(&*self.decoder.take_rest());
        tokio::io::join(Prefixed::new(rest, self.reader), self.writer)
    }
}

/// A half's place among those that wait, given up when it is dropped.
struct Place {
    shared: Arc<super::Shared>,
    key: (Cookie, IpAddr),
    arrived: oneshot::Receiver<RequestHalf>,
}

impl Place {
    /// `None` when another half waits there.
    fn take(shared: &Arc<super::Shared>, key: (Cookie, IpAddr)) -> Option<Self> {
        let mut tunnels = shared.tunnels.0.lock();
        if tunnels.contains_key(&key) {
            return None;
        }
        let (sender, arrived) = oneshot::channel();
        tunnels.insert(key.clone(), sender);
        drop(tunnels);
        Some(Self { shared: Arc::clone(shared), key, arrived })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.arrived.close();
        let mut tunnels = self.shared.tunnels.0.lock();
        // Its other half may have come, and another one may wait there now.
        if tunnels.get(&self.key).is_some_and(oneshot::Sender::is_closed) {
            tunnels.remove(&self.key);
        }
    }
}

/// Bytes that were read before, and then a reader.
pub(super) struct Prefixed<R> {
    before: BytesMut,
    reader: R,
}

impl<R> Prefixed<R> {
    const fn new(before: BytesMut, reader: R) -> Self {
        Self { before, reader }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Prefixed<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.reader).poll_read(cx, buf);
        }
        let count = self.before.len().min(buf.remaining());
        buf.put_slice(&self.before.split_to(count));
        if self.before.is_empty() {
            // The buffer is not needed again.
            self.before = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// What Base64 says, read from a reader.
struct Unwrapped {
    decoder: Base64Decoder,
    reader: BoxedReader,
    /// In Base64, not yet looked at.
    before: Bytes,
    decoded: BytesMut,
}

impl Unwrapped {
    fn new(before: Bytes, reader: BoxedReader) -> Self {
        Self { decoder: Base64Decoder::default(), reader, before, decoded: BytesMut::new() }
    }
}

impl AsyncRead for Unwrapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while this.decoded.is_empty() {
            let before = core::mem::take(&mut this.before);
            if !before.is_empty() {
                this.decoder.push(&before, &mut this.decoded).map_err(wrong)?;
                continue;
            }
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.reader).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.decoder.push(piece.filled(), &mut this.decoded).map_err(wrong)?;
        }
        let count = this.decoded.len().min(buf.remaining());
        buf.put_slice(this.decoded.get(..count).unwrap_or_default());
        this.decoded.advance(count);
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "websocket")]
mod web_socket {
    //! A WebSocket as a connection: its binary messages are the bytes, wherever they are cut.

    use bytes::Buf as _;
    use futures_util::{Sink as _, Stream as _};
    use std::sync::Arc;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{Error, Message};

    use super::{
        AsyncRead, AsyncWrite, Bytes, Context, MAX_WS_MESSAGE, Mutex, Pin, Poll, ReadBuf, io, ready,
    };

    /// The socket, which both halves need: a reader answers pings.
    type Shared<S> = Arc<Mutex<WebSocketStream<S>>>;

    pub(super) struct Reader<S> {
        socket: Shared<S>,
        message: Bytes,
    }

    pub(super) struct Writer<S>(Shared<S>);

    pub(super) async fn halves<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> (Reader<S>, Writer<S>) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_WS_MESSAGE))
            .max_frame_size(Some(MAX_WS_MESSAGE))
            .max_write_buffer_size(2 * MAX_WS_MESSAGE)
            .write_buffer_size(0);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let socket = Arc::new(Mutex::new(socket));
        (Reader { socket: Arc::clone(&socket), message: Bytes::new() }, Writer(socket))
    }

    fn wrong(error: Error) -> io::Error {
        match error {
            Error::Io(error) => error,
            Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
            error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Reader<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            while self.message.is_empty() {
                let next = ready!(Pin::new(&mut *self.socket.lock()).poll_next(cx));
                self.message = match next {
                    None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => {
                        return Poll::Ready(Ok(()));
                    }
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Text(_))) => {
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "text in a WebSocket",
                        )));
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Poll::Ready(Err(wrong(error))),
                };
            }
            let count = self.message.len().min(buf.remaining());
            buf.put_slice(&self.message[..count]);
            self.message.advance(count);
            Poll::Ready(Ok(()))
        }
    }

    impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Writer<S> {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let bytes = &bytes[..bytes.len().min(MAX_WS_MESSAGE)];
            let mut socket = self.0.lock();
            let mut socket = Pin::new(&mut *socket);
            ready!(socket.as_mut().poll_ready(cx)).map_err(wrong)?;
            socket.as_mut().start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(wrong)?;
            // What cannot go out now goes out before the next message is taken.
            let _ = socket.poll_flush(cx).map_err(wrong)?;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0.lock()).poll_flush(cx).map_err(wrong)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0.lock()).poll_close(cx).map_err(wrong)
        }
    }
}
