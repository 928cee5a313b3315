//! Between RTMP messages and the engine: a publisher's tags to frames, a stream's frames to messages.
//!
//! What players get is built once per stream ([`MessagePacketizer`]): messages with absolute timestamps, one chunk size
//! and message stream 1 are the same bytes for every one of them.

use std::sync::Arc;

use arcly_codec::flv::{self, Demuxer, Muxer, MuxerOptions, TagClass, TagKind};
use arcly_core::derived::{ENTRY_COST, Headers, Packetizer, Wire};
use arcly_core::log::LogItem;
use arcly_core::time::Unwrapper32;
use arcly_core::track::TrackMask;
use arcly_core::{
    CloseReason, FrameFlags, MediaFrame, Publisher, StreamError, Timestamp, Track, TrackId, TrackKind,
    TrackSet,
};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::config::CHUNK_SIZE;
use crate::session::Tag;
use crate::wire::chunk::message_head;
use crate::wire::{Capabilities, CapsEx, ChunkStreamId, MessageHeader, MessageType, encode_message};

/// The message stream that serialised messages are stamped with: what every server gives its first stream.
pub const MESSAGE_STREAM: u32 = 1;

/// Why a publisher's tag ended its stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The tags cannot be taken any further.
    #[error(transparent)]
    Tags(#[from] flv::Error),
    /// The engine has taken the right to publish away.
    #[error(transparent)]
    Engine(#[from] StreamError),
}

impl IngestError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Tags(error) => (*error).into(),
            Self::Engine(error) => error.reason(),
        }
    }
}

/// Tags of one RTMP stream into the engine.
#[derive(Debug)]
pub struct Ingest {
    publisher: Publisher,
    demuxer: Demuxer,
    /// One for all kinds: they share the publisher's clock, and wrap together.
    clock: Unwrapper32,
}

impl Ingest {
    /// Publishes what the tags carry.
    #[must_use]
    pub fn new(publisher: Publisher) -> Self {
        Self { publisher, demuxer: Demuxer::new(flv::Limits::default()), clock: Unwrapper32::new() }
    }

    /// The right to publish that is used.
    #[must_use]
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// What was tolerated so far.
    #[must_use]
    pub const fn counters(&self) -> flv::Counters {
        self.demuxer.counters()
    }

    /// Takes a tag.
    ///
    /// # Errors
    /// See [`IngestError`]; the stream is over for this publisher.
    pub fn handle(&mut self, tag: Tag) -> Result<(), IngestError> {
        let at = self.clock.unwrap(tag.timestamp.into());
        self.demuxer.handle_tag(tag_kind(tag.kind), at, tag.payload)?;
        while let Some(event) = self.demuxer.poll_event() {
            self.publisher.handle(event)?;
        }
        Ok(())
    }
}

const fn tag_kind(kind: TrackKind) -> TagKind {
    match kind {
        TrackKind::Audio => TagKind::Audio,
        TrackKind::Video => TagKind::Video,
        TrackKind::Data => TagKind::Script,
    }
}

/// Which way serialised messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To players.
    Play,
    /// To a server that this side publishes to: `@setDataFrame` stands before the metadata.
    Publish,
}

impl Direction {
    /// Tells the derived logs of the two apart.
    #[must_use]
    pub const fn variant(self) -> u64 {
        match self {
            Self::Play => 0,
            Self::Publish => 1,
        }
    }
}

/// A frame as one serialised message.
///
/// One that fits into a chunk, as nearly all do, is a few bytes of its own and the frame's payload, which stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedMessage {
    track: TrackId,
    dts: Timestamp,
    flags: FrameFlags,
    /// The chunk header and the first bytes of the tag, when `body` is the payload; else nothing.
    head: SmallVec<[u8; 32]>,
    body: Bytes,
}

