//! Payload formats: what packets make of frames, and the other way.
//!
//! | document | format | here |
//! |---|---|---|
//! | RFC 6184 | H.264: single NAL units, STAP-A, FU-A | [`Encoding::H264`] |
//! | RFC 7798 | H.265: single NAL units, aggregation packets, fragmentation units | [`Encoding::H265`] |
//! | AV1 RTP payload v1.0 | aggregation header, OBU elements | [`Encoding::Av1`] |
//! | RFC 7741 | VP8 | [`Encoding::Vp8`] |
//! | RFC 9628 | VP9 | [`Encoding::Vp9`] |
//! | RFC 7587 | Opus | [`Encoding::Opus`] |
//! | RFC 3640 | AAC: high and low bit rate modes | [`Encoding::Mpeg4Generic`] |
//! | RFC 6416 | AAC in LATM | [`Encoding::Latm`] |
//! | RFC 3551 | G.711, G.722, L16; MP2T | [`Encoding::Pcmu`], [`Encoding::Pcma`], [`Encoding::G722`], [`Encoding::L16`], [`Encoding::Mp2t`] |
//! | RFC 3190 | L24 | [`Encoding::L24`] |
//! | RFC 2250 | MPEG audio, MP2T | [`Encoding::MpegAudio`] |
//! | RFC 4184 | AC-3 | [`Encoding::Ac3`] |
//! | RFC 6597 | KLV | [`Encoding::Klv`] |
//!
//! Guarantees: no panic; what is put together is at most [`MAX_UNIT_BYTES`] of at most [`MAX_FRAGMENTS`] fragments; a unit that
//! lacks a part never comes out as if it were whole.
//!
//! The temporal layers of VP8 and VP9 become flags of the unit ([`Unit::flags`]). Packets that are made say nothing of layers and do not number
//! pictures, so that whoever is sent a part of the pictures sees no gap.
//!
//! Not done: interleaved H.264 and H.265 (DON), PACI, MPEG-4 streams in other modes, RTP/JPEG, and LATM on the way out.

mod ac3;
mod assembly;
mod av1;
mod h264;
mod h265;
mod latm;
mod mpeg4;
mod mpeg_audio;
mod nal;
mod samples;
mod vp8;
mod vp9;

use arcly_core::codec::AudioSpecificConfig;
use arcly_core::wire::DecodeResult;
use arcly_core::{CodecConfig, FrameFlags, MediaFrame};
use bytes::Bytes;

pub use assembly::{MAX_FRAGMENTS, MAX_UNIT_BYTES};
pub(crate) use latm::decode_mux_config;
pub use mpeg4::AuSizes;
pub use samples::{TS_PACKETS_PER_PACKET, packetize_transport_stream};

/// Bytes of a packet's payload and headers together, unless something else is said: fits any path (RFC 8200: 1 280).
pub const DEFAULT_MTU: usize = 1_200;
/// The least that packets are made for.
pub const MIN_MTU: usize = 64;

/// How frames are packed, and what has to be known for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// AV1.
    Av1,
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// Opus.
    Opus,
    /// AAC with AU headers.
    Mpeg4Generic(AuSizes),
    /// AAC in LATM; the StreamMuxConfig when it is not in the packets.
    Latm(Option<Bytes>),
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722. Its clock counts 8 kHz, at 16 kHz of samples.
    G722,
    /// 16-bit samples, big endian.
    L16,
    /// 24-bit samples, big endian.
    L24,
    /// MPEG-1 and 2 audio.
    MpegAudio,
    /// AC-3.
    Ac3,
    /// MPEG transport stream.
    Mp2t,
    /// SMPTE KLV.
    Klv,
}

/// The payload of a packet, with what of its header says something about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The timestamp, unwrapped.
    pub ticks: i64,
    /// The marker bit.
    pub marker: bool,
    /// The bytes.
    pub data: Bytes,
}

