//! Tag bodies: headers taken apart, payloads as slices.

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use arcly_core::{CodecId, FourCc, TrackKind};
use bytes::Bytes;
use smallvec::SmallVec;

use super::Error;
use super::codec::{codec_of, codec_of_sound, codec_of_video, sound};

/// ModEx packets that may stand in front of one tag's packets.
const MAX_MOD_EX: usize = 8;
/// Packets in one tag, one per track.
const MAX_PACKETS: usize = 64;

/// Packet types of Enhanced RTMP; those of audio and video with one name mean the same, `MULTITRACK` apart.
pub(super) mod packet_type {
    pub(crate) const SEQUENCE_START: u8 = 0;
    pub(crate) const CODED_FRAMES: u8 = 1;
    pub(crate) const SEQUENCE_END: u8 = 2;
    /// Video only.
    pub(crate) const CODED_FRAMES_X: u8 = 3;
    /// Video: metadata. Audio: the channel layout.
    pub(crate) const METADATA: u8 = 4;
    pub(crate) const AUDIO_MULTITRACK: u8 = 5;
    /// Video only.
    pub(crate) const MPEG2_TS_SEQUENCE_START: u8 = 5;
    pub(crate) const VIDEO_MULTITRACK: u8 = 6;
    pub(crate) const MOD_EX: u8 = 7;
}

/// `AvMultitrackType`.
pub(super) mod multitrack {
    pub(crate) const ONE_TRACK: u8 = 0;
    /// 1, `ManyTracks`, lies between the two: one codec, and sizes.
    pub(crate) const MANY_TRACKS_MANY_CODECS: u8 = 2;
}

/// `VideoFrameType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// Decoding may start here, the sender says.
    Key,
    /// It may not.
    Inter,
    /// Nothing refers to it.
    Disposable,
    /// Not media: a seek notice or the like.
    Command,
}

/// The fields of a legacy audio tag that say something about formats without headers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyAudio {
    /// Samples per second.
    pub sample_rate: u32,
    /// 8 or 16.
    pub bits_per_sample: u8,
    /// 1 or 2.
    pub channels: u8,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// The codec's record; empty for codecs that have none.
    SequenceStart(Bytes),
    /// A frame, with `pts - dts` in milliseconds.
    Frame {
        /// Composition time offset.
        cts_ms: i32,
        /// The coded bytes.
        data: Bytes,
    },
    /// No more frames until the next start.
    SequenceEnd,
    /// AMF0 name and value pairs about the pictures that follow.
    Metadata(Bytes),
    /// An AV1 video descriptor as in MPEG-TS.
    Mpeg2TsSequenceStart(Bytes),
    /// `audioChannelOrder` and what belongs to it.
    ChannelConfig(Bytes),
}

/// One track's part of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The track's number among those of its kind; 0 is the first, and what tags without numbers mean.
    pub track: u8,
    /// Its codec.
    pub codec: CodecId,
    /// What it is.
    pub body: Body,
}

/// A video tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTag {
    /// What the sender says of its frames.
    pub frame_type: FrameType,
    /// To be added to the tag's timestamp.
    pub nanos: u32,
    /// Its packets; none in a command.
    pub packets: SmallVec<[Packet; 1]>,
}

/// An audio tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioTag {
    /// The fields of a legacy header.
    pub legacy: Option<LegacyAudio>,
    /// To be added to the tag's timestamp.
    pub nanos: u32,
    /// Its packets.
    pub packets: SmallVec<[Packet; 1]>,
}

impl VideoTag {
    /// Takes a tag body apart. The body is a closed unit: what runs over its end is malformed.
    pub fn decode(body: &Bytes) -> Result<Self, Error> {
        let mut r = BodyReader { r: Reader::new(body), body };
        let first = r.u8("video tag header")?;
        if first & 0x80 != 0 {
            return r.enhanced_video(first);
        }
        let frame_type = frame_type(first >> 4);
        let mut packets = SmallVec::new();
        if frame_type != FrameType::Command {
            let codec = codec_of_video(first & 0x0F)?;
            let kind = r.u8("AVC packet type")?;
            let cts_ms = r.cts()?;
            let body = match kind {
                0 => Body::SequenceStart(r.rest()),
                1 => Body::Frame { cts_ms, data: r.rest() },
                2 => Body::SequenceEnd,
                _ => return Err(r.malformed("AVC packet type")),
            };
            packets.push(Packet { track: 0, codec, body });
        }
        Ok(Self { frame_type, nanos: 0, packets })
    }
}

