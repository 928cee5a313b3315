//! The accept loop: sockets become watched connections, connections become requests.

use std::convert::Infallible;
use std::error::Error as _;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use arcly_core::subscriber::ReaderState;
use arcly_core::{CloseReason, Phase};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use futures_util::FutureExt as _;
use http::{HeaderValue, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::body::{AnswerBody, Watched};
use super::connections::Place;
use super::guard::{Connection, Guarded, IDLE_TIME, MAX_FIELDS, STALL_TIME};
use super::play::{GOODBYE, Handover, Player, Socket};
use super::{hls, play, problem, routes};
use crate::net;
use crate::server::Server;

/// Bytes that the HTTP library buffers of a head or a response.
const BUFFER: usize = 64 << 10;
/// HTTP/2: requests of one connection at a time, and bytes of one request's fields.
const H2_STREAMS: u32 = 100;
const H2_FIELDS: u32 = 16 << 10;

/// Serves HTTP on a listener until the server goes down and the connections have ended.
pub(crate) async fn serve(server: Arc<Server>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let shared = Arc::new(Shared {
        routes: routes::router(Arc::clone(&server)),
        tls: tls.map(TlsAcceptor::from),
        builder: builder(),
        server: Arc::clone(&server),
    });
    let shutdown = server.shutdown().clone();
    while let Some((stream, peer)) = shutdown.run_until_cancelled(net::accept(&listener)).await {
        server.tasks().spawn(Arc::clone(&shared).connection(stream, peer));
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The guard in front is stricter than these, and says why.
    builder.http1().max_buf_size(BUFFER).max_headers(MAX_FIELDS + 1).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(H2_FIELDS)
        .keep_alive_interval(IDLE_TIME / 4)
        .keep_alive_timeout(STALL_TIME);
    builder
}

struct Shared {
    routes: Router,
    tls: Option<TlsAcceptor>,
    builder: auto::Builder<TokioExecutor>,
    server: Arc<Server>,
}

/// A connection that was let in.
struct Admitted {
    connection: Arc<Connection>,
    _place: Place,
}

/// How far a connection was served.
enum Served {
    /// To its end.
    Ended(CloseReason),
    /// Until it became a player's, which goes on by itself.
    HandedOver,
}

impl Shared {
    /// One connection, from accepted to counted. A panic ends it alone.
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let local = stream.local_addr().ok();
        let connection = Connection::new(peer, local.map(|local| local.ip()));
        let served = AssertUnwindSafe(Arc::clone(&self).admit_and_serve(stream, &connection)).catch_unwind();
        match served.await {
            Ok(Served::Ended(reason)) => self.report(&connection, reason),
            Ok(Served::HandedOver) => {}
            Err(_) => self.report(&connection, CloseReason::Internal),
        }
    }

    fn report(&self, connection: &Connection, reason: CloseReason) {
        let protocol = if self.tls.is_some() { "https" } else { "http" };
        self.server.stats().count_closed(protocol, reason);
        // What a peer did wrong is for whoever runs the server; that browsers come and go is not.
        if reason.is_peer_fault() {
            tracing::info!(peer = %connection.peer, protocol, %reason, "connection closed");
        } else {
            tracing::debug!(peer = %connection.peer, protocol, %reason, "connection closed");
        }
    }

    async fn admit_and_serve(self: Arc<Self>, mut stream: TcpStream, connection: &Arc<Connection>) -> Served {
        let admitted = match self.server.connections().admit(connection) {
            Ok(place) => Admitted { connection: Arc::clone(connection), _place: place },
            Err(reason) => {
                // Whoever cannot take this little gets nothing.
                let _ =
                    stream.try_write(&problem::raw_response(503, "too many connections; try again later"));
                let _ = stream.shutdown().await;
                return Served::Ended(reason);
            }
        };
        let served = async {
            match &self.tls {
                None => Arc::clone(&self).serve(stream, admitted).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout_at(connection.first_deadline(), tls.accept(stream));
                    match handshake.await {
                        Ok(Ok(stream)) => Arc::clone(&self).serve(stream, admitted).await,
                        Ok(Err(error)) => Served::Ended(tls_failure(&error)),
                        Err(_) => Served::Ended(CloseReason::Timeout(Phase::Handshake)),
                    }
                }
            }
        };
        tokio::select! {
            served = served => match served {
                Served::Ended(reason) => Served::Ended(connection.reason().unwrap_or(reason)),
                Served::HandedOver => Served::HandedOver,
            },
            () = connection.killed() => Served::Ended(connection.reason().unwrap_or(CloseReason::Shutdown)),
        }
    }

    async fn serve<S: Socket>(self: Arc<Self>, socket: S, admitted: Admitted) -> Served {
        let connection = &admitted.connection;
        let (guarded, back) = Guarded::lend(socket, Arc::clone(connection));
        let handover = tokio::select! {
            reason = self.drive(guarded, connection) => {
                // A connection that was upgraded goes on without the HTTP library.
                connection.all_answered().await;
                return Served::Ended(reason);
            }
            handover = connection.handed_over() => handover,
        };
        // The library went when the other branch was chosen, and the guard with it.
        let Ok(socket) = back.await else { return Served::Ended(CloseReason::Internal) };
        match handover.begin(socket, self.server.egress()).await {
            Ok(player) => {
                self.server.tasks().spawn(Arc::clone(&self).play(player, admitted));
                Served::HandedOver
            }
            Err(reason) => Served::Ended(reason),
        }
    }

    /// The rest of a connection: a task of its own, because it is a fraction of this one's size.
    async fn play<R, W>(self: Arc<Self>, player: Player<R, W>, admitted: Admitted)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let played = AssertUnwindSafe(player.run(self.server.shutdown().clone())).catch_unwind().await;
        self.report(&admitted.connection, played.unwrap_or(CloseReason::Internal));
    }

    /// Lets the HTTP library serve a connection to its end.
    async fn drive<S: Socket>(
        self: &Arc<Self>,
        guarded: Guarded<S>,
        connection: &Arc<Connection>,
    ) -> CloseReason {
        let service = {
            let (shared, connection) = (Arc::clone(self), Arc::clone(connection));
            hyper::service::service_fn(move |request| {
                Arc::clone(&shared).answer(request, Arc::clone(&connection))
            })
        };
        let mut served = pin!(self.builder.serve_connection_with_upgrades(TokioIo::new(guarded), service));
        let result = tokio::select! {
            result = served.as_mut() => result,
            () = self.server.shutdown().cancelled() => {
                served.as_mut().graceful_shutdown();
                match tokio::time::timeout(GOODBYE, served).await {
                    Ok(result) => result,
                    Err(_) => return CloseReason::Shutdown,
                }
            }
        };
        match result {
            Ok(()) => CloseReason::PeerClosed,
            Err(error) => failure(&*error),
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Result<http::Response<Watched<AnswerBody>>, Infallible> {
        let busy = connection.begin();
        let multiplexed = request.version() == Version::HTTP_2;
        let wants_upgrade = request.headers().contains_key(header::UPGRADE);
        let answered = AssertUnwindSafe(self.respond(request, &connection)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_| routes::internal_error().map(AnswerBody::from));
        routes::finish_headers(response.headers_mut());
        if let Some(play) = play::marked(&mut response) {
            match connection.hand_over(Handover::new(play, &response, busy)).await {}
        }
        let reader = response.extensions_mut().remove::<Arc<ReaderState>>();
        let refused_upgrade = wants_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if !multiplexed && refused_upgrade {
            // What follows a refused upgrade is not framed by the guard any more.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Watched::new(body, busy, connection, multiplexed).of(reader)))
    }
}

impl Shared {
    /// The answer, by whoever it is up to.
    async fn respond(
        &self,
        request: hyper::Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> http::Response<AnswerBody> {
        let path = request.uri().path();
        if hls::is_direct(path.strip_prefix('/').unwrap_or(path)) {
            return hls::answer(&self.server, connection, request).await;
        }
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(connection));
        match self.routes.clone().call(request).await {
            Ok(response) => response.map(AnswerBody::from),
            Err(never) => match never {},
        }
    }
}

/// What the HTTP library's error says about the connection; the guard knows better where it noted a reason.
fn failure(error: &(dyn std::error::Error + 'static)) -> CloseReason {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return CloseReason::Io };
    let of_h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    if let Some(error) = of_h2.filter(|error| error.is_library()) {
        let too_much = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
        return if too_much { CloseReason::Limit("frames") } else { CloseReason::Malformed };
    }
    if error.is_parse_too_large() {
        CloseReason::Limit("head")
    } else if error.is_parse() {
        CloseReason::Malformed
    } else if error.is_timeout() {
        CloseReason::Timeout(Phase::Idle)
    } else if error.is_user() {
        CloseReason::Internal
    } else {
        CloseReason::PeerClosed
    }
}

fn tls_failure(error: &std::io::Error) -> CloseReason {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::PeerIncompatible(_)) => CloseReason::Unsupported,
        Some(_) => CloseReason::Malformed,
        None => CloseReason::PeerClosed,
    }
}
