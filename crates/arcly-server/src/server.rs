//! A running server: the engine, its listeners, and the way down.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use arcly_core::contract::auth::{Action, AuthRequest, Credentials, StreamAuthenticator};
use arcly_core::contract::storage::StorageError;
use arcly_core::egress::{Egress, Tick};
use arcly_core::{AppSpec, Engine, Stream, StreamKey, Takeover, TimeDelta};
use arcly_mux::hls::http::Hls;
use arcly_mux::live::Encryption;
use arcly_mux::record::Recordings;
use arcly_mux::ts::udp::Receiver;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Authenticators, InForce};
use crate::certificate::Certificate;
use crate::config::{
    AppConfig, Config, ConfigError, EgressConfig, HlsConfig, HlsEncryption, Listen, RtspTransport,
    TakeoverConfig, UdpInputConfig,
};
use crate::http::Connections;
use crate::relay::{Demand, Relays};
use crate::stats::Stats;
use crate::tls::Tls;
use crate::webrtc::Webrtc;
use crate::{demo, log, net, recording, transcode, udp};

/// How long sessions have to say good-bye before they are cut off.
const DRAIN: Duration = Duration::from_secs(4);
/// How often streams are counted that may be gone before anybody scrapes.
const SWEEP: Duration = Duration::from_secs(1);
/// The app whose policy is that of all others.
const DEFAULT_APP: &str = "default";

/// A listener that is bound.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Listener {
    /// `rtmp`, `rtmps`, `rtsp`, `rtsps`, `srt`, `webrtc`, `webrtc-tcp`, `http`, `https`; `rtp` and `rtcp` of RTSP; or `udp`.
    pub protocol: &'static str,
    /// Where.
    pub addr: SocketAddr,
}