impl AudioTag {
    /// Takes a tag body apart. The body is a closed unit: what runs over its end is malformed.
    pub fn decode(body: &Bytes) -> Result<Self, Error> {
        let mut r = BodyReader { r: Reader::new(body), body };
        let first = r.u8("audio tag header")?;
        let format = first >> 4;
        if format == sound::EX_HEADER {
            return r.enhanced_audio(first & 0x0F);
        }
        let codec = codec_of_sound(format)?;
        let sequence_start = format == sound::AAC && r.u8("AAC packet type")? == 0;
        let data = r.rest();
        let body = if sequence_start { Body::SequenceStart(data) } else { Body::Frame { cts_ms: 0, data } };
        let legacy = Some(legacy_audio(format, first));
        Ok(Self { legacy, nanos: 0, packets: [Packet { track: 0, codec, body }].into_iter().collect() })
    }
}

/// Rate, size and channels; those that the format fixes whatever the header says (E.4.2.1).
const fn legacy_audio(format: u8, first: u8) -> LegacyAudio {
    let channels = if first & 1 == 0 { 1 } else { 2 };
    match format {
        // The field cannot say 8 kHz, and G.711 is nothing else.
        sound::ALAW | sound::ULAW => LegacyAudio { sample_rate: 8_000, bits_per_sample: 16, channels },
        sound::SPEEX => LegacyAudio { sample_rate: 16_000, bits_per_sample: 16, channels: 1 },
        _ => LegacyAudio {
            sample_rate: match (first >> 2) & 3 {
                0 => 5_512,
                1 => 11_025,
                2 => 22_050,
                _ => 44_100,
            },
            bits_per_sample: if first & 2 == 0 { 8 } else { 16 },
            channels,
        },
    }
}

const fn frame_type(bits: u8) -> FrameType {
    match bits & 7 {
        1 | 4 => FrameType::Key,
        3 => FrameType::Disposable,
        5 => FrameType::Command,
        _ => FrameType::Inter,
    }
}

/// A cursor over a body that can give slices of it away.
struct BodyReader<'a> {
    r: Reader<'a>,
    body: &'a Bytes,
}

/// What a ModEx chain ends with.
struct Head {
    packet_type: u8,
    nanos: u32,
}

