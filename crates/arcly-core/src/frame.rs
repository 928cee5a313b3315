//! One coded unit of media.

use bitflags::bitflags;
use bytes::Bytes;

use crate::time::{TimeDelta, Timestamp, WallTime};
use crate::track::TrackId;

bitflags! {
    /// What is known about a frame without decoding it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FrameFlags: u16 {
        /// Decoding may start here: IDR, CRA, BLA, an AV1 or VP9 key frame; in H.264 also an open GOP's recovery point,
        /// and the recovery points of a stream that refreshes gradually instead of sending IDR pictures. Every audio
        /// frame of a codec without inter-frame state carries it too.
        const KEYFRAME = 1;
        /// The timeline was re-based before this frame: the publisher returned, was replaced, or jumped.
        const DISCONTINUITY = 1 << 1;
        /// No other frame refers to this one; dropping it harms nothing.
        const DISPOSABLE = 1 << 2;
        /// The publisher's timestamp ran backwards and was clamped.
        const CLAMPED = 1 << 3;
        /// Part of the frame was lost on the way in; what is here may decode with artefacts.
        const CORRUPT = 1 << 4;
        /// A leading picture of an open GOP (HEVC RASL): not decodable when decoding starts at its keyframe.
        const LEADING = 1 << 5;
        /// The temporal unit came with a temporal delimiter. The payload has none; muxers of formats that keep
        /// them (FLV) put it back, so that what went in comes out.
        const DELIMITED = 1 << 6;
        /// Neither this picture nor any behind it refers to an earlier one of the same [temporal layer](Self::temporal_id):
        /// who has been sent the layers below may be sent this one as well from here on.
        const LAYER_SYNC = 1 << 7;
        /// The payload is the spatial layers of a picture, in a superframe (VP9): what is behind any of them can be left out.
        const SPATIAL_LAYERS = 1 << 11;
        /// The number of the temporal layer: three bits, for [`temporal_id`](Self::temporal_id).
        const TEMPORAL_ID = 7 << 8;
    }
}

impl FrameFlags {
    /// How far the number of the temporal layer is from the lowest bit.
    const TEMPORAL_SHIFT: u32 = Self::TEMPORAL_ID.bits().trailing_zeros();

    /// The temporal layer that the picture is of: no picture refers to one of a higher layer, so that the highest can be left out.
    /// 0 is the layer that is always needed, and what pictures are of that do not say.
    #[must_use]
    pub const fn temporal_id(self) -> u8 {
        ((self.bits() & Self::TEMPORAL_ID.bits()) >> Self::TEMPORAL_SHIFT) as u8
    }

    /// The same flags with that temporal layer, of which there are eight.
    #[must_use]
    pub const fn with_temporal_id(self, id: u8) -> Self {
        let id = ((id & 7) as u16) << Self::TEMPORAL_SHIFT;
        self.difference(Self::TEMPORAL_ID).union(Self::from_bits_truncate(id))
    }
}

/// One access unit, audio frame or data message; immutable, and shared behind `Arc` by everybody who reads it.
///
/// The payload has one canonical form per codec, so that nobody downstream scans for start codes:
///
/// | codec | payload |
/// |---|---|
/// | H.264, H.265, H.266 | NAL units with 4-byte big-endian lengths (ISO/IEC 14496-15), without parameter sets and access unit delimiters |
/// | AV1 | OBUs with size fields, without temporal delimiters |
/// | VP8, VP9, Motion JPEG | one frame |
/// | AAC | one raw access unit, no ADTS |
/// | Opus, MP3, AC-3, E-AC-3, FLAC, G.711, … | one frame |
/// | data (KLV, SCTE-35, ID3, AMF) | one message |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFrame {
    /// The track it belongs to.
    pub track: TrackId,
    /// Decode time. Always there; never decreases on a track.
    pub dts: Timestamp,
    /// Presentation time.
    pub pts: Timestamp,
    /// How long it is presented; zero when unknown.
    pub duration: TimeDelta,
    /// What is known about it.
    pub flags: FrameFlags,
    /// The coded bytes in canonical form.
    pub payload: Bytes,
    /// Wall-clock time of capture or arrival, where known.
    pub wall: Option<WallTime>,
}

impl MediaFrame {
    /// A frame with `pts == dts`, no duration and no flags.
    #[must_use]
    pub const fn new(track: TrackId, dts: Timestamp, payload: Bytes) -> Self {
        Self {
            track,
            dts,
            pts: dts,
            duration: TimeDelta::ZERO,
            flags: FrameFlags::empty(),
            payload,
            wall: None,
        }
    }

    /// The same frame with another presentation time.
    #[must_use]
    pub const fn with_pts(mut self, pts: Timestamp) -> Self {
        self.pts = pts;
        self
    }

    /// The same frame with a duration.
    #[must_use]
    pub const fn with_duration(mut self, duration: TimeDelta) -> Self {
        self.duration = duration;
        self
    }

    /// The same frame with `flags` added.
    #[must_use]
    pub const fn with_flags(mut self, flags: FrameFlags) -> Self {
        self.flags = self.flags.union(flags);
        self
    }

    /// True when decoding may start here.
    #[must_use]
    pub const fn is_keyframe(&self) -> bool {
        self.flags.contains(FrameFlags::KEYFRAME)
    }

    /// `pts - dts`, which FLV, RTMP and MP4 call the composition time offset.
    #[must_use]
    pub fn composition_offset(&self) -> TimeDelta {
        self.pts - self.dts
    }
}