/// An access unit, frame or message as it came out of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its presentation time on the packets' clock.
    pub ticks: i64,
    /// H.264 and H.265: NAL units with 4-byte lengths, parameter sets among them. AV1: OBUs with sizes. Others: one frame.
    pub data: Bytes,
    /// A part of it is missing; what is here is whole NAL units.
    pub corrupt: bool,
    /// What its packets say of it and its bytes do not: its temporal layer, and that none refers to it.
    pub flags: FrameFlags,
}

/// Puts units together out of packets that come in order.
#[derive(Debug)]
pub struct Depacketizer(Format);

#[derive(Debug)]
enum Format {
    H264(nal::Depacketizer<h264::H264>),
    H265(nal::Depacketizer<h265::H265>),
    Av1(av1::Depacketizer),
    Vp8(vp8::Depacketizer),
    Vp9(vp9::Depacketizer),
    Mpeg4(mpeg4::Depacketizer),
    Latm(latm::Depacketizer),
    MpegAudio(mpeg_audio::Depacketizer),
    Ac3(ac3::Depacketizer),
    Klv(samples::Messages),
    TransportStream,
    Whole,
}

impl Depacketizer {
    /// A depacketizer that has seen nothing. `clock_rate` is that of the timestamps, in Hz; `samples_per_frame` how far frames of
    /// one packet are apart on it, where the format does not say.
    #[must_use]
    pub fn new(encoding: &Encoding, clock_rate: u32, samples_per_frame: u32) -> Self {
        Self(match encoding {
            Encoding::H264 => Format::H264(nal::Depacketizer::default()),
            Encoding::H265 => Format::H265(nal::Depacketizer::default()),
            Encoding::Av1 => Format::Av1(av1::Depacketizer::default()),
            Encoding::Vp8 => Format::Vp8(vp8::Depacketizer::default()),
            Encoding::Vp9 => Format::Vp9(vp9::Depacketizer::default()),
            Encoding::Mpeg4Generic(sizes) => {
                Format::Mpeg4(mpeg4::Depacketizer::new(*sizes, samples_per_frame))
            }
            Encoding::Latm(config) => {
                Format::Latm(latm::Depacketizer::new(config.as_ref(), samples_per_frame))
            }
            Encoding::MpegAudio => Format::MpegAudio(mpeg_audio::Depacketizer::new(clock_rate)),
            Encoding::Ac3 => Format::Ac3(ac3::Depacketizer::default()),
            Encoding::Klv => Format::Klv(samples::Messages::default()),
            Encoding::Mp2t => Format::TransportStream,
            Encoding::Opus
            | Encoding::Pcmu
            | Encoding::Pcma
            | Encoding::G722
            | Encoding::L16
            | Encoding::L24 => Format::Whole,
        })
    }