impl BodyReader<'_> {
    /// Inside a closed unit: a short read is a lie about the length.
    fn closed<T>(&self, result: DecodeResult<T>) -> DecodeResult<T> {
        result.map_err(|error| error.in_closed_unit(self.r.position()))
    }

    fn malformed(&self, what: &'static str) -> Error {
        self.r.malformed(what).into()
    }

    fn u8(&mut self, what: &'static str) -> DecodeResult<u8> {
        let value = self.r.u8(what);
        self.closed(value)
    }

    fn cts(&mut self) -> DecodeResult<i32> {
        let value = self.r.i24("composition time");
        self.closed(value)
    }

    fn take(&mut self, len: usize, what: &'static str) -> DecodeResult<Bytes> {
        let taken = self.r.bytes(len, what);
        self.closed(taken).map(|bytes| self.body.slice_ref(bytes))
    }

    fn rest(&mut self) -> Bytes {
        self.take(self.r.remaining(), "payload").unwrap_or_default()
    }

    fn fourcc(&mut self) -> DecodeResult<FourCc> {
        let tag = self.r.array("FourCC");
        self.closed(tag).map(FourCc)
    }

    /// ModEx packets: data of a stated size, then the type of what it was and of what follows.
    fn mod_ex(&mut self, first: u8) -> Result<Head, Error> {
        let mut head = Head { packet_type: first, nanos: 0 };
        for _ in 0..MAX_MOD_EX {
            if head.packet_type != packet_type::MOD_EX {
                return Ok(head);
            }
            let mut size = usize::from(self.u8("ModEx size")?).saturating_add(1);
            if size == 256 {
                let long = self.r.u16("ModEx size");
                size = usize::from(self.closed(long)?).saturating_add(1);
            }
            let data = self.take(size, "ModEx data")?;
            let types = self.u8("ModEx type")?;
            // Type 0 is the nanosecond offset; others are of the future and say nothing to us.
            if let (0, Some(&[a, b, c])) = (types >> 4, data.first_chunk::<3>()) {
                head.nanos = u32::from_be_bytes([0, a, b, c]).min(999_999);
            }
            head.packet_type = types & 0x0F;
        }
        Err(DecodeError::LimitExceeded { what: "mod_ex", limit: MAX_MOD_EX as u64 }.into())
    }

    fn enhanced_video(mut self, first: u8) -> Result<VideoTag, Error> {
        let frame_type = frame_type(first >> 4);
        let Head { packet_type, nanos } = self.mod_ex(first & 0x0F)?;
        if frame_type == FrameType::Command && packet_type != packet_type::METADATA {
            self.u8("video command")?;
            return Ok(VideoTag { frame_type, nanos, packets: SmallVec::new() });
        }
        let packets = match packet_type {
            packet_type::VIDEO_MULTITRACK => self.tracks(TrackKind::Video, packet_type)?,
            _ => self.packet(TrackKind::Video, packet_type)?,
        };
        Ok(VideoTag { frame_type, nanos, packets })
    }

    fn enhanced_audio(mut self, first: u8) -> Result<AudioTag, Error> {
        let Head { packet_type, nanos } = self.mod_ex(first)?;
        let packets = match packet_type {
            packet_type::AUDIO_MULTITRACK => self.tracks(TrackKind::Audio, packet_type)?,
            _ => self.packet(TrackKind::Audio, packet_type)?,
        };
        Ok(AudioTag { legacy: None, nanos, packets })
    }

    fn packet(&mut self, kind: TrackKind, packet_type: u8) -> Result<SmallVec<[Packet; 1]>, Error> {
        let codec = codec_of(self.fourcc()?, kind)?;
        let body = body(kind, packet_type, codec, self.rest())?;
        Ok([Packet { track: 0, codec, body }].into_iter().collect())
    }

    /// A multitrack body: one type for all packets, one codec or one each, and sizes unless there is only one.
    fn tracks(&mut self, kind: TrackKind, outer: u8) -> Result<SmallVec<[Packet; 1]>, Error> {
        let mut packets = SmallVec::new();
        let types = self.u8("multitrack type")?;
        let (layout, packet_type) = (types >> 4, types & 0x0F);
        if packet_type == outer || packet_type == packet_type::MOD_EX {
            return Err(self.malformed("multitrack packet type"));
        }
        if layout > multitrack::MANY_TRACKS_MANY_CODECS {
            return Err(self.malformed("multitrack type"));
        }
        let shared = match layout {
            multitrack::MANY_TRACKS_MANY_CODECS => None,
            _ => Some(codec_of(self.fourcc()?, kind)?),
        };
        loop {
            let codec = match shared {
                Some(codec) => codec,
                None => codec_of(self.fourcc()?, kind)?,
            };
            let track = self.u8("track id")?;
            let data = match layout {
                multitrack::ONE_TRACK => self.rest(),
                _ => {
                    let size = self.r.u24("track size");
                    let size = self.closed(size)?;
                    self.take(usize::try_from(size).unwrap_or(usize::MAX), "track")?
                }
            };
            packets.push(Packet { track, codec, body: body(kind, packet_type, codec, data)? });
            if layout == multitrack::ONE_TRACK || self.r.is_empty() {
                return Ok(packets);
            }
            if packets.len() >= MAX_PACKETS {
                return Err(DecodeError::LimitExceeded { what: "tracks", limit: MAX_PACKETS as u64 }.into());
            }
        }
    }
}

/// What a packet of that type holds.
fn body(kind: TrackKind, packet_type: u8, codec: CodecId, mut data: Bytes) -> Result<Body, Error> {
    let video = kind == TrackKind::Video;
    Ok(match packet_type {
        packet_type::SEQUENCE_START => Body::SequenceStart(data),
        packet_type::CODED_FRAMES => {
            let mut cts_ms = 0;
            if matches!(codec, CodecId::H264 | CodecId::H265 | CodecId::H266) {
                let mut r = Reader::new(&data);
                cts_ms = r.i24("composition time").map_err(|error| error.in_closed_unit(0))?;
                data = data.slice(r.position()..);
            }
            Body::Frame { cts_ms, data }
        }
        packet_type::SEQUENCE_END => Body::SequenceEnd,
        packet_type::CODED_FRAMES_X if video => Body::Frame { cts_ms: 0, data },
        packet_type::METADATA if video => Body::Metadata(data),
        packet_type::METADATA => Body::ChannelConfig(data),
        packet_type::MPEG2_TS_SEQUENCE_START if video => Body::Mpeg2TsSequenceStart(data),
        _ => return Err(DecodeError::Malformed { what: "packet type", offset: 0 }.into()),
    })
}