/// A running server. Ends when [`shut_down`](Self::shut_down) is called.
pub struct Server {
    config: ArcSwap<Config>,
    engine: Arc<Engine>,
    stats: Arc<Stats>,
    auth: Arc<InForce>,
    /// Of every TLS listener.
    certificate: Option<Arc<Certificate>>,
    connections: Arc<Connections>,
    /// Writes to readers.
    egress: Arc<Egress>,
    relays: Relays,
    recordings: tokio::sync::OnceCell<Arc<Recordings>>,
    /// What listens for RTSP; none before it does, or when it is switched off.
    rtsp: std::sync::OnceLock<Arc<arcly_rtsp::Server>>,
    /// What listens for SRT; none before it does, or when it is switched off.
    srt: std::sync::OnceLock<Arc<arcly_srt::Server>>,
    /// What answers WHIP and WHEP; none before it does, or when it is switched off.
    webrtc: std::sync::OnceLock<Webrtc>,
    /// `None` when it is switched off.
    hls: Option<Hls>,
    listeners: Vec<Listener>,
    started_at: SystemTime,
    ready: AtomicBool,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl core::fmt::Debug for Server {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Server").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// Sockets that are bound, before anything is served on them.
struct Bound {
    rtmp: Option<TcpListener>,
    rtmps: Option<TcpListener>,
    rtsp: Option<TcpListener>,
    rtsps: Option<TcpListener>,
    /// RTP and RTCP of RTSP.
    datagrams: Option<[UdpSocket; 2]>,
    srt: Option<UdpSocket>,
    webrtc: Option<UdpSocket>,
    webrtc_tcp: Option<TcpListener>,
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    udp: Vec<(StreamKey, Receiver)>,
}

impl Bound {
    fn new(config: &Config, tls: bool) -> std::io::Result<Self> {
        let secure = |listen: &Listen| if tls { net::bind(listen) } else { Ok(None) };
        Ok(Self {
            rtmp: net::bind(&config.rtmp.listen)?,
            rtmps: secure(&config.rtmp.tls_listen)?,
            rtsp: net::bind(&config.rtsp.listen)?,
            rtsps: secure(&config.rtsp.tls_listen)?,
            datagrams: match config.rtsp.datagrams() {
                Some([rtp, rtcp]) => Some([net::bind_datagrams(&rtp)?, net::bind_datagrams(&rtcp)?]),
                None => None,
            },
            srt: unless_off(&config.srt.listen)?,
            webrtc: unless_off(&config.webrtc.listen)?,
            webrtc_tcp: if config.webrtc.tcp { net::bind(&config.webrtc.listen)? } else { None },
            http: net::bind(&config.http.listen)?,
            https: secure(&config.http.tls_listen)?,
            udp: config.udp.input.iter().map(bind_udp).collect::<std::io::Result<_>>()?,
        })
    }

    fn listeners(&self) -> std::io::Result<Vec<Listener>> {
        let connections = [
            ("rtmp", &self.rtmp),
            ("rtmps", &self.rtmps),
            ("rtsp", &self.rtsp),
            ("rtsps", &self.rtsps),
            ("http", &self.http),
            ("https", &self.https),
            ("webrtc-tcp", &self.webrtc_tcp),
        ];
        let connections = connections.into_iter().filter_map(|(name, socket)| Some((name, socket.as_ref()?)));
        let connections = connections.map(|(protocol, socket)| (protocol, socket.local_addr()));
        let datagrams = ["rtp", "rtcp"].into_iter().zip(self.datagrams.iter().flatten());
        let datagrams = datagrams.map(|(protocol, socket)| (protocol, socket.local_addr()));
        let alone = [("srt", &self.srt), ("webrtc", &self.webrtc)];
        let alone =
            alone.into_iter().filter_map(|(name, socket)| Some((name, socket.as_ref()?.local_addr())));
        let inputs = self.udp.iter().map(|(_, socket)| ("udp", socket.local_addr()));
        connections
            .chain(datagrams)
            .chain(alone)
            .chain(inputs)
            .map(|(protocol, addr)| Ok(Listener { protocol, addr: addr? }))
            .collect()
    }
}

impl Server {
    /// Binds every listener and starts to serve, with the test stream when `with_demo`.
    ///
    /// # Errors
    /// A certificate or secret cannot be used, or an address cannot be bound.
    pub fn start(config: Config, with_demo: bool) -> Result<Arc<Self>, ConfigError> {
        let tls = Tls::from_config(&config.tls)?;
        let auth = Authenticators::from_config(&config.auth)?;
        let io_error = |error: std::io::Error| ConfigError::new(error.to_string());
        let bound = Bound::new(&config, tls.is_some()).map_err(io_error)?;
        let stats = Arc::new(Stats::default());
        let auth = Arc::new(InForce::new(auth));
        let demand = Arc::new(Demand::default());
        let engine = build_engine(&config, &auth, &stats, &demand);
        let shutdown = CancellationToken::new();
        let listeners = bound.listeners().map_err(io_error)?;
        let server = Arc::new(Self {
            relays: Relays::new(Arc::clone(&engine), demand, listeners.clone(), shutdown.clone()),
            certificate: tls.as_ref().map(|tls| Arc::clone(&tls.certificate)),
            hls: build_hls(&config.hls, &engine, &shutdown),
            connections: Arc::new(Connections::new(&config.limits)),
            egress: Arc::new(start_egress(&config.egress)),
            listeners,
            recordings: tokio::sync::OnceCell::new(),
            rtsp: std::sync::OnceLock::new(),
            srt: std::sync::OnceLock::new(),
            webrtc: std::sync::OnceLock::new(),
            auth,
            started_at: SystemTime::now(),
            ready: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            config: ArcSwap::from_pointee(config),
            engine,
            stats,
            shutdown,
        });
        server.serve(bound, tls).map_err(io_error)?;
        server.start_sources(with_demo)?;
        server.ready.store(true, Ordering::Release);
        Ok(server)
    }

    fn serve(self: &Arc<Self>, bound: Bound, tls: Option<Tls>) -> std::io::Result<()> {
        // Whoever asks over HTTP finds it there.
        self.serve_webrtc(bound.webrtc, bound.webrtc_tcp)?;
        let (https, plain) = tls.map(|tls| (tls.https, tls.plain)).unzip();
        for (socket, tls) in [(bound.http, None), (bound.https, https)] {
            if let Some(socket) = socket {
                self.tasks.spawn(crate::http::serve(Arc::clone(self), socket, tls));
            }
        }
        for (key, socket) in bound.udp {
            let (engine, shutdown) = (Arc::clone(&self.engine), self.shutdown.clone());
            self.tasks.spawn(udp::run_input(engine, socket, key, shutdown));
        }
        if let Some(certificate) = &self.certificate {
            self.tasks.spawn(Arc::clone(certificate).watch(self.shutdown.clone()));
        }
        self.serve_rtmp(bound.rtmp, None);
        self.serve_rtmp(bound.rtmps, plain.clone());
        self.serve_rtsp(bound.rtsp, bound.datagrams)?;
        self.serve_rtsps(bound.rtsps, plain);
        self.serve_srt(bound.srt)?;
        let (weak, shutdown) = (Arc::downgrade(self), self.shutdown.clone());
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP);
            while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
                let Some(server) = weak.upgrade() else { return };
                server.stats.totals(&server.engine.streams());
                server.start_muxers();
            }
        });
        Ok(())
    }

    /// Muxes what is live, where that is not left to the first viewer.
    fn start_muxers(&self) {
        let Some(hls) = self.hls.as_ref().filter(|_| self.config().hls.always) else { return };
        let live = |stream: &Arc<Stream>| stream.log().closed().is_none() && stream.log().has_join_point();
        self.engine.streams().iter().filter(|stream| live(stream)).for_each(|stream| hls.start(stream));
    }

    fn serve_rtmp(&self, socket: Option<TcpListener>, tls: Option<Arc<rustls::ServerConfig>>) {
        let Some(socket) = socket else { return };
        let mut rtmp = arcly_rtmp::Server::from_listener(socket, arcly_rtmp::ServerConfig::default())
            .with_egress(Arc::clone(&self.egress));
        if let Some(tls) = tls {
            rtmp = rtmp.with_tls(tls);
        }
        let context = self.context();
        self.tasks.spawn(async move {
            if let Err(error) = rtmp.run(context).await {
                tracing::error!(%error, "the RTMP listener has failed");
            }
        });
    }

    fn serve_rtsp(
        &self,
        socket: Option<TcpListener>,
        datagrams: Option<[UdpSocket; 2]>,
    ) -> std::io::Result<()> {
        let Some(socket) = socket else { return Ok(()) };
        let mut rtsp = self.rtsp_on(socket);
        if let Some([rtp, rtcp]) = datagrams {
            rtsp = rtsp.with_datagrams(rtp, rtcp)?;
        }
        let config = self.config();
        if config.rtsp.transports.contains(&RtspTransport::Multicast) {
            let groups = config.rtsp.multicast.groups();
            rtsp = rtsp.with_multicast(groups.map_err(|error| std::io::Error::other(error.to_string()))?)?;
        }
        let rtsp = self.rtsp.get_or_init(|| Arc::new(rtsp));
        self.run_rtsp(Arc::clone(rtsp));
        Ok(())
    }

    /// Over TLS media comes and goes in the connection, or in datagrams that are protected with keys which come over it.
    fn serve_rtsps(&self, socket: Option<TcpListener>, tls: Option<Arc<rustls::ServerConfig>>) {
        let (Some(socket), Some(tls)) = (socket, tls) else { return };
        let mut rtsps = self.rtsp_on(socket).with_tls(tls);
        if let Some(rtsp) = self.rtsp.get() {
            rtsps = rtsps.with_udp_of(rtsp);
        }
        self.run_rtsp(Arc::new(rtsps));
    }

    fn rtsp_on(&self, socket: TcpListener) -> arcly_rtsp::Server {
        let mut config = arcly_rtsp::ServerConfig::default();
        // Tokens come in a URL or as a Basic password; Digest proves passwords, which only users have.
        config.session.schemes.digest = !self.config().auth.users.is_empty();
        config.session.back_channel.clone_from(&self.config().rtsp.back_channel);
        arcly_rtsp::Server::from_listener(socket, config).with_egress(Arc::clone(&self.egress))
    }

    fn run_rtsp(&self, server: Arc<arcly_rtsp::Server>) {
        let context = self.context();
        self.tasks.spawn(async move {
            if let Err(error) = server.run(context).await {
                tracing::error!(%error, "the RTSP listener has failed");
            }
        });
    }

    fn serve_srt(&self, socket: Option<UdpSocket>) -> std::io::Result<()> {
        let Some(socket) = socket else { return Ok(()) };
        let config = self.config().srt.server().map_err(std::io::Error::other)?;
        let srt = Arc::new(arcly_srt::Server::from_socket(socket, config)?);
        let (srt, context) = (Arc::clone(self.srt.get_or_init(|| srt)), self.context());
        self.tasks.spawn(async move {
            if let Err(error) = srt.run(context).await {
                tracing::error!(%error, "the SRT listener has failed");
            }
        });
        Ok(())
    }

    fn serve_webrtc(&self, socket: Option<UdpSocket>, tcp: Option<TcpListener>) -> std::io::Result<()> {
        let Some(socket) = socket else { return Ok(()) };
        let webrtc = Webrtc::new((socket, tcp), &self.config().webrtc, &self.context())?;
        self.tasks.spawn(self.webrtc.get_or_init(|| webrtc).run(self.context()));
        Ok(())
    }

    fn start_sources(self: &Arc<Self>, with_demo: bool) -> Result<(), ConfigError> {
        if with_demo {
            self.tasks.spawn(demo::run(Arc::clone(&self.engine), demo::key(), self.shutdown.clone()));
        }
        self.tasks.spawn(recording::start(Arc::clone(self)));
        let config = self.config();
        for output in &config.udp.output {
            let wrong = |error: &dyn core::fmt::Display| ConfigError::new(format!("udp.output: {error}"));
            let key = StreamKey::parse(&output.path).map_err(|error| wrong(&error))?;
            let url = output.url.parse().map_err(|error| wrong(&error))?;
            let (engine, shutdown) = (Arc::clone(&self.engine), self.shutdown.clone());
            self.tasks.spawn(udp::run_output(engine, key, url, shutdown));
        }
        for relay in &config.relays {
            self.relays.start_configured(relay).map_err(|e| ConfigError::new(format!("relays: {e}")))?;
        }
        Ok(())
    }

    /// Stops accepting, lets every protocol say good-bye, and returns when the sessions have ended or their time is
    /// up.
    pub async fn shut_down(&self) {
        self.ready.store(false, Ordering::Release);
        self.shutdown.cancel();
        self.engine.drain();
        self.tasks.close();
        self.relays.close();
        let sessions = async { tokio::join!(self.tasks.wait(), self.relays.wait()) };
        if tokio::time::timeout(DRAIN, sessions).await.is_err() {
            tracing::warn!("some sessions did not end in time and are cut off");
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Puts a new configuration in force as far as that is possible while the server runs: credentials, applications,
    /// limits, allowed origins and the log's filter, for what begins from now on. Who was let in stays in, and streams
    /// that are there keep the policy they began with. Returns the keys that differ and need a restart.
    ///
    /// # Errors
    /// Something of it cannot be used; nothing has changed then.
    pub fn reload(&self, new: Config) -> Result<Vec<String>, ConfigError> {
        let auth = Authenticators::from_config(&new.auth)?;
        let filter = log::Filter::new(&new.log)?;
        let old = self.config();
        let in_force = old.with_what_may_change(&new);
        filter.apply();
        self.auth.replace(auth);
        let (apps, default_app) = app_specs(&in_force);
        self.engine.set_policies(apps, default_app, in_force.limits.streams);
        self.connections.set_limits(&in_force.limits);
        let restart = in_force.differences(&new);
        self.config.store(Arc::new(in_force));
        Ok(restart)
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The relays.
    #[must_use]
    pub const fn relays(&self) -> &Relays {
        &self.relays
    }

    /// The recordings, opened by whoever asks first.
    ///
    /// # Errors
    /// Their folder cannot be used; the next call tries again.
    pub async fn recordings(self: &Arc<Self>) -> Result<&Arc<Recordings>, StorageError> {
        self.recordings.get_or_try_init(|| recording::open(self)).await
    }

    /// Streams that are being recorded.
    pub(crate) fn recording_count(&self) -> u64 {
        self.recordings.get().map_or(0, |recordings| recordings.active().len() as u64)
    }

    /// What was dropped of the datagrams that came for RTSP.
    pub(crate) fn datagram_counters(&self) -> arcly_rtsp::server::DatagramCounters {
        self.rtsp.get().map(|server| server.datagram_counters()).unwrap_or_default()
    }

    /// What listens for SRT, unless it is switched off.
    pub(crate) fn srt(&self) -> Option<&Arc<arcly_srt::Server>> {
        self.srt.get()
    }

    /// What answers WHIP and WHEP, unless it is switched off.
    pub(crate) fn webrtc(&self) -> Option<&Webrtc> {
        self.webrtc.get()
    }

    /// HLS, unless it is switched off.
    #[must_use]
    pub const fn hls(&self) -> Option<&Hls> {
        self.hls.as_ref()
    }

    /// The listeners that are bound.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Where that protocol listens.
    #[must_use]
    pub fn addr(&self, protocol: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|listener| listener.protocol == protocol).map(|listener| listener.addr)
    }

    /// When the server started.
    #[must_use]
    pub const fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// True when every listener is bound and the server is not going down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Open HTTP connections.
    #[must_use]
    pub fn http_connections(&self) -> u64 {
        self.connections.len() as u64
    }

    /// Fires when the server goes down.
    #[must_use]
    pub const fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Reads the TLS certificate again, whether its files seem to have changed or not. One that cannot be used changes
    /// nothing but a count.
    pub async fn reload_certificate(&self) {
        let Some(certificate) = self.certificate.clone() else { return };
        // Files may be on a disk that is slow, or not there. A look that panics is a look less.
        let _ = tokio::task::spawn_blocking(move || certificate.refresh(true)).await;
    }

    /// The certificate of the TLS listeners.
    pub(crate) const fn certificate(&self) -> Option<&Arc<Certificate>> {
        self.certificate.as_ref()
    }

    /// What protocols need of the engine.
    pub(crate) fn context(&self) -> arcly_core::IngestContext {
        self.engine.context(self.shutdown.clone())
    }

    pub(crate) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) const fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    pub(crate) const fn egress(&self) -> &Arc<Egress> {
        &self.egress
    }

    /// Whether anybody without credentials may play `key`.
    pub(crate) async fn is_public(&self, key: &StreamKey) -> bool {
        let Some(auth) = self.auth.plain() else { return true };
        let request = AuthRequest::new(Action::Play, key.clone(), Credentials::new("http"));
        auth.authenticate(&request).await.is_ok()
    }
}

