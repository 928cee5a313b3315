//! Readers of HTTP-FLV over HTTP/1 leave the HTTP library: their sockets go to the egress workers.
//!
//! ```text
//!   request ─► guard ─► hyper ─► routes ─► 200, a stream ─┐ answers that are no stream go back the way they came
//!                                                         ▼
//!                        guard gives the socket up ─► Handover ─► Player ─► Egress: one write for all that is new
//! ```
//!
//! Everything up to the answer is the same for every request: limits, credentials, errors, headers, keep-alive. A stream
//! is the last answer of its connection, so that from its head on the library has nothing left to do; what it costs
//! is a task, buffers and a wake-up for each reader and frame. The head is written here, in the way the library would
//! have.
//!
//! | bound | value | verdict |
//! |---|---|---|
//! | bytes that a player sends and nobody wants | [`MAX_IGNORED`], then nobody reads | the write side notices when it leaves |
//! | a socket that takes nothing | [`STALL`](arcly_core::egress::STALL) | `slow_consumer` |
//! | from the server's going down to the connection's end | [`GOODBYE`] | `shutdown` |

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use arcly_core::egress::{Attached, Egress, Finished, Latency};
use arcly_core::log::Budget;
use arcly_core::{CloseReason, DerivedSubscriber, Subscription};
use arcly_mux::flv::http::FlvBody;
use arcly_mux::flv::{Framing, Packetizer, file_header};
use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use http::{Response, Version, header};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::guard::{Busy, STALL_TIME};
use crate::net;

/// Bytes of a player that are read and dropped. Whoever sends more is not listened to any more.
const MAX_IGNORED: usize = 16 << 10;
/// How long a reader may go on once the server goes down.
pub(super) const GOODBYE: Duration = Duration::from_secs(3);
/// How long the last bytes may take to go out.
const FLUSH: Duration = Duration::from_secs(1);
/// How long the peer may go on sending after them, so that a reset does not overtake them.
const LINGER: Duration = Duration::from_millis(250);

/// A stream that is to be played on the connection that asked for it.
pub(super) struct Play {
    subscription: Subscription,
    framing: Framing,
    latency: Latency,
}

/// Carries it in the extensions of an answer, which have to be cloneable.
#[derive(Clone)]
struct Marked(Arc<Mutex<Option<Play>>>);

/// The handler's answer to a request. A stream over HTTP/1 is marked to be handed over.
pub(super) fn mark(response: Response<FlvBody>, request: &Parts) -> Response<Body> {
    let framing = match request.version {
        Version::HTTP_10 => Framing::Plain,
        Version::HTTP_11 => Framing::Chunked,
        _ => return response.map(Body::new),
    };
    let (mut parts, body) = response.into_parts();
    let body = match body.into_subscription() {
        Ok(subscription) => {
            let latency = Latency::from_query(request.uri.query().unwrap_or_default());
            let play = Play { subscription, framing, latency };
            parts.extensions.insert(Marked(Arc::new(Mutex::new(Some(play)))));
            // Of unknown length, so that nobody says that it is empty.
            Body::from_stream(futures_util::stream::empty::<Result<Bytes, Infallible>>())
        }
        Err(body) => Body::new(body),
    };
    Response::from_parts(parts, body)
}

/// What a marked answer is to become.
pub(super) fn marked<B>(answer: &mut Response<B>) -> Option<Play> {
    answer.extensions_mut().remove::<Marked>().and_then(|marked| marked.0.lock().take())
}

/// A stream, and what its connection has to say before.
pub(super) struct Handover {
    head: Bytes,
    play: Play,
    busy: Busy,
}

impl Handover {
    /// Plays behind the head of `answer`, on a connection that is `busy` until the stream ends.
    pub(super) fn new<B>(play: Play, answer: &Response<B>, busy: Busy) -> Self {
        Self { head: head(answer, play.framing), play, busy }
    }

    /// Begins to play on `socket`. Returns at once, but for a stream whose publisher has sent nothing yet.
    ///
    /// # Errors
    /// The peer left before there was anything to send.
    pub(super) async fn begin<S: Socket>(
        self,
        socket: S,
        egress: &Egress,
    ) -> Result<Player<S::Reader, S::Writer>, CloseReason> {
        let Self { head, play: Play { subscription, framing, latency }, busy } = self;
        net::prepare_player(socket.tcp());
        let (mut reader, mut writer) = socket.halves();
        let mut stream = subscription.into_derived(framing.variant(), || Packetizer::framed(framing));
        let mut first = BytesMut::from(head);
        if stream.subscription().tracks().is_empty() {
            send(&mut writer, &first.split()).await?;
            // Woken for nothing, or before the tracks are said: the file's header has to come first.
            let has_begun = |stream: &DerivedSubscriber<Packetizer>| {
                let subscription = stream.subscription();
                let ended = subscription.log().closed().is_some();
                ended || subscription.state().close_reason().is_some() || !subscription.tracks().is_empty()
            };
            while !has_begun(&stream) {
                wait(&mut stream, &mut reader).await?;
                tokio::task::yield_now().await;
            }
        }
        // It begins where the stream is now, and not where it is when a worker comes to it. That it may have ended is
        // the worker's to find.
        let _ = stream.read(Budget { items: 0, ..Budget::UNLIMITED }, |_| {});
        let tracks = stream.subscription().tracks();
        // A stream that ends before it has begun has no file header either.
        if !tracks.is_empty() {
            first.put(framing.wrap(&file_header(&tracks)));
        }
        let attached = egress.attach_at(latency.tick(egress.tick()), stream, writer, first.freeze());
        Ok(Player { attached, reader, framing, _busy: busy })
    }
}

