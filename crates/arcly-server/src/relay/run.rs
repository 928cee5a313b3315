//! One copy of one stream, from one end to the other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::log::{LagPolicy, Read, Retention, StartMode};
use arcly_core::{
    AppSpec, Engine, MediaEvent, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest,
    StreamError, StreamKey, TimeDelta, Timestamp,
};
use arcly_mux::flv::http::FlvBody;
use arcly_mux::ts::http::TsBody;
use arcly_mux::ts::udp::{Receiver, Sender};
use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::container::{Container, Reader, Writer};
use super::http::{self, Remote};
use super::{Endpoint, rtmp};
use crate::udp;

/// Bytes of a file read at a time.
const PIECE: usize = 64 << 10;
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
    if let Endpoint::Rtmp(url) = from {
        return rtmp::pull(engine, url, at, key, cancel).await;
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
        Endpoint::Rtmp(_) => Err(StreamError::protocol("RTMP is pulled by its client")),
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
        Endpoint::Rtmp(url) => rtmp::push(engine, request, url, at, cancel).await,
        Endpoint::Http(url) => {
            let pushing = async {
                let subscription = engine.subscribe(request).await?;
                let remote = Remote { url, at, via: &subscription.stream().via() };
                match http::container(url) {
                    Container::Flv => http::write(remote, FlvBody::live(subscription)).await,
                    Container::Ts => http::write(remote, TsBody::live(subscription)).await,
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
        return cancel.run_until_cancelled(copy_file(from, to)).await.unwrap_or(Ok(()));
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

/// The events of a file, one after the other.
pub(crate) struct FileSource {
    path: PathBuf,
    file: File,
    reader: Reader,
    piece: Vec<u8>,
    ended: bool,
    /// Why the file ends before its end.
    broken: Option<StreamError>,
}

impl FileSource {
    pub(crate) async fn open(path: &Path) -> Result<Self, StreamError> {
        let file = File::open(path).await.map_err(|error| named(path, error))?;
        let reader = Reader::new(container(path)?);
        Ok(Self { path: path.to_owned(), file, reader, piece: vec![0; PIECE], ended: false, broken: None })
    }

    /// The next event, `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<MediaEvent>, StreamError> {
        loop {
            if let Some(event) = self.reader.poll_event() {
                return Ok(Some(event));
            }
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            if self.ended {
                return Ok(None);
            }
            let count = self.file.read(&mut self.piece).await.map_err(|error| named(&self.path, error))?;
            self.ended = count == 0;
            let pushed = match self.ended {
                true => self.reader.finish(),
                false => self.reader.push(self.piece.get(..count).unwrap_or_default()),
            };
            // What came before the fault is good.
            let path = &self.path;
            self.broken =
                pushed.err().map(|error| StreamError::protocol(format!("{}: {error}", path.display())));
        }
    }
}

fn container(path: &Path) -> Result<Container, StreamError> {
    let unknown = || StreamError::protocol(format!("{}: neither .flv nor .ts", path.display()));
    Container::of(path).ok_or_else(unknown)
}

/// Writes what comes, whole frames at a time; a file that is stopped is complete up to there.
async fn write_file(
    engine: &Arc<Engine>,
    request: PlayRequest,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<(), StreamError> {
    let mut writer = Writer::new(container(path)?);
    let mut reader = engine.subscribe(request).await?.into_frames();
    let mut file = BufWriter::new(File::create(path).await.map_err(|error| named(path, error))?);
    let mut out = BytesMut::new();
    loop {
        let read = cancel.run_until_cancelled(reader.next()).await.unwrap_or(Ok(None))?;
        let event = match read {
            Some(Read::Context(tracks)) => MediaEvent::Tracks((*tracks).clone()),
            Some(Read::Item(frame)) => MediaEvent::Frame((*frame).clone()),
            Some(Read::Skipped(_)) => continue,
            None => return file.flush().await.map_err(|error| named(path, error)),
        };
        writer.write(&event, &mut out);
        file.write_all(&out.split()).await.map_err(|error| named(path, error))?;
    }
}

/// Rewrites a file: what it holds comes out with complete headers and exact sizes.
async fn copy_file(from: &Path, to: &Path) -> Result<(), StreamError> {
    let mut writer = Writer::new(container(to)?);
    let mut source = FileSource::open(from).await?;
    let mut file = BufWriter::new(File::create(to).await.map_err(|error| named(to, error))?);
    let mut out = BytesMut::new();
    while let Some(event) = source.next().await? {
        writer.write(&event, &mut out);
        file.write_all(&out.split()).await.map_err(|error| named(to, error))?;
    }
    file.flush().await.map_err(|error| named(to, error))
}

fn named(path: &Path, error: std::io::Error) -> StreamError {
    StreamError::Io(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
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