fn start_egress(config: &EgressConfig) -> Egress {
    let per_core = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = Some(config.workers).filter(|workers| *workers > 0).unwrap_or_else(per_core);
    Egress::start(workers).with_tick(Tick::every(config.tick.0))
}

fn unless_off(listen: &Listen) -> std::io::Result<Option<UdpSocket>> {
    if listen.is_off() { Ok(None) } else { net::bind_datagrams(listen).map(Some) }
}

fn bind_udp(input: &UdpInputConfig) -> std::io::Result<(StreamKey, Receiver)> {
    let wrong = |error: &dyn core::fmt::Display| {
        std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("udp.input: {}: {error}", input.url))
    };
    let key = StreamKey::parse(&input.path).map_err(|error| wrong(&error))?;
    let url = input.url.parse().map_err(|error| wrong(&error))?;
    Ok((key, Receiver::bind(&url).map_err(|error| wrong(&error))?))
}

fn build_engine(
    config: &Config,
    auth: &Arc<InForce>,
    stats: &Arc<Stats>,
    demand: &Arc<Demand>,
) -> Arc<Engine> {
    let builder = Engine::builder()
        .on_demand(Arc::clone(demand) as _)
        .max_streams(config.limits.streams)
        .observer(Arc::clone(stats) as _)
        .authenticator(Arc::clone(auth) as _);
    let (apps, default_app) = app_specs(config);
    let builder = apps.into_iter().fold(builder, arcly_core::EngineBuilder::app);
    let builder = default_app.into_iter().fold(builder, arcly_core::EngineBuilder::default_app);
    match transcode::transcoder(&config.transcode) {
        Some(transcoder) => builder.transcoder(transcoder).build(),
        None => builder.build(),
    }
}