/// The head of an answer whose body is a stream: the last one of its connection.
fn head<B>(answer: &Response<B>, framing: Framing) -> Bytes {
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(if framing == Framing::Plain { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    head.put_slice(answer.status().as_str().as_bytes());
    head.put_slice(b" ");
    head.put_slice(answer.status().canonical_reason().unwrap_or_default().as_bytes());
    head.put_slice(b"\r\n");
    let mut field = |name: &str, value: &[u8]| {
        for piece in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.put_slice(piece);
        }
    };
    answer.headers().iter().for_each(|(name, value)| field(name.as_str(), value.as_bytes()));
    field(header::CONNECTION.as_str(), b"close");
    if framing == Framing::Chunked {
        field(header::TRANSFER_ENCODING.as_str(), b"chunked");
    }
    field(header::DATE.as_str(), httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.put_slice(b"\r\n");
    head.freeze()
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), CloseReason> {
    match tokio::time::timeout(STALL_TIME, writer.write_all(bytes)).await {
        Ok(sent) => sent.map_err(|error| lost(&error)),
        Err(_) => Err(CloseReason::SlowConsumer),
    }
}

/// Waits until the stream has something, or ends.
async fn wait(
    stream: &mut DerivedSubscriber<Packetizer>,
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<(), CloseReason> {
    tokio::select! {
        () = stream.ready() => Ok(()),
        reason = peer_left(reader) => Err(reason),
    }
}

/// A socket of a listener.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The half that the player's connection keeps.
    type Reader: AsyncRead + Unpin + Send;
    /// The half that goes to a worker.
    type Writer: AsyncWrite + Unpin + Send + 'static;
    /// The socket itself.
    fn tcp(&self) -> &TcpStream;
    /// Both halves.
    fn halves(self) -> (Self::Reader, Self::Writer);
}

impl Socket for TcpStream {
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;
    fn tcp(&self) -> &TcpStream {
        self
    }
    fn halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_split()
    }
}

impl Socket for TlsStream<TcpStream> {
    type Reader = tokio::io::ReadHalf<Self>;
    type Writer = tokio::io::WriteHalf<Self>;
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
    fn halves(self) -> (Self::Reader, Self::Writer) {
        tokio::io::split(self)
    }
}

/// What remains of a connection while a worker writes to it.
pub(super) struct Player<R, W> {
    attached: Attached<W>,
    reader: R,
    framing: Framing,
    _busy: Busy,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Player<R, W> {
    /// Plays until the stream, the reader or the peer ends; and why.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> CloseReason {
        let drained = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GOODBYE).await;
        };
        let reason = tokio::select! {
            finished = self.attached.finished() => return self.leave(finished).await,
            reason = peer_left(&mut self.reader) => reason,
            () = drained => CloseReason::Shutdown,
        };
        self.attached.detach(reason);
        // TCP tells one half only that it has given up on the peer, and the other one sees an end: what the half that
        // writes has seen counts.
        match tokio::time::timeout(FLUSH, self.attached.finished()).await {
            Ok(Finished { reason: CloseReason::SlowConsumer, .. }) => CloseReason::SlowConsumer,
            _ => reason,
        }
    }

    /// Ends the answer in order. One that was too slow is cut off in the middle, so that it does not take what it got
    /// for the whole.
    async fn leave(mut self, finished: Finished<W>) -> CloseReason {
        let Finished { reason, writer } = finished;
        let Some(mut writer) = writer.filter(|_| reason != CloseReason::SlowConsumer) else { return reason };
        let end = async {
            writer.write_all(self.framing.end()).await?;
            writer.shutdown().await
        };
        if matches!(tokio::time::timeout(FLUSH, end).await, Ok(Ok(()))) {
            let _ = tokio::time::timeout(LINGER, peer_left(&mut self.reader)).await;
        }
        reason
    }
}

/// Completes when the peer closes its half or the socket fails. What it sends is not for us.
async fn peer_left(reader: &mut (impl AsyncRead + Unpin)) -> CloseReason {
    let mut ignored = 0;
    core::future::poll_fn(|cx| {
        while ignored < MAX_IGNORED {
            let mut bytes = [0; 256];
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut *reader).poll_read(cx, &mut buf)) {
                Ok(()) if buf.filled().is_empty() => return Poll::Ready(CloseReason::PeerClosed),
                Ok(()) => ignored += buf.filled().len(),
                Err(error) => return Poll::Ready(lost(&error)),
            }
        }
        Poll::Pending
    })
    .await
}

/// What a failed socket says about a peer that is being played to.
fn lost(error: &io::Error) -> CloseReason {
    match error.kind() {
        // TCP has given up on what the peer does not take.
        io::ErrorKind::TimedOut => CloseReason::SlowConsumer,
        _ => CloseReason::PeerClosed,
    }
}
