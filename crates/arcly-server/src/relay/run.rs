//! One copy of one stream, from one end to the other.

use std::io::SeekFrom;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::log::{LagPolicy, Read, Retention, StartMode};
use arcly_core::rendition::{TS_AUDIO, WEBRTC_AUDIO};
use arcly_core::{
    AppSpec, Engine, MediaEvent, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest,
    StreamError, StreamKey, TimeDelta, Timestamp,
};
use arcly_mux::flv::http::FlvBody;
use arcly_mux::fmp4::http::Mp4Body;
use arcly_mux::ts::http::TsBody;
use arcly_mux::ts::udp::{Receiver, Sender};
use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _, BufWriter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::container::{Container, Writer};
use super::file::{self, FileSource, container, named};
use super::http::{self, Remote};
use super::{Endpoint, clients};
use crate::udp;

/// How long a push waits for its stream before it reports that there is none.
const WAIT: Duration = Duration::from_secs(10);
/// What one copy on the command line keeps: enough for a slow upstream to catch up.
const KEEP: u64 = 64 << 20;

/// Copies `from` into a stream of this server, until it ends or `cancel` fires. A URL's server is one of `at`, or whoever
/// its host resolves to when there are none.
///
/// # Errors
/// The stream cannot be published, or what it comes from cannot be read.
pub async fn pull(
    engine: &Arc<Engine>,
    from: &Endpoint,
    at: &[SocketAddr],
    key: StreamKey,
    cancel: &CancellationToken,
) -> Result<(), StreamError> {
    match from {
        Endpoint::Rtmp(url) => {
            return clients::rtmp(url, at)?.pull(engine.clone(), key, cancel.clone()).await;
        }
        Endpoint::Rtsp(url) => {
            return clients::rtsp(url, at)?.pull(engine.clone(), key, cancel.clone()).await;
        }
        Endpoint::Srt(url) => {
            return clients::srt(url, at).pull(engine.clone(), key, cancel.clone()).await;
        }
        Endpoint::WebRtc(url) => {
            return clients::webrtc(url, at)?.pull(engine.clone(), key, cancel.clone()).await;
        }
        _ => {}
    }
    cancel.run_until_cancelled(pull_plain(engine, from, at, key)).await.unwrap_or(Ok(()))
}

/// Pulls from what needs no good-bye.
async fn pull_plain(
    engine: &Arc<Engine>,
    from: &Endpoint,
    at: &[SocketAddr],
    key: StreamKey,
) -> Result<(), StreamError> {
    let request = PublishRequest::internal(key.clone(), "relay");
    match from {
        Endpoint::Rtmp(_) | Endpoint::Rtsp(_) | Endpoint::Srt(_) | Endpoint::WebRtc(_) => {
            Err(StreamError::protocol("RTMP, RTSP, SRT and WebRTC are pulled by their clients"))
        }
        Endpoint::Http(url) => {
            // Whoever publishes makes room for a stream that is there only, and not for itself.
            let body = http::open(Remote { url, at, via: &engine.via(&key) }).await?;
            let mut publisher = engine.publish(request).await?;
            http::read(url, body, |event| give(&mut publisher, event)).await
        }
        Endpoint::File(path) => {
            let (mut source, mut pace) = (FileSource::open(path).await?, Pace::default());
            let mut publisher = engine.publish(request).await?;
            while let Some(event) = source.next().await? {
                pace.wait_for(&event).await;
                give(&mut publisher, event)?;
            }
            Ok(())
        }
        Endpoint::Udp(url) => udp::receive(engine, &mut Receiver::bind(url)?, &key).await,
        Endpoint::Stream(source) => {
            let subscription =
                engine.subscribe(PlayRequest::internal(source.clone(), "relay").wait(WAIT)).await?;
            let mut publisher = engine.publish(request).await?;
            local(subscription.into_frames(), &mut publisher).await
        }
    }
}

/// Copies a stream of this server to `to`, until it ends or `cancel` fires; `at` as in [`pull`].
///
/// # Errors
/// There is no such stream, or what it goes to cannot be written.
pub async fn push(
    engine: &Arc<Engine>,
    key: StreamKey,
    to: &Endpoint,
    at: &[SocketAddr],
    cancel: &CancellationToken,
) -> Result<(), StreamError> {
    let request = PlayRequest::internal(key, "relay").wait(WAIT);
    match to {
        Endpoint::Rtmp(url) => {
            let client = clients::rtmp(url, at)?;
            clients::push(engine, request, cancel, |subscription| client.push(subscription, cancel)).await
        }
        Endpoint::Rtsp(url) => {
            let client = clients::rtsp(url, at)?;
            clients::push(engine, request, cancel, |subscription| client.push(subscription, cancel)).await
        }
        Endpoint::Srt(url) => {
            let (client, request) = (clients::srt(url, at), request.audio_or_as_asked(TS_AUDIO));
            clients::push(engine, request, cancel, |subscription| client.push(subscription, cancel)).await
        }
        Endpoint::WebRtc(url) => {
            let (client, request) = (clients::webrtc(url, at)?, request.audio_or_as_asked(WEBRTC_AUDIO));
            clients::push(engine, request, cancel, |subscription| client.push(subscription, cancel)).await
        }
        Endpoint::Http(url) => {
            let pushing = async {
                let subscription = engine.subscribe(request).await?;
                let remote = Remote { url, at, via: &subscription.stream().via() };
                match http::container(url) {
                    Container::Flv => http::write(remote, FlvBody::live(subscription)).await,
                    Container::Ts => http::write(remote, TsBody::live(subscription)).await,
                    Container::Mp4 => http::write(remote, Mp4Body::live(subscription)).await,
                }
            };
            cancel.run_until_cancelled(pushing).await.unwrap_or(Ok(()))
        }
        Endpoint::File(path) => write_file(engine, request, path, cancel).await,
        Endpoint::Udp(url) => {
            let pushing = async {
                let mut sender = Sender::connect(url).await?;
                udp::send(engine, request, &mut sender).await.map(drop)
            };
            cancel.run_until_cancelled(pushing).await.unwrap_or(Ok(()))
        }
        Endpoint::Stream(_) => Err(StreamError::protocol("a stream of this server is written by a pull")),
    }
}