impl LogItem for EncodedMessage {
    type Context = Headers;
    fn track(&self) -> TrackId {
        self.track
    }
    fn dts(&self) -> Timestamp {
        self.dts
    }
    fn flags(&self) -> FrameFlags {
        self.flags
    }
    // A shared payload counts here as well, so that a log of messages reaches no further back than the stream's own.
    fn size(&self) -> usize {
        self.wire_len().saturating_add(size_of::<Self>() + ENTRY_COST)
    }
}

impl Wire for EncodedMessage {
    fn head(&self) -> &[u8] {
        &self.head
    }
    fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Frames to serialised RTMP messages.
#[derive(Debug)]
pub struct MessagePacketizer {
    muxer: Muxer,
    headers: Arc<Headers>,
    last: Timestamp,
}

impl MessagePacketizer {
    /// A packetiser that knows no tracks.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        let encoder = Some(concat!("arcly ", env!("CARGO_PKG_VERSION")).into());
        let set_data_frame = direction == Direction::Publish;
        let options = MuxerOptions { nano_offset: false, set_data_frame, encoder };
        Self { muxer: Muxer::new(options), headers: Arc::default(), last: Timestamp::ZERO }
    }
}

impl Packetizer for MessagePacketizer {
    type Item = EncodedMessage;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        let tags = self.muxer.tracks(tracks, self.last);
        let parts = tags.iter().map(|tag| (tag.track, encode_tag(tag))).collect();
        self.headers = Arc::new(Headers { tracks: Arc::clone(tracks), parts });
        Arc::clone(&self.headers)
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<EncodedMessage>) {
        self.last = self.last.max(frame.dts);
        let Some(tag) = self.muxer.frame(frame) else { return };
        let (head, body) = if frame.flags.contains(FrameFlags::DISCONTINUITY) {
            // A new sequence header is what players take for a new start; it has the time of what it stands before.
            let mut bytes = BytesMut::new();
            let headers = self.muxer.tracks(&self.headers.tracks, frame.dts);
            headers
                .iter()
                .filter(|tag| tag.track == Some(frame.track))
                .for_each(|tag| put_tag(&mut bytes, tag));
            put_tag(&mut bytes, &tag);
            (SmallVec::new(), bytes.freeze())
        } else if tag.len() <= CHUNK_SIZE as usize {
            let mut head = message_head(&header(&tag), tag.len());
            head.extend_from_slice(&tag.header);
            (head, tag.payload)
        } else {
            (SmallVec::new(), encode_tag(&tag))
        };
        out.push(EncodedMessage { track: frame.track, dts: frame.dts, flags: frame.flags, head, body });
    }
}

fn encode_tag(tag: &flv::Tag) -> Bytes {
    let mut out = BytesMut::new();
    put_tag(&mut out, tag);
    out.freeze()
}

/// The header of the message that a tag is.
const fn header(tag: &flv::Tag) -> MessageHeader {
    let (csid, kind) = match tag.kind {
        TagKind::Audio => (ChunkStreamId::AUDIO, MessageType::Audio),
        TagKind::Video => (ChunkStreamId::VIDEO, MessageType::Video),
        TagKind::Script => (ChunkStreamId::STREAM, MessageType::DataAmf0),
    };
    MessageHeader { csid, timestamp: tag.timestamp_ms, kind, stream_id: MESSAGE_STREAM }
}

/// Appends a tag as one message.
fn put_tag(out: &mut BytesMut, tag: &flv::Tag) {
    encode_message(out, &header(tag), &[&tag.header, &tag.payload], CHUNK_SIZE as usize);
}

