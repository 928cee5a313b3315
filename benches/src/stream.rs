use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arcly_codec::flv::{self, Muxer, MuxerOptions};
use arcly_codec::nal::{LengthSize, escape, length_prefixed};
use arcly_core::derived::{Headers, Packet, Packetizer};
use arcly_core::{
    Engine, MediaFrame, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, Publisher, StreamKey,
    Subscription, Timestamp, TrackId, TrackSet,
};
use arcly_testkit::media::{GOP_PICTURES, Source};
use arcly_testkit::rng::Rng;
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Bytes of a picture: 25 of them a second are 4 Mbit/s.
pub const PICTURE: usize = 20_000;

/// The testkit's endless stream, every picture's slice made [`PICTURE`] bytes long with what entropy-coded data looks
/// like to everybody but a decoder.
#[derive(Clone, Debug)]
pub struct Media {
    source: Source,
    pictures: Vec<Bytes>,
    next_picture: usize,
}

impl Media {
    /// H.264 and, if wanted, AAC.
    #[must_use]
    pub fn new(source: Source) -> Self {
        let pictures = Source::h264().take(usize::try_from(GOP_PICTURES).unwrap_or_default());
        let mut rng = Rng::new(1);
        let pictures = pictures.map(|picture| lengthened(&picture.payload, &mut rng)).collect();
        Self { source, pictures, next_picture: 0 }
    }

    /// 4 Mbit/s of H.264, and AAC.
    #[must_use]
    pub fn h264_aac() -> Self {
        Self::new(Source::h264_aac())
    }

    /// What is in the stream.
    #[must_use]
    pub fn tracks(&self) -> TrackSet {
        self.source.tracks()
    }

    /// The first second.
    #[must_use]
    pub fn second(self) -> Vec<MediaFrame> {
        self.take_while(|frame| frame.dts < Timestamp::from_millis(1_000)).collect()
    }
}

impl Iterator for Media {
    type Item = MediaFrame;

    fn next(&mut self) -> Option<MediaFrame> {
        let mut frame = self.source.next()?;
        if frame.track == TrackId::VIDEO {
            let picture = self.pictures.get(self.next_picture % self.pictures.len());
            frame.payload = picture.cloned().unwrap_or_default();
            self.next_picture += 1;
        }
        Some(frame)
    }
}

/// An access unit whose last NAL unit, a slice, goes on with noise.
fn lengthened(access_unit: &[u8], rng: &mut Rng) -> Bytes {
    let units: Vec<&[u8]> =
        length_prefixed(access_unit, LengthSize::Four).map(|unit| unit.expect("our own lengths")).collect();
    let mut out = BytesMut::new();
    let mut put = |unit: &[u8]| {
        out.put_u32(u32::try_from(unit.len()).unwrap_or_default());
        out.put_slice(unit);
    };
    if let Some((slice, others)) = units.split_last() {
        others.iter().for_each(|unit| put(unit));
        let noise = escape(&rng.bytes(PICTURE.saturating_sub(slice.len())));
        put(&[slice, &noise[..], &[0x80]].concat());
    }
    out.freeze()
}

/// A stream that is being published: 4 Mbit/s H.264 at 25 fps, a keyframe a second, and 48 kHz AAC.
#[derive(Debug)]
pub struct Published {
    /// Where it lives.
    pub engine: Arc<Engine>,
    publisher: Publisher,
    media: Media,
}

impl Published {
    /// A stream of which two seconds are published already, so that readers can join.
    ///
    /// # Panics
    /// When the engine refuses it, which it has no reason to.
    pub async fn start() -> Self {
        let engine = Engine::builder().build();
        let request = PublishRequest::internal(Self::key(), "bench");
        let mut publisher = engine.publish(request).await.expect("the engine takes every publisher");
        let media = Media::h264_aac();
        publisher.set_tracks(media.tracks()).expect("nobody revokes the publisher");
        let mut stream = Self { engine, publisher, media };
        stream.run_for(2);
        stream
    }

    /// Publishes that many seconds of media at once.
    pub fn run_for(&mut self, seconds: i64) {
        let mut end = None;
        loop {
            let frame = self.next_frame();
            let end = *end.get_or_insert(Timestamp::from_millis(frame.dts.to_millis() + seconds * 1_000));
            let done = frame.dts >= end && frame.is_keyframe() && frame.track == TrackId::VIDEO;
            self.publish(frame);
            if done {
                return;
            }
        }
    }

    fn key() -> StreamKey {
        StreamKey::new("live", "bench")
    }

    /// The frame that comes next.
    ///
    /// # Panics
    /// Never: the source is endless.
    pub fn next_frame(&mut self) -> MediaFrame {
        self.media.next().expect("an endless source")
    }

    /// The picture that comes next: sound waits a moment for one to go out with, which a bench would measure.
    ///
    /// # Panics
    /// Never: the source is endless.
    pub fn next_picture(&mut self) -> MediaFrame {
        self.media.find(|frame| frame.track == TrackId::VIDEO).expect("an endless source")
    }

    /// Publishes a frame.
    ///
    /// # Panics
    /// When the engine refuses it, which it has no reason to.
    pub fn publish(&mut self, frame: MediaFrame) {
        self.publisher.publish(frame).expect("nobody revokes the publisher");
    }

    /// The right to read it.
    ///
    /// # Panics
    /// When the engine refuses it, which it has no reason to.
    pub async fn subscribe(&self) -> Subscription {
        let request = PlayRequest::internal(Self::key(), "bench");
        self.engine.subscribe(request).await.expect("the engine takes every reader")
    }
}

/// FLV tags, as HTTP-FLV sends them: a header, and a copy of the payload that all readers share.
#[derive(Debug)]
pub struct FlvPacketizer(Muxer);

impl Default for FlvPacketizer {
    fn default() -> Self {
        Self(Muxer::new(MuxerOptions::default()))
    }
}

impl Packetizer for FlvPacketizer {
    type Item = Packet;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        let part = |tag: flv::Tag| {
            let mut bytes = BytesMut::new();
            flv::put_tag(&mut bytes, &tag);
            (tag.track, bytes.freeze())
        };
        let parts = self.0.tracks(tracks, Timestamp::ZERO).into_iter().map(part).collect();
        Arc::new(Headers { tracks: Arc::clone(tracks), parts })
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        let Some(tag) = self.0.frame(frame) else { return };
        let mut bytes = BytesMut::new();
        flv::put_tag(&mut bytes, &tag);
        let MediaFrame { track, dts, flags, .. } = *frame;
        out.push(Packet { track, dts, flags, bytes: bytes.freeze() });
    }
}

/// A socket that takes everything. Counts its writes for whoever waits for them.
#[derive(Debug)]
pub struct Sink {
    writes: Arc<AtomicU64>,
    bytes: u64,
    last: usize,
}

impl Sink {
    /// Bytes that it has taken.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Address of the bytes last taken.
    #[must_use]
    pub const fn last(&self) -> usize {
        self.last
    }
}

/// A sink that counts its writes there.
#[must_use]
pub fn sink(writes: &Arc<AtomicU64>) -> Sink {
    Sink { writes: Arc::clone(writes), bytes: 0, last: 0 }
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bytes += bytes.len() as u64;
        self.last = bytes.as_ptr().addr();
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        for piece in pieces {
            taken += piece.len();
            self.bytes += piece.len() as u64;
            self.last = piece.as_ptr().addr();
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Lets the other tasks of this thread run until that many deliveries were counted.
pub async fn wait_until(deliveries: &AtomicU64, count: u64) {
    while deliveries.load(Ordering::Relaxed) < count {
        tokio::task::yield_now().await;
    }
}