    /// Takes the next packet and appends the units that it completes.
    ///
    /// # Errors
    /// The payload is malformed, or what it continues exceeds a bound; it was dropped with the unit that it belongs to, and the
    /// next one is waited for.
    pub fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        match &mut self.0 {
            Format::H264(format) => format.push(payload, out),
            Format::H265(format) => format.push(payload, out),
            Format::Av1(format) => format.push(payload, out),
            Format::Vp8(format) => format.push(payload, out),
            Format::Vp9(format) => format.push(payload, out),
            Format::Mpeg4(format) => format.push(payload, out),
            Format::Latm(format) => format.push(payload, out),
            Format::MpegAudio(format) => format.push(payload, out),
            Format::Ac3(format) => format.push(payload, out),
            Format::Klv(format) => format.push(payload, out),
            Format::TransportStream => samples::transport_stream(payload, out),
            Format::Whole => samples::whole(payload, out),
        }
    }

    /// Packets are missing before the next one.
    pub fn lost(&mut self) {
        match &mut self.0 {
            Format::H264(format) => format.lost(),
            Format::H265(format) => format.lost(),
            Format::Av1(format) => format.lost(),
            Format::Vp8(format) => format.lost(),
            Format::Vp9(format) => format.lost(),
            Format::Mpeg4(format) => format.lost(),
            Format::Latm(format) => format.lost(),
            Format::MpegAudio(format) => format.lost(),
            Format::Ac3(format) => format.lost(),
            Format::Klv(format) => format.lost(),
            Format::TransportStream | Format::Whole => {}
        }
    }

    /// Gives out what waits for more, as nothing more of it will come.
    pub fn flush(&mut self, out: &mut Vec<Unit>) {
        match &mut self.0 {
            Format::H264(format) => format.flush(out),
            Format::H265(format) => format.flush(out),
            _ => {}
        }
    }

    /// The configuration that LATM brought in its packets.
    #[must_use]
    pub fn config(&self) -> Option<&AudioSpecificConfig> {
        match &self.0 {
            Format::Latm(format) => format.config(),
            _ => None,
        }
    }

    /// Bytes that are held for a unit that is not whole yet.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.0 {
            Format::H264(format) => format.held(),
            Format::H265(format) => format.held(),
            Format::Av1(format) => format.held(),
            Format::Vp8(format) => format.held(),
            Format::Vp9(format) => format.held(),
            Format::Mpeg4(format) => format.held(),
            Format::Latm(format) => format.held(),
            Format::MpegAudio(format) => format.held(),
            Format::Ac3(format) => format.held(),
            Format::Klv(format) => format.held(),
            Format::TransportStream | Format::Whole => 0,
        }
    }
}

/// Where packets go, in order.
pub trait PacketSink {
    /// A packet's payload, in parts; `ticks` is how far its timestamp is behind the frame's.
    fn packet(&mut self, marker: bool, ticks: u32, parts: &[&[u8]]);
}

/// Makes packets of frames in canonical form.
#[derive(Debug)]
pub struct Packetizer {
    encoding: Encoding,
    /// Bytes of payload in a packet.
    room: usize,
    config: CodecConfig,
}

impl Packetizer {
    /// A packetizer whose payloads are at most `room` bytes, [`MIN_MTU`] at least. `config` is that of the track: keyframes of
    /// H.264, H.265 and AV1 repeat it.
    #[must_use]
    pub fn new(encoding: Encoding, config: CodecConfig, room: usize) -> Self {
        Self { encoding, room: room.max(MIN_MTU), config }
    }

    /// The packets of a frame; none when it cannot be packed.
    ///
    /// # Errors
    /// Its payload is not in canonical form; packets before the fault are out.
    pub fn packetize(&mut self, frame: &MediaFrame, sink: &mut dyn PacketSink) -> DecodeResult<()> {
        let (room, data, key) = (self.room, &frame.payload[..], frame.is_keyframe());
        match &self.encoding {
            Encoding::H264 => return nal::packetize::<h264::H264>(frame, &self.config, room, sink),
            Encoding::H265 => return nal::packetize::<h265::H265>(frame, &self.config, room, sink),
            Encoding::Av1 => return av1::packetize(frame, &self.config, room, sink),
            Encoding::Vp8 => vp8::packetize(data, room, sink),
            Encoding::Vp9 => vp9::packetize(data, key, room, sink),
            Encoding::Mpeg4Generic(sizes) => mpeg4::packetize(*sizes, data, room, sink),
            Encoding::Latm(_) => {}
            Encoding::MpegAudio => mpeg_audio::packetize(data, room, sink),
            Encoding::Ac3 => ac3::packetize(data, room, sink),
            Encoding::Klv => samples::fragments(data, room, sink),
            Encoding::Mp2t => packetize_transport_stream(data, room, sink),
            Encoding::Opus => sink.packet(false, 0, &[data]),
            Encoding::Pcmu | Encoding::Pcma | Encoding::G722 | Encoding::L16 | Encoding::L24 => {
                samples::packetize(&self.encoding, &self.config, data, room, sink);
            }
        }
        Ok(())
    }
}