/// The tracks that a peer with those capabilities can take: legacy codecs always, Enhanced RTMP's where they were
/// announced, and a second track of a kind only with multitrack. `None` when the stream has sound or pictures and the
/// peer can take neither.
#[must_use]
pub fn playable(tracks: &TrackSet, capabilities: &Capabilities) -> Option<TrackMask> {
    let multitrack = capabilities.extensions.contains(CapsEx::MULTITRACK);
    let can_take = |track: &&Track| {
        let first = tracks.first(track.kind()).is_some_and(|first| first.id == track.id);
        match flv::needs(track, tracks) {
            Some(TagClass::Legacy) => true,
            Some(TagClass::Enhanced(fourcc)) => (first || multitrack) && capabilities.accepts(fourcc),
            None => false,
        }
    };
    let is_media = |track: &&Track| track.kind() != TrackKind::Data;
    let starved =
        tracks.iter().any(|track| is_media(&track)) && !tracks.iter().filter(is_media).any(|t| can_take(&t));
    (!starved).then(|| tracks.iter().filter(can_take).map(|track| track.id).collect())
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "case tables")]
mod tests {
    use super::*;
    use crate::config::SessionConfig;
    use arcly_core::{CodecConfig, CodecId, TrackId};

    fn set(codecs: &[CodecId]) -> TrackSet {
        let ids = (0..).filter_map(TrackId::new);
        TrackSet::new(ids.zip(codecs).map(|(id, codec)| Track::new(id, *codec, CodecConfig::None)))
    }

    #[test]
    fn enhanced_codecs_go_to_those_who_announced_them() {
        use CodecId::{Aac, Amf, Av1, H264, H265, Klv, Opus};
        let everything = SessionConfig::default().capabilities;
        let mut one_track = everything.clone();
        one_track.extensions = CapsEx::empty();
        let legacy = Capabilities::default();
        let cases: &[(&[CodecId], &Capabilities, Option<&[u8]>)] = &[
            (&[H264, Aac], &legacy, Some(&[0, 1])),
            (&[H265, Aac], &legacy, Some(&[1])),
            (&[H265, Opus], &legacy, None),
            (&[H265, Opus, Amf], &legacy, None),
            (&[H265, Opus], &everything, Some(&[0, 1])),
            (&[H264, Aac, Aac], &legacy, Some(&[0, 1])),
            (&[H264, Aac, Aac], &one_track, Some(&[0, 1])),
            (&[H264, Av1, Aac, Opus], &everything, Some(&[0, 1, 2, 3])),
            (&[H264, Amf, Klv], &legacy, Some(&[0, 1])),
            (&[Amf], &legacy, Some(&[0])),
            (&[], &legacy, Some(&[])),
        ];
        for (codecs, capabilities, expect) in cases {
            let expect =
                expect.map(|ids| ids.iter().filter_map(|&id| TrackId::new(id)).collect::<TrackMask>());
            assert_eq!(playable(&set(codecs), capabilities), expect, "{codecs:?}");
        }
    }

    #[test]
    fn messages_are_whole_and_absolute() {
        let mut packetizer = MessagePacketizer::new(Direction::Play);
        let tracks = Arc::new(set(&[CodecId::H264, CodecId::Mp3]));
        let headers = packetizer.headers(&tracks);
        assert!(headers.parts.iter().any(|(track, _)| track.is_none()), "onMetaData");
        let at = Timestamp::from_millis((1 << 32) + 40);
        let frame = MediaFrame::new(TrackId::VIDEO, at, Bytes::from_static(&[0, 0, 0, 1, 0x65]));
        let mut out = Vec::new();
        packetizer.packetize(&frame.with_flags(FrameFlags::KEYFRAME), &mut out);
        let mut decoder = crate::wire::ChunkDecoder::new(crate::wire::ChunkLimits::default());
        decoder.set_chunk_size(CHUNK_SIZE);
        let whole = [out[0].head(), &out[0].body()[..]].concat();
        let message = decoder.decode(&mut &whole[..]).unwrap().unwrap();
        assert_eq!(
            (message.kind, message.timestamp, message.stream_id),
            (MessageType::Video, 40, MESSAGE_STREAM)
        );
        assert_eq!(message.payload[..], [0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65]);
    }