/// Copies `from` to `to` without a server, as `arcly relay` does. A file is sent in real time, unless to a file.
///
/// # Errors
/// One of the ends cannot be read or written.
pub async fn copy(from: &Endpoint, to: &Endpoint, cancel: &CancellationToken) -> Result<(), StreamError> {
    if let (Endpoint::File(from), Endpoint::File(to)) = (from, to) {
        return file::copy(from, to, cancel).await;
    }
    let retention =
        Retention { max_bytes: KEEP, max_items: 1 << 14, window_bytes: KEEP, ..Retention::default() };
    let app = AppSpec::new("relay")
        .grace(Duration::ZERO)
        .retention(retention)
        .start(StartMode::Oldest)
        .lag(LagPolicy::PATIENT);
    let engine = Engine::builder().default_app(app).build();
    let key = StreamKey::new("relay", "copy");
    let stop = cancel.child_token();
    let reading = pull(&engine, from, &[], key.clone(), &stop);
    let writing = push(&engine, key, to, &[], &stop);
    tokio::pin!(reading, writing);
    tokio::select! {
        written = &mut writing => {
            // A source that fails takes the sink with it, and is the reason.
            stop.cancel();
            written
        }
        read = &mut reading => {
            read?;
            writing.await
        }
    }
}

async fn local(
    mut reader: arcly_core::Subscriber,
    publisher: &mut arcly_core::Publisher,
) -> Result<(), StreamError> {
    while let Some(read) = reader.next().await? {
        match read {
            Read::Context(tracks) => give(publisher, MediaEvent::Tracks((*tracks).clone()))?,
            Read::Item(frame) => give(publisher, MediaEvent::Frame((*frame).clone()))?,
            Read::Skipped(_) => {}
        }
    }
    Ok(())
}

/// Publishes an event, unless the publisher was disconnected.
fn give(publisher: &mut arcly_core::Publisher, event: MediaEvent) -> Result<(), StreamError> {
    match publisher.close_reason() {
        Some(reason) => Err(StreamError::Closed(reason)),
        None => publisher.handle(event),
    }
}

/// Writes what comes, whole frames at a time; a file that is stopped is complete up to there.
async fn write_file(
    engine: &Arc<Engine>,
    request: PlayRequest,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<(), StreamError> {
    let container = container(path)?;
    let mut reader = engine.subscribe(request).await?.into_frames();
    let mut sink = FileSink::create(path, container).await?;
    let mut written = Ok(());
    while written.is_ok() {
        let read = cancel.run_until_cancelled(reader.next()).await.unwrap_or(Ok(None))?;
        written = match read {
            Some(Read::Context(tracks)) => sink.put(&MediaEvent::Tracks((*tracks).clone())).await,
            Some(Read::Item(frame)) => sink.put(&MediaEvent::Frame((*frame).clone())).await,
            Some(Read::Skipped(_)) => Ok(()),
            None => break,
        };
    }
    // What came before the fault is good.
    sink.finish().await.and(written)
}

/// A file that is being written.
struct FileSink {
    path: PathBuf,
    file: BufWriter<File>,
    writer: Writer,
    out: BytesMut,
}

impl FileSink {
    async fn create(path: &Path, container: Container) -> Result<Self, StreamError> {
        let file = BufWriter::new(File::create(path).await.map_err(|error| named(path, error))?);
        Ok(Self { path: path.to_owned(), file, writer: Writer::new(container), out: BytesMut::new() })
    }

    async fn put(&mut self, event: &MediaEvent) -> Result<(), StreamError> {
        let written = self.writer.write(event, &mut self.out);
        let path = &self.path;
        self.file.write_all(&self.out.split()).await.map_err(|error| named(path, error))?;
        written.map_err(|error| StreamError::protocol(format!("{}: {error}", path.display())))
    }

    /// Everything is in the file before what is at its front is replaced, so that it plays at any moment.
    async fn finish(self) -> Result<(), StreamError> {
        let Self { path, mut file, writer, mut out } = self;
        let failed = |error| named(&path, error);
        let patch = writer.finish(&mut out).map_err(StreamError::protocol)?;
        file.write_all(&out).await.map_err(failed)?;
        file.flush().await.map_err(failed)?;
        let Some(patch) = patch else { return Ok(()) };
        let mut file = file.into_inner();
        file.sync_data().await.map_err(failed)?;
        file.seek(SeekFrom::Start(patch.offset)).await.map_err(failed)?;
        file.write_all(&patch.bytes).await.map_err(failed)?;
        file.flush().await.map_err(failed)
    }
}

/// Holds frames back until they are due, counted from the first.
#[derive(Debug, Default)]
struct Pace {
    began: Option<(Instant, Timestamp)>,
}

impl Pace {
    /// A jump of more than this is not waited for.
    const LONGEST: TimeDelta = TimeDelta::from_millis(10_000);

    async fn wait_for(&mut self, event: &MediaEvent) {
        let MediaEvent::Frame(frame) = event else { return };
        let (began, first) = *self.began.get_or_insert((Instant::now(), frame.dts));
        let due = began + (frame.dts - first).to_duration();
        let ahead = due.saturating_duration_since(Instant::now());
        if ahead > Self::LONGEST.to_duration() {
            self.began = Some((Instant::now(), frame.dts));
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}