/// The applications, and the policy of all others.
fn app_specs(config: &Config) -> (Vec<AppSpec>, Option<AppSpec>) {
    let spec = |(name, app): (&String, &AppConfig)| app_spec(name, app, config.limits.readers_per_stream);
    let listed = config.apps.iter().filter(|(name, _)| *name != DEFAULT_APP).map(spec).collect();
    let default = config.apps.get_key_value(DEFAULT_APP).map(spec);
    // As when the file says nothing of it.
    (listed, default.or_else(|| Some(AppSpec::new(""))))
}

fn build_hls(config: &HlsConfig, engine: &Arc<Engine>, shutdown: &CancellationToken) -> Option<Hls> {
    let live = arcly_mux::live::Config {
        part: TimeDelta::from_duration(config.part.0),
        segment: TimeDelta::from_duration(config.segment.0),
        window: TimeDelta::from_duration(config.window.0),
        max_bytes: usize::try_from(config.max_bytes.0).unwrap_or(usize::MAX),
        encryption: match config.encryption {
            HlsEncryption::None => None,
            HlsEncryption::Aes128 => Some(Encryption::every(config.key_segments)),
        },
    };
    let muxers = arcly_mux::hls::http::Config {
        live,
        idle: config.idle.0,
        always: config.always,
        ..arcly_mux::hls::http::Config::default()
    };
    config.enabled.then(|| Hls::new(&engine.context(shutdown.clone()), muxers))
}

fn app_spec(name: &str, config: &AppConfig, readers: usize) -> AppSpec {
    let takeover = match config.takeover {
        TakeoverConfig::WhenSilent => Takeover::WhenSilent,
        TakeoverConfig::Replace => Takeover::Replace,
        TakeoverConfig::Reject => Takeover::Reject,
        TakeoverConfig::Standby => Takeover::Standby,
    };
    let mut spec = AppSpec::new(name)
        .takeover(takeover)
        .silence(config.silence.0)
        .grace(config.grace.0)
        .wait_for_stream(config.wait_for_stream.0);
    spec.retention.max_bytes = config.gop_bytes.0;
    spec.max_readers = readers;
    spec
}