    #[test]
    fn a_payload_is_shared_up_to_a_whole_chunk_and_the_bytes_are_the_same() {
        let mut packetizer = MessagePacketizer::new(Direction::Play);
        packetizer.headers(&Arc::new(set(&[CodecId::H264, CodecId::Mp3])));
        let chunk = CHUNK_SIZE as usize;
        // Five bytes are the head of the tag.
        for (payload, is_shared) in [(1, true), (chunk - 5, true), (chunk - 4, false), (3 * chunk, false)] {
            for at in [40, i64::from(u32::MAX)] {
                let payload = Bytes::from(vec![7; payload]);
                let frame = MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(at), payload.clone());
                let mut out = Vec::new();
                packetizer.packetize(&frame, &mut out);
                assert_eq!(out[0].body().as_ptr() == payload.as_ptr(), is_shared, "{}", payload.len());
                let tag = packetizer.muxer.frame(&frame).unwrap();
                let whole = [out[0].head(), &out[0].body()[..]].concat();
                assert_eq!(whole, encode_tag(&tag), "{} at {at}", payload.len());
                assert_eq!(out[0].wire_len(), whole.len());
            }
        }
    }

    /// Plays tags with those timestamps into an engine, and says what comes out: the decode times in milliseconds.
    async fn through_an_engine(times: &[u32]) -> Vec<(i64, FrameFlags)> {
        let engine = arcly_core::Engine::builder().build();
        let key = arcly_core::StreamKey::new("live", "cam");
        let request = arcly_core::PublishRequest::internal(key.clone(), "test");
        let publisher = arcly_core::PublishRegistry::publish(&*engine, request).await.unwrap();
        let mut ingest = Ingest::new(publisher);
        for &timestamp in times {
            let payload = Bytes::from_static(&[0x2F, 0xFF, 0xFB, 0x90, 0x64, 0, 0]);
            ingest.handle(Tag { kind: TrackKind::Audio, timestamp, payload }).unwrap();
        }
        let log = Arc::clone(engine.stream(&key).unwrap().log());
        let mut cursor = arcly_core::log::Cursor::new(
            log,
            arcly_core::log::StartMode::Oldest,
            arcly_core::log::LagPolicy::PATIENT,
        );
        let mut out = Vec::new();
        let now = arcly_core::clock::now();
        cursor
            .read(now, arcly_core::log::Budget::UNLIMITED, |read| {
                if let arcly_core::log::Read::Item(frame) = read {
                    out.push((frame.dts.to_millis(), frame.flags));
                }
            })
            .unwrap();
        out
    }

    #[tokio::test]
    async fn f20_f21_timestamps_cross_24_and_32_bits_without_a_trace() {
        for edge in [0x00FF_FFFF_u32, u32::MAX] {
            let times: Vec<u32> = (0..10).map(|n| edge.wrapping_sub(100).wrapping_add(n * 20)).collect();
            let got = through_an_engine(&times).await;
            let steps: Vec<_> = got.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
            assert_eq!(steps, [20; 9], "{edge:#x}");
            assert!(got.iter().all(|(_, flags)| !flags.contains(FrameFlags::DISCONTINUITY)));
        }
    }

    #[tokio::test]
    async fn r37_f24_timestamps_that_jump_lose_nothing_and_never_run_backwards() {
        let hour = 3_600_000;
        let cases: &[&[u32]] = &[
            &[0xFFFF_FFF0, 0x10, 0x00FF_FFFF, 0x00FF_FFFE, 0],
            &[0, 20, 40, hour, hour + 20, hour + 40],
            &[hour, hour + 20, 0, 20, 40],
            &[100, 120, 90, 130, 110, 150],
            &[500; 8],
        ];
        for times in cases {
            let got = through_an_engine(times).await;
            assert_eq!(got.len(), times.len(), "{times:?}: nothing is lost");
            assert!(got.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{times:?}: {got:?}");
            let span = got.last().unwrap().0 - got[0].0;
            assert!(span < 10_000, "{times:?}: rebased, not waited for: {span} ms");
        }
    }
}
