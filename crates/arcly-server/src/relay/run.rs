//! One copy of one stream, from one end to the other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcly_codec::flv::{Muxer, MuxerOptions, put_file_header, put_tag};
use arcly_core::log::{LagPolicy, Progress, Read, Retention, StartMode};
use arcly_core::{
    AppSpec, CloseReason, Engine, MediaEvent, PlayRequest, PlaybackRegistry as _, PublishRegistry as _,
    PublishRequest, StreamError, StreamKey, TimeDelta, Timestamp, TrackKind,
};
use arcly_mux::flv::http::FlvBody;
use arcly_mux::flv::{Packetizer, Reader, Writer};
use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, http_flv, rtmp};

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
    let request = PublishRequest::internal(key, "relay");
    match from {
        Endpoint::Rtmp(_) => Err(StreamError::protocol("RTMP is pulled by its client")),
        Endpoint::HttpFlv(url) => {
            let mut publisher = engine.publish(request).await?;
            http_flv::read(url, at, |event| give(&mut publisher, event)).await
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
        Endpoint::HttpFlv(url) => {
            let pushing = async {
                let subscription = engine.subscribe(request).await?;
                http_flv::write(url, at, FlvBody::live(subscription)).await
            };
            cancel.run_until_cancelled(pushing).await.unwrap_or(Ok(()))
        }
        Endpoint::File(path) => write_file(engine, request, path, cancel).await,
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
    /// Why the file ends before its end.
    broken: Option<StreamError>,
}

impl FileSource {
    pub(crate) async fn open(path: &Path) -> Result<Self, StreamError> {
        let file = File::open(path).await.map_err(|error| named(path, error))?;
        Ok(Self { path: path.to_owned(), file, reader: Reader::new(), piece: vec![0; PIECE], broken: None })
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
            let count = self.file.read(&mut self.piece).await.map_err(|error| named(&self.path, error))?;
            if count == 0 {
                return Ok(None);
            }
            let pushed = self.reader.push(self.piece.get(..count).unwrap_or_default());
            // What came before the fault is good.
            self.broken =
                pushed.err().map(|error| StreamError::protocol(format!("{}: {error}", self.path.display())));
        }
    }
}

/// Writes what comes, whole tags at a time; a file that is stopped is complete up to there.
async fn write_file(
    engine: &Arc<Engine>,
    request: PlayRequest,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<(), StreamError> {
    let mut reader = engine.subscribe(request).await?.into_derived(0, Packetizer::new);
    let mut file = BufWriter::new(File::create(path).await.map_err(|error| named(path, error))?);
    let (mut writer, mut batch, mut bytes) = (Writer::new(), Vec::new(), Vec::new());
    loop {
        let progress = match cancel.run_until_cancelled(reader.next_batch(&mut batch)).await {
            Some(progress) => progress?,
            None => Progress::Ended(CloseReason::Shutdown),
        };
        batch.drain(..).for_each(|read| writer.write(&read, |part| bytes.push(part)));
        for part in bytes.drain(..) {
            file.write_all(&part).await.map_err(|error| named(path, error))?;
        }
        if matches!(progress, Progress::Ended(_)) {
            return file.flush().await.map_err(|error| named(path, error));
        }
    }
}

/// Rewrites a file: what it holds comes out with complete headers and exact sizes.
async fn copy_file(from: &Path, to: &Path) -> Result<(), StreamError> {
    let mut file = BufWriter::new(File::create(to).await.map_err(|error| named(to, error))?);
    let (mut muxer, mut begun, mut last) = (Muxer::new(MuxerOptions::default()), false, Timestamp::ZERO);
    let mut source = FileSource::open(from).await?;
    while let Some(event) = source.next().await? {
        let mut out = BytesMut::new();
        match event {
            MediaEvent::Tracks(tracks) => {
                if !core::mem::replace(&mut begun, true) {
                    let has = |kind| tracks.first(kind).is_some();
                    put_file_header(&mut out, has(TrackKind::Audio), has(TrackKind::Video));
                }
                muxer.tracks(&tracks, last).iter().for_each(|tag| put_tag(&mut out, tag));
            }
            MediaEvent::Frame(frame) => {
                last = last.max(frame.dts);
                muxer.frame(&frame).iter().for_each(|tag| put_tag(&mut out, tag));
            }
        }
        file.write_all(&out).await.map_err(|error| named(to, error))?;
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
